"""The Computation-through-Dynamics Benchmark: laws of its scores, its spikes, and its quick run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nwb_lint import fit_trials, infer_latents, predict_rates
from nwb_lint.experiments.field import ctd
from nwb_lint.experiments.field.published import CTD
from nwb_lint.experiments.frame import load_experiment, reproduce
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.tasks.continuous import flip_flop, multitask
from nwb_lint.tasks.gated import train_gated

RNG = np.random.default_rng(0)
STATES = RNG.standard_normal((400, 6))
MAP = RNG.standard_normal((6, 3))


def test_rates_count_with_their_variance():
    true = RNG.gamma(2.0, size=(500, 4)) * np.array([1, 1, 1, 100.0])
    assert ctd.rate_r2(true, true) == 1
    assert ctd.rate_r2(true, np.broadcast_to(true.mean(axis=0), true.shape)) == pytest.approx(0)
    small, large = true.copy(), true.copy()
    small[:, 0], large[:, 3] = true[:, 0].mean(), true[:, 3].mean()
    assert ctd.rate_r2(true, small) > 0.99
    assert ctd.rate_r2(true, large) < 0.01


def test_latents_that_the_network_has_score_one_in_any_coordinates():
    latents, turn = STATES @ MAP + 1, RNG.standard_normal((6, 6))
    parts = slice(0, 300), slice(300, 400)
    pair = [(STATES[part], latents[part]) for part in parts]
    assert ctd.state_r2(*pair) == pytest.approx(1)
    noisy = latents + RNG.standard_normal(latents.shape)
    plain = ctd.state_r2(*((STATES[part], noisy[part]) for part in parts))
    turned = ctd.state_r2(*((STATES[part] @ turn - 3, noisy[part]) for part in parts))
    assert plain == pytest.approx(turned)
    assert 0 < plain < 0.95
    with_other = np.column_stack([latents, 3 * RNG.standard_normal(400)])  # a latent that the network does not have
    assert ctd.state_r2(*((STATES[part], with_other[part]) for part in parts)) < 0.9


def test_co_smoothing_is_the_gain_in_log_likelihood_over_the_mean():
    rate = RNG.gamma(2.0, size=(3000, 5))
    count = RNG.poisson(rate)
    nll = [torch.nn.functional.poisson_nll_loss(torch.tensor(np.broadcast_to(one, rate.shape)), torch.tensor(count),
                                                log_input=False, reduction="sum", eps=0)
           for one in (count.mean(axis=0), rate)]  # fmt: skip
    expected = float(nll[0] - nll[1]) / count.sum() / np.log(2)
    assert ctd.co_smoothing_bits(rate, count) == pytest.approx(expected, rel=1e-6)
    assert ctd.co_smoothing_bits(np.broadcast_to(count.mean(axis=0), rate.shape), count) == pytest.approx(0)
    assert ctd.co_smoothing_bits(rate, count) > ctd.co_smoothing_bits(rate**0.5, count) > 0


def test_cycles_are_consistent_as_far_as_latents_are_in_the_rates():
    latents = STATES[:, :3]
    seen = latents @ RNG.standard_normal((3, 20))
    assert ctd.cycle_consistency(latents, seen, latents) == pytest.approx(1)
    hidden = np.column_stack([latents, STATES[:, 3:4]])  # a fourth latent without effect
    share = 1 - np.var(hidden[:, 3]) / np.var(hidden, axis=0).sum()
    assert ctd.cycle_consistency(hidden, seen, hidden) == pytest.approx(share)
    turn = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    assert ctd.cycle_consistency(hidden @ turn + 2, seen, hidden @ turn + 2) == pytest.approx(share)
    faint = hidden[:, 3:] @ np.full((1, 20), 1e-3)
    assert ctd.cycle_consistency(hidden, seen + faint, hidden) == pytest.approx(share, abs=1e-3)
    assert ctd.cycle_consistency(hidden, seen + faint, hidden, truncation=0) == pytest.approx(1)


@pytest.fixture(scope="module")
def network():
    return train_gated("flip-flop", n_units=24, seed=3, updates=2)


def test_neurons_follow_units_and_share_one_scale(network):
    trials = flip_flop(40, 1, n_steps=60)
    found = ctd.simulate_spikes(network, trials, 5)
    assert np.bincount(found.unit).tolist() == [2] * 24 + [3] * 0 or set(np.bincount(found.unit)) <= {2, 3}
    log_rates = np.log(found.rates)
    assert log_rates.std() == pytest.approx(0.5)
    assert log_rates.mean() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(log_rates, found.log_rates_of(found.states))
    first, other = np.flatnonzero(found.unit == found.unit[0])[:2]
    np.testing.assert_array_equal(log_rates[..., first], log_rates[..., other])
    assert found.test.sum() == 8
    count = found.trials["count"].values
    assert (count - found.rates).mean() == pytest.approx(0, abs=0.02)
    assert ((count - found.rates) ** 2 / found.rates).mean() == pytest.approx(1, rel=0.03)  # Poisson


def test_inputs_come_two_steps_early_and_samples_after_the_end_do_not_count():
    trials = multitask(2, 4, tasks=("DelayPro", "ReactAnti"))
    made = ctd.as_trials(trials, np.ones((4, 320, 3), int))
    np.testing.assert_array_equal(made["u"][:, :-2], trials["u"][:, 2:])
    assert made["observed"].values[..., 0].sum(axis=1).tolist() == trials["n_steps"].values.tolist()


def test_a_fit_infers_from_held_in_neurons_alone(network):
    simulated = ctd.simulate_spikes(network, flip_flop(12, 1, n_steps=30), 5)
    trials = simulated.trials
    fit = fit_trials(trials, rank=2, tau_s=0.02, hidden=10, max_iter=2)
    found = ctd.infer(fit, trials)
    changed = trials.assign(count=trials["count"].copy())
    changed["count"][..., ctd.HELD_IN :] = 0
    again = ctd.infer(fit, changed)
    np.testing.assert_array_equal(found["posterior"].rates, again["posterior"].rates)
    blind = trials.assign(observed=trials["observed"] & (np.arange(60) < ctd.HELD_IN))
    rates, latents = predict_rates(fit, blind)["rate"].values, infer_latents(fit, blind)["latent"].values
    np.testing.assert_allclose(found["posterior"].rates, 0.02 * rates.reshape(-1, 60), rtol=1e-5)
    size = np.linalg.norm(fit["m"].values[:60], axis=0)
    np.testing.assert_allclose(found["posterior"].latents, (size * latents).reshape(-1, 2), atol=1e-5)
    first = found["free run"].latents.reshape(12, 30, 2)[:, 0]
    np.testing.assert_allclose(first, (size * latents)[:, 0], atol=1e-5)


def test_a_free_run_is_that_of_the_network(network):
    """From the mean of the first latents, as `fit_trials` runs."""
    simulated = ctd.simulate_spikes(network, flip_flop(12, 1, n_steps=30), 5)
    fit = fit_trials(simulated.trials, rank=2, tau_s=0.04, hidden=10, max_iter=2)
    system = ctd.system_of(fit)
    first = np.repeat(system.start, 12, axis=0)
    rates = ctd.free_run(system, fit["filtered_input"].values.astype(float), first)[1]
    x = fit["activity_pred"].values[..., :60]
    np.testing.assert_allclose(np.log(rates), x + fit["log_rate"].values[:60], atol=1e-3)


def test_runs_end_at_attractors():
    """One unit whose candidate is nearly the sign of its state has two."""
    network = train_gated("flip-flop", n_units=1, updates=1)
    zero = network.map(np.zeros_like)
    network = network.assign(zero)
    network["recurrent_weights"][2, 0, 0] = 20.0
    found = ctd.attractors(network, np.array([[0.3], [0.2], [-0.1], [-0.4]]))
    assert sorted(found[:, 0].round(3).tolist()) == [-1.0, 1.0]


def test_the_experiment_says_what_its_numbers_say():
    scores = {"rate_r2": 0.99, "state_r2": 0.97, "bits": 0.13, "cycle_consistency": 1.0, "bits_true_rates": 0.135}
    scores |= {"rate_r2_true_run": 0.98, "bits_true_run": 0.132}
    row = scores | {"task": "flip-flop", "seed": 0, "rank": 8, "stable": 8, "matched": 8}
    table = pd.DataFrame([row | {"model": model} for model in ("posterior", "free run")])
    claims = ctd.claims(table)
    assert [good for _, good in claims] == [True, True, False, True, False]
    assert "not: multitask" in claims[-1][0]
    assert not ctd.claims(table.assign(matched=7))[-2][1]
    cells = ctd.compare(table)
    assert len(cells) == 4 * 2 * sum(task == "flip-flop" for task, _ in CTD)
    bits = next(cell for cell in cells if "GRU (ours: posterior): bits" in cell.what)
    assert bits.better == "published"
    assert "0.135" in bits.reason
    assert "Rank 8 leaves out" in bits.reason
    run = next(cell for cell in cells if "GRU (ours: free run): bits" in cell.what)
    assert "R² 0.980 and 0.132 bits" in run.reason
    assert all(cell.better == "" for cell in cells if "cycle consistency" in cell.what)


@pytest.mark.slow
def test_quick_run(tmp_path):
    table = reproduce("ctd", tmp_path, quick=True)
    posterior = table[table["model"] == "posterior"].iloc[0]
    assert posterior["rate_r2"] > 0.7
    assert 0.5 * posterior["bits_true_rates"] < posterior["bits"] < 1.1 * posterior["bits_true_rates"]
    assert 0.9 < posterior["rate_r2_true_run"] < 1
    assert 0.9 * posterior["bits_true_rates"] < posterior["bits_true_run"] < 1.02 * posterior["bits_true_rates"]
    assert load_experiment("ctd").compare(table)
    assert read_fit(tmp_path / "fits" / "ctd_flip-flop_seed0.nwb").sizes["rank"] == 4
