"""Spike times → counts per group of trials and time bin, observed bins, and smoothing: arrays in, arrays out.

A spike on an edge belongs to the later bin. A spike less than `EDGE_S` before an edge counts as on it, so that
rounding of times (0.1 + 3 × 0.005 is not 0.115) moves no spike. A bin is observed if it lies within the union of the
observed intervals; an interval may end `OBSERVED_S` early or late at each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.parallel.memory import check_memory

Array = np.ndarray

EDGE_S = 1e-7  # far below the sampling interval of any recording (1/40 kHz = 2.5e-5 s)
OBSERVED_S = 1e-6
FEWER_BINS = "Use wider bins, a shorter window, fewer units or fewer conditions"  # where memory is short
_SHORTEST_BIN_S = 1e-5
_TRUNCATE = 4.0  # the smoothing kernel ends at this many sd
_BAND_BINS = 32, 512  # bins that one matrix product smooths, at least and at most
_ONE_THREAD = 1 << 18  # multiplications up to which OpenBLAS uses one thread
_FEWEST_ROWS = 8  # products of fewer rows are slower than the threads of OpenBLAS
_TILE = 16  # units that a kernel of BLAS multiplies at once


class Bins(NamedTuple):
    """``n`` equal time bins of ``bin_s`` from ``start`` (s, 0 at alignment)."""

    start: float
    bin_s: float
    n: int

    @property
    def centers(self) -> Array:
        return self.start + (np.arange(self.n) + 0.5) * self.bin_s


class Intervals(NamedTuple):
    """Disjoint intervals in ascending order: starts and ends, s."""

    starts: Array
    ends: Array


class Counts(NamedTuple):
    """The counts of one unit by group of trials.

    | field | dims | |
    |---|---|---|
    | spikes | group, time | number of spikes, or sum of samples of a series |
    | seen | group, time | number of trials in which the bin was observed; with warped time, their real time in bins |
    | trials | group | number of trials with any observed bin |
    """

    spikes: Array
    seen: Array
    trials: Array


def make_bins(window_s: Sequence[float], bin_s: float) -> Bins:
    """Bins of a window ``(start, stop)``; their number is (stop − start) / bin_s, which must be whole.

    Raises: ContractError if the window is not valid, or the bins do not fill it to within 1e-6 of a bin.

    Examples
    --------
    >>> make_bins((0.1, 0.85), 0.005).n
    150
    """
    try:
        start, stop = (float(edge) for edge in window_s)
        width = float(bin_s)
    except (TypeError, ValueError):
        raise ContractError(
            f"window_s is {window_s!r} and bin_s {bin_s!r}; they need (start, stop) and a width in s."
        ) from None
    if not np.isfinite([start, stop]).all() or start >= stop:
        raise ContractError(f"window_s is ({start:g}, {stop:g}); start needs to be below stop, and both finite, in s.")
    if not _SHORTEST_BIN_S <= width < np.inf:
        raise ContractError(f"bin_s is {width:g}; it needs to be at least {_SHORTEST_BIN_S:g} s.")
    ratio = (stop - start) / width
    n = round(ratio)
    if n < 1 or abs(ratio - n) > 1e-6:
        nearest = [f"({start:g}, {start + k * width:.6g})" for k in {int(ratio), int(ratio) + 1} if k]
        raise ContractError(
            f"window_s ({start:g}, {stop:g}) is {ratio:.6g} bins of {width:g} s. A whole number is needed. "
            f"Use {' or '.join(nearest)}."
        )
    check_memory(32.0 * n, f"window_s of {n:.3g} bins", FEWER_BINS)
    return Bins(start, width, n)


def union(starts: Array, ends: Array) -> Intervals:
    """The union of intervals in any order; gaps up to 2 × `OBSERVED_S` are closed, empty and NaN intervals left out."""
    keep = ends > starts
    starts, ends = starts[keep], ends[keep]
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order]) if len(ends) else ends
    new = np.ones(len(starts), bool)
    new[1:] = starts[1:] > ends[:-1] + 2 * OBSERVED_S
    last = np.append(np.flatnonzero(new)[1:] - 1, len(starts) - 1) if len(starts) else np.zeros(0, int)
    return Intervals(starts[new], ends[last])


def complement(intervals: Intervals) -> Intervals:
    """The time outside intervals, from minus to plus infinity."""
    starts = np.concatenate([[-np.inf], intervals.ends])
    ends = np.concatenate([intervals.starts, [np.inf]])
    keep = ends > starts
    return Intervals(starts[keep], ends[keep])


def without(intervals: Intervals, invalid: Intervals) -> Intervals:
    """The part of intervals that is in no invalid interval: not (not intervals or invalid)."""
    gaps = complement(intervals)
    return complement(union(np.concatenate([gaps.starts, invalid.starts]), np.concatenate([gaps.ends, invalid.ends])))


class Windows(NamedTuple):
    """Windows of time, each of whole bins of one trial, in the order of their starts.

    The index of a spike in sums (group, time), laid out flat, is spike·per_s + adds. ``seen`` and ``trials`` are those
    of `Counts`.
    """

    starts: Array
    ends: Array
    adds: Array
    per_s: float
    seen: Array
    trials: Array


def make_windows(
    origins: Array, groups: Array, n_groups: int, bins: Bins, runs: tuple[Array, Array, Array] | None = None
) -> Windows:
    """The windows of trials aligned to ``origins`` (trial, s), each in a group (trial), 0 … n_groups − 1.

    ``runs`` are those of observed bins in ascending order: trial, first bin, and the bin after the last. None means
    that all bins are observed.
    """
    of, first, last = runs or (np.arange(len(origins)), np.zeros(len(origins)), np.full(len(origins), bins.n))
    begin, at = origins[of] + bins.start - EDGE_S, groups[of]
    starts, ends, adds = begin + first * bins.bin_s, begin + last * bins.bin_s, at * float(bins.n) - begin / bins.bin_s
    order = np.argsort(starts, kind="stable")
    if (last - first == bins.n).all():
        seen = np.broadcast_to(np.bincount(at, minlength=n_groups)[:, None], (n_groups, bins.n))
    else:
        seen = covered(at, first, last, n_groups, bins.n)
    trials = np.bincount(groups[np.unique(of)], minlength=n_groups)
    return Windows(starts[order], ends[order], adds[order], 1 / bins.bin_s, seen, trials)


def count_windows(spikes: Array, windows: Windows) -> Counts:
    """Spikes (sorted times, s) by group of trials and time bin, in the observed bins.

        spikes[g, k] = #{(trial, spike): groups[trial] = g, bin k observed,
                         origin + start + k·bin_s <= spike < origin + start + (k+1)·bin_s}

    Examples
    --------
    >>> windows = make_windows(np.array([0.0, 1.0]), np.array([0, 0]), 1, Bins(0, 0.5, 2))
    >>> count_windows(np.array([0.5, 1.5]), windows).spikes
    array([[0, 2]], dtype=int32)
    """
    starts, ends, adds, per_s, seen, trials = windows
    counts = np.zeros(seen.shape, np.int32)
    add_spikes(np.ascontiguousarray(spikes, float), starts, ends, adds, per_s, counts.reshape(-1))
    return Counts(counts, seen, trials)


def covered(rows: Array, first: Array, last: Array, n_rows: int, n: int) -> Array:
    """How many runs [first, last) of each row include each bin: (row, n)."""
    size = n_rows * (n + 1)
    change = np.bincount(rows * (n + 1) + first, minlength=size) - np.bincount(rows * (n + 1) + last, minlength=size)
    return np.cumsum(change.reshape(n_rows, n + 1), axis=1)[:, :-1]


def add_spikes_numpy(spikes: Array, starts: Array, ends: Array, adds: Array, per_s: float, counts: Array) -> None:
    """Count every spike of every window: counts[int(spike·per_s + add)] += 1 for starts <= spike < ends.

    Rounding may put a spike at an edge of its window one bin outside; it then counts in the first or last bin.
    `add_spikes` is the compiled twin (`_count.c`), if a C compiler was found at installation. It gives exactly the
    same counts in a third of the time.

    | name | dims | |
    |---|---|---|
    | spikes | sorted | s, float64 |
    | starts, ends, adds | window, in order of starts | s, s, bins; float64 |
    | counts | | int32, contiguous; spikes are added to it |
    """
    edges = np.stack([starts, ends], axis=1)  # start and end of a window are then close in the cache
    low, high = spikes.searchsorted(edges.ravel()).reshape(-1, 2).T
    n, index = _indices(low, high)
    place = spikes[index]
    place *= per_s
    place += np.repeat(adds, n)
    middles = starts * per_s + adds + 0.5, ends * per_s + adds - 0.5  # of the first and the last bin
    first, last = (np.repeat(middle.astype(np.int64), n) for middle in middles)
    counts += np.bincount(np.clip(place.astype(np.int64), first, last), minlength=len(counts))


try:
    from nwb_lint.nwb.recording._count import add_spikes
except ImportError:
    add_spikes = add_spikes_numpy


def smooth(values: Array, sd_bins: float, axis: int = -1) -> Array:
    """Gaussian smoothing along an axis, without spread of NaN and without decay at the ends.

        out[t] = sum_s g(t−s) values[s] / sum_s g(t−s),  s over the samples that are not NaN, |t−s| <= 4 sd

    NaN stay NaN. A constant stays constant; ``sd_bins`` 0 changes nothing.

    Raises: ContractError if ``sd_bins`` is negative or not finite.

    Examples
    --------
    >>> smooth(np.array([1.0, 1.0, np.nan, 1.0]), 2.0)
    array([ 1.,  1., nan,  1.])
    """
    if not 0 <= sd_bins < np.inf:
        raise ContractError(f"sd_bins is {sd_bins}; it needs a number of bins of at least 0.")
    values = np.asarray(values, float)
    radius = int(_TRUNCATE * sd_bins + 0.5)
    if radius == 0 or values.size == 0:
        return values.copy()
    moved = np.moveaxis(values, axis, -1)
    unknown = np.isnan(moved)
    if not unknown.any():
        out = _convolve(moved, sd_bins, radius)
        out /= _convolve(np.ones(moved.shape[-1]), sd_bins, radius)
    else:
        out = _convolve(np.where(unknown, 0.0, moved), sd_bins, radius)
        with np.errstate(invalid="ignore"):
            out /= _convolve((~unknown).astype(float), sd_bins, radius)
        out[unknown] = np.nan
    return np.moveaxis(out, -1, axis)


def smooth_units(values: Array, sd_bins: float, out: Array) -> None:
    """`smooth` for the (row, time) values of many units, in single precision, into an array with units last.

    Every matrix product has the same shape, padded if units are fewer. A unit's result then depends on the other units
    by the last bit at most (some kernels of BLAS add in an order that depends on the position). Rows with NaN are
    smoothed by `smooth`.

    | name | dims | |
    |---|---|---|
    | values | unit, row, time | float32 |
    | out | row, time, unit | float32 |
    """
    radius = int(_TRUNCATE * sd_bins + 0.5)
    if radius == 0:
        out[...] = np.moveaxis(values, 0, -1)
        return
    any_nan = np.isnan(values.min(initial=0))  # much less work than a sum of every row; most data have no NaN
    unit, row = np.nonzero(np.isnan(values.sum(axis=-1) if any_nan else values[:0, :, 0]))
    known = values if not len(unit) else np.nan_to_num(values, nan=0.0)
    n = values.shape[-1]
    k = units_at_once(sd_bins)
    bands = []
    for band, kernel in _bands(n, sd_bins, radius):  # BLAS multiplies transposed bands in half the time
        bands.append((band, np.asarray((kernel / kernel.sum(axis=0)).T, np.float32, order="F")))
    for first in range(0, len(values), k):
        part, into = known[first : first + k], out[..., first : first + k]
        if len(part) < k:
            part = np.concatenate([part, np.zeros((k - len(part), *part.shape[1:]), np.float32)])
            into = np.empty((*into.shape[:-1], k), np.float32)
        for band, weights in bands:
            np.matmul(weights, part[..., band.low : band.high].transpose(1, 2, 0), out=into[:, band.first : band.last])
        if len(values) < first + k:
            out[..., first:] = into[..., : len(values) - first]
    if len(unit):
        out[row, :, unit] = smooth(values[unit, row], sd_bins)


def units_at_once(sd_bins: float) -> int:
    """How many units `smooth_units` multiplies at once."""
    radius = int(_TRUNCATE * sd_bins + 0.5)
    size = _band_size(radius)
    return max(_ONE_THREAD // (size * (size + 2 * radius)) // _TILE, 1) * _TILE


class _Band(NamedTuple):
    """Columns first to last of a banded matrix, and the rows low to high in which they are not 0."""

    first: int
    last: int
    low: int
    high: int


def _band_size(radius: int) -> int:
    return min(max(radius, _BAND_BINS[0]), _BAND_BINS[1])


def _bands(n: int, sd_bins: float, radius: int) -> Iterator[tuple[_Band, Array]]:
    """The Gaussian's matrix (n, n) band by band."""
    size = _band_size(radius)
    for first in range(0, n, size):
        last = min(first + size, n)
        low, high = max(first - radius, 0), min(last + radius, n)
        apart = np.arange(low, high)[:, None] - np.arange(first, last)
        yield _Band(first, last, low, high), np.exp(-0.5 * (apart / sd_bins) ** 2) * (np.abs(apart) <= radius)


def _convolve(values: Array, sd_bins: float, radius: int) -> Array:
    """Sum over s of g(t−s) values[s] along the last axis: banded matrix products, block by block."""
    n, size = values.shape[-1], _band_size(radius)
    rows = values.reshape(-1, n)
    out = np.empty(rows.shape)
    # Products too small for BLAS to divide among threads: these would wait for each other, long on a busy machine.
    k = _ONE_THREAD // (size * (size + 2 * radius))
    k = k if k >= _FEWEST_ROWS else len(rows)
    whole = len(rows) // k * k
    shape = (whole // k, k, n)
    parts = [(rows[:whole].reshape(shape), out[:whole].reshape(shape)), (rows[whole:], out[whole:])]
    for band, kernel in _bands(n, sd_bins, radius):
        for part, into in parts:
            np.matmul(part[..., band.low : band.high], kernel, out=into[..., band.first : band.last])
    return out.reshape(values.shape)


def spike_bins(spikes: Array, starts: Array, bins: Bins) -> tuple[Array, Array, Array]:
    """Trial, index and bin of every spike within a trial's window; a spike in two windows occurs twice."""
    starts = starts - EDGE_S
    low, high = (spikes.searchsorted(edges) for edges in (starts, starts + bins.n * bins.bin_s))
    trial, index = expand_ranges(low, high)
    where = ((spikes[index] - starts[trial]) / bins.bin_s).astype(np.int64)
    return trial, index, np.minimum(where, bins.n - 1, out=where)


def observed_bins(starts: Array, bins: Bins, observed: Intervals) -> tuple[Array, Array, Array]:
    """Runs of observed bins in ascending order: trial, first bin, and the bin after the last."""
    low = np.searchsorted(observed.ends, starts, side="right")
    high = np.searchsorted(observed.starts, starts + bins.n * bins.bin_s)
    trial, index = expand_ranges(low, high)
    first = np.ceil((observed.starts[index] - starts[trial] - OBSERVED_S) / bins.bin_s)
    last = np.floor((observed.ends[index] - starts[trial] + OBSERVED_S) / bins.bin_s)
    first, last = (np.clip(edge, 0, bins.n).astype(np.int64) for edge in (first, last))
    keep = last > first
    return trial[keep], first[keep], last[keep]


def expand_ranges(low: Array, high: Array) -> tuple[Array, Array]:
    """All pairs (row, index) with low[row] <= index < high[row], in ascending order."""
    n, index = _indices(low, high)
    return np.repeat(np.arange(len(low)), n), index


def _indices(low: Array, high: Array) -> tuple[Array, Array]:
    """How many indices each row has, and all indices in ascending order."""
    n = np.maximum(high - low, 0)
    ends = n.cumsum()
    index = np.repeat(low - (ends - n), n)
    index += np.arange(len(index))
    return n, index


def in_ranges(keys: Array, starts: Array, ends: Array) -> Array:
    """Whether each key lies in one of the disjoint ranges [start, end), which are in ascending order."""
    at = np.searchsorted(starts, keys, side="right") - 1
    return (at >= 0) & (keys < ends[at]) if len(starts) else np.zeros(len(keys), bool)
