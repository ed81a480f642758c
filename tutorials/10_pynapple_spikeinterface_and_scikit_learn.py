# %% [markdown]
# # pynapple, SpikeInterface and scikit-learn
#
# What these three packages work with goes in and out directly. This tutorial needs the
# extras: `pip install "nwb_lint[pynapple,spikeinterface]"`.
#
# The data are those of a network of rank 1 that a stimulus of graded strength drives.

# %%
import numpy as np
import nwb_lint as nl
import pandas as pd
import pynapple as nap
from nwb_lint.testing import mock_recording
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from spikeinterface.core import NumpySorting

rng = np.random.default_rng(0)
rates = mock_recording(n_conditions=8)["rate"].values.astype(float)  # Hz, bins of 20 ms
shown = np.tile(np.arange(8), 20)  # which condition each of 160 trials shows
start = 2.0 * np.arange(len(shown)) + 0.5
strength = np.linspace(-1, 1, 8)[shown]

spike_times = []
for unit in range(rates.shape[2]):
    drawn = rng.poisson(np.clip(rates[shown, :, unit], 0, None) * 0.02)  # (trial, bin)
    trial, at = (np.repeat(one, drawn[drawn > 0]) for one in np.nonzero(drawn))
    spike_times.append(np.sort(start[trial] + 0.02 * (at + rng.uniform(size=len(at)))))

# %% [markdown]
# ## From pynapple
#
# A `TsGroup` holds spikes, an `IntervalSet` trials. Metadata become columns. What lies
# outside of a time support that you set yourself counts as not observed.

# %%
units = nap.TsGroup(
    {k: nap.Ts(times) for k, times in enumerate(spike_times)},
    metadata={"area": np.resize(["ALM", "V1"], len(spike_times))},
)
trials = nap.IntervalSet(start, start + 0.8, metadata={"strength": strength})
how = {"align": "start_time", "window_s": (0.0, 0.8), "bin_s": 0.02}

recording = nl.from_pynapple(
    units, trials, by="strength", smooth_s=0.04, halves=True, **how
)
print(recording["rate"].sizes, np.unique(recording["area"].values))

inputs = [nl.Input("stimulus", column="strength", window_s=(0.2, 0.8))]
activity = nl.prepare(recording, inputs=inputs, time_course=False)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=2)
print(fit["r2"].to_series().round(2))

# %% [markdown]
# ## Back to pynapple
#
# Latents of conditions are a `TsdFrame` with a column for each condition and latent;
# labels and columns are its metadata. With `tensor=True` they are a `TsdTensor`.

# %%
latents = nl.to_pynapple(fit)
print(latents.shape, list(latents.metadata.columns))
print(nl.to_pynapple(fit, tensor=True).shape)

# %% [markdown]
# Single trials go back onto the clock of the session. Their columns are metadata of the
# time support. Here are counts; the latents of `fit_trials` work in the same way.

# %%
single = nl.from_pynapple(units, trials, **how)
counts = nl.to_pynapple(single, clock="session")
print(np.array_equal(counts.d, units.count(0.02, trials).d))
print(counts.time_support.metadata.columns.tolist())

# %% [markdown]
# ## From SpikeInterface
#
# A sorting has frames; its times are those of its recording. Properties of units become
# columns, which `units` can select by.

# %%
frames = {f"u{k}": (times * 30_000).astype(int) for k, times in enumerate(spike_times)}
sorting = NumpySorting.from_unit_dict([frames], 30_000.0)
sorting.set_property("quality", np.resize(["good", "mua"], len(frames)))
table = pd.DataFrame(
    {"start_time": start, "stop_time": start + 0.8, "strength": strength}
)
good = nl.from_spikeinterface(
    sorting, table, by="strength", units="quality == 'good'", **how
)
print(good["neuron"].values)

# %% [markdown]
# ## As an encoder in scikit-learn
#
# `LowRankEncoder` predicts activity from inputs, over conditions: a sample is a
# condition. So the tools of scikit-learn choose its rank.

# %%
levels = np.linspace(-1, 1, 8)
course = (np.arange(40) >= 10)[None, :, None] * levels[:, None, None]
options = {"dt_s": 0.02, "method": "regression", "time_course": False}
encoder = nl.LowRankEncoder(**options)
search = GridSearchCV(encoder, {"rank": [1, 2]}, cv=4).fit(course, rates)
print(search.best_params_, round(search.best_score_, 2))

# %% [markdown]
# ## As a decoder
#
# `LowRankDecoder` gives latents of activity. A classifier after it decodes: was the
# stimulus above 0? A sample is the mean over ten trials. Such means are noisy, so they
# are smoothed, and denoised by their first four principal components.

# %%
table["half"] = np.arange(len(table)) // 80
tens = nl.from_spikes(spike_times, table, by=["strength", "half"], smooth_s=0.06, **how)
side = np.where(tens["strength"].values > 0, "above", "below")
decoder = nl.LowRankDecoder(n_components=4, **options)
pipeline = make_pipeline(decoder, LogisticRegression(max_iter=1000))
print(cross_val_score(pipeline, tens["rate"].values, side, cv=4))
