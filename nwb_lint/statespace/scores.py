"""Bits per spike of single trials, as the Neural Latents Benchmark defines them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lint.contract.columns import recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.options.checks import validated
from nwb_lint.options.single_trials import BitsOptions
from nwb_lint.parallel.arrays import NUMPY, Engine
from nwb_lint.prepare import mask_of
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.inference import posterior_of, rates_of
from nwb_lint.statespace.learning.steps import observation_step, reference_level
from nwb_lint.statespace.system import Batches, System, Trials
from nwb_lint.statespace.tuning import NEURON_FOLDS


def gained_bits(rate: Array, y: Array, seen: Array | None, log_exposure: Array) -> tuple[Array, Array]:
    """Bits that rates, Hz, gain over the mean rate of each neuron in the same samples, and spikes, both (neuron)."""
    exposure = np.exp(log_exposure)[..., None]
    use = np.broadcast_to(1.0, y.shape) if seen is None else seen.astype(float)
    expected = np.maximum(rate * exposure, 1e-9)
    spikes = (use * y).sum(axis=(0, 1))
    mean = np.maximum(spikes / np.maximum((use * exposure).sum(axis=(0, 1)), 1e-12), 1e-12) * exposure
    gain = use * (y * (np.log(expected) - np.log(mean)) - expected + mean)
    return gain.sum(axis=(0, 1)) / np.log(2), spikes


def _per_spike(bits: Array, spikes: Array) -> float:
    return float(bits.sum() / spikes.sum()) if spikes.sum() > 0 else np.nan


def co_smoothing(system: System, trials: Trials, groups: list[Array], engine: Engine = NUMPY) -> tuple[Array, Array]:
    """Bits and spikes of every neuron of the groups (masks), predicted from the neurons outside its group."""
    bits, spikes = np.full((2, system.n_neurons), np.nan)
    for group in groups:
        seen = np.broadcast_to(True, trials.y.shape) if trials.seen is None else trials.seen
        blind = trials._replace(seen=seen & ~group)
        mean, covariance, _ = posterior_of(system, blind, engine=engine)
        rate = rates_of(system, trials, mean, covariance)[0]
        gained, count = gained_bits(rate, trials.y, trials.seen, trials.log_exposure)
        bits[group], spikes[group] = gained[group], count[group]
    return bits, spikes


def neuron_groups(n: int, seed: int) -> list[Array]:
    """Masks of `NEURON_FOLDS` random groups of neurons; each neuron is in one."""
    number = min(NEURON_FOLDS, n)
    fold = np.random.default_rng(seed).permutation(n) % number
    return [fold == k for k in range(number)]


@validated(BitsOptions)
def bits_per_spike(
    fit: xr.Dataset,
    trials: xr.Dataset,
    *,
    neurons: object = None,
    forward_s: float | None = None,
    shots: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """How well a stochastic fit predicts spikes that it does not see, in bits per spike.

        (log likelihood of the predicted rates - of each neuron's mean rate in the same samples) / (log 2 · spikes)

    Co-smoothing predicts held-out neurons of a trial from its other neurons. Forward prediction predicts all neurons at
    the end of a trial from the samples before. Few-shot co-smoothing predicts held-out neurons whose weights are fitted
    again, on the latents of a few of the trials, and scores the others.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`. It has seen all neurons, in other trials.
    trials : xarray.Dataset
        Trials that took no part in the fit, with its neurons and inputs.
    neurons : labels, positions or array of bool, default=None
        Held-out neurons. None: four random groups in turn, so that every neuron is predicted once.
    forward_s : float or None, default=None
        Length of the end of the trials that is predicted forward, s.
    shots : int or None, default=None
        Number of trials that few-shot weights are fitted on. It needs ``neurons``.
    seed : int, default=0
        Seed of the groups, and of the trials of the few-shot weights.

    Returns
    -------
    xarray.Dataset
        ``co_smoothing ()``, ``co_smoothing_neuron (neuron)``, and ``forward ()``, ``few_shot ()`` if they are wanted;
        bits per spike. ``n_spikes (neuron)``: spikes of held-out neurons.

    Raises
    ------
    ContractError
        If the observation is not Poisson, or as `infer_latents`.

    References
    ----------
    Pei et al., NeurIPS Datasets and Benchmarks 2021 (Neural Latents Benchmark).
    Dabholkar & Barak, PLoS Comput. Biol. 21 (2025): few-shot co-smoothing.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials.isel(trial=slice(0, 20)), rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> bool(bits_per_spike(fit, trials.isel(trial=slice(20, None)))["co_smoothing"] > 0)
    True
    """
    system, arrays = system_of(fit), trials_for(fit, trials)
    if system.observation != "poisson":
        raise ContractError("The fit has a Gaussian observation. Bits per spike need counts. Fit with 'poisson'.")
    labels = fit["neuron"].values[recorded_of(fit)].astype(str)
    held = None if neurons is None else mask_of(labels, neurons, "neuron")
    groups = neuron_groups(system.n_neurons, seed) if held is None else [held]
    bits, spikes = co_smoothing(system, arrays, groups)
    out = xr.Dataset(coords={"neuron": labels})
    used = np.isfinite(bits)
    out["co_smoothing"] = (), _per_spike(bits[used], spikes[used])
    with np.errstate(invalid="ignore", divide="ignore"):
        out["co_smoothing_neuron"] = ("neuron",), np.where(spikes > 0, bits / spikes, np.nan)
    out["n_spikes"] = ("neuron",), spikes
    if forward_s is not None:
        out["forward"] = (), _forward(system, arrays, max(1, round(forward_s / float(fit.attrs["dt_s"]))))
    if shots is not None:
        if held is None or not 0 < shots < len(arrays.y):
            raise ContractError(
                f"shots is {shots}. It needs the argument neurons, and fewer than {len(arrays.y)} trials. Give both."
            )
        out["few_shot"] = (), _few_shot(system, arrays, held, shots, seed)
    return out


def _forward(system: System, trials: Trials, steps: int) -> float:
    """Bits per spike of the last steps, from the samples before."""
    n_times = trials.y.shape[1]
    if steps >= n_times:
        raise ContractError(f"forward_s is {steps} bins of {n_times}. It needs to be shorter than a trial.")
    seen = np.ones(trials.y.shape, bool) if trials.seen is None else trials.seen.copy()
    seen[:, n_times - steps :] = False
    mean, covariance, _ = posterior_of(system, trials._replace(seen=seen))
    rate = rates_of(system, trials, mean, covariance)[0]
    end = (slice(None), slice(n_times - steps, None))
    use = None if trials.seen is None else trials.seen[end]
    return _per_spike(*gained_bits(rate[end], trials.y[end], use, trials.log_exposure[end]))


def _few_shot(system: System, trials: Trials, held: Array, shots: int, seed: int) -> float:
    """Bits per spike of held-out neurons whose weights are fitted on some of the trials."""
    seen = np.ones(trials.y.shape, bool) if trials.seen is None else trials.seen
    mean, covariance, _ = posterior_of(system, trials._replace(seen=seen & ~held))
    order = np.random.default_rng(seed).permutation(len(mean))
    few, others = np.sort(order[:shots]), np.sort(order[shots:])
    reference = reference_level(trials.part(few), poisson=True)
    blank = system.m.copy()
    blank[: system.n_neurons] = 0
    drift = None if system.drift is None else 0 * system.drift
    start = system._replace(m=blank, drift=drift, weights=np.zeros_like(system.weights), level=reference)
    found = observation_step(start, Batches(trials.part(few)), mean[None, few], reference, steps=20)
    part = trials.part(others)
    rate = rates_of(found, part, mean[others], 0 * covariance[others])[0]
    bits, spikes = gained_bits(rate, part.y, part.seen, part.log_exposure)
    return _per_spike(bits[held], spikes[held])
