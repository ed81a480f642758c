"""What analyses of fits give: one table per kind of result, in the form of `nwb_lint.contract`.

A result is a Dataset whose attribute ``kind`` names its table here. Whatever it says of neurons, conditions or inputs
bears the coordinates of the fit that it came from, so that it can be written beside that fit.
"""

from __future__ import annotations

import xarray as xr

from nwb_lint.contract import ContractError, Var, check_table

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
    "n_found": Var(("draw", "stability_kind"), "int64", "1", False),
    "fraction": Var(("draw",), "float64", "1", False),
    "n_neurons": Var(("draw",), "int64", "1", False),
    "input_value": Var(("input",), "float64", "1"),
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
}

READOUT = {
    "readout": Var(("neuron",), "float64", "1"),
    "intercept": Var((), "float64", "1"),
    "score": Var((), "float64", "1"),
}

SCORES = {
    "r2": Var((), "float64", "1"),
    "r2_ceiling": Var((), "float64", "1"),
    "r2_neuron": Var(("neuron",), "float64", "1"),
    "r2_condition": Var(("condition",), "float64", "1"),
}

RANK_SELECTION = {
    "rank_r2": Var(("rank_tried", "split"), "float64", "1"),
    "rank_r2_sem": Var(("rank_tried", "split"), "float64", "1"),
    "rank_r2_ceiling": Var(("split",), "float64", "1"),
    "r2": Var(("rank_tried", "seed", "fold", "split"), "float64", "1"),
    "r2_ceiling": Var(("seed", "fold", "split"), "float64", "1"),
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

AUDIT = {
    "rank": Var(("draw",), "int64", "1"),
    "r2": Var(("draw", "rank_tried", "split"), "float64", "1"),
    "r2_sem": Var(("draw", "rank_tried", "split"), "float64", "1"),
    "r2_ceiling": Var(("draw", "split"), "float64", "1"),
    "fraction": Var(("draw",), "float64", "1"),
    "n_neurons": Var(("draw",), "int64", "1"),
}

RESULTS = {
    "flow_field": FLOW_FIELD,
    "fixed_points": FIXED_POINTS,
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
    "audit": AUDIT,
}


def check_result(result: xr.Dataset, kind: str | None = None) -> str:
    """The kind of a result, when it is what its table says.

    Raises: ContractError, one line, for another kind, an unknown one, or a variable that is not as its table has it.
    """
    found = str(getattr(result, "attrs", {}).get("kind", "none"))
    if found not in RESULTS or kind not in (None, found):
        raise ContractError(f"the result is of kind {found!r}; it needs to be {kind or ' or '.join(RESULTS)}.")
    check_table(result, RESULTS[found], found.replace("_", " "), "See nwb_lint.results")
    return found
