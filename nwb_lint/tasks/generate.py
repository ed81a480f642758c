"""Trials of the five tasks of Valente, Pillow & Ostojic (NeurIPS 2022): inputs, targets and trial columns.

Every generator takes a number of trials and a seed, and returns a Dataset in steps of 20 ms, for networks of tau 100
ms:

| name | dims | dtype | content |
|---|---|---|---|
| u | trial, time, input | float32 | inputs with their noise, dimensionless |
| target | trial, time, output | float32 | the right output in the response window, else 0 |
| mask | trial, time | bool | the response window |
| answer | trial | int64 | -1 or 1: the right sign of the mean output in the response window |

The trial columns (coherence, f1, context, ...) are coordinates on ``trial``. The coordinate ``input`` names the inputs.
``time`` is the start of each step, s. A trial with a short delay ends early: after its response window, the inputs are
noise alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError

Array = np.ndarray

DT_S = 0.02
TAU_S = 0.1


def _steps(milliseconds: float) -> int:
    """Whole steps in an epoch, rounded down."""
    return int(milliseconds / (1000 * DT_S))


def during(n_steps: int, start: Array | int, length: Array | int) -> Array:
    """Steps that lie in an epoch, from its start and length in steps: bool (trial or 1, time)."""
    begin, t = np.atleast_1d(start)[:, None], np.arange(n_steps)
    return (t >= begin) & (t < begin + np.atleast_1d(length)[:, None])


def _random(n_trials: int, seed: int) -> np.random.Generator:
    if n_trials < 1:
        raise ContractError(f"n_trials is {n_trials}. A task needs at least 1 trial.")
    return np.random.default_rng(seed)


def _delays(rng: np.random.Generator, n_trials: int, delay_ms: tuple[float, float]) -> Array:
    """Lengths in steps of a delay that is uniform between two lengths, both included."""
    low, high = delay_ms
    if not 0 <= low <= high:
        raise ContractError(f"delay_ms is {delay_ms!r}. It needs a shortest and a longest delay, of at least 0.")
    return rng.integers(_steps(low), _steps(high) + 1, n_trials)


def _dataset(
    task: str, inputs: Array, names: list[str], answer: Array, target: Array, mask: Array, **columns: Array
) -> xr.Dataset:
    """Trials as a Dataset. ``target`` (trial) is the right output inside ``mask`` (trial or 1, time)."""
    n_trials, n_steps, _ = inputs.shape
    mask = np.broadcast_to(mask, (n_trials, n_steps))
    return xr.Dataset(
        {
            "u": (("trial", "time", "input"), inputs.astype("float32")),
            "target": (("trial", "time", "output"), (mask * target[:, None])[..., None].astype("float32")),
            "mask": (("trial", "time"), mask.copy()),
        },
        {
            "trial": np.arange(n_trials),
            "time": ("time", np.arange(n_steps) * DT_S, {"units": "s"}),
            "input": ("input", names),
            "answer": ("trial", answer.astype("int64")),
            **{name: ("trial", values) for name, values in columns.items()},
        },
        {"task": task, "dt_s": DT_S, "tau_s": TAU_S},
    )


def decision_making(n_trials: int, seed: int = 0) -> xr.Dataset:
    """Perceptual decision: the output is the sign of one noisy input.

    Fixation 100 ms, stimulus 800, delay 300, decision 300: 75 steps. The coherence is one of ±{1, 2, 4, 8, 16} × 0.032,
    with equal probability. The input noise has sd 0.03 at every step.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them, with the column coherence.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1.

    Examples
    --------
    >>> trials = decision_making(100, seed=1)
    >>> trials["u"].shape
    (100, 75, 1)
    """
    rng = _random(n_trials, seed)
    n_steps = _steps(1500)
    levels = np.array([1, 2, 4, 8, 16]) * 0.032
    coherence = rng.choice(np.r_[-levels, levels], n_trials)
    inputs = 0.03 * rng.standard_normal((n_trials, n_steps, 1))
    inputs[..., 0] += during(n_steps, _steps(100), _steps(800)) * coherence[:, None]
    response = during(n_steps, _steps(1200), _steps(300))
    answer = np.sign(coherence)
    return _dataset("dm", inputs, ["stimulus"], answer, answer, response, coherence=coherence)


def working_memory(n_trials: int, seed: int = 0, *, delay_ms: tuple[float, float] = (500, 2000)) -> xr.Dataset:
    """Parametric working memory: the output is the difference of two successive frequencies.

    Fixation 100 ms, f1 100, delay 500 to 2000, f2 100, decision 100: 120 steps. The input is (f - 22) / 24, with f from
    10 to 34 Hz and f2 - f1 in ±{8, 16, 24}. All such pairs are equally frequent. The target is (f1 - f2) / 24. The
    input noise has sd 0.01.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.
    delay_ms : tuple of float, default=(500, 2000)
        Shortest and longest delay, ms. Delays are uniform between them.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them, with the columns f1, f2 (Hz) and delay_s.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1, or the delays are not in order.

    Examples
    --------
    >>> trials = working_memory(200)
    >>> np.unique(np.abs(trials.f1 - trials.f2)).tolist()
    [8, 16, 24]
    """
    rng = _random(n_trials, seed)
    n_steps = _steps(400) + _steps(delay_ms[1])
    differences = [-24, -16, -8, 8, 16, 24]
    pairs = np.array([(f1, f1 + d) for f1 in range(10, 35) for d in differences if 10 <= f1 + d <= 34])
    f1, f2 = pairs[rng.integers(len(pairs), size=n_trials)].T
    delay = _delays(rng, n_trials, delay_ms)
    pulse = _steps(100)
    inputs = 0.01 * rng.standard_normal((n_trials, n_steps, 1))
    inputs[..., 0] += during(n_steps, pulse, pulse) * ((f1 - 22) / 24)[:, None]
    inputs[..., 0] += during(n_steps, 2 * pulse + delay, pulse) * ((f2 - 22) / 24)[:, None]
    response = during(n_steps, 3 * pulse + delay, pulse)
    target = (f1 - f2) / 24
    return _dataset("wm", inputs, ["frequency"], np.sign(target), target, response, f1=f1, f2=f2, delay_s=delay * DT_S)


def contextual_decision(n_trials: int, seed: int = 0) -> xr.Dataset:
    """Context-dependent decision: the output is the sign of the noisy input that the context names.

    Fixation 100 ms, context alone 350, stimulus 800, delay 100, decision 20: 68 steps. The coherence of each sensory
    input is one of ±{1, 2, 4} × 0.1. The context cue has amplitude 1 from the end of fixation to the response. The two
    sensory inputs have noise of sd 0.1.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them, with the columns motion, color and context.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1.

    Examples
    --------
    >>> contextual_decision(10)["input"].values.tolist()
    ['motion', 'color', 'context motion', 'context color']
    """
    rng = _random(n_trials, seed)
    fixation, stimulus, delay, decision = _steps(100), _steps(800), _steps(100), _steps(20)
    onset = fixation + _steps(350)
    respond = onset + stimulus + delay
    n_steps = respond + decision
    levels = np.array([1, 2, 4]) * 0.1
    coherence = rng.choice(np.r_[-levels, levels], (n_trials, 2))
    context = rng.integers(0, 2, n_trials)
    inputs = np.zeros((n_trials, n_steps, 4))
    inputs[..., :2] = 0.1 * rng.standard_normal((n_trials, n_steps, 2))
    inputs[..., :2] += during(n_steps, onset, stimulus)[..., None] * coherence[:, None]
    inputs[..., 2:] = during(n_steps, fixation, respond - fixation)[..., None] * np.eye(2)[context][:, None]
    answer = np.sign(coherence[np.arange(n_trials), context])
    return _dataset(
        "cdm", inputs, ["motion", "color", "context motion", "context color"], answer, answer,
        during(n_steps, respond, decision),
        motion=coherence[:, 0], color=coherence[:, 1], context=np.array(["motion", "color"])[context],
    )  # fmt: skip


def delayed_match(n_trials: int, seed: int = 0, *, delay_ms: tuple[float, float] = (500, 3000)) -> xr.Dataset:
    """Delayed match to sample: the answer is 1 if two stimuli are the same, and -1 if not.

    Fixation 100 ms, first stimulus 500, delay 500 to 3000, second stimulus 500, decision 1000: 255 steps. Each of the
    two stimuli, A and B, is an input of its own, of amplitude 1. The input noise has sd 0.03.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.
    delay_ms : tuple of float, default=(500, 3000)
        Shortest and longest delay, ms. Delays are uniform between them.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them, with the columns first, second and delay_s.

    Raises
    ------
    ContractError
        If ``n_trials`` is below 1, or the delays are not in order.

    Examples
    --------
    >>> trials = delayed_match(50)
    >>> bool(((trials["first"] == trials["second"]) == (trials.answer == 1)).all())
    True
    """
    rng = _random(n_trials, seed)
    fixation, stimulus, decision = _steps(100), _steps(500), _steps(1000)
    n_steps = fixation + 2 * stimulus + _steps(delay_ms[1]) + decision
    first, second = rng.integers(0, 2, (2, n_trials))
    delay = _delays(rng, n_trials, delay_ms)
    start_second = fixation + stimulus + delay
    inputs = 0.03 * rng.standard_normal((n_trials, n_steps, 2))
    inputs += during(n_steps, fixation, stimulus)[..., None] * np.eye(2)[first][:, None]
    inputs += during(n_steps, start_second, stimulus)[..., None] * np.eye(2)[second][:, None]
    answer = np.where(first == second, 1, -1)
    label = np.array(["A", "B"])
    return _dataset(
        "dms", inputs, ["A", "B"], answer, answer, during(n_steps, start_second + stimulus, decision),
        first=label[first], second=label[second], delay_s=delay * DT_S,
    )  # fmt: skip


def _k_back(k: int) -> Callable[..., xr.Dataset]:
    """The generator of `k_back` for one K, since tasks are known by name."""

    def generate(n_trials: int, seed: int = 0) -> xr.Dataset:
        return k_back(n_trials, seed, k=k)

    return generate


def k_back(n_trials: int, seed: int = 0, *, k: int = 1) -> xr.Dataset:
    """K-back: the output is the sign of the K-th last of a row of pulses.

    Fixation 100 ms, then P pulses of 1 or -1, then decision 200 ms: 15 + 15 (2 K - 1) steps. P is one of K, ..., 2 K -
    1, with equal probability. Each pulse lasts 100 ms, and 200 ms without input follow. The input noise has sd 0.03.
    The K-th last pulse may be any of the first K, so after K pulses all K signs must be held. The paper does not give
    its timings; these are our choice.

    Parameters
    ----------
    n_trials : int
        Number of trials, at least 1.
    seed : int, default=0
        Seed of the trials and the noise.
    k : int, default=1
        K, at least 1.

    Returns
    -------
    xarray.Dataset
        The trials, as the module describes them, with the column n_pulses.

    Raises
    ------
    ContractError
        If ``n_trials`` or ``k`` is below 1.

    Examples
    --------
    >>> trials = k_back(50, k=2)
    >>> sorted(set(trials.n_pulses.values.tolist()))
    [2, 3]
    """
    rng = _random(n_trials, seed)
    if k < 1:
        raise ContractError(f"k is {k}. K-back needs at least 1.")
    fixation, pulse, slot, decision = _steps(100), _steps(100), _steps(300), _steps(200)
    most = 2 * k - 1
    n_steps = fixation + most * slot + decision
    n_pulses = rng.integers(k, most + 1, n_trials)
    signs = rng.choice([-1.0, 1.0], (n_trials, most)) * (np.arange(most) < n_pulses[:, None])
    inputs = 0.03 * rng.standard_normal((n_trials, n_steps, 1))
    for number in range(most):
        inputs[..., 0] += during(n_steps, fixation + number * slot, pulse) * signs[:, [number]]
    answer = signs[np.arange(n_trials), n_pulses - k]
    response = during(n_steps, fixation + n_pulses * slot, decision)
    return _dataset(f"{k}-back", inputs, ["pulse"], answer, answer, response, n_pulses=n_pulses)


TASKS: dict[str, Callable[..., xr.Dataset]] = {
    "dm": decision_making,
    "wm": working_memory,
    "cdm": contextual_decision,
    "dms": delayed_match,
    **{f"{k}-back": _k_back(k) for k in (1, 2, 3, 4)},
}


def as_conditions(trials: xr.Dataset) -> xr.Dataset:
    """Trials of a task as the conditions of an activity. The trial columns stay."""
    out = trials[["u"]].rename({"trial": "condition"})
    labels = [f"trial {k}" for k in trials["trial"].values]
    return out.assign_coords(condition=labels)
