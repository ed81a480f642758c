"""What every figure shares: styles, colors for color-blind readers, legends, and how a figure is saved.

No module of this folder uses pyplot. Without ``ax`` a new Figure is made, which is ``ax.figure``.
"""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib
import numpy as np
import xarray as xr
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D

from nwb_lint.errors import ContractError, printable
from nwb_lint.options.checks import validated
from nwb_lint.options.reports import FigureOptions, FigureSelections, FigureStyle
from nwb_lint.parallel.outputs import check_folder_of

COLORS = ("#006BA4", "#C85200", "#595959", "#FFBC79", "#5F9ED1", "#898989", "#A2C8EC")  # of tableau-colorblind10
GRAY, PALE, DARK = "#898989", "#DDDDDD", "#595959"
DASHES = ("-", "--", ":", "-.")
Style = FigureStyle
P = ParamSpec("P")
R = TypeVar("R")

_TEXT, _LINE = 7.5, 1.2  # points, on a screen: small text, and a line
# For each style: points of small text, of other text and of a line; inches of a figure of one panel.
_SIZES = {
    "screen": (_TEXT, 8.5, _LINE, (3.2, 2.6)),
    "print": (7, 7.5, 0.9, (3.35, 2.6)),
    "talk": (12, 14, 2.2, (4.8, 3.9)),
}
# Endings of pictures, and the entry of the file that says what drew it.
_PICTURES = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}
_MARK = b"drawn by nwb_lint"
_ROW = 0.17  # inches of a row of a legend below the panels, on a screen
_KEY, _LETTER = 0.42, 0.053  # inches of the key of an entry, and of a letter
_SHOWN_DPI = 150
_LETTERS_OF_A_CELL = 4  # a longer label of a column of a table is turned
_TITLE_WIDTH = 42  # characters of a line of a title


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A decorator that draws a figure in the style that its argument ``style`` names, and checks what it selects."""
    checked = validated(FigureOptions, FigureSelections)(draw)

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(_parameters(str(kwargs.get("style", "screen")))):
            return checked(*args, **kwargs)

    return drawn


def _parameters(style: str) -> Any:
    """Parameters of matplotlib for a style; those of a screen for an unknown one, which the check refuses."""
    small, normal, line, size = _SIZES.get(style, _SIZES["screen"])
    width = 0.8 * line / _LINE
    ticks = {f"{axis}tick.{name}": value for axis in "xy" for name, value in (
        ("labelsize", small), ("major.width", width), ("major.size", 3.5 * small / _TEXT),
    )}  # fmt: skip
    return ticks | {
        "figure.figsize": size, "figure.titlesize": normal + 1, "font.size": small, "axes.titlesize": normal,
        "axes.labelsize": normal, "axes.linewidth": width, "lines.linewidth": line,
        "lines.markersize": 3.5 * line / _LINE, "errorbar.capsize": 2 * line / _LINE,
        "legend.fontsize": small, "legend.title_fontsize": small, "legend.edgecolor": PALE, "legend.framealpha": 0.9,
        "legend.fancybox": False,
    }  # fmt: skip


def pt(size: float) -> float:
    """Points of a line or marker in the style that is on, of what it has on a screen."""
    return size * rcParams["lines.linewidth"] / _LINE


def inches(wide: float, high: float) -> tuple[float, float]:
    """Size of a figure in the style that is on, of what it has on a screen: it grows with the text."""
    scale = rcParams["font.size"] / _TEXT
    return wide * scale, high * scale


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


def make_axes(ax: Axes | None, *, three: bool = False, size: tuple[float, float] | None = None) -> Axes:
    """The given Axes, or those of a new figure, perhaps with three dimensions, or of another size in inches."""
    if ax is not None:
        return ax
    if three:  # a constrained layout cuts the labels of three dimensions
        ax = Drawing(figsize=inches(3.6, 3.2)).add_subplot(axes_class=DrawnAxes3D)
        ax.figure.subplots_adjust(left=0.0, right=0.9, bottom=0.1, top=0.88)
        return ax
    return Drawing(figsize=size or rcParams["figure.figsize"], layout="constrained").add_subplot(axes_class=DrawnAxes)


def as_label(name: object) -> str:
    """A name from a file as it stands in a figure: no control character, no mathematics, a true minus sign."""
    return printable(str(name)).replace("$", r"\$").replace("-", "−")


def time_label(fit: xr.Dataset) -> str:
    """Label of a time axis, with the event that is time 0 where it is known."""
    return f"time from {as_label(fit.attrs['align'])} (s)" if fit.attrs.get("align") else "time (s)"


def finish(ax: Axes, x: str, y: str, title: str) -> Axes:
    """Labels and title, and the sizes of all text and lines: Axes that were given may have others."""
    ax.set_xlabel(x, fontsize=rcParams["axes.labelsize"])
    ax.set_ylabel(y, fontsize=rcParams["axes.labelsize"])
    ax.set_title(textwrap.fill(title, _TITLE_WIDTH), fontsize=rcParams["axes.titlesize"])
    size_ticks(ax)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_linewidth(rcParams["axes.linewidth"])
    return ax


def size_ticks(ax: Axes) -> None:
    """Sizes of the ticks: matplotlib makes some of them later, when the style is off."""
    size, width, length = (rcParams[name] for name in ("xtick.labelsize", "xtick.major.width", "xtick.major.size"))
    ax.tick_params(labelsize=size, width=width, length=length)


def color_bar(image: ScalarMappable, ax: Axes, label: str, **how: Any) -> None:
    """A color bar beside the Axes."""
    bar = ax.figure.colorbar(image, ax=ax, **how)
    bar.set_label(label)
    size_ticks(bar.ax)


def explain(
    ax: Axes, given: Axes | None, handles: Sequence[Any] = (), *, conditions: Sequence[Any] = (), title: str = ""
) -> None:
    """Explain what is drawn: below a figure of our own, in a frame within Axes that were given.

    Without handles all that has a label is explained. ``conditions`` are the entries that a page of several panels
    explains once, so Axes that were given do not have them.
    """
    entries = list(handles) or list(ax.get_legend_handles_labels()[0])
    if given is None:
        legend_below(cast(Figure, ax.figure), [*conditions, *entries], title)
    elif entries:
        given.legend(handles=entries, title=title)


def legend_below(figure: Figure, handles: Sequence[Any], title: str = "") -> None:
    """A legend below the panels; the figure grows by its rows."""
    if not handles:
        return
    scale, longest = rcParams["font.size"] / _TEXT, max(len(str(one.get_label())) for one in handles)
    most = max(int(figure.get_figwidth() / (scale * (_KEY + _LETTER * longest))), 1)
    rows = -(-len(handles) // most)
    how: dict[str, Any] = {"ncols": -(-len(handles) // rows), "frameon": False, "columnspacing": 1.2, "title": title}
    how["loc"] = "outside lower center" if figure.get_layout_engine() else "lower center"
    figure.legend(handles=handles, **how)
    high = figure.get_figheight()
    grown = high + (rows + bool(title)) * _ROW * scale
    figure.set_figheight(grown)
    if not figure.get_layout_engine():
        bottom, top = (1 - (1 - at) * high / grown for at in (figure.subplotpars.bottom, figure.subplotpars.top))
        figure.subplots_adjust(bottom=bottom, top=top)


def last_sample() -> Artist:
    """The entry of a legend for the dots at the ends of trajectories."""
    return Line2D([], [], ls="", marker="o", color=DARK, label="last sample")


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
    """Draw a table as colors, with its numbers except those of a row with itself. NaN stays white.

    Limits of opposite sign have the colors of both signs."""
    long = max(map(len, columns)) > _LETTERS_OF_A_CELL
    size = inches(max(3.2, 0.4 * len(columns) + 1.8), 0.3 * len(rows) + 0.9 + 0.5 * long)
    ax, (low, high) = make_axes(ax, size=size), limits
    image = ax.imshow(
        table, cmap="PuOr" if low == -high else "cividis", vmin=low, vmax=high, interpolation="nearest", aspect="auto"
    )
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value) and not (rows == columns and row == column):
            red, green, blue, _ = image.cmap(image.norm(value))
            color = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            ax.text(column, row, form.format(value).replace("-", "−"), ha="center", va="center", color=color)
    ax.set_xticks(range(len(columns)), list(map(as_label, columns)))
    if long:
        for text in ax.get_xticklabels():
            text.set(rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), list(map(as_label, rows)))
    color_bar(image, ax, label, ticks=ticks)
    return ax
