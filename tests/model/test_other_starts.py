"""A descent from a start that explains nothing is run from others too, and the held-out loss chooses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Interrupted
from nwb_lint.model.network import Network, drives, forward, reduce_rank
from nwb_lint.model.optimization import Descent, Optimizer, Schedule
from nwb_lint.model.stages.gradient import other_starts, run_gradient
from nwb_lint.model.stages.regressions import run_regressions
from nwb_lint.model.stages.run import settle
from nwb_lint.model.stages.search import Search, Settings, Stage
from nwb_lint.model.tuning import HIGHER_RANKS, RANDOM_STARTS


def switch(rng, neurons=30, conditions=24, times=60):
    """A rank-1 network that keeps the sign of a pulse: its activity and drives."""
    m, w = rng.standard_normal((2, neurons, 1))
    n = 2.5 * m + 2 * w
    u = np.zeros((conditions, times, 1))
    u[:, 5:15, 0] = rng.choice([-1.0, 1.0], conditions)[:, None] * rng.uniform(0.5, 1.5, (conditions, 1))
    q = drives(u, 0.2, bias=False, initial=False)
    truth = Network(m, n, w)
    return truth, Samples(forward(truth, q, 0.2)[0].astype(np.float32), q, 0.2)


def no_report(*_):
    """Progress that nobody looks at."""


def optimizer(max_iter=3, **options):
    return Optimizer(max_iter, "cpu", no_report, **options)


def blind(settings):
    """A search whose regressions found inputs of the wrong sign, and explain nothing."""
    truth, samples = switch(np.random.default_rng(0))
    search = Search(samples, settings)
    search.start_from(Network(truth.m, 0.1 * truth.n, -truth.w))
    search.stages = [Stage("latent pass", search.final, 1.0)]
    search.errors = np.concatenate([held.errors(search.final) for _, held in search.parts])
    assert search.errors.mean() >= search.power
    return search


def sighted(settings):
    """A search whose regressions explain what there is."""
    _, samples = switch(np.random.default_rng(1))
    search = Search(samples, settings)
    run_regressions(search, no_report)
    return search


def error_of(search):
    return search.samples.errors(search.final).sum()


def test_the_held_out_loss_chooses_among_starts_where_regressions_explain_nothing():
    alone, with_others, tried = blind(Settings(1)), blind(Settings(1)), []

    def counted(search):
        for start in other_starts(search):
            tried.append(start)
            yield start

    run_gradient(with_others, optimizer(), counted)
    run_gradient(alone, optimizer(), lambda search: ())
    assert len(tried) == len(HIGHER_RANKS) + RANDOM_STARTS
    assert {start.m.shape[1] for start, _, _ in tried} == {1}
    assert error_of(with_others) < 0.5 * error_of(alone)


class Impatient(Optimizer):
    """An optimizer that somebody stops in its second descent, at a bad network."""

    found: list[Descent]

    def descend(self, start, fit, held):
        if self.found:
            raise Interrupted(start._replace(n=-start.n))
        self.found.append(super().descend(start, fit, held))
        return self.found[0]


@pytest.mark.parametrize("where", ["regression", "descent"])
def test_an_interrupted_later_start_leaves_the_best_so_far(where):
    search, Impatient.found = blind(Settings(1)), []

    def others(search):
        if where == "regression":
            raise KeyboardInterrupt
        yield search.final, search.final, 0.0

    with pytest.raises(Interrupted) as stop:
        run_gradient(search, Impatient(20, "cpu", no_report), others)
    assert stop.value.network is Impatient.found[0].network
    with pytest.warns(UserWarning, match="interrupted"):
        search.interrupt(stop.value)
    assert search.stages[-1].interrupted
    assert error_of(search) < 0.9 * search.samples.energies().sum()


@pytest.mark.parametrize(("long_n", "max_iter"), [(0.0, 20), (np.inf, 2)])
def test_an_interrupt_in_a_second_descent_leaves_the_first_one(monkeypatch, long_n, max_iter):
    """With a penalty, where n is long, as `LONG_N` of 0 says of every fit; and where two iterations are too few."""
    monkeypatch.setattr("nwb_lint.model.stages.gradient.LONG_N", long_n)
    search, Impatient.found = sighted(Settings(1, l2_n=None)), []
    search.start_from(search.final._replace(n=0.7 * search.final.n))
    with pytest.raises(Interrupted) as stop:
        run_gradient(search, Impatient(max_iter, "cpu", no_report))
    held = search.parts.held_out(0)
    assert held.errors(stop.value.network).mean() <= held.errors(Impatient.found[0].network).mean()


def test_other_starts_are_not_tried_where_regressions_explain_something():
    def never(search):
        raise AssertionError("other starts were tried")

    search = sighted(Settings(1))
    run_gradient(search, optimizer(200), never)
    assert error_of(search) < 0.01 * search.samples.energies().sum()


class Recording(Optimizer):
    """An optimizer that keeps the algorithm of every descent, and pretends a schedule for the first."""

    descents: list[str]
    schedule: Schedule

    def descend(self, start, fit, held):
        type(self).descents.append(self.algorithm)
        found = super().descend(start, fit, held)
        return found._replace(schedule=self.schedule) if len(self.descents) == 1 else found


@pytest.mark.parametrize("schedule", [Schedule(turns=2), Schedule(growth=(3,)), Schedule(3)])
def test_a_subset_that_does_not_represent_all_needs_other_starts(schedule):
    """Each for a short descent; none if regressions and the subset are enough."""
    Recording.descents, Recording.schedule = [], schedule
    search = sighted(Settings(1))
    run_gradient(search, Recording(30, "cpu", no_report), lambda search: [(search.final, search.final, 0.0)] * 3)
    assert Recording.descents == (["auto"] if schedule.iterations else ["auto", "lbfgs", "lbfgs", "lbfgs"])


class Scripted(Optimizer):
    """An optimizer whose descents find given networks, and pretend a schedule, and that they were slow."""

    networks: Iterator[Network]
    schedule = Schedule(turns=1)
    slow = False
    in_coordinates: list[bool]

    def descend(self, start, fit, held):
        type(self).in_coordinates.append(self.scaled)
        return Descent(next(self.networks), 0.0, self.schedule, self.slow)


def poorly_begun(samples, poor):
    """A search that begins with a poor network, on a split whose first part is everything."""
    everything, half = np.arange(len(samples.x)), np.arange(0, len(samples.x), 2)
    search = Search(samples, Settings(1), [(everything, half)])
    search.refit = False
    search.start_from(poor)
    search.stages = [Stage("closed form", poor, 1.0)]
    search.errors = np.full(len(search.errors), 0.9 * search.power)
    return search


@pytest.mark.parametrize(("left", "better"), [(0.0, True), (np.inf, False)])
def test_a_better_start_is_kept_unless_its_regression_promises_nothing(left, better):
    truth, samples = switch(np.random.default_rng(1))
    good, poor = truth, truth._replace(m=-truth.m)
    Scripted.networks, Scripted.in_coordinates = iter([poor, poor, good, poor, poor]), []
    search = poorly_begun(samples, poor)
    run_gradient(search, Scripted(5, "cpu", no_report), lambda search: [(poor, poor, left)] * 4)
    assert search.final is (good if better else poor)


class Slow(Scripted):
    schedule = Schedule(20)
    slow = True


class Quick(Scripted):
    schedule = Schedule(20)


@pytest.mark.parametrize(("kind", "again"), [(Slow, True), (Quick, False)])
@pytest.mark.parametrize("best", [0, 1])
def test_a_slow_descent_is_done_again_in_coordinates(kind, again, best):
    truth, samples = switch(np.random.default_rng(1))
    poor = truth._replace(m=-truth.m)
    kind.networks, kind.in_coordinates = iter([truth, poor] if best == 0 else [poor, truth]), []
    search = poorly_begun(samples, poor)
    run_gradient(search, kind(30, "cpu", no_report), lambda search: [])
    assert kind.in_coordinates == ([False, True] if again else [False])
    assert (search.final is truth) == (again or best == 0)


def test_no_descent_is_in_coordinates_of_a_start_that_explains_nothing():
    """They would be those of the other starts, too, which are random."""
    truth, samples = switch(np.random.default_rng(1))
    poor = truth._replace(m=-truth.m)
    Slow.networks, Slow.in_coordinates = iter([poor, truth, poor]), []
    search = poorly_begun(samples, poor)
    search.errors = np.full(len(search.errors), 1.1 * search.power)
    run_gradient(search, Slow(30, "cpu", no_report), lambda search: [(poor, poor, 0.0)] * 2)
    assert Slow.in_coordinates == [False] * 3


def drives_of(conditions, times, number):
    return np.random.default_rng(3).standard_normal((conditions, times, number)).cumsum(axis=1)


def test_a_cut_to_the_same_rank_is_the_same_network():
    rng = np.random.default_rng(2)
    network = Network(*(rng.standard_normal((12, k)) for k in (3, 3, 2)))
    same = reduce_rank(network, 3, drives_of(5, 30, 2), 0.2, "tanh")
    np.testing.assert_allclose(same.j(), network.j(), atol=1e-12)
    np.testing.assert_allclose(same.m.T @ same.m, np.eye(3), atol=1e-12)


def test_a_cut_keeps_the_main_directions_of_what_the_recurrence_adds():
    rng, q = np.random.default_rng(2), drives_of(5, 30, 2)
    network = Network(*(rng.standard_normal((12, k)) for k in (3, 3, 2)))
    x, _ = forward(network, q, 0.2)
    added = (x - q @ network.w.T).reshape(-1, 12)
    _, vectors = np.linalg.eigh(added.T @ added)
    kept = vectors[:, :-3:-1] @ vectors[:, :-3:-1].T
    np.testing.assert_allclose(reduce_rank(network, 2, q, 0.2, "tanh").j(), kept @ network.j(), atol=1e-10)


def test_a_network_that_diverges_is_cut_all_the_same():
    rng = np.random.default_rng(2)
    network = Network(*(100 * rng.standard_normal((12, k)) for k in (3, 3, 2)))
    assert np.isfinite(reduce_rank(network, 2, drives_of(5, 900, 2), 0.2, "linear").j()).all()


def test_r2_does_not_fall_from_a_regression_to_the_gradient():
    search = sighted(Settings(rank=1, method="gradient"))
    kept = search.final
    search.final = kept._replace(m=1.01 * kept.m)  # a little worse
    search.stages.append(Stage("gradient", search.final, np.nan))
    assert 0 < error_of(search) - search.samples.errors(kept).sum() < 0.01 * search.samples.energies().sum()
    settle(search)
    assert search.final is kept
    assert search.stages[-1].name != "gradient"


def test_a_gradient_after_poor_regressions_must_be_better_than_no_network_on_every_split():
    search = blind(Settings(rank=1))
    poor = Network(search.final.m, 0 * search.final.n, 0.5 * search.final.w)  # better than the start, worse than none
    assert search.errors.mean() > search.parts[0][1].errors(poor).mean() > search.parts[0][1].energies().mean()
    search.keep_gradient(poor, lambda samples: poor)
    assert [stage.name for stage in search.stages] == ["latent pass"]
    search = blind(Settings(rank=1))
    run_gradient(search, optimizer(20), others=lambda search: [])
    assert search.judged_by_all == (search.stages[-1].name == "gradient")


def test_a_repetition_that_ends_worse_on_everything_is_not_taken():
    search = blind(Settings(rank=1))
    truth, _ = switch(np.random.default_rng(0))
    worse = truth._replace(n=0.5 * truth.n)
    assert search.samples.errors(worse).sum() > search.samples.errors(truth).sum()
    for repeated in (worse, truth):
        search = blind(Settings(rank=1))
        search.keep_gradient(truth if repeated is worse else worse, lambda samples, found=repeated: found)
        assert search.final is truth
        assert search.stages[-1].network is truth
