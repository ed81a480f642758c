"""Weights of behavior that held-out data choose, and decoding beside a plain decoder."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_trials
from tests.model.test_behavior import SUBJECT, weak_activity
from tests.plot.pictures import texts
from tests.statespace.test_behavior import trials_of_a_weak_dimension

TRIALS = {"tau_s": 0.1, "hidden": 0, "max_iter": 8}


@pytest.fixture(scope="module")
def trials():
    return trials_of_a_weak_dimension()[0]


@pytest.fixture(scope="module")
def fit(trials):
    return nl.fit_trials(trials, rank=2, test_size=40, **TRIALS)


@pytest.fixture(scope="module")
def decoding(fit, trials):
    return nl.decode_behavior(fit, trials)


def shuffled(data, dim):
    order = np.random.default_rng(1).permutation(data.sizes[dim])
    return data.assign(behavior=(data["behavior"].dims, data["behavior"].values[order]))


def test_of_trials_the_choice_predicts_both_and_shuffled_behavior_gets_no_weight(trials):
    found = nl.compare_readouts(trials, rank=2, readout_weights=[0, 1, 100], folds=2, **TRIALS)
    assert found["as_good"].sel(weight_tried=found.attrs["readout_weight"])
    assert found.attrs["decoded"] == 1
    score = found["condition_behavior"].mean("condition")
    np.testing.assert_allclose(score, found["behavior_score"])
    with pytest.warns(UserWarning, match="not predicted better than by its mean"):
        nothing = nl.compare_readouts(shuffled(trials, "trial"), rank=2, readout_weights=[0, 1], folds=2, **TRIALS)
    assert nothing.attrs["decoded"] == 0
    assert nothing.attrs["readout_weight"] == 0


def test_at_a_rank_that_is_too_small_behavior_may_not_cost_the_activity(trials):
    with pytest.warns(UserWarning, match="not predicted better than by its mean"):
        found = nl.compare_readouts(trials, rank=1, readout_weights=[0, 100], folds=2, **TRIALS)
    assert float(found["behavior_score"].sel(weight_tried=100, readout="speed")) > 0.4
    assert found.attrs["readout_weight"] == 0  # the neurons' own dimension would be lost
    assert not found["as_good"].sel(weight_tried=100)
    assert np.isnan(found["behavior_deficit"].sel(weight_tried=100))


def test_of_means_a_score_is_that_of_the_fit_that_holds_the_conditions_out():
    activity = weak_activity(n_conditions=12)[0]
    options = {"rank": 1, "tau_s": 0.1, "method": "regression"}
    found = nl.compare_readouts(activity, readout_weights=[0, 5], folds=2, **options)
    held = np.isin(np.arange(12), np.array_split(np.random.default_rng(0).permutation(12), 2)[0])
    fit = nl.fit_lint(activity, test_conditions=held, readout_weight=5.0, **options)
    error = np.square(activity["behavior"].values - fit["behavior_pred"].values)[held].sum(axis=(1, 2))
    power = np.square(activity["behavior"].values - activity["behavior"].values[~held].mean())[held].sum(axis=(1, 2))
    gain = found["condition_behavior"].sel(weight_tried=5).values[held, 0]
    np.testing.assert_allclose(gain / gain.sum(), (power - error) / (power - error).sum(), rtol=1e-5)
    weights = nl.compare_readouts(activity, folds=2, **options)["weight_tried"].values
    np.testing.assert_allclose(weights, [0, 1, 6.3, 40])


def test_decoded_behavior_is_read_from_causal_latents(fit, trials, decoding):
    latent = nl.infer_latents(fit, trials, causal=True)["latent"].rename(trial="condition").drop_vars("condition")
    wanted = fit["readout_level"] + (fit["readout_weights"] * latent).sum("rank")
    speed = wanted.sel(readout="speed").transpose("condition", "time")
    np.testing.assert_allclose(decoding["decoded"].sel(readout="speed"), speed, rtol=1e-6)
    choice = 1 / (1 + np.exp(-wanted.sel(readout="choice").transpose("condition", "time")))
    np.testing.assert_allclose(decoding["decoded"].sel(readout="choice"), choice, rtol=1e-6)
    np.testing.assert_array_equal(decoding["held_out"], fit["held_out"])


def test_a_causal_decoder_does_not_see_the_future(fit, trials):
    late = trials["count"].values.copy()
    late[:, 20:] = 0
    other = nl.decode_behavior(fit, trials.assign(count=(trials["count"].dims, late)))
    own = nl.decode_behavior(fit, trials)
    np.testing.assert_allclose(other["decoded"][:, :20], own["decoded"][:, :20], rtol=1e-6)
    assert np.abs(other["decoded"][:, 20:] - own["decoded"][:, 20:]).max() > 0.1


def test_scores_intervals_and_differences_are_those_of_the_held_out_trials(decoding, fit):
    held = decoding.isel(condition=decoding["held_out"].values).sel(readout="speed")
    trained = decoding.isel(condition=~decoding["held_out"].values).sel(readout="speed")
    power = np.square(held["behavior"] - trained["behavior"].mean()).sum()
    for name, decoder in (("decoded", "latents"), ("decoded_plain", "plain")):
        wanted = 1 - np.square(held["behavior"] - held[name]).sum() / power
        assert float(decoding["score"].sel(decoder=decoder, readout="speed")) == pytest.approx(float(wanted))
    difference = decoding["score"].sel(decoder="latents") - decoding["score"].sel(decoder="plain")
    np.testing.assert_allclose(difference, decoding["score_difference"])
    assert 0.82 < float(decoding["coverage"].sel(readout="speed")) < 0.97
    assert float(decoding["auc"].sel(decoder="latents", readout="choice")) > 0.7
    assert np.isnan(decoding["accuracy"].sel(readout="speed")).all()
    assert (decoding["decoded_low"] <= decoding["decoded_high"]).all()


def test_the_latents_of_the_true_rank_decode_as_well_as_the_plain_decoder(decoding):
    behind = decoding["score_difference"] + 2 * decoding["score_difference_sem"]
    assert (behind > 0).all()


def test_samples_after_the_present_help(fit, trials, decoding):
    whole = nl.decode_behavior(fit, trials, causal=False)
    both = whole["score"] - decoding["score"]
    assert (both.sel(readout="speed") > 0).all()


def test_of_means_behavior_is_decoded_from_the_activity_of_each_bin():
    activity = weak_activity(noise=0.1)[0]
    fit = nl.fit_lint(activity, rank=2, tau_s=0.1, test_size=10)
    found = nl.decode_behavior(fit, activity)
    assert float(found["score"].sel(decoder="latents")[0]) > 0.6
    later = activity.assign(activity=activity["activity"].where(activity["time"] < 0.5, 0))
    other = nl.decode_behavior(fit, later)
    np.testing.assert_allclose(other["decoded"][:, :25], found["decoded"][:, :25], rtol=1e-4)


def test_what_cannot_be_is_said(fit, trials):
    with pytest.raises(ContractError, match="have no behavior"):
        nl.compare_readouts(trials.drop_dims("readout"), rank=1, tau_s=0.1)
    for weights in ([1.0], [1, 1], [-1, 0]):
        with pytest.raises(ContractError, match="two different numbers"):
            nl.compare_readouts(trials, rank=1, tau_s=0.1, readout_weights=weights)
    with pytest.raises(ContractError, match="readout_weight is"):
        nl.compare_readouts(trials, rank=1, tau_s=0.1, readout_weight=2.0)
    with pytest.raises(ContractError, match="The data have the readouts"):
        nl.decode_behavior(fit, trials.isel(readout=[0]))
    with pytest.raises(ContractError, match="has no readouts"):
        nl.decode_behavior(nl.fit_trials(trials.drop_dims("readout"), rank=1, **TRIALS), trials)
    with pytest.raises(ContractError, match="All of the"):
        nl.decode_behavior(fit, trials.isel(trial=~fit["held_out"].values))
    for call in (lambda: nl.decode_behavior(fit, None), lambda: nl.compare_readouts(None, rank=1, tau_s=0.1)):
        with pytest.raises(ContractError, match="data is a NoneType"):
            call()


def test_trials_of_another_session_are_not_taken_for_those_of_the_fit(fit, trials):
    other = trials.assign(behavior=(trials["behavior"].dims, trials["behavior"].values[::-1]))
    with pytest.raises(ContractError, match="has other behavior than in the fit"):
        nl.decode_behavior(fit, other)
    turned = nl.decode_behavior(fit, trials.isel(trial=slice(None, None, -1)))
    np.testing.assert_allclose(turned["score"], nl.decode_behavior(fit, trials)["score"], rtol=1e-6)


def test_a_held_out_trial_without_behavior_is_as_if_it_was_not_there(fit, trials):
    held = np.flatnonzero(fit["held_out"].values)
    lacking = trials.copy(deep=True)
    lacking["behavior"][held[:3]] = np.nan
    found, other = nl.decode_behavior(fit, lacking), nl.decode_behavior(fit, trials.drop_isel(trial=held[:3]))
    for name in ("score", "score_sem", "score_difference", "score_difference_sem", "coverage", "auc", "bits"):
        np.testing.assert_allclose(found[name], other[name], rtol=1e-6, err_msg=name)
    alone = nl.decode_behavior(fit, trials.drop_isel(trial=held[1:]))
    assert np.isfinite(alone["score"].sel(readout="speed")).all()
    assert np.isnan(alone["score_sem"]).all()


def test_conditions_without_behavior_have_no_score_of_their_own():
    activity = weak_activity(noise=0.1)[0]
    lacking = activity.copy(deep=True)
    lacking["behavior"][:4] = np.nan
    table = nl.compare_readouts(lacking, rank=1, tau_s=0.1, readout_weights=[0, 1], folds=2)
    each = table["condition_behavior"].values
    assert np.isnan(each[:, :4]).all()
    np.testing.assert_allclose(table["behavior_score"], each[:, 4:].mean(axis=1))
    np.testing.assert_allclose(
        table["behavior_score_sem"], each[:, 4:].std(axis=1, ddof=1) / np.sqrt(each.shape[1] - 4)
    )


def test_of_means_a_condition_that_was_not_observed_is_not_scored():
    activity = weak_activity(noise=0.1)[0]
    fit = nl.fit_lint(activity, rank=2, tau_s=0.1, test_size=10)
    held = np.flatnonzero(fit["held_out"].values)[0]
    unseen = activity.copy(deep=True)
    unseen["activity"][held] = np.nan
    found, other = nl.decode_behavior(fit, unseen), nl.decode_behavior(fit, activity.drop_isel(condition=held))
    assert np.isnan(found["decoded"][held]).all()
    for name in ("score", "score_sem"):
        np.testing.assert_allclose(found[name][0], other[name][0], rtol=1e-3)
    assert np.isfinite(found["score"]).all()


@pytest.mark.parametrize(
    ("readout", "negative", "positive"),
    [
        (nl.Readout("side", column="side"), "left", "right"),
        (nl.Readout("side", column="side", equals="left"), "right", "left"),
        (nl.Readout("side", column="cue", equals=2), "not 2", "2"),
        (nl.Readout("side", column="half"), "-0.5", "1"),
    ],
)
def test_a_choice_keeps_the_names_of_its_values(readout, negative, positive, tmp_path):
    trials = mock_trials(n_trials=24)
    columns = {"side": np.array(["right", "left"]), "cue": np.arange(3), "half": np.array([-0.5, 1.0])}
    trials = trials.assign_coords({name: ("trial", np.resize(one, 24)) for name, one in columns.items()})
    number = nl.Readout("stimulus", column="cue")
    trials = nl.prepare(trials, inputs=[], readouts=[readout, number])
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=2, test_size=8)
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    found = nl.decode_behavior(nl.read_fit(path), trials)
    for one in (trials, nl.read_fit(path), found):
        assert one["readout_negative"].values.tolist() == [negative, ""]
        assert one["readout_positive"].values.tolist() == [positive, ""]
    nl.write_result(found, path)
    ax = nl.plot.decoded_behavior(nl.read_result(path, "decoding"))
    assert texts(ax)[:2] == [f"side {name}".replace("-", "\N{MINUS SIGN}") for name in (negative, positive)]
    assert ax.get_ylabel() == f"probability of side {positive}"
