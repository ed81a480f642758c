"""Times that cannot be in the session are refused, left out or warned of; sound times are read without a word."""

from __future__ import annotations

import re
import warnings

import h5py
import numpy as np
import pytest

from nwb_lint import read_conditions, read_trials
from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.suggest import suggest
from tests.nwb.layouts import write_plain
from tests.nwb.oracle import slow_counts

N = 20
START = 2.0 + 3.0 * np.arange(N) + np.random.default_rng(3).uniform(0, 0.2, N)
CUE = START + 0.4 + np.random.default_rng(4).uniform(0, 0.2, N)
SIDE = ["left", "right"] * (N // 2)
HOW = {"align": "cue_time", "window_s": (-0.3, 0.5), "bin_s": 0.2}
ROWS = np.arange(N)


def trains(end: float = 65.0, rates=(9, 14, 20)):
    rng = np.random.default_rng(1)
    return [np.sort(rng.uniform(0, end, int(end * rate))) for rate in rates]


@pytest.fixture
def write(tmp_path):
    def build(spikes=None, **columns):
        table = {"start_time": START, "stop_time": START + 1.5, "cue_time": CUE, "side": SIDE} | columns
        return write_plain(tmp_path / "s.nwb", trains() if spikes is None else spikes, **table)

    return build


def refused_alike(path, words, **how):
    """Both readers, inspect and the suggestion say it."""
    with pytest.raises(NWBError, match=words):
        read_trials(path, **HOW | how)
    with pytest.raises(NWBError, match=words):
        read_conditions(path, **HOW | how, by="side")
    assert any(words_in(words, text) for text in describe(path, spikes=True).warnings)


def words_in(words, text):
    return re.search(words, text) is not None


def in_silence(call, *args, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call(*args, **how)


SINCE = CUE - START
RELATIVE = {
    "since the start": (
        SINCE,
        r"cue_time is far outside of its own trial in 19 of 20.*relative.*t\.start_time \+ t\.cue_time",
    ),
    "with gaps": (np.where(ROWS % 3, SINCE, np.nan), r"in 13 of 13.*relative"),
    "the same in all rows": (np.full(N, 0.5), "relative"),
    "in milliseconds": (1000 * SINCE, r"relative.*milliseconds.*start_time \+ cue_time / 1000"),
    "of the session, in milliseconds": (1000 * CUE, r"as if it were in milliseconds.*cue_time / 1000"),
    "of the session, in samples": (30000 * CUE, r"in samples of 30 kHz.*cue_time / 30000"),
    "of no clock": (np.random.default_rng(0).permutation(CUE), "does not rise as they do"),
}


@pytest.mark.parametrize("name", RELATIVE)
def test_events_of_another_clock_are_refused_with_the_call_that_would_be_right(write, name):
    values, words = RELATIVE[name]
    refused_alike(write(cue_time=values), words)


@pytest.mark.parametrize("argument", [{"within": ("start_time", "go")}, {"warp": ("cue_time", "go")}])
def test_limits_and_second_events_are_checked_too(write, argument):
    path = write(go=SINCE + 0.5)
    with pytest.raises(NWBError, match=r'go is far outside.*relative.*Pass "start_time \+ go" in (within|warp)'):
        read_trials(path, **HOW | argument)


def test_the_result_of_a_function_is_checked_too(write):
    path = write(cue_time=SINCE)
    with pytest.raises(NWBError, match=r"result of <lambda> is far outside.*t\.start_time"):
        read_trials(path, **HOW | {"align": lambda t: t.cue_time})
    found = in_silence(read_trials, path, **HOW | {"align": lambda t: t.start_time + t.cue_time})
    np.testing.assert_array_equal(found["count"], slow_counts(trains(), CUE, (-0.3, 0.5), 0.2)[0])


SOUND = {
    "shortly before the start": START - 0.5,
    "after the stop": START + 2.0,
    "of the next trial": np.append(START[1:], np.nan),
    "of the trial before": np.append(np.nan, CUE[:-1]),
    "of selected rows alone": np.where(ROWS % 2, CUE, np.nan),
    "zero in the first trial": np.where(ROWS, START - 0.5, 0.0),
}


@pytest.mark.parametrize("name", SOUND)
def test_events_near_their_trial_are_read_in_silence(write, name):
    values = SOUND[name]
    found = in_silence(read_trials, write(cue_time=values), **HOW)
    kept = np.isfinite(values)
    np.testing.assert_array_equal(found["count"], slow_counts(trains(), values[kept], (-0.3, 0.5), 0.2)[0])
    assert found.attrs["n_trials_dropped_placeholder"] == 0


def test_columns_of_other_order_and_rows_are_read_in_silence(write):
    order = np.argsort(SIDE, kind="stable")
    path = write(start_time=START[order], stop_time=START[order] + 1.5, cue_time=CUE[order], side=sorted(SIDE))
    in_silence(read_trials, path, **HOW)
    assert describe(path).warnings == []
    path = write(start_time=np.zeros(N), stop_time=np.full(N, 64.0))  # rows say nothing; the cues do
    in_silence(read_trials, path, **HOW)
    assert describe(path).warnings == []


@pytest.mark.parametrize("value", [0.0, -1.0, -9999.0, 999.0, 1e9, -0.0])
@pytest.mark.parametrize("n", [5, 12])
def test_numbers_that_stand_for_none_are_left_out_and_counted(write, value, n):
    there = ~np.isin(ROWS, np.arange(n) * 20 // n)
    path = write(cue_time=np.where(there, CUE, value))
    with pytest.warns(
        UserWarning, match=rf"cue_time is {re.escape(f'{value + 0.0:g}')} in {n} of 20 trials.*missing time.*left out"
    ):
        found = read_trials(path, **HOW)
    np.testing.assert_array_equal(found["count"], slow_counts(trains(), CUE[there], (-0.3, 0.5), 0.2)[0])
    assert found.attrs["n_trials_dropped_placeholder"] == n
    assert found.attrs["n_trials_dropped_align"] == 0
    assert f"in {n} of 20" in found.attrs["placeholders"][0]
    assert any("missing time" in text for text in describe(path).warnings)
    assert suggest(path)["align"] == "cue_time"


@pytest.mark.parametrize("argument", [{"within": ("start_time", "go")}, {"warp": ("cue_time", "go")}])
def test_limits_and_second_events_that_stand_for_none_are_left_out(write, argument):
    there = ROWS % 4 > 0
    path = write(go=np.where(there, CUE + 0.6, -1.0))
    with pytest.warns(UserWarning, match="go is -1 in 5 of 20"):
        found = read_trials(path, **HOW | argument)
    assert found["trial"].values.tolist() == ROWS[there].tolist()
    assert found.attrs["n_trials_dropped_placeholder"] == 5


def test_starts_that_stand_for_none_are_left_out(write):
    unset = np.isin(ROWS, [4, 9])
    path = write(start_time=np.where(unset, 0.0, START))
    with pytest.warns(UserWarning, match=r"start_time is 0 in 2 of 20"):
        found = read_trials(path, **HOW | {"align": "start_time"})
    np.testing.assert_array_equal(found["count"], slow_counts(trains(), START[~unset], (-0.3, 0.5), 0.2)[0])


def test_a_tenth_of_the_times_elsewhere_are_warned_of(write):
    cue_time = CUE.copy()
    cue_time[[3, 7, 11]] = cue_time[[15, 17, 0]]
    with pytest.warns(UserWarning, match="far outside of its own trial in 3 of 20"):
        found = read_trials(write(cue_time=cue_time), **HOW)
    assert found.sizes["trial"] == N


def test_trials_that_all_start_at_once_are_refused(write):
    path = write(start_time=np.zeros(N), stop_time=np.full(N, 1.5), cue_time=SINCE)
    refused_alike(path, "all 20 trials start at 0 s.*relative")
    refused_alike(write(start_time=-0.1 * SINCE, stop_time=np.full(N, 1.5), cue_time=SINCE), "at the same time")
    with pytest.raises(NWBError, match="relative"):
        suggest(path)


def test_trials_that_start_over_are_refused_or_warned_of(write):
    start = np.tile(START[: N // 2], 2)
    columns = {
        "start_time": start,
        "stop_time": start + 1.5,
        "cue_time": start + 0.5,
        "block": np.repeat([1, 2], N // 2),
    }
    path = write(**columns)
    refused_alike(path, r"start times start over 1 times, first from 29\.\d+ to 2\.")
    in_silence(read_trials, path, **HOW, where="block == 1")
    with pytest.warns(UserWarning, match="start over"):  # as far as is known, these may be two streams of events
        read_trials(write(spikes=trains(33.0), **columns), **HOW)
    merged = [np.concatenate([times, times + 0.01]) for times in trains(33.0)]
    with pytest.raises(NWBError, match=r"unit 0 start over .* while trials start over too"):
        read_trials(write(spikes=merged, **columns), **HOW)


def test_spikes_that_start_over_are_found_before_a_call_is_suggested(write):
    spikes = trains()
    spikes[1] = np.concatenate([spikes[1][: len(spikes[1]) // 2]] * 2)
    path = write(spikes=spikes)
    refused_alike(path, "unit 1 start over")
    assert describe(path).suggestion == {}
    assert describe(path).units.n_spikes == [len(times) for times in spikes]
    with pytest.raises(NWBError, match="unit 1 start over"):
        suggest(path)


@pytest.mark.parametrize("factor", [1e3, 3e4])
def test_all_times_in_other_units_are_refused(write, factor):
    spikes = [np.round(times * factor) for times in trains()]
    path = write(spikes=spikes, start_time=START * factor, stop_time=(START + 1.5) * factor, cue_time=CUE * factor)
    words = "milliseconds or samples.*units fire below.*intervals between spikes.*trials last.*whole numbers"
    refused_alike(path, words)
    path = write(
        spikes=[times * factor for times in trains(33)], start_time=START[:10] * factor, cue_time=CUE[:10] * factor,
        stop_time=(START[:10] + 1.5) * factor, side=SIDE[:10],
    )  # fmt: skip
    if factor == 1e3:  # half a minute, not whole numbers: it could be a slow unit in a long recording
        with pytest.warns(UserWarning, match="milliseconds or samples"):
            read_trials(path, **HOW)


def test_slow_units_long_trials_and_long_recordings_are_read_in_silence(write):
    rng = np.random.default_rng(2)
    slow = [np.sort(rng.uniform(0, 65, 5)), np.sort(rng.uniform(0, 65, 12))]
    in_silence(read_trials, write(spikes=slow), **HOW)
    start = 4e4 * np.arange(10)
    bursts = [np.sort((rng.uniform(0, 4e5, 300)[:, None] + np.arange(4) * 0.01).ravel()) for _ in range(3)]
    path = write(spikes=bursts, start_time=start, stop_time=start + 3e4, cue_time=start + 5, side=SIDE[:10])
    in_silence(read_trials, path, **HOW | {"window_s": (0, 1000), "bin_s": 100.0})
    units = [np.sort(rng.uniform(0, 4e5, 40000 // 2)) for _ in range(2)] + bursts[:1]  # a spike in 20 s, four days
    path = write(spikes=units, start_time=start, stop_time=start + 3e4, cue_time=start + 5, side=SIDE[:10])
    in_silence(read_trials, path, **HOW | {"window_s": (0, 1000), "bin_s": 100.0})


def test_a_series_in_milliseconds_is_warned_of(write):
    path = write(start_time=START * 1e3, stop_time=(START + 1.5) * 1e3, cue_time=CUE * 1e3)
    with h5py.File(path, "r+") as file:
        file["acquisition/dff/data"] = np.ones((40_000, 2))
        file["acquisition/dff/timestamps"] = 33.0 * np.arange(40_000)
    with pytest.warns(UserWarning, match=r"milliseconds or samples: samples are 33 s apart, trials last 1500 s"):
        read_trials(path, **HOW | {"window_s": (0, 66), "bin_s": 66.0}, series="acquisition/dff")


def test_zeros_among_times_since_the_start_are_warned_of_if_they_stand_out(write):
    path = write(cue_time=np.where(ROWS % 5, SINCE, 0.0))
    with pytest.warns(UserWarning, match="cue_time is 0 in 4 of 20 trials, and at least 0.4.*where="):
        read_trials(path, **HOW | {"align": "start_time + cue_time"})
    in_silence(read_trials, path, **HOW | {"align": "start_time + cue_time", "where": "cue_time != 0"})
    path = write(cue_time=np.where(ROWS % 5, SINCE - 0.4, 0.0))
    in_silence(read_trials, path, **HOW | {"align": "start_time + cue_time"})


def test_times_since_the_trial_before_are_not_called_those_of_the_trial(write):
    path = write(cue_time=CUE - np.append(0, START[:-1]))
    with pytest.raises(NWBError, match="does not rise as they do"):
        read_trials(path, **HOW)
