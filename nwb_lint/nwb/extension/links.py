"""Links of an HDF5 file that a copy or pynwb cannot follow: out of the file, in a circle, twice to one object."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py

from nwb_lint.errors import NWBError

_DEEPEST = 60  # groups in groups: pynwb walks a file by calls within calls, and Python stops it after a few hundred
_LONGEST_PATH = 80  # characters of a path in a message
_MOST_PATHS = 100_000  # pynwb reads an object once for every path of hard links that leads to it


class _Open(NamedTuple):
    """A group on the way from the root to where the walk is."""

    group: Any
    names: Any


class _Walk:
    """A walk over all groups of a file, which visits each group once; it raises NWBError at a link that is refused."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self.way: list[_Open] = []
        self.n_paths: dict[Any, int] = {}  # of a group that is done: paths to it and to all below
        self.names: dict[tuple, str] = {}  # of an object that has several hard links: the first

    def run(self, root: Any) -> None:
        self._enter(root)
        while self.way:
            group, names = self.way[-1]
            name = next(names, None)
            if name is None:
                self._leave()
                continue
            self._follow(group, name)

    def _enter(self, group: Any) -> None:
        if len(self.way) > _DEEPEST:
            raise self._refusal(f"{_short(group.name)} is more than {_DEEPEST} groups deep", "Move it up")
        self.way.append(_Open(group, iter(list(group))))
        self.n_paths[group] = 1

    def _leave(self) -> None:
        group = self.way.pop().group
        if self.way:
            self.n_paths[self.way[-1].group] += self.n_paths[group]
        if self.n_paths[group] > _MOST_PATHS:
            raise self._refusal(
                f"hard links make {self.n_paths[group]:.2g} paths to what {_short(group.name)} holds",
                "Remove such links",
            )

    def _follow(self, group: Any, name: str) -> None:
        at = f"{group.name.rstrip('/')}/{name}"
        try:
            link = group.get(name, getlink=True)
        except UnicodeDecodeError:
            raise self._refusal(f"{_short(at)} has a name that is no text", "Rename it") from None
        if isinstance(link, h5py.ExternalLink):
            raise NWBError(
                f"{self.path} has an external link ({at} to {link.filename}). {self.what} needs all data in one file. "
                "Copy the linked data into the file first."
            )
        item = group[name] if _leads_to_group(group, name) else None
        kind = "hard link" if isinstance(link, h5py.HardLink) else "soft link"
        circle = next((step.group for step in self.way if item is not None and item == step.group), None)
        if circle is not None:
            raise self._refusal(
                f"the {kind} {_short(at)} leads back to {_short(circle.name)}, so that its groups form a circle",
                f"Remove the link: del file[{at!r}]",
            )
        if kind == "hard link":
            self._refuse_second_name(group, name, at)
        if item is None:
            return
        if item not in self.n_paths:
            self._enter(item)
        elif kind == "hard link":
            self.n_paths[group] += self.n_paths[item]

    def _refuse_second_name(self, group: Any, name: str, at: str) -> None:
        info = h5py.h5o.get_info(group.id, name.encode("utf-8", "surrogateescape"))
        if info.rc < 2:
            return
        first = self.names.setdefault((info.fileno, info.addr), at)
        if first.rpartition("/")[2] != name:
            raise self._refusal(
                f"{_short(first)} and {_short(at)} are one object under two names (hard links)",
                "Make one of them a copy of the other",
            )

    def _refusal(self, found: str, remedy: str) -> NWBError:
        return NWBError(f"{self.path}: {found}. pynwb cannot read such a file. {remedy} in a copy of the file.")


def _leads_to_group(group: Any, name: str) -> bool:
    try:
        return group.get(name, getclass=True) is h5py.Group
    except (KeyError, OSError, RuntimeError):  # a soft link to nothing, or to itself
        return False


def _short(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def check_links(path: Path, what: str) -> None:
    """Check that all links of an HDF5 file can be followed, within the file.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What needs all data in one file, for the message: "A copy", "An archive".

    Raises
    ------
    NWBError
        If a link leads out of the file; if groups form a circle by hard links or soft links, or lie too deep for
        pynwb; if one object has two names.
    """
    with h5py.File(path, "r") as file:
        _Walk(path, what).run(file["/"])
