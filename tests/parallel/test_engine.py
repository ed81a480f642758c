"""Results are the same on any executor, whichever worker dies; finished tasks are not run again."""

import os
import pickle
import shutil
import signal
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from time import perf_counter, sleep

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_info

import nwb_lint as nl
from nwb_lint.errors import ContractError, NWBError, WorkerError
from nwb_lint.model.fit import fit_with_options
from nwb_lint.parallel.engine import run_all, run_tasks
from nwb_lint.parallel.executors import open_executor
from nwb_lint.parallel.store import Store, content_hash
from nwb_lint.parallel.tasks import Outcome, is_task
from nwb_lint.parallel.warnings import collect_warnings, warn
from nwb_lint.validation import folds
from tests import networks

OPTIONS = {"tau_s": 0.1, "ranks": [1, 2], "folds": 3, "method": "regression"}


def square(data, *, factor):
    return {"y": np.asarray(data) * factor}


def threads(data):
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def small_only(data):
    """Warns of the parity, and fails from 3 on."""
    warn(f"{data} is {'odd' if data % 2 else 'even'}")
    warn("of every task")
    if data > 2:
        raise NWBError(f"{data} is too large")
    return {"y": np.array(data)}


def leave(data, *, folder):
    """Leave a file with the number of the task."""
    (folder / str(data[0])).touch()
    return {"y": np.asarray(data)}


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
        client.wait_for_workers(2, timeout=120)
        yield client


@pytest.fixture(scope="module")
def activity():
    return networks.build(neurons=12, conditions=12).activity


@pytest.fixture(scope="module")
def by_condition(activity):
    """The table of the ranks, computed in this process."""
    return nl.select_rank(activity, **OPTIONS)


@pytest.fixture(scope="module")
def finished(activity, tmp_path_factory):
    """A folder of its six finished tasks."""
    folder = tmp_path_factory.mktemp("finished")
    nl.select_rank(activity, cache_dir=folder, **OPTIONS)
    return folder


@pytest.fixture
def counted(monkeypatch):
    """How many fits were begun; a number in ``stop_after`` interrupts the one after it."""
    counter = {"fits": 0, "stop_after": None}

    def fit(*args, **options):
        if counter["fits"] == counter["stop_after"]:
            raise KeyboardInterrupt
        counter["fits"] += 1
        return fit_with_options(*args, **options)

    monkeypatch.setattr(folds, "fit_with_options", fit)
    return counter


class Bytes(Executor):
    """An executor of another kind: what it is given travels as bytes, whose number is kept."""

    def __init__(self):
        self.sizes = []

    def submit(self, fn, /, *args, **options):
        sent = pickle.dumps((fn, args, options))
        self.sizes.append(len(sent))
        fn, args, options = pickle.loads(sent)
        future = Future()
        try:
            future.set_result(fn(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Backwards(ThreadPoolExecutor):
    """Every five tasks end in the opposite order: each waits for the next."""

    def __init__(self):
        super().__init__(5)
        self.ended, self.n = [threading.Event() for _ in range(20)], 0

    def submit(self, fn, /, *args):
        k, self.n = self.n, self.n + 1

        def work():
            result = fn(*args)
            assert k % 5 == 4 or self.ended[k + 1].wait(20)
            self.ended[k].set()
            return result

        return super().submit(work)


@contextmanager
def every_kind():
    """This process, threads of it, an executor that ends in the opposite order, and one that sends bytes."""
    with ThreadPoolExecutor(3) as pool:
        yield [{}, {"threads": 3}, {"executor": pool}, {"executor": Bytes()}]


def test_results_come_in_order_whatever_runs_the_tasks():
    tasks = [(np.arange(k + 1.0), {"factor": f}) for k in range(3) for f in (1, 2)]
    with every_kind() as kinds:
        for how in kinds:
            found = run_all(square, iter(tasks), **how)
            for one, (data, options) in zip(found, tasks, strict=True):
                np.testing.assert_array_equal(one["y"], data * options["factor"])


def test_tasks_are_taken_one_at_a_time_in_this_process():
    taken = []

    def tasks():
        for k in range(5):
            taken.append(k)
            yield np.ones(k), {"factor": 1}

    for position, _ in run_tasks(square, tasks()):
        assert taken == list(range(position + 1))


class Counted:
    """Data that count how often they are packed and unpacked."""

    packed = unpacked = 0

    def __init__(self, values):
        self.values = values

    def __array__(self, *args, **options):
        return self.values

    def __getstate__(self):
        type(self).packed += 1
        return self.values

    def __setstate__(self, values):
        type(self).unpacked += 1
        self.values = values


@pytest.mark.parametrize("pieces", [1, 3])
def test_data_of_several_tasks_travel_once(pieces, monkeypatch):
    monkeypatch.setattr(Counted, "packed", 0)
    monkeypatch.setattr(Counted, "unpacked", 0)
    executor = Bytes()
    data = [Counted(np.ones(50_000)) for _ in range(pieces)]
    run_all(square, ((one, {"factor": f}) for one in data for f in range(6)), executor=executor)
    assert len(executor.sizes) == 6 * pieces
    assert max(executor.sizes) < data[0].values.nbytes / 10
    assert Counted.packed == Counted.unpacked == pieces


def test_large_data_of_one_task_do_not_wait_in_memory():
    executor = Bytes()
    run_all(square, [(np.ones(200_000), {"factor": 1}), (np.ones(10), {"factor": 1})], executor=executor)
    assert max(executor.sizes) < 10_000


@pytest.mark.parametrize("fold_by_fold", [False, True])
def test_a_table_is_the_same_by_bytes(activity, by_condition, fold_by_fold):
    executor = Bytes()
    given = (lambda train: activity) if fold_by_fold else activity
    table = nl.select_rank(given, executor=executor, **OPTIONS)
    xr.testing.assert_identical(table, by_condition)
    assert len(executor.sizes) == 6
    assert max(executor.sizes) < activity.nbytes / 10


def test_warnings_come_back_in_the_order_of_the_tasks_and_once(tmp_path):
    with every_kind() as kinds:
        for how in (*kinds, *({"cache_dir": tmp_path} for _ in range(2))):  # run, then read from the folder
            with pytest.warns(UserWarning, match="is|of") as caught:
                run_all(small_only, [(1, {}), (2, {}), (1, {})], **how)
            assert [str(one.message) for one in caught] == ["1 is odd", "of every task", "2 is even"]
            assert {one.filename for one in caught} == {__file__}


def test_what_fits_in_workers_warn_of_reaches_the_caller(activity, cluster):
    marked = activity.assign_coords(day=("condition", np.arange(12)))
    options = OPTIONS | {"initial": "day"}
    for executor in (None, cluster):
        with pytest.warns(UserWarning, match="held-out conditions"):
            nl.select_rank(marked, executor=executor, **options)


def test_the_failure_that_is_raised_is_the_first_in_order():
    tasks = [(k, {}) for k in (1, 2, 3, 4, 5)]
    with every_kind() as kinds, Backwards() as backwards:
        for how in (*kinds, {"executor": backwards}):
            with pytest.raises(NWBError, match=r"^3 is"), collect_warnings() as messages:
                run_all(small_only, tasks, **how)
            assert messages[:4] == ["1 is odd", "of every task", "2 is even", "3 is odd"]


def test_errors_that_are_skipped_are_outcomes(tmp_path):
    with every_kind() as kinds:
        for how in kinds:
            with collect_warnings():
                found = dict(run_tasks(small_only, [(5, {}), (1, {})], errors="skip", cache_dir=tmp_path, **how))
            assert "too large" in str(found[0].error)
            assert found[1].result["y"] == 1
    assert len(list(tmp_path.iterdir())) == 1  # failures are not kept
    with pytest.raises(TypeError):
        run_all(square, [(1, {"wrong": 2}), (1, {"factor": 2})], errors="skip")


def test_ctrl_c_is_for_the_whole_run():
    assert not is_task()
    assert run_all(inside, [(None, {}), (None, {})]) == [True, True]
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(is_task).result()


def inside(data):
    return is_task()


@pytest.mark.parametrize("cv_over", ["condition", "neuron"])
def test_every_executor_gives_the_same_table(activity, cluster, cv_over):
    table = nl.select_rank(activity, cv_over=cv_over, **OPTIONS)
    with ThreadPoolExecutor(2) as executor:
        xr.testing.assert_identical(nl.select_rank(activity, cv_over=cv_over, executor=executor, **OPTIONS), table)
    for executor in (cluster, cluster.get_executor()):
        found = nl.select_rank(activity, cv_over=cv_over, executor=executor, **OPTIONS)
        xr.testing.assert_allclose(found, table, atol=1e-6)
        assert found.attrs == table.attrs


def test_a_process_pool_gives_the_same_table_and_says_when_it_dies(activity, by_condition, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = nl.select_rank(activity, executor=executor, cache_dir=tmp_path, **OPTIONS)
        xr.testing.assert_allclose(found, by_condition, atol=1e-6)
        assert len(list(tmp_path.iterdir())) == 6  # six finished tasks, and no data left behind
        kill(executor._processes)
        for _ in range(2):  # a pool that has just lost its process, and one that knows it
            with pytest.raises(WorkerError, match="after 0 finished tasks"):
                nl.select_rank(activity, executor=executor, **OPTIONS | {"folds": 6})


@pytest.fixture(scope="module")
def whole(cluster):
    """An activity, options of 18 fits of it, and what a cluster that loses no worker finds."""
    activity = networks.build(neurons=24, conditions=24).activity
    options = OPTIONS | {"ranks": [1, 2, 3], "seeds": 2}
    return activity, options, nl.select_rank(activity, executor=cluster, **options)


@pytest.mark.parametrize("victims", [1, 2])
def test_a_killed_worker_loses_nothing(whole, cluster, victims, tmp_path, monkeypatch):
    """Two killed workers take the data with them, so that these have to be sent again."""
    activity, options, table_of_whole = whole
    sent, scatter = [], cluster.scatter
    monkeypatch.setattr(cluster, "scatter", lambda *given, **options: sent.append(1) or scatter(*given, **options))
    cluster.wait_for_workers(2, timeout=120)
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
    xr.testing.assert_identical(table, table_of_whole)
    cluster.wait_for_workers(2, timeout=120)
    assert not set(pids[:victims]) & set(cluster.run(os.getpid).values())


def test_a_stopped_run_does_only_the_rest(activity, by_condition, counted, tmp_path):
    counted["stop_after"] = 4
    with pytest.raises(KeyboardInterrupt):
        nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 4
    counted |= {"fits": 0, "stop_after": None}
    table = nl.select_rank(activity, cache_dir=tmp_path, **OPTIONS)
    assert counted["fits"] == 2
    xr.testing.assert_identical(table, by_condition)
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
        ({"u": 2}, {}, 6),
    ],
)
def test_other_data_or_options_are_other_tasks(activity, finished, counted, tmp_path, change, options, refits):
    folder = shutil.copytree(finished, tmp_path / "tasks")
    other = activity.copy(deep=True)
    for name, factor in change.items():
        other[name] = other[name].dims, other[name].values * factor
    nl.select_rank(other, cache_dir=folder, **OPTIONS | options)
    assert counted["fits"] == refits


def test_a_kept_result_with_a_damaged_name_is_computed_again(tmp_path):
    store = Store(tmp_path, sum)
    path = store.path(1, {})
    store.save(path, Outcome({"first": np.arange(3.0)}, None, ["a warning"]))
    assert store.load(path).warnings == ["a warning"]
    content = path.read_bytes()
    for old in (b"first.npy", b"_warnings.npy"):
        path.write_bytes(content.replace(old, b"x" + old[1:]))
        assert store.load(path) is None


def test_a_hash_is_of_the_content(activity):
    text = activity.assign_coords(note=("neuron", np.array(["a"] * 12, object)))
    again = pickle.loads(pickle.dumps(activity.assign_coords(note=("neuron", np.array(["a"] * 12)))))
    assert content_hash(text) == content_hash(again)
    again["activity"].values[0, 0, 0] += 1
    assert content_hash(text) != content_hash(again)


def test_linear_algebra_gets_its_share_of_the_processors():
    """Two threads that compute share the processors; a worker process has a limit too."""
    share = max(1, (os.cpu_count() or 1) // 2)
    with ThreadPoolExecutor(2) as executor:
        found = run_all(threads, [(None, {})] * 2, executor=executor)
    assert max(map(max, found)) <= share
    assert set(run_all(threads, [(None, {})], executor=Bytes())[0]) == {1}
    assert run_all(threads, [(None, {})])[0] == threads(None)


def test_errors_of_tasks_reach_the_caller_whoever_computes(activity, cluster):
    for executor in (None, cluster):
        with pytest.raises(ContractError, match="magic"):
            nl.select_rank(activity, executor=executor, **OPTIONS | {"method": "magic"})


def test_wrong_executors_are_errors(tmp_path):
    with pytest.raises(ContractError, match=r"executor.*str"):
        run_all(square, [(np.ones(1), {"factor": 1})], executor="dask")
    with pytest.raises(ContractError, match=r"workers.*Dask"), open_executor(2, "127.0.0.1:1"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ContractError, match=r"cache_dir.*folder"):
        run_all(square, [(np.ones(1), {"factor": 1})], cache_dir=tmp_path / "file")
    with open_executor(1) as executor:
        assert executor is None


def test_a_cluster_runs_tasks_while_the_data_of_later_ones_are_prepared(cluster, tmp_path):
    def tasks():
        for k in range(4):
            until = perf_counter() + 30
            while k > 1 and not (tmp_path / str(k - 2)).exists():
                assert perf_counter() < until, f"task {k - 2} did not run before the data of task {k} were prepared"
                sleep(0.02)
            yield [k], {"folder": tmp_path}

    found = dict(run_tasks(leave, tasks(), executor=cluster))
    assert [int(found[k].result["y"][0]) for k in range(4)] == [0, 1, 2, 3]


def test_without_dask_workers_are_a_process_pool(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with open_executor(2) as executor:
        assert isinstance(executor, ProcessPoolExecutor)


def test_the_progress_bar_counts_tasks(activity, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in range(2):  # run, then read from the folder
        nl.select_rank(lambda train: activity, progress=True, cache_dir=tmp_path, **OPTIONS)
        assert "6/6" in capsys.readouterr().err
    with ThreadPoolExecutor(2) as executor:
        run_all(square, [(np.ones(1), {"factor": 1})] * 4, executor=executor, progress=True)
    assert "4/4" in capsys.readouterr().err
