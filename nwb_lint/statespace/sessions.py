"""Several sessions of one animal in common coordinates, and how far their dynamics are from those of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from nwb_lint.contract import as_text_column, check_fit, check_result, find_column, recorded_of
from nwb_lint.drift import has_drift
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.options import AlignOptions, validated
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.learning import Draws, expectation, maximization, reference_level
from nwb_lint.statespace.system import Batches
from nwb_lint.statespace.tuning import E_STEPS, REGRESSION_STEPS


class Session(NamedTuple):
    """m of the units of a session, its latents by condition, and its recurrence n' diag(phi') m / N."""

    m: dict[str, Array]
    profiles: dict[str, Array]
    recurrence: Array


@validated(AlignOptions)
def align_fits(
    fits: Mapping[str, xr.Dataset],
    *,
    by: str = "units",
    column: str | None = None,
    reference: str | None = None,
    trials: Mapping[str, xr.Dataset] | None = None,
    draws: int = 100,
    level: float = 0.9,
    seed: int = 0,
) -> xr.Dataset:
    """Fits of several sessions in the coordinates of one of them, and how far their dynamics are from its dynamics.

    kappa of session s becomes T_s kappa. Of shared units, T_s is the least-squares solution of m_s = m_ref T_s over the
    units with the same label. Of dynamics, it is that of kappa_ref = T_s kappa_s over the same conditions and times.
    The recurrence S = n' diag(mean of phi') m / N is the matrix that kappa drives itself with, linearized and averaged
    over the states of the session. The distance is the Frobenius norm of the change T_s S_s T_s⁻¹ - S_ref.

    With trials, each draw resamples the trials of every session and estimates m and n again, by one step of
    expectation-maximization with the posterior of the fit. The squared distance is corrected for the variance of the
    draws, and a Wald test compares the change with none.

    Parameters
    ----------
    fits : mapping of str to xarray.Dataset
        Fits of the same rank, from `fit_trials` or `fit_lint`, by the name of the session.
    by : {"units", "dynamics"}, default="units"
        What sessions are aligned by: m of units that they share, or latents of the same conditions.
    column : str or None, default=None
        With ``by="dynamics"``: trial column whose values are the conditions. Fits of single trials need it. None: the
        labels of the conditions.
    reference : str or None, default=None
        Session whose coordinates all get. None: the first.
    trials : mapping of str to xarray.Dataset or None, default=None
        The trials that each fit was made with, for intervals and tests; only of fits from `fit_trials`. None: neither.
    draws : int, default=100
        Resamples of the trials.
    level : float, default=0.9
        Probability of the intervals.
    seed : int, default=0
        Seed of the resamples.

    Returns
    -------
    xarray.Dataset
        A result of kind "session_alignment", by ``session_name``: ``map (session_name, rank, rank_from)``, T_s;
        ``map_r2``, the share of m of the shared units, or of the reference's latents, that it explains; ``n_shared``,
        units or conditions; ``recurrence (session_name, rank, rank_from)`` in the coordinates of the reference;
        ``distance``. With trials also ``distance_low`` and ``distance_high``, and ``p_no_change``; NaN for the
        reference. All are dimensionless. The latents of a session in common coordinates are ``fit["latent"].values @
        map.T``.

    Raises
    ------
    ContractError
        If there are fewer than two fits, their ranks differ, m of one drifts, or they share fewer units or conditions
        than the rank.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = {"day 1": mock_trials(), "day 2": mock_trials(seed=0)}
    >>> fits = {day: fit_trials(one, rank=1, tau_s=0.1, hidden=0, max_iter=3) for day, one in trials.items()}
    >>> align_fits(fits)["map"].dims
    ('session_name', 'rank', 'rank_from')
    """
    names = list(fits)
    first = names[0] if reference is None and names else reference
    _check(fits, by, column, first, trials)
    assert first is not None
    sessions = {name: _session(fit, column) for name, fit in fits.items()}
    maps = {name: _map_to(sessions[first], one, by, name) for name, one in sessions.items()}
    rank = len(sessions[first].recurrence)
    aligned = np.stack([_moved(sessions[name], maps[name][0]) for name in names])
    change = aligned - aligned[names.index(first)]
    out = xr.Dataset(coords={"session_name": names}, attrs={"kind": "session_alignment", "by": by, "reference": first})
    out["map"] = ("session_name", "rank", "rank_from"), np.stack([maps[name][0] for name in names])
    out["map_r2"] = ("session_name",), [maps[name][1] for name in names]
    out["n_shared"] = ("session_name",), [maps[name][2] for name in names]
    out["recurrence"] = ("session_name", "rank", "rank_from"), aligned
    out["distance"] = ("session_name",), np.sqrt((change**2).sum(axis=(1, 2)))
    if trials is not None:
        drawn = {name: _drawn(fits[name], trials[name], column, draws, [seed, k]) for k, name in enumerate(names)}
        found = np.full((len(names), 3), np.nan)
        for k, name in enumerate(names):
            if name != first:
                pairs = zip(drawn[first], drawn[name], strict=True)
                each = [_moved(one, _map_to(ref, one, by, name)[0]) - ref.recurrence for ref, one in pairs]
                found[k] = _interval(change[k].ravel(), np.reshape(each, (draws, rank * rank)), level)
        for column_name, values in zip(("distance_low", "distance_high", "p_no_change"), found.T, strict=True):
            out[column_name] = ("session_name",), values
        out.attrs["level"] = float(level)
    check_result(out, "session_alignment")
    return out


def _check(
    fits: Mapping[str, xr.Dataset], by: str, column: str | None, first: str | None, trials: Mapping[str, Any] | None
) -> None:
    if len(fits) < 2:
        raise ContractError(f"There is {len(fits)} fit. An alignment needs two. Give more by name.")
    if first not in fits:
        raise ContractError(f"reference is {first!r}. The sessions are {', '.join(fits)}. Choose one of them.")
    for name, fit in fits.items():
        check_fit(fit)
        if "m" not in fit or fit.sizes["rank"] != next(iter(fits.values())).sizes.get("rank"):
            raise ContractError(f"The fit of {name} has no rank, or another one. Fit all sessions with the same rank.")
        if has_drift(fit):
            raise ContractError(f"m of {name} drifts over trials. Give a network of one trial, from network_of_trial.")
        if by == "dynamics" and column is None and "noise_cov" in fit:
            raise ContractError(f"The conditions of {name} are single trials. Name the column of their conditions.")
        if column is not None and find_column(fit, column, "condition") is None:
            raise ContractError(f"The fit of {name} has no column {column!r} of its conditions. Choose another one.")
        if trials is not None and ("noise_cov" not in fit or name not in trials):
            raise ContractError(f"{name} is no fit of single trials, or has no trials. Give those of each, or none.")


def _session(fit: xr.Dataset, column: str | None, latent: Array | None = None, which: Array | None = None) -> Session:
    """A session from its fit; ``latent`` (trial, time, rank) of the trials ``which`` in place of that of the fit."""
    kappa = fit["latent"].values.astype(float) if latent is None else latent
    some = np.arange(fit.sizes["condition"]) if which is None else which
    m, n = fit["m"].values, fit["n"].values
    phi = nonlinearity_of(fit.attrs["nonlinearity"])
    x = kappa @ m.T + fit["filtered_input"].values[some] @ fit["input_weights"].values.T + fit["bias"].values
    slope = phi.slope(x, phi.phi(x)).mean(axis=(0, 1))
    scale = fit["scale"].values if "scale" in fit else np.ones(len(m))
    labels = fit["neuron"].values.astype(str)
    own = {labels[i]: scale[i] * m[i] for i in np.flatnonzero(recorded_of(fit))}
    found = fit["condition"] if column is None else find_column(fit, column, "condition")
    levels = as_text_column(found.values).astype(str)[some] if found is not None else np.array([], str)
    profiles = {level: kappa[levels == level].mean(axis=0) for level in np.unique(levels)}
    return Session(own, profiles, n.T @ (slope[:, None] * m) / len(m))


def _map_to(reference: Session, one: Session, by: str, name: str) -> tuple[Array, float, int]:
    """T from the latents of a session to those of the reference, the share it explains, and what is shared."""
    a, b = (reference.m, one.m) if by == "units" else (reference.profiles, one.profiles)
    shared = [key for key in a if key in b and np.shape(a[key]) == np.shape(b[key])]
    rank = len(one.recurrence)
    if len(shared) < rank + (by == "units"):
        raise ContractError(
            f"{name} and the reference share {len(shared)} {'units' if by == 'units' else 'conditions'} of the same "
            f"label. An alignment at rank {rank} needs more. Give sessions that share more, or align them otherwise."
        )
    left, right = (np.concatenate([np.atleast_2d(one[key]) for key in shared]) for one in (a, b))
    if by == "units":  # m_s = m_ref T
        to = np.linalg.lstsq(left, right, rcond=None)[0]
        target, found = right, left @ to
    else:  # kappa_ref = T kappa_s
        to = np.linalg.lstsq(right, left, rcond=None)[0].T
        target, found = left, right @ to.T
    return to, 1 - float(((target - found) ** 2).sum() / (target**2).sum()), len(shared)


def _moved(one: Session, to: Array) -> Array:
    """The recurrence in the coordinates that the map leads to."""
    return to @ one.recurrence @ np.linalg.inv(to)


def _drawn(fit: xr.Dataset, trials: xr.Dataset, column: str | None, draws: int, seed: list[int]) -> list[Session]:
    """The session on resampled trials: m and n again, from samples of the posterior of the fit."""
    rng, arrays = np.random.default_rng(seed), trials_for(fit, trials)
    system, data, number = system_of(fit)._replace(uncertainty=None), Batches(arrays), len(arrays.y)
    labels = trials["trial"].values if "trial" in trials.coords else np.arange(number)
    place = fit.indexes["condition"].get_indexer(labels.astype(str))
    if (place < 0).any():
        raise ContractError("Some of the trials are not among those of the fit. Give the trials that it was made with.")
    mode = fit["latent"].values[place].astype(float)
    covariance = fit["latent_cov"].values[place].astype(float)
    noise = rng.standard_normal((1, *mode.shape))
    sampled = expectation(system, data, mode, covariance, noise, E_STEPS)
    assert sampled.drawn is not None
    reference = reference_level(arrays, system.observation == "poisson")
    ridges, diagonal = np.array([float(fit.attrs["ridge"])]), fit.attrs["noise"] == "diagonal"
    found = []
    for _ in range(draws):
        some = np.sort(rng.integers(0, number, number))
        drawn = Draws(sampled.drawn[:, some], sampled.mean[some], None)
        new, _ = maximization(system, data.part(some), drawn, reference, diagonal, ridges, REGRESSION_STEPS)
        changed = fit.assign(m=(fit["m"].dims, new.m), n=(fit["n"].dims, new.n), bias=(fit["bias"].dims, new.bias))
        changed = changed.assign(input_weights=(fit["input_weights"].dims, new.weights))
        found.append(_session(changed, column, sampled.mean[some], place[some]))
    return found


def _interval(change: Array, drawn: Array, level: float) -> tuple[float, float, float]:
    """Bounds of the length of a change, and the p-value of no change, from its draws (draw, entry)."""
    covariance = np.cov(drawn, rowvar=False).reshape(len(change), len(change))
    size = float(np.linalg.norm(change))
    corrected = np.sqrt(max(size**2 - np.trace(covariance), 0.0))
    direction = change / max(size, np.finfo(float).tiny)
    width = float(stats.norm.ppf(0.5 + level / 2)) * np.sqrt(direction @ covariance @ direction)
    statistic = float(change @ np.linalg.pinv(covariance, hermitian=True) @ change)
    freedom, number = len(change), len(drawn)  # Hotelling: the covariance is itself estimated
    ratio = statistic * max(number - freedom, 1) / (freedom * (number - 1))
    p = float(stats.f.sf(ratio, freedom, max(number - freedom, 1)))
    return max(corrected - width, 0.0), corrected + width, p
