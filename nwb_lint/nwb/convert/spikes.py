"""Spikes and trials as users have them → one array of times for each unit, and one table of trials.

`as_spikes` takes a dict, a table of unit and time, a list of arrays, a TsGroup of pynapple, or a sorting of
SpikeInterface. `as_trials` takes a DataFrame, a dict of columns, or an IntervalSet of pynapple. Neither package is
imported here: an object of theirs is known by its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.contract import class_names
from nwb_lint.errors import ContractError
from nwb_lint.nwb.recording.unit_tables import plain_ids

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


class Spikes(NamedTuple):
    """Spike times of units.

    Attributes
    ----------
    times : list of array
        Times of the spikes of each unit, s.
    ids : array
        Id of each unit: whole numbers, or texts.
    columns : dict of str to array
        Columns of the units.
    observed : array of shape (interval, 2), or None
        When all units were observed, s; None where nobody knows.
    """

    times: list[Array]
    ids: Array
    columns: dict[str, Any]
    observed: Array | None = None


def as_spikes(spike_times: Any) -> Spikes:
    """The spikes of any object that holds spike times of units.

    Parameters
    ----------
    spike_times : mapping, pandas.DataFrame, sequence of array, pynapple.TsGroup, or spikeinterface sorting
        Times of each unit by id; a row for each spike with its ``unit`` and ``time``; or one array for each unit.

    Returns
    -------
    Spikes
        Units in the order of the object; those of a table in the order of their ids.

    Raises
    ------
    ContractError
        If it is anything else, or times are no numbers.
    """
    names = class_names(spike_times)
    if ("pynapple", "TsGroup") in names:
        return _of_tsgroup(spike_times)
    if ("spikeinterface", "BaseSorting") in names:
        return of_sorting(spike_times)
    if ("pandas", "DataFrame") in names:
        return _of_table(spike_times)
    if isinstance(spike_times, Mapping):
        ids = plain_ids(np.asarray([_id(key) for key in spike_times]))
        return Spikes([_times(one, unit) for unit, one in spike_times.items()], ids, {})
    if isinstance(spike_times, Sequence) and not isinstance(spike_times, str):
        found = [_times(one, unit) for unit, one in enumerate(spike_times)]
        return Spikes(found, np.arange(len(found)), {})
    if isinstance(spike_times, np.ndarray) and spike_times.dtype == object:
        return as_spikes(spike_times.tolist())
    raise ContractError(
        f"spike_times is a {type(spike_times).__name__}. It needs to be a dict of unit and times, a table with the "
        "columns unit and time, or a list with an array for each unit. Pass one of them."
    )


def _id(key: Any) -> Any:
    return key if isinstance(key, str | int | np.integer) and not isinstance(key, bool) else str(key)


def _times(values: Any, unit: object) -> Array:
    """Times of one unit as numbers; those of pynapple are in their ``t``."""
    try:
        times = np.asarray(getattr(values, "t", values), float)
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"Spike times of unit {unit} are {type(values).__name__} and no numbers. Times in seconds are needed. "
            "Convert them."
        ) from error
    if times.ndim != 1:
        raise ContractError(
            f"Spike times of unit {unit} have shape {times.shape}. One array of times (s) is needed for each unit. "
            "Pass a dict or a list with one array for each unit."
        )
    return times


def _of_table(table: pd.DataFrame) -> Spikes:
    lacking = [name for name in ("unit", "time") if name not in table.columns]
    if lacking:
        raise ContractError(
            f"The table of spikes has no column {' and no column '.join(lacking)}. It has "
            f"{', '.join(map(str, table.columns)) or 'no columns'}. Rename them: unit is an id, time is in s."
        )
    ids, row = np.unique(table["unit"].to_numpy(), return_inverse=True)
    times = _times(table["time"].to_numpy(), "of the table")
    order = np.lexsort((times, row))
    ends = np.cumsum(np.bincount(row, minlength=len(ids)))
    return Spikes(np.split(times[order], ends[:-1]) if len(ids) else [], plain_ids(ids), {})


def _of_tsgroup(group: Any) -> Spikes:
    """A TsGroup of pynapple, with its metadata; its time support, where it is more than the first and last spike."""
    times = [np.asarray(group[key].t, float) for key in group.index]
    table = group.metadata
    columns = {str(name): table[name].to_numpy() for name in table.columns if name != "rate"}
    support = np.stack([group.time_support.start, group.time_support.end], axis=1)
    every = np.concatenate(times) if times else np.zeros(0)
    by_itself = len(support) == 1 and every.size and (support[0] == [every.min(), every.max()]).all()
    return Spikes(times, plain_ids(np.asarray(group.index)), columns, None if by_itself else support)


def of_sorting(sorting: Any, segment: int | None = None) -> Spikes:
    """A sorting of SpikeInterface, with the properties of its units that have one value each.

    Parameters
    ----------
    sorting : spikeinterface.BaseSorting
        Any sorting.
    segment : int or None, default=None
        Which of its segments; None takes the only one.

    Returns
    -------
    Spikes

    Raises
    ------
    ContractError
        If it has several segments and none is chosen.
    """
    n = sorting.get_num_segments()
    if segment is None and n > 1:
        raise ContractError(
            f"The sorting has {n} segments, each with a clock of its own. One is needed. Pass segment=0 or another."
        )
    if segment is not None and not 0 <= segment < n:
        raise ContractError(f"segment is {segment}. The sorting has {n}. Pass a number from 0 to {n - 1}.")
    index = 0 if segment is None else segment
    ids = list(sorting.get_unit_ids())
    times = [np.asarray(sorting.get_unit_spike_train(unit, segment_index=index, return_times=True)) for unit in ids]
    values = {str(name): np.asarray(sorting.get_property(name)) for name in sorting.get_property_keys()}
    columns = {name: value for name, value in values.items() if value.ndim == 1}
    return Spikes([np.sort(one.astype(float)) for one in times], plain_ids(np.asarray(ids)), columns)


def as_trials(trials: Any) -> pd.DataFrame:
    """The table of trials of any object that holds one.

    Parameters
    ----------
    trials : pandas.DataFrame, mapping of columns, pynapple.IntervalSet, or table of pynwb
        A row for each trial. The metadata of an IntervalSet are columns.

    Returns
    -------
    pandas.DataFrame
        With ``start_time`` and ``stop_time``, s.

    Raises
    ------
    ContractError
        If it is anything else, or lacks ``start_time`` or ``stop_time``.
    """
    import pandas as pd

    if ("pynapple", "IntervalSet") in class_names(trials):
        table = trials.as_dataframe().rename(columns={"start": "start_time", "end": "stop_time"})
    elif ("hdmf", "DynamicTable") in class_names(trials):
        table = trials.to_dataframe()
    elif isinstance(trials, pd.DataFrame):
        table = trials
    elif isinstance(trials, Mapping):
        table = frame_of(trials)
    else:
        raise ContractError(
            f"trials is a {type(trials).__name__}. It needs to be a table with a row for each trial: a "
            "pandas.DataFrame, or a dict of columns. Pass one."
        )
    lacking = [name for name in ("start_time", "stop_time") if name not in table.columns]
    if lacking or not len(table):
        found = f"no {' and no '.join(lacking)}" if lacking else "no rows"
        raise ContractError(f"trials has {found}. It needs start_time and stop_time (s) of at least one trial. Add it.")
    return table


def frame_of(columns: pd.DataFrame | Mapping[Any, Any], what: str = "trials") -> pd.DataFrame:
    """A table as it is, or of a mapping of columns; ContractError where these differ in length."""
    import pandas as pd

    if isinstance(columns, pd.DataFrame):
        return columns
    try:
        return pd.DataFrame(dict(columns))
    except ValueError as error:
        raise ContractError(f"{what} cannot be a table: {error}. It needs columns of one length. Change it.") from error


def unit_frame(neurons: Any, spikes: Spikes) -> tuple[Spikes, dict[str, Array]]:
    """Units and their columns, from what a user says of the neurons.

    Parameters
    ----------
    neurons : pandas.DataFrame, mapping of columns, sequence of labels, or None
        Columns of the units. A DataFrame whose index has all ids of the units says their order, and may have units
        without spikes; all others have a row for each unit, in their order.
    spikes : Spikes
        The units.

    Returns
    -------
    tuple of Spikes and dict
        The units in the order of ``neurons``, and all their columns.

    Raises
    ------
    ContractError
        If there is not one row for each unit.
    """
    import pandas as pd

    if neurons is None:
        return spikes, dict(spikes.columns)
    table = frame_of(neurons, "neurons")
    by_id = not isinstance(table.index, pd.RangeIndex) and table.index.is_unique
    index = plain_ids(table.index.to_numpy()) if by_id else spikes.ids
    row_of = {unit: row for row, unit in enumerate(spikes.ids.tolist())}
    if by_id and set(row_of) <= set(index.tolist()):
        empty: Array = np.zeros(0)
        rows = [row_of.get(unit) for unit in index.tolist()]
        times = [empty if row is None else spikes.times[row] for row in rows]
        if all(row is not None for row in rows):
            kept = {name: np.asarray(values)[rows] for name, values in spikes.columns.items()}  # type: ignore[index]
        else:
            kept = {}
        spikes = Spikes(times, index, kept, spikes.observed)
    elif len(table) != len(spikes.ids):
        raise ContractError(
            f"neurons has {len(table)} rows for {len(spikes.ids)} units. Each unit needs one. Or give it the ids of "
            "the units as index."
        )
    return spikes, spikes.columns | {str(name): table[name].to_numpy() for name in table.columns}


def observed_of(obs_intervals: Any, spikes: Spikes) -> list[Array] | None:
    """When each unit was observed: one array (interval, 2) for each unit, s; None where nobody knows.

    Parameters
    ----------
    obs_intervals : array of shape (interval, 2), mapping by id, sequence of such arrays, or None
        None takes those that the spikes have.
    spikes : Spikes
        The units.

    Returns
    -------
    list of array, or None

    Raises
    ------
    ContractError
        If there are not intervals for each unit.
    """
    n = len(spikes.ids)
    if obs_intervals is None:
        return None if spikes.observed is None else [spikes.observed] * n
    if isinstance(obs_intervals, Mapping):
        of = {str(key): value for key, value in obs_intervals.items()}
        lacking = [unit for unit in spikes.ids.tolist() if str(unit) not in of]
        if lacking:
            raise ContractError(
                f"obs_intervals lacks unit {lacking[0]}. Every unit needs its intervals (start, stop), s. Add it."
            )
        obs_intervals = [of[str(unit)] for unit in spikes.ids.tolist()]
    array = obs_intervals if isinstance(obs_intervals, np.ndarray) else None
    if array is not None and array.ndim == 2 and array.shape[1] == 2:
        return [array.astype(float)] * n
    return [np.asarray(part, float) for part in obs_intervals]


def with_whole_ids(spikes: Spikes) -> Spikes:
    """The spikes with ids that NWB can hold: texts become the column ``unit_name``, and 0, 1, … are the ids."""
    if spikes.ids.dtype.kind == "i":
        return spikes
    return spikes._replace(ids=np.arange(len(spikes.ids)), columns={"unit_name": spikes.ids} | spikes.columns)
