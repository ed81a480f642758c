"""Inputs that act at other times than they say are found, with their lag; what R² loses without each input."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.train import network_dataset

DT_S = 0.02


@pytest.fixture(scope="module")
def activity():
    """Noisy trials of a network of rank 1; the inputs of its task change in every time step."""
    rng = np.random.default_rng(0)
    m, weights = rng.standard_normal((40, 1)), rng.standard_normal((40, 4))
    n = 1.1 * m + weights[:, :1] + 0.3 * rng.standard_normal((40, 1))
    arrays = {"m": m, "n": n, "input_weights": weights, "readout": rng.standard_normal(40)}
    return record_activity(network_dataset(arrays, "cdm"), 60, observation_noise=0.3, seed=1)


def delayed(activity: xr.Dataset, name: str, steps: int) -> xr.Dataset:
    """The activity with one input that comes later than it should, or earlier."""
    u = activity["u"].copy(deep=True)
    one = u.sel(input=name)
    u.loc[{"input": name}] = one.shift(time=steps, fill_value=0)
    return activity.assign(u=u)


def fit_of(activity):
    return nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=10)


def test_right_inputs_have_no_lag(activity):
    assert np.abs(fit_of(activity)["input_lag_gain"].values).max() < 0.25


@pytest.mark.parametrize(("steps", "word"), [(5, "100 ms earlier"), (-3, "60 ms later")])
def test_a_late_or_early_input_is_named_with_its_lag(steps, word, activity):
    with pytest.warns(UserWarning, match=f"Input motion acts {word}.*window_s"):
        fit = fit_of(delayed(activity, "motion", steps))
    own = fit.sel(input="motion")
    assert float(own["input_lag_s"]) == pytest.approx(-steps * DT_S)
    assert float(own["input_lag_gain"]) == pytest.approx(1, abs=0.2)
    assert float(own["input_lag_gain_sem"]) < 0.1
    assert np.abs(fit.drop_sel(input="motion")["input_lag_gain"].values).max() < 0.25


def test_samples_that_are_missing_do_not_count(activity):
    late = delayed(activity, "color", 4)
    x = late["activity"].copy(deep=True)
    x[::2, 30:40] = np.nan
    with pytest.warns(UserWarning, match="Input color acts 80 ms earlier"):
        fit = fit_of(late.assign(activity=x))
    assert float(fit.sel(input="color")["input_lag_gain"]) == pytest.approx(1, abs=0.2)


def test_an_input_that_never_changes_has_none(activity):
    one = activity.isel(input=[0])
    fit = fit_of(one.assign(u=xr.ones_like(one["u"])))
    for name in ("input_lag_s", "input_lag_gain", "input_lag_gain_sem"):
        assert np.isnan(fit[name].values).all()


def test_the_gain_of_an_input_is_what_a_fit_without_it_loses(activity):
    idle = xr.zeros_like(activity["u"].isel(input=[0])).assign_coords(input=["idle"])
    idle[:, 20:40] = np.random.default_rng(0).uniform(-1, 1, (60, 1, 1))
    more = activity.drop_dims("input").assign(u=xr.concat([activity["u"], idle], "input").astype("float32"))
    fit = fit_of(more)
    gain, sem = fit["input_r2_gain"], fit["input_r2_gain_sem"]
    assert abs(float(gain.sel(input="idle"))) < 0.01
    assert float(sem.sel(input="idle")) < 0.01
    strongest = str(gain["input"].values[gain.values.argmax()])
    whole, without = (float(fit_of(one)["r2"][1]) for one in (activity, activity.drop_sel(input=strongest)))
    assert float(gain.sel(input=strongest)) == pytest.approx(whole - without, rel=0.5)


def test_a_fit_without_rank_has_no_gains(activity):
    fit = nl.fit_lint(activity.isel(neuron=slice(10)), rank=None, tau_s=0.1)
    assert fit["input_r2_gain"].isnull().all()
