"""White innovations: noise inside the network alone has them, and then the closed form is the whole fit."""

import numpy as np
import pytest

from nwb_lint.model.data import Samples
from nwb_lint.model.network import Network, drives
from nwb_lint.model.stages.regressions import innovations_are_white
from nwb_lint.model.stages.run import fit_stages
from nwb_lint.model.stages.search import Settings

ALPHA = 0.2
LARGE = {"rank": 1, "neurons": 200, "conditions": 200, "times": 100, "private": 0.05, "seed": 1}


def network_and_samples(known, *, columns=slice(None)):
    """The true network, or one without some of its latents, and its activity in single precision."""
    q = drives(known.activity["u"].values.astype(np.float32), ALPHA, bias=False, initial=False)
    network = Network(known.m[:, columns], known.n[:, columns], known.w)
    return network, Samples(known.activity["activity"].values, q, ALPHA)


@pytest.mark.parametrize("rank", [1, 2])
def test_noise_inside_the_network_alone_is_white(truth, rank):
    assert innovations_are_white(*network_and_samples(truth(**LARGE | {"rank": rank})))


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_observation_noise_is_not_white(truth, share):
    known = truth(**LARGE)
    network, samples = network_and_samples(known)
    noise = share * 0.05 * np.random.default_rng(1).standard_normal(samples.x.shape)
    assert not innovations_are_white(network, samples._replace(x=samples.x + noise.astype(np.float32)))


def test_a_network_that_lacks_a_latent_is_not_white(truth):
    known = truth(**LARGE | {"rank": 2})
    assert not innovations_are_white(*network_and_samples(known, columns=slice(0, 1)))


def test_a_wrong_recurrence_is_not_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    assert not innovations_are_white(network._replace(n=0.5 * network.n), samples)


def test_too_few_samples_cannot_be_reported_to_be_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    assert not innovations_are_white(network, samples.take(np.arange(6)))
    assert not innovations_are_white(network, samples.take(np.arange(1)))


def test_where_samples_are_missing_nothing_is_reported(truth):
    network, samples = network_and_samples(truth(**LARGE))
    gaps = samples.x.copy()
    gaps[3, 50:] = np.nan
    assert not innovations_are_white(network, samples._replace(x=gaps))
    assert not innovations_are_white(
        network, samples._replace(x=samples.x[:, 5:])
    )  # the states before the first sample are unknown


def test_what_is_not_finite_is_not_white(truth):
    network, samples = network_and_samples(truth(**LARGE))
    with np.errstate(invalid="ignore", over="ignore"):
        assert not innovations_are_white(network._replace(n=network.n * np.inf), samples)


def test_a_network_without_any_noise_has_nothing_to_tell():
    """Innovations of 0 throughout: the fit is exact."""
    nothing = Network(np.ones((5, 1)), np.zeros((5, 1)), np.ones((5, 1)))
    q = np.linspace(0, 1, 30, dtype=np.float32).reshape(3, 10, 1)
    assert innovations_are_white(nothing, Samples(np.repeat(q, 5, axis=2), q, ALPHA))


def test_later_stages_would_gain_nothing(truth):
    known = truth(**LARGE | {"conditions": 900, "seed": 2})
    _, samples = network_and_samples(known)
    fit, test = samples.take(np.arange(800)), samples.take(np.arange(800, 900))._replace(x=known.x[800:])
    stages, errors = [[], []], []
    for k, settings in enumerate((Settings(1), Settings(1, max_autocorrelation=(-1.0, -1.0)))):
        found, _ = fit_stages(fit, settings, report=lambda stage, *_, k=k: stages[k].append(stage))
        errors.append(test.errors(found[-1].network).sum() / test.energies().sum())
    assert stages[0] == ["closed form"]
    assert {"latent pass", "gradient"} < set(stages[1])
    assert errors[0] < 1e-3  # against the activity without any noise
    assert errors[0] <= errors[1] + 3e-5


@pytest.mark.parametrize("options", [{"rank": None}, {"rank": 1, "hidden": 4, "method": "regression"}])
def test_white_innovations_do_not_end_hidden_units_and_unconstrained_fits(options, truth):
    _, samples = network_and_samples(truth(neurons=10, conditions=24))
    stages = []
    always = Settings(max_autocorrelation=(1e9, 1e9), **options)
    fit_stages(samples, always, report=lambda stage, *_: stages.append(stage))
    assert stages[-1] == ("innovations" if options["rank"] is None else "latent pass")
