"""One task: a call ``work(data, **options)`` and its outcome, a result or an error, with the warnings of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing import parent_process
from threading import current_thread, main_thread
from typing import Any, NamedTuple

from nwb_lint.errors import NWBLintError
from nwb_lint.parallel.warnings import collect_warnings, warn

Work = Callable[..., Any]
_IN_TASK: ContextVar[bool] = ContextVar("in_task", default=False)


class Task(NamedTuple):
    """A call of the work, and its position among all tasks of a run."""

    position: int
    data: Any
    options: dict[str, Any]


class Outcome(NamedTuple):
    """The result of a task, or the error that it ended with; and the messages of its warnings. It can be pickled."""

    result: Any
    error: NWBLintError | None
    warnings: list[str]


def attempt(work: Work, data: Any, options: dict[str, Any]) -> Outcome:
    """Run one task. An error of this package is an outcome; any other exception is raised."""
    with as_task(), collect_warnings() as messages:
        try:
            return Outcome(work(data, **options), None, messages)
        except NWBLintError as error:
            return Outcome(None, error, messages)


def result_of(outcome: Outcome) -> Any:
    """The result, after its warnings are given; or raise the error."""
    for message in outcome.warnings:
        warn(message)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


@contextmanager
def as_task() -> Iterator[None]:
    """Everything that runs in this context is a part of something larger; see `is_task`."""
    token = _IN_TASK.set(True)
    try:
        yield
    finally:
        _IN_TASK.reset(token)


def is_task() -> bool:
    """Whether the caller is a part of something larger: a task, another thread, or a worker process.

    Ctrl-C must then stop everything. A fit that runs alone may end with its best network instead.
    """
    return _IN_TASK.get() or current_thread() is not main_thread() or parent_process() is not None
