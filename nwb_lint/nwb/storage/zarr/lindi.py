"""LINDI files: JSON that lists where the chunks of an NWB file are. lindi opens them. They are of Zarr version 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py

from nwb_lint.errors import MissingFileError, NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, refuse_pipe
from nwb_lint.nwb.storage.http import as_nwb_error, get_bytes
from nwb_lint.nwb.storage.zarr.codecs import not_plain
from nwb_lint.nwb.storage.zarr.zarr2 import complete


def open_lindi(asset: Asset) -> h5py.File:
    """Open a LINDI JSON file; lindi fetches chunks when they are read.

    Parameters
    ----------
    asset : Asset
        A local or remote JSON file that lindi wrote.

    Returns
    -------
    lindi.LindiH5pyFile
        An object with the members of h5py.File.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If lindi is not installed, or the file is not LINDI JSON.
    """
    try:
        import lindi
    except ImportError as error:
        raise NWBError(f"{asset} is LINDI, which needs the extra: pip install 'nwb_lint[lindi]'.") from error
    from lindi.LindiH5pyFile.LindiReferenceFileSystemStore import LindiReferenceFileSystemStore

    content = read_lindi(asset)
    _check_other_files(asset, content)
    try:
        for key, value in content["refs"].items():
            metadata = value if isinstance(value, dict) or not key.endswith(".zarray") else json.loads(value)
            if key.endswith(".zarray") and (found := not_plain(metadata)):
                raise ValueError(f"{key.removesuffix('/.zarray')} has the codec {found[0]}, which may run programs")
        store = complete(LindiReferenceFileSystemStore)(content)
        return lindi.LindiH5pyFile.from_zarr_store(store, mode="r")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_lindi(asset, error) from error


def read_lindi(asset: Asset) -> dict[str, Any]:
    """The content of a LINDI JSON file, with at least the entry ``refs``.

    Parameters
    ----------
    asset : Asset
        A local or remote JSON file.

    Returns
    -------
    dict

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If it cannot be read, or is not LINDI JSON.
    """
    from nwb_lint.nwb.storage.dandi import open_session

    if not asset.remote and not asset.path.exists():
        raise MissingFileError(f"{asset}: no such file. A LINDI JSON file is needed. Check the path.")
    if not asset.remote:
        refuse_pipe(asset.path)
    with as_nwb_error(asset.address):
        if asset.remote:
            with open_session(asset) as session:
                text = get_bytes(session, asset.location)
        else:
            text = asset.path.read_bytes()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _not_lindi(asset, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("refs"), dict):
        raise _not_lindi(asset, "it has no refs")
    return content


def referenced_files(content: dict[str, Any]) -> set[str]:
    """The files in which a LINDI file says that chunks are, as paths or addresses.

    Parameters
    ----------
    content : dict
        From `read_lindi`.

    Returns
    -------
    set of str
    """
    refs = content["refs"]
    files = {str(value[0]) for value in refs.values() if isinstance(value, list) and value}
    for name, value in refs.items():
        if name.endswith(".zattrs"):
            attributes = value if isinstance(value, dict) else json.loads(value)
            link = attributes.get("_EXTERNAL_ARRAY_LINK") if isinstance(attributes, dict) else None
            files |= {str(link["url"])} if isinstance(link, dict) and "url" in link else set()
    for short, long in (content.get("templates") or {}).items():
        files = {name.replace("{{" + short + "}}", str(long)) for name in files}
    return files


def _check_other_files(asset: Asset, content: dict[str, Any]) -> None:
    """Raise NWBError if chunks are where a LINDI file may not lead.

    A local file may name files beside it, and addresses. A remote one may name its own host and those of the archives
    that dandi knows. ``external=True`` allows other files of this machine for the first, other hosts for the second.
    """
    try:
        named = sorted(referenced_files(content))
    except (ValueError, TypeError, AttributeError) as error:
        raise _not_lindi(asset, error) from error
    addresses = [name for name in named if name.startswith(("http://", "https://"))]
    paths = [name for name in named if name not in addresses]
    if asset.remote:
        if paths:
            raise NWBError(f"{asset} has chunks in {paths[0]}, a file of this machine. A remote file may not name one.")
        allowed = _hosts_of(asset)
        elsewhere = [host for host in map(_host, addresses) if host not in allowed]
    else:
        folder = Path(os.path.realpath(asset.path)).parent
        elsewhere = [name for name in paths if not Path(os.path.realpath(name)).is_relative_to(folder)]
    if elsewhere and not asset.external:
        where = "another host" if asset.remote else "a file of this machine"
        raise NWBError(
            f"{asset} has chunks in {elsewhere[0]}, {where}. It is not read by default. Pass external=True, where you "
            "trust the file."
        )


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _hosts_of(asset: Asset) -> set[str]:
    """The hosts that a remote LINDI file may name: its own, and those of the archives that dandi knows."""
    from dandi.consts import known_instances

    return {_host(asset.location), *(_host(instance.api) for instance in known_instances.values() if instance.api)}


def _not_lindi(asset: Asset, reason: object) -> NWBError:
    return NWBError(f"{asset} is not LINDI JSON ({one_line(reason)}). Pass a file that lindi wrote.")
