"""Remote HDF5 files for h5py: a file object that reads ranges of bytes over HTTP.

What h5py asks for comes from ranges that were fetched in advance (`prefetch`), or else from blocks of 100 KiB. Both are
kept in the disk cache. Blocks that follow each other are fetched in growing requests.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import h5py

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.cache import RangeCache, enforce_limit, limit_bytes
from nwb_lint.nwb.storage.checked_file import CheckedFile, refuse_endless_heap
from nwb_lint.nwb.storage.http import FileSession, as_nwb_error, describe_error, get_range
from nwb_lint.nwb.storage.prefetch import Ranges, register

_BLOCK_BYTES = 100 * 1024
_HEAD_BYTES = 3 * _BLOCK_BYTES  # of the first request: the metadata that an NWB file begins with
_BLOCK_GROWTH = 1.7  # of the number of blocks in a request, where blocks are read in order
_MAX_REQUEST_BYTES = 32 * 2**20
_MAX_MEMORY_BYTES = 256 * 2**20  # of blocks
_MAX_GAP_BYTES = 16 * 1024  # two ranges with a smaller gap between them are fetched as one
_REQUESTS_AT_ONCE = 8
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL"


class HTTPFile(io.RawIOBase):
    """A remote file that h5py reads like a local one.

    The first request gives the size, the ETag and the first bytes of the file. If these bytes are in the disk cache
    already, it asks for one byte only.

    Parameters
    ----------
    asset : Asset
        A remote file.
    session : FileSession
        It is closed with the file.

    Attributes
    ----------
    size : int
        Bytes of the file.
    requested : list of tuple of int
        The ranges (start, stop) that h5py has read, in order.
    index_nodes : dict of int to bytes
        Nodes of chunk indices by their position in the file, kept for `prefetch.plan_chunks`.
    """

    def __init__(self, asset: Asset, session: FileSession) -> None:
        self.requested: Ranges = []
        self.index_nodes: dict[int, bytes] = {}
        self.address, self._url, self._session, self._position = asset.address, asset.location, session, 0
        self._limit_bytes = limit_bytes()
        self._cache: RangeCache | None = None
        known = RangeCache(self._url).get("version")
        head, self.size = get_range(session, self._url, 0, 1 if known else _HEAD_BYTES)
        if asset.size and asset.size != self.size:
            raise NWBError(
                f"{asset} has {self.size} bytes at the server. Its archive has announced {asset.size}. Report it there."
            )
        version = f"{session.etag} {self.size}".encode()
        private = session.has_used_token or asset.has_secret
        if session.etag:
            self._cache = RangeCache(f"{self._url} {version!r}", private)
        if known:
            cached = self._cached("head") if known == version else None
            head = cached or get_range(session, self._url, 0, _HEAD_BYTES).content
        if self._cache:
            self._cache.lock()
            self._cache.set("head", head)
            RangeCache(self._url, private).set("version", version)
        enforce_limit(self._limit_bytes)
        self._starts, self._held = [0], [head]  # ranges fetched in advance, in order
        self._blocks: dict[int, bytes] = {}
        self._blocks_per_request, self._last_block = 1, -2

    def looks_like_hdf5(self) -> bool:
        """Whether the first bytes, or those after a user block, are the signature of HDF5."""
        places = [0, *(512 * 2**k for k in range(8))]
        return any(self._held[0][start : start + len(_SIGNATURE)] == _SIGNATURE for start in places)

    def prefetch(self, ranges: Ranges, known: dict[int, bytes] | None = None) -> None:
        """Fetch ranges of bytes and hold them in memory, in place of those held before.

        Parameters
        ----------
        ranges : list of tuple of int
            First byte, and the one after the last.
        known : dict of int to bytes or None, default=None
            Bytes to hold as well, by the position of their first one.
        """
        merged: Ranges = []
        for start, stop in sorted(ranges):
            if merged and start - merged[-1][1] <= _MAX_GAP_BYTES:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        requests = [
            (at, min(at + _MAX_REQUEST_BYTES, stop, self.size))
            for start, stop in merged
            for at in range(max(start, len(self._held[0])), min(stop, self.size), _MAX_REQUEST_BYTES)
        ]
        self._starts, self._held = self._starts[:1], self._held[:1]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            contents = pool.map(self._fetch_range, requests)
            found = {start: content for (start, _), content in zip(requests, contents, strict=True)}
        edges = [edge for one in [(0, len(self._held[0])), *requests] for edge in one]
        for start, content in (known or {}).items():
            k = bisect_right(edges, start)
            if k % 2 == 0 and (k == len(edges) or start + len(content) <= edges[k]):  # not inside another range
                found[start] = content
        self._starts += sorted(found)
        self._held += [found[start] for start in sorted(found)]

    def _fetch_range(self, request: tuple[int, int]) -> bytes:
        start, stop = request
        key = f"{start}-{stop}"
        content = self._cached(key)
        if content is None or len(content) != stop - start:
            content = self._fetch(start, stop)
            if self._cache:
                self._cache.set(key, content)
        return content

    def _cached(self, key: str) -> bytes | None:
        return self._cache.get(key) if self._cache else None

    def _fetch(self, start: int, stop: int) -> bytes:
        try:
            return get_range(self._session, self._url, start, stop).content
        except OSError as error:
            raise OSError(describe_error(error)) from error

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """As `io.IOBase.seek`."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the whole buffer; OSError where the bytes cannot be fetched."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, self._position + len(view)
        self.requested.append((start, stop))
        if stop > self.size:
            raise OSError(f"bytes {start} to {stop} are beyond the end of the file ({self.size} bytes)")
        at = start
        while at < stop:
            content = self._from_memory(at, stop) or self._from_block(at, self._next_held(at, stop))
            view[at - start : at - start + len(content)] = content
            at += len(content)
        if view[:4] == _HEAP:
            refuse_endless_heap(view, 0, self.address)
        self._position = stop
        return len(view)

    def _from_memory(self, at: int, stop: int) -> memoryview:
        """The bytes from a position on that are in one range held in memory; empty if there are none."""
        k = bisect_right(self._starts, at) - 1
        start = self._starts[k]
        return memoryview(self._held[k])[at - start : stop - start]

    def _next_held(self, at: int, stop: int) -> int:
        k = bisect_right(self._starts, at)
        return min(stop, self._starts[k]) if k < len(self._starts) else stop

    def _from_block(self, at: int, stop: int) -> bytes:
        """The bytes from a position on that are in one block; from memory, from disk, or fetched."""
        number = at // _BLOCK_BYTES
        content = self._blocks.get(number) or self._cached(f"block {number}")
        if content is None:
            content = self._fetch_blocks(number, (stop - 1) // _BLOCK_BYTES - number + 1)
        else:
            self._blocks[number], self._last_block = content, number
        start = number * _BLOCK_BYTES
        return content[at - start : stop - start]

    def _fetch_blocks(self, first: int, needed: int) -> bytes:
        """Fetch blocks in one request: those needed, and more the longer the file is read in order; gives the first."""
        growth = _BLOCK_GROWTH if first == self._last_block + 1 else 1 / _BLOCK_GROWTH
        n = max(needed, round(self._blocks_per_request * growth + 0.5))
        n = min(n, _MAX_REQUEST_BYTES // _BLOCK_BYTES)
        n = next((k for k in range(1, n) if first + k in self._blocks), n)
        start = first * _BLOCK_BYTES
        content = self._fetch(start, min(start + n * _BLOCK_BYTES, self.size))
        while self._blocks and (len(self._blocks) + n) * _BLOCK_BYTES > _MAX_MEMORY_BYTES:
            self._blocks.pop(next(iter(self._blocks)))
        for at in range(0, len(content), _BLOCK_BYTES):
            number, block = first + at // _BLOCK_BYTES, content[at : at + _BLOCK_BYTES]
            self._blocks[number] = block
            if self._cache:
                self._cache.set(f"block {number}", block)
        self._blocks_per_request, self._last_block = n, first + n - 1
        return self._blocks[first]

    def close(self) -> None:
        """Close the connections, and let the cache remove the file."""
        if not self.closed:
            self._session.close()
            if self._cache:
                self._cache.unlock()
                enforce_limit(self._limit_bytes)
        super().close()


class _RemoteH5File(CheckedFile):
    """A `CheckedFile` that closes the file object below it too."""

    stream: HTTPFile | None = None

    def close(self) -> None:
        """As `CheckedFile.close`."""
        super().close()
        if self.stream is not None:
            self.stream.close()


def open_remote(asset: Asset) -> h5py.File:
    """Open a remote HDF5 file for streaming.

    Parameters
    ----------
    asset : Asset
        A remote file of kind ``hdf5``.

    Returns
    -------
    h5py.File

    Raises
    ------
    MissingFileError
        If the server has no such file.
    NWBError
        If the file may not be read, the server does not support ranges, the size is not what the archive announced,
        or the file is not HDF5.
    """
    from nwb_lint.nwb.storage.dandi import open_session

    session = open_session(asset)
    with ExitStack() as on_failure, as_nwb_error(asset.address):
        on_failure.callback(session.close)
        stream = HTTPFile(asset, session)
        on_failure.pop_all()
    try:
        return _open(stream)
    except (OSError, RuntimeError) as error:
        is_hdf5 = stream.looks_like_hdf5()
        stream.close()
        if not is_hdf5:
            raise NWBError(f"{asset} is not HDF5. An NWB file is needed. Check the address.") from error
        reason = describe_error(error)
        raise NWBError(f"{asset} cannot be opened as HDF5: {reason}. Try again, or check the file.") from error


def _open(stream: HTTPFile) -> h5py.File:
    # h5py's low-level functions, since HDF5 would otherwise widen small reads to 64 KB (its sieve buffer)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_sieve_buf_size(512)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, stream)
    name = register(stream.address, stream)
    file = _RemoteH5File(h5py.h5f.open(name.encode(), h5py.h5f.ACC_RDONLY, fapl=access), remote=True)
    file.stream = stream
    return file
