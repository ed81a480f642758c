"""Objects of pynapple and SpikeInterface give what the same spike times give; the readers name the call for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError

RNG = np.random.default_rng(0)
START = 1.0 + 2.0 * np.arange(20)
SPIKES = {7: np.sort(RNG.uniform(0, 42, 800)), 3: np.sort(RNG.uniform(0, 42, 600))}
TRIALS = pd.DataFrame({"start_time": START, "stop_time": START + 1, "side": ["l", "r"] * 10, "go": START + 0.3})
HOW = {"align": "go", "window_s": (-0.2, 0.6), "bin_s": 0.02}


@pytest.fixture(scope="module")
def nap():
    return pytest.importorskip("pynapple", reason="pynapple is not installed (extra pynapple)", exc_type=ImportError)


@pytest.fixture(scope="module")
def spikeinterface():
    return pytest.importorskip("spikeinterface.core", reason="spikeinterface is not installed", exc_type=ImportError)


def tsgroup(nap, **options):
    return nap.TsGroup(
        {unit: nap.Ts(times) for unit, times in SPIKES.items()}, metadata={"area": ["V1", "M2"]}, **options
    )


def intervals(nap):
    columns = {"side": TRIALS["side"].to_numpy(), "go": TRIALS["go"].to_numpy()}
    return nap.IntervalSet(TRIALS["start_time"], TRIALS["stop_time"], metadata=columns)


@pytest.mark.parametrize("options", [{}, {"by": "side", "smooth_s": 0.03, "units": "area == 'V1'"}], ids=str)
def test_a_tsgroup_gives_what_its_spikes_give(nap, options):
    group = tsgroup(nap)
    spikes = {3: SPIKES[3], 7: SPIKES[7]}  # a TsGroup is in the order of the ids
    neurons = {"area": group["area"].to_numpy()}
    expected = nl.from_spikes(spikes, TRIALS, neurons=neurons, **HOW, **options)
    found = nl.from_pynapple(group, intervals(nap), **HOW, **options)
    xr.testing.assert_identical(expected, found)
    xr.testing.assert_identical(expected, nl.from_pynapple(group, TRIALS, **HOW, **options))
    xr.testing.assert_identical(expected, nl.from_spikes(group, intervals(nap), **HOW, **options))


def test_metadata_of_a_tsgroup_stay_where_neurons_has_more_units(nap):
    found = nl.from_pynapple(
        tsgroup(nap), TRIALS, neurons=pd.DataFrame({"depth": [1.0, 2.0, 3.0]}, index=[7, 5, 3]), **HOW
    )
    assert found["unit_id"].values.tolist() == [7, 5, 3]
    assert found["area"].values.tolist() == ["V1", "N/A", "M2"]  # as tsgroup gives it to 7 and 3
    assert found["count"].sum(["trial", "time"]).values.astype(bool).tolist() == [True, False, True]


def test_a_written_tsgroup_is_read_back_by_both(nap, tmp_path):
    path = nl.write_session(tmp_path / "s.nwb", tsgroup(nap), intervals(nap))
    found = nl.from_pynapple(tsgroup(nap), intervals(nap), **HOW)
    np.testing.assert_array_equal(nl.read_trials(path, **HOW)["count"], found["count"])
    data = nap.load_file(str(path))
    np.testing.assert_array_equal(data["units"][7].t, SPIKES[7])
    assert list(data["trials"]["side"]) == list(TRIALS["side"])
    data.close()


def test_what_a_time_support_leaves_out_is_not_observed(nap):
    support = nap.IntervalSet([0.0, 30.0], [10.0, 42.0])
    found = nl.from_pynapple(tsgroup(nap).restrict(support), intervals(nap), **HOW)
    inside = (START <= 9) | (START >= 30)
    np.testing.assert_array_equal(found["observed"].any(["time", "neuron"]), inside)
    assert "observed" not in nl.from_pynapple(tsgroup(nap), intervals(nap), **HOW)


def test_samples_of_a_tsdframe_are_averaged_in_bins(nap):
    times = np.arange(0, 45, 0.01) + 0.005
    values = RNG.uniform(size=(len(times), 3))
    frame = nap.TsdFrame(t=times, d=values, columns=["a", "b", "c"], metadata={"depth": [1.0, 2.0, 3.0]})
    found = nl.from_pynapple(frame, intervals(nap), **HOW)
    first = np.stack([values[(times >= go - 0.2) & (times < go - 0.18)].mean(axis=0) for go in TRIALS["go"]])
    np.testing.assert_allclose(found["rate"][:, 0], first, rtol=1e-6)
    assert found["neuron"].values.tolist() == ["a", "b", "c"]
    assert found["depth"].values.tolist() == [1.0, 2.0, 3.0]
    one = nl.from_pynapple(nap.Tsd(t=times, d=values[:, 1]), TRIALS, **HOW)
    np.testing.assert_array_equal(one["rate"][..., 0], found["rate"][..., 1])
    means = nl.from_pynapple(frame, TRIALS, by="side", units=[2, 0], **HOW)
    assert means["neuron"].values.tolist() == ["c", "a"]


def test_a_wrong_object_is_refused(nap):
    with pytest.raises(ContractError, match=r"data is a dict.*Call from_spikes"):
        nl.from_pynapple(SPIKES, TRIALS, **HOW)
    with pytest.raises(ContractError, match=r"sorting is a TsGroup.*Call from_pynapple"):
        nl.from_spikeinterface(tsgroup(nap), TRIALS, **HOW)
    with pytest.raises(ContractError, match=r"nwbfile is a TsGroup.*Call from_pynapple"):
        nl.from_nwbfile(tsgroup(nap), **HOW)


@pytest.mark.parametrize("reader", [lambda one: nl.read_trials(one, **HOW), lambda one: nl.prepare(one, inputs=[])])
def test_the_readers_name_from_pynapple(nap, reader):
    with pytest.raises(ContractError, match="Call from_spikes"):
        reader(nap.Ts(SPIKES[3]))
    for one in (tsgroup(nap), nap.TsdFrame(t=np.arange(3.0), d=np.zeros((3, 2)))):
        with pytest.raises(ContractError, match="Call from_pynapple"):
            reader(one)


def test_a_sorting_gives_what_its_spikes_give(spikeinterface):
    rate = 30_000.0
    frames = {f"unit{unit}": np.round(times * rate).astype(int) for unit, times in SPIKES.items()}
    sorting = spikeinterface.NumpySorting.from_unit_dict([frames], rate)
    sorting.set_property("quality", ["good", "mua"])
    spikes = {unit: one / rate for unit, one in frames.items()}
    expected = nl.from_spikes(spikes, TRIALS, neurons={"quality": ["good", "mua"]}, by="side", **HOW)
    found = nl.from_spikeinterface(sorting, TRIALS, by="side", **HOW)
    xr.testing.assert_identical(expected, found)
    assert found["neuron"].values.tolist() == ["unit7", "unit3"]
    chosen = nl.from_spikeinterface(sorting, TRIALS, units="quality == 'good'", **HOW)
    assert chosen["neuron"].values.tolist() == ["unit7"]
    with pytest.raises(ContractError, match="Call from_spikeinterface"):
        nl.read_trials(sorting, **HOW)


class Sorting:
    """The part of a sorting of SpikeInterface that is used, with two segments."""

    def get_unit_ids(self):
        return np.array([0, 1])

    def get_num_segments(self):
        return 2

    def get_unit_spike_train(self, unit, segment_index, return_times):
        return list(SPIKES.values())[unit] + 100.0 * segment_index

    def get_property_keys(self):
        return ["location", "quality"]

    def get_property(self, name):
        return {"location": np.zeros((2, 3)), "quality": np.array(["good", "mua"])}[name]


def test_one_segment_of_a_sorting_is_chosen():
    with pytest.raises(ContractError, match=r"2 segments.*segment=0"):
        nl.from_spikeinterface(Sorting(), TRIALS, **HOW)
    with pytest.raises(ContractError, match="segment is 2"):
        nl.from_spikeinterface(Sorting(), TRIALS, segment=2, **HOW)
    found = nl.from_spikeinterface(Sorting(), TRIALS, segment=0, **HOW)
    np.testing.assert_array_equal(found["count"], nl.from_spikes(list(SPIKES.values()), TRIALS, **HOW)["count"])
    assert "quality" in found.coords
    assert "location" not in found.coords
