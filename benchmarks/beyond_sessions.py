"""Two sessions of one animal: are their dynamics called different where they are, and only there?"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from sections import run_sections, workers

import nwb_lint as nl

BIN_S, TAU_S, N_TIMES, RANK, BASE_HZ = 0.02, 0.1, 50, 2, 10.0
N_UNITS, N_RECORDED, N_SHARED, N_SESSIONS, N_TRIALS = 200, 60, 40, 2, 80
CHANGE = 0.5  # of the recurrence, relative to a turn by which it stops to hold
SEEDS = range(400, 410)
FIT = {"rank": RANK, "tau_s": TAU_S, "hidden": 0, "max_iter": 20}
LEVEL, SPLITS = 0.05, 5


class Animal:
    """A network whose recurrence turns by ``change`` a session, and what was recorded of it."""

    def __init__(self, seed: int, change: float, n_trials: int = N_TRIALS) -> None:
        self.rng, self.n_trials = np.random.default_rng(seed), n_trials
        self.m = self.rng.standard_normal((N_UNITS, RANK))
        self.weights = 0.5 * self.rng.standard_normal((N_UNITS, 2))
        start = np.array([[1.6, 0.4], [-0.4, 1.6]])
        toward = np.array([[-0.3, 0.6], [-0.6, -0.3]])
        rest = 0.6 * self.weights + 0.5 * self.rng.standard_normal(self.m.shape)
        self.n = [self.m @ (start + change * k * toward) + rest for k in range(N_SESSIONS)]
        self.recurrence: list[np.ndarray] = []
        self.trials = {f"day {k + 1}": self._session(k) for k in range(N_SESSIONS)}

    def _session(self, k: int) -> xr.Dataset:
        rng, alpha = self.rng, BIN_S / TAU_S
        clock = BIN_S * (np.arange(N_TIMES) + 0.5)
        amplitude = rng.choice([-1.0, 0.0, 1.0], (self.n_trials, 2))
        u = 2.0 * amplitude[:, None] * ((clock > 0.2) & (clock < 0.6))[None, :, None]
        kappa, v, path = 0.3 * rng.standard_normal((self.n_trials, RANK)), np.zeros((self.n_trials, 2)), []
        for t in range(N_TIMES):
            x = kappa @ self.m.T + v @ self.weights.T
            path.append(x)
            kappa = (1 - alpha) * kappa + alpha * np.tanh(x) @ self.n[k] / N_UNITS
            kappa = kappa + 0.12 * rng.standard_normal(kappa.shape)
            v = (1 - alpha) * v + alpha * u[:, t]
        x = np.stack(path, axis=1)
        slope = (1 - np.tanh(x) ** 2).mean(axis=(0, 1))
        self.recurrence.append(self.n[k].T @ (slope[:, None] * self.m) / N_UNITS)
        first = N_SHARED + k * (N_RECORDED - N_SHARED) % (N_UNITS - N_SHARED)
        units = np.r_[:N_SHARED, first : first + N_RECORDED - N_SHARED] % N_UNITS
        count = rng.poisson(np.minimum(BASE_HZ * BIN_S * np.exp(x[..., units] - 0.3), 20)).astype(np.uint16)
        data = {
            "count": (("trial", "time", "neuron"), count),
            "u": (("trial", "time", "input"), u.astype(np.float32)),
        }
        coords = {"trial": np.arange(self.n_trials), "time": clock, "neuron": [f"n{i:03d}" for i in units]}
        coords["stimulus"] = "trial", [f"{a:+.0f}{b:+.0f}" for a, b in amplitude]
        return xr.Dataset(data, coords | {"input": ["a", "b"]}, {"bin_s": BIN_S})

    def distances(self, reference: xr.Dataset) -> np.ndarray:
        """The true distances, in the coordinates of the fit of the first session."""
        units = [int(str(name)[1:]) for name in reference["neuron"].values]
        to = np.linalg.lstsq(self.m[units], reference["m"].values, rcond=None)[0]  # m_fit = m_true to
        moved = [np.linalg.inv(to) @ (one - self.recurrence[0]) @ to for one in self.recurrence]
        return np.array([np.linalg.norm(one) for one in moved])


def _tested(change: float, seed: int) -> tuple[float, float, float, float, float, float]:
    """The true distance, the corrected one and its interval, and p of the recurrence and of the latents."""
    animal = Animal(seed, change)
    fits = {name: nl.fit_trials(trials, **FIT) for name, trials in animal.trials.items()}
    pairs = {name: (fit, animal.trials[name]) for name, fit in fits.items()}
    found = nl.align_fits(pairs, column="stimulus", splits=SPLITS, max_iter=FIT["max_iter"]).isel(session_name=1)
    names = ("distance_corrected", "distance_low", "distance_high", "distance_p_value", "latent_distance_p_value")
    return float(animal.distances(fits["day 1"])[1]), *(float(found[name]) for name in names)


def sessions() -> None:
    """Two sessions, of one network and of a changed one: what align_fits says of their dynamics"""
    for change in (0.0, CHANGE):
        with workers() as pool:
            each = np.array(list(pool.map(partial(_tested, change), SEEDS)))
        for seed, (true, found, low, high, p, of_latents) in zip(SEEDS, each, strict=True):
            print(
                f"   change {change}, seed {seed}: distance {found:.2f} ({low:.2f} to {high:.2f}), true {true:.2f}; p "
                f"{p:.3f}, of the latents {of_latents:.3f}",
                flush=True,
            )
        different, n = int((each[:, 4] < LEVEL).sum()), len(each)
        inside = int(((each[:, 2] <= each[:, 0]) & (each[:, 0] <= each[:, 3])).sum())
        goal = "at least 9 of 10" if change else "at most 1 of 10"
        print(
            f"   change {change}: called different {different} of {n} (goal {goal}), by the latents "
            f"{int((each[:, 5] < LEVEL).sum())}; intervals of 90 % hold the true distance in {inside} of {n}",
            flush=True,
        )


SECTIONS = {"sessions": sessions}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
