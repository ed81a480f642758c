"""Columns and names on the dims of a Dataset: of conditions, trials, neurons and inputs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import xarray as xr

from nwb_lint.contract.results import RESULTS
from nwb_lint.contract.values import as_text_column
from nwb_lint.errors import ContractError

# What stands before the name of a column whose own name is taken.
_PREFIXES = {"condition": "trial", "trial": "trial", "neuron": "unit"}


def coords_along(dataset: xr.Dataset | xr.DataArray, *dims: str, kind: str = "") -> dict[str, xr.Variable]:
    """The coordinates of each of these dims: labels and columns, by name.

    ``kind`` is that of the result that they go into. A column gets another name where the result has a variable or dim
    of its name: "context" of the conditions becomes "condition_context".
    """
    own = [(dim,) for dim in dims]
    found = {str(name): variable for name, variable in dataset.coords.variables.items() if variable.dims in own}
    if not kind:
        return found
    taken = {name for var in RESULTS[kind].values() for name in var.dims}.union(RESULTS[kind]) - set(dims)
    for dim in dims:
        columns = {name: variable for name, variable in found.items() if variable.dims == (dim,)}
        for name, free in free_names(columns, taken, dim).items():
            if free != name:
                found[free] = renamed(found.pop(name), name, free)
    return found


def free_names(names: Collection[str], taken: Collection[str], prefix: str) -> dict[str, str]:
    """The name of the coordinate of each column: its own, or ``prefix_name`` where that is taken."""
    found: dict[str, str] = {}
    for name in names:
        free = f"{prefix}_{name}" if name in taken else name
        while free != name and (free in taken or free in names or free in found.values()):
            free += "_"
        found[name] = free
    return found


def renamed(variable: xr.Variable, name: str, new: str) -> xr.Variable:
    """A column under a new name; its attribute ``column`` keeps the name that it has in its file."""
    if name == new:
        return variable
    return xr.Variable(variable.dims, variable.values, {"column": name} | variable.attrs)


def columns_of(dataset: xr.Dataset | xr.DataArray, dim: str) -> dict[str, xr.Variable]:
    """The columns of the conditions, trials or neurons, by the name that each has in its file.

    The coordinate of a column may have another name, such as ``trial_condition`` for the column ``condition``. It is
    found by either.
    """
    there = {name: variable for name, variable in coords_along(dataset, dim).items() if name != dim}
    own = {str(variable.attrs["column"]): variable for variable in there.values() if "column" in variable.attrs}
    plain = {name: variable for name, variable in there.items() if "column" not in variable.attrs}
    return plain | own


def find_column(dataset: xr.Dataset | xr.DataArray, column: str, dim: str) -> xr.Variable | None:
    """A column by its name in the file or the name of its coordinate; None where there is none."""
    there = coords_along(dataset, dim)
    # files of earlier versions do not say which column a coordinate is
    names = [*([column] if column != dim else []), f"{dim}_{column}", f"{_PREFIXES.get(dim, dim)}_{column}"]
    found = [there[name] for name in names if name in there]
    return columns_of(dataset, dim).get(column, found[0] if found else None)


def column_of(dataset: xr.Dataset, column: str) -> np.ndarray:
    """Values of a column of the conditions, texts as texts.

    Raises
    ------
    ContractError
        If there is no such column.
    """
    found = find_column(dataset, column, "condition")
    if found is None:
        there = ", ".join(columns_of(dataset, "condition")) or "none"
        raise ContractError(f"conditions have no column {column!r}; they have {there}.")
    return as_text_column(found.values)


def held_out_of(dataset: xr.Dataset) -> np.ndarray:
    """Boolean (condition): whether it was held out; nobody where the Dataset does not say."""
    return _flags(dataset, "held_out", "condition", False)


def recorded_of(dataset: xr.Dataset) -> np.ndarray:
    """Boolean (neuron): whether it was recorded; everybody where the Dataset does not say."""
    return _flags(dataset, "recorded", "neuron", True)


def _flags(dataset: xr.Dataset, name: str, dim: str, absent: bool) -> np.ndarray:
    return dataset[name].values if name in dataset.coords else np.full(dataset.sizes[dim], absent)


def input_names(dataset: xr.Dataset) -> list[str]:
    """Names of the inputs; their numbers, from 1 on, where they have none."""
    if "input" in dataset.coords:
        return [str(name) for name in dataset["input"].values]
    return [str(k + 1) for k in range(dataset.sizes["input"])]


def named_inputs(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """The coordinate with the labels of the inputs, where there is one."""
    return {k: v for k, v in coords_along(dataset, "input").items() if k == "input"}
