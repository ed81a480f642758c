"""The NWB extension ndx-lowrank: what its YAML defines, and the pynwb classes that are made of it.

The codec writes and reads what `fields`, `tables` and `attributes` of a type list. A fit has the type LowRankRNN;
every kind of result (`nwb_lint.contract.results`) has a type of its own (`type_of`). Only `get_classes` and `register`
need pynwb.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from nwb_lint.contract.datasets import current_name
from nwb_lint.errors import NWBError

NAMESPACE = "ndx-lowrank"
FIT_TYPE = "LowRankRNN"
LAYOUT_DIM = "variable"
INTERVALS_TYPE = "LowRankIntervals"
CLOCK = ("start_time", "stop_time", "align_time")  # columns of the conditions that no Dataset has
# The variable (condition, time, ...) that each series (time, ...) holds. Files before 0.7.0 have arrays in their place.
SERIES = {
    "inputs": "input", "predicted_activity": "activity_pred", "latents": "latent", "filtered_inputs": "filtered_input",
    "latent_covariances": "latent_cov", "projections": "projection", "data_latents": "latent_data",
    "latents_low": "latent_low", "latents_high": "latent_high", "currents": "current", "drives": "drive",
    "drives_low": "drive_low", "drives_high": "drive_high",
    "observed_behavior": "behavior", "predicted_behavior": "behavior_pred", "decoded_behavior": "decoded",
    "decoded_behavior_low": "decoded_low", "decoded_behavior_high": "decoded_high",
    "decoded_behavior_plain": "decoded_plain",
}  # fmt: skip
RATES = "predicted_rates"  # a series that follows from the others
_PAGES = ("ndx-lowrank.extensions.yaml", "ndx-lowrank.results.yaml")


class Field(NamedTuple):
    """One array of a type: dims (alternatives, the longest last), dtype, required or not, path in the group, unit.

    ``former`` is its path in files before 0.7.0, for a series.
    """

    dims: tuple[tuple[str, ...], ...]
    dtype: str
    required: bool
    doc: str
    path: str
    unit: str
    former: str = ""


class Table(NamedTuple):
    """The table of one dim: name of the group, neurodata type, doc, required or not."""

    name: str
    type: str
    doc: str
    required: bool


class Attribute(NamedTuple):
    """One attribute of a type's group: dtype, required or not, doc."""

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

    Examples
    --------
    >>> type_of("flow_field")
    'LowRankFlowField'
    """
    return "LowRank" + kind.title().replace("_", "")


@lru_cache(maxsize=32)
def fields(kind: str = FIT_TYPE) -> dict[str, Field]:
    """Every array of a type by the name of its variable, in the order of the YAML, without the layout and the links.

    Three variables have other names in the file, the same in all versions: ``u``, ``u_burn_in`` and ``input`` are
    stored as ``input``, ``input_burn_in`` and ``input_name``.
    """
    found: dict[str, Field] = {}
    for spec in _parts(kind, "datasets"):
        field = _field(spec, spec["name"])
        found[current_name(spec["name"], max(map(len, field.dims)))] = field
    for name, table in series(kind).items():
        former = SERIES[name]
        earlier = _field(next(one for one in _parts(kind, "datasets") if one["name"] == former), former)
        place = earlier._replace(path=f"{name}/data", doc=table.doc, former=former)
        found[current_name(former, len(earlier.dims[0]))] = place
    for table in tables(kind).values():
        for spec in type_spec(table.type)["datasets"]:
            if spec["neurodata_type_inc"] == "VectorData" and spec["name"] not in CLOCK:
                found[spec["name"]] = _field(spec, f"{table.name}/{spec['name']}")
    return {name: field for name, field in found.items() if field.dims != ((LAYOUT_DIM,),)}


@lru_cache(maxsize=32)
def tables(kind: str = FIT_TYPE) -> dict[str, Table]:
    """The tables of a type by the dim that their rows stand for: ``{"neuron": …, "condition": …}``."""
    found: dict[str, Table] = {}
    for group in _parts(kind, "groups"):
        type_name = group["neurodata_type_inc"]
        type_name = INTERVALS_TYPE if type_name == "DynamicTable" else type_name
        if type_spec(type_name)["neurodata_type_inc"] in ("DynamicTable", "TimeIntervals"):
            dim = str(type_spec(type_name)["datasets"][0]["dims"][0])
            found[dim] = Table(group["name"], type_name, group["doc"], group.get("quantity", 1) == 1)
    return found


@lru_cache(maxsize=32)
def series(kind: str = FIT_TYPE) -> dict[str, Table]:
    """The series of a type that hold a variable, by the name of their group."""
    groups = {group["name"]: group for group in _parts(kind, "groups")}
    return {
        name: Table(name, groups[name]["neurodata_type_inc"], groups[name]["doc"], False)
        for name in groups
        if name in SERIES
    }


@lru_cache(maxsize=32)
def attributes(kind: str = FIT_TYPE) -> dict[str, Attribute]:
    """The attributes of a type's group that are also attributes of the Dataset: all but ``description``."""
    return {
        spec["name"]: Attribute(spec["dtype"], spec.get("required", True), spec["doc"])
        for spec in _parts(kind, "attributes")
        if spec["name"] != "description"
    }


@lru_cache(maxsize=1)
def get_classes() -> dict[str, Any]:
    """The pynwb classes of the extension, made from the YAML: those that pynwb makes from the schema in a file."""
    import pynwb

    loaded = pynwb.get_type_map().namespace_catalog
    if NAMESPACE in loaded.namespaces:  # the package ndx-lowrank was imported before
        if (found := str(loaded.get_namespace(NAMESPACE)["version"])) != version():
            raise NWBError(
                f"{NAMESPACE} {found} was loaded into pynwb before. This nwb_lint writes {version()}. Install that "
                "version of the package ndx-lowrank, or do not import it here."
            )
    else:
        pynwb.load_namespaces(namespace_path())
    return {name: pynwb.get_class(name, NAMESPACE) for name in types()}


def register(io: Any) -> None:
    """Add the extension to a pynwb IO that was opened before it was loaded, so that it writes the right namespace."""
    import pynwb

    get_classes()
    known, ours = io.manager.type_map, pynwb.get_type_map()
    if NAMESPACE not in known.namespace_catalog.namespaces:
        known.namespace_catalog.add_namespace(NAMESPACE, ours.namespace_catalog.get_namespace(NAMESPACE))
        known.merge(ours)


def type_spec(name: str) -> Any:
    """The definition of one neurodata type in the YAML, without what it inherits."""
    return _specs()[name]


def _parts(name: str, what: str) -> list[Any]:
    """The datasets, groups or attributes of a type; those that it inherits from a type of this extension last."""
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
