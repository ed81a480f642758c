"""What a fit means, as tables of a report: fixed points, cycles, populations, connectivity, readout, inactivation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import xarray as xr

from nwb_lint.analysis.connectivity import weight_statistics
from nwb_lint.analysis.inactivation import effect_table
from nwb_lint.contract.columns import input_names
from nwb_lint.model.tuning import MAX_DISTANCE
from nwb_lint.reports.items import Item, Table, number

EXPLAINED: list[Item] = [
    "Slowest: real part of the eigenvalue nearest to 0; below 0 the latents come back. Line attractor: 1 where one "
    "direction does not move and the others do, 0 where no direction is slower than the others. Starts: how many "
    "starts of the search ended there. Distance: from what the trajectories visited, in their standard deviations. "
    "Near marginal: a trial is too short to tell the point from one where nothing moves."
]


_METRICS = {
    "accuracy": "Accuracy: the share of held-out conditions that are right; 0.5 is chance for two values as frequent.",
    "R2": "R2: the share of the variance over held-out conditions that the readout explains; 0 is none.",
}


def of_analysis(result: xr.Dataset) -> list[Item]:
    """The tables of the result of an analysis; nothing for a kind that only a picture shows."""
    make = _ANALYSES.get(result.attrs["kind"])
    return make(result) if make else []


def of_weights(fit: xr.Dataset) -> list[Item]:
    """How the weights of each vector are distributed over the neurons."""
    found = weight_statistics(fit)
    columns = (found[name].values for name in ("vector", "mean", "sd", "kurtosis", "heavy_tail_p"))
    rows = [[str(vector), *map(number, values)] for vector, *values in zip(*columns, strict=True)]
    note = (
        "sd: standard deviation over the neurons. Kurtosis is 0 for Gaussian weights. p: how often Gaussian weights "
        "have tails as heavy."
    )
    return [Table("weights", ["", "mean", "sd", "kurtosis", "p heavy"], rows, [note])]


def _fixed_points(points: xr.Dataset) -> list[Item]:
    label = str(points.attrs.get("condition", ""))
    held = f"input of {'trial ' * label.isdigit()}{label}" if label else "constant input"
    if not points.sizes["fixed_point"]:
        return [f"Fixed points, {held}: none found."]
    rank = points.sizes["rank"]
    header = [*(f"κ {k + 1}" for k in range(rank)), "stability", "slowest, 1/s", "line attractor", "starts"]
    rows = [_fixed_point(points.isel(fixed_point=k)) for k in range(points.sizes["fixed_point"])]
    return [Table(f"fixed points, {held}", [*header, "distance, sd", "remarks"], rows)]


def _fixed_point(one: xr.Dataset) -> list[str]:
    at = int(np.abs(one["eigenvalue_real"].values).argmin())
    remarks = []
    for name in ("draws", "ranks", "ridges"):
        if f"share_{name}" in one and np.isfinite(one[f"share_{name}"].item()):
            remarks.append(f"in {one[f'share_{name}'].item():.0%} of {name}")
    if "supported" in one and not one["supported"].item():
        far = float(one["distance"]) > MAX_DISTANCE
        remarks.append(f"not supported: {'outside of what was visited' if far else 'in too few draws'}")
    if "eigenvalue_real_low" in one:
        low, high = (float(one[f"eigenvalue_real_{bound}"][at]) for bound in ("low", "high"))
        remarks += [f"slowest {low:.2f} to {high:.2f} 1/s"] if np.isfinite(low) else []
    if "near_marginal" in one and one["near_marginal"].item():
        remarks.append("near marginal")
    line, distance = (number(float(one[name])) if name in one else "-" for name in ("line_attractor", "distance"))
    numbers = [number(value) for value in one["kappa"].values]
    slowest = number(float(one["eigenvalue_real"][at]))
    return [*numbers, one["stability"].item(), slowest, line, str(int(one["n_starts"])), distance, "; ".join(remarks)]


def _limit_cycles(cycles: xr.Dataset) -> list[Item]:
    if not cycles.sizes.get("cycle", 0):
        return []
    rows = []
    for k in range(cycles.sizes["cycle"]):
        one = cycles.isel(cycle=k)
        supported = "" if one["supported"].item() else "not supported: outside of what was visited"
        rows.append(
            [number(float(one["period_s"])), one["stability"].item(), number(float(one["distance"])), supported]
        )
    return [Table("limit cycles", ["period, s", "stability", "distance, sd", "remarks"], rows)]


def _populations(found: xr.Dataset) -> list[Item]:
    sizes = np.bincount(found["population"].values[found["population"].values >= 0], minlength=found.sizes["group"])
    rows = []
    for k, group in enumerate(found["group"].values):
        gain: list[float] = found["gain"].values[:, k].tolist() if "gain" in found and sizes[k] else []
        span = f"{min(gain):.3f} to {max(gain):.3f}" if gain else "none"
        rows.append([str(group), str(sizes[k]), span])
    note = "Gain: mean slope φ' of the neurons, the lowest and the highest of the conditions."
    items: list[Item] = [Table("groups of neurons", ["group", "neurons", "gain"], rows, [note])]
    if "stability" in found:
        names = ("n_groups", "stability", "stability_chance", "criterion")
        columns = zip(*(found[name].values for name in names), strict=True)
        tried = [[str(n), number(stable), number(chance), number(bic, 1)] for n, stable, chance, bic in columns]
        note = (
            "Stability: how far groups in two random 80 % of the neurons agree (adjusted Rand index; 1 is the same, 0 "
            "chance). By chance: its 95th percentile in data of one group. BIC: lower describes the loadings better. "
            "More than one group counts only where its stability is above that by chance, and its BIC is below that of "
            "one group."
        )
        items.append(Table("how many groups?", ["groups", "stability", "by chance", "BIC"], tried, [note]))
    return items


def _connectivity(found: xr.Dataset) -> list[Item]:
    if "overlap_m" not in found:
        return []
    rank = found.sizes["rank"]
    header = ["", *(f"m {k + 1}" for k in range(rank)), *(f"I {name}" for name in input_names(found))]
    overlaps = np.hstack([found["overlap_m"].values, found["overlap_input"].values])
    rows = [[f"n {k + 1}", *map(number, row)] for k, row in enumerate(overlaps)]
    note = "n·m / N: how a latent drives a latent (1: it holds itself where φ is linear). n·I / N: how an input does."
    return [Table("overlaps of the connectivity vectors", header, rows, [note])]


def _inactivation(result: xr.Dataset) -> list[Item]:
    table = effect_table(result)
    rows = [[number(x) if isinstance(x, float) else str(x) for x in row] for row in table.itertuples(index=False)]
    words = {
        "control": "Control: random groups of the same size, their 5th percentile, median and 95th percentile.",
        "reference": "Reference: what the other fit predicts, and how its changes of the neurons correlate with these.",
        "accuracy": "Accuracy: the share of conditions in which the readout has the right sign; intact: without "
        "inactivation.",
    }
    notes = [
        "Effect: the change of the other recorded neurons, relative to the size of the intact activity (root mean "
        "squares); 0 is no change.",
        *(note for word, note in words.items() if any(word in str(name) for name in table.columns)),
    ]
    items: list[Item] = [Table("predicted effect of inactivations", [str(name) for name in table.columns], rows, notes)]
    if "readout_score" in result.attrs:
        column, metric = result.attrs["readout_column"], result.attrs["readout_metric"]
        items.append(
            f"readout of {column}: held-out {metric} {number(result.attrs['readout_score'])}. {_METRICS[metric]}"
        )
    return [*items, f"caution: {result.attrs['caution']}"]


def _readout(found: xr.Dataset) -> list[Item]:
    attrs = found.attrs
    between = f", {attrs['negative']} against {attrs['positive']}" if "positive" in attrs else ""
    return [
        f"{attrs['column']}{between}: {attrs['kind_of_readout']} readout of {found.sizes['neuron']} neurons, "
        f"held-out {attrs['metric']} {number(float(found['score']))}. {_METRICS[attrs['metric']]}"
    ]


def _currents(found: xr.Dataset) -> list[Item]:
    size = np.sqrt((found["size"].values ** 2).mean(axis=2))
    header = ["to", *(f"from {name}" for name in found["sender"].values)]
    rows = [[str(name), *map(number, row)] for name, row in zip(found["target"].values, size, strict=True)]
    note = "Root mean square over conditions, times and neurons of the area; 0 where there is no block."
    if "size_low" in found:
        given = np.isfinite(found["size_low"].values[found["size"].values > 0]).mean()
        why = found.attrs["interval_reason"]
        note += f" Of the sizes at single times {given:.0%} have an interval."
        note += f" Where there is none: {why}." if why else ""
    ranks = [
        [f"{to} from {source}", number(value)]
        for to, source, value in zip(
            *(found[name].values for name in ("to_area", "from_area", "tolerance")), strict=True
        )
    ]
    about = (
        "Tolerance: the part of the variance of the drive of a rank that others to the same area do not give; near 0 "
        "the data hardly tell them apart."
    )
    return [
        Table("currents between areas", header, rows, [note]),
        Table("ranks of the blocks", ["to, from", "tolerance"], ranks, [about]),
    ]


def _dynamics(found: xr.Dataset) -> list[Item]:
    """One row for each pair of systems."""
    names, rows = [str(name) for name in found["system"].values], []
    for i, j in combinations(range(len(names)), 2):
        one = found.isel(system=i, system_from=j)
        values = (float(one[name]) for name in ("distance", "distance_chance", "distance_change"))
        p = float(one["p_value"])
        rows.append([names[i], names[j], *(f"{value:.3g}" if value == value else "-" for value in values), number(p),
                     str(one["call"].item()) or "-"])  # fmt: skip
    change = found.attrs["change"]
    header = ["system", "system", "distance", "by chance", f"{change:.0%} change", "p", "call"]
    note = (
        "By chance: what the errors of both fits can make of the distance. Change: the "
        f"distance between a network and the same one with a connectivity that is {change:.0%} weaker or stronger. p: "
        "the share of distances between halves of one system that are at least as large. Different: p is below "
        f"{found.attrs['level']:g}. Alike: it is not, and the distance and that by chance are below the change. A "
        "dash: no halves were fitted, since the systems are fits without their activity."
    )
    measures = {"dsa": "dynamical similarity analysis (DSA)", "prediction": "latents not explained by each other"}
    return [Table(f"dynamics: {measures[found.attrs['measure']]}", header, rows, [note])]


_ANALYSES: dict[str, Callable[[xr.Dataset], list[Item]]] = {
    "fixed_points": _fixed_points,
    "limit_cycles": _limit_cycles,
    "populations": _populations,
    "connectivity": _connectivity,
    "inactivation": _inactivation,
    "readout": _readout,
    "currents": _currents,
    "dynamics_comparison": _dynamics,
}
