"""Bootstrap: a fit repeated on resampled trials and on simulations of itself; intervals of what is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from nwb_lint.contract import (
    check_fit,
    check_recording,
    check_result,
    coords_along,
    held_out_of,
    input_names,
    named_inputs,
    recorded_of,
)
from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array, effective_n
from nwb_lint.model.simulate import with_run
from nwb_lint.options import BootstrapOptions, FitOptions, validated
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import Prepare, fit_with
from nwb_lint.validation.subsampling import refit_options

LEVEL = 0.9  # of the intervals
WIDER = 2.0  # the simulated overlaps scatter so many times as widely as those of the draws
DETERMINED = 0.5  # share of the variance of the simulated values that the fitted ones must explain
MISFIT = 0.05  # smallest share of simulations that fit as badly as the recording
RIDGE = 0.1  # of the regression on the simulations, in simulations: against collinear quantities
SIMULATIONS_PER_COMPONENT = 10  # the regression has one component of the fitted values for so many simulations
_NETWORK = ("m", "n", "input_weights", "bias", "initial_activation")
_TRUNCATE = 4.0  # sd at which the kernel of the readers ends


@validated(BootstrapOptions)
def bootstrap(
    fit: xr.Dataset,
    recording: xr.Dataset,
    *,
    prepare: Prepare,
    draws: int = 200,
    simulations: int = 0,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fit resampled trials, and simulations of the fit; the spread of its dynamics, and intervals.

    1. Draws. Each resample of the trials is prepared and fitted with the options of the fit: ridge, stages and number
       of steps are chosen anew. The draws show what depends on the choice of trials: see ``bootstrap`` of
       `fixed_points`. A resample has twice the noise of the recording, so draws spread too far, about the wrong center.
    2. Simulations. The fitted network, with overlaps n' m / N and n' I / N that scatter twice as widely as those of
       the draws, runs on its inputs. Its rates are smoothed as the recording, get the noise of a resample, and are
       prepared and fitted. What was simulated is known. A regression of the known values on the fitted ones, at the
       values of the fit, corrects the bias by noise and smoothing. The residuals give the interval, of 90 %.

    The intervals are too narrow where a ridge, and not the data, decides: the simulated networks are as regular as the
    fit, and the true one need not be. Rank 1, 60 units, 80 trials: 8 of 16 intervals held the truth. So there are none
    by default.

    Where the fitted values say little about the simulated ones (``determined`` below 0.5), or the fit leaves more of
    the recording unexplained than 95 % of the simulations (``attrs["misfit_p"]`` below 0.05), there is no interval:
    ``low`` and ``high`` are NaN, and ``reason`` says why.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, with a rank.
    recording : xarray.Dataset
        From `read_conditions` with ``draws``: ``rate_draw (draw, condition, time, neuron)``, Hz.
    prepare : callable
        Function of a recording that prepares it as it was prepared for the fit, such as ``lambda recording:
        prepare(recording, inputs=inputs)``.
    draws : int, default=200
        Resamples that are fitted, at most as many as the recording has.
    simulations : int, default=0
        Simulated recordings that are fitted, for intervals. 0: no intervals.
    seed : int, default=0
        Seed of the trial halves of resamples and simulations.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        A result of kind "bootstrap". By ``quantity``: ``unit``, ``estimate`` of the fit, ``corrected``, ``low``,
        ``high``, ``determined`` and ``reason``; ``value_draw (draw, quantity)``; ``value_simulated`` and
        ``value_refitted (simulation, quantity)``. The quantities are overlaps ("n 1 · m 1", "n 1 · I stimulus"),
        eigenvalues of the latents at x = 0 (the least stable first), the size of J_eff = m (P n)' / N, and angles
        between m and I. ``r2 (bound)`` is the interval of R² of the training conditions. ``latent_low`` and
        ``latent_high (condition, time, rank)`` are about the latents of the fit, from the draws. The networks of the
        draws, in the coordinates of the fit: ``m_draw``, ``n_draw (draw, neuron, rank)``, ``input_weights_draw (draw,
        neuron, input)``, ``bias_draw``, ``initial_activation_draw (draw, neuron)``. `networks_of_draws` makes fits of
        them.

    Raises
    ------
    ContractError
        If the fit has no m, the recording has no resamples or conditions of a single trial, or the prepared recording
        has other neurons, inputs or conditions than the fit.

    References
    ----------
    Bootstrap: Efron & Tibshirani 1993. Regression on simulations: Beaumont, Zhang & Balding, Genetics 2002.

    Examples
    --------
    >>> from nwb_lint import Input, prepare
    >>> from nwb_lint.testing import mock_fit, mock_recording
    >>> recording = mock_recording(draws=4)
    >>> stimulus = Input("stimulus", column="stimulus", window_s=(0, 1))
    >>> def prepared(recording):
    ...     return prepare(recording, inputs=[stimulus], center=(-0.2, 0.0), time_course=False)
    >>> found = bootstrap(mock_fit(), recording, prepare=prepared, simulations=4)
    >>> found["value_draw"].dims
    ('draw', 'quantity')
    """
    check_fit(fit)
    check_recording(recording)
    _check_resamples(fit, recording)
    activity = prepare(recording)
    options = _options(fit, activity)
    how: dict[str, Any] = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    number = min(draws, recording.sizes["draw"])
    resampled = _rates_of_draws(recording, number)
    found = _fitted(recording, resampled, prepare, options, np.sqrt(2), seed, {"label": "resamples", **how}, number)
    found = _turned(fit, found)
    out = _draws_table(fit, found)
    if simulations:
        truths = list(_truths(fit, found, simulations, seed))
        rates = _simulated_rates(recording, truths, number)
        again = _fitted(recording, rates, prepare, options, 1.0, seed, {"label": "simulations", **how}, simulations)
        out = _with_intervals(out, fit, activity, truths, again)
    out.attrs |= {"draws": number, "simulations": simulations, "seed": int(seed)}
    check_result(out, "bootstrap")
    return out


def networks_of_draws(fit: xr.Dataset, bootstrap: xr.Dataset) -> Iterator[xr.Dataset]:
    """The network of each draw as a fit, with its free run on the inputs of the fit.

    Any analysis can be repeated on them. Their latents are in the coordinates of the fit: m of each draw is turned so
    that it is as near as possible to m of the fit.

    Parameters
    ----------
    fit : xarray.Dataset
        The fit.
    bootstrap : xarray.Dataset
        From `bootstrap`.

    Returns
    -------
    iterator of xarray.Dataset
        A fit for each draw, one at a time.

    Raises
    ------
    ContractError
        If the result is of another fit.

    Examples
    --------
    >>> from nwb_lint import Input, fit_lint, prepare
    >>> from nwb_lint.testing import mock_recording
    >>> def prepared(recording):
    ...     return prepare(recording, inputs=[Input("stimulus", column="stimulus", window_s=(0, 1))])
    >>> recording = mock_recording(draws=2)
    >>> fit = fit_lint(prepared(recording), rank=1, tau_s=0.1, method="regression")
    >>> found = bootstrap(fit, recording, prepare=prepared, simulations=0)
    >>> [one["latent"].dims for one in networks_of_draws(fit, found)]
    [('condition', 'time', 'rank'), ('condition', 'time', 'rank')]
    """
    check_result(bootstrap, "bootstrap")
    if bootstrap["m_draw"].shape[1:] != fit["m"].shape:
        raise ContractError(
            f"The draws have {bootstrap.sizes['neuron']} neurons and rank {bootstrap.sizes['rank']}. The fit has "
            f"{fit.sizes['neuron']} and {fit.sizes['rank']}. Give the bootstrap of this fit."
        )
    for k in range(bootstrap.sizes["draw"]):
        one = fit.assign({name: (fit[name].dims, bootstrap[f"{name}_draw"].values[k]) for name in _NETWORK})
        yield with_run(one)


# ---------------------------------------------------------------------------------------------------------------------
# Recordings


def _check_resamples(fit: xr.Dataset, recording: xr.Dataset) -> None:
    if "m" not in fit:
        raise ContractError("The fit has J and no m (rank=None). The bootstrap needs m and n. Fit with a rank.")
    if "rate_draw" not in recording:
        raise ContractError(
            "The recording has no resamples of its trials. The bootstrap needs them. Read with draws=200."
        )
    if (recording["n_trials"].values == 1).any():
        raise ContractError(
            "A neuron has a single trial in a condition. Resamples of one trial do not differ. Read with min_trials=2, "
            "or with fewer conditions."
        )


def _options(fit: xr.Dataset, activity: xr.Dataset) -> FitOptions:
    """The options of the fit, if the prepared recording is what it was fitted to."""
    sizes = [(one.sizes["condition"], one.sizes["time"], one.sizes["neuron"]) for one in (activity, fit)]
    if sizes[0][:2] != sizes[1][:2] or sizes[0][2] != recorded_of(fit).sum() or "scale" not in activity:
        raise ContractError(
            f"The prepared recording has {sizes[0][0]} conditions, {sizes[0][1]} times and {sizes[0][2]} neurons. The "
            f"fit has {sizes[1][0]}, {sizes[1][1]} and {recorded_of(fit).sum()}. Give the recording and the function "
            "prepare that were fitted."
        )
    return refit_options(fit, activity)


def _rates_of_draws(recording: xr.Dataset, number: int) -> Iterator[Array]:
    return (recording["rate_draw"].values[k] for k in range(number))


def _simulated_rates(recording: xr.Dataset, truths: list[xr.Dataset], number: int) -> Iterator[Array]:
    """Rates of each network, smoothed as the recording, with the noise of a resample.

    The variance of a resample of n trials is (n - 1) / n of that of their mean.
    """
    sd = float(recording.attrs.get("smooth_s", 0.0)) / float(recording.attrs["bin_s"])
    n_trials = recording["n_trials"].values[:, None].astype(float)
    factor = np.sqrt(n_trials / np.maximum(n_trials - 1, 1))
    for k, one in enumerate(truths):
        sign = -1 if k // number % 2 else 1
        noise = sign * factor * (recording["rate_draw"].values[k % number] - recording["rate"].values)
        recorded = recorded_of(one)
        scale, offset = one["scale"].values[recorded], one["offset"].values[..., recorded]
        yield smoothed(one["activity_pred"].values[..., recorded] * scale + offset, sd) + noise


def smoothed(rate: Array, sd_bins: float) -> Array:
    """Rates (condition, time, neuron) without missing samples, smoothed along time as the readers do."""
    if sd_bins == 0:
        return rate
    how: dict[str, Any] = {"sigma": sd_bins, "axis": 1, "mode": "constant", "truncate": _TRUNCATE}
    return gaussian_filter1d(rate.astype(float), **how) / gaussian_filter1d(np.ones((1, rate.shape[1], 1)), **how)


def _with_rate(recording: xr.Dataset, rate: Array, spread: float, generator: np.random.Generator) -> xr.Dataset:
    """The recording with other rates. Halves differ from them as they did, with a random sign for each condition.

    The difference of a half from the mean is independent of the mean. ``spread`` is a factor on it: a resample has
    twice the variance.
    """
    out = recording.drop_vars("rate_draw")
    out["rate"] = recording["rate"].dims, rate.astype(np.float32)
    if "rate_half" in recording:
        sign = generator.choice([-1.0, 1.0], size=(rate.shape[0], 1, 1))
        apart = sign * spread * (recording["rate_half"].values - recording["rate"].values)
        out["rate_half"] = recording["rate_half"].dims, (rate + apart).astype(np.float32)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Fits


def _fitted(
    recording: xr.Dataset,
    rates: Iterator[Array],
    prepare: Prepare,
    options: FitOptions,
    spread: float,
    seed: int,
    how: dict[str, Any],
    total: int,
) -> dict[str, Array]:
    """What `refit` gives for each of these rates, stacked."""

    def tasks() -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
        for k, rate in enumerate(rates):
            one = _with_rate(recording, rate, spread, np.random.default_rng([seed, k, 6]))
            yield prepare(one), {"options": options}

    found = run_all(refit, tasks(), total=total, **how)
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def refit(data: xr.Dataset, *, options: FitOptions) -> dict[str, Array]:
    """The network of a fit, its latents, R² and the mean squared error of its rates in the training conditions."""
    fit = fit_with(data, options)
    return {name: fit[name].values for name in _NETWORK} | {
        "latent": fit["latent"].values,
        "r2": fit["r2"].values,
        "error": np.array(_error(fit, data)),
    }


def _error(fit: xr.Dataset, activity: xr.Dataset) -> float:
    """Mean squared error of the rates of the training conditions, in the units of the recording."""
    train = ~held_out_of(fit)
    y = activity["activity"].values[train]
    scale = activity["scale"].values if "scale" in activity else 1.0
    return float(np.nanmean(((y - fit["activity_pred"].values[train][..., : y.shape[2]]) * scale) ** 2))


def _turned(fit: xr.Dataset, found: dict[str, Array]) -> dict[str, Array]:
    """The networks with m turned to m of the fit, by the rotation of least squared distance on the recorded neurons."""
    recorded = recorded_of(fit)
    left, _, right = np.linalg.svd(np.swapaxes(found["m"][:, recorded], 1, 2) @ fit["m"].values[recorded])
    turn = left @ right
    return found | {name: found[name] @ turn for name in ("m", "n")} | {"latent": found["latent"] @ turn[:, None]}


# ---------------------------------------------------------------------------------------------------------------------
# Quantities and intervals


def quantities(fit: xr.Dataset, m: Array, n: Array, weights: Array) -> dict[str, float]:
    """What is read from a network m, n, input weights: overlaps, eigenvalues, size of J_eff, and angles, by name."""
    size, tau_s = len(m), float(fit.attrs["tau_s"])
    names = [name for name in input_names(fit) if not name.startswith(PREFIX)]
    weights = weights[:, : len(names)]
    columns = {f"m {k + 1}": one for k, one in enumerate(m.T)} | {
        f"I {name}": one for name, one in zip(names, weights.T, strict=True)
    }
    found = {
        f"n {k + 1} · {name}": float(one @ column) / size
        for k, one in enumerate(n.T)
        for name, column in columns.items()
    }
    eigenvalues = np.linalg.eigvals(n.T @ m / size)
    eigenvalues = (eigenvalues[np.lexsort((-eigenvalues.imag, -eigenvalues.real))] - 1) / tau_s
    for k, value in enumerate(eigenvalues):
        found |= {f"eigenvalue {k + 1}, real": float(value.real), f"eigenvalue {k + 1}, imaginary": float(value.imag)}
    p = effective_n(m, n, weights)
    found["size of J_eff"] = float(np.sqrt(np.sum((m.T @ m) * (p.T @ p)))) / size
    for name, column in columns.items():
        for k, one in enumerate(m.T):
            if name.startswith("I "):
                found[f"angle of m {k + 1} and {name}"] = _angle(one, column)
    return found


def _angle(a: Array, b: Array) -> float:
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(a @ b / length, -1, 1)))) if length > 0 else float("nan")


def _values(fit: xr.Dataset, found: dict[str, Array]) -> Array:
    """The quantities of networks, (network, quantity)."""
    networks = zip(found["m"], found["n"], found["input_weights"], strict=True)
    return np.array([list(quantities(fit, *one).values()) for one in networks])


def _draws_table(fit: xr.Dataset, found: dict[str, Array]) -> xr.Dataset:
    """The result without intervals of the quantities."""
    own = quantities(fit, *(fit[name].values for name in _NETWORK[:3]))
    out = xr.Dataset(coords=coords_along(fit, "neuron", "condition", "time", kind="bootstrap") | named_inputs(fit))
    out = out.assign_coords(quantity=list(own))
    out.attrs = {"kind": "bootstrap", "level": LEVEL, "tau_s": float(fit.attrs["tau_s"])}
    units = {"eigenvalue": "1/s", "angle": "degrees"}
    out["unit"] = ("quantity",), np.array([units.get(name.split()[0], "1") for name in own])
    out["estimate"] = ("quantity",), np.array(list(own.values()))
    out["value_draw"] = ("draw", "quantity"), _values(fit, found)
    for name in _NETWORK:
        out[f"{name}_draw"] = ("draw", *fit[name].dims), found[name]
    around = found["latent"] - found["latent"].mean(axis=0) + fit["latent"].values
    for name, value in zip(("latent_low", "latent_high"), np.quantile(around, _bounds(), axis=0), strict=True):
        out[name] = fit["latent"].dims, value.astype(np.float32)
    return out


def _bounds() -> list[float]:
    return [(1 - LEVEL) / 2, (1 + LEVEL) / 2]


def _truths(fit: xr.Dataset, found: dict[str, Array], number: int, seed: int) -> Iterator[xr.Dataset]:
    """Networks like the fit, with overlaps n' (m, I) / N that scatter as those of the draws, but `WIDER`."""
    basis = np.column_stack([fit["m"].values, fit["input_weights"].values])
    every = np.concatenate([found["m"], found["input_weights"]], axis=2)
    overlaps = np.swapaxes(every, 1, 2) @ found["n"] / len(basis)
    apart = WIDER * (overlaps - overlaps.mean(axis=0)) / np.sqrt(max(len(overlaps) - 1, 1))
    normal = np.random.default_rng([seed, 7]).standard_normal((number, len(apart)))
    for change in np.tensordot(normal, apart, axes=1):
        own = basis @ np.linalg.lstsq(basis.T @ basis / len(basis), change, rcond=1e-10)[0]
        yield with_run(fit.assign(n=(fit["n"].dims, fit["n"].values + own)))


def _with_intervals(
    out: xr.Dataset, fit: xr.Dataset, activity: xr.Dataset, truths: list[xr.Dataset], again: dict[str, Array]
) -> xr.Dataset:
    """The result with intervals from simulations of known networks and the fits to them."""
    again = _turned(fit, again)
    known = _values(fit, {name: np.stack([one[name].values for one in truths]) for name in _NETWORK[:3]})
    fitted = _values(fit, again)
    out["value_simulated"], out["value_refitted"] = (
        (("simulation", "quantity"), known),
        (("simulation", "quantity"), fitted),
    )
    corrected, low, high, share = calibrated(known, fitted, out["estimate"].values)
    worse = float(np.mean(again["error"] >= _error(fit, activity)))
    out.attrs["misfit_p"] = worse
    reason = np.where(share < DETERMINED, "the fitted values say little about the simulated ones", "").astype("U80")
    if worse < MISFIT:
        reason[:] = "the fit leaves more unexplained than the noise of the trials"
    for name, value in (("corrected", corrected), ("low", low), ("high", high)):
        out[name] = ("quantity",), np.where(reason == "", value, np.nan)
    out["determined"], out["reason"] = (("quantity",), share), (("quantity",), reason)
    spread = again["r2"][:, 0] - again["r2"][:, 0].mean()
    out["r2"] = ("bound",), float(fit["r2"].values[0]) + np.quantile(spread, [0.5, *_bounds()])
    return out.assign_coords(bound=["estimate", "low", "high"])


def calibrated(known: Array, fitted: Array, observed: Array) -> tuple[Array, Array, Array, Array]:
    """Intervals of true values, from simulations whose values are known and the fits to them.

    Each known value is regressed on the leading principal components of all fitted values. The prediction at the
    observed values is the corrected estimate, and quantiles of the residuals, widened by the uncertainty of the
    regression, give the interval. A quantity that is the same in all simulations has the errors of the fits around its
    observed value.

    Parameters
    ----------
    known, fitted : array of shape (simulation, quantity)
    observed : array of shape (quantity,)

    Returns
    -------
    corrected, low, high : array of shape (quantity,)
    determined : array of shape (quantity,)
        Share of the variance of the known values that the regression explains, with degrees of freedom counted.
    """
    number = len(known)
    center, spread = fitted.mean(axis=0), fitted.std(axis=0)
    used = spread > 1e-9 * np.maximum(np.abs(center), 1e-9)
    x, at = ((one - center)[..., used] / spread[used] for one in (fitted, observed))
    axes = np.linalg.svd(x, full_matrices=False)[2][: max(1, number // SIMULATIONS_PER_COMPONENT)]
    x, at = x @ axes.T, at @ axes.T
    inverse = np.linalg.inv(x.T @ x + RIDGE * np.eye(x.shape[1]))
    slope = inverse @ x.T @ (known - known.mean(axis=0))
    residual = known - known.mean(axis=0) - x @ slope
    leverage = np.einsum("si,ij,sj->s", x, inverse, x) + 1 / number
    residual = residual / np.sqrt(np.maximum(1 - leverage, 1 / number))[:, None]
    corrected = known.mean(axis=0) + at @ slope
    low, high = corrected + np.sqrt(1 + 1 / number + at @ inverse @ at) * np.quantile(residual, _bounds(), axis=0)
    variance = known.var(axis=0)
    fixed = variance <= 1e-12 * (known**2).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(fixed, 1.0, 1 - (residual**2).mean(axis=0) / variance)
    error = fitted - known
    most, least = np.quantile(error, _bounds(), axis=0)
    corrected = np.where(fixed, observed - error.mean(axis=0), corrected)
    low, high = np.where(fixed, observed - least, low), np.where(fixed, observed - most, high)
    return corrected, low, high, np.clip(share, 0, 1)
