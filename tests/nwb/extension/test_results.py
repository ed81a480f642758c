"""Results beside their fit, fits in copies of recordings, HDF5 and Zarr: what is read is what was written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings

import h5py
import pynwb
import pytest

from nwb_lint.analysis.connectivity import weight_statistics
from nwb_lint.contract.results import RESULTS
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension.codec import decode, encode
from nwb_lint.nwb.extension.read import read_fit, read_result
from nwb_lint.nwb.extension.write import add_to_nwbfile, write_fit, write_result
from tests.factories import assert_same, random_fit, random_result, run_without_us
from tests.nwb.extension.test_write import SUBJECT, fit_of, make_recording, new_nwbfile
from tests.nwb.server import RangeServer

FIT = random_fit(3)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("recording") / "recording.nwb")


@pytest.fixture(scope="module")
def copy(recording, tmp_path_factory):
    """A copy of the recording with a fit and every kind of result in it; and what they are."""
    fit = fit_of([recording])
    results = {kind: random_result(kind, fit, k) for k, kind in enumerate(RESULTS)}
    some = {kind: result for kind, result in results.items() if kind != "axes"}
    path = write_fit(fit, tmp_path_factory.mktemp("copy") / "copy.nwb", into=recording, results=some)
    write_result(results["axes"], path)
    return path, fit, results


@pytest.mark.parametrize("kind", RESULTS)
def test_decode_undoes_encode(kind):
    result = random_result(kind, FIT)
    assert_same(result, decode(encode(result)))
    stored = encode(result)
    stored.arrays = {path: values for path, values in stored.arrays.items() if not path.startswith("layout_")}
    plain = [
        name for name in ("quality/index", "id") if name in result.variables
    ]  # whose names HDF5 or a table changes
    found = decode(stored).drop_vars(["quality_index", "id_"], errors="ignore")
    assert found.equals(result.drop_vars(plain))


def test_every_result_comes_back_from_the_copy_and_the_fit_too(copy):
    path, fit, results = copy
    assert_same(fit, read_fit(path))
    for kind, result in results.items():
        assert_same(result, read_result(path, kind))
    assert os.listdir(path.parent) == ["copy.nwb"]
    assert pynwb.validate(path=str(path)) == []
    with pytest.raises(NWBError, match=f"{len(RESULTS)} results.*{', '.join(sorted(RESULTS))}"):
        read_result(path)
    with pytest.raises(ContractError, match="axes already"):
        write_result(results["axes"], path)
    assert_same(fit, read_fit(path))


def test_the_copy_holds_the_whole_recording_and_its_own_bytes_stay(copy, recording):
    path = copy[0]
    before = hashlib.sha256(recording.read_bytes()).digest()
    with h5py.File(recording) as old, h5py.File(path) as new:
        names = []
        old.visit(names.append)
        assert [name for name in names if name not in new and not name.startswith("specifications")] == []
        assert new.attrs["object_id"] == old.attrs["object_id"]
        assert (new["units/spike_times"][()] == old["units/spike_times"][()]).all()
    assert hashlib.sha256(recording.read_bytes()).digest() == before
    for refused in (recording, path):
        with pytest.raises(NWBError, match=r"never changed|exists already"):
            write_fit(copy[1], refused, into=recording)


def test_plain_pynwb_finds_network_and_units_of_a_prediction_without_this_package(copy, tmp_path):
    script = """
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    nwbfile = io.read()
    found = nwbfile.processing["ecephys"]["inactivation"]
    print(found.network.name, found.network.m.shape[0], *[found.neurons["unit"][k].index[0] for k in range(3)])
    print(nwbfile.was_generated_by[0][0])
"""
    assert run_without_us(script, copy[0], tmp_path) == ["lowrank_fit", "3", "11", "4", "7", "nwb_lint"]


def test_nwbinspector_finds_nothing_in_the_results(copy):
    from nwbinspector import Importance, inspect_nwbfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(inspect_nwbfile(nwbfile_path=copy[0], skip_validate=True))  # validated above
    assert [m.message for m in found if m.importance != Importance.BEST_PRACTICE_SUGGESTION] == []
    assert [m.message for m in found if "ecephys" in (m.location or "")] == []


def test_another_fit_goes_into_the_same_file_and_a_result_names_its_own(tmp_path):
    path = write_fit(FIT, tmp_path / "fit.nwb", subject=SUBJECT)
    other = random_fit(4, full_rank=True)
    write_fit(other, path, into=path, name="full", overwrite=True)
    assert_same(FIT, read_fit(path, "lowrank_fit"))
    assert_same(other, read_fit(path, "full"))
    axes = random_result("axes", FIT)
    with pytest.raises(NWBError, match=r"2 fits.*full, lowrank_fit"):
        write_result(axes, path)
    write_result(axes, path, fit_name="full", name="axes of J")
    assert_same(axes, read_result(path))
    with pytest.raises(NWBError, match="exists already"):
        write_fit(other, path, into=path, name="third")


def test_a_result_of_other_neurons_or_of_no_known_kind_is_refused(tmp_path):
    path = write_fit(FIT, tmp_path / "fit.nwb", subject=SUBJECT)
    before = path.read_bytes()
    strange = random_result("axes", FIT).assign_coords(neuron=[f"n{k}" for k in range(6)])
    with pytest.raises(ContractError, match="'n0' of the result is not in the fit"):
        write_result(strange, path)
    with pytest.raises(ContractError, match="of kind 'none'"):
        write_result(FIT, path)
    with pytest.raises(ContractError, match="extra"):
        write_result(random_result("axes", FIT).assign_coords(extra=("axis_other", [1, 2, 3])), path)
    with pytest.raises(ContractError, match="Call write_result"):
        write_fit(random_result("axes", FIT), tmp_path / "x.nwb")
    with pytest.raises(ContractError, match=r"0 fits in ecephys.*none"):
        add_to_nwbfile(random_result("axes", FIT), new_nwbfile())
    assert path.read_bytes() == before
    with pytest.raises(NWBError, match="holds no result"):
        read_result(path)


def test_a_file_of_a_recording_that_the_fit_came_from_gets_no_result(tmp_path):
    recording = make_recording(tmp_path / "recording.nwb")
    fit = fit_of([recording])
    with pynwb.NWBHDF5IO(str(recording), "a") as io:  # by a pipeline of somebody
        nwbfile = io.read()
        add_to_nwbfile(fit, nwbfile)
        io.write(nwbfile)
    assert_same(fit, read_fit(recording))
    before = recording.read_bytes()
    with pytest.raises(NWBError, match=r"recording.*never changed"):
        write_result(random_result("axes", fit), recording)
    assert recording.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda group: group.attrs.update(neurodata_type="LowRankAxes"), "axis is missing|is not in this version"),
        (lambda group: group.pop("loading"), "loading is missing"),
        (lambda group: group["neurons"].pop("neuron"), "neuron is missing"),
    ],
)
def test_an_inconsistent_result_is_named_field_by_field(copy, tmp_path, change, named):
    path = tmp_path / "copy.nwb"
    path.write_bytes(copy[0].read_bytes())
    with h5py.File(path, "a") as file:
        change(file["processing/ecephys/populations"])
    with pytest.raises(NWBError, match=named) as error:
        read_result(path, "populations")
    assert "\n" not in str(error.value)


def test_a_recording_with_an_external_link_is_not_copied(tmp_path, recording):
    linked = tmp_path / "linked.nwb"
    linked.write_bytes(recording.read_bytes())
    with h5py.File(linked, "a") as file:
        file["acquisition/raw"] = h5py.ExternalLink("raw.nwb", "/x")
    with pytest.raises(NWBError, match="external link"):
        write_fit(FIT, tmp_path / "copy.nwb", into=linked)
    assert os.listdir(tmp_path) == ["linked.nwb"]


# -- Zarr, and from afar --


def test_zarr_holds_fit_and_results_and_is_read_from_afar(tmp_path, monkeypatch):
    pytest.importorskip("hdmf_zarr", reason="hdmf-zarr, of the extra zarr, is not there")
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    # numbers by themselves, truth values, and a result that has neither
    results = {kind: random_result(kind, FIT) for kind in ("scores", "ensemble", "inactivation")}
    path = write_fit(FIT, tmp_path / "fit.nwb.zarr", subject=SUBJECT, results=results)
    write_result(results["inactivation"], path, name="again")
    assert_same(FIT, read_fit(path))
    for kind, result in results.items():
        assert_same(result, read_result(path, kind))
    assert_same(results["inactivation"], read_result(path, "again"))
    assert os.listdir(tmp_path) == ["fit.nwb.zarr"]
    assert not any(b"pickle" in file.read_bytes() for file in path.rglob(".zarray"))
    with RangeServer({"/fit.nwb.zarr": path}) as server:
        assert_same(FIT, read_fit(f"{server.url}/fit.nwb.zarr"))
    with pytest.raises(NWBError, match="exists already"):
        write_fit(FIT, path, subject=SUBJECT)
    write_fit(FIT.assign_attrs(seed=9), path, subject=SUBJECT, overwrite=True)
    assert read_fit(path).attrs["seed"] == 9


def test_a_copy_of_a_zarr_recording(tmp_path, recording):
    from tests.nwb.storage.test_zarr import to_zarr

    whole = tmp_path / "recording.nwb"
    whole.write_bytes(recording.read_bytes())
    zarr = to_zarr(whole)
    fit = fit_of([whole])
    path = write_fit(fit, tmp_path / "copy.nwb.zarr", into=zarr)
    assert_same(fit, read_fit(path))
    with pytest.raises(NWBError, match=r"zarr.*copy\.nwb.*format"):
        write_fit(fit, tmp_path / "copy.nwb", into=zarr)


def test_a_fit_streams_from_an_address(copy, tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    with RangeServer({"/copy.nwb": copy[0]}) as server:
        assert_same(copy[1], read_fit(f"{server.url}/copy.nwb"))
        assert_same(copy[2]["axes"], read_result(f"{server.url}/copy.nwb", "axes"))


def test_a_fresh_process_adds_to_a_file_that_carries_the_specification(tmp_path):
    """pynwb makes classes from the file's own specification unless ours are loaded before."""
    path = write_fit(random_fit(1), tmp_path / "fit.nwb", subject=SUBJECT)
    flags = ["inactivate", str(path), "--populations", "strongest_input", "--controls", "0", "--save", "silent"]
    code = f"from nwb_lint.cli import main; main({flags!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_result(path, "silent").attrs["kind"] == "inactivation"
    code = """if True:
        import sys, pynwb, nwb_lint as nl
        from nwb_lint.errors import ContractError
        with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
            nwbfile = io.read()
            try:
                nl.add_to_nwbfile(nl.read_result(sys.argv[1]), nwbfile, name="again")
            except ContractError as error:
                print(error)
        with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
            print(nl.add_to_nwbfile(nl.read_result(sys.argv[1]), io.read(), name="again").name)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, path], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "was read before ndx-lowrank was loaded" in first
    assert second == "again"


def test_weight_statistics_lie_beside_their_fit(tmp_path):
    """Of the recorded neurons alone, and with the row of NaN that a whole J has."""
    for k, fit in enumerate((random_fit(1, hidden=True), random_fit(full_rank=True))):
        path = write_fit(fit, tmp_path / f"fit{k}.nwb", subject=SUBJECT)
        found = weight_statistics(fit)
        write_result(found, path)
        assert read_result(path).identical(found)
