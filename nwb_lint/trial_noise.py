"""Whether trials of one condition differ together along one direction of state space, which their means do not show."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.parallel.warnings import warn

Array = np.ndarray

MIN_SHARE = 0.25  # of the variance along the direction; less leaves the means most of it
FLIPS = 99  # random signs, all of which the data must exceed: chance is 1 %
MOST_NEURONS = 100  # neurons of the test; more find the same direction
FEWEST_NEURONS = 4  # of one session
FACTOR_STEPS = 30  # of the estimate of one common factor


def shared_trial_variance(recording: xr.Dataset) -> float:
    """Share of the variance along one direction that is among trials of a condition, beyond counting noise.

    Counting noise is independent between neurons, so what they share shows in the covariance between them. The
    difference of two halves of the trials, times the square root of n1 n2 / (n1 + n2), has the covariance of single
    trials. The direction and its variance are those of one common factor, with the diagonal left free, and each neuron
    in units of the standard deviation of its trials. The share is this variance / (this variance + that of the means
    along the direction, without the time course of all conditions and without noise). Neurons of different sessions
    have no trials in common: only covariances within a session count.

    Parameters
    ----------
    recording : xarray.Dataset
        From `read_conditions` with ``halves=True``.

    Returns
    -------
    float
        0 where the covariance is not larger than with random signs for each neuron in each condition, which keep all
        but the covariance between neurons. NaN without halves, and below 4 neurons of one session or 2 conditions with
        both halves.
    """
    found = _standardized(recording)
    if found is None:
        return float("nan")
    differences, means, noise, session = found
    grams = np.einsum("ctn,ctm->cnm", differences, differences) / differences[..., 0].size
    grams *= session[:, None] == session
    covariance = grams.sum(axis=0)
    observed, rng = _strongest(covariance), np.random.default_rng(0)
    for _ in range(FLIPS):
        sign = rng.choice([-1.0, 1.0], grams.shape[:2])
        if _strongest((sign[:, :, None] * grams * sign[:, None]).sum(axis=0)) >= observed:
            return 0.0
    axis, variance = _common_factor(covariance)
    along = means @ axis
    signal = float((along**2).mean() - axis**2 @ noise - variance * (axis**2 @ noise))
    return float(variance / (variance + max(signal, 0.0)))


def warn_of_shared_variance(recording: xr.Dataset) -> None:
    """Warn where trials of a condition differ so much along one direction that their means may mislead."""
    share = shared_trial_variance(recording)
    if share >= MIN_SHARE:
        warn(
            f"Means may mislead: along one direction of state space, about {share:.0%} of the variance is among trials "
            "of the same condition, beyond counting noise. Choices that noise drives, or states that differ from trial "
            "to trial, vanish in means, and a fit to means can lose their attractors. Fit single trials (fit_trials), "
            "or group by what differs (by=…), such as the choice."
        )


def _standardized(recording: xr.Dataset) -> tuple[Array, Array, Array, Array] | None:
    """Differences of halves in the scale of single trials, deviations of the means, 1 / number of trials, and session.

    Differences and means are (condition, time, neuron), in standard deviations of the trials of each neuron; 0 where
    not observed. The others are (neuron). Neurons of the largest sessions are taken.
    """
    if "rate_half" not in recording:
        return None
    first, second = recording["n_trials_half"].values.astype(float)
    known = (np.minimum(first, second) > 0).all(axis=0)
    neurons, session = _of_large_sessions(known, recording)
    if not len(neurons) or recording.sizes["condition"] < 2:
        return None
    first, second = first[:, neurons], second[:, neurons]
    halves = recording["rate_half"].values[..., neurons].astype(float)
    differences = np.nan_to_num((halves[0] - halves[1]) * np.sqrt(first * second / (first + second))[:, None])
    means = recording["rate"].values[..., neurons].astype(float)
    counted = np.maximum(np.isfinite(means).sum(axis=0), 1)
    means = np.nan_to_num(means - np.nansum(means, axis=0) / counted)
    sd = np.sqrt((differences**2).mean(axis=(0, 1)))
    varies = sd > 0
    if not varies.any() or np.bincount(session[varies]).max() < FEWEST_NEURONS:
        return None
    noise = (1 / (first + second)).mean(axis=0)
    return differences[..., varies] / sd[varies], means[..., varies] / sd[varies], noise[varies], session[varies]


def _of_large_sessions(known: Array, recording: xr.Dataset) -> tuple[Array, Array]:
    """At most so many of the known neurons, those of the largest sessions first, and the number of their session."""
    labels = recording["session"].values if "session" in recording else np.zeros(recording.sizes["neuron"])
    session = np.unique(labels, return_inverse=True)[1]
    groups = [np.flatnonzero(known & (session == one)) for one in range(session.max(initial=-1) + 1)]
    groups = sorted((one for one in groups if len(one) >= FEWEST_NEURONS), key=len, reverse=True)
    thinned = [one[:: -(-len(one) // MOST_NEURONS)] for one in groups]
    neurons = np.concatenate([np.empty(0, int), *thinned])[:MOST_NEURONS]
    return neurons, session[neurons]


def _strongest(covariance: Array) -> float:
    """The largest eigenvalue of the covariances between neurons, without their variances."""
    return float(np.linalg.eigvalsh(covariance - np.diag(np.diag(covariance)))[-1])


def _common_factor(covariance: Array) -> tuple[Array, float]:
    """The direction and the variance of one common factor: what is left on the diagonal is each neuron's own."""
    between, shared = covariance - np.diag(np.diag(covariance)), np.zeros(len(covariance))
    for _ in range(FACTOR_STEPS):
        values, vectors = np.linalg.eigh(between + np.diag(shared))
        axis, variance = vectors[:, -1], float(values[-1])
        shared = variance * axis**2
    return axis, variance
