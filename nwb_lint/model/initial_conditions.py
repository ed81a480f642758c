"""An initial activation for each group of conditions: impulses, one input per group, in a step of burn-in before all.

With u = 1 / alpha in that step and x = 0 before it, x after it is the group's column of ``input_weights`` (and what
bias and phi(0) give in one step). So starts are weights like all others: fitted, simulated, written as inputs. A
condition whose group was not in training starts from the mean of the learned ones.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract import column_of, input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.parallel.warnings import warn

COMMON = ("zero", "learned")  # starts that all conditions share; "condition" or a column's name: one each
PREFIX = "start "  # what the names of these inputs begin with
MOST_VALUES = 250_000_000  # condition × time × group values of the impulses' time courses, at most


def with_starts(activity: xr.Dataset, initial: str, held: Array, alpha: float) -> tuple[xr.Dataset, int]:
    """The activity with an impulse for each group among the conditions not ``held``, and how many groups there are.

    Raises: ContractError for an unknown column, an input that has the name of an impulse, or too many groups.
    Warns where held-out conditions have to start from the mean.
    """
    if initial in COMMON:
        return activity, 0
    groups = _groups(activity, initial)
    names = np.unique(groups[~held])
    size = activity.sizes["condition"] * (activity.sizes["time"] + activity.sizes.get("burn_in", 0)) * len(names)
    if size > MOST_VALUES:
        raise ContractError(
            f"initial={initial!r} has {len(names)} groups of {activity.sizes['condition']} conditions, too many for "
            "the memory; give a column with fewer values, or initial='learned'."
        )
    if strange := int((~np.isin(groups, names)).sum()):
        warn(
            f"initial={initial!r}: {strange} held-out conditions are of no group in training; they start from the mean "
            f"of the {len(names)} initial activations learned.",
        )
    out = _with_impulses(activity, groups, names, alpha)
    for name, told in activity.coords.items():
        if told.dims == ("input",) and name != "input":
            out = out.assign_coords({name: ("input", _told(str(name), told.values, initial, names), told.attrs)})
    before = out["time"].values[0] - float(out.attrs["bin_s"]) * np.arange(out.sizes["burn_in"], 0, -1)
    return out.assign_coords(burn_in=("burn_in", before, {"units": "s"})), len(names)


def matched(fit: xr.Dataset, given: xr.Dataset) -> xr.Dataset:
    """Inputs given without the impulses of the fit, with them; others as they are.

    Raises: ContractError where the column that names the groups is not there.
    """
    initial = str(fit.attrs.get("initial", "zero"))
    names = input_names(fit)
    starts = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    own = given.sizes.get("input", 0) == fit.sizes["input"] - len(starts)
    if initial in COMMON or not starts or not own or set(given["u"].dims) != {"condition", "time", "input"}:
        return given
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    return _with_impulses(given, _groups(given, initial), np.array(starts), alpha)


def _groups(dataset: xr.Dataset, initial: str) -> Array:
    """Text (condition): the group of each; a condition without a label is its number."""
    if initial != "condition":
        return column_of(dataset, initial).astype(str)
    if "condition" in dataset.coords:
        return dataset["condition"].values.astype(str)
    return np.arange(dataset.sizes["condition"]).astype(str)


def _told(name: str, values: Array, initial: str, names: Array) -> Array:
    """What is told of the inputs, with as much of the impulses: their column, its values; nothing else."""
    if values.dtype.kind in "OUT":
        more = {"input_column": np.full(len(names), initial), "input_equals": names}
        return np.concatenate([values.astype(str), more.get(name, np.full(len(names), ""))])
    return np.concatenate([values.astype(float), np.full(len(names), np.nan)])


def _with_impulses(dataset: xr.Dataset, groups: Array, names: Array, alpha: float) -> xr.Dataset:
    share = (groups[:, None] == names).astype(np.float32)
    share[~share.any(axis=1)] = 1 / len(names)
    own = input_names(dataset)
    every = [*own, *(PREFIX + str(name) for name in names)]
    if len(set(every)) < len(every):
        raise ContractError(f"an input has the name of an initial activation, {PREFIX}…; give it another name.")
    pad = ((0, 0), (0, 0), (0, len(names)))
    before = dataset["u_burn_in"].values if "u_burn_in" in dataset.variables else None
    first = np.zeros((len(share), 1, len(every)), np.float32)
    first[:, 0, len(own) :] = share / alpha
    parts = [first] if before is None else [first, np.pad(before, pad)]
    out = dataset.drop_dims("input")
    if "burn_in" in out.dims:
        out = out.drop_dims("burn_in")
    elif "burn_in" in out.variables:
        out = out.drop_vars("burn_in")
    out["u"] = ("condition", "time", "input"), np.pad(dataset["u"].values, pad), dataset["u"].attrs
    out["u_burn_in"] = ("condition", "burn_in", "input"), np.concatenate(parts, axis=1)
    return out.assign_coords(input=("input", every))


def for_new_conditions(q: Array, fitted: Array, starts: tuple[int, int]) -> Array:
    """Drives of conditions that a fit to others predicts: a start that ``fitted`` drives lack is the mean of theirs.

    q, fitted (condition, burn-in + time, drive); ``starts``: first and last + 1 of the drives that are starts. q itself
    where no start is lacking.
    """
    a, b = starts
    if a == b:
        return q
    seen = (fitted[:, 1, a:b] > 0).any(axis=0)
    lacking = ~(q[:, 1, a:b] * seen).any(axis=1)
    if not lacking.any():
        return q
    q = q.copy()
    q[lacking, :, a:b] = q[lacking, :, a:b].sum(axis=2, keepdims=True) * (seen / seen.sum())
    return q
