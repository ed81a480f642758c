"""m that drifts over the trials of a session: whether the drift is recovered, and constancy not mistaken for drift."""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from sections import run_sections, workers

import nwb_lint as nl
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.learning.steps import observation_step, reference_level
from nwb_lint.statespace.system import Batches

BIN_S, TAU_S, N_TIMES, N_UNITS = 0.02, 0.1, 50, 50
RANK, BASE_HZ = 2, 8.0
FIT = {"rank": RANK, "tau_s": TAU_S, "hidden": 0}
SEEDS_OF_DRIFT, SEEDS_OF_CONSTANCY = range(120, 130), range(220, 240)
GOAL_R2 = 0.9


def learning_curves(n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """Two slow courses over trials, (course, trial), of mean 0: a sigmoid at a random place, and a slow wave."""
    place = (np.arange(n_trials) + 0.5) / n_trials
    steep, middle, phase = rng.uniform(6, 15), rng.uniform(0.3, 0.7), rng.uniform(0, 2 * np.pi)
    both = np.stack([1 / (1 + np.exp(-steep * (place - middle))), 0.5 * np.sin(1.5 * np.pi * place + phase)])
    return both - both.mean(axis=1, keepdims=True)


def simulated(seed: int, n_trials: int = 300, size: float = 1.0) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Spikes of a network of rank 2 with noise and two inputs, its m (trial, neuron, rank), and its latents.

    m changes by ``size`` times a random direction for each of two slow courses, and the recurrence with it.
    """
    rng, alpha = np.random.default_rng(seed), BIN_S / TAU_S
    m = rng.standard_normal((N_UNITS, RANK))
    weights = 0.5 * rng.standard_normal((N_UNITS, 2))
    turn = np.array([[1.6, 0.5], [-0.5, 1.6]])
    n = m @ turn + 0.6 * weights[:, :RANK] + 0.5 * rng.standard_normal(m.shape)
    courses = learning_curves(n_trials, rng)
    each = m + size * np.einsum("ck,cir->kir", courses, rng.standard_normal((2, N_UNITS, RANK)))
    amplitude = rng.choice([-1.0, 0.0, 1.0], (n_trials, 2))
    clock = BIN_S * (np.arange(N_TIMES) + 0.5)
    u = amplitude[:, None] * ((clock > 0.2) & (clock < 0.6))[None, :, None] * 2.0
    kappa, v, log_rate, latents = 0.3 * rng.standard_normal((n_trials, RANK)), np.zeros((n_trials, 2)), [], []
    for t in range(N_TIMES):
        x = np.einsum("kir,kr->ki", each, kappa) + v @ weights.T
        log_rate.append(x)
        latents.append(kappa)
        kappa = (1 - alpha) * kappa + alpha * np.tanh(x) @ n / N_UNITS + 0.12 * rng.standard_normal(kappa.shape)
        v = (1 - alpha) * v + alpha * u[:, t]
    x = np.stack(log_rate, axis=1)
    count = rng.poisson(np.minimum(BASE_HZ * BIN_S * np.exp(x - 0.3), 20)).astype(np.uint16)
    coords = {"trial": np.arange(n_trials), "time": clock, "neuron": [f"n{k:03d}" for k in range(N_UNITS)]}
    data = {
        "count": (("trial", "time", "neuron"), count),
        "u": (("trial", "time", "input"), u.astype(np.float32)),
    }
    return xr.Dataset(data, coords | {"input": ["a", "b"]}, {"bin_s": BIN_S}), each, np.stack(latents, axis=1)


def recovered(fit: xr.Dataset, true: np.ndarray) -> float:
    """R² of m(k) minus its mean over trials, in the coordinates of the true latents, which the mean m gives."""
    found = (fit["m"] + (fit["m_drift"] * fit["drift_basis"]).sum("basis")).transpose("condition", "neuron", "rank")
    return _r2(found.values[:, :N_UNITS], true)


def _r2(found: np.ndarray, true: np.ndarray) -> float:
    mean = found.mean(axis=0)
    to = np.linalg.lstsq(mean, true.mean(axis=0), rcond=None)[0]
    change, wanted = (found - mean) @ to, true - true.mean(axis=0)
    return 1 - float(((wanted - change) ** 2).sum() / (wanted**2).sum())


def with_true_latents(fit: xr.Dataset, trials: xr.Dataset, kappa: np.ndarray, true: np.ndarray) -> float:
    """The same for the regression of the spikes on the true latents: what no fit can exceed by much."""
    system, arrays = system_of(fit), trials_for(fit, trials)
    found = observation_step(system, Batches(arrays), kappa[None], reference_level(arrays, poisson=True), 20)
    assert found.drift is not None
    return _r2(found.m + np.einsum("kb,irb->kir", fit["drift_basis"].values.T, found.drift), true)


def _drift_of(seed: int) -> tuple[int, float, float]:
    """The number of functions that is chosen, R² of the drift, and R² with the true latents."""
    trials, true, kappa = simulated(seed)
    chosen = int(nl.compare_drift(trials, drifts=(0, 3), folds=2, max_iter=15, **FIT).attrs["drift"])
    if not chosen:
        return 0, 0.0, 0.0
    fit = nl.fit_trials(trials, drift=chosen, **FIT)
    return chosen, recovered(fit, true), with_true_latents(fit, trials, kappa, true)


def drift() -> None:
    """m that drifts over 300 trials: R² of m(k) minus its mean, where drift is chosen."""
    with workers() as pool:
        found = list(pool.map(_drift_of, SEEDS_OF_DRIFT))
    for seed, (chosen, score, top) in zip(SEEDS_OF_DRIFT, found, strict=True):
        print(
            f"   seed {seed}: {chosen} functions chosen, R² of the drift {score:.3f}, with the true latents {top:.3f}"
        )
    scores, right = np.array([one[1] for one in found]), sum(one[0] > 0 for one in found)
    print(f"   R² of the drift: median {np.median(scores):.3f}, smallest {scores.min():.3f} (goal {GOAL_R2})")
    print(f"   {(scores >= GOAL_R2).sum()} of {len(scores)} at the goal; drift found in {right} (all)", flush=True)


def _constancy_of(n_trials: int, seed: int) -> int:
    """The number of functions that is chosen for a constant m."""
    trials = simulated(seed, n_trials, 0.0)[0]
    return int(nl.compare_drift(trials, drifts=(0, 1, 2), folds=2, max_iter=15, **FIT).attrs["drift"])


def constancy() -> None:
    """A constant m in 120 trials: how often it is mistaken for drift."""
    with workers() as pool:
        chosen = np.array(list(pool.map(partial(_constancy_of, 120), SEEDS_OF_CONSTANCY)))
    print(f"   functions chosen: {chosen.tolist()}")
    print(f"   constancy mistaken for drift in {(chosen > 0).sum()} of {len(chosen)} (at most 1)", flush=True)


SECTIONS = {"drift": drift, "constancy": constancy}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
