"""One recording's file: the address that names it, and where its bytes are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from nwb_lint.errors import NWBError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


class Asset(NamedTuple):
    """One file to read; ``str(asset)`` is its address. It holds no secret, and can be sent to another process.

    | field | |
    |---|---|
    | address | what names it for people and in provenance: a path, a URL, ``dandi://000128/0.220113.0400/…`` |
    | location | where its bytes are: the path, or an http(s) URL |
    | kind | ``hdf5``, ``zarr`` or ``lindi`` |
    | digest | SHA-256 where an archive knows it, as hexadecimal text, or its checksum of a Zarr folder; else empty |
    | size | bytes where an archive knows them; else 0 |
    | asset_id | what an archive knows it by; else empty |
    """

    address: str
    location: str
    kind: str = "hdf5"
    digest: str = ""
    size: int = 0
    asset_id: str = ""

    def __str__(self) -> str:
        return self.address

    @property
    def remote(self) -> bool:
        """Whether the bytes lie on another machine."""
        return SCHEME.match(self.location) is not None

    @property
    def path(self) -> Path:
        """The path of a local asset.

        Raises: NWBError for one that lies elsewhere.
        """
        if self.remote:
            raise NWBError(f"{self.address} is not on this machine; a local file is needed. Pass download=True.")
        return Path(self.location)


def kind_of(name: str) -> str:
    """The kind that a path or address stands for, by its ending."""
    lower = name.lower().rstrip("/")
    return "lindi" if lower.endswith(".lindi.json") else "zarr" if lower.endswith(".zarr") else "hdf5"


def cache_folder() -> Path:
    """Where bytes of remote files are kept: ``NWB_LINT_CACHE``, or the user's cache folder."""
    from platformdirs import user_cache_path

    named = os.environ.get("NWB_LINT_CACHE")
    return Path(named) if named else user_cache_path("nwb_lint")


def as_text(value: object) -> str:
    """Text of a text, bytes decoded: as UTF-8, or where they are none as Latin-1, in which no two are alike."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
