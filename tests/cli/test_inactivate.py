"""nwb-lint inactivate: what it prints is what `predict_inactivation` gives, and it fails in one line."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.testing import mock_fit

SUBJECT = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}


def run(*args):
    return CliRunner().invoke(app, ["inactivate", *map(str, args)], catch_exceptions=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    fit = mock_fit().assign_coords(area=("neuron", ["ALM"] * 4 + ["V1"] * 8), depth=("neuron", np.arange(12.0)))
    return nl.write_fit(fit, tmp_path_factory.mktemp("inactivate") / "fit.nwb", subject=SUBJECT)


def test_table_picture_and_caution(path, tmp_path):
    before = path.read_bytes()
    table, picture = tmp_path / "table.csv", tmp_path / "bars.png"
    flags = ["--groups", "area", "--groups", "area == 'V1' and depth < 6", "--readout", "stimulus", "--controls", 3]
    result = run(path, *flags, "--factor", 0.5, "--window", 0, 0.2, "--csv", table, "--plot", picture)
    assert result.exit_code == 0, result.output
    assert "caution: " in result.stdout
    assert "readout of stimulus: held-out R2" in result.stdout
    found = pd.read_csv(table)
    assert found["group"].tolist() == ["area=ALM", "area=V1", "area == 'V1' and depth < 6"]
    assert found["neurons"].tolist() == [4, 8, 2]
    expected = nl.predict_inactivation(
        nl.read_fit(path), "area", readout="stimulus", controls=3, factor=0.5, window_s=(0.0, 0.2)
    )
    np.testing.assert_allclose(found["effect"][:2], expected["effect"])
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert path.read_bytes() == before


def test_populations_of_the_fit(path):
    result = run(path, "--populations", "strongest_input", "--controls", 0)
    assert result.exit_code == 0, result.output
    assert "population stimulus" in result.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--groups", "cell_type == 'x'"], "no column 'cell_type'"),
        (["--groups", "depth == 'x'"], "depth"),
        (["--groups", "area", "--context", "rule"], "no column 'rule'"),
        (["--groups", "area", "--window", 7, 8], "the window is 7 to 8"),
    ],
)
def test_failures_are_one_line(path, flags, words):
    result = run(path, *flags)
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    assert words in line


def test_nobody_asked_for_is_wrong_usage(path):
    assert run(path).exit_code == 2


def test_the_prediction_is_kept_beside_the_fit(path, tmp_path):
    own = tmp_path / "own.nwb"
    own.write_bytes(path.read_bytes())
    result = run(own, "--groups", "area", "--controls", 3, "--save", "by_area")
    assert result.exit_code == 0, result.output
    assert nl.read_result(own, "by_area").identical(nl.predict_inactivation(nl.read_fit(own), "area", controls=3))
    assert nl.read_fit(own).identical(nl.read_fit(path))
