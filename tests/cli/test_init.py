"""Recipes that init writes: short, commented, without stimulated trials, and they run."""

from __future__ import annotations

import shutil
import tomllib

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.nwb.inspection.suggest import suggest
from nwb_lint.testing import mock_session
from tests.nwb.layouts import Session, alternate

SIDES = alternate("left", "right")
ON = np.arange(10) % 5 == 0


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)


def written(folder, **columns):
    made = Session(folder / "s.nwb", n_units=4)
    made.put_table(cue_time=made.cue, **({"side": SIDES} | columns))
    return made.path


def fitted(path, folder):
    """The recipe, and the fit that it gives."""
    made = run("init", path)
    assert made.exit_code == 0, made.output
    (folder / "recipe.toml").write_text(made.stdout)
    done = run("fit", folder / "recipe.toml", "--rank", 1, "--no-plot", "--out", folder / "fit.nwb")
    assert done.exit_code == 0, done.output
    return made.stdout, nl.read_fit(folder / "fit.nwb")


@pytest.mark.parametrize(
    ("name", "values", "where"),
    [
        ("opto", ON, "not opto"),
        ("laser_on", ON.astype(np.int64), "laser_on == 0"),
        ("stim", ON, "not stim"),
        ("is_stim", ON.astype(float), "is_stim == 0"),
        ("photostim", ["on" if on else "off" for on in ON], "photostim == 'off'"),
        ("opto_type", ["ALM" if on else "N/A" for on in ON], "opto_type == 'N/A'"),
        ("laser_power", np.where(ON, 2.5, np.nan), "isnan(laser_power)"),
        ("laser_onset_time", np.where(ON, 3.0 + np.arange(10), np.nan), "isnan(laser_onset_time)"),
        ("photo stim", np.where(ON, 1.5, 0.0), "`photo stim` == 0"),
        ("silenced", ~ON, None),  # two trials without it are too few
    ],
)
def test_stimulated_trials_are_left_out_and_are_no_condition(name, values, where, tmp_path):
    found = suggest(written(tmp_path, **{name: values}))
    assert found["where"] == where
    assert found["by"] == ["side"]
    if where:
        ordinary = nl.read_conditions(tmp_path / "s.nwb", **found)
        assert ordinary.attrs["n_trials_used"] == 8


def test_stimuli_that_are_seen_are_conditions(tmp_path):
    found = suggest(written(tmp_path, stim=alternate("left", "right", "left", "left"), side=["x"] * 10))
    assert found["by"] == ["stim"]
    assert found["where"] is None


N = 160
EVERY = np.arange(N)
PERIODS = {k: EVERY // k % 2 == 0 for k in (2, 4, 8)}


@pytest.mark.parametrize(
    ("columns", "by", "where", "why"),
    [
        # a delayed response task: two instructions, and outcomes as texts
        ({"response": np.where(PERIODS[2], "correct", "incorrect")}, ["side", "response"], None, "response"),
        ({"correct": PERIODS[4]}, ["side", "correct"], None, "wrong trials"),
        # with an outcome that is too rare for a condition
        (
            {"response": np.where(EVERY < 4, "no lick", np.where(PERIODS[2], "correct", "early lick"))},
            ["side", "response"],
            "response in ('correct', 'early lick')",
            "response",
        ),
        ({"choice": np.where(PERIODS[2], -1, 1)}, ["side", "choice"], None, "choice"),
        # reaching to many targets; stimuli of graded contrast on two sides
        ({"target_direction": 22.5 * (EVERY // 2 % 16)}, ["side", "target_direction"], None, ""),
        ({"contrast": EVERY // 2 % 5 / 4}, ["side", "contrast"], None, ""),
        # a quantity that is never the same twice
        ({"tone_hz": 100 + 1.25 * (EVERY * 37 % N)}, ["side", {"tone_hz": [100, 150, 199, 249, 298.75]}], None, "bins"),
        # stimuli by their numbers; trials by theirs
        ({"stimulus_id": EVERY // 2 % 6}, ["side", "stimulus_id"], None, ""),
        # no stimulus in every fifth trial
        ({"side": np.array(["", "A", "B", "C", "D"])[EVERY % 5]}, ["side"], None, "side is taken"),
        ({"n_done": 1.25 * EVERY}, ["side"], None, "At least 4"),
        ({"feedback_type": np.where(PERIODS[2], -1, 1)}, ["side", "feedback_type"], None, "feedback_type"),
        ({}, ["side"], None, "At least 4"),
    ],
)
def test_few_stimuli_are_divided_into_at_least_four_conditions(columns, by, where, why, tmp_path):
    others = {"coherence": np.ones(N), "correct": np.ones(N, bool), "block": EVERY // 10}
    path = mock_session(tmp_path / "s.nwb", n_trials=N, columns=others | columns)
    found = suggest(path)
    assert (found["by"], found["where"]) == (by, where)
    recording = nl.read_conditions(path, **found)
    assert recording.sizes["condition"] >= 4 or why == "At least 4"
    assert recording["n_trials"].min() >= 5
    text = run("init", path).stdout
    notes = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    assert bool(notes) == bool(why)
    assert why in " ".join(notes)
    assert tomllib.loads(text)["read"]["by"] == by


def test_a_recipe_has_what_differs_from_the_defaults_with_comments(tmp_path):
    text, fit = fitted(written(tmp_path, opto=ON), tmp_path)
    data = tomllib.loads(text)
    assert set(data) == {"sources", "out", "read", "inputs"}
    assert set(data["read"]) == {"by", "align", "window_s", "where"}
    assert data["inputs"] == [{"name": "side", "column": "side", "window_s": [0.0, data["read"]["window_s"][1]]}]
    assert all("  # " in line for line in text.splitlines() if " = " in line)
    assert not fit["u"].values[:, fit["time"].values < 0].any()
    assert fit.attrs["n_trials_used"] == 8


def test_what_to_do_about_two_conditions_is_said(tmp_path):
    (tmp_path / "recipe.toml").write_text(run("init", written(tmp_path)).stdout)
    done = run("fit", tmp_path / "recipe.toml", "--out", tmp_path / "fit.nwb")
    assert done.exit_code == 1
    for words in ("2 conditions", "ranks needs 3", "(by)"):
        assert words in done.stderr


@pytest.mark.parametrize("name", ["condition", "rank", "class", "two words.npy"])
def test_the_recipe_runs_for_columns_of_any_name(name, tmp_path):
    columns = {name: np.arange(10) % 3, "side": ["x"] * 10, f"{name} correct": np.arange(10) > 0}
    _, fit = fitted(written(tmp_path, **columns), tmp_path)
    assert [fit[coordinate].attrs.get("column", coordinate) for coordinate in fit.attrs["by"]] == [name]
    assert fit.attrs["where"] == f"`{name} correct`"
    assert fit["input_column"].values.tolist() == [name]


def test_recipes_of_files_with_series_and_of_other_units_tables_run(tmp_path):
    (tmp_path / "a").mkdir()
    made = Session(tmp_path / "a" / "s.nwb", units=False)
    made.put_table(cue_time=made.cue, side=SIDES)
    made.put("acquisition/dff/data", np.random.default_rng(0).random((700, 4)))
    made.put("acquisition/dff/timestamps", 0.04 * np.arange(700))
    with h5py.File(made.path, "r+") as file:
        file["acquisition/dff"].attrs["neurodata_type"] = "TimeSeries"
    _, fit = fitted(made.path, tmp_path / "a")
    assert fit.attrs["series"] == "acquisition/dff"
    path = written(tmp_path, opto=ON)
    with h5py.File(path, "r+") as file:
        file.move("units", "processing/ecephys/units")
        file["processing/ecephys/units"].attrs["neurodata_type"] = "Units"
    _, fit = fitted(path, tmp_path)
    assert fit.attrs["units_table"] == "processing/ecephys/units"


def test_several_files_give_one_recipe_and_the_others_are_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name)
    shutil.move(tmp_path / "b" / "s.nwb", tmp_path / "b" / "t.nwb")
    (tmp_path / "c").mkdir()
    Session(tmp_path / "c" / "s.nwb").put_table()
    paths = [tmp_path / "a" / "s.nwb", tmp_path / "c" / "s.nwb", tmp_path / "b" / "t.nwb", tmp_path / "none.nwb"]
    made = run("init", *paths)
    assert made.exit_code == 0
    assert tomllib.loads(made.stdout)["sources"] == [str(paths[0]), str(paths[2])]
    assert made.stderr.count("warning: left out:") == 2
    pattern = str(tmp_path / "[ab]" / "*.nwb")
    assert tomllib.loads(run("init", pattern).stdout)["sources"] == [pattern]
    (tmp_path / "d").mkdir()
    without = Session(tmp_path / "d" / "s.nwb", units=False)
    without.put_table(cue_time=without.cue, side=SIDES)
    with h5py.File(written(tmp_path / "c"), "r+") as file:
        file["intervals/invalid_times"] = h5py.SoftLink("/nowhere")
    made = run("init", paths[0], without.path, tmp_path / "c" / "s.nwb")
    assert tomllib.loads(made.stdout)["sources"] == [str(paths[0])]
    assert "no units table" in made.stderr
    assert "/nowhere" in made.stderr
    nothing = run("init", paths[3])
    assert nothing.exit_code == 1
    assert "no such file" in nothing.stderr
