"""Whoever computes, and whoever dies meanwhile, the table is the same; what is finished is not run again."""

import os
import pickle
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info

import nwb_lint as nl
from nwb_lint.errors import ContractError, WorkerError
from nwb_lint.parallel import sweep as module
from nwb_lint.parallel.sweep import _scattered, _spool, _unspool, open_executor, plain, sweep
from nwb_lint.validation import rank

OPTIONS = {"tau_s": 0.1, "ranks": [1, 2], "folds": 3, "method": "regression"}


def square(data, *, factor):
    return {"y": np.asarray(data) * factor}


def threads(data):
    return {"threads": np.array([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])}


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster():
    """A client of a local Dask cluster of two processes."""
    import logging

    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
        distributed.Client(local) as client,
    ):
        client.wait_for_workers(2)
        yield client


@pytest.fixture
def activity(truth):
    return truth(neurons=12, conditions=12).activity


@pytest.fixture
def counted(monkeypatch):
    """How many fits were begun; a number in ``stop_after`` interrupts the one after it."""
    counter = {"fits": 0, "stop_after": None}

    def fit(*args, **options):
        if counter["fits"] == counter["stop_after"]:
            raise KeyboardInterrupt
        counter["fits"] += 1
        return nl.fit_lint(*args, **options)

    monkeypatch.setattr(rank, "fit_lint", fit)
    return counter


def test_results_come_in_the_order_of_the_cells_and_data_are_taken_one_at_a_time():
    taken = []

    def jobs():
        for k in range(3):
            taken.append(k)
            yield np.arange(k + 1.0), [{"factor": f} for f in (1, 2)]

    found = sweep(square, jobs())
    assert [len(one["y"]) for one in found] == [1, 1, 2, 2, 3, 3]
    with ThreadPoolExecutor(3) as executor:
        again = sweep(square, jobs(), executor=executor)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a["y"], b["y"])


class Bytes(Executor):
    """An executor of another kind: what it is given travels as bytes, whose number is kept."""

    def __init__(self):
        self.sizes = []

    def submit(self, fn, /, *args, **options):
        sent = pickle.dumps((fn, args, options))
        self.sizes.append(len(sent))
        fn, args, options = pickle.loads(sent)
        future = Future()
        future.set_result(fn(*args, **options))
        return future


@pytest.mark.parametrize("fold_by_fold", [False, True])
def test_data_travel_once_and_not_with_every_cell(activity, monkeypatch, fold_by_fold):
    executor, spooled, before = Bytes(), [], _unspool.cache_info().misses
    monkeypatch.setattr(module, "_spool", lambda *given: spooled.append(1) or _spool(*given))
    given = (lambda train: activity) if fold_by_fold else activity
    table = nl.select_rank(given, executor=executor, **OPTIONS)
    xr.testing.assert_identical(table, nl.select_rank(activity, **OPTIONS))
    assert len(executor.sizes) == 6
    assert max(executor.sizes) < activity.nbytes / 10
    assert len(spooled) == _unspool.cache_info().misses - before == (3 if fold_by_fold else 1)


@pytest.mark.parametrize("cv_over", ["condition", "neuron"])
def test_every_executor_gives_the_same_table(activity, cluster, cv_over):
    table = nl.select_rank(activity, cv_over=cv_over, **OPTIONS)
    with ThreadPoolExecutor(2) as executor:
        xr.testing.assert_identical(nl.select_rank(activity, cv_over=cv_over, executor=executor, **OPTIONS), table)
    for executor in (cluster, cluster.get_executor()):
        found = nl.select_rank(activity, cv_over=cv_over, executor=executor, **OPTIONS)
        xr.testing.assert_allclose(found, table, atol=1e-6)
        assert found.attrs == table.attrs


def test_a_process_pool_gives_the_same_table_and_one_that_dies_is_told_in_one_line(activity, tmp_path):
    table = nl.select_rank(activity, **OPTIONS)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = nl.select_rank(activity, executor=executor, cache_dir=tmp_path, **OPTIONS)
        xr.testing.assert_allclose(found, table, atol=1e-6)
        assert len(list(tmp_path.iterdir())) == 6  # six finished cells, and no data left behind
        kill(executor._processes)
        for _ in range(2):  # a pool that has just lost its process, and one that knows it
            with pytest.raises(WorkerError, match="after 0 finished cells") as caught:
                nl.select_rank(activity, executor=executor, **OPTIONS | {"folds": 6})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("victims", [1, 2])
def test_a_killed_worker_loses_nothing(truth, cluster, victims, tmp_path, monkeypatch):
    """Two victims take the scattered data with them, so that they have to be sent again."""
    activity = truth(neurons=40, conditions=48).activity
    options = OPTIONS | {"ranks": [1, 2, 3], "seeds": 2}
    whole = nl.select_rank(activity, executor=cluster, **options)
    sent = []
    monkeypatch.setattr(module, "_scattered", lambda *given: sent.append(1) or _scattered(*given))
    cluster.wait_for_workers(2)
    pids, finished, over = sorted(cluster.run(os.getpid).values()), [], threading.Event()

    def strike():
        while not over.wait(0.01):
            if len(list(tmp_path.glob("*.npz"))) >= 2:
                kill(pids[:victims])
                finished.append(len(list(tmp_path.glob("*.npz"))))
                return

    thread = threading.Thread(target=strike)
    thread.start()
    table = nl.select_rank(activity, executor=cluster, cache_dir=tmp_path, **options)
    over.set()
    thread.join()
    assert 2 <= finished[0] < 18
    assert len(sent) >= victims
    xr.testing.assert_identical(table, whole)
    cluster.wait_for_workers(2)
    assert not set(pids[:victims]) & set(cluster.run(os.getpid).values())


def test_a_stopped_sweep_goes_on(activity, counted, tmp_path):
    counted["stop_after"] = 4
    with pytest.raises(KeyboardInterrupt):
        nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 4
    counted |= {"fits": 0, "stop_after": None}
    table = nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS)
    assert counted["fits"] == 2
    xr.testing.assert_identical(table, nl.select_rank(activity, **OPTIONS))
    counted["fits"] = 0
    xr.testing.assert_identical(nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS), table)
    assert counted["fits"] == 0
    next(tmp_path.iterdir()).write_bytes(b"half a file")
    xr.testing.assert_identical(nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS), table)
    assert counted["fits"] == 1


@pytest.mark.parametrize(
    ("change", "options", "refits"),
    [
        ({}, {}, 0),
        ({}, {"ranks": [2, 3, 1]}, 3),
        ({}, {"max_iter": 7}, 6),
        ({}, {"tau_s": 0.2}, 6),
        ({}, {"folds": 2}, 4),
        ({"activity": 2}, {}, 6),
        ({"input": 2}, {}, 6),
    ],
)
def test_other_data_or_options_are_other_cells(activity, counted, tmp_path, change, options, refits):
    nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS)
    other = activity.copy(deep=True)
    for name, factor in change.items():
        other[name] = other[name].dims, other[name].values * factor
    counted["fits"] = 0
    nl.select_rank(other, cache_dir=tmp_path, **OPTIONS | options)
    assert counted["fits"] == refits


def test_a_hash_is_of_the_content(activity):
    text = activity.assign_coords(note=("neuron", np.array(["a"] * 12, object)))
    again = pickle.loads(pickle.dumps(text.assign_coords(note=("neuron", np.array(["a"] * 12)))))
    a, b = plain(text), plain(again)
    assert a["variables"].keys() == b["variables"].keys()
    np.testing.assert_array_equal(a["variables"]["note"][1], b["variables"]["note"][1])


def test_linear_algebra_gets_its_share_of_the_processors():
    """Two threads that compute share the processors; a worker process is told how many it may use."""
    share = max(1, (os.cpu_count() or 1) // 2)
    with ThreadPoolExecutor(2) as executor:
        found = sweep(threads, [(None, [{}, {}])], executor=executor)
    assert all((one["threads"] <= share).all() for one in found)
    assert (module._cell(threads, module._Held(None), {}, 1)["threads"] == 1).all()
    np.testing.assert_array_equal(sweep(threads, [(None, [{}])])[0]["threads"], threads(None)["threads"])


def test_errors_of_cells_reach_the_caller_whoever_computes(activity, cluster):
    for executor in (None, cluster):
        with pytest.raises(ContractError, match="magic"):
            nl.select_rank(activity, executor=executor, **OPTIONS | {"method": "magic"})


def test_wrong_executors_are_told():
    with pytest.raises(ContractError, match="executor is a str"):
        sweep(square, [(np.ones(1), [{"factor": 1}])], executor="dask")
    with pytest.raises(ContractError, match="choose one"), open_executor(2, "127.0.0.1:1"):
        pass
    with open_executor(1) as executor:
        assert executor is None


def test_without_dask_workers_are_a_process_pool(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with open_executor(2) as executor:
        assert isinstance(executor, ProcessPoolExecutor)


def test_the_bar_counts_cells(activity, capsys):
    nl.select_rank(lambda train: activity, progress=True, **OPTIONS)
    assert "6/6" in capsys.readouterr().err
    with ThreadPoolExecutor(2) as executor:
        sweep(square, [(np.ones(1), [{"factor": 1}] * 4)], executor=executor, progress=True)
    assert "4/4" in capsys.readouterr().err
