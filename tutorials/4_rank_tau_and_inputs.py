# %% [markdown]
# # Choosing rank, time constant and inputs
#
# A fit needs three decisions that the data may or may not determine: the rank, the time
# constant of the units, and the inputs. For each there is a comparison on held-out
# conditions. The session here is simulated from a network of rank 1 with a time
# constant of 100 ms, so that the right answers are known.

# %%
from pathlib import Path

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.tasks.demo import demo_session
from nwb_lint.workflow.demo import write_demo_session

session = Path("sixty_units.nwb")
if not session.exists():
    write_demo_session(demo_session(n_units=60, seed=1), session)

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
inputs = [
    nl.Input("motion", column="motion", window_s=(0, 0.8)),
    nl.Input("color", column="color", window_s=(0, 0.8)),
    nl.Input("context", column="context", window_s=(-0.4, 0.8)),
]


def prepare(train):
    """The activity, with every estimate from the training conditions alone."""
    return nl.prepare(
        recording, inputs=inputs, center=(-0.5, -0.42), time_course=False, fit_on=train
    )


# %% [markdown]
# `prepare` is a function of the training conditions. The comparisons below call it for
# every fold, so that held-out conditions have no influence on centers, scales and
# components. `method="regression"` leaves out the gradient: it is enough to compare,
# and takes a fraction of the time.

# %%
options = {"folds": 4, "method": "regression"}

# %% [markdown]
# ## Rank
#
# The smallest rank within one standard error of the best is chosen. The standard error
# is that of the differences between the two ranks over folds, since all ranks share the
# difficulty of a fold.

# %%
ranks = nl.select_rank(prepare, ranks=[1, 2, 3], tau_s=0.1, **options)
print(ranks[["rank_deficit", "rank_deficit_sem"]].to_dataframe().round(4))
print("chosen:", ranks.attrs["rank"])

# %% [markdown]
# `rank_deficit` is how far a rank is behind the best one. Here rank 1 is the best, and
# larger ranks only add noise.
#
# *If the score rises with every rank*, the network may be missing something else: an
# input, a start (`initial=`), or the neurons are too few (`hidden=`). A rank-1 network
# can select inputs only by changing their gain. So look at rank 2 before you state a
# mechanism, even if rank 1 is chosen.
#
# ## Time constant
#
# Recordings seldom determine the time constant of single neurons well. `compare_tau`
# says which values predict as well, and whether the conclusion, the number of stable
# fixed points, is the same for all of these.

# %%
taus = nl.compare_tau(prepare, rank=1, taus_s=[0.05, 0.1, 0.15, 0.2], **options)
print(taus[["tau_deficit", "tau_deficit_sem", "as_good"]].to_dataframe().round(4))
plot.tau_comparison(taus)

# %% [markdown]
# If several are as good, report the conclusions that hold for all of them.
#
# ## Inputs
#
# A fit says for each input how much R² falls without it (`input_r2_gain`), and whether
# it would rather act earlier or later (`input_lag_s`, with the part of the unexplained
# variance that this would explain, `input_lag_gain`).

# %%
fit = nl.fit_lint(prepare(None), rank=1, tau_s=0.1, test_size=0)
columns = ["input_r2_gain", "input_r2_gain_sem", "input_lag_s", "input_lag_gain"]
print(fit[columns].to_dataframe()[columns].round(3).to_string())

# %% [markdown]
# All four inputs matter here, and none wants to move much. What to do otherwise:
#
# - *An input with a gain near 0*: leave it out. It can only fit noise.
# - *A lag with a large gain*: check the window, and the column of times in `align`.
#   Visual signals reach the cortex 50 to 100 ms after the screen changes.
# - *An effect that changes during the trial*: give the input several windows,
#   `window_s=[(0, 0.3), (0.3, 0.8)]`. Each window is an input with weights of its own.
#   With `weights=[1, 0.3]` both are one input.
# - *An effect that depends on another input*: their product, such as
#   `nl.Input("both", product="motion * color")`.
# - *Something that the animal does*, such as running: a series of the file,
#   `nl.Input("run", series="running_speed")`. The reader then needs the inputs too.
# - *The choice as an input?* Only to ask a different question. The network should
#   generate the choice itself; given as an input, it explains activity without any
#   dynamics.
#
# What a fit was driven by is in its file, and can be drawn:

# %%
plot.inputs(fit)

# %% [markdown]
# ### Inputs that nobody recorded
#
# Suppose that the column of the color had been lost. `infer_inputs` looks for inputs
# that the known ones and recurrence leave unexplained, one course for each condition
# and latent, and compares three hypotheses on held-out conditions: recurrence and
# known inputs alone, unknown inputs in place of recurrence, and both.

# %%
activity = prepare(None)
without_color = activity.drop_sel(input="color")
for name, data in {"all inputs": activity, "without color": without_color}.items():
    inferred = nl.infer_inputs(data, rank=2, tau_s=0.1)
    print(name, "-", inferred.attrs["verdict"])
    print(inferred["hypothesis_deficit"].to_series().round(4).to_dict())

# %%
plot.inferred_inputs(inferred)

# %% [markdown]
# The band of each line is its interval. `nl.with_inferred_inputs(data, inferred)` adds
# the inputs to the data for a fit. Where recurrence and inputs explain the data equally
# well, the verdict says that they cannot be separated: do not interpret either then.
#
# A stimulus that ends at another time in each trial is on from one column of times to
# another. Its mean over the trials of a condition then is a ramp, not a step:
# `nl.Input("motion", column="motion", start="stimulus_time", stop="stop_time")`.
#
# ## Beside simpler models
#
# An R² means little alone. `baselines` puts it beside other models on the same folds.

# %%
table = nl.baselines(prepare, rank=1, tau_s=0.1, **options)
print(table["baseline_r2"].sel(split="held_out").to_series().round(3))

# %% [markdown]
# - *linear* as good as *low rank*: the data do not need a nonlinear network.
# - *regression* much better: activity is explained by the inputs at each time, and the
#   dynamics miss something.
# - *components and inputs* is no prediction, but about the most that this number of
#   dimensions can show.
