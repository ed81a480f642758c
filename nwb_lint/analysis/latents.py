"""Latents of the model and of the data, and activity on the axes of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity, check_fit, check_result
from nwb_lint.contract.columns import coords_along, input_names, named_inputs, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of, effective_n_of
from nwb_lint.model.data import unmasked
from nwb_lint.model.initial_conditions import matched
from nwb_lint.model.network import Array
from nwb_lint.model.simulate import network_of, simulate
from nwb_lint.options.analyses import ProjectOptions
from nwb_lint.options.checks import validated
from nwb_lint.parallel.warnings import warn
from nwb_lint.statespace.inference import posterior_activity

VECTORS = ("m", "input_weights", "n")


@validated()
def latents(fit: xr.Dataset, activity: xr.Dataset) -> xr.Dataset:
    """Latents κ of the free run of a fit, and latents of the data.

    x = m κ + I v, plus bias and initial activation. The latents and the filtered inputs v of the free run are exact. v
    depends on the inputs alone, so the data have the same v. Their κ is the least-squares solution of what remains, on
    m, at every time, over the neurons that are observed there. It is NaN where fewer neurons than ranks are observed.

    With hidden units, m of the recorded neurons is often nearly collinear. κ of the data is then the most probable one
    given these neurons: Gaussian, with mean and covariance of the model's latents over conditions and time, and with
    the mean squared error of the free run as noise of each neuron.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, with a rank.
    activity : xarray.Dataset
        From `prepare`: ``activity (condition, time, neuron)``, dimensionless, with its inputs. Of a fit of single
        trials also the trials: their activity is the posterior mean of x. Neurons are matched by label.

    Returns
    -------
    xarray.Dataset
        Kind "latents": ``latent`` and ``latent_data (condition, time, rank)``, ``filtered_input (condition, time,
        input)``, all dimensionless.

    Raises
    ------
    ContractError
        If the fit has no latents (``rank=None``), or the fit does not have all the neurons.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> latents(mock_fit(), mock_activity())["latent_data"].dims
    ('condition', 'time', 'rank')
    """
    check_low_rank(fit)
    activity = data_of(fit, activity)
    check_activity(activity)
    activity = matched(fit, unmasked(activity), network_of(fit))
    index = positions(fit, activity)
    warn_of_scale(fit, activity, index)
    run = simulate(fit, activity)
    before = activity.sizes.get("burn_in", 0)
    y, free = activity["activity"].values, run["activity"].values[..., index]
    found = _along_m(fit.isel(neuron=index), y, run["filtered_input"].values, before, _prior_of(fit, y - free))
    out = xr.Dataset(coords=coords_along(activity, "condition", "time", kind="latents"), attrs={"kind": "latents"})
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
        raise ContractError("The fit has J and no m (rank=None), so it has no latents. Fit with a rank.")


def data_of(fit: xr.Dataset, activity: xr.Dataset) -> xr.Dataset:
    """Single trials as their posterior activation, where the fit is of single trials; other activity as it is."""
    single = isinstance(activity, xr.Dataset) and "trial" in activity.dims and "noise_cov" in fit
    return posterior_activity(fit, activity) if single else activity


def positions(fit: xr.Dataset, activity: xr.Dataset) -> Array:
    """Positions of the neurons of an activity among those of the fit."""
    index = fit.indexes["neuron"].get_indexer(activity["neuron"].values)
    if (index < 0).any():
        raise ContractError(
            f"{int((index < 0).sum())} neurons of the activity are not in the fit. Give only neurons that were fitted."
        )
    return index


def warn_of_scale(fit: xr.Dataset, activity: xr.Dataset, index: Array) -> None:
    """Warn if a neuron has another scale in the activity than in the fit."""
    if "scale" not in fit or "scale" not in activity:
        return
    links = [one.attrs.get("rate_link", "identity") for one in (fit, activity)]
    if links[0] != links[1]:
        warn(
            f"The fit has rate_link={links[0]!r} and the activity rate_link={links[1]!r}. They are not comparable. "
            "Prepare both with the same link."
        )
        return
    own, other = fit["scale"].values[index], activity["scale"].values
    if not np.allclose(own, other, rtol=1e-3):
        k = int(np.abs(other / own - 1).argmax())
        warn(
            f"The activity has {other[k]:.3g} Hz per unit and the fit has {own[k]:.3g} (neuron "
            f"{fit['neuron'].values[index[k]]}). They are not comparable. Prepare both with the same scale.",
        )


def data_latents(fit: xr.Dataset, activity: xr.Dataset) -> Array:
    """Latents of the fitted activity, as `latents` gives them, without a new run of the network.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, with a rank.
    activity : xarray.Dataset
        The fitted activity. Only neurons that the fit has are used.

    Returns
    -------
    numpy.ndarray
        (condition, time, rank), dimensionless, with the conditions in the order of the fit.

    Raises
    ------
    ContractError
        If the conditions, times or neurons are not those of the fit.
    """
    activity = data_of(fit, activity)
    seen = [label for label in fit["neuron"].values if label in set(activity["neuron"].values.tolist())]
    same = activity.sizes["time"] == fit.sizes["time"] and np.allclose(activity["time"], fit["time"])
    if not seen or not same or activity.sizes["condition"] != fit.sizes["condition"]:
        raise ContractError(
            f"activity has {dict(activity.sizes)} and shares {len(seen)} neurons with the fit of {dict(fit.sizes)}. "
            "Both need the same conditions and times. Give the activity that was fitted."
        )
    activity = unmasked(activity)
    labeled = "condition" in activity.indexes and "condition" in fit.indexes
    if labeled and not activity.indexes["condition"].equals(fit.indexes["condition"]):
        activity = activity.sel(condition=fit["condition"].values)
    y = activity["activity"].sel(neuron=seen).transpose("condition", "time", "neuron").values
    filtered = fit["filtered_input"].transpose("condition", "time", "input").values
    free = fit["activity_pred"].sel(neuron=seen).transpose("condition", "time", "neuron").values
    return _along_m(fit.sel(neuron=seen), y, filtered, fit.sizes.get("burn_in", 0), _prior_of(fit, y - free))


class _Prior(NamedTuple):
    """Latents are Gaussian with this mean (rank) and precision (rank, rank); neurons have this noise variance."""

    mean: Array
    precision: Array
    noise: Array


def _prior_of(fit: xr.Dataset, errors: Array) -> _Prior | None:
    """The spread of the latents of a network with hidden units, and the errors of its free run (…, neuron)."""
    if recorded_of(fit).all():
        return None
    kappa = fit["latent"].transpose("condition", "time", "rank").values.reshape(-1, fit.sizes["rank"]).astype(float)
    spread = np.atleast_2d(np.cov(kappa.T))
    spread = spread + 1e-6 * max(float(np.trace(spread)), np.finfo(float).tiny) * np.eye(len(spread))
    noise = np.nanmean(np.square(errors, dtype=float), axis=(0, 1))
    return _Prior(kappa.mean(axis=0), np.linalg.inv(spread), np.maximum(noise, 1e-6 * np.nanmax(noise) + 1e-12))


def _estimator(m: Array, prior: _Prior | None, seen: Array) -> tuple[Array, Array]:
    """A (neuron, rank) and c (rank): the latents of a row are row A + c. Least squares, or most probable."""
    if prior is None:
        return np.linalg.pinv(m[seen]).T, np.zeros(m.shape[1])
    weighted = m[seen] / prior.noise[seen, None]
    precision = prior.precision + m[seen].T @ weighted
    return np.linalg.solve(precision, weighted.T).T, np.linalg.solve(precision, prior.precision @ prior.mean)


def _along_m(fit: xr.Dataset, y: Array, filtered: Array, before: int, prior: _Prior | None) -> Array:
    """Latents of y minus filtered inputs, bias and initial activation, from the observed neurons.

    Least squares on m; with hidden units the most probable latents under the prior, since m of the few recorded neurons
    is often nearly collinear.
    """
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
            along, constant = _estimator(m, prior, seen)
            out[rows] = flat[rows][:, seen] @ along + constant
    return out.reshape(*left.shape[:2], -1)


@validated(ProjectOptions)
def project(
    fit: xr.Dataset,
    activity: xr.Dataset,
    *,
    order: Sequence[str] | None = None,
    orthogonal: bool = True,
) -> xr.Dataset:
    """Activity on the axes of a fit, and the share of its variance along each axis.

    Axes have length 1 over the neurons that are observed throughout. The share of axis a is
    ``Σ (a' (x - mean))² / Σ |x - mean|²``, over conditions and times, with the mean of each neuron.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`.
    activity : xarray.Dataset
        Any activity of these neurons: data, a run from `simulate`, other conditions. Neurons are matched by label. Of
        a fit of single trials also the trials: their activity is the posterior mean of x.
    order : sequence of str or None, default=None
        Vectors of the fit in their order: "m", "input_weights", "n" (its effective part, as in `connectivity`). None
        takes m, if the fit has it, and then input_weights.
    orthogonal : bool, default=True
        Make the axes orthogonal by QR in this order, so that their shares add up. Otherwise the axes are the vectors
        themselves, and overlapping axes share variance.

    Returns
    -------
    xarray.Dataset
        Kind "axes": ``projection (condition, time, axis_name)`` of the activity; ``axis (axis_name, neuron)``;
        ``variance_explained (axis_name)``; ``overlap`` and ``angle_deg (axis_name, axis_other)``. An axis within the
        span of those before it is NaN.

    Raises
    ------
    ContractError
        If a vector is unknown, or the fit does not have all the neurons.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> project(mock_fit(), mock_activity())["axis_name"].values.tolist()
    ['m 1', 'I stimulus']
    """
    check_fit(fit)
    activity = data_of(fit, activity)
    x, kept = observed(fit, activity)
    order = [name for name in ("m", "input_weights") if name in fit] if order is None else order
    names, columns = vectors_of(fit, order)
    axes = unit(columns[kept])
    out = axes_dataset(names, orthogonalized(axes) if orthogonal else axes, x)
    out = out.assign_coords(coords_along(fit.isel(neuron=kept), "neuron", kind="axes"))
    out["projection"] = ("condition", "time", "axis_name"), x @ out["axis"].values.T
    out = out.assign_coords(coords_along(activity, "condition", "time", kind="axes"))
    out.attrs |= {"orthogonal": int(orthogonal), "order": list(order)}
    check_result(out, "axes")
    return out


def observed(fit: xr.Dataset, activity: xr.Dataset) -> tuple[Array, Array]:
    """Activity (condition, time, neuron) of the neurons observed throughout, and their positions in the fit."""
    if "activity" not in activity or set(activity["activity"].dims) != {"condition", "time", "neuron"}:
        raise ContractError("The Dataset has no activity (condition, time, neuron). Call prepare(recording, ...).")
    index = positions(fit, activity)
    y = unmasked(activity)["activity"].transpose("condition", "time", "neuron").values.astype(float)
    whole = np.isfinite(y).all(axis=(0, 1))
    if not whole.any():
        raise ContractError("No neuron is observed in every condition and time. Leave some conditions out.")
    return y[..., whole], index[whole]


def vectors_of(fit: xr.Dataset, order: Sequence[str]) -> tuple[list[str], Array]:
    """Names and columns (neuron, axis) of the vectors of a fit in this order. n is its effective part."""
    there = [name for name in VECTORS if name in fit]
    if not set(order) <= set(there):
        raise ContractError(f"order is {order!r}. It needs a list of vectors of the fit: {', '.join(there)}.")
    names, columns = [], []
    for name in order:
        columns.append(fit[name].values)
        if name == "n":
            m, n, weights = fit["m"].values, fit["n"].values, fit["input_weights"].values
            columns[-1] = effective_n_of(blocks_of(fit), m, n, weights)
        ends = input_names(fit) if name == "input_weights" else [str(k + 1) for k in range(fit.sizes["rank"])]
        names += [f"{'I' if name == 'input_weights' else name} {end}" for end in ends]
    return names, np.column_stack(columns)


def unit(columns: Array) -> Array:
    """Columns of length 1. A column of zeros becomes NaN."""
    length = np.linalg.norm(columns, axis=0)
    return columns / np.where(length > 0, length, np.nan)


def orthogonalized(columns: Array) -> Array:
    """Columns made orthogonal by QR, each with its own sign; NaN for a column within the span of those before it."""
    q, r = np.linalg.qr(np.nan_to_num(columns))
    left = np.diag(r)
    out = np.full(columns.shape, np.nan)
    out[:, : q.shape[1]] = q * np.where(np.abs(left) > 1e-9, np.sign(left), np.nan)
    return out


def axes_dataset(names: list[str], axes: Array, x: Array) -> xr.Dataset:
    """A result of kind "axes" from columns of length 1 (neuron, axis): overlaps, angles, shares of variance."""
    centered = (x - x.mean(axis=(0, 1))).reshape(-1, x.shape[2])
    total = float((centered**2).sum())
    if total <= 0:
        raise ContractError(
            "The activity does not vary over conditions or time, so there is no variance to explain. Give another one."
        )
    overlap = axes.T @ axes
    out = xr.Dataset(coords={"axis_name": names, "axis_other": names}, attrs={"kind": "axes"})
    out["axis"] = ("axis_name", "neuron"), axes.T
    out["overlap"] = ("axis_name", "axis_other"), overlap
    angle = np.degrees(np.arccos(np.minimum(np.abs(overlap), 1)))
    out["angle_deg"] = ("axis_name", "axis_other"), angle, {"units": "degrees"}
    out["variance_explained"] = ("axis_name",), ((centered @ axes) ** 2).sum(axis=0) / total
    return out
