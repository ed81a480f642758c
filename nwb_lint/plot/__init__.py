"""Figures. Every function takes Datasets, and Axes to draw on, and returns the Axes.

Without ``ax`` a function makes a new figure, which is ``ax.figure``. `summary` and `session_summary` return a whole
Figure. No function uses pyplot, so no global state changes.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "axes": ["angles", "overlaps", "projections", "weight_histograms"],
        "dynamics": ["fixed_point_counts", "flow"],
        "fit": [
            "connectivity_vectors", "effective_connectivity", "latents_over_time", "singular_values", "summary",
            "trajectories",
        ],
        "inactivation": ["inactivation_bars", "psychometric", "readout_weights"],
        "populations": ["loadings", "population_gains", "population_number"],
        "scores": [
            "condition_scores", "ensemble_agreement", "neuron_scores", "rank_audit", "rate_scores", "scores",
        ],
        "session": ["presence", "rates", "session_summary", "trials_over_time"],
    },
)  # fmt: skip
