"""Distances of dynamics do not depend on neurons and coordinates; calls follow from halves of each system."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.options.fits import FitOptions
from nwb_lint.reports.analyses import of_analysis
from nwb_lint.reports.items import as_text
from nwb_lint.testing import mock_activity
from nwb_lint.validation import dynamics_comparison

N, T, DT_S, TAU_S = 300, 60, 0.02, 0.1
OPTIONS = {"rank": 2, "tau_s": TAU_S, "method": "regression"}
LEVELS = np.array([(a, b) for a in np.linspace(-1, 1, 4) for b in np.linspace(-1, 1, 4)])


def network(overlap, seed):
    """Weights of a rank-2 network with about this overlap n' m / N, by name."""
    rng = np.random.default_rng(seed)
    m, weights = rng.standard_normal((2, N, 2))
    return {"m": m, "n": m @ np.array(overlap).T + weights, "input_weights": weights}


TURNING, DECAYING = network([[1.1, -0.7], [0.7, 1.1]], 0), network([[0.6, 0.0], [0.0, 0.3]], 1)


def stimuli():
    u = np.zeros((len(LEVELS), T, 2))
    u[:, 5:30] = LEVELS[:, None]
    return u


def exact(weights):
    return nl.from_network(weights, dt_s=DT_S, tau_s=TAU_S, u=stimuli())


def animal(weights, seed, n_recorded=40, noise=0.2):
    """What some neurons of a network do, with noise that is not the network's."""
    rng, fit = np.random.default_rng(seed), exact(weights)
    kept = rng.choice(N, n_recorded, replace=False)
    x = fit["activity_pred"].values[..., kept]
    x = x + noise * x.std() * rng.standard_normal(x.shape)
    coords = {name: fit[name].values for name in ("condition", "time", "input")} | {"neuron": [f"n{k}" for k in kept]}
    dims = ("condition", "time", "neuron")
    return xr.Dataset({"activity": (dims, x.astype(np.float32)), "u": fit["u"]}, coords, {"bin_s": DT_S})


@pytest.fixture(params=["prediction", "dsa"])
def measure(request):
    if request.param == "dsa":
        pytest.importorskip("DSA", reason="the extra dsa is not installed")
    return request.param


def in_other_coordinates(fit, seed=0):
    """The same network with its neurons in another order and another gauge."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((2, 2)) + 2 * np.eye(2)
    order = rng.permutation(fit.sizes["neuron"])
    moved = fit.assign(m=fit["m"].dot(xr.DataArray(a, dims=("rank", "to"))).rename(to="rank"))
    moved["n"] = fit["n"].dot(xr.DataArray(np.linalg.inv(a).T, dims=("rank", "to"))).rename(to="rank")
    return moved.isel(neuron=order)


def test_the_distance_does_not_depend_on_neurons_and_coordinates(measure):
    fits = {"one": exact(TURNING), "two": in_other_coordinates(exact(TURNING)), "three": exact(DECAYING)}
    found = nl.compare_dynamics(fits, measure=measure)
    check_result(found, "dynamics_comparison")
    distance = found["distance"].values
    np.testing.assert_allclose(distance, distance.T)
    assert distance[0, 1] == pytest.approx(0, abs=1e-6)
    assert distance[0, 2] == pytest.approx(distance[1, 2], rel=0.01)
    assert distance[0, 2] > 100 * max(distance[0, 1], 1e-7)
    assert np.isnan(found["p_value"]).all()
    assert (found["call"] == "").all()


def test_animals_with_one_network_are_alike_and_with_others_different(measure):
    systems = {"a": animal(TURNING, 2), "b": animal(TURNING, 3), "c": animal(DECAYING, 4), "model": exact(TURNING)}
    found = nl.compare_dynamics(systems, measure=measure, **OPTIONS)
    call = found["call"].values
    assert call[0, 1] == call[0, 3] == call[1, 3] == "alike"
    assert call[0, 2] == call[1, 2] == call[2, 3] == "different"
    assert (call.diagonal() == "").all()
    assert np.isnan(found["half"].values[3]).all()
    assert np.isfinite(found["half"].values[:3]).all()
    text = as_text(of_analysis(found))
    assert "alike" in text
    assert "model" in text


def test_too_little_data_cannot_tell():
    """Noise of three times the signal: halves differ by more than the change that matters."""
    systems = {"a": animal(TURNING, 2, 20, 3.0), "b": animal(TURNING, 3, 20, 3.0)}
    found = nl.compare_dynamics(systems, measure="prediction", splits=5, change=0.05, **OPTIONS)
    assert found["call"].values[0, 1] == "cannot tell"


@pytest.mark.parametrize("unknown", [2, 3])
def test_a_distance_between_halves_that_is_not_known_counts_as_large(monkeypatch, unknown):
    """Of the three distances between halves of the first system, some or all are NaN."""
    known, calls = dynamics_comparison.unexplained, []

    def measured(a, b):
        calls.append(1)
        return float("nan") if len(calls) <= unknown else known(a, b)

    systems, options = {"a": animal(TURNING, 2), "b": animal(DECAYING, 4)}, {"splits": 3, "level": 0.3}
    found = nl.compare_dynamics(systems, measure="prediction", **options, **OPTIONS)
    assert found["call"].values[0, 1] == "different"
    monkeypatch.setattr(dynamics_comparison, "unexplained", measured)
    found = nl.compare_dynamics(systems, measure="prediction", **options, **OPTIONS)
    assert found["call"].values[0, 1] == "cannot tell"
    assert found["p_value"].values[0, 1] == (1 + unknown) / 4


def test_a_distance_that_is_not_known_has_no_p_value(monkeypatch):
    monkeypatch.setattr(dynamics_comparison, "unexplained", lambda a, b: float("nan"))
    systems = {"a": animal(TURNING, 2), "b": exact(TURNING)}
    found = nl.compare_dynamics(systems, measure="prediction", splits=2, **OPTIONS)
    assert np.isnan(found["p_value"]).all()
    assert (found["call"] == "").all()


def test_fits_to_halves_run_after_the_burn_in_of_the_activity():
    data = animal(TURNING, 2)
    burn_in = np.ones((data.sizes["condition"], 10, 2))
    data["u_burn_in"] = ("condition", "burn_in", "input"), burn_in
    options = FitOptions.check(OPTIONS)
    everything = np.arange(data.sizes["condition"])
    half = dynamics_comparison.run_of_half(data, conditions=everything, options=options, inputs=None)
    fit = nl.fit_lint(data, **OPTIONS)
    np.testing.assert_allclose(half["filtered"], fit["filtered_input"], atol=1e-6)


def test_systems_with_other_times_run_each_on_its_own_with_a_warning():
    """The first 40 of 60 steps of one network are another set of latents, and DSA calls them another network."""
    pytest.importorskip("DSA", reason="the extra dsa is not installed")
    whole = animal(TURNING, 2)
    with pytest.warns(UserWarning, match="So each runs on its own"):
        found = nl.compare_dynamics({"a": whole, "b": whole.isel(time=slice(0, 40))}, splits=3, level=0.3, **OPTIONS)
    assert found["distance"].values[0, 1] > 2 * found["distance_change"].values[0, 1]


def test_a_fit_with_its_activity_is_the_activity_with_the_options_of_the_fit():
    a, b = animal(TURNING, 2), animal(DECAYING, 4)
    pairs = {name: (nl.fit_lint(one, **OPTIONS), one) for name, one in (("a", a), ("b", b))}
    options = {"measure": "prediction", "splits": 3}
    first = nl.compare_dynamics(pairs, **options)
    second = nl.compare_dynamics({"a": a, "b": b}, **options, **OPTIONS)
    xr.testing.assert_allclose(first, second, rtol=1e-4)
    turned = nl.compare_dynamics({"b": pairs["b"], "a": pairs["a"]}, **options)
    np.testing.assert_allclose(turned["p_value"].values, first["p_value"].values.T)
    assert turned["call"].values[0, 1] == first["call"].values[1, 0]


@pytest.mark.parametrize(
    ("systems", "options", "match"),
    [
        (lambda: {"a": exact(TURNING)}, {}, "fewer than two"),
        (lambda: {"a": exact(TURNING), "b": animal(TURNING, 2)}, {}, "needs rank and tau_s"),
        (lambda: {"a": exact(TURNING), "b": exact(DECAYING)}, {"rank": 2, "tau_s": 0.1}, "no system is fitted"),
        (lambda: {"a": exact(TURNING), "b": mock_activity()}, OPTIONS, "the same in all"),
        (lambda: {"a": exact(TURNING), "b": animal(TURNING, 2).isel(condition=range(6))}, OPTIONS, "6 conditions"),
        (lambda: {"a": exact(TURNING), "b": 3}, {}, "is a int"),
        (lambda: {"a": exact(TURNING), "b": nl.fit_lint(mock_activity(), rank=None, tau_s=0.1)}, {}, "has J"),
    ],
)
def test_what_cannot_be_compared_is_refused(systems, options, match):
    with pytest.raises(ContractError, match=match):
        nl.compare_dynamics(systems(), measure="prediction", **options)


def test_a_package_that_lacks_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "DSA", None)
    with pytest.raises(ContractError, match=r"pip install 'nwb_lint\[dsa\]'"):
        nl.compare_dynamics({"a": exact(TURNING), "b": exact(DECAYING)})
