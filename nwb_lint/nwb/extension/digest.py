"""A digest of what a Dataset holds. It is kept in the file, so that a damaged file is not read as if it were sound."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError

KEY = "content_sha256"  # of the entry in the file
VERIFIED = "verified"  # key of ``Dataset.encoding``: whether the file had a digest


def digest_of(dataset: xr.Dataset, packed: Callable[[str, Any], tuple[str, Any]]) -> str:
    """SHA-256 of names, dims, dtypes, values and attributes of a Dataset.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of numbers and texts.
    packed : callable
        Gives the kind and the plain data of an attribute, from its name and its value: `codec.pack`.

    Returns
    -------
    str
        64 hexadecimal digits. The order of variables and of attributes plays no role.
    """
    found = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        role = "coordinate" if name in dataset.coords else "data"
        for part in (name.encode(), repr(variable.dims).encode(), role.encode(), *_parts(variable.values)):
            _add(found, part)
        for part in _attribute_parts(variable.attrs, packed):
            _add(found, part)
    for part in _attribute_parts(dataset.attrs, packed):
        _add(found, part)
    return found.hexdigest()


def checked(dataset: xr.Dataset, kept: str | None, packed: Callable[[str, Any], tuple[str, Any]]) -> xr.Dataset:
    """A Dataset that was read, compared with the digest in its file.

    Parameters
    ----------
    dataset : xarray.Dataset
        What was read.
    kept : str or None
        The digest in the file; None where an earlier version wrote the file without one.
    packed : callable
        As for `digest_of`.

    Returns
    -------
    xarray.Dataset
        The same, with ``encoding["verified"]``: whether there was a digest.

    Raises
    ------
    ContractError
        If the digest is another one.
    """
    if kept is not None and kept != digest_of(dataset, packed):
        raise ContractError(
            f"its content is not what was written: the SHA-256 differs from {KEY} in the file. The file is damaged, or "
            "other software has changed it. Get it again, or write it again from the Dataset that it came from"
        )
    dataset.encoding[VERIFIED] = kept is not None
    return dataset


def _add(found: Any, part: bytes) -> None:
    found.update(len(part).to_bytes(8, "little") + part)


def _parts(values: np.ndarray) -> Iterator[bytes]:
    """Kind, shape and content of an array; every NaN counts as the same one."""
    yield repr(values.shape).encode()
    if values.dtype.kind in "OUT":
        yield b"text"
        yield from (str(one).encode() for one in values.ravel())
        return
    yield values.dtype.str[1:].encode()
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    if plain.dtype.kind == "f" and np.isnan(plain).any():
        plain = np.where(np.isnan(plain), np.array(np.nan, plain.dtype), plain)
    yield plain.tobytes()


def _attribute_parts(attrs: Mapping[Any, Any], packed: Callable[[str, Any], tuple[str, Any]]) -> Iterator[bytes]:
    for key in sorted(map(str, attrs)):
        kind, data = packed(key, attrs[key])
        yield from (b"attribute", key.encode(), kind.encode())
        yield from _parts(np.asarray(data, object if isinstance(data, str) else None))
