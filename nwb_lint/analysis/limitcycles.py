"""Limit cycles of the latents with a constant input: shooting from simulated orbits, and their Floquet multipliers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.spatial.distance import cdist

from nwb_lint.analysis.dynamics import Input, drive_of, field_result, flow, held_input, visited
from nwb_lint.analysis.fixedpoints import jacobian
from nwb_lint.analysis.latents import check_low_rank
from nwb_lint.analysis.support import distances
from nwb_lint.contract.checks import check_result
from nwb_lint.model.network import Array
from nwb_lint.model.tuning import MAX_DISTANCE
from nwb_lint.options.analyses import LimitCycleOptions
from nwb_lint.options.checks import validated

_TRANSIENT = 60.0  # time constants that an orbit runs before it is looked at
_LONGEST = 60.0  # time constants of the longest period
_STEP = 0.05  # time constants of a step of the simulation
_CLOSES = 0.05  # an orbit returns to a point if it comes so near, in its own extent
_SMALL = 1e-4  # extent of an orbit that has come to rest, in the extent of the starts
_NEWTON_STEPS = 30
_CLOSED = 1e-7  # gap between start and end of a cycle, in its extent
_PHASES = 100  # points on each cycle that are kept
_NEUTRAL = 1e-3  # from 1, of a multiplier that cannot be distinguished from it


@validated(LimitCycleOptions)
def limit_cycles(
    fit: xr.Dataset,
    *,
    condition: object = None,
    input: Input = None,
    at_s: float | None = None,
    n_starts: int = 20,
    seed: int = 0,
) -> xr.Dataset:
    """Periodic orbits of the latents with a constant input, and whether orbits beside them come nearer.

    The flow of `flow_field` is simulated from ``n_starts`` starts, half of them on the trajectories of the fit, half in
    the box around these, for 60 time constants forward in time and as long backward. Backward orbits that stay bounded
    lead to repelling cycles, which in rank 2 are all others. Where an orbit returns near to itself, Newton steps on
    start and period close it (shooting). The derivatives come from the variational equations, and so does the matrix by
    which a small deviation is multiplied in one period. Its eigenvalues are the Floquet multipliers: one is 1, along
    the cycle; the cycle is "stable" if all others are below 1 in magnitude, "unstable" if all are above, else
    "saddle"; "marginal" if one is within .001 of 1. Saddle cycles of rank 3 and more are not searched for.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, of rank 2 or more; rank 1 has no cycles.
    condition : object, default=None
        Label or position of the condition that gives the constant input: its input at ``at_s``.
    input : mapping, sequence of float or None, default=None
        The constant input, in place of a condition: a number for each input, or numbers by name; the others are 0.
        None, without a condition, is 0 for all inputs.
    at_s : float or None, default=None
        Time of the input of the condition, s. None takes its last sample.
    n_starts : int, default=20
        Number of simulated orbits.
    seed : int, default=0
        Seed of the starts.

    Returns
    -------
    xarray.Dataset
        Kind "limit_cycles". ``attrs["n_cycles"]`` is their number, perhaps 0. If there are any, the shortest period
        first: ``period_s (cycle)``; ``kappa (cycle,
        phase, rank)``, at 100 equal parts of the period; ``multiplier_real`` and ``multiplier_imag (cycle,
        multiplier)``, the neutral one first, then by falling magnitude; ``stability``, ``n_starts`` that ended there,
        ``distance (cycle)``, the largest one of its points from what the trajectories visited, as in `fixed_points`,
        and ``supported (cycle)``: at most one standard deviation away; ``input_value (input)``.

    Raises
    ------
    ContractError
        If the fit has no m, or the condition, input or time is unknown.

    References
    ----------
    Kuznetsov, Elements of Applied Bifurcation Theory, sections 1.5 and 10.2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> limit_cycles(mock_fit()).attrs["n_cycles"]  # of rank 1
    0
    """
    check_low_rank(fit)
    u = held_input(fit, condition, input, at_s)
    rank, drive = fit.sizes["rank"], drive_of(fit, u)
    found = _found(fit, drive, n_starts, seed) if rank > 1 else []
    found.sort(key=lambda one: one[0])
    out = field_result(fit, u, "limit_cycles", condition, at_s)
    out.attrs |= {"n_cycles": len(found), "seed": int(seed)}
    if found:
        _fill(out, fit, found)
    check_result(out, "limit_cycles")
    return out


Cycle = tuple[float, Array, Array, int]  # period, orbit (phase, rank), multipliers, number of starts


def _fill(out: xr.Dataset, fit: xr.Dataset, found: list[Cycle]) -> None:
    """Add the cycles to a result, in place."""
    periods, orbits, multipliers, counts = (np.array(one) for one in zip(*found, strict=True))
    out["period_s"] = ("cycle",), periods, {"units": "s"}
    out["kappa"] = ("cycle", "phase", "rank"), orbits
    out["multiplier_real"] = ("cycle", "multiplier"), multipliers.real
    out["multiplier_imag"] = ("cycle", "multiplier"), multipliers.imag
    out["stability"] = ("cycle",), np.array([_stability(one) for one in multipliers], "U8")
    out["n_starts"] = ("cycle",), counts
    out["distance"] = ("cycle",), np.array([distances(fit, one).max() for one in orbits])
    out["supported"] = ("cycle",), out["distance"].values <= MAX_DISTANCE


def _found(fit: xr.Dataset, drive: Array, n_starts: int, seed: int) -> list[Cycle]:
    """Every cycle once."""
    starts, found = _starts(fit, n_starts, seed), list[Cycle]()
    size = float(np.ptp(starts, axis=0).max())
    for forward in (1.0, -1.0):
        orbits = _orbits(fit, drive, starts, forward)
        for orbit in np.swapaxes(orbits, 0, 1):
            guess = _return(orbit, size) if np.isfinite(orbit).all() else None
            if guess is None or _counted(found, guess[0][None]):
                continue
            cycle = _shot(fit, drive, *guess)
            if cycle is not None and not _counted(found, cycle[1]):
                found.append(cycle)
    return found


def _counted(found: list[Cycle], points: Array) -> bool:
    """Whether points lie on a known cycle, which then counts one start more."""
    for k, (period, orbit, multipliers, number) in enumerate(found):
        gap = np.linalg.norm(np.diff(orbit, axis=0), axis=1).max()
        if cdist(points, orbit).min(axis=1).max() < gap:
            found[k] = period, orbit, multipliers, number + 1
            return True
    return False


def _starts(fit: xr.Dataset, n_starts: int, seed: int) -> Array:
    """Latents that were visited, and points of a box twice as wide."""
    generator = np.random.default_rng([seed, 5])
    seen = visited(fit) + np.zeros(fit.sizes["rank"])
    on = seen[generator.integers(len(seen), size=n_starts // 2)]
    most = np.abs(seen).max(axis=0)
    box = 2 * np.where(most > 0, most, 1.0)
    on = on + 1e-3 * box * generator.standard_normal(on.shape)  # all runs begin at the origin, which may not move
    return np.concatenate([on, generator.uniform(-box, box, (n_starts - len(on), len(box)))])


def _orbits(fit: xr.Dataset, drive: Array, kappa: Array, sign: float) -> Array:
    """Runs from all starts after the transient, (time, start, rank); NaN once a backward run has left the box."""
    step, most = sign * _STEP * fit.attrs["tau_s"], 20 * np.abs(kappa).max()
    kept = []
    for k in range(round((_TRANSIENT + _LONGEST) / _STEP)):
        if k * _STEP >= _TRANSIENT:
            kept.append(kappa)
        a = flow(fit, kappa, drive)
        b = flow(fit, kappa + step / 2 * a, drive)
        c = flow(fit, kappa + step / 2 * b, drive)
        d = flow(fit, kappa + step * c, drive)
        kappa = kappa + step / 6 * (a + 2 * b + 2 * c + d)
        kappa = np.where(np.abs(kappa).max(axis=1, keepdims=True) > most, np.nan, kappa)
        if not np.isfinite(kappa).any():
            break
    return np.array(kept) if kept and np.isfinite(kept[-1]).any() else np.full((1, *kappa.shape), np.nan)


def _return(orbit: Array, size: float) -> tuple[Array, int] | None:
    """Last point of an orbit, and the number of steps back to its last visit there; None for an orbit at rest."""
    extent = float(np.ptp(orbit, axis=0).max())
    if extent < _SMALL * size:
        return None
    apart = np.linalg.norm(orbit - orbit[-1], axis=1)[::-1]
    away = np.flatnonzero(apart > 2 * _CLOSES * extent)
    if not len(away):
        return None
    near = np.flatnonzero(apart[away[0] :] < _CLOSES * extent)
    if not len(near):
        return None
    first = away[0] + near[0]
    return orbit[-1], int(first + np.argmin(apart[first : first + max(away[0], 1)]))


def _shot(fit: xr.Dataset, drive: Array, start: Array, steps: int) -> Cycle | None:
    """The cycle through a point near ``start``, by Newton steps on the point and the period; None if they fail."""
    kappa, period = start.copy(), steps * _STEP * float(fit.attrs["tau_s"])
    equations, rank, extent = _variational(fit, drive), len(start), max(float(np.abs(start).max()), 1e-12)
    for _ in range(_NEWTON_STEPS):
        run = _integrated(equations, kappa, period)
        if run is None:
            return None
        end, spread = run[:rank], run[rank:].reshape(rank, rank)
        gap = end - kappa
        if np.linalg.norm(gap) < _CLOSED * extent:
            return _cycle(fit, drive, kappa, period, spread)
        speed = flow(fit, np.array([kappa, end]), drive)
        system = np.block([[spread - np.eye(rank), speed[1][:, None]], [speed[0][None], np.zeros((1, 1))]])
        move = np.linalg.lstsq(system, np.append(-gap, 0.0), rcond=None)[0]
        move *= min(1.0, 0.2 * extent / max(float(np.linalg.norm(move[:rank])), 1e-300))
        kappa, period = kappa + move[:rank], period + move[rank]
        if not 0 < period < 2 * _LONGEST * fit.attrs["tau_s"]:
            return None
    return None


def _variational(fit: xr.Dataset, drive: Array) -> Callable[[float, Array], Array]:
    """The flow of a point and of the matrix that multiplies small deviations from it."""
    rank = fit.sizes["rank"]

    def equations(_: float, state: Array) -> Array:
        kappa, matrix = state[None, :rank], state[rank:].reshape(rank, rank)
        return np.concatenate([flow(fit, kappa, drive)[0], (jacobian(fit, kappa, drive)[0] @ matrix).ravel()])

    return equations


def _integrated(equations: Callable[[float, Array], Array], kappa: Array, period: float) -> Array | None:
    state = np.concatenate([kappa, np.eye(len(kappa)).ravel()])
    run = solve_ivp(equations, (0, period), state, method="DOP853", rtol=1e-9, atol=1e-11)
    return run.y[:, -1] if run.success and np.isfinite(run.y[:, -1]).all() else None


def _cycle(fit: xr.Dataset, drive: Array, kappa: Array, period: float, spread: Array) -> Cycle | None:
    """The cycle with its orbit and multipliers; None where it is a point."""
    run = solve_ivp(
        lambda _, state: flow(fit, state[None], drive)[0],
        (0, period),
        kappa,
        method="DOP853",
        rtol=1e-9,
        atol=1e-11,
        t_eval=np.arange(_PHASES) / _PHASES * period,
    )
    if np.ptp(run.y, axis=1).max() < 1e-6 * max(float(np.abs(kappa).max()), 1e-12):
        return None
    values = np.linalg.eigvals(spread).astype(complex)
    neutral = int(np.argmin(np.abs(values - 1)))
    others = np.delete(values, neutral)
    return period, run.y.T, np.append(values[neutral], others[np.argsort(-np.abs(others), kind="stable")]), 1


def _stability(multipliers: Array) -> str:
    size = np.abs(multipliers[1:])
    if (np.abs(size - 1) < _NEUTRAL).any():
        return "marginal"
    return "stable" if (size < 1).all() else "unstable" if (size > 1).all() else "saddle"
