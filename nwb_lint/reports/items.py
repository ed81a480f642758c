"""What a report consists of: sentences, tables, texts to copy and pictures. And how they look in a terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

_WIDTH = 110


class Table(NamedTuple):
    """A table of texts. ``notes`` are sentences below it: what its numbers mean."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Code(NamedTuple):
    """A text that readers copy, such as a recipe."""

    text: str


class Picture(NamedTuple):
    """A figure that is drawn when it is needed, and what it shows, for readers who do not see it.

    ``interactive`` draws the same by plotly, where there is such a version."""

    draw: Callable[[], Any]
    shows: str
    interactive: Callable[[], Any] | None = None


Item = str | Table | Code | Picture


class Section(NamedTuple):
    """A titled part of a report."""

    title: str
    items: Sequence[Item]


def number(value: float, digits: int = 3) -> str:
    """A number as a text; what is not known is a dash.

    Examples
    --------
    >>> number(0.12345), number(float("nan"))
    ('0.123', '-')
    """
    return f"{value:.{digits}f}" if value == value else "-"


def as_text(items: Iterable[Item]) -> str:
    """Items as plain text, without the pictures.

    Examples
    --------
    >>> print(as_text(["Two neurons.", Table("R² by split", ["split", "R²"], [["train", "0.9"]])]))
    Two neurons.
    <BLANKLINE>
    R² by split
      split   R²
      train  0.9
    """
    blocks = []
    for item in items:
        if isinstance(item, Table):
            notes = [textwrap.fill(note, _WIDTH, initial_indent="  ", subsequent_indent="  ") for note in item.notes]
            blocks.append("\n".join([item.title, *_aligned(item), *notes]))
        elif isinstance(item, Code):
            blocks.append(textwrap.indent(item.text.rstrip(), "    "))
        elif isinstance(item, str):
            blocks.append("\n".join(textwrap.fill(line, _WIDTH, break_long_words=False) for line in item.splitlines()))
    return "\n\n".join(blocks)


def as_json(result: xr.Dataset) -> str:
    """A result as JSON: its variables, coordinates and attributes with their dims; what is not a number is null.

    Examples
    --------
    >>> as_json(xr.Dataset({"r2": ("split", [0.5, float("nan")])}, attrs={"kind": "scores"}))
    '{"attrs": {"kind": "scores"}, "r2": {"dims": ["split"], "data": [0.5, null]}}'
    """
    attrs = {str(name): _plain(value) for name, value in result.attrs.items()}
    values = {str(name): {"dims": list(one.dims), "data": _plain(one.values)} for name, one in result.variables.items()}
    return json.dumps({"attrs": attrs} | values, ensure_ascii=True)


def _plain(value: Any) -> Any:
    """Numbers, texts and lists of them."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)


def columns_of_numbers(table: Table) -> list[bool]:
    """Which columns hold numbers alone, so that they are aligned on the right; never the first, which names the rows.

    Examples
    --------
    >>> columns_of_numbers(Table("", ["split", "R²", "verdict"], [["train", "0.9", "good"], ["held_out", "-", "bad"]]))
    [False, True, False]
    """
    columns = list(zip_longest(*table.rows, fillvalue=""))
    return [k > 0 and all(not cell or cell[0] in "0123456789-±" for cell in cells) for k, cells in enumerate(columns)]


def _aligned(table: Table) -> list[str]:
    """The lines of a table: numbers on the right, texts on the left, no cell cut."""
    lines = [line for line in (list(table.header), *map(list, table.rows)) if any(line)]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    right = columns_of_numbers(table)
    texts = (
        [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=False)
        ]
        for line in lines
    )
    return ["  " + "  ".join(line).rstrip() for line in texts]
