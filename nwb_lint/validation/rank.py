"""Choice of the rank: fits on folds of conditions, neurons or trials, scored on what each fold holds out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array, drives
from nwb_lint.model.regression import RIDGES
from nwb_lint.model.scores import by_split, noise_of
from nwb_lint.model.simulate import whole_input
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import SelectOptions
from nwb_lint.parallel.engine import run_all
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
from nwb_lint.validation.single_trials import select_trial_rank


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
    """Cross-validated score of every rank, and the smallest rank within one standard error of the best.

    The standard error is that of the paired differences between the two ranks over folds.

    ``cv_over="condition"``: the conditions of a fold are held out of the fit. Their activity is predicted from their
    inputs.

    ``cv_over="neuron"`` (co-smoothing): fold k holds out the k-th part of the conditions and the k-th part of the
    neurons. The network is fitted to the other neurons in the other conditions. It then runs freely in all conditions.
    Its latents kappa and drives q (filtered inputs, bias, initial activation) are the regressors of each held-out
    neuron i: x_i[c, t] ~ m_i kappa[c, t] + W_i q[c, t]. This ridge regression sees the training conditions alone, and
    its ridge is chosen by generalized cross-validation. R² and its ceiling are those of the held-out neurons, in the
    training conditions ("train") and in the held-out ones ("held_out"). The reference of each neuron is its mean over
    the training conditions.

    Single trials: the trials of a fold are held out of `fit_trials`. Each of four random groups of their neurons is
    predicted from the other neurons of the same trial (co-smoothing). The score is in bits per spike. The choice is the
    smallest rank that is at most one standard error, or 0.5 % of its bits, behind the best.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        From `prepare`; its ``held_out`` conditions are left out. Or a function that prepares an activity from a
        boolean array of training conditions, so that preprocessing is fitted inside every fold. It is called with
        None first, for the sizes. With ``cv_over="neuron"`` it also gets a boolean array of the neurons to prepare,
        and is called for either part of them; a Dataset must then not be denoised (``n_components=None``), because
        components of all neurons contain the held-out ones. Or single trials, as `fit_trials` takes them.
    ranks : iterable of int
        Ranks to try.
    tau_s : float
        Time constant of the units, s.
    folds : int, default=9
        Disjoint parts of the conditions, and of the neurons, or of the trials.
    cv_over : {"condition", "neuron"}, default="condition"
        What a fold holds out; single trials leave it out.
    seeds : int, default=1
        Shuffles of the folds; the fits of shuffle k have seed k.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`, or of `fit_trials`.

    Returns
    -------
    xarray.Dataset
        A result of kind "rank_selection": ``rank_r2`` and ``rank_r2_sem`` (rank_tried, split), mean and standard
        error over folds; ``r2`` (rank_tried, seed, fold, split); ``r2_ceiling`` (seed, fold, split) and its mean
        ``rank_r2_ceiling`` (split); ``rank_deficit`` and ``rank_deficit_sem`` (rank_tried), how far each rank is
        behind the best one on what is held out, with its standard error. ``attrs["rank"]`` is the choice. Of single
        trials: ``rank_bits``, ``rank_bits_sem`` and ``bits``, bits per spike, in place of R².

    Raises
    ------
    ContractError
        If there are more folds than conditions, neurons or trials, or an option is wrong.

    References
    ----------
    One-standard-error rule: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, section 7.10.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> select_rank(mock_activity(), ranks=[1, 2], tau_s=0.1, folds=2).attrs["rank"] in (1, 2)
    True
    """
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    if isinstance(activity, xr.Dataset) and "trial" in activity.dims:
        if cv_over != "condition":
            raise ContractError(
                f"cv_over is {cv_over!r}, and these are single trials. A fold holds out trials, and each of their "
                "neurons is predicted from others. Leave cv_over out."
            )
        return select_trial_rank(activity, list(ranks), folds, seeds, {"tau_s": tau_s, **fit_options}, running)
    whole, ranks = conditions_to_use(activity), list(ranks)
    held_out = folds_of(whole.sizes["condition"], folds, seeds)
    left_out: list[Array] | None = None
    if cv_over == "neuron":
        refuse_components(activity, "cv_over='neuron'")
        left_out = folds_of(whole.sizes["neuron"], folds, seeds, stream=1, what="neurons")
    options = shared_options(fit_options, refused=["seed"], rank=ranks[0], tau_s=tau_s)
    data = whole if isinstance(activity, xr.Dataset) else activity
    found = run_all(
        score_rank,
        _tasks(data, held_out, left_out, ranks, folds, options),
        label="ranks",
        total=len(held_out) * len(ranks),
        **running,
    )
    r2, ceiling = (
        np.array([one[name] for one in found]).reshape(seeds, folds, len(ranks), 2) for name in ("r2", "r2_ceiling")
    )
    return _table(ranks, r2.transpose(2, 0, 1, 3), ceiling[:, :, 0], cv_over)


def _table(ranks: list[int], r2: Array, ceiling: Array, cv_over: str) -> xr.Dataset:
    """The result, from R² (rank, seed, fold, split) and its ceiling (seed, fold, split)."""
    mean, sem = mean_and_sem(r2.reshape(len(ranks), -1, 2), axis=1)
    table = xr.Dataset(coords={"rank_tried": ranks, "split": SPLITS})
    deficit, error = behind_the_best(r2[..., 1])
    table.attrs = {"kind": "rank_selection", "rank": smallest_good_rank(ranks, deficit, error), "cv_over": cv_over}
    table["rank_deficit"], table["rank_deficit_sem"] = ("rank_tried", deficit), ("rank_tried", error)
    table["rank_r2"], table["rank_r2_sem"] = (("rank_tried", "split"), mean), (("rank_tried", "split"), sem)
    table["rank_r2_ceiling"] = ("split",), ceiling.mean(axis=(0, 1))
    table["r2"] = ("rank_tried", "seed", "fold", "split"), r2
    table["r2_ceiling"] = ("seed", "fold", "split"), ceiling
    check_result(table, "rank_selection")
    return table


def _tasks(
    activity: xr.Dataset | Prepare,
    held_out: list[Array],
    left_out: list[Array] | None,
    ranks: list[int],
    folds: int,
    options: FitOptions,
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Fold by fold, every rank in turn. A function prepares the data of each fold, or of both parts of its neurons."""
    for k, held in enumerate(held_out):
        left = None if left_out is None else left_out[k]
        if isinstance(activity, xr.Dataset):
            data: Any = activity
        elif left is None:
            data = activity(~held)
        else:
            data = activity(~held, ~left), activity(~held, left)
        for rank in ranks:
            own = options.model_copy(update={"rank": rank, "seed": k // folds})
            yield data, {"options": own, "held_out": held, "left_out": left}


def score_rank(
    data: xr.Dataset | tuple[xr.Dataset, xr.Dataset],
    *,
    options: FitOptions,
    held_out: Array,
    left_out: Array | None = None,
    neurons: Array | None = None,
) -> dict[str, Array]:
    """R² and its ceiling (split) of the fit of one rank on one fold.

    ``held_out`` and ``left_out`` are boolean arrays of the conditions and neurons that the fold holds out, ``neurons``
    one of all neurons that there are. Data are two activities where both parts of the neurons were prepared apart.
    """
    if left_out is None:
        assert isinstance(data, xr.Dataset)
        fit = fit_with(data if neurons is None else data.isel(neuron=neurons), options, test_conditions=held_out)
        return {"r2": fit["r2"].values, "r2_ceiling": fit["r2_ceiling"].values}
    apart = (data.isel(neuron=~left_out), data.isel(neuron=left_out)) if isinstance(data, xr.Dataset) else data
    inside, outside = apart
    fit = fit_with(inside, options, test_conditions=held_out)
    outside = unmasked(outside)
    y = outside["activity"].values
    r2, ceiling, _ = by_split(y, _predicted(fit, y, held_out, options), held_out, noise_of(outside))
    return {"r2": r2, "r2_ceiling": ceiling}


def _predicted(fit: xr.Dataset, y: Array, held_out: Array, options: FitOptions) -> Array:
    """Activity of other neurons from latents and drives of the fit: ridge regression on the training conditions."""
    from sklearn.linear_model import RidgeCV

    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    q = drives(whole_input(fit), alpha, bias=options.bias, initial=options.initial == "learned")
    regressors = np.concatenate([fit["latent"].values, q[:, -y.shape[1] :]], axis=2).astype(float)
    flat = regressors[~held_out].reshape(-1, regressors.shape[2])
    target = y[~held_out].reshape(-1, y.shape[2]).astype(float)
    power = max(float((flat**2).sum() / flat.shape[1]), np.finfo(float).tiny)
    model = RidgeCV(alphas=power * np.array(RIDGES), fit_intercept=False, alpha_per_target=True)
    observed = np.isfinite(target)
    if observed.all():
        weights = model.fit(flat, target).coef_.reshape(y.shape[2], -1)
    else:
        pairs = zip(target.T, observed.T, strict=True)
        weights = np.array([model.fit(flat[seen], values[seen, None]).coef_.ravel() for values, seen in pairs])
    return regressors @ weights.T
