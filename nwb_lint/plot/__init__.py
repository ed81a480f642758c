"""Figures: every function takes Datasets and Axes (or makes its own) and returns the Axes it drew on."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "axes": ["angles", "projections", "weight_histograms"],
        "dynamics": ["flow"],
        "fit": [
            "connectivity_vectors", "effective_connectivity", "latents_over_time", "neuron_scores", "rate_scores",
            "scores", "singular_values", "summary", "trajectories",
        ],
        "inactivation": ["inactivation_bars", "psychometric"],
        "populations": ["loadings", "population_gains", "population_number"],
        "session": ["presence", "rates", "session_summary", "trials_over_time"],
    },
)  # fmt: skip
