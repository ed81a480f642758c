"""A descent from a start that explains nothing is run from others too, and the held-out loss chooses."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint.model.stages as stages
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Descent
from nwb_lint.model.network import Network, cut, drives, forward
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
    monkeypatch.setattr(stages, "cut", lambda net, *on, cut=stages.cut: asked.append(net) or cut(net, *on))
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

    real, call = stages.cut, stages.Descending.__call__
    if in_regression:
        monkeypatch.setattr(stages, "cut", stop)
    else:

        def armed(*given):  # from the first descent on
            monkeypatch.setattr(stages.Descending, "__call__", stop)
            return real(*given)

        monkeypatch.setattr(stages, "cut", armed)
    with pytest.warns(UserWarning, match="interrupted: the fit is the best so far, what the gradient had reached"):
        found = fit_stages(samples, rank=1, keep_interrupted=True)[0][-1]
    assert found.interrupted
    assert samples.errors(found.network).sum() < 0.9 * samples.energies().sum()
    monkeypatch.setattr(stages.Descending, "__call__", call)


def test_starts_are_not_looked_for_where_regressions_explain_something(monkeypatch):
    _, samples = switch(np.random.default_rng(1))

    def never(*_):
        raise AssertionError("asked for another start")

    monkeypatch.setattr(stages, "cut", never)
    monkeypatch.setattr(stages, "random_network", never)
    assert samples.errors(fit_stages(samples, rank=1)[0][-1].network).sum() < 0.01 * samples.energies().sum()


@pytest.mark.parametrize("turned", [{"turns": 2}, {"wider": (3,)}, {}])
def test_few_conditions_that_do_not_stand_for_all_ask_for_other_starts(monkeypatch, turned):
    """Each for a short descent; the best by held-out error is kept, and nothing where regressions and few suffice."""
    _, samples = switch(np.random.default_rng(1))
    call, optimizers = stages.Descending.__call__, []

    def told(self, start, fit, held):
        optimizers.append(self.optimizer)
        return call(self, start, fit, held)._replace(**turned if len(optimizers) == 1 else {})

    monkeypatch.setattr(stages.Descending, "__call__", told)
    fit_stages(samples, rank=1, max_iter=3)
    tried = optimizers[: 1 + len(stages.HIGHER) + stages.RANDOM]
    assert tried == ["auto", *["lbfgs"] * (len(tried) - 1)] if turned else optimizers == ["auto"]


@pytest.mark.parametrize(("left", "better"), [(0.0, True), (np.inf, False)])
def test_a_better_start_is_kept_unless_its_regression_promises_nothing(monkeypatch, left, better):
    _, samples = switch(np.random.default_rng(1))
    good = fit_stages(samples, rank=1)[0][-1].network
    poor = good._replace(m=-good.m)
    found = iter([poor, poor, good, poor, poor])

    def descend(self, start, fit, held):
        return Descent(next(found), 5, 0.0, turns=1)

    monkeypatch.setattr(stages.Descending, "__call__", descend)
    search = stages._Search(samples, stages.splits_of(len(samples.x), 0)[:1], (1.0,))
    search.refit = False
    search.start_from(poor)
    search.stages = [stages.Stage("closed form", poor, 1.0)]
    search.errors = np.full(len(search.errors), 0.9 * search.power)
    search.descend(stages.Descending(5, "cpu", lambda *_: None), lambda: [(poor, poor, left)] * 4)
    assert search.final is (good if better else poor)


def drives_of(conditions, times, number):
    return np.random.default_rng(3).standard_normal((conditions, times, number)).cumsum(axis=1)


def test_a_cut_to_the_same_rank_is_the_same_network():
    rng = np.random.default_rng(2)
    network = Network(*(rng.standard_normal((12, k)) for k in (3, 3, 2)))
    same = cut(network, 3, drives_of(5, 30, 2), 0.2, "tanh")
    np.testing.assert_allclose(same.j(), network.j(), atol=1e-12)
    np.testing.assert_allclose(same.m.T @ same.m, np.eye(3), atol=1e-12)


def test_a_cut_keeps_the_main_directions_of_what_the_recurrence_adds():
    rng, q = np.random.default_rng(2), drives_of(5, 30, 2)
    network = Network(*(rng.standard_normal((12, k)) for k in (3, 3, 2)))
    x, _ = forward(network, q, 0.2)
    added = (x - q @ network.w.T).reshape(-1, 12)
    _, vectors = np.linalg.eigh(added.T @ added)
    kept = vectors[:, :-3:-1] @ vectors[:, :-3:-1].T
    np.testing.assert_allclose(cut(network, 2, q, 0.2, "tanh").j(), kept @ network.j(), atol=1e-10)


def test_a_network_that_diverges_is_cut_all_the_same():
    rng = np.random.default_rng(2)
    network = Network(*(100 * rng.standard_normal((12, k)) for k in (3, 3, 2)))
    assert np.isfinite(cut(network, 2, drives_of(5, 900, 2), 0.2, "linear").j()).all()
