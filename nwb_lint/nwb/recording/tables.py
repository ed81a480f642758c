"""Columns of an NWB table (trials, other intervals, units) as numpy arrays, read with h5py.

Columns whose rows hold many values → one readable text per row: metadata, never parsed again.

Several interval tables as one: rows in the order of their start, a column that says which table each is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.events import groups_of
from nwb_lint.nwb.storage.h5 import (
    as_text,
    enum_words,
    is_dataset,
    is_group,
    is_reference,
    is_scalar_type,
    load,
    members,
    name_of,
    pointed_at,
)
from nwb_lint.query import as_numbers, as_texts, select

Array = np.ndarray

_MOST_VALUES = 1_000_000
_SEPARATORS = (", ", "; ", " | ", " || ")


def row_texts(table: Table, name: str) -> Array:
    """One text per row: values with a comma between them, inner lists with a semicolon: '1.5, 2; 3'.

    Numbers are written as in a condition's label (%g); a reference is the name of what it points at. The
    values are read at once.

    Raises: NWBError where the column is damaged, holds more than a million values, or a type without text.
    """
    item = table.group[name]
    if item.size > _MOST_VALUES:
        raise NWBError(
            f"{name} of {table.where} holds {item.size} values; at most {_MOST_VALUES} are kept as text. Leave it out."
        )
    if is_reference(item):
        texts = [name_of(table.group.file, reference) for reference in load(item).ravel()]
    elif is_scalar_type(item):
        texts = as_texts(table.decoded(name, load(item).ravel())).tolist()
    else:
        raise NWBError(f"{name} of {table.where} is {item.dtype}, of which no text can be made. Leave it out.")
    separators = list(_SEPARATORS)
    for size in item.shape[:0:-1]:
        texts = _joined(texts, np.arange(len(texts) // size + 1) * size if size else [0] * len(item), separators)
    index = f"{name}_index"
    while is_dataset(table.group.get(index)):
        bounds = np.concatenate([[0], load(table.group[index]).astype(np.int64)])
        if (np.diff(bounds) < 0).any() or bounds[-1] > len(texts):
            raise NWBError(f"{index} of {table.where} does not suit {len(texts)} values: damaged.")
        texts, index = _joined(texts, bounds, separators), f"{index}_index"
    if len(texts) != len(table):
        raise NWBError(f"{name} of {table.where} has {len(texts)} values for {len(table)} rows: damaged.")
    return np.array(texts, dtype=str)


def _joined(texts: list[str], bounds: Sequence[int] | Array, separators: list[str]) -> list[str]:
    separator = separators.pop(0) if len(separators) > 1 else separators[0]
    return [separator.join(texts[a:b]) for a, b in pairwise(bounds)]


# Columns that can be compared, grouped by and put on a dim of a Dataset: one value per row.
SCALAR_KINDS = ("time", "number", "bool", "text")


class Table:
    """One DynamicTable: row ids, column names and kinds, and the values of scalar columns.

    Kinds: ``time`` (floats named as times, or within the rows' start and stop), ``number``, ``bool``,
    ``text``, ``ragged`` (many values per row), ``array`` (several), ``reference`` (into other objects).
    Values are int64/uint64, float64, bool or ``U`` text, one per row: bytes decoded, enums spelled out,
    (N, 1) squeezed. A float32 is read as the shortest decimal that stands for it, so 0.1 is 0.1.
    """

    def __init__(self, group: h5py.Group, where: str) -> None:
        self.group, self.where = group, where
        listed = [as_text(name) for name in np.ravel(group.attrs.get("colnames", []))]
        names = [name for name in (*listed, *members(group)) if name.isprintable()]
        names = list(dict.fromkeys(names))
        items = {name: group.get(name) for name in names}
        companions = {f"{name}_{end}" for name in names for end in ("index", "elements")} | {"id"}
        companions |= {f"{name}_index" for name in companions}
        self.names = [name for name, item in items.items() if is_dataset(item) and item.ndim and name not in companions]
        self.ids = self._ids()
        # what colnames does not list may be a column that was added by hand, or the words of an enum
        self.names = [name for name in self.names if name in listed or self._n_rows(name) == len(self.ids)]
        self._values: dict[str, Array] = {}

    def _n_rows(self, name: str) -> int:
        return self.group[f"{name}_index" if self.is_ragged(name) else name].shape[0]

    def __len__(self) -> int:
        return len(self.ids)

    def _ids(self) -> Array:
        item = self.group.get("id")
        if is_dataset(item) and item.ndim == 1 and item.dtype.kind in "iu":
            return load(item).astype(np.int64)
        for name in ("start_time", *self.names):
            if name in self.names:
                return np.arange(self._n_rows(name))
        return np.arange(0)

    def is_ragged(self, name: str) -> bool:
        return is_dataset(self.group.get(f"{name}_index"))

    def kind(self, name: str) -> str:
        """The kind of a column, by its type and, for floats, its name and values."""
        item = self.group[name]
        if self.is_ragged(name):
            return "ragged"
        if not is_scalar_type(item):
            return "reference"
        if item.ndim > 1 and item.size != item.shape[0]:
            return "array"
        dtype = self.column(name).dtype
        if dtype.kind == "f":
            return "time" if "time" in name.lower() or self._within_rows(name) else "number"
        return {"b": "bool", "U": "text"}.get(dtype.kind, "number")

    def _within_rows(self, name: str) -> bool:
        """Whether nine tenths of a column's numbers, two at least, lie in their row's start to stop."""
        if not {"start_time", "stop_time"} <= set(self.names):
            return False
        start, stop, values = (self.times(key) for key in ("start_time", "stop_time", name))
        inside = (values >= start) & (values <= stop)
        finite = np.isfinite(values)
        return bool(finite.sum() >= 2 and inside.sum() >= 0.9 * finite.sum() and np.ptp(values[finite]) > 0)

    def column(self, name: str) -> Array:
        """The values of a scalar column, one per row; ``id`` is the row ids.

        Raises: NWBError, one line, where there is no such column (the message lists those there are), or it
        holds more than one value per row.
        """
        if name == "id" and name not in self.names:
            return self.ids
        if name not in self.names:
            raise NWBError(f"{self.where} has no column {name!r}; it has {', '.join(self.names) or 'none'}.")
        if name not in self._values:
            self._values[name] = self._read(name)
        return self._values[name]

    def _read(self, name: str) -> Array:
        item = self.group[name]
        ask = "Ask for it among the columns that are read along, as text"
        if self.is_ragged(name):
            raise NWBError(f"{name} of {self.where} is ragged: rows hold many values; one is needed. {ask}.")
        if item.ndim > 1 and item.size != item.shape[0]:
            raise NWBError(f"{name} of {self.where} has shape {item.shape}; one value per row is needed. {ask}.")
        if item.shape[0] != len(self):
            raise NWBError(f"{name} of {self.where} has {item.shape[0]} values for {len(self)} rows: damaged.")
        if not is_scalar_type(item):
            raise NWBError(f"{name} of {self.where} holds references; a column of values is needed.")
        return self.decoded(name, load(item).reshape(len(self)))

    def decoded(self, name: str, values: Array) -> Array:
        """Values (flat) as they are meant: enums spelled out, bytes as text, wide numbers."""
        item = self.group[name]
        if values.dtype.kind in "iu":
            spelled, elements = enum_words(item), self._elements(name, item)
            if spelled is not None:
                return np.array([spelled.get(int(v), str(int(v))) for v in values], dtype=str)
            if elements is not None and len(values):
                odd = values[(values < 0) | (values >= len(elements))]
                if len(odd):
                    raise NWBError(f"{name} of {self.where} has code {odd[0]} of {len(elements)} elements: damaged.")
                return elements[values.astype(np.int64)]
        return _plain(values)

    def along(self, name: str) -> Array:
        """A column as it is read along: as `column`, or one text per row ('1.5, 2') where rows hold many values."""
        if name not in self.names or self.kind(name) in SCALAR_KINDS:
            return self.column(name)
        return row_texts(self, name)

    def _elements(self, name: str, item: h5py.Dataset) -> Array | None:
        """The words that the codes of an enum column stand for."""
        words = pointed_at(self.group.file, item.attrs.get("elements"))
        if words is None:
            words = self.group.get(f"{name}_elements")
        if is_dataset(words):
            return _plain(np.ravel(load(words)))
        listed = [item.attrs.get(key) for key in ("elements", f"{name}_elements")]
        return next((_plain(np.ravel(found)) for found in listed if isinstance(found, np.ndarray)), None)

    def times(self, name: str) -> Array:
        """A column as times, s: NaN where a text is no number ('N/A') or the entry is not finite."""
        values = self.column(name)
        if values.dtype.kind == "U":
            values = np.array([_number(text) for text in values], dtype=float)
        values = values.astype(float)
        return np.where(np.isfinite(values), values, np.nan)

    def time_columns(self) -> list[str]:
        """Columns that trials could be aligned to, those with ``time`` in their name first."""
        kinds = {name: self.kind(name) for name in self.names}
        found = [name for name, kind in kinds.items() if kind == "time"]
        found += [
            name
            for name, kind in kinds.items()
            if kind == "text" and "time" in name.lower() and np.isfinite(self.times(name)).any()
        ]
        return sorted(found, key=lambda name: "time" not in name.lower())

    def select(self, query: str | None, what: str = "where") -> Array:
        """Rows that satisfy a query (`nwb_lint.query`), all where it is None: bool (row)."""
        if query is None:
            return np.ones(len(self), bool)
        return select(query, self.column, len(self), what)


def numbers_of(table: Table, name: str) -> Array:
    """A column as float64, numeric texts parsed; raises NWBError where its texts are none."""
    values = table.column(name)
    if values.dtype.kind == "U":
        parsed = as_numbers(values)
        if parsed is None:
            shown = ", ".join(repr(str(text)) for text in np.unique(values)[:6])
            raise NWBError(f"{name} of {table.where} holds texts ({shown}); numbers are needed.")
        return parsed
    return values.astype(float)


def interval_tables(file: h5py.File) -> dict[str, int]:
    """Names of the tables in /intervals, and of old files' /epochs, with their numbers of rows; paths of others."""
    return {name: len(Table(item, name)) for name, item in (_interval_groups(file) | _elsewhere(file)).items()}


def open_intervals(file: h5py.File, name: str, path: Any) -> Table:
    """The interval table of a name, or at a path in the file; anywhere in it if but one has the name.

    Raises: NWBError where there is none (the message lists those there are), or it has no rows.
    """
    group = _interval_groups(file).get(name)
    if group is None and "/" in name:
        group = file.get(name)
    if group is None:
        found = [item for at, item in _elsewhere(file).items() if at.endswith(f"/{name}")]
        group = found[0] if len(found) == 1 else None
    if not is_group(group):
        tables = [f"{other} ({n})" for other, n in interval_tables(file).items()]
        listed = f"it has {', '.join(tables)}. Pass one as table=" if tables else "it has no interval tables"
        raise NWBError(f"{path} has no interval table {name!r}; {listed}.")
    table = Table(group, f"{name} of {path}")
    if not len(table):
        raise NWBError(f"{table.where} has no rows; at least one is needed.")
    return table


def _interval_groups(file: h5py.File) -> dict[str, Any]:
    """Every interval table; epochs are at the root in old files."""
    intervals, epochs = file.get("intervals"), file.get("epochs")
    items = {name: intervals.get(name) for name in members(intervals)} if is_group(intervals) else {}
    if is_group(epochs) and is_dataset(epochs.get("start_time")):
        items.setdefault("epochs", epochs)
    return {name: item for name, item in items.items() if is_group(item)}


def _elsewhere(file: h5py.File) -> dict[str, Any]:
    """Interval tables that lie among processed data or events, by their paths."""
    return {
        at: item
        for at, item in groups_of(file)
        if as_text(item.attrs.get("neurodata_type", "")) == "TimeIntervals" and is_dataset(item.get("id"))
    }


def _plain(values: Array) -> Array:
    """Bytes and objects as ``U`` text, integers as int64, floats as float64."""
    kind = values.dtype.kind
    if kind in "OSUT":
        return np.array([as_text(value) for value in values], dtype=str) if len(values) else np.zeros(0, "U1")
    if kind == "f":
        exact = values.dtype.itemsize >= 8
        return values.astype(float) if exact else values.astype(str).astype(float)
    if kind in "iu":
        return values.astype(np.uint64 if values.dtype == np.uint64 and _large(values) else np.int64)
    return values


def _large(values: Array) -> bool:
    return bool(len(values)) and int(values.max()) >= 2**63


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


TableChoice = str | Sequence[str]

TABLE, ROW_ID = "table", "table_id"  # the columns that a joined table has beside those of its parts


def open_table(file: h5py.File, table: TableChoice, path: Any) -> Table:
    """The interval table of a name, or the rows of several.

    Raises: ContractError where ``table`` is neither a name nor distinct names; NWBError as `open_intervals`.
    """
    if isinstance(table, str):
        return open_intervals(file, table, path)
    names = list(table) if isinstance(table, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ContractError(f"table is {table!r}; it needs the name of an interval table, or a list of distinct names.")
    parts = {name: open_intervals(file, name, path) for name in names}
    return parts[names[0]] if len(names) == 1 else Joined(parts, f"{' + '.join(names)} of {path}")


class Joined(Table):
    """The rows of several tables in the order of their start_time (of equal ones, in the order of the list).

    Row ids are 0, 1, …; ``table`` and ``table_id`` are the name of a row's own table and its id there. A
    column that a table lacks is NaN there ('' for text). Texts and numbers of one name become texts, unless
    all texts are numbers.
    """

    def __init__(self, parts: dict[str, Table], where: str) -> None:
        self.parts, self.where = parts, where
        self.names = list(dict.fromkeys(name for part in parts.values() for name in part.names))
        taken = [name for name in (TABLE, ROW_ID) if name in self.names]
        if taken:
            raise NWBError(f"{where}: a table has a column {taken[0]!r} of its own; read such tables one at a time.")
        sizes = [len(part) for part in parts.values()]
        starts = [part.times("start_time") if "start_time" in part.names else np.full(n, np.nan)
                  for part, n in zip(parts.values(), sizes, strict=True)]  # fmt: skip
        self._order = np.argsort(np.concatenate(starts), kind="stable")
        self.ids = np.arange(sum(sizes))
        labels = np.repeat(np.array(list(parts), dtype=str), sizes)
        own = np.concatenate([part.ids for part in parts.values()])
        self._values = {TABLE: labels[self._order], ROW_ID: own[self._order]}
        self.names += [TABLE, ROW_ID]

    def is_ragged(self, name: str) -> bool:
        return any(part.is_ragged(name) for part in self._with(name))

    def kind(self, name: str) -> str:
        kinds = {TABLE: ["text"], ROW_ID: ["number"]}.get(name) or [part.kind(name) for part in self._with(name)]
        rich = [kind for kind in kinds if kind not in SCALAR_KINDS]
        if rich or len(set(kinds)) == 1:
            return (rich or kinds)[0]
        return {"b": "bool", "U": "text"}.get(self.column(name).dtype.kind, "number")

    def along(self, name: str) -> Array:
        if name not in self.names or self.kind(name) in SCALAR_KINDS:
            return self.column(name)
        return self._stacked([part.along(name) if name in part.names else None for part in self.parts.values()])

    def _read(self, name: str) -> Array:
        return self._stacked([part.column(name) if name in part.names else None for part in self.parts.values()])

    def _with(self, name: str) -> list[Table]:
        return [part for part in self.parts.values() if name in part.names]

    def _stacked(self, columns: list[Array | None]) -> Array:
        """The values of all tables, in the order of the rows; None stands for a table that lacks the column."""
        known = [values for values in columns if values is not None]
        if any(values.dtype.kind == "U" for values in known):
            numbers = [as_numbers(values) if values.dtype.kind == "U" else values for values in known]
            mixed = any(values.dtype.kind != "U" for values in known)
            if mixed and all(values is not None for values in numbers):
                columns = [None if values is None else numbers.pop(0) for values in columns]
            else:
                columns = [None if values is None else as_texts(values) for values in columns]
        of_text = any(values is not None and values.dtype.kind == "U" for values in columns)
        missing = "" if of_text else np.nan
        sizes = [len(part) for part in self.parts.values()]
        whole = [np.full(n, missing) if v is None else v for v, n in zip(columns, sizes, strict=True)]
        return np.concatenate(whole)[self._order]
