"""Several sessions in common coordinates."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.statespace.sessions import corrected
from nwb_lint.testing import mock_activity, mock_trials
from tests.factories import assert_same

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
TURN = np.array([[1.5, 0.7], [-0.4, 0.9]])


@pytest.fixture(scope="module")
def fit():
    return nl.fit_lint(mock_activity(n_neurons=14), rank=2, tau_s=0.1, method="regression")


def turned(fit, to=TURN):
    """The same network with other latents: kappa = to kappa of the fit."""
    back = np.linalg.inv(to)
    return fit.assign(
        m=(fit["m"].dims, fit["m"].values @ back),
        n=(fit["n"].dims, fit["n"].values @ to.T),
        latent=(fit["latent"].dims, (fit["latent"].values @ to.T).astype("f4")),
    )


@pytest.mark.parametrize("by", ["units", "dynamics"])
def test_a_network_in_other_coordinates_is_at_distance_0_and_the_map_leads_back(fit, by):
    found = nl.align_fits({"a": fit, "b": turned(fit)}, by=by)
    np.testing.assert_allclose(found["map"].values[1] @ TURN, np.eye(2), atol=1e-4)
    np.testing.assert_allclose(found["distance"], 0, atol=1e-3)
    np.testing.assert_allclose(found["map_r2"], 1, atol=1e-6)
    moved = turned(fit)["latent"].values @ found["map"].values[1].T
    np.testing.assert_allclose(moved, fit["latent"].values, atol=1e-3)


def test_distances_do_not_depend_on_coordinates_of_others_or_on_the_order_of_units(fit):
    other = fit.assign(n=(fit["n"].dims, 1.3 * fit["n"].values))
    one = nl.align_fits({"a": fit, "b": other})
    order = np.random.default_rng(0).permutation(fit.sizes["neuron"])
    two = nl.align_fits({"a": fit, "b": turned(other.isel(neuron=order))})
    np.testing.assert_allclose(one["distance"], two["distance"], rtol=1e-4)
    assert one["distance"].values[0] == pytest.approx(0, abs=1e-12)
    assert one["distance"].values[1] == pytest.approx(0.3 * np.linalg.norm(one["recurrence"].values[0]), rel=1e-6)


def test_only_shared_units_say_what_the_map_is(fit):
    units = fit["neuron"].values.astype(str)
    few = turned(fit).assign_coords(neuron=np.where(np.arange(14) < 6, units, [f"new {k}" for k in range(14)]))
    found = nl.align_fits({"a": fit, "b": few})
    assert found["n_shared"].values.tolist() == [14, 6]
    np.testing.assert_allclose(found["map"].values[1] @ TURN, np.eye(2), atol=1e-6)


def test_single_trials_are_aligned_by_the_values_of_a_column():
    fit = nl.fit_trials(mock_trials(n_trials=20), rank=1, tau_s=0.1, hidden=0, max_iter=2)
    found = nl.align_fits({"a": fit, "b": fit}, by="dynamics", column="stimulus")
    assert found["n_shared"].values.tolist() == [2, 2]
    np.testing.assert_allclose(found["map"], 1, atol=1e-6)
    with pytest.raises(ContractError, match="single trials"):
        nl.align_fits({"a": fit, "b": fit}, by="dynamics")


def test_what_cannot_be_aligned_is_said(fit):
    with pytest.raises(ContractError, match="needs two"):
        nl.align_fits({"a": fit})
    with pytest.raises(ContractError, match=r"reference is 'c'"):
        nl.align_fits({"a": fit, "b": fit}, reference="c")
    with pytest.raises(ContractError, match="share 0 units"):
        nl.align_fits({"a": fit, "b": fit.assign_coords(neuron=[f"new {k}" for k in range(14)])})
    with pytest.raises(ContractError, match="rank"):
        nl.align_fits({"a": fit, "b": nl.fit_lint(mock_activity(n_neurons=14), rank=1, tau_s=0.1)})
    with pytest.raises(ContractError, match="no column 'side'"):
        nl.align_fits({"a": fit, "b": fit}, by="dynamics", column="side")


@pytest.mark.parametrize("true", [0.0, 3.0, 8.0])
def test_intervals_hold_the_change_and_p_is_small_as_often_as_it_says(true):
    """Errors of two groups in four dimensions, of different sizes, and a change in a random direction."""
    rng, scales, p, held = np.random.default_rng(0), np.array([1.5, 1.0, 1.0, 0.5]), [], []
    for _ in range(400):
        direction = rng.standard_normal(4)
        errors = scales * rng.standard_normal((2, 9, 4))
        change = true * direction / np.linalg.norm(direction) + errors[:, 8].sum(axis=0)
        found, low, high, one = corrected(change, list(errors[0, :8]), list(errors[1, :8]))
        assert low <= found <= high
        p.append(one)
        held.append(low <= true <= high)
    assert np.mean(held) > 0.86
    assert (np.mean(np.array(p) < 0.05) < 0.08) if true == 0 else (np.mean(np.array(p) < 0.05) > 0.15)


def test_halves_of_the_trials_say_what_is_chance(tmp_path):
    options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 4}
    trials = {"a": mock_trials(n_trials=40), "b": mock_trials(n_trials=60, seed=0).isel(trial=slice(20, None))}
    fits = {name: nl.fit_trials(one, **options) for name, one in trials.items()}
    pairs = {name: (fits[name], one) for name, one in trials.items()}
    found = nl.align_fits(pairs, column="stimulus", splits=3, max_iter=4)
    np.testing.assert_array_equal(found["distance"], nl.align_fits(fits)["distance"])
    for prefix in ("", "latent_"):
        low, middle, high = (found[f"{prefix}distance_{end}"].values for end in ("low", "corrected", "high"))
        assert np.isnan(low[0])
        assert low[1] <= middle[1] <= high[1]
        assert middle[1] <= found[f"{prefix}distance"].values[1]
        assert 0 < found[f"{prefix}distance_p_value"].values[1] <= 1
    path = nl.write_fit(fits["a"], tmp_path / "a.nwb", subject=SUBJECT)
    nl.write_result(found, path)
    assert_same(found, nl.read_result(path, "session_alignment"))
    other = fits["b"].assign(n=(fits["b"]["n"].dims, -fits["b"]["n"].values))
    changed = nl.align_fits({"a": pairs["a"], "b": (other, trials["b"])}, splits=3, max_iter=4)
    assert changed["distance_p_value"].values[1] < found["distance_p_value"].values[1]
    with pytest.warns(UserWarning, match="The reference, a, has no data"):
        untested = nl.align_fits({"a": fits["a"], "b": pairs["b"]}, splits=2, max_iter=2)
    assert np.isnan(untested["distance_p_value"]).all()
    with pytest.raises(ContractError, match="The data of b have"):
        nl.align_fits({"a": pairs["a"], "b": (fits["b"], trials["b"].isel(trial=slice(9)))})
    with pytest.raises(ContractError, match="rnak"):
        nl.align_fits(pairs, rnak=2)


def test_halves_of_the_conditions_of_means(fit):
    activity = mock_activity(n_neurons=14)
    found = nl.align_fits({"a": (fit, activity), "b": (turned(fit), activity)}, splits=2)
    assert found["distance_corrected"].values[1] == pytest.approx(0, abs=1e-3)
    assert found["distance_p_value"].values[1] > 0.05


def test_data_beside_a_fit_are_what_was_fitted():
    options, trials = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2}, mock_trials(n_trials=20)
    fit = nl.fit_trials(trials, **options)
    others = {
        "other neurons": trials.assign_coords(neuron=trials["neuron"].values[::-1]),
        "other trials": trials.isel(trial=slice(None, None, -1)),
        r"other bins \(0.04 s": trials.assign_attrs(bin_s=0.04),
    }
    for match, data in others.items():
        with pytest.raises(ContractError, match=match):
            nl.align_fits({"a": (fit, trials), "b": (fit, data)}, splits=2)
    with pytest.raises(ContractError, match="refine_free_run"):
        nl.align_fits({"a": (fit, trials), "b": (nl.refine_free_run(fit, trials, epochs=1), trials)})
    with pytest.raises(ContractError, match=r"test_size is 0\.2"):
        nl.align_fits({"a": (fit, trials), "b": (fit, trials)}, test_size=0.2)
    for wrong in ({"a": fit, "b": (fit, None)}, {"a": fit, "b": (fit, trials, 1)}):
        with pytest.raises(ContractError, match="Session b is"):
            nl.align_fits(wrong)
    with pytest.raises(ContractError, match="fits is a list"):
        nl.align_fits([fit, fit])


def test_numbers_of_single_trials_are_no_conditions():
    options = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2}
    fits = {name: nl.fit_trials(mock_trials(n_trials=20, seed=seed), **options) for seed, name in enumerate("ab")}
    assert np.isnan(nl.align_fits(fits)["latent_distance"]).all()
    assert nl.align_fits(fits, column="stimulus")["latent_distance"].values[1] > 0


def test_halves_have_the_weight_of_behavior_of_the_fit():
    fit = nl.fit_trials(mock_trials(n_trials=20), rank=1, tau_s=0.1, hidden=0, max_iter=2)
    assert TrialFitOptions.of_fit(fit.assign_attrs(readout_weight=7.0)).readout_weight == 7
