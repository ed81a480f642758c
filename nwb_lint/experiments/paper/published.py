"""Numbers as published, and notes on how they differ from ours.

The numbers come from A. Valente, J. W. Pillow & S. Ostojic, "Extracting computational mechanisms from neural data using
low-rank RNNs", NeurIPS 2022, and from its public code.
"""

from __future__ import annotations

TABLE1 = {  # task: R², CC and ECC (cosines, uncentered)
    "dm": {"r2_trials": 0.97, "cc_cosine": 0.50, "ecc_cosine": 0.99},
    "wm": {"r2_trials": 0.96, "cc_cosine": 0.43, "ecc_cosine": 0.93},
    "cdm": {"r2_trials": 0.91, "cc_cosine": 0.57, "ecc_cosine": 0.99},
    "dms": {"r2_trials": 0.98, "cc_cosine": 0.39, "ecc_cosine": 0.63},
}
# (task, g): held-out R² for ranks 1 to 5, medians over ten networks. Those of DMS come from the results beside the code
# (dms_many_result_1, the eight of ten networks that had learned the task, and _3). The notebook gives their g.
FIG2_LOW_RANK = {
    ("cdm", 0.1): (0.923, 0.947, 0.962, 0.967, 0.969),
    ("cdm", 1.0): (0.852, 0.884, 0.909, 0.924, 0.934),
    ("dms", 0.8): (0.622, 0.982, 0.987, 0.989, 0.990),
    ("dms", 1.2): (0.488, 0.936, 0.957, 0.967, 0.972),
}
FIG2_TRUNCATED = {
    ("cdm", 0.1): (0.078, 0.506, 0.821, 0.929, 0.985),
    ("cdm", 1.0): (-0.12, -0.02, 0.0, 0.005, 0.042),
    ("dms", 0.8): (-0.871, -0.218, -0.264, -0.256, -0.286),
    ("dms", 1.2): (-0.563, -0.571, -0.544, -0.571, -0.547),
}
# (task, g): lowest and highest R² of these networks for ranks 1 to 5
FIG2_RANGES = {
    ("dms", 0.8): ((0.451, 0.725), (0.631, 0.987), (0.984, 0.990), (0.986, 0.991), (0.987, 0.992)),
    ("dms", 1.2): ((0.397, 0.642), (0.924, 0.965), (0.937, 0.978), (0.960, 0.982), (0.966, 0.983)),
}
FIG2_SUBSAMPLED = {  # fraction of the neurons of CDM networks: R² of rank 1 and of the unconstrained network
    1.0: (0.912, 0.953),
    0.2: (0.907, 0.899),
    0.1: (0.908, 0.843),
    0.05: (0.889, 0.742),
    0.02: (0.839, 0.427),
    0.01: (0.760, 0.309),
}
# accuracy with a context population silenced, in its own and in the other context, populations 1 and 2
FIG4 = {
    "rank 1": {"own": (0.42, 0.52), "other": (0.92, 0.86)},
    "network": {"own": (0.49, 0.64), "other": (1.0, 0.93)},
}
# R² of both monkeys, ranks 1 to 5 and unconstrained, on all conditions; most of them were training conditions
FIG5_ALL_CONDITIONS = {
    "A": (0.665, 0.663, 0.666, 0.679, 0.680, 0.737),
    "F": (0.570, 0.594, 0.599, 0.599, 0.590, 0.680),
}
FIG5_KURTOSIS = (4.9, 62.7)  # lowest and highest of the weight vectors
FIG5_SMALL = 570 / 727  # share of neurons with small weights, monkey A
NOTES = {
    "table1": [
        "The published ECC of DMS comes from a second column of n that is a copy of the first. The row `published fit` "
        "scores the same weights without this error.",
        "R² of the paper is measured from one mean over all neurons, ours from the mean of each neuron, which is "
        "lower.",
        "CC and ECC of the paper are cosines, without centering. Both the cosine and Pearson's correlation are given.",
        "R² of noisy trials has a ceiling below 1, which depends on the range of the rates relative to the noise. "
        "`r2_ceiling` is R² of the true network. No fit can be above it. `r2_truth` is R² of the noise-free rates. Our "
        "DM and CDM networks are trained until their output has the error that the networks of the paper have. A "
        "network whose training ends at the first right answers has rates of smaller range.",
        "The supplied CDM network solves its task with context cues of amplitude 1, which are used here.",
    ],
    "fig2": [
        "In the paper, fits ran with noise and were scored on rates with noise. Even the true network explains only a "
        "part of these. Truncations were scored on activations without noise. Here both are scored on the noise-free "
        "rates of the same held-out trials.",
        "The CDM networks of the paper have 1024 neurons. The table gives the number of ours.",
        "Networks are trained as in the code of the paper: J, input weights and readout, until the output has the "
        "error of the networks of the paper. R² of rank 1 for DMS differs between networks. Published: "
        + " and ".join(f"from {r[0][0]:.3f} to {r[0][1]:.3f} at g = {g:g}" for (_, g), r in FIG2_RANGES.items())
        + ".",
        "The paper does not give g of the networks whose neurons it subsamples. Here g is 0.1. A low-rank fit to fewer "
        "than 100 neurons has hidden units, 100 neurons in all. The unconstrained fit is the closed form.",
    ],
    "kback": [
        "The timings of K-back are our choice, since the paper does not give them. Trials have K, …, 2 K - 1 pulses, "
        "so that after K pulses all K signs must be held. With K or K + 1 pulses only two signs need to be held, and "
        "rank 2 sufficed for K = 2, 3 and 4.",
        "A rank suffices if the fit explains .95 of the variance of the noise-free rates, and answers right at least "
        ".95 as often as the network. By answers alone lower ranks can suffice, with less exact rates: in K-back, .95 "
        "lets one of the few kinds of trials be answered wrong. The rates were added after the answers of these "
        "networks were known, so both criteria are given.",
    ],
    "fig3": [
        "A network of rank 1 can only modulate its inputs. It cannot show another mechanism, so rank 2 is given too.",
        "Regression axes are those of targeted dimensionality reduction, orthogonalized in the order motion, color, "
        "context, choice (`answer`). An angle is that of the part of an axis that the axes before it do not span.",
    ],
    "fig4": [
        "The published code removes silenced neurons from the network, and so multiplies all other connections by "
        "N / (N - silenced). Here N does not change.",
        "The paper has no random groups of the same size. Here every figure has them.",
        'Ridges are chosen by innovations (`ridge_by="innovations"`), since the free run of intact activity does not '
        "distinguish good predictions of inactivations from bad ones (see the test of inactivations).",
    ],
    "fig5": [
        "The published R² scores all 72 conditions. 64 of them were training conditions, and centering and components "
        "used all 72. Here held-out conditions are held out of every step, and the ceiling from halves of the trials "
        "is given.",
        "The published recordings have 727 and 574 units of two monkeys. The folder given here has as many units as "
        "the table has neurons. A few recorded units cannot span the dynamics, so hidden units are fitted too. What "
        "silencing recorded units does to such a fit says little about the animal.",
        "Kurtosis is the excess over a normal distribution. The paper does not say which kurtosis it gives.",
        "The candidate strengths of the pull on hidden units were chosen on recordings of this kind, with the folds in "
        "view. The figures are somewhat optimistic.",
    ],
    "inactivation": [
        "The published inactivation removes the silenced neurons, and so changes all other connections. Here N does "
        "not change, in networks and in fits.",
    ],
}
