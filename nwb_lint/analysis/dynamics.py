"""Dynamics of the latents: their flow with a constant input, and the flow of fits to fewer neurons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import check_low_rank
from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import input_names, named_inputs
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.options.analyses import FlowOptions
from nwb_lint.options.checks import validated
from nwb_lint.prepare import condition_labels, conditions_mask
from nwb_lint.validation.subsampling import refits

Input = Mapping[str, float] | Sequence[float] | Array | None


def flow(fit: xr.Dataset, kappa: Array, drive: Array) -> Array:
    """F(κ) = (-κ + n' phi(m κ + drive) / N) / tau, (point, rank), 1/s, for a drive (neuron) or (point, neuron).

    The drive is x without m κ: I v, and the contributions of bias and initial activation. Along a run of the network,
    F(κ[t]) = (κ[t+1] - κ[t]) / dt exactly.
    """
    phi = nonlinearity_of(fit.attrs.get("nonlinearity")).phi
    m, n = fit.variables["m"].values, fit.variables["n"].values  # without coordinates: this runs ten thousand times
    return (phi(kappa @ m.T + drive) @ n / len(m) - kappa) / fit.attrs["tau_s"]


@validated(FlowOptions)
def flow_field(
    fit: xr.Dataset,
    *,
    condition: object = None,
    input: Input = None,
    at_s: float | None = None,
    extent: float | Sequence[Sequence[float]] | None = None,
    n_points: int = 25,
    activity: xr.Dataset | None = None,
    refit_fractions: Sequence[float] | None = None,
    draws: int = 3,
    seed: int = 0,
) -> xr.Dataset:
    """Flow of the latents on a grid, while the input is constant.

    dκ/dt = F(κ, u) = (-κ + n' phi(m κ + I u + b) / N) / tau. This is exact from the connectivity: the filtered inputs
    have reached v = u, the bias acts fully, and the initial activation has decayed.

    With ``refit_fractions`` the fit is repeated on random parts of the neurons, with its own options. If their flow
    differs, the flow is not a finding. A refit m*, n* of N* neurons has latents of its own. With S its recorded neurons
    and + the pseudo-inverse, κ* = m*_S+ m_S κ describes the same activity, and its flow in the latents of the fit is
    F*(κ) = (-κ + m_S+ m*_S n*' phi(m* κ* + I* u + b*) / N*) / tau.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, of rank 1, 2 or 3.
    condition : object, default=None
        Label or position of the condition that gives the constant input: its input at ``at_s``.
    input : mapping, sequence of float or None, default=None
        The constant input, in place of a condition: a number for each input, or numbers by name; the others are 0.
        None, without a condition, is 0 for all inputs.
    at_s : float or None, default=None
        Time of the input of the condition, s. None takes its last sample.
    extent : float or sequence of pairs or None, default=None
        Extent of the grid: ± a number, or (low, high) for each latent. None takes 1.2 times the largest latent of the
        fit.
    n_points : int, default=25
        Points along each latent, at least 2. The grid has n_points ** rank points; the last latent varies fastest.
    activity : xarray.Dataset or None, default=None
        The fitted activity. Refits need it.
    refit_fractions : sequence of float or None, default=None
        Fractions of the neurons that refits see. None makes no refits.
    draws : int, default=3
        Number of random parts of each size.
    seed : int, default=0
        Seed of the random parts.

    Returns
    -------
    xarray.Dataset
        Kind "flow_field": ``kappa (point, rank)``, dimensionless; ``velocity (point, rank)`` and ``speed (point)``,
        1/s; ``input_value (input)``. With refits also ``velocity_draw (draw, point, rank)``, F*, 1/s; ``agreement
        (draw)``, the cosine between F* and F over all points; ``disagreement (point)``, the root mean square of F* - F
        over draws, relative to the root mean square of F over points; and the coordinates ``fraction`` and ``n_neurons
        (draw)``.

    Raises
    ------
    ContractError
        If the fit has no m or a rank above 3, the condition, input or time is unknown, the extent is empty, or refits
        have no activity.

    References
    ----------
    Mastrogiuseppe & Ostojic, Neuron 2018.
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> flow_field(mock_fit(), n_points=5)["velocity"].shape
    (5, 1)
    """
    check_low_rank(fit)
    rank = fit.sizes["rank"]
    if rank > 3:
        raise ContractError(f"The fit has rank {rank}. A grid needs rank 1, 2 or 3. Use fixed_points.")

    others = refits(fit, activity, refit_fractions, draws=draws, seed=seed)
    u = held_input(fit, condition, input, at_s)
    bounds = _bounds(fit, extent)
    sides = [np.linspace(low, high, n_points) for low, high in bounds]
    kappa = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, rank)
    velocity = flow(fit, kappa, drive_of(fit, u))
    out = field_result(fit, u, "flow_field", condition, at_s)
    out["kappa"], out["velocity"] = (("point", "rank"), kappa), (("point", "rank"), velocity, {"units": "1/s"})
    out["speed"] = ("point",), np.linalg.norm(velocity, axis=1), {"units": "1/s"}
    out.attrs |= {"n_points": int(n_points), "extent": [float(value) for value in bounds.ravel()]}
    if others is not None:
        out = flow_of_refits(out, fit, others)
        out.attrs["seed"] = int(seed)
    check_result(out, "flow_field")
    return out


def flow_of_refits(out: xr.Dataset, fit: xr.Dataset, refits_found: Iterable[tuple[float, xr.Dataset]]) -> xr.Dataset:
    """The field with the flow of refits to fewer neurons, under the same input, in the latents of the fit.

    ``refits_found`` are pairs of a fraction of the neurons and a fit to them.
    """
    kappa, own, u = out["kappa"].values, out["velocity"].values, out["input_value"].values
    tau_s, found, fractions, neurons = fit.attrs["tau_s"], [], [], []
    for fraction, one in refits_found:
        seen = one.isel(neuron=one["recorded"].values)
        here, there = fit["m"].sel(neuron=seen["neuron"].values).values, seen["m"].values
        theirs = kappa @ (np.linalg.pinv(there) @ here).T
        recurrent = theirs + tau_s * flow(one, theirs, drive_of(one, u))
        found.append((recurrent @ (np.linalg.pinv(here) @ there).T - kappa) / tau_s)
        fractions.append(fraction)
        neurons.append(seen.sizes["neuron"])
    velocity = np.array(found)
    power = (own**2).sum(axis=1).mean()
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN where the flow is 0 everywhere
        cosine = (velocity * own).sum(axis=(1, 2)) / np.sqrt((velocity**2).sum(axis=(1, 2)) * (own**2).sum())
        apart = np.sqrt(((velocity - own) ** 2).sum(axis=2).mean(axis=0) / power)
    out["velocity_draw"] = ("draw", "point", "rank"), velocity, {"units": "1/s"}
    out["agreement"], out["disagreement"] = ("draw", cosine), ("point", apart)
    return out.assign_coords(fraction=("draw", fractions), n_neurons=("draw", neurons))


def held_input(fit: xr.Dataset, condition: object, input: Input, at_s: float | None) -> Array:
    """The constant input, (input)."""
    size = fit.sizes["input"]
    names = input_names(fit)
    if condition is not None and input is not None:
        raise ContractError("A condition and an input are given. The input comes from one or the other. Leave one out.")
    if condition is None:
        if at_s is not None:
            raise ContractError(
                "at_s is given without a condition. It needs one. Name the condition, or leave at_s out."
            )
        if isinstance(input, Mapping):
            if unknown := sorted(set(map(str, input)) - set(names)):
                raise ContractError(f"The fit has no input {unknown[0]!r}. Choose from {', '.join(names)}.")
            input = [float(input.get(name, 0.0)) for name in names]
        u = np.zeros(size) if input is None else np.asarray(input, float)
        if u.shape != (size,) or not np.isfinite(u).all():
            raise ContractError(f"input has shape {u.shape}. It needs one finite number for each of the {size} inputs.")
        return u
    chosen = np.flatnonzero(conditions_mask(fit, condition))
    if len(chosen) != 1:
        raise ContractError(f"condition selects {len(chosen)} conditions. It needs one. Give its label.")
    time = fit["time"].values
    step = float(fit.attrs["dt_s"])
    when = time[-1] if at_s is None else at_s
    if not isinstance(when, Real) or not time[0] - step <= when <= time[-1] + step:
        raise ContractError(f"at_s is {at_s}. Time runs from {time[0]:g} to {time[-1]:g} s. Choose a time within.")
    return fit["u"].values[chosen[0], int(np.argmin(np.abs(time - when)))].astype(float)


def drive_of(fit: xr.Dataset, u: Array) -> Array:
    """Drive of each neuron (neuron) while the input is constant: I u + b."""
    return fit["input_weights"].values @ u + fit["bias"].values


def visited(fit: xr.Dataset) -> Array:
    """Latents of the run of the fit (sample, rank). A fit without a run has the origin alone."""
    return fit["latent"].values.reshape(-1, fit.sizes["rank"]).astype(float) if "latent" in fit else np.zeros((1, 1))


def _bounds(fit: xr.Dataset, extent: float | Sequence[Sequence[float]] | None) -> Array:
    """Lowest and highest value of each latent, (rank, 2)."""
    rank = fit.sizes["rank"]
    if extent is None:
        most = np.abs(visited(fit)).max(axis=0) + np.zeros(rank)
        most = 1.2 * np.where(most > 0, most, 1.0)
        return np.stack([-most, most], axis=1)
    bounds = np.asarray(extent, float)
    bounds = np.tile([-bounds, bounds], (rank, 1)) if bounds.ndim == 0 else bounds
    if bounds.shape != (rank, 2) or not np.isfinite(bounds).all() or not (bounds[:, 0] < bounds[:, 1]).all():
        raise ContractError(
            f"extent is {extent!r}. It needs a number above 0, or (low, high) for each of the {rank} latents."
        )
    return bounds


def field_result(fit: xr.Dataset, u: Array, kind: str, condition: object, at_s: float | None) -> xr.Dataset:
    """A result that holds the constant input, its condition and its time."""
    out = xr.Dataset({"input_value": ("input", u)}, attrs={"kind": kind, "tau_s": float(fit.attrs["tau_s"])})
    out = out.assign_coords(named_inputs(fit))
    if condition is not None:
        out.attrs["condition"] = str(condition_labels(fit)[conditions_mask(fit, condition)][0])
        out.attrs["at_s"] = float(fit["time"].values[-1] if at_s is None else at_s)
    return out
