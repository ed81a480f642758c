"""The disk cache of streamed files: within its limit, oldest files first, without open files or files of others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nwb_lint import open_nwb, read_trials
from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.cache import WrittenBytes
from nwb_lint.testing import mock_session
from tests.nwb.oracle import same_data as same
from tests.nwb.server import RangeServer

TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
FILE_GB = 5e-4  # a little more than is kept of one file


@pytest.fixture(autouse=True)
def streamed(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamed"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("parts") / "session.nwb", n_units=20)


@pytest.fixture
def server(path):
    with RangeServer({f"/{name}.nwb": path for name in "abc"}) as running:
        yield running


def is_cached(server, name):
    """Whether opening a file again takes no more than the request for its version."""
    server.clear()
    with open_nwb(f"{server.url}/{name}.nwb") as file:
        assert len(file["units"])
    return server.sent()[1] <= 1


def cached_bytes(streamed):
    return sum(part.stat().st_size for part in streamed.rglob("*") if part.is_file())


def test_the_files_used_longest_ago_are_removed(server, path, streamed, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE_GB", str(2 * FILE_GB))
    for age, name in enumerate("abc"):
        read_trials(f"{server.url}/{name}.nwb", **TRIALS)
        for folder in streamed.iterdir():  # clocks of disks are coarse
            used = folder.stat().st_mtime
            os.utime(folder, (used, used - 100 / (age + 1)))
    assert cached_bytes(streamed) <= 2e9 * FILE_GB
    monkeypatch.delenv("NWB_LINT_CACHE_GB")
    assert [is_cached(server, name) for name in "cba"] == [True, True, False]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_open_file_is_not_removed(server, path, streamed, monkeypatch, elsewhere):
    address = f"{server.url}/a.nwb"
    code = f"from nwb_lint import open_nwb; f = open_nwb({address!r}); print(len(f), flush=True); input()"
    if elsewhere:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdout.readline()
    else:
        file = open_nwb(address)
    monkeypatch.setenv("NWB_LINT_CACHE_GB", "0")
    same(read_trials(f"{server.url}/b.nwb", **TRIALS), read_trials(path, **TRIALS))
    assert cached_bytes(streamed) > 1e5
    process.communicate(b"\n") if elsewhere else file.close()
    open_nwb(f"{server.url}/b.nwb").close()
    assert not cached_bytes(streamed)


def test_a_killed_process_keeps_nothing_from_being_removed(server, streamed, monkeypatch):
    code = f"import os; from nwb_lint import open_nwb; f = open_nwb('{server.url}/a.nwb'); os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert list(streamed.rglob("*.lock"))
    monkeypatch.setenv("NWB_LINT_CACHE_GB", "0")
    open_nwb(f"{server.url}/b.nwb").close()
    assert not cached_bytes(streamed)


def test_files_of_others_are_not_removed(server, streamed, tmp_path, monkeypatch):
    others = [streamed / "notes" / "mine.txt", streamed / ("0" * 32), tmp_path / "cache" / "files" / "x" / "y.nwb"]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"x" * 1000)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "data").write_bytes(b"x")
    (streamed / ("1" * 32)).symlink_to(tmp_path / "far")
    monkeypatch.setenv("NWB_LINT_CACHE_GB", "0")
    open_nwb(f"{server.url}/a.nwb").close()
    assert all(other.exists() for other in others)
    assert (tmp_path / "far" / "data").exists()


@pytest.mark.parametrize("limit", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(server, monkeypatch, limit):
    monkeypatch.setenv("NWB_LINT_CACHE_GB", limit)
    with pytest.raises(NWBError, match=r"NWB_LINT_CACHE_GB.*number of GB"):
        open_nwb(f"{server.url}/a.nwb")


def test_folders_are_looked_at_once_and_then_after_a_share_of_the_limit():
    written = WrittenBytes()
    assert written.reached(100)
    assert not written.reached(100)
    written.add(60)
    assert not written.reached(100)
    written.add(60)
    assert written.reached(100)
    assert not written.reached(100)
