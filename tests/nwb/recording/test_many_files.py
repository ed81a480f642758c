"""Laws of reading many sessions: no executor and no order changes anything, and nothing is left out in silence."""

from __future__ import annotations

import shutil
import tracemalloc
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lint import fit_lint, fit_trials, prepare, read_conditions, read_fit, read_trials, write_fit
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input
from nwb_lint.nwb.recording import unit_tables, units
from nwb_lint.nwb.recording.binning import smooth, smooth_units
from nwb_lint.nwb.recording.dataset import format_assets
from nwb_lint.nwb.storage.digests import with_digests
from nwb_lint.nwb.storage.source import run_on_files
from nwb_lint.testing import mock_session

READ = {"by": ["side"], "align": "cue_time", "window_s": (-0.2, 0.8), "bin_s": 0.05, "smooth_s": 0.1}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Five sessions of one to five units; the fourth has spikes out of order."""
    folder = tmp_path_factory.mktemp("sessions")
    for k in range(5):
        mock_session(folder / f"{k}.nwb", seed=k, n_units=k + 1, session_id=f"s{k}")
    restored(folder / "3.nwb", lambda times: np.concatenate([times[:2][::-1], times[2:]]))
    return folder


@pytest.fixture
def folder(sessions, tmp_path):
    """A copy of the five sessions, for this test alone."""
    return shutil.copytree(sessions, tmp_path, dirs_exist_ok=True)


def restored(path, change=lambda times: times, **storage):
    """The spike times stored anew, as a file may have them, whatever pynwb does by default."""
    with h5py.File(path, "r+") as file:
        group = file["units"]
        times, attrs = group["spike_times"][()], dict(group["spike_times"].attrs)
        del group["spike_times"]
        group.create_dataset("spike_times", data=change(times), **storage).attrs.update(attrs)
    return path


def spoil(path):
    """A file whose trials can be read and whose spikes cannot: a compressed chunk is overwritten."""
    restored(path, chunks=(50,), compression="gzip")
    with h5py.File(path) as file:
        where = file["units/spike_times"].id.get_chunk_info(2)
    with open(path, "r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(b"\xff" * where.size)


class Backwards(ThreadPoolExecutor):
    """Every five tasks end in the opposite order: each waits for the next."""

    def __init__(self):
        super().__init__(5)
        self.ended, self.n = [Event() for _ in range(20)], 0

    def submit(self, fn, /, *args):
        k, self.n = self.n, self.n + 1

        def work():
            result = fn(*args)
            assert k % 5 == 4 or self.ended[k + 1].wait(20)
            self.ended[k].set()
            return result

        return super().submit(work)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("halves", [False, True])
def test_no_executor_and_no_order_changes_the_recording(folder, processes, halves):
    paths = sorted(folder.glob("*.nwb"))
    with ThreadPoolExecutor(3) as threads:
        found = []
        for executor in (None, threads, Backwards(), processes):
            with pytest.warns(UserWarning, match=r"units of .*3\.nwb: spike_times of unit 0 .*not in order"):
                found.append(read_conditions(paths, **READ, halves=halves, executor=executor))
    for other in found[1:]:
        xr.testing.assert_identical(found[0], other)
    assert found[0].attrs["assets_units"] == [1, 2, 3, 4, 5]
    assert found[0].attrs["assets_trials"] == [40] * 5
    assert found[0].attrs["assets_warnings"] == [""] * 5


def test_a_dask_client_reads_the_same(folder):
    distributed = pytest.importorskip("distributed")
    paths = sorted(folder.glob("[012].nwb"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dask's own about ports and threads
        cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
        with cluster, distributed.Client(cluster) as client:
            found = read_conditions(paths, **READ, executor=client.get_executor())
    xr.testing.assert_identical(found, read_conditions(paths, **READ))


def test_files_are_read_alike_alone_and_in_any_company(folder):
    paths = sorted(folder.glob("[024].nwb"))
    found = read_conditions(paths[::-1], **READ)
    assert found.attrs["assets"] == [str(path) for path in paths[::-1]]
    for path in paths:
        alone = read_conditions(path, **READ)
        np.testing.assert_array_equal(found["rate"][:, :, found["source"].values == str(path)], alone["rate"])


@pytest.mark.parametrize("sources", ["~/0.nwb", Path("~/0.nwb"), "~/[0].nwb"])
def test_a_tilde_is_the_home_folder(folder, monkeypatch, sources):
    monkeypatch.setenv("HOME", str(folder))
    xr.testing.assert_identical(read_conditions(sources, **READ), read_conditions(folder / "0.nwb", **READ))


def test_what_cannot_be_read_is_left_out_by_name_or_raised(folder):
    paths = sorted(folder.glob("[0124].nwb"))
    (folder / "text.nwb").write_text("no recording")
    spoil(folder / "4.nwb")
    never = mock_session(folder / "never.nwb", session_id="never", columns={"cue_time": np.full(40, np.nan)})
    sources = [folder / "none.nwb", paths[0], folder / "text.nwb", paths[1], never, paths[3], paths[2]]
    with pytest.warns(UserWarning, match=r"left out|dropped|is left") as caught:
        found = read_conditions(sources, **READ, errors="skip")
    phrase = [str(warning.message) for warning in caught]
    for name, why in (("none", "no such file"), ("text", "not HDF5"), ("never", "none of 40"), ("4", "is damaged")):
        (line,) = [line for line in phrase if f"{name}.nwb" in line]
        assert line.startswith("left out ")
        assert why in line
    good = read_conditions(paths[:3], **READ)
    assert list(found["neuron"].values) == list(good["neuron"].values)
    xr.testing.assert_equal(found.drop_attrs(), good.drop_attrs())
    assert found.attrs["assets"] == [str(path) for path in sources]
    assert found.attrs["assets_units"] == [0, 1, 0, 2, 0, 0, 3]
    assert [bool(text) for text in found.attrs["assets_warnings"]] == [not n for n in found.attrs["assets_units"]]
    with pytest.raises(NWBError, match=r"none\.nwb: no such file"):
        read_conditions(sources, **READ)
    with pytest.raises(NWBError, match=r"4\.nwb is damaged"):
        read_conditions(paths, **READ)
    with pytest.raises(NWBError, match=r"^none of 2 files .*.*none\.nwb: no such file.*text\.nwb"):
        read_conditions([folder / "none.nwb", folder / "text.nwb"], **READ, errors="skip")
    with pytest.raises(NWBError, match="no such file"):
        read_conditions(folder / "none.nwb", **READ, errors="skip")


def test_a_condition_that_only_an_unreadable_file_has_is_left_out_with_it(folder):
    odd = mock_session(folder / "odd.nwb", session_id="odd", columns={"side": ["middle", "left"] * 20})
    spoil(odd)
    with pytest.warns(UserWarning, match=r"left out .*odd\.nwb"):
        found = read_conditions([folder / "0.nwb", odd, folder / "1.nwb"], **READ, errors="skip", halves=True)
    good = read_conditions([folder / "0.nwb", folder / "1.nwb"], **READ)
    xr.testing.assert_equal(found["rate"], good["rate"])
    assert list(found["side"].values) == ["left", "right"]


def test_units_that_are_elsewhere_and_units_that_miss_a_condition_are_reported(folder):
    half = mock_session(
        folder / "half.nwb", session_id="half", n_units=2, obs_intervals=[np.array([[0, end]]) for end in (90, 2.9)]
    )
    with pytest.warns(UserWarning, match=r"left out|dropped|is left") as caught:
        found = read_conditions([folder / "0.nwb", folder / "2.nwb", half], **READ, units=[1, 2])
    assert any("0.nwb is left out: none of its units" in str(warning.message) for warning in caught)
    assert found.attrs["assets_units"] == [0, 2, 0]
    assert found.attrs["assets_trials"] == [0, 40, 0]
    assert found.attrs["assets_warnings"][0] == "left out: none of its units is among units=[1, 2]"
    assert found.attrs["assets_warnings"][2].startswith("1 of 1 units")
    table = format_assets(found).splitlines()
    assert table[0] == "3 files: 1 gave 2 units"
    assert [line.split()[:2] for line in table[2:]] == [["0", "0"], ["2", "40"], ["0", "0"]]
    assert len(format_assets(found, all_files=False).splitlines()) == 4
    with pytest.raises(ContractError, match="no attribute assets"):
        format_assets(found.drop_attrs())


def test_the_table_of_files_survives_the_fit_and_its_file(folder, tmp_path):
    with pytest.warns(UserWarning, match="left out"):
        recording = read_conditions([folder / "2.nwb", folder / "gone.nwb", folder / "4.nwb"], **READ, errors="skip")
    activity = prepare(
        recording, inputs=[Input("side", column="side", equals="left", window_s=(-9, 9))], time_course=False
    )
    fit = fit_lint(activity, rank=1, tau_s=0.1, method="regression")
    subject = {"subject_id": "m", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    write_fit(fit, tmp_path / "fit.nwb", subject=subject)
    again = read_fit(tmp_path / "fit.nwb")
    xr.testing.assert_identical(again, with_digests(fit))
    assert again.attrs["assets_units"] == [3, 0, 5]
    assert "gone.nwb: no such file" in again.attrs["assets_warnings"][1]


@pytest.mark.parametrize("block", [1, 2500, 1 << 20])
@pytest.mark.parametrize("storage", [{}, {"chunks": (700,), "compression": "gzip"}], ids=["contiguous", "chunked"])
@pytest.mark.parametrize("gap", [0, 1 << 13])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [3, 0, 2], [1]])
def test_blocks_hold_the_spikes_of_the_file_and_no_more_than_they_may(folder, block, storage, gap, rows):
    sizes = units.ReadSizes(block=block, gap=gap, bulk_share=1.0)
    with h5py.File(restored(folder / "4.nwb", **storage)) as file:
        table = unit_tables.open_units(file, "4")
        bounds = np.append(0, file["units/spike_times_index"][()].astype(int))
        found = {}
        for positions, spikes in units.spike_blocks(table, np.array(rows), sizes=sizes):
            assert len(positions) == 1 or sum(map(len, spikes)) <= max(block, storage.get("chunks", [0])[0])
            found |= dict(zip(positions.tolist(), spikes, strict=True))
        assert sorted(found) == list(range(len(rows)))
        for k, row in enumerate(rows):
            np.testing.assert_array_equal(found[k], file["units/spike_times"][bounds[row] : bounds[row + 1]])
        np.testing.assert_array_equal(units.n_spikes(table), np.diff(bounds))


def test_a_network_failure_names_its_file():
    found = dict(run_on_files(_no_network, [("a.nwb", {}), ("b.nwb", {})], errors="skip"))
    assert found[1].result == "b.nwb"
    with pytest.raises(NWBError, match=r"a\.nwb.*connection reset"):
        raise found[0].error


@pytest.mark.parametrize(("change", "words"), [({"errors": "ignore"}, "errors"), ({"executor": 3}, "executor")])
def test_wrong_options_are_refused(folder, change, words):
    with pytest.raises(ContractError, match=words):
        read_conditions([folder / "0.nwb", folder / "1.nwb"], **READ | change)


def _no_network(path):
    if path == "a.nwb":
        raise ConnectionResetError("connection reset")
    return path


@pytest.mark.parametrize("n_bins", [1, 33, 240])
@pytest.mark.parametrize("sd_bins", [0.2, 10, 77])
def test_smoothing_in_pieces_is_the_sum_over_all_bins(n_bins, sd_bins):
    rng = np.random.default_rng(0)
    apart = np.subtract.outer(np.arange(n_bins), np.arange(n_bins))
    weight = np.exp(-0.5 * (apart / sd_bins) ** 2) * (abs(apart) <= int(4 * sd_bins + 0.5))
    for shape in ((n_bins,), (1, n_bins), (7, n_bins), (3, 40, n_bins)):
        values = rng.random(shape)
        values[rng.random(shape) < 0.1] = np.nan
        for given in (values, np.nan_to_num(values)):
            known = ~np.isnan(given)
            with np.errstate(invalid="ignore"):
                expected = np.where(known, (np.nan_to_num(given) @ weight) / (known @ weight), np.nan)
            np.testing.assert_allclose(smooth(given, sd_bins), expected, rtol=1e-12)


@pytest.mark.parametrize("n_bins", [1, 33, 240])
@pytest.mark.parametrize("sd_bins", [0, 0.2, 10, 300])
def test_units_smoothed_together_are_those_smoothed_alone(n_bins, sd_bins):
    rng = np.random.default_rng(0)
    values = rng.random((83, 3, n_bins)).astype(np.float32)
    values[5, 1], values[80, 2, n_bins // 2] = np.nan, np.nan
    out = np.full((3, n_bins, 90), -1, np.float32)
    smooth_units(values, sd_bins, out[..., 4:87])
    assert (out[..., [0, 3, 87, 89]] == -1).all()
    together = out[..., 4:87]
    np.testing.assert_allclose(together, np.moveaxis(smooth(values, sd_bins), 0, -1), rtol=2e-6)
    for chosen in ([0], [82], [5, 80, 3], list(range(7, 60))):
        some = np.empty((3, n_bins, len(chosen)), np.float32)
        smooth_units(values[chosen], sd_bins, some)
        # some kernels of BLAS add in another order at other positions
        np.testing.assert_allclose(some, together[..., chosen], rtol=1e-6)


def test_memory_follows_the_block_and_not_the_file(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=20)
    n = units.ReadSizes().block  # spikes of each unit: 21 MB in all
    restored(path, lambda times: np.tile(np.linspace(0, 81, n), 20))
    with h5py.File(path, "r+") as file:
        del file["units/spike_times_index"]  # of 16 bits
        file["units/spike_times_index"] = n * np.arange(1, 21)
    read_conditions(path, **READ)
    tracemalloc.start()
    try:
        found = read_conditions(path, **READ)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["n_trials"].sum() == 40 * 20
    assert peak < 8 * n * 20 / 2 + 2 * found["rate"].nbytes


def test_trials_of_several_sessions_are_put_side_by_side(tmp_path):
    """Each session comes back from its own trials and neurons; the others are not observed; a fit holds both."""
    for k in range(2):
        more = {} if k else {"reward": np.arange(40) % 2 == 0}
        mock_session(tmp_path / f"{k}.nwb", seed=k, n_units=k + 2, session_id=f"s{k}", columns=more)
    reading = {"align": "cue_time", "window_s": (0.0, 0.6), "bin_s": 0.1}
    with pytest.warns(UserWarning, match="reward are not in all files"):
        both = read_trials(str(tmp_path / "*.nwb"), **reading)
    np.testing.assert_array_equal(both["trial"].values[[0, -1]], ["s0:0", "s1:39"])
    for k in range(2):
        one = read_trials(tmp_path / f"{k}.nwb", **reading)
        mine = both.isel(trial=both["trial_session"] == f"s{k}")
        own = (mine["session"] == f"s{k}").values
        assert (mine["observed"].values == own).all()
        np.testing.assert_array_equal(mine["count"].values[..., own], one["count"].values)
        np.testing.assert_array_equal(mine["coherence"].values, one["coherence"].values)
    fit = fit_trials(both, rank=1, tau_s=0.2, hidden=0, max_iter=2, initial="trial_session")
    subject = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    again = read_fit(write_fit(fit, tmp_path / "fit.nwb", subject=subject))
    for name in ("m", "latent", "trial_session", "initial_level"):
        np.testing.assert_array_equal(again[name].values, fit[name].values)
    shutil.copy(tmp_path / "0.nwb", tmp_path / "copy.nwb")
    with pytest.raises(NWBError, match="same recording"):
        read_trials([tmp_path / "0.nwb", tmp_path / "copy.nwb"], **reading)
