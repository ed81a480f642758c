"""Commands run in a child process, so that a library that crashes or never returns ends with a message.

HDF5 is written in C. A damaged file can crash it or send it into an endless loop, and no Python code in the same
process can stop either; Ctrl-C does nothing then. So the process that the user starts forks before anything heavy is
imported, and only waits. Nothing is read twice, and a sound file costs the fork alone.

The child has a thread that counts seconds while Python and h5py let it. Where it does not count, the child works, and
reads no bytes, for `STALL_S` inside of a library that reads files, the child is stopped. Linux alone says what a
process has worked and read, so that on other systems the user stops it by Ctrl-C.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

from nwb_lint.cli.shell import echo
from nwb_lint.parallel import opened

STALL_S = 45.0  # without a sign of progress
_BUSY_S = 15.0  # of processor time meanwhile: a process that waits for a server or a disk is left alone
_AFTER_INTERRUPT_S = 5.0  # that a child may need to notice Ctrl-C
_READERS = ("h5py", "h5netcdf", "hdmf", "hdmf_zarr", "pynwb", "zarr", "lindi", os.path.join("nwb_lint", "nwb"))
_STOPPED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE} if hasattr(signal, "SIGHUP") else set()
_COUNT, _INTERRUPTED = slice(0, 8), 8  # places in the memory that both processes share


class _Signs(NamedTuple):
    """What shows that a process makes progress: seconds counted, bytes read; and what it has worked, s."""

    counted: bytes
    n_bytes: int
    busy_s: float


def watched(run: Callable[[], Any], command: str, *, stall_s: float = STALL_S, busy_s: float = _BUSY_S) -> Any:
    """Run a command in a child process, and return in the child what it returns.

    Parameters
    ----------
    run : callable
        The command.
    command : str
        What the user has typed, for messages.
    stall_s : float, default=45.0
        Seconds without progress after which the child is stopped.
    busy_s : float, default=15.0
        Seconds of processor time that it needs to have taken meanwhile.

    Raises
    ------
    SystemExit
        In the process that waits, with the exit status of the child; 1 after a crash or a stop.
    """
    if not hasattr(os, "fork"):
        return run()
    shared, names = mmap.mmap(-1, mmap.PAGESIZE), mmap.mmap(-1, opened.NAME_BYTES)
    ended, holds = os.pipe()
    traces = os.memfd_create("traces") if hasattr(os, "memfd_create") else None
    child = os.fork()
    if not child:
        os.close(ended)
        opened.keep_in(names)
        _prepare_child(shared, traces)
        return run()
    os.close(holds)
    status = _Watch(child, shared, ended, traces, stall_s, busy_s).wait()
    if isinstance(status, str):
        echo(f"error: {command} {status}{_last_file(names)}", err=True)
        sys.exit(1)
    if status < 0 and -status not in _STOPPED:
        name = signal.Signals(-status).name
        why = "was killed: memory may have been short" if name == "SIGKILL" else f"crashed inside a library ({name})"
        echo(f"error: {command} {why}. Nothing more was written.{_last_file(names)}", err=True)
        sys.exit(1)
    if status < 0:  # end in the same way, so that a shell knows
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def _last_file(names: mmap.mmap) -> str:
    name = opened.name_in(names)
    return f" The last file that was opened is {name}. Get it again, if it is damaged." if name else ""


def _prepare_child(shared: mmap.mmap, traces: int | None) -> None:
    """Count seconds, note Ctrl-C, and write on demand where Python is."""
    parent = os.getppid()

    def count() -> None:
        seconds = 0
        while True:
            time.sleep(1)
            if os.getppid() != parent:  # whoever stops the process that waits means this one too
                os._exit(1)
            h5py = sys.modules.get("h5py._objects")
            with getattr(h5py, "phil", nullcontext()):
                seconds += 1
            shared[_COUNT] = seconds.to_bytes(8, "little")

    def interrupted(number: int, frame: Any) -> None:
        shared[_INTERRUPTED] = 1
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupted)
    if traces is not None:
        faulthandler.register(signal.SIGUSR1, file=traces, all_threads=True)
    if {"-v", "--verbose"} & set(sys.argv[1:3]) and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    threading.Thread(target=count, name="nwb_lint counts seconds", daemon=True).start()


class _Watch:
    """The side that waits for a child."""

    def __init__(
        self, child: int, shared: mmap.mmap, ended: int, traces: int | None, stall_s: float, busy_s: float
    ) -> None:
        self.child, self.shared, self.ended, self.traces = child, shared, ended, traces
        self.stall_s, self.busy_s = stall_s, busy_s
        self.interrupted_at = 0.0
        for number in _STOPPED - {signal.SIGINT, signal.SIGPIPE}:
            signal.signal(number, lambda number, _: self._send(number))
        signal.signal(signal.SIGINT, self._interrupt)

    def wait(self) -> int | str:
        """The exit status of the child (below 0: minus the signal), or why it was stopped."""
        last, since, polls = self._signs(), time.monotonic(), 0
        while True:
            select.select([self.ended], [], [], 1.0)
            pid, status = os.waitpid(self.child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            now, signs = time.monotonic(), self._signs()
            polls += 1
            if signs[:2] != last[:2]:
                last, since, polls = signs, now, 0
            elif self.interrupted_at and now - max(self.interrupted_at, since) > _AFTER_INTERRUPT_S and polls >= 2:
                return self._stop("was stopped by Ctrl-C inside of a library that did not answer.")
            elif now - since > self.stall_s and signs.busy_s - last.busy_s > self.busy_s and self._reads():
                took = f"{now - since:.0f} s"
                return self._stop(f"was stopped: a library read one file for {took} and made no progress.")

    def _interrupt(self, *_: object) -> None:
        """Ctrl-C reaches both processes; a signal that was sent to this one alone is passed on."""
        self.interrupted_at = time.monotonic()
        time.sleep(0.3)
        if not self.shared[_INTERRUPTED]:
            self._send(signal.SIGINT)
        self.shared[_INTERRUPTED] = 0

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.child, number)

    def _stop(self, why: str) -> str:
        self._send(signal.SIGKILL)
        os.waitpid(self.child, 0)
        return why

    def _signs(self) -> _Signs:
        """The signs of now; those that the system does not say are 0."""
        try:
            with open(f"/proc/{self.child}/io", encoding="ascii") as io, open(f"/proc/{self.child}/stat", "rb") as stat:
                n_bytes = int(io.readline().split()[1])
                user, system = stat.read().rpartition(b")")[2].split()[11:13]
        except (OSError, ValueError, IndexError):
            return _Signs(self.shared[_COUNT], 0, 0.0)
        return _Signs(self.shared[_COUNT], n_bytes, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))

    def _reads(self) -> bool:
        """Whether a thread of the child is inside of a library that reads files."""
        if self.traces is None:
            return False
        self._send(signal.SIGUSR1)
        time.sleep(0.5)
        text = os.pread(self.traces, 1 << 20, 0).decode("utf-8", "replace")
        firsts = [part.split("\n")[1] for part in text.split("most recent call first") if "\n" in part]
        places = [f"{os.sep}{name}{os.sep}" for name in _READERS]
        return any(place in first for first in firsts for place in places)
