"""Innovations: a slow regression of one-step differences, the efficient J where noise is private, and the ridge."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Network, drives
from nwb_lint.model.regression import closed_form, features, innovations, regression_errors

ALPHA, TAU_S = 0.2, 0.1
RHO = 1 - ALPHA


def slow(x, q, there):
    """J and W by least squares over rows x[t] - rho x[t-1], the first of every stretch scaled, one row at a time."""
    z, rows, targets = features(x.copy(), ALPHA, "tanh"), [], []
    for c in range(len(x)):
        for t in range(x.shape[1]):
            if not there[c, t]:
                continue
            both = np.concatenate([z[c, t], q[c, t]])
            if t and there[c, t - 1]:
                rows.append(both - RHO * np.concatenate([z[c, t - 1], q[c, t - 1]]))
                targets.append(x[c, t] - RHO * x[c, t - 1])
            else:
                rows.append(np.sqrt(1 - RHO**2) * both)
                targets.append(np.sqrt(1 - RHO**2) * x[c, t])
    solved = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0]
    return solved[: x.shape[2]].T, solved[x.shape[2] :].T


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_whitened_moments_solve_the_slow_regression(truth, gaps):
    known = truth(neurons=8, conditions=20, times=30, private=0.1)
    x = known.activity["activity"].values.astype(float)
    q = drives(known.activity["u"].values.astype(float), ALPHA, bias=True, initial=True)
    there = np.ones(x.shape[:2], bool)
    if gaps:
        there[3, 20:] = there[5, :4] = False
    seen = np.where(there[..., None], x, np.nan)
    found = closed_form(seen, q, rank=None, alpha=ALPHA, ridges=(0.0,), prewhiten=True).networks[0]
    filled = np.where(there[..., None], x, np.nanmean(seen, axis=(0, 1)))  # the filter's past, where nobody was seen
    j, w = slow(filled, q, there)
    np.testing.assert_allclose(found.j(), j, atol=1e-5)
    np.testing.assert_allclose(found.w, w, atol=1e-5)


def test_noise_through_the_filter_is_whitened():
    rng = np.random.default_rng(0)
    xi, x = rng.standard_normal((3, 400, 5)), np.zeros((3, 400, 5))
    for t in range(1, 400):
        x[:, t] = RHO * x[:, t - 1] + xi[:, t]
    np.testing.assert_allclose(innovations(x, ALPHA)[:, 1:], xi[:, 1:], atol=1e-12)
    exact = Network(np.zeros((5, 5)), None, np.zeros((5, 1)))
    error = regression_errors([exact], x, np.zeros((3, 400, 1)), alpha=ALPHA, prewhiten=True)
    np.testing.assert_allclose(error, np.square(xi[:, 1:]).sum())  # x[0] is 0


def errors_of_j(known, **options):
    fit = nl.fit_lint(known.activity, rank=None, tau_s=TAU_S, **options)
    j = known.m @ known.n.T / len(known.m)
    return float(np.linalg.norm(fit["J"].values - j) / np.linalg.norm(j)), fit


def test_private_noise_gives_connectivity_that_the_free_run_leaves_open(truth):
    known = truth(neurons=30, conditions=120, times=60, private=0.2)
    x = known.activity["activity"].values.astype(float)
    q = drives(known.activity["u"].values.astype(float), ALPHA, bias=False, initial=False)
    plain = min(
        np.linalg.norm(net.j() - known.m @ known.n.T / 30)
        for net in closed_form(x, q, rank=None, alpha=ALPHA, ridges=(1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)).networks
    )
    error, fit = errors_of_j(known)
    assert fit["stage"].values.tolist()[-1] == "innovations"
    assert (
        error * np.linalg.norm(known.m @ known.n.T / 30) < 0.9 * plain
    )  # the best ridge that the plain one could have


def test_innovations_are_not_used_where_noise_is_observation(truth):
    known = truth(neurons=30, conditions=60, private=0.0, observation=1.0)
    _, fit = errors_of_j(known)
    assert "innovations" not in fit["stage"].values.tolist()


def test_the_ridge_of_innovations_is_near_in_r2_and_nearer_in_connectivity(truth):
    """Rank 2 fitted to rank 1 leaves one direction of n to the ridge."""
    known, found = truth(neurons=60, conditions=60, private=0.1), {}
    for by in ("held_out", "innovations"):
        fit = nl.fit_lint(
            known.activity, rank=2, tau_s=TAU_S, ridge_by=by, method="regression", test_conditions=np.arange(50, 60)
        )
        j = fit["m"].values @ fit["n"].values.T / 60
        found[by] = float(fit["r2"].sel(split="held_out")), np.linalg.norm(j - known.m @ known.n.T / 60)
    assert found["innovations"][0] > found["held_out"][0] - 0.02
    assert found["innovations"][1] < 0.8 * found["held_out"][1]


def test_hidden_units_have_no_innovations(truth):
    with pytest.raises(ContractError, match="hidden=2 units have no recorded rates"):
        nl.fit_lint(truth().activity, rank=1, tau_s=TAU_S, hidden=2, ridge_by="innovations")
