"""Figure 5: recorded prefrontal neurons in the context-dependent decision: held-out R² by rank, axes, weights."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.axes import compare_axes
from nwb_lint.analysis.connectivity import weight_statistics
from nwb_lint.analysis.inactivation import predict_inactivation
from nwb_lint.analysis.populations import find_populations
from nwb_lint.analysis.readout import fit_readout
from nwb_lint.errors import ContractError
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks, markdown
from nwb_lint.experiments.measures import angles_of, save_with_results
from nwb_lint.experiments.paper.published import FIG5_ALL_CONDITIONS, FIG5_KURTOSIS, FIG5_SMALL, NOTES
from nwb_lint.model.fit import fit_lint
from nwb_lint.nwb.recording.read import read_conditions
from nwb_lint.validation.baselines import baselines
from nwb_lint.validation.rank import select_rank
from nwb_lint.workflow.recipe import Recipe, make_recipe
from nwb_lint.workflow.run import Preparation

NEEDED = (
    "It needs the recordings of Mante, Sussillo, Shenoy & Newsome, Nature 2013, as NWB files: spike times of units "
    "and a trials table with dots_on_time, correct, context, motion and color. The authors offer MATLAB files at "
    "https://www.ini.uzh.ch/en/research/groups/mante/data.html, and examples/mante2013.toml describes the files. Name "
    "their folder with --data."
)
RANDOM = 20  # random groups of recorded neurons for each kind of weights
_STIMULUS_S = (0.1, 0.85)
_THIRDS_S = ((0.1, 0.35), (0.35, 0.6), (0.6, 0.85))  # weights of the stimulus change in the course of a trial
_CONTEXT_S = (-0.25, 0.85)  # with the burn-in
_SHORT = {" weights": "", "as many as (.*) at random": r"random (\1)"}
COLUMNS = ("quantity", "model", "rank", "item", "value", "error")
Row = tuple[str, str, int, str, float, float]


def recipe_of(folder: Path) -> Recipe:
    """The analysis of section 3.3 of the paper, as in examples/mante2013.toml, of the NWB files in a folder.

    Raises ContractError if there are none.
    """
    if not any(folder.glob("*.nwb")):
        raise ContractError(f"There are no NWB files in {folder}. {NEEDED}")
    stimulus = {"scale": 1 / 3, "window_s": _THIRDS_S}  # ranks ±1, ±2, ±3: coherences differ between sessions
    return make_recipe({
        "sources": [str(folder / "*.nwb")],
        "read": {
            "by": ["context", {"motion": "rank"}, {"color": "rank"}], "align": "dots_on_time",
            "window_s": _STIMULUS_S, "bin_s": 0.0125, "smooth_s": 0.05, "where": "correct",
        },
        "prepare": {"n_components": 12, "burn_in_s": 0.35},
        "inputs": [
            *({"name": name, "column": name} | stimulus for name in ("motion", "color")),
            *({"name": f"context {name}", "column": "context", "equals": name, "window_s": _CONTEXT_S}
              for name in ("motion", "color")),
        ],
        "fit": {"tau_s": 0.1, "hidden": 100, "test_size": 8},
        "select": {"ranks": [1, 2, 3], "folds": 8},
    })  # fmt: skip


def with_choice(recording: xr.Dataset) -> xr.Dataset:
    """The recording with the choice on correct trials: the sign of the coherence that the context names."""
    relevant = np.where(recording["context"] == "motion", recording["motion"], recording["color"])
    return recording.assign_coords(choice=("condition", np.sign(relevant.astype(float))))


def measure(
    data: Preparation, *, kind: str, rank: int, folds: int, epochs: int, options: dict[str, Any], fits: str
) -> Result:
    """One part of the figure.

    ``kind`` is the cross-validation of a rank ("ours", or the published "loop"), that of "regression", or one "fit".
    """
    if kind == "fit":
        rows = analyze_fit(data, rank, options, fits)
    elif kind == "regression":
        rows = _regressions(data, folds, options)
    else:
        chosen = options if kind == "ours" else {"tau_s": options["tau_s"], "method": "published", "epochs": epochs}
        rows = _cross_validation(data, kind, rank, folds, chosen)
    return {name: np.array(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


def _cross_validation(data: Preparation, model: str, rank: int, folds: int, options: dict[str, Any]) -> list[Row]:
    """Mean held-out R² over folds, its standard error and ceiling, and the seconds of a fit with its preparation."""
    start = perf_counter()
    shared = {name: value for name, value in options.items() if name != "seed"}
    table = select_rank(data, ranks=[rank], folds=folds, **shared).sel(split="held_out")
    seconds = (perf_counter() - start) / folds
    r2, top = table["r2"].values.ravel(), float(table["r2_ceiling"].mean())
    error = float(r2.std(ddof=1) / np.sqrt(len(r2)))
    return [
        ("R², held out", model, rank, "all neurons", float(r2.mean()), error),
        ("ceiling", model, rank, "all neurons", top, np.nan),
        ("seconds a fit", model, rank, "", seconds, np.nan),
    ]


def _regressions(data: Preparation, folds: int, options: dict[str, Any]) -> list[Row]:
    """The same of a linear regression on the inputs at every time, without and with the choice."""
    rows: list[Row] = []
    for columns in ((), ("choice",)):
        shared = {"seed": options["seed"], "tau_s": options["tau_s"], "folds": folds, "method": "regression"}
        table = baselines(data, rank=1, columns=columns, **shared)
        r2 = float(table["baseline_r2"].sel(baseline="regression", split="held_out"))
        rows.append(("R², held out", "regression" + " with choice" * bool(columns), 0, "all neurons", r2, np.nan))
    return rows


def analyze_fit(data: Preparation, rank: int, options: dict[str, Any], fits: str) -> list[Row]:
    """One fit with 8 test conditions: R² by neuron, axes, weights, and silencing of small and large weights."""
    size = data.recording.sizes["condition"]
    test = np.zeros(size, bool)
    test[np.random.default_rng(options["seed"]).permutation(size)[:8]] = True
    activity = data(~test)
    fit = fit_lint(activity, rank=rank, test_conditions=test, **options)
    seen = fit.isel(neuron=np.flatnonzero(fit["recorded"].values))
    rows: list[Row] = []
    for split in ("train", "held_out"):
        score = seen["r2_neuron"].sel(split=split)
        rows += [(f"R² by neuron, {split}", "ours", rank, str(n), float(v), np.nan)
                 for n, v in zip(seen["neuron"].values, score.values, strict=True)]  # fmt: skip
    axes = compare_axes(fit, activity, variables=["motion", "color", "context", "choice"])
    rows += [("angle, degrees", "ours", rank, f"{a}, {b}", value, np.nan) for a, b, value in angles_of(axes)]
    statistics = weight_statistics(fit)
    for one in statistics["vector"].values.astype(str):
        at = statistics.sel(vector=one)
        rows.append(("excess kurtosis (error: p of heavier tails)", "ours", rank, one,
                     float(at["kurtosis"]), float(at["heavy_tail_p"])))  # fmt: skip
    more, silenced = silence_by_weight(fit, seen)
    rows += [(quantity, "ours", rank, item, value, error) for quantity, item, value, error in more]
    save_with_results(fit, Path(fits) / f"fig5_rank{rank}.nwb", {"axes": axes, "inactivation": silenced})
    return rows


def silence_by_weight(fit: xr.Dataset, seen: xr.Dataset) -> tuple[list[tuple[str, str, float, float]], xr.Dataset]:
    """Share of right choices in each context, with the recorded neurons of small or of large weights silenced.

    The choice is read from the recorded neurons. Random groups of recorded neurons have their mean, and their standard
    deviation in place of the error.
    """
    found = find_populations(seen, method="small_weights", resamples=2)
    small = found["population"].values == found["group"].values.tolist().index("small")
    labels, rng = seen["neuron"].values.astype(str), np.random.default_rng(0)
    groups: dict[str, Any] = {"nobody": labels[:0]}
    for name, some in (("small", small), ("large", ~small)):
        if some.any():
            groups |= {f"{name} weights": labels[some]}
            groups |= {f"{name} random {k}": rng.choice(labels, some.sum(), replace=False) for k in range(RANDOM)}
    readout = fit_readout(seen, "choice", folds=5)
    result = predict_inactivation(fit, groups, readout=readout, context="context", controls=0)
    rows = [("neurons", name, float(len(groups[name])), np.nan) for name in groups if "random" not in name]
    for context in result["context"].values.astype(str):
        right = result["accuracy"].sel(context=context)
        for name in ("nobody", "small weights", "large weights"):
            if name in groups:
                rows.append(("accuracy", f"{name}, context {context}", float(right.sel(group=name)), np.nan))
        for name in ("small", "large"):
            values = [float(right.sel(group=one)) for one in groups if one.startswith(f"{name} random")]
            if values:
                rows.append(("accuracy", f"as many as {name} at random, context {context}",
                             float(np.mean(values)), float(np.std(values))))  # fmt: skip
    return rows, result


def tasks(setting: Setting) -> Tasks:
    """Quick: rank 1, two folds, few hidden units. Full: ranks 1 to 5, and the published training at rank 1."""
    if setting.data is None:
        raise ContractError(f"fig5 has no folder of recordings. {NEEDED}")
    recipe = recipe_of(setting.data)
    read = recipe.read.model_dump()
    recording = with_choice(read_conditions(recipe.sources, seed=recipe.fit.seed, **read))
    data = Preparation(recording, recipe.input_list(), recipe.prepare.model_dump())
    options = recipe.fit.model_dump(exclude={"test_size", "test_conditions", "checkpoint"})
    some: dict[str, Any] = {"folds": 9, "epochs": 50, "fits": str(setting.fits)}
    ranks: tuple[int, ...] = (1, 2, 3, 4, 5)
    if setting.quick:
        some |= {"folds": 2, "epochs": 2}
        ranks, options = (1,), options | {"hidden": 8, "max_iter": 20}
    some["options"] = options
    parts = [("ours", rank) for rank in ranks] + [("loop", 1), ("regression", 0), *(("fit", r) for r in ranks[:2])]
    return [(data, some | {"kind": kind, "rank": rank}) for kind, rank in parts]


_COMPARED = [("ours", 1), ("loop", 1), ("regression", 0), ("regression with choice", 0)]


def _rows(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return table[table["quantity"] == quantity]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Panels: R² by rank with its ceiling, R² by neuron, kurtosis of weights, accuracy with neurons silenced."""
    by_rank = _rows(table, "R², held out")
    top = _rows(table, "ceiling")
    each = table[table["quantity"].str.startswith("R² by neuron") & (table["rank"] == 1)].copy()
    each["x"] = each.groupby("quantity")["value"].rank(method="first").astype(int)
    tails = table[table["quantity"].str.startswith("excess") & (table["rank"] == 1)]
    right = _rows(table, "accuracy")
    right = right[right["rank"] == 1]
    made = [
        ("R², held out, by rank (0: no network)", by_rank["model"], by_rank["rank"], by_rank["value"]),
        ("R², held out, by rank (0: no network)", top["model"].map("ceiling, {}".format), top["rank"], top["value"]),
        ("R² by neuron, rank 1", each["quantity"].str.split(", ").str[1], each["x"], each["value"]),
        ("excess kurtosis of weights, rank 1", tails["model"], tails["item"], tails["value"]),
        ("accuracy, silenced, rank 1", right["item"].str.split(", context ").str[1],
         right["item"].str.split(",").str[0].replace(_SHORT, regex=True), right["value"]),
    ]  # fmt: skip
    out = pd.concat([pd.DataFrame({"panel": a, "line": b, "x": c, "y": d}) for a, b, c, d in made], ignore_index=True)
    out["y"] = out["y"].clip(lower=-0.5)
    return out


def compare(table: pd.DataFrame) -> Comparison:
    """Held-out R² with the published R² of all conditions; kurtosis, and the share of small weights."""
    rows = []
    ours, top = _rows(table, "R², held out"), float(_rows(table, "ceiling")["value"].mean())
    reason = (
        "Other quantities: the published R² is of conditions that were fitted, ours of conditions that were held out "
        f"of every step. The ceiling of ours is {top:.3f}, from halves of the trials."
    )
    for rank, value in ours[ours["model"] == "ours"].set_index("rank")["value"].items():
        old = FIG5_ALL_CONDITIONS["A"][int(str(rank)) - 1]
        rows.append(Cell(f"rank {rank}: R² (published: monkey A, all conditions)", old, float(value), reason=reason))
    tails = table[table["quantity"].str.startswith("excess") & (table["rank"] == 1)]["value"]
    rows.append(Cell("kurtosis of weights, lowest", FIG5_KURTOSIS[0], float(tails.min()), None))
    rows.append(Cell("kurtosis of weights, highest", FIG5_KURTOSIS[1], float(tails.max()), None))
    number = _rows(table, "neurons")
    number = number[number["rank"] == 1].set_index("item")["value"]
    if {"small weights", "large weights"} <= set(number.index):
        share = number["small weights"] / (number["small weights"] + number["large weights"])
        rows.append(Cell("share of neurons with small weights (monkey A)", FIG5_SMALL, float(share), None))
    return rows


def claims(table: pd.DataFrame) -> Claims:
    """Rank 1 against the published training, regression and other ranks; the weights against those of the paper."""
    scores = _rows(table, "R², held out").set_index(["model", "rank"])["value"]
    scores = scores.reindex(scores.index.union(_COMPARED))  # NaN for a failed part, so its claims do not hold
    top = float(_rows(table, "ceiling")["value"].mean())
    ours = scores["ours"]
    found = [
        (f"rank 1 is above the published training on the same folds ({ours[1]:.3f}, {scores['loop', 1]:.3f}; "
         f"ceiling {top:.3f})", bool(ours[1] > scores["loop", 1])),
        (f"rank 1 is above regression on the inputs ({scores['regression', 0]:.3f})",
         bool(ours[1] > scores["regression", 0])),
        (f"rank 1 is above regression on the inputs and the choice ({scores['regression with choice', 0]:.3f})",
         bool(ours[1] > scores["regression with choice", 0])),
    ]  # fmt: skip
    if len(ours) > 1:
        detail = ", ".join(f"{rank}: {value:.3f}" for rank, value in ours.items())
        found.append((f"rank 1 does as well as any rank, within .02 ({detail})", bool(ours.max() - ours[1] < 0.02)))
    tails = table[table["quantity"].str.startswith("excess") & (table["rank"] == 1)]
    heavy = tails[tails["error"] < 0.05]["item"].tolist()
    detail = (
        f"rank 1; p < .05: {', '.join(heavy) or 'none'}; too few neurons to test: {int(tails['error'].isna().sum())}"
    )
    found.append((f"weights have heavier tails than a normal distribution ({detail})", len(heavy) == len(tails)))
    right = _rows(table, "accuracy")
    right = right[right["rank"] == 1].set_index("item")["value"]
    if any(item.startswith("small weights") for item in right.index):
        mean = {name: float(right[right.index.str.startswith(name)].mean()) for name in ("nobody", "small", "large")}
        detail = ", ".join(f"{name} {value:.2f}" for name, value in mean.items())
        found.append((f"silencing small weights keeps more right choices than silencing large ones ({detail})",
                       mean["small"] > mean["large"]))  # fmt: skip
    return found


def report(table: pd.DataFrame) -> str:
    """The table without single neurons, and the number of neurons with R² above 0."""
    each = _rows(table, "R² by neuron, held_out")
    lines = [
        f"Rank {rank}: R² above 0 on held-out conditions in {int((some['value'] > 0).sum())} of {len(some)} neurons, "
        f"median {some['value'].median():.3f}, highest {some['value'].max():.3f}."
        for rank, some in each.groupby("rank")
    ]
    return "\n\n".join([*lines, markdown(table[~table["quantity"].str.startswith("R² by neuron")])])


EXPERIMENT = Experiment(
    title="Figure 5: recorded neurons",
    labels=("", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["fig5"],
    compare=compare,
    report=report,
)
