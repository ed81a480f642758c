"""Every number that was chosen for fits of single trials: what it does, and what it was chosen on.

The words "tuned on", "measured on", "convention" and "not recorded" are those of `nwb_lint.model.tuning`. Data that are
named more than once: the real session, 51 units of motor cortex, 206 training trials of 150 bins of 50 ms
(`benchmarks/trials.py alm`, split 0); the limit cycle, a simulated network of rank 2 (section cycles).
"""

from __future__ import annotations

import numpy as np

# ---------------------------------------------------------------------------------------------------------------------
# Fit (`fit`, `scores`)

# hidden="auto": as many units as make so many with the recorded ones.
# Tuned on: the real session.
ALL_UNITS = 256

# Trials of a split on which bits per spike are computed.
# Convention: it bounds the time.
SCORED_TRIALS = 64

# Groups of neurons that are held out in turn where none are named.
# Convention.
NEURON_FOLDS = 4

# ---------------------------------------------------------------------------------------------------------------------
# Posterior (`smoother`, `inference`)

# A trial has converged when its log density rises by less than this.
# Convention.
NEWTON_TOLERANCE = 1e-3

# Most halvings of a Newton step.
# Convention.
HALVINGS = 12

# Rounds of Newton's method with the covariance of the round before, and the tolerance of each (log density).
# Measured on: the real session.
ROUNDS, ROUND_TOLERANCE = 3, 1e-2

# What keeps a denominator above 0 in single precision.
# Convention.
NEARLY_ZERO = 1e-7

# Log rates above this do not occur in data; they are cut off so that trial steps do not overflow.
# Convention.
MAX_LOG_RATE = 40.0

# ---------------------------------------------------------------------------------------------------------------------
# Expectation-maximization (`learning`)

# Smoothed activity has too little noise, and EM changes it slowly: factors that are tried, on so many trials.
# Tuned on: the real session.
START_NOISE, START_TRIALS = (1.0, 3.0, 10.0, 30.0), 32

# EM changes the size of Q by little in an iteration, since it sees noise that the posterior has smoothed. After so many
# iterations this factor is tried, up and down, while the evidence of `START_TRIALS` trials rises.
# Tuned on: the limit cycle, 40 units at 8 Hz, seed 11: 3 and 2 iterations give the same; without it Q is .4 of the
# truth.
NOISE_EVERY, NOISE_FACTOR = 3, 1.5

# Values (trial × time × unit) that are processed together.
# Measured on: the real session, for time and memory.
BLOCK_VALUES = 400_000

# Newton steps of the E step within EM, which continues at the mode of the iteration before, and of the regressions.
# Measured on: the real session.
E_STEPS, REGRESSION_STEPS = 3, 3

# Precision of the Gaussian priors on loadings and on levels; kappa has unit variance.
# Not recorded.
LOADING_PRECISION, LEVEL_PRECISION = 1.0, 0.1

# Iterations without a gain after which EM ends.
# Tuned on: the real session: the last third of more iterations gained .001 bits per spike.
PATIENCE = 3

# Ridges of the dynamics that are tried, relative to the mean variance of phi(x).
# Convention: the range holds all that were chosen.
RIDGES = 10.0 ** np.arange(-8, 1.1, 0.5)

# Smallest variance of noise and start, where kappa has unit variance.
# Convention.
MIN_NOISE = 1e-6
