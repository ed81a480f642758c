"""Second moments of filtered rates, streamed over chunks of conditions, and the ridge solutions that they hold.

The features are z = F[phi(x)] with F the network's low-pass filter. Moments of features, drives q and targets y are
summed chunk by chunk, so that features never exist all at once; regression on q is taken out at the end
(Frisch-Waugh-Lovell). Ridge penalties are relative to the mean feature variance.

Many neurons: an orthonormal V (neuron, sketch) stands for all N features, z -> V' z, from one streamed pass of a
randomised range finder, V = qr(Z'Z Omega) with Omega Gaussian (Halko, Martinsson & Tropp, SIAM Review 2011). Time and
memory are then linear in N; with as many directions as neurons V is a mere rotation and nothing is lost.

Two views of the same conditions (trial halves): each half's features are instruments for the other's, so that
Z'Z becomes (Z1'Z2 + Z2'Z1) / 2 and Z'Y becomes (Z1'Y2 + Z2'Y1) / 2. Noise that the halves do not share drops out of
both (errors in variables: Fuller, Measurement Error Models, 1987).

Whitened: noise inside the network passes the same filter, so that what regression leaves is correlated from step to
step, by rho = 1 - alpha. Moments of a[t] - rho a[t-1] (and of (1 - rho²)^(1/2) a[t] where no sample comes before) have
independent residuals: generalised least squares (Prais & Winsten 1954).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nwb_lint.model.rnn import Array, Nonlinearity, nonlinearity_of
from nwb_lint.model.threads import side_by_side

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
    """Every how many-th time step enters the moments: features pass a filter of 1 / alpha steps, so that neighbours
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
        for new in side_by_side(lambda part: self._sums(self.chunk(part), self.q[part], step, basis, probe), parts):
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
        """Generalised cross-validation, sum of squared residuals / samples / (1 - degrees of freedom / samples)^2.

        Degrees of freedom: sum s / (s + penalty). Targets count with ``weights``. Residuals below what single precision
        tells from 0 (1e-6 of the variance) count as that. Golub, Heath & Wahba, Technometrics 1979.
        """
        shrink = self.shrink(ridge)
        explained = (2 * shrink - self.s * shrink**2) @ self.a**2
        left = np.maximum(self.gram.yy - explained, 1e-6 * np.abs(self.gram.yy))
        free = 1 - (self.s * shrink).sum() / self.gram.samples
        return float((left if weights is None else left * weights).sum() / self.gram.samples / max(free, 1e-6) ** 2)
