"""What trials are aligned to → a time per row: a column, events elsewhere in the file, or a function of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.nwb.events import event_paths, find_events
from nwb_lint.nwb.source import NWBError
from nwb_lint.nwb.tables import SCALAR_KINDS, Table

Array = np.ndarray
Align = str | Callable[[Any], Any]


def align_text(align: Align) -> str:
    """The name of what trials are aligned to: an attribute is text.

    Raises: ContractError where it is neither a name nor a function.
    """
    if isinstance(align, str):
        return align
    if not callable(align):
        raise ContractError(f"align is {align!r}; it needs a column, an event series, or a function of the table.")
    return str(getattr(align, "__name__", type(align).__name__))


def align_times(file: h5py.File, path: Any, table: Table, align: Align, rows: Array, what: str = "align") -> Array:
    """The time of every row, s; NaN where there is none.

    | align | time of a row |
    |---|---|
    | a column | its value; NaN where it is NaN, 'N/A' or no number |
    | a name or path of an event series or events table in the file | the first event in [start_time, stop_time) |
    | a function | its result for a DataFrame of the columns of one value per row (index: row ids) |

    Lists of numbers in a text ('1.2,0.5') are refused in the chosen ``rows``: the first of them would be a guess
    at which event is meant, and no time at all would drop trials that have one.

    Raises: NWBError where there is no such column nor series (the message lists both); ContractError where a
    function gives anything but one number per row.
    """
    if not isinstance(align, str):
        return _called(align, table, what)
    if align in table.names:
        _refuse_lists(table, align, rows, what)
        if table.kind(align) == "bool":
            listed = ", ".join(table.time_columns()) or "none"
            raise NWBError(f"{align} of {table.where} says yes or no; {what} needs times. Columns of times: {listed}.")
        return table.times(align)
    events = find_events(file, align, path)
    if events is None:
        candidates = ", ".join(table.time_columns()) or "none"
        series = event_paths(file)
        told = f"; event series: {', '.join(series[:12])}{', …' * (len(series) > 12)}" if series else ""
        raise NWBError(f"{table.where} has no column {align!r} for {what}; columns of times: {candidates}{told}.")
    lacking = [name for name in ("start_time", "stop_time") if name not in table.names]
    if lacking:
        raise NWBError(f"{table.where} has no {' and no '.join(lacking)}, between which events are looked for.")
    return events.first_within(table.times("start_time"), table.times("stop_time"))


def _called(align: Callable[[Any], Any], table: Table, what: str) -> Array:
    import pandas as pd

    columns = {name: table.column(name) for name in table.names if table.kind(name) in SCALAR_KINDS}
    found = align(pd.DataFrame(columns, index=pd.Index(table.ids, name="id")))
    called = f"{what} ({align_text(align)})"
    if np.ndim(found) != 1 or len(found) != len(table):
        shape = f"shape {np.shape(found)}" if np.ndim(found) else f"a {type(found).__name__}"
        raise ContractError(f"{called} gives {shape}; it needs one time per row of {table.where}: {len(table)}.")
    try:
        values = pd.Series(found).to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{called} gives what is no number: {error}. Use pandas.to_numeric in it.") from error
    return np.where(np.isfinite(values), values, np.nan)


def _refuse_lists(table: Table, name: str, rows: Array, what: str) -> None:
    values = table.column(name)[rows]
    if values.dtype.kind != "U":
        return
    lists = [str(text) for text in values if "," in text and _are_numbers(text.split(","))]
    if lists:
        raise NWBError(
            f"{name} of {table.where} holds lists of numbers, such as {lists[0]!r}, in {len(lists)} of {len(rows)} "
            f"trials; {what} needs one time per trial. Choose one: {what}=lambda rows: pandas.to_numeric("
            f"rows[{name!r}].str.split(',').str[0], errors='coerce')."
        )


def _are_numbers(texts: list[str]) -> bool:
    try:
        return bool([float(text) for text in texts if text.strip()])
    except ValueError:
        return False
