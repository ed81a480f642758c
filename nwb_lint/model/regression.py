"""Closed-form fits: reduced-rank regression on filtered rates, and the latent pass that removes its noise bias.

With F the low-pass filter of the network, x = W q + F[phi(x)] n m' / N is linear in W and J = m n' / N. Everything
here works from the moments of `moments.Stream`, accumulated over chunks of conditions. Shapes: x (condition, time,
neuron), q (condition, burn-in + time, Q). NaN = not observed: samples at which nobody was observed (the rest of a
shorter trial, a missing condition) do not count, and the filter's past stays what it was; other gaps are filled by
`fill`. ``weights`` (neuron) are those of the loss, sum_i w_i (x_i - its prediction)^2.

Second moments of filtered rates, streamed over chunks of conditions, and the ridge solutions that they hold.

The features are z = F[phi(x)] with F the network's low-pass filter. Moments of features, drives q and targets y are
summed chunk by chunk, so that features never exist all at once; regression on q is taken out at the end
(Frisch-Waugh-Lovell). Ridge penalties are relative to the mean feature variance.

Many neurons: an orthonormal V (neuron, sketch) stands for all N features, z -> V' z, from one streamed pass of a
randomized range finder, V = qr(Z'Z Omega) with Omega Gaussian (Halko, Martinsson & Tropp, SIAM Review 2011). Time and
memory are then linear in N; with as many directions as neurons V is a mere rotation and nothing is lost.

Two views of the same conditions (trial halves): each half's features are instruments for the other's, so that
Z'Z becomes (Z1'Z2 + Z2'Z1) / 2 and Z'Y becomes (Z1'Y2 + Z2'Y1) / 2. Noise that the halves do not share drops out of
both (errors in variables: Fuller, Measurement Error Models, 1987).

Whitened: noise inside the network passes the same filter, so that what regression leaves is correlated from step to
step, by rho = 1 - alpha. Moments of a[t] - rho a[t-1] (and of (1 - rho²)^(1/2) a[t] where no sample comes before) have
independent residuals: generalized least squares (Prais & Winsten 1954).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh

from nwb_lint.model.network import Array, Network, Nonlinearity, forward, nonlinearity_of
from nwb_lint.model.scores import squared_errors
from nwb_lint.parallel.threads import map_in_order

CHUNK_VALUES = 2_000_000
CHUNK_NEURONS = 512
SAMPLES_EACH, APART = 50, 0.5  # per feature, from twice as many on only some are taken, so many time constants apart
LOW_RANK = 20, 0.75  # the same for m and n alone, of fewer numbers, which later stages go on from
SAMPLES = 10_000  # taken at least: fewer cost nothing
MANY_NEURONS = 1000  # from here on features are sketched, and from SKETCH on where there are fewer samples than neurons
SKETCH = 256
PROBED = 16  # samples per direction that the range finder looks at


class Chunk(NamedTuple):
    """Some conditions: per view its states (condition, burn-in + time, N) and targets, each (condition, time, any),
    taken side by side; and which samples are there (condition, time), None = all.
    """

    states: Sequence[Array]
    targets: Sequence[Sequence[Array]]
    there: Array | None


class Gram(NamedTuple):
    """Moments of features, targets and drives, the former two rid of their regression on the latter.

    zz (feature, feature), zy (feature, target), yy (target), q_to_z (drive, feature), q_to_y (drive, target); the mean
    variance of the features before any sketch; numbers of samples and drives; the sketch V or None.
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
        """Coefficients of features → of neurons: V b."""
        return b if self.basis is None else self.basis @ b


def features(x: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Array:
    """F[phi(x)]: z[0] = 0, z[t+1] = (1 - alpha) z[t] + alpha phi(x[t]); x (condition, time, neuron)."""
    z = nonlinearity_of(nonlinearity).phi(x)
    z *= alpha
    previous = np.zeros_like(z[:, 0])
    for t in range(z.shape[1]):
        driven = z[:, t].copy()
        z[:, t] = previous
        previous *= 1 - alpha
        previous += driven
    return z


def whitened(a: Array, alpha: float, there: Array | None = None) -> Array:
    """a[t] - rho a[t-1], rho = 1 - alpha; (1 - rho²)^(1/2) a[t] at the first time and wherever none was ``there``."""
    rho = 1 - alpha
    out = np.sqrt(1 - rho**2) * a
    follows = a[:, 1:] - rho * a[:, :-1]
    out[:, 1:] = follows if there is None else np.where(there[:, :-1, None], follows, out[:, 1:])
    return out.astype(a.dtype, copy=False)


def chunks_of(n_conditions: int, n_times: int, n_neurons: int) -> Iterator[slice]:
    """Slices of conditions that hold about `CHUNK_VALUES` values each."""
    step = max(1, CHUNK_VALUES // (n_times * max(n_neurons, CHUNK_NEURONS)))
    return (slice(i, i + step) for i in range(0, n_conditions, step))


def sketch_size(n_neurons: int, n_samples: int) -> int | None:
    """How many directions stand for the features: None (all of them) unless neurons are many, or more than samples."""
    many = n_neurons > MANY_NEURONS or (n_neurons > SKETCH and n_samples < n_neurons)
    return SKETCH if many else None


def _step(n_samples: int, n_features: int, alpha: float, each: int, apart: float) -> int:
    """Every how many-th time step enters the moments: features pass a filter of 1 / alpha steps, so that neighbors
    within half of that and more say almost the same, and where samples abound leaving them out costs nothing.
    """
    return max(1, min(n_samples // max(each * n_features, SAMPLES), round(apart / alpha)))


class Stream(NamedTuple):
    """Where moments come from: a function that gives a chunk, drives q (condition, burn-in + time, Q), and sizes."""

    chunk: Callable[[slice], Chunk]
    q: Array
    n_neurons: int
    n_samples: int
    alpha: float
    nonlinearity: str | Nonlinearity
    whiten: bool = False
    enough: tuple[int, float] = (SAMPLES_EACH, APART)  # samples per feature, and how far apart in time constants

    def gram(self, sketch: int | None) -> Gram:
        """Moments of all samples, with the features sketched to so many directions; None = not at all."""
        if sketch is None:
            return self._gram(None, None)
        probe = np.random.default_rng(0).standard_normal((self.n_neurons, min(sketch, self.n_neurons)))
        basis, _ = np.linalg.qr(self._gram(None, probe, max(1, self.n_samples // (PROBED * probe.shape[1]))).zy)
        return self._gram(basis, None)

    def along(self, directions: Array) -> Gram:
        """Moments of every single sample, of the features along few directions (neuron, any)."""
        return self._gram(directions, None, 1)

    def _gram(self, basis: Array | None, probe: Array | None, step: int | None = None) -> Gram:
        """Moments on V (``basis``); with a ``probe`` Omega, Z Omega takes the place of the targets, and zz is left.

        ``step``: how far apart samples are taken. Whitened ones are independent: none can be left out for nothing.
        """
        if step is None and not self.whiten:
            n_features = self.n_neurons if basis is None else basis.shape[1]
            step = _step(self.n_samples, n_features, self.alpha, *self.enough)
        step = step or 1
        total: list[Array] = []
        parts = chunks_of(len(self.q), self.q.shape[1], self.n_neurons)
        for new in map_in_order(lambda part: self._sums(self.chunk(part), self.q[part], step, basis, probe), parts):
            total = total or [np.zeros(a.shape) for a in new]
            for a, b in zip(total, new, strict=True):
                a += b
        zz, zy, yy, energy, count, qq, *crossed = total
        inverse = np.linalg.pinv(qq, rcond=1e-10, hermitian=True)
        whole = crossed[: len(crossed) // 2]
        qz = whole if basis is None else [one @ basis for one in whole]
        qy = crossed[len(crossed) // 2 :]
        pairs = _pairs(len(qz))

        def left(a: list[Array], b: list[Array]) -> list[Array]:
            return [a[i].T @ inverse @ b[j] / len(pairs) for i, j in pairs]

        energy = energy - sum(np.einsum("qn,qr,rn->", whole[i], inverse, whole[j]) for i, j in pairs) / len(pairs)
        return Gram(
            zz - sum(left(qz, qz)) if probe is None else zz,
            zy - sum(left(qz, qy)),
            yy - sum(np.einsum("qn,qr,rn->n", qy[i], inverse, qy[j]) for i, j in pairs) / len(pairs),
            inverse @ sum(qz) / len(qz),
            inverse @ sum(qy) / len(qy),
            max(float(energy) / self.n_neurons, np.finfo(float).tiny),
            int(count) - self.q.shape[2],
            basis,
        )

    def _sums(self, chunk: Chunk, q: Array, step: int, basis: Array | None, probe: Array | None) -> list[Array]:
        """One chunk's sums: zz, zy, yy, all features' energy, count, qq, then qz and qy of every view."""
        skip = q.shape[1] - chunk.targets[0][0].shape[1]
        there = None if chunk.there is None else chunk.there[:, ::step]

        def rows(a: Array) -> Array:
            apart = (whitened(a, self.alpha, chunk.there) if self.whiten else a)[:, ::step]
            return apart.reshape(-1, a.shape[2]) if there is None else apart[there]

        whole = [rows(features(x, self.alpha, self.nonlinearity)[:, skip:]) for x in chunk.states]
        z = whole if basis is None else [one @ basis.astype(one.dtype) for one in whole]
        y = [[rows(t) for t in ts] for ts in chunk.targets]
        if probe is not None:
            y = [[one @ probe.astype(one.dtype)] for one in z]
        d, pairs = rows(q[:, skip:]), _pairs(len(z))
        share = 1 / len(pairs)
        zz = np.zeros(0) if probe is not None else sum(z[i].T @ z[j] for i, j in pairs) * share
        zy = sum(np.hstack([z[i].T @ t for t in y[j]]) for i, j in pairs) * share
        yy = sum(np.concatenate([_dots(a, b) for a, b in zip(y[i], y[j], strict=True)]) for i, j in pairs) * share
        energy = sum(_dots(whole[i], whole[j]).sum(dtype=float) for i, j in pairs) * share
        qy = [np.hstack([d.T @ t for t in ts]) for ts in y]
        return [zz, zy, yy, np.asarray(energy), np.asarray(len(d)), d.T @ d, *(d.T @ one for one in whole), *qy]


def _pairs(views: int) -> list[tuple[int, int]]:
    """Which view's features meet which view's features and targets: its own, or those of the other half."""
    return [(0, 0)] if views == 1 else [(0, 1), (1, 0)]


def _dots(a: Array, b: Array) -> Array:
    return np.einsum("tn,tn->n", a, b)


class RidgePath(NamedTuple):
    """Ridge solutions B = (Z'Z + penalty I)^-1 Z'Y for every ridge from one eigendecomposition Z'Z = v diag(s) v'.

    ``a`` = v' Z'Y. Directions in which instruments leave no power (s <= 0) take no part. No penalty is below ``floor``.
    """

    s: Array
    v: Array
    a: Array
    gram: Gram
    floor: float

    @classmethod
    def of(cls, gram: Gram, penalty: float = 0.0) -> RidgePath:
        """Diagonalise the feature Gram matrix once; ``penalty`` is the least, per sample."""
        s, v = np.linalg.eigh(gram.zz)
        return cls(np.maximum(s, 0), v, v.T @ gram.zy, gram, penalty * gram.samples)

    def shrink(self, ridge: float) -> Array:
        """1 / (s + penalty), with the penalty relative to the mean feature variance and never quite 0.

        0 throughout where instruments leave no variance at all: nothing can be told of the solution then.
        """
        if self.gram.variance <= np.finfo(float).tiny:
            return np.zeros_like(self.s)
        penalty = max(max(ridge, 1e-12) * self.gram.variance, self.floor)
        return np.where(self.s > 0, 1 / (self.s + penalty), 0)

    def solve(self, ridge: float, mix: Array | None = None) -> Array:
        """B (feature, target) at one relative ridge; B times ``mix`` (target, any) where it is given."""
        return self.v @ (self.shrink(ridge)[:, None] * (self.a if mix is None else self.a @ mix))

    def gcv(self, ridge: float, weights: Array | None = None) -> float:
        """Generalized cross-validation, sum of squared residuals / samples / (1 - degrees of freedom / samples)^2.

        Degrees of freedom: sum s / (s + penalty). Targets count with ``weights``. Residuals below what single precision
        tells from 0 (1e-6 of the variance) count as that. Golub, Heath & Wahba, Technometrics 1979.
        """
        shrink = self.shrink(ridge)
        explained = (2 * shrink - self.s * shrink**2) @ self.a**2
        left = np.maximum(self.gram.yy - explained, 1e-6 * np.abs(self.gram.yy))
        free = 1 - (self.s * shrink).sum() / self.gram.samples
        return float((left if weights is None else left * weights).sum() / self.gram.samples / max(free, 1e-6) ** 2)


MANY_TIMES = 10  # as many eigenvalues as are asked for, or more: then Lanczos is faster than all of them
LEADING = 10  # singular values returned: the gap among them shows the rank
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class Solutions(NamedTuple):
    """One network per ridge asked, in that order; the leading singular values of the recurrent part fitted with the
    smallest ridge (empty for an unconstrained J and a latent pass); generalized cross-validation by ridge.
    """

    networks: list[Network]
    singular: Array
    gcv: Array


def there_of(*views: Array) -> Array | None:
    """Samples (condition, time) at which somebody was observed in every view; None where nothing is missing."""
    if all(np.isfinite(x.sum()) for x in views):
        return None
    return np.logical_and.reduce([~np.isnan(x).all(axis=2) for x in views])


def _burn_in_states(
    x: Array, q: Array, network: Network | None, there: Array | None, alpha: float, nonlinearity: str | Nonlinearity
) -> Array:
    """States before the first sample: the current network's own, or those that the inputs alone give."""
    skip = q.shape[1] - x.shape[1]
    if skip == 0:
        return x[:, :0]
    if network is not None:
        return forward(network, q[:, :skip], alpha, nonlinearity)[0]
    there = np.ones(x.shape[:2], bool) if there is None else there
    weights, *_ = np.linalg.lstsq(q[:, skip:][there], x[there], rcond=None)
    return q[:, :skip] @ weights.astype(q.dtype)


def _with_burn_in(states: Array, before: Array) -> Array:
    return states if before.shape[1] == 0 else np.concatenate([before, states], axis=1)


def fill(x: Array, network: Network | None, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Array:
    """x with NaN replaced by the network's prediction, or by the neuron's mean where there is no network yet."""
    if np.isfinite(x.sum()):  # a sum that overflows is not finite either, and costs no more than the look below
        return x
    missing = np.isnan(x)
    if network is None:
        seen = np.maximum((~missing).sum(axis=(0, 1)), 1)
        guess = np.broadcast_to(np.nansum(x, axis=(0, 1), dtype=float) / seen, x.shape)
    else:
        guess = forward(network, q, alpha, nonlinearity)[0][:, q.shape[1] - x.shape[1] :, : x.shape[2]]
    return np.where(missing, guess, x).astype(x.dtype)


def _count(x: Array, there: Array | None) -> int:
    return x.shape[0] * x.shape[1] if there is None else int(there.sum())


def closed_form(
    x: Array,
    q: Array,
    *,
    rank: int | None,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    ridges: Sequence[float] = RIDGES,
    weights: Array | None = None,
    halves: Array | None = None,
    penalty: float = 0.0,
    whiten: bool = False,
    sketch: int | None = None,
) -> Solutions:
    """Stage 1: reduced-rank regression of the activity on its own filtered rates.

    B = (Z'Z + ridge)^-1 Z'X with Z = F[phi(x)], after both are rid of q; with w the neurons' weights, U the leading
    right singular vectors of Z B w^(1/2): n = N B w^(1/2) U, m = regression of Z B on Z n / N (U itself where all
    weights are equal), W = regression of what is left on q. ``rank=None`` keeps J = B' whole.

    Args:
        x: (condition, time, neuron), NaN = not observed. q: (condition, burn-in + time, drive).
        rank: R, or None. alpha: bin / tau. ridges: relative to the mean feature variance.
        weights: (neuron), ≥ 0; a neuron of weight 0 drives the others and is predicted, but has no say.
        halves: (2, condition, time, neuron), x from two halves of the trials: each half's features are instruments for
            the other's, which takes the bias of noise in Z away that no ridge can, where phi is near linear over the
            noise; tanh flattens the noisier halves more than their mean. Its GCV means nothing.
        penalty: on ||J||^2 per sample; ridges that come to less count as this.
        whiten: regress the innovations, x[t] - (1 - alpha) x[t-1] (see `moments`): the efficient estimate where noise
            enters inside the network at every step, a poor one where it is added by observation.
        sketch: directions that stand for the N features (see `moments`); None = 256 where there are more than 1000
            neurons, or fewer samples than neurons (and more than 256 of them), else all. Not for ``rank=None``.

    Source: reduced-rank regression, Izenman, J. Multivariate Analysis 1975; with ridge, Mukherjee & Zhu 2011.

    Example:
        >>> from nwb_lint.model.network import drives
        >>> u, x = np.ones((3, 20, 1)), np.random.default_rng(0).standard_normal((3, 20, 5))
        >>> q = drives(u, 0.2, bias=False, initial=False)
        >>> closed_form(x, q, rank=2, alpha=0.2, ridges=(1.0,)).networks[0].m.shape
        (5, 2)
    """
    views = [x] if halves is None else list(halves)
    there = there_of(*views)
    views = views if there is None else [fill(one, None, q, alpha, nonlinearity) for one in views]
    mean = views[0] if halves is None else (views[0] + views[1]) / 2
    before = _burn_in_states(mean, q, None, there, alpha, nonlinearity)

    def chunk(part: slice) -> Chunk:
        states = [_with_burn_in(one[part], before[part]) for one in views]
        return Chunk(states, [[one[part]] for one in views], None if there is None else there[part])

    stream = Stream(chunk, q, x.shape[2], _count(x, there), alpha, nonlinearity, whiten)
    if rank is not None:
        stream = stream._replace(enough=LOW_RANK)
        sketch = sketch or sketch_size(stream.n_neurons, stream.n_samples)
    path = RidgePath.of(stream.gram(None if rank is None else sketch), penalty)
    gcv = np.array(list(map_in_order(lambda ridge: path.gcv(ridge, weights), ridges)))
    if rank is None:
        return Solutions([_whole(path, ridge) for ridge in ridges], np.zeros(0), gcv)
    return Solutions(*_reduced(path, rank, weights, ridges), gcv)


def _leading(matrix: Array, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues of a symmetric matrix, in falling order, and their vectors: a few of many by Lanczos."""
    size = len(matrix)
    if number < size // MANY_TIMES:
        try:
            values, vectors = eigsh(matrix, number, v0=np.random.default_rng(0).standard_normal(size))
            return values[::-1], vectors[:, ::-1]
        except ArpackError:
            pass  # the matrix is 0, or eigenvalues lie too close
    values, vectors = eigh(matrix, subset_by_index=(max(0, size - number), size - 1))
    return values[::-1], vectors[:, ::-1]


def _whole(path: RidgePath, ridge: float) -> Network:
    b = path.solve(ridge)
    return Network(b.T, None, (path.gram.q_to_y - path.gram.q_to_z @ b).T)


def _reduced(path: RidgePath, rank: int, weights: Array | None, ridges: Sequence[float]) -> tuple[list[Network], Array]:
    """The rank-R network of every ridge, and the leading singular values of what the smallest one fits."""
    gram, n_neurons = path.gram, path.a.shape[1]
    root = np.ones(n_neurons) if weights is None else np.sqrt(weights)
    weighted = path.a if weights is None else path.a * root
    square, least = weighted @ weighted.T, min(ridges)

    def reduced(ridge: float) -> tuple[Network, Array]:
        shrunk = np.sqrt(path.s) * path.shrink(ridge)  # what is fitted is these times a
        few = max(rank, LEADING) if ridge == least else rank
        power, left = _leading(shrunk[:, None] * square * shrunk, few)
        singular, left = np.sqrt(np.maximum(power, 0)), left[:, :rank]
        each = singular[:rank]
        inverse = np.divide(1, each, out=np.zeros_like(each), where=each > 1e-10 * each[0])
        mixed = shrunk[:, None] * (left * inverse)
        m = path.a.T @ mixed
        b = n_neurons * path.solve(ridge, root[:, None] * (weighted.T @ mixed))
        w = (gram.q_to_y - gram.q_to_z @ b @ m.T / n_neurons).T
        return Network(m, gram.expand(b), w), singular

    found = list(map_in_order(reduced, ridges))
    return [network for network, _ in found], found[list(ridges).index(least)][1]


def from_rates(network: Network, z: Array, d: Array) -> Array:
    """What a network predicts from filtered rates z and drives d of the same samples: m n' z / N + W d."""
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
    whiten: bool = False,
) -> Array:
    """What the regression leaves on given data: sum w (x - J F[phi(x)] - W q)^2 over observed samples, (network); or,
    with ``whiten``, the same of innovations."""
    there = there_of(x)
    filled = x if there is None else fill(x, None, q, alpha, nonlinearity)
    before = _burn_in_states(filled, q, None, there, alpha, nonlinearity)
    root = None if weights is None else np.sqrt(weights).astype(x.dtype)
    skip = before.shape[1]

    def left_over(part: slice) -> Array:
        sums = np.zeros(len(networks))
        z = features(_with_burn_in(filled[part], before[part]), alpha, nonlinearity)[:, skip:]
        for k, network in enumerate(networks):
            seen, told = x[part], from_rates(network, z, q[part, skip:])
            if root is not None:
                seen, told = seen * root, told * root
            if whiten:
                seen, told = whitened(seen, alpha), whitened(told, alpha)
            sums[k] = squared_errors(seen, told).sum()
        return sums

    return np.sum(list(map_in_order(left_over, chunks_of(len(q), q.shape[1], x.shape[2]))), axis=0)


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
    sketch: int | None = None,
) -> Solutions:
    """Stage 2: regress again on features of the *projected* data.

    kappa_hat = (x - W q) w m (m' w m)^-1, w the neurons' weights, averages the noise of N neurons away; features
    Z = F[phi(m kappa_hat + W q)]; ridge-regress kappa_hat on Z (and q, unpenalised) for n, then x on [Z n / N, q] for m
    and W. Rows of the network beyond x's neurons (hidden units) lend their features and keep their m and W.

    Args: network: of rank R, from `closed_form`. The others as there. Source: ours (docs: CHANGELOG).

    Example:
        >>> u, x = np.ones((3, 20, 1)), np.random.default_rng(0).standard_normal((3, 20, 5))
        >>> first = closed_form(x, u, rank=1, alpha=0.2, ridges=(1.0,)).networks[0]
        >>> latent_pass(first, x, u, alpha=0.2, ridges=(0.1, 1.0)).networks[1].n.shape
        (5, 1)
    """
    n_neurons, recorded = network.n_neurons, x.shape[2]
    skip, there = q.shape[1] - x.shape[1], there_of(x)
    m_seen, w_seen = network.m[:recorded], network.w[:recorded]
    root = np.ones(recorded) if weights is None else np.sqrt(weights)
    back = (np.linalg.pinv(root[:, None] * m_seen) * root).T.astype(x.dtype)
    rank = back.shape[1]
    before = _burn_in_states(x, q, network, there, alpha, nonlinearity)
    known = -(w_seen.T @ back).astype(x.dtype)
    receive = np.hstack([network.m, network.w]).T.astype(x.dtype)

    def chunk(part: slice, again: bool = False) -> Chunk:
        y, d = x[part] if there is None else fill(x[part], network, q[part], alpha, nonlinearity), q[part, skip:]
        kappa = (y @ back + d @ known).astype(x.dtype)
        states = np.concatenate([kappa, d], axis=2) @ receive
        targets = [[y if again else kappa]]
        return Chunk([_with_burn_in(states, before[part])], targets, None if there is None else there[part])

    stream = Stream(chunk, q, n_neurons, _count(x, there), alpha, nonlinearity)
    path = RidgePath.of(stream.gram(sketch or sketch_size(n_neurons, stream.n_samples)), penalty)
    found = [path.solve(ridge) for ridge in ridges]
    directions = path.gram.expand(np.hstack(found))
    latents = stream._replace(chunk=partial(chunk, again=True)).along(directions)
    networks = []
    for k, b in enumerate(found):
        own = slice(k * rank, (k + 1) * rank)
        kk = latents.zz[own, own] + path.floor * latents.samples / path.gram.samples * b.T @ b
        m_new = np.linalg.lstsq(kk, latents.zy[own], rcond=None)[0].T
        shift = path.gram.q_to_y - path.gram.q_to_z @ b
        m, w = network.m.copy(), network.w + network.m @ shift.T
        m[:recorded] = m_new
        w[:recorded] = (latents.q_to_y - latents.q_to_z[:, own] @ m_new.T).T
        networks.append(Network(m, n_neurons * directions[:, own], w))
    return Solutions(networks, np.zeros(0), np.array([path.gcv(ridge) for ridge in ridges]))
