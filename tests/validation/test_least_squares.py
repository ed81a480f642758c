"""The network of least squared error: exact without noise, whatever smoothing did; what its steps change."""

import numpy as np
import pytest

from nwb_lint.model.network import Network, drives, forward
from nwb_lint.validation.least_squares import (
    Means,
    changed,
    estimate,
    n_parameters,
    restricted,
    smoothing,
    spread,
    whitening,
)

N, ALPHA, BINS = 20, 0.2, 40


@pytest.fixture(scope="module", params=[1, 2])
def truth(request):
    rng = np.random.default_rng(request.param)
    m, w = rng.standard_normal((N, request.param)), rng.standard_normal((N, 3))
    w[:, 1:] = 0  # neither a bias nor an initial activation
    return restricted(Network(m, 0.8 * m + 0.5 * w[:, :1], w))


@pytest.fixture(scope="module")
def q():
    u = np.zeros((6, BINS, 1))
    u[:, 5:20, 0] = np.linspace(-1, 1, 6)[:, None]
    return drives(u, ALPHA, bias=True, initial=True)


def test_smoothed_means_without_noise_give_the_network_back(truth, q):
    smooth = smoothing(BINS, 2.5)
    noise = np.einsum("st,dctn->dcsn", smooth, np.random.default_rng(0).standard_normal((20, 6, BINS, N)))
    whiten, precision = whitening(0.1 * noise)
    x, _ = forward(truth, q, ALPHA)
    means = Means(np.einsum("st,ctn->csn", smooth, x), q, ALPHA, "tanh", whiten, whiten @ smooth, precision)
    away = 0.1 * np.random.default_rng(1).standard_normal(n_parameters(truth))
    found = estimate(means, changed(truth, away))
    assert found.error < 1e-2
    np.testing.assert_allclose(found.network.m @ found.network.n.T, truth.m @ truth.n.T, atol=0.05)
    np.testing.assert_allclose(found.network.w, truth.w, atol=0.02)
    assert spread(found).shape[0] == n_parameters(truth)


def test_no_step_is_no_change(truth):
    same = changed(truth, np.zeros(n_parameters(truth)))
    for one, other in zip(same, truth, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_whitened_noise_is_white():
    smooth = smoothing(BINS, 2.5)
    noise = np.einsum("st,dctn->dcsn", smooth, np.random.default_rng(0).standard_normal((50, 6, BINS, N)))
    whiten, precision = whitening(3 * noise)
    white = np.einsum("kt,dctn->dckn", whiten, 3 * noise) * np.sqrt(precision)
    courses = white.transpose(2, 0, 1, 3).reshape(len(whiten), -1)
    np.testing.assert_allclose(courses @ courses.T / courses.shape[1], np.eye(len(whiten)), atol=0.02)
    assert len(whiten) < BINS / 2  # smoothing removed the rest
