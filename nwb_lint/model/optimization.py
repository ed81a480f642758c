"""Stage 3: descents of the free-running loss, on how much of the data, by which algorithm, and stopped by what.

A descent sees a random subset of the conditions if there are many (`subset_of`). If the error on this subset does not
represent that on held-out conditions (`is_representative`), the descent is repeated on one subset after another, and
then continued on more and more conditions. Otherwise, if the subset is very small, some epochs of Adam on all
conditions follow. Held-out conditions stop every descent. The final network is fitted to all conditions, without
held-out ones, by the same `Schedule` of iterations.

Multiple shooting (`segments_of`): the gradient through a long trial of a network that oscillates or is chaotic has
little meaning, because phase errors add up and the loss has a minimum at each of them. Trials are therefore first cut
into segments that start from the data, twice as long from round to round. Within a segment that starts at time s,

    x[t] = m (kappa'[t] + (1 - alpha)^(t - s) kappa_data[s]) + W q[t],      kappa'[s] = 0,

with kappa_data the least-squares solution of m kappa = x - W q. A segment is therefore a condition with R more drives,
kappa_data[s] times a decay, whose weights are m itself. Cf. Bock & Plitt 1984 (shooting); Hess et al., ICML 2023
(generalized teacher forcing).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import (
    Coordinates,
    Interrupted,
    Loss,
    LossAndGradient,
    minimize_lbfgs,
    shrink_until_finite,
    with_l2_penalty,
)
from nwb_lint.model.network import Array, Network, factors, forward, with_unit_latents
from nwb_lint.model.regression import features, pseudo_inverse
from nwb_lint.model.tuning import (
    ADAM_BELOW_CONDITIONS,
    ADAM_EPOCHS_AFTER_LBFGS,
    ADAM_PATIENCE,
    ADAM_RATE,
    GROWTH_FACTOR,
    LEAST_CURVATURE,
    MIN_GAIN,
    MIN_IMPROVEMENT,
    REPRESENTATIVE_TOLERANCE,
    SCALED_MIN_GAIN,
    SCALING_CONDITIONS,
    SINGULAR_CUTOFF,
    SKETCH_NEURONS,
    SKETCH_SAMPLES,
    SUBSET_VALUES,
    SUBSET_VALUES_PER_NEURON,
    TURN_ITERATIONS,
    TURN_MIN_CONDITIONS,
    TURN_SHARE,
)
from nwb_lint.parallel.warnings import warn

if TYPE_CHECKING:
    from nwb_lint.model._torch import Problem

Report = Callable[[str, int, float, float], None]  # stage, step, loss, held-out loss

# ---------------------------------------------------------------------------------------------------------------------
# Subsets of the conditions


class Limits(NamedTuple):
    """How much data a descent sees; see `nwb_lint.model.tuning` for each number."""

    subset_values: tuple[float, float] = SUBSET_VALUES
    values_per_neuron: float = SUBSET_VALUES_PER_NEURON
    tolerance: float = REPRESENTATIVE_TOLERANCE
    turn_iterations: int = TURN_ITERATIONS
    turn_share: float = TURN_SHARE
    turn_min_conditions: int = TURN_MIN_CONDITIONS
    growth_factor: int = GROWTH_FACTOR
    min_gain: float = MIN_GAIN
    adam_below: int = ADAM_BELOW_CONDITIONS
    adam_rate: float = ADAM_RATE


DEFAULT_LIMITS = Limits()


def subset_of(
    samples: Samples, n_neurons: int, seed: int, *, times: float = 1, fewest: int = 1, limits: Limits = DEFAULT_LIMITS
) -> Samples:
    """A random subset of the conditions if all hold more values than one gradient should use; otherwise all.

    Few conditions are all used (`TURN_MIN_CONDITIONS`): still fewer would not represent the others. With ``times`` as
    many values, the subset of the same seed contains the smaller one.
    """
    how = n_neurons, seed, times, fewest, limits
    chosen = positions_of_subset(len(samples.x), samples.q.shape[1], *how)
    return samples if chosen is None else samples.take(chosen)


def positions_of_subset(
    n_conditions: int, n_times: int, n_neurons: int, seed: int, times: float, fewest: int, limits: Limits
) -> Array | None:
    """The positions of the conditions of `subset_of`; None for all."""
    if n_conditions <= limits.turn_min_conditions:
        return None
    values = times * np.clip(limits.values_per_neuron * n_neurons, *limits.subset_values)
    most = max(fewest, int(values) // (n_times * n_neurons))
    if most >= n_conditions:
        return None
    return np.sort(np.random.default_rng(seed).permutation(n_conditions)[:most])


def some_of(samples: Samples, part: Array, n_neurons: int, seed: int, *, times: float = 1, fewest: int = 1) -> Samples:
    """`subset_of` the conditions at some positions, without a copy of all of these."""
    chosen = positions_of_subset(len(part), samples.q.shape[1], n_neurons, seed, times, fewest, DEFAULT_LIMITS)
    return samples.take(part if chosen is None else part[chosen])


def is_representative(
    subset: Samples, others: Samples, network: Network, tolerance: float = REPRESENTATIVE_TOLERANCE
) -> bool:
    """Whether a network's mean error on a subset equals that on other conditions.

    The difference and its standard error over conditions must add up to at most this share of the power.
    """
    counts = [np.isfinite(part.x).sum(axis=(1, 2)) for part in (subset, others)]
    with np.errstate(invalid="ignore"):
        errors = [part.errors(network) / np.maximum(n, 1) for part, n in zip((subset, others), counts, strict=True)]
        own, theirs = (one.mean() for one in errors)
        variance = sum(one.var(ddof=1) / len(one) if len(one) > 1 else np.inf for one in errors)
        return bool(abs(own - theirs) + np.sqrt(variance) <= tolerance * subset.energies().sum() / counts[0].sum())


# ---------------------------------------------------------------------------------------------------------------------
# Segments of trials


def segment_lengths(first: int, n_times: int) -> list[int]:
    """Time steps of the segments in each round: twice as many from round to round, always fewer than a trial has."""
    return [first << k for k in range(64) if first << k < n_times]


def segments_of(samples: Samples, network: Network, length: int) -> Samples:
    """Cut every condition into segments of ``length`` samples, with R more drives; the last two may overlap.

    The latents at the starts are those of the data under this network. Where a neuron was not observed, they are those
    of the network's free run.
    """
    skip, n_times = samples.q.shape[1] - samples.x.shape[1], samples.x.shape[1]
    starts = np.unique(np.linspace(0, n_times - length, -(-n_times // length)).round().astype(int))
    recorded = samples.x.shape[2]
    to_latents = pseudo_inverse(network.m[:recorded], samples.weights)
    kappa = (samples.x[:, starts] - samples.q[:, skip + starts] @ network.w[:recorded].T) @ to_latents
    missing = ~np.isfinite(kappa)
    if missing.any():
        free = forward(network, samples.q, samples.alpha, samples.nonlinearity)[1]
        kappa = np.where(missing, free[:, skip + starts], kappa)
    if skip == 0:
        kappa[:, 0] = 0
    decay = (1 - samples.alpha) ** np.arange(length)
    parts = []
    for k, start in enumerate(starts):
        decaying = kappa[:, k, None, :] * decay[:, None]
        parts.append(np.concatenate([samples.q[:, skip + start : skip + start + length], decaying], axis=2))
    x = np.concatenate([samples.x[:, start : start + length] for start in starts])
    q = np.concatenate(parts).astype(samples.q.dtype)
    return samples._replace(x=x, q=q, halves=None, starts=(0, 0), inferred=None)


def segment_gradient(loss_and_gradient: LossAndGradient) -> LossAndGradient:
    """The loss on segments and its gradient as functions of (m, n, W): the additional drives have the weights m."""

    def of_network(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, np.hstack([w, m]))
        return loss, gm + gw[:, w.shape[1] :], gn, gw[:, : w.shape[1]]

    return of_network


def segment_loss(loss: Loss) -> Loss:
    """The loss on segments as a function of (m, n, W)."""
    return lambda m, n, w: loss(m, n, np.hstack([w, m]))


# ---------------------------------------------------------------------------------------------------------------------
# Curvature of the loss


class Visited(NamedTuple):
    """Latents, drives and features of a network's free run on some conditions, in units of the power.

    ``kappa`` (sample, rank), ``q`` (sample, drive); eigenvectors ``basis`` (neuron, any) and eigenvalues ``variances``
    of the moments Z'Z of the features after regression on q, whose coefficients are ``q_to_z`` (drive, neuron).
    """

    kappa: Array
    q: Array
    q_to_z: Array
    basis: Array
    variances: Array

    @classmethod
    def by(cls, network: Network, samples: Samples) -> Visited | None:
        """None if the free run diverges, or without activity."""
        some = samples.take(np.arange(0, len(samples.x), -(-len(samples.x) // SCALING_CONDITIONS)))
        power = float(some.energies().sum())
        with np.errstate(all="ignore"):
            x, kappa = forward(network, some.q, some.alpha, some.nonlinearity)
        if not (np.isfinite(x).all() and power > 0):
            return None
        parts = (features(x, some.alpha, some.nonlinearity), kappa, some.q)
        z, kappa, q = (a.reshape(-1, a.shape[2]).astype(float) / np.sqrt(power) for a in parts)
        q_to_z = np.linalg.pinv(q.T @ q, rcond=SINGULAR_CUTOFF, hermitian=True) @ (q.T @ z)
        z -= q @ q_to_z
        if z.shape[1] > SKETCH_NEURONS:
            step = -(-len(z) // SKETCH_SAMPLES)
            basis, singular, _ = np.linalg.svd(np.sqrt(step) * z[::step].T, full_matrices=False)
            return cls(kappa, q, q_to_z, basis, singular**2)
        variances, basis = np.linalg.eigh(z.T @ z)
        return cls(kappa, q, q_to_z, basis, np.maximum(variances, 0))

    def with_penalty(self, network: Network, l2_n: float) -> Network:
        """The network with about the n and W that a penalty l2_n gives: ridge regression of its own latents."""
        m, n, w = factors(network)
        other = self.basis @ ((self.variances / (self.variances + l2_n))[:, None] * (self.basis.T @ n))
        return Network(m, other, w + m @ (self.q_to_z @ (n - other)).T / len(n))


# ---------------------------------------------------------------------------------------------------------------------
# Descents


class Schedule(NamedTuple):
    """What a descent did until its best network, so that it can be repeated without held-out conditions.

    ``iterations`` of L-BFGS, those of each round on ``segments`` before, ``turns`` on one subset after another instead,
    iterations of each round of ``growth`` of the subset after, and ``epochs`` of Adam at the end. ``continued``:
    the penalty of a continuation after that, and its iterations (or epochs).
    """

    iterations: int = 0
    segments: tuple[int, ...] = ()
    turns: int = 0
    growth: tuple[int, ...] = ()
    epochs: int = 0
    continued: tuple[float, int] | None = None


class Descent(NamedTuple):
    """The result of a descent: its best network, the held-out loss of that, and the schedule until then.

    ``slow``: whether its L-BFGS on one subset had too few iterations or very many; see `minimize_lbfgs`.
    """

    network: Network
    held_out: float
    schedule: Schedule = Schedule()
    slow: bool = False


def problem_of(samples: Samples, device: str) -> Problem:
    """The loss of a network on these samples and its gradient, on a torch device."""
    from nwb_lint.model._torch import Problem

    observed, dtype = np.isfinite(samples.x), samples.x.dtype
    weight = None if observed.all() else observed.astype(dtype)
    x = samples.x if weight is None else np.where(observed, samples.x, 0)
    if samples.weights is not None:
        weight = (observed * samples.weights).astype(dtype)
    return Problem(
        samples.q,
        x,
        weight,
        alpha=samples.alpha,
        nonlinearity=samples.nonlinearity,
        loss=samples.loss,
        device=device,
    )


class Optimizer(NamedTuple):
    """Options of descents.

    ``max_iter`` iterations of L-BFGS or epochs of Adam; torch ``device``; ``report`` of progress; ``l2_n`` as in
    `with_l2_penalty`; ``prior`` and its strength as in `minimize_lbfgs`; ``journal`` of evaluations; ``segment``, time
    steps of the first segments, 0 = whole trials; ``algorithm``, "auto", "lbfgs" or "adam"; ``seed`` of subsets;
    ``scaled``, whether L-BFGS moves in `Coordinates`: for a start that resembles the solution, without a prior;
    ``blocks`` of several areas, outside of which parameters stay 0.
    """

    max_iter: int
    device: str
    report: Report
    l2_n: float = 0.0
    prior_strength: float = 0.0
    prior: Network | None = None
    journal: Journal | None = None
    segment: int = 0
    algorithm: str = "auto"
    seed: int = 0
    limits: Limits = DEFAULT_LIMITS
    scaled: bool = False
    blocks: Blocks | None = None

    def descend(self, start: Network, fit: Samples, held: Samples) -> Descent:
        """Minimize the loss on ``fit``, stopped by the loss on ``held``.

        "lbfgs": L-BFGS on a subset. "adam": Adam on all conditions. "auto": L-BFGS on a subset. If the subset does not
        represent the held-out conditions, other subsets and larger ones follow (`use_more_conditions`). If it does, but
        is very small, Adam follows on all conditions for about as many gradients.
        """
        some_held = self.subset(held, 0, start.n_neurons)
        if self.algorithm == "adam":
            return self._adam(start, fit, some_held, self.max_iter)
        subset = self.subset(fit, self.seed, start.n_neurons)
        found = self.lbfgs(start, subset, some_held)
        if self.algorithm == "lbfgs" or len(subset.x) == len(fit.x):
            return found
        if not is_representative(subset, held, found.network, self.limits.tolerance):
            found = self.use_more_conditions(found, start, subset, fit, held)
        if not self._ends_with_adam(found.schedule, subset, fit):
            return found
        share = len(subset.x) / len(fit.x)
        epochs = min(ADAM_EPOCHS_AFTER_LBFGS, max(1, round(found.schedule.iterations * share)))
        last = self._adam(found.network, fit, some_held, epochs)
        schedule = found.schedule._replace(epochs=last.schedule.epochs)
        return last._replace(schedule=schedule, slow=found.slow)

    def repeat(self, schedule: Schedule, start: Network, fit: Samples) -> Network:
        """A descent with as many iterations and epochs as an earlier one, without held-out conditions."""
        network = self._repeat(schedule, start, fit)
        if schedule.continued is None:
            return network
        l2_n, steps = schedule.continued
        return self.continue_with(l2_n, Descent(network, np.inf, schedule), fit, None, steps).network

    def _repeat(self, schedule: Schedule, start: Network, fit: Samples) -> Network:
        """`repeat` without the continuation."""
        if self.algorithm == "adam":
            return self._adam(start, fit, None, schedule.epochs).network
        subset = self.subset(fit, self.seed, start.n_neurons)
        if schedule.turns:
            found = self.alternate_subsets(start, fit, None, schedule.turns)
        else:
            found = self.lbfgs(start, subset, None, schedule)
        if self.algorithm == "lbfgs":
            return found.network
        found = self.grow_subset(found, subset, fit, None, schedule.growth)
        if not schedule.epochs:
            return found.network
        return self._adam(found.network, fit, None, schedule.epochs).network

    def continue_with(
        self, l2_n: float, found: Descent, fit: Samples, held: Samples | None, steps: int | None = None
    ) -> Descent:
        """Continue a descent with a penalty, on as many conditions as it saw last.

        It begins with about the n that the penalty gives. ``held`` stops it; without ``held`` it does so many
        ``steps``.
        """
        other = self._replace(l2_n=l2_n, scaled=self.blocks is None)  # those coordinates mix ranks and neurons
        visited = Visited.by(found.network, fit) if other.scaled else None
        start = found.network if visited is None else visited.with_penalty(found.network, l2_n)
        times, n_neurons = self.limits.growth_factor ** len(found.schedule.growth), start.n_neurons
        most = self.max_iter if steps is None else min(steps, self.max_iter)
        some_held = None if held is None else self.subset(held, 0, n_neurons, times)
        if self.algorithm == "adam":
            last = other._adam(start, fit, some_held, most)
        else:
            last = other._minimize(start, self.subset(fit, self.seed, n_neurons, times), some_held, most)
        done = last.schedule.epochs if self.algorithm == "adam" else last.schedule.iterations
        return last._replace(schedule=found.schedule._replace(continued=(l2_n, done)))

    def subset(self, samples: Samples, seed: int, n_neurons: int, times: float = 1) -> Samples:
        """As many conditions as one gradient should use, or ``times`` as many."""
        return subset_of(samples, n_neurons, seed, times=times, limits=self.limits)

    def _ends_with_adam(self, schedule: Schedule, subset: Samples, fit: Samples) -> bool:
        return not (schedule.turns or schedule.growth or len(subset.x) >= min(self.limits.adam_below, len(fit.x)))

    # L-BFGS

    def lbfgs(self, start: Network, fit: Samples, held: Samples | None, schedule: Schedule | None = None) -> Descent:
        """L-BFGS on whole trials; with a ``segment``, on segments first unless whole trials alone are better."""
        iterations = self.max_iter if schedule is None else schedule.iterations
        if not self.segment:
            return self._minimize(start, fit, held, iterations)
        best, rounds = self._on_segments(start, fit, held, None if schedule is None else schedule.segments)
        last = self._minimize(best, fit, held, iterations)
        last = last._replace(schedule=last.schedule._replace(segments=rounds))
        if held is None or best is start:
            return last
        return min(last, self._minimize(start, fit, held, iterations), key=lambda one: one.held_out)

    def _on_segments(
        self, start: Network, fit: Samples, held: Samples | None, given: tuple[int, ...] | None
    ) -> tuple[Network, tuple[int, ...]]:
        """L-BFGS on longer and longer segments: the best network, and the iterations of each round until it.

        Without ``held``, ``given`` is the number of iterations of each round.
        """
        network = best = start
        rounds: list[int] = []
        held_out_loss = self._loss_on(held)
        kept, least = 0, held_out_loss(*start)
        for k, length in enumerate(segment_lengths(self.segment, fit.x.shape[1])):
            if given is not None and k == len(given):
                break
            held_segments = None if held is None else segments_of(held, network, length)
            iterations = self.max_iter if given is None else given[k]
            found = self._minimize(network, segments_of(fit, network, length), held_segments, iterations)
            network = found.network
            rounds.append(found.schedule.iterations)
            reached = held_out_loss(*network)
            if reached < least or held is None:
                best, least, kept = network, reached, k + 1
        return best, tuple(rounds[:kept])

    def _minimize(
        self, start: Network, fit: Samples, held: Samples | None, iterations: int, min_gain: float = 0.0
    ) -> Descent:
        """One run of L-BFGS, on whole trials or on segments (which have more drives than the network)."""
        if iterations == 0:
            return Descent(start, np.inf)
        loss_and_gradient = self._recorded(problem_of(fit, self.device).loss_and_gradient)
        held_out_loss = None if held is None else self._loss_on(held)
        if fit.q.shape[2] > start.w.shape[1]:
            loss_and_gradient = segment_gradient(loss_and_gradient)
            held_out_loss = held_out_loss and segment_loss(held_out_loss)
        coordinates = self._coordinates(start, fit) if self.scaled else None
        if coordinates is not None:
            min_gain = max(min_gain, SCALED_MIN_GAIN)
        network, done, held_out, slow = minimize_lbfgs(
            start,
            self._penalized(loss_and_gradient),
            held_out_loss,
            max_iter=iterations,
            min_gain=min_gain,
            prior_strength=self.prior_strength,
            prior=self.prior,
            coordinates=coordinates,
            report=partial(self.report, "gradient"),
        )
        return Descent(network, held_out, Schedule(done), slow)

    def _coordinates(self, start: Network, fit: Samples) -> Coordinates | None:
        """The coordinates of a descent of whole trials; None if the free run of its start diverges."""
        seen = Visited.by(start, fit)
        if seen is None:
            return None
        return Coordinates.of(start, seen.kappa, seen.q, seen.basis, seen.variances, LEAST_CURVATURE)

    # More conditions

    def use_more_conditions(
        self, found: Descent, start: Network, subset: Samples, fit: Samples, held: Samples
    ) -> Descent:
        """`alternate_subsets`, then `grow_subset`, if this decreases the loss on ``held``; otherwise ``found``.

        After segments, `grow_subset` alone.
        """
        loss = self._loss_on(held)
        try:
            turned = found if self.segment else self.alternate_subsets(start, fit, held)
            grown = self.grow_subset(turned, subset, fit, held)
            return min(found, grown, key=lambda one: loss(*one.network))
        except KeyboardInterrupt as stop:
            raise Interrupted.best_of(found.network, stop, lambda one: loss(*one)) from stop

    def alternate_subsets(
        self, start: Network, fit: Samples, held: Samples | None, turns: int | None = None
    ) -> Descent:
        """Short descents on one random subset after another, as long as they decrease the loss on ``held``.

        A valley in the loss on one subset is not a valley in the loss on the next. Without ``held``: ``turns`` times.
        """
        limits, held_out_loss = self.limits, self._loss_on(held)
        patience = max(1, self.max_iter // limits.turn_iterations)
        network = best = start
        turn = kept = gained_at = 0
        least = gained_loss = held_out_loss(*start)
        while True:
            turn += 1
            try:
                subset = subset_of(
                    fit,
                    start.n_neurons,
                    self.seed + turn,
                    times=limits.turn_share,
                    fewest=limits.turn_min_conditions,
                    limits=limits,
                )
                network = self._minimize(network, subset, None, limits.turn_iterations).network
            except KeyboardInterrupt as stop:
                raise Interrupted(best) from stop
            reached = held_out_loss(*network)
            if reached < least or held is None:
                best, least, kept = network, reached, turn
            if reached < gained_loss - limits.min_gain:
                gained_loss, gained_at = reached, turn
            if turn == turns or (held is not None and turn - gained_at >= patience):
                return Descent(best, least, Schedule(turns=kept))

    def grow_subset(
        self, found: Descent, subset: Samples, fit: Samples, held: Samples | None, given: tuple[int, ...] = ()
    ) -> Descent:
        """Continue a descent on more and more conditions, until the subset represents ``held``.

        The last round that decreased the loss on ``held`` by ``min_gain`` counts, because a smaller gain may be noise.
        Without ``held``, ``given`` is the number of iterations of each round.
        """
        n_neurons, times, held_out_loss = found.network.n_neurons, self.limits.growth_factor, self._loss_on(held)
        done = kept = found
        gained_loss = held_out_loss(*found.network)
        while len(subset.x) < len(fit.x) and (held is not None or len(done.schedule.growth) < len(given)):
            subset = self.subset(fit, self.seed, n_neurons, times)
            some_held = None if held is None else self.subset(held, 0, n_neurons, times)
            iterations = self.max_iter if held is not None else given[len(done.schedule.growth)]
            last = self._minimize(done.network, subset, some_held, iterations, self.limits.min_gain)
            growth = (*done.schedule.growth, last.schedule.iterations)
            done = Descent(last.network, last.held_out, found.schedule._replace(growth=growth))
            reached = held_out_loss(*done.network)
            if held is None or reached < gained_loss - self.limits.min_gain:
                kept, gained_loss = done, reached
            if last.schedule.iterations == 0:
                break
            if held is not None and is_representative(subset, held, last.network, self.limits.tolerance):
                break
            times *= self.limits.growth_factor
        return kept

    # Adam

    def _adam(self, start: Network, fit: Samples, held: Samples | None, epochs: int) -> Descent:
        """Adam on batches of all conditions, with a step size that falls; the best network by ``held``, else the last.

        An epoch that diverges is repeated from the best network with a step size a tenth as large, with a warning.
        """
        from nwb_lint.model._torch import adam_epoch, adam_start

        problem, factor = problem_of(fit, self.device), 1.0
        decay = self.max_iter if self.algorithm == "adam" else ADAM_EPOCHS_AFTER_LBFGS
        first = fit.take(np.arange(min(SCALING_CONDITIONS, len(fit.x))))
        if not np.isfinite(self._loss_on(self.subset(first, 0, start.n_neurons))(*start)):
            start = shrink_until_finite(start, problem.loss_and_gradient)
        held_out_loss = self._loss_on(held)
        state = best = adam_start(*factors(with_unit_latents(start, first.q, fit.alpha, fit.nonlinearity)))
        best_at, least, improved_at = 0, held_out_loss(*start), 0
        for k in range(epochs):
            order = np.random.default_rng([self.seed, k]).permutation(len(fit.x))
            rate = factor * self.limits.adam_rate / (1 + 2 * k / decay)
            run = self._recorded(partial(adam_epoch, problem, rate=rate, order=order, penalized=self._penalized))
            try:
                loss, *state = run(*state)
                reached = held_out_loss(*state[:3])
            except KeyboardInterrupt as stop:
                raise Interrupted(Network(*best[:3])) from stop
            if not np.isfinite(loss) or not np.isfinite(reached):
                warn("An epoch of Adam diverged. It is repeated from the best network in smaller steps.")
                factor, state = factor / 10, adam_start(*best[:3])
                continue
            improved_at = k + 1 if reached < least * (1 - MIN_IMPROVEMENT) else improved_at
            if reached <= least:
                best, best_at, least = state, k + 1, reached
            self.report("gradient", k + 1, loss, reached if held is not None else np.nan)
            if held is not None and k + 1 - improved_at >= ADAM_PATIENCE:
                break
        return Descent(Network(*best[:3]), least, Schedule(epochs=best_at))

    # Losses

    def _penalized(self, loss_and_gradient: LossAndGradient) -> LossAndGradient:
        """The loss and its gradient with the penalty, inside the blocks."""
        found = with_l2_penalty(loss_and_gradient, self.l2_n)
        return found if self.blocks is None else self.blocks.masked_gradient(found)

    def _loss_on(self, held: Samples | None) -> Callable[..., float]:
        """The loss of a network on whole trials, infinite if it is not finite; 0 without held-out conditions."""
        if held is None:
            return lambda *_: 0.0
        if held.inferred is None:
            loss = self._recorded(problem_of(held, self.device).loss)
        else:
            power = max(float(held.energies().sum()), np.finfo(float).tiny)
            loss = self._recorded(lambda *parameters: float(held.errors(Network(*parameters)).sum()) / power)

        def finite(*parameters: Array) -> float:
            found = loss(*parameters)
            return found if np.isfinite(found) else np.inf

        return finite

    def _recorded(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """The function with its evaluations in the journal, if there is one."""
        return f if self.journal is None else self.journal.recorded(f)
