"""Choosing the rank: fits on folds of conditions, scored on what was held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor

import numpy as np
import xarray as xr
from tqdm import tqdm

from nwb_lint.contract import ContractError
from nwb_lint.model.fit import fit_lint

Prepare = Callable[[np.ndarray | None], xr.Dataset]


def select_rank(
    activity: xr.Dataset | Prepare,
    *,
    ranks: Iterable[int],
    tau_s: float,
    folds: int = 9,
    hold: str = "condition",
    seeds: int = 1,
    executor: Executor | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Cross-validated R² of every rank, and the smallest rank within one standard error of the best.

    Args:
        activity: an activity, or a function that prepares one from a boolean array of *training* conditions,
            called with None once for the number of conditions: then preprocessing is refitted inside every fold.
        ranks: to try. tau_s and ``fit_options``: passed to `fit_lint`.
        folds: of the conditions, disjoint, drawn with ``seeds`` different shuffles.
        hold: "condition".
        executor: any `concurrent.futures.Executor`; None runs in this process.
        progress: show a progress bar.

    Returns: rank_r2, rank_r2_sem (rank_tried, split), means and standard errors over folds; r2 (rank_tried, seed, fold,
        split); r2_ceiling (seed, fold, split); attrs["rank"], the choice.

    Raises: ContractError for fewer than 2 folds, more folds than conditions, no ranks, or another ``hold``.

    Source: one-standard-error rule, Hastie, Tibshirani & Friedman, section 7.10.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> select_rank(mock_activity(), ranks=[1, 2], tau_s=0.1, folds=2).attrs["rank"] in (1, 2)
        True
    """
    ranks = list(ranks)
    whole = activity if isinstance(activity, xr.Dataset) else activity(None)
    size = whole.sizes["condition"]
    if hold != "condition":
        raise ContractError(f"hold is {hold!r}; this version holds out 'condition'.")
    if not ranks or not 2 <= folds <= size:
        raise ContractError(
            f"{len(ranks)} ranks and {folds} folds were asked of {size} conditions; it needs 1 and 2–{size}."
        )
    parts = [np.array_split(np.random.default_rng(s).permutation(size), folds) for s in range(seeds)]
    masks = [np.isin(np.arange(size), part) for one in parts for part in one]
    # prepared once per fold, used by every rank
    prepared = [whole if isinstance(activity, xr.Dataset) else activity(~held) for held in masks]
    cells = [(rank, k) for rank in ranks for k in range(len(masks))]
    run = executor.map if executor is not None else map
    given = ([prepared[k] for _, k in cells], [masks[k] for _, k in cells], [r for r, _ in cells])
    options = [fit_options | {"tau_s": tau_s, "seed": k // folds} for _, k in cells]
    scores = list(tqdm(run(_cell, *given, options), total=len(cells), disable=not progress, desc="ranks"))
    shape = (len(ranks), seeds, folds, 2)
    r2 = np.array([s[0] for s in scores]).reshape(shape)
    top = np.array([s[1] for s in scores]).reshape(shape)[0]
    mean = r2.mean(axis=(1, 2))
    sem = r2.std(axis=(1, 2), ddof=1) / np.sqrt(seeds * folds)
    best = int(np.argmax(mean[:, 1]))
    enough = [rank for rank, value in zip(ranks, mean[:, 1], strict=True) if value >= mean[best, 1] - sem[best, 1]]
    out = xr.Dataset(coords={"rank_tried": ranks, "split": ["train", "held_out"]}, attrs={"rank": int(min(enough))})
    out["rank_r2"], out["rank_r2_sem"] = (("rank_tried", "split"), mean), (("rank_tried", "split"), sem)
    out["r2"] = ("rank_tried", "seed", "fold", "split"), r2
    out["r2_ceiling"] = ("seed", "fold", "split"), top
    return out


def _cell(activity: xr.Dataset, held: np.ndarray, rank: int, options: dict) -> tuple[np.ndarray, np.ndarray]:
    """One rank on one fold: R² and its ceiling for both splits."""
    fit = fit_lint(activity, rank=rank, holdout=held, **options)
    return fit["r2"].values, fit["r2_ceiling"].values
