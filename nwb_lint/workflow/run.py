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
from nwb_lint.validation.subsampling import audit
from nwb_lint.workflow.recipe import Recipe

# Fields of the section fit that a sweep sets itself, or that only the last fit has.
_OF_THE_LAST_FIT = {"test_size", "test_conditions", "checkpoint"}


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
    sources = expand(recipe.sources) if assets is None else list(assets)
    reader = executor if isinstance(executor, Executor) else None
    read: dict[str, Any] = recipe.read.model_dump()
    recording = read_conditions(sources, seed=recipe.fit.seed, executor=reader, progress=progress, **read)
    recording = with_digests(recording)
    if recording.sizes["condition"] < 2:
        raise ContractError(
            f"There is a single condition ({recording['condition'].values[0]}). A fit needs at least 2. "
            "Group by more columns (by), or make where less strict."
        )
    laps.end("read")
    held = _test_conditions(recording, recipe)
    preparation = Preparation(recording, recipe.input_list(), recipe.prepare.model_dump())
    activity = preparation(~held)
    laps.end("prepare")
    train = replace(preparation, recording=recording.isel(condition=np.flatnonzero(~held)))
    tables = _sweeps(recipe, train, laps, {"executor": executor, "cache_dir": cache_dir, "progress": progress})
    chosen = tables.get("rank_selection")
    rank = recipe.select.ranks[0] if chosen is None else int(chosen.attrs["rank"])
    options = recipe.fit.model_dump() | {"test_size": None, "test_conditions": held}
    fit = fit_lint(activity, rank=rank, progress=progress, **options)
    laps.end("fit")
    if chosen is not None:
        fit = fit.assign(rank_r2=chosen["rank_r2"], rank_r2_sem=chosen["rank_r2_sem"])
    if "ensemble" in tables:
        agreement = tables["ensemble"].attrs
        fit.attrs |= {f"ensemble_{name}": agreement[name] for name in ("vary", "pearson", "cosine")}
        fit.attrs["ensemble_members"] = tables["ensemble"].sizes["member"]
    fit.attrs["recipe"] = recipe.text()
    digests = dict(zip(recording["file"].values.tolist(), recording["file_digest"].values.tolist(), strict=True))
    if "interrupted" not in fit.attrs and (mark := fingerprint(recipe, sources, digests)):
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


def _sweeps(recipe: Recipe, train: Preparation, laps: Laps, running: dict[str, Any]) -> dict[str, xr.Dataset]:
    """The tables that the recipe asks for, by name: the choice of rank, then what is computed at the chosen rank."""
    tables: dict[str, xr.Dataset] = {}
    options = recipe.fit.model_dump(exclude=_OF_THE_LAST_FIT)
    conditions, neurons = train.recording.sizes["condition"], train.recording.sizes["neuron"]
    rank, ranks = recipe.select.ranks[0], recipe.select.ranks
    unseeded = {name: value for name, value in options.items() if name != "seed"}

    def folds_of(section: Any, most: int = conditions) -> dict[str, Any]:
        return section.model_dump() | {"folds": min(section.folds, most)}

    if len(ranks) > 1:
        most = min(conditions, neurons) if recipe.select.cv_over == "neuron" else conditions
        tables["rank_selection"] = select_rank(train, **folds_of(recipe.select, most), **running, **unseeded)
        rank = int(tables["rank_selection"].attrs["rank"])
        laps.end("choose rank")
    if recipe.subsampling is not None:
        tables["audit"] = audit(train, ranks=ranks, **folds_of(recipe.subsampling), **running, **options)
        laps.end("subsampling")
    if recipe.baselines is not None:
        tables["baselines"] = baselines(train, rank=rank, **folds_of(recipe.baselines), **running, **options)
        laps.end("baselines")
    if recipe.ensemble is not None:
        tables["ensemble"] = ensemble(train, rank=rank, **recipe.ensemble.model_dump(), **running, **options)
        laps.end("ensemble")
    return tables


def _test_conditions(recording: xr.Dataset, recipe: Recipe) -> np.ndarray:
    """Boolean (condition): those that the recipe names, or as many as it says, drawn with its seed."""
    names = recipe.fit.test_conditions
    size = (recipe.fit.test_size or 0) if names is None else None
    held = drawn_conditions(recording, size, names, recipe.fit.seed)
    if held is None or (~held).sum() < 2:
        raise ContractError(
            f"test_size is {size} of {recording.sizes['condition']} conditions. A fit needs 2 for training. "
            "Lower test_size."
        )
    return held
