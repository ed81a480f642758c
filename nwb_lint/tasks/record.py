"""Rates of a simulated network → spike times, as a recording would hold them."""

from __future__ import annotations

import numpy as np

from nwb_lint.contract import ContractError

Array = np.ndarray


def poisson_spikes(rate_hz: Array, dt_s: float, starts_s: Array, seed: int) -> list[Array]:
    """Spike times of every neuron: inhomogeneous Poisson, the rate constant within each bin.

    Time rescaling: with L(t) the integral of a neuron's rate over all its bins, the number of spikes is
    Poisson with mean L(end), and the spikes are that many independent uniform draws of L, mapped back to
    time. Counts per bin are then independent Poisson(rate × dt_s) and spikes uniform within the bin, at the
    cost of one sort per neuron.

    | name | dims | unit |
    |---|---|---|
    | rate_hz | trial, time, neuron | Hz; bins where nothing is simulated hold 0 |
    | dt_s | – | s, width of a bin |
    | starts_s | trial | s, when each trial's first bin starts |
    | result | list over neurons of arrays | s, sorted |

    Raises: ContractError where rates are negative or not finite, or shapes do not fit.

    Example:
        >>> times = poisson_spikes(np.full((2, 50, 3), 20.0), 0.02, np.array([0.0, 5.0]), seed=0)
        >>> len(times), bool((np.diff(times[0]) >= 0).all())
        (3, True)
    """
    starts_s = np.asarray(starts_s, dtype=float)
    if rate_hz.ndim != 3 or starts_s.shape != rate_hz.shape[:1]:
        raise ContractError(
            f"rate_hz has shape {rate_hz.shape} and starts_s {starts_s.shape}; "
            "they need (trial, time, neuron) and (trial,)."
        )
    if not np.isfinite(rate_hz).all() or rate_hz.min(initial=0) < 0:
        raise ContractError("rate_hz has negative values or values that are not finite; use 0 where no spike may be.")
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
