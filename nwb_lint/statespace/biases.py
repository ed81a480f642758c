"""Biases of the recorded units, by Levenberg-Marquardt steps on samples of the latents.

With F = phi(x), P = phi'(x) of the recorded units and C = alpha n / N, the error of a step is E = target - F C. n is
solved for every b (variable projection), so that the Gauss-Newton matrix of b is (P'P - P'F (F'F + ridge)⁻¹ F'P) times,
element by element, C Q⁻¹ C'.

References
----------
Golub & Pereyra, Inverse Problems 19 (2003): variable projection; Kaufman, BIT 15 (1975): its approximation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.statespace.system import System, Trials, context_of, feature_type
from nwb_lint.statespace.tuning import BIAS_DAMPING, BIAS_PRECISION, BLOCK_VALUES


class Slopes(NamedTuple):
    """Sums over samples: F'F, P'F, P'P, F'T, P'T and T'T of features, slopes and targets, and the number of samples."""

    features: Array
    mixed: Array
    slopes: Array
    targets_features: Array
    targets_slopes: Array
    targets: Array
    number: float


class Profile(NamedTuple):
    """The best n for some biases: C = alpha n / N, Q, and minus the log posterior of the biases."""

    coefficients: Array
    noise: Array
    value: float


def slopes_of(system: System, trials: Trials, drawn: Array) -> Slopes:
    """The sums for samples of the latents (draw, trial, time, rank)."""
    n, phi, dtype = system.n_neurons, nonlinearity_of(system.nonlinearity), feature_type(system)
    size = max(1, BLOCK_VALUES // (len(system.m) * drawn.shape[2] * len(drawn)))
    total: list[Array] = []
    for first in range(0, drawn.shape[1], size):
        block = slice(first, first + size)
        lag, kappa, context = trials.lag[block], drawn[:, block], context_of(system, trials.part(block))
        x: Array = (kappa[:, :, :-1].astype(dtype) @ system.m.T.astype(dtype) + context.features)[:, lag]
        x = x.reshape(-1, len(system.m))
        f = phi.phi(x)
        p = phi.slope(x[:, :n], f[:, :n])
        t: Array = (
            (kappa[:, :, 1:] - (1 - system.alpha) * kappa[:, :, :-1])[:, lag].reshape(-1, system.rank).astype(dtype)
        )
        sums = [f.T @ f, p.T @ f, p.T @ p, f.T @ t, p.T @ t, t.T @ t]
        total = sums if not total else [a + b for a, b in zip(total, sums, strict=True)]
    f, pf, p, ft, pt, t = (one.astype(float) / len(drawn) for one in total)
    return Slopes(f, pf, p, ft, pt, t, float(trials.lag.sum()))


def profile(sums: Slopes, bias: Array, ridge: float) -> Profile:
    """n by ridge regression, Q from its residual, and the objective."""
    inner = sums.features + ridge * np.trace(sums.features) / len(sums.features) * np.eye(len(sums.features))
    coefficients = np.linalg.solve(inner, sums.targets_features)
    mixed = coefficients.T @ sums.targets_features
    noise = sums.targets - mixed - mixed.T + coefficients.T @ inner @ coefficients
    noise = noise / sums.number + 1e-12 * np.eye(len(noise))
    value = 0.5 * sums.number * np.linalg.slogdet(noise)[1] + 0.5 * BIAS_PRECISION * (bias**2).sum()
    return Profile(coefficients, noise, float(value))


def bias_step(system: System, trials: Trials, drawn: Array, ridge: float, steps: int) -> System:
    """The system with other biases of the recorded units, and levels that keep the observations as they are.

    A step that does not make the samples more probable is shortened, and at last not taken.
    """
    n = system.n_neurons
    sums = slopes_of(system, trials, drawn)
    at, damping = profile(sums, system.bias[:n], ridge), BIAS_DAMPING[0]
    for _ in range(steps):
        step = None
        while damping < BIAS_DAMPING[1]:
            step = _step(sums, at, system.bias[:n], ridge, damping)
            tried = _moved(system, step)
            new_sums = slopes_of(tried, trials, drawn)
            new = profile(new_sums, tried.bias[:n], ridge)
            if new.value < at.value:
                gain = at.value - new.value
                system, sums, at, damping = tried, new_sums, new, max(damping / 10, BIAS_DAMPING[0])
                break
            damping, step = 10 * damping, None
        if step is None or gain < 1:
            break
    return system


def _step(sums: Slopes, at: Profile, bias: Array, ridge: float, damping: float) -> Array:
    """The Levenberg-Marquardt step of the biases."""
    n = len(bias)
    inner = sums.features + ridge * np.trace(sums.features) / len(sums.features) * np.eye(len(sums.features))
    left = sums.slopes - sums.mixed @ np.linalg.solve(inner, sums.mixed.T)
    own, precision = at.coefficients[:n], np.linalg.inv(at.noise)
    hessian = left * (own @ precision @ own.T)
    error = sums.targets_slopes - sums.mixed @ at.coefficients
    slope = (error * (own @ precision)).sum(axis=1) - BIAS_PRECISION * bias
    size = np.diag(hessian) + BIAS_PRECISION
    return np.linalg.solve(hessian + BIAS_PRECISION * np.eye(n) + damping * np.diag(size), slope)


def _moved(system: System, step: Array) -> System:
    bias = system.bias.copy()
    bias[: len(step)] += step
    return system._replace(bias=bias, level=system.level - step)
