"""NWB files → recording: `read_conditions`, mean activity per condition, and `read_trials`, activity per trial."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError, NWBError
from nwb_lint.nwb.recording.averaging import (
    AverageOptions,
    Rates,
    Request,
    Session,
    count_blocks,
    find_session,
    session_rates,
)
from nwb_lint.nwb.recording.binning import make_bins
from nwb_lint.nwb.recording.dataset import (
    asset_attributes,
    attributes,
    condition_dataset,
    drop_units,
    file_coords,
    free_name,
    neuron_coords,
    totals,
)
from nwb_lint.nwb.recording.tables import TableChoice
from nwb_lint.nwb.recording.time_axis import TimeAxis, check_time_axis, median_warp_interval
from nwb_lint.nwb.recording.trials import Align, By, Conditions, Factor, make_conditions, parse_by
from nwb_lint.nwb.recording.units import UnitChoice
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.metadata import session_labels
from nwb_lint.nwb.storage.source import Source, expand, reading, run_on_files
from nwb_lint.options import ReadOptions, TrialOptions, validated
from nwb_lint.parallel.warnings import warn

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
    smooth_s: float | None = None,
    where: str | None = None,
    units: UnitChoice = None,
    series: str | None = None,
    table: TableChoice = "trials",
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
    min_trials: int = 1,
    missing: str = "drop",
    halves: bool = False,
    seed: int = 0,
    unit_columns: Sequence[str] = (),
    download: bool = False,
    executor: Executor | None = None,
    errors: str = "raise",
    progress: bool = False,
) -> xr.Dataset:
    """Mean firing rate of every unit in every condition: a recording, one NWB file or hundreds stacked.

        rate[c, t, i] = spikes of unit i in bin t over the trials of c that observed it
                        / (number of those trials × bin_s),        then smoothed along t

    With ``warp``, t is warped time and the denominator is the real time that the bin lasts in those trials. With
    ``series``, activity is read from a time series (dF/F, a simulated network) in place of spikes: ``rate`` is the mean
    of its samples in the bin over the trials of c, in the unit of the series; a sample at an edge is in the later bin.

    | argument | |
    |---|---|
    | sources | files or addresses (`open_nwb`); a text with ``*`` stands for what it matches. Neurons are stacked |
    | by | columns that make a condition: names, ``{name: "rank"}``, ``{name: [edges]}``, or several |
    | align | what is 0: a column of times, an event series, a function (`align.align_times`); trials without drop out |
    | window_s, bin_s | (start, stop) around it and the width of a bin, s; nothing beyond is read |
    | smooth_s | sd of the Gaussian (`counts.smooth`), s |
    | where | query over the table's columns (`query.select`) |
    | units | unit ids, or a query over the units table's columns |
    | series | path, or name, of a TimeSeries of data (time, neuron); ``units`` are then its regions of interest |
    | table | interval table, or several: their rows in the order of start, the column ``table`` says which |
    | within | two columns of times: what lies outside those of its own trial is not observed |
    | warp | two times, the first is align: the time between is stretched to the median (`frame.Warp`) |
    | infer_obs | without obs_intervals: trials wholly after a unit's last spike or before its first are unobserved |
    | unit_columns | columns of units, or of their electrodes (``location``, ``electrode_group``), on ``neuron`` |
    | missing | "drop" units with fewer than ``min_trials`` in a condition, or "keep" them as NaN |
    | halves | also the rates of two random halves of each condition's trials (``seed``) |
    | download | keep remote files whole in the cache folder; by default they are streamed |
    | executor | any `concurrent.futures.Executor` for several files: processes, a dask client's; None: threads |
    | errors | "raise" the first failure, or "skip" files that cannot be read or have nothing to give, with a warning |

    | result | dims | unit |
    |---|---|---|
    | rate | condition, time, neuron | Hz, or that of the series; float32; NaN where no trial observed the bin |
    | n_trials | condition, neuron | trials with an observed bin |
    | rate_half, n_trials_half | half, … | with ``halves`` |

    A coordinate whose name is taken (such as a column named ``condition``) is called ``trial_condition``.
    Attributes ``assets``, ``assets_units``, ``assets_trials`` and ``assets_warnings`` say what every file gave, and
    why where it is less than it has (`assemble.format_assets`). The result depends on no order of reading.

    Raises: ContractError for arguments that are wrong whatever the file; NWBError, one line, for files that
    do not hold what is asked for.

    Example:
        >>> recording = read_conditions("session.nwb", by=["side"], align="cue_time",
        ...                             window_s=(0, 1), bin_s=0.01, smooth_s=0.05)
        >>> recording.rate.dims
        ('condition', 'time', 'neuron')
    """
    bins, factors = make_bins(window_s, bin_s), parse_by(by)
    _check_options(smooth_s, min_trials, missing, errors, executor)
    _check_series(series, infer_obs)
    check_time_axis(align, within, warp)
    if isinstance(unit_columns, str):
        raise ContractError(f"unit_columns is {unit_columns!r}; it needs a list of names. Put it in brackets.")
    assets = expand(sources, download=download)
    trials = {"table": table, "where": where, "align": align, "factors": factors, "within": within, "warp": warp}
    options = {"executor": executor, "errors": errors}
    sessions, why = _find(assets, Request(units, tuple(unit_columns), trials, series), options, progress)
    unit = _unit_of(sessions)
    axis = TimeAxis(bins, median_warp_interval([session.trials for session in sessions]), infer_obs)
    how = (axis, (smooth_s or 0.0) / bins.bin_s, seed if halves else None)
    sessions, rates, conditions, failed = _average(sessions, factors, how, options, progress)
    why |= failed
    rate, n_trials = rates
    # rate (1 or 3, condition, time, neuron), n_trials (1 or 3, condition, neuron): whole, then two halves
    if missing == "keep":
        rate.transpose(0, 1, 3, 2)[:, n_trials[0] < min_trials] = np.nan
    sources_read = [session.provenance for session in sessions]
    found = file_coords(sources_read, [s.file_digest for s in sessions], [s.asset for s in sessions])
    ids, columns = [s.unit_ids for s in sessions], [s.columns for s in sessions]
    neurons = neuron_coords(session_labels(sources_read), found["file"], ids, columns)
    recording = condition_dataset(rate, n_trials, bins, conditions, neurons, found, unit)
    recording.attrs = attributes(bins, smooth_s, align, where, table, within, warp, axis.warp_s, infer_obs) | {
        "by": [factor.column for factor in factors],
        "by_how": [factor.text for factor in factors],
        "min_trials": int(min_trials),
        "n_units_dropped": 0,
        "dropped_units": [],
    }
    if series is not None:
        recording.attrs["series"] = series
    if missing == "drop":
        recording = drop_units(recording, min_trials)
    kept = np.isin(found["file"], recording["file"].values)
    recording.attrs |= totals([session.trials for session, is_in in zip(sessions, kept, strict=True) if is_in])
    gave = {session.provenance.path: (len(session.unit_ids), len(session.trials.origins)) for session in sessions}
    recording.attrs |= asset_attributes([str(asset) for asset in assets], gave, why, recording)
    if halves:
        recording.attrs["halves_seed"] = int(seed)
    return recording


@validated(TrialOptions)
def read_trials(
    source: Source,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    where: str | None = None,
    units: UnitChoice = None,
    series: str | None = None,
    table: TableChoice = "trials",
    columns: Sequence[str] | None = None,
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
    download: bool = False,
) -> xr.Dataset:
    """Spike counts, or the samples of a series, of every unit in every trial of one NWB file.

    Arguments as for `read_conditions`; ``columns`` of the table become coordinates on ``trial`` (None: all
    that hold one value per row; one that holds many becomes a text such as '1.5, 2'), and the row ids are the
    coordinate ``trial``.

    | result | dims | unit |
    |---|---|---|
    | count | trial, time, neuron | spikes, uint16; 0 where not observed |
    | observed | trial, time, neuron | bool; absent where all is observed |
    | exposure_s | trial, time | real duration of a bin, s, with ``warp``: the rate is count / exposure_s |
    | rate | trial, time, neuron | with ``series``, alone: mean sample in the bin, float32; NaN where there is none |

    Raises: ContractError for arguments that are wrong whatever the file; NWBError for a file that does not
    hold what is asked for.

    Example:
        >>> read_trials("session.nwb", align="cue_time", window_s=(0, 1), bin_s=0.01)["count"].dims
        ('trial', 'time', 'neuron')
    """
    bins = make_bins(window_s, bin_s)
    check_time_axis(align, within, warp)
    if isinstance(columns, str):
        raise ContractError(f"columns is {columns!r}; it needs a list of names. Put it in brackets.")
    assets = expand([source], download=download)
    if len(assets) > 1:
        raise NWBError(f"{source} stands for {len(assets)} files; read_trials reads one. Call it for each.")
    _check_series(series, infer_obs)
    request = {"table": table, "where": where, "align": align, "columns": columns, "within": within, "warp": warp}
    session = find_session(assets[0], Request(units, (), request, series))
    _with_units([session], units)
    trials = session.trials
    axis = TimeAxis(bins, median_warp_interval([trials]), infer_obs)
    data = _count(session, axis) if series is None else _average_samples(session, axis)
    label = session_labels([session.provenance])
    found = file_coords([session.provenance], [session.file_digest], [session.asset])
    coords = {
        "trial": trials.ids,
        "time": ("time", bins.centers, {"units": "s"}),
        **{free_name(name, "trial"): ("trial", values) for name, values in trials.columns.items()},
        **neuron_coords(label, found["file"], [session.unit_ids], [{}]),
        **{name: ("file", values) for name, values in found.items()},
    }
    attrs = attributes(bins, None, align, where, table, within, warp, axis.warp_s, infer_obs) | totals([trials])
    attrs |= {"n_units_dropped": 0} | ({} if series is None else {"series": series})
    return xr.Dataset(data, coords, attrs)


def _check_options(
    smooth_s: float | None, min_trials: int, missing: str, errors: str, executor: Executor | None
) -> None:
    if smooth_s is not None and not (isinstance(smooth_s, int | float) and 0 <= smooth_s < np.inf):
        raise ContractError(f"smooth_s is {smooth_s!r}; it needs a number of seconds of at least 0, or None.")
    if not isinstance(min_trials, int | np.integer) or min_trials < 1:
        raise ContractError(f"min_trials is {min_trials!r}; it needs a whole number of at least 1.")
    if missing not in ("drop", "keep"):
        raise ContractError(f'missing is {missing!r}; it needs to be "drop" or "keep".')
    if errors not in ("raise", "skip"):
        raise ContractError(f'errors is {errors!r}; it needs to be "raise" or "skip".')
    if executor is not None and not isinstance(executor, Executor):
        raise ContractError(
            f"executor is {executor!r}; it needs a concurrent.futures.Executor (of a dask client: get_executor())."
        )


def _check_series(series: str | None, infer_obs: bool) -> None:
    if series is not None and not isinstance(series, str):
        raise ContractError(f"series is {series!r}; it needs the path or name of a time series, or None.")
    if series is not None and infer_obs:
        raise ContractError("infer_obs is for spikes: of a series, what was not observed is NaN. Drop it.")


def _unit_of(sessions: list[Session]) -> str:
    """The unit of the rates of all sessions."""
    units = {session.unit: session.provenance.path for session in sessions}
    if len(units) > 1:
        told = ", ".join(f"{unit!r} in {path}" for unit, path in units.items())
        raise NWBError(f"the series has different units: {told}. Read those files apart.")
    return next(iter(units))


def _find(
    assets: Sequence[Asset], request: Request, options: dict[str, Any], progress: bool
) -> tuple[list[Session], dict[str, str]]:
    """The sessions that have something to give, and why others have not."""
    found: dict[int, Session] = {}
    failed: dict[int, NWBError] = {}
    tasks = [(asset, {"request": request}) for asset in assets]
    for k, outcome in run_on_files(find_session, tasks, progress=progress, label="reading trials", **options):
        if outcome.error is None:
            found[k] = outcome.result
        else:
            failed[k] = outcome.error
    why = _left_out({str(assets[k]): failed[k] for k in sorted(failed)}, len(assets))
    sessions = [found[k] for k in sorted(found)]
    kept = _with_units(sessions, request.units)
    for session in sessions:
        if not len(session.unit_rows):
            why[session.provenance.path] = f"left out: none of its units is among units={request.units!r}"
            warn(f"{session.provenance.path} is {why[session.provenance.path]}.")
    return kept, why


def _left_out(failed: dict[str, NWBError], n_files: int) -> dict[str, str]:
    """Warn of the files that are left out; raises NWBError with the reasons where it is all of them."""
    if len(failed) == n_files:
        if n_files == 1:
            raise next(iter(failed.values()))
        reasons = "; ".join(str(error).rstrip(".") for error in list(failed.values())[:3])
        raise NWBError(f"none of {n_files} files gives anything: {reasons}{'; …' if n_files > 3 else '.'}")
    for path, error in failed.items():
        warn(f"left out {path}: {error}")
    return {path: f"left out: {error}" for path, error in failed.items()}


def _with_units(sessions: list[Session], units: UnitChoice) -> list[Session]:
    """The sessions that have any of the units asked for; raises NWBError where an id is in none of them."""
    absent = set.intersection(*(set(session.missing_ids) for session in sessions))
    if absent:
        listed = ", ".join(map(str, sorted(absent)))
        where = sessions[0].asset if len(sessions) == 1 else f"any of {len(sessions)} files"
        raise NWBError(f"units names ids that are not in {where}: {listed}. nwb-lint inspect lists those there.")
    kept = [session for session in sessions if len(session.unit_rows)]
    if not kept:
        raise NWBError(f"units={units!r} selects none of the units of {sessions[0].asset}. Loosen it.")
    return kept


def _average(
    sessions: list[Session],
    factors: list[Factor],
    how: tuple[TimeAxis, float, int | None],
    options: dict[str, Any],
    progress: bool,
) -> tuple[list[Session], Rates, Conditions, dict[str, str]]:
    """The sessions whose spikes can be read, their rates side by side, the conditions, and why others failed."""
    axis, sd_bins, seed = how
    conditions = _conditions_of(factors, sessions)
    n, edges = len(conditions.labels), np.cumsum([0, *(len(session.unit_rows) for session in sessions)])
    seeds = [None if seed is None else [seed, k] for k in range(len(sessions))]
    hows = [AverageOptions(conditions.codes[k], n, axis, sd_bins, seeds[k]) for k in range(len(sessions))]
    tasks = [(one.asset, {"session": one, "options": how}) for one, how in zip(sessions, hows, strict=True)]
    whole: list[Rates] = []  # filled as sessions come in, so that no two copies of all are held
    failed: dict[int, NWBError] = {}
    for k, outcome in run_on_files(session_rates, tasks, progress=progress, label="reading activity", **options):
        if outcome.error is not None:
            failed[k] = outcome.error
        elif len(sessions) == 1:
            whole.append(outcome.result)
        else:
            if not whole:
                sizes = [(*array.shape[:-1], edges[-1]) for array in outcome.result]
                whole.append(Rates(np.empty(sizes[0], np.float32), np.empty(sizes[1], np.int64)))
            whole[0].rate[..., edges[k] : edges[k + 1]] = outcome.result.rate
            whole[0].n_trials[..., edges[k] : edges[k + 1]] = outcome.result.n_trials
    why = _left_out({sessions[k].provenance.path: failed[k] for k in sorted(failed)}, len(sessions))
    (rate, n_trials), there = whole[0], [k for k in range(len(sessions)) if k not in failed]
    if failed:  # and the conditions that only they had
        rows = np.unique(np.concatenate([conditions.codes[k] for k in there]))
        units = np.concatenate([np.arange(edges[k], edges[k + 1]) for k in there])
        rate, n_trials = rate[:, rows][..., units], n_trials[:, rows][..., units]
        sessions = [sessions[k] for k in there]
        conditions = _conditions_of(factors, sessions)
    return sessions, Rates(rate, n_trials), conditions, why


def _conditions_of(factors: list[Factor], sessions: list[Session]) -> Conditions:
    names = session_labels([session.provenance for session in sessions])
    return make_conditions(factors, [session.trials.levels for session in sessions], names)


def _count(session: Session, axis: TimeAxis) -> dict[str, Any]:
    """Spikes (trial, time, neuron), whether each bin was observed, and how long bins last where they are warped."""
    n = len(session.trials.origins)
    count = np.zeros((n, axis.bins.n, len(session.unit_rows)), np.uint16)
    seen = np.ones(count.shape, bool)
    with reading(session.asset) as file:
        trial_axis, blocks = count_blocks(file, session, axis, np.arange(n), n)
        for positions, count_unit in blocks:
            for k, position in enumerate(positions):
                counts = count_unit(k)
                most = counts.spikes.max(initial=0)
                if most > _MOST_COUNT:
                    raise NWBError(
                        f"{session.asset}: unit {session.unit_ids[position]} has {most} spikes in one bin; "
                        f"at most {_MOST_COUNT} can be. Check the unit of the spike times."
                    )
                count[:, :, position] = counts.spikes
                seen[:, :, position] = counts.seen > 0
    data: dict[str, Any] = {"count": (_DIMS, count, {"units": "1"})}
    if not seen.all():
        data["observed"] = (_DIMS, seen, {"units": "1"})
    if trial_axis.exposure_s is not None:
        data["exposure_s"] = (("trial", "time"), trial_axis.exposure_s, {"units": "s"})
    return data


def _average_samples(session: Session, axis: TimeAxis) -> dict[str, Any]:
    """The mean sample (trial, time, neuron) of a series."""
    n = len(session.trials.origins)
    rate = np.empty((n, axis.bins.n, len(session.unit_rows)), np.float32)
    with reading(session.asset) as file, np.errstate(invalid="ignore"):
        for positions, count_unit in count_blocks(file, session, axis, np.arange(n), n)[1]:
            for k, position in enumerate(positions):
                counts = count_unit(k)
                rate[:, :, position] = counts.spikes / counts.seen
    return {"rate": (_DIMS, rate, {"units": session.unit})}
