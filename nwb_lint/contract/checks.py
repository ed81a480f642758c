"""The kind of a Dataset, and checks that it is what its table says."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.datasets import ACTIVITY, COORDS, FIT, RECORDING, TRIALS, Var
from nwb_lint.contract.results import RESULTS
from nwb_lint.errors import ContractError

# Which dtype kinds (numpy's one-letter codes) stand for each dtype of the tables.
_KINDS = {"float32": "f", "float64": "f", "int64": "iu", "uint16": "iu", "bool": "b", "str": "UOT"}
_FINITE_FIT = ("m", "n", "J", "m_drift", "drift_basis", "input_weights", "bias", "initial_activation", "u", "u_burn_in")
_READ = "Call read_conditions(...)"
_PREPARE = "Call prepare(recording, ...)"
_FIT = "Call fit_lint(activity, ...)"

# What a choice of rank or of areas must hold: scores of fits of means, or of single trials.
_R2_OF_RANKS = ("rank_r2", "rank_r2_sem", "rank_r2_ceiling", "r2", "r2_ceiling")
_BITS_OF_RANKS = ("rank_bits", "rank_bits_sem", "bits")
_R2_OF_AREAS = ("area_r2", "r2", "r2_ceiling")
_EVIDENCE_OF_AREAS = ("area_evidence", "area_evidence_sem", "evidence_condition")


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
