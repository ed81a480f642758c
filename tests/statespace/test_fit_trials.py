"""Fits of single trials: what comes back, what does not matter, and what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_fit, mock_trials

FAST = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 6}


@pytest.fixture(scope="module")
def trials():
    return mock_trials(n_neurons=30, n_trials=80)


@pytest.fixture(scope="module")
def fit(trials):
    return nl.fit_trials(trials, **FAST, test_size=0.25)


def test_a_bistable_network_comes_back(trials, fit):
    """Two stable points and one unstable; held-out trials gain bits; the evidence rises."""
    stability = nl.fixed_points(fit)["stability"].values
    assert sorted(stability) == ["stable", "stable", "unstable"]
    train, held = fit["bits_per_spike"].values
    assert held == pytest.approx(train, abs=0.15)
    assert held > 0.2
    assert fit["evidence"].values.max() > fit["evidence"].values[0]
    agreement = np.mean((fit["latent"].values[:, -1, 0] > 0) == (trials["choice"].values == "right"))
    assert max(agreement, 1 - agreement) > 0.9


def test_the_same_seed_gives_the_same_fit(trials, fit):
    assert nl.fit_trials(trials, **FAST, test_size=0.25).identical(fit)


def test_held_out_trials_do_not_matter(trials):
    """Other counts and other inputs there leave every parameter as it is; only their posterior and scores change."""
    prepared = nl.prepare(trials, inputs=[nl.Input("stimulus", column="stimulus")])
    how = FAST | {"hidden": 4, "test_size": 0.25, "initial": "choice", "max_iter": 3}
    one = nl.fit_trials(prepared, **how)
    other = prepared.copy(deep=True)
    other["count"].values[one["held_out"].values] += 2
    other["u"].values[one["held_out"].values] *= 5
    found = nl.fit_trials(other, **how)
    for name, values in one.data_vars.items():
        if "condition" not in values.dims and "split" not in values.dims:
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-9, err_msg=str(name))  # of rounding
    assert not np.array_equal(found["latent"], one["latent"])


def test_masked_counts_do_not_matter(trials):
    seen = np.random.default_rng(0).random(trials["count"].shape) > 0.3
    masked = trials.assign(observed=(trials["count"].dims, seen))
    broken = masked.assign(count=(trials["count"].dims, np.where(seen, trials["count"].values, 500).astype("u2")))
    one, other = nl.fit_trials(masked, **FAST), nl.fit_trials(broken, **FAST)
    np.testing.assert_allclose(one["latent"], other["latent"], atol=1e-6)


def test_silent_neurons_and_early_ends_are_fitted(trials):
    count, seen = trials["count"].values.copy(), np.ones(trials["count"].shape, bool)
    count[..., 3] = 0
    for k in range(0, 80, 3):
        seen[k, 20 + k % 15 :] = False
    odd = trials.assign(count=(trials["count"].dims, count), observed=(trials["count"].dims, seen))
    with pytest.warns(UserWarning, match="no spike"):
        found = nl.fit_trials(odd, **FAST)
    assert np.isfinite(found["latent"].values).all()
    assert float(np.abs(found["m"].values[3]).max()) < 0.2


def test_inputs_from_trial_columns_get_weights(trials):
    prepared = nl.prepare(trials, inputs=[nl.Input("stimulus", column="stimulus")])
    assert prepared["u"].dims == ("trial", "time", "input")
    assert prepared["count"].identical(trials["count"])
    found = nl.fit_trials(prepared, **FAST)
    assert found["input_weights"].shape == (30, 1)
    assert nl.infer_latents(found, prepared)["latent"].shape == (80, 40, 1)
    with pytest.raises(ContractError, match="have the inputs none"):
        nl.infer_latents(found, trials)
    with pytest.raises(ContractError, match="scale prepares mean rates"):
        nl.prepare(trials, inputs=[], scale=2.0)


def test_gaussian_observation_of_one_long_recording():
    """Values without trials: a single long trial."""
    rng = np.random.default_rng(0)
    whole = mock_trials(n_neurons=20, n_trials=40)
    values = whole["count"].values.reshape(1, -1, 20) + 0.1 * rng.standard_normal((1, 1600, 20))
    series = whole.isel(trial=[0]).drop_vars(["count", "time"]).drop_dims("time", errors="ignore")
    series = series.assign(rate=(("trial", "time", "neuron"), values.astype("f4")))
    series = series.assign_coords(time=0.02 * np.arange(1600))
    found = nl.fit_trials(series, **FAST | {"observation": "gaussian", "noise": "diagonal"})
    assert found["observation_noise"].values.min() > 0
    rate = nl.predict_rates(found, series)["rate"].values
    assert np.corrcoef(rate.ravel(), values.ravel())[0, 1] > 0.3


def test_noise_of_a_gaussian_observation_comes_back():
    rng = np.random.default_rng(0)
    m, sd = rng.standard_normal((20, 1)), rng.uniform(0.3, 1.0, 20)
    kappa = np.zeros((30, 1))
    values = np.empty((30, 100, 20))
    for t in range(100):
        kappa = 0.9 * kappa + 0.4 * rng.standard_normal((30, 1))
        values[:, t] = kappa @ m.T + sd * rng.standard_normal((30, 20))
    series = xr.Dataset({"rate": (("trial", "time", "neuron"), values)}, attrs={"bin_s": 0.02})
    series = series.assign_coords(trial=np.arange(30), time=0.02 * np.arange(100), neuron=np.arange(20).astype(str))
    found = nl.fit_trials(series, **FAST | {"observation": "gaussian"})
    np.testing.assert_allclose(found["observation_noise"], sd**2, rtol=0.25)


def test_filter_sees_no_future(trials, fit):
    changed = trials.copy(deep=True)
    changed["count"].values[:, 20:] = 3
    one, other = (nl.infer_latents(fit, x, causal=True)["latent"].values for x in (trials, changed))
    np.testing.assert_array_equal(one[:, :20], other[:, :20])
    assert np.abs(one[:, 20:] - other[:, 20:]).max() > 0.1
    smoothed = nl.infer_latents(fit, trials)["latent"].values
    np.testing.assert_allclose(one[:, -1], smoothed[:, -1], atol=0.15)


def test_bits_per_spike_by_the_definition(trials, fit):
    """Rates that are the mean rates gain nothing; co-smoothing masks the held-out neurons itself."""
    held = [1, 4, 7]
    found = nl.bits_per_spike(fit, trials, neurons=held, forward_s=0.2, shots=20)
    seen = np.ones(trials["count"].shape, bool)
    seen[..., held] = False
    rate = nl.predict_rates(fit, trials.assign(observed=(trials["count"].dims, seen)))["rate"].values[..., held]
    y = trials["count"].values[..., held].astype(float)
    mean = np.broadcast_to(y.mean(axis=(0, 1)), y.shape)
    bits = (y * np.log(rate * 0.02 / mean) - rate * 0.02 + mean).sum() / y.sum() / np.log(2)
    assert float(found["co_smoothing"]) == pytest.approx(bits, rel=1e-4)
    assert 0 < float(found["few_shot"]) < 1.2 * bits
    assert float(found["forward"]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau_s": 0.01}, "tau_s"), ({"rank": 31}, "neurons"), ({"rank": 0}, "rank"),
        ({"initial": "other"}, "column"),
        ({"hidden": -1}, "hidden"), ({"observation": "gaussian", "link": "softplus"}, "link"),
        ({"test_size": 80}, "held"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_refused(trials, change, message):
    with pytest.raises(ContractError, match=message):
        nl.fit_trials(trials, **FAST | change)


def test_trials_of_which_one_bin_each_is_observed_have_no_dynamics(trials):
    seen = np.zeros(trials["count"].shape, bool)
    seen[:, 5] = True
    with pytest.raises(ContractError, match="No training trial has two observed bins"):
        nl.fit_trials(trials.assign(observed=(trials["count"].dims, seen)), **FAST)


def test_what_takes_a_fit_takes_this_one(trials, fit, tmp_path):
    subject = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject)
    again = nl.read_fit(tmp_path / "fit.nwb")
    for name, values in fit.variables.items():
        np.testing.assert_array_equal(again[name].values, values.values, str(name))
    assert nl.infer_latents(again, trials).identical(nl.infer_latents(fit, trials))
    assert nl.flow_field(fit, n_points=5)["velocity"].shape == (5, 1)
    assert nl.weight_statistics(fit)["weight"].sizes["neuron"] == 30
    effect = nl.predict_inactivation(fit, {"some": [0, 1, 2]}, controls=2)["activity_change"]
    assert np.isfinite(effect.values).all()
    assert nl.find_populations(fit, n_groups=1, resamples=1).sizes["neuron"] == 30


def test_canonical_gauge_changes_no_prediction(trials, fit):
    moved = nl.canonicalize(fit)
    m = moved["m"].values
    np.testing.assert_allclose(m.T @ m, np.eye(1), atol=1e-9)
    one, other = nl.predict_rates(fit, trials), nl.predict_rates(moved, trials)
    np.testing.assert_allclose(one["rate_low"], other["rate_low"], rtol=1e-3)
    np.testing.assert_allclose(moved["latent"].values @ m.T, fit["latent"].values @ fit["m"].values.T, atol=1e-4)


def test_simulated_noise_and_spikes_have_the_statistics_of_the_data(trials, fit):
    found = nl.simulate(fit, noise=True, spikes=True, seed=1)
    assert found["count"].sizes == {"condition": 80, "time": 40, "neuron": 30}
    assert found.identical(nl.simulate(fit, noise=True, spikes=True, seed=1))
    real = trials["count"].values.mean(axis=(0, 1))
    np.testing.assert_allclose(found["count"].values.mean(axis=(0, 1)), real, rtol=0.5)
    assert found["latent"].values.std() == pytest.approx(fit["latent"].values.std(), rel=0.4)
    np.testing.assert_allclose(
        found["activity"].values, found["latent"].values @ fit["m"].values.T + fit["bias"].values, atol=1e-4
    )
    free = nl.simulate(fit)
    np.testing.assert_allclose(free["activity"].values, free["latent"].values @ fit["m"].values.T, atol=1e-4)
    with pytest.raises(ContractError, match="fit_trials"):
        nl.simulate(mock_fit(), noise=True)


def test_runs_without_noise_start_from_the_latents_of_their_group_or_of_the_given_activation(trials, fit):
    def apart_from_latents(found, of):
        by_latents = found["latent"].values @ of["m"].values.T + of["bias"].values
        return np.abs(found["activity"].values - by_latents).max()

    given = nl.simulate(fit, initial=fit["bias"].values + 0.7 * fit["m"].values[:, 0])
    assert apart_from_latents(given, fit) < 1e-4
    np.testing.assert_allclose(given["latent"].values[:, 0], 0.7, atol=1e-6)
    by_choice = nl.fit_trials(trials, **FAST | {"initial": "choice", "max_iter": 2})
    free, noisy = nl.simulate(by_choice), nl.simulate(by_choice, noise=True)
    start = by_choice["bias"].values + 0.7 * by_choice["m"].values[:, 0]
    same = nl.simulate(by_choice, initial=start)
    assert apart_from_latents(same, by_choice) < 1e-4
    np.testing.assert_allclose(same["activity"].values[:, 0], np.tile(start, (same.sizes["condition"], 1)), atol=1e-5)
    assert apart_from_latents(free, by_choice) < 1e-4
    for level, mean in zip(by_choice["initial_level"].values, by_choice["initial_mean"].values, strict=True):
        these = trials["choice"].values == level
        np.testing.assert_allclose(free["latent"].values[these, 0], np.tile(mean, (these.sum(), 1)), atol=1e-6)
        sd = np.sqrt(by_choice["initial_cov"].values[0, 0] / these.sum())
        assert noisy["latent"].values[these, 0].mean() == pytest.approx(mean[0], abs=4 * sd)
    unknown = nl.simulate(by_choice, by_choice["u"].drop_vars("choice"))
    np.testing.assert_allclose(unknown["latent"].values[:, 0, 0], by_choice["initial_mean"].values.mean(), atol=1e-6)


def test_other_starts_links_and_noise(trials):
    by_choice = nl.fit_trials(trials, **FAST | {"initial": "choice", "link": "softplus", "noise": "diagonal"})
    assert by_choice["initial_mean"].shape == (2, 1)
    assert by_choice["initial_level"].values.tolist() == ["left", "right"]
    assert nl.infer_latents(by_choice, trials)["latent"].shape == (80, 40, 1)


def test_rates_with_a_softplus_link_come_back():
    """The right link gains more bits than exp, and its rates and their intervals are nearer to the truth."""
    rng, m = np.random.default_rng(0), 2 * np.random.default_rng(1).standard_normal((40, 1))
    kappa, path = rng.standard_normal((100, 1)), []
    for _ in range(40):
        path.append(kappa)
        kappa = 0.95 * kappa + 0.3 * rng.standard_normal((100, 1))
    path = np.stack(path, axis=1)
    rate = np.logaddexp(path @ m.T, 0)
    rate *= 10 / rate.mean(axis=(0, 1))
    whole = mock_trials(n_neurons=40, n_trials=100).assign(
        count=(("trial", "time", "neuron"), rng.poisson(0.02 * rate).astype(np.uint16))
    )
    held, bits, far, inside = whole.isel(trial=slice(80, 100)), {}, {}, {}
    for link in ("softplus", "exp"):
        fit = nl.fit_trials(whole.isel(trial=slice(0, 80)), **FAST | {"link": link})
        found = nl.predict_rates(fit, held)
        bits[link] = float(nl.bits_per_spike(fit, held)["co_smoothing"])
        far[link] = ((found["rate"].values - rate[80:]) ** 2).mean() / rate[80:].var(axis=(0, 1)).mean()
        inside[link] = ((found["rate_low"] < rate[80:]) & (rate[80:] < found["rate_high"])).values.mean()
        agreement = np.corrcoef(nl.infer_latents(fit, held)["latent"].values.ravel(), path[80:].ravel())[0, 1]
        assert abs(agreement) > 0.92
    assert bits["softplus"] > bits["exp"]
    assert far["softplus"] < far["exp"]
    assert 0.83 < inside["softplus"] < 0.95


def test_intervals_of_rates_contain_the_uncertainty_of_the_loadings(trials, fit):
    """It is that of a Poisson regression, where a neuron's spikes are the precision of its level, all else known."""
    known = fit.drop_vars("observation_cov")
    (wide, narrow), (mean, other) = (
        [nl.predict_rates(one, trials)[name].values for one in (fit, known)] for name in ("rate_high", "rate")
    )
    np.testing.assert_array_equal(mean, other)
    assert (wide > narrow).all()
    precision = np.linalg.inv(fit["observation_cov"].values)[:, 0, 0]
    spikes = trials["count"].values[~fit["held_out"].values].sum(axis=(0, 1))
    np.testing.assert_allclose(precision, spikes, rtol=0.15, atol=3)


def test_sessions_without_common_neurons_share_their_latents():
    """Each session alone has latents of any sign; together they agree with the choices of both."""
    trials = nl.prepare(
        mock_trials(n_neurons=30, n_trials=80, seed=1), inputs=[nl.Input("stimulus", column="stimulus")]
    )
    seen = np.zeros(trials["count"].shape, bool)
    seen[:40, :, :15], seen[40:, :, 15:] = True, True
    fit = nl.fit_trials(trials.assign(observed=(trials["count"].dims, seen)), **FAST)
    right = (fit["latent"].values[:, -1, 0] > 0) == (trials["choice"].values == "right")
    each = right[:40].mean(), right[40:].mean()
    assert min(each) > 0.8 or max(each) < 0.2


def test_a_fit_can_be_the_start(trials, fit):
    """One of trials begins with more evidence; of one of means only the combinations of neurons count."""
    once = FAST | {"max_iter": 1}
    cold, warm = (nl.fit_trials(trials, **once, start=one)["evidence"].values[0] for one in (None, fit))
    assert warm > cold
    rate = (trials["count"] / 0.02).groupby("stimulus").mean().rename(stimulus="condition").astype(np.float32)
    means = xr.Dataset({"rate": rate, "n_trials": (("condition", "neuron"), np.full((2, 30), 40))})
    means = means.assign_coords(condition=["left", "right"], stimulus=("condition", [-1.0, 1.0]))
    means = means.assign_attrs(bin_s=0.02, align="start_time")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        activity = nl.prepare(means, inputs=[nl.Input("stimulus", column="stimulus")], scale=10.0)
        lint = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression")
    one, other = (nl.fit_trials(trials, **once, start=lint.assign(m=by * lint["m"])) for by in (1, 3))
    np.testing.assert_allclose(one["m"], other["m"], rtol=1e-6)
    with pytest.raises(ContractError, match="rank 1"):
        nl.fit_trials(trials, **once | {"rank": 2}, start=fit)
    with pytest.raises(ContractError, match="other neurons"):
        nl.fit_trials(trials.isel(neuron=slice(0, 20)), **once, start=lint)
