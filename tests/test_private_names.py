"""What the package takes from other packages: declared dependencies, and private names only from the table below.

A private name of another package may change in any release. Each one that is used stands in `PRIVATE`, with a test of
what the package needs of it, and `test_private_names_are_in_the_table` finds every other use.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

import nwb_lint
from tests.nwb.archive import Archive

ROOT = Path(nwb_lint.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit", "_repr_html_"}  # of namedtuple, os and IPython


class Use(NamedTuple):
    """Which package a private name is of, in which folder it is used, and what for."""

    package: str
    folder: str
    reason: str


PRIVATE = {
    "_max_workers": Use("concurrent.futures", "parallel", "Workers of a pool, to share out the processor's threads."),
    "_client": Use("distributed", "parallel", "The client of an executor from Client.get_executor()."),
    "_kwargs": Use("distributed", "parallel", "The options of an executor from Client.get_executor()."),
    "_getframe": Use("sys", "parallel", "The line outside of the package that a warning is about."),
}

# Names that are not private, but that their package does not document.
UNDOCUMENTED = [
    ("dandi.consts", "known_instances", "names of archives"),
    ("dandi.utils", "get_instance", "the archive at an address"),
    ("dandi.keyring_utils", "keyring_lookup", "the token, without a question at the keyboard"),
    ("dandi.exceptions", "NotFoundError", "a path that is not in a dandiset"),
    ("dandi.validate", "Severity", "which results of a validation are errors"),
    ("dandischema.consts", "DANDI_SCHEMA_VERSION", "the version that an archive validates with"),
]


def is_private(name: str) -> bool:
    return re.match(r"_(?!_)\w*[A-Za-z]", name) is not None


def own_names(tree: ast.AST) -> set[str]:
    """The private names that a module defines: functions, classes, variables, parameters and attributes of self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def private_names(source: str) -> set[str]:
    """The private names of other packages in a module: attributes, keywords, imports, and names given to getattr."""
    tree = ast.parse(source)
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.Call):
            used |= {keyword.arg for keyword in node.keywords if keyword.arg}
            if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr"):
                used |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
        elif isinstance(node, ast.Import):
            used |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] != "nwb_lint":
            used |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return {name for name in used if is_private(name)} - own_names(tree) - DOCUMENTED


def test_private_names_are_in_the_table():
    found = {
        (name, path.relative_to(ROOT).parent.as_posix())
        for path in FILES
        for name in private_names(path.read_text(encoding="utf-8"))
    }
    assert found == {(name, use.folder) for name, use in PRIVATE.items()}


def test_the_search_finds_private_names():
    source = """
import a._b
from c._d import e, _f
class A:
    _own = 1
    def g(self, other):
        self._mine = other._h(_i=1), getattr(other, "_j"), other._own, other._mine, other._replace(a=1), other.__dict__
"""
    assert private_names(source) == {"_b", "_d", "_f", "_h", "_i", "_j"}


def test_pools_tell_their_number_of_workers():
    for pool in (ThreadPoolExecutor, ProcessPoolExecutor):
        with pool(3) as executor:
            assert executor._max_workers == 3


def test_an_executor_of_dask_holds_its_client_and_options():
    executor_class = pytest.importorskip("distributed.cfexecutor").ClientExecutor
    client = object()
    executor = executor_class(client, pure=True)
    assert executor._client is client
    assert executor._kwargs == {"pure": True}


def test_the_frame_of_the_caller():
    frame = sys._getframe(0)
    assert frame.f_code.co_name == "test_the_frame_of_the_caller"
    assert frame.f_back.f_code is inspect.currentframe().f_back.f_code


@pytest.mark.parametrize(("module", "name", "reason"), UNDOCUMENTED, ids=lambda value: value)
def test_undocumented_names_are_there(module, name, reason):
    assert hasattr(import_module(module), name), reason


def test_the_client_of_dandi_has_what_is_used_of_it(offline_dandi):
    from dandi.dandiapi import BaseRemoteAsset, DandiAPIClient, RemoteDandiset
    from dandi.keyring_utils import keyring_lookup
    from dandi.validate import Severity

    with Archive([], {}) as archive, DandiAPIClient(f"{archive.api.url}/api") as client:
        assert client.api_url == f"{archive.api.url}/api"
        assert client.api_key_env_var.endswith("_API_KEY")
        assert client.dandi_instance.name == archive.api.host
        assert {"authenticate", "get_dandiset", "session"} <= set(dir(client))
    assert {"get_assets_by_glob", "get_asset_by_path"} <= set(dir(RemoteDandiset))
    assert {"base_download_url", "get_raw_metadata", "asset_type"} <= set(dir(BaseRemoteAsset))
    assert list(inspect.signature(keyring_lookup).parameters) == ["service_name", "username"]
    assert Severity.WARNING < Severity.ERROR < Severity.CRITICAL


# -- declared dependencies --


def normal(name: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared():
    """A package that is imported is a dependency of its own, and not only one of a dependency."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {normal(re.match(r"[\w.-]+", line)[0]) for lines in groups for line in lines}
    imported = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    distributions = packages_distributions()
    others = imported - sys.stdlib_module_names - {"nwb_lint"}
    missing = {name for name in others if not {normal(one) for one in distributions.get(name, [name])} & declared}
    assert not missing
