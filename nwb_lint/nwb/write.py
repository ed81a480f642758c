"""A fit into NWB and back: `write_fit` to a new file, `add_to_nwbfile` in memory, `read_fit` from any
file."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

import nwb_lint
from nwb_lint.contract import ContractError
from nwb_lint.nwb import schema
from nwb_lint.nwb.asset import Asset, kind_of
from nwb_lint.nwb.codec import Stored, decode, encode
from nwb_lint.nwb.container import add_unit_rows, describe, read_group, to_container
from nwb_lint.nwb.metadata import Metadata, file_fields, make_subject, read_metadata
from nwb_lint.nwb.source import NWBError, Source, expand

MODULE = "ecephys"
_MODULE_DOC = "Recurrent networks fitted to the recorded activity."
_UUID = uuid.uuid5(uuid.NAMESPACE_OID, schema.NAMESPACE)


def write_fit(
    fit: xr.Dataset,
    path: str | Path,
    *,
    source: Source | Sequence[Source] | None = None,
    subject: dict[str, Any] | None = None,
    name: str = "lowrank_fit",
    overwrite: bool = False,
) -> Path:
    """Write a fit to a new NWB file, which is whole, valid and on disk when the path appears; sources stay as
    they are.

    | argument | |
    |---|---|
    | fit | Dataset of `contract.FIT` |
    | source | NWB files, wherever, that subject, session and people come from; default: those of ``fit.file`` |
    | subject | entries to add or to put in place of the source's: subject_id, species, sex, age, … |
    | name | name of the fit within the file |
    | overwrite | whether an existing file may be replaced; a source never is |

    Raises: ContractError where the Dataset is no fit; NWBError where the file is there already, is a source,
    or cannot be written. Warns where no subject is known: archives such as DANDI refuse such a file.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
        >>> write_fit(mock_fit(), "new.nwb", subject=subject)
        PosixPath('new.nwb')
    """
    target = Path(path)
    sources = _still_there(fit) if source is None else expand(source) if source else []
    _check_name(name)
    stored = encode(fit)
    check_target(target, [*sources, *local_sources(fit)], overwrite)
    said = _metadata(sources, needed=source is not None)
    fields = file_fields(said, subject, describe(fit))
    nwbfile = _new_file(fields, _digest(stored))
    _add(nwbfile, to_container(stored, fit, name))
    if nwbfile.subject is None:
        warnings.warn(f"{target}: no subject is known, and DANDI needs one; pass source= or subject=.", stacklevel=2)
    write_atomically(target, lambda temporary: _write_valid(nwbfile, temporary))
    return target


def add_to_nwbfile(fit: xr.Dataset, nwbfile: Any, *, name: str = "lowrank_fit") -> Any:
    """Add a fit to a pynwb NWBFile in memory and return its container; nothing is written.

    It goes to the processing module ``ecephys``, made where there is none; fits of other names may lie there.
    Where the NWBFile is the recording, or one of those, each neuron points at its row of the units table: it
    is known by its object_id or identifier, or, where the fit names no file, by having all the fit's unit
    ids.

    Raises: ContractError where the Dataset is no fit, the name is taken, or a unit id is not in the units
    table.

    Example:
        >>> from datetime import UTC, datetime
        >>> from pynwb import NWBFile
        >>> from nwb_lint.testing import mock_fit
        >>> nwbfile = NWBFile("a session", "s1", datetime(2026, 1, 1, tzinfo=UTC))
        >>> add_to_nwbfile(mock_fit(), nwbfile, name="rank_1").m.shape
        (12, 1)
    """
    _check_name(name)
    module = nwbfile.processing.get(MODULE)
    if module is not None and name in module.data_interfaces:
        raise ContractError(f"the file has {MODULE}/{name} already; choose another name=.")
    rows = _unit_rows(fit, nwbfile)
    container = to_container(encode(fit), fit, name)
    _add(nwbfile, container)
    if rows is not None:
        add_unit_rows(container, rows, nwbfile.units)
    return container


def read_fit(path: str | Path, name: str | None = None) -> xr.Dataset:
    """The fit that an NWB file holds, identical to the Dataset that was written.

    ``name`` is needed where there are several: ``"lowrank_fit"`` or ``"processing/ecephys/lowrank_fit"``.

    Raises: NWBError, one line: no such file, not HDF5, no fit (and what is there), several fits (and their
    names), written by a newer version, or arrays that do not suit each other, field by field.

    Example:
        >>> read_fit("fit.nwb").m.dims
        ('neuron', 'rank')
    """
    if not Path(path).is_file():
        raise NWBError(f"{path}: no such file; read_fit needs an NWB file with a fit. Check the path.")
    try:
        with h5py.File(path, "r") as file:
            _check_version(file, path)
            where = _choose(_find_fits(file), name, file, path)
            return decode(read_group(file[where]))
    except NWBError:
        raise
    except ContractError as error:
        raise NWBError(f"{path}: fit {where} is inconsistent: {error}") from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        # what h5py raises where a file is broken, and what follows where a group is not what it should be
        told = " ".join(str(error).split())
        raise NWBError(f"{path} cannot be read as an NWB file ({told}); pass a whole NWB file.") from error


def write_atomically(target: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path beside the target, then put that file on disk and in the target's
    place.

    Raises: NWBError where the folder is not there or the disk refuses; the target is then as it was.
    """
    if not target.parent.is_dir():
        raise NWBError(f"{target.parent}: no such folder, so {target.name} cannot be written there. Make it first.")
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        write(temporary)
        _to_disk(temporary)
        os.replace(temporary, target)
        if os.name == "posix":  # a folder cannot be opened elsewhere
            _to_disk(target.parent)
    except OSError as error:
        raise NWBError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_valid(nwbfile: Any, temporary: Path) -> None:
    """Write the NWBFile and hold it to the schema before anyone sees it."""
    import pynwb

    with pynwb.NWBHDF5IO(str(temporary), "w") as io:
        io.write(nwbfile)
    problems = pynwb.validate(path=str(temporary))
    if problems:
        raise NWBError(f"the file would not be valid NWB: {'; '.join(map(str, problems))}. Nothing was written.")


def _new_file(fields: dict[str, Any], digest: bytes) -> Any:
    """The NWBFile of a derived file; its identifier follows from the fit, so that the same fit has the same
    one."""
    import pynwb

    subject = fields.pop("subject")
    return pynwb.NWBFile(
        **fields,
        identifier=str(uuid.uuid5(_UUID, digest.hex())),
        subject=make_subject(subject) if subject else None,
        was_generated_by=[["nwb_lint", nwb_lint.__version__]],
    )


def _add(nwbfile: Any, container: Any) -> None:
    module = nwbfile.processing.get(MODULE)
    if module is None:
        module = nwbfile.create_processing_module(MODULE, _MODULE_DOC)
    module.add(container)


def _digest(stored: Stored) -> bytes:
    """SHA-256 of all that is stored."""
    digest = hashlib.sha256()
    for path, values in sorted(stored.arrays.items()):
        content = repr(values.tolist()).encode() if values.dtype.kind == "O" else values.tobytes()
        digest.update(f"{path} {values.dtype.str} {values.shape} ".encode())
        digest.update(content)
    settings = sorted((s.key, s.kind, s.variable or "", repr(np.asarray(s.data).tolist())) for s in stored.settings)
    digest.update(repr((sorted(stored.attributes.items()), settings)).encode())
    return digest.digest()


def _metadata(sources: Sequence[Asset], needed: bool) -> list[Metadata]:
    """What the sources say of themselves; a remote one that nobody asked for may be out of reach, with a warning."""
    found = []
    for asset in sources:
        try:
            found.append(read_metadata(asset.address if asset.remote else asset))
        except NWBError as error:
            if needed or not asset.remote:
                raise
            warnings.warn(f"subject and session of a source are not known: {error}", stacklevel=3)
    return found


def _still_there(fit: xr.Dataset) -> list[Asset]:
    """The fit's sources: addresses, and the files that are on this machine."""
    names = dict.fromkeys(str(item) for key in ("file", "source") if key in fit.variables for item in fit[key].values)
    return [*local_sources(fit), *(Asset(name, name, kind_of(name)) for name in names if "://" in name)]


def local_sources(fit: xr.Dataset) -> list[Asset]:
    """The files that the fit names and that are on this machine."""
    names = [str(item) for key in ("file", "source") if key in fit.variables for item in fit[key].values.ravel()]
    return [asset for name in dict.fromkeys(names) if name and "://" not in name and Path(name).exists()
            for asset in expand(Path(name))]  # fmt: skip


def check_target(target: Path, sources: Sequence[Asset], overwrite: bool) -> None:
    """Raise NWBError where the target is one of the sources, or is there already and may not be replaced."""
    for path in (asset.path for asset in sources if not asset.remote):
        if target.resolve() == path.resolve() or (target.exists() and path.exists() and target.samefile(path)):
            raise NWBError(f"{target} is a recording that the fit came from, and is never written to. Choose another.")
    if target.exists() and not (overwrite and target.is_file()):
        raise NWBError(f"{target} is there already; choose another path, or pass overwrite=True to replace a file.")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", name):
        raise ContractError(f"{name!r} is no name for a fit; use letters, digits, '_', '-' or '.', a letter first.")


def _unit_rows(fit: xr.Dataset, nwbfile: Any) -> list[int | None] | None:
    """Row of the units table of each neuron, or None where the fit does not come from this file."""
    if nwbfile.units is None or "unit_id" not in fit.variables:
        return None
    here = np.ones(fit.sizes["neuron"], bool)
    if "recorded" in fit.variables:
        here &= fit["recorded"].values
    row_of = {int(unit): row for row, unit in enumerate(nwbfile.units.id[:])}
    files = _files_of(fit, nwbfile)
    if files is None:
        if not all(int(unit) in row_of for unit in fit["unit_id"].values[here]):
            return None
    elif "source" in fit.variables:
        here &= np.isin(fit["source"].values.astype(str), files)
    elif fit.sizes["file"] > 1 or not files:
        return None
    if not here.any():
        return None
    absent = [str(unit) for unit in fit["unit_id"].values[here] if int(unit) not in row_of]
    if absent:
        raise ContractError(
            f"units {', '.join(absent)} of the fit are not in the units table; pass the file they are in."
        )
    return [row_of[int(unit)] if own else None for unit, own in zip(fit["unit_id"].values, here, strict=True)]


def _files_of(fit: xr.Dataset, nwbfile: Any) -> list[str] | None:
    """Those of the fit's files that are this NWBFile; None where the fit does not say, and comes from one
    file."""
    known = False
    found = []
    for index in range(fit.sizes.get("file", 0)):
        for key, own in (("file_object_id", nwbfile.object_id), ("file_identifier", nwbfile.identifier)):
            value = str(fit[key].values[index]) if key in fit.variables else ""
            if value:
                known = True
                if value == own:
                    found.append(str(fit["file"].values[index]) if "file" in fit.variables else "")
                break
    if known:
        return found
    return None if fit.sizes.get("file", 1) == 1 else []


def _find_fits(file: h5py.File) -> list[str]:
    """Paths of the fits in the file, wherever a processing module or the analysis group keeps them."""
    groups = [*(file["processing"].values() if "processing" in file else ()), file.get("analysis")]
    found = []
    for group in groups:
        for name, item in group.items() if isinstance(group, h5py.Group) else ():
            kind = item.attrs.get("neurodata_type", "") if isinstance(item, h5py.Group) else ""
            if kind == schema.FIT_TYPE:
                found.append(f"{group.name.strip('/')}/{name}")
    return found


def _choose(fits: list[str], name: str | None, file: h5py.File, path: str | Path) -> str:
    """The path of the one fit that is meant."""
    if not fits:
        held = [f"processing/{key}" for key in file.get("processing", {})] + [key for key in ("units",) if key in file]
        raise NWBError(
            f"{path} holds no fit ({schema.FIT_TYPE}); it holds "
            f"{', '.join(held) or ', '.join(file) or 'nothing'}. Pass a file that write_fit wrote."
        )
    chosen = [fit for fit in fits if name is None or name in (fit, fit.rpartition("/")[2])]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(
        fit if len({f.rpartition("/")[2] for f in fits}) < len(fits) else fit.rpartition("/")[2] for fit in fits
    )
    wrong = f"no fit named {name!r}" if name is not None and not chosen else f"{len(chosen)} fits"
    raise NWBError(f"{path} holds {wrong}; it has {listed}. Pass one as name=.")


def _check_version(file: h5py.File, path: str | Path) -> None:
    """Refuse a fit of a newer major version of the extension."""
    cached = file.get(f"specifications/{schema.NAMESPACE}")
    if not isinstance(cached, h5py.Group):
        return
    newest = max(cached, key=_version)
    if _version(newest)[:1] > _version(schema.version())[:1]:
        raise NWBError(
            f"{path} was written with {schema.NAMESPACE} {newest}; this nwb_lint reads up to "
            f"{schema.version()}. Upgrade nwb_lint."
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
