"""Columns that are called like dims, variables and coordinates of the Datasets work under their own names."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.contract.columns import columns_of
from nwb_lint.nwb.recording.dataset import RESERVED
from tests.factories import assert_same
from tests.nwb.layouts import Session, alternate

READ = {"align": "cue_time", "window_s": (-0.2, 0.6), "bin_s": 0.1}
NUMBERS = np.array([0.0, 1.0, 2.0, 3.0, 4.0] * 2)
COMMON = ("condition", "trial", "time", "neuron", "rate", "session", "file", "rank", "scale", "input", "u", "observed",
          "held_out", "count", "source", "offset", "latent", "mask", "split", "readout", "input_scale")  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Trials with a column for every such name, and the same values under a plain name; units with all of them too."""
    made = Session(tmp_path_factory.mktemp("names") / "s.nwb", n_units=6)
    names = {name: NUMBERS for name in [*RESERVED, "trial_condition"]}
    made.put_table(cue_time=made.cue, plain=NUMBERS, side=alternate("left", "right"), **names)
    for name in [*RESERVED - {"id"}, "plain", "side"]:
        made.put(f"units/{name}", np.arange(6.0))
    return made


def test_the_common_ones_are_reserved():
    assert set(COMMON) <= RESERVED


def activity_by(session, column):
    found = nl.read_conditions(session.path, by=[column], where=f"{column} > 0 and {column} + 1 < 5", **READ)
    return nl.prepare(found, inputs=[nl.Input("x", column=column, window_s=(0, 0.6))], n_components=None)


@pytest.fixture(scope="module")
def plain(session):
    return activity_by(session, "plain")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_by_where_and_inputs_take_them(name, session, plain):
    found = activity_by(session, name)
    assert found["condition"].values.tolist() == [f"{name}={k}" for k in (1, 2, 3)]
    for variable in ("u", "activity"):
        np.testing.assert_array_equal(found[variable], plain[variable])
    assert columns_of(found, "condition").keys() == {name}


def test_trials_and_units_keep_all_of_them(session):
    found = nl.read_trials(session.path, **READ)
    assert {*RESERVED, "plain", "side"} <= columns_of(found, "trial").keys()
    for column in columns_of(found, "trial").values():
        assert column.shape == (10,)
    names = sorted(RESERVED - {"id"})
    recording = nl.read_conditions(session.path, by=["side", "plain"], unit_columns=[*names, "side", "plain"], **READ)
    assert {*names, "side", "plain"} <= columns_of(recording, "neuron").keys()
    assert columns_of(recording, "condition").keys() == {"side", "plain"}
    assert recording["side"].dims == ("condition",)
    np.testing.assert_array_equal(recording["unit_side"], np.arange(6.0))


def test_two_columns_of_which_one_is_called_as_the_other_will_be(session):
    found = nl.read_conditions(session.path, by=["condition", "trial_condition"], **READ)
    assert columns_of(found, "condition").keys() == {"condition", "trial_condition"}


def test_a_fit_of_them_comes_back_from_its_file_and_is_analyzed(session, tmp_path):
    by = ["condition", "scale", "time"]
    recording = nl.read_conditions(session.path, by=by, unit_columns=["rank", "neuron"], halves=True, **READ)
    inputs = [nl.Input("scale", column="scale", window_s=(0, 0.6)), nl.Input("u", window_s=(0.1, 0.2))]
    activity = nl.prepare(recording, inputs=inputs, n_components=None)
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", initial="condition")
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    silenced = nl.predict_inactivation(fit, "rank", readout="time", controls=0)
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject, results={"silenced": silenced})
    again = nl.read_fit(path)
    assert_same(again.drop_vars("file_digest"), fit.drop_vars("file_digest"))
    assert_same(nl.read_result(path, "silenced"), silenced)
    assert columns_of(again, "condition").keys() >= set(by)
    assert columns_of(again, "neuron")["rank"].shape == (6,)
    table = nl.baselines(activity, rank=1, tau_s=0.1, folds=2, method="regression", columns=("condition",))
    assert np.isfinite(table["baseline_r2"]).any()
    assert nl.compare_axes(fit, activity, variables=["time"]).attrs["variables"] == ["time"]
    nl.plot.latents_over_time(nl.latents(fit, activity), color_by="condition", style_by=None)
