"""Parts of an array on threads of this process, while BLAS keeps to one thread in each.

By default BLAS spreads every product over all processors, and its threads wait actively until the last one is done.
They wait longer than they work where other programs compute too: a fit of 2 s took 77 s. Threads of our own also share
the element-wise work, and give the same numbers however many they are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from nwb_lint.parallel.tasks import Outcome, attempt, result_of

Data = TypeVar("Data")
Result = TypeVar("Result")

_IN_MAP: ContextVar[bool] = ContextVar("in_map", default=False)


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(work: Callable[[Data], Result], parts: Iterable[Data]) -> Iterator[Result]:
    """``work(data)`` of every part, in order, on as many threads as BLAS had; BLAS has one in each meanwhile.

    Inside such work, another `map_in_order` stays on its thread. Only a few parts are begun before their results are
    used, so that the results need not fit in memory all at once.
    """
    with one_blas_thread() as threads:
        if threads == 1 or _IN_MAP.get():
            yield from map(work, parts)
            return
        context = copy_context()  # with numpy's errstate, and what else belongs to the caller
        context.run(_IN_MAP.set, True)
        with ThreadPoolExecutor(threads) as pool:
            begun: deque[Future[Outcome]] = deque()
            for data in parts:
                begun.append(pool.submit(context.copy().run, attempt, work, data, {}))
                if len(begun) > threads:
                    yield result_of(begun.popleft().result())
            while begun:
                yield result_of(begun.popleft().result())


class _BlasLimit:
    """One limit for all callers at a time: the first one sets it, the last one lifts it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.callers = self.threads_before = 0
        self.limiter: Any = None


_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """Limit BLAS to one thread until all callers have left; gives the number of threads that it had before."""
    with _limit.lock:
        if _limit.callers == 0:
            controller = _controller()
            _limit.threads_before = min((one["num_threads"] for one in controller.info()), default=1)
            _limit.limiter = controller.limit(limits=1)
        _limit.callers += 1
    try:
        yield _limit.threads_before
    finally:
        with _limit.lock:
            _limit.callers -= 1
            if _limit.callers == 0:
                _limit.limiter.restore_original_limits()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
