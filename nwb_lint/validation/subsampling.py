"""Subsampling: the same choice of rank, or the same fit, on fewer of the neurons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity, check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import SelectOptions, SubsamplingOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.tasks import as_task
from nwb_lint.validation.folds import (
    SPLITS,
    Prepare,
    behind_the_best,
    conditions_to_use,
    fit_with,
    folds_of,
    mean_and_sem,
    refuse_components,
    shared_options,
    smallest_good_rank,
)
from nwb_lint.validation.rank import score_rank


class Group(NamedTuple):
    """Neurons that were drawn: the fraction of all, a boolean array, and their number."""

    fraction: float
    neurons: Array
    n_neurons: int


@validated(SubsamplingOptions, SelectOptions)
def audit(
    activity: xr.Dataset | Prepare,
    *,
    ranks: Iterable[int],
    tau_s: float,
    fractions: Sequence[float] = (1.0, 0.5, 0.2, 0.1),
    draws: int = 3,
    folds: int = 4,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Subsampling audit: do the choice of rank and its R² stay the same when fewer neurons are recorded?

    For every fraction, random groups of round(fraction × N) neurons are drawn. Each group is taken as the whole
    recording, and every rank is cross-validated on it by held-out conditions, as in `select_rank`. A network of which
    few neurons are recorded can gain attractors and lose ranks that the circuit does not have or lose. Do not trust
    what is found at fraction 1 alone.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        As in `select_rank` with ``cv_over="neuron"``: not denoised, or a function of training conditions and neurons.
    ranks : iterable of int
        Ranks to try. R² is NaN where a rank is above the number of neurons drawn.
    tau_s : float
        Time constant of the units, s.
    fractions : sequence of float, default=(1.0, 0.5, 0.2, 0.1)
        Fractions of the neurons, each above 0 and at most 1.
    draws : int, default=3
        Groups of neurons for each fraction; fraction 1 is drawn once.
    folds : int, default=4
        Disjoint parts of the conditions.
    seed : int, default=0
        Seed of groups, folds and fits.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`.

    Returns
    -------
    xarray.Dataset
        A result of kind "audit": ``rank`` (draw), the choice for every group, 0 where no rank was possible, with the
        coordinates ``fraction`` and ``n_neurons`` (draw); ``r2`` and ``r2_sem`` (draw, rank_tried, split), mean and
        standard error over folds; ``r2_ceiling`` (draw, split).

    Raises
    ------
    ContractError
        If a fraction is not above 0 and at most 1, or for the reasons of `select_rank`.

    References
    ----------
    Subsampling of a recorded population: Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_recording
    >>> from nwb_lint import Input, prepare
    >>> inputs = [Input("stimulus", column="stimulus", window_s=(0, 1))]
    >>> activity = prepare(mock_recording(), inputs=inputs, n_components=None)
    >>> audit(activity, ranks=[1], tau_s=0.1, fractions=[1, 0.5], draws=2, folds=2)["rank"].values
    array([1, 1, 1])
    """
    whole, ranks = conditions_to_use(activity), list(ranks)
    refuse_components(activity, "audit")
    groups = _groups(whole.sizes["neuron"], fractions, draws, seed)
    held_out = folds_of(whole.sizes["condition"], folds, first=seed)
    options = shared_options(fit_options, rank=ranks[0], tau_s=tau_s, seed=seed)
    data = whole if isinstance(activity, xr.Dataset) else activity
    found = run_all(
        score_rank,
        _tasks(data, groups, held_out, ranks, options),
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        label="audit",
        total=len(held_out) * sum(rank <= group.n_neurons for group in groups for rank in ranks),
    )
    return _table(ranks, groups, len(held_out), found)


def _tasks(
    activity: xr.Dataset | Prepare, groups: list[Group], held_out: list[Array], ranks: list[int], options: FitOptions
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Group by group, fold by fold, every rank in turn that the group has neurons for."""
    for group in groups:
        possible = [rank for rank in ranks if rank <= group.n_neurons]
        for held in held_out if possible else []:
            own: dict[str, Any] = {"held_out": held}
            if isinstance(activity, xr.Dataset):
                data, own = activity, own | {"neurons": group.neurons}
            else:
                data = activity(~held, group.neurons)
            for rank in possible:
                yield data, own | {"options": options.model_copy(update={"rank": rank})}


def _table(ranks: list[int], groups: list[Group], n_folds: int, found: list[dict[str, Array]]) -> xr.Dataset:
    """The result, from the scores in the order of the tasks."""
    shape, results = (len(groups), len(ranks), 2), iter(found)
    r2, sem, ceiling = np.full(shape, np.nan), np.full(shape, np.nan), np.full((len(groups), 2), np.nan)
    chosen = np.zeros(len(groups), int)
    for k, group in enumerate(groups):
        possible = np.flatnonzero([rank <= group.n_neurons for rank in ranks])
        if not len(possible):
            continue
        scores = [[next(results) for _ in possible] for _ in range(n_folds)]
        found_r2 = np.array([[one["r2"] for one in fold] for fold in scores])  # (fold, rank, split)
        r2[k, possible], sem[k, possible] = mean_and_sem(found_r2, axis=0)
        chosen[k] = smallest_good_rank([ranks[i] for i in possible], *behind_the_best(found_r2[..., 1].T[:, None]))
        ceiling[k] = np.mean([fold[0]["r2_ceiling"] for fold in scores], axis=0)
    table = xr.Dataset(coords={"rank_tried": ranks, "split": SPLITS}, attrs={"kind": "audit"})
    table = table.assign_coords(
        fraction=("draw", [group.fraction for group in groups]), n_neurons=("draw", [one.n_neurons for one in groups])
    )
    table["rank"] = ("draw",), chosen
    table["r2"], table["r2_sem"] = (("draw", "rank_tried", "split"), r2), (("draw", "rank_tried", "split"), sem)
    table["r2_ceiling"] = ("draw", "split"), ceiling
    check_result(table, "audit")
    return table


def refits(
    fit: xr.Dataset,
    activity: xr.Dataset | None,
    fractions: Sequence[float] | None,
    *,
    draws: int = 3,
    seed: int = 0,
) -> Iterator[tuple[float, xr.Dataset]] | None:
    """The fit again, with its own options, on random groups of the neurons.

    Ridge and number of steps are chosen anew, as those of the fit were. The groups are those of `audit`.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    activity : xarray.Dataset or None
        The activity that was fitted.
    fractions : sequence of float or None
        Fractions of the neurons.
    draws : int, default=3
        Groups for each fraction.
    seed : int, default=0
        Seed of the groups.

    Returns
    -------
    iterator of (float, xarray.Dataset) or None
        Fraction and fit of each group, in turn; None where there are no ``fractions``.

    Raises
    ------
    ContractError
        If there is no activity, it is denoised or another one, or the fit does not keep its weights. For a group with
        fewer neurons than the rank, when its turn comes.
    """
    if fractions is None:
        return None
    if activity is None:
        raise ContractError("activity is missing. Refits on fewer neurons need what was fitted. Give activity=...")
    check_activity(activity)
    refuse_components(activity, "A refit on fewer neurons")
    options = refit_options(fit, activity)
    return _refitted(activity, _groups(activity.sizes["neuron"], fractions, draws, seed), options)


def refit_options(fit: xr.Dataset, activity: xr.Dataset) -> FitOptions:
    """The options of a fit, for refits to another activity of the same neurons with the same inputs.

    Raises
    ------
    ContractError
        If neurons or inputs differ, or the fit does not keep its weights.
    """
    unknown = np.setdiff1d(activity["neuron"].values.astype(str), fit["neuron"].values.astype(str))
    inputs = [name for name in input_names(fit) if not name.startswith(PREFIX)]
    if len(unknown) or inputs != input_names(activity):
        raise ContractError(
            f"The activity has {len(unknown)} neurons that the fit does not have, and the inputs "
            f"{', '.join(input_names(activity))}. The inputs of the fit are {', '.join(inputs)}. "
            "Give the activity that was fitted."
        )
    same = activity.sizes["condition"] == fit.sizes["condition"]
    return FitOptions.of_fit(fit, **({} if same else {"test_conditions": None}))


def _refitted(activity: xr.Dataset, groups: list[Group], options: FitOptions) -> Iterator[tuple[float, xr.Dataset]]:
    for group in groups:
        with as_task():
            fit = fit_with(activity.isel(neuron=group.neurons), options)
        yield group.fraction, fit


def _groups(size: int, fractions: Sequence[float], draws: int, seed: int) -> list[Group]:
    """Random groups of ``size`` neurons, the largest fraction first; a group of all neurons is drawn once."""
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ContractError(f"fractions is {fractions!r}. It needs numbers above 0 and at most 1. Change it.")
    generator = np.random.default_rng([seed, 2])
    groups = []
    for fraction in sorted(fractions, reverse=True):
        number = max(1, round(fraction * size))
        for _ in range(1 if number == size else draws):
            neurons = np.isin(np.arange(size), generator.permutation(size)[:number])
            groups.append(Group(float(fraction), neurons, number))
    return groups
