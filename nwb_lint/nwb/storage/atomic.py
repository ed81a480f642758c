"""A file, or a Zarr folder, that appears whole or not at all, from one writer at a time.

It is written beside the target under a name of ours, put on disk and renamed. A lock beside the target is held
meanwhile, so that whatever of ours lies there for the same target is a dead writer's: the next one removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nwb_lint.errors import NWBError, one_line


def write_atomically(target: Path, write: Callable[[Path], None], *, wait: bool = False) -> None:
    """Call ``write`` with a temporary path beside the target, then put what it wrote on disk and in the target's
    place. ``wait`` for another writer of the same target, or refuse.

    A folder that is replaced is put aside first: a process that is killed just then leaves it under a name of
    ours, from where the next writer puts it back.

    Raises: NWBError where the folder is not there, the disk refuses, or another process is writing the target;
    the target is then as it was.
    """
    if not target.parent.is_dir():
        raise NWBError(f"{target.parent}: no such folder, so {target.name} cannot be written there. Make it first.")
    try:
        with _alone(target, wait):
            _tidy(target)
            temporary = target.with_name(f".nwb_lint-{uuid.uuid4().hex[:8]}-{target.name}")
            try:
                write(temporary)
                _all_to_disk(temporary)
                _put(temporary, target)
                if os.name == "posix":  # a folder cannot be opened elsewhere
                    _to_disk(target.parent)
            finally:
                with suppress(OSError):  # what stays is removed by the next writer
                    _remove(temporary)
    except (OSError, RuntimeError) as error:  # what HDF5 raises where the disk refuses depends on when it does
        raise NWBError(f"{target} cannot be written: {one_line(error)}") from error


@contextmanager
def _alone(target: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of the target; its file goes when the lock does."""
    from filelock import FileLock, Timeout

    path = target.with_name(f".nwb_lint-{target.name}.lock")
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise NWBError(
            f"{target} is being written by another process; wait until it ends, or choose another."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # before the release: whoever waits for this very file finds it gone, and asks again
            path.unlink()
        lock.release()


def _tidy(target: Path) -> None:
    """Remove what dead writers of the target left; put back what one had put aside."""
    ours = re.compile(rf"\.nwb_lint-[0-9a-f]{{8}}-{re.escape(target.name)}")
    for name in os.listdir(target.parent):
        if ours.fullmatch(name):
            _remove(target.with_name(name))
    aside = _aside(target)
    if aside.exists():
        if target.exists():
            _remove(aside)
        else:
            os.replace(aside, target)


def _put(temporary: Path, target: Path) -> None:
    """Rename; of a folder the old one is put aside first, since none can be renamed over another."""
    if not target.is_dir():
        os.replace(temporary, target)
        return
    os.replace(target, _aside(target))
    try:
        os.replace(temporary, target)
    except OSError:
        os.replace(_aside(target), target)
        raise
    _remove(_aside(target))


def _aside(target: Path) -> Path:
    return target.with_name(f".nwb_lint-old-{target.name}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _all_to_disk(path: Path) -> None:
    """The file, or every file and folder of a folder."""
    for folder, _, names in os.walk(path):
        for name in names:
            _to_disk(Path(folder, name))
        if os.name == "posix":
            _to_disk(Path(folder))
    if path.is_file():
        _to_disk(path)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
