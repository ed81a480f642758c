"""What changes in time is a TimeSeries and conditions are TimeIntervals, so that other tools show a fit."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lint import open_nwb, read_fit, simulate
from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension import schema
from nwb_lint.nwb.extension.clock import clock_of
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.recording.events import activity_paths, event_paths
from nwb_lint.nwb.recording.tables import interval_tables
from nwb_lint.rate_link import predicted_rates
from nwb_lint.testing import mock_fit, mock_session
from tests.factories import assert_same, random_fit

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
FIT = "processing/ecephys/lowrank_fit"


def trial_fit(times, **attrs):
    """A fit of single trials that were aligned to these times of the session."""
    fit = random_fit(3, n_conditions=len(times), trials=True)
    return fit.assign_coords(cue=("condition", np.asarray(times, float))).assign_attrs(align="cue", **attrs)


@pytest.mark.parametrize("first", [-0.1, 0.0, 0.3])
@pytest.mark.parametrize("n_bins", [1, 2, 7])
def test_conditions_stand_one_after_another(first, n_bins):
    fit = random_fit(0, n_bins=n_bins, n_conditions=5)
    fit = fit.assign_coords(time=first + 0.02 * np.arange(n_bins)).assign_attrs(bin_s=0.02)
    clock = clock_of(fit)
    np.testing.assert_allclose(clock.stop - clock.start, 0.02 * n_bins)
    times = clock.timestamps.reshape(5, n_bins)
    assert min(clock.start.min(), clock.align.min()) >= 0
    assert (clock.start[1:] > clock.stop[:-1]).all()
    assert ((times > clock.start[:, None]) & (times < clock.stop[:, None])).all()
    np.testing.assert_allclose(times - clock.align[:, None], np.tile(fit["time"].values, (5, 1)), atol=1e-12)


def test_the_only_bin_is_as_long_as_a_step_where_no_bin_is_said():
    fit = random_fit(0, n_bins=1).assign_attrs(dt_s=0.05)
    fit.attrs.pop("bin_s", None)
    clock = clock_of(fit)
    np.testing.assert_allclose(clock.stop - clock.start, 0.05)


@pytest.mark.parametrize(
    ("fit", "on_session"),
    [
        (trial_fit([10.0, 13.5, 20.0]), True),
        (trial_fit([10.0, 10.01, 20.0]), False),  # windows overlap
        (trial_fit([10.0, 20.0, 13.5]), False),  # not in the order of the session
        (trial_fit([10.0, np.nan, 13.5]), False),
        (trial_fit([10.0, 13.5, 20.0], warp=["a", "b"]), False),
        (trial_fit([1.0, 2.0, 3.0]).assign_coords(trial_session=("condition", list("aab"))), False),
        (trial_fit([10.0, 13.5, 20.0]).drop_vars("noise_cov"), False),  # means over trials
    ],
)
def test_trials_are_on_the_clock_of_their_session_where_they_have_a_place_there(fit, on_session):
    clock = clock_of(fit)
    assert ("are those of the session" in clock.doc) == on_session
    assert (np.diff(clock.timestamps) > 0).all()
    if on_session:
        np.testing.assert_array_equal(clock.align, fit["cue"].values)


def test_plain_pynwb_reads_the_series_that_the_fit_has(tmp_path):
    from pynwb import NWBHDF5IO, TimeSeries
    from pynwb.epoch import TimeIntervals

    fit = random_fit(4, trials=True)
    path = write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    with NWBHDF5IO(path, "r") as io:
        network = io.read().processing["ecephys"]["lowrank_fit"]
        for name, variable in schema.SERIES.items():
            if name in schema.series():
                series, values = getattr(network, name), fit["u" if variable == "input" else variable].values
                assert isinstance(series, TimeSeries)
                np.testing.assert_array_equal(series.data[:], values.reshape(-1, *values.shape[2:]))
                np.testing.assert_array_equal(series.timestamps[:], clock_of(fit).timestamps)
        assert isinstance(network.conditions, TimeIntervals)
        assert network.conditions["condition"][:].tolist() == fit["condition"].values.tolist()
        np.testing.assert_array_equal(network.conditions["start_time"][:], clock_of(fit).start)


def test_nothing_is_stored_twice(tmp_path):
    with h5py.File(write_fit(random_fit(5, trials=True), tmp_path / "fit.nwb", subject=SUBJECT)) as file:
        group = file[FIT]
        series = [group[name] for name in (*schema.SERIES, schema.RATES) if name in group]
        links = [one.get("timestamps", getlink=True) for one in series]
        assert sum(isinstance(link, h5py.HardLink) for link in links) == 1
        assert len(links) == 8  # with observed and predicted behavior
        assert not {variable for variable in schema.SERIES.values() if variable in group}


def test_the_rates_in_a_file_are_those_that_the_network_predicts():
    fit = mock_fit()
    np.testing.assert_allclose(predicted_rates(fit), simulate(fit)["rate"].values, rtol=1e-5, atol=1e-4)
    assert predicted_rates(fit.drop_vars(["scale", "offset"])) is None
    assert (predicted_rates(fit.assign_attrs(rate_link="softplus")) >= 0).all()


def test_columns_that_a_table_of_intervals_has_itself_come_back(tmp_path):
    fit = random_fit(6)
    names = ("start_time", "stop_time", "align_time", "tags", "timeseries_index")
    fit = fit.assign_coords({name: ("condition", np.arange(4.0) + k) for k, name in enumerate(names)})
    assert_same(fit, read_fit(write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)))


def test_a_file_of_other_software_without_a_layout_is_read(tmp_path):
    fit = random_fit(7, optional=False)
    path = write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    with h5py.File(path, "a") as file:
        for name in [name for name in file[FIT] if name.startswith("layout")]:
            del file[FIT][name]
    found = read_fit(path)
    for name in ("u", "latent", "activity_pred", "filtered_input", "condition", "m"):
        xr.testing.assert_equal(found[name].variable, fit[name].variable)
    assert not set(schema.CLOCK) & set(found.coords)


def test_a_conversion_of_other_software_is_applied(tmp_path):
    fit = random_fit(7)
    path = write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    with h5py.File(path, "a") as file:
        for name in [name for name in file[FIT] if name.startswith("layout")]:
            del file[FIT][name]
        del file[FIT]["attributes/content_sha256"]
        data = file[FIT]["latents/data"]
        data[...] = (data[()] - 3) / 4
        data.attrs.update({"conversion": 4.0, "offset": 3.0})
    found = read_fit(path)["latent"]
    assert found.dtype == fit["latent"].dtype
    np.testing.assert_allclose(found.values, fit["latent"].values, atol=1e-5)


@pytest.mark.parametrize("n_rows", [0, 4, 19])
def test_a_series_without_all_bins_of_all_conditions_is_an_error(tmp_path, n_rows):
    path = write_fit(random_fit(7), tmp_path / "fit.nwb", subject=SUBJECT)
    with h5py.File(path, "a") as file:
        series = file[FIT]["latents"]
        rows = series["data"][:n_rows]
        del series["data"]
        series["data"] = rows
    with pytest.raises(NWBError, match=r"inconsistent.*latent.*Write the fit again"):
        read_fit(path)


def test_pynapple_lists_latents_rates_and_conditions(tmp_path):
    nap = pytest.importorskip("pynapple", reason="pynapple, of the extra pynapple, is not there")
    fit = mock_fit()
    data = nap.load_file(write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT))
    assert {"latents", "predicted_rates", "predicted_activity", "inputs", "conditions"} <= set(data.keys())
    conditions, latents = data["conditions"], data["latents"]
    assert list(conditions["condition"]) == fit["condition"].values.tolist()
    for k in range(fit.sizes["condition"]):
        np.testing.assert_array_equal(latents.restrict(conditions[k]).values, fit["latent"].values[k])
    assert data["predicted_rates"].shape == (fit.sizes["condition"] * fit.sizes["time"], fit.sizes["neuron"])


def test_a_recording_with_a_fit_has_the_series_of_the_recording_alone(tmp_path):
    session = mock_session(tmp_path / "session.nwb")
    path = write_fit(mock_fit(), tmp_path / "whole.nwb", into=session)
    for find in (event_paths, activity_paths, interval_tables):
        with open_nwb(path) as file, open_nwb(session) as alone:
            assert find(file) == find(alone)
