"""What happens when a fit is published: a table of cases, each run against the archive of the tests.

The archive answers as the real one does (`tests.nwb.archive`): its words are kept here as its own server says them.
Reading is in `tests/nwb/storage/test_dandi_cases.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.errors import NWBLintError
from nwb_lint.nwb.extension.private import Cleaner, FitSource
from nwb_lint.nwb.extension.publish import publish
from nwb_lint.nwb.storage.asset import Place
from nwb_lint.nwb.storage.source import expand
from nwb_lint.testing import mock_session
from nwb_lint.workflow.recipe import load_recipe
from tests.factories import random_fit
from tests.nwb import archive as server
from tests.nwb.archive import ID, PUBLISHED, Archive, record
from tests.nwb.extension.test_write import SUBJECT, fit_of, new_nwbfile

pytestmark = pytest.mark.usefixtures("offline_dandi")

KEY, OTHER_KEY = "key-of-an-owner", "key-of-somebody-else"
PLACE = "sub-m1/sub-m1_desc-lowrank_ecephys.nwb"
OTHER = "000010"


@pytest.fixture
def archive(monkeypatch):
    with Archive([], {}, token=KEY, published=False, status="OPEN") as found:
        found.keys = {OTHER_KEY: "user", "unapproved": "unapproved"}
        monkeypatch.setenv("DANDI_INSTANCE", f"{found.api.url}/api")
        monkeypatch.setenv(f"{found.api.host}_API_KEY", KEY)
        monkeypatch.setattr("dandi.dandiapi.REQUEST_RETRIES", 1)
        yield found


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """Without the validators, which take a second or two; `test_publish` runs them."""
    monkeypatch.setattr("nwb_lint.nwb.extension.publish._validate", lambda asset, source: [])


@pytest.fixture(scope="module")
def fit_file(tmp_path_factory):
    return nl.write_fit(random_fit(1, folder=""), tmp_path_factory.mktemp("fit") / "fit.nwb", subject=SUBJECT)


def sent_bytes(archive) -> bytes:
    return archive.blobs.files[archive.places[archive.assets[-1]["path"]]]


# -- refusals: the situation, and words of the message; the archive's own are between quotes --


def without_key(archive, monkeypatch):
    monkeypatch.delenv(f"{archive.api.host}_API_KEY")


def with_key(key):
    return lambda archive, monkeypatch: monkeypatch.setenv(f"{archive.api.host}_API_KEY", key)


def answering(call, *answer):
    return lambda archive, monkeypatch: archive.refusals.update({call: answer})


def with_status(status):
    return lambda archive, monkeypatch: setattr(archive, "status", status)


def with_minimal_client(archive, monkeypatch):
    archive.minimal_client = "99.0.0"


def silent(archive, monkeypatch):
    monkeypatch.setattr("nwb_lint.nwb.storage.http._TIMEOUT_S", (0.3, 0.3))
    archive.refusals["POST .*/initialize/"] = lambda: (time.sleep(1), (200, {}))[1]


def with_file_below(archive, monkeypatch):
    archive.assets.append(record(f"{PLACE}/x.txt", b"x"))


ASSETS = "POST .*/versions/draft/assets/"
REFUSALS = {
    "no key": (without_key, "needs a token.*_API_KEY"),
    "a wrong key": (with_key("wrong"), "refused the token. It says: 'Invalid token.'.*Get a new one"),
    "an account that is not approved": (with_key("unapproved"), "not approved.*'You do not have perm.*Wait"),
    "no rights": (with_key(OTHER_KEY), f"'{server.NOT_ALLOWED}'.*ask an owner of the dandiset to add you"),
    "no rights, for the record alone": (answering(ASSETS, 403, b""), "status 403.*ask an owner"),
    "locked: it is being published": (answering(ASSETS, 423, server.PUBLISHING), f"'{server.PUBLISHING}'.*Wait until"),
    "being opened": (with_status("UNEMBARGOING"), f"'{server.UNEMBARGOING}'.*Wait until the embargo"),
    "a client that is too old": (with_minimal_client, "'Client version.*too old.*99.0.0'.*pip install --upgrade dandi"),
    "no answer in time": (silent, "did not answer in time.*Run this again"),
    "a folder of that name": (with_file_below, "'Path of new asset.*conflicts.*description="),
    "a path that is not allowed": (
        answering(ASSETS, 400, {"non_field_errors": [server.BAD_PATH]}), f"status 400.*'{server.BAD_PATH}'",
    ),
    "a version that is published": (answering(ASSETS, 405, server.ONLY_DRAFT), f"'{server.ONLY_DRAFT}'"),
    "too many requests": (answering("POST .*/initialize/", 429, {"detail": "Request was throttled."}), "throttled"),
    "a server that fails": (answering("POST .*/initialize/", 503, b"down"), "status 503.*later"),
    "a path that somebody else has just taken": (answering(ASSETS, 409, server.PATH_TAKEN), "description="),
    "bytes that somebody else has just sent": (
        answering("POST .*/validate/", 409, "An identical blob has already been uploaded."), "'An identical.*again",
    ),
    "an upload that is damaged": (answering("POST .*/validate/", 400, ["ETag a does not match b."]), "'ETag a does"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_has_the_archives_words_and_what_to_do(case, archive, fit_file, monkeypatch):
    prepare, words = REFUSALS[case]
    prepare(archive, monkeypatch)
    before = list(archive.assets)
    with pytest.raises(NWBLintError, match=words) as error:
        publish(fit_file, ID)
    assert "\n" not in str(error.value)
    assert not any(key in str(error.value) for key in (KEY, OTHER_KEY))
    assert archive.assets == before


def test_a_dandiset_that_is_not_there(archive, fit_file):
    with pytest.raises(NWBLintError, match=r"000123.*No such.*000123.*Check the dandiset"):
        publish(fit_file, "000123")


def test_an_archive_that_does_not_answer(fit_file, monkeypatch):
    monkeypatch.setattr("nwb_lint.nwb.storage.http.get_bytes.retry.sleep", lambda seconds: None)
    with pytest.raises(NWBLintError, match="does not answer"):
        publish(fit_file, ID, instance="http://127.0.0.1:1/api")


# -- which file is at the path --


def test_the_same_bytes_are_sent_once_and_a_second_fit_needs_a_name_or_replace(archive, fit_file, tmp_path):
    other = nl.write_fit(random_fit(2, folder=""), tmp_path / "other.nwb", subject=SUBJECT)
    assert publish(fit_file, ID).sent
    assert not publish(fit_file, ID).sent
    with pytest.raises(NWBLintError, match=r"another file is at.*description=.*replace=True"):
        publish(other, ID)
    assert publish(other, ID, description="rank2").address.endswith("_desc-rank2_ecephys.nwb")
    assert publish(other, ID, replace=True).sent
    assert sorted(one["path"] for one in archive.assets) == [PLACE, PLACE.replace("lowrank", "rank2")]


def test_bytes_that_the_archive_has_already_are_not_uploaded(archive, fit_file):
    publish(fit_file, ID)
    stored = len(archive.blobs.files)
    assert publish(fit_file, ID, description="again").sent
    assert len(archive.blobs.files) == stored


def test_progress_is_in_bytes(archive, fit_file, monkeypatch):
    seen = {}

    @contextmanager
    def bar(shown, label, *, unit, total):
        seen.update(shown=shown, unit=unit, total=total)
        yield type(
            "Bar", (), {"n": 0, "update": lambda self, n: setattr(self, "n", self.n + n) or seen.update(n=self.n)}
        )()

    monkeypatch.setattr("nwb_lint.nwb.extension.publish.progress_bar", bar)
    publish(fit_file, ID, progress=True)
    size = fit_file.stat().st_size
    assert seen == {"shown": True, "unit": "byte", "total": size, "n": size}


def test_the_address_is_read_at_once_and_after_the_sha256_has_come(archive, fit_file, monkeypatch):
    address = publish(fit_file, ID).address
    digests = [expand(address)[0].digest]
    archive.compute_digests()
    digests.append(expand(address)[0].digest)
    assert [len(one) for one in digests] == [34, 64]
    monkeypatch.delenv("DANDI_INSTANCE")  # a host of this machine needs no more than its address
    assert nl.read_fit(address)["m"].identical(random_fit(1, folder="")["m"])


def test_a_dry_run_names_the_archive_and_asks_nobody(archive, fit_file):
    for instance, name in (("", f"{archive.api.host}/"), ("dandi-sandbox", "dandi-sandbox/"), ("dandi", "")):
        found = publish(fit_file, ID, dry_run=True, instance=instance)
        assert (found.address, found.sent) == (f"dandi://{name}{ID}/draft/{PLACE}", False)
    assert not archive.api.log


def test_labels_have_only_what_a_path_of_the_archive_may_have(archive, tmp_path):
    path = nl.write_fit(random_fit(1), tmp_path / "fit.nwb", subject=SUBJECT | {"subject_id": "Ratté {7}!"})
    assert publish(path, ID, description="é (2)").address.endswith("/sub-Ratte-7/sub-Ratte-7_desc-e-2_ecephys.nwb")


# -- metadata --


def sources(fit: xr.Dataset, files, **coords) -> xr.Dataset:
    """The fit as one of these files."""
    names = [str(fit["file"].values[k]) for k in range(fit.sizes["file"])]
    renamed = np.array([str(files[names.index(one)]) if one in names else one for one in fit["source"].values.tolist()])
    fit = fit.assign_coords(file=("file", np.array(list(map(str, files)))), source=("neuron", renamed))
    return fit.assign_coords({f"file_{key}": ("file", np.array(values)) for key, values in coords.items()})


def test_neurons_that_were_recorded_are_counted_apart_from_hidden_units(archive, tmp_path):
    fit = random_fit(1, n_neurons=9, hidden=True)
    n = int(fit["recorded"].sum())
    publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT), ID)
    about = archive.assets[0]["metadata"]["description"]
    assert f"{n} recorded neurons and {9 - n} hidden units" in about
    assert "9 neurons" not in json.dumps(archive.assets[0]["metadata"])


def test_the_recordings_are_linked_and_the_software_is_named(archive, tmp_path):
    ids = [server.random_id(str(k)) for k in range(2)]
    paths = ["sub-m1/sub-m1_ses-1.nwb", "sub-m1/sub-m1_ses-2.nwb"]
    host = archive.api.host
    where = {"dandiset": [f"{host}/{ID}"] * 2, "version": ["draft"] * 2, "asset_path": paths, "asset_id": ids}
    fit = sources(random_fit(1), [f"dandi://{host}/{ID}/draft/{path}" for path in paths], **where)
    publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[]), ID)
    metadata = archive.assets[0]["metadata"]
    linked = [one for one in metadata["relatedResource"] if one["relation"] == "dcite:IsDerivedFrom"]
    assert [one["identifier"] for one in linked] == [f"dandiasset:{one}" for one in ids]
    assert [one["url"] for one in linked] == [f"{archive.api.url}/api/assets/{one}/" for one in ids]
    software = [one["name"] for made in metadata["wasGeneratedBy"] for one in made.get("wasAssociatedWith", [])]
    assert "nwb_lint" in software
    assert "1970" not in json.dumps(metadata)


def test_a_recording_of_a_downloaded_dandiset_is_linked_by_the_id_that_the_archive_has(archive, tmp_path):
    inside = "sub-m1/sub-m1_ses-1_ecephys.nwb"
    archive.assets.append(record(inside, b"x"))
    where = {"dandiset": [f"{archive.api.host}/{ID}"], "version": ["draft"], "asset_path": [inside], "asset_id": [""]}
    fit = sources(random_fit(1, n_files=1), [f"{HOME}/{ID}/{inside}"], **where)
    publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[]), ID)
    linked = [one["identifier"] for one in archive.assets[1]["metadata"]["relatedResource"]]
    assert f"dandiasset:{archive.assets[0]['asset_id']}" in linked


def test_several_subjects_need_a_choice_and_all_are_named(archive, tmp_path):
    fit = sources(random_fit(1), ["one.nwb", "two.nwb"], subject_id=["A", "C"])
    joined = SUBJECT | {"subject_id": "A+C", "sex": "U"}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=joined, source=[])
    for subject in ({}, {"subject_id": "B"}):
        with pytest.raises(NWBLintError, match=r"2 subjects \(A, C\).*subject=\{'subject_id': 'A'\}"):
            publish(path, ID, subject=subject)
    found = publish(path, ID, subject={"subject_id": "C", "sex": "M"})
    assert found.address.endswith("/sub-C/sub-C_desc-lowrank_ecephys.nwb")
    people = archive.assets[0]["metadata"]["wasAttributedTo"]
    assert [one["identifier"] for one in people] == ["C", "A"]
    assert people[0]["sex"]["name"] == "Male"
    (tmp_path / "sent.nwb").write_bytes(sent_bytes(archive))
    with h5py.File(tmp_path / "sent.nwb") as file:
        assert file["general/subject/subject_id"].asstr()[()] == "C"


def test_one_subject_is_not_given_another_name(archive, fit_file, tmp_path):
    with pytest.raises(NWBLintError, match=r"subject has subject_id already.*Drop subject_id"):
        publish(fit_file, ID, subject={"subject_id": "m2", "age": "P1D"})
    with pytest.warns(UserWarning, match="no subject"):
        bare = nl.write_fit(random_fit(1), tmp_path / "bare.nwb")
    with pytest.raises(NWBLintError, match=r"has no subject.*Write the fit with subject="):
        publish(bare, ID, subject=SUBJECT)
    assert not archive.api.log


# -- what is private --

HOME = "/home/alice/My data"
PRIVATE = {  # a source of the fit as it stands in the file: what is sent in its place
    "a path": (f"{HOME}/rec.nwb", "rec.nwb"),
    "a path of Windows": (r"C:\Users\alice\rec.nwb", "rec.nwb"),
    "a share": (r"\\server\alice\rec.nwb", "rec.nwb"),
    "a password": ("https://alice:word@lab.org/rec.nwb", "https://lab.org/rec.nwb"),
    "a signature": ("https://lab.org/rec.nwb?versionId=3&X-Amz-Signature=5f", "https://lab.org/rec.nwb?versionId=3"),
    "a host of one network": ("http://10.0.0.7/alice/rec.nwb", "rec.nwb"),
    "a name in the home folder": ("~alice/rec.nwb", "rec.nwb"),
}


TEXTS = {  # a text of the fit: the text that is sent
    "left out /data/alice/two.nwb: empty": "left out two.nwb: empty",
    "left out /home/alice/Bob Smith/two.nwb: empty": "left out two.nwb: empty",
    "left out /lab/Alice B Smith/two.nwb: empty": "left out two.nwb: empty",  # the folder of a source
    "left out /lab/Alice/two.nwb: empty": "left out two.nwb: empty",
    "sources = ['/lab/three.nwb', \"/lab/three.nwb\"]": "sources = ['{0}', \"{0}\"]",
    "/lab/three.nwb: empty": "{0}: empty",
    'out = "/home/alice"': 'out = "~"',
    r"out = 'C:\Users\alice'": "out = '~'",
    r"\\?\C:\Users\alice\x.nwb": "x.nwb",
    json.dumps([r"\\?\C:\Users\alice\x.nwb", r"\\nas\alice\x.nwb"]): '["x.nwb", "x.nwb"]',
    "//nas/alice/x.nwb": "x.nwb",
    "/n/netscratch/alice/x": "x",
    "file:/home/alice/x.nwb": "file:x.nwb",
    "made by alice@cluster:/home/alice/x.nwb": "made by x.nwb",
    "sftp://alice@lab.org/home/alice/x.nwb": "x.nwb",
    "-o/home/alice/out": "out",
    "../../home/alice/x.nwb": "x.nwb",
    "PosixPath('/home/alice/Bob\"s x/a, b.nwb')": "PosixPath('a, b.nwb')",
    "(https://a:b@lab.org/x.nwb), s3://bucket/x?sig=1": "(https://lab.org/x.nwb), s3://bucket/x",
    "https://lab.org/home/of/x.nwb": "https://lab.org/home/of/x.nwb",
    "units of /units/spike_times, /processing/a/b/c": "units of /units/spike_times, /processing/a/b/c",
    "1/2, a / b, spikes/s, and/or": "1/2, a / b, spikes/s, and/or",
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_text_says_about_a_computer_is_replaced(text):
    place = Place("", "000009", "draft", "sub-1/sub-1.nwb")
    here = {"/lab/Alice B Smith/one.nwb": Place(), "/lab/three.nwb": place}
    clean = Cleaner([FitSource(name, known, "", "") for name, known in here.items()])
    sent = TEXTS[text].replace("{0}", place.address)
    assert clean(text) == sent
    assert bool(clean.replaced) == (text != sent)


@pytest.mark.parametrize("piece", ["a-", "a.", "a@", "'/", "/", "ab/", "'/a ", "/a,b", "/a b c/", "word "])
def test_long_texts_take_no_long_time(piece):
    n = 20_000
    start = time.process_time()
    Cleaner([])(piece * n + "/")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("case", PRIVATE)
def test_what_is_private_is_replaced_in_all_texts_and_no_byte_of_it_is_sent(case, archive, tmp_path):
    name, public = PRIVATE[case]
    recipe = f"sources = [{json.dumps(name)}]\nout = '/home/alice/fits/x.nwb'\n"
    fit = sources(random_fit(1, n_files=1), [name])
    fit = fit.assign_attrs(recipe=recipe, warnings=[f"left out {name}: it is empty", "units of /units/spike_times"])
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[])
    before = path.read_bytes()
    found = publish(path, ID)
    assert path.read_bytes() == before
    assert found.notes
    sent = nl.read_fit(found.address)
    assert sent.encoding["verified"]
    assert sent["file"].item() == public
    assert set(sent["source"].values.tolist()) <= {public, ""}
    assert sent.attrs["warnings"][1] == "units of /units/spike_times"
    assert "out = 'x.nwb'" in sent.attrs["recipe"]
    content = sent_bytes(archive)
    for secret in (b"alice", b"word@", b"Signature=5f", b"10.0.0.7"):
        assert secret not in content, content[content.find(secret) - 99 :][:199]
        assert secret.decode() not in json.dumps(archive.assets)
    np.testing.assert_array_equal(sent["m"], fit["m"])
    assert not publish(path, ID).sent  # the copy has the same bytes each time


def test_a_public_address_that_has_a_private_path_in_it_stays_whole(archive, tmp_path):
    """The bytes of private texts are written over wherever they are, and what stays is written again."""
    both = ["/tmp/of/rec.nwb is empty", "https://lab.org/tmp/of/rec.nwb is empty"]
    fit = random_fit(1, folder="").assign_attrs(warnings=both, note=both[1])
    sent = nl.read_fit(publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT), ID).address)
    assert sent.attrs["warnings"] == ["rec.nwb is empty", both[1]]
    assert sent.attrs["note"] == both[1]


def test_two_files_of_one_name_stay_two(archive, tmp_path):
    fit = sources(random_fit(1), [f"{HOME}/1/rec.nwb", f"{HOME}/2/rec.nwb"], digest=["a" * 64, "b" * 64])
    found = publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[]), ID)
    assert nl.read_fit(found.address)["file"].values.tolist() == ["aaaaaaaaaaaa/rec.nwb", "bbbbbbbbbbbb/rec.nwb"]
    fit["file_digest"] = "file", np.array(["", ""])
    found = publish(nl.write_fit(fit, tmp_path / "b.nwb", subject=SUBJECT, source=[]), ID, description="b")
    assert nl.read_fit(found.address)["file"].values.tolist() == ["0/rec.nwb", "1/rec.nwb"]


def test_a_downloaded_recording_is_named_by_its_place_in_the_archive(archive, tmp_path):
    inside = "sub-m1/sub-m1_ses-1_ecephys.nwb"
    where = {"dandiset": [f"{archive.api.host}/{ID}"], "version": [PUBLISHED], "asset_path": [inside], "asset_id": [""]}
    fit = sources(random_fit(1, n_files=1), [f"{HOME}/{ID}/{inside}"], **where)
    found = publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[]), ID)
    assert nl.read_fit(found.address)["file"].item() == f"dandi://{archive.api.host}/{ID}/{PUBLISHED}/{inside}"


def test_results_beside_the_fit_are_looked_through_too(archive, tmp_path):
    fit = sources(random_fit(1, n_files=1), [f"{HOME}/rec.nwb"])
    beside = {"J": nl.connectivity(fit).assign_attrs(note=f"of {HOME}/rec.nwb")}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[], results=beside)
    found = publish(path, ID)
    assert b"alice" not in sent_bytes(archive)
    assert nl.read_result(found.address, name="J").attrs["note"] == "of rec.nwb"


def test_a_full_copy_of_a_recording_keeps_the_recording(archive, tmp_path):
    nwbfile, recording = new_nwbfile(), tmp_path / "rec.nwb"
    nwbfile.notes = f"sorted in {HOME}/sorted, see /units/spike_times"
    with pynwb.NWBHDF5IO(str(recording), "w") as io:
        io.write(nwbfile)
    fit = fit_of([recording]).assign_attrs(recipe=f"sources = ['{HOME}/rec.nwb']")
    path = nl.write_fit(fit, tmp_path / "whole.nwb", into=recording)
    found = publish(path, ID)
    assert b"alice" not in sent_bytes(archive)
    assert str(tmp_path).encode() not in sent_bytes(archive)
    assert nl.read_fit(found.address)["file"].item() == "rec.nwb"
    with nl.open_nwb(found.address) as sent, nl.open_nwb(recording) as own:
        for name in ("spike_times", "spike_times_index", "id"):
            np.testing.assert_array_equal(sent[f"units/{name}"][()], own[f"units/{name}"][()])
        assert sent["general/notes"].asstr()[()].endswith("see /units/spike_times")
    asset = archive.assets[0]["metadata"]
    assert {"value": "Units", "schemaKey": "PropertyValue"} in asset["variableMeasured"]
    assert not expand(found.address)[0].derived  # it is a recording: patterns keep it


def test_a_fit_without_anything_private_is_sent_without_a_copy(archive, fit_file, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    assert publish(fit_file, ID).notes == []
    assert sent_bytes(archive) == fit_file.read_bytes()


EMBARGO = {  # status of the dandiset of the recordings, of that of the fit, and whether the fit may go there
    "from embargoed to open": ("EMBARGOED", "OPEN", False),
    "while it is opened": ("UNEMBARGOING", "OPEN", False),
    "from embargoed to embargoed": ("EMBARGOED", "EMBARGOED", True),
    "from open to open": ("OPEN", "OPEN", True),
    "from a dandiset that is gone": (None, "OPEN", False),
}


@pytest.mark.parametrize("case", EMBARGO)
def test_embargoed_recordings_do_not_get_into_an_open_dandiset_unasked(case, archive, tmp_path):
    archive.others[OTHER], archive.status, allowed = EMBARGO[case]
    address = f"dandi://{archive.api.host}/{OTHER}/draft/sub-1/sub-1.nwb"
    fit = sources(random_fit(1, n_files=1), [address])
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[])
    if not allowed:
        with pytest.raises(NWBLintError, match=r"embargoed.*allow_embargoed=True"):
            publish(path, ID)
        assert not any(request.method == "POST" for request in archive.api.log)
    assert publish(path, ID, allow_embargoed=not allowed).sent


def test_an_embargoed_dandiset_that_only_a_text_names_is_not_told_either(archive, tmp_path):
    for k, host in enumerate((f"{archive.api.host}/", "")):  # without a host it is the archive in use
        archive.others[OTHER] = "EMBARGOED"
        fit = random_fit(1, folder="").assign_attrs(warnings=[f"left out dandi://{host}{OTHER}/draft/a.nwb: empty"])
        path = nl.write_fit(fit, tmp_path / f"{k}.nwb", subject=SUBJECT)
        with pytest.raises(NWBLintError, match=f"names recordings in {OTHER}.*embargoed.*allow_embargoed=True"):
            publish(path, ID)
        archive.others[OTHER] = "OPEN"
        assert publish(path, ID, description=f"fit{k}").sent


def test_the_description_of_a_converted_network_names_no_path(archive, tmp_path):
    fit = random_fit(1, folder="").assign_attrs(method="converted", converted_from="/home/alice/net.pt")
    publish(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT), ID)
    assert "from net.pt: " in archive.assets[0]["metadata"]["description"]
    assert "alice" not in json.dumps(archive.assets)


# -- at the end --


def test_a_recipe_runs_again_after_its_fit_was_published_beside_the_recordings(archive, tmp_path, monkeypatch):
    """The pattern of a recipe then matches the fit too, which holds no recording."""
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        session = mock_session(tmp_path / f"{k}.nwb", seed=k, session_id=f"s{k}")
        archive.add(record(f"sub-m1/sub-m1_ses-{k}_ecephys.nwb", session), session)
    how = "--by side --align cue_time --window -0.2 0.8 --bin 0.1 --rank 1 --tau 0.1 --no-plot --test-size 0"

    def run(*args):
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 0, done.output
        return done

    command = ["-q", "fit", f"dandi://{ID}/draft/*.nwb", *how.split(), "--out", "fit.nwb"]
    run(*command, "--subject", "age=P90D")
    address = publish("fit.nwb", ID, description="rank1").address
    assert len(expand(f"dandi://{ID}/draft/*.nwb")) == 3
    again = run(*command, "--subject", "age=P90D")
    assert "nothing to do" in again.output
    assert f"left out {address}: it holds a fit" in again.output
    recipe = run("init", f"DANDI:{ID}/draft", "--exclude", "sub-x/*").stdout
    Path("recipe.toml").write_text(recipe)
    assert load_recipe("recipe.toml").sources == (f"DANDI:{ID}/draft",)
    assert load_recipe("recipe.toml").read.exclude == ("sub-x/*",)
    publish(nl.write_fit(random_fit(3), "other.nwb", subject=SUBJECT), ID)
    with pytest.warns(UserWarning, match="left out .*holds a fit"):
        trials = nl.read_trials(f"dandi://{ID}/draft/*.nwb", align="cue_time", window_s=(0, 1), bin_s=0.1)
    assert trials.sizes["file"] == 2


def test_nothing_is_left_where_the_process_is_asked_to_end(archive, tmp_path):
    fit = sources(random_fit(1, n_files=1), [f"{HOME}/rec.nwb"])
    nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, source=[])
    folder = tmp_path / "temporary"
    folder.mkdir()
    asked = threading.Event()
    archive.refusals["POST .*/initialize/"] = lambda: (asked.set(), time.sleep(20), (200, {}))[-1]
    code = (
        "import nwb_lint.nwb.extension.publish as p; p._validate = lambda *a: []; from nwb_lint.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "publish", str(tmp_path / "fit.nwb"), "--dandiset", ID]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(folder)}, stderr=subprocess.DEVNULL)
    assert asked.wait(60)
    assert list(folder.glob("nwb_lint-*/*.nwb"))
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert process.returncode == -signal.SIGTERM
    assert list(folder.glob("nwb_lint-*")) == []
