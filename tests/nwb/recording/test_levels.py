"""Numbers that differ by rounding are one condition; numbers that differ really never are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_lint import Input, read_conditions, read_trials
from nwb_lint.contract.values import distinct, equal_up_to_rounding
from nwb_lint.nwb.inspection.describe import describe
from tests.nwb.layouts import N_TRIALS, Session

SUM = 0.1 + 0.2
HOW = {"align": "start_time", "window_s": (0, 0.4), "bin_s": 0.2}
MIXED = {
    "a sum": np.resize([0.3, SUM], N_TRIALS),
    "a float32 in a float64": np.resize([0.3, float(np.float32(0.3))], N_TRIALS),
    "a float32": np.resize([0.3, SUM], N_TRIALS).astype(np.float32),
}


@pytest.fixture
def write(tmp_path):
    def build(name="s", **columns):
        session = Session(tmp_path / f"{name}.nwb")
        session.put_table(**columns)
        return session.path

    return build


@pytest.mark.parametrize("name", MIXED)
def test_levels_that_differ_by_rounding_are_one_condition(write, name):
    signs = np.where(np.arange(N_TRIALS) % 5 < 3, 1.0, -1.0).astype(MIXED[name].dtype)
    path = write(coherence=signs * MIXED[name])
    found = read_conditions(path, by="coherence", **HOW)
    assert found["condition"].values.tolist() == ["coherence=-0.3", "coherence=0.3"]
    assert found["coherence"].values.tolist() == [-0.3, 0.3]
    assert found["n_trials"].values[:, 0].tolist() == [4, 6]
    ranked = read_conditions(path, by={"coherence": "rank"}, **HOW)
    assert ranked["coherence"].values.tolist() == [-1, 1]
    assert read_trials(path, where="coherence == 0.3", **HOW).sizes["trial"] == 6
    column = next(column for column in describe(path).tables[0].columns if column.name == "coherence")
    assert column.levels == {"-0.3": 4, "0.3": 6}


def test_sessions_with_levels_that_differ_by_rounding_share_conditions(write):
    paths = [write("a", coherence=np.full(N_TRIALS, 0.3)), write("b", coherence=np.full(N_TRIALS, SUM))]
    assert read_conditions(paths, by="coherence", **HOW)["condition"].values.tolist() == ["coherence=0.3"]


def test_a_difference_that_is_zero_but_for_rounding_is_zero(write):
    path = write(change=np.resize([SUM - 0.3, 0.0, 0.5, -0.5], N_TRIALS))
    assert read_conditions(path, by="change", **HOW)["change"].values.tolist() == [-0.5, 0, 0.5]
    assert read_conditions(path, by={"change": "rank"}, **HOW)["change"].values.tolist() == [-1, 0, 1]


def test_values_at_an_edge_but_for_rounding_are_on_it(write):
    path = write(coherence=np.resize([0.3, SUM, 0.2, 0.6, 3 * 0.2], N_TRIALS))
    found = read_conditions(path, by={"coherence": [0.1, SUM, 0.6]}, **HOW)
    assert found["n_trials"].values[:, 0].tolist() == [2, 8]


@pytest.mark.parametrize(
    "values",
    [[1000000000.0, 1000000001.0, 1000000002.0], [1e15, 1e15 + 1], [0.3, 0.3000001], [1e-12, 2e-12, 1.0], [2**53, 1],
     [1700000000.25, 1700000000.75], [5000.5, 5000.5001], [0.5, 0.5000000001]],
)  # fmt: skip
def test_values_that_differ_really_stay_apart(write, values):
    levels, codes = distinct(np.array(values + values))
    assert levels.tolist() == sorted(values)
    assert levels[codes].tolist() == values + values
    assert not equal_up_to_rounding(values[0], values[1])
    found = read_conditions(write(level=np.resize(np.array(values, float), N_TRIALS)), by="level", **HOW)
    assert found["level"].values.tolist() == sorted(values)
    assert len(set(found["condition"].values.tolist())) == len(values)


def test_missing_values_and_texts_keep_their_levels():
    assert distinct(np.array(["b", "a", "b"]))[1].tolist() == [1, 0, 1]
    levels, codes = distinct(np.array([np.nan, SUM, np.inf, 0.3, np.nan]))
    np.testing.assert_array_equal(levels, [0.3, np.inf, np.nan])
    assert codes.tolist() == [2, 0, 1, 0, 2]


@pytest.mark.parametrize("equals", [0.3, SUM, float(np.float32(0.3))])
def test_an_input_is_on_where_the_column_equals_its_value_but_for_rounding(equals):
    conditions = xr.Dataset(coords={"condition": ["a", "b"], "level": ("condition", [SUM, 0.4])})
    ((_, _, on),) = Input("x", column="level", equals=equals).amplitudes(conditions)
    assert on.tolist() == [1, 0]
