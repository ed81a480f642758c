"""Training of task networks by gradient descent through time (Adam).

    x[t+1] = (1 - alpha) x[t] + alpha (J phi(x[t]) + I u[t]) + noise xi[t],    z[t] = w' phi(x[t]) / N,    x[0] = 0

J is (N, N), or J = m n' / N. The loss is the mean squared error of z over the response windows. Gated networks are
those of `nwb_lint.tasks.gated`. `states_of` runs any recurrent module. This is the only module of this folder that
imports torch. It takes and returns arrays.
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


class _Gated(torch.autograd.Function):
    """States of a gated network, (time, trial, unit), with the gradient written out.

    Recorded step by step, torch's own gradient takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, drive: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor, first: torch.Tensor,
                noise: torch.Tensor) -> torch.Tensor:  # fmt: skip
        """``drive`` (time, trial, 3 unit) are the inputs of the gates; ``noise`` is added after each step."""
        size = first.shape[1]
        before, gates, recurrent, states = [], [], [], []
        state, turned = first, weights.T.contiguous()
        for driven, added in zip(drive.unbind(), noise.unbind(), strict=True):
            into = torch.addmm(bias, state, turned)
            both = torch.sigmoid(driven[:, : 2 * size] + into[:, : 2 * size])
            candidate = torch.tanh(driven[:, 2 * size :] + both[:, :size] * into[:, 2 * size :])
            before.append(state)
            gates.append(torch.cat([both, candidate], dim=1))
            recurrent.append(into[:, 2 * size :])
            new = torch.lerp(candidate, state, both[:, size:])
            states.append(new)
            state = new + added
        ctx.save_for_backward(torch.stack(before), torch.stack(gates), torch.stack(recurrent), weights)
        return torch.stack(states)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of drive, weights, bias and first state."""
        before, gates, recurrent, weights = ctx.saved_tensors
        size = before.shape[2]
        reset, update, candidate = gates.split(size, dim=2)
        # what a change of the state does to the gates, apart from that change
        to_candidate = (1 - update) * (1 - candidate**2)
        to_update = (before - candidate) * update * (1 - update)
        to_reset = recurrent * reset * (1 - reset)
        on_drive, on_inner = torch.empty_like(gates), torch.empty_like(gates)
        change = torch.zeros_like(before[0])
        for t in range(len(before) - 1, -1, -1):
            change = change + given[0][t]
            inner = change * to_candidate[t]
            torch.mul(inner, to_reset[t], out=on_drive[t, :, :size])
            torch.mul(change, to_update[t], out=on_drive[t, :, size : 2 * size])
            on_drive[t, :, 2 * size :] = inner
            on_inner[t, :, : 2 * size] = on_drive[t, :, : 2 * size]
            torch.mul(inner, reset[t], out=on_inner[t, :, 2 * size :])
            change = torch.addmm(change * update[t], on_inner[t], weights)
        flat = on_inner.flatten(0, 1)
        return on_drive, flat.T @ before.flatten(0, 1), flat.sum(dim=0), change, None


def train_gated(
    weights: dict[str, Array],
    draw: Callable[[int], tuple[Array, Array, Array]],
    *,
    noise: float,
    first_noise: float,
    rates: Array,
    seed: int,
    report: Callable[[int, float], None],
) -> dict[str, Array]:
    """Weights of a gated network after an update with each of the learning ``rates``.

    ``weights`` are those of `nwb_lint.tasks.gated`, with the gates one after the other: input_weights (3 N, K),
    input_bias, recurrent_weights (3 N, N), recurrent_bias, readout (O, N), readout_bias and initial_state (N).
    ``draw(update)`` gives inputs (B, T, K), targets and weights of errors (B, T, O). The loss is the weighted mean of
    squared errors. ``noise`` and ``first_noise`` are standard deviations of each step and of the first state.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.tensor(value, dtype=torch.float32).requires_grad_() for name, value in weights.items()}
    optimizer = torch.optim.Adam(tensors.values())
    for update, rate in enumerate(rates):
        u, target, weight = (torch.from_numpy(part) for part in draw(update))
        shape = u.shape[1], u.shape[0], tensors["initial_state"].shape[0]
        z = gated_outputs(
            tensors, u, noise * torch.randn(shape, generator=generator),
            first_noise * torch.randn(shape[1:], generator=generator),
        )  # fmt: skip
        loss = ((z - target) ** 2 * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), _LARGEST_GRADIENT)
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.step()
        report(update, float(loss.detach()))
    return {name: value.detach().numpy().astype(float) for name, value in tensors.items()}


def gated_outputs(tensors: Tensors, u: torch.Tensor, noise: torch.Tensor, first_noise: torch.Tensor) -> torch.Tensor:
    """Outputs (trial, time, output) with noise (time, trial, unit) and noise of the first state (trial, unit)."""
    drive = u.transpose(0, 1) @ tensors["input_weights"].T + tensors["input_bias"]
    first = tensors["initial_state"] + first_noise
    states = _Gated.apply(drive, tensors["recurrent_weights"], tensors["recurrent_bias"], first, noise)
    return (states @ tensors["readout"].T + tensors["readout_bias"]).transpose(0, 1)


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


def states_of(module: Any, u: Array, readout: Callable[[Any], Any] | None) -> tuple[Array, Array]:
    """States of a recurrent module after every step, and before the first one.

    Parameters
    ----------
    module : torch.nn.Module or callable
        A layer or cell of torch, a module with one of these inside, or any other that returns its states.
    u : array of shape (trial, time, input)
    readout : callable or None
        Makes the states of what the module returns.

    Returns
    -------
    states : array of shape (trial, time, unit)
    first : array of shape (trial, unit)
        State before the first step. Of a module that does not show it, the state after a step without input.
    """
    owner = module if isinstance(module, torch.nn.Module) else getattr(module, "__self__", None)  # of a method
    parts = list(owner.modules()) if isinstance(owner, torch.nn.Module) else []
    weights, training = list(parts[0].parameters()) if parts else [], [part for part in parts if part.training]
    dtype, device = (weights[0].dtype, weights[0].device) if weights else (torch.float32, torch.device("cpu"))
    inputs, inner = torch.as_tensor(u).to(device, dtype), None if readout is not None else _recurrent_part(module)
    if inner is None:
        inputs = torch.cat([torch.zeros_like(inputs[:, :1]), inputs], dim=1)
    if len(inputs) == inputs.shape[1]:  # one more trial, so that trials are not taken for times unseen
        inputs = torch.cat([inputs, inputs[:1]])
    for part in parts[:1]:
        part.eval()
    try:
        with torch.no_grad():
            if inner is None:
                found = _returned(module, inputs, readout)
                states, first = found[:, 1:], found[:, 0]
            else:
                states, first = _seen_inside(module, inner, inputs)
    finally:
        for part in training:
            part.training = True
    return states[: len(u)].double().cpu().numpy(), first[: len(u)].double().cpu().numpy()


_Recurrent = torch.nn.RNNBase | torch.nn.RNNCellBase


def _recurrent_part(module: Any) -> Any:
    """The recurrent layer or cell of torch that a module is, or has inside; None where there is none."""
    parts = [one for one in module.modules() if isinstance(one, _Recurrent)] if hasattr(module, "modules") else []
    if len(parts) > 1:
        raise ContractError(
            f"The module has {len(parts)} recurrent layers. One is needed, since its states are those that are fitted. "
            "Give readout=, a function that makes the states of what the module returns."
        )
    if parts and getattr(parts[0], "bidirectional", False):
        raise ContractError("The module runs in both directions of time. A network runs forward. Give one that does.")
    return parts[0] if parts else None


def _returned(module: Any, inputs: torch.Tensor, readout: Callable[[Any], Any] | None) -> torch.Tensor:
    """The states (trial, time, unit) that a module returns."""
    first = getattr(module, "batch_first", True)
    found = _called(module, inputs if first else inputs.transpose(0, 1))
    found = readout(found) if readout is not None else found
    found = torch.as_tensor(found) if isinstance(found, torch.Tensor | np.ndarray) else found
    wanted = inputs.shape[:2] if first else inputs.shape[1::-1]
    if not isinstance(found, torch.Tensor) or found.ndim != 3 or found.shape[:2] != wanted:
        given = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise ContractError(
            f"The module gives {given} for inputs of {tuple(inputs.shape)}. Its states are needed: a tensor with the "
            "trials and times of the inputs, and a unit in each column. Give readout=, a function that makes them of "
            "what the module returns."
        )
    return found if first else found.transpose(0, 1)


def _called(module: Any, inputs: torch.Tensor) -> Any:
    try:
        return module(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ContractError(
            f"The module does not take inputs of {tuple(inputs.shape)} ({str(error).splitlines()[0]}). It needs the "
            "number of inputs that it was made for. Check them, and batch_first of the module."
        ) from error


def _seen_inside(module: Any, inner: Any, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the recurrent part of a module while it runs, and the one that it starts from."""
    if isinstance(module, torch.nn.RNNCellBase):
        module = _over_time(module)
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def see(part: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        given = given[0] if isinstance(given, tuple) else given  # of an LSTM, with its cell state
        state = output[0] if isinstance(output, tuple) else output
        if isinstance(part, torch.nn.RNNCellBase):
            state = state[:, None]
        elif not part.batch_first:
            state = state.transpose(0, 1)
        if given is None:
            given = torch.zeros_like(state[:, 0])
        calls.append((state, given[-1] if given.ndim == 3 else given))

    handle = inner.register_forward_hook(see, with_kwargs=True)
    try:
        _called(module, inputs if getattr(module, "batch_first", True) else inputs.transpose(0, 1))
    finally:
        handle.remove()
    states = torch.cat([state for state, _ in calls], dim=1) if calls else inputs[:, :0]
    if states.shape[:2] != inputs.shape[:2]:
        raise ContractError(
            f"The recurrent layer of the module gives states of {tuple(states.shape)} for inputs of "
            f"{tuple(inputs.shape)}. It needs one for each trial and time. Check batch_first, or give readout=."
        )
    return states, calls[0][1].expand_as(states[:, 0])


def _over_time(cell: Any) -> Callable[[torch.Tensor], None]:
    """A function that calls a cell step by step."""

    def run(inputs: torch.Tensor) -> None:
        state = None
        for now in inputs.unbind(dim=1):
            state = cell(now, state)

    return run
