"""Run a recipe: read → prepare → choose the rank → fit. Every fold of means has its own preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import nwb_lint
from nwb_lint.analysis.readout import decode_behavior
from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input
from nwb_lint.model.fit import fit_lint
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.recording.averaging import find_recordings
from nwb_lint.nwb.recording.read import read_conditions, read_trials
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.digests import digest, with_digests
from nwb_lint.nwb.storage.download import server_version
from nwb_lint.parallel.warnings import collect_warnings, warn
from nwb_lint.prepare import drawn, drawn_conditions, prepare
from nwb_lint.statespace.fit import fit_trials
from nwb_lint.validation.areas import chosen_areas, select_areas
from nwb_lint.validation.baselines import baselines
from nwb_lint.validation.behavior.weights import compare_readouts
from nwb_lint.validation.bootstrap import bootstrap
from nwb_lint.validation.ensemble import ensemble
from nwb_lint.validation.inferred.inputs import infer_inputs
from nwb_lint.validation.input_sets import compare_inputs
from nwb_lint.validation.rank import select_rank
from nwb_lint.validation.subsampling import audit
from nwb_lint.workflow.recipe import Recipe

# What a fit keeps of the choice of its rank.
_OF_RANKS = (
    "rank_r2", "rank_r2_sem", "rank_r2_ceiling", "rank_bits", "rank_bits_sem", "rank_deficit", "rank_deficit_sem",
)  # fmt: skip

_FEWEST_TO_CHOOSE = 3  # conditions: two that train, and one that is left out

# Fields of the section fit that the choice of blocks of means has.
_OF_BLOCKS_OF_MEANS = {"areas", "tau_s", "nonlinearity", "bias", "initial", "weights", "input_areas"}

# Fields of the section fit that a sweep sets itself, or that only the last fit has.
_OF_THE_LAST_FIT = {"test_size", "test_conditions", "checkpoint"}


class Laps:
    """Seconds of each stage, from the end of the stage before it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = perf_counter()

    def end(self, stage: str) -> None:
        """End a stage."""
        now = perf_counter()
        self.seconds[stage], self._clock = now - self._clock, now


class Outcome(NamedTuple):
    """The results of a recipe.

    Attributes
    ----------
    fit : xarray.Dataset
        The fit of the chosen rank.
    activity : xarray.Dataset
        What it was fitted to: the prepared activity, or single trials.
    seconds : dict of str to float
        Seconds of each stage.
    tables : dict of str to xarray.Dataset
        The tables that the recipe asks for: "rank_selection", "audit", "baselines", "ensemble", "bootstrap",
        "area_selection", "input_comparison", "readout_comparison", "decoding", "inferred_inputs".
    """

    fit: xr.Dataset
    activity: xr.Dataset
    seconds: dict[str, float]
    tables: dict[str, xr.Dataset]


@dataclass(frozen=True)
class Preparation:
    """`prepare` with all arguments but the training conditions, so that every fold is prepared by itself."""

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
    """Go from the NWB files of a recipe to a fit.

    Test conditions are put aside first. Ranks, baselines, subsamples and members of the ensemble are compared by
    cross-validation among the other conditions. The chosen rank is fitted to all of these and scored on the test
    conditions. With ``mode = "trials"`` all this is done with single trials in place of conditions.

    Parameters
    ----------
    recipe : Recipe
        From `load_recipe` or `make_recipe`.
    assets : sequence of Asset, default=None
        The files that the sources name, if they are known already.
    executor : concurrent.futures.Executor or dask.distributed.Client, default=None
        Where fits run; None = in this process. An executor of concurrent.futures also reads the files. A Dask client
        does not, since its workers may not see them.
    cache_dir : str or Path, default=None
        Folder for finished fits: a stopped run does only the rest.
    progress : bool, default=False
        Show progress bars.

    Returns
    -------
    Outcome
        The fit, the activity, seconds and tables. The attribute ``warnings`` of the fit holds what was warned of.

    Raises
    ------
    NWBError
        If a file cannot be read.
    ContractError
        If an option does not suit the data.

    Examples
    --------
    >>> from nwb_lint.workflow.recipe import load_recipe
    >>> outcome = run_recipe(load_recipe("examples/mante2013.toml"))  # doctest: +SKIP
    """
    sources = find_recordings(recipe.sources, exclude=recipe.read.exclude) if assets is None else list(assets)
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    with collect_warnings(pass_on=True) as messages:
        _check_sections(recipe)
        outcome = (_run_trials if recipe.mode == "trials" else _run_means)(recipe, sources, Laps(), running)
    if messages:
        outcome.fit.attrs["warnings"] = list(dict.fromkeys(messages))
    return outcome


def _check_sections(recipe: Recipe) -> None:
    """Refuse, before anything is read, sections that lack what other sections say."""
    for name in ("compare_readouts", "decode"):
        if getattr(recipe, name) is not None and not recipe.readouts:
            raise ContractError(
                f"The recipe has the section {name} and no readouts. Behavior is read by them. Add [[readouts]], or "
                "--readout."
            )
    if recipe.decode is not None and not recipe.fit.test_size and getattr(recipe.fit, "test_conditions", None) is None:
        raise ContractError(
            "The recipe has the section decode, and nothing is held out. Behavior is decoded in held-out data. Give "
            "fit.test_size, or --test-size."
        )
    if recipe.compare_readouts is not None:
        weight, field = recipe.fit.readout_weight, type(recipe.fit).model_fields["readout_weight"]
        if weight != field.default:
            warn(
                "The recipe has the section compare_readouts, which chooses the weight. So fit.readout_weight "
                f"{weight:g} is not used. Leave out one of them."
            )
    unnamed = recipe.infer_inputs is not None and recipe.infer_inputs.by is None
    if unnamed and recipe.mode == "trials" and len(recipe.read.by) != 1:
        raise ContractError(
            f"The recipe has the section infer_inputs, and read.by has {len(recipe.read.by)} columns. Trials share an "
            "input within the values of one, or each has its own ('trial'). Give infer_inputs.by, or --infer-inputs-by."
        )


def _run_means(recipe: Recipe, sources: Sequence[Asset], laps: Laps, running: dict[str, Any]) -> Outcome:
    """`run_recipe` for means over trials: read → prepare → choose the rank → fit."""
    executor = running["executor"]
    reader = executor if isinstance(executor, Executor) else None
    draws = 0 if recipe.bootstrap is None else recipe.bootstrap.draws
    read: dict[str, Any] = recipe.read.model_dump() | {"draws": draws}
    read |= {"inputs": recipe.read_list(), "burn_in_s": recipe.prepare.burn_in_s}
    recording = read_conditions(sources, seed=recipe.fit.seed, executor=reader, progress=running["progress"], **read)
    recording = with_digests(recording)
    if recording.sizes["condition"] < 2:
        raise ContractError(
            f"There is a single condition ({recording['condition'].values[0]}). A fit needs at least 2. "
            "Group by more columns (by), or make where less strict."
        )
    laps.end("read")
    held = _test_conditions(recording, recipe)
    how = recipe.prepare.model_dump() | {"readouts": recipe.readout_list()}
    preparation = Preparation(recording, recipe.input_list(), how)
    activity = preparation(~held)
    laps.end("prepare")
    train = replace(preparation, recording=recording.isel(condition=np.flatnonzero(~held)))
    blocks = _blocks(recipe, train, laps, running)
    tables = blocks | _sweeps(recipe, train, laps, running, blocks)
    chosen = tables.get("rank_selection")
    rank, options = _chosen(recipe, blocks)
    rank = rank if chosen is None else int(chosen.attrs["rank"])
    if recipe.compare_readouts is not None:
        own = {name: value for name, value in options.items() if name not in _OF_THE_LAST_FIT}
        tables["readout_comparison"] = _weighed(recipe, train(None), rank, own, running)
        options["readout_weight"] = tables["readout_comparison"].attrs["readout_weight"]
        laps.end("compare readouts")
    options |= {"test_size": None, "test_conditions": held}
    fit = fit_lint(activity, rank=rank, progress=running["progress"], **options)
    laps.end("fit")
    if recipe.decode is not None:
        tables["decoding"] = decode_behavior(fit, activity, **recipe.decode.model_dump())
        laps.end("decode")
    if recipe.bootstrap is not None:
        again = partial(_prepared_again, preparation, ~held)
        tables["bootstrap"] = bootstrap(fit, recording, prepare=again, **recipe.bootstrap.model_dump(), **running)
        laps.end("bootstrap")
    if "ensemble" in tables:
        agreement = tables["ensemble"].attrs
        fit.attrs |= {f"ensemble_{name}": agreement[name] for name in ("vary", "pearson", "cosine")}
        fit.attrs["ensemble_members"] = tables["ensemble"].sizes["member"]
    return Outcome(_with_origin(fit, recipe, sources, chosen, recording), activity, laps.seconds, tables)


def _run_trials(recipe: Recipe, sources: Sequence[Asset], laps: Laps, running: dict[str, Any]) -> Outcome:
    """`run_recipe` for single trials: read → inputs → choose the rank → fit, with the same held-out trials."""
    inputs, reading = recipe.input_list(), recipe.read.model_dump(exclude={"by"})
    trials = with_digests(read_trials(sources, inputs=recipe.read_list(), **reading)).assign_attrs(
        by=list(recipe.read.by)
    )
    trials.attrs["assets"] = [str(source) for source in sources]
    laps.end("read")
    raw, trials = trials, prepare(trials, inputs=inputs, readouts=recipe.readout_list())
    laps.end("prepare")
    kept = ~drawn(trials.sizes["trial"], recipe.fit.test_size, recipe.fit.seed)
    train = trials.isel(trial=kept)
    tables = _blocks(recipe, train, laps, running)
    rank, options = _chosen(recipe, tables)
    ranks = (rank,) if tables else recipe.select.ranks
    if len(ranks) > 1:
        own = {name: value for name, value in options.items() if name not in {*_OF_THE_LAST_FIT, "seed"}}
        folds = recipe.select.model_dump() | {"folds": min(recipe.select.folds, train.sizes["trial"])}
        tables["rank_selection"] = select_rank(train, **folds, **running, **own)
        laps.end("choose rank")
    chosen = tables.get("rank_selection")
    rank = rank if chosen is None else int(chosen.attrs["rank"])
    own = {name: value for name, value in options.items() if name not in _OF_THE_LAST_FIT}
    if recipe.compare_inputs is not None:
        tables["input_comparison"] = _compared(recipe, raw.isel(trial=kept), rank, own, running)
        laps.end("compare inputs")
    if recipe.infer_inputs is not None:
        tables["inferred_inputs"] = _inferred(recipe, trials.isel(trial=kept), rank, own, running)
        laps.end("infer inputs")
    if recipe.compare_readouts is not None:
        tables["readout_comparison"] = _weighed(recipe, trials.isel(trial=kept), rank, own, running)
        options["readout_weight"] = tables["readout_comparison"].attrs["readout_weight"]
        laps.end("compare readouts")
    fit = fit_trials(trials, rank=rank, progress=running["progress"], **options)
    laps.end("fit")
    if recipe.decode is not None:
        tables["decoding"] = decode_behavior(fit, trials, **recipe.decode.model_dump())
        laps.end("decode")
    return Outcome(_with_origin(fit, recipe, sources, chosen, trials), trials, laps.seconds, tables)


def _with_origin(
    fit: xr.Dataset, recipe: Recipe, sources: Sequence[Asset], chosen: xr.Dataset | None, recording: xr.Dataset
) -> xr.Dataset:
    """The fit with the scores of the ranks, the recipe, and the fingerprint of both and of the files."""
    if chosen is not None:
        fit = fit.assign({name: chosen[name] for name in _OF_RANKS if name in chosen})
    fit.attrs["recipe"] = recipe.text()
    digests = dict(zip(recording["file"].values.tolist(), recording["file_digest"].values.tolist(), strict=True))
    if "interrupted" not in fit.attrs and (mark := fingerprint(recipe, sources, digests)):
        fit.attrs["fingerprint"] = mark
    return fit


def _prepared_again(preparation: Preparation, train: np.ndarray, recording: xr.Dataset) -> xr.Dataset:
    """Another recording of the same conditions and neurons, prepared as the first one."""
    return replace(preparation, recording=recording)(train)


def fingerprint(recipe: Recipe, assets: Sequence[Asset], digests: Mapping[str, str] | None = None) -> str:
    """SHA-256 of all that decides a fit: the recipe without ``out``, the version of the package, the bytes of files.

    The bytes are known by their digest, or by the ETag of an address. The fingerprint is empty if a file has neither.
    ``digests`` are those that reading has taken already, by source. Raises NWBError for a file that cannot be read,
    unless the recipe skips such files.
    """
    given = digests or {}
    lines = [nwb_lint.__version__, recipe.model_copy(update={"out": None}).text()]
    for asset in assets:
        try:
            known = asset.digest or server_version(asset) if asset.remote else given.get(str(asset)) or digest(asset)
        except NWBError:
            if getattr(recipe.read, "errors", "raise") != "skip":
                raise
            known = "left out"
        if not known:
            return ""
        lines.append(f"{known} {asset}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def up_to_date(recipe: Recipe, assets: Sequence[Asset], path: Path) -> bool:
    """Whether a file holds the fit that this recipe would give: it has the same `fingerprint`."""
    if not path.exists():
        return False
    try:
        found = str(read_fit(path).attrs.get("fingerprint", ""))
    except NWBError:  # no fit; the caller decides whether it may be replaced
        return False
    return found != "" and found == fingerprint(recipe, assets)


def _blocks(
    recipe: Recipe, train: Preparation | xr.Dataset, laps: Laps, running: dict[str, Any]
) -> dict[str, xr.Dataset]:
    """The choice of blocks between areas, if the recipe asks for one."""
    if recipe.blocks is None:
        return {}
    if recipe.fit.areas is None:
        raise ContractError(
            "The recipe has a section blocks, and fit.areas is not given. A choice of blocks needs the column of the "
            "areas. Write areas = 'COLUMN' in the section fit, or leave out blocks."
        )
    if recipe.fit.block_ranks:
        raise ContractError(
            "The recipe has a section blocks, and fit.block_ranks. The section chooses the ranks of all blocks. Leave "
            "out one of them."
        )
    if recipe.select.ranks != type(recipe.select).model_fields["ranks"].default:
        warn(
            "The recipe has a section blocks, which chooses the ranks of all blocks among blocks.ranks. So "
            "select.ranks is not used. Leave it out."
        )
    if isinstance(train, xr.Dataset):
        names, most = recipe.fit.model_fields.keys() - {*_OF_THE_LAST_FIT, "block_ranks"}, train.sizes["trial"]
    else:
        names, most = _OF_BLOCKS_OF_MEANS, train.recording.sizes["condition"]
    own = recipe.blocks.model_dump() | {name: getattr(recipe.fit, name) for name in sorted(names)}
    found = select_areas(train, **own | {"folds": min(own["folds"], most)}, **running)
    laps.end("choose blocks")
    return {"area_selection": found}


def _chosen(recipe: Recipe, blocks: dict[str, xr.Dataset]) -> tuple[int, dict[str, Any]]:
    """The rank and the options of the fit, after a choice of blocks."""
    options = recipe.fit.model_dump()
    if not blocks:
        return recipe.select.ranks[0], options
    found = chosen_areas(blocks["area_selection"])
    if "areas" not in found:
        options |= {"areas": None, "input_areas": None, "block_ranks": None}
    return int(found.pop("rank")), options | found


def _sweeps(
    recipe: Recipe, train: Preparation, laps: Laps, running: dict[str, Any], blocks: dict[str, xr.Dataset]
) -> dict[str, xr.Dataset]:
    """The tables that the recipe asks for, by name: the choice of rank, then what is computed at the chosen rank.

    After a choice of blocks there is none of the rank.
    """
    tables: dict[str, xr.Dataset] = {}
    conditions, neurons = train.recording.sizes["condition"], train.recording.sizes["neuron"]
    rank, options = _chosen(recipe, blocks)
    options = {name: value for name, value in options.items() if name not in _OF_THE_LAST_FIT}
    ranks = (rank,) if blocks else recipe.select.ranks
    unseeded = {name: value for name, value in options.items() if name != "seed"}

    def folds_of(section: Any, most: int = conditions) -> dict[str, Any]:
        return section.model_dump() | {"folds": min(section.folds, most)}

    if len(ranks) > 1:
        if conditions < _FEWEST_TO_CHOOSE and recipe.select.cv_over == "condition":
            raise ContractError(
                f"{conditions} conditions are left for training. A choice among ranks needs {_FEWEST_TO_CHOOSE}, since "
                "it leaves some out. Group the trials by more columns (by), or give one rank (ranks)."
            )
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
    if recipe.compare_inputs is not None:
        tables["input_comparison"] = _compared(recipe, train.recording, rank, options, running)
        laps.end("compare inputs")
    if recipe.infer_inputs is not None:
        own = {name: options[name] for name in ("tau_s", "seed", "hidden", "nonlinearity")}
        tables["inferred_inputs"] = _inferred(recipe, train(None), rank, own, running)
        laps.end("infer inputs")
    return tables


def _compared(
    recipe: Recipe, data: xr.Dataset, rank: int, options: dict[str, Any], running: dict[str, Any]
) -> xr.Dataset:
    """The comparison of lists of inputs on the training conditions or trials, at the chosen rank."""
    most = data.sizes["trial" if "trial" in data.dims else "condition"]
    prepared = prepare if recipe.prepare is None else partial(prepare, **recipe.prepare.model_dump())
    folds = min(recipe.compare_inputs.folds, most)
    return compare_inputs(data, recipe.input_sets(), rank=rank, prepare=prepared, folds=folds, **running, **options)


def _weighed(
    recipe: Recipe, data: xr.Dataset, rank: int, options: dict[str, Any], running: dict[str, Any]
) -> xr.Dataset:
    """The comparison of weights of behavior on the training conditions or trials, at the chosen rank."""
    own = {name: value for name, value in options.items() if name != "readout_weight"}
    most = data.sizes["trial" if "trial" in data.dims else "condition"]
    section = recipe.compare_readouts.model_dump()
    section["folds"] = min(section["folds"], most)
    return compare_readouts(data, rank=rank, **section, **running, **own)


def _inferred(
    recipe: Recipe, data: xr.Dataset, rank: int, options: dict[str, Any], running: dict[str, Any]
) -> xr.Dataset:
    """Inferred inputs of the training conditions or trials, at the chosen rank.

    Trials share an input within the values of the one column of ``read.by``, where no other is named.
    """
    section = recipe.infer_inputs.model_dump()
    single = "trial" in data.dims
    section["folds"] = min(section["folds"], data.sizes["trial" if single else "condition"])
    if single and section["by"] is None and len(recipe.read.by) == 1:
        section["by"] = recipe.read.by[0]
    without = {"readout_weight"} if single or options["hidden"] else {"hidden"}  # of means, 0 hidden units is no choice
    wanted = {name: value for name, value in options.items() if name not in without}
    return infer_inputs(data, rank=rank, **section, **running, **wanted)


def _test_conditions(recording: xr.Dataset, recipe: Recipe) -> np.ndarray:
    """Boolean (condition): those that the recipe names, or as many as it says, drawn with its seed."""
    names = recipe.fit.test_conditions
    size = (recipe.fit.test_size or 0) if names is None else None
    n = recording.sizes["condition"]
    if size is not None and 0 < size < 1 and max(round(size * n), 1) > n - 2:
        warn(
            f"There are {n} conditions, and a fit needs 2 for training: {n - 2} are held out, not {size:.0%} of them. "
            "Group the trials by more columns (by), if more can be told apart."
        )
        size = n - 2
    held = drawn_conditions(recording, size, names, recipe.fit.seed)
    if held is None or (~held).sum() < 2:
        raise ContractError(
            f"test_size is {size} of {recording.sizes['condition']} conditions. A fit needs 2 for training. "
            "Lower test_size."
        )
    return held
