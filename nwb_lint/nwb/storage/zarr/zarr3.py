"""Stores of versions 2 and 3, read by zarr 3."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.zarr.codecs import check_whole, is_blosc, is_pickled, parsed, refuse_programs
from nwb_lint.nwb.storage.zarr.objects import ArrayKind

_CHUNK = re.compile(r"(.*)/\d+(?:[./]\d+)*")  # key of a chunk of version 2
_NODES = ("zarr.json", ".zarray", ".zgroup")
_REFERENCES = "object_reference"  # _DTYPE of an array of paths, as hdmf-zarr writes them in version 3


class Backend:
    """What zarr 3 knows of groups and arrays."""

    def __init__(self, store: Any, read: Any, version: int, folder: str | None, known: Mapping[str, Any]) -> None:
        self.folder, self._store, self._read, self._known = folder, store, read, known
        self.metadata = "zarr.json" if version == 3 else ".zarray or .zgroup"
        self._name = "zarr.json" if version == 3 else ".zarray"

    def member(self, group: Any, path: str, name: str) -> Any:
        """The group or array of a name; OSError for one with a codec that may run programs."""
        metadata = self._metadata(path)
        if metadata.get("node_type", "array") == "array" and metadata:
            refuse_programs(path, metadata)
            if is_blosc(metadata):
                self._store.by_blosc |= {path}
            if is_pickled(metadata):
                return self._listed(path, metadata)
        return group[name]

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has a member of this name. zarr opens it to know, which it cannot for pickles."""
        path = f"{group.path}/{name}" if group.path else name
        found = self._known.__contains__ if self.folder is None else self._is_file
        return any(found(f"{path}/{one}") for one in _NODES)

    def names(self, group: Any) -> list[str]:
        """The names of the members of a group."""
        if self.folder is not None:
            folder = os.path.join(self.folder, group.path)
            return [name for name in os.listdir(folder) if self.has(group, name)]
        start = f"{group.path}/" if group.path else ""
        inside = [key.removeprefix(start).split("/") for key in self._known if key.startswith(start)]
        return sorted({parts[0] for parts in inside if len(parts) == 2 and parts[1] in _NODES})

    def kind(self, array: Any) -> ArrayKind:
        """What an array holds."""
        if isinstance(array, SimpleNamespace):
            return ArrayKind(False, False, True, None)
        text = array.dtype.kind == "T" or (array.dtype.hasobject and array.dtype.names is None)
        names = [
            getattr(one, "codec_id", type(one).__name__.removesuffix("Codec").lower()) for one in array.compressors
        ]
        is_reference = text and array.attrs.get("_DTYPE") == _REFERENCES
        return ArrayKind(text and not is_reference, is_reference, False, str(names[0]) if names else None)

    def _is_file(self, key: str) -> bool:
        return os.path.isfile(os.path.join(self.folder or "", key))

    def _metadata(self, path: str) -> Mapping[str, Any]:
        """The metadata of an array; nothing for a group of version 2."""
        if self.folder is None:
            return self._known.get(f"{path}/{self._name}", {})
        try:
            return parsed(self._read(f"{path}/{self._name}"))
        except KeyError:
            return {}

    def _listed(self, path: str, metadata: Mapping[str, Any]) -> Any:
        """An array that is not decoded, with what is said of it."""
        try:
            attributes = dict(self._known.get(f"{path}/.zattrs") or parsed(self._read(f"{path}/.zattrs")))
        except KeyError:
            attributes = {}
        shape, chunks = tuple(metadata["shape"]), tuple(metadata["chunks"])
        attrs = SimpleNamespace(asdict=lambda: attributes, get=attributes.get)
        size = int(np.prod(shape, dtype=np.int64))
        sizes = {"shape": shape, "chunks": chunks, "size": size, "nbytes": 8 * size}
        return SimpleNamespace(name=f"/{path}", path=path, attrs=attrs, dtype=np.dtype(object), **sizes)


def open_root(asset: Asset, read: Any, version: int) -> tuple[Any, Backend]:
    """The root group of a store, and its backend."""
    import zarr

    folder = None if asset.remote else os.path.realpath(asset.path)
    store = _store_class()(read, folder, str(asset))
    root = zarr.open_group(store, mode="r", zarr_format=version, use_consolidated=asset.remote)
    return root, Backend(store, read, version, folder, _consolidated(read, version) if asset.remote else {})


def _consolidated(read: Any, version: int) -> Mapping[str, Any]:
    """The consolidated metadata by key."""
    if version == 2:
        return parsed(read(".zmetadata"))["metadata"]
    found = (parsed(read("zarr.json")).get("consolidated_metadata") or {}).get("metadata", {})
    return {f"{path}/zarr.json": metadata for path, metadata in found.items()}


def _for_zarr_3(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of version 2 as zarr 3 takes it: a text as fill value of texts, where zarr 2 wrote 0, and no pickles."""
    if isinstance(metadata.get("metadata"), Mapping):  # of all arrays of a store
        known = metadata["metadata"]
        pickled = {key.rpartition("/")[0] for key, one in known.items() if is_pickled(one)}
        inside = {key: _for_zarr_3(one) for key, one in known.items() if key.rpartition("/")[0] not in pickled}
        return {**metadata, "metadata": inside}
    is_text = metadata.get("dtype") == "|O" and metadata.get("fill_value") == 0
    return {**metadata, "fill_value": ""} if is_text else dict(metadata)


def _without_copies(content: bytes) -> bytes:
    """Metadata of a group of version 3 without the copies of those of its members, which may be older than these."""
    metadata = dict(parsed(content))
    metadata.pop("consolidated_metadata", None)
    return json.dumps(metadata).encode()


class _ByKey:
    """The methods of a read-only store by key: one more base class is zarr's.

    A chunk of version 2 that is missing, or one of Blosc that is cut, is an OSError.
    """

    supports_writes = supports_deletes = False

    def __init__(self, read: Any, folder: str | None, address: str) -> None:
        super().__init__(read_only=True)  # type: ignore[call-arg]
        self.read, self.folder, self.address = read, folder, address
        self.by_blosc: frozenset[str] = frozenset()  # paths of arrays
        self._is_open = True

    @property
    def supports_listing(self) -> bool:
        return self.folder is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByKey) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return self.address

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        try:
            content = await asyncio.to_thread(self.read, key)
        except KeyError:
            if _CHUNK.fullmatch(key) and "/c/" not in key:
                raise OSError(f"chunk {key} is missing") from None
            return None
        if key.endswith((".zarray", ".zmetadata")):
            content = json.dumps(_for_zarr_3(parsed(content))).encode()
        elif key.endswith("zarr.json") and self.folder is not None:
            content = _without_copies(content)
        elif any(key.startswith(f"{path}/") for path in self.by_blosc) and not key.endswith(".zattrs"):
            check_whole(key, content[:16], len(content))
        return prototype.buffer.from_bytes(_part(content, byte_range))

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> list[Any]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        try:
            await asyncio.to_thread(self.read, key)
        except KeyError:
            return False
        return True

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        folder = os.path.join(self.folder or "", prefix.strip("/"))
        for name in sorted(os.listdir(folder)) if self.folder and os.path.isdir(folder) else []:
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        async for name in self.list_dir(prefix):
            yield f"{prefix}{name}"

    async def list(self) -> AsyncIterator[str]:
        async for name in self.list_prefix(""):
            yield name

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        raise OSError("the store can only be read")

    async def delete(self, key: str) -> None:
        raise OSError("the store can only be read")


def _part(content: bytes, byte_range: Any) -> bytes:
    """The bytes that zarr asks for: all, a range, those from an offset on, or the last ones."""
    if byte_range is None:
        return content
    if hasattr(byte_range, "suffix"):
        return content[-byte_range.suffix :]
    return content[getattr(byte_range, "offset", getattr(byte_range, "start", 0)) : getattr(byte_range, "end", None)]


def _store_class() -> Any:
    from zarr.abc.store import Store

    return type("KeyStore", (_ByKey, Store), {})
