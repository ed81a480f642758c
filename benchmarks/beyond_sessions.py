"""Five sessions of one animal: the distance of the dynamics from the first, found and true."""

from __future__ import annotations

import numpy as np
import xarray as xr

import nwb_lint as nl

BIN_S, TAU_S, N_TIMES, RANK, BASE_HZ = 0.02, 0.1, 50, 2, 10.0
N_UNITS, N_RECORDED, N_SHARED, N_SESSIONS = 200, 80, 40, 5
SEEDS = range(300, 302)


class Animal:
    """A network whose recurrence turns by ``change`` a session, and what was recorded of it."""

    def __init__(self, seed: int, change: float, n_trials: int = 80) -> None:
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
        return xr.Dataset(data, coords | {"input": ["a", "b"]}, {"bin_s": BIN_S})

    def distances(self, reference: xr.Dataset) -> np.ndarray:
        """The true distances, in the coordinates of the fit of the first session."""
        units = [int(str(name)[1:]) for name in reference["neuron"].values]
        to = np.linalg.lstsq(self.m[units], reference["m"].values, rcond=None)[0]  # m_fit = m_true to
        moved = [np.linalg.inv(to) @ (one - self.recurrence[0]) @ to for one in self.recurrence]
        return np.array([np.linalg.norm(one) for one in moved])


def sessions() -> None:
    """Five sessions of 80 units, 40 of them shared: distance of the dynamics from day 1, with and without a change."""
    options = {"rank": RANK, "tau_s": TAU_S, "hidden": 0, "max_iter": 20}
    for change in (0.25, 0.0):
        for seed in SEEDS:
            animal = Animal(seed, change)
            fits = {name: nl.fit_trials(trials, **options) for name, trials in animal.trials.items()}
            found, true = nl.align_fits(fits)["distance"].values, animal.distances(fits["day 1"])
            shown = " ".join(f"{a:.2f}/{b:.2f}" for a, b in zip(found[1:], true[1:], strict=True))
            print(f"   change {change}, seed {seed}: distance found/true on days 2 to 5 {shown}", flush=True)


SECTIONS = {"sessions": sessions}
