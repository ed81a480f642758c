"""The scale of hidden units: what moves them, and how much."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint import fit_trials
from nwb_lint.statespace.data import arrays_of
from nwb_lint.statespace.learning.starts import first_system, with_hidden_scale
from nwb_lint.testing import mock_trials

KINDS = {"observation": "poisson", "link": "exp", "nonlinearity": "tanh"}


@pytest.fixture(scope="module")
def scaled():
    """Trials with two latents, of which the second moves no neuron, and inputs, of which the third is always 0."""
    rng = np.random.default_rng(0)
    trials = mock_trials(n_neurons=10, n_trials=30)
    kappa = rng.standard_normal((30, 40, 2))
    rate = np.exp(0.5 * kappa[..., :1] * rng.standard_normal(10))
    u = rng.standard_normal((30, 40, 3)) * np.array([1.0, 5.0, 0.0])
    trials = trials.assign(count=(trials["count"].dims, rng.poisson(3 * rate).astype(np.uint16)))
    trials = trials.assign(u=(("trial", "time", "input"), u.astype(np.float32)))
    arrays = arrays_of(trials, "count", 0.5)
    first = first_system(arrays, 2, 3000, 0.5, 4, 1, KINDS, (1.0, 1.0))
    return arrays, kappa, first, with_hidden_scale(first, arrays, kappa, 0.7)


def test_latents_inputs_and_bias_each_give_the_scale(scaled):
    arrays, kappa, _, system = scaled
    parts = kappa @ system.m[10:].T, arrays.v @ system.weights[10:].T, system.bias[10:]
    for part in parts:
        assert part.std() == pytest.approx(0.7, rel=0.05)


def test_a_latent_that_moves_no_neuron_moves_no_hidden_unit(scaled):
    _, _, first, system = scaled
    size = np.linalg.norm(system.m[10:], axis=0)
    assert size[1] < 0.1 * size[0]
    np.testing.assert_array_equal(system.m[:10], first.m[:10])  # the recorded neurons are left alone


def test_a_rotation_of_the_latents_rotates_the_hidden_units(scaled):
    arrays, kappa, first, system = scaled
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((2, 2)))[0]
    turned_first = first._replace(m=first.m @ turn)
    turned = with_hidden_scale(turned_first, arrays, kappa @ turn, 0.7)
    np.testing.assert_allclose(turned.m[10:], system.m[10:] @ turn, atol=1e-4)


def test_a_fit_has_the_scale_of_its_hidden_units():
    trials, options = mock_trials(), {"rank": 1, "tau_s": 0.1, "hidden": 20, "max_iter": 3}
    plain, scaled = fit_trials(trials, **options), fit_trials(trials, **options, hidden_scale=0.7)
    assert scaled.attrs["hidden_scale"] == 0.7
    assert "hidden_scale" not in plain.attrs
    twice = fit_trials(trials, **options, hidden_scale=1.4)
    np.testing.assert_allclose(twice["bias"].values[12:], 2 * scaled["bias"].values[12:])
