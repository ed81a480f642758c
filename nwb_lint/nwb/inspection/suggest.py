"""Arguments of `read_conditions` that would read a file, guessed from names, levels and times of its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.conditions import choose_grouping
from nwb_lint.nwb.inspection.suggestion_checks import check_suggestion
from nwb_lint.nwb.inspection.units import read_spike_times, stopped_units
from nwb_lint.nwb.recording.events import activity_paths
from nwb_lint.nwb.recording.series import open_series
from nwb_lint.nwb.recording.tables import Table, interval_tables, open_intervals
from nwb_lint.nwb.recording.time_checks import RowSpans, check_times, row_spans
from nwb_lint.nwb.recording.unit_tables import UNITS, open_units, units_tables
from nwb_lint.nwb.recording.units import Observed, read_observed
from nwb_lint.nwb.storage.source import Source, reading
from nwb_lint.parallel.warnings import collect_warnings
from nwb_lint.query import evaluate, spell_column

Array = np.ndarray

# What names of columns say.
_END = re.compile(r"end|stop|off|out", re.I)
# Names of events and of series of activity, the best first.
_EVENTS = (r"dots|stim|sample|target", r"go|cue", r"delay", r"pole|odou?r|tone|sound|move")
_PROCESSED = (r"deconv|spike|event", r"dff|df_over_f|delta|activity|rate", r"denois|correct", r"roi|fluo|trace")
_BIN_S, _SMOOTH_S, _GRID_S = 0.01, 0.05, 0.05
_SAMPLED_BINS_S = (_BIN_S, _GRID_S, 0.1, 0.25, 0.5)  # bins for time series, the narrowest first
_WIDEST_S = (-0.5, 2.0)


class Suggestion(dict[str, Any]):
    """Arguments of `read_conditions`.

    ``reason`` says why they group trials by more than stimuli; it is empty where they do not.
    """

    reason = ""


def suggest(source: Source, *, units_table: str | None = None) -> Suggestion:
    """Guess arguments of `read_conditions` that would read a file.

    The guess comes from names, levels and times of the columns. A file without units gets the time series that is
    most likely its activity, in bins that each hold a sample.

    Parameters
    ----------
    source : path or address
        One file that `open_nwb` opens.
    units_table : str or None, default=None
        Path of the units table. None takes ``/units``, or else the only units table of the file.

    Returns
    -------
    Suggestion
        A dict of ``table``, ``align``, ``by``, ``where``, ``window_s`` (s), ``bin_s`` (s) and ``smooth_s`` (s).
        ``where`` is None where no column speaks for a query. ``series`` is there for a file without units,
        ``units_table`` for one with units elsewhere than at ``/units``. ``infer_obs`` is there for a local file with
        units that stop firing before the trials end and without observed times. The attribute ``reason`` says why it
        groups trials by more than stimuli; it is empty where it does not.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file has neither units nor a series of activity, or no interval table with rows.

    Examples
    --------
    >>> suggest("session.nwb")["align"]
    'cue_time'
    """
    with reading(source) as file:
        spikes = None
        if choose_series(file, source, units_table) is None and Path(str(source)).exists():
            table = open_units(file, source, units_table)
            with collect_warnings():  # reading the file gives them
                spikes = read_spike_times(table, rows_of_trials(file, source), Observed([None] * len(table), None))
        stopped = spikes is not None and not spikes.has_obs and bool(stopped_units(file, spikes.ends))
        arguments = suggest_from(file, source, infer_obs=stopped, units_table=units_table)
        check_suggestion(file, source, arguments, spikes)
        return arguments


def suggest_for_all(sources: Sequence[Source], *, units_table: str | None = None) -> tuple[Suggestion, list[str]]:
    """A suggestion for the first file that suits all, and for each other file that it does not suit the reason.

    Parameters
    ----------
    sources : sequence of path or address
        Files that `open_nwb` opens.
    units_table : str or None, default=None
        As in `suggest`.

    Returns
    -------
    arguments : Suggestion
        As from `suggest`, for the first file that has a suggestion.
    problems : list of str
        One for each source: why these arguments do not suit it; empty where they do.

    Raises
    ------
    NWBError
        If no file has a suggestion: the error of the first one.

    Examples
    --------
    >>> arguments, problems = suggest_for_all(["session.nwb", "none.nwb"])
    >>> arguments["align"], problems
    ('cue_time', ['', 'none.nwb: no such file. An NWB file is needed. Check the path.'])
    """
    arguments: Suggestion | None = None
    problems: list[str] = []
    first: NWBError | None = None
    for source in sources:
        try:
            if arguments is None:
                arguments = suggest(source, units_table=units_table)
            else:
                with reading(source) as file:
                    if "series" in arguments:
                        open_series(file, arguments["series"], source)
                    else:
                        open_units(file, source, arguments.get("units_table"))
                    check_suggestion(file, source, arguments, None)
            problems.append("")
        except NWBError as error:
            first = first or error
            problems.append(str(error))
    if arguments is None:
        raise first or NWBError("There are no files. At least one is needed. Name one.")
    return arguments, problems


def suggest_from(file: h5py.File, path: Any, *, infer_obs: bool = False, units_table: str | None = None) -> Suggestion:
    """`suggest` for an open file; ``path`` is its name in messages, ``infer_obs`` goes among the arguments."""
    series = choose_series(file, path, units_table)
    name = choose_table(file, path)
    table = open_intervals(file, name, path)
    align, times = _choose_align(table)
    grouping = choose_grouping(table, np.isfinite(times))
    at = None if series is not None else open_units(file, path, units_table).at
    start, stop = _choose_window(file, table, times, grouping.kept, path, at)
    bin_s = _BIN_S if series is None else _choose_bin(file, series, path)
    length = max(round((stop - start) / bin_s, 6) // 1, 1) * bin_s
    arguments = Suggestion(
        by=grouping.by,
        align=align,
        window_s=[start, round(start + length, 6)],
        bin_s=bin_s,
        smooth_s=_SMOOTH_S if series is None else 0.0,  # samples are smooth already
        where=" and ".join(grouping.clauses) or None,
        table=name,
    )
    arguments.reason = grouping.reason
    if at is not None and at != UNITS:
        arguments["units_table"] = at
    if infer_obs:
        arguments["infer_obs"] = True
    elif series is not None:
        arguments["series"] = series
    return arguments


def choose_series(file: h5py.File, path: Any, units_table: str | None = None) -> str | None:
    """None where a file has units; else the path of the series whose name speaks most of processed activity.

    Raises the NWBError about the units where there is no such series either.
    """
    try:
        open_units(file, path, units_table)
        return None
    except NWBError:
        series = activity_paths(file)
        if not series or units_table is not None or len(units_tables(file)) > 1:
            raise
    return min(series, key=lambda path: _first_match(_PROCESSED, path))


def choose_table(file: h5py.File, path: Any) -> str:
    """The interval table that most likely holds the trials; NWBError where no table has rows."""
    tables = {name: n for name, n in interval_tables(file).items() if n and name != "invalid_times"}
    if not tables:
        raise NWBError(f"{path} has no interval table with rows. A table of trials is needed. Pass another file.")

    def likely(name: str) -> tuple[bool, bool, bool, int]:
        return name.rsplit("/", 1)[-1] == "trials", "/" not in name, not name.startswith("events/"), tables[name]

    return max(tables, key=likely)


def rows_of_trials(file: h5py.File, path: Any) -> RowSpans | None:
    """Start and stop of the rows of the table that most likely holds the trials; None where there is none."""
    try:
        return row_spans(open_intervals(file, choose_table(file, path), path))
    except NWBError:  # `suggest_from` says why
        return None


def _choose_bin(file: h5py.File, series: str, path: Any) -> float:
    """The narrowest bin (s) that always holds a sample; the widest bin where samples are further apart."""
    apart_s = open_series(file, series, path).typical_step_s()
    return next((width for width in _SAMPLED_BINS_S if width >= apart_s * (1 - 1e-6)), _SAMPLED_BINS_S[-1])


def _choose_align(table: Table) -> tuple[str, Array]:
    """The column whose name speaks most of an event that starts, with a time in at least half of the rows; its times.

    A column of an event that is relative to the trial's start is an expression: ``start_time + cue_time``.
    """
    spans = row_spans(table)
    found: dict[str, tuple[str, Array]] = {}
    for name in table.time_columns():
        times = table.times(name)
        if name in ("start_time", "stop_time") or np.isfinite(times).mean() < 0.5:
            continue
        checked = spans and check_times(spell_column(name), times, spans)
        problem = checked and checked.problem
        if problem is None or not problem.fatal:
            found[name] = name, times if checked is None else checked.values
        elif problem.expression and times[np.isfinite(times)].any() and _first_match(_EVENTS, name) < len(_EVENTS):
            found[name] = problem.expression, evaluate(problem.expression, table.column, len(table), "align")

    def penalty(name: str) -> int:
        return 2 * _first_match(_EVENTS, name) + 3 * bool(_END.search(name))

    return found[min(found, key=penalty)] if found else ("start_time", table.times("start_time"))


def _first_match(patterns: tuple[str, ...], text: str) -> int:
    """The position of the first pattern that a text matches; their number where it matches none."""
    return next((k for k, pattern in enumerate(patterns) if re.search(pattern, text, re.I)), len(patterns))


def _choose_window(
    file: h5py.File, table: Table, times: Array, kept: Array, path: Any, units_table: str | None
) -> list[float]:
    """What nine tenths of the trials share, at most −0.5 to 2 s: observed time where it is known, else the trial."""
    origins = times[kept]
    edges = None if units_table is None else _observed_edges(file, origins, path, units_table)
    if edges is None:
        edges = tuple(
            table.times(name)[kept] if name in table.names else origins for name in ("start_time", "stop_time")
        )
    before, after = edges[0] - origins, edges[1] - origins
    known = np.isfinite(before) & np.isfinite(after)
    if not known.any():
        return [0.0, 1.0]
    low = max(float(np.quantile(before[known], 0.9)), _WIDEST_S[0])
    high = min(float(np.quantile(after[known], 0.1)), _WIDEST_S[1])
    start = round(float(np.ceil(low / _GRID_S - 1e-3) * _GRID_S), 6)
    stop = round(float(np.floor(high / _GRID_S + 1e-3) * _GRID_S), 6)
    return [start, stop] if stop - start >= 2 * _GRID_S else [0.0, 1.0]


def _observed_edges(file: h5py.File, origins: Array, path: Any, at: str) -> tuple[Array, Array] | None:
    """Start and stop of the first unit's observed interval at, or next after, each origin; None without intervals."""
    units = open_units(file, path, at)
    if "obs_intervals" not in units.names:
        return None
    with collect_warnings():  # reading the file gives them
        observed = read_observed(file, units, np.array([0]))[0]
    if observed is None or not len(observed.starts):
        return None
    found = np.minimum(np.searchsorted(observed.ends, origins, side="right"), len(observed.ends) - 1)
    return observed.starts[found], observed.ends[found]
