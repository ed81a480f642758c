"""The factor of block tridiagonal matrices, and the likelihood of runs without noise, in torch.

The only module of this folder that imports torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lint.model._torch import Memory, Problem
from nwb_lint.model.network import Array
from nwb_lint.statespace.system import System, Trials
from nwb_lint.statespace.tuning import MAX_LOG_RATE


class BlockFactor(NamedTuple):
    """Cholesky factor of block tridiagonal matrices, all trials at once, one time after the other.

    ``inverse`` (time, trial, rank, rank) holds L[t, t]⁻¹, ``below`` L[t + 1, t]; see
    `nwb_lint.statespace.factor.Factor`.
    """

    corner: Tensor
    inverse: Tensor
    below: Tensor

    @classmethod
    def of(cls, diagonal: Tensor, across: Tensor) -> BlockFactor:
        """Factor the matrices with the blocks H[t, t] (trial, time, …) and H[t + 1, t] (trial, time - 1, …)."""
        diagonal, across = diagonal.transpose(0, 1).contiguous(), across.transpose(0, 1).contiguous()
        corner, inverse, below = torch.empty_like(diagonal), torch.empty_like(diagonal), torch.zeros_like(diagonal)
        unit = torch.eye(diagonal.shape[-1], dtype=diagonal.dtype, device=diagonal.device).expand_as(diagonal[0])
        for t in range(len(diagonal)):
            rest = diagonal[t] if t == 0 else torch.baddbmm(diagonal[t], below[t - 1], below[t - 1].mT, alpha=-1)
            try:
                corner[t] = torch.linalg.cholesky(rest)
            except torch.linalg.LinAlgError as error:
                raise np.linalg.LinAlgError("The precision of the latents is not positive definite.") from error
            inverse[t] = torch.linalg.solve_triangular(corner[t], unit, upper=False)
            if t < len(across):
                below[t] = across[t] @ inverse[t].mT
        return cls(corner, inverse, below)

    def solve(self, right: Tensor) -> Tensor:
        """(L L')⁻¹ times vectors (trial, time, rank)."""
        vectors = right.transpose(0, 1)[..., None].contiguous()
        for t in range(len(vectors)):
            here = vectors[t] if t == 0 else torch.baddbmm(vectors[t], self.below[t - 1], vectors[t - 1], alpha=-1)
            vectors[t] = self.inverse[t] @ here
        return self._backward(vectors)[..., 0].transpose(0, 1)

    def solve_transposed(self, right: Tensor) -> Tensor:
        """L'⁻¹ times vectors (draw, trial, time, rank)."""
        vectors = right.permute(2, 1, 3, 0).contiguous()
        return self._backward(vectors).permute(3, 1, 0, 2)

    def _backward(self, vectors: Tensor) -> Tensor:
        """L'⁻¹ times vectors (time, trial, rank, any), in place."""
        last = len(vectors) - 1
        for t in range(last, -1, -1):
            here = vectors[t] if t == last else torch.baddbmm(vectors[t], self.below[t].mT, vectors[t + 1], alpha=-1)
            vectors[t] = self.inverse[t].mT @ here
        return vectors

    def log_det(self) -> Tensor:
        """Log determinant of L L', (trial)."""
        return 2 * torch.log(self.corner.diagonal(dim1=2, dim2=3)).sum(dim=(0, 2))

    def blocks(self) -> tuple[Tensor, Tensor]:
        """L[t, t] and L[t + 1, t], each (trial, time, rank, rank); the last of the second is 0."""
        return self.corner.transpose(0, 1), self.below.transpose(0, 1)


class RunsWithoutNoise(Problem):
    """Minus the log likelihood of single trials in runs without noise, in nats per observed sample.

    The drives are the filtered inputs and a constant, so that W = [I b]. Constants of the likelihood are left out.

    Parameters
    ----------
    system : System
        The network whose level, variance, observation and nonlinearity are kept.
    trials : Trials
    first : array of shape (trial, rank)
        Latents at the first bin.
    device : str, default="cpu"
    """

    def __init__(self, system: System, trials: Trials, first: Array, device: str = "cpu") -> None:
        q = np.concatenate([trials.v, np.ones_like(trials.v[..., :1])], axis=2)
        phi = system.nonlinearity
        super().__init__(q, trials.y, trials.seen, alpha=system.alpha, nonlinearity=phi, device=device)
        self.start, self.log_exposure = self.tensor(first), self.tensor(trials.log_exposure.T)
        self.level, self.variance = self.tensor(system.level), self.tensor(system.variance)
        self.poisson = system.observation == "poisson"
        seen = self.y.numel() if self.weight is None else float(self.weight.sum(dtype=torch.float64))
        self.norm = max(float(seen), 1.0)

    def take(self, conditions: Array) -> RunsWithoutNoise:
        """The problem of some of its trials."""
        part = super().take(conditions)
        assert isinstance(part, RunsWithoutNoise)
        part.log_exposure = self.log_exposure[:, torch.as_tensor(conditions, device=self.device)]
        return part

    def _error(self, memory: Memory, times: slice, part: slice, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Half the derivative of the loss by x of the recorded neurons at some times, and the loss there."""
        mean, y = memory.x[times, :, : self.y.shape[2]] + self.level, self.y[times, part]
        if self.poisson:
            mean = (mean + self.log_exposure[times, part, None]).clamp_(max=MAX_LOG_RATE)
            rate = mean.exp()
            error, value = (rate - y) / 2, rate - y * mean
        else:
            off = mean - y
            error = off / (2 * self.variance)
            value = off * error
        weight = 1 if self.weight is None else self.weight[times, part]
        return torch.mul(error, weight, out=out), (value * weight).sum(dtype=torch.float64)
