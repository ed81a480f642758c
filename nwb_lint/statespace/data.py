"""Datasets of trials and fits as the arrays of `system`, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_dataset, check_table
from nwb_lint.contract.columns import find_column, input_names
from nwb_lint.contract.datasets import TRIALS
from nwb_lint.contract.values import as_text_column
from nwb_lint.drift import as_numbers, drift_functions, functions_at, has_drift
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of
from nwb_lint.model.network import Array, filter_input
from nwb_lint.statespace.system import System, Trials

NO_INPUT = "none"  # the one input, always 0, of a fit without inputs
_READ = "Call read_trials(...) and prepare(trials, ...)"


def check_trials(trials: xr.Dataset, observation: str) -> str:
    """The name of the variable that is observed, ``count`` or ``rate``, of a Dataset of trials.

    Raises
    ------
    ContractError
        If the Dataset is not one of trials, or has values that the observation cannot have.
    """
    check_dataset(trials, "trials", _READ)
    name = "rate" if observation == "gaussian" and "rate" in trials else "count"
    table = TRIALS if name == "count" else {k: v for k, v in TRIALS.items() if k != "count"}
    check_table(trials, table, "trials", _READ)
    if trials[name].dims != ("trial", "time", "neuron"):
        raise ContractError(f"{name} has dims {trials[name].dims}. It needs (trial, time, neuron). {_READ}.")
    if float(trials.attrs.get("bin_s", 0)) <= 0:
        raise ContractError(f"trials has the attribute bin_s={trials.attrs.get('bin_s')!r}. It needs a number above 0.")
    if trials.sizes["time"] < 2:
        raise ContractError("The trials have a single bin. A fit of dynamics needs at least 2. Use shorter bins.")
    if "u" in trials and not np.isfinite(trials["u"].values).all():
        raise ContractError("u has values that are not finite. Give a number for every trial and time.")
    return name


def check_scored_trials(trials: xr.Dataset, observation: str) -> None:
    """`check_trials` where each trial has a score of its own: it needs an observed sample.

    Raises
    ------
    ContractError
        Also if a trial has none. Its score would be 0, and an input of it that of the prior.
    """
    y = trials[check_trials(trials, observation)].values
    seen = np.isfinite(y)
    if "observed" in trials:
        seen &= trials["observed"].values
    unseen = ~seen.any(axis=(1, 2))
    if unseen.any():
        labels = trials["trial"].values if "trial" in trials.coords else np.arange(len(unseen))
        raise ContractError(
            f"{int(unseen.sum())} of {len(unseen)} trials have no observed sample; the first is {labels[unseen][0]}. "
            "Nothing can be said of them. Leave them out (isel)."
        )


def arrays_of(
    trials: xr.Dataset,
    name: str,
    alpha: float,
    groups: Array | None = None,
    blind: Array | None = None,
    basis: Array | None = None,
) -> Trials:
    """The trials as arrays; neurons in the mask ``blind`` (neuron) count as not observed.

    ``basis`` (trial, basis) are the smooth functions along which m drifts.
    """
    y = trials[name].values
    seen = trials["observed"].values if "observed" in trials else None
    if y.dtype.kind == "f":
        finite = np.isfinite(y)
        if not finite.all():
            seen = finite if seen is None else seen & finite
            y = np.where(finite, y, 0)
    if blind is not None and blind.any():
        seen = (np.ones(y.shape, bool) if seen is None else seen) & ~blind
    n_trials, n_times = y.shape[:2]
    u = trials["u"].values.astype(float) if "u" in trials else np.zeros((n_trials, n_times, 1))
    exposure = np.full((n_trials, n_times), float(trials.attrs["bin_s"]))
    if "exposure_s" in trials:
        exposure = np.maximum(trials["exposure_s"].values, 1e-12)
    group = np.zeros(n_trials, int) if groups is None else groups
    return Trials(y, seen, filter_input(u, alpha), np.log(exposure), group, _lags(seen, (n_trials, n_times)), basis)


def _lags(seen: Array | None, shape: tuple[int, int]) -> Array:
    """Whether a step lies between the first and the last observed sample of its trial, (trial, time - 1)."""
    if seen is None:
        return np.ones((shape[0], shape[1] - 1), bool)
    any_seen: Array = np.any(seen, axis=2)
    after = np.logical_or.accumulate(any_seen, axis=1)
    before = np.logical_or.accumulate(any_seen[:, ::-1], axis=1)[:, ::-1]
    return after[:, :-1] & before[:, 1:]


def session_functions(trials: xr.Dataset, count: int) -> Array | None:
    """The smooth functions of all trials of a session, (trial, basis); None for ``count`` 0.

    Raises
    ------
    ContractError
        If the trials have no labels, are of several sessions, or are too few.
    """
    if not count:
        return None
    if "trial" not in trials.coords:
        raise ContractError("The trials have no labels. m that drifts needs their numbers. Give the coordinate trial.")
    sessions = find_column(trials, "session", "trial")
    if sessions is not None and len(np.unique(as_text_column(sessions.values).astype(str))) > 1:
        raise ContractError("The trials are of several sessions. m drifts within one. Fit each session by itself.")
    labels = trials["trial"].values
    if len(np.unique(labels)) < len(labels):
        raise ContractError("Two trials have the same label. m of a trial is found by its label. Give each its own.")
    if count >= len(labels):
        raise ContractError(f"drift is {count} and there are {len(labels)} trials. Use fewer functions.")
    numbers = as_numbers(labels)
    return drift_functions(np.arange(len(labels)) if numbers is None else numbers, count).T


def functions_for(fit: xr.Dataset, trials: xr.Dataset) -> Array | None:
    """The smooth functions of a fit at new trials, (trial, basis); None if m of the fit is constant.

    Raises
    ------
    ContractError
        If a trial lies outside of the session of the fit.
    """
    if not has_drift(fit):
        return None
    if "trial" not in trials.coords:
        raise ContractError("The trials have no labels. m of the fit drifts over trials. Give the coordinate trial.")
    found = functions_at(fit, trials["trial"].values)
    outside = np.isnan(found).any(axis=1)
    if outside.any():
        first = trials["trial"].values[outside.argmax()]
        raise ContractError(
            f"Trial {first} is not within the session of the fit, whose m drifts over trials. Its m is not known. Give "
            "trials of this session."
        )
    return found


def groups_of(
    trials: xr.Dataset, column: str, levels: Array | None = None, option: str = "initial"
) -> tuple[Array, Array]:
    """The level of each trial in a column, as a number, and the levels."""
    found = find_column(trials, column, "trial")
    if found is None:
        use = "'common', or a trial column" if option == "initial" else "a trial column"
        raise ContractError(f"{option} is {column!r}, and trials have no such column. Use {use}.")
    values = as_text_column(found.values).astype(str)
    levels = np.unique(values) if levels is None else levels
    unknown = sorted(set(values) - set(levels))
    if unknown:
        raise ContractError(f"{column} has the value {unknown[0]!r}, which no training trial has. Leave them out.")
    return np.searchsorted(levels, values), levels


def system_of(fit: xr.Dataset) -> System:
    """The stochastic network of a fit from `fit_trials`.

    Raises
    ------
    ContractError
        If the fit has no process noise.
    """
    if "noise_cov" not in fit:
        raise ContractError(
            "The fit has no noise_cov: it is a network of mean activity. Single trials need a stochastic network. "
            "Use fit_trials."
        )
    n = int(fit["recorded"].values.sum())
    uncertainty = fit["observation_cov"].values[:n] if "observation_cov" in fit else None
    drift, blocks = fit["m_drift"].values[:n] if has_drift(fit) else None, blocks_of(fit)
    areas = {} if blocks is None else {name: getattr(blocks, name) for name in ("area", "to", "source", "reached")}
    variance = fit["observation_noise"].values[:n] if "observation_noise" in fit else np.ones(n)
    return System(
        m=fit["m"].values, n=fit["n"].values, weights=fit["input_weights"].values, bias=fit["bias"].values,
        level=fit["log_rate" if "log_rate" in fit else "observation_mean"].values[:n], variance=variance,
        noise=fit["noise_cov"].values, start=fit["initial_mean"].values, spread=fit["initial_cov"].values,
        alpha=float(fit.attrs["dt_s"]) / float(fit.attrs["tau_s"]), nonlinearity=fit.attrs["nonlinearity"],
        observation=fit.attrs["observation"], link=fit.attrs.get("link", "exp"), uncertainty=uncertainty,
        drift=drift, **areas,
    )  # fmt: skip


def trials_for(fit: xr.Dataset, trials: xr.Dataset, blind: Array | None = None) -> Trials:
    """New trials as arrays, in the order of the fit's neurons and inputs.

    Raises
    ------
    ContractError
        If neurons, inputs or the bin differ from those of the fit.
    """
    name = check_trials(trials, fit.attrs["observation"])
    if not np.isclose(trials.attrs["bin_s"], fit.attrs["dt_s"], rtol=1e-6):
        raise ContractError(
            f"The trials have bins of {trials.attrs['bin_s']:g} s, the fit of {fit.attrs['dt_s']:g} s. Read them with "
            "the bins of the fit."
        )
    mine = fit["neuron"].values[fit["recorded"].values].astype(str)
    theirs = trials["neuron"].values.astype(str) if "neuron" in trials.coords else np.arange(len(mine)).astype(str)
    if not np.array_equal(mine, theirs):
        raise ContractError(
            f"The trials have {len(theirs)} neurons, the fit has {len(mine)}, or they have other labels. Give the same "
            "neurons in the same order; mask those that were not recorded with observed."
        )
    names = input_names(trials) if "u" in trials else [NO_INPUT]
    if names != input_names(fit):
        raise ContractError(
            f"The trials have the inputs {', '.join(names)}, the fit has {', '.join(input_names(fit))}. Prepare the "
            "trials with the inputs of the fit."
        )
    alpha, groups = float(fit.attrs["dt_s"]) / float(fit.attrs["tau_s"]), None
    if fit.attrs["initial"] != "common":
        groups = groups_of(trials, fit.attrs["initial"], fit["initial_level"].values.astype(str))[0]
    return arrays_of(trials, name, alpha, groups, blind, functions_for(fit, trials))


def trial_coords(trials: xr.Dataset) -> dict[Any, Any]:
    """Coordinates on trials and time."""
    return {name: value.variable for name, value in trials.coords.items() if value.dims in (("trial",), ("time",))}


def condition_coords(trials: xr.Dataset) -> dict[Any, Any]:
    """Coordinates on trials and time where each trial is a condition, as in a fit: its id is the label."""
    ids = trials["trial"].values if "trial" in trials.coords else np.arange(trials.sizes["trial"])
    found: dict[Any, Any] = {"condition": ("condition", ids.astype(str))}
    for name, value in trial_coords(trials).items():
        if name != "trial":
            found[name] = tuple("condition" if dim == "trial" else dim for dim in value.dims), value.values, value.attrs
    return found
