"""Axes found in the data (regression, principal components) beside those of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import axes_dataset, observed, orthogonalized, unit, vectors_of
from nwb_lint.analysis.mtdr import axes_of, choose_dims, fit_mtdr, moments_of
from nwb_lint.contract import check_fit, check_result, coords_along, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array


def compare_axes(
    fit: xr.Dataset,
    activity: xr.Dataset,
    *,
    variables: Sequence[str] | None = None,
    n_components: int = 12,
    orthogonal: bool = True,
    mtdr_dims: int | str = "aic",
) -> xr.Dataset:
    """Angles between the fitted m, n, I and axes that need no network: targeted dimensionality reduction by regression
    and by a model (mTDR), and PCA.

    Regression axes: activity[c, t, i] = Σ_v β_v[t, i] z_v[c] + β_0[t, i], least squares over conditions at every time,
    z_v the variable with mean 0 and variance 1; β_v[t] projected on the leading ``n_components`` principal components
    (over conditions and times, mean by neuron removed); of its times the one of the largest norm; axes orthogonalized
    by QR in the order of ``variables``. Model-based axes: β_v[t, i] = Σ_k W_v[i, k] s_v[t, k] of low rank, W and a
    noise variance per neuron by maximum likelihood with s ~ N(0, 1) integrated out; the directions of W_v, those of
    largest β_v first. Names: "tdr variable", "mtdr variable k", "pc k", "m k", "n k" (the effective part, see
    `connectivity`), "I input".

    Args:
        activity: what was fitted, or other activity of its neurons, with the columns on ``condition``. Neurons with NaN
            are left out of every axis.
        variables: columns of the conditions: numbers, or text of two levels (-1 and 1 in their order). None = all such
            columns that vary.
        n_components: that de-noise; as many as there are ranks and inputs are compared.
        orthogonal: regression axes orthogonalized, as published, or as found.
        mtdr_dims: dims of each variable in the model; "aic" = added one at a time while Akaike's criterion falls, which
            takes bins for independent, so that smoothed activity gets more; 0 = no model.

    Returns: axis (axis_name, neuron), of length 1; overlap (cosines) and angle_deg in 0–90° (axis_name, axis_other);
        variance_explained (axis_name), of the activity; coordinate axis_time_s (axis_name), of the regression axes.
        A fit of rank=None has no m and n.

    Raises: ContractError for a column that is not there, constant, of more than two texts, or collinear with others.

    Source: Mante, Sussillo, Shenoy & Newsome, Nature 2013, supplement 6; Aoi, Mante & Pillow, Nature Neuroscience 2020
    (model-based; here a mean over conditions of any course stands for its unconditioned part).

    Example:
        >>> from nwb_lint.testing import mock_activity, mock_fit
        >>> angles = compare_axes(mock_fit(), mock_activity())["angle_deg"]
        >>> bool(angles.sel(axis_name="tdr stimulus", axis_other="pc 1") < 10)
        True
    """
    check_fit(fit)
    x, kept = observed(fit, activity)
    if not isinstance(n_components, int | np.integer) or n_components < 1:
        raise ContractError(f"n_components is {n_components!r}; it needs a whole number from 1 on.")
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
    out = out.assign_coords(coords_along(fit.isel(neuron=kept), "neuron"))
    out = out.assign_coords(axis_time_s=("axis_name", times, {"units": "s"}))
    out.attrs |= {"variables": chosen, "n_components": int(n_components), "orthogonal": int(orthogonal)}
    out.attrs["mtdr_dims"] = [sum(one.startswith(f"mtdr {name} ") for one in labels) for name in chosen]
    check_result(out, "axes")
    return out


def _model_axes(x: Array, z: Array, names: list[str], dims: int | str) -> list[tuple[str, Array]]:
    """Names and axes of model-based targeted dimensionality reduction, in the order of the variables."""
    most = min(x.shape[1:])
    if dims != "aic" and (isinstance(dims, bool | str) or dims != int(dims) or not 0 <= dims <= most):
        raise ContractError(f"mtdr_dims is {dims!r}; it needs 'aic' or a whole number from 0 to {most}.")
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
    """Principal components (neuron, pc) over conditions and times; the entry of largest size positive."""
    centered = (x - x.mean(axis=(0, 1))).reshape(-1, x.shape[2])
    _, s, vt = np.linalg.svd(centered, full_matrices=False)
    vt = vt[s > 1e-10 * s.max(initial=0)]
    sign = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)])
    return (vt * sign[:, None]).T


def _regressors(activity: xr.Dataset, variables: Sequence[str] | None) -> tuple[list[str], Array]:
    """Names and standardized values (condition, variable)."""
    there = [name for name in coords_along(activity, "condition") if name not in ("condition", "held_out")]
    if isinstance(variables, str):
        raise ContractError(f"variables is {variables!r}; it needs a list of columns, [{variables!r}].")
    chosen, columns = [], []
    for name in there if variables is None else variables:
        if name not in there:
            raise ContractError(f"conditions have no column {name!r}; they have {', '.join(there) or 'none'}.")
        values = activity[name].values
        if values.dtype.kind in "OUT":
            whole = not missing_in(values).any()
            levels, values = np.unique(values.astype(str), return_inverse=True)
            usable, what = whole and len(levels) == 2, f"{len(levels)} texts" if whole else "empty texts"
        else:
            values = values.astype(float)
            usable, what = (
                bool(np.isfinite(values).all() and np.ptp(values) > 0),
                "one value, or some that are not finite",
            )
        if usable:
            chosen.append(str(name))
            columns.append((values - values.mean()) / values.std())
        elif variables is not None:
            raise ContractError(f"{name} has {what}; a regression needs numbers that vary, or two texts.")
    if not chosen:
        raise ContractError(f"no column to regress on was found; conditions have {', '.join(there) or 'none'}.")
    z = np.column_stack(columns)
    if np.linalg.matrix_rank(np.column_stack([z, np.ones(len(z))])) <= z.shape[1]:
        raise ContractError(f"{', '.join(chosen)} are collinear over {len(z)} conditions; name fewer in variables.")
    return chosen, z


def _regression_axes(x: Array, z: Array, pcs: Array) -> tuple[Array, Array]:
    """De-noised regression axes (neuron, variable) of length 1, and the positions of their times."""
    design = np.column_stack([z, np.ones(len(z))])
    flat = np.linalg.lstsq(design, x.reshape(len(x), -1), rcond=None)[0][:-1]
    beta = flat.reshape(z.shape[1], *x.shape[1:]) @ pcs @ pcs.T
    when = np.linalg.norm(beta, axis=2).argmax(axis=1)
    return unit(beta[np.arange(len(beta)), when].T), when
