"""Read fits and results from NWB files: `read_fit`, `read_result`, and `read` for all at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import h5py
import xarray as xr

from nwb_lint.contract.results import RESULTS
from nwb_lint.errors import ContractError, NWBError, one_line
from nwb_lint.nwb.convert.targets import to_datatree
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.codec import Stored, decode
from nwb_lint.nwb.extension.container import read_group
from nwb_lint.nwb.extension.digest import KEY
from nwb_lint.nwb.storage.h5 import as_text, is_group, member_or_error, members
from nwb_lint.nwb.storage.source import Source, one_asset, open_nwb

_FIRST_WITH_DIGEST = (0, 6, 0)  # version of the extension
VERIFIED = "verified"  # the content has the digest that was written with it
NOT_VERIFIED = "not verified (older version)"  # there is no digest, as in files of earlier versions


class Entry(NamedTuple):
    """One fit or result in a file: its path there, and its neurodata type."""

    path: str
    type: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def read_fit(path: Source, name: str | None = None) -> xr.Dataset:
    """Read a fit from an NWB file.

    The Dataset is identical to the one in the file: values, dtypes, order of coordinates, and attributes with their
    types. A fit of an earlier version of the extension gets today's names of variables and attributes.

    Parameters
    ----------
    path : path or address
        An HDF5 file, a Zarr folder, or an address, as `open_nwb` takes it. Neither pynwb nor the extension is needed.
    name : str or None, default=None
        Name of the fit, ``"lowrank_fit"``, or its path in the file, ``"processing/ecephys/lowrank_fit"``. None takes
        the only fit in the file.

    Returns
    -------
    xarray.Dataset
        The fit, as `fit_lint` returns it: the network (``m``, ``n``, ``input_weights``, …), its inputs, its predicted
        activity and its scores.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file is not NWB, holds no fit, or holds several and ``name`` is none of them; if a newer version of the
        extension wrote it; if its arrays do not suit each other. The message names what the file holds.

    Examples
    --------
    >>> read_fit("fit.nwb").m.dims
    ('neuron', 'rank')
    """
    return read_fit_entry(path, name)[1]


def read_result(path: Source, name: str | None = None) -> xr.Dataset:
    """Read a result that lies beside a fit in an NWB file.

    The Dataset is identical to the one that `write_result` was given.

    Parameters
    ----------
    path : path or address
        An HDF5 file, a Zarr folder, or an address, as `open_nwb` takes it.
    name : str or None, default=None
        Name of the result, or its path in the file. A result that was written without a name has its kind as name,
        such as ``"axes"``. None takes the only result in the file.

    Returns
    -------
    xarray.Dataset
        The result. Its attribute ``kind`` names what it is.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        As for `read_fit`, for results.

    Examples
    --------
    >>> from nwb_lint import connectivity, write_result
    >>> path = write_result(connectivity(read_fit("fit.nwb")), "fit.nwb")
    >>> read_result(path).connectivity.dims
    ('neuron', 'neuron_from')
    """
    return _read(path, name, tuple(map(schema.type_of, RESULTS)), "result")[1]


def read_results(path: Source, name: str | None = None) -> dict[str, xr.Dataset]:
    """Read all results of one fit in a file.

    Parameters
    ----------
    path : path or address
        An NWB file with a fit.
    name : str or None, default=None
        Name of the fit. None works where the file has one fit.

    Returns
    -------
    dict of str to xarray.Dataset
        The results of `write_result` by name, in the order of the file. Empty where the fit has none.

    Raises
    ------
    NWBError
        If the file cannot be read, or has no such fit.

    Examples
    --------
    >>> from nwb_lint import connectivity, write_result
    >>> path = write_result(connectivity(read_fit("fit.nwb")), "fit.nwb", name="J")
    >>> "J" in read_results(path)
    True
    """
    asset = one_asset(path)
    types = tuple(map(schema.type_of, RESULTS))
    with reading_errors(asset), open_nwb(asset) as file:
        check_version(file, asset)
        fit = file[choose_entry(file, name, (schema.FIT_TYPE,), "fit", asset).path]
        entries = [one for one in find_entries(file) if one.type in types and file[one.path].get("network") == fit]
        return {one.name: _decoded(file, one, asset, "result") for one in entries}


def read(path: Source, name: str | None = None) -> xr.DataTree:
    """Read a fit with all of its results from an NWB file.

    Parameters
    ----------
    path : path or address
        An HDF5 file, a Zarr folder, or an address, as `open_nwb` takes it.
    name : str or None, default=None
        Name of the fit. None works where the file has one fit.

    Returns
    -------
    xarray.DataTree
        ``tree["fit"]`` is the Dataset of `read_fit`, and each other node a result of `read_results`.

    Raises
    ------
    NWBError
        If the file cannot be read, or has no such fit.
    ContractError
        If a result is called "fit". Use `read_fit` and `read_results`.

    Examples
    --------
    >>> from nwb_lint import connectivity, write_fit
    >>> fit = read_fit("fit.nwb")
    >>> subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    >>> path = write_fit(fit, "with_results.nwb", subject=subject, results={"my J": connectivity(fit)})
    >>> tree = read(path)
    >>> tree["fit"]["m"].dims, tree["my J"]["connectivity"].dims
    (('neuron', 'rank'), ('neuron', 'neuron_from'))
    """
    return to_datatree(read_fit(path, name), read_results(path, name))


def read_fit_entry(path: Source, name: str | None = None) -> tuple[Entry, xr.Dataset]:
    """Where a fit lies in its file, and the fit: see `read_fit`."""
    return _read(path, name, (schema.FIT_TYPE,), "fit")


def verified_fits(path: Source) -> dict[str, str]:
    """Whether the fits in a file are what was written.

    Parameters
    ----------
    path : path or address
        An NWB file.

    Returns
    -------
    dict of str to str
        By the path of each fit in the file: `VERIFIED`, `NOT_VERIFIED`, or why the fit cannot be read.
    """
    asset = one_asset(path)
    with reading_errors(asset), open_nwb(asset) as file:
        names = [entry.path for entry in find_entries(file) if entry.type == schema.FIT_TYPE]
    found = {}
    for name in names:
        try:
            found[name] = how_verified(read_fit(asset, name))
        except NWBError as error:
            found[name] = str(error)
    return found


def how_verified(fit: xr.Dataset) -> str:
    """`VERIFIED` or `NOT_VERIFIED`, for a fit that was read from a file."""
    return VERIFIED if fit.encoding.get("verified") else NOT_VERIFIED


def find_entries(file: h5py.File) -> list[Entry]:
    """The fits and results in an open file: in any processing module, or in the analysis group."""
    types = {schema.FIT_TYPE, *map(schema.type_of, RESULTS)}
    modules = file.get("processing")
    groups = [member_or_error(modules, name) for name in members(modules)] if is_group(modules) else []
    groups.append(member_or_error(file, "analysis"))
    found = []
    for group in filter(is_group, groups):
        for name in members(group):
            item = member_or_error(group, name)
            type_name = as_text(item.attrs.get("neurodata_type", "")) if is_group(item) else ""
            if type_name in types and as_text(item.attrs.get("namespace", schema.NAMESPACE)) == schema.NAMESPACE:
                found.append(Entry(f"{group.name.strip('/')}/{name}", type_name))
    return found


def choose_entry(file: h5py.File, name: str | None, types: tuple[str, ...], what: str, path: object) -> Entry:
    """The one fit or result (``what``) of these types that has the name; NWBError where it is not exactly one."""
    entries = [one for one in find_entries(file) if one.type in types]
    if not entries:
        modules = file.get("processing")
        held = [f"processing/{key}" for key in members(modules)] if is_group(modules) else []
        held += ["units"] if "units" in file else []
        type_names = types[0] if len(types) == 1 else "LowRank…"
        there = ", ".join(held or members(file)) or "nothing"
        raise NWBError(f"{path} holds no {what} ({type_names}). It holds {there}. Pass a file that write_{what} wrote.")
    chosen = [one for one in entries if name is None or name in (one.path, one.name)]
    if len(chosen) == 1:
        return chosen[0]
    unique = len({one.name for one in entries}) == len(entries)
    listed = ", ".join(one.name if unique else one.path for one in entries)
    found = f"no {what} named {name!r}" if name is not None and not chosen else f"{len(chosen)} {what}s"
    raise NWBError(f"{path} holds {found}. It has {listed}. Pass one as name=.")


def check_version(file: h5py.File, path: object) -> None:
    """Raise NWBError where a newer version of the extension wrote the file.

    Below 1.0 the minor version counts, from 1.0 on the major version.
    """
    cached = file.get(f"specifications/{schema.NAMESPACE}")
    if not is_group(cached):
        return
    newest = max(cached, key=_version)
    if _compatible(newest) > _compatible(schema.version()):
        raise NWBError(
            f"{path} was written with {schema.NAMESPACE} {newest}. This nwb_lint reads versions up to "
            f"{schema.version()}. Upgrade nwb_lint."
        )


@contextmanager
def reading_errors(path: object) -> Iterator[None]:
    """Give an NWBError for whatever h5py and numpy raise where a file is broken or a group is not what it should be."""
    try:
        yield
    except (NWBError, Warning):
        raise
    except Exception as error:  # h5py and numpy raise of every kind where a file is damaged
        raise NWBError(f"{path} cannot be read as an NWB file ({one_line(error)}). Pass a whole NWB file.") from error


def _read(path: Source, name: str | None, types: tuple[str, ...], what: str) -> tuple[Entry, xr.Dataset]:
    asset = one_asset(path)
    with reading_errors(asset), open_nwb(asset) as file:
        check_version(file, asset)
        entry = choose_entry(file, name, types, what, asset)
        return entry, _decoded(file, entry, asset, what)


def _decoded(file: h5py.File, entry: Entry, path: object, what: str) -> xr.Dataset:
    """The fit or result (``what``) of an entry; NWBError where it is not what was written."""
    try:
        stored = read_group(file[entry.path])
        if _lacks_digest(file, stored):
            raise ContractError(f"its {KEY} is missing. The file is damaged, or other software has changed it")
        return decode(stored)
    except ContractError as error:
        raise NWBError(f"{path}: {what} {entry.path} is inconsistent: {error}") from error


def _lacks_digest(file: h5py.File, stored: Stored) -> bool:
    """Whether nwb_lint has written a group with a digest, which is gone. A file may be of two versions."""
    versions = file.get(f"specifications/{schema.NAMESPACE}")
    if not is_group(versions) or min(map(_version, versions), default=()) < _FIRST_WITH_DIGEST:
        return False
    return "layout_name" in stored.arrays and all(setting.key != KEY for setting in stored.settings)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _compatible(text: str) -> tuple[int, ...]:
    """The part of a version within which every later reader reads the files."""
    version = _version(text)
    return version[:1] if version[:1] > (0,) else version[:2]
