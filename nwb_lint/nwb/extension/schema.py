"""The NWB extension ndx-lowrank: where its YAML lies, what it says, and the pynwb classes made of it.

The YAML is the one truth about the file: `fields`, `tables` and `attributes` of a type are what the codec walks.
A fit is a LowRankRNN; every kind of result (`nwb_lint.contract`) has a type of its own, `type_of`.
Reading them needs no pynwb; only `get_classes` does, and it loads the namespace once.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from nwb_lint.contract import current_name

NAMESPACE = "ndx-lowrank"
FIT_TYPE = "LowRankRNN"
LAYOUT_DIM = "variable"
_PAGES = ("ndx-lowrank.extensions.yaml", "ndx-lowrank.results.yaml")


class Field(NamedTuple):
    """One array of a type: its dims (alternatives, longest last), dtype, whether it must be there, and
    where."""

    dims: tuple[tuple[str, ...], ...]
    dtype: str
    required: bool
    doc: str
    path: str
    unit: str


class Table(NamedTuple):
    """The table of one dim: the group's name, the neurodata type, its doc, and whether it must be there."""

    name: str
    type: str
    doc: str
    required: bool


class Attribute(NamedTuple):
    """One attribute of a type's group: dtype, and whether it must be there."""

    dtype: str
    required: bool
    doc: str


def namespace_path() -> str:
    """Path of the namespace YAML, in the checkout or in the installed wheel."""
    return str(files("nwb_lint.schemas") / "ndx-lowrank.namespace.yaml")


@lru_cache(maxsize=1)
def version() -> str:
    """Version of the extension that this package writes, such as ``"0.1.0"``."""
    return str(_load("ndx-lowrank.namespace.yaml")["namespaces"][0]["version"])


@lru_cache(maxsize=1)
def types() -> tuple[str, ...]:
    """Every neurodata type of the extension, in the order of the YAML."""
    return tuple(_specs())


def type_of(kind: str) -> str:
    """The neurodata type of a kind of result.

    Example:
        >>> type_of("flow_field")
        'LowRankFlowField'
    """
    return "LowRank" + kind.title().replace("_", "")


@lru_cache(maxsize=32)
def fields(kind: str = FIT_TYPE) -> dict[str, Field]:
    """Every array of a type, by the name of its variable in memory, in the order of the YAML (layout and links left
    out).

    Three names differ: ``u``, ``u_burn_in`` and ``input`` in memory are ``input``, ``input_burn_in`` and ``input_name``
    in the file, as they were from the first version on.
    """
    found: dict[str, Field] = {}
    for spec in _parts(kind, "datasets"):
        field = _field(spec, spec["name"])
        found[current_name(spec["name"], max(map(len, field.dims)))] = field
    for table in tables(kind).values():
        for spec in type_spec(table.type)["datasets"]:
            if spec["neurodata_type_inc"] == "VectorData":
                found[spec["name"]] = _field(spec, f"{table.name}/{spec['name']}")
    return {name: field for name, field in found.items() if field.dims != ((LAYOUT_DIM,),)}


@lru_cache(maxsize=32)
def tables(kind: str = FIT_TYPE) -> dict[str, Table]:
    """The tables of a type, by the dim whose rows they hold: ``{"neuron": …, "condition": …}``."""
    found: dict[str, Table] = {}
    for group in _parts(kind, "groups"):
        held = group["neurodata_type_inc"]
        if type_spec(held)["neurodata_type_inc"] == "DynamicTable":
            dim = str(type_spec(held)["datasets"][0]["dims"][0])
            found[dim] = Table(group["name"], held, group["doc"], group.get("quantity", 1) == 1)
    return found


@lru_cache(maxsize=32)
def attributes(kind: str = FIT_TYPE) -> dict[str, Attribute]:
    """The attributes of a type's group that are also attributes of the Dataset (``description`` is the
    file's)."""
    return {
        spec["name"]: Attribute(spec["dtype"], spec.get("required", True), spec["doc"])
        for spec in _parts(kind, "attributes")
        if spec["name"] != "description"
    }


@lru_cache(maxsize=1)
def get_classes() -> dict[str, Any]:
    """The pynwb classes of the extension, made from the YAML: the same that pynwb makes from a file's cached
    spec."""
    import pynwb

    pynwb.load_namespaces(namespace_path())
    return {name: pynwb.get_class(name, NAMESPACE) for name in types()}


def teach(io: Any) -> None:
    """Let an open pynwb IO know the extension: one that was opened before would write our types as core ones."""
    import pynwb

    get_classes()
    known, ours = io.manager.type_map, pynwb.get_type_map()
    if NAMESPACE not in known.namespace_catalog.namespaces:
        known.namespace_catalog.add_namespace(NAMESPACE, ours.namespace_catalog.get_namespace(NAMESPACE))
        known.merge(ours)


def type_spec(name: str) -> Any:
    """The definition of one neurodata type, as the YAML has it: without what it has of the type that it extends."""
    return _specs()[name]


def _parts(name: str, what: str) -> list[Any]:
    """The datasets, groups or attributes of a type, those of a type of ours that it extends last."""
    spec = type_spec(name)
    base = spec["neurodata_type_inc"]
    return spec.get(what, []) + (_parts(base, what) if base in _specs() else [])


@lru_cache(maxsize=1)
def _specs() -> dict[str, Any]:
    """The definition of every neurodata type."""
    specs = [spec for page in map(_load, _PAGES) for spec in page.get("datasets", []) + page["groups"]]
    return {spec["neurodata_type_def"]: spec for spec in specs}


@lru_cache(maxsize=4)
def _load(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((files("nwb_lint.schemas") / name).read_text("utf-8"))


def _field(spec: dict, path: str) -> Field:
    dims = spec.get("dims", [])  # none: one number
    dims = dims if dims and isinstance(dims[0], list) else [dims]
    unit = next((a["value"] for a in spec.get("attributes", []) if a["name"] == "unit"), "")
    required = spec.get("quantity", 1) == 1
    return Field(tuple(tuple(d) for d in dims), spec["dtype"], required, spec["doc"], path, unit)
