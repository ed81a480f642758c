"""The stages of a fit on arrays: closed form, latent pass, gradient. Held-out conditions decide every choice.

Splits. All choices (ridge, whether a stage is kept, when a descent stops) are made on splits inside the training
conditions, by the error of the free run on the held-out part. Two fits are equally good if their errors differ by less
than one standard error (paired over conditions) or by less than `EQUAL_ERROR` of the power. A stage is kept only if it
is better than the one before.

Ridges. Among equally good candidates, the closed form takes the one with the smallest error when the recorded rates
drive it (teacher forcing), because noise inside the network contains information about n that the free run does not
use. The features of the latent pass have no such noise; it takes the largest ridge. With ``ridge_by="gcv"``, each takes
its ridge by generalized cross-validation. With ``ridge_by="innovations"``, each takes, among candidates whose free run
explains nearly as much as the best, the one that predicts held-out innovations x[t] - (1 - alpha) x[t-1] best from the
rates before. These are fluctuations that the free run never produces, but that an inactivation does.

Order. Closed form; again without an unseen start if there is a burn-in, and with trial halves as instruments if there
are any; innovations for an unconstrained J; hidden units; latent pass; gradient. A closed form with white innovations
is final (`innovations_are_white`). A descent from regressions that explain nothing, or on a subset of the conditions
that does not represent all, is repeated from other starts (`other_starts`), and the held-out error decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.areas import regression as of_areas
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples
from nwb_lint.model.hidden_units import random_features, random_start_and_prior, with_hidden_units
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import Array, Network, factors, norm_ratio, random_network, reduce_rank, with_unit_latents
from nwb_lint.model.optimization import Descent, Optimizer, Report, Schedule, Visited, problem_of, some_of, subset_of
from nwb_lint.model.regression import (
    Solutions,
    chunks_of,
    closed_forms,
    features,
    latent_pass,
    observed_samples,
    predict_from_features,
)
from nwb_lint.model.tuning import (
    COARSE_ALPHA,
    COARSE_ITERATIONS,
    EQUAL_ERROR,
    FINE_ITERATIONS,
    GAIN_CONDITIONS,
    HIGHER_RANKS,
    INNER_FOLDS,
    INNOVATIONS_TOLERANCE,
    LONG_N,
    MAX_AUTOCORRELATION,
    MAX_LATENT_AUTOCORRELATION,
    MAX_VALIDATION_CONDITIONS,
    PENALTY,
    PENALTY_TOLERANCE,
    PRIOR_STRENGTHS,
    RANDOM_STARTS,
    RIDGES,
    SCALING_CONDITIONS,
    SINGLE_SPLIT_CONDITIONS,
    VALIDATION_ONE_IN,
)
from nwb_lint.parallel.arrays import Engine, engine_with_doubles
from nwb_lint.parallel.threads import map_in_order, one_blas_thread
from nwb_lint.parallel.warnings import warn

Result = TypeVar("Result")
Split = tuple[Array, Array]  # positions of fitted conditions, and of held-out ones
Proposal = Callable[[int | None, Network | None, Sequence[float]], Solutions]  # of a split (None = of everything)
ProposalOn = Callable[[Samples, Network | None, Sequence[float]], Solutions]
Starts = tuple[Network, Network]  # on the first split, and on everything
OtherStart = tuple[Network, Network, float]  # on the first split, on everything; held-out error of its regression


class Settings(NamedTuple):
    """Options of a fit; those before ``higher_ranks`` are options of `fit_lint`.

    ``l2_n``: None = 0, and `PENALTY` in a gradient whose n would be far too long.
    ``segment``: time steps of the first segments, 0 = whole trials. ``higher_ranks`` and ``random_starts``: see
    `other_starts`. ``max_autocorrelation``: bounds of `innovations_are_white`. ``blocks``: those of several areas; the
    rank is then that of all blocks together.
    """

    rank: int | None
    method: str = "auto"
    hidden: int = 0
    ridges: Sequence[float] = RIDGES
    ridge_by: str = "held_out"
    l2_n: float | None = 0.0
    max_iter: int = 200
    epochs: int = 50
    seed: int = 0
    segment: int = 0
    optimizer: str = "auto"
    higher_ranks: Sequence[int] = HIGHER_RANKS
    random_starts: int = RANDOM_STARTS
    max_autocorrelation: tuple[float, float] = (MAX_AUTOCORRELATION, MAX_LATENT_AUTOCORRELATION)
    blocks: Blocks | None = None
    device: str = "cpu"

    @property
    def engine(self) -> Engine:
        """What computes the moments of regressions, whose sums are in double precision."""
        return engine_with_doubles(self.device)

    @property
    def penalty(self) -> float:
        """The penalty of every stage, up to the one of `shorten`."""
        return self.l2_n or 0.0


class Stage(NamedTuple):
    """A stage that was kept: its name, its network, its ridge (NaN if it has none), and whether Ctrl-C ended it.

    ``penalty``: its l2_n, NaN if it has a ridge instead.
    """

    name: str
    network: Network
    ridge: float
    interrupted: bool = False
    penalty: float = np.nan


def _no_report(stage: str, step: int, loss: float, held_out: float) -> None:
    """Report of progress that does nothing."""


def fit_stages(
    samples: Samples,
    settings: Settings,
    *,
    keep_interrupted: bool = False,
    journal: Journal | None = None,
    report: Report = _no_report,
) -> tuple[list[Stage], Array]:
    """Run the stages of a method.

    Parameters
    ----------
    samples : Samples
        Training conditions.
    settings : Settings
    keep_interrupted : bool, default=False
        Whether Ctrl-C during the gradient ends the fit with a warning and the best network so far. Otherwise it is
        raised.
    journal : Journal, optional
        Evaluations of the gradient, kept in a file.
    report : callable
        Called with the stage, the step, the loss and the held-out loss.

    Returns
    -------
    stages : list of Stage
        The stages that were kept. The last one is the fit.
    singular : array
        Leading singular values of the closed form; empty for an unconstrained J and without a closed form.
    """
    if settings.method == "published":
        return [_published(samples, settings, report)], np.zeros(0)
    search = Search(samples, settings)
    if settings.method == "gradient":
        search.start_from(random_start(samples, settings, 0))
    elif run_regressions(search, report) or settings.method == "regression":
        settle(search)
        return search.stages, search.singular
    optimizer = Optimizer(
        settings.max_iter,
        settings.device,
        report,
        settings.penalty,
        journal=journal,
        segment=settings.segment,
        algorithm=settings.optimizer,
        seed=settings.seed,
        blocks=settings.blocks,
    )
    try:
        if settings.hidden:
            run_gradient_with_hidden_units(search, optimizer)
        else:
            run_gradient(search, optimizer)
    except KeyboardInterrupt as stop:
        if not keep_interrupted:
            raise
        search.interrupt(stop)
    settle(search)
    return search.stages, search.singular


# ---------------------------------------------------------------------------------------------------------------------
# Splits and comparisons


def splits_of(n_conditions: int, seed: int) -> list[Split]:
    """Inner splits of the training conditions: folds if conditions are few, one split if they are many."""
    order = np.random.default_rng(seed).permutation(n_conditions)
    if n_conditions >= SINGLE_SPLIT_CONDITIONS:
        held = order[: min(MAX_VALIDATION_CONDITIONS, n_conditions // VALIDATION_ONE_IN)]
        return [(np.setdiff1d(order, held), np.sort(held))]
    folds = np.array_split(order, min(INNER_FOLDS, n_conditions))
    return [(np.setdiff1d(order, fold), np.sort(fold)) for fold in folds]


def is_better(before: Array, after: Array, power: float) -> bool:
    """Whether errors per condition decrease by more than a standard error and more than a share of the power."""
    if not np.isfinite(after).all():
        return False
    if not np.isfinite(before).all():
        return True
    decrease = before - after
    se = decrease.std(ddof=1) / np.sqrt(len(decrease)) if len(decrease) > 1 else 0.0
    return bool(decrease.mean() > max(se, EQUAL_ERROR * power))


def equally_good(errors: list[Array], power: float) -> list[int]:
    """Positions of the best candidate and of all that it is not better than."""
    best = int(np.argmin([np.mean(e) for e in errors]))
    return [k for k in range(len(errors)) if k == best or not is_better(errors[k], errors[best], power)]


class Parts:
    """The fitted and the held-out conditions of every split, the second as a fit to the first predicts them.

    Their copies are made when they are asked for, and one pair is kept. All pairs together would be several times the
    data. ``fitted(None)`` is everything.
    """

    def __init__(self, samples: Samples, splits: list[Split]) -> None:
        self.samples, self.splits = samples, splits
        self.drives = samples._replace(x=samples.x[:, :0], halves=None)
        self._kept: dict[int, tuple[Samples, Samples]] = {}

    def __len__(self) -> int:
        return len(self.splits)

    def __getitem__(self, k: int) -> tuple[Samples, Samples]:
        if k not in self._kept:
            self._kept.clear()
            self._kept[k] = self._pair(k)
        return self._kept[k]

    def _pair(self, k: int) -> tuple[Samples, Samples]:
        return self._kept[k] if k in self._kept else (self.fitted(k), self.held_out(k))

    def fitted(self, k: int | None) -> Samples:
        """The fitted conditions of a split alone."""
        if k is None:
            return self.samples
        return self._kept[k][0] if k in self._kept else self.samples.take(self.splits[k][0])

    def held_out(self, k: int) -> Samples:
        """The held-out conditions of a split alone."""
        if k in self._kept:
            return self._kept[k][1]
        fit, held = self.splits[k]
        return self.samples.take(held).as_new_conditions(self.drives.take(fit))

    def some_held_out(self, k: int, n_neurons: int) -> Samples:
        """As many of the held-out conditions of a split as one gradient uses."""
        if k in self._kept:
            return subset_of(self._kept[k][1], n_neurons, 0)
        fit, held = self.splits[k]
        return some_of(self.samples, held, n_neurons, 0).as_new_conditions(self.drives.take(fit))

    def map(self, work: Callable[[int], Result]) -> list[Result]:
        """``work(k)`` of every split, side by side unless there are more threads than splits.

        Then each split has all threads for itself.
        """
        if len(self) == 1:
            _ = self[0]  # keeps the only pair
            return [work(0)]
        with one_blas_thread() as threads:
            return list((map_in_order if threads <= len(self) else map)(work, range(len(self))))

    def have_unknown_groups(self) -> bool:
        """Whether some held-out conditions start from initial activations that the fitted ones do not determine."""
        pairs = [(self.drives.take(fit), self.drives.take(held)) for fit, held in self.splits]
        return any(held.as_new_conditions(fit).q is not held.q for fit, held in pairs)


class Search:
    """A fit in progress: one network per inner split, the network on all conditions, and the held-out errors.

    ``networks`` (one per split), ``final`` (on all conditions), ``errors`` (held-out condition of any split), and the
    ``stages`` that were kept.
    """

    def __init__(self, samples: Samples, settings: Settings, splits: list[Split] | None = None) -> None:
        self.samples, self.settings, self.ridges = samples, settings, tuple(sorted(settings.ridges))
        self.splits = splits_of(len(samples.x), settings.seed) if splits is None else splits
        self.parts = Parts(samples, self.splits)
        self.refit = len(self.splits) > 1 or self.parts.have_unknown_groups()  # else the split's network is the fit
        self.networks: list[Network] = []
        self.final: Network
        self.errors = np.full(sum(len(held) for _, held in self.splits), np.inf)
        self.power = float(samples.energies().mean())
        self.stages: list[Stage] = []
        self.singular = np.zeros(0)
        self.judged_by_all = False  # whether every split judged the gradient, and not the first alone

    def start_from(self, network: Network) -> None:
        """Begin with a given network instead of a closed form."""
        self.networks, self.final = [network] * len(self.parts), network

    # Regressions

    def on_samples(self, propose: ProposalOn) -> Proposal:
        """A proposal that sees the samples of one split at a time."""
        return lambda k, network, ridges: propose(self.parts.fitted(k), network, ridges)

    def closed_form(self, *, instruments: bool = False, prewhiten: bool = False) -> Proposal:
        """Proposal of stage 1, which needs no network before it. All splits, and everything, share their sums."""
        samples, settings = self.samples, self.settings
        options = samples.regression_options(settings.penalty) | {"engine": settings.engine}
        if settings.blocks is not None:
            return self.on_samples(partial(_closed_form_of_areas, blocks=settings.blocks, options=options))
        halves = samples.halves if instruments else None
        subsets = [fit for fit, _ in self.splits]
        if self.refit or settings.ridge_by == "gcv":
            subsets.append(np.arange(len(samples.x)))
        how: dict[str, Any] = {"rank": settings.rank, "halves": halves, "prewhiten": prewhiten, **options}
        found = closed_forms(samples.x, samples.q, subsets, **how)
        return lambda k, network, ridges: found.solve(-1 if k is None else k, ridges)

    def latent_pass(self) -> Proposal:
        """Proposal of stage 2."""
        return self.on_samples(partial(_latent_pass, settings=self.settings))

    def try_ridges(
        self, name: str, propose: Proposal, *, teacher_forced: bool = False, prewhiten: bool = False, gcv: bool = True
    ) -> Solutions:
        """Fit a network for every ridge in every split, choose a ridge, refit on everything; keep it if it is better.

        ``teacher_forced``: equally good ridges are compared by the error when the recorded rates drive the network (of
        innovations with ``prewhiten``); otherwise the largest ridge is taken. ``gcv``: whether ``ridge_by="gcv"``
        applies to this stage. Returns the last solutions that were computed.
        """
        before: list[Network | None] = list(self.networks) or [None] * len(self.parts)
        current, ridges, whole = self.final if self.stages else None, self.ridges, None
        if gcv and self.settings.ridge_by == "gcv":
            solutions = propose(None, current, ridges)
            best = int(np.argmin(solutions.gcv))
            ridges, whole = (ridges[best],), solutions.networks[best]

        def tried(k: int) -> tuple[Solutions, Array]:
            found = propose(k, before[k], ridges)
            return found, self.parts.held_out(k).errors_of(found.networks)

        by_split, each = zip(*self.parts.map(tried), strict=True)
        solutions, proposals, errors = by_split[-1], [one.networks for one in by_split], list(np.hstack(each))
        k = self._choose(proposals, errors, teacher_forced, prewhiten)
        chosen = [networks[k] for networks in proposals]
        if self.stages and not self._is_worth_keeping(chosen, errors[k], prewhiten):
            return solutions
        self.networks, self.errors = chosen, errors[k]
        if whole is None and not self.refit:
            whole = self.networks[0]
        if whole is None:
            solutions = propose(None, current, [ridges[k]])
            whole = solutions.networks[0]
        self.final = whole
        self.stages.append(Stage(name, self.final, ridges[k]))
        return solutions

    def try_unseen_start(self) -> None:
        """Repeat the closed form without what activity before the first sample contributes.

        If it is better, all regressions after it leave that out too.
        """
        samples, parts, stages = self.samples, self.parts, len(self.stages)
        self.samples = samples._replace(unseen_start=True)
        self.parts = Parts(self.samples, self.splits)
        solutions = self.try_ridges("unseen start", self.closed_form(), teacher_forced=True)
        if len(self.stages) > stages:
            self.singular = solutions.singular
        else:
            self.samples, self.parts = samples, parts

    def _choose(
        self, proposals: list[list[Network]], errors: list[Array], teacher_forced: bool, prewhiten: bool
    ) -> int:
        """The position of the ridge to take, from the networks of every split and the errors of their free runs."""
        if self.settings.ridge_by == "innovations":
            teacher_forced = prewhiten = True
            mean = np.array([one.mean() for one in errors])
            among = np.flatnonzero(mean <= mean.min() + INNOVATIONS_TOLERANCE * self.power).tolist()
        else:
            among = equally_good(errors, self.power)
        if not teacher_forced or len(among) < 2:
            return int(among[-1])
        candidates = [[networks[i] for i in among] for networks in proposals]
        return int(among[int(np.argmin(self._teacher_forced_errors(candidates, prewhiten)))])

    def _teacher_forced_errors(self, networks: list[list[Network]], prewhiten: bool) -> Array:
        """Held-out errors when the recorded rates drive the networks, of several networks for every split."""
        held = (self.parts.some_held_out(k, nets[0].n_neurons) for k, nets in enumerate(networks))
        return np.sum(
            [h.teacher_forced_errors(nets, prewhiten) for h, nets in zip(held, networks, strict=True)], axis=0
        )

    def _is_worth_keeping(self, found: list[Network], errors: Array, prewhiten: bool) -> bool:
        """Whether the free run is better; with ``prewhiten`` also if it is as good and predicts innovations better."""
        if is_better(self.errors, errors, self.power) or not prewhiten:
            return is_better(self.errors, errors, self.power)
        worse = is_better(errors, self.errors, self.power)
        if self.settings.ridge_by == "innovations":
            worse = bool(errors.mean() > self.errors.mean() + INNOVATIONS_TOLERANCE * self.power)
        pairs = [list(pair) for pair in zip(self.networks, found, strict=True)]
        before, after = self._teacher_forced_errors(pairs, prewhiten=True)
        return bool(not worse and after < before)

    def add_hidden_units(self) -> None:
        """Add hidden units to every network. Its predictions do not change."""

        def added(samples: Samples, network: Network) -> Network:
            wider = with_hidden_units(_rescaled(network, samples), self.settings.hidden, self.settings.seed)
            return wider if self.settings.blocks is None else self.settings.blocks.masked(wider)

        self.networks = self.parts.map(lambda k: added(self.parts.fitted(k), self.networks[k]))
        self.final = added(self.samples, self.final)
        self.stages[-1] = self.stages[-1]._replace(network=self.final)

    # Gradient

    def keep_gradient(self, network: Network, repeat: Callable[[Samples], Network], penalty: float = np.nan) -> None:
        """Keep a descent on the first split if it is better, and repeat it on everything if the split is not all."""
        held = self.parts.held_out(0)
        before, after = self.errors[: len(held.x)], held.errors(network)
        if self.stages and before.mean() > held.energies().mean():
            before = held.energies()  # it must be better than no network, not only than a poor one
        shortened = self.settings.l2_n is None and penalty > 0 and self._is_shorter(network)
        most = before.mean() + tolerated(before.mean(), self.power) * shortened
        if not is_better(before, after, self.power) and not (shortened and after.mean() <= most):
            if not self.stages:
                raise ContractError(
                    "The gradient diverged from its random start. It needs a start near the solution. Use "
                    "method='auto', which starts from the closed form, another seed, or a smaller scale."
                )
            return
        self.errors[: len(held.x)], self.final = after, network
        self.stages.append(Stage("gradient", network, np.nan, penalty=penalty))  # Ctrl-C in the repetition leaves it
        if self.refit:
            # The repetition has seen more, but where the loss has many valleys it may end in a worse one.
            self.final = min(repeat(self.samples), network, key=lambda one: float(self.samples.errors(one).sum()))
            self.stages[-1] = self.stages[-1]._replace(network=self.final)

    def _is_shorter(self, network: Network) -> bool:
        """Whether a network has a smaller J than that of the first split."""
        return bool(self.stages) and network.norm_of_j() < self.networks[0].norm_of_j()

    def interrupt(self, stop: KeyboardInterrupt) -> None:
        """After Ctrl-C: keep the network of the descent if it is better, else the last stage, with a warning."""
        reached = False
        if isinstance(stop, Interrupted):
            held = self.parts.held_out(0)
            errors = held.errors(stop.network)
            reached = is_better(self.errors[: len(held.x)], errors, self.power)
            if reached:
                self.final = stop.network
                self.stages.append(Stage("gradient", stop.network, np.nan))
        if not self.stages:
            raise stop
        self.stages[-1] = self.stages[-1]._replace(interrupted=True)
        warn("The fit was interrupted. It is the best one so far.")


def _rescaled(network: Network, samples: Samples, rank: int | None = None) -> Network:
    """The network, perhaps at a lower rank, with latents of unit variance on some of the conditions."""
    on = samples.q[:: -(-len(samples.q) // SCALING_CONDITIONS)], samples.alpha, samples.nonlinearity
    return with_unit_latents(network if rank is None else reduce_rank(network, rank, *on), *on)


def settle(search: Search) -> None:
    """Drop a gradient that fits the training conditions worse than the stage before, and a fit worse than none.

    The number of iterations of a descent is chosen on one split; its repetition on all conditions may end elsewhere.
    With ``method="auto"``, the fit becomes the network without connections ("zero"), whose prediction is 0, if its
    error is above the power in training, or on inner held-out conditions. These
    have no say where an input of theirs is 0 in all conditions that were fitted, or with two conditions.
    """
    stages, samples = search.stages, search.samples
    error, begun = float(samples.errors(stages[-1].network).sum()), stages[-1].name == "gradient"
    energies = samples.energies()
    shortened = search.settings.l2_n is None and stages[-1].penalty > 0
    before = float(samples.errors(stages[-2].network).sum()) if begun and len(stages) > 1 else np.inf
    if not error <= before + tolerated(before, float(energies.sum())) * shortened:
        interrupted = stages.pop().interrupted
        stages[-1] = stages[-1]._replace(interrupted=interrupted)
        search.final = stages[-1].network
        error = float(samples.errors(search.final).sum())
    if search.settings.method != "auto" or stages[-1].interrupted:
        return
    judges = search.splits[:1] if begun and not search.judged_by_all else search.splits
    without = np.concatenate([energies[held] for _, held in judges])
    answered = len(samples.x) > 2 and all(_spans_drives(samples, *split) for split in judges)
    if error >= energies.sum() or (answered and search.errors[: len(without)].sum() >= without.sum()):
        m, n, w = search.final
        zero = Network(m if n is not None else 0 * m, None if n is None else 0 * n, 0 * w)
        search.final = zero
        stages.append(Stage("zero", zero, np.nan))


def _spans_drives(samples: Samples, fitted: Array, held: Array) -> bool:
    """Whether the drives of the fitted conditions determine all weights that the held-out conditions use."""
    columns = np.delete(np.arange(samples.q.shape[2]), slice(*samples.starts))
    used, every = (samples.q[k][..., columns].reshape(-1, len(columns)).astype(float) for k in (fitted, held))
    grams = [one.T @ one for one in (used, np.concatenate([used, every]))]
    return bool(np.linalg.matrix_rank(grams[0], hermitian=True) == np.linalg.matrix_rank(grams[1], hermitian=True))


# ---------------------------------------------------------------------------------------------------------------------
# Closed form and latent pass


def run_regressions(search: Search, report: Report) -> bool:
    """Run the closed form and what follows it, up to the latent pass. Returns whether the fit is complete."""
    settings, samples = search.settings, search.samples

    def begin(stage: str) -> str:
        report(stage, 0, np.nan, np.nan)
        return stage

    begin("closed form")
    search.singular = search.try_ridges("closed form", search.closed_form(), teacher_forced=True).singular
    if samples.q.shape[1] > samples.x.shape[1] and samples.starts[0] == samples.starts[1]:
        begin("unseen start")
        search.try_unseen_start()
    may_be_complete = settings.rank is not None and not settings.hidden
    held = search.parts.held_out(0)
    if may_be_complete and innovations_are_white(search.networks[0], held, settings.max_autocorrelation):
        return True
    if samples.halves is not None and settings.blocks is None:
        search.try_ridges(begin("instruments"), search.closed_form(instruments=True), gcv=False)
    if settings.rank is None:
        prewhitened = search.closed_form(prewhiten=True)
        search.try_ridges(begin("innovations"), prewhitened, teacher_forced=True, prewhiten=True, gcv=False)
        return True
    if settings.hidden:
        search.add_hidden_units()
        tried = _hidden_units if settings.blocks is None else _latent_pass
        search.try_ridges(begin("hidden units"), search.on_samples(partial(tried, settings=settings)))
    search.try_ridges(begin("latent pass"), search.latent_pass())
    return False


def _closed_form_of_areas(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, blocks: Blocks, options: dict[str, Any]
) -> Solutions:
    """Proposal of stage 1 with several areas; ``network`` is not used."""
    return of_areas.closed_form(samples.x, samples.q, blocks=blocks, ridges=ridges, **options)


def _latent_pass(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, settings: Settings
) -> Solutions:
    """Proposal of stage 2."""
    if network is None:
        raise ContractError("The latent pass needs a network to start from. Run the closed form before it.")
    how = samples.regression_options(settings.penalty) | {"engine": settings.engine}
    if settings.blocks is not None:
        return of_areas.latent_pass(network, samples.x, samples.q, blocks=settings.blocks, ridges=ridges, **how)
    return latent_pass(network, samples.x, samples.q, ridges=ridges, **how)


def _hidden_units(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, settings: Settings
) -> Solutions:
    """Proposal of stage 2 with hidden units as random features; ``network`` is not used."""
    rank, hidden, seed = settings.rank or 1, settings.hidden, settings.seed
    start = random_features(samples.filled(), samples.q, rank, hidden, seed, samples.weights)
    return _latent_pass(samples, start, ridges, settings=settings)


def innovations_are_white(
    network: Network,
    samples: Samples,
    bounds: tuple[float, float] = (MAX_AUTOCORRELATION, MAX_LATENT_AUTOCORRELATION),
) -> bool:
    """Whether the innovations of held-out conditions have no autocorrelation at lag 1, so that the fit is complete.

    With the residuals r = x - m n' F[phi(x)] / N - W q of a network that the recorded rates drive, the innovations are
    e[t] = r[t] - (1 - alpha) r[t-1]. If all noise enters inside the network and the model is right, they are
    independent, and the regression of x on its own filtered rates is the maximum-likelihood estimate: no free run can
    improve it. Observation noise makes neighbors in time different; latents that the network lacks make them similar.

    Parameters
    ----------
    network : Network
    samples : Samples
        Held-out conditions.
    bounds : tuple of float
        Largest mean autocorrelation over neurons, and largest autocorrelation of each latent, with the standard error
        over conditions.

    Returns
    -------
    bool
        False if samples are missing, or if there is a burn-in: the innovations are unknown then.

    References
    ----------
    Ljung, System Identification, 1999, chapters 9 and 16 (prediction-error identification).
    """
    samples = subset_of(samples, network.n_neurons, 0)
    x, q, rho = samples.x, samples.q, 1 - samples.alpha
    if len(x) < 2 or x.shape[1] < 3 or q.shape[1] > x.shape[1] or observed_samples(x) is not None:
        return False
    to_latents = np.linalg.pinv(network.m).T.astype(x.dtype)

    def sums(part: slice) -> list[tuple[Array, Array]]:
        z = features(x[part], samples.alpha, samples.nonlinearity)
        r = x[part] - predict_from_features(network, z, q[part])
        e = r[:, 1:] - rho * r[:, :-1]
        views = (e, e @ to_latents)
        return [(np.einsum("ctn,ctn->n", v, v), np.einsum("ctn,ctn->cn", v[:, 1:], v[:, :-1])) for v in views]

    neurons, latents = zip(*map_in_order(sums, chunks_of(*x.shape)), strict=True)
    of_neurons, of_latents = bounds
    mean = _autocorrelation(neurons, x).mean(axis=1)
    return _is_below(mean, of_neurons) and _is_below(_autocorrelation(latents, x), of_latents)


def _autocorrelation(parts: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """At lag 1, (condition, neuron), in units of the neuron's variance over all conditions."""
    squares, products = zip(*parts, strict=True)
    power = np.sum(squares, axis=0) / (len(x) * (x.shape[1] - 1))
    lagged = np.concatenate(products) / (x.shape[1] - 2)
    return np.divide(lagged, power, out=np.zeros_like(lagged), where=power != 0)


def _is_below(values: Array, bound: float) -> bool:
    """Whether the absolute mean over conditions plus its standard error is at most a bound."""
    mean, se = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return bool((np.abs(mean) + se <= bound).all())


def input_gains(samples: Samples, network: Network, settings: Settings, n_inputs: int) -> tuple[Array, Array]:
    """How much R² falls on inner held-out conditions when an input is left out and the regression is done again.

    The latent pass is repeated from the network, on some conditions of the first inner split, with all inputs and
    without each one in turn. The ridge is that of the smallest held-out error; without an input it is not smaller than
    with all.

    Parameters
    ----------
    samples : Samples
        Training conditions; the first drives are the inputs.
    network : Network
        The fit.
    settings : Settings
    n_inputs : int

    Returns
    -------
    gain, sem : array of shape (input,)
        The fall of R², and its standard error over held-out conditions, which a single one does not have. NaN for an
        unconstrained connectivity, for a network without connections, and where a run diverges.
    """
    nothing = np.full(n_inputs, np.nan)
    if network.n is None or not network.m.any() or not network.w.any():
        return nothing, nothing.copy()
    fitted, held = splits_of(len(samples.x), settings.seed)[0]
    fit, test = (
        some_of(samples, part, network.n_neurons, settings.seed, times=GAIN_CONDITIONS, fewest=2)
        for part in (fitted, held)
    )
    test = test.as_new_conditions(fit)

    def errors(columns: Array, ridges: Sequence[float]) -> list[Array]:
        """Held-out errors by condition of the regression on some of the drives, for each ridge."""
        if not len(columns):  # nothing moves the network
            return [test.energies()]
        first, last = (int(np.searchsorted(columns, edge)) for edge in samples.starts)
        own, others = (one._replace(q=one.q[..., columns], starts=(first, last)) for one in (fit, test))
        blocks = None if settings.blocks is None else settings.blocks.of_drives(columns)
        part = network._replace(w=network.w[:, columns])
        tried = _latent_pass(own, part, ridges, settings=settings._replace(blocks=blocks)).networks
        return list(others.errors_of(tried))

    drives, power, ridges = np.arange(samples.q.shape[2]), test.energies().sum(), sorted(settings.ridges)
    tried = errors(drives, ridges)
    best = int(np.argmin([one.sum() for one in tried]))
    without = [errors(np.delete(drives, k), ridges[best::2]) for k in range(n_inputs)]
    lost = [(min(one, key=np.sum) - tried[best]) / power for one in without]
    lost = [one if np.isfinite(one).all() else np.full(len(one), np.nan) for one in lost]
    several = len(test.x) > 1
    sem = [one.std(ddof=1) * np.sqrt(len(one)) if several else np.nan for one in lost]
    return np.array([one.sum() for one in lost]), np.array(sem)


# ---------------------------------------------------------------------------------------------------------------------
# Gradient


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
        higher.try_ridges("closed form", higher.closed_form(), teacher_forced=True)
        higher.try_ridges("latent pass", higher.latent_pass())
        error = float(higher.errors[: len(search.splits[0][1])].sum())
        first = _rescaled(higher.networks[0], higher.parts[0][0], rank)
        yield first, _rescaled(higher.final, samples, rank), error
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
        return _rescaled(network, samples) if search.stages else network

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


def tolerated(error: float, power: float) -> float:
    """What a shorter n may add to an error: a small share of the power, and no more than the error itself.

    Where a network predicts nearly everything, a longer n is determined by what it predicts.
    """
    return min(PENALTY_TOLERANCE * power, error)


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


def _published(samples: Samples, settings: Settings, report: Report) -> Stage:
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
