"""Figures of the experiments: a panel for each quantity or network, a line for each model."""

from __future__ import annotations

import textwrap

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nwb_lint.plot.axes import angles, projections
from nwb_lint.plot.conditions import look_of
from nwb_lint.plot.inactivation import inactivation_bars
from nwb_lint.plot.populations import population_gains
from nwb_lint.plot.style import COLORS, Drawing, explain, finish, legend_below, styled
from nwb_lint.plot.trials import trial_latents, trial_rates

_PANEL_TITLE = 30  # characters of a row of the title of a panel
_BESIDE = 0.6  # of the distance of two names: what the lines of a name take


@styled
def panels(table: pd.DataFrame, x: str, y: str) -> Figure:
    """Draw a table with the columns panel, line, x and y: one panel for each ``panel``, one line for each ``line``.

    Where x are names, points of several lines at the same name are drawn side by side.
    """
    names = list(dict.fromkeys(table["panel"]))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Drawing(figsize=(2.5 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    lines = list(dict.fromkeys(table["line"]))
    for ax, name in zip(axes, names, strict=False):
        own = table[table["panel"] == name]
        places = _places(own) if own["x"].map(type).eq(str).all() else None
        for number, line in enumerate(lines):
            some, color = own["line"] == line, COLORS[number % len(COLORS)]
            if some.any():
                at = own["x"] if places is None else places  # names have no order, so no line
                marks = "o-" if places is None and own["x"].dtype.kind in ("i", "f") else "o"
                ax.plot(at[some].to_numpy(), own.loc[some, "y"].to_numpy(float), marks, color=color)
        low, high = own["y"].agg(["min", "max"])
        ax.set_ylim(min(0.0, 1.1 * low), max(1.05, 1.1 * high))
        finish(ax, x, y, name).title.set_text(textwrap.fill(name, _PANEL_TITLE))
        if places is not None:
            labels = list(dict.fromkeys(own["x"]))
            ax.set_xticks(range(len(labels)), labels, rotation=45)
            ax.set_xlim(-0.5, len(labels) - 0.5)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    style = "-" if table["x"].dtype.kind in ("i", "f") else ""
    made = [
        Line2D([], [], ls=style, marker="o", color=COLORS[k % len(COLORS)], label=line) for k, line in enumerate(lines)
    ]
    legend_below(figure, made)
    return figure


def _places(table: pd.DataFrame) -> pd.Series:
    """Places along x of the rows of a panel: names at whole numbers, the lines of a name side by side."""
    order = {name: k for k, name in enumerate(dict.fromkeys(table["x"]))}
    own = table.groupby("x", sort=False)["line"]
    lines = {name: list(dict.fromkeys(some)) for name, some in own}
    beside = [
        (lines[name].index(line) - (len(lines[name]) - 1) / 2) * _BESIDE / len(lines[name])
        for name, line in zip(table["x"], table["line"], strict=True)
    ]
    return table["x"].map(order) + beside


@styled
def trajectories(
    rows: dict[str, dict[str, xr.Dataset]], pairs: dict[str, tuple[str, str]], compared: xr.Dataset
) -> Figure:
    """Draw trajectories on pairs of axes, and the angles between the axes.

    ``rows`` has a row of panels for each name: column of the conditions → projections. ``pairs`` has a column of panels
    for each pair of axes. Its conditions are colored by that column, and styled by context.
    """
    figure = Drawing(figsize=(4.2 * len(pairs) + 4.6, 3.1 * len(rows)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(4.2 * len(pairs), 4.6), squeeze=False)[0]
    axes = left.subplots(len(rows), len(pairs), squeeze=False)
    for line, (name, projected) in zip(axes, rows.items(), strict=True):
        for ax, (column, pair) in zip(line, pairs.items(), strict=True):
            projections(projected[column], pair, color_by=column, style_by="context", ax=ax)
            ax.set_title(f"{name}, by {column}")
    for ax, column in zip(axes[0], pairs, strict=True):
        look = look_of(next(iter(rows.values()))[column], column, "context")
        explain(ax, ax, look.handles)
    angles(compared, ax=right.subplots())
    return figure


@styled
def silencing(populations: xr.Dataset, results: dict[str, xr.Dataset]) -> Figure:
    """Draw gains of populations by context, then the accuracy with each of them silenced, a panel for each result."""
    figure = Drawing(figsize=(3.3 * (1 + len(results)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(results))
    population_gains(populations, by="context", ax=axes[0])
    for ax, (name, result) in zip(axes[1:], results.items(), strict=True):
        inactivation_bars(result, ax=ax)
        ax.set_title(f"Silenced in the {'network' if name == 'network' else 'fit, ' + name}")
    return figure


@styled
def trials_and_ranks(fit: xr.Dataset, trials: xr.Dataset, scores: pd.DataFrame) -> Figure:
    """Draw spikes of two trials over predicted rates, latents of single trials, and the panels of a table of scores.

    ``scores`` has the columns panel, line, x and y, as in `panels`.
    """
    figure = Drawing(figsize=(11.0, 6.4), layout="constrained")
    names = list(dict.fromkeys(scores["panel"]))
    top, bottom = figure.subplots(2, max(3, len(names) + 1))
    for number, ax in enumerate(top[:2]):
        trial_rates(fit, trials, trial=number, ax=ax)
    for rank, ax in enumerate([top[2], bottom[0]][: fit.sizes["rank"]], start=1):
        trial_latents(fit, rank=rank, ax=ax)
    lines = list(dict.fromkeys(scores["line"]))
    for ax, name in zip(bottom[1:], names, strict=False):
        for number, line in enumerate(lines):
            some = scores[(scores["panel"] == name) & (scores["line"] == line)]
            numbers = pd.to_numeric(some["x"], errors="coerce")
            x = numbers if numbers.notna().all() else some["x"]
            ax.plot(
                x.to_numpy(),
                some["y"].to_numpy(float),
                "o-" if x is numbers else "o",
                color=COLORS[number % len(COLORS)],
            )
        finish(ax, "", "bits per spike", name)
        for label in ax.get_xticklabels():
            label.set(rotation=30, ha="right")
    for ax in bottom[1 + len(names) :]:
        ax.set_visible(False)
    made = [Line2D([], [], marker="o", color=COLORS[k % len(COLORS)], label=line) for k, line in enumerate(lines)]
    legend_below(figure, made)
    return figure
