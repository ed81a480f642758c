"""Trials that differ along one direction: found where noise drives choices, not where spikes are all that differs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from nwb_lint.trial_noise import shared_trial_variance, warn_of_shared_variance

BIN_S = 0.02


def halves_of(seed, *, noise, overlap=1.6, neurons=50, rate=15.0, conditions=6, trials=20, input_gain=0.3):
    """Two halves of Poisson trials of a rank-1 network whose latent gets noise of its own in every trial."""
    rng = np.random.default_rng([seed, 7])
    m, w = rng.standard_normal((2, neurons))
    n = overlap * m + 0.6 * w + 0.5 * rng.standard_normal(neurons)
    stimulus, x, states = np.linspace(-1, 1, conditions), np.zeros((conditions, trials, neurons)), []
    for t in range(75):
        states.append(x)
        kappa = np.tanh(x) @ n / neurons + 5 * noise * rng.standard_normal((conditions, trials))
        drive = input_gain * (t < 25) * stimulus[:, None, None] * w
        x = 0.8 * x + 0.2 * (kappa[..., None] * m + drive)
    counts = rng.poisson(rate * BIN_S * np.exp(0.5 * np.stack(states, 2))) / BIN_S
    halves = np.stack([counts[:, k::2].mean(axis=1) for k in (0, 1)])
    smooth = np.apply_along_axis(np.convolve, 2, halves, np.full(7, 1 / 7), "same")
    dims = ("half", "condition", "time", "neuron")
    number = np.full((2, conditions, neurons), trials // 2)
    return xr.Dataset(
        {
            "rate": (dims[1:], smooth.mean(axis=0)),
            "rate_half": (dims, smooth),
            "n_trials_half": (("half", "condition", "neuron"), number),
        }
    )


@pytest.mark.parametrize("seed", range(3))
def test_choices_that_noise_drives_are_found(seed):
    recording = halves_of(seed, noise=0.08)
    assert shared_trial_variance(recording) > 0.5
    with pytest.warns(UserWarning, match=r"about \d\d% of the variance is among trials of the same condition"):
        warn_of_shared_variance(recording)


def test_counting_noise_alone_is_not():
    assert sum(shared_trial_variance(halves_of(seed, noise=0, neurons=20)) > 0 for seed in range(20)) <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared_variance(halves_of(0, noise=0))


def test_the_order_and_the_units_of_neurons_do_not_matter():
    recording = halves_of(0, noise=0.08, neurons=20)
    share = shared_trial_variance(recording)
    scaled = recording.copy()
    gain = np.random.default_rng(0).uniform(0.1, 10, 20)
    scaled["rate"], scaled["rate_half"] = recording["rate"] * gain, recording["rate_half"] * gain
    assert shared_trial_variance(scaled) == pytest.approx(share)
    assert shared_trial_variance(recording.isel(neuron=slice(None, None, -1))) == pytest.approx(share)


def test_only_neurons_of_one_session_share_trials():
    recording = halves_of(0, noise=0.08, neurons=40)

    def in_sessions_of(size):
        return recording.assign_coords(session=("neuron", (np.arange(40) // size).astype(str)))

    assert shared_trial_variance(in_sessions_of(40)) == shared_trial_variance(recording)
    assert shared_trial_variance(in_sessions_of(20)) > 0.5
    assert np.isnan(shared_trial_variance(in_sessions_of(1)))  # the same numbers, but no two neurons share a trial


@pytest.mark.parametrize("few", [{"neuron": slice(3)}, {"condition": slice(1)}], ids=str)
def test_what_cannot_be_known_is_nan(few):
    recording = halves_of(0, noise=0.08, neurons=8)
    assert np.isnan(shared_trial_variance(recording.isel(few)))
    assert np.isnan(shared_trial_variance(recording.drop_vars("rate_half")))


def test_a_neuron_without_trials_in_a_condition_does_not_count():
    recording = halves_of(0, noise=0.08)
    recording["n_trials_half"][0, 2, 5] = 0
    recording["rate_half"][0, 2, :, 5] = np.nan
    assert shared_trial_variance(recording) == pytest.approx(shared_trial_variance(recording.drop_isel(neuron=5)))
