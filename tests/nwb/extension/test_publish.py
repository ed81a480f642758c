"""A fit into a dandiset through the unmodified client, against a server of the calls that it makes, and back."""

from __future__ import annotations

import h5py
import pytest
from click.testing import CliRunner

from nwb_lint.cli import app
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.publish import dandi_path, publish
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.nwb.storage.source import expand
from tests.factories import assert_same, random_fit
from tests.nwb.archive import ID, Archive
from tests.nwb.extension.test_write import SUBJECT, fit_of, make_recording

TOKEN = "a-secret-of-40-letters"
FIT = random_fit(1, folder="")
PLACE = "sub-m1/sub-m1_desc-lowrank_ecephys.nwb"


pytestmark = pytest.mark.usefixtures("offline_dandi")


@pytest.fixture
def archive(offline_dandi, monkeypatch):
    with Archive([], {}, token=TOKEN, published=False, status="OPEN") as found:
        monkeypatch.setenv("DANDI_INSTANCE", f"{found.api.url}/api")
        monkeypatch.setenv(f"{found.api.host.upper()}_API_KEY", TOKEN)
        yield found


@pytest.fixture
def unchecked(monkeypatch):
    """Without the validators, which take a second or two."""
    trust(monkeypatch)


def trust(monkeypatch):
    """From now on no file is validated."""
    monkeypatch.setattr("nwb_lint.nwb.extension.publish._validate", lambda asset, source: [])


@pytest.fixture(scope="module")
def fit_file(tmp_path_factory):
    return write_fit(FIT, tmp_path_factory.mktemp("fit") / "fit.nwb", subject=SUBJECT)


def test_upload_list_stream_and_read_back(archive, fit_file, capfd, caplog):
    from dandi.dandiapi import DandiAPIClient

    caplog.set_level(0)
    before = fit_file.read_bytes()
    first = publish(fit_file, ID)
    assert first.sent
    assert [asset.path for asset in DandiAPIClient(token=TOKEN).get_dandiset(ID, "draft").get_assets()] == [PLACE]
    assert first.address == expand(f"dandi://{ID}/draft/*.nwb")[0].address
    assert_same(FIT, read_fit(first.address))
    assert fit_file.read_bytes() == before
    out, err = capfd.readouterr()
    assert TOKEN not in out + err + caplog.text
    assert not any(TOKEN in str(request) for request in archive.blobs.log)


def test_the_same_file_is_left_and_another_one_takes_its_place(archive, fit_file, tmp_path, unchecked):
    address = publish(fit_file, ID).address
    again = publish(fit_file, ID, instance=f"{archive.api.url}/api")
    assert (again.sent, again.address) == (False, address)
    other = write_fit(FIT.assign_attrs(seed=8), tmp_path / "other.nwb", subject=SUBJECT)
    with pytest.raises(NWBError, match=r"another file is at.*description=.*replace=True"):
        publish(other, ID)
    assert publish(other, ID, replace=True).sent
    assert len(archive.assets) == 1
    assert publish(fit_file, ID, description="rank 2").address.endswith("_desc-rank-2_ecephys.nwb")
    assert len(archive.assets) == 2
    assert read_fit(f"dandi://{ID}/draft/{PLACE}").attrs["seed"] == 8


def test_the_key_goes_nowhere_but_to_the_archive(archive, fit_file, monkeypatch, unchecked):
    page = archive._page
    with Archive([], {}, published=False) as other:  # where the archive's answer leads

        def elsewhere(*args):
            status, body = page(*args)
            return status, body | {"next": f"{other.api.url}/api/dandisets/{ID}/versions/draft/assets/"}

        monkeypatch.setattr(archive, "_page", elsewhere)
        publish(fit_file, ID)
        assert other.api.log
        assert not any(TOKEN in str(request) for request in [*other.api.log, *archive.blobs.log])
    monkeypatch.setattr("nwb_lint.nwb.storage.dandi._is_this_machine", lambda host: False)
    with pytest.raises(NWBError, match=r"key.*https"):
        publish(fit_file, ID)


def test_at_the_command_line(archive, fit_file, monkeypatch, unchecked):
    def run(*args):
        return CliRunner().invoke(app, ["publish", str(fit_file), *args], catch_exceptions=False)

    shown = run("--dandiset", ID, "--dry-run")
    assert (shown.exit_code, shown.stdout) == (0, f"would go to dandi://{archive.api.host}/{ID}/draft/{PLACE}\n")
    assert archive.api.log == []
    assert run("--dandiset", "9").exit_code == 1
    monkeypatch.setattr(archive, "token", "another")
    refused = run("--dandiset", ID)
    assert refused.exit_code == 1
    assert "refused the token" in refused.stderr
    assert TOKEN not in refused.output
    assert refused.stderr.count("\n") == 1 + refused.stderr.count("warning: ")


def test_paths_follow_from_subject_and_session(tmp_path):
    recording = make_recording(tmp_path / "a.nwb", session="2020_01.02 x", subject_id="A_1")
    path = write_fit(fit_of([recording]), tmp_path / "fit.nwb")
    assert dandi_path(path) == "sub-A-1/sub-A-1_ses-2020-01-02-x_desc-lowrank_ecephys.nwb"
    with pytest.warns(UserWarning, match="no subject"):
        bare = write_fit(FIT, tmp_path / "bare.nwb")
    with pytest.raises(NWBError, match="no subject_id"):
        dandi_path(bare)


def test_what_the_subject_lacks_is_named_and_can_be_added_to_what_is_sent(archive, tmp_path, monkeypatch):
    def run(*args):
        return CliRunner().invoke(app, ["publish", str(thin), "--dandiset", ID, *args], catch_exceptions=False)

    known = {"subject_id": "m1", "species": "Mus musculus", "sex": "F"}
    with pytest.warns(UserWarning, match="subject has no age.*DANDI.*subject="):
        thin = write_fit(FIT, tmp_path / "thin.nwb", subject=known)
    before = thin.read_bytes()
    assert "the subject has no age" in run().stderr
    assert "is not valid for the archive: NWBI.check_subject_age" in run("--subject", "age=old").stderr
    assert "subject has ages" in run("--subject", "ages=P90D").stderr
    assert run("--subject", "age").exit_code == 2
    assert archive.api.log == []
    assert run("--subject", "age=P90D").stdout.startswith("uploaded: ")
    trust(monkeypatch)
    assert run("--subject", "age=P90D").stdout.startswith("there already: ")
    address = expand(f"dandi://{ID}/draft/*.nwb")[0].address
    assert read_metadata(address).subject == known | {"age": "P90D"}
    assert_same(FIT, read_fit(address))
    assert thin.read_bytes() == before


def test_zarr_is_refused_while_the_client_does_not_read_its_subject(archive, fit_file, tmp_path):
    from dandi.files import dandi_file

    pytest.importorskip("hdmf_zarr")
    folder = tmp_path / PLACE
    folder.parent.mkdir()
    path = write_fit(FIT, folder.with_suffix(".nwb.zarr"), subject=SUBJECT)
    with pytest.raises(NWBError, match=r"is Zarr.*validate.*subject") as error:
        publish(path, ID)
    assert "\n" not in str(error.value)
    assert archive.api.log == []
    assert dandi_file(path, tmp_path).get_metadata().wasAttributedTo is None  # the reason: of HDF5 it says the subject
    (folder.parent / folder.name).write_bytes(fit_file.read_bytes())
    assert dandi_file(folder, tmp_path).get_metadata().wasAttributedTo[0].identifier == "m1"


def test_a_file_that_cannot_be_published_is_refused_and_nothing_is_sent(archive, fit_file, tmp_path):
    def refused(path, words, **options):
        with pytest.raises(NWBError, match=words) as error:
            publish(path, ID, **options)
        assert "\n" not in str(error.value)
        assert archive.api.log == []

    refused(make_recording(tmp_path / "a.nwb"), "holds no fit")
    refused(tmp_path / "fit.lindi.json", "not HDF5")
    linked = tmp_path / "linked.nwb"
    linked.write_bytes(fit_file.read_bytes())
    with h5py.File(linked, "a") as file:
        file["scratch/raw"] = h5py.ExternalLink("raw.nwb", "/x")
    refused(linked, r"external link \(/scratch/raw to raw\.nwb\)")
    refused(fit_file, "subject has sex already", subject={"sex": "M"})
    with h5py.File(linked, "a") as file:
        del file["scratch"]
        del file["processing/ecephys/lowrank_fit/time"]
    refused(linked, "is inconsistent: time is missing")
