"""Times that cannot be in the session: one set of checks, which the readers and ``inspect`` use alike.

1. `RowSpans` are the start and the end of every row of a table; `check_times` compares a column of times with them.
2. `rows_at_once` and `rows_start_over` find tables whose clock is not that of the session.
3. `spikes_start_over` does the same for the spikes of a unit.
4. `ClockEvidence` collects what shows that all times are in milliseconds or samples.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nwb_lint.nwb.recording.tables import Table

Array = np.ndarray

# Texts of numbers that often stand for "no time". 0 and −1 count wherever they are outside of their own row.
_NO_TIME = (0.0, -1.0)
_SENTINELS = frozenset(float(f"{sign}{'9' * n}") for n in range(2, 10) for sign in ("", "-"))
# An event may come a typical gap between rows (at least 1 s) before its row or after it.
_SHORTEST_GAP_S = 1.0
# In fewer rows than this, times can look odd by chance: they are warned of, and neither refused nor left out.
_FEWEST_ROWS = 8
# Shares of rows: that show that a column is relative, that sound columns have in their rows, that are warned of.
_MOST, _NEARLY_ALL, _SOME = 0.5, 0.9, 0.1
# Factors between clocks: milliseconds, microseconds, nanoseconds, and common sampling rates (Hz).
_CLOCKS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds", 3e4: "samples of 30 kHz",
           2.5e4: "samples of 25 kHz", 2e4: "samples of 20 kHz", 24414.0625: "samples of 24.4 kHz"}  # fmt: skip
# Times of the session rise with the starts of their rows: their correlation is at least this, and the slope 1, up to
# this.
_RISING = 0.5
# Times in milliseconds since the start of a trial are at least this share of the trial, in the median.
_SMALLEST_SHARE = 0.05
# Zeros among times since a trial's start stand out if all others are at least this share of their median.
_FAR_FROM_0 = 0.3
# Windows of rows that share a moment overlap; those of one session cover their time three times at most.
_MOST_COVERED = 3.0
# Runs of rows start over if each begins in the first tenth of the time, and a fifth of the rows overlap others.
_BEGINNING, _OVERLAPPING = 0.1, 0.2
# Spike times that step back by this share of their span, and end before this share of the trials' time, start over:
# they are relative to trials or blocks.
_RESTART_SHARE, _EARLY_SHARE = 0.3, 0.6
# Signs of times that are not in seconds: rates, intervals between spikes, length of trials, and length of the session.
_SLOWEST_HZ, _LONGEST_INTERVAL_S, _LONGEST_TRIAL_S, _LONGEST_SESSION_S = 0.1, 1.0, 100.0, 86400.0
_SAMPLE, _FEWEST_SPIKES = 256, 10


FUNCTION = "the result of "  # how the name of times begins that come from a function


class Problem(NamedTuple):
    """What is wrong with times, in sentences; whether it is fatal; the expression that would be right."""

    text: str
    fatal: bool
    expression: str = ""


class RowSpans(NamedTuple):
    """Start and stop of every row, and the typical time from one row's start to the next.

    | field | dims | |
    |---|---|---|
    | starts, stops | row | s; NaN if not known |
    | unset | row | whether start_time holds a number that stands for no time |
    | gap_s | | s |
    | have_stops | | whether the table says when rows stop; if not, they last ``gap_s`` |
    """

    starts: Array
    stops: Array
    unset: Array
    gap_s: float
    have_stops: bool

    def median_length_s(self) -> float:
        """The median time from start to stop, s; 0 if none is known."""
        lasts = self.stops - self.starts
        return float(np.median(lasts[np.isfinite(lasts)])) if np.isfinite(lasts).any() else 0.0

    def take(self, rows: Array) -> RowSpans:
        """The spans of some rows."""
        return self._replace(starts=self.starts[rows], stops=self.stops[rows], unset=self.unset[rows])


class CheckedTimes(NamedTuple):
    """Times without those that stand for no time (NaN), which rows had such, and what is wrong with the others."""

    values: Array
    placeholder: Array
    placeholder_text: str
    problem: Problem | None


def row_spans(table: Table) -> RowSpans | None:
    """The spans of the rows of a table; None if it has no start_time, or no number in it.

    A start_time of 0 or −1 among rising ones is not known. A row without a stop_time after its start lasts until the
    next row would typically start.
    """
    if "start_time" not in table.names:
        return None
    starts = table.times("start_time")
    have_stops = "stop_time" in table.names
    stops = table.times("stop_time") if have_stops else np.full(len(starts), np.nan)
    unset = _unset_starts(starts)
    starts = np.where(unset, np.nan, starts)
    known = np.unique(starts[np.isfinite(starts)])
    if not len(known):
        return None
    lasts = (stops - starts)[stops >= starts]
    gap = float(np.median(np.diff(known))) if len(known) > 1 else float(np.median(lasts)) if len(lasts) else 0.0
    gap = max(gap, _SHORTEST_GAP_S)
    return RowSpans(starts, np.where(stops >= starts, stops, starts + gap), unset, gap, have_stops)


def _unset_starts(starts: Array) -> Array:
    """Starts of 0 or −1 that come after later ones, if nearly all others rise: they stand for no time."""
    unset = np.isin(starts, _NO_TIME)
    before = np.fmax.accumulate(np.concatenate([[-np.inf], starts[:-1]]))
    unset &= starts < before
    others = starts[~unset & np.isfinite(starts)]
    rising = float((np.diff(others) > 0).mean()) if len(others) > 2 else 0.0
    return unset & (rising >= _NEARLY_ALL and unset.sum() < len(others))


def check_times(name: str, values: Array, spans: RowSpans, argument: str = "align") -> CheckedTimes:
    """Compare times, one a row, with the rows that they belong to.

    A sound time lies in its own row, or a typical gap between rows before or after it. A time far from its row that is
    0, −1 or another number that stands for "none" becomes NaN; so does a time that is far outside of the session.

    Parameters
    ----------
    name : str
        Column, or expression, for messages.
    values : numpy.ndarray
        Times (row), s; NaN where a row has none.
    spans : RowSpans
        The rows.
    argument : str, default="align"
        The argument of the readers that the times are for.

    Returns
    -------
    CheckedTimes
        The problem is fatal if most times are far from their rows, and do not rise with them or are of another clock:
        the trial's own, or milliseconds.
    """
    if name == "start_time":
        text = _placeholder_text(name, values, spans.unset, len(values)) if spans.unset.any() else ""
        return CheckedTimes(np.where(spans.unset, np.nan, values), spans.unset, text, None)
    known = np.isfinite(values) & np.isfinite(spans.starts)
    times, starts, stops = (np.where(known, part, 0.0) for part in (values, spans.starts, spans.stops))
    outside = known & ((times < starts) | (times > stops))
    far = known & ((times < starts - spans.gap_s) | (times > stops + spans.gap_s))
    unset = _placeholders(times, known, outside, far, spans)
    text = _placeholder_text(name, times, unset, int(known.sum())) if unset.any() else ""
    problem = _clock_problem(name, times, known & ~unset, far & ~unset, spans, argument)
    if unset.any() and known.sum() < _FEWEST_ROWS:
        return CheckedTimes(values, np.zeros(len(values), bool), "", Problem(text, False))
    return CheckedTimes(np.where(unset, np.nan, values), unset, text, problem)


def _placeholders(times: Array, known: Array, outside: Array, far: Array, spans: RowSpans) -> Array:
    """Which times stand for no time, if most others are in their rows or close to them."""
    none = np.zeros(len(times), bool)
    if not outside.any():
        return none
    usual = outside & np.isin(times, _NO_TIME)
    first, last = float(np.nanmin(spans.starts)), float(np.nanmax(spans.stops))
    beyond = far & ((times < min(first, 0.0) - spans.gap_s) | (times > last + max(spans.gap_s, last - first)))
    values, counts = np.unique(times[far], return_counts=True)
    repeated = [value for value, n in zip(values.tolist(), counts.tolist(), strict=True) if n > 1]
    sentinel = far & np.isin(times, [value for value in repeated if value in _SENTINELS])
    others = known & ~(usual | beyond | sentinel)
    n = int(others.sum())
    negative = times == -1
    if n and negative.any() and (times[others] >= 0).all() and (far & others).sum() > _MOST * n:
        return known & negative  # the others are relative to the trial's start, which nothing here precedes
    if n <= 2 * int((far & others).sum()):
        return none
    if not (far & usual).any() and (outside & others).sum() > (1 - _NEARLY_ALL) * n:
        usual = none
    return usual | beyond | sentinel


def _placeholder_text(name: str, times: Array, unset: Array, n: int) -> str:
    values, counts = np.unique(times[unset], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:3]
    shown = ", ".join(f"{values[k] + 0.0:g} in {counts[k]}" for k in order) + (", …" if len(values) > 3 else "")
    return f"{name} is {shown} of {n} trials, far outside of these trials. It stands for a missing time there."


def _clock_problem(name: str, times: Array, kept: Array, far: Array, spans: RowSpans, argument: str) -> Problem | None:
    """What is wrong with times of which some or most are far from their rows."""
    n, n_far = int(kept.sum()), int(far.sum())
    most = n_far > _MOST * n
    if not n_far or (n_far < max(2, _SOME * n) and not most):
        return None
    at, starts = times[kept], spans.starts[kept]
    found = (
        f"{name} is far outside of its own trial in {n_far} of {n}: it is {at.min():g} to {at.max():g} s, and trials "
        f"start at {starts.min():g} to {starts.max():g} s."
    )
    other = _other_clock(at, spans.take(np.flatnonzero(kept))) if most else None
    if other is not None:
        before, behind = other.around()
        text = f"{found} It looks {other.text}. {_advice(name, other, argument)}"
        return Problem(text, n >= _FEWEST_ROWS, f"{before}{name}{behind}")
    if most and n >= _FEWEST_ROWS and not _rise_together(at, starts):
        return Problem(f"{found} It does not rise as they do. Pass a column of times of the session.", True)
    return Problem(f"{found} Check that these are times of the session.", False)


class _Clock(NamedTuple):
    """The clock of times, in words, and what makes them times of the session: start_time before, a factor behind."""

    text: str
    relative: bool
    factor: float = 1.0

    def around(self) -> tuple[str, str]:
        """What an expression needs before the name of a column, and behind it."""
        return "start_time + " * self.relative, f" / {self.factor:g}" if self.factor != 1 else ""


def _other_clock(at: Array, spans: RowSpans) -> _Clock | None:
    """The clock that explains nearly all times; None if none does."""
    starts, lasts, gap = spans.starts, spans.stops - spans.starts, spans.gap_s

    def fit(since: Array) -> bool:
        return bool(((since >= -gap) & (since <= lasts + gap)).mean() >= _NEARLY_ALL)

    if fit(at) and ((at >= 0) & (at <= lasts)).mean() >= _MOST:
        return _Clock("relative to the trial's start, or like a duration", True)
    for factor, unit in _CLOCKS.items():
        if fit(at / factor - starts):
            return _Clock(f"as if it were in {unit}", False, factor)
    within = np.median(np.abs(at)) / 1e3 >= _SMALLEST_SHARE * np.median(lasts)
    if within and fit(at / 1e3) and not _rise_together(at, starts):
        return _Clock("relative to the trial's start, in milliseconds", True, 1e3)
    return None


def _rise_together(at: Array, starts: Array) -> bool:
    """Whether times rise with the starts of their rows, about as fast."""
    if not (np.ptp(at) > 0 and np.ptp(starts) > 0) or np.corrcoef(at, starts)[0, 1] < _RISING:
        return False
    return bool(1 - _RISING <= np.polyfit(starts - starts.mean(), at, 1)[0] <= 1 + _RISING)


def _advice(name: str, clock: _Clock, argument: str) -> str:
    """The call that would be right; ``name`` is a column as a query spells it, an expression, or words."""
    before, behind = clock.around()
    needed = "Times of the session are needed."
    if name.startswith(FUNCTION):
        return f"{needed} Let the function return {'t.' * clock.relative}{before}…{behind}."
    if argument == "align" and name.isidentifier():
        python = f"lambda t: {'t.' * clock.relative}{before}t.{name}{behind}"
        return f'{needed} Pass align={python}, or "{before}{name}{behind}" as align= or --align.'
    return f'{needed} Pass "{before}{name}{behind}" in {argument}.'


def rows_at_once(spans: RowSpans, origins: Array | None = None, window_s: float = 0.0) -> str:
    """A sentence if eight or more rows share a moment, so that their times are relative to trials; else empty.

    With ``origins`` (row, s), the windows that are read also need to cover their time three times: rows may then span
    the whole session, as if they had no start.
    """
    starts, stops = spans.starts[np.isfinite(spans.starts)], spans.stops[np.isfinite(spans.starts)]
    n = len(starts)
    if n < _FEWEST_ROWS or not (np.ptp(starts) == 0 or (spans.have_stops and starts.max() < stops.min())):
        return ""
    if origins is not None and n * window_s < _MOST_COVERED * (np.ptp(origins) + window_s):
        return ""
    at = f"at {starts[0]:g} s" if np.ptp(starts) == 0 else f"between {starts.min():g} and {starts.max():g} s"
    lasts = f" and last {np.median(stops - starts):g} s" if spans.have_stops else ""
    return (
        f"all {n} trials start {at}{lasts}, at the same time. Their times are relative to each trial. Times of the "
        "session are needed."
    )


def rows_start_over(spans: RowSpans) -> str:
    """A sentence if start times begin again and again from the first tenth, and rows overlap; else empty."""
    known = np.isfinite(spans.starts)
    starts, stops = spans.starts[known], spans.stops[known]
    back = np.flatnonzero(np.diff(starts) < 0) + 1
    if len(starts) < _FEWEST_ROWS or not len(back) or len(back) + 1 > len(starts) / 2 or not spans.have_stops:
        return ""
    beginnings = starts[back] - starts.min()
    order = np.argsort(starts, kind="stable")
    overlapping = (starts[order][1:] < stops[order][:-1]).mean()
    if beginnings.max() > _BEGINNING * np.ptp(starts) or overlapping < _OVERLAPPING:
        return ""
    return (
        f"start times start over {len(back)} times, first from {starts[back[0] - 1]:g} to {starts[back[0]]:g} s, and "
        f"{overlapping:.0%} of the trials begin before another one stops. They look relative to blocks"
    )


def spikes_start_over(times: Array, reach_s: float) -> bool:
    """Whether steps back are as long as the whole, and the whole ends before the trials do.

    A unit that was merged from several units steps back as far, but lasts as long as the trials.
    """
    steps = np.diff(times)
    span = times.max() - times.min()
    far_back = bool((steps < 0).any()) and np.median(-steps[steps < 0]) >= _RESTART_SHARE * span
    return bool(far_back and times.max() < _EARLY_SHARE * reach_s)


class ClockEvidence:
    """What shows that all times are in milliseconds or samples: `add` units, then ask for the `problem`.

    Signs are rates below 0.1 Hz, intervals between spikes above 1 s, trials above 100 s, sessions above a day, and
    spike times that are whole numbers. One sign alone proves nothing: units can be slow, and sessions long.
    """

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._intervals: list[Array] = []
        self._all_whole = True
        self._span = np.inf, -np.inf

    def add(self, times: Array) -> None:
        """Add the sorted spike times of a unit; of slow units, the first 256 are looked at."""
        if len(times) < _FEWEST_SPIKES or times[-1] <= times[0]:
            return
        first, last = float(times[0]), float(times[-1])
        self._rates.append(len(times) / (last - first))
        self._span = min(first, self._span[0]), max(last, self._span[1])
        if self._rates[-1] >= _SLOWEST_HZ:
            return
        sample = times[:_SAMPLE]
        self._intervals.append(np.diff(sample))
        self._all_whole = self._all_whole and bool((sample == np.rint(sample)).all())

    def problem(self, spans: RowSpans | None) -> Problem | None:
        """The signs, if several agree; fatal if nearly all do."""
        rate = float(np.quantile(self._rates, _NEARLY_ALL)) if self._intervals else np.inf
        if rate >= _SLOWEST_HZ:
            return None
        interval = float(np.quantile(np.concatenate(self._intervals), 1 - 0.95))
        if interval < _LONGEST_INTERVAL_S:
            return None
        trial_s = 0.0 if spans is None else spans.median_length_s()
        lasts_s = self._span[1] - self._span[0]
        signs = [
            f"{_NEARLY_ALL:.0%} of the units fire below {rate:.2g} Hz",
            f"95% of the intervals between spikes are above {interval:.3g} s",
        ]
        long_trials, long_session = trial_s >= _LONGEST_TRIAL_S, lasts_s >= _LONGEST_SESSION_S
        signs += [f"trials last {trial_s:.4g} s"] if long_trials else []
        signs += [f"the session lasts {lasts_s / 86400:.2g} days"] if long_session else []
        signs += ["all spike times are whole numbers"] if self._all_whole else []
        if len(signs) < 3:
            return None
        which = "all times look" if long_trials else "spike times look"
        return Problem(
            f"{which} as if they were in milliseconds or samples: {', '.join(signs)}. Seconds are needed. Divide them "
            "in a copy of the file.",
            long_trials and (long_session or self._all_whole),
        )


def samples_in_other_units(step_s: float, recorded: tuple[float, float], spans: RowSpans) -> str:
    """A sentence if samples, trials and the session of a series are too far apart and long for seconds; else empty."""
    trial_s, lasts_s = spans.median_length_s(), recorded[1] - recorded[0]
    if step_s < _LONGEST_INTERVAL_S or trial_s < _LONGEST_TRIAL_S or lasts_s < _LONGEST_SESSION_S:
        return ""
    return (
        f"all times look as if they were in milliseconds or samples: samples are {step_s:g} s apart, trials last "
        f"{trial_s:.4g} s, and the session lasts {lasts_s / 86400:.2g} days. Seconds are needed. Divide them in a copy "
        "of the file."
    )


def doubtful_zeros(name: str, values: Array) -> str:
    """A sentence if some times since the trial's start are 0, and all others far above; else empty."""
    known = values[np.isfinite(values)]
    zero, others = known == 0, known[known != 0]
    if not zero.any() or len(others) < len(known) / 2 or others.min() < _FAR_FROM_0 * np.median(others):
        return ""
    return (
        f"{name} is 0 in {zero.sum()} of {len(known)} trials, and at least {others.min():g} in all others. If 0 stands "
        f'for a missing time, leave these trials out by where="{name} != 0".'
    )
