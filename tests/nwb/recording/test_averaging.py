"""Threads that read, count and smooth side by side give what one loop gives, and end together where one fails."""

from threading import Barrier
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.nwb.recording.averaging import average_blocks
from nwb_lint.nwb.recording.binning import Counts, smooth

N_CONDITIONS, N_BINS = 2, 6


def averaged(blocks, n_units, sd_bins, tally, **options):
    """What `average_blocks` makes of blocks of positions, where ``tally`` gives the counts of a position."""
    rate = np.full((1, N_CONDITIONS, N_BINS, n_units), -1, np.float32)
    counted = ((block, lambda k, block=block: tally(block[k])) for block in blocks)
    average_blocks(counted, plus_position, rate, sd_bins, **options)
    return rate[0]


def plus_position(position, counts, out):
    out[0] = counts.spikes + position


def counts_of(position):
    spikes = np.random.default_rng(int(position)).integers(0, 9, (N_CONDITIONS, N_BINS))
    return Counts(spikes, np.ones((N_CONDITIONS, N_BINS)), np.ones(N_CONDITIONS))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))), st.data())
def test_units_in_any_order_blocks_and_buffers_are_a_loop_s(order, data):
    cuts = data.draw(st.lists(st.integers(0, len(order)), max_size=6).map(sorted))
    sd_bins, at_once, n_threads = data.draw(st.tuples(*map(st.sampled_from, ((0.0, 1.5), (1, 3, 7, 40), (2, 3, 4)))))
    blocks, at_once = np.split(np.array(order), cuts), at_once * N_CONDITIONS * N_BINS
    found = averaged(blocks, len(order), sd_bins, counts_of, threads=n_threads, values_at_once=at_once)
    plain = np.stack([counts_of(k).spikes + k for k in range(len(order))], axis=-1)
    np.testing.assert_allclose(found, smooth(plain, sd_bins, axis=1), rtol=1e-5, atol=1e-5)
    alone = averaged(blocks, len(order), sd_bins, counts_of, threads=1, values_at_once=at_once)
    np.testing.assert_array_equal(found, alone)  # to the last bit


def test_no_more_buffers_than_threads_and_one():
    buffers = {}  # that units are averaged into, kept alive here, so that each has an address of its own

    def average(position, counts, out):
        buffers[id(out.base)] = out.base
        plus_position(position, counts, out)

    rate = np.empty((1, N_CONDITIONS, N_BINS, 200), np.float32)
    blocks = ((np.array([k]), lambda _, k=k: counts_of(k)) for k in range(200))
    average_blocks(blocks, average, rate, 0.0, threads=3, values_at_once=N_CONDITIONS * N_BINS)
    assert 1 <= len(buffers) <= 4


@pytest.mark.parametrize("bad", [0, 1, 57, 199])
def test_an_error_in_any_thread_ends_all_and_is_raised(bad):
    def tally(position):
        if position == bad:
            raise ValueError(f"unit {bad}")
        return counts_of(position)

    with pytest.raises(ValueError, match=f"unit {bad}"):
        averaged(np.arange(200)[:, None], 200, 1.0, tally)


def test_an_error_stops_the_thread_that_had_none():
    both = Barrier(2, timeout=5)  # so that each thread has a block, and one fails while the other is at work
    done = []

    def tally(position):
        if position < 2:
            both.wait()
        if position == 0:
            raise ValueError("bad")
        sleep(0.5)
        done.append(position)
        return counts_of(position)

    with pytest.raises(ValueError, match="bad"):
        averaged(np.arange(200)[:, None], 200, 1.0, tally, threads=2)
    assert done == [1]


def test_an_error_while_reading_is_raised():
    def blocks():
        yield np.arange(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        averaged(blocks(), 200, 1.0, counts_of)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_work_at_the_same_time(threads):
    met, came = Barrier(threads, timeout=5), []

    def tally(position):
        if position < threads:
            came.append(met.wait())  # raises BrokenBarrierError unless the other threads come here meanwhile
        return counts_of(position)

    averaged(np.arange(20)[:, None], 20, 0.0, tally, threads=threads)
    assert sorted(came) == list(range(threads))
