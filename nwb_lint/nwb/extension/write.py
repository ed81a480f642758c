"""Fits and results into NWB: `write_fit` to a new file or into a copy of a recording, `write_result` beside a fit,
`add_to_nwbfile` in memory.

NWB files as they are written: a new one, or a full copy of another with more in it; HDF5 or Zarr, always valid.

Nothing here is atomic: the paths are those that `atomic.write_atomically` gives.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

import nwb_lint
from nwb_lint.contract import check_result
from nwb_lint.errors import ContractError, NWBError, one_line
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.codec import Stored, encode
from nwb_lint.nwb.extension.container import add_unit_rows, describe, to_container
from nwb_lint.nwb.extension.read import check_version, find_held, read_held_fit, telling
from nwb_lint.nwb.extension.schema import get_classes
from nwb_lint.nwb.storage.asset import Asset, kind_of
from nwb_lint.nwb.storage.atomic import write_atomically
from nwb_lint.nwb.storage.digests import with_digests
from nwb_lint.nwb.storage.metadata import Metadata, file_fields, make_subject, missing_for_dandi, read_metadata
from nwb_lint.nwb.storage.source import Source, expand, one_asset, open_nwb
from nwb_lint.options import validated


def is_zarr(path: Path) -> bool:
    """Whether a path is, or is to be, of a Zarr folder."""
    return kind_of(path.name) == "zarr"


def write_new(nwbfile: Any, path: Path) -> None:
    """Write an NWBFile to a new file, HDF5 or Zarr by the ending of its path.

    Raises: NWBError where it would not be valid.
    """
    with _quiet():
        if is_zarr(path):
            with _io(path, "w") as io:
                io.write(nwbfile)
        else:
            path.write_bytes(_in_memory(nwbfile))
    _refuse(_problems(path))


def _in_memory(nwbfile: Any) -> bytes:
    """The bytes of the HDF5 file: made in memory, since HDF5 itself does not get over a full disk."""
    import pynwb

    memory = h5py.File("new.nwb", "w", driver="core", backing_store=False)
    with memory as file, pynwb.NWBHDF5IO(file=file, mode="w") as io:
        io.write(nwbfile)
        file.flush()
        return bytes(file.id.get_file_image())


def write_copy(source: Path, path: Path, add: Callable[[Any], None]) -> None:
    """Copy a file, byte by byte, and add to the copy what ``add`` puts into its NWBFile.

    Raises: NWBError where the copy would not be valid, or where the file links to others, which the copy would too.
    """
    if is_zarr(source):
        shutil.copytree(source, path, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, path)
        if link := external_link(path):
            raise NWBError(f"{source} has an external link ({link}), which a copy may not have. Copy its data first.")
    get_classes()  # before the file is read: pynwb would make classes of its own from the spec that lies there
    with _quiet(), _io(path, "r+" if is_zarr(path) else "a") as io:
        nwbfile = io.read()
        add(nwbfile)
        io.write(nwbfile)
    # old recordings are at odds with today's schemas as they are: of those only what was added has to be valid
    problems = _problems(path)
    if problems and _problems(source):
        problems = [line for line in problems if "processing/" in line]
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    """Raise NWBError where pynwb finds a file at odds with the schemas it carries."""
    if problems:
        raise NWBError(f"the file would not be valid NWB: {'; '.join(problems)}. Nothing was written.")


def _problems(path: Path) -> list[str]:
    """What the validator of pynwb finds in a file, by the schemas that the file carries."""
    with _quiet():
        return [one_line(problem) for problem in (_zarr_problems if is_zarr(path) else _hdf5_problems)(path)]


def _hdf5_problems(path: Path) -> list[Any]:
    import pynwb
    from hdmf.build import BuildManager

    schemas = _schemas(path)
    if not schemas.validators:
        return pynwb.validate(path=str(path))
    with _io(path, "r", manager=BuildManager(type_map=schemas.type_map)) as io:
        builder = io.read_builder()
        return [problem for validator in schemas.validators for problem in validator.validate(builder)]


def _zarr_problems(path: Path) -> list[Any]:
    import pynwb
    from pynwb.validation import get_cached_namespaces_to_validate

    with _io(path, "r") as io:
        manager = get_cached_namespaces_to_validate(io=io)[1]
    with _io(path, "r", manager=manager) as io:
        return pynwb.validate(io=io)


class _Schemas(NamedTuple):
    """The schemas of a file as hdmf has them: the map of their types, and a validator for each extension."""

    type_map: Any
    validators: list[Any]


_PARSED: dict[bytes, _Schemas] = {}  # by the digest of the schemas: parsing takes five times as long as validating
_MOST_PARSED = 4


def _schemas(path: Path) -> _Schemas:
    """The schemas that an HDF5 file carries, parsed once for all files with the same ones."""
    from hdmf.validate import ValidatorMap
    from pynwb.validation import get_cached_namespaces_to_validate

    with h5py.File(path, "r") as file:
        key = _digest_of_texts(file["specifications"]) if "specifications" in file else b""
    if key not in _PARSED:
        names, manager, _ = get_cached_namespaces_to_validate(path=str(path))
        validators = [ValidatorMap(manager.namespace_catalog.get_namespace(name=name)) for name in names]
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        _PARSED[key] = _Schemas(manager.type_map if names else None, validators)
    return _PARSED[key]


def _digest_of_texts(group: h5py.Group) -> bytes:
    """SHA-256 of all datasets of a group, at any depth."""
    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item[()]!r}".encode())

    group.visititems(add)
    return digest.digest()


def external_link(path: Path) -> str:
    """The name of a link to another file in an HDF5 file, empty where there is none."""
    with h5py.File(path, "r") as file:
        waiting = [file["/"]]
        while waiting:
            group = waiting.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    return f"{group.name.rstrip('/')}/{name} to {link.filename}"
                if isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is h5py.Group:
                    waiting.append(group[name])
    return ""


@contextmanager
def _io(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    import pynwb

    if not is_zarr(path):
        with pynwb.NWBHDF5IO(str(path), mode, **options) as io:
            yield io
        return
    try:
        from hdmf_zarr.nwb import NWBZarrIO
        from numcodecs import JSON
    except ImportError as error:
        raise NWBError(f"{path.name} is Zarr, which needs the extra: pip install 'nwb_lint[zarr]'.") from error
    if mode == "w":
        os.makedirs(path)
    with NWBZarrIO(str(path), mode=mode, object_codec_class=JSON, **options) as io:  # its default are Python pickles
        yield io


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what hdmf tells of extensions cached in other versions, and of its own future."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Ignoring cached namespace|.*[Ii]gnoring the following cached namespace"
        )
        warnings.filterwarnings("ignore", module="hdmf|pynwb|zarr|numcodecs")
        yield


MODULE = "ecephys"
_MODULE_DOC = "Recurrent networks fitted to the recorded activity."
_UUID = uuid.uuid5(uuid.NAMESPACE_OID, schema.NAMESPACE)
_NO_SUBJECT = "no subject is known, and DANDI needs one"
_BY = ["nwb_lint", nwb_lint.__version__]


def write_fit(
    fit: xr.Dataset,
    path: str | Path,
    *,
    source: Source | Sequence[Source] | None = None,
    subject: dict[str, Any] | None = None,
    into: Source | None = None,
    name: str = "lowrank_fit",
    results: Mapping[str, xr.Dataset] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a fit to a new NWB file, which is whole, valid and on disk when the path appears; sources stay as
    they are.

    | argument | |
    |---|---|
    | fit | Dataset of `contract.FIT` |
    | path | the file; a Zarr folder where it ends in ``.zarr`` (extra ``zarr``) |
    | source | NWB files, wherever, that subject, session and people come from; default: those of ``fit.file`` |
    | subject | entries to add or to put in place of the source's: subject_id, species, sex, age, … |
    | into | a recording: the file becomes a full copy of it with the fit in its processing module ``ecephys``; \
        or ``path`` itself, a file that holds a fit already: another one is added to it |
    | name | name of the fit within the file |
    | results | what was computed from it (`write_result`), by name: in the file together with the fit |
    | overwrite | whether an existing file may be replaced; a source never is |

    Raises: ContractError where the Dataset is no fit; NWBError where the file is there already, is a source, is
    being written by another process, or cannot be written. Warns where no subject is known, or not its id, species,
    sex and age: archives such as DANDI refuse such a file.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
        >>> write_fit(mock_fit(), "new.nwb", subject=subject)
        PosixPath('new.nwb')
    """
    target, beside = Path(path), dict(results or {})
    for one in (name, *beside):
        _check_name(one)
    fit = with_digests(fit)
    stored = encode(fit)
    if stored.type != schema.FIT_TYPE:
        raise ContractError(f"the Dataset is of kind {fit.attrs['kind']!r}; write_fit needs a fit. Call write_result.")
    if into is not None:
        if source is not None or subject is not None:
            raise ContractError("into= keeps what the recording says of itself; drop source= and subject=.")
        return _write_into(fit, target, into, name, beside, overwrite)
    sources = _still_there(fit) if source is None else expand(source) if source else []
    guarded = [*sources, *local_sources(fit)]
    check_target(target, guarded, overwrite)
    said = _metadata(sources, needed=source is not None)
    fields = file_fields(said, subject, describe(fit))
    nwbfile = _new_file(fields, _digest(stored))
    _module(nwbfile).add(to_container(stored, fit, name, packed=not is_zarr(target)))
    _add_results(beside, fit, name, nwbfile, target)
    if lack := missing_for_dandi(fields["subject"]):
        what = f"the subject has no {', '.join(lack)}, which DANDI needs" if fields["subject"] else _NO_SUBJECT
        warnings.warn(f"{target}: {what}; pass source= or subject=.", stacklevel=2)

    def write(temporary: Path) -> None:
        check_target(target, guarded, overwrite)  # again, now that nobody else is writing it
        write_new(nwbfile, temporary)

    write_atomically(target, write)
    return target


@validated()
def write_result(result: xr.Dataset, path: str | Path, *, fit_name: str | None = None, name: str | None = None) -> Path:
    """Add a result (`nwb_lint.contract`) to the file of the fit that it was computed from.

    The file is replaced by a copy that has the result too, valid and on disk, or stays as it is. The result points
    at the network, and its neurons at their own file, session and unit id.

    | argument | |
    |---|---|
    | result | Dataset with the attribute ``kind`` |
    | path | a file of `write_fit`, HDF5 or Zarr |
    | fit | name of the fit, where the file holds several |
    | name | name of the result within the file; default: its kind |

    Raises: ContractError where the Dataset is no result, its name is taken, or it tells of neurons, latents or inputs
    that the fit has not; NWBError where the file holds no fit, is a recording that the fit came from, or cannot be
    written.

    Example:
        >>> from nwb_lint import read_fit
        >>> fit, square = read_fit("fit.nwb"), ("axis_name", "axis_other")
        >>> data = {"axis": (("axis_name", "neuron"), fit["m"].values.T), "overlap": (square, [[1.0]]),
        ...     "angle_deg": (square, [[0.0]]), "variance_explained": ("axis_name", [0.4])}
        >>> axes = xr.Dataset(data, {"axis_name": ["m"], "neuron": fit["neuron"]}, {"kind": "axes"})
        >>> write_result(axes, "fit.nwb")
        PosixPath('fit.nwb')
    """
    target, kind = Path(path), check_result(result)
    name = kind if name is None else name
    _check_name(name)
    encode(result)

    def write(temporary: Path) -> None:
        network, of = read_held_fit(target, fit_name)
        guard(target, local_sources(of))
        write_copy(target, temporary, lambda nwbfile: _add_results({name: result}, of, network.name, nwbfile, target))

    write_atomically(target, write)
    return target


@validated()
def add_to_nwbfile(dataset: xr.Dataset, nwbfile: Any, *, name: str | None = None, fit_name: str | None = None) -> Any:
    """Add a fit or a result to a pynwb NWBFile in memory and return its container; nothing is written.

    It goes to the processing module ``ecephys``, made where there is none, under ``name`` (``lowrank_fit``, or the
    kind of the result); others of other names may lie there. A result points at the network named ``fit_name``, or at
    the only one. Where the NWBFile is the recording, or one of those, each neuron points at its row of the units
    table: it is known by its object_id or identifier, or, where the fit names no file, by having all the fit's unit
    ids.

    Raises: ContractError where the Dataset is no fit and no result, the name is taken, a unit id is not in the units
    table, or a result finds no network.

    Example:
        >>> from datetime import UTC, datetime
        >>> from pynwb import NWBFile
        >>> from nwb_lint.testing import mock_fit
        >>> nwbfile = NWBFile("a session", "s1", datetime(2026, 1, 1, tzinfo=UTC))
        >>> add_to_nwbfile(mock_fit(), nwbfile, name="rank_1").m.shape
        (12, 1)
    """
    return _add(dataset, nwbfile, name, fit_name, packed=not str(nwbfile.container_source or "").endswith(".zarr"))


def _add(dataset: xr.Dataset, nwbfile: Any, name: str | None, fit: str | None, *, packed: bool) -> Any:
    """`add_to_nwbfile`, with large arrays ``packed`` or not (`container.to_container`)."""
    stored = encode(dataset)
    is_fit = stored.type == schema.FIT_TYPE
    name = ("lowrank_fit" if is_fit else str(dataset.attrs["kind"])) if name is None else name
    _check_name(name)
    module = nwbfile.processing.get(MODULE)
    if module is not None and name in module.data_interfaces:
        raise ContractError(f"the file has {MODULE}/{name} already; choose another name=.")
    network = None if is_fit else _network(module, fit)
    rows = _unit_rows(dataset, nwbfile)
    if nwbfile.read_io is not None:
        schema.teach(nwbfile.read_io)
    container = to_container(stored, dataset, name, network=network, packed=packed)
    _module(nwbfile).add(container)
    if rows is not None:
        add_unit_rows(container, rows, nwbfile.units)
    return container


def _add_results(results: Mapping[str, xr.Dataset], fit: xr.Dataset, name: str, nwbfile: Any, target: Path) -> None:
    """Put results beside the fit of this name in an NWBFile that goes to ``target``."""
    for key, result in results.items():
        check_result(result)
        _check_of(result, fit, name)
        _add(result, nwbfile, key, name, packed=not is_zarr(target))


def _write_into(
    fit: xr.Dataset, target: Path, into: Source, name: str, results: Mapping[str, xr.Dataset], overwrite: bool
) -> Path:
    """The target becomes a full copy of a recording, or of itself, with the fit in it."""
    asset = one_asset(into, download=True)
    if asset.kind != ("zarr" if is_zarr(target) else "hdf5"):
        raise NWBError(f"{asset} is {asset.kind} and {target.name} is not; a copy has the form of its recording.")
    with telling(asset, "fit"), open_nwb(asset) as file:
        check_version(file, asset)
        ours = any(held.type == schema.FIT_TYPE for held in find_held(file))
        itself = ours and target.exists() and target.samefile(asset.path)
    guarded = local_sources(fit) if itself else [*local_sources(fit), asset]

    def add(nwbfile: Any) -> None:
        if nwbfile.was_generated_by is None:
            nwbfile.was_generated_by = [_BY]
        add_to_nwbfile(fit, nwbfile, name=name)
        _add_results(results, fit, name, nwbfile, target)

    def write(temporary: Path) -> None:
        check_target(target, guarded, overwrite)
        write_copy(asset.path, temporary, add)

    check_target(target, guarded, overwrite)
    write_atomically(target, write)
    return target


def _new_file(fields: dict[str, Any], digest: bytes) -> Any:
    """The NWBFile of a derived file; its identifier follows from the fit, so that the same fit has the same
    one."""
    import pynwb

    subject = fields["subject"]
    return pynwb.NWBFile(
        **{key: value for key, value in fields.items() if key != "subject"},
        identifier=str(uuid.uuid5(_UUID, digest.hex())),
        subject=make_subject(subject) if subject else None,
        was_generated_by=[_BY],
    )


def _module(nwbfile: Any) -> Any:
    """The processing module of our containers, made where there is none."""
    found = nwbfile.processing.get(MODULE)
    return nwbfile.create_processing_module(MODULE, _MODULE_DOC) if found is None else found


def _network(module: Any, name: str | None) -> Any:
    """The container of the network that a result is of."""
    held = {} if module is None else module.data_interfaces
    fits = {key: held[key] for key in held if held[key].neurodata_type == schema.FIT_TYPE}
    if name is None and len(fits) == 1:
        return next(iter(fits.values()))
    if name not in fits:
        asked = f"no fit {name!r}" if name is not None else f"{len(fits)} fits"
        raise ContractError(f"the file has {asked} in {MODULE}; it has {', '.join(fits) or 'none'}. Pass one as fit=.")
    return fits[name]


def _check_of(result: xr.Dataset, fit: xr.Dataset, name: str) -> None:
    """Raise unless neurons of a result are those of the fit, or some of them, and it has the fit's latents and inputs.

    Conditions may be others: a network runs, and activity is projected, on inputs that it was not fitted to.
    """
    if "neuron" in result.variables:
        strange = sorted(set(result["neuron"].values.tolist()) - set(fit["neuron"].values.tolist()))
        if strange:
            raise ContractError(f"neuron {strange[0]!r} of the result is not one of the fit {name}; pass its own fit.")
    for dim in ("rank", "input"):
        found, own = result.sizes.get(dim), fit.sizes.get(dim, 0)
        if found not in (None, own):
            raise ContractError(f"the result has {found} along {dim} where the fit {name} has {own}; pass its own fit.")


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
    guard(target, sources)
    if target.exists() and not (overwrite and target.is_dir() == is_zarr(target)):
        raise NWBError(f"{target} is there already; choose another path, or pass overwrite=True to replace a file.")


def guard(target: Path, sources: Sequence[Asset]) -> None:
    """Raise NWBError where the target is one of the sources."""
    for path in (asset.path for asset in sources if not asset.remote):
        if target.resolve() == path.resolve() or (target.exists() and path.exists() and target.samefile(path)):
            raise NWBError(f"{target} is a recording that the fit came from, and is never written to. Choose another.")


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
