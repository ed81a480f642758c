"""Every layout that real files have: read as a slow loop over what was written says, or reported in one line."""

from __future__ import annotations

import tomllib
import warnings
from contextlib import nullcontext

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nwb_lint import read_conditions, read_fit, read_trials, write_fit
from nwb_lint.contract.checks import check_recording
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description
from nwb_lint.testing import mock_fit, mock_session
from nwb_lint.workflow.recipe import make_recipe
from tests.nwb.layouts import LAYOUTS, write_plain
from tests.nwb.oracle import slow_counts, slow_exposure, slow_first_event, slow_rates

PLAIN = (str, int, float, list)


def expect(warns: str):
    return pytest.warns(UserWarning, match=warns) if warns else nullcontext()


def expected_counts(case, origins, seconds, to_s, within=None):
    how = case.how
    return slow_counts(
        case.spikes, origins, how["window_s"], how["bin_s"], case.obs, seconds=seconds, to_s=to_s,
        within=within, infer=case.infer,
    )  # fmt: skip


def test_there_are_more_than_22_layouts():
    assert len(LAYOUTS) > 22


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_as_written_or_reported(name, tmp_path):
    path = tmp_path / f"{name}.nwb"
    case = LAYOUTS[name](path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert format_description(describe(path))
    if case.refuses:
        with pytest.raises(NWBError, match=case.refuses) as error:
            read_trials(path, **case.how)
        assert "\n" not in str(error.value)
        return
    kept = np.isfinite(case.origins)
    seconds, to_s = None, None
    if case.seconds is not None:
        kept &= case.seconds > case.origins
        seconds = case.seconds[kept]
        to_s = float(np.median(seconds - case.origins[kept]))
    origins = case.origins[kept]
    within = None if case.within is None else [pair for pair, k in zip(case.within, kept, strict=True) if k]
    counts, seen = expected_counts(case, origins, seconds, to_s, within)
    with expect(case.warns):
        found = read_trials(path, **case.how, columns=list(case.coords))
    np.testing.assert_array_equal(found["count"], counts)
    np.testing.assert_array_equal(found["observed"] if "observed" in found else np.ones(seen.shape, bool), seen)
    assert "observed" in found or seen.all()
    assert found.attrs["n_trials_used"] == kept.sum()
    assert found.attrs["n_trials_dropped_align"] == np.isnan(case.origins).sum()
    assert all(type(value) in PLAIN for value in found.attrs.values())
    for column, values in case.coords.items():
        np.testing.assert_array_equal(found[column].values, [v for v, k in zip(values, kept, strict=True) if k])
    if case.ids is not None:
        assert found["unit_id"].values.tolist() == case.ids
    exposure = None
    if seconds is not None:
        exposure = slow_exposure(origins, case.how["window_s"], case.how["bin_s"], seconds, to_s)
        np.testing.assert_allclose(found["exposure_s"], exposure, atol=1e-9)
        assert found.attrs["warp_s"] == pytest.approx(to_s)
        assert found.attrs["n_trials_dropped_warp"] == (np.isfinite(case.origins) & ~kept).sum()
    if case.by:
        check_conditions(path, case, kept, counts, seen, exposure)
    elif case.unit_coords:
        again = read_conditions(path, **case.how, by="start_time", unit_columns=list(case.unit_coords))
        check_unit_coords(again, case)


def check_conditions(path, case, kept, counts, seen, exposure):
    texts = [text for text, k in zip(case.conditions, kept, strict=True) if k]
    has = np.array([text != "" for text in texts])
    conditions = [text for text in texts if text]
    exposure = None if exposure is None else exposure[has]
    rates, n_trials = slow_rates(counts[has], seen[has], conditions, case.how["bin_s"], exposure)
    with expect(case.warns):
        found = read_conditions(path, by=case.by, **case.how, missing="keep", unit_columns=list(case.unit_coords))
    check_recording(found)
    order = [list(found["condition"].values).index(label) for label in sorted(set(conditions))]
    assert len(order) == found.sizes["condition"]
    rates[np.broadcast_to((n_trials == 0)[:, None], rates.shape)] = np.nan
    np.testing.assert_allclose(found["rate"].values[order], rates, rtol=1e-6)
    np.testing.assert_array_equal(found["n_trials"].values[order], n_trials)
    assert found.attrs["n_trials_dropped_by"] == (~has).sum()
    check_unit_coords(found, case)


def check_unit_coords(found, case):
    for column, values in case.unit_coords.items():
        assert found[column].values.tolist() == values


GRID = st.integers(0, 6000).map(lambda k: k / 1000)
SPANS = st.tuples(GRID, st.integers(-300, 2000).map(lambda k: k / 1000))


@st.composite
def frames(draw):
    """Spikes, obs_intervals (or None), trials with two events and limits, and which options are given."""
    spikes = [np.sort(draw(st.lists(GRID, max_size=20))) for _ in range(2)]
    cues, lasts = (np.array(part) for part in zip(*draw(st.lists(SPANS, min_size=2, max_size=5)), strict=True))
    if draw(st.booleans()):
        lasts[0] = np.nan
    pair = st.tuples(GRID, GRID).map(sorted)
    obs = draw(st.none() | st.lists(st.lists(pair, min_size=1, max_size=3).map(np.array), min_size=2, max_size=2))
    limits = draw(st.lists(pair, min_size=len(cues), max_size=len(cues)))
    return spikes, obs, cues, cues + lasts, limits, draw(st.booleans()), draw(st.booleans()), draw(st.booleans())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_warp_within_and_infer_obs_agree_with_the_slow_loop(tmp_path, drawn):
    spikes, obs, cues, goes, limits, warped, limited, inferred = drawn
    low, high = np.array(limits).T
    assume(low.all() or not low.any())  # among other start times, 0 stands for a missing one
    side = np.array(["a", "b"])[np.arange(len(cues)) % 2]
    columns = {"start_time": low, "stop_time": high, "cue": cues, "go": goes, "side": side.tolist()}
    path = write_plain(tmp_path / "s.nwb", spikes, obs, **columns)
    how = {"align": "cue", "window_s": (-0.5, 1.0), "bin_s": 0.25, "infer_obs": inferred}
    how |= {"warp": ("cue", "go")} if warped else {}
    how |= {"within": ("start_time", "stop_time")} if limited else {}
    kept = goes > cues if warped else np.ones(len(cues), bool)
    phrase = ""
    try:
        found = read_trials(path, **how)
    except NWBError as error:
        phrase = str(error)
    if phrase:
        assert ("none of" in phrase) == (not kept.any() or (limited and not (high > low)[kept].any()))
        assert "none of" in phrase or "no window meets" in phrase
        return
    seconds, to_s = (goes[kept], float(np.median((goes - cues)[kept]))) if warped else (None, None)
    counts, seen = slow_counts(
        spikes, cues[kept], (-0.5, 1.0), 0.25, obs, seconds=seconds, to_s=to_s,
        within=[pair for pair, k in zip(limits, kept, strict=True) if k] if limited else None,
        infer=inferred and obs is None,
    )  # fmt: skip
    np.testing.assert_array_equal(found["count"], counts)
    np.testing.assert_array_equal(found["observed"] if "observed" in found else np.ones(seen.shape, bool), seen)
    assert found.attrs["n_trials_dropped_warp"] == (~kept).sum()
    exposure = slow_exposure(cues[kept], (-0.5, 1.0), 0.25, seconds, to_s) if warped else None
    recording = read_conditions(path, by="side", missing="keep", **how)
    rates, n_trials = slow_rates(counts, seen, side[kept], 0.25, exposure)
    rates[np.broadcast_to((n_trials == 0)[:, None], rates.shape)] = np.nan
    np.testing.assert_allclose(recording["rate"], rates, rtol=1e-6)
    np.testing.assert_array_equal(recording["n_trials"], n_trials)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(GRID, max_size=12),
    st.lists(st.tuples(GRID, GRID).map(sorted), min_size=1, max_size=6),
    st.none() | st.tuples(GRID, st.sampled_from([0.5, 2.0, 10.0]), st.integers(0, 30)),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trials_take_their_first_event(tmp_path, events, spans, regular):
    start, stop = np.array(spans).T
    path = write_plain(tmp_path / "s.nwb", [np.arange(0.0, 8.0, 0.1)], start_time=start, stop_time=stop)
    with h5py.File(path, "r+") as file:
        group = file.create_group("acquisition/box/go")
        if regular:
            t0, rate, n = regular
            group["starting_time"], group["data"] = t0, np.zeros(n)
            group["starting_time"].attrs["rate"] = rate
            events = [t0 + k / rate for k in range(n)]
        else:
            group["timestamps"] = np.array(events)
    wanted = slow_first_event(events, start, stop)
    if not np.isfinite(wanted).any():
        with pytest.raises(NWBError, match=r"none of \d+ trials has a number in box/go"):
            read_trials(path, align="box/go", window_s=(0, 0.1), bin_s=0.1)
        return
    found = read_trials(path, align="box/go", window_s=(0, 0.1), bin_s=0.1)
    kept = np.isfinite(wanted)
    assert found["trial"].values.tolist() == np.flatnonzero(kept).tolist()
    assert found.attrs["n_trials_dropped_align"] == (~kept).sum()
    counts, _ = slow_counts([np.arange(0.0, 8.0, 0.1)], wanted[kept], (0, 0.1), 0.1)
    np.testing.assert_array_equal(found["count"], counts)


def test_a_steady_unit_is_steady_on_a_warped_axis(tmp_path):
    rng = np.random.default_rng(0)
    cue = 5.0 + 6.0 * np.arange(30)
    go = cue + rng.uniform(0.5, 3.0, 30)
    spikes = [np.arange(0.05, 200, 0.1), np.sort(rng.uniform(0, 200, 8000))]
    table = pd.DataFrame({"start_time": cue - 1, "stop_time": go + 1, "cue": cue, "go": go, "side": ["a", "b"] * 15})
    path = write_session(tmp_path / "s.nwb", spikes, table)
    how = {"align": "cue", "warp": ("cue", "go"), "window_s": (-0.5, 2.5), "bin_s": 0.1}
    found = read_conditions(path, by="side", **how)
    # a bin of one trial may hold one spike more or less than 10 Hz × its real duration
    np.testing.assert_allclose(found["rate"][..., 0].mean("time"), 10, rtol=0.01)
    np.testing.assert_allclose(found["rate"][..., 0], 10, rtol=0.45)
    np.testing.assert_allclose(found["rate"][..., 1].mean("time"), 40, rtol=0.1)
    trials = read_trials(path, **how)
    rate = trials["count"].sum("trial") / trials["exposure_s"].sum("trial")
    whole = found["rate"] * trials["exposure_s"].groupby(trials["side"].rename("condition")).sum().values[..., None]
    np.testing.assert_allclose(rate, whole.sum("condition") / trials["exposure_s"].sum("trial"), rtol=1e-5)
    assert found.attrs["warp"] == ["cue", "go"]
    assert found.attrs["warp_s"] == pytest.approx(np.median(go - cue))


@pytest.mark.parametrize("warped", [False, True])
def test_limits_on_edges_of_bins_do_not_flip(tmp_path, warped):
    origin = np.round(0.3 + 1234.1 * np.arange(30), 6)
    low, high = (np.round(origin + 0.005 * edge, 6) for edge in (np.arange(30), np.arange(30) + 17))
    columns = {"start_time": low, "stop_time": high, "origin": origin, "end": np.round(origin + 0.3, 6)}
    path = write_plain(tmp_path / "s.nwb", [np.arange(0.0, 36000.0, 10.0)], **columns)
    how = {"align": "origin", "window_s": (0, 0.3), "bin_s": 0.005, "within": ("start_time", "stop_time")}
    found = read_trials(path, **how, **({"warp": ("origin", "end")} if warped else {}))
    wanted = [[k <= t < k + 17 for t in range(60)] for k in range(30)]
    np.testing.assert_array_equal(found["observed"][..., 0], wanted)


def test_equal_intervals_are_not_warped(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    how = {"align": "start_time", "window_s": (-0.5, 1.0), "bin_s": 0.1}
    plain, warped = read_trials(path, **how), read_trials(path, **how, warp=("start_time", "cue_time"))
    np.testing.assert_array_equal(warped["count"], plain["count"])
    np.testing.assert_allclose(warped["exposure_s"], 0.1)


def test_sessions_are_warped_to_one_interval(tmp_path):
    paths = []
    for k, delay in enumerate((0.4, 0.8)):
        start = 1.0 + 2.0 * np.arange(10 + 10 * k)
        table = pd.DataFrame({"start_time": start, "stop_time": start + 1.5, "go": start + delay, "side": "a"})
        spikes = [np.sort(np.concatenate([start + delay + 0.05, start - 0.3]))]  # 50 ms after the second event
        paths.append(write_session(tmp_path / f"{k}.nwb", spikes, table, session_id=f"s{k}"))
    how = {"align": "start_time", "warp": ("start_time", "go"), "window_s": (-0.5, 1.1), "bin_s": 0.1}
    found = read_conditions(paths, by="side", **how)
    assert found.attrs["warp_s"] == pytest.approx(0.8)
    at = found["time"][found["rate"][0].argmax("time")]
    np.testing.assert_allclose(found["rate"].sel(time=0.85, method="nearest"), 10, rtol=1e-6)
    assert at.values.tolist() == pytest.approx([-0.25, -0.25])


def test_limits_the_wrong_way_round_are_reported(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    with pytest.raises(NWBError, match="start_time is after stop_time in none of 40"):
        read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1, within=("stop_time", "start_time"))


def test_a_missing_limit_drops_the_trial(tmp_path):
    stop = 2.5 + 2.0 * np.arange(40)
    stop[:3] = np.nan
    path = mock_session(tmp_path / "m.nwb", columns={"end": stop})
    found = read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1, within=("start_time", "end"))
    assert found.attrs["n_trials_dropped_within"] == 3
    assert found.sizes["trial"] == 37
    assert not found["observed"].all()
    with pytest.raises(NWBError, match=r"no column 'off'.*cue_time"):
        read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1, within=("start_time", "off"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"within": "start_time"}, "within"),
        ({"within": ("a", "a")}, "within names 'a' twice"),
        ({"warp": ("cue_time",)}, "warp"),
        ({"warp": ("start_time", "cue_time")}, "warp begins at 'start_time'.*'cue_time'"),
        ({"table": []}, "table"),
        ({"table": ["trials", "trials"]}, "distinct names"),
        ({"align": 3}, "align"),
        ({"align": lambda rows: rows["cue_time"][:3]}, r"<lambda>.*shape \(3,\).*one time per row"),
        ({"align": lambda rows: 1.0}, "float.*one time"),
        ({"align": lambda rows: rows["side"]}, "no numbers"),
    ],
)
def test_wrong_options_are_refused(tmp_path, change, words):
    path = mock_session(tmp_path / "m.nwb")
    how = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1} | change
    for read in (read_trials, lambda *a, **k: read_conditions(*a, **k, by="side")):
        with pytest.raises(ContractError, match=words) as error:
            read(path, **how)
        assert "\n" not in str(error.value)


def test_columns_that_no_text_can_be_made_of_are_reported(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    with h5py.File(path, "r+") as file:
        trials = file["intervals/trials"]
        trials["pair"] = np.zeros(40, [("a", int), ("b", float)])
        trials["odd"] = np.arange(50.0)
        trials["odd_index"] = np.arange(40)[::-1]
        trials["many"] = np.zeros((40, 30000))
    how = {"align": "cue_time", "window_s": (0, 1), "bin_s": 0.1}
    for name, phrase in (
        ("pair", "no text"), ("odd", "odd_index .* ends at 0.* 50"), ("many", "holds 1200000 values"),
        ("none", "no column 'none'"),
    ):  # fmt: skip
        with pytest.raises(NWBError, match=phrase):
            read_trials(path, **how, columns=[name])
    with pytest.raises(NWBError, match=r"no column 'depth'.*electrodes have"):
        read_conditions(path, **how, by="side", unit_columns=["depth"])
    with h5py.File(path, "r+") as file:
        file["units/electrodes"][0] = 77
    with pytest.raises(NWBError, match="name electrode 77 of 5"):
        read_conditions(path, **how, by="side", unit_columns=["location"])


def test_the_search_for_events_ends_in_a_file_that_leads_in_circles(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    with h5py.File(path, "r+") as file:
        file["acquisition/a/go/timestamps"] = file["intervals/trials/start_time"][()] + 0.1
        file["acquisition/a/up"] = file["acquisition"]
        file["processing/down"] = h5py.SoftLink("/processing")
    assert read_trials(path, align="go", window_s=(0, 1), bin_s=0.1).sizes["trial"] == 40
    with h5py.File(path, "r+") as file:
        file["acquisition/b/go/timestamps"] = [1.0, 2.0]
    with pytest.raises(NWBError, match="2 event series named 'go': acquisition/a/go, acquisition/b/go"):
        read_trials(path, align="go", window_s=(0, 1), bin_s=0.1)
    with pytest.raises(NWBError, match="no column 'went'"):
        read_trials(path, align="went", window_s=(0, 1), bin_s=0.1)


def test_options_survive_a_fit_file_and_a_recipe(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    data = {"by": ["side"], "align": "start_time", "window_s": [-0.2, 1.0], "within": ["start_time", "stop_time"],
            "warp": ["start_time", "cue_time"], "infer_obs": True, "table": ["trials"]}  # fmt: skip
    recipe = make_recipe(tomllib.loads(make_recipe({"sources": [str(path)], "read": data}).text()))
    with pytest.warns(UserWarning, match="of the rates are NaN"):
        recording = read_conditions(path, **recipe.read.model_dump())
    assert recording.attrs["within"] == ["start_time", "stop_time"]
    fit = mock_fit()
    names = ("within", "warp", "warp_s", "infer_obs", "table", "align", "n_trials_dropped_warp")
    fit.attrs |= {name: recording.attrs[name] for name in names}
    subject = {"subject_id": "m", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    assert read_fit(write_fit(fit, tmp_path / "fit.nwb", subject=subject)).identical(fit)


@pytest.mark.parametrize("obs", [False, True])
def test_ordinary_sessions_raise_no_alarm(tmp_path, obs):
    for seed in range(4):
        path = mock_session(tmp_path / f"{seed}.nwb", seed=seed, rate_hz=0.5 * 4**seed, obs_intervals=obs)
        read_trials(path, align="cue_time", window_s=(-0.2, 0.8), bin_s=0.1)


def test_mante2013_raises_no_alarm_and_its_dots_can_be_limits(shared_data):
    path = sorted((shared_data / "mante2013").glob("*.nwb"))[0]
    how = {"align": "dots_on_time", "window_s": (0.1, 0.85), "bin_s": 0.05}
    plain = read_trials(path, **how)
    limited = read_trials(path, **how, within=("start_time", "stop_time"))
    seen = limited["observed"] if "observed" in limited else limited["count"] >= 0
    np.testing.assert_array_equal(limited["count"], plain["count"].where(seen, 0))


@pytest.mark.filterwarnings("ignore:.*silent unit")
def test_alm000009_delays_are_warped(shared_data):
    path = next((shared_data / "alm000009").glob("*.nwb"))
    where = "photo_stim_power == 0"
    how = {"align": "pole_out_time", "window_s": (-1.5, 2.0), "bin_s": 0.1, "where": where, "infer_obs": True}
    found = read_trials(path, **how, warp=("pole_out_time", "cue_start_time"))
    lasts = (found["cue_start_time"] - found["pole_out_time"]).values
    assert found.attrs["warp_s"] == pytest.approx(np.median(lasts)) == pytest.approx(1.3, abs=0.1)
    assert found.attrs["n_trials_dropped_where"] == 63
    assert sum(value for name, value in found.attrs.items() if name.startswith("n_trials_")) == 412
    with h5py.File(path) as file:
        times = np.split(file["units/spike_times"][()], file["units/spike_times_index"][:-1].astype(int))
    counts, seen = slow_counts(
        [times[3][times[3] < found["pole_out_time"].values[3] + 20]], found["pole_out_time"].values[:4],
        (-1.5, 2.0), 0.1, seconds=found["cue_start_time"].values[:4], to_s=found.attrs["warp_s"], infer=True,
    )  # fmt: skip
    np.testing.assert_array_equal(found["count"][:4, :, 3], counts[..., 0])
    np.testing.assert_array_equal(found["observed"][:4, :, 3], seen[..., 0])
