"""What an HDF5 file names is read, or an error that names path, link and file: never absent, and never 0."""

from __future__ import annotations

import json
import os
import shutil
import sys

import h5py
import numpy as np
import pytest

from nwb_lint import open_nwb, read_conditions, read_trials
from nwb_lint.cli import app
from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.describe import describe, describe_all
from nwb_lint.nwb.storage.checked_file import FILTERS
from nwb_lint.nwb.storage.source import one_asset
from nwb_lint.testing import mock_session
from tests.nwb.server import RangeServer

HOW = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
TIMES, INDEX = "units/spike_times", "units/spike_times_index"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("good") / "s.nwb", unit_columns={"region": list("abcab")})


@pytest.fixture
def path(good, tmp_path):
    return shutil.copy(good, tmp_path / "s.nwb")


def moved(path, name, other, **how):
    """The values of a dataset are put into another file; gives shape and type, and deletes the dataset."""
    with h5py.File(path, "r+") as file, h5py.File(other, "a") as target:
        values, attrs = file[name][()], dict(file[name].attrs)
        target["x"] = values
        del file[name]
        file.attrs.update({})
    return values, attrs


def rates(source, **change):
    return read_conditions(source, **HOW | change)["rate"].values


def refused(source, words, **change):
    with pytest.raises(NWBError, match=words) as found:
        read_conditions(source, **HOW | change)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 700
    return str(found.value)


NAMED = [TIMES, INDEX, "units/id", "units/obs_intervals", "units", "intervals", "intervals/trials",
         "intervals/trials/id", "intervals/trials/side", "intervals/trials/cue_time", "intervals/invalid_times",
         "units/obs_intervals_index"]  # fmt: skip


@pytest.mark.parametrize("link", [h5py.SoftLink("/gone/x"), h5py.ExternalLink("gone.nwb", "/x")])
@pytest.mark.parametrize("name", NAMED)
def test_a_link_into_nowhere_is_an_error_with_its_path_and_target(path, name, link):
    with h5py.File(path, "r+") as file:
        if "obs_intervals" in name:
            file["units/obs_intervals"] = [[0.0, 100.0]] * 5
            file["units/obs_intervals_index"] = np.arange(1, 6)
        if name in file:
            del file[name]
        file[name] = link
    words = "/gone/x.* not in the file" if isinstance(link, h5py.SoftLink) else "gone.nwb.* missing"
    assert f"/{name} " in refused(path, words)
    found = describe(path, spikes=True)
    assert any(name in one for one in found.warnings)


@pytest.mark.parametrize("name", NAMED)
def test_a_group_for_a_dataset_and_the_other_way_round_are_errors(path, name):
    with h5py.File(path, "r+") as file:
        if name == "units/obs_intervals_index":
            file["units/obs_intervals"] = [[0.0, 100.0]] * 5
        was_group = isinstance(file.get(name), h5py.Group) or name == "intervals/invalid_times"
        if name in file:
            del file[name]
        if was_group:
            file[name] = np.arange(3)
        else:
            file.create_group(name)
    refused(path, f"/{name} of .* is a {'dataset' if was_group else 'group'}")
    describe(path, spikes=True)


def test_links_are_followed_and_circles_end(path):
    expected = rates(path)
    with h5py.File(path, "r+") as file:
        file.move("units", "analysis/kept")
        file["units"] = h5py.SoftLink("analysis/middle")
        file["analysis/middle"] = h5py.SoftLink("kept")
    np.testing.assert_array_equal(rates(path), expected)
    with h5py.File(path, "r+") as file:
        del file["analysis/middle"]
        file["analysis/middle"] = h5py.SoftLink("/units")
    refused(path, "circle")


def test_members_are_those_of_h5py(path):
    with h5py.File(path, "r+") as file:
        file["gone"] = h5py.SoftLink("/x")
    with open_nwb(path) as file, h5py.File(path) as plain:
        assert sorted(file) == sorted(plain)
        assert file["units"].file is file
        assert file[file[INDEX].attrs["target"]] == file[TIMES]
        assert file.get("none") is None
        assert file.get("units/none", 3) == 3
        assert file["units"].get("/intervals/trials/id").shape == (40,)
        with pytest.raises(KeyError):
            file["units/id/x"]
        with pytest.raises(KeyError):
            file["units\0x"]
        with pytest.raises(NWBError, match=r"/gone of .* link to /x"):
            file.get("gone")
        assert isinstance(file.get("gone", getlink=True), h5py.SoftLink)
        np.testing.assert_array_equal(np.asarray(file[TIMES]), plain[TIMES][()])
        np.testing.assert_array_equal(file["units/region"].asstr()[()], plain["units/region"].asstr()[()])


def test_a_link_elsewhere_in_the_file_does_not_stop_reading(path):
    expected = rates(path)
    with h5py.File(path, "r+") as file:
        file["acquisition/raw"] = h5py.ExternalLink("raw.nwb", "/x")
        file["processing/gone"] = h5py.SoftLink("/x")
        file["intervals/other"] = h5py.SoftLink("/x")
    np.testing.assert_array_equal(rates(path), expected)
    assert any("/intervals/other" in one for one in describe(path).warnings)
    refused(path, r"/acquisition/raw of .* raw\.nwb", align="raw")
    refused(path, "/intervals/other of .* link to /x", table="other")


def test_an_external_link_is_followed_only_where_asked_for(path, tmp_path):
    expected = rates(path)
    shutil.copy(path, tmp_path / "probe.nwb")
    with h5py.File(path, "r+") as file:
        del file["units"]
        file["units"] = h5py.ExternalLink("probe.nwb", "/units")
    refused(path, r"/units of .* external link to /units of probe\.nwb\. Pass external=True")
    np.testing.assert_array_equal(rates(path, external=True), expected)
    found = read_conditions(path, **HOW, external=True)
    assert found.attrs["external"] == 1
    assert "external" not in read_conditions(tmp_path / "probe.nwb", **HOW).attrs
    trials = {name: value for name, value in HOW.items() if name != "by"}
    assert read_trials(path, **trials, external=True).sizes["neuron"] == 5
    assert describe(path).units is None
    described = describe(path, external=True)
    assert described.units.ids == [0, 1, 2, 3, 4]
    assert described.suggestion["external"] is True
    assert [one.units is None for one in describe_all([path, tmp_path / "probe.nwb"], external=True)] == [False, False]
    with open_nwb(path, external=True) as file:
        assert file["units"].file.filename.endswith("probe.nwb")
        assert len(file["units/id"]) == 5
    (tmp_path / "probe.nwb").unlink()
    refused(path, r"probe\.nwb, and that file is missing", external=True)
    (tmp_path / "probe.nwb").write_text("no HDF5")
    refused(path, r"probe\.nwb, which cannot be opened", external=True)


def test_external_links_of_two_files_to_each_other_end(path, tmp_path):
    other = shutil.copy(path, tmp_path / "other.nwb")
    for one, two in ((path, other), (other, path)):
        with h5py.File(one, "r+") as file:
            del file["units"]
            file["units"] = h5py.ExternalLink(os.path.basename(two), "/units")
    refused(path, "circle", external=True)


def test_the_command_line_has_the_option(path, tmp_path):
    from click.testing import CliRunner

    shutil.copy(path, tmp_path / "probe.nwb")
    with h5py.File(path, "r+") as file:
        del file["units"]
        file["units"] = h5py.ExternalLink("probe.nwb", "/units")
    shown = [CliRunner().invoke(app, ["inspect", str(path), "--json", *more]) for more in ([], ["--external"])]
    files = [json.loads(one.stdout)["files"][0] for one in shown]
    assert [one["units"] is None for one in files] == [True, False]


def virtual(path, parts, name=TIMES, n=None):
    """A dataset becomes a virtual one, of parts (file, path, first row, last row of both)."""
    with h5py.File(path, "r+") as file:
        values, attrs = file[name][()], dict(file[name].attrs)
        layout = h5py.VirtualLayout((n or len(values),), values.dtype)
        for other, at, a, b in parts:
            layout[a:b] = h5py.VirtualSource(other, at, (len(values),))[a:b]
        del file[name]
        file.create_virtual_dataset(name, layout)
        file[name].attrs.update(attrs)
    return values


def test_a_virtual_dataset_is_read_where_all_its_sources_are(path, tmp_path, monkeypatch):
    expected = rates(path)
    with h5py.File(path) as file:
        values = file[TIMES][()]
    n = len(values)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = values
    plain = shutil.copy(path, tmp_path / "plain.nwb")
    monkeypatch.chdir(tmp_path.parent)
    virtual(path, [("a.h5", "x", 0, n)])
    np.testing.assert_array_equal(rates(path), expected)
    for parts, words in (
        ([("a.h5", "x", 0, 900), ("b.h5", "x", 900, n)], r"spike_times .* virtual .* b\.h5, and that file is missing"),
        ([("a.h5", "y", 0, n)], r"from y of a\.h5, and that file has no such dataset"),
        ([("a.h5", "x", 0, 900)], rf"virtual dataset of {n} values\. 900 of them have a source"),
        ([(".", "units/gone", 0, n)], "from units/gone of .*no such dataset"),
        ([("plain.nwb", TIMES, 0, n)], ""),
    ):
        shutil.copy(plain, path)
        virtual(path, parts)
        if words:
            refused(path, words)
        else:
            np.testing.assert_array_equal(rates(path), expected)


def test_a_virtual_dataset_needs_sources_as_long_as_what_is_taken_from_them(path, tmp_path):
    with h5py.File(path) as file:
        n = len(file[TIMES])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(n - 5)
    virtual(path, [("a.h5", "x", 0, n)])
    refused(path, rf"a\.h5\. That source has shape \({n - 5},\), and more is taken from it")


def test_sources_outside_of_the_folder_are_read_only_where_asked_for(path, tmp_path):
    expected = rates(path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with h5py.File(path) as file, h5py.File(elsewhere / "a.h5", "w") as other:
        other["x"] = file[TIMES][()]
        n = len(other["x"])
    inner = tmp_path / "inner"
    inner.mkdir()
    for k, name in enumerate([str(elsewhere / "a.h5"), "../elsewhere/a.h5"]):
        copy = shutil.copy(path, inner / f"{k}.nwb")
        virtual(copy, [(name, "x", 0, n)])
        refused(copy, r"virtual .*elsewhere/a\.h5\. Pass external=True")
        np.testing.assert_array_equal(rates(copy, external=True), expected)


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_numbered_sources_are_all_there(path, tmp_path, missing):
    with h5py.File(path, "r+") as file:
        values, attrs = file["intervals/trials/cue_time"][()], dict(file["intervals/trials/cue_time"].attrs)
        for k in range(4):
            with h5py.File(tmp_path / f"part_{k}.h5", "w") as part:
                part["x"] = values[10 * k : 10 * k + 10]
        unlimited = h5py.h5s.create_simple((40,), (h5py.h5s.UNLIMITED,))
        unlimited.select_hyperslab((0,), (h5py.h5s.UNLIMITED,), (10,), (10,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_virtual(unlimited, b"part_%b.h5", b"x", h5py.h5s.create_simple((10,)))
        del file["intervals/trials/cue_time"]
        space, kind = h5py.h5s.create_simple((40,), (h5py.h5s.UNLIMITED,)), h5py.h5t.py_create(values.dtype)
        h5py.h5d.create(file["intervals/trials"].id, b"cue_time", kind, space, plist)
        file["intervals/trials/cue_time"].attrs.update(attrs)
    assert read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1).sizes["trial"] == 40
    (tmp_path / f"part_{missing}.h5").unlink()
    with pytest.raises(NWBError, match=rf"cue_time .* {10 * missing} values for 40 .*virtual dataset of part_%b\.h5"):
        read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1)


def test_virtual_datasets_of_each_other_end(path, tmp_path):
    with h5py.File(path) as file:
        n = len(file[TIMES])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(n)
    virtual(tmp_path / "a.h5", [("s.nwb", TIMES, 0, n)], "x")
    virtual(path, [("a.h5", "x", 0, n)])
    refused(path, "circle|itself")


def test_external_storage_is_read_only_where_asked_for_and_whole(path, tmp_path, monkeypatch):
    expected = rates(path)
    monkeypatch.chdir(tmp_path)
    with h5py.File(path, "r+") as file:
        values, attrs = file[TIMES][()], dict(file[TIMES].attrs)
        values.tofile(tmp_path / "raw.bin")
        del file[TIMES]
        file.create_dataset(TIMES, values.shape, values.dtype, external=[("raw.bin", 0, values.nbytes)])
        file[TIMES].attrs.update(attrs)
    assert "external=True" in refused(path, r"spike_times .*HDF5 external storage: raw\.bin")
    np.testing.assert_array_equal(rates(path, external=True), expected)
    with open(tmp_path / "raw.bin", "r+b") as file:
        file.truncate(values.nbytes - 8)
    refused(path, rf"raw\.bin has {values.nbytes - 8} bytes; {values.nbytes} are needed", external=True)
    (tmp_path / "raw.bin").unlink()
    refused(path, r"no file .*raw\.bin", external=True)


def test_a_streamed_file_never_leads_to_files_of_this_machine(path, tmp_path):
    secret = shutil.copy(path, tmp_path / "secret.nwb")
    with h5py.File(path, "r+") as file:
        del file["units"]
        file["units"] = h5py.ExternalLink(str(secret), "/units")
    with RangeServer({"/s.nwb": path}) as server:
        for external in (False, True):
            refused(f"{server.url}/s.nwb", r"external link .*secret\.nwb.*read from a server", external=external)


def filtered(path, number, title=b"", name=TIMES):
    """A dataset went through a filter that HDF5 has only by a plugin."""
    with h5py.File(path, "r+") as file:
        values, attrs = file[name][()], dict(file[name].attrs)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(values.shape)
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1,))
        parent, _, last = name.rpartition("/")
        del file[name]
        space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
        made = h5py.h5d.create(file[parent].id, last.encode(), kind, space, plist)
        made.write_direct_chunk((0,), values.tobytes())
        file[name].attrs.update(attrs)


@pytest.mark.parametrize("number", sorted(FILTERS))
@pytest.mark.parametrize("name", [TIMES, "intervals/trials/cue_time"])
def test_a_missing_filter_is_named_with_what_brings_it(path, number, name, monkeypatch):
    if h5py.h5z.filter_avail(number):
        pytest.skip("the filter is there")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    filtered(path, number, name=name)
    found = refused(path, rf"/{name} .* filter {FILTERS[number]} \({number}\).* missing")
    assert "pip install 'nwb_lint[hdf5plugin]'" in found
    assert "damaged" not in found


def test_a_filter_that_nobody_knows_is_named_by_its_number(path):
    filtered(path, 61234)
    refused(path, "filter of unknown name .61234.* plugin")


def test_nwb_1_and_other_formats_are_called_by_their_name(tmp_path):
    old = tmp_path / "old.nwb"
    for text in ("NWB-1.0.6", b"NWB-1.0.4_beta"):
        with h5py.File(old, "w") as file:
            file["nwb_version"] = text
            file.create_group("epochs/trial_1")
        refused(old, r"'NWB-1\.0.*NWB 1.*NWB 2 is needed")
    for content, words in (
        (b"\x1f\x8b\x08" + bytes(90), "gzip"), (b"PK\x03\x04" + bytes(90), "zip"), (b"<!DOCTYPE html>", "web server"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"), (b"{}", "JSON"),
        (b"../../.git/annex/objects/x", "git-annex"), (b"MATLAB 5.0 MAT-file", "MATLAB"),
    ):  # fmt: skip
        old.write_bytes(content)
        refused(old, f"is not HDF5, but .*{words}")


def test_an_asset_keeps_the_option(path):
    assert one_asset(path, external=True).external
    assert one_asset(one_asset(path, external=True)).external
    assert not one_asset(path).external
