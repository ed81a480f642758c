"""The stores of NWB-Zarr: a local folder, or one over HTTP; by zarr 2, which reads version 2 of the format, or zarr 3.

Version 2 was written by hdmf-zarr before 0.14, which writes every chunk: one that is missing is an error. Version 3 is
written by hdmf-zarr from 0.14 on. It leaves out chunks that hold nothing but the fill value.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nwb_lint.errors import MissingFileError, NWBError
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.http import FileSession, PermanentError, describe_error, get_bytes, unreadable
from nwb_lint.nwb.storage.zarr.codecs import damage_is_oserror
from nwb_lint.nwb.storage.zarr.objects import ZarrFile
from nwb_lint.nwb.storage.zarr.zarr2 import open_root as open_by_zarr_2
from nwb_lint.nwb.storage.zarr.zarr3 import open_root as open_by_zarr_3

Read = Callable[[str], bytes]  # the bytes of a key; KeyError where there are none


def open_zarr(asset: Asset) -> ZarrFile:
    """Open an NWB-Zarr folder.

    Parameters
    ----------
    asset : Asset
        A local folder, or one over HTTP that has consolidated metadata.

    Returns
    -------
    ZarrFile

    Raises
    ------
    MissingFileError
        If there is no such folder.
    NWBError
        If zarr is not installed, or cannot read this version of the format; if the folder is not a Zarr group.
    """
    try:
        import zarr
    except ImportError as error:
        raise NWBError(f"{asset} is Zarr, which needs the extra: pip install 'nwb_lint[zarr]'.") from error
    if not asset.remote and not asset.path.is_dir():
        raise MissingFileError(f"{asset}: no such file. An NWB-Zarr folder is needed. Check the path.")
    session = FileSession() if asset.remote else None
    try:
        with damage_is_oserror():
            read = _reader(asset, session)
            version, is_zarr_2 = _version_of(asset, read), hasattr(zarr, "DirectoryStore")
            if version == 3 and is_zarr_2:
                raise _of_zarr_3(asset, zarr.__version__)
            opened: Any = open_by_zarr_2(asset, read) if is_zarr_2 else open_by_zarr_3(asset, read, version)
            root, backend = opened
            return ZarrFile(root, backend, asset.address, session)
    except (NWBError, OSError, KeyError) as error:
        with suppress(OSError):
            if isinstance(error, KeyError) and session is not None:
                error = no_zarr_metadata(asset, session)
        if session is not None:
            session.close()
        if isinstance(error, NWBError):
            raise error from None
        if asset.remote:
            raise unreadable(asset.address, error) from error
        raise NWBError(
            f"{asset} cannot be read as Zarr ({describe_error(error)}). Pass a whole NWB-Zarr folder."
        ) from error


def written_version() -> int:
    """The version of the format that the installed hdmf-zarr writes: 2 with zarr 2, and 3 with zarr 3."""
    import zarr

    return 2 if hasattr(zarr, "DirectoryStore") else 3


def consolidate(path: Path) -> None:
    """Collect the metadata of a folder that was added to, as reading over HTTP needs it."""
    import zarr

    if written_version() == 2:  # hdmf-zarr did so
        return
    for file in path.rglob("zarr.json"):  # copies in the groups are of the time before
        metadata = json.loads(file.read_text("utf-8"))
        if metadata.pop("consolidated_metadata", None) is not None:
            file.write_text(json.dumps(metadata), "utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that version 3 of the format does not define consolidated metadata
        zarr.consolidate_metadata(str(path))


def no_zarr_metadata(asset: Asset, session: FileSession) -> NWBError:
    """The error for a remote Zarr folder without consolidated metadata.

    Parameters
    ----------
    asset : Asset
        The folder.
    session : FileSession
        Used to find out whether there is a Zarr folder at all.

    Returns
    -------
    NWBError
        A `MissingFileError` where there is none.
    """
    try:
        get_bytes(session, f"{asset.location}/.zgroup")
    except OSError as error:
        with suppress(OSError):
            get_bytes(session, f"{asset.location}/zarr.json")
            return _no_consolidated(asset, "in zarr.json")
        return unreadable(asset.address, error)
    return _no_consolidated(asset, ".zmetadata")


def _no_consolidated(asset: Asset, where: str) -> NWBError:
    return NWBError(f"{asset} has no consolidated metadata ({where}), which reading over HTTP needs.")


def _of_zarr_3(asset: Asset, installed: str) -> NWBError:
    return NWBError(
        f"{asset} is Zarr of version 3 (zarr.json). zarr {installed} reads version 2. Install zarr 3 (Python 3.11 or "
        "later), or export the file to HDF5."
    )


def _version_of(asset: Asset, read: Read) -> int:
    """The version of the format: 2 or 3."""
    if not asset.remote:
        return 3 if not (asset.path / ".zgroup").exists() and (asset.path / "zarr.json").exists() else 2
    try:
        read(".zmetadata")
        return 2
    except KeyError:
        read("zarr.json")
        return 3


def _reader(asset: Asset, session: FileSession | None) -> Read:
    """The function that gives the bytes of a key."""
    if session is not None:
        kept: dict[str, bytes] = {}  # metadata is asked for twice: to know the version, and by zarr

        def over_http(key: str) -> bytes:
            if key in kept:
                return kept[key]
            try:
                content = get_bytes(session, f"{asset.location}/{quote(key)}")
            except PermanentError as error:
                if error.status == 404:
                    raise KeyError(key) from None
                raise
            if key in (".zmetadata", "zarr.json"):
                kept[key] = content
            return content

        return over_http
    root = os.path.realpath(asset.path)

    def in_folder(key: str) -> bytes:
        path = os.path.realpath(os.path.join(root, key))
        if not asset.external and not Path(path).is_relative_to(root):
            raise NWBError(
                f"{key} of {asset} is a link to {path}, outside of the folder. It is not read by default. Pass "
                "external=True, where you trust the file."
            )
        folder = Path(root, key).parent
        if (leads_to := folder.resolve()) != folder and folder.is_relative_to(leads_to):
            raise NWBError(f"{key} of {asset} is reached by a link to a folder that it lies in. Remove the link.")
        try:
            return Path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(key) from None

    return in_folder
