"""The fit with several weights of behavior: which of them predicts held-out activity and behavior best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.behavior import behavior_of, losses, reference_losses, scores_of_trials
from nwb_lint.contract.checks import check_dataset, check_result
from nwb_lint.contract.columns import coords_along
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.scores import as_good_as_best
from nwb_lint.model.tuning import SAME_BITS
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.validation import ReadoutWeightOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.statespace.data import check_scored_trials, condition_coords
from nwb_lint.statespace.fit import fit_trials_with
from nwb_lint.validation.folds import (
    SAME_SHARE,
    behind_the_best,
    fit_with,
    folds_of,
    mean_and_sem,
    refuse_own,
    shared_options,
)
from nwb_lint.validation.input_sets import errors_of, evidence_of, joined


@validated(ReadoutWeightOptions)
def compare_readouts(
    data: xr.Dataset,
    *,
    rank: int,
    tau_s: float,
    readout_weights: Sequence[float] | None = None,
    folds: int = 4,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """The fit with several weights of behavior, scored on held-out activity and on held-out behavior.

    A weight is chosen in two steps. First, the activity must be predicted about as well as by the best weight: its
    score is at most one standard error lower, from differences that are paired over conditions or trials, or at most
    1 % of the variance that the best one leaves unexplained (0.5 % of its bits, of single trials). Among these, the
    behavior must be at most one standard error behind the best. The choice is the smallest weight that is left; 0 is a
    network of the activity alone. It warns if no weight predicts behavior better than its mean.

    Parameters
    ----------
    data : xarray.Dataset
        From `prepare` with ``readouts``: means over trials, or single trials.
    rank : int
        Rank of the fits.
    tau_s : float
        Time constant of the units, s.
    readout_weights : sequence of float or None, default=None
        Weights to compare, as ``readout_weight`` of `fit_lint` and `fit_trials` takes them. None: 0, 1, the weight at
        which a readout is as heavy as all neurons (their number; of single trials, spikes by observations of behavior),
        and the one between these (geometric mean).
    folds : int, default=4
        Disjoint parts of the conditions or trials that are held out in turn.
    seed : int, default=0
        Seed of folds and fits.
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
        A result of kind "readout_comparison", by ``weight_tried``: ``activity_score`` and ``activity_score_sem``, mean
        and standard error over held-out conditions (R², dimensionless) or trials (log evidence above that of the mean
        rates, bits per spike, or nats per sample of a Gaussian observation); ``activity_deficit`` and
        ``activity_deficit_sem``, how far each is behind the best, with its paired standard error;
        ``behavior_score`` and ``behavior_score_sem (weight_tried, readout)``, the share of the loss of the training
        mean that is explained: R² of numbers, 1 - log loss / log loss of their share of choices, dimensionless;
        ``behavior_deficit`` and its standard error, of the mean over readouts, behind the best among those that
        predict the activity; ``as_good (weight_tried)``, in both respects; ``condition_score (weight_tried,
        condition)`` and ``condition_behavior (weight_tried, condition, readout)``, the scores of each condition or
        trial while it was held out, NaN where it has no such behavior. The attribute ``readout_weight`` is the choice.

    Raises
    ------
    ContractError
        If the data have no behavior, there are fewer than two weights, one is below 0 or occurs twice, there are fewer
        conditions or trials than folds, a trial has no observed sample, or an option is given that every fit needs for
        itself, such as ``test_size``.

    References
    ----------
    Sani, Abbaspourazad, Wong, Pesaran & Shanechi, Nature Neuroscience 24 (2021): dynamics that behavior needs, which
    fits of neurons alone miss. One-standard-error rule: Hastie, Tibshirani & Friedman, The Elements of Statistical
    Learning, section 7.10.

    Examples
    --------
    >>> from nwb_lint import Readout, prepare
    >>> from nwb_lint.testing import mock_trials
    >>> trials = prepare(mock_trials(), inputs=[], readouts=[Readout("choice", column="choice")])
    >>> options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 3}
    >>> table = compare_readouts(trials, readout_weights=[0, 1], folds=2, **options)
    >>> table["behavior_score"].dims
    ('weight_tried', 'readout')
    """
    check_dataset(data, "data", "Call prepare(..., readouts=)")
    if "behavior" not in data:
        raise ContractError("The data have no behavior. Weights of it are compared. Call prepare(..., readouts=).")
    if rank is None:
        raise ContractError("rank is None. Behavior is read from latents, which a rank gives. Give a number.")
    single, options = "trial" in data.dims, {"rank": rank, "tau_s": tau_s, "seed": seed}
    tried = weights_for(data) if readout_weights is None else [float(one) for one in readout_weights]
    if len(set(tried)) < max(2, len(tried)) or min(tried) < 0:
        raise ContractError(f"readout_weights is {tried}. It needs two different numbers or more, from 0 on.")
    dim = "trial" if single else "condition"
    held_out = folds_of(data.sizes[dim], folds, first=seed, what=f"{dim}s")
    own: FitOptions | TrialFitOptions
    if single:
        refuse_own(fit_options, ("test_size", "checkpoint", "readout_weight"))
        own = TrialFitOptions.check(options | fit_options)
        check_scored_trials(data, own.observation)
    else:
        own = shared_options(fit_options, refused=("readout_weight",), **options)
    found = run_all(
        score_trial_weight if single else score_weight, _tasks(data, sorted(tried), held_out, own),
        total=len(tried) * folds, executor=executor, cache_dir=cache_dir, progress=progress, label="readouts",
    )  # fmt: skip
    each = {key: joined([one[key] for one in found], held_out, len(tried)) for key in found[0]}
    table = _table(data, sorted(tried), each, single)
    unit = "1" if not single else "bits/spike" if own.observation == "poisson" else "nats/sample"  # type: ignore[union-attr]
    for name in ("activity_score", "activity_score_sem", "activity_deficit", "activity_deficit_sem", "condition_score"):
        table[name].attrs["units"] = unit
    table.attrs = {"kind": "readout_comparison", "rank": int(rank), "tau_s": float(tau_s)} | _choice(table)
    check_result(table, "readout_comparison")
    return table


def weights_for(data: xr.Dataset) -> list[float]:
    """0, 1, the weight at which a readout is as heavy as all neurons, and the one between; of two digits."""
    if "trial" not in data.dims:
        heavy = float(data.sizes["neuron"])
    else:
        share = behavior_of(data, np.ones(data.sizes["trial"], bool)).share.sum(axis=(0, 1)).mean()
        spikes = data["count"].values if "count" in data else np.isfinite(data["rate"].values)
        heavy = float(spikes.sum(dtype=float) / share)
    wanted = [0.0, 1.0, *(float(f"{one:.2g}") for one in (np.sqrt(max(heavy, 1.0)), max(heavy, 1.0)))]
    return sorted(set(wanted))


def _tasks(
    data: xr.Dataset, weights: list[float], held_out: list[Array], options: FitOptions | TrialFitOptions
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every weight in turn."""
    for held in held_out:
        for weight in weights:
            yield data, {"options": options.model_copy(update={"readout_weight": weight}), "held_out": held}


def score_weight(data: xr.Dataset, *, options: FitOptions, held_out: Array) -> dict[str, Array]:
    """Errors and variances of held-out conditions, and losses of their behavior, a task of `compare_readouts`."""
    fit = fit_with(data, options, test_conditions=held_out)
    found = {name: one.sum(axis=1) for name, one in errors_of(fit, data, held_out).items()}
    return found | _losses(fit, data, held_out, numbers=True)


def score_trial_weight(trials: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Log evidence of held-out trials, and losses of their behavior, a task of `compare_readouts`."""
    fit = fit_trials_with(trials, options, held_out, scored=False)
    return evidence_of(fit, trials, held_out) | _losses(fit, trials, held_out, numbers=False)


def _losses(fit: xr.Dataset, data: xr.Dataset, held: Array, numbers: bool) -> dict[str, Array]:
    """Loss of the behavior of held-out trials, and that of the training mean, (trial, readout)."""
    behavior = behavior_of(data, ~held, numbers)
    predicted = (fit["behavior_pred"].transpose("condition", "time", "readout").values - behavior.mean) / behavior.scale
    return {
        "loss": losses(predicted, behavior)[held],
        "loss_of_mean": reference_losses(behavior, ~held)[held],
        "share": behavior.share[held],
    }


def _table(data: xr.Dataset, weights: list[float], found: dict[str, Array], single: bool) -> xr.Dataset:
    """The result, from what was found (weight, condition or trial, …)."""
    if single:
        score = (found["evidence"] - found["reference"]) / found["amount"][0].mean()
        coords = coords_along(xr.Dataset(coords=condition_coords(data)), "condition", kind="readout_comparison")
        same = SAME_BITS * max(score.mean(axis=1).max(), 0)
    else:
        score = 1 - found["error"] / found["variance"][0].mean()
        coords = coords_along(data, "condition", kind="readout_comparison")
        same = SAME_SHARE * (1 - score.mean(axis=1).max())
    deficit, error = behind_the_best(score[:, None])
    usable = deficit <= np.maximum(np.nan_to_num(error), same)
    of_mean = found["loss_of_mean"][0]
    gain = of_mean - found["loss"]
    of_behavior = scores_of_trials(gain, of_mean, found["share"][0])
    mean = (gain / np.maximum(of_mean.mean(axis=0), 1e-300)).mean(axis=2)  # a readout without value adds nothing
    behind, its_error = behind_the_best(mean[usable][:, None])
    good = usable.copy()
    good[usable] = as_good_as_best(behind, its_error)
    all_behind, all_errors = np.full((2, len(weights)), np.nan)
    all_behind[usable], all_errors[usable] = behind, its_error
    table = xr.Dataset(coords={"weight_tried": weights, "readout": data["readout"].values, **coords})
    for name, values in (
        ("activity_score", mean_and_sem(score, axis=1)),
        ("activity_deficit", (deficit, error)),
        ("behavior_score", (of_behavior.mean, of_behavior.sem)),
        ("behavior_deficit", (all_behind, all_errors)),
    ):
        dims = ("weight_tried", "readout")[: values[0].ndim]
        table[name], table[f"{name}_sem"] = (dims, values[0]), (dims, values[1])
    table["as_good"] = ("weight_tried",), good
    table["condition_score"] = ("weight_tried", "condition"), score
    table["condition_behavior"] = ("weight_tried", "condition", "readout"), of_behavior.each
    return table


def _choice(table: xr.Dataset) -> dict[str, float | int]:
    """The smallest weight that is as good, and whether it predicts some behavior better than its mean."""
    chosen = int(np.argmax(table["as_good"].values))
    score, error = (table[name].values[chosen] for name in ("behavior_score", "behavior_score_sem"))
    decoded = bool((score > 2 * error).any())
    if not decoded:
        warn(
            "Behavior of held-out data is not predicted better than by its mean: each score is less than two standard "
            "errors above 0. Do not interpret the readouts."
        )
    return {"readout_weight": float(table["weight_tried"].values[chosen]), "decoded": int(decoded)}
