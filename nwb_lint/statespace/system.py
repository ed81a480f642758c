"""The stochastic low-rank network on arrays: its parameters, the trials, and the log joint density.

    kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N + eps[t],    eps ~ N(0, Q),    kappa[0] ~ N(mu, P)
    x[t] = m kappa[t] + I v[t] + b,    v[t+1] = (1 - alpha) v[t] + alpha u[t]
    count[t, i] ~ Poisson(dt rate),    rate = exp(c_i + x_i[t]) or exp(c_i) softplus(x_i[t]) / log 2,    or
    y[t, i] ~ N(c_i + x_i[t], psi_i)

The first rows of m, n, I and b are those of the observed neurons; hidden units come after them. Shapes: kappa (trial,
time, rank), y and its weights (trial, time, neuron), v (trial, time, input). The functions also take tensors in place
of arrays (`nwb_lint.parallel.arrays`).

With drift, m of trial k is m + sum_b s_b(k) drift_b. What multiplies kappa has then a dim more, that of the trials.

With unknown inputs, kappa[t+1] has the part d[g(k), t] too, which the trials of a group g, such as a condition, share.
A matrix ``decay`` takes the place of 1 - alpha: latents may be inputs of others, with time courses of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import Array, Nonlinearity, phi_of
from nwb_lint.parallel.arrays import NUMPY, Engine, cast, functions_of, log_factorial
from nwb_lint.statespace.tuning import BLOCK_VALUES, DEVICE_BLOCK_VALUES, MAX_LOG_RATE, NEARLY_ZERO

LOG_2PI = float(np.log(2 * np.pi))


class System(NamedTuple):
    """Parameters of the stochastic network.

    | field | dims | |
    |---|---|---|
    | m, n | unit, rank | |
    | weights | unit, input | I |
    | bias | unit | b |
    | level | neuron | c: log rate, Hz, or mean of a Gaussian |
    | variance | neuron | psi, of a Gaussian |
    | noise | rank, rank | Q |
    | start, spread | group, rank; rank, rank | mu and P |
    | alpha | | dt / tau |
    | uncertainty | neuron, coefficient, coefficient | covariance of (level, I, m, drift); None: they are known |
    | drift | neuron, rank, basis | how m changes with each smooth function of the trials; None: m is constant |
    | area, to, source | unit; rank; rank | positions of areas; None: one block |
    | reached | unit, input | which inputs reach which units, with areas |
    | readout | readout, 1 + rank | level and weights that read behavior from kappa; None: no behavior |
    | readout_variance, readout_choice | readout | variance of numbers (1 of choices); 1 of choices, else 0 |
    | unknown | group, time - 1, rank | d, of groups of their own (`Trials.cell`); None: there are no unknown inputs |
    | decay | rank, rank | what a step without recurrence makes of the latents; None: (1 - alpha) of each |
    | nonlinearity, observation, link | | phi; "poisson" or "gaussian"; "exp" or "softplus" |
    """

    m: Array
    n: Array
    weights: Array
    bias: Array
    level: Array
    variance: Array
    noise: Array
    start: Array
    spread: Array
    alpha: float
    nonlinearity: str | Nonlinearity = "tanh"
    observation: str = "poisson"
    link: str = "exp"
    uncertainty: Array | None = None
    drift: Array | None = None
    area: Array | None = None
    to: Array | None = None
    source: Array | None = None
    reached: Array | None = None
    readout: Array | None = None
    readout_variance: Array | None = None
    readout_choice: Array | None = None
    unknown: Array | None = None
    decay: Array | None = None

    @property
    def blocks(self) -> Blocks | None:
        """The blocks of several areas; None for one block."""
        if self.area is None or self.to is None or self.source is None or self.reached is None:
            return None
        names = tuple(str(k) for k in range(int(self.area.max()) + 1))
        return Blocks(names, self.area, self.to, self.source, self.reached)

    @property
    def rank(self) -> int:
        """Number of latents."""
        return self.m.shape[1]

    @property
    def n_neurons(self) -> int:
        """Number of observed neurons."""
        return len(self.level)


class Trials(NamedTuple):
    """Some trials.

    | field | dims | |
    |---|---|---|
    | y | trial, time, neuron | counts, or values |
    | seen | trial, time, neuron | which samples count; None for all |
    | v | trial, time, input | filtered inputs |
    | log_exposure | trial, time | log of the seconds in which spikes were counted |
    | group | trial | which mean of kappa[0] |
    | lag | trial, time - 1 | whether a step lies between the first and the last observed sample |
    | basis | trial, basis | smooth functions of the trials, along which m drifts; None without drift |
    | z | trial, time, readout | behavior, as `nwb_lint.behavior.Behavior` has it; None: it is not seen |
    | z_weight | trial, time, readout | what its log likelihood is multiplied by; 0 where it is not observed |
    | cell | trial | which unknown input; None without unknown inputs |
    """

    y: Array
    seen: Array | None
    v: Array
    log_exposure: Array
    group: Array
    lag: Array
    basis: Array | None = None
    z: Array | None = None
    z_weight: Array | None = None
    cell: Array | None = None

    def part(self, which: slice | Array) -> Trials:
        """Some of these trials."""
        chosen: tuple[Any, ...] = tuple(None if field is None else field[which] for field in self)
        return Trials(*chosen)


class Batches(NamedTuple):
    """Trials whose data are where an engine computes."""

    trials: Trials
    engine: Engine = NUMPY

    @classmethod
    def on(cls, engine: Engine, trials: Trials) -> Batches:
        """Move the data of trials to an engine."""
        y, seen = engine.put((trials.y, trials.seen))
        return cls(trials._replace(y=y, seen=seen), engine)

    def part(self, which: slice | Array) -> Batches:
        """Some of these trials."""
        return Batches(self.trials.part(which), self.engine)

    def block(self, which: slice | Array) -> Trials:
        """Some trials for a computation, with numbers of double precision."""
        part = self.engine.put(self.trials.part(which))
        return part._replace(y=cast(part.y, float))

    def map(self, work: Callable[[slice], Any], n_units: int) -> Iterator[tuple[slice, Any]]:
        """``work(block)`` of all blocks, in order, with the block; ``n_units`` are the values of a sample."""
        n_trials, n_times = self.trials.y.shape[:2]
        values = BLOCK_VALUES if self.engine.on_threads else DEVICE_BLOCK_VALUES
        size = max(1, values // (n_times * n_units))
        parts = [slice(first, min(first + size, n_trials)) for first in range(0, n_trials, size)]
        return zip(parts, self.engine.map(work, parts), strict=True)


class Evaluation(NamedTuple):
    """The log joint density of some trials at some latents, and what its derivatives need."""

    kappa: Array
    log_joint: Array
    score: Array  # derivative of the log likelihood by x, (trial, time, neuron)
    information: Array  # minus its second derivative
    slope: Array
    step: Array  # kappa[t+1] - f(kappa[t])
    first: Array  # kappa[0] - mu
    pull: Array  # derivative of the log likelihood of behavior by kappa, (trial, time, rank); no time without behavior
    z_information: Array  # minus its second derivative by what is read, (trial, time, readout); no time without


class Context(NamedTuple):
    """What the log joint density of some trials needs beside the latents.

    | field | dims | |
    |---|---|---|
    | observed | trial, time, neuron | x without m kappa; with covariances also half the variance of the log rate |
    | features | trial, time - 1, unit | x without m kappa |
    | width | trial, time - 1, unit | distance h of the nodes x ± h, for tanh: tanh² of it; None without covariances |
    | half | trial, time, neuron | half the variance of the log rate; None without covariances |
    | loadings | rank, unit; or trial, rank, unit | m', or that of each trial |
    """

    observed: Array
    features: Array
    width: Array | None
    half: Array | None
    loadings: Array

    def part(self, which: Array) -> Context:
        """Some of the trials."""
        width = None if self.width is None else self.width[which]
        half = None if self.half is None else self.half[which]
        loadings = self.loadings if self.loadings.ndim == 2 else self.loadings[which]
        return Context(self.observed[which], self.features[which], width, half, loadings)


def loadings_of(system: System, basis: Array | None) -> Array:
    """m' (rank, unit); with drift that of each trial (trial, rank, unit). Hidden units do not drift."""
    if system.drift is None:
        return system.m.T
    assert basis is not None
    n, xp = system.n_neurons, functions_of(system.m)
    own = system.m[:n].T + xp.einsum("kb,irb->kri", basis, system.drift)
    hidden = xp.broadcast_to(system.m[n:].T, (len(basis), system.rank, len(system.m) - n))
    both: Array = xp.concatenate([own, hidden], axis=2)
    return both


def outer_of(loadings: Array) -> Array:
    """Products m_i m_i' of the columns of m' (…, rank, unit), flat: (…, unit, rank · rank)."""
    m = loadings.swapaxes(-1, -2)
    flat: Array = (m[..., :, None] * m[..., None, :]).reshape(*m.shape[:-1], -1)
    return flat


def design_of(trials: Trials, kappa: Array) -> Array:
    """What the activation of a neuron is linear in: 1, v, kappa and, with drift, s_b kappa; (…, time, coefficient).

    kappa is (trial, time, rank), or has further dims before these.
    """
    shape, xp = kappa.shape[:-1], functions_of(kappa)
    parts = [xp.ones_like(kappa[..., :1]), xp.broadcast_to(trials.v, (*shape, trials.v.shape[2])), kappa]
    if trials.basis is not None:
        each = kappa[..., None, :] * trials.basis[:, None, :, None]
        parts.append(each.reshape(*shape, -1))
    design: Array = xp.concatenate(parts, axis=-1)
    return design


def feature_type(system: System) -> type:
    """Single precision where there are hidden units, whose phi(x) then costs a third."""
    return np.float32 if len(system.m) > system.n_neurons else np.float64


def moment_type(system: System) -> type:
    """Double precision for values, whose dynamics can be so exact that the best ridge is below single precision."""
    return float if system.observation == "gaussian" else feature_type(system)


def context_of(system: System, trials: Trials, covariance: Array | None = None) -> Context:
    """The context of some trials, with the covariance of the latents (trial, time, rank, rank) of an iteration before.

    With it, the means of phi(x) and of exp(x) take the place of both. The first is found by Gauss-Hermite quadrature
    with three nodes, 0 and ± sqrt(3) standard deviations.
    """
    n, rank, dtype, xp = system.n_neurons, system.rank, feature_type(system), functions_of(system.m)
    observed = trials.v @ system.weights[:n].T + system.bias[:n]
    v = cast(trials.v[:, :-1], dtype)
    features = v @ cast(system.weights.T, dtype) + cast(system.bias, dtype)
    loadings = loadings_of(system, trials.basis)
    if covariance is None:
        return Context(observed, features, None, None, loadings)
    outer = outer_of(loadings).swapaxes(-1, -2)
    flat = covariance.reshape(*covariance.shape[:2], rank * rank)
    width: Array | None = None
    half: Array | None = None
    if system.nonlinearity != "linear":
        width = cast(flat[:, :-1], dtype) @ cast(3 * outer, dtype)
        xp.sqrt(xp.maximum(width, 0, out=width), out=width)
        if system.nonlinearity == "tanh":
            width = xp.tanh(width, out=width) ** 2
    if system.observation == "poisson" and system.link == "exp":
        half = 0.5 * (flat @ outer[..., :n])
        observed = observed + half
    return Context(observed, features, width, half, loadings)


def features_of(system: System, kappa: Array, context: Context) -> tuple[Array, Array]:
    """phi(x) and its slope, or their means, (trial, time - 1, unit), from kappa (trial, time - 1, rank)."""
    phi, dtype = phi_of(system.nonlinearity, kappa), context.features.dtype
    x = cast(kappa, dtype) @ cast(context.loadings, dtype)
    x += context.features
    r = phi.phi(x)
    if context.width is None:
        return r, phi.slope(x, r)
    if system.nonlinearity == "tanh":  # tanh(x ± h) = (tanh x ± tanh h) / (1 ± tanh x tanh h)
        square = r * r
        share = square * context.width
        rest = 1 - share + NEARLY_ZERO
        ratio = (1 - context.width) / rest
        slope = (1 - square) * (2 + ratio * (1 + share) / rest) / 3
        r *= (2 + ratio) / 3
        return r, slope
    slope = phi.slope(x, r) * (2 / 3)
    r = r * (2 / 3)
    for node in (x - context.width, x + context.width):
        there = phi.phi(node)
        r, slope = r + there / 6, slope + phi.slope(node, there) / 6
    return r, slope


def next_latent(system: System, kappa: Array, r: Array) -> Array:
    """f(kappa): the latents a step later, without noise."""
    weights = cast(system.n * (system.alpha / len(system.n)), r.dtype)
    left = (1 - system.alpha) * kappa if system.decay is None else kappa @ system.decay.T
    return left + r @ weights


def transition_matrices(system: System, slope: Array, loadings: Array) -> Array:
    """A = df / dkappa, (trial, time, rank, rank): (1 - alpha) 1 + alpha n' diag(slope) m / N."""
    rank, m = system.rank, loadings.swapaxes(-1, -2)
    products = (system.n[:, :, None] * m[..., None, :]).reshape(*m.shape[:-1], rank * rank)
    products = cast(products * (system.alpha / len(system.n)), slope.dtype)
    flat = (slope.reshape(-1, slope.shape[-1]) if loadings.ndim == 2 else slope) @ products
    out = cast(flat.reshape(*slope.shape[:-1], rank, rank), float)
    out += (1 - system.alpha) * functions_of(slope).eye(rank) if system.decay is None else system.decay
    return out


def likelihood_terms(system: System, trials: Trials, x: Array) -> tuple[Array, Array, Array]:
    """Log likelihood of every sample without its constant, its slope and minus its curvature by x.

    Parameters
    ----------
    system : System
    trials : Trials
    x : array of shape (..., trial, time, neuron)
        x of the observed neurons.

    Returns
    -------
    value, slope, information : array of the shape of ``x``
    """
    y, xp = trials.y, functions_of(x)
    if system.observation == "gaussian":
        error = (y - system.level) - x
        slope = error / system.variance
        information = xp.ones_like(x) / system.variance
        value = -0.5 * slope * error
    elif system.link == "exp":
        eta = x + (trials.log_exposure[..., None] + system.level)
        xp.minimum(eta, MAX_LOG_RATE, out=eta)
        information = xp.exp(eta)
        eta *= y
        eta -= information
        value, slope = eta, y - information
    else:
        value, slope, information = _softplus_terms(system, trials, x)
    if trials.seen is not None:
        slope, information, value = slope * trials.seen, information * trials.seen, value * trials.seen
    return value, slope, information


def _softplus_terms(system: System, trials: Trials, x: Array) -> tuple[Array, Array, Array]:
    """Terms of the Poisson likelihood with the mean exp(c) softplus(x) / log 2."""
    xp = functions_of(x)
    soft, gate = xp.logaddexp(x, 0), 0.5 * (1 + xp.tanh(0.5 * x))
    scale = xp.exp(trials.log_exposure[..., None] + system.level) / np.log(2)
    ratio = gate / xp.maximum(soft, 1e-300)
    y, bend = trials.y, gate * (1 - gate)
    value = y * (xp.log(xp.maximum(soft, 1e-300)) + xp.log(scale)) - scale * soft
    information = scale * bend - y * (bend / xp.maximum(soft, 1e-300) - ratio**2)
    return value, y * ratio - scale * gate, xp.maximum(information, 0)


def likelihood_constant(system: System, trials: Trials) -> Array:
    """What `likelihood_terms` leaves out, (trial)."""
    if system.observation == "gaussian":
        xp = functions_of(system.variance)
        each = xp.broadcast_to(-0.5 * (LOG_2PI + xp.log(system.variance)), trials.y.shape)
    else:
        each = -log_factorial(trials.y)
    return (each if trials.seen is None else each * trials.seen).sum(axis=(1, 2))


def behavior_terms(system: System, trials: Trials, kappa: Array) -> tuple[Array, Array, Array]:
    """Weighted log likelihood of behavior without its constant, and its slope and minus its curvature by what is read.

    Each is (trial, time, readout). A choice is Bernoulli with the logit level + w' kappa, a number Gaussian around it.
    """
    assert system.readout is not None
    assert system.readout_choice is not None
    assert system.readout_variance is not None
    assert trials.z is not None
    assert trials.z_weight is not None
    xp, choice = functions_of(kappa), system.readout_choice
    eta = kappa @ system.readout[:, 1:].T + system.readout[:, 0]
    number = (1 - choice) / system.readout_variance
    p, error = 0.5 * (1 + xp.tanh(0.5 * eta)), trials.z - eta
    value = choice * (trials.z * eta - xp.logaddexp(eta, 0)) - 0.5 * number * error * error
    slope = choice * (trials.z - p) + number * error
    information = choice * p * (1 - p) + number
    return trials.z_weight * value, trials.z_weight * slope, trials.z_weight * information


def behavior_constant(system: System, trials: Trials) -> Array:
    """What `behavior_terms` leaves out, (trial)."""
    assert system.readout_choice is not None
    assert system.readout_variance is not None
    assert trials.z_weight is not None
    xp = functions_of(system.readout_variance)
    each = -0.5 * (1 - system.readout_choice) * (LOG_2PI + xp.log(system.readout_variance))
    return (trials.z_weight * each).sum(axis=(1, 2))


def evaluate(system: System, trials: Trials, kappa: Array, context: Context) -> Evaluation:
    """The log joint density of data and latents without constants, (trial), and the terms of its derivatives."""
    x = kappa @ context.loadings[..., : system.n_neurons]
    x += context.observed
    value, score, information = likelihood_terms(system, trials, x)
    r, slope = features_of(system, kappa[:, :-1], context)
    step, first = kappa[:, 1:] - next_latent(system, kappa[:, :-1], r), kappa[:, 0] - system.start[trials.group]
    if system.unknown is not None:
        step = step - system.unknown[trials.cell]
    value = value.sum(axis=(1, 2))
    value = value - 0.5 * _squared(step, system.noise).sum(axis=1) - 0.5 * _squared(first, system.spread)
    pull = z_information = kappa[:, :0]
    if system.readout is not None:
        of_behavior, z_slope, z_information = behavior_terms(system, trials, kappa)
        value, pull = value + of_behavior.sum(axis=(1, 2)), z_slope @ system.readout[:, 1:]
    xp = functions_of(value)
    value = xp.where(xp.isfinite(value), value, -np.inf)
    return Evaluation(kappa, value, score, information, slope, step, first, pull, z_information)


def prior_constant(system: System, n_steps: int) -> float:
    """The constant of the density of the latents of one trial with so many steps between samples."""
    logs = [functions_of(one).linalg.slogdet(one)[1] for one in (system.spread, system.noise)]
    return -0.5 * (logs[0] + n_steps * logs[1] + (n_steps + 1) * system.rank * LOG_2PI)


def _squared(values: Array, covariance: Array) -> Array:
    """values' covariance⁻¹ values, over the last dim."""
    xp = functions_of(values)
    return xp.einsum("...i,...i->...", values @ xp.linalg.inv(covariance), values)
