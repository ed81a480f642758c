"""The network of least squared error for means whose noise and smoothing are known, in what its latents determine.

The closed form takes smoothed rates for rates and shrinks by a ridge. Smoothing delays nothing but widens each rise, so
that a part of the filtered inputs looks like a latent. Here the free run of the network is smoothed as the recording,
and the errors are weighted by the noise. What is varied: overlaps n' m and n' I, mixtures of m and I, and the loadings
of single neurons given the latents. In a network with areas, m and I of an area mix with each other alone, and n
overlaps with those of its source.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from nwb_lint.model.areas.blocks import Blocks, effective_n_of
from nwb_lint.model.network import Array, Network, Nonlinearity, forward
from nwb_lint.model.tuning import DIFFERENCE, ENOUGH_GAIN, GAUSS_NEWTON_STEPS, NOISE_COURSE_SHARE, SHORTEST_STEP

_TRUNCATE = 4.0  # sd at which the kernel of the readers ends


class Means(NamedTuple):
    """Means of trials, and what is known about them.

    ``y`` (condition, time, neuron), in units of the activity; ``q`` (condition, burn-in + time, drive); ``whiten``
    (course, time) gives the noise of a neuron independent values of variance 1 / ``precision``; ``smoothed`` (course,
    time) is the same after smoothing. ``blocks`` are those of the network.
    """

    y: Array
    q: Array
    alpha: float
    nonlinearity: str | Nonlinearity
    whiten: Array
    smoothed: Array
    precision: Array
    blocks: Blocks


class Columns(NamedTuple):
    """The columns of m, then those of the input weights of each area: all that the activity of each area is made of.

    ``basis`` (neuron, column) is 0 outside the ``area`` (column). ``drive`` says which drive each of the last ones has;
    drives of weight 0 have none.
    """

    basis: Array
    area: Array
    drive: Array

    @property
    def rms(self) -> Array:
        """Root mean square over all neurons, (column)."""
        return np.sqrt((self.basis**2).mean(axis=0))

    @property
    def same(self) -> Array:
        """Whether two columns are of the same area, (column, column)."""
        return self.area[:, None] == self.area


def _columns_of(network: Network, blocks: Blocks) -> Columns:
    """The columns of a network; a drive has one for each area where it has a weight other than 0."""
    there = np.array([(network.w[blocks.area == a] != 0).any(axis=0) for a in range(len(blocks.names))])
    area, drive = np.nonzero(there)
    weights = network.w[:, drive] * (blocks.area[:, None] == area)
    return Columns(np.column_stack([network.m, weights]), np.append(blocks.to, area), drive)


def smoothing(n_bins: int, sd_bins: float) -> Array:
    """The matrix (time, time) by which the readers smooth rates without missing samples."""
    if sd_bins == 0:
        return np.eye(n_bins)
    kernel = gaussian_filter1d(np.eye(n_bins), sd_bins, axis=0, mode="constant", truncate=_TRUNCATE)
    return kernel / kernel.sum(axis=1, keepdims=True)


def whitening(noise: Array) -> tuple[Array, Array]:
    """From noise (draw, condition, time, neuron): ``whiten`` (course, time), and the precision of each neuron."""
    variance = np.maximum(noise.var(axis=(0, 1, 2)), np.finfo(float).tiny)
    scaled = (noise / np.sqrt(variance)).transpose(2, 0, 1, 3).reshape(noise.shape[2], -1)
    values, vectors = np.linalg.eigh(scaled @ scaled.T / scaled.shape[1])
    kept = values > NOISE_COURSE_SHARE * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])).T, 1 / variance


class Estimate(NamedTuple):
    """A network, its squared error in noise variances, and the derivatives."""

    network: Network
    error: float
    slope: Array


def estimate(means: Means, start: Network, slope: Array | None = None) -> Estimate:
    """Gauss-Newton steps from a network. ``slope``: derivatives of a similar network, in place of new ones.

    After each step the loadings of single neurons, outside of the span of m and I, follow by regression.
    """
    network, whitened = start, _courses(means.whiten, means.y)
    for _ in range(GAUSS_NEWTON_STEPS):
        network = _with_loadings(means, network, whitened)
        channel = _channels(means, network)
        left = whitened @ channel - _run(means, network, channel)
        used = slopes(means, network, channel) if slope is None else slope
        step = np.linalg.lstsq(used.reshape(len(used), -1).T, left.ravel(), rcond=1e-8)[0]
        error, share = np.sum(left**2), 1.0
        while share >= SHORTEST_STEP:
            moved = changed(network, means.blocks, share * step)
            after = np.sum((whitened @ channel - _run(means, moved, channel)) ** 2)
            if after < error:
                network = moved
                break
            share /= 2
        if share < SHORTEST_STEP or error - after < ENOUGH_GAIN:
            break
    return _finished(means, network, whitened, used)


def slopes(means: Means, network: Network, channel: Array) -> Array:
    """Derivatives of the whitened run with the parameters of `changed`, (parameter, condition, course, channel)."""
    base, number = _run(means, network, channel), n_parameters(network, means.blocks)
    moved = (changed(network, means.blocks, DIFFERENCE * one) for one in np.eye(number))
    return np.stack([(_run(means, one, channel) - base) / DIFFERENCE for one in moved])


def n_parameters(network: Network, blocks: Blocks) -> int:
    return sum(int(one.sum()) for one in _free(_columns_of(network, blocks), blocks))


def _free(columns: Columns, blocks: Blocks) -> tuple[Array, Array]:
    """Which columns may be added to which, (column, column), and which n may overlap with which, (column, rank).

    Mixtures within m of a block are a matter of coordinates.
    """
    mixed, rank = columns.same, len(blocks.to)
    mixed[:rank, :rank] &= ~blocks.together
    return mixed, columns.area[:, None] == blocks.source


def changed(network: Network, blocks: Blocks, step: Array) -> Network:
    """The network with other mixtures of the columns of m and I, and other overlaps of n with them.

    Columns count as of mean square 1. Drives of weight 0 keep it.
    """
    assert network.n is not None
    columns, rank = _columns_of(network, blocks), network.m.shape[1]
    mixed, read = _free(columns, blocks)
    mixture, overlap, rms = np.zeros(mixed.shape), np.zeros(read.shape), columns.rms
    mixture[mixed], overlap[read] = np.split(step, [mixed.sum()])
    unit = columns.basis / rms
    added = unit @ np.linalg.lstsq(unit.T @ unit / len(unit), overlap, rcond=1e-10)[0]
    basis = (unit + unit @ mixture) * rms
    return _of_columns(network, blocks, columns, basis, network.n + added / rms[:rank])


def _of_columns(network: Network, blocks: Blocks, columns: Columns, basis: Array, n: Array) -> Network:
    """The network with these columns in place of its own, and exactly 0 where the blocks have none."""
    rank, weights = network.m.shape[1], np.zeros_like(network.w)
    basis = basis * (blocks.area[:, None] == columns.area)
    np.add.at(weights.T, columns.drive, basis[:, rank:].T)
    return Network(basis[:, :rank], n * blocks.of_n, weights)


def _courses(matrix: Array, values: Array) -> Array:
    return np.einsum("kt,ctn->ckn", matrix, values, optimize=True)


def _channels(means: Means, network: Network) -> Array:
    """Matrix (neuron, channel): combinations of neurons, of independent noise, that hold all that m and I determine."""
    columns = _columns_of(network, means.blocks)
    basis = columns.basis / columns.rms
    weighted = basis * means.precision[:, None]
    values, vectors = np.linalg.eigh(basis.T @ weighted)
    kept = values > 1e-10 * values[-1]
    return weighted @ (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T


def _states(means: Means, network: Network) -> Array:
    """Latents and drives side by side, (condition, time, rank + drive)."""
    _, kappa = forward(network, means.q, means.alpha, means.nonlinearity)
    return np.concatenate([kappa, means.q], axis=2)[:, -means.y.shape[1] :]


def _whitened_states(means: Means, network: Network, columns: Columns) -> Array:
    """Smoothed and whitened latents and drives of the columns, (condition and course, column)."""
    rank = network.m.shape[1]
    states = _courses(means.smoothed, _states(means, network))[..., np.r_[:rank, rank + columns.drive]]
    return states.reshape(-1, states.shape[2])


def weakest(means: Means, network: Network) -> float:
    """How much more power the weakest direction of span(m, I) has than its noise would give; about 1 if it is noise.

    With several areas an input may not reach each of them, and its weights are noise there. So the directions are those
    of m, and their power that which the drives leave.
    """
    columns, rank = _columns_of(network, means.blocks), network.m.shape[1]
    states, neurons = _whitened_states(means, network, columns), np.bincount(means.blocks.area)[columns.area]
    power = columns.basis.T @ (columns.basis * means.precision[:, None]) / neurons
    if len(means.blocks.names) > 1:
        kappa, drives = states[:, :rank], states[:, rank:]
        states = kappa - drives @ np.linalg.lstsq(drives, kappa, rcond=1e-10)[0]
    kept = slice(states.shape[1])
    return float(np.linalg.eigvals(power[kept, kept] @ (states.T @ states * columns.same[kept, kept])).real.min())


def _run(means: Means, network: Network, channel: Array) -> Array:
    loads = np.column_stack([network.m, network.w]).T @ channel
    return _courses(means.smoothed, _states(means, network) @ loads)


def _with_loadings(means: Means, network: Network, whitened: Array) -> Network:
    """The network with the loadings that the latents give, as far as they are outside of the span of m and I.

    n keeps its overlaps with m and I.
    """
    assert network.n is not None
    columns = _columns_of(network, means.blocks)
    basis, states = columns.basis, _whitened_states(means, network, columns)
    loads, flat = np.zeros_like(basis), whitened.reshape(len(states), -1)
    for a in range(len(means.blocks.names)):
        own, neurons = columns.area == a, means.blocks.area == a
        loads[np.ix_(neurons, own)] = np.linalg.lstsq(states[:, own], flat[:, neurons], rcond=1e-8)[0].T
    apart = loads - basis @ np.linalg.lstsq(basis, loads, rcond=1e-10)[0]
    inside = basis + apart
    n = network.n + inside @ np.linalg.lstsq(inside.T @ inside, -apart.T @ network.n, rcond=1e-10)[0]
    return _of_columns(network, means.blocks, columns, inside, n)


def _finished(means: Means, network: Network, whitened: Array, slope: Array) -> Estimate:
    run = _courses(means.smoothed, _states(means, network)) @ np.column_stack([network.m, network.w]).T
    return Estimate(network, float(np.sum((whitened - run) ** 2 * means.precision)), slope)


def restricted(network: Network, blocks: Blocks) -> Network:
    """The network with the part of n in the span of m and I of its source alone."""
    assert network.n is not None
    return network._replace(n=effective_n_of(blocks, network.m, network.n, network.w))


def spread(estimate: Estimate) -> Array:
    """Matrix: times independent normal values, it is the uncertainty of the parameters of `changed`."""
    slope = estimate.slope.reshape(len(estimate.slope), -1)
    values, vectors = np.linalg.eigh(slope @ slope.T)
    kept = values > 1e-8 * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept])
