"""Figures of the latents' dynamics: the flow with its fixed points and trajectories."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D

from nwb_lint.contract import check_result
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, GRAY, NORMAL, SMALL, finish, look_of, make_axes

# face and edge of each kind of fixed point; shapes too, for those who tell no colors apart
_MARKS = {"stable": ("o", "black"), "saddle": ("D", "white"), "unstable": ("o", "white"), "marginal": ("s", GRAY)}
_MOST_ARROWS = 6  # along a latent of three
_APART = 0.5  # of the field's own speed


def flow(
    field: xr.Dataset,
    points: xr.Dataset | None = None,
    fit: xr.Dataset | None = None,
    *,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A flow field of rank 1 (velocity against κ), 2 (streamlines, darker where faster) or 3 (arrows, likewise), from
    `flow_field`.

    ``points`` from `fixed_points` under the same input: stable ones filled, unstable ones open, saddles diamonds,
    marginal ones gray squares; how many lie outside of the field is told. ``fit`` adds the latents of its conditions:
    for rank 1 against their differences per second, else as trajectories with a dot at the last sample. ``ax`` of a
    field of rank 3 has three dimensions (``projection="3d"``). A field with an audit shows what fits to fewer neurons
    say: of rank 1 the range of their velocities as a band; of rank 2 their disagreement as a shade, full where they are
    off by the field's own speed; of rank 3 arrows in color where they are off by half of it or more.

    Raises: ContractError for axes of other dimensions, points of another rank or input, or another kind of Dataset.
    """
    check_result(field, "flow_field")
    rank = field.sizes["rank"]
    if fit is not None and ("latent" not in fit or fit.sizes["rank"] != rank):
        raise ContractError(f"the fit has no latents of rank {rank}; give the fit that the field is of.")
    ax = _axes_of(rank, ax)
    draw = (_flow_of_one, _flow_of_two, _flow_of_three)[rank - 1]
    labels = draw(field, ax)
    if fit is not None:
        _runs(fit, rank, color_by, style_by, ax)
    if points is not None:
        _mark(field, points, ax)
    low_high = np.reshape(field.attrs["extent"], (rank, 2))
    ax.set_xlim(*low_high[0])
    if rank > 1:
        ax.set_ylim(*low_high[1])
    if rank == 3:
        cast(Axes3D, ax).set_zlim(*low_high[2])
    held = field.attrs.get("condition", "")
    return finish(ax, *labels, f"Flow, input of {held}" if held else "Flow")


def fixed_point_counts(points: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """How many fixed points of each kind the fits of an audit have, against their neurons: the mean over draws, with
    the fewest and the most; at the right the fit's own numbers.

    Raises: ContractError for another kind of Dataset, or one without an audit.
    """
    check_result(points, "fixed_points")
    if "n_found" not in points:
        raise ContractError("the fixed points have no audit; call fixed_points(fit, audit=…, activity=…).")
    ax, neurons, count = make_axes(ax), points["n_neurons"].values, points["n_found"].values
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
        style: dict[str, Any] = {"color": COLORS[k], "marker": marker, "ms": 4.5}
        style["mfc"], aside = face if face == "white" else COLORS[k], 0.06 * (k - 1)
        ax.errorbar(at + aside, mean, spread, lw=1.2, capsize=2, label=kind, **style)
        ax.plot([len(sizes) + aside], [own], ls="", **style)
    ax.set_xticks([*at, len(sizes)], [*map(str, sizes), "the fit"])
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=SMALL, frameon=False)
    return finish(ax, "neurons that a fit saw", "fixed points", "Fixed points of fits to fewer neurons")


def _axes_of(rank: int, ax: Axes | None) -> Axes:
    """Axes of as many dimensions as the field needs."""
    if ax is None and rank == 3:
        return cast(Axes, Figure(figsize=(3.6, 3.2)).add_subplot(projection="3d"))
    ax = make_axes(ax)
    dims = 3 if isinstance(ax, Axes3D) else 2
    if dims != max(rank, 2):
        raise ContractError(
            f"the flow field has rank {rank} and ax {dims} dimensions; leave ax out, or see projection=."
        )
    return ax


def _flow_of_one(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    ax.axhline(0, color=GRAY, lw=0.6, zorder=0)
    if "velocity_draw" in field:
        some = field["velocity_draw"].values[..., 0]
        band: dict[str, Any] = {"color": COLORS[4], "alpha": 0.35, "lw": 0, "zorder": 0}
        ax.fill_between(field["kappa"].values[:, 0], some.min(axis=0), some.max(axis=0), **band)
    ax.plot(field["kappa"].values[:, 0], field["velocity"].values[:, 0], color="#595959", lw=1.6)
    return r"latent $\kappa_1$", r"d$\kappa_1$/d$t$ (1/s)"


def _flow_of_two(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    size = int(field.attrs["n_points"])
    x, y = (field["kappa"].values[:, k].reshape(size, size).T for k in (0, 1))
    u, v = (field["velocity"].values[:, k].reshape(size, size).T for k in (0, 1))
    speed = field["speed"].values.reshape(size, size).T
    if "disagreement" in field:
        apart = field["disagreement"].values.reshape(size, size).T
        shown = ax.pcolormesh(x, y, apart, cmap="Oranges", vmin=0, vmax=1, alpha=0.6, zorder=0, rasterized=True)
        bar = ax.figure.colorbar(shown, ax=ax, shrink=0.85, extend="max")
        bar.ax.tick_params(labelsize=SMALL)
        bar.set_label("disagreement of refits", fontsize=SMALL)
    shade = 0.25 + 0.6 * speed / max(float(speed.max()), 1e-12)  # the slowest flow stays visible on paper
    lines = ax.streamplot(
        x[0], y[:, 0], u, v, density=0.9, color=shade, cmap="Greys", linewidth=0.7, arrowsize=0.7, zorder=1
    )
    lines.lines.set_clim(0, 1)
    return r"latent $\kappa_1$", r"latent $\kappa_2$"


def _flow_of_three(field: xr.Dataset, ax: Axes) -> tuple[str, str]:
    size = int(field.attrs["n_points"])
    step = -(-size // _MOST_ARROWS)
    keep = np.zeros((size,) * 3, bool)
    keep[(slice((size - 1) % step // 2, None, step),) * 3] = True
    kappa, velocity = (field[name].values[keep.ravel()] for name in ("kappa", "velocity"))
    speed = field["speed"].values[keep.ravel()]
    length = 0.7 * step * np.ptp(np.reshape(field.attrs["extent"], (3, 2)), axis=1).min() / (size - 1)
    shade = 0.15 + 0.55 * speed / max(float(speed.max()), 1e-12)
    deep, colors = cast(Axes3D, ax), colormaps["Greys"](shade)
    if "disagreement" in field:
        colors[field["disagreement"].values[keep.ravel()] >= _APART] = to_rgba(COLORS[1])
    # three lines make an arrow: all shafts come first, then the heads
    colors = np.concatenate([colors, np.repeat(colors, 2, axis=0)])
    deep.quiver(*kappa.T, *velocity.T, length=length, normalize=True, color=colors, lw=0.6)
    deep.set_zlabel(r"latent $\kappa_3$", fontsize=NORMAL)
    return r"latent $\kappa_1$", r"latent $\kappa_2$"


def _runs(fit: xr.Dataset, rank: int, color_by: str | None, style_by: str | None, ax: Axes) -> None:
    look = look_of(fit, color_by, style_by)
    kappa = fit["latent"].transpose("condition", "time", "rank").values
    for one, color, style in zip(kappa, look.colors, look.styles, strict=True):
        run = (one[:-1, 0], np.diff(one[:, 0]) / fit.attrs["dt_s"]) if rank == 1 else tuple(one.T)
        ax.plot(*run, color=color, ls=style, lw=1, zorder=2)
        ax.plot(*(part[-1:] for part in run), color=color, marker="o", ms=3, zorder=2)


def _mark(field: xr.Dataset, points: xr.Dataset, ax: Axes) -> None:
    check_result(points, "fixed_points")
    rank = field.sizes["rank"]
    if points.sizes["rank"] != rank:
        raise ContractError(f"the fixed points have rank {points.sizes['rank']} and the field {rank}; give one fit's.")
    if not np.allclose(points["input_value"].values, field["input_value"].values):
        raise ContractError("fixed points and flow field are of different inputs; compute both under the same one.")
    low, high = np.reshape(field.attrs["extent"], (rank, 2)).T
    kappa = points["kappa"].values
    inside = ((kappa >= low) & (kappa <= high)).all(axis=1)
    for kind, (marker, face) in _MARKS.items():
        some = kappa[inside & (points["stability"].values == kind)]
        if len(some):
            place = (some[:, 0], np.zeros(len(some))) if rank == 1 else tuple(some.T)
            style: dict[str, Any] = {"mfc": face, "mec": "black", "mew": 1.1, "ms": 5.5, "zorder": 3}
            ax.plot(*place, ls="", marker=marker, label=kind, **style)
    if outside := int((~inside).sum()):
        ax.plot(*([[]] * max(rank, 2)), ls="", label=f"{outside} outside")
    ax.legend(fontsize=SMALL, frameon=True, framealpha=0.8, edgecolor="none", loc="best", handletextpad=0.2)
