"""What `fit_lint` is asked, checked before anything is computed: options, and an activity that can be fitted."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.model.rnn import Array
from nwb_lint.model.simulate import whole_input

METHODS = ("auto", "regression", "gradient", "published")
LARGEST = 1e12  # of activity and inputs: squares of more overflow in single precision
RIDGE_BY = ("held_out", "gcv", "innovations")


def check_options(activity, rank, tau_s, method, loss, hidden, ridge_by, optimizer) -> None:
    def choice(name: str, value: object, known) -> None:
        if value not in known:
            raise ContractError(f"{name} is {value!r}; it needs to be one of {', '.join(map(repr, known))}.")

    choice("method", method, METHODS)
    choice("loss", loss, ("activity", "rate"))
    choice("optimizer", optimizer, ("auto", "lbfgs", "adam"))
    choice("ridge_by", ridge_by, RIDGE_BY)
    neurons, conditions = activity.sizes["neuron"], activity.sizes["condition"]
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, Integral) or rank < 1):
        raise ContractError(f"rank is {rank!r}; it needs to be a whole number from 1 on, or None.")
    if rank is not None and neurons < rank:
        raise ContractError(f"rank {rank} was asked of {neurons} neurons; use at most rank {neurons}, or more units.")
    if conditions < 2:
        raise ContractError("there is a single condition; a fit needs at least 2. Group by more columns (by=…).")
    if not isinstance(tau_s, Real) or not float(activity.attrs["bin_s"]) <= float(tau_s) < np.inf:
        raise ContractError(f"tau_s is {tau_s}; it needs a number, at least the bin, {activity.attrs['bin_s']:g} s.")
    if rank is None and method not in ("auto", "regression"):
        raise ContractError(f"rank=None is fitted in closed form; method={method!r} needs a rank. Use 'regression'.")
    if hidden and ridge_by == "innovations":
        raise ContractError(
            f"hidden={hidden} units have no recorded rates to predict innovations from; use ridge_by='held_out'."
        )
    if hidden < 0 or (hidden and rank is None):
        raise ContractError(f"hidden={hidden} needs to be 0 or more, and a rank of 1 or more where it is not 0.")


def check_numbers(ridges, max_iter: int, epochs: int, l2_n: float, method: str) -> None:
    if len(ridges) == 0 or not all(isinstance(r, Real) and 0 <= float(r) < np.inf for r in ridges):
        raise ContractError(f"ridges is {ridges!r}; it needs at least one number from 0 on.")
    for name, value in (("max_iter", max_iter), ("epochs", epochs)):
        if not isinstance(value, Integral) or value < 1:
            raise ContractError(f"{name} is {value!r}; it needs a whole number from 1 on.")
    if not isinstance(l2_n, Real) or not 0 <= float(l2_n) < np.inf:
        raise ContractError(f"l2_n is {l2_n!r}; it needs a number from 0 on.")
    if l2_n and method == "published":
        raise ContractError("the published loop has no l2_n; use method='auto' or 'gradient'.")


def check_training(y: Array, held: Array) -> None:
    """Something to fit: finite where observed, not all 0, and every neuron seen in training."""
    seen, most = np.zeros(y.shape[2], bool), 0.0
    for k, one in enumerate(y):
        largest, observed = max(-one.min(initial=0), one.max(initial=0)), np.ones((1, y.shape[2]), bool)
        if np.isnan(largest):
            observed = ~np.isnan(one)
            largest = np.abs(np.where(observed, one, 0)).max(initial=0)
        if not held[k]:
            seen |= observed.any(axis=0)
            most = max(most, largest)
        if largest == np.inf:
            raise ContractError("activity has infinite values; it needs numbers, or NaN where nothing was observed.")
        if largest > LARGEST:
            raise ContractError(
                f"activity reaches beyond {LARGEST:g}, too far for single precision; give prepare a scale."
            )
    if not seen.all():
        raise ContractError(
            f"{int((~seen).sum())} of {len(seen)} neurons have no observed sample in the training conditions; "
            "drop them, or hold out other conditions."
        )
    if most == 0:
        raise ContractError("activity is 0 in every training condition, so there is nothing to fit; check the scale.")


def check_inputs(activity: xr.Dataset) -> None:
    if np.abs(whole_input(activity)).max(initial=0) > LARGEST:
        raise ContractError(
            f"input reaches beyond {LARGEST:g}, too far for single precision; give Input(..., scale=…)."
        )
