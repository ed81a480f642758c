"""l2_n: its gradient, its independence of the gauge, and the closed form that minimizes the same loss."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import with_l2_penalty
from nwb_lint.model.network import drives
from nwb_lint.model.regression import closed_form
from nwb_lint.model.stages.search import tolerated
from nwb_lint.model.tuning import PENALTY_TOLERANCE

OPTIONS = {"rank": 1, "tau_s": 0.1, "test_size": 0.2, "max_iter": 30}


def zero_loss(m, n, w):
    return 0.0, 0 * m, 0 * n, 0 * w


def test_its_gradient_is_the_difference_and_it_does_not_depend_on_the_gauge():
    rng = np.random.default_rng(0)
    m, n, w = (rng.standard_normal((9, k)) for k in (2, 2, 3))
    loss, *gradients = with_l2_penalty(zero_loss, 0.7)(m, n, w)
    assert loss == pytest.approx(0.7 * np.linalg.norm(m @ n.T / 9) ** 2)
    turn = rng.standard_normal((2, 2))
    assert with_l2_penalty(zero_loss, 0.7)(m @ turn, n @ np.linalg.inv(turn).T, w)[0] == pytest.approx(loss)
    for k, gradient in enumerate(gradients):
        step = [np.zeros_like(p) for p in (m, n, w)]
        step[k][2, 1] = 1e-5
        ends = [
            with_l2_penalty(zero_loss, 0.7)(*(p + s * d for p, d in zip((m, n, w), step, strict=True)))[0]
            for s in (1, -1)
        ]
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[2, 1], abs=1e-8)


def test_the_closed_form_minimizes_the_same(truth):
    """Error of the regression / power of the activity + l2_n |J|²: no step away from J makes it smaller."""
    known, l2_n = truth(neurons=8, conditions=9), 0.05
    x = known.activity["activity"].values.astype(float)
    q = drives(known.activity["u"].values.astype(float), 0.2, bias=False, initial=False)
    samples = Samples(x, q, 0.2)
    penalty = l2_n * samples.power()
    j = closed_form(x, q, rank=None, alpha=0.2, ridges=(1e-9,), penalty=penalty).networks[0].m
    z = np.zeros_like(x)
    for t in range(x.shape[1] - 1):
        z[:, t + 1] = 0.8 * z[:, t] + 0.2 * np.tanh(x[:, t])
    flat, zs, qs = x.reshape(-1, 8), z.reshape(-1, 8), q.reshape(-1, 2)

    def objective(j):
        left = flat - zs @ j.T
        left = left - qs @ np.linalg.lstsq(qs, left, rcond=None)[0]
        return (left**2).sum() / (samples.power() * (len(flat) - 2)) + l2_n * (j**2).sum()

    rng = np.random.default_rng(1)
    for _ in range(20):
        step = 1e-3 * rng.standard_normal(j.shape)
        assert objective(j + step) > objective(j)
        assert objective(j + step) - objective(j) == pytest.approx(objective(j - step) - objective(j), rel=1e-6)


@pytest.mark.parametrize("method", ["regression", "gradient", "auto"])
def test_a_larger_penalty_gives_a_smaller_j(truth, method):
    activity = truth(neurons=12, conditions=24).activity
    fits = [nl.fit_lint(activity, method=method, l2_n=l2_n, **OPTIONS) for l2_n in (0, 0.03, 1)]
    size = [float((fit["n"] ** 2).sum()) for fit in fits]
    assert size[0] > 1.02 * size[1] > 1.2 * size[2] > 0
    assert fits[1]["r2"].values[1] > 0.8


@pytest.mark.parametrize(
    ("options", "words"), [({"l2_n": -1}, "l2_n is -1"), ({"l2_n": 1, "method": "published"}, "no")]
)
def test_invalid_penalties_are_refused(truth, options, words):
    with pytest.raises(ContractError, match=words):
        nl.fit_lint(truth().activity, **OPTIONS | options)


def test_an_n_that_is_too_long_is_shortened():
    """A network of full rank: n of the gradient is far longer than its effective part, and a short one does as well."""
    rng = np.random.default_rng(1)
    size, conditions = 60, 60
    j = 0.5 * rng.standard_normal((size, size)) / np.sqrt(size)
    weights = rng.standard_normal((size, 2))
    u = np.repeat(rng.standard_normal((conditions, 1, 2)), 40, axis=1).astype(np.float32)
    x = np.zeros((conditions, 40, size))
    for t in range(39):
        x[:, t + 1] = 0.8 * x[:, t] + 0.2 * (np.tanh(x[:, t]) @ j.T + u[:, t] @ weights.T)
        x[:, t + 1] += 0.1 * rng.standard_normal((conditions, size))
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x.astype(np.float32)), "u": (("condition", "time", "input"), u)},
        {"time": np.arange(40) * 0.02, "neuron": [str(k) for k in range(size)], "input": ["a", "b"]},
        {"bin_s": 0.02},
    )
    options = {"rank": 1, "tau_s": 0.1, "test_size": 0.2, "max_iter": 60, "method": "gradient"}
    chosen, free = nl.fit_lint(activity, **options), nl.fit_lint(activity, **options, l2_n=0)
    assert free.attrs["n_norm_ratio"] > 2
    assert 1 <= chosen.attrs["n_norm_ratio"] < 0.7 * free.attrs["n_norm_ratio"]
    assert float(chosen["r2"][1]) > float(free["r2"][1]) - 0.003
    assert chosen.attrs["penalty"] > 0
    short = [nl.fit_lint(activity, **options | {"optimizer": "adam"}, l2_n=l2_n) for l2_n in ("auto", 0)]
    assert short[0].attrs["n_norm_ratio"] < 2
    assert short[0].attrs["penalty"] == 0
    xr.testing.assert_identical(short[0]["n"], short[1]["n"])
    unconstrained = nl.fit_lint(activity, rank=None, tau_s=0.1, test_size=0.2)
    assert unconstrained.attrs["n_norm_ratio"] >= 1


def test_a_shorter_n_may_cost_a_little_of_the_power_and_not_more_than_the_error():
    assert tolerated(0.5, 10.0) == pytest.approx(10.0 * PENALTY_TOLERANCE)
    assert tolerated(1e-6, 10.0) == 1e-6
