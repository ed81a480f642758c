"""Every tutorial runs from its first line to its last, in a folder of its own."""

from __future__ import annotations

import runpy
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.nwb.archive import stand_in

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))


def test_there_are_tutorials():
    assert TUTORIALS


@pytest.mark.filterwarnings("ignore:Means may mislead")  # the first tutorial explains it
@pytest.mark.filterwarnings("ignore:Input ")  # of folds and resamples, whose lags are chance
@pytest.mark.usefixtures("offline_dandi")
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_run(path, tmp_path, monkeypatch):
    for package in ("pynapple", "spikeinterface"):
        if package in path.stem:
            pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    with stand_in(tmp_path) if "dandi://" in path.read_text(encoding="utf-8") else nullcontext() as archive:
        if archive:
            monkeypatch.setenv("DANDI_INSTANCE", f"{archive.api.url}/api")
        runpy.run_path(str(path), run_name="__main__")
