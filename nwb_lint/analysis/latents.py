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
