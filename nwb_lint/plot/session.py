"""Figures of a session before any fit: rates of units over time, histogram of rates, trials."""

from __future__ import annotations

from os import PathLike
from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from nwb_lint.plot.style import (
    COLORS,
    GRAY,
    Drawing,
    Style,
    as_label,
    explain,
    finish,
    inches,
    legend_below,
    make_axes,
    pt,
    save_figure,
    styled,
)

Array = np.ndarray

_MOST_NAMED = 24  # units whose labels are written
_DARKEST_PERCENTILE = 95  # of a unit's rates
_SHOWN_PERCENTILE = 99  # of the trials' lengths


@styled
def presence(session: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the rate of every unit over the session, each on its own scale.

    A unit that stops or drifts shows. White is no spike. The darkest blue is the 95th percentile of the unit. Gray is
    not observed. A bar marks the last spike of a unit that ends early.

    Parameters
    ----------
    session : xarray.Dataset
        From `nwb_lint.nwb.inspection.session_map.session_map`: ``rate (neuron, bin)``, Hz.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.nwb.inspection.session_map import session_map
    >>> plot.presence(session_map("session.nwb")).get_ylabel()
    'unit id'
    """
    given, ax = ax, make_axes(ax)
    rate, edges = session["rate"].values, session["edge"].values
    n = len(rate)
    known = np.where(np.isnan(rate), 0, rate)
    top = np.percentile(known, _DARKEST_PERCENTILE, axis=1, keepdims=True)
    top = np.where(top > 0, top, np.maximum(known.max(axis=1, keepdims=True), 1e-12))
    shown = np.ma.masked_invalid(np.clip(rate / top, 0, 1))
    ax.set_facecolor("#E4E4E4")
    ax.pcolormesh(edges, np.arange(n + 1) - 0.5, shown, cmap="Blues", vmin=0, vmax=1, rasterized=True)
    last, end = session["last_spike"].values, edges[-1]
    early = np.flatnonzero(last < edges[0] + 0.9 * (end - edges[0]))
    ax.vlines(last[early], early - 0.45, early + 0.45, color="#C85200", lw=pt(1.4))
    ax.set_ylim(n - 0.5, -0.5)
    if n <= _MOST_NAMED:
        ax.set_yticks(range(n), [as_label(label) for label in session["neuron"].values])
    else:
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles: list[Any] = [
        Patch(color="#08306B", label="the unit's highest rate"),
        Patch(fc="white", ec=GRAY, label="no spike"),
    ]
    if len(early):
        handles.append(Line2D([], [], color="#C85200", lw=pt(1.4), label="last spike"))
    if np.isnan(rate).any():
        handles.append(Patch(color="#E4E4E4", label="not observed"))
    if given is None:
        legend_below(cast(Figure, ax.figure), handles)
    else:
        above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 4, "frameon": False}
        ax.legend(handles=handles, **above)
    finish(ax, "time in the session (s)", "unit id" if n <= _MOST_NAMED else "unit (row)", "")
    ax.set_title(f"Rate of {_units(n)}", loc="left")
    return ax


@styled
def trials_over_time(session: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw every trial at its start in the session: its length as a bar, its events as dots.

    Parameters
    ----------
    session : xarray.Dataset
        From `nwb_lint.nwb.inspection.session_map.session_map`: times of the trials and their events, s.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing. They hold a note where the session has no trials.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.nwb.inspection.session_map import session_map
    >>> plot.trials_over_time(session_map("session.nwb")).get_ylabel()
    'time from start (s)'
    """
    given, ax = ax, make_axes(ax)
    if "start_time" not in session:
        ax.text(0.5, 0.5, "no table of trials", transform=ax.transAxes, ha="center")
        return finish(ax, "time in the session (s)", "", "Trials")
    start = session["start_time"].values
    n = len(start)
    title = f"{session.attrs.get('table') or 'trials'}: {n} rows"
    reach: list[Array] = []
    handles: list[Any] = []
    if "stop_time" in session:
        lasts = session["stop_time"].values - start
        reach.append(lasts)
        ax.vlines(start, 0, lasts, color="#D5D5D5", lw=pt(0.8), zorder=1)
        handles.append(Patch(color="#D5D5D5", label="start to stop"))
    names = [str(name) for name in session["event"].values] if "event" in session.coords else []
    for k, name in enumerate(names):
        since = session["event_time"].values[k] - start
        there = int(np.isfinite(since).sum())
        color = COLORS[k % len(COLORS)]
        reach.append(since)
        ax.plot(start, since, ls="", marker="o", ms=pt(2), mew=0, color=color, zorder=2)
        count = "" if there == n else f" ({there} of {n})"
        handles.append(Line2D([], [], ls="", marker="o", color=color, label=as_label(name) + count))
    known = np.concatenate([part[np.isfinite(part)] for part in reach]) if reach else np.zeros(0)
    if len(known):
        low = min(0.0, float(np.percentile(known, 100 - _SHOWN_PERCENTILE)))
        high = float(np.percentile(known, _SHOWN_PERCENTILE))
        pad = 0.04 * max(high - low, 1e-3)
        ax.set_ylim(low - pad, high + pad)
        title += f", up to {known.max():.4g} s long" if known.max() > high + pad else ""
    if given is None:
        legend_below(cast(Figure, ax.figure), handles)
    elif handles:
        ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.03))
    return finish(ax, "time in the session (s)", "time from start (s)", title)


@styled
def rates(session: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw a histogram of the mean rates of the units, on a logarithmic axis. A line marks the median.

    Parameters
    ----------
    session : xarray.Dataset
        From `nwb_lint.nwb.inspection.session_map.session_map`: ``mean_rate (neuron)``, Hz.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.nwb.inspection.session_map import session_map
    >>> plot.rates(session_map("session.nwb")).get_xlabel()
    'mean rate (Hz)'
    """
    given, ax = ax, make_axes(ax)
    values = session["mean_rate"].values
    firing, title = values[np.isfinite(values) & (values > 0)], "Mean rates"
    if len(firing):
        low, high = np.log10([max(firing.min(), 1e-3), firing.max()])
        bins = 10 ** np.arange(np.floor(low * 8) / 8 - 0.25, high + 0.26, 0.125)  # eight to a decade
        ax.hist(firing, bins=bins.tolist(), color="#5F9ED1", edgecolor="white", lw=pt(0.5))
        ax.set_xscale("log")
        middle = float(np.median(firing))
        ax.axvline(middle, color="#C85200", lw=pt(1.4), label=f"median {middle:.3g} Hz")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high - low < 1.5 else (1,)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    if silent := len(values) - len(firing):
        title += f", {silent} silent"
    ax.margins(y=0.05 if given is None else 0.25)  # room for the legend
    explain(ax, given)
    return finish(ax, "mean rate (Hz)", "units", title)


@styled
def session_summary(session: xr.Dataset, path: str | PathLike[str] | None = None, *, style: Style = "screen") -> Figure:
    """Draw a session on one page: rates over time, histogram of rates, and trials.

    Parameters
    ----------
    session : xarray.Dataset
        From `nwb_lint.nwb.inspection.session_map.session_map`.
    path : str or os.PathLike or None, default=None
        File to save the figure to. Its suffix sets the format.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.figure.Figure
        The page.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.nwb.inspection.session_map import session_map
    >>> len(plot.session_summary(session_map("session.nwb"), "session.png").axes)
    3
    """
    n = session.sizes["neuron"]
    figure = Drawing(figsize=inches(7.6, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(min(1.6, 0.7 + 0.04 * n), 1))
    top = figure.add_subplot(grid[0, 0])
    presence(session, style=style, ax=top)
    rates(session, style=style, ax=figure.add_subplot(grid[0, 1]))
    below = trials_over_time(session, style=style, ax=figure.add_subplot(grid[1, 0], sharex=top))
    top.set_xlabel("")
    if (legend := below.get_legend()) is not None:
        legend.set_in_layout(False)  # it lies in the empty corner
    lasts = float(session["edge"][-1] - session["edge"][0])
    figure.suptitle(f"session {as_label(session.attrs.get('session', ''))}, {lasts:.0f} s")
    if path is not None:
        save_figure(figure, path, 160)
    return figure


def _units(n: int) -> str:
    return f"{n} unit{'s' * (n != 1)}"
