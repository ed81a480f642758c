"""Tables of the results of analyses, one for each kind."""

from __future__ import annotations

from nwb_lint.contract.datasets import Var

FLOW_FIELD = {
    "kappa": Var(("point", "rank"), "float64", "1"),
    "velocity": Var(("point", "rank"), "float64", "1/s"),
    "speed": Var(("point",), "float64", "1/s"),
    "input_value": Var(("input",), "float64", "1"),
    "velocity_draw": Var(("draw", "point", "rank"), "float64", "1/s", False),
    "agreement": Var(("draw",), "float64", "1", False),
    "disagreement": Var(("point",), "float64", "1", False),
    "fraction": Var(("draw",), "float64", "1", False),
    "n_neurons": Var(("draw",), "int64", "1", False),
}

FIXED_POINTS = {
    "kappa": Var(("fixed_point", "rank"), "float64", "1"),
    "residual": Var(("fixed_point",), "float64", "1/s"),
    "stability": Var(("fixed_point",), "str", ""),
    "eigenvalue_real": Var(("fixed_point", "eigenvalue"), "float64", "1/s"),
    "eigenvalue_imag": Var(("fixed_point", "eigenvalue"), "float64", "1/s"),
    "n_starts": Var(("fixed_point",), "int64", "1"),
    "line_attractor": Var(("fixed_point",), "float64", "1", False),
    "distance": Var(("fixed_point",), "float64", "1", False),
    "near_marginal": Var(("fixed_point",), "bool", "1", False),
    "supported": Var(("fixed_point",), "bool", "1", False),
    "share_draws": Var(("fixed_point",), "float64", "1", False),
    "kappa_corrected": Var(("fixed_point", "rank"), "float64", "1", False),
    "kappa_low": Var(("fixed_point", "rank"), "float64", "1", False),
    "kappa_high": Var(("fixed_point", "rank"), "float64", "1", False),
    "eigenvalue_real_corrected": Var(("fixed_point", "eigenvalue"), "float64", "1/s", False),
    "eigenvalue_real_low": Var(("fixed_point", "eigenvalue"), "float64", "1/s", False),
    "eigenvalue_real_high": Var(("fixed_point", "eigenvalue"), "float64", "1/s", False),
    "interval_reason": Var(("fixed_point",), "str", "", False),
    "n_found_resample": Var(("resample", "stability_kind"), "int64", "1", False),
    "share_ranks": Var(("fixed_point",), "float64", "1", False),
    "share_ridges": Var(("fixed_point",), "float64", "1", False),
    "alternative_as_good": Var(("alternative",), "bool", "1", False),
    "n_found_alternative": Var(("alternative", "stability_kind"), "int64", "1", False),
    "n_found": Var(("draw", "stability_kind"), "int64", "1", False),
    "fraction": Var(("draw",), "float64", "1", False),
    "n_neurons": Var(("draw",), "int64", "1", False),
    "input_value": Var(("input",), "float64", "1"),
}

LIMIT_CYCLES = {
    "input_value": Var(("input",), "float64", "1"),
    "period_s": Var(("cycle",), "float64", "s", False),
    "kappa": Var(("cycle", "phase", "rank"), "float64", "1", False),
    "multiplier_real": Var(("cycle", "multiplier"), "float64", "1", False),
    "multiplier_imag": Var(("cycle", "multiplier"), "float64", "1", False),
    "stability": Var(("cycle",), "str", "", False),
    "n_starts": Var(("cycle",), "int64", "1", False),
    "distance": Var(("cycle",), "float64", "1", False),
    "supported": Var(("cycle",), "bool", "1", False),
}

AXES = {
    "axis": Var(("axis_name", "neuron"), "float64", "1"),
    "overlap": Var(("axis_name", "axis_other"), "float64", "1"),
    "angle_deg": Var(("axis_name", "axis_other"), "float64", "degrees"),
    "variance_explained": Var(("axis_name",), "float64", "1"),
    "axis_time_s": Var(("axis_name",), "float64", "s", False),
    "projection": Var(("condition", "time", "axis_name"), "float64", "1", False),
}

LATENTS = {
    "latent": Var(("condition", "time", "rank"), "float32", "1"),
    "latent_data": Var(("condition", "time", "rank"), "float32", "1"),
    "filtered_input": Var(("condition", "time", "input"), "float32", "1"),
}

CONNECTIVITY = {
    "connectivity": Var(("neuron", "neuron_from"), "float64", "1"),
    "n_effective": Var(("neuron", "rank"), "float64", "1", False),
    "overlap_m": Var(("rank", "rank_from"), "float64", "1", False),
    "overlap_input": Var(("rank", "input"), "float64", "1", False),
}

WEIGHT_STATISTICS = {
    "weight": Var(("vector", "neuron"), "float64", "1"),
    "mean": Var(("vector",), "float64", "1"),
    "sd": Var(("vector",), "float64", "1"),
    "skewness": Var(("vector",), "float64", "1"),
    "kurtosis": Var(("vector",), "float64", "1"),
    "heavy_tail_p": Var(("vector",), "float64", "1"),
}

POPULATIONS = {
    "population": Var(("neuron",), "int64", "1"),
    "loading": Var(("neuron", "vector"), "float64", "1"),
    "probability": Var(("neuron", "group"), "float64", "1", False),
    "mean": Var(("group", "vector"), "float64", "1", False),
    "covariance": Var(("group", "vector", "vector_other"), "float64", "1", False),
    "weight": Var(("group",), "float64", "1", False),
    "gain": Var(("condition", "group"), "float64", "1", False),
    "stability": Var(("n_groups",), "float64", "1", False),
    "stability_chance": Var(("n_groups",), "float64", "1", False),
    "criterion": Var(("n_groups",), "float64", "1", False),
}

INACTIVATION = {
    "factor": Var(("group", "neuron"), "float64", "1"),
    "rate_change": Var(("group", "condition", "neuron"), "float64", "Hz", False),
    "activity_change": Var(("group", "condition", "neuron"), "float64", "1"),
    "latent": Var(("group", "condition", "time", "rank"), "float64", "1", False),
    "output": Var(("group", "condition", "time"), "float64", "1", False),
    "accuracy": Var(("group", "context"), "float64", "1", False),
    "accuracy_intact": Var(("context",), "float64", "1", False),
    "accuracy_control": Var(("group", "quantile", "context"), "float64", "1", False),
    "effect": Var(("group",), "float64", "1"),
    "effect_control": Var(("group", "quantile"), "float64", "1", False),
    "effect_reference": Var(("group",), "float64", "1", False),
    "correlation_reference": Var(("group",), "float64", "1", False),
}

READOUT = {
    "readout": Var(("neuron",), "float64", "1"),
    "intercept": Var((), "float64", "1"),
    "score": Var((), "float64", "1"),
}

SCORES = {
    "r2": Var((), "float64", "1"),
    "r2_ceiling": Var((), "float64", "1"),
    "r2_median": Var((), "float64", "1", False),
    "r2_neuron": Var(("neuron",), "float64", "1"),
    "r2_condition": Var(("condition",), "float64", "1"),
}

DRIFT_COMPARISON = {
    "drift_evidence": Var(("drift_tried",), "float64", ""),
    "drift_evidence_sem": Var(("drift_tried",), "float64", ""),
    "drift_deficit": Var(("drift_tried",), "float64", ""),
    "drift_deficit_sem": Var(("drift_tried",), "float64", ""),
    "as_good": Var(("drift_tried",), "bool", "1"),
    "evidence_condition": Var(("drift_tried", "condition"), "float64", ""),
}

SESSION_ALIGNMENT = {
    "map": Var(("session_name", "rank", "rank_from"), "float64", "1"),
    "map_r2": Var(("session_name",), "float64", "1"),
    "n_shared": Var(("session_name",), "int64", "1"),
    "recurrence": Var(("session_name", "rank", "rank_from"), "float64", "1"),
    "distance": Var(("session_name",), "float64", "1"),
    "latent_distance": Var(("session_name",), "float64", "1", False),
    **{
        f"{prefix}distance_{end}": Var(("session_name",), "float64", "1", False)
        for prefix in ("", "latent_")
        for end in ("corrected", "low", "high", "p_value")
    },
}

# R² of fits of means, or bits per spike of fits of single trials.
RANK_SELECTION = {
    "rank_r2": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_r2_sem": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_r2_ceiling": Var(("split",), "float64", "1", False),
    "rank_bits": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_bits_sem": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_deficit": Var(("rank_tried",), "float64", "1", False),
    "rank_deficit_sem": Var(("rank_tried",), "float64", "1", False),
    "r2": Var(("rank_tried", "seed", "fold", "split"), "float64", "1", False),
    "r2_ceiling": Var(("seed", "fold", "split"), "float64", "1", False),
    "bits": Var(("rank_tried", "seed", "fold", "split"), "float64", "1", False),
}

BASELINES = {
    "baseline_r2": Var(("baseline", "split"), "float64", "1"),
    "baseline_r2_sem": Var(("baseline", "split"), "float64", "1"),
    "baseline_r2_ceiling": Var(("split",), "float64", "1"),
    "r2": Var(("baseline", "fold", "split"), "float64", "1"),
    "r2_ceiling": Var(("fold", "split"), "float64", "1"),
}

ENSEMBLE = {
    "pearson": Var(("member", "member_from"), "float64", "1"),
    "cosine": Var(("member", "member_from"), "float64", "1"),
    "spread_post": Var(("neuron",), "float64", "1"),
    "spread_pre": Var(("neuron",), "float64", "1"),
    "r2": Var(("member", "split"), "float64", "1"),
    "r2_ceiling": Var(("member", "split"), "float64", "1"),
    "m": Var(("member", "neuron", "rank"), "float64", "1"),
    "n_effective": Var(("member", "neuron", "rank"), "float64", "1"),
    "as_good": Var(("member",), "bool", "1"),
    "half": Var(("member",), "int64", "1"),
    "seed": Var(("member",), "int64", "1"),
    "ridge": Var(("member",), "float64", "1"),
}

LINK_COMPARISON = {
    "link_r2": Var(("link_tried",), "float64", "1"),
    "link_r2_sem": Var(("link_tried",), "float64", "1"),
    "link_deficit": Var(("link_tried",), "float64", "1"),
    "link_deficit_sem": Var(("link_tried",), "float64", "1"),
    "as_good": Var(("link_tried",), "bool", "1"),
    "r2": Var(("link_tried", "fold"), "float64", "1"),
}

INPUT_COMPARISON = {
    "set_score": Var(("input_set",), "float64", ""),
    "set_score_sem": Var(("input_set",), "float64", ""),
    "set_deficit": Var(("input_set",), "float64", ""),
    "set_deficit_sem": Var(("input_set",), "float64", ""),
    "as_good": Var(("input_set",), "bool", "1"),
    "n_inputs": Var(("input_set",), "int64", "1"),
    "condition_score": Var(("input_set", "condition"), "float64", ""),
    "unexplained_time": Var(("input_set", "time"), "float64", "1", False),
}

READOUT_COMPARISON = {
    "activity_score": Var(("weight_tried",), "float64", ""),
    "activity_score_sem": Var(("weight_tried",), "float64", ""),
    "activity_deficit": Var(("weight_tried",), "float64", ""),
    "activity_deficit_sem": Var(("weight_tried",), "float64", ""),
    "behavior_score": Var(("weight_tried", "readout"), "float64", "1"),
    "behavior_score_sem": Var(("weight_tried", "readout"), "float64", "1"),
    "behavior_deficit": Var(("weight_tried",), "float64", "1"),
    "behavior_deficit_sem": Var(("weight_tried",), "float64", "1"),
    "as_good": Var(("weight_tried",), "bool", "1"),
    "condition_score": Var(("weight_tried", "condition"), "float64", ""),
    "condition_behavior": Var(("weight_tried", "condition", "readout"), "float64", "1"),
}

DECODING = {
    "behavior": Var(("condition", "time", "readout"), "float64", ""),
    "decoded": Var(("condition", "time", "readout"), "float64", ""),
    "decoded_low": Var(("condition", "time", "readout"), "float64", ""),
    "decoded_high": Var(("condition", "time", "readout"), "float64", ""),
    "decoded_plain": Var(("condition", "time", "readout"), "float64", ""),
    "score": Var(("decoder", "readout"), "float64", "1"),
    "score_sem": Var(("decoder", "readout"), "float64", "1"),
    "score_difference": Var(("readout",), "float64", "1"),
    "score_difference_sem": Var(("readout",), "float64", "1"),
    "bits": Var(("decoder", "readout"), "float64", "1"),
    "accuracy": Var(("decoder", "readout"), "float64", "1"),
    "auc": Var(("decoder", "readout"), "float64", "1"),
    "coverage": Var(("readout",), "float64", "1"),
    "plain_width_s": Var(("readout",), "float64", "s"),
    "plain_ridge": Var(("readout",), "float64", "1"),
    "readout_negative": Var(("readout",), "str", "", False),
    "readout_positive": Var(("readout",), "str", "", False),
}

INFERRED_INPUTS = {
    "hypothesis_score": Var(("hypothesis",), "float64", ""),
    "hypothesis_score_sem": Var(("hypothesis",), "float64", ""),
    "hypothesis_deficit": Var(("hypothesis",), "float64", ""),
    "hypothesis_deficit_sem": Var(("hypothesis",), "float64", ""),
    "as_good": Var(("hypothesis",), "bool", "1"),
    "condition_score": Var(("hypothesis", "condition"), "float64", ""),
    "inferred_u": Var(("input_condition", "time", "inferred_input"), "float64", "1"),
    "inferred_low": Var(("input_condition", "time", "inferred_input"), "float64", "1"),
    "inferred_high": Var(("input_condition", "time", "inferred_input"), "float64", "1"),
    "loading": Var(("neuron", "inferred_input"), "float64", "1"),
}

TAU_COMPARISON = {
    "tau_r2": Var(("tau_tried", "split"), "float64", "1"),
    "tau_r2_sem": Var(("tau_tried", "split"), "float64", "1"),
    "tau_r2_ceiling": Var(("split",), "float64", "1"),
    "tau_deficit": Var(("tau_tried",), "float64", "1"),
    "tau_deficit_sem": Var(("tau_tried",), "float64", "1"),
    "as_good": Var(("tau_tried",), "bool", "1"),
    "r2": Var(("tau_tried", "fold", "split"), "float64", "1"),
    "r2_ceiling": Var(("fold", "split"), "float64", "1"),
    "input_value": Var(("input",), "float64", "1"),
    "n_found": Var(("tau_tried", "stability_kind"), "int64", "1"),
    "overlap_m": Var(("tau_tried", "rank", "rank_from"), "float64", "1"),
    "overlap_input": Var(("tau_tried", "rank", "input"), "float64", "1"),
    "eigenvalue_real": Var(("tau_tried", "eigenvalue"), "float64", "1/s"),
    "eigenvalue_imag": Var(("tau_tried", "eigenvalue"), "float64", "1/s"),
}

BOOTSTRAP = {
    "unit": Var(("quantity",), "str", ""),
    "estimate": Var(("quantity",), "float64", ""),
    "value_draw": Var(("draw", "quantity"), "float64", ""),
    "corrected": Var(("quantity",), "float64", "", False),
    "low": Var(("quantity",), "float64", "", False),
    "high": Var(("quantity",), "float64", "", False),
    "held": Var(("quantity",), "float64", "1", False),
    "reason": Var(("quantity",), "str", "", False),
    "value_simulated": Var(("simulation", "quantity"), "float64", "", False),
    "value_refitted": Var(("simulation", "quantity"), "float64", "", False),
    "r2": Var(("bound",), "float64", "1", False),
    "latent_low": Var(("condition", "time", "rank"), "float32", "1"),
    "latent_high": Var(("condition", "time", "rank"), "float32", "1"),
    "network_draw": Var(("draw", "neuron", "parameter"), "float64", "1"),
    "network_unpenalized": Var(("neuron", "parameter"), "float64", "1", False),
    "network_simulated": Var(("simulation", "neuron", "parameter"), "float64", "1", False),
    "network_refitted": Var(("simulation", "neuron", "parameter"), "float64", "1", False),
}

CURRENTS = {
    "current": Var(("condition", "time", "neuron", "sender"), "float32", "1"),
    "drive": Var(("condition", "time", "rank"), "float32", "1"),
    "drive_low": Var(("condition", "time", "rank"), "float32", "1", False),
    "drive_high": Var(("condition", "time", "rank"), "float32", "1", False),
    "size": Var(("target", "sender", "time"), "float64", "1"),
    "size_low": Var(("target", "sender", "time"), "float64", "1", False),
    "size_high": Var(("target", "sender", "time"), "float64", "1", False),
    "tolerance": Var(("rank",), "float64", "1"),
    "to_area": Var(("rank",), "str", "", False),
    "from_area": Var(("rank",), "str", "", False),
}

# R² of regressions of means, or the log evidence of fits of single trials.
AREA_SELECTION = {
    "area_r2": Var(("candidate",), "float64", "1", False),
    "area_evidence": Var(("candidate",), "float64", "", False),
    "area_evidence_sem": Var(("candidate",), "float64", "", False),
    "evidence_condition": Var(("candidate", "condition"), "float64", "", False),
    "deficit": Var(("candidate",), "float64", ""),
    "deficit_sem": Var(("candidate",), "float64", ""),
    "as_good": Var(("candidate",), "bool", "1"),
    "n_parameters": Var(("candidate",), "int64", "1"),
    "one_block": Var(("candidate",), "bool", "1"),
    "block_rank": Var(("candidate", "target", "sender"), "int64", "1"),
    "r2": Var(("candidate", "fold"), "float64", "1", False),
    "r2_ceiling": Var(("fold",), "float64", "1", False),
}

AUDIT = {
    "rank": Var(("draw",), "int64", "1"),
    "r2": Var(("draw", "rank_tried", "split"), "float64", "1"),
    "r2_sem": Var(("draw", "rank_tried", "split"), "float64", "1"),
    "r2_ceiling": Var(("draw", "split"), "float64", "1"),
    "fraction": Var(("draw",), "float64", "1"),
    "n_neurons": Var(("draw",), "int64", "1"),
}

DYNAMICS_COMPARISON = {
    "distance": Var(("system", "system_from"), "float64", "1"),
    "p_value": Var(("system", "system_from"), "float64", "1"),
    "distance_chance": Var(("system", "system_from"), "float64", "1"),
    "distance_change": Var(("system", "system_from"), "float64", "1"),
    "call": Var(("system", "system_from"), "str", ""),
    "half": Var(("system", "repeat"), "float64", "1"),
}

RESULTS = {
    "flow_field": FLOW_FIELD,
    "fixed_points": FIXED_POINTS,
    "limit_cycles": LIMIT_CYCLES,
    "axes": AXES,
    "latents": LATENTS,
    "connectivity": CONNECTIVITY,
    "weight_statistics": WEIGHT_STATISTICS,
    "populations": POPULATIONS,
    "inactivation": INACTIVATION,
    "readout": READOUT,
    "scores": SCORES,
    "rank_selection": RANK_SELECTION,
    "baselines": BASELINES,
    "ensemble": ENSEMBLE,
    "tau_comparison": TAU_COMPARISON,
    "link_comparison": LINK_COMPARISON,
    "drift_comparison": DRIFT_COMPARISON,
    "session_alignment": SESSION_ALIGNMENT,
    "input_comparison": INPUT_COMPARISON,
    "readout_comparison": READOUT_COMPARISON,
    "decoding": DECODING,
    "inferred_inputs": INFERRED_INPUTS,
    "bootstrap": BOOTSTRAP,
    "audit": AUDIT,
    "currents": CURRENTS,
    "area_selection": AREA_SELECTION,
    "dynamics_comparison": DYNAMICS_COMPARISON,
}
