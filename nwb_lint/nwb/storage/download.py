"""Remote files kept whole on this machine: checked for size and digest, and only then given their name."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, cache_folder
from nwb_lint.nwb.storage.http import Passing, Refused, Web, ask, get, not_reached, retried, strong, total_bytes

_BLOCK_BYTES = 2**16
_SIDE_BY_SIDE = 8


def keep(asset: Asset) -> Asset:
    """A remote file as a local one of the same address, fetched unless it is in the cache folder whole.

    A file that an archive knows by its digest is taken from the cache without asking; of any other the server
    is asked whether it is still the same (ETag and size). Of an NWB-Zarr store its consolidated metadata are asked
    for, and stand for the whole. LINDI is kept where all it names is in it.

    Raises: NWBError, one line: no such file, no room, wrong size, wrong digest; LINDI whose parts lie elsewhere.
    """
    if not asset.remote:
        return asset
    if asset.kind == "zarr":
        return _keep_zarr(asset)
    if asset.kind == "lindi":
        _refuse_parts_elsewhere(asset)
    from nwb_lint.nwb.storage.dandi import token_of

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
    from nwb_lint.nwb.storage.dandi import token_of

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
    from nwb_lint.nwb.storage.atomic import write_atomically

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


def _keep_zarr(asset: Asset) -> Asset:
    """An NWB-Zarr store as a local folder: its metadata, and every part that they speak of and that is there."""
    from nwb_lint.nwb.storage.atomic import write_atomically

    with Web() as web:
        try:
            content, tag = _consolidated(web, asset)
            target = _place(asset, hashlib.sha256(content + tag.encode()).hexdigest())
            if not target.is_dir():
                files = _metadata_files(asset, content)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, lambda folder: _fetch_store(web, asset, files, folder), wait=True)
        except OSError as error:
            raise not_reached(asset.address, error) from error
    return asset._replace(location=str(target))


@retried
def _consolidated(web: Web, asset: Asset) -> tuple[bytes, str]:
    """The metadata of a store, and what the server says of their version."""
    try:
        response = ask(web, f"{asset.location}/.zmetadata")
    except Refused as error:
        if error.status != 404:
            raise
        raise NWBError(f"{asset} has no consolidated metadata (.zmetadata), which reading over HTTP needs.") from None
    return response.content, response.headers.get("ETag", "") + response.headers.get("Last-Modified", "")


def _metadata_files(asset: Asset, content: bytes) -> dict[str, Any]:
    """The metadata of every group and array by the name of its file, and themselves.

    Raises: NWBError where they are none, or name a file outside their store.
    """
    try:
        files = dict(json.loads(content)["metadata"])
    except (ValueError, KeyError, TypeError) as error:
        raise NWBError(f"{asset}: its .zmetadata are damaged ({one_line(error)}). Tell its archive.") from error
    for name in files:
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
            raise NWBError(f"{asset}: its .zmetadata name a file {name!r} outside the store. Tell its archive.")
    return files | {".zmetadata": json.loads(content)}


def _fetch_store(web: Web, asset: Asset, files: dict[str, Any], folder: Path) -> None:
    for name, said in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(said), encoding="utf-8")
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for name, said in files.items():
            if name.rpartition("/")[2] == ".zarray":
                try:
                    parts = list(_parts_of(name.removesuffix(".zarray"), said))
                except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
                    raise NWBError(f"{asset}: {name} is damaged ({one_line(error)}). Tell its archive.") from error
                list(pool.map(lambda part: _fetch_part(web, asset, part, folder), parts))


def _parts_of(prefix: str, said: dict[str, Any]) -> Iterator[str]:
    """The names of all parts of an array of Zarr 2."""
    counts = [-(-int(size) // int(chunk)) for size, chunk in zip(said["shape"], said["chunks"], strict=True)]
    separator = said.get("dimension_separator") or "."
    for index in itertools.product(*map(range, counts)):
        yield prefix + (separator.join(map(str, index)) or "0")


def _fetch_part(web: Web, asset: Asset, name: str, folder: Path) -> None:
    try:
        content = get(web, f"{asset.location}/{quote(name)}")
    except Refused as error:
        if error.status != 404:
            raise
        return  # nor is it in the store: reading tells, where it is wanted
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _refuse_parts_elsewhere(asset: Asset) -> None:
    """Raise NWBError where a LINDI file names parts of other files: keeping it keeps none of them."""
    from nwb_lint.nwb.storage.dandi import token_of

    with Web(token_of(asset)) as web:
        try:
            said = json.loads(get(web, asset.location))
            named = {str(value[0]) for value in said["refs"].values() if isinstance(value, list)}
            templates = said.get("templates") or {}
        except OSError as error:
            raise not_reached(asset.address, error) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise NWBError(f"{asset} is not LINDI JSON ({one_line(error)}); pass one that lindi wrote.") from error
    for short, long in templates.items():
        named = {name.replace("{{" + short + "}}", str(long)) for name in named}
    if named:
        first = min(named)
        raise NWBError(
            f"{asset} is an index of parts that lie in {len(named)} other file{'s' * (len(named) > 1)}, which "
            f"download=True would not keep. Leave it out, or pass {first} itself."
        )
