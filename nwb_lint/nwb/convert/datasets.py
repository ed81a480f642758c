"""A recording or trials → what an NWB file holds: spikes or a time series, and a table with a row for each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import columns_of, find_column
from nwb_lint.errors import ContractError
from nwb_lint.nwb.convert.session import Samples
from nwb_lint.nwb.convert.spikes import Spikes
from nwb_lint.nwb.recording.unit_tables import plain_ids

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

EVENT = "event_time"  # the column with time 0 of each row, where a Dataset names none
_GAP_S = 1.0  # between two windows, where a Dataset has no clock
_OF_READING = ("session", "source", "recorded", "unit_id")  # coordinates on neuron that are no columns of units
_DO = "Leave start_time and stop_time out of the trials, or pass the spike times."
REGULAR = 1e-3  # part of a bin by which the distance of two bin centers may differ from bin_s
_ROUNDING = 1e-6  # part of a window by which two may overlap


class Session(NamedTuple):
    """The content of a file: spikes, or series; the table; when units were observed; what is exact about times, s."""

    spikes: Spikes
    trials: pd.DataFrame
    observed: list[Array] | None
    series: dict[str, Samples]
    resolution_s: float
    description: str


def session_of(dataset: xr.Dataset) -> Session:
    """What an NWB file holds of a recording or of trials.

    Parameters
    ----------
    dataset : xarray.Dataset
        A recording, or trials.

    Returns
    -------
    Session
        Counts as spikes with even distances in each bin; rates as a time series with a sample for each bin.

    Raises
    ------
    ContractError
        If the Dataset is neither, lacks bins, trials are warped, or their windows overlap.
    """
    dim = "trial" if "trial" in dataset.dims else "condition"
    if dim not in dataset.dims or not {"rate", "count"} & set(dataset.data_vars):
        found = ", ".join(map(str, dataset.data_vars)) or "no variables"
        raise ContractError(
            f"The Dataset has {found}. write_session needs a recording or trials. Write a fit by write_fit."
        )
    _check_axes(dataset, dim)
    if "warp" in dataset.attrs:
        raise ContractError("The Dataset is warped: its times are none of a session. Read it without warp.")
    table, origins = _table(dataset, dim)
    low, bin_s = float(dataset["time"].values[0]) - dataset.attrs["bin_s"] / 2, float(dataset.attrs["bin_s"])
    edges = origins[:, None] + low + bin_s * np.arange(dataset.sizes["time"] + 1)
    if "count" not in dataset:
        what = "mean activity of conditions" if dim == "condition" else "activity of single trials"
        return Session(Spikes([], np.arange(0), {}), table, None, _series(dataset, dim, edges), 0.0, _about(what))
    counts = dataset["count"].transpose("trial", "time", "neuron").values
    times = [_spread(counts[:, :, unit], edges, bin_s) for unit in range(counts.shape[2])]
    observed = None
    if "observed" in dataset:
        seen = dataset["observed"].transpose("trial", "time", "neuron").values
        observed = [_intervals(seen[:, :, unit], edges) for unit in range(counts.shape[2])]
    return Session(_units(dataset, times), table, observed, {}, bin_s, _about("spike counts of single trials", bin_s))


def _check_axes(dataset: xr.Dataset, dim: str) -> None:
    """Raise ContractError unless there are rows, neurons, and bins of one width without gaps."""
    lacking = [name for name in (dim, "time", "neuron") if not dataset.sizes.get(name)]
    if lacking:
        raise ContractError(f"The Dataset has nothing along {lacking[0]}. At least one is needed. Select with a list.")
    bin_s, steps = float(dataset.attrs.get("bin_s", np.nan)), np.diff(dataset["time"].values)
    if not bin_s > 0 or (np.abs(steps - bin_s) > REGULAR * bin_s).any():
        raise ContractError(
            f"The bins of the Dataset do not follow each other: the attribute bin_s is {bin_s:g}. Times in distances "
            "of bin_s are needed. Keep all bins of a window."
        )


def _about(what: str, bin_s: float | None = None) -> str:
    exact = "" if bin_s is None else f" Spike times are known to bins of {bin_s:g} s only; within a bin they are even."
    return f"From a Dataset of {what}, written by nwb_lint.{exact}"


def _table(dataset: xr.Dataset, dim: str) -> tuple[pd.DataFrame, Array]:
    """The row of each trial or condition, in the order of time, and the time 0 of each, s."""
    import pandas as pd

    n, bin_s = dataset.sizes[dim], float(dataset.attrs["bin_s"])
    columns = {name: one.values for name, one in columns_of(dataset, dim).items()}
    name = str(dataset.attrs.get("align") or EVENT)
    centers = dataset["time"].values
    low, length = float(centers[0]) - bin_s / 2, bin_s * len(centers)
    found = find_column(dataset, name, dim)
    if dim == "trial" and {"start_time", "stop_time"} & columns.keys():
        if found is None or found.dtype.kind != "f":
            raise ContractError(
                f"Trials are aligned to {name!r}, which is no column of times of the Dataset, so that their place on "
                f"the clock of start_time is not known. {_DO}"
            )
        origins = found.values.astype(float)
        if (np.diff(np.sort(origins)) < length * (1 - _ROUNDING)).any():
            raise ContractError(
                f"Windows of {length:g} s of different trials overlap, so that a spike would be in several of them. "
                f"{_DO}"
            )
    else:
        origins = max(0.0, -low) + (length + _GAP_S) * np.arange(n)
        columns["start_time"] = origins + min(low, 0.0)
        columns["stop_time"] = origins + max(low + length, 0.0)
        columns[name if name.isidentifier() else EVENT] = origins
    if dim == "condition":
        columns["n_trials"] = dataset["n_trials"].max("neuron").values
    labels = plain_ids(dataset[dim].values)
    return pd.DataFrame(columns, index=labels if dim == "trial" and labels.dtype.kind == "i" else None), origins


def _units(dataset: xr.Dataset, times: list[Array]) -> Spikes:
    labels = dataset["neuron"].values.astype(str)
    ids = plain_ids(dataset["unit_id"].values if "unit_id" in dataset.variables else labels)
    columns = {name: one.values for name, one in columns_of(dataset, "neuron").items() if name not in _OF_READING}
    if ids.dtype.kind != "i" or len(set(ids.tolist())) < len(ids):
        ids = np.arange(len(labels))
    if (labels != ids.astype(str)).any():
        columns["unit_name"] = labels
    return Spikes(times, ids, columns)


def _spread(counts: Array, edges: Array, bin_s: float) -> Array:
    """Times of spikes with even distances in each bin, from counts (trial, time) and edges (trial, bin edge)."""
    trial, at = np.nonzero(counts)
    number = counts[trial, at].astype(np.int64)
    first = np.repeat(np.cumsum(number) - number, number)
    place = (np.arange(number.sum()) - first + 0.5) / np.repeat(number, number)
    return np.sort(np.repeat(edges[trial, at], number) + bin_s * place)


def _intervals(seen: Array, edges: Array) -> Array:
    """Intervals (interval, 2) of successive bins that were observed, from bools (trial, time)."""
    steps = np.diff(np.pad(seen.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (trial, start), (_, stop) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    found = np.stack([edges[trial, start], edges[trial, stop]], axis=1)
    return found[np.argsort(found[:, 0], kind="stable")]


def _series(dataset: xr.Dataset, dim: str, edges: Array) -> dict[str, Samples]:
    """The time series of rates, and of the means of two halves."""
    centers = ((edges[:, :-1] + edges[:, 1:]) / 2).ravel()
    order = np.argsort(centers, kind="stable")
    unit = str(dataset["rate"].attrs.get("units") or "a.u.")

    def samples(values: xr.DataArray) -> Samples:
        flat: Any = values.transpose(dim, "time", "neuron").values.reshape(len(centers), -1)
        return Samples(centers[order], flat[order], unit)

    found = {"rate": samples(dataset["rate"])}
    if "rate_half" in dataset:
        found |= {f"rate_half_{half + 1}": samples(dataset["rate_half"].isel(half=half)) for half in (0, 1)}
    return found
