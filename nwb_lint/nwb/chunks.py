"""Where the chunks of a streamed HDF5 dataset lie, by its index, a B-tree: each level of it fetched at once.

HDF5 itself walks this index a node at a time, each a request, and all of it to tell the place of one chunk. The
layout is that of the HDF5 File Format Specification, III.A.1 and IV.A.2.i.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import h5py
import numpy as np

Array = np.ndarray
Ranges = list[tuple[int, int]]

_MOST_CHILDREN = 64  # of a node, unless a file was made to have others
_NODE_HEAD = 24
_LAYOUT, _CONTINUED = 0x0008, 0x0010  # messages of an object header
_MOST_BLOCKS = 100  # of one object header
_HEAD_BYTES = 512


class Streamed(Protocol):
    """An open remote file that can fetch ranges of bytes ahead, and that tells which it was asked for."""

    size: int
    asked: Ranges
    nodes: dict[int, bytes]

    def prefetch(self, ranges: Ranges, known: dict[int, bytes] | None = None) -> None:
        """Hold these bytes (start, stop) in memory, and those that are known, in place of those held before."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Where the next read begins."""

    def read(self, size: int = -1) -> bytes | None:
        """So many bytes."""


class Plan(NamedTuple):
    """Where chunks lie, and the nodes that HDF5 asks for on its way to them."""

    chunks: Ranges
    nodes: dict[int, bytes]


class _Node(NamedTuple):
    level: int
    rows: Array  # that each child begins with, and one after the last's first
    sizes: Array  # of chunks, where level is 0
    children: Array


def plan(dataset: h5py.Dataset, runs: Ranges, stream: Streamed) -> Plan | None:
    """Where the chunks of these runs of rows lie; None where the index is of another kind, or cannot be followed.

    Chunks need to be as wide as the dataset.
    """
    try:
        root = _root(dataset, stream)
        return None if root is None else _descend(dataset, np.array(runs), stream, root)
    except struct.error:  # damaged: HDF5 will say so
        return None


def _descend(dataset: h5py.Dataset, wanted: Array, stream: Streamed, root: int) -> Plan | None:
    at, used = [root], dict[int, bytes]()
    level: int | None = None
    while at:
        nodes = _nodes(stream, at, dataset.ndim)
        if nodes is None or any(node.level != (nodes[0].level if level is None else level - 1) for node in nodes):
            return None
        level = nodes[0].level
        used |= {address: stream.nodes[address] for address in at}
        chosen = [_meets(node, wanted, dataset.chunks[0]) for node in nodes]
        children = np.concatenate([node.children[met] for node, met in zip(nodes, chosen, strict=True)])
        if not level:
            sizes = np.concatenate([node.sizes[met] for node, met in zip(nodes, chosen, strict=True)])
            return Plan(list(zip(children.tolist(), (children + sizes).tolist(), strict=True)), used)
        at = children.tolist()
    return Plan([], used)


def _meets(node: _Node, wanted: Array, chunk_rows: int) -> Array:
    """Which children hold rows that are wanted, runs (start, stop) in order."""
    stops = node.rows[1:] if node.level else node.rows[:-1] + chunk_rows
    first = np.searchsorted(wanted[:, 1], node.rows[:-1], side="right")
    return (first < len(wanted)) & (wanted[np.minimum(first, len(wanted) - 1), 0] < stops)


def _nodes(stream: Streamed, addresses: list[int], ndim: int) -> list[_Node] | None:
    key = np.dtype([("size", "<u4"), ("mask", "<u4"), ("offset", "<u8", ndim + 1)])
    entry = np.dtype([("key", key), ("child", "<u8")])
    n_bytes = _NODE_HEAD + _MOST_CHILDREN * entry.itemsize + key.itemsize
    if not all(0 <= address <= stream.size - _NODE_HEAD for address in addresses):
        return None
    missing = [(address, min(address + n_bytes, stream.size)) for address in addresses if address not in stream.nodes]
    if missing:
        stream.prefetch(missing)
        stream.nodes |= {start: _bytes(stream, start, stop) for start, stop in missing}
    found = []
    for address in addresses:
        content = stream.nodes[address]
        signature, kind, level, n = struct.unpack_from("<4sBBH", content)
        if signature != b"TREE" or kind != 1 or _NODE_HEAD + n * entry.itemsize + key.itemsize > len(content):
            return None
        entries = np.frombuffer(content, entry, n, _NODE_HEAD)
        last = np.frombuffer(content, key, 1, _NODE_HEAD + n * entry.itemsize)
        rows = np.concatenate([entries["key"]["offset"][:, 0], last["offset"][:, 0]]).astype(np.int64)
        found.append(_Node(level, rows, entries["key"]["size"].astype(np.int64), entries["child"].astype(np.int64)))
    return found


def _root(dataset: h5py.Dataset, stream: Streamed) -> int | None:
    """The address of the root of the index, from the layout in the dataset's object header."""
    if dataset.file.userblock_size:  # addresses are relative to its end
        return None
    low, high = h5py.h5g.get_objinfo(dataset.id).objno  # h5o.get_info would walk the index
    for kind, content in _messages(stream, low | high << 32):
        if kind == _LAYOUT:
            version, layout, _ = struct.unpack_from("<BBB", content)
            if (version, layout) != (3, 2):
                return None
            (address,) = struct.unpack_from("<Q", content, 3)
            return int(address) if address < stream.size else None
    return None


def _messages(stream: Streamed, address: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the messages of an object header of version 1 or 2."""
    head = _bytes(stream, address, min(address + _HEAD_BYTES, stream.size))
    if head[:5] == b"OHDR\x02":
        flags = head[5]
        width = 1 << (flags & 3)
        start = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        blocks = [(address + start + width, int.from_bytes(head[start : start + width], "little"))]
        form, tail = "<BHB2x" if flags & 4 else "<BHB", 4
    elif head[0] == 1:
        blocks, form, tail = [(address + 16, struct.unpack_from("<I", head, 8)[0])], "<HHB3x", 0
    else:
        return
    for start, length in blocks:
        block, at = _bytes(stream, start, min(start + length, stream.size)), 0
        while at + struct.calcsize(form) <= len(block):
            kind, size, _ = struct.unpack_from(form, block, at)
            at += struct.calcsize(form)
            content = block[at : at + size]
            at += size
            if kind == _CONTINUED and len(content) >= 16 and len(blocks) < _MOST_BLOCKS:
                start, length = struct.unpack_from("<QQ", content)
                blocks.append((start + tail, length - 2 * tail))  # without signature and checksum
            yield kind, content


def _bytes(stream: Streamed, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(max(stop - start, 0)) or b""
