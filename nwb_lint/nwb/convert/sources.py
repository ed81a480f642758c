"""Data that are in memory → the Dataset that the readers give: `from_spikes` and `from_nwbfile`.

All of them make an NWB file in memory, and read it by `read_conditions` or `read_trials`: every check and every option
of the readers acts on them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import call_for, class_names
from nwb_lint.errors import ContractError
from nwb_lint.inputs import check_inputs
from nwb_lint.nwb.convert.memory import in_memory
from nwb_lint.nwb.convert.session import About, Lists, Samples, as_series, column, session_file
from nwb_lint.nwb.convert.spikes import Spikes, as_spikes, as_trials, observed_of, unit_frame
from nwb_lint.nwb.recording.dataset import column_coords
from nwb_lint.nwb.recording.read import read_conditions, read_trials
from nwb_lint.nwb.recording.trials import Align, By
from nwb_lint.query import select

Array = np.ndarray

_OF_FILES = ("download", "external", "exclude", "executor", "errors", "progress")
_OF_TABLES = ("table", "units_table", "series")
_SERIES = "activity"
_ABOUT = About()


def from_spikes(
    spike_times: Any,
    trials: Any,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    by: By | None = None,
    neurons: Any = None,
    obs_intervals: Any = None,
    series: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Make a recording or trials of spike times and a table of trials.

    The result is that of `read_conditions` or `read_trials` for the file that `write_session` writes of the same spikes
    and trials, without the coordinates of a file.

    Parameters
    ----------
    spike_times : mapping, pandas.DataFrame or sequence of array
        Sorted times of the spikes, s: ``{unit: times}``; a table with a row for each spike and the columns ``unit`` and
        ``time``, in any order; or one array for each unit.
    trials : pandas.DataFrame, mapping of columns, or pynapple.IntervalSet
        A row for each trial, with ``start_time`` and ``stop_time`` (s), times of events, and what was shown and done.
    align : str or callable
        What is time 0, as for `read_conditions`: a column of times, an expression over columns, or a function.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s.
    by : str, mapping, sequence of them, or None, default=None
        Columns of ``trials`` that make a condition, as for `read_conditions`. None gives single trials.
    neurons : pandas.DataFrame, mapping of columns, or None, default=None
        Columns of the units, with a row for each unit in their order. A DataFrame with an index other than 0, 1, … has
        the ids of the units there: it says their order, and may have units without a spike. The columns become
        coordinates on ``neuron``.
    obs_intervals : array, sequence of array, mapping by id, or None, default=None
        When each unit was observed: intervals (interval, 2), s, for each unit, or one array for all. None: always.
    series : mapping or None, default=None
        Time series of the session by name, such as running speed, which an `Input` may name: ``(times, values)`` in s,
        or a Tsd or TsdFrame of pynapple.
    **options
        Other options of `read_conditions` (with ``by``) or of `read_trials`, such as ``where``, ``smooth_s``,
        ``halves``, ``units``, ``within``.

    Returns
    -------
    xarray.Dataset
        A recording ``rate (condition, time, neuron)``, Hz, with ``by``; otherwise trials with
        ``count (trial, time, neuron)``.

    Raises
    ------
    ContractError
        If an argument is missing or does not suit the others.
    NWBError
        If spikes or trials are not what is needed, such as times that are no seconds of one clock.

    Examples
    --------
    >>> spikes = {"a1": [0.1, 0.2, 2.5], "a2": [0.4, 2.1, 2.2]}
    >>> trials = {"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0], "side": ["left", "right"]}
    >>> recording = from_spikes(spikes, trials, by="side", align="start_time", window_s=(0, 1), bin_s=0.25)
    >>> recording["rate"].dims, recording["neuron"].values.tolist()
    (('condition', 'time', 'neuron'), ['a1', 'a2'])
    """
    spikes, columns = unit_frame(neurons, as_spikes(spike_times))
    reading = {"by": by, "align": align, "window_s": window_s, "bin_s": bin_s} | options
    return of_spikes(spikes._replace(columns=columns), trials, obs_intervals, reading, "from_spikes", series)


def from_nwbfile(
    nwbfile: Any,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    by: By | None = None,
    **options: Any,
) -> xr.Dataset:
    """Make a recording or trials of a pynwb NWBFile in memory, new or read; no file is written.

    The NWBFile stays as it is, and can be written later. Raw samples, which are not needed, are not copied. A fit of
    the result knows its units by the object ids, so that `add_to_nwbfile` links each neuron to its row.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile, or sequence of them
        With units and trials, or a time series. If it was read, its file needs to be open. Several are put together as
        several files.
    align : str or callable
        What is time 0, as for `read_conditions`.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s.
    by : str, mapping, sequence of them, or None, default=None
        Columns of the trials that make a condition. None gives single trials.
    **options
        Other options of `read_conditions` (with ``by``) or of `read_trials`.

    Returns
    -------
    xarray.Dataset
        A recording with ``by``, otherwise trials: identical to that of the file that pynwb would write, but for the
        path of the file.

    Raises
    ------
    ContractError
        If ``nwbfile`` is none, or an argument is wrong.
    NWBError
        If pynwb cannot write it, or it does not hold what is needed.

    Examples
    --------
    >>> from pynwb import NWBHDF5IO
    >>> with NWBHDF5IO("session.nwb", "r") as io:
    ...     trials = from_nwbfile(io.read(), align="cue_time", window_s=(0, 1), bin_s=0.1)
    >>> trials["count"].dims
    ('trial', 'time', 'neuron')
    """
    files = list(nwbfile) if isinstance(nwbfile, list | tuple) and nwbfile else [nwbfile]
    for one in files:
        if ("pynwb", "NWBFile") not in class_names(one):
            other = "Call read_conditions(path, …)." if isinstance(one, str) else call_for(one)
            raise ContractError(
                f"nwbfile is a {type(one).__name__}. It needs to be a pynwb.NWBFile. {other or 'Pass one.'}"
            )
    reading = {"by": by, "align": align, "window_s": window_s, "bin_s": bin_s} | options
    reader, given = reader_of(reading, "from_nwbfile")
    inputs = options.get("inputs", ())
    check_inputs(inputs)
    named = (options.get("series"), *(one.series or one.events for one in inputs))
    kept = [name for name in named if isinstance(name, str)]
    names = [one.session_id or one.identifier for one in files]
    names = [
        one if names.count(one) == 1 else f"{one} ({file.identifier})" for one, file in zip(names, files, strict=True)
    ]
    pairs = zip(files, names, strict=True)
    return reader([in_memory(file, f"NWBFile {name} in memory", series=kept) for file, name in pairs], **given)


def reader_of(reading: dict[str, Any], called: str, refused: Sequence[str] = ()) -> tuple[Callable[..., Any], dict]:
    """The reader of means over trials (with ``by``) or single trials, and the options that it takes."""
    reader = read_trials if reading.get("by") is None else read_conditions
    reading = reading if reading.get("by") is not None else {k: v for k, v in reading.items() if k != "by"}
    known, other = (set(signature(one).parameters) - {*_OF_FILES, *refused} for one in (reader, read_conditions))
    for name in reading.keys() - known:
        if name in other:
            raise ContractError(f"{name} is for means over trials, and by is missing. Pass by=, or leave {name} out.")
        raise ContractError(
            f"{called} has no argument {name}. It needs its own arguments, or those of {reader.__name__} that are not "
            "about files. Leave it out."
        )
    return reader, reading


def of_spikes(
    spikes: Spikes,
    trials: Any,
    obs_intervals: Any,
    reading: dict[str, Any],
    called: str,
    series: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """What the reader gives of spikes and trials, with all columns of the units, without the coordinates of a file."""
    reader, given = reader_of(reading, called, (*_OF_TABLES, "unit_columns"))
    observed = observed_of(obs_intervals, spikes)
    texts = spikes.ids if spikes.ids.dtype.kind != "i" else None
    if texts is not None:
        _check_unique(texts)
    whole = spikes if texts is None else spikes._replace(ids=np.arange(len(texts)))
    samples = as_series(series)
    nwbfile = session_file(whole, as_trials(trials), obs_intervals=observed, series=samples, about=_ABOUT)
    asset = in_memory(nwbfile, f"the session of {called}", series=samples, unit_ids=texts)
    return with_units_of(without_file(reader(asset, **given)), spikes)


def _check_unique(ids: Array) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ContractError(
            f"Two units are called {str(unique[counts > 1][0])!r}. Each needs a name of its own. Rename one."
        )


def of_samples(
    samples: Samples,
    labels: Array,
    columns: Mapping[str, Any],
    trials: Any,
    reading: dict[str, Any],
    called: str,
    series: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """What the reader gives of a time series, with the labels and columns of its neurons."""
    reader, given = reader_of(reading, called, (*_OF_TABLES, "unit_columns"))
    every = as_series(series)
    if _SERIES in every:
        raise ContractError(f"A series is called {_SERIES}, as that of the neurons. It needs another name. Rename it.")
    every[_SERIES] = samples
    nwbfile = session_file(Spikes([], np.arange(0), {}), as_trials(trials), series=every, about=_ABOUT)
    asset = in_memory(nwbfile, f"the session of {called}", series=every)
    if given.get("units") is not None:
        given = given | {"units": _rows_of(given["units"], labels, columns)}
    found = without_file(reader(asset, series=_SERIES, **given))
    return with_units_of(found, Spikes([], labels, dict(columns)))


def _rows_of(units: Any, labels: Array, columns: Mapping[str, Any]) -> list[Any]:
    """The neurons that a query over their columns, or labels, choose; places from 0 where all labels are names."""
    if isinstance(units, str):

        def of(name: str) -> Array:
            values = column(name, columns[name]) if name in columns else None
            if values is None or isinstance(values, Lists):
                there = ", ".join(columns) or "no columns"
                raise ContractError(
                    f"units names {name!r}. The neurons have {there}. Name a column with one value each."
                )
            return values

        return np.flatnonzero(select(units, of, len(labels), "units")).tolist()
    row_of = {str(label): row for row, label in enumerate(labels.tolist())}
    given = list(units) if isinstance(units, Iterable) else [units]
    absent = [str(one) for one in given if str(one) not in row_of]
    if len(absent) == len(given) and not any(label.isdigit() for label in row_of):
        return given
    if absent:
        raise ContractError(f"units names {absent[0]}. The neurons are {', '.join(row_of)}. Name some of them.")
    return [row_of[str(one)] for one in given]


def without_file(dataset: xr.Dataset) -> xr.Dataset:
    """A Dataset without what the reader says of the file that it was in."""
    of_file = [name for name, one in dataset.coords.items() if "file" in one.dims or name == "source"]
    dataset = dataset.drop_vars(of_file)
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if not name.startswith("assets")}
    return dataset


def with_units_of(dataset: xr.Dataset, spikes: Spikes) -> xr.Dataset:
    """A Dataset with all columns of the units, and with their ids as labels."""
    found = dataset["unit_id"].values
    if spikes.times:
        row_of = {unit: row for row, unit in enumerate(spikes.ids.tolist())}
        rows = [row_of[unit] for unit in found.tolist()]
    else:  # a time series numbers its neurons
        rows = found.tolist()
        dataset = dataset.assign_coords(neuron=spikes.ids[rows].astype(str))
    columns = {name: np.asarray(values)[rows] for name, values in spikes.columns.items()}
    plain = {name: column(name, values) for name, values in columns.items()}
    coords = column_coords({name: one for name, one in plain.items() if not isinstance(one, Lists)}, "neuron", "unit")
    taken = {name: one for name, one in coords.items() if name in dataset.coords}
    return dataset.assign_coords({f"unit_{name}" if name in taken else name: one for name, one in coords.items()})
