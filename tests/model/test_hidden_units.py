"""Hidden units: random features of latents that few recorded neurons show but cannot generate."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.model.data import Samples
from nwb_lint.model.hidden_units import random_features
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.stages.run import fit_stages
from nwb_lint.model.stages.search import Settings
from nwb_lint.testing import mock_activity

ALPHA = 0.2


@pytest.fixture(scope="module")
def seen():
    """6 of 200 neurons of a rank-1 network with two stable states, chosen by a pulse: x with noise, q, x without."""
    rng = np.random.default_rng(0)
    m, w = rng.standard_normal((2, 200, 1))
    network = Network(m, 2.5 * m + w, w)
    u = np.zeros((60, 50, 1), np.float32)
    u[:, 5:10, 0] = rng.uniform(-1, 1, (60, 1))
    q = drives(u, ALPHA, bias=False, initial=False)
    x, kappa = forward(network, q, ALPHA)
    assert (np.abs(kappa[:, -1]) > 0.5).mean() > 0.9  # the memory of the pulse lasts
    return x[:, :, :6] + 0.1 * rng.standard_normal((60, 50, 6)).astype(np.float32), q, x[:, :, :6]


def test_hidden_units_generate_what_the_recorded_ones_cannot(seen):
    x, q, truth = seen
    x, truth = x[:, :, :3], truth[:, :, :3]
    samples, test = Samples(x[:45], q[:45], ALPHA), Samples(truth[45:], q[45:], ALPHA)
    power = (truth[45:] ** 2).sum()

    def score(hidden):
        stages, _ = fit_stages(samples, Settings(rank=1, method="regression", hidden=hidden))
        return stages[-1].name, 1 - test.errors(stages[-1].network).sum() / power

    assert score(0)[1] < 0.98
    name, r2 = score(60)
    assert name in ("hidden units", "latent pass")
    assert r2 > 0.998


def test_random_features_read_the_axis_and_leaves_no_dynamics(seen):
    x, q, truth = seen
    network = random_features(x, q, 1, 9, 0)
    assert network.m.shape == network.w.shape == (15, 1)
    assert not network.n.any()
    flat, drive = truth.reshape(-1, 6), q.reshape(-1, 1)
    left = flat - drive @ np.linalg.lstsq(drive, flat, rcond=None)[0]
    axis = np.linalg.svd(left, full_matrices=False)[2][0]
    assert abs(axis @ network.m[:6, 0]) / np.linalg.norm(network.m[:6]) > 0.999
    latents = (x - q @ network.w[:6].T) @ np.linalg.pinv(network.m[:6]).T
    assert np.sqrt((latents**2).mean()) == pytest.approx(1, rel=1e-3)


def test_weights_scale_the_axis_like_the_neurons(seen):
    """Multiplying a neuron by c and dividing its weight by c² changes its row of m by c and nothing else."""
    x, q, _ = seen
    scale = np.array([1, 2, 0.5, 3, 1, 1], np.float32)
    one, other = (random_features(x * c, q, 1, 4, 0, 1 / c.astype(float) ** 2) for c in (np.ones(6, np.float32), scale))
    sign = np.sign(one.m[0, 0] * other.m[0, 0])
    np.testing.assert_allclose(other.m[:6], sign * scale[:, None] * one.m[:6], rtol=1e-4)
    np.testing.assert_array_equal(other.m[6:], one.m[6:])


def test_a_silent_neuron_and_a_silent_drive_do_no_harm(seen):
    x, q, _ = seen
    x, q = np.concatenate([x, 0 * x[:, :, :1]], axis=2), np.concatenate([q, 0 * q], axis=2)
    network = random_features(x, q, 1, 4, 0)
    assert all(np.isfinite(part).all() for part in network)
    assert not np.concatenate([network.w[:, 1], network.m[6]]).any()


def test_closed_form_fits_hidden_units():

    fit = nl.fit_lint(mock_activity(n_neurons=6), rank=1, tau_s=0.1, hidden=20, method="regression")
    assert fit.sizes["neuron"] == 26
    assert int(fit["recorded"].sum()) == 6


def test_latents_of_data_with_hidden_units_stay_near_those_of_the_model():
    """Four recorded neurons whose m is nearly collinear: least squares would magnify their noise a hundred times."""
    fit = nl.fit_lint(mock_activity(n_neurons=4), rank=2, tau_s=0.1, hidden=20, method="regression")
    m = fit["m"].values.copy()
    m[:4, 1] = m[:4, 0] * (1 + 1e-3 * np.arange(4))
    fit = fit.assign(m=(("neuron", "rank"), m))
    run = nl.simulate(fit)
    activity = mock_activity(n_neurons=4)
    noise = 0.3 * np.random.default_rng(0).standard_normal(activity["activity"].shape)
    activity["activity"] = activity["activity"].dims, (run["activity"].values[..., :4] + noise).astype(np.float32)
    found = nl.latents(fit, activity)
    assert np.abs(found["latent_data"]).max() < 3 * np.abs(found["latent"]).max()
    truth = found["latent"].values
    least_squares = np.square(0.3 * np.linalg.pinv(m[:4])).sum()  # its mean squared error
    error = np.square(found["latent_data"].values - truth).sum(axis=2).mean()
    prior = np.square(truth - truth.mean(axis=(0, 1))).sum(axis=2).mean()
    assert error < prior
    assert error < 1e-2 * least_squares
