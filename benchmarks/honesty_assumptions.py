"""What a fit assumes: the time constant of the units, and that means of trials say what trials do."""

from __future__ import annotations

import sys
import time
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr
from honesty_scores import INPUTS, TAU_S, recording_of
from sections import workers
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


RATES = {
    "base + gain x": lambda x: 25 + 6 * x,
    "saturating": lambda x: 15 + 12 * np.tanh(x),
    "exponential": lambda x: np.exp(2 + 0.8 * x),
    "rectified": lambda x: 4 + 6 * x,
}


def links(seeds: range = range(100, 103)) -> None:
    """Rank-1 networks whose rates are other functions of the activation: link and rank that are chosen, R² of rates."""
    for name in RATES:
        with workers() as pool:
            found = list(pool.map(partial(_link_of, name), seeds))
        chosen, without, with_link, ranks, ranks_with = map(list, zip(*found, strict=True))
        print(
            f"   {name}: chosen {chosen}; held-out R² of rates {np.mean(with_link):.3f} (identity "
            f"{np.mean(without):.3f}); rank {ranks_with} (identity {ranks}; true 1)",
            flush=True,
        )


def _link_of(name: str, seed: int) -> tuple[str, float, float, int, int]:
    """The chosen link, R² of held-out rates with the identity and with it, the rank that is chosen with either."""
    rng = np.random.default_rng([seed, 21])
    m, w = rng.standard_normal((60, 1)), rng.standard_normal((60, 2))
    n = 1.4 * m + 0.6 * w.sum(axis=1, keepdims=True) + 0.3 * rng.standard_normal((60, 1))
    recording, _ = recording_of(m, n, 2 * w, rng, 20, 0.0, 0.0, RATES[name])
    prepared = partial(nl.prepare, inputs=INPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = nl.compare_links(recording, prepare=prepared, rank=1, tau_s=TAU_S)
        link, r2 = table.attrs["rate_link"], table["link_r2"]
        ranks = [
            nl.select_rank(
                lambda train, one=one: prepared(recording, rate_link=one, fit_on=train),
                ranks=[1, 2, 3], tau_s=TAU_S, folds=4,
            ).attrs["rank"]
            for one in ("identity", link)
        ]  # fmt: skip
    return link, float(r2.sel(link_tried="identity")), float(r2.sel(link_tried=link)), *ranks


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
        held = folds_of(recording.sizes["condition"], 9)
        with workers() as pool:
            found = list(pool.map(partial(_mante_fold, recording, inputs), held))
        r2, top, ranks, seconds, ridge = map(np.array, zip(*found, strict=True))
        print(
            f"mante2013, {what}: R² {r2.mean():.3f} ± {r2.std(ddof=1) / 3:.3f} (goal: {goal}), ceiling "
            f"{top.mean():.3f}, ridge regression on the same columns {ridge.mean():.3f}; ranks {ranks.tolist()}; a fit "
            f"takes {seconds.mean():.1f} s of the processor, at most {seconds.max():.1f} (goal: 10)",
            flush=True,
        )


def _mante_fold(
    recording: xr.Dataset, inputs: list[nl.Input], held: np.ndarray
) -> tuple[float, float, int, float, float]:
    """Held-out R², its ceiling, the rank that was chosen inside, seconds of the fit, and R² of a ridge regression."""
    activity = nl.prepare(recording, inputs=inputs, burn_in_s=0.35, fit_on=~held)
    options = {"tau_s": 0.1, "hidden": 100}
    rank = nl.select_rank(activity, ranks=[1, 2], folds=2, **options).attrs["rank"]
    start = time.process_time()
    fit = nl.fit_lint(activity, rank=rank, **options)
    seconds = time.process_time() - start
    ridge = _ridge_r2(activity, held, [one.column for one in inputs if one.equals is None])
    return float(fit["r2"][1]), float(fit["r2_ceiling"][1]), rank, seconds, ridge


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


SECTIONS = {"tau": tau, "links": links, "means": means, "mante": mante}
