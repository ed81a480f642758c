"""Laws of queries: they are data, they say what Python would say, and all else is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.query import Ragged, column_names, evaluate, select

COLUMNS = {
    "a": np.array([1, 2, 3, 4]),
    "x": np.array([0.5, np.nan, -1.0, 2.0]),
    "ok": np.array([True, False, True, False]),
    "flag": np.array([1, 0, 0, 1]),
    "word": np.array(["go", "stop", "N/A", "go"]),
    "digits": np.array(["1.5", "N/A", "3", ""]),
    "odd name.npy": np.array([1.0, 2.0, 3.0, 4.0]),
    "tags": Ragged(np.array(["good", "fast", "good", "bad"]), np.array([0, 0, 1, 3])),
    "choices": Ragged(np.array([1.0, 3.0, 3.0, 1.0, 2.0]), np.array([0, 1, 2, 3, 3])),
}


def get(name):
    if name not in COLUMNS:
        raise NWBError(f"trials has no column {name!r}; it has {', '.join(COLUMNS)}.")
    return COLUMNS[name]


def ask(query):
    return select(query, get, 4).astype(int).tolist()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("a > 2", [0, 0, 1, 1]),
        ("1 < a <= 3", [0, 1, 1, 0]),
        ("ok", [1, 0, 1, 0]),
        ("not ok or flag", [1, 1, 0, 1]),
        ("ok == True and a != 1", [0, 0, 1, 0]),
        ("word in ('go', 'stop') and not word == 'stop'", [1, 0, 0, 1]),
        ("word not in ['go']", [0, 1, 1, 0]),
        ("a in (1, -2, 4)", [1, 0, 0, 1]),
        ("a in ()", [0, 0, 0, 0]),
        ("x != 2", [1, 0, 1, 0]),  # NaN is not unequal either
        ("x not in (2, 3)", [1, 0, 1, 0]),
        ("x >= -1", [1, 0, 1, 1]),
        ("x < a", [1, 0, 1, 1]),
        ("digits >= 1.5", [1, 0, 1, 0]),
        ("`odd name.npy` == 3", [0, 0, 1, 0]),
        ("word == '`a`'", [0, 0, 0, 0]),
        ("True", [1, 1, 1, 1]),
        ("a + 1 == 3", [0, 1, 0, 0]),
        ("a - x > 0", [1, 0, 1, 1]),
        ("abs(x) >= 1", [0, 0, 1, 1]),
        ("-x == 1", [0, 0, 1, 0]),
        ("isnan(x)", [0, 1, 0, 0]),
        ("not isnan(digits) and not isnan(word)", [1, 0, 0, 0]),
        ("digits * 2 == 3", [1, 0, 0, 0]),
        ("ok + flag == 2", [1, 0, 0, 0]),
        ("1 / (a - 1) > 0", [0, 1, 1, 1]),  # 1 / 0 is missing
        ("1 / (a - 1) <= 0", [0, 0, 0, 0]),
        ("isnan(a / 0)", [1, 1, 1, 1]),
        ("0 < a - 1 <= 2", [0, 1, 1, 0]),
        ("a in (1 + 1, -+3, 4 / 1)", [0, 1, 0, 1]),
        ("a * 0.1 + 0.2 == 0.3", [1, 0, 0, 0]),  # 0.30000000000000004
        ("a * 0.1 + 0.2 - 0.3 == 0", [1, 0, 0, 0]),
        ("a * 0.1 + 0.2 > 0.3", [0, 1, 1, 1]),
        ("'good' in tags", [1, 1, 0, 0]),
        ("'good' not in tags", [0, 0, 1, 1]),
        ("'good' in tags and 'fast' not in tags", [0, 1, 0, 0]),
        ("1 in choices", [1, 0, 0, 1]),
        ("a in choices", [1, 0, 1, 0]),
        ("a not in choices", [0, 1, 0, 1]),
        ("x not in choices", [1, 0, 1, 0]),  # NaN is not outside either
        (" a\n> 3 ", [0, 0, 0, 1]),
    ],
)
def test_a_query_means_what_it_says(query, rows):
    if "\n" in query:
        query = f"({query})"
    assert ask(query) == rows


REFUSED = [
    "__import__('os').system('true')", "a.__class__", "a @ a", "a[0] == 1", "lambda: a",
    "f'{a}' == '1'", "[b for b in a]", "(a := 1)", "a if ok else flag", "a == None", "a is 1", "b'go' == word",
    "{1, 2} == a", "a in a", "word in 'go'", "a in (a, 1)", "a == 1j", "a == ...", "~ok", "a < 1 in (2,)",
    "__name__ == 'x'", "-'go' == 1", "a + 'go' == 1", "a == (1, 2)", "*a", "a == 99999999999999999999", "await a",
    "a; a", "",
    "import os", "a ==", "print(1)", "abs(a, a) == 1", "abs() == 1", "abs(x=a) == 1", "abs(*a) == 1", "`abs`(a) == 1",
    "max(a) == 1", "isnan.real == 1", "abs.__call__(a) == 1", "abs(a)(a) == 1", "'go' in word", "1 < a in tags",
    "+".join(["a"] * 60) + " == 1", "-" * 60 + "a == 1", "not " * 60 + "ok", "~" * 3000 + "a",
    "abs(" * 60 + "a" + ")" * 60,
    "a in (" + "1," * 1500 + ")", "(" * 300 + "ok" + ")" * 300, "ok and " * 900 + "ok",
    "a == 1\0",
]  # fmt: skip


@pytest.mark.parametrize("query", REFUSED)
def test_all_else_is_refused_in_one_line(query):
    with pytest.raises(ContractError) as error:
        ask(query)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("where")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("a == 1 and open('f')", r"\"open\('f'\)\" is refused"),
        ("`odd name.npy` ** 2 > 2", r"'`odd name.npy` \*\* 2' is refused"),
        ("response == 1", "no column 'response'; it has a, x"),
        ("word > 1", r"word holds texts \('N/A', 'go', 'stop'\)"),
        ("a == 'go'", r"a holds numbers \(1, 2, 3, 4\)"),
        ("'go' == 1", "compares a text with a number"),
        ("a", "a is not true or false"),
        ("word", "word is not true or false"),
        ("-word == 1", "word holds texts .*'-word' calculates with it"),
        ("word - a == 1", "word holds texts"),
        ("tags == 'good'", "any number of values in a row .*'good' in tags"),
        ("abs(choices) == 1", "any number of values in a row"),
    ],
)
def test_messages_point_at_the_piece(query, words):
    with pytest.raises((ContractError, NWBError), match=words) as error:
        ask(query)
    assert "\n" not in str(error.value)


def value(expression):
    return evaluate(expression, get, 4, "columns.new")


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("a", [1, 2, 3, 4]),
        ("word", ["go", "stop", "N/A", "go"]),
        ("a - 3 * flag", [-2, 2, 3, 1]),
        ("a + x", [1.5, np.nan, 2.0, 6.0]),
        ("a / flag", [1.0, np.nan, np.nan, 4.0]),
        ("-digits", [-1.5, np.nan, -3.0, np.nan]),
        ("a > 2", [False, False, True, True]),
        ("x > 0", [1.0, np.nan, 0.0, 1.0]),
        ("not x > 0", [0.0, np.nan, 1.0, 0.0]),
        ("isnan(x) or x > 0", [True, True, False, True]),
        ("x > 0 and a > 2", [False, False, False, True]),
        ("x > 0 or a > 2", [1.0, np.nan, 1.0, 1.0]),
        ("word == 'go'", [1.0, 0.0, np.nan, 1.0]),
        ("word == 'N/A'", [False, False, True, False]),
        ("'good' in tags", [True, True, False, False]),
        ("1", [1, 1, 1, 1]),
        ("9007199254740993 - 9007199254740992 + a", [1.0, 2.0, 3.0, 4.0]),  # beyond 2**53 as float64
        ("a * 1e200 * 1e200", [np.nan] * 4),
    ],
)
def test_an_expression_has_a_value_in_every_row(expression, values):
    found = value(expression)
    assert found.dtype == np.array(values).dtype or found.dtype.kind == "U" == np.array(values).dtype.kind
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("expression", ["", None, "a ** 2", "a.T", "9" * 5000])
def test_other_expressions_are_refused(expression):
    with pytest.raises(ContractError, match=r"columns\.new"):
        value(expression)


NUMBERS = st.integers(-3, 6)
ATOMS = st.builds(
    "{} {} {}".format, st.sampled_from(["a", "flag"]), st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), NUMBERS
) | st.builds("a in ({}, {})".format, NUMBERS, NUMBERS)
QUERIES = st.recursive(
    ATOMS | st.just("ok"),
    lambda q: st.builds("({} and {})".format, q, q) | st.builds("({} or {})".format, q, q)
    | st.builds("(not {})".format, q),
    max_leaves=8,
)  # fmt: skip


SUMS = st.recursive(
    NUMBERS.map(str) | st.sampled_from(["a", "flag", "ok"]),
    lambda e: st.builds("({} {} {})".format, e, st.sampled_from(["+", "-", "*"]), e)
    | st.builds("({}{})".format, st.sampled_from(["+", "-"]), e) | st.builds("abs({})".format, e),
    max_leaves=8,
)  # fmt: skip


@given(SUMS)
def test_arithmetic_agrees_with_python_row_by_row(expression):
    rows = [{name: COLUMNS[name][k].item() for name in ("a", "flag", "ok")} for k in range(4)]
    wanted = [eval(expression, {"__builtins__": {}, "abs": abs}, row) for row in rows]
    assert value(expression).tolist() == wanted


@given(QUERIES)
def test_it_agrees_with_python_row_by_row(query):
    rows = [{name: COLUMNS[name][k].item() for name in ("a", "flag", "ok")} for k in range(4)]
    wanted = [int(bool(eval(query, {"__builtins__": {}}, row))) for row in rows]
    assert ask(query) == wanted


@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused(query):
    words = ""
    try:
        found = select(query, get, 4)
    except (ContractError, NWBError) as error:
        words = str(error)
        found = np.zeros(4, bool)
    assert "\n" not in words
    assert found.shape == (4,)
    assert found.dtype == bool


def test_names_of_a_query_in_order():
    assert column_names("b == 1 and `odd name.npy` > a or b") == ["b", "odd name.npy", "a"]
    assert column_names("abs(c) + isnan(b) > 1") == ["c", "b"]
    assert column_names("b ==") == []


def test_yes_or_no_is_no_number():
    columns = {"go": np.array([True, False]), "depth": np.array([1.0, 2.0])}
    assert select("go == 1 and depth > 0", columns.__getitem__, 2).tolist() == [True, False]
    with pytest.raises(NWBError, match=r"go holds yes or no.*True or False"):
        select("go < 900", columns.__getitem__, 2)
