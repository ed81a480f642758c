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

# Least and largest size of the m, I and b of a hidden unit, on a logarithmic scale: units of one size cannot have both
# steep and flat parts of the dynamics.
# Tuned on: networks of delayed match to sample (`benchmarks/trials.py teachers`, dms), seeds 0 to 5, with the latents
# known: (0.3, 3), (0.2, 5), (0.5, 2), (0.5, 5), (1, 3), (0.1, 3), and 1.
HIDDEN_SIZES = (0.3, 3.0)

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

# Rounds of Newton's method, each with the covariance of the round before: most rounds, most steps of each, and the
# change of the log evidence of a trial below which it takes part in no further one (in a round: a tenth of it).
# Measured on: the real session: bits per spike are within 3e-4 of those at 1e-4, in a quarter of the time.
ROUNDS, ROUND_STEPS, ROUND_TOLERANCE = 8, 4, 0.1

# Newton steps of the posterior without dynamics that these rounds start from. From the prior mean they end in the wrong
# basin where noise decides (delayed match to sample, R² of the latents .78 in place of .99).
# Measured on: the real session, for time.
SMOOTHING_STEPS = 3

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
# iterations this factor is tried, up and down, while the evidence of `START_TRIALS` trials rises; where it does not, it
# is tried again after twice as many iterations.
# Tuned on: the limit cycle, 40 units at 8 Hz, seed 11: 3 and 2 iterations give the same; without it Q is .4 of the
# truth. With the same samples in each iteration J_eff is worse (.976 in place of .995).
NOISE_EVERY, NOISE_FACTOR = 3, 1.5

# After so many iterations, steps of EM are prolonged: their length grows by this factor up to this limit.
# Tuned on: the real session: 10 in place of 20 iterations for 1.010 bits per spike; with a limit of 3 the evidence
# falls more often.
PLAIN_STEPS, STEP_GROWTH, LONGEST_STEP = 3, 1.3, 2.0

# Fits to values start from principal components with the smoothing that counts have, and with these widths, bins, of
# which the first is none. After so many iterations with `START_TRIALS` trials, the start of larger evidence is taken.
# Convention.
LESS_SMOOTHING, START_ITERATIONS = (0.01, 1.0), 6

# Where m drifts, EM also starts from latents under a network with constant m, which is fitted to each of so many parts
# of the session in so many iterations. So many trials say which start is best.
# Tuned on: networks whose m drifts by its own size (`benchmarks/beyond_drift.py`), seed 112: of the starts from the
# first, second and last third, two find the drift, components of the whole session do not, and the evidence of 100
# trials after `START_ITERATIONS` is 140 to 400 nats larger for these two.
DRIFT_WINDOWS, DRIFT_START_ITERATIONS, DRIFT_START_TRIALS = 3, 8, 100

# Values (trial × time × unit) that are processed together.
# Measured on: the real session, for time and memory.
BLOCK_VALUES = 400_000
# The same on a device of torch. Not measured: it takes about 2 GB.
DEVICE_BLOCK_VALUES = 20_000_000

# Newton steps of the E step at the start and within EM, which continues at the mode of the iteration before, and of the
# regressions.
# Measured on: the real session: 3 steps in each iteration give the same bits per spike in 1.5 times the time.
START_STEPS, E_STEPS, REGRESSION_STEPS = 3, 1, 3

# Cosines of time in the linear dynamics that align sessions without common neurons at the start.
# Convention.
ALIGNING_WAVES = 6

# Precision of the Gaussian priors on loadings and on levels; kappa has unit variance.
# Not recorded.
LOADING_PRECISION, LEVEL_PRECISION = 1.0, 0.1

# Ridge of the regression that gives the first latents of several areas, relative to the mean variance of the features.
# Convention.
START_RIDGE = 0.1

# Ridges of the regression that gives first latents of behavior, from which generalized cross-validation chooses.
# Convention: the range holds all that were chosen.
START_RIDGES = 10.0 ** np.arange(-1, 7)

# Precision of loadings that must be 0, because the latent belongs to another area.
# Convention: far above what data give.
OUTSIDE_PRECISION = 1e10

# Iterations without a gain after which EM ends.
# Tuned on: the real session: the last third of more iterations gained .001 bits per spike.
PATIENCE = 3

# Ridges of the dynamics that are tried, relative to the mean variance of phi(x).
# Convention: the range holds all that were chosen.
RIDGES = 10.0 ** np.arange(-8, 1.1, 0.5)

# Ridge of the linear part of the dynamics, on the same scale.
# Tuned on: networks of working memory (`benchmarks/trials.py teachers`, wm), seeds 0 to 7, with the latents known.
LINEAR_RIDGE = 1e-2

# Pairs of samples of each trial for the last regression of the dynamics; EM takes one pair in each iteration.
# Tuned on: networks of working memory (`benchmarks/trials.py teachers`, wm), seeds 0 and 3: 1 and 8.
FINAL_DRAWS = 8

# The ridge with which biases are fitted at the start, before one is chosen.
# Convention.
FIRST_RIDGE = 1e-4

# Smallest variance of noise and start, where kappa has unit variance.
# Convention.
MIN_NOISE = 1e-6

# Shares by which the diagonal of a precision is made larger, one after the other, where rounding leaves an eigenvalue
# below 0.
# Convention: the first is near the rounding error; with the last, noise of 1e-6 becomes a prior of sd 10.
ROUNDING_SHARES = 1e-14, 1e-12, 1e-10, 1e-8

# Biases of recorded units: least and largest damping of a step, relative to the diagonal of the Gauss-Newton matrix;
# the precision of their Gaussian prior; and most steps at the start of EM and in each iteration.
# Convention.
BIAS_DAMPING, BIAS_PRECISION, BIAS_STEPS = (1e-3, 1e5), 1.0, (30, 3)

# ---------------------------------------------------------------------------------------------------------------------
# Gradient of free runs (`refine`)

# Bins whose data give the first latents of a trial.
# Convention: many times the memory of most networks.
FIRST_BINS = 50

# Share of the trials that is held out to choose an epoch, and the step of Adam at the start, in units of the root mean
# square of each parameter; it falls to 0 along a cosine.
# Tuned on: a flip-flop network of seed 101 (`nwb-lint reproduce ctd`): with .01 whole runs became worse.
REFINE_HELD, REFINE_RATE = 0.1, 0.002

# Bins of the pieces that are run first and their step of Adam, the epochs of each length, and the trials they are of.
# Tuned on: the same network. Without pieces, R² of the rates of a free run fell; with them it is .86 in place of -.15.
# Pieces of 60 trials alone were fitted too closely: 8,800 weights and 1.6 million counts.
PIECES, PIECE_EPOCHS, PIECE_TRIALS = ((10, 0.01), (25, 0.005)), 20, 240

# Gradients whose norm is above so many times the median of those before are cut off.
# Convention.
LARGEST_GRADIENT = 2.0

# Rounds of EM that find the noise after it, and the trials that they see.
# Measured on: the same network, for time.
NOISE_ROUNDS, NOISE_TRIALS = 3, 32

# Shares of that noise that are tried after it, as long as the evidence rises.
# Tried on: a network of the fifteen tasks (seed 0, 360 units). The evidence of 30 trials chose .1, as R² of rates did.
NOISE_SHARES = (0.3, 0.1, 0.03, 0.01)
