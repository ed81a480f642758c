"""One session's spikes, or samples → condition means, a block of units at a time: work that runs on any executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.counts import Bins, Counts, smooth_units, units_at_once
from nwb_lint.nwb.electrodes import columns_of_units
from nwb_lint.nwb.frame import Frame, make_frame
from nwb_lint.nwb.honest import Evidence
from nwb_lint.nwb.series import Series, open_series, sampled
from nwb_lint.nwb.source import Asset, Provenance, noted, provenance, reading
from nwb_lint.nwb.trials import Trials, choose_trials
from nwb_lint.nwb.units import UnitChoice, choose_rows, has_observed, open_units, read_observed, spike_blocks

Array = np.ndarray
Tally = Callable[[int], Counts]  # of a unit, by its place in a block

_AHEAD = 2  # blocks of spikes that wait to be counted while another is
_BLOCK = 1 << 20  # rates in memory at a time, twice, beside the result


class Request(NamedTuple):
    """What every session is asked: units, their columns, what `choose_trials` is given, a series in place of spikes."""

    units: UnitChoice
    unit_columns: tuple[str, ...]
    trials: dict[str, Any]
    series: str | None = None


class Session(NamedTuple):
    """What the first pass finds in a file: which units and trials, and the unit of their rates; no spikes yet.
    ``noted``: see `digests`."""

    asset: Asset
    noted: str
    said: Provenance
    unit_rows: Array
    unit_ids: Array
    lacking: list[int]
    columns: dict[str, Array]
    trials: Trials
    series: str | None
    unit: str


class Framing(NamedTuple):
    """How the trials of every session are laid on one time axis: see `frame.make_frame`."""

    bins: Bins
    warp_s: float | None
    infer: bool


class Averaging(NamedTuple):
    """How trials become rates: the condition of each, how many there are, frame, smoothing, the seed of halves."""

    codes: Array
    n_conditions: int
    framing: Framing
    sd_bins: float
    seed: list[int] | None


class Rates(NamedTuple):
    """Of one session: rate (part, condition, time, neuron) float32 and n_trials (part, condition, neuron), where
    part is the whole, then two halves."""

    rate: Array
    n_trials: Array


def find_session(asset: Asset, request: Request) -> Session:
    """The units and trials of a file.

    Raises: NWBError where there are none, or the file cannot be read.
    """
    with reading(asset) as file:
        before = noted(asset)
        table = open_units(file, asset) if request.series is None else open_series(file, request.series, asset)
        rows, lacking = choose_rows(table, request.units)
        columns = columns_of_units(table, rows, request.unit_columns)
        trials = choose_trials(file, asset, **request.trials)
        unit = table.unit if isinstance(table, Series) else "Hz"
        said = provenance(file, asset)
        return Session(asset, before, said, rows, table.ids[rows], lacking, columns, trials, request.series, unit)


def session_rates(asset: Asset, session: Session, how: Averaging) -> Rates:
    """Mean rates of a session's units in every condition; counting and smoothing go on beside reading."""
    with ThreadPoolExecutor(2) as beside, reading(asset) as file:
        return _averages(file, session, how, beside)


def open_session(
    file: h5py.File, session: Session, framing: Framing, groups: Array, n_groups: int
) -> tuple[Frame, Iterator[tuple[Array, Tally]]]:
    """The frame of a session's trials; and its units block by block: positions, and what counts one of them by group of
    trials and bin, in any thread.

    What was observed is inferred only where the file does not say it. Raises: NWBError, after the last block,
    where the times of spikes cannot be those of the session (`honest.Evidence`).
    """
    if session.series is not None:
        series, frame = open_series(file, session.series, session.asset), make_frame(session.trials, *framing)
        tally = sampled(file, series, session.unit_rows, frame, groups, n_groups)
        return frame, iter([(np.arange(len(session.unit_rows)), tally)])
    table = open_units(file, session.asset)
    has_obs = has_observed(table)
    frame = make_frame(session.trials, framing.bins, framing.warp_s, framing.infer and not has_obs)
    count = frame.tallying(groups, n_groups)

    def blocks() -> Iterator[tuple[Array, Tally]]:
        evidence = Evidence(session.trials, frame, has_obs)
        all_observed = read_observed(file, table, session.unit_rows)
        for positions, spikes in spike_blocks(table, session.unit_rows, session.trials.reach_s):
            observed = [all_observed[k] for k in positions]
            evidence.add(session.unit_ids[positions], spikes, observed)

            def tally(k: int, spikes=spikes, observed=observed) -> Counts:
                return count(spikes[k], observed[k])

            yield positions, tally
        evidence.judge()

    return frame, blocks()


def _averages(file: h5py.File, session: Session, how: Averaging, beside: Executor) -> Rates:
    """rate = spikes / (trials that saw the bin × bin_s), or the mean sample, smoothed; trials that saw any bin."""
    codes, n_conditions, framing, sd_bins, seed = how
    bins = framing.bins
    halves = 1 if seed is None else 2
    groups = codes if seed is None else 2 * codes + _halve(codes, np.random.default_rng(seed))
    n_units = len(session.unit_rows)
    rate = np.empty((1 if seed is None else 3, n_conditions, bins.n, n_units), np.float32)
    n_trials = np.empty((*rate.shape[:2], n_units), np.int64)
    lasts = bins.bin_s if session.series is None else 1.0

    def average(position: int, counts: Counts, out: Array) -> None:
        _divide(counts, lasts, out)
        trials = counts.trials.reshape(n_conditions, halves)
        n_trials[0, :, position] = trials.sum(axis=1)
        n_trials[1:, :, position] = trials.T[: len(n_trials) - 1]

    averager = _Averager(rate, sd_bins, average, beside)
    for positions, tally in open_session(file, session, framing, groups, n_conditions * halves)[1]:
        averager.add(positions, tally)
    averager.finish()
    return Rates(rate, n_trials)


class _Averager:
    """Units averaged and smoothed into rate (part, condition, time, neuron), beside the reading of the next units: of
    two buffers one is filled, by a function of position, counts and place (part, condition, time), the other
    smoothed."""

    def __init__(
        self, rate: Array, sd_bins: float, average: Callable[[int, Counts, Array], None], beside: Executor
    ) -> None:
        self._rate, self._sd_bins, self._average, self._beside = rate, sd_bins, average, beside
        n, k = max(1, _BLOCK // int(np.prod(rate.shape[:-1]))), units_at_once(sd_bins)
        n = min(n if n < k else n // k * k, rate.shape[-1])
        self._filled, self._other = (np.empty((n, *rate.shape[:-1]), np.float32) for _ in range(2))
        self._positions: list[int] = []
        self._averaging: list[Future[None]] = []
        self._running: Future[None] | None = None

    def add(self, positions: Array, tally: Tally) -> None:
        """Have units averaged, and those smoothed that fill a buffer."""
        done = 0
        while done < len(positions):
            first = len(self._positions)
            some = range(done, min(done + len(self._filled) - first, len(positions)))
            self._averaging.append(self._beside.submit(self._fill, self._filled[first:], some, positions, tally))
            if len(self._averaging) > _AHEAD:  # no more is read than can be averaged soon
                self._averaging[-1 - _AHEAD].result()
            self._positions += positions[some.start : some.stop].tolist()
            done = some.stop
            if len(self._positions) == len(self._filled):
                self._smooth()

    def _fill(self, places: Array, some: range, positions: Array, tally: Tally) -> None:
        for k, place in zip(some, places, strict=False):
            self._average(int(positions[k]), tally(k), place)

    def finish(self) -> None:
        """Smooth what is left, and wait."""
        if self._positions:
            self._smooth()
        if self._running is not None:
            self._running.result()

    def _smooth(self) -> None:
        """Hand over what is filled, and go on with the other buffer as soon as it is free."""
        positions = np.array(self._positions, np.int64)
        work = self._averaging, self._rate, positions, self._filled[: len(positions)], self._sd_bins
        before, self._running = self._running, self._beside.submit(_smooth_into, *work)
        self._filled, self._other, self._positions, self._averaging = self._other, self._filled, [], []
        if before is not None:
            before.result()


def _smooth_into(averaging: list[Future[None]], rate: Array, positions: Array, block: Array, sd_bins: float) -> None:
    """Smooth a block (unit, part, condition, time) once it is averaged, and put it where it belongs in rate (…,
    time, neuron). Averaging began before, on the same workers, so waiting for it never ends in a deadlock."""
    for averaged in averaging:
        averaged.result()
    rows = rate.reshape(-1, *rate.shape[-2:])
    values = block.reshape(len(block), -1, block.shape[-1])
    if (np.diff(positions) == 1).all():
        smooth_units(values, sd_bins, rows[..., positions[0] : positions[-1] + 1])
        return
    part = np.empty((*rows.shape[:-1], len(positions)), np.float32)
    smooth_units(values, sd_bins, part)
    rows[..., positions] = part


def _divide(counts: Counts, bin_s: float, out: Array) -> None:
    """Rates of the whole, and of the halves where ``out`` has three parts, from sums by group (condition, half)."""
    spikes, seen = counts.spikes, counts.seen
    seen = seen if seen.strides[1] else seen[:, :1]  # all bins seen alike: one divisor for all
    if len(out) == 1:
        parts = [(spikes, seen)]
    else:
        spikes, seen = (a.reshape(out.shape[1], 2, -1) for a in (spikes, seen))
        parts = [(spikes.sum(axis=1), seen.sum(axis=1)), (spikes[:, 0], seen[:, 0]), (spikes[:, 1], seen[:, 1])]
    with np.errstate(invalid="ignore"):
        for (sums, times), into in zip(parts, out, strict=True):
            into[...] = sums
            into /= (times * bin_s).astype(np.float32)  # in single precision all along: twice as fast


def _halve(codes: Array, rng: np.random.Generator) -> Array:
    """0 or 1 for each trial at random, as equal in number as can be within each condition."""
    order = np.lexsort((rng.random(len(codes)), codes))
    ordered = codes[order]
    first = np.searchsorted(ordered, ordered)
    half = np.empty(len(codes), np.int64)
    half[order] = (np.arange(len(codes)) - first) % 2
    return half
