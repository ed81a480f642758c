"""The stage that is a gradient: where its descents start, with which penalty on J, and which of them is taken.

A descent from regressions that explain nothing, or on a subset of the conditions that does not represent all, is
repeated from other starts (`other_starts`), and the held-out error decides. The descents themselves, and what stops
them, are in `nwb_lint.model.optimization`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from nwb_lint.model.data import Samples
from nwb_lint.model.hidden_units import random_start_and_prior
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import Array, Network, factors, norm_ratio, random_network
from nwb_lint.model.optimization import Descent, Optimizer, Report, Schedule, Visited, problem_of, subset_of
from nwb_lint.model.stages.regressions import propose_closed_form, propose_latent_pass, rescaled
from nwb_lint.model.stages.search import Search, Settings, Stage, tolerated
from nwb_lint.model.tuning import (
    COARSE_ALPHA,
    COARSE_ITERATIONS,
    FINE_ITERATIONS,
    LONG_N,
    PENALTY,
    PENALTY_TOLERANCE,
    PRIOR_STRENGTHS,
)

Starts = tuple[Network, Network]  # on the first split, and on everything
OtherStart = tuple[Network, Network, float]  # on the first split, on everything; held-out error of its regression


def random_start(samples: Samples, settings: Settings, number: int) -> Network:
    """A random network; drives that are initial activations of groups have weight 0."""
    n_neurons, n_drives = samples.x.shape[2] + settings.hidden, samples.q.shape[2]
    start = random_network(n_neurons, settings.rank or 1, n_drives, settings.seed + number)
    start.w[:, slice(*samples.starts)] = 0
    return start if settings.blocks is None else settings.blocks.masked(start)


def other_starts(search: Search) -> Iterator[OtherStart]:
    """Starts besides the regressions of rank R: regressions of higher ranks, reduced to R, then random networks.

    Each start is a network for the first split, one for all conditions, and the held-out error of the regression that
    it comes from (0 for a random network).
    """
    samples, settings = search.samples, search.settings
    rank, higher_ranks = settings.rank or 1, settings.higher_ranks
    if settings.blocks is not None:
        higher_ranks = ()  # reducing a rank mixes the blocks
    for more in (k for k in higher_ranks if rank + k <= samples.x.shape[2]):
        higher = Search(samples, settings._replace(rank=rank + more), search.splits)
        higher.try_ridges("closed form", propose_closed_form(higher), teacher_forced=True)
        higher.try_ridges("latent pass", propose_latent_pass(higher))
        error = float(higher.errors[: len(search.splits[0][1])].sum())
        first = rescaled(higher.networks[0], higher.parts[0][0], rank)
        yield first, rescaled(higher.final, samples, rank), error
    for number in range(settings.random_starts):
        start = random_start(samples, settings, number)
        yield start, start, 0.0


def run_gradient(
    search: Search, optimizer: Optimizer, others: Callable[[Search], Iterable[OtherStart]] = other_starts
) -> None:
    """Descend on the first split, stopped by its held-out part; then repeat the descent on everything.

    Networks from a regression are rescaled to latents of unit variance, since L-BFGS is slow along n if m has unit
    length. If the free run of the start explains nothing, or if a subset of the conditions does not represent all,
    ``others`` are tried as well; in the second case for a short descent each, and only while the regression that a
    start comes from has a smaller error.
    """
    fit, held = search.parts[0]
    explains_nothing = bool(search.errors.mean() >= search.power)

    def scaled(network: Network, samples: Samples) -> Network:
        return rescaled(network, samples) if search.stages else network

    def error(network: Network) -> float:
        return float(held.errors(network).sum())

    begin, another = (scaled(search.networks[0], fit), scaled(search.final, search.samples)), False
    found, optimizer, begin = first_descent(search, optimizer, begin, explains_nothing=explains_nothing)
    if search.stages and (explains_nothing or found.schedule.turns or found.schedule.growth):
        quick = optimizer if explains_nothing else optimizer._replace(algorithm="lbfgs")
        least = error(found.network)
        try:
            for first, whole, error_of_regression in others(search):
                if not explains_nothing and error_of_regression >= least:
                    break
                candidate = quick.descend(first, fit, held)
                if (reached := error(candidate.network)) < least:
                    found, begin, another, least = candidate, (first, whole), True, reached
        except KeyboardInterrupt as stop:
            raise Interrupted.best_of(found.network, stop, error) from stop

    if search.settings.l2_n is None and not optimizer.l2_n and _has_long_n(found.network, fit, held):
        found = shorten(search, optimizer, found)
    penalty = optimizer.l2_n if found.schedule.continued is None else PENALTY

    def repeat(everything: Samples) -> Network:
        return optimizer.repeat(found.schedule, begin[1], everything)

    search.keep_gradient(found.network, repeat, penalty)
    if explains_nothing and search.stages and search.stages[-1].name == "gradient":
        starts = [begin[1]] * len(search.parts) if another else search.networks
        others_of = [
            test.errors(optimizer.repeat(found.schedule, scaled(starts[k], part), part))
            for k, (part, test) in ((k, search.parts[k]) for k in range(1, len(starts)))
        ]
        search.errors = np.concatenate([search.errors[: len(held.x)], *others_of])
        search.judged_by_all = True


def _has_long_n(network: Network, fit: Samples, held: Samples) -> bool:
    return norm_ratio(network, fit.q.shape[2], held.x) > LONG_N


def first_descent(
    search: Search, optimizer: Optimizer, starts: Starts, *, explains_nothing: bool
) -> tuple[Descent, Optimizer, Starts]:
    """Descend on the first split, with a penalty on J where the regression's n is long.

    A slow descent without the penalty, as often with relu, is done again in `Coordinates`, in which the loss curves
    about equally, and the better one is taken. These coordinates, and the penalty, are those near the start, so that
    neither is used where it explains nothing.

    One descent with the penalty takes half the time of one without it and `shorten`. It is continued in new coordinates
    if it went far from where its own were found. Where it predicts nearly everything, one without the penalty follows,
    and is taken if it predicts more than `tolerated`. Returns the optimizer and the starts of what is taken.
    """
    fit, held = search.parts[0]
    scalable = not explains_nothing and is_scalable(search, optimizer)
    other, shorter = with_penalty(search, optimizer, starts) if scalable else (optimizer, starts)
    found = other.descend(shorter[0], fit, held)

    def error(network: Network) -> float:
        return float(held.errors(network).mean())

    try:
        if other is optimizer:
            if not (scalable and found.slow):
                return found, optimizer, starts
            other = optimizer._replace(scaled=True)
            again = other.descend(starts[0], fit, held)
            better = error(again.network) < error(found.network)
            return (again, other, starts) if better else (found, optimizer, starts)
        reached = error(found.network)
        if reached < 0.5 * error(shorter[0]):
            further = other.continue_with(other.l2_n, found, fit, held)
            if (after := error(further.network)) < reached:
                found, reached = further, after
        if reached < PENALTY_TOLERANCE * search.power:
            longer = optimizer.descend(starts[0], fit, held)
            least = error(longer.network)
            if reached > least + tolerated(least, search.power):
                return longer, optimizer, starts
    except KeyboardInterrupt as stop:
        raise Interrupted.best_of(found.network, stop, error) from stop
    return found, other, shorter


def with_penalty(search: Search, optimizer: Optimizer, starts: Starts) -> tuple[Optimizer, Starts]:
    """The optimizer with a penalty on J, and starts with about the n that it gives; both as given if n is not long.

    They are as given as well with a numeric ``l2_n``.
    """
    fit, held = search.parts[0]
    if search.settings.l2_n is not None or not _has_long_n(starts[0], fit, held):
        return optimizer, starts
    first, whole = (Visited.by(one, part) for one, part in zip(starts, (fit, search.samples), strict=True))
    if first is None or whole is None:
        return optimizer, starts
    shorter = first.with_penalty(starts[0], PENALTY), whole.with_penalty(starts[1], PENALTY)
    return optimizer._replace(l2_n=PENALTY, scaled=True), shorter


def is_scalable(search: Search, optimizer: Optimizer) -> bool:
    """Whether a descent can move in `Coordinates`: L-BFGS on whole trials, from a regression.

    Not with several areas, whose parameters they mix.
    """
    plain = not optimizer.segment and optimizer.algorithm != "adam"
    return bool(search.stages) and search.settings.blocks is None and plain


def shorten(search: Search, optimizer: Optimizer, found: Descent) -> Descent:
    """Continue a descent with a penalty on J, which shortens n, if it predicts held-out conditions nearly as well."""
    fit, held = search.parts[0]
    try:
        other = optimizer.continue_with(PENALTY, found, fit, held)
    except KeyboardInterrupt as stop:
        raise Interrupted.best_of(found.network, stop, lambda one: float(held.errors(one).sum())) from stop
    before, after = (held.errors(one.network).mean() for one in (found, other))
    return other if after <= before + tolerated(before, search.power) else found


def run_gradient_with_hidden_units(search: Search, optimizer: Optimizer) -> None:
    """Descend from a random start with a Gaussian prior: in coarse time steps, then shortly in the given ones.

    The strength of the prior and the number of coarse iterations are those of the smallest held-out loss, averaged over
    the inner splits. One split would choose by chance where conditions are few.
    """
    settings, n_neurons = search.settings, search.final.n_neurons
    rank, step = factors(search.final)[0].shape[1], max(1, round(COARSE_ALPHA / search.samples.alpha))
    parts = search.parts.map(
        lambda k: (subset_of(search.parts.fitted(k), n_neurons, settings.seed), search.parts.held_out(k))
    )

    def begin(samples: Samples, strength: float, most: int) -> tuple[Network, Optimizer]:
        x, q, hidden, seed = samples.filled(), samples.q, settings.hidden, settings.seed
        start, prior = random_start_and_prior(x, q, rank, hidden, seed, strength)
        if settings.blocks is not None:
            start, prior = settings.blocks.masked(start), settings.blocks.masked(prior)
        most = min(optimizer.max_iter, most)
        return start, optimizer._replace(algorithm="lbfgs", prior_strength=strength, prior=prior, max_iter=most)

    def losses(fit: Samples, held: Samples, strength: float) -> Array:
        """Held-out loss after each iteration; the last value where the descent stopped before the others."""
        curve: list[float] = []

        def report(stage: str, iteration: int, loss: float, held_out: float) -> None:
            curve.append(held_out)
            optimizer.report(stage, iteration, loss, held_out)

        start, own = begin(fit, strength, COARSE_ITERATIONS)
        own._replace(report=report).lbfgs(start, fit, held)
        return np.pad(curve or [np.inf], (0, COARSE_ITERATIONS - max(len(curve), 1)), mode="edge")

    coarse = [(fit.coarse(step), held.coarse(step)) for fit, held in parts]
    curves = np.array([np.mean([losses(*part, one) for part in coarse], axis=0) for one in PRIOR_STRENGTHS])
    best, last = np.unravel_index(int(curves.argmin()), curves.shape)
    strength, iterations, fine = PRIOR_STRENGTHS[int(best)], Schedule(int(last) + 1), Schedule(0)

    def repeat(samples: Samples) -> Network:
        samples = subset_of(samples, n_neurons, settings.seed)
        start, own = begin(samples.coarse(step), strength, COARSE_ITERATIONS)
        found = own.repeat(iterations, start, samples.coarse(step))
        return begin(samples, strength, FINE_ITERATIONS)[1].repeat(fine, found, samples)

    if step > 1:
        fine = begin(parts[0][0], strength, FINE_ITERATIONS)[1].lbfgs(repeat(parts[0][0]), *parts[0]).schedule
    search.keep_gradient(repeat(parts[0][0]), repeat)


def run_published(samples: Samples, settings: Settings, report: Report) -> Stage:
    """The training loop of the paper, from a random start."""
    from nwb_lint.model._torch import published_loop

    n_neurons = samples.x.shape[2] + settings.hidden
    start = random_network(n_neurons, settings.rank or 1, samples.q.shape[2], settings.seed)
    best = published_loop(
        problem_of(samples, settings.device),
        *factors(start),
        epochs=settings.epochs,
        seed=settings.seed,
        report=lambda epoch, loss: report("published", epoch + 1, loss, np.nan),
    )
    return Stage("published", Network(*best), np.nan)
