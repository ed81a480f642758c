"""Which trials of a session are read: its table, the query, the alignment, the groups; for both readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.align import Align, align_text, align_times
from nwb_lint.nwb.conditions import Factor, Levels, factor_levels
from nwb_lint.nwb.joined import TableChoice, open_table
from nwb_lint.nwb.source import NWBError
from nwb_lint.nwb.tables import SCALAR_KINDS, Table
from nwb_lint.nwb.told import tell

Array = np.ndarray


class Trials(NamedTuple):
    """The trials of a session that are read.

    ``reach_s`` is the largest time in the whole table, ``longest_s`` the longest of its rows. ``second`` is
    the second event of warp (trial), ``within`` the limits of each trial (2, trial); None where not asked for.
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
) -> Trials:
    """The rows that ``where`` selects; without those of no alignment, of no interval of warp above 0, of no
    limits, and of no condition, in that order.

    ``columns`` are read along (None: all that hold one value per row). Raises: NWBError, one line, where no
    trial is left, saying how many there were and what dropped the rest.
    """
    rows_of = open_table(file, table, path)
    rows = np.flatnonzero(rows_of.select(where))
    if not len(rows):
        raise NWBError(f"{rows_of.where}: 0 of {len(rows_of)} trials satisfy where={where!r}. Loosen the query.")
    times = align_times(file, path, rows_of, align, rows)
    aligned = rows[np.isfinite(times[rows])]
    if not len(aligned):
        raise NWBError(_nothing_aligned(rows_of, align, rows))
    second = None if warp is None else align_times(file, path, rows_of, warp[1], rows, "warp")
    warped = aligned if second is None else aligned[second[aligned] > times[aligned]]
    limits = None if within is None else np.stack([rows_of.times(name) for name in within])
    limited = warped if limits is None else warped[np.isfinite(limits[:, warped]).all(axis=0)]
    if not len(limited):
        what = f"{warp[1]} after {warp[0]}" if warp is not None and not len(warped) else " and ".join(within or ())
        raise NWBError(f"{rows_of.where}: none of {len(aligned)} aligned trials has {what}. Pass other columns.")
    if within is not None and limits is not None and not (limits[1] > limits[0])[limited].any():
        told = f"{within[1]} is after {within[0]} in none of {len(limited)} trials"
        raise NWBError(f"{rows_of.where}: {told}, which are read between them. Pass other columns as within=.")
    levels = [factor_levels(rows_of, factor) for factor in factors]
    kept = _grouped(rows_of, factors, levels, limited, len(rows))
    if columns is None:
        columns = [name for name in rows_of.names if rows_of.kind(name) in SCALAR_KINDS]
    edges: dict[str, Array] = {
        name: rows_of.times(name) for name in ("start_time", "stop_time") if name in rows_of.names
    }
    return Trials(
        where=rows_of.where,
        ids=rows_of.ids[kept],
        origins=times[kept],
        columns={name: rows_of.along(name)[kept] for name in columns},
        levels=[Levels(part.values[kept], part.missing[kept], part.ranked) for part in levels],
        reach_s=float(np.nanmax(np.abs([times, *edges.values()]))),
        longest_s=_longest(rows_of, edges, kept),
        second=None if second is None else second[kept],
        within=None if limits is None else limits[:, kept],
        dropped_align=len(rows) - len(aligned),
        dropped_warp=len(aligned) - len(warped),
        dropped_within=len(warped) - len(limited),
        dropped_by=len(limited) - len(kept),
    )


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
    """The longest of the rows, s (0 where they have no two edges); warns of those that end before they start."""
    if len(edges) < 2:
        return 0.0
    start, stop = edges["start_time"], edges["stop_time"]
    for odd, told in ((stop[rows] < start[rows], "stop before they start"), (stop[rows] == start[rows], "last 0 s")):
        if odd.any():
            row = rows[odd][0]
            tell(
                f"{table.where}: {odd.sum()} of {len(rows)} trials {told} (the first has id {table.ids[row]}: "
                f"{start[row]:g} to {stop[row]:g} s).",
                stacklevel=4,
            )
    lasts = stop - start
    return float(np.nanmax(lasts)) if np.isfinite(lasts).any() else 0.0


def _nothing_aligned(table: Table, align: Align, rows: Array) -> str:
    valid = {name: int(np.isfinite(table.times(name)[rows]).sum()) for name in table.time_columns()}
    listed = ", ".join(f"{name} ({n})" for name, n in valid.items() if n) or "none"
    return (
        f"{table.where}: none of {len(rows)} trials has a number in {align_text(align)}, to which they would be "
        f"aligned; columns with times: {listed}. Pass one as align=."
    )
