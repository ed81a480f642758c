"""Axes found in the data, by regression and by principal components, compared with the axes of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import axes_dataset, data_of, observed, orthogonalized, unit, vectors_of
from nwb_lint.analysis.mtdr import axes_of, choose_dims, fit_mtdr, moments_of
from nwb_lint.contract.checks import check_fit, check_result
from nwb_lint.contract.columns import columns_of, coords_along, find_column
from nwb_lint.contract.values import missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, column_signs
from nwb_lint.options.analyses import AxesOptions
from nwb_lint.options.checks import validated


@validated(AxesOptions)
def compare_axes(
    fit: xr.Dataset,
    activity: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    n_components: int = 12,
    orthogonal: bool = True,
    mtdr_dims: int | str = "aic",
) -> xr.Dataset:
    """Angles between the axes of a fit (m, n, I) and axes that need no network.

    Three methods find axes in the data.

    Regression (targeted dimensionality reduction): activity[c, t, i] = Σ_v β_v[t, i] z_v[c] + β_0[t, i], by least
    squares over conditions at every time. z_v is the variable v with mean 0 and variance 1. β_v[t] is projected on the
    leading principal components. The axis is β_v at the time where its norm is largest.

    A model of the regression weights (mTDR): β_v[t, i] = Σ_k W_v[i, k] s_v[t, k] is of low rank. W and a noise variance
    for each neuron maximize the likelihood with s ~ N(0, 1) integrated out. The axes are the directions of W_v, in
    falling order of the size of β_v along them.

    Principal components of the activity, over conditions and times, with the mean of each neuron removed.

    Axes are named "tdr variable", "mtdr variable k", "pc k", "m k", "n k" and "I input". n is its effective part, as in
    `connectivity`.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`. A fit with ``rank=None`` has no m and n.
    activity : xarray.Dataset
        The fitted activity, or other activity of these neurons: ``activity (condition, time, neuron)``, dimensionless,
        with columns on ``condition``. Neurons with a NaN are left out of every axis.
    variables : sequence of str or None, default=None
        Columns of the conditions to regress on: numbers, or texts of two values. The values count as -1 and 1 in their
        order. None takes all such columns that vary.
    n_components : int, default=12
        Number of principal components that β_v is projected on. As many as the fit has ranks and inputs are compared.
    orthogonal : bool, default=True
        Make the regression axes orthogonal by QR in the order of ``variables``, as published.
    mtdr_dims : int or str, default="aic"
        Number of model axes of each variable. "aic" adds one at a time while Akaike's criterion falls. The criterion
        takes bins as independent, so smooth activity gets more axes. 0 fits no model.

    Returns
    -------
    xarray.Dataset
        Kind "axes": ``axis (axis_name, neuron)`` of length 1; ``overlap`` (cosines) and ``angle_deg (axis_name,
        axis_other)``, 0 to 90 degrees; ``variance_explained (axis_name)``, a share of the activity. The coordinate
        ``axis_time_s (axis_name)`` has the times of the regression axes, s.

    Raises
    ------
    ContractError
        If a variable is not a column, does not vary, has more than two texts, or is collinear with others.

    References
    ----------
    Mante, Sussillo, Shenoy & Newsome, Nature 2013, supplement 6 (regression).
    Aoi, Mante & Pillow, Nature Neuroscience 2020 (model). Here the mean over conditions has a free time course.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> angles = compare_axes(mock_fit(), mock_activity())["angle_deg"]
    >>> bool(angles.sel(axis_name="tdr stimulus", axis_other="pc 1") < 10)
    True
    """
    check_fit(fit)
    activity = data_of(fit, activity)
    x, kept = observed(fit, activity)
    names, columns = vectors_of(fit, ("m", "input_weights", "n") if "m" in fit else ("input_weights",))
    pcs = _components(x)[:, :n_components]
    chosen, z = _regressors(activity, variables)
    tdr, when = _regression_axes(x, z, pcs)
    if orthogonal:
        tdr = orthogonalized(tdr)
    labeled = [(f"tdr {name}", axis) for name, axis in zip(chosen, tdr.T, strict=True)]
    labeled += _model_axes(x, z, chosen, mtdr_dims)
    shown = pcs[:, : fit.sizes.get("rank", 0) + fit.sizes["input"]]
    labeled += [(f"pc {k + 1}", axis) for k, axis in enumerate(shown.T)]
    labels = [*names, *(label for label, _ in labeled)]
    out = axes_dataset(labels, np.column_stack([unit(columns[kept]), *(axis for _, axis in labeled)]), x)
    times = np.full(len(labels), np.nan)
    times[len(names) : len(names) + len(chosen)] = activity["time"].values[when]
    out = out.assign_coords(coords_along(fit.isel(neuron=kept), "neuron", kind="axes"))
    out = out.assign_coords(axis_time_s=("axis_name", times, {"units": "s"}))
    out.attrs |= {"variables": chosen, "n_components": int(n_components), "orthogonal": int(orthogonal)}
    out.attrs["mtdr_dims"] = [sum(one.startswith(f"mtdr {name} ") for one in labels) for name in chosen]
    check_result(out, "axes")
    return out


def _model_axes(x: Array, z: Array, names: list[str], dims: int | str) -> list[tuple[str, Array]]:
    """Names and axes of the model of the regression weights, in the order of the variables."""
    most = min(x.shape[1:])
    if isinstance(dims, int) and dims > most:
        raise ContractError(f"mtdr_dims is {dims!r}. It needs 'aic' or a whole number from 0 to {most}.")
    if dims == 0:
        return []
    moments = moments_of(x, z)
    model = choose_dims(moments) if dims == "aic" else fit_mtdr(moments, np.full(len(names), int(dims)))
    return [
        (f"mtdr {name} {k + 1}", axis)
        for name, axes in zip(names, axes_of(model), strict=True)
        for k, axis in enumerate(axes.T)
    ]


def _components(x: Array) -> Array:
    """Principal components (neuron, pc) over conditions and times, with the signs of `column_signs`."""
    centered = (x - x.mean(axis=(0, 1))).reshape(-1, x.shape[2])
    _, s, vt = np.linalg.svd(centered, full_matrices=False)
    components = vt[s > 1e-10 * s.max(initial=0)].T
    return components * column_signs(components)


def _regressors(activity: xr.Dataset, variables: Sequence[str] | None) -> tuple[list[str], Array]:
    """Names and standardized values (condition, variable) of the variables."""
    there = [name for name in columns_of(activity, "condition") if name != "held_out"]
    chosen, columns = [], []
    for name in there if variables is None else variables:
        column = find_column(activity, str(name), "condition")
        if column is None:
            raise ContractError(f"Conditions have no column {name!r}. Choose from {', '.join(there) or 'none'}.")
        values, problem = _numbers(column.values)
        if not problem:
            chosen.append(str(name))
            columns.append((values - values.mean()) / values.std())
        elif variables is not None:
            raise ContractError(f"{name} has {problem}. A regression needs numbers that vary, or two texts.")
    if not chosen:
        raise ContractError(
            f"No column of numbers that vary, or of two texts, was found. There are {', '.join(there) or 'none'}. "
            "Add a column to the conditions."
        )
    z = np.column_stack(columns)
    if np.linalg.matrix_rank(np.column_stack([z, np.ones(len(z))])) <= z.shape[1]:
        raise ContractError(f"{', '.join(chosen)} are collinear over {len(z)} conditions. Name fewer in variables.")
    return chosen, z


def _numbers(values: Array) -> tuple[Array, str]:
    """A column as numbers, two texts as 0 and 1, and what keeps it from a regression ("" for nothing)."""
    if values.dtype.kind in "OUT":
        missing = missing_in(values).any()
        levels, values = np.unique(values.astype(str), return_inverse=True)
        return values, "missing values" if missing else "" if len(levels) == 2 else f"{len(levels)} texts"
    values = values.astype(float)
    usable = np.isfinite(values).all() and np.ptp(values) > 0
    return values, "" if usable else "one value, or values that are not finite"


def _regression_axes(x: Array, z: Array, pcs: Array) -> tuple[Array, Array]:
    """Regression axes (neuron, variable) of length 1, and the positions of their times."""
    design = np.column_stack([z, np.ones(len(z))])
    flat = np.linalg.lstsq(design, x.reshape(len(x), -1), rcond=None)[0][:-1]
    beta = flat.reshape(z.shape[1], *x.shape[1:]) @ pcs @ pcs.T
    when = np.linalg.norm(beta, axis=2).argmax(axis=1)
    return unit(beta[np.arange(len(beta)), when].T), when
