"""The paper's fits to two monkeys as networks: what the design of its figure 5 says about a network that is known.

The networks have 727 and 574 neurons. Their activity is simulated in the design of the recordings: 72 conditions (two
contexts, six coherences of motion, six of color), 150 bins of 5 ms that are seen, and before them 350 ms of context
alone that nobody sees. Eight conditions are held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import kurtosis
from sklearn.metrics import adjusted_rand_score

from nwb_lint.analysis.axes import compare_axes
from nwb_lint.analysis.latents import project
from nwb_lint.analysis.populations import find_populations
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.experiments.field.published import MONKEYS, NOTES
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks, markdown
from nwb_lint.experiments.measures import (
    angles_of,
    append_conditions,
    connectivity_scores,
    save_with_results,
    similarity,
)
from nwb_lint.experiments.paper.fig3 import agreement
from nwb_lint.experiments.paper.fig5 import silence_by_weight
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import DeterminedN, canonical, determined_n, effective_n
from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.model.simulate import run
from nwb_lint.tasks.convert import from_network
from nwb_lint.tasks.record import noisy_run
from nwb_lint.tasks.shelf import published_as
from nwb_lint.tasks.train import effective_connectivity
from nwb_lint.validation.ensemble import ensemble

Array = np.ndarray
Row = tuple[str, str, int, str, str, float, float, float]

NEEDED = (
    "It needs the networks of the paper: the folder models of https://github.com/adrian-valente/lowrank_inference. "
    "Name a clone of it with --data."
)
COLUMNS = ("quantity", "monkey", "rank", "design", "item", "value", "low", "high")
BIN_S, ALPHA = 0.005, 0.2  # of the networks
COHERENCES = {  # of both stimuli, as in data/conditions_monkey*.csv beside the networks
    "A": (0.5, 0.15, 0.047),
    "F": (0.537, 0.194, 0.072),
}
INPUTS = ("motion", "color", "context motion", "context color")
UNSEEN_S, STIMULUS_S, DELAY_S, DECISION_S = 0.35, 0.65, 0.095, 0.005
TEST = 8  # conditions
PRIVATE_NOISE = 0.05  # sd of each step, of single trials
MEAN_NOISE = 0.1  # sd, in units of the sd of the activity, of noisy means
TRIALS = 4  # of each condition, where trials are single
DRAWS = 20
AS_PUBLISHED = "as published"
OTHER_DESIGNS = ("all is seen", "noisy means", "single trials")
VARIABLES = ["motion", "color", "context", "choice"]
AS_GOOD = 0.998  # R² of a network that counts as equally good


# -- networks and activity --------------------------------------------------------------------------------------------


def networks_in(folder: Path) -> dict[tuple[str, int], Path]:
    """Files of the fits to both monkeys, by monkey and rank."""
    found = {}
    for file in sorted(folder.rglob("mante_monkey?_subspace_rank?_*.pt")):
        words = file.stem.split("_")
        found[words[1].removeprefix("monkey"), int(words[3].removeprefix("rank"))] = file
    return found


def heavy_tailed(size: int, rank: int, seed: int) -> dict[str, Array]:
    """Weights of a network with heavy tails, which stands for those of the paper in quick runs."""
    rng = np.random.default_rng(seed)
    scale = np.exp(0.7 * rng.standard_normal((size, 1)))
    m, w = scale * rng.standard_normal((size, rank)), scale * rng.standard_normal((size, len(INPUTS)))
    n = 1.2 * m / scale**2 + 0.3 * rng.standard_normal((size, rank))
    n[:, 0] += (0.8 * w[:, 0] + 0.5 * w[:, 1]) / scale[:, 0] ** 2
    return {"m": m, "n": n, "input_weights": 0.7 * w}


def design(monkey: str, unseen_s: float = UNSEEN_S) -> xr.Dataset:
    """Inputs of the 72 conditions, with ``unseen_s`` of context alone and one step from rest as the burn-in."""
    levels = COHERENCES.get(monkey, COHERENCES["A"])
    values = sorted({sign * level for level in levels for sign in (-1, 1)})
    rows = list(product(("color", "motion"), values, values))
    before, stimulus, delay, last = (round(part / BIN_S) for part in (UNSEEN_S, STIMULUS_S, DELAY_S, DECISION_S))
    u = np.zeros((len(rows), before + stimulus + delay + last, len(INPUTS)), np.float32)
    for one, (context, motion, color) in zip(u, rows, strict=True):
        one[before : before + stimulus, :2] = motion, color
        one[: before + stimulus + delay, 2 + (context == "color")] = 1
    skip = round(unseen_s / BIN_S) + 1
    u = np.pad(u, ((0, 0), (0, 1), (0, 0)))
    time = BIN_S * (np.arange(u.shape[1]) - before)
    contexts, motions, colors = (np.array(column) for column in zip(*rows, strict=True))
    relevant = np.where(contexts == "motion", motions, colors)
    return xr.Dataset(
        {
            "u": (("condition", "time", "input"), u[:, skip:]),
            "u_burn_in": (("condition", "burn_in", "input"), u[:, :skip]),
        },
        {
            "condition": [f"{c}, motion {m:g}, color {k:g}" for c, m, k in rows],
            "context": ("condition", contexts), "motion": ("condition", motions), "color": ("condition", colors),
            "choice": ("condition", np.sign(relevant)), "input": list(INPUTS), "time": time[skip:],
            "burn_in": time[:skip],
        },
        {"bin_s": BIN_S},
    )  # fmt: skip


def network_in(file: str, monkey: str, rank: int, given: xr.Dataset) -> xr.Dataset:
    """The network of a file as a fit with the inputs of a design; without a file, one with heavy tails."""
    if file:
        known = published_as(Path(file))
        weights: Any = file
        options = {"dt_s": BIN_S, "alpha": ALPHA} if known is None else known.options
    else:
        weights, options = heavy_tailed(120, rank, seed=3), {"dt_s": BIN_S, "alpha": ALPHA}
    whole = np.concatenate([given["u_burn_in"].values, given["u"].values], axis=1)
    time = np.concatenate([given["burn_in"].values, given["time"].values])
    u = xr.DataArray(whole, dims=given["u"].dims, coords={"time": time, "input": given["input"].values})
    network = from_network(weights, u=u, **options).isel(time=slice(given.sizes["burn_in"], None))
    columns = {name: given[name] for name in ("condition", "context", "motion", "color", "choice", "burn_in")}
    return network.assign(u_burn_in=given["u_burn_in"]).assign_coords(columns)


def activity_of(network: xr.Dataset) -> xr.Dataset:
    """What is seen of a network without noise, as `fit_lint` takes it."""
    out = (
        network[["u", "u_burn_in", "activity_pred"]]
        .rename(activity_pred="activity")
        .drop_vars("split", errors="ignore")
    )
    return out.assign_attrs({"bin_s": float(network.attrs["dt_s"])})


def noisy(network: xr.Dataset, kind: str, seed: int) -> xr.Dataset:
    """Noisy activity of the conditions: single trials with noise in the network, or means with noise on them."""
    clean = activity_of(network)
    if kind == "noisy means":
        rng, x = np.random.default_rng(seed), clean["activity"].values
        drawn = MEAN_NOISE * x.std() * rng.standard_normal(x.shape, dtype=np.float32)
        return clean.assign(activity=(clean["activity"].dims, x + drawn))
    few = clean.isel(condition=np.repeat(np.arange(clean.sizes["condition"]), TRIALS))
    labels = [f"{name}, trial {k}" for name in clean["condition"].values for k in range(TRIALS)]
    whole = np.concatenate([few["u_burn_in"].values, few["u"].values], axis=1)
    x = noisy_run(network, whole, PRIVATE_NOISE, seed)[:, few.sizes["burn_in"] :]
    return few.assign(activity=(few["activity"].dims, x)).assign_coords(condition=labels)


def held_out(size: int, seed: int) -> Array:
    """Boolean (condition): eight random conditions."""
    test = np.zeros(size, bool)
    test[np.random.default_rng(seed).permutation(size)[:TEST]] = True
    return test


# -- parts ------------------------------------------------------------------------------------------------------------


def measure(
    data: None, *, kind: str, monkey: str, rank: int, fitted: int, file: str, seed: int, draws: int, fits: str
) -> Result:
    """One part: ``kind`` is a design whose network is fitted ("as published", …), or "figure", or "determined"."""
    given = design(monkey, 0.0 if kind == "all is seen" else UNSEEN_S)
    network = network_in(file, monkey, rank, given)
    if kind == "figure":
        rows = list(figure_rows(network, seed, fits, monkey))
    elif kind == "determined":
        rows = list(determined_rows(network, seed, draws))
    else:
        rows = list(recovery_rows(network, kind, fitted, seed))
    named = [(quantity, monkey, rank, kind, *rest) for quantity, *rest in rows]
    return {name: np.array(column) for name, column in zip(COLUMNS, zip(*named, strict=True), strict=True)}


def fitted_to(network: xr.Dataset, activity: xr.Dataset, rank: int | None, test: Array) -> xr.Dataset:
    """The fit of a rank to activity of a network."""
    return fit_lint(activity, rank=rank, tau_s=float(network.attrs["tau_s"]), test_conditions=test)


def recovery_rows(network: xr.Dataset, kind: str, rank: int, seed: int) -> Iterator[tuple]:
    """R² of held-out conditions without noise, agreement of the connectivities, seconds, and R² of the stages."""
    clean, test = activity_of(network), held_out(network.sizes["condition"], seed)
    if kind in ("noisy means", "single trials"):
        drawn = noisy(network, kind, seed + 1)
        repeated = np.repeat(test, drawn.sizes["condition"] // len(test))
        activity, positions = append_conditions(drawn.isel(condition=~repeated), clean.isel(condition=test))
        activity = activity.assign_coords(condition=np.arange(activity.sizes["condition"]).astype(str))
        test = np.isin(np.arange(activity.sizes["condition"]), positions)
    else:
        activity = clean
    start = perf_counter()
    fit = fitted_to(network, activity, rank or None, test)
    seconds, item = perf_counter() - start, f"rank {rank}" if rank else "unconstrained"
    yield "R², held out", item, float(fit["r2"].sel(split="held_out")), np.nan, np.nan
    if rank == network.sizes["rank"]:
        for name, value in connectivity_scores(network, fit).items():
            yield name.upper().replace("_", ", "), item, value, np.nan, np.nan
    for stage, ridge in zip(fit["stage"].values.astype(str), fit["stage_ridge"].values, strict=True):
        r2 = float(fit["stage_r2"].sel(stage=stage, split="held_out"))
        yield "R² of the stage, held out", f"{item}, {stage}, ridge {ridge:g}", r2, np.nan, np.nan
    yield "accuracy", item, right_choices(network, run(fit, clean)["activity"].values), np.nan, np.nan
    yield "seconds a fit", item, seconds, np.nan, np.nan


def right_choices(network: xr.Dataset, x: Array) -> float:
    """Share of right choices of activity (condition, time, neuron), by its last bin along the axis of the choice.

    The axis is that of regression on the activity of the network, whose mean over conditions is the threshold.
    """
    clean = activity_of(network)
    axis = compare_axes(network, clean, variables=VARIABLES, mtdr_dims=0)["axis"].sel(axis_name="tdr choice").values
    last = (x[:, -1] - clean["activity"].values[:, -1].mean(axis=0)) @ axis
    return float((np.sign(last) == clean["choice"].values).mean())


def determined_rows(network: xr.Dataset, seed: int, draws: int) -> Iterator[tuple]:
    """How far the states that are seen determine J_eff: equally good n, ridges, and singular directions."""
    clean, test = activity_of(network), held_out(network.sizes["condition"], seed)
    n, size = network["n"].values.astype(float), network.sizes["neuron"]
    truth, x = effective_connectivity(network), clean["activity"].values.reshape(-1, size).astype(float)
    for ridge in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        part = determined_n(n, x, "tanh", ridge)
        r2, found = _with_n(network, clean, test, part.n)
        yield "R² with the determined part of n", f"ridge {ridge:g}", r2, np.nan, np.nan
        yield "ECC of the determined part of n", f"ridge {ridge:g}", similarity(truth, found)[0], np.nan, np.nan
        yield "determined dimensions of n", f"ridge {ridge:g}", float(part.shares.sum()), np.nan, np.nan
    fit = fitted_to(network, clean, network.sizes["rank"], test)
    yield from _equally_good(fit, clean, test, truth, x, draws, seed)
    agree = ensemble(
        clean, rank=network.sizes["rank"], tau_s=float(network.attrs["tau_s"]), vary="ridge", method="regression"
    )
    good = np.flatnonzero(agree["as_good"].values)
    member = [agree["m"].values[k] @ agree["n_effective"].values[k].T / size for k in good]
    ecc = [similarity(truth, one)[0] for one in member]
    yield "ECC of ridges that are equally good", f"{len(good)} ridges", np.median(ecc), min(ecc), max(ecc)


def _with_n(network: xr.Dataset, clean: xr.Dataset, test: Array, n: Array) -> tuple[float, Array]:
    """R² of held-out conditions with another n, and its effective connectivity."""
    other = network.assign(n=(("neuron", "rank"), n))
    y, found = clean["activity"].values, run(other, clean)["activity"].values
    r2 = r_squared(y[test], found[test], reference_of(y, ~test))[0]
    return float(r2), effective_connectivity(other)


def _equally_good(
    fit: xr.Dataset, clean: xr.Dataset, test: Array, truth: Array, x: Array, draws: int, seed: int
) -> Iterator[tuple]:
    """ECC, and singular directions, of n with random parts where the states that are seen do not determine it."""
    rng, part = np.random.default_rng(seed), _largest_ridge(fit, clean, test, x)
    size = np.sqrt(np.square(fit["n"].values).mean(axis=0))
    found, r2 = [], []
    for _ in range(draws):
        score, one = _with_n(fit, clean, test, part.completed(size, rng))
        if score >= AS_GOOD:
            found.append(one)
            r2.append(score)
    yield "draws with a random rest of n that are equally good", f"of {draws}", float(len(found)), np.nan, np.nan
    if not found:
        return
    ecc = [similarity(truth, one)[0] for one in found]
    low, middle, high = np.quantile(ecc, (0.05, 0.5, 0.95))
    yield "ECC of n with a random rest", f"R² at least {min(r2):.4f}", middle, low, high
    rank = fit.sizes["rank"]
    u, s, v = _leading(truth, rank)
    each = [_leading(one, rank) for one in found]
    for k in range(rank):
        for name, values in (
            ("left singular direction", [abs(a[:, k] @ u[:, k]) for a, _, _ in each]),
            ("right singular direction", [abs(b[:, k] @ v[:, k]) for _, _, b in each]),
            ("singular value, share of the true one", [c[k] / s[k] for _, c, _ in each]),
        ):
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            yield f"{name} of J_eff with a random rest of n", f"{k + 1}", middle, low, high


def _largest_ridge(fit: xr.Dataset, clean: xr.Dataset, test: Array, x: Array) -> DeterminedN:
    """The part of n that the states determine, with the largest ridge whose run is good enough."""
    n = fit["n"].values.astype(float)
    parts = (determined_n(n, x, "tanh", ridge) for ridge in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
    return next(
        (one for one in parts if _with_n(fit, clean, test, one.n)[0] >= AS_GOOD), determined_n(n, x, "tanh", 1e-6)
    )


def _leading(matrix: Array, rank: int) -> tuple[Array, Array, Array]:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank].T


# -- figure 5 ---------------------------------------------------------------------------------------------------------


def figure_rows(network: xr.Dataset, seed: int, fits: str, monkey: str) -> Iterator[tuple]:
    """What figure 5 and its supplements show, of a network and of its fit."""
    clean, test, rank = activity_of(network), held_out(network.sizes["condition"], seed), network.sizes["rank"]
    fit = fitted_to(network, clean, rank, test)
    each = fit["r2_neuron"].sel(split="held_out").values
    yield "R² by neuron, held out", "median, lowest and highest", np.median(each), each.min(), each.max()
    axes = {name: compare_axes(one, clean, variables=VARIABLES) for name, one in (("network", network), ("fit", fit))}
    angle = {name: {one[:2]: one[2] for one in angles_of(axes[name])} for name in axes}
    for pair, value in angle["network"].items():
        yield "angle, degrees (network, fit, fit)", ", ".join(pair), value, angle["fit"][pair], angle["fit"][pair]
    own = project(fit, clean, orthogonal=False)
    found = clean.assign(activity=(clean["activity"].dims, fit["activity_pred"].values))
    fitted = project(fit, found, orthogonal=False)
    for quantity, axis, _, value in agreement(own, fitted, axes["fit"]):
        if quantity == "trajectory R²":
            yield quantity, axis, value, np.nan, np.nan
    for name, value in kurtosis_of(network).items():
        other = kurtosis_of(fit)[name]
        yield "excess kurtosis (network, fit, fit)", name, value, other, other
    silenced = {}
    for model, one in (("network", network), ("fit", fit)):
        more, silenced[model] = silence_by_weight(one, one)
        for quantity, item, value, error in more:
            yield f"{quantity}, {model}", item, value, value - error, value + error
    groups = [find_populations(one, method="small_weights", resamples=2)["population"].values for one in (network, fit)]
    yield "groups of small and large weights", "adjusted Rand index", adjusted_rand_score(*groups), np.nan, np.nan
    results = {"axes": axes["fit"], "network": own, "fitted": fitted, "inactivation": silenced["fit"]}
    save_with_results(fit, Path(fits) / f"monkey{monkey}_rank{rank}.nwb", results)


def kurtosis_of(fit: xr.Dataset) -> dict[str, float]:
    """Excess kurtosis of m, n, its effective part P n, and the input weights, in the canonical gauge."""
    m, n = canonical(fit["m"].values, fit["n"].values)
    each = {"m": m, "n": n, "P n": effective_n(m, n, fit["input_weights"].values)}
    columns = {f"{name} {k + 1}": one for name, columns in each.items() for k, one in enumerate(columns.T)}
    columns |= {f"I {name}": one for name, one in zip(input_names(fit), fit["input_weights"].values.T, strict=True)}
    return {name: float(kurtosis(one)) for name, one in columns.items()}


# -- table ------------------------------------------------------------------------------------------------------------


def tasks(setting: Setting) -> Tasks:
    """Quick: a network of 120 neurons, or those of rank 2 in the folder. Full: all networks in the folder."""
    files = {} if setting.data is None else networks_in(setting.data)
    if setting.data is not None and not files:
        raise ContractError(f"There are no networks of the monkeys in {setting.data}. {NEEDED}")
    if not files and not setting.quick:
        raise ContractError(f"monkeys has no folder of networks. {NEEDED}")
    parts = list(_quick_parts(files) if setting.quick else _parts(files))
    shared = {"seed": 0, "draws": 3 if setting.quick else DRAWS, "fits": str(setting.fits)}
    names = ("kind", "monkey", "rank", "fitted")
    return [
        (None, dict(zip(names, one, strict=True)) | {"file": str(files.get(one[1:3], ""))} | shared) for one in parts
    ]


def _quick_parts(files: dict[tuple[str, int], Path]) -> Iterator[tuple[str, str, int, int]]:
    if not files:
        yield from ((kind, "simulated", 1, 1) for kind in (AS_PUBLISHED, "figure", "determined"))
    ranks = {rank for _, rank in files}
    yield from ((AS_PUBLISHED, monkey, r, r) for monkey, r in files if r == 2 or 2 not in ranks)


def _parts(files: dict[tuple[str, int], Path]) -> Iterator[tuple[str, str, int, int]]:
    for monkey, rank in files:
        yield AS_PUBLISHED, monkey, rank, rank
    for monkey in sorted({monkey for monkey, _ in files}):
        highest = max(rank for name, rank in files if name == monkey)
        yield from ((AS_PUBLISHED, monkey, highest, rank) for rank in (*range(1, highest), 0) if monkey == "A")
        yield from ((kind, monkey, 2, 2) for kind in (*OTHER_DESIGNS, "determined") if (monkey, 2) in files)
        if (monkey, 1) in files:
            yield "figure", monkey, 1, 1


def _of(table: pd.DataFrame, quantity: str, design: str | None = None) -> pd.DataFrame:
    some = table[table["quantity"] == quantity]
    return some if design is None else some[some["design"] == design]


def _same_rank(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of fits that have the rank of their network."""
    some = _of(table, quantity)
    return some[some["item"] == "rank " + some["rank"].astype(str)]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """R² by rank, ECC by design, kurtosis of weights, accuracy with neurons silenced; a line for each monkey."""
    highest = table["rank"].max()
    r2 = _of(table, "R², held out", AS_PUBLISHED)
    r2 = r2[r2["rank"] == highest]
    parts = [(f"R² held out, network of rank {highest}", r2["monkey"], r2["item"], r2["value"])]
    for quantity, panel in (("R², held out", "R² held out"), ("ECC", "ECC")):
        some = _same_rank(table, quantity)
        some = some[(some["rank"] == 2) | (highest < 2)]
        parts.append((f"{panel} by design, rank {min(2, highest)}", some["monkey"], some["design"], some["value"]))
    tails = _of(table, "excess kurtosis (network, fit, fit)")
    tails = tails[tails["rank"] == 1]
    for line, column in (("network", "value"), ("fit", "low")):
        parts.append(("excess kurtosis, rank 1", tails["monkey"] + ", " + line, tails["item"], tails[column]))
    for model in ("network", "fit"):
        right = _of(table, f"accuracy, {model}")
        right = right[(right["rank"] == 1) & ~right["item"].str.contains("at random")]
        name = right["item"].str.replace(" weights", "").str.replace("context ", "")
        parts.append(("accuracy, silenced, rank 1", right["monkey"] + ", " + model, name, right["value"]))
    made = [pd.DataFrame({"panel": a, "line": b, "x": c, "y": d}) for a, b, c, d in parts]
    return pd.concat([one for one in made if len(one)], ignore_index=True)


def compare(table: pd.DataFrame) -> Comparison:
    """Weights, populations and inactivations of rank 1 as published, and in our fits to the same networks."""
    rows: list[Cell] = []
    some = table[(table["rank"] == 1) & (table["design"] == "figure")]
    for monkey, published in MONKEYS.items():
        own = some[some["monkey"] == monkey]
        tails = _of(own, "excess kurtosis (network, fit, fit)").set_index("item")["low"]
        for name in tails.index.intersection(list(published.kurtosis)):
            what = f"monkey {monkey}, excess kurtosis of {name}"
            rows.append(Cell(what, published.kurtosis[name], float(tails[name]), None))
        number = _of(own, "neurons, fit").set_index("item")["value"]
        if {"small weights", "large weights"} <= set(number.index):
            share = number["small weights"] / (number["small weights"] + number["large weights"])
            small, size = published.small
            rows.append(Cell(f"monkey {monkey}, share of neurons with small weights", small / size, float(share), None))
        right = _of(own, "accuracy, fit")
        for name, value in published.silenced.items():
            ours = right[right["item"].str.startswith(name)]["value"]
            if len(ours):
                rows.append(Cell(f"monkey {monkey}, accuracy, {name} silenced", value, float(ours.mean()), None))
    return rows


def claims(table: pd.DataFrame) -> Claims:
    """The network comes back in the design of the recordings, and does so for a reason."""
    found: Claims = []
    for quantity, least in (("R², held out", AS_GOOD), ("ECC", 0.95)):
        some = _same_rank(table, quantity)
        for kind, rows in some.groupby("design", sort=False):
            low = rows.loc[rows["value"].idxmin()]
            detail = f"lowest {low['value']:.4f}: monkey {low['monkey']}, rank {low['rank']}"
            found.append((f"{kind}: {quantity} at least {least:g} ({detail})", bool(low["value"] >= least)))
    ecc = _of(table, "ECC of n with a random rest")
    if len(ecc):
        low = ecc.loc[ecc["low"].idxmin()]
        detail = f"lowest {low['low']:.3f}: monkey {low['monkey']}, rank {low['rank']}"
        what = f"equally good n have the same effective connectivity, ECC at least .95 in 95 % of them ({detail})"
        found.append((what, bool(low["low"] >= 0.95)))
    tails = _of(table, "excess kurtosis (network, fit, fit)")
    tails = tails[~tails["item"].str.startswith("n ")]
    if len(tails):
        off = ((tails["low"] - tails["value"]).abs() / tails["value"].abs().clip(lower=1)).max()
        what = f"m, P n and I of fits have the kurtosis of the network's within 10 % (largest difference {off:.0%})"
        found.append((what, bool(off <= 0.1)))
    pairs = table[table["quantity"].isin(["accuracy, network", "accuracy, fit"])]
    pairs = pairs[~pairs["item"].str.contains("at random")]
    if len(pairs):
        wide = pairs.pivot_table(index=["monkey", "rank", "item"], columns="quantity", values="value")
        off = (wide["accuracy, fit"] - wide["accuracy, network"]).abs().max()
        found.append((f"silencing does in the fits what it does in the networks: accuracies differ by at most .05 "
                      f"({off:.3f})", bool(off <= 0.05)))  # fmt: skip
    return found


def report(table: pd.DataFrame) -> str:
    """The table, with blanks where a row has no interval."""
    return markdown(table.astype({"low": object, "high": object}).fillna(""))


EXPERIMENT = Experiment(
    title="The paper's monkeys: the design of figure 5 on networks that are known",
    labels=("", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["monkeys"],
    compare=compare,
    report=report,
)
