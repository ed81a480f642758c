"""Atomic writing: a file, or a Zarr folder, appears whole or not at all, from one process at a time.

The new content is written beside the target under a temporary name, flushed to disk and renamed. A lock file beside
the target is held meanwhile. So any temporary file of the same target that another process finds under the lock is a
leftover of a process that was stopped, and it is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nwb_lint.errors import MissingFileError, NWBError, NWBLintError, one_line


def write_atomically(target: Path, write: Callable[[Path], None], *, wait: bool = False) -> None:
    """Write a file or folder so that it appears whole or not at all.

    An existing folder is renamed before it is replaced. If the process is stopped at that moment, the next call
    restores the old folder.

    Parameters
    ----------
    target : Path
        The file or folder to write. Its parent folder needs to exist.
    write : callable
        Called with the temporary path; it writes the file or folder there.
    wait : bool, default=False
        Whether to wait for another process that is writing the same target.

    Raises
    ------
    MissingFileError
        If the parent folder does not exist.
    NWBError
        If the disk refuses, or another process is writing the target. The target is then as it was before.
    """
    if not target.parent.is_dir():
        raise MissingFileError(
            f"{target.parent}: no such folder. {target.name} cannot be written there. Make the folder first."
        )
    try:
        with _locked(target, wait):
            _clean_up(target)
            temporary = target.with_name(f".nwb_lint-{uuid.uuid4().hex[:8]}-{target.name}")
            try:
                write(temporary)
                _flush_all(temporary)
                _replace(temporary, target)
                if os.name == "posix":  # other systems cannot open a folder
                    _flush(target.parent)
            finally:
                with suppress(OSError):  # the next call removes what stays
                    _remove(temporary)
    except NWBLintError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 raises one or the other where the disk refuses
        raise NWBError(f"{target} cannot be written: {one_line(error)}") from error


def make_file(path: Path, private: bool) -> None:
    """Make an empty file, and its folder where there is none: for the user alone where they are private.

    Parameters
    ----------
    path : Path
        The file; it may exist.
    private : bool
        Whether its content needs a token, a password or a signature.
    """
    path.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
    path.touch(0o600 if private else 0o666)


@contextmanager
def _locked(target: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of the target; the lock file is removed at the end."""
    from filelock import FileLock, Timeout

    path = target.with_name(f".nwb_lint-{target.name}.lock")
    if path.is_symlink():  # in a shared folder others may have put it there; a lock would be written through it
        raise NWBError(f"{path} is a link, and no lock of nwb_lint. {target.name} cannot be written. Remove the link.")
    # a folder that takes no file, such as /proc, is an error here; filelock would take it for a lock that is held
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
    lock = FileLock(path, timeout=-1 if wait else 0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise NWBError(
            f"{target} is being written by another process. Wait until it ends, or choose another name."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # before the release: a process that waits for this file then makes a new one
            path.unlink()
        lock.release()


def _clean_up(target: Path) -> None:
    """Remove temporary files of processes that were stopped; restore a folder that one of them had renamed."""
    temporary = re.compile(rf"\.nwb_lint-[0-9a-f]{{8}}-{re.escape(target.name)}")
    for name in os.listdir(target.parent):
        if temporary.fullmatch(name):
            _remove(target.with_name(name))
    backup = _backup(target)
    if backup.exists():
        if target.exists():
            _remove(backup)
        else:
            os.replace(backup, target)


def _replace(temporary: Path, target: Path) -> None:
    """Rename; an old folder is renamed first, since no folder can be renamed over another one."""
    if not target.is_dir():
        os.replace(temporary, target)
        return
    os.replace(target, _backup(target))
    try:
        os.replace(temporary, target)
    except OSError:
        os.replace(_backup(target), target)
        raise
    _remove(_backup(target))


def _backup(target: Path) -> Path:
    return target.with_name(f".nwb_lint-old-{target.name}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_all(path: Path) -> None:
    """Flush a file, or every file and folder of a folder, to disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            _flush(Path(folder, name))
        if os.name == "posix":
            _flush(Path(folder))
    if path.is_file():
        _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
