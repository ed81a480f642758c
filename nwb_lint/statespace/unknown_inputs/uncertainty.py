"""Unknown inputs of single trials by their observed information, with standard errors.

J_k, the information of trial k on a shift of its steps, is Q⁻¹ - Q⁻¹ cov(e_k | data) Q⁻¹, with e_k the steps minus
their prediction (Louis 1982). Around the present d, the log likelihood of the inputs of a group is quadratic: its
curvature J_g is the sum of J_k, and its linear part is b_g = J_g d + sum Q⁻¹ mean(e_k). So the prior of largest
evidence, and d under it, need no further posterior of the latents. All is linearized at their mean.

What n leaves open: the information on the coefficients c of the features and on d is a sum over trials of products of
features with J_k. The covariance of d is that of the joint posterior of d and c, so that what recurrence could explain
as well makes it wide.

References
----------
Louis, J. R. Statist. Soc. B 44 (1982): the observed information when using the EM algorithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.model.network import Array
from nwb_lint.statespace.smoother import smooth
from nwb_lint.statespace.system import (
    Batches,
    System,
    context_of,
    features_of,
    next_latent,
    transition_matrices,
)
from nwb_lint.statespace.tuning import LINEAR_RIDGE
from nwb_lint.statespace.unknown_inputs.priors import Course, best_course
from nwb_lint.statespace.unknown_inputs.sums import known_steps
from nwb_lint.statespace.unknown_inputs.tuning import KEPT, LINEAR_VARIANCE


class Information(NamedTuple):
    """Information on d, (group, step · rank, …), and on the coefficients c of the features along some directions.

    J_g; b_g; the information on c; and that across c and d_g, (group, direction · rank, step · rank).
    """

    of_d: Array
    linear: Array
    of_c: Array
    across: Array

    def course(self, noise: Array, sparse: bool) -> Course:
        """The prior of d of largest evidence, relative to the noise Q."""
        rank = len(noise)
        n_groups, size = self.linear.shape
        precision = np.linalg.inv(noise)

        def value(course: Array) -> float:
            whole, total = np.kron(course, noise), 0.0
            for j, b in zip(self.of_d, self.linear, strict=True):
                inner = np.eye(size) + whole @ j
                total += 0.5 * b @ np.linalg.solve(inner, whole @ b) - 0.5 * np.linalg.slogdet(inner)[1]
            return float(total)

        def moments(variance: Array) -> tuple[Array, Array]:
            d, inside = self.posterior(np.diag(variance), noise)
            squares = np.einsum("gtr,rs,gts->t", d, precision, d) / rank
            blocks = inside.reshape(n_groups, size // rank, rank, size // rank, rank)
            return squares / n_groups, np.einsum("gtrts,rs->t", blocks, precision) / (rank * n_groups)

        return best_course(size // rank, sparse, value, moments)

    def posterior(self, course: Array, noise: Array) -> tuple[Array, Array]:
        """d (group, step, rank) under a prior, and its covariance for a known n, (group, step · rank, step · rank)."""
        whole = np.kron(course, noise)
        inside = np.linalg.solve(np.eye(len(whole)) + whole @ self.of_d, whole[None])  # (K⁻¹ ⊗ Q⁻¹ + J)⁻¹
        d = (inside @ self.linear[..., None])[..., 0]
        return d.reshape(len(d), -1, len(noise)), inside

    def errors(self, course: Array, noise: Array) -> Array:
        """Standard errors of d (group, step, rank), with what the uncertainty of c adds."""
        inside = self.posterior(course, noise)[1]
        through = inside @ np.swapaxes(self.across, 1, 2)
        n_directions = len(self.of_c) // len(noise)
        rest = self.of_c + np.kron(np.eye(n_directions), np.linalg.inv(noise)) - (self.across @ through).sum(axis=0)
        added = np.einsum("gti,ij,gtj->gt", through, np.linalg.inv(rest), through)
        spread = np.einsum("gtt->gt", inside) + added
        errors: Array = np.sqrt(np.maximum(spread, 0)).reshape(len(spread), -1, len(noise))
        return errors


def information_of(system: System, data: Batches, mean: Array, covariance: Array, prior: Array) -> Information:
    """The information of all trials.

    Parameters
    ----------
    system, data : System, Batches
        With unknown inputs.
    mean, covariance : array of shape (trial, time, rank), (trial, time, rank, rank)
        The posterior of the latents.
    prior : array of shape (unit, direction)
        Square root of the prior covariance of the coefficients over Q, from `prior_root`; without a direction where n
        is 0.
    """
    unknown, cells = system.unknown, data.trials.cell
    assert unknown is not None
    assert cells is not None
    n_groups, n_steps, rank = unknown.shape
    known = np.sqrt(LINEAR_VARIANCE) * known_steps(data.trials.v, system.alpha, prior.shape[1] > 0)
    size, n_c = n_steps * rank, (prior.shape[1] + known.shape[2]) * rank
    of_d, linear = np.zeros((n_groups, size, size)), np.zeros((n_groups, size))
    of_c, across = np.zeros((n_c, n_c)), np.zeros((n_groups, n_c, size))
    precision = np.linalg.inv(system.noise)
    # one trial needs as much as `size` samples of it
    for block, (each, features, step) in data.map(
        lambda block: _of_trials(system, data, block, mean, covariance, prior), n_steps * rank**2
    ):
        columns = np.concatenate([features, known[block]], axis=2)
        shifts = np.einsum("ktd,rs->ktsdr", columns, np.eye(rank)).reshape(len(each), size, n_c)
        products = np.swapaxes(shifts, 1, 2) @ each
        of_c += (products @ shifts).sum(axis=0)
        np.add.at(of_d, cells[block], each)
        np.add.at(across, cells[block], products)
        np.add.at(linear, cells[block], (step @ precision).reshape(len(each), size))
    linear += (of_d @ unknown.reshape(n_groups, size, 1))[..., 0]
    return Information(of_d, linear, of_c, across)


def _of_trials(
    system: System, data: Batches, block: slice, mean: Array, covariance: Array, prior: Array
) -> tuple[Array, Array, Array]:
    """J (trial, step · rank, step · rank), features along the directions, and mean steps (trial, step, …) of trials."""
    own, kappa = data.block(block), mean[block]
    factor = smooth(system, own, kappa, 0, covariance=covariance[block]).factor
    context = context_of(system, own, covariance[block])
    r, slope = features_of(system, kappa[:, :-1], context)
    moved = transition_matrices(system, slope, context.loadings)
    n_trials, n_times, rank = kappa.shape
    size = (n_times - 1) * rank
    spread = np.empty((n_times * rank, n_trials, n_times, rank))
    for k, one in enumerate(np.eye(n_times * rank).reshape(-1, n_times, rank)):
        spread[k] = factor.solve(np.broadcast_to(one, kappa.shape).copy())
    ahead = spread[:, :, 1:] - np.einsum("ktrs,akts->aktr", moved, spread[:, :, :-1])
    ahead = ahead.transpose(1, 2, 3, 0).reshape(n_trials, size, n_times, rank)
    steps = ahead[:, :, 1:] - np.einsum("ktrs,kats->katr", moved, ahead[:, :, :-1])
    precision = np.linalg.inv(system.noise)
    inner = (steps @ precision).reshape(n_trials, n_times - 1, rank, size)
    inner = np.einsum("rs,ktsa->ktra", precision, inner).reshape(n_trials, size, size)
    each = np.kron(np.eye(n_times - 1), precision) - 0.5 * (inner + np.swapaxes(inner, 1, 2))
    assert system.unknown is not None
    assert own.cell is not None
    e = kappa[:, 1:] - next_latent(system, kappa[:, :-1], r) - system.unknown[own.cell]
    return each, np.asarray(r, float) @ prior, e


def prior_root(features: Array, linear: Array, ridge: float) -> Array:
    """Square root of the prior covariance of the coefficients over Q, along the principal directions of the features.

    The prior is that of the regression of the dynamics: a ridge, and a linear part that is almost free.
    """
    n_units = len(features)
    unit = np.trace(features) / n_units
    part = np.linalg.solve(features + LINEAR_RIDGE * unit * np.eye(n_units), linear)
    power, axes = np.linalg.eigh(features)
    kept = axes[:, power > KEPT * power[-1]]
    inside = kept.T @ part
    covariance = np.eye(kept.shape[1]) / (ridge * unit) + LINEAR_VARIANCE * inside @ inside.T
    root: Array = kept @ np.linalg.cholesky(covariance)
    return root
