"""The paper's trained networks come back from their noisy activity: `pytest -m slow tests/test_teachers.py -s`."""

from time import perf_counter

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.model.r2 import r_squared
from nwb_lint.model.rnn import Network, drives, forward
from nwb_lint.tasks.generate import TASKS

TRAIN, TEST = 800, 200
PRIVATE_NOISE = {"dm": 0.05, "wm": 0.01, "cdm": 0.05, "dms": 0.05}  # sd per step, not scaled by alpha


def recorded(task, weights, observation, seed=1):
    """Activity of a teacher on its task with private and observation noise, and the noise-free truth."""
    u = TASKS[task](TRAIN + TEST, seed)["input"].values.astype(np.float32)
    m, n, w, alpha = weights["m"], weights["n"], weights["input_weights"], float(weights["alpha"])
    rng = np.random.default_rng([seed, 2])
    x = np.zeros((*u.shape[:2], len(m)), np.float32)
    for t in range(u.shape[1] - 1):
        recurrent = (np.tanh(x[:, t]) @ n / len(m)) @ m.T
        x[:, t + 1] = (1 - alpha) * x[:, t] + alpha * (recurrent + u[:, t] @ w.T)
        x[:, t + 1] += PRIVATE_NOISE[task] * rng.standard_normal(x[:, t].shape, dtype=np.float32)
    if observation:
        x += observation * x.std() * rng.standard_normal(x.shape, dtype=np.float32)
    coords = {"time": 0.02 * np.arange(u.shape[1]), "neuron": [f"n{k}" for k in range(len(m))]}
    activity = xr.Dataset({"activity": (("condition", "time", "neuron"), x)}, coords, {"bin_s": 0.02})
    activity["input"] = ("condition", "time", "input"), u
    truth, _ = forward(Network(m, n, w), drives(u[TRAIN:], alpha, bias=False, initial=False), alpha)
    return activity, np.tanh(truth), 0.02 / alpha


def effective(m, n, w):
    basis, _ = np.linalg.qr(np.column_stack([m, w]))
    return m @ (basis @ (basis.T @ n)).T / len(m)


@pytest.mark.slow
@pytest.mark.parametrize("observation", [0.0, 1.0])
@pytest.mark.parametrize("task", ["dm", "wm", "cdm", "dms"])
def test_teacher_comes_back(task, observation, shared_data):
    with np.load(shared_data / "teachers" / f"{task}.npz") as stored:
        weights = dict(stored)
    activity, truth, tau_s = recorded(task, weights, observation)
    start = perf_counter()
    fit = nl.fit_lint(activity, rank=weights["m"].shape[1], tau_s=tau_s, holdout=np.arange(TRAIN, TRAIN + TEST))
    seconds = perf_counter() - start
    rates = np.tanh(fit["activity_pred"].values[TRAIN:])
    r2, _ = r_squared(truth, rates, truth.mean(axis=(0, 1)))
    true = effective(weights["m"], weights["n"], weights["input_weights"]).ravel()
    found = nl.connectivity(fit)["connectivity"].values.ravel()
    raw = nl.connectivity(fit, effective=False)["connectivity"].values.ravel()
    ecc = np.corrcoef(true, found)[0, 1]
    cc = np.corrcoef((weights["m"] @ weights["n"].T).ravel(), raw)[0, 1]
    stages = ", ".join(fit["stage"].values)
    print(f"\n{task} noise {observation:g}: R2 {r2:.5f} ECC {ecc:.5f} CC {cc:.3f} {seconds:.1f} s ({stages})")
    assert r2 >= 0.999
    assert ecc >= (0.99 if observation else 0.999)
