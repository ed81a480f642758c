"""Several sessions of one animal in common coordinates, and how far their dynamics are from those of a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract import as_text_column, check_fit, check_result, find_column, recorded_of
from nwb_lint.drift import has_drift
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.options import AlignOptions, validated


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
) -> xr.Dataset:
    """Fits of several sessions in the coordinates of one of them, and how far their dynamics are from its dynamics.

    kappa of session s becomes T_s kappa. Of shared units, T_s is the least-squares solution of m_s = m_ref T_s over the
    units with the same label. Of dynamics, it is that of kappa_ref = T_s kappa_s over the same conditions and times.
    The recurrence S = n' diag(mean of phi') m / N is the matrix that kappa drives itself with, linearized and averaged
    over the states of the session. The distance is the Frobenius norm of the change T_s S_s T_s⁻¹ - S_ref.

    The distance contains the errors of the fits, so that it is above 0 also where nothing changed. Compare it with the
    distance between fits of two halves of the trials of one session.

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

    Returns
    -------
    xarray.Dataset
        A result of kind "session_alignment", by ``session_name``: ``map (session_name, rank, rank_from)``, T_s;
        ``map_r2``, the share of m of the shared units, or of the reference's latents, that it explains; ``n_shared``,
        units or conditions; ``recurrence (session_name, rank, rank_from)`` in the coordinates of the reference;
        ``distance``. All are dimensionless. The latents of a session in common coordinates are ``fit["latent"].values
        @ map.T``.

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
    _check(fits, by, column, first)
    assert first is not None
    sessions = {name: _session(fit, column) for name, fit in fits.items()}
    maps = {name: _map_to(sessions[first], one, by, name) for name, one in sessions.items()}
    aligned = np.stack([_moved(sessions[name], maps[name][0]) for name in names])
    change = aligned - aligned[names.index(first)]
    out = xr.Dataset(coords={"session_name": names}, attrs={"kind": "session_alignment", "by": by, "reference": first})
    out["map"] = ("session_name", "rank", "rank_from"), np.stack([maps[name][0] for name in names])
    out["map_r2"] = ("session_name",), [maps[name][1] for name in names]
    out["n_shared"] = ("session_name",), [maps[name][2] for name in names]
    out["recurrence"] = ("session_name", "rank", "rank_from"), aligned
    out["distance"] = ("session_name",), np.sqrt((change**2).sum(axis=(1, 2)))
    check_result(out, "session_alignment")
    return out


def _check(fits: Mapping[str, xr.Dataset], by: str, column: str | None, first: str | None) -> None:
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


def _session(fit: xr.Dataset, column: str | None) -> Session:
    """A session from its fit."""
    kappa, m, n = fit["latent"].values.astype(float), fit["m"].values, fit["n"].values
    phi = nonlinearity_of(fit.attrs["nonlinearity"])
    x = kappa @ m.T + fit["filtered_input"].values @ fit["input_weights"].values.T + fit["bias"].values
    slope = phi.slope(x, phi.phi(x)).mean(axis=(0, 1))
    scale = fit["scale"].values if "scale" in fit else np.ones(len(m))
    labels = fit["neuron"].values.astype(str)
    own = {labels[i]: scale[i] * m[i] for i in np.flatnonzero(recorded_of(fit))}
    found = fit["condition"] if column is None else find_column(fit, column, "condition")
    levels = as_text_column(found.values).astype(str) if found is not None else np.array([], str)
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
