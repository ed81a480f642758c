"""Choice of the blocks of several areas, and whether there are areas at all, by what each fold holds out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import ARROW, blocks_of
from nwb_lint.model.areas.regression import elimination_order
from nwb_lint.model.data import unmasked, weights_of
from nwb_lint.model.network import Array, Network, drives
from nwb_lint.model.simulate import network_of, whole_input
from nwb_lint.options import AreaOptions, FitOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import (
    SPLITS,
    Prepare,
    about_as_good,
    behind_the_best,
    conditions_to_use,
    fit_with,
    folds_of,
    mean_and_sem,
    shared_options,
)
from nwb_lint.validation.rank import score_rank


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

    Candidates without areas have the given ranks. The first candidate with areas has the largest of these ranks in
    every block. From it, ranks are taken away one by one: each time the one that the regression of the activity on
    the rates of the areas needs least, per parameter (of all conditions). So there is one candidate for each number of
    ranks. Around the one that is chosen, every block is then tried with one rank less.

    The choice is the candidate of fewest parameters that is at most one standard error behind the best in R² of what is
    held out, or 1 % of what the best leaves unexplained. The standard error is that of the paired differences over
    folds. With equal parameters, one block is chosen: areas need evidence.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        From `prepare`; its ``held_out`` conditions are left out. Or a function that prepares an activity from a boolean
        array of training conditions, None for all.
    areas : str
        Column of the neurons that names their areas.
    tau_s : float
        Time constant of the units, s.
    ranks : iterable of int, default=(1, 2)
        Ranks of one block that are tried. The largest is also the largest of a block between areas.
    folds : int, default=6
        Disjoint parts of the conditions that are held out in turn.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`, but ``block_ranks`` and ``hidden``.

    Returns
    -------
    xarray.Dataset
        A result of kind "area_selection": ``block_rank (candidate, target, sender)``; ``one_block (candidate)``,
        whether it has no areas (every entry of its block_rank is then its rank); ``n_parameters (candidate)``;
        ``area_r2`` and ``area_r2_sem (candidate, split)``; ``deficit`` and ``deficit_sem (candidate)``, how far it is
        behind the best on what is held out; ``as_good (candidate)``; ``r2 (candidate, fold, split)`` and its ceiling.
        ``attrs["chosen"]`` is the candidate, and ``attrs["areas"]`` the column, empty if one block is chosen.
        `chosen_areas` gives the options of its fit.

    Raises
    ------
    ContractError
        If there are more folds than conditions, the neurons have fewer than two areas, or an option is wrong.

    Examples
    --------
    >>> from nwb_lint.testing import mock_areas
    >>> activity, _ = mock_areas(n_neurons=12, n_conditions=12)
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2, method="regression")
    >>> found["block_rank"].dims
    ('candidate', 'target', 'sender')
    """
    whole, ranks = conditions_to_use(activity), sorted(set(ranks))
    options = shared_options(
        fit_options, refused=["block_ranks", "hidden"], rank=ranks[-1], tau_s=tau_s, areas=areas, hidden=0
    )
    held_out = folds_of(whole.sizes["condition"], folds)
    data = whole if isinstance(activity, xr.Dataset) else activity
    full = fit_with(whole, options, test_conditions=None)
    blocks = blocks_of(full)
    if blocks is None or len(blocks.names) < 2:
        raise ContractError(
            f"The neurons have one area in column {areas!r}. A choice of blocks needs two. Use select_rank."
        )
    search = _Search(data, held_out, options, np.bincount(blocks.area), blocks.names)
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    search.score([_Candidate(True, np.full((len(blocks.names),) * 2, rank)) for rank in ranks], running)
    search.score([_Candidate(False, one) for one in _path(whole, full, options)], running)
    while lower := search.lower_neighbors():
        search.score(lower, running)
    return search.table(areas)


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
        If the Dataset is of another kind.

    Examples
    --------
    >>> from nwb_lint.testing import mock_areas
    >>> activity, _ = mock_areas(n_neurons=12, n_conditions=12)
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2, method="regression")
    >>> sorted(chosen_areas(found))[-1]
    'rank'
    """
    check_result(selection, "area_selection")
    one = selection.isel(candidate=int(selection.attrs["chosen"]))
    ranks = one["block_rank"].values
    if bool(one["one_block"]):
        return {"rank": int(ranks.max())}
    names = one["target"].values.astype(str)
    return {"rank": int(ranks.max()), "areas": str(selection.attrs["areas"]), "block_ranks": _texts(names, ranks)}


def _texts(names: Iterable[str], ranks: Array) -> dict[str, int]:
    """Ranks (to, from) by the texts of `fit_lint`."""
    names = list(names)
    return {f"{names[a]}{ARROW}{names[b]}": int(rank) for (a, b), rank in np.ndenumerate(ranks)}


class _Candidate:
    """One block of a rank, or the ranks of the blocks (to, from)."""

    def __init__(self, one_block: bool, ranks: Array) -> None:
        self.one_block, self.ranks = one_block, ranks

    @property
    def key(self) -> tuple[bool, bytes]:
        return self.one_block, self.ranks.astype(np.int64).tobytes()

    def n_parameters(self, sizes: Array) -> int:
        """Entries of m and n that may differ from 0."""
        if self.one_block:
            return int(2 * self.ranks.max() * sizes.sum())
        return int((self.ranks * (sizes[:, None] + sizes)).sum())

    def options(self, options: FitOptions, names: tuple[str, ...]) -> FitOptions:
        """Those of its fit."""
        rank = int(self.ranks.max())
        if self.one_block:
            return options.model_copy(update={"rank": rank, "areas": None, "input_areas": None})
        return options.model_copy(update={"rank": rank, "block_ranks": _texts(names, self.ranks)})


class _Search:
    """The candidates and their scores so far."""

    def __init__(
        self, data: xr.Dataset | Prepare, held_out: list[Array], options: FitOptions, sizes: Array,
        names: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.data, self.held_out, self.options, self.sizes, self.names = data, held_out, options, sizes, names
        self.candidates: list[_Candidate] = []
        self.r2: list[Array] = []  # of each candidate, (fold, split)
        self.ceiling = np.full((len(held_out), 2), np.nan)

    def score(self, candidates: Iterable[_Candidate], running: dict[str, Any]) -> None:
        """Fit and score candidates that are new on every fold."""
        known = {one.key for one in self.candidates}
        new = [one for one in candidates if one.key not in known]

        def tasks() -> Iterator[tuple[Any, dict[str, Any]]]:
            for held in self.held_out:
                data = self.data if isinstance(self.data, xr.Dataset) else self.data(~held)
                for one in new:
                    yield data, {"options": one.options(self.options, self.names), "held_out": held}

        total = len(new) * len(self.held_out)
        found = run_all(score_rank, tasks(), label="areas", total=total, **running)
        r2 = np.array([one["r2"] for one in found]).reshape(len(self.held_out), len(new), 2)
        self.ceiling = np.array([one["r2_ceiling"] for one in found[:: max(len(new), 1)]])
        self.candidates += new
        self.r2 += list(r2.swapaxes(0, 1))

    def comparison(self) -> tuple[Array, Array, Array, Array]:
        """Deficit, its standard error, whether each is as good as the best, and the number of parameters."""
        r2 = np.array(self.r2)
        deficit, error = behind_the_best(r2[:, None, :, 1])
        good = about_as_good(r2[:, :, 1].mean(axis=1), deficit, error)
        return deficit, error, good, np.array([one.n_parameters(self.sizes) for one in self.candidates])

    def chosen(self) -> int:
        """The position of the candidate of fewest parameters among the good ones; one block before others."""
        _, _, good, size = self.comparison()
        order = [(int(size[k]), not self.candidates[k].one_block, k) for k in np.flatnonzero(good)]
        return int(min(order)[-1])

    def lower_neighbors(self) -> list[_Candidate]:
        """The chosen candidate with one rank less in each block, as far as they were not scored yet."""
        best = self.candidates[self.chosen()]
        if best.one_block or best.ranks.sum() == 1:
            return []
        known, found = {one.key for one in self.candidates}, []
        for a, b in np.argwhere(best.ranks):
            lower = best.ranks.copy()
            lower[a, b] -= 1
            found.append(_Candidate(False, lower))
        return [one for one in found if one.key not in known]

    def table(self, areas: str) -> xr.Dataset:
        """The result."""
        deficit, error, good, size = self.comparison()
        r2, chosen = np.array(self.r2), self.chosen()
        mean, sem = mean_and_sem(r2, axis=1)
        one_block = self.candidates[chosen].one_block
        out = xr.Dataset(coords={"target": list(self.names), "sender": list(self.names), "split": SPLITS})
        out.attrs = {"kind": "area_selection", "chosen": chosen, "areas": "" if one_block else areas, "column": areas}
        out["block_rank"] = ("candidate", "target", "sender"), np.array([one.ranks for one in self.candidates])
        out["one_block"] = ("candidate",), np.array([one.one_block for one in self.candidates])
        out["n_parameters"] = ("candidate",), size
        out["area_r2"], out["area_r2_sem"] = (("candidate", "split"), mean), (("candidate", "split"), sem)
        out["area_r2_ceiling"] = ("split",), self.ceiling.mean(axis=0)
        out["deficit"], out["deficit_sem"] = ("candidate", deficit), ("candidate", error)
        out["as_good"] = ("candidate",), good
        out["r2"], out["r2_ceiling"] = (("candidate", "fold", "split"), r2), (("fold", "split"), self.ceiling)
        check_result(out, "area_selection")
        return out


def _path(activity: xr.Dataset, full: xr.Dataset, options: FitOptions) -> list[Array]:
    """Ranks of the blocks, from those of the fit of most ranks down to one."""
    blocks = blocks_of(full)
    assert blocks is not None
    alpha = float(full.attrs["dt_s"]) / options.tau_s
    keep = [*range(full.sizes["input"])]
    keep += [full.sizes["input"]] * options.bias + [full.sizes["input"] + 1] * (options.initial == "learned")
    q = drives(whole_input(full), alpha, bias=True, initial=True)[..., keep]
    network = network_of(full)
    reached = np.concatenate([blocks.reached, np.ones((len(blocks.area), 2), bool)], axis=1)[:, keep]
    ridges = full["stage_ridge"].values[np.isfinite(full["stage_ridge"].values)]
    every = np.ones(activity.sizes["condition"], bool)
    return elimination_order(
        Network(network.m, network.n, network.w[:, keep]),
        unmasked(activity)["activity"].values.astype(np.float32, copy=False),
        q,
        blocks=blocks._replace(reached=reached),
        alpha=alpha,
        nonlinearity=full.attrs["nonlinearity"],
        ridge=float(ridges[-1]) if len(ridges) else 1e-3,
        weights=weights_of(activity, options.weights, every),
    )
