"""The spike times of the units of an open NWB file, and when each unit was observed.

1. `spike_blocks` reads spike times block by block, so that memory does not grow with the file.
2. `read_observed` reads when each unit was observed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.binning import OBSERVED_S, Intervals, complement, union, without
from nwb_lint.nwb.recording.tables import Table, row_bounds
from nwb_lint.nwb.recording.time_checks import spikes_start_over
from nwb_lint.nwb.storage.h5 import check_size, find_dataset, find_group, holds_numbers, load, shape_text, virtual_hint
from nwb_lint.nwb.storage.prefetch import fetch_rows, streamed
from nwb_lint.parallel.warnings import warn

Array = np.ndarray


class ReadSizes(NamedTuple):
    """How many spikes are read at once.

    | field | |
    |---|---|
    | block | spikes in memory at a time: 1 MB, which fits the cache of a processor |
    | streamed_block | the same for a streamed file, which is faster with fewer, larger requests: 64 MB |
    | gap | spikes between two chosen units that one read may include |
    | bulk_share | share of all spikes above which the spikes between the chosen ones are read too |
    """

    block: int = 1 << 17
    streamed_block: int = 1 << 23
    gap: int = 1 << 13
    bulk_share: float = 0.25


def name_units(labels: Sequence[str] | Array) -> str:
    """'unit 3', 'units 3, 5', or the first eight of more, for messages."""
    ids = list(labels)
    more = f", … ({len(ids)} in all)" if len(ids) > 8 else ""
    return f"unit{'s' * (len(ids) > 1)} {', '.join(map(str, ids[:8]))}{more}"


def n_spikes(table: Table) -> Array:
    """The number of spikes of every unit, from the index alone.

    Parameters
    ----------
    table : Table
        From `unit_tables.open_units`.

    Returns
    -------
    numpy.ndarray
        int64 (unit).
    """
    return np.diff(_ragged_column(table, "spike_times", 1)[1])


def spike_blocks(
    table: Table, rows: Array, reach_s: float | None = None, *, sizes: ReadSizes | None = None
) -> Iterator[tuple[Array, list[Array]]]:
    """Spike times of the chosen units, block by block in the order of the file.

    A block is one read of at most ``sizes.block`` spikes, or one unit. It warns, after the last block, of units whose
    spike times are not sorted (they are sorted) or not finite (they are left out).

    Parameters
    ----------
    table : Table
        From `unit_tables.open_units`.
    rows : numpy.ndarray
        Rows of the units.
    reach_s : float or None, default=None
        The last time of the trials, s; None skips the check of spike times that start over.
    sizes : ReadSizes or None, default=None
        How much is read at once.

    Yields
    ------
    positions : numpy.ndarray
        Positions in ``rows`` of the units of this block.
    spikes : list of numpy.ndarray
        The sorted spike times of each, s, float64.

    Raises
    ------
    NWBError
        If the column or its index is damaged, or if spike times start over and end long before ``reach_s``: these are
        not times of the session.
    """
    sizes = sizes or ReadSizes()
    data, bounds = _ragged_column(table, "spike_times", 1)
    check_size(data)
    low, high = bounds[:-1][rows], bounds[1:][rows]
    bulk = (high - low).sum() > sizes.bulk_share * data.shape[0]
    apart = streamed(data) is not None and not bulk  # of a streamed file, only the chosen spikes are fetched
    repairs = _Repairs(table, reach_s)
    begin, end = _bounds_without_gaps(low, high) if apart else (low, high)
    for positions in _reads(begin, end, data, bulk, sizes):
        first, last = low[positions[0]], high[positions[-1]]
        fetch_rows(data, low[positions] if apart else [first], high[positions] if apart else [last])
        values = None if apart else data[first:last].reshape(-1).astype(float, copy=False)
        spikes = []
        for k in positions:
            if values is None:
                times = data[low[k] : high[k]].reshape(-1).astype(float, copy=False)
            else:
                times = values[low[k] - first : high[k] - first]
            # one pass finds both: a comparison with NaN is false, and sorted times are infinite at their ends only
            if not (times[1:] >= times[:-1]).all() or not np.isfinite(times[[0, -1]] if len(times) else 0).all():
                _refuse_lost_ends(table, int(rows[k]), bounds, times)
                times = repairs.repaired(times, str(table.labels[rows[k]]))
            spikes.append(times)
        yield positions, spikes
    repairs.warn()


def _bounds_without_gaps(low: Array, high: Array) -> tuple[Array, Array]:
    """Bounds of the same units as if nothing lay between them."""
    order, sizes = np.lexsort((high, low)), high - low
    ends = np.empty_like(sizes)
    ends[order] = np.cumsum(sizes[order])
    return ends - sizes, ends


def _reads(low: Array, high: Array, data: h5py.Dataset, bulk: bool, sizes: ReadSizes) -> Iterator[Array]:
    """Positions of the units that are read at once: close to each other in the file, and not too many spikes."""
    chunk = data.chunks[0] if data.chunks else 0  # a chunk is always read whole
    gap = data.shape[0] if bulk else max(sizes.gap, chunk)
    most = max(sizes.block if streamed(data) is None else sizes.streamed_block, chunk)
    order = np.lexsort((high, low))
    first = 0
    for k in range(1, len(order) + 1):
        if k == len(order) or high[order[k]] - low[order[first]] > most or low[order[k]] - high[order[k - 1]] > gap:
            yield order[first:k]
            first = k


class _Repairs:
    """Spike times that are not numbers or not sorted: repaired unit by unit, with one warning for all."""

    def __init__(self, table: Table, reach_s: float | None) -> None:
        self.table, self.reach_s = table, reach_s
        self.not_finite: list[str] = []
        self.not_sorted: list[str] = []
        self.steps = ""

    def repaired(self, times: Array, unit: str) -> Array:
        """The times that are numbers, sorted; NWBError if they start over (`_refuse_restarts`)."""
        finite = np.isfinite(times)
        if not finite.all():
            self.not_finite.append(unit)
            times = times[finite]
        if (times[1:] < times[:-1]).any():
            _refuse_restarts(self.table, unit, times, self.reach_s)
            self.not_sorted.append(unit)
            self.steps = self.steps or _describe_steps_back(times)
            times = np.sort(times)
        return times

    def warn(self) -> None:
        """Warn of the units that were repaired, if there are any."""
        _warn_of(self.table, "spike_times", self.not_finite, "hold values that are not numbers; these were left out")
        _warn_of(self.table, "spike_times", self.not_sorted, f"are not in order ({self.steps}); they were sorted")


def _refuse_restarts(table: Table, unit: str, times: Array, reach_s: float | None) -> None:
    """Raise if spike times start over (`spikes_start_over`)."""
    if reach_s is None or not spikes_start_over(times, reach_s):
        return
    trials = "start over too" if np.isinf(reach_s) else f"reach {reach_s:g} s"
    raise NWBError(
        f"{table.where}: spike times of unit {unit} start over ({_describe_steps_back(times)}) and end at "
        f"{times.max():g} s, while trials {trials}. They are relative to trials or blocks. Times since the session's "
        "start are needed; leave such units out with units=."
    )


def _refuse_lost_ends(table: Table, row: int, bounds: Array, times: Array) -> None:
    """Raise if a unit looks like several ones, of which the rows before it have no spikes: their ends were lost."""
    starts_over = int((times[1:] < times[:-1]).sum())
    n_empty = row - int(np.searchsorted(bounds, bounds[row]))
    if 0 < starts_over <= n_empty:
        raise NWBError(
            f"spike_times_index of {table.where} has no spikes for {n_empty} rows before row {row}, and the times of "
            f"that row start over ({_describe_steps_back(times)}). Ends of rows were probably lost, as where they "
            "overflow. Write the index again."
        )


def _describe_steps_back(times: Array) -> str:
    back = np.flatnonzero(times[1:] < times[:-1])
    return (
        f"{len(back)} of {len(times) - 1} steps go back, the first from {times[back[0]]:g} to {times[back[0] + 1]:g} s"
    )


def has_observed(table: Table) -> bool:
    """Whether the file says when its units were observed (obs_intervals).

    Parameters
    ----------
    table : Table
        From `unit_tables.open_units`.

    Returns
    -------
    bool
    """
    listed = find_dataset(table.group, "obs_intervals")
    if listed is not None and not listed.shape:
        raise NWBError(f"obs_intervals of {table.where} is {shape_text(listed)}. Intervals are needed. Write it again.")
    if listed is None and ("obs_intervals" in table.lost or "obs_intervals_index" in table.group):
        raise NWBError(
            f"{table.where} name obs_intervals, which are not in the file. When units were observed is not known. Get "
            "the file again."
        )
    if listed is None or listed.shape[0]:
        return listed is not None
    if table.is_ragged("obs_intervals"):
        list(table.bounds("obs_intervals", 0))  # an index that points at intervals says that they are lost
    return False


def read_observed(file: h5py.File, table: Table, rows: Array) -> list[Intervals | None]:
    """When each unit was observed: its obs_intervals without the file's invalid_times.

    It warns of units whose obs_intervals overlap (their union is taken), and of intervals that end before they start or
    lack a number (they are left out).

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    table : Table
        From `unit_tables.open_units`.
    rows : numpy.ndarray
        Rows of the units.

    Returns
    -------
    list of Intervals or None
        Of each unit; None means always.

    Raises
    ------
    NWBError
        If the column is damaged.
    """
    return read_intervals(file, table, rows).valid()


class Observed(NamedTuple):
    """When units were observed.

    | field | dims | |
    |---|---|---|
    | given | unit | the union of its obs_intervals; None: always |
    | invalid | | the file's invalid_times; None: none |
    """

    given: list[Intervals | None]
    invalid: Intervals | None

    def valid(self) -> list[Intervals | None]:
        """The observed time of each unit that is not invalid; None: always."""
        if self.invalid is None:
            return self.given
        always = complement(self.invalid)
        return [always if part is None else without(part, self.invalid) for part in self.given]


def read_intervals(file: h5py.File, table: Table, rows: Array) -> Observed:
    """The obs_intervals of units and the file's invalid_times, with the warnings and errors of `read_observed`.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    table : Table
        From `unit_tables.open_units`.
    rows : numpy.ndarray
        Rows of the units.

    Returns
    -------
    Observed
    """
    invalid = _invalid_times(file)
    if not has_observed(table):
        return Observed([None] * len(rows), invalid)
    data, bounds = _ragged_column(table, "obs_intervals", 2)
    many = len(rows) > ReadSizes().bulk_share * len(table)
    if not many:
        fetch_rows(data, bounds[:-1][rows], bounds[1:][rows])
    values = load(data) if many else data
    found: list[Intervals | None] = []
    overlapping, invalid_rows, overlap = [], [], ""
    for row in rows:
        part = values[bounds[row] : bounds[row + 1]].astype(float)
        observed = union(part[:, 0], part[:, 1])
        with np.errstate(invalid="ignore"):
            lasts = part[:, 1] - part[:, 0]
        total = lasts[lasts > 0].sum()
        twice = total - (observed.ends - observed.starts).sum() if np.isfinite(total) else 0.0
        if twice > 2 * OBSERVED_S * (len(part) + 1):
            overlapping.append(str(table.labels[row]))
            overlap = overlap or f"{twice:g} of {total:g} s occur twice"
        if not (lasts >= 0).all():
            invalid_rows.append(str(table.labels[row]))
        found.append(observed)
    _warn_of(table, "obs_intervals", overlapping, f"overlap ({overlap}); their union is taken")
    _warn_of(table, "obs_intervals", invalid_rows, "end before they start, or lack a number; these were left out")
    return Observed(found, invalid)


def valid_times(file: h5py.File) -> Intervals | None:
    """The time outside the file's invalid_times; None means always."""
    invalid = _invalid_times(file)
    return None if invalid is None else complement(invalid)


def recorded_span(spikes: Sequence[Array], observed: Sequence[Intervals | None]) -> tuple[float, float] | None:
    """The first and the last time of spikes and of observed intervals.

    Parameters
    ----------
    spikes : sequence of numpy.ndarray
        Sorted spike times of each unit, s; the first and the last suffice.
    observed : sequence of Intervals or None
        From `read_observed`.

    Returns
    -------
    tuple of float or None
        In s; None if there are neither spikes nor finite intervals.
    """
    ends = [(times[0], times[-1]) for times in spikes if len(times)]
    for part in observed:
        if part is not None and len(part.starts) and np.isfinite([part.starts[0], part.ends[-1]]).all():
            ends.append((part.starts[0], part.ends[-1]))
    if not ends:
        return None
    return float(min(first for first, _ in ends)), float(max(last for _, last in ends))


def _invalid_times(file: h5py.File) -> Intervals | None:
    group = find_group(file, "intervals/invalid_times")
    group = find_group(file, "invalid_times") if group is None else group  # its place in files of schema 2.0b
    if group is None:
        return None
    table = Table(group, "invalid_times")
    starts, stops = table.times("start_time"), table.times("stop_time")
    wrong = ~(stops >= starts)
    if wrong.any():
        warn(f"invalid_times: {wrong.sum()} of {len(wrong)} rows end before they start, or lack a number; left out.")
    found = union(starts, stops)
    return found if len(found.starts) else None


def _ragged_column(table: Table, name: str, width: int) -> tuple[h5py.Dataset, Array]:
    """The values of a ragged column of ``width`` numbers each, and its bounds (row + 1) as int64."""
    data = find_dataset(table.group, name)
    wide = data is not None and data.shape is not None and data.shape[1:] in ((width,), () if width == 1 else (width,))
    if data is None or not wide or not holds_numbers(data) or not data.ndim:
        found = "not in the file" if data is None else shape_text(data)
        each = "one number a row" if width == 1 else f"{width} numbers a row"
        raise NWBError(f"{name} of {table.where} is {found}. Numbers are needed, {each}. Write it again.")
    return data, read_bounds(table, name)


def read_bounds(table: Table, name: str) -> Array:
    """Where the values of each row of a ragged column begin and end: (row + 1), int64."""
    data = table.dataset(name)
    n_values = data.shape[0]
    if table.is_ragged(name):
        try:
            return row_bounds(table.group, f"{name}_index", n_values, table.ids, table.where)
        except NWBError as error:
            if not virtual_hint(data):
                raise
            raise NWBError(f"{error} {virtual_hint(data).strip()}") from error
    if len(table) == 1:
        return np.array([0, n_values])
    raise NWBError(
        f"{name} of {table.where} has no {name}_index. It is needed to separate the units. Pass another file."
    )


def _warn_of(table: Table, column: str, ids: list[str], text: str) -> None:
    if ids:
        warn(f"{table.where}: {column} of {name_units(ids)} {text}.")
