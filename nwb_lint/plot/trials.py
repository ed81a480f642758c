"""Figures of fits of single trials: latents, rates over spikes, log evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import columns_of, find_column
from nwb_lint.contract.values import as_text_column
from nwb_lint.drift import as_numbers, has_drift, loading_intervals
from nwb_lint.errors import ContractError
from nwb_lint.plot.style import (
    COLORS,
    GRAY,
    PALE,
    Style,
    as_label,
    color_bar,
    explain,
    finish,
    make_axes,
    pt,
    styled,
    time_label,
)
from nwb_lint.prepare import mask_of
from nwb_lint.statespace.inference import predict_rates

Array = np.ndarray

_MOST_GROUPS = 8  # values of a column that are drawn
_SINGLE = 3  # trials of each group that are drawn as lines
_MOST_NEURONS = 4  # whose m is drawn where none are named
_ENDS = ("negative", "positive")  # what 0 and 1 of a choice stand for


@styled
def trial_latents(
    fit: xr.Dataset, *, rank: int = 1, by: str | None = None, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw one latent of single trials against time, in a color for each condition.

    The band of a condition holds the posterior means of the middle 90 % of its trials, a thick line is their median. A
    few single trials are thin lines. Held-out trials are drawn too.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_trials`.
    rank : int, default=1
        Which latent, counted from 1.
    by : str or None, default=None
        Column of the trials that conditions are made of. None takes the one that the recipe names or that sets the
        first input; where there is none, all trials are one condition.
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
        If the fit is not one of single trials, has no such latent, or the trials have no such column.

    Examples
    --------
    >>> from nwb_lint import fit_trials, plot
    >>> from nwb_lint.testing import mock_trials
    >>> fit = fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> plot.trial_latents(fit, by="choice").get_title()
    'Latent 1 of single trials'
    """
    _check(fit)
    if rank > fit.sizes["rank"]:
        raise ContractError(f"The fit has {fit.sizes['rank']} latents. There is no latent {rank}. Choose another one.")
    kappa, time = fit["latent"].values[..., rank - 1], fit["time"].values
    given, ax = ax, make_axes(ax)
    name, groups = _groups(fit, by)
    palette = [to_hex(one) for one in colormaps["viridis"](np.linspace(0, 0.88, len(groups)))]
    for (_, members), color in zip(groups.items(), palette, strict=True):
        low, middle, high = np.quantile(kappa[members], (0.05, 0.5, 0.95), axis=0)
        ax.fill_between(time, low, high, color=color, alpha=0.18, lw=0)
        for one in kappa[members][: _SINGLE * (len(members) > 1)]:
            ax.plot(time, one, color=color, lw=pt(0.5), alpha=0.7)
        ax.plot(time, middle, color=color, lw=pt(1.6))
    if time[0] < 0 < time[-1]:
        ax.axvline(0, color=GRAY, lw=pt(0.6), zorder=0)
    if name:
        labels = [as_label(f"{name} {level}") for level in groups]
        colors = zip(palette, labels, strict=True)
        handles: list[Artist] = [Line2D([], [], color=color, lw=pt(2.5), label=label) for color, label in colors]
        handles.append(Patch(color=GRAY, alpha=0.3, lw=0, label="90 % of the trials"))
        explain(ax, given, handles)
    return finish(ax, time_label(fit), f"latent $\\kappa_{{{rank}}}$", f"Latent {rank} of single trials")


@styled
def trial_rates(
    fit: xr.Dataset, trials: xr.Dataset, *, trial: int = 0, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw the spikes of all neurons in one trial as ticks over the rates that the fit predicts.

    A rate is the posterior mean, given all spikes of the trial, divided by the mean of the neuron in the trials.
    Neurons are in rising order of the first column of m.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_trials`, with a Poisson observation.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit.
    trial : int, default=0
        Position of the trial, counted from 0.
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
        If the fit is not one of spikes of single trials, the trials do not suit it, or there is no such trial.

    Examples
    --------
    >>> from nwb_lint import fit_trials, plot
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> plot.trial_rates(fit, trials).get_ylabel()
    'neuron (sorted by m)'
    """
    _check(fit)
    if fit.attrs["observation"] != "poisson":
        raise ContractError("The fit has a Gaussian observation. Spikes need counts. Fit with 'poisson'.")
    if trial >= trials.sizes["trial"]:
        raise ContractError(f"trial is {trial}. There are {trials.sizes['trial']} trials. Count them from 0.")
    one = trials.isel(trial=[trial])
    rate, count = predict_rates(fit, one)["rate"].values[0], one["count"].values[0]
    usual = np.maximum(trials["count"].values.mean(axis=(0, 1)) / float(trials.attrs["bin_s"]), 1e-3)
    order = np.argsort(fit["m"].values[: len(usual), 0], kind="stable")
    ax, time, half = make_axes(ax), one["time"].values, float(trials.attrs["bin_s"]) / 2
    extent = (time[0] - half, time[-1] + half, -0.5, len(order) - 0.5)
    shown = (rate / usual).T[order]
    image = ax.imshow(shown, cmap="Blues", vmin=0, vmax=3, aspect="auto", origin="lower", extent=extent)
    bins, neurons = np.nonzero(count[:, order])
    ticks: dict[str, Any] = {"ms": pt(max(1.5, 90 / len(order))), "mew": pt(0.7), "color": "black"}
    ax.plot(time[bins], neurons, ls="", marker="|", **ticks)
    color_bar(image, ax, "rate / mean rate", shrink=0.85, extend="max")
    return finish(ax, time_label(fit), "neuron (sorted by m)", f"Spikes over rates, trial {trial}")


@styled
def evidence(fit: xr.Dataset, *, ax: Axes | None = None, style: Style = "screen") -> Axes:
    """Draw the log evidence of the training trials against the iteration of expectation-maximization.

    A ring marks the iteration of the fit, which has the largest evidence.

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_trials`.
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
        If the fit is not one of single trials.

    Examples
    --------
    >>> from nwb_lint import fit_trials, plot
    >>> from nwb_lint.testing import mock_trials
    >>> fit = fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> plot.evidence(fit).get_xlabel()
    'iteration'
    """
    _check(fit)
    values, given, ax = fit["evidence"].values, ax, make_axes(ax)
    steps, best = np.arange(1, len(values) + 1), int(np.argmax(values))
    ax.axvline(best + 1, color=PALE, lw=pt(4), zorder=0)
    ax.plot(steps, values - values[0], color=COLORS[0], marker="o")
    ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": pt(9), "mfc": "none", "mec": "black", "mew": pt(0.8)}
    ax.plot(steps[best], values[best] - values[0], label="the fit", **ring)
    explain(ax, given)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax, "iteration", "log evidence − first (nats)", "Evidence of the training trials")


@styled
def drifting_loadings(
    fit: xr.Dataset,
    *,
    rank: int = 1,
    neurons: object = None,
    level: float = 0.9,
    ax: Axes | None = None,
    style: Style = "screen",
) -> Axes:
    """Draw m of some neurons against the number of the trial, with intervals, where m drifts over a session.

    The intervals are those of the regression of each neuron on the latents (``observation_cov`` of the fit).

    Parameters
    ----------
    fit : xarray.Dataset
        From `nwb_lint.fit_trials` with ``drift``.
    rank : int, default=1
        Which column of m, counted from 1.
    neurons : labels, positions or array of bool, default=None
        Neurons to draw. None takes the four that drift most.
    level : float, default=0.9
        Probability of the intervals.
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
        If m of the fit is constant, there is no such latent or neuron, or the level is no probability.

    Examples
    --------
    >>> from nwb_lint import fit_trials, plot
    >>> from nwb_lint.testing import mock_trials
    >>> fit = fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=3, drift=1)
    >>> plot.drifting_loadings(fit).get_xlabel()
    'trial'
    """
    _check(fit)
    if not has_drift(fit):
        raise ContractError("m of the fit is constant over trials. This figure is of drift. Fit with drift=1 or more.")
    if rank > fit.sizes["rank"]:
        raise ContractError(f"The fit has {fit.sizes['rank']} latents. There is no latent {rank}. Choose another one.")
    labels = fit["neuron"].values.astype(str)
    if neurons is None:
        size = np.square(fit["m_drift"].values[:, rank - 1]).sum(axis=1)
        shown = np.argsort(-size, kind="stable")[: min(_MOST_NEURONS, int(fit["recorded"].values.sum()))]
    else:
        shown = np.flatnonzero(mask_of(labels, neurons, "neuron"))
    numbers = as_numbers(fit["condition"].values)
    numbers = np.arange(fit.sizes["condition"]) if numbers is None else numbers
    order, given, ax = np.argsort(numbers), ax, make_axes(ax)
    for k, i in enumerate(shown):
        middle, low, high = (one[order, i, rank - 1] for one in loading_intervals(fit, level))
        color = COLORS[k % len(COLORS)]
        ax.fill_between(numbers[order], low, high, color=color, alpha=0.25, lw=0)
        ax.plot(numbers[order], middle, color=color, label=as_label(labels[i]))
    explain(ax, given, title="neuron")
    return finish(ax, "trial", f"$m_{{{rank}}}$", f"m over the trials, with {level:.0%} intervals")


def _check(fit: xr.Dataset) -> None:
    check_fit(fit)
    if "noise_cov" not in fit:
        raise ContractError("The fit is of mean activity. This figure is of single trials. Use a fit from fit_trials.")


def _groups(fit: xr.Dataset, by: str | None) -> tuple[str, dict[str, Array]]:
    """The column of the conditions, and the trials of each of its values; of many values some."""
    there = columns_of(fit, "condition")
    if by is not None and find_column(fit, by, "condition") is None:
        raise ContractError(f"The trials have no column {by!r}. Choose from {', '.join(there) or 'none'}.")
    inputs = fit["input_column"].values.tolist() if "input_column" in fit.coords else []
    known: list[str] = list(fit.attrs.get("by", []))
    name = by or next((one for one in [*known, *inputs] if one in there), "")
    column = find_column(fit, name, "condition") if name else None
    if column is None:
        return "", {"": np.arange(fit.sizes["condition"])}
    levels, index = np.unique(as_text_column(column.values), return_inverse=True)
    shown = np.unique(np.linspace(0, len(levels) - 1, min(len(levels), _MOST_GROUPS)).astype(int))
    return name, {str(levels[k]): np.flatnonzero(index == k) for k in shown}


@styled
def decoded_behavior(
    decoding: xr.Dataset, *, readout: str | None = None, ax: Axes | None = None, style: Style = "screen"
) -> Axes:
    """Draw behavior that was decoded from latents in held-out trials.

    Of a choice, the probability against time: the median and the middle 90 % of the trials, in a color for each true
    choice. Of a number, what was decoded against what was observed. The legend has the scores of both decoders.

    Parameters
    ----------
    decoding : xarray.Dataset
        From `nwb_lint.decode_behavior`.
    readout : str or None, default=None
        Name of the readout. None: the first.
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
        If the Dataset is of another kind, has no such readout, or has no held-out trial with it.

    Examples
    --------
    >>> from nwb_lint import Readout, decode_behavior, fit_trials, plot, prepare
    >>> from nwb_lint.testing import mock_trials
    >>> trials = prepare(mock_trials(n_trials=40), inputs=[], readouts=[Readout("choice", column="choice")])
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3, test_size=10)
    >>> plot.decoded_behavior(decode_behavior(fit, trials)).get_ylabel()
    'probability of choice right'
    """
    check_result(decoding, "decoding")
    names = decoding["readout"].values.tolist()
    name = names[0] if readout is None else readout
    if not isinstance(name, str) or name not in names:
        raise ContractError(f"The decoding has no readout {name!r}. It has {', '.join(names)}. Name one of them.")
    given, ax = ax, make_axes(ax)
    own = decoding.isel(condition=decoding["held_out"].values).sel(readout=name)
    observed, decoded = (own[one].transpose("condition", "time").values for one in ("behavior", "decoded"))
    scores = [f"{one} {value:.2f}" for one, value in zip(own["decoder"].values, own["score"].values, strict=True)]
    title = f"{as_label(name)}: {', '.join(scores)}"
    handles: list[Artist]
    if not np.isfinite(observed).any():
        raise ContractError(f"No held-out trial has the behavior {name!r}. A plot needs some. Hold out other trials.")
    if np.isfinite(own["accuracy"].values).any():
        time, handles = own["time"].values, []
        named = [str(own[f"readout_{one}"].item()) if f"readout_{one}" in own.coords else "" for one in _ENDS]
        for level, color in ((0, COLORS[0]), (1, COLORS[1])):
            of_level = (observed == level).any(axis=1)
            if not of_level.any():
                continue
            low, middle, high = np.quantile(decoded[of_level], (0.05, 0.5, 0.95), axis=0)
            ax.fill_between(time, low, high, color=color, alpha=0.18, lw=0)
            ax.plot(time, middle, color=color, lw=pt(1.6))
            handles.append(Line2D([], [], color=color, lw=pt(2.5), label=as_label(f"{name} {named[level] or level}")))
        ax.axhline(0.5, color=GRAY, lw=pt(0.6), zorder=0)
        ax.set_ylim(-0.02, 1.02)
        explain(ax, given, [*handles, Patch(color=GRAY, alpha=0.3, lw=0, label="90 % of the trials")])
        what = f"{name} {named[1]}" if named[1] else name
        return finish(ax, time_label(own), as_label(f"probability of {what}"), title)
    seen = np.isfinite(observed)
    plain = own["decoded_plain"].transpose("condition", "time").values
    ax.plot(observed[seen], plain[seen], ls="", marker=".", ms=pt(2), color=GRAY, alpha=0.4, label="plain")
    ax.plot(observed[seen], decoded[seen], ls="", marker=".", ms=pt(3), color=COLORS[1], alpha=0.5, label="latents")
    ends = [float(observed[seen].min()), float(observed[seen].max())]
    ax.plot(ends, ends, color="black", lw=pt(0.6))
    explain(ax, given)
    return finish(ax, as_label(f"{name}, observed"), as_label(f"{name}, decoded"), title)
