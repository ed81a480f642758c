"""What an object of an open file is: the only tests of h5py types beside `source`, so that other stores can join."""

from __future__ import annotations

from typing import Any

import h5py

from nwb_lint.nwb.storage.source import as_text, holds_text


def is_group(item: Any) -> bool:
    return isinstance(item, h5py.Group)


def is_dataset(item: Any) -> bool:
    return isinstance(item, h5py.Dataset)


def is_scalar_type(item: Any) -> bool:
    """Whether the entries of a dataset are texts, numbers or bools."""
    return holds_text(item) or item.dtype.kind in "biuf"


def is_reference(item: Any) -> bool:
    """Whether a dataset holds references to objects."""
    return h5py.check_ref_dtype(item.dtype) is h5py.Reference


def enum_words(item: Any) -> dict[int, str] | None:
    """The words of a dataset of HDF5 enum type; None for any other."""
    enum = h5py.check_enum_dtype(item.dtype)
    return None if enum is None else {number: word for word, number in enum.items()}


def pointed_at(file: Any, reference: Any) -> Any:
    """The object that a reference points at; None for what is no reference, or an empty one."""
    return file[reference] if isinstance(reference, h5py.Reference) and reference else None


def name_of(file: Any, reference: Any) -> str:
    """The last part of the name of the object that a reference points at, empty where there is none."""
    found = pointed_at(file, reference)
    return "" if found is None else as_text(found.name).rsplit("/", 1)[-1]


def members(group: Any) -> list[str]:
    """Names in a group, those that are proper text: in a damaged file they may be bytes, or not UTF-8."""
    return [name for name in group if isinstance(name, str) and name.isprintable()]
