"""Indices of ragged columns: where the values of each row begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.h5 import find_dataset, holds_numbers, load, shape_text, type_text

Array = np.ndarray

_AGAIN = "Write the index again."


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
