"""What supports a fixed point: the visited range, fits to resampled trials, and fits with other ranks and ridges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xarray as xr
from scipy.spatial.distance import cdist

from nwb_lint.analysis.dynamics import drive_of, visited
from nwb_lint.contract.columns import recorded_of
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import FEWEST_VALUES, MAX_DISTANCE, MIN_SHARE, MOST_VISITED, THIN_SHARE
from nwb_lint.validation.alternatives import Alternative
from nwb_lint.validation.intervals import bounds, interval

STABILITIES = ("stable", "saddle", "unstable", "marginal")

_DECIMALS = 9  # of latents: a point at 0 is not moved by rounding

Find = Callable[[xr.Dataset], tuple[Array, Array, Array]]  # a network → points, their stability, their eigenvalues


def distances(fit: xr.Dataset, kappa: Array) -> Array:
    """Distance of each point from the nearest latent of the run of the fit, (point).

    The unit is the standard deviation of these latents along each of their principal axes. Axes whose standard
    deviation is below a quarter of the largest one count as so wide.
    """
    whiten, seen = _whitening(fit), visited(fit) + np.zeros(kappa.shape[1])
    seen = seen[:: -(-len(seen) // MOST_VISITED)]
    return cdist(kappa @ whiten, seen @ whiten).min(axis=1, initial=np.inf)


def with_support(out: xr.Dataset, fit: xr.Dataset) -> xr.Dataset:
    """The fixed points with their distance from what was visited, and what the length of a trial can tell."""
    trial_s = float(fit.attrs["dt_s"]) * fit.sizes["time"]
    out["distance"] = ("fixed_point",), distances(fit, out["kappa"].values)
    slowest = np.abs(out["eigenvalue_real"].values).min(axis=1, initial=np.inf)
    out["near_marginal"] = ("fixed_point",), slowest * trial_s < 1
    out["supported"] = ("fixed_point",), out["distance"].values <= MAX_DISTANCE
    out.attrs["trial_s"] = trial_s
    return out


def with_draws(out: xr.Dataset, fit: xr.Dataset, networks: Iterator[xr.Dataset], find: Find) -> xr.Dataset:
    """The fixed points with the share of draws in which each exists; near marginal if draws differ in the stability.

    A point of a draw is the same as one of the fit if each is the nearest to the other among all points, and if both
    have the same stability. So one attractor in the middle of two stands for neither. Here m is orthonormal, so that
    distances are those of the activity.
    """
    matched, counts = _matched(out, fit, networks, find)
    out["share_draws"] = ("fixed_point",), np.isfinite(matched["kappa"]).all(axis=2).mean(axis=0)
    values = matched["eigenvalue_real"]
    low, high = out["eigenvalue_real"].values + bounds(values - _median(values), FEWEST_VALUES)
    _mark_marginal(out, low, high)
    out["n_found_resample"] = ("resample", "stability_kind"), counts
    out["supported"] = ("fixed_point",), out["supported"].values & (out["share_draws"].values >= MIN_SHARE)
    return out.assign_coords(stability_kind=list(STABILITIES))


def with_simulations(
    out: xr.Dataset, fit: xr.Dataset, networks: tuple[Iterator[xr.Dataset], ...], find: Find, refused: str
) -> xr.Dataset:
    """The fixed points with intervals of their places and eigenvalues, or with the reasons for none.

    ``networks``: the one without a ridge, those simulated, and their estimates. ``interval`` says of each place and
    eigenvalue what it says of the quantities, over the simulations in which both networks have the point.
    """
    values = {name: np.full((3, *out[name].shape), np.nan) for name in ("kappa", "eigenvalue_real")}
    reasons = [[refused] if refused else [] for _ in range(out.sizes["fixed_point"])]
    if not refused:
        own, known, fitted = (_matched(out, fit, some, find)[0] for some in networks)
        both = np.isfinite(known["kappa"]).all(axis=2) & np.isfinite(fitted["kappa"]).all(axis=2)
        for k, reason in enumerate(reasons):
            if np.isnan(own["kappa"][0, k]).any():
                reason.append("the estimate without a ridge does not have the point")
            if both[:, k].mean() < MIN_SHARE:
                reason.append(f"the point exists in fewer than {MIN_SHARE:.0%} of the simulations")
            if reason:
                continue
            for name in values:
                found = interval(known[name][both[:, k], k], fitted[name][both[:, k], k], own[name][0, k])
                values[name][:, k] = np.where(found.reason == "", found[:3], np.nan)
                reason += [why for why in found.reason.tolist() if why]
    for name, (corrected, low, high) in values.items():
        out[f"{name}_corrected"] = out[name].dims, corrected, out[name].attrs
        out[f"{name}_low"], out[f"{name}_high"] = ((out[name].dims, end, out[name].attrs) for end in (low, high))
    _mark_marginal(out, *values["eigenvalue_real"][1:])
    out["interval_reason"] = ("fixed_point",), np.array(["; ".join(dict.fromkeys(one)) for one in reasons], str)
    return out


def _matched(
    out: xr.Dataset, fit: xr.Dataset, networks: Iterable[xr.Dataset], find: Find
) -> tuple[dict[str, Array], Array]:
    """Place and eigenvalues (network, point, rank) of the points in other networks, NaN where there is none, and the
    numbers of points of these networks by stability (network, stability).
    """
    basis = np.linalg.qr(fit["m"].values)[1].T
    own, kinds = out["kappa"].values, out["stability"].values
    counts, rows = [], []
    for one in networks:
        points, stability, values = find(one)
        counts.append([int((stability == kind).sum()) for kind in STABILITIES])
        here, there = _pairs(own @ basis, kinds, points @ basis, stability)
        rows.append(np.full((2, *own.shape), np.nan))
        rows[-1][:, here] = points[there].round(_DECIMALS), values.real[there]
    kappa, eigenvalues = np.stack(rows, axis=1)
    return {"kappa": kappa, "eigenvalue_real": eigenvalues}, np.array(counts)


def _mark_marginal(out: xr.Dataset, low: Array, high: Array) -> None:
    """Mark points of which an eigenvalue may be 0, in place."""
    spans = (low <= 0) & (high >= 0)
    out["near_marginal"] = ("fixed_point",), out["near_marginal"].values | spans.any(axis=1)


def with_alternatives(out: xr.Dataset, fit: xr.Dataset, others: Iterable[Alternative], find: Find) -> xr.Dataset:
    """The fixed points with the share of the ranks and of the ridges that predict as well in which each exists.

    Points are the same if each is the nearest to the other in the activity of the recorded neurons, and if both are
    stable or neither is: a point of another rank has other directions that are unstable.
    """

    def places(one: xr.Dataset, kappa: Array) -> Array:
        drive = drive_of(one, same_input(one, out["input_value"].values))
        return (kappa @ one["m"].values.T + drive)[:, recorded_of(one)]

    own, attracts = places(fit, out["kappa"].values), out["stability"].values == "stable"
    rows: dict[str, list] = {"kind": [], "value": [], "as_good": [], "counts": [], "exists": []}
    for other in others:
        points, stability, _ = find(other.fit)
        here, _ = _pairs(own, attracts, places(other.fit, points), stability == "stable")
        counts = [int((stability == kind).sum()) for kind in STABILITIES]
        exists = np.isin(np.arange(len(own)), here)
        for name, one in zip(rows, (other.option, other.value, other.as_good, counts, exists), strict=True):
            rows[name].append(one)
    kinds, good, exists = (np.array(rows[name]) for name in ("kind", "as_good", "exists"))
    for kind in np.unique(kinds):
        out[f"share_{kind}s"] = ("fixed_point",), exists[(kinds == kind) & good].mean(axis=0)
    out["n_found_alternative"] = ("alternative", "stability_kind"), np.array(rows["counts"])
    out["alternative_as_good"] = ("alternative",), good
    coords = {"alternative": [f"{kind} {value:g}" for kind, value in zip(kinds, rows["value"], strict=True)]}
    return out.assign_coords(coords | {"stability_kind": list(STABILITIES)})


def same_input(fit: xr.Dataset, u: Array) -> Array:
    """The held input (input) for another fit, which may have starts of other groups; these come last and are 0."""
    out = np.zeros(fit.sizes["input"])
    out[: len(u)] = u[: len(out)]
    return out


def _whitening(fit: xr.Dataset) -> Array:
    """Matrix (rank, axis) that gives visited latents a standard deviation of 1 along each of their principal axes."""
    seen = visited(fit) + np.zeros(fit.sizes["rank"])
    spread, axes = np.linalg.eigh(np.atleast_2d(np.cov(seen.T, bias=True)))
    sd = np.sqrt(np.maximum(spread, 0))
    widest = sd.max() if sd.max() > 0 else 1.0
    return axes / np.maximum(sd, THIN_SHARE * widest)


def _pairs(own: Array, kinds: Array, points: Array, stability: Array) -> tuple[Array, Array]:
    """Positions of points that are the same: each is the nearest one to the other, and their stability is the same."""
    if not (len(own) and len(points)):
        return np.zeros(0, int), np.zeros(0, int)
    apart = cdist(own, points)
    here, there = np.arange(len(own)), apart.argmin(axis=1)
    same = (apart.argmin(axis=0)[there] == here) & (kinds == stability[there])
    return here[same], there[same]


def _median(values: Array) -> Array:
    """Median over the draws that have a value; 0 where none has."""
    return np.nanmedian(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
