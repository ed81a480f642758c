"""The slow obvious reader: one trial, one bin, one spike at a time, in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import xarray as xr

EDGE, OBSERVED = Fraction(1, 10**7), Fraction(1, 10**6)


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


def slow_counts(spike_times, origins, window_s, bin_s, obs_intervals=None):
    """Counts and observed (trial, time, neuron), one cell at a time; counts are 0 where not observed."""
    start, width = exact(window_s[0]), exact(bin_s)
    n = round((exact(window_s[1]) - start) / width)
    counts = np.zeros((len(origins), n, len(spike_times)), int)
    seen = np.zeros(counts.shape, bool)
    for i, times in enumerate(spike_times):
        intervals = None if obs_intervals is None else obs_intervals[i]
        for j, origin in enumerate(origins):
            for k in range(n):
                left = exact(origin) + start + k * width
                seen[j, k, i] = is_observed(left, left + width, intervals)
                if seen[j, k, i]:
                    inside = [left - EDGE <= exact(t) < left + width - EDGE for t in times]
                    counts[j, k, i] = sum(inside)
    return counts, seen


def slow_rates(counts, seen, codes, bin_s):
    """Rates (condition, time, neuron), NaN where no trial observed the bin; trials (condition, neuron)."""
    rates, n_trials = [], []
    for code in sorted(set(codes)):
        rows = np.array(codes) == code
        observed = seen[rows].sum(axis=0)
        with np.errstate(invalid="ignore"):
            rates.append(counts[rows].sum(axis=0) / (observed * bin_s))
        n_trials.append(seen[rows].any(axis=1).sum(axis=0))
    return np.array(rates), np.array(n_trials)


def same_data(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Identical but for where the files lie."""
    alike = []
    for recording in (found, expected):
        recording = recording.drop_vars(["file", "source", "file_digest"], errors="ignore")
        alike.append(recording.assign_attrs(assets=[]))
    xr.testing.assert_identical(*alike)
