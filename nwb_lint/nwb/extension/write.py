"""Write fits and results to NWB: `write_fit` to a file, `write_result` beside a fit, `add_to_nwbfile` in memory."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import nwb_lint
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.codec import Stored, encode
from nwb_lint.nwb.extension.container import add_unit_rows, describe, to_container
from nwb_lint.nwb.extension.files import is_zarr, write_copy, write_new
from nwb_lint.nwb.extension.read import check_version, find_entries, read_fit_entry, reading_errors
from nwb_lint.nwb.recording.unit_tables import plain_ids, unit_labels
from nwb_lint.nwb.storage.asset import Asset, kind_of
from nwb_lint.nwb.storage.atomic import write_atomically
from nwb_lint.nwb.storage.digests import with_digests
from nwb_lint.nwb.storage.metadata import Metadata, file_fields, make_subject, missing_for_dandi, read_metadata
from nwb_lint.nwb.storage.source import Source, expand, one_asset, open_nwb
from nwb_lint.options.checks import validated
from nwb_lint.parallel.warnings import warn

MODULE = "ecephys"
_MODULE_DOC = "Recurrent networks fitted to the recorded activity."
_UUID = uuid.uuid5(uuid.NAMESPACE_OID, schema.NAMESPACE)
_GENERATED_BY = ["nwb_lint", nwb_lint.__version__]


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
    """Write a fit to a new NWB file, or with a full copy of a recording.

    The file is valid and complete when its path appears; the recordings are never changed. The file is written beside
    the path, validated, and renamed. `read_fit` gives back the same Dataset, with the SHA-256 of its source files in
    the coordinate ``file_digest``.

    In the file, latents, inputs and predicted activity are TimeSeries and conditions are TimeIntervals, so that
    pynapple and neurosift show them. Single trials of one session, aligned to a column of times, are on the clock of
    the session. Means over trials stand one after another. The predicted rates in Hz are added.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `fit_trials`.
    path : path
        The file to write. A path that ends in ``.zarr`` becomes a Zarr folder (extra ``zarr``).
    source : path, address, or a sequence of these, default=None
        NWB files that subject, session and experimenters are taken from. None takes those that the fit names
        (``fit.file``), where they can be reached; an empty sequence takes none.
    subject : dict or None, default=None
        Entries of the subject, such as ``subject_id``, ``species``, ``sex`` and ``age``. They go before those of the
        source.
    into : path, address or None, default=None
        A recording: the new file is a full copy of it, with the fit in its processing module ``ecephys``. Or ``path``
        itself, with ``overwrite=True``: the fit is added to a file that holds another fit.
    name : str, default="lowrank_fit"
        Name of the fit in the file.
    results : mapping of str to xarray.Dataset, or None, default=None
        Results that were computed from the fit, by name. They are written to the same file, as by `write_result`.
    overwrite : bool, default=False
        Whether to replace a file that exists. A recording that the fit came from is never replaced.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    ContractError
        If the Dataset is not a fit, or an argument is wrong; if a result has neurons, latents or inputs that the fit
        does not have.
    MissingFileError
        If a file in ``source`` or ``into`` does not exist.
    NWBError
        If the file exists already, is a recording that the fit came from, is being written by another process, or
        cannot be written.

    Warns
    -----
    UserWarning
        If the subject has no id, species, sex or age. DANDI does not accept such a file.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    >>> write_fit(mock_fit(), "new.nwb", subject=subject)
    PosixPath('new.nwb')
    """
    target, beside = Path(path), dict(results or {})
    for one in (name, *beside):
        check_name(one)
    fit = with_digests(fit)
    stored = encode(fit)
    if stored.type != schema.FIT_TYPE:
        raise ContractError(f"The Dataset is of kind {fit.attrs['kind']!r}. write_fit needs a fit. Call write_result.")
    if into is not None:
        if source is not None or subject is not None:
            raise ContractError(
                "into= keeps subject and session of the recording. source= and subject= are for new files. Drop them."
            )
        return _write_into(fit, target, into, name, beside, overwrite)
    sources = _reachable_sources(fit) if source is None else expand(source) if source else []
    protected = [*sources, *local_sources(fit)]
    check_target(target, protected, overwrite)
    fields = file_fields(_metadata(sources, needed=source is not None), subject, describe(fit))
    nwbfile = _new_file(fields, _digest(stored))
    _module(nwbfile).add(to_container(stored, fit, name, packed=not is_zarr(target)))
    _add_results(beside, fit, name, nwbfile, target)
    if lack := missing_for_dandi(fields["subject"]):
        found = f"The subject has no {', '.join(lack)}." if fields["subject"] else "The file has no subject."
        warn(f"{target}: {found} DANDI needs it. Pass source= or subject=.")

    def write(temporary: Path) -> None:
        check_target(target, protected, overwrite)  # again, now that no other process is writing it
        write_new(nwbfile, temporary)

    write_atomically(target, write)
    return target


@validated()
def write_result(result: xr.Dataset, path: str | Path, *, fit_name: str | None = None, name: str | None = None) -> Path:
    """Add a result to the file of the fit that it was computed from.

    The file is replaced by a copy that has the result too. If writing fails, the file stays as it is. In the file, the
    result points at its network, and each of its neurons at session and unit id.

    Parameters
    ----------
    result : xarray.Dataset
        What an analysis returns, such as `connectivity` or `fixed_points`. Its attribute ``kind`` names what it is.
    path : path
        A file that `write_fit` wrote, HDF5 or Zarr.
    fit_name : str or None, default=None
        Name of the fit. None takes the only fit in the file.
    name : str or None, default=None
        Name of the result in the file. None takes its kind, such as ``"axes"``.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    ContractError
        If the Dataset is not a result, its name is taken, or it has neurons, latents or inputs that the fit does not
        have.
    MissingFileError
        If there is no such file.
    NWBError
        If the file holds no fit, is a recording that the fit came from, or cannot be written.

    Examples
    --------
    >>> from nwb_lint import connectivity, read_fit
    >>> write_result(connectivity(read_fit("fit.nwb")), "fit.nwb")
    PosixPath('fit.nwb')
    """
    target, kind = Path(path), check_result(result)
    name = kind if name is None else name
    check_name(name)
    encode(result)

    def write(temporary: Path) -> None:
        entry, fit = read_fit_entry(target, fit_name)
        refuse_sources(target, local_sources(fit))
        write_copy(target, temporary, lambda nwbfile: _add_results({name: result}, fit, entry.name, nwbfile, target))

    write_atomically(target, write)
    return target


@validated()
def add_to_nwbfile(dataset: xr.Dataset, nwbfile: Any, *, name: str | None = None, fit_name: str | None = None) -> Any:
    """Add a fit or a result to a pynwb NWBFile in memory; no file is written.

    The container goes to the processing module ``ecephys``, which is made where there is none. Where the NWBFile is a
    recording of the fit, each neuron points at its row of the units table. The NWBFile is known by its object_id or
    identifier or, where the fit names no file, by the unit ids.

    Parameters
    ----------
    dataset : xarray.Dataset
        A fit, or a result of an analysis.
    nwbfile : pynwb.NWBFile
        The file in memory, new or read.
    name : str or None, default=None
        Name of the container. None takes ``"lowrank_fit"``, or the kind of the result.
    fit_name : str or None, default=None
        For a result: name of the fit that it points at. None takes the only fit in the NWBFile.

    Returns
    -------
    pynwb container
        The new container, such as ``LowRankRNN``.

    Raises
    ------
    ContractError
        If the Dataset is neither fit nor result, its name is taken, a unit id is not in the units table, or the NWBFile
        does not hold the fit of a result.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from pynwb import NWBFile
    >>> from nwb_lint.testing import mock_fit
    >>> nwbfile = NWBFile("a session", "s1", datetime(2026, 1, 1, tzinfo=UTC))
    >>> add_to_nwbfile(mock_fit(), nwbfile, name="rank_1").m.shape
    (12, 1)
    """
    packed = not str(nwbfile.container_source or "").endswith(".zarr")
    return _add(dataset, nwbfile, name, fit_name, packed=packed)


def _write_into(
    fit: xr.Dataset, target: Path, into: Source, name: str, results: Mapping[str, xr.Dataset], overwrite: bool
) -> Path:
    """The target becomes a full copy of a recording, or of itself, with the fit in it."""
    asset = one_asset(into, download=True)
    if asset.kind != ("zarr" if is_zarr(target) else "hdf5"):
        raise NWBError(f"{asset} is {asset.kind} and {target.name} is not. A copy needs the format of its recording.")
    with reading_errors(asset), open_nwb(asset) as file:
        check_version(file, asset)
        has_fit = any(entry.type == schema.FIT_TYPE for entry in find_entries(file))
        itself = has_fit and target.exists() and target.samefile(asset.path)
    protected = local_sources(fit) if itself else [*local_sources(fit), asset]

    def add(nwbfile: Any) -> None:
        if nwbfile.was_generated_by is None:
            nwbfile.was_generated_by = [_GENERATED_BY]
        add_to_nwbfile(fit, nwbfile, name=name)
        _add_results(results, fit, name, nwbfile, target)

    def write(temporary: Path) -> None:
        check_target(target, protected, overwrite)
        write_copy(asset.path, temporary, add)

    check_target(target, protected, overwrite)
    write_atomically(target, write)
    return target


def _add_results(results: Mapping[str, xr.Dataset], fit: xr.Dataset, name: str, nwbfile: Any, target: Path) -> None:
    """Put results beside the fit of this name in an NWBFile that goes to ``target``."""
    for key, result in results.items():
        check_result(result)
        _check_belongs(result, fit, name)
        _add(result, nwbfile, key, name, packed=not is_zarr(target))


def _add(dataset: xr.Dataset, nwbfile: Any, name: str | None, fit_name: str | None, *, packed: bool) -> Any:
    """`add_to_nwbfile`, with large arrays ``packed`` or not (`container.to_container`)."""
    stored = encode(dataset)
    is_fit = stored.type == schema.FIT_TYPE
    name = ("lowrank_fit" if is_fit else str(dataset.attrs["kind"])) if name is None else name
    check_name(name)
    module = nwbfile.processing.get(MODULE)
    if module is not None and name in module.data_interfaces:
        raise ContractError(f"The file has {MODULE}/{name} already. Each needs a name of its own. Pass another name=.")
    network = None if is_fit else _network(module, fit_name)
    rows = _unit_rows(dataset, nwbfile)
    if nwbfile.read_io is not None:
        schema.register(nwbfile.read_io)
    container = to_container(stored, dataset, name, network=network, packed=packed)
    _module(nwbfile).add(container)
    if rows is not None:
        add_unit_rows(container, rows[1], rows[0])
    return container


def check_target(target: Path, sources: Sequence[Asset], overwrite: bool) -> None:
    """Raise NWBError where the target is one of the sources, or exists and may not be replaced."""
    refuse_sources(target, sources)
    if target.exists() and not (overwrite and target.is_dir() == is_zarr(target)):
        raise NWBError(f"{target} exists already. Pass overwrite=True to replace a file, or choose another path.")


def refuse_sources(target: Path, sources: Sequence[Asset]) -> None:
    """Raise NWBError where the target is one of the sources."""
    for path in (asset.path for asset in sources if not asset.remote):
        if target.resolve() == path.resolve() or (target.exists() and path.exists() and target.samefile(path)):
            raise NWBError(
                f"{target} is a recording that the fit came from. Recordings are never changed. Choose another path."
            )


def local_sources(fit: xr.Dataset) -> list[Asset]:
    """The files that the fit names and that are on this machine."""
    names = [name for name in _source_names(fit) if name and "://" not in name and Path(name).exists()]
    return [asset for name in names for asset in expand(Path(name))]


def _reachable_sources(fit: xr.Dataset) -> list[Asset]:
    """The fit's sources: the files that are on this machine, and addresses."""
    remote = [Asset(name, name, kind_of(name)) for name in _source_names(fit) if "://" in name]
    return [*local_sources(fit), *remote]


def _source_names(fit: xr.Dataset) -> list[str]:
    """Paths and addresses of all files that the fit names, each once."""
    names = (str(item) for key in ("file", "source") if key in fit.variables for item in fit[key].values.ravel())
    return list(dict.fromkeys(names))


def _metadata(sources: Sequence[Asset], needed: bool) -> list[Metadata]:
    """The metadata of the sources. A remote one that is not ``needed`` may be out of reach: that is a warning."""
    found = []
    for asset in sources:
        try:
            found.append(read_metadata(asset.address if asset.remote else asset))
        except NWBError as error:
            if needed or not asset.remote:
                raise
            warn(f"Subject and session of {asset} are not known: {error}")
    return found


def _new_file(fields: dict[str, Any], digest: bytes) -> Any:
    """The NWBFile of a derived file. Its identifier is computed from the fit: the same fit has the same one."""
    import pynwb

    subject = fields["subject"]
    return pynwb.NWBFile(
        **{key: value for key, value in fields.items() if key != "subject"},
        identifier=str(uuid.uuid5(_UUID, digest.hex())),
        subject=make_subject(subject) if subject else None,
        was_generated_by=[_GENERATED_BY],
    )


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


def _module(nwbfile: Any) -> Any:
    """The processing module of fits and results, made where there is none."""
    found = nwbfile.processing.get(MODULE)
    return nwbfile.create_processing_module(MODULE, _MODULE_DOC) if found is None else found


def _network(module: Any, fit_name: str | None) -> Any:
    """The container of the network that a result is of."""
    held = {} if module is None else module.data_interfaces
    fits = {key: held[key] for key in held if held[key].neurodata_type == schema.FIT_TYPE}
    if fit_name is None and len(fits) == 1:
        return next(iter(fits.values()))
    if fit_name not in fits:
        found = f"no fit {fit_name!r}" if fit_name is not None else f"{len(fits)} fits"
        raise ContractError(
            f"The file has {found} in {MODULE}. A result needs one. The fits are: {', '.join(fits) or 'none'}. Pass "
            "one as fit_name=."
        )
    return fits[fit_name]


def _check_belongs(result: xr.Dataset, fit: xr.Dataset, name: str) -> None:
    """Raise ContractError unless the neurons of a result are among those of the fit, and latents and inputs the same.

    Conditions may be others: a network can run on inputs that it was not fitted to.
    """
    if "neuron" in result.variables:
        strange = sorted(set(result["neuron"].values.tolist()) - set(fit["neuron"].values.tolist()))
        if strange:
            raise ContractError(f"Neuron {strange[0]!r} of the result is not in the fit {name}. Pass the result's fit.")
    for dim in ("rank", "input"):
        found, own = result.sizes.get(dim), fit.sizes.get(dim, 0)
        if found not in (None, own):
            raise ContractError(f"The result has {found} along {dim}, the fit {name} has {own}. Pass the result's fit.")


def check_name(name: str) -> None:
    """Raise ContractError where a text is no name of a fit or a result."""
    if not re.fullmatch(r"[A-Za-z0-9][\w .+-]*", name):
        raise ContractError(
            f"The name is {name!r}. It needs letters, digits, spaces, '_', '-', '+' or '.', a letter or digit first."
        )


def _unit_rows(fit: xr.Dataset, nwbfile: Any) -> tuple[Any, list[int | None]] | None:
    """The units table and the row of each neuron in it, or None where the fit does not come from this file's units.

    A neuron whose id occurs more than once has a row if its label names it (`unit_labels`).
    """
    units = None if fit.attrs.get("series") else _units_of(fit, nwbfile)
    if units is None or "unit_id" not in fit.variables:
        return None
    here = np.ones(fit.sizes["neuron"], bool)
    if "recorded" in fit.variables:
        here &= fit["recorded"].values
    ids = plain_ids(np.asarray(units.id[:]))
    rows = _rows_by_label(fit, ids)
    absent = here & ~np.isin(fit["unit_id"].values.astype(str), ids.astype(str)) & [row is None for row in rows]
    files = _files_of(fit, nwbfile)
    if files is None:
        if absent.any():
            return None
    elif "source" in fit.variables:
        here &= np.isin(fit["source"].values.astype(str), files)
    elif fit.sizes["file"] > 1 or not files:
        return None
    if not here.any():
        return None
    if (absent & here).any():
        named = ", ".join(map(str, fit["unit_id"].values[absent & here]))
        raise ContractError(f"Units {named} of the fit are not in the units table. Pass the recording that has them.")
    return units, [row if own else None for row, own in zip(rows, here, strict=True)]


def _rows_by_label(fit: xr.Dataset, ids: np.ndarray) -> list[int | None]:
    """The row of each neuron among the ids of a units table, by its id or its label; None if neither is unique."""
    row_of = {f"row {row}": row for row in range(len(ids))}  # the labels in a recording without ids
    row_of |= {label: row for row, label in enumerate(unit_labels(ids).tolist())}
    sessions = fit["session"].values.tolist() if "session" in fit.variables else [""] * fit.sizes["neuron"]
    labels = [str(one) for one in fit["neuron"].values]
    own = [label.removeprefix(f"{session}:") for label, session in zip(labels, sessions, strict=True)]
    return [row_of.get(str(unit), row_of.get(label)) for unit, label in zip(fit["unit_id"].values, own, strict=True)]


def _units_of(fit: xr.Dataset, nwbfile: Any) -> Any:
    """The units table of an NWBFile that the fit was read from; None if it has none."""
    if "file_units_object_id" in fit.variables:
        known = set(fit["file_units_object_id"].values.tolist())
        places = [module.data_interfaces for module in nwbfile.processing.values()]
        places += [nwbfile.analysis, nwbfile.acquisition, nwbfile.scratch]
        tables = [nwbfile.units, *(item for place in places for item in place.values())]
        found = next((one for one in tables if one is not None and one.object_id in known and hasattr(one, "id")), None)
        if found is not None:
            return found
    return nwbfile.units if fit.attrs.get("units_table", "units") == "units" else None


def _files_of(fit: xr.Dataset, nwbfile: Any) -> list[str] | None:
    """Those of the fit's files that are this NWBFile; None where the fit comes from one file and does not name it."""
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
