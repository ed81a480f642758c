"""Bad files, each reported in one line: what was found, what was needed; nothing else ever escapes."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_lint import fit_lint, fit_trials, open_nwb, read_conditions, read_trials
from nwb_lint.errors import ContractError, MissingFileError, NWBError
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description
from nwb_lint.nwb.storage.digests import digest
from nwb_lint.parallel import memory
from nwb_lint.testing import mock_activity, mock_session, mock_trials
from tests.nwb.corruption import REQUESTS, SERIES, write_recording
from tests.nwb.server import RangeServer

HOW = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.1}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("good") / "good.nwb", unit_columns={"region": list("abcab")})


@pytest.fixture
def path(good, tmp_path):
    return Path(shutil.copy(good, tmp_path / "bad.nwb"))


def refused(source, words, error=NWBError, **change):
    with pytest.raises(error, match=words) as found:
        read_conditions(source, **HOW | change)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600
    if "by" not in change:
        with pytest.raises(error):
            read_trials(source, **{k: v for k, v in (HOW | change).items() if k != "by"})


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def test_files_that_are_no_nwb_files(tmp_path, good):
    refused(tmp_path / "none.nwb", r"none\.nwb: no such file")
    refused(str(tmp_path / "*.nwb"), "no file matches")
    refused(tmp_path, "is a folder")
    text = tmp_path / "text.nwb"
    text.write_text("spikes\n")
    refused(text, "is not HDF5")
    empty = tmp_path / "empty.nwb"
    empty.touch()
    refused(empty, "0 bytes")
    short = tmp_path / "short.nwb"
    short.write_bytes(good.read_bytes()[:-2000])
    refused(short, "is truncated")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["spikes"] = [1.0]
    refused(other, "is HDF5 but not NWB: it has no nwb_version and holds spikes")
    for address in ("ftp://x.org/a.nwb", "gs://b/a.nwb", "https:/x.org/a.nwb"):
        refused(address, "kind that is not supported.*dandi://, http://, https://, s3://")
    refused("s3://bucket", "names no object")
    for address in ("dandi://128/a.nwb", "dandi://"):
        refused(address, "names no file of a dandiset")
    for call in (open_nwb, digest):
        for missing in (tmp_path / "none.nwb", str(tmp_path / "none*.nwb")):
            with pytest.raises(MissingFileError, match=r"no such file|no file matches"):
                call(missing)
    with open_nwb(good) as file, pytest.raises((ValueError, KeyError, OSError)):
        file.create_group("x")


def test_lists_of_files(tmp_path, good):
    with pytest.raises(ContractError, match="sources is empty"):
        read_conditions([], **HOW)
    with pytest.raises(ContractError, match="listed twice"):
        read_conditions([good, good], **HOW)
    for odd in (None, 3, b"good.nwb", [good, None]):
        with pytest.raises(ContractError, match=r"source is .*path, an address, or a list"):
            read_conditions(odd, **HOW)


def drop(*names):
    def change(file):
        for name in names:
            del file[name]

    return change


def set_values(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("units"), "has no units table"),
        (drop("units/spike_times"), "no spike_times .*region"),
        (drop("units/spike_times_index"), "no spike_times_index"),
        (drop("intervals/trials"), "no interval table 'trials'.*no interval tables"),
        (drop("intervals"), "no interval tables"),
        (lambda f: f.move("intervals/trials", "intervals/stimuli"), r"stimuli \(40 rows\).*table="),
        (set_values("units/id", np.zeros(0, int)), "the table has no rows"),
        (set_values("units/spike_times_index", [9, 3, 4, 5, 6]), r"index .* falls from 9 to 3 at row 1\. .*rising"),
        (set_values("units/spike_times_index", [1, 2, 3, 4, 10**6]), "index .* is 1000000 for row 4"),
        (set_values("units/spike_times", np.array([b"a"] * 9000)), "spike_times .*[Nn]umbers"),
        (set_values("intervals/trials/id", np.zeros(0, int)), "has no rows"),
        (set_values("intervals/trials/cue_time", np.full(40, np.nan)),
         r"none of 40 trials has a number in cue_time.*start_time \(40\), stop_time \(40\)"),
        (set_values("intervals/trials/cue_time", np.full(40, b"N/A")), "none of 40 trials has a number"),
        (set_values("intervals/trials/cue_time", np.arange(40.0) + 5000), "far outside of its own trial in 40 of 40"),
        (set_values("intervals/trials/cue_time", np.arange(40.0) * 1e6 + 1e6), "far outside.* trials start at 1"),
        (set_values("intervals/trials/cue_time", np.zeros((40, 2))), "one time per trial.*align_which"),
        (set_values("intervals/trials/cue_time", np.zeros(7)), "has 7 values for 40 rows"),
        (set_values("intervals/trials/side", np.full(40, b"N/A")), r"missing: side \(40\)"),
        (lambda f: f.create_dataset("intervals/trials/side_index", data=np.arange(40)), "side .* is ragged"),
    ],
)  # fmt: skip
def test_files_that_lack_what_is_needed(path, change, words):
    edit(path, change)
    with pytest.raises(NWBError, match=words) as found:
        read_conditions(path, **HOW)
    assert "\n" not in str(found.value)
    assert format_description(describe(path))  # a bad file is described, not refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"align": "go_time"}, "no column 'go_time' for align.*start_time, stop_time, cue_time"),
        ({"align": "correct"}, "correct of .* align needs times.*start_time"),
        ({"by": ["sides"]}, "no column 'sides'; it has start_time, .*side"),
        ({"where": "sides == 'left'"}, "no column 'sides'; it has"),
        ({"where": "side == 'up'"}, "0 of 40 trials satisfy where="),
        ({"where": "side > 3"}, r"side holds texts \('left', 'right'\)"),
        ({"by": {"side": "rank"}}, r"side of .*texts \('left', 'right'\).*[Nn]umbers"),
        ({"units": [0, 77]}, "ids that are not in .*: 77"),
        ({"units": "region == 'z'"}, "selects none of the units"),
        ({"units": "depth > 1"}, "no column 'depth'"),
        ({"units": []}, "selects none"),
        ({"window_s": (900, 901)}, r"no window meets the recording: .* span .*–.* s, the windows 90"),
        ({"table": "epochs"}, r"no interval table 'epochs'.*trials \(40 rows\)"),
        ({"min_trials": 99}, "all 5 units have fewer than 99 trials in some condition"),
        ({"unit_columns": ["depth"]}, "no column 'depth'"),
    ],
)
def test_requests_that_a_file_cannot_answer(path, change, words):
    if {"min_trials", "unit_columns"} & set(change):
        change = {"by": ["side"], **change}
    refused(path, words, **change)


def test_queries_never_run_code(path, tmp_path):
    mark = tmp_path / "mark"
    refused(path, "is refused", ContractError, where=f"open({str(mark)!r}, 'w') == 1")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["units/id", "intervals/trials/id", "intervals/trials/side"])
def test_a_small_file_that_claims_a_hundred_million_rows(path, name):
    """Chunks that were never written take no bytes."""

    def change(file):
        about, kind = dict(file[name].attrs), file[name].dtype
        del file[name]
        file.create_dataset(name, shape=(10**8,), dtype=kind, chunks=(10**6,), compression="gzip").attrs.update(about)

    edit(path, change)
    assert path.stat().st_size < 2e6
    refused(path, "has 100000000")
    assert format_description(describe(path))


def test_samples_that_a_rate_cannot_hold_are_refused(tmp_path):
    write_recording(tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        file[SERIES]["data"][:, 1] = -1e200
    with pytest.raises(NWBError, match=r"holds 5e\+199\. Numbers up to 3\.4e\+38"):
        read_conditions(tmp_path / "a.nwb", **REQUESTS["mean samples"].how)


def test_milliseconds_are_warned_of_if_windows_still_meet_the_recording(path):
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][...] = file["units/spike_times"][()] * 1000
    with pytest.warns(UserWarning, match="milliseconds or samples"):
        read_trials(path, align="cue_time", window_s=(0, 1), bin_s=0.1)


def test_one_condition_alone_can_be_read(path):
    found = read_conditions(path, **HOW, where="side == 'left'")
    assert list(found["condition"].values) == ["side=left"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_damaged_bytes_are_read_or_reported(good, tmp_path, damage):
    content = bytearray(good.read_bytes())
    for at, value in damage:
        content[int(at * len(content))] = value
    path = tmp_path / "damaged.nwb"
    path.write_bytes(bytes(content))
    words = ""
    try:
        read_conditions(path, **HOW)
    except (NWBError, ContractError) as error:
        words = str(error)
    assert "\n" not in words


@pytest.mark.parametrize("remote", [False, True])
def test_zeroed_bytes_in_a_heap_are_an_error_and_no_endless_loop(path, remote, tmp_path, monkeypatch):
    """HDF5 reads such a heap for ever, and holds the lock of Python meanwhile."""
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(content)
    if not remote:
        refused(path, r"bad\.nwb is damaged at byte \d+: a part of a heap has no length")
        return
    with RangeServer({"/bad.nwb": path}) as server:
        refused(f"{server.url}/bad.nwb", "cannot be opened|a part of a heap has no length")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window_s": (-1e9, 1e9), "bin_s": 1e-4}, r"window_s of 2e\+13 bins needs .* GB of memory"),
        ({"window_s": (0, 1e4), "bin_s": 0.001}, r"activity of 5 units in .* 10000000 bins needs .* GB"),
    ],
)
def test_memory_is_asked_for_before_it_is_taken(path, change, words, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 3.5e8)
    with pytest.raises(ContractError, match=words):
        read_conditions(path, **HOW | change)
    with pytest.raises(ContractError, match=words.replace("activity of 5 units in", "")):
        read_trials(path, **{k: v for k, v in (HOW | change).items() if k != "by"})


def test_values_that_fill_the_memory_are_refused(path, monkeypatch):
    """A compressed index of 1e8 rows is 100 kB on disk."""
    with h5py.File(path, "r+") as file:
        del file["units/spike_times_index"]
        how = {"chunks": (1 << 20,), "compression": "gzip", "dtype": "i8"}
        file.create_dataset("units/spike_times_index", (10**8,), **how)
    refused(path, "100000000 ends for 5 rows")
    with h5py.File(path, "r+") as file:
        del file["units/id"]
        file.create_dataset("units/id", (9 * 10**6,), **how)
    monkeypatch.setattr(memory, "free_bytes", lambda: 5e7)
    refused(path, r"/units/id of .* needs 0\.072 GB of memory, and 0\.05 GB are free")


@pytest.mark.parametrize("hidden", [10**6, 10**5])  # the activity is more than is free, or the regression alone is
def test_hidden_units_ask_for_their_memory(hidden, monkeypatch):
    monkeypatch.setattr("nwb_lint.parallel.memory.free_bytes", lambda: 1e9)
    with pytest.raises(ContractError, match=rf"hidden={hidden} units in .* needs .* GB of memory, and 1 GB are free"):
        fit_lint(mock_activity(), rank=1, tau_s=0.1, hidden=hidden)
    monkeypatch.setattr("nwb_lint.parallel.memory.free_bytes", lambda: 2e7)
    with pytest.raises(ContractError, match=rf"hidden={hidden} units in .* needs .* GB of memory"):
        fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=hidden)
