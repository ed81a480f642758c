"""Which bytes a recording came from: SHA-256 of local files, computed once somebody makes something of them.

A file of a whole experiment holds a hundred times what its spikes take, and hashing it all would keep whoever wants to
look at a tensor waiting. So reading notes size and time of modification, and `prepare` puts SHA-256 in their place,
unless the file has changed in between.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

_KEPT = 1024  # digests of files that have not changed since


def stamp(path: Path) -> str:
    """Size and time of modification of a file; or of all files of a folder, and a hash of each one's name and these.

    Raises: OSError.
    """
    if not path.is_dir():
        told = path.stat()
        return f"{told.st_size} bytes, last modified {np.datetime64(told.st_mtime_ns, 'ns')}Z"
    lines = [f"{one.relative_to(path).as_posix()}: {stamp(one)}" for one in _files(path)]
    return f"{len(lines)} files, {hashlib.sha256(repr(lines).encode()).hexdigest()[:32]}"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text; of a folder, that of the names and digests of its files, in the order of
    the names.

    Raises: OSError.
    """
    return _sha256(str(path.absolute()), stamp(path))


@lru_cache(_KEPT)
def _sha256(location: str, _: str) -> str:
    path = Path(location)
    if path.is_dir():
        lines = [f"{sha256(one)} {one.relative_to(path).as_posix()}" for one in _files(path)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_digests(recording: xr.Dataset) -> xr.Dataset:
    """The same recording with SHA-256 of its local files in place of what was noted when they were read.

    A file that is gone, or has been changed since, keeps the note: what it holds now is not what was read.
    """
    if "file_digest" not in recording.coords:
        return recording
    pairs = zip(recording["file"].values.tolist(), recording["file_digest"].values.tolist(), strict=True)
    known = np.array([_completed(Path(path), note) for path, note in pairs], str)
    return recording.assign_coords(file_digest=("file", known, recording["file_digest"].attrs))


def _completed(path: Path, note: str) -> str:
    try:
        return _sha256(str(path.absolute()), note) if " " in note and stamp(path) == note else note  # no digest has one
    except OSError:
        return note


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
