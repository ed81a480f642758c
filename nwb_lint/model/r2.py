"""Share of variance explained, and the most that noise lets anybody explain. NaN samples do not count."""

from __future__ import annotations

import numpy as np

from nwb_lint.model.rnn import Array


def reference_of(y: Array, train: Array) -> Array:
    """What R² is measured against: each neuron's mean over time and the training conditions (all, where none)."""
    kept = y[train] if train.any() else y
    observed = np.isfinite(kept)
    total = np.where(observed, kept, 0).sum(axis=(0, 1), dtype=float)
    return total / np.maximum(observed.sum(axis=(0, 1)), 1)


def squared_errors(y: Array, prediction: Array) -> Array:
    """Sum of squared errors over the observed samples, (condition,); NaN where a prediction is NaN."""
    error = y - prediction
    missing = np.isnan(y)
    if missing.any():
        error = np.where(missing, 0 * prediction, error)
    return np.einsum("ctn,ctn->ct", error, error).sum(axis=1, dtype=float)


def r_squared(y: Array, prediction: Array, reference: Array) -> tuple[float, Array]:
    """R² = 1 - sum (y - prediction)² / sum (y - reference)², over everything and per neuron.

    y, prediction: (condition, time, neuron); reference: (neuron). NaN where nothing varies or nothing is given.
    """
    y = y.astype(float)
    prediction = prediction.astype(float)
    error = np.nansum((y - prediction) ** 2, axis=(0, 1))
    power = np.nansum((y - reference) ** 2, axis=(0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(power > 0, 1 - error / power, np.nan)
    total = power.sum()
    return (float(1 - error.sum() / total) if total > 0 else float("nan")), each


def ceiling(y: Array, halves: Array, n_half: Array, reference: Array) -> float:
    """R² that the true mean activity would have against these trial means, from independent halves of the trials.

    A mean over n trials has noise variance s²/n; the difference of halves has s² (1/n1 + 1/n2): so the noise power of
    the whole mean is (y1 - y2)² n1 n2 / (n1 + n2)², and the ceiling 1 - noise / sum (y - reference)². Samples that
    lack a half are left out of both sums. halves: (2, condition, time, neuron); n_half: (2, condition, neuron).
    """
    if y.size == 0:
        return float("nan")
    n1, n2 = n_half[0][:, None, :].astype(float), n_half[1][:, None, :].astype(float)
    share = n1 * n2 / np.maximum(n1 + n2, 1) ** 2
    noise = (halves[0].astype(float) - halves[1]) ** 2 * share
    usable = np.isfinite(noise) & np.isfinite(y) & (share > 0)
    power = np.where(usable, (y.astype(float) - reference) ** 2, 0).sum()
    return float(1 - np.where(usable, noise, 0).sum() / power) if power > 0 else float("nan")
