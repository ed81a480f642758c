"""What a file says about the computer and the accounts of who made it, and a file without it, to be shared.

Texts that are found: absolute paths of a computer, also with a user's name; passwords and signatures in addresses;
addresses that only one network knows. A path is replaced by what identifies its file for others: its address in an
archive, or else its name, with the SHA-256 that the fit has of it. Everything else in the file stays.
"""

from __future__ import annotations

import getpass
import mmap
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h5py
import numpy as np
import xarray as xr

from nwb_lint.errors import NWBError, one_line
from nwb_lint.nwb.extension.codec import Stored, decode, encode
from nwb_lint.nwb.extension.container import read_group
from nwb_lint.nwb.extension.read import find_entries
from nwb_lint.nwb.storage.asset import Place, without_secrets
from nwb_lint.nwb.storage.dandi import is_address, parse_address
from nwb_lint.nwb.storage.h5 import as_text, holds_text

_IN_NWB = re.compile(
    r"/(?:acquisition|analysis|events|general|intervals|processing|specifications|stimulus|units)(?:/|$)"
)
_STOP = r"\s\"'`<>,;:()\[\]"
_START = r"(?:[\w.-]+@[\w.-]+:)?(?:(?:[\\/]{2,}\?[\\/]+)?[A-Za-z]:[\\/]|[\\/]{2,}[\w.]|/|~[\w.-]*/)"
_REST = rf"(?:[^{_STOP}]|[ ,;()\[\]](?=[^\s\"'`<>:\\/]+[\\/]))*"  # a blank is in a path where a folder follows it
_URL = r"(?P<url>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>]+)"
_IDENTIFIER = rf"(?P<identifier>\b[A-Za-z-]{{0,30}}dandi[A-Za-z-]{{0,30}}:\d{{6}}\b[^{_STOP}]*)"
_QUOTED = rf"(?P<quote>[\"'`])(?P<quoted>{_START}[^\n]*?)(?P=quote)"
_BARE = rf"(?P<bare>(?<![\w/.\\*-])(?!(?<=:)//){_START}{_REST})"
_HOME = rf"(?P<home>(?<![\w.~\\/-])[\w.~\\/-]*[\\/](?:home|Users)[\\/]{_REST})"
_SCHEMES = frozenset(["http", "https", "ftp", "s3", "gs", "dandi", "doi"])  # those that others can read
_SHORTEST_USER = 3  # letters: a shorter name is part of too many words
_SHORTEST_PIECE = 8  # bytes: a shorter one may be among numbers by chance


class FitSource(NamedTuple):
    """A file that a fit names: its name there, its place in an archive, its digest, its subject."""

    name: str
    place: Place
    digest: str
    subject: str


def sources_of(fit: xr.Dataset) -> list[FitSource]:
    """The files that a fit was computed from.

    Parameters
    ----------
    fit : xarray.Dataset
        From `read_fit`.

    Returns
    -------
    list of FitSource
    """

    def texts(name: str) -> list[str]:
        values = fit[name].values.ravel() if name in fit.variables else [""] * fit.sizes.get("file", 0)
        return [str(value) for value in values]

    keys = ("file", "dandiset", "version", "asset_path", "asset_id", "digest", "subject_id")
    columns = [texts("file" if key == "file" else f"file_{key}") for key in keys]
    found = []
    for name, dandiset, version, path, asset_id, digest, subject in zip(*columns, strict=True):
        instance, _, number = dandiset.rpartition("/")
        place = Place(instance, number, version, path, asset_id)
        if place == Place() and is_address(name):
            place = parse_address(name)
        found.append(FitSource(name, place, digest, subject))
    return found


class Cleaner:
    """Replaces what is private in texts, and keeps what it has replaced.

    Parameters
    ----------
    sources : list of FitSource
        The files that the fits name.

    Attributes
    ----------
    replaced : dict of str to str
        What was replaced, and by what.
    places : dict of Place to None
        What the texts name in archives.
    """

    def __init__(self, sources: list[FitSource]) -> None:
        self.replaced: dict[str, str] = {}
        self.places: dict[Place, None] = {}
        local = {one.name: one for one in sources if one.name and "://" not in one.name}
        counts = Counter(map(_file_name, local))
        self._names = {}
        for k, (name, source) in enumerate(local.items()):
            short = _file_name(name)
            if counts[short] > 1:
                short = f"{source.digest[:12] or k}/{short}"
            if re.match(_START, name):
                self._names[name] = source.place.address or short
        folders = {name.rstrip("\\/")[: -len(_file_name(name))] for name in self._names}
        self._user = _user()
        self._private = re.compile(
            "|".join(
                [
                    _URL,
                    rf"(?P<name>{_any_of(self._names)})",
                    rf"(?P<folder>{_any_of(folders)}{_REST})",
                    _IDENTIFIER,
                    _QUOTED,
                    _BARE,
                    _HOME,
                    rf"(?P<user>(?<![\w:/.\\-])(?:[\w.~-]+[\\/])*{_any_of(filter(None, [self._user]))}[\\/]{_REST})",
                ]
            )
        )

    def __call__(self, text: str) -> str:
        """The text without what is private."""
        return self._private.sub(self._without, text) if any(mark in text for mark in "/\\:") else text

    def _without(self, match: re.Match[str]) -> str:
        kind = str(match.lastgroup)
        new = old = match[kind]
        if kind in ("url", "identifier"):
            self._note_place(old.rstrip(".,;:)]}"))
        if kind == "url":
            new = _public(old)
        elif kind not in ("identifier", "bare", "quoted") or _is_local(old):
            new = self._names.get(old) or self._last(old)
        if new != old:
            self.replaced[old] = new
        return f"{match['quote']}{new}{match['quote']}" if kind == "quoted" else new

    def _note_place(self, address: str) -> None:
        if is_address(address):
            with suppress(NWBError):  # it is like an address, and names nothing
                self.places[parse_address(address)] = None

    def _last(self, path: str) -> str:
        """The last part of a path; of a home folder, whose last part is the name of a user, a ~."""
        *above, last = re.split(r"[\\/]+", path.rstrip("\\/"))
        return "~" if last == self._user or above[-1:] in (["home"], ["Users"], ["users"]) else last

    def notes(self) -> list[str]:
        """A sentence for each thing that was replaced, without secrets."""
        return [
            f"{without_secrets(old)} is not sent. The copy that is sent says {new or 'nothing'} in its place."
            for old, new in self.replaced.items()
        ]


def _file_name(path: str) -> str:
    return re.split(r"[\\/]+", path.rstrip("\\/"))[-1]


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for any of some texts, the longest first; of no text, one that nothing matches."""
    return f"(?:{'|'.join(map(re.escape, sorted(texts, key=len, reverse=True))) or '(?!)'})"


def _is_local(path: str) -> bool:
    """Whether a path is one of a computer, and not one inside of an NWB file. A single name after / says nothing."""
    return not _IN_NWB.match(path) and (not path.startswith("/") or path.rstrip("/").count("/") > 1)


def _public(address: str) -> str:
    """An address without secrets; the name of the file alone where the address has a meaning in one network only."""
    parts = urlsplit(without_secrets(address))
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES or (scheme in ("http", "https", "ftp") and _is_inside(parts.hostname)):
        return _file_name(parts.path)
    return without_secrets(address)


def _is_inside(host: str | None) -> bool:
    try:
        return not ip_address(host or "").is_global
    except ValueError:
        return "." not in (host or "") or str(host).endswith((".local", ".internal", ".lan"))


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return name if len(name) >= _SHORTEST_USER and name != "root" else ""


def search(path: Path, clean: Cleaner) -> None:
    """Look through all texts of a file; the cleaner then knows what has to be replaced.

    Parameters
    ----------
    path : Path
        An HDF5 file.
    clean : Cleaner
    """
    with h5py.File(path, "r") as file:
        for item, attribute in _texts(file):
            for text in _values(item, attribute):
                clean(text)


def clean_copy(source: Path, copy: Path, clean: Cleaner) -> None:
    """Replace what is private in a copy of a file, so that no byte of it stays. The digests of fits are computed again.

    The private texts are first written over: HDF5 frees the place of a text that is replaced, and does not empty it.

    Parameters
    ----------
    source, copy : Path
        The file, and a copy of it, which is changed.
    clean : Cleaner
        After `search` of the file.

    Raises
    ------
    NWBError
        If a fit in it was written by an earlier version.
    """
    _erase(copy, [old.encode() for old in clean.replaced])
    try:
        with h5py.File(source, "r") as old, h5py.File(copy, "r+") as new:
            for item, attribute in _texts(old):
                _replace(item, new[item.name], attribute, clean)
            for entry in find_entries(old):
                _clean_entry(old[entry.path], new[entry.path], clean)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        raise NWBError(
            f"{source} names files of this computer, and they cannot be replaced ({one_line(error)}). Write the fit "
            "again: write_fit(read_fit(…), …)."
        ) from error


def _clean_entry(old: h5py.Group, new: h5py.Group, clean: Callable[[str], str]) -> None:
    """Replace texts of a fit or a result, and renew what depends on them: its digest, and the widths of texts."""
    before = read_group(old)
    dataset = decode(before)
    after = encode(_clean_dataset(dataset, clean))
    if not dataset.encoding.get("verified") or after.arrays.keys() != before.arrays.keys():
        raise ValueError("an earlier version has written the fit")
    found = read_group(new)
    for path, values in after.arrays.items():
        if values.dtype.kind == "O" and values.tolist() != found.arrays[path].tolist():
            new[path][...] = values
    for key, value in after.attributes.items():
        if value != found.attributes[key]:
            new.attrs[key] = value
    _write_settings(new, found, after)


def _write_settings(group: h5py.Group, found: Stored, after: Stored) -> None:
    held = group["attributes"]
    places = {(one.attrs["key"], one.attrs.get("variable", "")): name for name, one in held.items()}
    known = {(one.key, one.variable or ""): np.asarray(one.data).tolist() for one in found.settings}
    for setting in after.settings:
        key = (setting.key, setting.variable or "")
        if np.asarray(setting.data).tolist() != known[key]:
            held[places[key]][...] = setting.data


def _clean_dataset(dataset: xr.Dataset, clean: Callable[[str], str]) -> xr.Dataset:
    variables = {}
    for name, variable in dataset.variables.items():
        values = variable.values
        if values.dtype.kind in "UOT":
            new = np.array([clean(str(value)) for value in values.ravel()], object).reshape(values.shape)
            values = new if values.dtype.kind == "O" else new.astype(str if values.dtype.kind == "U" else values.dtype)
        attrs = {key: _clean_value(value, clean) for key, value in variable.attrs.items()}
        variables[name] = xr.Variable(variable.dims, values, attrs)
    attrs = {key: _clean_value(value, clean) for key, value in dataset.attrs.items()}
    return xr.Dataset(variables, attrs=attrs).set_coords(list(dataset.coords))


def _clean_value(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return type(value)(_clean_value(one, clean) for one in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return np.array([clean(str(one)) for one in value.ravel()]).reshape(value.shape)
    return value


def _texts(file: h5py.File) -> Iterator[tuple[Any, str | None]]:
    """Every dataset of texts (with None) and every attribute with texts (with its name), except for the schemas."""
    items: list[Any] = [file]
    file.visititems(lambda name, item: None if name.startswith("specifications") else items.append(item))
    for item in items:
        yield from ((item, name) for name, value in item.attrs.items() if np.asarray(value).dtype.kind in "USO")
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "SO" and holds_text(item):
            yield item, None


def _values(item: Any, attribute: str | None) -> list[str]:
    value = item.attrs[attribute] if attribute is not None else item[()]
    return [as_text(one) for one in np.asarray(value, object).ravel() if isinstance(one, str | bytes)]


def _replace(old: Any, new: Any, attribute: str | None, clean: Callable[[str], str]) -> None:
    after = [clean(text) for text in _values(old, attribute)]
    if after == _values(new, attribute):
        return
    shape = np.shape(old.attrs[attribute]) if attribute is not None else old.shape
    values: Any = np.array(after, object).reshape(shape) if shape else after[0]
    if attribute is not None:
        new.attrs.modify(attribute, values)
    else:
        new[...] = values


def _erase(path: Path, pieces: list[bytes]) -> None:
    """Write over some texts in the bytes of a file."""
    with open(path, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        for piece in sorted((one for one in pieces if len(one) >= _SHORTEST_PIECE), key=len, reverse=True):
            at = content.find(piece)
            while at >= 0:
                content[at : at + len(piece)] = b"x" * len(piece)
                at = content.find(piece, at)
        content.flush()
