"""Figures of what drives the network: every input over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.plot.conditions import columns_in, look_of, small_axes
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    GRAY,
    PALE,
    Style,
    as_label,
    explain,
    finish,
    legend_below,
    make_axes,
    pt,
    styled,
    time_label,
)

Array = np.ndarray

_MOST_PANELS = 36
_MOST_LINES = 30  # trials that are drawn as lines
_MOST_COURSES = 8  # conditions whose inferred input is drawn
_TITLES = {
    "recurrence": "Recurrence is enough", "inputs": "Inputs are enough", "both": "Recurrence and inputs",
    "undecided": "Recurrence or inputs: not separated",
}  # fmt: skip


@styled
def inputs(
    dataset: xr.Dataset,
    *,
    names: Sequence[str] | None = None,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw the inputs of a network over time, small Axes for each, with a line for each condition.

    Of single trials there are 30 pale lines at most, evenly chosen, and the mean of all trials.

    Parameters
    ----------
    dataset : xarray.Dataset
        A fit, an activity from `nwb_lint.prepare`, or trials that it gave inputs.
    names : sequence of str or None, default=None
        Inputs to draw. None draws all that are not 0 throughout.
    color_by : str or None, default=None
        Column of the conditions that sets the color. None takes the first column of numbers.
    style_by : str or None, default=None
        Column of the conditions that sets the line style. None takes the first column of texts.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on, for one input. None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes of the first input.

    Raises
    ------
    ContractError
        If there are no inputs, a name or a column is unknown, or ``ax`` is given for several inputs.

    Examples
    --------
    >>> from nwb_lint import plot
    >>> from nwb_lint.testing import mock_activity
    >>> plot.inputs(mock_activity()).get_title()
    'stimulus'
    """
    trials = "trial" in dataset.dims or "noise_cov" in dataset
    row = "trial" if "trial" in dataset.dims else "condition"
    if "u" not in dataset.variables or not dataset.sizes.get("input"):
        raise ContractError(
            "The Dataset has no inputs along a dim input. They come from prepare. Call prepare(..., inputs=[...]); to "
            "select one, use a list: fit.sel(input=['name'])."
        )
    u, time = dataset["u"].transpose(row, "time", "input").values, dataset["time"].values
    shown = _chosen(input_names(dataset), u, names, ax)
    panels = [make_axes(ax)] if len(shown) == 1 else small_axes(len(shown), same_scale=False)
    handles: list[Any] = [Line2D([], [], color=COLORS[0], lw=pt(1.6), label="mean of all trials")]
    if not trials:
        look = look_of(dataset, color_by, style_by)
        handles = look.handles
    for panel, (name, k) in zip(panels, shown.items(), strict=True):
        if trials:
            _draw_trials(panel, time, u[..., k])
        else:
            for values, color, dash in zip(u[..., k], look.colors, look.dashes, strict=True):
                panel.plot(time, values, color=color, ls=dash, lw=pt(1.0), drawstyle="steps-mid")
        if time[0] < 0 < time[-1]:
            panel.axvline(0, color=GRAY, lw=pt(0.6), zorder=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        finish(panel, time_label(dataset), "input (dimensionless)", as_label(name))
    if len(panels) == 1:
        explain(panels[0], ax, handles if trials else [], conditions=[] if trials else handles)
        return panels[0]
    return _explained(panels, handles)


def _explained(panels: list[Axes], handles: list[Any]) -> Axes:
    """Small Axes with labels at the edges of the figure, and their legend."""
    columns = columns_in(len(panels))
    for at, panel in enumerate(panels):
        if at % columns:
            panel.set_ylabel("")
        if at + columns < len(panels):
            panel.set_xlabel("")
    figure: Any = panels[0].figure
    figure.suptitle("Inputs")
    legend_below(figure, handles)
    return panels[0]


def _chosen(own: list[str], u: Array, names: Sequence[str] | None, ax: Axes | None) -> dict[str, int]:
    """The inputs to draw, by name, and their places."""
    names = [] if names is None else list(names)
    if any(name not in own for name in names):
        raise ContractError(f"names is {names!r}. The inputs are {', '.join(own)}. Give a list of some of them.")
    found = {name: k for k, name in enumerate(own) if (name in names if names else u[..., k].any())}
    if not found:
        raise ContractError(f"The inputs {', '.join(own)} are 0 at all times. Name those to draw in names.")
    if len(found) > (_MOST_PANELS if ax is None else 1):
        room = f"There is room for {_MOST_PANELS}." if ax is None else "One has room on an Axes that is given."
        raise ContractError(f"There are {len(found)} inputs to draw. {room} Choose some by names.")
    return found


def _draw_trials(panel: Axes, time: Array, values: Array) -> None:
    some = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_LINES)).astype(int))
    for one in values[some]:
        panel.plot(time, one, color=DARK, lw=pt(0.5), alpha=0.25, drawstyle="steps-mid")
    panel.plot(time, values.mean(axis=0), color=COLORS[0], lw=pt(1.6), drawstyle="steps-mid")


@styled
def inferred_inputs(inferred: xr.Dataset, *, rank: int = 1, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw an inferred input over time, a line and its interval for each condition or trial, eight at most.

    The title says which hypothesis predicts held-out data as well as the best with the fewest parts.

    Parameters
    ----------
    inferred : xarray.Dataset
        From `nwb_lint.infer_inputs`.
    rank : int, default=1
        Which inferred input, counted from 1: each drives the latent of this number.
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
        If the Dataset is of another kind, or has no such input.

    Examples
    --------
    >>> from nwb_lint import infer_inputs, plot
    >>> from nwb_lint.testing import mock_activity
    >>> plot.inferred_inputs(infer_inputs(mock_activity(), rank=1, tau_s=0.1, hidden=0)).get_title()
    'Recurrence is enough'
    """
    check_result(inferred, "inferred_inputs")
    if rank > inferred.sizes["inferred_input"]:
        raise ContractError(
            f"rank is {rank}. There are {inferred.sizes['inferred_input']} inferred inputs. Choose one of them."
        )
    given, ax = ax, make_axes(ax)
    one, names = inferred.isel(inferred_input=rank - 1), inferred["input_condition"].values
    time = inferred["time"].values if "time" in inferred.coords else np.arange(inferred.sizes["time"])
    some = np.unique(np.linspace(0, len(names) - 1, _MOST_COURSES).round().astype(int))
    ax.axhline(0, color=PALE, lw=pt(0.6), zorder=0)
    for place, k in enumerate(some):
        color = COLORS[place % len(COLORS)]
        low, middle, high = (one[f"inferred_{name}"].values[k] for name in ("low", "u", "high"))
        ax.fill_between(time, low, high, color=color, alpha=0.2, lw=0)
        ax.plot(time, middle, color=color, lw=pt(1.2), label=as_label(names[k]))
    explain(ax, given)
    label = f"{as_label(one['inferred_input'].item())}, {inferred.attrs['level']:.0%} interval"
    return finish(ax, time_label(inferred), label, _TITLES[inferred.attrs["hypothesis"]])
