"""Expectation-maximization of the stochastic low-rank network: every step is a regression on posterior samples.

1. E step: the posterior of the latents (`smoother`), and antithetic samples of it.
2. Gauge: the samples get unit covariance.
3. Observation: for each neuron a regression of its counts (Poisson, Newton's method) or values on (1, v, kappa), with
   drift of m also on s_b(k) kappa, where s_b are smooth functions of the trial k.
4. Dynamics: ridge regression of kappa[t+1] - (1 - alpha) kappa[t] on phi(x[t]) gives n, its residual gives Q. The ridge
   is the one of largest marginal likelihood; with counts, the linear part of the dynamics has a small one of its own.
5. Mean and covariance of kappa[0].
6. Where the fit has behavior: a regression of each readout on (1, kappa), as that of a neuron (`nwb_lint.behavior`).

The samples carry the uncertainty of the posterior, so that no regression has errors in its regressors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.csgraph import connected_components

from nwb_lint.behavior import read_out
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import Array, phi_of
from nwb_lint.parallel.arrays import NUMPY, Engine, cast
from nwb_lint.statespace.biases import bias_step
from nwb_lint.statespace.checkpoint import Snapshot
from nwb_lint.statespace.smoother import covariances, samples, smooth
from nwb_lint.statespace.system import (
    Batches,
    System,
    Trials,
    context_of,
    design_of,
    feature_type,
    likelihood_terms,
    loadings_of,
    moment_type,
)
from nwb_lint.statespace.tuning import (
    ALIGNING_WAVES,
    BIAS_STEPS,
    E_STEPS,
    FINAL_DRAWS,
    FIRST_RIDGE,
    HIDDEN_SIZES,
    LEVEL_PRECISION,
    LINEAR_RIDGE,
    LOADING_PRECISION,
    LONGEST_STEP,
    MIN_NOISE,
    NOISE_EVERY,
    NOISE_FACTOR,
    OUTSIDE_PRECISION,
    PATIENCE,
    PLAIN_STEPS,
    REGRESSION_STEPS,
    RIDGES,
    START_ITERATIONS,
    START_NOISE,
    START_RIDGES,
    START_STEPS,
    START_TRIALS,
    STEP_GROWTH,
)
from nwb_lint.statespace.unknown_inputs.regression import Integrated
from nwb_lint.statespace.unknown_inputs.sums import group_sums, problem_of


class Moments(NamedTuple):
    """Sums over samples of the regression of the dynamics.

    Their number; features², features × targets, targets², and features × (1, v, kappa).
    """

    number: float
    features: Array
    cross: Array
    targets: Array
    linear: Array


class Draws(NamedTuple):
    """Samples of the latents (draw, trial, time, rank), and the posterior that they come from; at the start, none."""

    drawn: Array
    mean: Array
    covariance: Array | None


class Expectation(NamedTuple):
    """Posterior means and covariances, log evidence of each trial, and samples (draw, trial, time, rank)."""

    mean: Array
    covariance: Array
    evidence: Array
    drawn: Array | None


class How(NamedTuple):
    """Options of EM: whether Q is diagonal, whether biases are fitted, and the ridges that are tried.

    Of a system with unknown inputs: whether these are sparse. ``recurrent``: whether n may differ from 0.
    """

    diagonal: bool = False
    biases: bool = False
    ridges: Array = RIDGES
    sparse: bool = False
    recurrent: bool = True


class State(NamedTuple):
    """Where EM is: parameters, posterior means and covariances, log evidence of each trial, and the ridge."""

    system: System
    mode: Array
    covariance: Array
    evidence: Array
    ridge: float


def expectation(
    system: System, data: Batches, mode: Array, covariance: Array | None, noise: Array | None, max_steps: int
) -> Expectation:
    """The posterior of all trials, with as many pairs of samples as ``noise`` (draw, trial, time, rank) has draws."""
    new, evidence = np.empty_like(mode), np.empty(len(mode))
    spread = np.empty((*mode.shape, system.rank))
    drawn = None if noise is None else np.empty((2 * len(noise), *mode.shape))
    put, get = data.engine.put, data.engine.get
    there = put(system)

    def work(block: slice) -> None:
        start, before, random = put(
            (mode[block], None if covariance is None else covariance[block], None if noise is None else noise[:, block])
        )
        found = smooth(there, data.block(block), start, max_steps, covariance=before)
        new[block], evidence[block] = get(found.mode), get(found.evidence)
        spread[block] = get(covariances(found))
        if drawn is not None and random is not None:
            off = get(samples(found, random) - found.mode)
            drawn[:, block] = np.concatenate([new[block] + off, new[block] - off])

    for _ in data.map(work, len(system.m)):
        pass
    return Expectation(new, spread, evidence, drawn)


# ---------------------------------------------------------------------------------------------------------------------
# Gauge


def with_known_apart(system: System, data: Batches, draws: Draws, how: How) -> tuple[System, Draws]:
    """The same activations with latents that have no part from the known inputs in the steps that unknown ones take.

    A part v beta of the latents can be moved to the weights of the inputs, I + m beta'. It is the one that a regression
    of the steps on the features, known inputs and unknown inputs together finds, so that unknown inputs are as small as
    they can be. EM alone finds it slowly. Where n is 0, a constant part moves to the levels, or biases.
    """
    if system.unknown is None or not (data.trials.v.any() or not how.recurrent):
        return system, draws
    usable, moments = usable_ridges(system, how.ridges), moments_of(system, data, draws.drawn)
    problem = problem_of(group_sums(system, data, draws.drawn, how.recurrent), moments, how.recurrent)
    beta = problem.solve(problem.course(how.sparse, usable).covariance, usable).known
    n_inputs, n = system.weights.shape[1], system.n_neurons
    constant = np.zeros(system.rank) if how.recurrent else beta[n_inputs]
    shift = data.trials.v @ beta[:n_inputs] + constant
    system = system._replace(weights=system.weights + system.m @ beta[:n_inputs].T, start=system.start - constant)
    if system.link == "softplus":
        system = system._replace(bias=system.bias + system.m @ constant)
    else:
        system = system._replace(level=system.level + system.m[:n] @ constant)
    return system, draws._replace(drawn=draws.drawn - shift, mean=draws.mean - shift)


def whiten(system: System, draws: Draws, lag: Array, with_hidden: bool = False) -> tuple[System, Draws]:
    """The same observations with latents of unit covariance; n is left to the next regression.

    Hidden units keep their m, which is drawn for latents of unit covariance, but ``with_hidden``, where the dynamics
    stay the same. With areas, the latents of each block have unit covariance, and blocks are not mixed.
    """
    used = np.concatenate([lag, lag[:, -1:]], axis=1)
    total = np.cov(draws.drawn[:, used].reshape(-1, system.rank), rowvar=False).reshape(system.rank, -1)
    together = 1.0 if system.blocks is None else system.blocks.together
    power, axes = np.linalg.eigh(total * together)
    power = np.maximum(power, 1e-10 * max(power[-1], 1e-300))
    to = axes / np.sqrt(power) @ axes.T * together
    back = axes * np.sqrt(power) @ axes.T * together
    m, drift = system.m.copy(), system.drift
    moved = slice(None if with_hidden else system.n_neurons)
    m[moved] = m[moved] @ back
    drift = None if drift is None else np.einsum("irb,rs->isb", drift, back)
    if system.readout is not None:
        level, weights = system.readout[:, :1], system.readout[:, 1:]
        system = system._replace(readout=np.concatenate([level, weights @ back], axis=1))
    system = system._replace(
        m=m, drift=drift, noise=to @ system.noise @ to, spread=to @ system.spread @ to, start=system.start @ to,
        n=system.n @ to, unknown=None if system.unknown is None else system.unknown @ to,
    )  # fmt: skip
    covariance = None if draws.covariance is None else to @ draws.covariance @ to
    return system, Draws(draws.drawn @ to, draws.mean @ to, covariance)


def with_common_dynamics(system: System, data: Batches, draws: Draws) -> tuple[System, Draws]:
    """The latents of trial k times A_k = 1 + sum_b s_b(k) B_b, with the B_b under which all have the same dynamics.

    The observations stay: m(k) becomes m(k) A_k⁻¹. EM alone finds these coordinates slowly, since the latents of an
    iteration are in those of the iteration before. B_b is a Newton step on the log density of the steps e = d - alpha
    n' phi(x) / N of the samples, d = kappa[t+1] - (1 - alpha) kappa[t], with the log determinant of A_k. With areas, it
    does not mix the latents of different blocks.
    """
    basis, lag, rank, alpha = data.trials.basis, data.trials.lag, system.rank, system.alpha
    if system.drift is None or basis is None:
        return system, draws
    kappa, n, phi = draws.drawn, system.n_neurons, phi_of(system.nonlinearity, draws.drawn).phi
    each_e, each_d = np.zeros((2, len(basis), rank, rank))

    def work(block: slice) -> None:
        context, some = context_of(system, data.trials.part(block)), kappa[:, block]
        r = phi(cast(some[:, :, :-1], context.features.dtype) @ cast(context.loadings, context.features.dtype)
                + context.features)  # fmt: skip
        d = (some[:, :, 1:] - (1 - alpha) * some[:, :, :-1]) * lag[block, :, None]
        e = d - alpha / len(system.n) * (r @ system.n) * lag[block, :, None]
        each_e[block] = np.einsum("sktr,sktq->krq", e, d) / len(kappa)
        each_d[block] = np.einsum("sktr,sktq->krq", d, d) / len(kappa)

    for _ in data.map(work, len(kappa) * len(system.m)):
        pass
    precision, turns = np.linalg.inv(system.noise), np.zeros((basis.shape[1], rank, rank))
    free = np.ones((rank, rank), bool) if system.blocks is None else system.blocks.together
    swap = np.eye(rank * rank).reshape([rank] * 4).transpose(0, 1, 3, 2).reshape(rank * rank, -1)  # vec B → vec B'
    for b, s in enumerate(basis.T):
        slope = -precision @ np.einsum("k,krs->rs", s, each_e)
        curvature = np.kron(precision, np.einsum("k,krs->rs", s**2, each_d)) + (s**2 @ lag.sum(axis=1)) * swap
        turns[b][free] = np.linalg.solve(curvature[np.ix_(free.ravel(), free.ravel())], slope[free])
    to = np.eye(rank) + np.einsum("kb,brs->krs", basis, turns)
    design = np.column_stack([np.ones(len(basis)), basis])
    each_m = np.swapaxes(loadings_of(system, basis)[..., :n], 1, 2) @ np.linalg.inv(to)
    found = np.linalg.lstsq(design, each_m.reshape(len(basis), -1), rcond=None)[0].reshape(-1, n, rank)
    m = system.m.copy()
    m[:n] = found[0]
    back = np.swapaxes(to, 1, 2)
    covariance = None if draws.covariance is None else to[:, None] @ draws.covariance @ back[:, None]
    moved = Draws(kappa @ back, draws.mean @ back, covariance)
    return system._replace(m=m, drift=found[1:].transpose(1, 2, 0)), moved


# ---------------------------------------------------------------------------------------------------------------------
# Observation


def observation_step(system: System, data: Batches, drawn: Array, reference: Array, steps: int) -> System:
    """Regression of every neuron on (1, v, kappa, s_b kappa), all neurons at once, by Newton's method.

    ``reference`` (neuron) is the level that the prior pulls to. A neuron whose likelihood does not rise takes half the
    step.
    """
    n_inputs = system.weights.shape[1]
    plain, beta, precision = _regression_of(system)
    plain = plain._replace(variance=np.ones(system.n_neurons))
    middle = np.zeros_like(beta)
    middle[:, 0] = 0 if system.link == "softplus" else reference

    def objective(beta: Array) -> tuple[Array, Array, Array]:
        value, slope, hessian = _regression_terms(plain, data, drawn, beta)
        off = beta - middle
        value, slope = value - 0.5 * (precision * off**2).sum(axis=1), slope - precision * off
        return value, slope, hessian + precision[..., None] * np.eye(beta.shape[1])

    value, slope, hessian = objective(beta)
    for _ in range(1 if system.observation == "gaussian" else steps):
        direction = np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
        new = objective(beta + direction)
        worse = ~(new[0] >= value)
        if worse.any():
            direction[worse] /= 8
            new = objective(beta + direction)
            worse = ~(new[0] >= value)
        keep = ~worse
        beta[keep] += direction[keep]
        value, slope, hessian = (
            np.where(keep.reshape(-1, *[1] * (a.ndim - 1)), b, a)
            for a, b in zip((value, slope, hessian), new, strict=True)
        )
    return _with_regression(system, data, drawn, beta, n_inputs)


def readout_step(system: System, trials: Trials, drawn: Array, steps: int) -> System:
    """Regression of behavior on (1, kappa); without behavior the system."""
    if system.readout is None or system.readout_choice is None or trials.z is None or trials.z_weight is None:
        return system
    used = (trials.z_weight > 0).any(axis=2)
    some = drawn[:, used]
    design = np.concatenate([np.ones((*some.shape[:2], 1)), some], axis=2).reshape(-1, 1 + system.rank)
    z, weight = (np.tile(one[used], (len(drawn), 1)) for one in (trials.z, trials.z_weight / len(drawn)))
    found = read_out(design, z, weight, system.readout_choice > 0, system.readout, steps)
    return system._replace(readout=found.coefficients, readout_variance=found.variance)


def _regression_of(system: System) -> tuple[System, Array, Array]:
    """The system without what beta holds, beta (neuron, coefficient) of level, I, m, drift, and the prior precision."""
    n, softplus = system.n_neurons, system.link == "softplus"
    plain = system if softplus else system._replace(level=np.zeros(n))
    first = system.bias[:n] if softplus else system.level + system.bias[:n]
    beta = np.column_stack([first, system.weights[:n], system.m[:n]])
    if system.drift is not None:
        beta = np.column_stack([beta, system.drift.swapaxes(1, 2).reshape(n, -1)])
    precision = np.full(beta.shape[1], LOADING_PRECISION)
    precision[0] = LEVEL_PRECISION
    if system.blocks is not None:
        precision = np.where(_allowed(system), precision, OUTSIDE_PRECISION)
    return plain, beta, precision


def _allowed(system: System) -> Array | bool:
    """Which coefficients of the neurons (level, I, m, drift) may differ from 0."""
    blocks, n = system.blocks, system.n_neurons
    if blocks is None:
        return True
    loadings = 1 if system.drift is None else 1 + system.drift.shape[2]
    return np.column_stack([np.ones(n, bool), blocks.reached[:n], *[blocks.of_m[:n]] * loadings])


def regression_covariance(system: System, data: Batches, mean: Array) -> Array:
    """Covariance of level, I, m and drift of every neuron, (neuron, coefficient, coefficient), at the mean latents."""
    plain, beta, precision = _regression_of(system)
    hessian = _regression_terms(plain, data, mean[None], beta)[2]
    return np.linalg.inv(hessian + precision[..., None] * np.eye(beta.shape[1]))


def _with_regression(system: System, data: Batches, drawn: Array, beta: Array, n_inputs: int) -> System:
    n, rank, drift, beta = system.n_neurons, system.rank, system.drift, beta * _allowed(system)
    m, weights, bias = system.m.copy(), system.weights.copy(), system.bias.copy()
    weights[:n], m[:n], drifts = np.split(beta[:, 1:], [n_inputs, n_inputs + rank], axis=1)
    if drift is not None:
        system = system._replace(drift=drifts.reshape(n, -1, rank).swapaxes(1, 2))
    if system.link == "softplus":
        bias[:n] = beta[:, 0]
        return system._replace(m=m, weights=weights, bias=bias)
    system = system._replace(m=m, weights=weights, level=beta[:, 0] - bias[:n])
    if system.observation == "poisson":
        return system
    plain = system._replace(level=np.zeros(n), variance=np.ones(n))
    squares = -2 * _regression_terms(plain, data, drawn, beta)[0]
    seen = data.trials.seen
    count = drawn[0, ..., 0].size if seen is None else data.engine.get(seen.sum(axis=(0, 1)))
    return system._replace(variance=np.maximum(squares / np.maximum(count, 1), 1e-9))


def _regression_terms(plain: System, data: Batches, drawn: Array, beta: Array) -> tuple[Array, Array, Array]:
    """Log likelihood, slope and minus Hessian by the coefficients of every neuron, means over the draws × trials."""
    n, p = beta.shape
    upper, put, get = np.triu_indices(p), data.engine.put, data.engine.get
    there, (coefficients,) = put(plain), put((beta,))

    def work(block: slice) -> tuple[Array, Array, Array]:
        part, (kappa,) = data.block(block), put((drawn[:, block],))
        design = design_of(part, kappa)
        value, slope, information = likelihood_terms(there, part, design @ coefficients.T)
        flat = design.reshape(-1, p)
        outer = flat[:, upper[0]] * flat[:, upper[1]]
        return (
            get(value.reshape(-1, n).sum(axis=0)),
            get(slope.reshape(-1, n).T @ flat),
            get(information.reshape(-1, n).T @ outer),
        )

    value, slope, packed = np.zeros(n), np.zeros((n, p)), np.zeros((n, len(upper[0])))
    for _, found in data.map(work, len(drawn) * (n + p * (p + 1) // 2)):
        value, slope, packed = value + found[0], slope + found[1], packed + found[2]
    hessian = np.zeros((n, p, p))
    hessian[:, upper[0], upper[1]] = packed
    hessian[:, upper[1], upper[0]] = packed
    return value / len(drawn), slope / len(drawn), hessian / len(drawn)


# ---------------------------------------------------------------------------------------------------------------------
# Dynamics


def dynamics_step(system: System, data: Batches, drawn: Array, how: How) -> tuple[System, float]:
    """n by ridge regression on the samples, with the ridge of largest marginal likelihood; Q from its residual.

    With counts, the linear part of the dynamics has a small ridge of its own. With values it has not: EM then stayed at
    linear dynamics. Unknown inputs are found together with n.
    """
    moments, usable, unknown = moments_of(system, data, drawn), usable_ridges(system, how.ridges), system.unknown
    if unknown is not None:
        coefficients, noise, ridge, unknown = regression_with_unknown(system, data, drawn, moments, how)
    elif system.blocks is None:
        coefficients, noise, ridge = ridge_regression(moments, usable, data.engine)
    else:
        coefficients, noise, ridge = ridge_regression_of_blocks(moments, usable, system.blocks, data.engine)
    noise = noise + MIN_NOISE * np.eye(system.rank)
    if how.diagonal:
        noise = np.diag(np.diag(noise))
    n = coefficients * (len(system.m) / system.alpha)
    return system._replace(n=n, noise=noise, unknown=unknown), ridge


def regression_with_unknown(
    system: System, data: Batches, drawn: Array, moments: Moments, how: How
) -> tuple[Array, Array, float, Array]:
    """Coefficients (unit, rank), residual covariance, ridge, and the unknown inputs d (group, time - 1, rank).

    The prior of d, and the ridge, are those of largest marginal likelihood, with d integrated out.
    """
    usable, sums = usable_ridges(system, how.ridges), group_sums(system, data, drawn, how.recurrent)
    course = problem_of(sums, moments, how.recurrent).course(how.sparse, usable)
    integrated = Integrated.of(course.covariance, sums.number)
    left = moments.targets - integrated.removed(sums.targets, sums.targets)
    if not how.recurrent:
        d = integrated.weights @ sums.targets
        return np.zeros_like(moments.cross), left / moments.number, float(usable[-1]), d
    size = rounding_of(system) * np.trace(moments.features) / len(moments.features)
    rest = moments._replace(  # a difference of moments: what is as small as their rounding may be negative
        features=moments.features - integrated.removed(sums.features, sums.features) + size * np.eye(len(system.m)),
        cross=moments.cross - integrated.removed(sums.features, sums.targets),
        targets=left,
        linear=moments.linear - integrated.removed(sums.features, sums.linear) * bool(moments.linear.any()),
    )
    coefficients, noise, ridge = ridge_regression(rest, usable, data.engine)
    return coefficients, noise, ridge, integrated.weights @ (sums.targets - sums.features @ coefficients)


def usable_ridges(system: System, ridges: Array) -> Array:
    """The ridges above the rounding of the moments, relative to their mean power; a single one is used as it is."""
    return ridges[ridges > rounding_of(system)] if len(ridges) > 1 else ridges


def rounding_of(system: System) -> float:
    """Rounding of the moments of the features, relative to their mean power."""
    return float(np.finfo(moment_type(system)).eps * len(system.m))


def moments_of(system: System, data: Batches, drawn: Array, drive: Array | None = None) -> Moments:
    """The moments of the regression of the dynamics, means over the draws.

    ``drive`` (draw, trial, time - 1, rank) is taken off the steps.
    """
    pairs = [
        _moments(system, data, drawn[first : first + 2], None if drive is None else drive[first : first + 2])
        for first in range(0, len(drawn), 2)
    ]
    total: list[Any] = [sum(one) / len(pairs) for one in zip(*pairs, strict=True)]
    moments = Moments(*total)
    return moments._replace(linear=0 * moments.linear) if system.observation == "gaussian" else moments


def _moments(system: System, data: Batches, drawn: Array, drive: Array | None) -> Moments:
    (n_units, rank), n_inputs, dtype = system.m.shape, system.weights.shape[1], feature_type(system)
    put, get = data.engine.put, data.engine.get
    there = put(system)

    def work(block: slice) -> list[Any]:
        part, (kappa,) = put(data.trials.part(block)), put((drawn[:, block],))
        lag, context = part.lag, context_of(there, part)
        x = cast(kappa[:, :, :-1], dtype) @ cast(context.loadings, dtype)
        x += context.features
        r = cast(phi_of(system.nonlinearity, x).phi(x)[:, lag].reshape(-1, n_units), moment_type(system))
        step = kappa[:, :, 1:] - (1 - system.alpha) * kappa[:, :, :-1]
        target = (step if drive is None else step - put((drive[:, block],))[0])[:, lag].reshape(-1, rank)
        z = design_of(part._replace(basis=None), kappa)[:, :, :-1][:, lag].reshape(len(r), -1)
        products = (
            r.T @ r,
            r.T @ cast(target, moment_type(system)),
            target.T @ target,
            r.T @ cast(z, moment_type(system)),
        )
        return [float(len(r)), *(get(one) for one in products)]

    sizes = (n_units, n_units), (n_units, rank), (rank, rank), (n_units, 1 + rank + n_inputs)
    total: list[Any] = [0.0, *(np.zeros(size) for size in sizes)]
    for _, found in data.map(work, len(drawn) * n_units):
        total = [a + b for a, b in zip(total, found, strict=True)]
    return Moments(*(one / len(drawn) for one in total))


def ridge_regression(moments: Moments, ridges: Array, engine: Engine = NUMPY) -> tuple[Array, Array, float]:
    """Coefficients (unit, rank), residual covariance, and the relative ridge of largest marginal likelihood.

    The coefficients are a sum W b + w. The columns of W give 1, v and kappa, by a regression with `LINEAR_RIDGE`, and
    W b has this ridge. So the linear part of the dynamics is almost free, and the ridge that is chosen shrinks w alone.
    After b is eliminated, with G = features², eigenvalues s, and targets of unit residual variance, the log marginal
    likelihood of a ridge is -count/2 sum(log RSS) - rank/2 sum(log(1 + s / ridge)), where RSS is that of the ridge
    regression with its penalty.
    """
    n_units, rank = moments.cross.shape
    unit = max(np.trace(moments.features) / n_units, np.finfo(float).eps ** 2)  # a source may be silent
    linear = np.linalg.solve(moments.features + LINEAR_RIDGE * unit * np.eye(n_units), moments.linear)
    seen, given = moments.features @ linear, linear.T @ moments.cross
    inverse = np.linalg.pinv(linear.T @ moments.linear, hermitian=True)
    power, axes = engine.eigh(moments.features - seen @ inverse @ seen.T)
    power = np.maximum(power, 0)
    rotated = axes.T @ (moments.cross - seen @ inverse @ given)
    left_by_linear = np.diag(moments.targets - given.T @ inverse @ given)
    best, chosen = -np.inf, float(ridges[0])
    for ridge in ridges if len(ridges) > 1 else ():
        left = left_by_linear - (rotated**2 / (power + ridge * unit)[:, None]).sum(axis=0)
        fit = -0.5 * moments.number * np.log(np.maximum(left, 1e-300) / moments.number).sum()
        value = fit - 0.5 * rank * np.log1p(power / (ridge * unit)).sum()
        if value > best:
            best, chosen = value, float(ridge)
    rest = axes @ (rotated / (power + chosen * unit)[:, None])
    coefficients = rest + linear @ inverse @ (given - seen.T @ rest)
    mixed = coefficients.T @ moments.cross
    residual = moments.targets - mixed - mixed.T + coefficients.T @ moments.features @ coefficients
    return coefficients, residual / moments.number, chosen


def ridge_regression_of_blocks(
    moments: Moments, ridges: Array, blocks: Blocks, engine: Engine = NUMPY
) -> tuple[Array, Array, float]:
    """`ridge_regression` of each latent on the units of its source; the ridge is that of the last source.

    The linear part is that of what arrives at the source.
    """
    coefficients, ridge = np.zeros_like(moments.cross), float(ridges[0])
    for source in range(len(blocks.names)):
        own, columns = np.flatnonzero(blocks.area == source), np.flatnonzero(blocks.source == source)
        if len(columns):
            arriving = np.concatenate([[True], blocks.reached[own[0]], blocks.to == source])  # of 1, v and kappa
            part = Moments(
                moments.number, moments.features[np.ix_(own, own)], moments.cross[np.ix_(own, columns)],
                moments.targets[np.ix_(columns, columns)], moments.linear[np.ix_(own, np.flatnonzero(arriving))],
            )  # fmt: skip
            coefficients[np.ix_(own, columns)], _, ridge = ridge_regression(part, ridges, engine)
    mixed = coefficients.T @ moments.cross
    residual = moments.targets - mixed - mixed.T + coefficients.T @ moments.features @ coefficients
    return coefficients, residual / moments.number, ridge


def start_step(system: System, trials: Trials, drawn: Array) -> System:
    """Mean of kappa[0] by group, and its covariance within groups."""
    first = drawn[:, :, 0]
    start = np.stack([first[:, trials.group == g].mean(axis=(0, 1)) for g in range(len(system.start))])
    off = (first - start[trials.group]).reshape(-1, system.rank)
    spread = off.T @ off / len(off) + 1e-3 * np.eye(system.rank)
    return system._replace(start=start, spread=spread)


# ---------------------------------------------------------------------------------------------------------------------
# Start


def first_latents(trials: Trials, rank: int, sd: float, poisson: bool, loadings: Array | None = None) -> Array:
    """Principal components of smoothed log counts, or values, with inputs partialled out, (trial, time, rank).

    With loadings (neuron, rank), their regression on these in place of principal components.
    """
    y, scale = smoothed(trials, sd, poisson)
    found = np.empty((*y.shape[:2], rank))
    sets = sets_without_common_neurons(trials.seen, y.shape)
    for chosen, neurons in sets:
        given = None if loadings is None else loadings[neurons]
        found[chosen] = _components(y[chosen][..., neurons], trials.v[chosen], scale[neurons], rank, given)
    return (
        found if len(sets) == 1 or loadings is not None else _aligned(found, trials.v, [chosen for chosen, _ in sets])
    )


def latents_of_behavior(trials: Trials, kappa: Array, choice: Array, sd: float, poisson: bool) -> Array:
    """First latents of which the leading ones are what predicts behavior linearly, the others those that are given.

    Smoothed activity, with inputs partialled out, is regressed on behavior by ridge regression; of a readout that is
    one observation a trial, its mean over the bins of the trial.
    """
    from sklearn.linear_model import RidgeCV

    assert trials.z is not None
    assert trials.z_weight is not None
    y, scale = smoothed(trials, sd, poisson)
    flat = _without_inputs(y, trials.v, scale)
    n_trials, n_times = y.shape[:2]
    found = []
    for k in range(len(choice)):
        weight = trials.z_weight[..., k]
        if _is_constant(trials.z[..., k], weight):
            use = weight.sum(axis=1) > 0
            share = weight[use] / weight[use].sum(axis=1, keepdims=True)
            x = np.einsum("kt,kti->ki", share, flat.reshape(y.shape)[use])
            z = (share * trials.z[use, :, k]).sum(axis=1)
        else:
            x, z = flat.reshape(y.shape)[weight > 0], trials.z[..., k][weight > 0]
        found.append(flat @ RidgeCV(START_RIDGES).fit(x, z).coef_)
    behavior, rank = np.column_stack(found), kappa.shape[2]
    others = kappa.reshape(n_trials * n_times, rank)
    left, values, _ = np.linalg.svd(behavior, full_matrices=False)
    leading = left[:, values > 1e-9 * max(values[0], 1e-300)][:, :rank]
    rest = others - leading @ (leading.T @ others)
    both = np.column_stack([leading, np.linalg.qr(rest)[0]])[:, :rank]
    return (both / np.maximum(both.std(axis=0), 1e-9)).reshape(n_trials, n_times, rank)


def _is_constant(z: Array, weight: Array) -> bool:
    """Whether behavior has one value a trial."""
    low, high = (pick(np.where(weight > 0, z, fill), axis=1) for pick, fill in ((np.min, np.inf), (np.max, -np.inf)))
    return bool((low[np.isfinite(low)] == high[np.isfinite(high)]).all())


def smoothed(trials: Trials, sd: float, poisson: bool) -> tuple[Array, Array]:
    """Smoothed log counts, or values, (trial, time, neuron), and what makes the noise of the neurons equal."""
    seen = np.ones(trials.y.shape, np.float32) if trials.seen is None else trials.seen.astype(np.float32)
    weight = gaussian_filter1d(seen, sd, axis=1, mode="constant")
    y = gaussian_filter1d(trials.y.astype(np.float32) * seen, sd, axis=1, mode="constant")
    mean = y.sum(axis=(0, 1)) / np.maximum(weight.sum(axis=(0, 1)), 1e-6)
    if poisson:
        prior = 0.5 / (1 + 2 * sd)
        y = np.log((y + prior * mean + 1e-6) / (weight + prior))
        scale = np.sqrt(mean)
    else:
        y = (y + 1e-3 * mean) / (weight + 1e-3)
        scale = 1 / np.maximum(y.reshape(-1, y.shape[2]).std(axis=0), 1e-6)
    return y, scale


def _components(y: Array, v: Array, scale: Array, rank: int, loadings: Array | None) -> Array:
    """Latents of unit variance, with inputs partialled out; components beyond the number of neurons are 0."""
    flat = _without_inputs(y, v, scale)
    if loadings is not None:
        left, _, right = np.linalg.svd(flat @ np.linalg.pinv(loadings * scale[:, None]).T, full_matrices=False)
        return (np.sqrt(len(left)) * left @ right).reshape(*y.shape[:2], rank)
    _, axes = np.linalg.eigh(flat.T @ flat)
    found = np.zeros((len(flat), rank))
    found[:, : y.shape[2]] = flat @ axes[:, ::-1][:, :rank]
    found /= np.maximum(found.std(axis=0), 1e-9)
    return found.reshape(*y.shape[:2], rank)


def _without_inputs(y: Array, v: Array, scale: Array) -> Array:
    """Smoothed activity (trial · time, neuron) with inputs partialled out, times the scale of each neuron."""
    flat: Array = y.reshape(-1, y.shape[2]).astype(float)
    design = np.column_stack([np.ones(len(flat)), v.reshape(len(flat), -1)])
    flat -= design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    flat *= scale
    return flat


def sets_without_common_neurons(seen: Array | None, shape: tuple[int, ...]) -> list[tuple[Array, Array]]:
    """Sets of trials, such as sessions, no two of which share a neuron: masks of their trials and of their neurons."""
    if seen is None:
        return [(np.ones(shape[0], bool), np.ones(shape[2], bool))]
    any_seen: Array = np.any(seen, axis=1)
    together = any_seen.T.astype(float) @ any_seen
    of_neuron = connected_components(together, directed=False)[1]
    of_trial = of_neuron[any_seen.argmax(axis=1)]
    return [(of_trial == k, of_neuron == k) for k in np.unique(of_trial)]


def _aligned(found: Array, v: Array, sets: list[Array]) -> Array:
    """The latents of each set, rotated so that all sets have the same linear dynamics.

    Sets have no neuron in common. What they share is kappa[t+1] = A' kappa[t] + B' z[t] + noise, where z are inputs and
    cosines of time. Set by set, beginning with the largest, the rotation is the one of largest likelihood of this
    regression in all sets so far.
    """
    n_times, rank = found.shape[1:]
    waves = np.cos(np.pi * np.arange(ALIGNING_WAVES) * (np.arange(n_times)[:, None] + 0.5) / n_times)
    z = np.concatenate([v, np.broadcast_to(waves, (len(v), *waves.shape))], axis=2)
    total = None
    for one in sorted(sets, key=np.sum, reverse=True):
        rows = np.concatenate([found[one, :-1], found[one, 1:], z[one, :-1]], axis=2).reshape(-1, 2 * rank + z.shape[2])
        own = rows.T @ rows
        turn = np.eye(rank) if total is None else _best_turn(own, total, rank)
        total = _turned(own, turn) + (0 if total is None else total)
        found[one] = found[one] @ turn
    return found


def _turned(moments: Array, turn: Array) -> Array:
    """Moments of (kappa[t], kappa[t+1], z[t]) after a rotation of kappa."""
    whole = block_diag(turn, turn, np.eye(len(moments) - 2 * len(turn)))
    return whole.T @ moments @ whole


def _best_turn(own: Array, total: Array, rank: int) -> Array:
    """The rotation or reflection of largest likelihood, by turns in planes of two latents, coarse to fine."""
    given, ahead = np.r_[:rank, 2 * rank : len(own)], slice(rank, 2 * rank)

    def residual(turn: Array) -> float:
        both = total + _turned(own, turn)
        cross = both[given, ahead]
        found = np.linalg.lstsq(both[np.ix_(given, given)], cross, rcond=None)[0]
        return float(np.linalg.slogdet(both[ahead, ahead] - cross.T @ found)[1])

    best, least = np.eye(rank), residual(np.eye(rank))
    for step in np.pi / 2.0 ** np.arange(7):
        turns, better = list(_plane_turns(rank, step)), True
        while better:
            better = False
            for turn in turns:
                if (value := residual(best @ turn)) < least - 1e-9:
                    best, least, better = best @ turn, value, True
    return best


def _plane_turns(rank: int, angle: float) -> Iterator[Array]:
    """Reflections of single latents, and rotations by ± the angle in each plane, with and without reflection."""
    for k in range(rank):
        yield np.diag(np.where(np.arange(rank) == k, -1.0, 1.0))
    for (i, j), sine in product(combinations(range(rank), 2), (np.sin(angle), -np.sin(angle))):
        turn = np.eye(rank)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -sine, sine
        yield turn
        yield turn * np.where(np.arange(rank) == j, -1.0, 1.0)


def reference_level(trials: Trials, poisson: bool) -> Array:
    """Log of the mean rate of every neuron, Hz, or its mean."""
    seen = np.broadcast_to(1.0, trials.y.shape) if trials.seen is None else trials.seen
    total = np.where(seen, trials.y, 0).sum(axis=(0, 1), dtype=float)
    if not poisson:
        return total / np.maximum(seen.sum(axis=(0, 1)), 1)
    exposure = np.einsum("kt,kti->i", np.exp(trials.log_exposure), seen)
    return np.log((total + 0.5) / np.maximum(exposure, 1e-12))


def first_system(
    trials: Trials, rank: int, hidden: int, alpha: float, seed: int, n_groups: int, options: dict[str, Any],
    sizes: tuple[float, float] = HIDDEN_SIZES, blocks: Blocks | None = None,
) -> System:  # fmt: skip
    """A network without recurrence.

    Hidden units have m, b ~ N(0, 1) and I ~ N(0, 1 / mean square of v), times a size of each unit within ``sizes``.
    With areas, m and I are 0 where the blocks and the inputs do not reach.
    """
    n, n_inputs = trials.y.shape[2], trials.v.shape[2]
    draw = np.random.default_rng([seed, 0]).standard_normal
    level = np.sqrt((trials.v**2).mean(axis=(0, 1)))
    drive = np.divide(draw((hidden, n_inputs)), level, out=np.zeros((hidden, n_inputs)), where=level > 0)
    least, largest = np.log(sizes)
    size = np.exp(np.random.default_rng([seed, 2]).uniform(least, largest, (hidden, 1)))
    parts = size * draw((hidden, rank)), size * drive
    m, weights = (np.concatenate([np.zeros((n, part.shape[1])), part]) for part in parts)
    if blocks is not None:
        m, weights = m * blocks.of_m, weights * blocks.reached
        options = options | {name: getattr(blocks, name) for name in ("area", "to", "source", "reached")}
    return System(
        m=m,
        n=np.zeros((n + hidden, rank)),
        weights=weights,
        bias=np.concatenate([np.zeros(n), size[:, 0] * draw(hidden)]),
        level=reference_level(trials, options["observation"] == "poisson"),
        variance=np.ones(n),
        noise=np.eye(rank),
        start=np.zeros((n_groups, rank)),
        spread=np.eye(rank),
        alpha=alpha,
        drift=None if trials.basis is None else np.zeros((n, rank, trials.basis.shape[1])),
        **options,
    )


def with_hidden_scale(system: System, trials: Trials, kappa: Array, scale: float) -> System:
    """The system with hidden units whose x has parts of the standard deviation ``scale`` from latents, inputs and bias.

    A latent (trial, time, rank) counts as it does in the recorded neurons, so that latents that hardly move these do
    not fill the hidden units with noise.
    """
    n, hidden = system.n_neurons, len(system.m) - system.n_neurons
    reference = reference_level(trials, system.observation == "poisson")
    loadings = observation_step(system, Batches(trials), kappa[None], reference, REGRESSION_STEPS).m[:n]
    power, axes = np.linalg.eigh(loadings.T @ loadings)
    power = np.maximum(power, 0)
    root = axes * np.sqrt(power / max(power.sum(), 1e-300)) @ axes.T
    moving = max(1, int((trials.v != 0).any(axis=(0, 1)).sum()))
    parts = [system.m[n:] @ root * scale, system.weights[n:] * (scale / np.sqrt(moving)), system.bias[n:] * scale]
    m, weights, bias = (
        np.concatenate([old[:n], new]) if hidden else old
        for old, new in zip((system.m, system.weights, system.bias), parts, strict=True)
    )
    return system._replace(m=m, weights=weights, bias=bias)


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


def best_start(
    system: System, trials: Trials, starts: list[Array], seed: int, how: How, n_trials: int = START_TRIALS
) -> Array:
    """Of several first latents (trial, time, rank) those that lead to the largest evidence in a few iterations.

    ``n_trials`` are the trials, about so many over the whole session, on which this is tried.
    """
    if len(starts) == 1:
        return starts[0]
    some = slice(None, None, max(1, len(trials.y) // n_trials))

    def evidence(kappa: Array) -> float:
        part = trials.part(some)
        tried = learn(system, part, kappa[some], seed=seed, max_iter=START_ITERATIONS, tolerance=0.0, how=how)
        return float(tried[1].max())

    return max(starts, key=evidence)


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
