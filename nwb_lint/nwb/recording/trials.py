"""The trials that are read: selected by a query, aligned to a time, limited, and grouped into conditions.

1. `choose_trials` selects the trials of one session, for both readers.
2. `align_times` gives the time that each row is aligned to: a column, events elsewhere in the file, or a function.
3. `parse_by` reads the argument ``by``, `factor_levels` gives its values for one table, and `make_conditions` makes
   the conditions of all sessions from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.contract.values import distinct, equal_up_to_rounding, missing_in, size_of_column
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input
from nwb_lint.nwb.recording.events import EventLabels, Events, event_labels, event_paths, find_series, read_events
from nwb_lint.nwb.recording.tables import DAMAGED, SCALAR_KINDS, Table, TableChoice, open_table
from nwb_lint.nwb.recording.time_checks import FUNCTION, CheckedTimes, RowSpans, check_times, doubtful_zeros, row_spans
from nwb_lint.parallel.warnings import warn
from nwb_lint.query import column_names, evaluate, format_value, select, spell_column

Array = np.ndarray
Align = str | Callable[[Any], Any]
Which = str | int  # "first", "last", or a number from 0
By = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


class Choice(NamedTuple):
    """Which of several events trials are aligned to: ``where`` selects events, ``which`` one of those of a trial."""

    where: str | None = None
    which: Which | None = None
    argument: str = "align_where"  # that ``where`` is given as, for messages

    def refuse_where(self, reason: str) -> None:
        """Raise ContractError if events are selected, and there are none."""
        if self.where is not None:
            raise ContractError(f"{self.argument} selects events of a series, and {reason}. Select trials by where=.")

    def refuse_which(self, reason: str) -> None:
        """Raise ContractError if one of several times is chosen, and there is only one."""
        if self.which is not None:
            raise ContractError(f"align_which chooses one of several times of a trial, and {reason}. Leave it out.")


NO_CHOICE = Choice()


def check_choice(which: Which | None) -> None:
    """Raise ContractError unless ``align_which`` is None, "first", "last" or a number from 0."""
    if which is not None and which not in ("first", "last") and (isinstance(which, bool | str) or which < 0):
        raise ContractError(f'align_which is {which!r}. It needs "first", "last" or a number from 0. Change it.')


class Trials(NamedTuple):
    """The trials of a session that are read.

    | field | dims | |
    |---|---|---|
    | where | | name of the table and file, for messages |
    | ids, origins | trial | row ids; the time that each is aligned to, s |
    | columns | trial | columns that are read along |
    | levels | trial | one `Levels` for each factor of ``by`` |
    | reach_s, longest_s | | the largest time in the whole table; the longest of its rows, s |
    | second | trial | the second event of ``warp``, s; None without warp |
    | within | 2, trial | the limits of each trial, s; None without |
    | spans | | start and stop of each trial (`RowSpans`); None if the table has no start_time |
    | boxes | 2, trial | by `Input.source`, when each input between two events is on, s; NaN where never |
    | events | | by `Input.source`, the events of each input that a column of the table lists |
    | placeholders, doubts | | sentences on numbers that stand for no time, and on what is likely wrong with times |
    | dropped_… | | trials that the query leaves out, have such a value, or lack time, warp, limits, or level |
    """

    where: str
    ids: Array
    origins: Array
    columns: dict[str, Array]
    levels: list[Levels]
    reach_s: float
    longest_s: float
    second: Array | None
    within: Array | None
    spans: RowSpans | None
    boxes: dict[str, Array]
    events: dict[str, Events]
    placeholders: list[str]
    doubts: list[str]
    dropped_where: int
    dropped_placeholder: int
    dropped_align: int
    dropped_warp: int
    dropped_within: int
    dropped_by: int


def choose_trials(
    file: h5py.File,
    path: Any,
    *,
    table: TableChoice,
    where: str | None,
    align: Align,
    factors: Sequence[Factor] = (),
    columns: Sequence[str] | None = (),
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    derived: Mapping[str, str] | None = None,
    align_where: str | None = None,
    align_which: Which | None = None,
    inputs: Sequence[Input] = (),
) -> Trials:
    """The rows that ``where`` selects and that have all that is needed.

    In this order, rows are dropped that have a number in place of a missing time, no time of ``align``, no interval of
    ``warp`` above 0, no limits of ``within``, or no value of a factor. ``columns`` are read along (None: all with one
    value per row). ``derived`` columns come first, so that all other arguments may name them. ``inputs`` are those in
    the file; of the ones between two events the times are read here.

    Raises: NWBError if no trial is left, or times cannot be in the session. The message says how many there were, and
    what dropped the others.
    """
    source = open_table(file, table, path)
    source.derive(derived or {})
    selected = np.flatnonzero(source.select(where))
    if not len(selected):
        raise NWBError(f"{source.where}: 0 of {len(source)} trials satisfy where={where!r}. Loosen the query.")
    read = _TimesOfRows(file, path, source, selected)
    times = read.times(align, choice=Choice(align_where, align_which))
    second = None if warp is None else read.times(warp[1], "warp")
    limits = None if within is None else np.stack([read.times(name, "within") for name in within])
    rows = selected[~read.placeholder[selected]]
    aligned = rows[np.isfinite(times[rows])]
    if not len(aligned):
        raise _none_aligned(source, align, selected)
    warped = aligned if second is None else aligned[second[aligned] > times[aligned]]
    if warp is not None and not len(warped):
        raise _none_has(source, len(aligned), f"{warp[1]} after {warp[0]}")
    limited = warped if limits is None or within is None else _limited(source, warped, limits, within)
    levels = [factor_levels(source, factor) for factor in factors]
    kept = _grouped(source, factors, levels, limited, len(selected))
    if columns is None:
        columns = [name for name in source.names if source.kind(name) in (*SCALAR_KINDS, DAMAGED)]
    edges: dict[str, Array] = {name: source.times(name) for name in ("start_time", "stop_time") if name in source.names}
    known = [times, *edges.values()] if read.spans is None else [times, read.spans.starts, read.spans.stops]
    return Trials(
        where=source.where,
        ids=source.ids[kept],
        origins=times[kept],
        columns={name: source.column_or_texts(name)[kept] for name in columns},
        levels=[Levels(part.values[kept], part.missing[kept], part.ranked) for part in levels],
        reach_s=float(np.nanmax(np.abs(known))),
        longest_s=_longest(source, edges, selected),
        second=None if second is None else second[kept],
        within=None if limits is None else limits[:, kept],
        spans=None if read.spans is None else read.spans.take(kept),
        boxes={one.source: _box(read, one, kept) for one in inputs if one.start or one.stop},
        events={one.source: _events_of_rows(read, one) for one in inputs if one.events in source.names},
        placeholders=read.texts,
        doubts=read.doubts,
        dropped_where=len(source) - len(selected),
        dropped_placeholder=len(selected) - len(rows),
        dropped_align=len(rows) - len(aligned),
        dropped_warp=len(aligned) - len(warped),
        dropped_within=len(warped) - len(limited),
        dropped_by=len(limited) - len(kept),
    )


_LEFT_OUT = "These trials are left out."


class _TimesOfRows:
    """Reads times of the rows of a table, and checks them in the ``selected`` rows (`check_times`).

    Over all times that were read, ``placeholder`` (row) and ``texts`` collect the numbers that stand for no time, and
    ``doubts`` what is likely wrong.
    """

    def __init__(self, file: h5py.File, path: Any, table: Table, selected: Array, so: str = _LEFT_OUT) -> None:
        self.file, self.path, self.table, self.selected = file, path, table, selected
        self.spans = row_spans(table)
        self.placeholder = np.zeros(len(table), bool)
        self.so = so  # what follows for rows that have such a number, as a sentence
        self.texts: list[str] = []
        self.doubts: list[str] = []

    def times(self, name: Align, what: str = "align", choice: Choice = NO_CHOICE) -> Array:
        """The time of every row, s; NaN where there is none. Raises: NWBError if they cannot be in the session."""
        values = self._read(name, what, choice)
        spelled = spell_column(name) if isinstance(name, str) and name in self.table.names else align_text(name)
        checked = self._checked(spelled if isinstance(name, str) else f"{FUNCTION}{spelled}", values, what)
        if checked is None:
            return values
        if checked.problem is not None:
            message = f"{self.table.where}: {checked.problem.text}"
            if checked.problem.fatal:
                raise NWBError(message)
            self.doubts.append(message)
        return self._without_placeholders(values, checked)

    def _checked(self, name: str, values: Array, what: str) -> CheckedTimes | None:
        return self.spans and check_times(name, values[self.selected], self.spans.take(self.selected), what)

    def _without_placeholders(self, values: Array, checked: CheckedTimes) -> Array:
        """The times without the numbers that stand for none, which are counted."""
        if checked.placeholder.any() and checked.placeholder_text not in self.texts:
            self.texts.append(checked.placeholder_text)
            warn(f"{self.table.where}: {checked.placeholder_text} {self.so}")
        self.placeholder[self.selected] |= checked.placeholder
        values = values.copy()
        values[self.selected] = checked.values
        return values

    def _read(self, name: Align, what: str, choice: Choice) -> Array:
        """The times as `align_times` gives them, or those of an expression over columns."""
        names = column_names(name) if isinstance(name, str) and name not in self.table.names else []
        if not isinstance(name, str) or not any(one in self.table.names for one in names):
            return align_times(self.file, self.path, self.table, name, self.selected, what, choice)
        if find_series(self.file, name, self.path, "event series", what) is not None:
            return align_times(self.file, self.path, self.table, name, self.selected, what, choice)
        choice.refuse_where(f"{name!r} is an expression over columns")
        many = [one for one in names if one in self.table.names and _has_many(self.table, one, self.selected)]
        if not many:
            choice.refuse_which(f"each column of {name!r} has one time per trial")
        read = partial(self._column_of_expression, what=what, choice=choice, many=many)
        values = np.asarray(evaluate(name, read, len(self.table), what))
        if values.dtype.kind not in "iuf":
            raise NWBError(f"{what}: {name!r} gives {values.dtype} and no times. Pass an expression over times.")
        return values.astype(float)

    def _column_of_expression(self, name: str, *, what: str, choice: Choice, many: list[str]) -> Array:
        """A column of an expression, without the numbers that stand for no time."""
        if name in many:
            values = _times_of_column(self.table, name, self.selected, what, choice)
        elif name not in self.table.names or self.table.kind(name) not in ("time", "number"):
            return self.table.column(name)
        else:
            values = self.table.times(name)
        checked = self._checked(spell_column(name), values, what)
        if checked is None:
            return values
        if checked.problem is not None and checked.problem.expression.startswith("start_time + "):
            text = doubtful_zeros(spell_column(name), checked.values)
            self.doubts += [f"{self.table.where}: {text}"] if text else []
        return self._without_placeholders(values, checked)


def _box(read: _TimesOfRows, one: Input, rows: Array) -> Array:
    """When an input is on in each of the rows, (start and stop, row), s; NaN in a row without these times."""
    with naming(one):
        own = _TimesOfRows(read.file, read.path, read.table, read.selected, f"Input {one.name!r} is off there.")
        start = np.full(len(read.table), -np.inf) if one.start is None else own.times(one.start, "start")
        stop = np.full(len(read.table), np.inf) if one.stop is None else own.times(one.stop, "stop")
        read.doubts += [doubt for doubt in own.doubts if doubt not in read.doubts]
        start, stop = start[rows], stop[rows]
        for name, times in ((one.start, start), (one.stop, stop)):
            if np.isnan(times).all():
                raise _no_times(read.table, str(name), len(rows))
        for wrong, what in (
            (np.isnan(start) & np.isfinite(stop), f"no {one.start}, and {one.stop}"),
            (np.isfinite(start) & np.isnan(stop), f"{one.start}, and no {one.stop}"),
            (stop < start, f"{one.stop} before {one.start}"),
        ):
            if wrong.any():
                row = read.table.ids[rows[wrong][0]]
                raise NWBError(
                    f"{read.table.where}: {wrong.sum()} of {len(rows)} trials have {what} (the first has id {row}). "
                    "It needs both in this order, or none of the two. Leave such trials out by where."
                )
    return np.stack([start, stop])


def _events_of_rows(read: _TimesOfRows, one: Input) -> Events:
    """The times in a column of the table, of all rows that the input's query selects, in ascending order, s."""
    table, name = read.table, str(one.events)
    with naming(one):
        many = _has_many(table, name, read.selected)
        own = _TimesOfRows(read.file, read.path, table, read.selected, f"Input {one.name!r} has no events there.")
        times, of_row = own.times(name, "events", Choice(None, "first" if many else None)), np.arange(len(table))
        if many:
            times, of_row, _ = _listed_times(table, name, read.selected, "events")
        read.doubts += [doubt for doubt in own.doubts if doubt not in read.doubts]
        chosen = table.select(one.where)[of_row]
        if not np.isfinite(times[chosen]).any():
            raise _no_times(table, name, len(table), f" that where={one.where!r} selects" if one.where else "")
        sizes = None if one.amplitude is None else table.numbers(one.amplitude)[of_row]
        return _in_order(name, times, chosen, sizes)


def _no_times(table: Table, name: str, n: int, which: str = "") -> NWBError:
    columns = ", ".join(table.time_columns()) or "none"
    return NWBError(f"{table.where}: none of {n} trials{which} has a time in {name}. Columns of times: {columns}.")


@contextmanager
def naming(one: Input) -> Iterator[None]:
    """Errors of files inside begin with the name of this input."""
    try:
        yield
    except NWBError as error:
        raise NWBError(f"input {one.name!r}: {error}") from None


def _limited(table: Table, rows: Array, limits: Array, within: Sequence[str]) -> Array:
    """Those of ``rows`` that have both limits (2, row of the table)."""
    limited = rows[np.isfinite(limits[:, rows]).all(axis=0)]
    if not len(limited):
        raise _none_has(table, len(rows), " and ".join(within))
    if not (limits[1] > limits[0])[limited].any():
        raise NWBError(
            f"{table.where}: {within[1]} is after {within[0]} in none of {len(limited)} trials, which are read "
            "between the two. Pass other columns as within=."
        )
    return limited


def _grouped(table: Table, factors: Sequence[Factor], levels: list[Levels], rows: Array, n_selected: int) -> Array:
    """The rows that have a value of every factor."""
    kept = rows
    for part in levels:
        kept = kept[~part.missing[kept]]
    if not len(kept):
        empty = ", ".join(f"{f.column} ({part.missing[rows].sum()})" for f, part in zip(factors, levels, strict=True))
        raise NWBError(
            f"{table.where}: {n_selected} of {len(table)} trials satisfy the query, {len(rows)} are aligned, and "
            f"none has a value of every column of by; missing: {empty}. Change by."
        )
    return kept


def _longest(table: Table, edges: dict[str, Array], rows: Array) -> float:
    """The longest row, s (0 if rows have no two edges); warns of rows that do not end after their start."""
    if len(edges) < 2:
        return 0.0
    start, stop = edges["start_time"], edges["stop_time"]
    for odd, text in ((stop[rows] < start[rows], "stop before they start"), (stop[rows] == start[rows], "last 0 s")):
        if odd.any():
            row = rows[odd][0]
            warn(
                f"{table.where}: {odd.sum()} of {len(rows)} trials {text} (the first has id {table.ids[row]}: "
                f"{start[row]:g} to {stop[row]:g} s)."
            )
    lasts = stop - start
    return float(np.nanmax(lasts)) if np.isfinite(lasts).any() else 0.0


def _none_aligned(table: Table, align: Align, rows: Array) -> NWBError:
    valid = {name: int(np.isfinite(table.times(name)[rows]).sum()) for name in table.time_columns()}
    listed = ", ".join(f"{name} ({n})" for name, n in valid.items() if n) or "none"
    return NWBError(
        f"{table.where}: none of {len(rows)} trials has a number in {align_text(align)}, so none can be aligned. "
        f"Columns with times: {listed}. Pass one as align=."
    )


def _none_has(table: Table, n: int, what: str) -> NWBError:
    return NWBError(f"{table.where}: none of {n} aligned trials has {what}. Pass other columns.")


def align_times(
    file: h5py.File,
    path: Any,
    table: Table,
    align: Align,
    rows: Array,
    what: str = "align",
    choice: Choice = NO_CHOICE,
) -> Array:
    """The time of every row, s; NaN if it has none.

    | align | time of a row |
    |---|---|
    | a column | its value; NaN for NaN, 'N/A' and other texts that are not numbers |
    | a column with many values per row | one of them, as ``align_which`` says |
    | name or path of an event series or events table | the first event in [start_time, stop_time) |
    | a function | its result for a DataFrame of the columns with one value per row (index: row ids) |

    Of events, ``align_where`` selects some, and ``align_which`` takes another one than the first.

    Raises: NWBError if there is no such column or series (the message lists both), or several times per row and no
    ``align_which``; ContractError if a function returns anything but one number per row, or a choice does not apply.
    """
    if not isinstance(align, str):
        choice.refuse_where("a function gives the times")
        choice.refuse_which("a function gives one time per trial")
        return _times_of_function(align, table, what)
    if align in table.names:
        return _times_of_column(table, align, rows, what, choice)
    events = find_events(file, align, path, what, choice)
    if events is None:
        candidates = ", ".join(table.time_columns()) or "none"
        series = event_paths(file)
        more = f"; event series: {', '.join(series[:12])}{', …' * (len(series) > 12)}" if series else ""
        raise NWBError(f"{table.where} has no column {align!r} for {what}. Columns of times: {candidates}{more}.")
    absent = [name for name in ("start_time", "stop_time") if name not in table.names]
    if absent:
        raise NWBError(
            f"{table.where} has no {' and no '.join(absent)}. Events are searched between the two. Pass a column as "
            f"{what}=."
        )
    which = "first" if choice.which is None else choice.which
    return events.within(table.times("start_time"), table.times("stop_time"), which)


def _times_of_column(table: Table, name: str, rows: Array, what: str, choice: Choice) -> Array:
    """The times of a column, s, or one of the many that it has in each row."""
    choice.refuse_where(f"{name} is a column of {table.where}")
    if _has_many(table, name, rows):
        return _chosen_times(table, name, rows, what, choice)
    choice.refuse_which(f"{name} has one time per trial")
    if table.kind(name) == "bool":
        times = ", ".join(table.time_columns()) or "none"
        raise NWBError(f"{name} of {table.where} holds yes or no; {what} needs times. Columns of times: {times}.")
    return table.times(name)


def _has_many(table: Table, name: str, rows: Array) -> bool:
    """Whether rows of a column hold many values, or texts with lists of numbers."""
    kind = table.kind(name)
    return kind in ("ragged", "array") or (kind == "text" and bool(_lists_of_numbers(table.column(name)[rows])))


def _chosen_times(table: Table, name: str, rows: Array, what: str, choice: Choice) -> Array:
    """One of the times of every row; NaN if it has no such time.

    The first of many would be a guess at the event, so that a choice is needed.
    """
    values, of_row, found = _listed_times(table, name, rows, what)
    if choice.which is None:
        use = 'align_which="first", "last" or a number from 0' if what == "align" else "another column"
        raise NWBError(f"{name} of {table.where} holds {found}; {what} needs one time per trial. Pass {use}.")
    ends = np.cumsum(np.bincount(of_row, minlength=len(table)))
    return _one_of_each(values, np.concatenate([[0], ends]), choice.which)


def _listed_times(table: Table, name: str, rows: Array, what: str) -> tuple[Array, Array, str]:
    """The times in a column of lists, the row of each, and what it holds, in words."""
    if table.kind(name) == "text":
        texts = table.column(name)
        lists = _lists_of_numbers(texts[rows])
        found = f"lists of numbers, such as {lists[0]!r}, in {len(lists)} of {len(rows)} trials"
        parts = [[one for one in text.split(",") if _are_numbers([one])] for text in texts.tolist()]
        values = np.array([float(one) for part in parts for one in part])
        of_row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    else:
        listed = table.lists(name)
        values, of_row = listed.values, listed.rows
        counts = np.bincount(of_row, minlength=len(table))[rows]
        found = f"any number of times per trial, {counts.min()} to {counts.max()}"
        if values.dtype.kind not in "iuf":
            raise NWBError(f"{name} of {table.where} holds texts; {what} needs times. Name another column.")
    known = np.isfinite(values)
    return values[known].astype(float), of_row[known], found


def _one_of_each(values: Array, bounds: Array, which: Which) -> Array:
    """The first, last or k-th value between each two bounds; NaN if there is none."""
    low, high = bounds[:-1], bounds[1:]
    at = low if which == "first" else high - 1 if which == "last" else low + int(which)
    inside = (at >= low) & (at < high)
    return np.append(values, np.nan)[np.where(inside, at, len(values))]


def find_events(
    file: h5py.File, name: str, path: Any, what: str, choice: Choice, amplitude: str | None = None
) -> Events | None:
    """The events at a path, or of a name that occurs once, that the choice selects; None if nothing has that name.

    ``amplitude`` names numbers that are read along: a column of a table of events, or "data" of a series.

    Raises: NWBError if events are of several labels, and none is chosen (the message lists them).
    """
    found = find_series(file, name, path, "event series", what)
    if found is None:
        return None
    at, item = found
    where = f"{at} of {path}"
    if "timestamps" not in item and ("timestamp" in item or "event_times" in item):
        return _events_of_table(Table(item, where), at, choice, amplitude)
    events = read_events(item, at, path)
    if events.times is None:
        choice.refuse_where(f"{at} has regular samples and no events")
        return events
    labels = event_labels(item, where)
    sizes = None if amplitude is None else _numbers_of_events(labels, amplitude, len(events.times), where)
    chosen = np.ones(len(events.times), bool)
    if choice.where is not None:
        if labels is None or len(labels.values) != len(chosen):
            raise NWBError(f"{where} has no label for each event, which {choice.argument} selects by. Leave it out.")
        chosen = select(choice.where, partial(_label_column, labels.values, where), len(chosen), choice.argument)
        if not chosen.any():
            raise NWBError(
                f"{where}: 0 of {len(chosen)} events satisfy {choice.argument}={choice.where!r}. {_listed(labels)}"
            )
    elif amplitude is None and labels is not None and labels.of_kinds and len(np.unique(labels.values)) > 1:
        raise NWBError(
            f"{where} has events of several kinds. {_listed(labels)} {_example(labels, what, choice.argument)}"
        )
    return _in_order(at, events.times, chosen, sizes)


def _in_order(at: str, times: Array, chosen: Array, sizes: Array | None) -> Events:
    """The chosen events that have a time, in ascending order."""
    rows = np.flatnonzero(chosen & np.isfinite(times))
    rows = rows[np.argsort(times[rows], kind="stable")]
    return Events(at, times[rows], amplitudes=None if sizes is None else sizes[rows])


def _numbers_of_events(labels: EventLabels | None, name: str, n: int, where: str) -> Array:
    """A number for each event of a series."""
    if labels is None or len(labels.values) != n or labels.values.dtype.kind not in "biuf":
        raise NWBError(f"{where} has no number for each event, and amplitude is {name!r}. Leave amplitude out.")
    if name != "data":
        raise NWBError(f"{where} has no column {name!r}; the numbers of its events are data. Pass amplitude='data'.")
    return labels.values.astype(float)


def _events_of_table(table: Table, at: str, choice: Choice, amplitude: str | None) -> Events:
    """The events of a table: a row each (``timestamp``), or the times of a label in each row (``event_times``)."""
    rows = table.select(choice.where, choice.argument)
    if not rows.any():
        raise NWBError(
            f"{table.where}: 0 of {len(table)} events satisfy {choice.argument}={choice.where!r}. Loosen it."
        )
    sizes = None if amplitude is None else table.numbers(amplitude)
    if "timestamp" in table.names:
        return _in_order(at, table.times("timestamp"), rows, sizes)
    if choice.where is None and len(table) > 1 and "label" in table.names:
        labels = EventLabels(table.column("label"), True)
        example = _example(labels, "align", choice.argument)
        raise NWBError(f"{table.where} has events of several kinds. {_listed(labels)} {example}")
    listed = table.lists("event_times")
    return _in_order(at, listed.values.astype(float), rows[listed.rows], None if sizes is None else sizes[listed.rows])


def _label_column(values: Array, where: str, name: str) -> Array:
    if name not in ("label", "data"):
        raise NWBError(f"{where} has no {name!r} of its events. It has label and data, which are the same. Use one.")
    return values


def _listed(labels: EventLabels) -> str:
    levels, codes = distinct(labels.values)
    counts = np.bincount(codes)
    shown = ", ".join(f"{format_value(level)} ({n})" for level, n in zip(levels[:12].tolist(), counts, strict=False))
    return f"The labels are {shown}{', …' * (len(levels) > 12)}."


def _example(labels: EventLabels, what: str, argument: str = "align_where") -> str:
    level = labels.values[0]
    query = f"label == {str(level)!r}" if labels.values.dtype.kind == "U" else f"data == {format_value(level)}"
    return f'Choose one by {argument}="{query}".' if what in ("align", "events") else f"Pass another series in {what}."


def align_text(align: Align) -> str:
    """The name of the column, series or function that trials are aligned to, for attributes and messages."""
    return align if isinstance(align, str) else str(getattr(align, "__name__", type(align).__name__))


def _times_of_function(align: Callable[[Any], Any], table: Table, what: str) -> Array:
    import pandas as pd

    columns = {name: table.column(name) for name in table.names if table.kind(name) in SCALAR_KINDS}
    found = align(pd.DataFrame(columns, index=pd.Index(table.ids, name="id")))
    named = f"{what} ({align_text(align)})"
    if np.ndim(found) != 1 or len(found) != len(table):
        shape = f"shape {np.shape(found)}" if np.ndim(found) else f"a {type(found).__name__}"
        raise ContractError(f"{named} returns {shape}; it needs one time per row of {table.where}: {len(table)}.")
    try:
        values = pd.Series(found).to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{named} returns values that are no numbers: {error}. Use pandas.to_numeric.") from error
    return np.where(np.isfinite(values), values, np.nan)


def _lists_of_numbers(texts: Array) -> list[str]:
    """The texts that are lists of numbers ('1.2,0.5')."""
    if texts.dtype.kind != "U":
        return []
    return [str(text) for text in texts if "," in text and _are_numbers(text.split(","))]


def _are_numbers(texts: list[str]) -> bool:
    try:
        return bool([float(text) for text in texts if text.strip()])
    except ValueError:
        return False


class Factor(NamedTuple):
    """One column that trials are grouped by: its values, their ``rank``, or bins between ``edges``."""

    column: str
    how: str
    edges: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return f"bins {', '.join(f'{edge:g}' for edge in self.edges)}" if self.edges else self.how


class Levels(NamedTuple):
    """The values of one factor in one session, one per trial; which are missing; and the sizes that were ranked."""

    values: Array
    missing: Array
    ranked: tuple[float, ...] = ()


class Conditions(NamedTuple):
    """The conditions of all sessions, in the order of their values.

    ``labels`` and ``coords`` (one array per factor) have one entry per condition. ``codes`` holds, for each session,
    the condition of each trial; −1 if a value is missing.
    """

    labels: list[str]
    coords: dict[str, Array]
    codes: list[Array]


def parse_by(by: By) -> list[Factor]:
    """The columns to group by, from names and ``{column: "rank"}`` or ``{column: [edge, …]}``.

    Raises: ContractError if ``by`` is empty, holds anything else, or names a column twice.

    Examples
    --------
    >>> parse_by(["context", {"motion": "rank"}])
    [Factor(column='context', how='value', edges=()), Factor(column='motion', how='rank', edges=())]
    """
    entries = [by] if isinstance(by, str | Mapping) else by
    if not isinstance(entries, Sequence) or not entries:
        raise ContractError(f"by is {by!r}; it needs at least one column of the table.")
    factors: list[Factor] = []
    for entry in entries:
        if isinstance(entry, str):
            factors.append(Factor(entry, "value"))
        elif isinstance(entry, Mapping) and entry:
            factors += [_parse_factor(column, how) for column, how in entry.items()]
        else:
            raise ContractError(f'by holds {entry!r}; entries are names, {{name: "rank"}} or {{name: [edges]}}.')
    names = [factor.column for factor in factors]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ContractError(f"by names {twice[0]!r} twice. Name each column once.")
    return factors


def _parse_factor(column: str, how: Any) -> Factor:
    if isinstance(how, str):
        if how in ("rank", "value"):
            return Factor(column, how)
    else:
        try:
            edges = tuple(float(edge) for edge in how)
        except (TypeError, ValueError):
            edges = ()
        if len(edges) > 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all():
            return Factor(column, "bins", edges)
    raise ContractError(
        f'by has {{{column!r}: {how!r}}}; it needs "rank", or a list of at least two finite edges, ascending.'
    )


def factor_levels(table: Table, factor: Factor) -> Levels:
    """The values of a factor for every row of a table.

    A rank is sign(v) × the rank of |v| among the distinct |v| > 0 of the whole table. Coherences of ±.06, ±.17, ±.5 in
    one session and of ±.04, ±.14, ±.5 in another are then ±1, ±2, ±3 in both, and 0 is 0. Bins are [a, b), the last one
    [a, b]. Numbers that differ by rounding are one level, and on an edge that they differ from by rounding.

    Raises: NWBError if there is no such column, it is ragged, or it holds texts where numbers are needed.
    """
    if factor.how == "value":
        values = table.column(factor.column)
        return Levels(values, missing_in(values))
    values = table.numbers(factor.column)
    missing = ~np.isfinite(values)
    known = np.where(missing, 0.0, values)
    if factor.how == "rank":
        levels, codes = distinct(known)
        known = levels[codes]
        sizes, rank = distinct(np.abs(known))
        zero = int(sizes[0] == 0)
        return Levels(np.sign(known).astype(np.int64) * (rank + 1 - zero), missing, tuple(sizes[zero:].tolist()))
    edges = np.array(factor.edges)
    for edge in edges:
        known = np.where(equal_up_to_rounding(known, edge, size_of_column(known)), edge, known)
    at = np.searchsorted(edges, known, side="right") - 1
    at[known == edges[-1]] = len(edges) - 2
    return Levels(at, missing | (known < edges[0]) | (known > edges[-1]))


def make_conditions(factors: list[Factor], sessions: list[list[Levels]], names: list[str]) -> Conditions:
    """The conditions that occur in any session: the distinct combinations of the factors' values.

    ``sessions[s][f]`` holds the levels of factor f for the trials of session s; ``names`` are for messages.
    Raises: NWBError if sessions have texts and numbers in the same column, or different numbers of ranked levels.
    """
    sizes = [len(levels[0].values) for levels in sessions]
    missing = np.concatenate([np.any([part.missing for part in levels], axis=0) for levels in sessions])
    columns, codes = [], []
    for k, factor in enumerate(factors):
        parts = [levels[k] for levels in sessions]
        _check_alike(factor, parts, names)
        unique, code = distinct(np.concatenate([part.values for part in parts]))
        columns.append(unique)
        codes.append(code)
    table, rows = np.unique(np.stack(codes)[:, ~missing], axis=1, return_inverse=True)
    condition_of = np.full(len(missing), -1)
    condition_of[~missing] = rows.reshape(-1)
    coords: dict[str, Array] = {}
    texts: list[list[str]] = []
    for factor, unique, code in zip(factors, columns, table, strict=True):
        values = unique[code]
        texts.append([f"{factor.column}={text}" for text in _value_texts(factor, values)])
        coords[factor.column] = _midpoints(factor)[values] if factor.edges else values
    labels = [", ".join(parts) for parts in zip(*texts, strict=True)]
    return Conditions(labels, coords, np.split(condition_of, np.cumsum(sizes)[:-1]))


def _check_alike(factor: Factor, parts: list[Levels], names: list[str]) -> None:
    kinds = ["texts" if part.values.dtype.kind == "U" else "numbers" for part in parts]
    if len(set(kinds)) > 1:
        first, other = names[kinds.index("texts")], names[kinds.index("numbers")]
        raise NWBError(
            f"{factor.column} holds texts in {first} and numbers in {other}. Sessions need to agree. Read them apart."
        )
    if factor.how == "rank" and len({len(part.ranked) for part in parts}) > 1:
        shown = {
            len(part.ranked): f"{len(part.ranked)} in {name} ({', '.join(f'{v:g}' for v in part.ranked)})"
            for part, name in zip(parts, names, strict=True)
        }
        raise NWBError(
            f"{factor.column} has different numbers of levels: {'; '.join(shown.values())}. Ranks match only if the "
            "numbers agree. Read those sessions apart."
        )


def _value_texts(factor: Factor, values: Array) -> list[str]:
    """The text of each value in a label: %g, or all digits if two values would look alike."""
    if factor.edges:
        last = len(factor.edges) - 2
        return [f"[{factor.edges[k]:g}, {factor.edges[k + 1]:g}{']' if k == last else ')'}" for k in values.tolist()]
    shown = [format_value(value) for value in values.tolist()]
    distinct = len(set(shown)) == len(np.unique(values))
    return shown if distinct else [str(value) for value in values.tolist()]


def _midpoints(factor: Factor) -> Array:
    edges = np.array(factor.edges)
    return (edges[1:] + edges[:-1]) / 2
