"""One session's spikes, or samples → condition means, a block of units at a time: work that runs on any executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.recording.binning import Bins, Counts, smooth_units, units_at_once
from nwb_lint.nwb.recording.series import Series, open_series, sampled
from nwb_lint.nwb.recording.spike_time_checks import Evidence
from nwb_lint.nwb.recording.time_axis import Frame, make_frame
from nwb_lint.nwb.recording.trials import Trials, choose_trials
from nwb_lint.nwb.recording.units import (
    UnitChoice,
    choose_rows,
    columns_of_units,
    has_observed,
    open_units,
    read_observed,
    spike_blocks,
)
from nwb_lint.nwb.storage.asset import Asset
from nwb_lint.nwb.storage.digests import fingerprint
from nwb_lint.nwb.storage.metadata import Provenance, provenance
from nwb_lint.nwb.storage.source import reading

Array = np.ndarray
Tally = Callable[[int], Counts]  # of a unit, by its place in a block

_THREADS = 2  # that read, count and smooth
_BLOCK = 1 << 20  # rates in memory at a time, by each and once more, beside the result


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
        before = fingerprint(asset)
        table = open_units(file, asset) if request.series is None else open_series(file, request.series, asset)
        rows, lacking = choose_rows(table, request.units)
        columns = columns_of_units(table, rows, request.unit_columns)
        trials = choose_trials(file, asset, **request.trials)
        unit = table.unit if isinstance(table, Series) else "Hz"
        said = provenance(file, asset)
        return Session(asset, before, said, rows, table.ids[rows], lacking, columns, trials, request.series, unit)


def session_rates(asset: Asset, session: Session, how: Averaging) -> Rates:
    """Mean rates of a session's units in every condition."""
    with reading(asset) as file:
        return _averages(file, session, how)


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


def _averages(file: h5py.File, session: Session, how: Averaging) -> Rates:
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

    _Averager(rate, sd_bins, average, open_session(file, session, framing, groups, n_conditions * halves)[1]).run()
    return Rates(rate, n_trials)


class _Piece(NamedTuple):
    """Units of a block that find room in one buffer, from place ``first`` on: positions, and places in the block."""

    buffer: _Buffer
    first: int
    positions: list[int]
    ks: range
    tally: Tally


class _Buffer:
    """Rates (unit, part, condition, time) of some units, by position, before they are smoothed."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.values = np.empty(shape, np.float32)
        self.positions: list[int] = []
        self.n_averaged = 0


class _Averager:
    """Units averaged and smoothed into rate (part, condition, time, neuron) by threads that do the same work.

    Each takes the next block, averages its units into a buffer by a function of position, counts and place (part,
    condition, time), and smooths the buffer if it was the last to fill it. So what was read is counted by the core in
    whose cache it is, and no thread waits for another but to read. There are never more buffers than threads, and one.
    """

    def __init__(
        self,
        rate: Array,
        sd_bins: float,
        average: Callable[[int, Counts, Array], None],
        blocks: Iterator[tuple[Array, Tally]],
    ) -> None:
        self._rate, self._sd_bins, self._average = rate, sd_bins, average
        n, k = max(1, _BLOCK // int(np.prod(rate.shape[:-1]))), units_at_once(sd_bins)
        self._at_once = min(n if n < k else n // k * k, rate.shape[-1])
        self._lock = Lock()
        self._free: list[_Buffer] = []
        self._buffer = self._empty()
        self._pieces = self._split(blocks)

    def run(self) -> None:
        """All blocks; this thread is one of those that work."""
        with ThreadPoolExecutor(_THREADS - 1) as others:
            running = [others.submit(copy_context().run, self._work) for _ in range(_THREADS - 1)]
            self._work()
        for future in running:
            future.result()
        if self._buffer.n_averaged < self._at_once:
            self._smooth(self._buffer)

    def _work(self) -> None:
        try:
            while piece := self._next():
                buffer, first, positions, ks, tally = piece
                for place, (position, k) in enumerate(zip(positions, ks, strict=True), first):
                    self._average(position, tally(k), buffer.values[place])
                with self._lock:
                    buffer.n_averaged += len(ks)
                    full = buffer.n_averaged == self._at_once
                if full:
                    self._smooth(buffer)
                    self._free.append(buffer)
        except BaseException:
            self._pieces = iter(())  # nor need the others go on
            raise

    def _next(self) -> _Piece | None:
        with self._lock:
            return next(self._pieces, None)

    def _split(self, blocks: Iterator[tuple[Array, Tally]]) -> Iterator[_Piece]:
        """The blocks in pieces, each of which has room in one buffer."""
        for positions, tally in blocks:
            done = 0
            while done < len(positions):
                if len(self._buffer.positions) == self._at_once:
                    self._buffer = self._empty()
                first = len(self._buffer.positions)
                ks = range(done, min(done + self._at_once - first, len(positions)))
                some = positions[ks.start : ks.stop].tolist()
                self._buffer.positions += some
                done = ks.stop
                yield _Piece(self._buffer, first, some, ks, tally)

    def _empty(self) -> _Buffer:
        if not self._free:
            return _Buffer((self._at_once, *self._rate.shape[:-1]))
        buffer = self._free.pop()
        buffer.positions, buffer.n_averaged = [], 0
        return buffer

    def _smooth(self, buffer: _Buffer) -> None:
        """Put a buffer, smoothed, where it belongs in rate."""
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
