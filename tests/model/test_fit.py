"""Laws of the fit: teachers come back, held-out data have no influence, two runs are equal, errors in one line."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.contract.checks import check_fit
from nwb_lint.errors import ContractError
from nwb_lint.model.data import Samples
from nwb_lint.model.network import canonical, drives
from nwb_lint.model.scores import r_squared
from nwb_lint.model.stages.search import equally_good, is_better, splits_of
from nwb_lint.model.tuning import INNER_FOLDS, SINGLE_SPLIT_CONDITIONS

TAU_S = 0.1
NETWORK = ("m", "n", "input_weights", "bias", "initial_activation")


def fit_of(activity, rank=1, **options):
    return nl.fit_lint(activity, rank=rank, **({"tau_s": TAU_S} | options))


def r2_of(fit, known, part=slice(None)):
    prediction = fit["activity_pred"].values[part]
    return r_squared(known.x[part], prediction, known.x.mean(axis=(0, 1)))[0]


def ecc_of(fit, known):
    found = nl.connectivity(fit)["connectivity"].values
    return np.corrcoef(found.ravel(), known.effective().ravel())[0, 1]


@pytest.mark.parametrize(("observation", "r2", "ecc"), [(0.0, 0.998, 0.98), (0.5, 0.98, 0.95)])
@pytest.mark.parametrize("rank", [1, 2])
def test_teacher_comes_back(truth, rank, observation, r2, ecc):
    known = truth(rank=rank, conditions=100, neurons=50, observation=observation)
    fit = fit_of(known.activity, rank, test_conditions=np.arange(80, 100))
    check_fit(fit)
    assert r2_of(fit, known, slice(80, 100)) > r2
    assert ecc_of(fit, known) > ecc


def test_later_stages_do_not_worsen_held_out_data(truth):
    known = truth(observation=1.0, conditions=100)
    fit = fit_of(known.activity, test_conditions=np.arange(80, 100))
    assert list(fit["stage"].values)[:2] == ["closed form", "latent pass"]
    r2 = fit["stage_r2"].sel(split="held_out").values
    assert (np.diff(r2) > -1e-3).all()
    assert r2[-1] > r2[0] + 0.005
    assert r2[-1] == fit["r2"].sel(split="held_out")


def test_burn_in_and_bias_come_back(truth):
    known = truth(burn_in=10, bias=0.5, conditions=80)
    fit = fit_of(known.activity, test_conditions=np.arange(60, 80), bias=True)
    assert fit.sizes["burn_in"] == 10
    assert fit.sizes["time"] == 30
    assert r2_of(fit, known, slice(60, 80)) > 0.995
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])


@pytest.mark.parametrize("nonlinearity", ["relu", "softplus"])
@pytest.mark.parametrize("loss", ["activity", "rate"])
def test_options_run_from_end_to_end(truth, nonlinearity, loss):
    known = truth(neurons=16, conditions=16)
    fit = fit_of(known.activity, nonlinearity=nonlinearity, loss=loss, hidden=5, max_iter=15, test_conditions=[3, 4])
    check_fit(fit)
    assert list(fit["recorded"].values) == [True] * 16 + [False] * 5
    assert fit["r2"].sel(split="held_out") > 0.5
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])


def test_unconstrained_fit(truth):
    known = truth(rank=2, conditions=100)
    fit = fit_of(known.activity, None, test_conditions=np.arange(80, 100))
    assert "m" not in fit
    assert "latent" not in fit
    assert r2_of(fit, known, slice(80, 100)) > 0.97
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])


def test_unseen_samples(truth):
    known = truth(conditions=60)
    holed = known.activity.copy(deep=True)
    rng = np.random.default_rng(1)
    holed["activity"].values[rng.random(holed["activity"].shape) < 0.15] = np.nan
    holed["activity"].values[5, :, 7] = np.nan  # a neuron not seen in one condition
    fit = fit_of(holed, test_conditions=np.arange(50, 60))
    assert np.isfinite(fit["activity_pred"]).all()
    assert r2_of(fit, known, slice(50, 60)) > 0.99


@pytest.mark.parametrize("rank", [1, None])
def test_two_runs_are_equal(truth, rank):
    activity = truth(neurons=16, conditions=20, observation=0.5).activity
    before = activity.copy(deep=True)
    one, two = (fit_of(activity, rank, test_size=0.2, seed=3) for _ in range(2))
    xr.testing.assert_identical(one, two)
    xr.testing.assert_identical(activity, before)  # and nothing given was changed


@pytest.mark.parametrize("method", ["auto", "regression", "gradient", "published"])
def test_held_out_conditions_have_no_influence(truth, method):
    activity = truth(neurons=16, conditions=24, observation=0.5).activity
    wild = activity.copy(deep=True)
    held = np.arange(24) % 4 == 1
    wild["activity"].values[held] = 1e4 * np.random.default_rng(2).standard_normal(wild["activity"][held].shape)
    wild["activity"].values[1, 3] = np.nan
    options = {"method": method, "max_iter": 25, "epochs": 3, "test_conditions": held}
    one, two = (fit_of(d, **options) for d in (activity, wild))
    for name in NETWORK:
        np.testing.assert_array_equal(one[name], two[name])
    assert one["r2"].values[0] == two["r2"].values[0]
    assert one["r2"].values[1] != two["r2"].values[1]


def test_held_out_inputs_have_no_influence(truth):
    activity = truth(neurons=16, conditions=24).activity
    other = activity.copy(deep=True)
    other["u"].values[20:] *= -7
    one, two = (fit_of(d, test_conditions=np.arange(20, 24), max_iter=25) for d in (activity, other))
    for name in NETWORK:
        np.testing.assert_array_equal(one[name], two[name])


def test_ways_to_say_what_is_held_out(truth):
    activity = truth(neurons=10, conditions=12).activity
    mask = np.isin(np.arange(12), [2, 7])
    fits = [fit_of(activity, method="regression", test_conditions=h) for h in (mask, [2, 7], ["c02", "c07"])]
    for fit in fits:
        np.testing.assert_array_equal(fit["held_out"], mask)
        xr.testing.assert_identical(fit, fits[0])
    prepared = activity.assign_coords(held_out=("condition", mask))
    np.testing.assert_array_equal(fit_of(prepared, method="regression")["held_out"], mask)
    nobody = fit_of(prepared, method="regression", test_size=0)
    assert not nobody["held_out"].any()
    assert np.isnan(nobody["r2"].sel(split="held_out"))
    drawn = [fit_of(activity, method="regression", test_size=0.25, seed=s)["held_out"].values for s in range(4)]
    assert [d.sum() for d in drawn] == [3] * 4
    assert any((d != drawn[0]).any() for d in drawn[1:])


def test_scores_and_gauge_of_a_fit(truth):
    known = truth(rank=2, neurons=20, conditions=24)
    fit = fit_of(known.activity, 2, test_conditions=np.arange(18, 24), max_iter=25)
    y, prediction = known.activity["activity"].values.astype(float), fit["activity_pred"].values
    mean = y[:18].mean(axis=(0, 1))
    for split, part in (("train", slice(0, 18)), ("held_out", slice(18, 24))):
        expected = 1 - ((y - prediction)[part] ** 2).sum() / ((y - mean)[part] ** 2).sum()
        assert float(fit["r2"].sel(split=split)) == pytest.approx(expected, abs=1e-5)
    m, n = canonical(fit["m"].values, fit["n"].values)
    np.testing.assert_allclose(m, fit["m"], atol=1e-10)
    np.testing.assert_allclose(n, fit["n"], atol=1e-8)
    parts = fit["latent"].values @ m.T + fit["filtered_input"].values @ fit["input_weights"].values.T
    np.testing.assert_allclose(parts, prediction, atol=1e-4)


@pytest.mark.parametrize("conditions", [2, 7, SINGLE_SPLIT_CONDITIONS - 1, SINGLE_SPLIT_CONDITIONS, 1000])
def test_inner_splits_part_the_conditions(conditions):
    splits = splits_of(conditions, seed=0)
    for fit, held in splits:
        assert len(fit)
        assert len(held)
        np.testing.assert_array_equal(np.sort(np.concatenate([fit, held])), np.arange(conditions))
    if conditions < SINGLE_SPLIT_CONDITIONS:
        assert len(splits) == min(INNER_FOLDS, conditions)
        np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in splits])), np.arange(conditions))
    else:
        assert len(splits) == 1


def test_of_equally_good_candidates_the_most_regularized_is_taken():
    rng = np.random.default_rng(3)
    base = 1 + rng.random(30)
    best, same, worse = base, base + 1e-3 * rng.standard_normal(30), base + 0.5
    assert equally_good([worse, best, same, worse], power=10.0) == [1, 2]
    assert equally_good([best, worse], power=10.0) == [0]
    assert is_better(worse, best, 10.0)
    assert not is_better(best, worse, 10.0)
    assert not is_better(best, same, 10.0)
    assert not is_better(best, np.full(30, np.inf), 10.0)
    assert is_better(np.full(30, np.inf), best, 10.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 11}, "number of neurons is 10"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": True}, "rank is True"),
        ({"tau_s": float("nan")}, "tau_s is nan"),
        ({"tau_s": 0.01}, "tau_s is 0.01"),
        ({"hidden": -1}, "hidden is -1"),
        ({"hidden": 2, "rank": None}, "hidden=2"),
        ({"test_conditions": ["nowhere"]}, "nowhere"),
        ({"test_conditions": [12]}, "12"),
        ({"test_conditions": np.ones(5, bool)}, "5 entries"),
        ({"test_size": 0.99}, "left to train"),
        ({"test_size": -0.1}, "test_size is -0.1"),
        ({"rank": "two"}, "rank"),
        ({"tau_s": np.inf}, "tau_s"),
        ({"ridges": ()}, "ridges"),
        ({"device": "abacus", "method": "gradient", "max_iter": 1}, "device"),
    ],
)
def test_errors_are_one_line(truth, options, words):
    with pytest.raises(ContractError) as caught:
        fit_of(truth(neurons=10, conditions=12).activity, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_condition_is_refused(truth):
    with pytest.raises(ContractError, match=r"single condition"):
        fit_of(truth(neurons=10, conditions=12).activity.isel(condition=[0]))


def test_a_dataset_that_is_not_an_activity_is_refused(truth):
    activity = truth(neurons=10, conditions=12).activity
    for broken in (activity.drop_vars("u"), activity.transpose("time", ...), activity.drop_attrs()):
        with pytest.raises(ContractError, match=r"^[^\n]+$"):
            fit_of(broken)


@pytest.mark.parametrize("value", [0.0, np.inf])
def test_activity_that_cannot_be_fitted_is_an_error(truth, value):
    activity = truth(neurons=10, conditions=12).activity
    activity["activity"].values[...] = value
    with pytest.raises(ContractError, match=r"^[^\n]+$"):
        fit_of(activity)


@pytest.mark.parametrize("unseen", [np.s_[1:9, :, 3], np.s_[9:]], ids=["a neuron in an inner fold", "all held out"])
def test_what_is_unseen_in_a_part_does_no_harm(truth, unseen):
    activity = truth(neurons=10, conditions=12).activity
    activity["activity"].values[unseen] = np.nan
    fit = fit_of(activity, test_conditions=[9, 10, 11])
    assert np.isfinite(fit["activity_pred"]).all()


def test_neuron_unseen_in_training_is_an_error(truth):
    activity = truth(neurons=10, conditions=12).activity
    activity["activity"].values[:9, :, 3] = np.nan
    with pytest.raises(ContractError, match=r"^[^\n]+$"):
        fit_of(activity, test_conditions=[9, 10, 11])


def test_coarse_samples_decay_as_fine_ones(truth):
    known = truth(times=41)
    u = known.activity["u"].values.astype(float)
    fine = Samples(known.x, drives(u, 0.05, bias=True, initial=True), 0.05)
    coarse = fine.coarse(4)
    assert coarse.x.shape[1] == 11
    np.testing.assert_allclose(coarse.q[:, :, -1], (1 - coarse.alpha) ** np.arange(11) + 0 * coarse.q[:, :, -1])
    np.testing.assert_array_equal(coarse.x[:, 3], fine.x[:, 12])
    burn_in = fine._replace(x=fine.x[:, 10:]).coarse(4)  # the first sample stays a sample
    np.testing.assert_array_equal(burn_in.q[:, -burn_in.x.shape[1] :], fine.q[:, 10::4])


def test_hidden_units_carry_what_few_recorded_ones_cannot_span(truth):
    known = truth(rank=2, neurons=60, conditions=48, observation=0.3)
    few = known.activity.isel(neuron=slice(0, 6))
    held = np.arange(36, 48)
    alone, aided = (
        fit_of(few, rank=2, hidden=hidden, test_conditions=held, max_iter=30)["activity_pred"].values[held][:, :, :6]
        for hidden in (0, 40)
    )
    clean = known.x[held][:, :, :6]
    reference = known.x[:36, :, :6].mean(axis=(0, 1))
    scores = [r_squared(clean, prediction, reference)[0] for prediction in (alone, aided)]
    assert scores[1] > scores[0] - 0.005
    assert scores[1] > 0.9
