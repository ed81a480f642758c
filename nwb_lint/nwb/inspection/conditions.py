"""Which trials a suggested call keeps, and the columns that make its conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.contract.values import distinct, missing_in
from nwb_lint.nwb.recording.tables import SCALAR_KINDS, Table
from nwb_lint.nwb.recording.trials import factor_levels, make_conditions, parse_by
from nwb_lint.query import column_names, spell_column

Array = np.ndarray

# What names of columns say.
_OUTCOME = re.compile(r"correct|success|is_?good|valid|hit|include|rewarded|completed", re.I)
_STIMULATED = re.compile(
    r"photo|opto|laser|galvo|inactivat|silenc|perturb|micro_?stim|(^|_)(tms|chr2|gtacr\d?|halo|arch)(_|$)", re.I
)
_STIMULATED_FLAG = re.compile(r"^((is|was|has|brain|electrical)_?)*stim(ulat(ed|ion))?(_?(on|trials?|flag))?$", re.I)
_RESPONSE = re.compile(r"choice|response|outcome|lick|error|early|reaction|feedback|reward_?volume|water", re.I)
_BOOKKEEPING = re.compile(r"(^|_)(id|index|idx|number|num|no|trial|trials|block|uid|session|tags?)$", re.I)
_STIMULUS_NUMBER = re.compile(r"^(stim|image|picture|odou?r|target|tone|sound|cue)[a-z]*_(id|number|num|no)$", re.I)
# Levels that ordinary trials have.
_GOOD = ("correct", "hit", "success", "good", "rewarded")
_UNSTIMULATED = re.compile(
    r"(n/?a|nan|none|null|no|off|false|0(\.0*)?|control|ctrl|sham|baseline|-*|(no|non|without)[ _-]+\w+|\w+[ _-]off"
    r"|(no|un)(stim|opto|laser|light)\w*)",
    re.I,
)


_MOST_FACTORS, _MOST_LEVELS, _FEWEST_TRIALS = 3, 8, 3
_FEWEST_ORDINARY = 6  # trials that are enough to leave all others out
_FEWEST_CONDITIONS = 4  # some of them are held out
# Where columns of few levels give fewer conditions:
_MANY_LEVELS = 40
_TRIALS_EACH = 5  # of every condition that a response, an outcome or bins make
_BINS = (4, 3, 2)
_DECIDED = "Its input stands for a decision made before time 0. Delete it if there was none."


class Grouping(NamedTuple):
    """Columns to group by, clauses of a query, and the rows that it keeps.

    ``reason`` says why they are not the stimuli of correct trials alone; it is empty where they are.
    """

    by: list[Any]
    clauses: list[str]
    kept: Array
    reason: str = ""


def choose_grouping(table: Table, timed: Array) -> Grouping:
    """Group correct trials without stimulation by their stimuli. Where this gives few conditions, take more columns.

    At least four are wanted, so that some can be held out. The first of these that gives as many is taken: stimuli of
    many levels; a response; the outcome, so that wrong trials are conditions of their own; numbers in bins.

    Parameters
    ----------
    table : Table
        The trials.
    timed : array of bool, shape (row,)
        The rows that can be aligned.

    Returns
    -------
    Grouping
        The first choice where nothing else gives four conditions; its reason then says so.
    """
    clauses, kept = _choose_where(table, timed)
    used = {name for clause in clauses for name in column_names(clause)}
    by, n = _choose_by(table, kept, used, _MOST_LEVELS)
    first = Grouping(by or [_fewest_levels(table, kept)], clauses, kept)
    if n >= _FEWEST_CONDITIONS:
        return first
    many, n_many = _choose_by(table, kept, used, _MANY_LEVELS)
    if n_many >= _FEWEST_CONDITIONS:
        return first._replace(by=many)
    few = (
        f"{' and '.join(map(_column_of, by))} alone would give {n} conditions"
        if n > 1
        else "No column tells stimuli apart"
    )
    why = f"{few}. At least {_FEWEST_CONDITIONS} conditions are needed, so that some can be held out."
    for found in _with_one_more(table, timed, first._replace(by=by if n > 1 else [])):
        return found._replace(reason=f"{why} {found.reason}")
    if not by and _enough(table, first):
        why = f"No column tells stimuli apart in every trial. {first.by[0]} is taken, since it has the fewest values."
        return first._replace(reason=why)
    return first._replace(reason=f"{why} Add a column, or fit one rank: nwb-lint fit --rank 1.")


def _with_one_more(table: Table, timed: Array, first: Grouping) -> Iterator[Grouping]:
    """Four conditions or more, of the first ones and one column more, the best first."""
    used = [name for clause in first.clauses for name in column_names(clause)]
    plain = [
        name
        for name in table.names
        if (kind := table.kind(name)) in ("bool", "text", "number")
        and not _is_stimulated(name, kind, table.column(name))
        and not _BOOKKEEPING.search(name)
    ]
    new = [name for name in plain if name not in (*used, *map(_column_of, first.by))]
    for name in filter(_RESPONSE.search, new):
        yield from _crossed(table, first, name, f"So {name} is taken too. {_DECIDED}")
    outcomes = [name for name in plain if name in used]
    for but in [*([name] for name in outcomes), outcomes] if outcomes else []:
        clauses, kept = _choose_where(table, timed, but)
        why = f"So wrong trials are kept too, as conditions of their own: {but[0]}. {_DECIDED}"
        yield from _crossed(table, first._replace(clauses=clauses, kept=kept), but[0], why)
    for name in sorted(new, key=lambda name: bool(_RESPONSE.search(name))):
        if table.kind(name) == "number" and not _OUTCOME.search(name):
            yield from _binned(table, first, name, f"So {name} is taken too, in bins of about equally many trials.")


def _crossed(table: Table, first: Grouping, name: str, why: str) -> Iterator[Grouping]:
    """The conditions divided by a column, without its levels that are rare in any of them."""
    values, codes = table.column(name), _codes(table, first.by)
    known = first.kept & (codes >= 0) & ~missing_in(values)
    levels, own = distinct(values[known])
    if not 2 <= len(levels) <= _MOST_LEVELS:
        return
    counts = np.zeros((codes.max() + 1, len(levels)), int)
    np.add.at(counts, (codes[known], own), 1)
    often = counts[np.unique(codes[known])].min(axis=0) >= _TRIALS_EACH
    kept = known.copy()
    kept[known] = often[own]
    found = first._replace(by=[*first.by, name], kept=kept, reason=why)
    if not often.all():
        found = found._replace(
            clauses=[*first.clauses, f"{spell_column(name)} in ({', '.join(map(repr, levels[often].tolist()))})"]
        )
    if _enough(table, found):
        yield found


def _binned(table: Table, first: Grouping, name: str, why: str) -> Iterator[Grouping]:
    """The conditions divided by the bins of a column of numbers."""
    values = table.numbers(name)
    known = values[first.kept & np.isfinite(values)]
    if len(np.unique(known)) <= _MOST_LEVELS or (np.diff(known) > 0).all():  # a number of the trial, or a time
        return
    for bins in _BINS:
        inner = [float(f"{edge:.3g}") for edge in np.quantile(known, np.arange(1, bins) / bins)]
        edges = [float(known.min()), *inner, float(known.max())]
        if (np.diff(edges) > 0).all():
            found = first._replace(by=[*first.by, {name: edges}], reason=why)
            if _enough(table, found):
                yield found


def _codes(table: Table, by: list[Any]) -> Array:
    """The condition of every row, −1 for none."""
    if not by:
        return np.zeros(len(table), np.int64)
    factors = parse_by(by)
    return make_conditions(factors, [[factor_levels(table, factor) for factor in factors]], [""]).codes[0]


def _enough(table: Table, found: Grouping) -> bool:
    """Whether there are four conditions or more, and enough trials of each."""
    codes = _codes(table, found.by)[found.kept]
    counts = np.unique(codes[codes >= 0], return_counts=True)[1]
    return len(counts) >= _FEWEST_CONDITIONS and bool(counts.min() >= _TRIALS_EACH)


def _column_of(entry: Any) -> str:
    """The column of an entry of ``by``."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _choose_where(table: Table, kept: Array, but: Sequence[str] = ()) -> tuple[list[str], Array]:
    """Clauses that keep correct trials without stimulation, and their rows; no clause on the columns ``but``."""
    clauses = []
    for name in table.names:
        kind = table.kind(name)
        if kind not in SCALAR_KINDS or "`" in name or name in but:
            continue
        values = table.column(name)
        stimulated = _is_stimulated(name, kind, values)
        clause, rows = (_unstimulated if stimulated else _ordinary)(name, kind, values, kept)
        enough = rows.sum() >= _FEWEST_ORDINARY if stimulated else rows.sum() >= 0.2 * kept.sum()
        if clause and enough and rows.sum() < kept.sum():
            clauses.append(clause)
            kept = rows
    return clauses, kept


def _is_stimulated(name: str, kind: str, values: Array) -> bool:
    """Whether a column says in which trials the brain was stimulated; plain "stim" does so as yes or no alone."""
    if _STIMULATED.search(name):
        return True
    known = values[~missing_in(values)]
    yes_or_no = kind == "bool" or (kind == "number" and bool(np.isin(known, (0, 1)).all()))
    on_or_off = kind == "text" and len(_off_levels(known)) > 0 and len(np.unique(known)) <= 2
    return bool(_STIMULATED_FLAG.search(name)) and (yes_or_no or on_or_off)


def _off_levels(values: Array) -> Array:
    """The texts that say that there was no stimulation."""
    return np.array(
        [level for level in np.unique(values).tolist() if _UNSTIMULATED.fullmatch(level.strip())], dtype=str
    )


def _unstimulated(name: str, kind: str, values: Array, kept: Array) -> tuple[str, Array]:
    """The clause that keeps trials without stimulation, and its rows; no clause where the column does not say."""
    column = spell_column(name)
    if kind == "bool":
        return f"not {column}", kept & ~values
    if kind == "text":
        off = _off_levels(values[kept])
        rows = kept & np.isin(values, off)
        if len(off) > 1:
            return f"{column} in ({', '.join(map(repr, off.tolist()))})", rows
        return (f"{column} == {off[0].item()!r}" if len(off) else ""), rows
    if kind == "number" and (values[kept] == 0).any():
        return f"{column} == 0", kept & (values == 0)
    return f"isnan({column})", kept & missing_in(values)


def _ordinary(name: str, kind: str, values: Array, kept: Array) -> tuple[str, Array]:
    """The clause that keeps correct trials, and its rows; no clause where name and levels of a column do not say."""
    levels = np.unique(values[kept])
    if kind == "text":
        good = next((level for level in _GOOD if level in levels), None)
        return (f"{spell_column(name)} == {good!r}" if good else ""), kept & (values == good)
    if kind == "time" or not _OUTCOME.search(name) or len(levels) != 2 or set(levels.tolist()) != {0, 1}:
        return "", kept
    return (spell_column(name) if kind == "bool" else f"{spell_column(name)} == 1"), kept & (values == 1)


def _choose_by(table: Table, kept: Array, used: set[str], most: int) -> tuple[list[Any], int]:
    """Columns of two to ``most`` levels, stimuli before responses, as many as leave enough trials; the conditions."""
    found = []
    for name in table.names:
        kind = table.kind(name)
        if kind not in ("bool", "text", "number") or name in used:
            continue
        if _BOOKKEEPING.search(name) and not _STIMULUS_NUMBER.search(name):
            continue
        if _OUTCOME.search(name) or _is_stimulated(name, kind, table.column(name)):
            continue
        values = table.column(name)[kept]
        if not missing_in(values).any() and 2 <= len(distinct(values)[0]) <= most:
            found.append(name)
    found.sort(key=lambda name: bool(_RESPONSE.search(name)))
    stimuli = [name for name in found if not _RESPONSE.search(name)] or found[:1]
    chosen: list[Any] = []
    codes = np.zeros(int(kept.sum()), np.int64)
    for name in stimuli[:_MOST_FACTORS]:
        values = table.column(name)[kept]
        joint = codes * most + distinct(values)[1]
        _, joint, counts = np.unique(joint, return_inverse=True, return_counts=True)
        if np.median(counts) < _FEWEST_TRIALS or len(counts) == len(np.unique(codes)):
            continue
        codes = joint
        chosen.append({name: "rank"} if _is_signed(values) else name)
    return chosen or found[:1], len(np.unique(codes))


def _is_signed(values: Array) -> bool:
    """Whether a column holds strengths of either sign, such as coherences."""
    if values.dtype.kind not in "if":
        return False
    levels = np.unique(values)
    return len(levels) >= 4 and bool((levels < 0).any() and (levels > 0).any())


def _fewest_levels(table: Table, kept: Array) -> str:
    """The scalar column of fewest levels, two at least where there is one, where no column looks like a condition."""
    found: dict[str, int] = {}
    for name in table.names:
        kind = table.kind(name)
        if kind in ("bool", "text", "number") and not _is_stimulated(name, kind, table.column(name)):
            values = table.column(name)[kept]
            if not missing_in(values).all():
                found[name] = len(np.unique(values))
    return min(found, key=lambda name: (found[name] < 2, found[name]), default="start_time")
