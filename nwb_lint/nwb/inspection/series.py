"""Time series of a file that no reader could read: what is wrong with each."""

from __future__ import annotations

from typing import Any

import h5py

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.events import groups_of, listed_times, regular_times
from nwb_lint.nwb.recording.series import Series
from nwb_lint.nwb.storage.h5 import as_text, check_size, find_dataset, is_list, never_written, shape_text
from nwb_lint.nwb.storage.prefetch import streamed

_MOST = 12  # problems that are listed


def series_problems(file: h5py.File, path: Any) -> list[str]:
    """What is wrong with the times and the data of each time series, and with links to series, from their types alone.

    Parameters
    ----------
    file : h5py.File
        An open NWB file. A streamed one is not looked through: that would cost requests.
    path : object
        Where the file is, for messages.

    Returns
    -------
    list of str
        One text for each problem.
    """
    if streamed(file) is not None:
        return []
    broken: dict[str, NWBError] = {}
    problems = []
    for at, item in groups_of(file, broken):
        if as_text(item.attrs.get("neurodata_type", "")).endswith("Series"):
            try:
                _check_series(item, at, path)
            except NWBError as error:
                problems.append(str(error))
    problems = list(dict.fromkeys([*problems, *map(str, broken.values())]))
    more = [f"{len(problems) - _MOST} more problems of time series"] if len(problems) > _MOST else []
    return problems[:_MOST] + more


def _check_series(item: Any, at: str, path: Any) -> None:
    """Raise NWBError where a series has no data, no times that are numbers, or regions that do not suit its data."""
    data, listed = find_dataset(item, "data"), listed_times(item, f"{at} of {path}")
    if data is None:
        raise NWBError(f"{at} of {path} has no data. A time series needs them. Pass another series.")
    if data.dtype.kind in "VmMc" or is_list(data) or not data.shape:
        raise NWBError(f"{at} of {path} has data that are {shape_text(data)}. Numbers are needed. Pass another series.")
    for values, what in ((data, "data"), (listed, "timestamps")):
        if values is None or not values.size:
            continue
        check_size(values)
        if never_written(values):
            raise NWBError(f"{at} of {path} has {what} that were never written: all are fill values. Pass another.")
    n_samples = data.shape[0]
    if "rois" in item or (data.dtype.kind in "iuf" and data.ndim < 3 and data.size):
        series = Series(item, at, path)
        series.conversion()
        n_samples = series.n_samples
    if listed is not None and listed.size != n_samples:
        raise NWBError(
            f"{at} of {path} has timestamps of shape {listed.shape} for {n_samples} samples. One a sample is needed. "
            "Pass another series."
        )
    if listed is None:
        if find_dataset(item, "starting_time") is None:
            raise NWBError(
                f"{at} of {path} has no timestamps and no starting_time. One is needed. Pass another series."
            )
        regular_times(item, at, path)
