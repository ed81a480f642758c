"""The latent form is the plain recurrence, whoever computes it; gauges and orders of neurons do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nwb_lint.model.network import NONLINEARITIES, Network, canonical, condition_blocks, drives, filter_input, forward

PHI = {
    "tanh": np.tanh,
    "relu": lambda x: np.where(x > 0, x, 0),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "linear": lambda x: 1.0 * x,
    "clipped_relu": lambda x: np.where(x > 1, 1, np.where(x > 0, x, 0)),
}
ALPHA = 0.3


def network(seed=0, neurons=14, rank=2, inputs=3, conditions=5, times=25):
    rng = np.random.default_rng(seed)
    m, n = rng.standard_normal((2, neurons, rank))
    w, b, start = (rng.standard_normal((neurons, k)) for k in (inputs, 1, 1))
    return m, n, w, b[:, 0], start[:, 0], rng.standard_normal((conditions, times, inputs))


@pytest.mark.parametrize("nonlinearity", sorted(PHI))
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("initial", [False, True])
def test_latent_form_is_the_recurrence(recurrence, nonlinearity, bias, initial):
    m, n, w, b, start, u = network()
    columns = [w] + [b[:, None]] * bias + [start[:, None]] * initial
    q = drives(u, ALPHA, bias=bias, initial=initial)
    x, kappa = forward(Network(m, n, np.column_stack(columns)), q, ALPHA, nonlinearity)
    expected = recurrence(
        m, n, w, u, bias=b if bias else 0, start=start if initial else 0, phi=PHI[nonlinearity], alpha=ALPHA
    )
    np.testing.assert_allclose(x, expected, atol=1e-11)
    np.testing.assert_allclose(x, kappa @ m.T + q @ np.column_stack(columns).T, atol=1e-12)


def test_many_conditions_run_as_each_alone():
    m, n, w, *_, u = network(neurons=4000, conditions=67, times=8)
    assert len(condition_blocks(67, 4000)) == 2
    q = drives(u, ALPHA, bias=False, initial=False)
    whole, _ = forward(Network(m, n, w), q, ALPHA)
    for k in (0, 63, 64, 66):
        alone, _ = forward(Network(m, n, w), q[[k]], ALPHA)
        np.testing.assert_allclose(whole[k], alone[0], atol=1e-12)


@pytest.mark.parametrize(("neurons", "conditions"), [(10, 25_000), (500, 500), (10_000, 64)])
def test_as_many_conditions_run_together_as_fit_in_fast_memory(neurons, conditions):
    parts = condition_blocks(30_000, neurons)
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert parts[0] == slice(0, conditions)
    assert parts[-1].start < 30_000 <= parts[-1].stop


def test_full_connectivity_runs_as_its_factors():
    m, n, w, *_, u = network()
    q = drives(u, ALPHA, bias=False, initial=False)
    low, full = Network(m, n, w), Network(m @ n.T / len(m), None, w)
    np.testing.assert_allclose(full.j(), low.j(), atol=1e-14)
    np.testing.assert_allclose(forward(full, q, ALPHA)[0], forward(low, q, ALPHA)[0], atol=1e-12)


def test_silence_takes_outputs_away_and_nothing_else(recurrence):
    m, n, w, *_, u = network()
    q, keep = drives(u, ALPHA, bias=False, initial=False), np.ones(14)
    net = Network(m, n, w)
    np.testing.assert_array_equal(forward(net, q, ALPHA, gain=keep)[0], forward(net, q, ALPHA)[0])
    np.testing.assert_allclose(forward(net, q, ALPHA, gain=0 * keep)[0], filter_input(u, ALPHA) @ w.T, atol=1e-12)
    keep[[2, 5]] = 0
    unheard = n * keep[:, None]  # rows of n are what a neuron sends; N stays
    np.testing.assert_allclose(
        forward(net, q, ALPHA, gain=keep)[0], recurrence(m, unheard, w, u, alpha=ALPHA), atol=1e-11
    )


def test_permuted_neurons_run_permuted():
    m, n, w, *_, u = network()
    q, order = drives(u, ALPHA, bias=False, initial=False), np.random.default_rng(1).permutation(14)
    straight, _ = forward(Network(m, n, w), q, ALPHA)
    permuted, _ = forward(Network(m[order], n[order], w[order]), q, ALPHA)
    np.testing.assert_allclose(permuted, straight[..., order], atol=1e-12)


def test_filter_of_a_step_is_its_exponential():
    v = filter_input(np.ones((1, 30, 1)), ALPHA)[0, :, 0]
    np.testing.assert_allclose(v, 1 - (1 - ALPHA) ** np.arange(30), atol=1e-14)


@pytest.mark.parametrize("name", sorted(NONLINEARITIES))
def test_slopes_are_derivatives(name):
    x, step = np.array([-3.1, -0.7, -0.2, 0.3, 1.1, 4.0]), 1e-6
    phi, slope = NONLINEARITIES[name]
    np.testing.assert_allclose(slope(x, phi(x)), (phi(x + step) - phi(x - step)) / (2 * step), atol=1e-8)
    np.testing.assert_allclose(phi(x), PHI[name](x), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, (9, 2), elements=st.floats(-10, 10)),
    arrays(float, (9, 2), elements=st.floats(-10, 10)),
    st.floats(0.1, 10),
)
def test_gauge_keeps_the_connectivity_and_itself(m, n, factor):
    m2, n2 = canonical(m, n)
    size = 1 + np.abs(m @ n.T).max()
    np.testing.assert_allclose(m2 @ n2.T, m @ n.T, atol=1e-10 * size)
    np.testing.assert_allclose(m2.T @ m2, np.eye(2), atol=1e-10)
    strength = np.linalg.norm(n2, axis=0)
    assert strength[0] >= strength[1] - 1e-10 * size
    m3, n3 = canonical(m2, n2)
    np.testing.assert_allclose(m3 @ n3.T, m2 @ n2.T, atol=1e-10 * size)
    np.testing.assert_allclose(np.linalg.norm(n3, axis=0), strength, atol=1e-9 * size)
    again = canonical(m * factor, n / factor)
    np.testing.assert_allclose(again[0] @ again[1].T, m @ n.T, atol=1e-9 * size)


def test_gauge_is_one_for_all_factors_of_the_same_connectivity():
    m, n, *_ = network(neurons=30, rank=3)
    mixing = np.random.default_rng(2).standard_normal((3, 3)) + 2 * np.eye(3)
    first, second = canonical(m, n), canonical(m @ mixing, n @ np.linalg.inv(mixing).T)
    twice = canonical(*first)
    for a, b, c in zip(first, second, twice, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-9)
        np.testing.assert_allclose(c, a, atol=1e-10)
    assert ((first[0] ** 3).sum(axis=0) > 0).all()


def test_the_sign_of_the_gauge_is_kept_in_noisy_copies_of_a_shifted_population():
    """Of 60 neurons whose entries of m have a mean of 0.3 standard deviations; by the largest entry 17 % differ."""
    rng = np.random.default_rng(0)
    differ = 0
    for _ in range(400):
        m, n = rng.standard_normal((2, 60, 1)) + 0.3
        signs = [np.sign(canonical(m + 0.3 * rng.standard_normal(m.shape), n)[0].T @ m).item() for _ in range(2)]
        differ += signs[0] != signs[1]
    assert differ < 30
