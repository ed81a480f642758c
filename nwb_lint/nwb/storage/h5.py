"""Objects of an open NWB file: how to reach them, what kind they are, their text, their values.

All files give objects of classes that derive from h5py's: HDF5 (`checked_file`), Zarr and LINDI (`zarr`). The functions
here work for all of them. `find_dataset` and `find_group` are how a member of a group is reached: None means that the
file does not name it. What it names and does not hold is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.storage.checked_file import CheckedDataset
from nwb_lint.nwb.storage.prefetch import load_streamed, streamed
from nwb_lint.parallel.memory import check_memory


def is_group(item: Any) -> bool:
    """Whether an object is a group.

    Parameters
    ----------
    item : object
        Any member of an open file.

    Returns
    -------
    bool
    """
    return isinstance(item, h5py.Group)


def is_dataset(item: Any) -> bool:
    """Whether an object is a dataset.

    Parameters
    ----------
    item : object
        Any member of an open file.

    Returns
    -------
    bool
    """
    return isinstance(item, h5py.Dataset)


def find_dataset(group: Any, name: str) -> Any:
    """A dataset that a group may have.

    Parameters
    ----------
    group : h5py.Group
        A group of an open file.
    name : str
        Its name, or a path from the group.

    Returns
    -------
    h5py.Dataset or None
        None where nothing has that name.

    Raises
    ------
    NWBError
        If the name is that of a group, or of something that cannot be opened.
    """
    return _find(group, name, is_dataset, "a dataset")


def find_group(group: Any, name: str) -> Any:
    """A group that a group may have.

    Parameters
    ----------
    group : h5py.Group
        A group of an open file.
    name : str
        Its name, or a path from the group.

    Returns
    -------
    h5py.Group or None
        None where nothing has that name.

    Raises
    ------
    NWBError
        If the name is that of a dataset, or of something that cannot be opened.
    """
    return _find(group, name, is_group, "a group")


def _find(group: Any, name: str, suits: Callable[[Any], bool], what: str) -> Any:
    item = group.get(name)
    if item is None or suits(item):
        return item
    kind = "a dataset" if is_dataset(item) else "a group" if is_group(item) else "a named type"
    path = f"{as_text(group.name or '').rstrip('/')}/{name}"
    raise NWBError(f"{path} of {group.file.filename} is {kind}. It needs to be {what}. Write the file again.")


def openable_members(group: Any) -> dict[str, Any]:
    """The members of a group that can be opened. Use it to search a file, not for what a user names.

    Parameters
    ----------
    group : h5py.Group
        A group of an open file.

    Returns
    -------
    dict of str to object
        Name → group or dataset; in the order of the file.
    """
    return {name: item for name in members(group) if not isinstance(item := member_or_error(group, name), NWBError)}


def member_or_error(group: Any, name: str) -> Any:
    """The member of this name, or the NWBError that says why it cannot be opened."""
    try:
        return group.get(name)
    except NWBError as error:
        return error


def shape_text(item: Any) -> str:
    """The type and shape of a dataset in words, for messages: 'float64 of shape (3, 2)', 'text', 'no values'."""
    if item.shape is None:
        return "empty: it has no values at all"
    shape = f"of shape {tuple(int(size) for size in item.shape)}" if item.ndim else "a single value"
    return f"{type_text(item)}, {shape}"


def virtual_hint(item: Any) -> str:
    """A sentence for messages about a dataset that is too short, if HDF5 may have made it so; else empty."""
    if not isinstance(item, CheckedDataset) or not item.is_virtual:
        return ""
    files = ", ".join(sorted({source.file_name for source in item.virtual_sources()})[:4])
    return f"It is a virtual dataset of {files}, and such files may be missing. "


def type_text(item: Any) -> str:
    """The type of a dataset in words, for messages."""
    dtype = item.dtype
    if holds_text(item):
        return "text"
    if (reference := h5py.check_ref_dtype(dtype)) is not None:
        return "region references" if reference is h5py.RegionReference else "object references"
    if (base := h5py.check_vlen_dtype(dtype)) is not None:
        return f"lists of {np.dtype(base)} (HDF5 vlen)"
    if dtype.names is not None:
        return f"pairs of {', '.join(dtype.names)} (HDF5 compound)" if len(dtype.names) == 2 else "HDF5 compound"
    return "opaque bytes" if dtype.kind == "V" else str(dtype)


def holds_numbers(item: Any) -> bool:
    """Whether the values of a dataset are real numbers, and not codes of words (an enum), yes or no, or complex."""
    return item.dtype.kind in "iuf" and h5py.check_enum_dtype(item.dtype) is None


def is_list(item: Any) -> bool:
    """Whether each value of a dataset is a list of values, or a reference."""
    return item.dtype.kind == "O" and not holds_text(item)


def never_written(item: Any) -> bool:
    """Whether no value of a dataset of an HDF5 file was ever written, so that all read as its fill value."""
    local = isinstance(getattr(item, "id", None), h5py.h5d.DatasetID)
    return local and not item.is_virtual and not item.id.get_storage_size()


def holds_text(item: Any) -> bool:
    """Whether the values of a dataset are texts, as HDF5, Zarr or LINDI store them.

    Parameters
    ----------
    item : h5py.Dataset
        A dataset of an open file.

    Returns
    -------
    bool
    """
    return h5py.check_string_dtype(item.dtype) is not None or item.dtype.kind in "SU"


def is_scalar_type(item: Any) -> bool:
    """Whether the values of a dataset are texts, numbers or bools.

    Parameters
    ----------
    item : h5py.Dataset
        A dataset of an open file.

    Returns
    -------
    bool
    """
    return holds_text(item) or item.dtype.kind in "biuf"


def is_reference(item: Any) -> bool:
    """Whether the values of a dataset are references to objects.

    Parameters
    ----------
    item : h5py.Dataset
        A dataset of an open file.

    Returns
    -------
    bool
    """
    return h5py.check_ref_dtype(item.dtype) is h5py.Reference


def enum_words(item: Any) -> dict[int, str] | None:
    """The words of a dataset of HDF5 enum type.

    Parameters
    ----------
    item : h5py.Dataset
        A dataset of an open file.

    Returns
    -------
    dict of int to str, or None
        The word of each number; None for a dataset of another type.
    """
    enum = h5py.check_enum_dtype(item.dtype)
    return None if enum is None else {number: word for word, number in enum.items()}


def pointed_at(file: Any, reference: Any) -> Any:
    """The object that a reference points at.

    Parameters
    ----------
    file : h5py.File
        The file that the reference is from.
    reference : object
        A value of a dataset or attribute.

    Returns
    -------
    h5py.Group, h5py.Dataset or None
        None for an empty reference, and for a value that is not a reference.
    """
    return file[reference] if isinstance(reference, h5py.Reference) and reference else None


def name_of(file: Any, reference: Any) -> str:
    """The name of the object that a reference points at, without the path.

    Parameters
    ----------
    file : h5py.File
        The file that the reference is from.
    reference : object
        A value of a dataset or attribute.

    Returns
    -------
    str
        Empty where `pointed_at` gives None.
    """
    found = pointed_at(file, reference)
    return "" if found is None else as_text(found.name).rsplit("/", 1)[-1]


def members(group: Any) -> list[str]:
    """The names in a group that are printable text. In a damaged file names may be bytes, or not UTF-8.

    Parameters
    ----------
    group : h5py.Group
        A group of an open file.

    Returns
    -------
    list of str
    """
    return [name for name in group if isinstance(name, str) and name.isprintable()]


def as_text(value: object) -> str:
    """The text of a value.

    Parameters
    ----------
    value : object
        Bytes are decoded as UTF-8. Bytes that are not UTF-8 are decoded as Latin-1, so that different bytes give
        different texts. Any other value is converted by `str`.

    Returns
    -------
    str
    """
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def root_text(file: h5py.File, name: str) -> str:
    """The text of an attribute of the root; empty where there is none."""
    return as_text(file.attrs.get(name, ""))


def dataset_text(file: h5py.File, name: str) -> str:
    """The scalar text at a path; empty where there is none."""
    item = file.get(name)
    if not is_dataset(item) or item.shape is None or item.size != 1 or not holds_text(item):
        return ""
    return as_text(np.asarray(item[()], object).ravel()[0])


def load(dataset: h5py.Dataset) -> np.ndarray:
    """Read all values of a dataset, local or remote.

    Parameters
    ----------
    dataset : h5py.Dataset
        A dataset of an open file.

    Returns
    -------
    numpy.ndarray
        The values, with the shape and dtype of the dataset.

    Raises
    ------
    NWBError
        If the dataset claims more values than the file can hold, as in a damaged file.
    """
    remote = streamed(dataset) is not None
    if not remote:
        check_size(dataset)
    _check_free(dataset)
    if remote:
        return load_streamed(dataset)
    try:
        return dataset[()]
    except (ValueError, MemoryError) as error:
        raise _too_large(dataset) from error


def check_size(dataset: h5py.Dataset) -> None:
    """Check that an uncompressed dataset of an HDF5 file claims no more bytes than its file holds.

    Parameters
    ----------
    dataset : h5py.Dataset
        A dataset of an open file; other kinds of datasets pass.

    Raises
    ------
    NWBError
        If it claims more, as in a damaged file.
    """
    if not isinstance(dataset, CheckedDataset) or dataset.shape is None:
        return
    dataset.check_stored()
    uncompressed = dataset.compression is None and not (dataset.is_virtual or dataset.external or holds_text(dataset))
    if uncompressed and dataset.nbytes > max(dataset.file.id.get_filesize(), dataset.id.get_storage_size()):
        raise _too_large(dataset)


def _check_free(dataset: h5py.Dataset) -> None:
    """Raise NWBError where the values of a dataset need more memory than is free."""
    if dataset.shape is None:
        return
    n_bytes = float(np.prod(dataset.shape, dtype=float)) * dataset.dtype.itemsize
    try:
        check_memory(n_bytes, f"{dataset.name} of {dataset.file.filename}", "Pass another file, or read a part of it")
    except ContractError as error:
        raise NWBError(str(error)) from None


def _too_large(dataset: h5py.Dataset) -> NWBError:
    claim = f"{dataset.name} of {dataset.file.filename} claims {dataset.shape} values of {dataset.dtype}"
    return NWBError(f"{claim}, more than the file holds. The file is damaged. Get it again.")
