"""Arrays become the Datasets of the readers, and an NWB file of a Dataset gives the same arrays back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pynwb
import pytest
import xarray as xr
from nwbinspector import Importance, inspect_nwbfile

import nwb_lint as nl
from nwb_lint.contract.checks import kind_of
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_recording, mock_session, mock_trials
from tests.factories import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:Means may mislead", "ignore:.*rates are NaN", "ignore:dropped .* units")

TIME = 0.02 * np.arange(40) - 0.19
RNG = np.random.default_rng(0)
RATE = RNG.uniform(0, 20, (8, 40, 5)).astype(np.float32)
COUNT = RNG.poisson(1.0, (24, 40, 5))
CONDITIONS = {"strength": np.linspace(-1, 1, 8), "side": np.array(["l", "r"] * 4)}
TRIALS = pd.DataFrame({"side": ["l", "r"] * 12, "level": np.repeat([0.0, 1.0], 12)})
NEURONS = pd.DataFrame({"area": list("AABBB"), "depth": np.arange(5.0)}, index=["u1", "u2", "u3", "u4", "u5"])


def test_means_become_a_recording():
    found = nl.from_arrays(rate=RATE, time=TIME, conditions=CONDITIONS, neurons=NEURONS, n_trials=20)
    assert kind_of(found) == "recording"
    np.testing.assert_array_equal(found["rate"], RATE)
    np.testing.assert_array_equal(found["n_trials"], np.full((8, 5), 20))
    np.testing.assert_array_equal(found["time"], TIME)
    assert found["condition"].values[0] == "strength=-1, side=l"
    assert found.attrs["by"] == ["strength", "side"]
    assert found["neuron"].values.tolist() == ["u1", "u2", "u3", "u4", "u5"]
    assert found["area"].dims == ("neuron",)
    assert found.attrs["bin_s"] == 0.02
    np.testing.assert_allclose(found.attrs["window_s"], [-0.2, 0.6])


@pytest.mark.filterwarnings("ignore:Input .* acts .* than its times say")
def test_a_recording_of_arrays_is_fitted_like_that_of_a_reader(tmp_path):
    known = mock_recording()
    column = next(name for name, one in known.coords.items() if one.dims == ("condition",) and name != "condition")
    halves = {"rate_half": known["rate_half"], "n_trials_half": known["n_trials_half"]}
    conditions = {"condition": known["condition"].values, column: known[column].values}
    labels = known["neuron"].values
    shared = {"time": known["time"], "conditions": conditions, "neurons": labels, "n_trials": known["n_trials"]}
    made = nl.from_arrays(rate=known["rate"], **shared, **halves)
    inputs = [nl.Input("stimulus", column=column, window_s=(0.0, 0.6))]
    fits = [
        nl.fit_lint(nl.prepare(one, inputs=inputs), rank=1, tau_s=0.1, method="regression") for one in (known, made)
    ]
    np.testing.assert_array_equal(fits[0]["m"], fits[1]["m"])
    np.testing.assert_array_equal(fits[0]["r2_ceiling"], fits[1]["r2_ceiling"])
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    assert_same(nl.read_fit(nl.write_fit(fits[1], tmp_path / "fit.nwb", subject=subject)), fits[1])


def test_counts_become_trials():
    known = mock_trials()
    columns = {name: known[name].values for name in known.coords if known[name].dims == ("trial",) and name != "trial"}
    made = nl.from_arrays(count=known["count"].values, time=known["time"].values, trials=columns)
    np.testing.assert_array_equal(made["count"], known["count"])
    assert made["count"].dtype == np.uint16
    fits = [nl.fit_trials(one, rank=1, tau_s=0.1, hidden=0, max_iter=2) for one in (known, made)]
    np.testing.assert_array_equal(fits[0]["m"], fits[1]["m"])


def test_nan_and_observed_are_what_was_not_observed():
    counts = COUNT.astype(float)
    counts[0, 30:] = np.nan
    seen = np.ones(COUNT.shape, bool)
    seen[1, :5, 2] = False
    found = nl.from_arrays(count=counts, time=TIME, trials=TRIALS, observed=seen)
    np.testing.assert_array_equal(found["observed"], ~np.isnan(counts) & seen)
    assert found["count"].values[~found["observed"].values].sum() == 0
    rate = nl.from_arrays(rate=RATE, time=TIME, trials={"side": list("lrlrlrlr")}, observed=seen[:8])
    np.testing.assert_array_equal(np.isnan(rate["rate"]), ~seen[:8])


@pytest.mark.parametrize(
    "options", [{}, {"halves": True}, {"smooth_s": 0.04, "where": "level == 1"}, {"draws": 2}], ids=str
)
def test_means_over_counts_are_those_of_the_same_spikes(tmp_path, options):
    """The reader's means from spikes are those of its counts."""
    path = mock_session(tmp_path / "s.nwb", obs_intervals=True)
    how = {"align": "cue_time", "window_s": (-0.2, 0.6), "bin_s": 0.02}
    counts = nl.read_trials(path, **how)
    options = options if "where" not in options else options | {"where": "correct"}
    expected = nl.read_conditions(path, by=["side", "coherence"], missing="keep", **how, **options)
    columns = {name: counts[name].values for name in ("side", "coherence", "correct")}
    given = {"count": counts["count"], "time": counts["time"], "trials": columns, "observed": counts["observed"]}
    found = nl.from_arrays(**given, by=["side", "coherence"], missing="keep", **options)
    assert found["neuron"].values.tolist() == expected["neuron"].values.tolist()
    for name in expected.data_vars:
        np.testing.assert_array_equal(expected[name], found[name])


@pytest.mark.parametrize("period", [3.0, 0.5], ids=["apart", "overlapping"])
def test_means_over_counts_may_have_the_clock_of_the_session(period):
    start = 1.0 + period * np.arange(24)
    timed = TRIALS.assign(start_time=start, stop_time=start + 0.4, go_time=start + 0.1)
    given = {"count": COUNT, "time": TIME, "by": "side", "where": "level == 1"}
    expected = nl.from_arrays(**given, trials=TRIALS)
    if period > 1:
        late = nl.from_arrays(**given | {"where": "start_time > 36.5"}, trials=timed, align="go_time")
        np.testing.assert_array_equal(late["rate"], expected["rate"])
    else:
        with pytest.raises(ContractError, match=r"overlap.*Leave start_time and stop_time out"):
            nl.from_arrays(**given, trials=timed, align="go_time")
    without = timed.drop(columns=["start_time", "stop_time"])
    np.testing.assert_array_equal(nl.from_arrays(**given, trials=without)["rate"], expected["rate"])


def test_means_over_samples_leave_out_what_was_not_observed():
    values = RNG.uniform(size=(24, 40, 5))
    values[0, :, 1] = np.nan
    found = nl.from_arrays(rate=values, time=TIME, trials=TRIALS, neurons=NEURONS, by=["side", "level"], unit="dF/F")
    groups = [values[(TRIALS["side"] == side) & (TRIALS["level"] == level)] for side in "lr" for level in (0.0, 1.0)]
    np.testing.assert_allclose(found["rate"], np.stack([np.nanmean(group, axis=0) for group in groups]), rtol=1e-6)
    assert found["rate"].attrs["units"] == "dF/F"
    assert found["neuron"].values.tolist() == list(NEURONS.index)
    assert found["area"].values.tolist() == list("AABBB")
    assert found["n_trials"].values[0].tolist() == [6, 5, 6, 6, 6]


def test_a_dataarray_is_ordered_by_its_dims():
    """Whatever the order of the dims is: a cube of equal sizes would hide a wrong one."""
    rng = np.random.default_rng(1)
    cube, time, numbers = rng.uniform(0, 20, (5, 5, 5)), 0.02 * np.arange(5), np.arange(25).reshape(5, 5)
    dims = ("condition", "time", "neuron")
    given = {
        "rate": xr.DataArray(cube, dims=dims),
        "n_trials": xr.DataArray(numbers, dims=dims[::2]),
        "rate_half": xr.DataArray(np.stack([cube, cube + 1]), dims=("half", *dims)),
        "n_trials_half": xr.DataArray(np.stack([numbers, numbers]), dims=("half", *dims[::2])),
    }
    plain, turned = (
        nl.from_arrays(time=time, conditions=list("abcde"), **{name: turn(one) for name, one in given.items()})
        for turn in (lambda one: one.values, lambda one: one.transpose(*one.dims[::-1]))
    )
    xr.testing.assert_identical(plain, turned)
    counts, seen = rng.poisson(1, (5, 5, 5)), rng.random((5, 5, 5)) < 0.5
    ours = ("trial", "time", "neuron")
    observed = xr.DataArray(seen, dims=ours).transpose(*ours[::-1])
    found = nl.from_arrays(count=xr.DataArray(counts, dims=ours).T, time=time, observed=observed)
    np.testing.assert_array_equal(found["count"], np.where(seen, counts, 0))
    with pytest.raises(ContractError, match=r"rate has dims .*in this order"):
        nl.from_arrays(rate=xr.DataArray(cube, dims=("time", "stimulus", "unit")), time=time, conditions=list("abcde"))


def test_masked_values_are_not_observed():
    masked = np.ma.masked_greater(RATE, 15)
    found = nl.from_arrays(rate=masked, time=TIME, conditions=CONDITIONS)
    np.testing.assert_array_equal(found["rate"].isnull(), RATE > 15)
    counts = nl.from_arrays(count=np.ma.masked_greater(COUNT, 2), time=TIME)
    np.testing.assert_array_equal(counts["observed"], COUNT <= 2)


def test_labels_may_be_numbers():
    found = nl.from_arrays(rate=RATE, time=TIME, conditions=np.arange(8.0), neurons=[3, 1, 4, 15, 9])
    assert found["condition"].values.tolist() == list("01234567")
    assert found["neuron"].values.tolist() == ["3", "1", "4", "15", "9"]


def test_bins_of_seconds_are_doubted():
    with pytest.warns(UserWarning, match="bins are 20 s wide.*ms"):
        nl.from_arrays(rate=RATE, time=1000 * TIME, conditions=CONDITIONS)


def test_neurons_of_samples_are_chosen_by_labels_and_columns():
    labels = pd.DataFrame({"area": list("AABBB")}, index=[4, 3, 2, 1, 0])
    given = {"rate": RATE, "time": TIME, "trials": TRIALS[:8], "by": "side"}
    whole = nl.from_arrays(**given, neurons=labels)
    for units, names in (([0, 3], ["0", "3"]), ("area == 'B'", ["2", "1", "0"]), (["4"], ["4"])):
        found = nl.from_arrays(**given, neurons=labels, units=units)
        assert found["neuron"].values.tolist() == names
        np.testing.assert_array_equal(found["rate"], whole["rate"].sel(neuron=names))
    for units in ([0, 7], [7]):
        with pytest.raises(ContractError, match="units names 7"):
            nl.from_arrays(**given, neurons=labels, units=units)
    with pytest.raises(ContractError, match=r"units names 'depth'. The neurons have area"):
        nl.from_arrays(**given, neurons=labels, units="depth > 1")


def test_means_of_trials_keep_what_time_0_is_called():
    found = nl.from_arrays(count=COUNT, time=TIME, trials=TRIALS, by="side", align="go cue")
    assert found.attrs["align"] == "go cue"


def faults(path):
    """What pynwb and nwbinspector find wrong in a file."""
    bad = (Importance.CRITICAL, Importance.BEST_PRACTICE_VIOLATION, Importance.ERROR)
    found = inspect_nwbfile(nwbfile_path=str(path), skip_validate=True)
    messages = [m.message for m in found if m.importance in bad]
    # true for spikes that are known by bins only; the inspector takes it for a sampling rate
    return [*pynwb.validate(path=str(path)), *(one for one in messages if "resolution is 0.02" not in one)]


@pytest.mark.parametrize("clock", ["none", "session"])
@pytest.mark.parametrize("gaps", [False, True])
def test_written_counts_are_read_back_bit_for_bit(tmp_path, clock, gaps):
    trials = TRIALS
    if clock == "session":
        start = 1.0 + 3.0 * np.arange(24)
        trials = trials.assign(start_time=start, stop_time=start + 2, go_time=start + 0.5)
    align = "go_time" if clock == "session" else None
    seen = RNG.random(COUNT.shape) < 0.7 if gaps else None
    made = nl.from_arrays(count=COUNT, time=TIME, trials=trials, neurons=NEURONS, observed=seen, align=align)
    path = nl.write_session(tmp_path / "s.nwb", made)
    assert not faults(path)
    found = nl.read_trials(path, align=made.attrs["align"], window_s=made.attrs["window_s"], bin_s=0.02)
    np.testing.assert_array_equal(found["count"], made["count"])
    assert ("observed" in found) == gaps
    if gaps:
        np.testing.assert_array_equal(found["observed"], made["observed"])
    np.testing.assert_allclose(found["time"], made["time"], atol=1e-12)
    for name in ("side", "level"):
        np.testing.assert_array_equal(found[name], made[name])
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        units = io.read().units
        assert units["unit_name"][:].tolist() == list(NEURONS.index)
        assert units["area"][:].tolist() == list("AABBB")
        assert units.resolution == 0.02


def test_written_trials_of_a_file_are_those_of_the_file(tmp_path):
    path = mock_session(tmp_path / "a.nwb", obs_intervals=True)
    how = {"align": "cue_time", "window_s": (-0.2, 0.6), "bin_s": 0.02}
    trials = nl.read_trials(path, **how)
    again = nl.read_trials(nl.write_session(tmp_path / "b.nwb", trials), **how)
    for name in ("count", "observed", "cue_time", "side", "unit_id", "trial"):
        np.testing.assert_array_equal(again[name], trials[name])


@pytest.mark.parametrize("unit", ["Hz", "dF/F"])
def test_written_means_are_read_back_bit_for_bit(tmp_path, unit):
    rate = RATE.copy()
    rate[2, :3, 1] = np.nan
    halves = np.stack([rate, rate + 1])
    made = nl.from_arrays(rate=rate, time=TIME, conditions=CONDITIONS, n_trials=20, rate_half=halves, unit=unit)
    path = nl.write_session(tmp_path / "s.nwb", made)
    assert not faults(path)
    how = {"by": made.attrs["by"], "align": made.attrs["align"], "window_s": made.attrs["window_s"], "bin_s": 0.02}
    found = nl.read_conditions(path, series="rate", **how)
    same = found.sel(condition=made["condition"])
    np.testing.assert_array_equal(same["rate"], made["rate"])
    assert found["rate"].attrs["units"] == unit
    half = nl.read_conditions(path, series="rate_half_2", **how).sel(condition=made["condition"])
    np.testing.assert_array_equal(half["rate"], made["rate_half"].isel(half=1))


def test_written_samples_of_trials_are_read_back_bit_for_bit(tmp_path):
    made = nl.from_arrays(rate=RATE, time=TIME, trials=TRIALS[:8], unit="dF/F")
    path = nl.write_session(tmp_path / "s.nwb", made)
    assert not faults(path)
    found = nl.read_trials(path, series="rate", align="event_time", window_s=made.attrs["window_s"], bin_s=0.02)
    np.testing.assert_array_equal(found["rate"], made["rate"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "rate and count are both missing"),
        ({"rate": RATE, "count": COUNT, "time": TIME}, "both given"),
        ({"rate": RATE, "time": TIME}, "conditions is missing"),
        ({"rate": RATE, "conditions": CONDITIONS}, "time is missing.*40 bins"),
        ({"count": COUNT}, "time is missing"),
        ({"rate": RATE[0], "time": TIME, "conditions": CONDITIONS}, r"rate has shape \(40, 5\)"),
        ({"rate": RATE, "time": TIME[:-1], "conditions": CONDITIONS}, r"time has shape \(39,\).*40 bins"),
        ({"rate": RATE, "time": TIME**2, "conditions": CONDITIONS}, "time has steps"),
        ({"rate": RATE[:, :1], "time": [0.0], "conditions": CONDITIONS}, "bin_s is missing"),
        ({"rate": RATE, "time": TIME, "conditions": {"side": ["l"] * 7}}, "conditions has 7 rows.*8 along condition"),
        ({"rate": RATE, "time": TIME, "conditions": {"side": ["l"] * 8}}, "Two rows of conditions are 'side=l'"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "neurons": ["a"]}, "neurons has 1 rows.*5 along"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "by": "side"}, "by is given.*single trials"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "n_trials": [1, 2]}, "n_trials has shape"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "rate_half": RATE}, "rate_half has shape"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "trials": TRIALS}, "conditions and trials are both"),
        ({"rate": "abc", "time": TIME, "conditions": CONDITIONS}, "rate is a str"),
        ({"count": COUNT - 0.5, "time": TIME}, "count holds"),
        ({"count": COUNT, "time": TIME, "n_trials": 3}, "n_trials is given"),
        ({"rate": RATE, "time": TIME, "conditions": 8}, "conditions is a int"),
        ({"rate": RATE, "time": TIME, "conditions": "abcdefgh"}, "conditions is a str"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "neurons": 5}, "neurons is a int"),
        ({"rate": RATE, "time": TIME, "conditions": [("a", k) for k in range(8)]}, "more than one value for a row"),
        ({"rate": RATE, "time": TIME, "conditions": ["a", None, *"bcdefg"]}, "conditions has rows without a label"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "bin_s": "x"}, "bin_s is 'x'"),
        ({"rate": RATE, "time": TIME.astype("m8[s]"), "conditions": CONDITIONS}, "time holds no numbers"),
        ({"rate": RATE * 1j, "time": TIME, "conditions": CONDITIONS}, "no array of numbers"),
        ({"rate": np.where(RATE > 19, np.inf, RATE), "time": TIME, "conditions": CONDITIONS}, "infinite values"),
        ({"rate": RATE, "time": TIME, "conditions": CONDITIONS, "neuron": 5}, "no argument neuron"),
        ({"count": COUNT, "time": TIME, "trials": TRIALS, "by": "side", "window_s": (0, 0.4)}, "no argument window_s"),
        ({"count": COUNT, "time": TIME, "observed": np.full(COUNT.shape, 0.5)}, "observed holds other values"),
        ({"count": COUNT, "time": TIME, "smooth_s": 0.1}, "smooth_s is given.*by is missing"),
        ({"count": COUNT, "time": TIME, "trials": TRIALS, "by": "side", "align_which": 1}, "align_which"),
        ({"count": COUNT, "time": TIME, "trials": TRIALS, "observed": True}, "observed has shape"),
    ],
)  # fmt: skip
def test_the_argument_that_is_missing_or_wrong_is_named(given, words):
    with pytest.raises(ContractError, match=words):
        nl.from_arrays(**given)


def test_sessions_that_cannot_be_written_are_refused(tmp_path):
    made = nl.from_arrays(count=COUNT, time=TIME, trials=TRIALS)
    with pytest.raises(ContractError, match="trials, unit_columns"):
        nl.write_session(tmp_path / "s.nwb", made, TRIALS)
    start = 0.5 * np.arange(24)
    timed = TRIALS.assign(start_time=start, stop_time=start + 0.4)
    with pytest.raises(ContractError, match="overlap"):
        nl.write_session(tmp_path / "s.nwb", nl.from_arrays(count=COUNT, time=TIME, trials=timed, align="start_time"))
    with pytest.raises(ContractError, match="no column of times"):
        nl.write_session(tmp_path / "s.nwb", nl.from_arrays(count=COUNT, time=TIME, trials=timed))
    for part, words in (
        (made.isel(time=slice(None, None, 2)), "bins of the Dataset do not follow each other"),
        (made.drop_attrs(), "bin_s is nan"),
        (made.isel(neuron=0), "nothing along neuron"),
        (made.isel(trial=[]), "nothing along trial"),
    ):
        with pytest.raises(ContractError, match=words):
            nl.write_session(tmp_path / "s.nwb", part)
    with pytest.raises(ContractError, match="write_fit"):
        nl.write_session(tmp_path / "s.nwb", xr.Dataset({"m": ("condition", [1.0])}))
    assert list(tmp_path.iterdir()) == []
