"""Downloads: remote files copied to the cache folder as a whole.

A copy gets its name only after its size and its digest were checked. LINDI files are copied where they hold all their
data; Zarr folders by their consolidated metadata.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, cache_folder
from nwb_lint.nwb.storage.atomic import make_file, write_atomically
from nwb_lint.nwb.storage.dandi import open_session
from nwb_lint.nwb.storage.http import (
    NETWORK_ERRORS,
    FileSession,
    PermanentError,
    TransientError,
    as_nwb_error,
    blocks_of,
    check_range,
    get_bytes,
    get_response,
    retry,
    retry_download,
    strong_etag,
    total_bytes,
)
from nwb_lint.nwb.storage.zarr import no_zarr_metadata, read_lindi, referenced_files

_REQUESTS_AT_ONCE = 8


def download_asset(asset: Asset) -> Asset:
    """Copy a remote file to the cache folder, unless the same version of it is there.

    A file with a digest in its archive is looked up by it, without a request. For any other file the server gives
    ETag and size; for a Zarr folder, its consolidated metadata.

    Parameters
    ----------
    asset : Asset
        Any file; a local one is returned as it is.

    Returns
    -------
    Asset
        The same address, with the path of the copy as location.

    Raises
    ------
    MissingFileError
        If the server has no such file.
    NWBError
        If the file cannot be read, the disk is full, size or digest are wrong, or a LINDI file refers to others.
    """
    if not asset.remote:
        return asset
    if asset.kind == "zarr":
        return _download_zarr(asset)
    if asset.kind == "lindi":
        _refuse_references(asset)
    with open_session(asset) as session, as_nwb_error(asset.address):
        version, size = (asset.digest, asset.size) if asset.digest and asset.size else _version(session, asset)
        target = _path_of_copy(asset, version)
        if not (version and target.is_file() and target.stat().st_size == size):
            _download_file(session, asset, target, size)
    return asset._replace(location=str(target))


def server_version(asset: Asset) -> str:
    """What identifies the bytes of a remote file at its server.

    Parameters
    ----------
    asset : Asset
        A remote file.

    Returns
    -------
    str
        Strong ETag and size. Empty where the server gives none, and for Zarr folders.

    Raises
    ------
    MissingFileError
        If the server has no such file.
    NWBError
        If the server does not answer.
    """
    if asset.kind == "zarr":
        return ""
    with open_session(asset) as session, as_nwb_error(asset.address):
        return _version(session, asset)[0]


@retry
def _version(session: FileSession, asset: Asset) -> tuple[str, int]:
    """ETag and size as one text (empty where the server does not give both), and the size (0 if unknown)."""
    with get_response(session, asset.location, headers={"Range": "bytes=0-0"}, stream=True) as response:
        size = total_bytes(response)
        etag = strong_etag(response)
    _check_size(asset, size)
    return f"{etag} {size}" if etag and size else "", size or asset.size


def _check_size(asset: Asset, size: int) -> None:
    if asset.size and size and size != asset.size:
        raise NWBError(
            f"{asset} has {size} bytes at the server. Its archive has announced {asset.size}. Report it there."
        )


def _path_of_copy(asset: Asset, version: str) -> Path:
    name = PurePosixPath(unquote(urlsplit(asset.address).path)).name or "recording.nwb"
    folder = hashlib.sha256(f"{asset.address} {version}".encode()).hexdigest()[:32]
    return cache_folder() / "files" / folder / name


def _download_file(session: FileSession, asset: Asset, target: Path, size: int) -> None:
    private = session.has_used_token or asset.has_secret
    target.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        make_file(temporary, private)
        with open(temporary, "wb") as stream, as_nwb_error(asset.address, NETWORK_ERRORS):
            _append_rest(session, asset, stream, size)
        found = temporary.stat().st_size
        if size and found != size:
            raise NWBError(f"{asset}: {found} bytes came where {size} were announced. Try again.")
        if asset.digest and (kind := _differs(temporary, asset.digest)):
            raise NWBError(f"{asset}: its {kind} is not the archive's {asset.digest[:12]}…. Try again.")

    write_atomically(target, write, wait=True)


def _differs(path: Path, digest: str) -> str:
    """The kind of a digest of an archive, if a file has another one; else empty."""
    if "-" in digest:
        from dandischema.digests.dandietag import DandiETag

        return "DANDI ETag" if DandiETag.from_file(path).as_str() != digest else ""
    with open(path, "rb") as stream:
        return "SHA-256" if hashlib.file_digest(stream, "sha256").hexdigest() != digest else ""


@retry_download
def _append_rest(session: FileSession, asset: Asset, stream: Any, size: int) -> None:
    """Append the bytes that a file does not have yet; a repeated request continues where the last one ended."""
    n_bytes = stream.tell()
    headers = {"Range": f"bytes={n_bytes}-"} if n_bytes else {}
    try:
        with get_response(session, asset.location, headers=headers, stream=True) as response:
            total = total_bytes(response)
            _check_size(asset, total)
            check_range(response, n_bytes)
            if response.status_code != 206 and n_bytes:  # the server sends the whole file again
                stream.seek(0)
                stream.truncate()
            session.keep_version(response)
            if session.has_used_token:  # which the archive has asked for now; no byte is there yet
                os.chmod(stream.name, 0o600)
                os.chmod(Path(stream.name).parent, 0o700)
            for block in blocks_of(response, (total or size or sys.maxsize) - stream.tell()):
                stream.write(block)
    except PermanentError as error:
        if error.status != 416 or not n_bytes:  # 416: the file has no more bytes
            raise
    if size and stream.tell() < size:
        raise TransientError(f"{stream.tell()} bytes came where {size} were announced")


def _download_zarr(asset: Asset) -> Asset:
    """A Zarr folder: its metadata, and every chunk that they list and that the server has."""
    with FileSession() as session, as_nwb_error(asset.address):
        content, version = _consolidated_metadata(session, asset)
        target = _path_of_copy(asset, hashlib.sha256(content + version.encode()).hexdigest())
        if not target.is_dir():
            files = _metadata_files(asset, content)
            target.parent.mkdir(0o700 if asset.has_secret else 0o777, parents=True, exist_ok=True)
            write_atomically(target, lambda folder: _download_store(session, asset, files, folder), wait=True)
    return asset._replace(location=str(target))


@retry
def _consolidated_metadata(session: FileSession, asset: Asset) -> tuple[bytes, str]:
    """The metadata of all groups and arrays (.zmetadata), and the version that the server gives them."""
    try:
        response = get_response(session, f"{asset.location}/.zmetadata")
    except PermanentError as error:
        if error.status != 404:
            raise
        raise no_zarr_metadata(asset, session) from None
    return response.content, response.headers.get("ETag", "") + response.headers.get("Last-Modified", "")


def _metadata_files(asset: Asset, content: bytes) -> dict[str, Any]:
    """The metadata files of a Zarr folder by name; NWBError where they are damaged, or outside the folder."""
    try:
        files = dict(json.loads(content)["metadata"])
    except (ValueError, KeyError, TypeError) as error:
        reason = one_line(error)
        raise NWBError(f"{asset}: its .zmetadata is damaged ({reason}). Report it to its archive.") from error
    for name in files:
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
            raise NWBError(f"{asset}: its .zmetadata lists {name!r} outside the folder. Report it to its archive.")
    return files | {".zmetadata": json.loads(content)}


def _download_store(session: FileSession, asset: Asset, files: dict[str, Any], folder: Path) -> None:
    for name, metadata in files.items():
        make_file(folder / name, asset.has_secret)
        (folder / name).write_text(json.dumps(metadata), encoding="utf-8")
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        for name, metadata in files.items():
            if name.rpartition("/")[2] == ".zarray":
                try:
                    chunks = list(_chunk_names(name.removesuffix(".zarray"), metadata))
                except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                    reason = one_line(error)
                    raise NWBError(f"{asset}: {name} is damaged ({reason}). Report it to its archive.") from error
                with as_nwb_error(asset.address, NETWORK_ERRORS):
                    list(pool.map(lambda chunk: _download_chunk(session, asset, chunk, folder), chunks))


def _chunk_names(prefix: str, metadata: dict[str, Any]) -> Iterator[str]:
    """The names of all chunks of an array of Zarr 2."""
    counts = [-(-int(size) // int(chunk)) for size, chunk in zip(metadata["shape"], metadata["chunks"], strict=True)]
    separator = metadata.get("dimension_separator") or "."
    for index in itertools.product(*map(range, counts)):
        yield prefix + (separator.join(map(str, index)) or "0")


def _download_chunk(session: FileSession, asset: Asset, name: str, folder: Path) -> None:
    try:
        content = get_bytes(session, f"{asset.location}/{quote(name)}")
    except PermanentError as error:
        if error.status != 404:
            raise
        return  # the chunk is missing at the server too; reading it raises an error
    make_file(folder / name, asset.has_secret)
    (folder / name).write_bytes(content)


def _refuse_references(asset: Asset) -> None:
    """Raise NWBError where a LINDI file refers to chunks in other files, of which a copy would hold none."""
    files = referenced_files(read_lindi(asset))
    if files:
        raise NWBError(
            f"{asset} refers to data in {len(files)} other file{'s' * (len(files) > 1)}, which download=True would "
            f"not copy. Leave download out, or pass {min(files)} itself."
        )
