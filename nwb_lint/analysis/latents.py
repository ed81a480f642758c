"""Latents of model and data: what runs along m, what the inputs add, and activity on the fitted axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from nwb_lint.contract import check_activity, check_fit, check_result, coords_along, input_names, named_inputs
from nwb_lint.errors import ContractError
from nwb_lint.model.data import unmasked
from nwb_lint.model.initial_conditions import matched
from nwb_lint.model.network import Array, effective_n
from nwb_lint.model.simulate import simulate
from nwb_lint.parallel.warnings import warn

VECTORS = ("m", "input_weights", "n")


def latents(fit: xr.Dataset, activity: xr.Dataset) -> xr.Dataset:
    """Latents kappa and filtered inputs v of the model's free run, and the latents of the data.

    x = m kappa + I v (+ bias and initial activation). The model's are exact. v follows from the inputs, so that the
    data's v is the model's: what it adds is taken off, and kappa solves the least squares of the rest on m at every
    time, over the neurons observed there (not NaN, nor False in ``mask``). NaN where fewer of them than ranks are.

    Args:
        fit: from `fit_lint`, with a rank. activity: what to project, with its input; neurons matched by label.

    Returns: a result of kind "latents": latent, latent_data (condition, time, rank); filtered_input (condition, time,
        input), dimensionless.

    Raises: ContractError for a rank=None fit or neurons that the fit does not have.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Example:
        >>> from nwb_lint.testing import mock_activity, mock_fit
        >>> latents(mock_fit(), mock_activity())["latent_data"].dims
        ('condition', 'time', 'rank')
    """
    check_low_rank(fit)
    check_activity(activity)
    activity = matched(fit, unmasked(activity))
    index = positions(fit, activity)
    warn_of_scale(fit, activity, index)
    run = simulate(fit, activity)
    before = activity.sizes.get("burn_in", 0)
    found = _along_m(fit.isel(neuron=index), activity["activity"].values, run["filtered_input"].values, before)
    out = xr.Dataset(coords=coords_along(activity, "condition", "time"), attrs={"kind": "latents"})
    for name in ("latent", "filtered_input"):
        out[name] = run[name].dims, run[name].values
    out["latent_data"] = run["latent"].dims, found.astype(np.float32)
    out = out.assign_coords(named_inputs(activity))
    check_result(out, "latents")
    return out


def check_low_rank(fit: xr.Dataset) -> None:
    """Raise ContractError unless the Dataset is a fit that has latents."""
    check_fit(fit)
    if "m" not in fit:
        raise ContractError("the fit has J and no m (rank=None), so it has no latents; fit it with a rank.")


def positions(fit: xr.Dataset, activity: xr.Dataset) -> Array:
    """Where the neurons of an activity are among those of the fit."""
    index = fit.indexes["neuron"].get_indexer(activity["neuron"].values)
    if (index < 0).any():
        raise ContractError(
            f"{int((index < 0).sum())} neurons of the activity are not in the fit; give the fitted ones."
        )
    return index


def warn_of_scale(fit: xr.Dataset, activity: xr.Dataset, index: Array) -> None:
    """Warn where the activity is in other units than the fit's, neuron by neuron."""
    if "scale" not in fit or "scale" not in activity:
        return
    own, other = fit["scale"].values[index], activity["scale"].values
    if not np.allclose(own, other, rtol=1e-3):
        k = int(np.abs(other / own - 1).argmax())
        warn(
            f"the activity has {other[k]:.3g} Hz per unit where the fit has {own[k]:.3g} (neuron "
            f"{fit['neuron'].values[index[k]]}), so they are not comparable; prepare both with one scale, scale=… Hz.",
        )


def data_latents(fit: xr.Dataset, activity: xr.Dataset) -> Array:
    """Latents of the activity that was fitted, (condition, time, rank), as `latents` has them, without another run.

    Neurons count where the fit has them recorded; conditions come in the order of the fit.

    Raises: ContractError where conditions, times or neurons of ``activity`` are not the fit's.
    """
    seen = [label for label in fit["neuron"].values if label in set(activity["neuron"].values.tolist())]
    same = activity.sizes["time"] == fit.sizes["time"] and np.allclose(activity["time"], fit["time"])
    if not seen or not same or activity.sizes["condition"] != fit.sizes["condition"]:
        raise ContractError(
            f"activity has {dict(activity.sizes)} and shares {len(seen)} neurons with the fit of "
            f"{dict(fit.sizes)}; both need the same conditions and times. Give the activity that was fitted."
        )
    activity = unmasked(activity)
    labeled = "condition" in activity.indexes and "condition" in fit.indexes
    if labeled and not activity.indexes["condition"].equals(fit.indexes["condition"]):
        activity = activity.sel(condition=fit["condition"].values)
    y = activity["activity"].sel(neuron=seen).transpose("condition", "time", "neuron").values
    filtered = fit["filtered_input"].transpose("condition", "time", "input").values
    return _along_m(fit.sel(neuron=seen), y, filtered, fit.sizes.get("burn_in", 0))


def _along_m(fit: xr.Dataset, y: Array, filtered: Array, before: int) -> Array:
    """Least squares on m of what filtered inputs, bias and initial activation leave of y, over what is observed."""
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    decay = ((1 - alpha) ** (before + np.arange(y.shape[1])))[:, None]
    left = y.astype(float) - decay * fit["initial_activation"].values - (1 - decay) * fit["bias"].values
    left = left - filtered @ fit["input_weights"].transpose("input", "neuron").values
    m = fit["m"].transpose("neuron", "rank").values
    flat = left.reshape(-1, left.shape[2])
    out = np.full((len(flat), m.shape[1]), np.nan)
    patterns, which = np.unique(np.isfinite(flat), axis=0, return_inverse=True)
    for k, seen in enumerate(patterns):
        if seen.sum() >= m.shape[1]:
            rows = which.ravel() == k
            out[rows] = flat[rows][:, seen] @ np.linalg.pinv(m[seen]).T
    return out.reshape(*left.shape[:2], -1)


def project(
    fit: xr.Dataset,
    activity: xr.Dataset,
    *,
    order: Sequence[str] | None = None,
    orthogonal: bool = True,
) -> xr.Dataset:
    """Activity on the fitted axes, and the share of its variance along each.

    Axes are columns of length 1 over the neurons that the activity observes throughout. ``orthogonal``: each axis is
    what those before it leave of its column (QR in the stated order), so that the shares add up; else the columns as
    they are, and shares of axes that overlap count the same variance twice. variance_explained = Σ (a' (x - mean))² /
    Σ |x - mean|², over conditions and times, mean by neuron.

    Args:
        activity: any, its neurons matched by label: the data, a run (`simulate`), another condition or session.
        order: vectors of the fit ("m", "input_weights", "n": its effective part, see `connectivity`), the first taken
            first, their columns in turn. None = m, where the fit has it, and input_weights.

    Returns: projection (condition, time, axis_name), of x itself; axis (axis_name, neuron); variance_explained
        (axis_name); overlap, angle_deg (axis_name, axis_other). Axes that others before them span are NaN.

    Raises: ContractError for an unknown vector, or neurons that the fit does not have.

    Example:
        >>> from nwb_lint.testing import mock_activity, mock_fit
        >>> project(mock_fit(), mock_activity())["axis_name"].values.tolist()
        ['m 1', 'I stimulus']
    """
    check_fit(fit)
    x, kept = observed(fit, activity)
    order = [name for name in ("m", "input_weights") if name in fit] if order is None else order
    names, columns = vectors_of(fit, order)
    axes = unit(columns[kept])
    out = axes_dataset(names, orthogonalized(axes) if orthogonal else axes, x)
    out = out.assign_coords(coords_along(fit.isel(neuron=kept), "neuron"))
    out["projection"] = ("condition", "time", "axis_name"), x @ out["axis"].values.T
    out = out.assign_coords(coords_along(activity, "condition", "time"))
    out.attrs |= {"orthogonal": int(orthogonal), "order": list(order)}
    check_result(out, "axes")
    return out


def observed(fit: xr.Dataset, activity: xr.Dataset) -> tuple[Array, Array]:
    """Activity (condition, time, neuron) of the neurons observed throughout, and their positions in the fit."""
    if "activity" not in activity or set(activity["activity"].dims) != {"condition", "time", "neuron"}:
        raise ContractError(
            "there is no activity (condition, time, neuron) in the Dataset. Call prepare(recording, ...)."
        )
    index = positions(fit, activity)
    y = unmasked(activity)["activity"].transpose("condition", "time", "neuron").values.astype(float)
    whole = np.isfinite(y).all(axis=(0, 1))
    if not whole.any():
        raise ContractError("no neuron is observed in every condition and time; leave some conditions out.")
    return y[..., whole], index[whole]


def vectors_of(fit: xr.Dataset, order: Sequence[str]) -> tuple[list[str], Array]:
    """Names and columns (neuron, axis) of the fit's vectors in this order; of n the effective part."""
    there = [name for name in VECTORS if name in fit]
    if not order or isinstance(order, str) or not set(order) <= set(there):
        raise ContractError(f"order is {order!r}; it needs some of {', '.join(there)}, which the fit has.")
    names, columns = [], []
    for name in order:
        columns.append(fit[name].values)
        if name == "n":
            columns[-1] = effective_n(fit["m"].values, fit["n"].values, fit["input_weights"].values)
        ends = input_names(fit) if name == "input_weights" else [str(k + 1) for k in range(fit.sizes["rank"])]
        names += [f"{'I' if name == 'input_weights' else name} {end}" for end in ends]
    return names, np.column_stack(columns)


def unit(columns: Array) -> Array:
    """Columns of length 1; NaN for one that is 0."""
    length = np.linalg.norm(columns, axis=0)
    return columns / np.where(length > 0, length, np.nan)


def orthogonalized(columns: Array) -> Array:
    """QR: each column less those before it, with its own sign; NaN where they leave nothing."""
    q, r = np.linalg.qr(np.nan_to_num(columns))
    left = np.diag(r)
    out = np.full(columns.shape, np.nan)
    out[:, : q.shape[1]] = q * np.where(np.abs(left) > 1e-9, np.sign(left), np.nan)
    return out


def axes_dataset(names: list[str], axes: Array, x: Array) -> xr.Dataset:
    """A result of kind "axes" from unit columns (neuron, axis): overlaps, angles, shares of the variance of x."""
    centered = (x - x.mean(axis=(0, 1))).reshape(-1, x.shape[2])
    total = float((centered**2).sum())
    if total <= 0:
        raise ContractError("the activity does not vary over conditions or time, so there is no variance to explain.")
    overlap = axes.T @ axes
    out = xr.Dataset(coords={"axis_name": names, "axis_other": names}, attrs={"kind": "axes"})
    out["axis"] = ("axis_name", "neuron"), axes.T
    out["overlap"] = ("axis_name", "axis_other"), overlap
    angle = np.degrees(np.arccos(np.minimum(np.abs(overlap), 1)))
    out["angle_deg"] = ("axis_name", "axis_other"), angle, {"units": "degrees"}
    out["variance_explained"] = ("axis_name",), ((centered @ axes) ** 2).sum(axis=0) / total
    return out
