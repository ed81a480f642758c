"""Trial columns → conditions: values, ranks or bins of several columns, over one session or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.nwb.source import NWBError
from nwb_lint.nwb.tables import Table, is_missing, numbers_of
from nwb_lint.query import format_value

Array = np.ndarray
By = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


class Factor(NamedTuple):
    """One column that trials are grouped by: its values, their ``rank``, or bins between ``edges``."""

    column: str
    how: str
    edges: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        return f"bins {', '.join(f'{edge:g}' for edge in self.edges)}" if self.edges else self.how


class Levels(NamedTuple):
    """Of one factor in one session: a value per trial, which are missing, and the levels that were ranked."""

    values: Array
    missing: Array
    ranked: tuple[float, ...] = ()


class Conditions(NamedTuple):
    """The conditions of all sessions, in order of their values: labels, a coordinate per column, and the
    condition of each trial of each session (−1 where a value is missing)."""

    labels: list[str]
    coords: dict[str, Array]
    codes: list[Array]


def parse_by(by: By) -> list[Factor]:
    """The columns to group by, from names and ``{column: "rank"}`` or ``{column: [edge, …]}``.

    Raises: ContractError where ``by`` is empty or holds anything else, or names a column twice.

    Example:
        >>> parse_by(["context", {"motion": "rank"}])
        [Factor(column='context', how='value', edges=()), Factor(column='motion', how='rank', edges=())]
    """
    entries = [by] if isinstance(by, str | Mapping) else by
    if not isinstance(entries, Sequence) or not entries:
        raise ContractError(f"by is {by!r}; it needs at least one column of the table.")
    factors: list[Factor] = []
    for entry in entries:
        if isinstance(entry, str):
            factors.append(Factor(entry, "value"))
        elif isinstance(entry, Mapping) and entry:
            factors += [_factor(column, how) for column, how in entry.items()]
        else:
            raise ContractError(f'by holds {entry!r}; entries are names, {{name: "rank"}} or {{name: [edges]}}.')
    names = [factor.column for factor in factors]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ContractError(f"by names {twice[0]!r} twice; name each column once.")
    return factors


def factor_levels(table: Table, factor: Factor) -> Levels:
    """The values of a factor for every row of a table.

    ``rank`` is sign(v) × the rank of |v| among the distinct |v| > 0 of the whole table, so that coherences of
    ±.06, ±.17, ±.5 and of ±.04, ±.14, ±.5 are ±1, ±2, ±3 alike, and 0 is 0. Bins are [a, b), the last [a, b].

    Raises: NWBError where there is no such column, it is ragged, or its texts are no numbers where numbers
    are needed.
    """
    if factor.how == "value":
        values = table.column(factor.column)
        return Levels(values, is_missing(values))
    values = numbers_of(table, factor.column)
    missing = ~np.isfinite(values)
    known = np.where(missing, 0.0, values)
    if factor.how == "rank":
        sizes = np.unique(np.abs(known[known != 0]))
        rank = np.searchsorted(sizes, np.abs(known)) + 1
        return Levels(np.sign(known).astype(np.int64) * rank, missing, tuple(sizes.tolist()))
    edges = np.array(factor.edges)
    at = np.searchsorted(edges, known, side="right") - 1
    at[known == edges[-1]] = len(edges) - 2
    return Levels(at, missing | (known < edges[0]) | (known > edges[-1]))


def join(factors: list[Factor], sessions: list[list[Levels]], names: list[str]) -> Conditions:
    """The conditions that occur in any session: the distinct combinations of the factors' values.

    ``sessions[s][f]`` holds the trials of session s that take part. Raises: NWBError where sessions have
    texts and numbers in the same column, or different numbers of ranked levels.
    """
    sizes = [len(levels[0].values) for levels in sessions]
    missing = np.concatenate([np.any([part.missing for part in levels], axis=0) for levels in sessions])
    columns, codes = [], []
    for k, factor in enumerate(factors):
        parts = [levels[k] for levels in sessions]
        _check_alike(factor, parts, names)
        unique, code = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
        columns.append(unique)
        codes.append(code)
    table, rows = np.unique(np.stack(codes)[:, ~missing], axis=1, return_inverse=True)
    of_trial = np.full(len(missing), -1)
    of_trial[~missing] = rows.reshape(-1)
    coords: dict[str, Array] = {}
    texts: list[list[str]] = []
    for factor, unique, code in zip(factors, columns, table, strict=True):
        values = unique[code]
        texts.append([f"{factor.column}={text}" for text in _texts(factor, values)])
        coords[factor.column] = _midpoints(factor)[values] if factor.edges else values
    labels = [", ".join(parts) for parts in zip(*texts, strict=True)]
    return Conditions(labels, coords, np.split(of_trial, np.cumsum(sizes)[:-1]))


def _factor(column: str, how: Any) -> Factor:
    if isinstance(how, str):
        if how in ("rank", "value"):
            return Factor(column, how)
    else:
        try:
            edges = tuple(float(edge) for edge in how)
        except (TypeError, ValueError):
            edges = ()
        if len(edges) > 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all():
            return Factor(column, "bins", edges)
    raise ContractError(
        f'by has {{{column!r}: {how!r}}}; it needs "rank", or a list of at least two finite edges, ascending.'
    )


def _check_alike(factor: Factor, parts: list[Levels], names: list[str]) -> None:
    kinds = ["texts" if part.values.dtype.kind == "U" else "numbers" for part in parts]
    if len(set(kinds)) > 1:
        first, other = names[kinds.index("texts")], names[kinds.index("numbers")]
        raise NWBError(f"{factor.column} holds texts in {first} and numbers in {other}; sessions need to agree.")
    if factor.how == "rank" and len({len(part.ranked) for part in parts}) > 1:
        shown = {
            len(part.ranked): f"{len(part.ranked)} in {name} ({', '.join(f'{v:g}' for v in part.ranked)})"
            for part, name in zip(parts, names, strict=True)
        }
        raise NWBError(
            f"{factor.column} has different numbers of levels: {'; '.join(shown.values())}; ranks match only "
            "where the numbers agree. Read those sessions apart."
        )


def _texts(factor: Factor, values: Array) -> list[str]:
    """What labels say of each value: %g, all digits where two values would look alike."""
    if factor.edges:
        last = len(factor.edges) - 2
        return [f"[{factor.edges[k]:g}, {factor.edges[k + 1]:g}{']' if k == last else ')'}" for k in values.tolist()]
    shown = [format_value(value) for value in values.tolist()]
    distinct = len(set(shown)) == len(np.unique(values))
    return shown if distinct else [str(value) for value in values.tolist()]


def _midpoints(factor: Factor) -> Array:
    edges = np.array(factor.edges)
    return (edges[1:] + edges[:-1]) / 2
