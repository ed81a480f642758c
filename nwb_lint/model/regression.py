"""Closed-form fits: reduced-rank regression on filtered rates, and the latent pass that removes its noise bias.

With F the low-pass filter of the network, x = W q + F[phi(x)] n m' / N is linear in W and J = m n' / N. Everything
here works from sufficient statistics (Gram matrices of the features F[phi(x)]) accumulated over chunks of
conditions, so the (condition, time, neuron) features never exist all at once. Ridge penalties are relative to the mean
feature variance. Shapes: x (condition, time, neuron), q (condition, burn-in + time, Q); NaN in x is filled by `fill`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from nwb_lint.model.r2 import squared_errors
from nwb_lint.model.rnn import NONLINEARITIES, Array, Network, forward

CHUNK_VALUES = 4_000_000
CHUNK_NEURONS = 512
SAMPLES_EACH = 150  # per neuron: from twice as many on, samples are taken further apart (`_step`)
LEADING = 10  # singular values returned: the gap among them shows the rank
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


Sample = tuple[Array, list[Array]]


class Gram(NamedTuple):
    """Second moments of features z, drives q and targets y, with z and y rid of their regression on q."""

    zz: Array
    zy: Array
    q_to_z: Array
    q_to_y: Array


def _features(x: Array, alpha: float, nonlinearity: str) -> Array:
    """F[phi(x)]: z[0] = 0, z[t+1] = (1 - alpha) z[t] + alpha phi(x[t])."""
    z = NONLINEARITIES[nonlinearity].phi(x)
    z *= alpha
    previous = np.zeros_like(z[:, 0])
    for t in range(z.shape[1]):
        driven = z[:, t].copy()
        z[:, t] = previous
        previous *= 1 - alpha
        previous += driven
    return z


def _chunks(n_conditions: int, values_each: int) -> Iterator[slice]:
    step = max(1, CHUNK_VALUES // values_each)
    return (slice(i, i + step) for i in range(0, n_conditions, step))


def _step(n_samples: int, n_neurons: int, alpha: float) -> int:
    """Every how many-th time step enters the moments: features pass a filter of 1 / alpha steps, so that neighbours
    within half of that say almost the same, and where samples abound leaving them out costs nothing.
    """
    return max(1, min(n_samples // (SAMPLES_EACH * n_neurons), round(0.5 / alpha)))


def _gram(sample: Callable[[slice], Sample], q: Array, skip: int, alpha: float, nonlinearity: str) -> Gram:
    """Moments over the samples after burn-in; ``sample`` gives a chunk's states, (condition, burn-in + time, N), and
    its targets, each (condition, time, any), which are taken side by side.
    """
    sums: list[Array] | None = None
    for part in _chunks(q.shape[0], q.shape[1] * CHUNK_NEURONS):
        states, targets = sample(part)
        step = _step(q.shape[0] * targets[0].shape[1], states.shape[2], alpha)
        z = _features(states, alpha, nonlinearity)[:, skip::step].reshape(-1, states.shape[2])
        d = q[part, skip::step].reshape(-1, q.shape[2])
        flat = [t[:, ::step].reshape(-1, t.shape[2]) for t in targets]
        new = [z.T @ z, np.hstack([z.T @ t for t in flat]), d.T @ z, np.hstack([d.T @ t for t in flat]), d.T @ d]
        sums = [a.astype(float) for a in new] if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
    assert sums is not None
    zz, zy, qz, qy, qq = sums
    inverse = np.linalg.pinv(qq, rcond=1e-10, hermitian=True)
    return Gram(zz - qz.T @ inverse @ qz, zy - qz.T @ inverse @ qy, inverse @ qz, inverse @ qy)


class RidgePath(NamedTuple):
    """Ridge solutions B = (Z'Z + ridge I)^-1 Z'Y for every ridge from one eigendecomposition of Z'Z."""

    s: Array
    v: Array
    a: Array

    @classmethod
    def of(cls, gram: Gram) -> RidgePath:
        """Diagonalise the feature Gram matrix once."""
        s, v = np.linalg.eigh(gram.zz)
        s = np.maximum(s, 0)
        return cls(s, v, v.T @ gram.zy)

    def shrink(self, ridge: float) -> Array:
        """1 / (s + penalty), with the penalty relative to the mean feature variance and never quite 0."""
        return 1 / (self.s + max(ridge, 1e-12) * max(self.s.mean(), np.finfo(float).tiny))

    def solve(self, ridge: float) -> Array:
        """B (feature, target) at one relative ridge."""
        return self.v @ (self.shrink(ridge)[:, None] * self.a)


def _burn_in_states(x: Array, q: Array, network: Network | None, alpha: float, nonlinearity: str) -> Array:
    """States before the first sample: the current network's own, or those that the inputs alone give."""
    skip = q.shape[1] - x.shape[1]
    if skip == 0:
        return x[:, :0]
    if network is not None:
        return forward(network, q[:, :skip], alpha, nonlinearity)[0]
    flat = q[:, skip:].reshape(-1, q.shape[2])
    weights, *_ = np.linalg.lstsq(flat, x.reshape(-1, x.shape[2]), rcond=None)
    return q[:, :skip] @ weights.astype(q.dtype)


def _with_burn_in(states: Array, before: Array) -> Array:
    return states if before.shape[1] == 0 else np.concatenate([before, states], axis=1)


def fill(x: Array, network: Network | None, q: Array, alpha: float, nonlinearity: str) -> Array:
    """x with NaN replaced by the network's prediction, or by the neuron's mean where there is no network yet."""
    if np.isfinite(x.sum(dtype=float)):
        return x
    missing = np.isnan(x)
    if network is None:
        seen = np.maximum((~missing).sum(axis=(0, 1)), 1)
        guess = np.broadcast_to(np.nansum(x, axis=(0, 1), dtype=float) / seen, x.shape)
    else:
        guess = forward(network, q, alpha, nonlinearity)[0][:, q.shape[1] - x.shape[1] :, : x.shape[2]]
    return np.where(missing, guess, x).astype(x.dtype)


def closed_form(
    x: Array,
    q: Array,
    *,
    rank: int | None,
    alpha: float,
    nonlinearity: str = "tanh",
    ridges: Sequence[float] = RIDGES,
) -> tuple[list[Network], Array]:
    """Stage 1, one network per ridge, and the leading singular values of the fitted
    recurrent part at the smallest ridge.

    B = (Z'Z + ridge)^-1 Z'X after both are rid of q; m = the leading right singular vectors of Z B, n = N B m;
    W = regression of what is left on q. ``rank=None`` keeps J = B' whole.
    """
    x = fill(x, None, q, alpha, nonlinearity)
    before = _burn_in_states(x, q, None, alpha, nonlinearity)

    def sample(part: slice) -> Sample:
        return _with_burn_in(x[part], before[part]), [x[part]]

    gram = _gram(sample, q, before.shape[1], alpha, nonlinearity)
    path, n_neurons = RidgePath.of(gram), x.shape[2]
    networks, singular = [], np.zeros(0)
    for ridge in sorted(ridges, reverse=True):
        if rank is None:
            j = path.solve(ridge).T
            networks.append(Network(j, None, (gram.q_to_y - gram.q_to_z @ j.T).T))
            continue
        fitted = (np.sqrt(path.s) * path.shrink(ridge))[:, None] * path.a
        leading = (max(0, n_neurons - max(rank, LEADING)), n_neurons - 1)
        power, vectors = eigh(fitted.T @ fitted, subset_by_index=leading)
        singular = np.sqrt(np.maximum(power[::-1], 0))
        m = vectors[:, ::-1][:, :rank]
        n = n_neurons * path.solve(ridge) @ m
        networks.append(Network(m, n, (gram.q_to_y - gram.q_to_z @ n @ m.T / n_neurons).T))
    return networks[::-1], singular


def regression_errors(
    networks: Sequence[Network], x: Array, q: Array, *, alpha: float, nonlinearity: str = "tanh"
) -> Array:
    """What the regression leaves on given data: sum (x - J F[phi(x)] - W q)^2 over the observed samples, (network)."""
    filled = fill(x, None, q, alpha, nonlinearity)
    before = _burn_in_states(filled, q, None, alpha, nonlinearity)
    skip, sums = before.shape[1], np.zeros(len(networks))
    for part in _chunks(q.shape[0], q.shape[1] * CHUNK_NEURONS):
        z = _features(_with_burn_in(filled[part], before[part]), alpha, nonlinearity)[:, skip:]
        for k, network in enumerate(networks):
            m, w = network.m.astype(x.dtype), network.w.T.astype(x.dtype)
            latent = z if network.n is None else z @ (network.n.astype(x.dtype) / network.n_neurons)
            left = latent @ m.T
            left += q[part, skip:] @ w
            sums[k] += squared_errors(x[part], left).sum()
    return sums


def latent_pass(
    network: Network,
    x: Array,
    q: Array,
    *,
    alpha: float,
    nonlinearity: str = "tanh",
    ridges: Sequence[float] = RIDGES,
) -> list[Network]:
    """Stage 2, one network per ridge: regress again on features of the *projected* data.

    kappa_hat = (x - W q) m (m'm)^-1 averages the noise of N neurons away; features Z = F[phi(m kappa_hat + W q)];
    ridge-regress kappa_hat on Z (and q, unpenalised) for n, then x on [Z n / N, q] for m and W. Rows of the network
    beyond x's neurons (hidden units) lend their features and keep their m and W.
    """
    n_neurons, recorded = network.n_neurons, x.shape[2]
    skip = q.shape[1] - x.shape[1]
    m_seen, w_seen = network.m[:recorded], network.w[:recorded]
    back = np.linalg.pinv(m_seen).T.astype(x.dtype)
    rank = back.shape[1]
    before = _burn_in_states(x, q, network, alpha, nonlinearity)

    def sample(part: slice) -> Sample:
        y, d = fill(x[part], network, q[part], alpha, nonlinearity), q[part, skip:]
        kappa = y @ back - d @ (w_seen.T @ back).astype(x.dtype)
        states = kappa @ network.m.T.astype(x.dtype)
        states += d @ network.w.T.astype(x.dtype)
        return _with_burn_in(states, before[part]), [kappa, y]

    gram = _gram(sample, q, skip, alpha, nonlinearity)
    path = RidgePath.of(gram._replace(zy=gram.zy[:, :rank]))
    networks = []
    for ridge in ridges:
        b = path.solve(ridge)
        kk, kx = b.T @ gram.zz @ b, b.T @ gram.zy[:, rank:]
        m_new = np.linalg.lstsq(kk, kx, rcond=None)[0].T
        shift = gram.q_to_y[:, :rank] - gram.q_to_z @ b
        m, w = network.m.copy(), network.w + network.m @ shift.T
        m[:recorded] = m_new
        w[:recorded] = (gram.q_to_y[:, rank:] - gram.q_to_z @ b @ m_new.T).T
        networks.append(Network(m, n_neurons * b, w))
    return networks
