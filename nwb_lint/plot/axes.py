"""Figures of axes and weights: trajectories on axes, angles between axes, histograms of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.plot.conditions import AUTO, over_conditions
from nwb_lint.plot.style import COLORS, Style, as_label, finish, heat_map, inches, last_sample, make_axes, styled

_NAMED = ("vector", "kurtosis", "heavy_tail_p")


@styled
def projections(
    projected: xr.Dataset,
    axes: tuple[str, str],
    *,
    color_by: str | None = None,
    style_by: str | None = None,
    panel_by: str | None = AUTO,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw the conditions as trajectories on two axes.

    A dot marks the last sample of each condition. The axis labels give the share of variance along each axis.

    Parameters
    ----------
    projected : xarray.Dataset
        From `nwb_lint.project`: ``projection (condition, time, axis_name)``, dimensionless.
    axes : tuple of str
        Names of the horizontal and the vertical axis, such as ``("m 1", "I stimulus")``.
    color_by : str or None, default=None
        Column of the conditions that sets the color. None takes the first column of numbers.
    style_by : str or None, default=None
        Column of the conditions that sets the line style. None takes the first column of texts.
    panel_by : str or None, default="auto"
        Column of the conditions; each of its values has small Axes of its own. "auto" takes the column of the line
        styles where there are more than 12 conditions. None draws all conditions together.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Raises
    ------
    ContractError
        If an axis or a column is unknown, or the Dataset has no projection.

    Examples
    --------
    >>> from nwb_lint import plot, project
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> ax = plot.projections(project(mock_fit(), mock_activity()), ("m 1", "I stimulus"))
    >>> ax.get_title()
    'Activity on axes'
    """
    check_result(projected, "axes")
    if "projection" not in projected:
        raise ContractError("The axes have no projection. Call project(fit, activity).")
    names = projected["axis_name"].values.astype(str).tolist()
    if len(axes) != 2:
        raise ContractError(f"axes names {len(axes)} axes. It needs two. Choose from {', '.join(names)}.")
    if unknown := [name for name in axes if name not in names]:
        raise ContractError(f"There is no axis {unknown[0]!r}. Choose from {', '.join(names)}.")
    x, y = (projected["projection"].sel(axis_name=name).transpose("condition", "time").values for name in axes)

    def draw(panel: Axes, k: int, *, color: str, ls: str, lw: float, ms: float) -> None:
        panel.plot(x[k], y[k], color=color, ls=ls, lw=lw)
        panel.plot(x[k, -1:], y[k, -1:], color=color, marker="o", ms=ms)

    share = [float(projected["variance_explained"].values[names.index(name)]) for name in axes]
    across, up = (f"{as_label(name)} ({100 * one:.0f} % of variance)" for name, one in zip(axes, share, strict=True))
    how: dict[str, Any] = {"color_by": color_by, "style_by": style_by, "panel_by": panel_by, "ax": ax}
    return over_conditions(projected, draw, (across, up, "Activity on axes"), [last_sample()], **how)


@styled
def angles(compared: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the angles between axes as a heat map with numbers.

    Parameters
    ----------
    compared : xarray.Dataset
        From `nwb_lint.compare_axes` or `nwb_lint.project`: ``angle_deg (axis_name, axis_other)``, degrees.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Raises
    ------
    ContractError
        If the Dataset is of another kind.

    Examples
    --------
    >>> from nwb_lint import compare_axes, plot
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> ax = plot.angles(compare_axes(mock_fit(), mock_activity()))
    >>> ax.get_title()
    'Angles between axes'
    """
    check_result(compared, "axes")
    names = compared["axis_name"].values.astype(str).tolist()
    table = compared["angle_deg"].values
    ax = heat_map(table, names, names, "angle (degrees)", (0, 90), "{:.0f}", ax, ticks=[0, 30, 60, 90])
    return finish(ax, "", "", "Angles between axes")


@styled
def overlaps(connected: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the overlaps of the connectivity vectors as a heat map with numbers.

    The overlaps n' m / N and n' I / N set the dynamics of the latents.

    Parameters
    ----------
    connected : xarray.Dataset
        From `nwb_lint.connectivity`: ``overlap_m (rank, rank_from)`` and ``overlap_input (rank, input)``,
        dimensionless.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Raises
    ------
    ContractError
        If the Dataset is of another kind, or its network has no m and n.

    Examples
    --------
    >>> from nwb_lint import connectivity, plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.overlaps(connectivity(mock_fit())).get_title()
    'Overlaps of connectivity vectors'
    """
    check_result(connected, "connectivity")
    if "overlap_m" not in connected:
        raise ContractError("The connectivity has no overlaps, since its network has no m and n. Fit with a rank.")
    table = np.concatenate([connected["overlap_m"].values, connected["overlap_input"].values], axis=1)
    ranks = [str(k + 1) for k in range(len(table))]
    columns = [*(f"m {k}" for k in ranks), *(f"I {name}" for name in input_names(connected))]
    most = float(np.abs(table).max(initial=1e-12))
    ax = heat_map(table, [f"n {k}" for k in ranks], columns, "overlap", (-most, most), "{:.2f}", ax)
    return finish(ax, "", "", "Overlaps of connectivity vectors")


@styled
def weight_histograms(
    statistics: xr.Dataset, *, bins: int = 24, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw a histogram of the weights of every connectivity vector, one row each.

    Each vector is measured in its own standard deviations. The labels give its excess kurtosis. A star marks tails
    that are heavier than normal (p < .05). J has no histogram.

    Parameters
    ----------
    statistics : xarray.Dataset
        From `nwb_lint.weight_statistics`: ``weight (vector, neuron)`` and its moments, dimensionless.
    bins : int, default=24
        Number of bins of each histogram.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Raises
    ------
    ContractError
        If the Dataset has no weights.

    Examples
    --------
    >>> from nwb_lint import plot, weight_statistics
    >>> from nwb_lint.testing import mock_fit
    >>> plot.weight_histograms(weight_statistics(mock_fit())).get_title()
    'Weights, highest bar: 2 neurons'
    """
    missing = [name for name in ("weight", "mean", "sd", "kurtosis", "heavy_tail_p") if name not in statistics]
    if missing:
        raise ContractError(f"The statistics lack {', '.join(missing)}. Call weight_statistics(fit).")
    known = np.isfinite(statistics["weight"].values).all(axis=1) & (statistics["sd"].values > 0)
    z = ((statistics["weight"] - statistics["mean"]) / statistics["sd"]).transpose("vector", "neuron").values[known]
    edges = np.histogram_bin_edges(z, bins)
    counts = np.array([np.histogram(one, edges)[0] for one in z])
    ax = make_axes(ax, size=inches(4.2, 0.36 * len(z) + 1.2))
    for k, one in enumerate(counts / counts.max(initial=1)):
        ax.stairs(one - k, edges, baseline=-k, fill=True, color=COLORS[0], alpha=0.75)
    labels = []
    for name, kurtosis, p in zip(*(statistics[one].values[known] for one in _NAMED), strict=True):
        labels.append(as_label(f"{name} ({kurtosis:.1f}{' *' if p < 0.05 else ''})"))
    ax.set_yticks(-np.arange(len(labels)), labels)
    ax.set_ylim(-len(labels) + 0.9, 1.05)
    title = f"Weights, highest bar: {counts.max(initial=0)} neurons"
    return finish(ax, "weight (standard deviations)", "vector (excess kurtosis)", title)
