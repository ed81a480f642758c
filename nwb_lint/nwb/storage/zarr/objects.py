"""Groups and arrays of Zarr as the objects that h5py has for those of HDF5."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.http import FileSession
from nwb_lint.nwb.storage.zarr.codecs import damage_is_oserror

_HIDDEN_ATTRIBUTES = (
    "_ARRAY_DIMENSIONS", "_DTYPE", "_LINKS", "_REFERENCE_FIELDS", "zarr_dtype", "zarr_link", ".specloc",
)  # fmt: skip
_LINKS = ("zarr_link", "_LINKS")  # attribute with the links of a group, in versions 2 and 3
_LARGEST_CHUNK = 1 << 24  # values, where the array has far fewer
_MAX_LINKS = 20  # in a row; more of them are a circle


class ArrayKind(NamedTuple):
    """What an array holds: texts, paths that are references, or pickles; and the name of its compression."""

    text: bool
    references: bool
    pickled: bool
    compression: str | None


class Reference(h5py.h5r.Reference):
    """A reference to an object of the same file, by its path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __bool__(self) -> bool:
        return True


class _Attributes(Mapping):
    """The attributes of a group or array as h5py gives them: lists are arrays, references are `Reference`."""

    def __init__(self, item: Any) -> None:
        with damage_is_oserror():
            values = item.attrs.asdict()
        self._values = {name: value for name, value in values.items() if name not in _HIDDEN_ATTRIBUTES}

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, dict) and {"zarr_dtype", "_REFERENCE"} & set(value):
            found = value.get("_REFERENCE", value.get("value"))
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
            with damage_is_oserror():
                present = item._file.backend.has(item._zarr, part)
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
        backend = self._file.backend
        if backend.folder is not None and os.path.isdir(os.path.join(backend.folder, self._zarr.path, name)):
            raise NWBError(
                f"{self.name.rstrip('/')}/{name} of {self._file.filename} has no metadata ({backend.metadata}). It is "
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
        with damage_is_oserror():
            path = f"{self._zarr.path}/{name}" if self._zarr.path else name
            found = self._file.backend.member(self._zarr, path, name)
        return ZarrGroup(found, self._file) if hasattr(found, "groups") else ZarrDataset(found, self._file)

    def _link(self, name: str) -> str | None:
        """The path that a link of this name leads to; None if there is no such link."""
        for link in self._links():
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
        with damage_is_oserror():
            return iter(sorted({*self._file.backend.names(self._zarr), *(link.get("name") for link in self._links())}))

    def _links(self) -> list[dict[str, Any]]:
        return [link for name in _LINKS for link in self._zarr.attrs.get(name, [])]

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

    def __init__(self, group: Any, backend: Any, address: str, session: FileSession | None = None) -> None:
        self.backend = backend
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
        self._kind: ArrayKind = file.backend.kind(array)

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
        if self._kind.text:
            return h5py.string_dtype()
        return h5py.ref_dtype if self._kind.pickled or self._kind.references else self._zarr.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return tuple(self._zarr.chunks) if self.shape else None

    @property
    def compression(self) -> str | None:
        return self._kind.compression

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a scalar has no length")
        return self.shape[0]

    def __getitem__(self, key: Any, new_dtype: Any = None) -> Any:
        if self._kind.pickled:
            raise NWBError(f"{self.name} of {self._file.filename} holds Python pickles or objects. These are not read.")
        in_chunk = math.prod(self._zarr.chunks)
        if in_chunk > _LARGEST_CHUNK and in_chunk > 100 * self._zarr.size:  # zarr would make all of it
            raise OSError(f"{self.name} claims chunks of {in_chunk} values for {self._zarr.size}. It is damaged")
        with damage_is_oserror():
            return self._plain(self._zarr[0] if self._scalar else self._zarr[key])

    def _plain(self, values: Any) -> Any:
        """The values as h5py gives them: texts as objects, one value as itself, references as `Reference`."""
        if isinstance(values, np.ndarray) and (values.dtype.kind == "T" or self._kind.references):
            plain = np.empty(values.shape, object)
            for at, value in np.ndenumerate(values):
                plain[at] = Reference(str(value)) if self._kind.references else str(value)
            values = plain
        elif self._kind.references:
            values = Reference(str(values))
        while isinstance(values, np.ndarray) and not values.ndim:  # zarr 3 gives one value as arrays in arrays
            values = values[()]
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)
