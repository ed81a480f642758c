"""The steps of an iteration of EM: posterior samples, their gauge, and the regressions of observation and dynamics."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nwb_lint.behavior import read_out
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import Array, phi_of
from nwb_lint.parallel.arrays import NUMPY, Engine, cast
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
    LEVEL_PRECISION,
    LINEAR_RIDGE,
    LOADING_PRECISION,
    MIN_NOISE,
    OUTSIDE_PRECISION,
    RIDGES,
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


def reference_level(trials: Trials, poisson: bool) -> Array:
    """Log of the mean rate of every neuron, Hz, or its mean."""
    seen = np.broadcast_to(1.0, trials.y.shape) if trials.seen is None else trials.seen
    total = np.where(seen, trials.y, 0).sum(axis=(0, 1), dtype=float)
    if not poisson:
        return total / np.maximum(seen.sum(axis=(0, 1)), 1)
    exposure = np.einsum("kt,kti->i", np.exp(trials.log_exposure), seen)
    return np.log((total + 0.5) / np.maximum(exposure, 1e-12))


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
    size = moment_rounding(system) * np.trace(moments.features) / len(moments.features)
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
    return ridges[ridges > moment_rounding(system)] if len(ridges) > 1 else ridges


def moment_rounding(system: System) -> float:
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
