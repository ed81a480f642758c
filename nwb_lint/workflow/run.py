"""A recipe carried out: read → prepare → choose the rank → fit. Preprocessing is refitted inside every fold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import nwb_lint
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.recording.read import read_conditions
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.digests import digest, with_digests
from nwb_lint.nwb.storage.download import server_version
from nwb_lint.nwb.storage.source import expand
from nwb_lint.prepare import drawn_conditions, prepare
from nwb_lint.validation.baselines import baselines
from nwb_lint.validation.ensemble import ensemble
from nwb_lint.validation.rank import select_rank
from nwb_lint.workflow.recipe import Recipe

# Fields of a recipe's [fit] that are not arguments of `fit_lint`.
NOT_OF_ONE_FIT = {
    "ranks", "test_size", "test_conditions", "folds", "tau_s", "cv_over", "ensemble", "vary", "baselines", "checkpoint",
}  # fmt: skip


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
    """What a recipe gave: the fit, the activity it was fitted to, seconds per stage, and tables beside the fit.

    tables: "rank_selection" (`select_rank`), "baselines" and "ensemble", results by their kinds, those asked for.
    """

    fit: xr.Dataset
    activity: xr.Dataset
    seconds: dict[str, float]
    tables: dict[str, xr.Dataset]


@dataclass(frozen=True)
class Preparation:
    """`prepare` with everything but the training conditions given: a fold's preprocessing is its own. Picklable."""

    recording: xr.Dataset
    inputs: list[Input]
    options: dict

    def __call__(self, train: np.ndarray | None, neurons: np.ndarray | None = None) -> xr.Dataset:
        """The activity of ``neurons`` prepared on the conditions ``train`` (boolean both), None = all."""
        recording = self.recording if neurons is None else self.recording.isel(neuron=neurons)
        return prepare(recording, inputs=self.inputs, fit_on=train, **self.options)


def run_recipe(
    recipe: Recipe,
    *,
    assets: Sequence[Asset] | None = None,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Outcome:
    """From the recipe's NWB files to one fit.

    Held-out conditions are put aside first; ranks are compared by cross-validation among the others, and so are the
    baselines and the members of the ensemble, where the recipe asks for them; the chosen rank is fitted to all of
    the others and scored on those put aside. ``assets``: what the sources stand for, where that is known.
    ``executor`` and ``cache_dir`` as in `nwb_lint.parallel`; a `concurrent.futures.Executor` reads the files
    too, a Dask client does not: its workers may not see them.

    Raises: NWBError, ContractError: one line each.

    Example:
        >>> from nwb_lint.workflow.recipe import load_recipe
        >>> outcome = run_recipe(load_recipe("examples/mante2013.toml"))  # doctest: +SKIP
    """
    laps = Laps()
    asked = recipe.read.model_dump()
    sources = expand(recipe.sources) if assets is None else list(assets)
    reader = executor if isinstance(executor, Executor) else None
    recording = read_conditions(sources, halves=True, seed=recipe.fit.seed, executor=reader, progress=progress, **asked)
    recording = with_digests(recording)
    if recording.sizes["condition"] < 2:
        raise ContractError(
            f"there is a single condition ({recording['condition'].values[0]}); a fit needs at least 2. "
            "Group by more columns (by), or loosen where."
        )
    laps.end("read")
    held = _test_conditions(recording, recipe)
    options = recipe.fit.model_dump(exclude=NOT_OF_ONE_FIT)
    preparation = Preparation(recording, recipe.given_inputs(), recipe.prepare.model_dump())
    activity = preparation(~held)
    laps.end("prepare")
    train = replace(preparation, recording=recording.isel(condition=np.flatnonzero(~held)))
    tables = _sweeps(recipe, train, options, laps, {"executor": executor, "cache_dir": cache_dir, "progress": progress})
    chosen = tables.get("rank_selection")
    rank = recipe.fit.ranks[0] if chosen is None else int(chosen.attrs["rank"])
    told: dict[str, Any] = {"progress": progress, "checkpoint": recipe.fit.checkpoint}
    fit = fit_lint(activity, rank=rank, tau_s=recipe.fit.tau_s, test_conditions=held, **told, **options)
    laps.end("fit")
    if chosen is not None:
        fit = fit.assign(rank_r2=chosen["rank_r2"], rank_r2_sem=chosen["rank_r2_sem"])
    if "ensemble" in tables:
        told = tables["ensemble"].attrs
        fit.attrs |= {f"ensemble_{name}": told[name] for name in ("vary", "pearson", "cosine")}
        fit.attrs["ensemble_members"] = tables["ensemble"].sizes["member"]
    fit.attrs["recipe"] = recipe.text()
    read = dict(zip(recording["file"].values.tolist(), recording["file_digest"].values.tolist(), strict=True))
    if "interrupted" not in fit.attrs and (mark := fingerprint(recipe, sources, read)):  # else it is to be done again
        fit.attrs["fingerprint"] = mark
    return Outcome(fit, activity, laps.seconds, tables)


def fingerprint(recipe: Recipe, assets: Sequence[Asset], digests: Mapping[str, str] | None = None) -> str:
    """SHA-256 of all that a fit follows from: the recipe (but where the fit goes), this package's version, the bytes of
    every source, by their digest or, at an address that tells none, their ETag; empty where one has neither (servers
    without ETags, Zarr folders outside archives). ``digests``: those that reading gave already, by the source.

    Raises: NWBError where a source cannot be read and is not to be skipped.
    """
    given = digests or {}
    lines = [nwb_lint.__version__, recipe.model_copy(update={"out": None}).text()]
    for asset in assets:
        try:
            known = asset.digest or server_version(asset) if asset.remote else given.get(str(asset)) or digest(asset)
        except NWBError:
            if recipe.read.errors != "skip":
                raise
            known = "left out"
        if not known:
            return ""
        lines.append(f"{known} {asset}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def up_to_date(recipe: Recipe, assets: Sequence[Asset], path: Path) -> bool:
    """Whether a file holds the fit that this recipe would give: its ``fingerprint`` is the same."""
    if not path.exists():
        return False
    try:
        found = str(read_fit(path).attrs.get("fingerprint", ""))
    except NWBError:  # something else, which the caller may or may not replace
        return False
    return found != "" and found == fingerprint(recipe, assets)


def _sweeps(
    recipe: Recipe, train: Preparation, options: dict, laps: Laps, running: dict[str, Any]
) -> dict[str, xr.Dataset]:
    """The tables by name: choice of rank, baselines and ensemble of the rank chosen."""
    asked, tables = recipe.fit, {}
    folds = min(asked.folds, train.recording.sizes["condition"])
    rank, shared = asked.ranks[0], running | {"tau_s": asked.tau_s}
    if len(asked.ranks) > 1:
        own = {k: v for k, v in options.items() if k != "seed"}
        if asked.cv_over == "neuron":
            folds = min(folds, train.recording.sizes["neuron"])
        tables["rank_selection"] = select_rank(
            train, ranks=asked.ranks, cv_over=asked.cv_over, folds=folds, **shared, **own
        )
        rank = int(tables["rank_selection"].attrs["rank"])
        laps.end("choose rank")
    if asked.baselines:
        tables["baselines"] = baselines(train, rank=rank, folds=folds, **shared, **options)
        laps.end("baselines")
    if asked.ensemble:
        own = {"members": asked.ensemble, "vary": asked.vary}
        tables["ensemble"] = ensemble(train, rank=rank, **own, **shared, **options)
        laps.end("ensemble")
    return tables


def _test_conditions(recording: xr.Dataset, recipe: Recipe) -> np.ndarray:
    """Boolean (condition): those that the recipe names, or as many as it says, drawn with its seed."""
    asked = recipe.fit
    size = asked.test_size if asked.test_conditions is None else None
    held = drawn_conditions(recording, size, asked.test_conditions, asked.seed)
    assert held is not None
    if (~held).sum() < 2:
        raise ContractError(
            f"{int((~held).sum())} of {len(held)} conditions are left to train on. A fit needs 2. Lower test_size."
        )
    return held
