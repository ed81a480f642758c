"""How the cost of a fit grows: a whole fit of 10,000 neurons, and exponents in neurons, conditions and time.

`python benchmarks/scale.py` (two minutes on two cores). Prints

- seconds and peak memory of `fit_lint`, method "auto", on N = 10,000 neurons, 72 conditions, 150 steps, rank 2, in a
  process of its own (`resource.getrusage`: data, imports and scoring included), with the held-out R² of the rates
  tanh(x) against the noise-free truth;
- CPU seconds of one thread (what else runs on the machine matters less then), and exponents by least squares on their
  logarithms, of one loss and gradient at rank 1, of the closed form with sketched features, and of their peer, a bare
  `tanh` over the same array (torch); each the fastest of several runs.

The whole fit uses as many threads as `OMP_NUM_THREADS` says.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter, process_time

import numpy as np
import xarray as xr

from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.scores import r_squared

BIN_S, TAU_S = 0.02, 0.1
ALPHA, PRIVATE_NOISE, OBSERVATION_NOISE = BIN_S / TAU_S, 0.05, 0.3
Array = np.ndarray


def network_of(n_neurons: int, rank: int, seed: int = 0) -> Network:
    """A random network whose latents hold and mix their inputs."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((n_neurons, rank)), rng.standard_normal((n_neurons, 4))
    n = 1.3 * m + w[:, :rank] + 0.5 * rng.standard_normal((n_neurons, rank))
    return Network(m, n, w)


def inputs_of(n_conditions: int, n_times: int) -> Array:
    """Two contexts of six by six coherences, as often as conditions ask: u (condition, time, 4)."""
    grid = np.array([-3, -2, -1, 1, 2, 3]) / 6
    k = np.arange(n_conditions)
    u = np.zeros((n_conditions, n_times, 4), np.float32)
    for channel, value in enumerate([grid[k % 6], grid[k // 6 % 6], k // 36 % 2, 1 - k // 36 % 2]):
        u[:, n_times // 6 :, channel] = np.asarray(value)[:, None] * (0.5 if channel > 1 else 1)
    return u


def activity_of(n_neurons: int, n_conditions: int, n_times: int, rank: int) -> tuple[xr.Dataset, Array]:
    """Noisy activity of the network as a Dataset, and its noise-free activation."""
    network, u = network_of(n_neurons, rank), inputs_of(n_conditions, n_times)
    q = drives(u, ALPHA, bias=False, initial=False)
    clean, _ = forward(network, q, ALPHA)
    rng = np.random.default_rng(1)
    noise, x = np.zeros((n_conditions, n_neurons), np.float32), np.empty_like(clean)
    for t in range(n_times):  # private noise as the network's leak filters it, and observation noise
        noise = (1 - ALPHA) * noise + PRIVATE_NOISE * rng.standard_normal(noise.shape, np.float32)
        x[:, t] = clean[:, t] + noise + OBSERVATION_NOISE * rng.standard_normal(noise.shape, np.float32)
    coords = {
        "condition": [f"c{k}" for k in range(n_conditions)],
        "time": BIN_S * np.arange(n_times),
        "neuron": [f"n{k}" for k in range(n_neurons)],
        "input": ("input", ["motion", "color", "context a", "context b"]),
    }
    data = {"activity": (("condition", "time", "neuron"), x), "u": (("condition", "time", "input"), u)}
    return xr.Dataset(data, coords, {"bin_s": BIN_S}), clean


def whole_fit(n_neurons: int) -> dict[str, float | str]:
    """One fit, in this process: seconds, peak GB, R² of the noise-free rates of held-out conditions, stages kept."""
    import nwb_lint as nl

    held = np.arange(4, 72, 9)
    activity, clean = activity_of(n_neurons, 72, 150, 2)
    truth = np.tanh(clean[held])
    del clean  # what follows is the memory of data and fit
    start = perf_counter()
    fit = nl.fit_lint(activity, rank=2, tau_s=TAU_S, test_conditions=held)
    seconds = perf_counter() - start
    rates = np.tanh(fit["activity_pred"].values[held])
    r2, _ = r_squared(truth, rates, truth.mean(axis=(0, 1)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 * (1.024 if sys.platform == "linux" else 0.001)
    return {"seconds": seconds, "peak_gb": peak, "r2": r2, "stages": ", ".join(fit["stage"].values)}


def fastest(work: Callable[[], object], runs: int) -> float:
    """CPU seconds of the fastest of several runs, after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        start = process_time()
        work()
        times.append(process_time() - start)
    return min(times)


def seconds_of(n_conditions: int, n_times: int, n_neurons: int) -> list[float]:
    """One loss and gradient at rank 1, the closed form with sketched features, and a bare tanh, on one size."""
    import torch

    from nwb_lint.model._torch import Problem
    from nwb_lint.model.regression import closed_form

    torch.set_num_threads(1)
    network, u = network_of(n_neurons, 1), inputs_of(n_conditions, n_times)
    q = drives(u, ALPHA, bias=False, initial=False)
    x, _ = forward(network, q, ALPHA)
    x += 0.3 * np.random.default_rng(2).standard_normal(x.shape, np.float32)
    problem, bare = Problem(q, x, None, alpha=ALPHA), torch.as_tensor(x)
    return [
        fastest(lambda: problem.loss_and_gradient(network.m, network.n, network.w), 3),
        fastest(lambda: closed_form(x, q, rank=1, alpha=ALPHA, sketch=64, ridges=(1e-3,)), 1),
        fastest(lambda: torch.tanh(bare), 5),
    ]


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def table_of(name: str, sizes: list[int], shape: Callable[[int], tuple[int, int, int]]) -> None:
    """Print seconds for every size, and the exponents."""
    rows = [seconds_of(*shape(size)) for size in sizes]
    print(f"| {name} | loss and gradient (s) | closed form, sketched (s) | bare tanh (s) | gradient / tanh |")
    print("|---|---|---|---|---|")
    for size, (gradient, closed, bare) in zip(sizes, rows, strict=True):
        print(f"| {size} | {gradient:.4f} | {closed:.4f} | {bare:.4f} | {gradient / bare:.1f} |")
    powers = [exponent(sizes, list(column)) for column in zip(*rows, strict=True)]
    print("| exponent | " + " | ".join(f"{power:.2f}" for power in powers) + " | |\n", flush=True)


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description="How the cost of a fit grows with the size of the recording.")
    parser.add_argument("--neurons", type=int, default=10_000, help="neurons of the whole fit")
    parser.add_argument("--alone", action="store_true", help="only the whole fit, in this process, as JSON")
    parser.add_argument("--tables", action="store_true", help="only the tables, in this process")
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(whole_fit(options.neurons)))
        return
    if options.tables:
        table_of("neurons", [256, 512, 1024, 2048, 4096, 8192], lambda size: (72, 60, size))
        table_of("conditions", [36, 72, 144, 288, 576], lambda size: (size, 60, 512))
        table_of("time steps", [25, 50, 100, 200, 400], lambda size: (72, size, 512))
        return
    command = [sys.executable, __file__, "--alone", "--neurons", str(options.neurons)]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print("| whole fit | seconds | peak memory (GB) | R² (held out, noise-free) | stages |\n|---|---|---|---|---|")
    size = f"{options.neurons} neurons, 72 conditions, 150 steps, rank 2"
    print(f"| {size} | {row['seconds']:.1f} | {row['peak_gb']:.2f} | {row['r2']:.5f} | {row['stages']} |\n", flush=True)
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    subprocess.run([sys.executable, __file__, "--tables"], check=True, env=os.environ | one)


if __name__ == "__main__":
    main()
