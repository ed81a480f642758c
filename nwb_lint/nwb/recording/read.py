"""NWB files → recording: `read_conditions`, mean activity per condition, and `read_trials`, activity per trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from nwb_lint.contract.columns import coords_along
from nwb_lint.errors import ContractError, NWBError, NWBLintError, printable
from nwb_lint.inputs import Input
from nwb_lint.nwb.recording.averaging import (
    AverageOptions,
    Rates,
    Request,
    Session,
    count_blocks,
    find_recordings,
    find_session,
    find_session_or_fit,
    repeated_recordings,
    session_rates,
)
from nwb_lint.nwb.recording.binning import FEWER_BINS, Bins, make_bins
from nwb_lint.nwb.recording.dataset import (
    asset_attributes,
    column_coords,
    condition_dataset,
    drop_units,
    file_coords,
    format_reading,
    neuron_coords,
    reading_attributes,
    text_array,
    trial_counts,
    units_table_attribute,
    with_units,
)
from nwb_lint.nwb.recording.input_courses import (
    Courses,
    CourseSums,
    Wanted,
    condition_courses,
    read_courses,
    trial_courses,
    wanted_courses,
)
from nwb_lint.nwb.recording.tables import TableChoice
from nwb_lint.nwb.recording.time_axis import TimeAxis, check_time_axis, median_warp_interval
from nwb_lint.nwb.recording.trials import Align, By, Conditions, Factor, Which, check_choice, make_conditions, parse_by
from nwb_lint.nwb.recording.unit_tables import UnitChoice
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.metadata import session_labels
from nwb_lint.nwb.storage.source import Source, reading, run_on_files
from nwb_lint.options.checks import validated
from nwb_lint.options.read_and_prepare import ReadOptions, TrialOptions
from nwb_lint.parallel.memory import check_memory
from nwb_lint.parallel.warnings import warn
from nwb_lint.trial_noise import warn_of_shared_variance

Array = np.ndarray

_MOST_COUNT = np.iinfo(np.uint16).max
_DIMS = ("trial", "time", "neuron")


@validated(ReadOptions)
def read_conditions(
    sources: Source | Sequence[Source],
    *,
    by: By,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    align_where: str | None = None,
    align_which: Which | None = None,
    smooth_s: float | None = None,
    where: str | None = None,
    units: UnitChoice = None,
    units_table: str | None = None,
    series: str | None = None,
    table: TableChoice = "trials",
    columns: Mapping[str, str] | None = None,
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
    min_trials: int = 1,
    missing: str = "drop",
    halves: bool = False,
    draws: int = 0,
    seed: int = 0,
    unit_columns: Sequence[str] = (),
    download: bool = False,
    external: bool = False,
    exclude: Sequence[str] = (),
    inputs: Sequence[Input] = (),
    burn_in_s: float = 0.0,
    executor: Executor | None = None,
    errors: str = "raise",
    progress: bool = False,
    verbose: bool = False,
) -> xr.Dataset:
    """Read the mean firing rate of every unit in every condition, from one NWB file or hundreds of them.

        rate[c, t, i] = spikes of unit i in bin t over the trials of c that observed it
                        / (number of those trials × bin_s),        then smoothed along t

    With ``warp``, t is warped time, and the denominator is the real duration of the bin in those trials. With
    ``series``, activity comes from a time series (dF/F, a simulated network): ``rate`` is the mean of its samples in
    the bin over the trials of c, in the unit of the series. A sample on an edge is in the later bin.

    Parameters
    ----------
    sources : path, address, or sequence of them
        Files as for `open_nwb`. A text with ``*`` stands for all files that it matches. Neurons of all files are
        stacked. A file that holds a fit and no recording is left out with a warning. The same recording twice, such as
        a copy, or a full copy with a fit, is an error.
    by : str, mapping, or sequence of them
        Columns of the table that make a condition: names, ``{name: "rank"}``, or ``{name: [edge, edge, ...]}`` for
        bins. ``rank`` is sign(v) × the rank of ``|v|`` in the session, so that sessions with different levels match.
    align : str or callable
        What is time 0: a column of times, an expression over columns (``"start_time + cue_time"``), the name or path of
        a series or table of events, or a function that takes a DataFrame of the table and returns one time per row.
        Trials without a time are dropped.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s. The window needs to be a whole number of bins.
    smooth_s : float or None, default=None
        sd of the Gaussian that smooths rates along time, s; None means no smoothing.
    align_where : str or None, default=None
        A query over the labels of the events that ``align`` names, such as ``"label == 'go'"``, or over the columns of
        a table of events. Trials are aligned to the first such event in them.
    align_which : {"first", "last"}, int or None, default=None
        Which time is time 0 where a trial has several: in a column with lists of times, as the file lists them, or
        among events in the trial. Numbers count from 0. None takes the first event, and refuses such a column.
    where : str or None, default=None
        A query over the columns of the table that selects trials, such as ``"correct and block in (1, 2)"``.
    units : sequence of int, float or str, str, or None, default=None
        Ids or labels of units, or a query over columns of units, of their electrodes and of electrode groups, such as
        ``"location == 'PFC' and quality == 'good'"``. None reads all units. Ids may be texts or fractions
        (``["a1"]``, ``[1.5]``); floats that are whole count as whole numbers. Units that share an id have labels with
        their row: ``"0 (row 2)"``. Without a column of ids the labels are ``"row 0"``, ``"row 1"``, ….
    units_table : str or None, default=None
        Path of the units table, such as ``"processing/ecephys/units"``. None takes ``/units``, or else the only units
        table of the file.
    series : str or None, default=None
        Path or name of a time series of data (time, neuron) to read in place of spikes. ``units`` then chooses its
        regions of interest.
    table : str or sequence of str, default="trials"
        Name of the interval table. Several tables are stacked in the order of start times, with a column ``table``.
    columns : mapping or None, default=None
        Columns that are added to the table: names, and expressions over the other columns, such as
        ``{"contrast": "contrast_right - contrast_left"}``. All other arguments may name them. An expression may have
        what a query may have.
    within : (str, str) or None, default=None
        Two columns of times. What lies outside of them in its own trial is not observed.
    warp : (str, str) or None, default=None
        Two times; the first one is ``align``. The time between them is stretched to its median over all trials.
    infer_obs : bool, default=False
        For units without obs_intervals: trials after a unit's last spike, or before its first, are not observed.
    min_trials : int, default=1
        Trials that a unit needs in every condition.
    missing : {"drop", "keep"}, default="drop"
        Whether units with fewer trials in a condition are dropped, or kept with NaN in that condition.
    halves : bool, default=False
        Whether to give also the rates of two random halves of each condition's trials. They show the noise of the
        means, and whether trials of a condition differ along one direction of state space, which is warned of.
    draws : int, default=0
        Number of resamples of the trials, for `bootstrap`: each has as many trials of every condition as there are,
        drawn with replacement, the same ones for all units of a file. Files are read once. The recording takes
        ``draws`` times the memory.
    seed : int, default=0
        Seed of the random halves and the resamples.
    unit_columns : sequence of str, default=()
        Columns of units, of their electrodes (``location``) or of electrode groups (``electrode_group``,
        ``group_location``), that become coordinates on ``neuron``. A unit of several electrodes has their distinct
        values as one text: 'V1, PFC'.
    download : bool, default=False
        Whether to keep whole remote files in the cache folder. By default they are streamed.
    external : bool, default=False
        Whether other files that a file names are read too: those of external links and of HDF5 external storage, and
        sources of virtual datasets outside of its folder.
    exclude : sequence of str, default=()
        Patterns, with ``*`` and ``?``, of files to leave out: of their path in a dandiset, of their path or address, or
        of their name.
    inputs : sequence of Input, default=()
        Inputs of the network; those whose courses are in the file are read, for `prepare`. The others are left alone.
    burn_in_s : float, default=0.0
        Time before the window for which inputs are read too, s: that of `prepare`.
    executor : concurrent.futures.Executor or None, default=None
        Reads several files at once: processes, or a Dask client's ``get_executor()``. None uses threads.
    errors : {"raise", "skip"}, default="raise"
        Whether the first failure is raised, or files that cannot be read are left out with a warning.
    progress : bool, default=False
        Whether to show a progress bar.
    verbose : bool, default=False
        Whether to print how many trials and units were used of all, and what dropped the others.

    Returns
    -------
    xarray.Dataset
        A recording:

        - ``rate (condition, time, neuron)``: Hz, or the unit of the series; float32; NaN where no trial observed the
          bin.
        - ``n_trials (condition, neuron)``: number of trials with an observed bin.
        - ``rate_half``, ``n_trials_half (half, ...)``: with ``halves``. ``rate_draw (draw, ...)``: with ``draws``.
        - ``input_course (condition, course_time, course)``: with ``inputs`` in the file, their mean over the trials of
          the condition, in the unit ``course_unit``; NaN where it was not observed. ``input_course_draw (draw, ...)``.
        - Coordinates: the columns of ``by`` on ``condition``; bin centers on ``time``, s; ``unit_id``, ``session``,
          ``source`` and ``unit_columns`` on ``neuron``. The coordinate of a column whose name is taken, such as
          ``condition``, is called ``trial_condition``. Other functions find it as ``condition`` too.
        - Attributes ``by``, the coordinates of ``condition`` that tell the conditions apart, and ``by_how``, how their
          values were grouped.
        - Attribute ``units_table``: the path of the units table; one for each ``file`` where they differ.
        - Attributes ``n_trials_used`` and ``n_trials_dropped_…``: trials that were used, or dropped for each reason.
          ``placeholders`` says which numbers stood for a missing time (0, −1 far outside of their trial).
        - Attributes ``assets``, ``assets_units``, ``assets_trials``, ``assets_warnings``: what each file gave, and why
          it gave less than it holds.

        The result does not depend on the order in which files are read.

    Raises
    ------
    ContractError
        If arguments are wrong for any file.
    NWBError
        If a file does not hold what is needed.

    Examples
    --------
    >>> recording = read_conditions("session.nwb", by=["side"], align="cue_time",
    ...                             window_s=(0, 1), bin_s=0.01, smooth_s=0.05)
    >>> recording.rate.dims
    ('condition', 'time', 'neuron')
    """
    bins, factors = make_bins(window_s, bin_s), parse_by(by)
    _check_series(series, infer_obs, units_table)
    check_time_axis(align, within, warp)
    check_choice(align_which)
    assets = find_recordings(sources, download=download, external=external, exclude=exclude)
    selection: dict[str, Any] = {"table": table, "where": where, "align": align, "within": within, "warp": warp}
    selection |= {"align_where": align_where, "align_which": align_which}
    wanted = wanted_courses(inputs, bins, burn_in_s)
    trials = selection | {"factors": factors, "derived": columns, "inputs": wanted.inputs}
    files = _Files(executor, errors, progress)
    sessions, reasons = _find_sessions(assets, Request(units, tuple(unit_columns), trials, series, units_table), files)
    unit = _common_unit(sessions)
    axis = TimeAxis(bins, median_warp_interval([session.trials for session in sessions]), infer_obs)
    how = {"sd_bins": (smooth_s or 0.0) / bins.bin_s, "halves": halves, "draws": draws, "wanted": wanted}
    averaged = _average(sessions, factors, axis, how, seed, files)
    rate, n_trials = averaged.rates[:2]
    if missing == "keep":
        rate.transpose(0, 1, 3, 2)[:, n_trials[0] < min_trials] = np.nan
    coords = _session_coords(averaged.sessions)
    recording = condition_dataset(averaged.rates, bins, averaged.conditions, coords, unit)
    names = {
        variable.attrs.get("column", name): name for name, variable in coords_along(recording, "condition").items()
    }
    recording.attrs = reading_attributes(
        axis,
        **selection,
        series=series,
        smooth_s=smooth_s,
        columns=columns,
        external=external,
    )
    recording.attrs |= {
        "by": [names[factor.column] for factor in factors],
        "by_how": [factor.text for factor in factors],
        "min_trials": int(min_trials),
        "n_units_dropped": 0,
        "dropped_units": [],
    }
    if missing == "drop":
        recording = drop_units(recording, min_trials)
    recording = _with_files(recording, averaged, wanted, bins)
    recording.attrs |= asset_attributes(
        [str(asset) for asset in assets], averaged.chosen, reasons | averaged.reasons, recording
    )
    recording.attrs |= {name: int(seed) for name, made in (("halves_seed", halves), ("draws_seed", draws)) if made}
    if halves:
        warn_of_shared_variance(recording)
    if verbose:
        print(printable(format_reading(recording)))
    return recording


def _with_files(recording: xr.Dataset, averaged: _Averaged, wanted: Wanted, bins: Bins) -> xr.Dataset:
    """The recording with the courses of inputs and the counts of trials of those files that its neurons come from."""
    of_neurons = [s.provenance.path in recording["file"].values for s in averaged.sessions]
    kept = [session for session, has in zip(averaged.sessions, of_neurons, strict=True) if has]
    if wanted.inputs:
        parts = [part for part, has in zip(averaged.courses, of_neurons, strict=True) if has]
        recording = recording.assign(condition_courses(parts, wanted, bins))
    recording.attrs |= units_table_attribute([s.units_table for s in kept]) | trial_counts([s.trials for s in kept])
    recording.attrs["n_units_not_chosen"] = sum(s.n_units - len(s.unit_ids) for s in averaged.sessions)
    return recording


@validated(TrialOptions)
def read_trials(
    source: Source | Sequence[Source],
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    align_where: str | None = None,
    align_which: Which | None = None,
    where: str | None = None,
    units: UnitChoice = None,
    units_table: str | None = None,
    unit_columns: Sequence[str] = (),
    series: str | None = None,
    table: TableChoice = "trials",
    columns: Sequence[str] | Mapping[str, str] | None = None,
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
    download: bool = False,
    external: bool = False,
    exclude: Sequence[str] = (),
    inputs: Sequence[Input] = (),
) -> xr.Dataset:
    """Read the spike counts, or the samples of a series, of every unit in every trial of one NWB file or several.

        count[k, t, i] = spikes of unit i in bin t of trial k

    Parameters
    ----------
    source : path, address, or sequence of them
        Files as for `open_nwb`; a text with ``*`` stands for all files that it matches. Trials and neurons of several
        sessions are put side by side: a neuron is not observed in the trials of other sessions. `fit_trials` then
        finds one network for all, in which each session has its own neurons.
    align : str or callable
        What is time 0: a column of times, an expression over columns (``"start_time + cue_time"``), the name or path of
        a series or table of events, or a function that takes a DataFrame of the table and returns one time per row.
        Trials without a time are dropped.
    window_s : (float, float)
        Start and stop of the time axis relative to ``align``, s.
    bin_s : float
        Width of a bin, s. The window needs to be a whole number of bins.
    align_where : str or None, default=None
        A query over the labels of the events that ``align`` names, such as ``"label == 'go'"``, or over the columns of
        a table of events. Trials are aligned to the first such event in them.
    align_which : {"first", "last"}, int or None, default=None
        Which time is time 0 where a trial has several: in a column with lists of times, as the file lists them, or
        among events in the trial. Numbers count from 0. None takes the first event, and refuses such a column.
    where : str or None, default=None
        A query over the columns of the table that selects trials.
    units : sequence of int, float or str, str, or None, default=None
        Ids or labels of units, or a query over columns of units, of their electrodes and of electrode groups, as for
        `read_conditions`. None reads all units.
    units_table : str or None, default=None
        Path of the units table. None takes ``/units``, or else the only units table of the file.
    unit_columns : sequence of str, default=()
        Columns of units, of their electrodes (``location``) or of electrode groups that become coordinates on
        ``neuron``, as in `read_conditions`.
    series : str or None, default=None
        Path or name of a time series of data (time, neuron) to read in place of spikes.
    table : str or sequence of str, default="trials"
        Name of the interval table. Several tables are stacked in the order of start times, with a column ``table``.
    columns : sequence of str, mapping, or None, default=None
        Columns of the table that become coordinates on ``trial``. None takes all with one value per row. A column with
        many values per row becomes a text such as '1.5, 2'. A mapping takes all too, and adds columns by expressions,
        as in `read_conditions`.
    within : (str, str) or None, default=None
        Two columns of times. What lies outside of them in its own trial is not observed.
    warp : (str, str) or None, default=None
        Two times; the first one is ``align``. The time between them is stretched to its median over all trials.
    infer_obs : bool, default=False
        For units without obs_intervals: trials after a unit's last spike, or before its first, are not observed.
    download : bool, default=False
        Whether to keep a whole remote file in the cache folder. By default it is streamed.
    external : bool, default=False
        Whether other files that the file names are read too: those of external links and of HDF5 external storage, and
        sources of virtual datasets outside of its folder.
    exclude : sequence of str, default=()
        Patterns, with ``*`` and ``?``, of files to leave out: of their path in a dandiset, of their path or address, or
        of their name.
    inputs : sequence of Input, default=()
        Inputs of the network; those whose courses are in the file are read, for `prepare`. The others are left alone.

    Returns
    -------
    xarray.Dataset
        The trials, with row ids as coordinate ``trial``. Of several files ``trial`` is "session:id", ``trial_session``
        the session, and columns are those that all files have. Variables:

        - ``count (trial, time, neuron)``: spikes, uint16; 0 where not observed.
        - ``observed (trial, time, neuron)``: bool; absent if all is observed.
        - ``exposure_s (trial, time)``: real duration of a bin, s, with ``warp``. The rate is count / exposure_s.
        - ``rate (trial, time, neuron)``: only with ``series``: the mean sample in the bin, float32; NaN if there is
          none.
        - ``input_course (trial, course_time, course)``: with ``inputs`` in the file; NaN where not observed.

    Raises
    ------
    ContractError
        If arguments are wrong for any file.
    NWBError
        If a file does not hold what is needed, or two are the same recording.

    Examples
    --------
    >>> read_trials("session.nwb", align="cue_time", window_s=(0, 1), bin_s=0.01)["count"].dims
    ('trial', 'time', 'neuron')
    """
    bins = make_bins(window_s, bin_s)
    check_time_axis(align, within, warp)
    check_choice(align_which)
    _check_series(series, infer_obs, units_table)
    several = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    assets = find_recordings(several, download=download, external=external, exclude=exclude)
    derived = columns if isinstance(columns, Mapping) else None
    selection: dict[str, Any] = {"table": table, "where": where, "align": align, "within": within, "warp": warp}
    selection |= {"align_where": align_where, "align_which": align_which}
    wanted = wanted_courses(inputs, bins)
    request = selection | {"derived": derived, "columns": columns if derived is None else None, "inputs": wanted.inputs}
    found = [find_session(asset, Request(units, tuple(unit_columns), request, series, units_table)) for asset in assets]
    for _, message in repeated_recordings(found) if len(found) > 1 else ():
        raise NWBError(message)
    sessions = _with_units(found, units)
    axis = TimeAxis(bins, median_warp_interval([session.trials for session in sessions]), infer_obs)
    coords = with_units(
        _trial_coords(sessions) | {"time": ("time", bins.centers, {"units": "s"})},
        _session_coords(sessions),
    )
    attrs = reading_attributes(
        axis,
        **selection,
        series=series,
        columns=derived,
        external=external,
    )
    attrs |= units_table_attribute([session.units_table for session in sessions])
    attrs |= trial_counts([session.trials for session in sessions])
    not_chosen = sum(session.n_units - len(session.unit_ids) for session in sessions)
    attrs |= {"n_units_dropped": 0, "n_units_not_chosen": not_chosen}
    unit = _common_unit(sessions) if series is not None else ""
    _check_size(sessions, axis, 3.0 if series is None else 4.0)
    parts = [_trial_values(one, axis, unit, wanted) for one in sessions]
    trials = xr.Dataset(_side_by_side([part.data for part in parts]), coords, attrs)
    courses = [part.courses for part in parts if part.courses is not None]
    return trials.assign(trial_courses(courses, wanted, bins)) if courses else trials


class _TrialValues(NamedTuple):
    """The variables of the trials of a session, and the courses of inputs in its file."""

    data: dict[str, Any]
    courses: Courses | None


def _trial_values(session: Session, axis: TimeAxis, unit: str, wanted: Wanted) -> _TrialValues:
    with reading(session.asset) as file:
        data = _count(file, session, axis) if session.series is None else _average_samples(file, session, axis, unit)
        courses = read_courses(file, session.asset, session.trials, axis, wanted) if wanted.inputs else None
    return _TrialValues(data, courses)


def _trial_coords(sessions: list[Session]) -> dict[str, Any]:
    """Coordinates on ``trial``: ids and columns; of several sessions the ids with the session, and shared columns."""
    if len(sessions) == 1:
        trials = sessions[0].trials
        return {"trial": trials.ids, **column_coords(trials.columns, "trial", "trial")}
    labels, tables = session_labels([one.provenance for one in sessions]), [one.trials.columns for one in sessions]
    shared = set.intersection(*({(name, v.dtype.kind in "OSU") for name, v in table.items()} for table in tables))
    names = [name for name, _ in sorted(shared) if name != "trial_session"]
    if left_out := sorted(set().union(*tables) - set(names)):
        warn(f"The trial columns {', '.join(left_out)} are not in all files, or of different kinds. They are left out.")
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    ids = [f"{label}:{k}" for label, one in zip(labels, sessions, strict=True) for k in one.trials.ids]
    of_trial = np.repeat(text_array(labels), [len(one.trials.ids) for one in sessions])
    own = {"trial": text_array(ids), "trial_session": ("trial", of_trial)}
    return own | column_coords(columns, "trial", "trial")


def _side_by_side(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Variables of several sessions along trials and neurons; units of one session are not observed in the others."""
    if len(parts) == 1:
        return parts[0]
    name = "count" if "count" in parts[0] else "rate"
    sizes = np.array([part[name][1].shape for part in parts])
    edges = np.cumsum(np.vstack([np.zeros(3, int), sizes]), axis=0)
    shape = (edges[-1, 0], sizes[0, 1], edges[-1, 2])
    whole, seen = np.zeros(shape, parts[0][name][1].dtype), np.zeros(shape, bool)
    if name == "rate":
        whole[:] = np.nan
    for part, start, stop in zip(parts, edges[:-1], edges[1:], strict=True):
        place = slice(start[0], stop[0]), slice(None), slice(start[2], stop[2])
        whole[place] = part[name][1]
        seen[place] = part["observed"][1] if "observed" in part else True
    data: dict[str, Any] = {name: (_DIMS, whole, parts[0][name][2])}
    if name == "count":
        data["observed"] = (_DIMS, seen, {"units": "1"})
    if "exposure_s" in parts[0]:
        exposure = np.concatenate([part["exposure_s"][1] for part in parts])
        data["exposure_s"] = (("trial", "time"), exposure, {"units": "s"})
    return data


def _check_series(series: str | None, infer_obs: bool, units_table: str | None) -> None:
    if series is not None and infer_obs:
        raise ContractError("infer_obs is for spikes. Samples of a series that were not observed are NaN. Drop it.")
    if series is not None and units_table is not None:
        raise ContractError("units_table is for spikes, and series is read in place of spikes. Drop one of them.")


class _Files(NamedTuple):
    """How several files are read."""

    executor: Executor | None
    errors: str
    progress: bool

    def run(
        self,
        work: Callable[..., Any],
        tasks: list[tuple[Asset, dict[str, Any]]],
        label: str,
        failed: dict[int, NWBLintError],
    ) -> Iterator[tuple[int, Any]]:
        """Position and result of each task as tasks finish; errors are put into ``failed``."""
        options = {"executor": self.executor, "errors": self.errors, "progress": self.progress}
        for k, outcome in run_on_files(work, tasks, label=label, **options):
            if outcome.error is None:
                yield k, outcome.result
            else:
                failed[k] = outcome.error


def _find_sessions(assets: Sequence[Asset], request: Request, files: _Files) -> tuple[list[Session], dict[str, str]]:
    """The sessions with units and trials, and for each other file the reason why it is left out."""
    failed: dict[int, NWBLintError] = {}
    tasks = [(asset, {"request": request}) for asset in assets]
    found: dict[int, Session] = {}
    for k, one in files.run(find_session_or_fit, tasks, "reading trials", failed):
        if isinstance(one, Session):
            found[k] = one
        else:
            failed[k] = NWBError(one)
    order = sorted(found)
    for k, message in repeated_recordings([found[k] for k in order]):
        failed[order[k]] = NWBError(message)
        del found[order[k]]
        if files.errors == "raise":
            raise failed[order[k]]
    reasons = _left_out({str(assets[k]): failed[k] for k in sorted(failed)}, len(assets))
    sessions = [found[k] for k in sorted(found)]
    kept = _with_units(sessions, request.units)
    for session in sessions:
        if not len(session.unit_rows):
            path = session.provenance.path
            reasons[path] = f"left out: none of its units is among units={request.units!r}"
            warn(f"{path} is {reasons[path]}.")
    return kept, reasons


def _left_out(failed: dict[str, NWBLintError], n_files: int) -> dict[str, str]:
    """Warn of the files that are left out; NWBError with the reasons if these are all files."""
    if len(failed) == n_files:
        if n_files == 1:
            raise next(iter(failed.values()))
        reasons = "; ".join(str(error).rstrip(".") for error in list(failed.values())[:3])
        raise NWBError(f"none of {n_files} files can be used: {reasons}{'; …' if n_files > 3 else '.'}")
    for path, error in failed.items():
        warn(f"left out {path}: {error}")
    return {path: f"left out: {error}" for path, error in failed.items()}


def _with_units(sessions: list[Session], units: UnitChoice) -> list[Session]:
    """The sessions with any of the chosen units; NWBError if an id is in none of them."""
    absent = set.intersection(*(set(session.missing_ids) for session in sessions))
    if absent:
        whole = all(session.unit_ids.dtype.kind == "i" for session in sessions)
        if whole and not all(str(unit).removeprefix("-").isdigit() for unit in absent):
            raise ContractError(
                f"units is {units!r}; it needs ids, and those of {sessions[0].asset} are whole numbers. Pass these, or "
                "a query as one text."
            )
        ids = ", ".join(sorted(map(str, absent)))
        where = sessions[0].asset if len(sessions) == 1 else f"any of {len(sessions)} files"
        raise NWBError(f"units names ids that are not in {where}: {ids}. nwb-lint inspect lists the ids of a file.")
    kept = [session for session in sessions if len(session.unit_rows)]
    if not kept:
        raise NWBError(f"units={units!r} selects none of the units of {sessions[0].asset}. Loosen it.")
    return kept


def _common_unit(sessions: list[Session]) -> str:
    """The unit of the rates of all sessions."""
    units = {session.unit: session.provenance.path for session in sessions}
    if len(units) > 1:
        found = ", ".join(f"{unit!r} in {path}" for unit, path in units.items())
        raise NWBError(f"the series has different units: {found}. One unit is needed. Read those files apart.")
    return next(iter(units))


def _session_coords(sessions: list[Session]) -> dict[str, Any]:
    """The coordinates on ``neuron`` and ``file``."""
    sources = [session.provenance for session in sessions]
    files = file_coords(sources, [s.file_digest for s in sessions], [s.asset for s in sessions])
    ids, columns = [s.unit_ids for s in sessions], [s.columns for s in sessions]
    labels = [s.unit_labels for s in sessions]
    neurons = neuron_coords(session_labels(sources), files["file"], ids, labels, columns)
    return neurons | {name: ("file", values) for name, values in files.items()}


class _Averaged(NamedTuple):
    """The sessions that could be read, their rates side by side, the conditions, and why others were left out."""

    sessions: list[Session]
    rates: Rates
    conditions: Conditions
    reasons: dict[str, str]
    courses: list[CourseSums]

    @property
    def chosen(self) -> dict[str, tuple[int, int]]:
        """How many units and trials were chosen in each file, by its path."""
        return {s.provenance.path: (len(s.unit_ids), len(s.trials.origins)) for s in self.sessions}


def _average(
    sessions: list[Session], factors: list[Factor], axis: TimeAxis, how: dict[str, Any], seed: int, files: _Files
) -> _Averaged:
    conditions = _conditions_of(factors, sessions)
    n, edges = len(conditions.labels), np.cumsum([0, *(len(session.unit_rows) for session in sessions)])
    tasks = []
    for k, session in enumerate(sessions):
        options = AverageOptions(conditions.codes[k], n, axis, seed=[seed, k], **how)
        tasks.append((session.asset, {"session": session, "options": options}))
    failed: dict[int, NWBLintError] = {}
    courses: dict[int, CourseSums] = {}
    whole: list[Rates] = []  # filled session by session, so that all rates are in memory only once
    for k, part in files.run(session_rates, tasks, "reading activity", failed):
        if part.courses is not None:
            courses[k] = part.courses
        if len(sessions) == 1:
            whole.append(part)
            continue
        if not whole:
            sizes = [(*array.shape[:-1], edges[-1]) for array in (part.rate, part.n_trials)]
            whole.append(Rates(np.empty(sizes[0], np.float32), np.empty(sizes[1], np.int64)))
        whole[0].rate[..., edges[k] : edges[k + 1]] = part.rate
        whole[0].n_trials[..., edges[k] : edges[k + 1]] = part.n_trials
    reasons = _left_out({sessions[k].provenance.path: failed[k] for k in sorted(failed)}, len(sessions))
    if not failed:
        return _Averaged(sessions, whole[0], conditions, reasons, [courses[k] for k in sorted(courses)])
    read = [k for k in range(len(sessions)) if k not in failed]
    rows = np.unique(np.concatenate([conditions.codes[k] for k in read]))  # some conditions were only in other sessions
    units = np.concatenate([np.arange(edges[k], edges[k + 1]) for k in read])
    rates = Rates(whole[0].rate[:, rows][..., units], whole[0].n_trials[:, rows][..., units])
    sessions = [sessions[k] for k in read]
    of_rows = [one.of_conditions(rows) for _, one in sorted(courses.items())]
    return _Averaged(sessions, rates, _conditions_of(factors, sessions), reasons, of_rows)


def _conditions_of(factors: list[Factor], sessions: list[Session]) -> Conditions:
    names = session_labels([session.provenance for session in sessions])
    return make_conditions(factors, [session.trials.levels for session in sessions], names)


def _check_size(sessions: list[Session], axis: TimeAxis, bytes_each: float) -> None:
    """ContractError where the values of all trials need more memory than is free."""
    n = sum(len(session.trials.origins) for session in sessions)
    n_units = sum(len(session.unit_rows) for session in sessions)
    what = f"{sessions[0].asset}: activity of {n_units} units in {n} trials of {axis.bins.n} bins"
    check_memory(bytes_each * n * n_units * axis.bins.n, what, FEWER_BINS)


def _count(file: h5py.File, session: Session, axis: TimeAxis) -> dict[str, Any]:
    """The variables of `read_trials` for spikes."""
    n = len(session.trials.origins)
    count = np.zeros((n, axis.bins.n, len(session.unit_rows)), np.uint16)
    seen = np.ones(count.shape, bool)
    trial_axis, blocks = count_blocks(file, session, axis, np.arange(n), n)
    for positions, count_unit in blocks:
        for k, position in enumerate(positions):
            counts = count_unit(k)
            most = counts.spikes.max(initial=0)
            if most > _MOST_COUNT:
                raise NWBError(
                    f"{session.asset}: unit {session.unit_labels[position]} has {most} spikes in one bin. At most "
                    f"{_MOST_COUNT} can be stored. Check the unit of the spike times."
                )
            count[:, :, position] = counts.spikes
            seen[:, :, position] = counts.seen > 0
    data: dict[str, Any] = {"count": (_DIMS, count, {"units": "1"})}
    if not seen.all():
        data["observed"] = (_DIMS, seen, {"units": "1"})
    if trial_axis.exposure_s is not None:
        data["exposure_s"] = (("trial", "time"), trial_axis.exposure_s, {"units": "s"})
    return data


def _average_samples(file: h5py.File, session: Session, axis: TimeAxis, unit: str) -> dict[str, Any]:
    """The variable of `read_trials` for a series."""
    n = len(session.trials.origins)
    rate = np.empty((n, axis.bins.n, len(session.unit_rows)), np.float32)
    with np.errstate(invalid="ignore"):
        for positions, count_unit in count_blocks(file, session, axis, np.arange(n), n)[1]:
            for k, position in enumerate(positions):
                counts = count_unit(k)
                rate[:, :, position] = counts.spikes / counts.seen
    return {"rate": (_DIMS, rate, {"units": unit})}
