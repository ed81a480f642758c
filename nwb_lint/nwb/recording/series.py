"""Activity in a time series (dF/F, a simulated network): its neurons, and sums of its samples by bin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
from scipy.sparse import csr_array

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.binning import Counts
from nwb_lint.nwb.recording.events import activity_paths, find_series, one_time_a_sample, regular_times
from nwb_lint.nwb.recording.tables import Table
from nwb_lint.nwb.recording.time_axis import TrialTimeAxis
from nwb_lint.nwb.recording.unit_tables import UnitsTable, unit_labels
from nwb_lint.nwb.recording.units import valid_times
from nwb_lint.nwb.storage.h5 import as_text, find_dataset, holds_numbers, is_group, load, pointed_at, shape_text
from nwb_lint.nwb.storage.prefetch import fetch_rows

Array = np.ndarray

BLOCK_VALUES = 1 << 22  # values of a series in memory at a time
_LARGEST = float(np.finfo(np.float32).max)  # that a rate can hold
_CONVERSION = {"conversion": 1.0, "offset": 0.0}  # attributes of data, and their defaults


class Series(Table):
    """One TimeSeries of data (time, neuron), as a table of its neurons.

    Rows are the columns of the data. A RoiResponseSeries has the ids and columns of its regions of interest. Any other
    series has the ids 0, 1, … and no columns. ``unit`` is the unit of the data. Data that are stored (neuron, time) are
    read if both the number of regions and the number of timestamps show it (``transposed``).
    """

    def __init__(self, item: h5py.Group, at: str, path: Any) -> None:
        self.group, self.where, self.data = item, f"{at} of {path}", find_dataset(item, "data")
        self.at, self.path = at, path
        if not holds_numbers(self.data) or self.data.ndim not in (1, 2) or not self.data.size:
            raise NWBError(
                f"{self.where} has data that are {shape_text(self.data)}. Numbers of (time, neuron) are needed. Pass "
                "another series=."
            )
        self.unit = as_text(self.data.attrs.get("unit", ""))
        self.transposed = self._is_transposed()
        self.n_samples = self.data.shape[1 if self.transposed else 0]
        n = 1 if self.data.ndim == 1 else self.data.shape[0 if self.transposed else 1]
        self._table, self._rows = _regions(item, self.where, n)
        self.names = [] if self._table is None else self._table.names
        self.ids = np.arange(n) if self._table is None else self._table.ids[self._rows]
        self.has_ids = self._table is None or self._table.has_ids

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> Array:
        """A unique text for each neuron, as those of a `UnitsTable`."""
        return unit_labels(self.ids)

    def column(self, name: str) -> Array:
        """A column of the regions of interest, one value per neuron; NWBError if there is none."""
        return self._regions_with(name).column(name)[self._rows] if name != "id" else self.ids

    def column_or_texts(self, name: str) -> Array:
        """A column of the regions of interest, as `Table.column_or_texts`."""
        return self._regions_with(name).column_or_texts(name)[self._rows] if name != "id" else self.ids

    def select(self, query: str | None, what: str = "where") -> Array:
        """Neurons that satisfy a query over the columns of the regions of interest: bool."""
        if self._table is None:
            raise NWBError(f"{self.where} has no columns of its neurons. Pass ids as {what}=: 0 to {len(self) - 1}.")
        return self._table.select(query, what)[self._rows]

    def _regions_with(self, name: str) -> Table:
        if self._table is None:
            raise NWBError(f"{self.where} has no column {name!r}; its neurons have no columns. Leave it out.")
        return self._table

    def sample_times(self) -> Array:
        """The time of every sample, s, ascending; NWBError if the file's times are not."""
        listed = self._timestamps()
        if listed is None:
            start_s, rate_hz = regular_times(self.group, self.at, self.path)
            return start_s + np.arange(self.n_samples) / rate_hz
        times = one_time_a_sample(listed, self.where)
        if len(times) != self.n_samples:
            raise NWBError(
                f"{self.where} has {len(times)} timestamps for {self.n_samples} samples: damaged, or data of shape "
                f"{self.data.shape} are not (time, neuron). Pass another series=."
            )
        if not (np.diff(times) >= 0).all() or not np.isfinite(times[[0, -1]]).all():
            raise NWBError(f"{self.where} has timestamps that are not ascending numbers. Pass another series=.")
        return times

    def typical_step_s(self) -> float:
        """The time between two samples, s: from the rate, or the median of the first thousand."""
        listed = self._timestamps()
        if listed is None:
            return 1 / regular_times(self.group, self.at, self.path)[1]
        steps = np.diff(np.ravel(listed[:1000]).astype(float))
        return float(np.median(steps)) if len(steps) else 0.0

    def _timestamps(self) -> h5py.Dataset | None:
        listed = find_dataset(self.group, "timestamps")
        if listed is not None and (not holds_numbers(listed) or not listed.shape):
            raise NWBError(
                f"{self.where} has timestamps that are {shape_text(listed)}. Numbers are needed. Pass another."
            )
        return listed

    def _is_transposed(self) -> bool:
        """Whether data are (neuron, time); NWBError if regions or electrodes say so, and timestamps do not."""
        if self.data.ndim == 1 or self.data.shape[0] == self.data.shape[1]:
            return False
        found = ((name, find_dataset(self.group, name)) for name in ("rois", "electrodes"))
        sizes = {name: item.size for name, item in found if item is not None}
        name = next((name for name, size in sizes.items() if size == self.data.shape[0]), None)
        if name is None or sizes[name] == self.data.shape[1]:
            return False
        listed = self._timestamps()
        if listed is not None and listed.size == self.data.shape[1]:
            return True
        raise NWBError(
            f"{self.where} has data of shape {self.data.shape} and {sizes[name]} {name}: they seem to be transposed, "
            "(neuron, time), and there are no timestamps that show it. Data need to be (time, neuron). Transpose them "
            "in a copy of the file, or pass another series=."
        )

    def conversion(self) -> tuple[Array, float]:
        """What stored values are multiplied by (neuron, or one for all), and what is then added."""
        scale, shift = (_number_of(self.data, name, default, self.where) for name, default in _CONVERSION.items())
        of_channel = find_dataset(self.group, "channel_conversion")
        if of_channel is None:
            return np.array([scale]), shift
        n = 1 if self.data.ndim == 1 else self.data.shape[0 if self.transposed else 1]
        axis = int(_number_of(of_channel, "axis", 1, self.where))
        if of_channel.dtype.kind not in "iuf" or of_channel.size != n or axis != 1:
            raise NWBError(
                f"{self.where} has a channel_conversion (axis {axis}) that is {shape_text(of_channel)}. One number for "
                f"each of {n} channels, axis 1 of the data, is needed. Pass another series=."
            )
        return scale * load(of_channel).astype(float).ravel(), shift

    def blocks(self, index: Array, block_values: int = BLOCK_VALUES) -> Iterator[tuple[slice, int, Array]]:
        """The samples of a sorted ``index``, block by block: entries of it, first sample, values (time, neuron).

        Values are in the unit of the series: conversion × channel_conversion × stored + offset. A block holds at most
        ``block_values``, or one chunk of the file.
        """
        rows = max(1, block_values // len(self))
        if self.data.chunks is not None:
            chunk = self.data.chunks[1 if self.transposed else 0]
            rows = max(1, rows // chunk) * chunk
        scale, shift = self.conversion()
        done = 0
        while done < len(index):
            first = int(index[done]) // rows * rows
            last = min(first + rows, self.n_samples)
            end = int(np.searchsorted(index, last))
            if self.transposed:
                values = self.data[:, first:last].T
            else:
                fetch_rows(self.data, [first], [last])
                values = self.data[first:last].reshape(last - first, -1)
            yield slice(done, end), first, scale * values.astype(float) + shift
            done = end


def open_series(file: h5py.File, name: str, path: Any) -> Series:
    """The series at a path, or of a name that occurs once.

    Parameters
    ----------
    file : h5py.File
        An open NWB file.
    name : str
        The series' path in the file, or its name.
    path : object
        Where the file is, for messages.

    Returns
    -------
    Series

    Raises
    ------
    NWBError
        If there is no such series (the message lists candidates), or it holds no numbers.
    """
    found = find_series(file, name, path, "series", "series")
    if found is None or find_dataset(found[1], "data") is None:
        listed = ", ".join(activity_paths(file)[:12])
        hint = f"It has {listed}. Pass one as series=" if listed else "It has no series of several neurons"
        raise NWBError(f"{path} has no time series {name!r}. {hint}.")
    return Series(found[1], found[0], path)


def sample_counter(
    file: h5py.File,
    series: Series,
    rows: Array,
    axis: TrialTimeAxis,
    groups: Array,
    n_groups: int,
    block_values: int = BLOCK_VALUES,
) -> tuple[Callable[[int], Counts], tuple[float, float]]:
    """A function that gives the `Counts` of one of the ``rows``: sums of samples as spikes, their number as seen.

    The second result is the first and the last time of the samples, s. A sample that is NaN, or lies in the file's
    invalid_times, was not observed. Raises: NWBError if no window meets the series.
    """
    times, n = series.sample_times(), axis.bins.n
    trial, index, where = axis.samples(times, valid_times(file))
    if not len(index):
        raise NWBError(
            f"{series.where}: no window meets the series. Its samples span {times[0]:g}–{times[-1]:g} s, the windows "
            f"{axis.starts.min():g}–{axis.ends.max():g} s. Check align and window_s."
        )
    order = np.argsort(index, kind="stable")
    trial, index, where = trial[order], index[order], where[order]
    sums, seen = np.zeros((2, n_groups * n, len(rows)))
    in_trial = np.zeros((len(groups), len(rows)))
    for part, first, values in series.blocks(index, block_values):
        values = values[:, rows]
        known = np.isfinite(values)
        at, ones = index[part] - first, np.ones(part.stop - part.start)
        if np.max(np.abs(values), where=known, initial=0.0) > _LARGEST:
            _refuse_huge(values[at], series.where)
        by_bin = csr_array((ones, (groups[trial[part]] * n + where[part], at)), (n_groups * n, len(values)))
        by_trial = csr_array((ones, (trial[part], at)), (len(groups), len(values)))
        sums += by_bin @ np.where(known, values, 0.0)
        seen += by_bin @ known.astype(float)
        in_trial += by_trial @ known.astype(float)

    def count_unit(k: int) -> Counts:
        trials = np.bincount(groups[in_trial[:, k] > 0], minlength=n_groups)
        return Counts(sums[:, k].reshape(n_groups, n), seen[:, k].reshape(n_groups, n), trials)

    return count_unit, (float(times[0]), float(times[-1]))


def _refuse_huge(values: Array, where: str) -> None:
    """Raise NWBError where a rate could not hold a sample: it would become infinite."""
    largest = np.max(np.abs(values), where=np.isfinite(values), initial=0.0)
    if largest > _LARGEST:
        raise NWBError(f"{where} holds {largest:.3g}. Numbers up to {_LARGEST:.2g} are read. Pass another series=.")


def _number_of(item: h5py.Dataset, name: str, default: float, where: str) -> float:
    """An attribute that needs to be a finite number; a conversion, not 0."""
    value = np.ravel(item.attrs.get(name, default))
    number = float(value[0]) if value.size == 1 and value.dtype.kind in "iuf" else np.nan
    if not np.isfinite(number) or (number == 0 and name == "conversion"):
        raise NWBError(f"{where} has {name} {item.attrs[name]!r}. A number is needed. Pass another series=.")
    return number


def _regions(item: h5py.Group, where: str, n: int) -> tuple[UnitsTable | None, Array]:
    """The table of the regions of interest, and its row for each of ``n`` neurons; None if the series has none."""
    region = find_dataset(item, "rois")
    if region is None:
        return None, np.arange(n)
    if not region.shape or region.dtype.kind not in "iu":
        raise NWBError(f"rois of {where} are {shape_text(region)}. Row numbers are needed. Pass another series=.")
    group = pointed_at(item.file, region.attrs.get("table"))
    rows = load(region).astype(np.int64).ravel()
    table = UnitsTable(group, "", f"regions of interest of {where}") if is_group(group) else None
    if table is None or len(rows) != n or not ((rows >= 0) & (rows < len(table))).all():
        raise NWBError(f"{where} has rois that do not suit its {n} columns: damaged. Get the file again.")
    return table, rows
