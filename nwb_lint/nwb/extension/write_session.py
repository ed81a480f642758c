"""Spike times or sampled activity, and a table of trials → an NWB file: simulated sessions, and recordings."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError, NWBError
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

    | name | dims | |
    |---|---|---|
    | times | time | s, ascending |
    | values | time, neuron | NaN = not observed |
    | unit | | of the values; NWB has "a.u." where there is none |
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
    """Write one session to a new NWB file; the path appears when the file is whole and on disk.

    | argument | |
    |---|---|
    | spike_times | one sorted array per unit, s; none where there are ``series`` |
    | trials | DataFrame with start_time, stop_time (s) and any columns of numbers, bools or texts |
    | unit_columns | name → one value per unit |
    | obs_intervals | one array (interval, 2) of observed times per unit, s |
    | unit_ids | distinct whole numbers; 0, 1, … by default |
    | descriptions | column of either table → what it holds |
    | subject | subject_id, species, sex, age, …; `SUBJECT` by default |
    | location | brain region of the electrodes, one per unit; "root" is all of the brain in the Allen atlas |
    | resolution_s | least difference between two spike times, s |
    | series | name → `Samples`: TimeSeries in the module ``ecephys``, for ``series=`` of `read_conditions` |

    Raises: ContractError where the arrays do not suit each other; NWBError where the file is there already
    (``overwrite=True`` replaces it) or cannot be written.

    Example:
        >>> import pandas as pd
        >>> trials = pd.DataFrame({"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0]})
        >>> write_session("new.nwb", [np.array([0.1, 2.5])], trials)
        PosixPath('new.nwb')
    """
    import pynwb

    target = Path(path)
    if target.exists() and not overwrite:
        raise NWBError(f"{target} is there already; pass overwrite=True to replace it, or another path.")
    spikes = [np.asarray(times, float) for times in spike_times]
    ids = list(range(len(spikes))) if unit_ids is None else [int(unit) for unit in unit_ids]
    columns = {name: column(name, values) for name, values in (unit_columns or {}).items()}
    sampled = dict(series or {})
    if spikes or not sampled:
        _check_units(spikes, ids, columns, obs_intervals)
    for name, samples in sampled.items():
        _check_samples(name, samples)
    table = _trial_columns(trials)
    told = dict(descriptions or {})
    nwbfile = pynwb.NWBFile(
        session_description=description,
        identifier=_identifier(session_id, [*spikes, *(part for one in sampled.values() for part in one[:2])], table),
        session_start_time=session_start_time,
        session_id=session_id,
        subject=make_subject(dict(SUBJECT if subject is None else subject)),
        keywords=list(keywords),
    )
    _add_trials(nwbfile, table, told)
    if spikes:
        _add_units(nwbfile, spikes, ids, columns, obs_intervals, told, location, resolution_s)
    _add_series(nwbfile, sampled, told)

    def write(temporary: Path) -> None:
        with pynwb.NWBHDF5IO(str(temporary), "w") as io:
            io.write(nwbfile)

    write_atomically(target, write)
    return target


def column(name: str, values: Any) -> Array:
    """A column as numbers, bools or texts; a missing text is 'N/A'.

    Raises: ContractError where it holds anything else.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ContractError(f"column {name} has shape {array.shape}; one value per row is needed.")
    if array.dtype.kind in "biuf":
        return array
    items = array.tolist()
    if all(isinstance(item, bool) for item in items):
        return array.astype(bool)
    texts = ["N/A" if item is None or item != item else item for item in items]
    if not all(isinstance(text, str) for text in texts):
        odd = next(text for text in texts if not isinstance(text, str))
        raise ContractError(f"column {name} holds {odd!r} ({type(odd).__name__}); it needs numbers, bools or texts.")
    return np.array(texts, dtype=str)


def _check_units(
    spikes: list[Array], ids: list[int], columns: dict[str, Array], obs_intervals: Sequence[Array] | None
) -> None:
    if not spikes:
        raise ContractError("spike_times is empty; a session needs at least one unit.")
    for unit, times in zip(ids, spikes, strict=False):
        if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ContractError(f"spike times of unit {unit} are not finite and sorted in one dimension; sort them.")
    if len(ids) != len(spikes) or len(set(ids)) != len(ids):
        raise ContractError(f"unit_ids has {len(set(ids))} distinct ids for {len(spikes)} units; give each its own.")
    for name, values in columns.items():
        if len(values) != len(spikes):
            raise ContractError(f"unit column {name} has {len(values)} values for {len(spikes)} units.")
    if obs_intervals is not None and (
        len(obs_intervals) != len(spikes)
        or any(np.asarray(part).ndim != 2 or np.asarray(part).shape[1] != 2 for part in obs_intervals)
    ):
        raise ContractError("obs_intervals needs one array of shape (interval, 2) per unit.")


def _check_samples(name: str, samples: Samples) -> None:
    times, values = np.asarray(samples.times), np.asarray(samples.values)
    if values.ndim != 2 or times.shape != values.shape[:1] or not values.size:
        raise ContractError(
            f"series {name} has times {times.shape} and values {values.shape}; (time,) and (time, neuron) are needed."
        )
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ContractError(f"times of series {name} are not finite and ascending; sort them.")


def _trial_columns(trials: pd.DataFrame) -> dict[str, Array]:
    lacking = [name for name in _TIMES if name not in trials.columns]
    if lacking or not len(trials):
        found = f"no {' and no '.join(lacking)}" if lacking else "no rows"
        raise ContractError(f"trials has {found}; it needs start_time and stop_time (s) of at least one trial.")
    return {str(name): column(str(name), trials[name].to_numpy()) for name in trials.columns}


def _identifier(session_id: str, arrays: Sequence[Array], table: dict[str, Array]) -> str:
    """An identifier that follows from what is written, so that the same session has the same one."""
    content = hashlib.sha256(session_id.encode())
    for array in (*arrays, *table.values()):
        content.update(np.ascontiguousarray(array).tobytes())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, content.hexdigest()))


def _describe(name: str, values: Array, told: Mapping[str, str]) -> str:
    if name in told or name in _TIMES:
        return told.get(name) or _TIMES[name]
    if values.dtype.kind == "f" and "time" in name:
        return f"Time of {name.replace('_time', '').replace('_', ' ').strip() or 'the event'}, in s."
    what = {"b": "Whether", "U": "Label:", "i": "Number:", "u": "Number:"}.get(values.dtype.kind, "Value:")
    return f"{what} {name.replace('_', ' ')}."


def _data(values: Array) -> Any:
    return values.tolist() if values.dtype.kind == "U" else values


def _add_trials(nwbfile: Any, table: dict[str, Array], told: Mapping[str, str]) -> None:
    from hdmf.common import VectorData
    from pynwb.epoch import TimeIntervals

    order = [*_TIMES, *(name for name in table if name not in _TIMES)]
    nwbfile.trials = TimeIntervals(
        name="trials",
        description="The trials of the session, one per row.",
        columns=[
            VectorData(name=name, description=_describe(name, table[name], told), data=_data(table[name]))
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
    told: Mapping[str, str],
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
        parts.append(VectorData(name=name, description=_describe(name, values, told), data=_data(values)))
    # whole columns at once: hdmf takes half a minute to append 5 million spikes unit by unit
    nwbfile.units = Units(
        name="units",
        description="Sorted units.",
        id=ElementIdentifiers(name="id", data=ids),
        columns=parts,
        colnames=[part.name for part in parts if not isinstance(part, VectorIndex)],
        resolution=resolution_s,
    )


def _add_series(nwbfile: Any, sampled: Mapping[str, Samples], told: Mapping[str, str]) -> None:
    from pynwb import TimeSeries

    if not sampled:
        return
    module = nwbfile.create_processing_module(name="ecephys", description="Activity of neurons, sampled.")
    for name, samples in sampled.items():
        description = told.get(name, "Activity of one neuron per column.")
        values, times = np.asarray(samples.values), np.asarray(samples.times, float)
        module.add(TimeSeries(name=name, description=description, data=values, timestamps=times, unit=samples.unit))
