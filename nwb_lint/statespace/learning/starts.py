"""Where EM starts: first latents from principal components of smoothed activity, the first system, the best start."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.csgraph import connected_components

from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.network import Array
from nwb_lint.statespace.learning.iterations import learn
from nwb_lint.statespace.learning.steps import How, observation_step, reference_level
from nwb_lint.statespace.system import Batches, System, Trials
from nwb_lint.statespace.tuning import (
    ALIGNING_WAVES,
    HIDDEN_SIZES,
    REGRESSION_STEPS,
    START_ITERATIONS,
    START_RIDGES,
    START_TRIALS,
)


def first_latents(trials: Trials, rank: int, sd: float, poisson: bool, loadings: Array | None = None) -> Array:
    """Principal components of smoothed log counts, or values, with inputs partialled out, (trial, time, rank).

    With loadings (neuron, rank), their regression on these in place of principal components.
    """
    y, scale = smoothed(trials, sd, poisson)
    found = np.empty((*y.shape[:2], rank))
    sets = sets_without_common_neurons(trials.seen, y.shape)
    for chosen, neurons in sets:
        given = None if loadings is None else loadings[neurons]
        found[chosen] = _components(y[chosen][..., neurons], trials.v[chosen], scale[neurons], rank, given)
    return (
        found if len(sets) == 1 or loadings is not None else _aligned(found, trials.v, [chosen for chosen, _ in sets])
    )


def latents_of_behavior(trials: Trials, kappa: Array, choice: Array, sd: float, poisson: bool) -> Array:
    """First latents of which the leading ones are what predicts behavior linearly, the others those that are given.

    Smoothed activity, with inputs partialled out, is regressed on behavior by ridge regression; of a readout that is
    one observation a trial, its mean over the bins of the trial.
    """
    from sklearn.linear_model import RidgeCV

    assert trials.z is not None
    assert trials.z_weight is not None
    y, scale = smoothed(trials, sd, poisson)
    flat = _without_inputs(y, trials.v, scale)
    n_trials, n_times = y.shape[:2]
    found = []
    for k in range(len(choice)):
        weight = trials.z_weight[..., k]
        if _is_constant(trials.z[..., k], weight):
            use = weight.sum(axis=1) > 0
            share = weight[use] / weight[use].sum(axis=1, keepdims=True)
            x = np.einsum("kt,kti->ki", share, flat.reshape(y.shape)[use])
            z = (share * trials.z[use, :, k]).sum(axis=1)
        else:
            x, z = flat.reshape(y.shape)[weight > 0], trials.z[..., k][weight > 0]
        found.append(flat @ RidgeCV(START_RIDGES).fit(x, z).coef_)
    behavior, rank = np.column_stack(found), kappa.shape[2]
    others = kappa.reshape(n_trials * n_times, rank)
    left, values, _ = np.linalg.svd(behavior, full_matrices=False)
    leading = left[:, values > 1e-9 * max(values[0], 1e-300)][:, :rank]
    rest = others - leading @ (leading.T @ others)
    both = np.column_stack([leading, np.linalg.qr(rest)[0]])[:, :rank]
    return (both / np.maximum(both.std(axis=0), 1e-9)).reshape(n_trials, n_times, rank)


def _is_constant(z: Array, weight: Array) -> bool:
    """Whether behavior has one value a trial."""
    low, high = (pick(np.where(weight > 0, z, fill), axis=1) for pick, fill in ((np.min, np.inf), (np.max, -np.inf)))
    return bool((low[np.isfinite(low)] == high[np.isfinite(high)]).all())


def smoothed(trials: Trials, sd: float, poisson: bool) -> tuple[Array, Array]:
    """Smoothed log counts, or values, (trial, time, neuron), and what makes the noise of the neurons equal."""
    seen = np.ones(trials.y.shape, np.float32) if trials.seen is None else trials.seen.astype(np.float32)
    weight = gaussian_filter1d(seen, sd, axis=1, mode="constant")
    y = gaussian_filter1d(trials.y.astype(np.float32) * seen, sd, axis=1, mode="constant")
    mean = y.sum(axis=(0, 1)) / np.maximum(weight.sum(axis=(0, 1)), 1e-6)
    if poisson:
        prior = 0.5 / (1 + 2 * sd)
        y = np.log((y + prior * mean + 1e-6) / (weight + prior))
        scale = np.sqrt(mean)
    else:
        y = (y + 1e-3 * mean) / (weight + 1e-3)
        scale = 1 / np.maximum(y.reshape(-1, y.shape[2]).std(axis=0), 1e-6)
    return y, scale


def _components(y: Array, v: Array, scale: Array, rank: int, loadings: Array | None) -> Array:
    """Latents of unit variance, with inputs partialled out; components beyond the number of neurons are 0."""
    flat = _without_inputs(y, v, scale)
    if loadings is not None:
        left, _, right = np.linalg.svd(flat @ np.linalg.pinv(loadings * scale[:, None]).T, full_matrices=False)
        return (np.sqrt(len(left)) * left @ right).reshape(*y.shape[:2], rank)
    _, axes = np.linalg.eigh(flat.T @ flat)
    found = np.zeros((len(flat), rank))
    found[:, : y.shape[2]] = flat @ axes[:, ::-1][:, :rank]
    found /= np.maximum(found.std(axis=0), 1e-9)
    return found.reshape(*y.shape[:2], rank)


def _without_inputs(y: Array, v: Array, scale: Array) -> Array:
    """Smoothed activity (trial · time, neuron) with inputs partialled out, times the scale of each neuron."""
    flat: Array = y.reshape(-1, y.shape[2]).astype(float)
    design = np.column_stack([np.ones(len(flat)), v.reshape(len(flat), -1)])
    flat -= design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    flat *= scale
    return flat


def sets_without_common_neurons(seen: Array | None, shape: tuple[int, ...]) -> list[tuple[Array, Array]]:
    """Sets of trials, such as sessions, no two of which share a neuron: masks of their trials and of their neurons."""
    if seen is None:
        return [(np.ones(shape[0], bool), np.ones(shape[2], bool))]
    any_seen: Array = np.any(seen, axis=1)
    together = any_seen.T.astype(float) @ any_seen
    of_neuron = connected_components(together, directed=False)[1]
    of_trial = of_neuron[any_seen.argmax(axis=1)]
    return [(of_trial == k, of_neuron == k) for k in np.unique(of_trial)]


def _aligned(found: Array, v: Array, sets: list[Array]) -> Array:
    """The latents of each set, rotated so that all sets have the same linear dynamics.

    Sets have no neuron in common. What they share is kappa[t+1] = A' kappa[t] + B' z[t] + noise, where z are inputs and
    cosines of time. Set by set, beginning with the largest, the rotation is the one of largest likelihood of this
    regression in all sets so far.
    """
    n_times, rank = found.shape[1:]
    waves = np.cos(np.pi * np.arange(ALIGNING_WAVES) * (np.arange(n_times)[:, None] + 0.5) / n_times)
    z = np.concatenate([v, np.broadcast_to(waves, (len(v), *waves.shape))], axis=2)
    total = None
    for one in sorted(sets, key=np.sum, reverse=True):
        rows = np.concatenate([found[one, :-1], found[one, 1:], z[one, :-1]], axis=2).reshape(-1, 2 * rank + z.shape[2])
        own = rows.T @ rows
        turn = np.eye(rank) if total is None else _best_turn(own, total, rank)
        total = _turned(own, turn) + (0 if total is None else total)
        found[one] = found[one] @ turn
    return found


def _turned(moments: Array, turn: Array) -> Array:
    """Moments of (kappa[t], kappa[t+1], z[t]) after a rotation of kappa."""
    whole = block_diag(turn, turn, np.eye(len(moments) - 2 * len(turn)))
    return whole.T @ moments @ whole


def _best_turn(own: Array, total: Array, rank: int) -> Array:
    """The rotation or reflection of largest likelihood, by turns in planes of two latents, coarse to fine."""
    given, ahead = np.r_[:rank, 2 * rank : len(own)], slice(rank, 2 * rank)

    def residual(turn: Array) -> float:
        both = total + _turned(own, turn)
        cross = both[given, ahead]
        found = np.linalg.lstsq(both[np.ix_(given, given)], cross, rcond=None)[0]
        return float(np.linalg.slogdet(both[ahead, ahead] - cross.T @ found)[1])

    best, least = np.eye(rank), residual(np.eye(rank))
    for step in np.pi / 2.0 ** np.arange(7):
        turns, better = list(_plane_turns(rank, step)), True
        while better:
            better = False
            for turn in turns:
                if (value := residual(best @ turn)) < least - 1e-9:
                    best, least, better = best @ turn, value, True
    return best


def _plane_turns(rank: int, angle: float) -> Iterator[Array]:
    """Reflections of single latents, and rotations by ± the angle in each plane, with and without reflection."""
    for k in range(rank):
        yield np.diag(np.where(np.arange(rank) == k, -1.0, 1.0))
    for (i, j), sine in product(combinations(range(rank), 2), (np.sin(angle), -np.sin(angle))):
        turn = np.eye(rank)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -sine, sine
        yield turn
        yield turn * np.where(np.arange(rank) == j, -1.0, 1.0)


def first_system(
    trials: Trials, rank: int, hidden: int, alpha: float, seed: int, n_groups: int, options: dict[str, Any],
    sizes: tuple[float, float] = HIDDEN_SIZES, blocks: Blocks | None = None,
) -> System:  # fmt: skip
    """A network without recurrence.

    Hidden units have m, b ~ N(0, 1) and I ~ N(0, 1 / mean square of v), times a size of each unit within ``sizes``.
    With areas, m and I are 0 where the blocks and the inputs do not reach.
    """
    n, n_inputs = trials.y.shape[2], trials.v.shape[2]
    draw = np.random.default_rng([seed, 0]).standard_normal
    level = np.sqrt((trials.v**2).mean(axis=(0, 1)))
    drive = np.divide(draw((hidden, n_inputs)), level, out=np.zeros((hidden, n_inputs)), where=level > 0)
    least, largest = np.log(sizes)
    size = np.exp(np.random.default_rng([seed, 2]).uniform(least, largest, (hidden, 1)))
    parts = size * draw((hidden, rank)), size * drive
    m, weights = (np.concatenate([np.zeros((n, part.shape[1])), part]) for part in parts)
    if blocks is not None:
        m, weights = m * blocks.of_m, weights * blocks.reached
        options = options | {name: getattr(blocks, name) for name in ("area", "to", "source", "reached")}
    return System(
        m=m,
        n=np.zeros((n + hidden, rank)),
        weights=weights,
        bias=np.concatenate([np.zeros(n), size[:, 0] * draw(hidden)]),
        level=reference_level(trials, options["observation"] == "poisson"),
        variance=np.ones(n),
        noise=np.eye(rank),
        start=np.zeros((n_groups, rank)),
        spread=np.eye(rank),
        alpha=alpha,
        drift=None if trials.basis is None else np.zeros((n, rank, trials.basis.shape[1])),
        **options,
    )


def with_hidden_scale(system: System, trials: Trials, kappa: Array, scale: float) -> System:
    """The system with hidden units whose x has parts of the standard deviation ``scale`` from latents, inputs and bias.

    A latent (trial, time, rank) counts as it does in the recorded neurons, so that latents that hardly move these do
    not fill the hidden units with noise.
    """
    n, hidden = system.n_neurons, len(system.m) - system.n_neurons
    reference = reference_level(trials, system.observation == "poisson")
    loadings = observation_step(system, Batches(trials), kappa[None], reference, REGRESSION_STEPS).m[:n]
    power, axes = np.linalg.eigh(loadings.T @ loadings)
    power = np.maximum(power, 0)
    root = axes * np.sqrt(power / max(power.sum(), 1e-300)) @ axes.T
    moving = max(1, int((trials.v != 0).any(axis=(0, 1)).sum()))
    parts = [system.m[n:] @ root * scale, system.weights[n:] * (scale / np.sqrt(moving)), system.bias[n:] * scale]
    m, weights, bias = (
        np.concatenate([old[:n], new]) if hidden else old
        for old, new in zip((system.m, system.weights, system.bias), parts, strict=True)
    )
    return system._replace(m=m, weights=weights, bias=bias)


def best_start(
    system: System, trials: Trials, starts: list[Array], seed: int, how: How, n_trials: int = START_TRIALS
) -> Array:
    """Of several first latents (trial, time, rank) those that lead to the largest evidence in a few iterations.

    ``n_trials`` are the trials, about so many over the whole session, on which this is tried.
    """
    if len(starts) == 1:
        return starts[0]
    some = slice(None, None, max(1, len(trials.y) // n_trials))

    def evidence(kappa: Array) -> float:
        part = trials.part(some)
        tried = learn(system, part, kappa[some], seed=seed, max_iter=START_ITERATIONS, tolerance=0.0, how=how)
        return float(tried[1].max())

    return max(starts, key=evidence)
