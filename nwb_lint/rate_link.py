"""Links between the rates of neurons and what a network explains: the activation is linear in link(rate), in Hz."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.drift import has_drift, loadings_of_conditions
from nwb_lint.errors import ContractError

Array = np.ndarray

LINKS = ("identity", "softplus", "log", "saturating")

LOG_HZ = 1.0  # below this rate "log" is nearly linear
SOFT_HZ = 5.0  # above this rate "softplus" is nearly linear

# "saturating": the quantile of distances from the middle of a neuron's range that counts as its half, with a margin,
# and how near to the bounds a rate may come. The first values that were tried; simulated rank-1 networks, 60 units, 20
# trials, seeds 0 and 1.
RANGE_QUANTILE, RANGE_MARGIN, MOST_OF_RANGE = 0.98, 1.05, 0.97


class Link(NamedTuple):
    """A link, and the bounds of the rates of each neuron, Hz, if it saturates.

    ==============  ==============================================  =======================================
    ``name``        link(rate), Hz                                  rate
    ==============  ==============================================  =======================================
    "identity"      rate                                            link
    "softplus"      s log(exp(rate / s) - 1), s = 5 Hz              s log(1 + exp(link / s))
    "log"           s log(1 + rate / s), s = 1 Hz                   s (exp(link / s) - 1)
    "saturating"    middle + h arctanh((rate - middle) / h)         middle + h tanh((link - middle) / h)
    ==============  ==============================================  =======================================

    with middle = (low + high) / 2 and h = (high - low) / 2. All have a slope of 1 where rates are large ("softplus"),
    0 ("log") or in the middle.
    """

    name: str = "identity"
    low: Array | None = None
    high: Array | None = None

    @classmethod
    def estimated(cls, name: str, rate: Array) -> Link:
        """The link with bounds from rates (condition, time, neuron).

        Raises ContractError for negative rates, unless the link is the identity or saturates.
        """
        if name in ("log", "softplus") and np.nanmin(rate, initial=0.0) < 0:
            raise ContractError(
                f"The least rate is {np.nanmin(rate):g}. rate_link={name!r} needs rates of at least 0. Use "
                "rate_link='identity' or 'saturating'."
            )
        if name != "saturating":
            return cls(name)
        middle = (np.nanmin(rate, axis=(0, 1)) + np.nanmax(rate, axis=(0, 1))) / 2
        half = RANGE_MARGIN * np.nanquantile(np.abs(rate - middle), RANGE_QUANTILE, axis=(0, 1))
        half = np.where(half > 0, half, 1.0)
        return cls(name, middle - half, middle + half)

    @classmethod
    def of(cls, dataset: xr.Dataset) -> Link:
        """The link of an activity from `prepare`, or of a fit to it."""
        bounds = (dataset[name].values if name in dataset else None for name in ("rate_low", "rate_high"))
        return cls(str(dataset.attrs.get("rate_link", "identity")), *bounds)

    def of_rate(self, rate: Array) -> Array:
        """link(rate), Hz, of rates (..., neuron). Rates beyond the bounds of the link count as near to them."""
        if self.name == "softplus":
            soft = np.maximum(rate, SOFT_HZ * (1 - MOST_OF_RANGE)) / SOFT_HZ
            return SOFT_HZ * (soft + np.log(-np.expm1(-soft)))
        if self.name == "log":
            return LOG_HZ * np.log1p(np.maximum(rate, 0) / LOG_HZ)
        if self.name == "saturating":
            middle, half = self._range()
            return middle + half * np.arctanh(np.clip((rate - middle) / half, -MOST_OF_RANGE, MOST_OF_RANGE))
        return rate

    def rate(self, value: Array) -> Array:
        """The rates, Hz, of values of the link (..., neuron)."""
        if self.name == "softplus":
            return SOFT_HZ * np.logaddexp(value / SOFT_HZ, 0)
        if self.name == "log":
            with np.errstate(over="ignore"):
                return LOG_HZ * np.maximum(np.expm1(value / LOG_HZ), 0)
        if self.name == "saturating":
            middle, half = self._range()
            return middle + half * np.tanh((value - middle) / half)
        return value

    def _range(self) -> tuple[Array, Array]:
        assert self.low is not None
        assert self.high is not None
        return (self.low + self.high) / 2, (self.high - self.low) / 2


def posterior_rate(x: Array, variance: Array, level: Array, link: str) -> Array:
    """Mean rate, Hz, of a Poisson observation.

    Parameters
    ----------
    x, variance : array (..., neuron)
        Mean and variance of the activation.
    level : array (neuron)
        Log of the rate at x = 0.
    link : str
        "exp" or "softplus".

    Returns
    -------
    array (..., neuron)
    """
    if link == "exp":
        return np.exp(np.minimum(x + variance / 2 + level, 40))
    h = np.sqrt(3 * variance)
    soft = (2 / 3) * np.logaddexp(x, 0) + (np.logaddexp(x - h, 0) + np.logaddexp(x + h, 0)) / 6
    return np.exp(level) / np.log(2) * soft


def predicted_rates(fit: xr.Dataset) -> Array | None:
    """The rates in Hz that a fit predicts: of its run, or of single trials from the posterior of the latents.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint` or `fit_trials`.

    Returns
    -------
    array (condition, time, neuron) or None
        None for a fit that does not say what its activity is in Hz. NaN for hidden units.
    """
    if "log_rate" in fit:
        m = loadings_of_conditions(fit, fit) if has_drift(fit) else fit["m"].values
        x = fit["latent"].values @ m.swapaxes(-1, -2) + fit["filtered_input"].values @ fit["input_weights"].values.T
        variance = np.zeros(m.shape[-2])
        if "latent_cov" in fit:
            covariance = fit["latent_cov"].values
            outer = (m[..., :, None] * m[..., None, :]).reshape(*m.shape[:-1], -1)
            variance = np.maximum(covariance.reshape(*covariance.shape[:2], -1) @ outer.swapaxes(-1, -2), 0)
        return posterior_rate(x + fit["bias"].values, variance, fit["log_rate"].values, fit.attrs.get("link", "exp"))
    if "scale" not in fit or "offset" not in fit:
        return None
    offset = fit["offset"]
    offset = offset.transpose("time", "neuron") if "time" in offset.dims else offset
    return Link.of(fit).rate(fit["activity_pred"].values * fit["scale"].values + offset.values)
