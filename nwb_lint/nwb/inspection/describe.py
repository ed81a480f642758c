"""What an NWB file holds for this package: units, interval tables, warnings, and a call that would read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.inspection.series import series_problems
from nwb_lint.nwb.inspection.suggest import rows_of_trials, suggest_from
from nwb_lint.nwb.inspection.suggestion_checks import check_suggestion
from nwb_lint.nwb.inspection.tables import Span, TableInfo, describe_table, span_of_rows
from nwb_lint.nwb.inspection.units import UnitsInfo, count_units, describe_units
from nwb_lint.nwb.recording.events import activity_paths, event_paths, input_paths
from nwb_lint.nwb.recording.tables import open_intervals, rows_of_tables
from nwb_lint.nwb.recording.unit_tables import fit_paths
from nwb_lint.nwb.storage.h5 import as_text, is_dataset, member_or_error
from nwb_lint.nwb.storage.metadata import provenance, session_labels
from nwb_lint.nwb.storage.source import Source, expand, one_asset, reading, run_on_files


class Description(NamedTuple):
    """All that `describe` finds in one file.

    Attributes
    ----------
    path, session, subject : str
        Path or address; label of the session; id of the subject.
    span : tuple of float or None
        First and last time of all spikes, observed times and trials, s; None where the file has none.
    units : UnitsInfo or None
        The units; None where the file has none.
    tables : list of TableInfo
        The interval tables that have rows.
    warnings : list of str
        What is missing in the file or looks wrong, a line each.
    suggestion : dict
        Arguments of `read_conditions` that would read the file; empty where none would.
    error : str
        Why the file could not be described at all; empty for a file that could.
    events : tuple of str
        Paths of event series and event tables, which ``align`` takes.
    series : tuple of str
        Paths of time series that may be activity, which ``series`` takes.
    input_series : tuple of str
        Paths of time series of numbers that may be inputs, which ``Input(series=...)`` takes.
    units_tables : dict of str to int or None
        Number of units in every units table of the file, by the paths that ``units_table`` takes; None for a table that
        cannot be read.
    fits : dict of str to str
        Whether each fit in the file is what was written, by its path. `describe` does not check it and leaves it empty;
        ``nwb-lint inspect`` does.
    stored : dict of str to str
        What each fit in the file is, by its path.
    written : str
        When the file was made, as it says itself; empty where it does not.
    """

    path: str
    session: str
    subject: str
    span: Span | None
    units: UnitsInfo | None
    tables: list[TableInfo]
    warnings: list[str]
    suggestion: dict[str, Any]
    error: str = ""
    events: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    units_tables: Mapping[str, int | None] = MappingProxyType({})
    fits: Mapping[str, str] = MappingProxyType({})
    stored: Mapping[str, str] = MappingProxyType({})
    written: str = ""
    input_series: tuple[str, ...] = ()


def describe(
    source: Source, *, spikes: bool | None = None, units_table: str | None = None, external: bool = False
) -> Description:
    """Describe one file: its units, interval tables, warnings, and a call of `read_conditions` that would read it.

    A file without units or trials is described too: what is missing is among the warnings.

    Parameters
    ----------
    source : path or address
        One file that `open_nwb` opens.
    spikes : bool or None, default=None
        Whether to read the spike times, block by block. If not, only the number of spikes of each unit is known.
        None reads those of local files only.
    units_table : str or None, default=None
        Path of the units table to describe. None takes ``/units``, or else the only units table of the file.
    external : bool, default=False
        Whether other files that a file names are read too, as for `open_nwb`.

    Returns
    -------
    Description
        What the file holds.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file cannot be opened or read.

    Examples
    --------
    >>> describe("session.nwb").units.ids
    [0, 1, 2, 3, 4]
    """
    read_spikes = Path(str(source)).exists() if spikes is None else spikes
    name = Path(str(source)).name
    asset = one_asset(source, external=external)
    with reading(asset) as file:
        found = provenance(file, source)
        tables, spans, warnings = _describe_tables(file, name)
        units = describe_units(
            file, name, read_spikes=read_spikes, trial_span=_hull(spans), rows=rows_of_trials(file, source),
            units_table=units_table,
        )  # fmt: skip
        events, series, inputs, stored, more = _find_series(file, name)
        warnings += more
        if not stored or tables or count_units(file) or series or warnings:  # a file of fits alone lacks nothing
            lacks = [] if tables else ["no interval table has rows, so there is nothing to align to"]
            warnings += lacks + units.warnings
        suggestion: dict[str, Any] = {}
        if (units.info or series) and tables:
            try:
                suggestion = suggest_from(
                    file, source, infer_obs=bool(units.info and units.info.stopped), units_table=units_table
                )
                check_suggestion(file, source, suggestion, units.spikes)
                suggestion |= {"external": True} if asset.external else {}
            except NWBError as error:
                suggestion = {}
                warnings.append(f"no call of read_conditions fits: {error}")
        return Description(
            path=str(source),
            session=session_labels([found])[0],
            subject=found.subject_id,
            span=_hull([*spans, *([units.span] if units.span else [])]),
            units=units.info,
            tables=tables,
            warnings=warnings,
            suggestion=suggestion,
            events=events,
            series=series,
            input_series=inputs,
            units_tables=count_units(file),
            stored=stored,
            written=_last_date(file),
        )


def describe_all(
    sources: Source | Sequence[Source],
    *,
    spikes: bool | None = None,
    units_table: str | None = None,
    external: bool = False,
    executor: Executor | None = None,
    progress: bool = False,
) -> list[Description]:
    """Describe every file that the sources stand for, with `describe`.

    Parameters
    ----------
    sources : path, address, pattern, or a sequence of these
        Files that `open_nwb` opens. A text with ``*``, ``?`` or ``[`` stands for all files that it matches.
    spikes : bool or None, default=None
        As in `describe`.
    units_table : str or None, default=None
        As in `describe`.
    external : bool, default=False
        Whether other files that a file names are read too, as for `open_nwb`.
    executor : concurrent.futures.Executor or None, default=None
        What runs the work; threads of this process where None.
    progress : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    list of Description
        One for each file, in order. A file that cannot be read has an ``error`` and nothing else.

    Raises
    ------
    NWBError
        If a pattern matches no file, or a file is listed twice.

    Examples
    --------
    >>> [found.error for found in describe_all(["session.nwb", "none.nwb"])]
    ['', 'none.nwb: no such file. An NWB file is needed. Check the path.']
    """
    paths = expand(sources, external=external)
    found = [Description(str(path), "", "", None, None, [], [], {}) for path in paths]
    tasks = [(path, {"spikes": spikes, "units_table": units_table}) for path in paths]
    how = {"executor": executor, "errors": "skip", "progress": progress, "label": "inspecting"}
    for k, outcome in run_on_files(describe, tasks, **how):
        found[k] = outcome.result or found[k]._replace(error=str(outcome.error))
    return found


def _describe_tables(file: h5py.File, name: str) -> tuple[list[TableInfo], list[Span], list[str]]:
    """The interval tables, the spans of their rows (s), and warnings."""
    tables: list[TableInfo] = []
    spans: list[Span] = []
    warnings: list[str] = []
    try:
        rows = rows_of_tables(file)
    except NWBError as error:
        return [], [], [str(error)]
    for key, n in rows.items():
        try:
            if isinstance(n, NWBError):
                raise n
            table = open_intervals(file, key, name)
            info, found = describe_table(table, key)
            tables.append(info)
            warnings += found
            spans += span_of_rows(table) if key != "invalid_times" else []
        except NWBError as error:
            warnings.append(str(error))
    return tables, spans, warnings


_Paths = tuple[str, ...]


def _find_series(file: h5py.File, name: str) -> tuple[_Paths, _Paths, _Paths, dict[str, str], list[str]]:
    """Paths of events, of series of activity and of other numbers, what each fit is by its path, and warnings."""
    try:
        series = tuple(activity_paths(file))
        events = tuple(path for path in event_paths(file, listed=True) if path not in series)
        inputs = tuple(path for path in input_paths(file) if path not in series)
        stored = {path: as_text(file[path].attrs.get("description", "")) for path in fit_paths(file)}
        return events, series, inputs, stored, series_problems(file, name)
    except (OSError, RuntimeError, KeyError) as error:
        return (), (), (), {}, [f"series of events, activity and fits cannot be found: {one_line(error)}"]


def _last_date(file: h5py.File) -> str:
    """The last of the dates at which a file was made, to the minute."""
    try:
        dates = member_or_error(file, "file_create_date")
        last = as_text(dates[-1]) if is_dataset(dates) and dates.shape else ""
        return f"{datetime.fromisoformat(last):%Y-%m-%d %H:%M %Z}".rstrip()
    except (IndexError, TypeError, ValueError, OSError, RuntimeError):
        return ""


def _hull(spans: Sequence[Span]) -> Span | None:
    """The span from the first start to the last end."""
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None
