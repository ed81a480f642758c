"""The slow obvious reader: one trial, one bin at a time, in exact fractions."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

import numpy as np
import xarray as xr

EDGE, OBSERVED = Fraction(1, 10**7), Fraction(1, 10**6)


@lru_cache(100_000)
def exact(value: float) -> Fraction:
    """The decimal that a float stands for, not its binary value."""
    return Fraction(repr(float(value)))


def is_observed(left: Fraction, right: Fraction, intervals) -> bool:
    """Whether [left, right] lies in the union of intervals, walking from left to right."""
    if intervals is None:
        return True
    at = left + OBSERVED
    while at < right - OBSERVED:
        reach = [exact(b) for a, b in intervals if exact(a) <= at < exact(b)]
        if not reach:
            return False
        at = max(reach)
    return True


def real_time(warped: Fraction, first: Fraction, second: Fraction, to_s: Fraction) -> Fraction:
    """When, in a trial with these two events, the warped time is reached."""
    if warped < 0:
        return first + warped
    if warped < to_s:
        return first + warped / to_s * (second - first)
    return second + warped - to_s


def bin_edges(origin, window_s, bin_s, second=None, to_s=None) -> list[Fraction]:
    """The real times of the edges of all bins of a trial."""
    start, width = exact(window_s[0]), exact(bin_s)
    n = round((exact(window_s[1]) - start) / width)
    edges = [start + k * width for k in range(n + 1)]
    if second is None:
        return [exact(origin) + edge for edge in edges]
    return [real_time(edge, exact(origin), exact(second), exact(to_s)) for edge in edges]


def slow_counts(
    spike_times,
    origins,
    window_s,
    bin_s,
    obs_intervals=None,
    *,
    seconds=None,
    to_s=None,
    within=None,
    infer=False,
):
    """Counts and observed (trial, time, neuron), one cell at a time; counts are 0 where not observed.

    ``seconds`` and ``to_s``: the second event of each trial, and what the time until it is stretched to.
    ``within``: (from, to) of each trial. ``infer``: a trial is unobserved where no spike comes at its start or
    later, or none before its end.
    """
    seconds = [None] * len(origins) if seconds is None else seconds
    edges = [bin_edges(a, window_s, bin_s, b, to_s) for a, b in zip(origins, seconds, strict=True)]
    counts = np.zeros((len(origins), len(edges[0]) - 1, len(spike_times)), int)
    seen = np.zeros(counts.shape, bool)
    for i, times in enumerate(spike_times):
        intervals = None if obs_intervals is None else obs_intervals[i]
        ticks = sorted(exact(t) + EDGE for t in times)
        for j, of_trial in enumerate(edges):
            before = [bisect_left(ticks, edge) for edge in of_trial]  # how many spikes come before each edge
            later, earlier = before[0] < len(ticks), before[-1] > 0
            for k, (left, right) in enumerate(pairwise(of_trial)):
                inside = is_observed(left, right, intervals)
                if within is not None:
                    low, high = map(exact, within[j])
                    inside = inside and low - OBSERVED <= left and right <= high + OBSERVED
                if infer:
                    inside = inside and later and earlier
                seen[j, k, i] = inside
                if inside:
                    counts[j, k, i] = before[k + 1] - before[k]
    return counts, seen


def slow_exposure(origins, window_s, bin_s, seconds, to_s):
    """The real duration of every warped bin (trial, time), s."""
    edges = [bin_edges(a, window_s, bin_s, b, to_s) for a, b in zip(origins, seconds, strict=True)]
    return np.array([[float(b - a) for a, b in pairwise(e)] for e in edges])


def slow_rates(counts, seen, codes, bin_s, exposure=None):
    """Rates (condition, time, neuron), NaN where no trial observed the bin; trials (condition, neuron)."""
    rates, n_trials = [], []
    lasts = np.full(counts.shape[:2], bin_s) if exposure is None else exposure
    for code in sorted(set(codes)):
        rows = np.array(codes) == code
        observed = (seen[rows] * lasts[rows][..., None]).sum(axis=0)
        with np.errstate(invalid="ignore"):
            rates.append(counts[rows].sum(axis=0) / observed)
        n_trials.append(seen[rows].any(axis=1).sum(axis=0))
    return np.array(rates), np.array(n_trials)


def same_data(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Identical but for where the files lie."""
    alike = []
    for recording in (found, expected):
        where = [
            "file",
            "source",
            *(f"file_{name}" for name in ("digest", "dandiset", "version", "asset_id", "asset_path")),
        ]
        recording = recording.drop_vars(where, errors="ignore")
        alike.append(recording.assign_attrs(assets=[]))
    xr.testing.assert_identical(*alike)


def slow_first_event(events, starts, stops):
    """The first event in [start, stop) of every trial, NaN where there is none."""
    found = []
    for a, b in zip(starts, stops, strict=True):
        inside = [t for t in events if a <= t < b]
        found.append(min(inside) if inside else np.nan)
    return np.array(found)
