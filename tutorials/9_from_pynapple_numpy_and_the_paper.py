# %% [markdown]
# # Coming from numpy, pynapple or the paper's code
#
# nwb_lint reads NWB, but nothing after reading needs a file: every step takes an
# `xarray.Dataset`. If your data are arrays already, make the Dataset yourself. This
# tutorial shows how, for rates, spike counts, spike times, and networks.

# %%
import numpy as np
import nwb_lint as nl
import pandas as pd
import xarray as xr
from nwb_lint.testing import mock_recording, mock_trials

# %% [markdown]
# ## Rates as an array (condition × time × neuron)
#
# Rates are in Hz, means over trials. What was not observed is NaN and not 0. The
# columns that describe the conditions go onto the dim `condition`; inputs are made from
# them.

# %%
rates = mock_recording()["rate"].values  # stands for your array
strength = np.linspace(-1, 1, rates.shape[0])  # one value for each condition
time_s = (
    0.02 * np.arange(rates.shape[1]) - 0.19
)  # centers of the bins; 0 is the stimulus

recording = xr.Dataset(
    {
        "rate": (("condition", "time", "neuron"), rates.astype("float32")),
        "n_trials": (
            ("condition", "neuron"),
            np.full((rates.shape[0], rates.shape[2]), 20),
        ),
    },
    coords={
        "condition": [f"strength={one:.2f}" for one in strength],
        "strength": ("condition", strength),
        "time": time_s,
        "neuron": [f"unit {k}" for k in range(rates.shape[2])],
    },
    attrs={"bin_s": 0.02},
)
inputs = [nl.Input("stimulus", column="strength", window_s=(0.0, 0.6))]
activity = nl.prepare(recording, inputs=inputs, center=(-0.19, 0.0), time_course=False)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=2)
print(fit["r2"].to_series().round(3))

# %% [markdown]
# For the ceiling of R², also give the means over two random halves of the trials:
# `rate_half (half, condition, time, neuron)` and `n_trials_half (half, condition,
# neuron)`.
#
# ## Spike counts of single trials (trial × time × neuron)

# %%
counts = mock_trials()["count"].values  # stands for your array of whole numbers
choice = mock_trials()["choice"].values

trials = xr.Dataset(
    {"count": (("trial", "time", "neuron"), counts.astype("uint16"))},
    coords={
        "trial": np.arange(counts.shape[0]),
        "time": 0.01 + 0.02 * np.arange(counts.shape[1]),
        "neuron": [f"unit {k}" for k in range(counts.shape[2])],
        "choice": ("trial", choice),
    },
    attrs={"bin_s": 0.02},
)
single = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=5)
print(single["bits_per_spike"].to_series().round(3))

# %% [markdown]
# Trials of different length: fill up to the longest, and give `observed (trial, time,
# neuron)`, which is False where nothing was observed.
#
# ## Spike times, and pynapple
#
# Spike times and a table of trials become an NWB file, which everything here, pynwb and
# pynapple can read:

# %%
rng = np.random.default_rng(0)
spike_times = [
    np.sort(rng.uniform(0, 100, 800)) for _ in range(3)
]  # seconds, one array for each unit
table = pd.DataFrame(
    {"start_time": np.arange(0.0, 98, 2), "stop_time": np.arange(1.5, 99, 2)}
)
table["cue_time"], table["side"] = (
    table["start_time"] + 0.5,
    np.resize(["left", "right"], len(table)),
)
nl.write_session("converted.nwb", spike_times, table, overwrite=True)
print(
    nl.read_conditions(
        "converted.nwb", by="side", align="cue_time", window_s=(-0.2, 0.6), bin_s=0.02
    )["rate"].sizes
)

# %% [markdown]
# From pynapple, the same two things are (not run here, since pynapple is not installed
# with nwb_lint):
#
# ```text
# spikes, trials = data["units"], data["trials"]                  # TsGroup, IntervalSet
# spike_times = [spikes[unit].t for unit in spikes.keys()]        # s
# table = pd.DataFrame({"start_time": trials.start, "stop_time": trials.end})
# ```
#
# If pynapple read your data from an NWB file, give nwb_lint the same file. The way
# back: in a file of `nl.write_fit`, latents, inputs and predicted rates are TimeSeries
# and conditions are TimeIntervals, which `pynapple.load_file` lists.
#
# ## From the paper's code
#
# What has which name (the code is `lowrank_inference` of Valente et al.):
#
# | paper's code | here | note |
# |---|---|---|
# | `rnn.m`, `rnn.n` | `fit["m"]`, `fit["n"]` | J = m nᵀ / N in both; the 1 / N is not part of m or n |
# | `rnn.wi_full` (input × neuron) | `fit["input_weights"]` (neuron × input) | transposed |
# | `alpha` | `dt_s / tau_s` | given as times, in seconds |
# | `rnn(u)` answers `u[t]` with x[t + 1] | `u[t]` moves x from t to t + 1 | the same; their output has no x[0] |
# | training by Adam | `nl.fit_lint(…, method="published")` | the same steps, faster |
# | `hidden_size` minus the neurons recorded | `hidden=` | unobserved units |
#
# A network with known weights, such as one of theirs, runs in a fit whose weights are
# replaced:

# %%
m, n = rng.standard_normal((2, 12, 1))
wi_full = rng.standard_normal((1, 12))
network = fit.copy()
network["m"], network["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
network["input_weights"] = (("neuron", "input"), wi_full.T)
own = nl.simulate(network)["activity"].values

x, alpha, u = np.zeros((8, 12)), 0.02 / 0.1, network["u"].values
for step in range(u.shape[1] - 1):
    x = (1 - alpha) * x + alpha * (np.tanh(x) @ n @ m.T / 12 + u[:, step] @ wi_full)
print(
    "largest difference after the last step:",
    float(np.abs(own[:, -1] - x).max().round(6)),
)

# %% [markdown]
# What differs in the numbers: the scores of the paper's code have no ceiling, its test
# conditions take part in centering and principal components, and its correlations of
# connectivity are cosines. The page on the paper's results shows both side by side.
