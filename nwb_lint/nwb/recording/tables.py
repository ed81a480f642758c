"""NWB tables (trials, other intervals, units, regions of interest) as numpy columns.

1. `open_table` finds one interval table in a file, or stacks the rows of several.
2. `Table` reads the columns of one table; `StackedTable` is the same for several.
3. `row_texts` writes a column whose rows hold many values as one text per row.
4. `row_bounds` reads the index of a ragged column: where the values of each row begin and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.events import groups_of
from nwb_lint.nwb.storage.h5 import (
    as_text,
    enum_words,
    find_dataset,
    find_group,
    holds_numbers,
    is_dataset,
    is_group,
    is_reference,
    is_scalar_type,
    load,
    member_or_error,
    members,
    name_of,
    pointed_at,
    shape_text,
    type_text,
    virtual_hint,
)
from nwb_lint.query import Ragged, as_numbers, as_texts, evaluate, select

Array = np.ndarray
TableChoice = str | Sequence[str]

DAMAGED = "damaged"  # the kind of a column that cannot be read
_AT_ROOT = ("trials", "epochs", "invalid_times")  # tables outside of /intervals in files of schema 2.0b

# Kinds of columns with one value per row. Trials can be selected and grouped by them.
SCALAR_KINDS = ("time", "number", "bool", "text")
# The columns that `StackedTable` adds: the name of a row's own table, and the row's id in that table.
TABLE_NAME, TABLE_ROW_ID = "table", "table_id"

_MOST_ROWS = 10_000_000  # of a table: a small file can claim any number
_MOST_TEXT_VALUES = 1_000_000  # a column with more values is not kept as texts
_AGAIN = "Write the index again."
_SEPARATORS = (", ", "; ", " | ", " || ")  # between values, rows of values, and so on


def open_table(file: h5py.File, table: TableChoice, path: Any) -> Table:
    """The interval table of this name, or the rows of several tables.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    table : str or sequence of str
        The name of one table, or distinct names of several.
    path : object
        Where the file is, for messages.

    Returns
    -------
    Table
        A `StackedTable` for several names.

    Raises
    ------
    ContractError
        If ``table`` is neither a name nor a list of distinct names.
    NWBError
        If the file has no such table, or the table has no rows.
    """
    if isinstance(table, str):
        return open_intervals(file, table, path)
    names = list(table) if isinstance(table, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ContractError(f"table is {table!r}; it needs the name of an interval table, or a list of distinct names.")
    parts = {name: open_intervals(file, name, path) for name in names}
    return parts[names[0]] if len(names) == 1 else StackedTable(parts, f"{' + '.join(names)} of {path}")


def open_intervals(file: h5py.File, name: str, path: Any) -> Table:
    """The interval table, or table of events, of this name.

    Tables of ``/intervals`` come first. Elsewhere in the file, a path finds a table, and so does a name that occurs
    once.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    name : str
        The table's name, or its path in the file.
    path : object
        Where the file is, for messages.

    Returns
    -------
    Table

    Raises
    ------
    NWBError
        If there is no such table (the message lists the tables of the file), or the table has no rows.
    """
    places = _interval_places(file)
    group = find_group(file, places[name]) if name in places else None
    if group is None and "/" in name:
        group = find_group(file, name)
    if group is None:
        found = [item for at, item in _other_interval_groups(file).items() if at.endswith(f"/{name}")]
        group = found[0] if len(found) == 1 else None
    if group is None:
        tables = [f"{other} ({n} rows)" for other, n in interval_tables(file).items()]
        known = f"It has {', '.join(tables)}. Pass one of them as table=" if tables else "It has no interval tables"
        raise NWBError(f"{path} has no interval table {name!r}. {known}.")
    table = table_of_rows(group, f"{name} of {path}")
    if not len(table):
        raise NWBError(f"{table.where} has no rows. At least one row is needed. Pass another table or file.")
    return table


def interval_tables(file: h5py.File) -> dict[str, int]:
    """The interval tables of a file: their names, or paths outside of ``/intervals``, and numbers of rows.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.

    Returns
    -------
    dict
        Name or path → number of rows.
    """
    return {name: n for name, n in rows_of_tables(file).items() if isinstance(n, int)}


def rows_of_tables(file: h5py.File) -> dict[str, int | NWBError]:
    """The interval tables of a file and their numbers of rows, or for a table that cannot be read, why."""
    groups = {name: member_or_error(file, at) for name, at in _interval_places(file).items()}
    groups |= _other_interval_groups(file)
    found: dict[str, int | NWBError] = {}
    for name, item in groups.items():
        try:
            if is_group(item):
                found[name] = len(table_of_rows(item, name))
            elif isinstance(item, NWBError):
                raise item
        except NWBError as error:
            found[name] = error
    return found


def _interval_places(file: h5py.File) -> dict[str, str]:
    """Name and path of the members of ``/intervals``, and of the tables that files of schema 2.0b have at the root."""
    intervals = find_group(file, "intervals")
    places = {} if intervals is None else {name: f"intervals/{name}" for name in members(intervals)}
    for name in _AT_ROOT:
        item = member_or_error(file, name)
        # NWB 1 had groups of these names that are no tables
        if isinstance(item, NWBError) or (is_group(item) and {"start_time", "colnames"} & {*item, *item.attrs}):
            places.setdefault(name, name)
    return places


def _other_interval_groups(file: h5py.File) -> dict[str, Any]:
    """Interval tables among processed data or events, and tables of events, by their paths."""
    return {
        at: item
        for at, item in groups_of(file)
        if "id" in item and (as_text(item.attrs.get("neurodata_type", "")) == "TimeIntervals" or _is_events_table(item))
    }


def _is_events_table(group: Any) -> bool:
    return "timestamp" in group and "start_time" not in group and "timestamps" not in group


def table_of_rows(group: h5py.Group, where: str) -> Table:
    """The table of intervals or events of a group."""
    return EventsTable(group, where) if _is_events_table(group) else Table(group, where)


class Table:
    """One table of an NWB file (a DynamicTable): row ids, column names and kinds, values of columns.

    The kinds of columns are ``time`` (floats that are named as times, or lie within the rows' start and stop),
    ``number``, ``bool``, ``text``, ``ragged`` (a row holds any number of values), ``array`` (several values a row) and
    ``reference`` (to other objects).

    Values are int64, uint64, float64, bool or ``U`` text, one per row. Bytes become text, enums become their words,
    and a column of shape (rows, 1) becomes flat. A float32 is read as the shortest decimal that it stands for, so that
    0.1 is 0.1.

    Parameters
    ----------
    group : h5py.Group
        The table in an open file.
    where : str
        Name of the table and file, for messages: "trials of session.nwb".

    Attributes
    ----------
    names : list of str
        The columns.
    ids : numpy.ndarray
        The id of each row, int64.
    """

    def __init__(self, group: h5py.Group, where: str) -> None:
        self.group, self.where = group, where
        self.added: set[str] = set()  # columns that the file does not have
        self._values: dict[str, Array] = {}
        listed = [as_text(name) for name in np.ravel(group.attrs.get("colnames", []))]
        names = [name for name in dict.fromkeys((*listed, *members(group))) if name.isprintable()]
        companions = {f"{name}_{end}" for name in names for end in ("index", "elements")} | {"id"}
        companions |= {f"{name}_index" for name in companions}
        items = {name: member_or_error(group, name) for name in names if name not in companions}
        # what colnames lists, or a link names, is a column, readable or not
        sure = {
            name for name, item in items.items() if isinstance(item, NWBError) or (name in listed and item is not None)
        }
        self.names = [name for name, item in items.items() if name in sure or (is_dataset(item) and item.shape)]
        self.lost = [name for name in listed if items.get(name, group) is None]  # columns that are not in the file
        self.ids = self._read_ids()
        # a dataset that colnames does not list may be a column that was added by hand, or the words of an enum
        self.names = [name for name in self.names if name in sure or self._suits(name)]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> Array:
        """The id of each row as a text."""
        return self.ids.astype(str)

    def is_ragged(self, name: str) -> bool:
        """Whether rows of this column hold any number of values."""
        return name not in self.added and find_dataset(self.group, f"{name}_index") is not None

    def kind(self, name: str) -> str:
        """The kind of a column, by its type, and for floats also by its name and values."""
        try:
            return self._kind(name)
        except NWBError:
            return DAMAGED

    def _kind(self, name: str) -> str:
        if name not in self.added:
            item = self.dataset(name)
            if self.is_ragged(name):
                return "ragged"
            if not is_scalar_type(item):
                return "reference"
            if self._is_array(item):
                return "array"
        return self._scalar_kind(name)

    def _scalar_kind(self, name: str) -> str:
        dtype = self.column(name).dtype
        if dtype.kind == "f":
            return "time" if "time" in name.lower() or self._lies_within_rows(name) else "number"
        return {"b": "bool", "U": "text"}.get(dtype.kind, "number")

    def column(self, name: str) -> Array:
        """The values of a column, one per row; ``id`` gives the row ids.

        Raises: NWBError if there is no such column (the message lists the columns), or it holds more than one value
        per row.
        """
        if name == "id" and name not in self.names:
            return self.ids
        if name not in self.names:
            lists = ", which its colnames list" if name in self.lost else ""
            raise NWBError(f"{self.where} has no column {name!r}{lists}; it has {', '.join(self.names) or 'none'}.")
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name]

    def column_or_texts(self, name: str) -> Array:
        """A column, or one text per row ('1.5, 2') if its rows hold many values."""
        if name not in self.names or self.kind(name) in (*SCALAR_KINDS, DAMAGED):
            return self.column(name)
        return row_texts(self, name)

    def numbers(self, name: str) -> Array:
        """A column as float64, texts of numbers included; NWBError if other texts are among them."""
        values = self.column(name)
        if values.dtype.kind != "U":
            return values.astype(float)
        parsed = as_numbers(values)
        if parsed is None:
            shown = ", ".join(repr(str(text)) for text in np.unique(values)[:6])
            raise NWBError(f"{name} of {self.where} holds texts ({shown}). Numbers are needed. Name another column.")
        return parsed

    def times(self, name: str) -> Array:
        """A column as times in s; NaN where a text is not a number ('N/A') or a number is not finite."""
        values = self.column(name)
        if values.dtype.kind == "U":
            values = np.array([_number(text) for text in values], dtype=float)
        if values.dtype.kind == "b":
            raise NWBError(f"{name} of {self.where} holds yes or no. Times in s are needed. Name another column.")
        values = values.astype(float)
        return np.where(np.isfinite(values), values, np.nan)

    def time_columns(self) -> list[str]:
        """The columns that trials could be aligned to, those with ``time`` in their name first."""
        kinds = {name: self.kind(name) for name in self.names}
        found = [name for name, kind in kinds.items() if kind == "time"]
        found += [
            name
            for name, kind in kinds.items()
            if kind == "text" and "time" in name.lower() and np.isfinite(self.times(name)).any()
        ]
        return sorted(found, key=lambda name: "time" not in name.lower())

    def select(self, query: str | None, what: str = "where") -> Array:
        """The rows that satisfy a query (`nwb_lint.query.select`), bool (row); None selects all rows."""
        if query is None:
            return np.ones(len(self), bool)
        return select(query, self._column_or_lists, len(self), what)

    def derive(self, columns: Mapping[str, str]) -> None:
        """Add columns, each the value of an expression over the others (`nwb_lint.query.evaluate`).

        Raises: NWBError if the table has a column of that name; ContractError if an expression cannot be parsed.
        """
        for name, expression in columns.items():
            if not name.strip() or not name.isprintable():
                raise ContractError(f"columns has the name {name!r}. A name that can be printed is needed. Change it.")
            if name in self.names or name == "id":
                raise NWBError(
                    f"{self.where} has a column {name!r} already. A derived column needs a name of its own. Give it "
                    "another name in columns=."
                )
            self._values[name] = evaluate(expression, self._column_or_lists, len(self), f"columns, {name}")
            self.names.append(name)
            self.added.add(name)

    def lists(self, name: str) -> Ragged:
        """All values of a column with many values a row, and the row of each; NWBError if the column is damaged."""
        item = self.dataset(name)
        if not is_scalar_type(item):
            raise NWBError(
                f"{name} of {self.where} holds {type_text(item)}. A column of numbers or texts is needed. Name another."
            )
        rows = np.repeat(np.arange(len(item)), item.size // max(len(item), 1))
        for bounds in self.bounds(name, len(item)):
            rows = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[rows]
        return Ragged(self.decoded(name, load(item).ravel()), rows)

    def _column_or_lists(self, name: str) -> Array | Ragged:
        many = name in self.names and self.kind(name) in ("ragged", "array")
        return self.lists(name) if many else self.column(name)

    def bounds(self, name: str, n_values: int) -> Iterator[Array]:
        """Where the rows of a ragged column begin and end, from the innermost index outwards."""
        index = f"{name}_index"
        while find_dataset(self.group, index) is not None:
            last = find_dataset(self.group, f"{index}_index") is None
            bounds = row_bounds(self.group, index, n_values, self.ids if last else None, self.where)
            yield bounds
            n_values, index = len(bounds) - 1, f"{index}_index"
        if n_values != len(self):
            raise NWBError(
                f"{name} of {self.where} has {n_values} values for {len(self)} rows: damaged. Get the file again."
            )

    def decoded(self, name: str, values: Array) -> Array:
        """Stored values (flat) of a column as their meaning: enums as words, bytes as text, wide numbers."""
        item = self.group[name]
        if values.dtype.kind in "iu":
            words, elements = enum_words(item), self._elements(name, item)
            if words is not None:
                return np.array([words.get(int(v), str(int(v))) for v in values], dtype=str)
            if elements is not None and len(values):
                outside = values[(values < 0) | (values >= len(elements))]
                if len(outside):
                    raise NWBError(
                        f"{name} of {self.where} has code {outside[0]} of {len(elements)} elements. The column is "
                        "damaged. Get the file again."
                    )
                return elements[values.astype(np.int64)]
        return _widened(values)

    def _read_ids(self) -> Array:
        values = self.stored_ids()
        if values is not None:
            if values.dtype.kind not in "iu" or (values.dtype.kind == "u" and values.max(initial=0) >= 2**63):
                raise NWBError(
                    f"id of {self.where} holds {values.dtype}. Whole numbers below 2**63 are needed. Write it again."
                )
            return values.astype(np.int64)
        for name in ("start_time", *self.names):
            if name in self.names:
                return np.arange(self._checked_rows(self._n_rows(name)))
        return np.arange(0)

    def stored_ids(self) -> Array | None:
        """The ids as they are stored, one a row; None if there are none."""
        item = find_dataset(self.group, "id")
        if item is None:
            return None
        if not item.shape or _flat_size(item) < 0 or not is_scalar_type(item):
            raise NWBError(
                f"id of {self.where} is {shape_text(item)}. A number or a text for each row is needed. Write it again."
            )
        self._checked_rows(_flat_size(item))
        return load(item).reshape(-1)

    def _checked_rows(self, n: int) -> int:
        """The number of rows; NWBError for so many as no recording has. A small file can claim any number."""
        if n > _MOST_ROWS:
            raise NWBError(f"{self.where} has {n} rows. Up to {_MOST_ROWS} are read. Pass another file.")
        return n

    def dataset(self, name: str) -> h5py.Dataset:
        """The dataset of a column; NWBError if it cannot be opened or has no rows."""
        item = find_dataset(self.group, name)
        if item is None:
            raise NWBError(f"{self.where} lists a column {name!r} that is not in the file. Leave it out.")
        if not item.shape:
            raise NWBError(f"{name} of {self.where} is {shape_text(item)}. One value per row is needed. Leave it out.")
        return item

    def _n_rows(self, name: str) -> int:
        item = self.dataset(f"{name}_index" if self.is_ragged(name) else name)
        return int(item.size if name == "start_time" and item.size == max(item.shape) else item.shape[0])

    def _suits(self, name: str) -> bool:
        """Whether a dataset that colnames does not list has a value, or the end of its values, for every row."""
        index = member_or_error(self.group, f"{name}_index")
        item = index if is_dataset(index) else self.group[name]
        return isinstance(index, NWBError) or (bool(item.shape) and len(self) in (item.shape[0], _flat_size(item)))

    def problems(self) -> list[str]:
        """What is wrong with columns: those that cannot be read, and those in one row of a matrix, as MATLAB writes."""
        found = []
        for name in self.names:
            if self.kind(name) == DAMAGED:
                try:
                    self.column(name)
                except NWBError as error:
                    found.append(str(error))
        if self.lost:
            found.append(f"{self.where}: colnames list {', '.join(self.lost)}, which the file does not have")
        items = {name: member_or_error(self.group, name) for name in ("id", *self.names)}
        flat = {name: item.shape for name, item in items.items() if self._is_one_row(item)}
        if flat:
            shape = next(iter(flat.values()))
            found.append(f"{self.where}: {', '.join(flat)} of shape {shape}: one row. Each is read as {shape[1]} rows.")
        return found

    def _is_one_row(self, item: Any) -> bool:
        return is_dataset(item) and bool(item.shape) and item.shape != (1, 1) and item.shape == (1, len(self))

    def _is_array(self, item: h5py.Dataset) -> bool:
        """Whether the rows of a column hold several values; columns (row, 1) and, from MATLAB, (1, row) hold one."""
        return item.ndim > 1 and item.size != item.shape[0] and _flat_size(item) != len(self)

    def _lies_within_rows(self, name: str) -> bool:
        """Whether nine tenths of a column's numbers, and at least two, lie in their row's start to stop."""
        if not {"start_time", "stop_time"} <= set(self.names):
            return False
        start, stop, values = (self.times(key) for key in ("start_time", "stop_time", name))
        inside = (values >= start) & (values <= stop)
        finite = np.isfinite(values)
        return bool(finite.sum() >= 2 and inside.sum() >= 0.9 * finite.sum() and np.ptp(values[finite]) > 0)

    def _read(self, name: str) -> Array:
        item = self.dataset(name)
        advice = "Name it among columns= or unit_columns=, which read it as text"
        if self.is_ragged(name):
            raise NWBError(f"{name} of {self.where} is ragged: a row holds many values. One is needed. {advice}.")
        if self._is_array(item):
            raise NWBError(f"{name} of {self.where} has shape {item.shape}. One value per row is needed. {advice}.")
        if item.size != len(self):
            raise NWBError(
                f"{name} of {self.where} has {item.size} values for {len(self)} rows. "
                + (virtual_hint(item) or "The column is damaged. ")
                + "Get the file again."
            )
        if not is_scalar_type(item):
            raise NWBError(
                f"{name} of {self.where} holds {type_text(item)}. A column of numbers or texts is needed. Name another."
            )
        return self.decoded(name, load(item).reshape(len(self)))

    def _elements(self, name: str, item: h5py.Dataset) -> Array | None:
        """The words for the codes of an enum column; None if the column is not one."""
        words = pointed_at(self.group.file, item.attrs.get("elements"))
        if words is None:
            words = find_dataset(self.group, f"{name}_elements")
        if words is not None:
            if not is_dataset(words) or not is_scalar_type(words) or not words.shape:
                raise NWBError(f"The elements of {name} of {self.where} are no list of texts. Get the file again.")
            return _widened(np.ravel(load(words)))
        listed = [item.attrs.get(key) for key in ("elements", f"{name}_elements")]
        found = next((_widened(np.ravel(texts)) for texts in listed if isinstance(texts, np.ndarray)), None)
        if found is None and as_text(item.attrs.get("neurodata_type", "")) == "EnumData":
            raise NWBError(
                f"{name} of {self.where} holds codes of words (EnumData), and its words are not in the file."
            )
        return found


class EventsTable(Table):
    """A table of events (core EventsTable): a row starts at its ``timestamp`` and stops after its ``duration``.

    ``start_time`` and ``stop_time`` (s) are columns that the file does not have. Without durations there is no
    ``stop_time``.
    """

    def __init__(self, group: h5py.Group, where: str) -> None:
        super().__init__(group, where)
        ends = ["stop_time"] if "duration" in self.names and "stop_time" not in self.names else []
        self.names = [*self.names, "start_time", *ends]
        self.added |= {"start_time", *ends}

    def _read(self, name: str) -> Array:
        if name not in self.added or name not in ("start_time", "stop_time"):
            return super()._read(name)
        starts = self.times("timestamp")
        return starts if name == "start_time" else starts + self.times("duration")


class StackedTable(Table):
    """The rows of several tables in the order of their start_time; equal times keep the order of the tables.

    Row ids are 0, 1, …. The column ``table`` holds the name of a row's own table, ``table_id`` its id there. A column
    that a table does not have is NaN in its rows, or '' in a column of texts. If a column holds texts in one table and
    numbers in another, all become texts, unless all texts are numbers.
    """

    def __init__(self, parts: dict[str, Table], where: str) -> None:
        self.parts, self.where, self.lost = parts, where, []
        self.names = list(dict.fromkeys(name for part in parts.values() for name in part.names))
        taken = [name for name in (TABLE_NAME, TABLE_ROW_ID) if name in self.names]
        if taken:
            raise NWBError(
                f"{where}: a table has a column {taken[0]!r} of its own. That name is needed to say which table a row "
                "is from. Read such tables one at a time."
            )
        sizes = [len(part) for part in parts.values()]
        starts = [
            part.times("start_time") if "start_time" in part.names else np.full(len(part), np.nan)
            for part in parts.values()
        ]
        self._order = np.argsort(np.concatenate(starts), kind="stable")
        self.ids = np.arange(sum(sizes))
        table_names = np.repeat(np.array(list(parts), dtype=str), sizes)
        row_ids = np.concatenate([part.ids for part in parts.values()])
        self._values = {TABLE_NAME: table_names[self._order], TABLE_ROW_ID: row_ids[self._order]}
        self.added = {TABLE_NAME, TABLE_ROW_ID}
        self.names += [TABLE_NAME, TABLE_ROW_ID]

    def is_ragged(self, name: str) -> bool:
        return any(part.is_ragged(name) for part in self._parts_with(name))

    def kind(self, name: str) -> str:
        if name in self.added:
            return self._scalar_kind(name)
        kinds = [part.kind(name) for part in self._parts_with(name)]
        not_scalar = [kind for kind in kinds if kind not in SCALAR_KINDS]
        if not_scalar or len(set(kinds)) == 1:
            return (not_scalar or kinds)[0]
        return {"b": "bool", "U": "text"}.get(self.column(name).dtype.kind, "number")

    def column_or_texts(self, name: str) -> Array:
        if name not in self.names or self.kind(name) in SCALAR_KINDS:
            return self.column(name)
        return self._stacked([p.column_or_texts(name) if name in p.names else None for p in self.parts.values()])

    def lists(self, name: str) -> Ragged:
        place = np.empty(len(self), np.int64)
        place[self._order] = np.arange(len(self))  # of a row of the tables one after another
        values: list[Array | None] = []
        rows, first = [], 0
        for part in self.parts.values():
            if name in part.names:
                found = part._column_or_lists(name)
                found = found if isinstance(found, Ragged) else Ragged(found, np.arange(len(part)))
                values.append(found.values)
                rows.append(place[first + found.rows])
            first += len(part)
        known = [part for part in _of_one_type(values) if part is not None]
        return Ragged(np.concatenate(known), np.concatenate(rows))

    def _read(self, name: str) -> Array:
        return self._stacked([part.column(name) if name in part.names else None for part in self.parts.values()])

    def _parts_with(self, name: str) -> list[Table]:
        return [part for part in self.parts.values() if name in part.names]

    def _stacked(self, columns: list[Array | None]) -> Array:
        """The values of all tables in the order of the rows; None stands for a table without the column."""
        columns = _of_one_type(columns)
        of_text = any(values is not None and values.dtype.kind == "U" for values in columns)
        missing = "" if of_text else np.nan
        parts = zip(columns, self.parts.values(), strict=True)
        return np.concatenate([np.full(len(part), missing) if v is None else v for v, part in parts])[self._order]


def _of_one_type(columns: list[Array | None]) -> list[Array | None]:
    """Columns of one name, all as numbers or all as texts."""
    known = [values for values in columns if values is not None]
    texts = [values for values in known if values.dtype.kind == "U"]
    if not texts:
        return columns
    numbers = [None if v is None else as_numbers(v) if v.dtype.kind == "U" else v for v in columns]
    if len(texts) < len(known) and sum(values is not None for values in numbers) == len(known):
        return numbers
    return [None if values is None else as_texts(values) for values in columns]


def row_texts(table: Table, name: str) -> Array:
    """One text per row of a column with many values: values with a comma between them, inner lists with a semicolon.

    ``[[1.5, 2], [3]]`` becomes '1.5, 2; 3'. Numbers are written as in the label of a condition (%g), a reference as the
    name of its object. The values are read at once.

    Parameters
    ----------
    table : Table
        The table.
    name : str
        A column of kind ``ragged``, ``array`` or ``reference``.

    Returns
    -------
    numpy.ndarray
        ``U`` text, one per row.

    Raises
    ------
    NWBError
        If the column is damaged, holds more than a million values, or its type has no text.
    """
    item = table.dataset(name)
    if item.size > _MOST_TEXT_VALUES:
        raise NWBError(
            f"{name} of {table.where} holds {item.size} values. At most {_MOST_TEXT_VALUES} are kept as text. "
            "Leave it out."
        )
    if is_reference(item):
        texts = [name_of(table.group.file, reference) for reference in load(item).ravel()]
    elif is_scalar_type(item):
        texts = as_texts(table.decoded(name, load(item).ravel())).tolist()
    else:
        raise NWBError(f"{name} of {table.where} is of type {item.dtype}, which has no text. Leave it out.")
    separators = list(_SEPARATORS)
    for size in item.shape[:0:-1]:
        bounds = np.arange(len(texts) // size + 1) * size if size else [0] * len(item)
        texts = _text_per_range(texts, bounds, separators)
    for bounds in table.bounds(name, len(texts)):
        texts = _text_per_range(texts, bounds, separators)
    return np.array(texts, dtype=str)


def _text_per_range(texts: list[str], bounds: Sequence[int] | Array, separators: list[str]) -> list[str]:
    separator = separators.pop(0) if len(separators) > 1 else separators[0]
    return [separator.join(texts[a:b]) for a, b in pairwise(bounds)]


def _flat_size(item: h5py.Dataset) -> int:
    """The number of values of a vector, also of one that is stored as a row or column of a matrix; else −1."""
    return int(item.size) if item.size == max(item.shape, default=0) else -1


def _widened(values: Array) -> Array:
    """Bytes and objects as ``U`` text, integers as int64 or uint64, floats as float64."""
    kind = values.dtype.kind
    if kind in "OSUT":
        return np.array([as_text(value) for value in values], dtype=str) if len(values) else np.zeros(0, "U1")
    if kind == "f":
        exact = values.dtype.itemsize >= 8
        return values.astype(float) if exact else values.astype(str).astype(float)
    if kind in "iu":
        large = values.dtype == np.uint64 and len(values) and int(values.max()) >= 2**63
        return values.astype(np.uint64 if large else np.int64)
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def row_bounds(group: h5py.Group, index: str, n_values: int, labels: Sequence[Any] | Array | None, where: str) -> Array:
    """Where the values of each row of a ragged column begin and end, from its index (a VectorIndex).

    Row k has the values ``bounds[k]`` to ``bounds[k + 1]``. An index holds the end of every row: whole numbers that do
    not fall, the last of which is the number of values.

    Parameters
    ----------
    group : h5py.Group
        The table.
    index : str
        Name of the index; it needs to be there.
    n_values : int
        Number of values that the index points into.
    labels : sequence, or None
        A label for each row of the column, for messages: ids. None for a column without a known number of rows.
    where : str
        Name of the table and file, for messages.

    Returns
    -------
    numpy.ndarray
        int64 (row + 1).

    Raises
    ------
    NWBError
        If the index is anything else. The message has the row and the numbers.
    """
    what, item = f"{index} of {where}", find_dataset(group, index)
    if item is None:
        raise NWBError(f"{what} is not there. It is needed to separate the rows. Pass another file.")
    if item.shape is None or not item.ndim or item.size != max(item.shape):
        raise NWBError(f"{what} is {shape_text(item)}. An index needs one whole number for each row. {_AGAIN}")
    if not holds_numbers(item):
        old = ", as files of schema 2.0b do" if type_text(item).endswith("references") else ""
        raise NWBError(
            f"{what} holds {type_text(item)}{old}. An index needs the end of each row as a whole number. {_AGAIN}"
        )
    if labels is not None and item.size != len(labels):
        raise NWBError(f"{what} has {item.size} ends for {len(labels)} rows. One for each row is needed. {_AGAIN}")
    ends = load(item).reshape(-1)
    _check_ends(ends, n_values, np.arange(len(ends)) if labels is None else labels, what)
    return np.concatenate([[0], ends.astype(np.int64)])


def _check_ends(ends: Array, n_values: int, labels: Sequence[Any] | Array, what: str) -> None:
    """Raise NWBError unless the ends are whole numbers in order, the last of which is the number of values."""
    whole = np.isfinite(ends) & (ends == np.floor(ends)) if ends.dtype.kind == "f" else np.ones(len(ends), bool)
    wrong = ~whole | (ends < 0) | (ends > n_values)
    if wrong.any():
        row = int(wrong.argmax())
        need = "a whole number" if not whole[row] else f"between 0 and {n_values}, the number of values"
        raise NWBError(f"{what} is {ends[row]} for {_row(row, labels)}. It needs to be {need}. {_AGAIN}")
    last = int(ends[-1]) if len(ends) else 0
    if n_values and not last:
        raise NWBError(
            f"{what} ends at 0, so that no spikes or values belong to any of {len(ends)} rows. There are {n_values} "
            f"values.{_why(ends, n_values)} {_AGAIN}"
        )
    falls = ends[1:] < ends[:-1]
    if falls.any():
        row = int(falls.argmax()) + 1
        raise NWBError(
            f"{what} falls from {int(ends[row - 1])} to {int(ends[row])} at {_row(row, labels)}. Ends need to be "
            f"rising.{_why(ends, n_values)} {_AGAIN}"
        )
    if last != n_values:
        raise NWBError(
            f"{what} ends at {last}, and there are {n_values} values: the last {n_values - last} belong to no row."
            f"{_why(ends, n_values)} {_AGAIN}"
        )


def _row(row: int, labels: Sequence[Any] | Array) -> str:
    return f"row {row} (id {labels[row]})" if str(labels[row]) != str(row) else f"row {row}"


def _why(ends: Array, n_values: int) -> str:
    """A likely reason, as a sentence; empty if there is none."""
    if _wrapped(ends, n_values):
        return f" Its type, {ends.dtype}, holds numbers up to {_most(ends)}, which probably overflowed."
    if len(ends) > 1 and not ends[0] and (ends[1:] >= ends[:-1]).all():
        return " It probably holds where rows start, and not where they end."
    return ""


def _most(ends: Array) -> int:
    return int(np.iinfo(ends.dtype).max) if ends.dtype.kind in "iu" else 2**53


def _wrapped(ends: Array, n_values: int) -> bool:
    return n_values > _most(ends)
