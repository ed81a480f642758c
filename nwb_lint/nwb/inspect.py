"""What an NWB file holds for this package: units, interval tables, problems, and a call that would read it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.counts import Intervals
from nwb_lint.nwb.query import format_value
from nwb_lint.nwb.source import NWBError, Source, provenance, reading, session_labels
from nwb_lint.nwb.suggest import suggest_from
from nwb_lint.nwb.tables import Table, interval_tables, is_missing, open_intervals
from nwb_lint.nwb.units import open_units, read_observed, read_spikes, recorded_span

Array = np.ndarray

_MOST_LEVELS = 12
_EARLY = 0.9  # of the session: units whose last spike comes before are named


class ColumnInfo(NamedTuple):
    """A column: its kind, its levels with counts ("left": 20) where there are at most 12, and what it holds."""

    name: str
    kind: str
    levels: dict[str, int]
    told: str


class TableInfo(NamedTuple):
    """An interval table: rows, columns, and the columns that trials can be aligned to."""

    name: str
    n_rows: int
    columns: list[ColumnInfo]
    times: list[str]


class UnitsInfo(NamedTuple):
    """Units: ids, spikes and mean rate (Hz, over the span) of each, the span (s), columns."""

    ids: list[int]
    n_spikes: list[int]
    rates: list[float]
    span: tuple[float, float]
    has_obs_intervals: bool
    columns: list[ColumnInfo]


class Description(NamedTuple):
    """All that `describe` finds; ``suggestion`` are arguments of `read_conditions`, empty where none fit."""

    path: str
    session: str
    units: UnitsInfo | None
    tables: list[TableInfo]
    problems: list[str]
    suggestion: dict[str, Any]


def describe(source: Source) -> Description:
    """Units, interval tables, problems found, and arguments of `read_conditions` that would fit, of one file.

    A file without units or trials is described too: what is missing is among the problems.

    Raises: NWBError where the file cannot be opened or read.

    Example:
        >>> describe("session.nwb").units.ids
        [0, 1, 2, 3, 4]
    """
    with reading(source) as file:
        said = provenance(file, source)
        problems: list[str] = []
        tables = []
        for name in interval_tables(file):
            try:
                tables.append(_describe_table(open_intervals(file, name, Path(source).name), name, problems))
            except NWBError as error:
                problems.append(str(error))
        if not tables:
            problems.append("no interval table has rows, so there is nothing to align to")
        units = _describe_units(file, Path(source).name, problems)
        return Description(
            path=str(source),
            session=session_labels([said])[0],
            units=units,
            tables=tables,
            problems=problems,
            suggestion=suggest_from(file, source) if units and tables else {},
        )


def suggest(source: Source) -> dict[str, Any]:
    """Arguments of `read_conditions` that would fit a file: table, align, by, where, window_s, bin_s, smooth_s.

    A guess from names, levels and times of the columns; ``where`` is None where nothing speaks for a query.

    Raises: NWBError where the file has no units or no interval table with rows.

    Example:
        >>> suggest("session.nwb")["align"]
        'cue_time'
    """
    with reading(source) as file:
        open_units(file, source)
        return suggest_from(file, source)


def format_description(description: Description) -> str:
    """The text that ``nwb-lint inspect`` prints."""
    lines = [f"{description.path}", f"session {description.session}", ""]
    if description.units:
        lines += [*_unit_lines(description.units), ""]
    for table in description.tables:
        lines.append(f"{table.name}: {table.n_rows} rows")
        lines += _column_lines(table.columns)
        lines += [f"  align to: {', '.join(table.times) or 'no column of times'}", ""]
    lines.append("problems:" if description.problems else "no problems found")
    lines += [f"  - {problem}" for problem in description.problems]
    if description.suggestion:
        lines += ["", "a reading that would fit (a guess from the columns):", format_call(description)]
    return "\n".join(lines) + "\n"


def format_call(description: Description) -> str:
    """The suggested `read_conditions` call as Python."""
    given = "".join(f"    {name}={value!r},\n" for name, value in description.suggestion.items())
    return f"read_conditions(\n    {description.path!r},\n{given})"


def _describe_table(table: Table, name: str, problems: list[str]) -> TableInfo:
    columns = [_describe_column(table, column) for column in table.names]
    for column in columns:
        if column.kind == "time":
            values = table.times(column.name)
            if n := int(np.isnan(values).sum()):
                problems.append(f"{name}: {column.name} is NaN in {n} of {len(table)} rows")
            if n := int((values < 0).sum()):
                problems.append(f"{name}: {column.name} is negative in {n} of {len(table)} rows")
    if {"start_time", "stop_time"} <= set(table.names):
        length = table.times("stop_time") - table.times("start_time")
        if n := int((length < 0).sum()):
            problems.append(f"{name}: {n} of {len(table)} rows stop before they start")
    return TableInfo(name, len(table), columns, table.time_columns())


def _describe_column(table: Table, name: str) -> ColumnInfo:
    try:
        kind = table.kind(name)
        if kind in ("ragged", "array", "reference"):
            shape = " × ".join(map(str, table.group[name].shape))
            return ColumnInfo(name, kind, {}, f"{shape} {table.group[name].dtype}")
        values = table.column(name)
    except NWBError as error:
        return ColumnInfo(name, "damaged", {}, str(error))
    known = values[~is_missing(values)]
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


def _describe_units(file: h5py.File, name: str, problems: list[str]) -> UnitsInfo | None:
    """The units; what is wrong with them goes to ``problems``, the readers' warnings too."""
    try:
        table = open_units(file, name)
        rows = np.arange(len(table))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            spikes = read_spikes(table, rows)
            observed = read_observed(file, table, rows)
    except NWBError as error:
        problems.append(str(error))
        return None
    problems += [str(warning.message) for warning in caught]
    has_obs = "obs_intervals" in table.names
    span = recorded_span(spikes, observed)
    if span is None:
        problems.append("units: there are no spikes")
        span = (0.0, 0.0)
    negative = [int(unit) for unit, times in zip(table.ids, spikes, strict=True) if len(times) and times[0] < 0]
    if negative:
        problems.append(f"units: {_named(negative)} have negative spike times: relative to trials?")
    silent = [int(unit) for unit, times in zip(table.ids, spikes, strict=True) if not len(times)]
    if silent:
        problems.append(f"units: {_named(silent)} have no spikes")
    if not has_obs:
        problems += _stopped(file, table, spikes, span)
    columns = [_describe_column(table, column) for column in table.names if column not in _TIME_COLUMNS]
    return UnitsInfo(
        ids=[int(unit) for unit in table.ids],
        n_spikes=[len(times) for times in spikes],
        rates=[_rate(times, part, span) for times, part in zip(spikes, observed, strict=True)],
        span=span,
        has_obs_intervals=has_obs,
        columns=columns,
    )


_TIME_COLUMNS = ("spike_times", "obs_intervals")


def _rate(times: Array, observed: Intervals | None, span: tuple[float, float]) -> float:
    """Spikes per second of observed time within the span."""
    seconds = span[1] - span[0]
    if observed is not None:
        low, high = np.maximum(observed.starts, span[0]), np.minimum(observed.ends, span[1])
        seconds = float(np.maximum(high - low, 0).sum())
    return len(times) / seconds if seconds > 0 else 0.0


def _stopped(file: h5py.File, table: Table, spikes: list[Array], span: tuple[float, float]) -> list[str]:
    """Units that end long before the session does, while no obs_intervals say when they were observed."""
    end = span[1]
    if interval_tables(file).get("trials"):
        stops = open_intervals(file, "trials", "").times("stop_time")
        if np.isfinite(stops).any():
            end = float(np.nanmax(stops))
    limit = span[0] + _EARLY * (end - span[0])
    last = [(int(unit), times[-1]) for unit, times in zip(table.ids, spikes, strict=True) if len(times)]
    early = [f"{unit} at {at:.0f} s" for unit, at in last if at < limit]
    if not early:
        return []
    more = f", … ({len(early)} in all)" if len(early) > 8 else ""
    return [
        f"units: {', '.join(early[:8])}{more} stop firing long before the session ends ({end:.0f} s) and there are "
        "no obs_intervals: silence after that may not be observation"
    ]


def _named(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (f", … ({len(ids)} in all)" if len(ids) > 8 else "")


def _unit_lines(units: UnitsInfo) -> list[str]:
    low, middle, high = np.quantile(units.rates, [0, 0.5, 1])
    observed = "obs_intervals are there" if units.has_obs_intervals else "no obs_intervals"
    return [
        f"units: {len(units.ids)}, {sum(units.n_spikes)} spikes in {units.span[0]:g} to {units.span[1]:g} s, "
        f"{low:.2f} / {middle:.2f} / {high:.2f} Hz (min / median / max), {observed}",
        *_column_lines(units.columns),
    ]


def _column_lines(columns: list[ColumnInfo]) -> list[str]:
    width = max((len(column.name) for column in columns), default=0)
    return [f"  {column.name:<{width}}  {column.kind:<9}  {column.told}" for column in columns]
