"""ndx-lowrank as a package of its own: the same YAML, one version, and nothing but pynwb."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from nwb_lint import read_fit
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.testing import mock_fit

ROOT = Path(__file__).parents[3]
SCHEMAS = ROOT / "schemas"
SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}

# The heavy packages and nwb_lint are no modules here, as where they are not installed.
ALONE = """
import sys
for name in ("nwb_lint", "torch", "dandi", "xarray", "matplotlib", "sklearn"):
    sys.modules[name] = None
import ndx_lowrank, pynwb
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    network = io.read().processing["ecephys"]["lowrank_fit"]
    assert isinstance(network, ndx_lowrank.LowRankRNN)
    assert isinstance(network.latents, (ndx_lowrank.LowRankLatentSeries, pynwb.TimeSeries))
    assert isinstance(network.conditions, pynwb.epoch.TimeIntervals)
    print(ndx_lowrank.__version__, ndx_lowrank.__file__, len(ndx_lowrank.__all__), *network.latents.data.shape)
errors = pynwb.validate(path=sys.argv[1])
assert not (errors[0] if isinstance(errors, tuple) else errors), errors
"""


@pytest.fixture(scope="module")
def fit_path(tmp_path_factory):
    return write_fit(mock_fit(), tmp_path_factory.mktemp("fit") / "fit.nwb", subject=SUBJECT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of schemas/, made from a copy of the folder."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(SCHEMAS, folder / "schemas", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=folder / "schemas", capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the wheel in it, as it is installed."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def _lines(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_wheel_holds_the_same_yaml_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as file:
        content = {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}
    pages = sorted(SCHEMAS.glob("ndx-lowrank.*.yaml"))
    assert len(pages) == 3
    assert {f"ndx_lowrank/spec/{page.name}": page.read_bytes() for page in pages}.items() <= content.items()
    assert set(content) - {f"ndx_lowrank/spec/{page.name}" for page in pages} == {
        "ndx_lowrank/__init__.py", "ndx_lowrank/spec/__init__.py",
    }  # fmt: skip


def test_the_version_is_the_same_everywhere(wheel):
    project = tomllib.loads((SCHEMAS / "pyproject.toml").read_text("utf-8"))["project"]
    record = YAML(typ="safe").load((SCHEMAS / "ndx-meta.yaml").read_text("utf-8"))
    module = re.search(r'__version__ = "(.+)"', (SCHEMAS / "ndx_lowrank/__init__.py").read_text("utf-8"))
    changes = re.search(r"^## (.+)$", (SCHEMAS / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    found = {project["version"], record["version"], module[1], changes[1], wheel.name.split("-")[1]}
    assert found == {schema.version()}
    assert project["dependencies"] == ["pynwb>=3.0"]


def test_the_record_of_the_catalog_lists_what_a_public_address_would_fill():
    text = (SCHEMAS / "ndx-meta.yaml").read_text("utf-8")
    record = YAML(typ="safe").load(text)
    project = tomllib.loads((SCHEMAS / "pyproject.toml").read_text("utf-8"))["project"]
    assert (record["name"], record["license"]) == (project["name"], project["license"])
    absent = {"src", "pip", "maintainers"}
    assert not absent & set(record)
    assert absent <= set(re.findall(r"^#   (\w+) ", text, re.MULTILINE))
    assert (SCHEMAS / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_reads_a_fit_where_nothing_else_is_installed(site, fit_path, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n{ALONE}"
    version, path, count, *shape = _lines(sys.executable, "-c", code, fit_path, cwd=tmp_path)
    assert version == schema.version()
    assert path.startswith(str(site))
    assert int(count) == len(schema.types())
    assert list(map(int, shape)) == [320, 1]


def test_the_wheel_works_in_an_environment_of_its_own(wheel, fit_path, tmp_path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not there, which makes an environment in seconds")
    python = tmp_path / "venv" / "bin" / "python"
    _lines(uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    install = [uv, "pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt", wheel]
    done = subprocess.run(list(map(str, install)), cwd=tmp_path, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    code = ALONE + "import importlib.util as u\nassert not any(map(u.find_spec, ('zarr', 'lindi', 'scipy')))\n"
    assert _lines(python, "-I", "-c", code, fit_path, cwd=tmp_path)[0] == schema.version()


@pytest.mark.parametrize("order", [["ndx_lowrank", "nwb_lint"], ["nwb_lint", "ndx_lowrank"]])
def test_both_packages_have_the_same_classes_in_either_order(order, site, tmp_path):
    load = {
        "ndx_lowrank": "import ndx_lowrank",
        "nwb_lint": "from nwb_lint.nwb.extension.schema import get_classes; get_classes()",
    }
    same = "print(*(get_classes()[name] is getattr(ndx_lowrank, name) for name in ndx_lowrank.__all__))"
    code = "\n".join([f"import sys; sys.path.insert(0, {str(site)!r})", *map(load.get, order), same])
    assert set(_lines(sys.executable, "-c", code, cwd=tmp_path)) == {"True"}


def test_another_version_of_the_extension_in_the_same_process_is_an_error(tmp_path):
    folder = shutil.copytree(SCHEMAS, tmp_path / "other")
    page = folder / "ndx-lowrank.namespace.yaml"
    page.write_text(page.read_text("utf-8").replace(f"version: {schema.version()}", "version: 0.99.0"))
    code = (
        f"import pynwb; pynwb.load_namespaces({str(page)!r})\n"
        "from nwb_lint.nwb.extension.schema import get_classes\n"
        "try:\n    get_classes()\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    found = _lines(sys.executable, "-c", code, cwd=tmp_path)
    assert found[0] == "NWBError"
    assert {"0.99.0", schema.version()} <= {word.rstrip(".") for word in found}


def test_the_example_of_the_readme_makes_a_network_that_nwb_lint_reads(site, tmp_path, monkeypatch):
    from datetime import UTC, datetime

    import pynwb

    blocks = re.findall(r"```python\n(.*?)```", (SCHEMAS / "README.md").read_text("utf-8"), re.DOTALL)
    names: dict = {}
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    exec(blocks[1], names)
    nwbfile = pynwb.NWBFile("a session", "s1", datetime(2026, 1, 1, tzinfo=UTC))
    nwbfile.create_processing_module("ecephys", "networks").add(names["network"])
    with pynwb.NWBHDF5IO("fit.nwb", "w") as io:
        io.write(nwbfile)
    exec(blocks[0].replace("lowrank_fit", "my_network"), {})
    fit = read_fit("fit.nwb")
    np.testing.assert_array_equal(fit["m"].values, names["network"].m)
    assert dict(fit.sizes) == {"neuron": 20, "rank": 1, "input": 1, "condition": 4, "time": 50, "split": 1}
