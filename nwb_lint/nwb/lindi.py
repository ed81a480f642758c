"""LINDI: a JSON file that says where the parts of an NWB file lie, opened through lindi."""

from __future__ import annotations

import json
from typing import Any

import h5py

from nwb_lint.nwb.asset import Asset, NWBError, one_line
from nwb_lint.nwb.web import Web, get, not_reached


def open_lindi(asset: Asset) -> h5py.File:
    """Open a LINDI JSON file; its parts are fetched by lindi when they are read.

    Raises: NWBError, one line: lindi is not there, no such file, not LINDI.
    """
    try:
        import lindi
    except ImportError as error:
        raise NWBError(f"{asset} is LINDI, which needs the extra: pip install 'nwb_lint[lindi]'.") from error
    try:
        said = json.loads(_content(asset))
        if not isinstance(said, dict) or not isinstance(said.get("refs"), dict):
            raise ValueError("it has no refs")
        _refuse_pickles(said["refs"])
        return lindi.LindiH5pyFile.from_reference_file_system(said, _source_url_or_path=asset.location)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, NWBError):
            raise
        raise NWBError(f"{asset} is not LINDI JSON ({one_line(error)}); pass one that lindi wrote.") from error


def _content(asset: Asset) -> bytes:
    from nwb_lint.nwb.dandi import token_of

    try:
        if asset.remote:
            with Web(token_of(asset)) as web:
                return get(web, asset.location)
        return asset.path.read_bytes()
    except FileNotFoundError as error:
        raise NWBError(f"{asset}: no such file; a LINDI JSON file is needed. Check the path.") from error
    except OSError as error:
        raise not_reached(asset.address, error) from error


def _refuse_pickles(refs: dict[str, Any]) -> None:
    """Raise ValueError where an array would be decoded by running a program."""
    for key, value in refs.items():
        if key.endswith(".zarray"):
            said = value if isinstance(value, dict) else json.loads(value)
            codecs = [*(said.get("filters") or []), said.get("compressor") or {}]
            if any(codec.get("id") == "pickle" for codec in codecs):
                raise ValueError(f"{key.removesuffix('/.zarray')} holds Python pickles, which are not read")
