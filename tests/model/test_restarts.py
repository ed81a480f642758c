"""A descent from a start that explains nothing is run from others too, and the held-out loss chooses."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint.model.stages as stages
from nwb_lint.model.rnn import Network, drives, forward
from nwb_lint.model.samples import Samples
from nwb_lint.model.stages import fit_stages


def switch(rng, neurons=30, conditions=24, times=60):
    """A rank-1 network that keeps the sign of a pulse: its activity and drives."""
    m, w = rng.standard_normal((2, neurons, 1))
    n = 2.5 * m + 2 * w
    u = np.zeros((conditions, times, 1))
    u[:, 5:15, 0] = rng.choice([-1.0, 1.0], conditions)[:, None] * rng.uniform(0.5, 1.5, (conditions, 1))
    q = drives(u, 0.2, bias=False, initial=False)
    truth = Network(m, n, w)
    return truth, Samples(forward(truth, q, 0.2)[0].astype(np.float32), q, 0.2)


@pytest.fixture
def blind(monkeypatch):
    """Regressions of rank 1 that find the opposite of what there is; those of other ranks are as ever."""
    found = stages.closed_form

    def opposite(*data, rank, **how):
        solutions = found(*data, rank=rank, **how)
        turned = [net._replace(n=-net.n, w=-net.w) for net in solutions.networks]
        return solutions._replace(networks=turned) if rank == 1 else solutions

    monkeypatch.setattr(stages, "closed_form", opposite)
    latent = stages.latent_pass

    def stuck(net, *data, ridges, **how):
        if net.m.shape[1] > 1:
            return latent(net, *data, ridges=ridges, **how)
        return stages.Solutions([net] * len(ridges), np.zeros(0), np.zeros(len(ridges)))

    monkeypatch.setattr(stages, "latent_pass", stuck)


def test_the_held_out_loss_chooses_among_starts_where_regressions_explain_nothing(blind, monkeypatch):
    _, samples = switch(np.random.default_rng(0))
    asked = []
    monkeypatch.setattr(stages, "_cut", lambda net, rank, cut=stages._cut: asked.append(net) or cut(net, rank))
    with_others = fit_stages(samples, rank=1, max_iter=3)[0][-1].network
    assert {net.m.shape[1] for net in asked} == {2, 3}
    monkeypatch.setattr(stages, "HIGHER", ())
    monkeypatch.setattr(stages, "RANDOM", 0)
    alone = fit_stages(samples, rank=1, max_iter=3)[0][-1].network
    assert samples.errors(with_others).sum() < 0.5 * samples.errors(alone).sum()


@pytest.mark.parametrize("in_regression", [True, False], ids=["regression", "descent"])
def test_an_interrupted_later_start_leaves_the_best_so_far(blind, monkeypatch, in_regression):
    _, samples = switch(np.random.default_rng(0))
    monkeypatch.setattr(stages, "RANDOM", 0)
    monkeypatch.setattr(stages, "HIGHER", ())
    first = fit_stages(samples, rank=1)[0][-1].network
    monkeypatch.setattr(stages, "HIGHER", (1,))

    def stop(self, *_):
        raise KeyboardInterrupt if in_regression else stages.Interrupted(Network(first.m, -first.n, first.w))

    cut, call = stages._cut, stages.Descending.__call__
    if in_regression:
        monkeypatch.setattr(stages, "_cut", stop)
    else:

        def armed(*given):  # from the first descent on
            monkeypatch.setattr(stages.Descending, "__call__", stop)
            return cut(*given)

        monkeypatch.setattr(stages, "_cut", armed)
    with pytest.warns(UserWarning, match="interrupted: the fit is the best so far, what the gradient had reached"):
        found = fit_stages(samples, rank=1, keep_interrupted=True)[0][-1]
    assert found.interrupted
    assert samples.errors(found.network).sum() < 0.9 * samples.energies().sum()
    monkeypatch.setattr(stages.Descending, "__call__", call)


def test_starts_are_not_looked_for_where_regressions_explain_something(monkeypatch):
    _, samples = switch(np.random.default_rng(1))

    def never(*_):
        raise AssertionError("asked for another start")

    monkeypatch.setattr(stages, "_cut", never)
    monkeypatch.setattr(stages, "random_network", never)
    assert samples.errors(fit_stages(samples, rank=1)[0][-1].network).sum() < 0.01 * samples.energies().sum()


def test_a_cut_is_the_nearest_network_of_its_rank():
    rng = np.random.default_rng(2)
    m, n, w = (rng.standard_normal((12, k)) for k in (3, 3, 2))
    cut = stages._cut(Network(m, n, w), 2)
    u, s, vt = np.linalg.svd(m @ n.T)
    np.testing.assert_allclose(cut.m @ cut.n.T, u[:, :2] * s[:2] @ vt[:2], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(cut.m, axis=0), np.linalg.norm(cut.n, axis=0))
    assert cut.w is w
