"""Every example in a docstring runs and prints what it says, and every public name has one."""

import doctest
import importlib
import pkgutil
import shutil

import pytest

import nwb_lint
from nwb_lint.testing import mock_fit, mock_session

MODULES = sorted(m.name for m in pkgutil.walk_packages(nwb_lint.__path__, "nwb_lint.") if "schemas" not in m.name)
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE


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
    for file in files.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(nwb_lint.__all__))
def test_public_names_have_an_example(name):
    assert ">>> " in getattr(nwb_lint, name).__doc__
