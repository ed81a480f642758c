"""Cholesky factors of block tridiagonal matrices: banded (LAPACK) for arrays, of blocks (`_torch`) for tensors."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.linalg.lapack import dpbtrf, dpbtrs, dtbtrs

from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.parallel.arrays import functions_of
from nwb_lint.statespace.tuning import ROUNDING_SHARES


class Factor(Protocol):
    """Cholesky factor L of block tridiagonal matrices, one for each trial, with blocks of rank × rank for each time."""

    def solve(self, right: Any) -> Any:
        """(L L')⁻¹ times vectors (trial, time, rank)."""

    def solve_transposed(self, right: Any) -> Any:
        """L'⁻¹ times vectors (draw, trial, time, rank)."""

    def log_det(self) -> Any:
        """Log determinant of L L', (trial)."""

    def blocks(self) -> tuple[Any, Any]:
        """L[t, t] and L[t + 1, t], each (trial, time, rank, rank); the last of the second is 0."""


class BandedFactor(NamedTuple):
    """All trials in one band, (2 rank, trial · time · rank), as LAPACK stores its lower form; see `Factor`."""

    band: Array
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, diagonal: Array, across: Array) -> BandedFactor:
        """Factor the matrices with the blocks H[t, t] (trial, time, …) and H[t + 1, t] (trial, time - 1, …)."""
        n_trials, n_times, rank = diagonal.shape[:3]
        band = np.zeros((n_trials, n_times, rank, 2 * rank))
        for k in range(rank):
            band[:, :, k, : rank - k] = diagonal[:, :, k:, k]
            band[:, :-1, k, rank - k : 2 * rank - k] = across[..., k]
        factor, failed = dpbtrf(band.reshape(-1, 2 * rank).T, lower=1, overwrite_ab=1)
        if failed:
            raise np.linalg.LinAlgError("The precision of the latents is not positive definite.")
        return cls(factor, (n_trials, n_times, rank))

    def solve(self, right: Array) -> Array:
        """(L L')⁻¹ times vectors (trial, time, rank)."""
        found, _ = dpbtrs(self.band, right.reshape(-1, 1), lower=1)
        return found.reshape(right.shape)

    def solve_transposed(self, right: Array) -> Array:
        """L'⁻¹ times vectors (draw, trial, time, rank)."""
        flat = right.reshape(len(right), -1).T
        found, _ = dtbtrs(self.band, np.asfortranarray(flat), uplo="L", trans="T")
        return found.T.reshape(right.shape)

    def log_det(self) -> Array:
        """Log determinant of L L', (trial)."""
        return 2 * np.log(self.band[0].reshape(self.shape[0], -1)).sum(axis=1)

    def blocks(self) -> tuple[Array, Array]:
        """L[t, t] and L[t + 1, t], each (trial, time, rank, rank); the last of the second is 0."""
        n_trials, n_times, rank = self.shape
        band = self.band.T.reshape(n_trials, n_times, rank, 2 * rank)
        corner, below = np.zeros((2, n_trials, n_times, rank, rank))
        for k in range(rank):
            corner[:, :, k:, k] = band[:, :, k, : rank - k]
            below[..., k] = band[:, :, k, rank - k : 2 * rank - k]
        return corner, below


def factor_of(diagonal: Any, across: Any) -> Factor:
    """The factor of matrices with the blocks H[t, t] (trial, time, rank, rank) and H[t + 1, t].

    Latents that nothing observes for many time steps may spread by so many powers of ten that rounding leaves a matrix
    with an eigenvalue below 0. Then the diagonal is made larger by a small share (`ROUNDING_SHARES`).

    Raises
    ------
    ContractError
        If that is not enough.
    """
    if isinstance(diagonal, np.ndarray):
        of: Any = BandedFactor.of
    else:
        from nwb_lint.statespace._torch import BlockFactor

        of = BlockFactor.of
    unit = functions_of(diagonal).eye(diagonal.shape[-1])
    for share in (0.0, *ROUNDING_SHARES):
        try:
            return of(diagonal * (1 + share * unit) if share else diagonal, across)
        except np.linalg.LinAlgError:
            continue
    raise ContractError(
        "The latents of some trials cannot be inferred: their precision is not positive definite. The network diverges "
        "there, or values are not finite. Use a lower rank, fewer hidden units or shorter trials, and look for trials "
        "without observed samples."
    )
