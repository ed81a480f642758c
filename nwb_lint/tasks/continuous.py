"""Trials of two tasks with a target at every step: the three-bit flip-flop, and fifteen tasks in one network.

Every generator gives a Dataset:

| name | dims | dtype | content |
|---|---|---|---|
| u | trial, time, input | float32 | inputs with their noise, dimensionless |
| target | trial, time, output | float32 | the right output |
| weight | trial, time, output | float32 | weight of the squared error of the output in training |
| n_steps | trial | int64 | steps until the trial ends; later inputs and weights are 0 |
| response | trial | int64 | first step of the response; the flip-flop has none, so it is 0 |
| task | trial | str | name of the task |

The definitions are those of the Computation-through-Dynamics Benchmark, from its public code
(github.com/snel-repo/ComputationThruDynamicsBenchmark).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.tasks.generate import during

Array = np.ndarray

DT_S = 0.02  # of the fifteen tasks; the flip-flop has no unit of time, and gets the same

SWITCH = 0.01  # probability of a pulse up, and of one down, at each step and input of the flip-flop
_PULSE_NOISE = 0.15  # sd per step
_QUIET = 3  # first steps without pulses
_BLIND = 4  # steps after a transition in which the output has no weight
_UNWEIGHTED = 5  # first steps of a trial, and of a response, without weight

TASKS = (
    "DelayPro", "DelayAnti", "MemoryPro", "MemoryAnti", "ReactPro", "ReactAnti", "IntMod1", "IntMod2",
    "ContextIntMod1", "ContextIntMod2", "ContextIntMultimodal", "Match2Sample", "NonMatch2Sample", "MatchCatPro",
    "MatchCatAnti",
)  # fmt: skip
STIMULI = ("fixation", "modality 1 cos", "modality 1 sin", "modality 2 cos", "modality 2 sin")
MULTITASK_STEPS = 320

_MULTITASK_NOISE = 0.3  # sd per step, of all inputs
_DIRECTIONS = 32
_COHERENCES = (0.08, 0.16, 0.32)
_RESPONSE_WEIGHT = 5.0
# Steps of the phases: context, stimulus 1, memory 1, stimulus 2, memory 2, response; the upper bound is not reached.
_NONE = (0, 1)
_PHASES = {
    "Delay": ((15, 35), (10, 75), _NONE, _NONE, _NONE, (15, 35)),
    "Memory": ((15, 35), (10, 80), (10, 80), _NONE, _NONE, (15, 35)),
    "React": ((25, 125), _NONE, _NONE, _NONE, _NONE, (15, 85)),
    "Int": ((10, 30), (10, 80), (10, 80), (10, 80), (5, 15), (15, 35)),
    "Match": ((10, 30), (10, 80), (10, 80), _NONE, _NONE, (15, 35)),
}


def flip_flop(n_trials: int, seed: int = 0, *, n_steps: int = 500, bits: int = 3, switch: float = SWITCH) -> xr.Dataset:
    """Flip-flop: each output is 1 after a pulse up of its input, and 0 after a pulse down and at the start.

    At each step an input has a pulse of 1 with the probability ``switch``, and one of -1 with the same. Noise of sd
    0.15 is added at every step.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the pulses and the noise.
    n_steps : int, default=500
        Steps of a trial, at least 1.
    bits : int, default=3
        Number of inputs, each with its output.
    switch : float, default=0.01
        Probability of a pulse up, and of one down, at each step and input.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them.

    Raises
    ------
    ContractError
        If a number is below 1.

    References
    ----------
    Versteeg et al. 2025, Computation-through-Dynamics Benchmark; Sussillo & Barak, Neural Computation 2013.

    Examples
    --------
    >>> trials = flip_flop(4, n_steps=100)
    >>> trials["target"].dims, trials["target"].shape
    (('trial', 'time', 'output'), (4, 100, 3))
    """
    if min(n_trials, n_steps, bits) < 1 or not 0 <= switch <= 0.5:
        raise ContractError(
            f"n_trials is {n_trials}, n_steps is {n_steps}, bits is {bits} and switch is {switch}. Each number needs "
            "to be at least 1, and switch between 0 and 0.5."
        )
    rng = np.random.default_rng(seed)
    chance = rng.random((n_trials, n_steps, bits))
    pulses = (chance > 1 - switch).astype(float) - (chance < switch)
    pulses[:, :_QUIET] = 0
    u = pulses + _PULSE_NOISE * rng.standard_normal(pulses.shape)
    # the last pulse decides: its position is the largest so far among positions of pulses
    last = np.maximum.accumulate(np.where(pulses != 0, np.arange(n_steps)[:, None], 0), axis=1)
    target = np.maximum(np.take_along_axis(pulses, last, axis=1), 0)
    turned = np.diff(target, axis=1, prepend=0) != 0
    blind = np.zeros_like(turned)
    for step in range(1, _BLIND + 1):  # not the step of the transition itself
        blind[:, step:] |= turned[:, : n_steps - step]
    weight = (~blind).astype(float)
    weight[:, :_UNWEIGHTED] = 0
    names = [f"bit {k + 1}" for k in range(bits)]
    columns = {"n_steps": np.full(n_trials, n_steps), "response": np.zeros(n_trials, int)}
    return _dataset(u, target, weight, names, names, np.full(n_trials, "flip-flop"), **columns)


def multitask(
    n_trials: int, seed: int = 0, *, tasks: tuple[str, ...] = TASKS, n_steps: int | None = MULTITASK_STEPS
) -> xr.Dataset:
    """Fifteen tasks of direction: delayed, memory and reaction responses, integration, and matching, pro and anti.

    The inputs are fixation, cosine and sine of the direction in two modalities, and one input that names the task. The
    outputs are fixation, and cosine and sine of the response. Phases have random lengths in steps of 20 ms. Noise of sd
    0.3 is added to every input at every step of a trial.

    Parameters
    ----------
    n_trials : int
        Number of trials of each task, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.
    tasks : tuple of str, default=TASKS
        Names of the tasks. The inputs that name tasks are always fifteen.
    n_steps : int or None, default=320
        Steps of all trials. None is the length of the longest trial.

    Returns
    -------
    xarray.Dataset
        The trials, task by task, as the module describes them.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1 or a task is unknown.

    References
    ----------
    Versteeg et al. 2025, Computation-through-Dynamics Benchmark; Driscoll, Shenoy & Sussillo, Nature Neuroscience 2024;
    Yang et al., Nature Neuroscience 2019.

    Examples
    --------
    >>> trials = multitask(2, tasks=("DelayPro", "MatchCatAnti"))
    >>> trials["u"].shape, trials["task"].values.tolist()
    ((4, 320, 20), ['DelayPro', 'DelayPro', 'MatchCatAnti', 'MatchCatAnti'])
    """
    unknown = [name for name in tasks if name not in TASKS]
    if n_trials < 1 or unknown or not tasks:
        raise ContractError(
            f"n_trials is {n_trials} and tasks is {tasks!r}. It needs at least 1 trial, and names among "
            f"{', '.join(TASKS)}."
        )
    rng = np.random.default_rng(seed)
    made = [_trials_of(name, n_trials, rng) for name in tasks]
    u, target, ends, starts = (np.concatenate(part) for part in zip(*made, strict=True))
    length = int(ends.max()) if n_steps is None else n_steps
    weight = np.ones(target.shape)
    weight[:, :_UNWEIGHTED] = 0
    responding = during(u.shape[1], starts, ends - starts)
    weight[responding] = _RESPONSE_WEIGHT
    weight[during(u.shape[1], starts, np.full(len(starts), _UNWEIGHTED))] = 0
    running = during(u.shape[1], 0, ends)[..., None]
    u = (u + _MULTITASK_NOISE * rng.standard_normal(u.shape)) * running
    u, target, weight = ((part * running)[:, :length] for part in (u, target, weight))
    outputs = ["fixation", "response cos", "response sin"]
    names = np.repeat(tasks, n_trials)
    return _dataset(u, target, weight, [*STIMULI, *TASKS], outputs, names, n_steps=ends, response=starts)


def _trials_of(task: str, n: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Inputs without noise, targets, and the steps of the end and of the start of the response, of trials of a task."""
    kind = next(name for name in _PHASES if name in task)
    lengths = np.stack([rng.integers(low, high, n) for low, high in _PHASES[kind]])
    begins = np.concatenate([np.zeros((1, n), int), lengths.cumsum(axis=0)])
    start, end = begins[-2], begins[-1]
    phase = [during(MULTITASK_STEPS, begins[k], lengths[k]) for k in range(6)]
    u, target = np.zeros((n, MULTITASK_STEPS, len(STIMULI) + len(TASKS))), np.zeros((n, MULTITASK_STEPS, 3))
    before = during(MULTITASK_STEPS, 0, start)
    u[..., 0] = during(MULTITASK_STEPS, 0, end) if kind in ("React", "Match") else before
    u[:, :, len(STIMULI) + TASKS.index(task)] = 1
    target[..., 0] = before
    first = rng.integers(0, _DIRECTIONS, n) * 2 * np.pi / _DIRECTIONS - np.pi
    answer, given = first, np.ones(n)
    if kind == "Int":
        answer = _integrate(task, u, phase, first, rng)
    elif kind == "Match":
        second, given = _match(task, first, rng)
        _show(u, phase[1], first)
        _show(u, phase[5], second)
        answer = second
    else:
        _show(u, {"Delay": phase[1] | phase[5], "Memory": phase[1], "React": phase[5]}[kind], first)
        given = np.full(n, -1.0 if task.endswith("Anti") else 1.0)
    target[..., 1] = phase[5] * (given * np.cos(answer))[:, None]
    target[..., 2] = phase[5] * (given * np.sin(answer))[:, None]
    return u, target, end, start


def _show(u: Array, when: Array, direction: Array, size: Array | float = 1.0, modality: int = 1) -> None:
    """Add a stimulus of some direction and size, (trial), at the steps ``when`` (trial, time)."""
    at = 2 * modality - 1
    u[..., at] += when * (size * np.cos(direction))[:, None]
    u[..., at + 1] += when * (size * np.sin(direction))[:, None]


def _integrate(task: str, u: Array, phase: list[Array], first: Array, rng: np.random.Generator) -> Array:
    """Two stimuli one after the other; the answer is the direction of the larger one in the modality that counts."""
    n = len(first)
    second = first + np.deg2rad(rng.uniform(90, 270, n))
    middle = rng.uniform(0.8, 1.2, (2, n))
    off = rng.choice(_COHERENCES, (2, n)) * rng.choice([-1, 1], (2, n))
    sizes = {1: (middle[0] + off[0], middle[0] - off[0]), 2: (middle[1] + off[1], middle[1] - off[1])}
    both = task.startswith("Context")
    shown = (1, 2) if both else (int(task[-1]),)
    counted = {"1": (1,), "2": (2,)}.get(task[-1], (1, 2))
    for modality in shown:
        one, two = sizes[modality]
        _show(u, phase[1], first, one, modality)
        _show(u, phase[3], second, two, modality)
    gain = sum(sizes[modality][0] - sizes[modality][1] for modality in counted)
    return np.where(gain >= 0, first, second)


def _match(task: str, first: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Direction of the second stimulus, and whether it is to be answered, both (trial)."""
    n = len(first)
    if "Cat" in task:
        second = rng.integers(0, _DIRECTIONS, n) * 2 * np.pi / _DIRECTIONS - np.pi
        same = (first < 0) == (second < 0)
        return second, (same if task == "MatchCatPro" else ~same).astype(float)
    meets = rng.random(n) < 0.5
    opposite = np.pi if task == "NonMatch2Sample" else 0.0
    other = np.deg2rad(rng.integers(10, 350, n))
    return first + opposite + np.where(meets, 0.0, other), meets.astype(float)


def _dataset(
    u: Array, target: Array, weight: Array, inputs: list[str], outputs: list[str], task: Array, **columns: Any
) -> xr.Dataset:
    found = {"u": ("input", u), "target": ("output", target), "weight": ("output", weight)}
    return xr.Dataset(
        {name: (("trial", "time", last), values.astype("float32")) for name, (last, values) in found.items()},
        {
            "trial": np.arange(len(u)),
            "time": ("time", DT_S * np.arange(u.shape[1]), {"units": "s"}),
            "input": inputs,
            "output": outputs,
            "task": ("trial", task.astype(str)),
            **{name: ("trial", np.asarray(values, "int64")) for name, values in columns.items()},
        },
        {"dt_s": DT_S},
    )
