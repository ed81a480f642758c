# %% [markdown]
# # Coming from numpy, pandas, pynwb or the paper's code
#
# nwb_lint reads NWB files, and takes data in memory just as well. Five functions give
# what the readers give of a file:
#
# | you have | function |
# |---|---|
# | rates or counts in bins, as arrays | `nl.from_arrays` |
# | spike times and a table of trials | `nl.from_spikes` |
# | a pynwb `NWBFile`, new or open | `nl.from_nwbfile` |
# | a `TsGroup` or `TsdFrame` of pynapple | `nl.from_pynapple` |
# | a sorting of SpikeInterface | `nl.from_spikeinterface` |
#
# This tutorial shows the first three, the way back, and networks of the paper's code.
# The last two are in the next one.

# %%
from datetime import UTC, datetime

import numpy as np
import nwb_lint as nl
import pandas as pd
import pynwb
import torch
from nwb_lint.testing import mock_recording, mock_trials

# %% [markdown]
# ## Rates as an array (condition × time × neuron)
#
# Rates are in Hz, means over trials. What was not observed is NaN and not 0. `time` has
# the centers of the bins in seconds; 0 is the stimulus. `conditions` has a row for each
# condition; inputs are made from its columns.

# %%
rates = mock_recording()["rate"].values  # stands for your array
time_s = 0.02 * np.arange(rates.shape[1]) - 0.19
conditions = pd.DataFrame({"strength": np.linspace(-1, 1, rates.shape[0])})

recording = nl.from_arrays(rate=rates, time=time_s, conditions=conditions, n_trials=20)
inputs = [nl.Input("stimulus", column="strength", window_s=(0.0, 0.6))]
activity = nl.prepare(recording, inputs=inputs, center=(-0.19, 0.0), time_course=False)
fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=2)
print(fit["r2"].to_series().round(3))

# %% [markdown]
# For the ceiling of R², also give the means over two random halves of the trials:
# `rate_half (half, condition, time, neuron)`.
#
# An argument that is missing or does not suit the others is named:

# %%
try:
    nl.from_arrays(rate=rates, conditions=conditions)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Spike counts of single trials (trial × time × neuron)
#
# `trials` has a row for each trial, and `neurons` a row for each neuron. Trials of
# different length: fill up to the longest with NaN, or give `observed (trial, time,
# neuron)`.

# %%
counts = mock_trials()["count"].values  # stands for your array of whole numbers
table = pd.DataFrame({"choice": mock_trials()["choice"].values})
neurons = pd.DataFrame({"area": np.resize(["ALM", "V1"], counts.shape[2])})
centers = 0.01 + 0.02 * np.arange(counts.shape[1])

trials = nl.from_arrays(count=counts, time=centers, trials=table, neurons=neurons)
single = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=5)
print(single["bits_per_spike"].to_series().round(3))

# %% [markdown]
# With `by`, the result is the mean over the trials with the same values, as if it had
# been read from a file, with the same options:

# %%
means = nl.from_arrays(
    count=counts, time=centers, trials=table, by="choice", halves=True, smooth_s=0.05
)
print(means["rate"].sizes)

# %% [markdown]
# ## Spike times and a table of trials
#
# Spike times are a dict of unit and times, a table with a row for each spike, or one
# array for each unit. All are in seconds on one clock. `trials` has `start_time` and
# `stop_time`, and any other columns.

# %%
rng = np.random.default_rng(0)
spikes = {f"unit {k}": np.sort(rng.uniform(0, 100, 800)) for k in range(3)}
table = pd.DataFrame(
    {
        "start_time": np.arange(0.0, 98, 2),
        "stop_time": np.arange(1.5, 99, 2),
        "cue_time": np.arange(0.5, 98, 2),
        "side": np.resize(["left", "right"], 49),
    }
)
how = {"align": "cue_time", "window_s": (-0.2, 0.6), "bin_s": 0.02}
recording = nl.from_spikes(spikes, table, by="side", smooth_s=0.05, **how)
single_trials = nl.from_spikes(spikes, table, where="side == 'left'", **how)
print(recording["rate"].sizes, single_trials["count"].sizes)

# %% [markdown]
# `write_session` writes an NWB file of the same spikes and trials. The file gives the
# same recording, bit for bit:

# %%
nl.write_session("converted.nwb", spikes, table, overwrite=True)
of_file = nl.read_conditions("converted.nwb", by="side", smooth_s=0.05, **how)
print(np.array_equal(of_file["rate"], recording["rate"]))

# %% [markdown]
# It writes Datasets too. Counts become spikes with even distances in each bin, and
# rates a time series:

# %%
nl.write_session("counts.nwb", trials, overwrite=True)
again = nl.read_trials(
    "counts.nwb", align="event_time", window_s=trials.attrs["window_s"], bin_s=0.02
)
print(np.array_equal(again["count"], trials["count"]))

# %% [markdown]
# ## An NWBFile in memory
#
# In a pipeline that makes NWB files, a look at the data before they are written. The
# NWBFile stays as it is, and can be written afterwards. A fit can be added to it: each
# neuron points at its row of the units table.

# %%
nwbfile = pynwb.NWBFile("A session", "id 1", datetime(2026, 1, 1, tzinfo=UTC))
for times in spikes.values():
    nwbfile.add_unit(spike_times=times)
nwbfile.add_trial_column("side", "Which side.")
for row in table.itertuples():
    nwbfile.add_trial(start_time=row.start_time, stop_time=row.stop_time, side=row.side)

of_nwbfile = nl.from_nwbfile(
    nwbfile, by="side", align="start_time", window_s=(0, 1), bin_s=0.02
)
print(of_nwbfile["rate"].sizes)

# %% [markdown]
# ## The way back
#
# Every result is an `xarray.Dataset`. `to_pandas` gives tables, one for all variables
# with the same dims. `read` gives a fit and its results as one tree.

# %%
print(nl.to_pandas(fit)["neuron_rank"].head(3))
subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
results = {"latents": nl.latents(fit, activity)}
nl.write_fit(fit, "fit.nwb", subject=subject, results=results, overwrite=True)
print(list(nl.read("fit.nwb").children))

# %% [markdown]
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
# A network with known weights, such as one of theirs, becomes a fit, which every
# analysis takes and `write_fit` stores. `from_network` knows the names of the weights in
# their code, in the code of Dubreuil et al., in smc_rnns, in LtrRNN and in torch.nn.RNN,
# as a dict, a file (`.pt`, `.npz`) or a torch module:

# %%
m, n = rng.standard_normal((2, 12, 1))
wi = rng.standard_normal((1, 12))  # input × neuron
network = nl.from_network({"m": m, "n": n, "wi": wi}, dt_s=0.02, alpha=0.2, u=fit["u"])
own = nl.simulate(network)["activity"].values

x, alpha, u = np.zeros((8, 12)), 0.2, network["u"].values
for step in range(u.shape[1] - 1):
    x = (1 - alpha) * x + alpha * (np.tanh(x) @ n @ m.T / 12 + u[:, step] @ wi)
print(
    "largest difference after the last step:",
    float(np.abs(own[:, -1] - x).max().round(6)),
)

# %% [markdown]
# Weights with other names are named: `nl.from_network(module, dt_s=0.01, alpha=0.1,
# names={"m": "up.weight", "n": "down.weight", "input_weights": "inputs.weight"})`. Where
# 1 / N is part of the weights, add `over_n=False`.
#
# `nwb-lint shelf FOLDER --out DIR` writes all networks in a folder, such as a copy of the
# authors' repository, to NWB files that name their source.
#
# What differs in the numbers: the scores of the paper's code have no ceiling, its test
# conditions take part in centering and principal components, and its correlations of
# connectivity are cosines. The page on the paper's results shows both side by side.

# %% [markdown]
# ## A GRU, an LSTM or any other module of torch
#
# Such a module has gates, so it is no low-rank network, but one can do what it does.
# `nl.distill` runs the module on inputs and fits its states. What the states are in the
# network (its activation x, or its rates tanh x) and the time constant are chosen on
# held-out trials. A module that was trained for a task needs the inputs of this task.

# %%
torch.manual_seed(0)
gru = torch.nn.GRU(input_size=1, hidden_size=16, batch_first=True)
inputs = rng.standard_normal((60, 40, 1)).cumsum(axis=1) / 3
distilled = nl.distill(gru, inputs, rank=2, dt_s=0.02, method="regression")
print(
    f"{distilled.attrs['module_sizes']}: states as {distilled.attrs['states']}, "
    f"tau {distilled.attrs['tau_s']} s, "
    f"held-out R² of the states {distilled.attrs['states_r2_held_out']:.2f}"
)

# %% [markdown]
# It is a fit like any other: `nl.fixed_points`, `nl.write_fit` and `nl.report` take it.
# `nl.run_module` gives the states of the module on other inputs as an activity, for
# `nl.score`. A module whose states cannot be seen needs `readout=`, a function that
# makes them of what the module returns. `rank=(1, 2, 3)` lets `nl.select_rank` choose.
