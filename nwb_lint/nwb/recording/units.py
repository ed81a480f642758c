"""The units of an open NWB file: which ones, their spike times, and when they were observed.

Unit columns, also those of the electrodes that units were recorded on: whole columns at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.binning import OBSERVED_S, Intervals, complement, union, without
from nwb_lint.nwb.recording.events import activity_paths
from nwb_lint.nwb.recording.tables import Table
from nwb_lint.nwb.storage.h5 import check_size, is_dataset, is_group, load
from nwb_lint.nwb.storage.prefetch import fetch_rows, streamed
from nwb_lint.parallel.warnings import warn
from nwb_lint.query import as_texts

Array = np.ndarray
UnitChoice = Sequence[int] | Array | str | None

_RESTART, _EARLY = 0.3, 0.6  # of a unit's span, of the trials' reach: see `_refuse_restarts`
_BULK = 0.25  # of all spikes: where more are wanted, reading what lies between is faster
_BLOCK = 1 << 17  # spikes in memory at a time: 1 MB, which stays in the cache of a processor
_STREAMED_BLOCK = 1 << 23  # fewer, larger requests: 64 MB
_GAP = 1 << 13  # spikes between two units that one read may pass over


def open_units(file: h5py.File, path: Any) -> Table:
    """The units table.

    Raises: NWBError where there is none, it has no rows, no spike_times, or two units of the same id.
    """
    group = file.get("units")
    if not is_group(group):
        series = activity_paths(file)
        other = f", or one of its series as series=: {', '.join(series[:12])}" if series else ""
        raise NWBError(
            f"{path} has no units table; sorted units with spike times are needed. Pass another file{other}."
        )
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


def spike_blocks(table: Table, rows: Array, reach_s: float | None = None) -> Iterator[tuple[Array, list[Array]]]:
    """Spike times (s, sorted, float64) of the rows, block by block: positions in ``rows``, and the times of each.

    A block is one read of at most `_BLOCK` spikes (or one unit), in the order of the file: memory is bounded
    whatever the file holds. Tells, naming units, where spike times are not sorted (they are sorted then) or
    not finite (left out).

    Raises: NWBError where the column or its index is damaged; where spike times start over and over and end
    long before ``reach_s``, the last time of the trials: then they are not times of the session.
    """
    data, bounds = _ragged(table, "spike_times", 1)
    check_size(data)
    low, high = bounds[:-1][rows], bounds[1:][rows]
    bulk = (high - low).sum() > _BULK * data.shape[0]
    apart = streamed(data) is not None and not bulk  # a stream is not asked for what lies between
    odd = _Odd(table, reach_s)
    begin, end = _side_by_side(low, high) if apart else (low, high)
    for positions in _runs(begin, end, data, bulk):
        first, last = low[positions[0]], high[positions[-1]]
        fetch_rows(data, low[positions] if apart else [first], high[positions] if apart else [last])
        values = None if apart else data[first:last].reshape(-1).astype(float, copy=False)
        spikes = []
        for k in positions:
            if values is None:
                times = data[low[k] : high[k]].reshape(-1).astype(float, copy=False)
            else:
                times = values[low[k] - first : high[k] - first]
            # one pass finds both: a comparison with NaN is false, and what is in order is infinite at its ends
            if not (times[1:] >= times[:-1]).all() or not np.isfinite(times[[0, -1]] if len(times) else 0).all():
                times = odd.mended(times, int(table.ids[rows[k]]))
            spikes.append(times)
        yield positions, spikes
    odd.warn()


def n_spikes(table: Table) -> Array:
    """Number of spikes of every row, from the index alone."""
    return np.diff(_ragged(table, "spike_times", 1)[1])


def _side_by_side(low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds of the same units as if nothing lay between them."""
    order, sizes = np.lexsort((high, low)), high - low
    ends = np.empty_like(sizes)
    ends[order] = np.cumsum(sizes[order])
    return ends - sizes, ends


def _runs(low: Array, high: Array, data: h5py.Dataset, bulk: bool) -> Iterator[Array]:
    """Positions of units that are read at once: near each other in the file and not too many spikes."""
    stored = data.chunks[0] if data.chunks else 0  # a chunk is read whole, so what is left of it costs nothing
    gap = data.shape[0] if bulk else max(_GAP, stored)
    most = max(_BLOCK if streamed(data) is None else _STREAMED_BLOCK, stored)
    order = np.lexsort((high, low))
    first = 0
    for k in range(1, len(order) + 1):
        if k == len(order) or high[order[k]] - low[order[first]] > most or low[order[k]] - high[order[k - 1]] > gap:
            yield order[first:k]
            first = k


class _Odd:
    """Units whose spike times are not numbers or not in order: mended one by one, told together."""

    def __init__(self, table: Table, reach_s: float | None) -> None:
        self.table, self.reach_s = table, reach_s
        self.unfinite: list[int] = []
        self.unsorted: list[int] = []
        self.steps = ""

    def mended(self, times: Array, unit: int) -> Array:
        """The times that are numbers, sorted; raises NWBError where they start over (`_refuse_restarts`)."""
        finite = np.isfinite(times)
        if not finite.all():
            self.unfinite.append(unit)
            times = times[finite]
        if (times[1:] < times[:-1]).any():
            _refuse_restarts(self.table, unit, times, self.reach_s)
            self.unsorted.append(unit)
            self.steps = self.steps or _steps_back(times)
            times = np.sort(times)
        return times

    def warn(self) -> None:
        """Warn of them, if there are any."""
        _warn(self.table, self.unfinite, "have spike times that are not numbers; these were left out")
        _warn(self.table, self.unsorted, f"have spike times that are not in order ({self.steps}); they were sorted")


def _steps_back(times: Array) -> str:
    back = np.flatnonzero(times[1:] < times[:-1])
    return (
        f"{len(back)} of {len(times) - 1} steps go back, the first from {times[back[0]]:g} to {times[back[0] + 1]:g} s"
    )


def _refuse_restarts(table: Table, unit: int, times: Array, reach_s: float | None) -> None:
    """Raise where steps back are as long as the whole, and the whole ends before the trials do.

    A unit merged of several, one after the other, steps back as far, but lasts as long as the trials.
    """
    steps = np.diff(times)
    span = times.max() - times.min()
    if reach_s is None or np.median(-steps[steps < 0]) < _RESTART * span or times.max() >= _EARLY * reach_s:
        return
    raise NWBError(
        f"{table.where}: spike times of unit {unit} start over ({_steps_back(times)}) and end at {times.max():g} s, "
        f"while trials reach {reach_s:g} s: they are relative to trials or blocks. Times since the session's start "
        "are needed; leave such units out with units=."
    )


def has_observed(table: Table) -> bool:
    """Whether the file says when its units were observed."""
    return "obs_intervals" in table.names and bool(table.group["obs_intervals"].shape[0])


def valid_times(file: h5py.File) -> Intervals | None:
    """The time outside the file's invalid_times; None = always."""
    invalid = _invalid_times(file)
    return None if invalid is None else complement(invalid)


def read_observed(file: h5py.File, table: Table, rows: Array) -> list[Intervals | None]:
    """When each row was observed: its obs_intervals without the file's invalid_times; None = always.

    Warns, naming units, where obs_intervals overlap (their union is taken), or end before they start or lack a number
    (left out).
    """
    if not has_observed(table):
        return [valid_times(file)] * len(rows)
    invalid = _invalid_times(file)
    data, bounds = _ragged(table, "obs_intervals", 2)
    many = len(rows) > _BULK * len(table)
    if not many:
        fetch_rows(data, bounds[:-1][rows], bounds[1:][rows])
    values = load(data) if many else data
    found: list[Intervals | None] = []
    overlapping, reversed_, told = [], [], ""
    for row in rows:
        part = values[bounds[row] : bounds[row + 1]].astype(float)
        observed = union(part[:, 0], part[:, 1])
        with np.errstate(invalid="ignore"):
            lasts = part[:, 1] - part[:, 0]
        total = lasts[lasts > 0].sum()
        twice = total - (observed.ends - observed.starts).sum() if np.isfinite(total) else 0.0
        if twice > 2 * OBSERVED_S * (len(part) + 1):
            overlapping.append(int(table.ids[row]))
            told = told or f"{twice:g} of {total:g} s come twice"
        if not (lasts >= 0).all():
            reversed_.append(int(table.ids[row]))
        found.append(observed if invalid is None else without(observed, invalid))
    _warn(table, overlapping, f"have obs_intervals that overlap ({told}); their union is taken")
    _warn(table, reversed_, "have obs_intervals that end before they start, or lack a number; these were left out")
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
    starts, stops = table.times("start_time"), table.times("stop_time")
    odd = ~(stops >= starts)
    if odd.any():
        warn(f"invalid_times: {odd.sum()} of {len(odd)} rows end before they start, or lack a number; left out.")
    found = union(starts, stops)
    return found if len(found.starts) else None


def _ragged(table: Table, name: str, width: int) -> tuple[h5py.Dataset, Array]:
    """The values of a ragged column of ``width`` numbers each, and its bounds (row + 1) as int64."""
    data = table.group[name]
    n_values = data.shape[0]
    if data.dtype.kind not in "iuf" or data.size != n_values * width:
        raise NWBError(f"{name} of {table.where} is {data.dtype} of shape {data.shape}; numbers are needed.")
    return data, read_bounds(table, name)


def read_bounds(table: Table, name: str) -> Array:
    """Where the values of each row of a ragged column begin and end: (row + 1), int64.

    Raises: NWBError where there is no index, or it does not suit the values.
    """
    n_values, index = table.group[name].shape[0], table.group.get(f"{name}_index")
    if is_dataset(index):
        # bounds are often uint8 or uint16, whose differences would wrap
        bounds = np.concatenate([[0], load(index).astype(np.int64).ravel()])
    elif len(table) == 1:
        bounds = np.array([0, n_values])
    else:
        raise NWBError(f"{name} of {table.where} has no {name}_index, so its units cannot be told apart.")
    if len(bounds) != len(table) + 1 or bounds[-1] > n_values or (np.diff(bounds) < 0).any():
        raise NWBError(f"{name}_index of {table.where} does not suit {n_values} values of {len(table)} units.")
    return bounds


def _warn(table: Table, ids: list[int], told: str) -> None:
    if ids:
        named = ", ".join(map(str, ids[:8])) + (f", … ({len(ids)} in all)" if len(ids) > 8 else "")
        warn(f"{table.where}: unit{'s' * (len(ids) > 1)} {named} {told}.")


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
