"""Parts of streamed files on disk: each whole or not there at all; those used longest ago go beyond a limit."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.asset import cache_folder

_LIMIT_GB = 10.0
_SHARE = 0.05  # of the limit that a process writes before it looks at all folders again
_OURS = re.compile(r"[0-9a-f]{32}")


class Parts:
    """Parts of one version of a file on disk, as remfile's `DiskCache` has them.

    Several processes may stream one file, and one may be stopped in the middle: parts are written beside and
    renamed, and each begins with its CRC-32. A folder that is `hold` is not removed by `tidy`, whichever process
    calls it.
    """

    def __init__(self, version: str) -> None:
        self._folder = cache_folder() / "streamed" / _name(version)
        self._lock: Any = None

    def get(self, key: str) -> bytes | None:
        """What was set, or None."""
        try:
            stored = (self._folder / _name(key)).read_bytes()
        except OSError:
            return None
        content = stored[4:]
        return content if content and stored[:4] == crc32(content).to_bytes(4, "big") else None

    def set(self, key: str, value: bytes) -> None:
        """Keep a part; where the disk has no room, reading is slower, not impossible."""
        path = self._folder / _name(key)
        beside = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                beside.write_bytes(crc32(value).to_bytes(4, "big") + value)
                os.replace(beside, path)
                _WRITTEN.add(len(value))
            finally:
                beside.unlink(missing_ok=True)

    def hold(self) -> None:
        """Note that the file is used, from now until `let_go`, or the end of the process."""
        from filelock import FileLock

        with suppress(OSError, NotImplementedError):  # the latter where a disk knows no locks
            self._folder.mkdir(parents=True, exist_ok=True)
            os.utime(self._folder)
            self._lock = FileLock(self._folder / f"{uuid.uuid4().hex[:8]}.lock", thread_local=False)
            self._lock.acquire()

    def let_go(self) -> None:
        """The file is used no more."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release()
                Path(self._lock.lock_file).unlink(missing_ok=True)
                os.utime(self._folder)


class _Written:
    """How many bytes this process has put on disk since it last looked at all folders; at first, too many."""

    def __init__(self) -> None:
        self._n, self._lock = math.inf, threading.Lock()

    def add(self, n: float) -> None:
        with self._lock:
            self._n += n

    def reached(self, n: float) -> bool:
        """Whether it is n or more; counting begins anew then."""
        with self._lock:
            if self._n < n:
                return False
            self._n = 0
            return True


_WRITTEN = _Written()


class _Folder(NamedTuple):
    used: float
    n_bytes: int
    path: Path


def limit_bytes() -> float:
    """How much of streamed files is kept on disk: ``NWB_LINT_CACHE_GB`` (10^9 bytes), 10 where it is not set.

    Raises: NWBError where it is no number, or below 0.
    """
    said = os.environ.get("NWB_LINT_CACHE_GB", "").strip()
    try:
        found = float(said) if said else _LIMIT_GB
    except ValueError:
        found = math.nan
    if not found >= 0:
        raise NWBError(f"NWB_LINT_CACHE_GB is {said!r}; it needs a number of GB of at least 0. Set it, or unset it.")
    return found * 1e9


def tidy(most: float) -> None:
    """Remove parts of the files used longest ago until at most so many bytes are kept; none of a file in use.

    Nothing is looked at before this process has written a twentieth of that.
    """
    if not _WRITTEN.reached(_SHARE * most):
        return
    with suppress(OSError):
        folders = sorted(map(_weighed, (cache_folder() / "streamed").iterdir()))
        total = sum(folder.n_bytes for folder in folders)
        for folder in folders:
            if total <= most:
                return
            if _OURS.fullmatch(folder.path.name) and not _in_use(folder.path):
                shutil.rmtree(folder.path, ignore_errors=True)
                total -= folder.n_bytes


def _weighed(path: Path) -> _Folder:
    if path.is_symlink() or not path.is_dir():
        return _Folder(math.inf, 0, path)
    used, n = math.inf, 0
    with suppress(OSError):  # another process removes it
        used = path.stat().st_mtime
        for part in path.iterdir():
            with suppress(OSError):  # or renames a part
                n += part.stat().st_size
    return _Folder(used, n, path)


def _in_use(folder: Path) -> bool:
    """Whether a process that lives holds one of the locks in it."""
    from filelock import FileLock, Timeout

    for path in folder.glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            continue
    return False


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
