"""Model-based targeted dimensionality reduction against a planted model and the likelihood written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import nwb_lint as nl
from nwb_lint.analysis.mtdr import choose_dims, expectation, fit_mtdr, moments_of
from nwb_lint.errors import ContractError
from tests.analysis.test_axes import planted

C, T, N = 16, 25, 24
DIMS = np.array([2, 1])


def drawn(noise=1.0, seed=0, n_conditions=C):
    """Activity of the model itself, its variables, and its W per variable; noise differs between neurons."""
    rng = np.random.default_rng(seed)
    z = stats.zscore(rng.standard_normal((n_conditions, 2)))
    w = [rng.standard_normal((N, k)) for k in DIMS]
    beta = np.stack([rng.standard_normal((T, k)) @ one.T for k, one in zip(DIMS, w, strict=True)])
    sd = noise * rng.uniform(0.2, 2, N)
    mean = rng.standard_normal((T, N))
    return np.einsum("cv,vtn->ctn", z, beta) + mean + sd * rng.standard_normal((n_conditions, T, N)), z, w, sd


def test_the_likelihood_is_that_of_the_joint_normal_distribution():
    x, z, _, _ = drawn()
    model = fit_mtdr(moments_of(x, z), DIMS)
    left = (x - x.mean(axis=0)).transpose(1, 0, 2).reshape(T, -1)
    loading = np.concatenate([np.kron(z[:, [v]], model.w[:, [k]]) for k, v in enumerate(model.of)], axis=1)
    covariance = loading @ loading.T + np.diag(np.tile(model.variance, C))
    slow = stats.multivariate_normal(cov=covariance).logpdf(left).sum()
    assert model.likelihood == pytest.approx(slow, rel=1e-4)  # the variance is one step younger


def test_no_neighbor_is_likelier_and_iterations_never_lose():
    x, z, _, _ = drawn()
    moments = moments_of(x, z)
    likelihoods = [fit_mtdr(moments, DIMS, max_iter=steps).likelihood for steps in (1, 2, 4, 8, 300)]
    assert (np.diff(likelihoods) >= 0).all()
    best = fit_mtdr(moments, DIMS, max_iter=3000, tolerance=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(20):
        w = best.w + 0.02 * rng.standard_normal(best.w.shape)
        variance = best.variance * np.exp(0.02 * rng.standard_normal(N))
        assert expectation(moments, w, best.of, variance)[2] < best.likelihood


def test_planted_subspaces_dims_and_noise_are_found():
    x, z, w, sd = drawn(n_conditions=60)
    model = choose_dims(moments_of(x, z))
    assert np.bincount(model.of).tolist() == DIMS.tolist()
    for v, wanted in enumerate(w):
        cosines = np.linalg.svd(np.linalg.qr(model.w[:, model.of == v])[0].T @ np.linalg.qr(wanted)[0])[1]
        assert cosines.min() > 0.995
    np.testing.assert_allclose(np.sqrt(model.variance), sd, rtol=0.1)


def test_neurons_of_much_noise_turn_the_model_less_than_the_regression():
    fit, activity, directions = planted()
    rng = np.random.default_rng(1)
    sd = np.where(np.arange(activity.sizes["neuron"]) % 3 == 0, 3.0, 0.2)
    noisy = activity + sd * rng.standard_normal(activity["activity"].shape)
    found = nl.compare_axes(fit, noisy, variables=["motion", "color"], orthogonal=False, mtdr_dims=1)
    assert found.attrs["mtdr_dims"] == [1, 1]
    for name, wanted in zip(("motion", "color"), directions, strict=False):
        by_model, by_regression = (
            abs(float(found["axis"].sel(axis_name=one).values @ wanted)) for one in (f"mtdr {name} 1", f"tdr {name}")
        )
        assert by_model > 0.9
        assert by_model > by_regression + 0.1


def test_order_of_neurons_and_scale_of_activity_do_not_change_angles():
    fit, activity, _ = planted(noise=0.3)
    order = np.random.default_rng(1).permutation(activity.sizes["neuron"])
    a, b = nl.compare_axes(fit, activity), nl.compare_axes(fit, 3.0 * activity.isel(neuron=order))
    names = [name for name in a["axis_name"].values if name.startswith("mtdr")]
    assert len(names) >= 3
    pick = {"axis_name": names, "axis_other": names}
    np.testing.assert_allclose(a["angle_deg"].sel(pick), b["angle_deg"].sel(pick), atol=1e-4)


@pytest.mark.parametrize("dims", [-1, 1.5, "bic", 99, True])
def test_dims_that_cannot_be_are_refused(dims):
    fit, activity, _ = planted(noise=0.3)
    with pytest.raises(ContractError, match=r"mtdr_dims.*whole number"):
        nl.compare_axes(fit, activity, mtdr_dims=dims)
    none = nl.compare_axes(fit, activity, mtdr_dims=0)
    assert not [name for name in none["axis_name"].values if name.startswith("mtdr")]
