"""Laws of the units of a file: which table, which ids and labels, and which units a query selects."""

from __future__ import annotations

import json
import shutil
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lint import fit_lint, prepare, read_conditions, read_fit, read_trials, write_fit
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description, to_json
from nwb_lint.nwb.inspection.session_map import session_map
from nwb_lint.nwb.storage.digests import with_digests
from nwb_lint.testing import mock_session
from tests.nwb.layouts import Session

TRIALS = {"align": "cue", "window_s": (-0.2, 0.6), "bin_s": 0.2}
READ = {"by": "side", **TRIALS}
TEXT = h5py.string_dtype()


@pytest.fixture
def session(tmp_path):
    """Four units and ten trials."""
    made = Session(tmp_path / "s.nwb", n_units=4)
    made.put_table(cue=made.cue, side=["left", "right"] * 5)
    return made


@pytest.fixture
def path(session):
    return session.path


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def put_ids(path, ids):
    def change(file):
        del file["units/id"]
        file.create_dataset("units/id", data=ids, dtype=TEXT if isinstance(ids[0], str) else None)

    edit(path, change)


def rates(path, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_conditions(path, **READ | how)["rate"].values


# -- which table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["processing/ecephys/units", "analysis/sorted", "acquisition/Units", "scratch/a/b/units", "sorting/units"]
)
def test_the_only_units_table_is_found_wherever_it_is(path, place):
    plain = rates(path)

    def move(file):
        file.require_group(place.rpartition("/")[0])
        file.move("units", place)

    edit(path, move)
    if place.startswith("sorting/"):  # not a place of NWB: by its path alone
        with pytest.raises(NWBError, match="no units table"):
            read_conditions(path, **READ)
    else:
        found = read_conditions(path, **READ)
        np.testing.assert_array_equal(found["rate"], plain)
        assert found.attrs["units_table"] == place
        assert describe(path).suggestion["units_table"] == place
        assert read_conditions(path, **describe(path).suggestion).sizes["neuron"] == 4
    np.testing.assert_array_equal(rates(path, units_table=f"/{place}"), plain)
    assert read_trials(path, **TRIALS, units_table=place).attrs["units_table"] == place
    assert describe(path, units_table=place).units.table == place
    assert session_map(path, units_table=place).sizes["neuron"] == 4


def test_a_group_of_units_at_the_root_is_found_by_its_type(path):
    edit(path, lambda file: file.move("units", "sorted_units"))
    assert read_conditions(path, **READ).attrs["units_table"] == "sorted_units"


def test_several_units_tables_need_a_choice_unless_one_is_at_its_place(path):
    plain = rates(path)

    def add(file):
        file.copy("units", "processing/ecephys/units_mua")
        for name in ("spike_times_index", "id"):
            values = file[f"processing/ecephys/units_mua/{name}"][:2]
            del file[f"processing/ecephys/units_mua/{name}"]
            file[f"processing/ecephys/units_mua/{name}"] = values
        times = file["units/spike_times"][: values_end(file)]
        del file["processing/ecephys/units_mua/spike_times"]
        file["processing/ecephys/units_mua/spike_times"] = times
        for at, object_id in (("units", "one"), ("processing/ecephys/units_mua", "other")):
            file[at].attrs.update(neurodata_type="Units", object_id=object_id)

    def values_end(file):
        return int(file["units/spike_times_index"][1])

    edit(path, add)
    np.testing.assert_array_equal(rates(path), plain)
    for name in ("processing/ecephys/units_mua", "units_mua"):
        found = read_conditions(path, **READ, units_table=name)
        np.testing.assert_array_equal(found["rate"], plain[..., :2])
        assert found.attrs["units_table"] == "processing/ecephys/units_mua"
        assert found["file_units_object_id"].item() == "other"
    described = describe(path)
    assert dict(described.units_tables) == {"units": 4, "processing/ecephys/units_mua": 2}
    assert "processing/ecephys/units_mua (2 units)" in format_description(described)
    assert json.loads(to_json([described]))["files"][0]["units_tables"]["processing/ecephys/units_mua"] == 2
    edit(path, lambda file: file.move("units", "processing/ecephys/units"))
    words = r"processing/ecephys/units \(4 units\), processing/ecephys/units_mua \(2 units\).*units_table="
    with pytest.raises(NWBError, match=words):
        read_conditions(path, **READ)
    described = describe(path)
    assert any("units_table=" in warning for warning in described.warnings)
    assert described.suggestion == {}
    assert describe(path, units_table="units_mua").suggestion["units_table"] == "processing/ecephys/units_mua"


def test_a_units_table_that_cannot_be_read_names_the_others(path):
    def empty(file):
        file.move("units", "processing/ecephys/units")
        file["units/id"] = np.zeros(0, int)

    edit(path, empty)
    with pytest.raises(NWBError, match=r"no rows.*units_table=: processing/ecephys/units \(4 units\)"):
        read_conditions(path, **READ)
    with pytest.raises(NWBError, match=r"no units table 'nothing'.*processing/ecephys/units \(4 units\)"):
        read_conditions(path, **READ, units_table="nothing")
    with pytest.raises(NWBError, match="no spike_times"):
        read_conditions(path, **READ, units_table="intervals/trials")
    with pytest.raises(ContractError, match="units_table"):
        read_conditions(path, **READ, units_table="units", series="x")


def test_each_file_may_have_its_own_table(tmp_path):
    paths = []
    for k in range(2):
        made = Session(tmp_path / f"{k}.nwb", seed=k)
        made.put_table(cue=made.cue, side=["left", "right"] * 5)
        paths.append(made.path)
    edit(paths[1], lambda file: file.move("units", "analysis/units"))
    found = read_conditions(paths, **READ)
    assert found.attrs["units_table"] == ["units", "analysis/units"]
    assert found["file"].values.tolist() == [str(path) for path in paths]


# -- ids and labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "labels", "chosen"),
    [
        (["a1", "b2", "c3", "d4"], ["a1", "b2", "c3", "d4"], ["d4", "a1"]),
        (["1", "02", "2", "x"], ["1", "02", "2", "x"], ["x", "1"]),
        ([0.5, 1.5, 2.0, 3.25], ["0.5", "1.5", "2", "3.25"], [3.25, 0.5]),
        ([10.0, 20.0, 30.0, 40.0], ["10", "20", "30", "40"], [40, 10]),
        (np.array([9, 7, 2**63 + 5, 2], np.uint64), ["9", "7", str(2**63 + 5), "2"], [2, 9]),
        (np.array([[5], [6], [7], [8]]), ["5", "6", "7", "8"], [8, 5]),
    ],
)  # fmt: skip
def test_ids_are_kept_and_select_by_what_they_are(path, ids, labels, chosen):
    plain = rates(path)
    put_ids(path, ids)
    found = read_conditions(path, **READ)
    np.testing.assert_array_equal(found["rate"], plain)
    assert found["neuron"].values.tolist() == labels
    whole = found["unit_id"].dtype.kind == "i"
    assert found["unit_id"].values.tolist() == ([int(label) for label in labels] if whole else labels)
    np.testing.assert_array_equal(rates(path, units=chosen), plain[..., [3, 0]])
    np.testing.assert_array_equal(rates(path, units=[labels[3], labels[0]]), plain[..., [3, 0]])
    with pytest.raises((NWBError, ContractError), match="77"):
        read_conditions(path, **READ, units=[77])
    assert [str(unit) for unit in describe(path).units.ids] == labels
    assert session_map(path)["neuron"].values.tolist() == labels


def test_units_that_share_an_id_have_labels_with_their_row(path):
    plain = rates(path)
    put_ids(path, [0, 1, 0, 2])
    with pytest.warns(UserWarning, match=r"1 of 3 ids occur more than once.*'0 \(row 0\)', '0 \(row 2\)'"):
        found = read_conditions(path, **READ)
    assert found["neuron"].values.tolist() == ["0 (row 0)", "1", "0 (row 2)", "2"]
    assert found["unit_id"].values.tolist() == [0, 1, 0, 2]
    np.testing.assert_array_equal(found["rate"], plain)
    with pytest.warns(UserWarning, match="more than once"):
        some = read_conditions(path, **READ, units=["0 (row 2)", 1])
    np.testing.assert_array_equal(some["rate"], plain[..., [2, 1]])
    with (
        pytest.warns(UserWarning, match="more than once"),
        pytest.raises(NWBError, match=r"id 0 is that of 2 units.*'0 \(row 0\)', '0 \(row 2\)'"),
    ):
        read_conditions(path, **READ, units=[0])
    assert any("more than once" in warning for warning in describe(path).warnings)


def test_the_number_of_a_row_is_no_id(path):
    plain = rates(path)
    edit(path, lambda file: file.pop("units/id"))
    found = read_conditions(path, **READ)
    assert found["neuron"].values.tolist() == ["row 0", "row 1", "row 2", "row 3"]
    np.testing.assert_array_equal(found["rate"], plain)
    with pytest.raises(NWBError, match=r"no ids.*row 0"):
        read_conditions(path, **READ, units=[1, 3])
    np.testing.assert_array_equal(rates(path, units=["row 3", "row 1"]), plain[..., [3, 1]])


def test_ids_of_other_kinds_are_refused_by_name(path):
    edit(path, lambda file: file.pop("units/id"))
    edit(path, lambda file: file.create_dataset("units/id", data=np.zeros(4, [("a", int)])))
    with pytest.raises(NWBError, match="id of units"):
        read_conditions(path, **READ)


@pytest.mark.parametrize("units", [[True], [None], [[1]], 3, [0, 0.0], ["0", 0]])
def test_what_is_no_list_of_ids_is_refused(path, units):
    with pytest.raises(ContractError, match="units"):
        read_conditions(path, **READ, units=units)


# -- queries ----------------------------------------------------------------------------------------------------------


def put_electrodes(file, region, ends=None):
    """Four electrodes in two groups, and the region of each unit."""
    at = "general/extracellular_ephys"
    for name, place in (("probeA", "PFC"), ("probeB", "V1")):
        group = file.create_group(f"{at}/{name}")
        group.attrs.update(neurodata_type="ElectrodeGroup", description=f"the {name}", location=place)
        file.require_group(f"general/devices/dev{name}")
        group["device"] = h5py.SoftLink(f"/general/devices/dev{name}")
    table = file.create_group(f"{at}/electrodes")
    table["id"] = [100, 101, 102, 103]
    table["x"] = [0.0, 1.0, 2.0, 3.0]
    table.create_dataset("area", data=["a", "b", "b", "c"], dtype=TEXT)
    names = ["probeA", "probeA", "probeB", "probeB"]
    table.create_dataset("group_name", data=names, dtype=TEXT)
    refs = table.create_dataset("group", (4,), dtype=h5py.ref_dtype)
    for k, name in enumerate(names):
        refs[k] = file[f"{at}/{name}"].ref
    if region is not None:
        file["units/electrodes"] = region
        file["units/electrodes"].attrs.update(neurodata_type="DynamicTableRegion", table=table.ref)
        if ends is not None:
            file["units/electrodes_index"] = ends


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("area == 'b'", [1, 2]),
        ("x > 0.5 and area != 'c'", [1, 2]),
        ("electrode_group == 'probeA'", [0, 1]),
        ("group_name == 'probeB'", [2, 3]),
        ("location == 'PFC'", [0, 1]),
        ("group_location == 'V1' and area == 'b'", [2]),
        ("description == 'the probeB'", [2, 3]),
        ("device == 'devprobeA' or id == 3", [0, 1, 3]),
    ],
)
@pytest.mark.parametrize("how", ["region", "peak"])
def test_a_query_selects_by_electrodes_and_their_groups(path, query, rows, how):
    plain = rates(path)
    edit(path, lambda file: put_electrodes(file, [0, 1, 2, 3] if how == "region" else None))
    if how == "peak":
        edit(path, lambda file: file.create_dataset("units/peak_channel_id", data=[100, 101, 102, 103]))
    np.testing.assert_array_equal(rates(path, units=query), plain[..., rows])
    name = query.split(" ")[0]
    found = read_conditions(path, **READ, units=query, unit_columns=[name])
    every = read_conditions(path, **READ, unit_columns=[name])
    assert found[name].values.tolist() == every[name].values[rows].tolist()


def test_a_unit_of_several_electrodes_has_their_value_if_all_agree(path):
    plain = rates(path)
    edit(path, lambda file: put_electrodes(file, [1, 2, 0, 3, 3, 1], [2, 4, 5, 6]))
    words = r"area differs between the electrodes of 1 of 4 units, such as a, c of unit 1"
    with pytest.warns(UserWarning, match=words):
        found = read_conditions(path, **READ, units="area == 'b'")
    np.testing.assert_array_equal(found["rate"], plain[..., [0, 3]])
    with pytest.warns(UserWarning, match=words):
        found = read_conditions(path, **READ, units="area == 'a, c'", unit_columns=["area", "x", "location"])
    assert found["area"].values.tolist() == ["a, c"]
    assert found["x"].values.tolist() == ["0, 3"]
    assert found["location"].values.tolist() == ["PFC, V1"]
    with pytest.warns(UserWarning, match="x differs between the electrodes of 2 of 4 units.*no number"):
        found = read_conditions(path, **READ, units="x >= 0")
    assert found["neuron"].values.tolist() == ["2", "3"]
    np.testing.assert_array_equal(rates(path, units="'b' in area"), plain[..., [0, 3]])
    np.testing.assert_array_equal(rates(path, units="'PFC' in location and not 'a' in area"), plain[..., [0, 3]])
    np.testing.assert_array_equal(rates(path, units="3 in x"), plain[..., [1, 2]])


def test_a_unit_without_electrodes_has_no_value(path):
    plain = rates(path)
    edit(path, lambda file: put_electrodes(file, [0, 1, 2], [1, 2, 2, 3]))
    np.testing.assert_array_equal(rates(path, units="area == 'b'"), plain[..., [1, 3]])
    np.testing.assert_array_equal(rates(path, units="x < 99"), plain[..., [0, 1, 3]])
    np.testing.assert_array_equal(rates(path, units="area == ''"), plain[..., [2]])


def test_units_may_refer_to_groups_without_electrodes(path):
    plain = rates(path)

    def change(file):
        put_electrodes(file, None)
        refs = file.create_dataset("units/electrode_group", (4,), dtype=h5py.ref_dtype)
        for row, name in enumerate(["probeA", "probeB", "probeB", "probeA"]):
            refs[row] = file[f"general/extracellular_ephys/{name}"].ref

    edit(path, change)
    np.testing.assert_array_equal(rates(path, units="location == 'V1'"), plain[..., [1, 2]])
    np.testing.assert_array_equal(rates(path, units="electrode_group == 'probeA'"), plain[..., [0, 3]])


def test_a_column_of_units_goes_before_one_of_electrodes(path):
    plain = rates(path)
    edit(path, lambda file: put_electrodes(file, [0, 1, 2, 3]))
    edit(path, lambda file: file.create_dataset("units/location", data=["x", "x", "PFC", "PFC"], dtype=TEXT))
    np.testing.assert_array_equal(rates(path, units="location == 'PFC'"), plain[..., [2, 3]])
    np.testing.assert_array_equal(rates(path, units="group_location == 'PFC'"), plain[..., [0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: put_electrodes(f, [0, 1, 2, 9]), "electrode 9 of 4"),
        (lambda f: (put_electrodes(f, None), f.create_dataset("units/peak_channel_id", data=[100, 101, 102, 7])),
         "peak_channel_id .* names electrode 7"),
    ],
)  # fmt: skip
def test_electrodes_that_are_not_there_are_an_error(path, change, words):
    edit(path, change)
    with pytest.raises(NWBError, match=words):
        read_conditions(path, **READ, units="area == 'b'")


def test_a_name_that_nobody_has_lists_those_of_units_and_electrodes(path):
    edit(path, lambda file: put_electrodes(file, [0, 1, 2, 3]))
    with pytest.raises(NWBError, match=r"no column 'depth'.*electrodes have .*area"):
        read_conditions(path, **READ, units="depth > 1")


# -- the same recording twice, and fits among recordings --------------------------------------------------------------


def other_session(tmp_path, k):
    made = Session(tmp_path / f"other{k}.nwb", seed=k + 1)
    made.put_table(cue=made.cue, side=["left", "right"] * 5)
    return made.path


@pytest.mark.parametrize("object_id", ["", "c9b5a5ac"])
def test_a_recording_and_its_copy_are_one(tmp_path, path, object_id):
    def mark(file):
        if object_id:
            file["units"].attrs["object_id"] = object_id

    edit(path, mark)
    copy, other = tmp_path / "copy.nwb", other_session(tmp_path, 0)
    shutil.copy(path, copy)
    if object_id:
        edit(copy, lambda file: file.create_dataset("scratch/more", data=np.zeros(5)))
    with pytest.raises(NWBError, match=r"copy\.nwb is the same recording as .*s\.nwb.*twice"):
        read_conditions([path, other, copy], **READ)
    with pytest.warns(UserWarning, match=r"left out .*copy\.nwb.*same recording as .*s\.nwb"):
        found = read_conditions([path, other, copy], **READ, errors="skip")
    np.testing.assert_array_equal(found["rate"], rates([path, other]))
    assert found.attrs["assets_units"] == [4, 2, 0]


def test_files_of_equal_size_are_two_recordings(tmp_path, path):
    twin = tmp_path / "twin.nwb"
    shutil.copy(path, twin)
    edit(twin, lambda file: file["units/spike_times"].write_direct(file["units/spike_times"][()] + 0.001))
    assert twin.stat().st_size == path.stat().st_size
    assert read_conditions([path, twin], **READ).sizes["neuron"] == 8


@pytest.mark.filterwarnings("ignore:.*(subject has no|no subject)")
def test_a_fit_among_recordings_is_left_out_with_a_warning(tmp_path, path):
    other = other_session(tmp_path, 0)
    both = rates([other, path])
    recording = read_conditions([other, path], **READ)
    activity = prepare(recording, inputs=[Input("side", column="side", window_s=(0.0, 0.6))], time_course=False)
    write_fit(
        fit_lint(activity, rank=1, tau_s=0.2, method="regression"), tmp_path / "a_fit.nwb", subject={"age": "P9D"}
    )
    for sources in (str(tmp_path / "*.nwb"), sorted(tmp_path.glob("*.nwb"))):
        with pytest.warns(UserWarning, match=r"left out .*a_fit\.nwb.*holds a fit.*read_fit"):
            found = read_conditions(sources, **READ)
        np.testing.assert_array_equal(found["rate"], both)
    with pytest.raises(NWBError, match=r"a_fit\.nwb.*holds a fit"):
        read_conditions(tmp_path / "a_fit.nwb", **READ)
    with pytest.raises(NWBError, match=r"a_fit\.nwb.*holds a fit"):
        read_trials(tmp_path / "a_fit.nwb", **TRIALS)
    assert [*describe(tmp_path / "a_fit.nwb").stored] == ["processing/ecephys/lowrank_fit"]


# -- labels in files of fits ------------------------------------------------------------------------------------------


def fit_of(path, **how):
    read = READ | {"bin_s": 0.1} | how
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        activity = prepare(
            read_conditions(path, **read), inputs=[Input("side", column="side", window_s=(0.0, 0.6))], time_course=False
        )
    return fit_lint(activity, rank=1, tau_s=0.2, method="regression", hidden=2)


@pytest.mark.filterwarnings("ignore:.*(subject has no|no subject)")
@pytest.mark.parametrize("ids", [["a1", "b2", "c3", "d4"], [0.5, 1.5, 2.0, 3.25], [0, 1, 0, 2], None])
def test_labels_survive_the_file_of_a_fit(tmp_path, path, ids):
    edit(path, lambda file: file.pop("units/id")) if ids is None else put_ids(path, ids)
    fit = fit_of(path)
    target = tmp_path / "fit.nwb"
    write_fit(fit, target, subject={"age": "P9D"})
    xr.testing.assert_identical(read_fit(target), with_digests(fit))
    labels = fit["neuron"].values[fit["recorded"].values].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = read_conditions(path, **READ, units=labels[::-1])
    assert again["neuron"].values.tolist() == labels[::-1]


@pytest.mark.filterwarnings("ignore:.*more than once")
@pytest.mark.parametrize("change", ["ids", "twice", "elsewhere", "text", "none"])
def test_neurons_of_a_full_copy_point_at_their_rows(tmp_path, change):
    path = mock_session(tmp_path / "s.nwb", n_units=4)
    if change in ("twice", "elsewhere"):
        edit(path, lambda file: file["units/id"].write_direct(np.array([5, 1, 5, 0])))
    if change in ("text", "none"):

        def replace(file):
            attributes = dict(file["units/id"].attrs)
            del file["units/id"]
            if change == "text":
                file.create_dataset("units/id", data=["a", "b", "c", "d"], dtype=TEXT).attrs.update(attributes)

        edit(path, replace)
    if change == "elsewhere":

        def move(file):
            module = file.create_group("processing/ecephys")
            module.attrs.update(neurodata_type="ProcessingModule", namespace="core", description="x", object_id="m")
            file.copy("units", "processing/ecephys/sorted")
            file["processing/ecephys/sorted"].attrs["object_id"] = "other"
            file["processing/ecephys/sorted/id"][...] = [7, 8, 9, 6]
            for name in ("electrodes", "electrodes_index"):
                del file[f"processing/ecephys/sorted/{name}"]
            file["processing/ecephys/sorted"].attrs["colnames"] = ["spike_times"]
            index = file["processing/ecephys/sorted/spike_times_index"]
            index.attrs["target"] = file["processing/ecephys/sorted/spike_times"].ref

        edit(path, move)
    table = "processing/ecephys/sorted" if change == "elsewhere" else "units"
    fit = fit_of(path, align="cue_time", units_table=table)
    if change == "text":  # pynwb reads ids that are whole numbers
        with pytest.raises(NWBError, match=r"integers.*file of its own"):
            write_fit(fit, tmp_path / "copy.nwb", into=path)
        return
    write_fit(fit, tmp_path / "copy.nwb", into=path)
    with h5py.File(tmp_path / "copy.nwb") as file:
        neurons = file["processing/ecephys/lowrank_fit/neurons"]
        assert neurons["unit"][()].tolist() == [0, 1, 2, 3]
        assert file[neurons["unit"].attrs["table"]].name == f"/{table}"
    if change == "ids":
        with pytest.raises(NWBError, match="same recording"):
            read_conditions([path, tmp_path / "copy.nwb"], **READ | {"align": "cue_time"})


# -- spikes and obs_intervals -----------------------------------------------------------------------------------------


def observed(tmp_path, intervals, ids=None):
    made = Session(tmp_path / "obs.nwb", n_units=4)
    made.put_units(made.spikes, ids, [np.array(part, float).reshape(-1, 2) for part in intervals])
    made.put_table(cue=made.cue, side=["left", "right"] * 5)
    return made


ALL = [[0, 22]]


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([[[0, 11]]] * 4, r"spikes of unit \d.*4 of 4 units\) lie outside of their obs_intervals.*not counted"),
        ([ALL, ALL, [[0, 8]], ALL], r"spikes of unit 2 \(1 of 4 units\) lie outside of their obs_intervals"),
        ([[[k, k + 0.5] for k in range(0, 20, 2)]] * 4, r"4 of 4 units\) lie outside of their obs_intervals"),
    ],
)
def test_units_with_spikes_outside_of_their_obs_intervals_are_named(tmp_path, intervals, words):
    made = observed(tmp_path, intervals)
    n = [int(((made.spikes[2][:, None] < a) | (made.spikes[2][:, None] > b)).all(axis=1).sum())
         for a, b in [np.array(intervals[2], float).T]]  # fmt: skip
    with pytest.warns(UserWarning, match=words) as caught:
        read_conditions(made.path, **READ, missing="keep")
    phrase = " ".join(str(warning.message) for warning in caught)
    assert f"{n[0]} of {len(made.spikes[2])} spikes of unit 2" in phrase
    assert any("obs_intervals" in warning for warning in describe(made.path).warnings)


def test_obs_intervals_that_are_not_the_observed_time_are_refused(tmp_path):
    made = observed(tmp_path, [[[22 - 0.5, 40]]] * 4)
    with pytest.raises(NWBError, match=r"4 of 4 units\) lie outside.*Hz inside.*Hz outside.*obs_intervals"):
        read_conditions(made.path, **READ, missing="keep")
    assert any("Hz outside" in warning for warning in describe(made.path).warnings)


def test_spikes_in_invalid_times_are_no_spikes_outside(tmp_path):
    made = observed(tmp_path, [[[0, 15]]] * 4)
    made.put_table("intervals/invalid_times", slice(0, 1))
    edit(made.path, lambda file: file["intervals/invalid_times/start_time"].write_direct(np.array([15.0])))
    edit(made.path, lambda file: file["intervals/invalid_times/stop_time"].write_direct(np.array([22.0])))
    rates(made.path, missing="keep")


# -- neurons of a series ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        ([4, 4, 5], ["4 (row 0)", "4 (row 1)", "5"]),
        ([0.5, 1.5, 2.5], ["0.5", "1.5", "2.5"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*more than once")
def test_regions_of_interest_have_labels_as_units_have(tmp_path, path, ids, labels):
    def add(file):
        series = file.create_group("processing/ophys/dff")
        series.create_dataset("data", data=np.random.default_rng(0).random((400, 3))).attrs["unit"] = "a.u."
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 20.0
        table = file.create_group("processing/ophys/plane")
        table.create_dataset("id", data=ids, dtype=TEXT if isinstance(ids[0], str) else None)
        table["area"] = [1.0, 2.0, 3.0]
        series["rois"] = [0, 1, 2]
        series["rois"].attrs["table"] = table.ref
        series.attrs["object_id"] = "series"

    edit(path, add)
    found = read_conditions(path, **READ, series="dff")
    assert found["neuron"].values.tolist() == labels
    some = read_conditions(path, **READ, series="dff", units=labels[1:])
    np.testing.assert_array_equal(some["rate"], found["rate"][..., 1:])
    shutil.copy(path, tmp_path / "copy.nwb")
    edit(tmp_path / "copy.nwb", lambda file: file.create_dataset("scratch/x", data=1))
    with pytest.raises(NWBError, match="same recording"):
        read_conditions([path, tmp_path / "copy.nwb"], **READ, series="dff")


def test_a_single_text_is_a_query_or_a_label(path):
    plain = rates(path)
    put_ids(path, ["a1", "b2", "c3", "good"])
    edit(path, lambda file: file.create_dataset("units/good", data=[True, True, False, False]))
    np.testing.assert_array_equal(rates(path, units="b2"), plain[..., [1]])
    np.testing.assert_array_equal(rates(path, units="good"), plain[..., [0, 1]])
    np.testing.assert_array_equal(rates(path, units=["good"]), plain[..., [3]])
    with pytest.raises(NWBError, match="'zz'"):
        read_conditions(path, **READ, units="zz")
