"""Every example in a docstring runs and prints what it says, and every public name has one."""

import doctest
import importlib
import inspect
import shutil
from pathlib import Path

import griffe
import pytest

import nwb_lint
from nwb_lint.testing import mock_fit, mock_session

ROOT = Path(nwb_lint.__file__).parent
# the extension in schemas is a package of its own, which is not imported as a part of this one
PATHS = [path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py") if "schemas" not in path.parts]
MODULES = sorted(".".join(["nwb_lint", *path.parts]).removesuffix(".__init__") for path in PATHS)
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE


# Packages that are extras, by the module whose examples need them.
NEEDS = {"nwb_lint.nwb.convert.packages": ("pynapple", "spikeinterface"), "nwb_lint.nwb.convert.targets": ("pynapple",)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    mock_session(folder / "session.nwb")
    subject = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    nwb_lint.write_fit(mock_fit(), folder / "fit.nwb", subject=subject)
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, files, tmp_path, monkeypatch):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    for file in files.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


PUBLIC = {f"nl.{name}": getattr(nwb_lint, name) for name in nwb_lint.__all__ if name not in ("errors", "plot")}
PUBLIC |= {f"nl.plot.{name}": getattr(nwb_lint.plot, name) for name in nwb_lint.plot.__all__}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_have_an_example(name):
    assert ">>> " in PUBLIC[name].__doc__


def documented(function) -> tuple[set[str], dict[str, str], list]:
    """Parameters of the signature, documented parameters with their types, and the kinds of sections there are."""
    sections = griffe.Docstring(inspect.getdoc(function), lineno=1).parse("numpy", warnings=False)
    found = {}
    for section in sections:
        if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
            for one in section.value:
                for part in one.name.split(", "):
                    found[part.lstrip("*")] = str(one.annotation or "")
    return set(inspect.signature(function).parameters), found, [section.kind for section in sections]


def test_every_public_parameter_is_documented_with_its_type():
    """At least 99 % of the parameters are found by a parser of NumPy docstrings, each with a type."""
    wanted, missing = 0, []
    for name, function in PUBLIC.items():
        parameters, found, _ = documented(function)
        wanted += len(parameters)
        missing += [f"{name}: {one}" for one in sorted(parameters) if not found.get(one)]
    assert len(missing) <= 0.01 * wanted, missing


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_no_docstring_names_a_parameter_that_is_not_there(name):
    parameters, found, kinds = documented(PUBLIC[name])
    fitted = {one for one in found if one.endswith("_")}  # attributes that an estimator has after fit
    assert found.keys() - fitted <= parameters
    if inspect.isfunction(PUBLIC[name]):
        assert griffe.DocstringSectionKind.returns in kinds
