"""Warnings of work in other threads and processes: collected there, given where the work was started.

Python's own warning filters are shared by all threads, and a worker process has others than its caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def warn(message: str, stacklevel: int = 2) -> None:
    """Warn, or add to the messages that `collect_warnings` gathers in this thread or worker."""
    collected = _COLLECTED.get()
    if collected is None:
        warnings.warn(message, stacklevel=stacklevel + 1)
    else:
        collected.append(message)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the messages of `warn` in a list instead of warning.

    Example:
        >>> with collect_warnings() as collected:
        ...     warn("spike times are not in order")
        >>> collected
        ['spike times are not in order']
    """
    collected: list[str] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)
