"""Stages 1 and 2: reduced-rank regression on filtered rates, and the latent pass that removes its noise bias.

With F the low-pass filter of the network, the network obeys x = W q + F[phi(x)] n m' / N. This is linear in W and in
J = m n' / N. The features of the regression are therefore z = F[phi(x)].

Moments. The moments of features z, drives q and targets y are summed over chunks of conditions, so that the features
never exist all at once. Regression on q is removed at the end (Frisch-Waugh-Lovell theorem). Ridge penalties are
relative to the mean variance of the features. The closed forms of several subsets of the conditions, such as the inner
splits of a fit, share these sums: every condition is summed once (`closed_forms`).

Many neurons. A sketch V (neuron, direction) with orthonormal columns replaces the N features: z → V'z. It comes from
one pass of a randomized range finder, V = qr(Z'Z Omega) with Omega Gaussian (Halko, Martinsson & Tropp, SIAM Review
2011). Time and memory are then linear in N. With N directions, V is a rotation and nothing is lost.

Instruments. The rates of one half of the trials are instruments for those of the other half: Z'Z becomes
(Z1'Z2 + Z2'Z1) / 2, and Z'Y becomes (Z1'Y2 + Z2'Y1) / 2. Noise that the halves do not share drops out of both (errors
in variables: Fuller, Measurement Error Models, 1987).

Prewhitening. Noise inside the network passes the same filter, so that the residuals of the regression are correlated
from step to step with rho = 1 - alpha. The moments of the innovations, a[t] - rho a[t-1], have independent residuals:
generalized least squares. Where there is no sample before, (1 - rho²)^(1/2) a[t] replaces them (Prais & Winsten 1954).

Unseen start. Where recording begins after a burn-in, the features z of the first samples depend on activity that nobody
saw. What is unknown in z, and in x, decays as (1 - alpha)^t in every condition. Regression on this course, separately
for every condition, removes it from x, z and q alike (Frisch-Waugh-Lovell), and with it one sample of a condition.

Shapes: x (condition, time, neuron), q (condition, burn-in + time, drive), weights (neuron) of the loss
sum_i w_i (x_i - prediction_i)². NaN = not observed. Time steps at which no neuron was observed (the rest of a shorter
trial, a missing condition) do not count; `fill` replaces other missing values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh, qr
from scipy.sparse.linalg import ArpackError, eigsh

from nwb_lint.model.network import Array, Network, Nonlinearity, forward, phi_of
from nwb_lint.model.scores import as_slice, squared_errors
from nwb_lint.model.tuning import (
    GPU_FACTOR,
    LANCZOS_RATIO,
    LOW_RANK_MAX_STRIDE_TAU,
    LOW_RANK_SAMPLES_PER_FEATURE,
    MAX_STRIDE_TAU,
    MIN_RESIDUAL,
    MIN_RIDGE,
    MIN_SAMPLES,
    MOMENT_CHUNK_NEURONS,
    MOMENT_CHUNK_VALUES,
    RIDGES,
    SAMPLES_PER_FEATURE,
    SINGULAR_CUTOFF,
    SINGULAR_VALUES_KEPT,
    SKETCH_CHUNK_SAMPLES,
    SKETCH_FEWEST_SAMPLES_PER_DIRECTION,
    SKETCH_NEURONS,
    SKETCH_SAMPLES_PER_DIRECTION,
    SKETCH_SIZE,
    SKETCH_VALUES,
)
from nwb_lint.parallel.arrays import NUMPY, Engine, cast, functions_of
from nwb_lint.parallel.threads import map_in_order

# ---------------------------------------------------------------------------------------------------------------------
# Features, innovations, and missing values


def features(x: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Array:
    """F[phi(x)]: z[0] = 0, z[t+1] = (1 - alpha) z[t] + alpha phi(x[t]).

    Parameters
    ----------
    x : array of shape (condition, time, neuron)
    alpha : float
        Time step / time constant.
    nonlinearity : str or Nonlinearity

    Returns
    -------
    array of the shape of ``x``
    """
    z, xp = phi_of(nonlinearity, x).phi(x), functions_of(x)
    z *= alpha
    previous = xp.zeros_like(z[:, 0])
    for t in range(z.shape[1]):
        driven = xp.copy(z[:, t])
        z[:, t] = previous
        previous *= 1 - alpha
        previous += driven
    return z


def innovations(a: Array, alpha: float, observed: Array | None = None) -> Array:
    """a[t] - rho a[t-1] with rho = 1 - alpha; (1 - rho²)^(1/2) a[t] where there is no observed sample before.

    ``a`` (condition, time, any); ``observed`` (condition, time), None = all.
    """
    rho = 1 - alpha
    out = np.sqrt(1 - rho**2) * a
    differences = a[:, 1:] - rho * a[:, :-1]
    xp = functions_of(a)
    out[:, 1:] = differences if observed is None else xp.where(observed[:, :-1, None], differences, out[:, 1:])
    return out if out.dtype == a.dtype else cast(out, a.dtype)


def without_start(a: Array, alpha: float, observed: Array | None = None) -> Array:
    """What is left of ``a`` (condition, time, any) after regression on (1 - alpha)^t in every condition.

    The rest does not depend on what happened before the first sample. ``observed`` (condition, time), None = all.
    """
    xp = functions_of(a)
    course = (1 - alpha) ** cast(xp.arange(a.shape[1]), a.dtype)
    seen = course[None] if observed is None else course * cast(observed, a.dtype)
    power = xp.maximum((seen * seen).sum(1), np.finfo(np.float32).tiny)
    start = ((seen / power[:, None])[:, None] @ a)[:, 0]
    return a - course[:, None] * start[:, None]


def observed_samples(*views: Array) -> Array | None:
    """Whether some neuron was observed in every view, (condition, time); None if no value is missing."""
    if all(np.isfinite(x.sum()) for x in views):
        return None
    return np.logical_and.reduce([~np.isnan(x).all(axis=2) for x in views])


def fill(x: Array, network: Network | None, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Array:
    """Replace NaN by the network's prediction, or by the neuron's mean if there is no network yet."""
    if np.isfinite(x.sum()):  # a sum that overflows is not finite either: then nothing is missing below
        return x
    missing = np.isnan(x)
    if network is None:
        count = np.maximum((~missing).sum(axis=(0, 1)), 1)
        guess = np.broadcast_to(np.nansum(x, axis=(0, 1), dtype=float) / count, x.shape)
    else:
        guess = forward(network, q, alpha, nonlinearity)[0][:, q.shape[1] - x.shape[1] :, : x.shape[2]]
    return np.where(missing, guess, x).astype(x.dtype)


def chunks_of(n_conditions: int, n_times: int, n_neurons: int, values: int = MOMENT_CHUNK_VALUES) -> Iterator[slice]:
    """Slices of conditions that hold about so many values each."""
    step = max(1, values // (n_times * max(n_neurons, MOMENT_CHUNK_NEURONS)))
    return (slice(i, i + step) for i in range(0, n_conditions, step))


# ---------------------------------------------------------------------------------------------------------------------
# Moments


class Chunk(NamedTuple):
    """Some conditions, seen once, or twice as trial halves.

    Each view has states (condition, burn-in + time, neuron) and a list of targets (condition, time, any).
    ``observed`` (condition, time), None = all.
    """

    states: Sequence[Array]
    targets: Sequence[Sequence[Array]]
    observed: Array | None


class Moments(NamedTuple):
    """Moments of features and targets after regression on the drives.

    zz (feature, feature), zy (feature, target), yy (target), q_to_z (drive, feature), q_to_y (drive, target); the mean
    variance of the features before any sketch; number of samples less that of the drives; the sketch V or None.
    """

    zz: Array
    zy: Array
    yy: Array
    q_to_z: Array
    q_to_y: Array
    variance: float
    samples: int
    basis: Array | None

    def expand(self, b: Array) -> Array:
        """Coefficients of the neurons from those of the features: V b."""
        return b if self.basis is None else self.basis @ b


class Sums(NamedTuple):
    """Sums before any regression on the drives, seen once.

    zz (feature, feature), zy (feature, target), yy (target), energy of the features, number of samples, qq (drive,
    drive), qz (drive, feature), qy (drive, target).
    """

    zz: Array
    zy: Array
    yy: Array
    energy: Array
    number: Array
    qq: Array
    qz: Array
    qy: Array


class Sampling(NamedTuple):
    """Which time steps enter the moments if there are many samples.

    Features pass a filter with a time constant of 1 / alpha steps, so that neighbors within half of it are nearly
    equal. If samples abound, most of them can be skipped.
    """

    per_feature: int = SAMPLES_PER_FEATURE
    max_stride_tau: float = MAX_STRIDE_TAU
    min_samples: int = MIN_SAMPLES

    def stride(self, n_samples: int, n_features: int, alpha: float) -> int:
        """Every how many-th time step is used."""
        most = n_samples // max(self.per_feature * n_features, self.min_samples)
        return max(1, min(most, round(self.max_stride_tau / alpha)))


LOW_RANK = Sampling(LOW_RANK_SAMPLES_PER_FEATURE, LOW_RANK_MAX_STRIDE_TAU)


def sketch_size(n_neurons: int, n_samples: int) -> int | None:
    """Number of directions of the sketch. None (all features) unless neurons are many, or more than samples."""
    many = n_neurons > SKETCH_NEURONS or (n_neurons > SKETCH_SIZE and n_samples < n_neurons)
    return SKETCH_SIZE if many else None


class MomentStream(NamedTuple):
    """The source of moments: a function that makes a chunk from a slice of conditions, the drives q, and sizes.

    ``unseen_start``: remove what activity before the first sample contributes (`without_start`).
    """

    chunk: Callable[[Array | slice], Chunk]
    q: Array
    n_neurons: int
    n_samples: int
    alpha: float
    nonlinearity: str | Nonlinearity
    prewhiten: bool = False
    sampling: Sampling = Sampling()
    chunk_values: int = MOMENT_CHUNK_VALUES
    engine: Engine = NUMPY
    unseen_start: bool = False

    def moments(self, sketch: int | None) -> Moments:
        """Moments of the features, on a sketch with so many directions; None = of all features."""
        return self.of_subsets([np.arange(len(self.q))], sketch).moments(0)

    def of_subsets(self, subsets: Sequence[Array], sketch: int | None) -> SubsetMoments:
        """Moments of several subsets of the conditions, which are positions; all on one sketch."""
        parts = common_parts(subsets)
        smallest = self.n_samples * min(len(one) for one in subsets) // len(self.q)
        basis = None if sketch is None else self._basis(sketch, np.unique(np.concatenate(parts)), smallest)
        stride = self._stride(basis, smallest)
        return SubsetMoments(self, subsets, parts, [self._total(part, basis, None, stride) for part in parts], basis)

    def sums(self) -> Sums:
        """The sums of all features before regression on the drives; chunks have a single view."""
        return Sums(*self._total(np.arange(len(self.q)), None, None, self._stride(None, self.n_samples)))

    def along(self, directions: Array) -> Moments:
        """Moments of all samples, of the features along a few directions (neuron, any)."""
        everything = np.arange(len(self.q))
        return self._moments(self._total(everything, directions, None, 1), len(everything), directions)

    def _basis(self, sketch: int, conditions: Array, n_samples: int) -> Array:
        """Orthonormal directions of the features, (neuron, direction), from some of the samples."""
        omega = np.random.default_rng(0).standard_normal((self.n_neurons, min(sketch, self.n_neurons)))
        most = min(SKETCH_SAMPLES_PER_DIRECTION * omega.shape[1], SKETCH_VALUES // self.n_neurons)
        stride = max(1, n_samples // max(most, SKETCH_FEWEST_SAMPLES_PER_DIRECTION * omega.shape[1]))
        ranged = self._moments(self._total(conditions, None, omega, stride), len(conditions), None).zy
        # The features have the digits of q; numpy's qr computes in double precision all the same.
        basis, _ = qr(ranged.astype(self.q.dtype), mode="economic", check_finite=False)
        return basis

    def _stride(self, basis: Array | None, n_samples: int) -> int:
        """Every how many-th time step is used. Innovations are independent, so that none is skipped."""
        if self.prewhiten:
            return 1
        return self.sampling.stride(n_samples, self.n_neurons if basis is None else basis.shape[1], self.alpha)

    def _moments(self, total: list[Array], n_conditions: int, basis: Array | None) -> Moments:
        """The moments that the sums of so many conditions give; without zz, where the sums have none."""
        zz, zy, yy, energy, count, qq, *crossed = total
        inverse = np.linalg.pinv(qq, rcond=SINGULAR_CUTOFF, hermitian=True)
        whole = crossed[: len(crossed) // 2]
        qz = whole if basis is None else [one @ basis for one in whole]
        qy = crossed[len(crossed) // 2 :]
        pairs = _pairs(len(qz))

        def explained(a: list[Array], b: list[Array]) -> list[Array]:
            return [a[i].T @ inverse @ b[j] / len(pairs) for i, j in pairs]

        energy = energy - sum(np.einsum("qn,qr,rn->", whole[i], inverse, whole[j]) for i, j in pairs) / len(pairs)
        return Moments(
            zz - sum(explained(qz, qz)) if zz.size else zz,
            zy - sum(explained(qz, qy)),
            yy - sum(np.einsum("qn,qr,rn->n", qy[i], inverse, qy[j]) for i, j in pairs) / len(pairs),
            inverse @ sum(qz) / len(qz),
            inverse @ sum(qy) / len(qy),
            max(float(energy) / self.n_neurons, np.finfo(float).tiny),
            int(count) - self.q.shape[2] - n_conditions * self.unseen_start,
            basis,
        )

    def _total(self, conditions: Array, basis: Array | None, omega: Array | None, stride: int) -> list[Array]:
        """The sums of all chunks of some conditions, added in their order, on ``basis`` V.

        With ``omega``, Z Omega replaces the targets, and zz stays empty. ``stride``: every how many-th time step is
        used.
        """
        total: list[Array] = []
        values = self.chunk_values * (1 if self.engine.on_threads else GPU_FACTOR)
        if (basis if omega is None else omega) is not None:
            values = max(values, SKETCH_CHUNK_SAMPLES * self.n_neurons)
        parts = chunks_of(len(conditions), self.q.shape[1], self.n_neurons, values)
        basis, omega = self.engine.put((basis, omega))

        def sums(part: slice) -> list[Array]:
            found = self._sums(as_slice(conditions[part]), stride, basis, omega)
            return [self.engine.get(one) for one in found]

        for new in self.engine.map(sums, parts):
            total = total or [np.zeros(a.shape) for a in new]
            for a, b in zip(total, new, strict=True):
                a += b
        return total

    def _sums(self, part: Array | slice, stride: int, basis: Array | None, omega: Array | None) -> list[Array]:
        """The sums of one chunk: zz, zy, yy, energy of all features, count, qq, then qz and qy of every view."""
        chunk = self.chunk(part)
        skip = self.q.shape[1] - chunk.targets[0][0].shape[1]
        (q, whether), states = self.engine.put((self.q[part], chunk.observed)), self.engine.put(tuple(chunk.states))
        observed, xp = None if whether is None else whether[:, ::stride], functions_of(q)

        def rows(a: Array) -> Array:
            a = without_start(a, self.alpha, whether) if self.unseen_start else a
            kept = (innovations(a, self.alpha, whether) if self.prewhiten else a)[:, ::stride]
            return kept.reshape(-1, a.shape[2]) if observed is None else kept[observed]

        whole = [rows(features(x, self.alpha, self.nonlinearity)[:, skip:]) for x in states]
        z = whole if basis is None else [one @ cast(basis, one.dtype) for one in whole]
        if omega is None:
            y = [[rows(t) for t in self.engine.put(tuple(ts))] for ts in chunk.targets]
        else:
            y = [[one @ cast(omega, one.dtype)] for one in z]
        d, pairs = rows(q[:, skip:]), _pairs(len(z))
        share = 1 / len(pairs)
        zz = np.zeros(0) if omega is not None else sum(z[i].T @ z[j] for i, j in pairs) * share
        zy = sum(xp.concatenate([z[i].T @ t for t in y[j]], 1) for i, j in pairs) * share
        yy = sum(xp.concatenate([_dots(a, b) for a, b in zip(y[i], y[j], strict=True)], 0) for i, j in pairs) * share
        energy = sum(xp.sum(_dots(whole[i], whole[j]), dtype=float) for i, j in pairs) * share
        qy = [xp.concatenate([d.T @ t for t in ts], 1) for ts in y]
        return [zz, zy, yy, energy, np.asarray(len(d)), d.T @ d, *(d.T @ one for one in whole), *qy]


class SubsetMoments(NamedTuple):
    """Moments of several subsets of the conditions, from sums over the parts that these have in common.

    ``subsets`` and ``parts`` are positions of conditions; ``totals``, the sums of each part; ``basis``, the sketch.
    """

    stream: MomentStream
    subsets: Sequence[Array]
    parts: Sequence[Array]
    totals: Sequence[list[Array]]
    basis: Array | None

    def moments(self, k: int) -> Moments:
        """The moments of one subset."""
        own = [total for part, total in zip(self.parts, self.totals, strict=True) if part[0] in self.subsets[k]]
        together = own[0] if len(own) == 1 else [reduce(np.add, each) for each in zip(*own, strict=True)]
        return self.stream._moments(together, len(self.subsets[k]), self.basis)


def common_parts(subsets: Sequence[Array]) -> list[Array]:
    """The largest sets of positions that each lie wholly inside or wholly outside of every subset, but not of all.

    Parameters
    ----------
    subsets : sequence of int array
        Positions, rising.

    Returns
    -------
    list of int array

    Examples
    --------
    >>> common_parts([np.array([0, 1, 2]), np.array([0, 1, 2, 5])])
    [array([0, 1, 2]), array([5])]
    """
    union = np.unique(np.concatenate(subsets))
    inside = np.array([np.isin(union, one) for one in subsets])
    _, numbers = np.unique(inside, axis=1, return_inverse=True)
    numbers = numbers.ravel()
    return [union[numbers == k] for k in dict.fromkeys(numbers.tolist())]


def _pairs(views: int) -> list[tuple[int, int]]:
    """Which view's features are multiplied with which view's features and targets: its own, or those of the other."""
    return [(0, 0)] if views == 1 else [(0, 1), (1, 0)]


def _dots(a: Array, b: Array) -> Array:
    return functions_of(a).einsum("tn,tn->n", a, b)


# ---------------------------------------------------------------------------------------------------------------------
# Ridge solutions


class RidgePath(NamedTuple):
    """Ridge solutions B = (Z'Z + penalty 1)^-1 Z'Y for every penalty, from one eigendecomposition Z'Z = v diag(s) v'.

    ``a`` = v' Z'Y. Directions with s <= 0 (instruments need not leave a positive matrix) do not count. No penalty is
    below ``floor``.
    """

    s: Array
    v: Array
    a: Array
    moments: Moments
    floor: float

    @classmethod
    def of(cls, moments: Moments, penalty: float = 0.0) -> RidgePath:
        """Decompose the moments of the features; ``penalty`` is the least one, per sample."""
        s, v = np.linalg.eigh(moments.zz)
        return cls(np.maximum(s, 0), v, v.T @ moments.zy, moments, penalty * moments.samples)

    def shrink(self, ridge: float) -> Array:
        """1 / (s + penalty), with ``ridge`` relative to the mean variance of the features; 0 if nothing varies."""
        if self.moments.variance <= np.finfo(float).tiny:
            return np.zeros_like(self.s)
        penalty = max(max(ridge, MIN_RIDGE) * self.moments.variance, self.floor)
        return np.where(self.s > 0, 1 / (self.s + penalty), 0)

    def solve(self, ridge: float, mix: Array | None = None) -> Array:
        """B (feature, target) at one relative ridge, times ``mix`` (target, any) if it is given."""
        return self.v @ (self.shrink(ridge)[:, None] * (self.a if mix is None else self.a @ mix))

    def gcv(self, ridge: float, weights: Array | None = None) -> float:
        """Generalized cross-validation, sum of squared residuals / samples / (1 - degrees of freedom / samples)².

        The degrees of freedom are sum s / (s + penalty). ``weights`` (target).

        References
        ----------
        Golub, Heath & Wahba, Technometrics 1979.
        """
        shrink = self.shrink(ridge)
        explained = (2 * shrink - self.s * shrink**2) @ self.a**2
        left = np.maximum(self.moments.yy - explained, MIN_RESIDUAL * np.abs(self.moments.yy))
        if weights is not None:
            left = left * weights
        free = max(1 - (self.s * shrink).sum() / self.moments.samples, MIN_RESIDUAL)
        return float(left.sum() / self.moments.samples / free**2)


class Solutions(NamedTuple):
    """One network per ridge, in the order given; leading singular values of the recurrent part; GCV per ridge.

    The singular values are those of the smallest ridge. They are empty for an unconstrained J and a latent pass.
    """

    networks: list[Network]
    singular: Array
    gcv: Array


# ---------------------------------------------------------------------------------------------------------------------
# Stage 1


class ClosedForms(NamedTuple):
    """The closed forms of several subsets of the conditions, from `closed_forms`."""

    found: SubsetMoments
    rank: int | None
    weights: Array | None
    penalty: float

    def solve(self, k: int, ridges: Sequence[float]) -> Solutions:
        """The networks of one subset, for every ridge."""
        path = RidgePath.of(self.found.moments(k), self.penalty)
        gcv = np.array(list(map_in_order(lambda ridge: path.gcv(ridge, self.weights), ridges)))
        if self.rank is None:
            return Solutions([_unconstrained(path, ridge) for ridge in ridges], np.zeros(0), gcv)
        return Solutions(*_reduced_rank(path, self.rank, self.weights, ridges), gcv)


def closed_form(x: Array, q: Array, *, ridges: Sequence[float] = RIDGES, **how: Any) -> Solutions:
    """Fit a network by reduced-rank regression of the activity on its own filtered rates (stage 1).

    Parameters
    ----------
    x, q
        As in `closed_forms`.
    ridges : sequence of float, default=RIDGES
        Penalties relative to the mean variance of the features.
    **how
        The other parameters of `closed_forms`, such as ``rank`` and ``alpha``.

    Returns
    -------
    Solutions

    Examples
    --------
    >>> from nwb_lint.model.network import drives
    >>> u, x = np.ones((3, 20, 1)), np.random.default_rng(0).standard_normal((3, 20, 5))
    >>> q = drives(u, 0.2, bias=False, initial=False)
    >>> closed_form(x, q, rank=2, alpha=0.2, ridges=(1.0,)).networks[0].m.shape
    (5, 2)
    """
    return closed_forms(x, q, [np.arange(len(x))], **how).solve(0, ridges)


def closed_forms(
    x: Array,
    q: Array,
    subsets: Sequence[Array],
    *,
    rank: int | None,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    weights: Array | None = None,
    halves: Array | None = None,
    penalty: float = 0.0,
    prewhiten: bool = False,
    unseen_start: bool = False,
    sketch: int | None = None,
    sampling: Sampling | None = None,
    chunk_values: int = MOMENT_CHUNK_VALUES,
    engine: Engine = NUMPY,
) -> ClosedForms:
    """Regress the activity of several subsets of the conditions on its own filtered rates, by reduced-rank regression.

    B = (Z'Z + ridge)^-1 Z'X with Z = F[phi(x)], after regression on q. With w the weights and U the leading right
    singular vectors of Z B w^(1/2): n = N B w^(1/2) U, m is the regression of Z B on Z n / N (U itself if all weights
    are equal), and W the regression of the rest on q. ``rank=None`` keeps J = B'.

    The subsets share a sketch. They also share what replaces missing values and the states of a burn-in: means, and
    what the drives predict, over all of ``x``.

    Parameters
    ----------
    x : array of shape (condition, time, neuron)
        Activity. NaN = not observed.
    q : array of shape (condition, burn-in + time, drive)
        From `network.drives`.
    subsets : sequence of int array
        Positions of the conditions of each subset, rising.
    rank : int or None
        Rank R. None = an unconstrained J.
    alpha : float
        Time step / time constant.
    nonlinearity : str or Nonlinearity, default="tanh"
    weights : array of shape (neuron,), optional
        Weights of the neurons in the loss, ≥ 0. A neuron of weight 0 drives the others and is predicted, but its errors
        do not count. None = equal.
    halves : array of shape (2, condition, time, neuron), optional
        x from two halves of the trials, as instruments for each other. They remove the bias from noise in Z, which no
        ridge can, if phi is near linear over the noise. GCV has no meaning then.
    penalty : float, default=0
        Penalty on ||J||² per sample. Smaller ridges count as this one.
    prewhiten : bool, default=False
        Regress the innovations x[t] - (1 - alpha) x[t-1]. Efficient if noise enters inside the network at every step,
        poor if noise is added by observation.
    unseen_start : bool, default=False
        Remove what activity before the first sample contributes to the features, which a burn-in leaves unknown.
    sketch : int, optional
        Number of directions that replace the N features. None = 256 for more than 1000 neurons, or for fewer samples
        than neurons (and more than 256 of these); otherwise all features. Not used for ``rank=None``.
    sampling : Sampling, optional
        Which time steps are used.
    chunk_values : int, default=MOMENT_CHUNK_VALUES
        Values that are processed together.
    engine : Engine, default=NUMPY
        What computes the moments.

    Returns
    -------
    ClosedForms

    References
    ----------
    Izenman, J. Multivariate Analysis 1975; with a ridge, Mukherjee & Zhu, Statistical Analysis and Data Mining 2011.

    Examples
    --------
    >>> u, x = np.ones((4, 20, 1)), np.random.default_rng(0).standard_normal((4, 20, 5))
    >>> found = closed_forms(x, u, [np.array([0, 1, 2]), np.arange(4)], rank=2, alpha=0.2)
    >>> found.solve(0, [1.0]).networks[0].m.shape
    (5, 2)
    """
    chunk, n_samples = activity_chunks(x, q, alpha, nonlinearity, halves)
    if rank is not None:
        sketch = sketch or sketch_size(x.shape[2], n_samples)
    sampling = sampling or (Sampling() if rank is None else LOW_RANK)
    how = nonlinearity, prewhiten, sampling, chunk_values, engine, unseen_start
    stream = MomentStream(chunk, q, x.shape[2], n_samples, alpha, *how)
    found = stream.of_subsets(subsets, None if rank is None else sketch)
    return ClosedForms(found, rank, weights, penalty)


def activity_chunks(
    x: Array, q: Array, alpha: float, nonlinearity: str | Nonlinearity, halves: Array | None = None
) -> tuple[Callable[[Array | slice], Chunk], int]:
    """Chunks whose states and targets are the activity, perhaps in two halves, and the number of samples."""
    views = [x] if halves is None else list(halves)
    observed = observed_samples(*views)
    views = views if observed is None else [fill(one, None, q, alpha, nonlinearity) for one in views]
    mean = views[0] if halves is None else (views[0] + views[1]) / 2
    before = _burn_in_states(mean, q, None, observed, alpha, nonlinearity)

    def chunk(part: Array | slice) -> Chunk:
        states = [_with_burn_in(one[part], before[part]) for one in views]
        return Chunk(states, [[one[part]] for one in views], None if observed is None else observed[part])

    return chunk, _count(x, observed)


def leading_eigenpairs(matrix: Array, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues of a symmetric matrix, in falling order, and their vectors; a few of many by Lanczos."""
    size = len(matrix)
    if number < size // LANCZOS_RATIO:
        try:
            values, vectors = eigsh(matrix, number, v0=np.random.default_rng(0).standard_normal(size))
            return values[::-1], vectors[:, ::-1]
        except ArpackError:
            pass  # the matrix is 0, or eigenvalues lie too close: the full decomposition below finds them
    values, vectors = eigh(matrix, subset_by_index=(max(0, size - number), size - 1))
    return values[::-1], vectors[:, ::-1]


def _unconstrained(path: RidgePath, ridge: float) -> Network:
    b = path.solve(ridge)
    return Network(b.T, None, (path.moments.q_to_y - path.moments.q_to_z @ b).T)


def _reduced_rank(
    path: RidgePath, rank: int, weights: Array | None, ridges: Sequence[float]
) -> tuple[list[Network], Array]:
    """The rank-R network of every ridge, and the leading singular values of what the smallest ridge fits."""
    moments, n_neurons = path.moments, path.a.shape[1]
    root = np.ones(n_neurons) if weights is None else np.sqrt(weights)
    weighted = path.a if weights is None else path.a * root
    square, smallest = weighted @ weighted.T, min(ridges)

    def reduced(ridge: float) -> tuple[Network, Array]:
        shrunk = np.sqrt(path.s) * path.shrink(ridge)  # the fitted values have the singular values of shrunk · a
        number = max(rank, SINGULAR_VALUES_KEPT) if ridge == smallest else rank
        power, left = leading_eigenpairs(shrunk[:, None] * square * shrunk, number)
        singular, left = np.sqrt(np.maximum(power, 0)), left[:, :rank]
        each = singular[:rank]
        inverse = np.divide(1, each, out=np.zeros_like(each), where=each > SINGULAR_CUTOFF * each[0])
        mixed = shrunk[:, None] * (left * inverse)
        m = path.a.T @ mixed
        b = n_neurons * path.solve(ridge, root[:, None] * (weighted.T @ mixed))
        w = (moments.q_to_y - moments.q_to_z @ b @ m.T / n_neurons).T
        return Network(m, moments.expand(b), w), singular

    found = list(map_in_order(reduced, ridges))
    return [network for network, _ in found], found[list(ridges).index(smallest)][1]


def _burn_in_states(
    x: Array, q: Array, network: Network | None, observed: Array | None, alpha: float, nonlinearity: str | Nonlinearity
) -> Array:
    """States before the first sample: those of the current network, or those that the inputs alone predict."""
    skip = q.shape[1] - x.shape[1]
    if skip == 0:
        return x[:, :0]
    if network is not None:
        return forward(network, q[:, :skip], alpha, nonlinearity)[0]
    observed = np.ones(x.shape[:2], bool) if observed is None else observed
    weights, *_ = np.linalg.lstsq(q[:, skip:][observed], x[observed], rcond=None)
    return q[:, :skip] @ weights.astype(q.dtype)


def _with_burn_in(states: Array, before: Array) -> Array:
    return states if before.shape[1] == 0 else np.concatenate([before, states], axis=1)


def _count(x: Array, observed: Array | None) -> int:
    return x.shape[0] * x.shape[1] if observed is None else int(observed.sum())


# ---------------------------------------------------------------------------------------------------------------------
# Stage 2


def latent_pass(
    network: Network,
    x: Array,
    q: Array,
    *,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    ridges: Sequence[float] = RIDGES,
    weights: Array | None = None,
    penalty: float = 0.0,
    unseen_start: bool = False,
    sketch: int | None = None,
    chunk_values: int = MOMENT_CHUNK_VALUES,
    engine: Engine = NUMPY,
) -> Solutions:
    """Regress again on features of the projected data (stage 2).

    The latents kappa = (x - W q) w m (m' w m)^-1, with w the weights, average over the noise of N neurons. Their
    features are Z = F[phi(m kappa + W q)]. Ridge regression of kappa on Z (and q, without penalty) gives n; regression
    of x on [Z n / N, q] gives m and W. Hidden units contribute features and keep their m and W.

    Parameters
    ----------
    network : Network
        Low-rank network, from `closed_form`. Rows after the neurons of ``x`` are hidden units.
    x, q, alpha, nonlinearity, ridges, weights, penalty, unseen_start, sketch, chunk_values, engine
        As in `closed_form`.

    Returns
    -------
    Solutions
        Without singular values.

    Examples
    --------
    >>> u, x = np.ones((3, 20, 1)), np.random.default_rng(0).standard_normal((3, 20, 5))
    >>> first = closed_form(x, u, rank=1, alpha=0.2, ridges=(1.0,)).networks[0]
    >>> latent_pass(first, x, u, alpha=0.2, ridges=(0.1, 1.0)).networks[1].n.shape
    (5, 1)
    """
    n_neurons, recorded = network.n_neurons, x.shape[2]
    to_latents = pseudo_inverse(network.m[:recorded], weights).astype(x.dtype)
    rank = to_latents.shape[1]
    chunk, n_samples = latent_chunks(network, x, q, alpha, nonlinearity, to_latents)
    stream = MomentStream(chunk, q, n_neurons, n_samples, alpha, nonlinearity)
    stream = stream._replace(chunk_values=chunk_values, engine=engine, unseen_start=unseen_start)
    path = RidgePath.of(stream.moments(sketch or sketch_size(n_neurons, n_samples)), penalty)
    found = [path.solve(ridge) for ridge in ridges]
    directions = path.moments.expand(np.hstack(found))
    latents = stream._replace(chunk=partial(chunk, target_is_x=True)).along(directions)
    networks = []
    for k, b in enumerate(found):
        own = slice(k * rank, (k + 1) * rank)
        zz = latents.zz[own, own] + path.floor * latents.samples / path.moments.samples * b.T @ b
        m_new = np.linalg.lstsq(zz, latents.zy[own], rcond=None)[0].T
        shift = path.moments.q_to_y - path.moments.q_to_z @ b
        m, w = network.m.copy(), network.w + network.m @ shift.T
        m[:recorded] = m_new
        w[:recorded] = (latents.q_to_y - latents.q_to_z[:, own] @ m_new.T).T
        networks.append(Network(m, n_neurons * directions[:, own], w))
    return Solutions(networks, np.zeros(0), np.array([path.gcv(ridge) for ridge in ridges]))


def latent_chunks(
    network: Network, x: Array, q: Array, alpha: float, nonlinearity: str | Nonlinearity, to_latents: Array
) -> tuple[Callable[..., Chunk], int]:
    """Chunks whose states are the projected activity, and the number of samples.

    Their targets are the latents; the activity with ``target_is_x``; one after the other with ``both``.
    """
    recorded, skip, observed = x.shape[2], q.shape[1] - x.shape[1], observed_samples(x)
    to_latents = to_latents.astype(x.dtype)
    before = _burn_in_states(x, q, network, observed, alpha, nonlinearity)
    drives_to_latents = -(network.w[:recorded].T @ to_latents).astype(x.dtype)
    mw = np.hstack([network.m, network.w]).T.astype(x.dtype)

    def chunk(part: Array | slice, target_is_x: bool = False, both: bool = False) -> Chunk:
        y, d = x[part] if observed is None else fill(x[part], network, q[part], alpha, nonlinearity), q[part, skip:]
        kappa = (y @ to_latents + d @ drives_to_latents).astype(x.dtype)
        states = np.concatenate([kappa, d], axis=2) @ mw
        targets = [kappa, y] if both else [y if target_is_x else kappa]
        return Chunk([_with_burn_in(states, before[part])], [targets], None if observed is None else observed[part])

    return chunk, _count(x, observed)


def pseudo_inverse(m: Array, weights: Array | None) -> Array:
    """w m (m' w m)^-1, (neuron, rank): the latents of activity x are x times this."""
    root = np.ones(len(m)) if weights is None else np.sqrt(weights)
    return (np.linalg.pinv(root[:, None] * m) * root).T


# ---------------------------------------------------------------------------------------------------------------------
# Errors of a network that the recorded rates drive


def predict_from_features(network: Network, z: Array, d: Array) -> Array:
    """m n' z / N + W d: the prediction from filtered rates z and drives d, each (condition, time, any)."""
    latent = z if network.n is None else z @ (network.n / network.n_neurons).astype(z.dtype)
    return np.concatenate([latent, d], axis=2) @ np.hstack([network.m, network.w]).T.astype(z.dtype)


def regression_errors(
    networks: Sequence[Network],
    x: Array,
    q: Array,
    *,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    weights: Array | None = None,
    prewhiten: bool = False,
    unseen_start: bool = False,
) -> Array:
    """Summed squared residuals of each network when the recorded rates drive it (teacher forcing).

    sum w (x - J F[phi(x)] - W q)² over the observed samples; the same of the innovations with ``prewhiten``.

    Parameters
    ----------
    networks : sequence of Network
    x, q, alpha, nonlinearity, weights, prewhiten, unseen_start
        As in `closed_form`.

    Returns
    -------
    array of shape (network,)
    """
    observed = observed_samples(x)
    filled = x if observed is None else fill(x, None, q, alpha, nonlinearity)
    before = _burn_in_states(filled, q, None, observed, alpha, nonlinearity)
    root = None if weights is None else np.sqrt(weights).astype(x.dtype)
    skip = before.shape[1]

    def sums_of(part: slice) -> Array:
        sums = np.zeros(len(networks))
        z = features(_with_burn_in(filled[part], before[part]), alpha, nonlinearity)[:, skip:]
        for k, network in enumerate(networks):
            y, predicted = x[part], predict_from_features(network, z, q[part, skip:])
            if unseen_start:
                left = without_start(np.nan_to_num(y - predicted), alpha, None if observed is None else observed[part])
                y, predicted = np.where(np.isnan(y), y, left), np.zeros_like(left)
            if root is not None:
                y, predicted = y * root, predicted * root
            if prewhiten:
                y, predicted = innovations(y, alpha), innovations(predicted, alpha)
            sums[k] = squared_errors(y, predicted).sum()
        return sums

    return np.sum(list(map_in_order(sums_of, chunks_of(len(q), q.shape[1], x.shape[2]))), axis=0)
