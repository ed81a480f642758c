"""Gaussian priors on the time course of unknown inputs, and how their hyperparameters are found.

A course has the covariance K (time, time) relative to that of the noise. Smooth courses: K is a squared exponential of
some length and amplitude. Sparse courses: K is diagonal, with a variance of each time that the conditions share, so
that inputs act at few times (automatic relevance determination).

References
----------
Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and 5. MacKay, Neural Computation 4
(1992): the fixed point of the variances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array
from nwb_lint.statespace.unknown_inputs.tuning import AMPLITUDES, LENGTHS, RELEVANCE_ROUNDS, SPARSE_START

JITTER = 1e-8  # of the diagonal of a covariance over time
LEAST_VARIANCE = 1e-10  # of a time at which no input acts, relative to the noise


class Course(NamedTuple):
    """A prior: K (time, time), its length in bins (NaN for a sparse one), and its mean variance."""

    covariance: Array
    length: float
    amplitude: float


def smooth_covariance(n_times: int, length: float) -> Array:
    """Covariance of a smooth course of variance 1, (time, time): a squared exponential of a length in bins."""
    gap = np.subtract.outer(np.arange(n_times), np.arange(n_times)) / length
    return np.exp(-0.5 * gap**2) + JITTER * np.eye(n_times)


def climb(value: Callable[..., float], sizes: Sequence[int], start: Sequence[int]) -> tuple[int, ...]:
    """The place on a grid from which no step along one axis raises a value, from a start; each place is tried once."""
    known: dict[tuple[int, ...], float] = {}

    def at(place: tuple[int, ...]) -> float:
        if place not in known:
            known[place] = value(*place)
        return known[place]

    here, moved = tuple(start), True
    while moved:
        moved = False
        for axis, size in enumerate(sizes):
            for step in (1, -1):
                while 0 <= here[axis] + step < size:
                    there = (*here[:axis], here[axis] + step, *here[axis + 1 :])
                    if at(there) <= at(here):
                        break
                    here, moved = there, True
    return here


def relevances(moments: Callable[[Array], tuple[Array, Array]], start: Array, rounds: int) -> Array:
    """Variances of sparse courses at each time, by MacKay's fixed point, from a start (time).

    ``moments(variances)`` gives, at each time, the mean squares of the course over groups and latents, relative to the
    noise, and the mean of its posterior variance.
    """
    variance = start
    for _ in range(rounds):
        power, spread = moments(variance)
        known = np.clip(1 - spread / variance, 1e-3, 1)
        variance = np.maximum(power / known, LEAST_VARIANCE)
    return variance


def best_course(
    n_times: int, sparse: bool, value: Callable[[Array], float], moments: Callable[[Array], tuple[Array, Array]]
) -> Course:
    """The smooth prior of largest ``value(K)``, a log marginal likelihood; or the fixed point of a sparse one."""
    if sparse:
        found = relevances(moments, np.full(n_times, SPARSE_START), RELEVANCE_ROUNDS)
        return Course(np.diag(found), np.nan, float(found.mean()))
    lengths = np.maximum(1.0, n_times * np.array(LENGTHS))
    shapes = [smooth_covariance(n_times, length) for length in lengths]
    start = len(lengths) // 2, len(AMPLITUDES) // 2
    length, amplitude = climb(
        lambda length, amplitude: value(AMPLITUDES[amplitude] * shapes[length]), (len(lengths), len(AMPLITUDES)), start
    )
    return Course(AMPLITUDES[amplitude] * shapes[length], float(lengths[length]), float(AMPLITUDES[amplitude]))
