"""Figure 2: full-rank networks, low-rank fits against truncated connectivity on the same noise-free rates, and fits to
few of the neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.experiments.frame import Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import EASY, Recorded, keep_fit, rates_r2, record
from nwb_lint.experiments.published import FIG2_LOW_RANK, FIG2_SUBSAMPLED, FIG2_TRUNCATED
from nwb_lint.model.fit import fit_lint
from nwb_lint.tasks.generate import TASKS
from nwb_lint.tasks.train import accuracy_of, train_network
from nwb_lint.validation.baselines import truncate

SUFFICIENT = {"cdm": 1, "dms": 2}
# error of the output to which networks are trained, about the median of the paper's thirty CDM networks (.0009): of one
# of g = .8 rank 1 answers .985 right at `measures.ERROR`, .998 here; R² is .96 of both
DISTINCT = 0.001
SAMPLED = ("cdm", 0.1)  # the networks whose neurons are subsampled: the best fitted by rank 1 of their task
FEW = ("few neurons, low rank", "few neurons, unconstrained")
UNSEEN = 100  # a fit to fewer neurons than these is given unobserved ones, up to this many in all

_ANSWERED = 2000  # fresh trials that accuracy is counted on: .99 of 500 is .99 give or take .004
_COLUMNS = ("task", "g", "seed", "neurons", "model", "rank", "fraction", "r2", "accuracy", "accuracy_network")


def measure(
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
    error: float,
    fractions: tuple[float, ...] = (),
) -> Result:
    """One network, its fits and truncations of every rank, and fits to ``fractions`` of its neurons."""
    network = train_network(task, n_neurons=size, g=g, seed=seed, error=error)
    recorded = record(network, trials, test, seed)
    fresh = TASKS[task](_ANSWERED, seed + 1000)
    own = accuracy_of(network, fresh)
    rows: list[tuple] = []

    def add(model: str, rank: int, fraction: float, r2: float, accuracy: float) -> None:
        rows.append((task, g, seed, size, model, rank, fraction, r2, accuracy, own))

    for rank in ranks:
        fit = fit_lint(
            recorded.activity, rank=rank, tau_s=network.attrs["tau_s"], loss="rate", test_conditions=recorded.held
        )
        few = fit.isel(condition=recorded.held)
        # the trained network's weights on its own inputs: nothing of the fit but its Dataset is used
        cut = truncate(few.assign(input_weights=network["input_weights"]), rank=rank, connectivity=network["J"].values)
        for model, one in (("low rank", few), ("truncated", cut)):
            r2 = rates_r2(recorded.truth, one["activity_pred"].values)
            add(model, rank, 1.0, r2, accuracy_of(one, fresh, network["readout"]))
        keep_fit(fit, fits, f"fig2_{task}_g{g:g}_seed{seed}_rank{rank}")
    for fraction in fractions:
        for model, rank, r2 in subsampled(recorded, fraction, SUFFICIENT[task], network.attrs["tau_s"], seed):
            add(model, rank, fraction, r2, np.nan)  # few neurons have no readout
    return {name: np.array(column) for name, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}


def subsampled(recorded: Recorded, fraction: float, rank: int, tau_s: float, seed: int) -> list[tuple[str, int, float]]:
    """Model, its rank (0 = unconstrained) and R² of noise-free rates, of fits to a random ``fraction`` of neurons."""
    size = recorded.activity.sizes["neuron"]
    number = max(rank, round(fraction * size))
    chosen = np.sort(np.random.default_rng([seed, 11]).permutation(size)[:number])
    few: xr.Dataset = recorded.activity.isel(neuron=chosen)
    shared: dict[str, Any] = {"tau_s": tau_s, "loss": "rate", "test_conditions": recorded.held}
    truth, found = recorded.truth[..., chosen], []
    for model, ranked, hidden in zip(FEW, (rank, None), (max(0, UNSEEN - number), 0), strict=True):
        fit = fit_lint(few, rank=ranked, hidden=hidden, **shared)
        x = fit["activity_pred"].values[recorded.held][..., :number]
        found.append((model, ranked or 0, rates_r2(truth, x)))
    return found


def tasks(setting: Setting) -> Tasks:
    """Quick: one small CDM network; full: both tasks, g from 0.1 to 1.2, as many seeds as asked."""
    if setting.quick:
        some = {"size": 128, "ranks": (1, 2, 5), "trials": 150, "test": 100, "fits": str(setting.fits)}
        some |= {"error": EASY, "fractions": (0.05,)}
        return [(None, {"task": "cdm", "g": 0.8, "seed": 0} | some)]
    # trials of cdm are short, and its rank-1 fits, near their own limit, want more of them
    trials = {"cdm": 400, "dms": 200}
    some = {"size": 512, "ranks": (1, 2, 3, 4, 5), "test": 100, "error": DISTINCT}
    some["fits"] = str(setting.fits)
    asked = [
        {"task": task, "g": g, "seed": seed, "trials": trials[task]}
        | ({"fractions": tuple(FIG2_SUBSAMPLED)} if (task, g) == SAMPLED else {})
        for task in ("dms", "cdm")  # the longest first
        for seed in range(setting.seeds)
        for g in (0.1, 0.8, 1.0, 1.2)
    ]
    return [(None, one | some) for one in asked]


def long(table: pd.DataFrame) -> pd.DataFrame:
    """R² and accuracy by rank, a panel for each task and g, and R² by fraction of the neurons: medians over seeds."""
    medians = table.groupby(["task", "g", "model", "rank", "fraction"], as_index=False)[["r2", "accuracy"]].median()
    few = medians["model"].isin(FEW)
    where = medians["task"] + ", g = " + medians["g"].astype(str)
    parts = [
        pd.DataFrame(
            {"panel": where, "line": medians["model"] + f", {name}", "x": medians["rank"], "y": medians[column]}
        )
        for column, name in (("r2", "R²"), ("accuracy", "accuracy"))
    ]
    by_rank = pd.concat([part[~few] for part in parts], ignore_index=True)
    by_fraction = parts[0][few].assign(panel=where + ", log10 of fraction", x=np.log10(medians["fraction"]))
    out = pd.concat([by_rank, by_fraction], ignore_index=True)
    out["y"] = out["y"].clip(lower=-0.5)
    return out


def compare(table: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Medians over seeds beside the published ones."""
    rows = []
    for model, told in (("low rank", FIG2_LOW_RANK), ("truncated", FIG2_TRUNCATED)):
        for (task, g), values in told.items():
            same = (table["task"] == task) & (table["model"] == model) & np.isclose(table["g"], g)
            median = table[same].groupby("rank")["r2"].median()
            rows += [
                (f"{task}, g = {g:g}, {model}, rank {rank}: R²", values[rank - 1], median[rank])
                for rank in median.index
            ]
    for column, model in enumerate(FEW):
        some = table[(table["model"] == model) & (table["task"] == SAMPLED[0]) & np.isclose(table["g"], SAMPLED[1])]
        for fraction, told_r2 in FIG2_SUBSAMPLED.items() if len(some) else ():
            same = some[np.isclose(some["fraction"], fraction)]["r2"]
            if len(same):
                what = f"{SAMPLED[0]}, g = {SAMPLED[1]:g}, {fraction:.0%} of the neurons, {model}: R²"
                rows.append((what, told_r2[column], float(same.median())))
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
    few = table[table["model"].isin(FEW)]
    if len(few):
        r2 = few.set_index(["task", "g", "seed", "fraction"]).pivot(columns="model")["r2"]
        least = r2.xs(r2.index.get_level_values("fraction").min(), level="fraction")
        told = f"the fewest neurons ({few['fraction'].min():.0%}): the low-rank fit above the unconstrained one"
        claims.append((f"{told} in every network", bool((least[FEW[0]] > least[FEW[1]]).all())))
    return claims


EXPERIMENT = Experiment(
    "Figure 2: full-rank networks, low-rank fits and truncations", ("rank", ""), measure, tasks, long, compare, hold
)
