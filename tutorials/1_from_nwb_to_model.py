# %% [markdown]
# # From an NWB recording to a low-rank network, and back
#
# The recording is simulated, so that the true network is known: 200 units whose rates
# follow a rank-1 network that reports motion in one context and color in the other. For
# your own recording, set `session` to its path, its address or a list of files.
# Everything below reads spikes and trials from the NWB file.

# %%
from pathlib import Path

import numpy as np
import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.nwb.inspection.session_map import session_map
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import true_connectivity, write_demo_session

simulated = demo_session(seed=0)
session = Path("tutorial_session.nwb")
if not session.exists():
    write_demo_session(simulated, session)

# %% [markdown]
# ## What does the file hold?
#
# On the command line, `nwb-lint inspect tutorial_session.nwb` prints the content. Here
# it is as a picture:

# %%
plot.session_summary(session_map(session), "tutorial_session.png")

# %% [markdown]
# ## Spikes and trials → rates by condition
#
# A condition is a combination of values of the columns in `by`. `halves=True` also
# keeps the means over two random halves of the trials. Their difference shows how much
# of the variance is noise, and so how high a model can score at most. It also shows
# whether trials of a condition differ together, beyond counting noise. Here they do,
# since the inputs of the simulated network are noisy: a warning says so, and names
# `fit_trials` for single trials.

# %%
recording = nl.read_conditions(
    session,
    by=["context", "motion", "color"],
    align="stimulus_time",
    window_s=(-0.5, 0.8),
    bin_s=0.02,
    smooth_s=0.04,
    where="correct",
    halves=True,
)
print(recording.sizes)

# %% [markdown]
# ## Rates → activity with inputs
#
# Inputs are functions of the trial columns. Four conditions are held out here, before
# anything is estimated: they are not used for centering, for scaling or for the fit.

# %%
train = np.ones(recording.sizes["condition"], bool)
train[np.random.default_rng(0).permutation(len(train))[:4]] = False
inputs = [
    nl.Input("motion", column="motion", window_s=(0, 0.8)),
    nl.Input("color", column="color", window_s=(0, 0.8)),
    nl.Input(
        "context", column="context", window_s=(-0.4, 0.8)
    ),  # a text column gives one input per level
]
activity = nl.prepare(
    recording, inputs=inputs, center=(-0.5, -0.42), time_course=False, fit_on=train
)

# %% [markdown]
# ## The fit
#
# The network runs freely on its inputs, and R² compares this run with the activity. The
# ceiling is the R² that the true means would reach. `nl.select_rank` compares ranks by
# cross-validation and takes the smallest one within one standard error of the best.

# %%
fit = nl.fit_lint(activity, rank=1, tau_s=0.1)
for split, r2, ceiling in zip(
    fit["split"].values, fit["r2"].values, fit["r2_ceiling"].values, strict=True
):
    print(f"{split}: R² {r2:.3f} under a ceiling of {ceiling:.3f}")
plot.summary(fit, activity, "tutorial_fit.png")

# %% [markdown]
# ## Was the network found?
#
# Only the part of `n` in the space of `m` and the input weights moves the network. So
# we compare effective connectivities.

# %%
truth = true_connectivity(simulated.truth, fit)
found = nl.connectivity(fit)["connectivity"].values
pearson = np.corrcoef(truth.ravel(), found.ravel())[0, 1]
print(f"effective connectivity, true against found: Pearson {pearson:.3f}")
assert pearson > 0.9

# %% [markdown]
# ## Into NWB and back
#
# The fit goes to a new file, which plain pynwb can also open. The recording is never
# changed. `write_fit` adds the SHA-256 of every recording, which identifies the bytes
# that the fit was made from.

# %%
subject = {"subject_id": "demo", "species": "Mus musculus", "sex": "U", "age": "P90D"}
nl.write_fit(fit, "tutorial_fit.nwb", subject=subject, overwrite=True)
again = nl.read_fit("tutorial_fit.nwb")
assert again.drop_vars("file_digest").identical(fit.drop_vars("file_digest"))
