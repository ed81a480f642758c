"""Fits and their results out of NWB files, wherever these are: `read_fit`, `read_result`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import h5py
import xarray as xr

from nwb_lint.contract import RESULTS
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.codec import decode
from nwb_lint.nwb.extension.container import read_group
from nwb_lint.nwb.storage.h5 import as_text, is_group, members
from nwb_lint.nwb.storage.source import Source, one_asset, open_nwb


class Held(NamedTuple):
    """One fit or result in a file: its path there, and its neurodata type."""

    path: str
    type: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def read_fit(path: Source, name: str | None = None) -> xr.Dataset:
    """The fit that an NWB file holds, identical to the Dataset that was written.

    ``path`` is whatever `open_nwb` opens: HDF5, Zarr, an address. ``name`` is needed where there are several:
    ``"lowrank_fit"`` or ``"processing/ecephys/lowrank_fit"``.

    Raises: NWBError, one line: no such file, not NWB, no fit (and what is there), several fits (and their
    names), written by a newer version, or arrays that do not suit each other, field by field.

    Example:
        >>> read_fit("fit.nwb").m.dims
        ('neuron', 'rank')
    """
    return read_held_fit(path, name)[1]


def read_held_fit(path: Source, name: str | None = None) -> tuple[Held, xr.Dataset]:
    """Where a fit lies in its file, and the fit: see `read_fit`."""
    return _read(path, name, (schema.FIT_TYPE,), "fit")


def read_result(path: Source, name: str | None = None) -> xr.Dataset:
    """A result that lies beside a fit, identical to the Dataset that `write_result` was given.

    ``name`` is needed where there are several; it is the kind of the result where none was given.

    Raises: NWBError, as `read_fit`.

    Example:
        >>> read_result("fit.nwb", "populations").population.dims  # doctest: +SKIP
        ('neuron',)
    """
    return _read(path, name, tuple(map(schema.type_of, RESULTS)), "result")[1]


def find_held(file: h5py.File) -> list[Held]:
    """The fits and results in a file, wherever a processing module or the analysis group keeps them."""
    kinds = {schema.FIT_TYPE, *map(schema.type_of, RESULTS)}
    modules = file.get("processing", {})
    groups = [modules[name] for name in (members(modules) if modules else ())]
    groups += [file["analysis"]] if "analysis" in file else []
    found = []
    for group in filter(is_group, groups):
        for name in members(group):
            item = group[name]
            kind = as_text(item.attrs.get("neurodata_type", "")) if is_group(item) else ""
            if kind in kinds and as_text(item.attrs.get("namespace", schema.NAMESPACE)) == schema.NAMESPACE:
                found.append(Held(f"{group.name.strip('/')}/{name}", kind))
    return found


def choose(file: h5py.File, name: str | None, types: tuple[str, ...], what: str, path: object) -> Held:
    """The one fit or result of these types that is meant.

    Raises: NWBError where there is none, or several and no name.
    """
    held = [one for one in find_held(file) if one.type in types]
    if not held:
        there = [f"processing/{key}" for key in file.get("processing", {})] + [k for k in ("units",) if k in file]
        type_names = types[0] if len(types) == 1 else "LowRank…"
        raise NWBError(
            f"{path} holds no {what} ({type_names}); it holds {', '.join(there) or ', '.join(file) or 'nothing'}. "
            f"Pass a file that write_{what} wrote."
        )
    chosen = [one for one in held if name is None or name in (one.path, one.name)]
    if len(chosen) == 1:
        return chosen[0]
    unique = len({one.name for one in held}) == len(held)
    listed = ", ".join(one.name if unique else one.path for one in held)
    wrong = f"no {what} named {name!r}" if name is not None and not chosen else f"{len(chosen)} {what}s"
    raise NWBError(f"{path} holds {wrong}; it has {listed}. Pass one as name=.")


def check_version(file: h5py.File, path: object) -> None:
    """Refuse a file with a newer version of the extension: below 1.0 each minor version counts, then the major.

    Raises: NWBError, with both versions.
    """
    cached = file.get(f"specifications/{schema.NAMESPACE}")
    if not is_group(cached):
        return
    newest = max(cached, key=_version)
    if _counts(newest) > _counts(schema.version()):
        raise NWBError(
            f"{path} was written with {schema.NAMESPACE} {newest}; this nwb_lint reads up to "
            f"{schema.version()}. Upgrade nwb_lint."
        )


def _read(path: Source, name: str | None, types: tuple[str, ...], what: str) -> tuple[Held, xr.Dataset]:
    asset = one_asset(path)
    with telling(asset, what), open_nwb(asset) as file:
        check_version(file, asset)
        held = choose(file, name, types, what, asset)
        try:
            return held, decode(read_group(file[held.path]))
        except ContractError as error:
            raise NWBError(f"{asset}: {what} {held.path} is inconsistent: {error}") from error


@contextmanager
def telling(path: object, what: str) -> Iterator[None]:
    """What h5py raises where a file is broken, and what follows where a group is not what it should be, as NWBError."""
    try:
        yield
    except NWBError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        told = " ".join(str(error).split())
        raise NWBError(f"{path} cannot be read as an NWB file ({told}); pass a whole NWB file.") from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _counts(text: str) -> tuple[int, ...]:
    """The part of a version within which files are read by every later reader."""
    version = _version(text)
    return version[:1] if version[:1] > (0,) else version[:2]
