"""Simpler and freer models to compare a low-rank network with, on the same folds and with the same ceilings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity, check_fit, check_result
from nwb_lint.contract.columns import column_of, columns_of, find_column, held_out_of, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array, canonical
from nwb_lint.model.scores import by_split, noise_of, reference_of
from nwb_lint.model.simulate import GAUGE, whole_input, with_run
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import BaselineOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import (
    SPLITS,
    Prepare,
    conditions_to_use,
    fit_with,
    folds_of,
    mean_and_sem,
    shared_options,
)

# The rows of the table that each kind of task fills.
ROWS = {
    "low rank": ("low rank",),
    "linear": ("linear",),
    "unconstrained": ("unconstrained", "truncated"),
    "references": ("time course", "regression", "components", "components and inputs"),
}
# Options that mean something without a rank.
_SHARED = ("tau_s", "seed", "nonlinearity", "loss", "bias", "initial", "ridges")
# Variables of a fit that are of another network once its connectivity is truncated.
_OF_NETWORK = (
    "J", "m", "n", "to_area", "from_area", "input_reached", "latent", "activity_pred", "filtered_input",
    "r2", "r2_ceiling", "r2_median", "r2_neuron",
    "stage", "stage_r2", "stage_ridge", "singular_value", "rank_r2", "rank_r2_sem", "rank_r2_ceiling",
    "rank_deficit", "rank_deficit_sem", "rank_tried",
    "input_lag_s", "input_lag_gain", "input_lag_gain_sem", "input_r2_gain", "input_r2_gain_sem",
)  # fmt: skip


def truncate(
    fit: xr.Dataset, *, rank: int, connectivity: object = None, activity: xr.Dataset | None = None
) -> xr.Dataset:
    """The fit with the truncated singular value decomposition of a connectivity for its own: J → U_R S_R V_R'.

    m n' / N = U_R S_R V_R' is the closest connectivity of rank R in the Frobenius norm, in the canonical gauge. Input
    weights, bias and initial activation stay. It is a baseline, because nothing is fitted: the leading singular
    directions are seldom those that a network computes with.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, with J (``rank=None``) or with m and n of a higher rank.
    rank : int
        R, at most the number of neurons.
    connectivity : array of shape (neuron, neuron_from) or None, default=None
        Another J on the neurons of the fit, such as that of a trained network; None is that of the fit.
    activity : xarray.Dataset or None, default=None
        Activity to score on, with the conditions of the fit; R² is NaN without it.

    Returns
    -------
    xarray.Dataset
        A fit with m, n, latent, activity_pred and ``attrs["method"] = "truncated"``.

    Raises
    ------
    ContractError
        If the Dataset is not a fit, the rank is too high, or J has another shape.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2.

    Examples
    --------
    >>> from nwb_lint import fit_lint
    >>> from nwb_lint.testing import mock_activity
    >>> full = fit_lint(mock_activity(), rank=None, tau_s=0.1)
    >>> truncate(full, rank=2)["m"].shape
    (12, 2)
    """
    check_fit(fit)
    m, n = _truncated(fit, rank, connectivity)
    out = fit.drop_vars(_OF_NETWORK, errors="ignore")
    out["m"], out["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    out.attrs |= {"method": "truncated", "gauge": GAUGE}
    for name in ("caution", "areas"):  # of another network
        out.attrs.pop(name, None)
    return _scored(with_run(out), activity)


def _truncated(fit: xr.Dataset, rank: int, connectivity: object) -> tuple[Array, Array]:
    """m and n (neuron, rank) of a connectivity, or of the fit."""
    size = fit.sizes["neuron"]
    if not 1 <= rank <= size:
        raise ContractError(f"rank is {rank!r}. There are {size} neurons. Use a rank from 1 to {size}.")
    if connectivity is None and "J" not in fit:
        m, n = canonical(fit["m"].values, fit["n"].values)
        if rank > m.shape[1]:
            raise ContractError(f"rank is {rank}. The fit has rank {m.shape[1]}. Use at most that.")
        return m[:, :rank], n[:, :rank]
    j = np.asarray(fit["J"].values if connectivity is None else connectivity, float)
    if j.shape != (size, size) or not np.isfinite(j).all():
        raise ContractError(
            f"connectivity has shape {j.shape}. It needs finite numbers, {size} × {size}. Give one on the neurons of "
            "the fit."
        )
    u, s, vt = np.linalg.svd(j)
    m, n = canonical(u[:, :rank], size * vt[:rank].T * s[:rank])
    return m, n


def _scored(fit: xr.Dataset, activity: xr.Dataset | None) -> xr.Dataset:
    """Add scores, NaN where there is no activity; the recorded neurons come first."""
    r2, ceiling, each = np.full(2, np.nan), np.full(2, np.nan), np.full((2, fit.sizes["neuron"]), np.nan)
    if activity is not None:
        check_activity(activity)
        activity = unmasked(activity)
        y, recorded = activity["activity"].values, activity.sizes["neuron"]
        names = fit["neuron"].values[recorded_of(fit)]
        same = np.array_equal(activity["neuron"].values.astype(str), names.astype(str))
        if not same or activity.sizes["condition"] != fit.sizes["condition"]:
            raise ContractError(
                "The activity has other neurons or conditions than the fit. Scores need the same ones. "
                "Give the activity that was fitted."
            )
        scores = by_split(y, fit["activity_pred"].values, held_out_of(fit), noise_of(activity))
        r2, ceiling, each[:, :recorded] = scores
    fit["r2"], fit["r2_ceiling"], fit["r2_neuron"] = ("split", r2), ("split", ceiling), (("split", "neuron"), each)
    return fit


@validated(BaselineOptions)
def baselines(
    activity: xr.Dataset | Prepare,
    *,
    rank: int,
    tau_s: float,
    folds: int = 9,
    columns: Sequence[str] = (),
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Cross-validated R² of a rank-R network beside what simpler and freer models reach on the same folds.

    =======================  =========================================================================================
    baseline                 prediction of a held-out condition
    =======================  =========================================================================================
    "low rank"               `fit_lint` of this rank, with ``fit_options``
    "linear"                 the same with phi(x) = x: linear dynamics of the same latent dimension (no hidden units)
    "unconstrained"          `fit_lint` with rank=None
    "truncated"              the unconstrained J, truncated to this rank (`truncate`)
    "time course"            each neuron's mean over the training conditions, at every time
    "regression"             y[c, t] = b0[t] + B[t] x[c], by least squares at every time, x[c] the mean over time of
                             every input and the values of ``columns``
    "components"             no prediction: the held-out activity itself, projected on the R leading principal
                             components of the training activity
    "components and inputs"  the same with R + K components, where K is the number of inputs. A linear readout of R
                             latents and K filtered inputs cannot be much better
    =======================  =========================================================================================

    Parameters
    ----------
    activity : xarray.Dataset or callable
        As in `select_rank`.
    rank : int
        R.
    tau_s : float
        Time constant of the units, s.
    folds : int, default=9
        Disjoint parts of the conditions that are held out in turn.
    columns : sequence of str, default=()
        Coordinates on ``condition`` that the regression sees beside the inputs, such as a choice that networks have
        to generate themselves. Numbers are used as they are, anything else as one column a level.
    seed : int, default=0
        Seed of folds and fits.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`.

    Returns
    -------
    xarray.Dataset
        A result of kind "baselines": ``r2`` (baseline, fold, split) and ``r2_ceiling`` (fold, split); ``baseline_r2``
        and ``baseline_r2_sem`` (baseline, split), mean and standard error over folds; ``baseline_r2_ceiling`` (split).

    Raises
    ------
    ContractError
        If there is no such column, or for the reasons of `select_rank`.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> table = baselines(mock_activity(), rank=1, tau_s=0.1, folds=2, method="regression")
    >>> float(table["baseline_r2"].sel(baseline="low rank", split="held_out")) > 0.5
    True
    """
    whole = conditions_to_use(activity)
    for name in columns:
        if find_column(whole, name, "condition") is None:
            known = ", ".join(columns_of(whole, "condition")) or "none"
            raise ContractError(f"columns has {name!r}. The conditions have {known}. Use one of these.")
    held_out = folds_of(whole.sizes["condition"], folds, first=seed)
    options = shared_options(fit_options, rank=rank, tau_s=tau_s, seed=seed)
    data = whole if isinstance(activity, xr.Dataset) else activity
    found = run_all(
        score_baseline,
        _tasks(data, held_out, options, tuple(columns)),
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        label="baselines",
        total=len(held_out) * len(ROWS),
    )
    by_fold = [found[k : k + len(ROWS)] for k in range(0, len(found), len(ROWS))]
    r2 = np.stack([np.concatenate([one["r2"] for one in fold]) for fold in by_fold], axis=1)
    ceiling = np.stack([fold[0]["r2_ceiling"] for fold in by_fold])
    table = xr.Dataset(coords={"baseline": [name for rows in ROWS.values() for name in rows], "split": SPLITS})
    table.attrs = {"kind": "baselines", "rank": int(rank), "tau_s": float(tau_s)}
    mean, sem = mean_and_sem(r2, axis=1)
    table["baseline_r2"], table["baseline_r2_sem"] = (("baseline", "split"), mean), (("baseline", "split"), sem)
    table["baseline_r2_ceiling"] = ("split",), ceiling.mean(axis=0)
    table["r2"] = ("baseline", "fold", "split"), r2
    table["r2_ceiling"] = ("fold", "split"), ceiling
    check_result(table, "baselines")
    return table


def _tasks(
    activity: xr.Dataset | Prepare, held_out: list[Array], options: FitOptions, columns: tuple[str, ...]
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every kind of baseline in turn."""
    for held in held_out:
        data = activity if isinstance(activity, xr.Dataset) else activity(~held)
        for kind in ROWS:
            yield data, {"options": options, "kind": kind, "held_out": held, "columns": columns}


def score_baseline(
    data: xr.Dataset, *, options: FitOptions, kind: str, held_out: Array, columns: tuple[str, ...]
) -> dict[str, Array]:
    """The rows of one kind on one fold: r2 (row, split) and r2_ceiling (split)."""
    data = unmasked(data)
    if kind == "references":
        return _score_references(data, held_out, columns, int(options.rank or 0))
    if kind == "unconstrained":
        free = FitOptions.check({"rank": None} | {name: getattr(options, name) for name in _SHARED})
        full = fit_with(data, free, test_conditions=held_out)
        fits = [full, truncate(full, rank=int(options.rank or 0), activity=data)]
    else:
        changes = {} if kind == "low rank" else {"nonlinearity": "linear", "hidden": 0}
        fits = [fit_with(data, options, test_conditions=held_out, **changes)]
    return {"r2": np.stack([one["r2"].values for one in fits]), "r2_ceiling": fits[0]["r2_ceiling"].values}


def _score_references(data: xr.Dataset, held_out: Array, columns: Sequence[str], rank: int) -> dict[str, Array]:
    y, noise = data["activity"].values, noise_of(data)
    predictions = [
        time_course(y, held_out),
        regression(y, held_out, variables_of(data, columns)),
        components(y, held_out, rank),
        components(y, held_out, rank + data.sizes["input"]),
    ]
    scores = [by_split(y, prediction, held_out, noise)[:2] for prediction in predictions]
    return {"r2": np.stack([r2 for r2, _ in scores]), "r2_ceiling": scores[0][1]}


def variables_of(data: xr.Dataset, columns: Sequence[str]) -> Array:
    """What the regression sees, (condition, variable): the mean of every input over time, then the columns."""
    parts = [whole_input(data).mean(axis=1, dtype=float)]
    for name in columns:
        values = column_of(data, name)
        if values.dtype.kind in "iuf":
            if not np.isfinite(values).all():
                raise ContractError(
                    f"Column {name!r} is not finite everywhere. The regression needs numbers. Leave it out."
                )
            parts.append(values[:, None].astype(float))
        else:
            text = values.astype(str)
            parts.append((text[:, None] == np.unique(text)).astype(float))
    return np.concatenate(parts, axis=1)


def time_course(y: Array, held_out: Array) -> Array:
    """Mean over the training conditions at every time and neuron, for every condition."""
    seen = np.isfinite(y[~held_out])
    course = np.where(seen, y[~held_out], 0).sum(axis=0, dtype=float) / np.maximum(seen.sum(axis=0), 1)
    return np.broadcast_to(course, y.shape)


def regression(y: Array, held_out: Array, variables: Array) -> Array:
    """Least squares on [1, variables] over the training conditions, at every time and neuron, least norm."""
    design = np.column_stack([np.ones(len(y)), variables])
    flat = y.reshape(len(y), -1).astype(float)
    prediction, seen = np.zeros_like(flat), np.isfinite(flat[~held_out])
    complete = seen.all(axis=0)
    prediction[:, complete] = design @ np.linalg.lstsq(design[~held_out], flat[~held_out][:, complete], rcond=None)[0]
    for k in np.flatnonzero(~complete):
        rows = seen[:, k]
        prediction[:, k] = design @ np.linalg.lstsq(design[~held_out][rows], flat[~held_out][rows, k], rcond=None)[0]
    return prediction.reshape(y.shape)


def components(y: Array, held_out: Array, number: int) -> Array:
    """The data projected on the ``number`` leading components of the training conditions; NaN counts as the mean."""
    mean = reference_of(y, ~held_out)
    centered = np.nan_to_num(y.astype(float) - mean)
    flat = centered[~held_out].reshape(-1, y.shape[2])
    _, vectors = np.linalg.eigh(flat.T @ flat)
    leading = vectors[:, ::-1][:, :number]
    return mean + centered @ leading @ leading.T
