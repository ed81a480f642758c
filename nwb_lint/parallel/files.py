"""The same work over many files: on any executor, failures raised or kept, warnings said in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple

from nwb_lint.errors import NWBError, one_line
from nwb_lint.parallel.warnings import collect_warnings, warn

_MOST_THREADS = 8


class Outcome(NamedTuple):
    """Of one piece of work: its result, or why there is none, and what it warned of. Picklable."""

    result: Any
    error: NWBError | None
    told: list[str]


def spread(
    work: Callable[..., Any],
    tasks: Sequence[tuple],
    take: Callable[[int, Any], None],
    *,
    executor: Executor | None = None,
    errors: str = "raise",
    bar: str = "",
) -> dict[int, NWBError]:
    """Call ``take(k, work(*tasks[k]))`` for every task, in the order in which they end; the failures by k.

    ``work`` is a function of a module, and tasks and results are picklable, so that any
    `concurrent.futures.Executor` does; threads where there is none, and nothing else for a single task. A task
    starts with what it reads. ``bar`` is the text of a progress bar, none where empty.

    Raises: with ``errors="raise"`` the NWBError of the first task, in their order, that has one.
    """
    told: dict[int, list[str]] = {}
    failed: dict[int, NWBError] = {}
    with _pool(executor, len(tasks)) as pool, _bar(bar, len(tasks)) as advance:
        futures = {pool.submit(attempt, work, *task): k for k, task in enumerate(tasks)}
        try:
            for future in as_completed(list(futures)):
                k = futures.pop(future)
                result, error, told[k] = _outcome(future)
                if error is None:
                    take(k, result)
                else:
                    failed[k] = error
                advance()
                if error is not None and errors == "raise":
                    failed |= _failures_before(k, futures)
                    break
        finally:
            for future in futures:
                future.cancel()
    for k in sorted(told):
        for message in told[k]:
            warn(message)
    if failed and errors == "raise":
        raise failed[min(failed)]
    return {k: failed[k] for k in sorted(failed)}


def attempt(work: Callable[..., Any], *task: Any) -> Outcome:
    """What a task gives; what a file does not hold is an outcome, wrong arguments are raised."""
    with collect_warnings() as told:
        try:
            return Outcome(work(*task), None, told)
        except NWBError as error:
            return Outcome(None, error, told)
        except OSError as error:
            return Outcome(None, NWBError(f"{task[0]} cannot be read: {one_line(error)}. Try again."), told)


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise NWBError(
            f"a worker ended before its file was read ({one_line(error)}); use fewer workers if memory is short."
        ) from error


def _failures_before(k: int, futures: dict[Future[Outcome], int]) -> dict[int, NWBError]:
    """Failures of the tasks before k, awaited: which failure is raised depends on no timing."""
    found = {}
    for future, at in futures.items():
        if at < k and (error := _outcome(future).error) is not None:
            found[at] = error
    return found


class _Here(Executor):
    """An executor that does the work at once, where it is asked for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _pool(executor: Executor | None, n_tasks: int) -> Iterator[Executor]:
    if n_tasks == 1:
        yield _Here()
    elif executor is not None:
        yield executor
    else:
        with ThreadPoolExecutor(min(n_tasks, _MOST_THREADS)) as pool:
            yield pool


@contextmanager
def _bar(what: str, n: int) -> Iterator[Callable[[], Any]]:
    if not what:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=n, desc=what, unit="file") as bar:
        yield bar.update
