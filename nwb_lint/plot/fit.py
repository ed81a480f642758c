"""Figures of a fit: every function takes Datasets and returns the Axes it drew on; `summary` draws them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.analysis.latents import data_latents
from nwb_lint.contract import ContractError, check_fit, input_names
from nwb_lint.plot.style import COLOURS, GREY, NORMAL, PALE, SMALL, finish, look_of, make_axes

Array = np.ndarray

_SPLIT = {"train": (COLOURS[0], "o"), "held_out": (COLOURS[1], "s")}
_MOST_LATENTS = 3  # panels of latents in a summary


def scores(fit: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """R² against rank (rank_r2 ± rank_r2_sem) per split, the chosen rank marked, ceilings dashed.

    A dotted line marks one standard error below the best held-out R²: the smallest rank that reaches it is as good.

    Where the fit tried no ranks, R² after each stage (stage_r2) stands instead; where it has neither, the
    final R². Splits without a score are left out.

    Raises: ContractError where ``fit`` is not a fit.
    """
    check_fit(fit)
    ax = make_axes(ax)
    if "rank_r2" in fit:
        table, sem = fit["rank_r2"].transpose("split", "rank_tried"), fit.get("rank_r2_sem")
        x, ticks = fit["rank_tried"].values.astype(float), [str(r) for r in fit["rank_tried"].values]
    elif "stage_r2" in fit:
        table, sem = fit["stage_r2"].transpose("split", "stage"), None
        x, ticks = np.arange(fit.sizes["stage"], dtype=float), [str(s) for s in fit["stage"].values]
    else:
        table, sem, x, ticks = fit["r2"].expand_dims("fit", axis=1), None, np.zeros(1), ["fit"]
    for k, split in enumerate(_splits(fit)):
        y = table.isel(split=k).values
        if not np.isfinite(y).any():
            continue
        colour, marker = _SPLIT.get(split, ("#595959", "^"))
        spread = None if sem is None else np.nan_to_num(sem.isel(split=k).values)
        name = split.replace("_", " ")
        ax.errorbar(x, y, yerr=spread, color=colour, marker=marker, ms=4, lw=1.4, capsize=2, label=name)
        ceiling = float(fit["r2_ceiling"].isel(split=k))
        if np.isfinite(ceiling):
            ax.axhline(ceiling, color=colour, lw=1, ls=(0, (5, 3)))
    handles, _ = ax.get_legend_handles_labels()
    if np.isfinite(fit["r2_ceiling"]).any():
        handles.append(Line2D([], [], color="#595959", lw=1, ls=(0, (5, 3)), label="ceiling"))
    if (enough := _one_se(fit)) is not None:
        mark: dict[str, Any] = {"color": COLOURS[1], "lw": 1, "ls": ":"}
        ax.axhline(enough, **mark)
        handles.append(Line2D([], [], label="best − 1 SE", **mark))
    if "rank_r2" in fit and "rank" in fit.sizes:
        ax.axvspan(fit.sizes["rank"] - 0.15, fit.sizes["rank"] + 0.15, color=PALE, lw=0, zorder=0)
        handles.append(Line2D([], [], color=PALE, lw=6, label="chosen rank"))
    ax.set_xticks(x, ticks)
    ax.margins(x=0.12)
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.35 * (high - low), high)  # the legend's place
    ax.legend(handles=handles, fontsize=SMALL, frameon=False, loc="lower center", ncols=2)
    return finish(ax, "rank" if "rank_r2" in fit else "", "R²", "Variance explained")


def latents_over_time(
    fit: xr.Dataset,
    activity: xr.Dataset | None = None,
    *,
    rank: int = 1,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Latent kappa of one rank (counted from 1) against time, a line per condition; that of the data pale
    beneath.

    Colour is the first numeric column of the conditions and line style the first text one, unless named. With
    ``activity`` the data's latents are drawn too: see `data_latents`.

    Raises: ContractError where the fit has no such latent, or a column is unknown.
    """
    check_fit(fit)
    kappa = _latent(fit, rank)
    look, ax = look_of(fit, color_by, style_by), make_axes(ax)
    time = fit["time"].values
    if activity is not None:
        for y, colour in zip(data_latents(fit, activity)[..., rank - 1], look.colours, strict=True):
            ax.plot(time, y, color=colour, lw=0.8, alpha=0.35)
    for y, colour, style in zip(kappa, look.colours, look.styles, strict=True):
        ax.plot(time, y, color=colour, ls=style, lw=1.2)
    if time[0] < 0 < time[-1]:
        ax.axvline(0, color=GREY, lw=0.6, zorder=0)
    since = f"time from {fit.attrs['align']} (s)" if fit.attrs.get("align") else "time (s)"
    return finish(ax, since, f"latent $\\kappa_{{{rank}}}$", f"Latent {rank}")


def trajectories(
    fit: xr.Dataset,
    *,
    input_name: str | None = None,
    color_by: str | None = None,
    style_by: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Conditions as trajectories: kappa 1 against kappa 2, or against a filtered input; a dot at the last
    sample.

    The input is the one named, or the first one where the fit has a single latent; with two latents and no
    name given the second latent is the ordinate.

    Raises: ContractError where the fit has no latents, or an input or column is unknown.
    """
    check_fit(fit)
    first = _latent(fit, 1)
    look, ax = look_of(fit, color_by, style_by), make_axes(ax)
    if input_name is None and fit.sizes["rank"] > 1:
        x, y, labels = first, _latent(fit, 2), (r"latent $\kappa_1$", r"latent $\kappa_2$")
    else:
        names = input_names(fit)
        name = names[0] if input_name is None else input_name
        if name not in names:
            raise ContractError(f"the fit has no input {name!r}; its inputs are {', '.join(names)}.")
        x = fit["filtered_input"].transpose("condition", "time", "input").values[..., names.index(name)]
        y, labels = first, (f"filtered input v ({name})", r"latent $\kappa_1$")
    for a, b, colour, style in zip(x, y, look.colours, look.styles, strict=True):
        ax.plot(a, b, color=colour, ls=style, lw=1.2)
        ax.plot(a[-1:], b[-1:], color=colour, marker="o", ms=3.5)
    return finish(ax, *labels, "Trajectories")


def connectivity_vectors(fit: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Entries of m against those of the effective n (its part within span(m, input_weights)), a dot per
    neuron.

    The rest of n does not move the noise-free dynamics, so it is not drawn. Each rank has a colour of its
    own.

    Raises: ContractError where the fit has J in place of m and n.
    """
    check_fit(fit)
    m, n = _m(fit), _effective_n(fit)
    ax = make_axes(ax)
    for k in range(m.shape[1]):
        ax.scatter(m[:, k], n[:, k], s=9, color=COLOURS[k % 6], alpha=0.75, lw=0, label=f"rank {k + 1}")
    if m.shape[1] > 1:
        ax.legend(fontsize=SMALL, frameon=False, markerscale=1.5, handletextpad=0.2)
    ax.axhline(0, color=GREY, lw=0.6, zorder=0)
    ax.axvline(0, color=GREY, lw=0.6, zorder=0)
    return finish(ax, "m", "effective n", "Connectivity vectors")


def effective_connectivity(fit: xr.Dataset, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Effective connectivity m (P n)' / N as an image, neurons in rising order of the first column of m.

    ``by`` names a coordinate of the neurons (their population, area, cell type): they are then sorted by it first, and
    lines part the groups.

    Raises: ContractError where the fit has J in place of m and n, or no such coordinate.
    """
    check_fit(fit)
    m, n = _m(fit), _effective_n(fit)
    groups, starts = _groups(fit, by)
    order = np.lexsort((m[:, 0], groups))
    j = (m @ n.T / len(m))[np.ix_(order, order)]
    ax = make_axes(ax)
    most = np.quantile(np.abs(j), 0.99)
    image = ax.imshow(j, cmap="PuOr", vmin=-most, vmax=most, interpolation="nearest", aspect="equal")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, extend="both")
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("effective J", fontsize=NORMAL)
    for start in list(starts.values())[1:]:
        ax.axhline(start - 0.5, color="black", lw=0.6)
        ax.axvline(start - 0.5, color="black", lw=0.6)
    if by is None:
        return finish(ax, "from neuron (sorted by m)", "to neuron (sorted by m)", "Effective connectivity")
    ends = [*list(starts.values())[1:], len(m)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts.values(), ends, strict=True)]
    ax.set_xticks(middles, list(starts))
    ax.set_yticks(middles, list(starts))
    return finish(ax, f"from neuron, by {by}", f"to neuron, by {by}", "Effective connectivity")


def singular_values(fit: xr.Dataset, *, most: int = 20, ax: Axes | None = None) -> Axes:
    """The largest singular values of the connectivity J (m n' / N where the fit is of low rank), in falling
    order.

    Raises: ContractError where ``fit`` is not a fit.
    """
    check_fit(fit)
    j = fit["J"].transpose("neuron", "neuron_from").values if "J" in fit else None
    if j is None:
        m = _m(fit)
        j = m @ fit["n"].transpose("neuron", "rank").values.T / len(m)
    s = np.linalg.svd(j, compute_uv=False)[:most]
    ax = make_axes(ax)
    ax.plot(np.arange(1, len(s) + 1), s, color=COLOURS[0], marker="o", ms=3.5, lw=1.2)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax, "index", "singular value of J", "Connectivity")


def neuron_scores(fit: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """How many neurons reach which R², per split; R² below -1 counts at -1, neurons without a score not at
    all.

    Raises: ContractError where ``fit`` is not a fit.
    """
    check_fit(fit)
    ax = make_axes(ax)
    table = fit["r2_neuron"].transpose("split", "neuron").values
    low = float(np.clip(np.floor(10 * np.nanmin(table, initial=0)) / 10, -1, 0))
    edges = np.arange(low, 1.01, 0.05).tolist()
    for k, split in enumerate(_splits(fit)):
        values = table[k][np.isfinite(table[k])]
        if len(values) == 0:
            continue
        colour, _ = _SPLIT.get(split, ("#595959", "^"))
        median, name = np.median(values), split.replace("_", " ")
        label = f"{name} (median {median:.2f})"
        ax.hist(np.clip(values, low, 1), edges, histtype="step", color=colour, lw=1.4, label=label)
    ax.margins(y=0.4)
    ax.legend(fontsize=SMALL, frameon=False, loc="upper left")
    label = "R² of one neuron" + (" (lower ones at −1)" if low == -1 else "")
    return finish(ax, label, "neurons", "Neurons")


def rate_scores(fit: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """R² of every recorded neuron against its mean predicted rate, a dot per neuron and split; R² below -1 at -1.

    Raises: ContractError where the fit cannot undo its preparation, so that there are no rates in Hz.
    """
    check_fit(fit)
    if "scale" not in fit or "offset" not in fit:
        raise ContractError("the fit has no scale and offset, so its rates are not in Hz; fit what prepare gives.")
    ax = make_axes(ax)
    offset = fit["offset"].mean("time") if "time" in fit["offset"].dims else fit["offset"]
    rate = (fit["activity_pred"].mean(("condition", "time")) * fit["scale"] + offset).values
    for split, values in zip(_splits(fit), fit["r2_neuron"].transpose("split", "neuron").values, strict=True):
        colour, marker = _SPLIT.get(split, ("#595959", "^"))
        seen = np.isfinite(values)
        name = split.replace("_", " ")
        ax.plot(rate[seen], np.clip(values[seen], -1, 1), ls="", marker=marker, ms=3.5, color=colour, label=name)
    ax.margins(y=0.2)  # the legend's place
    ax.legend(fontsize=SMALL, frameon=False, loc="upper left", ncols=2, handletextpad=0.2)
    return finish(ax, "mean predicted rate (Hz)", "R² of one neuron", "Neurons")


def summary(
    fit: xr.Dataset,
    activity: xr.Dataset | None = None,
    path: str | PathLike[str] | None = None,
    *,
    color_by: str | None = None,
    style_by: str | None = None,
) -> Figure:
    """One figure of a fit: scores, up to three latents against time, trajectories, connectivity, R² per
    neuron.

    A fit with J in place of m and n has the singular values of J and no latents. ``activity`` adds the
    data's latents (pale). ``path`` saves the figure (PNG at 200 dots per inch, PDF, SVG: by its suffix).

    Raises: ContractError where ``fit`` is not a fit, ``activity`` does not match it, or a column is unknown.
    """
    check_fit(fit)
    by: dict[str, Any] = {"color_by": color_by, "style_by": style_by}
    draw: list[Callable[..., Axes]] = [partial(scores, fit)]
    if "m" in fit:
        shown = range(1, 1 + min(fit.sizes["rank"], _MOST_LATENTS))
        inputs = input_names(fit)[:2] if len(shown) == 1 else [None]
        draw += [partial(latents_over_time, fit, activity, rank=rank, **by) for rank in shown]
        draw += [partial(trajectories, fit, input_name=name, **by) for name in inputs]
        draw += [partial(connectivity_vectors, fit)]
    else:
        draw += [partial(singular_values, fit)]
    draw += [partial(neuron_scores, fit)]
    rows = -(-len(draw) // 3)
    figure = Figure(figsize=(7.8, 2.35 * rows + 0.5), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, 3, squeeze=False).ravel())
    for panel, ax, letter in zip(draw, panels, "abcdefgh", strict=False):
        panel(ax=ax).set_title(letter, loc="left", fontsize=NORMAL + 2, fontweight="bold")
    for ax in panels[len(draw) :]:
        ax.remove()
    handles = look_of(fit, color_by, style_by).handles if "m" in fit else []
    if handles and activity is not None:
        handles.append(Line2D([], [], color="#595959", lw=0.8, alpha=0.45, label="data (pale)"))
    if handles:
        columns = -(-len(handles) // -(-len(handles) // 6))
        style: dict[str, Any] = {"fontsize": SMALL, "frameon": False}
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, **style)
    if path is not None:
        figure.savefig(path, dpi=200)
    return figure


def _groups(fit: xr.Dataset, by: str | None) -> tuple[Array, dict[str, int]]:
    """Group of every neuron, and where each begins once they are sorted by it."""
    if by is None:
        return np.zeros(fit.sizes["neuron"], int), {}
    there = [str(k) for k, v in fit.coords.items() if v.dims == ("neuron",) and k != "neuron"]
    if by not in there:
        raise ContractError(f"neurons have no column {by!r}; they have {', '.join(there) or 'none'}.")
    levels, groups, counts = np.unique(fit[by].values, return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    return groups, {str(level): int(start) for level, start in zip(levels, starts, strict=True)}


def _effective_n(fit: xr.Dataset) -> Array:
    return connectivity(fit)["n_effective"].values


def _m(fit: xr.Dataset) -> Array:
    if "m" not in fit:
        raise ContractError("the fit has J in place of m and n; connectivity vectors need rank=1 or more.")
    return fit["m"].transpose("neuron", "rank").values


def _one_se(fit: xr.Dataset) -> float | None:
    """The best held-out R² over ranks less its standard error."""
    if "rank_r2" not in fit or "rank_r2_sem" not in fit or "held_out" not in _splits(fit):
        return None
    k = _splits(fit).index("held_out")
    mean, sem = (fit[name].isel(split=k).values for name in ("rank_r2", "rank_r2_sem"))
    if not np.isfinite(mean).any():
        return None
    best = int(np.nanargmax(mean))
    return float(mean[best] - sem[best]) if np.isfinite(sem[best]) else None


def _latent(fit: xr.Dataset, rank: int) -> Array:
    """One latent, (condition, time); ranks are counted from 1."""
    there = fit.sizes["rank"] if "latent" in fit else 0
    if not 1 <= rank <= there:
        raise ContractError(f"the fit has {there} latents; there is no latent {rank}. Fit with a higher rank.")
    return fit["latent"].transpose("condition", "time", "rank").values[..., rank - 1]


def _splits(fit: xr.Dataset) -> list[str]:
    return [str(s) for s in fit["split"].values] if "split" in fit.coords else ["train", "held_out"]
