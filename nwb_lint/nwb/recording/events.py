"""Series and tables of events anywhere in a file: their paths, their times, and the first event in each trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.h5 import as_text, is_dataset, is_group, load, members

Array = np.ndarray

# The groups of a file in which series and tables of events are kept.
_PLACES = ("acquisition", "processing", "events", "stimulus", "analysis", "scratch")
_DEEPEST = 6  # levels of groups below them
_MOST_OBJECTS = 20_000  # links of a damaged file may form a circle
_TIMES = ("timestamps", "timestamp", "event_times")  # names of a dataset that lists times


class Events(NamedTuple):
    """Times of events in ascending order, s: listed, or ``n`` regular samples from ``start_s`` on."""

    path: str
    times: Array | None
    start_s: float = 0.0
    rate_hz: float = 1.0
    n: int = 0

    def first_within(self, starts: Array, stops: Array) -> Array:
        """The first time in [start, stop) of each trial, s; NaN if there is none."""
        if self.times is None:
            at = np.maximum(np.ceil((starts - self.start_s) * self.rate_hz - 1e-6), 0)
            found = np.where(at < self.n, self.start_s + at / self.rate_hz, np.nan)
        else:
            where = np.searchsorted(self.times, starts)
            found = np.append(self.times, np.nan)[where]
        return np.where(found < stops, found, np.nan)


def find_events(file: h5py.File, name: str, path: Any) -> Events | None:
    """The events at a path, or of a name that occurs once; None if nothing has that name.

    A TimeSeries has ``timestamps``, or ``starting_time`` and its rate. A table of events has ``timestamp``.
    Raises: NWBError if the name occurs several times (the message lists the paths), or the times are damaged.
    """
    found = find_series(file, name, path, "event series", "align")
    return found and _read_events(found[1], found[0], path)


def find_series(file: h5py.File, name: str, path: Any, kind: str, argument: str) -> tuple[str, Any] | None:
    """Path and group of the series at a path, or of a name that occurs once; None if nothing has that name.

    ``kind`` and ``argument`` are words for the message. Raises: NWBError if the name occurs several times.
    """
    wanted = name.strip("/")
    try:
        direct = file.get(wanted) if wanted else None
    except (ValueError, KeyError):  # h5py refuses some texts as names
        return None
    if _has_times(direct):
        return wanted, direct
    found = [(at, item) for at, item in _series(file) if at.endswith(f"/{wanted}")]
    if len(found) > 1:
        paths = ", ".join(at for at, _ in found[:8])
        raise NWBError(
            f"{path} has {len(found)} {kind} named {name!r}: {paths}. Pass one of these paths as {argument}=."
        )
    return found[0] if found else None


def event_paths(file: h5py.File, *, listed: bool = False) -> list[str]:
    """The paths of every event series and table of events.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    listed : bool, default=False
        Only those that list their times, and no regular samples.

    Returns
    -------
    list of str
    """
    return [at for at, item in _series(file) if not listed or any(is_dataset(item.get(name)) for name in _TIMES)]


def activity_paths(file: h5py.File) -> list[str]:
    """The paths of series that may be activity: of regions of interest, or plain series of several columns.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.

    Returns
    -------
    list of str
    """
    return [at for at, item in _series(file) if _may_be_activity(item)]


def _may_be_activity(item: Any) -> bool:
    data, kind = item.get("data"), as_text(item.attrs.get("neurodata_type", ""))
    if not is_dataset(data) or data.dtype.kind not in "iuf" or data.ndim != 2:
        return False
    return is_dataset(item.get("rois")) or (kind == "TimeSeries" and data.shape[1] > 1)


def regular_times(item: Any, at: str, path: Any) -> tuple[float, float]:
    """Start (s) and rate (Hz) of a series of regular samples; NWBError if they are not numbers."""
    start, rate = item["starting_time"], item["starting_time"].attrs.get("rate")
    numbers = start.size == 1 and start.dtype.kind in "iuf" and np.size(rate) == 1 and item["data"].ndim
    rate_hz = float(np.ravel(rate)[0]) if numbers else 0.0
    if not 0 < rate_hz < np.inf:
        raise NWBError(
            f"{at} of {path} has a starting_time with rate {rate}. A number above 0 is needed. Pass another series."
        )
    return float(np.ravel(start[()])[0]), rate_hz


def groups_of(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Path and group of everything in the places for series and tables, except the parts of a series."""
    stack = [(name, file.get(name), 0) for name in reversed(_PLACES)]
    for _ in range(_MOST_OBJECTS):
        if not stack:
            return
        at, item, depth = stack.pop()
        if not is_group(item):
            continue
        yield at, item
        if depth < _DEEPEST and not _has_times(item):
            stack += [(f"{at}/{name}", item.get(name), depth + 1) for name in reversed(members(item))]


def _series(file: h5py.File) -> Iterator[tuple[str, Any]]:
    return ((at, item) for at, item in groups_of(file) if _has_times(item))


def _has_times(item: Any) -> bool:
    if not is_group(item):
        return False
    return any(is_dataset(item.get(name)) for name in _TIMES) or (
        is_dataset(item.get("starting_time")) and is_dataset(item.get("data"))
    )


def _read_events(item: Any, at: str, path: Any) -> Events:
    listed = next((item.get(name) for name in _TIMES if is_dataset(item.get(name))), None)
    if listed is None:
        return Events(at, None, *regular_times(item, at, path), int(item["data"].shape[0]))
    if listed.dtype.kind not in "iuf":
        raise NWBError(f"{at} of {path} has times of type {listed.dtype}. Numbers are needed. Pass another series.")
    times = load(listed).astype(float).ravel()
    return Events(at, np.sort(times[np.isfinite(times)]))
