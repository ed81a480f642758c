"""Single trials of several areas: nothing outside of the blocks, and the currents of a known network."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.learning.steps import Draws, observation_step, with_common_dynamics
from nwb_lint.statespace.system import Batches
from nwb_lint.testing import mock_areas
from tests.factories import assert_same

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
RANKS = {"A<-B": 0}


def trials_of(network: xr.Dataset, rate_hz: float, seed: int) -> xr.Dataset:
    """Spike counts of the network, without noise of its own."""
    x = network["activity_pred"].values
    count = np.random.default_rng(seed).poisson(0.02 * rate_hz * np.exp(x)).astype(np.uint16)
    columns = ("area", "neuron", "time", "input")
    coords = {name: network[name] for name in columns} | {"trial": np.arange(len(count))}
    u = (("trial", "time", "input"), network["u"].values)
    trials = xr.Dataset({"u": u}, coords=coords, attrs={"bin_s": 0.02})
    return trials.assign(count=(("trial", "time", "neuron"), count))


@pytest.fixture(scope="module")
def network():
    return mock_areas([[1, 0], [1, 1]], n_neurons=32, n_conditions=40, seed=3)[1]


@pytest.fixture(scope="module")
def fit(network):
    return nl.fit_trials(
        trials_of(network, 20.0, 0), rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, hidden=16, max_iter=8,
        input_areas={"to A": "A"},
    )  # fmt: skip


def test_nothing_is_outside_of_the_blocks(fit):
    area = fit["area"].values
    assert fit["to_area"].values.tolist() == ["A", "B", "B"]
    assert not fit["m"].values[area[:, None] != fit["to_area"].values].any()
    assert not fit["n"].values[area[:, None] != fit["from_area"].values].any()
    assert not fit["input_weights"].sel(input="to A").values[area == "B"].any()
    assert fit["m"].values[area == "B"].any()


def test_currents_of_a_known_network_come_back(network, fit):
    recorded = fit["recorded"].values
    true = nl.currents(network)["current"].values[..., :2]
    found = nl.currents(fit)["current"].values[:, :, recorded, :2]
    off = (found - found.mean(axis=(0, 1))) - (true - true.mean(axis=(0, 1)))
    assert 1 - (off**2).sum() / ((true - true.mean(axis=(0, 1))) ** 2).sum() > 0.8


def test_a_source_that_nothing_reaches_is_silent(network):
    """Area B has no block to it and no input: what A hears from it is 0."""
    ranks = {"A<-A": 0, "B<-A": 0, "B<-B": 0}
    trials = trials_of(network, 20.0, 0).drop_vars(["u", "input"])
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, areas="area", block_ranks=ranks, hidden=0, max_iter=2)
    assert np.isfinite(fit["evidence"].values).all()
    np.testing.assert_allclose(nl.currents(fit)["current"].values[..., :2], 0, atol=1e-6)


def test_the_gauge_is_that_of_each_block_and_the_file_keeps_it(fit, tmp_path):
    assert fit.attrs["gauge"].startswith("in each block")
    assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)))


def test_a_fit_begins_from_the_means(network):
    means, _ = mock_areas([[1, 0], [1, 1]], n_neurons=32, n_conditions=40, seed=3)
    start = nl.fit_lint(means, rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, method="regression")
    found = nl.fit_trials(
        trials_of(network, 20.0, 0), rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, hidden=0, max_iter=2,
        start=start,
    )  # fmt: skip
    assert np.isfinite(found["evidence"].values).all()
    other = nl.fit_lint(means, rank=1, tau_s=0.1, areas="area", block_ranks={"B<-A": 0}, method="regression")
    plain = nl.fit_lint(means, rank=3, tau_s=0.1, method="regression")
    for one in (other, plain):
        with pytest.raises(ContractError, match="start has other blocks"):
            nl.fit_trials(
                trials_of(network, 20.0, 0), rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, start=one, hidden=0
            )


@pytest.fixture(scope="module")
def drifting(network):
    return nl.fit_trials(
        trials_of(network, 20.0, 0), rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, hidden=0, max_iter=2, drift=1
    )


def test_common_dynamics_of_trials_mix_no_blocks(network, drifting):
    system, trials = system_of(drifting), trials_for(drifting, trials_of(network, 20.0, 0))
    latents = drifting["latent"].values.astype(float)
    noise = np.random.default_rng(0).standard_normal(latents.shape)
    moved, draws = with_common_dynamics(system, Batches(trials), Draws(np.stack([latents + noise]), latents, None))
    outside = drifting["area"].values[:, None] != drifting["to_area"].values
    assert not moved.m[outside].any()
    assert not moved.drift[outside].any()
    assert moved.drift.any()
    assert np.abs(draws.mean - latents).max() > 1e-3  # each block has one latent: it changes its scale
    scale = np.median(draws.mean / latents, axis=1, keepdims=True)
    np.testing.assert_allclose(draws.mean, scale * latents, atol=1e-9)


def test_weights_that_are_fitted_again_stay_in_the_blocks(network, fit):
    """As in few-shot co-smoothing."""
    system, trials = system_of(fit), trials_for(fit, trials_of(network, 20.0, 0))
    drawn = fit["latent"].values[None].astype(float)
    found = observation_step(system._replace(m=0 * system.m), Batches(trials), drawn, system.level, steps=5)
    recorded, area = slice(system.n_neurons), fit["area"].values
    inside = (area[:, None] == fit["to_area"].values)[recorded]
    assert not found.m[recorded][~inside].any()
    assert not found.weights[recorded][area[recorded] == "B", 0].any()  # of the input to A
    assert np.corrcoef(found.m[recorded][inside], system.m[recorded][inside])[0, 1] > 0.9
    bits = nl.bits_per_spike(fit, trials_of(network, 20.0, 1), neurons=[0, 20], shots=20)
    assert np.isfinite(bits["few_shot"])


def test_currents_of_a_fit_with_drift_have_m_of_their_trial(network, drifting):
    fit = drifting
    for more in ((), (fit[["u"]],)):
        found = nl.currents(fit, *more)
        for k in (0, 39):
            one = nl.network_of_trial(fit, k)
            alone = nl.currents(one, *(u.isel(condition=[k]) for u in more))
            for name in ("current", "drive"):
                np.testing.assert_allclose(found[name][k], alone[name][0], atol=1e-4)
    power = np.square(found["current"].values.astype(float)[:, :, fit["area"].values == "B", 0])
    np.testing.assert_allclose(found["size"].sel(target="B", sender="A"), np.sqrt(power.mean(axis=(0, 2))), rtol=1e-4)
