"""Two implementations, one truth: adjoint against autograd, torch against numpy, latent form against the recurrence."""

import numpy as np
import pytest

from nwb_lint.model._torch import Problem
from nwb_lint.model.rnn import Network, canonical, drives, forward

ALPHA = 0.2


def problem(dtype, *, nonlinearity="tanh", loss="activity", masked=False, hidden=3, l2=0.0, chunk=4_000_000):
    """A random network of 12 recorded and some hidden neurons, 7 conditions, 4 steps of burn-in and 11 samples."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((7, 15, 2))
    q = drives(u, ALPHA, bias=True, initial=True)
    y = rng.standard_normal((7, 11, 12))
    weight = (rng.random(y.shape) < 0.7).astype(float) if masked else None
    m, n = rng.standard_normal((2, 12 + hidden, 2))
    w = rng.standard_normal((12 + hidden, 4))
    options = {"alpha": ALPHA, "nonlinearity": nonlinearity, "loss": loss, "l2": l2, "dtype": dtype}
    return Problem(q, y, weight, chunk_values=chunk, **options), (m, n, w), q


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "softplus"])
@pytest.mark.parametrize("loss", ["activity", "rate"])
@pytest.mark.parametrize("masked", [False, True])
def test_adjoint_is_the_gradient_of_autograd(dtype, tolerance, nonlinearity, loss, masked):
    p, parameters, _ = problem(dtype, nonlinearity=nonlinearity, loss=loss, masked=masked, l2=0.01, chunk=400)
    ours, theirs = p.loss_and_gradient(*parameters), p.autograd(*parameters)
    assert ours[0] == pytest.approx(theirs[0], rel=tolerance)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def test_adjoint_is_the_gradient_by_finite_differences():
    p, parameters, _ = problem("float64", loss="rate", masked=True)
    _, *gradients = p.loss_and_gradient(*parameters)
    rng = np.random.default_rng(1)
    for k in range(3):
        step = 1e-6 * rng.standard_normal(parameters[k].shape)
        ends = [[v + sign * step if i == k else v for i, v in enumerate(parameters)] for sign in (1, -1)]
        change = p.loss(*ends[0]) - p.loss(*ends[1])
        assert change == pytest.approx(2 * (gradients[k] * step).sum(), rel=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "softplus"])
def test_numpy_and_torch_run_alike(dtype, tolerance, nonlinearity):
    p, (m, n, w), q = problem(dtype, nonlinearity=nonlinearity)
    theirs, _, _ = p._run(p.tensor(m), p.tensor(n), p.tensor(w), slice(None))
    ours, _ = forward(Network(m, n, w), q.astype(dtype), ALPHA, nonlinearity)
    ours = ours.swapaxes(0, 1)
    assert np.abs(theirs.numpy() - ours).max() <= tolerance * np.abs(ours).max()


@pytest.mark.parametrize("full", [False, True])
def test_latent_form_is_the_plain_recurrence(full):
    rng = np.random.default_rng(2)
    size, u = 9, rng.standard_normal((3, 20, 2))
    m, n = rng.standard_normal((2, size, 2))
    weights, bias, start = rng.standard_normal((size, 2)), rng.standard_normal(size), rng.standard_normal(size)
    j = m @ n.T / size
    network = Network(j if full else m, None if full else n, np.column_stack([weights, bias, start]))
    ours, _ = forward(network, drives(u, ALPHA, bias=True, initial=True), ALPHA)
    x = np.broadcast_to(start, (3, size))
    for t in range(20):
        np.testing.assert_allclose(ours[:, t], x, atol=1e-12)
        x = (1 - ALPHA) * x + ALPHA * (np.tanh(x) @ j.T + u[:, t] @ weights.T + bias)


def test_gauge_leaves_the_connectivity_and_is_idempotent():
    m, n = np.random.default_rng(3).standard_normal((2, 30, 3))
    m2, n2 = canonical(m, n)
    np.testing.assert_allclose(m2 @ n2.T, m @ n.T, atol=1e-12)
    np.testing.assert_allclose(m2.T @ m2, np.eye(3), atol=1e-12)
    for a, b in zip(canonical(m2, n2), (m2, n2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
