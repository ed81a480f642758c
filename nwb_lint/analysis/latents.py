"""Latents of model and data: what runs along m, and what along the inputs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract import ContractError, check_activity, check_fit
from nwb_lint.model.simulate import network_of, simulate


def latents(fit: xr.Dataset, activity: xr.Dataset) -> xr.Dataset:
    """Latents kappa and filtered inputs v of the model's free run, and the data's coordinates on the same axes.

    x = m kappa + I v (+ bias and initial activation): the model's are exact; the data's solve the least squares of
    activity on [m, I] at every time, over the recorded neurons. NaN where a sample is not wholly observed.

    Args:
        fit: from `fit_lint`, with a rank. activity: what to project, with its input; neurons matched by label.

    Returns: latent, latent_data (condition, time, rank); filtered_input, filtered_input_data (condition, time, input),
        dimensionless.

    Raises: ContractError for a rank=None fit or neurons that the fit does not have.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Example:
        >>> from nwb_lint.testing import mock_activity, mock_fit
        >>> latents(mock_fit(), mock_activity())["latent_data"].dims
        ('condition', 'time', 'rank')
    """
    check_fit(fit)
    check_activity(activity)
    if "m" not in fit:
        raise ContractError("the fit has J and no m (rank=None), so it has no latents; fit it with a rank.")
    index = fit.indexes["neuron"].get_indexer(activity["neuron"].values)
    if (index < 0).any():
        raise ContractError(
            f"{int((index < 0).sum())} neurons of the activity are not in the fit; give the fitted ones."
        )
    run = simulate(fit, activity)
    network = network_of(fit)
    axes = np.column_stack([network.m, fit["input_weights"].values])[index]
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    before = activity.sizes.get("burn_in", 0)
    decay = (1 - alpha) ** (before + np.arange(activity.sizes["time"]))[:, None]
    constant = (1 - decay) * fit["bias"].values[index] + decay * fit["initial_activation"].values[index]
    coordinates = (activity["activity"].values - constant) @ np.linalg.pinv(axes).T
    rank = network.m.shape[1]
    out = xr.Dataset(
        coords={k: v for k, v in activity.coords.items() if v.dims in (("condition",), ("time",), ("input",))}
    )
    for name in ("latent", "filtered_input"):
        out[name] = run[name].dims, run[name].values
    out["latent_data"] = run["latent"].dims, coordinates[..., :rank].astype(np.float32)
    out["filtered_input_data"] = run["filtered_input"].dims, coordinates[..., rank:].astype(np.float32)
    return out


def data_latents(fit: xr.Dataset, activity: xr.Dataset) -> np.ndarray:
    """Latents of the data, (condition, time, rank): least squares on m of what the inputs leave of the activity.

    The filtered inputs are known, so what they add is taken off and not estimated (a few recorded neurons could not
    tell them from m); so is what the fit's bias and initial activation add. Neurons count where the fit has them
    recorded and the activity has no NaN.

    Raises: ContractError where conditions, times or neurons of ``activity`` are not the fit's.
    """
    seen = [label for label in fit["neuron"].values if label in set(activity["neuron"].values.tolist())]
    same = activity.sizes["time"] == fit.sizes["time"] and np.allclose(activity["time"], fit["time"])
    if not seen or not same or activity.sizes["condition"] != fit.sizes["condition"]:
        raise ContractError(
            f"activity has {dict(activity.sizes)} and shares {len(seen)} neurons with the fit of "
            f"{dict(fit.sizes)}; both need the same conditions and times. Give the activity that was fitted."
        )
    if "condition" in activity.indexes and "condition" in fit.indexes:
        activity = activity.sel(condition=fit["condition"].values)
    part = fit.sel(neuron=seen)
    y = activity["activity"].sel(neuron=seen).transpose("condition", "time", "neuron").values.astype(float)
    steps = np.arange(y.shape[1]) + fit.sizes.get("burn_in", 0)
    decay = ((1 - fit.attrs["dt_s"] / fit.attrs["tau_s"]) ** steps)[:, None]
    y = y - decay * part["initial_activation"].values - (1 - decay) * part["bias"].values
    filtered = fit["filtered_input"].transpose("condition", "time", "input").values
    y = y - filtered @ part["input_weights"].transpose("input", "neuron").values
    whole = np.isfinite(y).all(axis=(0, 1))
    return y[..., whole] @ np.linalg.pinv(part["m"].transpose("neuron", "rank").values[whole]).T
