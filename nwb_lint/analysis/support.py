"""What supports a fixed point: the visited range, fits to resampled trials, and fits with other ranks and ridges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xarray as xr
from scipy.spatial.distance import cdist

from nwb_lint.analysis.dynamics import drive_of, visited
from nwb_lint.contract import recorded_of
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import FEWEST_VALUES, MAX_DISTANCE, MIN_SHARE, MOST_VISITED, THIN_SHARE
from nwb_lint.validation.alternatives import Alternative
from nwb_lint.validation.intervals import bounds

STABILITIES = ("stable", "saddle", "unstable", "marginal")

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
    """The fixed points with the share of draws in which each exists, and intervals of its place and eigenvalues.

    A point of a draw is the same as one of the fit if each is the nearest to the other among all points, and if both
    have the same stability. So one attractor in the middle of two stands for neither. Here m is orthonormal, so that
    distances are those of the activity.
    """
    counts, kappa, eigenvalues = [], [], []
    basis = np.linalg.qr(fit["m"].values)[1].T
    own, kinds, known = out["kappa"].values, out["stability"].values, out["eigenvalue_real"].values
    for one in networks:
        points, stability, values = find(one)
        counts.append([int((stability == kind).sum()) for kind in STABILITIES])
        here, there = _pairs(own @ basis, kinds, points @ basis, stability)
        kappa.append(np.full(own.shape, np.nan))
        eigenvalues.append(np.full(known.shape, np.nan))
        kappa[-1][here], eigenvalues[-1][here] = points[there], values.real[there]
    out["share_draws"] = ("fixed_point",), np.isfinite(kappa).all(axis=2).mean(axis=0)
    for name, some in (("kappa", np.array(kappa)), ("eigenvalue_real", np.array(eigenvalues))):
        low, high = out[name].values + bounds(some - _median(some), FEWEST_VALUES)
        units = {} if name == "kappa" else {"units": "1/s"}
        out[f"{name}_low"], out[f"{name}_high"] = (out[name].dims, low, units), (out[name].dims, high, units)
    spans = (out["eigenvalue_real_low"].values <= 0) & (out["eigenvalue_real_high"].values >= 0)
    out["near_marginal"] = ("fixed_point",), out["near_marginal"].values | spans.any(axis=1)
    out["n_found_resample"] = ("resample", "stability_kind"), np.array(counts)
    out["supported"] = ("fixed_point",), out["supported"].values & (out["share_draws"].values >= MIN_SHARE)
    return out.assign_coords(stability_kind=list(STABILITIES))


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
