"""K-back: the rank that suffices, against the number of pulses to hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nwb_lint.experiments.frame import Claims, Experiment, Setting, Tasks
from nwb_lint.experiments.measures import QUICK_ERROR, TRAINING_ERROR
from nwb_lint.experiments.paper.fig2 import measure
from nwb_lint.experiments.paper.published import NOTES

SUFFICIENT = 0.95  # accuracy, relative to that of the network, and R² of the rates
RANKS_ABOVE_K = 2  # that are fitted too


def tasks(setting: Setting) -> Tasks:
    """Quick: K = 1 in a small network. Full: K from 1 to 4, and all seeds."""
    if setting.quick:
        some = {"size": 64, "ranks": (1, 2), "trials": 100, "test": 50, "fits": str(setting.fits)}
        some["error"] = QUICK_ERROR
        return [(None, {"task": "1-back", "g": 0.8, "seed": 0} | some)]
    some = {"g": 0.8, "size": 512, "trials": 300, "test": 150, "error": TRAINING_ERROR, "fits": str(setting.fits)}
    parts = [
        {"task": f"{k}-back", "seed": seed, "ranks": tuple(range(1, k + RANKS_ABOVE_K + 1))}
        for seed in range(setting.seeds)
        for k in (4, 3, 2, 1)  # the longest first
    ]
    return [(None, one | some) for one in parts]


def sufficient(table: pd.DataFrame, *, rates: bool = True) -> pd.DataFrame:
    """The smallest rank that suffices, K by seed of the network; NaN if none does.

    Without ``rates`` only the answers count.
    """
    low = table[table["model"] == "low rank"]
    suffices = low["accuracy"] >= SUFFICIENT * low["accuracy_network"]
    if rates:
        suffices &= low["r2"] >= SUFFICIENT
    enough = low["rank"].where(suffices)
    return enough.groupby([low["task"].str[0].astype(int).rename("K"), low["seed"]]).min().unstack("seed")


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """R² against rank, a line for each K, and the rank that suffices against K."""
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


def claims(table: pd.DataFrame) -> Claims:
    """The smallest sufficient rank grows linearly with K, by rates and answers and by answers alone."""
    found = []
    for by, rates in (("rates and answers", True), ("answers alone", False)):
        for seed, rank in sufficient(table, rates=rates).items():
            if len(rank) < 3:
                continue  # two points always lie on a line
            detail = ", ".join(f"K = {k}: {value:g}" for k, value in rank.items())
            steps = np.diff(rank.to_numpy(float))
            linear = bool(np.isfinite(steps).all() and (steps > 0).all() and np.ptp(steps) <= 1)
            found.append(
                (f"seed {seed}: the smallest sufficient rank by {by} grows linearly with K ({detail})", linear)
            )
    return found


EXPERIMENT = Experiment(
    title="K-back: the rank that suffices",
    labels=("rank or K", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["kback"],
)
