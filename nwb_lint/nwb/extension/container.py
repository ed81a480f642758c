"""Plain arrays (`codec.Stored`) as a pynwb container, to write; from a group of an open file, to read.

Reading uses h5py alone, or the same members of a Zarr group: it needs neither pynwb nor the extension.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.clock import Clock, clock_of
from nwb_lint.nwb.extension.codec import Setting, Stored, safe_name
from nwb_lint.nwb.storage.h5 import holds_text, is_dataset, is_group, load
from nwb_lint.rate_link import predicted_rates

_COMPRESS_BYTES = 32_768


def to_container(stored: Stored, dataset: xr.Dataset, name: str, *, network: Any = None, packed: bool = True) -> Any:
    """A new container of the stored arrays, not yet part of any file. That of a result points at its ``network``.

    ``packed`` compresses large arrays with gzip, for HDF5; Zarr compresses by itself.
    """
    classes = schema.get_classes()
    parts = _all_series(stored, dataset, packed)
    clock = clock_of(dataset) if parts else None
    for dim, table in schema.tables(stored.type).items():
        timed = clock if table.type == schema.INTERVALS_TYPE else None
        if timed is not None or any(path.startswith(f"{table.name}/") for path in stored.arrays):
            parts[table.name] = _table(stored, dim, table, packed, timed)
    if stored.settings:
        used: set[str] = set()
        settings = [_setting(setting, classes["FitAttribute"], used) for setting in stored.settings]
        parts["attributes"] = classes["FitAttributes"](name="attributes", fit_attributes=settings)
    parts |= {path: _packed(values, packed) for path, values in stored.arrays.items() if "/" not in path}
    known = schema.attributes(stored.type)
    for key, value in stored.attributes.items():
        parts[key] = np.int64(value) if known[key].dtype == "int" else value
    if network is not None:
        _check_class(network, classes[stored.type])
        parts["network"] = network
    return classes[stored.type](name=name, description=describe(dataset), **parts)


def _check_class(network: Any, cls: Any) -> None:
    """Raise ContractError unless the container of a result accepts this one of a network."""
    from hdmf.utils import get_docval

    if not isinstance(network, next(arg["type"] for arg in get_docval(cls.__init__) if arg["name"] == "network")):
        raise ContractError(
            f"{network.name} was read before ndx-lowrank was loaded, so it has other classes. A result needs those of "
            "ndx-lowrank. Read the file again."
        )


def add_unit_rows(container: Any, rows: list[int | None], units: Any) -> None:
    """Point each neuron at its row of the units table of the same file; None for a neuron that has no row there."""
    data = [[] if row is None else [row] for row in rows]
    doc = next(c["description"] for c in container.neurons.__columns__ if c["name"] == "unit")
    container.neurons.add_column(name="unit", description=doc, data=data, index=True, table=True)
    container.neurons["unit"].target.table = units


def describe(dataset: xr.Dataset) -> str:
    """One sentence on the fit or result, for readers who open the file."""
    if "kind" in dataset.attrs:
        sizes = ", ".join(f"{size} along {dim}" for dim, size in dataset.sizes.items())
        return f"{dataset.attrs['kind'].replace('_', ' ').capitalize()} of a fitted recurrent network: {sizes}."
    rank = f"rank {dataset.sizes['rank']}" if "rank" in dataset.sizes else "unconstrained connectivity"
    neurons, n = "neurons", dataset.sizes["neuron"]
    if "recorded" in dataset.variables and (hidden := int((~dataset["recorded"].values.astype(bool)).sum())):
        neurons, n = f"recorded neurons and {hidden} hidden units", n - hidden
    sizes = f"{n} {neurons}, {dataset.sizes['condition']} conditions, {dataset.sizes['time']} time bins"
    if dataset.attrs.get("method") == "converted":
        return f"Recurrent neural network of {rank}, from {dataset.attrs.get('converted_from', 'elsewhere')}: {sizes}."
    return f"Recurrent neural network of {rank}, fitted to recorded activity: {sizes}."


def read_group(group: h5py.Group) -> Stored:
    """The stored arrays of a group of an open file; columns of its tables by ``table/column``."""
    stored = Stored(_text(group.attrs["neurodata_type"]))
    known = {table.name for table in schema.tables(stored.type).values()}
    for name in group:
        if name == "network":
            continue
        item = group[name]
        if is_dataset(item):
            stored.arrays[name] = _values(item)
        elif name in schema.series(stored.type):
            stored.arrays[f"{name}/data"] = _by_condition(group, name)
        elif name in known:
            timed = _text(item.attrs.get("neurodata_type", "")) == schema.INTERVALS_TYPE
            further = {"unit", *(schema.CLOCK if timed else ())}
            for column in map(_text, item.attrs.get("colnames", [])):
                if column in item and column not in further:
                    stored.arrays[f"{name}/{column}"] = _values(item[column])
    own = schema.attributes(stored.type)
    stored.attributes = {name: _scalar(group.attrs[name]) for name in own if name in group.attrs}
    held = group.get("attributes", {})
    for item in (held[name] for name in held):
        variable = _text(item.attrs["variable"]) if "variable" in item.attrs else None
        setting = Setting(_text(item.attrs["key"]), _text(item.attrs["kind"]), _values(item), variable)
        stored.settings.append(setting)
    return stored


def _by_condition(group: h5py.Group, name: str) -> np.ndarray:
    """The values of a series as (condition, time, ...), by the number of rows of the conditions table."""
    table, series = group.get("conditions"), group[name]
    n_rows = len(table["id"]) if is_group(table) and "id" in table else 0
    values = _values(series["data"]) if "data" in series else None
    if values is None or not n_rows or not values.ndim or len(values) % n_rows:
        found = "no data" if values is None else f"data of the shape {values.shape} for {n_rows} conditions"
        raise ContractError(
            f"The series {name} has {found}. Each condition needs the same number of bins. Write the fit again from "
            "the Dataset that it came from."
        )
    scale, offset = (
        float(series["data"].attrs.get(key, default)) for key, default in (("conversion", 1), ("offset", 0))
    )
    if (scale, offset) != (1, 0):  # of other software: its data need not be in the unit of the series
        values = (values * scale + offset).astype(np.result_type(values.dtype, np.float32))
    return values.reshape(n_rows, len(values) // n_rows, *values.shape[1:])


def _all_series(stored: Stored, dataset: xr.Dataset, packed: bool) -> dict[str, Any]:
    """The series of a group by name. The first has the timestamps, and the others link to them."""
    classes, found = schema.get_classes(), dict[str, Any]()
    clock = clock_of(dataset) if {"condition", "time"} <= set(dataset.sizes) else None

    def add(name: str, values: np.ndarray, kind: str, doc: str, unit: str = "1") -> None:
        assert clock is not None
        rows = np.ascontiguousarray(values).reshape(len(clock.timestamps), *values.shape[2:])
        times = next(iter(found.values())) if found else _packed(clock.timestamps, packed)
        doc = f"{' '.join(doc.split())} {clock.doc}"
        data = _packed(rows, packed)
        found[name] = classes[kind](name=name, data=data, unit=unit, timestamps=times, description=doc)

    for name, known in schema.series(stored.type).items():
        if (values := stored.arrays.get(f"{name}/data")) is not None:
            add(name, values, known.type, known.doc)
    if stored.type == schema.FIT_TYPE and (rates := predicted_rates(dataset)) is not None:
        spec = next(one for one in schema.type_spec(stored.type)["groups"] if one["name"] == schema.RATES)
        add(schema.RATES, rates.astype(np.float32), spec["neurodata_type_inc"], spec["doc"], "Hz")
    return found


def _table(stored: Stored, dim: str, table: schema.Table, packed: bool, clock: Clock | None) -> Any:
    """The table of one dim, a column for each of its arrays. One with a clock has the times of its rows too."""
    from hdmf.common import VectorData

    classes = schema.get_classes()
    docs = {field.path: field.doc for field in schema.fields(stored.type).values()}
    columns = []
    for path, values in stored.arrays.items():
        group, _, name = path.partition("/")
        if group == table.name and name:
            doc = docs.get(path, f"{name} of each {dim}, from the recording.")
            columns.append(VectorData(name=name, description=doc, data=_packed(values, packed)))
    if clock is None:
        cls = classes["LowRankConditions" if table.type == schema.INTERVALS_TYPE else table.type]
    else:
        times = dict(zip(schema.CLOCK, (clock.start, clock.stop, clock.align), strict=True))
        spec = {one["name"]: one["doc"] for one in schema.type_spec(table.type)["datasets"]}
        own = {"start_time": "First edge of the bins, s.", "stop_time": "Last edge of the bins, s."} | spec
        columns = [VectorData(name=name, description=own[name], data=times[name]) for name in times] + columns
        cls = classes[table.type]
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


def _packed(values: np.ndarray, packed: bool) -> Any:
    """The array as hdmf takes it: text as a list, large numeric arrays compressed."""
    from hdmf.backends.hdf5 import H5DataIO

    if values.dtype.kind == "O":
        return values.tolist()
    if values.ndim == 0:
        return values[()]
    if values.nbytes < _COMPRESS_BYTES or not packed:
        return values
    return H5DataIO(values, compression="gzip", compression_opts=4, shuffle=True, chunks=_chunks(values))


def _chunks(values: np.ndarray) -> tuple[int, ...]:
    """Whole trailing dims, as many leading rows as make about 1 MB."""
    rows = max(1, round(2**20 / (values.nbytes / len(values))))
    return (min(rows, len(values)), *values.shape[1:])


def _values(item: h5py.Dataset) -> np.ndarray:
    """All the values of a dataset; text as an object array of str."""
    values = load(item)
    if not holds_text(item):
        return np.asarray(values)
    found = np.array(values, object)
    return np.array([_text(value) for value in found.ravel()], object).reshape(found.shape)


def _scalar(value: Any) -> Any:
    return _text(value) if isinstance(value, str | bytes) else np.asarray(value).ravel()[0].item()


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
