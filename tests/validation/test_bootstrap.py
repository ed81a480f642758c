"""Resampled fits: no noise, no spread; simulated truths are in their intervals; attractors that noise makes fall."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import Input, prepare
from nwb_lint.errors import ContractError
from nwb_lint.nwb.recording.binning import smooth
from nwb_lint.testing import mock_recording
from nwb_lint.validation.intervals import calibrated, held, with_intervals
from nwb_lint.validation.least_squares import smoothing

OPTIONS = {"tau_s": 0.1, "rank": 1, "method": "regression", "ridges": (0.01, 0.1)}


def prepared(recording):
    stimulus = Input("stimulus", column="stimulus", window_s=(0, 1))
    return prepare(recording, inputs=[stimulus], center=(-0.2, 0.0), time_course=False)


@pytest.fixture(scope="module")
def recording():
    return mock_recording(draws=8)


@pytest.fixture(scope="module")
def fit(recording):
    return nl.fit_lint(prepared(recording), **OPTIONS)


@pytest.fixture(scope="module")
def found(fit, recording):
    return nl.bootstrap(fit, recording, prepare=prepared, simulations=6)


def as_of(fit, found, recording):
    """A bootstrap as one of another fit of the same size, for tests that make one up."""
    own = nl.bootstrap(fit, recording, prepare=prepared, draws=2, simulations=0)["estimate"]
    return found.assign(estimate=own)


def test_draws_without_noise_are_the_fit(recording):
    one = recording.drop_vars(["rate_half", "n_trials_half"])
    one["rate_draw"] = ("draw", *one["rate"].dims), np.stack([one["rate"].values] * 2)
    fit = nl.fit_lint(prepared(one), **OPTIONS)
    found = nl.bootstrap(fit, one, prepare=prepared, simulations=0)
    np.testing.assert_allclose(found["value_draw"], np.stack([found["estimate"]] * 2), atol=1e-6)
    np.testing.assert_allclose(found["latent_low"], fit["latent"], atol=1e-5)
    for network in nl.networks_of_draws(fit, found):
        np.testing.assert_allclose(network["activity_pred"], fit["activity_pred"], atol=1e-4)


def test_what_is_read_from_the_fit_is_what_connectivity_says(fit, found):
    overlaps = nl.connectivity(fit)
    estimate = found["estimate"]
    assert estimate.sel(quantity="n 1 · m 1").item() == pytest.approx(overlaps["overlap_m"].item())
    assert estimate.sel(quantity="n 1 · I stimulus").item() == pytest.approx(overlaps["overlap_input"].item())
    assert estimate.sel(quantity="size of J_eff").item() == pytest.approx(np.linalg.norm(overlaps["connectivity"]))
    growth = (overlaps["overlap_m"].item() - 1) / 0.1
    assert estimate.sel(quantity="eigenvalue 1, real").item() == pytest.approx(growth)
    assert found["unit"].sel(quantity="eigenvalue 1, real").item() == "1/s"


def test_a_run_that_was_stopped_reads_what_it_has(fit, recording, found, tmp_path):
    few = {"prepare": prepared, "draws": 2, "simulations": 2, "cache_dir": tmp_path}
    first = nl.bootstrap(fit, recording, **few)
    assert len(list(tmp_path.glob("*.npz"))) == 4
    xr.testing.assert_identical(nl.bootstrap(fit, recording, **few), first)
    np.testing.assert_allclose(first["value_draw"], found["value_draw"][:2])


def test_intervals_of_a_linear_map_with_bias_hold_the_truth():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(100):
        known = rng.normal(size=(100, 2))
        fitted = known @ [[0.6, 0.1], [0.0, 0.5]] + 0.4 + 0.1 * rng.standard_normal((100, 2))
        truth = rng.normal(size=2)
        observed = truth @ [[0.6, 0.1], [0.0, 0.5]] + 0.4 + 0.1 * rng.standard_normal(2)
        _, low, high, slope = calibrated(known, fitted, observed)
        inside.append((low <= truth) & (truth <= high))
    assert 0.85 <= np.mean(inside) <= 0.95
    np.testing.assert_allclose(slope, [0.6, 0.5], atol=0.1)
    assert (held(known, fitted) > 0.75).all()


def test_estimates_that_do_not_follow_the_true_values_have_no_slope():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(100, 1))
    assert abs(calibrated(known, rng.normal(size=(100, 1)), np.zeros(1))[3].item()) < 0.2


def test_intervals_that_depend_on_the_truth_hold_fewer_on_one_side():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(200, 1))
    fitted = known + np.where(known > 0, 1.0, 0.05) * rng.standard_normal((200, 1))
    assert held(known, fitted).item() < held(known, known + rng.standard_normal((200, 1))).item() - 0.05


def test_a_value_that_all_simulations_share_has_the_errors_of_the_fits():
    error = np.random.default_rng(0).normal(0.5, 0.1, size=(2000, 1))
    corrected, low, high, slope = calibrated(np.full((2000, 1), 3.0), 3 + error, np.array([4.0]))
    np.testing.assert_allclose(np.concatenate([corrected, low, high]), [3.5, 3.5 - 0.164, 3.5 + 0.164], atol=0.02)
    assert slope.item() == 1


def test_smoothing_is_that_of_the_readers():
    rate = np.random.default_rng(0).normal(size=(2, 30, 3))
    np.testing.assert_allclose(smoothing(30, 2.5) @ rate, smooth(rate, 2.5, axis=1), atol=1e-12)
    np.testing.assert_array_equal(smoothing(30, 0) @ rate, rate)


def test_fixed_points_of_the_draws_support_those_of_the_fit(fit, found):
    points = nl.fixed_points(fit, bootstrap=found.drop_vars("reason"))  # as without simulations
    assert points["supported"].values.all()
    assert (points["share_draws"] == 1).all()
    assert points["n_found_resample"].shape == (8, 4)
    assert "kappa_low" not in points  # the draws spread about the wrong center, and give no interval
    alone = nl.fixed_points(fit)
    xr.testing.assert_identical(alone, points[list(alone.data_vars)].assign(near_marginal=alone["near_marginal"]))


def test_where_simulations_give_no_interval_the_points_say_why(fit, found):
    points = nl.fixed_points(fit, bootstrap=found)
    assert set(points["interval_reason"].values) == set(found["reason"].values)
    assert points["interval_reason"].values.all()
    assert np.isnan(points["kappa_low"]).all()


def test_the_bias_that_simulations_show_is_taken_from_fixed_points(fit, found, recording):
    """Estimates of simulations whose overlaps are .9 of the true ones: the points are those of a larger overlap."""
    overlap = found["estimate"].sel(quantity="n 1 · m 1").item()
    fit = fit.assign(n=fit["n"] * 1.6 / overlap)
    rng = np.random.default_rng(0)
    known = rng.uniform(1.3, 2.2, 60)
    fitted = 0.9 * known + 0.02 * rng.standard_normal(60)

    def networks(overlaps):
        columns = [fit[name].values.reshape(12, -1) for name in ("m", "input_weights", "bias", "initial_activation")]
        return np.stack([np.column_stack([columns[0], one / 1.6 * fit["n"].values, *columns[1:]]) for one in overlaps])

    def in_order(points):
        return points["kappa"].isel(rank=0)

    dims = ("simulation", "neuron", "parameter")
    simulated = (
        as_of(fit, found, recording)
        .drop_dims("simulation")
        .assign(
            reason=("quantity", [""] * found.sizes["quantity"]),
            network_unpenalized=(dims[1:], networks([1.6])[0]),
            network_simulated=(dims, networks(known)),
            network_refitted=(dims, networks(fitted)),
        )
    )
    points = nl.fixed_points(fit, bootstrap=simulated).sortby(in_order)
    assert points["stability"].values.tolist() == ["stable", "unstable", "stable"]
    assert (points["interval_reason"] == "").all()
    true = nl.fixed_points(fit.assign(n=fit["n"] / 0.9)).sortby(in_order)
    for name in ("kappa", "eigenvalue_real"):
        np.testing.assert_allclose(points[f"{name}_corrected"], true[name], rtol=0.03, atol=1e-6)
        assert (points[f"{name}_low"] <= true[name] + 1e-6).all()
        assert (points[f"{name}_high"] >= true[name] - 1e-6).all()
    stable = points["stability"].values == "stable"
    assert (np.abs(points["kappa_low"]) > np.abs(points["kappa"])).values[stable].all()  # none holds the biased one
    few = nl.fixed_points(fit, bootstrap=simulated.assign(network_refitted=(dims, networks(0.6 * known))))
    few_reason = "the point exists in fewer than 80% of the simulations"
    assert few["interval_reason"].values[stable].tolist() == [few_reason] * 2
    none = nl.fixed_points(fit, bootstrap=simulated.assign(
        network_unpenalized=(dims[1:], networks([0.5])[0]), network_refitted=(dims, networks(0.6 * known))
    ))  # fmt: skip
    for reason in none["interval_reason"].values[stable]:
        assert reason.split("; ") == ["the estimate without a ridge does not have the point", few_reason]


def test_a_point_that_draws_lack_is_not_supported(fit, found, recording):
    bistable = fit.assign(n=fit["n"] * 1.5 / found["estimate"].sel(quantity="n 1 · m 1").item())
    points = nl.fixed_points(bistable, bootstrap=as_of(bistable, found, recording))
    assert points.attrs["n_found"][0] == 2
    assert not points["supported"].values.any()
    assert (points["share_draws"] == 0).all()


def test_what_is_far_from_the_trajectories_is_not_supported(fit):
    still = fit.assign(latent=0.01 * fit["latent"], n=3 * fit["n"])
    points = nl.fixed_points(still)
    stable = points["stability"].values == "stable"
    assert (points["distance"].values[stable] > 1).all()
    assert not points["supported"].values[stable].any()


def test_draws_of_another_fit_are_refused(fit, found, recording):
    with pytest.raises(ContractError, match=r"12 neurons, rank 1 and 5 .* The fit has 11, 1 and 5\. Give"):
        next(nl.networks_of_draws(fit.isel(neuron=slice(11)), found))
    other = nl.fit_lint(prepared(recording), **OPTIONS | {"rank": 2})
    with pytest.raises(ContractError, match=r"The fit has 12, 2 and 7\. Give"):
        next(nl.networks_of_draws(other, found))
    assert next(nl.networks_of_draws(fit.isel(condition=slice(4)), found)).sizes["condition"] == 4


@pytest.mark.parametrize("other", ["ridges", "conditions", "a neuron", "an input", "the order of neurons"])
def test_draws_of_another_fit_of_the_same_size_are_refused(fit, found, recording, other):
    activity = prepared(recording)
    fits = {
        "ridges": lambda: nl.fit_lint(activity, **OPTIONS | {"ridges": (1.0,)}),
        "conditions": lambda: nl.fit_lint(activity, test_conditions=[0, 5], **OPTIONS),
        "a neuron": lambda: fit.assign_coords(neuron=["x", *fit["neuron"].values[1:]]),
        "an input": lambda: fit.assign_coords(input=["sound"]),
        "the order of neurons": lambda: fit.isel(neuron=slice(None, None, -1)),
    }
    one = fits[other]()
    for call in (lambda: next(nl.networks_of_draws(one, found)), lambda: nl.fixed_points(one, bootstrap=found)):
        with pytest.raises(ContractError, match=r"of the bootstrap is .*\. Give the bootstrap of this fit\."):
            call()


def test_a_bootstrap_from_a_file_is_that_of_its_fit(fit, found, tmp_path):
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject, results={"bootstrap": found})
    again = nl.networks_of_draws(nl.read_fit(path), nl.read_result(path, "bootstrap"))
    np.testing.assert_array_equal(next(again)["m"], next(nl.networks_of_draws(fit, found))["m"])


def test_refusals(fit, recording):
    with pytest.raises(ContractError, match="no resamples"):
        nl.bootstrap(fit, recording.drop_vars("rate_draw"), prepare=prepared)
    with pytest.raises(ContractError, match="single trial"):
        nl.bootstrap(fit, recording.assign(n_trials=0 * recording["n_trials"] + 1), prepare=prepared)
    with pytest.raises(ContractError, match="The fit has 8, 40 and 12"):
        nl.bootstrap(fit, recording.isel(condition=slice(4)), prepare=prepared)
    whole = nl.fit_lint(prepared(recording), **OPTIONS | {"rank": None})
    with pytest.raises(ContractError, match="rank=None"):
        nl.bootstrap(whole, recording, prepare=prepared)


def test_what_is_not_observed_has_a_reason_and_no_interval(fit, recording):
    gap = recording.assign(rate_draw=recording["rate_draw"].where(recording["time"] > 0))
    activity = prepared(recording)
    hidden = nl.fit_lint(activity, **OPTIONS | {"hidden": 5})
    grouped = nl.fit_lint(activity, **OPTIONS | {"initial": "condition"})
    for one, data, words in (
        (fit, gap, "missing samples"),
        (hidden, recording, "hidden units"),
        (grouped, recording, "start for each group"),
    ):
        empty = {name: ("time", [0.0]) for name in ("latent_low", "latent_high")}
        out = with_intervals(
            xr.Dataset({"estimate": ("quantity", [0.0]), **empty}), one, data, activity, prepared, 2, 0, {}
        )
        assert words in out["reason"].item()
        assert np.isnan(out["low"].item())
        assert np.isnan(out["latent_low"].item())


def test_a_rank_that_the_trials_do_not_determine_has_no_interval(recording):
    fit = nl.fit_lint(prepared(recording), **OPTIONS | {"rank": 2})  # the recording has rank 1
    found = nl.bootstrap(fit, recording, prepare=prepared, draws=2, simulations=2)
    assert np.isnan(found["low"]).all()
    assert set(found["reason"].values) == {
        "a direction of m and I cannot be distinguished from noise: the trials do not determine this rank"
    }
