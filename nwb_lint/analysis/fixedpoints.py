"""Fixed points of the latents with a constant input, their stability, and the fixed points of fits to fewer neurons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, islice, product
from math import comb

import numpy as np
import xarray as xr

from nwb_lint.analysis.dynamics import Input, drive_of, field_result, flow, held_input, visited
from nwb_lint.analysis.latents import check_low_rank
from nwb_lint.analysis.support import (
    STABILITIES,
    same_input,
    with_alternatives,
    with_draws,
    with_simulations,
    with_support,
)
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.options.analyses import FixedPointOptions
from nwb_lint.options.checks import validated
from nwb_lint.validation.alternatives import alternatives
from nwb_lint.validation.bootstrap import networks_of_draws, networks_of_simulations, no_intervals
from nwb_lint.validation.subsampling import refits

_MAX_STEPS = 200  # of damped Newton steps
_MAX_SPEED = 1e-9  # of a fixed point, in the scale of the latents per tau
_SAME_DISTANCE = 1e-4  # between points that count as one, in the scale of the latents
_MARGINAL = 1e-6  # |real part of an eigenvalue| × tau
_ROUNDS = 6  # of starts, each from the points of the round before
_MOST_POINTS = 60  # more points are a continuum
_GRID_POINTS = 2000  # of a single latent

# Regions of the latents in which a piecewise-linear phi is linear
_MOST_VALUES = 400_000_000  # regions × neurons that are tried; about ten seconds
_AT_ONCE = 2_000_000  # values of one block
_APART = 1e-7  # relative shift of the drive that separates boundaries that meet in one point
_SINGULAR = 1e-12


@validated(FixedPointOptions)
def fixed_points(
    fit: xr.Dataset,
    *,
    condition: object = None,
    input: Input = None,
    at_s: float | None = None,
    n_starts: int = 200,
    seed: int = 0,
    activity: xr.Dataset | None = None,
    refit_fractions: Sequence[float] | None = None,
    draws: int = 3,
    bootstrap: xr.Dataset | None = None,
    other_ranks: Sequence[int] | None = None,
    other_ridges: bool = False,
) -> xr.Dataset:
    """Fixed points of the latents with a constant input: F(κ, u) = 0, with F as in `flow_field`.

    Damped Newton steps with the exact Jacobian, dF/dκ = (-1 + n' diag(phi'(x)) m / N) / tau, run from ``n_starts``
    starts. Half of them lie on the trajectories of the fit. Half lie in the box ``|κ_r| ≤ mean |n_r|``; outside of it a
    tanh network has no fixed point. Rank 1 adds every change of sign on a fine grid of the box. Then the mirror images
    of the points found, and the middles between them, are starts, until no new point is found. With phi = relu the flow
    is linear in each of at most N^R regions of the latents. If there are not too many, all are tried, so that no
    isolated fixed point is missed. All other directions of the activity decay at the rate 1 / tau, so these eigenvalues
    are those of the whole network.

    A fixed point is "stable" if all its eigenvalues have a real part below 0, "unstable" if all are above, "saddle" if
    both occur, and "marginal" if one is within 1e-6 / tau of 0. ``line_attractor`` is
    ``max(0, 1 - |λ_1| / min(|λ_2|, 1 / tau))``, with λ_1 the eigenvalue nearest to 0 and λ_2 the next. It is 1 if one
    direction does not move and the others do, and 0 if no direction is slower than the others.

    A point is ``supported`` if it is at most one standard deviation from what the trajectories visited and, with
    ``bootstrap``, exists in at least 80 % of the fits to resampled trials. Fits to noisy means often have attractors
    that the circuit does not have, and only the draws show it. ``near_marginal`` points have an eigenvalue below 1 /
    (length of a trial), or with ``bootstrap`` one that may be 0: such trials cannot tell them from marginal
    ones.

    With ``other_ranks`` and ``other_ridges`` the fit is repeated with these. ``share_ranks`` and ``share_ridges`` say
    in how many of those that predict held-out conditions as well as the best, within one standard error, a point
    exists. Below 1, the point depends on a choice that the data do not make, and single points may well be true then:
    report the range of their number.

    With ``refit_fractions`` the fit is repeated on random parts of the neurons, with its own options. A fixed point
    that appears or disappears is not a finding. A fit to few neurons can have attractors that the circuit does not
    have.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, of any rank above 0.
    condition : object, default=None
        Label or position of the condition that gives the constant input: its input at ``at_s``.
    input : mapping, sequence of float or None, default=None
        The constant input, in place of a condition: a number for each input, or numbers by name; the others are 0.
        None, without a condition, is 0 for all inputs.
    at_s : float or None, default=None
        Time of the input of the condition, s. None takes its last sample.
    n_starts : int, default=200
        Number of random starts. A few starts may miss points where the rank is high.
    seed : int, default=0
        Seed of the starts and of the random parts.
    activity : xarray.Dataset or None, default=None
        The fitted activity. Refits and other ranks or ridges need it.
    refit_fractions : sequence of float or None, default=None
        Fractions of the neurons that refits see. None makes no refits.
    draws : int, default=3
        Number of random parts of each size.
    bootstrap : xarray.Dataset or None, default=None
        From `nwb_lint.bootstrap`, of this fit.
    other_ranks : sequence of int or None, default=None
        Ranks that ``activity`` is fitted with. Each takes five fits, four of them for held-out errors.
    other_ridges : bool, default=False
        Fit ``activity`` with each single ridge in place of a choice among them.

    Returns
    -------
    xarray.Dataset
        Kind "fixed_points", the least stable point first: ``kappa (fixed_point, rank)``, dimensionless; ``residual``,
        ``|F|`` in 1/s, ``stability``, ``n_starts`` that ended there and ``line_attractor (fixed_point)``;
        ``eigenvalue_real`` and ``eigenvalue_imag (fixed_point, eigenvalue)``, 1/s; ``input_value (input)``;
        ``distance`` from what was visited, in its standard deviations along its principal axes, ``near_marginal`` and
        ``supported (fixed_point)``. With ``bootstrap`` also ``share_draws (fixed_point)`` and the counts
        ``n_found_resample (resample, stability_kind)``. If the bootstrap has simulations, also ``kappa_corrected``,
        ``kappa_low`` and ``kappa_high (fixed_point, rank)``, the same of ``eigenvalue_real (fixed_point, eigenvalue)``,
        intervals of 90 % as those of `nwb_lint.bootstrap`, and the ``interval_reason (fixed_point)`` where a point has
        none. With other ranks or ridges also ``share_ranks`` and ``share_ridges (fixed_point)``, the share of those
        that predict as well in which a point exists, ``n_found_alternative (alternative, stability_kind)`` and
        ``alternative_as_good (alternative)``. With refits also ``n_found (draw, stability_kind)`` and the coordinates
        ``fraction`` and ``n_neurons (draw)``. The attribute ``n_found`` has the same counts of the fit itself.

    Raises
    ------
    ContractError
        If the fit has no m, the condition, input or time is unknown, no start comes to rest (phi without bounds), or
        refits or other ranks and ridges have no activity.

    References
    ----------
    Sussillo & Barak, Neural Computation 2013.
    Valente, Pillow & Ostojic, NeurIPS 2022.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> bool((fixed_points(mock_fit())["residual"] < 1e-6).all())
    True
    """
    check_low_rank(fit)

    others = refits(fit, activity, refit_fractions, draws=draws, seed=seed)
    wanted = other_ranks is not None or other_ridges
    tried = alternatives(fit, activity, other_ranks, other_ridges) if wanted else None
    u = held_input(fit, condition, input, at_s)
    drive = drive_of(fit, u)
    found, counts, eigenvalues = _resting(fit, drive, n_starts, seed)
    if not len(found):
        raise ContractError(
            f"None of {n_starts} starts came to rest. With nonlinearity {fit.attrs['nonlinearity']!r} there may be no "
            "fixed point. Try another input, or more starts."
        )
    order = np.argsort(eigenvalues.real.max(axis=1), kind="stable")[::-1]
    found, counts, eigenvalues = found[order], counts[order], eigenvalues[order]
    stability = _stability(eigenvalues, fit.attrs["tau_s"])
    out = field_result(fit, u, "fixed_points", condition, at_s)
    out["kappa"] = ("fixed_point", "rank"), found
    out["residual"] = ("fixed_point",), np.linalg.norm(flow(fit, found, drive), axis=1), {"units": "1/s"}
    out["stability"] = ("fixed_point",), stability
    out["n_starts"] = ("fixed_point",), counts
    out["line_attractor"] = ("fixed_point",), _line_attractor(eigenvalues, fit.attrs["tau_s"])
    out["eigenvalue_real"] = ("fixed_point", "eigenvalue"), eigenvalues.real, {"units": "1/s"}
    out["eigenvalue_imag"] = ("fixed_point", "eigenvalue"), eigenvalues.imag, {"units": "1/s"}
    out.attrs |= {"n_found": _counts(stability), "seed": int(seed)}
    out = with_support(out, fit)

    def find(one: xr.Dataset) -> tuple[Array, Array, Array]:
        return _found(one, drive_of(one, same_input(one, u)), n_starts, seed)

    if bootstrap is not None:
        out = with_draws(out, fit, networks_of_draws(fit, bootstrap), find)
        if "reason" in bootstrap:
            networks = networks_of_simulations(fit, bootstrap)
            out = with_simulations(out, fit, networks, find, no_intervals(bootstrap))
    if tried is not None:
        out = with_alternatives(out, fit, tried, find)
    if others is not None:
        out = counts_of_refits(out, others, n_starts, seed)
    check_result(out, "fixed_points")
    return out


def counts_of_refits(
    out: xr.Dataset, refits_found: Iterable[tuple[float, xr.Dataset]], n_starts: int, seed: int
) -> xr.Dataset:
    """The result with counts of the fixed points of refits to fewer neurons, under the same input.

    ``refits_found`` are pairs of a fraction of the neurons and a fit to them.
    """
    u, rows = out["input_value"].values, []
    for fraction, one in refits_found:
        stability = _found(one, drive_of(one, u), n_starts, seed)[1]
        rows.append((fraction, int(one["recorded"].sum()), _counts(stability)))
    fractions, neurons, counts = zip(*rows, strict=True)
    out["n_found"] = ("draw", "stability_kind"), np.array(counts)
    coords = {"fraction": ("draw", list(fractions)), "n_neurons": ("draw", list(neurons))}
    return out.assign_coords(coords | {"stability_kind": list(STABILITIES)})


def _resting(fit: xr.Dataset, drive: Array, n_starts: int, seed: int) -> tuple[Array, Array, Array]:
    """Fixed points (point, rank), the number of starts that reached each, and eigenvalues (point, rank), the slowest
    first.
    """
    found, counts = _all_found(fit, drive, _box(fit), n_starts, seed)
    eigenvalues = np.linalg.eigvals(jacobian(fit, found, drive)).reshape(found.shape)
    return found, counts, np.take_along_axis(eigenvalues, np.argsort(np.abs(eigenvalues), axis=1), axis=1)


def _found(fit: xr.Dataset, drive: Array, n_starts: int, seed: int) -> tuple[Array, Array, Array]:
    """Fixed points of a network, their stability, and their eigenvalues."""
    points, _, eigenvalues = _resting(fit, drive, n_starts, seed)
    return points, _stability(eigenvalues, fit.attrs["tau_s"]), eigenvalues


def _box(fit: xr.Dataset) -> Array:
    """Half the sides (rank) of the box of the starts: mean |n|, and twice the largest latent if phi has no bounds."""
    side = np.abs(fit["n"].values).mean(axis=0)
    if fit.attrs.get("nonlinearity") != "tanh":  # phi may have no bounds
        side = np.maximum(side, 2 * np.abs(visited(fit)).max(axis=0))
    return np.where(side > 0, side, 1.0)


def _starts(fit: xr.Dataset, drive: Array, box: Array, n_starts: int, seed: int) -> Array:
    generator = np.random.default_rng([seed, 4])
    seen = visited(fit) + np.zeros(len(box))
    on = seen[generator.integers(len(seen), size=n_starts // 2)]
    inside = generator.uniform(-box, box, (n_starts - n_starts // 2, len(box)))
    parts = [np.zeros((1, len(box))), on, inside]
    if len(box) == 1:
        line = np.linspace(-1.01, 1.01, _GRID_POINTS)[:, None] * box
        below = flow(fit, line, drive)[:, 0] < 0
        turns = np.flatnonzero(below[1:] != below[:-1])
        parts.append((line[turns] + line[turns + 1]) / 2)
    if _can_visit_all(fit):
        parts.append(_points_of_regions(fit, drive))
    return np.concatenate(parts)


def jacobian(fit: xr.Dataset, kappa: Array, drive: Array) -> Array:
    """dF/dκ (point, rank, rank), 1/s, with F as in `dynamics.flow`."""
    kind = nonlinearity_of(fit.attrs.get("nonlinearity"))
    m, n = fit.variables["m"].values, fit.variables["n"].values
    x = kappa @ m.T + drive
    slope = kind.slope(x, kind.phi(x))
    pairs = (n[:, :, None] * m[:, None, :]).reshape(len(m), -1) / len(m)
    return ((slope @ pairs).reshape(len(kappa), n.shape[1], m.shape[1]) - np.eye(m.shape[1])) / fit.attrs["tau_s"]


def _newton(fit: xr.Dataset, kappa: Array, drive: Array) -> Array:
    """Levenberg-Marquardt steps on F from all starts. A step that does not lower |F| is damped and repeated."""
    kappa, tau, one = kappa.copy(), fit.attrs["tau_s"], np.eye(kappa.shape[1])
    value, damping = tau * flow(fit, kappa, drive), np.full(len(kappa), 1e-3)
    for _ in range(_MAX_STEPS):
        slope = tau * jacobian(fit, kappa, drive)
        normal = np.swapaxes(slope, 1, 2) @ slope + damping[:, None, None] * one
        step = np.linalg.solve(normal, np.swapaxes(slope, 1, 2) @ value[:, :, None])[:, :, 0]
        tried = kappa - step
        new = tau * flow(fit, tried, drive)
        better = np.linalg.norm(new, axis=1) < np.linalg.norm(value, axis=1)
        kappa[better], value[better] = tried[better], new[better]
        damping = np.clip(np.where(better, damping / 10, damping * 10), 1e-14, 1e6)
        if np.abs(step).max() < 1e-14 or not (better | (damping < 1e6)).any():
            break
    return kappa


def _all_found(fit: xr.Dataset, drive: Array, box: Array, n_starts: int, seed: int) -> tuple[Array, Array]:
    """Fixed points (point, rank), and the number of starts that reached each, mirror images and middles included."""
    kappa, size = _starts(fit, drive, box, n_starts, seed), float(np.linalg.norm(box))
    found, counts = np.zeros((0, len(box))), np.zeros(0, int)
    for _ in range(_ROUNDS):
        kappa = _newton(fit, kappa, drive)
        speed = np.linalg.norm(flow(fit, kappa, drive), axis=1) * fit.attrs["tau_s"]
        rests = speed < _MAX_SPEED * (1 + size)
        before = len(found)
        new = kappa[rests][np.argsort(speed[rests], kind="stable")]
        found, counts = _merged(found, counts, new, _SAME_DISTANCE * size)
        if len(found) == before or len(found) > _MOST_POINTS:
            break
        pairs = (found[:, None] + found)[np.triu_indices(len(found), 1)] / 2  # saddles lie between attractors
        kappa = np.concatenate([-found, pairs])
    return found, counts


def _merged(found: Array, counts: Array, new: Array, apart: float) -> tuple[Array, Array]:
    """Points with the new ones that are farther than ``apart`` from all others, and the number of starts of each."""
    kept, number = list(found), list(counts)
    for one in new:
        distance = [float(np.linalg.norm(one - other)) for other in kept]
        if kept and min(distance) <= apart:
            number[int(np.argmin(distance))] += 1
        else:
            kept.append(one)
            number.append(1)
    return np.array(kept).reshape(-1, found.shape[1]), np.array(number, int)


def _stability(eigenvalues: Array, tau_s: float) -> Array:
    real = eigenvalues.real * tau_s
    names = np.where((real < 0).all(axis=1), "stable", np.where((real > 0).all(axis=1), "unstable", "saddle"))
    return np.where((np.abs(real) < _MARGINAL).any(axis=1), "marginal", names)


def _line_attractor(eigenvalues: Array, tau_s: float) -> Array:
    size = np.abs(eigenvalues)
    second = np.minimum(size[:, 1], 1 / tau_s) if size.shape[1] > 1 else np.full(len(size), 1 / tau_s)
    return np.maximum(0.0, 1 - size[:, 0] / np.maximum(second, 1e-12))


def _counts(stability: Array) -> list[int]:
    return [int((stability == kind).sum()) for kind in STABILITIES]


# ---------------------------------------------------------------------------------------------------------------------
# All fixed points of a piecewise-linear phi


def _can_visit_all(fit: xr.Dataset) -> bool:
    """Whether phi is piecewise linear, and the regions are few enough to try all of them."""
    n_neurons, rank = fit["m"].shape
    return fit.attrs.get("nonlinearity") == "relu" and comb(n_neurons, rank) * 2**rank * n_neurons <= _MOST_VALUES


def _points_of_regions(fit: xr.Dataset, drive: Array) -> Array:
    """Fixed points (point, rank) of a network with phi = relu, one for each region of the latents that has one.

    Neuron i is active on one side of the hyperplane m_i κ + drive_i = 0. These N hyperplanes divide the R latents into
    regions, at most of the order of N^R, in each of which the flow is linear. Each region has a corner where R
    hyperplanes meet, so the corners give all regions: the neurons of a corner are active or not in 2^R ways, the others
    as they are at the corner. In a region with the active neurons A, the flow rests at κ = (1 - n_A' m_A / N)^-1 n_A'
    drive_A / N. This is a fixed point if exactly these neurons are active there. A region of which a whole line rests
    gives none.
    """
    m, n = fit["m"].values, fit["n"].values
    size, rank = m.shape
    scale = np.abs(drive).max() + np.abs(m).max()
    shifted = drive + _APART * scale * np.random.default_rng(0).standard_normal(size)
    pairs = (n[:, :, None] * m[:, None, :]).reshape(size, -1) / size
    corners, found = combinations(np.flatnonzero(np.abs(m).max(axis=1) > 0).tolist(), rank), []
    while block := list(islice(corners, max(1, _AT_ONCE // size))):
        chosen = np.array(block)
        square = np.abs(np.linalg.det(m[chosen])) > _SINGULAR * np.abs(m).max() ** rank
        chosen = chosen[square]
        if not len(chosen):
            continue
        corner = np.linalg.solve(m[chosen], -shifted[chosen][:, :, None])[:, :, 0]
        active = corner @ m.T + shifted > 0
        for pattern in product((False, True), repeat=rank):
            np.put_along_axis(active, chosen, np.array([pattern]), axis=1)
            kappa = _rest(active.astype(float), pairs, n * drive[:, None] / size)
            x = kappa @ m.T + drive
            fits = ((x > 0) == active) | (np.abs(x) <= 1e-9 * scale)
            found.append(kappa[fits.all(axis=1)])
    return np.concatenate(found) if found else np.zeros((0, rank))


def _rest(active: Array, pairs: Array, driven: Array) -> Array:
    """Where the linear flow of each region rests (region, rank); NaN where there is no single point."""
    rank = driven.shape[1]
    slope = np.eye(rank) - (active @ pairs).reshape(-1, rank, rank)
    whole = np.abs(np.linalg.det(slope)) > _SINGULAR
    kappa = np.full((len(active), rank), np.nan)
    kappa[whole] = np.linalg.solve(slope[whole], (active[whole] @ driven)[:, :, None])[:, :, 0]
    return kappa
