"""Figures of axes and weights: trajectories on axes, angles between them, how weights are distributed."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_lint.contract import check_result, input_names
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, SMALL, finish, heat_map, look_of, make_axes


def projections(
    projected: xr.Dataset,
    axes: tuple[str, str],
    *,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Conditions as trajectories on two axes of `project`, a dot at the last sample; shares of variance on the labels.

    Raises: ContractError for an axis that is not among them, or a Dataset without projection.
    """
    check_result(projected, "axes")
    if "projection" not in projected:
        raise ContractError("the axes have no projection; call project(fit, activity).")
    names = projected["axis_name"].values.astype(str).tolist()
    if len(axes) != 2 or (unknown := [name for name in axes if name not in names]):
        told = f"no axis is called {unknown[0]!r}" if len(axes) == 2 else f"{len(axes)} axes were named; it needs two"
        raise ContractError(f"{told}; they are {', '.join(names)}.")
    look, ax = look_of(projected, color_by, style_by), make_axes(ax)
    table = projected["projection"].transpose("condition", "time", "axis_name").values
    for one, color, style in zip(table, look.colors, look.styles, strict=True):
        x, y = (one[:, names.index(name)] for name in axes)
        ax.plot(x, y, color=color, ls=style, lw=1.2)
        ax.plot(x[-1:], y[-1:], color=color, marker="o", ms=3.5)
    share = [float(projected["variance_explained"].values[names.index(name)]) for name in axes]
    across, up = (f"{name} ({100 * one:.0f} % of variance)" for name, one in zip(axes, share, strict=True))
    return finish(ax, across, up, "Activity on axes")


def angles(compared: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Angles between axes as a heat map with numbers, from `compare_axes` or `project`.

    Raises: ContractError for another kind of Dataset.
    """
    check_result(compared, "axes")
    names = compared["axis_name"].values.astype(str).tolist()
    table = compared["angle_deg"].values
    ax = heat_map(table, names, names, "angle (degrees)", (0, 90), "{:.0f}", ax, ticks=[0, 30, 60, 90])
    return finish(ax, "", "", "Angles between axes")


def overlaps(connected: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Overlaps n' m / N and n' I / N, which set the latent dynamics, as a heat map with numbers, from `connectivity`.

    Raises: ContractError for another kind of Dataset, or one of a network without m and n.
    """
    check_result(connected, "connectivity")
    if "overlap_m" not in connected:
        raise ContractError("the connectivity has no overlaps, being that of a J without m and n; fit with a rank.")
    table = np.concatenate([connected["overlap_m"].values, connected["overlap_input"].values], axis=1)
    ranks = [str(k + 1) for k in range(len(table))]
    columns = [*(f"m {k}" for k in ranks), *(f"I {name}" for name in input_names(connected))]
    most = float(np.abs(table).max(initial=1e-12))
    ax = heat_map(table, [f"n {k}" for k in ranks], columns, "overlap", (-most, most), "{:.2f}", ax)
    return finish(ax, "", "", "Overlaps of connectivity vectors")


def weight_histograms(statistics: xr.Dataset, *, bins: int = 24, ax: Axes | None = None) -> Axes:
    """Histograms of the weights of every vector, each in its standard deviations; excess kurtosis in the legend.

    From `weight_statistics`. A star marks tails heavier than normal (p < .05); J has no histogram.

    Raises: ContractError where the Dataset has no weights.
    """
    missing = [name for name in ("weight", "mean", "sd", "kurtosis", "heavy_tail_p") if name not in statistics]
    if missing:
        raise ContractError(f"the statistics lack {', '.join(missing)}. Call weight_statistics(fit).")
    ax = make_axes(ax)
    for k, name in enumerate(statistics["vector"].values.astype(str)):
        one = statistics.isel(vector=k)
        if not np.isfinite(one["weight"]).all() or float(one["sd"]) == 0:
            continue
        star = " *" if float(one["heavy_tail_p"]) < 0.05 else ""
        z = (one["weight"].values - float(one["mean"])) / float(one["sd"])
        label = f"{name} ({float(one['kurtosis']):.1f}{star})".replace("-", "−")
        ls = "-" if k < len(COLORS) else "--"
        ax.hist(z, bins, histtype="step", color=COLORS[k % len(COLORS)], ls=ls, lw=1.2, label=label)
    ax.legend(fontsize=SMALL, frameon=False, title="excess kurtosis", title_fontsize=SMALL)
    return finish(ax, "weight (standard deviations)", "neurons", "Weights")
