"""Figure 4: populations in fits to a full-rank network, their gains by context, and the effect of silencing each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.inactivation import predict_inactivation
from nwb_lint.analysis.populations import find_populations
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import (
    QUICK_ERROR,
    TRAINING_ERROR,
    append_conditions,
    rates_r2,
    save_with_results,
    trained,
)
from nwb_lint.experiments.paper.published import FIG4, NOTES
from nwb_lint.model.fit import fit_lint
from nwb_lint.nwb.extension.read import read_result
from nwb_lint.tasks.record import record_activity

CONTEXTS = ("color", "motion")
METHODS = {"em": 3, "strongest_input": None}  # three groups: one for each context, and the rest
_TEST_TRIALS = 100
QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}


def measure(
    data: None,
    *,
    g: float,
    seed: int,
    size: int,
    ranks: tuple[int, ...],
    trials: int,
    controls: int,
    error: float,
    fits: str,
) -> Result:
    """One network. Populations of each low-rank fit are silenced in that fit, the unconstrained fit and the network."""
    network = trained("cdm", size=size, g=g, seed=seed, error=error)
    clean = record_activity(network, _TEST_TRIALS, private_noise=0.0, seed=seed + 2)
    activity, test = append_conditions(record_activity(network, trials, seed=seed + 1), clean)
    made = {
        rank: fit_lint(
            activity, rank=rank, tau_s=network.attrs["tau_s"], test_conditions=test, ridge_by="innovations", seed=seed
        ).isel(condition=test)
        for rank in (*ranks, None)
    }
    r2 = {rank: rates_r2(np.tanh(clean["activity"].values), fit["activity_pred"].values) for rank, fit in made.items()}
    silence = partial(
        predict_inactivation, u=clean, readout=network["readout"], answer="answer", context="context",
        controls=controls, seed=seed,
    )  # fmt: skip
    rows: list[dict[str, object]] = []
    for rank in ranks:
        results: dict[str, xr.Dataset] = {}
        for method, n_groups in METHODS.items():
            found = find_populations(made[rank], method=method, n_groups=n_groups, seed=seed)
            silenced = {"network": silence(network, found)}
            silenced |= {model_name(k): silence(made[k], found) for k in (rank, None)}
            facts = {"g": g, "seed": seed, "neurons": size, "rank": rank, "method": method}
            for model, result in silenced.items():
                score = {"network": 1.0, model_name(rank): r2[rank]}.get(model, r2[None])
                rows += [
                    facts | {"model": model, "r2_intact": score} | row for row in rows_by_population(found, result)
                ]
            results[f"{method}_populations"] = found
            results |= {f"{method}_{model.replace(' ', '')}": result for model, result in silenced.items()}
        save_with_results(made[rank], Path(fits) / f"fig4_g{g:g}_seed{seed}_rank{rank}.nwb", results)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def model_name(rank: int | None) -> str:
    """Name of a fit of this rank in the table."""
    return "unconstrained" if rank is None else f"rank {rank}"


def rows_by_population(found: xr.Dataset, result: xr.Dataset) -> list[dict[str, object]]:
    """A row for each population: role, own context (of the larger gain), gains, and accuracies."""
    context = found["context"].values.astype(str)
    gain = np.array([found["gain"].values[context == name].mean(axis=0) for name in CONTEXTS])
    rows = []
    for k, group in enumerate(result["group"].values.astype(str)):
        p = found["group"].values.astype(str).tolist().index(group.removeprefix("population "))
        own = int(gain[1, p] > gain[0, p])
        role = "context" if p == int(np.nanargmax(gain[own] - gain[1 - own])) else "other"
        row: dict[str, object] = {"population": group.removeprefix("population "), "role": role, "own": CONTEXTS[own]}
        row["size"] = int((found["population"].values == p).sum())
        for where, name in (("own", CONTEXTS[own]), ("other", CONTEXTS[1 - own])):
            at = result.sel(context=name)
            row[f"gain_{where}"] = gain[CONTEXTS.index(name), p]
            row[f"intact_{where}"], row[f"accuracy_{where}"] = float(at["accuracy_intact"]), float(at["accuracy"][k])
            for tag, q in QUANTILES.items():
                row[f"random_{where}_{tag}"] = float(at["accuracy_control"].sel(quantile=q)[k])
        rows.append(row)
    return rows


def tasks(setting: Setting) -> Tasks:
    """Quick: one small network, rank 1. Full: g of 0.1 and 1, ranks 1 and 2, and all seeds."""
    fits = str(setting.fits)
    if setting.quick:
        some = {"size": 64, "ranks": (1,), "trials": 100, "controls": 3, "error": QUICK_ERROR, "fits": fits}
        return [(None, {"g": 0.8, "seed": 0} | some)]
    some = {"size": 512, "ranks": (1, 2), "trials": 800, "controls": 10, "error": TRAINING_ERROR, "fits": fits}
    return [(None, {"g": g, "seed": seed} | some) for g in (0.1, 1.0) for seed in range(setting.seeds)]


def harm(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the context populations, with the loss of accuracy in their own and in the other context."""
    some = table[table["role"] == "context"].copy()
    for where in ("own", "other"):
        some[f"harm_{where}"] = some[f"intact_{where}"] - some[f"accuracy_{where}"]
    return some


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in the own and the other context by model, a panel for each network and population."""
    some = table[table["method"] == "em"]
    panel = "g = " + some["g"].map("{:g}".format) + ", " + some["population"].astype(str)
    parts = [
        pd.DataFrame({"panel": panel, "line": f"{where} context", "x": some["model"], "y": some[f"accuracy_{where}"]})
        for where in ("own", "other")
    ]
    return pd.concat(parts, ignore_index=True)


def compare(table: pd.DataFrame) -> Comparison:
    """Accuracy with a context population of a rank-1 fit silenced, means over both populations and all networks."""
    some = table[(table["role"] == "context") & (table["method"] == "em") & (table["rank"] == 1)]
    rows = []
    for model, published in FIG4.items():
        ours = some[some["model"] == model]
        for where, values in published.items() if len(ours) else ():
            what = f"{model}, context population silenced, {where} context: accuracy"
            rows.append(Cell(what, float(np.mean(values)), float(ours[f"accuracy_{where}"].mean()), None))
    return rows


def claims(table: pd.DataFrame) -> Claims:
    """Silencing a context population harms its own context more than the other, in models and networks."""
    found = []
    for (method, rank), some in harm(table).groupby(["method", "rank"], sort=False):
        for model, rows in some.groupby("model", sort=False):
            more = rows["harm_own"] > rows["harm_other"]
            detail = f"{int(more.sum())} of {len(rows)}; accuracy falls by {rows['harm_own'].mean():.2f} and "
            detail += f"{rows['harm_other'].mean():.2f} on average"
            found.append((f"populations of rank {rank} ({method}), in the {_kind(model)}: each context population's "
                           f"inactivation harms its own context more ({detail})", bool(more.all())))  # fmt: skip
    for method, some in harm(table).groupby("method", sort=False):
        below = some["accuracy_own"] < some["random_own_low"]
        found.append((f"{method}: accuracy in the own context is below 95 % of random groups of the same size in each "
                       f"model and network ({int(below.sum())} of {len(below)})", bool(below.all())))  # fmt: skip
    return found


def _kind(model: str) -> str:
    return model if model == "network" else f"fit, {model}"


def report(table: pd.DataFrame) -> str:
    """A row for each network, fit and context population. Contexts are given as own / other."""
    lines = [
        "Context population: for each context, the population whose gain φ'(x) exceeds most its gain in the other one. "
        "Its own context is that of the larger gain. Accuracy: own / other context. Random: 5 % to 95 % of random "
        "groups of the same size, in the own context. N does not change.",
        "",
        "| g | seed | found in | method | population (neurons) | gain | silenced in | R² intact | accuracy | random |",
        "|---" * 10 + "|",
    ]
    for row in table[table["role"] == "context"].itertuples():
        lines.append(
            f"| {row.g:g} | {row.seed} | rank {row.rank} | {row.method} | {row.population}, own {row.own} ({row.size}) "
            f"| {row.gain_own:.2f} / {row.gain_other:.2f} | {row.model} | {row.r2_intact:.3f} "
            f"| {row.accuracy_own:.2f} / {row.accuracy_other:.2f} "
            f"| {row.random_own_low:.2f} to {row.random_own_high:.2f} |"
        )
    return "\n".join(lines)


def draw(table: pd.DataFrame, fits: Path):
    """Gains by context, and silencing in the network and its fits, of the first network and rank."""
    from nwb_lint.plot.experiments import silencing

    first = table.iloc[0]
    path = fits / f"fig4_g{first['g']:g}_seed{first['seed']}_rank{first['rank']}.nwb"
    read: Callable[[str], xr.Dataset] = lambda name: read_result(path, f"em_{name}")  # noqa: E731
    models = ("network", model_name(int(first["rank"])), model_name(None))
    return silencing(read("populations"), {name: read(name.replace(" ", "")) for name in models})


EXPERIMENT = Experiment(
    title="Figure 4: populations, gains and inactivations",
    labels=("", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["fig4"],
    compare=compare,
    draw=draw,
    report=report,
)
