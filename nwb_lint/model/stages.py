"""The three stages in a row on arrays: closed form, latent pass, gradient; every choice by held-out conditions.

Choices (ridge, whether another stage pays, when to stop) are made on splits *inside* the training conditions, by the
error of the free run. Among candidates that do as well as the best, the closed form takes the one that predicts held
out data best from the recorded rates themselves (noise inside the network tells of n beyond the free run), the latent
pass, whose features hold no such noise, the most regularized; or each takes its ridge by generalized cross-validation
on all training conditions. Where there are trial halves, stage 1 is tried again with them as instruments; an
unconstrained J is estimated again from innovations. A further stage is kept only when it does better than the one
before; two fits do equally well when their held-out errors differ by less than one standard error (paired over
conditions) or less than `TOLERANCE` of the variance. A closed form with white innovations is the fit (`whiteness`).

A descent from regressions that explain nothing has no reason to end well, nor has one whose few conditions do not stand
for all while a regression of rank R + 1 does better: then it starts from others too, the main directions of what
regressions find at rank R + 1 and R + 2, and at random; the held-out error tells which was right.

``ridge_by="innovations"``: of the candidates whose free run explains nearly as much as the best, every stage takes the
one that predicts held-out innovations best, x[t] - (1 - alpha) x[t-1] from the rates before: fluctuations that the
free run never makes, as an inactivation does.

Whether the closed form has told all: innovations that tell nothing of the next ones.

With r = x - m n' F[phi(x)] / N - W q what a network leaves of the activity where the recorded rates drive it, the
innovations are e[t] = r[t] - (1 - alpha) r[t-1]. Where all noise enters inside the network and the model is right they
are independent, and the regression of x on its own filtered rates is the maximum-likelihood estimate: no free run,
which makes less of the data, can know more (prediction-error identification: Ljung, System Identification, 1999,
chapters 9 and 16). Observation noise makes neighbors in time unlike, latents that the network lacks make them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples
from nwb_lint.model.hidden_units import PULLS, scattered, spanned, with_hidden_units
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import Array, Network, balanced, cut
from nwb_lint.model.optimization import BALANCED_BY, Descending, Report, few_enough, problem_of, random_network
from nwb_lint.model.regression import (
    RIDGES,
    Solutions,
    chunks_of,
    closed_form,
    features,
    from_rates,
    latent_pass,
    there_of,
)
from nwb_lint.parallel.threads import map_in_order
from nwb_lint.parallel.warnings import warn

WHITE = 0.0015  # mean autocorrelation over neurons, at most: observation noise of 1/25 of the innovations' sd
LATENTS = 0.05  # that of every latent, of which there are fewer samples


def white(network: Network, samples: Samples) -> bool:
    """Whether innovations of held-out conditions are white at lag 1, surely: the mean over neurons of their
    autocorrelations, and that of every latent's, with the standard error over conditions, below `WHITE` and `LATENTS`.
    False where samples are missing, or some come before the first that was recorded: nobody knows the innovations then.
    """
    samples = few_enough(samples, network.n_neurons, 0)
    x, q, rho = samples.x, samples.q, 1 - samples.alpha
    if len(x) < 2 or x.shape[1] < 3 or q.shape[1] > x.shape[1] or there_of(x) is not None:
        return False
    back = np.linalg.pinv(network.m).T.astype(x.dtype)

    def sums(part: slice) -> list[tuple[Array, Array]]:
        left = x[part] - from_rates(network, features(x[part], samples.alpha, samples.nonlinearity), q[part])
        e = left[:, 1:] - rho * left[:, :-1]
        return [(np.einsum("ctn,ctn->n", v, v), np.einsum("ctn,ctn->cn", v[:, 1:], v[:, :-1])) for v in (e, e @ back)]

    neurons, latents = zip(*map_in_order(sums, chunks_of(*x.shape)), strict=True)
    return _small(_autocorrelation(neurons, x).mean(axis=1), WHITE) and _small(_autocorrelation(latents, x), LATENTS)


def _autocorrelation(parts: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """At lag 1, of every condition and neuron, in units of the neuron's variance over all: (condition, neuron)."""
    squares, products = zip(*parts, strict=True)
    power = np.sum(squares, axis=0) / (len(x) * (x.shape[1] - 1))
    lagged = np.concatenate(products) / (x.shape[1] - 2)
    return np.divide(lagged, power, out=np.zeros_like(lagged), where=power != 0)


def _small(each: Array, bound: float) -> bool:
    """Whether means over conditions are below a bound, with their standard errors."""
    mean, se = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))
    return bool((np.abs(mean) + se <= bound).all())


MANY_CONDITIONS = 200  # from here on one split serves, and the networks fitted on its larger part are kept
FOLDS = 4
TOLERANCE = 3e-5
NEARLY = 0.01  # of the variance: what a free run may lose to the best one where innovations choose
COARSE_ALPHA = 0.15  # long descents take steps of this many time constants where the bins are much shorter
HIGHER, RANDOM = (1, 2), 2  # ranks beyond R, and how many random networks, where a descent starts in want of a better
LONG_DESCENT, SHORT_DESCENT = 120, 15  # iterations in coarse steps, and in the given bins after them

Split = tuple[Array, Array]
Other = tuple[Network, Network, float]  # a start on the first split, and on everything; what its regression leaves


class Stage(NamedTuple):
    """One step of the fit that was kept: its name, its network, the ridge chosen (NaN for none), and whether Ctrl-C
    ended the fit there."""

    name: str
    network: Network
    ridge: float
    interrupted: bool = False


def splits_of(n_conditions: int, seed: int) -> list[Split]:
    """Inner splits (fit, validation) of the training conditions: folds when they are few, one split when many."""
    order = np.random.default_rng(seed).permutation(n_conditions)
    if n_conditions >= MANY_CONDITIONS:
        held = order[: min(100, n_conditions // 8)]
        return [(np.setdiff1d(order, held), np.sort(held))]
    folds = np.array_split(order, min(FOLDS, n_conditions))
    return [(np.setdiff1d(order, fold), np.sort(fold)) for fold in folds]


def _better(before: Array, after: Array, power: float) -> bool:
    """Whether errors per condition fall from ``before`` to ``after`` by more than noise and more than `TOLERANCE`."""
    if not np.isfinite(after).all():
        return False
    if not np.isfinite(before).all():
        return True
    fall = before - after
    se = fall.std(ddof=1) / np.sqrt(len(fall)) if len(fall) > 1 else 0.0
    return bool(fall.mean() > max(se, TOLERANCE * power))


def _as_good(errors: list[Array], power: float) -> list[int]:
    """Candidates (they come in rising ridge) that the best one is not better than, in rising order."""
    best = int(np.argmin([np.mean(e) for e in errors]))
    return [k for k in range(len(errors)) if k == best or not _better(errors[k], errors[best], power)]


class _Search:
    """The fit in progress: one network per inner split, the network on everything, and the errors they stand at."""

    def __init__(
        self, samples: Samples, splits: list[Split], ridges: Sequence[float], ridge_by: str = "held_out"
    ) -> None:
        self.samples, self.ridges, self.ridge_by = samples, tuple(sorted(ridges)), ridge_by
        self.splits = splits
        pairs = [(samples.take(fit), samples.take(held)) for fit, held in splits]
        self.parts = [(fit, held.held_from(fit)) for fit, held in pairs]
        lacking = any(one.q is not held.q for (_, one), (_, held) in zip(self.parts, pairs, strict=True))
        self.refit = len(splits) > 1 or lacking
        self.networks: list[Network] = []
        self.final: Network
        self.errors = np.full(sum(len(held) for _, held in splits), np.inf)
        self.power = float(samples.energies().mean())
        self.stages: list[Stage] = []

    def start_from(self, network: Network) -> None:
        """Begin with a given network instead of a closed form."""
        self.networks, self.final = [network] * len(self.parts), network

    def try_ridges(
        self,
        name: str,
        propose: Callable[[Samples, Network | None, Sequence[float]], Solutions],
        *,
        forced: bool = False,
        whiten: bool = False,
        gcv: bool = True,
    ) -> None:
        """Propose networks for every ridge in every split, choose, refit on everything; unless it does not pay.

        ``forced`` settles ties by the error from the recorded rates (of innovations with ``whiten``), else the most
        regularized is taken. With ``gcv`` generalized cross-validation on everything chooses instead, if that was asked
        for.
        """
        before: list[Network | None] = list(self.networks) or [None] * len(self.parts)
        current, ridges, whole = self.final if self.stages else None, self.ridges, None
        if gcv and self.ridge_by == "gcv":
            found = propose(self.samples, current, ridges)
            best = int(np.argmin(found.gcv))
            ridges, whole = (ridges[best],), found.networks[best]
        proposals = [propose(fit, net, ridges).networks for (fit, _), net in zip(self.parts, before, strict=True)]
        errors = list(map_in_order(self._errors, zip(*proposals, strict=True)))
        k = self._choose(proposals, errors, forced, whiten)
        chosen = [nets[k] for nets in proposals]
        if self.stages and not self._pays(chosen, errors[k], whiten):
            return
        self.networks, self.errors = chosen, errors[k]
        if whole is None and not self.refit:
            whole = self.networks[0]
        self.final = whole or propose(self.samples, current, [ridges[k]]).networks[0]
        self.stages.append(Stage(name, self.final, ridges[k]))

    def _errors(self, networks: Sequence[Network]) -> Array:
        """Held-out errors of free runs, of one network for every split."""
        return np.concatenate([held.errors(net) for (_, held), net in zip(self.parts, networks, strict=True)])

    def _choose(self, proposals: list[list[Network]], errors: list[Array], forced: bool, whiten: bool) -> int:
        """The position of the ridge to take, from the networks of every split and their free runs' errors."""
        if self.ridge_by == "innovations":
            forced = whiten = True
            mean = np.array([one.mean() for one in errors])
            among = np.flatnonzero(mean <= mean.min() + NEARLY * self.power).tolist()
        else:
            among = _as_good(errors, self.power)
        if not forced or len(among) < 2:
            return int(among[-1])
        tried = [[nets[i] for i in among] for nets in proposals]
        return int(among[int(np.argmin(self._forced(tried, whiten)))])

    def _forced(self, networks: list[list[Network]], whiten: bool) -> Array:
        """Held-out errors from the recorded rates, of several networks for every split."""
        pairs = zip(self.parts, networks, strict=True)
        parts = [few_enough(held, nets[0].n_neurons, 0).forced_error(nets, whiten) for (_, held), nets in pairs]
        return np.sum(parts, axis=0)

    def _pays(self, found: list[Network], errors: Array, whiten: bool) -> bool:
        """Whether to keep a stage: its free run is better, or (innovations) as good and predicts those better."""
        if _better(self.errors, errors, self.power) or not whiten:
            return _better(self.errors, errors, self.power)
        worse = _better(errors, self.errors, self.power)
        if self.ridge_by == "innovations":
            worse = bool(errors.mean() > self.errors.mean() + NEARLY * self.power)
        before, after = self._forced([list(pair) for pair in zip(self.networks, found, strict=True)], whiten=True)
        return bool(not worse and after < before)

    def lift(self, hidden: int, seed: int) -> None:
        """Add hidden units to every network; nothing that they predict changes."""

        def lifted(network: Network, samples: Samples) -> Network:
            return with_hidden_units(_balanced(network, samples), hidden, seed)

        self.networks = [lifted(net, fit) for net, (fit, _) in zip(self.networks, self.parts, strict=True)]
        self.final = lifted(self.final, self.samples)
        self.stages[-1] = self.stages[-1]._replace(network=self.final)

    def refine(
        self, run: Descending, hidden: int, seed: int, keep_interrupted: bool, others: Callable[[], Iterable[Other]]
    ) -> None:
        """The gradient stage, with hidden units or without; ``others`` as in `descend`."""
        try:
            if hidden:
                self.scatter(run, hidden, seed)
            else:
                self.descend(run, others)
        except KeyboardInterrupt as stop:
            if not keep_interrupted:
                raise
            self.interrupt(stop)

    def descend(self, run: Descending, others: Callable[[], Iterable[Other]] = tuple) -> None:
        """Gradient on the first split, stopped by its held-out part; then as many iterations on everything. What comes
        from a closed form starts with latents of unit variance: m of unit length lets L-BFGS crawl along n. Where its
        free run explains nothing, or few conditions do not stand for all, ``others`` are starts as well; in the latter
        case for a short descent each, and only where the regression that they come from leaves less.
        """
        fit, held = self.parts[0]

        def start(network: Network, samples: Samples) -> Network:
            return _balanced(network, samples) if self.stages else network

        def error(network: Network) -> float:
            return float(held.errors(network).sum())

        found, begin = run(start(self.networks[0], fit), fit, held), None
        nothing = self.errors.mean() >= self.power
        if self.stages and (nothing or found.turns or found.wider):
            quick = run if nothing else run._replace(optimizer="lbfgs")
            least = error(found.network)
            try:
                for first, whole, left in others():
                    if not nothing and left >= least:
                        break
                    tried = quick(first, fit, held)
                    if (reached := error(tried.network)) < least:
                        found, begin, least = tried, whole, reached
            except KeyboardInterrupt as stop:
                raise Interrupted.after(found.network, stop, error) from stop

        def again(everything: Samples) -> Network:
            told = {name: getattr(found, name) for name in ("rounds", "turns", "wider", "epochs")}
            go = run._replace(max_iter=found.iterations, **told)
            return go(begin or start(self.final, everything), everything, None).network

        self._end(found.network, again)

    def scatter(self, run: Descending, hidden: int, seed: int) -> None:
        """Gradient from a random start with a pull towards its prior, for hidden units: in coarse time steps, then
        shortly in the given ones. The first split chooses the pull; nothing stops early, since the pull regularizes.
        """
        fit, held = self.parts[0]
        rank, step = self.final.m.shape[1], max(1, round(COARSE_ALPHA / self.samples.alpha))
        long, short = min(run.max_iter, LONG_DESCENT), min(run.max_iter, SHORT_DESCENT)

        def descent(samples: Samples, pull: float, iterations: int, start: Network | None = None) -> Network:
            first, prior = scattered(samples.filled(), samples.q, rank, hidden, seed)
            go = run._replace(optimizer="lbfgs", max_iter=iterations, pull=pull, towards=prior)
            return go(start or first, samples, None).network

        fit = few_enough(fit, self.final.n_neurons, seed)
        tries = [descent(fit.coarse(step), pull, long) for pull in PULLS]
        errors = [held.coarse(step).errors(network) for network in tries]
        best = _as_good(errors, self.power / step)[-1]
        found = descent(fit, PULLS[best], short, tries[best])

        def again(everything: Samples) -> Network:
            everything = few_enough(everything, self.final.n_neurons, seed)
            coarse = descent(everything.coarse(step), PULLS[best], long)
            return descent(everything, PULLS[best], short, coarse)

        self._end(found, again)

    def interrupt(self, stop: KeyboardInterrupt) -> None:
        """After Ctrl-C: the network that the descent had reached where it pays, else the last stage; with a warning."""
        reached = False
        if isinstance(stop, Interrupted):
            held = self.parts[0][1]
            errors = held.errors(stop.network)
            reached = _better(self.errors[: len(held.x)], errors, self.power)
            if reached:
                self.final = stop.network
                self.stages.append(Stage("gradient", stop.network, np.nan))
        if not self.stages:
            raise stop
        self.stages[-1] = self.stages[-1]._replace(interrupted=True)
        where = "the gradient had reached" if reached else f"the {self.stages[-1].name} gave"
        warn(f"interrupted: the fit is the best so far, what {where}.")

    def _end(self, network: Network, again: Callable[[Samples], Network]) -> None:
        """Keep the first split's network where it pays, or, unless that holds all, what `again` finds on everything."""
        _, held = self.parts[0]
        if not _better(self.errors[: len(held.x)], held.errors(network), self.power):
            if not self.stages:
                raise ContractError(
                    "the gradient diverged from its random start; use method='auto', which starts from the closed "
                    "form, another seed, or a smaller scale of the activity."
                )
            return
        if self.refit:
            network = again(self.samples)
        self.final = network
        self.stages.append(Stage("gradient", network, np.nan))


def _balanced(network: Network, samples: Samples, rank: int | None = None) -> Network:
    """The network, or what is left of it at a lower rank, with latents of unit variance on some of the conditions."""
    on = samples.q[:: -(-len(samples.q) // BALANCED_BY)], samples.alpha, samples.nonlinearity
    return balanced(network if rank is None else cut(network, rank, *on), *on)


def fit_stages(
    samples: Samples,
    *,
    rank: int | None,
    method: str = "auto",
    hidden: int = 0,
    ridges: Sequence[float] = RIDGES,
    ridge_by: str = "held_out",
    l2_n: float = 0.0,
    max_iter: int = 200,
    epochs: int = 50,
    seed: int = 0,
    segment: int = 0,
    optimizer: str = "auto",
    device: str = "cpu",
    keep_interrupted: bool = False,
    journal: Journal | None = None,
    report: Report = lambda stage, step, loss, held: None,
) -> tuple[list[Stage], Array]:
    """Run the stages that ``method`` names; the last of the list is the fit. Also the closed form's singular values.

    ``keep_interrupted``: Ctrl-C in the gradient ends it with a warning and the best so far, else it is raised.
    """
    neurons, n_drives = samples.x.shape[2] + hidden, samples.q.shape[2]
    if method == "published":
        start = random_network(neurons, rank or 1, n_drives, seed)
        told = lambda epoch, loss: report("published", epoch + 1, loss, np.nan)  # noqa: E731
        best = problem_of(samples, device).published(start.m, start.n, start.w, epochs=epochs, seed=seed, report=told)
        return [Stage("published", Network(*best), np.nan)], np.zeros(0)
    search = _Search(samples, splits_of(len(samples.x), seed), ridges, ridge_by)
    singular = np.zeros(0)

    def drawn(number: int) -> Network:
        start = random_network(neurons, rank or 1, n_drives, seed + number)
        start.w[:, slice(*samples.starts)] = 0
        return start

    def others() -> Iterator[Other]:
        of = rank or 1
        for more in (k for k in HIGHER if of + k <= samples.x.shape[2]):
            higher = _Search(samples, search.splits, ridges, ridge_by)
            higher.try_ridges("closed form", partial(closed, of=of + more), forced=True)
            higher.try_ridges("latent pass", again)
            left = float(higher.errors[: len(search.splits[0][1])].sum())
            yield _balanced(higher.networks[0], higher.parts[0][0], of), _balanced(higher.final, samples, of), left
        for start in map(drawn, range(RANDOM)):
            yield start, start, 0.0

    if method == "gradient":
        search.start_from(drawn(0))
    else:

        def regressed(s: Samples, r: Sequence[float], of: int | None = rank, **how: Any) -> Solutions:
            return closed_form(s.x, s.q, rank=of, ridges=r, **s.regression(l2_n), **how)

        def closed(s: Samples, _: Network | None, r: Sequence[float], of: int) -> Solutions:
            return regressed(s, r, of)

        def whole(s: Samples, _: Network | None, r: Sequence[float]) -> Solutions:
            nonlocal singular
            found = regressed(s, r)
            singular = found.singular
            return found

        report("closed form", 0, np.nan, np.nan)
        search.try_ridges("closed form", whole, forced=True)
        if rank is not None and not hidden and white(search.networks[0], search.parts[0][1]):
            return search.stages, singular
        if samples.halves is not None:
            report("instruments", 0, np.nan, np.nan)
            search.try_ridges("instruments", lambda s, _, r: regressed(s, r, halves=s.halves), gcv=False)
        if rank is None:
            report("innovations", 0, np.nan, np.nan)
            anew = lambda s, _, r: regressed(s, r, whiten=True)  # noqa: E731
            search.try_ridges("innovations", anew, forced=True, whiten=True, gcv=False)
            return search.stages, singular

        def again(s: Samples, net: Network | None, r: Sequence[float]) -> Solutions:
            assert net is not None
            return latent_pass(net, s.x, s.q, ridges=r, **s.regression(l2_n))

        if hidden:
            search.lift(hidden, seed)

            def features(s: Samples, _: Network | None, r: Sequence[float]) -> Solutions:
                return again(s, spanned(s.filled(), s.q, rank, hidden, seed, s.weights), r)

            report("hidden units", 0, np.nan, np.nan)
            search.try_ridges("hidden units", features)
        report("latent pass", 0, np.nan, np.nan)
        search.try_ridges("latent pass", again)
    if method != "regression":
        run = Descending(
            max_iter, device, report, l2_n, journal=journal, segment=segment, optimizer=optimizer, seed=seed
        )
        search.refine(run, hidden, seed, keep_interrupted, others)
    return search.stages, singular
