"""m that drifts over the trials of a session: whether the drift is recovered, and constancy not mistaken for drift."""

from __future__ import annotations

import numpy as np
import xarray as xr

import nwb_lint as nl

BIN_S, TAU_S, N_TIMES, N_UNITS = 0.02, 0.1, 50, 50
RANK, BASE_HZ = 2, 8.0
FIT = {"rank": RANK, "tau_s": TAU_S, "hidden": 0}
SEEDS_OF_DRIFT, SEEDS_OF_CONSTANCY = range(110, 115), range(200, 220)


def learning_curves(n_trials: int, rng: np.random.Generator) -> np.ndarray:
    """Two slow courses over trials, (course, trial), of mean 0: a sigmoid at a random place, and a slow wave."""
    place = (np.arange(n_trials) + 0.5) / n_trials
    steep, middle, phase = rng.uniform(6, 15), rng.uniform(0.3, 0.7), rng.uniform(0, 2 * np.pi)
    both = np.stack([1 / (1 + np.exp(-steep * (place - middle))), 0.5 * np.sin(1.5 * np.pi * place + phase)])
    return both - both.mean(axis=1, keepdims=True)


def simulated(seed: int, n_trials: int = 300, size: float = 1.0) -> tuple[xr.Dataset, np.ndarray]:
    """Spikes of a network of rank 2 with noise and two inputs, and its m (trial, neuron, rank).

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
    kappa, v, log_rate = 0.3 * rng.standard_normal((n_trials, RANK)), np.zeros((n_trials, 2)), []
    for t in range(N_TIMES):
        x = np.einsum("kir,kr->ki", each, kappa) + v @ weights.T
        log_rate.append(x)
        kappa = (1 - alpha) * kappa + alpha * np.tanh(x) @ n / N_UNITS + 0.12 * rng.standard_normal(kappa.shape)
        v = (1 - alpha) * v + alpha * u[:, t]
    x = np.stack(log_rate, axis=1)
    count = rng.poisson(np.minimum(BASE_HZ * BIN_S * np.exp(x - 0.3), 20)).astype(np.uint16)
    coords = {"trial": np.arange(n_trials), "time": clock, "neuron": [f"n{k:03d}" for k in range(N_UNITS)]}
    data = {
        "count": (("trial", "time", "neuron"), count),
        "u": (("trial", "time", "input"), u.astype(np.float32)),
    }
    return xr.Dataset(data, coords | {"input": ["a", "b"]}, {"bin_s": BIN_S}), each


def recovered(fit: xr.Dataset, true: np.ndarray) -> float:
    """R² of m(k) minus its mean over trials, in the coordinates of the true latents, which the mean m gives."""
    found = (fit["m"] + (fit["m_drift"] * fit["drift_basis"]).sum("basis")).transpose("condition", "neuron", "rank")
    found = found.values[:, :N_UNITS]
    mean = found.mean(axis=0)
    to = np.linalg.lstsq(mean, true.mean(axis=0), rcond=None)[0]
    change, wanted = (found - mean) @ to, true - true.mean(axis=0)
    return 1 - float(((wanted - change) ** 2).sum() / (wanted**2).sum())


def drift() -> None:
    """m that drifts over 300 trials: R² of m(k) minus its mean, where drift is chosen."""
    scores: list[float] = []
    right = 0
    for seed in SEEDS_OF_DRIFT:
        trials, true = simulated(seed)
        chosen = int(nl.compare_drift(trials, drifts=(0, 3), folds=2, max_iter=15, **FIT).attrs["drift"])
        right += chosen > 0
        scores.append(recovered(nl.fit_trials(trials, drift=chosen, **FIT), true) if chosen else 0.0)
        print(f"   seed {seed}: {chosen} functions chosen, R² of the drift {scores[-1]:.3f}", flush=True)
    print(f"   R² of the drift: median {np.median(scores):.3f}, smallest {min(scores):.3f} (goal .9)")
    print(f"   drift found in {right} of {len(scores)} (all)", flush=True)


def constancy() -> None:
    """A constant m in 120 trials: how often it is mistaken for drift."""
    wrong = 0
    for seed in SEEDS_OF_CONSTANCY:
        trials = simulated(seed, 120, 0.0)[0]
        chosen = int(nl.compare_drift(trials, drifts=(0, 1, 2), folds=2, max_iter=15, **FIT).attrs["drift"])
        wrong += chosen > 0
        print(f"   seed {seed}: {chosen} functions chosen", flush=True)
    print(f"   constancy mistaken for drift in {wrong} of {len(SEEDS_OF_CONSTANCY)} (at most 1)")


SECTIONS = {"drift": drift, "constancy": constancy}
