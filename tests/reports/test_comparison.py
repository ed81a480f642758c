"""Two fits side by side: the same network compares as the same, whatever its order, gauge and neurons."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.reports.comparison import of_comparison
from nwb_lint.reports.items import as_text
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


@pytest.fixture(scope="module")
def dsa():
    pytest.importorskip("DSA", reason="the extra dsa is not installed")
    return lambda one, other: float(nl.compare(one, other, dsa=True)["dsa"])


def with_modes(fit, angle, seed):
    """A fit whose latents turn by ``angle`` while they shrink, from starts that are drawn."""
    step = 0.97 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    start = np.random.default_rng(seed).standard_normal((fit.sizes["condition"], 2))
    powers = [np.linalg.matrix_power(step, k) for k in range(fit.sizes["time"])]
    latent = np.einsum("tij,cj->cti", powers, start)
    return fit.assign(latent=(("condition", "time", "rank"), latent.astype(np.float32)))


def test_dynamical_similarity_does_not_depend_on_the_gauge(fit, dsa):
    assert dsa(fit, fit) == pytest.approx(0, abs=1e-6)
    assert dsa(fit, turned(fit)) == pytest.approx(0, abs=1e-6)
    a = np.array([[2.0, 0.5], [0.0, 0.3]])  # any gauge: m a, n a'^-1, and the latents a^-1
    other = fit.assign(
        m=(fit["m"].dims, fit["m"].values @ a),
        n=(fit["n"].dims, fit["n"].values @ np.linalg.inv(a).T),
        latent=(fit["latent"].dims, (fit["latent"].values @ np.linalg.inv(a).T).astype(np.float32)),
    )
    assert dsa(fit, other) == pytest.approx(0, abs=1e-6)
    assert float(nl.compare(fit, other)["latent_disparity"]) == pytest.approx(0, abs=1e-9)
    order = np.random.default_rng(0).permutation(fit.sizes["neuron"])
    assert dsa(fit, fit.isel(neuron=order)) == pytest.approx(0, abs=1e-6)


def test_dynamical_similarity_is_the_distance_of_modes(fit, dsa):
    """The eigenvalues of these runs are known: .97 e^(± i angle)."""
    one = with_modes(fit, 0.1, seed=0)
    assert dsa(one, with_modes(fit, 0.1, seed=1)) == pytest.approx(0, abs=1e-6)
    angles = np.array([0.12, 0.2, 0.5])
    found = [dsa(one, with_modes(fit, angle, seed=1)) for angle in angles]
    np.testing.assert_allclose(found, abs(0.97 * (np.exp(0.1j) - np.exp(1j * angles))) ** 2, rtol=0.01)


def test_dynamical_similarity_of_other_ranks_and_of_few_samples(fit, dsa):
    smaller = nl.fit_lint(mock_activity(n_neurons=30), rank=1, tau_s=0.2, method="regression", test_size=2)
    assert dsa(fit, smaller) == pytest.approx(dsa(smaller, fit), abs=1e-6)
    assert dsa(fit, smaller) > 1e-5
    assert np.isnan(dsa(fit, fit.isel(time=slice(0, 5))))
    assert np.isnan(dsa(fit, fit.assign(latent=0 * fit["latent"])))
    assert "DSA: how far apart" in as_text(of_comparison(nl.compare(fit, smaller, dsa=True)))
    assert "dsa" not in nl.compare(fit, smaller)


def test_a_package_that_lacks_is_named(fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "DSA", None)
    with pytest.raises(ContractError, match=r"pip install 'nwb_lint\[dsa\]'"):
        nl.compare(fit, fit, dsa=True)


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
