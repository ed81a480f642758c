"""The NWB extension ndx-lowrank: where its YAML lies, what it says, and the pynwb classes made of it.

The YAML is the one truth about the file: `fields`, `tables` and `attributes` are what the codec walks.
Reading them needs no pynwb; only `get_classes` does, and it loads the namespace once.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ruamel.yaml import YAML

NAMESPACE = "ndx-lowrank"
FIT_TYPE = "LowRankRNN"
TYPES = ("LowRankRNN", "LowRankNeurons", "LowRankConditions", "FitAttributes", "FitAttribute")
LAYOUT_DIM = "variable"


class Field(NamedTuple):
    """One array of the fit: its dims (alternatives, longest last), dtype, whether it must be there, and
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
    """One attribute of the fit's group: dtype, and whether it must be there."""

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
def fields() -> dict[str, Field]:
    """Every array of a fit, by the name of its variable, in the order of the YAML (layout and links left
    out)."""
    found: dict[str, Field] = {}
    for spec in _type(FIT_TYPE)["datasets"]:
        found[spec["name"]] = _field(spec, spec["name"])
    for table in tables().values():
        for spec in _type(table.type)["datasets"]:
            if spec["neurodata_type_inc"] == "VectorData":
                found[spec["name"]] = _field(spec, f"{table.name}/{spec['name']}")
    return {name: field for name, field in found.items() if field.dims != ((LAYOUT_DIM,),)}


@lru_cache(maxsize=1)
def tables() -> dict[str, Table]:
    """The tables of a fit, by the dim whose rows they hold: ``{"neuron": …, "condition": …}``."""
    found: dict[str, Table] = {}
    for group in _type(FIT_TYPE)["groups"]:
        kind = group["neurodata_type_inc"]
        if _type(kind)["neurodata_type_inc"] == "DynamicTable":
            dim = str(_type(kind)["datasets"][0]["dims"][0])
            found[dim] = Table(group["name"], kind, group["doc"], group.get("quantity", 1) == 1)
    return found


@lru_cache(maxsize=1)
def attributes() -> dict[str, Attribute]:
    """The attributes of a fit's group that are also attributes of the Dataset (``description`` is the
    file's)."""
    specs = _type(FIT_TYPE)["attributes"]
    return {
        spec["name"]: Attribute(spec["dtype"], spec.get("required", True), spec["doc"])
        for spec in specs
        if spec["name"] != "description"
    }


@lru_cache(maxsize=1)
def get_classes() -> dict[str, Any]:
    """The pynwb classes of the extension, made from the YAML: the same that pynwb makes from a file's cached
    spec."""
    import pynwb

    pynwb.load_namespaces(namespace_path())
    return {name: pynwb.get_class(name, NAMESPACE) for name in TYPES}


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((files("nwb_lint.schemas") / name).read_text("utf-8"))


@lru_cache(maxsize=8)
def _type(name: str) -> Any:
    """The definition of one neurodata type."""
    page = _load("ndx-lowrank.extensions.yaml")
    return next(spec for spec in page["groups"] + page["datasets"] if spec["neurodata_type_def"] == name)


def _field(spec: dict, path: str) -> Field:
    dims = spec["dims"] if isinstance(spec["dims"][0], list) else [spec["dims"]]
    unit = next((a["value"] for a in spec.get("attributes", []) if a["name"] == "unit"), "")
    required = spec.get("quantity", 1) == 1
    return Field(tuple(tuple(d) for d in dims), spec["dtype"], required, spec["doc"], path, unit)
