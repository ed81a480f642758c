"""Unknown inputs of each single trial: latents that drive the others, with a decay and noise of their own.

    kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N + w[t] + eps[t],   w[t+1] = phi w[t] + eta[t]

with eps ~ N(0, Q) and eta ~ N(0, S), an Ornstein-Uhlenbeck process in bins. Where phi is 0, w is a part of the noise.
(kappa, w) are the latents of a `System` of twice the rank, on which m and n are 0 for w, so that its posterior, its
evidence with w integrated out, and its samples are those of every system. EM starts from a system without w.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag

from nwb_lint.model.network import Array
from nwb_lint.parallel.arrays import NUMPY, Engine
from nwb_lint.statespace.fit import turned
from nwb_lint.statespace.learning.iterations import prolonged
from nwb_lint.statespace.learning.steps import (
    How,
    State,
    expectation,
    moments_of,
    observation_step,
    reference_level,
    ridge_regression,
    start_step,
    usable_ridges,
)
from nwb_lint.statespace.system import Batches, System, Trials
from nwb_lint.statespace.tuning import (
    E_STEPS,
    FIRST_RIDGE,
    LONGEST_STEP,
    MIN_NOISE,
    PATIENCE,
    PLAIN_STEPS,
    REGRESSION_STEPS,
    START_STEPS,
    STEP_GROWTH,
)
from nwb_lint.statespace.unknown_inputs.tuning import FIRST_DECAY, LARGEST_DECAY, OWN_TOLERANCE


class Own(NamedTuple):
    """Noise S (rank, rank) of the inputs of single trials, and phi, what a step leaves of them."""

    noise: Array
    decay: float


def with_own(system: System, own: Own) -> System:
    """The system of (kappa, w)."""
    rank, (noise, decay) = system.rank, own
    one = np.eye(rank)
    return system._replace(
        m=np.pad(system.m, ((0, 0), (0, rank))), n=np.pad(system.n, ((0, 0), (0, rank))),
        noise=block_diag(system.noise, noise), start=np.pad(system.start, ((0, 0), (0, rank))),
        spread=block_diag(system.spread, noise / (1 - decay**2)),
        decay=np.block([[(1 - system.alpha) * one, one], [0 * one, decay * one]]),
    )  # fmt: skip


def without_own(system: System) -> tuple[System, Own]:
    """The two parts of a system of (kappa, w)."""
    rank = system.rank // 2
    assert system.decay is not None
    own = Own(system.noise[rank:, rank:], float(system.decay[-1, -1]))
    return system._replace(
        m=system.m[:, :rank], n=system.n[:, :rank], noise=system.noise[:rank, :rank], start=system.start[:, :rank],
        spread=system.spread[:rank, :rank], decay=None,
    ), own  # fmt: skip


def turned_own(system: System) -> System:
    """The system of (kappa, w) with orthogonal columns of the recorded m, as `rotated` has it without w."""
    plain, own = without_own(system)
    plain, axes = turned(plain)
    return with_own(plain, own._replace(noise=axes.T @ own.noise @ axes))


def learn_own(state: State, trials: Trials, *, seed: int, max_iter: int, how: How, engine: Engine = NUMPY) -> State:
    """EM of a system of (kappa, w), from a system without w and the posterior of its latents.

    At first w has half of the variance of the noise of the steps. Where recurrence is allowed, EM without it comes
    first, and EM with it goes on from whichever of the two starts, with n or without, leads to the larger evidence.
    Biases stay those of the system without w.
    """
    data = Batches.on(engine, trials)
    own = Own((1 - FIRST_DECAY**2) * 0.5 * state.system.noise, FIRST_DECAY)
    plain = state.system._replace(noise=0.5 * state.system.noise)
    mode = np.concatenate([state.mode, 0 * state.mode], axis=2)

    def em(start: System, mode: Array, recurrent: bool) -> State:
        return _em(start, data, mode, seed, max_iter, how._replace(recurrent=recurrent))

    alone = em(with_own(plain._replace(n=np.zeros_like(plain.n)), own), mode, False)
    if not how.recurrent:
        return alone
    starts = (alone.system, alone.mode), (with_own(plain, own), mode)
    return max((em(*one, True) for one in starts), key=lambda one: float(one.evidence.sum()))


def _em(system: System, data: Batches, mode: Array, seed: int, max_iter: int, how: How) -> State:
    """EM of (kappa, w). From `PLAIN_STEPS` iterations on a step is prolonged, and taken back where the evidence falls.

    It ends when `PATIENCE` iterations have not raised the log evidence of a trial by `OWN_TOLERANCE`.
    """
    reference = reference_level(data.trials, system.observation == "poisson")
    plain, covariance, best, length, before, ridge = system, None, None, 1.0, -np.inf, FIRST_RIDGE
    last = 0
    for iteration in range(max_iter):
        noise = np.random.default_rng([seed, 5, iteration]).standard_normal((1, *mode.shape))
        found = expectation(system, data, mode, covariance, noise, E_STEPS if iteration else START_STEPS)
        assert found.drawn is not None
        value = float(found.evidence.mean())
        gain = np.inf if best is None else value - float(best.evidence.mean())
        if best is None or gain > 0:
            best = State(system, found.mean, found.covariance, found.evidence, ridge)
        fell, before = length > 1 and value < before, value
        last = iteration if gain > OWN_TOLERANCE else last + fell
        if iteration - last >= PATIENCE:
            break
        if fell:
            system, length = plain, 1.0
            continue
        mode, covariance = found.mean, found.covariance
        plain, ridge = _maximized(system, data, found.drawn, reference, how, ridge)
        length = min(LONGEST_STEP, STEP_GROWTH * length) if iteration >= PLAIN_STEPS else 1.0
        system = _prolonged(system, plain, length) if length > 1 else plain
    assert best is not None
    return best


def _prolonged(old: System, new: System, length: float) -> System:
    """The step of EM prolonged, with a decay of w that stays between 0 and `LARGEST_DECAY`."""
    plain, own = without_own(prolonged(old, new, length))
    return with_own(plain, own._replace(decay=float(np.clip(own.decay, 0, LARGEST_DECAY))))


def _maximized(
    system: System, data: Batches, drawn: Array, reference: Array, how: How, ridge: float
) -> tuple[System, float]:
    """All parameters from samples of (kappa, w), but biases, which stay those of the start."""
    rank = system.rank // 2
    (plain, own), kappa, w = without_own(system), drawn[..., :rank], drawn[..., rank:]
    plain = observation_step(plain, data, kappa, reference, REGRESSION_STEPS)
    moments = moments_of(plain, data, kappa, w[:, :, :-1])
    if how.recurrent:
        coefficients, noise, ridge = ridge_regression(moments, usable_ridges(plain, how.ridges), data.engine)
        plain = plain._replace(n=coefficients * (len(plain.m) / plain.alpha))
    else:
        noise = moments.targets / moments.number
    noise = noise + MIN_NOISE * np.eye(rank)
    plain = plain._replace(noise=np.diag(np.diag(noise)) if how.diagonal else noise)
    plain = start_step(plain, data.trials, kappa)
    before, after = (part[:, data.trials.lag].reshape(-1, rank) for part in (w[:, :, :-1], w[:, :, 1:]))
    precision, across, squares = np.linalg.inv(own.noise), after.T @ before, before.T @ before
    decay = float(np.clip((precision * across.T).sum() / (precision * squares).sum(), 0, LARGEST_DECAY))
    off = after - decay * before
    return with_own(plain, Own(off.T @ off / len(off) + MIN_NOISE * np.eye(rank), decay)), ridge
