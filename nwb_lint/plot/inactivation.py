"""Figures of predicted inactivations: bars with their controls, psychometric curves, readout weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import column_of, columns_of, find_column
from nwb_lint.contract.values import missing_in
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, DARK, DASHES, GRAY, Style, as_label, explain, finish, make_axes, pt, styled
from nwb_lint.prepare import times_in


@styled
def inactivation_bars(
    result: xr.Dataset, *, quantity: str = "accuracy", ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw the accuracy in each context, or the effect on the other neurons, with each group inactivated.

    A gray bar shows the random groups: from the lowest to the highest quantile, with a tick at the median. Dashed lines
    are the accuracy of the intact network.

    Parameters
    ----------
    result : xarray.Dataset
        From `nwb_lint.predict_inactivation`.
    quantity : str, default="accuracy"
        What to draw, "accuracy" or "effect".
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
        If the quantity is unknown, or the result has no accuracy.

    Examples
    --------
    >>> from nwb_lint import plot, predict_inactivation
    >>> from nwb_lint.testing import mock_fit
    >>> found = predict_inactivation(mock_fit(), {"first": [0, 1, 2]}, readout="stimulus", controls=3)
    >>> plot.inactivation_bars(found).get_title()
    'Predicted inactivation'
    """
    check_result(result, "inactivation")
    if quantity not in ("accuracy", "effect"):
        raise ContractError(f"quantity is {quantity!r}. It needs to be 'accuracy' or 'effect'.")
    if quantity not in result:
        raise ContractError("The result has no accuracy. Call predict_inactivation with a readout and right answers.")
    given, ax = ax, make_axes(ax)
    values = result[quantity] if quantity == "accuracy" else result["effect"].expand_dims("context", axis=1)
    control = result.get(f"{quantity}_control")
    names = [str(c) for c in result["context"].values] if quantity == "accuracy" else ["effect"]
    at, width, context = np.arange(result.sizes["group"]), 0.8 / len(names), result.attrs.get("context") or "context"
    for k, name in enumerate(names):
        x, color = at + (k - (len(names) - 1) / 2) * width, COLORS[k % len(COLORS)]
        ax.bar(x, values.values[:, k], 0.85 * width, color=color, alpha=0.8, label=as_label(f"{context} {name}"))
        if control is not None:
            some = control.values[..., k] if quantity == "accuracy" else control.values
            ax.vlines(x, some[:, 0], some[:, -1], color=GRAY, lw=pt(3))
            middle: dict[str, Any] = {"ms": pt(6), "mew": pt(1.2), "color": "#333333"}
            ax.plot(x, some[:, some.shape[1] // 2], "_", **middle)
        if quantity == "accuracy":
            ax.axhline(float(result["accuracy_intact"][k]), color=color, lw=pt(1), ls=(0, (5, 3)))
    handles, _ = ax.get_legend_handles_labels() if quantity == "accuracy" else ([], [])
    if control is not None:
        handles.append(Line2D([], [], color=GRAY, lw=pt(3), label="random groups, 5–95 %"))
    if quantity == "accuracy":
        handles.append(Line2D([], [], color=DARK, lw=pt(1), ls=(0, (5, 3)), label="intact"))
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.05 * (quantity == "accuracy")))
    if handles:
        explain(ax, given, handles)
    ax.set_xticks(at, [as_label(g) for g in result["group"].values], rotation=30, ha="right")
    label = "share of right answers" if quantity == "accuracy" else "change of the others / intact"
    return finish(ax, "", label, "Predicted inactivation")


@styled
def psychometric(
    result: xr.Dataset,
    column: str,
    *,
    groups: list[str] | None = None,
    kind: str = "choice",
    window_s: tuple[float, float] | None = None,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw the choices of the network, or its output, against a column of the conditions.

    Each context has its own color, and each group its own line style.

    Parameters
    ----------
    result : xarray.Dataset
        From `nwb_lint.predict_inactivation`, with a readout.
    column : str
        Column of the conditions, of numbers.
    groups : list of str or None, default=None
        Groups to draw. None draws all. A group without neurons, such as ``{"intact": []}``, shows the intact network.
    kind : str, default="choice"
        "choice" draws the share of positive outputs with its binomial standard error. "output" draws the mean output.
    window_s : tuple of float or None, default=None
        Start and end of the window that the output is averaged over, s. None takes the last sample.
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
        If the result has no output, or no such column or group.

    Examples
    --------
    >>> from nwb_lint import plot, predict_inactivation
    >>> from nwb_lint.testing import mock_fit
    >>> found = predict_inactivation(mock_fit(), {"first": [0, 1, 2]}, readout="stimulus", controls=0)
    >>> plot.psychometric(found, "stimulus").get_ylabel()
    'share of positive choices'
    """
    check_result(result, "inactivation")
    if kind not in ("choice", "output"):
        raise ContractError(f"kind is {kind!r}. It needs to be 'choice' or 'output'.")
    if "output" not in result:
        raise ContractError("The result has no output. Call predict_inactivation with a readout.")
    values = find_column(result, column, "condition")
    if values is None or values.dtype.kind not in "fiu":
        columns = ", ".join(columns_of(result, "condition")) or "none"
        raise ContractError(f"Conditions have no column {column!r} of numbers. Their columns are {columns}.")
    there = [str(g) for g in result["group"].values]
    shown = there if groups is None else groups
    missing = [g for g in shown if g not in there]
    if missing:
        raise ContractError(f"The result has no group {missing[0]!r}. Choose from {', '.join(there)}.")
    given, ax = ax, make_axes(ax)
    time = result["time"].values
    inside = time == time[-1] if window_s is None else times_in(time, window_s)
    z = result["output"].transpose("group", "condition", "time").values[..., inside].mean(axis=-1)
    context, x = _contexts(result), values.values.astype(float)
    levels = [level for level in np.unique(context) if level]
    known = x[np.isfinite(x)]
    # so that error bars do not hide each other
    apart = 0.012 * np.ptp(known) if kind == "choice" and len(known) else 0.0
    looks = [(k, at) for k in range(len(levels)) for at in range(len(shown))]
    for place, (k, at) in enumerate(looks):
        moved = x + apart * (place - (len(looks) - 1) / 2)
        look: dict[str, Any] = {"color": COLORS[k % len(COLORS)], "ls": DASHES[at % len(DASHES)]}
        _curve(ax, moved, z[there.index(shown[at])], context == levels[k], kind, **look)
    name = result.attrs.get("context") or "conditions"
    handles = [
        Line2D([], [], color=COLORS[k % len(COLORS)], label=as_label(f"{name} {c}")) for k, c in enumerate(levels)
    ]
    handles += [Line2D([], [], color=DARK, ls=DASHES[k % len(DASHES)], label=as_label(g)) for k, g in enumerate(shown)]
    if kind == "choice":
        ax.set_ylim(-0.05, 1.05)
    explain(ax, given, handles)
    return finish(
        ax, as_label(column), "share of positive choices" if kind == "choice" else "output z", "Psychometric curves"
    )


@styled
def readout_weights(readout: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the weight of every neuron in a readout, in rising order.

    The title gives the cross-validated score.

    Parameters
    ----------
    readout : xarray.Dataset
        From `nwb_lint.fit_readout`: ``readout (neuron)``, dimensionless.
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
    >>> from nwb_lint import fit_readout, plot
    >>> from nwb_lint.testing import mock_activity
    >>> plot.readout_weights(fit_readout(mock_activity(), "stimulus", folds=4)).get_ylabel()
    'weight in the readout'
    """
    check_result(readout, "readout")
    weights, ax = np.sort(readout["readout"].values), make_axes(ax)
    ax.axhline(0, color=GRAY, lw=pt(0.6), zorder=0)
    ax.vlines(np.arange(1, len(weights) + 1), 0, weights, color=COLORS[0], lw=pt(0.8))
    ax.plot(np.arange(1, len(weights) + 1), weights, "o", ms=pt(2.5), color=COLORS[0])
    metric = readout.attrs["metric"].replace("R2", "R²")
    score = f"{float(readout['score']):.2f}".replace("-", "−")
    title = f"Readout of {as_label(readout.attrs['column'])}, {metric} {score}"
    return finish(ax, "neuron, in rising order", "weight in the readout", title)


def _contexts(result: xr.Dataset) -> np.ndarray:
    """The context of every condition; empty where it is missing."""
    name = str(result.attrs.get("context", ""))
    if not name:
        return np.full(result.sizes["condition"], "all")
    column = column_of(result, name)
    return np.where(missing_in(column), "", column.astype(str))


def _curve(ax: Axes, x: np.ndarray, z: np.ndarray, some: np.ndarray, kind: str, *, color: str, ls: str) -> None:
    levels = np.unique(x[some & np.isfinite(x)])  # a condition without a value is not drawn
    parts = [z[some & (x == level)] for level in levels]
    if kind == "output":
        y, spread = [part.mean() for part in parts], None
    else:
        y = [float((part > 0).mean()) for part in parts]
        spread = [np.sqrt(p * (1 - p) / len(part)) for p, part in zip(y, parts, strict=True)]
    ax.errorbar(levels, y, yerr=spread, color=color, ls=ls, marker="o")
