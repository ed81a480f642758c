"""The posterior of the latents of single trials: a Gaussian, exact for a linear Gaussian network.

Newton's method finds the mode of log p(y, kappa) (Laplace's approximation), or, with the covariance of an iteration
before, the mean of the Gaussian nearest to the posterior. The Hessian (Gauss-Newton in the dynamics) is block
tridiagonal, with blocks of rank × rank, so that one Cholesky factor of all trials together gives the step, the log
determinant of the evidence, and exact samples. A step is halved until the density of a trial rises; a trial for
which it does not keeps its latents.

References
----------
Paninski et al., J. Comput. Neurosci. 29 (2010): state-space methods for spike trains, block tridiagonal Hessians.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array
from nwb_lint.parallel.arrays import functions_of
from nwb_lint.statespace.factor import Factor, factor_of
from nwb_lint.statespace.system import (
    LOG_2PI,
    Context,
    Evaluation,
    System,
    Trials,
    behavior_constant,
    context_of,
    evaluate,
    features_of,
    likelihood_constant,
    likelihood_terms,
    next_latent,
    outer_of,
    prior_constant,
    transition_matrices,
)
from nwb_lint.statespace.tuning import HALVINGS, NEWTON_TOLERANCE


class Posterior(NamedTuple):
    """Laplace's approximation for some trials.

    ``factor`` is the Cholesky factor of the precision, ``evidence`` the log evidence of each trial.
    """

    mode: Array
    factor: Factor
    evidence: Array


def smooth(
    system: System,
    trials: Trials,
    kappa: Array,
    max_steps: int = 50,
    tolerance: float = NEWTON_TOLERANCE,
    covariance: Array | None = None,
) -> Posterior:
    """The posterior of the latents, from Newton's method that starts at ``kappa`` (trial, time, rank).

    Parameters
    ----------
    system : System
    trials : Trials
    kappa : array of shape (trial, time, rank)
        Start. The mode that is found is never less probable.
    max_steps : int, default=50
        Newton steps at most.
    tolerance : float, default=1e-3
        Rise of the log density of a trial below which it has converged.
    covariance : array of shape (trial, time, rank, rank), optional
        Posterior covariance of an iteration before. With it the posterior is the Gaussian that minimizes the
        Kullback-Leibler divergence, as far as its covariance has converged, and the evidence is its lower bound.

    Returns
    -------
    Posterior
    """
    context, xp = context_of(system, trials, covariance), functions_of(kappa)
    here = evaluate(system, trials, kappa, context)
    rising = xp.arange(len(kappa))  # trials that have not converged; the others are left alone
    part, near, there = trials, context, here
    for _ in range(max_steps):
        new = _line_search(system, part, near, there, _newton(system, there, near.loadings))
        with np.errstate(invalid="ignore"):
            going = new.log_joint - there.log_joint > tolerance
        here, there = new if len(rising) == len(kappa) else _replaced(here, rising, new), new
        if not going.all():
            rising, part, near = rising[going], part.part(going), near.part(going)
            there = Evaluation(*(field[going] for field in new))
        if not len(rising):
            break
    factor = _factor(system, here, context.loadings)[0]
    n_steps = kappa.shape[1] - 1
    constant = likelihood_constant(system, trials) + prior_constant(system, n_steps)
    if system.readout is not None:
        constant = constant + behavior_constant(system, trials)
    evidence = here.log_joint + constant + 0.5 * ((n_steps + 1) * system.rank * LOG_2PI - factor.log_det())
    if context.half is not None:
        seen = 1.0 if trials.seen is None else trials.seen
        evidence = evidence + ((here.information - seen * trials.y) * context.half).sum(axis=(1, 2))
    return Posterior(here.kappa, factor, evidence)


def gradient(system: System, here: Evaluation, loadings: Array, matrices: Array | None = None) -> Array:
    """Derivative of the log joint density by the latents, (trial, time, rank)."""
    matrices = transition_matrices(system, here.slope, loadings) if matrices is None else matrices
    xp = functions_of(here.score)
    out = here.score @ loadings[..., : system.n_neurons].swapaxes(-1, -2)
    if system.readout is not None:
        out += here.pull
    pull = here.step @ xp.linalg.inv(system.noise)
    out[:, 0] -= here.first @ xp.linalg.inv(system.spread)
    out[:, 1:] -= pull
    out[:, :-1] += xp.matmul(pull[:, :, None, :], matrices)[:, :, 0]
    return out


def _newton(system: System, here: Evaluation, loadings: Array) -> Array:
    """The Newton step."""
    factor, matrices = _factor(system, here, loadings)
    return factor.solve(gradient(system, here, loadings, matrices))


def _factor(system: System, here: Evaluation, loadings: Array) -> tuple[Factor, Array]:
    """Cholesky factor of minus the Hessian of all trials, and the transition matrices."""
    rank, n, xp = system.rank, system.n_neurons, functions_of(here.slope)
    n_trials, n_times = here.kappa.shape[:2]
    matrices = transition_matrices(system, here.slope, loadings)
    precision = xp.linalg.inv(system.noise)
    information = here.information.reshape(-1, n) if loadings.ndim == 2 else here.information
    diagonal = (information @ outer_of(loadings[..., :n])).reshape(n_trials, n_times, rank, rank)
    if system.readout is not None:
        of_behavior = here.z_information @ outer_of(system.readout[:, 1:].T)
        diagonal += of_behavior.reshape(diagonal.shape)
    diagonal[:, 0] += xp.linalg.inv(system.spread)
    diagonal[:, 1:] += precision
    across = -(precision @ matrices)
    diagonal[:, :-1] -= xp.swapaxes(matrices, 2, 3) @ across
    return factor_of(diagonal, across), matrices


def _line_search(system: System, trials: Trials, context: Context, here: Evaluation, direction: Array) -> Evaluation:
    """The first of the steps 1, 1/2, 1/4, … at which a trial is more probable; where none is, its place before."""
    best = evaluate(system, trials, here.kappa + direction, context)
    scale, xp = 1.0, functions_of(direction)
    for _ in range(HALVINGS):
        worse = xp.flatnonzero(~(best.log_joint >= here.log_joint))
        if not len(worse):
            return best
        scale /= 2
        part = context.part(worse)
        tried = evaluate(system, trials.part(worse), here.kappa[worse] + scale * direction[worse], part)
        best = _replaced(best, worse, tried)
    worse = xp.flatnonzero(~(best.log_joint >= here.log_joint))
    return _replaced(best, worse, Evaluation(*(field[worse] for field in here)))


def _replaced(all_of: Evaluation, which: Array, by: Evaluation) -> Evaluation:
    for old, new in zip(all_of, by, strict=True):
        old[which] = new
    return all_of


def samples(posterior: Posterior, noise: Array) -> Array:
    """Exact samples of the approximation, (draw, trial, time, rank), from standard normal numbers of this shape."""
    return posterior.mode + posterior.factor.solve_transposed(noise)


def covariances(posterior: Posterior) -> Array:
    """Posterior covariance of kappa[t], (trial, time, rank, rank).

    With the Cholesky blocks L[t, t] and L[t+1, t] and G = L[t+1, t] L[t, t]⁻¹, backward in time:
    S[t] = (L[t, t] L[t, t]')⁻¹ + G' S[t+1] G.
    """
    xp = functions_of(posterior.mode)
    corner, below = posterior.factor.blocks()
    inverse = xp.linalg.inv(corner)
    out = xp.swapaxes(inverse, 2, 3) @ inverse
    carried = below @ inverse
    for t in range(posterior.mode.shape[1] - 2, -1, -1):
        out[:, t] += xp.swapaxes(carried[:, t], 1, 2) @ out[:, t + 1] @ carried[:, t]
    return out


def causal_filter(system: System, trials: Trials, max_steps: int = 8) -> tuple[Array, Array]:
    """Mean and covariance of kappa[t] given the samples until t, in one pass: an extended Kalman filter.

    The prediction is linearized at the mean; the update is Laplace's approximation (Newton steps at each time). For a
    linear Gaussian network it is the Kalman filter.

    Returns
    -------
    mean : array of shape (trial, time, rank)
    covariance : array of shape (trial, time, rank, rank)
    """
    n_trials, n_times = trials.y.shape[:2]
    context = context_of(system, trials)
    loadings = context.loadings
    mean = np.empty((n_trials, n_times, system.rank))
    covariance = np.empty((*mean.shape, system.rank))
    predicted = system.start[trials.group]
    spread = np.broadcast_to(system.spread, (n_trials, system.rank, system.rank))
    for t in range(n_times):
        seen = None if trials.seen is None else trials.seen[:, t : t + 1]
        now = trials._replace(y=trials.y[:, t : t + 1], seen=seen, log_exposure=trials.log_exposure[:, t : t + 1])
        prior = predicted, spread
        mean[:, t], covariance[:, t] = _update(system, now, context.observed[:, t], loadings, *prior, max_steps)
        if t + 1 < n_times:
            here = mean[:, t : t + 1]
            there = Context(context.observed, context.features[:, t : t + 1], None, None, loadings)
            r, slope = features_of(system, here, there)
            predicted, moved = next_latent(system, here, r)[:, 0], transition_matrices(system, slope, loadings)[:, 0]
            spread = moved @ covariance[:, t] @ np.swapaxes(moved, 1, 2) + system.noise
    return mean, covariance


def _update(
    system: System, now: Trials, drive: Array, loadings: Array, mean: Array, spread: Array, max_steps: int
) -> tuple[Array, Array]:
    """Posterior of kappa (trial, rank) from one sample and a Gaussian prior."""
    own, precision = loadings[..., : system.n_neurons], np.linalg.inv(spread)
    m, outer = own.swapaxes(-1, -2), outer_of(own)

    def at(kappa: Array) -> tuple[Array, Array, Array]:
        off = kappa - mean
        value, slope, information = likelihood_terms(system, now, (_by_trial(kappa, own) + drive)[:, None])
        pull = (precision @ off[:, :, None])[:, :, 0]
        hessian = _by_trial(information[:, 0], outer).reshape(precision.shape) + precision
        return value.sum(axis=(1, 2)) - 0.5 * (off * pull).sum(axis=1), _by_trial(slope[:, 0], m) - pull, hessian

    kappa = mean
    value, slope, hessian = at(kappa)
    for _ in range(max_steps):
        direction = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        scale = np.ones((len(kappa), 1))
        for _ in range(HALVINGS):
            new = at(kappa + scale * direction)
            better = new[0] >= value
            if better.all():
                break
            scale[~better] /= 2
        else:
            scale[~better] = 0
            new = at(kappa + scale * direction)
        kappa, (gain, (value, slope, hessian)) = kappa + scale * direction, (new[0] - value, new)
        if (gain < NEWTON_TOLERANCE).all():
            break
    return kappa, np.linalg.inv(hessian)


def _by_trial(values: Array, matrix: Array) -> Array:
    """Each row of values (trial, from) times the matrix (from, to), or that of its trial (trial, from, to)."""
    return values @ matrix if matrix.ndim == 2 else (values[:, None] @ matrix)[:, 0]
