"""Currents from area to area in a fit with areas, over time, and their intervals."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from nwb_lint.analysis.latents import check_low_rank
from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import coords_along
from nwb_lint.drift import has_drift, loadings_of_conditions
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import Blocks, blocks_of
from nwb_lint.model.initial_conditions import matched
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.model.simulate import network_of, run
from nwb_lint.model.tuning import COLLINEAR, LEVEL
from nwb_lint.options.checks import validated
from nwb_lint.parallel.warnings import warn
from nwb_lint.validation.bootstrap import networks_of_simulations, no_intervals
from nwb_lint.validation.intervals import interval

_SOME_LACK = "some {} have no interval: {}"


@validated()
def currents(fit: xr.Dataset, u: xr.Dataset | None = None, *, bootstrap: xr.Dataset | None = None) -> xr.Dataset:
    """Currents that each area receives from each other, from itself, and from its inputs, over time.

    In a fit with areas, tau dx_a/dt = -x_a + sum_b m_ab n_ab' phi(x_b) / N + I_a u + b_a. Each term of the sum is the
    current from area b to area a. Its drive n_ab' phi(x_b) / N is one number for each rank of the block, and m_ab
    spreads it over the neurons of a. Activations x are those of the free run; in a fit of single trials, those of the
    posterior mean of the latents. If m drifts over trials, each trial has its own m.

    The data determine the currents of an area from several sources only as far as their drives are not collinear. The
    ``tolerance`` of a rank is the part of the variance of its drive that a linear combination of the drives from the
    other areas and of the inputs to the same area does not give. A warning names ranks for which it is small. Whether
    a block is needed at all is a question for `select_areas`.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `fit_trials`, with ``areas``.
    u : xarray.Dataset or None, default=None
        Conditions with their inputs, ``u (condition, time, input)``. None takes those of the fit.
    bootstrap : xarray.Dataset or None, default=None
        From `bootstrap` of this fit to means, with simulations: intervals of 90 % of drives and sizes. As all intervals
        of `bootstrap`, they come from the estimate without a ridge, not from the fit, which may be outside of them. In
        fresh simulated recordings of two areas, whose blocks were known, they held .88 of the true drives and .82 of
        the true sizes that have one; in single recordings .50 to 1.00.

    Returns
    -------
    xarray.Dataset
        Kind "currents", dimensionless, in units of the activity:

        - ``current (condition, time, neuron, sender)``, to each neuron from each sender: the areas, then "inputs" (with
          the bias).
        - ``drive (condition, time, rank)``, with ``to_area`` and ``from_area`` on rank; ``tolerance (rank)``.
        - ``size (target, sender, time)``: root mean square of the currents over conditions and neurons of each area.
        - with a bootstrap, ``drive_low``, ``drive_high``, ``size_low`` and ``size_high``, NaN where there is no
          interval; and the attribute ``interval_reason``, why some or all have none, or empty.

    Raises
    ------
    ContractError
        If the fit has no areas; the bootstrap is of another fit, or has no simulations; or u is given beside it.

    References
    ----------
    Perich et al., bioRxiv 2020.12.18.423348 (current-based decomposition of activity).

    Examples
    --------
    >>> from nwb_lint.testing import mock_areas
    >>> _, truth = mock_areas()
    >>> currents(truth)["current"].dims
    ('condition', 'time', 'neuron', 'sender')
    """
    check_low_rank(fit)
    blocks = blocks_of(fit)
    if blocks is None:
        raise ContractError("The fit has no areas. Currents are from area to area. Fit with areas='COLUMN'.")
    if bootstrap is not None and u is not None:
        raise ContractError("u and bootstrap are both given. Its networks have the inputs of the fit. Leave out one.")
    given = fit if u is None else u
    m = loadings_of_conditions(fit, given) if has_drift(fit) else fit["m"].values
    drive = _drives(fit, _activation(fit, u, m), fit["n"].values)
    given = matched(fit, given, network_of(fit))
    inputs = _input_current(fit, given)
    out = xr.Dataset(coords=coords_along(fit, "neuron", kind="currents"))
    out = out.assign_coords(coords_along(given, "condition", "time", kind="currents"))
    names = np.array(blocks.names)
    out = out.assign_coords(
        to_area=("rank", names[blocks.to]), from_area=("rank", names[blocks.source]),
        target=names, sender=[*blocks.names, "inputs"],
    )  # fmt: skip
    parts = [_currents(blocks, m, drive), inputs[..., None]]
    out["current"] = ("condition", "time", "neuron", "sender"), np.concatenate(parts, axis=3).astype(np.float32)
    out["drive"] = ("condition", "time", "rank"), drive.astype(np.float32)
    out["size"] = ("target", "sender", "time"), _sizes(blocks, m, drive, inputs)
    out["tolerance"] = ("rank",), _tolerances(blocks, fit, drive, given)
    out.attrs = {"kind": "currents", "areas": str(fit.attrs["areas"]), "rank": len(blocks.to), "level": LEVEL}
    _warn_of_collinear(out)
    if bootstrap is not None:
        out = _with_intervals(out, fit, blocks, bootstrap)
    check_result(out, "currents")
    return out


def _activation(fit: xr.Dataset, u: xr.Dataset | None, m: Array) -> Array:
    """x (condition, time, neuron): of the free run, or of the posterior mean of the latents of single trials."""
    if u is None and "noise_cov" in fit:
        x: Array = fit["latent"].values.astype(float) @ m.swapaxes(-1, -2)
        x += fit["filtered_input"].values.astype(float) @ fit["input_weights"].values.T
        return x + fit["bias"].values
    return run(fit, u)["activity"].values.astype(float)


def _drives(fit: xr.Dataset, x: Array, n: Array) -> Array:
    """n' phi(x) / N, (condition, time, rank)."""
    return nonlinearity_of(fit.attrs["nonlinearity"]).phi(x) @ n / len(n)


def _input_current(fit: xr.Dataset, given: xr.Dataset) -> Array:
    """I u + b, (condition, time, neuron)."""
    network = network_of(fit)
    size = fit.sizes["input"]
    return given["u"].values.astype(float) @ network.w[:, :size].T + network.w[:, size]


def _currents(blocks: Blocks, m: Array, drive: Array) -> Array:
    """(condition, time, neuron, source), from m (neuron, rank), or that of each condition (condition, neuron, rank)."""
    sources = [blocks.source == b for b in range(len(blocks.names))]
    return np.stack([drive[..., own] @ m[..., own].swapaxes(-1, -2) for own in sources], axis=-1)


def _sizes(blocks: Blocks, m: Array, drive: Array, inputs: Array) -> Array:
    """Root mean square over conditions and neurons of an area, (to, source, time); the inputs come last."""
    count = len(blocks.names)
    found = np.zeros((count, count + 1, drive.shape[1]))
    for a, b, columns in blocks.pairs():
        own, parts = m[..., blocks.area == a, :][..., columns], drive[..., columns]
        power = (parts @ (own.swapaxes(-1, -2) @ own) * parts).sum(axis=(0, 2))
        found[a, b] = np.sqrt(np.maximum(power, 0) / (len(drive) * own.shape[-2]))
    for a in range(count):
        found[a, count] = np.sqrt((inputs[..., blocks.area == a] ** 2).mean(axis=(0, 2)))
    return found


def _tolerances(blocks: Blocks, fit: xr.Dataset, drive: Array, given: xr.Dataset) -> Array:
    """The part of the variance of each drive that others to the same area do not give; NaN where it does not vary."""
    u, flat = given["u"].values.reshape(-1, fit.sizes["input"]).astype(float), drive.reshape(-1, drive.shape[2])
    found = np.full(len(blocks.to), np.nan)
    for k, (a, b) in enumerate(zip(blocks.to, blocks.source, strict=True)):
        others = (blocks.to == a) & (blocks.source != b)
        reach = blocks.reached[blocks.area == a][0, : u.shape[1]]
        regressors = np.column_stack([np.ones(len(flat)), flat[:, others], u[:, reach]])
        off = flat[:, k] - flat[:, k].mean()
        left = off - regressors @ np.linalg.lstsq(regressors, off, rcond=None)[0]
        if off @ off > 0:
            found[k] = (left @ left) / (off @ off)
    return found


def _warn_of_collinear(out: xr.Dataset) -> None:
    """Name the blocks whose drives are nearly a combination of others to the same area."""
    small = out["tolerance"].values < COLLINEAR
    if small.any():
        pairs = zip(out["to_area"].values[small], out["from_area"].values[small], strict=True)
        which = "; ".join(dict.fromkeys(f"from {source} to {to}" for to, source in pairs))
        warn(
            f"The drives {which} are nearly combinations of others to the same area (tolerance below {COLLINEAR:g}). "
            "The data hardly tell their currents apart. Compare fits with fewer blocks (select_areas), or use more "
            "conditions."
        )


def _with_intervals(out: xr.Dataset, fit: xr.Dataset, blocks: Blocks, bootstrap: xr.Dataset) -> xr.Dataset:
    """The result with intervals of drives and sizes from simulations, or with the reason for none."""
    networks = networks_of_simulations(fit, bootstrap)
    if "reason" not in bootstrap:
        raise ContractError(
            "The bootstrap has no simulations. Intervals of currents come from them. Repeat it with simulations=100."
        )
    found = {name: np.full((2, *out[name].shape), np.nan) for name in ("drive", "size")}
    reasons = [refused] if (refused := no_intervals(bootstrap)) else []
    if not refused:
        own, known, fitted = (_drives_and_sizes(blocks, some) for some in networks)
        for k, (name, ends) in enumerate(found.items()):
            one = interval(known[k], fitted[k], own[k][0])
            ends[:] = np.where(one.reason == "", [one.low, one.high], np.nan)
            why = "; ".join(sorted(set(one.reason[one.reason != ""].tolist())))
            reasons += [_SOME_LACK.format(f"{name}s", why)] if why else []
    found["size"] = np.maximum(found["size"], 0)
    for name, ends in found.items():
        for end, value in zip(("low", "high"), ends, strict=True):
            out[f"{name}_{end}"] = out[name].dims, value.astype(out[name].dtype)
    return out.assign_attrs(interval_reason="; ".join(reasons))


def _drives_and_sizes(blocks: Blocks, networks: Iterable[xr.Dataset]) -> tuple[Array, Array]:
    """Drives (network, condition, time, rank) and sizes (network, to, source, time)."""
    drives, sizes = [], []
    for one in networks:
        drives.append(_drives(one, one["activity_pred"].values.astype(float), one["n"].values))
        sizes.append(_sizes(blocks, one["m"].values, drives[-1], _input_current(one, one)))
    return np.array(drives), np.array(sizes)
