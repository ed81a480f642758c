"""`map_in_order` has the order and the numbers of a plain loop, and BLAS is afterwards as it was before."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info, threadpool_limits

import nwb_lint as nl
from nwb_lint.parallel.threads import map_in_order, one_blas_thread
from nwb_lint.testing import mock_activity


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    with threadpool_limits(request.param, user_api="blas"):
        yield request.param


def test_parts_come_in_order_and_blas_is_as_it_was(threads):
    before = blas_threads()
    seen = []
    for k, limits in map_in_order(lambda k: (k, blas_threads()), range(20)):
        assert set(limits) == {1}
        seen.append(k)
    assert seen == list(range(20))
    assert blas_threads() == before


def test_as_many_work_at_once_as_blas_had():
    barrier = Barrier(3, timeout=20)  # broken unless three are there at a time
    with threadpool_limits(3, user_api="blas"):
        assert len(list(map_in_order(lambda _: barrier.wait(), range(3)))) == 3


def test_work_within_work_stays_on_its_thread():
    def outer(_):
        return get_ident(), set(map_in_order(lambda _: get_ident(), range(5)))

    with threadpool_limits(2, user_api="blas"):
        for mine, inner in map_in_order(outer, range(4)):
            assert inner == {mine}


def test_an_error_comes_out_and_leaves_no_limit(threads):
    before = blas_threads()

    def work(k):
        if k == 3:
            raise ValueError("the fourth")
        return k

    with pytest.raises(ValueError, match="the fourth"):
        list(map_in_order(work, range(10)))
    assert blas_threads() == before


def test_the_last_to_leave_lifts_the_limit():
    with threadpool_limits(2, user_api="blas"):
        first, second = one_blas_thread(), one_blas_thread()
        assert first.__enter__() == second.__enter__() == 2
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert set(blas_threads()) == {2}


def test_numpy_errstate_holds_in_every_thread(threads):
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        list(map_in_order(lambda k: np.float32(1e38) * np.float32(k), range(1, 9)))


@pytest.mark.parametrize("options", [{"rank": 1, "max_iter": 5}, {"rank": None}, {"rank": 2, "method": "regression"}])
def test_a_fit_is_the_same_to_the_last_bit_on_any_number_of_threads(options, monkeypatch):
    monkeypatch.setattr("nwb_lint.model.regression.MOMENT_CHUNK_NEURONS", 1)  # several parts even of a small fit
    monkeypatch.setattr("nwb_lint.model.scores.SCORE_BLOCK_VALUES", 2_000)
    monkeypatch.setattr("nwb_lint.model.network.FREE_RUN_MIN_CONDITIONS", 2)
    monkeypatch.setattr("nwb_lint.model.network.FREE_RUN_VALUES", 1)
    activity = mock_activity(n_neurons=20, n_conditions=16)

    def fit(_=None):
        return nl.fit_lint(activity, tau_s=0.1, **options)

    with threadpool_limits(1, user_api="blas"):
        alone = fit()
    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(2) as pool:
        for found in (fit(), *pool.map(fit, range(2))):
            xr.testing.assert_identical(found, alone)
