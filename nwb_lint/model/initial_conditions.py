"""One initial activation for each group of conditions, as impulses: one input per group, in a step of burn-in.

With u = 1 / alpha in that step and x = 0 before it, the activation after it is the group's column of ``input_weights``
(plus what bias and phi(0) give in one step). Initial activations are therefore weights like all others: they are
fitted, simulated, and written to files as inputs. A condition whose group was not in training starts from the mean of
the groups that were.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract import column_of, input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import MAX_IMPULSE_VALUES
from nwb_lint.parallel.warnings import warn

COMMON = ("zero", "learned")  # values of ``initial`` for one activation of all conditions; others name the groups
PREFIX = "start "  # names of the impulses begin with this


def with_starts(activity: xr.Dataset, initial: str, held: Array, alpha: float) -> tuple[xr.Dataset, int]:
    """Add an impulse for each group of the training conditions.

    Held-out conditions of other groups start from the mean of the groups, with a warning.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`.
    initial : str
        "condition", or a column of the conditions. For "zero" and "learned", nothing is added.
    held : bool array of shape (condition,)
        Held-out conditions.
    alpha : float
        Time step / time constant.

    Returns
    -------
    activity : xarray.Dataset
        With the impulses as the last inputs, and one more step of burn-in.
    n_groups : int
        Number of impulses.

    Raises
    ------
    ContractError
        If the column does not exist, an input has the name of an impulse, or there are too many groups.
    """
    if initial in COMMON:
        return activity, 0
    groups = _groups(activity, initial)
    names = np.unique(groups[~held])
    size = activity.sizes["condition"] * (activity.sizes["time"] + activity.sizes.get("burn_in", 0)) * len(names)
    if size > MAX_IMPULSE_VALUES:
        raise ContractError(
            f"initial={initial!r} has {len(names)} groups of {activity.sizes['condition']} conditions. They do not fit "
            "in memory. Give a column with fewer values, or initial='learned'."
        )
    if unknown := int((~np.isin(groups, names)).sum()):
        warn(
            f"initial={initial!r}: {unknown} held-out conditions belong to no group of the training conditions. They "
            f"start from the mean of the {len(names)} initial activations."
        )
    out = _with_impulses(activity, groups, names, alpha)
    for name, column in activity.coords.items():
        if column.dims == ("input",) and name != "input":
            values = _extend_column(str(name), column.values, initial, names)
            out = out.assign_coords({name: ("input", values, column.attrs)})
    before = out["time"].values[0] - float(out.attrs["bin_s"]) * np.arange(out.sizes["burn_in"], 0, -1)
    return out.assign_coords(burn_in=("burn_in", before, {"units": "s"})), len(names)


def matched(fit: xr.Dataset, given: xr.Dataset) -> xr.Dataset:
    """Add the impulses of a fit to inputs that lack them.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    given : xarray.Dataset
        Inputs ``u (condition, time, input)`` and the columns of the conditions.

    Returns
    -------
    xarray.Dataset
        ``given`` itself if the fit has no impulses, or if ``given`` has them.

    Raises
    ------
    ContractError
        If the column that names the groups does not exist.
    """
    initial = str(fit.attrs.get("initial", "zero"))
    names = input_names(fit)
    groups = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    lacks_impulses = given.sizes.get("input", 0) == fit.sizes["input"] - len(groups)
    complete = set(given["u"].dims) == {"condition", "time", "input"}
    if initial in COMMON or not groups or not lacks_impulses or not complete:
        return given
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    return _with_impulses(given, _groups(given, initial), np.array(groups), alpha)


def for_new_conditions(q: Array, fitted: Array, starts: tuple[int, int]) -> Array:
    """Replace impulses that the fitted conditions lack by the mean of those that they have.

    Parameters
    ----------
    q : array of shape (condition, burn-in + time, drive)
        Drives of new conditions.
    fitted : array of shape (condition, burn-in + time, drive)
        Drives of the fitted conditions.
    starts : tuple of int
        First and last + 1 of the drives that are impulses.

    Returns
    -------
    array of the shape of ``q``
        ``q`` itself if nothing is replaced.
    """
    a, b = starts
    if a == b:
        return q
    known = (fitted[:, 1, a:b] > 0).any(axis=0)
    new = ~(q[:, 1, a:b] * known).any(axis=1)
    if not new.any():
        return q
    q = q.copy()
    q[new, :, a:b] = q[new, :, a:b].sum(axis=2, keepdims=True) * (known / known.sum())
    return q


def _groups(dataset: xr.Dataset, initial: str) -> Array:
    """The group of each condition as text; conditions without labels are numbered."""
    if initial != "condition":
        return column_of(dataset, initial).astype(str)
    if "condition" in dataset.coords:
        return dataset["condition"].values.astype(str)
    return np.arange(dataset.sizes["condition"]).astype(str)


def _extend_column(name: str, values: Array, initial: str, groups: Array) -> Array:
    """A column of the inputs with values for the impulses: their trial column and its value, else nothing."""
    if values.dtype.kind in "OUT":
        added = {"input_column": np.full(len(groups), initial), "input_equals": groups}
        return np.concatenate([values.astype(str), added.get(name, np.full(len(groups), ""))])
    return np.concatenate([values.astype(float), np.full(len(groups), np.nan)])


def _with_impulses(dataset: xr.Dataset, groups: Array, names: Array, alpha: float) -> xr.Dataset:
    """The inputs with an impulse for each of the groups named; conditions of other groups get the mean of all."""
    share = (groups[:, None] == names).astype(np.float32)
    share[~share.any(axis=1)] = 1 / len(names)
    own = input_names(dataset)
    every = [*own, *(PREFIX + str(name) for name in names)]
    if len(set(every)) < len(every):
        raise ContractError(
            f"An input has the name of an initial activation ({PREFIX}…). Names must differ. Rename the input."
        )
    pad = ((0, 0), (0, 0), (0, len(names)))
    impulse = np.zeros((len(share), 1, len(every)), np.float32)
    impulse[:, 0, len(own) :] = share / alpha
    before = [np.pad(dataset["u_burn_in"].values, pad)] if "u_burn_in" in dataset.variables else []
    out = dataset.drop_dims("input")
    if "burn_in" in out.dims:
        out = out.drop_dims("burn_in")
    elif "burn_in" in out.variables:
        out = out.drop_vars("burn_in")
    out["u"] = ("condition", "time", "input"), np.pad(dataset["u"].values, pad), dataset["u"].attrs
    out["u_burn_in"] = ("condition", "burn_in", "input"), np.concatenate([impulse, *before], axis=1)
    return out.assign_coords(input=("input", every))
