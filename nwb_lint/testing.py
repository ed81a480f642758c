"""Small random sessions, recordings and fits for tests: yours and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Network, drives, forward
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
    """Write a random session of Poisson units through `write_session`, and return its path.

    A trial starts every 2 s (jittered by up to 0.1 s) and lasts 1.5 s, with a cue 0.5 s after its start. The
    table has start_time, stop_time, cue_time, side ("left", "right"), coherence (±0.1, ±0.5), correct (bool)
    and block (whole numbers); ``columns`` adds to them or replaces them. From the cue on, units fire at 1.5
    times ``rate_hz`` on trials of one side. With ``obs_intervals=True`` every unit is observed for the middle
    part of the session only, in two pieces with a gap. No unit has spikes where it was not observed.

    Example:
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


def mock_recording(*, n_neurons: int = 12, n_conditions: int = 8, seed: int = 0) -> xr.Dataset:
    """A recording of a rank-1 network driven by a stimulus of graded strength, with halves: rates in Hz, no spikes.

    rate = 20 + 5 x + noise; x from `nwb_lint.model.network.forward`. Dims condition, time (20 ms bins), neuron.

    Example:
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
    return xr.Dataset(
        {
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


def mock_activity(**options: int) -> xr.Dataset:
    """`mock_recording`, prepared: activity and one input. Takes its options.

    Example:
        >>> mock_activity()["u"].dims
        ('condition', 'time', 'input')
    """
    stimulus = Input("stimulus", column="stimulus", window_s=(0.0, 1.0))
    return prepare(mock_recording(**options), inputs=[stimulus], center=(-0.2, 0.0), time_course=False)


def mock_fit(**options: int) -> xr.Dataset:
    """A rank-1 fit of `mock_activity`. Takes its options.

    Example:
        >>> mock_fit()["m"].dims
        ('neuron', 'rank')
    """
    return fit_lint(mock_activity(**options), rank=1, tau_s=0.1, method="regression")
