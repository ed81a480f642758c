"""The regression of the dynamics on samples of the latents: a second implementation, and slow latents."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.statespace.learning.steps import Moments, ridge_regression
from nwb_lint.statespace.tuning import LINEAR_RIDGE, RIDGES


def moments_of(features, z, targets):
    cross = features.T @ targets
    return Moments(len(features), features.T @ features, cross, targets.T @ targets, features.T @ z)


@pytest.fixture(scope="module")
def slow():
    """Features tanh(x) of one slow latent and an input, targets of a linear network with noise, and the true ones."""
    rng = np.random.default_rng(0)
    z = np.column_stack([np.ones(3000), rng.standard_normal((3000, 2))])
    features = np.tanh(z @ rng.standard_normal((3, 80)))
    true = z @ np.array([[0.01], [0.19], [0.05]])
    return features, z, true + 0.1 * rng.standard_normal((3000, 1)), true


def test_it_is_a_regression_with_two_ridges(slow):
    """Least squares with coefficients W b + w, and their penalties; the residual is that of the coefficients."""
    features, z, targets, _ = slow
    found, noise, ridge = ridge_regression(moments_of(features, z, targets), RIDGES)
    power = (features**2).sum() / features.shape[1]
    linear = np.linalg.solve(features.T @ features + LINEAR_RIDGE * power * np.eye(80), features.T @ z)
    penalty = np.zeros((160, 83))
    penalty[:80, :80] = np.sqrt(ridge * power) * np.eye(80)
    penalty[80:, 80:] = np.sqrt(LINEAR_RIDGE * power) * linear
    design = np.vstack([np.column_stack([features, features @ linear]), penalty])
    both = np.linalg.lstsq(design, np.vstack([targets, np.zeros((160, 1))]), rcond=None)[0]
    np.testing.assert_allclose(found, both[:80] + linear @ both[80:], atol=1e-7)
    np.testing.assert_allclose(noise, np.cov((targets - features @ found).T, bias=True), rtol=1e-3)


def test_the_ridge_is_the_one_of_largest_marginal_likelihood(slow):
    """The density of the targets, Gaussian with the covariance of both parts, noise at its best value."""
    features, z, targets, _ = slow
    features, z, targets = features[:300], z[:300], targets[:300]
    power = (features**2).sum() / features.shape[1]
    linear = np.linalg.solve(features.T @ features + LINEAR_RIDGE * power * np.eye(80), features.T @ z)
    part = linear @ np.linalg.inv(linear.T @ linear) @ linear.T / (LINEAR_RIDGE * power)

    def log_likelihood(ridge):
        covariance = np.eye(300) + features @ (np.eye(80) / (ridge * power) + part) @ features.T
        size = (targets.T @ np.linalg.solve(covariance, targets)).item() / 300
        return -150 * np.log(size) - 0.5 * np.linalg.slogdet(covariance)[1]

    ridges = 10.0 ** np.arange(-4, 3.1)
    chosen = ridge_regression(moments_of(features, z, targets), ridges)[2]
    assert chosen == ridges[np.argmax([log_likelihood(ridge) for ridge in ridges])]


def test_linear_dynamics_are_not_shrunk(slow):
    """With the largest ridge the linear part stays: a slow latent does not become a faster one."""
    features, z, targets, true = slow
    found, _, _ = ridge_regression(moments_of(features, z, targets), np.array([1e6]))
    np.testing.assert_allclose(np.linalg.lstsq(z, features @ found, rcond=None)[0].T, [[0.01, 0.19, 0.05]], atol=6e-3)
    assert np.sqrt(((features @ found - true) ** 2).mean()) < 0.01


def test_features_without_power_count_for_nothing():
    """An input that is never there, and units that are silent."""
    rng = np.random.default_rng(1)
    z = np.column_stack([np.ones(200), rng.standard_normal(200), np.zeros(200)])
    features = np.tanh(z @ rng.standard_normal((3, 20)))
    features[:, 5] = 0
    found, noise, _ = ridge_regression(moments_of(features, z, 0.2 * z[:, 1:2]), RIDGES)
    assert np.isfinite(found).all()
    assert np.isfinite(noise).all()
    assert found[5].item() == pytest.approx(0, abs=1e-9)
