"""One session over its whole length: when each unit fired, when trials were, and where their events lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.suggest import choose_table
from nwb_lint.nwb.recording.binning import Intervals
from nwb_lint.nwb.recording.dataset import texts
from nwb_lint.nwb.recording.tables import Table, open_intervals
from nwb_lint.nwb.recording.units import open_units, read_observed, recorded_span, spike_blocks
from nwb_lint.nwb.storage.source import Source, provenance, reading, session_labels
from nwb_lint.parallel.warnings import collect_warnings

Array = np.ndarray

_BINS = 240


def session_map(source: Source, *, n_bins: int = _BINS) -> xr.Dataset:
    """Rates of all units in ``n_bins`` equal parts of the session, and the times of its trials.

    | result | dims | unit |
    |---|---|---|
    | rate | neuron, time | Hz in the observed part of a bin; NaN where none is observed |
    | mean_rate | neuron | Hz over what is observed from the first to the last spike of all |
    | first_spike, last_spike | neuron | s; NaN for a unit without spikes |
    | start_time, stop_time | trial | s; of the table that holds the trials, where there is one |
    | event_time | event, trial | s; every column that trials can be aligned to |

    Raises: NWBError where the file cannot be read or has no units.

    Example:
        >>> session_map("session.nwb", n_bins=20)["rate"].dims
        ('neuron', 'time')
    """
    with reading(source) as file:
        said = provenance(file, source)
        table = open_units(file, source)
        observed = read_observed(file, table, np.arange(len(table)))
        try:
            name = choose_table(file, source)
            trials = _trials(open_intervals(file, name, source))
        except NWBError:
            name, trials = "", {}
        ends = _ends(table)
        span = recorded_span([part for part in ends if np.isfinite(part).all()], observed)
        edges = _edges(source, span, trials, n_bins)
        counts = _counts(table, edges)
    seconds = np.array([_observed_s(edges, part) for part in observed])
    with np.errstate(invalid="ignore", divide="ignore"):
        data: dict[str, Any] = {
            "rate": (("neuron", "time"), np.where(seconds > 0, counts / seconds, np.nan), {"units": "Hz"}),
            "mean_rate": ("neuron", counts.sum(axis=1) / _within(span, observed), {"units": "Hz"}),
            "first_spike": ("neuron", ends[:, 0], {"units": "s"}),
            "last_spike": ("neuron", ends[:, 1], {"units": "s"}),
        }
    coords = {
        "neuron": texts([str(unit) for unit in table.ids]),
        "time": ("time", (edges[1:] + edges[:-1]) / 2, {"units": "s"}),
        "edge": ("edge", edges, {"units": "s"}),
    }
    attrs = {"path": str(source), "session": session_labels([said])[0], "table": name}
    return xr.Dataset(data | trials, coords, attrs)


def _trials(table: Table) -> dict[str, Any]:
    known = {name: table.times(name) for name in ("start_time", "stop_time") if name in table.names}
    events = [name for name in table.time_columns() if name not in known]
    found: dict[str, Any] = {name: ("trial", values, {"units": "s"}) for name, values in known.items()}
    if events:
        found["event_time"] = (("event", "trial"), np.array([table.times(name) for name in events]), {"units": "s"})
        found["event"] = ("event", texts(events))
    return found


def _ends(table: Table) -> Array:
    """The first and the last spike time of every unit; NaN where it has none."""
    ends = np.full((len(table), 2), np.nan)
    for positions, spikes in spike_blocks(table, np.arange(len(table))):
        for k, times in zip(positions, spikes, strict=True):
            ends[k] = times[[0, -1]] if len(times) else np.nan
    return ends


def _edges(source: Source, span: tuple[float, float] | None, trials: dict[str, Any], n_bins: int) -> Array:
    """Edges of equal bins from the first to the last spike, observed or trial time."""
    known = [item[1][np.isfinite(item[1])] for name, item in trials.items() if name.endswith("_time")]
    values = np.concatenate([*known, span or np.zeros(0)])
    if not len(values):
        raise NWBError(f"{source} has neither spikes nor trials, so there is nothing to draw. Pass another file.")
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1.0, n_bins + 1)


def _counts(table: Table, edges: Array) -> Array:
    """Spikes (unit, bin); one on the last edge is in the last bin."""
    counts = np.zeros((len(table), len(edges) - 1), np.int64)
    with collect_warnings():  # the first pass has told
        for positions, spikes in spike_blocks(table, np.arange(len(table))):
            for k, times in zip(positions, spikes, strict=True):
                at = np.searchsorted(times, edges)
                at[-1] = len(times)
                counts[k] = np.diff(at)
    return counts


def _within(span: tuple[float, float] | None, observed: list[Intervals | None]) -> Array:
    """Seconds within a span that each unit was observed."""
    if span is None:
        return np.zeros(len(observed))
    return np.array([_observed_s(np.array(span), part)[0] for part in observed])


def _observed_s(edges: Array, observed: Intervals | None) -> Array:
    """Seconds of every bin that were observed."""
    if observed is None:
        return np.diff(edges)
    starts, ends = (np.clip(part, edges[0], edges[-1]) for part in observed)
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    at = np.searchsorted(starts, edges, side="right")
    overlap = np.maximum(np.append(ends, 0.0)[at - 1] - edges, 0.0)  # what of the interval begun lies beyond
    return np.diff(before[at] - np.where(at > 0, overlap, 0.0))
