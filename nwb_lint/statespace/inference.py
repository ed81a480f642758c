"""What a stochastic fit says of new trials: latents, rates, forecasts."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import ndtri

from nwb_lint.contract.columns import coords_along
from nwb_lint.model.network import Array
from nwb_lint.options.checks import validated
from nwb_lint.options.single_trials import ForecastOptions, InferOptions, RateOptions
from nwb_lint.parallel.arrays import NUMPY, Engine
from nwb_lint.rate_link import posterior_rate
from nwb_lint.statespace.data import condition_coords, system_of, trial_coords, trials_for
from nwb_lint.statespace.smoother import causal_filter, covariances, smooth
from nwb_lint.statespace.system import (
    Batches,
    Context,
    System,
    Trials,
    design_of,
    features_of,
    loadings_of,
    next_latent,
    outer_of,
    transition_matrices,
)
from nwb_lint.statespace.tuning import ROUND_STEPS, ROUND_TOLERANCE, ROUNDS, SMOOTHING_STEPS


def posterior_of(
    system: System, trials: Trials, causal: bool = False, engine: Engine = NUMPY
) -> tuple[Array, Array, Array]:
    """Mean (trial, time, rank), covariance (trial, time, rank, rank), and log evidence (trial; NaN if causal)."""
    shape = (*trials.y.shape[:2], system.rank)
    mean, covariance, evidence = np.empty(shape), np.empty((*shape, system.rank)), np.full(shape[0], np.nan)
    data, put, get = Batches.on(NUMPY if causal else engine, trials), engine.put, engine.get
    here, plain = put(system), put(without_dynamics(system))

    def work(block: slice) -> None:
        part = data.block(block)
        if causal:
            mean[block], covariance[block] = causal_filter(system, part)
            return
        todo, spread = np.arange(shape[0])[block], None
        (there,) = put((np.repeat(system.start[trials.group[block]][:, None], shape[1], axis=1),))
        there = smooth(plain, part, there, SMOOTHING_STEPS, ROUND_TOLERANCE).mode
        for _ in range(ROUNDS):
            found = smooth(here, part, there, ROUND_STEPS, ROUND_TOLERANCE / 10, spread)
            there, spread, reached = found.mode, covariances(found), get(found.evidence)
            moved = ~(np.abs(reached - evidence[todo]) < ROUND_TOLERANCE)
            mean[todo], covariance[todo], evidence[todo] = get(there), get(spread), reached
            todo, part, there, spread = todo[moved], part.part(moved), there[moved], spread[moved]
            if not len(todo):
                break

    for _ in data.map(work, len(system.m)):
        pass
    return mean, covariance, evidence


def without_dynamics(system: System) -> System:
    """Its observation alone, of latents that decay and have noise: they move the log rates by 1, or values by psi.

    Its posterior has a single mode. Newton's method starts there, in the basin of the data.
    """
    n = system.n_neurons
    m = system.m[:n]
    precision = (m.T / system.variance) @ m / n
    spread = np.linalg.inv(precision + (1e-6 * np.trace(precision) + 1e-12) * np.eye(system.rank))
    return system._replace(
        m=m, n=np.zeros_like(m), weights=system.weights[:n], bias=system.bias[:n], spread=spread,
        noise=(1 - (1 - system.alpha) ** 2) * spread, nonlinearity="linear", unknown=None, decay=None,
    )  # fmt: skip


def rates_of(system: System, trials: Trials, mean: Array, covariance: Array, level: float = 0.9) -> tuple[Array, ...]:
    """Mean rate, Hz, or mean value, and the bounds of its interval, each (trial, time, neuron)."""
    n, z = system.n_neurons, float(ndtri(0.5 + level / 2))
    x = _activation(system, trials, mean)
    outer = outer_of(loadings_of(system, trials.basis)[..., :n]).swapaxes(-1, -2)
    variance = np.maximum(covariance.reshape(*covariance.shape[:2], -1) @ outer, 0)
    width = z * np.sqrt(variance + _of_coefficients(system, trials, mean))
    low, high = x - width, x + width
    if system.observation == "gaussian":
        return x + system.level, low + system.level, high + system.level
    around = ((x, variance), (low, 0 * low), (high, 0 * high))
    return tuple(posterior_rate(one, var, system.level, system.link) for one, var in around)


def _activation(system: System, trials: Trials, mean: Array) -> Array:
    """x of the recorded neurons (trial, time, neuron) at the mean of the latents."""
    n = system.n_neurons
    return mean @ loadings_of(system, trials.basis)[..., :n] + trials.v @ system.weights[:n].T + system.bias[:n]


def _of_coefficients(system: System, trials: Trials, mean: Array) -> Array | float:
    """Variance of x that comes from the uncertainty of level, I and m, (trial, time, neuron)."""
    if system.uncertainty is None:
        return 0.0
    design = design_of(trials, mean)
    outer = (design[..., :, None] * design[..., None, :]).reshape(*mean.shape[:2], -1)
    return np.maximum(outer @ system.uncertainty.reshape(system.n_neurons, -1).T, 0)


def _dataset(trials: xr.Dataset, fit: xr.Dataset) -> xr.Dataset:
    recorded = fit["recorded"].values
    coords = trial_coords(trials)
    coords["neuron"] = fit["neuron"].values[recorded]
    return xr.Dataset(coords=coords, attrs={"dt_s": fit.attrs["dt_s"]})


@validated(InferOptions)
def infer_latents(fit: xr.Dataset, trials: xr.Dataset, *, causal: bool = False) -> xr.Dataset:
    """The posterior of the latents of single trials.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit. Samples where ``observed`` is False do not count.
    causal : bool, default=False
        False: given all samples of the trial. True: given the samples until each time, in one pass (extended Kalman
        filter with Laplace's approximation), as it can run during an experiment.

    Returns
    -------
    xarray.Dataset
        ``latent (trial, time, rank)``; ``latent_cov (trial, time, rank, rank_from)``; ``evidence (trial)``, the log
        evidence in nats, unless ``causal``.

    Raises
    ------
    ContractError
        If the fit has no process noise, or neurons, inputs or bins differ from those of the fit.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> infer_latents(fit, trials)["latent"].dims
    ('trial', 'time', 'rank')
    """
    system, arrays = system_of(fit), trials_for(fit, trials)
    mean, covariance, evidence = posterior_of(system, arrays, causal)
    out = _dataset(trials, fit)
    out["latent"] = ("trial", "time", "rank"), mean
    out["latent_cov"] = ("trial", "time", "rank", "rank_from"), covariance
    if not causal:
        out["evidence"] = ("trial",), evidence
    return out


def posterior_activity(fit: xr.Dataset, trials: xr.Dataset) -> xr.Dataset:
    """Single trials as an activity of conditions: the posterior mean of the activation x of the recorded neurons.

    Of a fit with drift it is x with the mean m, so that all trials are comparable.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit.

    Returns
    -------
    xarray.Dataset
        ``activity (condition, time, neuron)`` and ``u (condition, time, input)``, dimensionless; the conditions are the
        trials, with their columns.

    Raises
    ------
    ContractError
        As `infer_latents`.
    """
    system, arrays = system_of(fit), trials_for(fit, trials)
    mean, _, _ = posterior_of(system, arrays)
    x, recorded = _activation(system._replace(drift=None), arrays, mean), fit["recorded"].values
    coords = condition_coords(trials)
    coords |= {name: value[recorded] for name, value in coords_along(fit, "neuron").items()}
    coords["input"] = "input", fit["input"].values
    u = trials["u"].values if "u" in trials else np.zeros((*mean.shape[:2], 1), np.float32)
    data = {
        "activity": (("condition", "time", "neuron"), x.astype(np.float32)),
        "u": (("condition", "time", "input"), u),
    }
    return xr.Dataset(data, coords, {"bin_s": float(trials.attrs["bin_s"])})


@validated(RateOptions)
def predict_rates(fit: xr.Dataset, trials: xr.Dataset, *, causal: bool = False, level: float = 0.9) -> xr.Dataset:
    """The rate of every neuron in single trials, from the posterior of the latents.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit. Mask neurons with ``observed`` to predict them from the others.
    causal : bool, default=False
        Whether only samples until each time are used.
    level : float, default=0.9
        Probability of the intervals.

    Returns
    -------
    xarray.Dataset
        ``rate``, ``rate_low`` and ``rate_high (trial, time, neuron)``: posterior mean and interval, Hz, or the unit of
        the values. Intervals contain the uncertainty of the latents and of level, I and m of the neuron.

    Raises
    ------
    ContractError
        As `infer_latents`.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> predict_rates(fit, trials)["rate"].dims
    ('trial', 'time', 'neuron')
    """
    system, arrays = system_of(fit), trials_for(fit, trials)
    mean, covariance, _ = posterior_of(system, arrays, causal)
    return _with_rates(_dataset(trials, fit), system, arrays, mean, covariance, level)


def _with_rates(
    out: xr.Dataset, system: System, arrays: Trials, mean: Array, covariance: Array, level: float
) -> xr.Dataset:
    unit = {"units": "Hz"} if system.observation == "poisson" else {}
    for name, values in zip(
        ("rate", "rate_low", "rate_high"), rates_of(system, arrays, mean, covariance, level), strict=True
    ):
        out[name] = ("trial", "time", "neuron"), values.astype(np.float32), unit
    return out.assign_attrs(level=level)


@validated(ForecastOptions)
def forecast(fit: xr.Dataset, trials: xr.Dataset, *, horizon_s: float, level: float = 0.9) -> xr.Dataset:
    """Latents and rates after the end of each trial, with intervals.

    The covariance grows with the process noise, along dynamics linearized at the mean. Inputs keep their last value.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit.
    horizon_s : float
        How far ahead, s; at least a bin.
    level : float, default=0.9
        Probability of the intervals.

    Returns
    -------
    xarray.Dataset
        On the times after the last bin: ``latent (trial, time, rank)``, ``latent_cov``, ``rate``, ``rate_low`` and
        ``rate_high (trial, time, neuron)``.

    Raises
    ------
    ContractError
        As `infer_latents`.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> forecast(fit, trials, horizon_s=0.1).sizes["time"]
    5
    """
    system, arrays = system_of(fit), trials_for(fit, trials)
    dt = float(fit.attrs["dt_s"])
    steps = max(1, round(horizon_s / dt))
    mean, covariance, _ = posterior_of(system, arrays)
    n_trials = len(mean)
    ahead = np.empty((n_trials, steps, system.rank))
    spread = np.empty((*ahead.shape, system.rank))
    last_u = trials["u"].values[:, -1].astype(float) if "u" in trials else np.zeros((n_trials, 1))
    v = np.empty((n_trials, steps, last_u.shape[1]))
    kappa, wide, filtered = mean[:, -1], covariance[:, -1], arrays.v[:, -1]
    loadings = loadings_of(system, arrays.basis)
    for t in range(steps):
        drive = (filtered @ system.weights.T + system.bias)[:, None]
        r, slope = features_of(system, kappa[:, None], Context(drive, drive, None, None, loadings))
        kappa = next_latent(system, kappa[:, None], r)[:, 0]
        moved = transition_matrices(system, slope, loadings)[:, 0]
        wide = moved @ wide @ np.swapaxes(moved, 1, 2) + system.noise
        filtered = (1 - system.alpha) * filtered + system.alpha * last_u
        ahead[:, t], spread[:, t], v[:, t] = kappa, wide, filtered
    time = trials["time"].values[-1] + dt * np.arange(1, steps + 1)
    out = _dataset(trials.isel(time=[-1]), fit).drop_vars("time").isel(time=0, missing_dims="ignore")
    out = out.assign_coords(time=("time", time, {"units": "s"}))
    out["latent"] = ("trial", "time", "rank"), ahead
    out["latent_cov"] = ("trial", "time", "rank", "rank_from"), spread
    return _with_rates(out, system, arrays._replace(v=v), ahead, spread, level)
