"""Trials of different length on one time axis.

`TrialTimeAxis` holds the bins of every trial in real time. A trial can be cut to its own limits (``within``), stretched
between two events (``warp``), or left out for a unit that was silent from then on (``infer_obs``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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
from nwb_lint.nwb.recording.trials import Align, Trials

Array = np.ndarray


class TimeAxis(NamedTuple):
    """The time axis that the trials of all sessions share.

    ``warp_s`` is the duration, s, to which the interval of warp is stretched (None without warp). With ``infer_obs``,
    what each unit observed is inferred from its spikes if the file does not say it.
    """

    bins: Bins
    warp_s: float | None
    infer_obs: bool


class Warp(NamedTuple):
    """Linear time-warping: in every trial, the time between two events becomes ``to_s``.

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
        """Warped times of real ``times``, each in a trial, s."""
        since, lasts = times - self.first[trial], (self.second - self.first)[trial]
        between = since * (self.to_s / lasts)
        return np.where(since < 0, since, np.where(since < lasts, between, since - lasts + self.to_s))

    def real(self, warped: Array) -> Array:
        """Real times (trial, …) of ``warped`` times in every trial, s."""
        lasts = (self.second - self.first)[:, None]
        between = warped * (lasts / self.to_s)
        since = np.where(warped < 0, warped, np.where(warped < self.to_s, between, warped - self.to_s + lasts))
        return self.first[:, None] + since


class TrialTimeAxis(NamedTuple):
    """The bins of every trial of a session in real time, and which of them can be observed at all.

    | field | dims | |
    |---|---|---|
    | origins | trial | the time that the trial is aligned to, s |
    | starts, ends | trial | the window in real time, s |
    | first, last | trial | bins [first, last) lie within the trial's limits; None: all bins do |
    | exposure | trial, time | real duration of each bin, in bins; None: 1 |
    | infer_obs | | a trial after a unit's last spike, or before its first, is not observed by it |
    """

    origins: Array
    bins: Bins
    starts: Array
    ends: Array
    warp: Warp | None
    first: Array | None
    last: Array | None
    exposure: Array | None
    infer_obs: bool

    @property
    def exposure_s(self) -> Array | None:
        """Real duration of each warped bin (trial, time), s; None without warp."""
        return None if self.exposure is None else self.exposure * self.bins.bin_s

    def unit_counter(self, groups: Array, n_groups: int) -> Callable[[Array, Intervals | None], Counts]:
        """A function that counts the spikes of a unit (sorted times, s) by group of trials and bin, in observed bins.

        With ``infer_obs``, a trial whose window begins after a unit's last spike, or ends before its first, is not
        observed. A unit without spikes then observed no trial.
        """
        how = self.origins, groups, n_groups, self.bins
        same_for_all = not self.infer_obs and self.warp is None
        shared = make_windows(*how, self._runs(np.zeros(0), None)) if same_for_all else None

        def count_unit(spikes: Array, observed: Intervals | None) -> Counts:
            if observed is None and shared is not None:
                return count_windows(spikes, shared)
            runs = self._runs(spikes, observed)
            if self.exposure is None:
                return count_windows(spikes, make_windows(*how, runs))
            return self._count_warped(spikes, runs, groups, n_groups, self.exposure)

        return count_unit

    def samples(self, times: Array, observed: Intervals | None = None) -> tuple[Array, Array, Array]:
        """Trial, index and bin of every sample time (s, sorted) in an observed bin, as for spikes."""
        return self._times_in_runs(times, self._runs(times, observed))

    def _count_warped(
        self, spikes: Array, runs: tuple[Array, Array, Array], groups: Array, n_groups: int, exposure: Array
    ) -> Counts:
        n = self.bins.n
        of, first, last = runs
        trial, _, where = self._times_in_runs(spikes, runs)
        counts = np.bincount(groups[trial] * n + where, minlength=n_groups * n).reshape(n_groups, n)
        trials = np.bincount(groups[np.unique(of)], minlength=n_groups)
        weights = exposure * covered(of, first, last, len(groups), n)
        cell = groups[:, None] * n + np.arange(n)
        seen = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=n_groups * n)
        return Counts(counts, seen.reshape(n_groups, n), trials)

    def _times_in_runs(self, times: Array, runs: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Trial, index and bin of the times in runs of bins."""
        trial, index, where = self._times_in_windows(times)
        of, first, last = runs
        inside = in_ranges(trial * self.bins.n + where, of * self.bins.n + first, of * self.bins.n + last)
        return trial[inside], index[inside], where[inside]

    def _times_in_windows(self, times: Array) -> tuple[Array, Array, Array]:
        """Trial, index and bin of every time in a window; a time up to `EDGE_S` (real) before an edge is on it."""
        if self.warp is None:
            return spike_bins(times, self.starts, self.bins)
        low, high = (np.searchsorted(times, edge - EDGE_S) for edge in (self.starts, self.ends))
        trial, index = expand_ranges(low, high)
        where = np.floor(self._place(trial, times[index] + EDGE_S)).astype(np.int64)
        return trial, index, np.clip(where, 0, self.bins.n - 1)

    def _runs(self, spikes: Array, observed: Intervals | None) -> tuple[Array, Array, Array]:
        """Runs of observed bins in ascending order: trial, first bin, and the bin after the last."""
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
        if self.infer_obs:
            keep &= self._between_spikes(spikes)[of]
        return of[keep], first[keep], last[keep]

    def _between_spikes(self, spikes: Array) -> Array:
        """Whether each trial's window meets the time from a unit's first to its last spike."""
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
        """The place of real times on the time axis, in bins."""
        since = times - self.origins[trial] if self.warp is None else self.warp.warped(trial, times)
        return (since - self.bins.start) / self.bins.bin_s


def make_trial_time_axis(trials: Trials, axis: TimeAxis) -> TrialTimeAxis:
    """The bins of the chosen trials in real time, warped if they have a second event."""
    bins, warp_s, infer_obs = axis
    warp = None
    starts = trials.origins + bins.start
    ends = starts + bins.n * bins.bin_s
    exposure = None
    if trials.second is not None and warp_s is not None:
        warp = Warp(trials.origins, trials.second, warp_s)
        edges = warp.real(bins.start + np.arange(bins.n + 1) * bins.bin_s)
        starts, ends, exposure = edges[:, 0], edges[:, -1], np.diff(edges, axis=1) / bins.bin_s
    found = TrialTimeAxis(trials.origins, bins, starts, ends, warp, None, None, exposure, infer_obs)
    if trials.within is None:
        return found
    first, last = found._bins_between(np.arange(len(starts)), *trials.within)
    return found._replace(first=first, last=np.maximum(first, last))


def median_warp_interval(sessions: Sequence[Trials]) -> float | None:
    """The median time between the two events of warp, over all trials of all sessions, s; None without warp.

    It is the median because a few long trials would move the mean, and so stretch all others.
    """
    parts = [trials.second - trials.origins for trials in sessions if trials.second is not None]
    return float(np.median(np.concatenate(parts))) if parts else None


def check_time_axis(align: Align, within: Sequence[str] | None, warp: Sequence[str] | None) -> None:
    """Raise ContractError unless ``within`` and ``warp`` name two different times, and warp begins at ``align``."""
    for name, pair in (("within", within), ("warp", warp)):
        if pair is not None and pair[0] == pair[1]:
            raise ContractError(f"{name} names {pair[0]!r} twice; it needs two different times.")
    if warp is not None and warp[0] != align:
        raise ContractError(f"warp begins at {warp[0]!r}, and align is {align!r}. Pass the first of the two as align=.")
