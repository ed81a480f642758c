"""Bootstrap: a fit repeated on resampled trials; with simulations, intervals of what is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit, check_recording, check_result
from nwb_lint.contract.columns import coords_along, input_names, named_inputs, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.simulate import network_of, with_run
from nwb_lint.model.tuning import LEVEL
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import BootstrapOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import Prepare, fit_with
from nwb_lint.validation.intervals import bounds, quantities, turn_to, with_intervals
from nwb_lint.validation.subsampling import refit_options

_NETWORK = ("m", "n", "input_weights", "bias", "initial_activation")
_SAME = 1e-5  # difference of two quantities of one network that rounding makes
_SIMULATED = ("network_unpenalized", "network_simulated", "network_refitted")


@validated(BootstrapOptions)
def bootstrap(
    fit: xr.Dataset,
    recording: xr.Dataset,
    *,
    prepare: Prepare,
    draws: int = 200,
    simulations: int = 100,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fit resampled trials, and simulations of the network; the spread of its dynamics, and intervals.

    1. Draws. Each resample of the trials is prepared and fitted with the options of the fit: ridge, stages and number
       of steps are chosen anew. The draws show what depends on the choice of trials: see ``bootstrap`` of
       `fixed_points`. A resample has twice the noise of the recording, so draws spread too far, about the wrong center.
    2. Intervals. From the fit, the network of least squared error is estimated without a ridge: its run is smoothed
       as the recording was, and errors are weighted by the noise. Networks that scatter about it, as the noise allows,
       are simulated, smoothed, given noise, prepared, and estimated in the same way. The difference between estimates
       and known values is the bias, and its spread gives the interval, of 90 %. In a fit with areas, each network has
       its blocks; `currents` takes intervals of currents from them.

    There is no interval, but a ``reason``, where simulations show that it would not hold: where estimates hardly follow
    the known values, where intervals of simulations hold fewer than 75 % of the smaller or of the larger known values
    (``held``), where a direction of m and I cannot be distinguished from noise, or where the fit leaves more of the
    recording unexplained than 95 % of the simulations (``attrs["misfit_p"]`` below 0.05); and for fits with hidden
    units, with a start for each group of conditions, or to recordings with missing samples.

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
    simulations : int, default=100
        Simulated recordings, for intervals. 0: no intervals.
    seed : int, default=0
        Seed of the trial halves of resamples, and of the simulations.
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
        ``high``, ``held`` and ``reason``; ``value_draw (draw, quantity)``; ``value_simulated`` and ``value_refitted
        (simulation, quantity)``. The quantities are overlaps ("n 1 · m 1", "n 1 · I stimulus"), eigenvalues of the
        latents at x = 0 (the least stable first), the size of J_eff = m (P n)' / N, and angles between m and I. ``r2
        (bound)`` is the interval of R² of the training conditions. ``latent_low`` and ``latent_high (condition, time,
        rank)`` are those of the latents; without simulations, the range of 90 % of the draws about the fit. The
        networks of the draws, in the coordinates of the fit: ``network_draw (draw, neuron, parameter)``, with the
        parameters "m 1", "n 1", "I stimulus", "bias" and "initial activation". `networks_of_draws` makes fits of them.
        In the same form ``network_unpenalized (neuron, parameter)``, the estimate without a ridge, and
        ``network_simulated`` and ``network_refitted (simulation, neuron, parameter)``.

    Raises
    ------
    ContractError
        If the fit has no m, the recording has no resamples or conditions of a single trial, or the prepared recording
        has other neurons, inputs or conditions than the fit.

    References
    ----------
    Bootstrap: Efron & Tibshirani 1993. Estimates corrected by simulation: Gourieroux, Monfort & Renault 1993.

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
    found = _turned(fit, _fitted(recording, number, prepare, options, seed, how))
    out = _draws_table(fit, found)
    if simulations:
        out = with_intervals(out, fit, recording, activity, prepare, simulations, seed, how)
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
        If the result is of another fit: its neurons, parameters or network differ.

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
    _check_bootstrap(fit, bootstrap)
    yield from _unpacked(fit, bootstrap["network_draw"].values)


def _check_bootstrap(fit: xr.Dataset, bootstrap: xr.Dataset) -> None:
    """Refuse what is no bootstrap of this fit: one of another size, with other labels, or of another network.

    The network is known by the quantities that the bootstrap keeps of it. Its conditions may be fewer.
    """
    check_result(bootstrap, "bootstrap")
    theirs = tuple(bootstrap.sizes[dim] for dim in ("neuron", "rank", "parameter"))
    own = fit.sizes["neuron"], fit.sizes["rank"], len(_parameters(fit))
    if theirs != own:
        raise ContractError(
            "The draws have {} neurons, rank {} and {} parameters for each neuron. The fit has {}, {} and {}. "
            "Give the bootstrap of this fit.".format(*theirs, *own)
        )
    for name, labels in {"parameter": np.array(_parameters(fit)), "neuron": fit["neuron"].values.astype(str)}.items():
        given = bootstrap[name].values.astype(str)
        if (other := given != labels).any():
            k = int(other.argmax())
            raise ContractError(
                f"{name.capitalize()} {k} of the bootstrap is {str(given[k])!r}, and that of the fit is "
                f"{str(labels[k])!r}. Give the bootstrap of this fit."
            )
    network = quantities(fit, *(fit[name].values for name in ("m", "n", "input_weights")))
    estimates = dict(zip(bootstrap["quantity"].values.tolist(), bootstrap["estimate"].values.tolist(), strict=True))
    for name, value in network.items():
        estimate = estimates.get(name, np.nan)
        if not np.isclose(estimate, value, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise ContractError(
                f"{name} of the network of the bootstrap is {estimate:.6g}, and that of the fit is {value:.6g}. "
                "Give the bootstrap of this fit."
            )


def no_intervals(bootstrap: xr.Dataset) -> str:
    """Why no quantity has an interval, so that nothing else has one either; empty if some have, or reasons differ."""
    shared = set(bootstrap["reason"].values.astype(str))
    return shared.pop() if len(shared) == 1 else ""


def networks_of_simulations(fit: xr.Dataset, bootstrap: xr.Dataset) -> tuple[Iterator[xr.Dataset], ...]:
    """Networks as fits: the one without a ridge, those simulated, and their estimates; empty without simulations."""
    _check_bootstrap(fit, bootstrap)
    if "network_simulated" not in bootstrap:
        return ()
    own, known, fitted = (bootstrap[name].values for name in _SIMULATED)
    return tuple(_unpacked(fit, networks) for networks in (own[None], known, fitted))


def _unpacked(fit: xr.Dataset, networks: Array) -> Iterator[xr.Dataset]:
    """Fits with the parameters of networks (network, neuron, parameter), and their free runs."""
    widths = [fit[name].size // fit.sizes["neuron"] for name in _NETWORK]
    for one in networks:
        parts = np.split(one, np.cumsum(widths[:-1]), axis=1)
        yield with_run(
            fit.assign({k: (fit[k].dims, part.reshape(fit[k].shape)) for k, part in zip(_NETWORK, parts, strict=True)})
        )


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


def _with_rate(recording: xr.Dataset, rate: Array, generator: np.random.Generator) -> xr.Dataset:
    """The recording with the rates of a resample. Halves differ from them with a random sign for each condition.

    The difference of a half from the mean is independent of the mean. A resample has twice its variance.
    """
    out = recording.drop_dims("draw")
    out["rate"] = recording["rate"].dims, rate.astype(np.float32)
    if "rate_half" in recording:
        sign = generator.choice([-1.0, 1.0], size=(rate.shape[0], 1, 1))
        apart = sign * np.sqrt(2) * (recording["rate_half"].values - recording["rate"].values)
        out["rate_half"] = recording["rate_half"].dims, (rate + apart).astype(np.float32)
    return out


# ---------------------------------------------------------------------------------------------------------------------
# Fits


def _fitted(
    recording: xr.Dataset, number: int, prepare: Prepare, options: FitOptions, seed: int, how: dict[str, Any]
) -> dict[str, Array]:
    """What `refit` gives for each resample, stacked."""

    def tasks() -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
        for k in range(number):
            one = _with_rate(recording, recording["rate_draw"].values[k], np.random.default_rng([seed, k, 6]))
            if "input_course_draw" in recording:
                one["input_course"] = recording["input_course_draw"].isel(draw=k)
            yield prepare(one), {"options": options}

    found = run_all(refit, tasks(), total=number, label="resamples", **how)
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def refit(data: xr.Dataset, *, options: FitOptions) -> dict[str, Array]:
    """The network m, n, w of a fit, and its latents."""
    fit = fit_with(data, options)
    return network_of(fit)._asdict() | {"latent": fit["latent"].values}


def _turned(fit: xr.Dataset, found: dict[str, Array]) -> dict[str, Array]:
    """The networks with m turned to m of the fit, by the rotation of least squared distance on the recorded neurons."""
    turn = turn_to(fit, found["m"])
    return found | {name: found[name] @ turn for name in ("m", "n")} | {"latent": found["latent"] @ turn[:, None]}


# ---------------------------------------------------------------------------------------------------------------------
# Quantities and intervals


def _draws_table(fit: xr.Dataset, found: dict[str, Array]) -> xr.Dataset:
    """The result without intervals of the quantities."""
    own = quantities(fit, fit["m"].values, fit["n"].values, fit["input_weights"].values)
    out = xr.Dataset(coords=coords_along(fit, "neuron", "condition", "time", kind="bootstrap") | named_inputs(fit))
    out = out.assign_coords(quantity=list(own), parameter=_parameters(fit))
    out.attrs = {"kind": "bootstrap", "level": LEVEL, "tau_s": float(fit.attrs["tau_s"])}
    units = {"eigenvalue": "1/s", "angle": "degrees"}
    out["unit"] = ("quantity",), np.array([units.get(name.split()[0], "1") for name in own])
    out["estimate"] = ("quantity",), np.array(list(own.values()))
    networks = list(zip(found["m"], found["n"], found["w"], strict=True))
    out["value_draw"] = ("draw", "quantity"), np.array([list(quantities(fit, *one).values()) for one in networks])
    out["network_draw"] = ("draw", "neuron", "parameter"), np.array([np.column_stack(one) for one in networks])
    around = fit["latent"].values + bounds(found["latent"] - found["latent"].mean(axis=0))
    for name, value in zip(("latent_low", "latent_high"), around, strict=True):
        out[name] = fit["latent"].dims, value.astype(np.float32)
    return out


def _parameters(fit: xr.Dataset) -> list[str]:
    """Names of the columns m, n, input weights, bias and initial activation."""
    ranks = range(1, fit.sizes["rank"] + 1)
    inputs = [f"I {name}" for name in input_names(fit)]
    return [f"m {k}" for k in ranks] + [f"n {k}" for k in ranks] + [*inputs, "bias", "initial activation"]
