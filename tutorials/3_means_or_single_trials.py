# %% [markdown]
# # Single trials, or means over trials?
#
# Means over trials (`read_conditions` → `prepare` → `fit_lint`) need few assumptions,
# are quick, and join units of several sessions. They cannot show what differs between
# trials of a condition: choices that noise makes, the time of a decision, the phase of
# an oscillation. Means can even mislead: a network with two stable states, which noise
# chooses between, looks as if it had one.
#
# Single trials (`read_trials` → `prepare` → `fit_trials`) need units that were recorded
# together. The network then has noise of its own, and spikes are Poisson with the rate
# exp(c + x). Each trial has its own latents, with their uncertainty.
#
# The session here is simulated: a network of rank 1 with two stable states, and no
# input that tells trials apart.

# %%
import numpy as np
import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.testing import mock_trials

trials = mock_trials(n_neurons=24, n_trials=60)
print(trials)

# %% [markdown]
# For a recording of your own:
#
# ```python
# trials = nl.read_trials("session.nwb", align="cue_time", window_s=(-0.2, 1.0), bin_s=0.02)
# trials = nl.prepare(trials, inputs=[nl.Input("stimulus", column="stimulus", window_s=(0.0, 0.8))])
# ```
#
# Inputs are what you know of each trial, and there may be none. Counts stay as they
# are: nothing is smoothed, centered or averaged. Samples where `observed` is False do
# not count: trials may end early, and units may be missing in some.
#
# ## How many latents?
#
# Some trials are held out of a fit, and each group of their neurons is predicted from
# the other neurons (co-smoothing). The score is in bits per spike: how much better the
# rates predict than the mean rate of each neuron.

# %%
options = {"tau_s": 0.1, "hidden": 0, "max_iter": 5}
ranks = nl.select_rank(trials, ranks=[1, 2], folds=2, **options)
print(ranks["rank_bits"].to_pandas(), "chosen:", ranks.attrs["rank"])

# %% [markdown]
# ## The fit, and its checks
#
# The evidence rises until the fit ends. Bits per spike of held-out trials should be
# about those of training trials. `r2` says how much of the latents the network explains
# without its noise: here little, since noise decides.

# %%
fit = nl.fit_trials(trials, rank=ranks.attrs["rank"], test_size=12, **options)
print(fit[["bits_per_spike", "r2"]].to_dataframe().round(3))
plot.summary(fit, trials, "single_trials.png", color_by="choice")

# %% [markdown]
# ## The states of the network
#
# Every function that takes a fit takes this one too. The two stable states come back:

# %%
points = nl.fixed_points(fit, n_starts=30)
print(points["kappa"].values.ravel().round(2), points["stability"].values)

# %% [markdown]
# ## New trials
#
# `infer_latents(causal=True)` sees no sample after each time, as it can run during an
# experiment. `forecast` goes beyond the end of a trial, with intervals.

# %%
latents = nl.infer_latents(fit, trials, causal=True)
right = trials["choice"].values == "right"
sides = [latents["latent"].values[side, -1, 0].mean() for side in (right, ~right)]
ahead = nl.forecast(fit, trials, horizon_s=0.1)
print("latent at the end, right and left:", np.round(sides, 2))
width = np.sqrt(ahead["latent_cov"].values[0, -1, 0, 0])
print(f"standard deviation of the latent 100 ms after the end of trial 0: {width:.2f}")

# %% [markdown]
# ## Behavior
#
# A `Readout` is a behavior that the latents are to predict: here the choice, at the end
# of each trial. Its log likelihood times a weight is a part of the loss. Held-out trials
# choose the weight: 0 is a fit of the neurons alone.

# %%
choice = nl.Readout("choice", column="choice", window_s=(0.6, 0.8))
behaving = nl.prepare(trials, inputs=[], readouts=[choice])
options["rank"] = ranks.attrs["rank"]
weighed = nl.compare_readouts(behaving, readout_weights=[0, 1, 30], folds=2, **options)
print(weighed[["activity_deficit", "behavior_score"]].to_dataframe().round(3))
print("chosen:", weighed.attrs["readout_weight"])

# %% [markdown]
# The choice is decoded from the spikes until each time, in trials that the fit has not
# seen, beside logistic regression on smoothed counts. The score is the share of the log
# loss of the mean that is explained; the error is over trials.

# %%
joint = nl.fit_trials(
    behaving, readout_weight=weighed.attrs["readout_weight"], test_size=20, **options
)
decoded = nl.decode_behavior(joint, behaving)
print(decoded[["score", "score_sem", "auc"]].to_dataframe().round(2))
plot.decoded_behavior(decoded)

# %% [markdown]
# ## From the command line
#
# ```text
# nwb-lint fit session.nwb --trials --by choice --align cue_time --window -0.2 1.0 --ranks 1:4 --out fit.nwb
# ```
#
# With `--readout name=choice,column=choice,window=0.6:0.8 --compare-readouts --decode`,
# behavior is fitted and decoded too. Or with `mode = "trials"` at the top of a recipe.
# `write_fit` keeps such a fit like any other; if trials are aligned to a column of times,
# its latents are on the clock of the session in the file, and pynapple and neurosift show
# them beside the spikes.
