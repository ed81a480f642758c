"""What the units table of a file holds: spikes and rates of each unit, and times that look wrong."""

from __future__ import annotations

from typing import NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.tables import ColumnInfo, Span, describe_column
from nwb_lint.nwb.recording.binning import Intervals
from nwb_lint.nwb.recording.spike_time_checks import ObservedChecks, SpikeRange, other_unit_ratio, spike_range
from nwb_lint.nwb.recording.tables import Table, open_intervals
from nwb_lint.nwb.recording.time_checks import ClockEvidence, RowSpans
from nwb_lint.nwb.recording.unit_tables import UnitsTable, open_units, rows_of_units_tables, units_tables, warn_of_ids
from nwb_lint.nwb.recording.units import Observed, has_observed, n_spikes, read_intervals, recorded_span, spike_blocks
from nwb_lint.parallel.warnings import collect_warnings, warn

_MOST_INTERVALS = 1 << 16  # observed intervals (1 MB) that are read where the spikes are not
_MOST_LISTED = 8
_TIME_COLUMNS = ("spike_times", "obs_intervals")


class UnitsInfo(NamedTuple):
    """The units of a file.

    Attributes
    ----------
    table : str
        Path of the table in the file.
    ids : list of int or str
        Id of each unit; 'row 0', … where the table has no ids.
    n_spikes : list of int
        Number of spikes of each unit.
    rates : list of float
        Mean rate of each unit over the time that ``over`` names, Hz; NaN where the recorded time is not known.
    over : str
        The time that the rates are means over, in words.
    spikes_read : bool
        Whether the spike times were read. If not, only their numbers are known.
    has_obs_intervals : bool
        Whether the file has the observed times of each unit.
    stopped : bool
        Whether a unit without observed times falls silent before the trials end.
    columns : list of ColumnInfo
        The columns, without spike times and observed times.
    """

    table: str
    ids: list[int] | list[str]
    n_spikes: list[int]
    rates: list[float]
    over: str
    spikes_read: bool
    has_obs_intervals: bool
    stopped: bool
    columns: list[ColumnInfo]


class SpikesFound(NamedTuple):
    """What spikes that were read once say about their times.

    | field | |
    |---|---|
    | labels, has_obs | labels of the units; whether the file says when they were observed |
    | ends, observed | `SpikeRange` (None: no spikes) and observed times of each unit |
    | evidence | whether they are in seconds |
    | start_over | why they cannot be read, if they start over; else empty |
    """

    labels: list[str]
    has_obs: bool
    ends: list[SpikeRange | None]
    observed: list[Intervals | None]
    evidence: ClockEvidence
    start_over: str


class UnitsFound(NamedTuple):
    """What `describe_units` finds: the units, the span of their times (s), warnings, and the spikes if read."""

    info: UnitsInfo | None
    span: Span | None
    warnings: list[str]
    spikes: SpikesFound | None = None


def count_units(file: h5py.File) -> dict[str, int | None]:
    """The number of units in every units table of a file, by path; None for a table that cannot be read."""
    rows = rows_of_units_tables(units_tables(file))
    return {at: n if isinstance(n, int) else None for at, n in rows.items()}


def describe_units(
    file: h5py.File,
    name: str,
    *,
    read_spikes: bool,
    trial_span: Span | None,
    rows: RowSpans | None = None,
    units_table: str | None = None,
) -> UnitsFound:
    """The units of an open file, from their spikes or from the index of the spikes alone.

    ``trial_span`` (s, from the first to the last trial) is what rates are taken over where neither spikes nor observed
    times were read. ``rows`` are those of the table of trials, which their times are checked against.
    """
    try:
        table = open_units(file, name, units_table)
        counts = n_spikes(table)
        has_obs = has_observed(table)
        few = not has_obs or table.group["obs_intervals"].shape[0] <= _MOST_INTERVALS
        observed: list[Intervals | None] = [None] * len(table)
        with collect_warnings() as warnings:
            warn_of_ids(table)
            intervals = Observed(observed, None)
            if read_spikes or few:
                intervals = read_intervals(file, table, np.arange(len(table)))
                observed = intervals.valid()
            spikes = read_spike_times(table, rows, intervals) if read_spikes else None
    except NWBError as error:
        return UnitsFound(None, None, [str(error)])
    warnings += table.problems() + table.electrode_problems()
    ends = [] if spikes is None else spikes.ends
    stopped = [] if has_obs else stopped_units(file, ends)
    labels = table.labels.tolist()
    if trial_span:
        warnings += _check_scale(ends, trial_span[1])
    if spikes is not None:
        problem = spikes.evidence.problem(rows)
        warnings += [spikes.start_over] if spikes.start_over else []
        warnings += [] if problem is None else [f"units: {problem.text}"]
        warnings += _check_spikes(labels, ends, stopped)
    span = recorded_span([np.array([part.first_s, part.last_s]) for part in ends if part], observed)
    over = "the time that is observed" if span and has_obs else "first to last spike"
    if span is None and not read_spikes:
        span, over = trial_span, "first to last trial"
    info = UnitsInfo(
        table=table.at,
        ids=table.ids.tolist(),
        n_spikes=counts.tolist(),
        rates=[_mean_rate(int(n), part, span) for n, part in zip(counts, observed, strict=True)],
        over=over,
        spikes_read=read_spikes,
        has_obs_intervals=has_obs,
        stopped=bool(stopped),
        columns=[describe_column(table, column) for column in table.names if column not in _TIME_COLUMNS],
    )
    return UnitsFound(info, span, warnings, spikes)


def read_spike_times(table: UnitsTable, rows: RowSpans | None, intervals: Observed) -> SpikesFound:
    """What the spike times of all units say, read block by block, beside the rows of the table of trials."""
    evidence, start_over = ClockEvidence(), ""
    reach_s = None if rows is None else float(np.nanmax(rows.stops))
    try:
        ends = spike_ends(table, reach_s, evidence, intervals)
    except NWBError as error:
        if reach_s is None:
            raise
        evidence, start_over = ClockEvidence(), str(error)
        ends = spike_ends(table, None, evidence, intervals)
    return SpikesFound(table.labels.tolist(), has_observed(table), ends, intervals.valid(), evidence, start_over)


def spike_ends(
    table: Table,
    reach_s: float | None = None,
    evidence: ClockEvidence | None = None,
    intervals: Observed | None = None,
) -> list[SpikeRange | None]:
    """First and last spike of each unit (`SpikeRange`), read block by block; None for a unit without spikes.

    Spikes are checked against ``intervals``, where these are given; what is wrong is a warning.
    Raises: NWBError if spike times start over and end long before ``reach_s``; None does not look.
    """
    ends: list[SpikeRange | None] = [None] * len(table)
    checks = ObservedChecks(table.where, None if intervals is None else intervals.invalid)
    for positions, spikes in spike_blocks(table, np.arange(len(table)), reach_s):
        for k, times in zip(positions, spikes, strict=True):
            ends[k] = spike_range(times) if len(times) else None
            if evidence is not None:
                evidence.add(times)
        if intervals is not None:
            checks.add(table.labels[positions], spikes, [intervals.given[k] for k in positions])
    try:
        checks.finish()
    except NWBError as error:
        warn(str(error))
    return ends


def stopped_units(file: h5py.File, ends: list[SpikeRange | None]) -> list[int]:
    """Rows of the units that fall silent before the last trial ends (`SpikeRange.silent_for`)."""
    try:
        table = open_intervals(file, "trials", "")
        stops = table.times("stop_time")
    except NWBError:  # there are no trials, or the tables are described with what is wrong
        return []
    stops = stops[np.isfinite(stops)]
    if not len(stops):
        return []
    return [row for row, part in enumerate(ends) if part and part.silent_for(float(stops.max()) - part.last_s)]


def _check_spikes(ids: list[str], ends: list[SpikeRange | None], stopped: list[int]) -> list[str]:
    """Warnings of units without spikes, with negative times, and that stop early."""
    if not any(ends):
        return ["units: no unit has spikes"]
    warnings = []
    if negative := [unit for unit, part in zip(ids, ends, strict=True) if part and part.first_s < 0]:
        warnings.append(f"units: {_listed(negative)} have negative spike times. Are they relative to trials?")
    if silent := [unit for unit, part in zip(ids, ends, strict=True) if not part]:
        warnings.append(f"units: {_listed(silent)} have no spikes")
    if stopped:
        late = _listed([f"{ids[k]} at {part.last_s:.0f} s" for k in stopped if (part := ends[k])])
        warnings.append(
            f"units: {late} stop firing before the trials end, and the file has no obs_intervals. They may not have "
            "been recorded after that (infer_obs=True)."
        )
    return warnings


def _check_scale(ends: list[SpikeRange | None], trials_end_s: float) -> list[str]:
    """A warning where spike times and trial times differ by a factor, as seconds and milliseconds do."""
    size_s = max((max(-part.first_s, part.last_s) for part in ends if part), default=0.0)
    factor = other_unit_ratio(size_s, trials_end_s) if size_s else 0.0
    if not factor:
        return []
    return [
        f"units: spike times reach {size_s:g} s and trials reach {trials_end_s:g} s, a factor of {factor:.3g}. "
        "One may be in milliseconds or samples, or relative to trials."
    ]


def _mean_rate(n: int, observed: Intervals | None, span: Span | None) -> float:
    """Spikes per second of observed time within the span; NaN where there is no such time."""
    if span is None:
        return float("nan")
    seconds = span[1] - span[0]
    if observed is not None:
        low, high = np.maximum(observed.starts, span[0]), np.minimum(observed.ends, span[1])
        seconds = float(np.maximum(high - low, 0).sum())
    return n / seconds if seconds > 0 else float("nan")


def _listed(items: list) -> str:
    """The first few items, and how many there are."""
    more = f", … ({len(items)} in all)" if len(items) > _MOST_LISTED else ""
    return ", ".join(map(str, items[:_MOST_LISTED])) + more
