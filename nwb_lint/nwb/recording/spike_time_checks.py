"""Checks of spike times against trials: are they in seconds of the session, and is silence an observation?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.binning import OBSERVED_S, Intervals, union
from nwb_lint.nwb.recording.time_axis import TrialTimeAxis
from nwb_lint.nwb.recording.time_checks import (
    ClockEvidence,
    Problem,
    rows_at_once,
    rows_start_over,
    samples_in_other_units,
)
from nwb_lint.nwb.recording.trials import Trials
from nwb_lint.nwb.recording.units import name_units, recorded_span
from nwb_lint.parallel.warnings import warn

Array = np.ndarray

# Spikes and trials that reach to times of this ratio are in different units, such as s and ms.
_OTHER_UNIT_RATIO = 100.0
# Spike times look relative to trials if all lie within 3 trial durations, and a tenth or less of at least 4 windows
# meets them.
_SHORT_TRIALS, _FEW_SHARE, _FEWEST_WINDOWS = 3.0, 0.1, 4
# A silence is reported if a unit's mean rate predicts 10 spikes in it (by chance, there are none in one of e^10 cases),
# and it is more than 3 times the longest silence between its spikes.
_EXPECTED_SPIKES, _LONGER = 10.0, 3.0
# Trials that start over are relative to blocks if the recording is longer than the trials by this factor.
_RECORDED_LONGER = 1.5
# A unit of at least 50 spikes is reported if a quarter of them lie outside of its obs_intervals. The file is refused if
# most units have most spikes there, and fire at twice the rate that they have inside or more.
_FEWEST_SPIKES, _OUTSIDE_SHARE, _OUTSIDE_RATIO = 50, 0.25, 2.0


class Silence(NamedTuple):
    """Trials after a unit's last spike (``after``), or before its first spike, at ``at_s``."""

    unit: str
    at_s: float
    n_trials: int
    after: bool


class SpikeRange(NamedTuple):
    """Number of a unit's spikes, the first, the last, and the longest time between two, s."""

    n: int
    first_s: float
    last_s: float
    longest_s: float

    def silent_for(self, gap_s: float) -> bool:
        """Whether the unit does not fall silent for ``gap_s`` by itself, so that it was probably not observed.

        At least 10 spikes are expected in that time at the mean rate, and it is more than three times the longest time
        between two spikes.
        """
        lasts = self.last_s - self.first_s
        return lasts > 0 and self.n * gap_s >= _EXPECTED_SPIKES * lasts and gap_s > _LONGER * self.longest_s


def spike_range(times: Array) -> SpikeRange:
    """The `SpikeRange` of a unit.

    Parameters
    ----------
    times : numpy.ndarray
        Sorted spike times, s, at least one.

    Returns
    -------
    SpikeRange
    """
    return SpikeRange(len(times), float(times[0]), float(times[-1]), float(np.diff(times).max(initial=0.0)))


def other_unit_ratio(spikes_s: float, trials_s: float) -> float:
    """The ratio of the times that spikes and trials reach to, if it shows that they are in different units.

    Parameters
    ----------
    spikes_s, trials_s : float
        The largest times, s.

    Returns
    -------
    float
        0 if both may be in seconds.

    Examples
    --------
    >>> other_unit_ratio(3.6e6, 3600), other_unit_ratio(4000, 3600)
    (1000.0, 0.0)
    """
    ratio = max(spikes_s, trials_s) / max(min(spikes_s, trials_s), 1.0)
    return ratio if ratio > _OTHER_UNIT_RATIO else 0.0


def refuse_or_warn(where: str, problem: Problem | None) -> None:
    """Raise NWBError if a problem is fatal, else warn of it; None is no problem."""
    if problem is None:
        return
    if problem.fatal:
        raise NWBError(f"{where}: {problem.text}")
    warn(f"{where}: {problem.text}")


def check_rows_at_once(trials: Trials, axis: TrialTimeAxis) -> None:
    """Raise NWBError if all trials are at the same time (`rows_at_once`)."""
    length_s = float(np.median(axis.ends - axis.starts))
    text = "" if trials.spans is None else rows_at_once(trials.spans, trials.origins, length_s)
    if text:
        raise NWBError(f"{trials.where}: {text}")


def check_trials_against(trials: Trials, recorded: tuple[float, float], step_s: float = 0.0) -> None:
    """Warn of what is likely wrong with the times of trials, and of start times that start over (`rows_start_over`).

    ``step_s`` is the time between two samples of a series, s.

    Raises: NWBError if they start over, and the recording (first and last time, s) goes on after the last trial.
    """
    for doubt in trials.doubts:
        warn(doubt)
    if trials.spans is None:
        return
    units = samples_in_other_units(step_s, recorded, trials.spans)
    refuse_or_warn(trials.where, Problem(units, False) if units else None)
    text = rows_start_over(trials.spans)
    if not text:
        return
    first, last = float(np.nanmin(trials.spans.starts)), float(np.nanmax(trials.spans.stops))
    goes_on = recorded[1] - first >= _RECORDED_LONGER * (last - first)
    text += f", and the recording goes on until {recorded[1]:g} s" if goes_on else ""
    advice = "Times of the session are needed. Read one block at a time by where=."
    refuse_or_warn(trials.where, Problem(f"{text}. {advice}", goes_on))


class SpikeTimeChecks:
    """Checks the spike times of a session: `add` its units, in one or several parts, then `finish` once.

    ``silences`` are those of units without obs_intervals: trials lie after the unit's last spike, or before its first,
    and the unit is not silent for so long by itself (`SpikeRange.silent_for`).
    """

    def __init__(self, trials: Trials, axis: TrialTimeAxis, has_obs: bool) -> None:
        self.trials, self.axis, self.has_obs = trials, axis, has_obs
        self.evidence = ClockEvidence()
        blocks = trials.spans is not None and rows_start_over(trials.spans)
        self.reach_s = np.inf if blocks else trials.reach_s  # spikes that start over too are then never complete
        self.ranges: list[tuple[str, float, float]] = []
        self.silences: list[Silence] = []
        self._observed: list[Intervals | None] = []
        self._starts, self._ends = np.sort(axis.starts), np.sort(axis.ends)

    def add(self, labels: Sequence[str] | Array, spikes: list[Array], observed: list[Intervals | None]) -> None:
        """Add units: labels, sorted spike times (s), observed times."""
        for unit, times in zip(labels, spikes, strict=True):
            if len(times):
                self.evidence.add(times)
                self._add_range(str(unit), float(times[0]), float(times[-1]), partial(spike_range, times))
        self._observed += observed

    def add_ranges(
        self,
        labels: Sequence[str] | Array,
        ranges: Sequence[SpikeRange | None],
        observed: list[Intervals | None],
        evidence: ClockEvidence,
    ) -> None:
        """Add units whose spike times were read before (`spike_range`; None: a unit without spikes)."""
        for unit, one in zip(labels, ranges, strict=True):
            if one is not None:
                self._add_range(str(unit), one.first_s, one.last_s, partial(SpikeRange._make, one))
        self._observed += observed
        self.evidence = evidence

    def _add_range(self, unit: str, first_s: float, last_s: float, range_of: Callable[[], SpikeRange]) -> None:
        self.ranges.append((unit, first_s, last_s))
        if not self.has_obs:
            self._find_silences(unit, first_s, last_s, range_of)

    def finish(self) -> None:
        """Raise NWBError if times cannot be those of the session; warn if they may not be, and of silences."""
        span = recorded_span([np.array(ends) for _, *ends in self.ranges], self._observed)
        if span is None:
            return
        low, high = span
        text = f"spikes and observed times span {low:g}–{high:g} s"
        starts, ends = self.axis.starts, self.axis.ends
        other_unit = self._other_unit(max(abs(low), abs(high)))
        met = (ends > low) & (starts <= high)
        if not met.any():
            raise NWBError(
                f"{self.trials.where}: no window meets the recording: {text}, the windows "
                f"{starts.min():g}–{ends.max():g} s.{other_unit or ' Check align and window_s.'}"
            )
        refuse_or_warn(self.trials.where, self.evidence.problem(self.trials.spans))
        check_trials_against(self.trials, span)
        relative = self._relative_to_trials(low, high, met, text)
        if relative or other_unit:
            message = relative or f"{text}, the trials reach to {self.trials.reach_s:g} s.{other_unit}"
            warn(f"{self.trials.where}: {message}")
        if not (self.axis.infer_obs or relative):
            self._warn_of_silences()

    def _other_unit(self, spikes_s: float) -> str:
        """A sentence if spikes and trials reach to times of different size; else empty."""
        reach = self.trials.reach_s
        ratio = other_unit_ratio(spikes_s, reach)
        if not ratio:
            return ""
        units = [unit for unit, low, high in self.ranges if max(-low, high) > _OTHER_UNIT_RATIO * max(reach, 1.0)]
        only = f" This concerns only {name_units(units)}." if 0 < len(units) < len(self.ranges) else ""
        return (
            f" One is {ratio:.3g} times the other. It may be in milliseconds or samples, or relative to trials.{only}"
        )

    def _relative_to_trials(self, low: float, high: float, met: Array, text: str) -> str:
        """A sentence if spike times last no longer than few trials and meet few windows; else empty.

        Raises: NWBError if some are also below 0.
        """
        longest = max(self.trials.longest_s, float((self.axis.ends - self.axis.starts).max()))
        few = len(met) >= _FEWEST_WINDOWS and met.sum() <= max(1, _FEW_SHARE * len(met))
        if self.has_obs or not few or high - low > _SHORT_TRIALS * longest:
            return ""
        message = (
            f"{text}, trials last up to {self.trials.longest_s:g} s and reach {self.trials.reach_s:g} s. "
            f"{int(met.sum())} of {len(met)} windows meet the spikes, so spike times look relative to trials. Times "
            "since the session's start are needed."
        )
        if low < 0:
            raise NWBError(f"{self.trials.where}: {message}")
        return message

    def _find_silences(self, unit: str, first_s: float, last_s: float, range_of: Callable[[], SpikeRange]) -> None:
        n_after = len(self._starts) - int(np.searchsorted(self._starts, last_s, side="right"))
        n_before = int(np.searchsorted(self._ends, first_s, side="right"))
        if not n_after and not n_before:
            return
        ends = range_of()
        for n_trials, at_s, gap_s, after in (
            (n_after, ends.last_s, self._ends[-1] - ends.last_s, True),
            (n_before, ends.first_s, ends.first_s - self._starts[0], False),
        ):
            if n_trials and ends.silent_for(gap_s):
                self.silences.append(Silence(unit, at_s, n_trials, after))

    def _warn_of_silences(self) -> None:
        for after, when, later in ((True, "after", "later"), (False, "before", "earlier")):
            found = [silence for silence in self.silences if silence.after == after]
            if not found:
                continue
            parts = [f"unit {s.unit} {when} {s.at_s:.0f} s ({s.n_trials} trials {later})" for s in found[:8]]
            more = f", … ({len(found)} units in all)" if len(found) > 8 else ""
            warn(
                f"{self.trials.where}: silent {', '.join(parts)}{more}, of {len(self._starts)} trials, and there are "
                "no obs_intervals. The units may not have been observed then. infer_obs=True leaves those trials out."
            )


class ObservedChecks:
    """Checks spikes against the obs_intervals of their units: `add` the units, in one or several parts, then `finish`.

    Spikes in the file's invalid_times are not counted as outside.
    """

    def __init__(self, where: str, invalid: Intervals | None) -> None:
        self.where, self.invalid = where, invalid
        self.labels: list[str] = []
        self.counts: list[tuple[int, int, float, float]] = []  # spikes, those outside, seconds inside and outside

    def add(self, labels: Sequence[str] | Array, spikes: list[Array], given: list[Intervals | None]) -> None:
        """Add units: labels, sorted spike times (s), obs_intervals (None: always)."""
        for label, times, part in zip(labels, spikes, given, strict=True):
            if part is None or len(times) < _FEWEST_SPIKES:
                continue
            if self.invalid is not None:
                part = union(*(np.concatenate(pair) for pair in zip(part, self.invalid, strict=True)))
            first = times.searchsorted(part.starts - OBSERVED_S)
            inside = int((times.searchsorted(part.ends + OBSERVED_S, side="right") - first).sum())
            low, high = (np.clip(edge, times[0], times[-1]) for edge in part)
            seconds, lasts = float((high - low).sum()), float(times[-1] - times[0])
            self.labels.append(str(label))
            self.counts.append((len(times), len(times) - inside, seconds, lasts - seconds))

    def finish(self) -> None:
        """Warn of units with many spikes outside of their obs_intervals.

        Raises: NWBError if most units have most spikes outside, at twice the rate inside or more: then the intervals
        are not when these units were observed.
        """
        if not self.counts:
            return
        n, outside, in_s, out_s = np.array(self.counts, float).T
        many = outside > _OUTSIDE_SHARE * n
        if not many.any():
            return
        worst = np.flatnonzero(many)[np.argsort(-(outside / n)[many], kind="stable")]
        parts = [f"{int(outside[k])} of {int(n[k])} spikes of unit {self.labels[k]}" for k in worst[:4]]
        more = f", … ({len(worst)} of {len(n)} units)" if len(worst) > 4 else f" ({len(worst)} of {len(n)} units)"
        text = f"{self.where}: {', '.join(parts)}{more} lie outside of their obs_intervals"
        most = outside > 0.5 * n
        if most.sum() > 0.5 * len(n):
            inside_hz = (n - outside)[most].sum() / max(in_s[most].sum(), 1e-9)
            outside_hz = outside[most].sum() / max(out_s[most].sum(), 1e-9)
            if outside_hz >= _OUTSIDE_RATIO * inside_hz:
                raise NWBError(
                    f"{text}: {inside_hz:.3g} Hz inside, {outside_hz:.3g} Hz outside. The intervals are not the "
                    "observed time of these units. Correct obs_intervals in the file."
                )
        warn(f"{text}. Spikes there are not counted, as the units count as not observed.")
