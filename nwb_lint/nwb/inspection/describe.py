"""What an NWB file holds for this package: units, interval tables, problems, and a call that would read it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.contract import missing_in
from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.inspection.suggest import choose_series, suggest_from
from nwb_lint.nwb.recording.binning import Intervals
from nwb_lint.nwb.recording.events import activity_paths, event_paths
from nwb_lint.nwb.recording.spike_time_checks import Ends, ends_of, times_apart
from nwb_lint.nwb.recording.tables import Table, interval_tables, open_intervals
from nwb_lint.nwb.recording.units import has_observed, n_spikes, open_units, read_observed, recorded_span, spike_blocks
from nwb_lint.nwb.storage.source import Source, expand, provenance, reading, session_labels
from nwb_lint.parallel.files import spread
from nwb_lint.parallel.warnings import collect_warnings
from nwb_lint.query import format_value

Array = np.ndarray

_MOST_LEVELS = 12
_MOST_INTERVALS = 1 << 16  # observed intervals, 1 MB, that are read where spikes are not


class ColumnInfo(NamedTuple):
    """A column: its kind, its levels with counts ("left": 20) where there are at most 12, and what it holds."""

    name: str
    kind: str
    levels: dict[str, int]
    told: str


class TableInfo(NamedTuple):
    """An interval table: rows, shortest, median and longest duration (s; None where no row has one), columns, and
    the columns that trials can be aligned to, each with the number of rows that have a time."""

    name: str
    n_rows: int
    durations: tuple[float, float, float] | None
    columns: list[ColumnInfo]
    times: dict[str, int]


class UnitsInfo(NamedTuple):
    """Units: ids, spikes and mean rate (Hz) of each over ``over`` (NaN where nothing says how long they were
    recorded), columns; whether the spikes themselves were read, or their numbers alone."""

    ids: list[int]
    n_spikes: list[int]
    rates: list[float]
    over: str
    spikes_read: bool
    has_obs_intervals: bool
    stopped: bool
    columns: list[ColumnInfo]


class Description(NamedTuple):
    """All that `describe` finds. ``span`` is from the first to the last spike, observed or trial time, s.

    ``suggestion`` are arguments of `read_conditions`, empty where none fit; ``error`` says why a file could not be
    described at all, and is empty otherwise. ``events`` are paths of event series and tables that ``align`` takes,
    ``series`` those of time series that may be activity.
    """

    path: str
    session: str
    subject: str
    span: tuple[float, float] | None
    units: UnitsInfo | None
    tables: list[TableInfo]
    problems: list[str]
    suggestion: dict[str, Any]
    error: str = ""
    events: tuple[str, ...] = ()
    series: tuple[str, ...] = ()


def describe(source: Source, *, spikes: bool | None = None) -> Description:
    """Units, interval tables, problems found, and arguments of `read_conditions` that would fit, of one file.

    A file without units or trials is described too: what is missing is among the problems. Spikes are read block
    by block where the file is local; of a remote one, their numbers alone (``spikes`` says otherwise).

    Raises: NWBError where the file cannot be opened or read.

    Example:
        >>> describe("session.nwb").units.ids
        [0, 1, 2, 3, 4]
    """
    read = Path(str(source)).exists() if spikes is None else spikes
    with reading(source) as file:
        said = provenance(file, source)
        problems: list[str] = []
        tables: list[TableInfo] = []
        spans: list[tuple[float, float]] = []
        for name in interval_tables(file):
            try:
                table = open_intervals(file, name, Path(str(source)).name)
                tables.append(_describe_table(table, name, problems))
                spans += _span_of_rows(table) if name != "invalid_times" else []
            except NWBError as error:
                problems.append(str(error))
        if not tables:
            problems.append("no interval table has rows, so there is nothing to align to")
        units = _describe_units(file, Path(str(source)).name, read, spans, problems)
        events, series = _series(file, problems)
        return Description(
            path=str(source),
            session=session_labels([said])[0],
            subject=said.subject_id,
            span=_joined(spans),
            units=units,
            tables=tables,
            problems=problems,
            suggestion=_suggestion(file, source, units, problems) if (units or series) and tables else {},
            events=events,
            series=series,
        )


def _suggestion(file: h5py.File, source: Source, units: UnitsInfo | None, problems: list[str]) -> dict[str, Any]:
    """What `suggest_from` says; where it finds no way to read the file, that is a problem."""
    try:
        return suggest_from(file, source, infer_obs=bool(units and units.stopped))
    except NWBError as error:
        problems.append(f"no reading suits: {error}")
        return {}


def _series(file: h5py.File, problems: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of event series and tables, and of series of activity."""
    try:
        series = tuple(activity_paths(file))
        return tuple(path for path in event_paths(file, listed=True) if path not in series), series
    except (OSError, RuntimeError, KeyError) as error:
        problems.append(f"series of events and activity cannot be looked for: {one_line(error)}")
        return (), ()


def describe_all(
    sources: Source | Sequence[Source],
    *,
    spikes: bool | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> list[Description]:
    """`describe` of every file that the sources stand for, on any executor; failures are descriptions with an
    error.

    Raises: NWBError where a pattern matches nothing or a file comes twice.

    Example:
        >>> [found.error for found in describe_all(["session.nwb", "none.nwb"])]
        ['', 'none.nwb: no such file; an NWB file is needed. Check the path.']
    """
    paths = expand(sources)
    found = [Description(str(path), "", "", None, None, [], [], {}) for path in paths]
    tasks = [(path, spikes) for path in paths]
    bar = "inspecting" if progress else ""
    failed = spread(_describe, tasks, found.__setitem__, executor=executor, errors="skip", bar=bar)
    for k, error in failed.items():
        found[k] = found[k]._replace(error=str(error))
    return found


def _describe(source: Source, spikes: bool | None) -> Description:
    return describe(source, spikes=spikes)


def suggest(source: Source) -> dict[str, Any]:
    """Arguments of `read_conditions` that would fit a file: table, align, by, where, window_s, bin_s, smooth_s.

    A guess from names, levels and times of the columns; ``where`` is None where nothing speaks for a query. With
    ``infer_obs`` where units of a local file stop firing before its trials end and nothing says when they were
    observed.

    A file without units gets the ``series`` that is most likely its activity, in bins that hold a sample.

    Raises: NWBError where the file has neither units nor such a series, or no interval table with rows.

    Example:
        >>> suggest("session.nwb")["align"]
        'cue_time'
    """
    with reading(source) as file:
        stopped = False
        if choose_series(file, source) is None and Path(str(source)).exists():
            table = open_units(file, source)
            with collect_warnings():  # a guess needs no warning: reading gives it
                stopped = not has_observed(table) and bool(_stopped(file, _ends(table)))
        return suggest_from(file, source, infer_obs=stopped)


def _describe_table(table: Table, name: str, problems: list[str]) -> TableInfo:
    columns = [_describe_column(table, column) for column in table.names]
    for column in columns:
        if column.kind == "time":
            values = table.times(column.name)
            if n := int(np.isnan(values).sum()):
                problems.append(f"{name}: {column.name} is NaN in {n} of {len(table)} rows")
            if n := int((values < 0).sum()):
                problems.append(f"{name}: {column.name} is negative in {n} of {len(table)} rows")
    times = {column: int(np.isfinite(table.times(column)).sum()) for column in table.time_columns()}
    lasts = np.zeros(0)
    if {"start_time", "stop_time"} <= set(table.names):
        lasts = table.times("stop_time") - table.times("start_time")
        if n := int((lasts < 0).sum()):
            problems.append(f"{name}: {n} of {len(table)} rows stop before they start")
        lasts = lasts[np.isfinite(lasts)]
    low, middle, high = (float(value) for value in np.quantile(lasts, [0, 0.5, 1])) if len(lasts) else (0.0,) * 3
    return TableInfo(name, len(table), (low, middle, high) if len(lasts) else None, columns, times)


def _span_of_rows(table: Table) -> list[tuple[float, float]]:
    """From the first start to the last stop of a table, s: one span, none where it has no times."""
    if not {"start_time", "stop_time"} <= set(table.names):
        return []
    known = np.concatenate([table.times("start_time"), table.times("stop_time")])
    known = known[np.isfinite(known)]
    return [(float(known.min()), float(known.max()))] if len(known) else []


def _joined(spans: list[tuple[float, float]]) -> tuple[float, float] | None:
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def _describe_column(table: Table, name: str) -> ColumnInfo:
    try:
        kind = table.kind(name)
        if kind in ("ragged", "array", "reference"):
            shape = " × ".join(map(str, table.group[name].shape))
            return ColumnInfo(name, kind, {}, f"{shape} {table.group[name].dtype}")
        values = table.column(name)
    except NWBError as error:
        return ColumnInfo(name, "damaged", {}, str(error))
    known = values[~missing_in(values)]
    if not len(known):
        return ColumnInfo(name, kind, {}, "nothing")
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) <= _MOST_LEVELS and kind != "time":
        pairs = zip(unique.tolist(), counts.tolist(), strict=True)
        levels = {format_value(value): n for value, n in pairs}
        return ColumnInfo(name, kind, levels, ", ".join(f"{level} ({n})" for level, n in levels.items()))
    if values.dtype.kind in "iuf":
        return ColumnInfo(name, kind, {}, f"{known.min():g} to {known.max():g}, {len(known)} values")
    return ColumnInfo(name, kind, {}, f"{len(unique)} different, such as {str(unique[0])[:40]!r}")


def _describe_units(
    file: h5py.File, name: str, read: bool, spans: list[tuple[float, float]], problems: list[str]
) -> UnitsInfo | None:
    """The units, from their spikes or from the index alone; their span goes to ``spans``, what is wrong with them
    to ``problems``, what the readers warn of too."""
    try:
        table = open_units(file, name)
        counts = n_spikes(table)
        has_obs = has_observed(table)
        few = not has_obs or table.group["obs_intervals"].shape[0] <= _MOST_INTERVALS
        observed: list[Intervals | None] = [None] * len(table)
        with collect_warnings() as told:
            if read or few:
                observed = read_observed(file, table, np.arange(len(table)))
            ends = _ends(table) if read else []
    except NWBError as error:
        problems.append(str(error))
        return None
    problems += told
    if trials := _joined(spans):
        problems += _far_problems(ends, trials[1])
    ids = [int(unit) for unit in table.ids]
    span = recorded_span([np.array([part.first_s, part.last_s]) for part in ends if part], observed)
    over = "the time that is observed" if span and has_obs else "first to last spike"
    stopped = [] if has_obs else _stopped(file, ends)
    if read:
        problems += _spike_problems(ids, ends, stopped)
    elif span is None:
        span, over = _joined(spans), "first to last trial"
    if span:
        spans.append(span)
    return UnitsInfo(
        ids=ids,
        n_spikes=counts.tolist(),
        rates=[_rate(int(n), part, span) for n, part in zip(counts, observed, strict=True)],
        over=over,
        spikes_read=read,
        has_obs_intervals=has_obs,
        stopped=bool(stopped),
        columns=[_describe_column(table, column) for column in table.names if column not in _TIME_COLUMNS],
    )


def _ends(table: Table) -> list[Ends | None]:
    """The ends of each unit's spike times; None for a unit without spikes."""
    ends: list[Ends | None] = [None] * len(table)
    for positions, spikes in spike_blocks(table, np.arange(len(table))):
        for k, times in zip(positions, spikes, strict=True):
            ends[k] = ends_of(times) if len(times) else None
    return ends


def _spike_problems(ids: list[int], ends: list[Ends | None], stopped: list[int]) -> list[str]:
    if not any(ends):
        return ["units: there are no spikes"]
    problems = []
    negative = [unit for unit, part in zip(ids, ends, strict=True) if part and part.first_s < 0]
    if negative:
        problems.append(f"units: {_named(negative)} have negative spike times: relative to trials?")
    silent = [unit for unit, part in zip(ids, ends, strict=True) if not part]
    if silent:
        problems.append(f"units: {_named(silent)} have no spikes")
    if stopped:
        parts = [f"{ids[k]} at {part.last_s:.0f} s" for k in stopped if (part := ends[k])]
        more = f", … ({len(parts)} in all)" if len(parts) > 8 else ""
        problems.append(
            f"units: {', '.join(parts[:8])}{more} stop firing before the trials end and there are no obs_intervals: "
            "silence after that may not be observation (infer_obs=True)"
        )
    return problems


def _far_problems(ends: list[Ends | None], reach_s: float) -> list[str]:
    size_s = max((max(-part.first_s, part.last_s) for part in ends if part), default=0.0)
    factor = times_apart(size_s, reach_s) if size_s else 0.0
    if not factor:
        return []
    return [
        f"units: spike times reach to {size_s:g} s, the trials to {reach_s:g} s, one {factor:.3g} times the other: in "
        "milliseconds or samples, or relative to trials?"
    ]


def _stopped(file: h5py.File, ends: list[Ends | None]) -> list[int]:
    """Rows of the units that fall silent before the last trial ends (`Ends.silent_for`)."""
    table = open_intervals(file, "trials", "") if interval_tables(file).get("trials") else None
    stops = table.times("stop_time") if table is not None and "stop_time" in table.names else np.zeros(0)
    stops = stops[np.isfinite(stops)]
    if not len(stops):
        return []
    return [row for row, part in enumerate(ends) if part and part.silent_for(float(stops.max()) - part.last_s)]


_TIME_COLUMNS = ("spike_times", "obs_intervals")


def _rate(n: int, observed: Intervals | None, span: tuple[float, float] | None) -> float:
    """Spikes per second of observed time within the span; NaN where there is no such time."""
    if span is None:
        return float("nan")
    seconds = span[1] - span[0]
    if observed is not None:
        low, high = np.maximum(observed.starts, span[0]), np.minimum(observed.ends, span[1])
        seconds = float(np.maximum(high - low, 0).sum())
    return n / seconds if seconds > 0 else float("nan")


def _named(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (f", … ({len(ids)} in all)" if len(ids) > 8 else "")
