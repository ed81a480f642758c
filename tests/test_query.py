"""Laws of queries: they are data, they say what Python would say, and all else is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.query import column_names, select

COLUMNS = {
    "a": np.array([1, 2, 3, 4]),
    "x": np.array([0.5, np.nan, -1.0, 2.0]),
    "ok": np.array([True, False, True, False]),
    "flag": np.array([1, 0, 0, 1]),
    "word": np.array(["go", "stop", "N/A", "go"]),
    "digits": np.array(["1.5", "N/A", "3", ""]),
    "odd name.npy": np.array([1.0, 2.0, 3.0, 4.0]),
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
        (" a\n> 3 ", [0, 0, 0, 1]),
    ],
)
def test_a_query_means_what_it_says(query, rows):
    if "\n" in query:
        query = f"({query})"
    assert ask(query) == rows


REFUSED = [
    "__import__('os').system('true')", "a.__class__", "a @ a", "a[0] == 1", "a + 1 == 2", "lambda: a",
    "f'{a}' == '1'", "[b for b in a]", "(a := 1)", "a if ok else flag", "a == None", "a is 1", "b'go' == word",
    "{1, 2} == a", "a in a", "word in 'go'", "a in (a, 1)", "a == 1j", "a == ...", "~ok", "a < 1 in (2,)",
    "__name__ == 'x'", "-word == 1", "a == (1, 2)", "*a", "a == 99999999999999999999", "await a", "a; a", "",
    "import os", "a ==", "print(1)", "(" * 300 + "ok" + ")" * 300, "ok and " * 900 + "ok",
    "a == 1\0",
]  # fmt: skip


@pytest.mark.parametrize("query", REFUSED)
def test_all_else_is_refused_in_one_line(query):
    with pytest.raises(ContractError) as error:
        ask(query)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("where")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("a == 1 and open('f')", r"\"open\('f'\)\" is refused"),
        ("`odd name.npy` + 1 > 2", r"'`odd name.npy` \+ 1' is refused"),
        ("response == 1", "no column 'response'; it has a, x"),
        ("word > 1", r"word holds texts \('N/A', 'go', 'stop'\)"),
        ("a == 'go'", r"a holds numbers \(1, 2, 3, 4\)"),
        ("'go' == 1", "compares a text with a number"),
        ("a", "a is not true or false"),
        ("word", "word is not true or false"),
    ],
)
def test_messages_point_at_the_piece(query, told):
    with pytest.raises((ContractError, NWBError), match=told) as error:
        ask(query)
    assert "\n" not in str(error.value)


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


@given(QUERIES)
def test_it_agrees_with_python_row_by_row(query):
    rows = [{name: values[k].item() for name, values in COLUMNS.items()} for k in range(4)]
    wanted = [int(bool(eval(query, {"__builtins__": {}}, row))) for row in rows]
    assert ask(query) == wanted


@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused(query):
    told = ""
    try:
        found = select(query, get, 4)
    except (ContractError, NWBError) as error:
        told = str(error)
        found = np.zeros(4, bool)
    assert "\n" not in told
    assert found.shape == (4,)
    assert found.dtype == bool


def test_names_of_a_query_in_order():
    assert column_names("b == 1 and `odd name.npy` > a or b") == ["b", "odd name.npy", "a"]
    assert column_names("b ==") == []
