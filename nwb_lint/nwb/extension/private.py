"""What a file says about the computer and the accounts of who made it, and a file without it, to be shared.

Texts that are found: absolute paths of a computer, also with a user's name; passwords and signatures in addresses;
addresses that only one network knows. A path is replaced by what identifies its file for others: its address in an
archive, or else its name, with the SHA-256 that the fit has of it. Everything else in the file stays.
"""

from __future__ import annotations

import getpass
import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
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
from nwb_lint.nwb.storage.h5 import as_text, holds_text

_NWB_GROUPS = frozenset(
    ["acquisition", "analysis", "general", "intervals", "processing", "stimulus", "units", "specifications"]
)
_ROOTS = frozenset(
    [
        "Users",
        "Volumes",
        "afs",
        "autofs",
        "cluster",
        "export",
        "gpfs",
        "home",
        "lustre",
        "media",
        "mnt",
        "net",
        "nfs",
        "private",
        "proj",
        "project",
        "projects",
        "root",
        "scratch",
        "share",
        "srv",
        "staging",
        "storage",
        "tmp",
        "users",
        "var",
        "work",
    ]
)
_STOP = r"\s\"'<>,;:()\[\]"
_START = r"(?:/|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)"
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_QUOTED = re.compile(rf"([\"'])({_START}[^\"'\n]*)\1")
_BARE = re.compile(rf"(?<![\w:/.\\*-]){_START}[^{_STOP}]*")
_FIRST = re.compile(r"/([^/\\]+)")
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
    from nwb_lint.nwb.storage.dandi import is_address, parse_address

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
    """

    def __init__(self, sources: list[FitSource]) -> None:
        self.replaced: dict[str, str] = {}
        local = {one.name: one for one in sources if one.name and "://" not in one.name}
        counts = Counter(map(_file_name, local))
        self._names = {}
        for name, source in local.items():
            short = _file_name(name) if counts[_file_name(name)] == 1 else f"{source.digest[:12]}/{_file_name(name)}"
            if _is_local(name):
                self._names[name] = source.place.address or short
        user = _user()
        self._of_user = (
            re.compile(rf"(?<![\w:/.\\-])(?:[\w.~-]+[\\/])*{re.escape(user)}[\\/][^{_STOP}]*") if user else None
        )

    def __call__(self, text: str) -> str:
        """The text without what is private."""
        if not any(mark in text for mark in "/\\"):
            return text
        for name in sorted(self._names, key=len, reverse=True):
            if name in text:
                text = text.replace(name, self._keep(name, self._names[name]))
        text = _URL.sub(lambda match: self._keep(match[0], _public(match[0])), text)
        text = _QUOTED.sub(lambda match: f"{match[1]}{self._path(match[2])}{match[1]}", text)
        text = _BARE.sub(lambda match: self._path(match[0]), text)
        return (
            self._of_user.sub(lambda match: self._keep(match[0], _file_name(match[0])), text) if self._of_user else text
        )

    def _path(self, path: str) -> str:
        return self._keep(path, _file_name(path)) if _is_local(path) else path

    def _keep(self, old: str, new: str) -> str:
        if new != old:
            self.replaced[old] = new
        return new

    def notes(self) -> list[str]:
        """A sentence for each thing that was replaced, without secrets."""
        return [
            f"{without_secrets(old)} is not sent. The copy that is sent says {new or 'nothing'} in its place."
            for old, new in self.replaced.items()
        ]


def _file_name(path: str) -> str:
    return re.split(r"[\\/]+", path.rstrip("\\/"))[-1]


def _is_local(path: str) -> bool:
    """Whether a path is an absolute one of a computer, and not one inside of an NWB file."""
    first = _FIRST.match(path)
    if first is None:
        return re.match(r"~[\w.-]*/|[A-Za-z]:[\\/]|\\\\+\w", path) is not None
    return first[1] not in _NWB_GROUPS and (first[1] in _ROOTS or os.path.isdir(f"/{first[1]}"))


def _public(address: str) -> str:
    """An address without secrets; the name of the file alone where the address has a meaning in one network only."""
    parts = urlsplit(without_secrets(address))
    if parts.scheme.lower() == "file" or (
        parts.scheme.lower() in ("http", "https", "ftp") and _is_inside(parts.hostname)
    ):
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
            for entry in find_entries(old):
                _clean_entry(old[entry.path], new[entry.path], clean)
            for item, attribute in _texts(old):
                _replace(item, new[item.name], attribute, clean)
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
    for path, values in after.arrays.items():
        if values.dtype.kind == "O" and values.tolist() != before.arrays[path].tolist():
            new[path][...] = values
    for key, value in after.attributes.items():
        if value != before.attributes[key]:
            new.attrs[key] = value
    _write_settings(new, before, after)


def _write_settings(group: h5py.Group, before: Stored, after: Stored) -> None:
    held = group["attributes"]
    places = {(one.attrs["key"], one.attrs.get("variable", "")): name for name, one in held.items()}
    known = {(one.key, one.variable or ""): np.asarray(one.data).tolist() for one in before.settings}
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
    before = _values(old, attribute)
    after = [clean(text) for text in before]
    if after == before:
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
