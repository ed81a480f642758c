"""Several sessions in common coordinates."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_trials

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
    assert one["distance"].values[0] == 0
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
