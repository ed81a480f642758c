"""Worker processes in which a library never returns end, so that whoever waits for them gets an error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import parent_process

STUCK_S = 45  # of processor time in which Python did not run


@contextmanager
def ended_if_stuck(seconds: int = STUCK_S) -> Iterator[None]:
    """End this process, if it is a worker, where a library works for so long that it will not return.

    A damaged file can send HDF5 into an endless loop, which holds the lock of h5py. So a thread takes that lock every
    second, and then allows the process more processor time. Where it cannot, the system ends the process. A process
    that waits for a disk uses no processor time. Nothing happens in a process that was not started as a worker, or on
    a system that does not limit processor time.

    Parameters
    ----------
    seconds : int, default=45
        Processor time, s.

    Yields
    ------
    None
    """
    try:
        import resource
    except ImportError:
        yield
        return
    if parent_process() is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    over = threading.Event()

    def allow_more() -> None:
        with suppress(OSError, ValueError):
            limit = int(time.process_time()) + 1 + seconds
            resource.setrlimit(resource.RLIMIT_CPU, (limit if hard < 0 else min(limit, hard), hard))

    def keep_allowing() -> None:
        while not over.wait(1):
            with getattr(sys.modules.get("h5py._objects"), "phil", nullcontext()):
                allow_more()

    allow_more()
    thread = threading.Thread(target=keep_allowing, name="nwb_lint allows processor time", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
