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
    features,
    latent_chunks,
    leading_eigenpairs,
    pseudo_inverse,
)
from nwb_lint.model.tuning import BLOCK_SWEEPS, BLOCK_TOLERANCE, MIN_RIDGE, SINGULAR_CUTOFF
from nwb_lint.parallel.arrays import NUMPY, Engine
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


def _per_area(sums: Sums, reached: Array, targets: Sequence[Array], neurons: Sequence[Array]) -> list[_Area]:
    """The moments of each area, whose ``targets`` are columns of zy."""
    found: list[_Area] = []
    shared: dict[bytes, tuple[Array, Array]] = {}
    for own, columns in zip(neurons, targets, strict=True):
        reach = reached[own[0]]
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


class AreaRegression:
    """Reduced-rank regressions of the activity of each area on the features of all, for any ranks of the blocks.

    Parameters
    ----------
    sums : Sums
        Of features and activity.
    area : array of shape (neuron,)
        Position of the area of each neuron; all 0 for one block without areas.
    reached : array of shape (neuron, drive), bool
        Which drives reach which neurons.
    weights : array of shape (neuron,), optional
        Weights of the neurons in the loss. None = equal.
    penalty : float, default=0
        Penalty on ||J||² per sample. Smaller ridges count as this one.
    """

    def __init__(
        self, sums: Sums, area: Array, reached: Array, weights: Array | None = None, penalty: float = 0.0
    ) -> None:
        self.size, self.n_drives, self.floor = len(area), reached.shape[1], penalty * float(sums.number)
        self.own = [np.flatnonzero(area == a) for a in range(int(area.max()) + 1)]
        self.areas = _per_area(sums, reached, self.own, self.own)
        self.root = np.ones(len(area)) if weights is None else np.sqrt(weights).astype(float)
        self.every, self.known = np.arange(len(area)), _Decompositions()
        for one in self.areas:
            self.known.of(one, self.every)
            for own in self.own:
                self.known.of(one, own)
        self._rows: dict[tuple[int, float, tuple[int, ...]], dict[int, tuple[Array, Array]]] = {}

    def network(self, ranks: Array, ridge: float) -> Network:
        """The network with these ranks (to, from); its columns are in the order of the blocks, row by row."""
        total, column = int(ranks.sum()), 0
        m, n = np.zeros((self.size, total)), np.zeros((self.size, total))
        w = np.zeros((self.size, self.n_drives))
        for a, area in enumerate(self.areas):
            for b, (b_m, b_n) in self._row(a, tuple(ranks[a].tolist()), ridge).items():
                columns = np.arange(column, column + b_m.shape[1])
                m[np.ix_(area.neurons, columns)], n[np.ix_(self.own[b], columns)] = b_m, self.size * b_n
                column += b_m.shape[1]
            explained = n @ m[area.neurons].T / self.size
            w[np.ix_(area.neurons, area.drives)] = (area.q_to_y - area.q_to_z @ explained).T
        return Network(m, n, w)

    def errors(self, a: int, row: tuple[int, ...], ridge: float, z: Array, q: Array, y: Array) -> Array:
        """Squared errors (condition) of an area on features, drives and activity (condition, time, any)."""
        area = self.areas[a]
        drives = q[..., area.drives]
        predicted, explained = np.zeros((*y.shape[:2], len(area.neurons))), np.zeros((self.size, len(area.neurons)))
        for b, (m, n) in self._row(a, row, ridge).items():
            predicted += z[..., self.own[b]] @ n @ m.T
            explained[self.own[b]] += n @ m.T
        predicted += drives @ (area.q_to_y - area.q_to_z @ explained)
        return np.nansum((y[..., area.neurons] - predicted) ** 2, axis=(1, 2), dtype=float)

    def _row(self, a: int, row: tuple[int, ...], ridge: float) -> dict[int, tuple[Array, Array]]:
        """m and n / N of the blocks to an area, by source."""
        if (a, ridge, row) not in self._rows:
            area = self.areas[a]
            size = max(max(ridge, MIN_RIDGE) * np.trace(area.zz) / len(area.zz), self.floor, np.finfo(float).tiny)
            of_source = {b: (self.own[b], k) for b, k in enumerate(row) if k}
            start = self.known.of(area, self.every).solve(area.zy, size) if len(of_source) > 1 else area.zy
            self._rows[a, ridge, row] = _reduced(area, of_source, start, size, self.root[area.neurons], self.known)
        return self._rows[a, ridge, row]


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
    engine: Engine = NUMPY,
) -> Solutions:
    """Fit a network of several areas by reduced-rank regression of the activity on its own filtered rates.

    Parameters
    ----------
    x, q, alpha, nonlinearity, ridges, weights, penalty, unseen_start, sampling, engine
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
        chunk, q, x.shape[2], n_samples, alpha, nonlinearity, sampling=sampling, engine=engine,
        unseen_start=unseen_start,
    )  # fmt: skip
    recorded = slice(x.shape[2])
    found = AreaRegression(stream.sums(), blocks.area[recorded], blocks.reached[recorded], weights, penalty)
    networks = list(map_in_order(lambda ridge: found.network(blocks.ranks(), ridge), ridges))
    return Solutions(networks, np.zeros(0), np.full(len(ridges), np.nan))


def _leading(matrix: Array, number: int, start: Array | None) -> tuple[Array, Array]:
    """The largest squared singular values, and their right singular vectors; near a start by subspace iteration."""
    if start is None:
        if len(matrix) < matrix.shape[1]:
            power, u = leading_eigenpairs(matrix @ matrix.T, number)
            power, u = power[:number], u[:, :number]
            return power, matrix.T @ (u / np.sqrt(np.maximum(power, np.finfo(float).tiny)))
        power, right = leading_eigenpairs(matrix.T @ matrix, number)
        return power[:number], right[:, :number]
    right = start
    for _ in range(2):
        right = np.linalg.qr(matrix.T @ (matrix @ right))[0]
    _, singular, turn = np.linalg.svd(matrix @ right, full_matrices=False)
    return singular**2, right @ turn.T


def projected_sums(
    network: Network, x: Array, q: Array, *, alpha: float, nonlinearity: str | Nonlinearity, weights: Array | None
) -> Sums:
    """Sums of features of the projected activity, as in the latent pass of this network, and of the activity.

    Regressions on them, with any ranks of the blocks, have the same features, so that they can be compared.
    """
    to_latents = pseudo_inverse(network.m, weights)
    chunk, n_samples = latent_chunks(network, x, q, alpha, nonlinearity, to_latents)
    stream = MomentStream(partial(chunk, target_is_x=True), q, x.shape[2], n_samples, alpha, nonlinearity)
    return stream.sums()


def projected_features(
    network: Network, x: Array, q: Array, *, alpha: float, nonlinearity: str | Nonlinearity, weights: Array | None
) -> Array:
    """The features of `projected_sums` themselves, (condition, time, neuron)."""
    to_latents = pseudo_inverse(network.m, weights)
    chunk, _ = latent_chunks(network, x, q, alpha, nonlinearity, to_latents)
    states = chunk(slice(None)).states[0]
    return features(states, alpha, nonlinearity)[:, q.shape[1] - x.shape[1] :]


def _reduced(
    area: _Area,
    of_source: dict[int, tuple[Array, int]],
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
    parts = {b: (np.eye(start.shape[1]), start[own]) for b, (own, _) in of_source.items()}
    base = {}
    for b, (own, _) in of_source.items():
        one = known.of(area, own)
        base[b] = one, one.v.T @ (area.zy[own] * root)
    before = np.inf
    for _ in range(BLOCK_SWEEPS):
        explained = 0.0
        for b, (own, number) in of_source.items():
            one, left = base[b]
            for c, (others, _) in of_source.items():
                if c != b:
                    m, n = parts[c]
                    left = left - (one.v.T @ (area.zz[np.ix_(own, others)] @ n)) @ (m.T * root)
            shrunk = left / np.sqrt(one.s + penalty)[:, None]
            power, right = _leading(shrunk, number, parts[b][0] if len(parts[b][0].T) == number else None)
            coefficients = one.v @ (left @ right / (one.s + penalty)[:, None])
            m = np.divide(right, root[:, None], out=np.zeros_like(right), where=root[:, None] > 0)
            parts[b] = m, coefficients
            explained += float(power.sum())
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
    engine: Engine = NUMPY,
) -> Solutions:
    """Regress again on features of the projected data; each latent on the features of its own source.

    The latents are those of `nwb_lint.model.regression.latent_pass`. The ridge regression of kappa_ab on the features
    of area b (and on the drives that reach area a, without penalty) gives n_ab; the regression of x_a on all n_ab' Z_b
    / N and these drives gives m_a and W_a.

    Parameters
    ----------
    network : Network
        From `closed_form`. Rows after the neurons of ``x`` are hidden units.
    x, q, alpha, nonlinearity, ridges, weights, penalty, unseen_start, engine
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
        partial(chunk, both=True), q, n_neurons, n_samples, alpha, nonlinearity, engine=engine,
        unseen_start=unseen_start,
    )  # fmt: skip
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
    yield from zip(_per_area(sums, blocks.reached, targets, own), latents, strict=True)
