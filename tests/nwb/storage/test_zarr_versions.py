"""Zarr of versions 2 and 3, by whichever zarr is installed: zarr 2 reads the first, zarr 3 both.

The two folders in ``tests/golden`` are what hdmf-zarr 0.13 and 0.14 export of one session, without its schemas.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nwb_lint import open_nwb, read_conditions, read_fit, read_results, read_trials
from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.write import write_fit, write_result
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.suggest import suggest
from nwb_lint.nwb.storage.source import expand
from nwb_lint.testing import mock_session
from tests.factories import assert_same, random_fit
from tests.nwb.oracle import same_data
from tests.nwb.server import RangeServer

zarr = pytest.importorskip("zarr", reason="zarr, of the extra zarr, is not there")
INSTALLED = int(zarr.__version__.split(".")[0])
READ = [version for version in (2, 3) if version <= INSTALLED]
only_zarr_3 = pytest.mark.skipif(INSTALLED < 3, reason="zarr 2 is installed, which does not read version 3")
GOLDEN = Path(__file__).parents[2] / "golden"
HOW = {"by": ["side", "coherence"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}
CHUNK = {2: "units/spike_times/0", 3: "units/spike_times/c/0"}
METADATA = {2: ".zarray", 3: "zarr.json"}
IDS = ["file_object_id", "file_units_object_id"]  # new in every file that is written
SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The session that both folders were exported from."""
    unit_columns = {"region": list("abcab"), "depth": np.arange(5.0)}
    return mock_session(tmp_path_factory.mktemp("hdf5") / "s.nwb", unit_columns=unit_columns, obs_intervals=True)


def folder_of(version: int, place: Path) -> Path:
    target = place / f"v{version}.nwb.zarr"
    with zipfile.ZipFile(GOLDEN / f"session-zarr-v{version}.zip") as file:
        file.extractall(target)
    return target


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("version", READ)
def test_both_versions_give_what_the_file_gives(version, remote, path, tmp_path):
    folder = folder_of(version, tmp_path)
    with RangeServer({"/s.nwb.zarr": folder}) as server:
        source = f"{server.url}/s.nwb.zarr" if remote else folder
        conditions = HOW | {"unit_columns": ["region", "depth"]}
        trials = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1, "units": [3, 1]}
        for read, how in ((read_conditions, conditions), (read_trials, trials)):
            found, expected = (read(one, **how).drop_vars(IDS) for one in (source, path))
            same_data(found, expected)
    assert describe(folder)._replace(path="", written="") == describe(path)._replace(path="", written="")
    assert str(suggest(folder)).replace(str(folder), "") == str(suggest(path)).replace(str(path), "")


@pytest.mark.parametrize("version", READ)
def test_a_folder_is_known_by_its_content(version, tmp_path):
    plain = folder_of(version, tmp_path).rename(tmp_path / "recording.nwb")
    assert [asset.kind for asset in expand(str(plain))] == ["zarr"]


def test_version_3_is_named_where_it_cannot_be_read(tmp_path):
    folder = folder_of(3, tmp_path)
    if INSTALLED >= 3:
        assert "units" in open_nwb(folder)
        return
    with pytest.raises(NWBError, match=r"Zarr of version 3.*Install zarr 3"):
        read_conditions(folder, **HOW)


@pytest.mark.parametrize("version", READ)
def test_members_attributes_and_references_are_those_of_the_file(version, path, tmp_path):
    with open_nwb(path) as file, open_nwb(folder_of(version, tmp_path)) as other:
        for name in ("units", "intervals/trials", "general/subject", "general/extracellular_ephys/electrodes"):
            assert sorted(other[name]) == sorted(file[name])
        assert other[other["units/electrodes"].attrs["table"]] == other["general/extracellular_ephys/electrodes"]
        assert other["identifier"].shape == ()
        assert list(other["intervals/trials/side"][:3]) == [one.decode() for one in file["intervals/trials/side"][:3]]
        for key in (3, slice(1, 4), [0, 2], ()):
            np.testing.assert_array_equal(other["units/spike_times"][key], file["units/spike_times"][key])
        groups = other["general/extracellular_ephys/electrodes/group"]
        if version == 3:  # paths; version 2 has pickles, which are not read
            assert other[groups[0]].name == file[file["general/extracellular_ephys/electrodes/group"][0]].name
        else:
            with pytest.raises(NWBError, match="pickles"):
                groups[0]


@pytest.mark.parametrize("version", READ)
def test_damage_is_an_error(version, tmp_path):
    folder = folder_of(version, tmp_path)
    (folder / CHUNK[version]).write_bytes((folder / CHUNK[version]).read_bytes()[:-9])
    with open_nwb(folder) as file, pytest.raises(OSError, match="damaged"):
        file["units/spike_times"][()]
    (folder / "units/id" / METADATA[version]).unlink()
    with open_nwb(folder) as file, pytest.raises(NWBError, match="has no metadata"):
        file["units/id"]


@pytest.mark.parametrize("version", READ)
def test_a_missing_chunk_is_an_error_where_the_format_writes_all_of_them(version, tmp_path):
    folder = folder_of(version, tmp_path)
    (folder / CHUNK[version]).unlink()
    with open_nwb(folder) as file:
        if version == 3:  # a chunk of nothing but fill values is not written
            assert not file["units/spike_times"][()].any()
            return
        with pytest.raises(OSError, match="units/spike_times/0 is missing"):
            file["units/spike_times"][()]


CODECS = {
    2: [{"filters": [{"id": "pickle"}]}, {"compressor": {"id": "own"}}],
    3: [{"codecs": [{"name": "numcodecs.pickle"}]},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "own"}]}}]}],
}  # fmt: skip


@pytest.mark.parametrize(("version", "codecs"), [(version, one) for version in READ for one in CODECS[version]])
def test_codecs_that_may_run_programs_are_refused(version, codecs, tmp_path):
    folder = folder_of(version, tmp_path)
    metadata = folder / "intervals/trials/cue_time" / METADATA[version]
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), **codecs}))
    with open_nwb(folder) as file, pytest.raises(OSError, match="may run programs"):
        file["intervals/trials/cue_time"]


@pytest.mark.parametrize("version", READ)
def test_links_of_the_file_system_lead_out_only_where_asked_for(version, tmp_path):
    folder = folder_of(version, tmp_path)
    chunk, outside = folder / CHUNK[version], tmp_path / "outside"
    chunk.rename(outside)
    os.symlink(outside, chunk)
    with open_nwb(folder) as file, pytest.raises(NWBError, match="outside of the folder"):
        file["units/spike_times"][()]
    with open_nwb(folder, external=True) as file:
        assert file["units/spike_times"][()].size


def test_fits_are_written_in_the_version_of_the_installed_hdmf_zarr(tmp_path):
    pytest.importorskip("hdmf_zarr", reason="hdmf-zarr, of the extra zarr, is not there")
    fit = random_fit(1, trials=True)
    path = write_fit(fit, tmp_path / "fit.nwb.zarr", subject=SUBJECT)
    assert (path / METADATA[INSTALLED].replace(".zarray", ".zgroup")).is_file()
    assert_same(fit, read_fit(path))
    found = connectivity(fit)
    write_result(found, path)
    assert_same(found, read_results(path)["connectivity"])
    with RangeServer({"/fit.nwb.zarr": path}) as server:
        assert_same(fit, read_fit(f"{server.url}/fit.nwb.zarr"))
        assert list(read_results(f"{server.url}/fit.nwb.zarr")) == ["connectivity"]


@only_zarr_3
def test_nothing_is_added_to_a_folder_of_version_2_by_zarr_3(tmp_path):
    folder = folder_of(2, tmp_path)
    with pytest.raises(NWBError, match=r"version 2.*Install hdmf-zarr 0\.13"):
        write_fit(random_fit(1), tmp_path / "whole.nwb.zarr", into=folder)
    assert not (tmp_path / "whole.nwb.zarr").exists()
