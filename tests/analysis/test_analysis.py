"""Scores, connectivity and latents against their definitions, on small fits."""

import numpy as np
import pytest
import torch
import xarray as xr

import nwb_lint as nl
from nwb_lint.analysis.latents import data_latents
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_fit

torch.set_num_threads(1)
HELD = [1, 6, 9]


@pytest.fixture(scope="module")
def activity():
    """Rank-2 transients of 14 neurons in 12 conditions, with trial halves, burn-in and two inputs."""
    rng = np.random.default_rng(0)
    strength = np.linspace(-1, 1, 12)
    courses = np.stack([np.linspace(0, 1, 25), np.sin(np.linspace(0, 3, 25))], axis=1)
    clean = 10 + np.einsum("c,tk,kn->ctn", strength, courses, 3 * rng.standard_normal((2, 14)))
    halves = (clean + 0.8 * rng.standard_normal((2, *clean.shape))).astype(np.float32)
    counts = np.full((2, 12, 14), 4)
    recording = xr.Dataset(
        {
            "rate": (("condition", "time", "neuron"), halves.mean(axis=0)),
            "n_trials": (("condition", "neuron"), counts.sum(axis=0)),
            "rate_half": (("half", "condition", "time", "neuron"), halves),
            "n_trials_half": (("half", "condition", "neuron"), counts),
        },
        coords={
            "condition": [f"s={s:.2f}" for s in strength],
            "s": ("condition", strength),
            "time": 0.02 * np.arange(25),
            "neuron": [f"n{k:02d}" for k in range(14)],
        },
        attrs={"bin_s": 0.02},
    )
    inputs = [nl.Input("s", column="s", window_s=(-1.0, 1.0)), nl.Input("go", window_s=(0.2, 0.5))]
    return nl.prepare(recording, inputs=inputs, n_components=None, time_course=False, burn_in_s=0.06)


@pytest.fixture(scope="module")
def fit(activity):
    """Rank 2, with a bias and a learned start."""
    options = {"tau_s": 0.1, "bias": True, "initial": "learned", "max_iter": 25}
    return nl.fit_lint(activity, rank=2, test_conditions=HELD, **options)


@pytest.fixture(scope="module")
def full(activity):
    """Unconstrained."""
    return nl.fit_lint(activity, rank=None, tau_s=0.1, test_conditions=HELD)


def test_score_agrees_with_the_fit(fit, activity):
    train = np.setdiff1d(np.arange(12), HELD)
    for split, which in (("train", train), ("held_out", HELD)):
        found = nl.score(fit, activity, conditions=which)
        stored = fit.sel(split=split)
        assert float(found["r2"]) == pytest.approx(float(stored["r2"]), abs=1e-6)
        assert float(found["r2_ceiling"]) == pytest.approx(float(stored["r2_ceiling"]), abs=1e-6)
        np.testing.assert_allclose(found["r2_neuron"], stored["r2_neuron"], atol=1e-5)
        assert list(found["condition"].values) == list(activity["condition"].values[which])


def test_score_is_its_formula(fit, activity):
    found = nl.score(fit, activity)
    y, x = activity["activity"].values.astype(float), fit["activity_pred"].values
    mean = np.delete(y, HELD, axis=0).mean(axis=(0, 1))
    error, power = (y - x) ** 2, (y - mean) ** 2
    assert float(found["r2"]) == pytest.approx(1 - error.sum() / power.sum(), abs=1e-5)
    np.testing.assert_allclose(found["r2_neuron"], 1 - error.sum((0, 1)) / power.sum((0, 1)), atol=1e-4)
    np.testing.assert_allclose(found["r2_condition"], 1 - error.sum((1, 2)) / power.sum((1, 2)), atol=1e-4)


def test_neurons_of_an_activity_are_found_by_their_label(fit, activity):
    order = [7, 2, 11]
    whole = nl.score(fit, activity)
    some = nl.score(fit, activity.isel(neuron=order))
    np.testing.assert_allclose(some["r2_neuron"], whole["r2_neuron"].values[order], atol=1e-5)
    found, all_of_them = nl.latents(fit, activity.isel(neuron=[*order[::-1], 0, 4, 9])), nl.latents(fit, activity)
    np.testing.assert_allclose(found["latent"], all_of_them["latent"], atol=1e-6)
    without_halves = activity.drop_vars(["activity_half", "n_trials_half"])
    assert np.isnan(nl.score(fit, without_halves)["r2_ceiling"])
    other = activity.assign_coords(neuron=[f"x{k}" for k in range(14)])
    for analyze in (nl.score, nl.latents):
        with pytest.raises(ContractError, match=r"14 neurons.*not in the fit"):
            analyze(fit, other)


def test_connectivity_is_what_moves_the_dynamics(fit):
    m, n, w = (fit[name].values for name in ("m", "n", "input_weights"))
    raw, effective = nl.connectivity(fit, effective=False), nl.connectivity(fit)
    np.testing.assert_allclose(raw["connectivity"], m @ n.T / 14, atol=1e-12)
    span = np.column_stack([m, w])
    inside = span @ np.linalg.lstsq(span, n, rcond=None)[0]
    np.testing.assert_allclose(effective["connectivity"], m @ inside.T / 14, atol=1e-9)
    np.testing.assert_allclose(effective["n_effective"], inside, atol=1e-9)
    np.testing.assert_allclose(effective["overlap_m"], n.T @ m / 14, atol=1e-12)
    np.testing.assert_allclose(effective["overlap_input"], n.T @ w / 14, atol=1e-12)
    states = np.random.default_rng(1).standard_normal((5, span.shape[1])) @ span.T
    np.testing.assert_allclose(
        states @ effective["connectivity"].values.T, states @ raw["connectivity"].values.T, atol=1e-9
    )
    mixing = np.array([[1.0, 2.0], [-0.5, 1.5]])
    turned = fit.assign(m=(("neuron", "rank"), m @ mixing), n=(("neuron", "rank"), n @ np.linalg.inv(mixing).T))
    np.testing.assert_allclose(nl.connectivity(turned)["connectivity"], effective["connectivity"], atol=1e-9)


def test_unconstrained_fits(full, activity):
    np.testing.assert_array_equal(nl.connectivity(full)["connectivity"], full["J"])
    assert float(nl.score(full, activity, conditions=HELD)["r2"]) == pytest.approx(full["r2"].values[1], abs=1e-6)
    with pytest.raises(ContractError, match="fit has J"):
        nl.latents(full, activity)


def test_latents_of_the_model_are_those_of_its_data(fit, activity):
    predicted = activity.assign(activity=(activity["activity"].dims, fit["activity_pred"].values))
    found = nl.latents(fit, predicted)
    for name in ("latent", "filtered_input"):
        scale = float(abs(fit[name]).max())
        np.testing.assert_allclose(found[name], fit[name], atol=1e-6 * scale)
        if name == "latent":
            np.testing.assert_allclose(found["latent_data"], fit[name], atol=1e-3 * scale)


def test_latents_come_from_the_neurons_observed(fit, activity):
    predicted = activity.assign(activity=(activity["activity"].dims, fit["activity_pred"].values.copy()))
    predicted["activity"].values[2, 7, 4] = np.nan
    predicted["activity"].values[3, 5, 1:] = np.nan  # a single neuron is left, of rank 2
    found = nl.latents(fit, predicted)["latent_data"].values
    missing = np.isnan(found).all(axis=2)
    assert missing[3, 5]
    assert missing.sum() == 1
    np.testing.assert_allclose(found[2, 7], fit["latent"][2, 7], atol=1e-3 * float(abs(fit["latent"]).max()))
    np.testing.assert_allclose(data_latents(fit, predicted), found, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("analyze", [nl.score, nl.latents])
def test_other_datasets_than_fits_are_refused(activity, analyze):
    with pytest.raises(ContractError, match=r"fit.*lacks"):
        analyze(xr.Dataset(), activity)


def test_latents_of_what_is_no_activity_are_refused(fit):
    with pytest.raises(ContractError, match=r"activity.*lacks"):
        nl.latents(fit, xr.Dataset())


def test_an_input_given_twice_adds_no_direction():
    """Splitting an input into two equal halves is the same network, so the same effective connectivity."""
    once = mock_fit()
    twice = once.drop_vars([str(name) for name, value in once.variables.items() if "input" in value.dims])
    for name, share in (("u", 2), ("filtered_input", 2), ("input_weights", 1)):
        dims = once[name].dims
        twice[name] = dims, np.repeat(once[name].values / share, 2, axis=dims.index("input"))
    np.testing.assert_allclose(nl.simulate(twice)["activity"], nl.simulate(once)["activity"], atol=1e-5)
    for name in ("connectivity", "n_effective"):
        a, b = nl.connectivity(once)[name].values, nl.connectivity(twice)[name].values
        np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(a).max())


def test_few_neurons_do_not_blur_the_latents():
    """Known inputs are known: three neurons, whose m and I are nearly one direction, still give kappa of the run."""
    fit = mock_fit()
    m = fit["m"].values
    fit["input_weights"] = ("neuron", "input"), m + 1e-4 * np.random.default_rng(0).standard_normal(m.shape)
    run = nl.simulate(fit)
    given = fit[["u"]].assign(activity=run["activity"]).isel(neuron=[0, 3, 7])
    given = given.assign_coords(neuron=fit["neuron"].values[[0, 3, 7]]).assign_attrs(bin_s=0.02)
    rng = np.random.default_rng(1)
    given["activity"] = given["activity"] + 1e-2 * rng.standard_normal(given["activity"].shape).astype("float32")
    found = nl.latents(fit, given)
    error = found["latent_data"].values - run["latent"].values
    assert np.abs(error).max() < 10 * 1e-2 / np.linalg.norm(m[[0, 3, 7]])
