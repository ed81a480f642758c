"""The name of the file that was opened last, where another process can read it after a crash of this one."""

from __future__ import annotations

import mmap

from nwb_lint.errors import printable

NAME_BYTES = 4096
_kept: list[mmap.mmap] = []


def keep_in(memory: mmap.mmap) -> None:
    """Keep names in a memory of `NAME_BYTES` that is shared with another process."""
    _kept[:] = [memory]


def note(name: object) -> None:
    """Keep the name of a file that is opened now; nothing happens where no process watches this one."""
    for memory in _kept:
        content = printable(str(name)).encode("utf-8", "replace")[-NAME_BYTES:]
        memory[:] = content.ljust(NAME_BYTES, b"\0")


def name_in(memory: mmap.mmap) -> str:
    """The name that was kept last; empty where there was none."""
    return memory[:].rstrip(b"\0").decode("utf-8", "replace")
