"""What is wrong in a recipe is shown with the line of its file."""

from __future__ import annotations

import time
import tomllib

import pytest
import tomli_w
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_lint.cli import app
from nwb_lint.errors import ContractError
from nwb_lint.workflow.recipe import line_of, load_recipe

RECIPE = """\
# a comment = 1
sources = [
  "a.nwb",  # [[inputs]]
  "b.nwb",
]

[read]
by = ["side"]
align = "cue_time"
where = \"\"\"
correct and
align == 'bin_s = 3'
\"\"\"
window_s = [-0.5,
            1.0]
bin_s = 0.01

[fit]
tau_s = 0.1
ridges = [0.1, 1]

[[inputs]]
name = "side"
column = "side"

[[inputs]]
name = "go"
window_s = [0, 1]

[bootstrap]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("bin_s = 0.01", "bin_s = 'wide'", 16, "bin_s is 'wide'"),
        ("bin_s = 0.01", "bin_s = 0.0", 16, "above 0"),
        ('align = "cue_time"', "", 7, "align is missing"),
        ("            1.0]", "'end']", 14, "window_s"),
        ("tau_s = 0.1", "tau_s = true", 19, "tau_s is True"),
        ("tau_s = 0.1", "tau = 0.1", 19, "no option tau"),
        ("tau_s = 0.1", "tau_s = 0.1\nmethod = 'guess'", 20, "'gradient'"),
        ("tau_s = 0.1", "tau_s = 0.1\nl2_n = -1.0", 20, "l2_n is -1"),
        ("[0.1, 1]", "[0.1, -1]", 20, "ridges"),
        ("ridges = [0.1, 1]", "rank = 'two'", 20, "ranks"),
        ("ridges = [0.1, 1]", "rank = 2\nranks = [2]", 20, "rank and ranks"),
        ('column = "side"', "column = 3", 24, "inputs, number 1: column is 3"),
        ('name = "go"', 'name = "go"\nscale = "big"', 28, "inputs, number 2: scale"),
        ('name = "go"', "", 26, "name is missing"),
        ("window_s = [0, 1]", "series = 'a'\nevents = 'b'", 26, "input 'go' has series and events"),
        ("[0, 1]", "[0, 1, 2]", 28, "inputs, number 2: window_s"),
        ("[bootstrap]", "[bootstrap]\nsimulations = 1.5", 31, "simulations"),
        ("[bootstrap]", "[bootstrap.more]", 30, "no option more"),
        ("[bootstrap]", "[strap]", 30, "no option strap"),
        ("# a comment = 1", "mode = 'both'", 1, "mode is 'both'"),
        ("# a comment = 1", "mode = 'trials'", 30, "section bootstrap is of means"),
        ("# a comment = 1", "out = 3", 1, "out is 3"),
        ('  "b.nwb",', "  3,", 2, "sources"),
        ("# a comment = 1", "other = 3", 1, "no option other"),
        ("[read]", "[subject]\nspecies = 3\n[read]", 8, "species"),
    ],
)
def test_an_error_begins_with_file_and_line(old, new, line, words, tmp_path):
    path = tmp_path / "recipe.toml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)
    done = CliRunner().invoke(app, ["fit", str(path), "--out", str(tmp_path / "fit.nwb")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {path}:{line}: Recipe")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("sources = ['a.nwb']", "", "read is missing"),
        ("\nread = 3", ":2", "It needs a table"),
        ("read = {align = 'go', window_s = [0, 1],\tby = 3}", ":1", "by is 3"),
        ("read.align = 'go'\nread.window_s = 3", ":2", "window_s"),
        ("read = {align = 'go', by = 'a', window_s = [0, 1]}\n[inputs]", ":2", "inputs is no list"),
        (
            "fit = {rank = 2}\nselect = 3\nread = {align = 'go', by = 'a', window_s = [0, 1]}",
            ":2",
            "section select is 3",
        ),
        ("inputs = [\n 3]\n[read]\nalign = 'go'\nby = 'a'\nwindow_s = [0, 1]", ":1", "inputs, number 1 is 3"),
    ],
)
def test_tables_have_several_forms(text, line, words, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=words) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}{line}: ")


def test_recipes_of_windows(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(RECIPE.replace("tau_s = 0.1", "tau_s = true").replace("\n", "\r\n").encode("utf-8-sig"))
    with pytest.raises(ContractError, match=r"recipe\.toml:19: .*tau_s is True"):
        load_recipe(path)
    path.write_text(RECIPE, encoding="utf-16")  # what > writes in PowerShell 5
    with pytest.raises(ContractError, match="Save it as UTF-8"):
        load_recipe(path)


def test_the_line_after_a_long_list_is_found_soon():
    """Each line of the list has a bracket, as patterns of files have; parsing each start would take minutes."""
    files = "".join(f"  'sub-[{k}]*.nwb',\n" for k in range(20_000))
    started = time.perf_counter()
    assert line_of(f"sources = [\n{files}]  # ]\nout = 3", ("out",)) == 20_003
    assert time.perf_counter() - started < 30


def test_the_line_of_wrong_syntax_is_named(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("tau_s = 0.1", "tau_s = "), encoding="utf-8")
    with pytest.raises(ContractError, match=r"is not TOML: .*line 19"):
        load_recipe(path)


KEYS = st.sampled_from(["a", "b", "a.b", "[x]", '"', "#"])
VALUES = st.recursive(
    st.integers(0, 9) | st.sampled_from(["", "a = 1", "[a]", "x\n[a]\n", '"""\n']),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(KEYS, inside, max_size=3),
    max_leaves=6,
)


def places(value, place=()):
    """All places of a value, itself aside."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        yield (*place, key)
        yield from places(one, (*place, key))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_place_is_made_at_its_line(data):
    """The text before the line lacks the place, and the line begins the statement that makes it."""
    text = tomli_w.dumps(data, multiline_strings=True)
    lines = text.split("\n")
    for place in places(tomllib.loads(text)):
        line = line_of(text, place)
        assert line_of("\n".join(lines[: line - 1]), place) is None
        assert any(
            line_of("\n".join(lines[:end]), place) == line
            for end in range(line, len(lines) + 1)
            if _is_toml(lines[:end])
        )


def _is_toml(lines):
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True
