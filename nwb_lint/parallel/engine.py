"""`run_tasks`: tasks on any executor, outcomes as they finish; `run_all`: results in order. See `nwb_lint.parallel`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import closing
from pathlib import Path
from typing import Any

from nwb_lint.errors import NWBError, NWBLintError
from nwb_lint.parallel.executors import start
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.parallel.store import Store
from nwb_lint.parallel.tasks import Outcome, Task, Work
from nwb_lint.parallel.warnings import warn


def run_tasks(
    work: Work,
    tasks: Iterable[tuple[Any, dict[str, Any]]],
    *,
    executor: Any = None,
    threads: int = 1,
    cache_dir: str | Path | None = None,
    errors: str = "raise",
    skippable: type[NWBLintError] = NWBError,
    progress: bool = False,
    label: str = "tasks",
    total: int | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Run ``work(data, **options)`` for every task, and yield its position and outcome as tasks finish.

    Warnings of the tasks are given at the end, in the order of the tasks, each message once.

    Parameters
    ----------
    work : callable
        A function at the top level of a module. With ``cache_dir`` it returns a dict of arrays.
    tasks : iterable of (data, options)
        Data and keyword options of each call. Tasks in a row with the same data object share it. A generator is
        taken one task at a time, so it need not hold all data at once where this process computes.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the tasks; None is this process. Linear algebra gets its share of the processors in each worker.
    threads : int, default=1
        Threads of this process, where there is no executor.
    cache_dir : str or Path or None, default=None
        Folder for the results of finished tasks. A task with the same work, data, options and version of this
        package is read from there. Processes on other machines need a folder that they see too (Dask does not).
    errors : {"raise", "skip"}, default="raise"
        "raise" the error of the first task, in their order, that has one; or "skip": yield it as an outcome.
    skippable : type, default=NWBError
        The errors that "skip" is about. Others are raised.
    progress : bool, default=False
        Show a progress bar.
    label : str, default="tasks"
        Text of the progress bar.
    total : int or None, default=None
        Number of tasks, for the progress bar, where ``tasks`` is a generator.

    Yields
    ------
    tuple of int and Outcome
        Position of a task, and its outcome.

    Raises
    ------
    WorkerError
        If workers are lost for good.
    ContractError
        If the executor is of no known kind.

    Examples
    --------
    >>> dict(run_tasks(round, [(2.345, {"ndigits": 1}), (7.8, {})]))[0].result
    2.3
    """
    store = None if cache_dir is None else Store(cache_dir, work)
    paths: dict[int, Path] = {}
    cached: list[tuple[int, Outcome]] = []
    messages: dict[int, list[str]] = {}  # of every task that has finished
    failures: dict[int, NWBLintError] = {}
    total = len(tasks) if isinstance(tasks, Sized) else total

    def missing() -> Iterator[Task]:
        """The tasks that are not in the store; none after a failure."""
        for position, (data, options) in enumerate(tasks):
            if failures:
                return
            if store is not None:
                paths[position] = store.path(data, options)
                if (found := store.load(paths[position])) is not None:
                    cached.append((position, found))
                    messages[position] = found.warnings
                    bar.update()
                    continue
            yield Task(position, data, options)

    with (
        progress_bar(progress, label, total=total) as bar,
        closing(start(executor, work, missing(), min(threads, total or threads), cache_dir)) as finished,
    ):
        for position, outcome in finished:
            messages[position] = outcome.warnings
            bar.update()
            if outcome.error is None and store is not None:
                store.save(paths[position], outcome)
            if outcome.error is not None and not (errors == "skip" and isinstance(outcome.error, skippable)):
                failures[position] = outcome.error
            if not failures:
                yield from _emptied(cached)
                yield position, outcome
            elif all(k in messages for k in range(min(failures))):
                break  # which failure is raised depends on no timing
    for message in dict.fromkeys(message for k in sorted(messages) for message in messages[k]):
        warn(message)
    if failures:
        raise failures[min(failures)]
    yield from cached


def run_all(work: Work, tasks: Iterable[tuple[Any, dict[str, Any]]], **how: Any) -> list[Any]:
    """The results of all tasks, in their order. Arguments and errors are those of `run_tasks`.

    Examples
    --------
    >>> run_all(round, [(2.345, {"ndigits": 1}), (7.8, {})])
    [2.3, 8]
    """
    outcomes = dict(run_tasks(work, tasks, **how))
    return [outcomes[k].result for k in sorted(outcomes)]


def _emptied(cached: list[tuple[int, Outcome]]) -> Iterator[tuple[int, Outcome]]:
    while cached:
        yield cached.pop(0)
