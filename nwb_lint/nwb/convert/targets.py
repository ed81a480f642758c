"""Our Datasets → what other packages take: `to_pandas`, `to_datatree`, `to_pynapple`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_dataset, check_fit, check_result
from nwb_lint.contract.columns import columns_of, find_column
from nwb_lint.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

_ROWS = ("condition", "trial")
_MAIN = ("latent", "rate", "activity", "count")  # what a Dataset is of, in this order
_FIT = "fit"  # the name of the fit in a tree


def to_pandas(dataset: xr.Dataset | xr.DataArray) -> dict[str, pd.DataFrame]:
    """Make tables of a Dataset: one for all variables with the same dims.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
        A recording, trials, an activity, a fit or a result.

    Returns
    -------
    dict of str to pandas.DataFrame
        By the dims, such as ``"neuron_rank"``: a row for each combination, and as columns the dims, their coordinates
        and the variables. Dims without labels are numbered. Single values are in ``""``.

    Raises
    ------
    ContractError
        If the argument is anything else.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> tables = to_pandas(mock_fit())
    >>> tables["neuron_rank"].columns.tolist()
    ['neuron', 'rank', 'recorded', 'm', 'n']
    """
    if isinstance(dataset, xr.DataArray):
        column = str(dataset.name) if dataset.name and dataset.name not in dataset.dims else "value"
        dataset = dataset.drop_vars(column, errors="ignore").to_dataset(name=column)  # a column is its own coordinate
    check_dataset(dataset, "dataset", "Pass a Dataset of this package")
    of_dims: dict[tuple[str, ...], list[str]] = {}
    for name, variable in dataset.data_vars.items():
        of_dims.setdefault(tuple(map(str, variable.dims)), []).append(str(name))
    return {"_".join(dims): _table(dataset[names], dims) for dims, names in of_dims.items()}


def _table(part: xr.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    """The table of variables that share their dims."""
    if not dims:
        import pandas as pd

        return pd.DataFrame({str(name): [one.values[()]] for name, one in part.data_vars.items()})
    plain = [name for name, one in part.coords.items() if not set(one.dims) <= set(dims) or not one.dims]
    table = part.drop_vars(plain).to_dataframe(dim_order=list(dims)).reset_index()
    first = [*dims, *(str(name) for name in part.coords if name in table.columns and name not in dims)]
    return table[[*first, *map(str, part.data_vars)]]


def to_datatree(fit: xr.Dataset, results: Mapping[str, xr.Dataset] | None = None) -> xr.DataTree:
    """Make one tree of a fit and its results.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, `fit_trials` or `read_fit`.
    results : mapping of str to xarray.Dataset, or None, default=None
        Results of the fit, by name.

    Returns
    -------
    xarray.DataTree
        ``tree["fit"]``, and a node for each result under its name.

    Raises
    ------
    ContractError
        If one is no fit or result, or a result is called ``fit``.

    Examples
    --------
    >>> from nwb_lint import connectivity
    >>> from nwb_lint.testing import mock_fit
    >>> fit = mock_fit()
    >>> sorted(to_datatree(fit, {"my J": connectivity(fit)}).children)
    ['fit', 'my J']
    """
    check_fit(fit)
    if results is not None and not isinstance(results, Mapping):
        raise ContractError(
            f"results is a {type(results).__name__}. It needs to be a dict of results by name. Pass one."
        )
    for name, result in (results or {}).items():
        check_result(result)
        if name == _FIT or "/" in name:
            raise ContractError(f"A result is called {name!r}. That is no free name in the tree. Pass another name.")
    return xr.DataTree.from_dict({_FIT: fit} | dict(results or {}))


def to_pynapple(
    dataset: xr.Dataset | xr.DataArray, variable: str | None = None, *, clock: str = "event", tensor: bool = False
) -> Any:
    """Make a time series of pynapple of latents, rates, counts or activity.

    Needs the extra ``pynapple``.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
        Anything with a variable of dims (condition or trial, time, rank or neuron): a fit, latents, a recording,
        trials, an activity, predicted rates.
    variable : str or None, default=None
        The variable. None takes the first of ``latent``, ``rate``, ``activity``, ``count`` that is there.
    clock : {"event", "session"}, default="event"
        "event": times are relative to time 0 of the Dataset, and each condition or trial has columns of its own.
        "session": the samples of all trials one after the other, on the clock of the session. This needs single trials
        that are aligned to a column of times, and windows that do not overlap.
    tensor : bool, default=False
        Whether to keep conditions and neurons as two dims, in a TsdTensor, which has no metadata.

    Returns
    -------
    pynapple.TsdFrame or pynapple.TsdTensor
        A TsdFrame. Its metadata are the labels and columns of conditions, and those of latents or neurons; with
        ``clock="session"`` the columns of trials are metadata of its time support. With ``tensor``, a TsdTensor of
        shape (time, condition or trial, rank or neuron).

    Raises
    ------
    ContractError
        If there is no such variable, or the clock of the session is not known.

    Examples
    --------
    >>> from nwb_lint.testing import mock_recording
    >>> to_pynapple(mock_recording()).shape, to_pynapple(mock_recording(), tensor=True).shape
    ((40, 96), (40, 8, 12))
    """
    try:
        import pynapple as nap
    except ImportError as error:
        raise ContractError(
            "pynapple is not installed. to_pynapple needs it. pip install 'nwb_lint[pynapple]'."
        ) from error
    if clock not in ("event", "session"):
        raise ContractError(f"clock is {clock!r}. It needs 'event' or 'session'. Change it.")
    values, row, last = _series_of(dataset, variable)
    array: Array = values.transpose("time", row, last).values
    times = values["time"].values.astype(float)
    if tensor:
        if clock == "session":
            raise ContractError("tensor has dims of trials, and clock='session' has none. Leave one of them out.")
        return nap.TsdTensor(t=times, d=array)
    if clock == "session":
        return _on_session_clock(nap, values, dataset.attrs, row, last)
    of_rows, of_last = (_metadata(values, dim) for dim in (row, last))
    n, k = values.sizes[row], values.sizes[last]
    columns = {name: np.repeat(one, k) for name, one in of_rows.items()}
    columns |= {f"{last}_{name}" if name in columns else name: np.tile(one, n) for name, one in of_last.items()}
    labels = [f"{one} | {two}" for one in of_rows[row].tolist() for two in of_last[last].tolist()]
    return nap.TsdFrame(t=times, d=array.reshape(len(times), n * k), columns=labels, metadata=_free(columns))


def _series_of(dataset: xr.Dataset | xr.DataArray, variable: str | None) -> tuple[xr.DataArray, str, str]:
    """The variable, the dim of its conditions or trials, and that of its latents or neurons."""
    if isinstance(dataset, xr.DataArray):
        values = dataset
    else:
        check_dataset(dataset, "dataset", "Pass a Dataset of this package")
        name = variable or next((one for one in _MAIN if one in dataset.data_vars), None)
        if name is None or name not in dataset.data_vars:
            found = ", ".join(map(str, dataset.data_vars)) or "no variables"
            raise ContractError(f"The Dataset has no {name or ', '.join(_MAIN)}. It has {found}. Pass variable=.")
        values = dataset[name]
    row = next((dim for dim in _ROWS if dim in values.dims), None)
    others = [str(dim) for dim in values.dims if dim not in (row, "time")]
    if row is None or "time" not in values.dims or len(others) != 1:
        raise ContractError(
            f"{values.name} has dims {tuple(values.dims)}. A time series needs (condition or trial, time, and one "
            "more). Pass another variable=."
        )
    return values, row, others[0]


def _metadata(values: xr.DataArray, dim: str) -> dict[str, Array]:
    """Labels and columns of a dim, numbers where it has no labels."""
    labels = values[dim].values if dim in values.coords else np.arange(values.sizes[dim])
    columns = {name: one.values for name, one in columns_of(values, dim).items() if one.dtype.kind in "biufUOT"}
    return {dim: labels} | columns


# Names that pynapple has for itself in metadata.
_TAKEN = ("rate", "start", "end", "time", "t", "d", "values", "columns", "index", "shape", "data")


def _free(columns: dict[str, Array]) -> dict[str, Array]:
    """Metadata under names that pynapple takes: identifiers that it does not use itself."""
    names = {name: "".join(one if one.isalnum() else "_" for one in name) for name in columns}
    return {f"{names[name]}_" if names[name] in _TAKEN else names[name]: one for name, one in columns.items()}


def _on_session_clock(nap: Any, values: xr.DataArray, attrs: Mapping[Any, Any], row: str, last: str) -> Any:
    """A TsdFrame with the samples of all trials one after the other."""
    name = str(attrs.get("align", values.attrs.get("align", "")))
    column = find_column(values, name, row) if name else None
    if column is None or column.dtype.kind != "f" or "warp" in attrs or "trial_session" in values.coords:
        raise ContractError(
            f"The time 0 of each trial on the clock of the session is not known (align is {name!r}). It needs to be a "
            "column of times of single trials of one session. Use clock='event'."
        )
    centers, origins = values["time"].values.astype(float), column.values.astype(float)
    bin_s = float(attrs.get("bin_s") or np.median(np.diff(centers)))
    order = np.argsort(origins, kind="stable")
    start, stop = origins[order] + centers[0] - bin_s / 2, origins[order] + centers[-1] + bin_s / 2
    if (start[1:] < stop[:-1] - 1e-9).any():
        raise ContractError(
            "Windows of different trials overlap on the clock of the session. Each sample needs one place. Use "
            "clock='event'."
        )
    of_rows = _free({key: one[order] for key, one in _metadata(values, row).items()})
    support = nap.IntervalSet(start, np.minimum(stop, np.append(start[1:], np.inf)), metadata=of_rows)
    array: Array = values.transpose(row, "time", last).values[order]
    of_last = _metadata(values, last)
    labels = of_last.pop(last)
    times = (origins[order][:, None] + centers).ravel()
    flat = array.reshape(len(times), -1)
    return nap.TsdFrame(t=times, d=flat, columns=labels, time_support=support, metadata=_free(of_last) or None)
