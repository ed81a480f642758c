"""Remote files kept whole on this machine: checked for size and digest, and only then given their name."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from nwb_lint.nwb.asset import Asset, NWBError, cache_folder
from nwb_lint.nwb.web import Passing, Refused, Web, ask, not_reached, retried, strong, total_bytes

_BLOCK_BYTES = 2**16


def keep(asset: Asset) -> Asset:
    """A remote HDF5 file as a local one of the same address, fetched unless it is in the cache folder whole.

    A file that an archive knows by its digest is taken from the cache without asking; of any other the server
    is asked whether it is still the same (ETag and size).

    Raises: NWBError, one line: no such file, no room, wrong size, wrong digest; a kind that is not one file.
    """
    if not asset.remote:
        return asset
    if asset.kind != "hdf5":
        raise NWBError(f"{asset} is {asset.kind}, not one file; download=True keeps HDF5 files. Leave it out.")
    from nwb_lint.nwb.dandi import token_of

    with Web(token_of(asset)) as web:
        try:
            version, size = (asset.digest, asset.size) if asset.digest and asset.size else _version(web, asset)
            target = _place(asset, version)
            if not (version and target.is_file() and target.stat().st_size == size):
                _fetch(web, asset, target, size)
        except OSError as error:
            raise not_reached(asset.address, error) from error
    return asset._replace(location=str(target))


def served_version(asset: Asset) -> str:
    """What stands for the bytes of a remote file at its server (strong ETag and size); empty where nothing does, as
    for Zarr folders.

    Raises: NWBError where the server does not answer.
    """
    from nwb_lint.nwb.dandi import token_of

    if asset.kind == "zarr":
        return ""
    with Web(token_of(asset)) as web:
        try:
            return _version(web, asset)[0]
        except OSError as error:
            raise not_reached(asset.address, error) from error


@retried
def _version(web: Web, asset: Asset) -> tuple[str, int]:
    """What stands for the bytes at the server, and how many they are (0: it does not say)."""
    with ask(web, asset.location, headers={"Range": "bytes=0-0"}, stream=True) as response:
        size = total_bytes(response)
        tag = strong(response.headers.get("ETag", ""))
    _check_size(asset, size)
    return f"{tag} {size}" if tag and size else "", size or asset.size


def _check_size(asset: Asset, size: int) -> None:
    if asset.size and size and size != asset.size:
        raise NWBError(f"{asset} has {size} bytes at the server; {asset.size} were announced. Tell its archive.")


def _place(asset: Asset, version: str) -> Path:
    """Where the file is kept, under its own name."""
    name = PurePosixPath(unquote(urlsplit(asset.address).path)).name or "recording.nwb"
    folder = hashlib.sha256(f"{asset.address} {version}".encode()).hexdigest()[:32]
    return cache_folder() / "files" / folder / name


def _fetch(web: Web, asset: Asset, target: Path, size: int) -> None:
    """Fetch to a file beside, check, rename."""
    from nwb_lint.nwb.atomic import write_atomically

    target.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as stream:
            _fetch_rest(web, asset, stream, size)
        found = temporary.stat().st_size
        if size and found != size:
            raise NWBError(f"{asset}: {found} bytes came where {size} were announced. Try again.")
        with open(temporary, "rb") as stream:
            if asset.digest and hashlib.file_digest(stream, "sha256").hexdigest() != asset.digest:
                raise NWBError(f"{asset}: its SHA-256 is not the archive's {asset.digest[:12]}…. Try again.")

    write_atomically(target, write, wait=True)


@retried
def _fetch_rest(web: Web, asset: Asset, stream: Any, size: int) -> None:
    """Append what is missing of a file; a retry goes on where the one before broke off."""
    have = stream.tell()
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with ask(web, asset.location, headers=headers, stream=True) as response:
            _check_size(asset, total_bytes(response))
            if response.status_code != 206 and have:  # from the start again
                stream.seek(0)
                stream.truncate()
            web.version = web.version or strong(response.headers.get("ETag", ""))
            for block in response.iter_content(_BLOCK_BYTES):
                stream.write(block)
    except Refused as error:
        if error.status != 416 or not have:
            raise
        # there is nothing after what came
    if size and stream.tell() < size:
        raise Passing(f"{stream.tell()} bytes came where {size} were announced")
