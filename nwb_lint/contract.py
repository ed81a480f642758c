"""The Datasets of this package: names, dims, units and dtypes of their variables, and the checks of them.

``recording`` (from `read_conditions`) or ``trials`` (from `read_trials`) → ``activity`` (from `prepare`) → ``fit``
(from `fit_lint`) → results of analyses, one table for each kind.

Each table below has a row for each variable: name → (dims, dtype, unit, required). A dim with ``?`` at its end may be
absent. Attributes are texts, numbers and lists of numbers, so that every Dataset can be written as netCDF and NWB. The
attribute ``kind`` of a result names its table. A result keeps the coordinates of its fit on neurons, conditions and
inputs, so that it can be written beside this fit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError


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
    # names of the readouts, what they are, whether they are one observation a trial, and their fields as a text
    "readout": Var(("readout",), "str", "", False),
    "readout_kind": Var(("readout",), "str", "", False),
    "readout_once": Var(("readout",), "bool", "", False),
    "readout_definition": Var(("readout",), "str", "", False),
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

# What stands before the name of a column whose own name is taken.
_PREFIXES = {"condition": "trial", "trial": "trial", "neuron": "unit"}

# Which dtype kinds (numpy's one-letter codes) stand for each dtype of the tables.
_KINDS = {"float32": "f", "float64": "f", "int64": "iu", "uint16": "iu", "bool": "b", "str": "UOT"}
_FINITE_FIT = ("m", "n", "J", "m_drift", "drift_basis", "input_weights", "bias", "initial_activation", "u", "u_burn_in")
_READ = "Call read_conditions(...)"
_PREPARE = "Call prepare(recording, ...)"
_FIT = "Call fit_lint(activity, ...)"


def check_recording(recording: xr.Dataset) -> None:
    """Raise unless the Dataset is a recording by condition: every row of `RECORDING`, `COORDS`, and
    ``bin_s``.

    Raises
    ------
    ContractError
        If a variable is missing, or has other dims or another dtype. The message names it.
    """
    refuse_trials(recording, "read_conditions(...)")
    check_table(recording, RECORDING, "recording", _READ)
    _check_positive(recording, ("bin_s",), "recording", _READ)


def check_activity(activity: xr.Dataset) -> None:
    """Raise unless the Dataset is an activity: every row of `ACTIVITY`, `COORDS`, ``bin_s``, finite inputs.

    Raises
    ------
    ContractError
        If a variable is missing, or has other dims or another dtype. The message names it.
    """
    refuse_trials(activity, "read_conditions(...) and prepare(...)")
    check_table(activity, ACTIVITY, "activity", _PREPARE)
    _check_finite(activity, ("u", "u_burn_in", "offset", "scale"), "activity", _PREPARE)
    _check_positive(activity, ("bin_s",), "activity", _PREPARE)


def refuse_trials(dataset: object, call: str) -> None:
    """Raise for single trials where means over trials are needed."""
    if isinstance(dataset, xr.Dataset) and "trial" in dataset.dims and "condition" not in dataset.dims:
        raise ContractError(
            f"The Dataset holds {dataset.sizes['trial']} single trials. Here means over trials are needed, from {call}."
            " Single trials are fitted by fit_trials, and their rank is chosen by select_rank."
        )


def check_fit(fit: xr.Dataset) -> None:
    """Raise unless the Dataset is a fit: every row of `FIT` and `COORDS`, ``m`` and ``n`` or ``J``, all
    finite.

    Raises
    ------
    ContractError
        If a variable is missing, or has other dims or another dtype. The message names it.

    Examples
    --------
    >>> check_fit(xr.Dataset())
    Traceback (most recent call last):
    nwb_lint.errors.ContractError: fit lacks input_weights (neuron, input); it has no variables. Call
    fit_lint(...
    """
    check_table(fit, FIT, "fit", _FIT)
    low = [name for name in ("m", "n") if name in fit.variables]
    full = "J" in fit.variables
    if full and low:
        raise ContractError(f"fit has J and {' and '.join(low)}; a fit needs either m and n or J. Drop one of the two.")
    if not full and len(low) < 2:
        found = f"only {low[0]}" if low else "none of m, n, J"
        raise ContractError(f"fit has {found}; a fit needs m and n, or J. {_FIT}.")
    if ("m_drift" in fit.variables) != ("drift_basis" in fit.variables):
        raise ContractError(
            "fit has one of m_drift and drift_basis. m of a trial needs both. Drop it or add the other."
        )
    _check_finite(fit, _FINITE_FIT, "fit", _FIT)
    _check_positive(fit, ("dt_s", "tau_s"), "fit", _FIT)
    if full and fit.sizes["neuron_from"] != fit.sizes["neuron"]:
        raise ContractError(
            f"J is {fit.sizes['neuron']} × {fit.sizes['neuron_from']}; it needs rows and columns for all."
        )


def current_name(name: str, n_dims: int) -> str:
    """The name that a variable of a file of an earlier version has today."""
    return "u" if name == "input" and n_dims > 1 else _EARLIER_NAMES.get(name, name)


def current_attribute(name: str) -> str:
    """The name that an attribute of a file of an earlier version has today."""
    return _EARLIER_ATTRIBUTES.get(name, name)


def coords_along(dataset: xr.Dataset | xr.DataArray, *dims: str, kind: str = "") -> dict[str, xr.Variable]:
    """The coordinates of each of these dims: labels and columns, by name.

    ``kind`` is that of the result that they go into. A column gets another name where the result has a variable or dim
    of its name: "context" of the conditions becomes "condition_context".
    """
    own = [(dim,) for dim in dims]
    found = {str(name): variable for name, variable in dataset.coords.variables.items() if variable.dims in own}
    if not kind:
        return found
    taken = {name for var in RESULTS[kind].values() for name in var.dims}.union(RESULTS[kind]) - set(dims)
    for dim in dims:
        columns = {name: variable for name, variable in found.items() if variable.dims == (dim,)}
        for name, free in free_names(columns, taken, dim).items():
            if free != name:
                found[free] = renamed(found.pop(name), name, free)
    return found


def free_names(names: Collection[str], taken: Collection[str], prefix: str) -> dict[str, str]:
    """The name of the coordinate of each column: its own, or ``prefix_name`` where that is taken."""
    found: dict[str, str] = {}
    for name in names:
        free = f"{prefix}_{name}" if name in taken else name
        while free != name and (free in taken or free in names or free in found.values()):
            free += "_"
        found[name] = free
    return found


def renamed(variable: xr.Variable, name: str, new: str) -> xr.Variable:
    """A column under a new name; its attribute ``column`` keeps the name that it has in its file."""
    if name == new:
        return variable
    return xr.Variable(variable.dims, variable.values, {"column": name} | variable.attrs)


def columns_of(dataset: xr.Dataset | xr.DataArray, dim: str) -> dict[str, xr.Variable]:
    """The columns of the conditions, trials or neurons, by the name that each has in its file.

    The coordinate of a column may have another name, such as ``trial_condition`` for the column ``condition``. It is
    found by either.
    """
    there = {name: variable for name, variable in coords_along(dataset, dim).items() if name != dim}
    own = {str(variable.attrs["column"]): variable for variable in there.values() if "column" in variable.attrs}
    plain = {name: variable for name, variable in there.items() if "column" not in variable.attrs}
    return plain | own


def find_column(dataset: xr.Dataset | xr.DataArray, column: str, dim: str) -> xr.Variable | None:
    """A column by its name in the file or the name of its coordinate; None where there is none."""
    there = coords_along(dataset, dim)
    # files of earlier versions do not say which column a coordinate is
    names = [*([column] if column != dim else []), f"{dim}_{column}", f"{_PREFIXES.get(dim, dim)}_{column}"]
    found = [there[name] for name in names if name in there]
    return columns_of(dataset, dim).get(column, found[0] if found else None)


def held_out_of(dataset: xr.Dataset) -> np.ndarray:
    """Boolean (condition): whether it was held out; nobody where the Dataset does not say."""
    return _flags(dataset, "held_out", "condition", False)


def recorded_of(dataset: xr.Dataset) -> np.ndarray:
    """Boolean (neuron): whether it was recorded; everybody where the Dataset does not say."""
    return _flags(dataset, "recorded", "neuron", True)


def _flags(dataset: xr.Dataset, name: str, dim: str, absent: bool) -> np.ndarray:
    return dataset[name].values if name in dataset.coords else np.full(dataset.sizes[dim], absent)


# The texts that stand for no value in a column of texts, spaces around them aside. All others are values: "None",
# "none" and "NA" are levels of a column (no stimulus; nucleus accumbens).
MISSING_TEXTS = ("", "N/A", "n/a", "NaN", "nan")


def missing_in(values: np.ndarray) -> np.ndarray:
    """Where a column has no value. Reading, queries, grouping and analyses all use this definition.

    Missing are NaN, NaT, None, and the texts of `MISSING_TEXTS`.

    Parameters
    ----------
    values : numpy.ndarray
        A column of any type.

    Returns
    -------
    numpy.ndarray
        bool, of the same shape.

    Examples
    --------
    >>> missing_in(np.array(["left", "N/A", "", "None"]))
    array([False,  True,  True, False])
    """
    kind = values.dtype.kind
    if kind == "f":
        return np.isnan(values)
    if kind in "mM":
        return np.isnat(values)
    if kind in "OT":
        objects = values.astype(object)
        return xr.DataArray(objects).isnull().values | np.vectorize(_is_missing_text, otypes=[bool])(objects)
    return np.isin(np.char.strip(values), MISSING_TEXTS) if kind == "U" else np.zeros(values.shape, bool)


def _is_missing_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() in MISSING_TEXTS


# Numbers that differ by this fraction differ by rounding alone (0.3 and 0.1 + 0.2), and so do numbers of a column by
# this fraction of its largest one (0 and 0.1 + 0.2 - 0.3). Real differences are larger by far.
ROUNDING, ROUNDING_OF_COLUMN = 1e-12, 1e-14
_FEW_DIGITS = 6  # a number of so few is no rounding error


def shortest_decimals(values: np.ndarray) -> np.ndarray:
    """Numbers that went through float32 as the shortest decimals that they stand for; all others as they are.

    Whole numbers are left alone: those of a float32 can be exact.

    Examples
    --------
    >>> shortest_decimals(np.array([np.float32(0.3), 0.3, 2.0]))
    array([0.3, 0.3, 2. ])
    """
    out = np.array(values, float)
    with np.errstate(over="ignore", invalid="ignore"):
        single = out.astype(np.float32)
        short = np.isfinite(out) & (single.astype(float) == out) & (out != np.rint(out))
    out[short] = single[short].astype(str).astype(float)
    return out


def equal_up_to_rounding(a: Any, b: Any, size: float = 0.0) -> np.ndarray:
    """Whether numbers are equal, or differ by rounding alone; different whole numbers are never equal.

    Parameters
    ----------
    a, b : numpy.ndarray or float
        Numbers of shapes that can be broadcast.
    size : float, default=0.0
        The largest number of the column; 0 compares the two numbers alone.

    Returns
    -------
    numpy.ndarray
        bool.

    Examples
    --------
    >>> equal_up_to_rounding(np.array([0.1 + 0.2, 0.30001, np.float32(0.3)]), 0.3)
    array([ True, False,  True])
    """
    a, b = shortest_decimals(np.asarray(a)), shortest_decimals(np.asarray(b))
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= np.maximum(ROUNDING * np.maximum(np.abs(a), np.abs(b)), ROUNDING_OF_COLUMN * size)
        return (a == b) | (close & ~((a == np.rint(a)) & (b == np.rint(b))))


def size_of_column(values: np.ndarray) -> float:
    """The number that rounding errors of a column are measured by, for `equal_up_to_rounding`.

    It is the largest number, unless rounding errors of that size would hide a number of few digits: one number that is
    very large, such as 1e18 for "none", must not make 0.25 and 0.5 equal.

    Parameters
    ----------
    values : numpy.ndarray
        Numbers.

    Returns
    -------
    float

    Examples
    --------
    >>> size_of_column(np.array([0.25, 0.5, 2.0])), size_of_column(np.array([0.25, 0.5, 1e18])) < 1e9
    (2.0, True)
    """
    known = np.unique(np.abs(values[np.isfinite(values) & (values != 0)]))
    if not len(known):
        return 0.0
    largest = float(known[-1])
    hidden = known[known <= ROUNDING_OF_COLUMN * largest].tolist()
    plain = [
        number for number in hidden if len(f"{number!r}".partition("e")[0].strip("0.").replace(".", "")) <= _FEW_DIGITS
    ]
    return min([largest, *(number * 1e-6 / ROUNDING_OF_COLUMN for number in plain)])


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The levels of a column, ascending, and the level of each value. Numbers that differ by rounding are one level.

    Parameters
    ----------
    values : numpy.ndarray
        A column of any type that can be sorted.

    Returns
    -------
    levels : numpy.ndarray
        Distinct values. Of numbers that differ by rounding, the one of fewest digits stands for all.
    codes : numpy.ndarray
        Position of each value in ``levels``.

    Examples
    --------
    >>> distinct(np.array([0.3, 0.1 + 0.2, 0.5]))
    (array([0.3, 0.5]), array([0, 0, 1]))
    """
    levels, codes = np.unique(values, return_inverse=True)
    n = int(np.isfinite(levels).sum()) if levels.dtype.kind == "f" else 0
    if n < 2 or not np.isfinite(levels[:n]).all():
        return levels, codes
    keys = shortest_decimals(levels[:n])
    order = np.argsort(keys, kind="stable")
    ordered, size = keys[order], float(np.abs(keys).max())
    if not equal_up_to_rounding(ordered[1:], ordered[:-1], size).any():
        return levels, codes
    size = size_of_column(ordered)
    group, first = np.zeros(n, np.int64), 0
    for k in range(1, n):
        if not equal_up_to_rounding(ordered[k], ordered[first], size):
            first = k
        group[k] = group[k - 1] + (first == k)
    shown = [min(ordered[group == g], key=lambda number: len(repr(float(number)))) for g in range(group[-1] + 1)]
    of_level = np.empty(len(levels), np.int64)
    of_level[order] = group
    of_level[n:] = group[-1] + 1 + np.arange(len(levels) - n)
    return np.concatenate([shown, levels[n:]]), of_level[codes]


def as_text_column(values: np.ndarray) -> np.ndarray:
    """A column of texts as numpy texts, '' where it has no value; any other column as it is."""
    if values.dtype.kind not in "OT":
        return values
    return np.where(missing_in(values), "", values.astype(object)).astype(str)


def input_names(dataset: xr.Dataset) -> list[str]:
    """Names of the inputs; their numbers, from 1 on, where they have none."""
    if "input" in dataset.coords:
        return [str(name) for name in dataset["input"].values]
    return [str(k + 1) for k in range(dataset.sizes["input"])]


def named_inputs(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """The coordinate with the labels of the inputs, where there is one."""
    return {k: v for k, v in coords_along(dataset, "input").items() if k == "input"}


def column_of(dataset: xr.Dataset, column: str) -> np.ndarray:
    """Values of a column of the conditions, texts as texts.

    Raises
    ------
    ContractError
        If there is no such column.
    """
    found = find_column(dataset, column, "condition")
    if found is None:
        there = ", ".join(columns_of(dataset, "condition")) or "none"
        raise ContractError(f"conditions have no column {column!r}; they have {there}.")
    return as_text_column(found.values)


def check_table(dataset: xr.Dataset, table: dict[str, Var], what: str, hint: str) -> None:
    """Presence, dims and dtype kinds of every variable and known coordinate.

    A name of ``table`` goes before the same one of `COORDS`.
    """
    check_dataset(dataset, what, hint)
    rows = {name: var for name, var in COORDS.items() if name not in table} | table
    for name, var in rows.items():
        wanted = f"{name} ({', '.join(var.dims)})"
        if name not in dataset.variables:
            if var.required and (name in table or name in dataset.dims):
                raise ContractError(f"{what} lacks {wanted}; it has {_names(dataset)}. {hint}.")
            continue
        found = dataset.variables[name]
        if not _dims_fit(found.dims, var.dims):
            raise ContractError(
                f"{name} of the {what} has dims ({', '.join(map(str, found.dims))}); it needs {wanted}."
            )
        if found.dtype.kind not in _KINDS[var.dtype] + ("UOT" if name == "unit_id" else ""):
            raise ContractError(f"{name} of the {what} is {found.dtype}; it needs {var.dtype}. Cast it.")
    empty = [str(dim) for dim, size in dataset.sizes.items() if size == 0]
    if empty:
        raise ContractError(f"{what} has nothing along {', '.join(empty)}; every dim needs at least one entry.")
    if "neuron" in dataset.indexes and not dataset.indexes["neuron"].is_unique:
        label = dataset.indexes["neuron"][dataset.indexes["neuron"].duplicated()][0]
        raise ContractError(f"neuron label {label!r} occurs twice in the {what}; labels need to be unique.")


def check_dataset(dataset: object, what: str, hint: str) -> None:
    """Raise ContractError unless an argument is a Dataset; the message names the function that makes one of it."""
    if not isinstance(dataset, xr.Dataset):
        found = f"{what} is a {type(dataset).__name__}; it needs to be an xarray.Dataset."
        raise ContractError(f"{found} {call_for(dataset) or f'{hint}.'}")


# Objects in memory, by the package and name of their class, and the call that makes a Dataset of them.
_CALLS = {
    ("pynapple", "TsGroup"): "from_pynapple(spikes, trials, align=…, window_s=…, bin_s=…)",
    ("pynapple", "Ts"): "from_spikes({unit: ts}, trials, align=…, window_s=…, bin_s=…)",
    ("pynapple", "_BaseTsd"): "from_pynapple(tsdframe, trials, align=…, window_s=…, bin_s=…)",
    ("pynwb", "NWBFile"): "from_nwbfile(nwbfile, align=…, window_s=…, bin_s=…)",
    ("spikeinterface", "BaseSorting"): "from_spikeinterface(sorting, trials, align=…, window_s=…, bin_s=…)",
    ("spikeinterface", "SortingAnalyzer"): "from_spikeinterface(analyzer.sorting, trials, align=…, window_s=…, …)",
    ("pandas", "DataFrame"): "from_spikes(spike_times, trials, align=…, window_s=…, bin_s=…)",
    ("builtins", "dict"): "from_spikes(spike_times, trials, align=…, window_s=…, bin_s=…)",
    ("xarray", "Dataset"): "prepare(recording, inputs=…): it is read already",
    ("xarray", "DataArray"): "from_arrays(rate=…, time=…, conditions=…)",
}  # fmt: skip


def call_for(value: object) -> str:
    """A sentence that names the call which makes a Dataset of an object in memory; empty where there is none.

    Examples
    --------
    >>> call_for(np.zeros((8, 40, 12)))
    'Call from_arrays(rate=…, time=…, conditions=…), or from_arrays(count=…, time=…, trials=…).'
    """
    if isinstance(value, np.ndarray) and value.dtype.kind != "U":
        arrays = "from_arrays(rate=…, time=…, conditions=…), or from_arrays(count=…, time=…, trials=…)"
        return f"Call {arrays if value.ndim > 1 else _CALLS['builtins', 'dict']}."
    if isinstance(value, list | tuple):
        return call_for({}) if value and all(isinstance(one, np.ndarray) and one.ndim == 1 for one in value) else ""
    return next((f"Call {_CALLS[name]}." for name in class_names(value) if name in _CALLS), "")


def class_names(value: object) -> list[tuple[str, str]]:
    """Package and name of the class of an object, and of those that it derives from; no package is imported."""
    return [(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__]


def _dims_fit(found: tuple, wanted: tuple[str, ...]) -> bool:
    """Whether ``found`` are the ``wanted`` dims in their order, entries ending in ``?`` present or absent."""
    required = tuple(dim for dim in wanted if not dim.endswith("?"))
    return found in (required, tuple(dim.rstrip("?") for dim in wanted))


def _check_finite(dataset: xr.Dataset, names: tuple[str, ...], what: str, hint: str) -> None:
    for name in names:
        if name in dataset.variables:
            bad = int((~np.isfinite(dataset.variables[name].values)).sum())
            if bad:
                raise ContractError(f"{name} of the {what} has {bad} values that are not finite; all must be. {hint}.")


def _check_positive(dataset: xr.Dataset, names: tuple[str, ...], what: str, hint: str) -> None:
    for name in names:
        value: Any = dataset.attrs.get(name)
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not 0 < float(value) < np.inf:
            raise ContractError(f"{what} has attribute {name}={value!r}; it needs a number above 0. {hint}.")


def _names(dataset: xr.Dataset) -> str:
    return ", ".join(str(name) for name in dataset.data_vars) or "no variables"


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

_R2_OF_RANKS = ("rank_r2", "rank_r2_sem", "rank_r2_ceiling", "r2", "r2_ceiling")
_BITS_OF_RANKS = ("rank_bits", "rank_bits_sem", "bits")
_R2_OF_AREAS = ("area_r2", "r2", "r2_ceiling")
_EVIDENCE_OF_AREAS = ("area_evidence", "area_evidence_sem", "evidence_condition")

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


def kind_of(dataset: xr.Dataset) -> str | None:
    """What a Dataset is, as far as its attributes, or else its variables, say it.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any Dataset.

    Returns
    -------
    str or None
        "recording", "trials", "activity", "fit", "comparison" or the kind of a result; None for any other Dataset.

    Examples
    --------
    >>> from nwb_lint.testing import mock_recording
    >>> kind_of(mock_recording()), kind_of(mock_recording()[["rate"]])
    ('recording', None)
    """
    kind = str(dataset.attrs.get("kind", ""))
    if kind in RESULTS or kind == "comparison":
        return kind
    for name, table in {"fit": FIT, "activity": ACTIVITY, "trials": TRIALS, "recording": RECORDING}.items():
        needed = {key: var.dims for key, var in table.items() if var.required}
        if all(key in dataset.data_vars and _dims_fit(dataset[key].dims, dims) for key, dims in needed.items()):
            return name
    return None


def check_result(result: xr.Dataset, kind: str | None = None) -> str:
    """The kind of a result, when it is what its table says.

    Raises
    ------
    ContractError
        If the kind is another one or not known, or a variable differs from its row in the table.
    """
    found = str(getattr(result, "attrs", {}).get("kind", "none"))
    if found not in RESULTS or kind not in (None, found):
        raise ContractError(f"the result is of kind {found!r}; it needs to be {kind or ' or '.join(RESULTS)}.")
    table = RESULTS[found]
    if found == "rank_selection":
        needed = _BITS_OF_RANKS if "rank_bits" in result else _R2_OF_RANKS
        table = table | {name: table[name]._replace(required=True) for name in needed}
    if found == "area_selection":
        needed = _EVIDENCE_OF_AREAS if "area_evidence" in result else _R2_OF_AREAS
        table = table | {name: table[name]._replace(required=True) for name in needed}
    check_table(result, table, found.replace("_", " "), "See nwb_lint.contract")
    return found
