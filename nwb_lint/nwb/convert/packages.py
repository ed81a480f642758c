"""Objects of pynapple and SpikeInterface → the Dataset that the readers give: `from_pynapple`, `from_spikeinterface`.

Neither package is imported here: an object of theirs is known by its class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import call_for, class_names
from nwb_lint.errors import ContractError
from nwb_lint.nwb.convert.session import Samples
from nwb_lint.nwb.convert.sources import of_samples, of_spikes
from nwb_lint.nwb.convert.spikes import Spikes, as_spikes, of_sorting, unit_frame
from nwb_lint.nwb.recording.trials import Align, By

Array = np.ndarray


def from_pynapple(
    data: Any,
    trials: Any,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    by: By | None = None,
    neurons: Any = None,
    series: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Make a recording or trials of spikes or sampled activity of pynapple.

    Parameters
    ----------
    data : pynapple.TsGroup, pynapple.TsdFrame or pynapple.Tsd
        Spikes of units; or samples (time, neuron), such as dF/F, whose means in each bin are the result. Metadata
        become coordinates on ``neuron``. Where the time support of a TsGroup is not just from its first to its last
        spike, what lies outside counts as not observed.
    trials : pynapple.IntervalSet, pandas.DataFrame, or mapping of columns
        A row for each trial. Start and end of an IntervalSet are ``start_time`` and ``stop_time``; its metadata are
        columns.
    align : str or callable
        What is time 0, as for `read_conditions`, such as ``"start_time"``.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s.
    by : str, mapping, sequence of them, or None, default=None
        Columns of ``trials`` that make a condition. None gives single trials.
    neurons : pandas.DataFrame, mapping of columns, or None, default=None
        More columns of the units, as for `from_spikes`.
    series : mapping or None, default=None
        Time series of the session by name, such as running speed, which an `Input` may name: ``(times, values)`` in s,
        or a Tsd or TsdFrame of pynapple.
    **options
        Other options of `read_conditions` (with ``by``) or of `read_trials`.

    Returns
    -------
    xarray.Dataset
        A recording with ``by``, otherwise trials.

    Raises
    ------
    ContractError
        If ``data`` is neither, or an argument is missing.
    NWBError
        If spikes or trials are not what is needed.

    Examples
    --------
    >>> import pynapple as nap
    >>> spikes = nap.TsGroup({0: nap.Ts([0.1, 2.5]), 1: nap.Ts([0.4, 2.1])})
    >>> trials = nap.IntervalSet([0, 2], [1, 3], metadata={"side": ["left", "right"]})
    >>> from_pynapple(spikes, trials, align="start_time", window_s=(0, 1), bin_s=0.1)["count"].shape
    (2, 10, 2)
    """
    names = class_names(data)
    reading = {"by": by, "align": align, "window_s": window_s, "bin_s": bin_s} | options
    if ("pynapple", "TsGroup") in names:
        spikes, columns = unit_frame(neurons, as_spikes(data))
        return of_spikes(spikes._replace(columns=columns), trials, None, reading, "from_pynapple", series)
    if {("pynapple", "TsdFrame"), ("pynapple", "Tsd")} & set(names):
        values = np.asarray(data.d)
        labels = np.asarray(data.columns).astype(str) if values.ndim > 1 else np.array(["0"])
        units = Spikes([np.zeros(0)] * len(labels), labels, _metadata(data))
        units, columns = unit_frame(neurons, units)
        samples = Samples(np.asarray(data.t), values)
        return of_samples(samples, units.ids, columns, trials, reading, "from_pynapple", series)
    raise ContractError(
        f"data is a {type(data).__name__}. It needs to be a TsGroup or a TsdFrame of pynapple. {call_for(data)}"
    )


def from_spikeinterface(
    sorting: Any,
    trials: Any,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    by: By | None = None,
    neurons: Any = None,
    obs_intervals: Any = None,
    segment: int | None = None,
    series: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Make a recording or trials of a sorting of SpikeInterface.

    Parameters
    ----------
    sorting : spikeinterface.BaseSorting
        A sorting; of an analyzer, its ``sorting``. Times are those of its recording, if one is registered, so that they
        must be on the clock of the trials. Properties of units become coordinates on ``neuron``.
    trials : pandas.DataFrame, mapping of columns, or pynapple.IntervalSet
        A row for each trial, with ``start_time`` and ``stop_time``, s.
    align : str or callable
        What is time 0, as for `read_conditions`.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s.
    by : str, mapping, sequence of them, or None, default=None
        Columns of ``trials`` that make a condition. None gives single trials.
    neurons : pandas.DataFrame, mapping of columns, or None, default=None
        More columns of the units, as for `from_spikes`, such as the table of quality metrics.
    obs_intervals : array, sequence of array, mapping by id, or None, default=None
        When units were observed, as for `from_spikes`.
    segment : int or None, default=None
        Which segment of the sorting; None takes the only one.
    series : mapping or None, default=None
        Time series of the session by name, such as running speed, which an `Input` may name: ``(times, values)`` in s,
        or a Tsd or TsdFrame of pynapple.
    **options
        Other options of `read_conditions` (with ``by``) or of `read_trials`.

    Returns
    -------
    xarray.Dataset
        A recording with ``by``, otherwise trials.

    Raises
    ------
    ContractError
        If ``sorting`` is none, has several segments and none is chosen, or an argument is missing.
    NWBError
        If spikes or trials are not what is needed.

    Examples
    --------
    >>> from spikeinterface.core import NumpySorting
    >>> sorting = NumpySorting.from_unit_dict([{"a": np.array([100, 2500])}], 1000.0)
    >>> trials = {"start_time": [0.0, 2.0], "stop_time": [1.0, 3.0]}
    >>> from_spikeinterface(sorting, trials, align="start_time", window_s=(0, 1), bin_s=0.1)["neuron"].values.tolist()
    ['a']
    """
    if not all(hasattr(sorting, name) for name in ("get_unit_ids", "get_unit_spike_train", "get_num_segments")):
        raise ContractError(
            f"sorting is a {type(sorting).__name__}. It needs to be a sorting of SpikeInterface. {call_for(sorting)}"
        )
    spikes, columns = unit_frame(neurons, of_sorting(sorting, segment))
    reading = {"by": by, "align": align, "window_s": window_s, "bin_s": bin_s} | options
    return of_spikes(spikes._replace(columns=columns), trials, obs_intervals, reading, "from_spikeinterface", series)


def _metadata(frame: Any) -> dict[str, Array]:
    table = getattr(frame, "metadata", None)  # a Tsd has none
    return {} if table is None else {str(name): table[name].to_numpy() for name in table.columns}
