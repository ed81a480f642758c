"""Threads that read, count and smooth side by side give what one loop gives, and end together where one fails."""

from threading import Barrier
from types import GeneratorType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.nwb.recording import averaging
from nwb_lint.nwb.recording.binning import Counts, smooth

N_CONDITIONS, N_BINS = 2, 6


def averaged(blocks, n_units, sd_bins, tally):
    """What `_Averager` makes of blocks of positions, where ``tally`` gives the counts of a position."""
    rate = np.full((1, N_CONDITIONS, N_BINS, n_units), -1, np.float32)

    def average(position, counts, out):
        out[0] = counts.spikes + position

    averaging._Averager(rate, sd_bins, average, ((b, lambda k, b=b: tally(b[k])) for b in blocks)).run()
    return rate[0]


def counts_of(position):
    spikes = np.random.default_rng(int(position)).integers(0, 9, (N_CONDITIONS, N_BINS))
    return Counts(spikes, np.ones((N_CONDITIONS, N_BINS)), np.ones(N_CONDITIONS))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))), st.data())
def test_units_in_any_order_blocks_and_buffers_are_a_loop_s(order, data):
    cuts = data.draw(st.lists(st.integers(0, len(order)), max_size=6).map(sorted))
    sd_bins, at_once, n_threads = data.draw(st.tuples(*map(st.sampled_from, ((0.0, 1.5), (1, 3, 7, 40), (2, 3)))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(averaging, "_BLOCK", at_once * N_CONDITIONS * N_BINS)
        patch.setattr(averaging, "_THREADS", n_threads)
        found = averaged(np.split(np.array(order), cuts), len(order), sd_bins, counts_of)
    plain = np.stack([counts_of(k).spikes + k for k in range(len(order))], axis=-1)
    np.testing.assert_allclose(found, smooth(plain, sd_bins, axis=1), rtol=1e-5, atol=1e-5)


def test_no_more_buffers_than_threads_and_one(monkeypatch):
    monkeypatch.setattr(averaging, "_BLOCK", N_CONDITIONS * N_BINS)
    made = []
    plain = averaging._Buffer
    monkeypatch.setattr(averaging, "_Buffer", lambda shape: made.append(shape) or plain(shape))
    averaged(np.arange(200)[:, None], 200, 0.0, counts_of)
    assert 1 <= len(made) <= averaging._THREADS + 1


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
        while position == 1 and not failed():
            pass
        done.append(position)
        return counts_of(position)

    def failed():
        return not isinstance(made[0]._pieces, GeneratorType)

    made = []
    with pytest.MonkeyPatch.context() as patch:
        run = averaging._Averager.run
        patch.setattr(averaging._Averager, "run", lambda self: made.append(self) or run(self))
        with pytest.raises(ValueError, match="bad"):
            averaged(np.arange(200)[:, None], 200, 1.0, tally)
    assert done == [1]


def test_an_error_while_reading_is_raised():
    def blocks():
        yield np.arange(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        averaged(blocks(), 200, 1.0, counts_of)


def test_threads_work_at_the_same_time():
    met, came = Barrier(averaging._THREADS, timeout=5), []

    def tally(position):
        if position < averaging._THREADS:
            came.append(met.wait())  # raises BrokenBarrierError unless another thread comes here meanwhile
        return counts_of(position)

    averaged(np.arange(20)[:, None], 20, 0.0, tally)
    assert sorted(came) == list(range(averaging._THREADS))
