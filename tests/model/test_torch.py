"""The adjoint is the gradient: against autograd and finite differences; torch runs what numpy runs."""

import numpy as np
import pytest
import torch

from nwb_lint.model._torch import PHI, Memory, Problem
from nwb_lint.model.network import Network, drives, forward

ALPHA = 0.2
CASES = {
    "plain": {},
    "weights": {"weighted": True},
    "burn-in": {"skip": 5},
    "hidden units": {"hidden": 6},
    "everything": {"weighted": True, "skip": 5, "hidden": 6, "chunk": 2},
}


def problem(dtype, nonlinearity="tanh", loss="activity", *, weighted=False, skip=0, hidden=0, chunk=None):
    """A random network: 10 recorded neurons, 9 conditions, 12 samples, 2 inputs, a bias and a start, rank 2."""
    rng = np.random.default_rng(3)
    q = drives(rng.standard_normal((9, skip + 12, 2)), ALPHA, bias=True, initial=True)
    y = rng.standard_normal((9, 12, 10))
    weight = rng.random(y.shape) * (rng.random(y.shape) < 0.8) if weighted else None  # graded, and some 0: not observed
    options = {"alpha": ALPHA, "nonlinearity": nonlinearity, "loss": loss}
    parameters = [rng.standard_normal((10 + hidden, k)) for k in (2, 2, 4)]
    return Problem(q, y, weight, dtype=dtype, chunk=chunk, **options), parameters, q, y, weight


def run(p, parameters):
    """x, phi(x) and z of all conditions at once."""
    times, conditions = p.q.shape[:2]
    n_neurons, rank = parameters[0].shape
    memory = Memory(p.q)
    memory.fit(p.q, rank, n_neurons, times * conditions * n_neurons)
    p.run(p.pack(*parameters), memory)
    return memory.x, memory.r, memory.z


def away_from_kinks(p, parameters, dtype):
    """Where the slope jumps, at 0 and 1: no activation so near that rounding decides on which side it is."""
    x = run(p, parameters)[0]
    return bool(min(x.abs().min(), (x - 1).abs().min()) > (1e-6 if dtype == "float32" else 1e-13))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("loss", ["activity", "rate"])
@pytest.mark.parametrize("nonlinearity", sorted(PHI))
def test_adjoint_is_autograd(dtype, tolerance, case, loss, nonlinearity):
    p, parameters, *_ = problem(dtype, nonlinearity, loss, **case)
    assert "relu" not in nonlinearity or away_from_kinks(p, parameters, dtype)
    if "chunk" in case:
        assert len(list(p.chunks(len(parameters[0])))) > 2
    value, *ours = p.loss_and_gradient(*parameters)
    reference, *theirs = p.autograd(*parameters)
    assert value == pytest.approx(reference, rel=tolerance)
    assert p.loss(*parameters) == pytest.approx(value, rel=1e-12)
    for a, b, parameter in zip(ours, theirs, parameters, strict=True):
        assert a.shape == parameter.shape
        assert np.linalg.norm(b) > 1e-3
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@pytest.mark.parametrize("loss", ["activity", "rate"])
@pytest.mark.parametrize("nonlinearity", sorted(PHI))
def test_adjoint_is_the_central_difference(loss, nonlinearity):
    p, parameters, *_ = problem("float64", nonlinearity, loss, **CASES["everything"])
    _, *gradients = p.loss_and_gradient(*parameters)
    rng = np.random.default_rng(4)
    for k, gradient in enumerate(gradients):
        for _ in range(3):
            i = tuple(rng.integers(s) for s in gradient.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [v.copy() for v in parameters]
                moved[k][i] += step
                ends.append(p.loss(*moved))
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[i], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("nonlinearity", sorted(PHI))
def test_torch_runs_what_numpy_runs(dtype, tolerance, nonlinearity):
    p, (m, n, w), q, *_ = problem(dtype, nonlinearity, hidden=6, skip=5)
    x, r, z = run(p, (m, n, w))
    kappa = z[:, :, : m.shape[1]]
    ours, latents = forward(Network(m, n, w), q.astype(dtype), ALPHA, nonlinearity)
    assert x.numpy().dtype == ours.dtype == np.dtype(dtype)
    for theirs, mine in ((x, ours), (kappa, latents), (r, PHI[nonlinearity](torch.as_tensor(ours)).numpy())):
        assert np.abs(theirs.numpy().swapaxes(0, 1) - mine).max() <= tolerance * np.abs(mine).max()


@pytest.mark.parametrize("loss", ["activity", "rate"])
def test_loss_is_what_its_docstring_says(loss):
    p, (m, n, w), q, y, weight = problem("float64", "tanh", loss, **CASES["everything"])
    x, _ = forward(Network(m, n, w), q, ALPHA)
    f = np.tanh if loss == "rate" else np.asarray
    data = (weight * (f(x[:, 5:, :10]) - f(y)) ** 2).sum() / (weight * f(y) ** 2).sum()
    assert p.loss(m, n, w) == pytest.approx(data, rel=1e-12)


def test_unobserved_samples_have_no_influence():
    _, parameters, q, y, weight = problem("float64", weighted=True)
    other = np.where(weight == 0, 1e3, y)
    both = [Problem(q, v, weight, alpha=ALPHA, dtype="float64").loss_and_gradient(*parameters) for v in (y, other)]
    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("loss", ["activity", "rate"])
@pytest.mark.parametrize("steps", [1, 3])
def test_blocks_of_time_steps_change_nothing(monkeypatch, steps, loss, chunk):
    p, parameters, *_ = problem("float64", loss=loss, **CASES["everything"] | {"chunk": chunk})
    whole = p.loss_and_gradient(*parameters)
    monkeypatch.setattr("nwb_lint.model._torch.GRADIENT_BLOCK_VALUES", steps * (chunk or 9) * len(parameters[0]))
    p.memories.clear()
    for one, other in zip(p.loss_and_gradient(*parameters), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert p.loss(*parameters) == pytest.approx(whole[0], rel=1e-12)
    assert max(len(memory.slope) for memory in p.memories) <= 2 * steps  # the last chunk has one condition


@pytest.mark.parametrize(("device", "steps"), [("cpu", 3), ("meta", 12)])
def test_a_block_is_small_on_a_cpu_and_has_all_time_steps_elsewhere(monkeypatch, device, steps):
    monkeypatch.setattr("nwb_lint.model._torch.GRADIENT_BLOCK_VALUES", 3 * 9 * 10)
    q = torch.empty(12, 9, 2, device=device)
    memory = Memory(q)
    memory.fit(q, 2, 10, 12 * 9 * 10)
    assert memory.slope.shape == memory.g.shape == (steps, 9, 10)
    assert [part.stop - part.start for part in memory.blocks(5, 12)] == ([3, 3, 1] if device == "cpu" else [7])


def test_threads_are_left_as_they_were():
    before = torch.get_num_threads()
    p, parameters, *_ = problem("float32")
    p.loss(*parameters)
    p.loss_and_gradient(*parameters)
    assert torch.get_num_threads() == before


def test_memory_that_is_used_again_changes_nothing():
    """Other conditions, other ranks and other networks in between leave the loss and its gradients as they are."""
    rng = np.random.default_rng(0)
    q = drives(rng.standard_normal((9, 12, 2)), ALPHA, bias=True, initial=True)
    y = rng.standard_normal((9, 12, 10))
    p = Problem(q, y, None, alpha=ALPHA, chunk=4)
    networks = [[rng.standard_normal((10, k)) for k in (rank, rank, 4)] for rank in (1, 2, 1)]

    def of(problem, network):
        loss, *gradients = problem.loss_and_gradient(*network)
        return [np.array(loss), *gradients]

    fresh = [of(Problem(q, y, None, alpha=ALPHA, chunk=4), network) for network in networks]
    for _ in range(2):
        for network, expected in zip(networks, fresh, strict=True):
            p.take(np.array([1, 5, 7])).loss(*network)
            for one, other in zip(of(p, network), expected, strict=True):
                np.testing.assert_array_equal(one, other)
