"""Inputs of the network that are in the file: their courses in every trial, and their means by condition.

1. `read_courses` gives the courses of one session, trial by trial, on the bins of the trials.
2. `course_sums` adds them up by condition.
3. `condition_courses` and `trial_courses` make variables of those of all sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr
from scipy.sparse import csr_array

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.inputs import Input, check_inputs
from nwb_lint.nwb.recording.binning import EDGE_S, FEWER_BINS, Bins, Intervals, expand_ranges
from nwb_lint.nwb.recording.events import event_paths, find_series, input_paths
from nwb_lint.nwb.recording.series import Series
from nwb_lint.nwb.recording.tables import open_intervals
from nwb_lint.nwb.recording.time_axis import TimeAxis, TrialTimeAxis, make_trial_time_axis
from nwb_lint.nwb.recording.trials import Choice, Trials, find_events, naming
from nwb_lint.nwb.recording.units import valid_times
from nwb_lint.nwb.storage.h5 import find_dataset
from nwb_lint.parallel.memory import check_memory

Array = np.ndarray

_SAME_S = 1e-9  # an event this much before the center of a bin is at it, as for windows of inputs
_MOST_STEPS = 3.5  # of a series between two samples that a line joins: two samples may be missing
_BESIDE = 3  # samples that are read on each side of a trial, for lines at its ends
_MOST_LISTED = 12


class Wanted(NamedTuple):
    """The inputs whose courses are read, one for each source, and the bins before the first one to read."""

    inputs: tuple[Input, ...] = ()
    n_before: int = 0

    @property
    def sources(self) -> list[str]:
        """What is read for each (`Input.source`)."""
        return [one.source for one in self.inputs]


class Courses(NamedTuple):
    """The courses in the trials of a session.

    | field | dims | |
    |---|---|---|
    | values | trial, time, course | NaN where not observed |
    | inside | trial, time | whether the bin is within the limits of its trial; None: all are |
    | units | course | unit of each series; '' for all others |
    """

    values: Array
    inside: Array | None
    units: list[str]


class CourseSums(NamedTuple):
    """Sums of courses by group of trials, and the numbers of trials in them.

    Both are (2, part, condition, time, course): first of the trials that were observed in the bin, then of all.
    """

    sums: Array
    numbers: Array
    units: list[str]

    def of_conditions(self, rows: Array) -> CourseSums:
        """Those of some conditions."""
        return self._replace(sums=self.sums[:, :, rows], numbers=self.numbers[:, :, rows])


def wanted_courses(inputs: Sequence[Input], bins: Bins, burn_in_s: float = 0.0) -> Wanted:
    """What is to be read for these inputs; ContractError if they are no inputs, or the burn-in is no whole bins."""
    check_inputs(inputs)
    n_before = round(burn_in_s / bins.bin_s)
    if abs(n_before * bins.bin_s - burn_in_s) > 1e-6:
        raise ContractError(f"burn_in_s is {burn_in_s}; it needs a multiple of the bin, {bins.bin_s:g} s, from 0 on.")
    return Wanted(tuple({one.source: one for one in inputs if one.in_file}.values()), n_before)


def read_courses(file: h5py.File, path: Any, trials: Trials, axis: TimeAxis, wanted: Wanted) -> Courses:
    """The courses of inputs in every trial of a session.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    path : object
        Where it is, for messages.
    trials : Trials
        The trials.
    axis : TimeAxis
        The time axis of the recording.
    wanted : Wanted
        The inputs.

    Returns
    -------
    Courses

    Raises
    ------
    NWBError
        If a series, table or column is not there (the message lists those that are), or cannot be read.
    """
    trial_axis = make_trial_time_axis(trials, axis._replace(bins=_with_burn_in(axis.bins, wanted.n_before)))
    n, bins, m = len(trials.origins), trial_axis.bins.n, len(wanted.inputs)
    check_memory(4 * 8.0 * n * bins * m, f"{path}: {m} inputs in {n} trials of {bins} bins", FEWER_BINS)
    places = _Places(file, path, trials, trial_axis)
    values = np.empty((n, bins, m))
    units = []
    for k, one in enumerate(wanted.inputs):
        with naming(one):
            values[..., k], unit = places.course(one)
        units.append(unit)
    inside = None
    if trial_axis.first is not None and trial_axis.last is not None:
        at = np.arange(bins)
        inside = (at >= trial_axis.first[:, None]) & (at < trial_axis.last[:, None])
    return Courses(values, inside, units)


class _Places:
    """Reads courses at the bins of trials: ``edges`` (trial, time + 1) and ``centers`` (trial, time), real time, s."""

    def __init__(self, file: h5py.File, path: Any, trials: Trials, axis: TrialTimeAxis) -> None:
        self.file, self.path, self.trials = file, path, trials
        self.axis = axis._replace(first=None, last=None, infer_obs=False)
        self.edges = _real(axis, axis.bins.start + np.arange(axis.bins.n + 1) * axis.bins.bin_s)
        self.centers = _real(axis, axis.bins.centers)

    def course(self, one: Input) -> tuple[Array, str]:
        """The course (trial, time) of an input, and its unit."""
        if one.series is not None:
            return self._of_series(one)
        if one.events is not None:
            return self._of_events(one), ""
        if one.table is not None:
            return self._of_table(one), ""
        since = self.centers - self.axis.origins[:, None] - one.lag_s  # from the origin: rounding as for windows
        start, stop = self.trials.boxes[one.source] - self.axis.origins
        return ((since >= start[:, None] - _SAME_S) & (since < stop[:, None] - _SAME_S)).astype(float), ""

    def _of_series(self, one: Input) -> tuple[Array, str]:
        """The mean of the samples in each bin; between samples a line; NaN where samples are missing."""
        series = _open_series(self.file, str(one.series), self.path)
        column = _column_of(series, one.series_column)
        times, values = _samples_near(series, column, self.edges - one.lag_s, valid_times(self.file))
        times = times + one.lag_s
        trial, index, where = self.axis.samples(times)
        size, cell = self.centers.size, trial * self.axis.bins.n + where
        number = np.bincount(cell, minlength=size).reshape(self.centers.shape)
        total = np.bincount(cell, weights=values[index], minlength=size).reshape(self.centers.shape)
        after = np.searchsorted(times, self.centers)
        joined = (after > 0) & (after < len(times))
        joined[joined] &= times[after[joined]] - times[after[joined] - 1] <= _MOST_STEPS * series.typical_step_s()
        line = np.interp(self.centers, times, values) if len(times) else 0.0
        between = np.where(joined, line, np.nan)
        course = np.where(number > 0, total / np.maximum(number, 1), between)
        if np.isnan(course).all():
            raise NWBError(
                f"{series.where} has no sample in any of {len(course)} trials, which are from {self.edges.min():g} to "
                f"{self.edges.max():g} s (lag_s is {one.lag_s:g}). Check align, window_s and lag_s, or leave it out."
            )
        return course, series.unit

    def _of_events(self, one: Input) -> Array:
        """The number of events in each bin, or the share of it in boxes after them, times their amplitudes."""
        name, how = str(one.events), Choice(one.where, None, "where")
        events = self.trials.events.get(one.source)
        if events is None:
            events = find_events(self.file, name, self.path, "events", how, one.amplitude)
        if events is None:
            choice = _choice(event_paths(self.file, listed=True), "events")
            raise NWBError(f"{self.path} has no events {name!r}. {choice}")
        if events.times is None:
            raise NWBError(f"{events.path} of {self.path} has regular samples and no events. Pass it as series=.")
        times = events.times + one.lag_s
        sizes = np.ones(len(times)) if events.amplitudes is None else events.amplitudes
        _check_sizes(sizes, one, events.path)
        if one.width_s is not None:
            return self._share(times, times + one.width_s, sizes)
        total = np.concatenate([[0.0], np.cumsum(sizes)])
        return np.diff(total[np.searchsorted(times, self.edges - EDGE_S)], axis=1)

    def _of_table(self, one: Input) -> Array:
        """The share of each bin in the intervals of a table, times their amplitudes."""
        table = open_intervals(self.file, str(one.table), self.path)
        if absent := [name for name in ("start_time", "stop_time") if name not in table.names]:
            raise NWBError(f"{table.where} has no {' and no '.join(absent)}. Pass a table of intervals, or events=.")
        rows = table.select(one.where)
        if not rows.any():
            raise NWBError(f"{table.where}: 0 of {len(table)} rows satisfy where={one.where!r}. Loosen it.")
        start, stop = (table.times(name)[rows] for name in ("start_time", "stop_time"))
        if wrong := int((~(stop >= start)).sum()):
            raise NWBError(
                f"{table.where}: {wrong} of {len(start)} rows do not stop after they start, or lack one of the times. "
                "Select other rows by where."
            )
        sizes = np.ones(len(start)) if one.amplitude is None else table.numbers(one.amplitude)[rows]
        _check_sizes(sizes, one, table.where)
        return self._share(start + one.lag_s, stop + one.lag_s, sizes)

    def _share(self, starts: Array, stops: Array, sizes: Array) -> Array:
        """The mean over each bin of boxes of these sizes; those that overlap add up."""
        if not len(starts):
            return np.zeros(self.centers.shape)
        knots, of_knot = np.unique(np.concatenate([starts, stops]), return_inverse=True)
        change = np.bincount(of_knot, weights=np.concatenate([sizes, -sizes]), minlength=len(knots))
        height = np.cumsum(change)
        height[np.abs(height) < 1e-9 * np.abs(sizes).max(initial=0)] = 0.0  # rounding, where all boxes have ended
        area = np.concatenate([[0.0], np.cumsum(height[:-1] * np.diff(knots))])
        return np.diff(np.interp(self.edges, knots, area), axis=1) / np.diff(self.edges, axis=1)


def course_sums(courses: Courses, weights: csr_array, parts: int) -> CourseSums:
    """Sums of courses over trials; ``weights`` (part × condition, trial) says how often each trial counts."""
    known = np.isfinite(courses.values)
    some = known if courses.inside is None else known & courses.inside[..., None]
    n, shape = len(known), courses.values.shape[1:]
    filled = np.where(known, courses.values, 0.0)
    flat = [(weights @ part.reshape(n, -1)).reshape(parts, -1, *shape) for part in (filled * some, filled, some, known)]
    return CourseSums(np.stack(flat[:2]), np.stack(flat[2:]).astype(float), courses.units)


def condition_courses(sessions: Sequence[CourseSums], wanted: Wanted, bins: Bins) -> xr.Dataset:
    """The means over the trials of all sessions, by condition, and of resamples if there are any.

    A bin in which no trial was observed has the mean over all trials, NaN where the file has no value of any.
    Raises: NWBError if sessions have different units of a series.
    """
    sums, numbers = (sum(getattr(one, name) for one in sessions) for name in ("sums", "numbers"))
    with np.errstate(invalid="ignore"):
        some, every = sums / numbers
    means = np.where(numbers[0] > 0, some, every)
    dims = "condition", "course_time", "course"
    data: dict[str, Any] = {"input_course": (dims, means[0])}
    if len(means) > 1:
        data["input_course_draw"] = ("draw", *dims), means[1:]
    return _with_coords(data, [one.units for one in sessions], wanted, bins)


def trial_courses(sessions: Sequence[Courses], wanted: Wanted, bins: Bins) -> xr.Dataset:
    """The courses in the trials of all sessions; NWBError if these have different units of a series."""
    values = np.concatenate([one.values for one in sessions])
    data = {"input_course": (("trial", "course_time", "course"), values)}
    return _with_coords(data, [one.units for one in sessions], wanted, bins)


def _with_coords(data: dict[str, Any], units: Sequence[Sequence[str]], wanted: Wanted, bins: Bins) -> xr.Dataset:
    for source, of_source in zip(wanted.sources, zip(*units, strict=True), strict=True):
        if len(set(of_source)) > 1:
            found = " and ".join(repr(unit) for unit in sorted(set(of_source)))
            raise NWBError(f"{source} has the units {found}. One unit is needed. Read those files apart.")
    coords = {
        "course": np.array(wanted.sources, dtype=str),
        "course_unit": ("course", np.array(units[0], dtype=str)),
        "course_time": ("course_time", _with_burn_in(bins, wanted.n_before).centers, {"units": "s"}),
    }
    return xr.Dataset(data, coords)


def _with_burn_in(bins: Bins, n_before: int) -> Bins:
    return Bins(bins.start - n_before * bins.bin_s, bins.bin_s, bins.n + n_before)


def _real(axis: TrialTimeAxis, times: Array) -> Array:
    """Real times (trial, time) of times on the axis, s."""
    return axis.origins[:, None] + times if axis.warp is None else axis.warp.real(times)


def _open_series(file: h5py.File, name: str, path: Any) -> Series:
    found = find_series(file, name, path, "series", "series")
    if found is None or find_dataset(found[1], "data") is None:
        raise NWBError(f"{path} has no time series {name!r}. {_choice(input_paths(file), 'series')}")
    return Series(found[1], found[0], path)


def _choice(paths: Sequence[str], argument: str) -> str:
    """What a file has, and what to do."""
    if not paths:
        return "It has none. Leave the input out."
    more = ", …" if len(paths) > _MOST_LISTED else ""
    return f"It has {', '.join(paths[:_MOST_LISTED])}{more}. Pass one of them as {argument}=."


def _column_of(series: Series, column: int | None) -> int:
    n = len(series)
    if column is None and n > 1:
        raise NWBError(f"{series.where} has {n} columns. One is needed. Pass series_column=, from 0 to {n - 1}.")
    if column is not None and not 0 <= column < n:
        raise NWBError(f"{series.where} has {n} columns. series_column is {column}. Pass one from 0 to {n - 1}.")
    return column or 0


def _samples_near(series: Series, column: int, edges: Array, valid: Intervals | None) -> tuple[Array, Array]:
    """Times and values of a series in the bins of trials and just beside them, if they are numbers and valid."""
    times = series.sample_times()
    low = np.searchsorted(times, edges[:, 0] - EDGE_S) - _BESIDE
    high = np.searchsorted(times, edges[:, -1] + EDGE_S) + _BESIDE
    index = np.unique(expand_ranges(np.maximum(low, 0), np.minimum(high, len(times)))[1])
    values = np.empty(len(index))
    for part, first, block in series.blocks(index):
        values[part] = block[index[part] - first, column]
    times = times[index]
    known = np.isfinite(values)
    if valid is not None:
        at = np.searchsorted(valid.starts, times, side="right") - 1
        known &= (at >= 0) & (times <= np.append(valid.ends, -np.inf)[at])
    return times[known], values[known]


def _check_sizes(sizes: Array, one: Input, where: str) -> None:
    if missing := int((~np.isfinite(sizes)).sum()):
        raise NWBError(
            f"{missing} of {len(sizes)} of {where} have no {one.amplitude}. A number is needed for each. Select others "
            "by where."
        )
