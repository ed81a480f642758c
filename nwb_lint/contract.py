"""The three Datasets that travel between the rooms: their dims, variables, units and dtypes.

``recording`` (from `read_conditions`, `read_trials`) → ``activity`` (from `prepare`) → ``fit`` (from `fit_lint`).
Every table below is one row per variable: name → (dims, dtype, unit, required). A dims entry ending in ``?`` may
be absent. Attributes are plain strings, numbers and lists of numbers, so that every Dataset fits netCDF and NWB.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr


class Var(NamedTuple):
    """One variable of a Dataset: named dims, dtype, unit, and whether it must be there."""

    dims: tuple[str, ...]
    dtype: str
    unit: str
    required: bool = True


class ContractError(ValueError):
    """A Dataset is not what a function needs; the message says what was found, needed, and what to do."""


RECORDING = {
    "rate": Var(("condition", "time", "neuron"), "float32", "Hz"),
    "n_trials": Var(("condition", "neuron"), "int64", "1"),
    "rate_half": Var(("half", "condition", "time", "neuron"), "float32", "Hz", False),
    "n_trials_half": Var(("half", "condition", "neuron"), "int64", "1", False),
}

TRIALS = {
    "count": Var(("trial", "time", "neuron"), "uint16", "1"),
    "observed": Var(("trial", "time", "neuron"), "bool", "1", False),
}

ACTIVITY = {
    "activity": Var(("condition", "time", "neuron"), "float32", "1"),
    "activity_half": Var(("half", "condition", "time", "neuron"), "float32", "1", False),
    "n_trials_half": Var(("half", "condition", "neuron"), "int64", "1", False),
    "input": Var(("condition", "time", "input"), "float32", "1"),
    "input_burn_in": Var(("condition", "burn_in", "input"), "float32", "1", False),
    "offset": Var(("time?", "neuron"), "float64", "Hz"),
    "scale": Var(("neuron",), "float64", "Hz"),
    "component": Var(("pc", "neuron"), "float64", "1", False),
    "mask": Var(("condition", "time", "neuron"), "bool", "1", False),
}

FIT = {
    "m": Var(("neuron", "rank"), "float64", "1", False),
    "n": Var(("neuron", "rank"), "float64", "1", False),
    "J": Var(("neuron", "neuron_from"), "float64", "1", False),
    "input_weights": Var(("neuron", "input"), "float64", "1"),
    "bias": Var(("neuron",), "float64", "1"),
    "initial_activation": Var(("neuron",), "float64", "1"),
    "input": Var(("condition", "time", "input"), "float32", "1"),
    "input_burn_in": Var(("condition", "burn_in", "input"), "float32", "1", False),
    "activity_pred": Var(("condition", "time", "neuron"), "float32", "1"),
    "latent": Var(("condition", "time", "rank"), "float32", "1", False),
    "filtered_input": Var(("condition", "time", "input"), "float32", "1"),
    "offset": Var(("time?", "neuron"), "float64", "Hz", False),
    "scale": Var(("neuron",), "float64", "Hz", False),
    "component": Var(("pc", "neuron"), "float64", "1", False),
    "r2": Var(("split",), "float64", "1"),
    "r2_ceiling": Var(("split",), "float64", "1"),
    "r2_neuron": Var(("split", "neuron"), "float64", "1"),
    "stage_r2": Var(("stage", "split"), "float64", "1", False),
    "stage_ridge": Var(("stage",), "float64", "1", False),
    "singular_value": Var(("singular",), "float64", "1", False),
    "rank_r2": Var(("rank_tried", "split"), "float64", "1", False),
    "rank_r2_sem": Var(("rank_tried", "split"), "float64", "1", False),
}

# Coordinates every room knows, beside the trial columns on `condition` and the unit columns on `neuron`.
COORDS = {
    "time": Var(("time",), "float64", "s"),
    "burn_in": Var(("burn_in",), "float64", "s", False),
    "neuron": Var(("neuron",), "str", ""),
    "unit_id": Var(("neuron",), "int64", "", False),
    "session": Var(("neuron",), "str", "", False),
    "source": Var(("neuron",), "str", "", False),
    "recorded": Var(("neuron",), "bool", "", False),
    "condition": Var(("condition",), "str", "", False),
    "held_out": Var(("condition",), "bool", "", False),
    "input": Var(("input_name",), "str", "", False),
    # one row per NWB file that neurons came from: provenance
    "file": Var(("file",), "str", "", False),
    "file_identifier": Var(("file",), "str", "", False),
    "file_object_id": Var(("file",), "str", "", False),
    "file_units_object_id": Var(("file",), "str", "", False),
    "file_session_id": Var(("file",), "str", "", False),
    "file_subject_id": Var(("file",), "str", "", False),
    "file_digest": Var(("file",), "str", "", False),
}
