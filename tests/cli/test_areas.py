"""Areas on the command line: blocks that are named or chosen, currents, and silenced projections."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.testing import mock_session

pytestmark = pytest.mark.filterwarnings("ignore")


def run(*args, status=0):
    done = CliRunner().invoke(app, [str(one) for one in args])
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    columns = {"area": ["ALM", "V1", "ALM", "V1", "ALM", "V1"]}
    return mock_session(tmp_path_factory.mktemp("areas") / "s.nwb", n_units=6, unit_columns=columns)


def flags(session, out):
    return [
        "fit", session, "--by", "side", "--by", "coherence", "--align", "cue_time", "--window", "-0.2", "0.8", "--bin",
        "0.05", "--unit-columns", "area", "--areas", "area", "--method", "regression", "--test-size", "1", "--no-plot",
        "--out", out,
    ]  # fmt: skip


def test_blocks_that_are_named_and_their_currents(session, tmp_path):
    out = tmp_path / "fit.nwb"
    run(*flags(session, out), "--rank", 1, "--block-ranks", "ALM<-V1=0", "--input-areas", "coherence=ALM,V1")
    fit = nl.read_fit(out)
    assert list(zip(fit["to_area"].values, fit["from_area"].values, strict=True)) == [
        ("ALM", "ALM"), ("V1", "ALM"), ("V1", "V1"),
    ]  # fmt: skip
    text = run("currents", out, "--save", "currents", "--plot", tmp_path / "c.png")
    assert "currents between areas" in text
    assert "--area goes with --plot" in run("currents", out, "--area", "V1", status=2)
    assert (tmp_path / "c.png").exists()
    assert nl.read_result(out, "currents")["current"].dims == ("condition", "time", "neuron", "sender")
    shown = run("inactivate", out, "--groups", "area", "--to", "V1", "--controls", 0)
    assert "area=ALM" in shown


def test_blocks_that_are_chosen(session, tmp_path):
    out = tmp_path / "fit.nwb"
    text = run(*flags(session, out), "--blocks", "--blocks-ranks", "1", "--blocks-folds", 2, "--ranks", "1:3")
    assert "select.ranks is not used" in " ".join(text.split())
    assert "blocks of areas" in text
    fit, found = nl.read_fit(out), nl.read_result(out, "area_selection")
    assert ("areas" in fit.attrs) == bool(found.attrs["areas"])


def test_a_choice_of_blocks_without_areas_says_what_is_missing(session, tmp_path):
    args = flags(session, tmp_path / "fit.nwb")
    at = args.index("--areas")
    text = run(*args[:at], *args[at + 2 :], "--blocks", status=1)
    assert "fit.areas is not given" in text


def test_blocks_are_named_or_chosen_and_not_both(session, tmp_path):
    text = run(*flags(session, tmp_path / "fit.nwb"), "--blocks", "--block-ranks", "ALM<-V1=0", status=1)
    assert "Leave out one of them" in " ".join(text.split())


def test_blocks_of_single_trials_are_chosen(session, tmp_path):
    out = tmp_path / "fit.nwb"
    text = run(
        "fit", session, "--trials", "--by", "side", "--align", "cue_time", "--window", "-0.2", "0.8", "--bin", "0.05",
        "--unit-columns", "area", "--areas", "area", "--hidden", 0, "--max-iter", 2, "--blocks", "--blocks-ranks", "1",
        "--blocks-folds", 2, "--no-plot", "--out", out,
    )  # fmt: skip
    assert "log evidence" in text
    fit, found = nl.read_fit(out), nl.read_result(out, "area_selection")
    assert found["evidence_condition"].dims == ("candidate", "condition")
    assert found.sizes["condition"] == int((~fit["held_out"]).sum())
    assert ("areas" in fit.attrs) == bool(found.attrs["areas"])
