"""Stores of version 2, read by zarr 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nwb_lint.errors import one_line
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.zarr.codecs import check_whole, is_blosc, parsed, refuse_programs
from nwb_lint.nwb.storage.zarr.objects import ArrayKind

_REQUESTS_AT_ONCE = 8


class Backend:
    """What zarr 2 knows of groups and arrays."""

    metadata = ".zarray or .zgroup"

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def member(self, group: Any, path: str, name: str) -> Any:
        """The group or array of a name; OSError for one with a codec that may run programs."""
        if f"{path}/.zarray" in group.store:
            metadata = parsed(group.store[f"{path}/.zarray"])
            refuse_programs(path, metadata)
            if is_blosc(metadata):
                group.chunk_store.by_blosc |= {path}
        return group[name]

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has a member of this name."""
        return name in group

    def names(self, group: Any) -> list[str]:
        """The names of the members of a group."""
        return list(group)

    def kind(self, array: Any) -> ArrayKind:
        """What an array holds."""
        filters = [getattr(codec, "codec_id", "") for codec in array.filters or []]
        text = array.dtype.hasobject and any(codec.startswith("vlen-") for codec in filters)
        pickled = array.dtype.hasobject and (not text or "pickle" in filters)
        compression = None if array.compressor is None else array.compressor.codec_id
        return ArrayKind(text, False, pickled, compression)


def open_root(asset: Asset, read: Any) -> tuple[Any, Backend]:
    """The root group of a store of version 2, and its backend."""
    import zarr

    if asset.remote:
        return zarr.open_consolidated(complete(_by_key(read))(), mode="r"), Backend(None)
    root = os.path.realpath(asset.path)

    class FolderStore(zarr.DirectoryStore):
        """The files of a folder, and no others that links in it lead to."""

        def __getitem__(self, key: str) -> bytes:
            return read(key)

    return zarr.open_group(complete(FolderStore)(root), mode="r"), Backend(root)


def _by_key(read: Any) -> Any:
    import zarr

    class KeyStore(zarr.storage.BaseStore):
        """A store at an address: KeyError where the server has no such key, OSError where it cannot be read."""

        def __getitem__(self, key: str) -> bytes:
            return read(key)

        def __contains__(self, key: object) -> bool:
            return True  # chunks are requested without looking; metadata is in the consolidated metadata

        def getitems(self, keys: Any, *, contexts: Any = None) -> dict[str, bytes]:
            with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
                return dict(zip(keys, pool.map(self.__getitem__, keys), strict=True))

        def __iter__(self) -> Iterator[str]:
            raise OSError("the store can only be read by key")

        def _refuse(self, *_: Any) -> Any:
            raise OSError("the store can only be read by key")

        __setitem__ = __delitem__ = __len__ = _refuse

    return KeyStore


def complete(store_class: Any) -> Any:
    """A subclass of a class of stores of zarr 2, in which a chunk that is missing or cut is an OSError."""

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
                    check_whole(key, bytes(content[:16]), len(content))
            return found

    return CompleteStore
