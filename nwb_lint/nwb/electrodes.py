"""Unit columns, also those of the electrodes that units were recorded on: whole columns at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nwb_lint.nwb.h5 import is_group
from nwb_lint.nwb.source import NWBError, load
from nwb_lint.nwb.tables import Table
from nwb_lint.nwb.units import read_bounds
from nwb_lint.query import as_texts

Array = np.ndarray

ELECTRODES = "general/extracellular_ephys/electrodes"


def columns_of_units(units: Table, rows: Array, names: Sequence[str]) -> dict[str, Array]:
    """Columns of the units table, else of the electrodes of each unit, for the chosen rows.

    ``electrode_group`` is the name of the group. A unit of several electrodes has the distinct values of them
    all, in their order, with a comma between; one of none has '' (NaN where the column holds numbers).

    Raises: NWBError where neither table has such a column; the message lists those of both.
    """
    return {name: _column(units, name)[rows] for name in names}


def _column(units: Table, name: str) -> Array:
    if name in units.names or name == "id":
        return units.along(name)
    group = units.group.file.get(ELECTRODES)
    if "electrodes" not in units.names or not is_group(group):
        return units.column(name)  # which raises, or gives the ids
    electrodes = Table(group, f"electrodes of {units.where}")
    if name == "electrode_group" and name not in electrodes.names:
        name = "group_name" if "group_name" in electrodes.names else "group"
    if name not in electrodes.names:
        raise NWBError(
            f"{units.where} have no column {name!r}, nor do their electrodes; they have {', '.join(units.names)}; "
            f"electrodes have {', '.join(electrodes.names) or 'none'}."
        )
    return _over_electrodes(units, electrodes, electrodes.along(name))


def _over_electrodes(units: Table, electrodes: Table, values: Array) -> Array:
    """The values of each unit's electrodes: the one, or the distinct ones as a text."""
    region = units.group["electrodes"]
    # old files have one electrode per unit and no index
    per_unit = len(region) == len(units) and not units.is_ragged("electrodes")
    bounds = np.arange(len(units) + 1) if per_unit else read_bounds(units, "electrodes")
    listed = load(region).astype(np.int64).reshape(len(region), -1)
    unit = np.repeat(np.arange(len(units)), np.diff(bounds) * listed.shape[1])
    at = listed[: bounds[-1]].ravel()
    if len(at) and not (at.min() >= 0 and at.max() < len(electrodes)):
        odd = at[(at < 0) | (at >= len(electrodes))][0]
        raise NWBError(f"{units.where} name electrode {odd} of {len(electrodes)}: damaged. Leave that column out.")
    codes = np.unique(values, return_inverse=True)[1][at]
    # the first of every distinct pair (unit, value), in the order of the electrodes
    first = np.sort(np.unique(unit * (int(codes.max(initial=0)) + 1) + codes, return_index=True)[1])
    unit, found = unit[first], values[at[first]]
    several = bool((np.bincount(unit, minlength=1) > 1).any())
    if values.dtype.kind != "U" and not several:
        whole = np.full(len(units), np.nan) if len(unit) < len(units) else np.empty(len(units), values.dtype)
        whole[unit] = found
        return whole
    parts: list[list[str]] = [[] for _ in range(len(units))]
    for row, text in zip(unit.tolist(), as_texts(found), strict=True):
        parts[row].append(text)
    return np.array([", ".join(part) for part in parts], dtype=str)
