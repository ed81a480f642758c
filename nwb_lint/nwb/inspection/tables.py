"""What a table of a file holds: its columns with their kinds, levels and ranges, and rows that look wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.contract.values import distinct, missing_in
from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.tables import DAMAGED, Table
from nwb_lint.nwb.recording.time_checks import check_times, row_spans, rows_at_once, rows_start_over
from nwb_lint.nwb.recording.trials import spell_column
from nwb_lint.nwb.storage.h5 import check_size, type_text
from nwb_lint.nwb.storage.prefetch import streamed
from nwb_lint.query import format_value

Span = tuple[float, float]

_MOST_LEVELS = 12


class ColumnInfo(NamedTuple):
    """A column of a table.

    Attributes
    ----------
    name, kind : str
        Name; kind, such as ``"time"``, ``"number"``, ``"text"``, ``"bool"``, ``"ragged"``.
    levels : dict
        Number of rows of each value (``{"left": 20}``); empty where there are more than 12 values.
    summary : str
        What the column holds, in words: levels, a range, or the shape.
    """

    name: str
    kind: str
    levels: dict[str, int]
    summary: str


class TableInfo(NamedTuple):
    """An interval table.

    Attributes
    ----------
    name : str
        Name, or path in the file.
    n_rows : int
        Number of rows.
    durations : tuple of float or None
        Shortest, median and longest duration of a row, s; None where no row has one.
    columns : list of ColumnInfo
        The columns.
    times : dict
        Columns that trials can be aligned to, each with the number of rows that have a time.
    """

    name: str
    n_rows: int
    durations: tuple[float, float, float] | None
    columns: list[ColumnInfo]
    times: dict[str, int]


def describe_table(table: Table, name: str) -> tuple[TableInfo, list[str]]:
    """An interval table, and warnings of rows that look wrong."""
    columns = [describe_column(table, column) for column in table.names]
    warnings = table.problems()
    for column in columns:
        if column.kind == "time":
            values = table.times(column.name)
            if n := int(np.isnan(values).sum()):
                warnings.append(f"{name}: {column.name} is NaN in {n} of {len(table)} rows")
            if n := int((values < 0).sum()):
                warnings.append(f"{name}: {column.name} is negative in {n} of {len(table)} rows")
    times = {column: int(np.isfinite(table.times(column)).sum()) for column in table.time_columns()}
    warnings += [f"{name}: {text}" for text in _check_times(table, list(times))]
    durations = np.zeros(0)
    if {"start_time", "stop_time"} <= set(table.names):
        durations = table.times("stop_time") - table.times("start_time")
        if n := int((durations < 0).sum()):
            warnings.append(f"{name}: {n} of {len(table)} rows stop before they start")
        durations = durations[np.isfinite(durations)]
    shortest, median, longest = np.quantile(durations, [0, 0.5, 1]).tolist() if len(durations) else (0.0,) * 3
    known = (shortest, median, longest) if len(durations) else None
    return TableInfo(name, len(table), known, columns, times), warnings


def _check_times(table: Table, columns: list[str]) -> list[str]:
    """What the readers' checks say of the times of a table."""
    spans = row_spans(table)
    if spans is None:
        return []
    over = rows_start_over(spans)
    texts = [f"{over}."] if over else []
    at_once = rows_at_once(spans)
    for column in columns:
        values = table.times(column)
        events = values[np.isfinite(values)] if column not in ("start_time", "stop_time") else spans.starts
        at_once = at_once if len(events) and rows_at_once(spans, events, 1.0) else ""
        checked = check_times(spell_column(column), values, spans)
        texts += [checked.placeholder_text, "" if checked.problem is None else checked.problem.text]
    return [text for text in (at_once, *texts) if text]


def describe_column(table: Table, name: str) -> ColumnInfo:
    """A column; one that cannot be read is of the kind "damaged", and its summary is the error."""
    kind = table.kind(name)
    try:
        if kind in ("ragged", "array", "reference"):
            item = table.group[name]
            if streamed(item) is None:  # an index costs a request
                check_size(item)
                list(table.bounds(name, item.shape[0]))
            shape = " × ".join(map(str, item.shape))
            return ColumnInfo(name, kind, {}, f"{shape} {type_text(item)}")
        values = table.column(name)
    except NWBError as error:
        return ColumnInfo(name, DAMAGED, {}, str(error))
    known = values[~missing_in(values)]
    if not len(known):
        return ColumnInfo(name, kind, {}, "no values")
    unique, codes = distinct(values)
    counts = np.bincount(codes, minlength=len(unique))
    if len(unique) <= _MOST_LEVELS and kind != "time":
        pairs = zip(unique.tolist(), counts.tolist(), strict=True)
        levels = {format_value(value): n for value, n in pairs}
        return ColumnInfo(name, kind, levels, ", ".join(f"{level} ({n})" for level, n in levels.items()))
    if values.dtype.kind in "iuf":
        return ColumnInfo(name, kind, {}, f"{known.min():g} to {known.max():g}, {len(known)} values")
    return ColumnInfo(name, kind, {}, f"{len(unique)} different values, such as {str(unique[0])[:40]!r}")


def span_of_rows(table: Table) -> list[Span]:
    """From the first start to the last stop of a table, s: one span, or none where it has no times."""
    if not {"start_time", "stop_time"} <= set(table.names):
        return []
    known = np.concatenate([table.times("start_time"), table.times("stop_time")])
    known = known[np.isfinite(known)]
    return [(float(known.min()), float(known.max()))] if len(known) else []
