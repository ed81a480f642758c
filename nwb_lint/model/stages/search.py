"""A fit in progress: its splits, its networks, the stages that were kept, and all choices on held-out conditions.

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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import Array, Network
from nwb_lint.model.optimization import some_of, subset_of
from nwb_lint.model.regression import Solutions
from nwb_lint.model.tuning import (
    EQUAL_ERROR,
    HIGHER_RANKS,
    INNER_FOLDS,
    INNOVATIONS_TOLERANCE,
    MAX_AUTOCORRELATION,
    MAX_LATENT_AUTOCORRELATION,
    MAX_VALIDATION_CONDITIONS,
    PENALTY_TOLERANCE,
    RANDOM_STARTS,
    RIDGES,
    SINGLE_SPLIT_CONDITIONS,
    VALIDATION_ONE_IN,
)
from nwb_lint.parallel.arrays import Engine, engine_with_doubles
from nwb_lint.parallel.threads import map_in_order, one_blas_thread
from nwb_lint.parallel.warnings import warn

Result = TypeVar("Result")
Split = tuple[Array, Array]  # positions of fitted conditions, and of held-out ones
Proposal = Callable[[int | None, Network | None, Sequence[float]], Solutions]  # of a split (None = of everything)


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


def tolerated(error: float, power: float) -> float:
    """What a shorter n may add to an error: a small share of the power, and no more than the error itself.

    Where a network predicts nearly everything, a longer n is determined by what it predicts.
    """
    return min(PENALTY_TOLERANCE * power, error)


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
