"""Expectation-maximization of the stochastic low-rank network: every step is a regression on posterior samples.

1. E step: the posterior of the latents (`smoother`), and antithetic samples of it.
2. Gauge: the samples get unit covariance.
3. Observation: for each neuron a regression of its counts (Poisson, Newton's method) or values on (1, v, kappa), with
   drift of m also on s_b(k) kappa, where s_b are smooth functions of the trial k.
4. Dynamics: ridge regression of kappa[t+1] - (1 - alpha) kappa[t] on phi(x[t]) gives n, its residual gives Q. The ridge
   is the one of largest marginal likelihood; with counts, the linear part of the dynamics has a small one of its own.
5. Mean and covariance of kappa[0].
6. Where the fit has behavior: a regression of each readout on (1, kappa), as that of a neuron (`nwb_lint.behavior`).

The samples carry the uncertainty of the posterior, so that no regression has errors in its regressors. Each step is a
function of `nwb_lint.statespace.learning.steps`; here they follow each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array
from nwb_lint.parallel.arrays import NUMPY, Engine
from nwb_lint.statespace.biases import bias_step
from nwb_lint.statespace.checkpoint import Snapshot
from nwb_lint.statespace.learning.steps import (
    Draws,
    How,
    State,
    dynamics_step,
    expectation,
    observation_step,
    readout_step,
    reference_level,
    start_step,
    whiten,
    with_common_dynamics,
    with_known_apart,
)
from nwb_lint.statespace.system import Batches, System, Trials
from nwb_lint.statespace.tuning import (
    BIAS_STEPS,
    E_STEPS,
    FINAL_DRAWS,
    FIRST_RIDGE,
    LONGEST_STEP,
    NOISE_EVERY,
    NOISE_FACTOR,
    PATIENCE,
    PLAIN_STEPS,
    REGRESSION_STEPS,
    START_NOISE,
    START_STEPS,
    START_TRIALS,
    STEP_GROWTH,
)


def maximization(
    system: System, data: Batches, draws: Draws, reference: Array, how: How, steps: int, bias_steps: int, ridge: float
) -> tuple[System, float]:
    """All parameters from samples of the latents."""
    system = observation_step(system, data, draws.drawn, reference, steps)
    system = readout_step(system, data.trials, draws.drawn, steps)
    if how.biases:
        system = bias_step(system, data.trials, draws.drawn, ridge, bias_steps)
    system, ridge = dynamics_step(system, data, draws.drawn, how)
    return start_step(system, data.trials, draws.drawn), ridge


def with_start_noise(system: System, data: Batches, kappa: Array) -> System:
    """The system with the noise of largest evidence among multiples of what the start has."""
    some = slice(None, None, max(1, len(kappa) // START_TRIALS))
    part, best, chosen = data.part(some), -np.inf, system
    for factor in START_NOISE:
        tried = system._replace(noise=factor * system.noise)
        evidence = float(expectation(tried, part, kappa[some], None, None, START_STEPS).evidence.sum())
        if evidence <= best:
            break
        best, chosen = evidence, tried
    return chosen


def noise_factor(system: System, data: Batches, draws: Draws) -> float:
    """The multiple of the noise that has the largest evidence; the other parameters stay."""
    some = slice(None, None, max(1, len(draws.mean) // START_TRIALS))
    part, mode, spread = data.part(some), draws.mean[some], draws.covariance
    spread = None if spread is None else spread[some]

    def evidence(factor: float) -> Array:
        tried = system._replace(noise=factor * system.noise)
        first = expectation(tried, part, mode, spread, None, E_STEPS)
        return expectation(tried, part, first.mean, first.covariance, None, E_STEPS).evidence

    best, chosen = evidence(1.0), 1.0
    for step in (NOISE_FACTOR, 1 / NOISE_FACTOR):
        while NOISE_FACTOR**-6 < chosen < NOISE_FACTOR**6:
            gain = (found := evidence(step * chosen)) - best
            if gain.sum() < np.sqrt(len(gain)) * gain.std():
                break
            best, chosen = found, step * chosen
        if chosen != 1.0:
            break
    return chosen


def prolonged(old: System, new: System, length: float) -> System:
    """The parameters so many times as far from the old ones as the new; variances on a logarithmic scale."""
    kinds = ["level", "bias", "weights", "m", "n"] + ["drift"] * (old.drift is not None)
    kinds += ["readout"] * (old.readout is not None)
    kinds += [kind for kind in ("unknown", "decay") if getattr(old, kind) is not None]
    further = {kind: (1 - length) * getattr(old, kind) + length * getattr(new, kind) for kind in kinds}
    variance = old.variance ** (1 - length) * new.variance**length
    if old.readout_variance is not None and new.readout_variance is not None:
        further["readout_variance"] = old.readout_variance ** (1 - length) * new.readout_variance**length
    return new._replace(
        **further, variance=variance, noise=_exp((1 - length) * _log(old.noise) + length * _log(new.noise))
    )


def _log(matrix: Array) -> Array:
    """Logarithm of a covariance."""
    power, axes = np.linalg.eigh(matrix)
    return (axes * np.log(power)) @ axes.T


def _exp(matrix: Array) -> Array:
    """The covariance of a logarithm."""
    power, axes = np.linalg.eigh(matrix)
    return (axes * np.exp(power)) @ axes.T


class Progress(NamedTuple):
    """What an iteration of EM leaves for the next.

    ``system`` with the latents ``mode`` and their ``covariance``; ``plain``, the system of the last M step, before it
    was prolonged by ``length``; its ``ridge``; the ``best`` iteration so far; the last one that gained (``last``); and
    the iteration at which the noise is tried next (``noise_at``), and how many after that (``wait``).
    """

    iteration: int
    system: System
    mode: Array
    covariance: Array | None
    plain: System
    ridge: float
    best: State | None
    history: Array
    last: int
    length: float
    wait: int
    noise_at: int


def learn(
    system: System, trials: Trials, kappa: Array, *, seed: int, max_iter: int, tolerance: float, how: How,
    report: Callable[[Progress], object] | None = None, checkpoint: Snapshot | None = None,
    engine: Engine = NUMPY,
) -> tuple[State, Array]:  # fmt: skip
    """EM from a trajectory of the latents (trial, time, rank).

    From `PLAIN_STEPS` iterations on, the step of EM is prolonged; where the evidence falls, it is taken back and the
    plain step follows. EM ends when ``PATIENCE`` iterations have not raised the log evidence by the share ``tolerance``
    of what EM has gained so far. ``engine`` computes blocks of trials.

    Returns
    -------
    state : State
        The iteration of largest evidence, and n once more from `FINAL_DRAWS` pairs of samples of its posterior.
    history : array of shape (iteration,)
        Log evidence of each iteration.
    """
    reference = reference_level(trials, system.observation == "poisson")
    parts, data = {"system": System, "plain": System, "best": State}, Batches.on(engine, trials)
    at = None if checkpoint is None else checkpoint.load(Progress, parts)
    if at is None:
        draws = Draws(kappa[None], kappa, None)
        plain, ridge = maximization(system, data, draws, reference, how, 8, BIAS_STEPS[0], FIRST_RIDGE)
        first = with_start_noise(plain, data, kappa)
        at = Progress(0, first, kappa, None, plain, ridge, None, np.empty(0), 0, 1.0, NOISE_EVERY, NOISE_EVERY - 1)
    while True:
        at, draws = _expected(at, data, seed, tolerance)
        assert at.best is not None
        if report is not None:
            report(at)
        if at.iteration - at.last >= PATIENCE or at.iteration + 1 == max_iter:
            return _settled(at.best, data, seed, how), at.history
        at = _maximized(at, data, draws, reference, how)
        if checkpoint is not None:
            checkpoint.keep(at)


def _settled(state: State, data: Batches, seed: int, how: How) -> State:
    """The state with n from many samples: those of an iteration are few, and its step may have been prolonged."""
    noise = np.random.default_rng([seed, 3]).standard_normal((FINAL_DRAWS, *state.mode.shape))
    drawn = expectation(state.system, data, state.mode, state.covariance, noise, E_STEPS).drawn
    assert drawn is not None
    new, ridge = dynamics_step(state.system, data, drawn, how)
    return state._replace(system=state.system._replace(n=new.n, unknown=new.unknown), ridge=ridge)


def _expected(at: Progress, data: Batches, seed: int, tolerance: float) -> tuple[Progress, Draws]:
    """The E step, and what its evidence says of the step before."""
    noise = np.random.default_rng([seed, 1, at.iteration]).standard_normal((1, *at.mode.shape))
    steps = E_STEPS if at.iteration else START_STEPS
    found = expectation(at.system, data, at.mode, at.covariance, noise, steps)
    assert found.drawn is not None
    evidence, before, best, last = float(found.evidence.sum()), at.history, at.best, at.last
    gain = evidence - max(before, default=-np.inf)
    if best is None or gain > 0:
        best = State(at.system, found.mean, found.covariance, found.evidence, at.ridge)
    history = np.append(before, evidence)
    if gain > tolerance * (history.max() - history[0]):
        last = at.iteration
    last += _fell(at.length, history)  # an iteration that is taken back does not count
    return at._replace(best=best, history=history, last=last), Draws(found.drawn, found.mean, found.covariance)


def _fell(length: float, history: Array) -> bool:
    """Whether the evidence fell after a step that was prolonged."""
    return bool(length > 1 and history[-1] < history[-2])


def _maximized(at: Progress, data: Batches, draws: Draws, reference: Array, how: How) -> Progress:
    """The M step; where the evidence fell, the plain step in place of the prolonged one before."""
    iteration = at.iteration
    if _fell(at.length, at.history):
        return at._replace(iteration=iteration + 1, system=at.plain, length=1.0)
    old, draws = whiten(at.system, draws, data.trials.lag)
    old, draws = with_known_apart(old, data, draws, how)
    if old.drift is not None:
        old = dynamics_step(old, data, draws.drawn, how)[0]
        old, draws = with_common_dynamics(old, data, draws)
    plain, ridge = maximization(old, data, draws, reference, how, REGRESSION_STEPS, BIAS_STEPS[1], at.ridge)
    length = min(LONGEST_STEP, STEP_GROWTH * at.length) if iteration >= PLAIN_STEPS else 1.0
    system, wait, noise_at = prolonged(old, plain, length) if length > 1 else plain, at.wait, at.noise_at
    if iteration >= noise_at:
        factor = noise_factor(system, data, draws)
        system, wait = system._replace(noise=factor * system.noise), wait if factor != 1 else 2 * wait
        noise_at = iteration + wait
    return at._replace(
        iteration=iteration + 1, system=system, mode=draws.mean, covariance=draws.covariance, plain=plain,
        ridge=ridge, length=length, wait=wait, noise_at=noise_at,
    )  # fmt: skip
