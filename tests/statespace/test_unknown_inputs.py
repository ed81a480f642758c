"""Unknown inputs of single trials: the closed form against a dense Gaussian, and the laws of the regression."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.steps import How, State, dynamics_step, moments_of
from nwb_lint.statespace.smoother import covariances, smooth
from nwb_lint.statespace.system import Batches, System, Trials, context_of, evaluate, next_latent
from nwb_lint.statespace.unknown_inputs.own import Own, learn_own, turned_own, with_own, without_own
from nwb_lint.statespace.unknown_inputs.priors import climb, relevances, smooth_covariance
from nwb_lint.statespace.unknown_inputs.regression import Integrated
from nwb_lint.statespace.unknown_inputs.sums import group_sums, problem_of
from nwb_lint.statespace.unknown_inputs.uncertainty import information_of

N_TRIALS, N_TIMES, N_UNITS = 9, 7, 5
CELLS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])


def a_system(rank=2, **changes):
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    root = draw((rank, rank))
    return System(
        m=draw((N_UNITS, rank)), n=draw((N_UNITS, rank)), weights=draw((N_UNITS, 1)), bias=np.zeros(N_UNITS),
        level=np.zeros(N_UNITS), variance=np.full(N_UNITS, 0.3), noise=0.02 * (root @ root.T + np.eye(rank)),
        start=np.zeros((1, rank)), spread=np.eye(rank), alpha=0.2, nonlinearity="linear", observation="gaussian",
    )._replace(**changes)  # fmt: skip


def some_trials(masked=False):
    rng = np.random.default_rng(1)
    lag = np.ones((N_TRIALS, N_TIMES - 1), bool)
    if masked:
        lag[0, 4:] = lag[5, :2] = False
    return Trials(
        rng.standard_normal((N_TRIALS, N_TIMES, N_UNITS)), None, rng.standard_normal((N_TRIALS, N_TIMES, 1)),
        np.zeros((N_TRIALS, N_TIMES)), np.zeros(N_TRIALS, int), lag, cell=CELLS,
    )  # fmt: skip


def some_draws(rank=2):
    return np.random.default_rng(2).standard_normal((2, N_TRIALS, N_TIMES, rank))


def test_products_without_d_are_those_of_a_dense_covariance():
    rng = np.random.default_rng(3)
    course = 0.7 * smooth_covariance(N_TIMES, 2.0)
    seen = rng.random((N_TRIALS, N_TIMES)) < 0.8
    a, b = rng.standard_normal((2, N_TRIALS, N_TIMES, 3)) * seen[..., None]
    number = np.stack([seen[g == CELLS].sum(axis=0) for g in range(3)]).astype(float)
    sums = [np.stack([one[g == CELLS].sum(axis=0) for g in range(3)]) for one in (a, b)]
    found = Integrated.of(course, number)
    # every observed sample of all trials, with the covariance 1 + K where trials share an input
    trial, time = np.nonzero(seen)
    dense = np.eye(len(trial)) + (CELLS[trial][:, None] == CELLS[trial]) * course[time[:, None], time]
    wanted = a[seen].T @ np.linalg.solve(dense, b[seen])
    np.testing.assert_allclose(a[seen].T @ b[seen] - found.removed(*sums), wanted, atol=1e-8)
    np.testing.assert_allclose(found.log_det, np.linalg.slogdet(dense)[1], atol=1e-8)


@pytest.mark.parametrize("masked", [False, True])
def test_without_an_input_the_regression_is_that_of_recurrence_alone(masked, monkeypatch):
    """The law at size 0: a prior of variance 0 leaves n and Q as they are, and d is 0."""
    trials, draws = some_trials(masked), some_draws()
    plain, _ = dynamics_step(a_system(), Batches(trials), draws, How())
    monkeypatch.setattr("nwb_lint.statespace.unknown_inputs.priors.AMPLITUDES", np.zeros(3))
    unknown = a_system(unknown=np.zeros((3, N_TIMES - 1, 2)))
    found, _ = dynamics_step(unknown, Batches(trials), draws, How())
    np.testing.assert_allclose(found.n, plain.n, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.noise, plain.noise, rtol=1e-6)
    assert not found.unknown.any()


def test_rounding_of_moments_is_no_recurrence():
    """With hidden units, moments are in single precision. What an input leaves of large ones is mostly rounding."""
    rng = np.random.default_rng(8)
    draw, n_trials, n_times, sd = rng.standard_normal, 120, 25, 0.01
    trials = Trials(
        draw((n_trials, n_times, 2)), None, np.repeat(draw((1, n_times, 1)), n_trials, axis=0),
        np.zeros((n_trials, n_times)), np.zeros(n_trials, int), np.ones((n_trials, n_times - 1), bool),
        cell=np.repeat(np.arange(6), n_trials // 6),
    )  # fmt: skip
    course = 0.9 * np.cumsum(draw((6, n_times, 1)), axis=1)
    draws = course[trials.cell] + sd * draw((2, n_trials, n_times, 1))
    system = a_system(
        1, m=draw((60, 1)), n=draw((60, 1)), weights=draw((60, 1)), bias=2 + 0.1 * draw(60), level=np.zeros(2),
        variance=np.ones(2), unknown=np.zeros((6, n_times - 1, 1)), observation="poisson", nonlinearity="tanh",
    )  # fmt: skip
    found, _ = dynamics_step(system, Batches(trials), draws, How())
    assert 0.7 * sd**2 < found.noise.item() < 1.5 * sd**2


def test_value_and_course_of_the_regression_are_those_of_a_dense_gaussian():
    trials, draws, rank = some_trials(True), some_draws(1)[:1], 1
    system = a_system(rank, unknown=np.zeros((3, N_TIMES - 1, rank)))
    data = Batches(trials)
    moments, sums = moments_of(system, data, draws), group_sums(system, data, draws, True)
    course, ridge = 0.6 * smooth_covariance(N_TIMES - 1, 2.0), np.array([0.1])
    problem = problem_of(sums, moments, True)
    values = [problem.solve(scale * course, ridge).value for scale in (1.0, 5.0)]
    x = draws[0, :, :-1] @ system.m.T + trials.v[:, :-1] @ system.weights.T
    target = (draws[0, :, 1:] - 0.8 * draws[0, :, :-1])[..., 0][trials.lag]
    known = (trials.v[:, 1:] - 0.8 * trials.v[:, :-1])[trials.lag] * problem.scale
    z = np.concatenate([x[trials.lag], known], axis=1)
    trial, time = np.nonzero(trials.lag)
    shared = (CELLS[trial][:, None] == CELLS[trial]) * course[time[:, None], time]
    wanted = []
    for scale in (1.0, 5.0):
        total = np.eye(len(z)) + scale * shared + z @ z.T / (0.1 * problem.unit)
        size = target @ np.linalg.solve(total, target) / len(z)
        wanted.append(multivariate_normal.logpdf(target, np.zeros(len(z)), size * total))
    np.testing.assert_allclose(np.diff(values), np.diff(wanted), rtol=1e-5)


def test_information_gives_the_posterior_of_a_dense_gaussian():
    """Of a linear Gaussian network the observed information is exact: d given the data has a closed form."""
    rank, course = 2, 3 * smooth_covariance(N_TIMES - 1, 2.0)
    system, trials = (
        a_system(rank, n=np.zeros((N_UNITS, rank)), unknown=np.zeros((3, N_TIMES - 1, rank))),
        some_trials(),
    )
    posterior = smooth(system, trials, np.zeros((N_TRIALS, N_TIMES, rank)))
    data = Batches(trials._replace(v=0 * trials.v))
    posterior = smooth(system, data.trials, posterior.mode)
    spread = covariances(posterior)
    information = information_of(system, data, posterior.mode, spread, np.zeros((N_UNITS, 0)))
    d, inside = information.posterior(course, system.noise)
    # kappa and y as linear functions of start, noise and d
    size = N_TIMES * rank
    decay = np.kron(np.eye(N_TIMES) - 0.8 * np.eye(N_TIMES, k=-1), np.eye(rank))
    to = np.linalg.inv(decay)
    own = np.zeros((size, size))
    own[:rank, :rank] = system.spread
    own[rank:, rank:] = np.kron(np.eye(N_TIMES - 1), system.noise)
    observe = np.kron(np.eye(N_TIMES), system.m)
    noise = observe @ to @ own @ to.T @ observe.T + 0.3 * np.eye(N_TIMES * N_UNITS)
    onto = (observe @ to)[:, rank:]
    prior = np.kron(course, system.noise)
    for g in range(3):
        y = trials.y[g == CELLS].reshape((g == CELLS).sum(), -1)
        precision = np.linalg.inv(prior) + len(y) * onto.T @ np.linalg.solve(noise, onto)
        mean = np.linalg.solve(precision, onto.T @ np.linalg.solve(noise, y.sum(axis=0)))
        np.testing.assert_allclose(inside[g], np.linalg.inv(precision), atol=1e-6)
        np.testing.assert_allclose(d[g].ravel(), mean, atol=1e-5)


def test_errors_grow_with_what_the_features_could_explain():
    rank = 2
    system, data = a_system(rank, unknown=np.zeros((3, N_TIMES - 1, rank))), Batches(some_trials())
    posterior = smooth(system, data.trials, np.zeros((N_TRIALS, N_TIMES, rank)))
    course = 3 * smooth_covariance(N_TIMES - 1, 2.0)
    errors = [
        information_of(system, data, posterior.mode, covariances(posterior), size * np.eye(N_UNITS)).errors(
            course, system.noise
        )
        for size in (1e-6, 1e3)
    ]
    assert (errors[1] >= errors[0] - 1e-9).all()
    assert errors[1].mean() > 1.02 * errors[0].mean()


def test_an_unknown_input_shifts_the_steps():
    shift = np.random.default_rng(5).standard_normal((3, N_TIMES - 1, 2))
    trials, kappa = some_trials(), some_draws()[0]
    plain, with_input = a_system(), a_system(unknown=shift)
    steps = [evaluate(one, trials, kappa, context_of(one, trials)).step for one in (plain, with_input)]
    np.testing.assert_allclose(steps[0] - steps[1], shift[CELLS], atol=1e-12)


def test_inputs_of_each_trial_without_memory_are_noise_of_the_steps():
    """The law at decay 0: w is a share of the noise, in the evidence and in the posterior."""
    share, trials = 0.3, some_trials()._replace(cell=None)
    system = a_system(noise=0.02 * np.array([[1.0, 0.4], [0.4, 2.0]]))
    own = Own(share * system.noise, 0.0)
    wide = with_own(system._replace(noise=(1 - share) * system.noise), own)
    plain, found = posterior_of(system, trials), posterior_of(wide, trials)
    np.testing.assert_allclose(found[2], plain[2], rtol=1e-6)
    np.testing.assert_allclose(found[0][..., :2], plain[0], atol=1e-5)
    r = plain[0] @ system.m.T + trials.v @ system.weights.T
    steps = plain[0][:, 1:] - next_latent(system, plain[0][:, :-1], r[:, :-1])
    np.testing.assert_allclose(found[0][:, :-1, 2:], share * steps, atol=1e-5)
    back, same = without_own(wide)
    np.testing.assert_allclose(back.noise, 0.7 * system.noise)
    np.testing.assert_allclose(back.n, system.n)
    np.testing.assert_allclose(same.noise, own.noise)


def test_inputs_of_each_trial_are_the_same_in_the_axes_of_m():
    trials = some_trials()._replace(cell=None)
    system = with_own(a_system(), Own(0.01 * np.array([[2.0, 0.5], [0.5, 1.0]]), 0.7))
    turned = turned_own(system)
    m = turned.m[:, :2]
    assert abs(m[:, 0] @ m[:, 1]) < 1e-9
    assert m[:, 0] @ m[:, 0] > m[:, 1] @ m[:, 1]
    before, after = posterior_of(system, trials), posterior_of(turned, trials)
    np.testing.assert_allclose(after[2], before[2], rtol=1e-8)
    for part in (slice(2), slice(2, 4)):  # kappa, w: what they do to the neurons
        np.testing.assert_allclose(after[0][..., part] @ m.T, before[0][..., part] @ system.m[:, :2].T, atol=1e-6)


def test_inputs_of_each_trial_leave_a_diagonal_covariance_diagonal():
    trials, system = some_trials()._replace(cell=None), a_system(noise=0.02 * np.eye(2))
    begun = State(system, *posterior_of(system, trials)[:3], 0.1)
    for diagonal in (False, True):
        found = learn_own(begun, trials, seed=0, max_iter=2, how=How(diagonal=diagonal))
        assert (without_own(found.system)[0].noise[0, 1] == 0) == diagonal


def test_climbing_ends_at_the_top_and_relevance_at_the_variance():
    seen = []

    def value(i, j):
        seen.append((i, j))
        return -((i - 3) ** 2) - (j - 1) ** 2

    assert climb(value, (5, 4), (0, 3)) == (3, 1)
    assert len(seen) == len(set(seen))
    # a course that is seen with noise 1 in many groups: mean squares of the posterior mean, and its variance
    true = np.array([4.0, 0.0])

    def moments(variance):
        gain = variance / (variance + 1)
        return gain**2 * (true + 1), variance * (1 - gain)

    np.testing.assert_allclose(relevances(moments, np.ones(2), 200), true, atol=0.05)
