"""What all validations share: parts that are held out in turn, the options of their fits, and the choice of a rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import refuse_trials
from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_with_options
from nwb_lint.model.network import Array
from nwb_lint.model.scores import as_good_as_best
from nwb_lint.options.fits import FitOptions

Prepare = Callable[..., xr.Dataset]
SPLITS = ["train", "held_out"]
SAME_SHARE = 0.01  # of the unexplained variance; a smaller difference chooses no time constant and no link


def conditions_to_use(activity: xr.Dataset | Prepare) -> xr.Dataset:
    """The whole activity without the conditions that its preparation held out: these are for the last score alone."""
    refuse_trials(activity, "read_conditions(...) and prepare(...)")
    if not isinstance(activity, xr.Dataset) and not callable(activity):
        raise ContractError(
            f"activity is a {type(activity).__name__}. It needs to be a Dataset, or a function that prepares one. Call "
            "prepare(...)."
        )
    whole = activity if isinstance(activity, xr.Dataset) else activity(None)
    if "held_out" in whole.coords and whole["held_out"].values.any():
        whole = whole.isel(condition=~whole["held_out"].values).drop_vars("held_out")
    return whole


def folds_of(
    size: int, folds: int, seeds: int = 1, *, first: int = 0, stream: int | None = None, what: str = "conditions"
) -> list[Array]:
    """Boolean masks of the parts that are held out in turn.

    Parameters
    ----------
    size : int
        Number of conditions, or of neurons.
    folds : int
        Disjoint parts for each shuffle.
    seeds : int, default=1
        Number of shuffles.
    first : int, default=0
        Seed of the first shuffle.
    stream : int or None, default=None
        A number makes the shuffle of neurons another one than that of conditions.
    what : str, default="conditions"
        What is divided, for the error message.

    Raises
    ------
    ContractError
        If there are more folds than conditions, or fewer than 2.
    """
    if not 2 <= folds <= size:
        raise ContractError(f"folds is {folds}. There are {size} {what}. Use 2 to {size} folds.")
    masks = []
    for seed in range(first, first + seeds):
        order = np.random.default_rng(seed if stream is None else [seed, stream]).permutation(size)
        masks += [np.isin(np.arange(size), part) for part in np.array_split(order, folds)]
    return masks


def refuse_components(activity: xr.Dataset | Prepare, what: str) -> None:
    """Raise an error for denoised activity: each of its neurons is a mixture of all of them, held-out ones included."""
    if isinstance(activity, xr.Dataset) and "component" in activity:
        raise ContractError(
            f"The activity was denoised on components of all neurons. {what} needs neurons that are independent. "
            "Prepare with n_components=None, or give a function of (training conditions, neurons)."
        )


def shared_options(given: Mapping[str, Any], *, refused: Sequence[str] = (), **own: Any) -> FitOptions:
    """The options of every fit of a validation, checked once.

    ``given`` are the keyword arguments for `fit_lint`, ``own`` those that the validation sets itself.

    Raises
    ------
    ContractError
        If a value is wrong, or if an option is given that the validation must set.
    """
    refuse_own(given, ("test_size", "test_conditions", "checkpoint", *refused))
    return FitOptions.check({**given, **own})


def refuse_own(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse options that every fit of a validation sets itself.

    Raises
    ------
    ContractError
        If one is given.
    """
    for name in names:
        if given.get(name) is not None:
            raise ContractError(f"{name} is {given[name]!r}. Every fit here needs its own. Leave {name} out.")


def fit_with(activity: xr.Dataset, options: FitOptions, **changes: Any) -> xr.Dataset:
    """A fit with these options, some of them changed."""
    return fit_with_options(activity, FitOptions.check(options.arguments() | changes))


def mean_and_sem(values: Array, axis: int) -> tuple[Array, Array]:
    """Mean over folds, and its standard error."""
    return values.mean(axis=axis), values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis])


def behind_the_best(r2: Array) -> tuple[Array, Array]:
    """How far the score of each candidate is below that of the best one, and the standard error of this difference.

    Folds differ in difficulty, which both candidates share. The standard error is therefore that of paired differences.
    Several shuffles of the same conditions are not independent: they are averaged and do not make it smaller.

    Parameters
    ----------
    r2 : array of shape (candidate, shuffle, fold)
        Held-out scores.

    Returns
    -------
    deficit, sem : array of shape (candidate,)
        Both 0 for the best candidate; infinite and NaN for one that diverged.
    """
    with np.errstate(invalid="ignore"):
        difference = r2[int(np.argmax(r2.mean(axis=(1, 2))))] - r2
        variance = difference.var(axis=2, ddof=1).mean(axis=1)
        return difference.mean(axis=(1, 2)), np.sqrt(variance / r2.shape[2])


def about_as_good(r2: Array, deficit: Array, sem: Array) -> Array:
    """Which candidates are at most one standard error behind the best, or `SAME_SHARE` of what the best leaves.

    ``r2`` are their mean scores, the others are from `behind_the_best`.
    """
    return deficit <= np.maximum(np.nan_to_num(sem), SAME_SHARE * (1 - r2.max()))


def smallest_good_rank(ranks: Sequence[int], deficit: Array, sem: Array) -> int:
    """The smallest rank that is at most one standard error behind the best, from `behind_the_best`."""
    good = as_good_as_best(deficit, sem)
    return int(min(rank for rank, one in zip(ranks, good, strict=True) if one))
