"""Tables of the Datasets from a recording to a fit, of their coordinates, and of names that files once had."""

from __future__ import annotations

from typing import NamedTuple


class Var(NamedTuple):
    """One variable of a Dataset: named dims, dtype, unit, and whether it must be there."""

    dims: tuple[str, ...]
    dtype: str
    unit: str
    required: bool = True


RECORDING = {
    "rate": Var(("condition", "time", "neuron"), "float32", "Hz"),
    "n_trials": Var(("condition", "neuron"), "int64", "1"),
    "rate_half": Var(("half", "condition", "time", "neuron"), "float32", "Hz", False),
    "n_trials_half": Var(("half", "condition", "neuron"), "int64", "1", False),
    "rate_draw": Var(("draw", "condition", "time", "neuron"), "float32", "Hz", False),
    "input_course": Var(("condition", "course_time", "course"), "float64", "", False),
    "input_course_draw": Var(("draw", "condition", "course_time", "course"), "float64", "", False),
}

TRIALS = {
    "count": Var(("trial", "time", "neuron"), "uint16", "1"),
    "observed": Var(("trial", "time", "neuron"), "bool", "1", False),
    "exposure_s": Var(("trial", "time"), "float64", "s", False),
    "rate": Var(("trial", "time", "neuron"), "float32", "", False),
    "u": Var(("trial", "time", "input"), "float32", "1", False),
    "behavior": Var(("trial", "time", "readout"), "float64", "", False),
    "input_course": Var(("trial", "course_time", "course"), "float64", "", False),
}

ACTIVITY = {
    "activity": Var(("condition", "time", "neuron"), "float32", "1"),
    "activity_half": Var(("half", "condition", "time", "neuron"), "float32", "1", False),
    "n_trials_half": Var(("half", "condition", "neuron"), "int64", "1", False),
    "noise_factor": Var(("condition",), "float64", "1", False),
    "u": Var(("condition", "time", "input"), "float32", "1"),
    "u_burn_in": Var(("condition", "burn_in", "input"), "float32", "1", False),
    "offset": Var(("time?", "neuron"), "float64", "Hz", False),
    "scale": Var(("neuron",), "float64", "Hz", False),
    "rate_low": Var(("neuron",), "float64", "Hz", False),
    "rate_high": Var(("neuron",), "float64", "Hz", False),
    "component": Var(("pc", "neuron"), "float64", "1", False),
    "mask": Var(("condition", "time", "neuron"), "bool", "1", False),
    "behavior": Var(("condition", "time", "readout"), "float64", "", False),
}

FIT = {
    "m": Var(("neuron", "rank"), "float64", "1", False),
    "n": Var(("neuron", "rank"), "float64", "1", False),
    "J": Var(("neuron", "neuron_from"), "float64", "1", False),
    "input_weights": Var(("neuron", "input"), "float64", "1"),
    "bias": Var(("neuron",), "float64", "1"),
    "initial_activation": Var(("neuron",), "float64", "1"),
    "input_reached": Var(("neuron", "input"), "bool", "1", False),
    "u": Var(("condition", "time", "input"), "float32", "1"),
    "u_burn_in": Var(("condition", "burn_in", "input"), "float32", "1", False),
    "activity_pred": Var(("condition", "time", "neuron"), "float32", "1"),
    "latent": Var(("condition", "time", "rank"), "float32", "1", False),
    "filtered_input": Var(("condition", "time", "input"), "float32", "1"),
    "offset": Var(("time?", "neuron"), "float64", "Hz", False),
    "scale": Var(("neuron",), "float64", "Hz", False),
    "rate_low": Var(("neuron",), "float64", "Hz", False),
    "rate_high": Var(("neuron",), "float64", "Hz", False),
    "component": Var(("pc", "neuron"), "float64", "1", False),
    "r2": Var(("split",), "float64", "1"),
    "r2_ceiling": Var(("split",), "float64", "1"),
    "r2_median": Var(("split",), "float64", "1", False),
    "r2_neuron": Var(("split", "neuron"), "float64", "1"),
    "stage_r2": Var(("stage", "split"), "float64", "1", False),
    "stage_ridge": Var(("stage",), "float64", "1", False),
    "singular_value": Var(("singular",), "float64", "1", False),
    "input_lag_s": Var(("input",), "float64", "s", False),
    "input_lag_gain": Var(("input",), "float64", "1", False),
    "input_lag_gain_sem": Var(("input",), "float64", "1", False),
    "m_drift": Var(("neuron", "rank", "basis"), "float64", "1", False),
    "drift_basis": Var(("basis", "condition"), "float64", "1", False),
    "log_rate": Var(("neuron",), "float64", "1", False),
    "observation_mean": Var(("neuron",), "float64", "", False),
    "observation_noise": Var(("neuron",), "float64", "", False),
    "observation_cov": Var(("neuron", "coefficient", "coefficient_from"), "float64", "1", False),
    "noise_cov": Var(("rank", "rank_from"), "float64", "1", False),
    "initial_mean": Var(("group", "rank"), "float64", "1", False),
    "initial_cov": Var(("rank", "rank_from"), "float64", "1", False),
    "latent_cov": Var(("condition", "time", "rank", "rank_from"), "float32", "1", False),
    "evidence": Var(("iteration",), "float64", "", False),
    "behavior": Var(("condition", "time", "readout"), "float64", "", False),
    "behavior_pred": Var(("condition", "time", "readout"), "float64", "", False),
    "readout_level": Var(("readout",), "float64", "", False),
    "readout_weights": Var(("readout", "rank"), "float64", "", False),
    "readout_input_weights": Var(("readout", "input"), "float64", "", False),
    "readout_noise": Var(("readout",), "float64", "", False),
    "readout_cov": Var(("readout", "readout_term", "readout_term_from"), "float64", "", False),
    "readout_score": Var(("readout", "split"), "float64", "1", False),
    "bits_per_spike": Var(("split",), "float64", "1", False),
    "input_r2_gain": Var(("input",), "float64", "1", False),
    "input_r2_gain_sem": Var(("input",), "float64", "1", False),
    "rank_r2": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_r2_sem": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_r2_ceiling": Var(("split",), "float64", "1", False),
    "rank_bits": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_bits_sem": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_deficit": Var(("rank_tried",), "float64", "1", False),
    "rank_deficit_sem": Var(("rank_tried",), "float64", "1", False),
}

# Coordinates every room knows, beside the trial columns on `condition` and the unit columns on `neuron`.
COORDS = {
    "time": Var(("time",), "float64", "s"),
    "burn_in": Var(("burn_in",), "float64", "s", False),
    "neuron": Var(("neuron",), "str", ""),
    "unit_id": Var(("neuron",), "int64", "", False),  # texts where a file has texts or fractions for ids
    "session": Var(("neuron",), "str", "", False),
    "source": Var(("neuron",), "str", "", False),
    "recorded": Var(("neuron",), "bool", "", False),
    "condition": Var(("condition",), "str", "", False),
    "held_out": Var(("condition",), "bool", "", False),
    # in a fit with areas: to which area each rank sends, and from which it comes
    "to_area": Var(("rank",), "str", "", False),
    "from_area": Var(("rank",), "str", "", False),
    # values of the trial column by which the latents of single trials start
    "initial_level": Var(("group",), "str", "", False),
    # names of the inputs
    "input": Var(("input",), "str", "", False),
    # names of the readouts, what they are, whether they are one observation a trial, their fields as a text, and the
    # values that 0 and 1 of a choice stand for
    "readout": Var(("readout",), "str", "", False),
    "readout_kind": Var(("readout",), "str", "", False),
    "readout_once": Var(("readout",), "bool", "", False),
    "readout_definition": Var(("readout",), "str", "", False),
    "readout_negative": Var(("readout",), "str", "", False),
    "readout_positive": Var(("readout",), "str", "", False),
    # one row per NWB file that neurons came from: provenance
    "file": Var(("file",), "str", "", False),
    "file_identifier": Var(("file",), "str", "", False),
    "file_object_id": Var(("file",), "str", "", False),
    "file_units_object_id": Var(("file",), "str", "", False),
    "file_session_id": Var(("file",), "str", "", False),
    "file_subject_id": Var(("file",), "str", "", False),
    "file_digest": Var(("file",), "str", "", False),
    "file_dandiset": Var(("file",), "str", "", False),
    "file_version": Var(("file",), "str", "", False),
    "file_asset_id": Var(("file",), "str", "", False),
    "file_asset_path": Var(("file",), "str", "", False),
}

# Names in files, of all versions or of earlier ones, for what has another name in memory.
_EARLIER_NAMES = {"input_name": "input", "input_burn_in": "u_burn_in"}
_EARLIER_ATTRIBUTES = {
    "centre": "center", "cv_over": "cv_over", "over": "vary", "ensemble_over": "ensemble_vary",
    "assets_told": "assets_warnings",
}  # fmt: skip


def current_name(name: str, n_dims: int) -> str:
    """The name that a variable of a file of an earlier version has today."""
    return "u" if name == "input" and n_dims > 1 else _EARLIER_NAMES.get(name, name)


def current_attribute(name: str) -> str:
    """The name that an attribute of a file of an earlier version has today."""
    return _EARLIER_ATTRIBUTES.get(name, name)
