"""What the spikes of a session say about time: in seconds of the session or of something else, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nwb_lint.errors import NWBError
from nwb_lint.nwb.recording.binning import Intervals
from nwb_lint.nwb.recording.time_axis import Frame
from nwb_lint.nwb.recording.trials import Trials
from nwb_lint.parallel.warnings import warn

Array = np.ndarray

_FAR = 100.0  # times this far beyond the other kind are in another unit, such as ms or samples
# spikes that last no longer than this many trials, and meet so few of at least so many windows, look relative to trials
_AS_LONG, _FEW, _FEWEST = 3.0, 0.1, 4
_EXPECTED = 10.0  # spikes that a unit's own rate promises in a silence which is told; by chance e^-10
_LONGER = 3.0  # than the longest silence between a unit's spikes


class Silence(NamedTuple):
    """A unit that says nothing any more (or yet): since (or until) when, and in how many trials."""

    unit: int
    at_s: float
    n_trials: int
    after: bool


class Ends(NamedTuple):
    """What a unit's spike times say of its end: how many, the first, the last, the longest time between two (s)."""

    n: int
    first_s: float
    last_s: float
    longest_s: float

    def silent_for(self, gap_s: float) -> bool:
        """Whether a silence of ``gap_s`` beyond the spikes is none of the unit's own.

        At least 10 spikes would be expected in it at the mean rate, and it is more than three times the longest
        between two spikes.
        """
        lasts = self.last_s - self.first_s
        return lasts > 0 and self.n * gap_s >= _EXPECTED * lasts and gap_s > _LONGER * self.longest_s


def ends_of(times: Array) -> Ends:
    """The `Ends` of sorted spike times (s), at least one."""
    return Ends(len(times), float(times[0]), float(times[-1]), float(np.diff(times).max(initial=0.0)))


def times_apart(size_s: float, reach_s: float) -> float:
    """How many times one of two ranges of time is the other; 0 where both may be in seconds."""
    factor = max(size_s, reach_s) / max(min(size_s, reach_s), 1.0)
    return factor if factor > _FAR else 0.0


class Evidence:
    """Collects what the units of a session say, all at once or part by part, and judges it once.

    ``silences`` are of units without observed times of their own: trials lie after the unit's last spike (or
    before its first), and the unit is not silent for so long by itself (`Ends.silent_for`).
    """

    def __init__(self, trials: Trials, frame: Frame, has_obs: bool) -> None:
        self.trials, self.frame, self.has_obs = trials, frame, has_obs
        self.spans: list[tuple[int, float, float]] = []
        self.silences: list[Silence] = []
        self._observed: list[tuple[float, float]] = []
        self._starts, self._ends = np.sort(frame.starts), np.sort(frame.ends)

    def add(self, ids: Sequence[int] | Array, spikes: list[Array], observed: list[Intervals | None]) -> None:
        """Take in units: ids, sorted spike times (s), observed times."""
        for unit, times in zip(ids, spikes, strict=True):
            if len(times):
                self.spans.append((int(unit), float(times[0]), float(times[-1])))
                if not self.has_obs:
                    self._note_silence(int(unit), times)
        for part in observed:
            if part is not None and len(part.starts) and np.isfinite([part.starts[0], part.ends[-1]]).all():
                self._observed.append((float(part.starts[0]), float(part.ends[-1])))

    def judge(self) -> None:
        """Raise NWBError where times cannot be those of the session; warn where they may not be, or of silence."""
        spans = [(first, last) for _, first, last in self.spans] + self._observed
        if not spans:
            return
        low, high = min(first for first, _ in spans), max(last for _, last in spans)
        starts, ends = self.frame.starts, self.frame.ends
        told = f"spikes and observed times span {low:g}–{high:g} s"
        far = self._far(max(abs(low), abs(high)))
        met = (ends > low) & (starts <= high)
        if not met.any():
            raise NWBError(
                f"{self.trials.where}: no window meets the recording: {told}, the windows "
                f"{starts.min():g}–{ends.max():g} s.{far or ' Check align and window_s.'}"
            )
        relative = self._look_relative(low, high, met, told)
        if relative or far:
            message = relative or f"{told}, the trials up to {self.trials.reach_s:g} s.{far}"
            warn(f"{self.trials.where}: {message}")
        if not (self.frame.infer or relative):
            self._tell_silences()

    def _far(self, size: float) -> str:
        """What to think of spikes and trials that reach to times of different size; empty where they do not."""
        reach = self.trials.reach_s
        factor = times_apart(size, reach)
        if not factor:
            return ""
        odd = [unit for unit, low, high in self.spans if max(-low, high) > _FAR * max(reach, 1.0)]
        named = (
            f" It is so in unit{'s' * (len(odd) > 1)} {_listed(odd)} alone." if 0 < len(odd) < len(self.spans) else ""
        )
        return (
            f" One is {factor:.3g} times the other, so it may be in milliseconds or samples, or relative to "
            f"trials.{named}"
        )

    def _look_relative(self, low: float, high: float, met: Array, told: str) -> str:
        """What to say of spikes that last no longer than a trial and meet few windows; empty of any others.

        Raises: NWBError where some come before 0 as well.
        """
        longest = max(self.trials.longest_s, float((self.frame.ends - self.frame.starts).max()))
        few = len(met) >= _FEWEST and met.sum() <= max(1, _FEW * len(met))
        if self.has_obs or not few or high - low > _AS_LONG * longest:
            return ""
        message = (
            f"{told}, trials last up to {self.trials.longest_s:g} s and reach {self.trials.reach_s:g} s, so that "
            f"{int(met.sum())} of {len(met)} windows meet them: spike times look relative to trials. Times since the "
            "session's start are needed."
        )
        if low < 0:
            raise NWBError(f"{self.trials.where}: {message}")
        return message

    def _note_silence(self, unit: int, times: Array) -> None:
        n_after = len(self._starts) - int(np.searchsorted(self._starts, times[-1], side="right"))
        n_before = int(np.searchsorted(self._ends, times[0], side="right"))
        if not n_after and not n_before:
            return
        ends = ends_of(times)
        for n_trials, at_s, gap_s, after in (
            (n_after, ends.last_s, self._ends[-1] - ends.last_s, True),
            (n_before, ends.first_s, ends.first_s - self._starts[0], False),
        ):
            if n_trials and ends.silent_for(gap_s):
                self.silences.append(Silence(unit, at_s, n_trials, after))

    def _tell_silences(self) -> None:
        for after, when, later in ((True, "after", "later"), (False, "before", "earlier")):
            found = [silence for silence in self.silences if silence.after == after]
            if not found:
                continue
            parts = [f"unit {s.unit} {when} {s.at_s:.0f} s ({s.n_trials} trials {later})" for s in found[:8]]
            more = f", … ({len(found)} units in all)" if len(found) > 8 else ""
            warn(
                f"{self.trials.where}: silent {', '.join(parts)}{more}, of {len(self._starts)} trials, and there are "
                "no obs_intervals: silence may not be observation. infer_obs=True leaves those trials out.",
            )


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (f", … ({len(ids)} in all)" if len(ids) > 8 else "")
