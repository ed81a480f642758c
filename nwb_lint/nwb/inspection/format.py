"""Descriptions of files as text for people and as plain data for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from nwb_lint.nwb.inspection.describe import ColumnInfo, Description, TableInfo, UnitsInfo

_MOST_EVENTS = 12


def format_description(description: Description) -> str:
    """All that is known of one file: the text that ``nwb-lint inspect`` prints.

    Example:
        >>> from nwb_lint.nwb.inspection.describe import describe
        >>> print(format_description(describe("session.nwb")).splitlines()[1])
        session mock, subject simulated, ... to ... s
    """
    subject = f", subject {description.subject}" if description.subject else ""
    span = f", {description.span[0]:g} to {description.span[1]:g} s" if description.span else ""
    lines = [description.path, f"session {description.session}{subject}{span}", ""]
    if description.units:
        lines += [*_unit_lines(description.units), ""]
    for table in description.tables:
        lines += [*_table_lines(table), ""]
    told = {"align to events of each trial": description.events, "activity as a time series": description.series}
    for what, paths in told.items():
        if paths:
            more = f", … ({len(paths)} in all)" if len(paths) > _MOST_EVENTS else ""
            lines += [f"{what}: {', '.join(paths[:_MOST_EVENTS])}{more}", ""]
    lines.append("problems:" if description.problems else "no problems found")
    lines += [f"  - {problem}" for problem in description.problems]
    if description.suggestion:
        lines += ["", "a reading that would fit (a guess from the columns):", format_call(description)]
    return "\n".join(lines) + "\n"


def format_call(description: Description) -> str:
    """The suggested `read_conditions` call as Python."""
    given = "".join(f"    {name}={value!r},\n" for name, value in description.suggestion.items())
    return f"read_conditions(\n    {description.path!r},\n{given})"


def format_table(descriptions: Sequence[Description]) -> str:
    """A line for each of several files.

    Example:
        >>> from nwb_lint.nwb.inspection.describe import describe
        >>> print(format_table([describe("session.nwb")]))
        units  spikes  median Hz  tables       problems  file
            5  ...  trials (40)         0  session.nwb
        1 file, 5 units, ... spikes
    """
    rows = [("units", "spikes", "median Hz", "tables", "problems", "file")]
    for one in descriptions:
        units, tables = one.units, ", ".join(f"{table.name} ({table.n_rows})" for table in one.tables)
        rate = _median(units.rates) if units else None
        rows.append(
            (
                str(len(units.ids)) if units else "–",
                str(sum(units.n_spikes)) if units else "–",
                f"{rate:.2f}" if rate is not None else "–",
                tables or "–",
                str(len(one.problems)) if not one.error else "–",
                f"{one.path}  {one.error}".rstrip(),
            )
        )
    wide = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    left = 3  # tables, the one column of words
    lines = [
        "  ".join(
            [
                *(
                    cell.ljust(w) if k == left else cell.rjust(w)
                    for k, (cell, w) in enumerate(zip(row, wide, strict=False))
                ),
                row[-1],
            ]
        )
        for row in rows
    ]
    known = [one.units for one in descriptions if one.units]
    total = f"{sum(len(units.ids) for units in known)} units, {sum(sum(units.n_spikes) for units in known)} spikes"
    return "\n".join([*lines, f"{len(descriptions)} file{'s' * (len(descriptions) != 1)}, {total}"])


def to_json(descriptions: Sequence[Description]) -> str:
    """The descriptions as JSON: ``{"files": [...]}``, the same keys for every file, null where nothing is known.

    | key of a file | |
    |---|---|
    | path, session, subject, error | texts; error is empty for a file that could be described |
    | span_s | [first, last], s |
    | units | ids, n_spikes, rates_hz, rates_over, spikes_read, has_obs_intervals, columns |
    | tables | name, n_rows, duration_s (min, median, max), columns, align: column → rows that have a time |
    | columns of both | name, kind, levels: value → rows, told |
    | events, series | paths of event series and tables, for ``align``, and of time series, for ``series`` |
    | problems, suggestion | texts; arguments of `read_conditions` |
    """
    return json.dumps({"files": [_plain(one) for one in descriptions]}, indent=2, allow_nan=False)


def _plain(one: Description) -> dict[str, Any]:
    units = one.units
    return {
        "path": one.path,
        "session": one.session,
        "subject": one.subject,
        "error": one.error,
        "span_s": None if one.span is None else [_number(edge) for edge in one.span],
        "units": None
        if units is None
        else {
            "ids": units.ids,
            "n_spikes": units.n_spikes,
            "rates_hz": [_number(rate) for rate in units.rates],
            "rates_over": units.over,
            "spikes_read": units.spikes_read,
            "has_obs_intervals": units.has_obs_intervals,
            "columns": [column._asdict() for column in units.columns],
        },
        "tables": [_plain_table(table) for table in one.tables],
        "events": list(one.events),
        "series": list(one.series),
        "problems": one.problems,
        "suggestion": one.suggestion,
    }


def _plain_table(table: TableInfo) -> dict[str, Any]:
    lasts = None
    if table.durations is not None:
        lasts = dict(zip(("min", "median", "max"), map(_number, table.durations), strict=True))
    return {
        "name": table.name,
        "n_rows": table.n_rows,
        "duration_s": lasts,
        "columns": [column._asdict() for column in table.columns],
        "align": table.times,
    }


def _number(value: float) -> float | None:
    """A number that JSON has: rounded to 9 digits, None for NaN and infinity."""
    return float(f"{value:.9g}") if np.isfinite(value) else None


def _median(rates: Sequence[float]) -> float | None:
    known = np.asarray(rates)[np.isfinite(rates)]
    return float(np.median(known)) if len(known) else None


def _unit_lines(units: UnitsInfo) -> list[str]:
    observed = "obs_intervals are there" if units.has_obs_intervals else "no obs_intervals"
    lines = [f"units: {len(units.ids)}, {sum(units.n_spikes)} spikes, {observed}"]
    known = np.asarray(units.rates)[np.isfinite(units.rates)]
    if len(known):
        low, middle, high = np.quantile(known, [0, 0.5, 1])
        lines.append(f"  {low:.2f} / {middle:.2f} / {high:.2f} Hz (min / median / max) over {units.over}")
    if not units.spikes_read:
        lines.append("  the spikes were not read, only their numbers: their order and times are not checked")
    return lines + _column_lines(units.columns)


def _table_lines(table: TableInfo) -> list[str]:
    lines = [f"{table.name}: {table.n_rows} rows"]
    if table.durations:
        low, middle, high = table.durations
        lines[0] += f", {low:.4g} / {middle:.4g} / {high:.4g} s long (min / median / max)"
    lines += _column_lines(table.columns)
    times = ", ".join(f"{name} ({n})" if n < table.n_rows else name for name, n in table.times.items())
    return [*lines, f"  align to: {times or 'no column of times'}"]


def _column_lines(columns: list[ColumnInfo]) -> list[str]:
    width = max((len(column.name) for column in columns), default=0)
    return [f"  {column.name:<{width}}  {column.kind:<9}  {column.told}" for column in columns]
