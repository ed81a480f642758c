"""The units of an open NWB file: which ones, their spike times, and when they were observed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.nwb.counts import Intervals, complement, union, without
from nwb_lint.nwb.h5 import is_dataset, is_group
from nwb_lint.nwb.source import NWBError, load
from nwb_lint.nwb.tables import Table

Array = np.ndarray
UnitChoice = Sequence[int] | Array | str | None

_BULK = 0.25  # of all spikes: where more are wanted, one read of everything is faster


def open_units(file: h5py.File, path: Any) -> Table:
    """The units table.

    Raises: NWBError where there is none, it has no rows, no spike_times, or two units of the same id.
    """
    group = file.get("units")
    if not is_group(group):
        raise NWBError(f"{path} has no units table; sorted units with spike times are needed. Pass another file.")
    table = Table(group, f"units of {path}")
    if not len(table):
        raise NWBError(f"{table.where}: the table has no rows; at least one unit is needed. Pass another file.")
    if "spike_times" not in table.names:
        listed = ", ".join(table.names) or "no columns"
        raise NWBError(f"{table.where} have no spike_times column, which is needed; they have {listed}.")
    ids, counts = np.unique(table.ids, return_counts=True)
    if (counts > 1).any():
        raise NWBError(f"{table.where}: id {ids[counts > 1][0]} occurs twice; ids need to be unique.")
    return table


def choose_rows(table: Table, units: UnitChoice) -> tuple[Array, list[int]]:
    """Rows of the units asked for, in the order of ids asked for or of the table, and the ids it lacks.

    Raises: ContractError where the choice is neither None, a query, nor whole numbers; NWBError where a query
    does not suit the table.
    """
    if units is None:
        return np.arange(len(table)), []
    if isinstance(units, str):
        return np.flatnonzero(table.select(units, "units")), []
    wanted = np.asarray(list(units))
    if wanted.ndim != 1 or (len(wanted) and wanted.dtype.kind not in "iu"):
        raise ContractError(f"units is {units!r}; it needs a list of unit ids, or a query over unit columns.")
    if len(np.unique(wanted)) < len(wanted):
        raise ContractError(f"units names an id twice: {units!r}; name each once.")
    row_of = {int(unit): row for row, unit in enumerate(table.ids)}
    rows = [row_of[int(unit)] for unit in wanted if int(unit) in row_of]
    return np.array(rows, np.int64), [int(unit) for unit in wanted if int(unit) not in row_of]


def read_spikes(table: Table, rows: Array) -> list[Array]:
    """Spike times (s, sorted, float64) of each of the rows.

    Warns, naming units, where spike times are not sorted (they are sorted then) or not finite (left out).

    Raises: NWBError where the column or its index is damaged.
    """
    data, bounds = _ragged(table, "spike_times", 1)
    low, high = bounds[:-1][rows], bounds[1:][rows]
    if (high - low).sum() > _BULK * data.shape[0]:
        values = load(data).reshape(-1).astype(float, copy=False)
        values.flags.writeable = False  # what follows are views
        spikes = [values[a:b] for a, b in zip(low, high, strict=True)]
    else:
        spikes = [data[a:b].reshape(-1).astype(float) for a, b in zip(low, high, strict=True)]
    unfinite, unsorted = [], []
    for k, times in enumerate(spikes):
        finite = np.isfinite(times)
        if not finite.all():
            unfinite.append(int(table.ids[rows[k]]))
            spikes[k] = times = times[finite]
        if (times[1:] < times[:-1]).any():
            unsorted.append(int(table.ids[rows[k]]))
            spikes[k] = np.sort(times)
    _warn(table, unfinite, "have spike times that are not numbers; these were left out")
    _warn(table, unsorted, "have spike times that are not in order; they were sorted")
    return spikes


def read_observed(file: h5py.File, table: Table, rows: Array) -> list[Intervals | None]:
    """When each row was observed: its obs_intervals without the file's invalid_times; None = always."""
    invalid = _invalid_times(file)
    if "obs_intervals" not in table.names or not table.group["obs_intervals"].shape[0]:
        return [None if invalid is None else complement(invalid)] * len(rows)
    data, bounds = _ragged(table, "obs_intervals", 2)
    values = load(data).astype(float)
    found: list[Intervals | None] = []
    for row in rows:
        part = values[bounds[row] : bounds[row + 1]]
        observed = union(part[:, 0], part[:, 1])
        found.append(observed if invalid is None else without(observed, invalid))
    return found


def recorded_span(spikes: list[Array], observed: list[Intervals | None]) -> tuple[float, float] | None:
    """First and last time that the units say anything about, s; None where they say nothing."""
    ends = [(times[0], times[-1]) for times in spikes if len(times)]
    for part in observed:
        if part is not None and len(part.starts) and np.isfinite([part.starts[0], part.ends[-1]]).all():
            ends.append((part.starts[0], part.ends[-1]))
    if not ends:
        return None
    return float(min(first for first, _ in ends)), float(max(last for _, last in ends))


def _invalid_times(file: h5py.File) -> Intervals | None:
    group = file.get("intervals/invalid_times")
    if not is_group(group):
        return None
    table = Table(group, "invalid_times")
    found = union(table.times("start_time"), table.times("stop_time"))
    return found if len(found.starts) else None


def _ragged(table: Table, name: str, width: int) -> tuple[h5py.Dataset, Array]:
    """The values of a ragged column of ``width`` numbers each, and its bounds (row + 1) as int64."""
    data = table.group[name]
    index = table.group.get(f"{name}_index")
    n_values = data.shape[0]
    if data.dtype.kind not in "iuf" or data.size != n_values * width:
        raise NWBError(f"{name} of {table.where} is {data.dtype} of shape {data.shape}; numbers are needed.")
    if is_dataset(index):
        # bounds are often uint8 or uint16, whose differences would wrap
        bounds = np.concatenate([[0], load(index).astype(np.int64)])
    elif len(table) == 1:
        bounds = np.array([0, n_values])
    else:
        raise NWBError(f"{name} of {table.where} has no {name}_index, so its units cannot be told apart.")
    if len(bounds) != len(table) + 1 or bounds[-1] > n_values or (np.diff(bounds) < 0).any():
        raise NWBError(f"{name}_index of {table.where} does not suit {n_values} values of {len(table)} units.")
    return data, bounds


def _warn(table: Table, ids: list[int], told: str) -> None:
    if ids:
        named = ", ".join(map(str, ids[:8])) + (f", … ({len(ids)} in all)" if len(ids) > 8 else "")
        warnings.warn(f"{table.where}: unit{'s' * (len(ids) > 1)} {named} {told}.", stacklevel=4)
