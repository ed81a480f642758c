"""Trials of different length on one time axis: each in its own limits (``within``), stretched between two events
(``warp``), or left out of a unit that was silent from then on (``infer_obs``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.nwb.recording.binning import (
    EDGE_S,
    OBSERVED_S,
    Bins,
    Counts,
    Intervals,
    count_windows,
    covered,
    expand_ranges,
    in_ranges,
    make_windows,
    observed_bins,
    spike_bins,
)
from nwb_lint.nwb.recording.trials import align_text

if TYPE_CHECKING:
    from nwb_lint.nwb.recording.trials import Trials

Array = np.ndarray


class Warp(NamedTuple):
    """Linear time-warping: in every trial the time between two events becomes ``to_s``.

        warped(t) = t − a                 for t < a
                    (t − a) to_s/(b − a)  for a <= t < b
                    t − b + to_s          for b <= t

    | name | dims | unit |
    |---|---|---|
    | first (a), second (b) | trial | s |
    """

    first: Array
    second: Array
    to_s: float

    def warped(self, trial: Array, times: Array) -> Array:
        """Warped times of real ``times``, each of a trial, s."""
        since, lasts = times - self.first[trial], (self.second - self.first)[trial]
        between = since * (self.to_s / lasts)
        return np.where(since < 0, since, np.where(since < lasts, between, since - lasts + self.to_s))

    def real(self, warped: Array) -> Array:
        """Real times (trial, …) of ``warped`` times in every trial, s."""
        lasts = (self.second - self.first)[:, None]
        between = warped * (lasts / self.to_s)
        since = np.where(warped < 0, warped, np.where(warped < self.to_s, between, warped - self.to_s + lasts))
        return self.first[:, None] + since


class Frame(NamedTuple):
    """The bins of every trial of a session in real time, and which of them can be observed at all.

    | name | dims | |
    |---|---|---|
    | starts, ends | trial | the window in real time, s |
    | first, last | trial | bins [first, last) lie within the trial's limits; None: all do |
    | exposure | trial, time | real duration of each bin, in bins; None: 1 |
    | infer | | a trial is unobserved by a unit whose first or last spike it does not reach |
    """

    origins: Array
    bins: Bins
    starts: Array
    ends: Array
    warp: Warp | None
    first: Array | None
    last: Array | None
    exposure: Array | None
    infer: bool

    @property
    def exposure_s(self) -> Array | None:
        """Real duration of each warped bin (trial, time), s; None without warp."""
        return None if self.exposure is None else self.exposure * self.bins.bin_s

    def tallying(self, groups: Array, n_groups: int) -> Callable[[Array, Intervals | None], Counts]:
        """What counts the spikes of a unit (sorted times, s) by group of trials and bin, of the bins it observed.

        With ``infer``, a trial whose window begins after a unit's last spike, or ends before its first, is not
        observed; nor is any by a unit without spikes.
        """
        how = self.origins, groups, n_groups, self.bins
        same = None if self.infer or self.warp is not None else make_windows(*how, self._runs(np.zeros(0), None))

        def tally(spikes: Array, observed: Intervals | None) -> Counts:
            if observed is None and same is not None:
                return count_windows(spikes, same)
            runs = self._runs(spikes, observed)
            if self.exposure is None:
                return count_windows(spikes, make_windows(*how, runs))
            return self._tally_warped(spikes, runs, groups, n_groups, self.exposure)

        return tally

    def _tally_warped(
        self, spikes: Array, runs: tuple[Array, Array, Array], groups: Array, n_groups: int, exposure: Array
    ) -> Counts:
        n = self.bins.n
        of, first, last = runs
        trial, _, where = self._within(spikes, runs)
        counts = np.bincount(groups[trial] * n + where, minlength=n_groups * n).reshape(n_groups, n)
        trials = np.bincount(groups[np.unique(of)], minlength=n_groups)
        weights = exposure * covered(of, first, last, len(groups), n)
        cell = groups[:, None] * n + np.arange(n)
        seen = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=n_groups * n)
        return Counts(counts, seen.reshape(n_groups, n), trials)

    def samples(self, times: Array, observed: Intervals | None = None) -> tuple[Array, Array, Array]:
        """Trial, index and bin of every time (s, sorted) that counts, as spikes are counted."""
        return self._within(times, self._runs(times, observed))

    def _within(self, times: Array, runs: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Trial, index and bin of the times in runs of bins."""
        trial, index, where = self._spike_bins(times)
        of, first, last = runs
        inside = in_ranges(trial * self.bins.n + where, of * self.bins.n + first, of * self.bins.n + last)
        return trial[inside], index[inside], where[inside]

    def _spike_bins(self, spikes: Array) -> tuple[Array, Array, Array]:
        """Trial, index and bin of every spike in a window; a spike up to `EDGE_S` (real) before an edge is on it."""
        if self.warp is None:
            return spike_bins(spikes, self.starts, self.bins)
        low, high = (np.searchsorted(spikes, edge - EDGE_S) for edge in (self.starts, self.ends))
        trial, index = expand_ranges(low, high)
        where = np.floor(self._place(trial, spikes[index] + EDGE_S)).astype(np.int64)
        return trial, index, np.clip(where, 0, self.bins.n - 1)

    def _runs(self, spikes: Array, observed: Intervals | None) -> tuple[Array, Array, Array]:
        """Runs of bins that count, in order: trial, first bin, and the bin after the last."""
        if observed is None:
            of = np.arange(len(self.origins))
            first, last = np.zeros(len(of), np.int64), np.full(len(of), self.bins.n)
        elif self.warp is None:
            of, first, last = observed_bins(self.starts, self.bins, observed)
        else:
            low = np.searchsorted(observed.ends, self.starts, side="right")
            of, index = expand_ranges(low, np.searchsorted(observed.starts, self.ends))
            first, last = self._bins_between(of, observed.starts[index], observed.ends[index])
        if self.first is not None and self.last is not None:
            first, last = np.maximum(first, self.first[of]), np.minimum(last, self.last[of])
        keep = last > first
        if self.infer:
            keep &= self._reached(spikes)[of]
        return of[keep], first[keep], last[keep]

    def _reached(self, spikes: Array) -> Array:
        if not len(spikes):
            return np.zeros(len(self.origins), bool)
        return (spikes[-1] >= self.starts - EDGE_S) & (spikes[0] < self.ends - EDGE_S)

    def _bins_between(self, trial: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
        """Bins [first, last) that lie in [start, end] of a trial, up to `OBSERVED_S`."""
        first = np.ceil(self._place(trial, starts - OBSERVED_S))
        last = np.floor(self._place(trial, ends + OBSERVED_S))
        first, last = (np.clip(edge, 0, self.bins.n).astype(np.int64) for edge in (first, last))
        return first, last

    def _place(self, trial: Array, times: Array) -> Array:
        """Where real times lie on the time axis, in bins."""
        since = times - self.origins[trial] if self.warp is None else self.warp.warped(trial, times)
        return (since - self.bins.start) / self.bins.bin_s


def make_frame(trials: Trials, bins: Bins, warp_s: float | None = None, infer: bool = False) -> Frame:
    """The frame of the trials that were chosen, warped to ``warp_s`` where they have a second event."""
    warp = None
    starts = trials.origins + bins.start
    ends = starts + bins.n * bins.bin_s
    exposure = None
    if trials.second is not None and warp_s is not None:
        warp = Warp(trials.origins, trials.second, warp_s)
        edges = warp.real(bins.start + np.arange(bins.n + 1) * bins.bin_s)
        starts, ends, exposure = edges[:, 0], edges[:, -1], np.diff(edges, axis=1) / bins.bin_s
    frame = Frame(trials.origins, bins, starts, ends, warp, None, None, exposure, infer)
    if trials.within is None:
        return frame
    first, last = frame._bins_between(np.arange(len(starts)), *trials.within)
    return frame._replace(first=first, last=np.maximum(first, last))


def typical_interval(sessions: Sequence[Trials]) -> float | None:
    """The median time between the two events of warp, over all trials of all sessions, s; None without warp.

    The median, not the mean: a few trials in which the animal waited for long would stretch all the others.
    """
    parts = [trials.second - trials.origins for trials in sessions if trials.second is not None]
    return float(np.median(np.concatenate(parts))) if parts else None


def check_frame(align: Any, within: Any, warp: Any) -> None:
    """Raise ContractError unless ``align`` is a name or a function, ``within`` and ``warp`` are None or two
    names, and warp begins at ``align``."""
    align_text(align)
    for name, pair in (("within", within), ("warp", warp)):
        names = pair is not None and not isinstance(pair, str) and isinstance(pair, Sequence)
        if pair is not None and not (names and len(pair) == 2 and all(isinstance(one, str) for one in pair)):
            raise ContractError(f"{name} is {pair!r}; it needs two names such as ('start_time', 'stop_time'), or None.")
        if pair is not None and pair[0] == pair[1]:
            raise ContractError(f"{name} names {pair[0]!r} twice; it needs two different times.")
    if warp is not None and warp[0] != align:
        raise ContractError(f"warp begins at {warp[0]!r}, align is {align!r}; align needs to be the first of the two.")
