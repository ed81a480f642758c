"""Path → open NWB file: what a file is, where it is, what it says of itself."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

Source = str | os.PathLike[str]

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_GLOB = re.compile(r"[*?\[]")


class NWBError(ValueError):
    """A file does not hold what is needed; the message says what was found, needed, and what to do."""


class Provenance(NamedTuple):
    """What one NWB file says of itself; empty text where it does not say."""

    path: str
    identifier: str
    object_id: str
    units_object_id: str
    session_id: str
    subject_id: str


def open_nwb(source: Source) -> h5py.File:
    """Open one local NWB file (HDF5) read-only; close it, or use it in a ``with`` statement.

    Raises: NWBError, one line: no such file, a folder, not HDF5, truncated, HDF5 but not NWB, an address.

    Example:
        >>> with open_nwb("session.nwb") as file:
        ...     print(list(file["intervals"]))
        ['trials']
    """
    path = local_path(source)
    if not path.exists():
        raise NWBError(f"{path}: no such file; an NWB file is needed. Check the path.")
    if path.is_dir():
        raise NWBError(f"{path} is a folder; one NWB file (HDF5) is needed. Pass a file in it.")
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise NWBError(f"{path} may not be read; check its permissions.") from error
    except (OSError, RuntimeError) as error:
        raise NWBError(_why_not_opened(path, error)) from error
    try:
        version = root_text(file, "nwb_version")
        known = bool(version) or root_text(file, "neurodata_type") == "NWBFile"
    except (OSError, RuntimeError, KeyError) as error:
        file.close()
        raise NWBError(f"{path} is damaged: {one_line(error)}; pass a whole NWB file.") from error
    if not known:
        held = ", ".join(str(name) for name in list(file)[:6]) or "nothing"
        file.close()
        raise NWBError(f"{path} is HDF5 but not NWB: it has no nwb_version and holds {held}. Pass an NWB file.")
    return file


def local_path(source: Source) -> Path:
    """The path of a local source; raises NWBError for an address, which this version does not read."""
    if _REMOTE.match(os.fspath(source)):
        raise NWBError(f"{source} is an address; this version reads local files only. Download the file first.")
    return Path(source)


@contextmanager
def reading(source: Source) -> Iterator[h5py.File]:
    """`open_nwb` as a context in which damage found on the way (unreadable blocks) is an NWBError too."""
    with open_nwb(source) as file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            # what h5py raises where an object or a block of data in the file cannot be read
            raise NWBError(f"{source} is damaged: {one_line(error)}; pass a whole NWB file.") from error


def expand(sources: Source | Sequence[Source]) -> list[Path]:
    """Paths of one source or several; a text with ``*``, ``?`` or ``[`` stands for what it matches, sorted.

    Raises: NWBError where nothing matches, the list is empty, or a file is listed twice.
    """
    items = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    paths: list[Path] = []
    for item in items:
        path = local_path(item)
        if isinstance(item, str) and _GLOB.search(item) and not path.exists():
            found = sorted(glob.glob(item, recursive=True))
            if not found:
                raise NWBError(f"{item}: no file matches; a pattern needs at least one NWB file. Check the path.")
            paths += [Path(name) for name in found]
        else:
            paths.append(path)
    if not paths:
        raise NWBError("sources is empty; at least one NWB file is needed. Pass a path.")
    seen: dict[str, Path] = {}
    for path in paths:
        key = os.path.realpath(path)
        if key in seen:
            raise NWBError(f"{path} is listed twice (first as {seen[key]}); each file may come once. Remove one.")
        seen[key] = path
    return paths


def digest(path: Source) -> str:
    """SHA-256 of a file, as hexadecimal text.

    Raises: NWBError where the file cannot be read.
    """
    try:
        with open(local_path(path), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise NWBError(f"{path} cannot be read: {error}. Check the path.") from error


def provenance(file: h5py.File, path: Source) -> Provenance:
    """Identifiers of an open file; texts that are not there are empty."""
    units = file.get("units")
    return Provenance(
        path=str(path),
        identifier=dataset_text(file, "identifier"),
        object_id=root_text(file, "object_id"),
        units_object_id="" if units is None else as_text(units.attrs.get("object_id", "")),
        session_id=dataset_text(file, "general/session_id"),
        subject_id=dataset_text(file, "general/subject/subject_id"),
    )


def session_labels(files: Sequence[Provenance]) -> list[str]:
    """One label per file: its session id, else identifier, else stem; the stem where two share one."""
    stems = [Path(item.path).stem for item in files]
    labels = [item.session_id or item.identifier or stem for item, stem in zip(files, stems, strict=True)]
    for fallback in (stems, [item.path for item in files]):
        counts = {label: labels.count(label) for label in labels}
        labels = [other if counts[label] > 1 else label for label, other in zip(labels, fallback, strict=True)]
    return labels


def load(dataset: h5py.Dataset) -> np.ndarray:
    """All values of a dataset; raises NWBError where its size cannot be true, as in a damaged file."""
    check_size(dataset)
    try:
        return dataset[()]
    except (ValueError, MemoryError) as error:
        raise _too_large(dataset) from error


def check_size(dataset: h5py.Dataset) -> None:
    """Raise NWBError where a dataset that is stored as it is claims more than its file holds."""
    stored_as_is = dataset.compression is None and h5py.check_string_dtype(dataset.dtype) is None
    if stored_as_is and dataset.nbytes > max(dataset.file.id.get_filesize(), dataset.id.get_storage_size()):
        raise _too_large(dataset)


def _too_large(dataset: h5py.Dataset) -> NWBError:
    told = f"{dataset.name} of {dataset.file.filename} claims {dataset.shape} values of {dataset.dtype}"
    return NWBError(f"{told}, more than the file holds: damaged. Get the file again.")


def root_text(file: h5py.File, name: str) -> str:
    return as_text(file.attrs.get(name, ""))


def dataset_text(file: h5py.File, name: str) -> str:
    """The scalar text at a path, empty where there is none."""
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or item.size != 1 or h5py.check_string_dtype(item.dtype) is None:
        return ""
    return as_text(np.asarray(item[()], object).ravel()[0])


def as_text(value: object) -> str:
    """Text of a text, bytes decoded."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def one_line(error: BaseException) -> str:
    """The message of an exception on one line."""
    return " ".join(str(error).split()).strip("'\"")


def _why_not_opened(path: Path, error: BaseException) -> str:
    """One line for what HDF5 says, which depends on its version, so look at the file too."""
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); an NWB file (HDF5) is needed. Get the file again."
    if not h5py.is_hdf5(path):
        return f"{path} is not HDF5; an NWB file (HDF5) is needed. Check the path."
    if "truncated" in str(error):
        return f"{path} is truncated (its end is missing at {path.stat().st_size} bytes). Get the file again."
    return f"{path} cannot be opened as HDF5 ({one_line(error)}); get the whole file again."
