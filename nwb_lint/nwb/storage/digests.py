"""SHA-256 of the files that a recording came from.

Hashing a file reads all of it, and a file with raw data may be a hundred times larger than its spikes. So reading a
recording notes only the size and the time of modification of each local file. SHA-256 is computed when a fit is
written or a recipe is run, and only if the file has not changed since it was read.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_lint.errors import MissingFileError, NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, refuse_pipe
from nwb_lint.nwb.storage.source import Source, one_asset

_CACHED_DIGESTS = 1024


def digest(source: Source) -> str:
    """The SHA-256 of a file.

    Parameters
    ----------
    source : str, os.PathLike or Asset
        One file, as for `open_nwb`.

    Returns
    -------
    str
        64 hexadecimal digits. Of a local folder: the SHA-256 of the names and digests of its files. Of a file in an
        archive: what the archive gives (a checksum of its own for a Zarr folder). Empty for any other remote file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file cannot be read.
    """
    asset = one_asset(source)
    if asset.digest or asset.remote:
        return asset.digest
    try:
        refuse_pipe(asset.path)
        return sha256(asset.path)
    except FileNotFoundError as error:
        raise MissingFileError(f"{asset}: no such file. An NWB file is needed. Check the path.") from error
    except OSError as error:
        raise NWBError(f"{asset} cannot be read: {one_line(error)}. Check the path.") from error


def fingerprint(asset: Asset) -> str:
    """What a recording notes about a file without hashing it.

    Parameters
    ----------
    asset : Asset
        One file.

    Returns
    -------
    str
        The digest that an archive gives, or size and time of modification of a local file. A downloaded copy, whose
        path the recording does not hold, gives its `digest`.
    """
    if asset.digest or asset.remote or asset.address != asset.location:
        return digest(asset)
    return size_and_time(asset.path)


def with_digests(recording: xr.Dataset) -> xr.Dataset:
    """The recording with SHA-256 in place of size and time of modification of its local files.

    Parameters
    ----------
    recording : xarray.Dataset
        A recording, trials, or a fit, with the coordinate ``file_digest (file)``; a Dataset without it is returned
        as it is.

    Returns
    -------
    xarray.Dataset
        The same Dataset with another ``file_digest``. A file that is gone, or has changed since it was read, keeps
        its entry: its bytes are not those that were read.
    """
    if "file_digest" not in recording.coords:
        return recording
    pairs = zip(recording["file"].values.tolist(), recording["file_digest"].values.tolist(), strict=True)
    completed = np.array([_completed(Path(path), entry) for path, entry in pairs], str)
    return recording.assign_coords(file_digest=("file", completed, recording["file_digest"].attrs))


def size_and_time(path: Path) -> str:
    """Size and time of modification of a file; of a folder, the number of its files and a hash of these entries."""
    if not path.is_dir():
        status = path.stat()
        return f"{status.st_size} bytes, last modified {np.datetime64(status.st_mtime_ns, 'ns')}Z"
    lines = [f"{file.relative_to(path).as_posix()}: {size_and_time(file)}" for file in _files(path)]
    return f"{len(lines)} files, {hashlib.sha256(repr(lines).encode()).hexdigest()[:32]}"


def sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the digests and names of its files, in the order of the names."""
    return _sha256(str(path.absolute()), size_and_time(path))


@lru_cache(_CACHED_DIGESTS)
def _sha256(location: str, state: str) -> str:
    path = Path(location)
    if path.is_dir():
        lines = [f"{sha256(file)} {file.relative_to(path).as_posix()}" for file in _files(path)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _completed(path: Path, entry: str) -> str:
    """The SHA-256 in place of size and time; the entry itself if it is a digest or the file has changed."""
    is_digest = " " not in entry
    try:
        return entry if is_digest or size_and_time(path) != entry else _sha256(str(path.absolute()), entry)
    except OSError:  # the file is gone
        return entry


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
