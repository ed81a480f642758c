"""A command that crashes, hangs inside of a library, or is stopped ends with one line."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time

import h5py
import numpy as np
import pytest

from nwb_lint.cli.watch import watched
from nwb_lint.parallel import opened

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture
def run(capfd):
    """The exit status and the last line of a function that is watched; the process that waits is forked too."""

    def run(function, stop=None, **how):
        def whole():
            try:
                return function() or 0
            except KeyboardInterrupt:
                return 130

        waiting = os.fork()
        if not waiting:
            status = 99
            try:
                parent = os.getpid()
                try:
                    status = watched(whole, "nwb-lint x", **how)
                except SystemExit as end:
                    assert os.getpid() == parent
                    status = end.code
            finally:
                sys.stderr.flush()
                os._exit(status)
        if stop is not None:
            time.sleep(1.5)
            os.kill(waiting, stop)
        status = os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1])
        return status, capfd.readouterr().err

    return run


def endless(tmp_path):
    """A file in whose first attribute HDF5 loops for ever, and a function that reads it."""
    path = tmp_path / "endless.h5"
    with h5py.File(path, "w") as file:
        file.attrs["name"] = "a text"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(content)

    def read():
        opened.note(path)
        with h5py.File(path) as file:
            return file.attrs["name"]

    return read


def test_the_status_of_a_command_is_passed_on(run):
    assert run(lambda: 0) == (0, "")
    assert run(lambda: 3) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_one_line_that_names_the_last_file(run, number):
    def crash():
        faulthandler.disable()  # of pytest
        opened.note("a\x1b.nwb")
        os.kill(os.getpid(), number)

    status, text = run(crash)
    assert status == 1
    (line,) = [one for one in text.splitlines() if "nwb-lint" in one]
    assert line.startswith("error: nwb-lint x ")
    assert number.name in line or "memory may have been short" in line
    assert "a\\u001b.nwb" in line


def test_a_library_that_never_returns_is_stopped(run, tmp_path):
    status, text = run(endless(tmp_path), stall_s=1.5, busy_s=0.1)
    assert status == 1
    assert "made no progress" in text
    assert "endless.h5" in text


def test_long_work_outside_of_libraries_that_read_is_left_alone(run):
    def work():
        np.sort(np.random.default_rng(0).random(1_000_000))
        "a".join(["b"] * 5).encode().hex()
        stop = time.monotonic() + 2.5
        while time.monotonic() < stop:
            pass

    assert run(work, stall_s=1.0, busy_s=0.1) == (0, "")


def test_an_interrupt_reaches_the_command(run):
    assert run(lambda: time.sleep(60), stop=signal.SIGINT)[0] == 130


def test_a_signal_ends_both(run):
    assert run(lambda: time.sleep(60), stop=signal.SIGTERM)[0] == -signal.SIGTERM
