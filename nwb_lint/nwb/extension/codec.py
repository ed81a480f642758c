"""A Dataset as plain arrays, and back: `encode` and `decode`, both in memory.

The YAML of the extension (`schema.fields`) says where each variable goes. So a variable that is added to the YAML is
encoded with no change here. Other coordinates become columns of the table of their dim, and attributes that the YAML
does not have become settings. A layout (name, path, dtype and role of every variable) is stored with the arrays. With
it, ``decode(encode(fit))`` is identical to ``fit``, dtypes and the order of coordinates included. Arrays without a
layout, from other software, are decoded by the YAML alone.

An attribute is stored as a kind and plain data: `pack` and `unpack`. The kind is a short text such as ``"float"``,
``"list of str"`` or ``"numpy <f4"``, so that the same type comes back. NWB and netCDF both use it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.datasets import FIT, current_attribute, current_name
from nwb_lint.contract.results import RESULTS
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.digest import KEY, checked, digest_of

_SIMULATED = ("activity_pred", "latent", "filtered_input")  # what the network does when it runs
_LAYOUT = ("layout_name", "layout_path", "layout_dtype", "layout_role")
_FLOATS = {"float32": np.float32, "float64": np.float64}
_ATTRIBUTE_TYPES: dict[str, type] = {"text": str, "float64": float, "int": int}
_PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
_PLAIN_TYPES: dict[str, Any] = {name: plain for plain, name in _PLAIN.items()}
_CONTAINERS: dict[type, str] = {list: "list of ", tuple: "tuple of "}


class Setting(NamedTuple):
    """One attribute of the Dataset, or of one of its variables, as `pack` gives it."""

    key: str
    kind: str
    data: Any
    variable: str | None = None


@dataclass
class Stored:
    """What one group of a file holds: arrays by path (``"m"``, ``"neurons/unit_id"``), attributes, settings."""

    type: str = schema.FIT_TYPE
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    settings: list[Setting] = field(default_factory=list)


class LayoutRow(NamedTuple):
    """One variable of a Dataset: name, path in the group, dtype in memory (``""`` = as stored), data or coordinate."""

    name: str
    path: str
    dtype: str
    role: str


def encode(dataset: xr.Dataset) -> Stored:
    """A fit, or a result (its attribute ``kind`` names the table in `nwb_lint.contract.results`), as plain arrays.

    Raises ContractError where the Dataset is neither, or where it holds a variable, coordinate or attribute that the
    extension has no place for; the message names it.
    """
    stored = Stored(check_type(dataset))
    if not isinstance(dataset.attrs.get("nonlinearity", ""), str):
        raise ContractError(
            "The nonlinearity is a pair of functions. A file holds only the name of a nonlinearity. Fit with one that "
            "has a name, such as nonlinearity='tanh', or keep the fit in memory."
        )
    rows: list[LayoutRow] = []
    for name, path in _paths(dataset, stored.type).items():
        variable = dataset.variables[name]
        stored.arrays[path] = _encode_array(name, variable.values, _field_at(stored.type, name, path))
        role = "coordinate" if name in dataset.coords else "data"
        rows.append(LayoutRow(name, path, _dtype_name(variable.dtype), role))
        stored.settings += [Setting(str(k), *pack(f"{name}.{k}", v), name) for k, v in variable.attrs.items()]
    for column, part in zip(_LAYOUT, zip(*rows, strict=True), strict=True):
        stored.arrays[column] = np.array(part, object)
    _encode_attributes(dataset.attrs, stored)
    stored.settings.append(Setting(KEY, *pack(KEY, digest_of(dataset, pack))))
    return stored


def decode(stored: Stored) -> xr.Dataset:
    """The Dataset that was encoded, identical. Arrays without a layout are decoded by the YAML alone.

    Variables and attributes that had other names in earlier versions get today's names. Raises ContractError, one
    line that names every field that does not suit the others or the schema.
    """
    as_written = stored
    stored = _with_current_names(stored)
    variables: dict[str, xr.Variable] = {}
    coords: list[str] = []
    sizes: dict[str, tuple[int, str]] = {}
    problems: list[str] = []
    for row in layout(stored):
        try:
            variable = _decode_array(row, stored)
        except ValueError as error:
            problems.append(str(error))
            continue
        for dim, size in zip(variable.dims, variable.shape, strict=True):
            known, first = sizes.setdefault(str(dim), (size, row.name))
            if known != size:
                problems.append(f"{row.name} has {size} along {dim} where {first} has {known}")
        variables[row.name] = variable
        coords += [row.name] if row.role == "coordinate" else []
    attrs = dict(stored.attributes)
    for setting in stored.settings:
        problems += _decode_setting(setting, attrs, variables)
    kept = attrs.pop(KEY, None)
    if problems:
        raise ContractError("; ".join(problems) + ". Write the fit again from the Dataset that it came from.")
    if stored.type != schema.FIT_TYPE:
        attrs.setdefault("kind", _kind_of(stored.type))
    dataset = xr.Dataset(variables, attrs=attrs).set_coords(coords)  # in their order, which is also that of the dims
    if (found := check_type(dataset)) != stored.type:
        raise ContractError(f"kind is {attrs.get('kind')!r} in a group of type {stored.type}. That kind is {found}.")
    return checked(dataset, kept if _as_digested(stored, as_written) else None, pack)


def check_type(dataset: xr.Dataset) -> str:
    """The neurodata type of a fit or a result; ContractError where it does not keep its contract."""
    if getattr(dataset, "attrs", {}).get("kind") in RESULTS:
        return schema.type_of(check_result(dataset))
    check_fit(dataset)
    for name in _SIMULATED:
        bad = np.count_nonzero(~np.isfinite(dataset[name].values)) if name in dataset.variables else 0
        if bad:
            raise ContractError(
                f"{name} of the fit has {bad} values that are not finite. A file holds only networks whose activity "
                "stays finite. Fit again."
            )
    return schema.FIT_TYPE


def layout(stored: Stored) -> list[LayoutRow]:
    """Every variable of the stored arrays, from their layout, or from the YAML where they have none."""
    if "layout_name" in stored.arrays:
        absent = [name for name in _LAYOUT if name not in stored.arrays]
        lengths = {stored.arrays[name].shape for name in _LAYOUT if name not in absent}
        if absent or len(lengths) != 1:
            problem = f"{', '.join(absent)} missing" if absent else "its columns differ in length"
            raise ContractError(f"The layout is broken ({problem}). Write the fit again.")
        parts = [stored.arrays[name].tolist() for name in _LAYOUT]
        return [LayoutRow(*map(str, row)) for row in zip(*parts, strict=True)]
    table = FIT if stored.type == schema.FIT_TYPE else RESULTS[_kind_of(stored.type)]
    found = []
    for name, known in schema.fields(stored.type).items():
        path = known.path if known.path in stored.arrays else known.former
        if path in stored.arrays:
            is_data = name in table and name not in {dim for dims in known.dims for dim in dims}
            found.append(LayoutRow(name, path, "", "data" if is_data else "coordinate"))
    paths = {row.path for row in found}
    columns = [path for path in stored.arrays if "/" in path and path not in paths]
    return found + [LayoutRow(path.partition("/")[2], path, "", "coordinate") for path in columns]


def safe_name(name: str) -> str:
    """The name without the characters that a name in an NWB file may not have."""
    return re.sub(r"[/\\:\0]", "_", name).strip(".") or "_"


# -- arrays -----------------------------------------------------------------------------------------------------------


def _paths(dataset: xr.Dataset, kind: str) -> dict[str, str]:
    """Where each variable goes: its place in the YAML, else a column of the table of its dim."""
    paths: dict[str, str] = {}
    homeless = []
    fields = schema.fields(kind)
    for key, variable in dataset.variables.items():
        name, dims = str(key), tuple(map(str, variable.dims))
        known = fields.get(name)
        table = schema.tables(kind).get(dims[0]) if len(dims) == 1 else None
        if name == "unit_id" and variable.dtype.kind in "UOT" and table is not None:  # the YAML has whole numbers there
            paths[name] = f"{table.name}/{name}_text"
        elif known is not None and dims in known.dims and isinstance(key, str):
            paths[name] = known.path
        elif table is not None and name in dataset.coords and isinstance(key, str):
            paths[name] = f"{table.name}/{name}"
        else:
            homeless.append(f"{name} ({', '.join(dims)})")
    if homeless:
        rows = f" and coordinates on {' and '.join(schema.tables(kind))}" if schema.tables(kind) else ""
        raise ContractError(
            f"The {'fit' if kind == schema.FIT_TYPE else 'result'} holds {'; '.join(homeless)}. ndx-lowrank has a "
            f"place for variables of the contract{rows} only. Drop the others with drop_vars(...)."
        )
    taken = {field.path for field in fields.values()}
    for name in [name for name, path in paths.items() if _field_at(kind, name, path) is None]:
        paths[name] = _free(paths[name], taken)
        taken.add(paths[name])
    return paths


def _field_at(kind: str, name: str, path: str) -> schema.Field | None:
    """The definition of the variable at a path in the YAML; None for a further column, whatever its name."""
    field = schema.fields(kind).get(name)
    return field if field is not None and path in (field.path, field.former or field.path) else None


def _free(path: str, taken: set[str]) -> str:
    """The column's path, changed where HDF5 or a table cannot have a column of that name."""
    from pynwb.epoch import TimeIntervals

    reserved = {"unit", "unit_index", "colnames", *schema.CLOCK, *(one["name"] for one in TimeIntervals.__columns__)}
    group, _, name = path.partition("/")
    name = safe_name(name)
    while f"{group}/{name}" in taken or name.removesuffix("_index") in reserved or hasattr(TimeIntervals, name):
        name += "_"
    return f"{group}/{name}"


def _kind_of(type_name: str) -> str:
    """The kind of result that a neurodata type is for."""
    return next(kind for kind in RESULTS if schema.type_of(kind) == type_name)


def _encode_array(name: str, values: np.ndarray, known: schema.Field | None) -> np.ndarray:
    """The values in the dtype of the YAML or wider, native byte order; text as an object array of str."""
    kind = values.dtype.kind
    accepted = {"text": "UOT", "bool": "b", "int": "iu"}.get(known.dtype, "f") if known else "UOTbiuf"
    if kind not in accepted or (kind == "f" and values.dtype.itemsize > 8):
        need = known.dtype if known else "text, bool, integer or float"
        raise ContractError(f"{name} is {values.dtype}. ndx-lowrank needs {need}. Cast it.")
    if kind in "UOT":
        return _texts(name, values)
    if kind == "f":
        least = _FLOATS.get(known.dtype, np.float32) if known else np.float32
        return values.astype(np.promote_types(values.dtype.newbyteorder("="), least))
    if kind in "iu" and known:
        whole = values.astype(np.int64)
        if (whole < 0).any() and kind == "u":
            raise ContractError(f"{name} holds integers of more than 63 bits. HDF5 needs 63 bits here. Renumber them.")
        return whole
    return values.astype(values.dtype.newbyteorder("="))


def _decode_array(row: LayoutRow, stored: Stored) -> xr.Variable:
    """The variable of a row of the layout; ValueError says what is wrong with it."""
    name, path, dtype, _ = row
    if path not in stored.arrays:
        raise ValueError(f"{name} is missing ({path})")
    values = stored.arrays[path]
    known = _field_at(stored.type, name, path)
    group = path.partition("/")[0]
    table_dims = [((dim,),) for dim, table in schema.tables(stored.type).items() if table.name == group]
    if known is None and not table_dims:
        raise ValueError(f"{name} ({path}) is not in this version of ndx-lowrank")
    alternatives = known.dims if known else table_dims[0]
    dims = next((d for d in alternatives if len(d) == values.ndim), None)
    if dims is None:
        raise ValueError(f"{name} has {values.ndim} dims where ({', '.join(alternatives[0])}) is needed")
    if dtype == "" and values.dtype.kind == "O":
        return xr.Variable(dims, values.astype(str))
    return xr.Variable(dims, values if dtype == "" else restore(name, values, dtype))


def restore(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    """The values in the dtype that they had in memory; ValueError where they cannot have it."""
    if dtype == "object":
        return values.astype(object)
    if dtype == "StringDType":
        return values.astype(np.dtypes.StringDType())
    try:
        wanted = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"{name} has {dtype!r} for a dtype") from error
    if (wanted.kind == "U") != (values.dtype.kind == "O"):
        raise ValueError(f"{name} is {values.dtype} where {dtype} is needed")
    return values.astype(wanted)


def _dtype_name(dtype: np.dtype) -> str:
    """The dtype as the layout names it; `restore` reads it."""
    return {"O": "object", "T": "StringDType"}.get(dtype.kind, dtype.str)


def _with_current_names(stored: Stored) -> Stored:
    """The same arrays and settings under today's names of variables and attributes."""
    arrays, names = dict(stored.arrays), {}
    if all(name in arrays for name in ("layout_name", "layout_path", "layout_role")):
        rows = list(zip(*(arrays[f"layout_{one}"].tolist() for one in ("name", "path", "role")), strict=False))
        # a file of today names a variable and its path differently where they were the same in earlier versions
        names = {n: current_name(n, arrays[path].ndim) for n, path, _ in rows if n == path and path in arrays}
        arrays["layout_name"] = np.array([names.get(n, n) for n, _, _ in rows], object)
        arrays["layout_role"] = np.array(["data" if names.get(n) == "u" else role for n, _, role in rows], object)
    settings = [
        setting._replace(key=current_attribute(setting.key))
        if setting.variable is None
        else setting._replace(variable=names.get(setting.variable, setting.variable))
        for setting in stored.settings
    ]
    return Stored(stored.type, arrays, stored.attributes, settings)


def _as_digested(stored: Stored, as_written: Stored) -> bool:
    """Whether names and dtypes are those that the digest in a file is of: not renamed since, and with a layout."""
    names = [np.asarray(one.arrays.get("layout_name", [])).tolist() for one in (stored, as_written)]
    keys = [[(one.key, one.variable) for one in each.settings] for each in (stored, as_written)]
    return "layout_name" in stored.arrays and names[0] == names[1] and keys[0] == keys[1]


# -- attributes -------------------------------------------------------------------------------------------------------


def _encode_attributes(attrs: dict, stored: Stored) -> None:
    """Put attributes of the YAML into the group, with a setting beside those whose type is not the YAML's own."""
    known = schema.attributes(stored.type)
    for key, value in attrs.items():
        name = str(key)
        kind, data = pack(name, value)
        if name in known and value != "":
            cast = _ATTRIBUTE_TYPES[known[name].dtype]
            is_text = isinstance(value, str)
            if is_text != (cast is str) or np.ndim(value) or (not is_text and cast(value) != value):
                raise ContractError(f"Attribute {name} is {value!r}. ndx-lowrank needs {known[name].dtype}.")
            stored.attributes[name] = cast(value)
            if type(value) is cast:
                continue
        stored.settings.append(Setting(name, kind, data))


def _decode_setting(setting: Setting, attrs: dict, variables: dict) -> list[str]:
    """Put one setting into the attributes of the Dataset or of its variable; a text where that fails."""
    try:
        value = unpack(setting.kind, setting.data)
    except (ValueError, TypeError, IndexError) as error:
        return [f"attribute {setting.key}: {error}"]
    if setting.variable is None:
        attrs[setting.key] = value
    elif setting.variable in variables:
        variables[setting.variable].attrs[setting.key] = value
    return []


def pack(name: str, value: Any) -> tuple[str, Any]:
    """``(kind, data)`` of the attribute ``name``; data is a text, a number, or an array of either.

    Raises ContractError where the value is none of these (None, a dict, a list that mixes texts and numbers).
    """
    if type(value) in _CONTAINERS:
        return _pack_many(name, value)
    if isinstance(value, np.ndarray) and value.ndim:
        if value.dtype.kind not in "biufU":
            raise _refusal(name, value)
        data = _texts(name, value) if value.dtype.kind == "U" else _portable(value)
        return f"array of {value.dtype.str}", data
    kind = _kind(name, value)
    if isinstance(value, str):
        return kind, _texts(name, np.array([str(value)], object))[0]
    return kind, _portable(_number(name, value))[()]


def unpack(kind: str, data: Any) -> Any:
    """The value that was packed, with its type; ValueError where the kind is unknown or does not suit the data."""
    for container, prefix in _CONTAINERS.items():
        if kind.startswith(prefix):
            items = np.asarray(data).ravel().tolist()
            kinds = kind.removeprefix(prefix).split(", ")
            if len(kinds) == 1:
                kinds *= len(items)
            return container(_cast(k, item) for k, item in zip(kinds, items, strict=True))
    if kind.startswith("array of "):
        return np.asarray(data).astype(_dtype(kind.removeprefix("array of ")))
    return _cast(kind, np.asarray(data, object if kind == "str" else None).ravel()[0])


def _pack_many(name: str, value: list | tuple) -> tuple[str, Any]:
    kinds = [_kind(name, item) for item in value]
    prefix = _CONTAINERS[type(value)]
    if not kinds:
        return prefix, np.zeros(0)
    is_text = [isinstance(item, str) for item in value]
    if any(is_text) and not all(is_text):
        raise ContractError(f"Attribute {name} mixes texts and numbers: {value!r}. Use texts alone or numbers alone.")
    kind = prefix + (kinds[0] if len(set(kinds)) == 1 else ", ".join(kinds))
    if all(is_text):
        return kind, _texts(name, np.array([str(item) for item in value], object))
    data = np.array([_number(name, item) for item in value])
    if data.dtype.kind == "f" and any(int(d) != item for d, item in zip(data, value, strict=True) if _is_whole(item)):
        raise ContractError(f"Attribute {name} mixes fractions with integers too large for them: {value!r}.")
    return kind, _portable(data)


def _kind(name: str, value: Any) -> str:
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if isinstance(value, np.str_):
        return "numpy str"
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return f"numpy {value.dtype.str}"
    if isinstance(value, np.ndarray) and not value.ndim and value.dtype.kind in "biuf":
        return f"array0 {value.dtype.str}"
    raise _refusal(name, value)


def _cast(kind: str, item: Any) -> Any:
    if kind in _PLAIN_TYPES:
        return _PLAIN_TYPES[kind](item)
    if kind == "numpy str":
        return np.str_(item)
    word, _, dtype = kind.partition(" ")
    if word == "numpy":
        return _dtype(dtype).type(item)
    if word == "array0":
        return np.array(item, _dtype(dtype))
    raise ValueError(f"kind {kind!r} of an attribute is not known")


def _texts(name: str, values: np.ndarray) -> np.ndarray:
    """The texts as an object array; ContractError for what is no text or what HDF5 cannot hold."""
    out = np.empty(values.shape, object)
    for where, value in np.ndenumerate(values):
        if not isinstance(value, str):
            raise ContractError(f"{name} holds {value!r} where text is needed. Make every entry a str.")
        if "\0" in value or not _is_unicode(value):
            raise ContractError(f"{name} holds {value!r}, which HDF5 cannot store as text. Remove the characters.")
        out[where] = str(value)
    return out


def _number(name: str, value: Any) -> np.ndarray:
    """The number as an array of no dims; integers must fit 64 bits."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ContractError(f"Attribute {name} is {value!r}, an integer of more than 64 bits. Store it as text.")
    return array


def _portable(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that every reader has: native byte order, floats of 32 or 64 bits."""
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    return array.astype(array.dtype.newbyteorder("="))


def _is_whole(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _dtype(text: str) -> np.dtype:
    try:
        return np.dtype(text)
    except TypeError as error:
        raise ValueError(f"{text!r} is not a dtype") from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refusal(name: str, value: Any) -> ContractError:
    return ContractError(
        f"Attribute {name} is {value!r} ({type(value).__name__}). A file holds text, numbers and lists of them."
    )
