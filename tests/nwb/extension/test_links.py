"""Recordings with links in a circle, or without what pynwb needs: a copy with a fit works, or the error names what is
wrong."""

from __future__ import annotations

import json
import shutil
import time

import h5py
import numpy as np
import pynwb
import pytest

from nwb_lint import open_nwb, read_fit, write_fit
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.publish import publish
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.recording.events import event_paths
from tests.factories import assert_same
from tests.nwb.extension.test_write import SUBJECT, fit_of, make_recording
from tests.nwb.storage.test_zarr import to_zarr


def add_series(file, at):
    group = file.create_group(at)
    group.attrs.update(neurodata_type="TimeSeries", namespace="core", description=at, object_id=f"id of {at}")
    group.create_dataset("data", data=np.arange(3.0)).attrs.update(unit="V", conversion=1.0)
    group.create_dataset("timestamps", data=np.arange(3.0)).attrs.update(unit="seconds", interval=np.int32(1))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording with groups in groups, and a series of events."""
    path = make_recording(tmp_path_factory.mktemp("links") / "recording.nwb")
    with h5py.File(path, "r+") as file:
        file.create_group("analysis/deeper/deepest")
        add_series(file, "acquisition/licks")
    return path


@pytest.fixture(scope="module")
def fit_file(tmp_path_factory, recording):
    fit = fit_of([recording])
    return write_fit(fit, tmp_path_factory.mktemp("fit") / "fit.nwb", source=recording, subject=SUBJECT)


def changed(path, target, change):
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def link(at, to):
    def change(file):
        file.require_group(at.rpartition("/")[0] or "/")
        file[at] = h5py.SoftLink(to.removeprefix("soft ")) if to.startswith("soft ") else file[to]

    return change


CIRCLES = {
    "the root": link("analysis/again", "/"),
    "a parent": link("analysis/deeper/deepest/up", "/analysis/deeper"),
    "itself": link("analysis/deeper/deepest/up", "/analysis/deeper/deepest"),
    "the root, by a soft link": link("analysis/again", "soft /"),
    "a parent, by a soft link": link("analysis/deeper/deepest/up", "soft /analysis"),
    "two groups that hold each other": lambda file: (
        link("analysis/a/b", "soft /analysis/c")(file),
        link("analysis/c/d", "soft /analysis/a")(file),
    ),
}


@pytest.mark.parametrize("change", CIRCLES.values(), ids=CIRCLES)
def test_a_circle_of_links_is_named(tmp_path, recording, fit_file, change):
    source, target = changed(recording, tmp_path / "circle.nwb", change), tmp_path / "copy.nwb"
    with pytest.raises(NWBError, match=r"(hard|soft) link /analysis/\S+ leads back to /.* circle"):
        write_fit(fit_of([source]), target, into=source)
    assert not target.exists()
    with pytest.raises(NWBError, match="leads back to"):
        publish(changed(fit_file, tmp_path / "circle_fit.nwb", change), "000001", dry_run=True)
    assert read_fit(changed(fit_file, tmp_path / "again.nwb", change)).sizes["neuron"] == 3


@pytest.mark.parametrize("change", CIRCLES.values(), ids=CIRCLES)
def test_a_circle_of_links_is_walked_once_by_readers(tmp_path, recording, change):
    source = changed(recording, tmp_path / "circle.nwb", change)
    with h5py.File(source) as file:
        assert event_paths(file) == ["acquisition/licks"]
    assert describe(source).units.ids == [11, 4, 7]


def test_many_paths_to_one_group_are_walked_once(tmp_path, recording):
    def change(file):
        group = file.create_group("scratch")
        for _ in range(20):
            below = group.create_group("a/n")
            group["b/n"] = below
            group = below

    source = changed(recording, tmp_path / "paths.nwb", change)
    with h5py.File(source) as file:
        assert event_paths(file) == ["acquisition/licks"]
    with pytest.raises(NWBError, match=r"\d+ paths"):
        write_fit(fit_of([source]), tmp_path / "copy.nwb", into=source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (link("another", "units/id"), "/another and /units/id are one object under two names"),
        (lambda file: file.create_group("analysis/" + "deep/" * 300), "60 groups deep"),
        (link("analysis/again", "soft /analysis/again"), "cannot be read or completed by pynwb|leads in a circle"),
        (lambda file: file.__setitem__("analysis/type", np.dtype("f8")), "cannot be read or completed by pynwb"),
        (lambda file: file.attrs.__delitem__("neurodata_type"), "cannot be read or completed by pynwb"),
        (lambda file: file["units"].attrs.__setitem__("neurodata_type", "Cells"), "'Cells'"),
        (lambda file: file.__delitem__("units/spike_times"), "cannot be read or completed by pynwb"),
        (lambda file: file.__delitem__("general"), "cannot be read or completed by pynwb.*general"),
    ],
)
def test_what_pynwb_cannot_read_is_refused(tmp_path, recording, change, words):
    source = changed(recording, tmp_path / "bad.nwb", change)
    with pytest.raises(NWBError, match=words) as found:
        write_fit(fit_of([source]), tmp_path / "copy.nwb", into=source)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 700
    assert not (tmp_path / "copy.nwb").exists()


def test_links_that_pynwb_passes_over_are_kept(tmp_path, recording):
    source = changed(recording, tmp_path / "linked.nwb", link("analysis/again", "soft /nowhere"))
    fit = fit_of([source])
    copy = write_fit(fit, tmp_path / "copy.nwb", into=source)
    assert_same(fit, read_fit(copy))
    with h5py.File(copy) as file:
        assert isinstance(file.get("analysis/again", getlink=True), h5py.SoftLink)


def test_one_dataset_in_two_groups_stays_one(tmp_path, recording):
    def change(file):
        add_series(file, "acquisition/one")
        add_series(file, "acquisition/two")
        del file["acquisition/two/timestamps"]
        file["acquisition/two/timestamps"] = file["acquisition/one/timestamps"]

    source = changed(recording, tmp_path / "shared.nwb", change)
    copy = write_fit(fit_of([source]), tmp_path / "copy.nwb", into=source)
    with h5py.File(copy) as file:
        assert file["acquisition/one/timestamps"] == file["acquisition/two/timestamps"]
    with pynwb.NWBHDF5IO(copy, "r") as io:
        assert io.read().acquisition["two"].timestamps[2] == 2.0


def test_a_recording_without_its_date_of_creation(tmp_path, recording):
    source = changed(recording, tmp_path / "dateless.nwb", lambda file: file.__delitem__("file_create_date"))
    fit = fit_of([source])
    with pytest.warns(UserWarning, match="no file_create_date.*time of copying"):
        copy = write_fit(fit, tmp_path / "copy.nwb", into=source)
    assert_same(fit, read_fit(copy))
    with pynwb.NWBHDF5IO(copy, "r") as io:
        assert len(io.read().file_create_date) == 1
    with h5py.File(source) as file:
        assert "file_create_date" not in file


@pytest.mark.parametrize(
    "name", ["identifier", "session_description", "session_start_time", "timestamps_reference_time", "file_create_date"]
)
def test_facts_of_the_session_that_are_no_text(tmp_path, recording, name):
    values = [None, 3, np.arange(3.0), h5py.Empty("f8"), b"\xff\xfe", np.zeros(2, "i4,f8"), h5py.SoftLink("/nowhere")]
    for k, value in enumerate(values[name == "file_create_date" :]):

        def change(file, value=value):
            del file[name]
            if value is not None:
                file[name] = value

        source = changed(recording, tmp_path / f"{k}.nwb", change)
        with pytest.raises(NWBError, match=f"no {name} that pynwb accepts"):
            write_fit(fit_of([recording]), tmp_path / "copy.nwb", into=source)


def test_a_name_that_is_no_text_is_named(tmp_path, recording):
    def change(file):
        file.id.links.create_hard(b"analysis/\x9a", file["units"].id, b"id")

    source = changed(recording, tmp_path / "source.nwb", change)
    with pytest.raises(NWBError, match="has a name that is no text"):
        write_fit(fit_of([recording]), tmp_path / "copy.nwb", into=source)


def test_a_zarr_folder_that_holds_a_link_to_itself(tmp_path, recording):
    source = to_zarr(recording, tmp_path / "one.nwb.zarr")
    (source / "analysis" / "again").symlink_to(source, target_is_directory=True)
    with pytest.raises(NWBError, match="again is a link to a folder that it lies in"):
        write_fit(fit_of([recording]), tmp_path / "copy.nwb.zarr", into=source)


def test_a_circle_of_folders_is_not_walked(tmp_path, recording):
    source = to_zarr(recording, tmp_path / "one.nwb.zarr")
    (source / "units" / "again").symlink_to(source, target_is_directory=True)
    begin = time.process_time()
    assert describe(source).units_tables
    assert time.process_time() - begin < 5
    with open_nwb(source) as file, pytest.raises(NWBError, match="a folder that it lies in"):
        file["units/again"]


def test_a_zarr_folder_with_a_link_to_a_file_elsewhere_is_not_copied(tmp_path, recording):
    source = to_zarr(recording, tmp_path / "one.nwb.zarr")
    (source / "units" / "id" / "0").rename(tmp_path / "of_mine")
    (source / "units" / "id" / "0").symlink_to(tmp_path / "of_mine")
    with pytest.raises(NWBError, match=r"units/id/0 is a link out of"):
        write_fit(fit_of([recording]), tmp_path / "copy.nwb.zarr", into=source)


def test_a_zarr_folder_with_a_link_to_another_store_is_not_copied(tmp_path, recording):
    source = to_zarr(recording, tmp_path / "one.nwb.zarr")
    shutil.copytree(source, tmp_path / "other.nwb.zarr")
    link = {"name": "elsewhere", "path": "/units/id", "source": "../other.nwb.zarr"}
    for name in (".zattrs", ".zmetadata"):
        content = json.loads((source / name).read_text())
        attributes = content if name == ".zattrs" else content["metadata"][".zattrs"]
        attributes["zarr_link"] = [link]
        (source / name).write_text(json.dumps(content))
    with pytest.raises(NWBError, match=r"other\.nwb\.zarr, another store"):
        write_fit(fit_of([recording]), tmp_path / "copy.nwb.zarr", into=source)
    assert not (tmp_path / "copy.nwb.zarr").exists()
