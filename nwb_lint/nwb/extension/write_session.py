"""Write a session to NWB: `write_session`, from spike times or sampled activity and a table of trials."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.unit_tables import plain_ids
from nwb_lint.nwb.storage.atomic import write_atomically
from nwb_lint.nwb.storage.metadata import make_subject

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

SUBJECT = {
    "subject_id": "simulated",
    "species": "Mus musculus",
    "sex": "U",
    "age": "P90D",
    "description": "No animal: the session is simulated.",
}
_START = datetime(2026, 1, 1, tzinfo=UTC)
_UNIT_TIMES = {
    "spike_times": "Spike times of the unit, in s.",
    "obs_intervals": "When the unit was observed: start and stop, in s.",
}
_TIMES = {
    "start_time": "Start of the trial, in s.",
    "stop_time": "End of the trial, in s.",
}


class Samples(NamedTuple):
    """Activity of neurons as a time series.

    Attributes
    ----------
    times : array of shape (time,)
        Times of the samples, s, ascending.
    values : array of shape (time, neuron)
        The activity; NaN = not observed.
    unit : str, default="a.u."
        Unit of the values.
    """

    times: Array
    values: Array
    unit: str = "a.u."


def write_session(
    path: str | Path,
    spike_times: Sequence[Array],
    trials: pd.DataFrame,
    *,
    unit_columns: Mapping[str, Any] | None = None,
    obs_intervals: Sequence[Array] | None = None,
    unit_ids: Sequence[int] | None = None,
    descriptions: Mapping[str, str] | None = None,
    description: str = "Sorted units and trials, written by nwb_lint.",
    session_id: str = "session",
    subject: Mapping[str, Any] | None = None,
    session_start_time: datetime = _START,
    keywords: Sequence[str] = ("extracellular electrophysiology", "sorted units"),
    location: str = "root",
    resolution_s: float = 1e-9,
    series: Mapping[str, Samples] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one session to a new NWB file, from spike times and a table of trials.

    The file is complete when its path appears.

    Parameters
    ----------
    path : path
        The file to write, HDF5.
    spike_times : sequence of array
        One sorted array for each unit, s. Empty for a session that has only ``series``.
    trials : pandas.DataFrame
        One row for each trial: ``start_time`` and ``stop_time`` (s), and any columns of numbers, bools or texts.
    unit_columns : mapping of str to sequence, or None, default=None
        Further columns of the units table, by name: one value for each unit.
    obs_intervals : sequence of array, or None, default=None
        When each unit was observed: one array of shape (interval, 2) for each unit, s. None writes none.
    unit_ids : sequence of int, or None, default=None
        Id of each unit, all different. None numbers them from 0.
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
    series : mapping of str to Samples, or None, default=None
        Time series of activity by name. They go to the module ``ecephys``; `read_conditions` reads them with
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
        If arrays do not suit each other, or a column holds anything but numbers, bools and texts.
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
    spikes = [np.asarray(times, float) for times in spike_times]
    ids = list(range(len(spikes))) if unit_ids is None else _whole_ids(unit_ids)
    columns = {name: column(name, values) for name, values in (unit_columns or {}).items()}
    sampled = dict(series or {})
    if spikes or not sampled:
        _check_units(spikes, ids, columns, obs_intervals)
    for name, samples in sampled.items():
        _check_samples(name, samples)
    table = _trial_columns(trials)
    docs = dict(descriptions or {})
    nwbfile = pynwb.NWBFile(
        session_description=description,
        identifier=_identifier(session_id, [*spikes, *(part for one in sampled.values() for part in one[:2])], table),
        session_start_time=session_start_time,
        session_id=session_id,
        subject=make_subject(dict(SUBJECT if subject is None else subject)),
        keywords=list(keywords),
    )
    _add_trials(nwbfile, table, docs)
    if spikes:
        _add_units(nwbfile, spikes, ids, columns, obs_intervals, docs, location, resolution_s)
    _add_series(nwbfile, sampled, docs)

    def write(temporary: Path) -> None:
        with pynwb.NWBHDF5IO(str(temporary), "w") as io:
            io.write(nwbfile)

    write_atomically(target, write)
    return target


def _whole_ids(unit_ids: Sequence[Any]) -> list[int]:
    ids = plain_ids(np.asarray(unit_ids))
    if ids.dtype.kind != "i":
        raise ContractError(
            f"unit_ids holds {ids[0]!s}. Ids of NWB are whole numbers. Write such names as a column: "
            "unit_columns={'label': …}."
        )
    return ids.tolist()


def column(name: str, values: Any) -> Array:
    """A column as numbers, bools or texts, a missing text as 'N/A'; ContractError where it holds anything else."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ContractError(f"Column {name} has shape {array.shape}. It needs one value for each row.")
    if array.dtype.kind in "biuf":
        return array
    items = array.tolist()
    if all(isinstance(item, bool) for item in items):
        return array.astype(bool)
    texts = ["N/A" if item is None or item != item else item for item in items]
    if not all(isinstance(text, str) for text in texts):
        odd = next(text for text in texts if not isinstance(text, str))
        raise ContractError(f"Column {name} holds {odd!r} ({type(odd).__name__}). It needs numbers, bools or texts.")
    return np.array(texts, dtype=str)


def _check_units(
    spikes: list[Array], ids: list[int], columns: dict[str, Array], obs_intervals: Sequence[Array] | None
) -> None:
    if not spikes:
        raise ContractError("spike_times is empty. A session needs at least one unit, or series=.")
    for unit, times in zip(ids, spikes, strict=False):
        if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ContractError(f"Spike times of unit {unit} are not finite and sorted in one dimension. Sort them.")
    if len(ids) != len(spikes) or len(set(ids)) != len(ids):
        raise ContractError(
            f"unit_ids has {len(set(ids))} different ids for {len(spikes)} units. Each unit needs its own."
        )
    for name, values in columns.items():
        if len(values) != len(spikes):
            raise ContractError(
                f"Unit column {name} has {len(values)} values for {len(spikes)} units. Each unit needs one."
            )
    if obs_intervals is not None and (
        len(obs_intervals) != len(spikes)
        or any(np.asarray(part).ndim != 2 or np.asarray(part).shape[1] != 2 for part in obs_intervals)
    ):
        raise ContractError("obs_intervals needs one array of shape (interval, 2) for each unit.")


def _check_samples(name: str, samples: Samples) -> None:
    times, values = np.asarray(samples.times), np.asarray(samples.values)
    if values.ndim != 2 or times.shape != values.shape[:1] or not values.size:
        raise ContractError(
            f"Series {name} has times {times.shape} and values {values.shape}. It needs (time,) and (time, neuron)."
        )
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ContractError(f"Times of series {name} are not finite and ascending. Sort them.")


def _trial_columns(trials: pd.DataFrame) -> dict[str, Array]:
    lacking = [name for name in _TIMES if name not in trials.columns]
    if lacking or not len(trials):
        found = f"no {' and no '.join(lacking)}" if lacking else "no rows"
        raise ContractError(f"trials has {found}. It needs start_time and stop_time (s) of at least one trial.")
    return {str(name): column(str(name), trials[name].to_numpy()) for name in trials.columns}


def _identifier(session_id: str, arrays: Sequence[Array], table: dict[str, Array]) -> str:
    """An identifier computed from what is written: the same session has the same one."""
    content = hashlib.sha256(session_id.encode())
    for array in (*arrays, *table.values()):
        content.update(np.ascontiguousarray(array).tobytes())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, content.hexdigest()))


def _describe(name: str, values: Array, docs: Mapping[str, str]) -> str:
    if name in docs or name in _TIMES:
        return docs.get(name) or _TIMES[name]
    if values.dtype.kind == "f" and "time" in name:
        return f"Time of {name.replace('_time', '').replace('_', ' ').strip() or 'the event'}, in s."
    what = {"b": "Whether", "U": "Label:", "i": "Number:", "u": "Number:"}.get(values.dtype.kind, "Value:")
    return f"{what} {name.replace('_', ' ')}."


def _as_hdmf(values: Array) -> Any:
    return values.tolist() if values.dtype.kind == "U" else values


def _add_trials(nwbfile: Any, table: dict[str, Array], docs: Mapping[str, str]) -> None:
    from hdmf.common import VectorData
    from pynwb.epoch import TimeIntervals

    order = [*_TIMES, *(name for name in table if name not in _TIMES)]
    nwbfile.trials = TimeIntervals(
        name="trials",
        description="The trials of the session, one per row.",
        columns=[
            VectorData(name=name, description=_describe(name, table[name], docs), data=_as_hdmf(table[name]))
            for name in order
        ],
        colnames=order,
    )


def _add_units(
    nwbfile: Any,
    spikes: list[Array],
    ids: list[int],
    columns: dict[str, Array],
    obs_intervals: Sequence[Array] | None,
    docs: Mapping[str, str],
    location: str,
    resolution_s: float,
) -> None:
    """Units, each on an electrode of its own."""
    from hdmf.common import DynamicTableRegion, ElementIdentifiers, VectorData, VectorIndex
    from pynwb.misc import Units

    device = nwbfile.create_device(name="array", description="The electrodes that the units were recorded with.")
    group = nwbfile.create_electrode_group(
        name="electrodes", description="All electrodes of the session.", location=location, device=device
    )
    for _ in spikes:
        nwbfile.add_electrode(group=group, location=location)
    index = np.arange(len(spikes))
    parts: list[Any] = []
    for name, rows in (("spike_times", spikes), ("obs_intervals", obs_intervals)):
        if rows is not None:
            data = np.concatenate([np.asarray(row, float) for row in rows])
            value = VectorData(name=name, description=_UNIT_TIMES[name], data=data)
            ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
            parts += [VectorIndex(name=f"{name}_index", data=ends, target=value), value]
    region = DynamicTableRegion(
        name="electrodes", description="The electrode of the unit.", data=index, table=nwbfile.electrodes
    )
    parts += [VectorIndex(name="electrodes_index", data=index + 1, target=region), region]
    for name, values in columns.items():
        parts.append(VectorData(name=name, description=_describe(name, values, docs), data=_as_hdmf(values)))
    # whole columns at once: hdmf takes half a minute to append 5 million spikes by unit
    nwbfile.units = Units(
        name="units",
        description="Sorted units.",
        id=ElementIdentifiers(name="id", data=ids),
        columns=parts,
        colnames=[part.name for part in parts if not isinstance(part, VectorIndex)],
        resolution=resolution_s,
    )


def _add_series(nwbfile: Any, sampled: Mapping[str, Samples], docs: Mapping[str, str]) -> None:
    from pynwb import TimeSeries

    if not sampled:
        return
    module = nwbfile.create_processing_module(name="ecephys", description="Activity of neurons, sampled.")
    for name, samples in sampled.items():
        description = docs.get(name, "Activity of one neuron per column.")
        values, times = np.asarray(samples.values), np.asarray(samples.times, float)
        module.add(TimeSeries(name=name, description=description, data=values, timestamps=times, unit=samples.unit))
