"""Laws of the files: what is read is what was written, the file is valid and whole, the source stays
untouched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import h5py
import hdmf.validate
import numpy as np
import pynwb
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_lint.errors import ContractError, MissingFileError, NWBError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.files import write_new
from nwb_lint.nwb.extension.netcdf import export_netcdf, import_netcdf
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import add_to_nwbfile, write_fit
from nwb_lint.nwb.storage.metadata import merge_subjects
from tests.factories import assert_same, random_fit, run_without_us

SUBJECT = {
    "subject_id": "m1",
    "species": "Mus musculus",
    "sex": "F",
    "age": "P90D",
    "description": "A mouse.",
}
NOTED = random_fit(1).assign_attrs(seed_note="x")
SHAPES = st.fixed_dictionaries(
    {"seed": st.integers(0, 99), "n_files": st.integers(0, 2), "n_inputs": st.integers(1, 2)}
    | dict.fromkeys(["hidden", "full_rank", "burn_in", "offset_over_time", "optional"], st.booleans())
)


def make_recording(path: Path, *, session: str = "s1", units=(11, 4, 7), day: int = 0, **subject) -> Path:
    """A small valid recording, with experimenters and subject."""
    nwbfile = new_nwbfile(session, units, day, **subject)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    return path


def new_nwbfile(session: str = "s1", units=(11, 4, 7), day: int = 0, **subject) -> pynwb.NWBFile:
    nwbfile = pynwb.NWBFile(
        session_description="Mice lick left or right.",
        identifier=f"id {session}",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day),
        session_id=session,
        experimenter=["Curie, Marie"],
        institution="Institut du Radium",
        experiment_description="A task.",
        keywords=["cortex", f"key {session}"],
        related_publications=["doi:10.1038/nature22324"],
        subject=pynwb.file.Subject(**(SUBJECT | subject)),
    )
    for unit in units:
        nwbfile.add_unit(id=unit, spike_times=[0.1 * unit, 0.15 * unit + 1])
    nwbfile.units.resolution = 1 / 30_000
    return nwbfile


def fit_of(paths, units=(11, 4, 7), **options) -> xr.Dataset:
    """A fit of the units of recordings that lie at ``paths``."""
    names, ids = [str(path) for path in paths], [unit for _ in paths for unit in units]
    fit = random_fit(5, n_neurons=len(ids), n_files=len(paths), **options)
    own = []
    for path in paths:
        with h5py.File(path) as file:
            own.append((file["identifier"].asstr()[()], file.attrs["object_id"]))
    return fit.assign_coords(
        unit_id=("neuron", ids),
        source=("neuron", [name for name in names for _ in units]),
        file=names,
        file_identifier=("file", [identifier for identifier, _ in own]),
        file_object_id=("file", [str(object_id) for _, object_id in own]),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of one file, written once: tests work on copies."""
    return write_fit(NOTED, tmp_path_factory.mktemp("fit") / "fit.nwb", subject=SUBJECT).read_bytes()


@pytest.fixture
def fit_file(tmp_path, written):
    path = tmp_path / "fit.nwb"
    path.write_bytes(written)
    return path


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES)
def test_read_fit_undoes_write_fit(tmp_path, options):
    fit = random_fit(**options)
    path = write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, overwrite=True)
    assert_same(fit, read_fit(path))
    assert os.listdir(tmp_path) == ["fit.nwb"]


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES, st.sampled_from(["U", "object", "string"]))
def test_import_netcdf_undoes_export_netcdf(tmp_path, options, text_dtype):
    fit = random_fit(**options, text_dtype=text_dtype).assign_attrs(empty=[], one=["é"], flags=[True, False])
    path = export_netcdf(fit, tmp_path / "fit.nc", overwrite=True)
    assert_same(fit, import_netcdf(path))


def test_large_arrays_are_compressed_and_come_back(tmp_path):
    fit = random_fit(2, n_neurons=60, n_conditions=20, n_bins=30)
    fit["activity_pred"] = fit["activity_pred"] * 0
    path = write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    assert_same(fit, read_fit(path))
    with h5py.File(path) as file:
        stored = file["processing/ecephys/lowrank_fit/predicted_activity/data"]
        assert (stored.compression, stored.compression_opts, stored.shuffle) == ("gzip", 4, True)


def test_the_same_fit_gives_the_same_identifier_and_another_fit_another(tmp_path):
    def identifier(fit, name):
        with h5py.File(write_fit(fit, tmp_path / name, subject=SUBJECT)) as file:
            return file["identifier"].asstr()[()]

    first = identifier(random_fit(1), "a.nwb")
    assert identifier(random_fit(1), "b.nwb") == first
    assert identifier(random_fit(1).assign_attrs(seed=9), "c.nwb") != first


@pytest.mark.parametrize("options", [{"n_files": 1, "n_inputs": 1}, {"hidden": True}, {"full_rank": True}])
def test_nwbinspector_finds_nothing_worse_than_a_suggestion(tmp_path, options):
    from nwbinspector import Importance, inspect_nwbfile

    path = write_fit(random_fit(1, **options), tmp_path / "fit.nwb", subject=SUBJECT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the inspector's own
        found = list(inspect_nwbfile(nwbfile_path=path))
    assert [m for m in found if m.importance != Importance.BEST_PRACTICE_SUGGESTION] == []
    ours = [m for m in found if "lowrank_fit" in (m.location or "")]
    assert ours == []


def test_plain_pynwb_reads_the_file_where_nwb_lint_is_not_installed(tmp_path, fit_file):
    script = """
with pynwb.NWBHDF5IO(sys.argv[1], "r") as io:
    fit = io.read().processing["ecephys"]["lowrank_fit"]
    J = fit.m[:] @ fit.n[:].T / len(fit.neurons)
    print(repr(float(J.sum())), fit.tau_s, fit.neurons["neuron"][0], fit.conditions["held_out"][0])
    print(fit.attributes["recipe"].data.splitlines()[0], *fit.attributes["window_s"].data[:])
"""
    fit = NOTED
    total, tau, label, held_out, *rest = run_without_us(script, fit_file, tmp_path)
    assert float(total) == pytest.approx(float((fit.m.values @ fit.n.values.T / 6).sum()), rel=1e-12)
    assert (tau, label, held_out) == ("0.05", "s0:0", str(bool(fit.held_out[0])))
    assert rest == ["[fit]", "-0.1", "0.65"]


def test_a_file_without_the_extension_s_spec_cached_is_read_too(fit_file):
    with h5py.File(fit_file, "a") as file:
        del file["specifications"]
    assert_same(NOTED, read_fit(fit_file))


def test_sources_give_their_metadata_and_stay_as_they_are(tmp_path):
    paths = [
        make_recording(tmp_path / "a.nwb", session="s1", age="P90D"),
        make_recording(tmp_path / "b.nwb", session="s2", day=5, age="P95D"),
    ]
    before = [(hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in paths]
    target = write_fit(fit_of(paths), tmp_path / "fit.nwb")
    assert before == [(hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in paths]
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        nwbfile = io.read()
        assert nwbfile.session_start_time == datetime(2020, 1, 1, tzinfo=UTC)
        assert nwbfile.session_description.startswith("Derived file")
        assert nwbfile.session_description.endswith("Mice lick left or right.")
        assert list(nwbfile.keywords) == ["cortex", "key s1", "key s2"]
        assert list(nwbfile.experimenter) == ["Curie, Marie"]
        assert nwbfile.institution == "Institut du Radium"
        assert nwbfile.session_id is None
        assert nwbfile.subject.subject_id == "m1"
        assert nwbfile.subject.age == "P90D/P95D"
        assert nwbfile.subject.species == "Mus musculus"


def test_one_source_keeps_its_session_and_subject_overrides_it(tmp_path):
    recording = make_recording(tmp_path / "a.nwb")
    with pytest.warns(UserWarning, match="subject has no age"):
        target = write_fit(random_fit(1), tmp_path / "fit.nwb", source=recording, subject={"sex": "M", "age": None})
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        nwbfile = io.read()
        assert nwbfile.session_id == "s1"
        assert (nwbfile.subject.sex, nwbfile.subject.age, nwbfile.subject.subject_id) == ("M", None, "m1")


def test_several_animals_become_one_subject():
    one = {
        "subject_id": "A",
        "species": "Macaca mulatta",
        "sex": "M",
        "age": "P6Y",
        "description": "monkey A",
    }
    two = {
        "subject_id": "F",
        "species": "Macaca mulatta",
        "sex": "F",
        "age": "P9Y",
        "description": "monkey F",
    }
    assert merge_subjects([one, two]) == {
        "subject_id": "A+F",
        "species": "Macaca mulatta",
        "sex": "U",
        "age": "P6Y/P9Y",
        "description": "Neurons of 2 subjects: A, F.",
    }
    assert merge_subjects([one, one]) == one
    assert merge_subjects([]) == {}
    assert "age" not in merge_subjects([one, one | {"age": "P70M"}])


def test_a_file_without_subject_is_written_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="no subject"):
        target = write_fit(random_fit(1), tmp_path / "fit.nwb")
    assert pynwb.validate(path=str(target)) == []


def test_a_file_is_replaced_only_with_overwrite_and_a_recording_never(tmp_path):
    recording = make_recording(tmp_path / "a.nwb")
    fit = fit_of([recording])
    (tmp_path / "link.nwb").symlink_to(recording)
    for target in (recording, tmp_path / "link.nwb"):
        for overwrite in (False, True):
            with pytest.raises(NWBError, match=r"recording.*never changed"):
                write_fit(fit, target, overwrite=overwrite)
        with pytest.raises(NWBError, match=r"recording.*never changed"):
            export_netcdf(fit, target, overwrite=True)
    other = tmp_path / "fit.nwb"
    other.write_text("keep me")
    with pytest.raises(NWBError, match="overwrite=True"):
        write_fit(fit, other)
    assert other.read_text() == "keep me"
    write_fit(fit, other, overwrite=True)
    assert_same(fit, read_fit(other))
    with pytest.raises(NWBError, match="exists already"):
        write_fit(fit, tmp_path, overwrite=True)


def test_a_failure_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    target = tmp_path / "fit.nwb"
    target.write_text("keep me")
    monkeypatch.setattr(hdmf.validate.ValidatorMap, "validate", lambda self, builder: ["m has 2 errors"])
    with pytest.raises(NWBError, match=r"valid NWB.*m has 2 errors"):
        write_fit(random_fit(1), target, subject=SUBJECT, overwrite=True)
    assert (os.listdir(tmp_path), target.read_text()) == (["fit.nwb"], "keep me")

    def fails(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(pynwb.NWBHDF5IO, "write", fails)
    with pytest.raises(NWBError, match="No space left"):
        write_fit(random_fit(1), target, subject=SUBJECT, overwrite=True)
    assert (os.listdir(tmp_path), target.read_text()) == (["fit.nwb"], "keep me")


def test_a_file_that_the_validator_refuses_is_not_written(tmp_path):
    nwbfile = new_nwbfile()
    write_new(nwbfile, tmp_path / "valid.nwb")
    add_to_nwbfile(random_fit(1, n_files=0), nwbfile).fields["bias"] = None
    for _ in range(2):  # the schemas are parsed for the first file only
        with pytest.raises(NWBError, match=r"valid NWB.*bias.*missing") as error:
            write_new(nwbfile, tmp_path / "broken.nwb")
    found = "; ".join(map(str, pynwb.validate(path=str(tmp_path / "broken.nwb"))))  # of pynwb, which is slower
    assert f"{found}. " in str(error.value)
    assert pynwb.validate(path=str(tmp_path / "valid.nwb")) == []


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"source": "/nowhere/a.nwb"}, MissingFileError, "a.nwb"),
        ({"subject": {"weight_kg": 3}}, ContractError, "weight_kg"),
        ({"subject": {"subject_id": 3}}, ContractError, "subject.*NWB"),
        ({"name": "a/b"}, ContractError, "'a/b'"),
        ({"path": "no_folder/fit.nwb", "subject": SUBJECT}, NWBError, "folder"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, options, error, named):
    options = {"path": "fit.nwb"} | options
    with pytest.raises(error, match=named):
        write_fit(random_fit(1), tmp_path / options.pop("path"), **options)
    assert os.listdir(tmp_path) == []


def test_a_source_that_is_no_nwb_file_is_named(tmp_path):
    (tmp_path / "a.nwb").write_text("not HDF5")
    h5py.File(tmp_path / "b.nwb", "w").close()
    for name, words in (("a.nwb", "not HDF5"), ("b.nwb", "not NWB")):
        with pytest.raises(NWBError, match=words):
            write_fit(random_fit(1), tmp_path / "fit.nwb", source=tmp_path / name)


# -- in memory --


def test_neurons_point_at_their_units_in_the_recording(tmp_path):
    paths = [make_recording(tmp_path / f"{s}.nwb", session=s) for s in ("s1", "s2")]
    fit = fit_of(paths)
    with pynwb.NWBHDF5IO(str(paths[1]), "r") as io:
        nwbfile = io.read()
        container = add_to_nwbfile(fit.isel(neuron=[4, 0, 5, 3]), nwbfile)
        ids = [container.neurons["unit"][i].index.tolist() for i in range(4)]
    assert ids == [[4], [], [7], [11]]


def test_fits_lie_side_by_side_in_a_recording_and_come_back(tmp_path):
    from nwbinspector import Importance, inspect_nwbfile

    nwbfile = new_nwbfile(units=range(0, 18, 3))
    fits = {"rank_2": random_fit(1, n_files=0, hidden=True), "full": random_fit(2, n_files=0, full_rank=True)}
    fits = {
        name: fit.assign_coords(unit_id=("neuron", np.where(fit.recorded, np.arange(6)[::-1] * 3, -1)))
        for name, fit in fits.items()
    }
    for name, fit in fits.items():
        assert add_to_nwbfile(fit, nwbfile, name=name).name == name
    with pytest.raises(ContractError, match="rank_2 already"):
        add_to_nwbfile(fits["full"], nwbfile, name="rank_2")
    path = tmp_path / "both.nwb"
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    assert pynwb.validate(path=str(path)) == []
    for name, fit in fits.items():
        assert_same(fit, read_fit(path, name))
        assert_same(fit, read_fit(path, f"processing/ecephys/{name}"))
    with pytest.raises(NWBError, match=r"2 fits.*full, rank_2.*name="):
        read_fit(path)
    with pytest.raises(NWBError, match=r"no fit named 'x'.*full, rank_2"):
        read_fit(path, "x")
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        rows = io.read().processing["ecephys"]["rank_2"].neurons["unit"]
        assert [rows[i].index.tolist() for i in range(6)] == [[15], [12], [9], [6], [], []]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(inspect_nwbfile(nwbfile_path=path, skip_validate=True))  # validated above
    assert [m for m in found if m.importance != Importance.BEST_PRACTICE_SUGGESTION] == []


def test_units_of_another_recording_are_not_pointed_at(tmp_path):
    paths = [make_recording(tmp_path / "a.nwb")]
    fit = fit_of(paths)
    other = add_to_nwbfile(fit, new_nwbfile("s9"))
    assert "unit" not in other.neurons.colnames
    with pynwb.NWBHDF5IO(str(paths[0]), "r") as io, pytest.raises(ContractError, match="99 of the fit"):
        add_to_nwbfile(fit.assign_coords(unit_id=("neuron", [11, 99, 7])), io.read())


def test_only_rows_of_the_units_that_were_read_are_pointed_at(tmp_path):
    path = make_recording(tmp_path / "a.nwb")
    fit = fit_of([path])
    for other in ({"units_table": "processing/ecephys/units"}, {"series": "processing/ophys/dff"}):
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            assert "unit" not in add_to_nwbfile(fit.assign_attrs(other), io.read()).neurons.colnames
    twice = make_recording(tmp_path / "twice.nwb", units=(11, 4, 11))
    fit = fit_of([twice]).assign_coords(unit_id=("neuron", [11, 4, 11]))
    with pynwb.NWBHDF5IO(str(twice), "r") as io:
        rows = add_to_nwbfile(fit, io.read()).neurons["unit"]
        assert [rows[k].index.tolist() for k in range(3)] == [[], [4], []]


# -- bad files --


def _refused(path, *words):
    with pytest.raises(NWBError) as error:
        read_fit(path)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_files_without_a_fit_are_refused_with_what_they_hold(tmp_path):
    with pytest.raises(MissingFileError):
        read_fit(tmp_path / "none.nwb")
    _refused(tmp_path, "folder")
    (tmp_path / "text.nwb").write_text("hello")
    _refused(tmp_path / "text.nwb", "not HDF5")
    (tmp_path / "empty.nwb").touch()
    _refused(tmp_path / "empty.nwb", "empty")
    _refused(make_recording(tmp_path / "a.nwb"), "no fit (LowRankRNN)", "units")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["table"] = [1]
    _refused(tmp_path / "other.h5", "not NWB", "nwb_version", "table")


def test_a_newer_major_version_is_refused_with_both_versions(fit_file):
    with h5py.File(fit_file, "a") as file:
        file.copy(f"specifications/ndx-lowrank/{schema.version()}", "specifications/ndx-lowrank/1.10.0")
    _refused(fit_file, "ndx-lowrank 1.10.0", schema.version(), "Upgrade")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda group: _put(group, "m", group["m"][:-1]), "neuron"),
        (lambda group: _put(group, "m", np.full((6, 2), np.nan)), "m of the fit has 12 values"),
        (
            lambda group: _put(group, "latents/data", np.inf * group["latents/data"][()]),
            "latent of the fit has 40 values",
        ),
        (lambda group: _put(group, "n", group["n"][0]), "n has 1 dims where (neuron, rank) is needed"),
        (
            lambda group: _put(group, "latents/data", group["latents/data"][:-1]),
            r"latents has data of the shape (19, 2)",
        ),
        (lambda group: group.pop("latents/data"), "latents has no data"),
        (lambda group: group.pop("latents"), "latent is missing"),
        (lambda group: group.pop("conditions"), "0 conditions"),
        (lambda group: group.pop("neurons/unit_id"), "unit_id is missing"),
        (lambda group: group.pop("neurons"), "neuron is missing"),
        (lambda group: group.pop("input_weights"), "input_weights is missing"),
        (lambda group: group.attrs.pop("tau_s"), "tau_s=None"),
        (lambda group: _put(group, "neurons", [1.0]), "neuron is missing"),
        (lambda group: _put(group, "attributes", [1.0]), "cannot be read"),
        (lambda group: group["attributes/seed_note"].attrs.update(kind="tree"), "'tree'"),
        (lambda group: group["attributes/seed_note"].attrs.pop("key"), "cannot be read"),
    ],
)
def test_an_inconsistent_fit_is_named_field_by_field(fit_file, change, named):
    with h5py.File(fit_file, "a") as file:
        change(file["processing/ecephys/lowrank_fit"])
    _refused(fit_file, named)


def _put(group: h5py.Group, name: str, values) -> None:
    del group[name]
    group[name] = values


def test_a_truncated_file_is_refused(tmp_path, fit_file):
    whole = fit_file.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        cut = tmp_path / "cut.nwb"
        cut.write_bytes(whole[: int(len(whole) * part)])
        _refused(cut, "truncated")


def test_files_that_are_no_exported_netcdf_are_refused(tmp_path):
    (tmp_path / "text.nc").write_text("hello")
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    for name, error, words in (
        ("none.nc", MissingFileError, "none.nc"),
        ("text.nc", NWBError, "cannot be read"),
        ("other.nc", NWBError, "not written by"),
    ):
        with pytest.raises(error, match=words):
            import_netcdf(tmp_path / name)


def test_reading_and_the_codec_do_without_torch_and_reading_without_pynwb(fit_file):
    script = "import sys; from nwb_lint.nwb.extension.read import read_fit; read_fit(sys.argv[1]); " + (
        "print([name for name in ('torch', 'pynwb', 'matplotlib', 'dandi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(fit_file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
