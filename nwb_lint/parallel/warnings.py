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
from typing import NamedTuple

from nwb_lint.errors import printable

_PACKAGE = str(Path(__file__).parents[1])


class _Collector(NamedTuple):
    messages: list[str]
    pass_on: bool
    outer: _Collector | None


_COLLECTOR: ContextVar[_Collector | None] = ContextVar("collector", default=None)


def warn(message: str) -> None:
    """Warn at the line that called the package, or add the message to those that `collect_warnings` gathers."""
    message = printable(message)
    collector = _COLLECTOR.get()
    while collector is not None:
        collector.messages.append(message)
        if not collector.pass_on:
            return
        collector = collector.outer
    warnings.warn(message, stacklevel=_level_outside())


@contextmanager
def collect_warnings(*, pass_on: bool = False) -> Iterator[list[str]]:
    """Collect the messages of `warn` in a list instead of warning, or, with ``pass_on``, besides.

    Examples
    --------
    >>> with collect_warnings() as collected:
    ...     warn("spike times are not in order")
    >>> collected
    ['spike times are not in order']
    """
    collected: list[str] = []
    token = _COLLECTOR.set(_Collector(collected, pass_on, _COLLECTOR.get()))
    try:
        yield collected
    finally:
        _COLLECTOR.reset(token)


def _level_outside() -> int:
    """How many frames `warn` is below the first one outside of the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
