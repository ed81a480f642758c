"""Spikes, sampled activity and a table of trials → a pynwb NWBFile in memory."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.nwb.convert.spikes import Spikes, as_numbers
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
START = datetime(2026, 1, 1, tzinfo=UTC)
# Columns of units that have another content in NWB.
_OF_UNITS = {
    "id", "spike_times", "obs_intervals", "electrodes", "electrode_group", "waveform_mean", "waveform_sd", "waveforms",
}  # fmt: skip
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


def as_series(series: Mapping[str, Any] | None) -> dict[str, Samples]:
    """Time series by name, from pairs of times and values, or from time series of pynapple.

    Parameters
    ----------
    series : mapping or None
        `Samples`, ``(times, values)``, or objects with ``t`` and ``d``.

    Returns
    -------
    dict of str to Samples

    Raises
    ------
    ContractError
        If one is anything else, or holds no numbers.
    """
    if series is not None and not isinstance(series, Mapping):
        raise ContractError(
            f"series is a {type(series).__name__}. It needs to be a dict: {{name: (times, values)}}. Pass one."
        )
    found = {}
    for name, one in (series or {}).items():
        pair = (one.t, one.d) if hasattr(one, "t") and hasattr(one, "d") else one
        if not isinstance(pair, tuple) or len(pair) not in (2, 3):
            raise ContractError(
                f"Series {name} is a {type(one).__name__}. It needs (times, values), or a Tsd of pynapple. Pass one."
            )
        times, values = map(as_numbers, pair[:2])
        if times is None or values is None:
            raise ContractError(
                f"{'Times' if times is None else 'Values'} of series {name} are no numbers. Times are needed in s. "
                "Convert them."
            )
        found[name] = Samples(times, values, *pair[2:])
    return found


class About(NamedTuple):
    """What a session says about itself: see `nwb_lint.write_session`."""

    description: str = "Sorted units and trials, written by nwb_lint."
    session_id: str = "session"
    subject: Mapping[str, Any] | None = None
    session_start_time: datetime = START
    keywords: Sequence[str] = ("extracellular electrophysiology", "sorted units")
    location: str = "root"
    resolution_s: float = 1e-9
    descriptions: Mapping[str, str] | None = None


class Lists(NamedTuple):
    """A column with any number of values for each row: the values, and where each row ends."""

    values: Array
    ends: Array


Columns = Mapping[str, Array | Lists]


def session_file(
    spikes: Spikes,
    trials: pd.DataFrame,
    *,
    obs_intervals: Sequence[Array] | None = None,
    series: Mapping[str, Samples] | None = None,
    about: About | None = None,
) -> Any:
    """The NWBFile of a session. The same content has the same identifier.

    Parameters
    ----------
    spikes : Spikes
        Units with their columns; ids are whole numbers.
    trials : pandas.DataFrame
        From `nwb_lint.nwb.convert.spikes.as_trials`. An index of different whole numbers is the ids of the trials.
    obs_intervals : sequence of array, or None, default=None
        When each unit was observed: one array of shape (interval, 2) for each unit, s.
    series : mapping of str to Samples, or None, default=None
        Time series of activity by name.
    about : About or None, default=None
        What the session says about itself.

    Returns
    -------
    pynwb.NWBFile

    Raises
    ------
    ContractError
        If arrays do not suit each other, or a column holds anything but numbers, bools and texts.
    """
    import pynwb

    about = about or About()
    columns = {str(name): column(str(name), values) for name, values in spikes.columns.items()}
    sampled = dict(series or {})
    if spikes.times or not sampled:
        _check_units(spikes, columns, obs_intervals)
    for name, samples in sampled.items():
        _check_samples(name, samples)
    table = {str(name): column(str(name), trials[name].to_numpy()) for name in trials.columns if name != "timeseries"}
    _check_trials(table)
    for names, what in ((columns, "Unit column"), (table, "Column"), (sampled, "Series")):
        _check_names(names, what)
    docs = dict(about.descriptions or {})
    arrays = [*spikes.times, *(part for one in sampled.values() for part in one[:2])]
    nwbfile = pynwb.NWBFile(
        session_description=about.description,
        identifier=_identifier(about.session_id, arrays, table),
        session_start_time=about.session_start_time,
        session_id=about.session_id,
        subject=make_subject(dict(SUBJECT if about.subject is None else about.subject)),
        keywords=list(about.keywords),
    )
    _add_trials(nwbfile, table, _row_ids(trials), docs)
    if spikes.times:
        _add_units(nwbfile, spikes._replace(columns=columns), obs_intervals, about)
    _add_series(nwbfile, sampled, docs)
    return nwbfile


def column(name: str, values: Any) -> Array | Lists:
    """A column as numbers, bools, texts, or lists of them; a missing text is 'N/A', a missing number NaN.

    Raises: ContractError where it holds anything else.
    """
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim != 1:
        raise ContractError(f"Column {name} has shape {array.shape}. It needs one value for each row.")
    if array.dtype.kind in "mM":
        raise ContractError(
            f"Column {name} holds {array.dtype}. It needs numbers, bools or texts; times in s. Convert it, for example "
            "by .dt.total_seconds()."
        )
    if array.dtype.kind in "biuf":
        return array
    items = array.tolist()
    if items and all(isinstance(item, list | tuple | np.ndarray) and np.ndim(item) == 1 for item in items):
        parts = [column(name, item) for item in map(np.asarray, items)]
        filled = [part for part in parts if isinstance(part, np.ndarray) and len(part)] or [np.zeros(0)]
        return Lists(np.concatenate(filled), np.cumsum([len(item) for item in items], dtype=np.int64))
    if all(isinstance(item, bool) for item in items):
        return array.astype(bool)
    lacks = [item is None or item != item or type(item).__name__ == "NAType" for item in items]
    if any(isinstance(item, int | float) for item in items):
        numbers = [np.nan if lack else item for item, lack in zip(items, lacks, strict=True)]
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
            return np.array(numbers, float)
    texts = ["N/A" if lack else item for item, lack in zip(items, lacks, strict=True)]
    if not all(isinstance(text, str) for text in texts):
        odd = next(text for text in texts if not isinstance(text, str))
        more = len({type(text) for text in texts}) > 1
        raise ContractError(
            f"Column {name} holds {odd!r} ({type(odd).__name__}){' and other kinds of values' * more}. It needs "
            "numbers, bools or texts alone. Convert it."
        )
    return np.array(texts, dtype=str)


def _row_ids(trials: pd.DataFrame) -> list[int]:
    """The index of a table, where it is different whole numbers; otherwise 0, 1, …"""
    index = trials.index
    return index.tolist() if index.dtype.kind in "iu" and index.is_unique else list(range(len(trials)))


def _check_units(spikes: Spikes, columns: Columns, obs_intervals: Sequence[Array] | None) -> None:
    ids, n = spikes.ids.tolist(), len(spikes.times)
    if not n:
        raise ContractError("spike_times is empty. A session needs at least one unit, or series=.")
    for unit, times in zip(ids, spikes.times, strict=False):
        if unknown := int((~np.isfinite(times)).sum()):
            raise ContractError(
                f"{unknown} of {len(times)} spike times of unit {unit} are not finite. Numbers in s are needed. Leave "
                "the others out."
            )
        if (np.diff(times) < 0).any():
            raise ContractError(f"Spike times of unit {unit} are not sorted. Rising times are needed. Sort them.")
    if len(ids) != n or len(set(ids)) != n:
        raise ContractError(f"unit_ids has {len(set(ids))} different ids for {n} units. Each unit needs its own.")
    for name, values in columns.items():
        found = len(values.ends if isinstance(values, Lists) else values)
        if found != n:
            raise ContractError(f"Unit column {name} has {found} values for {n} units. Each unit needs one.")
    if taken := _OF_UNITS & columns.keys():
        raise ContractError(
            f"There is a unit column {min(taken)}. NWB has this name for something else. Rename it, or leave it out."
        )


def _check_trials(table: Columns) -> None:
    for name in _TIMES:
        if isinstance(table[name], Lists) or table[name].dtype.kind not in "iuf":  # type: ignore[union-attr]
            raise ContractError(f"{name} of trials holds no numbers. It needs times in s. Convert it.")
    if "tags" in table and not isinstance(table["tags"], Lists):
        raise ContractError("The column tags of trials needs a list of texts for each trial in NWB. Rename it.")


def _check_names(names: Mapping[str, Any], what: str) -> None:
    """Raise ContractError for a name that NWB cannot hold, or that it has for the index of a column."""
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or ":" in name:
            raise ContractError(
                f"{what} {name!r} has a name that NWB cannot hold. A text without / and : is needed. Rename it."
            )
        if name.endswith("_index") and name.removesuffix("_index") in names:
            raise ContractError(
                f"{what} {name} has the name of an index of {name.removesuffix('_index')} in NWB. It needs another "
                "name. Rename it."
            )


def _check_samples(name: str, samples: Samples) -> None:
    times, values = np.asarray(samples.times), np.asarray(samples.values)
    if values.ndim not in (1, 2) or times.shape != values.shape[:1] or not values.size:
        raise ContractError(
            f"Series {name} has times {times.shape} and values {values.shape}. It needs (time,) and (time, neuron)."
        )
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ContractError(f"Times of series {name} are not finite and ascending. Sort them.")


def _identifier(session_id: str, arrays: Sequence[Array], table: Columns) -> str:
    """An identifier computed from what is written: the same session has the same one."""
    content = hashlib.sha256(session_id.encode())
    parts = [part for one in table.values() for part in (one if isinstance(one, Lists) else [one])]
    for array in (*arrays, *parts):
        content.update(np.ascontiguousarray(array).tobytes())
    return str(uuid.uuid5(uuid.NAMESPACE_OID, content.hexdigest()))


def _describe(name: str, column: Array | Lists, docs: Mapping[str, str]) -> str:
    values = column.values if isinstance(column, Lists) else column
    if name in docs or name in _TIMES:
        return docs.get(name) or _TIMES[name]
    if values.dtype.kind == "f" and "time" in name:
        return f"Time of {name.replace('_time', '').replace('_', ' ').strip() or 'the event'}, in s."
    what = {"b": "Whether", "U": "Label:", "i": "Number:", "u": "Number:"}.get(values.dtype.kind, "Value:")
    return f"{what} {name.replace('_', ' ')}."


def _hdmf_columns(name: str, values: Array | Lists, doc: str) -> list[Any]:
    """A column of hdmf, after the index of its rows if it has lists."""
    from hdmf.common import VectorData, VectorIndex

    stored = values.values if isinstance(values, Lists) else values
    data = VectorData(name=name, description=doc, data=stored.tolist() if stored.dtype.kind == "U" else stored)
    if isinstance(values, Lists):
        return [VectorIndex(name=f"{name}_index", data=values.ends, target=data), data]
    return [data]


def _add_trials(nwbfile: Any, table: Columns, ids: list[int], docs: Mapping[str, str]) -> None:
    from hdmf.common import ElementIdentifiers
    from pynwb.epoch import TimeIntervals

    order = [*_TIMES, *(name for name in table if name not in _TIMES)]
    nwbfile.trials = TimeIntervals(
        name="trials",
        description="The trials of the session, one per row.",
        id=ElementIdentifiers(name="id", data=ids),
        columns=[one for name in order for one in _hdmf_columns(name, table[name], _describe(name, table[name], docs))],
        colnames=order,
    )


def _add_units(nwbfile: Any, spikes: Spikes, obs_intervals: Sequence[Array] | None, about: About) -> None:
    """Units, each on an electrode of its own."""
    from hdmf.common import DynamicTableRegion, ElementIdentifiers, VectorIndex
    from pynwb.misc import Units

    docs, n = dict(about.descriptions or {}), len(spikes.times)
    device = nwbfile.create_device(name="array", description="The electrodes that the units were recorded with.")
    group = nwbfile.create_electrode_group(
        name="electrodes", description="All electrodes of the session.", location=about.location, device=device
    )
    for _ in range(n):
        nwbfile.add_electrode(group=group, location=about.location)
    parts: list[Any] = []
    for name, rows in (("spike_times", spikes.times), ("obs_intervals", obs_intervals)):
        if rows is not None:
            data = np.concatenate([np.asarray(row, float) for row in rows])
            ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
            parts += _hdmf_columns(name, Lists(data, ends), docs.get(name, _UNIT_TIMES[name]))
    index = np.arange(n)
    region = DynamicTableRegion(
        name="electrodes", description="The electrode of the unit.", data=index, table=nwbfile.electrodes
    )
    parts += [VectorIndex(name="electrodes_index", data=index + 1, target=region), region]
    for name, values in spikes.columns.items():
        parts += _hdmf_columns(name, values, _describe(name, values, docs))
    # whole columns at once: hdmf takes half a minute to append 5 million spikes by unit
    nwbfile.units = Units(
        name="units",
        description="Sorted units.",
        id=ElementIdentifiers(name="id", data=spikes.ids.tolist()),
        columns=parts,
        colnames=[part.name for part in parts if not isinstance(part, VectorIndex)],
        resolution=about.resolution_s,
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
