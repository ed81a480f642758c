"""Intervals of what is read from a network: estimates of it, and of simulations whose values are known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import held_out_of, input_names, recorded_of
from nwb_lint.model.areas.blocks import Blocks, blocks_of, canonical_blocks, effective_n_of, one_block
from nwb_lint.model.initial_conditions import PREFIX
from nwb_lint.model.network import Array, Network, drives, forward
from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.model.simulate import network_of, whole_input
from nwb_lint.model.tuning import FOLLOWED, HELD, LEVEL, MISFIT, NOISE_COURSE_DRAWS, WEAKEST
from nwb_lint.parallel.engine import run_all
from nwb_lint.validation.folds import Prepare
from nwb_lint.validation.least_squares import (
    Estimate,
    Means,
    changed,
    estimate,
    restricted,
    smoothing,
    spread,
    weakest,
    whitening,
)

_NOISE = "a direction of m and I cannot be distinguished from noise: the trials do not determine this rank"
_FOLLOW = "in simulations the estimates hardly follow the true values"
_DEPEND = "in simulations, such intervals hold too few of the smaller or of the larger true values"
_WORSE = "the fit leaves more unexplained than the noise of the trials"


def bounds(values: Array, fewest: int = 1) -> Array:
    """Low and high quantile over the first axis, (2, ...), NaN where fewer values than ``fewest`` are finite."""
    at = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if np.isfinite(values).all() and len(values) >= fewest:
        return np.quantile(values, at, axis=0, method="weibull")
    enough = np.isfinite(values).sum(axis=0) >= fewest
    found = np.nanquantile(np.where(enough, values, 0.0), at, axis=0, method="weibull")  # as of another value
    return np.where(enough, found, np.nan)


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
    p = effective_n_of(blocks_of(fit), m, n, weights)
    found["size of J_eff"] = float(np.sqrt(np.sum((m.T @ m) * (p.T @ p)))) / size
    for name, column in columns.items():
        for k, one in enumerate(m.T):
            if name.startswith("I "):
                found[f"angle of m {k + 1} and {name}"] = _angle(one, column)
    return found


def _angle(a: Array, b: Array) -> float:
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(a @ b / length, -1, 1)))) if length > 0 else float("nan")


def turn_to(fit: xr.Dataset, m: Array) -> Array:
    """The rotation (..., rank, rank) that brings m (..., neuron, rank) nearest to m of the fit, on recorded neurons.

    In a fit with areas it rotates each block by itself.
    """
    recorded, blocks = recorded_of(fit), blocks_of(fit)
    products = np.swapaxes(m[..., recorded, :], -1, -2) @ fit["m"].values[recorded]
    if blocks is None:
        left, _, right = np.linalg.svd(products)
        return left @ right
    turn = np.zeros_like(products)
    for _, _, own in blocks.pairs():
        left, _, right = np.linalg.svd(products[..., own[:, None], own])
        turn[..., own[:, None], own] = left @ right
    return turn


def with_intervals(
    out: xr.Dataset,
    fit: xr.Dataset,
    recording: xr.Dataset,
    activity: xr.Dataset,
    prepare: Prepare,
    number: int,
    seed: int,
    how: dict[str, Any],
) -> xr.Dataset:
    """The result of a bootstrap with intervals from ``number`` simulations, or with the reason why there are none."""
    reason = _refused(fit, recording, activity)
    if not reason:
        means = _means(fit, recording, activity)
        found = estimate(means, restricted(network_of(fit), means.blocks))
        reason = _NOISE if weakest(means, found.network) < WEAKEST else ""
    if reason:
        for name in ("corrected", "low", "high", "held"):
            out[name] = ("quantity",), np.full(out.sizes["quantity"], np.nan)
        out["reason"] = ("quantity",), np.full(out.sizes["quantity"], reason)
        return _without_latents(out)
    truths = list(_truths(found, means.blocks, number, seed))
    y = _simulated(fit, recording, means, truths, prepare, seed)
    tasks = ((means._replace(y=one), {"start": found.network, "slope": found.slope}) for one in y)
    again = run_all(estimated, tasks, total=number, label="simulations", **how)
    out.attrs["misfit_p"] = float(np.mean([one["error"] >= found.error for one in again]))
    networks = [Network(*(one[name] for name in "mnw")) for one in again]
    _quantities(out, fit, found.network, truths, networks)
    _others(out, fit, means, found.network, truths, networks, np.array([one["r2"] for one in again]))
    return out


def _without_latents(out: xr.Dataset) -> xr.Dataset:
    """The result with NaN as intervals of the latents, in place."""
    for name in ("latent_low", "latent_high"):
        out[name] = out[name].dims, np.full(out[name].shape, np.nan, np.float32)
    return out


def _quantities(out: xr.Dataset, fit: xr.Dataset, own: Network, truths: list[Network], networks: list[Network]) -> None:
    """Intervals of the quantities, or reasons, in place."""
    placed = [_placed(fit, own), *map(partial(_placed, fit), truths), *map(partial(_placed, fit), networks)]
    values = np.array([list(quantities(fit, *one[:3]).values()) for one in placed])
    packed = np.stack([np.column_stack(one) for one in placed])
    known, fitted = np.split(values[1:], 2)
    out["value_simulated"] = ("simulation", "quantity"), known
    out["value_refitted"] = ("simulation", "quantity"), fitted
    out["network_unpenalized"] = ("neuron", "parameter"), packed[0]
    out["network_simulated"], out["network_refitted"] = (
        (("simulation", "neuron", "parameter"), half) for half in np.split(packed[1:], 2)
    )
    found = interval(known, fitted, values[0])
    reason = np.full(found.reason.shape, _WORSE) if out.attrs["misfit_p"] < MISFIT else found.reason
    for name in ("corrected", "low", "high"):
        out[name] = ("quantity",), np.where(reason == "", getattr(found, name), np.nan)
    out["held"], out["reason"] = (("quantity",), found.held), (("quantity",), reason)


def _refused(fit: xr.Dataset, recording: xr.Dataset, activity: xr.Dataset) -> str:
    """Why there can be no intervals; empty if they can be tried."""
    if not recorded_of(fit).all():
        return "the fit has hidden units, which nothing observes"
    if any(name.startswith(PREFIX) for name in input_names(fit)):
        return "the fit has a start for each group of conditions"
    if not (np.isfinite(activity["activity"].values).all() and np.isfinite(recording["rate_draw"].values).all()):
        return "the recording has missing samples"
    if fit.attrs.get("rate_link", "identity") != "identity":
        return "the fit has a rate_link, through which the noise of the trials is not known"
    if not all(fit[name].values.any() for name in ("m", "n", "input_weights")):
        return "the fit has no connections or no inputs"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Simulations


def _noise(recording: xr.Dataset, which: int | slice) -> Array:
    """Noise like that of the means, from some draws, (…, condition, time, neuron), in Hz.

    The variance of a resample of n trials about their mean is (n - 1) / n of that of the mean.
    """
    n_trials = recording["n_trials"].values[:, None].astype(float)
    apart = recording["rate_draw"].values[which] - recording["rate"].values
    return (np.sqrt(n_trials / (n_trials - 1)) * apart).astype(np.float32)


def _means(fit: xr.Dataset, recording: xr.Dataset, activity: xr.Dataset) -> Means:
    """The means of the training conditions."""
    train, alpha = ~held_out_of(fit), float(fit.attrs["dt_s"]) / float(fit.attrs["tau_s"])
    noise = _noise(recording, slice(NOISE_COURSE_DRAWS))[:, train]
    whiten, precision = whitening(noise / fit["scale"].values.astype(np.float32))
    smooth = smoothing(fit.sizes["time"], _sd_bins(recording))
    q = drives(whole_input(fit), alpha, bias=True, initial=True).astype(float)
    y = activity["activity"].values[train].astype(float)
    phi = fit.attrs["nonlinearity"]
    return Means(y, q[train], alpha, phi, whiten, whiten @ smooth, precision, _blocks(fit))


def _blocks(fit: xr.Dataset) -> Blocks:
    """The blocks of a fit; without areas, a single one."""
    blocks = blocks_of(fit)
    return one_block(fit["m"].values, network_of(fit).w) if blocks is None else blocks


def _sd_bins(recording: xr.Dataset) -> float:
    return float(recording.attrs.get("smooth_s", 0.0)) / float(recording.attrs["bin_s"])


def _truths(found: Estimate, blocks: Blocks, number: int, seed: int) -> Iterator[Network]:
    """Networks that scatter about an estimate as the noise allows."""
    wide = spread(found)
    for one in np.random.default_rng([seed, 7]).standard_normal((number, wide.shape[1])):
        yield changed(found.network, blocks, wide @ one)


def _simulated(
    fit: xr.Dataset, recording: xr.Dataset, means: Means, truths: list[Network], prepare: Prepare, seed: int
) -> Iterator[Array]:
    """The training conditions of recordings of each network, prepared, in units of the fit."""
    train = ~held_out_of(fit)
    alone = recording.drop_dims("draw")
    alone = alone.drop_vars([str(name) for name in alone if "half" in str(name)])
    smooth = smoothing(fit.sizes["time"], _sd_bins(recording))
    q = drives(whole_input(fit), means.alpha, bias=True, initial=True).astype(float)
    for k, network in enumerate(truths):
        x = forward(network, q, means.alpha, means.nonlinearity)[0][:, -fit.sizes["time"] :]
        sign = np.random.default_rng([seed, k, 8]).choice([-1, 1], (len(x), 1, 1))
        noise = sign * _noise(recording, k % recording.sizes["draw"])
        rate = np.einsum("st,ctn->csn", smooth, x) * fit["scale"].values + fit["offset"].values
        alone["rate"] = recording["rate"].dims, (rate + noise).astype(np.float32)
        activity = prepare(alone)
        yield (activity["activity"].values * (activity["scale"].values / fit["scale"].values))[train].astype(float)


def estimated(data: Means, *, start: Network, slope: Array) -> dict[str, Array]:
    """`estimate` as a task: the network m, n, w, its squared error, and R² of its run."""
    found = estimate(data, start, slope)
    x, _ = forward(found.network, data.q, data.alpha, data.nonlinearity)
    r2 = r_squared(data.y, x[:, -data.y.shape[1] :], reference_of(data.y, np.ones(len(data.y), bool)))[0]
    return found.network._asdict() | {"error": np.array(found.error), "r2": np.array(r2)}


# ---------------------------------------------------------------------------------------------------------------------
# Intervals


def _placed(fit: xr.Dataset, network: Network) -> list[Array]:
    """m, n, input weights, bias and initial activation of a network, in the coordinates of the fit."""
    m, n = _canonical(fit, network)
    turn = turn_to(fit, m)
    return [m @ turn, n @ turn, *np.split(network.w, [fit.sizes["input"], fit.sizes["input"] + 1], axis=1)]


def _canonical(fit: xr.Dataset, network: Network) -> tuple[Array, Array]:
    assert network.n is not None
    return canonical_blocks(_blocks(fit), network.m, network.n)


class Interval(NamedTuple):
    """Corrected values, their bounds, the share that intervals of simulations hold, and why there is none."""

    corrected: Array
    low: Array
    high: Array
    held: Array
    reason: Array


def interval(known: Array, fitted: Array, observed: Array) -> Interval:
    """`calibrated`, with the reason where simulations show that the interval would not hold, else ""."""
    corrected, low, high, slope = calibrated(known, fitted, observed)
    share = held(known, fitted)
    reason = np.where(slope < FOLLOWED, _FOLLOW, np.where(share < HELD, _DEPEND, "")).astype("U160")
    return Interval(corrected, low, high, share, reason)


def calibrated(known: Array, fitted: Array, observed: Array) -> tuple[Array, Array, Array, Array]:
    """Intervals of true values, from simulations whose values are known and the estimates from them.

    The estimates are regressed on the known values. The observed value minus what the regression leaves, taken back
    through the line, gives the interval. Values that are the same in all simulations have a slope of 1.

    Parameters
    ----------
    known, fitted : array of shape (simulation, ...)
    observed : array of shape (...)

    Returns
    -------
    corrected, low, high : array of shape (...)
    slope : array of shape (...)
    """
    slope, middle, left = _line(known, fitted)
    with np.errstate(divide="ignore", invalid="ignore"):
        center = known.mean(axis=0) + (observed - middle) / slope
        low, high = center - bounds(left)[::-1] / slope
        return center - np.median(left, axis=0) / slope, low, high, slope


def _line(known: Array, fitted: Array) -> tuple[Array, Array, Array]:
    """Slope of the regression of the estimates, their mean, and what is left, with its degrees of freedom counted."""
    apart, moved = known - known.mean(axis=0), fitted - fitted.mean(axis=0)
    power = (apart**2).sum(axis=0)
    fixed = power <= 1e-12 * (known**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(fixed, 1.0, (apart * moved).sum(axis=0) / power)
    left = (moved - slope * apart) * np.sqrt(len(known) / max(len(known) - 2, 1))
    return slope, fitted.mean(axis=0), left


def held(known: Array, fitted: Array) -> Array:
    """Share of known values that their intervals hold, in the half of smaller or of larger ones, the worse of both."""
    number = len(known)
    inside = np.empty(known.shape, bool)
    for k in range(number):
        others = np.arange(number) != k
        _, low, high, _ = calibrated(known[others], fitted[others], fitted[k])
        inside[k] = (low <= known[k]) & (known[k] <= high)
    larger = known > np.median(known, axis=0)
    shares = [np.where(half, inside, False).sum(axis=0) / np.maximum(half.sum(axis=0), 1) for half in (larger, ~larger)]
    shares[0] = np.where(larger.any(axis=0), shares[0], 1.0)
    return np.minimum(*shares)


def _others(
    out: xr.Dataset,
    fit: xr.Dataset,
    means: Means,
    own: Network,
    truths: list[Network],
    networks: list[Network],
    r2: Array,
) -> None:
    """Intervals of R² and of the latents, in place."""
    out["r2"] = ("bound",), np.append(0.0, bounds(r2 - r2.mean())) + float(fit["r2"].values[0])
    out.coords["bound"] = ["estimate", "low", "high"]
    if out.attrs["misfit_p"] < MISFIT:
        _without_latents(out)
        return
    error = np.stack([_latents(fit, means, a) - _latents(fit, means, b) for a, b in zip(networks, truths, strict=True)])
    low, high = _latents(fit, means, own) - bounds(error)[::-1]
    for name, value in (("latent_low", low), ("latent_high", high)):
        out[name] = fit["latent"].dims, value.astype(np.float32)


def _latents(fit: xr.Dataset, means: Means, network: Network) -> Array:
    """Latents of all conditions, in the coordinates of the fit."""
    q = drives(whole_input(fit), means.alpha, bias=True, initial=True).astype(float)
    kappa = forward(network, q, means.alpha, means.nonlinearity)[1][:, -fit.sizes["time"] :]
    m, _ = _canonical(fit, network)
    return kappa @ (m.T @ network.m * _blocks(fit).together).T @ turn_to(fit, m)
