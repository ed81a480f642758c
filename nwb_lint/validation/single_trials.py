"""Choices that held-out single trials make: the rank, by co-smoothing, and whether m drifts, by evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import coords_along
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.scores import as_good_as_best, good_ranks
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.options.single_trials import DriftOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.statespace.data import check_scored_trials, check_trials, condition_coords, system_of, trials_for
from nwb_lint.statespace.fit import fit_trials_with
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.scores import bits_per_spike
from nwb_lint.validation.folds import SPLITS, behind_the_best, folds_of, mean_and_sem, refuse_own


def select_trial_rank(
    trials: xr.Dataset, ranks: list[int], folds: int, seeds: int, given: Mapping[str, Any], running: Mapping[str, Any]
) -> xr.Dataset:
    """The table of `nwb_lint.select_rank` for single trials, in bits per spike.

    ``given`` are the keyword arguments for `fit_trials`, ``running`` those of `run_all`.

    Raises
    ------
    ContractError
        If an option is wrong, or given though every fold sets it, or the observation is Gaussian.
    """
    refuse_own(given, ("test_size", "seed", "checkpoint"))
    options = TrialFitOptions.check({"rank": ranks[0], **given})
    if options.observation != "poisson":
        raise ContractError(
            "observation is 'gaussian'. Ranks of single trials are compared by bits per spike, which needs counts. "
            "Compare the evidence of fits of several ranks."
        )
    check_trials(trials, options.observation)
    held_out = folds_of(trials.sizes["trial"], folds, seeds, what="trials")
    tasks = (
        (trials, {"options": options.model_copy(update={"rank": rank, "seed": k // folds}), "held_out": held})
        for k, held in enumerate(held_out)
        for rank in ranks
    )
    found = run_all(score_trial_rank, tasks, label="ranks", total=len(held_out) * len(ranks), **running)
    bits = np.array([one["bits"] for one in found]).reshape(seeds, folds, len(ranks), 2).transpose(2, 0, 1, 3)
    return _rank_table(ranks, bits)


def score_trial_rank(trials: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Co-smoothing (split), bits per spike, of the fit of one rank to the trials that a fold does not hold out."""
    fit = fit_trials_with(trials, options, held_out)
    found = bits_per_spike(fit, trials.isel(trial=held_out), seed=options.seed)
    return {"bits": np.array([fit["bits_per_spike"].values[0], float(found["co_smoothing"])])}


def _rank_table(ranks: list[int], bits: Array) -> xr.Dataset:
    """The result, from bits per spike (rank, seed, fold, split)."""
    mean, sem = mean_and_sem(bits.reshape(len(ranks), -1, 2), axis=1)
    deficit, error = behind_the_best(bits[..., 1])
    table = xr.Dataset(coords={"rank_tried": ranks, "split": SPLITS})
    table["rank_deficit"], table["rank_deficit_sem"] = ("rank_tried", deficit), ("rank_tried", error)
    table["rank_bits"], table["rank_bits_sem"] = (("rank_tried", "split"), mean), (("rank_tried", "split"), sem)
    table["bits"] = ("rank_tried", "seed", "fold", "split"), bits
    chosen = int(np.min(np.array(ranks)[good_ranks(table)]))
    table.attrs = {"kind": "rank_selection", "rank": chosen, "cv_over": "trial"}
    check_result(table, "rank_selection")
    return table


@validated(DriftOptions)
def compare_drift(
    trials: xr.Dataset,
    *,
    rank: int,
    tau_s: float,
    drifts: Sequence[int] = (0, 1, 2, 3),
    folds: int = 4,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """The fit of single trials with m that drifts along several numbers of smooth functions, scored on held-out trials.

    The trials of each fold are drawn over the whole session, so that the smooth functions are known for them. Their log
    evidence is the score: the probability of their spikes with the latents integrated out. A number is as good as the
    best one if its evidence is at most one standard error lower, from differences that are paired over trials. The
    choice is the smallest number that is as good; 0 is constancy.

    Parameters
    ----------
    trials : xarray.Dataset
        Trials of one session, as `fit_trials` takes them.
    rank : int
        Number of latents.
    tau_s : float
        Time constant of the neurons, s.
    drifts : sequence of int, default=(0, 1, 2, 3)
        Numbers of smooth functions to compare.
    folds : int, default=4
        Disjoint parts of the trials that are held out in turn.
    seed : int, default=0
        Seed of folds and fits.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_trials`.

    Returns
    -------
    xarray.Dataset
        A result of kind "drift_comparison", by ``drift_tried``: ``drift_evidence`` and ``drift_evidence_sem``, mean and
        standard error of the log evidence of a held-out trial; ``drift_deficit`` and ``drift_deficit_sem``, how far
        each is behind the best, with its paired standard error; all in nats a trial. ``as_good (drift_tried)``;
        ``evidence_condition (drift_tried, condition)``, the log evidence of each trial, nats. The attribute ``drift``
        is the choice.

    Raises
    ------
    ContractError
        If the trials are of several sessions, have no labels, or are fewer than folds, one has no observed sample, or
        a number occurs twice.

    References
    ----------
    Pellegrino, Cayco Gajic & Chadwick, NeurIPS 2023. One-standard-error rule: Hastie, Tibshirani & Friedman, The
    Elements of Statistical Learning, section 7.10.

    Examples
    --------
    >>> from nwb_lint.testing import mock_trials
    >>> table = compare_drift(mock_trials(), rank=1, tau_s=0.1, drifts=[0, 1], folds=2, hidden=0, max_iter=3)
    >>> table.attrs["drift"]
    0
    """
    if len(set(drifts)) < len(drifts):
        raise ContractError(f"drifts is {list(drifts)}. A number occurs twice. Give each one once.")
    refuse_own(fit_options, ("test_size", "checkpoint", "drift"))
    options = TrialFitOptions.check({"rank": rank, "tau_s": tau_s, "seed": seed, **fit_options})
    check_scored_trials(trials, options.observation)
    held_out = folds_of(trials.sizes["trial"], folds, first=seed, what="trials")
    candidates = [options.model_copy(update={"drift": int(drift)}) for drift in drifts]
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress, "label": "drift"}
    return _drift_table(trials, list(drifts), evidence_of(trials, candidates, held_out, running), options)


def evidence_of(
    trials: xr.Dataset, candidates: Sequence[TrialFitOptions], held_out: list[Array], running: Mapping[str, Any]
) -> Array:
    """Log evidence of each trial while it is held out, nats (candidate, trial).

    ``candidates`` are the options of the fits, ``held_out`` the masks of the folds, and ``running`` the keyword
    arguments of `run_all`.
    """
    tasks = ((trials, {"options": one, "held_out": held}) for held in held_out for one in candidates)
    number = len(candidates)
    found = run_all(score_evidence, tasks, total=number * len(held_out), **running)
    evidence = np.empty((number, trials.sizes["trial"]))
    for k, held in enumerate(held_out):
        evidence[:, held] = [one["evidence"] for one in found[k * number : (k + 1) * number]]
    return evidence


def score_evidence(trials: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Log evidence of the held-out trials (trial) under the fit to the others."""
    fit = fit_trials_with(trials, options, held_out, scored=False)
    return {"evidence": posterior_of(system_of(fit), trials_for(fit, trials.isel(trial=held_out)))[2]}


def _drift_table(trials: xr.Dataset, drifts: list[int], evidence: Array, options: TrialFitOptions) -> xr.Dataset:
    """The result, from the log evidence (drift, trial)."""
    mean, sem = mean_and_sem(evidence, axis=1)
    deficit, error = behind_the_best(evidence[:, None])
    good = as_good_as_best(deficit, error)
    along = coords_along(xr.Dataset(coords=condition_coords(trials)), "condition", kind="drift_comparison")
    table = xr.Dataset(coords={"drift_tried": drifts, **along})
    columns = {
        "drift_evidence": mean, "drift_evidence_sem": sem, "drift_deficit": deficit, "drift_deficit_sem": error,
        "as_good": good,
    }  # fmt: skip
    for name, values in columns.items():
        table[name] = ("drift_tried",), values, {} if name == "as_good" else {"units": "nats/trial"}
    table["evidence_condition"] = ("drift_tried", "condition"), evidence, {"units": "nats"}
    chosen = min(drift for drift, one in zip(drifts, good, strict=True) if one)
    table.attrs = {"kind": "drift_comparison", "drift": int(chosen), "rank": options.rank, "tau_s": options.tau_s}
    check_result(table, "drift_comparison")
    return table
