"""Sources → open NWB files: what a source is, where its bytes are, what a file says of itself."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import h5py
import numpy as np

from nwb_lint.errors import ContractError, NWBError, one_line
from nwb_lint.nwb.storage.asset import SCHEME, Asset, as_text, kind_of
from nwb_lint.nwb.storage.digests import sha256, stamp
from nwb_lint.nwb.storage.prefetch import load_streamed, streamed

__all__ = ["Asset", "NWBError", "Provenance", "Source", "as_text", "expand", "load", "open_nwb", "reading"]

Source = str | os.PathLike[str] | Asset

_GLOB = re.compile(r"[*?\[]")
_SCHEMES = ("dandi", "http", "https", "s3")


class Provenance(NamedTuple):
    """What one NWB file says of itself; empty text where it does not say."""

    path: str
    identifier: str
    object_id: str
    units_object_id: str
    session_id: str
    subject_id: str


def open_nwb(source: Source, *, download: bool = False) -> h5py.File:
    """Open one NWB file read-only, wherever it is; close it, or use it in a ``with`` statement.

    | source | |
    |---|---|
    | path | HDF5, an NWB-Zarr folder (extra ``zarr``), LINDI JSON (``*.lindi.json``, extra ``lindi``) |
    | ``https://…``, ``s3://bucket/key`` | HDF5 streamed by ranges of bytes; ``*.zarr``; ``*.lindi.json`` |
    | ``dandi://<id>[/<version>]/<path>`` | an asset of DANDI, published or draft (`nwb_lint.nwb.storage.dandi`) |

    Remote files are streamed, and what came once is kept on disk: of the files used last, up to
    ``NWB_LINT_CACHE_GB`` (10). ``download=True`` keeps the whole file. Both are in the user's cache folder, or in
    ``NWB_LINT_CACHE``. Zarr and LINDI give objects with h5py's members.

    Raises: NWBError, one line: no such file, a folder, not HDF5, truncated, HDF5 but not NWB, not reached.

    Example:
        >>> with open_nwb("session.nwb") as file:
        ...     print(list(file["intervals"]))
        ['trials']
    """
    asset = one_asset(source, download=download)
    file = _open(asset)
    try:
        version = root_text(file, "nwb_version")
        known = bool(version) or root_text(file, "neurodata_type") == "NWBFile"
        held = ", ".join(str(name) for name in islice(file, 6)) or "nothing"  # lindi's have no length
    except (OSError, RuntimeError, KeyError) as error:
        file.close()
        raise _broken(asset, error) from error
    if not known:
        what = {"hdf5": "HDF5", "zarr": "Zarr", "lindi": "LINDI"}[asset.kind]
        file.close()
        raise NWBError(f"{asset} is {what} but not NWB: it has no nwb_version and holds {held}. Pass an NWB file.")
    return file


def _open(asset: Asset) -> h5py.File:
    if asset.kind == "zarr":
        from nwb_lint.nwb.storage.zarr import open_zarr

        return open_zarr(asset)
    if asset.kind == "lindi":
        from nwb_lint.nwb.storage.zarr import open_lindi

        return open_lindi(asset)
    if asset.remote:
        from nwb_lint.nwb.storage.streaming import open_remote

        return open_remote(asset)
    path = asset.path
    if not path.exists():
        raise NWBError(f"{path}: no such file; an NWB file is needed. Check the path.")
    if path.is_dir():
        raise NWBError(f"{path} is a folder; one NWB file (HDF5 or Zarr) is needed. Pass a file in it.")
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise NWBError(f"{path} may not be read; check its permissions.") from error
    except (OSError, RuntimeError) as error:
        raise NWBError(_why_not_opened(path, error)) from error


@contextmanager
def reading(source: Source) -> Iterator[h5py.File]:
    """`open_nwb` as a context in which what fails on the way (damage, the network) is an NWBError too."""
    asset = one_asset(source)
    with open_nwb(asset) as file:
        try:
            yield file
        except (NWBError, ContractError, Warning):
            raise
        except (OSError, RuntimeError, KeyError) as error:
            # what h5py raises where an object or a block of data in the file cannot be read
            raise _broken(asset, error) from error
        except Exception as error:
            if asset.kind != "lindi":  # which raises plain Exceptions
                raise
            raise _broken(asset, error) from error


def _broken(asset: Asset, error: BaseException) -> NWBError:
    """What is told where reading an open file fails."""
    if asset.remote or asset.kind == "lindi":
        from nwb_lint.nwb.storage.http import why

        return NWBError(f"{asset} could not be read on: {why(error)}. Try again, or check the file.")
    return NWBError(f"{asset} is damaged: {one_line(error)}; pass a whole NWB file.")


def one_asset(source: Source, *, download: bool = False) -> Asset:
    """The one file that a source stands for.

    Raises: NWBError where it stands for several, or none.
    """
    if isinstance(source, Asset) and not download:
        return source
    found = expand(source, download=download)
    if len(found) > 1:
        raise NWBError(f"{source} stands for {len(found)} files; one is needed here. Call it for each.")
    return found[0]


def expand(sources: Source | Sequence[Source], *, download: bool = False) -> list[Asset]:
    """The files of one source or several; a text with ``*``, ``?`` or ``[`` stands for what it matches, sorted.

    Patterns are for paths and for assets of DANDI. Nothing is opened; DANDI's archive is asked. ``download``
    keeps remote files whole in the cache folder: their addresses stay, their bytes are then here.

    Raises: NWBError where nothing matches, the list is empty, a file is listed twice, or an address is of a kind
    that is not read.
    """
    many = isinstance(sources, Iterable) and not isinstance(sources, bytes | str | os.PathLike | Asset)
    items: list[Any] = list(cast(Iterable, sources)) if many else [sources]
    assets: list[Asset] = []
    for item in items:
        if not isinstance(item, str | os.PathLike | Asset):
            raise ContractError(f"{item!r} is no source; a path, an address or a list of them is needed. Pass one.")
        assets += [item] if isinstance(item, Asset) else _assets(item)
    if not assets:
        raise NWBError("sources is empty; at least one NWB file is needed. Pass a path.")
    seen: dict[str, Asset] = {}
    for asset in assets:
        key = asset.location if asset.remote else os.path.realpath(asset.location)
        if key in seen:
            raise NWBError(f"{asset} is listed twice (first as {seen[key]}); each file may come once. Remove one.")
        seen[key] = asset
    if download:
        from nwb_lint.nwb.storage.download import keep

        return [keep(asset) for asset in assets]
    return assets


def _assets(item: str | os.PathLike[str]) -> list[Asset]:
    """The files of one path, in which ``~`` is the home folder, or address."""
    text = os.fspath(item)
    scheme = SCHEME.match(text)
    if scheme is None:
        path = os.path.expanduser(text)
        if isinstance(item, str) and _GLOB.search(path) and not Path(path).exists():
            found = sorted(glob.glob(path, recursive=True))
            if not found:
                raise NWBError(f"{item}: no file matches; a pattern needs at least one NWB file. Check the path.")
            return [_local(name) for name in found]
        return [_local(str(Path(path)))]
    if scheme[1].lower() not in _SCHEMES or not text.startswith(f"{scheme[0]}/"):
        raise NWBError(f"{item} is an address of a kind that is not read; pass a path, {', '.join(_SCHEMES)}://….")
    if scheme[1] == "dandi":
        from nwb_lint.nwb.storage.dandi import expand_dandi

        return expand_dandi(text)
    location = _s3(text) if scheme[1] == "s3" else text
    return [Asset(_shown(text), location.rstrip("/"), kind_of(text.partition("?")[0]))]


def _local(path: str) -> Asset:
    """A local file; a folder is Zarr where its name or its content says so."""
    kind = kind_of(path)
    if os.path.isfile(os.path.join(path, ".zgroup")):
        kind = "zarr"
    elif kind == "zarr" and not os.path.isdir(path):
        kind = "hdf5"
    return Asset(path, path, kind)


def _shown(address: str) -> str:
    """An address as it may be shown and written into files: without a password or a signature."""
    address = re.sub(r"(?<=://)[^/@]*@", "", address)
    return address.partition("?")[0] if "signature" in address.lower() else address


def _s3(address: str) -> str:
    """The https address of a public object; ``AWS_ENDPOINT_URL`` names another store, as for Amazon's tools."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise NWBError(f"{address} names no object; it needs to be like s3://bucket/path/file.nwb. Check it.")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint or "." in bucket:  # certificates cover one label before the host
        return f"{(endpoint or 'https://s3.amazonaws.com').rstrip('/')}/{bucket}/{quote(key)}"
    return f"https://{bucket}.s3.amazonaws.com/{quote(key)}"


def digest(source: Source) -> str:
    """SHA-256 of a local file, else the archive's, or its checksum of a Zarr folder; empty where none is known.

    Raises: NWBError where the file cannot be read.
    """
    asset = one_asset(source)
    if asset.digest or asset.remote:
        return asset.digest
    try:
        return sha256(asset.path)
    except OSError as error:
        raise NWBError(f"{asset} cannot be read: {error}. Check the path.") from error


def noted(asset: Asset) -> str:
    """What a recording notes of a file: the archive's digest, or size and time of modification of a local one; of a
    copy that was downloaded, which the recording does not name, its digest."""
    if asset.digest or asset.remote or asset.address != asset.location:
        return digest(asset)
    return stamp(asset.path)


def provenance(file: h5py.File, path: object) -> Provenance:
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
    stems = [Path(item.path.removesuffix(".zarr").removesuffix(".lindi.json")).stem for item in files]
    labels = [item.session_id or item.identifier or stem for item, stem in zip(files, stems, strict=True)]
    for fallback in (stems, [item.path for item in files]):
        counts = {label: labels.count(label) for label in labels}
        labels = [other if counts[label] > 1 else label for label, other in zip(labels, fallback, strict=True)]
    return labels


def load(dataset: h5py.Dataset) -> np.ndarray:
    """All values of a dataset; raises NWBError where its size cannot be true, as in a damaged file."""
    if streamed(dataset) is not None:
        return load_streamed(dataset)
    check_size(dataset)
    try:
        return dataset[()]
    except (ValueError, MemoryError) as error:
        if isinstance(error, NWBError):
            raise
        raise _too_large(dataset) from error


def check_size(dataset: h5py.Dataset) -> None:
    """Raise NWBError where a dataset that is stored as it is in HDF5 claims more than its file holds."""
    stored_as_is = type(dataset) is h5py.Dataset and dataset.compression is None and not holds_text(dataset)
    if stored_as_is and dataset.nbytes > max(dataset.file.id.get_filesize(), dataset.id.get_storage_size()):
        raise _too_large(dataset)


def _too_large(dataset: h5py.Dataset) -> NWBError:
    told = f"{dataset.name} of {dataset.file.filename} claims {dataset.shape} values of {dataset.dtype}"
    return NWBError(f"{told}, more than the file holds: damaged. Get the file again.")


def holds_text(dataset: h5py.Dataset) -> bool:
    """Whether the values are texts, as HDF5, Zarr or lindi have them."""
    return h5py.check_string_dtype(dataset.dtype) is not None or dataset.dtype.kind in "SU"


def root_text(file: h5py.File, name: str) -> str:
    return as_text(file.attrs.get(name, ""))


def dataset_text(file: h5py.File, name: str) -> str:
    """The scalar text at a path, empty where there is none."""
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or item.size != 1 or not holds_text(item):
        return ""
    return as_text(np.asarray(item[()], object).ravel()[0])


def _why_not_opened(path: Path, error: BaseException) -> str:
    """One line for what HDF5 says, which depends on its version, so look at the file too."""
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); an NWB file (HDF5) is needed. Get the file again."
    if not h5py.is_hdf5(path):
        return f"{path} is not HDF5; an NWB file (HDF5) is needed. Check the path."
    if "truncated" in str(error):
        return f"{path} is truncated (its end is missing at {path.stat().st_size} bytes). Get the file again."
    return f"{path} cannot be opened as HDF5 ({one_line(error)}); get the whole file again."
