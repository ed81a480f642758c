"""Every number that was chosen for inferred inputs: what it does, and what it was chosen on.

The words "tuned on", "measured on", "convention" and "not recorded" are those of `nwb_lint.model.tuning`.
"""

from __future__ import annotations

import numpy as np

# Lengths of smooth courses that are tried, relative to the length of a trial; at least a bin.
# Convention.
LENGTHS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.27, 0.4)

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
PROCESS_SHARES, SIZES = (0.0, 0.1, 0.5, 0.9, 0.99), 10.0 ** np.arange(-2, 5.1, 0.5)

# Prior variance of the weights of known inputs, of unit length, relative to that of the noise.
# Convention: it is almost free.
KNOWN_VARIANCE = 1e4

# White noise beside noise that was smoothed with the rates, relative to its variance.
# Convention: what smoothing left of no frequency cannot be inverted.
JITTER_OF_MEANS = 1e-3
