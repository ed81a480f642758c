"""Figures of the dynamics of the latents: flow, fixed points and trajectories."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib import colormaps, rcParams
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.plot.conditions import Look, look_of
from nwb_lint.plot.style import (
    COLORS,
    DARK,
    GRAY,
    Style,
    as_label,
    color_bar,
    explain,
    finish,
    last_sample,
    make_axes,
    pt,
    styled,
)

# marker and face of each kind of fixed point: shapes differ, so that no reader needs the colors
_MARKS = {"stable": ("o", "black"), "saddle": ("D", "white"), "unstable": ("o", "white"), "marginal": ("s", GRAY)}
_MOST_ARROWS = 6  # along each of three latents
_LARGE_DISAGREEMENT = 0.5  # of the speed of the field


@styled
def flow(
    field: xr.Dataset,
    points: xr.Dataset | None = None,
    fit: xr.Dataset | None = None,
    *,
    cycles: xr.Dataset | None = None,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw a flow field of rank 1, 2 or 3.

    Rank 1 is the velocity against κ. Rank 2 is a plot of streamlines, darker where the flow is faster. Rank 3 is a plot
    of arrows, with the same shades.

    A field with refits also shows how much the fits to fewer neurons disagree. Rank 1: a band, the range of their
    velocities. Rank 2: a shade, which is full where they differ by the field's own speed. Rank 3: colored arrows where
    they differ by half of that speed or more.

    Parameters
    ----------
    field : xarray.Dataset
        From `nwb_lint.flow_field`: ``kappa`` and ``velocity (point, rank)``, dimensionless and 1/s.
    points : xarray.Dataset or None, default=None
        From `nwb_lint.fixed_points`, with the same input. Filled circles are stable, open circles unstable, diamonds
        saddles, gray squares marginal. Points that are not supported are hollow, with a gray edge, and named
        so. The legend counts the points outside of the field.
    fit : xarray.Dataset or None, default=None
        The fit of the field. It adds the latents of the conditions with the same input as the field, at its time: in
        rank 1 against their change per second, else as trajectories with a dot at the last sample. Where no condition
        has this input, all are drawn, in gray: their flow is another one.
    cycles : xarray.Dataset or None, default=None
        From `nwb_lint.limit_cycles`, with the same input. Stable cycles are full lines, others are dashed. Cycles that
        are not supported are gray, and named so.
    color_by : str or None, default=None
        Column of the conditions that sets the color. None takes the first column of numbers.
    style_by : str or None, default=None
        Column of the conditions that sets the line style. None takes the first column of texts.
    ax : matplotlib.axes.Axes or None, default=None
        Axes to draw on. Rank 3 needs three-dimensional Axes (``projection="3d"``). None makes a new figure.
    style : {"screen", "print", "talk"}, default="screen"
        Sizes of text and lines: for a screen, for a column of a journal, or for a talk.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes that hold the drawing.

    Raises
    ------
    ContractError
        If the Axes have other dimensions, the points or cycles have another rank or input, or a Dataset is of another
        kind.

    Examples
    --------
    >>> from nwb_lint import fixed_points, flow_field, plot
    >>> from nwb_lint.testing import mock_fit
    >>> fit = mock_fit()
    >>> plot.flow(flow_field(fit), fixed_points(fit), fit).get_title()
    'Flow, no input'
    """
    check_result(field, "flow_field")
    rank = field.sizes["rank"]
    if fit is not None and ("latent" not in fit or fit.sizes["rank"] != rank):
        raise ContractError(f"The fit has no latents of rank {rank}. Give the fit of which the field was computed.")
    given, ax = ax, _axes_of(rank, ax)
    draw = (_flow_of_one, _flow_of_two, _flow_of_three)[rank - 1]
    labels = draw(field, ax)
    runs = [] if fit is None else _runs(fit, field, look_of(fit, color_by, style_by), ax)
    if cycles is not None:
        _draw_cycles(field, cycles, ax)
    if points is not None:
        _mark(field, points, ax)
    explain(ax, given, conditions=runs)
    low_high = np.reshape(field.attrs["extent"], (rank, 2))
    ax.set_xlim(*low_high[0])
    if rank > 1:
        ax.set_ylim(*low_high[1])
    if rank == 3:
        cast(Axes3D, ax).set_zlim(*low_high[2])
        ax.locator_params(nbins=4)
    return finish(ax, *labels, f"Flow, {held_input_of(field)}")


def held_input_of(field: xr.Dataset) -> str:
    """The constant input of a field in words."""
    label = str(field.attrs.get("condition", ""))
    if label:  # trials have numbers as labels
        return "input of " + "trial " * label.isdigit() + as_label(label.replace("=", "\N{NO-BREAK SPACE}"))
    named = zip(input_names(field), field["input_value"].values.tolist(), strict=True)
    some = ", ".join(as_label(f"{name} {value:.3g}") for name, value in named if value)
    return f"input {some}" if some else "no input"


@styled
def fixed_point_counts(points: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw how many fixed points the fits to fewer neurons have, by kind of stability.

    Each point is the mean over draws. Its bar runs from the smallest to the largest count. The numbers of the fit
    itself stand at the right.

    Parameters
    ----------
    points : xarray.Dataset
        From `nwb_lint.fixed_points` with ``refit_fractions``: ``n_found (draw, stability_kind)``.
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
        If the Dataset is of another kind, or has no refits.

    Examples
    --------
    >>> from nwb_lint import fixed_points, plot
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> points = fixed_points(mock_fit(), activity=mock_activity(), refit_fractions=[0.5], draws=1)
    >>> plot.fixed_point_counts(points).get_ylabel()
    'fixed points'
    """
    check_result(points, "fixed_points")
    if "n_found" not in points:
        raise ContractError("The fixed points have no refits. Call fixed_points(fit, refit_fractions=…, activity=…).")
    given, ax, neurons, count = ax, make_axes(ax), points["n_neurons"].values, points["n_found"].values
    sizes = np.unique(neurons)
    at = np.arange(len(sizes))
    for k, kind in enumerate(points["stability_kind"].values.astype(str)):
        own = points.attrs["n_found"][k]
        if not (count[:, k].any() or own):
            continue
        some = [count[neurons == size, k] for size in sizes]
        mean = np.array([one.mean() for one in some])
        spread = [mean - [one.min() for one in some], [one.max() for one in some] - mean]
        marker, face = _MARKS[kind]
        look: dict[str, Any] = {"color": COLORS[k], "marker": marker, "ms": pt(4.5)}
        look["mfc"], aside = face if face == "white" else COLORS[k], 0.06 * (k - 1)
        ax.errorbar(at + aside, mean, spread, label=kind, **look)
        ax.plot([len(sizes) + aside], [own], ls="", **look)
    ax.set_xticks([*at, len(sizes)], [*map(str, sizes), "the fit"])
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_ylim(bottom=0)
    explain(ax, given)
    return finish(ax, "neurons that a fit saw", "fixed points", "Fixed points of fits to fewer neurons")


def _axes_of(rank: int, ax: Axes | None) -> Axes:
    """Axes of as many dimensions as the field needs."""
    ax = make_axes(ax, three=rank == 3)
    dims = 3 if isinstance(ax, Axes3D) else 2
    if dims != max(rank, 2):
        raise ContractError(
            f"The flow field has rank {rank} and ax has {dims} dimensions. It needs {max(rank, 2)}. Leave ax out, or "
            "make it with projection='3d' for rank 3."
        )
    return ax


def _flow_of_one(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    ax.axhline(0, color=GRAY, lw=pt(0.6), zorder=0)
    if "velocity_draw" in field:
        some = field["velocity_draw"].values[..., 0]
        band: dict[str, Any] = {"color": COLORS[4], "alpha": 0.35, "lw": 0, "zorder": 0}
        ax.fill_between(field["kappa"].values[:, 0], some.min(axis=0), some.max(axis=0), label="flow of refits", **band)
    ax.plot(field["kappa"].values[:, 0], field["velocity"].values[:, 0], color=DARK, lw=pt(1.6), label="flow")
    return r"latent $\kappa_1$", r"d$\kappa_1$/d$t$ (1/s)"


def _flow_of_two(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    size = int(field.attrs["n_points"])
    x, y = (field["kappa"].values[:, k].reshape(size, size).T for k in (0, 1))
    u, v = (field["velocity"].values[:, k].reshape(size, size).T for k in (0, 1))
    speed = field["speed"].values.reshape(size, size).T
    if "disagreement" in field:
        apart = field["disagreement"].values.reshape(size, size).T
        shown = ax.pcolormesh(x, y, apart, cmap="Oranges", vmin=0, vmax=1, alpha=0.6, zorder=0, rasterized=True)
        color_bar(shown, ax, "disagreement of refits", shrink=0.85, extend="max")
    low = 0.5 if "disagreement" in field else 0.3  # so the slowest flow stays visible in print, and on colors
    shade = low + (0.9 - low) * speed / max(float(speed.max()), 1e-12)
    how: dict[str, Any] = {"density": 0.9, "cmap": "Greys", "linewidth": pt(0.7), "arrowsize": pt(0.7), "zorder": 1}
    ax.streamplot(x[0], y[:, 0], u, v, color=shade, norm=Normalize(0, 1), **how)
    ax.plot([], [], color=DARK, lw=pt(0.7), label="flow (dark: fast)")
    return r"latent $\kappa_1$", r"latent $\kappa_2$"


def _flow_of_three(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    keep, step = few_points(field)
    kappa, velocity, speed = (field[name].values[keep] for name in ("kappa", "velocity", "speed"))
    length = (
        0.7 * step * np.ptp(np.reshape(field.attrs["extent"], (3, 2)), axis=1).min() / (field.attrs["n_points"] - 1)
    )
    shade = 0.15 + 0.55 * speed / max(float(speed.max()), 1e-12)
    deep, colors = cast(Axes3D, ax), colormaps["Greys"](shade)
    if "disagreement" in field:
        colors[field["disagreement"].values[keep] >= _LARGE_DISAGREEMENT] = to_rgba(COLORS[1])
    # an arrow has three lines: all shafts come first, then two lines for each head
    colors = np.concatenate([colors, np.repeat(colors, 2, axis=0)])
    deep.quiver(*kappa.T, *velocity.T, length=length, normalize=True, color=colors, lw=pt(0.6))
    ax.plot([], [], [], color=DARK, lw=pt(0.7), label="flow (dark: fast)")
    deep.set_zlabel(r"latent $\kappa_3$", fontsize=rcParams["axes.labelsize"])
    return r"latent $\kappa_1$", r"latent $\kappa_2$"


def few_points(field: xr.Dataset) -> tuple[np.ndarray, int]:
    """Boolean (point): the points of three latents that have an arrow, and the steps between these on the grid."""
    size = int(field.attrs["n_points"])
    step = -(-size // _MOST_ARROWS)
    keep = np.zeros((size,) * 3, bool)
    keep[(slice((size - 1) % step // 2, None, step),) * 3] = True
    return keep.ravel(), step


def _runs(fit: xr.Dataset, field: xr.Dataset, look: Look, ax: Axes) -> list[Artist]:
    """Draw the conditions with the input of the field, or all of them in gray where there is none; the legend."""
    rank, own = field.sizes["rank"], have_input(fit, field)
    gray = not own.any()
    kappa = fit["latent"].transpose("condition", "time", "rank").values
    for k in range(len(kappa)) if gray else np.flatnonzero(own):
        how: dict[str, Any] = {"color": GRAY, "alpha": 0.4} if gray else {"color": look.colors[k]}
        one = kappa[k]
        run = (one[:-1, 0], np.diff(one[:, 0]) / fit.attrs["dt_s"]) if rank == 1 else tuple(one.T)
        ax.plot(*run, ls=look.dashes[k], lw=pt(0.7 if gray else 1), zorder=2, **how)
        ax.plot(*(part[-1:] for part in run), marker="o", ms=pt(3), zorder=2, **how)
    if gray:
        return [Line2D([], [], color=GRAY, alpha=0.5, label="runs with other inputs")]
    if own.sum() > 1:
        return [*look.handles, last_sample()]
    color = look.colors[int(np.flatnonzero(own)[0])]
    return [Line2D([], [], color=color, lw=pt(1), marker="o", ms=pt(3), label="run (dot: its end)")]


def have_input(fit: xr.Dataset, field: xr.Dataset) -> np.ndarray:
    """Boolean (condition): whether the input of a condition is that of the field, at its time."""
    if "u" not in fit.variables or not fit.sizes["input"]:
        return np.ones(fit.sizes["condition"], bool)
    time = fit["time"].values
    at = np.abs(time - field.attrs.get("at_s", time[-1])).argmin()
    u = fit["u"].transpose("condition", "time", "input").values[:, at]
    return np.isclose(u, field["input_value"].values, atol=1e-6).all(axis=1)


def _check_same(field: xr.Dataset, found: xr.Dataset, what: str) -> None:
    """Refuse points or cycles of another rank or input than the field."""
    rank = field.sizes["rank"]
    if found.sizes["rank"] != rank:
        raise ContractError(
            f"The {what} have rank {found.sizes['rank']}. The field has rank {rank}. Compute both from one fit."
        )
    if not np.allclose(found["input_value"].values, field["input_value"].values):
        raise ContractError(f"{what.capitalize()} and flow field have different inputs. Use the same input for both.")


def _draw_cycles(field: xr.Dataset, cycles: xr.Dataset, ax: Axes) -> None:
    check_result(cycles, "limit_cycles")
    if not cycles.attrs["n_cycles"]:
        return
    _check_same(field, cycles, "limit cycles")
    columns = (cycles[name].values for name in ("kappa", "stability", "supported", "period_s"))
    for orbit, stability, supported, period in zip(*columns, strict=True):
        closed = np.concatenate([orbit, orbit[:1]])
        label = f"{stability} cycle, {period:.2g} s" + ("" if supported else ", not supported")
        how: dict[str, Any] = {"ls": "-" if stability == "stable" else "--", "color": "black" if supported else GRAY}
        ax.plot(*closed.T, lw=pt(1.6), zorder=2.5, label=label, **how)


def _mark(field: xr.Dataset, points: xr.Dataset, ax: Axes) -> None:
    check_result(points, "fixed_points")
    _check_same(field, points, "fixed points")
    rank = field.sizes["rank"]
    low, high = np.reshape(field.attrs["extent"], (rank, 2)).T
    kappa = points["kappa"].values
    inside = ((kappa >= low) & (kappa <= high)).all(axis=1)
    supported = points["supported"].values if "supported" in points else np.ones(len(kappa), bool)
    for kind, (marker, face) in _MARKS.items():
        for holds in (True, False):
            some = kappa[inside & (points["stability"].values == kind) & (supported == holds)]
            if not len(some):
                continue
            place = (some[:, 0], np.zeros(len(some))) if rank == 1 else tuple(some.T)
            look = {"mfc": face, "mec": "black"} if holds else {"mfc": "none", "mec": GRAY}
            how: dict[str, Any] = {"mew": pt(1.1), "ms": pt(5.5), "zorder": 3, **look}
            ax.plot(*place, ls="", marker=marker, label=kind if holds else f"{kind}, not supported", **how)
    if outside := int((~inside).sum()):
        ax.plot(*([[]] * max(rank, 2)), ls="", label=f"{outside} outside")
