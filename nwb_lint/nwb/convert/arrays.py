"""Arrays of rates or counts that are binned already → the Dataset that the readers give: `from_arrays`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_recording, check_table
from nwb_lint.contract.datasets import TRIALS
from nwb_lint.contract.values import missing_in
from nwb_lint.errors import ContractError
from nwb_lint.nwb.convert.datasets import EVENT, REGULAR, session_of
from nwb_lint.nwb.convert.session import Lists, column
from nwb_lint.nwb.convert.sources import of_samples, of_spikes, reader_of
from nwb_lint.nwb.convert.spikes import as_numbers, frame_of
from nwb_lint.nwb.recording.dataset import column_coords
from nwb_lint.nwb.recording.trials import By
from nwb_lint.nwb.recording.unit_tables import plain_ids
from nwb_lint.parallel.warnings import warn
from nwb_lint.query import format_value

Array = np.ndarray

_CALL = "Call from_arrays"
_OWN = (
    "window_s",
    "table",
    "units_table",
    "series",
    "unit_columns",
)  # options of the readers that arrays say themselves
_MOST_COUNT = np.iinfo(np.uint16).max
_LONG_S = 1.0  # bins of this width are rare, and milliseconds are common


class _Labels(NamedTuple):
    """What labels one dim, and its columns as coordinates."""

    labels: Array
    columns: dict[str, Any]
    by: list[str]


def from_arrays(
    *,
    rate: Any = None,
    count: Any = None,
    time: Any = None,
    conditions: Any = None,
    trials: Any = None,
    neurons: Any = None,
    bin_s: float | None = None,
    by: By | None = None,
    align: str | None = None,
    n_trials: Any = None,
    rate_half: Any = None,
    n_trials_half: Any = None,
    observed: Any = None,
    unit: str = "Hz",
    **options: Any,
) -> xr.Dataset:
    """Make a recording or trials of arrays that are binned already.

    ===========================================  =====================================================
    arguments                                    result
    ===========================================  =====================================================
    ``rate``, ``time``, ``conditions``           a recording: means over trials
    ``count``, ``time``, ``trials``              trials: spike counts, for `fit_trials`
    ``rate``, ``time``, ``trials``               trials: samples, such as dF/F
    the last two with ``by``                     a recording: the means over trials with the same values
    ===========================================  =====================================================

    Arrays may be xarray.DataArrays with these names of dims, in any order. Masked values were not observed.

    Parameters
    ----------
    rate : array of shape (condition or trial, time, neuron), default=None
        Rates, in ``unit``; NaN = not observed.
    count : array of shape (trial, time, neuron), default=None
        Spikes in each bin, whole numbers; NaN = not observed.
    time : array of shape (time,), default=None
        Centers of the bins, s, relative to an event.
    conditions : pandas.DataFrame, mapping of columns, or sequence of labels, default=None
        A row for each condition: what was shown and done. `Input` takes these columns.
    trials : pandas.DataFrame, mapping of columns, or sequence of labels, default=None
        A row for each trial.
    neurons : pandas.DataFrame, mapping of columns, sequence of labels, or None, default=None
        A label for each neuron, or columns with a row for each. None numbers them from 0.
    bin_s : float or None, default=None
        Width of a bin, s. None takes the distance between centers.
    by : str, mapping, sequence of them, or None, default=None
        Columns of ``trials`` that make a condition, as for `read_conditions`. None gives single trials.
    align : str or None, default=None
        Column of ``trials`` with time 0 of each trial on the clock of the session, s. It is needed where ``trials`` has
        ``start_time`` and is averaged or written.
    n_trials : int, array of shape (condition,) or (condition, neuron), or None, default=None
        Trials behind each mean. None: 1.
    rate_half : array of shape (2, condition, time, neuron), or None, default=None
        Means over two random halves of the trials, which the ceiling of R² needs.
    n_trials_half : array of shape (2, condition) or (2, condition, neuron), or None, default=None
        Trials behind each of them. None: half of ``n_trials``.
    observed : array of shape (trial, time, neuron), or None, default=None
        False where nothing was observed, such as after the end of a trial.
    unit : str, default="Hz"
        Unit of ``rate``.
    **options
        With ``by``: other options of `read_conditions`, such as ``where``, ``smooth_s``, ``halves``, ``min_trials``.

    Returns
    -------
    xarray.Dataset
        A recording or trials, as the table says, checked as those of the readers.

    Raises
    ------
    ContractError
        If an argument is missing, or shapes do not suit each other. The message names the argument.

    Examples
    --------
    >>> rates = np.random.default_rng(0).uniform(0, 20, (8, 40, 12))
    >>> recording = from_arrays(rate=rates, time=0.02 * np.arange(40), conditions={"strength": np.linspace(-1, 1, 8)})
    >>> str(recording["condition"].values[0])
    'strength=-1'
    """
    reader_of({"by": () if by is None else by} | options, "from_arrays", _OWN)
    single = trials is not None or count is not None
    values = _checked_values(rate, count, conditions, trials)
    centers, width = _time(time, bin_s, values.shape[1], "rate" if count is None else "count")
    dim = "trial" if single else "condition"
    rows = _labels(trials if single else conditions, len(values), dim, f"{dim}s")
    units = _labels(neurons, values.shape[2], "neuron", "neurons")
    coords = {dim: rows.labels, "time": ("time", centers, {"units": "s"}), "neuron": units.labels.astype(str)}
    coords |= rows.columns | {
        name if name not in rows.columns else f"unit_{name}": c for name, c in units.columns.items()
    }
    start = float(centers[0]) - width / 2
    attrs = {"bin_s": width, "align": align or EVENT, "window_s": [start, start + width * len(centers)]}
    if single:
        _refuse({"n_trials": n_trials, "rate_half": rate_half, "n_trials_half": n_trials_half}, "means over trials")
        data = _of_trials(values, count is not None, observed, unit)
        dataset = xr.Dataset(data, coords, attrs)
        table = TRIALS if count is not None else {name: var for name, var in TRIALS.items() if name != "count"}
        check_table(dataset, table, "trials", _CALL)
        if by is not None:
            return _averaged(dataset, {"by": by} | options)
        _refuse(options, "means over trials, and by is missing: pass by= too")
        return dataset
    _refuse({"by": by, "align": align, "observed": observed} | options, "single trials: pass trials= too")
    data = _of_conditions(values, n_trials, rate_half, n_trials_half, unit)
    recording = xr.Dataset(data, coords, attrs | {"smooth_s": 0.0, "by": rows.by})
    check_recording(recording)
    return recording


def _refuse(given: Mapping[str, Any], what: str) -> None:
    """Raise ContractError for an argument that does not suit the others."""
    for name, value in given.items():
        if value is not None:
            raise ContractError(f"{name} is given. It is for {what}. Leave it out.")


def _checked_values(rate: Any, count: Any, conditions: Any, trials: Any) -> Array:
    """The one array of rates or counts, as (condition or trial, time, neuron)."""
    if (rate is None) == (count is None):
        found = "rate and count are both missing" if rate is None else "rate and count are both given"
        raise ContractError(f"{found}. from_arrays needs one of them. Pass rate= or count=.")
    name, value = ("rate", rate) if count is None else ("count", count)
    if conditions is not None and (trials is not None or count is not None):
        other = "trials" if trials is not None else "count"
        raise ContractError(
            f"conditions and {other} are both given. A row is a condition or a trial. Pass rate= and conditions=, or "
            "trials=."
        )
    if conditions is None and trials is None and count is None:
        raise ContractError(
            "conditions is missing. from_arrays needs a row for each condition of rate (first dim). Pass conditions=; "
            "or trials=, if the first dim is single trials."
        )
    dims = ("trial" if trials is not None or count is not None else "condition", "time", "neuron")
    value = _in_order(value, dims, name)
    kept = isinstance(value, np.ndarray) and value.dtype.kind in "biu" and not isinstance(value, np.ma.MaskedArray)
    values = value if kept else as_numbers(value)
    if values is None:
        raise ContractError(f"{name} is a {type(value).__name__} and no array of numbers. Pass an array.")
    if values.ndim != 3 or not values.size:
        raise ContractError(f"{name} has shape {values.shape}. It needs ({', '.join(dims)}). Change its shape.")
    if count is None and np.isinf(values).any():
        raise ContractError(
            f"rate has {int(np.isinf(values).sum())} infinite values. It needs numbers, or NaN where nothing was "
            "observed. Change them."
        )
    return values


def _in_order(value: Any, dims: tuple[str, ...], name: str) -> Any:
    """A DataArray with its dims in this order; anything else, and a DataArray with other names of dims, as it is."""
    if not isinstance(value, xr.DataArray):
        return value
    if set(value.dims) == set(dims):
        return value.transpose(*dims).values
    if any(dim in dims[:at] + dims[at + 1 :] for at, dim in enumerate(value.dims)):
        raise ContractError(
            f"{name} has dims {value.dims}. It needs ({', '.join(dims)}), in this order. Rename or transpose them."
        )
    return value.values


def _time(time: Any, bin_s: float | None, n: int, what: str) -> tuple[Array, float]:
    """Bin centers and the width of a bin, s."""
    if time is None:
        raise ContractError(
            f"time is missing. from_arrays needs the center of each of the {n} bins of {what} (second dim), s. Pass "
            "time=."
        )
    centers, given = as_numbers(time), None if bin_s is None else as_numbers(bin_s)
    if centers is None:
        raise ContractError("time holds no numbers. It needs the centers of the bins, s. Change it.")
    if bin_s is not None and (given is None or given.ndim):
        raise ContractError(f"bin_s is {bin_s!r}. It needs a number above 0, s. Change it.")
    if centers.shape != (n,):
        raise ContractError(
            f"time has shape {centers.shape}, and {what} has {n} bins (second dim). One center is needed for each bin. "
            "Change time or the order of the dims."
        )
    steps = np.diff(centers)
    if bin_s is None and n == 1:
        raise ContractError("bin_s is missing. There is a single bin, whose width is not known. Pass bin_s=.")
    width = float(np.round(np.median(steps) if given is None else given, 12))
    if not np.isfinite(centers).all() or not width > 0 or (np.abs(steps - width) > REGULAR * width).any():
        found = f"steps of {steps.min():g} to {steps.max():g} s" if n > 1 else "one bin"
        raise ContractError(
            f"time has {found}, and bin_s is {width:g}. Bins of one width are needed, ascending. Change time or bin_s."
        )
    if width >= _LONG_S:
        warn(f"The bins are {width:g} s wide. time needs to be in s. Divide it by 1000 if it is in ms.")
    return centers, width


def _labels(given: Any, n: int, dim: str, name: str) -> _Labels:
    """Labels of one dim and its columns, from a table, a mapping of columns, or labels."""
    if given is None:
        return _Labels(np.arange(n) if dim == "trial" else np.arange(n).astype(str), {}, [])
    if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        raise ContractError(
            f"{name} is a {type(given).__name__}. It needs a table, a dict of columns, or a label for each {dim}. Pass "
            "one of them."
        )
    is_table = isinstance(given, Mapping) or hasattr(given, "columns")
    table = frame_of(given, name) if is_table else None
    n_found = len(given if table is None else table)
    if n_found != n:
        raise ContractError(
            f"{name} has {n_found} rows, and the array has {n} along {dim}. One row is needed for each. Change "
            f"{name} or the order of the dims."
        )
    if table is None:
        return _Labels(_unique(_plain_labels(list(given), dim, name), dim, name), {}, [])
    columns: dict[str, Array] = {}
    for key in table.columns:
        values = column(str(key), table[key].to_numpy())
        if isinstance(values, Lists):
            raise ContractError(f"Column {key} of {name} holds lists. It needs one value for each row. Leave it out.")
        columns[str(key)] = values
    labels = columns.pop(dim, None)
    if labels is None:
        labels = _labels_of(table, columns, dim)
    coords: dict[str, Any] = dict(column_coords(columns, dim, {"neuron": "unit"}.get(dim, "trial")))
    return _Labels(_unique(labels, dim, name), coords, list(coords))


def _plain_labels(given: list[Any], dim: str, name: str) -> Array:
    """Labels as texts; those of trials as numbers if they are whole."""
    labels = np.asarray(given) if np.ndim(given) == 1 else None
    if labels is None or missing_in(labels).any():
        found = "has more than one value for a row" if labels is None else "has rows without a label"
        raise ContractError(f"{name} {found}. Each {dim} needs one label. Pass several as columns: a dict of columns.")
    plain = plain_ids(labels)
    return plain if dim == "trial" else plain.astype(str)


def _labels_of(table: Any, columns: dict[str, Array], dim: str) -> Array:
    """The labels of rows: of conditions their values, of others the index of the table."""
    if dim != "condition":
        index = plain_ids(table.index.to_numpy())
        return index if dim == "trial" and index.dtype.kind == "i" else index.astype(str)
    texts = {name: [format_value(value) for value in values.tolist()] for name, values in columns.items()}
    return np.array([", ".join(f"{name}={texts[name][row]}" for name in texts) for row in range(len(table))], dtype=str)


def _unique(labels: Array, dim: str, name: str) -> Array:
    found, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
        raise ContractError(
            f"Two rows of {name} are {str(found[counts > 1][0])!r}. Each {dim} needs a label of its own. Add a column "
            f"that tells them apart, or a column {dim}."
        )
    return labels


def _of_trials(values: Array, is_count: bool, observed: Any, unit: str) -> dict[str, Any]:
    """The variables of trials."""
    dims = ("trial", "time", "neuron")
    given = None if observed is None else np.asarray(_in_order(observed, dims, "observed"))
    if given is not None and given.shape != values.shape:
        raise ContractError(f"observed has shape {given.shape}. It needs that of the array: {values.shape}. Change it.")
    if given is not None and not np.isin(given, (0, 1)).all():
        raise ContractError(
            "observed holds other values than True and False. It needs one of them for each sample. Change it."
        )
    seen = None if given is None else given.astype(bool)
    if not is_count:
        rate = values.astype(np.float32)
        return {"rate": (dims, rate if seen is None else np.where(seen, rate, np.float32(np.nan)), {"units": unit})}
    if values.dtype.kind == "f":
        known = ~np.isnan(values)
        if not known.all():
            seen = known if seen is None else seen & known
        values = np.where(known, values, 0)
    if (values < 0).any() or (values > _MOST_COUNT).any() or (values != np.round(values)).any():
        odd = values[(values < 0) | (values > _MOST_COUNT) | (values != np.round(values))][0]
        raise ContractError(
            f"count holds {odd:g}. It needs whole numbers from 0 to {_MOST_COUNT}. Pass rates as rate= with trials=."
        )
    counts = values.astype(np.uint16)
    data: dict[str, Any] = {"count": (dims, counts if seen is None else np.where(seen, counts, 0), {"units": "1"})}
    return data if seen is None or seen.all() else data | {"observed": (dims, seen, {"units": "1"})}


def _of_conditions(values: Array, n_trials: Any, halves: Any, n_halves: Any, unit: str) -> dict[str, Any]:
    """The variables of a recording."""
    dims, shape = ("condition", "time", "neuron"), (values.shape[0], values.shape[2])
    number = _numbers(1 if n_trials is None else _in_order(n_trials, dims[::2], "n_trials"), shape, "n_trials")
    data: dict[str, Any] = {
        "rate": (dims, values.astype(np.float32), {"units": unit}),
        "n_trials": (("condition", "neuron"), number, {"units": "1"}),
    }
    if halves is None:
        _refuse({"n_trials_half": n_halves}, "means over halves, and rate_half is missing")
        return data
    half = as_numbers(_in_order(halves, ("half", *dims), "rate_half"))
    if half is None or half.shape != (2, *values.shape):
        found = "holds no numbers" if half is None else f"has shape {half.shape}"
        raise ContractError(
            f"rate_half {found}. It needs (2, condition, time, neuron): {(2, *values.shape)}. Change it."
        )
    numbers = np.stack([number - number // 2, number // 2])
    if n_halves is not None:
        n_halves = _in_order(n_halves, ("half", *dims[::2]), "n_trials_half")
        numbers = _numbers(n_halves, (2, *shape), "n_trials_half")
    data["rate_half"] = (("half", *dims), half.astype(np.float32), {"units": unit})
    data["n_trials_half"] = (("half", "condition", "neuron"), numbers, {"units": "1"})
    return data


def _numbers(given: Any, shape: tuple[int, ...], name: str) -> Array:
    """Numbers of trials by condition and neuron, from one for all, one for each condition, or all of them."""
    values = np.asarray(given)
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and (values == np.round(values)).all())
    spread = values if values.ndim in (0, len(shape)) else values[..., None]
    if not whole or (values < 0).any() or spread.shape not in ((), shape, (*shape[:-1], 1)):
        raise ContractError(
            f"{name} has shape {values.shape}. It needs whole numbers of shape {shape[:-1]} or {shape}. Change it."
        )
    return np.broadcast_to(spread, shape).astype(np.int64)


def _averaged(trials: xr.Dataset, reading: dict[str, Any]) -> xr.Dataset:
    """The means over trials, as `read_conditions` computes them from the same bins."""
    session, attrs = session_of(trials), trials.attrs
    align = attrs["align"] if attrs["align"] in session.trials else EVENT
    reading |= {"align": align, "window_s": attrs["window_s"], "bin_s": attrs["bin_s"]}
    if "count" in trials:
        spikes = session.spikes._replace(
            ids=trials["neuron"].values, columns={k: v for k, v in session.spikes.columns.items() if k != "unit_name"}
        )
        found = of_spikes(spikes, session.trials, session.observed, reading, "from_arrays")
    else:
        columns = {str(n): c.values for n, c in trials.coords.items() if c.dims == ("neuron",) and n != "neuron"}
        labels, samples = trials["neuron"].values, session.series["rate"]
        found = of_samples(samples, labels, columns, session.trials, reading, "from_arrays")
    return found.assign_coords(time=trials["time"]).assign_attrs(align=attrs["align"])
