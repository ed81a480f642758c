"""Choice of the blocks of several areas, and whether there are areas at all, by what each fold holds out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import coords_along
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import ARROW, Blocks, areas_of, blocks_for
from nwb_lint.model.areas.regression import (
    AreaRegression,
    closed_form,
    latent_pass,
    projected_features,
    projected_sums,
)
from nwb_lint.model.data import Samples, unmasked, weights_of
from nwb_lint.model.network import Array, Network, as_nonlinearity, drives, phi_of
from nwb_lint.model.regression import Sums
from nwb_lint.model.scores import as_good_as_best, ceiling, noise_of, reference_of
from nwb_lint.model.simulate import whole_input
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.validation import AreaOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.statespace.data import check_scored_trials, condition_coords, system_of, trials_for
from nwb_lint.statespace.fit import fit_trials_with
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.steps import expectation
from nwb_lint.statespace.system import Batches, System, Trials, loadings_of
from nwb_lint.statespace.tuning import E_STEPS
from nwb_lint.validation.folds import (
    Prepare,
    behind_the_best,
    conditions_to_use,
    folds_of,
    mean_and_sem,
    refuse_own,
)
from nwb_lint.validation.single_trials import evidence_of

# Candidates that differ by a smaller share of the power of the activity count as equal.
# Tuned on: simulated areas (`beyond_areas.py`, seeds 200 and 201). Ranks that are not there gain up to 4e-5, with noise
# in the network; the weakest block that is there gains 1.3e-4, with noise of observation.
_SAME_SHARE = 7e-5

# Ridges of the candidates, the best of which counts, and that of the projection, relative to the mean variance of the
# features. Convention.
_RIDGES, _FIRST_RIDGE = (1e-4, 1e-2, 1.0), 1e-2

# Fits of single trials with fewer and fewer ranks end where one is so many standard errors behind the best.
# Convention.
_CLEARLY = 3.0

# Iterations of the fits of candidates, and their tolerance, unless others are given. Fits that end earlier, as those of
# `fit_trials`, favor blocks that are not there: on two areas apart, up to .9 nats a trial, with these .2.
# Tuned on: simulated areas (`beyond_areas.py blocks_of_trials`, seeds 303 and 304).
_CONVERGED = {"max_iter": 150, "tol": 1e-6}

# Candidates of single trials that are at most so many standard errors behind the best count as equal. A block that is
# not there costs almost nothing, so that by chance it gains one standard error in about one of six recordings.
# Tuned on: simulated areas (`beyond_areas.py blocks_of_trials`, seeds 300 to 309).
_EQUAL_SEM = 2.0

# Options that the regressions of means have.
_OF_MEANS = {"nonlinearity", "bias", "initial", "weights", "input_areas"}


@validated(AreaOptions)
def select_areas(
    activity: xr.Dataset | Prepare,
    *,
    areas: str,
    tau_s: float,
    ranks: Iterable[int] = (1, 2),
    folds: int = 6,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Cross-validated choice of the ranks of the blocks between areas, against one block without areas.

    Means: in each fold, a regression with the largest of the ranks in every block gives latents, on which the activity
    is projected. This removes most of the noise of observation. All candidates are then reduced-rank regressions of the
    activity on the same features, the filtered rates of the projected activity. What they leave in the conditions of
    the fold is their score: how well each area follows from what the areas did before. It is not the R² of a free run,
    in which a few conditions that noise turns the other way count for more than a weak current.

    For each area, ranks are taken away one by one, each time the one that costs least per parameter. Kept are the ranks
    of fewest parameters that are at most one standard error behind the best, or 0.007 % of the power of the activity;
    the standard error is that of the paired differences over conditions. All areas together are then compared in the
    same way with networks of one block, of the given ranks. With equal parameters, one block is chosen: areas need
    evidence.

    Single trials: in each fold, `fit_trials` with the largest rank in every block gives samples of the latents.
    Regressions of each step of these samples say in which order ranks are taken away, and how many ranks are about
    right. From there on, with fewer ranks until one is clearly worse, and with more until one is not better, candidates
    are fitted by themselves, and so are networks of one block. Their score is the log evidence of held-out trials. A
    candidate is as good as the best if it is at most two standard errors behind, from differences that are paired over
    trials: with one, a block that is not there would be chosen in about one of six recordings by chance. The choice has
    the fewest parameters among those that are as good.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        From `prepare`; its ``held_out`` conditions are left out. Or a function that prepares an activity from a boolean
        array of training conditions, None for all. Or single trials, as `fit_trials` takes them.
    areas : str
        Column of the neurons that names their areas.
    tau_s : float
        Time constant of the units, s.
    ranks : iterable of int, default=(1, 2)
        Ranks of one block that are tried. The largest is also the largest of a block between areas.
    folds : int, default=6
        Disjoint parts of the conditions, or of the trials, that are held out in turn.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Of means: ``nonlinearity``, ``bias``, ``initial`` ("zero" or "learned"), ``weights`` and ``input_areas``, as in
        `fit_lint`. Of single trials: other options of `fit_trials`; with the defaults of ``max_iter`` and ``tol``, fits
        go on for up to 150 iterations until they have converged, since evidence is compared.

    Returns
    -------
    xarray.Dataset
        A result of kind "area_selection": ``block_rank (candidate, target, sender)``; ``one_block (candidate)``,
        whether it has no areas (every entry of its block_rank is then its rank); ``n_parameters (candidate)``;
        ``deficit`` and ``deficit_sem (candidate)``, how far it is behind the best; ``as_good (candidate)``. Of means,
        ``area_r2 (candidate)``, the share of held-out conditions that the regression explains, and ``r2 (candidate,
        fold)`` and its ceiling. Of single trials, ``area_evidence`` and ``area_evidence_sem (candidate)``, mean and
        standard error of the log evidence of a held-out trial, nats, as is the deficit; and ``evidence_condition
        (candidate, condition)``, that of each trial.
        ``attrs["chosen"]`` is the candidate, and ``attrs["areas"]`` the column, empty if one block is chosen.
        `chosen_areas` gives the options of its fit.

    Raises
    ------
    ContractError
        If there are more folds than conditions or trials, a trial has no observed sample, the neurons have fewer than
        two areas, or an option is wrong.

    References
    ----------
    One-standard-error rule: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, section 7.10.

    Examples
    --------
    >>> from nwb_lint.testing import mock_areas
    >>> activity, _ = mock_areas(n_neurons=12, n_conditions=12)
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2)
    >>> found["block_rank"].dims
    ('candidate', 'target', 'sender')
    """
    running: dict[str, Any] = {"executor": executor, "cache_dir": cache_dir, "progress": progress, "label": "areas"}
    tried = sorted(set(ranks))
    given = {"rank": tried[-1], "tau_s": tau_s, "areas": areas, **fit_options}
    if isinstance(activity, xr.Dataset) and "trial" in activity.dims:
        refuse_own(fit_options, ("rank", "test_size", "checkpoint", "block_ranks"))
        return _select_of_trials(activity, tried, folds, given, running)
    if unknown := sorted(set(fit_options) - _OF_MEANS):
        raise ContractError(
            f"select_areas has the argument {unknown[0]}. For means it takes {', '.join(sorted(_OF_MEANS))}. Leave out "
            "others."
        )
    whole, options = conditions_to_use(activity), FitOptions.check(given)
    if options.initial not in ("zero", "learned"):
        raise ContractError(f"initial is {options.initial!r}. The choice of blocks needs 'zero' or 'learned'. Use one.")
    names = _names_of(whole, areas)
    held_out = folds_of(whole.sizes["condition"], folds)
    parts = [whole if isinstance(activity, xr.Dataset) else activity(~held) for held in held_out]
    tasks = ((one, {"options": options, "held_out": held}) for one, held in zip(parts, held_out, strict=True))
    found = run_all(sums_of_fold, tasks, total=folds, **running)
    of_fold = zip(parts, held_out, found, strict=True)
    search = _Search([_Fold.of_means(*one, options) for one in of_fold], names)
    return search.table(areas, tried)


def _names_of(dataset: xr.Dataset, areas: str) -> tuple[str, ...]:
    """The areas; ContractError if there are fewer than two."""
    names = tuple(np.unique(areas_of(dataset, areas)).tolist())
    if len(names) < 2:
        raise ContractError(f"The neurons have one area, {names[0]!r}. A choice of blocks needs two. Use select_rank.")
    return names


def chosen_areas(selection: xr.Dataset) -> dict[str, Any]:
    """The options of the fit that `select_areas` chooses: rank, areas and block_ranks, as `fit_lint` takes them.

    Parameters
    ----------
    selection : xarray.Dataset
        From `select_areas`.

    Returns
    -------
    dict
        ``rank``; and with areas also ``areas`` and ``block_ranks``.

    Raises
    ------
    ContractError
        If the Dataset is of another kind, or no block is chosen.

    Examples
    --------
    >>> from nwb_lint.testing import mock_areas
    >>> activity, _ = mock_areas(n_neurons=12, n_conditions=12)
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2)
    >>> sorted(chosen_areas(found))[-1]
    'rank'
    """
    check_result(selection, "area_selection")
    one = selection.isel(candidate=int(selection.attrs["chosen"]))
    ranks = one["block_rank"].values
    if not ranks.any():
        raise ContractError(
            "The choice of blocks is none: beyond the inputs, what the areas did before predicts nothing of held-out "
            "conditions. A fit needs a block of rank 1. Average more trials, or name the blocks with block_ranks."
        )
    if bool(one["one_block"]):
        return {"rank": int(ranks.max())}
    names = one["target"].values.astype(str)
    return {"rank": int(ranks.max()), "areas": str(selection.attrs["areas"]), "block_ranks": _texts(names, ranks)}


def _texts(names: Iterable[str], ranks: Array) -> dict[str, int]:
    """Ranks (to, from) by the texts of `fit_lint`."""
    names = list(names)
    return {f"{names[a]}{ARROW}{names[b]}": int(rank) for (a, b), rank in np.ndenumerate(ranks)}


def sums_of_fold(data: xr.Dataset, *, options: FitOptions, held_out: Array) -> dict[str, Array]:
    """Sums of the training conditions of a fold, for all candidates; its network, areas, and the ceiling."""
    samples, weights = _samples(data, options), weights_of(data, options.weights, ~held_out)
    blocks = _blocks(data, options, samples.q.shape[2])
    train = samples.take(np.flatnonzero(~held_out))
    how: dict[str, Any] = {"alpha": samples.alpha, "nonlinearity": samples.nonlinearity, "weights": weights}
    first = closed_form(train.x, train.q, blocks=blocks, ridges=[_FIRST_RIDGE], **how).networks[0]
    network = latent_pass(first, train.x, train.q, blocks=blocks, ridges=[_FIRST_RIDGE], **how).networks[0]
    sums = projected_sums(network, train.x, train.q, **how)
    noise, y = noise_of(data), unmasked(data)["activity"].values
    top = np.nan if noise is None else ceiling(y[held_out], noise[held_out], reference_of(y, ~held_out))
    found: dict[str, Any] = sums._asdict() | {"area": blocks.area, "reached": blocks.reached}
    return found | network._asdict() | {"ceiling": np.array(top)}


def _blocks(data: xr.Dataset, options: FitOptions, n_drives: int) -> Blocks:
    """The areas, with the largest rank in every block."""
    assert options.areas is not None
    assert options.rank is not None
    return blocks_for(data, options.areas, options.rank, None, options.input_areas, hidden=0, n_drives=n_drives)


def _samples(data: xr.Dataset, options: FitOptions) -> Samples:
    """Conditions with the drives that the options give."""
    alpha = float(data.attrs["bin_s"]) / options.tau_s
    q = drives(whole_input(data), alpha, bias=options.bias, initial=options.initial == "learned")
    x = unmasked(data)["activity"].values.astype(np.float32, copy=False)
    return Samples(x, q, alpha, as_nonlinearity(options.nonlinearity))


class _Fold(NamedTuple):
    """The regressions of a fold, and what they are scored on.

    ``z`` features, ``q`` drives and targets ``y`` of what is held out, (condition, time, any); the regressions with
    areas (``blocks``) and without (``whole``); ``held``, positions of what is held out, ``power`` of its targets by
    condition, ``sizes`` of the areas, and the ``ceiling``.
    """

    z: Array
    q: Array
    y: Array
    blocks: AreaRegression
    whole: AreaRegression
    held: Array
    power: Array
    sizes: Array
    ceiling: float

    @classmethod
    def of(cls, found: dict[str, Array], z: Array, q: Array, y: Array, power: Array, **given: Any) -> _Fold:
        """A fold from the sums of its training part."""
        sums, weights = Sums(*(found[name] for name in Sums._fields)), given.pop("weights", None)
        blocks = AreaRegression(sums, found["area"], found["reached"], weights)
        whole = AreaRegression(sums, 0 * found["area"], np.ones_like(found["reached"]), weights)
        return cls(z, q, y, blocks, whole, power=power, sizes=np.bincount(found["area"]), **given)

    @classmethod
    def of_means(cls, data: xr.Dataset, held_out: Array, found: dict[str, Array], options: FitOptions) -> _Fold:
        """A fold of conditions, from `sums_of_fold`."""
        samples, held = _samples(data, options), np.flatnonzero(held_out)
        test, weights = samples.take(held), weights_of(data, options.weights, ~held_out)
        how: dict[str, Any] = {"alpha": samples.alpha, "nonlinearity": samples.nonlinearity, "weights": weights}
        z = projected_features(Network(*(found[name] for name in "mnw")), test.x, test.q, **how)
        off = test.x - reference_of(samples.x, ~held_out)
        power = np.nansum(off**2, axis=(1, 2), dtype=float)
        q = test.q[:, test.q.shape[1] - test.x.shape[1] :]
        return cls.of(found, z, q, test.x, power, weights=weights, held=held, ceiling=float(found["ceiling"]))

    def errors(self, one_block: bool, a: int, row: tuple[int, ...]) -> Array:
        """Squared errors (ridge, condition) of an area with these ranks of the blocks to it."""
        regression = self.whole if one_block else self.blocks
        return np.array([regression.errors(a, row, ridge, self.z, self.q, self.y) for ridge in _RIDGES])


Row = tuple[int, ...]


class _Search:
    """Squared errors of the areas, by condition, for the ranks of the blocks to them that were tried."""

    def __init__(self, folds: list[_Fold], names: tuple[str, ...]) -> None:
        self.folds, self.names, self.sizes = folds, names, folds[0].sizes
        self.power = np.concatenate([one.power for one in folds])
        self._known: dict[tuple[bool, int, Row], Array] = {}

    def errors(self, a: int, row: Row, one_block: bool = False) -> Array:
        """Squared errors of each condition while it is held out, with the best ridge."""
        key = one_block, a, row
        if key not in self._known:
            errors = np.concatenate([fold.errors(*key) for fold in self.folds], axis=1)
            self._known[key] = errors[int(np.argmin(errors.sum(axis=1)))]
        return self._known[key]

    def cost(self, a: int, row: Row) -> int:
        """Entries of m and n of the blocks to an area that may differ from 0."""
        return int(np.dot(row, self.sizes[a] + self.sizes))

    def path(self, a: int, most: int) -> list[Row]:
        """Ranks of the blocks to an area, from the most down to none: each time the one that costs least goes."""
        row: Row = (most,) * len(self.names)
        found = [row]
        while sum(row):
            lower = [(*row[:b], rank - 1, *row[b + 1 :]) for b, rank in enumerate(row) if rank]
            before = self.errors(a, row).sum()
            losses = [(self.errors(a, one).sum() - before) / (self.cost(a, row) - self.cost(a, one)) for one in lower]
            row = lower[int(np.argmin(losses))]
            found.append(row)
        return found

    def way(self, most: int) -> list[list[Row]]:
        """Ranks of all blocks, from the most down to a single one: each time the one that costs least goes.

        The cost is what the logarithm of the squared error of its area rises by, for each parameter.
        """
        paths = [self.path(a, most) for a in range(len(self.names))]
        at, found = [0] * len(paths), [[one[0] for one in paths]]
        while sum(map(sum, found[-1])) > 1:
            losses = {}
            for a, rows in enumerate(paths):
                if at[a] + 1 < len(rows):
                    before, after = rows[at[a]], rows[at[a] + 1]
                    ratio = self.errors(a, after).sum() / self.errors(a, before).sum()
                    losses[a] = np.log(ratio) / (self.cost(a, before) - self.cost(a, after))
            at[min(losses, key=lambda a: losses[a])] += 1
            found.append([rows[k] for rows, k in zip(paths, at, strict=True)])
        return found

    def expected(self, most: int) -> int:
        """The place on the way whose number of ranks is that of the ranks that the regressions need."""
        needed = sum(sum(self.needed(a, self.path(a, most))) for a in range(len(self.names)))
        return len(self.names) ** 2 * most - max(needed, 1)

    def needed(self, a: int, rows: list[Row]) -> Row:
        """The ranks of fewest parameters among those that are as good as the best."""
        errors = np.array([self.errors(a, row) for row in rows])
        good = as_good(errors, float(self.power.sum()))[0]
        return min((self.cost(a, row), row) for row, one in zip(rows, good, strict=True) if one)[1]

    def table(self, areas: str, ranks: list[int]) -> xr.Dataset:
        """The result."""
        count = len(self.names)
        paths = [self.path(a, ranks[-1]) for a in range(count)]
        best = [self.needed(a, path) for a, path in enumerate(paths)]
        others = [[paths[a][k] for a in range(count)] for k in range(len(paths[0]) - 1)]
        kinds: list[tuple[bool, list[Row]]] = [(True, [(rank,)]) for rank in ranks]
        kinds += [(False, one) for one in [best, *(one for one in others if one != best)]]
        errors = np.array([
            np.sum([self.errors(a, row, whole) for a, row in enumerate(rows)], axis=0) for whole, rows in kinds
        ])  # fmt: skip
        power = float(self.power.sum())
        good, deficit, sem = as_good(errors, power)
        size = np.array([
            2 * rows[0][0] * int(self.sizes.sum()) if whole else sum(self.cost(a, row) for a, row in enumerate(rows))
            for whole, rows in kinds
        ])  # fmt: skip
        among = np.flatnonzero(as_good(errors[: len(ranks) + 1], power)[0]).tolist()
        chosen = min((int(size[k]), not kinds[k][0], k) for k in among)[-1]
        out = xr.Dataset(coords={"target": list(self.names), "sender": list(self.names)})
        whole = kinds[chosen][0]
        out.attrs = {"kind": "area_selection", "chosen": chosen, "areas": "" if whole else areas, "column": areas}
        table = [np.broadcast_to(rows, (count, count)) for _, rows in kinds]
        out["block_rank"] = ("candidate", "target", "sender"), np.array(table)
        out["one_block"] = ("candidate",), np.array([one for one, _ in kinds])
        out["n_parameters"], out["as_good"] = (("candidate",), size), (("candidate",), good)
        out["area_r2"] = ("candidate",), 1 - errors.sum(axis=1) / self.power.sum()
        out["deficit"], out["deficit_sem"] = (("candidate",), deficit), (("candidate",), sem)
        edges = np.cumsum([len(one.held) for one in self.folds])[:-1]
        parts = zip(*(np.split(one, edges, axis=-1) for one in (errors, self.power)), strict=True)
        out["r2"] = ("candidate", "fold"), np.array([1 - error.sum(axis=1) / own.sum() for error, own in parts]).T
        out["r2_ceiling"] = ("fold",), np.array([one.ceiling for one in self.folds])
        check_result(out, "area_selection")
        return out


def as_good(errors: Array, power: float) -> tuple[Array, Array, Array]:
    """Whether candidates are about as good as the best one, how far they are behind it, and the standard error.

    They are at most one standard error behind, or `_SAME_SHARE` of the power.

    Parameters
    ----------
    errors : array of shape (candidate, condition)
        Squared errors of the conditions while they are held out.
    power : float
        Squared activity of all areas in all conditions, which the last two are relative to.

    Returns
    -------
    good, deficit, sem : array of shape (candidate,)
    """
    total = errors.sum(axis=1)
    best = int(np.argmin(total))
    deficit = total - total[best]
    sem = (errors - errors[best]).std(axis=1, ddof=1) * np.sqrt(errors.shape[1])
    return deficit <= np.maximum(sem, _SAME_SHARE * power), deficit / power, sem / power


# ---------------------------------------------------------------------------------------------------------------------
# Single trials


def _select_of_trials(
    trials: xr.Dataset, ranks: list[int], folds: int, given: Mapping[str, Any], running: Mapping[str, Any]
) -> xr.Dataset:
    """The result for single trials."""
    options = TrialFitOptions.check(given)
    check_scored_trials(trials, options.observation)
    areas = options.areas
    assert areas is not None
    defaults = {name: TrialFitOptions.model_fields[name].default for name in _CONVERGED}
    if all(getattr(options, name) == value for name, value in defaults.items()):
        options = options.model_copy(update=_CONVERGED)
    names = _names_of(trials, areas)
    held_out = folds_of(trials.sizes["trial"], folds, first=options.seed, what="trials")
    tasks = ((trials, {"options": options, "held_out": held}) for held in held_out)
    found = run_all(steps_of_fold, tasks, total=folds, **running)
    parts = [
        _Fold.of(
            one, one["held_z"], one["held_q"], one["held_y"], one["power"], held=np.flatnonzero(held), ceiling=np.nan
        )
        for one, held in zip(found, held_out, strict=True)
    ]
    search = _Search(parts, names)
    candidates = _Candidates(trials, names, options, held_out, running)
    for rank in ranks:
        candidates.add(np.full((len(names),) * 2, rank), one_block=True, size=2 * rank * int(search.sizes.sum()))
    tables = [np.array(one) for one in search.way(ranks[-1])]
    sizes = [sum(map(search.cost, range(len(names)), table)) for table in tables]
    candidates.follow(tables, sizes, search.expected(ranks[-1]))
    return candidates.table()


class _Candidates:
    """Candidates for single trials that were fitted, and the log evidence of each trial while it was held out."""

    def __init__(
        self, trials: xr.Dataset, names: tuple[str, ...], options: TrialFitOptions, held_out: list[Array],
        running: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.trials, self.names, self.options, self.held_out, self.running = trials, names, options, held_out, running
        self.ranks: list[Array] = []
        self.one_block: list[bool] = []
        self.sizes: list[int] = []
        self.evidence: list[Array] = []

    def add(self, ranks: Array, *, one_block: bool, size: int) -> None:
        """Fit one candidate in every fold."""
        changes: dict[str, Any] = {"block_ranks": _texts(self.names, ranks)}
        if one_block:
            changes = {"areas": None, "block_ranks": None, "input_areas": None, "rank": int(ranks.max())}
        options = self.options.model_copy(update=changes)
        self.evidence.append(evidence_of(self.trials, [options], self.held_out, self.running)[0])
        self.ranks.append(ranks)
        self.one_block.append(one_block)
        self.sizes.append(size)

    def follow(self, tables: list[Array], sizes: list[int], at: int) -> None:
        """Fit candidates of a way, from this place on in both directions, until one is clearly worse than the best."""
        first = len(self.evidence)
        for way in (range(at, len(tables)), range(at - 1, -1, -1)):
            for k in way:
                self.add(tables[k], one_block=False, size=sizes[k])
                own = np.array(self.evidence[first:])
                off = own[own.mean(axis=1).argmax()] - own[-1]
                fewer = way.step > 0
                if off.mean() > (_CLEARLY if fewer else 0) * off.std() / np.sqrt(len(off)) and k != at:
                    break

    def table(self) -> xr.Dataset:
        """The result."""
        evidence, size, one_block = np.array(self.evidence), np.array(self.sizes), np.array(self.one_block)
        mean, sem = mean_and_sem(evidence, axis=1)
        deficit, error = behind_the_best(evidence[:, None])
        good = as_good_as_best(deficit, _EQUAL_SEM * error)
        chosen = min((int(size[k]), not one_block[k], k) for k in np.flatnonzero(good).tolist())[-1]
        along = coords_along(xr.Dataset(coords=condition_coords(self.trials)), "condition", kind="area_selection")
        out = xr.Dataset(coords={"target": list(self.names), "sender": list(self.names), **along})
        areas = str(self.options.areas)
        out.attrs = {"kind": "area_selection", "chosen": chosen, "areas": "" if one_block[chosen] else areas}
        out.attrs["column"] = areas
        out["block_rank"] = ("candidate", "target", "sender"), np.array(self.ranks)
        out["one_block"], out["n_parameters"] = (("candidate",), one_block), (("candidate",), size)
        out["as_good"] = ("candidate",), good
        columns = {"area_evidence": mean, "area_evidence_sem": sem, "deficit": deficit, "deficit_sem": error}
        for name, values in columns.items():
            out[name] = ("candidate",), values, {"units": "nats/trial"}
        out["evidence_condition"] = ("candidate", "condition"), evidence, {"units": "nats"}
        check_result(out, "area_selection")
        return out


def steps_of_fold(trials: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Sums of the regressions of a fold, and their features, drives and targets in held-out trials.

    The targets are the steps x[t+1] - (1 - alpha) x[t] of the recorded neurons, in a pair of samples of the posterior,
    and the features phi(x[t]), so that what they explain is alpha J. Drives are those of the inputs, and a constant.
    """
    fit = fit_trials_with(trials, options, held_out, scored=False)
    system, arrays = system_of(fit), trials_for(fit, trials)
    blocks, n = system.blocks, system.n_neurons
    assert blocks is not None
    z, q, y = _steps(system, arrays, options.seed)
    held = np.concatenate([held_out, held_out])
    flat = [one[~held].reshape(-1, one.shape[2]).astype(float) for one in (z, q, y)]
    zz, zy, yy, qq, qz, qy = (flat[i].T @ flat[k] for i, k in ((0, 0), (0, 2), (2, 2), (1, 1), (1, 0), (1, 2)))
    sums = Sums(zz, zy, yy, np.trace(zz), np.array(len(flat[0])), qq, qz, qy)
    reached = np.concatenate([blocks.reached[:n], np.ones((n, 1), bool)], axis=1)
    out = {"held_z": z[held], "held_q": q[held], "held_y": y[held], "power": (y[held] ** 2).sum(axis=(1, 2))}
    return sums._asdict() | {"area": blocks.area[:n], "reached": reached} | out


def _steps(system: System, trials: Trials, seed: int) -> tuple[Array, Array, Array]:
    """Features, drives and targets (sample × trial, time - 1, any); 0 outside of the observed part of a trial."""
    n, keep = system.n_neurons, 1 - system.alpha
    mean, covariance, _ = posterior_of(system, trials)
    noise = np.random.default_rng([seed, 4]).standard_normal((1, *mean.shape))
    drawn = expectation(system, Batches(trials), mean, covariance, noise, E_STEPS).drawn
    assert drawn is not None
    lag = trials.lag[..., None]
    x = drawn @ loadings_of(system, trials.basis)[..., :n] + trials.v @ system.weights[:n].T + system.bias[:n]
    z, y = phi_of(system.nonlinearity, x).phi(x)[:, :, :-1] * lag, (x[:, :, 1:] - keep * x[:, :, :-1]) * lag
    u = trials.v[:, 1:] - keep * trials.v[:, :-1]
    q = np.concatenate([u, np.ones_like(u[..., :1])], axis=2) * lag
    shape = (-1, y.shape[2], n)
    return z.reshape(shape).astype(np.float32), np.concatenate([q, q]), y.reshape(shape).astype(np.float32)
