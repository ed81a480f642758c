"""Choosing the rank: fits on folds of conditions or neurons, scored on what was held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Array, drives
from nwb_lint.model.regression import RIDGES
from nwb_lint.model.scores import by_split, halves_of
from nwb_lint.model.simulate import whole_input
from nwb_lint.options import SelectOptions, validated
from nwb_lint.parallel.engine import run_all

Prepare = Callable[..., xr.Dataset]
CV_OVER = ("condition", "neuron")
SPLITS = ["train", "held_out"]


@validated(SelectOptions)
def select_rank(
    activity: xr.Dataset | Prepare,
    *,
    ranks: Iterable[int],
    tau_s: float,
    folds: int = 9,
    cv_over: str = "condition",
    seeds: int = 1,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Cross-validated R² of every rank, and the smallest rank within one standard error of the best.

    ``cv_over="condition"``: a fold's conditions are held out of the fit; their activity is predicted from inputs.

    ``cv_over="neuron"`` (co-smoothing): fold k holds out the k-th part of the conditions *and* the k-th part of the
    neurons. The network is fitted to the other neurons in the other conditions, run freely in all conditions, and its
    latents kappa and drives q (filtered inputs, bias, initial activation) are taken as regressors: the rows of m and W
    of a neuron that took no part in finding them solve a ridge regression, x_i[c, t] ~ m_i kappa[c, t] + W_i q[c, t],
    over the *training* conditions, its ridge by generalized cross-validation. R² is that of the held-out neurons, in
    the training conditions ("train") and in the held-out ones ("held_out"), each neuron's mean over the training
    conditions being the reference, and so is its ceiling.

    Args:
        activity: an activity (its ``held_out`` conditions are left out), or a function that prepares one from a boolean
            array of *training* conditions, called with None once for the sizes: then preprocessing is refitted inside
            every fold. With cv_over="neuron" it is also given a boolean array of the neurons to prepare, and called for
            either part by itself; a Dataset must then not be denoised (n_components=None), since components of all
            neurons carry the held-out ones.
        ranks: to try. tau_s and ``fit_options``: passed to `fit_lint`.
        folds: disjoint, drawn with ``seeds`` different shuffles.
        cv_over: "condition" or "neuron".
        executor, cache_dir, progress: see `nwb_lint.parallel`; any `concurrent.futures.Executor` or Dask client, a
            folder for finished cells, a progress bar.

    Returns: a result of kind "rank_selection": rank_r2, rank_r2_sem (rank_tried, split), means and standard errors over
        folds; r2 (rank_tried, seed, fold, split); r2_ceiling (seed, fold, split) and rank_r2_ceiling (split), its mean;
        attrs["rank"], the choice, and attrs["cv_over"].

    Raises: ContractError for fewer than 2 folds, more folds than conditions or neurons, no ranks, another ``cv_over``.

    Source: one-standard-error rule, Hastie, Tibshirani & Friedman, section 7.10.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> select_rank(mock_activity(), ranks=[1, 2], tau_s=0.1, folds=2).attrs["rank"] in (1, 2)
        True
    """
    if cv_over not in CV_OVER:
        raise ContractError(f"cv_over is {cv_over!r}; it needs to be 'condition' or 'neuron'.")
    whole = conditions_to_use(activity)
    given = whole if isinstance(activity, xr.Dataset) else activity
    size, neurons = whole.sizes["condition"], whole.sizes["neuron"]
    tried = checked(ranks, folds, seeds, size)
    held = folds_of(size, folds, seeds)
    out = None
    if cv_over == "neuron":
        refuse_components(activity, "cv_over='neuron'")
        if folds > neurons:
            raise ContractError(
                f"{folds} folds were asked of {neurons} neurons; it needs 2–{neurons} to hold them out."
            )
        out = folds_of(neurons, folds, seeds, stream=1)
    asked = [fit_options | {"tau_s": tau_s, "seed": k // folds} for k in range(len(held))]
    tasks = _tasks(given, held, out, tried, asked)
    total = len(held) * len(tried)
    found = run_all(
        rank_cell, tasks, executor=executor, cache_dir=cache_dir, progress=progress, label="ranks", total=total
    )
    # cells come fold by fold, every rank in turn
    r2 = np.array([cell["r2"] for cell in found]).reshape(seeds, folds, len(tried), 2).transpose(2, 0, 1, 3)
    top = np.array([cell["r2_ceiling"] for cell in found]).reshape(seeds, folds, len(tried), 2)[:, :, 0]
    mean, sem, rank = choice(tried, r2.reshape(len(tried), -1, 2))
    table = xr.Dataset(coords={"rank_tried": tried, "split": SPLITS})
    table.attrs = {"kind": "rank_selection", "rank": rank, "cv_over": cv_over}
    table["rank_r2"], table["rank_r2_sem"] = (("rank_tried", "split"), mean), (("rank_tried", "split"), sem)
    table["rank_r2_ceiling"] = ("split",), top.mean(axis=(0, 1))
    table["r2"] = ("rank_tried", "seed", "fold", "split"), r2
    table["r2_ceiling"] = ("seed", "fold", "split"), top
    check_result(table, "rank_selection")
    return table


def conditions_to_use(activity: xr.Dataset | Prepare) -> xr.Dataset:
    """The whole activity, without the conditions that its preparation held out: those are for the last score alone."""
    whole = activity if isinstance(activity, xr.Dataset) else activity(None)
    if "held_out" in whole.coords and whole["held_out"].values.any():
        whole = whole.isel(condition=~whole["held_out"].values).drop_vars("held_out")
    return whole


def checked(ranks: Iterable[int], folds: int, seeds: int, conditions: int) -> list[int]:
    """The ranks as a list, or a ContractError for numbers that cannot be meant."""
    tried = list(ranks)
    if not tried or not isinstance(folds, Integral) or not 2 <= folds <= conditions:
        raise ContractError(
            f"{len(tried)} ranks and {folds} folds were asked of {conditions} conditions; "
            f"it needs 1 and 2–{conditions}."
        )
    if not isinstance(seeds, Integral) or seeds < 1:
        raise ContractError(f"seeds is {seeds!r}; it needs a whole number from 1 on.")
    return tried


def folds_of(size: int, folds: int, seeds: int, *, first: int = 0, stream: int | None = None) -> list[Array]:
    """Boolean masks of the parts held out: ``folds`` disjoint ones for each of ``seeds`` shuffles, ``first`` the first.

    ``stream`` makes the shuffle of neurons another one than that of conditions.
    """
    masks = []
    for seed in range(first, first + seeds):
        order = np.random.default_rng(seed if stream is None else [seed, stream]).permutation(size)
        masks += [np.isin(np.arange(size), part) for part in np.array_split(order, folds)]
    return masks


def refuse_components(activity: xr.Dataset | Prepare, what: str) -> None:
    """Denoised activity is a mixture of all neurons, so no part of them can be taken as if it had been seen alone."""
    if isinstance(activity, xr.Dataset) and "component" in activity:
        raise ContractError(
            f"the activity was denoised on components of all neurons, so {what} would not take them apart; prepare "
            "with n_components=None, or give a function of (training conditions, neurons)."
        )


def choice(ranks: list[int], r2: Array) -> tuple[Array, Array, int]:
    """Mean and standard error (rank, split) of R² (rank, fold, split), and the smallest rank as good as the best."""
    mean = r2.mean(axis=1)
    sem = r2.std(axis=1, ddof=1) / np.sqrt(r2.shape[1])
    best = int(np.argmax(mean[:, 1]))
    enough = [rank for rank, value in zip(ranks, mean[:, 1], strict=True) if value >= mean[best, 1] - sem[best, 1]]
    return mean, sem, int(min(enough))


def _tasks(
    given: xr.Dataset | Prepare, held: list[Array], out: list[Array] | None, ranks: list[int], options: list[dict]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Fold by fold, every rank in turn; data are prepared for each fold where they are given as a function."""
    for k, mask in enumerate(held):
        one = {"held": mask, "out": None if out is None else out[k], "options": options[k]}
        some = [one | {"rank": rank} for rank in ranks]
        if isinstance(given, xr.Dataset):
            data: Any = given
        elif out is None:
            data = given(~mask)
        else:
            data = given(~mask, ~out[k]), given(~mask, out[k])
        for own in some:
            yield data, own


def rank_cell(
    data: xr.Dataset | tuple[xr.Dataset, xr.Dataset],
    *,
    held: Array,
    rank: int,
    options: dict,
    out: Array | None = None,
    keep: Array | None = None,
) -> dict[str, Array]:
    """One rank on one fold: R² and its ceiling for both splits.

    ``out``: the neurons held out, if any are. ``keep``: the neurons that there are at all.
    """
    if out is None:
        assert isinstance(data, xr.Dataset)
        data = data if keep is None else data.isel(neuron=keep)
        fit = fit_lint(data, rank=rank, test_conditions=held, **options)
        return {"r2": fit["r2"].values, "r2_ceiling": fit["r2_ceiling"].values}
    inside, outside = (data.isel(neuron=~out), data.isel(neuron=out)) if isinstance(data, xr.Dataset) else data
    fit = fit_lint(inside, rank=rank, test_conditions=held, **options)
    outside = unmasked(outside)
    y = outside["activity"].values
    halves, counts = halves_of(outside)
    r2, top, _ = by_split(y, _read_out(fit, y, held, options), held, halves, counts)
    return {"r2": r2, "r2_ceiling": top}


def _read_out(fit: xr.Dataset, y: Array, held: Array, options: dict) -> Array:
    """Activity of other neurons from the latents and drives of the fit: ridge regression on the training conditions."""
    from sklearn.linear_model import RidgeCV

    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    u = whole_input(fit)
    q = drives(u, alpha, bias=bool(options.get("bias")), initial=options.get("initial") == "learned")
    regressors = np.concatenate([fit["latent"].values, q[:, -y.shape[1] :]], axis=2).astype(float)
    flat, target = regressors[~held].reshape(-1, regressors.shape[2]), y[~held].reshape(-1, y.shape[2]).astype(float)
    power = max(float((flat**2).sum() / flat.shape[1]), np.finfo(float).tiny)
    model = RidgeCV(alphas=power * np.array(RIDGES), fit_intercept=False, alpha_per_target=True)
    seen = np.isfinite(target)
    if seen.all():
        weights = model.fit(flat, target).coef_.reshape(y.shape[2], -1)
    else:
        pairs = zip(target.T, seen.T, strict=True)
        weights = np.array([model.fit(flat[some], one[some, None]).coef_.ravel() for one, some in pairs])
    return regressors @ weights.T
