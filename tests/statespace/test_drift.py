"""m that drifts over the trials of a session: the laws of its fit, and a truth that comes back."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.contract.checks import check_fit
from nwb_lint.drift import drift_functions, functions_at, loadings_and_errors
from nwb_lint.errors import ContractError
from nwb_lint.rate_link import predicted_rates
from nwb_lint.testing import mock_trials
from tests.factories import assert_same

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
OPTIONS = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 6}


def drifting_trials(size=0.5, n_trials=80, n_neurons=12, seed=0):
    """Counts of a rank-1 network whose m moves in a straight line over the trials, and m (trial, neuron)."""
    rng = np.random.default_rng(seed)
    line = np.sqrt(3) * np.linspace(-1, 1, n_trials)
    m = rng.standard_normal(n_neurons) + size * line[:, None] * rng.standard_normal(n_neurons)
    n = m.mean(axis=0)
    kappa, path = 1 + 0.5 * rng.standard_normal(n_trials), []  # or the sign of the latent of a trial is free
    for _ in range(40):
        path.append(kappa)
        r = np.tanh(kappa[:, None] * m) @ n / n_neurons
        kappa = 0.8 * kappa + 0.2 * 1.5 * r + 0.2 * rng.standard_normal(n_trials)
    x = np.stack(path, axis=1)[..., None] * m[:, None]
    count = rng.poisson(0.02 * 15 * np.exp(np.minimum(x, 3))).astype(np.uint16)
    base = mock_trials(n_neurons=n_neurons, n_trials=n_trials)
    return base.assign(count=(base["count"].dims, count)), m


@pytest.fixture(scope="module")
def trials():
    return drifting_trials()[0]


@pytest.fixture(scope="module")
def fit(trials):
    return nl.fit_trials(trials, drift=1, test_size=10, **OPTIONS)


def each_m(fit):
    return (fit["m"] + (fit["m_drift"] * fit["drift_basis"]).sum("basis")).transpose("condition", "neuron", "rank")


def test_functions_are_orthogonal_have_mean_0_and_mean_square_1_and_turn_as_often_as_their_number():
    for numbers in (np.arange(50.0), np.sort(np.random.default_rng(0).choice(400, 60, replace=False)).astype(float)):
        basis = drift_functions(numbers, 4)
        np.testing.assert_allclose(basis @ basis.T / len(numbers), np.eye(4), atol=1e-9)
        np.testing.assert_allclose(basis.mean(axis=1), 0, atol=1e-9)
        assert [int((np.diff(np.sign(one)) != 0).sum()) for one in basis] == [1, 2, 3, 4]
        assert (basis[:, 0] > 0).all()


def test_a_straight_drift_comes_back(fit):
    true = drifting_trials()[1]
    found = each_m(fit).values[..., 0]
    scale = (found.mean(axis=0) @ true.mean(axis=0)) / (found.mean(axis=0) ** 2).sum()
    change, wanted = scale * (found - found.mean(axis=0)), true - true.mean(axis=0)
    assert 1 - ((change - wanted) ** 2).sum() / (wanted**2).sum() > 0.85


@pytest.mark.parametrize("seed", [0, 1])
def test_a_drift_by_more_than_the_size_of_m_comes_back(seed):
    """Components of the whole session have one sign at its start and the other at its end (R² 0 to .03)."""
    trials, true = drifting_trials(1.0, seed=seed)
    found = each_m(nl.fit_trials(trials, drift=1, **OPTIONS)).values[..., 0]
    scale = (found.mean(axis=0) @ true.mean(axis=0)) / (found.mean(axis=0) ** 2).sum()
    change, wanted = scale * (found - found.mean(axis=0)), true - true.mean(axis=0)
    assert 1 - ((change - wanted) ** 2).sum() / (wanted**2).sum() > 0.9


def test_a_part_of_the_session_without_data_is_no_start(trials):
    seen = np.broadcast_to(np.arange(80)[:, None, None] >= 27, trials["count"].shape)
    fit = nl.fit_trials(trials.assign(observed=(trials["count"].dims, seen)), drift=1, **(OPTIONS | {"max_iter": 2}))
    assert np.isfinite(fit["m_drift"]).all()


def test_held_out_trials_choose_drift_where_it_is_and_constancy_where_it_is_not(trials):
    found = nl.compare_drift(trials, drifts=(0, 1), folds=2, **OPTIONS)
    assert found.attrs["drift"] == 1
    constant = nl.compare_drift(drifting_trials(0.0)[0], drifts=(0, 1), folds=2, **OPTIONS)
    assert constant.attrs["drift"] == 0
    difference = np.diff(constant["evidence_condition"].values, axis=0)[0]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert constant["drift_deficit_sem"].values.max() == pytest.approx(error)


def test_a_rank_is_chosen_beside_drift(trials):
    options = {name: value for name, value in OPTIONS.items() if name != "rank"} | {"max_iter": 3}
    found, constant = (nl.select_rank(trials, ranks=[1], folds=2, drift=drift, **options) for drift in (1, 0))
    assert (found["bits"].values > constant["bits"].values).all()


def test_scores_and_latents_use_m_of_their_trial(fit, trials):
    held = trials.isel(trial=fit["held_out"].values)
    own = nl.infer_latents(fit, held)
    np.testing.assert_allclose(own["latent"], fit["latent"].values[fit["held_out"].values], atol=0.02)
    mean = nl.infer_latents(fit.drop_vars(["m_drift", "drift_basis", "observation_cov"]), held)
    assert float(own["evidence"].sum()) > float(mean["evidence"].sum()) + 50
    k = int(np.flatnonzero(fit["held_out"].values)[0])
    one = nl.network_of_trial(fit, str(fit["condition"].values[k]))
    alone = nl.infer_latents(one, trials.isel(trial=[k]))
    np.testing.assert_allclose(alone["latent"][0], own["latent"][0], atol=1e-4)
    for call in (nl.predict_rates, lambda *a: nl.forecast(*a, horizon_s=0.1)):
        a, b = call(one, trials.isel(trial=[k])), call(fit, trials.isel(trial=[k]))
        for name in ("rate", "rate_low", "rate_high"):
            np.testing.assert_allclose(a[name], b[name], rtol=1e-3)
    causal = [nl.infer_latents(f, trials.isel(trial=[k]), causal=True)["latent"].values for f in (one, fit)]
    np.testing.assert_allclose(*causal, atol=1e-8)


def test_a_simulation_runs_each_trial_with_its_own_m(fit):
    whole, silent = nl.simulate(fit), nl.simulate(fit, silence=[0])
    np.testing.assert_allclose(whole["activity"], fit["activity_pred"], atol=1e-6)
    for k in (0, 40, 79):
        one = nl.network_of_trial(fit, k)
        check_fit(one)
        np.testing.assert_allclose(nl.simulate(one)["activity"][0], whole["activity"][k], atol=1e-5)
        np.testing.assert_allclose(nl.simulate(one, silence=[0])["activity"][0], silent["activity"][k], atol=1e-5)
    decimals = fit.assign_coords(condition=[f"{k}.0" for k in range(80)])
    np.testing.assert_array_equal(nl.network_of_trial(decimals, 40)["m"], nl.network_of_trial(fit, 40)["m"])
    noisy = nl.simulate(fit, noise=True, spikes=True)
    x = noisy["latent"].values @ each_m(fit).values.swapaxes(1, 2)
    np.testing.assert_allclose(noisy["activity"], x + fit["bias"].values, atol=1e-4)
    others = fit[["u"]].assign_coords(condition=[f"new {k}" for k in range(80)])
    mean = nl.simulate(fit.drop_vars(["m_drift", "drift_basis"]), others)["activity"]
    np.testing.assert_allclose(nl.simulate(fit, others)["activity"], mean, atol=1e-5)


def test_rates_in_the_file_have_m_of_their_trial(fit):
    rates = predicted_rates(fit)
    for k in (0, 40, 79):
        np.testing.assert_allclose(rates[[k]], predicted_rates(nl.network_of_trial(fit, k)), rtol=1e-6)
    assert np.abs(rates - predicted_rates(fit.drop_vars(["m_drift", "drift_basis"]))).max() > 1


def test_the_gauge_changes_no_m_of_a_trial(fit):
    turned = nl.canonicalize(fit)
    a, b = (each_m(f).values @ f["n"].values.T for f in (fit, turned))
    np.testing.assert_allclose(a, b, atol=1e-9)
    np.testing.assert_allclose(nl.simulate(turned)["activity"], fit["activity_pred"], atol=1e-4)
    x, error = loadings_and_errors(fit)
    y, other = loadings_and_errors(turned)
    np.testing.assert_allclose(error / np.abs(x), other / np.abs(y), rtol=1e-6)
    own = nl.network_of_trial(fit, 5)["observation_cov"].values[:, -1, -1]
    np.testing.assert_allclose(np.sqrt(own), error[5, :, 0])


def test_it_comes_back_from_a_file_identical(fit, tmp_path):
    assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)))


def test_neurons_that_are_permuted_permute_the_fit(trials, fit):
    order = np.random.default_rng(0).permutation(trials.sizes["neuron"])
    other = nl.fit_trials(trials.isel(neuron=order), drift=1, test_size=10, **OPTIONS)
    np.testing.assert_allclose(other["m_drift"], fit["m_drift"].values[order], atol=1e-4)


def test_a_trial_between_those_of_the_fit_lies_between_their_functions(fit):
    some = fit.isel(condition=[0, 10, 20])
    found = functions_at(some, np.array([5, 10, 21]))
    basis = some["drift_basis"].values[0]
    np.testing.assert_allclose(found[:2, 0], [(basis[0] + basis[1]) / 2, basis[1]])
    assert np.isnan(found[2]).all()


def test_what_cannot_be_is_said(trials, fit):
    with pytest.raises(ContractError, match=r"Trial 500 is not within the session"):
        nl.infer_latents(fit, trials.assign_coords(trial=500 + np.arange(80)))
    with pytest.raises(ContractError, match=r"no labels"):
        nl.fit_trials(trials.drop_vars("trial"), drift=1, **OPTIONS)
    with pytest.raises(ContractError, match=r"several sessions"):
        nl.fit_trials(trials.assign_coords(trial_session=("trial", np.resize(["a", "b"], 80))), drift=1, **OPTIONS)
    with pytest.raises(ContractError, match=r"drift is 80"):
        nl.fit_trials(trials, drift=80, **OPTIONS)
    with pytest.raises(ContractError, match=r"no trial 'x'"):
        nl.network_of_trial(fit, "x")
    with pytest.raises(ContractError, match=r"m of the fit is constant"):
        nl.network_of_trial(nl.network_of_trial(fit, 0), 0)
    with pytest.raises(ContractError, match=r"initial"):
        nl.simulate(fit, initial=np.zeros(12))
    with pytest.raises(ContractError, match=r"m_drift and drift_basis"):
        check_fit(fit.drop_vars("drift_basis"))
