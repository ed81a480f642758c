"""A pair of functions gives what its name gives, in fits, runs and dynamics; a wrong slope is an error."""

import numpy as np
import pytest
import torch

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model._torch import Problem
from nwb_lint.model.network import NONLINEARITIES, as_nonlinearity, drives

NUMPY = (np.tanh, lambda x: 1 - np.tanh(x) ** 2)
TORCH = (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2)
CUBIC = (lambda x: x + 0.1 * x**3, lambda x: 1 + 0.3 * x**2)
OPTIONS = {"rank": 1, "tau_s": 0.1, "max_iter": 6, "test_size": 0.2}


@pytest.mark.parametrize(
    ("pair", "more"),
    [(TORCH, {}), (NUMPY, {"loss": "rate", "method": "gradient"}), (NUMPY, {"method": "published", "epochs": 2})],
)
def test_a_pair_fits_and_runs_as_its_name(truth, pair, more):
    activity = truth(neurons=12, conditions=24).activity
    named = nl.fit_lint(activity, **OPTIONS, **more)
    paired = nl.fit_lint(activity, nonlinearity=pair, **OPTIONS, **more)
    np.testing.assert_allclose(paired["activity_pred"], named["activity_pred"], atol=2e-3)
    np.testing.assert_array_equal(nl.simulate(paired)["activity"], paired["activity_pred"])
    refitted = nl.fit_lint(activity, nonlinearity=paired.attrs["nonlinearity"], **OPTIONS, **more)
    np.testing.assert_array_equal(refitted["activity_pred"], paired["activity_pred"])


def test_fixed_points_are_those_of_the_name(truth):
    fit = nl.fit_lint(truth(neurons=12, conditions=24).activity, method="regression", **OPTIONS)
    paired = fit.assign_attrs(nonlinearity=as_nonlinearity(NUMPY))
    one, other = (nl.fixed_points(f, input=[0, 0], n_starts=20) for f in (fit, paired))
    np.testing.assert_allclose(one["kappa"], other["kappa"], atol=1e-6)


@pytest.mark.parametrize("loss", ["activity", "rate"])
def test_the_adjoint_of_a_pair_is_autograd(loss):
    rng = np.random.default_rng(0)
    q = drives(rng.standard_normal((7, 12, 2)), 0.2, bias=True, initial=False)
    y, pair = rng.standard_normal((7, 12, 9)), as_nonlinearity(CUBIC)
    problem = Problem(q, y, None, alpha=0.2, nonlinearity=pair, loss=loss, dtype="float64")
    parameters = [0.3 * rng.standard_normal((9, k)) for k in (2, 2, 3)]
    for ours, theirs in zip(problem.loss_and_gradient(*parameters), problem.autograd(*parameters), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(NONLINEARITIES))
def test_our_own_slopes_pass_kinks_and_all(name):
    phi, slope = NONLINEARITIES[name]
    pair = as_nonlinearity((phi, lambda x: slope(x, phi(x))))
    x = np.linspace(-3, 3, 50, dtype=np.float32)
    np.testing.assert_array_equal(pair.slope(x, pair.phi(x)), slope(x, phi(x)))
    assert pair.phi(x).dtype == np.float32


def test_what_gives_its_argument_back_does_not_share_it():
    x = np.ones(3)
    as_nonlinearity((lambda x: x, np.ones_like)).phi(x)[:] = 5
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((np.tanh, np.cosh), r"at x = 6 .* 202\.\d.* 2\.\d+e-05"),
        ((np.tanh, lambda x: np.where(x > 5.98, 1.0, 1 - np.tanh(x) ** 2)), "at x = 6 .* 1,"),
        ((lambda x: 1 / (x > 0), np.zeros_like), "not finite"),
        ((np.sum, np.zeros_like), "another shape"),
        ((lambda x: x.nothing, np.zeros_like), "phi fails on an array"),
        (np.tanh, "a pair of functions"),
        ("sine", "'tanh'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_not_a_pair_of_phi_and_slope_is_refused(truth, given, words):
    with pytest.raises(ContractError, match=words):
        nl.fit_lint(truth().activity, nonlinearity=given, **OPTIONS)


def test_no_file_takes_a_pair(truth, tmp_path):
    fit = nl.fit_lint(truth(neurons=12, conditions=24).activity, nonlinearity=NUMPY, method="regression", **OPTIONS)
    with pytest.raises(ContractError, match="nonlinearity is a pair of functions"):
        nl.write_fit(fit, tmp_path / "fit.nwb", source=[])
    assert not list(tmp_path.iterdir())


def test_a_fit_with_an_unknown_nonlinearity_is_refused(truth):
    fit = nl.fit_lint(truth(neurons=12, conditions=24).activity, method="regression", **OPTIONS)
    with pytest.raises(ContractError, match="nonlinearity is 'sine'"):
        nl.simulate(fit.assign_attrs(nonlinearity="sine"))
