"""HDF5 files in which nothing that is named reads as absent, and nothing that is missing reads as 0.

HDF5 gives fill values for a virtual dataset whose source is missing and for raw files that end early, and h5py gives
None for a link that leads nowhere. The classes here derive from h5py's. What a file names but does not hold is an
`NWBError` with the path, the link and the file in it. What lies in other files is read only with ``external=True``.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nwb_lint.errors import NWBError, one_line

_MAX_LINKS = 16  # in a row; more of them are a circle, as for HDF5
_ASK = "Pass external=True to read other files, where you trust the file"
_MOST_SOURCES = 100_000  # files of a virtual dataset that are looked for
_HEAP = b"GCOL"  # signature of a heap, where HDF5 keeps texts of any length
_MOST_CHECKED_BYTES = 64 * 2**20  # of a file whose heaps are looked for: 30 ms

# Filters that need a plugin, by the number under which The HDF Group lists them.
FILTERS = {
    307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32017: "sz",
    32018: "fcidecomp", 32024: "sz3", 32026: "blosc2", 32028: "sperr",
}  # fmt: skip


def refuse_endless_heap(content: Any, start: int, name: object) -> None:
    """Raise NWBError where HDF5 would read a heap for ever: a part of it has a length of 0, as zeroed bytes have.

    Parameters
    ----------
    content : bytes, memoryview or mmap.mmap
        Bytes of a file, or a part of them.
    start : int
        Where in them the signature of the heap is.
    name : object
        The file, for messages.
    """
    head = bytes(content[start : start + 16])
    end = min(start + int.from_bytes(head[8:16], "little"), len(content))
    if head[4:8] != b"\x01\0\0\0" or end - start < 4096:  # not a heap: all have this version and this size
        return
    at = start + 16
    while at + 16 <= end:
        part = bytes(content[at : at + 16])
        number, length = int.from_bytes(part[:2], "little"), int.from_bytes(part[8:], "little")
        step = length if number == 0 else 16 + -(-length // 8) * 8  # part 0 is the free space with its own head
        if step == 0:
            raise NWBError(f"{name} is damaged at byte {at}: a part of a heap has no length. Get the file again.")
        at += step


def _check_heaps(path: Path) -> None:
    """`refuse_endless_heap` for all heaps of a file, unless it is large or cannot be read."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        if not 0 < os.fstat(file.fileno()).st_size <= _MOST_CHECKED_BYTES:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(_HEAP)
            while at >= 0:
                refuse_endless_heap(content, at, path)
                at = content.find(_HEAP, at + 1)


class _Absent(KeyError):
    """No member has this name."""


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


class CheckedAttributes(h5py.AttributeManager):
    """Attributes that are found, absent, or an NWBError."""

    def __init__(self, item: Any, owner: CheckedFile) -> None:
        super().__init__(item)
        self._owner, self._of = owner, item.name

    def __getitem__(self, name: str) -> Any:
        """The value of an attribute; KeyError where there is none."""
        try:
            return super().__getitem__(name)
        except KeyError:
            raise
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            if self._owner.remote and isinstance(error, OSError):
                raise  # of the connection
            raise NWBError(
                f"Attribute {name} of {self._of} of {self._owner.filename} cannot be read ({one_line(error)}). Write "
                "it as text or numbers."
            ) from error


class CheckedGroup(h5py.Group):
    """A group whose members are found, absent, or an NWBError.

    ``group[name]`` raises KeyError and ``group.get(name)`` gives its default only where nothing has that name.
    """

    _owner: CheckedFile

    def __init__(self, oid: Any, owner: CheckedFile) -> None:
        h5py.Group.__init__(self, oid)
        self._owner = owner

    @property
    def file(self) -> CheckedFile:
        """The open file that holds the group."""
        return self._owner

    @property
    def attrs(self) -> CheckedAttributes:
        """The attributes of the group."""
        return CheckedAttributes(self["/"] if isinstance(self, h5py.File) else self, self._owner)

    def __getitem__(self, name: Any) -> Any:
        """The member at a path, or what a reference points at."""
        if isinstance(name, h5py.h5r.Reference):
            return self._referred(name)
        return self._walk(_decoded(name) if isinstance(name, bytes) else name, _MAX_LINKS)

    def get(self, name: Any, default: Any = None, getclass: bool = False, getlink: bool = False, **how: Any) -> Any:
        """As `h5py.Group.get`; NWBError for a member that cannot be opened."""
        if getclass or getlink:
            return super().get(name, default, getclass, getlink, **how)
        try:
            return self[name]
        except _Absent:
            return default

    def _walk(self, path: str, links: int) -> Any:
        """The object at a path from here, with at most so many links on the way."""
        item: Any = self._owner if path.startswith("/") else self
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts:
            return self._owner.wrapped(h5py.h5o.open(item.id, b"."))
        for part in parts:
            if not isinstance(item, CheckedGroup):
                raise _Absent(f"{path} is not in {self.name}")
            item = item._step(part, links)
        return item

    def _step(self, name: str, links: int) -> Any:
        """One member of this group; its links are followed."""
        code = name.encode("utf-8", "surrogateescape")
        if b"\0" in code:
            raise _Absent(f"{name!r} is not in {self.name}")
        try:
            kind = self.id.links.get_info(code).type
        except (KeyError, RuntimeError, OSError, ValueError) as error:
            if self._lacks(code):
                raise _Absent(f"{name} is not in {self.name}") from None
            raise self._unreadable(name, error) from error
        if kind == h5py.h5l.TYPE_HARD:
            try:
                return self._owner.wrapped(h5py.h5o.open(self.id, code))
            except (KeyError, RuntimeError, OSError, ValueError, TypeError) as error:
                raise self._unreadable(name, error) from error
        if not links:
            raise NWBError(f"{self._named(name)} is a link that leads in a circle. Replace the link by its target.")
        if kind == h5py.h5l.TYPE_SOFT:
            return self._soft(name, _decoded(self.id.links.get_val(code)), links - 1)
        if kind == h5py.h5l.TYPE_EXTERNAL:
            file_name, target = self.id.links.get_val(code)
            return self._external(name, os.fsdecode(file_name), _decoded(target), links - 1)
        raise NWBError(f"{self._named(name)} is a link of a kind that HDF5 does not know. Replace it by its target.")

    def _lacks(self, code: bytes) -> bool:
        """Whether there is no link of this name; False where that cannot be known."""
        try:
            return not self.id.links.exists(code)
        except (KeyError, RuntimeError, OSError, ValueError):
            return False

    def _soft(self, name: str, target: str, links: int) -> Any:
        try:
            return self._walk(target, links)
        except _Absent:
            raise NWBError(
                f"{self._named(name)} is a link to {target}, which is not in the file. What a file names needs to be "
                "readable. Restore it, or delete the link."
            ) from None
        except NWBError as error:
            if links < _MAX_LINKS - 1:  # the first of several links adds its name
                raise
            raise NWBError(f"{self._named(name)} is a link to {target}. {error}") from error

    def _external(self, name: str, file_name: str, target: str, links: int) -> Any:
        link = f"{self._named(name)} is an external link to {target} of {file_name}"
        other = self._owner.other_file(file_name, link)
        try:
            return other._walk(target, links)
        except _Absent:
            raise NWBError(f"{link}, and that file has no {target}. Restore it, or delete the link.") from None

    def _referred(self, reference: Any) -> Any:
        try:
            oid = h5py.h5r.dereference(reference, self.id)
            if oid is None:
                raise ValueError("it is empty")
        except (KeyError, RuntimeError, OSError, ValueError, TypeError) as error:
            if self._owner.remote and isinstance(error, OSError):
                raise  # of the connection
            raise NWBError(
                f"A reference in {self._owner.filename} leads nowhere ({one_line(error)}). The file is damaged. Get it "
                "again."
            ) from error
        return self._owner.wrapped(oid)

    def _named(self, name: str) -> str:
        return f"{(self.name or '').rstrip('/')}/{name} of {self._owner.filename}"

    def _unreadable(self, name: str, error: Exception) -> Exception:
        """The error for a member that HDF5 cannot open; of a remote file, what the connection says."""
        if self._owner.remote and isinstance(error, OSError):
            return error
        return NWBError(f"{self._named(name)} cannot be opened ({one_line(error)}). It is damaged. Get the file again.")


class CheckedDataset(h5py.Dataset):
    """A dataset that is read only if all its values are there: in this file, or in files that may be read."""

    def __init__(self, oid: Any, owner: CheckedFile) -> None:
        h5py.Dataset.__init__(self, oid, readonly=True)
        self._owner, self._all_there = owner, False

    @property
    def file(self) -> CheckedFile:
        """The open file that holds the dataset."""
        return self._owner

    @property
    def attrs(self) -> CheckedAttributes:
        """The attributes of the dataset."""
        return CheckedAttributes(self, self._owner)

    @property
    def dtype(self) -> np.dtype:
        """As `h5py.Dataset.dtype`; NWBError for a type that numpy does not have."""
        try:
            return super().dtype
        except (TypeError, ValueError) as error:
            raise NWBError(
                f"{self.name} of {self._owner.filename} is of a type that cannot be read ({one_line(error)}). Write "
                "as numbers or text."
            ) from error

    def __getitem__(self, args: Any, new_dtype: Any = None) -> Any:
        """As `h5py.Dataset`; NWBError where values are missing."""
        self.check_stored()
        return super().__getitem__(args, new_dtype)

    def read_direct(self, dest: Any, source_sel: Any = None, dest_sel: Any = None) -> None:
        """As `h5py.Dataset.read_direct`; NWBError where values are missing."""
        self.check_stored()
        super().read_direct(dest, source_sel, dest_sel)

    def check_stored(self) -> None:
        """Check that all values can be read: where they are, and by which filters they went.

        Raises
        ------
        NWBError
            If they are in another file that may not be read, is missing or ends early, or if a filter is missing.
        """
        if self._all_there:
            return
        plist = self.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            _Virtual(self, plist).check()
        elif plist.get_external_count():
            self._check_raw_files(plist)
        if plist.get_nfilters():
            self._check_filters(plist)
        self._all_there = True

    def where(self) -> str:
        """Path and file, for messages."""
        return f"{self.name} of {self._owner.filename}"

    def _check_filters(self, plist: Any) -> None:
        for k in range(plist.get_nfilters()):
            number, _, _, title = plist.get_filter(k)
            if h5py.h5z.filter_avail(number):
                continue
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401 (it registers its filters)
            if h5py.h5z.filter_avail(number):
                continue
            known = FILTERS.get(number, "")
            name = known or one_line(title.decode("utf-8", "replace")) or "of unknown name"
            advice = "pip install 'nwb_lint[hdf5plugin]'" if known else "Install the HDF5 plugin of that filter"
            raise NWBError(
                f"{self.where()} went through the HDF5 filter {name} ({number}), which is missing. {advice}."
            )

    def _check_raw_files(self, plist: Any) -> None:
        """External raw storage: the files may be read, are there, and hold all bytes."""
        needed = self.nbytes
        listed = [plist.get_external(k) for k in range(plist.get_external_count())]
        names = [os.fsdecode(name) for name, _, _ in listed]
        what = f"{self.where()} has its values in another file by HDF5 external storage: {', '.join(names[:4])}"
        if self._owner.remote or not self._owner.external:
            raise NWBError(f"{what}. {self._owner.why_not_others()}.")
        prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace("${ORIGIN}", str(self._owner.folder))
        for name, (_, offset, size) in zip(names, listed, strict=True):
            path, part = Path(os.path.abspath(prefix)) / name, min(size, needed)
            if not path.is_file():
                raise NWBError(f"{what}. There is no file {path}. Put it there: HDF5 takes it from the working folder.")
            if path.stat().st_size < offset + part:
                raise NWBError(
                    f"{what}. {path} has {path.stat().st_size} bytes; {offset + part} are needed. Get it again."
                )
            needed -= part


class _Virtual:
    """The sources of a virtual dataset, and a check that they hold all its values."""

    def __init__(self, dataset: CheckedDataset, plist: Any) -> None:
        self.dataset, self.plist, self.owner = dataset, plist, dataset.file

    def check(self) -> None:
        """Raise NWBError if a source is missing, too small, or may not be read, or if values have no source."""
        covered = 0
        for k in range(self.plist.get_virtual_count()):
            space = self.plist.get_virtual_vspace(k)
            names = self.plist.get_virtual_filename(k), self.plist.get_virtual_dsetname(k)
            blocks = _unlimited_blocks(space, self.dataset.shape)
            if blocks is None:
                covered += space.get_select_npoints()
                self._check_source(*names, self.plist.get_virtual_srcspace(k), space.get_select_npoints())
                continue
            covered = self.dataset.size
            if "%b" not in "".join(names):
                self._check_source(*names)
                continue
            for block in range(min(max(blocks, 1), _MOST_SOURCES)):
                self._check_source(_of_block(names[0], block), _of_block(names[1], block))
        if covered < self.dataset.size:
            raise NWBError(
                f"{self.dataset.where()} is a virtual dataset of {self.dataset.size} values. {covered} of them have a "
                "source. All are needed. Write the values themselves."
            )

    def _check_source(self, file_name: str, path: str, space: Any = None, n: int = 0) -> None:
        what = f"{self.dataset.where()} is a virtual dataset with values from {path} of {file_name}"
        if self.owner.depth > _MAX_LINKS:
            raise NWBError(f"{what}, and so on in a circle. Write the values themselves.")
        source = self._open(file_name, what).get(path)
        if not isinstance(source, CheckedDataset):
            raise NWBError(f"{what}, and that file has no such dataset. HDF5 would give fill values. Restore it.")
        if not _holds(source.shape or (), space, n):
            raise NWBError(
                f"{what}. That source has shape {source.shape}, and more is taken from it. HDF5 would give fill "
                "values. Restore it."
            )
        source.check_stored()

    def _open(self, file_name: str, what: str) -> CheckedFile:
        if file_name == ".":
            file_name = self.owner.filename
        return self.owner.other_file(file_name, what, beside=True)


def _unlimited_blocks(space: Any, shape: tuple[int, ...]) -> int | None:
    """How many blocks of an unlimited selection fit into a shape; None for a limited one."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    starts, strides, counts, blocks = space.get_regular_hyperslab()
    for start, stride, count, block, size in zip(starts, strides, counts, blocks, shape, strict=True):
        if h5py.h5s.UNLIMITED in (count, block):
            return 1 if block == h5py.h5s.UNLIMITED else max(-(-(size - start) // max(stride, 1)), 0)
    return None


def _holds(shape: tuple[int, ...], space: Any, n: int) -> bool:
    """Whether a source of this shape has the ``n`` values that a selection takes from it."""
    if space is None or not n:
        return True
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return int(np.prod(shape)) >= n
    ends = space.get_select_bounds()[1]
    return len(ends) == len(shape) and all(end < size for end, size in zip(ends, shape, strict=True))


def _of_block(name: str, block: int) -> str:
    """The name of one source, as HDF5 makes it from a pattern: %b is the number of the block, %% a percent sign."""
    return "%".join(part.replace("%b", str(block)) for part in name.split("%%"))


class CheckedFile(CheckedGroup, h5py.File):
    """An HDF5 file for reading; its members are `CheckedGroup` and `CheckedDataset`.

    Parameters
    ----------
    name : path or h5py.h5f.FileID
        As for `h5py.File`.
    external : bool, default=False
        Whether external links, external raw storage and virtual datasets may lead to any other file.
    remote : bool, default=False
        Whether the file is on another machine, so that no other file can be read.
    """

    def __init__(self, name: Any, *, external: bool = False, remote: bool = False) -> None:
        if not remote and isinstance(name, str | os.PathLike):
            _check_heaps(Path(name))
        h5py.File.__init__(self, name, "r")
        self._owner, self.external, self.remote, self.depth = self, external, remote, 0
        self.folder = Path() if remote else Path(os.path.realpath(self.filename)).parent
        self._others: dict[str, CheckedFile] = {}

    def wrapped(self, oid: Any) -> Any:
        """The object of a low-level id, as a member of this file."""
        kind = h5py.h5i.get_type(oid)
        makers: dict[int, Callable] = {h5py.h5i.GROUP: CheckedGroup, h5py.h5i.DATASET: CheckedDataset}
        return makers[kind](oid, self) if kind in makers else h5py.Datatype(oid)

    def why_not_others(self) -> str:
        """Why other files are not read, and what to do."""
        if self.remote:
            return "This file is read from a server, where other files cannot be found. Copy all of them here"
        return _ASK

    def other_file(self, name: str, what: str, *, beside: bool = False) -> CheckedFile:
        """Another file that this one names.

        Parameters
        ----------
        name : str
            Its path; a relative one is that from the folder of this file.
        what : str
            What leads there, for messages.
        beside : bool, default=False
            Whether a file in the folder of this one may be read in any case.

        Raises
        ------
        NWBError
            If it may not be read, is missing, or is not HDF5.
        """
        places = [self.folder / name, self.folder / Path(name).name]  # HDF5 looks for lost absolute paths here too
        path = next((place for place in places if place.is_file()), None) if not self.remote else None
        inside = path is not None and Path(os.path.realpath(path)).is_relative_to(self.folder)
        if self.remote or (path and not self.external and not (beside and inside)):
            raise NWBError(f"{what}. {self.why_not_others()}.")
        if path is None:
            ask = "" if self.external or beside else f" {_ASK}."
            raise NWBError(f"{what}, and that file is missing. Put it into the folder {self.folder}.{ask}")
        key = os.path.realpath(path)
        if key not in self._others:
            try:
                self._others[key] = CheckedFile(path, external=self.external)
            except (OSError, RuntimeError) as error:
                raise NWBError(f"{what}, which cannot be opened ({one_line(error)}). Get it again.") from error
        self._others[key].depth = self.depth + 1
        return self._others[key]

    def close(self) -> None:
        """As `h5py.File.close`, with the other files that were opened."""
        for other in self._others.values():
            other.close()
        self._others.clear()
        h5py.File.close(self)
