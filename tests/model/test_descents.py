"""Descents that see a part of the conditions: turns on others, and more of them, where it does not stand for all."""

import numpy as np
import pytest

from nwb_lint.model import optimization
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Descent, Interrupted
from nwb_lint.model.network import drives, forward
from nwb_lint.model.optimization import Descending, problem_of
from nwb_lint.model.stages import random_network

ALPHA = 0.2


@pytest.fixture
def widening(truth, monkeypatch):
    """A run whose first descent sees 4 of 160 conditions, its samples to fit and to be held against, and a start."""
    activity = truth(neurons=30, conditions=200, rank=2, observation=0.5).activity
    q = drives(activity["u"].values, ALPHA, bias=False, initial=False)
    samples = Samples(activity["activity"].values, q, ALPHA)
    monkeypatch.setattr(optimization, "DESCENT_VALUES", (0, 4 * 40 * 30))
    monkeypatch.setattr(optimization, "VALUES_EACH", 1e9)
    monkeypatch.setattr(optimization, "TURN", (10, 1.0, 1))
    fit, held = samples.take(np.arange(160)), samples.take(np.arange(160, 200))
    return Descending(60, "cpu", lambda *_: None), fit, held, random_network(30, 2, 2, 0)


def test_where_a_part_does_not_stand_for_all_others_and_more_lead_further(widening):
    run, fit, held, start = widening
    part, wide = (run._replace(optimizer=o)(start, fit, held) for o in ("lbfgs", "auto"))
    assert not optimization.stand_for(optimization.few_enough(fit, 30, 0), held, part.network)
    assert not part.turns
    assert not part.wider
    assert wide.turns
    assert wide.wider
    loss = problem_of(held, "cpu").loss
    turned = run._in_turns(start, fit, held)
    assert loss(*wide.network) < loss(*turned.network) < 0.9 * loss(*part.network)


@pytest.fixture
def noisy():
    """Conditions of one network whose inputs are of a size, with noise of an sd, or of one sd for each condition."""
    network, rng = random_network(50, 1, 2, 0), np.random.default_rng(0)

    def samples(size, sd):
        q = np.zeros((60, 30, 2), np.float32)
        q[:, 3] = size * rng.standard_normal((60, 2))
        clean, _ = forward(network, q, ALPHA)
        noise = np.broadcast_to(sd, 60)[:, None, None] * rng.standard_normal(clean.shape)
        return Samples((clean + noise).astype(np.float32), q, ALPHA)

    return network, samples


@pytest.mark.parametrize(
    ("noise", "stand"), [((0.1, 0.1), True), ((0.1, 0.2), False), ((0.2, 0.1), False)], ids=["same", "less", "more"]
)
def test_conditions_stand_for_others_of_the_same_error_whatever_their_power(noisy, noise, stand):
    network, samples = noisy
    few, others = samples(1.0, noise[0]), samples(2.0, noise[1])
    assert others.power() > 2 * few.power()
    assert optimization.stand_for(few, others, network) == stand


def test_errors_that_differ_between_conditions_need_many_to_be_known(noisy):
    network, samples = noisy
    even, uneven = samples(1.0, 0.2), samples(1.0, np.tile([0.02, 0.28], 30))
    assert optimization.stand_for(even, even, network)
    assert not optimization.stand_for(uneven, uneven, network)
    assert not optimization.stand_for(even.take(np.arange(1)), even, network)


@pytest.mark.filterwarnings("error")
def test_nothing_stands_for_others_where_a_network_diverges(noisy):
    network, samples = noisy
    few = samples(1.0, 0.1)._replace(nonlinearity="linear")
    assert not optimization.stand_for(few, few, network._replace(m=1e8 * network.m))


def test_a_part_that_stands_for_all_is_not_led_further(widening, monkeypatch):
    run, fit, held, start = widening
    asked = []
    monkeypatch.setattr(Descending, "_led_further", lambda self, found, *_: asked.append(True) or found)
    for stand in (True, False):
        monkeypatch.setattr(optimization, "stand_for", lambda *_, stand=stand: stand)
        run(start, fit, held)
        assert bool(asked) != stand


def test_where_others_lead_no_further_the_part_s_descent_is_kept(widening, monkeypatch):
    run, fit, held, start = widening
    monkeypatch.setattr(Descending, "_in_turns", lambda self, start, *_: Descent(start, 0, np.inf, turns=1))
    monkeypatch.setattr(Descending, "_widened", lambda self, found, *_: found)
    monkeypatch.setattr(optimization, "ENOUGH", 1)
    narrow, kept = (run._replace(optimizer=o)(start, fit, held) for o in ("lbfgs", "auto"))
    assert kept.turns == 0
    np.testing.assert_array_equal(kept.network.n, narrow.network.n)


@pytest.mark.parametrize("turned", [False, True])
def test_the_same_rounds_without_held_out_conditions(widening, turned):
    """As many turns and rounds on more conditions, told by the first iterations reported."""
    run, fit, held, start = widening
    few, told = optimization.few_enough(fit, 30, 0), []
    found = run._in_turns(start, fit, held) if turned else run._lbfgs(start, few, held)
    found = run._widened(found, few, fit, held)
    assert (found.turns > 0) == turned
    assert found.wider
    go = {"max_iter": found.iterations, "turns": found.turns, "wider": found.wider}
    again = run._replace(report=lambda *step: told.append(step[1]), **go)(start, fit, None)
    assert (again.turns, again.wider) == (found.turns, found.wider)
    assert told.count(1) == (found.turns or 1) + np.count_nonzero(found.wider)


@pytest.mark.parametrize(
    ("gains", "kept"), [((0.5, 0.1), 0), ((2.0, 0.5), 1), ((0.5, 2.0), 2), ((0.7, 0.7), 2), ((2.0, 2.0), 2)]
)
def test_more_conditions_are_kept_up_to_the_last_that_gained_what_is_worth_it(widening, monkeypatch, gains, kept):
    """A held-out loss that falls by less than `WORTH` may tell of noise; the next round may tell otherwise."""
    run, fit, held, start = widening
    networks = [start._replace(n=(1 + k) * start.n) for k in range(3)]
    losses = 0.5 - optimization.WORTH * np.cumsum([0, *gains])
    known = {network.n.tobytes(): loss for network, loss in zip(networks, losses, strict=True)}
    rounds = iter([Descent(networks[1], 7, losses[1]), Descent(networks[2], 8, losses[2])])
    stand = iter([False, True])
    monkeypatch.setattr(Descending, "_loss_on", lambda *_: lambda m, n, w: known[n.tobytes()])
    monkeypatch.setattr(Descending, "_descend", lambda *_: next(rounds))
    monkeypatch.setattr(optimization, "stand_for", lambda *_: next(stand))
    found = run._widened(Descent(start, 0, 0.5), optimization.few_enough(fit, 30, 0), fit, held)
    assert found.network is (start, *networks[1:])[kept]
    assert found.wider == (7, 8)[:kept]


@pytest.mark.parametrize(("turn", "conditions"), [((10, 0.5, 1), 2), ((10, 0.5, 3), 3), ((10, 1.0, 3), 4)])
def test_turns_look_at_smaller_parts_than_a_descent(widening, monkeypatch, turn, conditions):
    run, fit, held, start = widening
    descend, seen = Descending._descend, []
    monkeypatch.setattr(optimization, "TURN", turn)
    monkeypatch.setattr(Descending, "_descend", lambda self, *a: seen.append(len(a[1].x)) or descend(self, *a))
    run._replace(max_iter=10)._in_turns(start, fit, held)
    assert set(seen) == {conditions}


def test_ctrl_c_in_turns_leaves_the_best_so_far(widening, monkeypatch):
    """The best turn's network; that of the descent on one part before them, where it is better."""
    run, fit, held, start = widening
    few_enough, parts, loss = optimization.few_enough, [], problem_of(held, "cpu").loss
    best = run._replace(max_iter=30)._in_turns(start, fit, held)
    narrow = run._replace(optimizer="lbfgs")(start, fit, held)
    assert best.turns

    def counted(samples, n_neurons, seed, *size):
        parts.append(seed)
        if parts[-1] == 4:
            raise KeyboardInterrupt
        return few_enough(samples, n_neurons, seed, *size)

    monkeypatch.setattr(optimization, "few_enough", counted)
    with pytest.raises(Interrupted) as stopped:
        run._in_turns(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(best.held_out)
    parts.clear()
    with pytest.raises(Interrupted) as stopped:
        run(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(min(best.held_out, loss(*narrow.network)))


def test_ctrl_c_between_turns_leaves_the_part_s_descent(widening, monkeypatch):
    run, fit, held, start = widening

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Descending, "_in_turns", stopped)
    with pytest.raises(Interrupted) as stop:
        run(start, fit, held)
    np.testing.assert_array_equal(stop.value.network.n, run._replace(optimizer="lbfgs")(start, fit, held).network.n)


def test_a_part_of_more_conditions_has_all_of_a_smaller_one(widening):
    _, fit, _, _ = widening
    few, more, all_of_it = (optimization.few_enough(fit, 30, 0, times).x for times in (1, 2, 64))
    assert (len(few), len(more), len(all_of_it)) == (4, 8, 160)
    assert {one.tobytes() for one in few} <= {one.tobytes() for one in more}
