"""Biases of recorded units: found where the data determine them, without a change of what is observed."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.network import nonlinearity_of
from nwb_lint.statespace.biases import bias_step, profile, slopes_of
from nwb_lint.statespace.system import System, Trials
from nwb_lint.testing import mock_trials

ALPHA = 0.2


@pytest.fixture(scope="module", params=["tanh", "relu", "softplus"])
def made(request):
    """A network of rank 1 with 4 units and little noise, its latents, and the same with other biases."""
    rng = np.random.default_rng(0)
    m, n = np.array([[1.5], [-1.0], [0.7], [2.0]]), np.array([[20.0], [-15.0], [30.0], [25.0]])
    b = np.array([0.8, -0.5, 0.3, -1.2])
    phi, kappa = nonlinearity_of(request.param).phi, rng.uniform(-2, 2, (40, 60, 1))
    drive = phi(kappa[:, ::2] @ m.T + b) @ n * (ALPHA / 4)
    kappa[:, 1::2] = (1 - ALPHA) * kappa[:, ::2] + drive + 1e-5 * rng.standard_normal(drive.shape)
    lag = np.arange(59)[None] % 2 == np.zeros((40, 1))  # only these steps are those of the network
    data = Trials(np.zeros((40, 60, 4)), None, np.zeros((40, 60, 1)), np.zeros((40, 60)), np.zeros(40, int), lag)
    parts = {"start": np.zeros((1, 1)), "spread": np.eye(1), "alpha": ALPHA, "nonlinearity": request.param}
    true = System(m, n, np.zeros((4, 1)), b, np.zeros(4), np.ones(4), np.eye(1), observation="gaussian", **parts)
    return true, true._replace(bias=np.zeros(4)), data, kappa[None]


def test_biases_of_a_network_come_back(made):
    true, _, data, drawn = made
    near = true._replace(bias=true.bias + 0.1)
    found = bias_step(near, data, drawn, 1e-12, 100)
    np.testing.assert_allclose(found.bias, true.bias, atol=0.02)
    best, truth = (profile(slopes_of(one, data, drawn), one.bias, 1e-12) for one in (found, true))
    assert best.value < truth.value + 1
    np.testing.assert_allclose(best.noise, 1e-10, rtol=0.1)


def test_each_step_makes_the_samples_more_probable_and_keeps_the_observation(made):
    _, start, data, drawn = made
    values = []
    for steps in range(4):
        found = bias_step(start, data, drawn, 1e-6, steps)
        values.append(profile(slopes_of(found, data, drawn), found.bias, 1e-6).value)
        np.testing.assert_allclose(found.bias + found.level, start.bias + start.level)
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 10


def test_the_option_lets_units_have_thresholds():
    """A network of rectified units whose thresholds differ: without biases its dynamics are not found."""
    rng = np.random.default_rng(1)
    m, b = rng.standard_normal((12, 1)), rng.uniform(-1, 1, 12)
    n = np.linalg.lstsq(
        np.maximum(np.linspace(-3, 3, 200)[:, None] @ m.T + b, 0), np.sin(np.linspace(-3, 3, 200)), rcond=1e-3
    )[0]
    kappa = rng.uniform(-3, 3, (60, 80, 1))
    for t in range(79):
        drive = np.maximum(kappa[:, t] @ m.T + b, 0) @ n[:, None]
        kappa[:, t + 1] = 0.8 * kappa[:, t] + drive + 0.3 * rng.standard_normal((60, 1))
    trials = mock_trials(n_neurons=12, n_trials=60).drop_vars(["count", "observed", "u"], errors="ignore")
    trials = trials.isel(time=slice(0, 80)) if trials.sizes["time"] >= 80 else trials
    y = (kappa @ m.T)[:, : trials.sizes["time"]] + 0.1 * rng.standard_normal((60, trials.sizes["time"], 12))
    trials["rate"] = ("trial", "time", "neuron"), y
    bin_s = float(trials.attrs["bin_s"])
    how = {"rank": 1, "tau_s": 5 * bin_s, "observation": "gaussian", "nonlinearity": "relu", "hidden": 0}
    fixed, fitted = (nl.fit_trials(trials, bias=kind, **how) for kind in ("fixed", "fitted"))
    assert float(fitted["evidence"].max()) > float(fixed["evidence"].max()) + 50
    assert (fixed["bias"] == 0).all()
    assert fitted["bias"].std() > 0.1
    scale = float((fitted["m"].values.ravel() @ m.ravel()) / (fitted["m"].values.ravel() @ fitted["m"].values.ravel()))
    assert fitted["noise_cov"].item() / scale**2 == pytest.approx(0.09, rel=0.15)


def test_a_softplus_link_has_biases_already():
    with pytest.raises(ContractError, match="softplus link have biases already"):
        nl.fit_trials(mock_trials(), rank=1, tau_s=0.1, link="softplus", bias="fitted")
