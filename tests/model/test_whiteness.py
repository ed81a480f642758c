"""White innovations: noise inside the network alone has them, and then the closed form is the whole fit."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.model import stages
from nwb_lint.model.data import Samples
from nwb_lint.model.network import Network, drives
from nwb_lint.model.stages import white
from nwb_lint.testing import mock_activity

ALPHA, TAU_S = 0.2, 0.1
LARGE = {"rank": 1, "neurons": 200, "conditions": 200, "times": 100, "private": 0.05, "seed": 1}


def never(*_, **__):
    raise AssertionError("not to be called")


def network_and_samples(known, *, columns=slice(None)):
    """The true network, or one without some of its latents, and its activity in single precision."""
    q = drives(known.activity["u"].values.astype(np.float32), ALPHA, bias=False, initial=False)
    network = Network(known.m[:, columns], known.n[:, columns], known.w)
    return network, Samples(known.activity["activity"].values, q, ALPHA)


@pytest.mark.parametrize("rank", [1, 2])
def test_noise_inside_the_network_alone_is_white(truth, rank):
    assert white(*network_and_samples(truth(**LARGE | {"rank": rank})))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_observation_noise_is_not_white(truth, share):
    known = truth(**LARGE)
    network, samples = network_and_samples(known)
    noise = share * 0.05 * np.random.default_rng(1).standard_normal(samples.x.shape)
    assert not white(network, samples._replace(x=samples.x + noise.astype(np.float32)))


def test_a_network_that_lacks_a_latent_is_not_white(truth):
    known = truth(**LARGE | {"rank": 2})
    assert not white(*network_and_samples(known, columns=slice(0, 1)))


def test_a_wrong_recurrence_is_not_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    assert not white(network._replace(n=0.5 * network.n), samples)


def test_too_few_samples_cannot_be_told_to_be_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    assert not white(network, samples.take(np.arange(6)))
    assert not white(network, samples.take(np.arange(1)))


def test_where_samples_are_missing_nothing_is_told(truth):
    network, samples = network_and_samples(truth(**LARGE))
    gaps = samples.x.copy()
    gaps[3, 50:] = np.nan
    assert not white(network, samples._replace(x=gaps))
    assert not white(network, samples._replace(x=samples.x[:, 5:]))  # the states before the first sample are unknown


def test_what_is_not_finite_is_not_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    with np.errstate(invalid="ignore", vary="ignore"):
        assert not white(network._replace(n=network.n * np.inf), samples)


def test_a_network_without_any_noise_has_nothing_to_tell():
    """Innovations of 0 throughout: the fit is exact."""
    nothing = Network(np.ones((5, 1)), np.zeros((5, 1)), np.ones((5, 1)))
    q = np.linspace(0, 1, 30, dtype=np.float32).reshape(3, 10, 1)
    assert white(nothing, Samples(np.repeat(q, 5, axis=2), q, ALPHA))


def test_later_stages_would_gain_nothing(truth, monkeypatch):
    known = truth(**LARGE | {"conditions": 900, "seed": 2})
    options = {"rank": 1, "tau_s": TAU_S, "test_conditions": np.arange(800, 900)}
    with monkeypatch.context() as patch:
        patch.setattr(stages, "latent_pass", never)
        alone = nl.fit_lint(known.activity, **options)
    monkeypatch.setattr(stages, "white", lambda *_: False)
    whole = nl.fit_lint(known.activity, **options)
    assert alone["stage"].values.tolist() == ["closed form"]
    errors = []
    for fit in (alone, whole):
        off = fit["activity_pred"].values[800:] - known.x[800:]  # against the activity without any noise
        errors.append(np.square(off).sum() / np.square(known.x[800:]).sum())
    assert errors[0] < 1e-3
    assert errors[0] <= errors[1] + 3e-5


@pytest.mark.parametrize("options", [{"rank": None}, {"rank": 1, "hidden": 4, "method": "regression"}])
def test_hidden_units_and_unconstrained_fits_do_not_ask(options, monkeypatch):
    monkeypatch.setattr(stages, "white", never)
    fit = nl.fit_lint(mock_activity(), tau_s=TAU_S, test_size=0.25, **options)
    assert np.isfinite(fit["r2"]).all()
