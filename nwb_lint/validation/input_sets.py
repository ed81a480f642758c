"""The fit with several lists of inputs: which of them predicts held-out conditions or trials best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from scipy import stats

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import coords_along, input_names
from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input
from nwb_lint.model.network import Array
from nwb_lint.model.scores import reference_of
from nwb_lint.model.tuning import SAME_BITS
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.validation import InputSetOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.prepare import prepare as prepare_data
from nwb_lint.statespace.data import check_scored_trials, condition_coords, system_of, trials_for
from nwb_lint.statespace.fit import fit_trials_with
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.steps import reference_level
from nwb_lint.statespace.system import Trials
from nwb_lint.validation.folds import (
    SAME_SHARE,
    Prepare,
    behind_the_best,
    fit_with,
    folds_of,
    mean_and_sem,
    refuse_own,
    shared_options,
)

InputSets = Mapping[str, Sequence[Input]]
AnyOptions = TypeVar("AnyOptions", FitOptions, TrialFitOptions)


@validated(InputSetOptions)
def compare_inputs(
    data: xr.Dataset,
    input_sets: InputSets,
    *,
    rank: int,
    tau_s: float,
    prepare: Prepare = prepare_data,
    folds: int = 4,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """The fit with several lists of inputs, each a hypothesis on what drives the neurons, scored on held-out data.

    Each list is cross-validated on the same folds. A list is as good as the best one if its loss is at most one
    standard error larger, from differences that are paired over conditions or trials, or by at most 1 % of the
    variance that the best one leaves unexplained (0.5 % of its bits, of single trials). The choice is the list with the
    fewest inputs among those that are as good. If others are as good with no more inputs, the data do not tell them
    apart: it warns, and the attribute ``tied`` is 1.

    The rank is the same for all lists. A list that lacks an input may replace it by another latent: compare at several
    ranks where the rank is not known.

    Parameters
    ----------
    data : xarray.Dataset
        From `read_conditions`: ``rate (condition, time, neuron)``, Hz; or single trials from `read_trials`. The reader
        needs the inputs of all lists (``inputs=``) where they are in the file.
    input_sets : mapping of str to sequence of Input
        Lists of inputs by name, the preferred one first. A list of single trials may be empty.
    rank : int
        Rank of the fits.
    tau_s : float
        Time constant of the units, s.
    prepare : callable, default=nwb_lint.prepare
        Function of the data with the keyword ``inputs``, and of means ``fit_on``, such as
        ``functools.partial(nwb_lint.prepare, n_components=6)``. It must prepare the same activity for every list.
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
        Other options of `fit_lint`, or of `fit_trials`. ``input_areas`` acts on the lists that have the input.

    Returns
    -------
    xarray.Dataset
        A result of kind "input_comparison", by ``input_set``: ``set_score`` and ``set_score_sem``, the mean and its
        standard error over held-out conditions or trials; ``set_deficit`` and ``set_deficit_sem``, how far each is
        behind the best, with its paired standard error; ``as_good``; ``n_inputs``; all (input_set). The score of means
        is R², dimensionless. That of single trials is the log evidence above that of the mean rates, in bits per spike,
        or for a Gaussian observation in nats per sample. ``condition_score (input_set, condition)`` is the score of
        each condition, or trial, while it was held out, relative to the mean variance, or number of spikes, of all.
        Of means, ``unexplained_time (input_set, time)`` is the error of each bin, relative to the mean variance of the
        bins. The attribute ``input_set`` is the choice.

    Raises
    ------
    ContractError
        If there are fewer than two lists, they prepare different activities, there are fewer conditions or trials than
        folds, a trial has no observed sample, or an option is given that every fit needs for itself, such as
        ``test_size``.

    References
    ----------
    One-standard-error rule: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, section 7.10.

    Examples
    --------
    >>> from nwb_lint import Input
    >>> from nwb_lint.testing import mock_recording
    >>> stimulus = Input("stimulus", column="stimulus", window_s=(0, 1))
    >>> sets = {"stimulus": [stimulus], "onset": [Input("onset", window_s=(0, 1))]}
    >>> compare_inputs(mock_recording(), sets, rank=1, tau_s=0.1).attrs["input_set"]
    'stimulus'
    """
    if len(input_sets) < 2:
        raise ContractError(f"There is {len(input_sets)} list of inputs. A comparison needs two. Give more by name.")
    if rank is None:
        raise ContractError("rank is None. Lists are compared at one rank, which latents have. Give a number.")
    names = list(input_sets)
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress, "label": "inputs"}
    single = "trial" in data.dims
    held_out = folds_of(data.sizes["trial" if single else "condition"], folds, first=seed)
    if single:
        refuse_own(fit_options, ("test_size", "checkpoint"))
        own = TrialFitOptions.check({"rank": rank, "tau_s": tau_s, "seed": seed, **fit_options})
        check_scored_trials(data, own.observation)
        tasks = _trial_tasks(data, input_sets, prepare, held_out, own)
    else:
        tasks = _tasks(
            data, input_sets, prepare, held_out, shared_options(fit_options, rank=rank, tau_s=tau_s, seed=seed)
        )
    found = run_all(score_trial_inputs if single else score_inputs, tasks, total=len(names) * folds, **running)
    unit = "1" if not single else "bits/spike" if own.observation == "poisson" else "nats/sample"
    each = {key: joined([one[key] for one in found], held_out, len(names)) for key in found[0]}
    table = (_of_trials if single else _of_means)(data, names, each)
    table["n_inputs"] = ("input_set",), [int(one["n_inputs"]) for one in found[: len(names)]]
    for name in ("set_score", "set_score_sem", "set_deficit", "set_deficit_sem", "condition_score"):
        table[name].attrs["units"] = unit
    table.attrs = {"kind": "input_comparison", "rank": int(rank), "tau_s": float(tau_s)}
    table.attrs |= _choice(table)
    check_result(table, "input_comparison")
    return table


def _tasks(
    recording: xr.Dataset, input_sets: InputSets, prepare: Prepare, held_out: list[Array], options: FitOptions
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every list of inputs in turn."""
    for held in held_out:
        first, names = None, set()
        for name, inputs in input_sets.items():
            activity = prepare(recording, inputs=list(inputs), fit_on=~held)
            first = activity["activity"] if first is None else first
            if not first.equals(activity["activity"]):
                raise ContractError(
                    f"With the inputs of {name!r}, prepare gives another activity. Scores of different activities "
                    "cannot be compared. Prepare all lists with the same options."
                )
            names |= set(input_names(activity))
            yield activity, {"options": _of_list(options, activity), "held_out": held}
        _check_areas(options, names)


def _of_list(options: AnyOptions, data: xr.Dataset) -> AnyOptions:
    """The options with the areas of the inputs that a list has."""
    names = input_names(data) if "u" in data else []
    own = {name: areas for name, areas in (options.input_areas or {}).items() if name in names}
    return options.model_copy(update={"input_areas": own or None})


def _check_areas(options: FitOptions | TrialFitOptions, names: set[str]) -> None:
    """Refuse areas of an input that no list has."""
    if unknown := sorted(set(options.input_areas or {}) - names):
        raise ContractError(
            f"input_areas names the input {unknown[0]!r}. The lists have {', '.join(sorted(names))}. Use their names."
        )


def score_inputs(data: xr.Dataset, *, options: FitOptions, held_out: Array) -> dict[str, Array]:
    """Squared error and variance of the held-out conditions (condition, time), a task of `compare_inputs`."""
    found = errors_of(fit_with(data, options, test_conditions=held_out), data, held_out)
    return found | {"n_inputs": np.array(data.sizes["input"])}


def errors_of(fit: xr.Dataset, data: xr.Dataset, held_out: Array) -> dict[str, Array]:
    """Squared error of a fit, and variance, of the held-out conditions (condition, time)."""
    y = data["activity"].values
    predicted = fit["activity_pred"].values[held_out][..., : y.shape[2]]
    error, deviation = y[held_out] - predicted, y[held_out] - reference_of(y, ~held_out)
    return {
        "error": np.nansum(np.square(error, dtype=float), axis=2),
        "variance": np.nansum(np.square(deviation, dtype=float), axis=2),
    }


def _trial_tasks(
    trials: xr.Dataset, input_sets: InputSets, prepare: Prepare, held_out: list[Array], options: TrialFitOptions
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every list of inputs in turn."""
    prepared = [prepare(trials, inputs=list(inputs)) for inputs in input_sets.values()]
    _check_areas(options, {name for one in prepared if "u" in one for name in input_names(one)})
    for held in held_out:
        for one in prepared:
            yield one, {"options": _of_list(options, one), "held_out": held}


def score_trial_inputs(data: xr.Dataset, *, options: TrialFitOptions, held_out: Array) -> dict[str, Array]:
    """Log evidence of the held-out trials, that of the mean rates, and what they are divided by, each (trial).

    A task of `compare_inputs`.
    """
    found = evidence_of(fit_trials_with(data, options, held_out, scored=False), data, held_out)
    return found | {"n_inputs": np.array(data.sizes["input"] if "u" in data else 0)}


def evidence_of(fit: xr.Dataset, data: xr.Dataset, held_out: Array) -> dict[str, Array]:
    """Log evidence of the held-out trials, that of the mean rates, and what they are divided by, each (trial)."""
    system, seen, new = (
        system_of(fit),
        trials_for(fit, data.isel(trial=~held_out)),
        trials_for(fit, data.isel(trial=held_out)),
    )
    reference, amount = reference_evidence(seen, new, system.observation == "poisson")
    return {"evidence": posterior_of(system, new)[2], "reference": reference, "amount": amount}


def reference_evidence(seen: Trials, new: Trials, poisson: bool) -> tuple[Array, Array]:
    """Log probability of new trials under the mean rates, or values, of seen ones, and their amount, each (trial).

    The amount is log 2 × the number of spikes, or the number of samples.
    """
    level = reference_level(seen, poisson)
    use = np.broadcast_to(True, new.y.shape) if new.seen is None else new.seen
    if poisson:
        each = stats.poisson.logpmf(new.y, np.exp(level + new.log_exposure[..., None]))
        amount = np.log(2) * (use * new.y).sum(axis=(1, 2))
    else:
        of_seen = np.broadcast_to(True, seen.y.shape) if seen.seen is None else seen.seen
        variance = np.square(seen.y - level).mean(axis=(0, 1), where=of_seen)
        each, amount = stats.norm.logpdf(new.y, level, np.sqrt(variance)), use.sum(axis=(1, 2)).astype(float)
    return np.where(use, each, 0).sum(axis=(1, 2)), amount


def joined(parts: list[Array], held_out: list[Array], n_sets: int) -> Array:
    """What every task found of its held-out conditions or trials, (input_set, condition or trial, …)."""
    if not parts[0].ndim:
        return np.array(parts[:n_sets])
    whole = np.empty((n_sets, len(held_out[0]), *parts[0].shape[1:]))
    for k, held in enumerate(held_out):
        whole[:, held] = parts[k * n_sets : (k + 1) * n_sets]
    return whole


def _of_means(data: xr.Dataset, names: list[str], found: dict[str, Array]) -> xr.Dataset:
    """The result of means, from squared errors and variances (input_set, condition, time)."""
    coords = coords_along(data, "condition", "time", kind="input_comparison")
    error, variance = found["error"], found["variance"][0]
    loss = error.sum(axis=2) / variance.sum(axis=1).mean()
    table = _scored(xr.Dataset(coords={"input_set": names, **coords}), 1 - loss, SAME_SHARE * loss.mean(axis=1).min())
    table["unexplained_time"] = ("input_set", "time"), error.sum(axis=1) / variance.sum(axis=0).mean()
    return table


def _of_trials(data: xr.Dataset, names: list[str], found: dict[str, Array]) -> xr.Dataset:
    """The result of single trials, from evidences, and spikes or samples (input_set, trial)."""
    gain = (found["evidence"] - found["reference"]) / found["amount"][0].mean()
    coords = coords_along(xr.Dataset(coords=condition_coords(data)), "condition", kind="input_comparison")
    return _scored(xr.Dataset(coords={"input_set": names, **coords}), gain, SAME_BITS * max(gain.mean(axis=1).max(), 0))


def _scored(table: xr.Dataset, scores: Array, same: float) -> xr.Dataset:
    """The table with mean scores, and how far each list is behind the best, from scores (input_set, part)."""
    mean, sem = mean_and_sem(scores, axis=1)
    deficit, error = behind_the_best(scores[:, None])
    good = deficit <= np.maximum(np.nan_to_num(error), same)
    columns = {
        "set_score": mean,
        "set_score_sem": sem,
        "set_deficit": deficit,
        "set_deficit_sem": error,
        "as_good": good,
    }
    for name, values in columns.items():
        table[name] = ("input_set",), values
    table["condition_score"] = ("input_set", "condition"), scores
    return table


def _choice(table: xr.Dataset) -> dict[str, str | int]:
    """The list with the fewest inputs among those that are as good, and whether others are tied with it."""
    good, number = table["as_good"].values, table["n_inputs"].values
    fewest = np.flatnonzero(good & (number == number[good].min()))
    names = table["input_set"].values[fewest].tolist()
    if len(names) > 1:
        warn(
            f"These lists of inputs predict held-out data about equally well, with as many inputs: {', '.join(names)}. "
            "The data do not tell them apart."
        )
    return {"input_set": names[0], "tied": int(len(names) > 1)}
