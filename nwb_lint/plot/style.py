"""What every figure shares: sizes, colors for color-blind readers, and the look of conditions.

No module of this folder uses pyplot. Without ``ax`` a new Figure is made, which is ``ax.figure``.
"""

from __future__ import annotations

import textwrap
import uuid
from contextlib import suppress
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D

from nwb_lint.contract import column_of, columns_of
from nwb_lint.errors import ContractError, printable
from nwb_lint.parallel.outputs import check_folder_of

COLORS = ("#006BA4", "#C85200", "#595959", "#FFBC79", "#5F9ED1", "#898989", "#A2C8EC")  # of tableau-colorblind10
GRAY, PALE = "#898989", "#DDDDDD"
SMALL, NORMAL = 7.5, 8.5  # points
STYLES = ("-", "--", ":", "-.")
# Endings of pictures, and the entry of the file that says what drew it.
_PICTURES = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
_MARK = b"drawn by nwb_lint"
_MOST_LEVELS = 8  # values that a legend names
_ENTRY_HEIGHT = 0.17  # inches of a row of such a legend
_ENTRY_WIDTH = 1.25  # inches of an entry of a legend below the panels
_SHOWN_DPI = 150
_TITLE_WIDTH = 42  # characters of a line of a title


class Look(NamedTuple):
    """Color and line style of every condition, and the legend entries that explain them."""

    colors: list[str]
    styles: list[str]
    handles: list[Line2D]


class Drawing(Figure):
    """A figure that shows itself in Jupyter, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png", dpi=_SHOWN_DPI)
        return content.getvalue()


class DrawnAxes(Axes):
    """Axes that show their figure in Jupyter."""

    def _repr_png_(self) -> bytes | None:
        return self.figure._repr_png_() if isinstance(self.figure, Drawing) else None


class DrawnAxes3D(Axes3D):
    """The same with three dimensions."""

    _repr_png_ = DrawnAxes._repr_png_


def make_axes(ax: Axes | None, *, three: bool = False) -> Axes:
    """The given Axes, or those of a new figure, perhaps with three dimensions."""
    if ax is not None:
        return ax
    if three:  # a constrained layout cuts the labels of three dimensions
        return Drawing(figsize=(3.6, 3.2)).add_subplot(axes_class=DrawnAxes3D)
    return Drawing(figsize=(3.2, 2.6), layout="constrained").add_subplot(axes_class=DrawnAxes)


def as_label(name: object) -> str:
    """A name from a file as it stands in a figure: no control character, no mathematics, a true minus sign."""
    return printable(str(name)).replace("$", r"\$").replace("-", "−")


def time_label(fit: xr.Dataset) -> str:
    """Label of a time axis, with the event that is time 0 where it is known."""
    return f"time from {as_label(fit.attrs['align'])} (s)" if fit.attrs.get("align") else "time (s)"


def finish(ax: Axes, x: str, y: str, title: str) -> Axes:
    ax.set_xlabel(x, fontsize=NORMAL)
    ax.set_ylabel(y, fontsize=NORMAL)
    ax.set_title(textwrap.fill(title, _TITLE_WIDTH), fontsize=NORMAL)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend_below(figure: Figure, handles: list[Line2D]) -> int:
    """Explain colors and line styles below the panels; the number of rows, 0 where there is nothing to explain."""
    if handles:
        most = max(int(figure.get_figwidth() / _ENTRY_WIDTH), 1)
        columns = -(-len(handles) // -(-len(handles) // most))
        style: dict[str, Any] = {"fontsize": SMALL, "frameon": False}
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, **style)
        return -(-len(handles) // columns)
    return 0


def check_picture(path: str | PathLike[str]) -> None:
    """Check that a figure can be saved under a path.

    Parameters
    ----------
    path : path
        The file to save.

    Raises
    ------
    ContractError
        If the ending is that of no picture, the folder does not exist, or there is a file that is no picture of
        nwb_lint.
    """
    check_own(path, tuple(_PICTURES), _MARK, "picture")


def check_own(path: str | PathLike[str], endings: tuple[str, ...], mark: bytes, what: str) -> None:
    """Check that a path can be written: its ending, its folder, and that a file there bears the mark of nwb_lint."""
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ContractError(f"{path} is no name of a {what}. It needs to end in {', '.join(endings)}. Rename it.")
    check_folder_of(path)
    if path.exists() and not (path.is_file() and mark in path.read_bytes()):
        raise ContractError(f"{path} exists, and nwb_lint did not draw it. Choose another path, or delete it.")


def save_figure(figure: Any, path: str | PathLike[str], dpi: int) -> None:
    """Save a figure; a picture of nwb_lint is replaced, any other file is not: see `check_picture`."""
    check_picture(path)
    path = Path(path)
    ending = path.suffix.lower()
    content, mark = BytesIO(), f"{_MARK.decode()}, Matplotlib {matplotlib.__version__}"
    figure.savefig(content, format=ending[1:], dpi=dpi, metadata={_PICTURES[ending]: mark})
    replace_file(path, content.getvalue())


def to_svg(figure: Figure) -> bytes:
    """A figure as SVG; the same figure gives the same bytes."""
    content = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "nwb_lint"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, at once: half of it is never there."""
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")  # half a picture would not be replaced later
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def heat_map(
    table: np.ndarray,
    rows: list[str],
    columns: list[str],
    label: str,
    limits: tuple[float, float],
    form: str,
    ax: Axes | None,
    *,
    ticks: list[float] | None = None,
) -> Axes:
    """Draw a table as colors, with its numbers except those of a row with itself. NaN stays white."""
    if ax is None:
        ax, wide, high = make_axes(None), 0.36 * len(columns) + 1.8, 0.36 * len(rows) + 1.2
        cast(Figure, ax.figure).set_size_inches(max(3.2, wide), max(2.6, high))
    low, high = limits
    image = ax.imshow(table, cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value) and not (rows == columns and row == column):
            color = "white" if value < (low + high) / 2 else "black"
            written = form.format(value).replace("-", "−")
            ax.text(column, row, written, ha="center", va="center", fontsize=SMALL, color=color)
    ax.set_xticks(range(len(columns)), list(map(as_label, columns)), rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), list(map(as_label, rows)))
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, ticks=ticks)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(label, fontsize=SMALL)
    return ax


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


def explain_colors(ax: Axes, given: Axes | None, handles: list[Line2D]) -> None:
    """A legend of the conditions below a figure of our own; Axes that were given belong to another figure."""
    if given is None:
        figure = cast(Figure, ax.figure)
        rows = legend_below(figure, handles)
        figure.set_figheight(figure.get_figheight() + rows * _ENTRY_HEIGHT)


def look_of(fit: xr.Dataset, color_by: str | None, style_by: str | None) -> Look:
    """Viridis over the values of one column, line styles over the values of another."""
    n = fit.sizes["condition"]
    colors, styles = ["#006BA4"] * n, ["-"] * n
    handles: list[Line2D] = []
    if (color_column := _pick(fit, color_by, "fiu")) is not None:
        levels, index = np.unique(column_of(fit, color_column), return_inverse=True)
        # without the lightest yellow, which is not visible in print
        palette = [to_hex(c) for c in matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(levels)))]
        colors = [palette[k] for k in index]
        named = np.unique(np.linspace(0, len(levels) - 1, min(len(levels), _MOST_LEVELS)).astype(int))
        for k in named:
            label = as_label(f"{color_column} {levels[k]}")
            handles.append(Line2D([], [], color=palette[k], lw=2.5, label=label))
    style_column = _pick(fit, style_by, "UOT")
    if style_column is not None and style_column != color_column:
        levels, index = np.unique(column_of(fit, style_column).astype(str), return_inverse=True)
        styles = [STYLES[k % len(STYLES)] for k in index]
        for k, level in enumerate(levels[:_MOST_LEVELS]):
            style = STYLES[k % len(STYLES)]
            handles.append(Line2D([], [], color="#595959", ls=style, label=as_label(f"{style_column} {level}")))
    return Look(colors, styles, handles)
