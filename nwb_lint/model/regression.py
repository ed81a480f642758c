"""Closed-form fits: reduced-rank regression on filtered rates, and the latent pass that removes its noise bias.

With F the low-pass filter of the network, x = W q + F[phi(x)] n m' / N is linear in W and J = m n' / N. Everything
here works from the moments of `moments.Stream`, accumulated over chunks of conditions. Shapes: x (condition, time,
neuron), q (condition, burn-in + time, Q). NaN = not observed: samples at which nobody was observed (the rest of a
shorter trial, a missing condition) do not count, and the filter's past stays what it was; other gaps are filled by
`fill`. ``weights`` (neuron) are those of the loss, sum_i w_i (x_i - its prediction)^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh

from nwb_lint.model.moments import LOW_RANK, Chunk, RidgePath, Stream, chunks_of, features, sketch_size, whitened
from nwb_lint.model.r2 import squared_errors
from nwb_lint.model.rnn import Array, Network, Nonlinearity, forward
from nwb_lint.model.threads import side_by_side

MANY_TIMES = 10  # as many eigenvalues as are asked for, or more: then Lanczos is faster than all of them
LEADING = 10  # singular values returned: the gap among them shows the rank
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class Solutions(NamedTuple):
    """One network per ridge asked, in that order; the leading singular values of the recurrent part fitted with the
    smallest ridge (empty for an unconstrained J and a latent pass); generalised cross-validation by ridge.
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
        >>> from nwb_lint.model.rnn import drives
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
    gcv = np.array(list(side_by_side(lambda ridge: path.gcv(ridge, weights), ridges)))
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

    found = list(side_by_side(reduced, ridges))
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

    return np.sum(list(side_by_side(left_over, chunks_of(len(q), q.shape[1], x.shape[2]))), axis=0)


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
