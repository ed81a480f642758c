"""Write a session to NWB: `write_session`, from spikes, sampled activity or a Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.convert.datasets import session_of
from nwb_lint.nwb.convert.session import START, About, Samples, as_series, session_file
from nwb_lint.nwb.convert.spikes import as_spikes, as_trials, observed_of, with_whole_ids
from nwb_lint.nwb.recording.unit_tables import plain_ids
from nwb_lint.nwb.storage.atomic import write_atomically

__all__ = ["Samples", "write_session"]

Array = np.ndarray


def write_session(
    path: str | Path,
    spike_times: Any,
    trials: Any = None,
    *,
    unit_columns: Mapping[str, Any] | None = None,
    obs_intervals: Any = None,
    unit_ids: Sequence[int] | None = None,
    descriptions: Mapping[str, str] | None = None,
    description: str = "Sorted units and trials, written by nwb_lint.",
    session_id: str = "session",
    subject: Mapping[str, Any] | None = None,
    session_start_time: datetime = START,
    keywords: Sequence[str] = ("extracellular electrophysiology", "sorted units"),
    location: str = "root",
    resolution_s: float = 1e-9,
    series: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one session to a new NWB file: spike times and a table of trials, or a Dataset of either reader.

    The file is complete when its path appears. What `from_spikes` makes of spike times and trials is what
    `read_conditions` and `read_trials` read from the file that has them.

    Parameters
    ----------
    path : path
        The file to write, HDF5.
    spike_times : sequence of array, mapping, pandas.DataFrame, TsGroup, sorting, or xarray.Dataset
        Sorted times of each unit, s, in any form that `from_spikes` takes. Ids that are texts become the column
        ``unit_name``. Empty for a session that has only ``series``. Or a Dataset of `from_arrays`, `read_conditions` or
        `read_trials`. Its counts become spikes with even distances in each bin, so that only their bins are exact.
        Its rates become a time series, with a row of the table for each condition or trial; means of halves are two
        more series. Each row has its time 0 in the column that the attribute ``align`` names.
    trials : pandas.DataFrame, mapping, IntervalSet, or None
        One row for each trial: ``start_time`` and ``stop_time`` (s), and any columns of numbers, bools, texts, or lists
        of them. Whole numbers in the index are the ids of the trials. None with a Dataset.
    unit_columns : mapping of str to sequence, or None, default=None
        Further columns of the units table, by name: one value for each unit.
    obs_intervals : array, sequence of array, mapping by id, or None, default=None
        When each unit was observed: one array of shape (interval, 2) for each unit, or one for all, s. None writes
        those of a TsGroup, and else none.
    unit_ids : sequence of int, or None, default=None
        Id of each unit, all different. None takes those of ``spike_times``, or numbers them from 0.
    descriptions : mapping of str to str, or None, default=None
        What columns and series hold, by name.
    description : str
        What the session is.
    session_id : str, default="session"
        Identifier of the session.
    subject : mapping or None, default=None
        Entries of the subject, such as ``subject_id``, ``species``, ``sex`` and ``age``. None says that the session is
        simulated.
    session_start_time : datetime.datetime, default=2026-01-01 UTC
        Time 0 of the session.
    keywords : sequence of str
        Keywords of the file.
    location : str, default="root"
        Brain region of the electrodes. "root" is the whole brain in the Allen atlas.
    resolution_s : float, default=1e-9
        Smallest difference between two spike times, s.
    series : mapping or None, default=None
        Time series of activity or behavior by name: ``(times, values)`` in s, with a unit as third if there is one, or
        time series of pynapple. They go to the module ``ecephys``; `read_conditions` reads them with
        ``series=``.
    overwrite : bool, default=False
        Whether to replace a file that exists.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    ContractError
        If arrays do not suit each other, or a column holds anything but numbers, bools and texts. If windows of the
        trials of a Dataset overlap, so that a spike is in several of them.
    NWBError
        If the file exists already, or cannot be written.

    Examples
    --------
    >>> import pandas as pd
    >>> trials = pd.DataFrame({"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0]})
    >>> write_session("new.nwb", [np.array([0.1, 2.5])], trials)
    PosixPath('new.nwb')
    """
    import pynwb

    target = Path(path)
    if target.exists() and not overwrite:
        raise NWBError(f"{target} exists already. Pass overwrite=True to replace it, or choose another path.")
    about = About(description, session_id, subject, session_start_time, keywords, location, resolution_s, descriptions)
    if isinstance(spike_times, xr.Dataset):
        nwbfile = _of_dataset(spike_times, about, trials, unit_columns, obs_intervals, unit_ids, series)
    else:
        spikes = as_spikes(spike_times)
        if unit_ids is not None:
            spikes = spikes._replace(ids=_whole_ids(unit_ids))
        spikes = with_whole_ids(spikes._replace(columns=spikes.columns | dict(unit_columns or {})))
        observed = observed_of(obs_intervals, spikes)
        nwbfile = session_file(spikes, as_trials(trials), obs_intervals=observed, series=as_series(series), about=about)

    def write(temporary: Path) -> None:
        with pynwb.NWBHDF5IO(str(temporary), "w") as io:
            io.write(nwbfile)

    write_atomically(target, write)
    return target


def _of_dataset(dataset: xr.Dataset, about: About, *others: Any) -> Any:
    """The NWBFile of a recording or of trials, which need no other argument."""
    if any(one is not None for one in others):
        raise ContractError(
            "The Dataset has its trials and units. trials, unit_columns, obs_intervals, unit_ids and series are for "
            "spike times. Leave them out."
        )
    session = session_of(dataset)
    about = about._replace(resolution_s=session.resolution_s or about.resolution_s)
    if about.description == About().description:
        about = about._replace(description=session.description)
    return session_file(
        session.spikes, session.trials, obs_intervals=session.observed, series=session.series, about=about
    )


def _whole_ids(unit_ids: Sequence[Any]) -> Array:
    ids = plain_ids(np.asarray(unit_ids))
    if ids.dtype.kind != "i":
        raise ContractError(
            f"unit_ids holds {ids[0]!s}. Ids of NWB are whole numbers. Write such names as a column: "
            "unit_columns={'unit_name': …}."
        )
    return ids
