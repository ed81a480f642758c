"""Parts of an array shared out among threads, while BLAS keeps to one thread in each.

BLAS spreads every product over all processors and lets its threads spin until the last is done: where others compute
too they spin for longer than they work (a fit of 2 s took 77 s). Parts of conditions in threads of our own take the
element-wise work along, wait for nobody, and give the same numbers however many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from threading import Lock
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Found = TypeVar("Found")


class _Blas:
    """The limit of all that are inside at a time: the first to come sets it, the last to go lifts it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.inside = self.threads = 0
        self.limiter: Any = None


_blas = _Blas()
_helps = ContextVar("_helps", default=False)  # whether this thread works for others, and so shares nothing out


@contextmanager
def one_blas_thread() -> Iterator[int]:
    """BLAS in one thread, whoever calls it, until all who asked for that are done; gives how many it had before."""
    with _blas.lock:
        if _blas.inside == 0:
            controller = _controller()
            _blas.threads = min((one["num_threads"] for one in controller.info()), default=1)
            _blas.limiter = controller.limit(limits=1)
        _blas.inside += 1
    try:
        yield _blas.threads
    finally:
        with _blas.lock:
            _blas.inside -= 1
            if _blas.inside == 0:
                _blas.limiter.restore_original_limits()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def map_in_order(work: Callable[[Part], Found], parts: Iterable[Part]) -> Iterator[Found]:
    """``work`` of every part, in order, on as many threads as BLAS had; within such work, on the thread that does it.

    Few parts are begun before they are asked for, so that what they give need not fit in memory all at once.
    """
    with one_blas_thread() as threads:
        if threads == 1 or _helps.get():
            yield from map(work, parts)
            return
        inside = copy_context()  # numpy's errstate, and what else belongs to the caller
        inside.run(_helps.set, True)
        with ThreadPoolExecutor(threads) as pool:
            begun: deque[Future[Found]] = deque()
            for part in parts:
                begun.append(pool.submit(inside.copy().run, work, part))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
