"""Fits as netCDF, for users without NWB: `export_netcdf`, `import_netcdf`.

Any netCDF library reads the file, and `import_netcdf` gives back the identical Dataset. netCDF has no bool, no text of
fixed width and no empty list as attribute. So what each variable and each attribute was in memory is stored in the
attributes ``nwb_lint_layout`` and ``nwb_lint_kinds``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit
from nwb_lint.contract.datasets import current_attribute, current_name
from nwb_lint.errors import MissingFileError, NWBError, NWBLintError, one_line
from nwb_lint.nwb.extension.codec import encode, layout, pack, restore, safe_name, unpack
from nwb_lint.nwb.extension.digest import KEY, checked, digest_of
from nwb_lint.nwb.extension.write import check_target, local_sources
from nwb_lint.nwb.storage.atomic import write_atomically
from nwb_lint.nwb.storage.checked_file import CheckedFile
from nwb_lint.nwb.storage.h5 import as_text, holds_text, is_dataset, load
from nwb_lint.parallel import opened

_LAYOUT = "nwb_lint_layout"
_KINDS = "nwb_lint_kinds"
_NAMED_AS_A_DIM = (
    "_nc4_non_coord_"  # before the name of a variable that has the name of a dim and is not its coordinate
)
# Attributes that netCDF keeps for itself.
_OF_NETCDF = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")
_COMPRESS_BYTES = 32_768


def export_netcdf(fit: xr.Dataset, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a fit to a netCDF file (HDF5 based), which is complete when its path appears.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `read_fit`.
    path : path
        The file to write.
    overwrite : bool, default=False
        Whether to replace a file that exists. A recording that the fit came from is never replaced.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    ContractError
        If the Dataset is not a fit.
    NWBError
        If the file exists already, is a recording that the fit came from, or cannot be written.

    Examples
    --------
    >>> from nwb_lint import read_fit
    >>> export_netcdf(read_fit("fit.nwb"), "model.nc")
    PosixPath('model.nc')
    """
    target = Path(path)
    plain = _plain(fit)
    check_target(target, local_sources(fit), overwrite)
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in plain.variables.items()
        if variable.nbytes >= _COMPRESS_BYTES and variable.dtype.kind in "biuf"
    }
    write_atomically(target, lambda temporary: _save(plain, temporary, encoding))
    return target


def import_netcdf(path: str | Path) -> xr.Dataset:
    """Read a fit from a netCDF file that `export_netcdf` wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    xarray.Dataset
        The fit, identical to the one that was exported.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file is not netCDF, or `export_netcdf` did not write it.
    ContractError
        If the file holds no fit.

    Examples
    --------
    >>> from nwb_lint import read_fit
    >>> fit = read_fit("fit.nwb")
    >>> import_netcdf(export_netcdf(fit, "copy.nc")).identical(fit)
    True
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such file. A file of export_netcdf is needed. Check the path.")
    try:
        plain = _load(Path(path))
    except (NWBLintError, Warning):
        raise
    except Exception as error:  # h5py raises of every kind where a file is damaged
        raise NWBError(f"{path} cannot be read as netCDF ({one_line(error)}). Pass a whole netCDF file.") from error
    if _LAYOUT not in plain.attrs:
        raise NWBError(f"{path} was not written by export_netcdf. Open it with xarray.open_dataset.")
    try:
        fit = _rebuild(plain)
    except Exception as error:  # of a layout or attributes that are not what they should be
        raise NWBError(f"{path} is inconsistent: {one_line(error)}. Export the fit again.") from error
    check_fit(fit)
    return fit


def _save(plain: xr.Dataset, path: Path, encoding: dict) -> None:
    """Write the file, made in memory: HDF5 itself cannot recover from a full disk."""
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    with h5py.File("new.nc", "w", driver="core", backing_store=False, track_order=True) as memory:
        with h5netcdf.File(memory, "a") as file:
            plain.dump_to_store(H5NetCDFStore(file), encoding=encoding)
        memory.flush()
        path.write_bytes(memory.id.get_file_image())


class _Plain(NamedTuple):
    """What a netCDF file holds."""

    variables: dict[str, xr.Variable]
    attrs: dict[str, Any]


def _load(path: Path) -> _Plain:
    """What a netCDF file holds, by h5py: h5netcdf crashes where the dims of a damaged file lead nowhere."""
    opened.note(path)
    with CheckedFile(path) as file:
        names = [name for name in file if is_dataset(item := file[name]) and not _is_only_dim(item)]
        variables = {name.removeprefix(_NAMED_AS_A_DIM): _variable(file, name) for name in names}
        return _Plain(variables, {key: _attribute(file.attrs[key]) for key in file.attrs})


def _is_only_dim(item: Any) -> bool:
    """Whether a dataset stands for a dim that has no variable."""
    return as_text(item.attrs.get("NAME", b"")).startswith("This is a netCDF dimension but not a netCDF variable")


def _variable(file: Any, name: str) -> xr.Variable:
    item = file[name]
    attrs = {key: _attribute(item.attrs[key]) for key in item.attrs if key not in _OF_NETCDF}
    if "DIMENSION_LIST" in item.attrs:
        dims = [as_text(file[axis[0]].name).lstrip("/") for axis in item.attrs["DIMENSION_LIST"]]
    else:
        dims = [name] if item.ndim == 1 else []
    dims = [dim.removeprefix(_NAMED_AS_A_DIM) for dim in dims]
    values = load(item)
    if holds_text(item):
        values = np.array([as_text(one) for one in np.ravel(values)], object).reshape(np.shape(values))
    if attrs.get("dtype") == "bool":  # as xarray writes it
        values = values.astype(bool)
    return xr.Variable(dims, values, attrs)


def _attribute(value: Any) -> Any:
    """An attribute as text, list of texts, number or array."""
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        texts = [as_text(one) for one in array.ravel()]
        return texts[0] if len(texts) == 1 else texts
    return array.ravel()[0] if array.size == 1 else array


def _plain(fit: xr.Dataset) -> xr.Dataset:
    """The fit with text as objects, names without ``/``, attributes that netCDF allows, and the layout."""
    stored = encode(fit)
    data: dict[str, xr.Variable] = {}
    coords: dict[str, xr.Variable] = {}
    lines = []
    for name, path, dtype, role in layout(stored):
        safe = safe_name(name)
        while safe in coords or safe in data or (safe != name and safe in fit.variables):
            safe += "_"
        variable = fit.variables[name]
        (coords if role == "coordinate" else data)[safe] = xr.Variable(
            variable.dims, stored.arrays[path], _plain_attrs(variable.attrs)
        )
        lines.append("\t".join((safe, dtype, role, name)))
    attrs = _plain_attrs(fit.attrs | {KEY: digest_of(fit, pack)}) | {_LAYOUT: "\n".join(lines)}
    return xr.Dataset(data, coords, attrs)


def _rebuild(plain: _Plain) -> xr.Dataset:
    """The Dataset that `_plain` was given, under today's names."""
    variables: dict[str, xr.Variable] = {}
    coords: list[str] = []
    for line in plain.attrs[_LAYOUT].split("\n"):
        safe, dtype, role, name = line.split("\t", 3)
        variable = plain.variables[safe]
        if name == safe and current_name(name, variable.ndim) != name:
            name = current_name(name, variable.ndim)
            role = "data" if name == "u" else role
        values = variable.values.astype(object) if dtype[1:2] == "U" else variable.values
        variables[name] = xr.Variable(variable.dims, restore(name, values, dtype), _rebuilt_attrs(variable.attrs))
        coords += [name] if role == "coordinate" else []
    attrs = {current_attribute(name): value for name, value in _rebuilt_attrs(plain.attrs).items()}
    kept = attrs.pop(KEY, plain.attrs.get(KEY))  # not among the kinds in files of 0.6.0
    return checked(xr.Dataset(variables, attrs=attrs).set_coords(coords), kept, pack)


def _plain_attrs(attrs: dict) -> dict[str, Any]:
    """Attributes that netCDF allows, and one more with the kind of each; that one alone has the empty lists."""
    plain: dict[str, Any] = {}
    kinds = []
    for key, value in attrs.items():
        kind, data = pack(str(key), value)
        kinds.append(f"{kind}\t{key}")
        if isinstance(data, str):
            plain[str(key)] = data
            continue
        array = np.atleast_1d(data)
        if array.size:
            array = array.astype(np.int8) if array.dtype.kind == "b" else array
            plain[str(key)] = [str(item) for item in array.ravel()] if array.dtype.kind == "O" else array
    return plain | ({_KINDS: "\n".join(kinds)} if kinds else {})


def _rebuilt_attrs(attrs: dict) -> dict[str, Any]:
    found = {}
    for line in attrs.get(_KINDS, "").split("\n"):
        kind, tab, key = line.partition("\t")
        if tab:
            data = attrs.get(key, np.zeros(0))
            found[key] = unpack(kind, np.array(data, object) if isinstance(data, str | list) else data)
    return found
