"""Baselines that a low-rank network is to be read beside, on the same folds and with the same ceilings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_activity, check_fit, check_result, coords_along, held_out_of, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Array, canonical
from nwb_lint.model.scores import by_split, halves_of, reference_of
from nwb_lint.model.simulate import GAUGE, whole_input, with_run
from nwb_lint.options import BaselineOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.rank import SPLITS, Prepare, checked, conditions_to_use, folds_of

# Which rows of the table each kind of cell fills.
ROWS = {
    "low rank": ("low rank",),
    "linear": ("linear",),
    "unconstrained": ("unconstrained", "truncated"),
    "references": ("time course", "regression", "components", "components and inputs"),
}
_SHARED = ("nonlinearity", "loss", "bias", "initial", "ridges")  # options that mean something without a rank


def truncate(
    fit: xr.Dataset, *, rank: int, connectivity: object = None, activity: xr.Dataset | None = None
) -> xr.Dataset:
    """The fit with the truncated singular value decomposition of a connectivity for its own: J → U_R S_R V_R'.

    The closest rank-R connectivity in the Frobenius norm, m n' / N = U_R S_R V_R', in the canonical gauge; input
    weights, bias and initial activation stay. It is a baseline: nothing is fitted, and what a network computes is
    seldom in its leading singular directions.

    Args:
        fit: from `fit_lint`: with J (rank=None) or with m and n of a higher rank.
        rank: R, at most the number of neurons.
        connectivity: another J (neuron, neuron_from) on the fit's neurons, e.g. a trained network's; None = the fit's.
        activity: to score against, with the training and held-out conditions of the fit; None = R² is NaN.

    Returns: a fit (see `nwb_lint.contract.FIT`) with m, n, latent, activity_pred and attrs["method"] = "truncated".

    Raises: ContractError for a Dataset that is not a fit, a rank that is too high, or a J of another shape.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> full = fit_lint(mock_activity(), rank=None, tau_s=0.1)
        >>> truncate(full, rank=2)["m"].shape
        (12, 2)
    """
    check_fit(fit)
    size = fit.sizes["neuron"]
    if not 1 <= rank <= size:
        raise ContractError(f"rank is {rank!r}; a connectivity of {size} neurons is truncated to rank 1–{size}.")
    if connectivity is None and "J" not in fit:
        m, n = canonical(fit["m"].values, fit["n"].values)
        if rank > m.shape[1]:
            raise ContractError(f"rank {rank} was asked of a fit of rank {m.shape[1]}; ask for at most that.")
        m, n = m[:, :rank], n[:, :rank]
    else:
        j = np.asarray(fit["J"].values if connectivity is None else connectivity, float)
        if j.shape != (size, size) or not np.isfinite(j).all():
            raise ContractError(f"connectivity has shape {j.shape}; it needs finite numbers, {size} × {size}.")
        u, s, vt = np.linalg.svd(j)
        m, n = canonical(u[:, :rank], size * vt[:rank].T * s[:rank])
    gone = ["J", "m", "n", "latent", "activity_pred", "filtered_input", "r2", "r2_ceiling", "r2_neuron"]
    gone += ["stage_r2", "stage_ridge", "stage", "singular_value", "rank_r2", "rank_r2_sem", "rank_tried"]
    out = fit.drop_vars(gone, errors="ignore")
    out["m"], out["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    out.attrs |= {"method": "truncated", "gauge": GAUGE}
    return _scored(with_run(out), activity)


def _scored(fit: xr.Dataset, activity: xr.Dataset | None) -> xr.Dataset:
    """Add scores, NaN where there is no activity; the recorded neurons come first."""
    r2, top, each = np.full(2, np.nan), np.full(2, np.nan), np.full((2, fit.sizes["neuron"]), np.nan)
    if activity is not None:
        check_activity(activity)
        activity = unmasked(activity)
        y, recorded = activity["activity"].values, activity.sizes["neuron"]
        seen = fit["neuron"].values[recorded_of(fit)]
        same = np.array_equal(activity["neuron"].values.astype(str), seen.astype(str))
        if not same or activity.sizes["condition"] != fit.sizes["condition"]:
            raise ContractError(
                "the activity has other neurons or conditions than the fit; give the one it was fitted to."
            )
        held = held_out_of(fit)
        r2, top, each[:, :recorded] = by_split(y, fit["activity_pred"].values, held, *halves_of(activity))
    fit["r2"], fit["r2_ceiling"], fit["r2_neuron"] = ("split", r2), ("split", top), (("split", "neuron"), each)
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
    "components"             not a prediction: the held-out activity itself, projected on the R leading principal
                             components of the training activity
    "components and inputs"  the same with R + K components, K the number of inputs: what no linear readout of R latents
                             and K filtered inputs can much exceed
    =======================  =========================================================================================

    Args:
        activity, folds, tau_s, executor, cache_dir, progress: as in `select_rank`.
        columns: coordinates on ``condition`` that the regression sees beside the inputs, e.g. a choice that networks
            have to generate themselves: numbers as they are, anything else as one column per level.
        seed: of folds and fits. ``fit_options``: passed to `fit_lint`.

    Returns: a result of kind "baselines": r2 (baseline, fold, split) and r2_ceiling (fold, split); baseline_r2,
        baseline_r2_sem (baseline, split) and baseline_r2_ceiling (split), means and standard errors over folds.

    Raises: ContractError for a column that is not there, and what `select_rank` refuses.

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> table = baselines(mock_activity(), rank=1, tau_s=0.1, folds=2, method="regression")
        >>> float(table["baseline_r2"].sel(baseline="low rank", split="held_out")) > 0.5
        True
    """
    whole = conditions_to_use(activity)
    checked([rank], folds, 1, whole.sizes["condition"])
    for name in columns:
        if name not in whole.coords or whole[name].dims != ("condition",):
            known = list(coords_along(whole, "condition"))
            raise ContractError(f"no column {name!r} on the conditions; they have {', '.join(known) or 'none'}.")
    given = whole if isinstance(activity, xr.Dataset) else activity
    held = folds_of(whole.sizes["condition"], folds, 1, first=seed)
    options = fit_options | {"tau_s": tau_s, "seed": seed}
    asked = {"rank": int(rank), "columns": tuple(columns), "options": options}
    tasks = _tasks(given, held, [asked | {"kind": kind} for kind in ROWS])
    total = len(held) * len(ROWS)
    found = run_all(
        baseline_cell, tasks, executor=executor, cache_dir=cache_dir, progress=progress, label="baselines", total=total
    )
    by_fold = [found[k : k + len(ROWS)] for k in range(0, len(found), len(ROWS))]
    r2 = np.stack([np.concatenate([one["r2"] for one in fold]) for fold in by_fold], axis=1)
    top = np.stack([fold[0]["r2_ceiling"] for fold in by_fold])
    names = [name for rows in ROWS.values() for name in rows]
    table = xr.Dataset(coords={"baseline": names, "split": SPLITS})
    table.attrs = {"kind": "baselines", "rank": int(rank), "tau_s": float(tau_s)}
    table["baseline_r2"] = ("baseline", "split"), r2.mean(axis=1)
    table["baseline_r2_sem"] = ("baseline", "split"), r2.std(axis=1, ddof=1) / np.sqrt(folds)
    table["baseline_r2_ceiling"] = ("split",), top.mean(axis=0)
    table["r2"] = ("baseline", "fold", "split"), r2
    table["r2_ceiling"] = ("fold", "split"), top
    check_result(table, "baselines")
    return table


def _tasks(given: xr.Dataset | Prepare, held: list[Array], kinds: list[dict]) -> Iterator[tuple[Any, dict[str, Any]]]:
    for mask in held:
        some = [kind | {"held": mask} for kind in kinds]
        data = given if isinstance(given, xr.Dataset) else given(~mask)
        yield from ((data, one) for one in some)


def baseline_cell(
    data: xr.Dataset, *, kind: str, held: Array, rank: int, columns: tuple[str, ...], options: dict
) -> dict[str, Array]:
    """The rows of one kind on one fold: r2 (row, split) and r2_ceiling (split)."""
    data = unmasked(data)
    y = data["activity"].values
    if kind == "references":
        guesses = [
            time_course(y, held),
            regression(y, held, variables_of(data, columns)),
            components(y, held, rank),
            components(y, held, rank + data.sizes["input"]),
        ]
        halves, counts = halves_of(data)
        scores = [by_split(y, guess, held, halves, counts)[:2] for guess in guesses]
        return {"r2": np.stack([r2 for r2, _ in scores]), "r2_ceiling": scores[0][1]}
    if kind == "unconstrained":
        shared = {name: options[name] for name in _SHARED if name in options}
        full = fit_lint(data, rank=None, tau_s=options["tau_s"], seed=options["seed"], test_conditions=held, **shared)
        fits = [full, truncate(full, rank=rank, activity=data)]
    else:
        own = options if kind == "low rank" else options | {"nonlinearity": "linear", "hidden": 0}
        fits = [fit_lint(data, rank=rank, test_conditions=held, **own)]
    return {"r2": np.stack([one["r2"].values for one in fits]), "r2_ceiling": fits[0]["r2_ceiling"].values}


def variables_of(data: xr.Dataset, columns: Sequence[str]) -> Array:
    """What the regression sees, (condition, variable): the mean of every input over time, then the columns."""
    parts = [whole_input(data).mean(axis=1, dtype=float)]
    for name in columns:
        values = data[name].values
        if values.dtype.kind in "iuf":
            if not np.isfinite(values).all():
                raise ContractError(f"column {name!r} has values that are not finite; a regressor needs numbers.")
            parts.append(values[:, None].astype(float))
        else:
            text = values.astype(str)
            parts.append((text[:, None] == np.unique(text)).astype(float))
    return np.concatenate(parts, axis=1)


def time_course(y: Array, held: Array) -> Array:
    """Mean over the training conditions at every time and neuron, for every condition."""
    seen = np.isfinite(y[~held])
    course = np.where(seen, y[~held], 0).sum(axis=0, dtype=float) / np.maximum(seen.sum(axis=0), 1)
    return np.broadcast_to(course, y.shape)


def regression(y: Array, held: Array, variables: Array) -> Array:
    """Least squares on [1, variables] over the training conditions, at every time and neuron, least norm."""
    design = np.column_stack([np.ones(len(y)), variables])
    flat = y.reshape(len(y), -1).astype(float)
    guess, seen = np.zeros_like(flat), np.isfinite(flat[~held])
    whole = seen.all(axis=0)
    guess[:, whole] = design @ np.linalg.lstsq(design[~held], flat[~held][:, whole], rcond=None)[0]
    for k in np.flatnonzero(~whole):
        some = seen[:, k]
        guess[:, k] = design @ np.linalg.lstsq(design[~held][some], flat[~held][some, k], rcond=None)[0]
    return guess.reshape(y.shape)


def components(y: Array, held: Array, number: int) -> Array:
    """The data themselves on the ``number`` leading components of the training conditions, NaN taken as the mean."""
    mean = reference_of(y, ~held)
    centered = np.nan_to_num(y.astype(float) - mean)
    flat = centered[~held].reshape(-1, y.shape[2])
    _, vectors = np.linalg.eigh(flat.T @ flat)
    leading = vectors[:, ::-1][:, :number]
    return mean + centered @ leading @ leading.T
