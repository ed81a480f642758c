"""Lists of inputs of a recipe or of flags are compared, printed and kept."""

import numpy as np
import pytest

import nwb_lint as nl
from tests.cli.test_cli import fails, run
from tests.cli.test_trials import FLAGS, session  # noqa: F401

SETS = """
[compare_inputs]
folds = 3
[compare_inputs.sets]
both = "motion, context"
motion = "motion"
"""


def test_a_recipe_compares_lists_of_its_inputs(recipe):
    path = recipe()
    path.write_text(path.read_text() + SETS)
    done = run("fit", path, "--no-plot")
    assert done.exit_code == 0, done.output
    table = nl.read_result(path.parent / "fit.nwb", "input_comparison")
    assert table["input_set"].values.tolist() == ["both", "motion"]
    assert table["n_inputs"].values.tolist() == [3, 1]  # two levels of the context
    assert "lists of inputs compared" in done.stdout
    assert f"{float(table['set_score'].sel(input_set='motion')):.3f}" in done.stdout
    fit = nl.read_fit(path.parent / "fit.nwb")
    assert table.sizes["condition"] == fit.sizes["condition"] - int(np.sum(fit["held_out"].values))
    assert "lists of inputs compared" in run("show", path.parent / "fit.nwb").stdout


def test_flags_compare_lists_of_inputs_on_single_trials(session, tmp_path):  # noqa: F811
    out = tmp_path / "fit.nwb"
    inputs = ["--input", "name=side,column=side,equals=left", "--input", "name=on,window=0:0.6"]
    sets = ["--compare-inputs-sets", "both=side, on", "--compare-inputs-sets", "none=", "--compare-inputs-folds", 2]
    done = run("fit", session, "--trials", *FLAGS, "--rank", 1, *inputs, *sets, "--out", out, "--no-plot")
    assert done.exit_code == 0, done.output
    table = nl.read_result(out, "input_comparison")
    assert table["n_inputs"].values.tolist() == [2, 0]
    assert table["condition_score"].dims == ("input_set", "condition")


def test_a_recipe_infers_inputs(recipe):
    path = recipe()
    path.write_text(path.read_text() + "\n[infer_inputs]\nfolds = 3\nprior = 'sparse'\n")
    done = run("fit", path, "--no-plot")
    assert done.exit_code == 0, done.output
    table = nl.read_result(path.parent / "fit.nwb", "inferred_inputs")
    assert table.attrs["prior"] == "sparse"
    assert table.sizes["input_condition"] == table.sizes["condition"]
    assert table.attrs["verdict"] in " ".join(done.stdout.split())


def test_the_flag_alone_infers_inputs_and_its_opposite_leaves_out_the_section(recipe):
    path = recipe()
    done = run("fit", path, "--infer-inputs", "--no-plot")
    assert done.exit_code == 0, done.output
    assert "inferred_inputs" in nl.read_results(path.parent / "fit.nwb")
    path.write_text(path.read_text() + "\n[infer_inputs]\n")
    done = run("fit", path, "--no-infer-inputs", "--no-plot", "--force")
    assert done.exit_code == 0, done.output
    assert "inferred_inputs" not in nl.read_results(path.parent / "fit.nwb")


def test_flags_infer_inputs_of_single_trials(session, tmp_path):  # noqa: F811
    out = tmp_path / "fit.nwb"
    wanted = ["--infer-inputs", "--infer-inputs-by", "side", "--infer-inputs-folds", 2]
    done = run("fit", session, "--trials", *FLAGS, "--rank", 1, *wanted, "--out", out, "--no-plot")
    assert done.exit_code == 0, done.output
    table = nl.read_result(out, "inferred_inputs")
    assert table.attrs["by"] == "side"
    assert sorted(table["input_condition"].values) == ["left", "right"]


@pytest.mark.parametrize(("sets", "words"), [("a=motion,nothing", "nothing"), ("a=motion", "needs two")])
def test_lists_that_cannot_be_compared_are_refused(recipe, sets, words):
    assert words in fails("fit", recipe(), "--compare-inputs-sets", sets)
