"""Figures of scores: by rank, model, neuron, condition and rate; intervals of a bootstrap."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.scores import good_ranks
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    PALE,
    Style,
    as_label,
    explain,
    finish,
    inches,
    make_axes,
    pt,
    styled,
)
from nwb_lint.rate_link import Link

Array = np.ndarray

_LARGEST_RING = 15  # points
_SPLIT = {"train": (COLORS[0], "o"), "held_out": (COLORS[1], "s")}


class _Table(NamedTuple):
    """Scores (x, split), R² or bits per spike, with their standard errors, ceilings (split), and what x is."""

    r2: Array
    sem: Array
    ceiling: Array
    ticks: list[str]
    label: str
    chosen: float | None = None
    good: Array | None = None  # (x), whether a rank is as good as the best
    score: str = "R²"


@styled
def scores(fit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw R², or bits per spike of single trials, against rank, or R² of every baseline, for each split.

    Error bars are standard errors. Dashed lines are the ceilings, and the chosen rank is marked. Rings mark the ranks
    that are at most one standard error behind the best, by paired differences between folds, or, of single trials,
    0.5 % of its bits per spike.

    Where a fit tried a single rank, R² after each stage of the fit is drawn, or else the final R² or bits per spike.
    Splits without a score are not drawn.

    Parameters
    ----------
    fit : xarray.Dataset
        A fit, or the table of `nwb_lint.select_rank` or `nwb_lint.baselines`.
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
        If ``fit`` is none of these.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.scores(mock_fit()).get_ylabel()
    'R²'
    """
    table, splits = _table_of(fit), splits_of(fit)
    given, ax, x = ax, make_axes(ax), np.arange(len(table.ticks), dtype=float)
    x = np.array([float(tick) for tick in table.ticks]) if table.label == "rank" else x
    for k, split in enumerate(splits):
        y = table.r2[:, k]
        if not np.isfinite(y).any():
            continue
        color, marker = _SPLIT.get(split, ("#595959", "^"))
        models = table.label == "model"  # they have no order, so no line; splits stand side by side
        spread, aside = np.nan_to_num(table.sem[:, k]), models * (0.2 * k - 0.1)
        shape: dict[str, Any] = {"ls": "" if models else "-", "color": color, "marker": marker}
        ax.errorbar(x + aside, y, spread, label=split.replace("_", " "), **shape)
        if np.isfinite(table.ceiling[k]):
            ax.axhline(table.ceiling[k], color=color, lw=pt(1), ls=(0, (5, 3)))
    handles, _ = ax.get_legend_handles_labels()
    if np.isfinite(table.ceiling).any():
        handles.append(Line2D([], [], color=DARK, lw=pt(1), ls=(0, (5, 3)), label="ceiling"))
    if table.good is not None and "held_out" in splits:
        ring: dict[str, Any] = {
            "ls": "",
            "marker": "o",
            "ms": pt(10),
            "mfc": "none",
            "mec": "black",
            "mew": pt(0.8),
        }
        ax.plot(x[table.good], table.r2[table.good, splits.index("held_out")], **ring)
        handles.append(Line2D([], [], label="as good as the best", **ring))
    if table.chosen is not None:
        ax.axvspan(table.chosen - 0.15, table.chosen + 0.15, color=PALE, lw=0, zorder=0)
        handles.append(Line2D([], [], color=PALE, lw=pt(6), label="chosen rank"))
    ax.set_xticks(x, table.ticks)
    if table.label == "model":
        ax.tick_params("x", rotation=40)
        for text in ax.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    ax.margins(x=0.12)
    if given is not None:
        low, high = ax.get_ylim()
        share = min(0.04 + 0.09 * len(handles), 0.5)  # of the height, as room for the legend
        ax.set_ylim(low - share / (1 - share) * (high - low), high)
    explain(ax, given, handles)
    title = "Variance explained" if table.score == "R²" else "Co-smoothing"
    label = {"rank": "rank", "stage": "stage of the fit"}.get(table.label, "")
    return finish(ax, label, table.score, title)


def _table_of(fit: xr.Dataset) -> _Table:
    kind = getattr(fit, "attrs", {}).get("kind")
    if kind == "rank_selection":
        check_result(fit, kind)
    if "rank_bits" in fit or ("bits_per_spike" in fit and kind is None):
        return _bits_table(fit)
    if kind in ("rank_selection", "baselines"):
        check_result(fit, kind)
        name, label = ("rank", "rank") if kind == "rank_selection" else ("baseline", "model")
        r2, sem = (fit[f"{name}_{what}"].values for what in ("r2", "r2_sem"))
        ticks = [str(one) for one in fit["rank_tried" if label == "rank" else "baseline"].values]
        chosen = float(fit.attrs["rank"]) if label == "rank" else None
        return _Table(r2, sem, fit[f"{name}_r2_ceiling"].values, ticks, label, chosen, _good_ranks(fit))
    check_fit(fit)
    if "rank_r2" in fit:
        r2, tried, label = fit["rank_r2"].transpose("rank_tried", "split").values, fit["rank_tried"].values, "rank"
    elif "stage_r2" in fit:
        r2, tried, label = fit["stage_r2"].transpose("stage", "split").values, fit["stage"].values, "stage"
    else:
        r2, tried, label = fit["r2"].values[None], np.array(["fit"]), "fit"
    known = label == "rank" and "rank_r2_sem" in fit
    sem = fit["rank_r2_sem"].transpose("rank_tried", "split").values if known else np.full(r2.shape, np.nan)
    chosen = float(fit.sizes["rank"]) if label == "rank" and "rank" in fit.sizes else None
    ceiling = fit["r2_ceiling"].values
    if label == "rank":  # a cross-validated score has the ceiling of the cross-validation
        ceiling = fit["rank_r2_ceiling"].values if "rank_r2_ceiling" in fit else np.full(r2.shape[1], np.nan)
    return _Table(r2, sem, ceiling, [str(one) for one in tried], label, chosen, _good_ranks(fit))


def _bits_table(fit: xr.Dataset) -> _Table:
    """Co-smoothing of single trials by rank, or of one fit."""
    none = np.full(fit.sizes["split"], np.nan)
    if "rank_bits" not in fit:
        bits = fit["bits_per_spike"].values[None]
        return _Table(bits, np.full(bits.shape, np.nan), none, ["fit"], "fit", score="bits per spike")
    bits, sem = (fit[name].transpose("rank_tried", "split").values for name in ("rank_bits", "rank_bits_sem"))
    ticks = [str(one) for one in fit["rank_tried"].values]
    chosen = float(fit.attrs["rank"] if fit.attrs.get("kind") else fit.sizes["rank"])
    return _Table(bits, sem, none, ticks, "rank", chosen, _good_ranks(fit), "bits per spike")


def _good_ranks(fit: xr.Dataset) -> Array | None:
    """Which ranks predict about as well as the best."""
    return good_ranks(fit) if "rank_deficit" in fit else None


@styled
def neuron_scores(fit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw a histogram of the R² of the neurons, for each split.

    R² below -1 counts at -1. Neurons without a score do not count.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint`: ``r2_neuron (split, neuron)``.
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
    >>> plot.neuron_scores(mock_fit()).get_ylabel()
    'neurons'
    """
    check_fit(fit)
    given, ax = ax, make_axes(ax)
    table = fit["r2_neuron"].transpose("split", "neuron").values
    low = float(np.clip(np.floor(10 * np.nanmin(table, initial=0)) / 10, -1, 0))
    edges = np.arange(low, 1.01, 0.05).tolist()
    for k, split in enumerate(splits_of(fit)):
        values = table[k][np.isfinite(table[k])]
        if len(values) == 0:
            continue
        color, _ = _SPLIT.get(split, ("#595959", "^"))
        median, name = np.median(values), split.replace("_", " ")
        label = f"{name} (median {median:.2f})"
        ax.hist(np.clip(values, low, 1), edges, histtype="step", color=color, lw=pt(1.4), label=label)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.margins(y=0.05 if given is None else 0.4)  # room for the legend
    explain(ax, given)
    label = "R² of one neuron" + (" (lower ones at −1)" if low == -1 else "")
    return finish(ax, label, "neurons", "R² of the neurons")


@styled
def rate_scores(fit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw R² of every recorded neuron against its mean predicted rate, a dot for each neuron and split.

    R² below -1 is drawn at -1.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_lint` of an activity from `nwb_lint.prepare`, with ``scale`` and ``offset``, Hz.
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
        If the fit has no scale and offset, so that its rates are not in Hz.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_fit
    >>> plot.rate_scores(mock_fit()).get_xlabel()
    'mean predicted rate (Hz)'
    """
    check_fit(fit)
    if "scale" not in fit or "offset" not in fit:
        raise ContractError(
            "The fit has no scale and offset, so its rates are not in Hz. Fit the activity from prepare."
        )
    given, ax = ax, make_axes(ax)
    value = (fit["activity_pred"] * fit["scale"] + fit["offset"]).transpose("condition", "time", "neuron").values
    rate = Link.of(fit).rate(value).mean(axis=(0, 1))
    for split, values in zip(splits_of(fit), fit["r2_neuron"].transpose("split", "neuron").values, strict=True):
        color, marker = _SPLIT.get(split, ("#595959", "^"))
        seen = np.isfinite(values)
        name = split.replace("_", " ")
        ax.plot(rate[seen], np.clip(values[seen], -1, 1), ls="", marker=marker, color=color, label=name)
    explain(ax, given)
    return finish(ax, "mean predicted rate (Hz)", "R² of one neuron", "R² and rate of the neurons")


@styled
def condition_scores(scored: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw R² of every condition, in rising order.

    A line is R² of all conditions together, and a dashed line its ceiling. R² below -1 is drawn at -1.

    Parameters
    ----------
    scored : xarray.Dataset
        From `nwb_lint.score`: ``r2_condition (condition)``.
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
    >>> from nwb_lint import plot, score
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> plot.condition_scores(score(mock_fit(), mock_activity())).get_title()
    'R² of the conditions'
    """
    check_result(scored, "scores")
    given, ax, values = ax, make_axes(ax), np.sort(scored["r2_condition"].values)
    ax.plot(np.arange(1, len(values) + 1), np.clip(values, -1, 1), "o", color=COLORS[0], label="one condition")
    ax.axhline(float(scored["r2"]), color=COLORS[0], label="all conditions together")
    if np.isfinite(ceiling := float(scored["r2_ceiling"])):
        ax.axhline(ceiling, color=DARK, lw=pt(1), ls=(0, (5, 3)), label="ceiling")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    explain(ax, given)
    return finish(ax, "condition, in rising order", "R²", "R² of the conditions")


@styled
def rank_audit(audit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw held-out R² against rank, for every fraction of the neurons.

    Each line is the mean over draws. A ring marks each chosen rank, and is larger where more draws agree.

    Parameters
    ----------
    audit : xarray.Dataset
        From `nwb_lint.audit`: ``r2 (draw, rank_tried, split)`` and ``rank (draw)``.
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
    >>> from nwb_lint import audit, plot
    >>> from nwb_lint.testing import mock_activity
    >>> options = {"folds": 2, "tau_s": 0.1, "method": "regression"}
    >>> plot.rank_audit(audit(mock_activity(), ranks=[1], fractions=[1.0], **options)).get_xlabel()
    'rank'
    """
    check_result(audit, "audit")
    given, ax, tried = ax, make_axes(ax), audit["rank_tried"].values
    held = audit["r2"].isel(split=splits_of(audit).index("held_out")).values
    for k, fraction in enumerate(np.unique(audit["fraction"].values)[::-1]):
        own = audit["fraction"].values == fraction
        some, color = held[own], COLORS[k % len(COLORS)]
        mean = np.where(np.isfinite(some), some, 0).sum(axis=0) / np.maximum(np.isfinite(some).sum(axis=0), 1)
        mean[~np.isfinite(some).any(axis=0)] = np.nan
        label = f"{100 * fraction:.3g} % ({int(audit['n_neurons'].values[own][0])})"
        ax.plot(tried, mean, "o-", color=color, label=label)
        for rank, number in zip(*np.unique(audit["rank"].values[own], return_counts=True), strict=True):
            if rank in tried:
                at = mean[tried.tolist().index(rank)]
                size = pt(min(5 + 2.5 * number, _LARGEST_RING))
                ax.plot([rank], [at], "o", ms=size, mfc="none", mec=color, mew=pt(1))
    ax.set_xticks(tried)
    ax.margins(x=0.12)
    ring: dict[str, Any] = {"marker": "o", "ms": pt(7.5), "mfc": "none", "mec": DARK}
    handles, _ = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], ls="", label="rank chosen in a draw", **ring))
    explain(ax, given, handles, title="part of the neurons (number)")
    return finish(ax, "rank", "R², held out", "Scores with fewer neurons")


def splits_of(fit: xr.Dataset) -> list[str]:
    """The names of the splits of scores, those of training first."""
    return [str(s) for s in fit["split"].values] if "split" in fit.coords else ["train", "held_out"]


@styled
def intervals(bootstrap: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the intervals of the quantities of a fit, one row each.

    A filled dot is the corrected estimate, with its interval. An open dot is the estimate of the fit. Each row has its
    own scale: the zero is the estimate, and the unit is the standard deviation of the draws. A quantity without an
    interval has no filled dot.

    Parameters
    ----------
    bootstrap : xarray.Dataset
        From `nwb_lint.bootstrap`: ``estimate``, ``corrected``, ``low`` and ``high (quantity)``.
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
        If the Dataset is of another kind, or has no intervals.

    Examples
    --------
    >>> from nwb_lint import bootstrap, fit_lint, Input, plot, prepare
    >>> from nwb_lint.testing import mock_recording
    >>> def prepared(recording):
    ...     return prepare(recording, inputs=[Input("stimulus", column="stimulus", window_s=(0, 1))])
    >>> recording = mock_recording(draws=3)
    >>> fit = fit_lint(prepared(recording), rank=1, tau_s=0.1, method="regression")
    >>> plot.intervals(bootstrap(fit, recording, prepare=prepared, simulations=3)).get_title()
    'Intervals of 90 %'
    """
    check_result(bootstrap, "bootstrap")
    if "low" not in bootstrap:
        raise ContractError(
            "The bootstrap has no intervals. They need simulations. Call bootstrap(..., simulations=200)."
        )
    at, names = np.arange(bootstrap.sizes["quantity"]), [as_label(name) for name in bootstrap["quantity"].values]
    given, ax = ax, make_axes(ax, size=inches(3.0 + 0.06 * max(map(len, names)), 0.2 * len(names) + 0.9))
    spread = bootstrap["value_draw"].values.std(axis=0)
    unit = np.where(spread > 0, spread, 1.0)
    low, center, high = (
        (bootstrap[name].values - bootstrap["estimate"].values) / unit for name in ("low", "corrected", "high")
    )
    ax.plot(np.zeros(len(at)), at, ls="", marker="o", ms=pt(4.5), mfc="white", color=COLORS[0], label="the fit")
    known = np.isfinite(low)
    ax.hlines(at[known], low[known], high[known], color=COLORS[1], lw=pt(1.6))
    ax.plot(
        center[known],
        at[known],
        ls="",
        marker="o",
        ms=pt(4.5),
        color=COLORS[1],
        label="corrected, with its interval",
    )
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    explain(ax, given)
    title = f"Intervals of {100 * bootstrap.attrs['level']:.0f} %"
    return finish(ax, "difference from the fit (sd of the draws)", "", title)
