"""Queries and expressions over the columns of a table. They are parsed and checked piece by piece, and never run.

    response == 'correct' and not early and motion in (-0.5, 0.5) and 0.2 <= delay < 1.5
    abs(contrast_right - contrast_left) >= 0.25 and not isnan(reaction_time) and 'good' in tags
    start_time + cue_time

They may have column names (in backticks if they are not identifiers), texts, numbers, True, False, tuples, lists,
comparisons, ``in``, ``and``, ``or``, ``not``, ``+ - * /``, ``abs()`` and ``isnan()``. All else is refused.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.contract.values import ROUNDING, equal_up_to_rounding, missing_in
from nwb_lint.errors import ContractError, NWBError

Array = np.ndarray

_LONGEST = 4000  # characters
_MOST_PIECES, _DEEPEST = 1000, 50  # pieces of an expression; pieces inside of each other
_EXACT = 2**53  # whole numbers below are exact as float64
_PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`([^`]+)`""", re.DOTALL)
_ALLOWED = "A query may have column names, literals, comparisons, in, and, or, not, + - * /, abs(), isnan()"
_FUNCTIONS = ("abs", "isnan")
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any, Any], Any]] = {  # of two values, and whether they are equal
    ast.Eq: lambda a, b, same: same,
    ast.NotEq: lambda a, b, same: ~same,
    ast.Lt: lambda a, b, same: (a < b) & ~same,
    ast.LtE: lambda a, b, same: (a < b) | same,
    ast.Gt: lambda a, b, same: (a > b) & ~same,
    ast.GtE: lambda a, b, same: (a > b) | same,
}


class Ragged(NamedTuple):
    """A column with any number of values in a row: all values, and the row of each.

    A query asks for one of the values: ``'good' in tags``. Elsewhere ``single`` gives one value for each row; None
    means that there is no such value.
    """

    values: Array
    rows: Array
    single: Callable[[], Array] | None = None


class _Operand(NamedTuple):
    """A literal, a column or a result: its values (scalar for a literal) and its text, empty for a literal."""

    values: Any
    name: str


class _Truth(NamedTuple):
    """Whether a piece is true in each row, and where that is not known, because a value is missing."""

    true: Array
    unknown: Array


def select(query: str, get: Callable[[str], Array | Ragged], n_rows: int, what: str = "where") -> Array:
    """The rows that satisfy a query.

    A comparison with NaN is False, also for ``!=`` and ``not in``. A column of texts that is compared with a number is
    read as numbers if all its texts are numbers or missing ('', 'N/A'). Numbers that differ by rounding are equal.

    Parameters
    ----------
    query : str
        The query.
    get : callable
        Takes the name of a column and returns its values (row), or raises if the name is not known. A column with any
        number of values in a row is a `Ragged`.
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
    example = "a query such as \"response == 'correct'\", or None"
    return _parsed(query, get, n_rows, what, example, lambda walker, node: walker.truth(node).true)


def evaluate(expression: str, get: Callable[[str], Array | Ragged], n_rows: int, what: str) -> Array:
    """The value of an expression in every row.

    A result is missing (NaN) in the rows where a value that it needs is missing, and where it is not finite, as after a
    division by 0. A comparison gives bool, or 1, 0 and NaN where it is missing in some row.

    Parameters
    ----------
    expression : str
        A column, arithmetic over columns, or a query.
    get : callable
        As for `select`.
    n_rows : int
        Number of rows.
    what : str
        Name of the argument that holds the expression, for messages.

    Returns
    -------
    numpy.ndarray
        float64, int64, bool or text (row).

    Raises
    ------
    ContractError
        If the expression cannot be parsed, or has a piece that is not allowed; the message quotes the piece.
    NWBError
        If a column has texts where numbers are needed.

    Examples
    --------
    >>> columns = {"left": np.array([0.0, 0.5, np.nan]), "right": np.array([1.0, 0.0, 0.25])}
    >>> evaluate("right - left", columns.__getitem__, 3, "columns")
    array([ 1. , -0.5,  nan])
    """
    example = "an expression such as 'start_time + cue_time'"
    return _parsed(expression, get, n_rows, what, example, lambda walker, node: walker.values(node))


def column_names(query: str) -> list[str]:
    """The names in a query, in order; none if it cannot be parsed."""
    source, quoted = _unquote(query)
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return list(dict.fromkeys(quoted.get(node.id, node.id) for node in found))


def spell_column(name: str) -> str:
    """A column's name as a query or expression writes it: in backticks if Python would not take it for a name."""
    plain = name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not name.startswith("__")
    return name if plain else f"`{name}`"


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


def _parsed(
    text: str,
    get: Callable[[str], Array | Ragged],
    n_rows: int,
    what: str,
    example: str,
    run: Callable[[_Walker, ast.expr], Array],
) -> Array:
    """What a walker makes of a query or expression that was parsed."""
    if not isinstance(text, str) or not text.strip():
        raise ContractError(f"{what} is {text!r}; it needs {example}.")
    if len(text) > _LONGEST:
        raise ContractError(f"{what} has {len(text)} characters; it may have {_LONGEST}. Shorten it.")
    source, quoted = _unquote(text)
    try:
        tree = ast.parse(source.strip(), mode="eval")
        _check_size(tree.body, what)
        return run(_Walker(source.strip(), quoted, get, n_rows, what), tree.body)
    except SyntaxError as error:
        at = (error.text or text).strip()
        raise ContractError(f"{what} {text!r} is not a query ({error.msg} in {at!r}). {_ALLOWED}.") from error
    except ContractError:
        raise
    except (RecursionError, MemoryError, ValueError) as error:
        raise ContractError(f"{what} is not a query ({type(error).__name__}: {error}). {_ALLOWED}.") from error


def _check_size(tree: ast.expr, what: str) -> None:
    n, level = 0, [tree]
    for _ in range(_DEEPEST):
        n += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        if n > _MOST_PIECES:
            raise ContractError(f"{what} has over {_MOST_PIECES} pieces; it may have that many. Shorten it.")
    if level:
        raise ContractError(
            f"{what} is over {_DEEPEST} levels deep; it may have that many. Use fewer brackets or terms."
        )


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
        self, source: str, quoted: dict[str, str], get: Callable[[str], Array | Ragged], n_rows: int, what: str
    ) -> None:
        self.source, self.quoted, self.get, self.n_rows, self.what = source, quoted, get, n_rows, what

    def values(self, node: ast.expr) -> Array:
        """The value of a piece in each row; NaN where a comparison needs a value that is missing."""
        if isinstance(node, ast.BoolOp | ast.Compare) or (isinstance(node, ast.UnaryOp) and _is_not(node)):
            true, unknown = self.truth(node)
            return np.where(unknown, np.nan, true) if unknown.any() else true
        return np.broadcast_to(np.asarray(self._operand(node).values), (self.n_rows,)).copy()

    def truth(self, node: ast.expr) -> _Truth:
        """A piece that is true or false in each row."""
        if isinstance(node, ast.BoolOp):
            return self._combined(node)
        if isinstance(node, ast.UnaryOp) and _is_not(node):
            true, unknown = self.truth(node.operand)
            return _Truth(~true, unknown)
        if isinstance(node, ast.Compare):
            return self._chain(node)
        operand = self._operand(node)
        values = np.asarray(operand.values)
        unknown = np.zeros(self.n_rows, bool)
        if values.dtype.kind in "iuf" and operand.name:
            finite = values[np.isfinite(values)]
            if len(finite) and np.isin(finite, (0, 1)).all():
                return _Truth(values == 1, unknown | _is_nan(values))
        if values.dtype.kind != "b":
            shown = levels(values) if values.ndim else repr(operand.values)
            raise NWBError(f"{self.what}: {self._text(node)} is not true or false ({shown}); compare it.")
        return _Truth(np.broadcast_to(values, (self.n_rows,)).copy(), unknown)

    def _combined(self, node: ast.BoolOp) -> _Truth:
        """``and`` is known where a part is known to be false, ``or`` where one is known to be true."""
        true, unknown = (np.array(part) for part in zip(*map(self.truth, node.values), strict=True))
        if isinstance(node.op, ast.And):
            all_true = np.asarray(true.all(axis=0))
            return _Truth(all_true, unknown.any(axis=0) & ~(~true & ~unknown).any(axis=0))
        any_true = np.asarray(true.any(axis=0))
        return _Truth(any_true, unknown.any(axis=0) & ~(true & ~unknown).any(axis=0))

    def _chain(self, node: ast.Compare) -> _Truth:
        """``a < b < c`` is ``a < b and b < c``."""
        true, unknown = np.ones(self.n_rows, bool), np.zeros(self.n_rows, bool)
        left = self._operand(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise self._refuse(node, "Only one in is allowed here. Combine them by and")
                return self._member(left, op, right_node, node)
            if type(op) not in _COMPARE:
                raise self._refuse(node, "Use == to compare values")
            right = self._operand(right_node)
            one, missing = self._compare(left, op, right, node)
            true &= one
            unknown |= missing
            left = right
        return _Truth(true, unknown)

    def _member(self, left: _Operand, op: ast.cmpop, right: ast.expr, node: ast.Compare) -> _Truth:
        """Whether a value is in a list of literals, or among the values that a ragged column has in a row."""
        found, unknown = np.zeros(self.n_rows, bool), np.zeros(self.n_rows, bool)
        if isinstance(right, ast.Tuple | ast.List):
            for item in right.elts:
                value = self._operand(item)
                if value.name:
                    raise self._refuse(item, "A list after in may hold literals only")
                one, missing = self._compare(left, ast.Eq(), value, item)
                found |= one
                unknown |= missing
        else:
            column = self.get(self._name(right)) if isinstance(right, ast.Name) else None
            if not isinstance(column, Ragged):
                raise self._refuse(node, "After in, it needs a tuple or list of literals, or a column with lists in it")
            of_row = left._replace(values=left.values[column.rows]) if left.name else left
            equal = self._compare(of_row, ast.Eq(), _Operand(column.values, self._text(right)), node).true
            np.logical_or.at(found, column.rows, equal)
            unknown |= _is_nan(left.values)
        true = found if isinstance(op, ast.In) else ~found & ~_is_nan(left.values)
        return _Truth(np.broadcast_to(true, (self.n_rows,)), unknown & ~found)

    def _compare(self, left: _Operand, op: ast.cmpop, right: _Operand, node: ast.expr) -> _Truth:
        a, b = self._comparable(left, right, node)
        missing = _is_nan(a) | _is_nan(b)
        true = _COMPARE[type(op)](a, b, _equal(a, b)) & ~missing
        n_rows = next((len(side) for side in (a, b) if np.ndim(side)), self.n_rows)
        return _Truth(np.broadcast_to(true, (n_rows,)), np.broadcast_to(missing | _no_text(a, b), (n_rows,)))

    def _comparable(self, left: _Operand, right: _Operand, node: ast.expr) -> tuple[Any, Any]:
        """Both sides as texts or both as numbers."""
        a, b = left.values, right.values
        for column, other in ((left, right), (right, left)):
            if column.name and np.asarray(column.values).dtype.kind == "b" and _is_other_number(other):
                raise NWBError(
                    f"{self.what}: {column.name} holds yes or no, and {self._text(node)!r} compares it with a number. "
                    "Compare it with True or False."
                )
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
            name = self._name(node)
            values = self.get(name)
            if isinstance(values, Ragged) and values.single is not None:
                return _Operand(values.single(), name)
            if isinstance(values, Ragged):
                raise NWBError(
                    f"{self.what}: {name} has any number of values in a row ({levels(values.values)}). One is needed. "
                    f"Ask for one of them: {_an_item(values.values)!r} in {self._text(node)}."
                )
            return _Operand(values, name)
        if isinstance(node, ast.Constant):
            if type(node.value) in (str, bool):
                return _Operand(node.value, "")
            if type(node.value) in (int, float):
                return _Operand(self._number(node), "")
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self._arithmetic(type(node.op), node.left, node.right, node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign = ast.Sub if isinstance(node.op, ast.USub) else ast.Add
            return self._arithmetic(sign, None, node.operand, node)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise self._refuse(node, _ALLOWED)

    def _arithmetic(
        self, op: type[ast.operator], left_node: ast.expr | None, right_node: ast.expr, node: ast.expr
    ) -> _Operand:
        """``+ - * /`` of two numbers; NaN where one is missing or the result is not finite. Signs have no left side."""
        left = _Operand(0, "") if left_node is None else self._operand(left_node)
        right = self._operand(right_node)
        a, b = self._numbers(left, node), self._numbers(right, node)
        with np.errstate(all="ignore"):
            result = np.asarray(_ARITHMETIC[op](a.astype(float), b.astype(float)))
            if op is not ast.Div and a.dtype.kind == b.dtype.kind == "i":
                result = result.astype(np.int64) if _is_exact(result) else result
            elif op in (ast.Add, ast.Sub):  # 0.1 + 0.2 - 0.3 is 0
                result = np.where(np.abs(result) <= ROUNDING * np.maximum(np.abs(a), np.abs(b)), 0.0, result)
        if result.dtype.kind == "f":
            result = np.where(np.isfinite(result), result, np.nan)
        if not (left.name or right.name):
            return _Operand(result.item(), "")
        return _Operand(result, self._text(node))

    def _call(self, node: ast.Call) -> _Operand:
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        if function not in _FUNCTIONS or node.keywords or len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            raise self._refuse(node, _ALLOWED)
        operand = self._operand(node.args[0])
        name = self._text(node) if operand.name else ""
        if function == "isnan":
            return _Operand(missing_in(np.asarray(operand.values)), name)
        return _Operand(np.abs(self._numbers(operand, node)), name)

    def _numbers(self, operand: _Operand, node: ast.expr) -> Array:
        """The values as int64 or float64; yes and no are 1 and 0."""
        values = np.asarray(operand.values)
        if values.dtype.kind in "US" and not operand.name:
            raise self._refuse(node, "Texts cannot be calculated with")
        numbers = as_numbers(values) if values.dtype.kind in "UO" else values
        if numbers is None:
            raise NWBError(
                f"{self.what}: {operand.name} holds texts ({levels(values)}), and {self._text(node)!r} calculates with "
                "it. Numbers are needed. Use a column of numbers."
            )
        whole = numbers.dtype.kind in "bi" and _is_exact(numbers)
        return numbers.astype(np.int64 if whole else float)

    def _name(self, node: ast.Name) -> str:
        name = self.quoted.get(node.id, node.id)
        if name.startswith("__") and node.id not in self.quoted:
            raise self._refuse(node, _ALLOWED)
        return name

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


def _is_not(node: ast.UnaryOp) -> bool:
    return isinstance(node.op, ast.Not)


def _equal(a: Any, b: Any) -> Any:
    """Whether values are equal, numbers up to rounding."""
    same = np.asarray(a == b)
    if "f" not in (np.asarray(a).dtype.kind, np.asarray(b).dtype.kind):
        return same
    return same | equal_up_to_rounding(a, b)


def _no_text(a: Any, b: Any) -> Any:
    """Where a column of texts has none, unless it is compared with such a text."""
    unknown = np.zeros(np.broadcast(a, b).shape, bool)
    for one, other in ((np.asarray(a), np.asarray(b)), (np.asarray(b), np.asarray(a))):
        if _is_text(one) and one.ndim and (other.ndim or not missing_in(other)):
            unknown |= missing_in(one)
    return unknown


def _is_exact(values: Array) -> bool:
    """Whether whole numbers are exact as float64."""
    return bool((np.abs(values.astype(float)) < _EXACT).all())


def _an_item(values: Array) -> Any:
    return values[0].item() if len(values) else ""


def _is_other_number(operand: _Operand) -> bool:
    """Whether an operand is a number in the query other than 0 and 1, which stand for no and yes."""
    return not operand.name and type(operand.values) in (int, float) and operand.values not in (0, 1)


def _is_text(values: Any) -> bool:
    return isinstance(values, str) or (isinstance(values, np.ndarray) and values.dtype.kind in "UO")


def _is_nan(values: Any) -> Any:
    array = np.asarray(values)
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
