"""What a user does with DANDI, and what comes of it: a table of cases, each run against the archive of the tests.

The archive answers as the real one does (`tests.nwb.archive`). It has one dandiset, 000009, with a published version
and a draft. Both hold three recordings, and a note, which is no NWB file:

    sub-a/sub-a_ses-1_ecephys.nwb    sub-b/sub-b_ses-1_ecephys.nwb    sub-B/sub-B_ses-2_ecephys.nwb    notes.txt

Publishing is in `tests/nwb/extension/test_publish_cases.py`.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from nwb_lint import open_nwb, read_conditions, read_trials
from nwb_lint.errors import NWBLintError
from nwb_lint.nwb.storage.digests import sha256
from nwb_lint.nwb.storage.source import expand
from nwb_lint.testing import mock_session
from tests.nwb.archive import ID, NO_KEY, NO_PERMISSION, PUBLISHED, WRONG_KEY, Archive, etag_of, record
from tests.nwb.oracle import same_data

pytestmark = pytest.mark.usefixtures("offline_dandi")

A, B, B2 = "sub-a/sub-a_ses-1_ecephys.nwb", "sub-b/sub-b_ses-1_ecephys.nwb", "sub-B/sub-B_ses-2_ecephys.nwb"
ALL = sorted([A, B, B2])
HOW = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
KEY, OTHER_KEY = "key-of-an-owner", "key-of-somebody-else"
OWNER = {"key": KEY}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    return {path: mock_session(folder / f"{k}.nwb", seed=k, session_id=f"s{k}") for k, path in enumerate((A, B, B2))}


@pytest.fixture
def start(recordings, monkeypatch):
    """Start an archive, the one in use from then on."""
    running = []

    def started(key="", **options):
        records = [record(path, file) for path, file in recordings.items()]
        archive = Archive([*records, record("notes.txt", b"x")], {**recordings, "notes.txt": b"x"}, **options)
        running.append(archive.__enter__())
        monkeypatch.setenv("DANDI_INSTANCE", f"{archive.api.url}/api")
        if key:
            monkeypatch.setenv(f"{archive.api.host}_API_KEY", key)
        return archive

    yield started
    for archive in running:
        archive.__exit__()


# -- addresses: what is pasted, the files that are meant, and the version --

DANDISET = f"dandisets/{ID}/versions/{PUBLISHED}"
ADDRESSES = {
    "a path, of the last published version": (f"dandi://{ID}/{A}", [A], PUBLISHED),
    "a path of a version": (f"dandi://{ID}/{PUBLISHED}/{A}", [A], PUBLISHED),
    "a path of the draft": (f"dandi://{ID}/draft/{A}", [A], "draft"),
    "the form of the client": (f"dandi://{{host}}/{ID}@draft/{A}", [A], "draft"),
    "an archive by its host": (f"dandi://{{host}}/{ID}/{PUBLISHED}/{A}", [A], PUBLISHED),
    "the identifier": (f"DANDI:{ID}/{PUBLISHED}/{A}", [A], PUBLISHED),
    "the identifier of a dandiset": (f"dandi:{ID}", ALL, PUBLISHED),
    "a whole version": (f"dandi://{ID}/draft", ALL, "draft"),
    "a folder": (f"dandi://{ID}/draft/sub-a/", [A], "draft"),
    "a blank and a + as in a URL": (f"dandi://{ID}/sub-a%2Fsub-a_ses-1_ecephys.nwb", [A], PUBLISHED),
    "a page of a folder": (f"{{web}}/dandiset/{ID}/{PUBLISHED}/files?location=sub-a", [A], PUBLISHED),
    "a page of a folder, encoded": (f"{{web}}/dandiset/{ID}/draft/files?location=sub-b%2F&page=1", [B], "draft"),
    "a page of a dandiset": (f"{{web}}/dandiset/{ID}", ALL, PUBLISHED),
    "a page of a version": (f"{{web}}/dandiset/{ID}/draft/", ALL, "draft"),
    "an old page": (f"{{web}}/#/dandiset/{ID}/draft/files?location=sub-a", [A], "draft"),
    "an asset of a version": (f"{{api}}/{DANDISET}/assets/{{asset}}/", [A], PUBLISHED),
    "its download": (f"{{api}}/{DANDISET}/assets/{{asset}}/download/", [A], PUBLISHED),
    "a path in the API": (f"{{api}}/{DANDISET}/assets/?path={A}", [A], PUBLISHED),
    "a pattern in the API": (f"{{api}}/{DANDISET}/assets/?glob=sub-a*.nwb", [A], PUBLISHED),
    "a version in the API": (f"{{api}}/{DANDISET}/", ALL, PUBLISHED),
    "a pattern": (f"dandi://{ID}/sub-a/*.nwb", [A], PUBLISHED),
    "a * goes over folders": (f"dandi://{ID}/*.nwb", ALL, PUBLISHED),
    "a pattern takes capitals as small letters": (f"dandi://{ID}/SUB-b*.NWB", [B2, B], PUBLISHED),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_gives_files_with_all_that_the_archive_knows_of_them(case, start, recordings):
    archive = start()
    address, paths, version = ADDRESSES[case]
    ids = {one["path"]: one["asset_id"] for one in archive.assets}
    names = {"host": archive.api.host, "web": archive.api.url, "api": f"{archive.api.url}/api", "asset": ids[A]}
    found = expand(address.format(**names))
    assert [one.place.path for one in found] == paths
    for one in found:
        assert one.place[:3] == (archive.api.host, ID, version)
        assert one.place.asset_id == ids[one.place.path]
        assert one.digest == sha256(recordings[one.place.path])
        assert one.size == recordings[one.place.path].stat().st_size
        assert expand(one.address) == [one]  # what is written into a fit is read again


# What names no dandiset: the form, and which of asset id, path and digest are known.
BARE = {
    "an asset by its id": ("{api}/assets/{asset}/", ("asset_id", "path", "digest")),
    "the download of an asset": ("{api}/assets/{asset}/download/", ("asset_id", "path", "digest")),
    "a file in the store": ("{store}", ("etag",)),
}


@pytest.mark.parametrize("case", BARE)
def test_an_address_without_a_dandiset_keeps_what_it_says(case, start, recordings):
    archive = start()
    address, known = BARE[case]
    asset = next(one for one in archive.assets if one["path"] == A)
    store = archive.blobs.url + archive.places[A]
    (found,) = expand(address.format(api=f"{archive.api.url}/api", asset=asset["asset_id"], store=store))
    place = ("", "", A, asset["asset_id"]) if "path" in known else ("", "", "", "")
    assert found.place[1:] == place
    content = recordings[A].read_bytes()
    assert found.digest == (sha256(recordings[A]) if "digest" in known else etag_of(content))
    read = read_conditions(found.address, **HOW)
    same_data(read, read_conditions(recordings[A], **HOW))
    assert read["file_digest"].item() == found.digest


def test_a_downloaded_dandiset_is_known_as_the_dandiset(start, recordings, tmp_path):
    archive = start()
    file = tmp_path / ID / A
    file.parent.mkdir(parents=True)
    shutil.copy(recordings[A], file)
    text = f"'@context': x\nid: DANDI:{ID}/{PUBLISHED}\nidentifier: DANDI:{ID}\nversion: {PUBLISHED}\n"
    (tmp_path / ID / "dandiset.yaml").write_text(text)
    read = read_conditions(file, **HOW)
    places = [read[f"file_{name}"].item() for name in ("dandiset", "version", "asset_path", "asset_id")]
    assert places == [f"{archive.api.host}/{ID}", PUBLISHED, A, ""]
    assert read["file"].item() == str(file)
    assert not archive.api.log


def test_the_client_of_dandi_downloads_a_dandiset_from_the_archive_of_the_tests(start, recordings, tmp_path):
    """Its folder is known as the dandiset too; and the archive of the tests is one that the client understands."""
    from dandi.dandiapi import DandiAPIClient
    from dandi.download import DownloadFormat, download

    archive = start(page_size=2)
    with DandiAPIClient(f"{archive.api.url}/api") as client:
        draft = client.get_dandiset(ID, "draft")
        assert [one.path for one in draft.get_assets_by_glob("SUB-*.nwb", order="path")] == ALL
        assert {one.path for one in draft.get_assets_with_path_prefix("SUB-B")} == {B, B2}
        assert draft.get_asset_by_path(A).get_raw_metadata()["digest"]["dandi:sha2-256"] == sha256(recordings[A])
        assert client.get_dandiset(ID).version_id == PUBLISHED
    download(f"{archive.api.url}/dandiset/{ID}/{PUBLISHED}", tmp_path, format=DownloadFormat.DEBUG)
    found = expand(str(tmp_path / ID / "**" / "*.nwb"))
    assert sorted(one.place.path for one in found) == ALL
    assert {one.place[:3] for one in found} == {(archive.api.host, ID, PUBLISHED)}


# -- refusals while reading: what is asked for, who asks, and what is said --

EMBARGOED = {"status": "EMBARGOED", "token": KEY}
REFUSALS = {
    "? and [ mean themselves": (f"dandi://{ID}/sub-[ab]/*.nwb", {}, r"knows \* alone; \? and \["),
    "other capitals": (f"dandi://{ID}/SUB-A/sub-a_ses-1_ecephys.nwb", {}, f"There is {A}. Use its capitals"),
    "a folder": (f"dandi://{ID}/sub-a", {}, "is a folder with 1 files.*Put a / at the end"),
    "no such file": (f"dandi://{ID}/sub-c/c.nwb", {}, "no such file in version"),
    "a pattern without a match": (f"dandi://{ID}/sub-c/*.nwb", {}, "no file matches in version"),
    "no such version": (f"dandi://{ID}/0.1.2/{A}", {}, "no such dandiset, version or file.*'Not found.'"),
    "no such dandiset": ("dandi://000123/a.nwb", {}, "no such dandiset.*'Not found.'"),
    "no such asset": ("{api}/assets/00000000-0000-4000-8000-000000000000/", {}, "no such dandiset, version or file"),
    "an unknown archive": (f"dandi://nowhere/{ID}/a.nwb", {}, "no archive nowhere is known. Known are dandi"),
    "no address": ("dandi://12/a.nwb", {}, "names no file of a dandiset"),
    "embargoed, without a key": (f"dandi://{ID}/{A}", EMBARGOED, "needs a token.*_API_KEY"),
    "embargoed, a wrong key": (f"dandi://{ID}/{A}", EMBARGOED | {"key": "wrong"}, f"refused.*{WRONG_KEY['detail']}"),
    "embargoed, not approved": (f"dandi://{ID}/{A}", EMBARGOED | {"key": "unapproved"}, "not approved your account"),
    "embargoed, of others": (f"dandi://{ID}/{A}", EMBARGOED | {"key": OTHER_KEY}, f"{NO_PERMISSION['detail']}.*owner"),
    "being opened, without a key": (f"dandi://{ID}/{A}", {"status": "UNEMBARGOING"}, "needs a token"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_is_wrong_in_one_line(case, start):
    address, options, words = REFUSALS[case]
    archive = start(**options)
    archive.keys = {OTHER_KEY: "user", "unapproved": "unapproved"}
    with pytest.raises(NWBLintError, match=words) as error:
        expand(address.format(api=f"{archive.api.url}/api"))
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    assert not any(secret in text for secret in (KEY, OTHER_KEY))


# Answers that are none of the real server, and words of the message.
ZARR = {"asset_id": "x", "path": A, "size": 3, "zarr": "z", "metadata": {"contentUrl": ["/etc"]}}
ANSWERS = {
    "an asset without metadata": ((200, {"results": [ZARR | {"metadata": None}], "next": None}), "cannot be read"),
    "a list in place of a page": ((200, []), "cannot be read"),
    "a page of a web server": ((200, b"<html>"), "cannot be read"),
    "pages in a circle": ((200, {"results": [], "next": "{page}?page=2"}), "comes back to the same page"),
    "a folder of this machine": ((200, {"results": [ZARR], "next": None}), "gives no address of its data"),
    "a key for all that is asked": ((401, NO_KEY), f"may not be read.*{NO_KEY['detail']}"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_makes_no_sense_is_an_error_of_one_line(case, start):
    (status, body), words = ANSWERS[case]
    archive = start()
    if isinstance(body, dict) and body.get("next"):
        body = body | {"next": body["next"].format(page=f"{archive.api.url}/api/{DANDISET}/assets/")}
    archive.refusals["GET /api/.*" if status == 401 else "GET .*/assets/"] = (status, body)
    with pytest.raises(NWBLintError, match=words) as error:
        expand(f"dandi://{ID}/{PUBLISHED}/{A}")
    assert "\n" not in str(error.value)
    assert len(archive.api.log) < 9


def test_old_metadata_name_what_was_measured_as_texts(start):
    archive = start()
    for one in archive.assets:
        one["metadata"]["variableMeasured"] = ["ProcessingModule"]
    assert expand(f"dandi://{ID}/{A}")[0].derived


def test_a_secret_of_an_address_is_in_no_message(start):
    archive = start()
    address = f"{archive.api.url}/api/assets/00000000-0000-4000-8000-000000000000/download/?token=hidden"
    with pytest.raises(NWBLintError, match="no such dandiset") as error:
        expand(address)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("host", ["dandi", "DANDI", "ember-dandi", "dandi_sandbox"])
def test_a_host_with_the_name_of_an_archive_is_not_that_archive(host, offline_dandi):
    """The name of an archive says which key is sent."""
    with pytest.raises(NWBLintError, match=f"the host {host} has the name of an archive"):
        expand(f"https://{host}/api/assets/00000000-0000-4000-8000-000000000000/")


# -- requests: how many, and where keys go --

REQUESTS = {  # before the first spike: to the API, to the store
    "a file of a version": (f"dandi://{ID}/{PUBLISHED}/{A}", 1, 1),
    "a file of the last version": (f"dandi://{ID}/{A}", 2, 1),
    "an asset by its id": ("{api}/assets/{asset}/download/", 1, 1),
    "a page of a folder": (f"{{web}}/dandiset/{ID}/{PUBLISHED}/files?location=sub-a", 1, 1),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_an_open_file_takes_three_requests_at_most_to_its_first_spike(case, start):
    archive = start()
    address, n_api, n_store = REQUESTS[case]
    asset = next(one["asset_id"] for one in archive.assets if one["path"] == A)
    names = {"api": f"{archive.api.url}/api", "web": archive.api.url, "asset": asset}
    with open_nwb(address.format(**names)) as file:
        assert file["units/spike_times"][0] > 0
    assert (len(archive.api.log), len(archive.blobs.log)) == (n_api, n_store)
    assert n_api + n_store <= 3


@pytest.mark.parametrize(("page_size", "requests"), [(1000, 1), (2, 2), (1, 3)])
def test_a_listing_is_a_request_a_page_with_the_metadata_of_all_files(start, page_size, requests):
    archive = start(page_size=page_size)
    assert len(expand(f"dandi://{ID}/draft/*.nwb")) == 3
    assert len(archive.api.log) == requests


def test_what_is_embargoed_is_read_with_the_key_which_the_api_alone_sees(start, recordings):
    archive = start(**EMBARGOED, **OWNER)
    same_data(read_conditions(f"dandi://{ID}/{A}", **HOW), read_conditions(recordings[A], **HOW))
    assert any(KEY in str(request.headers) for request in archive.api.log)
    assert not any(KEY in str(request) for request in archive.blobs.log)


def test_the_key_does_not_follow_to_another_host(start, monkeypatch):
    archive, page = start(**EMBARGOED, **OWNER), Archive._page
    with Archive([], {}) as other:

        def elsewhere(self, *args):
            status, body = page(self, *args)
            next_page = f"{other.api.url}/api/dandisets/{ID}/versions/draft/assets/"
            return status, body | ({"next": next_page} if self is archive else {})

        monkeypatch.setattr(Archive, "_page", elsewhere)
        assert len(expand(f"dandi://{ID}/draft/*.nwb")) == 3
        assert other.api.log
        assert not any(KEY in str(request) for request in other.api.log)


@pytest.mark.parametrize("call", ["GET .*/assets/", "GET /api/auth/token/?"])
def test_the_key_does_not_follow_a_redirect(call, start):
    archive, redirected = start(**EMBARGOED, **OWNER), []
    with Archive([], {}) as other:

        def elsewhere():
            redirected.append(other.api.url)
            return 302, f"{other.api.url}/api/dandisets/{ID}/"

        answer = archive._answer

        def with_key(method, path, query, role, sent):
            moved = role and re.fullmatch(call, f"{method} {path}")
            return elsewhere() if moved else answer(method, path, query, role, sent)

        archive._answer = with_key
        with suppress(NWBLintError):
            expand(f"dandi://{ID}/draft/{A}")
        assert redirected
        assert other.api.log
        assert not any(KEY in str(request) for request in other.api.log)


def test_the_key_goes_over_https_or_stays_on_this_machine(start, monkeypatch):
    archive = start(**EMBARGOED, **OWNER)
    monkeypatch.setattr("nwb_lint.nwb.storage.dandi._is_this_machine", lambda host: False)
    with pytest.raises(NWBLintError):
        expand(f"dandi://{ID}/{A}")
    assert not any("Authorization" in request.headers for request in archive.api.log)


def test_an_archive_of_this_machine_may_call_itself_by_another_name(start, recordings, monkeypatch):
    archive = start(**EMBARGOED)
    port = archive.api.host.rpartition(":")[2]
    about = archive._info() | {"services": {"api": {"url": f"http://localhost:{port}/api"}}}
    archive.refusals["GET /api/info/"] = (200, about)
    monkeypatch.setenv(f"LOCALHOST:{port}_API_KEY", KEY)  # as the client names it
    assert expand(f"dandi://{ID}/{A}")[0].digest == sha256(recordings[A])
    about["services"]["api"]["url"] = "http://example.org/api"
    with pytest.raises(NWBLintError, match="names another host as its API"):
        expand(f"dandi://{ID}/{A}")


def test_a_file_is_read_through_the_api_where_its_store_gives_it_to_nobody(start, recordings):
    """As where a dandiset is embargoed again, or the store of an archive is not open."""
    archive = start()
    store = archive.blobs.route
    refused = []

    def closed(handler):
        if "X-Amz-Signature" not in handler.path:
            refused.append(handler.path)
            return 403, {}, b"<Error>AccessDenied</Error>"
        return store(handler)

    archive.blobs.route = closed
    same_data(read_trials(f"dandi://{ID}/{A}", **_TRIALS), read_trials(recordings[A], **_TRIALS))
    assert refused


_TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}


# -- digests --


@pytest.mark.parametrize("download", [False, True])
def test_before_the_archive_has_a_sha256_the_etag_of_dandi_is_the_digest(start, recordings, download):
    archive = start()
    for one in archive.assets:
        one["metadata"]["digest"].pop("dandi:sha2-256")
    read = read_trials(f"dandi://{ID}/draft/{A}", **_TRIALS, download=download)
    assert read["file_digest"].item() == etag_of(recordings[A].read_bytes())
    same_data(read, read_trials(recordings[A], **_TRIALS))


def test_a_download_with_another_etag_is_refused(start):
    archive = start()
    for one in archive.assets:
        one["metadata"]["digest"] = {"dandi:dandi-etag": f"{'0' * 32}-1"}
    with pytest.raises(NWBLintError, match="its DANDI ETag is not the archive's"):
        read_trials(f"dandi://{ID}/draft/{A}", **_TRIALS, download=True)


# -- several files --


def test_files_are_left_out_by_patterns(start, recordings):
    start()
    for exclude in (["sub-B/*", "sub-b/*"], ["*ses-2*", "sub-b_*"], [f"dandi://*/{B}", f"dandi://*/{B2}"]):
        assert [one.place.path for one in expand(f"dandi://{ID}/*.nwb", exclude=exclude)] == [A]
    found = read_conditions(f"dandi://{ID}/*.nwb", **HOW, exclude=["sub-[bB]*"])
    same_data(found, read_conditions(recordings[A], **HOW))
    with pytest.raises(NWBLintError, match=r"exclude=.*leaves out all files"):
        expand(f"dandi://{ID}/*.nwb", exclude=["*"])


def test_the_same_recording_twice_is_noticed(start, recordings, tmp_path):
    archive = start()
    content = Path(recordings[A]).read_bytes()
    archive.add(record("sub-a/sub-a_ses-1_desc-copy_ecephys.nwb", content), content)
    with pytest.raises(NWBLintError, match=r"same recording as.*object_id.*exclude="):
        read_conditions(f"dandi://{ID}/draft/sub-a/*.nwb", **HOW)
    found = read_conditions(f"dandi://{ID}/draft/sub-a/*.nwb", **HOW, exclude=["*_desc-*"])
    same_data(found, read_conditions(recordings[A], **HOW))
