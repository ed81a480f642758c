"""A recipe carried out: read → prepare → choose the rank → fit. Preprocessing is refitted inside every fold."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.select import select_rank
from nwb_lint.nwb.read import read_conditions
from nwb_lint.prepare import conditions_mask, prepare
from nwb_lint.recipe import Recipe


class Laps:
    """Seconds per stage: each lap runs from the end of the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = perf_counter()

    def end(self, stage: str) -> None:
        """End the lap of this stage."""
        now = perf_counter()
        self.seconds[stage], self._clock = now - self._clock, now


class Outcome(NamedTuple):
    """What a recipe gave: the fit, the activity it was fitted to, and seconds per stage."""

    fit: xr.Dataset
    activity: xr.Dataset
    seconds: dict[str, float]


@dataclass(frozen=True)
class Preparation:
    """`prepare` with everything but the training conditions given: a fold's preprocessing is its own. Picklable."""

    recording: xr.Dataset
    inputs: list[Input]
    options: dict

    def __call__(self, train: np.ndarray | None) -> xr.Dataset:
        """The activity prepared on the conditions ``train`` (boolean), None = all."""
        return prepare(self.recording, inputs=self.inputs, fit_on=train, **self.options)


def run_recipe(recipe: Recipe, *, executor: Executor | None = None, progress: bool = False) -> Outcome:
    """From the recipe's NWB files to one fit.

    Held-out conditions are put aside first; ranks are compared by cross-validation among the others, the chosen
    rank is fitted to all of the others and scored on those put aside. ``executor`` reads several files and fits folds.

    Raises: NWBError, ContractError: one line each.

    Example:
        >>> from nwb_lint.recipe import load_recipe
        >>> outcome = run_recipe(load_recipe("examples/mante2013.toml"))  # doctest: +SKIP
    """
    laps = Laps()
    asked = recipe.read.model_dump()
    sources = recipe.sources[0] if len(recipe.sources) == 1 else recipe.sources
    recording = read_conditions(
        sources, halves=True, seed=recipe.fit.seed, executor=executor, progress=progress, **asked
    )
    if recording.sizes["condition"] < 2:
        raise ContractError(
            f"there is a single condition ({recording['condition'].values[0]}); a fit needs at least 2. "
            "Group by more columns (by), or loosen where."
        )
    laps.end("read")
    held = _hold(recording, recipe)
    options = recipe.fit.model_dump(exclude={"ranks", "holdout", "folds", "tau_s"})
    tau_s, ranks = recipe.fit.tau_s, recipe.fit.ranks
    preparation = Preparation(recording, recipe.given_inputs(), recipe.prepare.model_dump())
    activity = preparation(~held)
    laps.end("prepare")
    table = None
    if len(ranks) > 1:
        train = replace(preparation, recording=recording.isel(condition=np.flatnonzero(~held)))
        folds = min(recipe.fit.folds, int((~held).sum()))
        chosen = {k: v for k, v in options.items() if k != "seed"}
        table = select_rank(
            train, ranks=ranks, tau_s=tau_s, folds=folds, executor=executor, progress=progress, **chosen
        )
        laps.end("choose rank")
    rank = ranks[0] if table is None else int(table.attrs["rank"])
    fit = fit_lint(activity, rank=rank, tau_s=tau_s, holdout=held, progress=progress, **options)
    laps.end("fit")
    if table is not None:
        fit = fit.assign(rank_r2=table["rank_r2"], rank_r2_sem=table["rank_r2_sem"])
    fit.attrs["recipe"] = recipe.text()
    return Outcome(fit, activity, laps.seconds)


def _hold(recording: xr.Dataset, recipe: Recipe) -> np.ndarray:
    """Boolean (condition): a fraction or a number of conditions drawn with the seed, or those named."""
    size, wanted = recording.sizes["condition"], recipe.fit.holdout
    if isinstance(wanted, list):
        return conditions_mask(recording, wanted, nobody=True)
    number = round(wanted * size) if 0 < wanted < 1 else int(wanted)
    if wanted < 0 or (wanted >= 1 and wanted != number) or number > size - 2:
        raise ContractError(
            f"holdout is {wanted:g} of {size} conditions; it needs a fraction or a whole number, and 2 must stay."
        )
    held = np.zeros(size, bool)
    held[np.random.default_rng(recipe.fit.seed).permutation(size)[:number]] = True
    return held
