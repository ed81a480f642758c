"""Training of task networks by Adam through time: the only room of the tasks that imports torch. Arrays in, arrays out.

    x[t+1] = (1 - alpha) x[t] + alpha (J phi(x[t]) + I u[t]) + noise xi[t],    z[t] = w' phi(x[t]) / N,    x[0] = 0

with J (N, N), or J = m n' / N; the loss is the mean squared error of z over the response windows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

Array = np.ndarray
Trials = tuple[Array, Array, Array, Array]  # input (B, T, K), target (B, T), mask (B, T), answer (B)
Tensors = dict[str, torch.Tensor]

_CLIP = 1.0  # largest norm of a gradient
_ROUTINE = 10  # updates between two looks at the accuracy
_TEST = 1000  # fresh trials of a look


def train(
    weights: dict[str, Array],
    trained: dict[str, float],
    draw: Callable[[int], Trials],
    *,
    alpha: float,
    noise: float,
    rate: float,
    batch: int,
    updates: int,
    accuracy: float,
    error: float,
    seed: int,
    report: Callable[[int, float, float], None],
) -> tuple[dict[str, Array], float]:
    """Weights after training, and the share of right answers on fresh trials of the last look.

    weights: J, or m and n; input_weights (N, K); readout (N). ``trained`` names those that change, and how many times
    ``rate`` their steps are. It ends at the first look with at least ``accuracy`` while the loss, smoothed over
    updates, is at most ``error``, or after ``updates``. Every trial, in training and in looks, is drawn anew.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()}
    chosen = [tensors[name].requires_grad_() for name in trained]
    optimiser = torch.optim.Adam([{"params": [tensors[name]], "lr": rate * times} for name, times in trained.items()])
    share, smooth, left = 0.0, 0.5, 1.0
    for update in range(1, updates + 1):
        u, target, mask, answer = (torch.from_numpy(part) for part in draw(batch))
        z = _outputs(tensors, u, alpha, noise, generator)
        loss = ((z - target) ** 2 * mask).sum() / mask.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, _CLIP)
        optimiser.step()
        smooth += 0.2 * (_right(z.detach(), mask, answer) - smooth)
        left += 0.2 * (float(loss.detach()) - left)
        report(update, float(loss.detach()), smooth)
        ready = smooth >= accuracy - 0.02 and left <= error
        if update % _ROUTINE == 0 and (ready or update == updates):
            share = look(tensors, draw, alpha, noise, generator)
            if share >= accuracy and left <= error:
                break
    return {name: value.detach().numpy().astype(float) for name, value in tensors.items()}, share


@torch.no_grad()
def look(
    tensors: Tensors, draw: Callable[[int], Trials], alpha: float, noise: float, generator: torch.Generator
) -> float:
    """Share of right answers on fresh trials, with the noise of training."""
    u, _, mask, answer = (torch.from_numpy(part) for part in draw(_TEST))
    return _right(_outputs(tensors, u, alpha, noise, generator), mask, answer)


def _right(z: torch.Tensor, mask: torch.Tensor, answer: torch.Tensor) -> float:
    return float((torch.sign((z * mask).sum(dim=1)) == answer).float().mean())


def _outputs(tensors: Tensors, u: torch.Tensor, alpha: float, noise: float, generator: torch.Generator) -> torch.Tensor:
    """Output z (trial, time) of a free run."""
    size = len(tensors["readout"])
    drive = alpha * u.transpose(0, 1) @ tensors["input_weights"].T
    if noise:
        drive = drive + noise * torch.randn(drive.shape, generator=generator)
    full = "J" in tensors
    recurrent = [alpha * tensors["J"].T] if full else [alpha / size * tensors["n"], tensors["m"].T]
    x = torch.zeros(u.shape[0], size)
    rates = [torch.tanh(x)]
    for driven in drive.unbind()[:-1]:  # the gradient of an index would be as large as all of drive, at every step
        into = rates[-1]
        for matrix in recurrent[:-1]:
            into = into @ matrix
        x = torch.addmm((1 - alpha) * x + driven, into, recurrent[-1])
        rates.append(torch.tanh(x))
    return (torch.stack(rates) @ tensors["readout"] / size).T
