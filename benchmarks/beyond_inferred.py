"""Inputs that nobody recorded: whether they are recovered, told from recurrence, and not found where there are none.

The sizes of the simulations were set on seeds 0 to 3; the figures are of seeds from 300 on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sections import workers

import nwb_lint as nl
from nwb_lint.statespace.data import arrays_of
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.system import System
from nwb_lint.statespace.unknown_inputs.own import Own, with_own

BIN_S, TAU_S, N_TIMES, N_UNITS = 0.02, 0.1, 50, 50
ALPHA = BIN_S / TAU_S
RATE_HZ, SLOPE_HZ = 30.0, 6.0  # of the means: rate = 30 + 6 x
GAIN, RATE_OF_TRIALS, SD = 0.7, 12.0, 0.05  # of single trials: rate = 12 exp(0.7 x), and noise of a step of the latent
DECAY = float(np.exp(-BIN_S / 0.2))  # of the unknown inputs of each trial
SEEDS_OF_MEANS, SEEDS_OF_TRIALS, SEEDS_OF_OWN = range(300, 310), range(300, 305), range(300, 303)


def smooth_courses(n_conditions: int, rng: np.random.Generator) -> np.ndarray:
    """u (condition, time): draws of a Gaussian process with a length of 100 ms."""
    gap = np.subtract.outer(np.arange(N_TIMES), np.arange(N_TIMES)) * BIN_S / 0.1
    root = np.linalg.cholesky(np.exp(-0.5 * gap**2) + 1e-6 * np.eye(N_TIMES))
    return rng.standard_normal((n_conditions, N_TIMES)) @ root.T


def pulses(n_conditions: int, rng: np.random.Generator) -> np.ndarray:
    """u (condition, time): one Gaussian pulse of random time, width, size and sign in each condition."""
    clock = BIN_S * np.arange(N_TIMES)
    center, width = rng.uniform(0.2, 0.8, (n_conditions, 1)), rng.uniform(0.08, 0.16, (n_conditions, 1))
    size = rng.choice([-1.0, 1.0], (n_conditions, 1)) * rng.uniform(1.0, 2.0, (n_conditions, 1))
    return size * np.exp(-0.5 * ((clock - center) / width) ** 2)


def wandering(n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """u (trial, time): Ornstein-Uhlenbeck processes of variance 1 with a time constant of 200 ms."""
    u = [rng.standard_normal(n_trials)]
    for _ in range(N_TIMES - 1):
        u.append(DECAY * u[-1] + np.sqrt(1 - DECAY**2) * rng.standard_normal(n_trials))
    return np.stack(u, axis=1)


def network(seed: int, recurrence: float, n_conditions: int) -> tuple[np.ndarray, ...]:
    """m, n, I (unit) of a random network of rank 1, and its known input (condition, time): a step of random size."""
    rng = np.random.default_rng(seed)
    m, weights = rng.standard_normal(N_UNITS), 0.6 * rng.standard_normal(N_UNITS)
    n = recurrence * (m + 0.6 * weights + 0.4 * rng.standard_normal(N_UNITS))
    clock = BIN_S * (np.arange(N_TIMES) + 0.5)
    on = (clock > 0.2) & (clock < 0.6)
    return m, n, weights, rng.choice([-1.5, -0.7, 0.7, 1.5], n_conditions)[:, None] * on


def activations(net: tuple[np.ndarray, ...], unknown: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """x (trial, time, unit) of trials with these known and unknown inputs (trial, time), with noise of the latent."""
    m, n, weights, known = net
    kappa, v, path = np.zeros(len(known)), np.zeros(len(known)), []
    for t in range(N_TIMES):
        x = kappa[:, None] * m + v[:, None] * weights
        path.append(x)
        drive = np.tanh(x) @ n / N_UNITS + unknown[:, t]
        kappa = (1 - ALPHA) * kappa + ALPHA * drive + sd * rng.standard_normal(len(known))
        v = (1 - ALPHA) * v + ALPHA * known[:, t]
    return np.stack(path, axis=1)


def means(seed: int, recurrence: float, size: float, course: Callable = smooth_courses, n_conditions: int = 24,
          n_trials: int = 80) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:  # fmt: skip
    """Activity of means over trials of Poisson spikes, the unknown u (condition, time), and m."""
    rng = np.random.default_rng([seed, 1])
    net, unknown = network(seed, recurrence, n_conditions), size * course(n_conditions, rng)
    x = activations(net, unknown, 0.0, rng)
    seconds = BIN_S * n_trials
    rate = rng.poisson(np.maximum(RATE_HZ + SLOPE_HZ * x, 0) * seconds) / seconds
    data = {
        "activity": (("condition", "time", "neuron"), ((rate - RATE_HZ) / SLOPE_HZ).astype(np.float32)),
        "u": (("condition", "time", "input"), net[3][..., None].astype(np.float32)),
    }
    coords = {"condition": [f"c{k:02d}" for k in range(n_conditions)], "input": ["step"]}
    return xr.Dataset(data, coords | _axes(), {"bin_s": BIN_S}), unknown, net[0]


def trials(seed: int, recurrence: float, size: float, course: Callable = smooth_courses, n_conditions: int = 6,
           n_trials: int = 20, own: bool = False) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:  # fmt: skip
    """Spikes of single trials, the unknown u (condition, time), and m as it acts on the log rate.

    With ``own`` each trial has its own course (trial, time).
    """
    rng = np.random.default_rng([seed, 3 if own else 2])
    condition = rng.permutation(np.repeat(np.arange(n_conditions), n_trials))
    cell = np.arange(len(condition)) if own else condition
    m, n, weights, known = network(seed, recurrence, n_conditions)
    unknown = size * course(cell.max() + 1, rng)
    x = activations((m, n, weights, known[condition]), unknown[cell], SD, rng)
    count = rng.poisson(BIN_S * RATE_OF_TRIALS * np.exp(np.minimum(GAIN * x, 4))).astype(np.uint16)
    data = {
        "count": (("trial", "time", "neuron"), count),
        "u": (("trial", "time", "input"), known[condition][..., None].astype(np.float32)),
    }
    names = np.array([f"c{k:02d}" for k in range(n_conditions)])[condition]
    coords = {"trial": np.arange(len(condition)), "side": ("trial", names), "input": ["step"]}
    return xr.Dataset(data, coords | _axes(), {"bin_s": BIN_S}), unknown, GAIN * m


def _axes() -> dict[str, object]:
    return {"time": BIN_S * (np.arange(N_TIMES) + 0.5), "neuron": [f"n{k:02d}" for k in range(N_UNITS)]}


def inferred(data: xr.Dataset, **options: object) -> xr.Dataset:
    """The result, without its warnings."""
    own = {"hidden": 30, "folds": 2} if "trial" in data.dims else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nl.infer_inputs(data, rank=1, tau_s=TAU_S, **own, **options)


def recovered(found: xr.Dataset, unknown: np.ndarray, m: np.ndarray) -> tuple[float, float]:
    """R² of u, in the units of the inferred weights, and the share of bins in their interval of 90 %."""
    loading = found["loading"].values[:, 0]
    true = (unknown * float(loading @ m / (loading @ loading)))[:, :-1]
    low, middle, high = (found[f"inferred_{name}"].values[:, :-1, 0] for name in ("low", "u", "high"))
    r2 = 1 - ((middle - true) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    return float(r2), float(((low < true) & (true < high)).mean())


def found_of(
    make: Callable, recurrence: float, size: float, by: str | None, options: Mapping[str, Any], seed: int
) -> tuple[str, float, float]:
    """The choice in one simulation, R² of u and its share in the interval; without inputs, the rms of u and NaN."""
    data, unknown, m = make(seed, recurrence, size, **options)
    found = inferred(data, by=by)
    choice = str(found.attrs["hypothesis"])
    if size:
        return choice, *recovered(found, unknown, m)
    return choice, float(np.sqrt((found["inferred_u"] ** 2).mean())), np.nan


def line_of(what: str, make: Callable, right: Sequence[str], recurrence: float, size: float,
         seeds: Sequence[int] = SEEDS_OF_TRIALS, by: str | None = "side", **options: object) -> None:  # fmt: skip
    """One simulated truth: how often the choice is right, and how well u is recovered where it should be."""
    with workers() as pool:
        found = list(pool.map(partial(found_of, make, recurrence, size, by, options), seeds))
    choices, scores = [one[0] for one in found], [one[1:] for one in found]
    counts = ", ".join(f"{name} {choices.count(name)}" for name in dict.fromkeys(choices))
    hits = sum(choice in right for choice in choices)
    first, cover = np.array(scores).T
    rest = f"R² of u median {np.median(first):.3f}, smallest {first.min():.3f}; in the 90 % interval {cover.mean():.2f}"
    rest = rest if size else f"mean rms of the inferred u {first.mean():.3f} (the known input is up to 1.5)"
    print(f"   {what}: right in {hits} of {len(choices)} ({counts}); {rest}", flush=True)


def inferred_means() -> None:
    """Unknown inputs of condition means: 24 conditions of 80 trials, 50 neurons, 10 seeds."""
    line = partial(line_of, seeds=SEEDS_OF_MEANS, by=None)
    line("recurrence and known inputs alone (goal 9 of 10)", means, ["recurrence"], 1.3, 0.0)
    line("unknown smooth inputs alone (goal R² .9)", means, ["inputs"], 0.0, 1.0)
    line("recurrence and unknown smooth inputs", means, ["both"], 1.6, 1.0)
    line("one unknown pulse in each condition, no recurrence", means, ["inputs"], 0.0, 1.0, course=pulses)
    line(
        "four conditions of two trials, small inputs (goal: undecided)", means, ["undecided"], 0.0, 0.1,
        n_conditions=4, n_trials=2,
    )  # fmt: skip


def with_true_parameters(seed: int, recurrence: float, size: float) -> float:
    """R² of the posterior mean of u of each trial, with the parameters that made the trials."""
    data, unknown, loading = trials(seed, recurrence, size, wandering, own=True)
    m, n, weights, _ = network(seed, recurrence, 1)
    none = np.zeros(N_UNITS)
    system = System(  # the units of the network are hidden ones, since the neurons have log rates of 0.7 x
        m=np.concatenate([loading, m])[:, None], n=2 * np.concatenate([none, n])[:, None],
        weights=np.concatenate([GAIN * weights, weights])[:, None], bias=np.zeros(2 * N_UNITS),
        level=np.full(N_UNITS, np.log(RATE_OF_TRIALS)), variance=np.ones(N_UNITS), noise=np.array([[SD**2]]),
        start=np.zeros((1, 1)), spread=np.array([[1e-4]]), alpha=ALPHA,
    )  # fmt: skip
    own = Own(np.array([[(ALPHA * size) ** 2 * (1 - DECAY**2)]]), DECAY)
    mean = posterior_of(with_own(system, own), arrays_of(data, "count", ALPHA, None))[0]
    error = mean[:, :-1, 1] / ALPHA - unknown[:, :-1]
    return float(1 - (error**2).sum() / ((unknown[:, :-1] - unknown[:, :-1].mean()) ** 2).sum())


def inferred_own() -> None:
    """Unknown inputs of each of 120 trials, 50 neurons, 3 seeds."""
    line = partial(line_of, seeds=SEEDS_OF_OWN, by="trial", course=wandering, own=True)
    for recurrence in (0.0, 1.6):
        best = [with_true_parameters(seed, recurrence, 1.0) for seed in SEEDS_OF_OWN]
        print(f"   R² of u with the true parameters, recurrence {recurrence}: {np.round(best, 3).tolist()}", flush=True)
    line("recurrence, known inputs and white noise (goal all)", trials, ["recurrence"], 1.3, 0.0)
    line("unknown inputs of each trial alone (goal all)", trials, ["inputs"], 0.0, 1.0)
    line("recurrence and unknown inputs of each trial", trials, ["both"], 1.6, 1.0)
    line("ten trials of small inputs (goal: undecided)", trials, ["undecided"], 0.0, 0.1, n_conditions=2, n_trials=5)


def inferred_trials() -> None:
    """Unknown inputs of single trials: 6 conditions of 20 trials, 50 neurons, 5 seeds."""
    line = line_of
    line("recurrence and known inputs alone (goal all)", trials, ["recurrence"], 1.3, 0.0)
    line("unknown smooth inputs alone (goal R² .9)", trials, ["inputs"], 0.0, 1.0)
    line("recurrence and unknown smooth inputs", trials, ["both"], 1.6, 1.0)
    line(
        "two conditions of four trials, small inputs (goal: undecided)", trials, ["undecided"], 0.0, 0.1,
        n_conditions=2, n_trials=4,
    )  # fmt: skip


SECTIONS = {"inferred": inferred_means, "inferred_trials": inferred_trials, "inferred_own": inferred_own}
