"""Columns by expressions, and columns with many values a row in queries: the same as columns that the file has."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint import read_conditions, read_trials
from nwb_lint.errors import ContractError, NWBError
from tests.nwb.layouts import N_TRIALS, Session, alternate

READ = {"window_s": (-0.2, 0.6), "bin_s": 0.2}
LEFT = np.array([0.0, 0.3, 0.1, 0.0, 0.3] * 2)
RIGHT = np.array([0.1, 0.0, 0.2, 0.3, 0.1] * 2)


@pytest.fixture
def session(tmp_path):
    """Contrasts, tags (none, one or two a trial), and what they come to, as columns of their own."""
    made = Session(tmp_path / "s.nwb")
    tags, ends = ["good", "good", "fast", "bad"], [0, 1, 3, 3, 3, 3, 4, 4, 4, 4]
    made.put_table(
        cue_time=made.cue, since_start=made.cue - made.start, contrast_left=LEFT, contrast_right=RIGHT,
        side=alternate("left", "right"), tags=tags, tags_index=np.uint8(ends),
        is_good=np.isin(np.arange(N_TRIALS), [1, 2]), lick_times=np.arange(20.0).reshape(N_TRIALS, 2),
        contrast=np.round(RIGHT - LEFT, 3),
    )  # fmt: skip
    return made


def rates(session, **how):
    found = read_conditions(session.path, **READ | {"by": ["side"], "align": "cue_time"} | how)
    return found["rate"].values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"where": "'good' in tags"}, {"where": "is_good"}),
        ({"where": "'good' not in tags"}, {"where": "not is_good"}),
        ({"where": "7 in lick_times or lick in lick_times", "columns": {"lick": "1 * 12"}}, {"where": "id in (3, 6)"}),
        ({"columns": {"d": "contrast_right - contrast_left"}, "by": ["d"]}, {"by": ["contrast"]}),
        ({"columns": {"d": "contrast_right - contrast_left"}, "where": "d >= 0.1"}, {"where": "contrast >= 0.1"}),
        ({"where": "contrast_right - contrast_left == 0.1"}, {"where": "contrast == 0.1"}),
        ({"columns": {"cue": "start_time + since_start"}, "align": "cue"}, {}),
        ({"columns": {"a": "since_start + 1", "cue": "a + start_time - 1"}, "align": "cue"}, {}),
        (
            {"columns": {"end": "stop_time - 0.2", "go": "cue_time"}, "align": "go", "within": ("start_time", "end")},
            {"columns": {"end": "start_time + 1.3"}, "within": ("start_time", "end")},
        ),
        ({"columns": {"kind of": "contrast > 0"}, "by": ["kind of"]}, {"by": [{"contrast": [-1, 0.05, 1]}]}),
    ],
)
def test_they_are_what_columns_of_the_file_are(session, one, other):
    np.testing.assert_allclose(rates(session, **one), rates(session, **other), rtol=1e-6)


def test_several_tables_have_them_too(session):
    rows = slice(0, 5)
    session.put_table("intervals/first", rows, cue_time=session.cue[rows], tags=["a", "b"], tags_index=[0, 1, 1, 2, 2])
    session.put_table("intervals/second", slice(5, 10), cue_time=session.cue[5:], tags=alternate("a", "c")[5:])
    how = READ | {"align": "late", "columns": {"late": "cue_time + 0.1"}, "table": ["second", "first"]}
    found = read_trials(session.path, where="'a' in tags", **how)
    assert found["trial"].values.tolist() == [1, 6, 8]
    np.testing.assert_allclose(found["late"], session.cue[[1, 6, 8]] + 0.1)
    np.testing.assert_array_equal(found["count"], read_trials(session.path, where="id in (1, 6, 8)", **how)["count"])


def test_trials_keep_them_beside_all_columns(session):
    found = read_trials(session.path, align="cue_time", columns={"d": "contrast_right / contrast_left"}, **READ)
    assert found["d"].dims == ("trial",)
    assert np.isnan(found["d"].values).tolist() == (LEFT == 0).tolist()
    assert found["side"].values.tolist() == alternate("left", "right")
    assert found.attrs["columns"] == ["d = contrast_right / contrast_left"]


def test_missing_values_drop_trials_and_are_counted(session):
    found = read_conditions(
        session.path, by=["d"], columns={"d": "contrast_right / contrast_left > 0.5"}, align="cue_time", **READ
    )
    assert found.attrs["n_trials_dropped_by"] == (LEFT == 0).sum()
    assert found.attrs["columns"] == ["d = contrast_right / contrast_left > 0.5"]


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ({"side": "1"}, NWBError, "column 'side' already"),
        ({"id": "1"}, NWBError, "column 'id' already"),
        ({"d": "contrast_middle + 1"}, NWBError, "no column 'contrast_middle'"),
        ({"d": "side + 1"}, NWBError, "side holds texts"),
        ({"d": "tags"}, NWBError, "'good' in tags"),
        ({"d": "side.upper()"}, ContractError, "columns, d: .* is refused"),
        ({"d": "2 ** 9"}, ContractError, "is refused"),
        ({"": "1"}, ContractError, "name"),
        ({"d": 1}, ContractError, "columns"),
        (["side"], ContractError, "columns"),
    ],
)
def test_wrong_columns_are_refused(session, columns, error, words):
    with pytest.raises(error, match=words):
        rates(session, columns=columns)
