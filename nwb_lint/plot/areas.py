"""Figures of several areas: currents over time, and the choice of blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, DARK, DASHES, GRAY, Style, as_label, explain, finish, make_axes, pt, styled

_BAND = 0.2  # opacity of intervals


@styled
def currents(result: xr.Dataset, *, area: str | None = None, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the size of the currents to the areas over time, by sender.

    The size is the root mean square over conditions and neurons of the area. Lines are sizes of the fit. Bands are the
    intervals of 90 % from the simulations of a bootstrap, where there are any; a line may be outside of its band, since
    these come from the estimate without a ridge.

    Parameters
    ----------
    result : xarray.Dataset
        From `nwb_lint.currents`: ``size (target, sender, time)``, dimensionless.
    area : str or None, default=None
        The area that receives. None draws all, each with its own line style.
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
        If the Dataset is of another kind, or there is no such area.

    Examples
    --------
    >>> from nwb_lint import currents, plot
    >>> from nwb_lint.testing import mock_areas
    >>> plot.currents(currents(mock_areas()[1])).get_ylabel()
    'size of the current'
    """
    check_result(result, "currents")
    targets, senders = ([str(one) for one in result[name].values] for name in ("target", "sender"))
    if area is not None and area not in targets:
        raise ContractError(f"area is {area!r}. The areas are {', '.join(targets)}. Choose one of them.")
    given, ax, time = ax, make_axes(ax), result["time"].values
    shown = targets if area is None else [area]
    for to in shown:
        for k in range(len(senders)):
            one = result.isel(target=targets.index(to), sender=k)
            if not one["size"].values.any():
                continue
            look: dict[str, Any] = {"color": _color(senders, k), "ls": DASHES[shown.index(to) % len(DASHES)]}
            ax.plot(time, one["size"].values, **look)
            if "size_low" in result:
                ends = one["size_low"].values, one["size_high"].values
                ax.fill_between(time, *ends, color=look["color"], alpha=_BAND, lw=0)
    handles = [
        Line2D([], [], color=_color(senders, k), label=as_label(f"from {name}")) for k, name in enumerate(senders)
    ]
    if len(shown) > 1:
        handles += [Line2D([], [], color=DARK, ls=DASHES[k % len(DASHES)], label=as_label(f"to {name}"))
                    for k, name in enumerate(shown)]  # fmt: skip
    explain(ax, given, handles)
    ax.set_ylim(bottom=0)
    title = "Currents between areas" if area is None else f"Currents to {as_label(area)}"
    return finish(ax, "time (s)", "size of the current", title)


def _color(senders: list[str], k: int) -> str:
    """The color of a sender; inputs are gray."""
    return GRAY if k == len(senders) - 1 else COLORS[k % len(COLORS)]


@styled
def area_scores(selection: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw R², or log evidence, of what is held out against the number of parameters, with and without areas.

    Error bars are standard errors of the differences from the best candidate. Filled marks are about as good as the
    best. The chosen candidate has a ring.

    Parameters
    ----------
    selection : xarray.Dataset
        From `nwb_lint.select_areas`.
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
    >>> from nwb_lint import plot, select_areas
    >>> from nwb_lint.testing import mock_areas
    >>> activity, _ = mock_areas(n_neurons=12, n_conditions=12)
    >>> found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=2)
    >>> plot.area_scores(found).get_xlabel()
    'parameters of m and n'
    """
    check_result(selection, "area_selection")
    given, ax = ax, make_axes(ax)
    single = "area_evidence" in selection
    size, score = selection["n_parameters"].values, selection["area_evidence" if single else "area_r2"].values
    error, good = selection["deficit_sem"].values, selection["as_good"].values
    handles = []
    for name, own, color, marker in (
        ("one block", selection["one_block"].values, COLORS[0], "s"),
        ("blocks of areas", ~selection["one_block"].values, COLORS[1], "o"),
    ):
        for part, face in ((own & good, color), (own & ~good, "white")):
            ax.errorbar(size[part], score[part], error[part], ls="", color=color, marker=marker, mfc=face, ms=pt(5))
        handles.append(Line2D([], [], ls="", color=color, marker=marker, label=name))
    ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": pt(11), "mfc": "none", "mec": DARK, "mew": pt(1)}
    chosen = int(selection.attrs["chosen"])
    ax.plot(size[chosen], score[chosen], **ring)
    handles.append(Line2D([], [], label="chosen", **ring))
    handles.append(Line2D([], [], ls="", marker="o", color=DARK, mfc="white", label="worse than the best"))
    if not single:
        best = float(np.nanmax(score, initial=0.0, where=np.isfinite(score)))
        ax.set_ylim(bottom=max(min(0.0, best), float(np.min(score[np.isfinite(score)], initial=best)) - 0.05))
    explain(ax, given, handles)
    what = "log evidence of a held-out trial, nats" if single else "R² of the regression, held out"
    return finish(ax, "parameters of m and n", what, "Blocks of areas")
