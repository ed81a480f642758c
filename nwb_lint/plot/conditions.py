"""How conditions are told apart: by color, by line style, and by small Axes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nwb_lint.contract.columns import column_of, columns_of
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    DASHES,
    GRAY,
    Drawing,
    DrawnAxes,
    as_label,
    explain,
    finish,
    inches,
    legend_below,
    make_axes,
    pt,
)

AUTO = "auto"
_MOST_LEVELS = 8  # values that a legend names
_MOST_LINES = 12  # conditions that one Axes shows well
_MOST_AUTO = 6  # Axes that are made without being asked for
_MOST_PANELS = 36


class Look(NamedTuple):
    """Color and line style of every condition, and the legend entries that explain them."""

    colors: list[str]
    dashes: list[str]
    handles: list[Line2D]


def look_of(fit: xr.Dataset, color_by: str | None, style_by: str | None, panel_by: str | None = None) -> Look:
    """Viridis over the values of one column, line styles over the values of another, unless it has its own panels."""
    n = fit.sizes["condition"]
    colors, dashes = [COLORS[0]] * n, ["-"] * n
    handles: list[Line2D] = []
    if (color_column := _pick(fit, color_by, "fiu")) is not None:
        levels, index = np.unique(column_of(fit, color_column), return_inverse=True)
        # without the lightest yellow, which is not visible in print
        palette = [to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(levels)))]
        colors = [palette[k] for k in index]
        named = np.unique(np.linspace(0, len(levels) - 1, min(len(levels), _MOST_LEVELS)).astype(int))
        names = _names(color_column, levels)
        handles += [Line2D([], [], color=palette[k], lw=pt(2.5), label=names[k]) for k in named]
    dash_column = _pick(fit, style_by, "UOT")
    if dash_column is not None and dash_column not in (color_column, panel_by):
        levels, index = np.unique(column_of(fit, dash_column).astype(str), return_inverse=True)
        dashes = [DASHES[k % len(DASHES)] for k in index]
        for k, name in enumerate(_names(dash_column, levels[:_MOST_LEVELS])):
            handles.append(Line2D([], [], color=DARK, ls=DASHES[k % len(DASHES)], label=name))
    return Look(colors, dashes, handles)


def _names(column: str, levels: np.ndarray) -> list[str]:
    """The values of a column as they stand in a legend: numbers with four digits, where these tell them apart."""
    texts = [f"{level:.4g}" if levels.dtype.kind == "f" else str(level) for level in levels]
    return [as_label(f"{column} {text}") for text in (texts if len(set(texts)) == len(levels) else levels)]


def over_conditions(
    fit: xr.Dataset,
    draw: Callable[..., None],
    text: tuple[str, str, str],
    more: Sequence[Artist] = (),
    *,
    zero: bool = False,
    color_by: str | None,
    style_by: str | None,
    panel_by: str | None,
    ax: Axes | None,
) -> Axes:
    """Draw every condition by ``draw(ax, k, color=…, ls=…, lw=…, ms=…)``, all together or a panel for each level.

    ``text`` has the labels of x and y and the title, ``more`` further entries of the legend; ``zero`` adds a line at
    x = 0. Returns the Axes, or the first of them.
    """
    if panel_by == AUTO:
        panel_by = _column_of_panels(fit, style_by) if ax is None else None
    elif panel_by is not None:
        panel_by = _pick(fit, panel_by, "")
        if ax is not None:
            raise ContractError(f"ax and panel_by={panel_by!r} are both given. Panels need a new figure. Drop one.")
    look = look_of(fit, color_by, style_by, panel_by)
    column = np.zeros(len(look.colors), int) if panel_by is None else column_of(fit, panel_by)
    levels, index = np.unique(column, return_inverse=True)
    if len(levels) > _MOST_PANELS:
        raise ContractError(f"{panel_by} has {len(levels)} values. At most {_MOST_PANELS} have room. Use another one.")
    panels = [make_axes(ax)] if panel_by is None else small_axes(len(levels))
    titles = [text[2]] if panel_by is None else _names(panel_by, levels)
    for at, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        own = np.flatnonzero(index == at)
        size = pt(1.0 if len(own) <= _MOST_LINES else 0.7)
        for k in own:
            draw(panel, k, color=look.colors[k], ls=look.dashes[k], lw=1.2 * size, ms=3.5 * size)
        if zero:
            panel.axvline(0, color=GRAY, lw=pt(0.6), zorder=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        finish(panel, *text[:2], title)
    if panel_by is None:
        explain(panels[0], ax, conditions=[*look.handles, *more])
        return panels[0]
    columns = columns_in(len(panels))
    for at, panel in enumerate(panels):
        if at % columns:
            panel.set_ylabel("")
        if at + columns < len(panels):
            panel.set_xlabel("")
    figure = cast(Figure, panels[0].figure)
    figure.suptitle(text[2])
    legend_below(figure, [*look.handles, *more])
    return panels[0]


def columns_in(number: int) -> int:
    """Columns of so many small Axes."""
    return 2 if number in (2, 4) else min(number, 3)


def small_axes(number: int, *, same_scale: bool = True) -> list[Axes]:
    """Axes of a new figure that share the scale of x, and of y unless ``same_scale`` is False."""
    columns = columns_in(number)
    rows = -(-number // columns)
    figure = Drawing(figsize=inches(2.2 * columns + 0.4, 1.9 * rows + 0.5), layout="constrained")
    how: dict[str, Any] = {"axes_class": DrawnAxes}
    axes = figure.subplots(rows, columns, sharex=True, sharey=same_scale, squeeze=False, subplot_kw=how).ravel()
    for empty in axes[number:]:
        empty.remove()
    for above in axes[max(number - columns, 0) : number]:
        above.xaxis.set_tick_params(labelbottom=True)
    return list(axes[:number])


def _column_of_panels(fit: xr.Dataset, style_by: str | None) -> str | None:
    """The column of the line styles, where there are more conditions than one Axes shows well."""
    column = _pick(fit, style_by, "UOT") if fit.sizes["condition"] > _MOST_LINES else None
    if column is None or not 1 < len(np.unique(column_of(fit, column))) <= _MOST_AUTO:
        return None
    return column


def _columns(fit: xr.Dataset) -> list[str]:
    """Columns of the conditions: those of ``by`` first, then the others in their order."""
    skip = {"held_out"}
    there = [name for name in columns_of(fit, "condition") if name not in skip]
    by: Any = fit.attrs.get("by", [])
    coordinates = [name for name in ([by] if isinstance(by, str) else by) if name in fit.coords]
    first = [name for name in (fit[name].attrs.get("column", name) for name in coordinates) if name in there]
    return [*first, *(name for name in there if name not in first)]


def _pick(fit: xr.Dataset, name: str | None, kinds: str) -> str | None:
    columns = _columns(fit)
    if name is not None and name not in columns:
        raise ContractError(f"Conditions have no column {name!r}. Choose from {', '.join(columns) or 'none'}.")
    return name or next((c for c in columns if column_of(fit, c).dtype.kind in kinds), None)
