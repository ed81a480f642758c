"""The clock of the series in a file: when each condition takes place, and the time of every row of a series."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import find_column

_GAP = 0.1  # between conditions, as a share of their length; at least a bin

_SESSION = "Times are those of the session."
_OWN = (
    "The conditions stand one after another, with a gap: times are not those of the session. align_time of each row of "
    "conditions is the time of its alignment."
)


class Clock(NamedTuple):
    """When the conditions take place, s: edges and alignment (condition), times (condition × time), and what it is."""

    start: np.ndarray
    stop: np.ndarray
    align: np.ndarray
    timestamps: np.ndarray
    doc: str


def clock_of(dataset: xr.Dataset) -> Clock:
    """The clock of the session where trials of one session have one, and else conditions one after another.

    Parameters
    ----------
    dataset : xarray.Dataset
        A fit or a result with the dims condition and time.

    Returns
    -------
    Clock
        Intervals never overlap, and times rise.
    """
    n_bins = dataset.sizes["time"]
    step = float(dataset.attrs.get("bin_s", dataset.attrs.get("dt_s", 1.0)))
    time = np.asarray(dataset["time"].values, float) if "time" in dataset.coords else step * np.arange(n_bins)
    bin_s = float(np.median(np.diff(time))) if n_bins > 1 else step
    edges = (time[0] - bin_s / 2, time[-1] + bin_s / 2) if n_bins else (0.0, bin_s)
    length = edges[1] - edges[0]
    align, doc = _session_times(dataset, length), _SESSION
    if align is None:
        gap = bin_s * max(1, round(_GAP * length / bin_s))
        align, doc = (length + gap) * np.arange(dataset.sizes["condition"]) - min(edges[0], 0), _OWN  # none below 0
    return Clock(align + edges[0], align + edges[1], align, (align[:, None] + time).ravel(), doc)


def _session_times(fit: xr.Dataset, length: float) -> np.ndarray | None:
    """When each trial was aligned, on the clock of its session; None where a series has no place on that clock.

    That is so for means over trials, trials of several sessions or of no column of times, warped ones, and trials
    whose windows touch or overlap or are not in their order.
    """
    column = find_column(fit, str(fit.attrs.get("align", "")), "condition") if "noise_cov" in fit else None
    if column is None or column.dtype.kind != "f" or "warp" in fit.attrs or "trial_session" in fit.coords:
        return None
    times = np.asarray(column.values, float)
    return times if np.isfinite(times).all() and (np.diff(times) > length * (1 + 1e-9)).all() else None
