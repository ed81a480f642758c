"""DANDI addresses, read through the client of DANDI from an archive on this machine."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import traceback

import pytest
import xarray as xr

from nwb_lint import open_nwb, read_conditions, read_trials
from nwb_lint.errors import MissingFileError, NWBError
from nwb_lint.nwb.storage.dandi import parse_address, token_getter
from nwb_lint.nwb.storage.http import FileSession, get_range
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.nwb.storage.source import expand
from nwb_lint.testing import mock_session
from tests.nwb.archive import ID, PUBLISHED, Archive, record
from tests.nwb.oracle import same_data as same

HOW = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
TOKEN = "a-secret-of-40-letters"


pytestmark = pytest.mark.usefixtures("offline_dandi")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dandi")
    return {
        f"sub-{k}/sub-{k}_ses-a_ecephys.nwb": mock_session(folder / f"{k}.nwb", seed=k, session_id=f"s{k}")
        for k in range(3)
    }


@pytest.fixture
def make(paths, monkeypatch):
    """Start an archive of the three files, or of others."""
    started = []

    def start(assets=None, **options):
        assets = assets or [record(name, path) for name, path in paths.items()]
        contents = {asset["path"]: paths[asset["path"]] for asset in assets if asset["path"] in paths}
        archive = Archive(assets, contents, **options).__enter__()
        started.append(archive)
        monkeypatch.setenv("DANDI_INSTANCE", f"{archive.api.url}/api")
        return archive

    yield start
    for archive in started:
        archive.__exit__()


@pytest.fixture
def archive(make):
    return make()


def refused(words, call, *args, kind=NWBError, **options):
    with pytest.raises(kind, match=words) as found:
        call(*args, **options)
    text = str(found.value)
    assert "\n" not in text
    assert TOKEN not in text
    assert "signature" not in text
    assert len(text) < 600


def test_addresses_are_parsed():
    assert parse_address(f"dandi://{ID}/a b/c.nwb")[:4] == ("", ID, "", "a b/c.nwb")
    assert parse_address(f"dandi://{ID}/{PUBLISHED}/c.nwb")[:4] == ("", ID, PUBLISHED, "c.nwb")
    assert parse_address(f"dandi://{ID}@draft/c.nwb")[:4] == ("", ID, "draft", "c.nwb")
    assert parse_address(f"dandi://ember-dandi/{ID}@draft/c.nwb")[:4] == ("ember-dandi", ID, "draft", "c.nwb")
    assert parse_address(f"dandi://localhost:8000/{ID}/draft/c.nwb")[:4] == ("localhost:8000", ID, "draft", "c.nwb")


def test_an_asset_is_read_as_its_file_and_named_by_its_version(archive, paths):
    name, path = next(iter(paths.items()))
    found = read_conditions(f"dandi://{ID}/{name}", **HOW)
    same(found, read_conditions(path, **HOW))
    assert found["file"].item() == f"dandi://{archive.api.host}/{ID}/{PUBLISHED}/{name}"
    assert found["file_digest"].item() == archive.assets[0]["metadata"]["digest"]["dandi:sha2-256"]
    coords = [found[f"file_{key}"].item() for key in ("dandiset", "version", "asset_id", "asset_path")]
    assert coords == [f"{archive.api.host}/{ID}", PUBLISHED, archive.assets[0]["asset_id"], name]
    again = read_conditions(found["file"].item(), **HOW)
    xr.testing.assert_identical(again, found)
    assert read_metadata(f"dandi://{ID}/draft/{name}") == read_metadata(path)
    with open_nwb(f"dandi://{ID}@draft/{name}") as file:
        assert "units" in file


def test_the_main_archive_is_not_named(make, monkeypatch):
    archive = make()
    from dandi import consts

    main = consts.DandiInstance("dandi", None, f"{archive.api.url}/api")
    monkeypatch.setitem(consts.known_instances, "dandi", main)
    monkeypatch.delenv("DANDI_INSTANCE")
    name = archive.assets[0]["path"]
    (asset,) = expand(f"dandi://{ID}/{name}")
    assert str(asset) == f"dandi://{ID}/{PUBLISHED}/{name}"
    assert expand(f"dandi://dandi/{ID}@{PUBLISHED}/{name}") == [asset]


def test_the_draft_is_read_where_nothing_is_published(make):
    archive = make(published=False)
    (asset,) = expand(f"dandi://{ID}/{archive.assets[0]['path']}")
    assert f"/{ID}/draft/" in str(asset)


def test_a_glob_is_read_over_two_pages(make, paths):
    archive = make(page_size=2)
    found = read_conditions(f"dandi://{ID}/sub-*/*.nwb", **HOW)
    same(found, read_conditions(list(paths.values()), **HOW))
    assert [str(name).rpartition("/")[2] for name in found["file"].values] == sorted(
        name.rpartition("/")[2] for name in paths
    )
    pages = [request.path for request in archive.api.log if "/assets/?" in request.path]
    assert len(pages) == 2
    assert "page=2" in pages[1]


def test_an_open_file_needs_no_redirect_and_an_embargoed_one_a_redirect_an_opening(make, paths, monkeypatch):
    for token, redirects in (("", 0), (TOKEN, 2)):
        archive = make(token=token)
        set_token(archive, monkeypatch, TOKEN)
        read_trials(f"dandi://{ID}/{next(iter(paths))}", **TRIALS)
        assert sum(request.status == 302 for request in archive.api.log) == redirects
        assert archive.blobs.log
        assert {request.method for request in archive.blobs.log} == {"GET"}


@pytest.mark.parametrize("fault", [503, "drop"])
@pytest.mark.parametrize("at", range(2))
def test_passing_failures_of_the_store_do_not_matter(archive, paths, fault, at):
    name, path = next(iter(paths.items()))
    archive.blobs.faults = [None] * at + [fault]
    same(read_trials(f"dandi://{ID}/{name}", **TRIALS), read_trials(path, **TRIALS))
    assert not archive.blobs.faults


def test_a_passing_failure_of_the_api_does_not_matter(archive, paths, capfd):
    name, path = next(iter(paths.items()))
    expand(f"dandi://{ID}/{name}")  # the client keeps what the archive says about itself
    archive.api.faults = [503]
    same(read_trials(f"dandi://{ID}/{name}", **TRIALS), read_trials(path, **TRIALS))
    assert not archive.api.faults
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("download", [False, True])
def test_a_wrong_size_is_refused(make, paths, download, tmp_path):
    name, path = next(iter(paths.items()))
    make([record(name, path, size=path.stat().st_size + 5)])
    refused("bytes at the server.*announced", read_trials, f"dandi://{ID}/{name}", **TRIALS, download=download)
    assert not [file for file in (tmp_path / "cache" / "files").rglob("*") if file.is_file()]


def test_a_download_is_checked_against_the_archive_and_used_again(make, paths, tmp_path):
    name, path = next(iter(paths.items()))
    archive = make()
    found = read_trials(f"dandi://{ID}/{name}", **TRIALS, download=True)
    same(found, read_trials(path, **TRIALS))
    assert found["file"].item().startswith("dandi://")
    archive.blobs.clear()
    xr.testing.assert_identical(read_trials(f"dandi://{ID}/{name}", **TRIALS, download=True), found)
    assert not archive.blobs.log
    wrong = record(name, path)
    wrong["metadata"]["digest"]["dandi:sha2-256"] = "0" * 64
    make([wrong])
    refused("SHA-256", read_trials, f"dandi://{ID}/{name}", **TRIALS, download=True)


def test_missing_files_and_archives_are_errors(archive, paths, monkeypatch):
    for address in (f"{ID}/none.nwb", f"{ID}/none-*.nwb", f"{ID}/0.1.2/a.nwb", "000123/a.nwb"):
        refused(address.replace("*", ".*"), expand, f"dandi://{address}", kind=MissingFileError)
    refused("nowhere .*dandi, dandi-sandbox", expand, f"dandi://nowhere/{ID}/a.nwb")
    name = next(iter(paths))
    (asset,) = expand(f"dandi://{ID}/{name}")
    archive.blobs.files.clear()
    refused("no such file.*404", read_trials, asset, **TRIALS, kind=MissingFileError)
    refused("no such file.*404", read_trials, asset, **TRIALS, download=True, kind=MissingFileError)
    monkeypatch.setenv("DANDI_INSTANCE", "http://127.0.0.1:1/api")
    refused("does not answer", expand, f"dandi://{ID}/a.nwb")


# -- tokens --


def set_token(archive, monkeypatch, token):
    monkeypatch.setenv(f"{archive.api.host}_API_KEY", token)


def test_embargoed_data_are_read_with_the_token_and_only_the_api_sees_it(make, paths, monkeypatch):
    name, path = next(iter(paths.items()))
    archive = make(token=TOKEN)
    set_token(archive, monkeypatch, TOKEN)
    same(read_trials(f"dandi://{ID}/{name}", **TRIALS), read_trials(path, **TRIALS))
    same(read_trials(f"dandi://{ID}/{name}", **TRIALS, download=True), read_trials(path, **TRIALS))
    assert any(request.headers.get("Authorization") == f"token {TOKEN}" for request in archive.api.log)
    assert archive.blobs.log
    assert not any(TOKEN in str(request.headers) for request in archive.blobs.log)
    (asset,) = expand(f"dandi://{ID}/{name}")
    assert TOKEN.encode() not in pickle.dumps(asset)


def test_the_token_is_taken_from_the_keyring(make, paths, monkeypatch):
    name = next(iter(paths))
    archive = make(token=TOKEN)
    lookups = []

    def lookup(service, user):
        lookups.append((service, user))
        return None, TOKEN

    monkeypatch.setattr("dandi.keyring_utils.keyring_lookup", lookup)
    assert read_trials(f"dandi://{ID}/{name}", **TRIALS).sizes["neuron"] == 5
    assert set(lookups) == {(f"dandi-api-{archive.api.host}", "key")}


@pytest.mark.parametrize("secret", ["me:word@", "word@"])
def test_an_archive_with_a_password_in_its_address_is_refused_and_not_shown(archive, monkeypatch, secret):
    def shown(call, *args, **options):
        with pytest.raises(NWBError, match="has a password or a token in it") as found:
            call(*args, **options)
        assert "word@" not in "".join(traceback.format_exception(found.value)).replace(secret + "{", "")

    address = f"http://{secret}{archive.api.host}/api"
    shown(expand, f"dandi://{secret}{archive.api.host}/{ID}/draft/a.nwb")
    monkeypatch.setenv("DANDI_INSTANCE", address)
    shown(expand, f"dandi://{ID}/draft/a.nwb")
    assert not archive.api.log


def test_public_data_are_read_without_the_token(archive, paths, monkeypatch):
    set_token(archive, monkeypatch, TOKEN)
    monkeypatch.setenv("DANDI_API_KEY", TOKEN)
    read_trials(f"dandi://{ID}/{next(iter(paths))}", **TRIALS)
    assert not any("Authorization" in request.headers for request in archive.api.log + archive.blobs.log)


def test_a_refused_or_missing_token_is_an_error(make, paths, monkeypatch, caplog):
    name = next(iter(paths))
    archive = make(token=TOKEN)
    refused("needs a token.*_API_KEY", expand, f"dandi://{ID}/{name}")
    caplog.set_level(logging.DEBUG)
    for bad in (f"{TOKEN}-old", f"{TOKEN}\nx", "é"):
        set_token(archive, monkeypatch, bad)
        refused("refused the token|has blanks", expand, f"dandi://{ID}/{name}")
        assert bad not in caplog.text
    set_token(archive, monkeypatch, TOKEN)
    (asset,) = expand(f"dandi://{ID}/{name}")
    set_token(archive, monkeypatch, f"{TOKEN}-old")
    refused("refused the token", read_trials, asset, **TRIALS)
    archive.token = "another"
    refused("refused the token", read_trials, asset, **TRIALS, download=True)


def test_a_token_is_for_archives_only():
    (asset,) = expand("https://127.0.0.1/a.nwb")
    assert token_getter(asset) is None


def test_an_expired_address_is_replaced(archive, paths):
    """A signed address may expire in the middle of reading; the archive then gives another one."""
    (asset,) = expand(f"dandi://{ID}/{next(iter(paths))}")
    with FileSession() as session:
        get_range(session, asset.location, 0, 10)
        downloads = [request for request in archive.api.log if "/download/" in request.path]
        archive.blobs.faults = [403]
        assert len(get_range(session, asset.location, 10, 20).content) == 10
        assert len([request for request in archive.api.log if "/download/" in request.path]) == len(downloads) + 1


# -- records of the real archive --


@pytest.fixture
def records(shared_data):
    path = shared_data / "dandi_records" / ID / "assets.json"
    if not path.is_file():
        pytest.skip(f"no records at {path}: they are not part of the project")
    return json.loads(path.read_text())


def test_records_of_the_real_archive_are_read(make, records):
    archive = make(records)
    found = expand(f"dandi://{ID}/*.nwb")
    assert len(found) == len(records) == 173
    by_path = {record["path"]: record for record in records}
    for asset in found:
        entry = by_path[str(asset).partition(f"{PUBLISHED}/")[2]]
        assert asset.size == entry["size"]
        assert asset.digest == entry["metadata"]["digest"]["dandi:sha2-256"]
        assert entry["asset_id"] in asset.location
    assert sum("/assets/?" in request.path for request in archive.api.log) == 2
    one = expand(f"dandi://{ID}/{records[5]['path']}")
    assert one == [asset for asset in found if str(asset).endswith(records[5]["path"])]


@pytest.mark.filterwarnings("ignore:.*silent unit")
def test_a_real_recording_is_read_through_its_record(make, records, paths, shared_data, monkeypatch):
    (path,) = sorted((shared_data / "alm000009").glob("*.nwb"))
    named = next(r for r in records if "anm00239123" in r["path"] and "20170627" in r["path"])
    # the copy has one electrode group renamed, so size and digest are its own
    mine = record(named["path"], path, asset_id=named["asset_id"], blob=named["blob"])
    mine["metadata"] = named["metadata"] | {"digest": mine["metadata"]["digest"]}
    monkeypatch.setitem(paths, named["path"], path)
    make([mine if r is named else r for r in records])
    options = {"align": "cue_start_time", "window_s": (-1, 1), "bin_s": 0.1}
    same(read_trials(f"dandi://{ID}/{named['path']}", **options), read_trials(path, **options))


def test_reading_from_disk_does_not_load_the_client(paths):
    path = next(iter(paths.values()))
    code = (
        f"import sys; from nwb_lint import open_nwb; open_nwb({str(path)!r}).close(); "
        "print(sorted({'dandi', 'requests', 'zarr', 'lindi'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
