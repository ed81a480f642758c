"""All fixed points of a network with a piecewise-linear phi, from the regions of the latents in which it is linear."""

from __future__ import annotations

from itertools import combinations, islice, product
from math import comb

import numpy as np
import xarray as xr

from nwb_lint.model.network import Array

_MOST_VALUES = 400_000_000  # regions × neurons that are tried; about ten seconds
_AT_ONCE = 2_000_000  # values of one block
_APART = 1e-7  # relative shift of the drive that separates boundaries that meet in one point
_SINGULAR = 1e-12


def can_visit_all(fit: xr.Dataset) -> bool:
    """Whether phi is piecewise linear, and the regions are few enough to try all of them."""
    n_neurons, rank = fit["m"].shape
    return fit.attrs.get("nonlinearity") == "relu" and comb(n_neurons, rank) * 2**rank * n_neurons <= _MOST_VALUES


def points_of_regions(fit: xr.Dataset, drive: Array) -> Array:
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
