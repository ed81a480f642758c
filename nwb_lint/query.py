"""Queries over the columns of a table. A query is parsed and checked piece by piece; it never runs as code.

    response == 'correct' and not early and motion in (-0.5, 0.5) and 0.2 <= delay < 1.5

A query may have column names (in backticks if they are not identifiers), texts, numbers, True, False, tuples, lists,
comparisons, ``in``, ``and``, ``or``, ``not``, and a minus before a number. All else is refused.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.contract import missing_in
from nwb_lint.errors import ContractError, NWBError

Array = np.ndarray

_LONGEST = 4000
_PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`([^`]+)`""", re.DOTALL)
_ALLOWED = "A query may have column names, literals, comparisons, in, and, or, not"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class _Operand(NamedTuple):
    """A column or a literal: its values (scalar for a literal) and the column's name, empty for a literal."""

    values: Any
    name: str


def select(query: str, get: Callable[[str], Array], n_rows: int, what: str = "where") -> Array:
    """The rows that satisfy a query.

    A comparison with NaN is False, also for ``!=`` and ``not in``. A column of texts that is compared with a number is
    read as numbers if all its texts are numbers or missing ('', 'N/A').

    Parameters
    ----------
    query : str
        The query.
    get : callable
        Takes the name of a column and returns its values (row), or raises if the name is not known.
    n_rows : int
        Number of rows.
    what : str, default="where"
        Name of the argument that holds the query, for messages.

    Returns
    -------
    numpy.ndarray
        bool (row).

    Raises
    ------
    ContractError
        If the query cannot be parsed, or has a piece that is not allowed; the message quotes the piece.
    NWBError
        If a column cannot be compared with such a value; the message shows its levels.

    Examples
    --------
    >>> columns = {"go": np.array([True, True, False]), "power": np.array([0.0, 2.0, np.nan])}
    >>> select("go and power > 1", columns.__getitem__, 3)
    array([False,  True, False])
    """
    if not isinstance(query, str) or not query.strip():
        raise ContractError(f"{what} is {query!r}; it needs a query such as \"response == 'correct'\", or None.")
    if len(query) > _LONGEST:
        raise ContractError(f"{what} has {len(query)} characters; a query may have {_LONGEST}. Shorten it.")
    source, quoted = _unquote(query)
    try:
        tree = ast.parse(source.strip(), mode="eval")
        walker = _Walker(source.strip(), quoted, get, n_rows, what)
        return walker.mask(tree.body)
    except SyntaxError as error:
        at = (error.text or query).strip()
        raise ContractError(f"{what} {query!r} is not a query ({error.msg} in {at!r}). {_ALLOWED}.") from error
    except ContractError:
        raise
    except (RecursionError, MemoryError, ValueError) as error:
        raise ContractError(f"{what} is not a query ({type(error).__name__}: {error}). {_ALLOWED}.") from error


def column_names(query: str) -> list[str]:
    """The names in a query, in order; none if it cannot be parsed."""
    source, quoted = _unquote(query)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = [quoted.get(node.id, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(names))


def levels(values: Array, most: int = 12) -> str:
    """The first ``most`` distinct values of a column, sorted, as one text."""
    found = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    unique = np.unique(found)
    shown = [repr(str(v)) if unique.dtype.kind in "UO" else format_value(v) for v in unique[:most]]
    return ", ".join(shown) + (f", … ({len(unique)} in all)" if len(unique) > most else "")


def format_value(value: Any) -> str:
    """A value as in a condition's label: %g for floats, 0 for −0."""
    return f"{value + 0.0:g}" if isinstance(value, float | np.floating) else str(value)


def as_numbers(values: Array) -> Array | None:
    """Texts as float64, NaN where missing; None if any other text is not a number."""
    unique, where = np.unique(values, return_inverse=True)
    numbers = np.full(len(unique), np.nan)
    for k in np.flatnonzero(~missing_in(unique)):
        try:
            numbers[k] = float(unique[k])
        except ValueError:
            return None
    return numbers[where]


def as_texts(values: Array) -> Array:
    """Values as texts, written as in labels of conditions (%g for floats)."""
    return values if values.dtype.kind == "U" else np.array([format_value(v) for v in values.tolist()], dtype=str)


def _unquote(query: str) -> tuple[str, dict[str, str]]:
    """The query with each `name` in backticks made a plain identifier, and what each of those stands for."""
    prefix = "quoted"
    while prefix in query:
        prefix += "x"
    quoted: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        quoted[f"{prefix}{len(quoted)}"] = match[1]
        return f" {prefix}{len(quoted) - 1} "

    return _PIECE.sub(replace, query), quoted


class _Walker:
    """Evaluates the allowed pieces of one parsed query and refuses the rest."""

    def __init__(
        self, source: str, quoted: dict[str, str], get: Callable[[str], Array], n_rows: int, what: str
    ) -> None:
        self.source, self.quoted, self.get, self.n_rows, self.what = source, quoted, get, n_rows, what

    def mask(self, node: ast.expr) -> Array:
        """A piece that is true or false in each row, as bool (row)."""
        if isinstance(node, ast.BoolOp):
            parts = [self.mask(value) for value in node.values]
            combine: Any = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return combine.reduce(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.mask(node.operand)
        if isinstance(node, ast.Compare):
            return self._chain(node)
        operand = self._operand(node)
        values = np.asarray(operand.values)
        if values.dtype.kind in "iuf" and operand.name:
            finite = values[np.isfinite(values)]
            if len(finite) and np.isin(finite, (0, 1)).all():
                return values == 1
        if values.dtype.kind != "b":
            shown = levels(values) if values.ndim else repr(operand.values)
            raise NWBError(f"{self.what}: {self._text(node)} is not true or false ({shown}); compare it.")
        return np.broadcast_to(values, (self.n_rows,)).copy()

    def _chain(self, node: ast.Compare) -> Array:
        """``a < b < c`` is ``a < b and b < c``."""
        result = np.ones(self.n_rows, bool)
        left = self._operand(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1 or not isinstance(right_node, ast.Tuple | ast.List):
                    raise self._refuse(node, "After in, it needs a tuple or list of literals")
                return self._member(left, op, right_node)
            if type(op) not in _COMPARE:
                raise self._refuse(node, "Use == to compare values")
            right = self._operand(right_node)
            result &= self._compare(left, op, right, node)
            left = right
        return result

    def _member(self, left: _Operand, op: ast.cmpop, right: ast.Tuple | ast.List) -> Array:
        found = np.zeros(self.n_rows, bool)
        for item in right.elts:
            value = self._operand(item)
            if value.name:
                raise self._refuse(item, "A list after in may hold literals only")
            found |= self._compare(left, ast.Eq(), value, item)
        return found if isinstance(op, ast.In) else ~found & ~_is_nan(left.values)

    def _compare(self, left: _Operand, op: ast.cmpop, right: _Operand, node: ast.expr) -> Array:
        a, b = self._comparable(left, right, node)
        compared = _COMPARE[type(op)](a, b) & ~_is_nan(a) & ~_is_nan(b)
        return np.broadcast_to(compared, (self.n_rows,))

    def _comparable(self, left: _Operand, right: _Operand, node: ast.expr) -> tuple[Any, Any]:
        """Both sides as texts or both as numbers."""
        a, b = left.values, right.values
        if _is_text(a) == _is_text(b):
            return a, b
        text, other = (left, right) if _is_text(a) else (right, left)
        numbers = as_numbers(text.values) if text.name else None
        if numbers is None:
            column = text if text.name else other
            kind = "texts" if text.name else "numbers"
            against = self._text(node)
            raise NWBError(
                f"{self.what}: {column.name} holds {kind} ({levels(np.asarray(column.values))}); "
                f"{against!r} compares it with the other kind. Use one of its values."
                if column.name
                else f"{self.what}: {against!r} compares a text with a number; use one kind on both sides."
            )
        return (numbers, b) if text is left else (a, numbers)

    def _operand(self, node: ast.expr) -> _Operand:
        if isinstance(node, ast.Name):
            name = self.quoted.get(node.id, node.id)
            if name.startswith("__") and node.id not in self.quoted:
                raise self._refuse(node, _ALLOWED)
            return _Operand(self.get(name), name)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = node.operand
            if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                return _Operand(-self._number(value), "")
        if isinstance(node, ast.Constant):
            if type(node.value) in (str, bool):
                return _Operand(node.value, "")
            if type(node.value) in (int, float):
                return _Operand(self._number(node), "")
        raise self._refuse(node, _ALLOWED)

    def _number(self, node: ast.Constant) -> int | float:
        value: Any = node.value
        if isinstance(value, int) and abs(value) >= 2**63:
            raise self._refuse(node, "Whole numbers need to be below 2**63")
        return value

    def _refuse(self, node: ast.AST, why: str) -> ContractError:
        return ContractError(f"{self.what}: {self._text(node)!r} is refused. {why}.")

    def _text(self, node: ast.AST) -> str:
        """The piece as the user wrote it, on one line."""
        text = ast.get_source_segment(self.source, node) or type(node).__name__
        for plain, name in self.quoted.items():
            text = re.sub(rf"\s*\b{plain}\b\s*", f" `{name}` ".replace("\\", r"\\"), text)
        return " ".join(text.split())


def _is_text(values: Any) -> bool:
    return isinstance(values, str) or (isinstance(values, np.ndarray) and values.dtype.kind in "UO")


def _is_nan(values: Any) -> Any:
    array = np.asarray(values)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
