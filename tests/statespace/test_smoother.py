"""The posterior of the latents against a dense Gaussian, and against differences."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.smoother import causal_filter, covariances, gradient, samples, smooth
from nwb_lint.statespace.system import LOG_2PI, System, Trials, context_of, evaluate

N, RANK, INPUTS, TIMES, TRIALS = 12, 3, 2, 7, 4


def a_system(observation="gaussian", nonlinearity="linear", hidden=0, link="exp") -> System:
    rng = np.random.default_rng(0)
    units, root = N + hidden, rng.standard_normal((RANK, RANK))
    return System(
        m=rng.standard_normal((units, RANK)), n=rng.standard_normal((units, RANK)),
        weights=rng.standard_normal((units, INPUTS)), bias=0.3 * rng.standard_normal(units),
        level=rng.standard_normal(N), variance=0.5 + rng.random(N), noise=0.1 * (root @ root.T + np.eye(RANK)),
        start=rng.standard_normal((1, RANK)), spread=0.7 * np.eye(RANK), alpha=0.3, nonlinearity=nonlinearity,
        observation=observation, link=link,
    )  # fmt: skip


def some_trials(observation="gaussian") -> Trials:
    rng = np.random.default_rng(1)
    shape = (TRIALS, TIMES, N)
    y = rng.standard_normal(shape) if observation == "gaussian" else rng.poisson(2.0, shape).astype(float)
    seen = rng.random(shape) > 0.2
    v, lag = rng.standard_normal((TRIALS, TIMES, INPUTS)), np.ones((TRIALS, TIMES - 1), bool)
    return Trials(y, seen, v, np.zeros(shape[:2]), np.zeros(TRIALS, int), lag)


def dense_posterior(system: System, trials: Trials, k: int):
    """Mean and covariance (time · rank) of one trial, and its log evidence, from the joint Gaussian."""
    a = (1 - system.alpha) * np.eye(RANK) + system.alpha * system.n.T @ system.m / N
    drive = trials.v[k] @ system.weights.T + system.bias
    mean, spread = [system.start[0]], [system.spread]
    for t in range(TIMES - 1):
        mean.append(a @ mean[-1] + system.alpha * system.n.T @ drive[t] / N)
        spread.append(a @ spread[-1] @ a.T + system.noise)
    prior = np.zeros((TIMES * RANK, TIMES * RANK))
    for t in range(TIMES):
        block = spread[t]
        for s in range(t, TIMES):
            prior[s * RANK : (s + 1) * RANK, t * RANK : (t + 1) * RANK] = block
            prior[t * RANK : (t + 1) * RANK, s * RANK : (s + 1) * RANK] = block.T
            block = a @ block
    seen = trials.seen[k].ravel()
    c = np.kron(np.eye(TIMES), system.m)[seen]
    error = (trials.y[k] - drive - system.level).ravel()[seen] - c @ np.concatenate(mean)
    total = c @ prior @ c.T + np.diag(np.tile(system.variance, TIMES)[seen])
    gain = prior @ c.T @ np.linalg.inv(total)
    log = -0.5 * (error @ np.linalg.solve(total, error) + np.linalg.slogdet(total)[1] + len(error) * LOG_2PI)
    return np.concatenate(mean) + gain @ error, prior - gain @ c @ prior, log


@pytest.mark.parametrize("again", [False, True])
def test_linear_gaussian_network_has_the_exact_posterior_and_evidence(again):
    system, trials = a_system(), some_trials()
    found = smooth(system, trials, np.zeros((TRIALS, TIMES, RANK)))
    if again:  # with a covariance, which changes nothing here
        found = smooth(system, trials, found.mode, covariance=covariances(found))
    spread = covariances(found)
    filtered = causal_filter(system, trials)
    for k in range(TRIALS):
        mean, covariance, log = dense_posterior(system, trials, k)
        np.testing.assert_allclose(found.mode[k].ravel(), mean, atol=1e-8)
        blocks = [covariance[t : t + RANK, t : t + RANK] for t in range(0, TIMES * RANK, RANK)]
        np.testing.assert_allclose(spread[k], blocks, atol=1e-8)
        assert found.evidence[k] == pytest.approx(log, abs=1e-6)
        np.testing.assert_allclose(filtered[0][k, -1], mean[-RANK:], atol=1e-8)  # at the end, nothing is left to see
        np.testing.assert_allclose(filtered[1][k, -1], covariance[-RANK:, -RANK:], atol=1e-8)


def test_samples_have_mean_and_covariance_of_the_posterior():
    found = smooth(a_system(), some_trials(), np.zeros((TRIALS, TIMES, RANK)))
    draws = samples(found, np.random.default_rng(0).standard_normal((20000, TRIALS, TIMES, RANK)))
    off = draws - found.mode
    assert np.abs(off.mean(axis=0)).max() < 0.03
    assert np.abs(np.einsum("sbti,sbtj->btij", off, off) / len(off) - covariances(found)).max() < 0.02


@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
@pytest.mark.parametrize(("observation", "link"), [("gaussian", "exp"), ("poisson", "exp"), ("poisson", "softplus")])
@pytest.mark.parametrize("blurred", [False, True])
def test_gradient_is_that_of_differences(observation, link, nonlinearity, blurred):
    system, trials = a_system(observation, nonlinearity, link=link), some_trials(observation)
    rng = np.random.default_rng(2)
    kappa, direction = 0.3 * rng.standard_normal((2, TRIALS, TIMES, RANK))
    covariance = np.broadcast_to(0.1 * np.eye(RANK), (TRIALS, TIMES, RANK, RANK)) if blurred else None
    context, step = context_of(system, trials, covariance), 1e-5
    there = [evaluate(system, trials, kappa + sign * step * direction, context).log_joint for sign in (1, -1)]
    found = gradient(system, evaluate(system, trials, kappa, context), context.loadings)
    np.testing.assert_allclose(
        (found * direction).sum(axis=(1, 2)), (there[0] - there[1]) / (2 * step), rtol=1e-5, atol=1e-5
    )


def test_newton_never_returns_a_less_probable_state():
    system, trials = a_system("poisson", "tanh", hidden=5), some_trials("poisson")
    context = context_of(system, trials)
    for seed in range(5):
        start = 5 * np.random.default_rng(seed).standard_normal((TRIALS, TIMES, RANK))
        before = evaluate(system, trials, start, context).log_joint
        for steps in (1, 2, 30):
            found = smooth(system, trials, start, max_steps=steps)
            after = evaluate(system, trials, found.mode, context).log_joint
            assert (after >= before).all()
            before = np.maximum(before, after)


def test_posterior_finds_the_choice_that_noise_made():
    """From the data alone it is as probable as from the true latents; from the prior mean, 0, it would not be."""
    rng, n, times = np.random.default_rng(0), 20, 60
    hidden = 2 * rng.standard_normal((n, 1))
    recurrent = 4 * hidden / (hidden**2).mean()
    system = System(
        m=np.concatenate([hidden / 2, hidden]), n=2 * np.concatenate([0 * hidden, recurrent]),
        weights=np.zeros((2 * n, 1)), bias=np.zeros(2 * n), level=np.full(n, -1.5), variance=np.ones(n),
        noise=np.full((1, 1), 4e-4), start=np.zeros((1, 1)), spread=np.full((1, 1), 1e-6), alpha=0.3,
    )  # fmt: skip
    path = [np.zeros((30, 1))]
    for _ in range(times - 1):
        drift = 0.3 * np.tanh(path[-1] @ hidden.T) @ recurrent / n
        path.append(0.7 * path[-1] + drift + 0.02 * rng.standard_normal((30, 1)))
    kappa = np.stack(path, axis=1)
    y = rng.poisson(np.exp(kappa @ hidden.T / 2 - 1.5)).astype(float)
    lag = np.ones((30, times - 1), bool)
    trials = Trials(y, None, np.zeros((30, times, 1)), np.zeros((30, times)), np.zeros(30, int), lag)
    mean, _, evidence = posterior_of(system, trials)
    best = smooth(system, trials, kappa)
    for _ in range(2):
        best = smooth(system, trials, best.mode, covariance=covariances(best))
    np.testing.assert_allclose(evidence, best.evidence, atol=0.2)
    assert np.corrcoef(mean.ravel(), kappa.ravel())[0, 1] > 0.99


def test_missing_samples_are_left_out():
    """Masked values do not matter; a neuron without samples may be dropped, and so may times after the last sample."""
    system, trials = a_system("poisson", "tanh"), some_trials("poisson")
    seen = trials.seen.copy()
    seen[:, :, -1], seen[:, -2:] = False, False
    masked = trials._replace(seen=seen)
    zero = np.zeros((TRIALS, TIMES, RANK))
    one = smooth(system, masked, zero, tolerance=1e-10)
    other = smooth(system, masked._replace(y=np.where(seen, trials.y, 99.0)), zero, tolerance=1e-10)
    np.testing.assert_allclose(one.mode, other.mode, atol=1e-9)
    fewer = system._replace(
        m=system.m[:-1], n=system.n[:-1] * (N - 1) / N, weights=system.weights[:-1], bias=system.bias[:-1],
        level=system.level[:-1], variance=system.variance[:-1],
    )  # fmt: skip
    no_output = system._replace(n=system.n * (np.arange(N) < N - 1)[:, None])
    short = Trials(
        trials.y[:, :-2, :-1], seen[:, :-2, :-1], trials.v[:, :-2], trials.log_exposure[:, :-2], trials.group,
        trials.lag[:, :-2],
    )  # fmt: skip
    whole = smooth(no_output, masked, zero, tolerance=1e-10)
    part = smooth(fewer, short, zero[:, :-2], tolerance=1e-10)
    np.testing.assert_allclose(whole.mode[:, :-2], part.mode, atol=1e-4)
    np.testing.assert_allclose(whole.evidence, part.evidence, atol=1e-4)


def test_order_of_trials_and_neurons_does_not_matter():
    system, trials = a_system("poisson", "tanh", hidden=4), some_trials("poisson")
    rng = np.random.default_rng(0)
    neurons, order = rng.permutation(N), rng.permutation(TRIALS)
    units = np.concatenate([neurons, np.arange(N, N + 4)])
    moved = system._replace(
        m=system.m[units], n=system.n[units], weights=system.weights[units], bias=system.bias[units],
        level=system.level[neurons],
    )  # fmt: skip
    zero = np.zeros((TRIALS, TIMES, RANK))
    one = smooth(system, trials, zero)
    other = smooth(moved, trials.part(order)._replace(
        y=trials.y[order][..., neurons], seen=trials.seen[order][..., neurons]), zero)  # fmt: skip
    np.testing.assert_allclose(one.mode[order], other.mode, atol=1e-4)
