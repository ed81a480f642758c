"""Spikes and NWBFiles in memory give what the readers give of the file that holds them, bit for bit."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pynwb
import pytest
import xarray as xr
from pynwb.testing.mock.file import mock_NWBFile

import nwb_lint as nl
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.testing import mock_session

pytestmark = pytest.mark.filterwarnings("ignore:Means may mislead", "ignore:.*rates are NaN", "ignore:dropped .* units")

TIMES = {"align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.02}
MEANS = TIMES | {"by": ["side", "coherence"], "missing": "keep", "halves": True, "smooth_s": 0.05}
READINGS = [
    TIMES,
    TIMES | {"within": ("start_time", "stop_time"), "window_s": (-0.8, 1.4)},
    TIMES | {"warp": ("cue_time", "stop_time"), "columns": {"hard": "abs(coherence) < 0.2"}},
    TIMES | {"align": "start_time + 0.25", "units": "depth > 0.5"},
    MEANS,
    MEANS | {"where": "correct and block < 3", "units": [9, 3], "draws": 2, "seed": 3},
    MEANS | {"by": {"coherence": "rank"}, "infer_obs": True},
    MEANS | {"by": ["side", "hard"], "columns": {"hard": "abs(coherence) < 0.2"}, "min_trials": 3},
    TIMES | {"align": "lick_times", "align_which": "last"},
]


@contextmanager
def opened(path):
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        yield io.read()


@pytest.fixture(scope="module", params=[False, True], ids=["always observed", "obs_intervals"])
def session(request, tmp_path_factory):
    licks = [start + np.array([0.6, 0.9, 1.2])[: 1 + row % 3] for row, start in enumerate(1.0 + 2 * np.arange(40))]
    columns = {"lick_times": licks, "note": [f"trial {row}" for row in range(40)]}
    units = {"region": list("abcab"), "depth": np.linspace(0, 1, 5)}
    path = tmp_path_factory.mktemp("session") / "session.nwb"
    return mock_session(
        path, columns=columns, unit_columns=units, unit_ids=[5, 3, 9, 1, 2], obs_intervals=request.param
    )


def arguments(path):
    """Spike times, trials, columns and observed intervals of a file, as pynwb gives them."""
    with opened(path) as file:
        units = file.units
        ids = units.id[:].tolist()
        spikes = {unit: units["spike_times"][row] for row, unit in enumerate(ids)}
        neurons = pd.DataFrame({name: units[name][:] for name in ("region", "depth")}, index=ids)
        observed = None
        if "obs_intervals" in units.colnames:
            observed = {unit: units["obs_intervals"][row] for row, unit in enumerate(ids)}
        return spikes, file.trials.to_dataframe(), {"neurons": neurons, "obs_intervals": observed}


def read(path, options):
    reader = nl.read_conditions if "by" in options else nl.read_trials
    return reader(path, **options)


def without_file(dataset):
    """A Dataset as the readers give it, without what they say of the file."""
    names = [name for name, one in dataset.coords.items() if "file" in one.dims or name in ("source", "session")]
    out = dataset.drop_vars(names)
    out.attrs = {name: value for name, value in out.attrs.items() if not name.startswith("assets")}
    return out


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_spikes_of_a_file_give_what_the_file_gives(session, options):
    spikes, trials, more = arguments(session)
    found = nl.from_spikes(spikes, trials, **more, **options)
    assert found["region"].values.tolist() == [
        dict(zip([5, 3, 9, 1, 2], "abcab", strict=True))[k] for k in found.unit_id.values
    ]
    xr.testing.assert_identical(
        without_file(read(session, options)), without_file(found).drop_vars(["region", "depth"])
    )


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_an_nwbfile_gives_what_its_file_gives(session, options):
    expected = read(session, options)
    with opened(session) as nwbfile:
        found = nl.from_nwbfile(nwbfile, **options)
        assert nwbfile.container_source == str(session)
    xr.testing.assert_identical(without_file(expected), without_file(found))
    for name in ("file_identifier", "file_object_id", "file_units_object_id", "session"):
        assert expected[name].values.tolist() == found[name].values.tolist()


@pytest.mark.filterwarnings("ignore:trials of the session of from_spikes. silent")
def test_all_forms_of_spike_times_give_the_same(session):
    spikes, trials, more = arguments(session)
    plain = {"neurons": more["neurons"]}
    of_dict = nl.from_spikes(spikes, trials, **plain, **MEANS)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "unit": np.repeat(list(spikes), [len(one) for one in spikes.values()]),
            "time": np.concatenate(list(spikes.values())),
        }
    )
    of_table = nl.from_spikes(table.iloc[rng.permutation(len(table))], trials, **plain, **MEANS)
    xr.testing.assert_identical(of_dict, of_table)
    of_list = nl.from_spikes(list(spikes.values()), {name: trials[name] for name in trials}, **MEANS)
    np.testing.assert_array_equal(of_dict["rate"], of_list["rate"])
    assert of_list["neuron"].values.tolist() == list("01234")
    named = nl.from_spikes(
        {f"unit {unit}": times for unit, times in spikes.items()}, trials, **MEANS | {"units": ["unit 3", "unit 9"]}
    )
    np.testing.assert_array_equal(of_dict["rate"][..., [1, 2]], named["rate"])
    assert named["neuron"].values.tolist() == ["unit 3", "unit 9"]


@pytest.mark.parametrize("options", [TIMES, MEANS], ids=["trials", "conditions"])
def test_a_written_session_gives_the_same(session, tmp_path, options):
    spikes, trials, more = arguments(session)
    unit_columns = {name: more["neurons"][name].to_numpy() for name in more["neurons"]}
    path = nl.write_session(
        tmp_path / "new.nwb", spikes, trials, unit_columns=unit_columns, obs_intervals=more["obs_intervals"]
    )
    assert pynwb.validate(path=str(path)) == []
    found = nl.from_spikes(spikes, trials, **more, **options).drop_vars(["region", "depth"])
    xr.testing.assert_identical(without_file(read(path, options)), without_file(found))
    xr.testing.assert_identical(without_file(read(session, options)), without_file(found))


def test_units_without_spikes_and_their_order_come_from_neurons():
    trials = {"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0]}
    spikes = pd.DataFrame({"unit": [7, 2, 7], "time": [0.1, 0.2, 2.1]})
    neurons = pd.DataFrame({"area": ["V1", "V1", "M2"]}, index=[7, 4, 2])
    found = nl.from_spikes(spikes, trials, neurons=neurons, align="start_time", window_s=(0, 1), bin_s=0.5)
    assert found["neuron"].values.tolist() == ["7", "4", "2"]
    assert found["count"].sum(["trial", "time"]).values.tolist() == [2, 0, 1]
    assert found["area"].values.tolist() == ["V1", "V1", "M2"]


def test_neurons_are_matched_to_units_by_their_ids():
    """Whatever the kind of the ids is, and whatever pandas makes of an index that was turned around or cut."""
    how = {"trials": TRIALS, "align": "start_time", "window_s": (0, 1), "bin_s": 0.5}
    neurons = pd.DataFrame({"area": ["a0", "a1", "a2"]})
    spikes = {unit: [0.1 * (unit + 1)] for unit in range(3)}
    for turned in (
        neurons.iloc[::-1],
        neurons.iloc[[2, 1, 0]],
        neurons.set_index(pd.Index(["0", "1", "2"])).iloc[::-1],
    ):
        found = nl.from_spikes(spikes, neurons=turned, **how)
        assert found["area"].values.tolist() == ["a2", "a1", "a0"]
        assert found["unit_id"].values.tolist() == [2, 1, 0]
    texts = nl.from_spikes({str(unit): times for unit, times in spikes.items()}, neurons=neurons.iloc[::-1], **how)
    assert texts["area"].values.tolist() == ["a2", "a1", "a0"]
    assert texts["neuron"].values.tolist() == ["2", "1", "0"]
    one = nl.from_spikes({1: [0.1]}, neurons=neurons.iloc[1:2], **how)
    assert one["area"].values.tolist() == ["a1"]


def test_ids_may_be_floats_or_of_several_kinds():
    how = {"trials": TRIALS, "align": "start_time", "window_s": (0, 1), "bin_s": 0.5}
    of_dict = nl.from_spikes({1.0: [0.1], 3.0: [0.2]}, **how)
    table = pd.DataFrame({"unit": [3.0, 1.0], "time": [0.2, 0.1]})
    xr.testing.assert_identical(of_dict, nl.from_spikes(table, **how))
    assert of_dict["unit_id"].values.tolist() == [1, 3]
    nullable = table.assign(unit=table["unit"].astype("Int64"))
    xr.testing.assert_identical(of_dict, nl.from_spikes(nullable, **how))
    mixed = nl.from_spikes(table.assign(unit=pd.Series([1, "b"], dtype=object)), **how)
    assert mixed["neuron"].values.tolist() == ["1", "b"]


def test_units_may_be_observed_never_or_by_a_table():
    how = {"trials": TRIALS, "align": "start_time", "window_s": (0, 1), "bin_s": 0.5}
    frame = pd.DataFrame({"start": [0.0], "stop": [1.0]})
    of_frame = nl.from_spikes([[0.1], [0.3]], obs_intervals=frame, **how)
    assert of_frame["observed"].any(["time", "neuron"]).values.tolist() == [True, False]
    never = nl.from_spikes([[0.1], []], obs_intervals=[[[0, 5]], []], **how)
    assert never["observed"].all(["trial", "time"]).values.tolist() == [True, False]


def test_a_column_id_of_trials_is_their_id():
    found = nl.from_spikes([[0.1]], TRIALS | {"id": [7, 4]}, align="start_time", window_s=(0, 1), bin_s=0.5)
    assert found["trial"].values.tolist() == [7, 4]


def test_the_index_of_trials_and_missing_values_are_kept():
    table = pd.DataFrame(
        {"start_time": [0.0, 2.0, 4.0], "stop_time": [1.0, 3.0, 5.0], "side": pd.Categorical(["l", None, "r"]),
         "number": pd.array([1, None, 3], dtype="Int64"), "ok": [True, False, True]}, index=[4, 8, 6],
    )  # fmt: skip
    found = nl.from_spikes([[0.1, 2.1, 4.1]], table, align="start_time", window_s=(0, 1), bin_s=0.5)
    assert found["trial"].values.tolist() == [4, 8, 6]
    assert found["side"].values.tolist() == ["l", "N/A", "r"]
    np.testing.assert_array_equal(found["number"], [1.0, np.nan, 3.0])
    assert found["ok"].dtype == bool


def new_nwbfile(n_units=3):
    """An NWBFile as a pipeline makes it, with raw data that come as an iterator."""
    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from hdmf.data_utils import DataChunkIterator

    nwbfile = mock_NWBFile(session_id="pipeline")
    rng = np.random.default_rng(0)
    for unit in range(n_units):
        nwbfile.add_unit(spike_times=np.sort(rng.uniform(0, 40, 400)), id=10 + unit)
    nwbfile.add_trial_column("side", "Which side.")
    for trial in range(20):
        nwbfile.add_trial(start_time=2.0 * trial, stop_time=2.0 * trial + 1, side=["l", "r"][trial % 2])
    chunks = DataChunkIterator(data=np.zeros((100, 4)), buffer_size=10)
    raw = pynwb.TimeSeries(name="raw", data=H5DataIO(chunks, compression="gzip"), rate=1.0, starting_time=0.0, unit="V")
    nwbfile.add_acquisition(raw)
    activity = H5DataIO(rng.uniform(size=(400, 2)), compression="gzip")
    module = nwbfile.create_processing_module("ophys", "dF/F")
    module.add(pynwb.TimeSeries(name="dff", data=activity, rate=10.0, starting_time=0.0, unit="1"))
    return nwbfile


STARTS = {"align": "start_time", "window_s": (0, 1), "bin_s": 0.1}


@pytest.mark.parametrize("more", [{}, {"series": "dff"}, {"series": "processing/ophys/dff"}], ids=str)
@pytest.mark.filterwarnings("ignore::UserWarning:hdmf", "ignore::UserWarning:pynwb")
def test_a_new_nwbfile_can_be_written_after_it_was_read(tmp_path, more):
    nwbfile = new_nwbfile()
    found = nl.from_nwbfile(nwbfile, by="side", **STARTS, **more)
    single = nl.from_nwbfile(nwbfile, **STARTS, **more)
    assert nwbfile.container_source is None
    assert single.sizes["trial"] == 20
    with pynwb.NWBHDF5IO(str(tmp_path / "s.nwb"), "w") as io:
        io.write(nwbfile)
    with opened(tmp_path / "s.nwb") as written:
        assert written.acquisition["raw"].data.shape == (100, 4)
    of_file = nl.read_conditions(tmp_path / "s.nwb", by="side", **STARTS, **more)
    xr.testing.assert_identical(without_file(of_file), without_file(found))


def test_a_fit_of_an_nwbfile_is_linked_to_its_units(session):
    with opened(session) as nwbfile:
        recording = nl.from_nwbfile(nwbfile, by="coherence", units=[9, 3], **TIMES)
        inputs = [nl.Input("coherence", column="coherence", window_s=(0, 0.8))]
        fit = nl.fit_lint(
            nl.prepare(recording, inputs=inputs, n_components=None), rank=1, tau_s=0.1, method="regression"
        )
        container = nl.add_to_nwbfile(fit, nwbfile)
        rows = [container.neurons["unit"].target.data[k] for k in range(2)]
        assert np.asarray(nwbfile.units.id[:])[rows].tolist() == [9, 3]


def test_an_nwbfile_whose_file_is_closed_is_an_error(session):
    with opened(session) as nwbfile:
        pass
    with pytest.raises(NWBError, match="still open"):
        nl.from_nwbfile(nwbfile, **TIMES)
    with pytest.raises(NWBError, match="no units table"):
        nl.from_nwbfile(mock_NWBFile(), **TIMES)


def test_several_nwbfiles_are_put_together_like_files(tmp_path):
    paths = [mock_session(tmp_path / f"{seed}.nwb", seed=seed, session_id="same") for seed in range(2)]
    expected = nl.read_conditions(paths, by="side", **TIMES)
    with opened(paths[0]) as first, opened(paths[1]) as second:
        found = nl.from_nwbfile([first, second], by="side", **TIMES)
        with pytest.raises(ContractError, match="listed twice"):
            nl.from_nwbfile([first, first], by="side", **TIMES)
    np.testing.assert_array_equal(expected["rate"], found["rate"])
    np.testing.assert_array_equal(expected["unit_id"], found["unit_id"])
    assert len(set(found["file"].values)) == 2


def test_an_input_is_a_series_in_memory():
    """Running speed, given with the spikes or in an NWBFile: its mean in each bin over the trials."""
    times = np.arange(0, 45, 0.01) + 0.005
    speed = np.sin(times)
    trials = {"start_time": 2.0 * np.arange(20), "stop_time": 2.0 * np.arange(20) + 1, "side": ["l", "r"] * 10}
    spikes = [np.sort(np.random.default_rng(0).uniform(0, 42, 800))]
    inputs = [nl.Input("speed", series="speed")]
    found = nl.from_spikes(spikes, trials, by="side", series={"speed": (times, speed)}, inputs=inputs, **STARTS)
    u = nl.prepare(found, inputs=inputs, n_components=None)["u"]
    first = np.mean([speed[(times >= start) & (times < start + 0.1)].mean() for start in 4.0 * np.arange(10)])
    assert float(u[0, 0, 0]) == pytest.approx(first, abs=1e-5)
    nwbfile = new_nwbfile()
    nwbfile.add_acquisition(
        pynwb.TimeSeries(name="eye", data=np.stack([speed, 2 * speed], 1), timestamps=times, unit="1")
    )
    inputs = [nl.Input("eye", series="eye", series_column=1)]
    of_nwbfile = nl.from_nwbfile(nwbfile, by="side", inputs=inputs, **STARTS)
    both = nl.prepare(of_nwbfile, inputs=inputs, n_components=None)["u"]
    np.testing.assert_allclose(both.values, 2 * u.values, atol=1e-5)
    with pytest.raises(ContractError, match="Series speed is a"):
        nl.from_spikes(spikes, trials, series={"speed": speed}, **STARTS)


def test_a_series_that_lacks_many_trials_is_named():
    """The rates are means of all trials, and the input is one of those that the series covers."""
    start = 2.0 * np.arange(20)
    trials = {"start_time": start, "stop_time": start + 1, "side": ["l", "r"] * 10}
    spikes = [np.sort(np.random.default_rng(0).uniform(0, 42, 800))]
    one, times = nl.Input("run", series="speed"), np.arange(0, 30, 0.05)
    given = {"series": {"speed": (times, times)}, "inputs": [one], "by": "side"}
    with pytest.warns(UserWarning, match=r"speed has no value in 25% of the samples of input 'run'"):
        found = nl.from_spikes(spikes, trials, **given, **STARTS)
    assert np.isfinite(found["input_course"]).all()


def test_trials_are_a_table_of_pynwb():
    nwbfile = new_nwbfile()
    spikes = {10 + row: nwbfile.units["spike_times"][row] for row in range(3)}
    of_table = nl.from_spikes(spikes, nwbfile.trials, **STARTS)
    xr.testing.assert_identical(of_table, nl.from_spikes(spikes, nwbfile.trials.to_dataframe(), **STARTS))


@pytest.mark.parametrize("folder", ["alm000009", "mante2013"])
@pytest.mark.filterwarnings("ignore")
def test_published_recordings_are_the_same_in_memory(shared_data, folder):
    path = sorted((shared_data / folder).glob("*.nwb"))[0]
    how = {"align": "start_time", "window_s": (0, 0.5), "bin_s": 0.05}
    expected = nl.read_trials(path, **how)
    with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
        nwbfile = io.read()
        np.testing.assert_array_equal(nl.from_nwbfile(nwbfile, **how)["count"], expected["count"])
        units, ids = nwbfile.units, nwbfile.units.id[:].tolist()
        spikes = {unit: units["spike_times"][row] for row, unit in enumerate(ids)}
        has_obs = "obs_intervals" in units.colnames
        observed = {unit: units["obs_intervals"][row] for row, unit in enumerate(ids)} if has_obs else None
        found = nl.from_spikes(spikes, nwbfile.trials, obs_intervals=observed, **how)
    for name in ("count", "trial", "unit_id", *(["observed"] if "observed" in expected else [])):
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_large_session_takes_seconds():
    import time

    rng = np.random.default_rng(0)
    spikes = [np.sort(rng.uniform(0, 2000, 20_000)) for _ in range(100)]
    start = 2.0 * np.arange(1000)
    trials = pd.DataFrame({"start_time": start, "stop_time": start + 1, "side": np.arange(1000) % 2})
    before = time.perf_counter()
    nl.from_spikes(spikes, trials, by="side", align="start_time", window_s=(0, 1), bin_s=0.01)
    assert time.perf_counter() - before < 5


SPIKES, TRIALS = [[0.1, 0.2], [0.3]], {"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0], "side": ["l", "r"]}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"spike_times": [[2.0, 1.0]]}, ContractError, "unit 0 are not sorted"),
        ({"spike_times": [[1.0, np.nan]]}, ContractError, "1 of 2 spike times of unit 0 are not finite"),
        ({"spike_times": [np.arange(3).astype("m8[s]")]}, ContractError, "unit 0 are ndarray and no numbers"),
        ({"spike_times": pd.DataFrame({"unit": ["a", None], "time": [0.1, 0.2]})}, ContractError, "1 of 2 .* no unit"),
        ({"spike_times": []}, ContractError, "at least one unit"),
        ({"spike_times": 3}, ContractError, "spike_times is a int.*dict of unit and times"),
        ({"spike_times": [["a", "b"]]}, ContractError, "unit 0 are list and no numbers"),
        ({"spike_times": [np.zeros((2, 2))]}, ContractError, "unit 0 have shape"),
        ({"spike_times": pd.DataFrame({"cluster": [1], "time": [0.1]})}, ContractError, "no column unit.*cluster"),
        ({"trials": {"start_time": [0.0]}}, ContractError, "no stop_time"),
        ({"trials": {"start_time": [0.0], "stop_time": []}}, ContractError, "one length"),
        ({"trials": [1, 2]}, ContractError, "trials is a list"),
        ({"neurons": {"area": ["V1"]}}, ContractError, "neurons has 1 rows for 2 units"),
        ({"neurons": ["V1", "M2"]}, ContractError, "neurons is a list"),
        ({"neurons": {"id": [1, 0]}}, ContractError, "unit column id"),
        ({"neurons": {"electrode_group": ["a", "b"]}}, ContractError, "unit column electrode_group"),
        ({"neurons": pd.DataFrame({"area": ["V1", "M2"]}, index=[1, 2])}, ContractError, "of neurons lacks unit 0"),
        ({"neurons": pd.DataFrame({"area": ["V1", "M2"]}).iloc[1:]}, ContractError, "index of neurons lacks unit 0"),
        ({"neurons": pd.DataFrame({"area": list("VMA")}, index=[0, 1, 1])}, ContractError, "has an id twice"),
        ({"trials": TRIALS | {"start_time": ["0", "2"]}}, ContractError, "start_time of trials holds no numbers"),
        ({"trials": TRIALS | {"rt": np.array([1, 2], "m8[ns]")}}, ContractError, "rt holds timedelta64.*total_seconds"),
        ({"trials": TRIALS | {"side_index": [0, 1]}}, ContractError, "side_index has the name of an index of side"),
        ({"trials": TRIALS | {"a/b": [0, 1]}}, ContractError, "'a/b' has a name that NWB cannot hold"),
        ({"trials": TRIALS | {"tags": ["a", "b"]}}, ContractError, "column tags of trials needs a list"),
        ({"trials": TRIALS | {"id": ["a", "b"]}}, ContractError, "column id of trials"),
        ({"trials": TRIALS | {"ok": [True, None]}}, ContractError, "holds True .bool. and other kinds"),
        ({"series": [([0.0], [1.0])]}, ContractError, "series is a list"),
        ({"series": {"v": ([0.0, 1.0], ["a", "b"])}}, ContractError, "Values of series v are no numbers"),
        ({"series": {"a/b": ([0.0, 1.0], [1.0, 2.0])}}, ContractError, "'a/b' has a name that NWB cannot hold"),
        ({"obs_intervals": [[0, 5]]}, ContractError, "obs_intervals is a list of 1.*each of 2 units"),
        ({"obs_intervals": np.array([[5, 0]])}, ContractError, "obs_intervals has 5 to 0 s"),
        ({"obs_intervals": {0: [[0, 5]], 1: "x"}}, ContractError, "obs_intervals of unit 1 holds no numbers"),
        ({"obs_intervals": 5.0}, ContractError, "obs_intervals has shape"),
        ({"exclude": ["*"]}, ContractError, "no argument exclude"),
        ({"obs_intervals": {0: [[0, 1]]}}, ContractError, "obs_intervals lacks unit 1"),
        ({"smooth_s": 0.1}, ContractError, "smooth_s is for means.*by is missing"),
        ({"download": True}, ContractError, "no argument download"),
        ({"table": "x"}, ContractError, "no argument table"),
        ({"align": "cue"}, NWBError, "no column 'cue'.*start_time, stop_time"),
        ({"spike_times": [[100.0, 200.0], [300.0]]}, NWBError, "of the session of from_spikes"),
        ({"spike_times": {"a": [0.1], "b": [0.2], 1: [0.1], "1": [0.2]}}, ContractError, "called '1'"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(change, kind, words):
    given = {"spike_times": SPIKES, "trials": TRIALS, "align": "start_time", "window_s": (0, 1), "bin_s": 0.5} | change
    with pytest.raises(kind, match=words):
        nl.from_spikes(**given)


def test_a_missing_argument_is_named():
    with pytest.raises(TypeError, match="align"):
        nl.from_spikes(SPIKES, TRIALS, window_s=(0, 1), bin_s=0.5)
    with pytest.raises(TypeError, match="trials"):
        nl.from_spikes(SPIKES, align="start_time", window_s=(0, 1), bin_s=0.5)


READERS = [
    lambda one: nl.read_conditions(one, by="side", **STARTS),
    lambda one: nl.read_trials(one, **STARTS),
    lambda one: nl.prepare(one, inputs=[]),
    lambda one: nl.fit_lint(one, rank=1, tau_s=0.1),
    lambda one: nl.fit_trials(one, rank=1, tau_s=0.1),
    lambda one: nl.open_nwb(one),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: {1: np.array([0.1])}, "from_spikes"),
        (lambda: [np.array([0.1]), np.array([0.2])], "from_spikes"),
        (lambda: pd.DataFrame({"unit": [1], "time": [0.1]}), "from_spikes"),
        (lambda: np.zeros((8, 40, 12)), "from_arrays"),
        (lambda: xr.DataArray(np.zeros((8, 40, 12))), "from_arrays"),
        (mock_NWBFile, "from_nwbfile"),
    ],
)
def test_every_reader_names_the_call_for_an_object_in_memory(reader, make, call):
    with pytest.raises(ContractError, match=f"Call {call}") as error:
        reader(make())
    assert len(str(error.value)) < 300
