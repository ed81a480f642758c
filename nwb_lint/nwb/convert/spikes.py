"""Spikes and trials as users have them → one array of times for each unit, and one table of trials.

`as_spikes` takes a dict, a table of unit and time, a list of arrays, a TsGroup of pynapple, or a sorting of
SpikeInterface. `as_trials` takes a DataFrame, a dict of columns, or an IntervalSet of pynapple. Neither package is
imported here: an object of theirs is known by its class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.contract.checks import class_names
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
        return Spikes([_times(one, unit) for unit, one in spike_times.items()], _ids(spike_times), {})
    if isinstance(spike_times, Sequence) and not isinstance(spike_times, str):
        found = [_times(one, unit) for unit, one in enumerate(spike_times)]
        return Spikes(found, np.arange(len(found)), {})
    if isinstance(spike_times, np.ndarray) and spike_times.dtype == object:
        return as_spikes(spike_times.tolist())
    raise ContractError(
        f"spike_times is a {type(spike_times).__name__}. It needs to be a dict of unit and times, a table with the "
        "columns unit and time, or a list with an array for each unit. Pass one of them."
    )


def as_numbers(values: Any) -> Array | None:
    """Values as float64, masked ones as NaN.

    Parameters
    ----------
    values : array_like
        Anything that numpy can make an array of.

    Returns
    -------
    array or None
        None where they are no real numbers: also for durations and dates, whose numbers are not in s.

    Examples
    --------
    >>> as_numbers([1, 2]).tolist(), as_numbers(np.array([1, 2], "timedelta64[ms]"))
    ([1.0, 2.0], None)
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)
    try:
        array = np.asarray(values)
        return None if array.dtype.kind in "mMc" else np.asarray(values if array.dtype.kind == "O" else array, float)
    except (TypeError, ValueError):
        return None


def _ids(keys: Iterable[Any]) -> Array:
    """Ids of units: numbers and texts as they are, anything else as a text."""
    plain = str | int | float | np.integer | np.floating
    kept = [key if isinstance(key, plain) and not isinstance(key, bool) else str(key) for key in keys]
    return plain_ids(np.asarray(kept))


def _times(values: Any, unit: object) -> Array:
    """Times of one unit as numbers; those of pynapple are in their ``t``."""
    times = as_numbers(getattr(values, "t", values))
    if times is None:
        raise ContractError(
            f"Spike times of unit {unit} are {type(values).__name__} and no numbers. Times in seconds are needed. "
            "Convert them."
        )
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
    import pandas as pd

    codes, units = pd.factorize(table["unit"])
    if without := int((codes < 0).sum()):
        raise ContractError(
            f"{without} of {len(table)} rows of the table of spikes have no unit. Each spike needs one. Leave such "
            "rows out."
        )
    ids = _ids(units)
    by_id = np.argsort(ids, kind="stable")
    row, times = np.argsort(by_id)[codes], _times(table["time"].to_numpy(), "of the table")
    order = np.lexsort((times, row))
    ends = np.cumsum(np.bincount(row, minlength=len(ids)))
    return Spikes(np.split(times[order], ends[:-1]) if len(ids) else [], ids[by_id], {})


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
        With ``start_time`` and ``stop_time``, s. A column ``id`` is the index.

    Raises
    ------
    ContractError
        If it is anything else, lacks ``start_time`` or ``stop_time``, or ``id`` holds other things than ids.
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
    if "id" not in table.columns:
        return table
    ids = plain_ids(table["id"].to_numpy())
    if ids.dtype.kind != "i" or len(np.unique(ids)) < len(ids):
        raise ContractError("The column id of trials are their ids in NWB: different whole numbers. Rename the column.")
    return table.drop(columns="id").set_index(pd.Index(ids))


def frame_of(columns: pd.DataFrame | Mapping[Any, Any], what: str = "trials") -> pd.DataFrame:
    """A table as it is, or of a mapping of columns; ContractError for anything else, and for columns of two lengths."""
    import pandas as pd

    if isinstance(columns, pd.DataFrame):
        return columns
    if not isinstance(columns, Mapping):
        raise ContractError(
            f"{what} is a {type(columns).__name__}. It needs to be a table: a pandas.DataFrame, or a dict of columns. "
            "Pass one."
        )
    try:
        return pd.DataFrame(dict(columns))
    except ValueError as error:
        raise ContractError(
            f"{what} cannot be a table: {error}. It needs columns of one length and one dim. Change it."
        ) from error


def unit_frame(neurons: Any, spikes: Spikes) -> tuple[Spikes, dict[str, Array]]:
    """Units and their columns, from what a user says of the neurons.

    Parameters
    ----------
    neurons : pandas.DataFrame, mapping of columns, sequence of labels, or None
        Columns of the units, with a row for each unit in their order. An index other than 0, 1, … is their ids: it says
        the order of the units, and may have units without spikes.
    spikes : Spikes
        The units.

    Returns
    -------
    tuple of Spikes and dict
        The units in the order of ``neurons``, and all their columns.

    Raises
    ------
    ContractError
        If there is not one row for each unit, or the index lacks a unit.
    """
    import pandas as pd

    if neurons is None:
        return spikes, dict(spikes.columns)
    table = frame_of(neurons, "neurons")
    if not table.index.equals(pd.RangeIndex(len(table))):
        spikes = _in_order(spikes, plain_ids(table.index.to_numpy()).tolist())
    elif len(table) != len(spikes.ids):
        raise ContractError(
            f"neurons has {len(table)} rows for {len(spikes.ids)} units. Each unit needs one. Or give it the ids of "
            "the units as index."
        )
    return spikes, spikes.columns | {str(name): table[name].to_numpy() for name in table.columns}


def _in_order(spikes: Spikes, order: list[Any]) -> Spikes:
    """The units in the order of these ids, of which some may have no spikes. Ids are the same if their texts are."""
    row_of = {str(unit): row for row, unit in enumerate(spikes.ids.tolist())}
    rows = [row_of.get(str(unit)) for unit in order]
    lacking = row_of.keys() - {str(unit) for unit in order}
    if lacking or len(set(map(str, order))) < len(order):
        found = f"lacks unit {min(lacking)}" if lacking else "has an id twice"
        raise ContractError(
            f"The index of neurons {found}. It needs the id of each unit once. If the rows are in the order of the "
            "units, pass neurons.reset_index(drop=True)."
        )
    ids = [unit if row is None else spikes.ids.tolist()[row] for unit, row in zip(order, rows, strict=True)]
    times = [np.zeros(0) if row is None else spikes.times[row] for row in rows]
    silent = np.array([row is None for row in rows], bool)
    columns: dict[str, Any] = {}
    for name, values in spikes.columns.items():
        chosen: Array = np.asarray(values)[[row or 0 for row in rows]]
        if silent.any():
            chosen = chosen.astype(object)
            chosen[silent] = None
        columns[name] = chosen
    return spikes._replace(times=times, ids=plain_ids(np.asarray(ids)), columns=columns)


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
    elif isinstance(obs_intervals, np.ndarray) and obs_intervals.ndim in (1, 3):
        obs_intervals = list(obs_intervals)
    elif not isinstance(obs_intervals, Sequence):  # an array, a DataFrame or an IntervalSet: for all units
        return [_intervals(getattr(obs_intervals, "values", obs_intervals), "")] * n
    if isinstance(obs_intervals, str) or len(obs_intervals) != n:
        raise ContractError(
            f"obs_intervals is a {type(obs_intervals).__name__} of {len(obs_intervals)}. It needs intervals (start, "
            f"stop), s, for each of {n} units, or one array of them for all. Change it."
        )
    return [_intervals(part, f" of unit {unit}") for part, unit in zip(obs_intervals, spikes.ids, strict=True)]


def _intervals(given: Any, whose: str) -> Array:
    """Intervals (interval, 2), s; ContractError if these are none."""
    array = as_numbers(given)
    if array is not None and array.shape == (0,):
        return np.zeros((0, 2))
    if array is None or array.ndim != 2 or array.shape[1] != 2:
        shape = "holds no numbers" if array is None else f"has shape {array.shape}"
        raise ContractError(
            f"obs_intervals{whose} {shape}. It needs shape (interval, 2): start and stop of each, s. Change it."
        )
    if not (array[:, 1] >= array[:, 0]).all():
        start, stop = array[~(array[:, 1] >= array[:, 0])][0]
        raise ContractError(
            f"obs_intervals{whose} has {start:g} to {stop:g} s. Each needs to stop after it starts. Change it."
        )
    return array


def with_whole_ids(spikes: Spikes) -> Spikes:
    """The spikes with ids that NWB can hold: texts become the column ``unit_name``, and 0, 1, … are the ids."""
    if spikes.ids.dtype.kind == "i":
        return spikes
    return spikes._replace(ids=np.arange(len(spikes.ids)), columns={"unit_name": spikes.ids} | spikes.columns)
