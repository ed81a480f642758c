"""Sums over the trials of each group, and the regression with unknown inputs that they make."""

from __future__ import annotations

from typing import Any

import numpy as np

from nwb_lint.model.network import Array, phi_of
from nwb_lint.parallel.arrays import cast
from nwb_lint.statespace.system import Batches, System, context_of, design_of, moment_type
from nwb_lint.statespace.unknown_inputs.regression import GroupSums, Problem


def group_sums(system: System, data: Batches, drawn: Array, recurrent: bool) -> GroupSums:
    """Sums over the trials of each group of unknown inputs, means over the draws."""
    cells, lag, phi = data.trials.cell, data.trials.lag, phi_of(system.nonlinearity, drawn).phi
    assert system.unknown is not None
    assert cells is not None
    n_groups, n_steps = system.unknown.shape[:2]
    known = known_steps(data.trials.v, system.alpha, recurrent) * lag[..., None]
    n_units, n_known = len(system.m), known.shape[2]
    widths = n_units, system.rank, 1 + data.trials.v.shape[2] + system.rank, n_known
    totals = [np.zeros((n_groups, n_steps, width)) for width in widths]
    by_features, by_targets, dtype = np.zeros((n_known, n_units)), np.zeros((n_known, system.rank)), moment_type(system)

    def work(block: slice) -> tuple[Array, ...]:
        part, kappa = data.trials.part(block), drawn[:, block]
        context, seen = context_of(system, part), part.lag[..., None]
        x = cast(kappa[:, :, :-1], dtype) @ cast(context.loadings, dtype) + cast(context.features, dtype)
        target = kappa[:, :, 1:] - (1 - system.alpha) * kappa[:, :, :-1]
        z = design_of(part._replace(basis=None), kappa)[:, :, :-1]
        return tuple(one.mean(axis=0) * seen for one in (phi(x), target, z))

    for block, found in data.map(work, len(drawn) * n_units):
        for total, values in zip(totals, (*found, known[block]), strict=True):
            np.add.at(total, cells[block], values)
        by_features += np.tensordot(known[block], found[0], axes=([0, 1], [0, 1]))
        by_targets += np.tensordot(known[block], found[1], axes=([0, 1], [0, 1]))
    number = np.stack([lag[cells == g].sum(axis=0) for g in range(n_groups)]).astype(float)
    squares = np.tensordot(known, known, axes=([0, 1], [0, 1]))
    features, targets, linear, own = totals
    return GroupSums(number, features, targets, linear, own, squares, by_features, by_targets)


def known_steps(v: Array, alpha: float, recurrent: bool) -> Array:
    """What the known inputs add to v in each step, alpha u, (trial, time - 1, input).

    Where n is 0, a constant input is one of them, the last: the levels of the neurons have its effect too.
    """
    steps: Array = v[:, 1:] - (1 - alpha) * v[:, :-1]
    return steps if recurrent else np.concatenate([steps, np.full_like(steps[..., :1], alpha)], axis=2)


def problem_of(sums: GroupSums, moments: Any, recurrent: bool) -> Problem:
    """The regression of the steps on features, unless n is 0, and on known and unknown inputs.

    ``moments`` are those of all trials, `nwb_lint.statespace.learning.steps.Moments`.
    """
    features, cross = moments.features, moments.cross
    if not recurrent:
        features, cross = features[:0, :0], cross[:0]
        sums = sums._replace(features=sums.features[..., :0], known_by_features=sums.known_by_features[:, :0])
    return Problem.of(features, cross, moments.targets, moments.number, sums)
