"""Small random sessions, recordings, activities and fits, for tests of this package and of yours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.simulate import with_run
from nwb_lint.prepare import prepare

Array = np.ndarray

_PERIOD_S = 2.0
_CUE_S = 0.5


def mock_session(
    path: str | Path,
    *,
    n_units: int = 5,
    n_trials: int = 40,
    seed: int = 0,
    rate_hz: float = 20.0,
    columns: Mapping[str, Any] | None = None,
    unit_columns: Mapping[str, Any] | None = None,
    unit_ids: Sequence[int] | None = None,
    obs_intervals: bool | Sequence[Array] = False,
    session_id: str = "mock",
) -> Path:
    """Write a random NWB session of Poisson units.

    A trial starts every 2 s, with a jitter of up to 0.1 s, and lasts 1.5 s. Its cue comes 0.5 s after its start. The
    table has start_time, stop_time, cue_time (s), side ("left", "right"), coherence (±0.1, ±0.5), correct (bool) and
    block (whole numbers). In the second after the cue, units fire at 1.5 times ``rate_hz`` on trials of one side.

    Parameters
    ----------
    path : str or pathlib.Path
        File to write.
    n_units : int, default=5
        Number of units.
    n_trials : int, default=40
        Number of trials.
    seed : int, default=0
        Seed of the session.
    rate_hz : float, default=20.0
        Rate of the units, Hz.
    columns : mapping or None, default=None
        More columns of the trials, by name. They replace columns of the same name.
    unit_columns : mapping or None, default=None
        Columns of the units, by name.
    unit_ids : sequence of int or None, default=None
        Ids of the units. None counts them from 0.
    obs_intervals : bool or sequence of numpy.ndarray, default=False
        Intervals (interval, 2) in which each unit was observed, s. True draws two intervals for each unit, with a gap
        between them. A unit has spikes only where it was observed.
    session_id : str, default="mock"
        Id of the session.

    Returns
    -------
    pathlib.Path
        The file.

    Examples
    --------
    >>> mock_session("mock.nwb", n_units=3, columns={"reward": np.arange(40) % 2 == 0})
    PosixPath('mock.nwb')
    """
    import pandas as pd

    from nwb_lint.nwb.extension.write_session import write_session

    rng = np.random.default_rng(seed)
    start = 1.0 + _PERIOD_S * np.arange(n_trials) + rng.uniform(0, 0.1, n_trials)
    table: dict[str, Any] = {
        "start_time": start,
        "stop_time": start + 1.5,
        "cue_time": start + _CUE_S,
        "side": np.array(["left", "right"])[np.arange(n_trials) % 2],
        "coherence": np.array([-0.5, -0.1, 0.1, 0.5])[(np.arange(n_trials) // 2) % 4],
        "correct": rng.random(n_trials) < 0.8,
        "block": np.arange(n_trials) // 10,
    }
    table |= dict(columns or {})
    end = 1.0 + _PERIOD_S * n_trials
    spikes = []
    for unit in range(n_units):
        times = rng.uniform(0, end, rng.poisson(rate_hz * end))
        preferred = start[np.arange(n_trials) % 2 == unit % 2]
        extra = [t + _CUE_S + rng.uniform(0, 1, rng.poisson(rate_hz / 2)) for t in preferred]
        spikes.append(np.sort(np.concatenate([times, *extra])))
    observed: Sequence[Array] | None
    if isinstance(obs_intervals, bool):
        cuts = [np.sort(rng.uniform(0, end, 2)) for _ in range(n_units)]
        halves = [np.array([[0.1 * end, cut[0]], [cut[1], 0.95 * end]]) for cut in cuts]
        observed = [part[part[:, 1] > part[:, 0]] for part in halves] if obs_intervals else None
    else:
        observed = obs_intervals
    if observed is not None:
        for unit, part in enumerate(observed):
            inside = (spikes[unit][:, None] >= part[:, 0]) & (spikes[unit][:, None] <= part[:, 1])
            spikes[unit] = spikes[unit][inside.any(axis=1)]
    return write_session(
        path,
        spikes,
        pd.DataFrame(table),
        unit_columns=unit_columns,
        unit_ids=unit_ids,
        obs_intervals=observed,
        session_id=session_id,
        description="A random session for tests.",
    )


def mock_recording(*, n_neurons: int = 12, n_conditions: int = 8, draws: int = 0, seed: int = 0) -> xr.Dataset:
    """Make the recording of a rank-1 network that a stimulus of graded strength drives.

    Rates are 20 + 5 x + noise, Hz, where x is the activation of the network. The recording has the rates of two halves
    of the trials.

    Parameters
    ----------
    n_neurons : int, default=12
        Number of neurons.
    n_conditions : int, default=8
        Number of conditions, one for each strength of the stimulus.
    draws : int, default=0
        Number of resamples of the trials.
    seed : int, default=0
        Seed of the network and the noise.

    Returns
    -------
    xarray.Dataset
        ``rate (condition, time, neuron)``, Hz, in bins of 20 ms, with ``rate_half``, the numbers of trials, and
        ``rate_draw`` if there are resamples.

    Examples
    --------
    >>> mock_recording()["rate"].dims
    ('condition', 'time', 'neuron')
    """
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((2, n_neurons, 1))
    n = 1.2 * m + w
    strength = np.linspace(-1, 1, n_conditions)
    u = np.zeros((n_conditions, 40, 1), np.float32)
    u[:, 10:, 0] = strength[:, None]
    x, _ = forward(Network(m, n, w), drives(u, 0.2, bias=False, initial=False), 0.2)
    halves = (20 + 5 * x + rng.standard_normal((2, *x.shape))).astype(np.float32)
    counts = np.full((2, n_conditions, n_neurons), 10)
    dims = ("condition", "time", "neuron")
    noise = rng.standard_normal((draws, *x.shape)) / np.sqrt(2)
    resamples = {"rate_draw": (("draw", *dims), (halves.mean(axis=0) + noise).astype(np.float32))}
    return xr.Dataset(
        {
            **(resamples if draws else {}),
            "rate": (dims, halves.mean(axis=0)),
            "n_trials": (("condition", "neuron"), counts.sum(axis=0)),
            "rate_half": (("half", *dims), halves),
            "n_trials_half": (("half", "condition", "neuron"), counts),
        },
        coords={
            "condition": [f"stimulus={s:g}" for s in strength],
            "stimulus": ("condition", strength),
            "time": 0.02 * np.arange(40) - 0.19,
            "neuron": [str(k) for k in range(n_neurons)],
        },
        attrs={"bin_s": 0.02},
    )


def mock_activity(*, n_neurons: int = 12, n_conditions: int = 8, seed: int = 0) -> xr.Dataset:
    """Make the activity that `nwb_lint.prepare` gives of `mock_recording`, with one input.

    Parameters
    ----------
    n_neurons : int, default=12
        Number of neurons.
    n_conditions : int, default=8
        Number of conditions, one for each strength of the stimulus.
    seed : int, default=0
        Seed of the network and the noise.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)`` and ``u (condition, time, input)``, dimensionless.

    Examples
    --------
    >>> mock_activity()["u"].dims
    ('condition', 'time', 'input')
    """
    stimulus = Input("stimulus", column="stimulus", window_s=(0.0, 1.0))
    recording = mock_recording(n_neurons=n_neurons, n_conditions=n_conditions, seed=seed)
    return prepare(recording, inputs=[stimulus], center=(-0.2, 0.0), time_course=False)


def mock_fit(*, n_neurons: int = 12, n_conditions: int = 8, seed: int = 0) -> xr.Dataset:
    """Make a rank-1 fit of `mock_activity`.

    Parameters
    ----------
    n_neurons : int, default=12
        Number of neurons.
    n_conditions : int, default=8
        Number of conditions, one for each strength of the stimulus.
    seed : int, default=0
        Seed of the network and the noise.

    Returns
    -------
    xarray.Dataset
        The fit: ``m`` and ``n (neuron, rank)``, ``input_weights (neuron, input)`` and all else that `nwb_lint.fit_lint`
        gives.

    Examples
    --------
    >>> mock_fit()["m"].dims
    ('neuron', 'rank')
    """
    activity = mock_activity(n_neurons=n_neurons, n_conditions=n_conditions, seed=seed)
    return fit_lint(activity, rank=1, tau_s=0.1, method="regression")


def mock_areas(
    ranks: Sequence[Sequence[int]] = ((1, 1), (1, 1)),
    *,
    n_neurons: int = 24,
    n_conditions: int = 24,
    noise: float = 0.0,
    observation: float = 0.0,
    seed: int = 0,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Make the activity of a network of several areas, each with an input of its own, and the network.

    A block to another area reads what arrives at its source; a block inside an area also keeps its own latent. In the
    column "area", areas are called A, B, …

    Parameters
    ----------
    ranks : sequence of sequence of int, default=((1, 1), (1, 1))
        Rank of the block to each area (rows) from each area (columns).
    n_neurons : int, default=24
        Number of neurons, a multiple of the number of areas.
    n_conditions : int, default=24
        Number of conditions, each with random inputs.
    noise : float, default=0.0
        Standard deviation of the noise of each neuron in each step.
    observation : float, default=0.0
        Standard deviation of the noise of the observation, in standard deviations of the activity.
    seed : int, default=0
        Seed of the network and the noise.

    Returns
    -------
    activity : xarray.Dataset
        As `nwb_lint.prepare` gives it, in bins of 20 ms.
    network : xarray.Dataset
        The true network as a fit, with tau_s=0.1.

    Examples
    --------
    >>> activity, network = mock_areas([[1, 0], [1, 1]])
    >>> network["to_area"].values.tolist(), network["from_area"].values.tolist()
    (['A', 'B', 'B'], ['A', 'A', 'B'])
    """
    rng, table = np.random.default_rng(seed), np.array(ranks)
    names = np.array([chr(ord("A") + k) for k in range(len(table))])
    area = np.repeat(np.arange(len(table)), n_neurons // len(table))
    to, source = (np.repeat(one.ravel(), table.ravel()) for one in np.indices(table.shape))
    m = rng.standard_normal((len(area), len(to))) * (area[:, None] == to)
    w = rng.standard_normal((len(area), len(table))) * (area[:, None] == np.arange(len(table)))
    n = np.zeros_like(m)
    for k, (a, b) in enumerate(zip(to, source, strict=True)):
        arriving = np.flatnonzero(to == b)
        mixing = rng.standard_normal(len(arriving)) / np.sqrt(max(1, len(arriving)))
        if a == b:
            mixing = np.where(arriving == k, 1.5, 0.3 * mixing)
        read = m[:, arriving] @ mixing + rng.standard_normal() * w[:, b] + 0.5 * rng.standard_normal(len(area))
        n[:, k] = len(table) * read * (area == b)
    u = np.zeros((n_conditions, 60, len(table)), np.float32)
    for k, first in enumerate(rng.integers(3, 30, len(table))):
        u[:, first : first + 20, k] = rng.uniform(-1.5, 1.5, (n_conditions, 1))
    x = np.zeros((n_conditions, 60, len(area)))
    for t in range(59):
        x[:, t + 1] = 0.8 * x[:, t] + 0.2 * (np.tanh(x[:, t]) @ n @ m.T / len(area) + u[:, t] @ w.T)
        x[:, t + 1] += noise * rng.standard_normal(x[:, t].shape)
    x += observation * x.std() * rng.standard_normal(x.shape)
    coords = {
        "condition": [f"c{k:02d}" for k in range(n_conditions)], "time": 0.02 * np.arange(60),
        "neuron": [f"n{k:03d}" for k in range(len(area))], "area": ("neuron", names[area]),
        "input": [f"to {name}" for name in names],
    }  # fmt: skip
    given = xr.Dataset({"u": (("condition", "time", "input"), u)}, coords=coords, attrs={"bin_s": 0.02})
    activity = given.assign(activity=(("condition", "time", "neuron"), x.astype(np.float32)))
    return activity, _network_of_areas(given, m, n, w, names[to], names[source])


def _network_of_areas(given: xr.Dataset, m: Array, n: Array, w: Array, to: Array, source: Array) -> xr.Dataset:
    """A network of several areas as a fit, without scores."""
    zero, nothing = np.zeros(len(m)), np.full(2, np.nan)
    fit = given.assign_coords(to_area=("rank", to), from_area=("rank", source), split=["train", "held_out"])
    fit = fit.assign(
        m=(("neuron", "rank"), m), n=(("neuron", "rank"), n), input_weights=(("neuron", "input"), w),
        bias=("neuron", zero), initial_activation=("neuron", zero), r2=("split", nothing),
        r2_ceiling=("split", nothing), r2_neuron=(("split", "neuron"), np.full((2, len(m)), np.nan)),
    )  # fmt: skip
    fit.attrs |= {"dt_s": 0.02, "tau_s": 0.1, "nonlinearity": "tanh", "areas": "area", "method": "simulated"}
    return with_run(fit)


def mock_trials(*, n_neurons: int = 12, n_trials: int = 24, seed: int = 0) -> xr.Dataset:
    """Trials as from `nwb_lint.read_trials`: spike counts of a rank-1 network with noise, and a stimulus on each trial.

    Parameters
    ----------
    n_neurons : int, default=12
        Number of neurons.
    n_trials : int, default=24
        Number of trials of 0.8 s, in bins of 0.02 s.
    seed : int, default=0
        Seed of the network, its noise and the spikes.

    Returns
    -------
    xarray.Dataset
        ``count (trial, time, neuron)``, with the columns ``stimulus`` and ``choice`` on ``trial``.

    Examples
    --------
    >>> mock_trials()["count"].dims
    ('trial', 'time', 'neuron')
    """
    rng = np.random.default_rng(seed)
    m = rng.standard_normal(n_neurons)
    stimulus = np.resize([-1.0, 1.0], n_trials)
    kappa, path = np.zeros(n_trials), []
    for _ in range(40):
        path.append(kappa)
        r = np.tanh(kappa[:, None] * m) @ m / n_neurons
        kappa = 0.8 * kappa + 0.2 * 2 * r + 0.05 * stimulus + 0.1 * rng.standard_normal(n_trials)
    kappa = np.stack(path, axis=1)
    count = rng.poisson(0.02 * 20 * np.exp(kappa[..., None] * m)).astype(np.uint16)
    return xr.Dataset(
        {"count": (("trial", "time", "neuron"), count, {"units": "1"})},
        coords={
            "trial": np.arange(n_trials),
            "time": ("time", 0.01 + 0.02 * np.arange(40), {"units": "s"}),
            "neuron": np.array([f"n{k:03d}" for k in range(n_neurons)]),
            "stimulus": ("trial", stimulus),
            "choice": ("trial", np.where(kappa[:, -1] > 0, "right", "left")),
        },
        attrs={"bin_s": 0.02, "align": "start_time", "window_s": [0.0, 0.8]},
    )
