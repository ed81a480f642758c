"""Figures of comparisons: of candidates by held-out data, of sessions, of repeated fits, and of dynamics."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_lint.contract.checks import check_result
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    GRAY,
    PALE,
    Style,
    as_label,
    explain,
    finish,
    heat_map,
    make_axes,
    pt,
    size_ticks,
    styled,
)
from nwb_lint.plot.validation.scores import splits_of


@styled
def tau_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw held-out R² against the time constant, with the number of stable fixed points at each one.

    Error bars are standard errors over folds. Rings mark the time constants that predict about as well as the best one.
    A dashed line is the ceiling.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_tau`.
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
    >>> from nwb_lint import compare_tau, plot
    >>> from nwb_lint.testing import mock_activity
    >>> table = compare_tau(mock_activity(), rank=1, taus_s=[0.1, 0.2], folds=2, method="regression")
    >>> plot.tau_comparison(table).get_xlabel()
    'time constant (s)'
    """
    check_result(comparison, "tau_comparison")
    given, ax, taus = ax, make_axes(ax), comparison["tau_tried"].values
    at = splits_of(comparison).index("held_out")
    r2, sem = comparison["tau_r2"].values[:, at], comparison["tau_r2_sem"].values[:, at]
    ax.errorbar(taus, r2, sem, marker="o", color=COLORS[1], label="held out")
    good = comparison["as_good"].values
    ring: dict[str, Any] = {"ms": pt(9), "mfc": "none", "mec": COLORS[1], "mew": pt(1)}
    ax.plot(taus[good], r2[good], "o", label="as good as the best", **ring)
    if np.isfinite(ceiling := comparison["tau_r2_ceiling"].values[at]):
        ax.axhline(ceiling, color=DARK, lw=pt(1), ls=(0, (5, 3)), label="ceiling")
    stable = comparison["n_found"].sel(stability_kind="stable").values
    ax.set_xscale("log")
    ax.set_xticks(taus, [f"{tau:g}" for tau in taus])
    ax.set_xticks([], minor=True)
    ax.margins(x=0.1)
    finish(ax, "time constant (s)", "R²", "What depends on the time constant")
    above = ax.secondary_xaxis("top")
    above.set_xticks(taus, [str(number) for number in stable])
    above.set_xticks([], minor=True)
    above.set_xlabel("number of stable fixed points")
    size_ticks(cast(Axes, above))
    explain(ax, given)
    return ax


@styled
def link_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw R² of held-out rates for each link from rates to activations; the chosen one is filled.

    Error bars are standard errors over folds, which the links share: differences are surer than they look.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_links`.
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
    >>> from functools import partial
    >>> from nwb_lint import Input, compare_links, plot, prepare
    >>> from nwb_lint.testing import mock_recording
    >>> prepared = partial(prepare, inputs=[Input("stimulus", column="stimulus", window_s=(0, 1))])
    >>> table = compare_links(mock_recording(), prepare=prepared, rank=1, tau_s=0.1, links=["identity", "log"])
    >>> plot.link_comparison(table).get_ylabel()
    'R² of held-out rates'
    """
    check_result(comparison, "link_comparison")
    given, ax, names = ax, make_axes(ax), comparison["link_tried"].values.tolist()
    places, r2 = np.arange(len(names)), comparison["link_r2"].values
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": pt(5), "color": COLORS[1]}
    ax.errorbar(places, r2, comparison["link_r2_sem"].values, mfc="white", label="tried", **dots)
    chosen = names.index(comparison.attrs["rate_link"])
    ax.plot(chosen, r2[chosen], label="chosen", **dots)
    ax.set_xticks(places, names)
    ax.margins(x=0.2, y=0.2)
    explain(ax, given)
    return finish(ax, "link", "R² of held-out rates", "Links from rates to activations")


@styled
def input_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how far each list of inputs is behind the best one on held-out data; those that are as good are filled.

    Error bars are standard errors of the differences to the best one, paired over conditions or trials. The name of the
    chosen list is bold.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_inputs`.
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
    >>> from nwb_lint import Input, compare_inputs, plot
    >>> from nwb_lint.testing import mock_recording
    >>> stimulus = Input("stimulus", column="stimulus", window_s=(0, 1))
    >>> sets = {"stimulus": [stimulus], "onset": [Input("onset", window_s=(0, 1))]}
    >>> plot.input_comparison(compare_inputs(mock_recording(), sets, rank=1, tau_s=0.1)).get_xlabel()
    'behind the best one (R²)'
    """
    check_result(comparison, "input_comparison")
    given, ax, names = ax, make_axes(ax), comparison["input_set"].values.tolist()
    places, good = np.arange(len(names)), comparison["as_good"].values
    behind, error = comparison["set_deficit"].values, comparison["set_deficit_sem"].values
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": pt(5), "color": COLORS[1]}
    for which, label, fill in ((good, "as good as the best", COLORS[1]), (~good, "worse", "white")):
        if which.any():
            ax.errorbar(behind[which], places[which], xerr=error[which], label=label, mfc=fill, **dots)
    ax.axvline(0, color=DARK, lw=pt(1), ls=(0, (5, 3)))
    ax.set_yticks(places, names)
    for text in ax.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == comparison.attrs["input_set"] else "normal")
    ax.invert_yaxis()
    ax.margins(x=0.15, y=0.2)
    explain(ax, given)
    unit = comparison["set_score"].attrs["units"]
    return finish(ax, f"behind the best one ({'R²' if unit == '1' else unit})", "", "Inputs on held-out data")


@styled
def session_changes(alignment: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how far the dynamics of each session are from those of the reference session.

    Squares are distances without the errors of the fits, with their intervals of 90 %, where the fits had their data.

    Parameters
    ----------
    alignment : xarray.Dataset
        From `nwb_lint.align_fits`.
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
    >>> from nwb_lint import align_fits, plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.session_changes(align_fits({"day 1": mock_fit(), "day 2": mock_fit(seed=1)})).get_ylabel()
    'distance of the recurrence'
    """
    check_result(alignment, "session_alignment")
    given, ax, names = ax, make_axes(ax), alignment["session_name"].values.tolist()
    places = np.arange(len(names))
    values, label = alignment["distance"].values, "with errors of the fits"
    ax.plot(places, values, ls="", marker="o", ms=pt(5), color=COLORS[1], label=label)
    if "distance_low" in alignment:
        low, high = (alignment[f"distance_{end}"].values for end in ("low", "high"))
        ax.vlines(places + 0.1, low, high, color=COLORS[0], lw=pt(1.5))
        values, label = alignment["distance_corrected"].values, "without, and 90 %"
        ax.plot(places + 0.1, values, ls="", marker="s", ms=pt(4), color=COLORS[0], label=label)
        explain(ax, given)
    ax.set_xticks(places, [as_label(name) for name in names])
    ax.set_ylim(bottom=0)
    ax.margins(x=0.2)
    return finish(ax, "session", "distance of the recurrence", f"Change since {as_label(alignment.attrs['reference'])}")


@styled
def drift_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how far the evidence of held-out trials is below the best, by the number of functions along which m drifts.

    Error bars are standard errors of the differences to the best one, paired over trials. The chosen number is filled.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_drift`.
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
    >>> from nwb_lint import compare_drift, plot
    >>> from nwb_lint.testing import mock_trials
    >>> table = compare_drift(mock_trials(), rank=1, tau_s=0.1, drifts=[0, 1], folds=2, hidden=0, max_iter=3)
    >>> plot.drift_comparison(table).get_xlabel()
    'smooth functions of the trial'
    """
    check_result(comparison, "drift_comparison")
    given, ax, tried = ax, make_axes(ax), comparison["drift_tried"].values
    behind = -comparison["drift_deficit"].values
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": pt(5), "color": COLORS[1]}
    ax.axhline(0, color=PALE, lw=pt(0.6), zorder=0)
    ax.errorbar(tried, behind, comparison["drift_deficit_sem"].values, mfc="white", label="tried", **dots)
    chosen = tried == comparison.attrs["drift"]
    ax.plot(tried[chosen], behind[chosen], label="chosen", **dots)
    ax.set_xticks(tried, ["0 (constant)" if one == 0 else str(one) for one in tried])
    ax.margins(x=0.2, y=0.2)
    explain(ax, given)
    return finish(ax, "smooth functions of the trial", "log evidence − best (nats/trial)", "Drift of m over trials")


@styled
def readout_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how well behavior of held-out trials or conditions is predicted, by its weight in the fit.

    Error bars are standard errors over trials or conditions. The chosen weight is filled. Weights at which the activity
    is predicted worse than at the best weight have a gray background.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_readouts`.
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
    >>> from nwb_lint import Readout, compare_readouts, plot, prepare
    >>> from nwb_lint.testing import mock_trials
    >>> trials = prepare(mock_trials(), inputs=[], readouts=[Readout("choice", column="choice")])
    >>> options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 3}
    >>> plot.readout_comparison(compare_readouts(trials, readout_weights=[0, 1], folds=2, **options)).get_xlabel()
    'weight of behavior'
    """
    check_result(comparison, "readout_comparison")
    given, ax, tried = ax, make_axes(ax), comparison["weight_tried"].values
    places, chosen = np.arange(len(tried)), tried == comparison.attrs["readout_weight"]
    worse = np.isnan(comparison["behavior_deficit"].values)
    for k, place in enumerate(places[worse]):
        ax.axvspan(place - 0.5, place + 0.5, color=PALE, lw=0, zorder=0, label=None if k else "activity worse")
    ax.axhline(0, color=GRAY, lw=pt(0.6), zorder=0)
    names = comparison["readout"].values.tolist()
    for k, name in enumerate(names):
        at = places + 0.12 * (k - (len(names) - 1) / 2)
        score, sem = (
            comparison[one].transpose("weight_tried", "readout").values[:, k]
            for one in ("behavior_score", "behavior_score_sem")
        )
        dots: dict[str, Any] = {"marker": "o", "ms": pt(5), "color": COLORS[k % len(COLORS)], "lw": pt(1)}
        ax.errorbar(at, score, sem, mfc="white", label=as_label(name), **dots)
        ax.plot(at[chosen], score[chosen], zorder=3, **dots)
    ax.set_xticks(places, [f"{one:g}" for one in tried])
    ax.set_xlim(-0.5, len(tried) - 0.5)
    ax.margins(y=0.2)
    explain(ax, given)
    return finish(ax, "weight of behavior", "behavior explained", "Behavior of held-out data")


@styled
def ensemble_agreement(ensemble: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the correlations between the effective connectivities of repeated fits, as a heat map with numbers.

    Fits that predict worse than the best have their numbers in brackets on the axes.

    Parameters
    ----------
    ensemble : xarray.Dataset
        From `nwb_lint.ensemble`: ``pearson (member, member_from)``.
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
    >>> from nwb_lint import ensemble, plot
    >>> from nwb_lint.testing import mock_activity
    >>> found = ensemble(mock_activity(), rank=1, members=2, tau_s=0.1, method="regression")
    >>> plot.ensemble_agreement(found).get_xlabel()
    'member'
    """
    check_result(ensemble, "ensemble")
    good = ensemble["as_good"].values
    names = [str(k + 1) if one else f"({k + 1})" for k, one in enumerate(good)]
    title = f"Members that differ by {ensemble.attrs['vary']}, mean {ensemble.attrs['pearson']:.2f}"
    table = ensemble["pearson"].values
    low = -1.0 if np.nanmin(table) < 0 else 0.0
    ax = heat_map(table, names, names, "correlation of effective J", (low, 1), "{:.2f}", ax)
    label = "member" if good.all() else "member (in brackets: predicts worse)"
    return finish(ax, label, "member", title.replace("-", "−"))


@styled
def dynamics_distances(comparison: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how far the dynamics of each pair of systems are apart, and what the pair is called, as a heat map.

    Distances are relative to that between a network and the same one with a changed connectivity: below 1 they are
    smaller than a change that matters.

    Parameters
    ----------
    comparison : xarray.Dataset
        From `nwb_lint.compare_dynamics`.
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
    >>> from nwb_lint import compare_dynamics, plot
    >>> from nwb_lint.testing import mock_fit
    >>> found = compare_dynamics({"one": mock_fit(), "two": mock_fit()}, measure="prediction")
    >>> plot.dynamics_distances(found).get_xlabel()
    'system'
    """
    check_result(comparison, "dynamics_comparison")
    names = [str(name) for name in comparison["system"].values]
    with np.errstate(divide="ignore", invalid="ignore"):
        table = comparison["distance"].values / comparison["distance_change"].values
    top = max(2.0, float(np.nanmax(table, initial=0)))
    change = comparison.attrs["change"]
    ax = heat_map(table, names, names, f"distance (1: J changed by {change:.0%})", (0, top), "{:.2g}", ax)
    for (row, column), call in np.ndenumerate(comparison["call"].values):
        if call:
            light = table[row, column] > 0.6 * top
            ax.text(column, row + 0.32, call, ha="center", va="center", color="black" if light else "white", size=pt(6))
    measure = {"dsa": "DSA", "prediction": "latents not explained"}
    return finish(ax, "system", "system", f"Distance of dynamics: {measure[comparison.attrs['measure']]}")
