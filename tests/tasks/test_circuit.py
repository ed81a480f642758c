"""The network of Langdon & Engel: its gradient, its signs, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.errors import ContractError
from nwb_lint.tasks.circuit import (
    SIGMA,
    context_choice,
    loss_and_gradient,
    run_circuit,
    share_of_right_choices,
    train_circuit,
)


def test_the_gradient_is_that_of_the_loss():
    trials, rng = context_choice(1, seed=3).isel(condition=slice(0, 5)), np.random.default_rng(0)
    weights = {"W": 0.3 * rng.standard_normal((10, 10)), "B": rng.random((10, 6)), "C": rng.random((2, 10))}
    u, target = (trials[name].values.astype(float) for name in ("u", "target"))

    def loss(changed):
        return loss_and_gradient(changed, u, target, SIGMA, np.random.default_rng(1))[0]

    slopes = loss_and_gradient(weights, u, target, SIGMA, np.random.default_rng(1))[1]
    for name, value in weights.items():
        direction = rng.standard_normal(value.shape)
        step = 1e-6
        ahead, behind = (loss(weights | {name: value + s * step * direction}) for s in (1, -1))
        assert (slopes[name] * direction).sum() == pytest.approx((ahead - behind) / (2 * step), rel=1e-4)


def test_columns_that_do_not_overlap_have_no_slope():
    """Each input and each output has a unit of its own, so that the penalty of overlaps is 0."""
    weights = {"W": np.zeros((10, 10)), "B": np.eye(10, 6), "C": np.eye(2, 10, 6)}
    trials = context_choice(1).isel(condition=[0])
    loss, slopes = loss_and_gradient(
        weights, trials["u"].values, trials["target"].values, 0.0, np.random.default_rng(0)
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(one).all() for one in slopes.values())


def test_weights_keep_their_signs():
    weights = train_circuit(n_units=20, repeats=1, epochs=3, seed=1)
    assert (weights["W"][:, :16] >= 0).all()
    assert (weights["W"][:, 16:] <= 0).all()
    assert (np.diag(weights["W"]) == 0).all()
    assert (weights["B"] >= 0).all()
    assert (weights["C"] >= 0).all()
    assert (weights["C"][:, 16:] == 0).all()


def test_trials_are_those_of_the_task():
    trials = context_choice(2, seed=0)
    assert trials.sizes == {"condition": 144, "time": 75, "input": 6, "output": 2}
    quiet = trials["u"].values[:, 26:28].mean(axis=(0, 1))
    np.testing.assert_allclose(quiet, 0.2, atol=0.02)
    both = trials["u"].values[:, 40:, 2:4].sum(axis=2)
    np.testing.assert_allclose(both.mean(), 1.4, atol=0.01)
    relevant = np.where(trials["context"] == "motion", trials["motion"], trials["color"])
    assert (np.sign(relevant) == trials["choice"].values).all()
    with pytest.raises(ContractError, match="repeats"):
        context_choice(0)
    with pytest.raises(ContractError, match="n_units"):
        train_circuit(n_units=5)


@pytest.mark.slow
def test_the_network_learns_the_task():
    weights = train_circuit(seed=0, repeats=10, epochs=60)
    trials = context_choice(5, seed=100)
    x = run_circuit(weights, trials["u"].values, sigma=SIGMA, seed=5)
    assert share_of_right_choices(weights, trials, x) > 0.8
