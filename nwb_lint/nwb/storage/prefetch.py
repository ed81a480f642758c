"""Fetching in advance: the bytes of rows of a remote HDF5 dataset, before h5py asks for them.

h5py reads one block of data after the other, and each would be a request. `fetch_rows` finds out where the rows are,
and fetches them side by side. The place of a contiguous dataset is known. The chunks of a chunked dataset are listed in
an index, a B-tree of nodes. HDF5 reads it node by node, and all of it to find a single chunk; `plan_chunks` reads only
the nodes on the way to the wanted chunks, one level at a time (HDF5 File Format Specification, III.A.1 and IV.A.2.i).
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

_SLAB_BYTES = 64 * 2**20  # of a large dataset that are fetched and read at a time
_SMALL_BYTES = 2**18  # a smaller dataset is read without fetching in advance
_LONG_RUN_NODES = 3  # a run of rows is long if its chunks fill more nodes than this
_CHUNKS_PER_NODE = 48  # on average: HDF5 fills nodes with 32 to 64 chunks

_MAX_CHILDREN = 64  # of a node, unless the file was made with another setting
_NODE_HEAD_BYTES = 24
_LAYOUT, _CONTINUATION = 0x0008, 0x0010  # types of messages in an object header
_MAX_HEADER_BLOCKS = 100
_HEADER_BYTES = 512  # of an object header that are read first


class Streamed(Protocol):
    """An open remote file that can fetch ranges of bytes in advance (`streaming.HTTPFile`)."""

    size: int
    requested: Ranges
    index_nodes: dict[int, bytes]

    def prefetch(self, ranges: Ranges, known: dict[int, bytes] | None = None) -> None:
        """Hold these bytes (start, stop) in memory, and the known ones, in place of those held before."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to the position of the next read."""

    def read(self, size: int = -1) -> bytes | None:
        """Read so many bytes."""


_open_streams: WeakValueDictionary[str, Streamed] = WeakValueDictionary()


def register(address: str, stream: Streamed) -> str:
    """Note an open stream; gives the file name under which HDF5 needs to open it."""
    name, k = address, 1
    while name in _open_streams:
        k += 1
        name = f"{address} ({k})"
    _open_streams[name] = stream
    return name


def streamed(item: h5py.Dataset | h5py.Group) -> Streamed | None:
    """The stream that an object is read from.

    Parameters
    ----------
    item : h5py.Dataset or h5py.Group
        A member of an open file.

    Returns
    -------
    Streamed or None
        None for a member of a local file.
    """
    return _open_streams.get(item.file.filename) if len(_open_streams) else None


@atexit.register
def _close_streams() -> None:
    # HDF5 shuts down after Python has removed its objects. A file that is still open on a Python file object, ours or
    # lindi's, would crash then.
    for file in h5py.h5f.get_obj_ids(types=h5py.h5f.OBJ_FILE):
        read_only = file.get_intent() == h5py.h5f.ACC_RDONLY
        if read_only and file.get_access_plist().get_driver() == h5py.h5fd.fileobj_driver:
            h5py.File(file).close()


def fetch_rows(dataset: h5py.Dataset, low: Sequence[int] | Array, high: Sequence[int] | Array) -> None:
    """Fetch rows of a remote dataset in few requests, so that reading them from h5py needs no more.

    Nothing happens where the dataset is local.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.
    low, high : sequence of int
        First row of each range, and the one after its last.
    """
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


def load_streamed(dataset: h5py.Dataset, slab_bytes: int = _SLAB_BYTES) -> Array:
    """Read all values of a remote dataset.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset.
    slab_bytes : int, default=64 MiB
        How much of a large dataset is fetched and read at a time.

    Returns
    -------
    numpy.ndarray
    """
    if not dataset.ndim or dataset.nbytes <= _SMALL_BYTES or dataset.dtype.hasobject:
        return dataset[()]
    values = np.empty(dataset.shape, dataset.dtype)
    rows = max(1, slab_bytes * len(dataset) // dataset.nbytes)
    if dataset.chunks is not None:
        rows = max(1, rows // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, len(dataset), rows):
        stop = min(start + rows, len(dataset))
        fetch_rows(dataset, [start], [stop])
        values[start:stop] = dataset[start:stop]
    return values


def _runs(low: Sequence[int] | Array, high: Sequence[int] | Array) -> Ranges:
    """Runs (start, stop) of rows in order; runs that overlap or follow each other are one."""
    runs: Ranges = []
    for a, b in sorted((int(a), int(b)) for a, b in zip(low, high, strict=True) if b > a):
        if runs and a <= runs[-1][1]:
            runs[-1] = (runs[-1][0], max(b, runs[-1][1]))
        else:
            runs.append((a, b))
    return runs


def _contiguous(dataset: h5py.Dataset, runs: Ranges) -> Ranges:
    """Where the bytes of the runs are; none for values in other files (external or virtual datasets)."""
    offset = dataset.id.get_offset()
    if offset is None:
        return []
    row_bytes = dataset.nbytes // len(dataset)
    return [(offset + a * row_bytes, offset + b * row_bytes) for a, b in runs]


def _chunked(dataset: h5py.Dataset, runs: Ranges, stream: Streamed) -> ChunkPlan:
    """Where the chunks of the runs are: of long runs from their ends, of others from the index.

    A long run spans many nodes of the index, which lie between its chunks in the file. HDF5 reads its first and last
    chunk directly, and chunks that were written in order lie between these two. Where `plan_chunks` cannot read the
    index and the index is long, all runs are found from their ends.
    """
    rows = dataset.chunks[0]
    spans: Ranges = []
    others: Ranges = []
    for run in runs:
        span = _span(dataset, run, stream) if run[1] - run[0] > _LONG_RUN_NODES * _CHUNKS_PER_NODE * rows else None
        if span is None:
            others.append(run)
        else:
            spans.append(span)
    planned = plan_chunks(dataset, others, stream) if others else ChunkPlan([], {})
    if planned is not None:
        return ChunkPlan(spans + planned.chunks, planned.nodes)
    long_index = len(dataset) / rows / _CHUNKS_PER_NODE > 2 * len(others)
    for run in others:
        span = _span(dataset, run, stream) if long_index else None
        spans += _indexed(dataset, run) if span is None else [span]
    return ChunkPlan(spans, {})


def _indexed(dataset: h5py.Dataset, run: tuple[int, int]) -> Ranges:
    """Where the chunks of a run are, from HDF5's own search of the index, a request for each node."""
    rows, rest = dataset.chunks[0], (0,) * (dataset.ndim - 1)
    found = [dataset.id.get_chunk_info_by_coord((row, *rest)) for row in range(run[0] // rows * rows, run[1], rows)]
    return [(info.byte_offset, info.byte_offset + info.size) for info in found if info.byte_offset is not None]


def _span(dataset: h5py.Dataset, run: tuple[int, int], stream: Streamed) -> tuple[int, int] | None:
    """The bytes between the first and the last chunk of a run, which are read here.

    None where their distance is not that of chunks written in order. (0, 0) where nothing lies between them.
    """
    rows = dataset.chunks[0]
    first, last = run[0] // rows, (run[1] - 1) // rows
    ends: Ranges = []
    for row in (run[0], run[1] - 1):
        stream.requested.clear()
        dataset[row : row + 1]
        if not stream.requested:  # HDF5 has the chunk in its own cache
            return (0, 0) if last - first < 2 else None
        ends.append(stream.requested[-1])
    if last - first < 2:
        return 0, 0
    start, stop = ends[0][1], ends[1][0]
    between, chunk_bytes = last - first - 1, dataset.nbytes // len(dataset) * rows
    smallest, largest = between * (ends[0][1] - ends[0][0]) // 8, (between + 1) * (chunk_bytes + 4096)
    return (start, stop) if smallest <= stop - start <= largest else None


class ChunkPlan(NamedTuple):
    """Where chunks are (start, stop), and the nodes that HDF5 reads on the way to them, by position."""

    chunks: Ranges
    nodes: dict[int, bytes]


class _Node(NamedTuple):
    """One node of an index: of level 0, its children are chunks; of a higher level, nodes."""

    level: int
    first_rows: Array  # of each child, and of the one after the last
    sizes: Array  # bytes of each child, if it is a chunk
    children: Array  # their positions in the file


def plan_chunks(dataset: h5py.Dataset, runs: Ranges, stream: Streamed) -> ChunkPlan | None:
    """Where the chunks of some rows are.

    Parameters
    ----------
    dataset : h5py.Dataset
        A chunked dataset of a remote file; its chunks are as wide as the dataset.
    runs : list of tuple of int
        First row of each run, and the one after its last; in order, without overlap.
    stream : Streamed
        What the file is read from.

    Returns
    -------
    ChunkPlan or None
        None where the index is not a B-tree of version 1, or is damaged.
    """
    try:
        root = _root(dataset, stream)
        return None if root is None else _descend(dataset, np.array(runs), stream, root)
    except struct.error:  # damaged; HDF5 reports it when the rows are read
        return None


def _descend(dataset: h5py.Dataset, wanted: Array, stream: Streamed, root: int) -> ChunkPlan | None:
    """From the root of an index down to the chunks of the wanted rows, the nodes of a level in one step."""
    at, used = [root], dict[int, bytes]()
    level: int | None = None
    while at:
        nodes = _nodes(stream, at, dataset.ndim)
        if nodes is None or any(node.level != (nodes[0].level if level is None else level - 1) for node in nodes):
            return None
        level = nodes[0].level
        used |= {address: stream.index_nodes[address] for address in at}
        masks = [_overlaps(node, wanted, dataset.chunks[0]) for node in nodes]
        children = np.concatenate([node.children[mask] for node, mask in zip(nodes, masks, strict=True)])
        if not level:
            sizes = np.concatenate([node.sizes[mask] for node, mask in zip(nodes, masks, strict=True)])
            return ChunkPlan(list(zip(children.tolist(), (children + sizes).tolist(), strict=True)), used)
        at = children.tolist()
    return ChunkPlan([], used)


def _overlaps(node: _Node, wanted: Array, chunk_rows: int) -> Array:
    """Which children hold wanted rows; ``wanted (run, 2)`` has start and stop of each run, in order."""
    stops = node.first_rows[1:] if node.level else node.first_rows[:-1] + chunk_rows
    first = np.searchsorted(wanted[:, 1], node.first_rows[:-1], side="right")
    return (first < len(wanted)) & (wanted[np.minimum(first, len(wanted) - 1), 0] < stops)


def _nodes(stream: Streamed, addresses: list[int], ndim: int) -> list[_Node] | None:
    """The nodes at these positions; None where one of them is not a node of a B-tree of chunks."""
    key = np.dtype([("size", "<u4"), ("mask", "<u4"), ("offset", "<u8", ndim + 1)])
    entry = np.dtype([("key", key), ("child", "<u8")])
    n_bytes = _NODE_HEAD_BYTES + _MAX_CHILDREN * entry.itemsize + key.itemsize
    if not all(0 <= address <= stream.size - _NODE_HEAD_BYTES for address in addresses):
        return None
    new = [address for address in addresses if address not in stream.index_nodes]
    missing = [(address, min(address + n_bytes, stream.size)) for address in new]
    if missing:
        stream.prefetch(missing)
        stream.index_nodes |= {start: _bytes(stream, start, stop) for start, stop in missing}
    found = []
    for address in addresses:
        content = stream.index_nodes[address]
        signature, kind, level, n = struct.unpack_from("<4sBBH", content)
        if signature != b"TREE" or kind != 1 or _NODE_HEAD_BYTES + n * entry.itemsize + key.itemsize > len(content):
            return None
        entries = np.frombuffer(content, entry, n, _NODE_HEAD_BYTES)
        last = np.frombuffer(content, key, 1, _NODE_HEAD_BYTES + n * entry.itemsize)
        rows = np.concatenate([entries["key"]["offset"][:, 0], last["offset"][:, 0]]).astype(np.int64)
        found.append(_Node(level, rows, entries["key"]["size"].astype(np.int64), entries["child"].astype(np.int64)))
    return found


def _root(dataset: h5py.Dataset, stream: Streamed) -> int | None:
    """The position of the root of the index, from the layout message in the object header of the dataset."""
    if dataset.file.userblock_size:  # positions are relative to the end of the user block
        return None
    low, high = h5py.h5g.get_objinfo(dataset.id).objno  # h5o.get_info would read the whole index
    for kind, content in _messages(stream, low | high << 32):
        if kind == _LAYOUT:
            version, layout, _ = struct.unpack_from("<BBB", content)
            if (version, layout) != (3, 2):
                return None
            (address,) = struct.unpack_from("<Q", content, 3)
            return int(address) if address < stream.size else None
    return None


def _messages(stream: Streamed, address: int) -> Iterator[tuple[int, bytes]]:
    """Type and content of each message of an object header of version 1 or 2."""
    head = _bytes(stream, address, min(address + _HEADER_BYTES, stream.size))
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
    for block_start, length in blocks:  # grows below
        block, at = _bytes(stream, block_start, min(block_start + length, stream.size)), 0
        while at + struct.calcsize(form) <= len(block):
            kind, size, _ = struct.unpack_from(form, block, at)
            at += struct.calcsize(form)
            content = block[at : at + size]
            at += size
            if kind == _CONTINUATION and len(content) >= 16 and len(blocks) < _MAX_HEADER_BLOCKS:
                next_start, next_length = struct.unpack_from("<QQ", content)
                blocks.append((next_start + tail, next_length - 2 * tail))  # without signature and checksum
            yield kind, content


def _bytes(stream: Streamed, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(max(stop - start, 0)) or b""
