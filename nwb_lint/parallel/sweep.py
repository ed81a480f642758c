"""Cells of a sweep (rank × fold × seed × session) run anywhere: data sent once, finished cells kept on disk.

The only room that knows Dask. A *cell* is one call of a module-level function on one piece of shared data,
``work(data, **options)`` → arrays by name; a sweep is many cells on few pieces of data. Whoever computes, the results
come back in the order of the cells.

============================================  ===================================  =============================
executor                                      the data                             a worker that dies
============================================  ===================================  =============================
None                                          stay here                            –
``ThreadPoolExecutor``                        stay here                            –
``dask.distributed`` client, its executor     scattered, once a worker             its cells run elsewhere
any other ``concurrent.futures.Executor``     one file each, read once a process   `WorkerError`; kept cells stay
============================================  ===================================  =============================
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.metadata import version
from logging import CRITICAL
from multiprocessing import parent_process
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import xarray as xr
from joblib import hash as digest
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from nwb_lint.errors import ContractError, WorkerError

Result = dict[str, np.ndarray]
Work = Callable[..., Result]
Job = tuple[Any, list[dict[str, Any]]]  # shared data, and the options of every cell on it
Batch = tuple[Any, list[tuple[int, dict[str, Any]]]]  # the same, each cell with its place in the sweep

_SWEEPING: ContextVar[bool] = ContextVar("sweeping", default=False)
ROUNDS = 10  # times that data lost with a worker are sent again
FAILED = "failed"  # a result that has this is of a cell that could not be computed: it is not kept, but tried again
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Spooled(NamedTuple):
    """Data in a file, read once by every process; ``parent`` is the process that wrote it."""

    path: str
    parent: int


class _Held(NamedTuple):
    """Data as they are; the wrapping keeps Dask from looking inside."""

    data: Any


def sweep(
    work: Work,
    jobs: Iterable[Job],
    *,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    label: str = "cells",
    total: int | None = None,
) -> list[Result]:
    """Run every cell of every job, and return the results in their order.

    Args:
        work: a function at the top level of a module, ``work(data, **options)`` → arrays by name.
        jobs: pairs of data (a Dataset or a tuple of them) and the options of each cell on them; taken one at a time, so
            a generator need not hold all data at once where this process computes.
        executor: who computes (see the table above): a `concurrent.futures.Executor`, a `dask.distributed.Client`, or
            None. Each worker's linear algebra gets its share of the processors and no more.
        cells: folder where finished cells are kept, one file each, under a hash of data, options, ``work`` and the
            version of this package: the same sweep started again reads them and runs what is missing. An executor
            whose workers are on other machines needs a folder that they see (Dask does not).
        progress: show a progress bar, under this label, of ``total`` cells (None = of those met so far).

    Raises: WorkerError when workers are lost for good; whatever ``work`` raises.
    """
    with sweeping():
        return _swept(work, jobs, executor, cache_dir, progress, label, total)


@contextmanager
def sweeping() -> Iterator[None]:
    """Fits made meanwhile are parts of something larger, which Ctrl-C is to end."""
    token = _SWEEPING.set(True)
    try:
        yield
    finally:
        _SWEEPING.reset(token)


def alone() -> bool:
    """Whether a fit is all that runs, so that Ctrl-C may end it with its best: in the main thread of a process that no
    other began, and outside of sweeps.
    """
    return not _SWEEPING.get() and current_thread() is main_thread() and parent_process() is None


def _swept(
    work: Work,
    jobs: Iterable[Job],
    executor: Any,
    cache_dir: str | Path | None,
    progress: bool,
    label: str,
    total: int | None,
) -> list[Result]:
    store = _Store(Path(cache_dir), work) if cache_dir is not None else None
    results: dict[int, Result] = {}
    with tqdm(disable=not progress, desc=label, unit="cell", total=total or 0) as bar:

        def open_batches() -> Iterator[Batch]:
            place = 0
            for data, options in jobs:
                batch = list(enumerate(options, start=place))
                place += len(options)
                bar.total = max(bar.total, place)
                if store is not None:
                    for k, found in store.lookup(data, batch):
                        results[k] = found
                        bar.update()
                batch = [(k, one) for k, one in batch if k not in results]
                if batch:
                    yield data, batch

        with closing(_engine(executor, work, open_batches(), cache_dir)) as finished:
            for k, result in finished:
                results[k] = {name: np.asarray(value) for name, value in result.items()}
                if store is not None and FAILED not in result:
                    store.keep(k, results[k])
                bar.update()
    return [results[k] for k in sorted(results)]


def _engine(
    executor: Any, work: Work, batches: Iterator[Batch], cache_dir: str | Path | None
) -> Generator[tuple[int, Result], None, None]:
    """(place, result) of every cell as it is finished."""
    if executor is None:
        return ((k, work(data, **options)) for data, batch in batches for k, options in batch)
    if type(executor).__module__.split(".")[0] == "distributed":
        return _on_dask(executor, work, batches)
    if not isinstance(executor, Executor):
        raise ContractError(
            f"executor is a {type(executor).__name__}; it needs to be a concurrent.futures.Executor, a "
            "dask.distributed.Client, or None."
        )
    return _in_pool(executor, work, batches, cache_dir)


def _in_pool(
    executor: Executor, work: Work, batches: Iterator[Batch], cache_dir: str | Path | None
) -> Generator[tuple[int, Result], None, None]:
    here = isinstance(executor, ThreadPoolExecutor)
    threads = max(1, (os.cpu_count() or 1) // max(1, getattr(executor, "_max_workers", os.cpu_count() or 1)))
    places: dict[Future, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix=".data-", dir=cache_dir) as folder,
        threadpool_limits(threads if here else None),
    ):
        done: set[Future] = set()
        try:
            for number, (data, batch) in enumerate(batches):
                shared = _Held(data) if here else _spool(data, Path(folder) / str(number))
                for k, options in batch:
                    places[executor.submit(_cell, work, shared, options, None if here else threads)] = k
            for future in as_completed(places):
                result = future.result()
                done.add(future)
                yield places[future], result
        except BrokenExecutor:
            for future in set(places) - done:
                if future.done() and not future.cancelled() and future.exception() is None:
                    done.add(future)
                    yield places[future], future.result()
            raise _lost(len(done), "a worker process died (killed, or out of memory)") from None
        finally:
            for future in places:
                future.cancel()


def _on_dask(executor: Any, work: Work, batches: Iterator[Batch]) -> Generator[tuple[int, Result], None, None]:
    """Data that are lost with the last worker that held them cancel their cells: both are sent once more."""
    from distributed import KilledWorker
    from distributed import as_completed as completed

    client = getattr(executor, "_client", executor)  # what client.get_executor() wraps
    asked = getattr(executor, "_kwargs", {}) | {"pure": False}
    pieces: list[Any] = []
    left: dict[int, tuple[int, dict[str, Any]]] = {}
    for data, batch in batches:
        left |= {k: (len(pieces), options) for k, options in batch}
        pieces.append(data)
    total = len(left)
    for _ in range(ROUNDS):
        places: dict[Any, int] = {}
        try:
            sent = _scattered(client, pieces, {number for number, _ in left.values()})
            for k, (number, options) in left.items():
                places[client.submit(_cell, work, sent[number], options, 1, **asked)] = k
            for future in completed(list(places)):
                k = places.pop(future)  # let go of, so that it is not run again when a worker takes it along
                try:
                    result = future.result()
                except CancelledError:
                    continue
                del left[k]
                yield k, result
        except KilledWorker as error:
            raise _lost(total - len(left), f"one cell lost {error.allowed_failures + 1} workers") from None
        finally:
            client.cancel(list(places))
        if not left:
            return
    raise _lost(total - len(left), f"workers that held the data died {ROUNDS} times")


def _scattered(client: Any, pieces: list[Any], numbers: set[int]) -> dict[int, Any]:
    """The pieces of these numbers, sent to every worker."""
    try:
        return {n: client.scatter([_Held(pieces[n])], broadcast=True, hash=False)[0] for n in sorted(numbers)}
    except (OSError, TimeoutError) as error:
        raise WorkerError(
            f"the Dask cluster takes no data ({' '.join(str(error).split())}); see whether it has workers that run."
        ) from None


def _cell(work: Work, shared: _Spooled | _Held, options: dict[str, Any], threads: int | None) -> Result:
    """One cell, where a worker runs it, with ``threads`` for linear algebra (None = as set already)."""
    if isinstance(shared, _Held):
        data = shared.data
    else:
        if os.getpid() != shared.parent:  # libraries that are not loaded yet read these when they are
            for name in _THREAD_VARIABLES:
                os.environ.setdefault(name, str(threads or 1))
        data = _unspool(shared.path)
    with threadpool_limits(threads):
        return work(data, **options)


def _spool(data: Any, path: Path) -> _Spooled:
    with path.open("wb") as file:
        pickle.dump(data, file, protocol=pickle.HIGHEST_PROTOCOL)
    return _Spooled(str(path), os.getpid())


@lru_cache(maxsize=2)
def _unspool(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        raise WorkerError(
            f"a worker finds no {path}, which holds the data; give cache_dir= a folder that every worker sees."
        ) from None


def _lost(done: int, why: str) -> WorkerError:
    return WorkerError(
        f"{why} after {done} finished cells; run it again with a folder for finished cells (cache_dir=, --cache-dir): "
        "those are then not run twice."
    )


class _Store:
    """Finished cells in a folder: ``<hash>.npz``, written beside and renamed; one that cannot be read is not there."""

    def __init__(self, folder: Path, work: Work) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, f"{work.__module__}.{work.__qualname__} {version('nwb_lint')}"
        self.paths: dict[int, Path] = {}

    def lookup(self, data: Any, batch: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, Result]]:
        """Those cells of a batch that are finished already."""
        known = digest(plain(data), hash_name="sha1")
        for k, options in batch:
            key = digest((self.name, known, plain(options)), hash_name="sha1")
            self.paths[k] = self.folder / f"{key}.npz"
            try:
                with np.load(self.paths[k], allow_pickle=False) as file:
                    found = {name: file[name] for name in file.files}
            except (OSError, EOFError, ValueError, KeyError, BadZipFile):
                continue
            yield k, found

    def keep(self, k: int, result: Result) -> None:
        """Write one finished cell."""
        path = self.paths[k]
        beside = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                np.savez(file, **result)  # type: ignore[arg-type]
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """What a hash is taken of: Datasets as dicts of arrays, text as fixed-width text, whatever library holds it."""
    if isinstance(value, xr.Dataset):
        arrays = {str(k): (v.dims, plain(v.values)) for k, v in value.variables.items()}
        return {"variables": arrays, "attrs": plain(value.attrs)}
    if isinstance(value, np.ndarray):
        return value.astype(str) if value.dtype.kind in "OT" else np.ascontiguousarray(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(v) for v in value)
    return value


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes begun meanwhile do not hear Ctrl-C, which a terminal sends to all: the one that began them decides."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def open_executor(workers: int = 1, dask: str | None = None) -> Iterator[Any]:
    """Who computes, for the command line: the cluster at ``dask``, or ``workers`` processes of this machine, or None.

    Processes are a local Dask cluster where Dask is installed (the extra ``dask``: cells of a worker that dies run
    again), and a `ProcessPoolExecutor` where it is not.

    Raises: ContractError when both are asked for, Dask is asked for and not installed, or nothing answers there.
    """
    if dask is None and workers == 1:
        yield None
        return
    if dask is not None and workers > 1:
        raise ContractError(f"{workers} workers of this machine and the cluster at {dask} were asked for; choose one.")
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        if dask is not None:
            raise ContractError(
                "a Dask cluster was asked for and Dask is not installed; pip install 'nwb_lint[dask]'."
            ) from None
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        deaf = (signal.SIGINT, signal.SIG_IGN)
        with ProcessPoolExecutor(workers, get_context("spawn"), signal.signal, deaf) as pool:
            yield pool
        return
    if dask is None:
        options = {
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": "127.0.0.1:0",
            "silence_logs": CRITICAL,
        }
        try:
            with _deaf_children():
                cluster = LocalCluster(n_workers=workers, **options)
        except (RuntimeError, OSError) as error:
            told = " ".join(str(error).split())
            raise WorkerError(f"{workers} worker processes could not be started ({told}); ask for fewer.") from None
        with cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(dask, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise ContractError(f"no Dask scheduler answers at {dask} ({told}); give host:port of one that runs.") from None
    with client:
        yield client
