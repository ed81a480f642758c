"""Fit → simulation: run a fitted network again with nothing but its Dataset, and its canonical gauge."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract import check_fit, coords_along, input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.initial_conditions import COMMON, matched
from nwb_lint.model.network import Array, Network, canonical, drives, forward
from nwb_lint.options import validated
from nwb_lint.prepare import mask_of

GAUGE = "m orthonormal left singular vectors of m n'; n the right ones times singular values; largest |m| positive"


def whole_input(dataset: xr.Dataset) -> Array:
    """Input over burn-in and time, (condition, burn-in + time, input) float32."""
    parts = [dataset["u_burn_in"].values] if "u_burn_in" in dataset.variables else []
    return np.concatenate([*parts, dataset["u"].values], axis=1).astype(np.float32)


def network_of(fit: xr.Dataset) -> Network:
    """The numbers of a fit that simulate: m, n (or J) and the weights of [input, bias, initial activation]."""
    w = np.column_stack([fit["input_weights"].values, fit["bias"].values, fit["initial_activation"].values])
    if "J" in fit:
        return Network(fit["J"].values, None, w)
    return Network(fit["m"].values, fit["n"].values, w)


def canonicalize(fit: xr.Dataset) -> xr.Dataset:
    """The same network in the canonical gauge: J = m n' / N unchanged, m orthonormal, latents turned along.

    m n' = U S V': m = U, n = V S, columns by falling singular value, the entry of largest magnitude in each column of m
    positive. Latents follow: kappa_new = m' m_old kappa_old. A fit without m (rank=None) is returned as it is.

    Raises: ContractError for a Dataset that is not a fit.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> m = canonicalize(mock_fit())["m"].values
        >>> bool(abs(m.T @ m - 1).max() < 1e-9)
        True
    """
    if "J" in fit:
        return fit.copy()
    m, n = canonical(fit["m"].values, fit["n"].values)
    out = fit.copy()
    out["m"], out["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    if "latent" in fit:
        turned = fit["latent"].values @ (m.T @ fit["m"].values).T
        out["latent"] = fit["latent"].dims, turned.astype(fit["latent"].dtype), fit["latent"].attrs
    out.attrs["gauge"] = GAUGE
    return out


@validated()
def simulate(
    fit: xr.Dataset,
    u: xr.Dataset | xr.DataArray | None = None,
    *,
    silence: object = None,
    initial: Array | None = None,
    factor: Array | xr.DataArray | None = None,
    drive: Array | xr.DataArray | None = None,
) -> xr.Dataset:
    """Run the fitted network freely, with nothing but the fit at hand.

    Args:
        fit: from `fit_lint` or `read_fit`.
        u: other inputs (condition, time, input): a DataArray, which starts at x[0], or a Dataset with ``u`` and, for a
            burn-in, ``u_burn_in``. None = the fit's own.
        silence: neurons whose output is set to 0 (labels, positions or a boolean array); N stays what it was.
        initial: other x[0] (neuron); None = the fit's. Not where the fit has one for each group (`fit_lint`).
        factor: by which every neuron's output is multiplied, (neuron) or (time, neuron): 0 silences, 1 changes nothing,
            above 1 excites. Over time, as a pulse, it is 1 before the first time; without time it holds in the burn-in.
        drive: added to every neuron's input, in units of the activity, (neuron) or (time, neuron):
            x[t+1] = ... + alpha drive[t]; over time, it is 0 before the first one.

    Returns: activity (condition, time, neuron) dimensionless; rate in Hz where the fit can undo its preparation; latent
        (condition, time, rank); filtered_input (condition, time, input).

    Raises: ContractError for a Dataset that is not a fit, inputs of another number, other names or another bin, unknown
        neurons, or a factor or drive of another shape.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> simulate(mock_fit())["activity"].dims
        ('condition', 'time', 'neuron')
    """
    check_fit(fit)
    return run(fit, u, silence=silence, initial=initial, factor=factor, drive=drive)


def run(
    fit: xr.Dataset,
    u: xr.Dataset | xr.DataArray | None = None,
    *,
    silence: object = None,
    initial: Array | None = None,
    factor: Array | xr.DataArray | None = None,
    drive: Array | xr.DataArray | None = None,
) -> xr.Dataset:
    """`simulate` for a Dataset that need not be a whole fit: a network with its inputs ``u`` at hand."""
    given = matched(fit, _given_input(fit, u))
    if given["u"].dims != ("condition", "time", "input") or given.sizes["input"] != fit.sizes["input"]:
        raise ContractError(
            f"u has dims {given['u'].dims} and {given['u'].sizes.get('input', 0)} inputs; "
            f"it needs (condition, time, input) with {fit.sizes['input']}."
        )
    if u is not None:
        _check_like(fit, given)
    network = network_of(fit)
    if initial is not None:
        if fit.attrs.get("initial", "zero") not in COMMON:
            raise ContractError(
                f"the fit has an x[0] for each {fit.attrs['initial']}, as inputs; give other inputs (u=)."
            )
        start = np.asarray(initial, float)
        if start.shape != (network.n_neurons,) or not np.isfinite(start).all():
            raise ContractError(
                f"initial has shape {start.shape}; it needs one finite number for each of {network.n_neurons} neurons."
            )
        network.w[:, -1] = start
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    driven = whole_input(given)
    skip = driven.shape[1] - given.sizes["time"]
    keep = _over_time(given, network, factor, "factor", skip, before=1.0)
    if silence is not None:
        quiet = mask_of(fit["neuron"].values.astype(str), silence, "neuron", nobody=True)
        keep = np.where(quiet, 0.0, 1.0 if keep is None else keep)
    added = _over_time(given, network, drive, "drive", skip, before=0.0)
    q = drives(driven, alpha, bias=True, initial=True)
    x, kappa = forward(network, q, alpha, fit.attrs.get("nonlinearity", ""), keep, added)
    out = xr.Dataset(coords=coords_along(fit, "neuron") | coords_along(given, "condition", "time"))
    out["activity"] = ("condition", "time", "neuron"), x[:, skip:]
    if network.n is not None:
        out["latent"] = ("condition", "time", "rank"), kappa[:, skip:]
    out["filtered_input"] = ("condition", "time", "input"), q[:, skip:, : driven.shape[2]]
    if "scale" in fit and ("time" not in fit["offset"].dims or given.sizes["time"] == fit.sizes["time"]):
        rate = x[:, skip:] * fit["scale"].values + fit["offset"].values
        out["rate"] = ("condition", "time", "neuron"), rate.astype(np.float32), {"units": "Hz"}
    return out


def with_run(fit: xr.Dataset) -> xr.Dataset:
    """The network with what it predicts on its own input: activity_pred, filtered_input, and latent if it has any."""
    found = run(fit)
    out = fit.assign(activity_pred=(found["activity"].dims, found["activity"].values, {"units": "1"}))
    for name in ("latent", "filtered_input"):
        if name in found:
            out[name] = found[name].dims, found[name].values
    return out


def _over_time(given: xr.Dataset, network: Network, values, name: str, skip: int, *, before: float) -> Array | None:
    """What multiplies or is added at every step, (burn-in + time, neuron); what has no time holds at every step."""
    if values is None:
        return None
    array = np.asarray(values, float)
    shape = (given.sizes["time"], network.n_neurons)
    if array.shape not in (shape, shape[1:]) or not np.isfinite(array).all():
        raise ContractError(
            f"{name} has shape {array.shape}; it needs finite numbers, (neuron) or (time, neuron), here {shape}."
        )
    if array.ndim == 1:
        return np.broadcast_to(array, (skip + shape[0], shape[1]))
    return np.concatenate([np.full((skip, shape[1]), before), array])


def _check_like(fit: xr.Dataset, given: xr.Dataset) -> None:
    """Inputs that say of themselves that they are others than the fit's, or in other steps, are refused."""
    step = given.attrs.get("bin_s", fit.attrs["dt_s"])
    if not np.isclose(step, fit.attrs["dt_s"], rtol=1e-6):
        raise ContractError(
            f"the input is in bins of {step:g} s and the network in steps of {fit.attrs['dt_s']:g} s; prepare the "
            "input with the fit's bins."
        )
    own, names = input_names(fit), input_names(given)
    if "input" in fit.coords and "input" in given.coords and own != names:
        raise ContractError(
            f"the inputs are {', '.join(names)} where the fit has {', '.join(own)}; give those, in this order."
        )


def _given_input(fit: xr.Dataset, u: xr.Dataset | xr.DataArray | None) -> xr.Dataset:
    """The Dataset whose ``u`` drives the network."""
    if u is None:
        return fit
    given = u.to_dataset(name="u") if isinstance(u, xr.DataArray) else u
    if "u" not in given.variables:
        raise ContractError("the Dataset has no inputs u. simulate needs u (condition, time, input).")
    if not np.isfinite(given["u"].values).all():
        raise ContractError("u has values that are not finite; give a number for every condition and time.")
    return given
