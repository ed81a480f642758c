"""From an NWB recording to a fitted low-rank recurrent network, and back into NWB."""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "inputs": ["Input"],
        "prepare": ["prepare"],
        "nwb.recording.read": ["read_trials", "read_conditions"],
        "nwb.storage.source": ["open_nwb"],
        "nwb.extension.write": ["write_fit", "write_result", "add_to_nwbfile"],
        "nwb.extension.read": ["read_fit", "read_result"],
        "model.fit": ["fit_lint"],
        "model.simulate": ["simulate", "canonicalize"],
        "validation.rank": ["select_rank"],
        "validation.ensemble": ["ensemble"],
        "validation.subsampling": ["audit"],
        "validation.baselines": ["baselines", "truncate"],
        "analysis.axes": ["compare_axes"],
        "analysis.connectivity": ["connectivity", "weight_statistics"],
        "analysis.dynamics": ["flow_field"],
        "analysis.fixedpoints": ["fixed_points"],
        "analysis.latents": ["latents", "project"],
        "analysis.score": ["score"],
        "analysis.populations": ["find_populations", "resample_network"],
        "analysis.readout": ["fit_readout"],
        "analysis.inactivation": ["predict_inactivation"],
    },
)
