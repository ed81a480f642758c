"""Figures of predicted inactivations: bars with their controls, psychometric curves, readout weights."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nwb_lint.contract import check_result, column_of, columns_of, find_column, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, GRAY, SMALL, STYLES, as_label, finish, make_axes
from nwb_lint.prepare import times_in


def inactivation_bars(result: xr.Dataset, *, quantity: str = "accuracy", ax: Axes | None = None) -> Axes:
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
    ax = make_axes(ax)
    values = result[quantity] if quantity == "accuracy" else result["effect"].expand_dims("context", axis=1)
    control = result.get(f"{quantity}_control")
    names = [str(c) for c in result["context"].values] if quantity == "accuracy" else ["effect"]
    at, width = np.arange(result.sizes["group"]), 0.8 / len(names)
    for k, name in enumerate(names):
        x, color = at + (k - (len(names) - 1) / 2) * width, COLORS[k % len(COLORS)]
        ax.bar(x, values.values[:, k], 0.85 * width, color=color, alpha=0.8, label=name)
        if control is not None:
            some = control.values[..., k] if quantity == "accuracy" else control.values
            ax.vlines(x, some[:, 0], some[:, -1], color=GRAY, lw=3)
            ax.plot(x, some[:, some.shape[1] // 2], "_", ms=6, mew=1.2, color="#333333")
        if quantity == "accuracy":
            ax.axhline(float(result["accuracy_intact"][k]), color=color, lw=1, ls=(0, (5, 3)))
    handles, _ = ax.get_legend_handles_labels() if quantity == "accuracy" else ([], [])
    if control is not None:
        handles.append(Line2D([], [], color=GRAY, lw=3, label="random groups, 5–95 %"))
    if quantity == "accuracy":
        handles.append(Line2D([], [], color="#595959", lw=1, ls=(0, (5, 3)), label="intact"))
    low, high = ax.get_ylim()
    ax.set_ylim(0, high + 0.35 * (high - min(low, 0)))  # room for the legend
    ax.legend(handles=handles, fontsize=SMALL, frameon=False, loc="upper center", ncols=2)
    ax.set_xticks(at, [as_label(g) for g in result["group"].values], rotation=30, ha="right")
    label = "share of right answers" if quantity == "accuracy" else "change of the others / intact"
    return finish(ax, "", label, "Predicted inactivation")


def psychometric(
    result: xr.Dataset,
    column: str,
    *,
    groups: list[str] | None = None,
    kind: str = "choice",
    window_s: tuple[float, float] | None = None,
    ax: Axes | None = None,
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
    ax = make_axes(ax)
    time = result["time"].values
    inside = time == time[-1] if window_s is None else times_in(time, window_s)
    z = result["output"].transpose("group", "condition", "time").values[..., inside].mean(axis=-1)
    context, x = _contexts(result), values.values.astype(float)
    levels = [level for level in np.unique(context) if level]
    for k, level in enumerate(levels):
        for style, group in enumerate(shown):
            _curve(ax, x, z[there.index(group)], context == level, kind, COLORS[k % len(COLORS)], STYLES[style % 4])
    handles = [Line2D([], [], color=COLORS[k % len(COLORS)], label=str(c)) for k, c in enumerate(levels)]
    handles += [Line2D([], [], color="#595959", ls=STYLES[k % 4], label=g) for k, g in enumerate(shown)]
    if kind == "choice":
        ax.set_ylim(-0.05, 1.05)
    ax.legend(handles=handles, fontsize=SMALL, frameon=False)
    return finish(ax, column, "share of positive choices" if kind == "choice" else "output z", "Psychometric curves")


def readout_weights(readout: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw the weight of every neuron in a readout, in rising order.

    The title gives the cross-validated score.

    Parameters
    ----------
    readout : xarray.Dataset
        From `nwb_lint.fit_readout`: ``readout (neuron)``, dimensionless.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. None makes a new figure.

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
    'weight'
    """
    check_result(readout, "readout")
    weights, ax = np.sort(readout["readout"].values), make_axes(ax)
    ax.axhline(0, color=GRAY, lw=0.6, zorder=0)
    ax.vlines(np.arange(1, len(weights) + 1), 0, weights, color=COLORS[0], lw=0.8)
    ax.plot(np.arange(1, len(weights) + 1), weights, "o", ms=2.5, color=COLORS[0])
    metric = readout.attrs["metric"].replace("R2", "R²")
    title = f"Readout of {readout.attrs['column']}, {metric} {float(readout['score']):.2f}".replace("-", "−")
    return finish(ax, "neuron, in rising order", "weight", title)


def _contexts(result: xr.Dataset) -> np.ndarray:
    """The context of every condition; empty where it is missing."""
    name = str(result.attrs.get("context", ""))
    if not name:
        return np.full(result.sizes["condition"], "all")
    column = column_of(result, name)
    return np.where(missing_in(column), "", column.astype(str))


def _curve(ax: Axes, x: np.ndarray, z: np.ndarray, some: np.ndarray, kind: str, color: str, style: str) -> None:
    levels = np.unique(x[some & np.isfinite(x)])  # a condition without a value is not drawn
    parts = [z[some & (x == level)] for level in levels]
    if kind == "output":
        y, spread = [part.mean() for part in parts], None
    else:
        y = [float((part > 0).mean()) for part in parts]
        spread = [np.sqrt(p * (1 - p) / len(part)) for p, part in zip(y, parts, strict=True)]
    ax.errorbar(levels, y, yerr=spread, color=color, ls=style, marker="o", ms=3, lw=1.3, capsize=1.5)
