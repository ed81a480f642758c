"""The fit with other ranks or ridges, and which of them predict held-out conditions as well as the best one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity
from nwb_lint.contract.columns import held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.options.fits import FitOptions
from nwb_lint.parallel.tasks import as_task
from nwb_lint.validation.ensemble import as_good, fit_member
from nwb_lint.validation.folds import fit_with, folds_of
from nwb_lint.validation.subsampling import refit_options

MOST_FOLDS = 4


class Alternative(NamedTuple):
    """A fit with one other option: which option, its value, the fit, and whether it predicts as well as the best."""

    option: str
    value: float
    fit: xr.Dataset
    as_good: bool


def alternatives(
    fit: xr.Dataset, activity: xr.Dataset | None, ranks: Sequence[int] | None, ridges: bool
) -> Iterator[Alternative]:
    """The fit again on its training conditions, with its own options but other ranks, and then with each single ridge.

    Each is cross-validated on up to four folds of these conditions. It predicts as well as the best one of its kind if
    its errors are at most one standard error larger, paired over conditions.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    activity : xarray.Dataset or None
        The activity that was fitted.
    ranks : sequence of int or None
        Other ranks; that of the fit is always among them.
    ridges : bool
        Whether each of the ridges of the fit is tried by itself.

    Returns
    -------
    iterator of Alternative

    Raises
    ------
    ContractError
        If there is no activity, it is another one, or the fit does not keep its weights.
    """
    if activity is None:
        raise ContractError("activity is missing. Other ranks and ridges need what was fitted. Give activity=...")
    check_activity(activity)
    options = refit_options(fit, activity)
    if activity.sizes["condition"] == fit.sizes["condition"]:
        activity = activity.isel(condition=~held_out_of(fit))
    activity = activity.drop_vars("held_out", errors="ignore")
    options = FitOptions.check(options.arguments() | {"test_conditions": None, "test_size": None, "checkpoint": None})
    number = activity.sizes["condition"]
    held = folds_of(number, min(MOST_FOLDS, number))
    kinds: dict[str, list[float]] = {}
    if ranks is not None and options.areas is not None:
        raise ContractError(
            "The fit has areas, and each block its rank. other_ranks is for fits without. Leave it out."
        )
    if ranks is not None:
        kinds["rank"] = sorted({*ranks, fit.sizes["rank"]})
    if ridges:
        kinds["ridge"] = sorted(options.ridges)
    return (one for kind, values in kinds.items() for one in _of_kind(kind, values, activity, options, held))


def _of_kind(
    kind: str, values: list[float], activity: xr.Dataset, options: FitOptions, held: list[Array]
) -> Iterator[Alternative]:
    """Fits with each of the values, after all of them were scored."""
    changes = [{"rank": int(one)} if kind == "rank" else {"ridges": (float(one),)} for one in values]
    each = [options.model_copy(update=change) for change in changes]
    with as_task():
        errors = np.array([_errors(activity, one, held) for one in each])
    for value, own, good in zip(values, each, as_good(errors), strict=True):
        with as_task():
            found = fit_with(activity, own)
        yield Alternative(kind, float(value), found, bool(good))


def _errors(activity: xr.Dataset, options: FitOptions, held: list[Array]) -> Array:
    """Squared error of each condition while it is held out."""
    errors = np.zeros(activity.sizes["condition"])
    for one in held:
        errors[one] = fit_member(activity, options=options, held_out=one, half=-1)["error"][one]
    return errors
