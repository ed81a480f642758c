"""The gradient of runs without noise: its derivative, what it finds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_lint import fit_lint, fit_trials, refine_free_run, simulate
from nwb_lint.errors import ContractError
from nwb_lint.parallel.arrays import engine_on
from nwb_lint.prepare import drawn
from nwb_lint.statespace import refine
from nwb_lint.statespace._torch import RunsWithoutNoise
from nwb_lint.statespace.data import arrays_of, system_of, trials_for
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.steps import Draws, whiten
from nwb_lint.statespace.refine import noise_of_steps, with_likelier_noise
from nwb_lint.statespace.system import Batches, likelihood_terms
from nwb_lint.statespace.tuning import NOISE_SHARES, REFINE_HELD
from nwb_lint.testing import mock_activity, mock_trials

OPTIONS = {"rank": 2, "tau_s": 0.1, "hidden": 6, "max_iter": 3}


@pytest.fixture(scope="module")
def trials():
    """Spikes of 10 neurons that a random input drives through a network of rank 2, nearly without noise."""
    rng = np.random.default_rng(0)
    u = np.repeat(rng.standard_normal((40, 12, 2)), 5, axis=1)
    m, n, weights = rng.standard_normal((10, 2)), 4 * rng.standard_normal((10, 2)), 0.3 * rng.standard_normal((10, 2))
    x, rate = np.zeros((40, 10)), []
    for t in range(60):
        rate.append(3 * np.exp(0.5 * x))
        x = 0.5 * x + 0.5 * (np.tanh(x) @ n @ m.T / 10 + 2 * u[:, t] @ weights.T)
    count = rng.poisson(np.stack(rate, axis=1)).astype(np.uint16)
    plain = mock_trials(n_neurons=10, n_trials=40)
    coords = {name: plain[name] for name in ("trial", "neuron")} | {"time": 0.05 * np.arange(60), "input": ["a", "b"]}
    data = {
        "count": (("trial", "time", "neuron"), count), "observed": (("trial", "time", "neuron"), count < 60000),
        "u": (("trial", "time", "input"), u.astype(np.float32)),
    }  # fmt: skip
    return xr.Dataset(data, coords, plain.attrs | {"bin_s": 0.05})


@pytest.fixture(scope="module")
def fit(trials):
    return fit_trials(trials, **OPTIONS)


@pytest.mark.parametrize("observation", ["poisson", "gaussian"])
def test_the_derivative_is_that_of_the_log_likelihood(monkeypatch, fit, trials, observation):
    monkeypatch.setattr("nwb_lint.model._torch.GRADIENT_BLOCK_VALUES", 3000)  # blocks of some time steps
    arrays = arrays_of(trials, "count", 0.5)
    seen = np.random.default_rng(1).random(arrays.y.shape) < 0.8
    system = system_of(fit)._replace(observation=observation, variance=np.full(10, 2.0))
    arrays = arrays._replace(seen=seen)
    first = np.random.default_rng(2).standard_normal((len(arrays.y), 2))
    problem = RunsWithoutNoise(system, arrays, first)
    w = np.column_stack([system.weights, system.bias])
    loss, *gradients = problem.loss_and_gradient(system.m, system.n, w)
    kappa = [first]
    for t in range(59):
        x = kappa[-1] @ system.m.T + arrays.v[:, t] @ system.weights.T + system.bias
        kappa.append(0.5 * kappa[-1] + 0.5 * np.tanh(x) @ system.n / len(system.n))
    x = np.stack(kappa, axis=1) @ system.m[:10].T + arrays.v @ system.weights[:10].T + system.bias[:10]
    expected = -likelihood_terms(system, arrays, x)[0].sum() / seen.sum()
    assert loss == pytest.approx(expected, rel=1e-5)
    for k, gradient in enumerate(gradients):
        direction = np.random.default_rng(k).standard_normal(gradient.shape)
        parameters = [system.m, system.n, w]

        def at(step, k=k, direction=direction, parameters=parameters):
            moved = [p + step * direction if j == k else p for j, p in enumerate(parameters)]
            return problem.loss(*moved)

        slope = (at(1e-3) - at(-1e-3)) / 2e-3
        assert (gradient * direction).sum() == pytest.approx(slope, rel=0.02, abs=1e-4)


def test_free_runs_predict_held_out_trials_better(fit, trials):
    new = refine_free_run(fit, trials, epochs=20)
    assert new.attrs["free_run_loss"] < new.attrs["free_run_loss_before"] - 1e-3
    assert new.attrs["bias"] == "fitted"
    assert float(new["r2"][0]) > float(fit["r2"][0])
    known = new["latent"].var(("condition", "time")).values
    unknown = np.diag(new["latent_cov"].mean(("condition", "time")))
    np.testing.assert_allclose((known + unknown).sum(), 2, atol=0.5)
    run = simulate(new, new["u"])["activity"]
    assert run.sizes["neuron"] == 16
    again = refine_free_run(fit, trials, epochs=20)
    np.testing.assert_array_equal(again["n"], new["n"])


def test_it_is_never_worse_on_the_held_out_trials(trials):
    """Also of trials whose spikes are noise alone."""
    shuffled = trials.assign(u=trials["u"] * 0)
    noise = np.random.default_rng(3).poisson(3.0, trials["count"].shape).astype(np.uint16)
    shuffled = shuffled.assign(count=(trials["count"].dims, noise))
    plain = fit_trials(shuffled, rank=1, tau_s=0.1, hidden=0, max_iter=2)
    new = refine_free_run(plain, shuffled, epochs=1)
    assert new.attrs["free_run_loss"] <= new.attrs["free_run_loss_before"]


@pytest.mark.parametrize("times", [30.0, 1.0])
def test_noise_that_is_too_large_becomes_as_likely_as_that_of_the_fit(fit, trials, times):
    system, arrays, engine = system_of(fit), trials_for(fit, trials), engine_on("cpu")
    system = system._replace(noise=times * system.noise)

    def evidence(one):
        return posterior_of(one, arrays)[2].sum()

    found = with_likelier_noise(system, arrays, engine)
    share = found.noise / system.noise
    np.testing.assert_allclose(share, share[0, 0])
    assert share[0, 0] <= 1
    assert evidence(found) >= evidence(system)
    less = evidence(found._replace(noise=0.3 * found.noise))
    assert less < evidence(found) or share[0, 0] == NOISE_SHARES[-1]
    if times > 1:
        assert share[0, 0] < 0.5


def test_unit_latents_leave_the_dynamics(fit, trials):
    """Of all units, so that the noise of the steps is that of the latents in their coordinates."""
    system, arrays = system_of(fit), arrays_of(trials, "count", 0.5)
    kappa = 3 * np.random.default_rng(4).standard_normal((2, *arrays.y.shape[:2], 2))
    data = Batches(arrays)
    before = noise_of_steps(system, data, kappa)
    turned, draws = whiten(system, Draws(kappa, kappa[0], None), arrays.lag, with_hidden=True)
    np.testing.assert_allclose(np.cov(draws.drawn.reshape(-1, 2).T), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(turned.m @ turned.n.T, system.m @ system.n.T, atol=1e-6)
    to = np.linalg.lstsq(kappa.reshape(-1, 2), draws.drawn.reshape(-1, 2), rcond=None)[0]
    np.testing.assert_allclose(noise_of_steps(turned, data, draws.drawn), to.T @ before @ to, rtol=1e-3)


def test_what_it_refuses(fit, trials):
    soft = fit_trials(trials, **(OPTIONS | {"link": "softplus", "max_iter": 1}))
    with pytest.raises(ContractError, match="The fit has a softplus link"):
        refine_free_run(soft, trials, epochs=1)
    with pytest.raises(ContractError, match="single trial"):
        refine_free_run(fit, trials.isel(trial=[0]), epochs=1)
    with pytest.raises(ContractError, match="mean activity"):
        refine_free_run(fit_lint(mock_activity(), rank=1, tau_s=0.1, method="regression"), trials, epochs=1)
    with pytest.raises(ContractError, match="No sample is observed in the trials that train, 36 of 40"):
        refine_free_run(fit, trials.assign(observed=trials["observed"] & False), epochs=1)


def test_held_out_trials_do_not_train(fit, trials, monkeypatch):
    """Neither in pieces, which are those of some of the trials, nor in whole trials."""
    arrays = arrays_of(trials, "count", 0.5)
    held = drawn(len(arrays.y), REFINE_HELD, 0)
    most, trained = float(arrays.y[~held].max()), []
    marked = arrays._replace(y=np.where(held[:, None, None], most + 1, arrays.y))
    descended = refine._descended

    def recorded(system, data, first, out, *rest):
        trained.append(float(data.y[~out].max()))
        assert data.y[out].min() == most + 1
        return descended(system, data, first, out, *rest)

    monkeypatch.setattr(refine, "_descended", recorded)
    monkeypatch.setattr(refine, "PIECE_TRIALS", 24)
    refine.refined(system_of(fit), marked, 1, 0)
    assert len(trained) == 3
    assert max(trained) <= most


def test_the_loss_is_that_of_the_network_also_where_trials_end_early(fit, trials):
    """Per observed sample of the held-out trials; Q and the first latents change it little."""
    seen = np.broadcast_to(np.arange(60) < np.arange(20, 60)[:, None], (40, 60))[..., None]
    early = trials.assign(observed=trials["observed"] & seen)
    for epochs in (1, 3):
        system, losses = refine.refined(system_of(fit), arrays_of(early, "count", 0.5), epochs, 0)
        held = arrays_of(early, "count", 0.5).part(drawn(40, REFINE_HELD, 0))
        own = refine._held_out_loss(system, held, engine_on("cpu"), "cpu")
        assert len(losses) == 2 + epochs
        assert losses[0] == pytest.approx(refine._held_out_loss(system_of(fit), held, engine_on("cpu"), "cpu"))
        assert losses.min() == pytest.approx(own, abs=0.01)
