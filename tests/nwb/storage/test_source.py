"""Sources: a path, address or pattern that holds nothing is a missing file, whoever reads it."""

from __future__ import annotations

import os
import pickle

import pytest

from nwb_lint import open_nwb, read_conditions, read_fit, read_trials
from nwb_lint.errors import MissingFileError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.storage.digests import digest
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.nwb.storage.source import expand
from nwb_lint.testing import mock_session
from nwb_lint.workflow.recipe import load_recipe
from tests.nwb.server import RangeServer

TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server():
    with RangeServer() as running:
        yield running


LOCAL = ["none.nwb", "none*.nwb", "none.nwb.zarr", "none.lindi.json", "no/folder/none.nwb", "~/none of these.nwb"]
REMOTE = ["none.nwb", "none.nwb.zarr", "none.lindi.json"]
READERS = {
    "open_nwb": open_nwb,
    "download": lambda source: open_nwb(source, download=True),
    "read_trials": lambda source: read_trials(source, **TRIALS),
    "read_conditions": lambda source: read_conditions([source], by=["side"], **TRIALS),
    "read_fit": read_fit,
    "describe": describe,
    "read_metadata": read_metadata,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", [*LOCAL, *(f"http:{name}" for name in REMOTE), "s3:none.nwb"])
def test_a_source_that_holds_nothing_is_a_missing_file(reader, name, server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    for extra in ("zarr", "lindi"):
        if name.startswith("http") and extra in name:
            pytest.importorskip(extra, reason=f"the extra {extra} is not installed")
    scheme, _, rest = name.rpartition(":")
    place = {"http": f"{server.url}/", "s3": "s3://bucket/", "": "" if rest.startswith("~") else f"{tmp_path}/"}[scheme]
    with pytest.raises(MissingFileError) as found:
        READERS[reader](place + rest)
    assert isinstance(found.value, FileNotFoundError)
    assert isinstance(found.value, NWBError)
    assert "\n" not in str(found.value)
    again = pickle.loads(pickle.dumps(found.value))  # as from a worker process
    assert (type(again), str(again)) == (MissingFileError, str(found.value))


def test_the_digest_of_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError):
        digest(tmp_path / "none.nwb")


def test_a_file_that_is_there_but_cannot_be_read_is_not_missing(tmp_path):
    (tmp_path / "a.nwb").write_bytes(b"x")
    for source in (tmp_path, tmp_path / "a.nwb"):
        with pytest.raises(NWBError) as found:
            open_nwb(source)
        assert not isinstance(found.value, FileNotFoundError)


def test_patterns_and_the_home_folder(tmp_path, monkeypatch):
    path = mock_session(tmp_path / "b.nwb")
    for name in ("a[1].nwb", "a.nwb", "c.txt"):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    names = [asset.path.name for asset in expand("~/*.nwb")]
    assert names == ["a.nwb", "a[1].nwb", "b.nwb"]
    assert [asset.path for asset in expand(f"{tmp_path}/a[1].nwb")] == [tmp_path / "a[1].nwb"]  # the file of this name
    assert [str(asset) for asset in expand([path, "~/a.nwb"])] == [str(path), str(tmp_path / "a.nwb")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["p.nwb", "p.lindi.json", "p.toml"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for read in (load_recipe,) if name.endswith("toml") else (open_nwb, describe, digest):
        with pytest.raises(NWBError, match="is a pipe or a device"):
            read(tmp_path / name)
