"""Columns whose rows hold many values → one readable text per row: metadata, never parsed again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nwb_lint.nwb.h5 import is_dataset, is_reference, is_scalar_type, name_of
from nwb_lint.nwb.source import NWBError, load
from nwb_lint.query import as_texts

if TYPE_CHECKING:
    from nwb_lint.nwb.tables import Table

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
