"""Behavior of a recipe or of flags is fitted, weighed, decoded, printed and kept."""

import numpy as np
import pytest

import nwb_lint as nl
from tests.cli.test_cli import fails, run
from tests.cli.test_trials import FLAGS, session  # noqa: F401

CHOICE = "name=side,column=side,window=0.2:0.6"
OF_MEANS = """
[[readouts]]
name = "context"
column = "context"
window_s = [0.1, 0.4]
[compare_readouts]
readout_weights = [0, 2]
folds = 2
[decode]
causal = true
"""


@pytest.mark.filterwarnings("ignore:Behavior of held-out data")
def test_flags_fit_weigh_and_decode_behavior_of_single_trials(session, tmp_path):  # noqa: F811
    out = tmp_path / "fit.nwb"
    flags = [
        "--readout",
        CHOICE,
        "--compare-readouts-readout-weights",
        "0,3",
        "--compare-readouts-folds",
        2,
        "--decode",
    ]
    done = run("fit", session, "--trials", *FLAGS, "--rank", 1, *flags, "--out", out, "--no-plot")
    assert done.exit_code == 0, done.output
    fit, table = nl.read_fit(out), nl.read_result(out, "readout_comparison")
    assert table["weight_tried"].values.tolist() == [0, 3]
    assert fit.attrs["readout_weight"] == table.attrs["readout_weight"]
    assert fit["readout_definition"].item() == 'name = "side", column = "side", window_s = [0.2, 0.6]'
    decoding = nl.read_result(out, "decoding")
    np.testing.assert_array_equal(decoding["held_out"], fit["held_out"])
    for words in ("weights of behavior compared", "behavior decoded"):
        assert words in done.stdout
        assert words in run("show", out).stdout


@pytest.mark.filterwarnings("ignore:Behavior of held-out data")
def test_a_recipe_fits_weighs_and_decodes_behavior_of_means(recipe):
    path = recipe()
    path.write_text(path.read_text() + OF_MEANS)
    done = run("fit", path, "--no-plot")
    assert done.exit_code == 0, done.output
    fit = nl.read_fit(path.parent / "fit.nwb")
    assert fit["readout"].values.tolist() == ["context"]
    assert 'name = "context"' in fit.attrs["recipe"].partition("[[readouts]]")[2]
    decoding = nl.read_result(path.parent / "fit.nwb", "decoding")
    assert decoding.sizes["condition"] == fit.sizes["condition"]


def test_a_readout_without_column_is_refused(recipe):
    assert "one of column and series" in fails("fit", recipe(), "--readout", "name=x")
    done = run("fit", recipe(), "--readout", "name=x,column=context,log=perhaps")
    assert done.exit_code == 2
    assert "It needs yes or no" in done.output


def test_sections_that_lack_readouts_or_held_out_data_are_refused_before_the_fit(session, tmp_path):  # noqa: F811
    flags = [session, "--trials", *FLAGS, "--rank", 1, "--out", tmp_path / "fit.nwb"]
    for section in ("--decode", "--compare-readouts"):
        words = fails("fit", *flags, section)
        assert "no readouts. Behavior is read by them. Add [[readouts]], or --readout." in words
    assert "nothing is held out" in fails("fit", *flags, "--readout", CHOICE, "--decode", "--test-size", 0)
    assert "Give infer_inputs.by, or --infer-inputs-by" in fails("fit", *flags, "--infer-inputs")


@pytest.mark.filterwarnings("ignore:Behavior of held-out data")
def test_a_weight_beside_a_choice_of_weights_is_named(session, tmp_path):  # noqa: F811
    flags = [session, "--trials", *FLAGS, "--rank", 1, "--out", tmp_path / "fit.nwb", "--no-plot"]
    weights = ["--compare-readouts-readout-weights", "0,3", "--compare-readouts-folds", 2, "--readout-weight", 7]
    done = run("fit", *flags, "--readout", CHOICE, *weights)
    assert done.exit_code == 0, done.output
    assert "So fit.readout_weight 7 is not used" in " ".join(done.output.split())
    assert nl.read_fit(tmp_path / "fit.nwb").attrs["readout_weight"] in (0, 3)
