"""What commands print: trials and units of all, inputs that nobody named, and no control characters."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint import cli
from nwb_lint.cli import app
from nwb_lint.cli.shell import with_flags
from nwb_lint.errors import NWBError, printable
from nwb_lint.testing import mock_session
from tests.nwb.layouts import Session, alternate

EVIL = "le\x1b[2Jft\x9b31m\u202e"


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Ten trials of two sides; a query leaves out two, and one has no cue."""
    made = Session(tmp_path_factory.mktemp("out") / "s.nwb", n_units=6)
    cue = np.where(np.arange(10) == 4, np.nan, made.cue)
    made.put_table(cue_time=cue, side=alternate("left", "right"), good=np.arange(10) > 1)
    return made.path


HOW = ["--by", "side", "--align", "cue_time", "--bin", 0.1, "--rank", 1, "--no-plot", "--force"]


def test_fit_prints_what_was_used_of_all_and_inputs_begin_at_the_event(path, tmp_path):
    out = tmp_path / "fit.nwb"
    done = run("fit", path, *HOW, "--window", -0.2, 0.6, "--where", "good", "--units", "id != 5", "--out", out)
    assert done.exit_code == 0, done.output
    assert "trials: 7 of 10 used (2 dropped by where, 1 dropped without a time of align)" in done.stdout
    assert "conditions: 2, of 3 to 4 trials: side=left (3), side=right (4)" in done.stdout
    assert "units: 5 of 6 used (1 dropped not chosen by units)" in done.stdout
    assert "inputs: side, from time 0 (cue_time) on" in done.stdout
    assert "has no window_s" not in done.stderr
    fit = nl.read_fit(out)
    early = fit["u"].values[:, fit["time"].values < 0]
    assert early.size
    assert not early.any()
    assert fit["u"].values.any()
    assert "[0.0, 0.6]" in re.sub(r"\s+", " ", fit.attrs["recipe"]).replace("[ ", "[").replace(", ]", "]")


def test_inputs_of_a_time_axis_after_the_event_are_always_on(path, tmp_path):
    done = run("fit", path, *HOW, "--window", 0.0, 0.6, "--out", tmp_path / "fit.nwb")
    assert "inputs: side, at all times" in done.stdout
    assert nl.read_fit(tmp_path / "fit.nwb")["u"].values.any(axis=(0, 2)).all()


def test_an_input_before_the_event_is_warned_of_unless_its_window_says_so(path, tmp_path):
    flags = [path, *HOW, "--window", -0.2, 0.6, "--out", tmp_path / "fit.nwb"]
    assert "input side has no window_s" in run("fit", *flags, "--input", "name=side,column=side").stderr
    assert "no window_s" not in run("fit", *flags, "--input", "name=side,column=side,window=-0.2:0.6").stderr


def test_adjacent_windows_of_a_flag_are_an_input_each(path, tmp_path):
    flags = [path, *HOW, "--window", -0.2, 0.6, "--rank", 1, "--method", "regression", "--no-plot"]
    run("fit", *flags, "--input", "name=side,column=side,window=0:0.3:0.6", "--out", tmp_path / "fit.nwb")
    fit = nl.read_fit(tmp_path / "fit.nwb")
    np.testing.assert_array_equal(np.unique(fit["input_start_s"]), [0, 0.3])
    np.testing.assert_array_equal(np.unique(fit["input_stop_s"]), [0.3, 0.6])
    assert re.sub(r"[\s,]", "", "[[0.0,0.3],[0.3,0.6]]") in re.sub(r"[\s,]", "", fit.attrs["recipe"])


def test_reading_prints_where_it_is_asked_to(path, capsys):
    how = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.6), "bin_s": 0.1}
    quiet = nl.read_conditions(path, **how)
    assert capsys.readouterr().out == ""
    nl.read_conditions(path, **how, verbose=True)
    assert capsys.readouterr().out.startswith("trials: 9 of 10 used (1 dropped without a time of align)\nconditions: 2")
    assert quiet.attrs["n_trials_dropped_where"] == 0


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Control characters in the name of the file, in texts of trials and units, and in a name of a group."""
    folder = tmp_path_factory.mktemp("evil")
    made = Session(folder / "s\x1b[31m.nwb")
    made.put_table(cue_time=made.cue, side=alternate(EVIL, "right"))
    made.put("units/quality", [EVIL, "good"])
    made.put(f"acquisition/{EVIL}/timestamps", np.arange(3.0))
    made.put(f"acquisition/{EVIL}/data", np.arange(3.0))
    return made.path


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "PATH"], ["inspect", "PATH", "--json"], ["inspect", "PATH", "PATH2"], ["init", "PATH"],
        ["fit", "PATH", *HOW, "--window", "-0.2", "0.6", "--out", "fit.nwb"],
        ["fit", "PATH", *HOW, "--window", "-0.2", "0.6", "--where", "side == 1", "--out", "fit.nwb"],
        ["fit", "PATH", *HOW, "--window", "-0.2", "0.6", "--align", EVIL, "--out", "fit.nwb"],
        ["fit", "PATH", *HOW, "--window", "-0.2", "0.6", "--bin", EVIL, "--out", "fit.nwb"],
        ["fit", "PATH", *HOW, "--window", "-0.2", "0.6", "--units", "quality > 1", "--out", "fit.nwb"],
        ["fit", "PATH", f"--{EVIL}"], [EVIL], ["publish", "PATH", "--dandiset", EVIL, "--subject", EVIL],
        ["connectivity", "PATH"], ["fit", f"{EVIL}.toml"],
    ],
)  # fmt: skip
def test_no_control_character_reaches_the_terminal(words, evil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = mock_session(tmp_path / f"{EVIL}.nwb")
    names = {"PATH": evil, "PATH2": other}
    done = run(*[names.get(word, word) if isinstance(word, str) else word for word in words])
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.output) is None, done.output
    assert done.output


def test_errors_and_warnings_have_none_in_python_either(evil):
    with pytest.raises(NWBError) as error:
        nl.read_conditions(evil, by=["side"], align="cue_time", window_s=(0, 0.4), bin_s=0.1, where="side == 1")
    assert "side holds texts" in str(error.value)
    assert printable(str(error.value)) == str(error.value)
    with pytest.raises(NWBError) as error:
        nl.open_nwb(evil.with_name(EVIL))
    assert "\\u001b[2J" in str(error.value)


def test_an_error_is_one_line_whatever_names_are_in_it():
    assert str(NWBError("le\nft is missing")) == "le\\nft is missing"


def test_texts_of_files_are_escaped_in_html_and_in_what_datasets_print(tmp_path):
    """Notebooks show Datasets by xarray, which escapes names and values itself."""
    script, name = f"<script>alert(1)</script>{EVIL}", "si<script>alert(1)de"
    made = Session(tmp_path / "s.nwb", n_units=6)
    made.put_table(cue_time=made.cue, **{name: alternate(script, "b")})
    how = {"by": [name], "align": "cue_time", "window_s": (0, 0.6), "bin_s": 0.1}
    recording = nl.read_conditions(made.path, **how, missing="keep")
    activity = nl.prepare(recording, inputs=[nl.Input("cue", column=name)])
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression")
    for data in (recording, activity, fit):
        assert name in str(data.dims) + str(list(data.coords)) + str(data.attrs)
        for one in (data, *data.data_vars.values()):
            assert "<script" not in one._repr_html_()
            assert printable(repr(one)) == repr(one)
        assert printable(str(data.attrs)) == str(data.attrs)


def test_all_commands_print_through_one_function():
    folder = Path(cli.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    assert [found for text in texts for found in re.findall(r"click\.echo\(|\bprint\(", text)] == ["click.echo("]


@pytest.mark.parametrize("error", [KeyError(EVIL), RecursionError("too deep"), AssertionError(), MemoryError("8 TB")])
def test_an_error_that_nobody_expects_is_one_line_too(monkeypatch, error):
    """With -v, it is raised, so that Python shows where it arose."""

    def fail(*args, **options):
        raise error

    monkeypatch.setattr("nwb_lint.nwb.extension.read.read_fit_entry", fail)
    done = run("populations", "https://me:word@lab.org/fit.nwb")
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    words = "needs more memory" if isinstance(error, MemoryError) else f"({type(error).__name__}"
    assert line.startswith("error: nwb-lint populations https://lab.org/fit.nwb")
    assert words in line
    assert printable(line) == line
    with pytest.raises(type(error)):
        run("-v", "populations", "fit.nwb")


def test_a_path_that_the_system_refuses_is_one_line(path):
    done = run("inactivate", path, "--groups", "neuron", "--csv", "x" * 9000)
    assert done.exit_code == 1
    assert re.fullmatch("error: x+ .*x+: File name too long. Check the path.\n", done.stderr)
    assert len(done.stderr) < 400


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_picture_is_replaced_and_any_other_file_is_not(path, tmp_path, ending):
    picture = tmp_path / f"session.{ending}"
    for _ in range(2):
        assert run("inspect", path, "--plot", picture).exit_code == 0
    picture.write_bytes(b"a picture of somebody else")
    done = run("inspect", path, "--plot", picture)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nwb_lint did not draw it" in " ".join(done.stderr.split())
    assert picture.read_bytes() == b"a picture of somebody else"
    for bad in (tmp_path / "fit.nwb", tmp_path / "no" / "such.png"):
        assert run("inspect", path, "--plot", bad).exit_code == 2
    out = tmp_path / "fit.nwb"
    out.with_suffix(".png").write_bytes(b"a picture of somebody else")
    done = run("fit", path, *HOW[:-2], "--window", -0.2, 0.6, "--out", out)
    assert (done.exit_code, done.stdout) == (1, "")
    assert not out.exists()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Pass external=True, where you trust it.", "Pass --external, where you trust it."),
        ("Use time_course=False.", "Use --no-time-course."),
        ("Group the trials by more columns (by=…).", "Group the trials by more columns (--by …)."),
        ("Pass units_table=.", "Pass --units-table."),
        ("read_conditions(path, by='side')", "read_conditions(path, by='side')"),  # a call stays a call
        ("Use read_conditions(..., halves=True, min_trials=2).", "Use --halves --min-trials 2."),
        ("Use read_conditions(..., halves=True, by=...).", "Use read_conditions(..., halves=True, by=...)."),
        ("Use method='auto', or another.", "Use --method auto, or another."),
        ('Read with missing="drop".', "Read with --missing drop."),
        ("where='a == 3'", "--where 'a == 3'"),
        ("""where="side == 'left'".""", "--where " + shlex.quote("side == 'left'") + "."),
        ("Use by=['side', 'a b'].", "Use --by side --by 'a b'."),
        ("Use by=['side', {'a': 'rank'}].", "Use by=['side', {'a': 'rank'}]."),  # no flag has this value
        ("Use by=['side', …].", "Use by=['side', …]."),
        ("tol=1e+20", "--tol 1e+20"),
        ("Take ridges=[0.1, 1].", "Take --ridges 0.1,1."),
        ("Prepare with n_components=None.", "Prepare with --n-components none."),
        ("Use max_iter=200.", "Use --max-iter 200."),
        ("the condition 'seed=3' is empty", "the condition 'seed=3' is empty"),  # a name of a file
        ("contrast=True", "contrast=True"),  # no option
    ],
)
def test_messages_name_flags_in_place_of_arguments(said, shown):
    assert with_flags(said) == shown
