"""Every number that was chosen for inferred inputs: what it does, and what it was chosen on.

The words "tuned on", "measured on", "convention" and "not recorded" are those of `nwb_lint.model.tuning`.
"""

from __future__ import annotations

import numpy as np

# Lengths of smooth courses that are tried, relative to the length of a trial; at least a bin.
# Convention: the range. Tuned on seeds 0 to 7 of `benchmarks/beyond.py inferred`: the steps. With steps of 1.5,
# recurrence took what a length between two of these leaves, and intervals were too narrow.
LENGTHS = tuple(0.02 * 1.2 ** np.arange(18))

# Variances of unknown inputs that are tried, relative to that of the noise.
# Convention: the range holds all that were chosen.
AMPLITUDES = 10.0 ** np.arange(-4, 5.1, 0.5)

# Features with a smaller share of the largest power are left out where the prior is chosen.
# Convention.
KEPT = 1e-9

# Sparse courses: the variance that the fixed point starts from, and its rounds.
# Convention.
SPARSE_START, RELEVANCE_ROUNDS = 1.0, 30

# Prior variance of the linear part of the dynamics, relative to that of the noise, where errors are computed.
# Convention: it is almost free.
LINEAR_VARIANCE = 1e3

# Power of the known inputs in the regression of the dynamics, relative to the mean of the features, so that the ridge
# hardly shrinks their weights.
# Convention.
KNOWN_POWER = 1e4

# Means. Shares of the noise that pass the filter of the network; variances of the latents that unknown inputs give,
# relative to that of the noise.
# Convention: the ranges hold all that were chosen.
PROCESS_SHARES, SIZES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.99), 10.0 ** np.arange(-2, 5.1, 0.5)

# Prior variance of the weights of known inputs, of unit length, relative to that of the noise.
# Convention: it is almost free.
KNOWN_VARIANCE = 1e4

# White noise beside noise that was smoothed with the rates, relative to its variance.
# Convention: what smoothing left of no frequency cannot be inverted.
JITTER_OF_MEANS = 1e-3

# Inputs of each single trial: what a bin leaves of them at the start of EM and at most, and the rise of the log
# evidence of a trial below which EM has converged.
# Convention.
FIRST_DECAY, LARGEST_DECAY, OWN_TOLERANCE = 0.8, 0.995, 2e-3

# Of single trials: a hypothesis that is behind the best by this share of its bits per spike counts as equal.
# Tuned on: seeds 0 to 8 of `benchmarks/beyond.py inferred_trials`, .0005: with .005, recurrence with inputs was called
# inputs alone on all of them. There inputs alone were .0002 to .003 bits behind, with standard errors of .0001 to
# .0007; without recurrence (seeds 0 to 5) they were the best on five, and less than .0001 behind on one.
SAME_OF_TRIALS = 0.0005
