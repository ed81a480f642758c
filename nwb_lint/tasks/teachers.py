"""Trained networks stored as npz files → their noisy activity on their task, as an activity to fit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.tasks.generate import TASKS

Array = np.ndarray

# sd per step of the noise inside the dynamics, not scaled by alpha; the working-memory network bears less
PRIVATE_NOISE = {"dm": 0.05, "wm": 0.01, "cdm": 0.05, "dms": 0.05}


class Teacher(NamedTuple):
    """A known network: m, n (neuron, rank), input_weights (neuron, input), alpha, and its task."""

    m: Array
    n: Array
    input_weights: Array
    alpha: float
    task: str

    def run(self, u: Array, private_noise: float = 0.0, seed: int = 0) -> Array:
        """Activation (trial, time, neuron) float32 from x[0] = 0 by the plain recurrence.

        x[t+1] = (1 - alpha) x[t] + alpha (m n' tanh(x[t]) / N + I u[t]) + private_noise xi[t], xi ~ N(0, 1).
        """
        rng = np.random.default_rng([seed, 2])
        x = np.zeros((*u.shape[:2], len(self.m)), np.float32)
        for t in range(u.shape[1] - 1):
            x[:, t + 1] = np.tanh(x[:, t]) @ self.n / len(self.m) @ self.m.T + u[:, t] @ self.input_weights.T
            x[:, t + 1] *= self.alpha
            x[:, t + 1] += (1 - self.alpha) * x[:, t]
            if private_noise:
                x[:, t + 1] += private_noise * rng.standard_normal(x[:, t].shape, dtype=np.float32)
        return x

    def effective_connectivity(self) -> Array:
        """m (P n)' / N, P the projector on span(m, I): (neuron, neuron_from)."""
        basis, _ = np.linalg.qr(np.column_stack([self.m, self.input_weights]))
        return self.m @ (basis @ (basis.T @ self.n)).T / len(self.m)


def load_teacher(path: str | Path) -> Teacher:
    """The network in an npz file (m, n, input_weights, alpha) named after its task: dm, wm, cdm or dms.

    Raises: ContractError for another name or a file without these arrays.
    """
    path = Path(path)
    if path.stem not in TASKS:
        raise ContractError(f"{path.name} is not named after a task; it needs to be one of {', '.join(TASKS)}.")
    with np.load(path) as stored:
        missing = [name for name in ("m", "n", "input_weights", "alpha") if name not in stored]
        if missing:
            raise ContractError(f"{path} lacks {', '.join(missing)}; it has {', '.join(stored.files)}.")
        return Teacher(stored["m"], stored["n"], stored["input_weights"], float(stored["alpha"]), path.stem)


def simulate_teacher(
    path: str | Path, n_trials: int, private_noise: float, observation_noise: float, seed: int
) -> tuple[Teacher, xr.Dataset]:
    """A stored network and its activity on trials of its own task.

    activity = x + observation_noise · sd(x) · N(0, 1), with x run by `Teacher.run`; every trial is a condition, and
    the noise-free truth of some is ``teacher.run(activity["input"].values[some])``.

    | name | dims | unit | dtype |
    |---|---|---|---|
    | activity | condition, time, neuron | 1 | float32 |
    | input | condition, time, input | 1 | float32, with the task's input noise |

    Raises: ContractError where the file is not a teacher or ``n_trials`` is below 1.

    Source: science.md, "Tasks"; Valente, Pillow & Ostojic, NeurIPS 2022, section 3.1.
    """
    teacher = load_teacher(path)
    trials = TASKS[teacher.task](n_trials, seed)
    u = trials["input"].values
    x = teacher.run(u, private_noise, seed)
    if observation_noise:
        rng, sd = np.random.default_rng([seed, 3]), observation_noise * float(x.std())
        for one in x:  # trial by trial: no second copy of a large array
            one += np.float32(sd) * rng.standard_normal(one.shape, dtype=np.float32)
    step = float(trials.attrs["dt_s"])
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x, {"units": "1"})},
        coords={
            "condition": [f"trial {k}" for k in range(n_trials)],
            "time": ("time", trials["time"].values, {"units": "s"}),
            "neuron": [str(k) for k in range(x.shape[2])],
            "input_name": trials["input_name"],
        },
        attrs={"bin_s": step},
    )
    activity["input"] = ("condition", "time", "input"), u
    return teacher, activity
