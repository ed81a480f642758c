"""Segments: the true network is exact on them, their gradient is right, and they find what whole trials do not."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model._torch import Problem
from nwb_lint.model.data import Samples
from nwb_lint.model.network import Network, drives, forward
from nwb_lint.model.optimization import segment_gradient, segment_lengths, segment_loss, segments_of

ALPHA = 0.2


def oscillator(seed=0, neurons=30, conditions=12, times=200, skip=0):
    """A rank-2 network that oscillates after a pulse, and continues after a second one."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((neurons, 2)), rng.standard_normal((neurons, 2))
    n = m @ np.array([[2.0, 3.0], [-3.0, 2.0]]) + 0.5 * rng.standard_normal((neurons, 2))
    u = np.zeros((conditions, times, 2))
    for on in (0, times // 2):
        u[:, on : on + 5] = 2 * rng.standard_normal((conditions, 1, 2))
    q = drives(u, ALPHA, bias=True, initial=False)
    network = Network(m, n, np.column_stack([w, 0.1 * rng.standard_normal(neurons)]))
    x, _ = forward(network, q, ALPHA)
    return network, Samples(x[:, skip:], q, ALPHA), u


@pytest.mark.parametrize("skip", [0, 7])
@pytest.mark.parametrize("length", [16, 50, 200])
@pytest.mark.parametrize("missing", [False, True])
def test_the_true_network_is_exact_on_every_segment(skip, length, missing):
    network, samples, _ = oscillator(skip=skip)
    length = min(length, samples.x.shape[1])
    if missing:
        samples.x[3, ::20, 4] = np.nan
    cut = segments_of(samples, network, length)
    assert cut.x.shape[1] == cut.q.shape[1] == length
    assert len(cut.x) == 12 * -(-samples.x.shape[1] // length)
    run, _ = forward(network._replace(w=np.hstack([network.w, network.m])), cut.q, ALPHA)
    seen = np.isfinite(cut.x)
    np.testing.assert_allclose(run[seen], cut.x[seen], atol=1e-9)


def test_the_gradient_is_that_of_the_network_on_whole_trials():
    network, samples, _ = oscillator(times=40)
    rng = np.random.default_rng(1)
    other = [p + 0.1 * rng.standard_normal(p.shape) for p in network]
    cut = segments_of(samples, Network(*other), 10)
    problem = Problem(cut.q, cut.x, None, alpha=ALPHA, dtype="float64")
    loss, *gradients = segment_gradient(problem.loss_and_gradient)(*other)
    assert segment_loss(problem.loss)(*other) == pytest.approx(loss)
    for k, gradient in enumerate(gradients):
        moved = [[p.copy() for p in other] for _ in range(2)]
        for one, step in zip(moved, (1e-5, -1e-5), strict=True):
            one[k][3, 1] += step
        ends = [segment_loss(problem.loss)(*one) for one in moved]
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[3, 1], rel=1e-5, abs=1e-9)


def test_segments_double_and_stay_below_the_trial():
    assert segment_lengths(30, 200) == [30, 60, 120]
    assert segment_lengths(30, 240) == [30, 60, 120]
    assert segment_lengths(200, 200) == []


@pytest.fixture
def long_trials():
    """The oscillator over 400 steps as an activity."""
    _, samples, u = oscillator(times=400, conditions=10)
    activity = xr.Dataset(coords={"time": 0.02 * np.arange(400)}, attrs={"bin_s": 0.02})
    activity = activity.assign_coords(neuron=[f"n{k}" for k in range(30)])
    activity["activity"] = ("condition", "time", "neuron"), samples.x.astype(np.float32)
    activity["u"] = ("condition", "time", "input"), u.astype(np.float32)
    return activity


@pytest.mark.slow
def test_segments_find_an_oscillation_that_whole_trials_do_not(long_trials):
    options = {"rank": 2, "tau_s": 0.1, "method": "gradient", "max_iter": 25, "test_size": 0.2, "bias": True}
    plain, cut = (nl.fit_lint(long_trials, segment_s=s, **options) for s in (None, 0.64))
    assert cut["r2"].values[1] > 0.8 > 0.5 > plain["r2"].values[1]


@pytest.mark.parametrize("more", [{"segment_s": 20}, {"segment_s": 0.02}, {"segment_s": np.nan}, {"hidden": 3},
                                  {"method": "regression"}, {"method": "published"}])  # fmt: skip
def test_lengths_and_options_that_segments_exclude_are_refused(long_trials, more):
    with pytest.raises(ContractError, match="segment_s"):
        nl.fit_lint(long_trials, **{"rank": 1, "tau_s": 0.1, "segment_s": 1.0} | more)
