"""The regressions of a network of several areas: reduced-rank regression of each block, and the latent pass.

The activity of area a is regressed on the features of all areas at once, x_a = sum_b Z_b B_ab + W_a q with B_ab of the
rank of its block. There is no closed form for several blocks. From the ridge regression of full rank, each block in
turn gets the reduced-rank ridge regression of what the other blocks leave, until nothing changes.

Drives that do not reach an area are not regressed on there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import Array, Network, Nonlinearity
from nwb_lint.model.regression import (
    LOW_RANK,
    MomentStream,
    Sampling,
    Solutions,
    Sums,
    activity_chunks,
    latent_chunks,
    leading_eigenpairs,
    pseudo_inverse,
)
from nwb_lint.model.tuning import BLOCK_SWEEPS, BLOCK_TOLERANCE, MIN_RIDGE, SINGULAR_CUTOFF
from nwb_lint.parallel.threads import map_in_order


class _Area(NamedTuple):
    """Moments for one area after regression on the drives that reach it.

    ``zz`` (feature, feature), ``zy`` (feature, neuron of the area), ``q_to_z`` (drive, feature), ``q_to_y`` (drive,
    neuron of the area) of these drives; ``drives`` and ``neurons`` are positions.
    """

    zz: Array
    zy: Array
    q_to_z: Array
    q_to_y: Array
    drives: Array
    neurons: Array


def _per_area(sums: Sums, blocks: Blocks, targets: Sequence[Array], neurons: Sequence[Array]) -> list[_Area]:
    """The moments of each area, whose ``targets`` are columns of zy."""
    found: list[_Area] = []
    shared: dict[bytes, tuple[Array, Array]] = {}
    for own, columns in zip(neurons, targets, strict=True):
        reach = blocks.reached[own[0]]
        drives = np.flatnonzero(reach)
        if reach.tobytes() not in shared:
            inverse = np.linalg.pinv(sums.qq[np.ix_(drives, drives)], rcond=SINGULAR_CUTOFF, hermitian=True)
            q_to_z = inverse @ sums.qz[drives]
            shared[reach.tobytes()] = q_to_z, sums.zz - sums.qz[drives].T @ q_to_z
        q_to_z, zz = shared[reach.tobytes()]
        zy = sums.zy[:, columns] - q_to_z.T @ sums.qy[np.ix_(drives, columns)]
        inverse = np.linalg.pinv(sums.qq[np.ix_(drives, drives)], rcond=SINGULAR_CUTOFF, hermitian=True)
        found.append(_Area(zz, zy, q_to_z, inverse @ sums.qy[np.ix_(drives, columns)], drives, own))
    return found


class _Ridge(NamedTuple):
    """Eigenvectors and eigenvalues of the moments of the features of one source."""

    s: Array
    v: Array

    @classmethod
    def of(cls, zz: Array) -> _Ridge:
        s, v = np.linalg.eigh(zz)
        return cls(np.maximum(s, 0), v)

    def solve(self, zy: Array, penalty: float) -> Array:
        """(Z'Z + penalty 1)^-1 Z'Y."""
        return self.v @ ((self.v.T @ zy) / (self.s + penalty)[:, None])


class _Decompositions:
    """Eigendecompositions of the features of the sources, each done once: areas often have the same drives."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], _Ridge] = {}

    def of(self, area: _Area, features: Array) -> _Ridge:
        """That of some features, after regression on the drives of an area."""
        key = id(area.zz), features.tobytes()
        if key not in self._known:
            self._known[key] = _Ridge.of(area.zz[np.ix_(features, features)])
        return self._known[key]


def closed_form(
    x: Array,
    q: Array,
    *,
    blocks: Blocks,
    alpha: float,
    nonlinearity: str | Nonlinearity,
    ridges: Sequence[float],
    weights: Array | None = None,
    penalty: float = 0.0,
    unseen_start: bool = False,
    sampling: Sampling = LOW_RANK,
) -> Solutions:
    """Fit a network of several areas by reduced-rank regression of the activity on its own filtered rates.

    Parameters
    ----------
    x, q, alpha, nonlinearity, ridges, weights, penalty, unseen_start, sampling
        As in `nwb_lint.model.regression.closed_form`.
    blocks : Blocks
        Areas of the neurons, and ranks of the blocks.

    Returns
    -------
    Solutions
        Without singular values and GCV.
    """
    chunk, n_samples = activity_chunks(x, q, alpha, nonlinearity)
    stream = MomentStream(
        chunk, q, x.shape[2], n_samples, alpha, nonlinearity, sampling=sampling, unseen_start=unseen_start
    )
    sums = stream.sums()
    own = [np.flatnonzero(blocks.area[: x.shape[2]] == a) for a in range(len(blocks.names))]
    areas, known = _per_area(sums, blocks, own, own), _Decompositions()
    every = np.arange(x.shape[2])
    for area in areas:
        known.of(area, every)
        for one in own:
            known.of(area, one)
    root = np.ones(x.shape[2]) if weights is None else np.sqrt(weights).astype(float)

    def network(ridge: float) -> Network:
        m, n = (np.zeros((x.shape[2], len(blocks.to))) for _ in range(2))
        w = np.zeros((x.shape[2], q.shape[2]))
        for a, area in enumerate(areas):
            size = max(max(ridge, MIN_RIDGE) * np.trace(area.zz) / len(area.zz), penalty * sums.number)
            size = max(size, np.finfo(float).tiny)
            start = known.of(area, every).solve(area.zy, size)
            of_source = {b: (own[b], columns) for to, b, columns in blocks.pairs() if to == a}
            found = _reduced(area, of_source, start, size, root[area.neurons], known)
            for b, (b_m, b_n) in found.items():
                features, columns = of_source[b]
                m[np.ix_(area.neurons, columns)] = b_m
                n[np.ix_(features, columns)] = x.shape[2] * b_n
            explained = n @ m[area.neurons].T / x.shape[2]
            w[np.ix_(area.neurons, area.drives)] = (area.q_to_y - area.q_to_z @ explained).T
        return Network(m, n, w)

    return Solutions(list(map_in_order(network, ridges)), np.zeros(0), np.full(len(ridges), np.nan))


def _reduced(
    area: _Area,
    of_source: dict[int, tuple[Array, Array]],
    start: Array,
    penalty: float,
    root: Array,
    known: _Decompositions,
) -> dict[int, tuple[Array, Array]]:
    """m and n / N of each block to an area, by source: reduced-rank regressions in turn.

    ``start`` (feature, neuron of the area) are coefficients of full rank. The part of a block is that of least
    sum of squared errors, weighted by root², plus the penalty on its coefficients: with S S' the inverse of Z'Z +
    penalty and C = Z'E of what is left, it is S S' C U U', with U the leading right singular vectors of S' C root.
    """
    parts = {b: (np.eye(start.shape[1]), start[features]) for b, (features, _) in of_source.items()}
    base = {}
    for b, (features, _) in of_source.items():
        one = known.of(area, features)
        base[b] = one, one.v.T @ (area.zy[features] * root)
    before = np.inf
    for _ in range(BLOCK_SWEEPS):
        explained = 0.0
        for b, (features, columns) in of_source.items():
            one, left = base[b]
            for c, (others, _) in of_source.items():
                if c != b:
                    m, n = parts[c]
                    left = left - (one.v.T @ (area.zz[np.ix_(features, others)] @ n)) @ (m.T * root)
            shrunk = left / np.sqrt(one.s + penalty)[:, None]
            number = len(columns)
            if len(shrunk) < shrunk.shape[1]:
                power, u = leading_eigenpairs(shrunk @ shrunk.T, number)
                right = shrunk.T @ (u[:, :number] / np.sqrt(np.maximum(power[:number], np.finfo(float).tiny)))
            else:
                power, right = leading_eigenpairs(shrunk.T @ shrunk, number)
            right = right[:, :number]
            coefficients = one.v @ (left @ right / (one.s + penalty)[:, None])
            m = np.divide(right, root[:, None], out=np.zeros_like(right), where=root[:, None] > 0)
            parts[b] = m, coefficients
            explained += float(power[:number].sum())
        if abs(explained - before) <= BLOCK_TOLERANCE * abs(explained):
            break
        before = explained
    return parts


def latent_pass(
    network: Network,
    x: Array,
    q: Array,
    *,
    blocks: Blocks,
    alpha: float,
    nonlinearity: str | Nonlinearity,
    ridges: Sequence[float],
    weights: Array | None = None,
    penalty: float = 0.0,
    unseen_start: bool = False,
) -> Solutions:
    """Regress again on features of the projected data; each latent on the features of its own source.

    The latents are those of `nwb_lint.model.regression.latent_pass`. The ridge regression of kappa_ab on the features
    of area b (and on the drives that reach area a, without penalty) gives n_ab; the regression of x_a on all n_ab' Z_b
    / N and these drives gives m_a and W_a.

    Parameters
    ----------
    network : Network
        From `closed_form`. Rows after the neurons of ``x`` are hidden units.
    x, q, alpha, nonlinearity, ridges, weights, penalty, unseen_start
        As in `nwb_lint.model.regression.latent_pass`.
    blocks : Blocks

    Returns
    -------
    Solutions
        Without singular values and GCV.
    """
    n_neurons, rank = network.m.shape
    recorded = x.shape[2]
    to_latents = pseudo_inverse(network.m[:recorded], weights)
    chunk, n_samples = latent_chunks(network, x, q, alpha, nonlinearity, to_latents)
    stream = MomentStream(
        partial(chunk, both=True), q, n_neurons, n_samples, alpha, nonlinearity, unseen_start=unseen_start
    )
    sums = stream.sums()  # the targets are the latents, then x
    own = [np.flatnonzero(blocks.area == a) for a in range(len(blocks.names))]
    areas = list(_targets(sums, blocks, own, recorded, rank))
    known = _Decompositions()

    def solved(ridge: float) -> Network:
        m, n, w = network.m.copy(), np.zeros_like(network.n), network.w.copy()
        for a, (area, columns) in enumerate(areas):
            size = max(max(ridge, MIN_RIDGE) * np.trace(area.zz) / n_neurons, penalty * sums.number)
            for to, b, block in blocks.pairs():
                if to == a:
                    targets = area.zy[np.ix_(own[b], np.searchsorted(columns, block))]
                    n[np.ix_(own[b], block)] = known.of(area, own[b]).solve(targets, max(size, 1e-300))
            coefficients = n[:, columns]
            floor = penalty * sums.number * (coefficients.T @ coefficients)
            zz, zy = coefficients.T @ area.zz @ coefficients + floor, coefficients.T @ area.zy[:, len(columns) :]
            hidden = own[a][own[a] >= recorded]
            shift = area.q_to_y[:, : len(columns)] - area.q_to_z @ coefficients
            w[np.ix_(hidden, area.drives)] += network.m[np.ix_(hidden, columns)] @ shift.T
            found = np.linalg.lstsq(zz, zy, rcond=None)[0]
            seen = own[a][own[a] < recorded]
            m[np.ix_(seen, columns)] = found.T
            w[np.ix_(seen, area.drives)] = (area.q_to_y[:, len(columns) :] - area.q_to_z @ coefficients @ found).T
        return Network(m, n_neurons * n, w)

    return Solutions([solved(ridge) for ridge in ridges], np.zeros(0), np.full(len(ridges), np.nan))


def _targets(
    sums: Sums, blocks: Blocks, own: Sequence[Array], recorded: int, rank: int
) -> Iterator[tuple[_Area, Array]]:
    """The moments of each area, whose targets are its latents and then its recorded neurons, and its latents."""
    latents = [np.flatnonzero(blocks.to == a) for a in range(len(own))]
    targets = [np.concatenate([k, rank + one[one < recorded]]) for k, one in zip(latents, own, strict=True)]
    yield from zip(_per_area(sums, blocks, targets, own), latents, strict=True)


def elimination_order(
    network: Network,
    x: Array,
    q: Array,
    *,
    blocks: Blocks,
    alpha: float,
    nonlinearity: str | Nonlinearity,
    ridge: float,
    weights: Array | None = None,
) -> list[Array]:
    """Ranks of the blocks (to, from), from those of a network down to a single rank, one rank less each time.

    The features and latents are those of `latent_pass`. The rank that is taken away is the one whose loss, in what the
    regression of its area explains, is the smallest per parameter, in units of the residual variance of the area.

    Parameters
    ----------
    network : Network
        A fit with these blocks, without hidden units.
    x, q, blocks, alpha, nonlinearity, weights
        As in `latent_pass`.
    ridge : float
        Relative to the mean variance of the features.

    Returns
    -------
    list of array of shape (area, area)
    """
    to_latents = pseudo_inverse(network.m, weights)
    chunk, n_samples = latent_chunks(network, x, q, alpha, nonlinearity, to_latents)
    stream = MomentStream(partial(chunk, target_is_x=True), q, x.shape[2], n_samples, alpha, nonlinearity)
    sums, count = stream.sums(), len(blocks.names)
    own = [np.flatnonzero(blocks.area == a) for a in range(count)]
    areas, known = _per_area(sums, blocks, own, own), _Decompositions()
    root = np.ones(x.shape[2]) if weights is None else np.sqrt(weights).astype(float)
    gains: dict[tuple[int, ...], float] = {}

    def gain(a: int, row: tuple[int, ...]) -> float:
        """What the regression of an area explains with these ranks of its blocks, less the penalty."""
        if (a, *row) not in gains:
            area = areas[a]
            penalty = max(ridge, MIN_RIDGE) * np.trace(area.zz) / len(area.zz)
            of_source = {b: (own[b], np.arange(k)) for b, k in enumerate(row) if k}
            start = known.of(area, np.arange(len(area.zz))).solve(area.zy, penalty)
            parts = _reduced(area, of_source, start, penalty, root[area.neurons], known) if of_source else {}
            gains[a, *row] = _explained(area, of_source, parts, penalty, root[area.neurons])
        return gains[a, *row]

    ranks = np.zeros((count, count), int)
    np.add.at(ranks, (blocks.to, blocks.source), 1)
    scale = [_residual(sums, area, root) - gain(a, tuple(ranks[a])) for a, area in enumerate(areas)]
    found = [ranks]
    while ranks.sum() > 1:
        losses = {}
        for a, b in np.argwhere(ranks):
            lower = ranks[a].copy()
            lower[b] -= 1
            loss = gain(int(a), tuple(ranks[a].tolist())) - gain(int(a), tuple(lower.tolist()))
            losses[int(a), int(b)] = loss / max(scale[a], np.finfo(float).tiny) / (len(own[a]) + len(own[b]))
        ranks = ranks.copy()
        ranks[min(losses, key=losses.__getitem__)] -= 1
        found.append(ranks)
    return found


def _explained(
    area: _Area, of_source: dict[int, tuple[Array, Array]], parts: dict[int, tuple[Array, Array]], penalty: float,
    root: Array,
) -> float:  # fmt: skip
    """2 tr B'C - tr B'(Z'Z + penalty)B: by how much coefficients lower the penalized squared error."""
    b = np.zeros_like(area.zy)
    for source, (m, n) in parts.items():
        b[of_source[source][0]] = n @ m.T
    b *= root
    return float(2 * (b * (area.zy * root)).sum() - (b * (area.zz @ b)).sum() - penalty * (b * b).sum())


def _residual(sums: Sums, area: _Area, root: Array) -> float:
    """Squares of the activity of an area that its drives leave."""
    drives = sums.qy[np.ix_(area.drives, area.neurons)]
    left = sums.yy[area.neurons] - (drives * area.q_to_y).sum(axis=0)
    return float((left * root[area.neurons] ** 2).sum())
