"""Choice of the rank of single trials: co-smoothing of held-out trials, neurons predicted from the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.scores import good_ranks
from nwb_lint.options import TrialFitOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.statespace.data import check_trials
from nwb_lint.statespace.fit import fit_trials
from nwb_lint.statespace.scores import bits_per_spike
from nwb_lint.validation.folds import SPLITS, behind_the_best, folds_of, mean_and_sem


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
    for name in ("test_size", "seed", "checkpoint"):
        if given.get(name) is not None:
            raise ContractError(f"{name} is {given[name]!r}. Every fit here needs its own. Leave {name} out.")
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
    return _table(ranks, bits)


def score_trial_rank(trials: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Co-smoothing (split), bits per spike, of the fit of one rank to the trials that a fold does not hold out."""
    fit = fit_trials(trials.isel(trial=~held_out), **options.arguments() | {"test_size": None})
    found = bits_per_spike(fit, trials.isel(trial=held_out), seed=options.seed)
    return {"bits": np.array([fit["bits_per_spike"].values[0], float(found["co_smoothing"])])}


def _table(ranks: list[int], bits: Array) -> xr.Dataset:
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
