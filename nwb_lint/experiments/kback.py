"""K-back: the rank that suffices, against the number of pulses that have to be held."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nwb_lint.experiments.fig2 import cell
from nwb_lint.experiments.frame import Experiment, Setting
from nwb_lint.experiments.measures import EASY, ERROR
from nwb_lint.model.sweep import Job

ENOUGH = 0.95  # accuracy, as a share of the network's own, that suffices


def jobs(setting: Setting) -> list[Job]:
    """Quick: one pulse back in a small network; full: one to four."""
    if setting.quick:
        some = {"size": 128, "ranks": (1, 2), "trials": 150, "test": 100, "fits": str(setting.fits)}
        some["error"] = EASY
        return [(None, [{"task": "1-back", "g": 0.8, "seed": 0} | some])]
    some = {"size": 512, "ranks": tuple(range(1, 8)), "trials": 300, "test": 150, "fits": str(setting.fits)}
    some["error"] = ERROR
    return [(None, [{"task": f"{k}-back", "g": 0.8, "seed": 0} | some for k in (1, 2, 3, 4)])]


def sufficient(table: pd.DataFrame) -> pd.Series:
    """The smallest rank that suffices for each K; NaN where none does."""
    low = table[table["model"] == "low rank"]
    enough = low[low["accuracy"] >= ENOUGH * low["accuracy_network"]].groupby("task")["rank"].min()
    found = enough.reindex(sorted(low["task"].unique()))
    found.index = found.index.str[0].astype(int)
    return found


def long(table: pd.DataFrame) -> pd.DataFrame:
    """R² over rank, a line for each K, and the rank that suffices over K."""
    low = table[table["model"] == "low rank"]
    rank = sufficient(table)
    parts = [
        pd.DataFrame({"panel": "R² by rank", "line": low["task"], "x": low["rank"], "y": low["r2"]}),
        pd.DataFrame({"panel": "sufficient rank by K", "line": "low rank", "x": rank.index, "y": rank.to_numpy()}),
    ]
    return pd.concat(parts, ignore_index=True)


def hold(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """The smallest sufficient rank grows linearly with K."""
    rank = sufficient(table)
    if len(rank) < 3:
        return []  # two points lie on a line always
    told = ", ".join(f"K = {k}: {value:g}" for k, value in rank.items())
    steps = np.diff(rank.to_numpy(float))
    linear = bool(np.isfinite(steps).all() and (steps > 0).all() and np.ptp(steps) <= 1)
    return [(f"the smallest sufficient rank grows linearly with K ({told})", linear)]


EXPERIMENT = Experiment("K-back: the rank that suffices", ("rank or K", ""), cell, jobs, long, lambda table: [], hold)
