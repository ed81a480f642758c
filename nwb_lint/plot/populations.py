"""Figures of populations: loadings by group, gains by group and condition, how many groups there are."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_lint.contract import check_result, column_of
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import COLORS, SMALL, finish, make_axes


def loadings(populations: xr.Dataset, *, x: str | None = None, y: str | None = None, ax: Axes | None = None) -> Axes:
    """Loadings of every neuron on two vectors, colored by population, with each one's regression line of y on x.

    The lines come from the populations' means and covariances. ``x`` and ``y``: names along ``vector``; default: the
    first two.

    Raises: ContractError for an unknown vector, or a Dataset that is no populations.
    """
    check_result(populations, "populations")
    names = [str(v) for v in populations["vector"].values]
    first, second = x or names[0], y or names[min(1, len(names) - 1)]
    for name in (first, second):
        if name not in names:
            raise ContractError(f"populations have no vector {name!r}; they have {', '.join(names)}.")
    a, b = names.index(first), names.index(second)
    ax = make_axes(ax)
    values, label = populations["loading"].transpose("neuron", "vector").values, populations["population"].values
    for k, group in enumerate(populations["group"].values):
        color = COLORS[k % len(COLORS)]
        some = values[label == k]
        ax.plot(some[:, a], some[:, b], "o", ms=2.5, alpha=0.6, mew=0, color=color, label=f"{group} ({len(some)})")
        if len(some) and "covariance" in populations:
            mean, covariance = populations["mean"].values[k], populations["covariance"].values[k]
            if covariance[a, a] > 0:
                ends = np.array([some[:, a].min(), some[:, a].max()])
                ax.plot(ends, mean[b] + covariance[a, b] / covariance[a, a] * (ends - mean[a]), color=color, lw=1.6)
    ax.legend(fontsize=SMALL, frameon=False, title="population (neurons)", title_fontsize=SMALL)
    return finish(ax, f"loading on {first}", f"loading on {second}", "Loadings by population")


def population_gains(populations: xr.Dataset, *, by: str | None = None, ax: Axes | None = None) -> Axes:
    """Gain of every population, a bar per level of a column of the conditions (the mean), a dot per condition.

    Raises: ContractError where there are no gains or no such column.
    """
    check_result(populations, "populations")
    if "gain" not in populations:
        raise ContractError("the populations have no gains; find them in a fit that has an input.")
    gain = populations["gain"].transpose("condition", "group").values
    column = np.full(len(gain), "all") if by is None else column_of(populations, by).astype(str)
    ax = make_axes(ax)
    levels = np.unique(column)
    at, width = np.arange(gain.shape[1]), 0.8 / len(levels)
    for k, level in enumerate(levels):
        some = gain[column == level]
        shifted = at + (k - (len(levels) - 1) / 2) * width
        label = "mean over conditions" if by is None else f"{by} {level}"
        ax.bar(shifted, some.mean(axis=0), 0.9 * width, color=COLORS[k % len(COLORS)], alpha=0.75, label=label)
        ax.plot(np.tile(shifted, len(some)), some.ravel(), "o", ms=1.8, mew=0, color="#595959")
    ax.set_xticks(at, [str(g) for g in populations["group"].values])
    ax.set_ylim(0, None)
    ax.legend(fontsize=SMALL, frameon=False)
    return finish(ax, "population", "gain φ'(x), mean", "Gains")


def population_number(populations: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Stability (adjusted Rand index) of every number of groups, and its chance level; the chosen number marked.

    Raises: ContractError where the populations were not found by mixtures.
    """
    check_result(populations, "populations")
    if "stability" not in populations:
        raise ContractError("the populations have no stability; find them with method='em' or 'bayesian'.")
    ax = make_axes(ax)
    tried = populations["n_groups"].values
    ax.axvline(populations.sizes["group"], color="#DDDDDD", lw=6, zorder=0, label="chosen")
    ax.plot(tried, populations["stability"].values, "o-", ms=4, color=COLORS[0], label="loadings")
    chance = populations["stability_chance"].values
    ax.plot(tried, chance, "s--", ms=3.5, color=COLORS[1], label="one Gaussian (95 %)")
    ax.set_xticks(tried)
    ax.set_ylim(-0.05, 1.1)
    ax.legend(fontsize=SMALL, frameon=False)
    return finish(ax, "populations", "adjusted Rand index", "Stability under resampling")
