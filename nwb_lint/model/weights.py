"""What of an activity counts in a fit, and how much: masks, trial halves as instruments, weights of the neurons."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.model.r2 import noise_power
from nwb_lint.model.rnn import Array

_MOST_COPIED = 2048  # neurons whose halves are copied
FLOOR = 0.01  # a neuron's noise variance is taken as at least this share of the median one


def unmasked(activity: xr.Dataset) -> xr.Dataset:
    """The activity with NaN where its ``mask`` is False, in the mean and in the halves."""
    if "mask" not in activity:
        return activity
    counts = activity["mask"]
    names = [name for name in ("activity", "activity_half") if name in activity]
    return activity.assign({name: activity[name].where(counts) for name in names})


def instruments_of(activity: xr.Dataset) -> Array | None:
    """activity_half as float32; None where there is none, no sample has both, or neurons are too many for copies."""
    if "activity_half" not in activity or activity.sizes["neuron"] > _MOST_COPIED:
        return None
    halves = activity["activity_half"].values.astype(np.float32, copy=False)
    return halves if np.isfinite(halves[0] + halves[1]).any() else None


def weights_of(activity: xr.Dataset, weights: object, train: Array) -> Array | None:
    """Weights w (neuron) of mean 1 for the loss sum_i w_i (x_i - prediction)^2; None = equal.

    "precision": 1 / noise variance of the neuron's means in the training conditions (boolean ``train``). Halves with n1
    and n2 trials give it (`r2.noise_power`); else it is taken as
    1 / n_trials, the noise of single trials being alike.

    Raises: ContractError for another text, numbers below 0 or not finite, all 0, not one for each neuron, or
        "precision" where there are neither halves nor trial numbers.
    """
    neurons = activity.sizes["neuron"]
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "precision":
            raise ContractError(f"weights is {weights!r}; it needs to be 'precision', an array over neuron, or None.")
        return _mean_one(_precision(activity, train))
    try:
        given = np.asarray(weights, float)
    except (TypeError, ValueError):
        raise ContractError(f"weights is {weights!r}; it needs numbers, one for each neuron.") from None
    if given.shape != (neurons,):
        raise ContractError(f"weights has shape {given.shape}; it needs one number for each of {neurons} neurons.")
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ContractError("weights has values below 0 or not finite, or is 0 throughout; it needs numbers from 0 on.")
    return _mean_one(given)


def _mean_one(weights: Array) -> Array:
    return (weights / weights.mean()).astype(np.float32)


def _precision(activity: xr.Dataset, train: Array) -> Array:
    if "activity_half" in activity and "n_trials_half" in activity:
        halves, counts = activity["activity_half"].values[:, train], activity["n_trials_half"].values[:, train]
        noise = noise_power(halves, counts)
        known = np.isfinite(noise)
        number = known.sum(axis=(0, 1))
        variance = np.where(known, noise, 0).sum(axis=(0, 1)) / np.maximum(number, 1)
    elif "n_trials" in activity:
        trials = np.asarray(activity["n_trials"].values, float)[train].mean(axis=0)
        number, variance = trials, 1 / np.maximum(trials, FLOOR)
    else:
        raise ContractError(
            "weights='precision' needs activity_half and n_trials_half, or n_trials; the activity has neither. "
            "Give an array of weights, or read with halves."
        )
    middle = np.median(variance[(number > 0) & (variance > 0)]) if ((number > 0) & (variance > 0)).any() else 1.0
    return 1 / np.maximum(np.where(number > 0, variance, middle), FLOOR * middle)
