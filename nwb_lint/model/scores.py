"""R², the share of variance explained, and its ceiling given the noise of the trial means; the timing of inputs.

Shapes: y and prediction (condition, time, neuron), reference (neuron). NaN in y = not observed; such samples do not
count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import xarray as xr

from nwb_lint.model.network import Array, Network, Nonlinearity
from nwb_lint.model.tuning import MAX_LAG_S, MIN_CEILING, SAME_BITS, SCORE_BLOCK_VALUES
from nwb_lint.parallel.threads import map_in_order

Result = TypeVar("Result")

_ROUNDED = 4  # times the precision of a number


def reference_of(y: Array, train: Array) -> Array:
    """The prediction with R² = 0: each neuron's mean over time and the training conditions.

    Parameters
    ----------
    y : array of shape (condition, time, neuron)
    train : bool array of shape (condition,)
        Training conditions. If there is none, all conditions count.

    Returns
    -------
    array of shape (neuron,), float64
    """

    def sums(part: Array | slice) -> tuple[Array, Array]:
        samples = y[part].reshape(-1, y.shape[2])
        total = samples.sum(axis=0, dtype=float)  # so that the mean of a constant is this constant
        if np.isfinite(total).all():
            return total, np.full(len(total), len(samples))
        observed = np.isfinite(samples)
        return np.where(observed, samples, 0).sum(axis=0, dtype=float), observed.sum(axis=0)

    total, count = np.sum(list(_by_block(sums, y, np.flatnonzero(train) if train.any() else None)), axis=0)
    return total / np.maximum(count, 1)


def rounding_of(values: Array) -> Array:
    """How much equal values differ at most after a few steps of arithmetic in their precision."""
    return _ROUNDED * np.finfo(values.dtype).eps * np.abs(values.astype(float))


def squared_errors(y: Array, prediction: Array) -> Array:
    """Sum of squared errors over the observed samples of each condition.

    Parameters
    ----------
    y, prediction : array of shape (condition, time, neuron)

    Returns
    -------
    array of shape (condition,)
        NaN where a prediction is NaN.
    """
    sums = np.empty(len(y))
    for k, (one, guess) in enumerate(zip(y, prediction, strict=True)):
        error = one - guess
        sums[k] = np.einsum("tn,tn->n", error, error).sum(dtype=float)
        if np.isnan(sums[k]):
            error = np.where(np.isnan(one), np.where(np.isfinite(guess), 0, np.nan), error)
            sums[k] = np.einsum("tn,tn->n", error, error).sum(dtype=float)
    return sums


def as_slice(positions: Array) -> Array | slice:
    """Positions that follow each other as a slice, so that indexing makes no copy; other positions as they are."""
    consecutive = len(positions) > 0 and bool((np.diff(positions) == 1).all())
    return slice(int(positions[0]), int(positions[-1]) + 1) if consecutive else positions


def _by_block(work: Callable[[Array | slice], Result], y: Array, conditions: Array | None) -> Iterator[Result]:
    """``work`` on blocks of conditions that fit in the cache, without a copy of the whole array."""
    chosen = np.arange(len(y)) if conditions is None else conditions
    step = max(1, SCORE_BLOCK_VALUES // max(1, y.shape[1] * y.shape[2]))
    return map_in_order(work, (as_slice(chosen[k : k + step]) for k in range(0, max(1, len(chosen)), step)))


def as_good_as_best(deficit: Array, sem: Array) -> Array:
    """Which candidates are at most one standard error behind the best one, from their paired differences to it."""
    return deficit <= np.nan_to_num(sem)


def good_ranks(table: xr.Dataset) -> Array:
    """Which ranks of a table predict about as well as the best one, (rank_tried).

    They are at most one standard error behind it, or, of single trials, `SAME_BITS` of its bits per spike.
    """
    deficit, sem = table["rank_deficit"].values, np.nan_to_num(table["rank_deficit_sem"].values)
    if "rank_bits" in table:
        held_out = table["rank_bits"].transpose("rank_tried", "split").values[:, -1]
        sem = np.maximum(sem, SAME_BITS * np.max(held_out, initial=0.0, where=np.isfinite(held_out)))
    return as_good_as_best(deficit, sem)


def r_squared(y: Array, prediction: Array, reference: Array, conditions: Array | None = None) -> tuple[float, Array]:
    """R² = 1 - sum (y - prediction)² / sum (y - reference)².

    Parameters
    ----------
    y : array of shape (condition, time, neuron)
    prediction : array of shape (condition, time, neuron or more)
        Neurons after those of ``y`` (hidden units) do not count.
    reference : array of shape (neuron,)
        From `reference_of`.
    conditions : int array, optional
        Positions of the conditions that count. None = all.

    Returns
    -------
    total : float
        R² over all neurons. NaN if y does not vary, or if there is no condition.
    each : array of shape (neuron,)
        R² of each neuron. NaN of one that differs from the reference by rounding alone.
    """
    reference = reference.astype(y.dtype)
    n_samples = y.shape[1] * (len(y) if conditions is None else len(conditions))
    least = n_samples * np.square(rounding_of(reference))

    def sums(part: Array | slice) -> tuple[Array, Array]:
        samples = y[part].reshape(-1, y.shape[2])
        deviation = samples - reference
        error = samples - prediction[part][:, :, : y.shape[2]].reshape(samples.shape)
        if not np.isfinite(deviation.sum()):
            missing = np.isnan(samples)
            deviation, error = np.where(missing, 0, deviation), np.where(missing, 0, error)
        return np.einsum("tn,tn->n", error, error), np.einsum("tn,tn->n", deviation, deviation)

    error, power = np.sum(list(_by_block(sums, y, conditions)), axis=0, dtype=float)
    power = np.where(power <= least, 0, power)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(power > 0, 1 - error / power, np.nan)
    total = power.sum()
    return (float(1 - error.sum() / total) if total > 0 else float("nan")), each


def by_split(
    y: Array,
    prediction: Array,
    held: Array,
    noise: Array | None = None,
    reference: Array | None = None,
) -> tuple[Array, Array, Array]:
    """R² and its ceiling for the training conditions and for the held-out conditions.

    Parameters
    ----------
    y, prediction : array of shape (condition, time, neuron)
    held : bool array of shape (condition,)
        Held-out conditions.
    noise : array of shape (condition, time, neuron), optional
        Noise variance of y, from `noise_of`.
    reference : array of shape (neuron,), optional
        From `reference_of`. None = computed from the training conditions.

    Returns
    -------
    r2 : array of shape (2,)
        Training, held out. NaN where there is no condition.
    top : array of shape (2,)
        The ceiling of R². NaN without trial halves.
    each : array of shape (2, neuron)
        R² of each neuron.
    """
    reference = reference_of(y, ~held) if reference is None else reference
    r2, top, each = np.full(2, np.nan), np.full(2, np.nan), np.full((2, y.shape[2]), np.nan)
    for k, part in enumerate((~held, held)):
        if part.any():
            r2[k], each[k] = r_squared(y, prediction, reference, np.flatnonzero(part))
            if noise is not None:
                top[k] = ceiling(y[part], noise[part], reference)
    return r2, top, each


def median_over(of_neurons: Array) -> Array:
    """Median over neurons of R² (split, neuron); NaN for a split without scores."""
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in of_neurons])


def caution_about(r2: Array, top: Array, is_zero: bool = False) -> str:
    """What must be said about a fit that explains little; empty if it explains enough.

    Parameters
    ----------
    r2, top : array of shape (2,)
        R² and its ceiling in training and on held-out conditions; NaN = unknown.
    is_zero : bool, default=False
        Whether the fit is the network without connections.

    Returns
    -------
    str
    """
    found = []
    for name, value, best in zip(("in training", "on held-out conditions"), r2, top, strict=True):
        if value < 0:
            found.append(f"R² is {value:.2f} {name}, less than the mean of each neuron explains")
        elif best >= MIN_CEILING and value < best / 3:
            found.append(f"R² is {value:.2f} {name} under a ceiling of {best:.2f}")
    if is_zero:
        found = ["No network predicts better than none. The fit has no connections and predicts 0"]
    if not found:
        return ""
    return (
        f"{'; '.join(found)}. Do not interpret this fit. Likely reasons: inputs that are missing or begin at another "
        "time, tau_s, the scale, or too few trials or conditions."
    )


def noise_of(activity: xr.Dataset) -> Array | None:
    """Noise variance of an activity, as `by_split` and `ceiling` need it.

    Components follow the noise of the conditions that they were estimated from. There the noise is ``noise_factor``
    times what the halves show.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`.

    Returns
    -------
    array of shape (condition, time, neuron) or None
        None if the activity has no halves of the trials.
    """
    if "activity_half" not in activity:
        return None
    noise = noise_power(activity["activity_half"].values, activity["n_trials_half"].values)
    return noise * activity["noise_factor"].values[:, None, None] if "noise_factor" in activity else noise


def noise_power(halves: Array, n_half: Array) -> Array:
    """Noise variance of the mean over all trials, from two independent halves of the trials.

    A mean over n trials has noise variance s²/n. The difference of the halves has variance s² (1/n1 + 1/n2). So
    (y1 - y2)² n1 n2 / (n1 + n2)² has the expectation s² / (n1 + n2).

    Parameters
    ----------
    halves : array of shape (2, condition, time, neuron)
    n_half : array of shape (2, condition, neuron)
        Number of trials of each half.

    Returns
    -------
    array of shape (condition, time, neuron)
        NaN where a half has no trials.
    """
    n1, n2 = n_half[0][:, None, :].astype(float), n_half[1][:, None, :].astype(float)
    share = n1 * n2 / np.maximum(n1 + n2, 1) ** 2
    return np.where(share > 0, (halves[0].astype(float) - halves[1]) ** 2 * share, np.nan)


def ceiling(y: Array, noise: Array, reference: Array) -> float:
    """R² that the true mean activity would have against these trial means.

    1 - sum noise / sum (y - reference)². Samples whose noise is NaN do not count.

    Parameters
    ----------
    y : array of shape (condition, time, neuron)
        Means over all trials.
    noise : array of shape (condition, time, neuron)
        From `noise_of` or `noise_power`.
    reference : array of shape (neuron,)
        From `reference_of`.

    Returns
    -------
    float
        NaN if nothing varies, or if no noise is known.
    """
    if y.size == 0:
        return float("nan")
    usable = np.isfinite(noise) & np.isfinite(y)
    power = np.where(usable, (y.astype(float) - reference) ** 2, 0).sum()
    return float(1 - np.where(usable, noise, 0).sum() / power) if power > 0 else float("nan")


# ---------------------------------------------------------------------------------------------------------------------
# Timing of inputs


class InputLags(NamedTuple):
    """By input: the lag that explains most, s; the share of the input that has this lag; its standard error.

    A positive lag: the activity responds later than the times of the input say. All are NaN for an input that no shift
    changes.
    """

    lag_s: Array
    gain: Array
    sem: Array


def input_lags(
    x: Array, u: Array, conditions: Array, network: Network, alpha: float, phi: Nonlinearity, dt_s: float
) -> InputLags:
    """How much of what the network leaves unexplained, along the weights of an input, follows that input with a lag.

    The residual of the network's equation on the recorded activity, (x[t+1] - (1 - alpha) x[t]) / alpha - J phi(x[t]) -
    W u[t], is projected on the weights of each input, and regressed on u[t - lag] - u[t]. The slope is the gain: 0
    where the times of the input are right, 1 where the input acts with this lag. The lag is that with the largest share
    of the residual's variance, among positive gains, up to `MAX_LAG_S` and a quarter of the trial.

    Parameters
    ----------
    x : array of shape (condition, time, neuron)
        Activity of all units of the network. NaN = not observed.
    u : array of shape (condition, time, input)
        Inputs as they are given, not filtered.
    conditions : int array
        Positions of the conditions that count.
    network : Network
        Its ``w`` has the columns of ``u`` first, then the bias if there is one.
    alpha : float
        Time step / time constant.
    phi : Nonlinearity
    dt_s : float
        Time step, s.

    Returns
    -------
    InputLags
    """
    n_inputs = u.shape[2]
    w = network.w[:, :n_inputs].astype(float)
    norms = (w**2).sum(axis=0)
    readout = w / np.where(norms > 0, norms, 1)
    recurrent = network.m.T @ readout if network.n is None else network.n @ (network.m.T @ readout) / len(w)
    residual, u = np.empty((len(conditions), x.shape[1] - 1, n_inputs)), u[conditions].astype(float)
    with np.errstate(over="ignore", invalid="ignore"):  # of hidden units that diverge
        for found, own, k in zip(residual, u, conditions, strict=True):
            step = (x[k, 1:] - (1 - alpha) * x[k, :-1]) / alpha
            found[:] = step @ readout - phi.phi(x[k, :-1]) @ recurrent - own[:-1] @ (w.T @ readout)
    seen = np.isfinite(residual)
    residual = np.where(seen, residual, 0)
    residual = np.where(seen, residual - residual.sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1), 0)
    most = min(round(MAX_LAG_S / dt_s), x.shape[1] // 4)
    steps = [k for k in range(-most, most + 1) if k]
    best = [_best_lag(residual[..., i], seen[..., i], u[..., i], steps) for i in range(n_inputs)]
    lag, gain, sem = np.array(best, float).reshape(n_inputs, 3).T
    return InputLags(lag * dt_s, gain, sem)


def _best_lag(residual: Array, seen: Array, u: Array, steps: list[int]) -> tuple[float, float, float]:
    """Lag in steps, gain and standard error over conditions of one input; NaN where no shift changes it."""
    found, most = (np.nan, np.nan, np.nan), 0.0
    times = np.arange(u.shape[1])
    for lag in steps:
        change = np.where(seen, (u[:, np.clip(times - lag, 0, times[-1])] - u)[:, :-1], 0)
        by_condition, power = (residual * change).sum(axis=1), (change**2).sum(axis=1)
        if not power.any():
            continue
        gain = by_condition.sum() / power.sum()
        explained = gain * by_condition.sum()
        if np.isnan(found[0]) or (gain > 0 and explained > most):
            spread = by_condition - gain * power
            n = int((power > 0).sum())
            sem = np.sqrt((spread**2).sum() * n / max(n - 1, 1)) / power.sum() if n > 1 else np.inf
            found, most = (lag, gain, sem), max(explained, 0.0) if gain > 0 else 0.0
    return found
