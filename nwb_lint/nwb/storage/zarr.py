"""NWB-Zarr (as hdmf-zarr writes it) with h5py's face: groups, datasets, attributes and references, read-only.

The classes derive from h5py's, as those of lindi do, so that what reads HDF5 reads Zarr. Nothing pickled is
ever decoded: a pickle is a program, and hdmf-zarr stores references so.

LINDI: a JSON file that says where the parts of an NWB file lie, opened through lindi.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.http import Refused, Web, get, not_reached, why

_HIDDEN = ("_ARRAY_DIMENSIONS", "zarr_dtype", "zarr_link", ".specloc")
_SIDE_BY_SIDE = 8
_MOST_LINKS = 20  # in a row: more go round in a circle


class Reference(h5py.h5r.Reference):
    """A reference to an object of the same file: its path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __bool__(self) -> bool:
        return True


class _Attributes(Mapping):
    """Attributes as h5py gives them: lists as arrays, references as `Reference`."""

    def __init__(self, item: Any) -> None:
        with _sound():
            self._said = {name: value for name, value in item.attrs.asdict().items() if name not in _HIDDEN}

    def __getitem__(self, name: str) -> Any:
        value = self._said[name]
        if isinstance(value, dict) and "zarr_dtype" in value:
            found = value.get("value")
            return Reference(found["path"]) if isinstance(found, dict) and "path" in found else found
        if isinstance(value, list):
            return np.array(value, dtype=object if any(isinstance(v, str | dict) for v in value) else None)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)


class _Item:
    """What groups and datasets share."""

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
    """A group."""

    def __init__(self, group: Any, file: ZarrFile) -> None:
        self._zarr, self._file = group, file

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, Reference):
            return self._file[name.path]
        if isinstance(name, bytes):
            name = name.decode()
        start: ZarrGroup = self._file if name.startswith("/") else self
        return start._walk([part for part in name.split("/") if part], _MOST_LINKS)

    def _walk(self, parts: list[str], links: int) -> Any:
        item: Any = self
        for k, part in enumerate(parts):
            if not isinstance(item, ZarrGroup):
                raise KeyError(f"{'/'.join(parts)} is not in {self.name}")
            with _sound():
                held = part in item._zarr
                target = None if held else item._link(part)
            if target is not None and links:
                return self._file._walk([*(p for p in target.split("/") if p), *parts[k + 1 :]], links - 1)
            if not held:
                raise KeyError(f"{part} is not in {item.name}")
            item = item._member(part)
        return item

    def _member(self, name: str) -> Any:
        with _sound():
            path = f"{self._zarr.path}/{name}" if self._zarr.path else name
            _refuse_pickled_fill(self._zarr.store, path)
            found = self._zarr[name]
        return ZarrGroup(found, self._file) if hasattr(found, "groups") else ZarrDataset(found, self._file)

    def _link(self, name: str) -> str | None:
        for link in self._zarr.attrs.get("zarr_link", []):
            if link.get("name") == name and link.get("source") == ".":
                return str(link["path"])
        return None

    def __iter__(self) -> Iterator[str]:
        with _sound():
            links = [link.get("name") for link in self._zarr.attrs.get("zarr_link", []) if link.get("source") == "."]
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
    """The root of a Zarr store, as an h5py.File."""

    def __init__(self, group: Any, address: str, web: Web | None = None) -> None:
        super().__init__(group, self)
        self._address, self._web = address, web

    @property
    def filename(self) -> str:
        return self._address

    def close(self) -> None:
        if self._web is not None:
            self._web.close()

    def __enter__(self) -> ZarrFile:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()


class ZarrDataset(_Item, h5py.Dataset):
    """An array; what hdmf-zarr wrote as a scalar has no dims."""

    def __init__(self, array: Any, file: ZarrFile) -> None:
        self._zarr, self._file = array, file
        self._scalar = array.attrs.get("zarr_dtype") == "scalar" and array.shape == (1,)
        filters = [getattr(codec, "codec_id", "") for codec in array.filters or []]
        self._text = array.dtype.hasobject and any(codec.startswith("vlen-") for codec in filters)
        self._unread = array.dtype.hasobject and not self._text

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
        return h5py.ref_dtype if self._unread else self._zarr.dtype

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
        if self._unread:
            raise NWBError(f"{self.name} of {self._file.filename} holds Python pickles or objects; these are not read.")
        with _sound():
            if self._scalar:
                return self._zarr[0]
            return self._zarr[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


def open_zarr(asset: Asset) -> ZarrFile:
    """Open a local NWB-Zarr folder, or one over HTTP whose metadata are consolidated.

    Raises: NWBError, one line: zarr is not there, or no zarr group is.
    """
    try:
        import zarr
    except ImportError as error:
        raise NWBError(f"{asset} is Zarr, which needs the extra: pip install 'nwb_lint[zarr]'.") from error
    if not hasattr(zarr, "DirectoryStore"):
        raise NWBError(f"{asset}: zarr {zarr.__version__} cannot read it as hdmf-zarr does. pip install 'zarr<3'.")
    if not asset.remote and not asset.path.is_dir():
        raise NWBError(f"{asset}: no such folder; an NWB-Zarr folder is needed. Check the path.")
    try:
        with _sound():
            if asset.remote:
                return _open_remote(asset)
            return ZarrFile(zarr.open_group(_whole(zarr.DirectoryStore)(str(asset.path)), mode="r"), asset.address)
    except (OSError, KeyError) as error:
        raise NWBError(f"{asset} cannot be read as Zarr ({why(error)}); pass a whole NWB-Zarr folder.") from error


def _open_remote(asset: Asset) -> ZarrFile:
    import zarr

    web = Web()

    class Http(zarr.storage.BaseStore):
        """The keys of a store at an address; what is not there is a KeyError, what cannot be had an OSError."""

        def __getitem__(self, key: str) -> bytes:
            try:
                return get(web, f"{asset.location}/{quote(key)}")
            except Refused as error:
                if error.status == 404:
                    raise KeyError(key) from None
                raise

        def __contains__(self, key: object) -> bool:
            return True  # metadata come from the consolidated ones; parts are simply asked for

        def getitems(self, keys: Any, *, contexts: Any = None) -> dict[str, bytes]:
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
                return dict(zip(keys, pool.map(self.__getitem__, keys), strict=True))

        def _read_only(self, *_: Any) -> Any:
            raise OSError("it is open for reading")

        __setitem__ = __delitem__ = __iter__ = __len__ = _read_only

    try:
        root = zarr.open_consolidated(_whole(Http)(), mode="r")
    except KeyError as error:
        web.close()
        raise NWBError(f"{asset} has no consolidated metadata (.zmetadata), which reading over HTTP needs.") from error
    except OSError as error:
        web.close()
        raise not_reached(asset.address, error) from error
    return ZarrFile(root, asset.address, web)


def _whole(store: Any) -> Any:
    """A class of stores where a part of an array that is not there is told, and not read as zeros."""

    class Whole(store):
        def getitems(self, keys: Any, *, contexts: Any = None) -> Any:
            try:
                found = super().getitems(keys, contexts=contexts or {})
            except KeyError as error:
                raise OSError(f"part {one_line(error)} is missing") from None
            missing = [key for key in keys if key not in found]
            if missing:
                raise OSError(f"part {missing[0]} is missing")
            return found

    return Whole


def _refuse_pickled_fill(store: Any, path: str) -> None:
    """Raise OSError where opening an array would decode a pickle, its fill value."""
    if f"{path}/.zarray" in store:
        said = store[f"{path}/.zarray"]
        said = said if isinstance(said, Mapping) else json.loads(said)
        pickled = any(codec.get("id") == "pickle" for codec in said.get("filters") or [])
        if pickled and said.get("dtype") != "|O":
            raise OSError(f"{path} holds Python pickles")


@contextmanager
def _sound() -> Iterator[None]:
    """Whatever zarr and its codecs raise of a damaged store as an OSError."""
    from zarr.errors import MetadataError

    try:
        yield
    except (NWBError, KeyError, OSError, MemoryError):
        raise
    except (ValueError, TypeError, RuntimeError, AttributeError, IndexError, MetadataError) as error:
        raise OSError(f"the Zarr store is damaged ({one_line(error)})") from error


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
    from nwb_lint.nwb.storage.dandi import token_of

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
