"""The law of missing values: reading, queries, groups of neurons and contexts leave out the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_lint import read_conditions, read_trials
from nwb_lint.analysis.inactivation import groups_of
from nwb_lint.contract.columns import column_of
from nwb_lint.contract.values import as_text_column, missing_in
from nwb_lint.query import select
from nwb_lint.testing import mock_fit, mock_session

MISSING = ["", "N/A", "n/a", "NaN", "nan", " N/A ", "  "]
LEVELS = ["left", "None", "none", "NA", "null", "0", "-"]
FIT = mock_fit()
TEXTS = st.lists(st.sampled_from(MISSING + LEVELS), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (np.array(MISSING), [True] * len(MISSING)),
        (np.array(LEVELS), [False] * len(LEVELS)),
        (np.array([1.0, np.nan, np.inf, -0.0], np.float32), [False, True, False, False]),
        (np.array([0, -1]), [False, False]),
        (np.array([True, False]), [False, False]),
        (np.array(["2026-01-01", "NaT"], "datetime64[s]"), [False, True]),
        (np.array([1, "NaT"], "timedelta64[s]"), [False, True]),
        (np.array([None, np.nan, "N/A", "left", 3, "None"], object), [True, True, True, False, False, False]),
        (np.array([["", "a"], ["b", "nan"]]), [[True, False], [False, True]]),
        (np.zeros(0, "U1"), []),
        (np.array(["a", "N/A"], np.dtypes.StringDType()), [False, True]),
    ],
)
def test_what_is_missing(values, missing):
    found = missing_in(values)
    assert found.dtype == bool
    assert found.tolist() == missing


@given(TEXTS)
def test_the_type_of_a_column_of_texts_does_not_matter(texts):
    plain = np.array(texts)
    for other in (np.array(texts, object), np.array(texts, np.dtypes.StringDType())):
        np.testing.assert_array_equal(missing_in(other), missing_in(plain))
        np.testing.assert_array_equal(missing_in(as_text_column(other)), missing_in(plain))


@given(TEXTS)
def test_a_query_compares_no_missing_text_with_a_number(texts):
    column = np.array(["1", *(text for text in texts if text in MISSING)])
    found = select("x < 2", {"x": column}.__getitem__, len(column))
    np.testing.assert_array_equal(found, ~missing_in(column))


@given(TEXTS)
def test_no_missing_neuron_is_in_a_group(texts):
    column = np.resize(texts, 12)
    groups = groups_of(FIT.assign_coords(area=("neuron", column)), "area")
    np.testing.assert_array_equal(np.any([np.zeros(12, bool), *groups.values()], axis=0), ~missing_in(column))


def test_the_reader_groups_the_trials_whose_columns_have_a_value(tmp_path):
    side = np.resize([*MISSING, *LEVELS, None], 45).astype(object)
    path = mock_session(tmp_path / "m.nwb", n_trials=45, columns={"side": side})
    how = {"align": "cue_time", "window_s": (0, 0.5), "bin_s": 0.1}
    column = read_trials(path, **how)["side"].values
    recording = read_conditions(path, by="side", **how)
    assert recording.attrs["n_trials_dropped_by"] == missing_in(column).sum() == missing_in(side).sum()
    assert column_of(recording, "side").tolist() == sorted(LEVELS)


def test_texts_of_a_column_are_empty_where_it_has_no_value():
    found = as_text_column(np.array([None, np.nan, "left", "N/A"], object))
    assert found.dtype.kind == "U"
    assert found.tolist() == ["", "", "left", ""]
    numbers = np.array([1.0, np.nan])
    assert as_text_column(numbers) is numbers
