"""`describe` and `suggest`: what a file holds, warnings of what looks wrong, and a suggested call that runs."""

from __future__ import annotations

import io
import json
import re
from typing import ClassVar

import h5py
import numpy as np
import pytest

from nwb_lint import read_conditions, read_trials, write_fit
from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.describe import describe, describe_all
from nwb_lint.nwb.inspection.format import format_description, format_table, to_json
from nwb_lint.nwb.inspection.session_map import session_map
from nwb_lint.nwb.inspection.suggest import suggest
from nwb_lint.nwb.inspection.units import describe_units
from nwb_lint.testing import mock_fit, mock_session


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
    assert trials.times == {"start_time": 40, "stop_time": 40, "cue_time": 40}
    assert found.warnings == []
    assert found.suggestion == suggest(path)
    assert found.suggestion["by"] == ["side", {"coherence": "rank"}]
    assert found.suggestion["align"] == "cue_time"
    assert found.suggestion["where"] == "correct"
    assert found.suggestion["window_s"] == [-0.5, 1.0]
    text = format_description(found)
    call = re.search(r"read_conditions\(.*\)", text, re.DOTALL)[0]
    recording = eval(call, {"read_conditions": read_conditions})
    assert recording.sizes["condition"] == 8


def test_a_file_of_a_fit_lacks_nothing_but_what_is_damaged(tmp_path):
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    path = write_fit(mock_fit(n_neurons=30), tmp_path / "fit.nwb", subject=subject)
    assert describe(path).warnings == []
    with h5py.File(path, "r+") as file:
        file.require_group("intervals")["trials"] = h5py.SoftLink("/nowhere")
    assert any("is a link to /nowhere" in warning for warning in describe(path).warnings)


def test_what_looks_wrong_is_a_warning(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=3, columns={"cue_time": np.full(40, np.nan)})
    with h5py.File(path, "r+") as file:
        times = file["units/spike_times"][()]
        bounds = file["units/spike_times_index"][()]
        times[: bounds[0]] = np.linspace(1, 20, bounds[0])  # stops early
        times[bounds[0] : bounds[1]] = times[bounds[0] : bounds[1]][::-1]
        times[bounds[1]] = -1.0
        file["units/spike_times"][...] = times
        file["intervals/trials/stop_time"][3] = 0.0
    warnings = "\n".join(describe(path).warnings)
    for words in (
        "cue_time is NaN in 40 of 40", "1 of 40 rows stop before", "unit.* 1 .*not in order",
        "units: 0 at 20 s stop firing", "2 have negative spike times",
    ):  # fmt: skip
        assert re.search(words, warnings)
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
    assert "1 at 2423 s, 2 at 2405 s, 3 at 3983 s stop firing before" in text
    assert "cue_start_time is NaN in 70 of 412 rows" in text
    assert found.units.n_spikes == [12992, 3458, 2714, 14893]
    assert found.suggestion["align"] == "cue_start_time"
    assert found.suggestion["by"] == ["type", "response"]
    assert found.suggestion.pop("infer_obs") is True
    assert suggest(found.path)["infer_obs"] is True
    with pytest.warns(UserWarning, match="silent unit 1 after 2423 s"):
        recording = read_conditions(found.path, **found.suggestion)
    assert recording["n_trials"].isel(neuron=0).values.tolist() == [86, 34, 22, 58, 43, 36]


def test_mante2013_is_suggested_as_published(shared_data):
    found = describe(sorted((shared_data / "mante2013").glob("*.nwb"))[0])
    assert found.units.has_obs_intervals
    assert found.units.rates[0] == pytest.approx(10.26, abs=0.01)
    assert found.suggestion["by"] == [{"motion": "rank"}, {"color": "rank"}, "context"]
    assert found.suggestion["window_s"] == [0.1, 0.85]
    assert found.suggestion["align"] == "dots_on_time"
    assert read_conditions(found.path, **found.suggestion).sizes["condition"] == 72


FILE_KEYS = {
    "path", "session", "subject", "error", "span_s", "units", "units_tables", "tables", "events", "series", "warnings",
    "input_series", "suggestion", "fits",
}  # fmt: skip
UNIT_KEYS = {
    "table", "ids", "n_spikes", "rates_hz", "rates_over", "spikes_read", "has_obs_intervals", "columns",
}  # fmt: skip


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("obs", [False, True])
def test_without_spikes_all_but_their_times_is_known(tmp_path, obs):
    path = mock_session(tmp_path / "m.nwb", obs_intervals=obs, rate_hz=10)
    full = describe(path)
    with h5py.File(path, "r+") as file:  # the spikes lie in a file that is lost
        group = file["units"]
        attrs, n = dict(group["spike_times"].attrs), len(group["spike_times"])
        del group["spike_times"]
        group.create_dataset("spike_times", (n,), float, external=[("lost.bin", 0, 8 * n)]).attrs.update(attrs)
    blind = describe(path)
    assert blind.units is None
    assert any(re.search("spike_times .*external storage: lost.bin.*external=True", one) for one in blind.warnings)
    found = describe(path, spikes=False)
    assert found.units.n_spikes == full.units.n_spikes
    assert not found.units.spikes_read
    assert found.tables == full.tables
    assert found.suggestion == full.suggestion
    np.testing.assert_allclose(found.units.rates, full.units.rates, rtol=0.05)
    assert "only their numbers" in format_description(found)
    assert json.loads(to_json([found]))["files"][0]["units"]["spikes_read"] is False


def test_without_spikes_none_of_their_bytes_is_read(tmp_path):
    """The spikes lie where a file object counts its reads: none goes there."""
    path = mock_session(tmp_path / "m.nwb", n_units=3)
    with h5py.File(path, "r+") as file:
        group = file["units"]
        attrs = dict(group["spike_times"].attrs)
        times = np.tile(group["spike_times"][()], 50)
        del group["spike_times"], group["spike_times_index"]
        stored = group.create_dataset("spike_times", data=times)
        stored.attrs.update(attrs)
        n = len(times)
        group["spike_times_index"] = np.array([n // 3, n // 2, n])
        first, last = stored.id.get_offset(), stored.id.get_offset() + stored.nbytes

    class Counting(io.FileIO):
        reads: ClassVar[list] = []

        def readinto(self, buffer):
            self.reads.append((self.tell(), len(buffer)))
            return super().readinto(buffer)

    with Counting(path, "rb") as counting, h5py.File(counting, "r") as file:
        units, span, warnings, _ = describe_units(file, "m.nwb", read_spikes=False, trial_span=(0.0, 10.0))
    assert units.n_spikes == [n // 3, n // 2 - n // 3, n - n // 2]
    np.testing.assert_allclose(units.rates, np.array(units.n_spikes) / 10)
    assert (span, warnings) == ((0.0, 10.0), [])
    assert Counting.reads
    assert not any(first < at + size and at < last for at, size in Counting.reads)


def test_json_holds_every_key_for_every_file_and_no_nan(tmp_path):
    nan = np.full(40, np.nan)
    good = mock_session(tmp_path / "a.nwb", unit_columns={"depth": [np.nan, 1, 2, 3, 4]}, columns={"x_time": nan})
    bare = mock_session(tmp_path / "b.nwb")
    with h5py.File(bare, "r+") as file:
        del file["intervals"]
        file["units/spike_times"][...] = np.nan
    (tmp_path / "c.nwb").write_text("no file")
    found = describe_all(str(tmp_path / "*.nwb"))
    text = to_json(found)
    files = json.loads(text, parse_constant=no_constant)["files"]
    assert all(one.keys() == FILE_KEYS for one in files)
    assert all(one["units"].keys() == UNIT_KEYS for one in files[:2])
    assert files[0]["tables"][0].keys() == {"name", "n_rows", "duration_s", "columns", "align"}
    columns = files[0]["tables"][0]["columns"] + files[0]["units"]["columns"]
    assert all(one.keys() == {"name", "kind", "levels", "summary"} for one in columns)
    assert [bool(one["error"]) for one in files] == [False, False, True]
    assert files[0]["suggestion"]["align"] == "cue_time"
    assert files[0]["tables"][0]["align"] == {"start_time": 40, "stop_time": 40, "cue_time": 40, "x_time": 0}
    assert files[0]["tables"][0]["duration_s"]["median"] == pytest.approx(1.5)
    assert files[1]["units"]["rates_hz"] == [None] * 5
    assert files[2]["units"] is None
    table = format_table(found).splitlines()
    assert len(table) == 5
    assert [line.split()[0] for line in table[1:]] == ["5", "5", "–", "3"]
    assert "is not HDF5" in table[3]
    assert format_description(found[1])
    assert describe(good).path == str(good)


def test_the_map_of_a_session_agrees_with_a_slow_loop(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=4, obs_intervals=True)
    found = session_map(path, n_bins=7)
    edges = found["edge"].values
    with h5py.File(path) as file:
        times, bounds = file["units/spike_times"][()], [0, *file["units/spike_times_index"][()]]
        obs, rows = file["units/obs_intervals"][()], [0, *file["units/obs_intervals_index"][()]]
    for k in range(4):
        spikes, intervals = times[bounds[k] : bounds[k + 1]], obs[rows[k] : rows[k + 1]]
        for j in range(7):
            low, high = edges[j], edges[j + 1]
            seconds = sum(max(min(stop, high) - max(start, low), 0) for start, stop in intervals)
            n = sum(low <= t < high or (j == 6 and t == high) for t in spikes)
            expected = n / seconds if seconds > 0 else np.nan
            np.testing.assert_allclose(found["rate"].values[k, j], expected, rtol=1e-9)
    np.testing.assert_allclose(found["mean_rate"], describe(path).units.rates, rtol=1e-9)
    assert list(found["event"].values) == ["cue_time"]


def test_a_session_without_trials_or_spikes_has_a_map_or_a_reason(tmp_path):
    path = mock_session(tmp_path / "m.nwb")
    with h5py.File(path, "r+") as file:
        del file["intervals"]
    assert "start_time" not in session_map(path)
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][...] = np.nan
    with (
        pytest.warns(UserWarning, match="not numbers"),
        pytest.raises(NWBError, match="neither spikes nor trials"),
    ):
        session_map(path)


def test_event_series_are_candidates_to_align_to(tmp_path):
    path = mock_session(tmp_path / "events.nwb")
    with h5py.File(path, "r+") as file:
        cues = file["intervals/trials/cue_time"][:]
        file["acquisition/cues/timestamps"] = cues
        file["processing/behavior/licks/timestamp"] = cues
        file["acquisition/raw/data"] = np.zeros((10, 2))
        file["acquisition/raw/starting_time"] = 0.0
    assert describe(path).events == ("acquisition/cues", "processing/behavior/licks")
    shown = format_description(describe(path))
    assert "align to events of each trial: acquisition/cues, processing/behavior/licks\n" in shown
    assert json.loads(to_json([describe(path)]))["files"][0]["events"] == list(describe(path).events)
    for name in describe(path).events:
        assert read_trials(path, align=name, window_s=(0, 1), bin_s=0.1).attrs["n_trials_dropped_align"] == 0


def test_times_in_milliseconds_are_a_warning(tmp_path):
    path = mock_session(tmp_path / "ms.nwb")
    assert not describe(path).warnings
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][...] = file["units/spike_times"][...] * 1000
    (warning,) = describe(path).warnings
    assert re.search(r"e\+03.*milliseconds or samples", warning)
