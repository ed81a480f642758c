"""NWB-Zarr as hdmf-zarr writes it, and LINDI as lindi writes it: the same recording as from HDF5."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import warnings
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from nwb_lint import open_nwb, read_conditions, read_trials
from nwb_lint.errors import MissingFileError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.suggest import suggest
from nwb_lint.nwb.recording.tables import open_intervals
from nwb_lint.nwb.storage.digests import digest, with_digests
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.nwb.storage.source import expand, reading
from nwb_lint.testing import mock_session
from tests.nwb.archive import ID, Archive, record
from tests.nwb.oracle import same_data as same
from tests.nwb.server import RangeServer

HOW = {"by": ["side", "coherence"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
COLUMNS = {"unit_columns": ["region", "depth"]}
TRIALS = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}


pytestmark = pytest.mark.skipif(
    not hasattr(pytest.importorskip("zarr"), "DirectoryStore"),
    reason="these folders are of version 2, as hdmf-zarr writes them with zarr 2: see test_zarr_versions.py",
)


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DANDI_NO_ET", "1")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    unit_columns = {"region": list("abcab"), "depth": np.arange(5.0)}
    return mock_session(tmp_path_factory.mktemp("zarr") / "session.nwb", unit_columns=unit_columns, obs_intervals=True)


def to_zarr(path, target=None):
    """The file as hdmf-zarr exports it."""
    backend = pytest.importorskip("hdmf_zarr.nwb", reason="hdmf-zarr, of the extra zarr, is not there")
    import pynwb

    target = target or path.with_name(f"{path.name}.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "r") as source, backend.NWBZarrIO(str(target), mode="w") as io:
            io.export(src_io=source, write_args={"link_data": False})
    return target


@pytest.fixture(scope="module")
def zarr_path(path):
    return to_zarr(path)


def refused(words, call, *args, kind=NWBError, **options):
    with pytest.raises(kind, match=words) as found:
        call(*args, **options)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600


def test_a_zarr_folder_gives_what_the_file_gives(path, zarr_path):
    found = read_conditions(zarr_path, **HOW, **COLUMNS)
    same(found, read_conditions(path, **HOW, **COLUMNS))
    assert found["file"].item() == str(zarr_path)
    assert with_digests(found)["file_digest"].item() == digest(zarr_path)
    same(read_trials(str(zarr_path), **TRIALS, units=[3, 1]), read_trials(path, **TRIALS, units=[3, 1]))
    same(read_conditions([zarr_path], **HOW, where="correct"), read_conditions(path, **HOW, where="correct"))


def test_a_zarr_folder_is_described_and_its_metadata_read(path, zarr_path):
    assert describe(zarr_path)._replace(path="") == describe(path)._replace(path="")
    assert suggest(zarr_path) == suggest(path)
    assert read_metadata(zarr_path) == read_metadata(path)


def test_the_digest_of_a_zarr_folder_follows_from_every_byte_and_name(zarr_path, tmp_path):
    other = shutil.copytree(zarr_path, tmp_path / "other.nwb.zarr")
    assert digest(other) == digest(zarr_path)
    part = other / "units" / "id" / "0"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = digest(other)
    part.rename(part.with_name("1"))
    assert len({digest(zarr_path), changed, digest(other)}) == 3


def test_a_glob_finds_files_and_folders(path, zarr_path):
    assert [asset.kind for asset in expand(str(path.parent / "session.nwb*"))][:2] == ["hdf5", "zarr"]


def test_a_zarr_folder_is_known_by_its_content_too(zarr_path, tmp_path, path):
    plain = shutil.copytree(zarr_path, tmp_path / "recording.nwb")
    same(read_trials(plain, **TRIALS), read_trials(path, **TRIALS))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A file with an enum, ragged and doubly ragged columns, and links."""
    import pynwb

    nwbfile = pynwb.NWBFile("odd", "odd", datetime(2026, 1, 1, tzinfo=UTC))
    for name in ("licks", "pairs"):
        nwbfile.add_trial_column(name, "d", index=True)
    nwbfile.add_trial_column("pairs2", "d", index=2)
    nwbfile.add_trial_column("flag", "d")
    for k in range(4):
        ragged = {"licks": [0.5] * k, "pairs": [[k, 1]], "pairs2": [[1.0, 2.0], [3.0]]}
        nwbfile.add_trial(start_time=float(k), stop_time=k + 0.5, flag=bool(k % 2), **ragged)
    with pytest.warns(UserWarning, match="EnumData is experimental"):
        nwbfile.trials.add_column("kind", "d", data=[0, 1, 2, 1], enum=["left", "right", "none"])
    for k in range(2):
        nwbfile.add_unit(spike_times=np.arange(k, k + 3.0), id=10 + k)
    path = tmp_path_factory.mktemp("odd") / "odd.nwb"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(nwbfile)
    return path


def test_columns_of_every_kind_are_the_same(odd):
    with open_nwb(odd) as file, open_nwb(to_zarr(odd)) as other:
        one, two = (open_intervals(item, "trials", "odd") for item in (file, other))
        assert one.names == two.names
        for name in one.names:
            assert one.kind(name) == two.kind(name)
            if one.kind(name) != "ragged":
                np.testing.assert_array_equal(one.column(name), two.column(name))
        assert list(two.column("kind")) == ["left", "right", "none", "right"]


def test_the_members_that_h5py_has(path, zarr_path):
    with open_nwb(path) as file, open_nwb(zarr_path) as other:
        assert isinstance(other, h5py.File)
        assert sorted(other) == sorted(file)
        for name in ("units", "intervals/trials", "general"):
            assert isinstance(other[name], h5py.Group)
            assert sorted(other[name]) == sorted(file[name])
            assert other[name].name == file[name].name
        for name in ("units/spike_times", "units/obs_intervals", "intervals/trials/side", "identifier", "units/id"):
            one, two = file[name], other[name]
            assert isinstance(two, h5py.Dataset)
            assert (one.shape, one.ndim, one.size) == (two.shape, two.ndim, two.size)
            assert one.dtype.kind == two.dtype.kind
            assert (h5py.check_string_dtype(one.dtype) is None) == (h5py.check_string_dtype(two.dtype) is None)
            values = one.asstr()[()] if h5py.check_string_dtype(one.dtype) else one[()]
            np.testing.assert_array_equal(values, two[()])
            assert two.attrs.get("neurodata_type") == one.attrs.get("neurodata_type")
        assert list(other["units"].attrs["colnames"]) == list(file["units"].attrs["colnames"])
        index = other["units/spike_times_index"]
        assert other[index.attrs["target"]] == other["units/spike_times"]
        assert other.get("units/none") is None
        assert "units/none" not in other
        assert "/intervals/trials" in other["units"].file
        with pytest.raises(KeyError):
            other["units/id/deeper"]


def test_pickles_are_never_decoded(zarr_path, tmp_path):
    with open_nwb(zarr_path) as file:
        group = file["general/extracellular_ephys/electrodes/group"]  # references, which hdmf-zarr pickles
        assert h5py.check_string_dtype(group.dtype) is None
        refused("holds Python pickles", group.__getitem__, ())
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    metadata = bad / "intervals" / "trials" / "side" / ".zarray"
    content = json.loads(metadata.read_text()) | {"filters": [{"id": "pickle", "protocol": 5}]}
    metadata.write_text(json.dumps(content))
    refused("references", read_conditions, bad, **HOW)
    metadata.write_text(json.dumps(content | {"dtype": [["a", "|O"]], "fill_value": "gASVAAAAAA=="}))
    refused("the codec pickle", read_conditions, bad, **HOW)


class Creates:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    "codecs",
    [
        {"compressor": {"id": "pickle"}, "filters": None},
        {"compressor": None, "filters": [{"id": "pickle"}]},
        {"compressor": None, "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "dtype": "|O"},
        {"compressor": {"id": "pickle"}, "filters": [{"id": "vlen-utf8"}], "dtype": "|O"},
        {"compressor": {"id": "of_a_plugin"}, "filters": None},
    ],
)
def test_a_codec_that_can_run_programs_is_refused(zarr_path, tmp_path, monkeypatch, codecs, remote):
    import numcodecs

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    ran = tmp_path / "ran"
    column = bad / "intervals" / "trials" / "side"
    metadata = json.loads((column / ".zarray").read_text()) | codecs
    (column / ".zarray").write_text(json.dumps(metadata))
    (column / "0").write_bytes(pickle.dumps(Creates(ran)))
    consolidated = json.loads((bad / ".zmetadata").read_text())
    consolidated["metadata"]["intervals/trials/side/.zarray"] = metadata
    (bad / ".zmetadata").write_text(json.dumps(consolidated))
    if remote:
        files = {f"/bad.nwb.zarr/{one.relative_to(bad)}": one for one in bad.rglob("*") if one.is_file()}
        with RangeServer(files) as server:
            refused("the codec|references", read_conditions, f"{server.url}/bad.nwb.zarr", **HOW)
    else:
        refused("the codec|references", read_conditions, bad, **HOW)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("units/spike_times/0", None, "is damaged: .*units/spike_times/0 is missing"),
        ("units/spike_times/0", b"\x02\x01!\x08nothing", "is damaged"),
        ("units/spike_times/0", b"", "is damaged"),
        ("intervals/trials/side/0", b"\x00", "is damaged"),
        ("units/id/.zarray", b"{", "is damaged"),
        ("units/.zattrs", b"[", "is damaged"),
        (".zattrs", b"{}", "is Zarr but not NWB: .*acquisition"),
        (".zgroup", None, "cannot be read as Zarr"),
        (".zgroup", b"{", "cannot be read as Zarr"),
    ],
)
def test_damage_is_an_error_of_one_line(zarr_path, tmp_path, part, content, words):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    if content is None:
        (bad / part).unlink()
    else:
        (bad / part).write_bytes(content)
    refused(words, read_conditions, bad, **HOW)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ({"path": "/gone", "source": "."}, "units/obs_intervals .* link to /gone, which is not in the store"),
        ({"path": "/units/obs_intervals", "source": "."}, "circle"),
        ({"path": "/x", "source": "../other.zarr"}, r"link to /x of \.\./other\.zarr, another store"),
    ],
)
def test_links_that_cannot_be_followed_are_errors(zarr_path, tmp_path, link, words):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    shutil.rmtree(bad / "units" / "obs_intervals")
    attributes = json.loads((bad / "units" / ".zattrs").read_text())
    links = [link | {"name": "obs_intervals", "object_id": "", "source_object_id": ""}]
    (bad / "units" / ".zattrs").write_text(json.dumps(attributes | {"zarr_link": links}))
    refused(words, read_conditions, bad, **HOW)


def test_a_link_of_the_file_system_is_followed_outside_only_where_asked_for(zarr_path, tmp_path):
    linked = shutil.copytree(zarr_path, tmp_path / "linked.nwb.zarr")
    part = linked / "intervals" / "trials" / "side" / "0"
    part.rename(linked / "kept")
    part.symlink_to(linked / "kept")
    wanted = read_conditions(zarr_path, **HOW)["rate"].variable
    assert read_conditions(linked, **HOW)["rate"].variable.equals(wanted)
    (linked / "kept").rename(tmp_path / "of_mine")
    part.unlink()
    part.symlink_to(tmp_path / "of_mine")
    refused(r"side/0 of .* is a link to .*of_mine, outside of .*external=True", read_conditions, linked, **HOW)
    assert read_conditions(linked, **HOW, external=True)["rate"].variable.equals(wanted)


@pytest.mark.parametrize("codec", ["zlib", "lzma", "gzip"])
def test_damaged_bytes_of_every_compressor_are_an_oserror(zarr_path, tmp_path, codec):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    metadata = json.loads((bad / "units" / "id" / ".zarray").read_text())
    (bad / "units" / "id" / ".zarray").write_text(json.dumps(metadata | {"compressor": {"id": codec}}))
    with open_nwb(bad) as file, pytest.raises(OSError, match=r"\w"):
        file["units/id"][()]


@pytest.mark.parametrize("remote", [False, True])
def test_a_chunk_that_is_cut_is_never_decoded(zarr_path, tmp_path, remote):
    """Blosc has no length of its source: it would read whatever lies in memory behind it."""
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    part = bad / "units" / "spike_times" / "0"
    content = part.read_bytes()
    for kept in (content[:-1], content[: len(content) // 2], content[:16], content[:5], content + b"x"):
        part.write_bytes(kept)
        with (
            RangeServer({"/bad.nwb.zarr": bad}) as server,
            open_nwb(f"{server.url}/bad.nwb.zarr" if remote else bad) as file,
            pytest.raises(OSError, match=r"spike_times/0 is damaged: it has \d+ bytes"),
        ):
            file["units/spike_times"][()]


def test_a_chunk_that_is_far_larger_than_its_array_is_not_made(zarr_path, tmp_path):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    for name in ("session_description", "units/id"):
        metadata = json.loads((bad / name / ".zarray").read_text()) | {"chunks": [2**31]}
        (bad / name / ".zarray").write_text(json.dumps(metadata))
        with open_nwb(bad) as file, pytest.raises(OSError, match="claims chunks of 2147483648 values"):
            file[name][()]


def test_an_array_without_metadata_is_an_error(zarr_path, tmp_path):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.nwb.zarr")
    (bad / "units" / "id" / ".zarray").unlink()
    refused("/units/id of .* no metadata", read_conditions, bad, **HOW)


def test_zarr_3_is_called_so(tmp_path):
    store = tmp_path / "s.nwb.zarr"
    store.mkdir()
    (store / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    refused("Zarr of version 3", read_conditions, store, **HOW)
    with RangeServer({"/s.nwb.zarr": store}) as server:
        refused("Zarr of version 3", read_conditions, f"{server.url}/s.nwb.zarr", **HOW)


def test_missing_files_and_extras_are_errors(tmp_path, zarr_path, monkeypatch):
    refused("no such file", read_trials, tmp_path / "none.nwb.zarr", **TRIALS, kind=MissingFileError)
    refused("no such file", read_trials, tmp_path / "none.lindi.json", **TRIALS, kind=MissingFileError)
    with RangeServer() as server:
        for name in ("none.zarr", "none.lindi.json"):
            for download in (False, True):
                address = f"{server.url}/{name}"
                refused("no such file", read_trials, address, **TRIALS, download=download, kind=MissingFileError)
    (tmp_path / "none.lindi.json").write_text("{}")
    refused("is a folder", read_trials, tmp_path, **TRIALS)
    monkeypatch.setitem(sys.modules, "zarr", None)
    refused(r"pip install 'nwb_lint\[zarr\]'", read_trials, zarr_path, **TRIALS)
    monkeypatch.setitem(sys.modules, "lindi", None)
    refused(r"pip install 'nwb_lint\[lindi\]'", read_trials, tmp_path / "none.lindi.json", **TRIALS)


# -- over HTTP and DANDI --


def test_zarr_over_http_is_read_by_its_consolidated_metadata(path, zarr_path):
    with RangeServer({"/session.nwb.zarr": zarr_path}) as server:
        address = f"{server.url}/session.nwb.zarr/"
        same(read_conditions(address, **HOW, **COLUMNS), read_conditions(path, **HOW, **COLUMNS))
        assert not [r for r in server.log if r.path.rpartition("/")[2] in (".zarray", ".zattrs", ".zgroup")]
        server.faults = [503, None, "drop", 503]
        same(read_trials(address, **TRIALS), read_trials(path, **TRIALS))


def test_a_zarr_store_is_downloaded_whole(path, zarr_path, tmp_path):
    store = shutil.copytree(zarr_path, tmp_path / "s.nwb.zarr")
    with RangeServer({"/s.nwb.zarr": store}) as server:
        address = f"{server.url}/s.nwb.zarr/"
        found = read_conditions(address, **HOW, **COLUMNS, download=True)
        same(found, read_conditions(path, **HOW, **COLUMNS))
        assert found["file"].item() == address
        (kept,) = (tmp_path / "cache" / "files").glob("*/s.nwb.zarr")
        parts = {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}
        copied = {p.relative_to(kept): p.read_bytes() for p in kept.rglob("*") if p.is_file()}
        assert {p: b for p, b in copied.items() if p.name[0] != "."} == {
            p: b for p, b in parts.items() if p.name[0] != "."
        }
        assert {p: json.loads(b) for p, b in copied.items() if p.name[0] == "."} == {
            p: json.loads(b) for p, b in parts.items() if p.name[0] == "."
        }
        server.clear()
        same(read_conditions(address, **HOW, **COLUMNS, download=True), found)
        assert [request.path for request in server.log] == ["/s.nwb.zarr/.zmetadata"]
        (store / ".zmetadata").write_text((store / ".zmetadata").read_text() + " ")
        shutil.rmtree(store / "units" / "spike_times")
        refused("spike_times/0 is missing", read_trials, address, **TRIALS, download=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "zmetadata is damaged"),
        ("[]", "zmetadata is damaged"),
        (json.dumps({"metadata": {"../x/.zattrs": {}}}), "'../x/.zattrs' outside"),
        (json.dumps({"metadata": {"a/.zarray": {"shape": [3], "chunks": [0]}}}), r"a/\.zarray is damaged"),
        (None, "no consolidated metadata"),
    ],
)
def test_zarr_stores_that_cannot_be_downloaded(content, words, tmp_path):
    store = tmp_path / "s.zarr"
    store.mkdir()
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    if content is not None:
        (store / ".zmetadata").write_text(content)
    with RangeServer({"/s.zarr": store}) as server:
        refused(words, read_trials, f"{server.url}/s.zarr", **TRIALS, download=True)
        assert not list((tmp_path / "cache").rglob("*zattrs"))


def test_lindi_is_downloaded_if_it_holds_all_its_data(path, tmp_path):
    lindi = pytest.importorskip("lindi", reason="lindi, of the extra lindi, is not there")
    with RangeServer({"/session.nwb": path}) as server:
        with lindi.LindiH5pyFile.from_hdf5_file(f"{server.url}/session.nwb") as file:
            content = file.to_reference_file_system()
        server.files["/a.lindi.json"] = json.dumps(content).encode()
        words = f"data in 1 other file, .*{server.url}/session.nwb"
        refused(words, read_trials, f"{server.url}/a.lindi.json", **TRIALS, download=True)
        content["refs"] = {name: value for name, value in content["refs"].items() if not isinstance(value, list)}
        server.files["/b.lindi.json"] = json.dumps(content).encode()
        with open_nwb(f"{server.url}/b.lindi.json", download=True) as file:
            assert "units" in file
        assert list((tmp_path / "cache" / "files").glob("*/b.lindi.json"))
        server.files["/c.lindi.json"] = b"spikes"
        refused("is not LINDI JSON", read_trials, f"{server.url}/c.lindi.json", **TRIALS, download=True)


def test_failures_of_zarr_over_http_are_errors(zarr_path, tmp_path):
    bad = shutil.copytree(zarr_path, tmp_path / "bad.zarr")
    with RangeServer({"/bad.zarr": bad}) as server:
        (bad / "units" / "spike_times" / "0").unlink()
        refused("spike_times/0 is missing", read_trials, f"{server.url}/bad.zarr", **TRIALS)

        def read():
            with reading(f"{server.url}/bad.zarr") as file:
                server.faults = [403] * 20
                file["units/obs_intervals"][()]

        refused("Reading .* failed: .*403", read)
        server.faults = []
        (bad / ".zmetadata").unlink()
        refused("no consolidated metadata", read_trials, f"{server.url}/bad.zarr", **TRIALS)


def test_a_zarr_asset_of_dandi(path, zarr_path, monkeypatch):
    name = "sub-a/sub-a_ecephys.nwb.zarr"
    held = record(name, zarr_path)
    held["metadata"]["digest"] = {"dandi:dandi-zarr-checksum": "0123-9--77"}
    with Archive([held], {name: zarr_path}) as archive:
        monkeypatch.setenv("DANDI_INSTANCE", f"{archive.api.url}/api")
        found = read_trials(f"dandi://{ID}/{name}", **TRIALS)
    same(found, read_trials(path, **TRIALS))
    assert found["file"].item().endswith(name)
    assert found["file_digest"].item() == "0123-9--77"


# -- LINDI --


def to_lindi(path, url):
    pytest.importorskip("lindi", reason="lindi, the extra, is not there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lindi.LindiH5ZarrStore.LindiH5ZarrStore import LindiH5ZarrStore

        with LindiH5ZarrStore.from_file(str(path), url=url) as store:
            return json.dumps(store.to_reference_file_system())


def test_a_lindi_file_gives_what_the_file_gives(path, tmp_path, monkeypatch):
    with RangeServer({"/session.nwb": path}) as server:
        text = to_lindi(path, f"{server.url}/session.nwb")
        (tmp_path / "session.nwb.lindi.json").write_text(text)
        server.files["/remote.nwb.lindi.json"] = text.encode()
        for source in (tmp_path / "session.nwb.lindi.json", f"{server.url}/remote.nwb.lindi.json"):
            found = read_conditions(source, **HOW, **COLUMNS)
            same(found, read_conditions(path, **HOW, **COLUMNS))
            assert found["file"].item() == str(source)
            assert describe(source, spikes=True)._replace(path="") == describe(path)._replace(path="")
            assert read_metadata(source) == read_metadata(path)
        server.files.pop("/session.nwb")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # lindi repeats requests for 15 s
        refused("Reading .* failed", read_trials, tmp_path / "session.nwb.lindi.json", **TRIALS)


def test_files_that_are_not_lindi_are_refused(path, tmp_path):
    file = tmp_path / "a.lindi.json"
    pickled = json.dumps({"dtype": "|O", "filters": [{"id": "pickle"}]})
    for text, words in (
        ("nothing", "is not LINDI JSON"),
        ("[]", "it has no refs"),
        ('{"refs": {}}', "cannot be read|is not LINDI"),
        (json.dumps({"refs": {"units/x/.zarray": pickled}}), "units/x has the codec pickle"),
        (json.dumps({"refs": {".zgroup": '{"zarr_format": 2}'}}), "is LINDI but not NWB"),
    ):
        file.write_text(text)
        pytest.importorskip("lindi")
        refused(words, read_trials, file, **TRIALS)


def test_what_a_lindi_file_lists_and_lacks_is_an_error(path, tmp_path):
    with RangeServer({"/session.nwb": path}) as server:
        content = json.loads(to_lindi(path, f"{server.url}/session.nwb"))
        file = tmp_path / "bad.lindi.json"
        for name in ("units/spike_times/0", "units/id/0", "units/obs_intervals/0.0", "intervals/trials/cue_time/0"):
            refs = {key: value for key, value in content["refs"].items() if key != name}
            assert len(refs) < len(content["refs"])
            file.write_text(json.dumps(content | {"refs": refs}))
            refused(f"{name} is missing", read_conditions, file, **HOW)


def test_chunks_in_files_of_this_machine_are_read_only_where_asked_for(path, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside.nwb"
    inside.mkdir()
    shutil.copy(path, outside)
    file = inside / "s.lindi.json"
    file.write_text(to_lindi(path, str(outside)))
    refused(r"chunks in .*outside\.nwb.*external=True", read_conditions, file, **HOW)
    same(read_conditions(file, **HOW, external=True).drop_attrs(), read_conditions(path, **HOW).drop_attrs())
    shutil.copy(path, inside / "s.nwb")
    file.write_text(to_lindi(path, str(inside / "s.nwb")))
    same(read_conditions(file, **HOW), read_conditions(path, **HOW))


def test_a_remote_lindi_file_names_no_file_of_this_machine_and_no_other_host(path, tmp_path):
    with RangeServer({"/session.nwb": path}) as server, RangeServer({}) as other:
        other.files["/own.lindi.json"] = to_lindi(path, f"{server.url}/session.nwb").encode()
        refused(rf"{server.host}, another host.*external=True", read_conditions, f"{other.url}/own.lindi.json", **HOW)
        found = read_conditions(f"{other.url}/own.lindi.json", **HOW, external=True)
        same(found.drop_attrs(), read_conditions(path, **HOW).drop_attrs())
        other.files["/local.lindi.json"] = to_lindi(path, str(path)).encode()
        for external in (False, True):
            words = "a file of this machine. A remote file may not"
            refused(words, read_conditions, f"{other.url}/local.lindi.json", **HOW, external=external)
