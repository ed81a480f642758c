"""The regression of the dynamics of single trials with the unknown inputs of their conditions integrated out.

    targets[k, t] = c' features[k, t] + d[g(k), t] + eps[k, t],   eps ~ N(0, Q),   d[g] ~ N(0, K ⊗ Q)

The trials k of a group g, such as a condition, share d (group, time, rank). All latents then have the same weights:
with N_g the number of trials of a group at each time and S_g sums over its trials, d given c has the mean
M_g (S_g(targets) - S_g(features) c) and the covariance M_g ⊗ Q, where M_g = (K⁻¹ + N_g)⁻¹. With d integrated out, the
sum of products of two variables a and b is sum a'b - sum_g S_g(a)' M_g S_g(b).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from nwb_lint.model.network import Array
from nwb_lint.statespace.unknown_inputs.priors import Course, best_course
from nwb_lint.statespace.unknown_inputs.tuning import KEPT, KNOWN_POWER


class GroupSums(NamedTuple):
    """Sums over the trials of each group.

    | field | dims | |
    |---|---|---|
    | number | group, time | trials whose step at this time is observed |
    | features | group, time, unit | |
    | targets | group, time, rank | |
    | linear | group, time, coefficient | 1, v and kappa |
    | known | group, time, input | what known inputs add to v in a step |
    | known_squares, known_by_features, known_by_targets | input, … | products of known, over all trials |
    """

    number: Array
    features: Array
    targets: Array
    linear: Array
    known: Array
    known_squares: Array
    known_by_features: Array
    known_by_targets: Array


class Integrated(NamedTuple):
    """What integrating d out needs: M_g (group, time, time), and the sum of log det(1 + K N_g)."""

    weights: Array
    log_det: float

    @classmethod
    def of(cls, course: Array, number: Array) -> Integrated:
        """From K (time, time) and the number of trials N_g (group, time)."""
        weights, log_det = np.empty((*number.shape, number.shape[1])), 0.0
        for g, root in enumerate(np.sqrt(number)):
            inner = cho_factor(np.eye(len(root)) + root[:, None] * course * root, lower=True)
            weights[g] = course - (course * root) @ cho_solve(inner, root[:, None] * course)
            log_det += 2 * float(np.log(np.diag(inner[0])).sum())
        return cls(weights, log_det)

    def removed(self, a: Array, b: Array) -> Array:
        """sum_g S_g(a)' M_g S_g(b), from sums over trials (group, time, any)."""
        found: Array = np.tensordot(a, np.matmul(self.weights, b), axes=([0, 1], [0, 1]))
        return found


class Solved(NamedTuple):
    """A regression with d integrated out.

    Its log marginal likelihood; the coefficients of the known inputs (input, rank); and of d at each time the mean
    squares relative to Q, and the variance over Q.
    """

    value: float
    known: Array
    squares: Array
    spread: Array


class Problem(NamedTuple):
    """A regression on the principal directions of its features, and on known inputs, which hardly have a ridge.

    features², features × targets, targets² and their number; the sums over groups along the same directions; the unit
    of the ridges; and what known inputs were multiplied by (input).
    """

    features: Array
    cross: Array
    targets: Array
    number: float
    sums: GroupSums
    unit: float
    scale: Array

    @classmethod
    def of(cls, features: Array, cross: Array, targets: Array, number: float, sums: GroupSums) -> Problem:
        """From the moments of all features, (unit, unit), (unit, rank) and (rank, rank)."""
        power, axes = np.linalg.eigh(features)
        axes = axes[:, power > KEPT * max(power[-1], 1e-300)] if len(power) else axes
        unit = float(power.sum()) / len(power) if len(power) else float(np.trace(targets)) / len(targets)
        size = np.sqrt(np.diag(sums.known_squares))
        scale = np.divide(np.sqrt(KNOWN_POWER * unit), size, out=np.zeros_like(size), where=size > 0)
        along = scale[:, None] * sums.known_by_features @ axes
        whole = np.block([[axes.T @ features @ axes, along.T], [along, np.outer(scale, scale) * sums.known_squares]])
        reduced = sums._replace(features=np.concatenate([sums.features @ axes, scale * sums.known], axis=2))
        both = np.concatenate([axes.T @ cross, scale[:, None] * sums.known_by_targets])
        return cls(whole, both, targets, number, reduced, unit, scale)

    def solve(self, course: Array, ridges: Array) -> Solved:
        """The regression under a prior K of d (time, time), with the ridge of largest marginal likelihood."""
        integrated, sums = Integrated.of(course, self.sums.number), self.sums
        left = self.targets - integrated.removed(sums.targets, sums.targets)
        rank, best = len(left), (-np.inf, left, 1.0)
        power, axes = np.linalg.eigh(self.features - integrated.removed(sums.features, sums.features))
        power = np.maximum(power, 0)
        rotated = axes.T @ (self.cross - integrated.removed(sums.features, sums.targets))
        for ridge in ridges * self.unit:
            noise = (left - (rotated.T / (power + ridge)) @ rotated) / self.number
            value = -0.5 * self.number * np.linalg.slogdet(noise)[1] - 0.5 * rank * np.log1p(power / ridge).sum()
            if value > best[0]:
                best = value, noise, ridge
        value, noise, ridge = best
        coefficients = rotated / (power + ridge)[:, None]
        along = sums.features @ axes
        d = integrated.weights @ (sums.targets - along @ coefficients)
        through = integrated.weights @ along
        spread = np.einsum("gtt->t", integrated.weights) + ((through**2) / (power + ridge)).sum(axis=(0, 2))
        squares = np.einsum("gtr,rs,gts->t", d, np.linalg.inv(noise), d) / rank
        known = self.scale[:, None] * (axes @ coefficients)[len(power) - len(self.scale) :]
        return Solved(value - 0.5 * rank * integrated.log_det, known, squares / len(d), spread / len(d))

    def course(self, sparse: bool, ridges: Array) -> Course:
        """The prior of d of largest marginal likelihood."""
        n_times = self.sums.number.shape[1]
        return best_course(
            n_times,
            sparse,
            lambda course: self.solve(course, ridges).value,
            lambda variance: self.solve(np.diag(variance), ridges)[2:],
        )
