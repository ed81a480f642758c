"""Descents that see a part of the conditions: with more of them where they overfit it."""

import numpy as np
import pytest

from nwb_lint.model import descents
from nwb_lint.model.descents import Descending, problem_of
from nwb_lint.model.gradient import Interrupted
from nwb_lint.model.rnn import drives
from nwb_lint.model.samples import Samples
from nwb_lint.model.stages import random_network

ALPHA = 0.2


@pytest.fixture
def widening(truth, monkeypatch):
    """A run whose first descent sees 4 of 160 conditions, its samples to fit and to be held against, and a start."""
    activity = truth(neurons=30, conditions=200, rank=2, observation=0.5).activity
    q = drives(activity["input"].values, ALPHA, bias=False, initial=False)
    samples = Samples(activity["activity"].values, q, ALPHA)
    monkeypatch.setattr(descents, "DESCENT_VALUES", (0, 4 * 40 * 30))
    monkeypatch.setattr(descents, "VALUES_EACH", 1e9)
    fit, held = samples.take(np.arange(160)), samples.take(np.arange(160, 200))
    return Descending(60, "cpu", lambda *_: None), fit, held, random_network(30, 2, 2, 0)


def test_a_descent_that_overfits_goes_on_with_more_conditions(widening):
    run, fit, held, start = widening
    part, wide = (run._replace(optimizer=o)(start, fit, held) for o in ("lbfgs", "auto"))
    assert part.overfit > descents.OVERFIT
    assert wide.overfit < part.overfit / 2
    assert not part.wider
    assert wide.wider
    loss = problem_of(held, "cpu").loss
    assert loss(*wide.network) < 0.9 * loss(*part.network)


def test_what_does_not_overfit_stays_as_it_is(widening, monkeypatch):
    run, fit, held, start = widening
    monkeypatch.setattr(descents, "OVERFIT", 1.0)
    monkeypatch.setattr(descents, "ENOUGH", 1)
    part, wide = (run._replace(optimizer=o)(start, fit, held) for o in ("lbfgs", "auto"))
    assert wide.wider == ()
    for one, other in zip(part.network, wide.network, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("turned", [False, True])
def test_the_same_rounds_without_held_out_conditions(widening, turned):
    """As many turns and rounds on more conditions, told by the first iterations reported."""
    run, fit, held, start = widening
    found, told = run(start, fit, held), []
    if turned:
        few = descents.few_enough(fit, 30, 0)
        found = run._widened(run._in_turns(start, fit, held), few, fit, held)
    assert (found.turns > 0) == turned
    assert found.wider
    go = {"max_iter": found.iterations, "turns": found.turns, "wider": found.wider}
    again = run._replace(report=lambda *step: told.append(step[1]), **go)(start, fit, None)
    assert (again.turns, again.wider) == (found.turns, found.wider)
    assert told.count(1) == (found.turns or 1) + np.count_nonzero(found.wider)


def test_turns_where_more_conditions_do_not_help(widening, monkeypatch):
    """Two valleys: what widening leaves in one, turns find in the other, and the better one is kept."""
    run, fit, held, start = widening
    wide = run(start, fit, held)
    monkeypatch.setattr(Descending, "_widened", lambda self, found, *_: found._replace(wider=(0,)))
    turned, loss = run(start, fit, held), problem_of(held, "cpu").loss
    narrow = run._replace(optimizer="lbfgs")(start, fit, held)
    assert wide.turns == 0 < turned.turns
    assert loss(*turned.network) < loss(*narrow.network)


def test_ctrl_c_in_turns_leaves_the_best_so_far(widening, monkeypatch):
    """The best turn's network; that of the widened descent before them, where it is better."""
    run, fit, held, start = widening
    few_enough, parts, loss = descents.few_enough, [], problem_of(held, "cpu").loss
    best = run._replace(max_iter=30)._in_turns(start, fit, held)
    narrow = run._replace(optimizer="lbfgs")(start, fit, held)
    assert best.turns

    def counted(samples, n_neurons, seed, times=1):
        parts.append(seed)
        if parts[-1] == 4:
            raise KeyboardInterrupt
        return few_enough(samples, n_neurons, seed, times)

    monkeypatch.setattr(descents, "few_enough", counted)
    with pytest.raises(Interrupted) as stopped:
        run._in_turns(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(best.held_out)
    monkeypatch.setattr(Descending, "_widened", lambda self, found, *_: found._replace(wider=(0,)))
    with pytest.raises(Interrupted) as stopped:
        run(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(min(best.held_out, loss(*narrow.network)))


def test_a_part_of_more_conditions_has_all_of_a_smaller_one(widening):
    _, fit, _, _ = widening
    few, more, all_of_it = (descents.few_enough(fit, 30, 0, times).x for times in (1, 2, 64))
    assert (len(few), len(more), len(all_of_it)) == (4, 8, 160)
    assert {one.tobytes() for one in few} <= {one.tobytes() for one in more}
