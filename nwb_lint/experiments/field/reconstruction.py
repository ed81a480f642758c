"""Reconstruction of dynamical systems: free runs of fits to one long recording, beside its statistics.

Four experiments share this module: two simulated systems (`lorenz63`, `bursting`) and two recordings (`eeg`, `ecg`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import exp
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.integrate import odeint
from scipy.ndimage import convolve1d
from scipy.signal import resample
from scipy.signal.windows import hann

from nwb_lint.errors import ContractError
from nwb_lint.experiments.field.free_runs import binned_divergence, linear_run, smoothed_divergence, spectral_distance
from nwb_lint.experiments.field.published import NOTES, RECONSTRUCTION, RECONSTRUCTION_REASONS
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.model.simulate import simulate
from nwb_lint.statespace.fit import fit_trials

Array = np.ndarray
Equations = Callable[[Array, float], tuple[float, float, float]]


# -- data -------------------------------------------------------------------------------------------------------------


class Recording(NamedTuple):
    """What a network is fitted to, and what its run is compared with, (time, channel), in steps of ``step_s``."""

    train: Array
    test: Array
    step_s: float


def lorenz(state: Array, time: float) -> tuple[float, float, float]:
    """The Lorenz system with sigma = 10, rho = 28, beta = 8/3."""
    x, y, z = state
    return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z


def bursting_neuron(state: Array, time: float) -> tuple[float, float, float]:
    """The bursting neuron of Durstewitz 2009: voltage, mV, and two gates; time in ms."""
    v, n, h = state
    sodium, potassium, slow = (1 / (1 + exp((half - v) / k)) for half, k in ((-20, 15), (-25, 5), (-15, 5)))
    nmda = 1 / (1 + 0.33 * exp(-0.0625 * v))
    current = -8 * (v + 80) - 20 * sodium * (v - 60) - 10 * n * (v + 90) - 25 * h * (v + 90) - 10.2 * nmda * v
    return current / 6, potassium - n, (slow - h) / 200


class System(NamedTuple):
    """A system of equations: how it is simulated.

    ``first`` are the states that runs begin near, ``spread`` how near. ``step`` is in the time of the equations, and
    ``step_s`` in seconds. ``noise`` is the standard deviation of what is added to the training data of unit variance.
    """

    equations: Equations
    first: tuple[float, ...]
    spread: tuple[float, ...]
    step: float
    step_s: float
    noise: float


SYSTEMS = {
    "lorenz63": System(lorenz, (0, 0, 25), (8, 8, 8), 0.01, 0.01, 0.05),
    "bursting": System(bursting_neuron, (-24.5, 0.04, 0.023), (4, 0.01, 0.005), 0.5, 0.0005, 0.1),
}
_TRANSIENT, _LENGTH = 5_000, 100_000


def simulated(name: str, n_times: int, seed: int) -> Recording:
    """Two runs of a system from other states, each of unit variance, the first with noise."""
    system, rng = SYSTEMS[name], np.random.default_rng(seed)
    runs = []
    for _ in range(2):
        first = np.array(system.first) + system.spread * rng.standard_normal(3)
        at = system.step * np.arange(_TRANSIENT + n_times)
        run = odeint(system.equations, first, at, rtol=1e-8, atol=1e-8, mxstep=5_000)[_TRANSIENT:]
        runs.append((run - run.mean(axis=0)) / run.std(axis=0))
    return Recording(runs[0] + system.noise * rng.standard_normal(runs[0].shape), runs[1], system.step_s)


def eeg(folder: Path | None) -> Recording:
    """64 channels, smoothed and of unit variance. The run is compared with the recording that it was fitted to."""
    y = _loaded(folder, "eeg", ("eeg.npy", "EEG_data_smoothed.npy", "EEG_train.npy"), EEG_NEEDED)
    return Recording(y, y, 1 / 160)


def ecg(folder: Path | None) -> Recording:
    """Two recordings of one channel, embedded in 5 dims by delays."""
    train = _loaded(folder, "ecg", ("ECG_pecuzal_5d_train.npy",), ECG_NEEDED)
    return Recording(train, _loaded(folder, "ecg", ("ECG_pecuzal_5d_test.npy",), ECG_NEEDED), 1 / 700)


EEG_NEEDED = (
    "It needs the recording S001R01 of PhysioNet's EEG Motor Movement/Imagery Dataset, 64 channels at 160 Hz, smoothed "
    "and of unit variance, (time, channel): data/eeg/EEG_data_smoothed.npy of https://github.com/mackelab/smc_rnns, or "
    "the same array as eeg.npy. Name its folder with --data."
)
ECG_NEEDED = (
    "It needs ECG_pecuzal_5d_train.npy and ECG_pecuzal_5d_test.npy of https://github.com/DurstewitzLab/GTF-shPLRNN, "
    "folder ICML2023_datasets/ECG. Name it with --data."
)


def _loaded(folder: Path | None, name: str, files: tuple[str, ...], needed: str) -> Array:
    """The array in the first of these files that is there."""
    if folder is None:
        raise ContractError(f"{name} has no folder of data. {needed}")
    path = next((folder / one for one in files if (folder / one).is_file()), None)
    if path is None:
        raise ContractError(f"{folder} has no {' or '.join(files)}. {needed}")
    try:
        y = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ContractError(f"{path} cannot be read ({error}). {needed}") from error
    if y.ndim != 2 or y.dtype.kind != "f" or len(y) < y.shape[1] or not np.isfinite(y).all():
        raise ContractError(f"{path} has the shape {y.shape} and the type {y.dtype}. {needed}")
    return y.astype(float)


# -- fits -------------------------------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """How an experiment is fitted and scored.

    Every ``stride``-th sample is used, in pieces of ``piece`` samples. ``taus_s`` are tried, and the one of largest
    evidence is taken. ``smoothed``: the values that a run gives are smoothed like the data.
    """

    rank: int
    stride: int
    piece: int
    hidden: int
    taus_s: tuple[float, ...]
    n_train: int
    ridge: float | str = "auto"
    max_iter: int = 30
    smoothed: bool = False


# Tuned on: the test data of simulations with seeds 100 and 101 (lorenz63); not tuned: bursting; the first and the
# second half of the training recording (ecg). eeg: see docs/decisions.md.
CHOICES = {
    "lorenz63": Choice(3, 1, 500, 100, (0.1,), 20_000, max_iter=20),
    "bursting": Choice(3, 1, 500, 200, (0.005,), 20_000, max_iter=20),
    "ecg": Choice(5, 5, 500, 400, (0.05,), 100_000, ridge=1e-5, max_iter=8),
    "eeg": Choice(3, 5, 2_000, 192, (0.035, 0.04, 0.05), 9_640, smoothed=True),
}
TOL = 1e-4
_SKIPPED = 0.25  # of the length of the test data, before a run is compared with it
_RUNS = 3  # free runs of each fit


def pieces(y: Array, step_s: float, length: int) -> xr.Dataset:
    """One long recording as trials that share their ends, so that every step is in one of them."""
    length = min(length, len(y))
    n = max(1, (len(y) - 1) // (length - 1))
    rate = np.stack([y[k * (length - 1) : k * (length - 1) + length] for k in range(n)])
    coords = {"trial": np.arange(n), "time": step_s * np.arange(length), "neuron": np.arange(y.shape[1]).astype(str)}
    return xr.Dataset({"rate": (("trial", "time", "neuron"), rate)}, coords, {"bin_s": step_s})


def fitted(recording: Recording, choice: Choice, seed: int) -> xr.Dataset:
    """The stochastic network of largest evidence."""
    few = recording.train[: choice.n_train : choice.stride]
    trials = pieces(few, choice.stride * recording.step_s, choice.piece)
    how: dict[str, Any] = {"rank": choice.rank, "observation": "gaussian", "hidden": choice.hidden, "seed": seed}
    fits = [
        fit_trials(trials, tau_s=tau, ridge=choice.ridge, max_iter=choice.max_iter, tol=TOL, **how)
        for tau in choice.taus_s
    ]
    return max(fits, key=lambda one: float(one["evidence"].max()))


def run_of(fit: xr.Dataset, n_times: int, skipped: int, seed: int) -> tuple[Array, Array]:
    """Means of the channels (time, channel) in a free run with noise of the latents, and a draw of the values."""
    u = xr.DataArray(np.zeros((1, skipped + n_times, 1), np.float32), dims=("condition", "time", "input"))
    recorded = fit["recorded"].values
    mean = simulate(fit, u, noise=True, seed=seed)["activity"].values[0, skipped:, recorded].T
    mean = mean + fit["observation_mean"].values[recorded]
    sd = np.sqrt(fit["observation_noise"].values[recorded])
    return mean, mean + sd * np.random.default_rng(seed).standard_normal(mean.shape)


# -- scores -----------------------------------------------------------------------------------------------------------

MOST_BINNED = 5  # channels, with more of which clouds are compared


def scores(test: Array, mean: Array, values: Array, smoothed: bool) -> dict[str, float]:
    """Divergence of the states and distance of the spectra, of means, and of values that are smoothed like the data."""
    divergence = binned_divergence if test.shape[1] <= MOST_BINNED else smoothed_divergence
    mean = resample(mean, len(test), axis=0) if len(mean) != len(test) else mean
    found = {"d_stsp": divergence(test, mean), "d_h": spectral_distance(test, mean)}
    if smoothed:
        values = convolve1d(resample(values, len(test), axis=0), hann(15), axis=0)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        found |= {"d_stsp_smoothed": divergence(test, values), "d_h_smoothed": spectral_distance(test, values)}
    return found


def measure(data: Path | None, *, name: str, model: str, seed: int, quick: bool) -> Result:
    """One row: the scores of the data themselves, of a linear model, or of a fit, means over free runs."""
    choice, length = CHOICES[name], 10_000 if quick else _LENGTH
    if quick:
        choice = choice._replace(hidden=min(100, choice.hidden), taus_s=choice.taus_s[:1], n_train=5_000, max_iter=6)
    recording = _RECORDINGS[name](data) if name in _RECORDINGS else simulated(name, length, seed)
    test = recording.test
    n_times = len(test) // choice.stride
    skipped = int(_SKIPPED * n_times)
    few = recording.train[: choice.n_train : choice.stride]
    start = process_time()
    if model == "data":
        test, other = _again(name, recording, length, seed)
        runs = [(other, other)]
    elif model == "VAR(2)":
        runs = [linear_run(few, n_times, skipped, np.random.default_rng([seed, k])) for k in range(_RUNS)]
    else:
        fit = fitted(recording, choice, seed)
        seconds = process_time() - start
        runs = [run_of(fit, n_times, skipped, 100 * seed + k) for k in range(_RUNS)]
    if model != "ours":
        seconds = process_time() - start
    found = pd.DataFrame([scores(test, *run, choice.smoothed) for run in runs]).mean().to_dict()
    row = {"system": name, "model": model, "seed": seed} | found | {"seconds": seconds}
    return {key: np.array([value]) for key, value in row.items()}


def _again(name: str, recording: Recording, length: int, seed: int) -> tuple[Array, Array]:
    """The test data and other data of the same system: a run, the training recording, or halves of the only one."""
    if name in SYSTEMS:
        return recording.test, simulated(name, length, seed + 1_000).test
    if recording.train is recording.test:
        half = len(recording.test) // 2
        return recording.test[:half], recording.test[half : 2 * half]
    return recording.test, recording.train


_RECORDINGS: dict[str, Callable[[Path | None], Recording]] = {"eeg": eeg, "ecg": ecg}
MODELS = ("data", "VAR(2)", "ours")

# -- experiments ------------------------------------------------------------------------------------------------------


def tasks(setting: Setting, name: str) -> Tasks:
    """Quick: short data, one small fit. Full: one data set, or simulation, for each seed."""
    if name in _RECORDINGS:
        _RECORDINGS[name](setting.data)  # says what is missing before anything runs
    seeds = range(1 if setting.quick else setting.seeds)
    parts = [(model, seed) for model in reversed(MODELS) for seed in seeds]  # the longest first
    if name in _RECORDINGS:
        parts = [(model, seed) for model, seed in parts if model == "ours" or seed == 0]
    data = setting.data if name in _RECORDINGS else None
    return [(data, {"name": name, "model": model, "seed": seed, "quick": setting.quick}) for model, seed in parts]


_WHAT = {
    "d_stsp": "divergence of the states", "d_h": "distance of the spectra",
    "d_stsp_smoothed": "divergence of the states, values smoothed like the data",
    "d_h_smoothed": "distance of the spectra, values smoothed like the data",
}  # fmt: skip


def compare(table: pd.DataFrame) -> Comparison:
    """Published scores beside the medians of our fits."""
    ours = table[table["model"] == "ours"]
    if ours.empty:
        return []
    (name,) = set(ours["system"])
    return [
        Cell(f"{_WHAT[score]} ({source})", published, float(ours[score].median()), False,
             RECONSTRUCTION_REASONS.get((name, score), ""))
        for score, source, published in RECONSTRUCTION[name]
    ]  # fmt: skip


def claims(table: pd.DataFrame) -> Claims:
    """The fit is nearer to the data than the linear model by both scores."""
    median = table.groupby("model")[["d_stsp", "d_h"]].median()
    if not {"ours", "VAR(2)"} <= set(median.index):
        return []
    return [
        (f"{_WHAT[score]}: the fit is nearer to the data than a linear model ({median.loc['ours', score]:.3f}, "
         f"{median.loc['VAR(2)', score]:.3f}{_floor(median, score)})",
         bool(median.loc["ours", score] < median.loc["VAR(2)", score]))
        for score in ("d_stsp", "d_h")
    ]  # fmt: skip


def _floor(median: pd.DataFrame, score: str) -> str:
    return f"; other data of the same system {median.loc['data', score]:.3f}" if "data" in median.index else ""


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """A panel for each score, a point for each model and seed."""
    return pd.concat(
        [
            pd.DataFrame({"panel": what, "line": table["model"], "x": table["model"], "y": table[score]})
            for score, what in _WHAT.items()
            if score in table
        ],
        ignore_index=True,
    )


_TITLES = {
    "lorenz63": "Lorenz system, noisy",
    "bursting": "Bursting neuron, noisy",
    "eeg": "EEG, 64 channels",
    "ecg": "ECG, embedded in 5 dims",
}
EXPERIMENTS = {
    name: Experiment(
        title=f"Reconstruction of dynamical systems: {title}",
        labels=("", ""),
        work=measure,
        tasks=partial(tasks, name=name),
        figure_table=figure_table,
        claims=claims,
        notes=NOTES["reconstruction"] + NOTES[name],
        compare=compare,
    )
    for name, title in _TITLES.items()
}
