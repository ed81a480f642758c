"""Remote HDF5 files streamed into h5py: remfile with a disk cache, and ranges of bytes fetched ahead."""

from __future__ import annotations

import io
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import h5py

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.cache import Parts, limit_bytes, tidy
from nwb_lint.nwb.storage.http import Web, fetch, not_reached, why
from nwb_lint.nwb.storage.prefetch import Ranges, register

_HEAD_BYTES = 3 * 100 * 1024  # of the first request: what NWB begins with, in remfile's least parts
_BLOCK_BYTES = 2**20  # of fsspec's cache
_GAP_BYTES = 16 * 1024  # between two ranges that are fetched as one
_PIECE_BYTES = 32 * 2**20  # of one request
_SIDE_BY_SIDE = 8
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Stream(io.RawIOBase):
    """A remote file as h5py wants one: reads go to remfile (or fsspec), ranges fetched ahead lie in memory.

    The first request tells the size, the version and the first bytes; where these are on disk, the first byte.
    """

    def __init__(self, asset: Asset, web: Web) -> None:
        self.asked: Ranges = []
        self.nodes: dict[int, bytes] = {}
        self.address, self._url, self._web, self._at = asset.address, asset.location, web, 0
        self._cache: Parts | None = None
        self._most = limit_bytes()
        notes = Parts(self._url)
        known = notes.get("version")
        head, self.size = fetch(web, self._url, 0, 1 if known else _HEAD_BYTES)
        if asset.size and asset.size != self.size:
            raise NWBError(
                f"{asset} has {self.size} bytes at the server; {asset.size} were announced. Tell its archive."
            )
        version = f"{web.version} {self.size}".encode()
        self._cache = Parts(f"{self._url} {version!r}") if web.version else None
        if known:
            whole = self._cache.get("head") if self._cache and known == version else None
            head = whole or fetch(web, self._url, 0, _HEAD_BYTES).content
        if self._cache:
            self._cache.hold()
            self._cache.set("head", head)
            notes.set("version", version)
        tidy(self._most)
        self._starts, self._held = [0], [head]
        try:
            self._below = self._remfile()
        except (ImportError, TypeError, AttributeError):  # there is none, or another than we know
            self._below = self._blocks()

    def _remfile(self) -> Any:
        import remfile

        file = remfile.File(self._url, disk_cache=self._cache, _size=self.size, _use_session=False)
        file.session = self._web
        return file

    def _blocks(self) -> Any:
        import fsspec

        url = self._web.get(self._url, headers={"Range": "bytes=0-0"}).url  # where redirects lead
        web = fsspec.filesystem("http", skip_instance_cache=True)
        return web.open(url, "rb", size=self.size, cache_type="blockcache", block_size=_BLOCK_BYTES)

    def looks_like_hdf5(self) -> bool:
        """Whether the first bytes, or those after a user block, are HDF5's."""
        places = [0, *(512 * 2**k for k in range(8))]
        return any(self._held[0][at : at + len(_SIGNATURE)] == _SIGNATURE for at in places)

    def prefetch(self, ranges: Ranges, known: dict[int, bytes] | None = None) -> None:
        """Hold these bytes (start, stop) in memory, in place of those held before; near ones as one request.

        ``known`` bytes are held too, by where they begin.
        """
        merged: Ranges = []
        for start, stop in sorted(ranges):
            if merged and start - merged[-1][1] <= _GAP_BYTES:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        pieces = [
            (at, min(at + _PIECE_BYTES, stop, self.size))
            for start, stop in merged
            for at in range(max(start, len(self._held[0])), min(stop, self.size), _PIECE_BYTES)
        ]
        self._starts, self._held = self._starts[:1], self._held[:1]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            found = dict(zip((start for start, _ in pieces), pool.map(self._piece, pieces), strict=True))
        edges = [edge for piece in [(0, len(self._held[0])), *pieces] for edge in piece]
        for start, content in (known or {}).items():
            k = bisect_right(edges, start)
            if k % 2 == 0 and (k == len(edges) or start + len(content) <= edges[k]):  # else it is there
                found[start] = content
        self._starts += sorted(found)
        self._held += [found[start] for start in sorted(found)]

    def _piece(self, piece: tuple[int, int]) -> bytes:
        key = f"{piece[0]}-{piece[1]}"
        content = self._cache.get(key) if self._cache else None
        if content is None or len(content) != piece[1] - piece[0]:
            try:
                content = fetch(self._web, self._url, *piece).content
            except OSError as error:
                raise OSError(why(error)) from error
            if self._cache:
                self._cache.set(key, content)
        return content

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As `io.IOBase.seek`."""
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; raises OSError where the bytes cannot be had, all of them."""
        view = memoryview(buffer).cast("B")
        start, stop = self._at, self._at + len(view)
        self.asked.append((start, stop))
        if stop > self.size:
            raise OSError(f"bytes {start} to {stop} are wanted of a file of {self.size}")
        at = start
        while at < stop:
            part = self._from_memory(at, stop) or self._from_below(at, self._next_held(at, stop))
            view[at - start : at - start + len(part)] = part
            at += len(part)
        self._at = stop
        return len(view)

    def _from_memory(self, at: int, stop: int) -> memoryview | None:
        k = bisect_right(self._starts, at) - 1
        begins = self._starts[k]
        part = memoryview(self._held[k])[at - begins : stop - begins]
        return part if len(part) else None

    def _next_held(self, at: int, stop: int) -> int:
        k = bisect_right(self._starts, at)
        return min(stop, self._starts[k]) if k < len(self._starts) else stop

    def _from_below(self, start: int, stop: int) -> bytes:
        try:
            self._below.seek(start)
            part = self._below.read(stop - start)
        except Exception as error:  # remfile raises plain Exceptions
            raise OSError(why(error)) from error
        if len(part) != stop - start:
            raise OSError(f"{len(part)} bytes came where {stop - start} were asked for")
        return part

    def close(self) -> None:
        """Give back the connections."""
        if not self.closed:
            self._web.close()
            with suppress(AttributeError):
                self._below.close()
            if self._cache:
                self._cache.let_go()
                tidy(self._most)
        super().close()


class _StreamedFile(h5py.File):
    """An h5py.File that closes its stream too."""

    stream: Stream | None = None

    def close(self) -> None:
        """As `h5py.File.close`."""
        super().close()
        if self.stream is not None:
            self.stream.close()


def open_remote(asset: Asset) -> h5py.File:
    """Open a remote HDF5 file for streaming.

    Raises: NWBError, one line: no such file, no leave, no ranges, wrong size, not HDF5.
    """
    from nwb_lint.nwb.storage.dandi import token_of

    web = Web(token_of(asset))
    try:
        stream = Stream(asset, web)
    except OSError as error:
        web.close()
        raise not_reached(asset.address, error) from error
    except NWBError:
        web.close()
        raise
    try:
        return _open(stream)
    except (OSError, RuntimeError) as error:
        sound = stream.looks_like_hdf5()
        stream.close()
        if not sound:
            raise NWBError(f"{asset} is not HDF5; an NWB file is needed. Check the address.") from error
        raise NWBError(f"{asset} cannot be opened as HDF5: {why(error)}. Try again, or check the file.") from error


def _open(stream: Stream) -> h5py.File:
    # low-level, since reads of small parts would otherwise be widened to HDF5's sieve of 64 KB
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_sieve_buf_size(512)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, stream)
    name = register(stream.address, stream)
    file = _StreamedFile(h5py.h5f.open(name.encode(), h5py.h5f.ACC_RDONLY, fapl=access))
    file.stream = stream
    return file
