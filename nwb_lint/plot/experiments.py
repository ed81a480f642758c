"""Figures of the experiments: a panel for each quantity or network, a line for each model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nwb_lint.plot.style import COLOURS, SMALL, finish


def panels(table: pd.DataFrame, x: str, y: str) -> Figure:
    """One panel for each ``panel``, one line for each ``line`` of a long table with the columns panel, line, x, y."""
    names = list(dict.fromkeys(table["panel"]))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.3 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    lines = list(dict.fromkeys(table["line"]))
    for ax, name in zip(axes, names, strict=False):
        for number, line in enumerate(lines):
            some = table[(table["panel"] == name) & (table["line"] == line)]
            if len(some):
                joined = "o-" if some["x"].dtype.kind in ("i", "f") else "o"  # names have no order to join along
                colour, values = COLOURS[number % len(COLOURS)], some["y"].to_numpy(float)
                ax.plot(some["x"].to_numpy(), values, joined, ms=4, color=colour)
        low, high = table.loc[table["panel"] == name, "y"].agg(["min", "max"])
        ax.set_ylim(min(0.0, 1.1 * low), max(1.05, 1.1 * high))
        finish(ax, x, y, name)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    made = [Line2D([], [], marker="o", color=COLOURS[k % len(COLOURS)]) for k in range(len(lines))]
    figure.legend(made, lines, loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
    return figure
