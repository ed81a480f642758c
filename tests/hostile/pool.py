"""A child process that works through examples: one that dies or hangs is that of its example, and is started again."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MEMORY_BYTES = 8 << 30  # that an example may ask for, beside what the child has at its start


class Ended(NamedTuple):
    """How a call in the child ended: its result, or a word (hang, abort) with the reason in its place."""

    fault: str
    result: Any
    seconds: float


class Child:
    """Calls one function with one argument after another in a forked process."""

    def __init__(self, function: Callable[[Any], Any], limit_s: float) -> None:
        self.function, self.limit_s, self.pid = function, limit_s, 0

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def call(self, argument: Any) -> Ended:
        """The result of one call; a child that is gone is started again."""
        if not self.pid:
            self._start()
        began = time.monotonic()
        content = pickle.dumps(argument)
        os.write(self.to_child, len(content).to_bytes(8, "little") + content)
        ready, _, _ = select.select([self.from_child], [], [], self.limit_s)
        if not ready:
            self._stop()
            return Ended("hang", f"no end within {self.limit_s:g} s", time.monotonic() - began)
        head = os.read(self.from_child, 8)
        if len(head) < 8:
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._close()
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            return Ended("abort", f"the process ended by {name}", time.monotonic() - began)
        size, parts = int.from_bytes(head, "little"), b""
        while len(parts) < size:
            parts += os.read(self.from_child, size - len(parts))
        return Ended("", pickle.loads(parts), time.monotonic() - began)

    def _start(self) -> None:
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(child_in)
            os.close(child_out)
            return
        try:
            os.close(self.to_child)
            os.close(self.from_child)
            self._serve(child_in, child_out)
        finally:
            os._exit(0)

    def _serve(self, child_in: int, child_out: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        faulthandler.disable()  # of pytest
        statm = Path("/proc/self/statm")
        used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        while head := os.read(child_in, 8):
            argument = pickle.loads(os.read(child_in, int.from_bytes(head, "little")))
            content = pickle.dumps(self.function(argument))
            view = memoryview(len(content).to_bytes(8, "little") + content)
            while view:
                view = view[os.write(child_out, view) :]

    def _stop(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._close()

    def _close(self) -> None:
        os.close(self.to_child)
        os.close(self.from_child)
        self.pid = 0
