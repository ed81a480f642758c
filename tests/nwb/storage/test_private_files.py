"""Every file that is made of a recording that needs a token, a password or a signature is for the user alone: the bytes
that are kept, downloads under way, copies with a fit, and what is sent to an archive or to other processes."""

from __future__ import annotations

import os
import stat
import tempfile
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest

from nwb_lint import fit_lint, open_nwb, read_trials, write_fit
from nwb_lint.nwb.extension.publish import publish
from nwb_lint.parallel.engine import run_tasks
from nwb_lint.testing import mock_activity, mock_fit, mock_session
from tests.nwb.archive import ID, Archive, record
from tests.nwb.extension.test_write import SUBJECT
from tests.nwb.server import RangeServer
from tests.nwb.storage.test_zarr import to_zarr

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the permissions of files are those of POSIX"),
    pytest.mark.usefixtures("offline_dandi"),
]
TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
NAME, TOKEN = "sub-m1/sub-m1_ecephys.nwb", "a-secret-of-40-letters"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("private") / "session.nwb")


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """What `look` has found: names of files that others may read, or that lie where others may look."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = os.umask(0o022)
    yield {"open": set(), "private": set()}
    os.umask(before)


def look(folder: Path, seen: dict) -> None:
    """Walk all files below a folder, and note which are for the user alone; empty ones are left out."""
    for path in [one for one in folder.rglob("*") if one.is_file()]:
        try:
            if not path.stat().st_size:
                continue
            inside = [mode(one) == 0o700 for one in path.parents if one.is_relative_to(folder) and one != folder]
            closed = mode(path) & 0o077 == 0 and any(inside)
        except FileNotFoundError:  # renamed meanwhile
            continue
        seen["private" if closed else "open"].add(path.name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def archive(recording, tmp_path, monkeypatch, seen):
    with Archive([record(NAME, recording)], {NAME: recording}, token=TOKEN, published=False) as found:
        monkeypatch.setenv("DANDI_INSTANCE", f"{found.api.url}/api")
        monkeypatch.setenv(f"{found.api.host.upper()}_API_KEY", TOKEN)
        for server in (found.api, found.blobs):
            route = server.route
            server.route = lambda handler, route=route: (look(tmp_path, seen), route(handler))[1]
        yield found


def test_an_embargoed_recording(archive, recording, tmp_path, seen):
    for download in (False, True):
        read_trials(f"dandi://{ID}/draft/{NAME}", **TRIALS, download=download)
    look(tmp_path, seen)
    assert not seen["open"]
    assert Path(NAME).name in seen["private"]
    copy = write_fit(mock_fit(), tmp_path / "copy.nwb", into=f"dandi://{ID}/draft/{NAME}")
    assert mode(copy) == 0o600
    assert mode(write_fit(mock_fit(), tmp_path / "open.nwb", into=recording)) == mode(recording) == 0o644
    copy.chmod(0o640)
    fit = mock_fit().assign_attrs(seed=5)
    assert mode(write_fit(fit, copy, into=copy, overwrite=True, name="again")) == 0o640


def test_what_is_sent_to_an_archive(archive, recording, tmp_path, seen):
    private = mock_fit().assign_attrs(recipe="out = '/home/alice/fit.nwb'")  # which a copy without it is sent for
    fit = write_fit(private, tmp_path / "fit.nwb", subject=SUBJECT)
    fit.chmod(0o600)
    tmp_path.chmod(0o700)
    publish(fit, ID)
    assert {one for one in seen["private"] if "desc-lowrank" in one}
    assert not {one for one in seen["open"] if "desc-lowrank" in one}


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
@pytest.mark.parametrize("secret", ["me:word@", "?sig=x", ""])
def test_a_recording_behind_a_password_or_a_signature(recording, tmp_path, seen, kind, secret):
    if kind == "zarr" and secret.startswith("?"):
        pytest.skip("the files of a folder have a signature each")
    source = recording if kind == "hdf5" else to_zarr(recording, tmp_path.parent / f"{tmp_path.name}.nwb.zarr")
    with RangeServer({f"/{source.name}": source}) as server:
        server.faults = [None, None, "drop"]
        server.route = lambda handler: look(tmp_path, seen)
        user, query = (secret, "") if "@" in secret else ("", secret)
        address = f"http://{user}{server.host}/{source.name}{query}"
        for download in (False, True):
            with open_nwb(address, download=download) as file:
                file["units/spike_times"][()]
            read_trials(address, **TRIALS, download=download)
    look(tmp_path, seen)
    assert bool(seen["private"]) == bool(secret)
    assert bool(seen["open"]) == (not secret)


class AtOnce(Executor):
    """Stands for processes, and works in this one."""

    def submit(self, function, *args):
        future = Future()
        future.set_result(function(*args))
        return future


def modes_of(data, folder):
    seen = {"open": set(), "private": set()}
    look(Path(folder), seen)
    return {"n": len(seen["private"]), "n_open": len(seen["open"]), "size": data.sizes["neuron"]}


def test_data_on_the_way_to_other_processes(tmp_path, seen):
    data = mock_activity()
    tasks = [(data, {"folder": str(tmp_path)})] * 2
    found = [outcome.result for _, outcome in run_tasks(modes_of, tasks, executor=AtOnce())]
    assert found == [{"n": 1, "n_open": 0, "size": data.sizes["neuron"]}] * 2


def test_a_checkpoint_has_the_permissions_of_umask(tmp_path, seen):
    fit_lint(mock_activity(), rank=1, tau_s=0.1, method="gradient", max_iter=2, checkpoint=tmp_path / "c")
    assert mode(tmp_path / "c") == 0o644
