"""Spikes or samples of one session → mean rates by condition, a block of units at a time, on any executor.

1. `find_session` finds the units and trials of a file; `repeated_recordings` finds those that are there twice.
2. `count_blocks` reads and counts its units block by block, for both readers.
3. `session_rates` averages and smooths the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, NamedTuple

import h5py
import numpy as np
from scipy.sparse import csr_array

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.binning import FEWER_BINS, Counts, smooth_units, units_at_once
from nwb_lint.nwb.recording.events import activity_paths
from nwb_lint.nwb.recording.input_courses import CourseSums, Wanted, course_sums, read_courses
from nwb_lint.nwb.recording.series import Series, open_series, sample_counter
from nwb_lint.nwb.recording.spike_time_checks import (
    ObservedChecks,
    SpikeTimeChecks,
    check_rows_at_once,
    check_trials_against,
)
from nwb_lint.nwb.recording.time_axis import TimeAxis, TrialTimeAxis, make_trial_time_axis
from nwb_lint.nwb.recording.trials import Trials, choose_trials
from nwb_lint.nwb.recording.unit_tables import (
    UnitChoice,
    UnitsTable,
    choose_rows,
    columns_of_units,
    fit_paths,
    open_units,
    units_tables,
)
from nwb_lint.nwb.recording.units import has_observed, read_intervals, spike_blocks
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.digests import fingerprint, sha256
from nwb_lint.nwb.storage.h5 import as_text
from nwb_lint.nwb.storage.metadata import Provenance, provenance
from nwb_lint.nwb.storage.source import Source, expand, reading
from nwb_lint.parallel.engine import run_tasks
from nwb_lint.parallel.memory import check_memory
from nwb_lint.parallel.threads import processors
from nwb_lint.parallel.warnings import warn

Array = np.ndarray
_MOST_UNKNOWN = 0.1  # of the samples of an input in the trials, above which there is a warning
CountUnit = Callable[[int], Counts]  # counts a unit, by its place in a block

_MOST_THREADS = 4  # that read, count and smooth; more wait for each other's reading
_VALUES_AT_ONCE = 1 << 20  # rates that one thread holds before they are smoothed


class Request(NamedTuple):
    """What to read from every session.

    | field | |
    |---|---|
    | units, unit_columns | which units, and their columns |
    | trials | arguments of `choose_trials` |
    | series, units_table | a series in place of spikes; where the units table is |
    """

    units: UnitChoice
    unit_columns: tuple[str, ...]
    trials: dict[str, Any]
    series: str | None = None
    units_table: str | None = None


class Session(NamedTuple):
    """The units and trials that were found in a file; no spikes yet.

    | field | |
    |---|---|
    | file_digest | the file's digest, or size and time of modification of a local file |
    | unit_rows, unit_ids, unit_labels, columns | rows, ids, unique labels and columns of the chosen units |
    | missing_ids | chosen ids that the file does not have |
    | series, unit | the series in place of spikes (None: spikes); the unit of the rates |
    | units_table, object_id | path of the units table ('' for a series); object_id of the table or series |
    | n_units | how many units there are to choose from |
    """

    asset: Asset
    file_digest: str
    provenance: Provenance
    unit_rows: Array
    unit_ids: Array
    unit_labels: Array
    missing_ids: list[Any]
    columns: dict[str, Array]
    trials: Trials
    series: str | None
    unit: str
    units_table: str
    object_id: str
    n_units: int


class AverageOptions(NamedTuple):
    """How the trials of a session become rates.

    | field | |
    |---|---|
    | condition_of, n_conditions | the condition of each trial; how many there are in all sessions |
    | axis | the time axis |
    | sd_bins | sd of the smoothing, bins |
    | seed | seed of the random halves and resamples of trials |
    | halves | whether there are halves |
    | draws | number of resamples of the trials |
    | wanted | the inputs whose courses are read |
    """

    condition_of: Array
    n_conditions: int
    axis: TimeAxis
    sd_bins: float
    seed: list[int]
    halves: bool = False
    draws: int = 0
    wanted: Wanted = Wanted()

    @property
    def parts(self) -> int:
        """The number of rates of each condition."""
        return 1 + 2 * self.halves + self.draws


class Rates(NamedTuple):
    """Rates of a session: rate (part, condition, time, neuron) float32 and n_trials (part, condition, neuron).

    The first part is all trials; then come two halves, if there are any, and resamples. ``n_trials`` has all trials and
    halves only. ``courses`` are those of inputs in the file, of all trials and resamples.
    """

    rate: Array
    n_trials: Array
    courses: CourseSums | None = None


def find_session(asset: Asset, request: Request) -> Session:
    """The units and trials of a file; NWBError if there are none, or the file cannot be read."""
    with reading(asset) as file:
        before = fingerprint(asset)
        if request.series is None:
            table: UnitsTable | Series = open_units(file, asset, request.units_table)
        else:
            table = open_series(file, request.series, asset)
        at = table.at if isinstance(table, UnitsTable) else ""
        rows, missing_ids = choose_rows(table, request.units)
        return Session(
            asset=asset,
            file_digest=before,
            provenance=provenance(file, asset, at or None),
            unit_rows=rows,
            unit_ids=table.ids[rows],
            unit_labels=table.labels[rows],
            missing_ids=missing_ids,
            columns=columns_of_units(table, rows, request.unit_columns),
            trials=choose_trials(file, asset, **request.trials),
            series=request.series,
            unit=table.unit if isinstance(table, Series) else "Hz",
            units_table=at,
            object_id=as_text(table.group.attrs.get("object_id", "")),
            n_units=len(table.ids),
        )


def find_session_or_fit(asset: Asset, request: Request) -> Session | str:
    """The units and trials of a file, or one sentence if it holds a fit and no recording.

    Raises: NWBError as `find_session`.
    """
    try:
        return find_session(asset, request)
    except NWBError:
        fits = fits_alone(asset)
        if not fits:
            raise
    return f"{asset} {_is_a_fit(fits[0])}"


def _is_a_fit(path: str) -> str:
    return f"holds a fit ({path}) and no recording. Read it with read_fit."


def fits_alone(asset: Asset) -> list[str]:
    """Paths of the fits in a file without activity; none if the file cannot be read.

    Parameters
    ----------
    asset : Asset
        One file.

    Returns
    -------
    list of str
    """
    try:
        with reading(asset) as file:
            return [] if _has_activity(file) else fit_paths(file)
    except NWBError:  # the error of the first try says why
        return []


def find_recordings(sources: Source | Sequence[Source], **how: Any) -> list[Asset]:
    """The files of `expand`, without those that hold fits alone among the matches of a pattern.

    So a pattern means the same recordings after a fit was put beside them. The other files are named in a warning.

    Parameters
    ----------
    sources : str, os.PathLike, Asset, or a sequence of these
        As for `expand`.
    **how
        As for `expand`.

    Returns
    -------
    list of Asset
    """
    return expand(sources, choose=_without_fits, **how)


def _without_fits(matches: list[Asset]) -> list[Asset]:
    """The matches of a pattern that hold activity; all of them where none does. Few files of an archive are opened."""
    fits = {one: paths[0] for one in matches if (one.derived or not one.remote) and (paths := fits_alone(one))}
    if len(fits) == len(matches):
        return matches
    for asset, path in fits.items():
        warn(f"left out {asset}: it {_is_a_fit(path)}")
    return [asset for asset in matches if asset not in fits]


def _has_activity(file: h5py.File) -> bool:
    return bool(units_tables(file) or activity_paths(file))


def repeated_recordings(sessions: Sequence[Session]) -> Iterator[tuple[int, str]]:
    """Position of each session that is the same recording as an earlier one, and a message that names both.

    Two files are the same recording if the object_id of their units (or series) is the same, as in a copy, or in a full
    copy with a fit; or, where a file has no object_id, if their bytes are the same.
    """
    first: dict[str, Session] = {}
    sizes = [_size(session) for session in sessions]
    for k, session in enumerate(sessions):
        known = {f"their units have the object_id {session.object_id}": session.object_id}
        if session.asset.digest or (sizes[k] and sizes.count(sizes[k]) > 1):
            known["their bytes are the same"] = session.asset.digest or sha256(session.asset.path)
        why = next((text for text, key in known.items() if key and key in first), None)
        if why is None:
            first |= {key: session for key in known.values()}
            continue
        twin = first[known[why]].asset
        yield (
            k,
            f"{session.asset} is the same recording as {twin}: {why}. Its neurons would count twice. Leave one of the "
            "two out, for example by exclude=.",
        )


def _size(session: Session) -> str:
    """The size of a local file without object_id, as a text; '' for others, whose bytes need not be compared."""
    local = not session.object_id and not session.asset.remote and session.asset.path.is_file()
    return session.file_digest.partition(",")[0] if local else ""


def count_blocks(
    file: h5py.File, session: Session, axis: TimeAxis, groups: Array, n_groups: int
) -> tuple[TrialTimeAxis, Iterator[tuple[Array, CountUnit]]]:
    """The time axis of a session's trials; and its units, block by block.

    A block is the positions of its units, and a function that counts one of them by group of trials and bin; it may
    run in any thread. What a unit observed is inferred only if the file does not say it.

    Raises: NWBError, after the last block, if spike times cannot be those of the session (`SpikeTimeChecks`).
    """
    if session.series is not None:
        series, trial_axis = (
            open_series(file, session.series, session.asset),
            make_trial_time_axis(session.trials, axis),
        )
        check_rows_at_once(session.trials, trial_axis)
        count_unit, recorded = sample_counter(file, series, session.unit_rows, trial_axis, groups, n_groups)
        step_s = (recorded[1] - recorded[0]) / max(series.n_samples - 1, 1)
        check_trials_against(session.trials, recorded, step_s)
        return trial_axis, iter([(np.arange(len(session.unit_rows)), count_unit)])
    table = open_units(file, session.asset, session.units_table)
    has_obs = has_observed(table)
    trial_axis = make_trial_time_axis(session.trials, axis._replace(infer_obs=axis.infer_obs and not has_obs))
    check_rows_at_once(session.trials, trial_axis)
    count = trial_axis.unit_counter(groups, n_groups)

    def blocks() -> Iterator[tuple[Array, CountUnit]]:
        checks = SpikeTimeChecks(session.trials, trial_axis, has_obs)
        intervals = read_intervals(file, table, session.unit_rows)
        all_observed = intervals.valid()
        observed_checks = ObservedChecks(table.where, intervals.invalid)
        for positions, spikes in spike_blocks(table, session.unit_rows, checks.reach_s):
            observed = [all_observed[k] for k in positions]
            checks.add(session.unit_labels[positions], spikes, observed)
            observed_checks.add(session.unit_labels[positions], spikes, [intervals.given[k] for k in positions])

            def count_unit(k: int, spikes=spikes, observed=observed) -> Counts:
                return count(spikes[k], observed[k])

            yield positions, count_unit
        observed_checks.finish()
        checks.finish()

    return trial_axis, blocks()


def session_rates(asset: Asset, session: Session, options: AverageOptions) -> Rates:
    """Mean rates of a session's units in every condition, smoothed, and the number of trials that observed any bin.

    The rate of a bin is spikes / (trials that observed the bin × bin_s), or the mean sample of a series. A resample
    counts each trial as often as it was drawn.
    """
    _, n_conditions, axis, sd_bins, seed = options[:5]
    halves, n_units = 1 + options.halves, len(session.unit_rows)
    what = f"activity of {n_units} units in {n_conditions} conditions and {axis.bins.n} bins"
    check_memory(4.0 * options.parts * n_conditions * axis.bins.n * n_units, f"{asset}: {what}", FEWER_BINS)
    rate = np.empty((options.parts, n_conditions, axis.bins.n, n_units), np.float32)
    n_trials = np.empty((options.parts - options.draws, n_conditions, n_units), np.int64)
    bin_s = axis.bins.bin_s if session.series is None else 1.0
    groups = _groups(options)
    if options.draws:
        weights = _trial_weights(groups, n_conditions, halves, options.draws, np.random.default_rng([*seed, 1]))
        groups, n_groups = np.arange(len(groups)), len(groups)
    else:
        n_groups = n_conditions * halves

    def average(position: int, counts: Counts, out: Array) -> None:
        if options.draws:
            seen = counts.seen if counts.seen.strides[1] else counts.seen[:, :1]
            with np.errstate(invalid="ignore"):
                out[...] = (weights @ counts.spikes / (weights @ seen * bin_s)).reshape(out.shape)
            trials = weights[: n_trials[:, :, 0].size] @ counts.trials
            n_trials[:, :, position] = trials.reshape(-1, n_conditions)
            return
        _divide(counts, bin_s, out)
        trials = counts.trials.reshape(n_conditions, halves)
        n_trials[0, :, position] = trials.sum(axis=1)
        n_trials[1:, :, position] = trials.T[: len(n_trials) - 1]

    with reading(session.asset) as file:
        blocks = count_blocks(file, session, axis, groups, n_groups)[1]
        average_blocks(blocks, average, rate, sd_bins)
        courses = _session_courses(file, session, options) if options.wanted.inputs else None
    return Rates(rate, n_trials, courses)


def _session_courses(file: h5py.File, session: Session, options: AverageOptions) -> CourseSums:
    """Sums of the courses of inputs over the trials of every condition, and over the same resamples as the rates."""
    condition_of, n_conditions, axis, _, seed = options[:5]
    courses = read_courses(file, session.asset, session.trials, axis, options.wanted)
    for one, unknown in zip(options.wanted.inputs, np.isnan(courses.values).mean(axis=(0, 1)), strict=True):
        if unknown > _MOST_UNKNOWN:
            warn(
                f"{session.asset}: {one.series} has no value in {unknown:.0%} of the samples of input {one.name!r}. "
                "The means of conditions are those of the other trials. Leave such trials out by where."
            )
    if not options.draws:
        n = len(condition_of)
        weights = csr_array((np.ones(n), (condition_of, np.arange(n))), (n_conditions, n))
        return course_sums(courses, weights, 1)
    halves = 1 + options.halves
    groups = _groups(options)
    weights = _trial_weights(groups, n_conditions, halves, options.draws, np.random.default_rng([*seed, 1]))
    parts = np.r_[0, weights.shape[0] // n_conditions - options.draws + np.arange(options.draws)]
    rows = (parts[:, None] * n_conditions + np.arange(n_conditions)).ravel()
    return course_sums(courses, weights[rows], len(parts))


def _groups(options: AverageOptions) -> Array:
    """The group of each trial: its condition, and with halves also its half, drawn with the seed."""
    if not options.halves:
        return options.condition_of
    return 2 * options.condition_of + _halve(options.condition_of, np.random.default_rng(options.seed))


def _trial_weights(
    groups: Array, n_conditions: int, halves: int, draws: int, generator: np.random.Generator
) -> csr_array:
    """How often each trial counts, (part × condition, trial): in all trials, in halves, and in each resample.

    A resample of a condition has as many trials as the condition, drawn with replacement. All units of a session have
    the same ones, so that a resample keeps the correlations between units.
    """
    condition_of, n = groups // halves, len(groups)
    counts = np.zeros((1 + 2 * (halves - 1) + draws, n))
    counts[0] = 1
    for half in range(2 * (halves - 1)):
        counts[1 + half] = groups % halves == half
    for condition in np.unique(condition_of):
        own = np.flatnonzero(condition_of == condition)
        counts[-draws:, own] = generator.multinomial(len(own), np.full(len(own), 1 / len(own)), size=draws)
    part, trial = np.nonzero(counts)
    rows = part * n_conditions + condition_of[trial]
    return csr_array((counts[part, trial], (rows, trial)), shape=(len(counts) * n_conditions, n))


def average_blocks(
    blocks: Iterator[tuple[Array, CountUnit]],
    average: Callable[[int, Counts, Array], None],
    rate: Array,
    sd_bins: float,
    *,
    threads: int | None = None,
    values_at_once: int = _VALUES_AT_ONCE,
) -> None:
    """Average the units of all blocks by ``average(position, counts, out)``, smooth them, and write them to ``rate``.

    ``out`` is (part, condition, time) of one unit, ``rate`` (part, condition, time, neuron). The result is the same to
    the last bit for any number of threads. None is the number of processors, at most 4, but at least 2: one can wait
    for the disk or the network while the other one counts. Beside ``rate``, memory holds ``values_at_once`` values for
    every thread and once more.
    """
    if threads is None:
        threads = max(2, min(_MOST_THREADS, processors()))
    averager = _Averager(rate, sd_bins, average, blocks, values_at_once)
    for _ in run_tasks(_Averager.work, [(averager, {})] * threads, threads=threads):
        pass
    averager.finish()


class _Piece(NamedTuple):
    """Units of a block that fit into one buffer, from place ``first`` on: positions, and places in the block."""

    buffer: _Buffer
    first: int
    positions: list[int]
    ks: range
    count_unit: CountUnit


class _Buffer:
    """Rates (unit, part, condition, time) of some units, by position, before they are smoothed."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.values = np.empty(shape, np.float32)
        self.positions: list[int] = []
        self.n_averaged = 0


class _Averager:
    """Units averaged and smoothed into rate (part, condition, time, neuron) by threads that do the same work.

    Each thread takes the next block, averages its units into a buffer by a function of position, counts and place
    (part, condition, time), and smooths the buffer if it was the last to fill it. Spikes are thus counted by the core
    whose cache holds them, and threads wait for each other only to read. There is at most one buffer more than threads.
    """

    def __init__(
        self,
        rate: Array,
        sd_bins: float,
        average: Callable[[int, Counts, Array], None],
        blocks: Iterator[tuple[Array, CountUnit]],
        values_at_once: int,
    ) -> None:
        self._rate, self._sd_bins, self._average = rate, sd_bins, average
        n, k = max(1, values_at_once // int(np.prod(rate.shape[:-1]))), units_at_once(sd_bins)
        self._at_once = min(n if n < k else n // k * k, rate.shape[-1])
        self._lock = Lock()
        self._free: list[_Buffer] = []
        self._buffer = self._empty()
        self._pieces = self._split(blocks)

    def work(self) -> None:
        """Average and smooth one piece after another, until there is none left."""
        try:
            while piece := self._next():
                buffer, first, positions, ks, count_unit = piece
                for place, (position, k) in enumerate(zip(positions, ks, strict=True), first):
                    self._average(position, count_unit(k), buffer.values[place])
                with self._lock:
                    buffer.n_averaged += len(ks)
                    full = buffer.n_averaged == self._at_once
                if full:
                    self._smooth(buffer)
                    self._free.append(buffer)
        except BaseException:
            self._pieces = iter(())  # so that the other threads end too
            raise

    def finish(self) -> None:
        """Smooth the last buffer, which may not be full."""
        if self._buffer.n_averaged < self._at_once:
            self._smooth(self._buffer)

    def _next(self) -> _Piece | None:
        with self._lock:
            return next(self._pieces, None)

    def _split(self, blocks: Iterator[tuple[Array, CountUnit]]) -> Iterator[_Piece]:
        """The blocks in pieces, each of which fits into one buffer."""
        for positions, count_unit in blocks:
            done = 0
            while done < len(positions):
                if len(self._buffer.positions) == self._at_once:
                    self._buffer = self._empty()
                first = len(self._buffer.positions)
                ks = range(done, min(done + self._at_once - first, len(positions)))
                some = positions[ks.start : ks.stop].tolist()
                self._buffer.positions += some
                done = ks.stop
                yield _Piece(self._buffer, first, some, ks, count_unit)

    def _empty(self) -> _Buffer:
        if not self._free:
            return _Buffer((self._at_once, *self._rate.shape[:-1]))
        buffer = self._free.pop()
        buffer.positions, buffer.n_averaged = [], 0
        return buffer

    def _smooth(self, buffer: _Buffer) -> None:
        """Write a buffer, smoothed, to its units in rate."""
        positions = np.array(buffer.positions, np.int64)
        rows = self._rate.reshape(-1, *self._rate.shape[-2:])
        values = buffer.values[: len(positions)].reshape(len(positions), -1, rows.shape[1])
        if (np.diff(positions) == 1).all():
            smooth_units(values, self._sd_bins, rows[..., positions[0] : positions[-1] + 1])
            return
        part = np.empty((*rows.shape[:-1], len(positions)), np.float32)
        smooth_units(values, self._sd_bins, part)
        rows[..., positions] = part


def _divide(counts: Counts, bin_s: float, out: Array) -> None:
    """Rates of all trials, and of the halves if ``out`` has three parts, from sums by group (condition, half)."""
    spikes, seen = counts.spikes, counts.seen
    seen = seen if seen.strides[1] else seen[:, :1]  # the same in all bins: one divisor for all
    if len(out) == 1:
        parts = [(spikes, seen)]
    else:
        spikes, seen = (a.reshape(out.shape[1], 2, -1) for a in (spikes, seen))
        parts = [(spikes.sum(axis=1), seen.sum(axis=1)), (spikes[:, 0], seen[:, 0]), (spikes[:, 1], seen[:, 1])]
    with np.errstate(invalid="ignore"):
        for (sums, times), into in zip(parts, out, strict=True):
            into[...] = sums
            into /= (times * bin_s).astype(np.float32)  # single precision throughout is twice as fast


def _halve(condition_of: Array, rng: np.random.Generator) -> Array:
    """0 or 1 for each trial at random, in numbers as equal as possible within each condition."""
    order = np.lexsort((rng.random(len(condition_of)), condition_of))
    ordered = condition_of[order]
    first = np.searchsorted(ordered, ordered)
    half = np.empty(len(condition_of), np.int64)
    half[order] = (np.arange(len(condition_of)) - first) % 2
    return half
