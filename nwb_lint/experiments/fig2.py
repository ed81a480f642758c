"""Figure 2: full-rank networks, low-rank fits against truncated connectivity on the same noise-free rates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nwb_lint.experiments.frame import Experiment, Setting
from nwb_lint.experiments.measures import fitted_accuracy, keep_fit, rates_r2, record
from nwb_lint.experiments.published import FIG2_LOW_RANK, FIG2_TRUNCATED
from nwb_lint.model.baselines import truncate
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.sweep import Job, Result
from nwb_lint.tasks.train import accuracy_of, train_network

SUFFICIENT = {"cdm": 1, "dms": 2}
CRITERION = 0.998  # a network that stops at .99 on some trials has less on half of all others
QUICK_CRITERION = 0.97  # a network of 128 neurons for cdm ended at .992, and how far it gets depends on the machine


def cell(
    data: None,
    *,
    task: str,
    g: float,
    seed: int,
    size: int,
    ranks: tuple[int, ...],
    trials: int,
    test: int,
    fits: str,
    criterion: float = CRITERION,
) -> Result:
    """One network, its fits and truncations of every rank."""
    network = train_network(task, n_neurons=size, g=g, seed=seed, accuracy=criterion)
    activity, held, _, fresh, truth = record(network, trials, test, seed)
    own = accuracy_of(network, fresh)
    rows = []
    for rank in ranks:
        fit = fit_lint(activity, rank=rank, tau_s=network.attrs["tau_s"], loss="rate", holdout=held)
        few = fit.isel(condition=held)
        # the trained network's weights on its own inputs: nothing of the fit but its Dataset is used
        cut = truncate(few.assign(input_weights=network["input_weights"]), rank=rank, connectivity=network["J"].values)
        for kind, one in (("low rank", few), ("truncated", cut)):
            x = one["activity_pred"].values
            score = (rates_r2(truth, x), fitted_accuracy(x, network, fresh))
            rows.append((task, g, seed, size, kind, rank, *score, own))
        keep_fit(fit, fits, f"fig2_{task}_g{g:g}_seed{seed}_rank{rank}")
    names = ("task", "g", "seed", "neurons", "model", "rank", "r2", "accuracy", "accuracy_network")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def jobs(setting: Setting) -> list[Job]:
    """Quick: one small CDM network; full: both tasks, g from 0.1 (CDM) or 0.8 (DMS) to 1.2, as many seeds as asked. DMS
    networks do not reach their criterion from g = 0.1."""
    if setting.quick:
        some = {"size": 128, "ranks": (1, 2, 5), "trials": 150, "test": 100, "fits": str(setting.fits)}
        some["criterion"] = QUICK_CRITERION
        return [(None, [{"task": "cdm", "g": 0.8, "seed": 0} | some])]
    some = {"size": 512, "ranks": (1, 2, 3, 4, 5), "trials": 200, "test": 100, "fits": str(setting.fits)}
    spread = {"cdm": (0.8, 1.0, 1.2, 0.1), "dms": (0.8, 1.0, 1.2)}
    grid = [(task, g, seed) for seed in range(setting.seeds) for task, several in spread.items() for g in several]
    return [(None, [{"task": task, "g": g, "seed": seed} | some for task, g, seed in grid])]


def long(table: pd.DataFrame) -> pd.DataFrame:
    """R² and accuracy over rank, a panel for each task and g, medians over seeds."""
    mean = table.groupby(["task", "g", "model", "rank"], as_index=False)[["r2", "accuracy"]].median()
    where = mean["task"] + ", g = " + mean["g"].astype(str)
    parts = [
        pd.DataFrame({"panel": where, "line": mean["model"] + f", {name}", "x": mean["rank"], "y": mean[column]})
        for column, name in (("r2", "R²"), ("accuracy", "accuracy"))
    ]
    out = pd.concat(parts, ignore_index=True)
    out["y"] = out["y"].clip(lower=-0.5)
    return out


def compare(table: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Medians over seeds (and g, where the paper tells none) beside the published ones."""
    rows = []
    for model, told in (("low rank", FIG2_LOW_RANK), ("truncated", FIG2_TRUNCATED)):
        for (task, g), values in told.items():
            same = (table["task"] == task) & (table["model"] == model)
            if g is not None:
                same &= np.isclose(table["g"], g)
            median = table[same].groupby("rank")["r2"].median()
            rows += [
                (
                    f"{task}{'' if g is None else f', g = {g:g}'}, {model}, rank {rank}: R²",
                    values[rank - 1],
                    median[rank],
                )
                for rank in median.index
            ]
    return rows


def hold(table: pd.DataFrame) -> list[tuple[str, bool]]:
    """What must hold of a full run, for every network with g of .8 or more."""
    claims = []
    for task, rank in SUFFICIENT.items():
        some = table[(table["task"] == task) & (table["g"] >= 0.8)]
        if some.empty:
            continue
        of = some.set_index(["g", "seed"])
        low = of[(of["model"] == "low rank") & (of["rank"] == rank)]
        cut = of[(of["model"] == "truncated") & (of["rank"] == 5)]
        claims.append(
            (f"{task}: rank {rank} above truncation at rank 5 in every network", bool((low["r2"] > cut["r2"]).all()))
        )
        lowest = low["accuracy"].min()
        claims.append(
            (f"{task}: accuracy at rank {rank} at least .99 in every network (least: {lowest:.3f})", lowest >= 0.99)
        )
    return claims


EXPERIMENT = Experiment(
    "Figure 2: full-rank networks, low-rank fits and truncations", ("rank", ""), cell, jobs, long, compare, hold
)
