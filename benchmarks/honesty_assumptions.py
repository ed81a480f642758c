"""What a fit assumes: the time constant of the units, and that means of trials say what trials do."""

from __future__ import annotations

import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr
from sklearn.linear_model import RidgeCV

import nwb_lint as nl
from nwb_lint.trial_noise import MIN_SHARE, shared_trial_variance
from nwb_lint.validation.folds import folds_of
from nwb_lint.workflow.recipe import load_recipe

sys.path.append(str(Path(__file__).parents[1]))  # networks of the tests


def tau() -> None:
    """Monostable and bistable rank-1 networks with noise: which time constants predict as well, and what they say."""
    from tests.networks import build

    for noise in (0.5, 1.5):
        best, dependent = [], 0
        for seed in range(100, 106):
            activity = build(conditions=16, times=30, neurons=20, observation=noise, seed=seed).activity
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = nl.compare_tau(activity, rank=1, taus_s=[0.05, 0.1, 0.2, 0.4], method="regression")
            best.append(float(table["tau_tried"].values[table["tau_deficit"].values.argmin()]))
            dependent += table.attrs["depends"]
        print(
            f"noise {noise:g} sd, true tau .1 s: best {best}; number of fixed points depends on it in {dependent} of 6"
        )


def means() -> None:
    """Trials that differ along one direction: found in networks with noise-driven choices, not in Poisson noise."""
    from tests.test_trial_noise import halves_of

    cases = {
        "bistable, noise-driven choices, 15 Hz": {"noise": 0.08},
        "bistable, more noise, 6 Hz": {"noise": 0.12, "rate": 6.0},
        "counting noise, 50 units": {"noise": 0.0},
        "counting noise, 20 units, 5 trials, 3 Hz": {"noise": 0.0, "neurons": 20, "trials": 6, "rate": 3.0},
        "counting noise, 12 conditions, overlap 1": {"noise": 0.0, "conditions": 12, "overlap": 1.0},
    }
    for name, options in cases.items():
        shares = [shared_trial_variance(halves_of(seed, **options)) for seed in range(100, 130)]
        warned = [share for share in shares if share >= MIN_SHARE]
        goal = "all" if options["noise"] else "at most 5 %"
        range_of = f", share {min(warned):.2f} to {max(warned):.2f}" if warned else ""
        print(f"{name}: warned of in {len(warned)} of {len(shares)} (goal: {goal}){range_of}")


def mante() -> None:
    """Held-out R² of mante2013, rank chosen inside, without and with the choice among the inputs; ridge regression."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "mante2013"
    if not folder.is_dir():
        print(f"skipped: {folder} is not there")
        return
    recording = _mante_recording(folder)
    motion, color, *context = load_recipe(Path(__file__).parents[1] / "examples" / "mante2013.toml").input_list()
    fifths = list(pairwise(np.round(np.linspace(0.1, 0.85, 6), 3).tolist()))
    columns = {"motion": 1 / 3, "color": 1 / 3, "choice": 1.0, "motion_strength": 1 / 3, "color_strength": 1 / 3}
    answer = [nl.Input(name, column=name, scale=scale, window_s=fifths) for name, scale in columns.items()]
    for what, goal, inputs in (
        ("the recipe", 0.34, [motion, color, *context]),
        ("with choice and |coherence|", 0.37, [*answer, *context]),
    ):
        rows, ranks, seconds, ridge = [], [], [], []
        for held in folds_of(recording.sizes["condition"], 9):
            activity = nl.prepare(recording, inputs=inputs, burn_in_s=0.35, fit_on=~held)
            options = {"tau_s": 0.1, "hidden": 100}
            ranks.append(nl.select_rank(activity, ranks=[1, 2], folds=2, **options).attrs["rank"])
            start = time.perf_counter()
            fit = nl.fit_lint(activity, rank=ranks[-1], **options)
            seconds.append(time.perf_counter() - start)
            rows.append([float(fit["r2"][1]), float(fit["r2_ceiling"][1])])
            ridge.append(_ridge_r2(activity, held, [one.column for one in inputs if one.equals is None]))
        (r2, top), error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)[0] / 3
        print(
            f"mante2013, {what}: R² {r2:.3f} ± {error:.3f} (goal: {goal}), ceiling {top:.3f}, ridge regression on the "
            f"same columns {np.mean(ridge):.3f}; ranks {ranks}; {np.mean(seconds):.1f} s a fit (goal: 10)",
            flush=True,
        )


def _mante_recording(folder: Path) -> xr.Dataset:
    strengths = {f"{name}_strength": f"abs({name})" for name in ("motion", "color")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nl.read_conditions(
            str(folder / "*.nwb"),
            by=["context", "choice", *({name: "rank"} for name in ("motion", "color", *strengths))],
            columns=strengths, align="dots_on_time", window_s=(0.1, 0.85), bin_s=0.0125, smooth_s=0.05,
            where="correct", halves=True,
        )  # fmt: skip


def _ridge_r2(activity: xr.Dataset, held: np.ndarray, columns: list[str]) -> float:
    """Held-out R² of a ridge regression on columns and context, at every time by itself."""
    context = np.where(activity["context"].values == "motion", 1.0, -1.0)
    design = np.column_stack([context, *(activity[name].values.astype(float) for name in columns)])
    design = (design - design[~held].mean(axis=0)) / design[~held].std(axis=0)
    y = activity["activity"].values.astype(float)
    flat = y.reshape(len(y), -1)
    predicted = RidgeCV(np.logspace(-1, 3, 9)).fit(design[~held], flat[~held]).predict(design[held])
    error, power = flat[held] - predicted, y[held] - y[~held].mean(axis=(0, 1))
    return float(1 - (error**2).sum() / (power**2).sum())


SECTIONS = {"tau": tau, "means": means, "mante": mante}
