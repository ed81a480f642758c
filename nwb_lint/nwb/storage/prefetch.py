"""Rows of datasets in streamed files: which bytes hold them, fetched side by side before h5py asks for them.

Where the chunks of a streamed HDF5 dataset lie, by its index, a B-tree: each level of it fetched at once.

HDF5 itself walks this index a node at a time, each a request, and all of it to tell the place of one chunk. The
layout is that of the HDF5 File Format Specification, III.A.1 and IV.A.2.i.
"""

from __future__ import annotations

import atexit
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

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


_SLAB_BYTES = 64 * 2**20  # of a large dataset, fetched and read at a time
_SMALL_BYTES = 2**18  # of a dataset that needs no plan
_LONG_NODES = 3
_NODE_CHUNKS = 48  # chunks that one node of HDF5's chunk index names on average: 64 at most, 32 at least


_OPEN: WeakValueDictionary[str, Streamed] = WeakValueDictionary()


def register(address: str, stream: Streamed) -> str:
    """Note an open stream, and return the name under which HDF5 is to know it."""
    name, k = address, 1
    while name in _OPEN:
        k += 1
        name = f"{address} ({k})"
    _OPEN[name] = stream
    return name


def streamed(item: h5py.Dataset | h5py.Group) -> Streamed | None:
    """The stream that an object is read from; None where its file is local."""
    return _OPEN.get(item.file.filename) if len(_OPEN) else None


@atexit.register
def _close_streams() -> None:
    # HDF5 shuts down after Python's objects are gone: a file that still reads through one (ours, lindi's) would
    # crash there
    for file in h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE):
        read_only = file.get_intent() == h5py.h5f.ACC_RDONLY
        if read_only and file.get_access_plist().get_driver() == h5py.h5fd.fileobj_driver:
            h5py.File(file).close()


def fetch_rows(dataset: h5py.Dataset, low: Sequence[int] | Array, high: Sequence[int] | Array) -> None:
    """Fetch the bytes of rows low[k] to high[k] of a streamed dataset at once; nothing where it is local."""
    stream = streamed(dataset)
    if stream is None or not dataset.size:
        return
    runs = _runs(low, high)
    if not runs:
        return
    if dataset.chunks is None:
        stream.prefetch(_contiguous(dataset, runs))
    elif dataset.ndim == 1 or dataset.chunks[1:] == dataset.shape[1:]:
        stream.prefetch(*_chunked(dataset, runs, stream))


def load_streamed(dataset: h5py.Dataset) -> Array:
    """All values of a streamed dataset, a large one slab by slab, each fetched in a few large ranges."""
    if not dataset.ndim or dataset.nbytes <= _SMALL_BYTES or dataset.dtype.hasobject:
        return dataset[()]
    values = np.empty(dataset.shape, dataset.dtype)
    rows = max(1, _SLAB_BYTES * len(dataset) // dataset.nbytes)
    if dataset.chunks is not None:
        rows = max(1, rows // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, len(dataset), rows):
        stop = min(start + rows, len(dataset))
        fetch_rows(dataset, [start], [stop])
        values[start:stop] = dataset[start:stop]
    return values


def _runs(low: Sequence[int] | Array, high: Sequence[int] | Array) -> Ranges:
    """Rows as runs in order, those that touch joined."""
    runs: Ranges = []
    for a, b in sorted((int(a), int(b)) for a, b in zip(low, high, strict=True) if b > a):
        if runs and a <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(b, runs[-1][1]))
        else:
            runs.append((a, b))
    return runs


def _contiguous(dataset: h5py.Dataset, runs: Ranges) -> Ranges:
    offset = dataset.id.get_offset()
    if offset is None:  # external or virtual
        return []
    row_bytes = dataset.nbytes // len(dataset)
    return [(offset + a * row_bytes, offset + b * row_bytes) for a, b in runs]


def _chunked(dataset: h5py.Dataset, runs: Ranges, stream: Streamed) -> Plan:
    """Where the chunks of the runs lie: of long runs by their ends, of others by the index.

    A long run spans many nodes of the index, which lie between its chunks. Its first and last chunk are read, to
    which HDF5 goes straight; chunks written one after the other lie between them. Where the index is of a kind that
    `plan` does not read, HDF5 tells the place of a chunk by going through all of it, a request a node: there all
    runs are found by their ends where the index is long.
    """
    rows = dataset.chunks[0]
    spans: Ranges = []
    others: Ranges = []
    for run in runs:
        span = _span(dataset, run, stream) if run[1] - run[0] > _LONG_NODES * _NODE_CHUNKS * rows else None
        if span is None:
            others.append(run)
        else:
            spans.append(span)
    planned = plan(dataset, others, stream) if others else Plan([], {})
    if planned is not None:
        return Plan(spans + planned.chunks, planned.nodes)
    many = len(dataset) / rows / _NODE_CHUNKS > 2 * len(others)
    for run in others:
        span = _span(dataset, run, stream) if many else None
        spans += _indexed(dataset, run) if span is None else [span]
    return Plan(spans, {})


def _indexed(dataset: h5py.Dataset, run: tuple[int, int]) -> Ranges:
    """Where the index says that the chunks of a run lie."""
    rows, rest = dataset.chunks[0], (0,) * (dataset.ndim - 1)
    found = [dataset.id.get_chunk_info_by_coord((row, *rest)) for row in range(run[0] // rows * rows, run[1], rows)]
    return [(info.byte_offset, info.byte_offset + info.size) for info in found if info.byte_offset is not None]


def _span(dataset: h5py.Dataset, run: tuple[int, int], stream: Streamed) -> tuple[int, int] | None:
    """Between the first chunk of a run and its last, where they lie as chunks written in order do."""
    rows = dataset.chunks[0]
    first, last = run[0] // rows, (run[1] - 1) // rows
    ends: Ranges = []
    for row in (run[0], run[1] - 1):
        stream.asked.clear()
        dataset[row : row + 1]
        if not stream.asked:  # HDF5 had it already
            return (0, 0) if last - first < 2 else None
        ends.append(stream.asked[-1])
    if last - first < 2:  # both are read
        return 0, 0
    start, stop = ends[0][1], ends[1][0]
    between, chunk_bytes = last - first - 1, dataset.nbytes // len(dataset) * rows
    least, most = between * (ends[0][1] - ends[0][0]) // 8, (between + 1) * (chunk_bytes + 4096)
    return (start, stop) if least <= stop - start <= most else None
