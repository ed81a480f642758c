"""Fits on a GPU beside the same fits on the CPU: seconds, their ratio, and how far the results agree.

`python benchmarks/gpu.py` (about an hour, most of it on the CPU) fits

- 2,000 units × 1,000 trials × 150 bins of spikes with `fit_trials`, rank 4, two iterations of expectation-maximization;
- 2,000 neurons × 1,000 conditions × 150 steps with `fit_lint`, rank 2, whose gradient alone uses the device,

on the CPU and on the device, in one run. The goal is a fifth of the time, and results that agree to 1e-4. Without a GPU
it says so and stops. `--engine` compares the same code in torch and numpy on the CPU, on a small case. A smaller case:
`--units 200 --trials 100`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from scale import TAU_S, activity_of
from trials import as_trials, run

import nwb_lint as nl
from nwb_lint.parallel._torch import TorchEngine
from nwb_lint.parallel.arrays import NUMPY
from nwb_lint.statespace.data import arrays_of
from nwb_lint.statespace.learning.iterations import learn
from nwb_lint.statespace.learning.starts import first_latents, first_system
from nwb_lint.statespace.learning.steps import How

RANK, BIN_S, TRIALS_TAU_S = 4, 0.02, 0.2
KINDS = {"observation": "poisson", "link": "exp", "nonlinearity": "tanh"}


def spikes(n: int, n_trials: int, n_times: int) -> xr.Dataset:
    """Trials of a stochastic network of rank 4, at about 10 Hz."""
    rng = np.random.default_rng(100)
    m = rng.standard_normal((n, RANK))
    kappa = run(m, 1.5 * m, BIN_S / TRIALS_TAU_S, 0.1, rng.standard_normal((n_trials, RANK)), n_times, rng)
    count = np.empty((n_trials, n_times, n), np.uint16)
    for k in range(n_trials):
        count[k] = rng.poisson(0.2 * np.exp(0.3 * kappa[k] @ m.T))
    return as_trials(count, BIN_S)


def timed(work: Callable[[], xr.Dataset]) -> tuple[float, xr.Dataset]:
    """Seconds and result."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def side_by_side(name: str, fit: Callable[[str], xr.Dataset], device: str, variables: tuple[str, ...]) -> None:
    """Fit on the CPU and on the device, and print a row."""
    fit(device)  # a GPU compiles and loads its functions at the first call
    there, two = timed(lambda: fit(device))
    here, one = timed(lambda: fit("cpu"))
    off = max(float(np.abs(two[v] - one[v]).max() / np.abs(one[v]).max()) for v in variables)
    print(f"| {name} | {here:.1f} | {there:.1f} | {here / there:.1f} | {off:.1e} |", flush=True)


def compare_trials(device: str, n: int, n_trials: int, n_times: int) -> None:
    """`fit_trials`, two iterations."""
    trials = spikes(n, n_trials, n_times)
    how = {"rank": RANK, "tau_s": TRIALS_TAU_S, "hidden": 0, "max_iter": 2, "tol": 0.0}
    side_by_side("fit_trials", lambda one: nl.fit_trials(trials, device=one, **how), device, ("latent", "log_rate"))


def compare_conditions(device: str, n: int, n_conditions: int, n_times: int) -> None:
    """`fit_lint`."""
    activity, _ = activity_of(n, n_conditions, n_times, 2)
    names = ("activity_pred", "r2")
    side_by_side("fit_lint", lambda one: nl.fit_lint(activity, rank=2, tau_s=TAU_S, device=one), device, names)


def engines(n: int, n_trials: int, n_times: int) -> None:
    """Four iterations in numpy and in torch, both on the CPU."""
    trials = arrays_of(spikes(n, n_trials, n_times), "count", BIN_S / TRIALS_TAU_S)
    for hidden in (0, 100):
        first = first_system(trials, RANK, hidden, BIN_S / TRIALS_TAU_S, 0, 1, KINDS)
        kappa = first_latents(trials, RANK, 5.0, poisson=True)
        seconds, found = [], []
        for engine in (NUMPY, TorchEngine("cpu")):
            start = time.perf_counter()
            state, _ = learn(first, trials, kappa, seed=0, max_iter=4, tolerance=0.0, how=How(), engine=engine)
            seconds.append(time.perf_counter() - start)
            found.append(state.mode)
        off = np.abs(found[1] - found[0]).max() / np.abs(found[0]).max()
        print(
            f"{n} units, {n_trials} trials, {n_times} bins, {hidden} hidden units: numpy {seconds[0]:.1f} s, torch on "
            f"the CPU {seconds[1]:.1f} s; latents differ by {off:.1e} of the largest",
            flush=True,
        )


def main() -> None:
    """Print a row for each kind of fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--bins", type=int, default=150)
    parser.add_argument("--engine", action="store_true", help="numpy and torch on the CPU, 100 units × 60 trials")
    given = parser.parse_args()
    if given.engine:
        engines(100, 60, given.bins)
        return
    if not torch.cuda.is_available():
        print("torch finds no GPU here. Nothing is compared. --engine compares numpy and torch on the CPU.")
        return
    print(f"{torch.cuda.get_device_name(given.device)}; torch {torch.__version__}; {torch.get_num_threads()} threads")
    size = f"{given.units} units, {given.trials} trials or conditions, {given.bins} bins"
    print(f"| {size} | CPU (s) | {given.device} (s) | ratio | largest difference |\n|---|---|---|---|---|")
    compare_trials(given.device, given.units, given.trials, given.bins)
    compare_conditions(given.device, given.units, given.trials, given.bins)


if __name__ == "__main__":
    main()
