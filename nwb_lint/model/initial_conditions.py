"""One initial activation for each group of conditions, as impulses: one input per group, in a step of burn-in.

With u = 1 / alpha in that step and x = 0 before it, the activation after it is the group's column of ``input_weights``
(plus what bias and phi(0) give in one step). Initial activations are therefore weights like all others: they are
fitted, simulated, and written to files as inputs. A condition whose group was not in training starts from the
combination of the learned initial activations that is nearest to its own first sample (`from_first_sample`), or from
their mean where no activity is known.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import column_of, input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, Network, Nonlinearity, drives, forward
from nwb_lint.model.tuning import MAX_IMPULSE_VALUES, SINGULAR_CUTOFF, START_ITERATIONS
from nwb_lint.parallel.warnings import warn

COMMON = (
    "zero",
    "learned",
    "common",
)  # values of ``initial`` for one activation of all conditions; others name the groups
PREFIX = "start "  # names of the impulses begin with this


def with_starts(activity: xr.Dataset, initial: str, held: Array, alpha: float) -> tuple[xr.Dataset, int, Array]:
    """Add an impulse for each group of the training conditions.

    Held-out conditions of other groups get the mean of the groups, until their first sample is used, with a warning.

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
    unknown : bool array of shape (condition,)
        Conditions whose group was not in training.

    Raises
    ------
    ContractError
        If the column does not exist, an input has the name of an impulse, or there are too many groups.
    """
    if initial in COMMON:
        return activity, 0, np.zeros(len(held), bool)
    groups = _groups(activity, initial)
    names = np.unique(groups[~held])
    size = activity.sizes["condition"] * (activity.sizes["time"] + activity.sizes.get("burn_in", 0)) * len(names)
    if size > MAX_IMPULSE_VALUES:
        raise ContractError(
            f"initial={initial!r} has {len(names)} groups of {activity.sizes['condition']} conditions. They do not fit "
            "in memory. Give a column with fewer values, or initial='learned'."
        )
    unknown = ~np.isin(groups, names)
    if unknown.any():
        warn(
            f"initial={initial!r}: {int(unknown.sum())} held-out conditions belong to no group of the training "
            f"conditions. They start from the combination of the {len(names)} initial activations that is nearest to "
            "their own first sample."
        )
    out, _ = _with_impulses(activity, groups, names, alpha)
    for name, column in activity.coords.items():
        if column.dims == ("input",) and name != "input":
            values = _extend_column(str(name), column.values, initial, names)
            out = out.assign_coords({name: ("input", values, column.attrs)})
    before = out["time"].values[0] - float(out.attrs["bin_s"]) * np.arange(out.sizes["burn_in"], 0, -1)
    return out.assign_coords(burn_in=("burn_in", before, {"units": "s"})), len(names), unknown


def matched(fit: xr.Dataset, given: xr.Dataset, network: Network) -> xr.Dataset:
    """Add the impulses of a fit to inputs that lack them.

    Conditions of other groups start from their own first sample if ``given`` has the activity, else from the mean.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    given : xarray.Dataset
        Inputs ``u (condition, time, input)`` and the columns of the conditions.
    network : Network
        The network of the fit.

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
    out, unknown = _with_impulses(given, _groups(given, initial), np.array(groups), alpha)
    index = fit.indexes["neuron"].get_indexer(given["neuron"].values) if "activity" in given else np.array([-1])
    if not unknown.any() or (index < 0).any():
        return out
    y = given["activity"].values[unknown]
    aligned = np.full((*y.shape[:2], network.n_neurons), np.nan, np.float32)
    aligned[..., index] = y
    u = np.concatenate([out["u_burn_in"].values, out["u"].values], axis=1)
    starts = u.shape[2] - len(groups), u.shape[2]
    run = drives(u[unknown], alpha, bias=True, initial=True), alpha, fit.attrs.get("nonlinearity", "tanh")
    return with_shares(out, unknown, from_first_sample(network, aligned, *run, starts), starts, alpha)


def with_shares(dataset: xr.Dataset, which: Array, q: Array, starts: tuple[int, int], alpha: float) -> xr.Dataset:
    """Inputs whose impulses, in some conditions, are those of the drives ``q`` of these conditions."""
    u = dataset["u_burn_in"].values.copy()
    u[which, 0, slice(*starts)] = q[:, 1, slice(*starts)] / alpha
    return dataset.assign(u_burn_in=(dataset["u_burn_in"].dims, u, dataset["u_burn_in"].attrs))


def from_first_sample(
    network: Network, x: Array, q: Array, alpha: float, nonlinearity: str | Nonlinearity, starts: tuple[int, int]
) -> Array:
    """Drives of conditions that start from the combination of initial activations nearest to their first sample.

    Parameters
    ----------
    network : Network
        Its weights of the impulses are the initial activations; those of groups that it was not fitted to are 0.
    x : array of shape (condition, time, neuron)
        Activity; NaN = not observed. A condition without an observed first sample keeps its drives.
    q : array of shape (condition, burn-in + time, drive)
        Drives, with any shares of the impulses.
    alpha, nonlinearity
        As in `network.forward`.
    starts : tuple of int
        First and last + 1 of the drives that are impulses.

    Returns
    -------
    array of the shape of ``q``
    """
    part, skip = slice(*starts), q.shape[1] - x.shape[1]
    course, out = q[:, :, part].sum(axis=2), q.copy()
    columns = network.w[: x.shape[2], part]
    for _ in range(1 if skip == 1 else START_ITERATIONS):  # a longer burn-in runs from the start to the first sample
        first = forward(network, out[:, : skip + 1], alpha, nonlinearity)[0][:, skip, : x.shape[2]]
        left = x[:, 0] - first + out[:, skip, part] @ columns.T
        for k, row in enumerate(left):
            seen = np.isfinite(row)
            if seen.any() and course[k, skip] > 0:
                shares = np.linalg.lstsq(columns[seen] * course[k, skip], row[seen], rcond=SINGULAR_CUTOFF)[0]
                out[k, :, part] = course[k, :, None] * shares
    return out


def for_new_conditions(q: Array, fitted: Array, starts: tuple[int, int]) -> tuple[Array, Array | None]:
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
    drives : array of the shape of ``q``
        ``q`` itself if nothing is replaced.
    new : bool array of shape (condition,) or None
        Conditions whose impulses were replaced.
    """
    a, b = starts
    if a == b:
        return q, None
    known = (fitted[:, 1, a:b] > 0).any(axis=0)
    new = np.logical_not((q[:, 1, a:b] * known).any(axis=1))
    if not new.any():
        return q, None
    q = q.copy()
    q[new, :, a:b] = q[new, :, a:b].sum(axis=2, keepdims=True) * (known / known.sum())
    return q, new


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


def _with_impulses(dataset: xr.Dataset, groups: Array, names: Array, alpha: float) -> tuple[xr.Dataset, Array]:
    """The inputs with an impulse for each of the groups named; conditions of other groups get the mean of all.

    Also returns which conditions are of other groups.
    """
    share = (groups[:, None] == names).astype(np.float32)
    unknown = ~share.any(axis=1)
    share[unknown] = 1 / len(names)
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
    return out.assign_coords(input=("input", every)), unknown
