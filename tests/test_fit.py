"""Laws of the fit: the network comes back, held-out data have no influence, a fit runs again from itself."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.scores import caution_about, ceiling, noise_power, r_squared, reference_of
from nwb_lint.testing import mock_activity, mock_fit

ALPHA, TAU_S = 0.2, 0.1


def teacher(*, noise=0.02, observation=0.0, conditions=60, neurons=40, seed=0):
    """A rank-1 network and its activity; private noise enters the dynamics, observation noise does not."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((neurons, 1)), rng.standard_normal((neurons, 2))
    n = 1.5 * m + w @ [[1.0], [0.3]] + rng.standard_normal((neurons, 1))
    u = np.zeros((conditions, 40, 2), np.float32)
    u[:, 5:] = rng.uniform(-1, 1, (conditions, 1, 2))
    u[:, 20:, 1] = 0
    x = np.zeros((conditions, 40, neurons))
    for t in range(39):
        recurrent = np.tanh(x[:, t]) @ n @ m.T / neurons
        x[:, t + 1] = (1 - ALPHA) * x[:, t] + ALPHA * (recurrent + u[:, t] @ w.T)
        x[:, t + 1] += noise * rng.standard_normal(x[:, t].shape)
    x += observation * x.std() * rng.standard_normal(x.shape)
    dims = ("condition", "time", "neuron")
    coords = {"time": 0.02 * np.arange(40), "neuron": [f"n{k}" for k in range(neurons)]}
    activity = xr.Dataset({"activity": (dims, x.astype(np.float32))}, coords, {"bin_s": 0.02})
    activity["u"] = ("condition", "time", "input"), u
    truth, _ = forward(Network(m, n, w), drives(u, ALPHA, bias=False, initial=False), ALPHA)
    return activity.assign_coords(condition=[f"c{k}" for k in range(conditions)]), (m, n, w), truth


def j_eff(m, n, w):
    basis, _ = np.linalg.qr(np.column_stack([m, w]))
    return m @ (basis @ (basis.T @ n)).T / len(m)


def pearson(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize(("observation", "r2", "ecc"), [(0.0, 0.999, 0.99), (0.5, 0.99, 0.97)])
def test_a_teacher_comes_back(observation, r2, ecc):
    activity, (m, n, w), truth = teacher(observation=observation)
    fit = nl.fit_lint(activity, rank=1, tau_s=TAU_S, test_conditions=np.arange(50, 60))
    prediction = fit["activity_pred"].values[50:]
    assert r_squared(truth[50:], prediction, truth.mean(axis=(0, 1)))[0] > r2
    assert pearson(nl.connectivity(fit)["connectivity"].values, j_eff(m, n, w)) > ecc


def test_unconstrained_fit():
    activity, *_ = teacher(conditions=100)
    fit = nl.fit_lint(activity, rank=None, tau_s=TAU_S, test_size=0.2)
    assert fit["r2"].values[1] > 0.9
    assert fit["J"].dims == ("neuron", "neuron_from")


@pytest.mark.parametrize("method", ["auto", "regression", "gradient", "published"])
def test_methods_run_and_are_reproducible(method):
    activity, *_ = teacher(conditions=24, neurons=15)
    options = {"rank": 2, "tau_s": TAU_S, "method": method, "max_iter": 30, "epochs": 3, "test_conditions": [0, 1]}
    a, b = nl.fit_lint(activity, **options), nl.fit_lint(activity, **options)
    xr.testing.assert_identical(a, b)
    assert np.isfinite(a["r2"]).all()


def test_gradient_from_a_random_start_finds_the_dynamics():
    activity, *_ = teacher(conditions=24, neurons=15)
    fit = nl.fit_lint(activity, rank=1, tau_s=TAU_S, method="gradient", test_size=0.2)
    assert fit["r2"].values[1] > 0.9


def test_held_out_conditions_have_no_influence():
    activity, *_ = teacher(conditions=24, neurons=15)
    other = activity.copy(deep=True)
    other["activity"][20:] = 100.0
    a, b = (nl.fit_lint(d, rank=1, tau_s=TAU_S, test_conditions=range(20, 24), max_iter=20) for d in (activity, other))
    for name in ("m", "n", "input_weights"):
        np.testing.assert_array_equal(a[name], b[name])
    assert a["r2"].values[1] != b["r2"].values[1]


def test_unobserved_samples_do_not_count():
    activity, _, truth = teacher()
    hole = activity.copy(deep=True)
    hole["activity"].values[np.random.default_rng(1).random(hole["activity"].shape) < 0.1] = np.nan
    fit = nl.fit_lint(hole, rank=1, tau_s=TAU_S, test_size=0.2)
    assert r_squared(truth, fit["activity_pred"].values, truth.mean(axis=(0, 1)))[0] > 0.99


def test_options_are_used():
    activity, *_ = teacher(conditions=24, neurons=15)
    shifted = activity.copy(deep=True)
    shifted["activity"] += 0.5
    options = {"rank": 1, "tau_s": TAU_S, "max_iter": 20}
    plain, learned = (
        nl.fit_lint(shifted, **options, bias=b, initial=i) for b, i in ((False, "zero"), (True, "learned"))
    )
    assert learned["r2"].values[0] > plain["r2"].values[0] + 0.05
    assert learned["bias"].values.any()
    assert learned["initial_activation"].values.any()
    hidden = nl.fit_lint(activity, **options, hidden=7)
    assert hidden.sizes["neuron"] == 22
    assert int(hidden["recorded"].sum()) == 15
    assert hidden["neuron"].values[-1] == "hidden0006"
    assert nl.fit_lint(activity, **options, nonlinearity="relu")["r2"].values[0] != plain["r2"].values[0]


def test_a_fit_simulates_again_from_itself():
    fit = mock_fit()
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])
    np.testing.assert_array_equal(nl.simulate(fit, silence=[])["activity"], fit["activity_pred"])
    quiet = nl.simulate(fit, silence=fit["neuron"].values)
    driven = fit["filtered_input"].values @ fit["input_weights"].values.T
    np.testing.assert_allclose(quiet["activity"], driven, atol=1e-5)
    one = nl.simulate(fit, silence=[fit["neuron"].values[0]])["activity"].values
    assert np.abs(one - fit["activity_pred"].values).max() > 1e-3


def test_gauge_of_a_fit():
    fit = mock_fit()
    turned = fit.assign(m=fit["m"] * 3, n=fit["n"] / 3, latent=fit["latent"] / 3)
    back = nl.canonicalize(turned)
    for name in ("m", "n", "latent"):
        np.testing.assert_allclose(back[name], fit[name], atol=1e-5)


def test_order_of_neurons_and_conditions_does_not_matter():
    activity, *_ = teacher(conditions=24, neurons=15)
    order = np.random.default_rng(4).permutation(15)
    options = {"rank": 1, "tau_s": TAU_S, "method": "regression"}
    a, b = nl.fit_lint(activity, **options), nl.fit_lint(activity.isel(neuron=order), **options)
    np.testing.assert_allclose(b["activity_pred"], a["activity_pred"].values[..., order], atol=1e-3)
    run = nl.simulate(a, activity.isel(condition=[5, 2]))["activity"].values
    np.testing.assert_allclose(run, a["activity_pred"].values[[5, 2]], atol=1e-5)


def test_score_and_latents_agree_with_the_fit():
    activity = mock_activity()
    fit = nl.fit_lint(activity, rank=1, tau_s=TAU_S, test_conditions=[1, 5])
    assert float(nl.score(fit, activity, conditions=[1, 5])["r2"]) == pytest.approx(fit["r2"].values[1], abs=1e-6)
    assert float(nl.score(fit, activity, conditions=[1, 5])["r2_ceiling"]) == pytest.approx(fit["r2_ceiling"].values[1])
    seen = activity.copy()
    seen["activity"] = fit["activity_pred"].dims, fit["activity_pred"].values
    found = nl.latents(fit, seen)
    np.testing.assert_allclose(found["latent_data"], fit["latent"], atol=1e-4)
    np.testing.assert_allclose(found["filtered_input"], fit["filtered_input"], atol=1e-4)


def test_ceiling_is_the_score_of_the_true_mean():
    rng = np.random.default_rng(5)
    truth = rng.standard_normal((20, 30, 10))
    counts = np.stack([np.full((20, 10), 6), np.full((20, 10), 9)])
    halves = truth + rng.standard_normal((2, *truth.shape)) * 3 / np.sqrt(counts[:, :, None])
    whole = (halves * counts[:, :, None]).sum(axis=0) / 15
    reference = reference_of(whole, np.ones(20, bool))
    top = ceiling(whole, noise_power(halves, counts), reference)
    assert top == pytest.approx(r_squared(whole, truth, reference)[0], abs=0.02)


def test_rank_of_a_teacher_is_the_same_on_any_executor():
    activity, *_ = teacher(conditions=24, neurons=15)
    options = {"ranks": [1, 2], "tau_s": TAU_S, "folds": 3, "method": "regression"}
    table = nl.select_rank(activity, **options)
    assert table.attrs["rank"] == 1
    with ThreadPoolExecutor(2) as executor:
        xr.testing.assert_identical(nl.select_rank(activity, **options, executor=executor), table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 13}, "number of neurons is 12"),
        ({"rank": 0}, "rank"),
        ({"rank": 1.5}, "rank"),
        ({"method": "magic"}, "magic"),
        ({"nonlinearity": "sin"}, "sin"),
        ({"loss": "log"}, "log"),
        ({"initial": "any"}, "any"),
        ({"tau_s": 0.001}, "tau_s"),
        ({"rank": None, "method": "gradient"}, "closed form"),
        ({"rank": None, "hidden": 3}, "hidden"),
        ({"test_size": 1.5}, "test_size"),
        ({"test_conditions": range(7)}, "left to train"),
    ],
)
def test_errors_are_one_line(options, words):
    with pytest.raises(ContractError) as caught:
        nl.fit_lint(mock_activity(), **({"rank": 1, "tau_s": TAU_S} | options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_condition_is_refused():
    with pytest.raises(ContractError, match="single condition"):
        nl.fit_lint(mock_activity().isel(condition=[0]), rank=1, tau_s=TAU_S)


@pytest.mark.parametrize("value", [1.0, 0.1, -3.7e4])
@pytest.mark.parametrize("options", [{"rank": 1}, {"rank": None}, {"rank": 1, "test_conditions": [0, 1]}])
def test_constant_activity_is_an_error_that_says_why_there_is_no_score(value, options):
    activity = mock_activity()
    constant = np.float32(value) * np.linspace(1, 2, 12, dtype="f4")
    values = np.broadcast_to(constant, activity["activity"].shape).copy()
    values[2, :5, 3] = np.nan
    with pytest.raises(ContractError, match=r"activity is constant: .* R² is the share of its variance"):
        nl.fit_lint(activity.assign(activity=(activity["activity"].dims, values)), tau_s=TAU_S, **options)
    if "test_conditions" in options:  # what is held out does not count
        values[:2] = activity["activity"].values[:2]
        with pytest.raises(ContractError, match="activity is constant"):
            nl.fit_lint(activity.assign(activity=(activity["activity"].dims, values)), tau_s=TAU_S, **options)


def test_a_constant_neuron_has_no_score_and_constant_conditions_have_none():
    activity = mock_activity()
    activity["activity"].values[..., 5] = 0.1
    fit = nl.fit_lint(activity, rank=1, tau_s=TAU_S, test_conditions=[1, 5])
    assert np.isnan(fit["r2_neuron"].values[:, 5]).all()
    assert np.isfinite(np.delete(fit["r2_neuron"].values, 5, axis=1)).all()
    assert np.isfinite(fit["r2_median"]).all()
    assert np.isnan(nl.score(fit, activity)["r2_neuron"].values[5])
    activity["activity"].values[...] = 0.1
    with pytest.raises(ContractError, match="No neuron differs from its mean"):
        nl.score(fit, activity)


def test_data_that_inputs_do_not_explain_give_no_network_with_the_reasons():
    """Held-out conditions decide: each condition has noise of its own, and the input is known in all of them."""
    rng = np.random.default_rng(0)
    activity = mock_activity(n_conditions=12)
    noise = np.cumsum(rng.standard_normal(activity["activity"].shape), axis=1)
    noise -= noise.mean(axis=(0, 1))
    activity["activity"] = activity["activity"].dims, (noise / noise.std()).astype(np.float32)
    for rank in (1, None):
        with pytest.warns(UserWarning, match=r"no connections and predicts 0. Do not interpret"):
            fit = nl.fit_lint(activity.drop_vars(["activity_half", "n_trials_half"]), rank=rank, tau_s=TAU_S)
        assert fit["stage"].values[-1] == "zero"
        np.testing.assert_allclose(fit["r2"][0], 0, atol=1e-6)
        assert not fit["activity_pred"].any()


def test_results_of_a_fit_that_explains_little_say_so():
    poor = mock_fit().assign_attrs(caution="R² is -1.00 in training.")
    with pytest.warns(UserWarning, match="fit that explains little: R² is -1.00"):
        result = nl.connectivity(poor)
    assert result.attrs["fit_caution"] == poor.attrs["caution"]
    assert "fit_caution" not in nl.connectivity(mock_fit()).attrs


@pytest.mark.parametrize(
    ("r2", "top", "words"),
    [
        ([0.5, 0.4], [0.9, 0.8], ""),
        ([0.5, -0.1], [0.9, 0.8], "R² is -0.10 on held-out"),
        ([0.5, 0.2], [0.9, 0.8], "R² is 0.20 on held-out conditions under a ceiling of 0.80"),
        ([0.01, np.nan], [0.05, np.nan], ""),
        ([0.5, 0.2], [np.nan, np.nan], ""),
    ],
)
def test_what_a_fit_says_about_its_scores(r2, top, words):
    found = caution_about(np.array(r2), np.array(top))
    assert words in found
    assert bool(found) == bool(words)


def test_one_neuron_with_most_of_the_power_is_named():
    activity = mock_activity()
    activity["activity"][..., 3] *= 1000
    with pytest.warns(UserWarning, match=r"nearly that of neuron 3, which has 100% of the power of 12 neurons"):
        fit = nl.fit_lint(activity, rank=1, tau_s=TAU_S, method="regression")
    assert float(fit["r2_median"][0]) == np.median(fit["r2_neuron"][0])
    assert float(nl.score(fit, activity)["r2_median"]) == pytest.approx(float(fit["r2_median"][0]), abs=1e-6)
