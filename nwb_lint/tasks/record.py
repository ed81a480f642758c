"""Recordings of networks: noisy activity on the task, Poisson spikes, and NWB sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.model.simulate import network_of
from nwb_lint.nwb.extension.write_session import Samples, write_session
from nwb_lint.tasks.generate import TASKS, as_conditions

Array = np.ndarray

SERIES = "activation"
_LOWEST_HZ = 0.5
_REST_S = 0.5


def poisson_spikes(rate_hz: Array, dt_s: float, starts_s: Array, seed: int) -> list[Array]:
    """Spike times of inhomogeneous Poisson neurons, with a constant rate in each bin.

    Time rescaling: L(t) is the integral of a neuron's rate. The number of spikes is Poisson with mean L(end). The
    spikes are independent uniform draws of L, mapped back to time. So the counts of the bins are independent Poisson
    (rate × dt_s), and spikes are uniform within a bin.

    Parameters
    ----------
    rate_hz : numpy.ndarray
        Rates (trial, time, neuron), Hz. Bins that are not simulated hold 0.
    dt_s : float
        Width of a bin, s.
    starts_s : numpy.ndarray
        Start of the first bin of each trial (trial), s.
    seed : int
        Seed of the spikes.

    Returns
    -------
    list of numpy.ndarray
        Sorted spike times of each neuron, s.

    Raises
    ------
    ContractError
        If rates are negative or not finite, or shapes do not agree.

    Examples
    --------
    >>> times = poisson_spikes(np.full((2, 50, 3), 20.0), 0.02, np.array([0.0, 5.0]), seed=0)
    >>> len(times), bool((np.diff(times[0]) >= 0).all())
    (3, True)
    """
    starts_s = np.asarray(starts_s, dtype=float)
    if rate_hz.ndim != 3 or starts_s.shape != rate_hz.shape[:1]:
        raise ContractError(
            f"rate_hz has shape {rate_hz.shape} and starts_s {starts_s.shape}. They need (trial, time, neuron) and "
            "(trial,)."
        )
    if not np.isfinite(rate_hz).all() or rate_hz.min(initial=0) < 0:
        raise ContractError("rate_hz has negative values, or values that are not finite. Use 0 where nothing fires.")
    rng = np.random.default_rng(seed)
    bin_start = (starts_s[:, None] + np.arange(rate_hz.shape[1]) * dt_s).ravel()
    return [_spikes_of_one(rate.ravel(), bin_start, dt_s, rng) for rate in np.moveaxis(rate_hz, 2, 0).astype(float)]


def _spikes_of_one(rate: Array, bin_start: Array, dt_s: float, rng: np.random.Generator) -> Array:
    expected = rate * dt_s
    integral = np.cumsum(expected)
    total = integral[-1]
    draws = np.sort(rng.random(rng.poisson(total))) * total
    at = np.searchsorted(integral, draws, side="right")
    within = 1 - (integral[at] - draws) / expected[at]
    return np.sort(bin_start[at] + np.clip(within, 0, 1) * dt_s)


def record_activity(
    network: xr.Dataset,
    n_trials: int,
    *,
    private_noise: float | None = None,
    observation_noise: float = 0.0,
    seed: int = 0,
) -> xr.Dataset:
    """Noisy activity of a network on new trials of its task. Every trial is a condition.

    x[t+1] = (1 - alpha) x[t] + alpha (J phi(x[t]) + I u[t]) + private_noise xi[t], with xi ~ N(0, 1) and x[0] = 0. The
    activity is x + observation_noise · sd(x) · N(0, 1). The noise-free activity is `nwb_lint.model.simulate.run` of the
    network on the returned Dataset.

    Parameters
    ----------
    network : xarray.Dataset
        From `train_network` or `load_teacher`.
    n_trials : int
        Number of trials, at least 1.
    private_noise : float or None, default=None
        Standard deviation of the noise of each step, dimensionless. None takes that of the training.
    observation_noise : float, default=0.0
        Standard deviation of the noise on the activity, relative to sd(x).
    seed : int, default=0
        Seed of the trials and the noise.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)`` and ``u (condition, time, input)``, float32, dimensionless; the trial
        columns on ``condition``.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1, or the network names no task.

    Examples
    --------
    >>> from nwb_lint.tasks.train import train_network
    >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
    >>> record_activity(network, 10)["activity"].sizes["condition"]
    10
    """
    task = network.attrs.get("task")
    if task not in TASKS:
        raise ContractError(f"The task of the network is {task!r}. It needs to be one of {', '.join(TASKS)}.")
    noise = float(network.attrs["private_noise"] if private_noise is None else private_noise)
    trials = TASKS[task](n_trials, seed)
    out = as_conditions(trials)
    x = noisy_run(network, out["u"].values, noise, seed)
    if observation_noise:
        rng, sd = np.random.default_rng([seed, 3]), observation_noise * float(x.std())
        for one in x:  # each trial by itself: no second copy of a large array
            one += np.float32(sd) * rng.standard_normal(one.shape, dtype=np.float32)
    out["activity"] = ("condition", "time", "neuron"), x, {"units": "1"}
    out = out.assign_coords(neuron=network["neuron"].values)
    out.attrs = {"bin_s": float(network.attrs["dt_s"]), "task": task, "private_noise": noise}
    return out


def record_session(
    network: xr.Dataset,
    path: str | Path,
    n_trials: int,
    *,
    base_hz: float = 20.0,
    gain_hz: float = 8.0,
    spikes: bool = True,
    seed: int = 0,
) -> Path:
    """Write the noisy activity of a network on new trials as an NWB session.

    Units are Poisson, with rate = base_hz + gain_hz phi(x), never below 0.5 Hz. With ``spikes=False`` the file holds
    the activation x itself as the time series `SERIES`, one sample at the start of every step. The table of trials has
    start_time, stop_time (s) and the trial columns. Between trials, 0.5 s each, no unit fires and there is no sample.

    Parameters
    ----------
    network : xarray.Dataset
        From `train_network` or `load_teacher`.
    path : str or pathlib.Path
        File to write. It must not exist.
    n_trials : int
        Number of trials, at least 1.
    base_hz : float, default=20.0
        Rate at activation 0, Hz.
    gain_hz : float, default=8.0
        Change of the rate with phi(x), Hz.
    spikes : bool, default=True
        Write spikes, or else the activation.
    seed : int, default=0
        Seed of the trials, the noise and the spikes.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ContractError
        If a rate is not above 0, or for the reasons of `record_activity`.
    NWBError
        If the file exists.

    Examples
    --------
    >>> from nwb_lint.tasks.train import train_network
    >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
    >>> record_session(network, "dm.nwb", 10)
    PosixPath('dm.nwb')
    """
    if not 0 < base_hz < np.inf or not 0 < gain_hz < np.inf:
        raise ContractError(f"base_hz is {base_hz} and gain_hz is {gain_hz}. Both need to be above 0.")
    activity = record_activity(network, n_trials, seed=seed)
    x, dt_s, task = activity["activity"].values, activity.attrs["bin_s"], activity.attrs["task"]
    duration = x.shape[1] * dt_s
    start = 1.0 + (duration + _REST_S) * np.arange(n_trials)
    columns = {str(k): v.values for k, v in activity.coords.items() if v.dims == ("condition",) and k != "condition"}
    trials = pd.DataFrame({"start_time": start, "stop_time": start + duration} | columns)
    if spikes:
        rate = np.maximum(base_hz + gain_hz * np.tanh(x), _LOWEST_HZ)
        units, series, what = poisson_spikes(rate, dt_s, start, seed), None, "rates as Poisson spikes"
    else:
        times = (start[:, None] + dt_s * np.arange(x.shape[1])).ravel()
        units, series, what = [], {SERIES: Samples(times, x.reshape(-1, x.shape[2]))}, "its activation, sampled"
    return write_session(
        path, units, trials, series=series, session_id=f"{task}-network",
        description=f"A simulated network on the task {task}: {what}.",
    )  # fmt: skip


def noisy_run(network: xr.Dataset, u: Array, noise: float, seed: int) -> Array:
    """Activation of a network with noise at each step, x[0] = 0, by the plain recurrence with tanh.

    Parameters
    ----------
    network : xarray.Dataset
        ``m`` and ``n``, or ``J``, and ``input_weights``; attributes ``dt_s`` and ``tau_s``.
    u : numpy.ndarray
        Inputs (trial, time, input).
    noise : float
        Standard deviation of the noise of each step, dimensionless.
    seed : int
        Seed of the noise.

    Returns
    -------
    numpy.ndarray
        (trial, time, neuron), float32, dimensionless.
    """
    alpha = np.float32(network.attrs["dt_s"] / network.attrs["tau_s"])
    net = network_of(network)
    m, n = net.m.astype(np.float32), None if net.n is None else net.n.astype(np.float32) / np.float32(net.n_neurons)
    w = network["input_weights"].values.astype(np.float32)
    rng = np.random.default_rng([seed, 2])
    x = np.zeros((*u.shape[:2], len(m)), np.float32)
    for t in range(u.shape[1] - 1):
        r = np.tanh(x[:, t])
        x[:, t + 1] = (r if n is None else r @ n) @ m.T + u[:, t] @ w.T
        x[:, t + 1] *= alpha
        x[:, t + 1] += (1 - alpha) * x[:, t]
        if noise:
            x[:, t + 1] += np.float32(noise) * rng.standard_normal(x[:, t].shape, dtype=np.float32)
    return x
