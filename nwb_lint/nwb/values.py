"""Attribute values as plain arrays, and back with the very same type: what NWB and netCDF both need.

`pack` turns a value into ``(kind, data)``; `unpack` gives it back. Kinds are words, such as ``"float"``,
``"list of str"``, ``"numpy <f4"``: they are written beside the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nwb_lint.contract import ContractError

_PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
_CASTS: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}
_CONTAINERS: dict[type, str] = {list: "list of ", tuple: "tuple of "}


def pack(name: str, value: Any) -> tuple[str, Any]:
    """``(kind, data)`` of one attribute; data is a text, a number, or an array of either.

    Raises: ContractError where the value is none of those (None, a dict, a list of mixed texts and numbers).
    """
    if type(value) in _CONTAINERS:
        return _pack_many(name, value)
    if isinstance(value, np.ndarray) and value.ndim:
        if value.dtype.kind not in "biufU":
            raise _refused(name, value)
        return f"array of {value.dtype.str}", texts(name, value) if value.dtype.kind == "U" else _stored(value)
    kind = _kind(name, value)
    if isinstance(value, str):
        return kind, texts(name, np.array([str(value)], object))[0]
    return kind, _stored(_number(name, value))[()]


def unpack(kind: str, data: Any) -> Any:
    """The value that was packed, with its type.

    Raises: ValueError where the kind is not one that `pack` writes, or does not suit the data.
    """
    for container, prefix in _CONTAINERS.items():
        if kind.startswith(prefix):
            items = np.asarray(data).ravel().tolist()
            kinds = kind.removeprefix(prefix).split(", ")
            if len(kinds) == 1:
                kinds *= len(items)
            return container(_cast(k, item) for k, item in zip(kinds, items, strict=True))
    if kind.startswith("array of "):
        return np.asarray(data).astype(_dtype(kind.removeprefix("array of ")))
    return _cast(kind, np.asarray(data, object if kind == "str" else None).ravel()[0])


def texts(name: str, values: np.ndarray) -> np.ndarray:
    """The texts as an object array; raises ContractError for what is no text or what HDF5 cannot hold."""
    out = np.empty(values.shape, object)
    for where, value in np.ndenumerate(values):
        if not isinstance(value, str):
            raise ContractError(f"{name} holds {value!r} where text is needed; make every entry a str.")
        if "\0" in value or not _is_unicode(value):
            raise ContractError(f"{name} holds {value!r}, a text that HDF5 cannot store; remove the characters.")
        out[where] = str(value)
    return out


def _pack_many(name: str, value: list | tuple) -> tuple[str, Any]:
    kinds = [_kind(name, item) for item in value]
    prefix = _CONTAINERS[type(value)]
    if not kinds:
        return prefix, np.zeros(0)
    is_text = [isinstance(item, str) for item in value]
    if any(is_text) and not all(is_text):
        raise ContractError(f"attribute {name} mixes texts and numbers: {value!r}; use texts alone or numbers alone.")
    kind = prefix + (kinds[0] if len(set(kinds)) == 1 else ", ".join(kinds))
    if all(is_text):
        return kind, texts(name, np.array([str(item) for item in value], object))
    data = np.array([_number(name, item) for item in value])
    if data.dtype.kind == "f" and any(int(d) != item for d, item in zip(data, value, strict=True) if _whole(item)):
        raise ContractError(f"attribute {name} mixes fractions with integers too large for them: {value!r}.")
    return kind, _stored(data)


def _kind(name: str, value: Any) -> str:
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if isinstance(value, np.str_):
        return "numpy str"
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return f"numpy {value.dtype.str}"
    if isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind in "biuf":
        return f"array0 {value.dtype.str}"
    raise _refused(name, value)


def _cast(kind: str, item: Any) -> Any:
    if kind in _CASTS:
        return _CASTS[kind](item)
    if kind == "numpy str":
        return np.str_(item)
    word, _, dtype = kind.partition(" ")
    if word == "numpy":
        return _dtype(dtype).type(item)
    if word == "array0":
        return np.array(item, _dtype(dtype))
    raise ValueError(f"kind {kind!r} of an attribute is not known")


def _number(name: str, value: Any) -> np.ndarray:
    """The number as an array of no dims; integers must fit 64 bits."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ContractError(f"attribute {name} is {value!r}, an integer of more than 64 bits; store it as text.")
    return array


def _stored(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that every reader has: native, at least 32-bit floats."""
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    return array.astype(array.dtype.newbyteorder("="))


def _whole(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _dtype(text: str) -> np.dtype:
    try:
        return np.dtype(text)
    except TypeError as error:
        raise ValueError(f"{text!r} is not a dtype") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refused(name: str, value: Any) -> ContractError:
    return ContractError(
        f"attribute {name} is {value!r} ({type(value).__name__}); it needs to be text, a number, or a list."
    )
