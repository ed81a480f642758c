"""Descents on a subset of the conditions: others and larger ones follow if it does not represent the rest."""

import numpy as np
import pytest

from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import drives, forward, random_network
from nwb_lint.model.optimization import Limits, Optimizer, is_representative, problem_of, subset_of

ALPHA = 0.2
LIMITS = Limits(subset_values=(0, 4 * 40 * 30), values_per_neuron=1e9, turn_share=1.0, turn_min_conditions=1)


def no_report(*_):
    """Progress that nobody looks at."""


@pytest.fixture
def few_of_many(truth):
    """An optimizer whose first descent sees 4 of 160 conditions, samples to fit, held-out ones, and a start."""
    activity = truth(neurons=30, conditions=200, rank=2, observation=0.5).activity
    q = drives(activity["u"].values, ALPHA, bias=False, initial=False)
    samples = Samples(activity["activity"].values, q, ALPHA)
    fit, held = samples.take(np.arange(160)), samples.take(np.arange(160, 200))
    return Optimizer(60, "cpu", no_report, limits=LIMITS), fit, held, random_network(30, 2, 2, 0)


def test_other_and_more_conditions_follow_a_subset_that_does_not_represent_the_rest(few_of_many):
    run, fit, held, start = few_of_many
    alone, more = (run._replace(algorithm=a).descend(start, fit, held) for a in ("lbfgs", "auto"))
    assert not is_representative(subset_of(fit, 30, 0, limits=LIMITS), held, alone.network)
    assert not alone.schedule.turns
    assert not alone.schedule.growth
    assert more.schedule.turns
    assert more.schedule.growth
    loss = problem_of(held, "cpu").loss
    turned = run.alternate_subsets(start, fit, held)
    assert loss(*more.network) < loss(*turned.network) < 0.9 * loss(*alone.network)


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
    ("noise", "represents"),
    [((0.1, 0.1), True), ((0.1, 0.2), False), ((0.2, 0.1), False)],
    ids=["same", "less", "more"],
)
def test_conditions_represent_others_of_the_same_error_whatever_their_power(noisy, noise, represents):
    network, samples = noisy
    few, others = samples(1.0, noise[0]), samples(2.0, noise[1])
    assert others.power() > 2 * few.power()
    assert is_representative(few, others, network) == represents


def test_errors_that_differ_between_conditions_need_many_to_be_known(noisy):
    network, samples = noisy
    even, uneven = samples(1.0, 0.2), samples(1.0, np.tile([0.02, 0.28], 30))
    assert is_representative(even, even, network)
    assert not is_representative(uneven, uneven, network)
    assert not is_representative(even.take(np.arange(1)), even, network)


@pytest.mark.filterwarnings("error")
def test_nothing_represents_others_where_a_network_diverges(noisy):
    network, samples = noisy
    few = samples(1.0, 0.1)._replace(nonlinearity="linear")
    assert not is_representative(few, few, network._replace(m=1e8 * network.m))


def test_a_representative_subset_is_enough(few_of_many):
    run, fit, held, start = few_of_many
    run = run._replace(max_iter=10, limits=LIMITS._replace(tolerance=np.inf, adam_below=1))
    found, alone = (run._replace(algorithm=a).descend(start, fit, held) for a in ("auto", "lbfgs"))
    assert found.schedule == alone.schedule
    np.testing.assert_array_equal(found.network.n, alone.network.n)


def test_the_descent_on_the_subset_is_kept_if_more_conditions_do_not_improve_it(few_of_many):
    """From a network that was fitted to the held-out conditions themselves."""
    run, fit, held, start = few_of_many
    held = held.take(np.arange(4))
    best = run._replace(algorithm="lbfgs", limits=Limits()).descend(start, held, held).network
    run = run._replace(max_iter=10, limits=LIMITS._replace(tolerance=0, adam_below=1))
    found = run.descend(best, fit, held)
    assert found.schedule == run._replace(algorithm="lbfgs").descend(best, fit, held).schedule
    np.testing.assert_array_equal(found.network.n, best.n)


@pytest.mark.parametrize("turned", [False, True])
def test_a_repeated_descent_has_the_same_rounds(few_of_many, turned):
    """As many turns and rounds on more conditions: each reports a first iteration."""
    run, fit, held, start = few_of_many
    run = run._replace(max_iter=20)
    subset, steps = subset_of(fit, 30, 0, limits=LIMITS), []
    found = run.alternate_subsets(start, fit, held) if turned else run.lbfgs(start, subset, held)
    schedule = run.grow_subset(found, subset, fit, held).schedule
    assert (schedule.turns > 0) == turned
    assert schedule.growth
    run._replace(report=lambda *step: steps.append(step[1])).repeat(schedule, start, fit)
    assert steps.count(1) == (schedule.turns or 1) + np.count_nonzero(schedule.growth)


@pytest.mark.parametrize("min_gain", [0.0, 1e9])
def test_more_conditions_are_kept_only_if_they_gain_enough(few_of_many, min_gain):
    run, fit, held, start = few_of_many
    run = run._replace(max_iter=20, limits=LIMITS._replace(min_gain=min_gain))
    subset = subset_of(fit, 30, 0, limits=LIMITS)
    found = run.lbfgs(start, subset, held)
    grown, loss = run.grow_subset(found, subset, fit, held), problem_of(held, "cpu").loss
    if min_gain:
        assert grown is found
    else:
        assert grown.schedule.growth
        assert loss(*grown.network) < loss(*found.network)


@pytest.mark.parametrize(("share", "fewest", "conditions"), [(0.5, 1, 2), (0.5, 3, 3), (1.0, 3, 4)])
def test_turns_use_smaller_subsets_than_a_descent(few_of_many, share, fewest, conditions):
    _, fit, _, _ = few_of_many
    assert len(subset_of(fit, 30, 1, times=share, fewest=fewest, limits=LIMITS).x) == conditions


def test_few_conditions_are_never_divided(few_of_many):
    _, fit, _, _ = few_of_many
    limits = LIMITS._replace(turn_min_conditions=15)
    few, more = (fit.take(np.arange(number)) for number in (15, 16))
    assert subset_of(few, 30, 1, limits=limits) is few
    assert len(subset_of(more, 30, 1, limits=limits).x) == 4


def stop_in_descent(number):
    """A report that presses Ctrl-C at the first iteration of the descent of this number."""
    begun = []

    def report(stage, step, *_):
        begun.extend([step] * (step == 1))
        if len(begun) == number:
            raise KeyboardInterrupt

    return report


def test_ctrl_c_in_turns_leaves_the_best_so_far(few_of_many):
    """The best turn's network; that of the descent on one subset before them, if it is better."""
    run, fit, held, start = few_of_many
    loss = problem_of(held, "cpu").loss
    turns = min(loss(*run.alternate_subsets(start, fit, None, turns=k).network) for k in (1, 2, 3))
    with pytest.raises(Interrupted) as stopped:
        run._replace(report=stop_in_descent(4)).alternate_subsets(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(min(turns, loss(*start)))
    alone = loss(*run._replace(algorithm="lbfgs").descend(start, fit, held).network)
    with pytest.raises(Interrupted) as stopped:
        run._replace(report=stop_in_descent(5)).descend(start, fit, held)
    assert loss(*stopped.value.network) == pytest.approx(min(turns, alone))


def test_ctrl_c_in_the_first_turn_leaves_the_descent_on_the_subset(few_of_many):
    run, fit, held, start = few_of_many
    with pytest.raises(Interrupted) as stop:
        run._replace(report=stop_in_descent(2)).descend(start, fit, held)
    alone = run._replace(algorithm="lbfgs").descend(start, fit, held)
    np.testing.assert_array_equal(stop.value.network.n, alone.network.n)


def test_a_larger_subset_has_all_of_a_smaller_one(few_of_many):
    _, fit, _, _ = few_of_many
    few, more, all_of_it = (subset_of(fit, 30, 0, times=times, limits=LIMITS).x for times in (1, 2, 64))
    assert (len(few), len(more), len(all_of_it)) == (4, 8, 160)
    assert {one.tobytes() for one in few} <= {one.tobytes() for one in more}
