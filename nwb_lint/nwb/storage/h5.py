"""Objects of an open NWB file: what kind they are, their text, their values.

HDF5 files are opened by h5py. Zarr and LINDI files give objects of classes that derive from h5py's, so the functions
here work for all of them.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.prefetch import load_streamed, streamed


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
    if not is_dataset(item) or item.size != 1 or not holds_text(item):
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
    if streamed(dataset) is not None:
        return load_streamed(dataset)
    check_size(dataset)
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
    uncompressed = type(dataset) is h5py.Dataset and dataset.compression is None and not holds_text(dataset)
    if uncompressed and dataset.nbytes > max(dataset.file.id.get_filesize(), dataset.id.get_storage_size()):
        raise _too_large(dataset)


def _too_large(dataset: h5py.Dataset) -> NWBError:
    claim = f"{dataset.name} of {dataset.file.filename} claims {dataset.shape} values of {dataset.dtype}"
    return NWBError(f"{claim}, more than the file holds. The file is damaged. Get it again.")
