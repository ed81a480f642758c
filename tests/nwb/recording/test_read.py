"""Laws of the readers: they agree with a slow loop, and with each other, and never take silence for zero."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nwb_lint import Input, fit_lint, prepare, read_conditions, read_trials
from nwb_lint.contract.checks import check_recording
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.nwb.storage.digests import digest, with_digests
from nwb_lint.testing import mock_session
from tests.nwb.oracle import slow_counts, slow_rates

# times on a grid of 1 ms, written in decimals: many fall on the edges of bins
GRID = st.integers(0, 6000).map(lambda k: k / 1000)
READ = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.05}


@st.composite
def sessions(draw):
    """Spike times, trial times, sides and obs_intervals (or None) of a small session."""
    n_units = draw(st.integers(1, 3))
    spikes = [np.sort(draw(st.lists(GRID, min_size=1, max_size=25))) for _ in range(n_units)]
    cues = draw(st.lists(GRID, min_size=2, max_size=6))
    sides = ["left", "right", *draw(st.lists(st.sampled_from(["left", "right"]), min_size=4, max_size=4))]
    pair = st.tuples(GRID, GRID).map(sorted)
    intervals = st.lists(pair, min_size=1, max_size=4).map(np.array)
    obs = draw(st.none() | st.lists(intervals, min_size=n_units, max_size=n_units))
    width = draw(st.sampled_from([0.005, 0.1, 0.25]))
    return spikes, np.array(cues), sides[: len(cues)], obs, width


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions())
@example(([np.array([0.5])], np.zeros(2), ["left", "right"], [np.zeros((1, 2))], 0.005))
@example(([np.array([])], np.zeros(2), ["left", "right"], [np.zeros((1, 2))], 0.005))
@pytest.mark.filterwarnings(
    "ignore:.*of the rates are NaN", "ignore:.*obs_intervals of .* overlap", "ignore:.*silent", "ignore:.*look relative"
)
def test_both_readers_agree_with_the_slow_loop(tmp_path, session):
    spikes, cues, sides, obs, width = session
    path = tmp_path / "s.nwb"
    trials = pd.DataFrame({"start_time": cues, "stop_time": cues + 1, "cue": cues, "side": sides})
    write_session(path, spikes, trials, obs_intervals=obs, overwrite=True)
    how = {"align": "cue", "window_s": (-0.5, 0.5), "bin_s": width}
    counts, seen = slow_counts(spikes, cues, (-0.5, 0.5), width, obs)
    lasting = [pair for part in obs or () for pair in part if pair[1] > pair[0]]  # no length: nothing is observed
    ends = [t for part in (*spikes, *lasting) for t in part]
    if ends and not ((cues + 0.5 > min(ends)) & (cues - 0.5 <= max(ends))).any():
        with pytest.raises(NWBError, match="no window meets the recording"):
            read_trials(path, **how)
        return
    found = read_trials(path, **how)
    np.testing.assert_array_equal(found["count"], counts)
    if seen.all():
        assert "observed" not in found
    else:
        np.testing.assert_array_equal(found["observed"], seen)
    recording = read_conditions(path, by="side", missing="keep", **how)
    rates, n_trials = slow_rates(counts, seen, sides, width)
    rates[np.broadcast_to((n_trials == 0)[:, None], rates.shape)] = np.nan
    np.testing.assert_allclose(recording["rate"], rates, rtol=1e-6)
    np.testing.assert_array_equal(recording["n_trials"], n_trials)


def test_edges_of_bins_do_not_flip(tmp_path):
    edges = np.round(0.1 + 0.005 * np.arange(151), 6)
    for origin in (0.0, 0.3, 1234.5, 86400.1):
        trials = pd.DataFrame({"start_time": [origin], "stop_time": [origin + 1]})
        path = write_session(tmp_path / f"{origin}.nwb", [origin + edges], trials)
        found = read_trials(path, align="start_time", window_s=(0.1, 0.85), bin_s=0.005)
        assert (found["count"].values == 1).all()


def test_a_recording_keeps_the_contract(tmp_path):
    path = mock_session(tmp_path / "m.nwb", unit_columns={"region": list("abcab")}, unit_ids=[7, 3, 9, 1, 12])
    found = read_conditions(
        path, **READ | {"by": ["side", {"coherence": "rank"}]}, halves=True, unit_columns=["region"]
    )
    check_recording(found)
    assert list(found["neuron"].values) == ["7", "3", "9", "1", "12"]
    assert found["rate"].dtype == np.float32
    assert list(found["region"].values) == list("abcab")
    np.testing.assert_array_equal(found["coherence"], [-2, -1, 1, 2] * 2)
    assert found["condition"].values[0] == "side=left, coherence=-2"
    assert with_digests(found)["file_digest"].item() == digest(path)
    np.testing.assert_allclose(found["time"][[0, -1]], [-0.175, 0.775])
    assert found.attrs["by"] == ["side", "coherence"]
    assert found.attrs["n_trials_used"] == 40
    kinds = (str, int, float, list)
    assert all(type(value) in kinds for value in found.attrs.values())


def test_halves_average_back_to_the_whole(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_trials=45)
    whole = read_conditions(path, **READ)
    found = read_conditions(path, **READ, halves=True, seed=3)
    xr.testing.assert_equal(whole["rate"], found["rate"])
    n = found["n_trials_half"]
    np.testing.assert_array_equal(n.sum("half"), found["n_trials"])
    assert (abs(n[0] - n[1]) <= 1).all()
    np.testing.assert_allclose((found["rate_half"] * n).sum("half") / n.sum("half"), whole["rate"], rtol=1e-5)
    again = read_conditions(path, **READ, halves=True, seed=3)
    xr.testing.assert_identical(found, again)
    other = read_conditions(path, **READ, halves=True, seed=4)
    assert not np.array_equal(other["rate_half"], found["rate_half"])


def test_resamples_count_whole_trials_the_same_ones_for_all_units(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=6, n_trials=16, rate_hz=40)
    found = read_conditions(path, **READ, halves=True, draws=5, seed=3)
    xr.testing.assert_identical(found.drop_vars("rate_draw")["rate"], read_conditions(path, **READ)["rate"])
    halves = read_conditions(path, **READ, halves=True, seed=3)
    xr.testing.assert_equal(found[["rate_half", "n_trials_half"]], halves[["rate_half", "n_trials_half"]])
    trials = read_trials(path, **{name: value for name, value in READ.items() if name != "by"})
    for k, side in enumerate(found["side"].values):
        own = trials["count"].values[trials["side"].values == side].astype(float)
        sums = found["rate_draw"].values[:, k] * READ["bin_s"] * len(own)
        weights = np.linalg.lstsq(own.reshape(len(own), -1).T, sums.reshape(5, -1).T, rcond=None)[0].T
        np.testing.assert_allclose(weights, np.rint(weights), atol=1e-3)
        np.testing.assert_array_equal(np.rint(weights).sum(axis=1), len(own))
        assert np.unique(np.rint(weights), axis=0).shape == weights.shape
    xr.testing.assert_identical(found, read_conditions(path, **READ, halves=True, draws=5, seed=3))
    other = read_conditions(path, **READ, draws=5, seed=4, smooth_s=0.1)
    assert not np.array_equal(other["rate_draw"], found["rate_draw"])
    np.testing.assert_array_equal(prepare(other, inputs=[Input("on", window_s=(0, 0.5))])["neuron"], other["neuron"])


def test_units_and_trials_may_come_in_any_order(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    whole = read_conditions(path, **READ)
    part = read_conditions(path, **READ, units=[4, 0])
    xr.testing.assert_equal(part["rate"], whole["rate"].sel(neuron=["4", "0"]))
    by_query = read_conditions(path, **READ, units="id in (0, 4)")
    xr.testing.assert_equal(by_query["rate"], whole["rate"].sel(neuron=["0", "4"]))


def test_where_and_dropped_trials_are_counted(tmp_path):
    cue = 1.5 + 2.0 * np.arange(40)
    cue[:5] = np.nan
    side = np.array(["left", "right"] * 20, object)
    side[8:11] = ["N/A", "", None]
    path = mock_session(tmp_path / "m.nwb", columns={"cue_time": cue, "side": side})
    found = read_conditions(path, **READ | {"where": "block < 3"})
    assert found.attrs["n_trials_dropped_align"] == 5
    assert found.attrs["n_trials_dropped_by"] == 3
    assert found.attrs["n_trials_used"] == 30 - 8
    assert list(found["condition"].values) == ["side=left", "side=right"]
    text = [str(t) if np.isfinite(t) else "N/A" for t in cue]
    same = mock_session(tmp_path / "t.nwb", columns={"cue_time": text, "side": side})
    again = read_conditions(same, **READ | {"where": "block < 3"})
    np.testing.assert_array_equal(again["rate"], found["rate"])


def test_bins_are_right_open_and_the_last_is_closed(tmp_path):
    strength = np.resize([0.0, 0.5, 1.0, 2.0, 3.0], 40)
    path = mock_session(tmp_path / "m.nwb", columns={"strength": strength})
    found = read_conditions(path, **READ | {"by": {"strength": [0, 1, 2]}})
    assert list(found["condition"].values) == ["strength=[0, 1)", "strength=[1, 2]"]
    np.testing.assert_array_equal(found["strength"], [0.5, 1.5])
    np.testing.assert_array_equal(found["n_trials"][:, 0], [16, 16])
    assert found.attrs["n_trials_dropped_by"] == 8


def test_a_unit_that_misses_a_condition_is_dropped_or_kept_as_nan(tmp_path):
    end = 82.0
    obs = [np.array([[0.0, end]]) for _ in range(3)]
    side = np.repeat(["left", "right"], 20)
    obs[1] = np.array([[0.0, 30.0]])
    path = mock_session(tmp_path / "m.nwb", n_units=3, columns={"side": side}, obs_intervals=obs)
    with pytest.warns(UserWarning, match=r"dropped 1 of 3 units .*\(1 has fewer"):
        found = read_conditions(path, **READ)
    assert list(found["neuron"].values) == ["0", "2"]
    assert found.attrs["dropped_units"] == ["1"]
    assert found.attrs["n_units_dropped"] == 1
    kept = read_conditions(path, **READ, missing="keep")
    assert np.isnan(kept["rate"].sel(neuron="1")[1]).all()
    assert np.isfinite(kept["rate"].sel(neuron="1")[0]).all()
    xr.testing.assert_equal(kept["rate"].sel(neuron=["0", "2"]), found["rate"])
    with pytest.raises(NWBError, match=r"all 3 units have fewer than 25 trials in some condition: side=right"):
        read_conditions(path, **READ, min_trials=25)


def test_several_files_are_stacked_and_single_ones_come_back(tmp_path):
    paths = [mock_session(tmp_path / f"{k}.nwb", seed=k, n_units=k + 2, session_id=f"s{k}") for k in range(2)]
    both = read_conditions(str(tmp_path / "*.nwb"), **READ)
    check_recording(both)
    assert list(both["neuron"].values) == ["s0:0", "s0:1", "s1:0", "s1:1", "s1:2"]
    assert both.sizes["file"] == 2
    for k, path in enumerate(paths):
        alone = read_conditions(path, **READ)
        np.testing.assert_array_equal(both["rate"][:, :, both["session"].values == f"s{k}"], alone["rate"])
    same = mock_session(tmp_path / "x" / "0.nwb" if (tmp_path / "x").mkdir() else tmp_path / "x.nwb",
                        session_id="s0")  # fmt: skip
    stems = read_conditions([paths[0], same], **READ)
    assert set(stems["session"].values) == {"0", same.stem}


def test_ranks_match_across_sessions_and_their_numbers_must_agree(tmp_path):
    values = [np.resize([-0.5, -0.17, 0.0, 0.17, 0.5], 40), np.resize([-0.4, -0.06, 0.0, 0.06, 0.4], 40)]
    paths = [
        mock_session(tmp_path / f"{k}.nwb", columns={"coherence": v}, session_id=f"s{k}") for k, v in enumerate(values)
    ]
    found = read_conditions(paths, **READ | {"by": {"coherence": "rank"}})
    np.testing.assert_array_equal(found["coherence"], [-2, -1, 0, 1, 2])
    odd = mock_session(tmp_path / "odd.nwb", session_id="odd")
    three = mock_session(tmp_path / "3.nwb", columns={"coherence": np.resize([-3.0, 2.0, 1.0], 40)}, session_id="three")
    with pytest.raises(NWBError, match=r"2 in odd \(0\.1, 0\.5\); 3 in three \(1, 2, 3\)"):
        read_conditions([odd, three], **READ | {"by": {"coherence": "rank"}})


def test_labels_tell_apart_values_that_print_alike(tmp_path):
    path = mock_session(tmp_path / "m.nwb", columns={"x": np.resize([1.0000001, 1.0000002], 40)})
    found = read_conditions(path, **READ | {"by": "x"})
    assert list(found["condition"].values) == ["x=1.0000001", "x=1.0000002"]


def test_a_column_of_a_reserved_name_gets_another_coordinate(tmp_path):
    path = mock_session(tmp_path / "m.nwb", columns={"condition": ["a", "b"] * 20})
    found = read_conditions(path, **READ | {"by": "condition"})
    assert list(found["trial_condition"].values) == ["a", "b"]
    assert "trial_condition" in read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1).coords


@pytest.mark.parametrize("name", ["J", "m", "bias", "scale", "latent", "activity"])
def test_a_unit_column_of_a_name_that_fits_use_does_not_touch_the_fit(tmp_path, name):
    path = mock_session(tmp_path / "m.nwb", n_units=6, unit_columns={name: np.arange(6.0)})
    read = {"by": ["side", "coherence"], "align": "cue_time", "window_s": (-0.4, 0.8), "bin_s": 0.05}
    fits = []
    for columns in ([], [name]):
        activity = prepare(
            read_conditions(path, **read, unit_columns=columns),
            inputs=[Input("c", column="coherence", window_s=(-9, 9))],
        )
        fits.append(fit_lint(activity, rank=1, tau_s=0.1, method="regression"))
    assert fits[1][f"unit_{name}"].values.tolist() == list(range(6))
    xr.testing.assert_identical(fits[1].drop_vars(f"unit_{name}").drop_attrs(), fits[0].drop_attrs())


@pytest.mark.parametrize("name", ["split", "stage", "rank"])
def test_a_trial_column_of_the_name_of_a_dim_stays_in_the_fit(tmp_path, name):
    sides = np.resize(["train", "val"], 40)  # as in 000128, whose trials have a column called split
    path = mock_session(tmp_path / "m.nwb", n_units=6, columns={name: sides})
    read = {"align": "cue_time", "window_s": (-0.4, 0.8), "bin_s": 0.05}
    activity = prepare(
        read_conditions(path, by=[name, "coherence"], **read), inputs=[Input("c", column="coherence", window_s=(-9, 9))]
    )
    fit = fit_lint(activity, rank=1, tau_s=0.1, method="regression")
    assert set(fit[f"trial_{name}"].values) == {"train", "val"}
    write_fit(fit, tmp_path / "fit.nwb", subject={"age": "P90D"})
    xr.testing.assert_identical(read_fit(tmp_path / "fit.nwb"), with_digests(fit))


def test_progress_changes_nothing(tmp_path, capfd):
    path = mock_session(tmp_path / "m.nwb")
    xr.testing.assert_identical(read_conditions(path, **READ, progress=True), read_conditions(path, **READ))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window_s": (1, 0)}, "start needs to be below stop"),
        ({"window_s": (0, 1), "bin_s": 0.3}, r"\(0, 0\.9\) or \(0, 1\.2\)"),
        ({"window_s": 3}, "window_s is 3"),
        ({"bin_s": 0}, "bin_s is 0"),
        ({"smooth_s": -1}, "smooth_s is -1"),
        ({"min_trials": 0}, "min_trials is 0"),
        ({"missing": "nan"}, "missing is 'nan'"),
        ({"by": []}, "column"),
        ({"by": ["side", {"side": "rank"}]}, "names 'side' twice"),
        ({"by": {"side": "order"}}, "order|by is"),
        ({"by": {"coherence": [1, 0]}}, "ascending"),
        ({"by": [3]}, "by is"),
        ({"units": [0, 0]}, "names an id twice"),
        ({"units": [0.5]}, "units is"),
        ({"unit_columns": "region"}, "unit_columns is"),
    ],
)
def test_wrong_arguments_are_reported(tmp_path, change, words):
    path = mock_session(tmp_path / "m.nwb")
    with pytest.raises(ContractError, match=words) as error:
        read_conditions(path, **READ | change)
    assert "\n" not in str(error.value)


def test_a_note_of_a_file_becomes_its_digest_unless_the_file_has_changed(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    found = read_conditions(path, **READ)
    note = found["file_digest"].item()
    assert f"{path.stat().st_size} bytes" in note
    assert with_digests(found)["file_digest"].item() == hashlib.sha256(path.read_bytes()).hexdigest()
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    assert with_digests(found)["file_digest"].item() == note
    path.unlink()
    assert with_digests(found)["file_digest"].item() == note
