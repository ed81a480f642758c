"""Figure 3: trajectories of a full-rank network and its fits on the fitted axes, and the angles of regression axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.axes import compare_axes
from nwb_lint.analysis.latents import project
from nwb_lint.experiments.frame import Claims, Experiment, Result, Setting, Tasks, markdown
from nwb_lint.experiments.measures import (
    QUICK_ERROR,
    TRAINING_ERROR,
    angles_of,
    append_conditions,
    save_with_results,
    trained,
)
from nwb_lint.experiments.paper.published import NOTES
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.simulate import run
from nwb_lint.nwb.extension.read import read_result
from nwb_lint.tasks.generate import TASKS, as_conditions
from nwb_lint.tasks.record import record_activity

Array = np.ndarray

COLUMNS = ("context", "motion", "color")
_AVERAGED_TRIALS = 2000  # their inputs are averaged by condition
PAIRS = {"motion": ("m 1", "I motion"), "color": ("m 1", "I color")}


def conditions_of(network: xr.Dataset, seed: int) -> xr.Dataset:
    """Noise-free activity of a network in the 72 conditions, with the mean inputs of each."""
    trials = as_conditions(TASKS["cdm"](_AVERAGED_TRIALS, seed))
    which = pd.DataFrame({name: trials[name].values for name in COLUMNS}).groupby(list(COLUMNS)).indices
    first = [positions[0] for positions in which.values()]
    mean = np.stack([trials["u"].values[positions].mean(axis=0) for positions in which.values()])
    out = trials.isel(condition=first).assign(u=(("condition", "time", "input"), mean))
    out = out.assign_coords(condition=[f"{c}, motion {m:g}, color {k:g}" for c, m, k in which])
    out["activity"] = run(network, out)["activity"]
    return out


def measure(
    data: None, *, g: float, seed: int, size: int, ranks: tuple[int, ...], trials: int, error: float, fits: str
) -> Result:
    """One network and its fits: agreement of trajectories on every axis, and angles with the regression axes."""
    network = trained("cdm", size=size, g=g, seed=seed, error=error)
    noisy, clean = record_activity(network, trials, seed=seed + 1), conditions_of(network, seed + 2)
    activity, test = append_conditions(noisy, clean)
    rows = []
    for rank in ranks:
        fit = fit_lint(activity, rank=rank, tau_s=network.attrs["tau_s"], test_conditions=test).isel(condition=test)
        found = clean.assign(activity=(clean["activity"].dims, fit["activity_pred"].values))
        own, fitted = project(fit, clean, orthogonal=False), project(fit, found, orthogonal=False)
        compared = compare_axes(fit, clean, variables=["motion", "color", "context", "answer"])
        rows += [(g, seed, size, rank, *row) for row in agreement(own, fitted, compared)]
        results = {"network": own, "fitted": fitted, "axes": compared}
        save_with_results(fit, fit_path(fits, g, seed, rank), results)
    names = ("g", "seed", "neurons", "rank", "quantity", "axis", "other", "value")
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def fit_path(fits: str | Path, g: float, seed: int, rank: int) -> Path:
    """The file of a fit and its axes."""
    return Path(fits) / f"fig3_g{g:g}_seed{seed}_rank{rank}.nwb"


def agreement(own: xr.Dataset, fitted: xr.Dataset, compared: xr.Dataset) -> list[tuple[str, str, str, float]]:
    """R² of trajectories and shares of variance by axis, and angles between regression axes and m, I."""
    rows: list[tuple[str, str, str, float]] = []
    for name in own["axis_name"].values.astype(str):
        a, b = (one["projection"].sel(axis_name=name).values for one in (own, fitted))
        rows.append(("trajectory R²", name, "", float(1 - np.square(a - b).sum() / np.square(a - a.mean()).sum())))
        rows.append(("share of variance, network", name, "", float(own["variance_explained"].sel(axis_name=name))))
        rows.append(("share of variance, fit", name, "", float(fitted["variance_explained"].sel(axis_name=name))))
    return rows + [("angle, degrees", *row) for row in angles_of(compared)]


def tasks(setting: Setting) -> Tasks:
    """Quick: one small network, rank 1. Full: g of 0.1 and 1, ranks 1 and 2, and all seeds."""
    if setting.quick:
        some = {"size": 64, "ranks": (1,), "trials": 100, "error": QUICK_ERROR, "fits": str(setting.fits)}
        return [(None, {"g": 0.8, "seed": 0} | some)]
    some = {"size": 512, "ranks": (1, 2), "trials": 400, "error": TRAINING_ERROR, "fits": str(setting.fits)}
    return [(None, {"g": g, "seed": seed} | some) for g in (0.1, 1.0) for seed in range(setting.seeds)]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """R² of trajectories by axis, a panel for each g and rank."""
    some = table[table["quantity"] == "trajectory R²"]
    panel = "g = " + some["g"].map("{:g}".format) + ", rank " + some["rank"].astype(str)
    seed = "seed " + some["seed"].astype(str)
    return pd.DataFrame({"panel": panel, "line": seed, "x": some["axis"], "y": some["value"]})


def nearest(table: pd.DataFrame) -> pd.DataFrame:
    """The fitted axis nearest to each regression axis: axis, other, value (degrees)."""
    some = table[table["quantity"] == "angle, degrees"]
    return some.loc[some.groupby(["g", "seed", "rank", "axis"])["value"].idxmin()]


def claims(table: pd.DataFrame) -> Claims:
    """Trajectories agree on the fitted axes, and regression on a stimulus finds the axis of its input."""
    of = table[table["quantity"] == "trajectory R²"]
    found = []
    for rank, some in of.groupby("rank"):
        worst = some.loc[some["value"].idxmin()]
        detail = f"lowest: {worst['value']:.3f}, {worst['axis']}, g = {worst['g']:g}"
        found.append((f"rank {rank}: trajectories on every fitted axis agree with R² of .9 or more ({detail})",
                       bool(worst["value"] >= 0.9)))  # fmt: skip
    close = nearest(table)
    for name in ("motion", "color"):
        some = close[close["axis"] == f"tdr {name}"]
        detail = ", ".join(f"{row.other} {row.value:.0f}°" for row in some.itertuples())
        found.append((f"the fitted axis nearest to regression on {name} is its input's ({detail})",
                       bool((some["other"] == f"I {name}").all())))  # fmt: skip
    some = close[close["axis"] == "tdr answer"]
    detail = ", ".join(f"{row.other} {row.value:.0f}°" for row in some.itertuples())
    found.append((f"the fitted axis nearest to regression on the choice is m ({detail})",
                   bool(some["other"].str.startswith("m ").all())))  # fmt: skip
    return found


def report(table: pd.DataFrame) -> str:
    """Agreement and shares of variance by axis, and the fitted axis nearest to each regression axis."""
    keys = ["g", "seed", "rank", "axis"]
    by_axis = table[table["quantity"] != "angle, degrees"].pivot_table(
        index=keys, columns="quantity", values="value", sort=False
    )
    close = nearest(table).rename(columns={"other": "nearest fitted axis", "value": "angle, degrees"})
    parts = [markdown(by_axis.reset_index()), markdown(close[[*keys, "nearest fitted axis", "angle, degrees"]])]
    return "\n\n".join(parts)


def draw(table: pd.DataFrame, fits: Path):
    """Network and fit on m and each sensory input, averaged over the other coherence, and the angles between axes."""
    from nwb_lint.plot.experiments import trajectories

    first = table.iloc[0]
    path = fit_path(fits, first["g"], first["seed"], first["rank"])
    rows = {name: _means(read_result(path, name)) for name in ("network", "fitted")}
    return trajectories(rows, PAIRS, read_result(path, "axes"))


def _means(projected: xr.Dataset) -> dict[str, xr.Dataset]:
    """For each stimulus, the projections averaged over the other one: conditions are contexts and coherences."""
    out = {}
    for name in PAIRS:
        keys = pd.DataFrame({"context": projected["context"].values, name: projected[name].values})
        which = keys.groupby(["context", name]).indices
        value = np.stack([projected["projection"].values[positions].mean(axis=0) for positions in which.values()])
        rest = projected.drop_dims("condition").assign_attrs(projected.attrs)
        made = rest.assign(projection=(("condition", "time", "axis_name"), value))
        columns = zip(*which, strict=True)
        out[name] = made.assign_coords(
            {k: ("condition", list(v)) for k, v in zip(("context", name), columns, strict=True)}
        )
    return out


EXPERIMENT = Experiment(
    title="Figure 3: trajectories on the fitted axes",
    labels=("axis", "R²"),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["fig3"],
    draw=draw,
    report=report,
)
