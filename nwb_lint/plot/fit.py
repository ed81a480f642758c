"""Figures of a fit. `summary` draws them all on one page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.analysis.latents import data_latents
from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import columns_of, find_column, held_out_of, input_names, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.plot.conditions import AUTO, look_of, over_conditions
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    GRAY,
    Drawing,
    Style,
    as_label,
    color_bar,
    explain,
    finish,
    inches,
    last_sample,
    legend_below,
    make_axes,
    pt,
    save_figure,
    styled,
    time_label,
)
from nwb_lint.plot.trials import evidence, trial_latents, trial_rates
from nwb_lint.plot.validation.scores import neuron_scores, scores

Array = np.ndarray

_MOST_LATENTS = 3  # panels of latents in a summary


@styled
def latents_over_time(
    fit: xr.Dataset,
    activity: xr.Dataset | None = None,
    *,
    rank: int = 1,
    color_by: str | None = None,
    style_by: str | None = None,
    panel_by: str | None = AUTO,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw one latent κ against time, a line for each condition.

    The latents of the data, where they are given, are pale lines beneath.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`, or from `nwb_lint.latents`, which also holds the latents of the data.
    activity : xarray.Dataset or None, default=None
        The fitted activity. Its latents are drawn too.
    rank : int, default=1
        Which latent, counted from 1.
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
        If the fit has no such latent, or a column is unknown.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> plot.latents_over_time(mock_fit(), mock_activity()).get_title()
    'Latent 1'
    """
    both = getattr(fit, "attrs", {}).get("kind") == "latents"
    if both:
        check_result(fit, "latents")
    else:
        check_fit(fit)
    kappa, time = _latent(fit, rank), fit["time"].values
    found = None
    if both or activity is not None:
        found = (fit["latent_data"].values if activity is None else data_latents(fit, activity))[..., rank - 1]

    def draw(panel: Axes, k: int, *, color: str, ls: str, lw: float, ms: float) -> None:
        if found is not None:
            panel.plot(time, found[k], color=color, lw=0.65 * lw, alpha=0.35, zorder=1.5)
        panel.plot(time, kappa[k], color=color, ls=ls, lw=lw)

    text = (time_label(fit), f"latent $\\kappa_{{{rank}}}$", f"Latent {rank}")
    how: dict[str, Any] = {"color_by": color_by, "style_by": style_by, "panel_by": panel_by, "ax": ax}
    more = [] if found is None else [_of_data()]
    return over_conditions(fit, draw, text, more, zero=time[0] < 0 < time[-1], **how)


@styled
def trajectories(
    fit: xr.Dataset,
    *,
    input_name: str | None = None,
    color_by: str | None = None,
    style_by: str | None = None,
    panel_by: str | None = AUTO,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw the conditions as trajectories in the plane of two latents, or of a latent and an input.

    A fit of rank 1 is drawn against its first filtered input. A fit of higher rank is drawn as κ 2 against κ 1, unless
    an input is named. A dot marks the last sample.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`, with a rank.
    input_name : str or None, default=None
        Name of the input on the horizontal axis.
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
        If the fit has no latents, or an input or a column is unknown.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.trajectories(mock_fit()).get_xlabel()
    'filtered input v (stimulus)'
    """
    check_fit(fit)
    first = _latent(fit, 1)
    if input_name is None and fit.sizes["rank"] > 1:
        x, y, labels = first, _latent(fit, 2), (r"latent $\kappa_1$", r"latent $\kappa_2$")
    else:
        names = input_names(fit)
        name = names[0] if input_name is None else input_name
        if name not in names:
            raise ContractError(f"The fit has no input {name!r}. Choose from {', '.join(names)}.")
        x = fit["filtered_input"].transpose("condition", "time", "input").values[..., names.index(name)]
        y, labels = first, (f"filtered input v ({as_label(name)})", r"latent $\kappa_1$")

    def draw(panel: Axes, k: int, *, color: str, ls: str, lw: float, ms: float) -> None:
        panel.plot(x[k], y[k], color=color, ls=ls, lw=lw)
        panel.plot(x[k, -1:], y[k, -1:], color=color, marker="o", ms=ms)

    how: dict[str, Any] = {"color_by": color_by, "style_by": style_by, "panel_by": panel_by, "ax": ax}
    return over_conditions(fit, draw, (*labels, "Trajectories"), [last_sample()], **how)


@styled
def connectivity_vectors(fit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the entries of m against those of the effective n, a dot for each neuron.

    The effective n is the part of n within the span of m and the input weights. The rest of n does not move the
    noise-free dynamics, so it is not drawn. Each rank has its own color.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`, with a rank: ``m`` and ``n (neuron, rank)``, dimensionless.
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
        If the fit has J in place of m and n.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.connectivity_vectors(mock_fit()).get_title()
    'Connectivity vectors'
    """
    check_fit(fit)
    m, n = _m(fit), _effective_n(fit)
    given, ax = ax, make_axes(ax)
    for k in range(m.shape[1]):
        dots: dict[str, Any] = {"s": pt(3) ** 2, "color": COLORS[k % 6], "alpha": 0.75, "lw": 0}
        ax.scatter(m[:, k], n[:, k], label=f"rank {k + 1}", **dots)
    if m.shape[1] > 1:
        explain(ax, given)
    ax.axhline(0, color=GRAY, lw=pt(0.6), zorder=0)
    ax.axvline(0, color=GRAY, lw=pt(0.6), zorder=0)
    return finish(ax, "m of a neuron", "effective n of a neuron", "Connectivity vectors")


@styled
def effective_connectivity(
    fit: xr.Dataset, *, by: str | None = None, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw the effective connectivity m (P n)' / N, or J itself, as an image.

    Neurons are in rising order of the first column of m. Without m they stay in their own order.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`.
    by : str or None, default=None
        Column of the neurons, such as their area. Neurons are sorted by it first, and lines separate the groups.
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
        If the neurons have no such column.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.effective_connectivity(mock_fit()).get_title()
    'Effective connectivity'
    """
    j = connectivity(fit)["connectivity"].values
    groups, starts = _groups(fit, by)
    order = np.lexsort((_m(fit)[:, 0] if "m" in fit else np.arange(len(j)), groups))
    j = j[np.ix_(order, order)]
    ax = make_axes(ax)
    most = np.quantile(np.abs(j), 0.99)
    image = ax.imshow(j, cmap="PuOr", vmin=-most, vmax=most, interpolation="nearest", aspect="equal")
    color_bar(image, ax, "effective J" if "m" in fit else "J", shrink=0.85, extend="both")
    for start in list(starts.values())[1:]:
        ax.axhline(start - 0.5, color="black", lw=pt(0.6))
        ax.axvline(start - 0.5, color="black", lw=pt(0.6))
    title, sorted_by = ("Effective connectivity", " (sorted by m)") if "m" in fit else ("Connectivity", "")
    if by is None:
        return finish(ax, f"from neuron{sorted_by}", f"to neuron{sorted_by}", title)
    ends = [*list(starts.values())[1:], len(j)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts.values(), ends, strict=True)]
    ax.set_xticks(middles, list(starts))
    ax.set_yticks(middles, list(starts))
    return finish(ax, f"from neuron, by {as_label(by)}", f"to neuron, by {as_label(by)}", title)


@styled
def singular_values(fit: xr.Dataset, *, most: int = 20, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the largest singular values of the connectivity J, in falling order.

    J is m n' / N where the fit is of low rank.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`.
    most : int, default=20
        Number of values to draw.
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
        If ``fit`` is not a fit.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.singular_values(mock_fit()).get_ylabel()
    'singular value of J'
    """
    check_fit(fit)
    j = fit["J"].transpose("neuron", "neuron_from").values if "J" in fit else None
    if j is None:
        m = _m(fit)
        j = m @ fit["n"].transpose("neuron", "rank").values.T / len(m)
    s = np.linalg.svd(j, compute_uv=False)[:most]
    ax = make_axes(ax)
    ax.plot(np.arange(1, len(s) + 1), s, color=COLORS[0], marker="o")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax, "number of the value", "singular value of J", "Singular values")


@styled
def summary(
    fit: xr.Dataset,
    activity: xr.Dataset | None = None,
    path: str | PathLike[str] | None = None,
    *,
    color_by: str | None = None,
    style_by: str | None = None,
    style: Style = "screen",
) -> Figure:
    """Draw a fit on one page: scores, latents, trajectories, connectivity, and R² of each neuron.

    Up to three latents are drawn against time. A fit without m and n has the singular values of J, and no latents. A
    fit of single trials has its log evidence, bands of latents, and the spikes of a trial over their rates.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint` or `nwb_lint.fit_trials`.
    activity : xarray.Dataset or None, default=None
        The fitted activity. It adds the latents of the data, as pale lines. Or the single trials.
    path : str or os.PathLike or None, default=None
        File to save the figure to. Its suffix sets the format: PNG, PDF or SVG. A PNG has 200 dots per inch. A file
        that nwb_lint did not draw is not replaced.
    color_by : str or None, default=None
        Column of the conditions that sets the color. None takes the first column of numbers.
    style_by : str or None, default=None
        Column of the conditions that sets the line style. None takes the first column of texts.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.figure.Figure
        The page.

    Raises
    ------
    ContractError
        If ``fit`` is not a fit, the activity does not match it, a column is unknown, or nothing can be saved to the
        path.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> len(plot.summary(mock_fit(), mock_activity()).axes)
    5
    """
    check_fit(fit)
    by: dict[str, Any] = {"color_by": color_by, "style_by": style_by}
    draw: list[Callable[..., Axes]] = [partial(scores, fit)]
    single = "noise_cov" in fit
    if single:
        draw = _panels_of_trials(fit, activity, color_by)
    elif "m" in fit:
        shown = range(1, 1 + min(fit.sizes["rank"], _MOST_LATENTS))
        inputs = input_names(fit)[:2] if len(shown) == 1 else [None]
        draw += [partial(latents_over_time, fit, activity, rank=rank, **by) for rank in shown]
        draw += [partial(trajectories, fit, input_name=name, **by) for name in inputs]
        draw += [partial(connectivity_vectors, fit)]
    else:
        draw += [partial(singular_values, fit)]
    draw += [] if single else [partial(neuron_scores, fit)]
    rows = -(-len(draw) // 3)
    figure = Drawing(figsize=inches(7.6, 2.35 * rows + 0.6), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, 3, squeeze=False).ravel())
    letter: dict[str, Any] = {
        "loc": "left",
        "x": -0.2,
        "fontsize": rcParams["axes.titlesize"] + 2,
        "fontweight": "bold",
    }
    for panel, ax, name in zip(draw, panels, "abcdefgh", strict=False):
        panel(ax=ax, style=style).set_title(name, **letter)
    for ax in panels[len(draw) :]:
        ax.remove()
    handles: list[Artist] = []
    if "m" in fit and not single:
        handles = [*look_of(fit, color_by, style_by).handles, last_sample()]
        handles += [] if activity is None else [_of_data()]
    figure.suptitle(_sizes(fit))
    legend_below(figure, handles)
    if path is not None:
        save_figure(figure, path, 200)
    return figure


def _of_data() -> Artist:
    """The entry of a legend for latents of the data."""
    return Line2D([], [], color=DARK, lw=pt(0.8), alpha=0.45, label="data (pale)")


def _sizes(fit: xr.Dataset) -> str:
    """Rank, neurons and conditions of a fit in words."""
    rank = f"rank {fit.sizes['rank']}" if "m" in fit else "rank not constrained"
    runs = "trials" if "noise_cov" in fit else "conditions"
    held = int(held_out_of(fit).sum())
    apart = f" ({held} held out)" if held else ""
    return f"{rank}, {int(recorded_of(fit).sum())} neurons, {fit.sizes['condition']} {runs}{apart}"


def _panels_of_trials(fit: xr.Dataset, trials: xr.Dataset | None, by: str | None) -> list[Callable[..., Axes]]:
    """The panels of a fit of single trials."""
    shown = range(1, 1 + min(fit.sizes["rank"], _MOST_LATENTS))
    counts = "bits_per_spike" in fit
    draw: list[Callable[..., Axes]] = [partial(scores, fit)] if counts else []
    draw += [partial(evidence, fit), *(partial(trial_latents, fit, rank=rank, by=by) for rank in shown)]
    draw += [partial(trial_rates, fit, trials)] if counts and trials is not None else []
    return [*draw, partial(connectivity_vectors, fit)]


def _groups(fit: xr.Dataset, by: str | None) -> tuple[Array, dict[str, int]]:
    """Group of every neuron, and where each begins once they are sorted by it."""
    if by is None:
        return np.zeros(fit.sizes["neuron"], int), {}
    column = find_column(fit, by, "neuron")
    if column is None:
        there = ", ".join(columns_of(fit, "neuron")) or "none"
        raise ContractError(f"Neurons have no column {by!r}. Choose from {there}.")
    levels, groups, counts = np.unique(column.values, return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    return groups, {as_label(level): int(start) for level, start in zip(levels, starts, strict=True)}


def _effective_n(fit: xr.Dataset) -> Array:
    return connectivity(fit)["n_effective"].values


def _m(fit: xr.Dataset) -> Array:
    if "m" not in fit:
        raise ContractError("The fit has J in place of m and n. Connectivity vectors need a fit of rank 1 or more.")
    return fit["m"].transpose("neuron", "rank").values


def _latent(fit: xr.Dataset, rank: int) -> Array:
    """One latent, (condition, time); ranks are counted from 1."""
    there = fit.sizes["rank"] if "latent" in fit else 0
    if rank > there:
        raise ContractError(f"The fit has {there} latents. There is no latent {rank}. Fit with a higher rank.")
    return fit["latent"].transpose("condition", "time", "rank").values[..., rank - 1]
