"""Series and tables of events anywhere in a file: their paths, their times, and the first event in each trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.storage.h5 import (
    as_text,
    find_dataset,
    holds_numbers,
    holds_text,
    is_dataset,
    is_group,
    load,
    member_or_error,
    members,
    shape_text,
)

Array = np.ndarray

# The groups of a file in which series and tables of events are kept.
_PLACES = ("acquisition", "processing", "events", "stimulus", "analysis", "scratch")
_MOST_COLUMNS = 4  # of a series that may be an input: two eyes, x and y
_DEEPEST = 6  # levels of groups below them
_MOST_OBJECTS = 20_000  # links of a damaged file may form a circle
_TIMES = ("timestamps", "timestamp", "event_times")  # names of a dataset that lists times
_FITS = "ndx-lowrank"  # namespace of fits and results


class Events(NamedTuple):
    """Times of events in ascending order, s: listed, or ``n`` regular samples from ``start_s`` on; their amplitudes."""

    path: str
    times: Array | None
    start_s: float = 0.0
    rate_hz: float = 1.0
    n: int = 0
    amplitudes: Array | None = None

    def within(self, starts: Array, stops: Array, which: str | int = "first") -> Array:
        """The first, last or k-th (from 0) time in [start, stop) of each trial, s; NaN if there is none."""
        low, high = self._places(starts), self._places(stops)
        at = low if which == "first" else high - 1 if which == "last" else low + int(which)
        inside = (at >= low) & (at < high)
        if self.times is None:
            found = self.start_s + at / self.rate_hz
        else:
            found = np.append(self.times, np.nan)[np.where(inside, at, -1)]
        return np.where(inside & (found < stops), found, np.nan)

    def _places(self, edges: Array) -> Array:
        """The place of the first time at each edge or after it; the number of times where there is none."""
        if self.times is not None:
            return np.searchsorted(self.times, edges)
        at = np.ceil((edges - self.start_s) * self.rate_hz - 1e-6)
        return np.clip(np.nan_to_num(at, nan=self.n), 0, self.n).astype(np.int64)


def find_series(file: h5py.File, name: str, path: Any, kind: str, argument: str) -> tuple[str, Any] | None:
    """Path and group of the series at a path, or of a name that occurs once; None if nothing has that name.

    ``kind`` and ``argument`` are words for the message. Raises: NWBError if the name occurs several times.
    """
    wanted = name.strip("/")
    try:
        direct = file.get(wanted) if wanted else None
    except (ValueError, KeyError):  # lindi refuses some texts as names
        return None
    if _has_times(direct):
        return wanted, direct
    broken: dict[str, NWBError] = {}
    found = [(at, item) for at, item in groups_of(file, broken) if _has_times(item) and at.endswith(f"/{wanted}")]
    if not found and (errors := [error for at, error in broken.items() if at.endswith(f"/{wanted}")]):
        raise errors[0]
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
    return [at for at, item in _series(file) if not listed or any(_names(item, name) for name in _TIMES)]


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
    data = _numbers(item)
    if data is None or data.ndim != 2:
        return False
    return _names(item, "rois") or (_type_of(item) == "TimeSeries" and data.shape[1] > 1)


def input_paths(file: h5py.File) -> list[str]:
    """The paths of series of numbers that may be inputs of a network: of one column or a few, and no labels.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.

    Returns
    -------
    list of str
    """
    return [at for at, item in _series(file) if _may_be_input(item)]


def _may_be_input(item: Any) -> bool:
    data = _numbers(item)
    if data is None or data.ndim not in (1, 2) or "labels" in data.attrs or _type_of(item) == "IntervalSeries":
        return False
    return (data.ndim == 1 or data.shape[1] <= _MOST_COLUMNS) and data.shape[0] > 1


def _numbers(item: Any) -> h5py.Dataset | None:
    """The data of a series, if they are numbers."""
    data = member_or_error(item, "data")
    return data if is_dataset(data) and data.dtype.kind in "iuf" else None


def _type_of(item: Any) -> str:
    return as_text(item.attrs.get("neurodata_type", ""))


def regular_times(item: Any, at: str, path: Any) -> tuple[float, float]:
    """Start (s) and rate (Hz) of a series of regular samples; NWBError if they are not numbers."""
    start, data = find_dataset(item, "starting_time"), find_dataset(item, "data")
    rate = np.ravel(start.attrs.get("rate", ())) if start is not None and start.shape is not None else np.zeros(0)
    numbers = rate.size == 1 and rate.dtype.kind in "iuf" and start.size == 1 and start.dtype.kind in "iuf"
    rate_hz = float(rate[0]) if numbers and data is not None and data.shape else 0.0
    if not 0 < rate_hz < np.inf:
        raise NWBError(
            f"{at} of {path} has a starting_time with rate {rate.tolist()}. A number above 0 is needed. Pass another "
            "series."
        )
    return float(np.ravel(start[()])[0]), rate_hz


def listed_times(item: Any, where: str) -> h5py.Dataset | None:
    """The dataset that lists the times of a series; None if it has none. Raises: NWBError if they are no numbers."""
    listed = next((found for name in _TIMES if (found := find_dataset(item, name)) is not None), None)
    if listed is not None and (not holds_numbers(listed) or not listed.shape):
        raise NWBError(f"{where} has times that are {shape_text(listed)}. Numbers are needed. Pass another.")
    return listed


def one_time_a_sample(listed: h5py.Dataset, where: str) -> Array:
    """Times of samples, s, in the order of the file; NWBError if they are those of several clocks, of shape (2, n)."""
    if listed.size != max(listed.shape):
        raise NWBError(
            f"{where} has timestamps of shape {listed.shape}. One time a sample is needed, of one clock. Pass another."
        )
    return load(listed).astype(float).ravel()


def groups_of(file: h5py.File, broken: dict[str, NWBError] | None = None) -> Iterator[tuple[str, Any]]:
    """Path and group of everything in the places for series and tables, except the parts of a series and of a fit.

    What cannot be opened is passed over; its path and the error are put into ``broken``. A group of several names comes
    under each, and what it holds comes once: links may form a circle.
    """
    seen = {file["/"]}
    stack = [(name, member_or_error(file, name), 0) for name in reversed(_PLACES)]
    for _ in range(_MOST_OBJECTS):
        if not stack:
            return
        at, item, depth = stack.pop()
        if isinstance(item, NWBError) and broken is not None:
            broken[at] = item
        if not is_group(item):
            continue
        yield at, item
        ours = as_text(item.attrs.get("namespace", "")) == _FITS  # its series and tables are no part of the recording
        if depth < _DEEPEST and item not in seen and not _has_times(item) and not ours:
            seen.add(item)
            inside = reversed(members(item))
            stack += [(f"{at}/{name}", member_or_error(item, name), depth + 1) for name in inside]


def _series(file: h5py.File) -> Iterator[tuple[str, Any]]:
    return ((at, item) for at, item in groups_of(file) if _has_times(item))


def _has_times(item: Any) -> bool:
    if not is_group(item):
        return False
    return any(_names(item, name) for name in _TIMES) or (_names(item, "starting_time") and _names(item, "data"))


def _names(item: Any, name: str) -> bool:
    """Whether a group has a dataset of this name, or a link of this name that cannot be followed."""
    found = member_or_error(item, name)
    return is_dataset(found) or isinstance(found, NWBError)


def read_events(item: Any, at: str, path: Any) -> Events:
    """The times of a series of events, in the order of the file; NaN stay.

    A TimeSeries has ``timestamps``, or ``starting_time`` and its rate. A table of events has ``timestamp``.
    Raises: NWBError if the times are damaged.
    """
    listed = listed_times(item, f"{at} of {path}")
    if listed is None:
        return Events(at, None, *regular_times(item, at, path), int(item["data"].shape[0]))
    times = one_time_a_sample(listed, f"{at} of {path}")
    data = find_dataset(item, "data")
    if data is not None and data.size and len(times) not in data.shape:
        raise NWBError(
            f"{at} of {path} has {len(times)} times and data of shape {data.shape}. One time a sample is needed. Pass "
            "another series."
        )
    return Events(at, times)


class EventLabels(NamedTuple):
    """What the events of a series are: ``values`` (event), and whether one kind must be chosen by them."""

    values: Array
    of_kinds: bool


def event_labels(item: Any, where: str) -> EventLabels | None:
    """The labels of the events of a series; None if it has none.

    LabeledEvents and TTLs have codes and the attribute ``labels``, an AnnotationSeries has texts, an IntervalSeries has
    numbers above 0 where an interval starts, and below 0 where one stops. Other series may have a number per event.
    """
    data = find_dataset(item, "data")
    if data is None or not data.shape or data.size != max(data.shape):
        return None
    words = data.attrs.get("labels")
    if words is not None:
        if data.dtype.kind not in "iu":
            raise NWBError(f"{where} has labels and data that are {shape_text(data)}. Codes of labels are needed.")
        codes, texts = load(data).ravel(), np.array([as_text(word) for word in np.ravel(words)])
        outside = codes[(codes < 0) | (codes >= len(texts))]
        if len(outside):
            raise NWBError(f"{where} has code {outside[0]} of {len(texts)} labels: damaged. Pass another series.")
        return EventLabels(texts[codes.astype(np.int64)], True)
    if holds_text(data):
        return EventLabels(np.array([as_text(value) for value in load(data).ravel()], dtype=str), True)
    if data.dtype.kind not in "biuf":
        return None
    of_kinds = _type_of(item) == "IntervalSeries"
    return EventLabels(load(data).ravel(), of_kinds)
