"""K-back: the rank that suffices, against the number of pulses that have to be held."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nwb_lint.experiments.fig2 import measure
from nwb_lint.experiments.frame import Experiment, Setting, Tasks
from nwb_lint.experiments.measures import EASY, ERROR

ENOUGH = 0.95  # accuracy, as a share of the network's own, and R² of the rates, that suffice
BEYOND = 2  # ranks beyond K that are fitted


def tasks(setting: Setting) -> Tasks:
    """Quick: one pulse back in a small network; full: one to four, as many seeds as asked."""
    if setting.quick:
        some = {"size": 128, "ranks": (1, 2), "trials": 150, "test": 100, "fits": str(setting.fits)}
        some["error"] = EASY
        return [(None, {"task": "1-back", "g": 0.8, "seed": 0} | some)]
    some = {"g": 0.8, "size": 512, "trials": 300, "test": 150, "error": ERROR, "fits": str(setting.fits)}
    asked = [
        {"task": f"{k}-back", "seed": seed, "ranks": tuple(range(1, k + BEYOND + 1))}
        for seed in range(setting.seeds)
        for k in (4, 3, 2, 1)  # the longest first
    ]
    return [(None, one | some) for one in asked]


def sufficient(table: pd.DataFrame, *, rates: bool = True) -> pd.DataFrame:
    """The smallest rank that suffices, K by seed of the network; NaN where none does. Without ``rates`` answers alone
    count."""
    low = table[table["model"] == "low rank"]
    suffices = low["accuracy"] >= ENOUGH * low["accuracy_network"]
    if rates:
        suffices &= low["r2"] >= ENOUGH
    enough = low["rank"].where(suffices)
    return enough.groupby([low["task"].str[0].astype(int).rename("K"), low["seed"]]).min().unstack("seed")


def long(table: pd.DataFrame) -> pd.DataFrame:
    """R² over rank, a line for each K, and the rank that suffices over K."""
    low = table[table["model"] == "low rank"]
    rank = sufficient(table)
    parts = [
        pd.DataFrame({"panel": f"R² by rank, seed {seed}", "line": one["task"], "x": one["rank"], "y": one["r2"]})
        for seed, one in low.groupby("seed")
    ]
    parts += [
        pd.DataFrame({"panel": "sufficient rank by K", "line": f"seed {seed}", "x": rank.index, "y": rank[seed]})
        for seed in rank
    ]
    return pd.concat(parts, ignore_index=True)


def hold(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """The smallest sufficient rank grows linearly with K, by rates and answers and by answers alone."""
    claims = []
    for by, rates in (("rates and answers", True), ("answers alone", False)):
        for seed, rank in sufficient(table, rates=rates).items():
            if len(rank) < 3:
                continue  # two points lie on a line always
            told = ", ".join(f"K = {k}: {value:g}" for k, value in rank.items())
            steps = np.diff(rank.to_numpy(float))
            linear = bool(np.isfinite(steps).all() and (steps > 0).all() and np.ptp(steps) <= 1)
            claims.append((f"seed {seed}: the smallest sufficient rank by {by} grows linearly with K ({told})", linear))
    return claims


EXPERIMENT = Experiment(
    "K-back: the rank that suffices", ("rank or K", ""), measure, tasks, long, lambda table: [], hold
)
