"""What runs tasks: this process, an executor, or a Dask cluster. No other module imports Dask."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache
from itertools import groupby
from logging import CRITICAL
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, NamedTuple

from threadpoolctl import threadpool_limits

from nwb_lint.errors import ContractError, WorkerError, one_line
from nwb_lint.parallel.tasks import Outcome, Task, Work, attempt

Finished = Generator[tuple[int, Outcome], None, None]

ROUNDS = 10  # how often data that were lost with a worker are sent again
SMALL = 1 << 20  # bytes: data of a single task up to this size travel with it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def start(executor: Any, work: Work, tasks: Iterator[Task], threads: int, folder: str | Path | None = None) -> Finished:
    """Run tasks on an executor, or on threads of this process; positions and outcomes as they finish.

    ``folder`` is where files with data are put for other processes; None is the folder for temporary files.
    """
    if executor is None and threads <= 1:
        return ((task.position, attempt(work, task.data, task.options)) for task in tasks)
    if executor is None:
        return _on_new_threads(threads, work, tasks)
    if type(executor).__module__.split(".")[0] == "distributed":
        return _on_dask(executor, work, tasks)
    if isinstance(executor, ThreadPoolExecutor):
        return _on_threads(executor, work, tasks)
    if isinstance(executor, Executor):
        return _on_processes(executor, work, tasks, folder)
    raise ContractError(
        f"executor is a {type(executor).__name__}. It needs a concurrent.futures.Executor, a dask.distributed.Client, "
        "or None."
    )


def _on_new_threads(threads: int, work: Work, tasks: Iterator[Task]) -> Finished:
    with ThreadPoolExecutor(threads) as executor:
        yield from _as_submitted({_submit_here(executor, work, task): task.position for task in tasks})


def _on_threads(executor: ThreadPoolExecutor, work: Work, tasks: Iterator[Task]) -> Finished:
    with threadpool_limits(_share(executor)):
        yield from _as_submitted({_submit_here(executor, work, task): task.position for task in tasks})


def _submit_here(executor: ThreadPoolExecutor, work: Work, task: Task) -> Future[Outcome]:
    return executor.submit(copy_context().run, attempt, work, task.data, task.options)


def _as_submitted(futures: dict[Future[Outcome], int]) -> Finished:
    """Outcomes as they finish; what has not begun is cancelled when the caller stops."""
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _on_processes(executor: Executor, work: Work, tasks: Iterator[Task], folder: str | Path | None) -> Finished:
    threads, done = _share(executor), set()
    futures: dict[Future[Outcome], int] = {}
    with tempfile.TemporaryDirectory(prefix=".data-", dir=folder) as shared:
        try:
            for task, packed in _packed(tasks, Path(shared)):
                futures[executor.submit(_attempt_there, work, packed, task.options, threads)] = task.position
            for position, outcome in _as_submitted(futures):
                done.add(position)
                yield position, outcome
        except BrokenExecutor:
            for future, position in futures.items():
                if position not in done and future.done() and not future.cancelled() and not future.exception():
                    done.add(position)
                    yield position, future.result()
            raise _lost(len(done), "a worker process died: it was killed, or memory was short") from None


def _share(executor: Executor) -> int:
    """Threads for the linear algebra of one worker."""
    available = os.cpu_count() or 1
    return max(1, available // max(1, getattr(executor, "_max_workers", available)))


class _Pickled(NamedTuple):
    """Small data of a single task."""

    content: bytes


class _InFile(NamedTuple):
    """Data in a file, read once by every process; ``parent`` is the process that wrote it."""

    path: str
    parent: int


def _sharing(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    """Tasks in a row that have the same data."""
    return (list(group) for _, group in groupby(tasks, key=lambda task: id(task.data)))


def _packed(tasks: Iterator[Task], folder: Path) -> Iterator[tuple[Task, _Pickled | _InFile]]:
    """Tasks with their data ready to travel. Only tasks in a row with the same object are held at a time."""
    for number, sharing in enumerate(_sharing(tasks)):
        path = folder / str(number)
        path.touch(0o600)
        with path.open("wb") as file:
            pickle.dump(sharing[0].data, file, protocol=pickle.HIGHEST_PROTOCOL)
        packed: _Pickled | _InFile = _InFile(str(path), os.getpid())
        if len(sharing) == 1 and path.stat().st_size <= SMALL:
            packed = _Pickled(path.read_bytes())
            path.unlink()
        for task in sharing:
            yield task._replace(data=None), packed


def _attempt_there(work: Work, packed: _Pickled | _InFile, options: dict[str, Any], threads: int) -> Outcome:
    """One task in a worker process, with ``threads`` for linear algebra."""
    if isinstance(packed, _Pickled):
        data = pickle.loads(packed.content)
    else:
        if os.getpid() != packed.parent:
            for name in _THREAD_VARIABLES:  # libraries that are loaded later read these
                os.environ.setdefault(name, str(threads))
        data = _read_packed(packed.path)
    with threadpool_limits(threads):
        return attempt(work, data, options)


@lru_cache(maxsize=2)
def _read_packed(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        raise WorkerError(
            f"A worker does not find {path}, the file with its data. Give as cache_dir a folder that every worker sees."
        ) from None


class _AsItIs(NamedTuple):
    """Data for Dask: the wrapping keeps Dask from looking inside."""

    data: Any


def _on_dask(executor: Any, work: Work, tasks: Iterator[Task]) -> Finished:
    """Dask runs the tasks of a lost worker again. Data that are lost with all workers that held them are sent again.

    Tasks run while the data of later ones are prepared.
    """
    from distributed import KilledWorker
    from distributed import as_completed as completed

    client = getattr(executor, "_client", executor)  # what client.get_executor() wraps
    options = getattr(executor, "_kwargs", {}) | {"pure": False}
    left: dict[int, Task] = {}
    total = 0
    for _ in range(ROUNDS):
        positions: dict[Any, int] = {}
        try:
            for sharing in _sharing(tasks):
                left |= {task.position: task for task in sharing}
                data = _scattered(client, sharing[0].data, to_all=len(sharing) > 1)
                for task in sharing:
                    positions[client.submit(_attempt_on_dask, work, data, task.options, **options)] = task.position
            total = max(total, len(left))
            for future in completed(list(positions)):
                k = positions.pop(future)  # so that Dask does not run it again when a worker takes it along
                try:
                    outcome = future.result()
                except CancelledError:
                    continue
                del left[k]
                yield k, outcome
        except KilledWorker as error:
            raise _lost(total - len(left), f"one task lost {error.allowed_failures + 1} workers") from None
        finally:
            client.cancel(list(positions))
        if not left:
            return
        tasks = iter(list(left.values()))
    raise _lost(total - len(left), f"workers that held the data died {ROUNDS} times")


def _scattered(client: Any, data: Any, *, to_all: bool) -> Any:
    """Data, sent to one worker, or to every one."""
    try:
        return client.scatter([_AsItIs(data)], broadcast=to_all, hash=False)[0]
    except (OSError, TimeoutError) as error:
        raise WorkerError(f"The Dask cluster takes no data ({one_line(error)}). See whether its workers run.") from None


def _attempt_on_dask(work: Work, sent: _AsItIs, options: dict[str, Any]) -> Outcome:
    with threadpool_limits(1):
        return attempt(work, sent.data, options)


def _lost(n_done: int, why: str) -> WorkerError:
    return WorkerError(
        f"Workers were lost after {n_done} finished tasks ({why}). Use fewer workers if memory is short. "
        "With a cache_dir (--cache-dir), finished fits are not run again."
    )


@contextmanager
def open_executor(workers: int = 1, dask: str | None = None) -> Iterator[Any]:
    """The executor that a command line asks for.

    Parameters
    ----------
    workers : int, default=1
        Processes of this machine; 1 is this process (the executor is then None). They are a local Dask cluster where
        Dask is installed, which runs the tasks of a lost worker again, and a `ProcessPoolExecutor` where it is not.
    dask : str or None, default=None
        ``host:port`` of the scheduler of a Dask cluster that runs already.

    Yields
    ------
    concurrent.futures.Executor or dask.distributed.Client or None

    Raises
    ------
    ContractError
        If both are given, if Dask is not installed, or if no scheduler answers.
    WorkerError
        If the processes cannot be started.
    """
    if dask is not None and workers > 1:
        raise ContractError(
            f"workers is {workers}, and a Dask cluster is at {dask}. Only one of them can compute. Choose."
        )
    if dask is not None:
        with _connected(dask) as client:
            yield client
    elif workers > 1:
        with _local_workers(workers) as executor:
            yield executor
    else:
        yield None


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise ContractError(
            "Dask is not installed, and a Dask cluster needs it. pip install 'nwb_lint[dask]'."
        ) from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        why = one_line(error) or type(error).__name__
        raise ContractError(
            f"No Dask scheduler answers at {address} ({why}). Give host:port of one that runs."
        ) from None
    with client:
        yield client


@contextmanager
def _local_workers(workers: int) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        ignored = (signal.SIGINT, signal.SIG_IGN)
        with ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, ignored) as pool:
            yield pool
        return
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    try:
        with _children_ignore_interrupts():
            cluster = LocalCluster(n_workers=workers, silence_logs=CRITICAL, **options)
    except (RuntimeError, OSError) as error:
        raise WorkerError(f"{workers} worker processes cannot be started ({one_line(error)}). Use fewer.") from None
    with cluster, Client(cluster) as client:
        yield client


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """A terminal sends Ctrl-C to all processes. Those started in this context ignore it: their parent decides."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
