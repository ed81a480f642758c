"""Unknown inputs of condition means, by generalized least squares with the inputs integrated out.

With F the low-pass filter of the network, the latents of condition g are

    kappa[g] = F[phi(x[g])] n / N + v[g] beta + F[d[g] / alpha] + e[g],    e ~ N(0, C ⊗ Sigma),   d ~ N(0, K ⊗ Sigma)

where v are the filtered known inputs. C is a sum of noise of the observation and of noise that passes the filter. Both,
and what d gives, are smoothed as the rates were. All is linear in n, beta and d. What decides K, C and the ridge of n
is the marginal likelihood, with n, beta and d integrated out and Sigma profiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.ndimage import gaussian_filter1d

from nwb_lint.model.hidden_units import random_features
from nwb_lint.model.network import Array, factors
from nwb_lint.model.regression import features, fill, pseudo_inverse
from nwb_lint.statespace.system import LOG_2PI
from nwb_lint.statespace.tuning import RIDGES
from nwb_lint.statespace.unknown_inputs.priors import climb, relevances, smooth_covariance
from nwb_lint.statespace.unknown_inputs.tuning import (
    JITTER_OF_MEANS,
    KEPT,
    KNOWN_VARIANCE,
    LENGTHS,
    PROCESS_SHARES,
    RELEVANCE_ROUNDS,
    SIZES,
)


class Latents(NamedTuple):
    """Latents of condition means and what they are regressed on.

    | field | dims | |
    |---|---|---|
    | kappa | condition, time, rank | |
    | z | condition, time, direction | filtered rates, on their principal directions, of mean power 1 |
    | v | condition, time, drive | filtered known inputs, of unit length |
    | seen | condition, time | whether the sample was observed |
    | smoother | time, time | the Gaussian with which the rates were smoothed; its row t makes sample t |
    | filtered | time, time | F / alpha, smoothed: column s is the response to d[s] |
    """

    kappa: Array
    z: Array
    v: Array
    seen: Array
    smoother: Array
    filtered: Array

    def part(self, which: Array) -> Latents:
        """Some of the conditions."""
        kappa, z, v, seen = (field[which] for field in self[:4])
        return self._replace(kappa=kappa, z=z, v=v, seen=seen)

    def regressors(self, recurrent: bool) -> Array:
        """What the latents are regressed on, (condition, time, any)."""
        return np.concatenate([self.z, self.v], axis=2) if recurrent else self.v


class Prior(NamedTuple):
    """Covariances over time: the share of the noise that passes the filter, and K of the unknown input, or None.

    ``length`` is that of K in bins; NaN for a sparse one, or none.
    """

    process: float
    course: Array | None
    length: float = np.nan


class Solution(NamedTuple):
    """A regression: its log marginal likelihood, coefficients of (z, v), their covariance over Sigma, and Sigma."""

    value: float
    prior: Prior
    coefficients: Array
    spread: Array
    noise: Array


# ---------------------------------------------------------------------------------------------------------------------
# Latents


def latents_of(
    x: Array, v: Array, used: Array, rank: int, alpha: float, hidden: int, seed: int, phi: str, smoothing: float
) -> tuple[Latents, Array]:
    """The latents of condition means x (condition, time, neuron), and m (neuron, rank).

    m are the principal axes of what the filtered known inputs v leave in the conditions ``used``. Where the network has
    unknown inputs too, these span the same space as m of the network, and the weights of the known inputs differ from
    those of the network by a part that m spans. Hidden units are random features of the latents.
    """
    seen = ~np.isnan(x).all(axis=2)
    filled = fill(x, None, v, alpha, phi).astype(float)
    rows = seen & used[:, None]
    m, _, w = factors(random_features(filled[rows][None], v[rows][None], rank, hidden, seed))
    n = x.shape[2]
    kappa = (filled - v @ w[:n].T) @ pseudo_inverse(m[:n], None) * seen[..., None]
    z = features(kappa @ m.T + v @ w.T, alpha, phi)
    flat = z[rows]
    power, axes = np.linalg.eigh(flat.T @ flat)
    kept = power > KEPT * power[-1]
    z = z @ axes[:, kept] / np.sqrt(power.sum() / len(power))
    size = np.sqrt((v[rows] ** 2).sum(axis=0))
    moving = size > 0
    known = v[..., moving] / size[moving]
    smoother = smoother_of(x.shape[1], smoothing)
    return Latents(kappa, z, known, seen, smoother, smoother @ response(x.shape[1], alpha)), m[:n]


def smoother_of(n_times: int, sd: float) -> Array:
    """The matrix that smooths with a Gaussian of this standard deviation in bins, (time, time)."""
    return gaussian_filter1d(np.eye(n_times), sd, axis=0, mode="nearest") if sd > 0 else np.eye(n_times)


def response(n_times: int, alpha: float) -> Array:
    """The latents that d gives, (time, time): kappa[t] = sum over s < t of (1 - alpha)^(t - 1 - s) d[s]."""
    gap = np.subtract.outer(np.arange(n_times), np.arange(n_times)) - 1.0
    return np.where(gap >= 0, (1 - alpha) ** np.maximum(gap, 0), 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# Regression


def total_covariance(latents: Latents, prior: Prior) -> Array:
    """C, of mean variance 1, and what d adds to it, (time, time)."""
    filtered = latents.filtered
    own = latents.smoother @ latents.smoother.T + JITTER_OF_MEANS * np.eye(len(filtered))
    inside = filtered @ filtered.T
    noise = (1 - prior.process) * own / np.diag(own).mean() + prior.process * inside / np.diag(inside).mean()
    return noise if prior.course is None else noise + filtered @ prior.course @ filtered.T


def solve(latents: Latents, prior: Prior, recurrent: bool) -> Solution:
    """The regression under a prior, with the ridge of largest marginal likelihood."""
    (y, x), log_det = _whitened(latents, total_covariance(latents, prior), recurrent)
    n_known = latents.v.shape[2]
    z, v = x[:, : x.shape[1] - n_known], x[:, x.shape[1] - n_known :]
    count, rank = y.shape
    root = np.linalg.cholesky(v.T @ v + np.eye(n_known) / KNOWN_VARIANCE)
    log_det += 2 * np.log(np.diag(root)).sum() + n_known * np.log(KNOWN_VARIANCE)
    on_z, on_y = (solve_triangular(root, v.T @ one, lower=True) for one in (z, y))
    power, axes = np.linalg.eigh(z.T @ z - on_z.T @ on_z)
    power = np.maximum(power, 0)
    rotated, left = axes.T @ (z.T @ y - on_z.T @ on_y), y.T @ y - on_y.T @ on_y
    best = -np.inf, 1.0, left
    for ridge in RIDGES:
        noise = (left - (rotated.T / (power + ridge)) @ rotated) / count
        value = -0.5 * count * (np.linalg.slogdet(noise)[1] + rank * (1 + LOG_2PI))
        value -= 0.5 * rank * (log_det + np.log1p(power / ridge).sum())
        if value > best[0]:
            best = float(value), float(ridge), noise
    value, ridge, noise = best
    penalty = np.concatenate([np.full(z.shape[1], ridge), np.full(n_known, 1 / KNOWN_VARIANCE)])
    spread = np.linalg.inv(x.T @ x + np.diag(penalty))
    return Solution(value, prior, spread @ (x.T @ y), spread, noise)


def _whitened(latents: Latents, covariance: Array, recurrent: bool) -> tuple[list[Array], float]:
    """Rows of kappa and of the regressors of which the noise is white, and the log determinant for a column."""
    rows: tuple[list[Array], list[Array]] = ([], [])
    log_det = 0.0
    for seen, which in _patterns(latents.seen):
        root = cholesky(covariance[np.ix_(seen, seen)], lower=True)
        log_det += 2 * len(which) * float(np.log(np.diag(root)).sum())
        inverse = solve_triangular(root, np.eye(len(root)), lower=True)
        for out, values in zip(rows, (latents.kappa, latents.regressors(recurrent)), strict=True):
            out.append((inverse @ values[which][:, seen]).reshape(len(which) * len(root), values.shape[2]))
    return [np.concatenate(one) for one in rows], log_det


def _patterns(seen: Array) -> Iterator[tuple[Array, Array]]:
    """Conditions with the same observed samples: their mask over time, and which they are."""
    patterns, member = np.unique(seen, axis=0, return_inverse=True)
    for k, pattern in enumerate(patterns):
        if pattern.any():
            yield pattern, np.flatnonzero(member.ravel() == k)


def best_solution(latents: Latents, recurrent: bool, unknown: bool, sparse: bool) -> Solution:
    """The regression with the prior of largest marginal likelihood."""
    if not unknown:
        found = (solve(latents, Prior(share, None), recurrent) for share in PROCESS_SHARES)
        return max(found, key=lambda one: one.value)
    n_times, filtered = len(latents.filtered), latents.filtered
    lengths = np.maximum(1.0, n_times * np.array(LENGTHS))
    shapes = [smooth_covariance(n_times, length) for length in lengths]
    shapes = [one / np.diag(filtered @ one @ filtered.T).mean() for one in shapes]

    def prior(share: int, length: int, size: int) -> Prior:
        return Prior(PROCESS_SHARES[share], SIZES[size] * shapes[length], float(lengths[length]))

    sizes = len(PROCESS_SHARES), len(lengths), len(SIZES)
    start = 1, len(lengths) // 2, len(SIZES) // 2
    place = climb(lambda *at: solve(latents, prior(*at), recurrent).value, sizes, start)
    if not sparse:
        return solve(latents, prior(*place), recurrent)
    return _sparse_solution(latents, prior(*place), recurrent)


def _sparse_solution(latents: Latents, start: Prior, recurrent: bool) -> Solution:
    """The regression with a variance of each time, from the mean variance of a smooth prior."""
    assert start.course is not None

    def of(variance: Array) -> Prior:
        return Prior(start.process, np.diag(variance))

    def moments(variance: Array) -> tuple[Array, Array]:
        solution = solve(latents, of(variance), recurrent)
        d, spread = courses_of(latents, solution, recurrent)
        squares = np.einsum("gtr,rs,gts->t", d, np.linalg.inv(solution.noise), d) / (d.shape[2] * len(d))
        return squares, spread.mean(axis=0)

    # a variance in one bin drives the latents less than a smooth course of the same variance does
    first = np.full(len(latents.filtered), np.diag(start.course).mean() * max(1.0, start.length))
    return solve(latents, of(relevances(moments, first, RELEVANCE_ROUNDS)), recurrent)


# ---------------------------------------------------------------------------------------------------------------------
# What a regression says of conditions


def evidence_of(latents: Latents, solution: Solution, recurrent: bool) -> Array:
    """Log probability of each condition under a regression on others, (condition); d, n and beta integrated out."""
    covariance = total_covariance(latents, solution.prior)
    x, rank = latents.regressors(recurrent), latents.kappa.shape[2]
    value, root = np.zeros(len(x)), np.linalg.cholesky(solution.noise)
    for g, seen in enumerate(latents.seen):
        own = x[g, seen]
        factor = cholesky(covariance[np.ix_(seen, seen)] + own @ solution.spread @ own.T, lower=True)
        off = solve_triangular(factor, latents.kappa[g, seen] - own @ solution.coefficients, lower=True)
        off = solve_triangular(root, off.T, lower=True)
        logs = rank * np.log(np.diag(factor)).sum() + len(own) * np.log(np.diag(root)).sum()
        value[g] = -0.5 * (off**2).sum() - logs - 0.5 * off.size * LOG_2PI
    return value


def courses_of(latents: Latents, solution: Solution, recurrent: bool) -> tuple[Array, Array]:
    """d (condition, time, rank), and its variance over Sigma (condition, time), which holds what n leaves open."""
    course, x = solution.prior.course, latents.regressors(recurrent)
    assert course is not None
    covariance, onto = total_covariance(latents, solution.prior), course @ latents.filtered.T
    d, spread = np.zeros(latents.kappa.shape), np.zeros(latents.kappa.shape[:2])
    for g, seen in enumerate(latents.seen):
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], onto[:, seen].T).T
        d[g] = gain @ (latents.kappa[g, seen] - x[g, seen] @ solution.coefficients)
        through = gain @ x[g, seen]
        own = np.diag(course) - np.einsum("ts,ts->t", gain, onto[:, seen])
        spread[g] = own + np.einsum("ti,ij,tj->t", through, solution.spread, through)
    return d, np.maximum(spread, 0)
