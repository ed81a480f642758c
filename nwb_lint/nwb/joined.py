"""Several interval tables as one: rows in the order of their start, a column that says which table each is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.nwb.source import NWBError
from nwb_lint.nwb.tables import SCALAR_KINDS, Table, open_intervals
from nwb_lint.query import as_numbers, as_texts

Array = np.ndarray
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
