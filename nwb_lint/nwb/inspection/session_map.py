"""One session over its whole length: rates of the units, and times of trials and events."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import NWBError
from nwb_lint.nwb.inspection.suggest import choose_table
from nwb_lint.nwb.inspection.units import spike_ends
from nwb_lint.nwb.recording.binning import Intervals
from nwb_lint.nwb.recording.dataset import text_array
from nwb_lint.nwb.recording.tables import Table, open_intervals
from nwb_lint.nwb.recording.unit_tables import open_units
from nwb_lint.nwb.recording.units import read_observed, recorded_span, spike_blocks
from nwb_lint.nwb.storage.metadata import provenance, session_labels
from nwb_lint.nwb.storage.source import Source, reading
from nwb_lint.parallel.warnings import collect_warnings

Array = np.ndarray


def session_map(source: Source, *, n_bins: int = 240, units_table: str | None = None) -> xr.Dataset:
    """Rates of all units over the whole session, and the times of its trials.

    Parameters
    ----------
    source : path or address
        One file that `nwb_lint.open_nwb` opens.
    n_bins : int, default=240
        Number of equal bins from the first to the last spike, observed time or trial.
    units_table : str or None, default=None
        Path of the units table. None takes ``/units``, or else the only units table of the file.

    Returns
    -------
    xarray.Dataset
        - ``rate (neuron, time)``: Hz in the observed part of each bin; NaN where no time is observed.
        - ``mean_rate (neuron)``: Hz over the observed time from the first to the last spike of all units.
        - ``first_spike``, ``last_spike (neuron)``: s; NaN for a unit without spikes.
        - ``start_time``, ``stop_time (trial)``: s; absent where the file has no table of trials.
        - ``event_time (event, trial)``: s; every column that trials can be aligned to, absent as above.
        - coordinates ``neuron``, ``time`` (bin centers, s), ``edge`` (bin edges, s), ``event``; attributes ``path``,
          ``session`` and ``table``.

    Raises
    ------
    MissingFileError
        If there is no such file.
    NWBError
        If the file cannot be read, has no units, or has neither spikes nor trials.

    Examples
    --------
    >>> session_map("session.nwb", n_bins=20)["rate"].dims
    ('neuron', 'time')
    """
    with reading(source) as file:
        found = provenance(file, source)
        table = open_units(file, source, units_table)
        observed = read_observed(file, table, np.arange(len(table)))
        try:
            name = choose_table(file, source)
            trials = _trials(open_intervals(file, name, source))
        except NWBError:  # a file without trials is shown too
            name, trials = "", {}
        ends = np.array([[one.first_s, one.last_s] if one else [np.nan] * 2 for one in spike_ends(table)]).reshape(
            -1, 2
        )
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
        "neuron": table.labels,
        "time": ("time", (edges[1:] + edges[:-1]) / 2, {"units": "s"}),
        "edge": ("edge", edges, {"units": "s"}),
    }
    attrs = {"path": str(source), "session": session_labels([found])[0], "table": name}
    return xr.Dataset(data | trials, coords, attrs)


def _trials(table: Table) -> dict[str, Any]:
    """Starts, stops and events of the rows of a table, as variables."""
    known = {name: table.times(name) for name in ("start_time", "stop_time") if name in table.names}
    events = [name for name in table.time_columns() if name not in known]
    found: dict[str, Any] = {name: ("trial", values, {"units": "s"}) for name, values in known.items()}
    if events:
        found["event_time"] = (("event", "trial"), np.array([table.times(name) for name in events]), {"units": "s"})
        found["event"] = ("event", text_array(events))
    return found


def _edges(source: Source, span: tuple[float, float] | None, trials: dict[str, Any], n_bins: int) -> Array:
    """Edges of equal bins from the first to the last spike, observed or trial time."""
    known = [item[1][np.isfinite(item[1])] for name, item in trials.items() if name.endswith("_time")]
    values = np.concatenate([*known, span or np.zeros(0)])
    if not len(values):
        raise NWBError(f"{source} has neither spikes nor trials. One of them is needed. Pass another file.")
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1.0, n_bins + 1)


def _counts(table: Table, edges: Array) -> Array:
    """Spikes (unit, bin); one on the last edge is in the last bin."""
    counts = np.zeros((len(table), len(edges) - 1), np.int64)
    with collect_warnings():  # `spike_ends` gave them
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
    overlap = np.maximum(np.append(ends, 0.0)[at - 1] - edges, 0.0)  # the part of the last interval beyond the edge
    return np.diff(before[at] - np.where(at > 0, overlap, 0.0))
