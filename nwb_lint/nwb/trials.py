"""Which trials of a session are read: its table, the query, the alignment, the groups; for both readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.conditions import Factor, Levels, factor_levels
from nwb_lint.nwb.counts import Bins, Intervals
from nwb_lint.nwb.source import NWBError
from nwb_lint.nwb.tables import SCALAR_KINDS, Table, open_intervals
from nwb_lint.nwb.told import tell
from nwb_lint.nwb.units import recorded_span

Array = np.ndarray

_FAR = 100.0  # times this far beyond the other kind are in another unit, such as ms or samples


class Trials(NamedTuple):
    """The trials of a session that are read; ``reach_s`` is the largest time in the whole table."""

    where: str
    ids: Array
    origins: Array
    columns: dict[str, Array]
    levels: list[Levels]
    reach_s: float
    dropped_align: int
    dropped_by: int


def choose_trials(
    file: h5py.File,
    path: Any,
    *,
    table: str,
    where: str | None,
    align: str,
    factors: Sequence[Factor] = (),
    columns: Sequence[str] | None = (),
) -> Trials:
    """The rows that ``where`` selects, without those of no alignment, and then without those of no condition.

    ``columns`` are read along (None: all that hold one value per row). Raises: NWBError, one line, where no
    trial is left, saying how many there were and what dropped the rest.
    """
    rows_of = open_intervals(file, table, path)
    if align not in rows_of.names:
        candidates = ", ".join(rows_of.time_columns()) or "none"
        raise NWBError(f"{rows_of.where} has no column {align!r} for align; columns of times: {candidates}.")
    times = rows_of.times(align)
    rows = np.flatnonzero(rows_of.select(where))
    if not len(rows):
        raise NWBError(f"{rows_of.where}: 0 of {len(rows_of)} trials satisfy where={where!r}. Loosen the query.")
    aligned = rows[np.isfinite(times[rows])]
    if not len(aligned):
        raise NWBError(_nothing_aligned(rows_of, align, rows))
    levels = [factor_levels(rows_of, factor) for factor in factors]
    kept = aligned
    for part in levels:
        kept = kept[~part.missing[kept]]
    if not len(kept):
        empty = ", ".join(
            f"{f.column} ({part.missing[aligned].sum()})" for f, part in zip(factors, levels, strict=True)
        )
        raise NWBError(
            f"{rows_of.where}: {len(rows)} of {len(rows_of)} trials satisfy the query, {len(aligned)} have "
            f"{align}, and none has a value of every column of by; missing: {empty}. Change by."
        )
    chosen = [Levels(part.values[kept], part.missing[kept], part.ranked) for part in levels]
    if columns is None:
        columns = [name for name in rows_of.names if rows_of.kind(name) in SCALAR_KINDS]
    edges = [rows_of.times(name) for name in ("start_time", "stop_time") if name in rows_of.names]
    return Trials(
        where=rows_of.where,
        ids=rows_of.ids[kept],
        origins=times[kept],
        columns={name: rows_of.column(name)[kept] for name in columns},
        levels=chosen,
        reach_s=float(np.nanmax(np.abs([times, *edges]))),
        dropped_align=len(rows) - len(aligned),
        dropped_by=len(aligned) - len(kept),
    )


def check_overlap(trials: Trials, bins: Bins, spikes: list[Array], observed: list[Intervals | None]) -> None:
    """Raise NWBError where no trial's window meets the recording; warn where units of time seem to differ."""
    span = recorded_span(spikes, observed)
    if span is None:
        return
    starts = trials.origins + bins.start
    ends = starts + bins.n * bins.bin_s
    told = f"spikes and observed times span {span[0]:g}–{span[1]:g} s"
    size = float(np.abs(span).max())
    reach = trials.reach_s
    far = max(size, reach) > _FAR * max(min(size, reach), 1.0)
    hint = " One of the two may be in milliseconds or samples, or relative to trials." if far else ""
    if not ((ends > span[0]) & (starts <= span[1])).any():
        raise NWBError(
            f"{trials.where}: no window meets the recording: {told}, the windows "
            f"{starts.min():g}–{ends.max():g} s."
            f"{hint or ' Check align and window_s.'}"
        )
    if far:
        tell(f"{trials.where}: {told}, the trials up to {reach:g} s.{hint}", stacklevel=4)


def _nothing_aligned(table: Table, align: str, rows: Array) -> str:
    valid = {name: int(np.isfinite(table.times(name)[rows]).sum()) for name in table.time_columns()}
    listed = ", ".join(f"{name} ({n})" for name, n in valid.items() if n) or "none"
    return (
        f"{table.where}: none of {len(rows)} trials has a number in {align}, to which they would be aligned; "
        f"columns with times: {listed}. Pass one as align=."
    )
