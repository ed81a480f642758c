"""The YAML and the contract say the same, everything is documented, and the YAML travels with the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from nwb_lint.contract.datasets import COORDS, FIT
from nwb_lint.contract.results import RESULTS
from nwb_lint.nwb.extension import schema

ROOT = Path(__file__).parents[3]
UNITS = {"s": "seconds", "Hz": "Hz", "1": "1", "1/s": "1/s", "degrees": "degrees", "": ""}
KINDS = {"str": "text", "int64": "int"}


def _alternatives(dims: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {tuple(d for d in dims if not d.endswith("?")), tuple(d.rstrip("?") for d in dims)}


@pytest.mark.parametrize("name", FIT)
def test_every_variable_of_the_contract_is_in_the_yaml(name):
    field, var = schema.fields()[name], FIT[name]
    assert set(field.dims) == _alternatives(var.dims)
    assert field.dtype == KINDS.get(var.dtype, var.dtype)
    assert field.required == (var.required and not field.former)
    assert field.unit == UNITS[var.unit]


@pytest.mark.parametrize("name", [name for name in COORDS if name not in FIT])
def test_every_coordinate_of_the_contract_is_in_the_yaml(name):
    field, var = schema.fields()[name], COORDS[name]
    assert field.dims == (var.dims,)
    assert field.dtype == KINDS.get(var.dtype, var.dtype)
    assert field.unit == UNITS.get(var.unit, "")


def test_the_yaml_has_no_variable_that_the_contract_lacks():
    axes = {"rank", "neuron_from", "pc", "singular", "split", "stage", "rank_tried"}
    inputs = {"input_column", "input_equals", "input_scale", "input_start_s", "input_stop_s", "input_definition"}
    assert set(schema.fields()) - set(FIT) - set(COORDS) == axes | inputs


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind_of_result_has_a_type_with_the_same_variables(kind):
    fields = schema.fields(schema.type_of(kind))
    for name, var in RESULTS[kind].items():
        field = fields[name]
        assert set(field.dims) == _alternatives(var.dims), name
        assert field.dtype == KINDS.get(var.dtype, var.dtype), name
        assert field.required == (var.required and not field.former), name
        assert field.unit == UNITS[var.unit], name
    dims = {dim for var in RESULTS[kind].values() for dim in var.dims}
    tables = {f"{table.name}/" for table in schema.tables(schema.type_of(kind)).values()}
    further = {name for name, field in fields.items() if not field.path.startswith(tuple(tables))} - set(RESULTS[kind])
    assert further <= dims | {"input"}
    assert {dim for dim in dims if dim not in fields and dim != "input"} == set()


@pytest.mark.parametrize("kind", [schema.FIT_TYPE, *map(schema.type_of, RESULTS)])
def test_what_has_a_condition_and_a_time_dim_is_a_series(kind):
    """And its type has the dims and the dtype of the variable."""
    found = schema.series(kind)
    for name, field in schema.fields(kind).items():
        assert bool(field.former) == (field.dims[0][:2] == ("condition", "time")), name
        if field.former:
            data = schema.type_spec(found[field.path.removesuffix("/data")].type)["datasets"][0]
            assert data["dims"] == ["num_times", *field.dims[0][2:]]
            assert data["dtype"] == field.dtype
    assert len(found) == sum(bool(field.former) for field in schema.fields(kind).values())


def test_everything_in_the_yaml_is_documented_and_has_named_dims():
    pages = [YAML(typ="safe").load(path.read_text("utf-8")) for path in sorted((ROOT / "schemas").glob("*s.yaml"))]

    def walk(spec, path):
        assert len(spec.get("doc", "")) > 8, path
        assert ("shape" in spec) == ("dims" in spec), path
        for part in ("attributes", "datasets", "groups", "links"):
            for child in spec.get(part, []):
                walk(child, f"{path}/{child.get('name', child.get('neurodata_type_inc'))}")

    specs = [spec for page in pages for spec in page["groups"] + page.get("datasets", [])]
    assert sorted(spec["neurodata_type_def"] for spec in specs) == sorted(schema.types())
    for spec in specs:
        walk(spec, spec["neurodata_type_def"])


def test_pynwb_makes_the_classes():
    classes = schema.get_classes()
    assert set(classes) == set(schema.types())
    assert schema.get_classes() is classes


def test_the_wheel_holds_every_module_and_the_yaml(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path / "tree"
    for name in ("nwb_lint", "schemas"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=True)
    unpacked = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        wheel.extractall(unpacked)
    missing = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "nwb_lint").rglob("*.py")
        if not (unpacked / path.relative_to(ROOT)).is_file()
    ]
    assert missing == []
    read = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r}); from nwb_lint.nwb.extension import schema; "
        "print(schema.namespace_path(), len(schema.fields()))"
    )
    seen = subprocess.run([sys.executable, "-c", read], cwd=tmp_path, capture_output=True, text=True, check=True)
    path, count = seen.stdout.split()
    assert path.startswith(str(unpacked))
    assert int(count) == len(schema.fields())


def test_the_page_of_the_extension_is_current():
    made = subprocess.run([sys.executable, "docs/ndx_lowrank.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs/ndx-lowrank.md").read_text("utf-8") == made.stdout, (
        "python docs/ndx_lowrank.py > docs/ndx-lowrank.md"
    )
