"""Fits as netCDF, for users without NWB: `export_netcdf`, `import_netcdf`.

Any netCDF library reads the file, and `import_netcdf` gives back the identical Dataset. netCDF has no bool, no text of
fixed width and no empty list as attribute. So what each variable and each attribute was in memory is stored in the
attributes ``nwb_lint_layout`` and ``nwb_lint_kinds``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_fit, current_attribute, current_name
from nwb_lint.errors import MissingFileError, NWBError
from nwb_lint.nwb.extension.codec import encode, layout, pack, restore, safe_name, unpack
from nwb_lint.nwb.extension.digest import KEY, checked, digest_of
from nwb_lint.nwb.extension.write import check_target, local_sources
from nwb_lint.nwb.storage.atomic import write_atomically

_LAYOUT = "nwb_lint_layout"
_KINDS = "nwb_lint_kinds"
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
        plain = xr.load_dataset(path, engine="h5netcdf", decode_times=False, decode_timedelta=False)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise NWBError(f"{path} cannot be read as netCDF ({error}). Pass a whole netCDF file.") from error
    if _LAYOUT not in plain.attrs:
        raise NWBError(f"{path} was not written by export_netcdf. Open it with xarray.open_dataset.")
    try:
        fit = _rebuild(plain)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NWBError(f"{path} is inconsistent: {error}. Export the fit again.") from error
    check_fit(fit)
    return fit


def _save(plain: xr.Dataset, path: Path, encoding: dict) -> None:
    plain.to_netcdf(path, engine="h5netcdf", encoding=encoding)


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
    attrs = _plain_attrs(fit.attrs) | {_LAYOUT: "\n".join(lines), KEY: digest_of(fit, pack)}
    return xr.Dataset(data, coords, attrs)


def _rebuild(plain: xr.Dataset) -> xr.Dataset:
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
    return checked(xr.Dataset(variables, attrs=attrs).set_coords(coords), plain.attrs.get(KEY), pack)


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
