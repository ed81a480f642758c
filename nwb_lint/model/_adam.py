"""Epochs of Adam on batches of conditions; beside `_torch` the only room that imports torch. Arrays in, arrays out."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch

from nwb_lint.model._torch import Problem
from nwb_lint.model.gradient import small

Array = np.ndarray

BATCH = 32  # conditions of a step
FEWEST = 4  # steps of an epoch


def part_of(problem: Problem, conditions: Array) -> Problem:
    """The problem of some of its conditions, its loss a mean like the whole one's."""
    part, pick = copy(problem), torch.as_tensor(conditions, device=problem.device)
    part.q, part.y = problem.q[:, pick], problem.y[:, pick]
    part.weight = None if problem.weight is None else problem.weight[:, pick]
    part.norm = problem.norm * len(conditions) / problem.q.shape[1]
    return part


def begin(m: Array, n: Array, w: Array) -> tuple[Array, ...]:
    """The state of Adam before its first step: parameters, their first and second moments, steps."""
    nothing = [np.zeros_like(p, dtype=float) for p in (m, n, w)]
    return m.astype(float), n.astype(float), w.astype(float), *nothing, *nothing, np.zeros(1)


def epoch(problem: Problem, *state: Array, rate: float, order: Array, l2_n: float) -> tuple[Any, ...]:
    """The mean loss of an epoch, and the state after it (see `begin`); NaN, and the state before, where it diverges.

    ``rate`` is in units of each parameter array's root mean square, so that Adam's equal steps suit them all.
    """
    parameters = [torch.as_tensor(p.copy()).requires_grad_() for p in state[:3]]
    sizes = [max(float(np.sqrt(np.mean(p * p))), 1e-12) for p in state[:3]]
    groups = [{"params": [p], "lr": rate * size} for p, size in zip(parameters, sizes, strict=True)]
    adam, steps = torch.optim.Adam(groups), float(state[9][0])
    for p, first, second in zip(parameters, state[3:6], state[6:9], strict=True):
        told = {"exp_avg": torch.as_tensor(first.copy()), "exp_avg_sq": torch.as_tensor(second.copy())}
        if steps:
            adam.state[p] = {"step": torch.tensor(steps), **told}
    total = 0.0
    for pick in np.array_split(order, min(len(order), max(FEWEST, len(order) // BATCH))):
        loss, *gradients = small(part_of(problem, pick).loss_and_gradient, l2_n)(
            *(p.detach().numpy() for p in parameters)
        )
        if not (np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)):
            return np.nan, *state
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = torch.as_tensor(np.ascontiguousarray(gradient))
        adam.step()
        total += loss * len(pick) / len(order)
    moments = [[adam.state[p][name].numpy() for p in parameters] for name in ("exp_avg", "exp_avg_sq")]
    steps = float(adam.state[parameters[0]]["step"])
    return total, *(p.detach().numpy() for p in parameters), *moments[0], *moments[1], np.array([steps])
