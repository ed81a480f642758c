"""Series as files store them: factors of channels, transposed data, and timestamps that are not one a sample."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from nwb_lint import read_conditions, read_trials
from nwb_lint.errors import NWBError
from tests.nwb.layouts import N_TRIALS, Session

RATE_HZ, N_SAMPLES, N_CELLS = 20.0, 460, 5
HOW = {"series": "acquisition/signal", "align": "start_time", "window_s": (-0.2, 0.6), "bin_s": 0.2}
STORED = np.random.default_rng(5).integers(-100, 100, (N_SAMPLES, N_CELLS)).astype(np.int16)


@pytest.fixture
def session(tmp_path):
    made = Session(tmp_path / "s.nwb")
    made.put_table(side=["left", "right"] * (N_TRIALS // 2))
    return made


def put_series(session, data, *, at="acquisition/signal", times=None, rois=None, **attrs):
    session.put(f"{at}/data", data, **{"unit": "volts", **attrs})
    if times is None:
        session.put(f"{at}/starting_time", 0.0, rate=RATE_HZ)
    else:
        session.put(f"{at}/timestamps", times)
    if rois is not None:
        session.put("processing/ophys/cells/id", 10 + np.arange(rois))
        session.put(f"{at}/rois", np.arange(rois))
        with h5py.File(session.path, "r+") as file:
            file[f"{at}/rois"].attrs["table"] = file["processing/ophys/cells"].ref


def slow_means(session, values):
    """Mean samples (trial, time, neuron), one bin at a time."""
    found = np.full((N_TRIALS, 4, values.shape[1]), np.nan)
    for trial, start in enumerate(session.start):
        for b in range(4):
            inside = [row for k, row in enumerate(values) if 0 <= round((k / RATE_HZ - start + 0.2) / 0.2, 9) - b < 1]
            found[trial, b] = np.mean(inside, axis=0)
    return found


@pytest.mark.parametrize("chunks", [None, (50, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_factors_of_channels_conversion_and_offset_are_applied(session, dtype, chunks):
    put_series(session, STORED, conversion=1e-3, offset=0.25)
    gains = np.array([1, 2, 5, 10, 3], dtype)
    with h5py.File(session.path, "r+") as file:
        if chunks:
            attrs = dict(file["acquisition/signal/data"].attrs)
            del file["acquisition/signal/data"]
            file.create_dataset("acquisition/signal/data", data=STORED, chunks=chunks).attrs.update(attrs)
        file["acquisition/signal/channel_conversion"] = gains
        file["acquisition/signal/channel_conversion"].attrs["axis"] = 1
    want = slow_means(session, STORED * gains * 1e-3 + 0.25)
    np.testing.assert_allclose(read_trials(session.path, **HOW)["rate"], want, rtol=1e-5, atol=1e-7)
    some = read_trials(session.path, **HOW, units=[3, 1])
    np.testing.assert_allclose(some["rate"], want[..., [3, 1]], rtol=1e-5, atol=1e-7)
    means = read_conditions(session.path, **HOW, by="side")["rate"]
    np.testing.assert_allclose(means, [want[0::2].mean(axis=0), want[1::2].mean(axis=0)], rtol=1e-4, atol=1e-7)


def test_one_channel_has_one_factor(session):
    put_series(session, STORED[:, 0], conversion=2.0)
    session.put("acquisition/signal/channel_conversion", [3.0])
    want = slow_means(session, 6.0 * STORED[:, :1])
    np.testing.assert_allclose(read_trials(session.path, **HOW)["rate"], want, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "attrs"),
    [("channel_conversion", np.ones(4), {}), ("channel_conversion", np.ones((5, 2)), {}),
     ("channel_conversion", np.ones(5), {"axis": 0}), ("channel_conversion", ["a"] * 5, {}),
     ("data", STORED, {"conversion": np.nan}), ("data", STORED, {"conversion": 0.0}),
     ("data", STORED, {"conversion": "one"}), ("data", STORED, {"offset": np.inf})],
)  # fmt: skip
def test_factors_that_are_none_are_refused_by_name(session, name, value, attrs):
    put_series(session, STORED)
    session.put(f"acquisition/signal/{name}", value, **attrs)
    with pytest.raises(NWBError, match=next(iter(attrs)) if name == "data" else "channel_conversion"):
        read_trials(session.path, **HOW)


@pytest.mark.parametrize("chunks", [None, (2, 50)])
def test_regions_by_time_are_read_if_regions_and_timestamps_show_it(session, chunks):
    put_series(session, STORED.T, times=np.arange(N_SAMPLES) / RATE_HZ, rois=N_CELLS, conversion=0.5)
    if chunks:
        with h5py.File(session.path, "r+") as file:
            del file["acquisition/signal/data"]
            stored = file.create_dataset("acquisition/signal/data", data=STORED.T, chunks=chunks)
            stored.attrs.update(unit="volts", conversion=0.5)
    found = read_trials(session.path, **HOW)
    np.testing.assert_allclose(found["rate"], slow_means(session, 0.5 * STORED), rtol=1e-5)
    assert found["unit_id"].values.tolist() == [10, 11, 12, 13, 14]


def test_regions_by_time_are_refused_with_the_reason_if_only_one_shows_it(session):
    put_series(session, STORED.T, rois=N_CELLS)
    with pytest.raises(NWBError, match=r"shape \(5, 460\) and 5 rois: they seem to be transposed"):
        read_trials(session.path, **HOW)
    session.put("acquisition/plain/data", STORED.T, unit="volts")
    session.put("acquisition/plain/timestamps", np.arange(N_SAMPLES) / RATE_HZ)
    with pytest.raises(NWBError, match=r"460 timestamps for 5 samples.*shape \(5, 460\) are not \(time, neuron\)"):
        read_trials(session.path, **HOW | {"series": "acquisition/plain"})


def test_as_many_regions_as_samples_are_read_as_the_schema_says(session):
    put_series(session, STORED[:, :1] * np.ones((1, N_SAMPLES)), rois=N_SAMPLES)
    assert read_trials(session.path, **HOW).sizes["neuron"] == N_SAMPLES


CLOCK = np.arange(N_SAMPLES) / RATE_HZ


@pytest.mark.parametrize("times", [np.stack([CLOCK, CLOCK + 0.05]), np.stack([CLOCK, CLOCK], axis=1)])
def test_timestamps_of_two_clocks_are_refused_for_reading_and_for_alignment(session, times):
    put_series(session, STORED, times=times)
    shape = str(times.shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(NWBError, match=f"timestamps of shape {shape}.*one clock"):
        read_trials(session.path, **HOW)
    with pytest.raises(NWBError, match=f"timestamps of shape {shape}.*one clock"):
        read_trials(session.path, align="signal", window_s=(0, 0.4), bin_s=0.2)


def test_timestamps_need_to_be_as_many_as_samples_and_may_be_one_row(session):
    put_series(session, STORED[:-7], times=CLOCK)
    for how in (HOW, {"align": "signal", "window_s": (0, 0.4), "bin_s": 0.2}):
        with pytest.raises(NWBError, match=r"460 (timestamps for|times and data of) .*\(453, 5\)"):
            read_trials(session.path, **how)
    put_series(session, STORED, times=CLOCK[None])
    put_series(session, STORED, at="acquisition/same", times=CLOCK)
    other = read_trials(session.path, **HOW | {"series": "acquisition/same"})
    np.testing.assert_array_equal(read_trials(session.path, **HOW)["rate"], other["rate"])
