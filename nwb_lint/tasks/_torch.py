"""Training of task networks by gradient descent through time (Adam).

    x[t+1] = (1 - alpha) x[t] + alpha (J phi(x[t]) + I u[t]) + noise xi[t],    z[t] = w' phi(x[t]) / N,    x[0] = 0

J is (N, N), or J = m n' / N. The loss is the mean squared error of z over the response windows. This is the only module
of this folder that imports torch. It takes and returns arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nwb_lint.errors import ContractError

Array = np.ndarray
Trials = tuple[Array, Array, Array, Array]  # input (B, T, K), target (B, T), mask (B, T), answer (B)
Tensors = dict[str, torch.Tensor]

_LARGEST_GRADIENT = 1.0  # norm
_TEST_EVERY = 10  # updates
_TEST_TRIALS = 1000
_SMOOTHING = 0.2  # of loss and accuracy, per update
_NEAR = 0.02  # a test needs an accuracy in training this near to the goal


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
    """Weights after training, and the share of right answers on the test trials of the last test.

    ``weights`` are J (N, N), or m and n (N, R), with input_weights (N, K) and readout (N). ``trained`` has the names of
    the weights that change, each with the factor on its learning rate ``rate``. A test runs every `_TEST_EVERY`
    updates, on new trials. Training ends at the first test with at least ``accuracy`` right answers, if the loss,
    smoothed over updates, is at most ``error``. It also ends after ``updates``.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights.items()}
    chosen = [tensors[name].requires_grad_() for name in trained]
    optimizer = torch.optim.Adam([{"params": [tensors[name]], "lr": rate * times} for name, times in trained.items()])
    share, smooth_share, smooth_loss = 0.0, 0.5, 1.0
    for update in range(1, updates + 1):
        u, target, mask, answer = (torch.from_numpy(part) for part in draw(batch))
        z = _outputs(tensors, u, alpha, noise, generator)
        loss = ((z - target) ** 2 * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, _LARGEST_GRADIENT)
        optimizer.step()
        smooth_share += _SMOOTHING * (_share_right(z.detach(), mask, answer) - smooth_share)
        smooth_loss += _SMOOTHING * (float(loss.detach()) - smooth_loss)
        report(update, float(loss.detach()), smooth_share)
        ready = smooth_share >= accuracy - _NEAR and smooth_loss <= error
        if update % _TEST_EVERY == 0 and (ready or update == updates):
            share = accuracy_on_new_trials(tensors, draw, alpha, noise, generator)
            if share >= accuracy and smooth_loss <= error:
                break
    return {name: value.detach().numpy().astype(float) for name, value in tensors.items()}, share


@torch.no_grad()
def accuracy_on_new_trials(
    tensors: Tensors, draw: Callable[[int], Trials], alpha: float, noise: float, generator: torch.Generator
) -> float:
    """Share of right answers on new trials, with the noise of training."""
    u, _, mask, answer = (torch.from_numpy(part) for part in draw(_TEST_TRIALS))
    return _share_right(_outputs(tensors, u, alpha, noise, generator), mask, answer)


def _share_right(z: torch.Tensor, mask: torch.Tensor, answer: torch.Tensor) -> float:
    """Share of trials whose summed output in the response window has the sign of the answer."""
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
    for driven in drive.unbind()[:-1]:  # indexing would need, at every step, a gradient as large as all of drive
        into = rates[-1]
        for matrix in recurrent[:-1]:
            into = into @ matrix
        x = torch.addmm((1 - alpha) * x + driven, into, recurrent[-1])
        rates.append(torch.tanh(x))
    return (torch.stack(rates) @ tensors["readout"] / size).T


def load_weights(path: Path) -> dict[str, Any]:
    """What torch stored in a file, tensors and plain values; ContractError for a file that may run programs."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on the protocol of old files
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of every kind, for files that torch did not write
        raise ContractError(
            f"{path} is no file of weights that can be read safely ({type(error).__name__}). Save the state_dict() of "
            "the module."
        ) from error
    if not isinstance(found, dict):
        raise ContractError(f"{path} holds a {type(found).__name__}. A state_dict is needed. Save that of the module.")
    return found
