"""Numbers that other authors published for their benchmarks, and notes on how they differ from ours."""

from __future__ import annotations

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
NOTES = {
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
