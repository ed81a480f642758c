"""`describe` and `suggest`: what is there is said, what is wrong is said, and the suggested call runs."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

from nwb_lint import read_conditions
from nwb_lint.nwb.inspect import describe, format_description, suggest
from nwb_lint.nwb.source import NWBError
from nwb_lint.testing import mock_session


def test_a_session_is_described_and_its_suggestion_runs(tmp_path):
    path = mock_session(tmp_path / "m.nwb", unit_columns={"region": list("abcab")}, rate_hz=10)
    found = describe(path)
    assert found.session == "mock"
    assert found.units.ids == [0, 1, 2, 3, 4]
    assert sum(found.units.n_spikes) == len(h5py.File(path)["units/spike_times"])
    assert all(8 < rate < 16 for rate in found.units.rates)
    assert [column.name for column in found.units.columns] == ["electrodes", "region"]
    (trials,) = found.tables
    kinds = {column.name: column.kind for column in trials.columns}
    assert kinds == {
        "start_time": "time", "stop_time": "time", "cue_time": "time", "side": "text", "coherence": "number",
        "correct": "bool", "block": "number",
    }  # fmt: skip
    levels = {column.name: column.levels for column in trials.columns}
    assert levels["side"] == {"left": 20, "right": 20}
    assert trials.times == ["start_time", "stop_time", "cue_time"]
    assert found.problems == []
    assert found.suggestion == suggest(path)
    assert found.suggestion["by"] == ["side", {"coherence": "rank"}]
    assert found.suggestion["align"] == "cue_time"
    assert found.suggestion["where"] == "correct"
    assert found.suggestion["window_s"] == [-0.5, 1.0]
    text = format_description(found)
    call = re.search(r"read_conditions\(.*\)", text, re.DOTALL)[0]
    recording = eval(call, {"read_conditions": read_conditions})
    assert recording.sizes["condition"] == 8


def test_problems_are_found(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=3, columns={"cue_time": np.full(40, np.nan)})
    with h5py.File(path, "r+") as file:
        times = file["units/spike_times"][()]
        bounds = file["units/spike_times_index"][()]
        times[: bounds[0]] = np.linspace(1, 20, bounds[0])  # stops early
        times[bounds[0] : bounds[1]] = times[bounds[0] : bounds[1]][::-1]
        times[bounds[1]] = -1.0
        file["units/spike_times"][...] = times
        file["intervals/trials/stop_time"][3] = 0.0
    problems = "\n".join(describe(path).problems)
    for told in (
        "cue_time is NaN in 40 of 40", "1 of 40 rows stop before", "unit 1 have spike times that are not in order",
        "units: 0 at 20 s stop firing", "2 have negative spike times",
    ):  # fmt: skip
        assert told in problems
    assert describe(path).suggestion["align"] == "start_time"


def test_a_file_without_units_or_trials_is_described(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    with h5py.File(path, "r+") as file:
        del file["units"], file["intervals"]
    found = describe(path)
    assert found.units is None
    assert found.suggestion == {}
    assert "no units table" in format_description(found)
    with pytest.raises(NWBError, match="no units table"):
        suggest(path)


def test_alm000009_stops_are_found(shared_data):
    found = describe(next((shared_data / "alm000009").glob("*.nwb")))
    text = format_description(found)
    assert "1 at 2423 s, 2 at 2405 s, 3 at 3983 s stop firing long before" in text
    assert "cue_start_time is NaN in 70 of 412 rows" in text
    assert found.units.n_spikes == [12992, 3458, 2714, 14893]
    assert found.suggestion["align"] == "cue_start_time"
    assert found.suggestion["by"] == ["type"]
    with pytest.warns(UserWarning, match="silent unit 1 after 2423 s"):
        recording = read_conditions(found.path, **found.suggestion)
    assert list(recording["type"].values) == ["lick left", "lick right"]


def test_mante2013_is_suggested_as_published(shared_data):
    found = describe(sorted((shared_data / "mante2013").glob("*.nwb"))[0])
    assert found.units.has_obs_intervals
    assert found.units.rates[0] == pytest.approx(10.26, abs=0.01)
    assert found.suggestion["by"] == [{"motion": "rank"}, {"color": "rank"}, "context"]
    assert found.suggestion["window_s"] == [0.1, 0.85]
    assert found.suggestion["align"] == "dots_on_time"
    assert read_conditions(found.path, **found.suggestion).sizes["condition"] == 72
