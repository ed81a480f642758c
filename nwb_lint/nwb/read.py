"""NWB files → recording: `read_conditions`, mean rates per condition, and `read_trials`, counts per trial."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError
from nwb_lint.nwb.assemble import (
    attributes,
    condition_dataset,
    drop_units,
    free_name,
    neuron_coords,
    texts,
)
from nwb_lint.nwb.conditions import By, join, parse_by
from nwb_lint.nwb.counts import Bins, count_unit, make_bins, smooth
from nwb_lint.nwb.source import (
    Asset,
    NWBError,
    Provenance,
    Source,
    digest,
    expand,
    provenance,
    reading,
    session_labels,
)
from nwb_lint.nwb.trials import Trials, check_overlap, choose_trials
from nwb_lint.nwb.units import UnitChoice, choose_rows, open_units, read_observed, read_spikes

Array = np.ndarray

_MOST_COUNT = np.iinfo(np.uint16).max


class _Session(NamedTuple):
    """What the first pass finds in a file: which units and trials; no spikes yet."""

    asset: Asset
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
    align: str,
    window_s: Sequence[float],
    bin_s: float,
    smooth_s: float | None = None,
    where: str | None = None,
    units: UnitChoice = None,
    table: str = "trials",
    min_trials: int = 1,
    missing: str = "drop",
    halves: bool = False,
    seed: int = 0,
    unit_columns: Sequence[str] = (),
    download: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Mean firing rate of every unit in every condition: a recording, one NWB file or several stacked.

        rate[c, t, i] = spikes of unit i in bin t over the trials of c that observed it
                        / (number of those trials × bin_s),        then smoothed along t

    | argument | |
    |---|---|
    | sources | files or addresses (`open_nwb`); a text with ``*`` stands for what it matches. Neurons are stacked |
    | by | columns that make a condition: names, ``{name: "rank"}``, ``{name: [edges]}``, or several |
    | align | column of times that are 0; trials without one drop out |
    | window_s, bin_s | (start, stop) around it and the width of a bin, s; nothing beyond is read |
    | smooth_s | sd of the Gaussian (`counts.smooth`), s |
    | where | query over the table's columns (`query.select`) |
    | units | unit ids, or a query over the units table's columns |
    | missing | "drop" units with fewer than ``min_trials`` in a condition, or "keep" them as NaN |
    | halves | also the rates of two random halves of each condition's trials (``seed``) |
    | download | keep remote files whole in the cache folder; by default they are streamed |

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
    bins, factors = make_bins(window_s, bin_s), parse_by(by)
    _check_options(smooth_s, min_trials, missing)
    if isinstance(unit_columns, str):
        raise ContractError(f"unit_columns is {unit_columns!r}; it needs a list of names. Put it in brackets.")
    assets = expand(sources, download=download)
    request = {"table": table, "where": where, "align": align, "factors": factors}
    with ThreadPoolExecutor(1) as pool:
        sessions = [_first_pass(asset, units, unit_columns, request) for asset in _bar(assets, progress, "trials")]
        sessions = _with_units(sessions, units)
        digests = [pool.submit(digest, session.asset) for session in sessions]
        labels = session_labels([session.said for session in sessions])
        conditions = join(factors, [session.trials.levels for session in sessions], labels)
        parts = []
        for k, session in enumerate(_bar(sessions, progress, "spikes")):
            rng = np.random.default_rng([seed, k]) if halves else None
            parts.append(_second_pass(session, conditions.codes[k], len(conditions.labels), bins, rng))
        rate, n_trials = (np.concatenate(arrays, axis=2) for arrays in zip(*parts, strict=True))
        found = _files([session.said for session in sessions], [future.result() for future in digests])
    # rate (1 or 3, condition, neuron, time), n_trials (1 or 3, condition, neuron): whole, then two halves
    rate = smooth(rate, (smooth_s or 0.0) / bins.bin_s)
    if missing == "keep":
        rate[:, n_trials[0] < min_trials] = np.nan
    neurons = neuron_coords(labels, found["file"], [s.unit_ids for s in sessions], [s.columns for s in sessions])
    recording = condition_dataset(rate.transpose(0, 1, 3, 2), n_trials, bins, conditions, neurons, found)
    recording.attrs = attributes(bins, smooth_s, align, where, table) | {
        "by": [factor.column for factor in factors],
        "by_how": [factor.text for factor in factors],
        "min_trials": int(min_trials),
        "n_units_dropped": 0,
        "dropped_units": [],
    }
    if missing == "drop":
        recording = drop_units(recording, min_trials)
    kept = np.isin(found["file"], recording["file"].values)
    recording.attrs |= _totals([session.trials for session, is_in in zip(sessions, kept, strict=True) if is_in])
    if halves:
        recording.attrs["halves_seed"] = int(seed)
    return recording


def read_trials(
    source: Source,
    *,
    align: str,
    window_s: Sequence[float],
    bin_s: float,
    where: str | None = None,
    units: UnitChoice = None,
    table: str = "trials",
    columns: Sequence[str] | None = None,
    download: bool = False,
) -> xr.Dataset:
    """Spike counts of every unit in every trial of one NWB file.

    Arguments as for `read_conditions`; ``columns`` of the table become coordinates on ``trial`` (None: all
    that hold one value per row), and the row ids are the coordinate ``trial``.

    | result | dims | unit |
    |---|---|---|
    | count | trial, time, neuron | spikes, uint16; 0 where not observed |
    | observed | trial, time, neuron | bool; absent where all is observed |

    Raises: ContractError for arguments that are wrong whatever the file; NWBError for a file that does not
    hold what is asked for.

    Example:
        >>> read_trials("session.nwb", align="cue_time", window_s=(0, 1), bin_s=0.01)["count"].dims
        ('trial', 'time', 'neuron')
    """
    bins = make_bins(window_s, bin_s)
    assets = expand([source], download=download)
    if len(assets) > 1:
        raise NWBError(f"{source} stands for {len(assets)} files; read_trials reads one. Call it for each.")
    if isinstance(columns, str):
        raise ContractError(f"columns is {columns!r}; it needs a list of names. Put it in brackets.")
    request = {"table": table, "where": where, "align": align, "columns": columns}
    session = _first_pass(assets[0], units, (), request)
    _with_units([session], units)
    trials = session.trials
    with reading(session.asset) as file:
        spikes, observed = _read_units(file, session, bins)
    n = len(trials.origins)
    count = np.zeros((n, bins.n, len(spikes)), np.uint16)
    seen = np.ones(count.shape, bool) if any(part is not None for part in observed) else None
    for k, times in enumerate(spikes):
        counts = count_unit(times, trials.origins, np.arange(n), n, bins, observed[k])
        if counts.spikes.max(initial=0) > _MOST_COUNT:
            raise NWBError(
                f"{session.asset}: unit {session.unit_ids[k]} has {counts.spikes.max()} spikes in one bin; "
                f"at most {_MOST_COUNT} can be. Check the unit of the spike times."
            )
        count[:, :, k] = counts.spikes
        if seen is not None:
            seen[:, :, k] = counts.seen > 0
    dims = ("trial", "time", "neuron")
    data = {"count": (dims, count, {"units": "1"})}
    if seen is not None and not seen.all():
        data["observed"] = (dims, seen, {"units": "1"})
    label = session_labels([session.said])
    found = _files([session.said], [digest(session.asset)])
    coords = {
        "trial": trials.ids,
        "time": ("time", bins.centres, {"units": "s"}),
        **{free_name(name, "trial"): ("trial", values) for name, values in trials.columns.items()},
        **neuron_coords(label, found["file"], [session.unit_ids], [{}]),
        **{name: ("file", values) for name, values in found.items()},
    }
    attrs = attributes(bins, None, align, where, table) | {
        "n_trials_used": n,
        "n_trials_dropped_align": trials.dropped_align,
        "n_units_dropped": 0,
    }
    return xr.Dataset(data, coords, attrs)


def _check_options(smooth_s: float | None, min_trials: int, missing: str) -> None:
    if smooth_s is not None and not (isinstance(smooth_s, int | float) and 0 <= smooth_s < np.inf):
        raise ContractError(f"smooth_s is {smooth_s!r}; it needs a number of seconds of at least 0, or None.")
    if not isinstance(min_trials, int | np.integer) or min_trials < 1:
        raise ContractError(f"min_trials is {min_trials!r}; it needs a whole number of at least 1.")
    if missing not in ("drop", "keep"):
        raise ContractError(f'missing is {missing!r}; it needs to be "drop" or "keep".')


def _first_pass(path: Asset, units: UnitChoice, unit_columns: Sequence[str], request: dict[str, Any]) -> _Session:
    with reading(path) as file:
        table = open_units(file, path)
        rows, lacking = choose_rows(table, units)
        columns = {name: table.column(name)[rows] for name in unit_columns}
        trials = choose_trials(file, path, **request)
        return _Session(path, provenance(file, path), rows, table.ids[rows], lacking, columns, trials)


def _with_units(sessions: list[_Session], units: UnitChoice) -> list[_Session]:
    """The sessions that have any of the units asked for; raises NWBError where an id is in none of them."""
    absent = set.intersection(*(set(session.lacking) for session in sessions))
    if absent:
        listed = ", ".join(map(str, sorted(absent)))
        where = sessions[0].asset if len(sessions) == 1 else f"any of {len(sessions)} files"
        raise NWBError(f"units names ids that are not in {where}: {listed}. nwb-lint inspect lists those there.")
    kept = [session for session in sessions if len(session.unit_rows)]
    if not kept:
        raise NWBError(f"units={units!r} selects none of the units of {sessions[0].asset}. Loosen it.")
    return kept


def _second_pass(
    session: _Session, codes: Array, n_conditions: int, bins: Bins, rng: np.random.Generator | None
) -> tuple[Array, Array]:
    """Rates (1, or 3 with ``rng``: whole, halves; condition, neuron, time), trials (…, condition, neuron)."""
    with reading(session.asset) as file:
        spikes, observed = _read_units(file, session, bins)
    parts = 1 if rng is None else 2
    groups = codes if rng is None else 2 * codes + _halve(codes, rng)
    sizes = (n_conditions, parts)
    rate = np.empty((1 if rng is None else 3, n_conditions, len(spikes), bins.n))
    n_trials = np.empty(rate.shape[:3], np.int64)
    for i, times in enumerate(spikes):
        unit = count_unit(times, session.trials.origins, groups, n_conditions * parts, bins, observed[i])
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


def _read_units(file: h5py.File, session: _Session, bins: Bins) -> tuple[list[Array], list[Any]]:
    table = open_units(file, session.asset)
    spikes = read_spikes(table, session.unit_rows)
    observed = read_observed(file, table, session.unit_rows)
    check_overlap(session.trials, bins, spikes, observed)
    return spikes, observed


def _files(said: list[Provenance], digests: list[str]) -> dict[str, Array]:
    """The coordinates along ``file``."""
    fields = ("identifier", "object_id", "units_object_id", "session_id", "subject_id")
    found = {"file": texts([item.path for item in said])}
    for name in fields:
        found[f"file_{name}"] = texts([getattr(item, name) for item in said])
    return found | {"file_digest": texts(digests)}


def _totals(trials: list[Trials]) -> dict[str, int]:
    return {
        "n_trials_used": sum(len(part.origins) for part in trials),
        "n_trials_dropped_align": sum(part.dropped_align for part in trials),
        "n_trials_dropped_by": sum(part.dropped_by for part in trials),
    }


def _bar(items: list, progress: bool, what: str) -> Any:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc=f"reading {what}", unit="file")
