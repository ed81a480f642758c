"""Gated recurrent networks (GRU) trained on tasks with a target at every step.

    r = s(W_r u[t] + J_r h[t-1] + b_r),    z = s(W_z u[t] + J_z h[t-1] + b_z)
    c = tanh(W_c u[t] + r (J_c h[t-1] + b_c)),    h[t] = (1 - z) c + z h[t-1] + noise xi[t]

A network is a Dataset, dimensionless:

| name | dims | content |
|---|---|---|
| input_weights, input_bias | gate, unit, input; gate, unit | W of the gates reset, update and candidate, and a bias |
| recurrent_weights, recurrent_bias | gate, unit, unit_from; gate, unit | J and the bias inside the reset gate |
| readout, readout_bias | output, unit; output | the output is readout (h[t] - noise xi[t]) + readout_bias |
| initial_state | unit | mean of h before the first step |

Attributes: task, seed, noise and initial_noise (sd), error (of the last updates).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import expit

from nwb_lint.errors import ContractError
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.tasks.continuous import SWITCH, TASKS, flip_flop, multitask

Array = np.ndarray

GATES = ("reset", "update", "candidate")
NOISE, INITIAL_NOISE = 0.01, 0.05  # sd of each step, and of the first state, as in the benchmark


class Plan(NamedTuple):
    """How a network is trained: updates, trials of an update, the learning rate at the start, and the draw of trials.

    ``draw(n_trials, seed, share)`` gives trials; ``share`` is the share of the updates that are done.
    """

    updates: int
    batch: int
    rate: float
    draw: Callable[[int, int, float], xr.Dataset]


def _flip_flops(n_trials: int, seed: int, share: float) -> xr.Dataset:
    """Short trials with many pulses first, then those of the task, which are longer."""
    stage = (60, 5 * SWITCH) if share < 0.6 else (100, 2 * SWITCH) if share < 0.8 else (200, SWITCH)
    return flip_flop(n_trials, seed, n_steps=stage[0], switch=stage[1])


def _multitask(n_trials: int, seed: int, share: float) -> xr.Dataset:
    return multitask(n_trials // len(TASKS), seed, n_steps=None)


PLANS = {
    "flip-flop": Plan(700, 64, 1e-2, _flip_flops),
    "multitask": Plan(2500, 4 * len(TASKS), 4e-3, _multitask),
}
_LAST = 50  # updates whose mean loss is the error


def train_gated(
    task: str, *, n_units: int = 64, seed: int = 0, updates: int | None = None, progress: bool = False
) -> xr.Dataset:
    """Train a gated network by Adam on new trials in every update; the learning rate falls to 0 along a cosine.

    Weights start uniform between ± 1 / sqrt(``n_units``), and the first state at 0. The loss is the mean squared error
    of the outputs, weighted as the task says. The norm of a gradient is cut off at 1.

    Parameters
    ----------
    task : {"flip-flop", "multitask"}
        Task, of `nwb_lint.tasks.continuous`.
    n_units : int, default=64
        Number of units.
    seed : int, default=0
        Seed of the weights, the trials and the noise.
    updates : int or None, default=None
        Number of updates. None is that of the plan of the task.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        The network, as the module describes it.

    Raises
    ------
    ContractError
        If the task is unknown, or a number is below 1.

    References
    ----------
    Cho et al., EMNLP 2014. Versteeg et al. 2025, Computation-through-Dynamics Benchmark.

    Examples
    --------
    >>> network = train_gated("flip-flop", n_units=8, updates=2)
    >>> network["recurrent_weights"].dims
    ('gate', 'unit', 'unit_from')
    """
    if task not in PLANS:
        raise ContractError(f"There is no task {task!r}. Choose from {', '.join(PLANS)}.")
    plan = PLANS[task]
    number = plan.updates if updates is None else updates
    if n_units < 1 or number < 1:
        raise ContractError(f"n_units is {n_units} and updates is {updates}. Each needs to be at least 1.")
    from nwb_lint.tasks._torch import train_gated as train

    trials = plan.draw(plan.batch, seed, 0.0)
    weights = _first_weights(n_units, trials.sizes["input"], trials.sizes["output"], seed)
    losses = []

    def draw(update: int) -> tuple[Array, Array, Array]:
        found = plan.draw(plan.batch, int(np.random.default_rng([seed, 1, update]).integers(2**31)), update / number)
        return found["u"].values, found["target"].values, found["weight"].values

    rates = plan.rate * 0.5 * (1 + np.cos(np.pi * np.arange(number) / number))
    with progress_bar(progress, f"train {task}", unit="update", total=number) as bar:

        def report(update: int, loss: float) -> None:
            losses.append(loss)
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        weights = train(
            weights, draw, noise=NOISE, first_noise=INITIAL_NOISE, rates=rates, seed=seed, report=report
        )  # fmt: skip
    return _network(weights, trials, task, seed, float(np.mean(losses[-_LAST:])))


def _first_weights(n_units: int, n_inputs: int, n_outputs: int, seed: int) -> dict[str, Array]:
    rng, limit = np.random.default_rng([seed, 0]), n_units**-0.5
    shapes: dict[str, tuple[int, ...]] = {
        "input_weights": (3 * n_units, n_inputs), "input_bias": (3 * n_units,),
        "recurrent_weights": (3 * n_units, n_units), "recurrent_bias": (3 * n_units,),
        "readout": (n_outputs, n_units), "readout_bias": (n_outputs,),
    }  # fmt: skip
    found = {name: rng.uniform(-limit, limit, shape) for name, shape in shapes.items()}
    return found | {"initial_state": np.zeros(n_units)}


def _network(weights: dict[str, Array], trials: xr.Dataset, task: str, seed: int, error: float) -> xr.Dataset:
    size = len(weights["initial_state"])
    dims = {
        "input_weights": ("gate", "unit", "input"), "input_bias": ("gate", "unit"),
        "recurrent_weights": ("gate", "unit", "unit_from"), "recurrent_bias": ("gate", "unit"),
        "readout": ("output", "unit"), "readout_bias": ("output",), "initial_state": ("unit",),
    }  # fmt: skip
    arrays = {
        name: value.reshape(3, size, *value.shape[1:]) if "gate" in dims[name] else value
        for name, value in weights.items()
    }
    return xr.Dataset(
        {name: (dims[name], value) for name, value in arrays.items()},
        {"gate": list(GATES), "input": trials["input"].values, "output": trials["output"].values},
        {"task": task, "seed": seed, "noise": NOISE, "initial_noise": INITIAL_NOISE, "error": error},
    )


def gated_step(network: xr.Dataset, u: Array, h: Array) -> Array:
    """One step without noise: the new state (..., unit), from the input u (..., input) and the state h (..., unit)."""
    drive = u @ _joined(network, "input_weights").T + _joined(network, "input_bias")
    return _step(drive, h, _joined(network, "recurrent_weights"), _joined(network, "recurrent_bias"))


def _joined(network: xr.Dataset, name: str) -> Array:
    values: Array = network[name].values
    return values.reshape(-1, *values.shape[2:])


def _step(drive: Array, h: Array, weights: Array, bias: Array) -> Array:
    size = h.shape[-1]
    into = h @ weights.T + bias
    both = expit(drive[..., : 2 * size] + into[..., : 2 * size])
    candidate = np.tanh(drive[..., 2 * size :] + both[..., :size] * into[..., 2 * size :])
    return candidate + both[..., size:] * (h - candidate)


def run_gated(network: xr.Dataset, u: Array, *, seed: int | None = 0) -> tuple[Array, Array]:
    """States and outputs of a gated network on inputs.

    Parameters
    ----------
    network : xarray.Dataset
        From `train_gated`.
    u : numpy.ndarray
        Inputs (trial, time, input), dimensionless.
    seed : int or None, default=0
        Seed of the noise. None runs without noise, from the mean of the first state.

    Returns
    -------
    states : numpy.ndarray
        (trial, time, unit), with the noise; the state at a time has seen the input at that time.
    outputs : numpy.ndarray
        (trial, time, output), from the states before the noise of the step.

    Raises
    ------
    ContractError
        If u has another number of inputs.

    Examples
    --------
    >>> network = train_gated("flip-flop", n_units=8, updates=2)
    >>> run_gated(network, np.zeros((2, 10, 3)))[0].shape
    (2, 10, 8)
    """
    if u.ndim != 3 or u.shape[2] != network.sizes["input"]:
        raise ContractError(
            f"u has shape {u.shape}. It needs (trial, time, input) with the {network.sizes['input']} inputs of the "
            "network."
        )
    n_trials, n_steps = u.shape[:2]
    rng, size = np.random.default_rng(seed), network.sizes["unit"]
    noise, first = (0.0, 0.0) if seed is None else (network.attrs["noise"], network.attrs["initial_noise"])
    weights, bias = _joined(network, "recurrent_weights"), _joined(network, "recurrent_bias")
    drive = u.astype(float) @ _joined(network, "input_weights").T + _joined(network, "input_bias")
    states, clean = np.empty((2, n_trials, n_steps, size))
    h = network["initial_state"].values + first * rng.standard_normal((n_trials, size))
    for t in range(n_steps):
        clean[:, t] = _step(drive[:, t], h, weights, bias)
        states[:, t] = h = clean[:, t] + noise * rng.standard_normal(h.shape)
    return states, clean @ network["readout"].values.T + network["readout_bias"].values
