"""One session's spikes, or samples → condition means, unit by unit: work that runs on any executor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import h5py
import numpy as np

from nwb_lint.nwb.counts import Bins, Counts, smooth_units, units_at_once
from nwb_lint.nwb.electrodes import columns_of_units
from nwb_lint.nwb.frame import Frame, make_frame
from nwb_lint.nwb.honest import Evidence
from nwb_lint.nwb.series import Series, open_series, tallies
from nwb_lint.nwb.source import Asset, Provenance, digest, provenance, reading
from nwb_lint.nwb.trials import Trials, choose_trials
from nwb_lint.nwb.units import UnitChoice, choose_rows, has_observed, open_units, read_observed, spike_blocks

Array = np.ndarray

_BLOCK = 1 << 20  # rates in memory at a time, twice, beside the result


class Request(NamedTuple):
    """What every session is asked: units, their columns, what `choose_trials` is given, a series in place of spikes."""

    units: UnitChoice
    unit_columns: tuple[str, ...]
    trials: dict[str, Any]
    series: str | None = None


class Session(NamedTuple):
    """What the first pass finds in a file: which units and trials, and the unit of their rates; no spikes yet."""

    asset: Asset
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
    part is the whole, then two halves; and the digest of the file."""

    rate: Array
    n_trials: Array
    digest: str


def find_session(asset: Asset, request: Request) -> Session:
    """The units and trials of a file.

    Raises: NWBError where there are none, or the file cannot be read.
    """
    with reading(asset) as file:
        table = open_units(file, asset) if request.series is None else open_series(file, request.series, asset)
        rows, lacking = choose_rows(table, request.units)
        columns = columns_of_units(table, rows, request.unit_columns)
        trials = choose_trials(file, asset, **request.trials)
        unit = table.unit if isinstance(table, Series) else "Hz"
        said = provenance(file, asset)
        return Session(asset, said, rows, table.ids[rows], lacking, columns, trials, request.series, unit)


def session_rates(asset: Asset, session: Session, how: Averaging) -> Rates:
    """Mean rates of a session's units in every condition; smoothing and the file's digest go on beside counting."""
    with ThreadPoolExecutor(2) as beside:
        found = beside.submit(digest, asset)
        with reading(asset) as file:
            rate, n_trials = _averages(file, session, how, beside)
        return Rates(rate, n_trials, found.result())


def open_session(
    file: h5py.File, session: Session, framing: Framing, groups: Array, n_groups: int
) -> tuple[Frame, Iterator[tuple[int, Counts]]]:
    """The frame of a session's trials, and of its units, one by one, position and counts by group of trials and bin.

    What was observed is inferred only where the file does not say it. Raises: NWBError, after the last unit,
    where the times of spikes cannot be those of the session (`honest.Evidence`).
    """
    if session.series is not None:
        series, frame = open_series(file, session.series, session.asset), make_frame(session.trials, *framing)
        return frame, tallies(file, series, session.unit_rows, frame, groups, n_groups)
    table = open_units(file, session.asset)
    has_obs = has_observed(table)
    frame = make_frame(session.trials, framing.bins, framing.warp_s, framing.infer and not has_obs)

    def counted() -> Iterator[tuple[int, Counts]]:
        evidence = Evidence(session.trials, frame, has_obs)
        all_observed = read_observed(file, table, session.unit_rows)
        for positions, spikes in spike_blocks(table, session.unit_rows, session.trials.reach_s):
            observed = [all_observed[k] for k in positions]
            evidence.add(session.unit_ids[positions], spikes, observed)
            for position, times, part in zip(positions, spikes, observed, strict=True):
                yield int(position), frame.tally(times, groups, n_groups, part)
        evidence.judge()

    return frame, counted()


def _averages(file: h5py.File, session: Session, how: Averaging, beside: Executor) -> tuple[Array, Array]:
    """rate = spikes / (trials that saw the bin × bin_s), or the mean sample, smoothed; trials that saw any bin."""
    codes, n_conditions, framing, sd_bins, seed = how
    bins = framing.bins
    halves = 1 if seed is None else 2
    groups = codes if seed is None else 2 * codes + _halve(codes, np.random.default_rng(seed))
    n_units = len(session.unit_rows)
    rate = np.empty((1 if seed is None else 3, n_conditions, bins.n, n_units), np.float32)
    n_trials = np.empty((*rate.shape[:2], n_units), np.int64)
    smoothing = _Smoothing(rate, sd_bins, beside)
    lasts = bins.bin_s if session.series is None else 1.0
    for position, unit in open_session(file, session, framing, groups, n_conditions * halves)[1]:
        _divide(unit.spikes, unit.seen, lasts, smoothing.place(position))
        trials = unit.trials.reshape(n_conditions, halves)
        n_trials[0, :, position] = trials.sum(axis=1)
        n_trials[1:, :, position] = trials.T[: len(n_trials) - 1]
    smoothing.finish()
    return rate, n_trials


class _Smoothing:
    """Units smoothed into rate (part, condition, time, neuron): of two buffers one is filled, the other smoothed."""

    def __init__(self, rate: Array, sd_bins: float, beside: Executor) -> None:
        self._rate, self._sd_bins, self._beside = rate, sd_bins, beside
        n, k = max(1, _BLOCK // int(np.prod(rate.shape[:-1]))), units_at_once(sd_bins)
        n = min(n if n < k else n // k * k, rate.shape[-1])
        self._filled, self._other = (np.empty((n, *rate.shape[:-1]), np.float32) for _ in range(2))
        self._positions: list[int] = []
        self._running: Future[None] | None = None

    def place(self, position: int) -> Array:
        """Where the rates (part, condition, time) of a neuron are to be put, before the next is asked for."""
        if len(self._positions) == len(self._filled):
            self._smooth()
        self._positions.append(position)
        return self._filled[len(self._positions) - 1]

    def finish(self) -> None:
        """Smooth what is left, and wait."""
        self._smooth()
        self._wait()

    def _smooth(self) -> None:
        self._wait()
        block, positions = self._filled[: len(self._positions)], np.array(self._positions, np.int64)
        self._running = self._beside.submit(_smooth_into, self._rate, positions, block, self._sd_bins)
        self._filled, self._other, self._positions = self._other, self._filled, []

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()


def _smooth_into(rate: Array, positions: Array, block: Array, sd_bins: float) -> None:
    """Smooth a block (unit, part, condition, time) and put it where it belongs in rate (…, time, neuron)."""
    rows = rate.reshape(-1, *rate.shape[-2:])
    values = block.reshape(len(block), -1, block.shape[-1])
    if len(positions) and (np.diff(positions) == 1).all():
        smooth_units(values, sd_bins, rows[..., positions[0] : positions[-1] + 1])
        return
    part = np.empty((*rows.shape[:-1], len(positions)), np.float32)
    smooth_units(values, sd_bins, part)
    rows[..., positions] = part


def _divide(spikes: Array, seen: Array, bin_s: float, out: Array) -> None:
    """Rates of the whole, and of the halves where ``out`` has three parts, from sums by group (condition, half)."""
    with np.errstate(invalid="ignore"):
        if len(out) == 1:
            seen = seen if seen.strides[1] else seen[:, :1]  # all bins seen alike: one divisor for all
            np.divide(spikes, seen * bin_s, out=out[0], casting="same_kind")
            return
        spikes, seen = (a.reshape(out.shape[1], 2, out.shape[2]) for a in (spikes, seen))
        np.divide(spikes.sum(axis=1), seen.sum(axis=1) * bin_s, out=out[0], casting="same_kind")
        np.divide(spikes.transpose(1, 0, 2), seen.transpose(1, 0, 2) * bin_s, out=out[1:], casting="same_kind")


def _halve(codes: Array, rng: np.random.Generator) -> Array:
    """0 or 1 for each trial at random, as equal in number as can be within each condition."""
    order = np.lexsort((rng.random(len(codes)), codes))
    ordered = codes[order]
    first = np.searchsorted(ordered, ordered)
    half = np.empty(len(codes), np.int64)
    half[order] = (np.arange(len(codes)) - first) % 2
    return half
