"""The network of least squared error: exact without noise, whatever smoothing did; what its steps change."""

import numpy as np
import pytest

from nwb_lint.model.areas.blocks import Blocks, one_block
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.tuning import WEAKEST
from nwb_lint.validation.least_squares import (
    Means,
    changed,
    estimate,
    n_parameters,
    restricted,
    smoothing,
    spread,
    weakest,
    whitening,
)

N, ALPHA, BINS = 20, 0.2, 40


def two_areas() -> Blocks:
    """A reads itself, and B reads A and itself."""
    area, to, source = np.arange(N) % 2, np.array([0, 1, 1]), np.array([0, 0, 1])
    return Blocks(("A", "B"), area, to, source, np.ones((N, 3), bool))


@pytest.fixture(scope="module", params=["rank 1", "rank 2", "areas"])
def network(request):
    """A network and its blocks."""
    rng = np.random.default_rng(len(request.param))
    if request.param == "areas":
        blocks = two_areas()
        m, w = rng.standard_normal((N, 3)) * blocks.of_m, rng.standard_normal((N, 3))
        reads = np.array([[0.8, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.8]])
        n = 2 * (m @ reads + [0.5, 0.5, 0.5] * w[:, :1]) * blocks.of_n
    else:
        rank = int(request.param[-1])
        m, w = rng.standard_normal((N, rank)), rng.standard_normal((N, 3))
        blocks, n = one_block(m, w), 0.8 * m + 0.5 * w[:, :1]
    w[:, 1:] = 0  # neither a bias nor an initial activation
    return restricted(Network(m, n, w), blocks), blocks


@pytest.fixture(scope="module")
def q():
    u = np.zeros((6, BINS, 1))
    u[:, 5:20, 0] = np.linspace(-1, 1, 6)[:, None]
    return drives(u, ALPHA, bias=True, initial=True)


def means_of(truth, blocks, q):
    """Means without noise, smoothed, which count as if they had some."""
    smooth = smoothing(BINS, 2.5)
    noise = np.einsum("st,dctn->dcsn", smooth, np.random.default_rng(0).standard_normal((20, 6, BINS, N)))
    whiten, precision = whitening(0.1 * noise)
    x, _ = forward(truth, q, ALPHA)
    y = np.einsum("st,ctn->csn", smooth, x)
    return Means(y, q, ALPHA, "tanh", whiten, whiten @ smooth, precision, blocks)


def test_smoothed_means_without_noise_give_the_network_back(network, q):
    truth, blocks = network
    means = means_of(truth, blocks, q)
    away = 0.1 * np.random.default_rng(1).standard_normal(n_parameters(truth, blocks))
    found = estimate(means, changed(truth, blocks, away))
    assert found.error < 1e-2
    np.testing.assert_allclose(found.network.m @ found.network.n.T, truth.m @ truth.n.T, atol=0.05)
    np.testing.assert_allclose(found.network.w, truth.w, atol=0.02)
    assert spread(found).shape[0] == n_parameters(truth, blocks)
    for one, other in zip(blocks.masked(found.network), found.network, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_direction_that_hardly_moves_the_neurons_is_the_weakest(network, q):
    truth, blocks = network
    means, faint = means_of(truth, blocks, q), np.ones(truth.m.shape[1])
    faint[0] = 1e-4
    assert weakest(means, truth._replace(m=truth.m * faint)) < 1e-4 * weakest(means, truth)
    if len(blocks.names) > 1:  # an input need not reach each area
        w = np.where(blocks.area[:, None] == 1, 1e-4, 1.0) * truth.w
        assert weakest(means, truth._replace(w=w)) > WEAKEST


def test_no_step_is_no_change(network):
    truth, blocks = network
    same = changed(truth, blocks, np.zeros(n_parameters(truth, blocks)))
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
