"""Inputs that nobody recorded, inferred from the activity, and whether data tell them from recurrence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.special import ndtri

from nwb_lint.contract.checks import check_activity, check_dataset, check_result
from nwb_lint.contract.columns import coords_along, find_column, input_names
from nwb_lint.contract.values import missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.network import Array, filter_input
from nwb_lint.model.simulate import whole_input
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.options.validation import InferredOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.statespace.data import check_scored_trials, check_trials, condition_coords, groups_of
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.tuning import ALL_UNITS
from nwb_lint.statespace.unknown_inputs.tuning import SAME_OF_TRIALS
from nwb_lint.validation.folds import SAME_SHARE, behind_the_best, folds_of, mean_and_sem, refuse_own
from nwb_lint.validation.inferred.means import (
    Latents,
    best_solution,
    courses_of,
    evidence_of,
    latents_of,
)
from nwb_lint.validation.inferred.trials import learned, unknown_inputs
from nwb_lint.validation.input_sets import reference_evidence

# What intervals leave out, and the share of the bins that those of .9 held in simulations.
_INTERVAL_REASONS = {
    "means": "The intervals leave out the errors of m, of the noise and of the prior. In simulations of means, those "
    "of .9 held .92 to .97 of the bins, but .65 where each condition had a single pulse.",
    "column": "The intervals leave out the errors of m, of the noise and of the prior. In simulations, those of .9 "
    "held .71 to 1.00 of the bins.",
    "trial": "The intervals take the network and the prior as known. In simulations, those of .9 held .77 "
    "to .99 of the bins.",
}
# Hypotheses: whether n may differ from 0, and whether there are unknown inputs.
HYPOTHESES = {"recurrence": (True, False), "inputs": (False, True), "both": (True, True)}
_OF_MEANS = {"hidden", "nonlinearity"}


class Means(NamedTuple):
    """Condition means as arrays, and how their latents are found."""

    x: Array
    v: Array
    rank: int
    alpha: float
    hidden: int
    seed: int
    phi: str
    smoothing: float

    def latents(self, used: Array) -> tuple[Latents, Array]:
        """The latents of all conditions, from the axes of those that are used, and these axes."""
        options = self.rank, self.alpha, self.hidden, self.seed, self.phi, self.smoothing
        return latents_of(self.x, self.v, used, *options)


@validated(InferredOptions)
def infer_inputs(
    data: xr.Dataset,
    *,
    rank: int,
    tau_s: float,
    by: str | None = None,
    prior: str = "smooth",
    folds: int = 4,
    level: float = 0.9,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """Infer inputs that nobody recorded, and compare them with recurrence on held-out conditions or trials.

        kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N + alpha u[t] + eps[t],    x = m kappa + I v

    Each condition has its own unknown u, one course for each latent, with a Gaussian prior; of single trials, also each
    trial (``by="trial"``). The known inputs of the data stay. Three hypotheses are compared: recurrence alone (u is 0),
    inputs alone (n is 0), and both. n and u are found together, by generalized least squares, so that an input takes
    only what recurrence cannot explain as well; inputs of each trial by EM, together with the noise.

    A hypothesis is as good as the best one if its loss is at most one standard error larger, from differences that are
    paired over conditions or trials; or of means by at most 1 % of the variance that the best one leaves unexplained,
    of trials by at most .05 % of its score. The choice is the one with the fewest parts. If recurrence alone and inputs
    alone are both as good, the data cannot separate them: it warns, the choice is "undecided", and the attribute
    ``separated`` is 0.

    Parameters
    ----------
    data : xarray.Dataset
        From `prepare`: ``activity (condition, time, neuron)``, whose latents start from 0; or single trials, as
        `fit_trials` takes them. With known inputs ``u`` or, of trials, without.
    rank : int
        Number of latents.
    tau_s : float
        Time constant of the neurons, s.
    by : str or None, default=None
        Of single trials: the trial column whose values are the conditions. All trials of a value share the input. Or
        "trial": each trial has its own, an Ornstein-Uhlenbeck process beside the white noise of the latents.
    prior : {"smooth", "sparse"}, default="smooth"
        "smooth": a Gaussian process; its length and size are those of largest marginal likelihood. "sparse": an own
        variance of each bin, which conditions share, so that inputs act at few times. With ``by="trial"`` it is
        "smooth", and the time constant and the size are those of largest evidence.
    folds : int, default=4
        Disjoint parts of the conditions or trials that are held out in turn.
    level : float, default=0.9
        Probability of the intervals.
    seed : int, default=0
        Seed of folds, hidden units and samples.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_trials`, of single trials; of means ``hidden`` and ``nonlinearity`` alone. Without
        ``hidden`` there are up to 256 units in all. With ``by="trial"``, EM without inputs comes first: ``tol`` and
        ``bias="fitted"`` are of this one alone, and ``max_iter`` is of each.

    Returns
    -------
    xarray.Dataset
        A result of kind "inferred_inputs". By ``hypothesis``: ``hypothesis_score`` and ``hypothesis_score_sem``, the
        mean and its standard error over held-out conditions or trials; ``hypothesis_deficit`` and its paired standard
        error ``hypothesis_deficit_sem``, how far each is behind the best; ``as_good``. The score of means is the log
        probability of the latents of a held-out condition with u integrated out under the prior of the others, in nats
        a sample of a latent. That of trials is their log evidence above that of the mean rates, in bits per spike, or
        for a Gaussian observation in nats per sample.
        ``condition_score (hypothesis, condition)`` is that of each condition or trial while it was held out.

        ``inferred_u``, ``inferred_low`` and ``inferred_high (input_condition, time, inferred_input)``: u and its
        interval, dimensionless, which holds what n leaves open, unless ``by`` is "trial"; and ``loading (neuron,
        inferred_input)``, the weights of u, which are the columns of m. They are those of the hypotheses with inputs
        that are as good as the best one, which the attribute ``courses_of`` names: u is their mean, and the interval
        holds the interval of each; if the choice is "undecided", also 0. If recurrence alone is chosen and neither is
        as good, they are those of "both", and say nothing of whether there is an input. The attributes ``hypothesis``
        and ``verdict`` are the choice and what it means in words; ``length_s`` is the length of smooth courses, or the
        time constant of those of each trial; ``interval_reason`` says what intervals leave out.
        `with_inferred_inputs` adds u to the data, for a fit.

    Raises
    ------
    ContractError
        If trials have no ``by``, or some have no value of it; a trial, or a condition of means, has no observed
        sample, or all samples of means have the same value; an option does not suit the data; or there are fewer
        conditions or trials than folds.

    Notes
    -----
    In simulations of means (``benchmarks/beyond.py inferred``), recurrence alone, smooth inputs alone and both were
    each found in 10 of 10. But where each condition had a single pulse, 10 of 10 were called "both"; and of single
    trials, networks with both were called "inputs" where the gain was small. So do not take "both" as a proof of
    recurrence, nor "inputs" as a proof that there is none. What intervals held is in ``interval_reason``.

    References
    ----------
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006. MacKay, Neural Computation 4 (1992).

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> found = infer_inputs(mock_activity(), rank=1, tau_s=0.1, hidden=0)
    >>> found.attrs["hypothesis"], found["inferred_u"].dims
    ('recurrence', ('input_condition', 'time', 'inferred_input'))
    """
    check_dataset(data, "data", "Call prepare(...)")
    if rank is None:
        raise ContractError("rank is None. Inputs drive latents, which a rank gives. Give a number.")
    data = data.drop_dims("readout", errors="ignore")  # the activity alone says which inputs there are
    single, sparse = "trial" in data.dims, prior == "sparse"
    refuse_own(fit_options, ("test_size", "checkpoint", "readout_weight"))
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress, "label": "inferred inputs"}
    work: Any = score_hypothesis_of_trials
    if single:
        own = TrialFitOptions.check({"rank": rank, "tau_s": tau_s, "seed": seed, **fit_options})
        cells, names = _cells(data, by, prior, own)
        given: Any = data
        shared: dict[str, Any] = {"options": own, "cells": cells, "sparse": sparse}
    else:
        given, names = _means(data, rank, tau_s, by, seed, fit_options), _labels(data, "condition")
        work = score_hypothesis
        shared = {"sparse": sparse}
    dim = "trial" if single else "condition"
    held_out = folds_of(data.sizes[dim], folds, first=seed, what=f"{dim}s")
    tasks = ((given, {**shared, "hypothesis": one, "held_out": held}) for held in held_out for one in HYPOTHESES)
    found = run_all(work, tasks, total=len(HYPOTHESES) * folds, **running)
    unit = "nats/sample" if not single or own.observation == "gaussian" else "bits/spike"
    table = _scores(data, found, held_out, unit)
    of = [one for one in ("inputs", "both") if bool(table["as_good"].sel(hypothesis=one))] or ["both"]
    infer: Any = courses_of_trials if single else courses_of_means
    courses = run_all(infer, [(given, {**shared, "hypothesis": one}) for one in of], total=len(of), **running)
    table = _with_courses(table, data, courses, names, level)
    kind = "means" if not single else "trial" if by == "trial" else "column"
    table.attrs |= {
        "rank": int(rank), "tau_s": float(tau_s), "prior": prior, "by": by or "condition", "courses_of": ", ".join(of),
        "level": float(level), "interval_reason": _INTERVAL_REASONS[kind],
    }  # fmt: skip
    if not sparse:
        table.attrs["length_s"] = float(courses[-1]["length"]) * float(data.attrs["bin_s"])
    check_result(table, "inferred_inputs")
    return table


# ---------------------------------------------------------------------------------------------------------------------
# Data


def _labels(data: xr.Dataset, dim: str) -> Array:
    """Labels of the conditions or trials; their numbers where they have none."""
    labels = data[dim].values if dim in data.coords else np.arange(data.sizes[dim])
    return labels.astype(str)


def _cells(trials: xr.Dataset, by: str | None, prior: str, options: TrialFitOptions) -> tuple[Array | None, Array]:
    """The condition of each trial, as a number, and the conditions; None and the trials, if each has its own input."""
    check_scored_trials(trials, options.observation)
    if options.drift or options.areas is not None:
        what = "drift" if options.drift else "areas"
        raise ContractError(f"{what} is given. Inputs are inferred with one m and one block. Leave {what} out.")
    if by is None:
        raise ContractError(
            "by is None. Trials share an unknown input within their condition, or each has its own. Give the trial "
            "column of the conditions, or 'trial'."
        )
    if by == "trial":
        if prior != "smooth":
            raise ContractError(
                f"prior is {prior!r} with by='trial'. Inputs of single trials are Ornstein-Uhlenbeck processes. Leave "
                "prior out."
            )
        return None, _labels(trials, "trial")
    found, column = groups_of(trials, by, option="by"), find_column(trials, by, "trial")
    if lacking := 0 if column is None else int(missing_in(column.values).sum()):
        raise ContractError(
            f"{by} has no value in {lacking} of {trials.sizes['trial']} trials. Each trial needs a condition. Leave "
            "these trials out (isel)."
        )
    return found


def _means(activity: xr.Dataset, rank: int, tau_s: float, by: str | None, seed: int, given: Mapping[str, Any]) -> Means:
    """The arrays of condition means, with the options of their regression."""
    check_activity(activity)
    if by is not None:
        raise ContractError(f"by is {by!r}. Each condition of means has its own input. Leave out by.")
    if strange := sorted(given.keys() - _OF_MEANS):
        raise ContractError(
            f"{strange[0]} has no part in the regression of means. It needs hidden and nonlinearity alone. Leave "
            f"{strange[0]} out."
        )
    neurons, bin_s = activity.sizes["neuron"], float(activity.attrs["bin_s"])
    if not 1 <= rank <= neurons or tau_s < bin_s:
        raise ContractError(
            f"rank is {rank} and tau_s {tau_s:g} s. There are {neurons} neurons and bins of {bin_s:g} s. Use a rank "
            "from 1 to the number of neurons, and a tau_s of at least a bin."
        )
    hidden = given.get("hidden", "auto")
    hidden = max(0, ALL_UNITS - neurons) if hidden == "auto" else int(hidden)
    x, alpha = unmasked(activity)["activity"].values, bin_s / tau_s
    _check_samples(x, _labels(activity, "condition"))
    v = filter_input(whole_input(activity).astype(float), alpha)[:, -x.shape[1] :]
    smoothing = float(activity.attrs.get("smooth_s") or 0.0) / bin_s
    return Means(x, v, rank, alpha, hidden, seed, given.get("nonlinearity", "tanh"), smoothing)


def _check_samples(x: Array, labels: Array) -> None:
    """Refuse activity (condition, time, neuron) from which no course of an input can be inferred."""
    seen = np.isfinite(x)
    if not seen.any(axis=(1, 2)).all():
        lacking = labels[np.argmin(seen.any(axis=(1, 2)))]
        raise ContractError(
            f"Condition {lacking} has no observed sample. Each condition has an input of its own. Leave it out (isel)."
        )
    low, high = np.where(seen, x, np.inf).min(axis=(0, 1)), np.where(seen, x, -np.inf).max(axis=(0, 1))
    if x.shape[1] < 2 or not (high > low).any():
        raise ContractError("The activity has the same value in all samples. Inputs make it vary. Check the scale.")


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


def score_hypothesis(means: Means, *, hypothesis: str, sparse: bool, held_out: Array) -> dict[str, Array]:
    """Log probability of the held-out conditions, and their samples of latents, (condition).

    A task of `infer_inputs`.
    """
    recurrent, unknown = HYPOTHESES[hypothesis]
    latents = means.latents(~held_out)[0]
    solution = best_solution(latents.part(~held_out), recurrent, unknown, sparse)
    held = latents.part(held_out)
    return {
        "evidence": evidence_of(held, solution, recurrent),
        "amount": held.seen.sum(axis=1).astype(float) * means.rank,
    }


def courses_of_means(means: Means, *, hypothesis: str, sparse: bool) -> dict[str, Array]:
    """u, its standard errors, m and the length of the prior; a task of `infer_inputs`."""
    recurrent = HYPOTHESES[hypothesis][0]
    latents, m = means.latents(np.ones(len(means.x), bool))
    solution = best_solution(latents, recurrent, True, sparse)
    d, spread = courses_of(latents, solution, recurrent)
    error = np.sqrt(spread)[..., None] * np.sqrt(np.diag(solution.noise))
    return {"u": d / means.alpha, "error": error / means.alpha, "m": m, "length": np.array(solution.prior.length)}


def score_hypothesis_of_trials(
    trials: xr.Dataset, *, options: TrialFitOptions, cells: Array | None, hypothesis: str, sparse: bool, held_out: Array
) -> dict[str, Array]:
    """Log evidence of the held-out trials above that of the mean rates, and their spikes or samples, (trial).

    A task of `infer_inputs`.
    """
    state, arrays = learned(trials, options, held_out, cells, *HYPOTHESES[hypothesis], sparse)
    held = arrays.part(held_out)
    reference, amount = reference_evidence(arrays.part(~held_out), held, options.observation == "poisson")
    return {"evidence": posterior_of(state.system, held)[2] - reference, "amount": amount}


def courses_of_trials(
    trials: xr.Dataset, *, options: TrialFitOptions, cells: Array | None, hypothesis: str, sparse: bool
) -> dict[str, Array]:
    """u, its standard errors, m and the length of the prior; a task of `infer_inputs`.

    The input of the last bin acts after it. It repeats that of the bin before.
    """
    found = unknown_inputs(trials, options, cells, HYPOTHESES[hypothesis][0], sparse)
    alpha = float(trials.attrs["bin_s"]) / options.tau_s
    u, error = (np.concatenate([one, one[:, -1:]], axis=1) / alpha for one in (found.d, found.error))
    return {"u": u, "error": error, "m": found.m, "length": np.array(found.length)}


# ---------------------------------------------------------------------------------------------------------------------
# Result


def _scores(data: xr.Dataset, found: list[dict[str, Array]], held_out: list[Array], unit: str) -> xr.Dataset:
    """The scores of the hypotheses, and the choice."""
    evidence, amount = np.empty((len(HYPOTHESES), len(held_out[0]))), np.empty(len(held_out[0]))
    for k, held in enumerate(held_out):
        own = found[k * len(HYPOTHESES) : (k + 1) * len(HYPOTHESES)]
        evidence[:, held], amount[held] = [one["evidence"] for one in own], own[0]["amount"]
    score, single = evidence / amount.mean(), "trial" in data.dims
    mean, sem = mean_and_sem(score, axis=1)
    deficit, error = behind_the_best(score[:, None])
    same = SAME_OF_TRIALS * max(float(mean.max()), 0.0) if single else SAME_SHARE / 2  # log of a variance, halved
    good = deficit <= np.maximum(np.nan_to_num(error), same)
    given = xr.Dataset(coords=condition_coords(data)) if single else data
    coords = coords_along(given, "condition", kind="inferred_inputs")
    table = xr.Dataset(coords={"hypothesis": list(HYPOTHESES), **coords})
    columns = {"score": mean, "score_sem": sem, "deficit": deficit, "deficit_sem": error}
    for name, values in columns.items():
        table[f"hypothesis_{name}"] = ("hypothesis",), values, {"units": unit}
    table["as_good"] = ("hypothesis",), good
    table["condition_score"] = ("hypothesis", "condition"), score, {"units": unit}
    choice, verdict = chosen_hypothesis(*good.tolist())
    if choice == "undecided":
        warn(verdict)
    table.attrs = {"kind": "inferred_inputs", "hypothesis": choice, "separated": int(choice != "undecided")}
    table.attrs["verdict"] = verdict
    return table


def chosen_hypothesis(recurrence: bool, inputs: bool, both: bool) -> tuple[str, str]:
    """The choice, and what it means in words, from which hypotheses are as good as the best one.

    Examples
    --------
    >>> chosen_hypothesis(True, True, True)[0], chosen_hypothesis(False, True, True)[0]
    ('undecided', 'inputs')
    """
    if recurrence and inputs:
        return "undecided", (
            "Recurrence alone and inputs alone predict held-out data about equally well. The data cannot separate them."
        )
    if recurrence:
        return "recurrence", "Recurrence and the known inputs predict held-out data as well as unknown inputs do."
    if inputs:
        end = "Whether there is recurrence too, they do not say." if both else "With recurrence too it is worse."
        return "inputs", f"Held-out data need unknown inputs: recurrence alone predicts them worse. {end}"
    return "both", "Recurrence with unknown inputs predicts held-out data better than either alone."


def _with_courses(
    table: xr.Dataset, data: xr.Dataset, courses: list[dict[str, Array]], names: Array, level: float
) -> xr.Dataset:
    """The result with u, its interval, and the weights of u, from the courses of hypotheses that are as good.

    u is their mean, and the interval holds those of all; also 0, where no input at all is as good.
    """
    m, width, each = courses[-1]["m"], float(ndtri(0.5 + level / 2)), []
    for one in courses:
        to = np.linalg.lstsq(m, one["m"], rcond=None)[0]  # the same drive of the neurons with the weights m
        u, error = one["u"] @ to.T, np.sqrt(one["error"] ** 2 @ to.T**2)
        each.append((u - width * error, u, u + width * error))
    if table.attrs["hypothesis"] == "undecided":
        each.append((0 * each[0][1],) * 3)
    low, middle, high = (np.stack(values) for values in zip(*each, strict=True))
    inputs = [f"inferred {k + 1}" for k in range(m.shape[1])]
    coords = coords_along(data, "time", "neuron", kind="inferred_inputs")
    table = table.assign_coords({"input_condition": names, "inferred_input": inputs, **coords})
    dims = "input_condition", "time", "inferred_input"
    found = {"u": middle[: len(courses)].mean(axis=0), "low": low.min(axis=0), "high": high.max(axis=0)}
    for name, values in found.items():
        table[f"inferred_{name}"] = dims, values
    table["loading"] = ("neuron", "inferred_input"), m
    return table


def with_inferred_inputs(data: xr.Dataset, inferred: xr.Dataset) -> xr.Dataset:
    """Data with inferred inputs beside their known ones, for `fit_lint` or `fit_trials`.

    A fit takes them as known: their uncertainty is in ``inferred_low`` and ``inferred_high`` alone. They were inferred
    from the activity of all conditions or trials, also of those that the fit holds out, so that its held-out scores are
    too high. Scores of held-out data are in the result of `infer_inputs`.

    Parameters
    ----------
    data : xarray.Dataset
        Activity, or single trials, of the conditions that the inputs were inferred in, in the same bins; if each trial
        has its own (``by="trial"``), these trials.
    inferred : xarray.Dataset
        From `infer_inputs`.

    Returns
    -------
    xarray.Dataset
        The data, whose ``u`` has the inputs "inferred 1" and so on too.

    Raises
    ------
    ContractError
        If a condition has no inferred input, two have the same label, the times differ, the data have inferred inputs
        already, they are no activity or trials, or means where each trial has its own input.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> activity = mock_activity()
    >>> found = infer_inputs(activity, rank=1, tau_s=0.1, hidden=0)
    >>> with_inferred_inputs(activity, found)["input"].values.tolist()
    ['stimulus', 'inferred 1']
    """
    check_dataset(data, "data", "Call prepare(...)")
    check_result(inferred, "inferred_inputs")
    single, names = "trial" in data.dims, inferred["input_condition"].values.astype(str)
    if single:
        check_trials(data, "gaussian" if "rate" in data else "poisson")
    else:
        check_activity(data)
    dim, added = "trial" if single else "condition", inferred["inferred_input"].values.astype(str).tolist()
    by = str(inferred.attrs["by"])
    if by == "trial" and not single:
        raise ContractError(
            "The inputs were inferred of each trial, and the data are means of conditions. Give the trials, or infer "
            "inputs of the means."
        )
    if single and by != "trial":
        cells = groups_of(data, by, names, option="by")[0]
    else:
        place = {name: k for k, name in enumerate(names)}
        labels = _labels(data, dim)
        if len(place) < len(names):
            raise ContractError(
                f"Two {dim}s have the same label, so that their inferred inputs cannot be told apart. Labels need to "
                f"be unique. Give the {dim}s other labels, and infer again."
            )
        if strange := [label for label in labels if label not in place]:
            raise ContractError(
                f"{dim.capitalize()} {strange[0]} has no inferred input. Each {dim} needs its own. Infer it too."
            )
        cells = np.array([place[label] for label in labels])
    times, apart = [one["time"].values for one in (data, inferred)], 0.01 * float(data.attrs["bin_s"])
    if len(times[0]) != len(times[1]) or (np.abs(times[0] - times[1]) > apart).any():
        of_data, of_inputs = (f"{len(one)} bins from {one[0]:g} to {one[-1]:g} s" for one in times)
        raise ContractError(
            f"The data have {of_data}, the inferred inputs {of_inputs}. They need the same. Infer them from these data."
        )
    old = input_names(data) if "u" in data else []
    if both := sorted({*old} & {*added}):
        raise ContractError(f"The data have the input {both[0]!r} already. Add inferred inputs once.")
    u = inferred["inferred_u"].values[cells].astype(np.float32)
    before = data["u"].values if old else u[..., :0]
    out = data.drop_dims("input") if "input" in data.dims else data
    out = out.assign_coords(input=("input", [*old, *added]))
    out["u"] = (dim, "time", "input"), np.concatenate([before, u], axis=2), data["u"].attrs if old else {}
    if "u_burn_in" in data:
        burn_in = np.pad(data["u_burn_in"].values, ((0, 0), (0, 0), (0, len(added))))
        out["u_burn_in"] = data["u_burn_in"].dims, burn_in, data["u_burn_in"].attrs
    return out
