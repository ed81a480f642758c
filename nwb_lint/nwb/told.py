"""Warnings of work that may run in another thread or process: collected there, said where the work was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TOLD: ContextVar[list[str] | None] = ContextVar("told", default=None)


def tell(message: str, stacklevel: int = 2) -> None:
    """Warn, or add to what `telling` collects: Python's own filters are one for all threads, none for workers."""
    told = _TOLD.get()
    if told is None:
        warnings.warn(message, stacklevel=stacklevel + 1)
    else:
        told.append(message)


@contextmanager
def telling() -> Iterator[list[str]]:
    """The messages that `tell` is given within, instead of warnings.

    Example:
        >>> with telling() as told:
        ...     tell("spike times are not in order")
        >>> told
        ['spike times are not in order']
    """
    told: list[str] = []
    token = _TOLD.set(told)
    try:
        yield told
    finally:
        _TOLD.reset(token)
