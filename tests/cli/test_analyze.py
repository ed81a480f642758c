"""nwb-lint connectivity, populations, fixed-points and readout: they print, keep and draw what the functions give."""

import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from tests.cli.conftest import SUBJECT
from tests.plot.test_dynamics import made


def run(*args):
    return CliRunner().invoke(app, [*map(str, args)], catch_exceptions=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return nl.write_fit(made(2), tmp_path_factory.mktemp("analyze") / "fit.nwb", subject=SUBJECT)


@pytest.fixture
def own(path, tmp_path):
    """A copy of the file that a test may change."""
    (tmp_path / "own.nwb").write_bytes(path.read_bytes())
    return tmp_path / "own.nwb"


def test_populations_are_printed_kept_and_drawn(own, tmp_path):
    flags = ["--max-groups", 2, "--resamples", 2, "--save", "groups", "--plot", tmp_path / "a.png"]
    result = run("populations", own, *flags)
    assert result.exit_code == 0, result.output
    expected = nl.find_populations(nl.read_fit(own), max_groups=2, resamples=2)
    assert nl.read_result(own, "groups").identical(expected)
    rows = [line.split() for line in result.stdout.splitlines()]
    group, size = str(expected["group"].values[0]), int((expected["population"] == 0).sum())
    assert [group, str(size)] in [row[:2] for row in rows]
    assert ["2", f"{float(expected['stability'][1]):.3f}"] in [row[:2] for row in rows]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_connectivity_is_printed_kept_and_drawn(own, tmp_path):
    result = run("connectivity", own, "--by", "area", "--save", "J", "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    fit = nl.read_fit(own)
    expected = nl.connectivity(fit)
    assert nl.read_result(own, "J").identical(expected)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["m", "1", "m", "2", "I", "in0", "I", "in1"] in rows
    shown = [[float(part) for part in row[2:]] for row in rows if row[:1] == ["n"] and len(row) == 6][:2]
    np.testing.assert_allclose(shown, np.hstack([expected["overlap_m"], expected["overlap_input"]]), atol=6e-4)
    words = nl.weight_statistics(fit)
    p_of = {" ".join(row[:2]): row[-1] for row in rows if len(row) == 6}
    for vector, p in zip(words["vector"].values, words["heavy_tail_p"].values, strict=True):
        assert p_of[vector] == f"{p:.3f}"
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert run("connectivity", own, "--raw", "--save", "raw").exit_code == 0
    assert nl.read_result(own, "raw").identical(nl.connectivity(fit, effective=False))


def test_a_readout_is_printed_kept_and_drawn(own, tmp_path):
    flags = ["--window", 0, 0.1, "--folds", 2, "--save", "choice", "--plot", tmp_path / "a.png"]
    result = run("readout", own, "motion", *flags)
    assert result.exit_code == 0, result.output
    expected = nl.fit_readout(nl.read_fit(own), "motion", folds=2, window_s=(0, 0.1))
    assert nl.read_result(own, "choice").identical(expected)
    assert f"held-out R2 {float(expected['score']):.3f}. R2: the share of" in result.stdout
    assert "ridge readout of 60 neurons" in result.stdout
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_groups_by_inputs_have_no_table_of_stability(path):
    before = path.read_bytes()
    result = run("populations", path, "--method", "strongest_input", "--window", 0, 0.1)
    assert result.exit_code == 0, result.output
    assert "stability" not in result.stdout
    assert path.read_bytes() == before


@pytest.mark.parametrize("held", [{}, {"condition": "c2"}, {"input": {"in1": 0.3}}])
def test_fixed_points_are_printed_kept_and_drawn(own, tmp_path, held):
    fit = nl.read_fit(own)
    flags = ["--condition", fit["condition"].values[2]] if "condition" in held else []
    flags += ["--input", "in1=0.3"] if "input" in held else []
    arguments = held | ({"condition": fit["condition"].values[2]} if "condition" in held else {})
    result = run("fixed-points", own, *flags, "--save", "rest", "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    expected = nl.fixed_points(fit, **arguments)
    assert nl.read_result(own, "rest").identical(expected)
    shown = [line.split() for line in result.stdout.split("\n\n")[0].splitlines()[2:]]
    np.testing.assert_allclose([[float(part) for part in line[:2]] for line in shown], expected["kappa"], atol=6e-4)
    assert [line[2] for line in shown] == expected["stability"].values.tolist()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("populations", ["--n-groups", 99], "n_groups is 99"),
        ("populations", ["--method", "strongest_input", "--n-groups", 2], "Leave n_groups out"),
        ("populations", ["--method", "strongest_input", "--window", 7, 8], "the window is 7 to 8"),
        ("fixed-points", ["--condition", "none"], "none"),
        ("fixed-points", ["--input", "tone=1"], "tone"),
        ("fixed-points", ["--name", "other"], "no fit named 'other'"),
        ("connectivity", ["--by", "layer", "--plot", "a.png"], "layer"),
        ("readout", ["side"], "no column 'side'"),
        ("readout", ["motion", "--folds", 99], "folds is 99"),
    ],
)
def test_failures_are_one_line(path, command, flags, words):
    result = run(command, path, *flags)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_network_of_another_nonlinearity_is_read_and_not_run(tmp_path):
    fit = made(2).assign_attrs(nonlinearity="sine")
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    assert nl.read_fit(path).identical(fit)
    for command in (["populations", path, "--method", "strongest_input"], ["fixed-points", path]):
        result = run(*command)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: nonlinearity is 'sine'")
        assert result.stderr.count("\n") == 1


def test_wrong_usage(path):
    assert run("fixed-points", path, "--input", "in1").exit_code == 2
    assert run("fixed-points", path, "--input", "in1=much").exit_code == 2
