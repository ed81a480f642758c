"""Animals that were simulated from one network, and from different ones: are their dynamics called alike?

Each network has rank 2, 600 neurons, and overlaps that are drawn: its latents decay, hold, turn, or have two stable
states. The first of two animals records neurons of it; the second records others, more noise, and a rotation of them,
so that none of its channels is a neuron.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr
from scipy.stats import ortho_group
from sections import run_sections, workers

import nwb_lint as nl

NETWORKS, FIRST_SEED = 10, 1000  # tuned on seeds 0 to 3
N, RANK, INPUTS, LEVELS = 600, 2, 2, 6
DT_S, TAU_S, STEPS, TRIALS, PRIVATE = 0.02, 0.1, 75, 10, 0.05
RECORDED, NOISE = (80, 40), (0.3, 1.0)  # neurons, and sd of the noise of a trial relative to that of x, of each animal
FIT = {"rank": RANK, "tau_s": TAU_S, "hidden": 100, "method": "regression"}
GOAL = 0.05


def network(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """m, n and input weights of a network with random overlaps."""
    rng = np.random.default_rng([seed, 1])
    m, weights = rng.standard_normal((N, RANK)), rng.standard_normal((N, INPUTS))
    strength, turn = rng.uniform(0.3, 1.6, RANK), rng.uniform(0.2, 1.2)
    turning = np.array([[strength[0], -turn], [turn, strength[0]]])
    overlap = turning if rng.random() < 0.5 else np.diag(strength)
    skew = np.eye(RANK) + 0.4 * rng.standard_normal((RANK, RANK))
    overlap = skew @ overlap @ np.linalg.inv(skew)
    of_inputs = rng.uniform(0.4, 1.2, (RANK, INPUTS)) * rng.choice([-1, 1], (RANK, INPUTS))
    n = m @ overlap.T + weights @ of_inputs.T + 0.5 * rng.standard_normal((N, RANK))
    return m, n, weights


def stimuli() -> np.ndarray:
    """Inputs (condition, time, input): all pairs of levels, for 0.8 s."""
    levels = np.linspace(-1, 1, LEVELS)
    u = np.zeros((LEVELS**2, STEPS, INPUTS), np.float32)
    u[:, 5:45] = np.array([(a, b) for a in levels for b in levels])[:, None]
    return u


def animal(seed: int, which: int) -> xr.Dataset:
    """Means over trials of what an animal records."""
    m, n, weights = (one.astype(np.float32) for one in network(seed))
    rng, alpha, u = np.random.default_rng([seed, 2, which]), np.float32(DT_S / TAU_S), stimuli()
    kept = rng.choice(N, RECORDED[which], replace=False)
    each = np.repeat(u, TRIALS, axis=0)
    x, seen = np.zeros((len(each), N), np.float32), np.empty((len(each), STEPS, len(kept)), np.float32)
    for t in range(STEPS):
        seen[:, t] = x[:, kept]
        x = (1 - alpha) * x + alpha * (np.tanh(x) @ n / N @ m.T + each[:, t] @ weights.T)
        x += np.float32(PRIVATE) * rng.standard_normal(x.shape, dtype=np.float32)
    seen += np.float32(NOISE[which] * seen.std()) * rng.standard_normal(seen.shape, dtype=np.float32)
    means = seen.reshape(len(u), TRIALS, STEPS, -1).mean(axis=1)
    if which:
        means = means @ ortho_group.rvs(len(kept), random_state=seed).astype(np.float32)
    coords = {
        "condition": [f"c{k}" for k in range(len(u))], "time": DT_S * np.arange(STEPS),
        "neuron": [f"n{k}" for k in range(len(kept))], "input": [f"input {k + 1}" for k in range(INPUTS)],
    }  # fmt: skip
    dims = ("condition", "time", "neuron")
    return xr.Dataset({"activity": (dims, means), "u": (("condition", "time", "input"), u)}, coords, {"bin_s": DT_S})


def shares(found: xr.Dataset) -> dict[str, dict[str, float]]:
    """Shares of the calls, of pairs of one network and of different ones."""
    seeds = np.array([name.partition(" ")[0] for name in found["system"].values])
    upper = np.triu(np.ones((len(seeds),) * 2, bool), 1)
    same, call = seeds[:, None] == seeds, found["call"].values
    return {
        name: {word: float((call[pairs & upper] == word).mean()) for word in ("alike", "different", "cannot tell")}
        for name, pairs in (("one network", same), ("different networks", ~same))
    }


def dynamics() -> None:
    """Two animals of one network, and of different networks: what compare_dynamics calls them"""
    seeds = range(FIRST_SEED, FIRST_SEED + NETWORKS)
    systems = {f"{seed} {which}": animal(seed, which) for seed in seeds for which in (0, 1)}
    with TemporaryDirectory() as folder, workers() as pool:  # both measures see the same fits
        for measure in ("prediction", "dsa"):
            found = shares(nl.compare_dynamics(systems, measure=measure, cache_dir=folder, executor=pool, **FIT))
            for name, wrong in (("one network", "different"), ("different networks", "alike")):
                said = ", ".join(f"{word} {share:.3f}" for word, share in found[name].items())
                verdict = "ok" if found[name][wrong] <= GOAL else "MISSED"
                print(f"{measure}, animals of {name}: {said} (goal: {wrong} at most {GOAL}): {verdict}", flush=True)


SECTIONS = {"dynamics": dynamics}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
