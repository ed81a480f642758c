"""NWB files → recording: `read_conditions`, mean rates per condition, and `read_trials`, counts per trial."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.nwb.align import Align
from nwb_lint.nwb.assemble import (
    attributes,
    condition_dataset,
    drop_units,
    free_name,
    neuron_coords,
    texts,
    totals,
)
from nwb_lint.nwb.conditions import By, join, parse_by
from nwb_lint.nwb.counts import make_bins, smooth
from nwb_lint.nwb.electrodes import columns_of_units
from nwb_lint.nwb.frame import Frame, check_frame, make_frame, typical_interval
from nwb_lint.nwb.honest import Evidence
from nwb_lint.nwb.joined import TableChoice
from nwb_lint.nwb.source import (
    NWBError,
    Provenance,
    Source,
    digest,
    expand,
    provenance,
    reading,
    session_labels,
)
from nwb_lint.nwb.trials import Trials, choose_trials
from nwb_lint.nwb.units import UnitChoice, choose_rows, has_observed, open_units, read_observed, read_spikes

Array = np.ndarray

_MOST_COUNT = np.iinfo(np.uint16).max


class _Session(NamedTuple):
    """What the first pass finds in a file: which units and trials; no spikes yet."""

    path: Path
    said: Provenance
    unit_rows: Array
    unit_ids: Array
    lacking: list[int]
    columns: dict[str, Array]
    trials: Trials


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
    table: TableChoice = "trials",
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
    min_trials: int = 1,
    missing: str = "drop",
    halves: bool = False,
    seed: int = 0,
    unit_columns: Sequence[str] = (),
    progress: bool = False,
) -> xr.Dataset:
    """Mean firing rate of every unit in every condition: a recording, one NWB file or several stacked.

        rate[c, t, i] = spikes of unit i in bin t over the trials of c that observed it
                        / (number of those trials × bin_s),        then smoothed along t

    With ``warp``, t is warped time and the denominator is the real time that the bin lasts in those trials.

    | argument | |
    |---|---|
    | sources | local NWB file or files; a text with ``*`` stands for what it matches. Neurons are stacked |
    | by | columns that make a condition: names, ``{name: "rank"}``, ``{name: [edges]}``, or several |
    | align | what is 0: a column of times, an event series, a function (`align.align_times`); trials without drop out |
    | window_s, bin_s | (start, stop) around it and the width of a bin, s; nothing beyond is read |
    | smooth_s | sd of the Gaussian (`counts.smooth`), s |
    | where | query over the table's columns (`query.select`) |
    | units | unit ids, or a query over the units table's columns |
    | table | interval table, or several: their rows in the order of start, the column ``table`` says which |
    | within | two columns of times: what lies outside those of its own trial is not observed |
    | warp | two times, the first is align: the time between is stretched to the median (`frame.Warp`) |
    | infer_obs | without obs_intervals: trials wholly after a unit's last spike or before its first are unobserved |
    | unit_columns | columns of units, or of their electrodes (``location``, ``electrode_group``), on ``neuron`` |
    | missing | "drop" units with fewer than ``min_trials`` in a condition, or "keep" them as NaN |
    | halves | also the rates of two random halves of each condition's trials (``seed``) |

    | result | dims | unit |
    |---|---|---|
    | rate | condition, time, neuron | Hz, float32; NaN where no trial observed the bin |
    | n_trials | condition, neuron | trials with an observed bin |
    | rate_half, n_trials_half | half, … | with ``halves`` |

    A coordinate whose name is taken (such as a column named ``condition``) is called ``trial_condition``.

    Raises: ContractError for arguments that are wrong whatever the file; NWBError, one line, for files that
    do not hold what is asked for.

    Example:
        >>> recording = read_conditions("session.nwb", by=["side"], align="cue_time",
        ...                             window_s=(0, 1), bin_s=0.01, smooth_s=0.05)
        >>> recording.rate.dims
        ('condition', 'time', 'neuron')
    """
    bins, factors, paths = make_bins(window_s, bin_s), parse_by(by), expand(sources)
    _check_options(smooth_s, min_trials, missing)
    check_frame(align, within, warp)
    if isinstance(unit_columns, str):
        raise ContractError(f"unit_columns is {unit_columns!r}; it needs a list of names. Put it in brackets.")
    request = {"table": table, "where": where, "align": align, "factors": factors, "within": within, "warp": warp}
    with ThreadPoolExecutor(1) as pool:
        sessions = [_first_pass(path, units, unit_columns, request) for path in _bar(paths, progress, "trials")]
        sessions = _with_units(sessions, units)
        digests = [pool.submit(digest, session.path) for session in sessions]
        labels = session_labels([session.said for session in sessions])
        warp_s = typical_interval([session.trials for session in sessions])
        conditions = join(factors, [session.trials.levels for session in sessions], labels)
        parts = []
        for k, session in enumerate(_bar(sessions, progress, "spikes")):
            rng = np.random.default_rng([seed, k]) if halves else None
            frame = make_frame(session.trials, bins, warp_s, infer_obs)
            parts.append(_second_pass(session, conditions.codes[k], len(conditions.labels), frame, rng))
        rate, n_trials = (np.concatenate(arrays, axis=2) for arrays in zip(*parts, strict=True))
        found = _files([session.said for session in sessions], digests)
    # rate (1 or 3, condition, neuron, time), n_trials (1 or 3, condition, neuron): whole, then two halves
    rate = smooth(rate, (smooth_s or 0.0) / bins.bin_s)
    if missing == "keep":
        rate[:, n_trials[0] < min_trials] = np.nan
    neurons = neuron_coords(labels, found["file"], [s.unit_ids for s in sessions], [s.columns for s in sessions])
    recording = condition_dataset(rate.transpose(0, 1, 3, 2), n_trials, bins, conditions, neurons, found)
    recording.attrs = attributes(bins, smooth_s, align, where, table, within, warp, warp_s, infer_obs) | {
        "by": [factor.column for factor in factors],
        "by_how": [factor.text for factor in factors],
        "min_trials": int(min_trials),
        "n_units_dropped": 0,
        "dropped_units": [],
    }
    if missing == "drop":
        recording = drop_units(recording, min_trials)
    kept = np.isin(found["file"], recording["file"].values)
    recording.attrs |= totals([session.trials for session, is_in in zip(sessions, kept, strict=True) if is_in])
    if halves:
        recording.attrs["halves_seed"] = int(seed)
    return recording


def read_trials(
    source: Source,
    *,
    align: Align,
    window_s: Sequence[float],
    bin_s: float,
    where: str | None = None,
    units: UnitChoice = None,
    table: TableChoice = "trials",
    columns: Sequence[str] | None = None,
    within: Sequence[str] | None = None,
    warp: Sequence[str] | None = None,
    infer_obs: bool = False,
) -> xr.Dataset:
    """Spike counts of every unit in every trial of one NWB file.

    Arguments as for `read_conditions`; ``columns`` of the table become coordinates on ``trial`` (None: all
    that hold one value per row; one that holds many becomes a text such as '1.5, 2'), and the row ids are the
    coordinate ``trial``.

    | result | dims | unit |
    |---|---|---|
    | count | trial, time, neuron | spikes, uint16; 0 where not observed |
    | observed | trial, time, neuron | bool; absent where all is observed |
    | exposure_s | trial, time | real duration of a bin, s, with ``warp``: the rate is count / exposure_s |

    Raises: ContractError for arguments that are wrong whatever the file; NWBError for a file that does not
    hold what is asked for.

    Example:
        >>> read_trials("session.nwb", align="cue_time", window_s=(0, 1), bin_s=0.01)["count"].dims
        ('trial', 'time', 'neuron')
    """
    bins = make_bins(window_s, bin_s)
    check_frame(align, within, warp)
    path = expand([source])
    if len(path) > 1:
        raise NWBError(f"{source} stands for {len(path)} files; read_trials reads one. Call it for each.")
    if isinstance(columns, str):
        raise ContractError(f"columns is {columns!r}; it needs a list of names. Put it in brackets.")
    request = {"table": table, "where": where, "align": align, "columns": columns, "within": within, "warp": warp}
    session = _first_pass(path[0], units, (), request)
    _with_units([session], units)
    trials = session.trials
    warp_s = typical_interval([trials])
    frame = make_frame(trials, bins, warp_s, infer_obs)
    with reading(session.path) as file:
        spikes, observed, frame = _read_units(file, session, frame)
    n = len(trials.origins)
    count = np.zeros((n, bins.n, len(spikes)), np.uint16)
    partly = within is not None or frame.infer or any(part is not None for part in observed)
    seen = np.ones(count.shape, bool) if partly else None
    for k, times in enumerate(spikes):
        counts = frame.tally(times, np.arange(n), n, observed[k])
        if counts.spikes.max(initial=0) > _MOST_COUNT:
            raise NWBError(
                f"{session.path}: unit {session.unit_ids[k]} has {counts.spikes.max()} spikes in one bin; "
                f"at most {_MOST_COUNT} can be. Check the unit of the spike times."
            )
        count[:, :, k] = counts.spikes
        if seen is not None:
            seen[:, :, k] = counts.seen > 0
    dims = ("trial", "time", "neuron")
    data: dict[str, Any] = {"count": (dims, count, {"units": "1"})}
    if seen is not None and not seen.all():
        data["observed"] = (dims, seen, {"units": "1"})
    if frame.exposure_s is not None:
        data["exposure_s"] = (("trial", "time"), frame.exposure_s, {"units": "s"})
    label = session_labels([session.said])
    found = _files([session.said], [])
    coords = {
        "trial": trials.ids,
        "time": ("time", bins.centres, {"units": "s"}),
        **{free_name(name, "trial"): ("trial", values) for name, values in trials.columns.items()},
        **neuron_coords(label, found["file"], [session.unit_ids], [{}]),
        **{name: ("file", values) for name, values in found.items()},
    }
    attrs = attributes(bins, None, align, where, table, within, warp, warp_s, infer_obs) | totals([trials])
    return xr.Dataset(data, coords, attrs | {"n_units_dropped": 0})


def _check_options(smooth_s: float | None, min_trials: int, missing: str) -> None:
    if smooth_s is not None and not (isinstance(smooth_s, int | float) and 0 <= smooth_s < np.inf):
        raise ContractError(f"smooth_s is {smooth_s!r}; it needs a number of seconds of at least 0, or None.")
    if not isinstance(min_trials, int | np.integer) or min_trials < 1:
        raise ContractError(f"min_trials is {min_trials!r}; it needs a whole number of at least 1.")
    if missing not in ("drop", "keep"):
        raise ContractError(f'missing is {missing!r}; it needs to be "drop" or "keep".')


def _first_pass(path: Path, units: UnitChoice, unit_columns: Sequence[str], request: dict[str, Any]) -> _Session:
    with reading(path) as file:
        table = open_units(file, path)
        rows, lacking = choose_rows(table, units)
        columns = columns_of_units(table, rows, unit_columns)
        trials = choose_trials(file, path, **request)
        return _Session(path, provenance(file, path), rows, table.ids[rows], lacking, columns, trials)


def _with_units(sessions: list[_Session], units: UnitChoice) -> list[_Session]:
    """The sessions that have any of the units asked for; raises NWBError where an id is in none of them."""
    absent = set.intersection(*(set(session.lacking) for session in sessions))
    if absent:
        listed = ", ".join(map(str, sorted(absent)))
        where = sessions[0].path if len(sessions) == 1 else f"any of {len(sessions)} files"
        raise NWBError(f"units names ids that are not in {where}: {listed}. nwb-lint inspect lists those there.")
    kept = [session for session in sessions if len(session.unit_rows)]
    if not kept:
        raise NWBError(f"units={units!r} selects none of the units of {sessions[0].path}. Loosen it.")
    return kept


def _second_pass(
    session: _Session, codes: Array, n_conditions: int, frame: Frame, rng: np.random.Generator | None
) -> tuple[Array, Array]:
    """Rates (1, or 3 with ``rng``: whole, halves; condition, neuron, time), trials (…, condition, neuron)."""
    with reading(session.path) as file:
        spikes, observed, frame = _read_units(file, session, frame)
    bins = frame.bins
    parts = 1 if rng is None else 2
    groups = codes if rng is None else 2 * codes + _halve(codes, rng)
    sizes = (n_conditions, parts)
    rate = np.empty((1 if rng is None else 3, n_conditions, len(spikes), bins.n))
    n_trials = np.empty(rate.shape[:3], np.int64)
    for i, times in enumerate(spikes):
        unit = frame.tally(times, groups, n_conditions * parts, observed[i])
        counts, seen = (a.reshape(*sizes, bins.n) for a in (unit.spikes, unit.seen))
        trials = unit.trials.reshape(sizes)
        with np.errstate(invalid="ignore"):
            rate[0, :, i] = counts.sum(axis=1) / (seen.sum(axis=1) * bins.bin_s)
            for half in range(len(rate) - 1):
                rate[half + 1, :, i] = counts[:, half] / (seen[:, half] * bins.bin_s)
        n_trials[0, :, i] = trials.sum(axis=1)
        n_trials[1:, :, i] = trials.T[: len(rate) - 1]
    return rate, n_trials


def _halve(codes: Array, rng: np.random.Generator) -> Array:
    """0 or 1 for each trial at random, as equal in number as can be within each condition."""
    order = np.lexsort((rng.random(len(codes)), codes))
    ordered = codes[order]
    first = np.searchsorted(ordered, ordered)
    half = np.empty(len(codes), np.int64)
    half[order] = (np.arange(len(codes)) - first) % 2
    return half


def _read_units(file: h5py.File, session: _Session, frame: Frame) -> tuple[list[Array], list[Any], Frame]:
    """Spikes and observed times; the frame infers what was observed only where the file does not say it."""
    table = open_units(file, session.path)
    has_obs = has_observed(table)
    frame = frame._replace(infer=frame.infer and not has_obs)
    spikes = read_spikes(table, session.unit_rows, session.trials.reach_s)
    observed = read_observed(file, table, session.unit_rows)
    evidence = Evidence(session.trials, frame, has_obs)
    evidence.add(session.unit_ids, spikes, observed)
    evidence.judge()
    return spikes, observed, frame


def _files(said: list[Provenance], digests: list[Future[str]]) -> dict[str, Array]:
    """The coordinates along ``file``."""
    fields = ("identifier", "object_id", "units_object_id", "session_id", "subject_id")
    found = {"file": texts([item.path for item in said])}
    for name in fields:
        found[f"file_{name}"] = texts([getattr(item, name) for item in said])
    known = [future.result() for future in digests] or [digest(item.path) for item in said]
    return found | {"file_digest": texts(known)}


def _bar(items: list, progress: bool, what: str) -> Any:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc=f"reading {what}", unit="file")
