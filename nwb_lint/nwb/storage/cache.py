"""The disk cache of streamed files: ranges of bytes, each whole or absent, within a limit of size.

Each version of a remote file has a folder. Several processes may use it at once, and any of them may be killed: a
range is written to a temporary file and renamed, and it begins with its CRC-32, so that a damaged one is not used.
Where the limit is exceeded, the folders that were used longest ago are removed, except for those in use.
"""

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
from nwb_lint.nwb.storage.atomic import make_file

_DEFAULT_LIMIT_GB = 10.0
_CHECK_SHARE = 0.05  # a process looks at all folders again after it has written this share of the limit
_FOLDER_NAME = re.compile(r"[0-9a-f]{32}")
_CRC_BYTES = 4


class RangeCache:
    """Ranges of bytes of one version of a remote file, on disk.

    Parameters
    ----------
    version : str
        What identifies the bytes: the address with ETag and size.
    private : bool, default=False
        Whether only the user may read them: those of a file that needs a token, a password or a signature.
    """

    def __init__(self, version: str, private: bool = False) -> None:
        self._folder = cache_folder() / "streamed" / _file_name(version)
        self._private = private
        self._lock: Any = None

    def get(self, key: str) -> bytes | None:
        """The bytes that were stored under a key; None if there are none, or if they are damaged."""
        try:
            stored = (self._folder / _file_name(key)).read_bytes()
        except OSError:
            return None
        crc, content = stored[:_CRC_BYTES], stored[_CRC_BYTES:]
        return content if content and crc == crc32(content).to_bytes(_CRC_BYTES, "big") else None

    def set(self, key: str, content: bytes) -> None:
        """Store bytes under a key; nothing happens where the disk refuses, and reading is then slower."""
        path = self._folder / _file_name(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        with suppress(OSError):
            try:
                make_file(temporary, self._private)
                temporary.write_bytes(crc32(content).to_bytes(_CRC_BYTES, "big") + content)
                os.replace(temporary, path)
                _written.add(len(content))
            finally:
                temporary.unlink(missing_ok=True)

    def lock(self) -> None:
        """Keep the folder from being removed, until `unlock` or the end of the process."""
        from filelock import FileLock

        with suppress(OSError, NotImplementedError):  # the latter on a disk without locks
            self._folder.mkdir(0o700 if self._private else 0o777, parents=True, exist_ok=True)
            os.utime(self._folder)
            self._lock = FileLock(self._folder / f"{uuid.uuid4().hex[:8]}.lock", mode=0o600, thread_local=False)
            self._lock.acquire()

    def unlock(self) -> None:
        """Allow the folder to be removed; it counts as used now."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release()
                Path(self._lock.lock_file).unlink(missing_ok=True)
                os.utime(self._folder)


class WrittenBytes:
    """Counts the bytes that this process has written since it last looked at all folders.

    It starts at infinity, so that every process looks once.
    """

    def __init__(self) -> None:
        self._n_bytes, self._lock = math.inf, threading.Lock()

    def add(self, n_bytes: float) -> None:
        with self._lock:
            self._n_bytes += n_bytes

    def reached(self, n_bytes: float) -> bool:
        """Whether so many bytes were written; counting then starts again at 0."""
        with self._lock:
            if self._n_bytes < n_bytes:
                return False
            self._n_bytes = 0
            return True


_written = WrittenBytes()


class _Folder(NamedTuple):
    last_used: float
    n_bytes: int
    path: Path


def limit_bytes() -> float:
    """The most bytes to keep on disk: ``NWB_LINT_CACHE_GB`` times 10^9, default 10; NWBError if it is no number."""
    text = os.environ.get("NWB_LINT_CACHE_GB", "").strip()
    try:
        limit_gb = float(text) if text else _DEFAULT_LIMIT_GB
    except ValueError:
        limit_gb = math.nan
    if not limit_gb >= 0:
        raise NWBError(f"NWB_LINT_CACHE_GB is {text!r}. It needs to be a number of GB of at least 0. Set or unset it.")
    return limit_gb * 1e9


def enforce_limit(n_bytes: float) -> None:
    """Remove the folders that were used longest ago until at most so many bytes are kept; none that is in use.

    Nothing happens before this process has written a twentieth of that.
    """
    if not _written.reached(_CHECK_SHARE * n_bytes):
        return
    with suppress(OSError):  # there is no cache folder
        folders = sorted(map(_measure, (cache_folder() / "streamed").iterdir()))
        total = sum(folder.n_bytes for folder in folders)
        for folder in folders:
            if total <= n_bytes:
                return
            if _FOLDER_NAME.fullmatch(folder.path.name) and not _in_use(folder.path):
                shutil.rmtree(folder.path, ignore_errors=True)
                total -= folder.n_bytes


def _measure(path: Path) -> _Folder:
    if path.is_symlink() or not path.is_dir():
        return _Folder(math.inf, 0, path)
    last_used, n_bytes = math.inf, 0
    with suppress(OSError):  # another process removes the folder
        last_used = path.stat().st_mtime
        for file in path.iterdir():
            with suppress(OSError):  # or renames a file
                n_bytes += file.stat().st_size
    return _Folder(last_used, n_bytes, path)


def _in_use(folder: Path) -> bool:
    """Whether a running process holds one of the locks in the folder."""
    from filelock import FileLock, Timeout

    for path in folder.glob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        except (OSError, NotImplementedError):  # gone, or a disk without locks
            continue
    return False


def _file_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
