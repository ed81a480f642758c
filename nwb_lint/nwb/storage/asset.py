"""One file to read: the address that names it, and where its bytes are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from nwb_lint.errors import NWBError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# Names of parameters of an address that give access to a file, or are signed with what does.
_SECRET = re.compile(
    r"^sig$|signature|token|secret|passw|pwd$|credential|auth(?!or)|bearer|jwt|policy|^x-(amz|goog|oss|ms)-"
    r"|(^|[-_.])key|(api|access)key",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Where a file is in an archive, or what an address says of that; a part that is not known is empty.

    Attributes
    ----------
    instance : str, default=""
        The archive: a name that dandi knows, a host, or the address of its API. Empty for the one in use.
    dandiset : str, default=""
        Six digits.
    version : str, default=""
        ``draft`` or a published version.
    path : str, default=""
        Path of the file in the dandiset. In an address it may be a pattern, or a folder, which ends with ``/``; empty
        for all files.
    asset_id : str, default=""
        The identifier of the file in the archive.
    """

    instance: str = ""
    dandiset: str = ""
    version: str = ""
    path: str = ""
    asset_id: str = ""

    @property
    def address(self) -> str:
        """``dandi://…`` of this place; empty where dandiset or path are not known."""
        parts = [part for part in (self.instance, self.dandiset, self.version, self.path) if part]
        return f"dandi://{'/'.join(parts)}" if self.dandiset and self.path else ""


class Asset(NamedTuple):
    """One file to read. It can be sent to another process.

    ``address`` and what is shown of an asset hold no secret. ``location`` may have the password or the signature that
    the file is read with, and is never written.

    Attributes
    ----------
    address : str
        The name of the file in messages and in provenance: a path, a URL, or a DANDI address such as
        ``dandi://000128/0.220113.0400/sub-Jenkins/a.nwb``. ``str(asset)`` is this address.
    location : str
        Where the bytes are: a path, or an http(s) URL.
    kind : str, default="hdf5"
        ``"hdf5"``, ``"zarr"`` or ``"lindi"``; ``"memory"``: HDF5 whose bytes are ``content``.
    digest : str, default=""
        What an archive gives as the SHA-256 (hexadecimal) of the file; before it has computed that, the ETag of DANDI;
        of a Zarr folder, its checksum.
    size : int, default=0
        What an archive gives as the number of bytes; 0 if it is not known.
    place : Place
        Where the file is in an archive, as far as that is known; also of a local file in a downloaded dandiset.
    direct : str, default=""
        Where the bytes of an open file of an archive are: ``location`` would redirect to there.
    derived : bool, default=False
        Whether what an archive lists of the file names no activity, so that the file may hold a fit alone.
    external : bool, default=False
        Whether other files that this one names (links, values that HDF5 keeps elsewhere) are read too.
    content : bytes, default=b""
        The bytes of a file that is in memory only. Its location is an address that nothing can be read from.
    """

    address: str
    location: str
    kind: str = "hdf5"
    digest: str = ""
    size: int = 0
    place: Place = Place()
    direct: str = ""
    derived: bool = False
    external: bool = False
    content: bytes = b""

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"Asset({self.address!r}, kind={self.kind!r})"

    @property
    def remote(self) -> bool:
        """Whether the bytes are in no file of this machine."""
        return SCHEME.match(self.location) is not None

    @property
    def has_secret(self) -> bool:
        """Whether the file is read with a password, a token or a signature in its location."""
        return without_secrets(self.location) != self.location

    @property
    def path(self) -> Path:
        """The path of a local file; NWBError for a remote one."""
        if self.remote:
            raise NWBError(f"{self.address} is not on this machine. A local file is needed. Pass download=True.")
        return Path(self.location)


def kind_of(name: str) -> str:
    """The kind of a file by the ending of its name.

    Parameters
    ----------
    name : str
        A path or address.

    Returns
    -------
    str
        ``"lindi"`` for ``.lindi.json``, ``"zarr"`` for ``.zarr``, ``"hdf5"`` for any other.
    """
    lower = name.lower().rstrip("/")
    return "lindi" if lower.endswith(".lindi.json") else "zarr" if lower.endswith(".zarr") else "hdf5"


def cache_folder() -> Path:
    """The folder for bytes of remote files: ``NWB_LINT_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_path

    named = os.environ.get("NWB_LINT_CACHE")
    return Path(named) if named else user_cache_path("nwb_lint")


def refuse_pipe(path: Path) -> None:
    """Raise NWBError for a pipe or a device: opening it waits for whoever writes to it, or it has no end.

    Parameters
    ----------
    path : Path
        Any path.

    Raises
    ------
    NWBError
        If it is there, and neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise NWBError(f"{path} is a pipe or a device. A file is needed. Pass its path.")


def without_secrets(address: str) -> str:
    """An address as it is shown and written: without user, password, and parameters that give access to the file.

    Parameters
    ----------
    address : str
        A URL, or a path, which is returned as it is.

    Returns
    -------
    str
        Parameters that say which file it is, such as ``versionId``, are still in it.

    Examples
    --------
    >>> without_secrets("https://me:word@lab.org/a.nwb?versionId=3&X-Amz-Signature=5f")
    'https://lab.org/a.nwb?versionId=3'
    """
    if SCHEME.match(address) is None:
        return address
    parts = urlsplit(address)
    query = "&".join(one for one in parts.query.split("&") if not _names_secret(one))
    anchor = "" if _names_secret(parts.fragment) else parts.fragment
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment=anchor))


def _names_secret(parameter: str) -> bool:
    return _SECRET.search(unquote_plus(parameter.partition("=")[0])) is not None
