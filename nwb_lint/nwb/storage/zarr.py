"""NWB files in other stores than HDF5, opened as h5py objects: Zarr (as hdmf-zarr writes it) and LINDI.

The classes for Zarr derive from h5py's, as those of lindi do, so that code for HDF5 reads them too. They are read-only.
Only data of plain codecs are decoded, because other codecs can run any program: a pickle does. hdmf-zarr pickles
references in arrays; such an array is listed, and not read. A chunk that is missing is an error; zarr itself would give
zeros.

A LINDI file is JSON that lists where the chunks of an NWB file are. lindi opens it.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import h5py
import numpy as np

from nwb_lint.errors import MissingFileError, NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset, refuse_pipe
from nwb_lint.nwb.storage.http import FileSession, PermanentError, as_nwb_error, describe_error, get_bytes, unreadable

_HIDDEN_ATTRIBUTES = ("_ARRAY_DIMENSIONS", "zarr_dtype", "zarr_link", ".specloc")
_REQUESTS_AT_ONCE = 8
_LARGEST_CHUNK = 1 << 24  # values, where the array has far fewer
_MAX_LINKS = 20  # in a row; more of them are a circle
# Codecs that turn bytes into numbers and texts, and nothing else.
_PLAIN_CODECS = {
    "adler32", "astype", "base64", "bitround", "blosc", "bz2", "categorize", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "json2", "lz4", "lzma", "msgpack2", "packbits",
    "quantize", "shuffle", "vlen-array", "vlen-bytes", "vlen-utf8", "zfpy", "zlib", "zstd",
}  # fmt: skip
# What zarr and its codecs raise, beside its own MetadataError.
_DAMAGE = (ValueError, TypeError, RuntimeError, AttributeError, IndexError, EOFError, zlib.error, lzma.LZMAError)


class Reference(h5py.h5r.Reference):
    """A reference to an object of the same file, by its path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __bool__(self) -> bool:
        return True


class _Attributes(Mapping):
    """The attributes of a group or array as h5py gives them: lists are arrays, references are `Reference`."""

    def __init__(self, item: Any) -> None:
        with _damage_is_oserror():
            values = item.attrs.asdict()
        self._values = {name: value for name, value in values.items() if name not in _HIDDEN_ATTRIBUTES}

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, dict) and "zarr_dtype" in value:
            found = value.get("value")
            return Reference(found["path"]) if isinstance(found, dict) and "path" in found else found
        if isinstance(value, list):
            return np.array(value, dtype=object if any(isinstance(v, str | dict) for v in value) else None)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Item:
    """The members that groups and datasets share."""

    _zarr: Any
    _file: ZarrFile

    @property
    def name(self) -> str:
        return self._zarr.name or "/"

    @property
    def file(self) -> ZarrFile:
        return self._file

    @property
    def attrs(self) -> _Attributes:
        return _Attributes(self._zarr)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Item) and (self.name, self._file.filename) == (other.name, other._file.filename)

    def __hash__(self) -> int:
        return hash((self.name, self._file.filename))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._file.filename}>"


class ZarrGroup(_Item, h5py.Group):
    """A Zarr group as an h5py.Group."""

    def __init__(self, group: Any, file: ZarrFile) -> None:
        self._zarr, self._file = group, file

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, Reference):
            return self._file[name.path]
        if isinstance(name, bytes):
            name = name.decode()
        first: ZarrGroup = self._file if name.startswith("/") else self
        return first._walk([part for part in name.split("/") if part], _MAX_LINKS)

    def _walk(self, parts: list[str], links: int) -> Any:
        """The object at a path from here, with at most so many links on the way."""
        item: Any = self
        for part in parts:
            if not isinstance(item, ZarrGroup):
                raise KeyError(f"{'/'.join(parts)} is not in {self.name}")
            with _damage_is_oserror():
                present = part in item._zarr
                target = None if present else item._link(part)
            if target is not None:
                item = item._linked(part, target, links)
                continue
            if not present:
                item._check_absent(part)
                raise KeyError(f"{part} is not in {item.name}")
            item = item._member(part)
        return item

    def _check_absent(self, name: str) -> None:
        """Raise NWBError where a local store has a folder of this name without its metadata."""
        folder = getattr(self._zarr.store, "path", None)
        if folder is not None and os.path.isdir(os.path.join(folder, self._zarr.path, name)):
            raise NWBError(
                f"{self.name.rstrip('/')}/{name} of {self._file.filename} has no metadata (.zarray or .zgroup). It is "
                "damaged. Get the Zarr folder again."
            )

    def _linked(self, name: str, target: str, links: int) -> Any:
        """What a link leads to; NWBError where that is not in the store."""
        what = f"{self.name.rstrip('/')}/{name} of {self._file.filename} is a link to {target}"
        if not links:
            raise NWBError(f"{what}, which leads in a circle. Replace the link by its target.")
        try:
            return self._file._walk([part for part in target.split("/") if part], links - 1)
        except KeyError:
            raise NWBError(f"{what}, which is not in the store. Restore it, or delete the link.") from None

    def _member(self, name: str) -> Any:
        with _damage_is_oserror():
            path = f"{self._zarr.path}/{name}" if self._zarr.path else name
            _check_codecs(self._zarr.store, path, self._zarr.chunk_store)
            found = self._zarr[name]
        return ZarrGroup(found, self._file) if hasattr(found, "groups") else ZarrDataset(found, self._file)

    def _link(self, name: str) -> str | None:
        """The path that a link of this name leads to; None if there is no such link."""
        for link in self._zarr.attrs.get("zarr_link", []):
            if link.get("name") != name:
                continue
            if link.get("source") != ".":
                raise NWBError(
                    f"{self.name.rstrip('/')}/{name} of {self._file.filename} is a link to {link.get('path')} of "
                    f"{link.get('source')}, another store. Zarr is read from one store. Copy that part into it."
                )
            return str(link["path"])
        return None

    def __iter__(self) -> Iterator[str]:
        with _damage_is_oserror():
            links = [link.get("name") for link in self._zarr.attrs.get("zarr_link", [])]
            return iter(sorted({*self._zarr, *links}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: Any) -> bool:
        return self.get(name) is not None

    def get(self, name: Any, default: Any = None, getclass: bool = False, getlink: bool = False) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> Any:
        return list(iter(self))


class ZarrFile(ZarrGroup, h5py.File):
    """The root group of a Zarr store as an h5py.File."""

    def __init__(self, group: Any, address: str, session: FileSession | None = None) -> None:
        super().__init__(group, self)
        self._address, self._session = address, session

    @property
    def filename(self) -> str:
        return self._address

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> ZarrFile:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()


class ZarrDataset(_Item, h5py.Dataset):
    """A Zarr array as an h5py.Dataset; a scalar has no dims."""

    def __init__(self, array: Any, file: ZarrFile) -> None:
        self._zarr, self._file = array, file
        self._scalar = array.attrs.get("zarr_dtype") == "scalar" and array.shape == (1,)
        filters = [getattr(codec, "codec_id", "") for codec in array.filters or []]
        self._text = array.dtype.hasobject and any(codec.startswith("vlen-") for codec in filters)
        self._pickled = array.dtype.hasobject and (not self._text or "pickle" in filters)

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self._scalar else tuple(self._zarr.shape)

    @property
    def maxshape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self._zarr.size)

    @property
    def nbytes(self) -> int:
        return int(self._zarr.nbytes)

    @property
    def dtype(self) -> np.dtype:
        if self._text:
            return h5py.string_dtype()
        return h5py.ref_dtype if self._pickled else self._zarr.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return None if self._scalar else tuple(self._zarr.chunks)

    @property
    def compression(self) -> str | None:
        return None if self._zarr.compressor is None else self._zarr.compressor.codec_id

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a scalar has no length")
        return self.shape[0]

    def __getitem__(self, key: Any, new_dtype: Any = None) -> Any:
        if self._pickled:
            raise NWBError(f"{self.name} of {self._file.filename} holds Python pickles or objects. These are not read.")
        in_chunk = math.prod(self._zarr.chunks)
        if in_chunk > _LARGEST_CHUNK and in_chunk > 100 * self._zarr.size:  # zarr would make all of it
            raise OSError(f"{self.name} claims chunks of {in_chunk} values for {self._zarr.size}. It is damaged")
        with _damage_is_oserror():
            if self._scalar:
                return self._zarr[0]
            return self._zarr[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


def open_zarr(asset: Asset) -> ZarrFile:
    """Open an NWB-Zarr folder.

    Parameters
    ----------
    asset : Asset
        A local folder, or one over HTTP that has consolidated metadata (``.zmetadata``).

    Returns
    -------
    ZarrFile

    Raises
    ------
    MissingFileError
        If there is no such folder.
    NWBError
        If zarr is not installed, or the folder is not a Zarr group.
    """
    try:
        import zarr
    except ImportError as error:
        raise NWBError(f"{asset} is Zarr, which needs the extra: pip install 'nwb_lint[zarr]'.") from error
    if not hasattr(zarr, "DirectoryStore"):
        raise NWBError(f"{asset} needs zarr 2, as hdmf-zarr does. This is {zarr.__version__}. pip install 'zarr<3'.")
    if not asset.remote and not asset.path.is_dir():
        raise MissingFileError(f"{asset}: no such file. An NWB-Zarr folder is needed. Check the path.")
    try:
        with _damage_is_oserror():
            if asset.remote:
                return _open_remote(asset)
            if not (asset.path / ".zgroup").exists() and (asset.path / "zarr.json").exists():
                raise _of_zarr_3(asset)
            return ZarrFile(zarr.open_group(_local_store(asset), mode="r"), asset.address)
    except NWBError:
        raise
    except (OSError, KeyError) as error:
        raise NWBError(
            f"{asset} cannot be read as Zarr ({describe_error(error)}). Pass a whole NWB-Zarr folder."
        ) from error


def _local_store(asset: Asset) -> Any:
    import zarr

    root = os.path.realpath(asset.path)

    class FolderStore(zarr.DirectoryStore):
        """The files of a folder, and no others that links in it lead to."""

        def __getitem__(self, key: str) -> bytes:
            path = os.path.realpath(os.path.join(root, key))
            if not asset.external and not Path(path).is_relative_to(root):
                raise NWBError(
                    f"{key} of {asset} is a link to {path}, outside of the folder. It is not read by default. Pass "
                    "external=True, where you trust the file."
                )
            folder = Path(root, key).parent
            if (leads_to := folder.resolve()) != folder and folder.is_relative_to(leads_to):
                raise NWBError(f"{key} of {asset} is reached by a link to a folder that it lies in. Remove the link.")
            return super().__getitem__(key)

    return _complete(FolderStore)(root)


def _open_remote(asset: Asset) -> ZarrFile:
    import zarr

    session = FileSession()

    class HTTPStore(zarr.storage.BaseStore):
        """A Zarr store at an address: KeyError where the server has no such key, OSError where it cannot be read."""

        def __getitem__(self, key: str) -> bytes:
            try:
                return get_bytes(session, f"{asset.location}/{quote(key)}")
            except PermanentError as error:
                if error.status == 404:
                    raise KeyError(key) from None
                raise

        def __contains__(self, key: object) -> bool:
            return True  # chunks are requested without looking; metadata is in the consolidated metadata

        def getitems(self, keys: Any, *, contexts: Any = None) -> dict[str, bytes]:
            with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
                return dict(zip(keys, pool.map(self.__getitem__, keys), strict=True))

        def _refuse(self, *_: Any) -> Any:
            raise OSError("the store can only be read by key")

        __setitem__ = __delitem__ = __iter__ = __len__ = _refuse

    try:
        root = zarr.open_consolidated(_complete(HTTPStore)(), mode="r")
    except KeyError as error:
        with session:
            raise no_zarr_metadata(asset, session) from error
    except OSError as error:
        session.close()
        raise unreadable(asset.address, error) from error
    return ZarrFile(root, asset.address, session)


def no_zarr_metadata(asset: Asset, session: FileSession) -> NWBError:
    """The error for a remote Zarr folder without consolidated metadata.

    Parameters
    ----------
    asset : Asset
        The folder.
    session : FileSession
        Used to find out whether there is a Zarr folder at all.

    Returns
    -------
    NWBError
        A `MissingFileError` where there is none.
    """
    try:
        get_bytes(session, f"{asset.location}/.zgroup")
    except OSError as error:
        with suppress(OSError):
            get_bytes(session, f"{asset.location}/zarr.json")
            return _of_zarr_3(asset)
        return unreadable(asset.address, error)
    return NWBError(f"{asset} has no consolidated metadata (.zmetadata), which reading over HTTP needs.")


def _of_zarr_3(asset: Asset) -> NWBError:
    return NWBError(
        f"{asset} is Zarr of version 3 (zarr.json). Version 2 is read, as hdmf-zarr before 0.14 writes it. Export the "
        "file to HDF5."
    )


def _complete(store_class: Any) -> Any:
    """A subclass of a class of Zarr stores, in which a chunk that is missing or cut is an OSError."""

    class CompleteStore(store_class):
        by_blosc: frozenset[str] = frozenset()  # paths of arrays

        def getitems(self, keys: Any, *, contexts: Any = None) -> Any:
            try:
                found = super().getitems(keys, contexts=contexts or {})
            except KeyError as error:
                raise OSError(f"chunk {one_line(error)} is missing") from None
            missing = [key for key in keys if key not in found]
            if missing:
                raise OSError(f"chunk {missing[0]} is missing")
            for key, content in found.items():
                if any(key.startswith(f"{path}/") for path in self.by_blosc):
                    _check_whole(key, bytes(content[:16]), len(content))
            return found

    return CompleteStore


def _check_whole(key: str, head: bytes, n_bytes: int) -> None:
    """Raise OSError for a chunk that is not as long as its head says: Blosc would go on in memory behind it."""
    if len(head) < 16 or int.from_bytes(head[12:16], "little") != n_bytes:
        raise OSError(f"chunk {key} is damaged: it has {n_bytes} bytes, and its head says another number")


def _check_codecs(store: Any, path: str, chunks: Any) -> None:
    """Raise OSError for an array with a codec that is not plain, but for references as hdmf-zarr pickles them.

    Such an array can be listed: zarr decodes none of it when it opens it. The store of chunks notes those of Blosc.
    """
    if f"{path}/.zarray" in store:
        metadata = store[f"{path}/.zarray"]
        metadata = metadata if isinstance(metadata, Mapping) else json.loads(metadata)
        filters = [codec.get("id") for codec in metadata.get("filters") or []]
        references = metadata.get("dtype") == "|O" and filters == ["pickle"]
        if found := _not_plain({**metadata, "filters": []} if references else metadata):
            raise OSError(f"{path} has the codec {found[0]}, which is not read because it may run programs")
        if (metadata.get("compressor") or {}).get("id") == "blosc":
            chunks.by_blosc |= {path}


def _not_plain(metadata: Mapping[str, Any]) -> list[str]:
    """The codecs in the metadata of an array (.zarray) that are not plain."""
    codecs = [*(metadata.get("filters") or []), metadata.get("compressor") or {"id": "zlib"}]
    return [str(codec.get("id")) for codec in codecs if codec.get("id") not in _PLAIN_CODECS]


@contextmanager
def _damage_is_oserror() -> Iterator[None]:
    """Raise an OSError for whatever zarr and its codecs raise about a damaged store."""
    from zarr.errors import MetadataError

    try:
        yield
    except (NWBError, KeyError, OSError, MemoryError):
        raise
    except (*_DAMAGE, MetadataError) as error:
        raise OSError(f"the Zarr store is damaged ({one_line(error)})") from error


def open_lindi(asset: Asset) -> h5py.File:
    """Open a LINDI JSON file; lindi fetches chunks when they are read.

    Parameters
    ----------
    asset : Asset
        A local or remote JSON file that lindi wrote.

    Returns
    -------
    lindi.LindiH5pyFile
        An object with the members of h5py.File.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If lindi is not installed, or the file is not LINDI JSON.
    """
    try:
        import lindi
    except ImportError as error:
        raise NWBError(f"{asset} is LINDI, which needs the extra: pip install 'nwb_lint[lindi]'.") from error
    from lindi.LindiH5pyFile.LindiReferenceFileSystemStore import LindiReferenceFileSystemStore

    content = read_lindi(asset)
    _check_other_files(asset, content)
    try:
        for key, value in content["refs"].items():
            metadata = value if isinstance(value, dict) or not key.endswith(".zarray") else json.loads(value)
            if key.endswith(".zarray") and (found := _not_plain(metadata)):
                raise ValueError(f"{key.removesuffix('/.zarray')} has the codec {found[0]}, which may run programs")
        store = _complete(LindiReferenceFileSystemStore)(content)
        return lindi.LindiH5pyFile.from_zarr_store(store, mode="r")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_lindi(asset, error) from error


def read_lindi(asset: Asset) -> dict[str, Any]:
    """The content of a LINDI JSON file, with at least the entry ``refs``.

    Parameters
    ----------
    asset : Asset
        A local or remote JSON file.

    Returns
    -------
    dict

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If it cannot be read, or is not LINDI JSON.
    """
    from nwb_lint.nwb.storage.dandi import open_session

    if not asset.remote and not asset.path.exists():
        raise MissingFileError(f"{asset}: no such file. A LINDI JSON file is needed. Check the path.")
    if not asset.remote:
        refuse_pipe(asset.path)
    with as_nwb_error(asset.address):
        if asset.remote:
            with open_session(asset) as session:
                text = get_bytes(session, asset.location)
        else:
            text = asset.path.read_bytes()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _not_lindi(asset, error) from error
    if not isinstance(content, dict) or not isinstance(content.get("refs"), dict):
        raise _not_lindi(asset, "it has no refs")
    return content


def referenced_files(content: dict[str, Any]) -> set[str]:
    """The files in which a LINDI file says that chunks are, as paths or addresses.

    Parameters
    ----------
    content : dict
        From `read_lindi`.

    Returns
    -------
    set of str
    """
    refs = content["refs"]
    files = {str(value[0]) for value in refs.values() if isinstance(value, list) and value}
    for name, value in refs.items():
        if name.endswith(".zattrs"):
            attributes = value if isinstance(value, dict) else json.loads(value)
            link = attributes.get("_EXTERNAL_ARRAY_LINK") if isinstance(attributes, dict) else None
            files |= {str(link["url"])} if isinstance(link, dict) and "url" in link else set()
    for short, long in (content.get("templates") or {}).items():
        files = {name.replace("{{" + short + "}}", str(long)) for name in files}
    return files


def _check_other_files(asset: Asset, content: dict[str, Any]) -> None:
    """Raise NWBError if chunks are where a LINDI file may not lead.

    A local file may name files beside it, and addresses. A remote one may name its own host and those of the archives
    that dandi knows. ``external=True`` allows other files of this machine for the first, other hosts for the second.
    """
    try:
        named = sorted(referenced_files(content))
    except (ValueError, TypeError, AttributeError) as error:
        raise _not_lindi(asset, error) from error
    addresses = [name for name in named if name.startswith(("http://", "https://"))]
    paths = [name for name in named if name not in addresses]
    if asset.remote:
        if paths:
            raise NWBError(f"{asset} has chunks in {paths[0]}, a file of this machine. A remote file may not name one.")
        allowed = _hosts_of(asset)
        elsewhere = [host for host in map(_host, addresses) if host not in allowed]
    else:
        folder = Path(os.path.realpath(asset.path)).parent
        elsewhere = [name for name in paths if not Path(os.path.realpath(name)).is_relative_to(folder)]
    if elsewhere and not asset.external:
        where = "another host" if asset.remote else "a file of this machine"
        raise NWBError(
            f"{asset} has chunks in {elsewhere[0]}, {where}. It is not read by default. Pass external=True, where you "
            "trust the file."
        )


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _hosts_of(asset: Asset) -> set[str]:
    """The hosts that a remote LINDI file may name: its own, and those of the archives that dandi knows."""
    from dandi.consts import known_instances

    return {_host(asset.location), *(_host(instance.api) for instance in known_instances.values() if instance.api)}


def _not_lindi(asset: Asset, reason: object) -> NWBError:
    return NWBError(f"{asset} is not LINDI JSON ({one_line(reason)}). Pass a file that lindi wrote.")
