"""Every number that was chosen for the fit: what it does, and what it was chosen on.

Each constant has two comments: what the number does, then where it comes from.

- "Tuned on": several values were compared on the data that are named, and the best one was kept. Such a number may suit
  these data better than others.
- "Measured on": one value was tried on the data that are named, and it did no harm or was fast enough.
- "Convention": a usual value, or a guard against division by zero, overflow or endless work. Results do not depend on
  its exact size.
- "Not recorded": it is not known where the number comes from.

Data that are named more than once:

- the teachers: the four published low-rank networks (DM, WM, CDM, DMS; 512 neurons), 800 training trials, observation
  noise of 0 to 2 standard deviations.
- the grid: full-rank networks trained on CDM and DMS, 512 and 1024 neurons, g = 0.1 and 1, three seeds, ranks 1 to 5
  (`benchmarks/networks.txt`).
- mante2013: 19 recorded neurons of Mante et al. (2013), cross-validated over conditions.

"Power" is the summed squared activity. "Values" are conditions times time steps times neurons. All other units stand
in the comment.
"""

from __future__ import annotations

# ---------------------------------------------------------------------------------------------------------------------
# Choice between candidates on held-out conditions (`stages.search`)

# With this many training conditions or more, one inner split is enough; with fewer, `INNER_FOLDS` splits are made.
# Not recorded.
SINGLE_SPLIT_CONDITIONS = 200

# Number of inner splits when there are few conditions.
# Convention.
INNER_FOLDS = 4

# The single inner split holds out one condition in this many, and at most `MAX_VALIDATION_CONDITIONS` conditions.
# Not recorded.
VALIDATION_ONE_IN, MAX_VALIDATION_CONDITIONS = 8, 100

# Two held-out errors that differ by less than this share of the power count as equal.
# Not recorded.
EQUAL_ERROR = 3e-5

# `ridge_by="innovations"`: a candidate may explain this much less of the power than the best one.
# Measured on: inactivations in trained networks (two-context decision, 512 neurons, g = 0.1 and 1, 700 trials).
INNOVATIONS_TOLERANCE = 0.01

# ---------------------------------------------------------------------------------------------------------------------
# Stage 1, closed form, and stage 2, latent pass (`regression`)

# Ridge penalties that are tried, in units of the mean variance of the features.
# Convention: one value per factor of ten.
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)

# A time step is skipped only if this many samples per feature stay, and only up to `MAX_STRIDE_TAU` time constants
# apart.
# Tuned on: the teachers, noise of 0 and 1 sd. Steps of 1 tau lowered R² of CDM from .9996 to .9979.
SAMPLES_PER_FEATURE, MAX_STRIDE_TAU = 50, 0.5

# The same two numbers for a closed form of low rank, which later stages improve.
# Tuned on: the teachers, noise of 0 to 2 sd. R² fell by at most 1e-4.
LOW_RANK_SAMPLES_PER_FEATURE, LOW_RANK_MAX_STRIDE_TAU = 20, 0.75

# At least this many samples are always used.
# Measured on: the teachers. Fewer samples save no time.
MIN_SAMPLES = 10_000

# With more neurons than this, random projections (a sketch) replace the features.
# Tuned on: a CDM network of 1024 neurons, ranks 1 to 5 (R² within 5e-5, half the time), and the DM teacher (with a
# sketch of its 512 neurons, the correlation of raw connectivity fell from .970 to .893).
SKETCH_NEURONS = 1000

# Number of directions of a sketch.
# Measured on: `benchmarks/scale.py`, 10,000 neurons, rank 2.
SKETCH_SIZE = 256

# A regression on a sketch takes at least the memory of this many copies of its directions.
# Measured on: `mock_session`, 10,000 and 50,000 hidden units (5.4 and 6.0 copies at the peak).
SKETCH_COPIES = 5

# The sketch is found from this many samples per direction; above 4096 neurons from fewer, in which all neurons have so
# many values, and at least the last number per direction.
# The first is not recorded. Measured on: `benchmarks/scale.py`, 10,000 neurons, where R² did not change.
SKETCH_SAMPLES_PER_DIRECTION, SKETCH_VALUES, SKETCH_FEWEST_SAMPLES_PER_DIRECTION = 16, 16 * 256 * 4096, 4

# Samples of a sketch that are processed together, at least: sums over neurons × directions are added after each.
# Measured on: `benchmarks/scale.py`, 10,000 neurons.
SKETCH_CHUNK_SAMPLES = 600

# Above `SKETCH_NEURONS`, the scales of a descent come from this many samples.
# Not recorded. A singular value decomposition of so many samples of 10,000 neurons takes a second.
SKETCH_SAMPLES = 512

# Lanczos iterations replace a full eigendecomposition if the matrix has this many times more rows than eigenvalues.
# Not recorded. Lanczos iterations are faster from about there on.
LANCZOS_RATIO = 10

# Number of singular values that a fit keeps, so that a plot shows the gap after the last one that matters.
# Convention.
SINGULAR_VALUES_KEPT = 10

# Singular values below this share of the largest count as zero (collinear inputs, exact low rank).
# Convention.
SINGULAR_CUTOFF = 1e-10

# `norm_ratio` of an unconstrained J: principal directions with this share of the power count as visited.
# Convention.
VISITED_SHARE = 0.999

# The part of n that visited states determine (`determined_n`): every n' phi(x) loses at most this share of its power.
# Tuned on: four fits each to simulated means of one and of two populations, 60 and 150 neurons, where the part has 3 to
# 12 dimensions. Ridges that are tried, and the largest number of samples: conventions.
UNDETERMINED_DRIVE, VISITED_SAMPLES = 1e-3, 1000
DETERMINED_RIDGES = tuple(10.0 ** (-k / 4) for k in range(-8, 33))

# Populations (`find_populations`): the part of n that is not determined is drawn with this size relative to the rms of
# the determined part, and a mixture sees this many draws of it together.
# Tuned on: the same fits, sizes of .1, .3 and 1. With .1, BIC prefers two groups in single populations; with 1, it
# misses two populations of 60 neurons.
UNDETERMINED_SIZE, COMPLETIONS = 0.3, 5

# Smallest ridge penalty, in units of the mean variance of the features: it prevents division by zero.
# Convention.
MIN_RIDGE = 1e-12

# Generalized cross-validation counts smaller shares of the variance, and fewer degrees of freedom per sample, as this:
# single precision does not resolve them.
# Convention.
MIN_RESIDUAL = 1e-6

# Currents between areas: a warning names drives of which a smaller share of the variance is no combination of others.
# Convention.
COLLINEAR = 0.01

# Several areas: rounds in which each block is regressed on what the others leave, at most, and the relative change of
# what they explain at which the rounds end.
# Convention: endless work is avoided; the gradient follows.
BLOCK_SWEEPS, BLOCK_TOLERANCE = 30, 1e-4

# ---------------------------------------------------------------------------------------------------------------------
# When the closed form is the final fit (`stages.regressions`)

# Largest mean autocorrelation of held-out innovations at lag 1, with its standard error.
# Tuned on: the teachers (below .0006 without noise; .21 and more with noise of 1/20 sd) and the grid (.0012 and more).
MAX_AUTOCORRELATION = 0.0015

# The same bound for each latent, which has fewer samples.
# Tuned on: the teachers.
MAX_LATENT_AUTOCORRELATION = 0.05

# ---------------------------------------------------------------------------------------------------------------------
# Stage 3, L-BFGS (`lbfgs`)

# Number of iterations without a better held-out loss after which the descent stops.
# Tuned on: CDM networks of figure 2 (512 neurons, 400 trials): with 5, rank 2 stopped at an error of .113, with 12 at
# .081.
PATIENCE = 12

# A held-out loss counts as better if it is smaller by this share.
# Not recorded.
MIN_IMPROVEMENT = 1e-4

# `l2_n="auto"`: where n of the regressions is so many times as long as its effective part, the descent has a penalty
# l2_n |J|², in units of the power; where n is long only after the descent, this is continued with it. In a continuation
# the penalty stays if it explains at most this much less of the power of held-out conditions, and at the end of
# training conditions; and if it at most doubles their error, a convention. A descent that has it from its start is
# compared with one without it only where its held-out error is below this share of the power.
# Tuned on: CDM networks of 240 neurons in which J alone was trained (g = 0.1, seeds 31, 32, rank 1), with inactivations
# and R² of fresh trials, and the networks of `honesty.py unseen` of seed 50, with R² of fresh trials. Tried as well: a
# standard error in place of the tolerance (n stays 20 times too long), stronger penalties after this one (R² lower by
# up to .004). The one descent with the penalty in place of two: on those networks of seeds 60 and 61.
LONG_N, PENALTY, PENALTY_TOLERANCE = 2.0, 1e-5, 0.01

# In the coordinates of a descent, directions count as curved by at least this (the moments of the features, in units of
# the power): in smaller ones early stopping does not regularize.
# Tuned on: CDM networks of 160 and 320 neurons in which J alone was trained, and simulated sessions (60 units, 72
# conditions, six fits): R² of 1e-4, 1e-3 and 1e-2 was about the same; with 1e-6 the held-out error rose after one
# iteration.
LEAST_CURVATURE = 1e-4

# A descent with more iterations is done again in these coordinates, as one that `max_iter` ends.
# Convention: the default of `max_iter`, so that a larger one does not give a worse fit. Without this, rank 4 of a
# latent circuit (relu, seed 1) had an error of .054 with 200 iterations, and of .101 with 1000 (the minimum after 815).
MANY_ITERATIONS = 200

# In these coordinates, a descent stops after iterations that together did not decrease the held-out error by this share
# of the power.
# Measured on: a multi-task network of 200 neurons, rank 3: 189 iterations gained .0002.
SCALED_MIN_GAIN = 1e-4

# Directions along which the loss curves less than this share of the largest curvature count as curved by so much.
# Convention.
CURVATURE_CUTOFF = 1e-6

# Number of past steps that L-BFGS remembers, and the relative changes of gradient and loss at which it stops.
# Convention: the first is twice the default of SciPy; the others are small enough that the held-out loss stops first.
LBFGS_MEMORY, GRADIENT_TOLERANCE, LOSS_TOLERANCE = 20, 1e-7, 1e-9

# After a divergence the search starts again from its best network; the first step is shorter each time.
# Convention.
STEP_SCALES = (1.0, 0.1, 0.01, 0.001)

# If the first network diverges, its n is divided by ten, at most this many times less one.
# Convention.
MAX_SHRINKS = 8

# This many conditions set the scale of the parameters at the start (latents of unit variance).
# Not recorded. The scaling itself was measured on a CDM network (g = 0.8, rank 1): 23 iterations where it took 76.
SCALING_CONDITIONS = 50

# ---------------------------------------------------------------------------------------------------------------------
# Stage 3 on a subset of the conditions (`optimization`)

# Most values that one gradient uses: `SUBSET_VALUES_PER_NEURON` per neuron, but within these two bounds.
# Not recorded. Measured later on a teacher of 256 neurons, 600 conditions, noise of 1 sd (64 conditions 2.5 s, all
# 28 s).
SUBSET_VALUES = 1_000_000, 4_000_000

# Few neurons have few parameters and need fewer values: this many per neuron.
# Not recorded. It came with the fits to 51 and 10 units of the teachers (`benchmarks/units.txt`).
SUBSET_VALUES_PER_NEURON = 20_000

# A subset represents all conditions if its error differs from the held-out error by less than this share of the power,
# standard error included.
# Tuned on: the grid, DMS of 512 neurons (ranks that fit: at most .0035; ranks that do not: .03 and more).
REPRESENTATIVE_TOLERANCE = 0.01

# Iterations on one subset before the next subset is drawn; its size, as a share of what one gradient may use; and its
# least number of conditions. So few conditions are never divided into subsets.
# Tuned on: the grid, DMS at ranks 1 and 2 (g = 0.1, and g = 1 with 1024 neurons).
TURN_ITERATIONS, TURN_SHARE, TURN_MIN_CONDITIONS = 10, 0.5, 15

# Each further round on more conditions uses this many times more values.
# Tuned on: the grid, DMS of 512 neurons, g = 0.1, rank 1 (first 2, then 4).
GROWTH_FACTOR = 4

# Further subsets and rounds must lower the held-out error by this share of the power.
# Tuned on: the grid, DMS of 512 neurons, g = 0.1, rank 1. Smaller gains did not carry over to the rates.
MIN_GAIN = 0.001

# Other starts: ranks above R whose main directions are used, and the number of random networks.
# Tuned on: DMS networks of g = 0.1 at ranks 1 and 2 (512 neurons, seed 1; 1024 neurons).
HIGHER_RANKS, RANDOM_STARTS = (1, 2), 2

# ---------------------------------------------------------------------------------------------------------------------
# Stage 3, Adam (`optimization`, `_torch`)

# After L-BFGS on fewer conditions than this, Adam continues on all of them.
# Tuned on: two fits to 512 neurons and 500 conditions, in which Adam cost 4 to 6 s and gained nothing.
ADAM_BELOW_CONDITIONS = 16

# Most epochs of Adam after L-BFGS.
# Measured on: a teacher of 256 neurons with 600 conditions and noise of 1 sd (error .0074 before, .0026 after).
ADAM_EPOCHS_AFTER_LBFGS = 10

# Number of epochs without a better held-out loss after which Adam stops.
# Not recorded.
ADAM_PATIENCE = 8

# Step size, in units of the root mean square of each parameter; it falls to a third in the end.
# Tuned on: the same teacher, one seed: .01 and .03 were compared.
ADAM_RATE = 0.03

# Conditions in one step, and the least number of steps in an epoch.
# Convention: the published loop uses batches of 32. The second is not recorded.
ADAM_BATCH, ADAM_MIN_STEPS = 32, 4

# The published loop: step size, conditions in one step, largest norm of the gradient.
# Convention: Valente, Pillow & Ostojic (2022), their code.
PUBLISHED_RATE, PUBLISHED_BATCH, PUBLISHED_CLIP = 1e-2, 32, 1.0

# ---------------------------------------------------------------------------------------------------------------------
# Hidden units (`hidden_units`, `stages.gradient`)

# Strengths of the pull toward the prior that are tried.
# Tuned on: mante2013, with the test folds in view. The published figures of these data are somewhat optimistic. A third
# strength of .03 was left out because it changed no choice there, nor in 31 fits to 19 units of the four teachers (72
# trials, noise of .5 to 8 sd, seeds 11 and 12).
PRIOR_STRENGTHS = (0.003, 0.01)

# Standard deviation of m of the recorded neurons at the random start.
# Not recorded.
RECORDED_M_SD = 0.1

# Time step of the first, long descent, in units of tau, if the bins are much shorter.
# Tuned on: mante2013 (bins of 15 ms).
COARSE_ALPHA = 0.15

# Most iterations of the descent in coarse steps, and of the descent in the given bins after it. The held-out loss stops
# them earlier.
# Tuned on: mante2013.
COARSE_ITERATIONS, FINE_ITERATIONS = 60, 15

# ---------------------------------------------------------------------------------------------------------------------
# Weights of neurons, trial halves (`data`)

# `weights="precision"`: a neuron's noise variance counts as at least this share of the median.
# Convention: one neuron with hardly any noise must not outweigh all others.
MIN_NOISE_SHARE = 0.01

# Trial halves are used as instruments up to this many neurons.
# Convention: a copy of both halves of more neurons needs too much memory.
MAX_INSTRUMENT_NEURONS = 2048

# ---------------------------------------------------------------------------------------------------------------------
# Speed and memory. Results do not depend on these numbers, except for rounding.

# Loss and gradient: condition × neuron values of one time step, values that are processed together, the least number
# of conditions that are processed together, and how many times more values a GPU takes.
# Measured on: 800 × 68 × 512 values, rank 1 (`benchmarks/fit.py cost`). The last one is not recorded.
GRADIENT_STEP_VALUES, GRADIENT_CHUNK_VALUES, GRADIENT_MIN_CONDITIONS, GPU_FACTOR = 32_000, 4_000_000, 8, 8

# Values whose squares are summed at once. Convention: it bounds the memory, and sums of fewer values keep their digits.
POWER_VALUES = 40_000_000

# Values of a block of time steps on the way back, on a CPU.
# Measured on: 800 × 68 × 512 values, rank 1: 32,000 and 64,000 cost 1.7 and 1.2 times as much (beside other work).
GRADIENT_BLOCK_VALUES = 128_000

# Free run: the least number of conditions that run together, and most condition × neuron values.
# Not recorded.
FREE_RUN_MIN_CONDITIONS, FREE_RUN_VALUES = 64, 250_000
# Values of a free run whose errors are computed together. Not recorded.
ERROR_VALUES = 250_000

# Closed form: values that are processed together; fewer neurons than the second number count as that many.
# Measured on: the DMS teacher.
MOMENT_CHUNK_VALUES, MOMENT_CHUNK_NEURONS = 2_000_000, 512

# Scores: values that are processed together, so that they stay in the cache of the processor.
# Not recorded.
SCORE_BLOCK_VALUES = 500_000

# A start before a burn-in of several steps is found in so many fixed-point iterations.
# Convention: the burn-in is short, and each iteration removes most of the error.
START_ITERATIONS = 4

# Ranks of single trials: a rank that is behind the best by this share of its bits per spike counts as equal.
# Tuned on: a network of full rank (CDM, g = .8), whose bits rise with every rank. Seeds 1 and 10: .005 chooses rank 2,
# .01 rank 1, which on seed 1 lacks an attractor. It changes no choice in simulated networks of rank 1 to 3 (seed 10).
SAME_BITS = 0.005

# A ceiling below this is too uncertain to compare R² with it.
# Convention.
MIN_CEILING = 0.1

# Initial activations per group: most condition × time × group values of their time courses.
# Convention: 1 GB in single precision.
MAX_IMPULSE_VALUES = 250_000_000

# Time between two writes of a checkpoint, in s.
# Convention.
CHECKPOINT_INTERVAL_S = 10.0

# ---------------------------------------------------------------------------------------------------------------------
# Checks of what a user gives

# Largest activity and input: the squares of larger numbers overflow in single precision.
# Convention.
MAX_MAGNITUDE = 1e12

# A nonlinearity of one's own is checked at these points: first, last, their number, and a shift that avoids kinks at
# round numbers.
# Convention.
SLOPE_CHECK_POINTS = -6.0, 6.0, 241, 0.00317

# Its slope is compared with differences over this step, and may differ by this much (relative, for slopes above 1).
# Convention.
SLOPE_STEP, SLOPE_TOLERANCE = 1e-3, 1e-3

# Latents with a smaller standard deviation, and parameters with a smaller root mean square, are not rescaled.
# Convention.
MIN_LATENT_SD, MIN_PARAMETER_RMS = 1e-8, 1e-12

# ---------------------------------------------------------------------------------------------------------------------
# Timing of inputs (`scores.input_lags`)

# Largest lag that is looked at, s.
# Convention.
MAX_LAG_S = 0.3

# A fit warns of an input whose lag has at least this gain, at most 2 minus it (1 is all of the input), and a gain of at
# least this many standard errors.
# Tuned on: simulated sessions (seeds 0 and 1, inputs right, or 40 and 100 ms late or early). Tried on five others and
# on the teachers with inputs 60 ms late: right inputs reach gains up to .45 with the right time constant (smoothing
# blurs the steps of the inputs), and up to .63 with twice the time constant.
LAG_GAIN, LAG_ERRORS = 0.5, 5.0

# It does so only if the fit explains at least this share of the variance of the training conditions.
# Convention.
LAG_R2 = 0.3

# ---------------------------------------------------------------------------------------------------------------------
# Intervals (`validation.intervals`, `validation.least_squares`)

# Level of all intervals.
# Convention.
LEVEL = 0.9

# Draws say whether an eigenvalue of a fixed point may be 0 if at least this many have the point.
# Convention.
FEWEST_VALUES = 5

# There is no interval where the estimates of simulated networks follow the true values with a smaller slope.
# Convention.
FOLLOWED = 0.5

# Nor where such intervals hold a smaller share of the smaller, or of the larger, half of the simulated true values.
# Convention: 100 simulations, 50 in a half; .9 is expected, with a standard error of .04.
HELD = 0.75

# Nor where a smaller share of the simulations leaves as much unexplained as the recording does.
# Convention.
MISFIT = 0.05

# Nor where the weakest direction of span(m, I) has less than this many times the power that noise alone gives it.
# Convention: signal as large as noise. Networks whose second latent is hardly driven have .3 to 1.2, others 3 and more
# (60 units, 20 trials).
WEAKEST = 2.0

# Time courses of the noise with a smaller share of the largest variance do not count: smoothing has removed them.
# Tuned on: rank 1, 60 Poisson units (seeds 0 to 11 of `benchmarks/honesty_intervals.py`).
NOISE_COURSE_SHARE = 0.02

# The covariance of the noise over time comes from this many draws.
# Measured on: the same recordings.
NOISE_COURSE_DRAWS = 20

# Gauss-Newton steps at most, the shortest one as a share of a whole step, and the gain in squared error, in variances
# of the noise, at which the steps end. Derivatives are differences over the last number.
# Measured on: one recording (rank 1, 60 units, 20 trials); with a gain of .03 and of .001 the intervals are the same in
# three digits.
GAUSS_NEWTON_STEPS, SHORTEST_STEP, ENOUGH_GAIN, DIFFERENCE = 12, 1 / 64, 0.02, 1e-4

# ---------------------------------------------------------------------------------------------------------------------
# Support of fixed points (`analysis.support`)

# A supported point is at most this many standard deviations from the nearest visited sample.
# Convention.
MAX_DISTANCE = 1.0

# It exists in at least this share of the draws.
# Convention.
MIN_SHARE = 0.8

# Directions of state space with a smaller share of the largest standard deviation count as so wide.
# Tuned on: monostable and bistable networks of rank 2 (seeds 0 to 9 and 0 to 3 of `benchmarks/honesty_intervals.py`).
THIN_SHARE = 0.25

# Distances are measured from at most this many visited samples.
# Convention.
MOST_VISITED = 20_000

# ---------------------------------------------------------------------------------------------------------------------
# Inputs that are left out (`stages.regressions.input_gains`)

# Conditions of the regressions without an input, as a share of those that one gradient sees.
# Chosen by time: with 512 neurons and 400 conditions the gains of two inputs take a third of the time of the
# shortest fit, and a tenth of longer ones.
GAIN_CONDITIONS = 0.25

# Ridges of the regression that gives behavior where it was not observed, from which generalized cross-validation
# chooses.
# Convention: the range holds all that were chosen.
BEHAVIOR_RIDGES = tuple(10.0**k for k in range(-3, 5))
