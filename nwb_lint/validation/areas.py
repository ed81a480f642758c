"""Choice of the blocks of several areas, and whether there are areas at all, by what each fold holds out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_result
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
from nwb_lint.model.network import Array, Network, as_nonlinearity, drives
from nwb_lint.model.regression import Sums
from nwb_lint.model.scores import ceiling, noise_of, reference_of
from nwb_lint.model.simulate import whole_input
from nwb_lint.options import AreaOptions, FitOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import Prepare, conditions_to_use, folds_of

# Candidates that differ by a smaller share of the power of the activity count as equal.
# Tuned on: simulated areas (`beyond_areas.py`, seeds 200 and 201). Ranks that are not there gain up to 4e-5, with noise
# in the network; the weakest block that is there gains 1.3e-4, with noise of observation.
_SAME_SHARE = 7e-5

# Ridges of the candidates, the best of which counts, and that of the projection, relative to the mean variance of the
# features. Convention.
_RIDGES, _FIRST_RIDGE = (1e-4, 1e-2, 1.0), 1e-2


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
    nonlinearity: str | tuple = "tanh",
    bias: bool = False,
    initial: str = "zero",
    weights: Array | str | None = None,
    input_areas: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Cross-validated choice of the ranks of the blocks between areas, against one block without areas.

    In each fold, a regression with the largest of the ranks in every block gives latents, on which the activity is
    projected. This removes most of the noise of observation. All candidates are then reduced-rank regressions of the
    activity on the same features, the filtered rates of the projected activity. What they leave in the conditions of
    the fold is their score: how well each area follows from what the areas did before. It is not the R² of a free run,
    in which a few conditions that noise turns the other way count for more than a weak current.

    For each area, ranks are taken away one by one, each time the one that costs least per parameter. Kept are the ranks
    of fewest parameters that are at most one standard error behind the best, or 0.007 % of the power of the activity;
    the standard error is that of the paired differences over conditions. All areas together are then compared in the
    same way with networks of one block, of the given ranks. With equal parameters, one block is chosen: areas need
    evidence.

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
    nonlinearity, bias, weights, input_areas : Any
        As in `fit_lint`.
    initial : {"zero", "learned"}, default="zero"
        x[0] of all conditions.

    Returns
    -------
    xarray.Dataset
        A result of kind "area_selection": ``block_rank (candidate, target, sender)``; ``one_block (candidate)``,
        whether it has no areas (every entry of its block_rank is then its rank); ``n_parameters (candidate)``;
        ``area_r2 (candidate)``, the share of held-out conditions that the
        regression explains; ``deficit`` and ``deficit_sem (candidate)``, how far it is behind
        the best; ``as_good (candidate)``; ``r2 (candidate, fold)`` and its ceiling.
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
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2)
    >>> found["block_rank"].dims
    ('candidate', 'target', 'sender')
    """
    whole, ranks = conditions_to_use(activity), sorted(set(ranks))
    options = FitOptions.check({
        "rank": ranks[-1], "tau_s": tau_s, "areas": areas, "nonlinearity": nonlinearity, "bias": bias,
        "initial": initial, "weights": weights, "input_areas": input_areas,
    })  # fmt: skip
    names = tuple(np.unique(areas_of(whole, areas)).tolist())
    if len(names) < 2:
        raise ContractError(f"The neurons have one area, {names[0]!r}. A choice of blocks needs two. Use select_rank.")
    held_out = folds_of(whole.sizes["condition"], folds)
    parts = [whole if isinstance(activity, xr.Dataset) else activity(~held) for held in held_out]
    tasks = ((one, {"options": options, "held_out": held}) for one, held in zip(parts, held_out, strict=True))
    how: dict[str, Any] = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    found = run_all(sums_of_fold, tasks, label="areas", total=folds, **how)
    search = _Search([_Fold(*one, options) for one in zip(parts, held_out, found, strict=True)], names)
    return search.table(areas, ranks)


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


class _Fold:
    """The regressions of a fold, and the conditions that they are scored on."""

    def __init__(self, data: xr.Dataset, held_out: Array, found: dict[str, Array], options: FitOptions) -> None:
        samples, self.held = _samples(data, options), np.flatnonzero(held_out)
        test, weights = samples.take(self.held), weights_of(data, options.weights, ~held_out)
        how: dict[str, Any] = {"alpha": samples.alpha, "nonlinearity": samples.nonlinearity, "weights": weights}
        self.z = projected_features(Network(*(found[name] for name in "mnw")), test.x, test.q, **how)
        self.y, self.q, self.ceiling = test.x, test.q[:, test.q.shape[1] - test.x.shape[1] :], float(found["ceiling"])
        self.sizes, self.power = np.bincount(found["area"]), np.nansum(
            (test.x - reference_of(samples.x, ~held_out)) ** 2, axis=(1, 2), dtype=float
        )  # fmt: skip
        sums = Sums(*(found[name] for name in Sums._fields))
        self.blocks = AreaRegression(sums, found["area"], found["reached"], weights)
        self.whole = AreaRegression(sums, 0 * found["area"], np.ones_like(found["reached"]), weights)

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
