"""Warnings that reach the person who called the package, whichever thread or process they come from.

Python's own warning filters are shared by all threads, and a worker process has other filters than its caller.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from nwb_lint.errors import printable

_PACKAGE = str(Path(__file__).parents[1])
_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def warn(message: str) -> None:
    """Warn at the line that called the package, or add the message to those that `collect_warnings` gathers."""
    message = printable(message)
    collected = _COLLECTED.get()
    if collected is None:
        warnings.warn(message, stacklevel=_level_outside())
    else:
        collected.append(message)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the messages of `warn` in a list instead of warning.

    Examples
    --------
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


def _level_outside() -> int:
    """How many frames `warn` is below the first one outside of the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
