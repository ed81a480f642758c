"""A file of every version of ndx-lowrank, which every later version reads as it was written."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import pytest

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.netcdf import import_netcdf
from nwb_lint.nwb.extension.read import find_entries, read_fit, read_result
from nwb_lint.nwb.extension.write import write_result
from tests.factories import assert_same

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(GOLDEN.glob("*.nwb.gz"))


@pytest.mark.parametrize("packed", FILES, ids=lambda path: path.name.removesuffix(".nwb.gz"))
def test_every_version_is_read_as_it_was_written(packed, tmp_path):
    path = tmp_path / "fit.nwb"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    fit = read_fit(path)
    assert_same(import_netcdf(packed.with_name(packed.name.replace(".nwb.gz", ".nc"))), fit)
    assert fit["u"].dims == ("condition", "time", "input")
    assert fit.sel(input="in0")["u_burn_in"].dims == ("condition", "burn_in")
    with h5py.File(path) as file:
        results = [entry.name for entry in find_entries(file) if entry.type != schema.FIT_TYPE]
    for name in results:
        assert read_result(path, name).attrs["kind"] == name
    assert bool(results) == ("0.1.0" not in packed.name)


def test_the_version_that_is_written_has_its_golden_file():
    versions = [path.name.removeprefix("ndx-lowrank-").removesuffix(".nwb.gz") for path in FILES]
    assert schema.version() in versions, "python -m tests.golden.make"


@pytest.mark.parametrize("packed", FILES, ids=lambda path: path.name.removesuffix(".nwb.gz"))
def test_a_file_of_every_version_takes_a_new_result_and_keeps_its_own(packed, tmp_path):
    path = tmp_path / "fit.nwb"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    fit = read_fit(path)
    with h5py.File(path) as file:
        before = {
            entry.name: read_result(path, entry.name) for entry in find_entries(file) if entry.type != schema.FIT_TYPE
        }
    found = connectivity(fit)
    write_result(found, path, name="new")
    assert_same(found, read_result(path, "new"))
    assert_same(fit, read_fit(path))
    for name, result in before.items():
        assert_same(result, read_result(path, name))
