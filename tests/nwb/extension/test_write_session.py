"""Sessions of `write_session`: valid, also by nwbinspector, the same when read back, and complete or absent."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pynwb
import pytest
from nwbinspector import Importance, inspect_nwbfile

from nwb_lint import read_trials
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.testing import mock_session

TRIALS = pd.DataFrame(
    {"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0], "side": ["left", None], "n": [1, 2], "x": [0.5, np.nan]}
)
SPIKES = [np.array([0.1, 0.2, 2.5]), np.array([]), np.array([2.25])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("obs", [False, True])
def test_a_session_is_valid_for_pynwb_and_nwbinspector(tmp_path, obs):
    path = mock_session(
        tmp_path / "m.nwb", obs_intervals=obs, unit_columns={"region": list("abcab"), "depth": np.arange(5.0)}
    )
    assert pynwb.validate(path=str(path)) == []
    bad = (Importance.CRITICAL, Importance.BEST_PRACTICE_VIOLATION, Importance.ERROR)
    found = inspect_nwbfile(nwbfile_path=str(path), skip_validate=True)  # validated above
    assert [m.message for m in found if m.importance in bad] == []


def test_pynwb_reads_what_was_written(tmp_path):
    obs = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[0.0, 3.0]]), np.zeros((0, 2))]
    path = write_session(
        tmp_path / "s.nwb", SPIKES, TRIALS, unit_ids=[5, 1, 9], unit_columns={"good": [True, False, True]},
        obs_intervals=obs, descriptions={"side": "Which side."}, session_id="a1",
    )  # fmt: skip
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        assert file.session_id == "a1"
        assert file.subject.species == "Mus musculus"
        units = file.units
        assert units.id[:].tolist() == [5, 1, 9]
        for k, times in enumerate(SPIKES):
            np.testing.assert_array_equal(units["spike_times"][k], times)
            np.testing.assert_array_equal(units["obs_intervals"][k], obs[k])
        assert units["good"][:].tolist() == [True, False, True]
        table = file.trials.to_dataframe()
        assert list(table.columns) == list(TRIALS.columns)
        assert table["side"].tolist() == ["left", "N/A"]
        np.testing.assert_array_equal(table["x"], TRIALS["x"])
        assert file.trials["side"].description == "Which side."


def test_our_reader_reads_what_was_written(tmp_path):
    path = write_session(tmp_path / "s.nwb", SPIKES, TRIALS)
    found = read_trials(path, align="start_time", window_s=(0, 1), bin_s=0.25)
    assert found["count"].values.sum(axis=1).tolist() == [[2, 0, 0], [1, 0, 1]]
    assert found["count"].sel(neuron="2").values.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert found["side"].values.tolist() == ["left", "N/A"]


def test_the_same_session_has_the_same_identifier(tmp_path):
    def identifier(name, **change):
        path = write_session(tmp_path / name, SPIKES, TRIALS.assign(**change))
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            return io.read().identifier

    assert identifier("a.nwb") == identifier("b.nwb") != identifier("c.nwb", n=[3, 4])


def test_a_demo_sized_session_takes_less_than_five_seconds(tmp_path):
    rng = np.random.default_rng(0)
    spikes = [np.sort(rng.uniform(0, 1400, 20000)) for _ in range(200)]
    start = 2.0 * np.arange(600)
    before = time.perf_counter()
    write_session(tmp_path / "s.nwb", spikes, pd.DataFrame({"start_time": start, "stop_time": start + 1}))
    assert time.perf_counter() - before < 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spike_times": []}, "at least one unit"),
        ({"spike_times": [np.array([2.0, 1.0])]}, "unit 0 are not sorted"),
        ({"spike_times": [np.array([np.nan])]}, "unit 0 are not finite"),
        ({"trials": TRIALS.drop(columns="stop_time")}, "no stop_time"),
        ({"trials": TRIALS[:0]}, "no rows"),
        ({"trials": TRIALS.assign(odd=[{}, 1])}, "odd holds {}"),
        ({"unit_ids": [1, 1, 2]}, "2 different ids for 3 units"),
        ({"unit_ids": ["a", "b", "c"]}, "unit_ids holds a.*whole numbers"),
        ({"unit_ids": [1, 1.5, 2]}, "unit_ids holds 1.*whole numbers"),
        ({"unit_columns": {"region": ["a"]}}, "column region has 1 values for 3"),
        ({"obs_intervals": [np.zeros((1, 2))]}, "obs_intervals is a list of 1"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(tmp_path, change, words):
    with pytest.raises(ContractError, match=words):
        write_session(tmp_path / "s.nwb", **{"spike_times": SPIKES, "trials": TRIALS} | change)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_with_overwrite(tmp_path):
    path = write_session(tmp_path / "s.nwb", SPIKES, TRIALS)
    with pytest.raises(NWBError, match="overwrite=True"):
        write_session(path, SPIKES, TRIALS)
    write_session(path, SPIKES, TRIALS, overwrite=True)
    with pytest.raises(NWBError, match="folder"):
        write_session(tmp_path / "no" / "s.nwb", SPIKES, TRIALS)
