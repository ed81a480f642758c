"""`Stored` arrays ⇄ one LowRankRNN group: a pynwb container to write, an h5py group to read.

Reading goes through h5py alone: it needs neither pynwb nor the extension, only what lies in the file.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import xarray as xr

from nwb_lint.nwb import schema
from nwb_lint.nwb.codec import Setting, Stored, safe_name

_COMPRESS_BYTES = 32_768


def to_container(stored: Stored, fit: xr.Dataset, name: str) -> Any:
    """A new LowRankRNN container of the stored arrays, not yet part of any file. Large arrays are gzipped."""
    classes = schema.get_classes()
    parts: dict[str, Any] = {
        table.name: _table(stored, classes[table.type], dim, table)
        for dim, table in schema.tables().items()
        if any(path.startswith(f"{table.name}/") for path in stored.arrays)
    }
    if stored.settings:
        used: set[str] = set()
        settings = [_setting(setting, classes["FitAttribute"], used) for setting in stored.settings]
        parts["attributes"] = classes["FitAttributes"](name="attributes", fit_attributes=settings)
    parts |= {path: _packed(values) for path, values in stored.arrays.items() if "/" not in path}
    known = schema.attributes()
    for key, value in stored.attributes.items():
        parts[key] = np.int64(value) if known[key].dtype == "int64" else value
    return classes[schema.FIT_TYPE](name=name, description=describe(fit), **parts)


def add_unit_rows(container: Any, rows: list[int | None], units: Any) -> None:
    """Point each neuron at its row of a units table of the same file, ``None`` for a neuron that has none
    there."""
    data = [[] if row is None else [row] for row in rows]
    doc = next(c["description"] for c in container.neurons.__columns__ if c["name"] == "unit")
    container.neurons.add_column(name="unit", description=doc, data=data, index=True, table=True)
    container.neurons["unit"].target.table = units


def describe(fit: xr.Dataset) -> str:
    """One sentence on the fit, for people who open the file."""
    rank = f"rank {fit.sizes['rank']}" if "rank" in fit.sizes else "unconstrained connectivity"
    sizes = f"{fit.sizes['neuron']} neurons, {fit.sizes['condition']} conditions, {fit.sizes['time']} time bins"
    return f"Recurrent neural network of {rank}, fitted to recorded activity: {sizes}."


def read_group(group: h5py.Group) -> Stored:
    """The stored arrays of a LowRankRNN group of an open file; columns of its tables by ``table/column``."""
    stored = Stored()
    known = {table.name for table in schema.tables().values()}
    for name, item in group.items():
        if isinstance(item, h5py.Dataset):
            stored.arrays[name] = _values(item)
        elif name in known:
            for column in map(_text, item.attrs.get("colnames", [])):
                if column in item and column != "unit":
                    stored.arrays[f"{name}/{column}"] = _values(item[column])
    stored.attributes = {name: _scalar(group.attrs[name]) for name in schema.attributes() if name in group.attrs}
    for item in group["attributes"].values() if "attributes" in group else ():
        variable = _text(item.attrs["variable"]) if "variable" in item.attrs else None
        stored.settings.append(Setting(_text(item.attrs["key"]), _text(item.attrs["kind"]), _values(item), variable))
    return stored


def _table(stored: Stored, cls: Any, dim: str, table: schema.Table) -> Any:
    """The DynamicTable of one dim, a column for each of its arrays."""
    from hdmf.common import VectorData

    docs = {field.path: field.doc for field in schema.fields().values()}
    columns = []
    for path, values in stored.arrays.items():
        group, _, name = path.partition("/")
        if group == table.name and name:
            doc = docs.get(path, f"{name} of each {dim}, as the recording gave it.")
            columns.append(VectorData(name=name, description=doc, data=_packed(values)))
    names = [column.name for column in columns]
    return cls(name=table.name, description=table.doc, columns=columns, colnames=names)


def _setting(setting: Setting, cls: Any, used: set[str]) -> Any:
    """One FitAttribute, under a name that is safe in a file and not used yet."""
    name = safe_name(setting.key if setting.variable is None else f"{setting.variable}.{setting.key}")
    while name in used:
        name += "_"
    used.add(name)
    data = setting.data.item() if isinstance(setting.data, np.generic) else setting.data
    data = data.tolist() if isinstance(data, np.ndarray) and data.dtype.kind == "O" else data
    extra = {} if setting.variable is None else {"variable": setting.variable}
    return cls(name=name, key=setting.key, kind=setting.kind, data=data, **extra)


def _packed(values: np.ndarray) -> Any:
    """The array as hdmf takes it: text as a list, large numeric arrays compressed."""
    from hdmf.backends.hdf5 import H5DataIO

    if values.dtype.kind == "O":
        return values.tolist()
    if values.nbytes < _COMPRESS_BYTES:
        return values
    return H5DataIO(values, compression="gzip", compression_opts=4, shuffle=True, chunks=_chunks(values))


def _chunks(values: np.ndarray) -> tuple[int, ...]:
    """Whole trailing dims, as many leading rows as make about 1 MB."""
    rows = max(1, round(2**20 / (values.nbytes / len(values))))
    return (min(rows, len(values)), *values.shape[1:])


def _values(item: h5py.Dataset) -> np.ndarray:
    """All the values of a dataset; text as an object array of str."""
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.array(item.asstr()[()], object)
    return np.asarray(item[()])


def _scalar(value: Any) -> Any:
    return _text(value) if isinstance(value, str | bytes) else np.asarray(value).ravel()[0].item()


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
