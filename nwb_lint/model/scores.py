"""Share of variance explained, and the most that noise lets anybody explain. NaN samples do not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import xarray as xr

from nwb_lint.model.network import Array
from nwb_lint.parallel.threads import map_in_order

BLOCK_VALUES = 500_000  # condition × time × neuron values looked at together

Found = TypeVar("Found")


def reference_of(y: Array, train: Array) -> Array:
    """What R² is measured against: each neuron's mean over time and the training conditions (all, where none)."""

    def sums(part: Array | slice) -> tuple[Array, Array]:
        some = y[part].reshape(-1, y.shape[2])
        total = some.sum(axis=0)
        if np.isfinite(total).all():
            return total.astype(float), np.full(len(total), len(some))
        seen = np.isfinite(some)
        return np.where(seen, some, 0).sum(axis=0, dtype=float), seen.sum(axis=0)

    total, count = np.sum(list(_by_block(sums, y, np.flatnonzero(train) if train.any() else None)), axis=0)
    return total / np.maximum(count, 1)


def squared_errors(y: Array, prediction: Array) -> Array:
    """Sum of squared errors over the observed samples, (condition,); NaN where a prediction is NaN."""
    sums = np.empty(len(y))
    for k, (one, guess) in enumerate(zip(y, prediction, strict=True)):
        error = one - guess
        sums[k] = np.einsum("tn,tn->n", error, error).sum(dtype=float)
        if np.isnan(sums[k]):
            error = np.where(np.isnan(one), np.where(np.isfinite(guess), 0, np.nan), error)
            sums[k] = np.einsum("tn,tn->n", error, error).sum(dtype=float)
    return sums


def as_slice(positions: Array) -> Array | slice:
    """Positions as a slice where they follow each other, so that no copy is needed; else as they are."""
    together = len(positions) > 0 and bool((np.diff(positions) == 1).all())
    return slice(int(positions[0]), int(positions[-1]) + 1) if together else positions


def _by_block(work: Callable[[Array | slice], Found], y: Array, conditions: Array | None) -> Iterator[Found]:
    """``work`` of few conditions at a time, which stay in fast memory: no second copy of a large array."""
    chosen = np.arange(len(y)) if conditions is None else conditions
    step = max(1, BLOCK_VALUES // max(1, y.shape[1] * y.shape[2]))
    return map_in_order(work, (as_slice(chosen[k : k + step]) for k in range(0, max(1, len(chosen)), step)))


def r_squared(y: Array, prediction: Array, reference: Array, conditions: Array | None = None) -> tuple[float, Array]:
    """R² = 1 - sum (y - prediction)² / sum (y - reference)², over everything and per neuron.

    y, prediction: (condition, time, neuron), neurons beyond those of y passed over; reference: (neuron); conditions:
    positions of those that count, None = all. NaN where nothing varies or nothing is given.
    """
    reference = reference.astype(y.dtype)

    def sums(part: Array | slice) -> tuple[Array, Array]:
        some = y[part].reshape(-1, y.shape[2])
        away, off = some - reference, some - prediction[part][:, :, : y.shape[2]].reshape(some.shape)
        if not np.isfinite(away.sum()):
            missing = np.isnan(some)
            away, off = np.where(missing, 0, away), np.where(missing, 0, off)
        return np.einsum("tn,tn->n", off, off), np.einsum("tn,tn->n", away, away)

    error, power = np.sum(list(_by_block(sums, y, conditions)), axis=0, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(power > 0, 1 - error / power, np.nan)
    total = power.sum()
    return (float(1 - error.sum() / total) if total > 0 else float("nan")), each


def by_split(
    y: Array,
    prediction: Array,
    held: Array,
    halves: Array | None = None,
    counts: Array | None = None,
    reference: Array | None = None,
) -> tuple[Array, Array, Array]:
    """R² (2), its ceiling (2; NaN without halves) and R² per neuron (2, neuron) of training and held-out conditions.

    Measured against each neuron's mean over the training conditions. held: boolean (condition); halves, counts: as in
    `ceiling`; reference: that mean, where it is known already.
    """
    reference = reference_of(y, ~held) if reference is None else reference
    r2, top, each = np.full(2, np.nan), np.full(2, np.nan), np.full((2, y.shape[2]), np.nan)
    for k, part in enumerate((~held, held)):
        if part.any():
            r2[k], each[k] = r_squared(y, prediction, reference, np.flatnonzero(part))
            if halves is not None and counts is not None:
                top[k] = ceiling(y[part], halves[:, part], counts[:, part], reference)
    return r2, top, each


def halves_of(activity: xr.Dataset) -> tuple[Array | None, Array | None]:
    """Activity of either half of the trials and their numbers, where there are halves."""
    if "activity_half" not in activity:
        return None, None
    return activity["activity_half"].values, activity["n_trials_half"].values


def noise_power(halves: Array, n_half: Array) -> Array:
    """Noise power of the whole mean (condition, time, neuron) from independent halves of the trials; NaN without both.

    A mean over n trials has noise variance s²/n; the difference of halves has s² (1/n1 + 1/n2): so it is
    (y1 - y2)² n1 n2 / (n1 + n2)². halves: (2, condition, time, neuron); n_half: (2, condition, neuron).
    """
    n1, n2 = n_half[0][:, None, :].astype(float), n_half[1][:, None, :].astype(float)
    share = n1 * n2 / np.maximum(n1 + n2, 1) ** 2
    return np.where(share > 0, (halves[0].astype(float) - halves[1]) ** 2 * share, np.nan)


def ceiling(y: Array, halves: Array, n_half: Array, reference: Array) -> float:
    """R² that the true mean activity would have against these trial means, from independent halves of the trials.

    1 - noise / sum (y - reference)², noise by `noise_power`. Samples that lack a half are left out of both sums.
    """
    if y.size == 0:
        return float("nan")
    noise = noise_power(halves, n_half)
    usable = np.isfinite(noise) & np.isfinite(y)
    power = np.where(usable, (y.astype(float) - reference) ** 2, 0).sum()
    return float(1 - np.where(usable, noise, 0).sum() / power) if power > 0 else float("nan")
