"""Behavior beside mean activity: rows of the loss without feedback, and what is read from the latents."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.data import with_behavior, without_behavior
from nwb_lint.model.network import Network, drives, forward, without_output
from nwb_lint.model.network import nonlinearity_of as phi_named
from tests.factories import assert_same

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
FIT = {"tau_s": 0.1, "seed": 0}


def weak_activity(seed=0, n_conditions=40, noise=0.6):
    """Means of a network of rank 2 whose second latent is weak in the neurons, and makes a movement and a choice."""
    rng, n, n_times, alpha = np.random.default_rng(seed), 40, 50, 0.2
    m, w = rng.standard_normal((n, 2)) * (1.0, 0.15), np.zeros((n, 2))
    network_n = np.linalg.qr(rng.standard_normal((n, 2)))[0] * np.sqrt(n)
    drive = 0.8 * network_n + 0.3 * rng.standard_normal((n, 2))
    w += drive
    amplitude = rng.uniform(-1.5, 1.5, (n_conditions, 2))
    u = np.zeros((n_conditions, n_times, 2), np.float32)
    u[:, 5:25] = amplitude[:, None]
    q = drives(u, alpha, bias=False, initial=False)
    x, kappa = forward(Network(m, network_n * 0.9, w), q, alpha)
    kappa = kappa.astype(float)
    speed = 3 + 2 * kappa[..., 1] / kappa[..., 1].std() + 0.2 * rng.standard_normal(kappa.shape[:2])
    data = {
        "activity": (("condition", "time", "neuron"), (x + noise * rng.standard_normal(x.shape)).astype(np.float32)),
        "u": (("condition", "time", "input"), u),
        "behavior": (("condition", "time", "readout"), speed[..., None]),
    }
    coords = {
        "condition": [f"c{k}" for k in range(n_conditions)], "time": 0.02 * np.arange(n_times),
        "neuron": [f"n{k}" for k in range(n)], "input": ["a", "b"], "readout": ["speed"],
        "readout_kind": ("readout", ["number"]), "readout_once": ("readout", [False]),
        "readout_definition": ("readout", ['name = "speed"']),
    }  # fmt: skip
    return xr.Dataset(data, coords, {"bin_s": 0.02}), kappa


@pytest.fixture(scope="module")
def weak():
    return weak_activity()


def test_units_without_output_change_no_other_unit():
    rng = np.random.default_rng(0)
    m, n, w = rng.standard_normal((7, 2)), rng.standard_normal((7, 2)), rng.standard_normal((7, 1))
    q = drives(rng.standard_normal((3, 20, 1)), 0.2, bias=False, initial=False)
    phi = without_output("tanh", slice(4, 6))
    joint = forward(Network(m, n, w), q, 0.2, phi)[0]
    alone = forward(without_behavior(Network(m, n, w), 4, 2), q, 0.2)[0]
    np.testing.assert_allclose(np.delete(joint, [4, 5], axis=2), alone, atol=1e-12)
    x = rng.standard_normal((2, 7))
    np.testing.assert_array_equal(phi.phi(x)[:, 4:6], 0)
    np.testing.assert_array_equal(np.delete(phi.slope(x, phi.phi(x)), [4, 5], axis=1),
                                  np.delete(phi_named("tanh").slope(x, np.tanh(x)), [4, 5], axis=1))  # fmt: skip


def test_weight_0_is_the_fit_without_behavior(weak):
    activity = weak[0].isel(condition=slice(0, 16))
    bare = nl.fit_lint(activity.drop_dims("readout"), rank=1, test_size=4, **FIT)
    fit = nl.fit_lint(activity, rank=1, test_size=4, readout_weight=0.0, **FIT)
    for name in bare.data_vars:
        np.testing.assert_array_equal(bare[name], fit[name])
    assert np.isfinite(fit["readout_score"].values).all()


@pytest.mark.parametrize("method", ["regression", "auto"])
def test_a_joint_fit_finds_the_dimension_that_the_fit_of_activity_misses(weak, method):
    activity, _ = weak
    options = FIT | {"rank": 1, "method": method, "test_size": 10}
    plain, joint = (nl.fit_lint(activity, readout_weight=w, **options) for w in (0.0, 200.0))
    fits = [nl.fit_lint(activity.drop_dims("readout"), **options), joint]
    assert float(joint["readout_score"][0, 1]) > float(plain["readout_score"][0, 1]) + 0.02
    assert [one.sizes["neuron"] for one in fits] == [40, 40]
    run = nl.simulate(joint)["activity"]
    np.testing.assert_allclose(run, joint["activity_pred"], atol=1e-5)


def test_what_is_read_is_level_weights_and_input_weights(weak):
    fit = nl.fit_lint(weak[0], rank=2, test_size=10, **FIT)
    read = fit["readout_level"] + (fit["readout_weights"] * fit["latent"]).sum("rank")
    read = read + (fit["readout_input_weights"] * fit["filtered_input"]).sum("input")
    np.testing.assert_allclose(read.transpose("condition", "time", "readout"), fit["behavior_pred"], atol=1e-4)
    assert float(fit["readout_score"].sel(split="held_out")[0]) > 0.8
    turned = nl.canonicalize(fit)
    again = (turned["readout_weights"] * turned["latent"]).sum("rank")
    np.testing.assert_allclose(again, (fit["readout_weights"] * fit["latent"]).sum("rank"), atol=1e-4)


def test_behavior_of_held_out_conditions_is_not_used(weak):
    activity = weak[0].isel(condition=slice(0, 16))
    held = ["c0", "c5", "c7"]
    fit = nl.fit_lint(activity, rank=1, test_conditions=held, **FIT)
    blind = activity.assign(behavior=activity["behavior"].where(~activity["condition"].isin(held)))
    other = nl.fit_lint(blind, rank=1, test_conditions=held, **FIT)
    for name in ("m", "n", "readout_weights"):
        np.testing.assert_array_equal(fit[name], other[name])


def test_a_window_is_filled_along_the_direction_that_is_read(weak):
    from nwb_lint.model.data import Samples

    activity, kappa = weak
    x = activity["activity"].values
    q = drives(activity["u"].values, 0.2, bias=False, initial=False)
    z = (kappa[..., :1] - kappa[..., 0].mean()) / kappa[..., 0].std()
    seen = np.zeros(z.shape, bool)
    seen[:, 20:30] = True
    joint = with_behavior(Samples(x, q, 0.2), np.where(seen, z, 0), seen, 3.0)
    added = joint.x[..., 40]
    assert np.corrcoef(added[:, 30:].ravel(), z[:, 30:, 0].ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(joint.weights, np.r_[np.ones(40), 3.0].astype(np.float32))


def test_a_choice_of_the_conditions_is_read_as_a_number(weak, tmp_path):
    activity, kappa = weak
    side = np.where(kappa[:, 30, 1] > 0, "right", "left")
    recording = activity.drop_dims("readout").assign_coords(side=("condition", side))
    behavior = nl.Readout("side", column="side", window_s=(0.5, 0.9)).values(recording, "condition")
    assert behavior[1] == ("left", "right")
    joint = activity.assign(behavior=(("condition", "time", "readout"), behavior[0][..., None]))
    joint = joint.assign_coords(readout_kind=("readout", ["choice"]), readout_once=("readout", [True]))
    fit = nl.fit_lint(joint, rank=2, test_size=10, readout_weight=5.0, **FIT)
    assert float(fit["readout_score"].sel(split="held_out")[0]) > 0.3
    assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)))


def test_hidden_units_and_halves_go_with_behavior(weak):
    activity = weak[0].isel(condition=slice(0, 16))
    half = np.stack([activity["activity"].values] * 2)
    half += 0.3 * np.random.default_rng(0).standard_normal(half.shape).astype(np.float32)
    number = np.full((2, 16, 40), 4)
    given = activity.assign(
        activity_half=(("half", "condition", "time", "neuron"), half),
        n_trials_half=(("half", "condition", "neuron"), number),
    )
    for data, more in ((given, {}), (activity, {"hidden": 5, "method": "regression"})):
        fit = nl.fit_lint(data, rank=1, test_size=4, **FIT, **more)
        assert fit.sizes["neuron"] == 40 + more.get("hidden", 0)
        np.testing.assert_allclose(nl.simulate(fit)["activity"], fit["activity_pred"], atol=1e-4)


def test_prepare_reads_behavior_of_conditions():
    from nwb_lint.testing import mock_recording

    recording = mock_recording().assign_coords(side=("condition", np.resize(["l", "r"], 8)))
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0, 1))]
    activity = nl.prepare(recording, inputs=inputs, readouts=[nl.Readout("side", column="side")])
    assert activity["behavior"].dims == ("condition", "time", "readout")
    np.testing.assert_array_equal(activity["behavior"].values[:, 0, 0], np.resize([0, 1], 8))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": None}, "Give a rank"),
        ({"rank": 1, "loss": "rate"}, "behavior is no rate"),
        ({"rank": 1, "areas": "area"}, "latents of one block cannot be read alone"),
    ],
)
def test_what_cannot_be_fitted_is_said(weak, options, match):
    activity = weak[0].assign_coords(area=("neuron", np.resize(["A", "B"], 40)))
    with pytest.raises(ContractError, match=match):
        nl.fit_lint(activity, **options, **FIT)
