"""Figures of populations: loadings, gains, and the stability of each number of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import column_of
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, DARK, PALE, Style, as_label, explain, finish, make_axes, pt, styled


@styled
def loadings(
    populations: xr.Dataset,
    *,
    x: str | None = None,
    y: str | None = None,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw the loadings of every neuron on two vectors, colored by population.

    A line for each population is the regression of y on x, from the mean and covariance of the population.

    Parameters
    ----------
    populations : xarray.Dataset
        From `nwb_lint.find_populations`: ``loading (neuron, vector)``, dimensionless.
    x : str or None, default=None
        Name of the horizontal vector. None takes the first.
    y : str or None, default=None
        Name of the vertical vector. None takes the second.
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
        If a vector is unknown, or the Dataset is of another kind.

    Examples
    --------
    >>> from nwb_lint import find_populations, plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.loadings(find_populations(mock_fit(), n_groups=1)).get_xlabel()
    'loading on m 1'
    """
    check_result(populations, "populations")
    names = [str(v) for v in populations["vector"].values]
    first, second = x or names[0], y or names[min(1, len(names) - 1)]
    for name in (first, second):
        if name not in names:
            raise ContractError(f"Populations have no vector {name!r}. Choose from {', '.join(names)}.")
    a, b = names.index(first), names.index(second)
    given, ax = ax, make_axes(ax)
    values, label = populations["loading"].transpose("neuron", "vector").values, populations["population"].values
    for k, group in enumerate(populations["group"].values):
        color = COLORS[k % len(COLORS)]
        some = values[label == k]
        dots: dict[str, Any] = {"ms": pt(3), "alpha": 0.7, "mew": 0, "color": color}
        ax.plot(some[:, a], some[:, b], "o", label=f"{as_label(group)} ({len(some)})", **dots)
        if len(some) and "covariance" in populations:
            mean, covariance = populations["mean"].values[k], populations["covariance"].values[k]
            if covariance[a, a] > 0:
                ends = np.array([some[:, a].min(), some[:, a].max()])
                ax.plot(ends, mean[b] + covariance[a, b] / covariance[a, a] * (ends - mean[a]), color=color)
    handles, _ = ax.get_legend_handles_labels()
    if "covariance" in populations:
        handles.append(Line2D([], [], color=DARK, label="regression"))
    explain(ax, given, handles, title="population (neurons)")
    return finish(ax, f"loading on {as_label(first)}", f"loading on {as_label(second)}", "Loadings by population")


@styled
def population_gains(
    populations: xr.Dataset, *, by: str | None = None, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw the gain of every population.

    A bar is the mean over the conditions of one level, and a dot is one condition.

    Parameters
    ----------
    populations : xarray.Dataset
        From `nwb_lint.find_populations` of a fit that has an input: ``gain (condition, group)``, dimensionless.
    by : str or None, default=None
        Column of the conditions; each of its values has a bar. None draws one bar, over all conditions.
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
        If there are no gains, or no such column.

    Examples
    --------
    >>> from nwb_lint import find_populations, plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.population_gains(find_populations(mock_fit(), n_groups=1)).get_title()
    'Gains'
    """
    check_result(populations, "populations")
    if "gain" not in populations:
        raise ContractError("The populations have no gains. Find them in a fit that has an input.")
    gain = populations["gain"].transpose("condition", "group").values
    column = np.full(len(gain), "all") if by is None else column_of(populations, by).astype(str)
    given, ax = ax, make_axes(ax)
    levels = np.unique(column)
    at, width = np.arange(gain.shape[1]), 0.8 / len(levels)
    for k, level in enumerate(levels):
        some = gain[column == level]
        shifted = at + (k - (len(levels) - 1) / 2) * width
        label = "mean over conditions" if by is None else as_label(f"{by} {level}")
        ax.bar(shifted, some.mean(axis=0), 0.9 * width, color=COLORS[k % len(COLORS)], alpha=0.75, label=label)
        ax.plot(np.tile(shifted, len(some)), some.ravel(), "o", ms=pt(1.8), mew=0, color=DARK)
    ax.set_xticks(at, [as_label(g) for g in populations["group"].values])
    ax.set_ylim(0, None)
    handles, _ = ax.get_legend_handles_labels()
    explain(ax, given, [*handles, Line2D([], [], ls="", marker="o", ms=pt(1.8), color=DARK, label="one condition")])
    return finish(ax, "population", "mean gain φ'(x)", "Gains")


@styled
def population_number(populations: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the stability of every number of groups, and its chance level.

    Stability is the adjusted Rand index between mixtures of subsamples. The chosen number is marked.

    Parameters
    ----------
    populations : xarray.Dataset
        From `nwb_lint.find_populations`, by a method that fits mixtures: ``stability (n_groups)``.
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
        If the populations were found without mixtures.

    Examples
    --------
    >>> from nwb_lint import find_populations, plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.population_number(find_populations(mock_fit(), max_groups=2, resamples=1)).get_ylabel()
    'adjusted Rand index'
    """
    check_result(populations, "populations")
    if "stability" not in populations:
        raise ContractError("The populations have no stability. Find them with method='em' or 'bayesian'.")
    given, ax = ax, make_axes(ax)
    tried = populations["n_groups"].values
    ax.axvline(populations.sizes["group"], color=PALE, lw=pt(6), zorder=0, label="chosen")
    ax.plot(tried, populations["stability"].values, "o-", color=COLORS[0], label="loadings")
    chance = populations["stability_chance"].values
    ax.plot(tried, chance, "s--", color=COLORS[1], label="one Gaussian (95 %)")
    ax.set_xticks(tried)
    ax.set_ylim(-0.05, 1.1)
    explain(ax, given)
    return finish(ax, "number of populations", "adjusted Rand index", "Stability under resampling")
