"""Inputs in the file: series, events, tables and times of trials, each against what a slow loop or a law says."""

from __future__ import annotations

import re
import tomllib
import warnings

import h5py
import numpy as np
import pandas as pd
import pynwb
import pytest
import xarray as xr
from click.testing import CliRunner
from pynwb.epoch import TimeIntervals

from nwb_lint import (
    Input,
    cli,
    fit_lint,
    from_nwbfile,
    prepare,
    read_conditions,
    read_fit,
    read_trials,
    simulate,
    write_fit,
)
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.nwb.extension.write_session import Samples, write_session
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description
from nwb_lint.workflow.recipe import commented, make_recipe
from nwb_lint.workflow.run import run_recipe

N, BIN_S, WINDOW = 24, 0.05, (-0.5, 1.5)
RNG = np.random.default_rng(5)
STARTS = 2.0 + 4.0 * np.arange(N) + np.round(RNG.uniform(0, 0.5, N), 3)
TRIALS = pd.DataFrame(
    {
        "start_time": STARTS, "stop_time": STARTS + 2.5, "cue_time": STARTS + 0.6,
        "on": STARTS + 0.6 + 0.1, "off": STARTS + 0.6 + 0.8, "late": STARTS + np.round(RNG.uniform(0.8, 1.4, N), 2),
        "side": np.resize(["left", "right"], N), "level": np.resize([0.0, 0.5, 1.0], N),
        "laser_on": np.where(np.arange(N) % 2, STARTS + 0.9, np.nan),
        "laser_off": np.where(np.arange(N) % 2, STARTS + 1.2, np.nan),
    }
)  # fmt: skip
ORIGINS = TRIALS["cue_time"].to_numpy()
HOW = {"align": "cue_time", "window_s": WINDOW, "bin_s": BIN_S}
BY = {"by": ["level"]}
END = STARTS[-1] + 6
TIMES = np.arange(0, END, 0.01)
SPEED = 10 + 5 * np.sin(TIMES) + RNG.standard_normal(len(TIMES))
LICKS = np.sort(RNG.uniform(0, END, 300))
PULSES = np.sort(RNG.uniform(0, END, 60))
CENTERS = WINDOW[0] + BIN_S * (np.arange(40) + 0.5)


def write(path, trials=TRIALS, speed=SPEED, unit="cm/s", session_id="s", seed=0):
    """A session with running speed, eye position, labeled licks, and photostimulation of some power."""
    rng = np.random.default_rng(seed)
    spikes = [np.sort(rng.uniform(0, END, 2000)) for _ in range(3)]
    write_session(path, spikes, trials, session_id=session_id)
    with pynwb.NWBHDF5IO(str(path), "a") as io:
        file = io.read()
        module = file.create_processing_module("behavior", "behavior")
        module.add(pynwb.TimeSeries(name="speed", data=speed, unit=unit, rate=100.0, starting_time=0.0))
        step = np.where(np.arange(len(TIMES)) % 7 == 3, np.nan, TIMES)
        module.add(pynwb.TimeSeries(name="gappy", data=step, unit="s", timestamps=TIMES))
        eye = np.stack([SPEED[::5], -SPEED[::5]], axis=1)
        module.add(pynwb.TimeSeries(name="eye", data=eye, unit="deg", rate=20.0, starting_time=0.0))
        of_trial = np.clip(np.searchsorted(trials["cue_time"].to_numpy() - 1.0, TIMES, side="right") - 1, 0, None)
        level = trials["level"].to_numpy()[of_trial]
        module.add(pynwb.TimeSeries(name="contrast", data=level, unit="1", timestamps=TIMES))
        file.add_acquisition(pynwb.TimeSeries(name="pulses", data=np.arange(60.0), unit="V", timestamps=PULSES))
        laser = TimeIntervals(name="photostim", description="photostimulation")
        laser.add_column("power", "power, mW")
        for k, start in enumerate(PULSES):
            laser.add_interval(start_time=start, stop_time=start + 0.3, power=float(k % 4))
        file.add_time_intervals(laser)
        io.write(file)
    with h5py.File(path, "r+") as file:
        file["acquisition/licks/timestamps"] = LICKS
        file["acquisition/licks/data"] = np.where(np.arange(len(LICKS)) % 3 == 0, "left", "right").tolist()
    return path


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return write(tmp_path_factory.mktemp("inputs") / "s.nwb")


def course(session, one, **how):
    """(trial, time): the input in every trial, from u."""
    return prepare(read_trials(session, inputs=[one], **(HOW | how)), inputs=[one])["u"].values[..., 0]


def of_conditions(session, *inputs, **how):
    recording = read_conditions(session, inputs=inputs, **(BY | HOW | how))
    return prepare(recording, inputs=inputs, n_components=None)


def in_bins(value):
    """The mean of a function of real time over each bin of each trial, by a fine grid."""
    fine = BIN_S * (np.arange(50) + 0.5) / 50
    low = ORIGINS[:, None, None] + WINDOW[0] + BIN_S * np.arange(40)[:, None]
    return value(low + fine).mean(axis=2)


def test_a_series_is_the_mean_of_its_samples(session):
    found = course(session, Input("run", series="speed", scale=0.1))
    for trial, origin in enumerate(ORIGINS):
        for k in range(40):
            low = origin + WINDOW[0] + k * BIN_S
            inside = (low - 1e-7 <= TIMES) & (low + BIN_S - 1e-7 > TIMES)
            assert found[trial, k] == pytest.approx(0.1 * SPEED[inside].mean(), rel=1e-5)


def test_a_slow_series_has_lines_between_its_samples(session):
    """Time itself as a series comes back, also where samples are NaN or fewer than bins."""
    truth = ORIGINS[:, None] + WINDOW[0] + 0.005 * (np.arange(400) + 0.5)
    found = course(session, Input("t", series="gappy"), bin_s=0.005)
    np.testing.assert_allclose(found, truth, atol=0.0051)
    slow = course(session, Input("x", series="eye", series_column=0), bin_s=0.01)
    times = ORIGINS[:, None] + WINDOW[0] + 0.01 * (np.arange(200) + 0.5)
    line = np.interp(times, TIMES[::5], SPEED[::5])
    sampled = np.isclose(slow, line, rtol=1e-4)
    assert sampled.mean() > 0.75  # the bins without a sample; the others have the sample
    other = course(session, Input("y", series="eye", series_column=1), bin_s=0.01)
    np.testing.assert_array_equal(other, -slow)


def test_a_series_of_steps_is_the_column(session):
    """A series that is constant in each trial gives what the column gives."""
    of_series = of_conditions(session, Input("contrast", series="processing/behavior/contrast", window_s=(0, 1)))
    of_column = of_conditions(session, Input("contrast", column="level", window_s=(0, 1)))
    np.testing.assert_allclose(of_series["u"].values, of_column["u"].values, rtol=1e-6, atol=1e-7)
    trials = course(session, Input("contrast", series="contrast"))
    np.testing.assert_allclose(trials, np.tile(TRIALS["level"].to_numpy()[:, None], 40), rtol=1e-6)


def test_constant_columns_are_the_window(session):
    box = of_conditions(session, Input("box", start="on", stop="off", column="level"))
    window = of_conditions(session, Input("box", window_s=(0.1, 0.8), column="level"))
    np.testing.assert_array_equal(box["u"].values, window["u"].values)
    moved = of_conditions(session, Input("box", start="on", stop="off", column="level", lag_s=-0.1))
    np.testing.assert_array_equal(moved["u"].values[:, :-2], window["u"].values[:, 2:])
    after = of_conditions(session, Input("a", start="cue_time + 0.1"))
    np.testing.assert_array_equal(after["u"].values[0, :, 0], CENTERS >= 0.1)


def test_windows_of_trials_are_graded_by_condition(session):
    found = of_conditions(session, Input("box", start="cue_time", stop="late"), by=["side"])
    since = (TRIALS["late"] - TRIALS["cue_time"]).to_numpy()
    for side in ("left", "right"):
        own = since[(TRIALS["side"] == side).to_numpy()]
        expected = ((CENTERS >= 0) & (own[:, None] > CENTERS)).mean(axis=0)
        u = found["u"].values[found["side"].values == side][0, :, 0]
        np.testing.assert_allclose(u, expected, rtol=1e-6)
        assert len(np.unique(u)) > 3


def test_an_input_is_off_in_trials_without_its_times(session):
    found = course(session, Input("laser", start="laser_on", stop="laser_off"))
    assert not found[0::2].any()
    np.testing.assert_array_equal(found[1::2], np.tile((CENTERS >= 0.3) & (CENTERS < 0.6), (N // 2, 1)))


@pytest.mark.parametrize("where", [None, "label == 'left'"])
def test_pulses_are_the_number_of_events_in_the_bin(session, where):
    one = Input("lick", events="licks", where=where) if where else Input("lick", events="pulses")
    times = LICKS[::3] if where else PULSES
    edges = ORIGINS[:, None] + WINDOW[0] + BIN_S * np.arange(41)
    expected = [np.histogram(times, row)[0] for row in edges]
    np.testing.assert_array_equal(course(session, one), expected)


def test_boxes_are_the_share_of_the_bin(session):
    found = course(session, Input("lick", events="licks", where="label == 'left'", width_s=0.12))
    events = LICKS[::3]
    expected = in_bins(lambda t: np.sum([(t >= one) & (t < one + 0.12) for one in events], axis=0))
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.01)
    sized = course(session, Input("pulse", events="acquisition/pulses", amplitude="data"))
    count = [np.histogram(PULSES, row, weights=np.arange(60.0))[0] for row in EDGES]
    np.testing.assert_allclose(sized, count)


def test_columns_of_times_are_events(session, tmp_path):
    """A column with one time or a list of times for each trial: all of them are events of the session."""
    found = course(session, Input("cue", events="cue_time", where="side == 'left'", amplitude="level"))
    expected = np.zeros((N, 40))
    expected[:, 10] = TRIALS["level"] * (TRIALS["side"] == "left")  # the bin that begins at time 0
    np.testing.assert_allclose(found, expected)
    laser = course(session, Input("laser", events="laser_on", width_s=0.3))
    np.testing.assert_allclose(laser, course(session, Input("laser", start="laser_on", stop="laser_off")), atol=1e-6)
    licks = [LICKS[(start <= LICKS) & (start + 2.5 > LICKS)] for start in STARTS]
    path = write(tmp_path / "lists.nwb")
    with pynwb.NWBHDF5IO(str(path), "a") as io:
        file = io.read()
        file.add_trial_column(
            "lick_times", "licks", data=np.concatenate(licks), index=np.cumsum([len(one) for one in licks])
        )
        io.write(file)
    expected = [np.histogram(own, row)[0] for own, row in zip(licks, EDGES, strict=True)]
    np.testing.assert_array_equal(course(path, Input("lick", events="lick_times")), expected)


EDGES = ORIGINS[:, None] + WINDOW[0] + BIN_S * np.arange(41)


def test_a_table_of_intervals_has_an_amplitude(session):
    found = course(session, Input("laser", table="photostim", amplitude="power", where="power > 1"))
    chosen = [(start, k % 4) for k, start in enumerate(PULSES) if k % 4 > 1]
    expected = in_bins(lambda t: np.sum([size * ((t >= s) & (t < s + 0.3)) for s, size in chosen], axis=0))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.01)
    boxes = course(session, Input("laser", events="pulses", width_s=0.3))
    table = course(session, Input("laser", table="photostim"))
    np.testing.assert_allclose(table, boxes, atol=1e-6)


INPUTS = [
    Input("run", series="speed", scale=0.1),
    Input("box", start="cue_time", stop="late"),
    Input("lick", events="licks", where="label == 'left'", width_s=0.1, lag_s=0.1),
    Input("laser", table="photostim", amplitude="power"),
]


def test_the_mean_of_trials_is_the_condition(session):
    u = of_conditions(session, *INPUTS)
    trials = prepare(read_trials(session, inputs=INPUTS, **HOW), inputs=INPUTS)
    for k, level in enumerate(u["level"].values):
        mean = trials["u"].values[trials["level"].values == level].mean(axis=0)
        np.testing.assert_allclose(u["u"].values[k], mean, rtol=1e-5, atol=1e-6)


def test_the_order_of_trials_does_not_matter(session, tmp_path):
    order = np.random.default_rng(1).permutation(N)
    mixed = write(tmp_path / "m.nwb", TRIALS.iloc[order].reset_index(drop=True))
    with pynwb.NWBHDF5IO(str(mixed), "r") as io:
        assert np.array_equal(io.read().trials["start_time"].data[:], STARTS[order])
    own = [one for one in INPUTS]
    first, second = (of_conditions(path, *own)["u"].values for path in (session, mixed))
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: one.name)
def test_a_lag_shifts(session, one):
    from dataclasses import replace

    later = course(session, replace(one, lag_s=one.lag_s + 4 * BIN_S))
    np.testing.assert_allclose(later[:, 4:], course(session, one)[:, :-4], rtol=1e-4, atol=1e-5)
    earlier = (-0.5 + 4 * BIN_S, 1.5 + 4 * BIN_S)
    np.testing.assert_allclose(later, course(session, one, window_s=tuple(np.array(earlier) - 8 * BIN_S)), atol=1e-4)


def test_burn_in_is_what_the_file_has_there(session):
    whole = of_conditions(session, *INPUTS, window_s=(-1.0, 1.5))
    recording = read_conditions(session, inputs=INPUTS, burn_in_s=0.5, **BY, **HOW)
    found = prepare(recording, inputs=INPUTS, burn_in_s=0.5, n_components=None)
    parts = np.concatenate([found["u_burn_in"].values, found["u"].values], axis=1)
    np.testing.assert_allclose(parts, whole["u"].values, rtol=1e-5, atol=1e-6)
    with pytest.raises(ContractError, match="Give the reader the burn_in_s"):
        prepare(recording, inputs=INPUTS, burn_in_s=0.6)


def test_a_trial_counts_where_it_was_observed(session):
    one = Input("run", series="speed")
    with pytest.warns(UserWarning, match="of the rates are NaN"):
        found = read_conditions(session, inputs=[one], within=("start_time", "late"), **BY, **HOW)
    every = read_trials(session, inputs=[one], **HOW)["input_course"].values[..., 0]
    until = (TRIALS["late"] - TRIALS["cue_time"]).to_numpy()
    inside = until[:, None] >= CENTERS + BIN_S / 2 - 1e-6
    for k, level in enumerate(found["level"].values):
        own = (TRIALS["level"] == level).to_numpy()
        seen = inside[own].any(axis=0)
        some = np.average(every[own][:, seen], axis=0, weights=inside[own][:, seen].astype(float))
        np.testing.assert_allclose(found["input_course"].values[k, seen, 0], some, rtol=1e-9)
        np.testing.assert_allclose(found["input_course"].values[k, ~seen, 0], every[own][:, ~seen].mean(axis=0))
        assert 10 < seen.sum() < 40


def test_warped_time(session):
    """A box between the two events of warp is a window up to the median interval."""
    how = {"warp": ("cue_time", "late"), "window_s": (-0.2, 0.4), "bin_s": 0.01}
    recording = read_conditions(session, inputs=[Input("box", start="cue_time", stop="late")], **BY, **(HOW | how))
    expected = (recording["time"].values >= 0) & (recording["time"].values < recording.attrs["warp_s"])
    np.testing.assert_array_equal(recording["input_course"].values[0, :, 0], expected)
    one = Input("t", series="gappy")
    found = course(session, one, **how)
    until = (TRIALS["late"] - TRIALS["cue_time"]).to_numpy()
    time = recording["time"].values
    stretched = np.where(time[None] < 0, time, time * (until[:, None] / recording.attrs["warp_s"]))
    inside = time < recording.attrs["warp_s"] - 0.01
    np.testing.assert_allclose(found[:, inside], (ORIGINS[:, None] + stretched)[:, inside], atol=0.011)


def test_resamples_have_inputs_of_their_own_trials(session):
    recording = read_conditions(session, inputs=INPUTS, draws=3, halves=True, seed=2, **BY, **HOW)
    draws = recording["input_course_draw"]
    assert draws.dims == ("draw", "condition", "course_time", "course")
    assert recording.sizes["draw"] == 3
    spread = draws.std("draw").mean("course_time").values
    assert (spread > 0).all()
    assert not np.allclose(draws.values[0], recording["input_course"].values)
    plain = read_conditions(session, inputs=INPUTS, **BY, **HOW)
    np.testing.assert_allclose(plain["input_course"].values, recording["input_course"].values, rtol=1e-9)


def test_sessions_are_averaged_over_all_their_trials(session, tmp_path):
    """Trials in mode of means and single trials: every trial counts once, whatever its session."""
    other = write(tmp_path / "o.nwb", TRIALS.iloc[:9], speed=3 * SPEED, session_id="o", seed=1)
    one = Input("run", series="speed")
    both = read_conditions([session, other], inputs=[one], **BY, **HOW)
    parts = [read_trials(path, inputs=[one], **HOW) for path in (session, other)]
    for k, level in enumerate(both["level"].values):
        rows = [part["input_course"].values[part["level"].values == level] for part in parts]
        np.testing.assert_allclose(both["input_course"].values[k], np.concatenate(rows).mean(axis=0), rtol=1e-9)
    together = read_trials([session, other], inputs=[one], **HOW)
    np.testing.assert_array_equal(
        together["input_course"].values, np.concatenate([part["input_course"].values for part in parts])
    )
    third = write(tmp_path / "t.nwb", unit="m/s", session_id="t", seed=2)
    with pytest.raises(NWBError, match="has the units 'cm/s' and 'm/s'"):
        read_conditions([session, third], inputs=[one], **BY, **HOW)


def test_a_fit_keeps_what_its_inputs_were(session, tmp_path):
    inputs = [*INPUTS, Input("both", product="run * laser"), Input("cue", column="level", window_s=(0, 1))]
    fit = fit_lint(of_conditions(session, *inputs, bin_s=0.1), rank=1, tau_s=0.1, method="regression", test_size=0)
    back = read_fit(write_fit(fit, tmp_path / "f.nwb"))
    xr.testing.assert_identical(back[["u"]].drop_attrs(deep=False), fit[["u"]].drop_attrs(deep=False))
    again = [Input(**tomllib.loads(f"x = {{ {text} }}")["x"]) for text in back["input_definition"].values.tolist()]
    assert [one.definition for one in again] == [one.definition for one in inputs]
    assert not {"course", "course_time", "course_unit", "input_course"} & set(back.variables)
    np.testing.assert_allclose(simulate(back)["activity"].values, fit["activity_pred"].values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Input("a", series="sped"), "has no time series 'sped'. It has acquisition/pulses, processing/behavior/"),
        (Input("a", series="eye"), "has 2 columns. One is needed. Pass series_column=, from 0 to 1"),
        (Input("a", series="speed", series_column=1), "has 1 columns. series_column is 1"),
        (Input("a", series="licks"), "data that are"),
        (Input("a", events="lick"), "has no events 'lick'. It has acquisition/licks, acquisition/pulses"),
        (Input("a", events="licks"), "The labels are left (100), right (200). Choose one by where="),
        (Input("a", events="licks", where="label == 'up'"), "0 of 300 events satisfy where="),
        (Input("a", events="licks", amplitude="data"), "no number for each event"),
        (Input("a", events="pulses", amplitude="power"), "Pass amplitude='data'"),
        (Input("a", events="speed"), "regular samples and no events. Pass it as series="),
        (Input("a", events="side"), "none of 24 trials has a time in side. Columns of times: start_time, stop_time,"),
        (Input("a", start="side", stop="off"), "none of 24 trials has a time in side"),
        (
            Input("a", events="on", where="level > 9"),
            "none of 24 trials that where='level > 9' selects has",
        ),
        (Input("a", table="photo"), "has no interval table 'photo'. It has photostim (60 rows), trials (24 rows)"),
        (Input("a", table="photostim", where="power > 9"), "0 of 60 rows satisfy where="),
        (Input("a", table="photostim", amplitude="watt"), "has no column 'watt'; it has start_time, stop_time, power"),
        (Input("a", start="onset"), "has no column 'onset' for start. Columns of times"),
        (Input("a", start="late", stop="cue_time"), "24 of 24 trials have cue_time before late"),
        (Input("a", start="laser_on", stop="off"), "12 of 24 trials have no laser_on, and off"),
        (Input("a", series="speed", lag_s=9000.0), "has no sample in any of 24 trials"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.parametrize("read", [read_trials, read_conditions])
def test_messages_name_what_there_is(session, one, words, read):
    with pytest.raises(NWBError, match=re.escape(words)) as caught:
        read(session, inputs=[one], **(HOW | (BY if read is read_conditions else {})))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("input 'a': ")


def test_what_was_not_read_or_not_observed_is_an_error(session, tmp_path):
    one = Input("run", series="speed")
    with pytest.raises(ContractError, match=r'needs series = "speed" of the file.*It has none'):
        prepare(read_conditions(session, **BY, **HOW), inputs=[one])
    other = read_conditions(session, inputs=[Input("x", events="pulses")], **BY, **HOW)
    with pytest.raises(ContractError, match='It has events = "pulses"'):
        prepare(other, inputs=[one])
    speed = SPEED.copy()
    speed[(ORIGINS[3] < TIMES) & (ORIGINS[3] + 0.5 > TIMES)] = np.nan
    path = write(tmp_path / "lost.nwb", speed=speed)
    trials = read_trials(path, inputs=[one], **HOW)
    lost = np.isnan(trials["input_course"].values[..., 0])
    assert lost[3].sum() in (9, 10)
    assert lost.sum() == lost[3].sum()
    with pytest.raises(ContractError, match="was not observed there, in 1 of 24, such as 3, from"):
        prepare(trials, inputs=[one])
    filled = Input("run", series="speed", fill=7.0)
    u = prepare(trials, inputs=[filled])["u"].values[..., 0]
    np.testing.assert_array_equal(u[lost], 7.0)
    mean = read_conditions(path, inputs=[one], **BY, **HOW)["input_course"].values
    assert np.isfinite(mean).all()  # of the other trials
    bare = write_session(tmp_path / "bare.nwb", [LICKS], TRIALS)
    with pytest.raises(NWBError, match=r"has no time series 'speed'\. It has none\. Leave the input out"):
        read_trials(bare, inputs=[one], **HOW)
    with pytest.raises(ContractError, match="It needs a list of Input"):
        read_conditions(session, inputs=["speed"], **BY, **HOW)


FLAGS = [
    "name=run,series=processing/behavior/speed,scale=0.1,lag=0.05",
    "name=lick,events=licks,where=label in ('left', 'up'),width=0.1",
    "name=box,start=cue_time,stop=late,window=-0.1:0.9",
    "name=laser,table=photostim,amplitude=power",
    "name=course,times=0:0.2:0.4,values=1:2:0.5",
    "name=both,product=run * box",
    "name=cue,column=level,window=0:0.5:1,weights=1:0.5",
]


@pytest.mark.parametrize("mode", ["--means", "--trials"])
def test_flags_and_recipes_take_every_input(session, tmp_path, mode):
    """The flags, the recipe that they give, and the calls of Python give the same inputs."""
    flags = ["--align", "cue_time", "--window", "-0.5", "1.5", "--bin", "0.1", "--rank", "1", "--by", "level", mode]
    own = ["--burn-in", "0.2", "--n-components", "none"] if mode == "--means" else ["--max-iter", "2"]
    asked = [text for one in FLAGS for text in ("--input", one)]
    out = tmp_path / "fit.nwb"
    done = CliRunner().invoke(cli.app, ["fit", str(session), *flags, *own, *asked, "--no-plot", "--out", str(out)])
    assert done.exit_code == 0, done.output
    fit = read_fit(out)
    recipe = make_recipe(tomllib.loads(fit.attrs["recipe"]))
    inputs = recipe.input_list()
    assert [one.name for one in inputs] == ["run", "lick", "box", "laser", "course", "both", "cue"]
    assert inputs[1].where == "label in ('left', 'up')"
    assert make_recipe(tomllib.loads(commented(recipe))).input_list() == inputs
    how = HOW | {"bin_s": 0.1}
    if mode == "--means":
        recording = read_conditions(session, inputs=inputs, burn_in_s=0.2, **BY, **how)
        expected = prepare(recording, inputs=inputs, burn_in_s=0.2)
        np.testing.assert_array_equal(fit["u_burn_in"].values, expected["u_burn_in"].values)
    else:
        expected = prepare(read_trials(session, inputs=inputs, **how), inputs=inputs)
    u = expected["u"].values if mode == "--means" else run_recipe(recipe).activity["u"].values
    np.testing.assert_array_equal(u, expected["u"].values)
    assert list(fit["input"].values) == list(expected["input"].values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name=a,series=speed,lag=soon", "lag is 'soon'. It needs a number"),
        ("name=a,column=side,window=0:late", "window is '0:late'. It needs START:STOP"),
        ("name=a,times=0:1,values=1:b", "values is '1:b'. It needs numbers with : between"),
        ("name=a,serie=speed", "There is no option serie"),
        ("name=a,series=sped", "It has acquisition/pulses, processing/behavior/"),
    ],
)
def test_flags_say_what_is_wrong(session, tmp_path, text, words):
    flags = ["--align", "cue_time", "--window", "-0.5", "1.5", "--by", "side", "--out", str(tmp_path / "f.nwb")]
    done = CliRunner().invoke(cli.app, ["fit", str(session), *flags, "--input", text])
    assert done.exit_code in (1, 2)
    assert words in re.sub(r"\s+", " ", done.output)
    assert "Traceback" not in done.output


DT_S, STEPS, CONDITIONS, REPEATS = 0.02, 60, 10, 3


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """Activity of a rank-1 network that only running speed drives, another course in every condition, 3 trials each."""
    rng = np.random.default_rng(8)
    knots = rng.standard_normal((CONDITIONS, 8)).cumsum(axis=1)
    speed = np.stack([np.interp(np.linspace(0, 7, STEPS), np.arange(8), one) for one in knots])
    m, weights = rng.standard_normal((2, 30, 1))
    q = drives(speed[..., None].astype(np.float32), 0.2, bias=False, initial=False)
    x = forward(Network(m, 1.5 * m + weights, weights), q, 0.2)[0]
    condition = rng.permutation(np.repeat(np.arange(CONDITIONS), REPEATS))
    start = 1.0 + 2.0 * np.arange(len(condition))
    trials = pd.DataFrame({"start_time": start, "stop_time": start + 1.3, "block": condition})
    times = (start[:, None] + DT_S * (np.arange(STEPS) + 0.5)).ravel()
    path = tmp_path_factory.mktemp("driven") / "d.nwb"
    write_session(path, [], trials, series={"activity": Samples(times, x[condition].reshape(-1, 30))})
    with pynwb.NWBHDF5IO(str(path), "a") as io:
        file = io.read()
        module = file.create_processing_module("behavior", "behavior")
        series = pynwb.TimeSeries(name="speed", data=10 * speed[condition].ravel(), unit="cm/s", timestamps=times)
        module.add(series)
        io.write(file)
    return path


def test_a_network_driven_by_running_comes_back(driven):
    """With the speed as input, held-out conditions are predicted. With the number of the condition they are not."""
    how = {"by": ["block"], "align": "start_time", "window_s": (0, STEPS * DT_S), "bin_s": DT_S, "series": "activity"}
    fits = {}
    for name, one in {"speed": Input("run", series="speed", scale=0.1), "column": Input("run", column="block")}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            activity = prepare(
                read_conditions(driven, inputs=[one], **how), inputs=[one], n_components=None, center=False,
                time_course=False,
            )  # fmt: skip
            fits[name] = fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=0.3, seed=1)
    r2 = {name: float(fit["r2"].sel(split="held_out")) for name, fit in fits.items()}
    assert r2["speed"] > 0.999
    assert r2["column"] < 0.6


def test_inspect_names_series_that_may_be_inputs(session):
    found = describe(session)
    assert found.input_series == (
        "acquisition/pulses", "processing/behavior/contrast", "processing/behavior/gappy", "processing/behavior/speed",
    )  # fmt: skip
    assert "series that may be inputs: acquisition/pulses" in format_description(found)
    for path in found.input_series:
        read_trials(session, inputs=[Input("a", series=path)], **HOW)


def test_a_file_in_memory_has_inputs_too(session):
    with pynwb.NWBHDF5IO(str(session), "r") as io:
        one = Input("run", series="speed")
        found = from_nwbfile(io.read(), inputs=[one], **HOW)
    expected = read_trials(session, inputs=[one], **HOW)
    np.testing.assert_array_equal(found["input_course"].values, expected["input_course"].values)
