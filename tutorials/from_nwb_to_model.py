# %% [markdown]
# # From an NWB recording to a low-rank network, and back
#
# The recording is simulated, so that the answer is known: 200 units whose rates follow a rank-1 network that reports
# motion in one context and color in the other. Put the path, address or list of files of your own recording in place
# of `session`; everything below reads spikes and trials from the NWB file alone.

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
# `nwb-lint inspect tutorial_session.nwb` prints it at the command line; as a picture:

# %%
plot.session_summary(session_map(session), "tutorial_session.png")

# %% [markdown]
# ## Spikes and trials → rates by condition
#
# A condition is a combination of the columns in `by`. `halves=True` keeps the means over random halves of the trials:
# they tell how much of the variance is noise, and so how high any model can score.

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
# Inputs are functions of the trial columns. Four conditions are put aside here, before anything is estimated: they take
# part neither in centering nor in scaling nor in the fit.

# %%
train = np.ones(recording.sizes["condition"], bool)
train[np.random.default_rng(0).permutation(len(train))[:4]] = False
inputs = [
    nl.Input("motion", column="motion", window_s=(0, 0.8)),
    nl.Input("color", column="color", window_s=(0, 0.8)),
    nl.Input("context", column="context", window_s=(-0.4, 0.8)),  # text: one input per level
]
activity = nl.prepare(recording, inputs=inputs, center=(-0.5, -0.42), time_course=False, fit_on=train)

# %% [markdown]
# ## The fit
#
# R² is that of a free run on the inputs; read it beside its ceiling. `nl.select_rank` compares ranks by
# cross-validation and takes the smallest within one standard error of the best.

# %%
fit = nl.fit_lint(activity, rank=1, tau_s=0.1)
for split, r2, ceiling in zip(fit["split"].values, fit["r2"].values, fit["r2_ceiling"].values, strict=True):
    print(f"{split}: R² {r2:.3f} under a ceiling of {ceiling:.3f}")
plot.summary(fit, activity, "tutorial_fit.png")

# %% [markdown]
# ## Was the network found?
#
# Only the part of `n` within the span of `m` and the inputs moves the network, so effective connectivities are
# compared.

# %%
truth = true_connectivity(simulated.truth, fit)
found = nl.connectivity(fit)["connectivity"].values
pearson = np.corrcoef(truth.ravel(), found.ravel())[0, 1]
print(f"effective connectivity, true against found: Pearson {pearson:.3f}")
assert pearson > 0.9

# %% [markdown]
# ## Into NWB and back
#
# The fit goes to a new file that opens with plain pynwb too; the recording is never touched.

# %%
subject = {"subject_id": "demo", "species": "Mus musculus", "sex": "U", "age": "P90D"}
nl.write_fit(fit, "tutorial_fit.nwb", subject=subject, overwrite=True)
assert nl.read_fit("tutorial_fit.nwb").identical(fit)
