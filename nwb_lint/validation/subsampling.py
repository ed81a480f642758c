"""Subsampling audit: the same choice of rank on fewer of the neurons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_activity, check_result, input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array
from nwb_lint.options import FitOptions, SelectOptions, SubsamplingOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.tasks import as_task
from nwb_lint.validation.rank import (
    SPLITS,
    Prepare,
    checked,
    choice,
    conditions_to_use,
    folds_of,
    rank_cell,
    refuse_components,
)

Group = tuple[float, Array]  # a fraction, and the boolean mask of the neurons drawn


@validated(SelectOptions, SubsamplingOptions)
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
    """Subsampling audit: does the choice of rank, and how well it predicts, stay when fewer neurons are seen?

    For every fraction, ``draws`` random groups of round(fraction × N) neurons; each is taken as the whole recording,
    and every rank is cross-validated on it by held-out conditions, as in `select_rank`. A network of which few neurons
    are seen can gain attractors and lose ranks that the circuit does not: what only holds at fraction 1 is suspect.

    Args:
        activity: as in `select_rank` with cv_over="neuron": not denoised, or a function (training conditions, neurons).
        fractions: of the neurons, each above 0 and at most 1; a fraction of 1 is drawn once whatever ``draws`` is.
        draws: groups of neurons per fraction. seed: of groups, folds and fits.
        ranks, tau_s, folds, executor, cache_dir, progress, ``fit_options``: as in `select_rank`; a rank above the
            number of neurons drawn is NaN, and the choice 0 where all are.

    Returns: a result of kind "audit": rank (draw), the choice on every group, with the coordinates ``fraction`` and
        ``n_neurons`` (draw); r2, r2_sem (draw, rank_tried, split), means and standard errors over folds; r2_ceiling
        (draw, split).

    Raises: ContractError for fractions outside 0–1 or what `select_rank` refuses.

    Source: subsampling of a recorded population, Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2.

    Example:
        >>> from nwb_lint.testing import mock_recording
        >>> from nwb_lint import Input, prepare
        >>> activity = prepare(mock_recording(), inputs=[Input("stimulus", column="stimulus")], n_components=None)
        >>> audit(activity, ranks=[1], tau_s=0.1, fractions=[1, 0.5], draws=2, folds=2)["rank"].values
        array([1, 1, 1])
    """
    whole = conditions_to_use(activity)
    refuse_components(activity, "audit")
    tried = checked(ranks, folds, 1, whole.sizes["condition"])
    groups = _groups(whole.sizes["neuron"], fractions, draws, seed)
    held = folds_of(whole.sizes["condition"], folds, 1, first=seed)
    given = whole if isinstance(activity, xr.Dataset) else activity
    tasks = _tasks(given, groups, held, tried, fit_options | {"tau_s": tau_s, "seed": seed})
    total = len(held) * sum(rank <= group.sum() for _, group in groups for rank in tried)
    found = iter(
        run_all(rank_cell, tasks, executor=executor, cache_dir=cache_dir, progress=progress, label="audit", total=total)
    )
    shape = (len(groups), len(tried), 2)
    mean, sem, top = np.full(shape, np.nan), np.full(shape, np.nan), np.full((len(groups), 2), np.nan)
    chosen = np.zeros(len(groups), int)
    for k, (_, group) in enumerate(groups):
        some = np.flatnonzero([rank <= group.sum() for rank in tried])
        cell = [[next(found) for _ in some] for _ in held]
        if len(some):
            r2 = np.array([[one["r2"] for one in fold] for fold in cell]).swapaxes(0, 1)
            mean[k, some], sem[k, some], chosen[k] = choice([tried[i] for i in some], r2)
            top[k] = np.mean([fold[0]["r2_ceiling"] for fold in cell], axis=0)
    table = xr.Dataset(coords={"rank_tried": tried, "split": SPLITS}, attrs={"kind": "audit"})
    table = table.assign_coords(
        fraction=("draw", [fraction for fraction, _ in groups]), n_neurons=("draw", [int(g.sum()) for _, g in groups])
    )
    table["rank"] = ("draw",), chosen
    table["r2"], table["r2_sem"] = (("draw", "rank_tried", "split"), mean), (("draw", "rank_tried", "split"), sem)
    table["r2_ceiling"] = ("draw", "split"), top
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
    """The fit again, with its own options, on random groups of the neurons: pairs of a fraction and a fit.

    Ridges and the number of steps are chosen anew, as the fit's own were. Groups are those of `audit`. None where no
    ``fractions`` are asked for.

    Raises: ContractError as `audit` does, where there is no activity, and for weights that the fit does not keep; for
        groups smaller than the rank when their turn comes.
    """
    if fractions is None:
        return None
    if activity is None:
        raise ContractError("an audit refits, and no activity was given; add activity=, what was fitted.")
    check_activity(activity)
    refuse_components(activity, "the audit")
    strange = np.setdiff1d(activity["neuron"].values.astype(str), fit["neuron"].values.astype(str))
    own = [name for name in input_names(fit) if not name.startswith(PREFIX)]
    if len(strange) or own != input_names(activity):
        raise ContractError(
            f"the activity has {len(strange)} neurons that the fit has not, and the inputs "
            f"{', '.join(input_names(activity))} where the fit has {', '.join(own)}; give what was fitted."
        )
    options = FitOptions.of_fit(fit).arguments()
    if activity.sizes["condition"] != fit.sizes["condition"]:
        options["test_conditions"] = None
    return _refitted(activity, _groups(activity.sizes["neuron"], fractions, draws, seed), options)


def _refitted(activity: xr.Dataset, groups: list[Group], options: dict[str, Any]) -> Iterator[tuple[float, xr.Dataset]]:
    for fraction, group in groups:
        with as_task():
            fit = fit_lint(activity.isel(neuron=group), **options)
        yield fraction, fit


def _groups(neurons: int, fractions: Sequence[float], draws: int, seed: int) -> list[Group]:
    """Random groups of neurons, in falling fraction; everybody once."""
    if not isinstance(draws, Integral) or draws < 1:
        raise ContractError(f"draws is {draws!r}; it needs a whole number from 1 on.")
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ContractError(f"fractions is {fractions!r}; it needs numbers above 0, at most 1.")
    generator = np.random.default_rng([seed, 2])
    groups = []
    for fraction in sorted(fractions, reverse=True):
        number = max(1, round(fraction * neurons))
        for _ in range(1 if number == neurons else draws):
            groups.append((float(fraction), np.isin(np.arange(neurons), generator.permutation(neurons)[:number])))
    return groups


def _tasks(
    given: xr.Dataset | Prepare, groups: list[Group], held: list[Array], ranks: list[int], options: dict
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Group by group, fold by fold, every rank in turn."""
    for _, group in groups:
        for mask in held:
            some = [{"held": mask, "rank": r, "options": options} for r in ranks if r <= group.sum()]
            if isinstance(given, xr.Dataset):
                yield from ((given, one | {"keep": group}) for one in some)
            elif some:
                data = given(~mask, group)
                yield from ((data, one) for one in some)
