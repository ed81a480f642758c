"""Two fits side by side: the same network compares as the same, whatever its order, gauge and neurons."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit, mock_trials


@pytest.fixture(scope="module")
def fit():
    return nl.fit_lint(mock_activity(n_neurons=30), rank=2, tau_s=0.1, method="regression", test_size=2)


def turned(fit, angle=0.7):
    """The same network in another gauge."""
    q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return fit.assign(
        m=(fit["m"].dims, fit["m"].values @ q),
        n=(fit["n"].dims, fit["n"].values @ q),
        latent=(fit["latent"].dims, (fit["latent"].values @ q).astype(np.float32)),
    )


def test_the_same_network_is_the_same_in_any_order_and_gauge(fit):
    rng = np.random.default_rng(0)
    other = turned(fit).isel(neuron=rng.permutation(fit.sizes["neuron"]), condition=rng.permutation(8))
    found = nl.compare(fit, other)
    for name in ("pearson", "cosine", "pearson_prediction"):
        assert float(found[name]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found["angle_deg"], 0, atol=1e-4)
    assert float(found["latent_disparity"]) == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(found["n_found"][0], found["n_found"][1])
    assert found.attrs["differences"] == []
    assert found.attrs["n_neurons"] == 30


def test_comparison_is_symmetric(fit):
    other = nl.fit_lint(mock_activity(n_neurons=30), rank=1, tau_s=0.2, method="regression", test_size=2)
    there, back = nl.compare(fit, other), nl.compare(other, fit)
    for name in ("pearson", "cosine", "pearson_prediction", "latent_disparity"):
        assert float(there[name]) == pytest.approx(float(back[name]), abs=1e-9)
        assert float(there[name]) < 0.9999 if name != "latent_disparity" else float(there[name]) > 1e-6
    assert "tau_s: 0.1 | 0.2" in there.attrs["differences"]
    assert "rank: 2 | 1" in there.attrs["differences"]
    assert "tau_s: 0.2 | 0.1" in back.attrs["differences"]


def test_both_are_scored_on_the_same_activity(fit):
    activity = mock_activity(n_neurons=30)
    found = nl.compare(fit, turned(fit), activity=activity)
    expected = float(nl.score(fit, activity)["r2"])
    np.testing.assert_allclose(found["r2_activity"], expected, atol=1e-6)


def test_what_cannot_be_compared_is_not_a_number(fit):
    unconstrained = nl.fit_lint(mock_activity(n_neurons=30), rank=None, tau_s=0.1, method="regression")
    found = nl.compare(fit, unconstrained)
    assert found.sizes["angle"] == 0
    assert np.isnan(found["latent_disparity"])
    assert (found["n_found"][1] == -1).all()
    assert np.isfinite(found["pearson"])
    trials = nl.fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=1)
    apart = nl.compare(mock_fit(), trials.assign_coords(neuron=mock_fit()["neuron"].values))
    assert apart.attrs["n_conditions"] == 0
    assert np.isnan(apart["pearson_prediction"])


def test_fits_without_a_shared_neuron_are_refused(fit):
    other = fit.assign_coords(neuron=[f"other {k}" for k in range(30)])
    with pytest.raises(ContractError, match="share no"):
        nl.compare(fit, other)
