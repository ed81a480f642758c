"""Numbers that other authors published for their benchmarks, and notes on how they differ from ours."""

from __future__ import annotations

from typing import NamedTuple

# Versteeg et al. 2025, "Computation-through-Dynamics Benchmark", from the outputs that are stored in the notebook
# CanonicalDatasetPerf.ipynb of github.com/snel-repo/ComputationThruDynamicsBenchmark.
# (task, model): rate R², state R², bits per spike, cycle consistency
CTD = {
    ("flip-flop", "GRU"): (0.969, 0.962, 0.136, 0.918),
    ("flip-flop", "LFADS"): (0.930, 0.881, 0.129, 0.721),
    ("flip-flop", "linear"): (0.244, 0.488, 0.035, 0.722),
    ("multitask", "GRU"): (0.926, 0.865, 0.147, 0.591),
    ("multitask", "linear"): (0.552, 0.676, 0.094, 0.060),
}


class Monkey(NamedTuple):
    """A published fit of rank 1 to the recordings of a monkey.

    ``kurtosis`` of its weights; ``small``: neurons with small weights, and all; ``silenced``: accuracy with neurons of
    small or of large weights silenced.
    """

    kurtosis: dict[str, float]
    small: tuple[int, int]
    silenced: dict[str, float]


# Notebooks 5_monkeyA and monkeyF beside the code of Valente, Pillow & Ostojic (NeurIPS 2022),
# https://github.com/adrian-valente/lowrank_inference.
MONKEYS = {
    "A": Monkey(
        {"I motion": 62.73, "I color": 15.71, "I context motion": 18.90, "I context color": 16.84, "m 1": 22.01,
         "n 1": 40.08},
        (570, 727), {"small weights": 1.0, "large weights": 0.5},
    ),
    "F": Monkey(
        {"I motion": 4.91, "I color": 14.42, "I context motion": 6.40, "I context color": 10.45, "m 1": 7.55,
         "n 1": 19.90},
        (389, 574), {"small weights": 0.972, "large weights": 0.5},
    ),
}  # fmt: skip

# Bits per spike of 13 held-out units by split, found for this package by other means on the same splits; no published
# ones are known. Linear dynamics are those of `fit_trials` with a linear nonlinearity.
ALM000060 = {
    0: {"smoothing, regression": 0.816, "mean over trials": 0.19, "linear dynamics": 0.956},
    1: {"smoothing, regression": 0.844, "mean over trials": 0.28},
    2: {"smoothing, regression": 0.783, "mean over trials": 0.27},
}

# Tutorial.ipynb of https://github.com/engellab/latentcircuit (Langdon & Engel, Nature Neuroscience 2025): the error
# `nmse_y` of a latent circuit of 8 nodes, epochs 400 to 490 of its training: .065 to .085.
LATENT_CIRCUIT = {"error": 0.07, "nodes": 8}

NOTES = {
    "alm000060": [
        "No published scores of this session are known. The numbers in the column `published` were found for this "
        "package by other means on the same three splits.",
        "A mean over trials is all that there is in place of condition means, since the session has no labels of "
        "trials.",
        "A rank is chosen by co-smoothing within the training trials. The fits of this choice end after 12 iterations.",
        "tau (200 ms) was chosen on split 0 when the method was developed. Splits 1 and 2 took no part in that.",
    ],
    "latent_circuit": [
        "The networks of the tutorial are not stored with the code. Ours are trained here with its task, constraints "
        "and constants. So the noise, and with it the smallest possible error, can differ. That error is `the network "
        "without noise`.",
        "The published error is that of the fitted trials, with noise in the latent circuit. Ours is without noise, of "
        "the fitted trials and of new ones.",
        "The units of the network are never below 0, where a relu is linear. So a fit of low rank adds its inputs to "
        "the activity without a threshold between them, which the units of the network have.",
        "phi, and no centering, were chosen on a network of seed 10, which is not shown.",
    ],
    "monkeys": [
        "The recordings of figure 5 are not public in full. The networks that the authors fitted to them are. Here "
        "they are the truth: their activity is simulated in the design of the recordings, and fitted.",
        "So R² has a ceiling of 1, and the published R² of fits to the recordings is no goal of these fits.",
        "The first 350 ms of context alone are not seen, as in the recordings, where they are free. The network starts "
        "from rest before them.",
    ],
    "ctd": [
        "The networks of the benchmark are not public as numbers. Ours are trained here on its tasks, with its noise, "
        "so the bits per spike of two networks can differ. `bits_true_rates` are those of the true rates, which no "
        "model exceeds but by chance.",
        "The published models run without noise from first states that an encoder infers from the whole trial, and "
        "get the inputs. The row `free run` does the same. The row `posterior` also uses the spikes during the run.",
        "The code of the benchmark scores bits per spike on all neurons but the first K, where K is the number of "
        "inputs (3 or 20), so that most of them are held-in neurons. Here they are those of the ten held-out neurons.",
        "Cycle consistency depends on the scale of each latent. Ours are in units of the activation of the neurons, "
        "and a low-rank network has no latents that are not in its rates, so it is near 1 by construction.",
        "The inputs are given to the fit two steps early, since a gated network makes its state from the state before "
        "and the input at the same step.",
    ],
}
