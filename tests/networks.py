"""Small simulated networks as activities, by a recurrence of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

ALPHA, TAU_S, BIN_S = 0.2, 0.1, 0.02


class Truth(NamedTuple):
    """A known network, its activity as a Dataset, and its noise-free activation (condition, time, neuron)."""

    m: np.ndarray
    n: np.ndarray
    w: np.ndarray
    activity: xr.Dataset
    x: np.ndarray

    def effective(self) -> np.ndarray:
        """m (P n)' / N by least squares on [m, I]."""
        span = np.column_stack([self.m, self.w])
        return self.m @ (span @ np.linalg.lstsq(span, self.n, rcond=None)[0]).T / len(self.m)


def plain(m, n, w, u, *, bias=0.0, start=0.0, noise=0.0, rng=None, phi=np.tanh, alpha=ALPHA):
    """x[t+1] = (1 - alpha) x + alpha (m n' phi(x) / N + w u + bias) + noise xi, neuron by neuron, nothing clever."""
    j = m @ n.T / len(m)
    x = np.zeros((*u.shape[:2], len(m)))
    x[:, 0] = start
    for t in range(u.shape[1] - 1):
        x[:, t + 1] = (1 - alpha) * x[:, t] + alpha * (phi(x[:, t]) @ j.T + u[:, t] @ w.T + bias)
        if noise:
            x[:, t + 1] += noise * rng.standard_normal(x[:, t].shape)
    return x


def build(*, rank=1, neurons=40, conditions=48, times=40, private=0.03, observation=0.0, seed=0, burn_in=0, bias=0.0):
    """A random network of graded stimuli and its activity; ``burn_in`` first samples are cut off and only driven."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((neurons, rank)), rng.standard_normal((neurons, 2))
    mixing = np.array([[1.0, 0.4], [0.3, -1.0]])[:rank]
    n = 1.4 * m + w @ mixing.T + 0.5 * rng.standard_normal((neurons, rank))
    u = np.zeros((conditions, times, 2), np.float32)
    u[:, 3:, 0] = rng.uniform(-1, 1, (conditions, 1))
    u[:, 8 : times // 2, 1] = rng.uniform(-1, 1, (conditions, 1))
    b = bias * rng.standard_normal(neurons)
    clean = plain(m, n, w, u, bias=b)
    x = plain(m, n, w, u, bias=b, noise=private, rng=rng)
    x += observation * x.std() * rng.standard_normal(x.shape)
    coords = {
        "condition": [f"c{k:02d}" for k in range(conditions)],
        "time": BIN_S * np.arange(times - burn_in),
        "neuron": [f"n{k:02d}" for k in range(neurons)],
        "input": ("input", ["stimulus", "pulse"]),
    }
    activity = xr.Dataset(coords=coords, attrs={"bin_s": BIN_S})
    activity["activity"] = ("condition", "time", "neuron"), x[:, burn_in:].astype(np.float32)
    activity["u"] = ("condition", "time", "input"), u[:, burn_in:]
    if burn_in:
        activity["u_burn_in"] = ("condition", "burn_in", "input"), u[:, :burn_in]
    return Truth(m, n, w, activity, clean[:, burn_in:])
