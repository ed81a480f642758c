"""Rows of datasets in streamed files: which bytes hold them, fetched side by side before h5py asks for them."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from weakref import WeakValueDictionary

import h5py
import numpy as np

from nwb_lint.nwb.chunks import Plan, Ranges, Streamed, plan

Array = np.ndarray

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
