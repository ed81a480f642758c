"""Columns as real files hold them: enums, (N, 1), float32, small indices, invalid times, odd names; real data."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_lint import read_conditions, read_trials
from nwb_lint.contract.checks import check_recording
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.recording.binning import OBSERVED_S, Bins, complement, smooth, union, without
from nwb_lint.nwb.recording.tables import Table
from nwb_lint.testing import mock_session

READ = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.05}


@pytest.fixture
def path(tmp_path):
    return mock_session(tmp_path / "m.nwb")


def put(path, name, values, **attrs):
    """Replace or add a dataset, as other software might have written it."""
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, data=values)
        file[name].attrs.update(attrs)


def test_a_column_reads_the_same_however_it_is_stored(path):
    plain = read_conditions(path, **READ)["rate"]
    code = np.array([0, 1] * 20, np.uint8)
    words = np.array([b"left", b"right"])
    put(path, "intervals/trials/side", words[code])  # fixed-length bytes
    np.testing.assert_array_equal(read_conditions(path, **READ)["rate"], plain)
    put(path, "intervals/trials/side_elements", words)
    put(path, "intervals/trials/side", code)  # an enum
    found = read_conditions(path, **READ)
    np.testing.assert_array_equal(found["rate"], plain)
    assert list(found["side"].values) == ["left", "right"]
    put(path, "intervals/trials/side", code[:, None])  # (N, 1)
    np.testing.assert_array_equal(read_conditions(path, **READ)["rate"], plain)
    with h5py.File(path, "r+") as file:
        del file["intervals/trials/side_elements"], file["intervals/trials/side"]
        file["intervals/trials/words"] = words
        file["intervals/trials/side"] = code
        file["intervals/trials/side"].attrs["elements"] = file["intervals/trials/words"].ref
    assert list(read_conditions(path, **READ)["side"].values) == ["left", "right"]


def test_a_float32_is_the_decimal_it_stands_for(path):
    put(path, "intervals/trials/coherence", np.resize(np.float32([0.1, 0.3]), 40))
    found = read_conditions(path, **READ | {"by": "coherence", "where": "coherence in (0.1, 0.3)"})
    assert found["coherence"].values.tolist() == [0.1, 0.3]


def test_texts_of_any_dtype_are_texts(path):
    with h5py.File(path) as file:
        table = Table(file["intervals/trials"], "trials")
        for values in (
            np.array(["a", "é"]),
            np.array(["a", "é"], object),
            np.array(["a", "é"], np.dtypes.StringDType()),
        ):
            assert table.decoded("side", values).tolist() == ["a", "é"]
        assert table.decoded("side", np.array([b"a", "é".encode()])).tolist() == ["a", "é"]


def test_small_indices_do_not_wrap(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=3, rate_hz=1.5)
    before = read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1)
    with h5py.File(path) as file:
        index = file["units/spike_times_index"][()]
    assert 255 < index[-1] < 65536
    put(path, "units/spike_times_index", index.astype(np.uint16))
    after = read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1)
    np.testing.assert_array_equal(before["count"], after["count"])


@pytest.mark.filterwarnings("ignore:.*silent unit 1")
def test_unsorted_and_nan_spikes_are_repaired_with_a_warning(path):
    how = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
    before = read_trials(path, **how)
    with h5py.File(path, "r+") as file:
        bounds = file["units/spike_times_index"][()]
        times = file["units/spike_times"][()]
        times[bounds[0] : bounds[1]] = times[bounds[0] : bounds[1]][::-1]
        file["units/spike_times"][...] = times
    with pytest.warns(UserWarning, match=r"spike_times of unit 1 .*not in order"):
        after = read_trials(path, **how)
    np.testing.assert_array_equal(before["count"], after["count"])
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][...] = np.where(np.arange(len(times)) == bounds[0], np.nan, np.sort(times))
    with pytest.warns(UserWarning, match=r"spike_times of unit 1 .*not numbers"):
        read_trials(path, **how, units=[1])


def test_invalid_times_are_not_observed_by_any_unit(path):
    how = {"align": "cue_time", "window_s": (-0.25, 0.75), "bin_s": 0.25}
    cue = read_trials(path, **how)["cue_time"].values
    with h5py.File(path, "r+") as file:
        group = file.create_group("intervals/invalid_times")
        group["start_time"], group["stop_time"] = [cue[3]], [cue[3] + 0.3]
    found = read_trials(path, **how)
    np.testing.assert_array_equal(found["observed"][3, :, 0], [True, False, False, True])
    assert found["observed"].sum() == found["observed"].size - 2 * found.sizes["neuron"]
    assert not found["count"].values[~found["observed"].values].any()


def test_intervals_without_a_number_are_left_out_and_reported(path):
    obs = np.tile([[0.0, 30.0], [40.0, 82.0], [50.0, np.nan]], (5, 1))
    put(path, "units/obs_intervals", obs)
    put(path, "units/obs_intervals_index", 3 * np.arange(1, 6))
    with pytest.warns(UserWarning, match=r"obs_intervals of units 0, 1, 2, 3, 4 .*lack a number"):
        found = read_conditions(path, **READ)
    put(path, "units/obs_intervals", np.tile([[0.0, 30.0], [40.0, 82.0]], (5, 1)))
    put(path, "units/obs_intervals_index", 2 * np.arange(1, 6))
    np.testing.assert_array_equal(found["n_trials"], read_conditions(path, **READ)["n_trials"])
    put(path, "units/obs_intervals", np.tile([[-np.inf, 30.0], [40.0, np.inf]], (5, 1)))  # no end: no warning
    np.testing.assert_array_equal(found["n_trials"], read_conditions(path, **READ)["n_trials"])
    put(path, "intervals/invalid_times/start_time", np.array([10.0, np.nan]))
    put(path, "intervals/invalid_times/stop_time", np.array([20.0, 30.0]))
    with pytest.warns(UserWarning, match="invalid_times: 1 of 2 rows end before they start, or lack a number"):
        fewer = read_conditions(path, **READ)
    assert (fewer["n_trials"] < found["n_trials"]).all()


def test_an_index_may_be_a_column_of_one(path):
    plain = read_conditions(path, **READ)
    with h5py.File(path, "r") as file:
        bounds = file["units/spike_times_index"][()]
    put(path, "units/spike_times_index", bounds[:, None])
    np.testing.assert_array_equal(read_conditions(path, **READ)["rate"], plain["rate"])


def test_texts_that_are_no_utf8_stay_apart(path):
    put(path, "intervals/trials/side", np.array([b"caf\xe9", b"caf\xe8"] * 20))
    assert read_conditions(path, **READ)["side"].values.tolist() == ["caf\xe8", "caf\xe9"]


def test_interval_tables_among_processed_data_are_found(path):
    plain = read_conditions(path, **READ)["rate"]
    with h5py.File(path, "r+") as file:
        file.create_group("processing/behavior")
        file.move("intervals/trials", "processing/behavior/trials")
    for name in ("processing/behavior/trials", "/processing/behavior/trials", "behavior/trials", "trials"):
        np.testing.assert_array_equal(read_conditions(path, table=name, **READ)["rate"], plain)
    found = describe(path)
    assert [(table.name, table.n_rows) for table in found.tables] == [("processing/behavior/trials", 40)]
    assert found.suggestion["table"] == "processing/behavior/trials"
    np.testing.assert_array_equal(read_conditions(path, **found.suggestion)["unit_id"], range(5))
    with h5py.File(path, "r+") as file:
        file.copy("processing/behavior/trials", "processing/other/trials")
    with pytest.raises(NWBError, match=r"processing/behavior/trials \(40 rows\), processing/other/trials \(40 rows\)"):
        read_conditions(path, **READ)


def test_a_table_without_ends_is_described(path):
    with h5py.File(path, "r+") as file:
        del file["intervals/trials/stop_time"]
    found = describe(path)
    assert found.tables[0].durations is None
    assert found.suggestion["align"] == "cue_time"


def test_odd_names_and_units_columns_can_be_asked_for(tmp_path):
    path = mock_session(
        tmp_path / "m.nwb", columns={"goCue_times.npy": 2.0 * np.arange(40) + 2}, unit_columns={"depth": range(5)}
    )
    found = read_conditions(
        path, **READ | {"align": "goCue_times.npy"}, where="`goCue_times.npy` < 60", units="depth >= 3"
    )
    assert found["unit_id"].values.tolist() == [3, 4]
    assert found.attrs["n_trials_used"] == 29


@pytest.mark.filterwarnings("ignore:dropped 1 of 20")
def test_mante2013_reads_as_published(shared_data):
    found = read_conditions(
        str(shared_data / "mante2013" / "*.nwb"),
        by=["context", {"motion": "rank", "color": "rank"}],
        align="dots_on_time",
        window_s=(0.1, 0.85),
        bin_s=0.005,
        smooth_s=0.05,
        where="correct",
    )
    check_recording(found)
    assert dict(found.sizes) == {"condition": 72, "time": 150, "neuron": 19, "file": 19}
    assert not found["rate"].isnull().any()
    assert found.attrs["dropped_units"] == ["ar090330-3-a10:0"]
    # sums by hand: the first unit has 15748 spikes, all of them in the 2043 windows
    first = sorted((shared_data / "mante2013").glob("*.nwb"))[0]
    counts = read_trials(first, align="dots_on_time", window_s=(0.1, 0.85), bin_s=0.005)
    with h5py.File(first) as file:
        times, cues = file["units/spike_times"][()], file["intervals/trials/dots_on_time"][()]
    inside = ((times[:, None] - cues >= 0.1 - 1e-7) & (times[:, None] - cues < 0.85 - 1e-7)).sum()
    assert counts["count"].values.sum() == inside > 15000


def test_alm000009_reads_by_trial_type(shared_data):
    path = next((shared_data / "alm000009").glob("*.nwb"))
    how = {
        "by": ["type", "response"],
        "align": "cue_start_time",
        "window_s": (-1, 0.5),
        "bin_s": 0.05,
        "where": "response in ('correct', 'incorrect') and photo_stim_power == 0",
    }
    phrase = r"silent unit 1 after 2423 s \(157 trials later\), unit 2 after 2405 s \(159 .*, unit 3 after 3983 s \(58 "
    with pytest.warns(UserWarning, match=phrase):
        found = read_conditions(path, **how)
    assert found.sizes == {"condition": 4, "time": 30, "neuron": 4, "file": 1}
    assert found.attrs["n_trials_dropped_align"] == 0
    assert found["condition"].values[0] == "type=lick left, response=correct"
    inferred = read_conditions(path, **how, infer_obs=True)
    assert inferred["n_trials"].sum("condition").values.tolist() == [202 - 157, 202 - 159, 202 - 58, 202]
    np.testing.assert_array_equal(inferred["rate"][..., 3], found["rate"][..., 3])
    assert (inferred["rate"][..., :3].mean("time") >= found["rate"][..., :3].mean("time")).all()
    where = read_conditions(path, **how, infer_obs=True, unit_columns=["location", "cell_type"])["location"]
    assert all(text.startswith("brain_region: Thalamus") for text in where.values)


times = st.floats(-5, 5).map(lambda t: round(t, 3))
pieces = st.lists(st.tuples(times, times).map(sorted), max_size=6).map(lambda p: np.array(p).reshape(-1, 2))


@given(pieces, pieces, times)
def test_intervals_are_sets_of_times(a, b, t):
    def has(pairs, t):
        return any(low < t < high for low, high in zip(*pairs, strict=True))

    t += 0.0005  # off the grid of edges
    one, other = union(*a.T), union(*b.T)
    assert has(one, t) == has(a.T, t)
    assert has(complement(one), t) != has(one, t)
    assert has(without(one, other), t) == (has(one, t) and not has(other, t))
    assert (one.starts[1:] > one.ends[:-1] + OBSERVED_S).all()


@given(st.floats(0, 20), st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_smoothing_keeps_constants_and_nan(sd, n, seed):
    rng = np.random.default_rng(seed)
    unknown = rng.random((2, n, 3)) < 0.2
    constant = np.where(unknown, np.nan, 7.5)
    np.testing.assert_allclose(smooth(constant, sd, axis=1), constant, rtol=1e-12)
    values = rng.normal(size=(2, n, 3))
    out = smooth(np.where(unknown, np.nan, values), sd, axis=1)
    np.testing.assert_array_equal(np.isnan(out), unknown)
    assert np.nanmax(np.abs(out), initial=0) <= np.abs(values).max() + 1e-12


def test_smoothing_is_the_gaussian_of_scipy_and_keeps_mass():
    from scipy.ndimage import gaussian_filter1d

    values = np.zeros(1300)
    values[[510, 700]] = [1.0, 2.0]  # next to where blocks of the product meet
    out = smooth(values, 9.3)
    np.testing.assert_allclose(out, gaussian_filter1d(values, 9.3, mode="constant", truncate=4.0), atol=1e-14)
    assert out.sum() == pytest.approx(3.0)
    ramp = np.arange(100.0)
    np.testing.assert_allclose(smooth(ramp, 4.0)[20:80], ramp[20:80])
    np.testing.assert_array_equal(smooth(values, 0.0), values)
    with pytest.raises(ContractError, match="sd_bins"):
        smooth(values, -1.0)


def test_bins_have_centers_and_whole_numbers():
    assert Bins(0.1, 0.005, 150).centers[[0, -1]] == pytest.approx([0.1025, 0.8475])
