"""Two engines, one result: numpy, and torch on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.drift import drift_functions
from nwb_lint.errors import ContractError
from nwb_lint.parallel._torch import TorchEngine
from nwb_lint.parallel.arrays import NUMPY
from nwb_lint.statespace._torch import BlockFactor
from nwb_lint.statespace.data import arrays_of
from nwb_lint.statespace.factor import BandedFactor, factor_of
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.iterations import learn
from nwb_lint.statespace.learning.starts import first_latents, first_system
from nwb_lint.statespace.learning.steps import How
from nwb_lint.statespace.system import System, Trials
from nwb_lint.testing import mock_trials

TORCH = TorchEngine("cpu")
N, RANK, INPUTS, TIMES, TRIALS = 9, 2, 2, 11, 5


def a_system(observation: str, nonlinearity: str, hidden: int, link: str) -> System:
    rng = np.random.default_rng(0)
    units, root = N + hidden, rng.standard_normal((RANK, RANK))
    return System(
        m=rng.standard_normal((units, RANK)), n=rng.standard_normal((units, RANK)),
        weights=rng.standard_normal((units, INPUTS)), bias=0.3 * rng.standard_normal(units),
        level=rng.standard_normal(N), variance=0.5 + rng.random(N), noise=0.1 * (root @ root.T + np.eye(RANK)),
        start=rng.standard_normal((2, RANK)), spread=0.7 * np.eye(RANK), alpha=0.3, nonlinearity=nonlinearity,
        observation=observation, link=link,
    )  # fmt: skip


def some_trials(observation: str, *, masked: bool) -> Trials:
    rng = np.random.default_rng(1)
    shape = (TRIALS, TIMES, N)
    y = rng.standard_normal(shape) if observation == "gaussian" else rng.poisson(2.0, shape).astype(np.uint16)
    seen = rng.random(shape) > 0.2 if masked else None
    v, lag = rng.standard_normal((TRIALS, TIMES, INPUTS)), np.ones((TRIALS, TIMES - 1), bool)
    lag[0, 7:] = False
    return Trials(y, seen, v, np.zeros(shape[:2]), np.arange(TRIALS) % 2, lag)


def test_factors_agree_with_a_dense_matrix():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((TRIALS, TIMES * RANK, TIMES * RANK))
    for t in range(TIMES):  # L L' is block tridiagonal if L has no block beside the two diagonals
        root[:, t * RANK : (t + 1) * RANK, : max(0, t - 1) * RANK] = 0
        root[:, t * RANK : (t + 1) * RANK, (t + 1) * RANK :] = 0
    dense = root @ np.swapaxes(root, 1, 2) + np.eye(TIMES * RANK)
    blocks = dense.reshape(TRIALS, TIMES, RANK, TIMES, RANK)
    diagonal = np.stack([blocks[:, t, :, t] for t in range(TIMES)], axis=1)
    across = np.stack([blocks[:, t + 1, :, t] for t in range(TIMES - 1)], axis=1)
    right, draws = rng.standard_normal((TRIALS, TIMES, RANK)), rng.standard_normal((3, TRIALS, TIMES, RANK))
    lower = np.linalg.cholesky(dense)
    for engine in (NUMPY, TORCH):
        one, two, vectors, several = engine.put((diagonal.copy(), across, right, draws))
        factor = factor_of(one, two)
        solved = np.linalg.solve(dense, right.reshape(TRIALS, -1, 1)).reshape(right.shape)
        np.testing.assert_allclose(engine.get(factor.solve(vectors)), solved, atol=1e-9)
        flat = draws.reshape(3, TRIALS, -1, 1)
        solved = np.linalg.solve(np.swapaxes(lower, 1, 2), flat).reshape(draws.shape)
        np.testing.assert_allclose(engine.get(factor.solve_transposed(several)), solved, atol=1e-9)
        np.testing.assert_allclose(engine.get(factor.log_det()), np.linalg.slogdet(dense)[1], atol=1e-9)
        corner, below = (engine.get(part) for part in factor.blocks())
        np.testing.assert_allclose(corner[:, 2], lower[:, 2 * RANK : 3 * RANK, 2 * RANK : 3 * RANK], atol=1e-9)
        np.testing.assert_allclose(below[:, 2], lower[:, 3 * RANK : 4 * RANK, 2 * RANK : 3 * RANK], atol=1e-9)
    broken = -diagonal
    for engine in (NUMPY, TORCH):
        with pytest.raises(ContractError, match="positive definite"):
            factor_of(*engine.put((broken, across)))


@pytest.mark.parametrize("engine", [NUMPY, TORCH], ids=["numpy", "torch"])
def test_latents_that_nothing_holds_are_factored_in_spite_of_rounding(engine):
    """Latents that grow threefold in each of 60 steps, with noise of 1e-6 and without data: a variance of 1e50."""
    rng = np.random.default_rng(0)
    growth, precision = 3.0, 1e6 * np.eye(RANK)
    a = growth * np.linalg.qr(rng.standard_normal((20, 1, RANK, RANK)))[0]
    diagonal = np.zeros((20, 60, RANK, RANK)) + precision
    diagonal[:, 0] = np.eye(RANK)
    diagonal[:, :-1] += np.swapaxes(a, 2, 3) @ precision @ a
    across = np.broadcast_to(-precision @ a, (20, 59, RANK, RANK)).copy()
    right = rng.standard_normal((20, 60, RANK))
    given = engine.put((diagonal, across, right))
    with pytest.raises(np.linalg.LinAlgError):
        (BandedFactor if engine is NUMPY else BlockFactor).of(*given[:2])
    factor = factor_of(*given[:2])
    assert np.isfinite(engine.get(factor.solve(given[2]))).all()
    assert np.isfinite(engine.get(factor.log_det())).all()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "softplus", "linear"])
@pytest.mark.parametrize(("observation", "link"), [("gaussian", "exp"), ("poisson", "exp"), ("poisson", "softplus")])
def test_posteriors_agree(observation, link, nonlinearity):
    for hidden, masked, tolerance in ((0, True, 1e-8), (6, False, 1e-4)):  # hidden units are in single precision
        system, trials = a_system(observation, nonlinearity, hidden, link), some_trials(observation, masked=masked)
        pairs = zip(posterior_of(system, trials), posterior_of(system, trials, engine=TORCH), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("observation", "link", "hidden", "masked", "drifts", "tolerance"),
    [("poisson", "exp", 0, True, False, 1e-8), ("poisson", "softplus", 0, False, False, 1e-8),
     ("gaussian", "exp", 0, True, False, 1e-8), ("poisson", "exp", 12, False, False, 5e-5),
     ("poisson", "exp", 0, True, True, 1e-6)],
)  # fmt: skip
def test_fits_agree(observation, link, hidden, masked, drifts, tolerance):
    """All of EM, with steps that are prolonged and noise that is tried.

    Hidden units are in single precision. numpy in blocks of another size then differs from itself as much.
    """
    mock = nl.prepare(mock_trials(n_neurons=15, n_trials=30), inputs=[nl.Input("stimulus", column="stimulus")])
    trials = arrays_of(mock, "count", 0.2)
    if drifts:
        trials = trials._replace(basis=drift_functions(np.arange(30), 2).T)
    if masked:
        trials = trials._replace(seen=np.random.default_rng(0).random(trials.y.shape) > 0.2)
    options = {"observation": observation, "link": link, "nonlinearity": "tanh"}
    first = first_system(trials, 2, hidden, 0.2, 0, 1, options)
    kappa = first_latents(trials, 2, 2.5, observation == "poisson")
    how = {"seed": 0, "max_iter": 6, "tolerance": 0.0, "how": How()}
    (one, history), (other, again) = (learn(first, trials, kappa, engine=e, **how) for e in (NUMPY, TORCH))
    np.testing.assert_allclose(again, history, rtol=tolerance)
    np.testing.assert_allclose(other.mode, one.mode, atol=tolerance * 10)
    np.testing.assert_allclose(other.covariance, one.covariance, atol=tolerance * 10)
    a, b = (state.system for state in (one, other))
    assert not drifts or np.abs(a.drift).max() > 0.01
    for left, right in (
        (a.m @ a.n.T, b.m @ b.n.T),
        (a.noise, b.noise),
        *([(a.drift, b.drift)] * drifts),
        (a.level, b.level),
        (a.variance, b.variance),
    ):
        np.testing.assert_allclose(right, left, rtol=tolerance * 10, atol=tolerance * 10 * np.abs(left).max())
    assert other.ridge == one.ridge


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ContractError, match="torch finds cpu") as error:
        nl.fit_trials(mock_trials(n_trials=8), rank=1, tau_s=0.1, device="cuda:77")
    assert "cuda:77" in str(error.value)
