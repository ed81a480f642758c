"""Activity as a time series: what a network did comes back, and every bin is what a slow loop makes of it."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pandas as pd
import pynwb
import pytest
from click.testing import CliRunner
from nwbinspector import Importance, inspect_nwbfile
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel

from nwb_lint import Input, fit_lint, prepare, read_conditions, read_fit, read_trials, write_fit
from nwb_lint.cli import app
from nwb_lint.contract.checks import check_recording
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.extension.write_session import Samples, write_session
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description, to_json
from nwb_lint.nwb.inspection.suggest import suggest
from nwb_lint.nwb.recording.series import open_series
from nwb_lint.nwb.storage.digests import with_digests
from nwb_lint.tasks.generate import DT_S
from nwb_lint.tasks.record import SERIES, record_activity, record_session
from nwb_lint.tasks.train import train_network
from nwb_lint.workflow.recipe import load_recipe
from tests.nwb.server import RangeServer
from tests.nwb.storage.test_zarr import to_zarr

STARTS = np.array([1.0, 4.0, 7.0, 10.0, 13.0, 16.0])
TRIALS = pd.DataFrame(
    {"start_time": STARTS, "stop_time": STARTS + 2, "late": STARTS + 0.73, "side": ["left", "right", "left"] * 2}
)
HOW = {"align": "start_time", "window_s": (-0.5, 1.5), "bin_s": 0.25}


@pytest.fixture(scope="module")
def network():
    return train_network("dm", n_neurons=24, rank=1, seed=1, accuracy=0.9)


@pytest.fixture(scope="module")
def imaged(tmp_path_factory):
    """A session with dF/F of four of five regions of interest, sampled regularly, stored in thousandths."""
    path = tmp_path_factory.mktemp("series") / "imaged.nwb"
    file = pynwb.NWBFile("imaging", "imaged", pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime())
    for name in ("late", "side"):
        file.add_trial_column(name, f"{name} of the trial")
    for row in TRIALS.to_dict("records"):
        file.add_trial(**row)
    device = file.create_device("microscope")
    light = OpticalChannel(name="green", description="green", emission_lambda=510.0)
    plane = file.create_imaging_plane(
        name="plane", optical_channel=light, description="a plane", device=device, excitation_lambda=920.0,
        indicator="GCaMP", location="V1",
    )  # fmt: skip
    module = file.create_processing_module("ophys", "imaging")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    cells = segmentation.create_plane_segmentation(name="cells", description="cells", imaging_plane=plane)
    cells.add_column("depth", "depth of the cell, um")
    for k in range(5):
        cells.add_roi(id=10 + k, pixel_mask=[(k, k, 1.0)], depth=100.0 * k)
    region = cells.create_roi_table_region(region=[4, 0, 2, 1], description="those that were active")
    values = np.random.default_rng(3).standard_normal((400, 4))
    values[70:80, 1] = np.nan
    change = DfOverF()
    module.add(change)
    change.create_roi_response_series(
        name="dff", data=values, rois=region, unit="n.a.", rate=20.0, starting_time=0.5, conversion=0.001
    )
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path, 0.5 + np.arange(400) / 20, 0.001 * values


def slow_means(times, values, origins, window, width, limits=None):
    """The mean of the samples in each bin of each trial, one by one; NaN where there is none."""
    n = round((window[1] - window[0]) / width)
    out = np.full((len(origins), n, values.shape[1]), np.nan)
    for trial, origin in enumerate(origins):
        for k in range(n):
            low, high = origin + window[0] + k * width, origin + window[0] + (k + 1) * width
            if limits is not None and not (limits[0][trial] <= low + 1e-6 and high <= limits[1][trial] + 1e-6):
                continue
            inside = values[(times >= low - 1e-7) & (times < high - 1e-7)]
            for neuron in range(values.shape[1]):
                known = inside[np.isfinite(inside[:, neuron]), neuron]
                out[trial, k, neuron] = known.mean() if len(known) else np.nan
    return out


@pytest.mark.parametrize("steps", [1, 5])
def test_a_recorded_network_comes_back(tmp_path, network, steps):
    path = record_session(network, tmp_path / "n.nwb", 12, spikes=False, seed=2)
    activity = record_activity(network, 12, seed=2)
    x = activity["activity"].values
    n = x.shape[1] // steps * steps
    how = {"align": "start_time", "window_s": (0, n * DT_S), "bin_s": steps * DT_S, "series": SERIES}
    found = read_trials(path, **how)
    means = x[:, :n].reshape(12, n // steps, steps, 24).mean(axis=2)
    np.testing.assert_allclose(found["rate"].values, means, rtol=1e-5, atol=1e-6)
    assert found["rate"].dtype == np.float32
    np.testing.assert_array_equal(found["coherence"], activity["coherence"])
    recording = read_conditions(path, by=["answer"], **how)
    check_recording(recording)
    for k, answer in enumerate(recording["answer"].values):
        some = activity["answer"].values == answer
        np.testing.assert_allclose(recording["rate"].values[k], means[some].mean(axis=0), rtol=1e-4, atol=1e-5)
        assert (recording["n_trials"].values[k] == some.sum()).all()
    assert recording["rate"].attrs["units"] == "a.u."


@pytest.mark.filterwarnings("ignore:.*of the rates are NaN")
@pytest.mark.parametrize("within", [None, ("start_time", "late")])
def test_every_bin_is_the_mean_of_its_samples(tmp_path, within):
    rng = np.random.default_rng(0)
    times = np.sort(np.round(rng.uniform(0, 18, 900), 2))  # on edges too
    values = np.where(rng.random((900, 3)) < 0.1, np.nan, rng.standard_normal((900, 3)))
    path = write_session(tmp_path / "s.nwb", [], TRIALS, series={"a": Samples(times, values)})
    limits = None if within is None else [TRIALS[name].to_numpy() for name in within]
    slow = slow_means(times, values, STARTS, HOW["window_s"], HOW["bin_s"], limits)
    found = read_trials(path, series="processing/ecephys/a", within=within, **HOW)
    np.testing.assert_allclose(found["rate"].values, slow, rtol=1e-5, atol=1e-6)
    recording = read_conditions(path, by=["side"], series="a", within=within, missing="keep", halves=True, **HOW)
    for k, side in enumerate(recording["side"].values):
        some = STARTS[TRIALS["side"] == side]
        kept = np.isfinite(slow[TRIALS["side"] == side]).any(axis=0)
        np.testing.assert_array_equal(np.isfinite(recording["rate"].values[k]), kept)
        if within is None:  # trials pooled: every sample counts alike
            times_of, pooled = np.concatenate([times - origin for origin in some]), np.tile(values, (len(some), 1))
            whole = slow_means(times_of, pooled, np.zeros(1), HOW["window_s"], HOW["bin_s"])
            np.testing.assert_allclose(recording["rate"].values[k], whole[0], rtol=1e-4, atol=1e-5)
    trials = recording["n_trials_half"].sum("half")
    np.testing.assert_array_equal(trials, recording["n_trials"])


@pytest.mark.parametrize("block_values", [1, 40, 1 << 22])
def test_blocks_of_samples_are_those_of_the_file(imaged, block_values):
    path, _, values = imaged
    with h5py.File(path) as file:
        series = open_series(file, "dff", path)
        index = np.r_[0:30, 50, 50, 90:120]
        found = np.full((len(index), len(series)), np.inf)
        for part, first, block in series.blocks(index, block_values):
            assert block.size <= max(block_values, len(series) * (series.data.chunks or (1,))[0])
            found[part] = block[index[part] - first]
        np.testing.assert_allclose(found, values[index], rtol=1e-6)


def test_a_part_of_the_file_gives_a_part_of_the_whole(imaged):
    path = imaged[0]
    whole = read_trials(path, series="dff", **HOW)
    some = read_trials(path, series="dff", units=[12, 14], where="side == 'left'", **HOW)
    assert some["unit_id"].values.tolist() == [12, 14]
    left = np.flatnonzero(TRIALS["side"] == "left")
    np.testing.assert_array_equal(some["rate"].values, whole["rate"].values[left][..., [2, 0]])


def test_imaged_cells_have_their_ids_columns_and_unit(imaged):
    path, times, values = imaged
    assert pynwb.validate(path=str(path)) == []
    slow = slow_means(times, values, STARTS, HOW["window_s"], HOW["bin_s"])
    found = read_trials(path, series="dff", **HOW)
    np.testing.assert_allclose(found["rate"].values, slow, rtol=1e-5, atol=1e-9)
    assert np.isnan(slow[..., 1]).any()
    assert found["unit_id"].values.tolist() == [14, 10, 12, 11]
    recording = read_conditions(
        path, by=["side"], series="processing/ophys/DfOverF/dff", units="depth < 250", unit_columns=["depth"], **HOW
    )
    assert recording["unit_id"].values.tolist() == [10, 12, 11]
    assert recording["depth"].values.tolist() == [0.0, 200.0, 100.0]
    assert recording["rate"].attrs["units"] == "n.a."


def test_invalid_times_are_not_observed(tmp_path):
    times = np.arange(0, 18, 0.05)
    path = write_session(tmp_path / "s.nwb", [], TRIALS, series={"a": Samples(times, np.ones((len(times), 2)))})
    with pynwb.NWBHDF5IO(str(path), "a") as io:
        file = io.read()
        file.add_invalid_time_interval(start_time=0.0, stop_time=1.2)
        io.write(file)
    rate = read_trials(path, series="a", **HOW)["rate"].values
    assert np.isnan(rate[0, :3]).all()
    assert (rate[0, 3:] == 1).all()
    assert (rate[1:] == 1).all()


def test_a_warped_series_is_read_at_its_own_time(tmp_path):
    """A ramp between two events is the same ramp in every trial once time is stretched to the median interval."""
    lasts = np.array([0.5, 1.0, 1.5])
    start = np.array([1.0, 4.0, 7.0])
    trials = pd.DataFrame({"start_time": start, "stop_time": start + 2, "end": start + lasts, "side": ["a"] * 3})
    times = np.arange(0, 10, 0.001)
    trial = np.clip(np.searchsorted(start, times, side="right") - 1, 0, 2)
    values = np.clip((times - start[trial]) / lasts[trial], 0, 1)[:, None]
    path = write_session(tmp_path / "s.nwb", [], trials, series={"a": Samples(times, values)})
    how = {"align": "start_time", "warp": ("start_time", "end"), "window_s": (0, 1), "bin_s": 0.1, "series": "a"}
    found = read_trials(path, **how)
    assert "exposure_s" not in found
    np.testing.assert_allclose(found["rate"].values[..., 0], np.tile(np.arange(0.05, 1, 0.1), (3, 1)), atol=0.01)


def test_a_series_is_fitted_and_the_fit_keeps_its_unit(tmp_path, network):
    path = record_session(network, tmp_path / "n.nwb", 40, spikes=False)
    how = {"align": "start_time", "window_s": (0.1, 1.5), "bin_s": DT_S, "series": SERIES}
    recording = read_conditions(path, by=["coherence"], **how)
    given = [Input("coherence", column="coherence", window_s=(0.1, 0.9))]
    activity = prepare(recording, inputs=given, n_components=None, center=False, time_course=False, scale=1.0)
    fit = fit_lint(activity, rank=1, tau_s=0.1, test_size=0.2)
    assert fit["r2"].sel(split="held_out") > 0.9
    write_fit(fit, tmp_path / "fit.nwb")
    back = read_fit(tmp_path / "fit.nwb")
    assert back.identical(with_digests(fit))
    assert back["scale"].attrs["units"] == "a.u."
    done = CliRunner().invoke(
        app,
        ["fit", str(path), "--series", SERIES, "--by", "coherence", "--align", "start_time", "--window", "0.1", "1.5",
         "--bin", "0.02", "--rank", "1", "--test-size", "2", "--no-plot", "--out", str(tmp_path / "cli.nwb")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_fit(tmp_path / "cli.nwb").attrs["series"] == SERIES


def test_what_we_write_is_valid_and_listed(tmp_path, network, imaged):
    path = record_session(network, tmp_path / "n.nwb", 4, spikes=False)
    assert pynwb.validate(path=str(path)) == []
    bad = (Importance.CRITICAL, Importance.BEST_PRACTICE_VIOLATION, Importance.ERROR)
    found = inspect_nwbfile(nwbfile_path=str(path), skip_validate=True)  # validated above
    assert [m.message for m in found if m.importance in bad] == []
    found = describe(path)
    assert found.series == (f"processing/ecephys/{SERIES}",)
    assert found.events == ()
    assert any(f"as series=: processing/ecephys/{SERIES}" in warning for warning in found.warnings)
    assert f"activity as a time series: processing/ecephys/{SERIES}\n" in format_description(found)
    (plain,) = json.loads(to_json([describe(imaged[0])]))["files"]
    assert plain["series"] == ["processing/ophys/DfOverF/dff"]


def test_a_file_of_a_series_alone_gets_a_call_and_a_recipe_that_run(imaged, tmp_path):
    path = imaged[0]
    found = describe(path)
    assert found.suggestion == suggest(path) == {
        "by": ["side"], "align": "late", "window_s": [-0.5, 1.25], "bin_s": 0.05, "smooth_s": 0.0, "where": None,
        "table": "trials", "series": "processing/ophys/DfOverF/dff",
    }  # fmt: skip
    call = re.search(r"read_conditions\(.*\)", format_description(found), re.DOTALL)[0]
    recording = eval(call, {"read_conditions": read_conditions})
    assert recording["rate"].dims == ("condition", "time", "neuron")
    assert recording.sizes["neuron"] == 4
    (tmp_path / "recipe.toml").write_text(CliRunner().invoke(app, ["init", str(path)], catch_exceptions=False).stdout)
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert (recipe.read.series, recipe.read.smooth_s, recipe.read.bin_s) == (found.suggestion["series"], 0.0, 0.05)


@pytest.mark.parametrize(("step_s", "bin_s", "stop"), [(0.001, 0.01, 1.25), (0.033, 0.05, 1.25), (3.0, 0.5, 1.0)])
@pytest.mark.parametrize("listed", [False, True], ids=["rate", "timestamps"])
def test_bins_that_are_suggested_hold_a_sample(tmp_path, step_s, bin_s, stop, listed):
    n = round(18 / step_s) + 1
    times = np.arange(n) * step_s
    series = {"position": Samples(times, np.zeros((n, 2))), "denoised_dff": Samples(times, np.ones((n, 3)))}
    path = write_session(tmp_path / "s.nwb", [], TRIALS, series=series)
    with h5py.File(path, "r+") as file:
        group = file["processing/ecephys/denoised_dff"]
        for name in ("starting_time", "timestamps"):
            if name in group:
                del group[name]
        if listed:
            group["timestamps"] = times
        else:
            group["starting_time"] = 0.0
            group["starting_time"].attrs["rate"] = 1 / step_s
    found = suggest(path)
    assert found["series"] == "processing/ecephys/denoised_dff"  # not what moves
    assert (found["bin_s"], found["window_s"]) == (bin_s, [-0.5, stop])
    if step_s <= bin_s:
        assert not np.isnan(read_conditions(path, **found)["rate"]).any()


def test_units_go_before_a_series_unless_they_cannot_be_read(tmp_path):
    path = write_session(
        tmp_path / "s.nwb", [np.arange(0.0, 18, 0.1)], TRIALS, series={"a": Samples(np.arange(40.0), np.ones((40, 2)))}
    )
    assert "series" not in suggest(path)
    with h5py.File(path, "r+") as file:
        del file["units/spike_times"], file["units/spike_times_index"]
    assert suggest(path)["series"] == "processing/ecephys/a"
    with h5py.File(path, "r+") as file:
        del file["processing/ecephys/a"]
    with pytest.raises(NWBError, match="no spike_times"):
        suggest(path)
    assert describe(path).suggestion == {}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"series": "df"}, "no time series 'df'.*processing/ophys/DfOverF/dff"),
        ({"series": "dff", "units": [3]}, "units names ids that are not in"),
        ({"series": "dff", "units": "size > 1"}, "no column 'size'"),
        ({"series": "dff", "window_s": (100.0, 101.0)}, "no window meets the series.*0.5–20.45 s"),
        ({"series": "dff", "infer_obs": True}, "infer_obs is for spikes"),
        ({"series": 3}, "series is 3"),
        ({}, "has no units table.*or one of its series as series=: processing/ophys/DfOverF/dff"),
    ],
)
def test_what_cannot_be_read_is_reported(imaged, how, words):
    with pytest.raises((NWBError, ContractError), match=words):
        read_trials(imaged[0], **(HOW | how))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda g: g.create_dataset("timestamps", data=np.arange(3.0)), "3 timestamps for 40 samples: damaged"),
        (lambda g: g.create_dataset("timestamps", data=np.arange(40.0)[::-1]), "not ascending"),
        (lambda g: g.create_dataset("timestamps", data=np.full(40, b"1.5")), "timestamps .* text"),
        (lambda g: g.create_dataset("rois", data=np.arange(2)), "rois that do not suit its 2 columns"),
        (lambda g: g.create_dataset("data", data=np.array([b"a", b"b"])), "[Nn]umbers of .time, neuron."),
    ],
    ids=["timestamps", "order", "times of text", "rois", "text"],
)
def test_damaged_series_are_reported(tmp_path, damage, words):
    samples = Samples(np.arange(40.0), np.ones((40, 2)))
    path = write_session(tmp_path / "s.nwb", [], TRIALS, series={"a": samples})
    with h5py.File(path, "r+") as file:
        group = file["processing/ecephys/a"]
        for name in ("timestamps", "data", "rois"):
            if name in group and name in damage.__code__.co_consts:
                del group[name]
        damage(group)
    with pytest.raises(NWBError, match=words):
        read_trials(path, series="a", units=None, **HOW)
    assert format_description(describe(path))  # described, not refused


def test_series_that_cannot_be_written_are_reported(tmp_path):
    for samples, words in (
        (Samples(np.arange(3.0), np.ones((2, 2))), r"eries a has times \(3,\) and values \(2, 2\)"),
        (Samples(np.array([1.0, 0.0]), np.ones((2, 2))), "not finite and ascending"),
    ):
        with pytest.raises(ContractError, match=words):
            write_session(tmp_path / "s.nwb", [], TRIALS, series={"a": samples})


def test_a_zarr_folder_and_an_address_give_what_the_file_gives(imaged, tmp_path, monkeypatch):
    pytest.importorskip("hdmf_zarr", reason="hdmf-zarr, of the extra zarr, is not there")
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    how = HOW | {"series": "dff", "units": "depth < 250"}
    local = read_trials(imaged[0], **how)
    with RangeServer({"/imaged.nwb": imaged[0]}) as server:
        for source in (to_zarr(imaged[0], tmp_path / "imaged.nwb.zarr"), f"{server.url}/imaged.nwb"):
            found = read_trials(source, **how)
            np.testing.assert_array_equal(found["rate"].values, local["rate"].values)
            assert found["unit_id"].values.tolist() == [10, 12, 11]
