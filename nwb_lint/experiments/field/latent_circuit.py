"""The network of Langdon & Engel and our fits to it, by the error that they give for latent circuits.

A network of 50 units with Dale's law is trained on their task, a decision by context. Its noisy activity y on 1800
trials is fitted. Their error is the mean square of y minus the model, over the mean square of y minus the mean of each
unit. A latent circuit of 8 nodes lives in 8 dimensions: six nodes for the inputs, two for the outputs. A network of
rank 2 with the same six inputs lives in 8 dimensions too.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.experiments.field.published import LATENT_CIRCUIT, NOTES
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import save_fit
from nwb_lint.model.fit import fit_lint
from nwb_lint.tasks.circuit import (
    ALPHA,
    DT_S,
    INPUTS,
    SIGMA,
    Weights,
    context_choice,
    run_circuit,
    share_of_right_choices,
    train_circuit,
)

Array = np.ndarray

COLUMNS = ("seed", "model", "rank", "dimensions", "trials", "error", "error_noise_free", "accuracy", "seconds")
SEEDS = (0, 1, 2)
RANKS = (1, 2, 4, 8)
SAME_RANK = 2  # with six inputs, as many dimensions as a latent circuit of 8 nodes
COMPONENTS = 8


def measure(data: None, *, seed: int, repeats: int, epochs: int, ranks: tuple[int, ...], fits: str) -> Result:
    """One network: errors of its fits on the fitted trials and on new ones, beside two bounds."""
    weights = train_circuit(seed=seed, repeats=repeats, epochs=epochs)
    fitted, new = (recorded(weights, repeats, seed + shift) for shift in (1000, 2000))
    rows: list[tuple[Any, ...]] = []

    def add(model: str, rank: int, dimensions: int, of: dict[str, Array], seconds: float) -> None:
        for name, trials in (("fitted", fitted), ("new", new)):
            clean = trials["noise_free"].values
            scores = [normalized_error(trials["activity"].values, of[name]), normalized_error(clean, of[name])]
            accuracy = share_of_right_choices(weights, trials, of[name])
            rows.append((seed, model, rank, dimensions, name, *scores, accuracy, seconds))

    units = fitted.sizes["neuron"]
    add("the network without noise", 0, units, {k: v["noise_free"].values for k, v in _named(fitted, new)}, np.nan)
    add(f"{COMPONENTS} principal components", 0, COMPONENTS, components(fitted, new), np.nan)
    test = np.arange(fitted.sizes["condition"], 2 * fitted.sizes["condition"])
    both = xr.concat([fitted, new], dim="condition", combine_attrs="override", join="override")
    for rank in ranks:
        start = perf_counter()
        fit = fit_lint(both, rank=rank, tau_s=DT_S / ALPHA, test_conditions=test, nonlinearity="relu")
        seconds = perf_counter() - start
        x = fit["activity_pred"].values
        add("low rank", rank, rank + len(INPUTS), {"fitted": x[: test[0]], "new": x[test]}, seconds)
        if rank == SAME_RANK:
            save_fit(fit, fits, f"latent_circuit_seed{seed}")
    return {name: np.array(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


def _named(fitted: xr.Dataset, new: xr.Dataset) -> list[tuple[str, xr.Dataset]]:
    return [("fitted", fitted), ("new", new)]


def recorded(weights: Weights, repeats: int, seed: int) -> xr.Dataset:
    """Noisy activity on trials of the task as `fit_lint` takes it, and the activity without noise."""
    out = context_choice(repeats, seed)
    for name, sigma in (("activity", SIGMA), ("noise_free", 0.0)):
        out[name] = ("condition", "time", "neuron"), run_circuit(weights, out["u"].values, sigma=sigma, seed=seed)
    return out.assign_coords(neuron=np.arange(out.sizes["neuron"]).astype(str))


def normalized_error(y: Array, found: Array) -> float:
    """Mean square of y - found over that of y minus the mean of each unit over trials and time."""
    y = y.astype(float)
    return float(np.square(y - found).mean() / np.square(y - y.mean(axis=(0, 1))).mean())


def components(fitted: xr.Dataset, new: xr.Dataset) -> dict[str, Array]:
    """Noisy activity projected on the leading directions (about 0) of the fitted trials.

    No other activity of so many dimensions has a smaller error there, also if it follows the noise of every trial.
    """
    y = fitted["activity"].values.reshape(-1, fitted.sizes["neuron"]).astype(float)
    axes = np.linalg.eigh(y.T @ y)[1][:, -COMPONENTS:]
    return {name: one["activity"].values @ axes @ axes.T for name, one in _named(fitted, new)}


def tasks(setting: Setting) -> Tasks:
    """Quick: a network that is trained shortly. Full: three networks, trained as theirs."""
    fits = str(setting.fits)
    if setting.quick:
        return [(None, {"seed": 0, "repeats": 4, "epochs": 150, "ranks": (SAME_RANK, 8), "fits": fits})]
    shared = {"repeats": 25, "epochs": 150, "ranks": RANKS, "fits": fits}
    return [(None, {"seed": seed} | shared) for seed in SEEDS]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Errors of fits by rank, a line for fitted and for new trials; bounds at rank 0."""
    some = table[table["model"] == "low rank"]
    floor = table[table["model"] == "the network without noise"]
    parts = []
    for panel, column in (("error", "error"), ("error, activity without noise", "error_noise_free")):
        for line, rows in (("low rank, ", some), ("network without noise, ", floor)):
            name = "seed " + rows["seed"].astype(str) + ": " + panel
            parts.append(
                pd.DataFrame({"panel": name, "line": line + rows["trials"], "x": rows["rank"], "y": rows[column]})
            )
    return pd.concat(parts, ignore_index=True)


def compare(table: pd.DataFrame) -> Comparison:
    """Their error with ours in as many dimensions, and at their rank, on the fitted trials as theirs."""
    rows, noise = [], table.loc[table["model"] == "the network without noise", "error"]
    reason = (
        f"The networks are trained here, and have {noise.min():.3f} to {noise.max():.3f} themselves, without noise. "
        f"The input nodes of a latent circuit have thresholds; a network of rank {SAME_RANK} adds its inputs to the "
        "activity without one."
    )
    for rank, what in ((SAME_RANK, "as many dimensions"), (LATENT_CIRCUIT["nodes"], "the same rank")):
        some = table[(table["model"] == "low rank") & (table["rank"] == rank)]
        for trials, these in some.groupby("trials"):
            name = f"{what} (rank {rank}), {trials} trials: normalized error, mean over networks"
            rows.append(Cell(name, LATENT_CIRCUIT["error"], float(these["error"].mean()), False, reason))
    return rows


def claims(table: pd.DataFrame) -> Claims:
    """The networks solve the task; the fit is below the published error, near the bound, and answers as the network."""
    bound = table[table["model"] == "the network without noise"].set_index(["seed", "trials"])
    some = table[(table["model"] == "low rank") & (table["rank"] == SAME_RANK)].set_index(["seed", "trials"])
    found = []
    right = bound["accuracy"]
    found.append(
        (f"the networks choose right in .9 of the trials (lowest {right.min():.3f})", bool(right.min() >= 0.9))
    )
    if len(some):
        worst = some["error"].max()
        found.append((f"the error of rank {SAME_RANK} is below the published one in every network and on new trials "
                      f"(largest {worst:.3f})", bool(worst < LATENT_CIRCUIT["error"])))  # fmt: skip
        gap = (right - some["accuracy"]).max()
        found.append((f"with the readout of the network, rank {SAME_RANK} chooses right as often within .02 "
                      f"({gap:.3f})", bool(gap <= 0.02)))  # fmt: skip
    return found


EXPERIMENT = Experiment(
    title="Latent circuits: a decision by context",
    labels=("rank", "normalized error"),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["latent_circuit"],
    compare=compare,
)
