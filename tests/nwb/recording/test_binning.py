"""Counting compiled and by numpy: the same binning, bit by bit, and those of a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_lint.nwb.recording import binning
from nwb_lint.nwb.recording.binning import EDGE_S, Bins, add_spikes_numpy, count_windows, make_windows
from tests.nwb.oracle import slow_counts

compiled = pytest.importorskip("nwb_lint.nwb.recording._count", reason="no C compiler was there on installation")
# a grid of 1 ms, where edges of bins lie, and EDGE_S before it, where edges of windows lie in floats
TIMES = st.integers(-2000, 6000).map(lambda k: k / 1000) | st.floats(-2, 6, allow_nan=False)
TIMES = TIMES | TIMES.map(lambda t: t - EDGE_S) | st.floats(-1e9, 1e9)


@st.composite
def windows_and_spikes(draw):
    """Sorted spikes, and windows that may overlap, of several groups, of all bins or of some."""
    spikes = np.sort(np.array(draw(st.lists(TIMES, max_size=40)), float))
    origins = draw(st.lists(TIMES.filter(lambda t: abs(t) < 10), min_size=1, max_size=8))
    groups = draw(st.lists(st.integers(0, 2), min_size=len(origins), max_size=len(origins)))
    bins = draw(st.sampled_from([Bins(-0.5, 0.005, 200), Bins(0.1, 0.1, 3), Bins(-1.0, 2.0, 1), Bins(-3.0, 1e-5, 7)]))
    runs = None
    if draw(st.booleans()):  # of observed bins, none or one in each trial
        pairs = st.tuples(st.integers(0, bins.n), st.integers(0, bins.n)).map(sorted)
        first, last = np.array(draw(st.lists(pairs, min_size=len(origins), max_size=len(origins)))).T
        kept = np.flatnonzero(last > first)
        runs = kept, first[kept], last[kept]
    return spikes, make_windows(np.array(origins), np.array(groups), 3, bins, runs)


@given(windows_and_spikes())
def test_compiled_counts_are_those_of_numpy(case):
    spikes, (starts, ends, adds, per_s, seen, _) = case
    found = np.full((2, seen.size), 5, np.int32)  # added to what is there
    compiled.add_spikes(spikes, starts, ends, adds, per_s, found[0])
    add_spikes_numpy(spikes, starts, ends, adds, per_s, found[1])
    np.testing.assert_array_equal(*found)
    inside = [int(((spikes >= low) & (spikes < high)).sum()) for low, high in zip(starts, ends, strict=True)]
    assert found[0].sum() == 5 * found[0].size + sum(inside)
    assert (found[0].reshape(seen.shape)[seen == 0] == 5).all()  # none in bins that nothing saw


@pytest.mark.parametrize("add_spikes", [compiled.add_spikes, add_spikes_numpy], ids=["compiled", "numpy"])
@given(
    st.lists(st.integers(-1000, 4000).map(lambda k: k / 1000), max_size=30).map(sorted),
    st.lists(st.tuples(st.integers(0, 3000).map(lambda k: k / 1000), st.integers(0, 1)), min_size=1, max_size=6),
)
def test_both_count_what_a_slow_loop_counts(add_spikes, spikes, trials):
    origins, groups = (np.array(part) for part in zip(*trials, strict=True))
    slow, _ = slow_counts([spikes], origins.tolist(), (-0.2, 0.8), 0.05)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(binning, "add_spikes", add_spikes)
        found = count_windows(np.array(spikes), make_windows(origins, groups, 2, Bins(-0.2, 0.05, 20)))
    expected = [slow[groups == g, :, 0].sum(axis=0) for g in range(2)]
    np.testing.assert_array_equal(found.spikes, expected)
    np.testing.assert_array_equal(found.trials, np.bincount(groups, minlength=2))
    np.testing.assert_array_equal(found.seen, np.repeat(found.trials[:, None], 20, axis=1))


def test_compiled_counting_refuses_what_is_not_as_it_needs():
    one, two, sums = np.zeros(1), np.zeros(2), np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="equally many"):
        compiled.add_spikes(one, one, two, one, 1.0, sums)
    with pytest.raises((BufferError, ValueError)):
        compiled.add_spikes(np.zeros(4)[::2], one, one, one, 1.0, sums)
    sums.flags.writeable = False
    with pytest.raises((BufferError, TypeError, ValueError)):
        compiled.add_spikes(one, one, one, one, 1.0, sums)
    odd = np.array([-np.inf, -1e300, -5.0, 0.0, 1.0, 7.0, 1e300, np.inf])
    for low, high, add, expected in (
        (-5.0, 8.0, 5.0, [0, 0, 0]), (-9.0, -3.0, 0.0, [0, 0, 0]), (-np.inf, np.inf, 0.0, [0, 0, 0]),
        (np.nan, 2.0, 0.0, [0, 0, 0]), (0.0, 2.0, 0.0, [1, 1, 0]), (0.0, 2.0, 1.0, [0, 1, 1]),
    ):  # fmt: skip
        sums = np.zeros(3, np.int32)  # windows that lie beyond are passed over
        compiled.add_spikes(odd, np.array([low]), np.array([high]), np.array([add]), 1.0, sums)
        assert sums.tolist() == expected


def test_lists_and_whole_numbers_are_counted_too():
    windows = make_windows(np.array([0.0]), np.array([0]), 1, Bins(0, 1.0, 3))
    for spikes in ([0, 1, 1], np.array([0, 1, 1]), np.array([0, 9, 1, 9, 1, 9], float)[::2]):
        assert count_windows(spikes, windows).spikes.tolist() == [[1, 2, 0]]
