"""Descriptions of files as text and as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from nwb_lint.nwb.inspection.describe import Description
from nwb_lint.nwb.inspection.tables import ColumnInfo, TableInfo
from nwb_lint.nwb.inspection.units import UnitsInfo

_MOST_EVENTS = 12


def format_description(description: Description) -> str:
    """All that is known of one file as text: what ``nwb-lint inspect`` prints.

    Parameters
    ----------
    description : Description
        From `describe`.

    Returns
    -------
    str
        Lines on the session, units, tables, events and warnings, and the suggested call of `read_conditions`.

    Examples
    --------
    >>> from nwb_lint.nwb.inspection.describe import describe
    >>> print(format_description(describe("session.nwb")).splitlines()[1])
    session mock, subject simulated, ... to ... s
    """
    subject = f", subject {description.subject}" if description.subject else ""
    span = f", {description.span[0]:g} to {description.span[1]:g} s" if description.span else ""
    lines = [description.path, f"session {description.session}{subject}{span}", "", *_fit_lines(description)]
    if description.units:
        lines += [*_unit_lines(description.units), ""]
    lines += _units_table_lines(description)
    for table in description.tables:
        lines += [*_table_lines(table), ""]
    lines += _path_lines("align to events of each trial", description.events)
    lines += _path_lines("activity as a time series", description.series)
    lines += _path_lines("series that may be inputs", description.input_series)
    lines.append("warnings:" if description.warnings else "no warnings")
    lines += [f"  - {warning}" for warning in description.warnings]
    if description.suggestion:
        lines += ["", "a call that would read this file (a guess from its columns):", format_call(description)]
    return "\n".join(lines) + "\n"


def _fit_lines(description: Description) -> list[str]:
    """Which fits a file holds, of when it is, and how to see them; nothing for a file without fits."""
    stored, path = description.stored, shlex.quote(description.path)
    if not stored:
        return []
    n, alone = len(stored), not (description.units or description.tables or description.series)
    what = "a fit of nwb_lint" if n == 1 else f"{n} fits of nwb_lint"
    lines = [f"This file holds {'' if alone else 'a recording and '}{what}{' and no recording' if alone else ''}:"]
    for at, text in stored.items():
        checked = f" ({description.fits[at]})" if at in description.fits else ""
        lines.append(f"  fit {at}{checked}: {text}")
    if alone and description.written:  # a recording may be older than the fits that were added to it
        lines.append(f"  Written on {description.written}.")
    chosen = "" if n == 1 else " --name NAME"
    named = "" if n == 1 else ", name=..."
    return [
        *lines,
        f"  See {'it' if n == 1 else 'one'}: nwb-lint show {path}{chosen}",
        f"  As a page: nwb-lint report {path}{chosen}",
        f"  In Python: nl.read_fit({description.path!r}{named})",
        "",
    ]


def format_call(description: Description) -> str:
    """The suggested call of `read_conditions` as Python."""
    given = "".join(f"    {name}={value!r},\n" for name, value in description.suggestion.items())
    return f"read_conditions(\n    {description.path!r},\n{given})"


def format_table(descriptions: Sequence[Description]) -> str:
    """Several files as a table, one line each.

    Parameters
    ----------
    descriptions : sequence of Description
        From `describe_all`.

    Returns
    -------
    str
        The table, and a line with totals. A file that cannot be read has its error beside its path.

    Examples
    --------
    >>> from nwb_lint.nwb.inspection.describe import describe
    >>> print(format_table([describe("session.nwb")]))
    units  spikes  median Hz  tables       warnings  file
        5  ...  trials (40)         0  session.nwb
    1 file, 5 units, ... spikes
    """
    rows = [("units", "spikes", "median Hz", "tables", "warnings", "file"), *map(_table_row, descriptions)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    lines = []
    for *cells, last in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        padded[3] = cells[3].ljust(widths[3])  # the one column of words
        lines.append("  ".join([*padded, last]))
    known = [one.units for one in descriptions if one.units]
    total = f"{sum(len(units.ids) for units in known)} units, {sum(sum(units.n_spikes) for units in known)} spikes"
    return "\n".join([*lines, f"{len(descriptions)} file{'s' * (len(descriptions) != 1)}, {total}"])


def to_json(descriptions: Sequence[Description]) -> str:
    """Several files as JSON: ``{"files": [...]}``, the same keys for every file, null where nothing is known.

    Parameters
    ----------
    descriptions : sequence of Description
        From `describe_all`.

    Returns
    -------
    str
        JSON. The keys of a file:

        - ``path``, ``session``, ``subject``: texts. ``error``: a text, empty for a file that could be described.
        - ``span_s``: [first, last], s.
        - ``units``: ``table`` (its path), ``ids``, ``n_spikes``, ``rates_hz``, ``rates_over``, ``spikes_read``,
          ``has_obs_intervals``, ``columns``.
        - ``tables``, each with ``name``, ``n_rows``, ``duration_s`` (``min``, ``median``, ``max``), ``columns``, and
          ``align`` (column → number of rows that have a time).
        - ``columns`` of both, each with ``name``, ``kind``, ``levels`` (value → number of rows) and ``summary``.
        - ``units_tables``: path → number of units (null: not known), of every units table in the file.
        - ``events``: paths that ``align`` takes. ``series``: paths that ``series`` takes.
          ``input_series``: paths that ``Input(series=...)`` takes.
        - ``fits``: path → "verified", "not verified (older version)", or why the fit cannot be read.
        - ``warnings``: texts. ``suggestion``: arguments of `read_conditions`.

    Examples
    --------
    >>> import json
    >>> from nwb_lint.nwb.inspection.describe import describe
    >>> json.loads(to_json([describe("session.nwb")]))["files"][0]["warnings"]
    []
    """
    return json.dumps({"files": [_plain(one) for one in descriptions]}, indent=2, allow_nan=False)


def _plain(one: Description) -> dict[str, Any]:
    return {
        "path": one.path,
        "session": one.session,
        "subject": one.subject,
        "error": one.error,
        "span_s": None if one.span is None else [_number(edge) for edge in one.span],
        "units": None if one.units is None else _plain_units(one.units),
        "tables": [_plain_table(table) for table in one.tables],
        "units_tables": dict(one.units_tables),
        "events": list(one.events),
        "series": list(one.series),
        "input_series": list(one.input_series),
        "fits": dict(one.fits),
        "warnings": one.warnings,
        "suggestion": one.suggestion,
    }


def _plain_units(units: UnitsInfo) -> dict[str, Any]:
    return {
        "table": units.table,
        "ids": units.ids,
        "n_spikes": units.n_spikes,
        "rates_hz": [_number(rate) for rate in units.rates],
        "rates_over": units.over,
        "spikes_read": units.spikes_read,
        "has_obs_intervals": units.has_obs_intervals,
        "columns": [column._asdict() for column in units.columns],
    }


def _plain_table(table: TableInfo) -> dict[str, Any]:
    durations = None
    if table.durations is not None:
        durations = dict(zip(("min", "median", "max"), map(_number, table.durations), strict=True))
    return {
        "name": table.name,
        "n_rows": table.n_rows,
        "duration_s": durations,
        "columns": [column._asdict() for column in table.columns],
        "align": table.times,
    }


def _number(value: float) -> float | None:
    """A number that JSON has: rounded to 9 digits, None for NaN and infinity."""
    return float(f"{value:.9g}") if np.isfinite(value) else None


def _table_row(one: Description) -> tuple[str, ...]:
    units = one.units
    rates = np.asarray(units.rates if units else [])
    rates = rates[np.isfinite(rates)]
    return (
        str(len(units.ids)) if units else "–",
        str(sum(units.n_spikes)) if units else "–",
        f"{np.median(rates):.2f}" if len(rates) else "–",
        ", ".join([*(f"{table.name} ({table.n_rows})" for table in one.tables), *_count_fits(one)]) or "–",
        str(len(one.warnings)) if not one.error else "–",
        f"{one.path}  {one.error}".rstrip(),
    )


def _count_fits(one: Description) -> list[str]:
    n = len(one.stored)
    return [f"{n} fit{'s' * (n > 1)}"] if n else []


def _path_lines(what: str, paths: Sequence[str]) -> list[str]:
    """A line that lists paths, and an empty one; none where there is no path."""
    if not paths:
        return []
    more = f", … ({len(paths)} in all)" if len(paths) > _MOST_EVENTS else ""
    return [f"{what}: {', '.join(paths[:_MOST_EVENTS])}{more}", ""]


def _units_table_lines(one: Description) -> list[str]:
    """A line that lists the units tables that are not described, and an empty one; none where there are no others."""
    described = one.units.table if one.units else ""
    others = [at if n is None else f"{at} ({n} units)" for at, n in one.units_tables.items() if at != described]
    more = "more units tables" if described else "units tables"
    return [f"{more}, one of which units_table= takes: {', '.join(others)}", ""] if others else []


def _unit_lines(units: UnitsInfo) -> list[str]:
    observed = "with obs_intervals" if units.has_obs_intervals else "no obs_intervals"
    where = "" if units.table == "units" else f" in {units.table}"
    lines = [f"units{where}: {len(units.ids)}, {sum(units.n_spikes)} spikes, {observed}"]
    known = np.asarray(units.rates)[np.isfinite(units.rates)]
    if len(known):
        low, median, high = np.quantile(known, [0, 0.5, 1])
        lines.append(f"  {low:.2f} / {median:.2f} / {high:.2f} Hz (min / median / max) over {units.over}")
    if not units.spikes_read:
        lines.append("  the spike times were not read, only their numbers. Order and times are not checked.")
    return lines + _column_lines(units.columns)


def _table_lines(table: TableInfo) -> list[str]:
    lines = [f"{table.name}: {table.n_rows} rows"]
    if table.durations:
        low, median, high = table.durations
        lines[0] += f", {low:.4g} / {median:.4g} / {high:.4g} s long (min / median / max)"
    lines += _column_lines(table.columns)
    times = ", ".join(f"{name} ({n})" if n < table.n_rows else name for name, n in table.times.items())
    return [*lines, f"  align to: {times or 'no column has times'}"]


def _column_lines(columns: list[ColumnInfo]) -> list[str]:
    width = max((len(column.name) for column in columns), default=0)
    return [f"  {column.name:<{width}}  {column.kind:<9}  {column.summary}" for column in columns]
