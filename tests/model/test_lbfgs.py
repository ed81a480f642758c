"""Ctrl-C leaves the best network so far; a diverged gradient is an error or a warning, never a result."""

import pickle
import re
import sys
from threading import Thread

import numpy as np
import pytest
import tqdm

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import Interrupted, minimize_lbfgs
from nwb_lint.model.network import Network, drives, random_network
from nwb_lint.model.optimization import Optimizer, problem_of
from nwb_lint.model.stages.gradient import run_gradient
from nwb_lint.model.stages.run import fit_stages, settle
from nwb_lint.model.stages.search import Search, Settings, Stage
from nwb_lint.model.tuning import PATIENCE

ALPHA = 0.2


def samples_of(known):
    q = drives(known.activity["u"].values, ALPHA, bias=False, initial=False)
    return Samples(known.activity["activity"].values, q, ALPHA)


def stop_at(step):
    def report(stage, done, loss, held):
        if stage == "gradient" and done == step:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("step", [1, 12])
def test_an_interrupted_descent_gives_the_best_so_far(truth, step):
    samples = samples_of(truth(neurons=12, conditions=24))
    start = samples.errors(random_network(12, 1, 2, 0)).sum()
    with pytest.warns(UserWarning, match="interrupted"):
        stages, _ = fit_stages(samples, Settings(1, "gradient"), keep_interrupted=True, report=stop_at(step))
    assert [stage.name for stage in stages] == ["gradient"]
    assert samples.errors(stages[-1].network).sum() < (start if step == 1 else 0.3 * start)


@pytest.mark.parametrize("in_repetition", [False, True])
def test_an_interrupt_after_a_descent_leaves_that_descent(truth, monkeypatch, in_repetition):
    """While n is shortened, or while all conditions are fitted."""
    monkeypatch.setattr("nwb_lint.model.stages.gradient.LONG_N", 0.0)
    samples, begun = samples_of(truth(neurons=12, conditions=24)), []

    def report(stage, done, loss, held):
        begun.append(held) if done == 1 else None
        if len(begun) == 2 + in_repetition:
            assert (held == -np.inf) == in_repetition
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        stages, _ = fit_stages(samples, Settings(1, "gradient", l2_n=None), keep_interrupted=True, report=report)
    assert [(stage.name, stage.interrupted) for stage in stages] == [("gradient", True)]
    assert samples.errors(stages[-1].network).sum() < 0.02 * samples.energies().sum()


def test_an_interrupted_descent_that_is_dropped_leaves_a_fit_that_says_so(truth):
    samples = samples_of(truth(neurons=12, conditions=24))
    search = Search(samples, Settings(1))
    search.stages = list(fit_stages(samples, Settings(1, "regression"))[0])
    worse = search.stages[-1].network._replace(n=0 * search.stages[-1].network.n)
    search.stages.append(Stage("gradient", worse, np.nan, interrupted=True))
    settle(search)
    assert search.stages[-1].name != "gradient"
    assert search.stages[-1].interrupted


def test_an_interrupted_fit_with_hidden_units_is_no_worse_than_its_closed_form(truth):
    samples = samples_of(truth(neurons=12, conditions=24, observation=0.5))
    before, _ = fit_stages(samples, Settings(1, "regression"))
    with pytest.warns(UserWarning, match="interrupted"):
        stages, _ = fit_stages(samples, Settings(1, hidden=5, max_iter=20), keep_interrupted=True, report=stop_at(3))
    assert samples.errors(stages[-1].network).sum() <= 1.05 * samples.errors(before[-1].network).sum()


def test_an_interrupt_is_raised_unless_it_is_to_be_kept(truth):
    with pytest.raises(KeyboardInterrupt):
        fit_stages(samples_of(truth(neurons=12, conditions=24)), Settings(1, "gradient"), report=stop_at(3))


def test_an_interrupt_crosses_processes(truth):
    network = random_network(3, 1, 2, 0)
    back = pickle.loads(pickle.dumps(Interrupted(network)))
    np.testing.assert_array_equal(back.network.m, network.m)


def test_fit_lint_returns_a_whole_fit_after_ctrl_c(truth, monkeypatch):
    class Impatient(tqdm.tqdm):
        """A bar at which somebody presses Ctrl-C at its 12th step."""

        count = 0

        def update(self, n=1):
            self.count += 1
            if self.count == 12:
                raise KeyboardInterrupt
            return super().update(n)

    monkeypatch.setattr("nwb_lint.parallel.progress.tqdm", Impatient)
    options = {"rank": 1, "tau_s": 0.1, "method": "gradient", "test_size": 0.2}
    activity = truth(neurons=12, conditions=24).activity
    with pytest.warns(UserWarning, match="interrupted"):
        fit = nl.fit_lint(activity, progress=True, **options)
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])
    assert fit["r2"].values[1] > 0.5
    assert fit.attrs["interrupted"] == 1
    with pytest.warns(UserWarning, match="interrupted"):
        nl.fit_lint(activity, **options)
    stops = []

    def elsewhere():
        try:
            nl.fit_lint(activity, **options)
        except KeyboardInterrupt as stop:
            stops.append(stop)

    thread = Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert stops
    with pytest.raises(KeyboardInterrupt):
        nl.select_rank(activity, ranks=[1], folds=2, tau_s=0.1, method="gradient")


def test_a_gradient_that_diverged_is_an_error(truth):
    samples = samples_of(truth(neurons=12, conditions=24))._replace(nonlinearity="linear")
    wild = Network(np.full((12, 1), 1e9), np.full((12, 1), 1e9), np.ones((12, 2)))
    search = Search(samples, Settings(1))
    search.start_from(wild)
    with pytest.raises(ContractError, match=r"gradient diverged"):
        search.keep_gradient(wild, lambda everything: wild)


def test_a_descent_from_a_closed_form_starts_alike_in_every_gauge(truth):
    """m and n of very different length, as the canonical gauge has them, would let L-BFGS crawl along one of them."""
    samples = samples_of(truth(neurons=12, conditions=24))
    stages, _ = fit_stages(samples, Settings(1, "regression"))
    found = []
    for scale in (1.0, 1e3):
        net = stages[-1].network
        search = Search(samples, Settings(1))
        search.start_from(net._replace(m=scale * net.m, n=net.n / scale))
        search.stages = list(stages)
        run_gradient(search, Optimizer(6, "cpu", lambda *step: None))
        found.append(search.final.m @ search.final.n.T)
    assert [stage.name for stage in search.stages] != [stage.name for stage in stages]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5 * abs(found[0]).max())


def no_report(done, loss, held):
    """Progress that nobody looks at."""


def test_a_descent_continues_over_a_rise_of_the_held_out_loss(truth):
    """A few trials near a decision boundary make it jagged: a patience of five ended descents far above the minimum."""
    samples = samples_of(truth(neurons=12, conditions=24))
    problem, start = problem_of(samples, "cpu"), random_network(12, 1, 2, 0)

    def ended(*losses):
        held_out = iter([1.0, 0.9, *losses])
        return minimize_lbfgs(
            start, problem.loss_and_gradient, lambda *net: next(held_out), max_iter=40, report=no_report
        )

    over = ended(*[1.5] * (PATIENCE - 1), 0.5, *[0.6] * PATIENCE, 0.1)
    assert over[1:] == (1 + PATIENCE, 0.5, False)
    short = ended(*[1.5] * PATIENCE, 0.5)
    assert short[1:] == (1, 0.9, False)
    assert problem.loss(*over[0]) < problem.loss(*short[0])


@pytest.mark.parametrize(("max_iter", "many", "expected"), [(1, 200, True), (8, 200, False), (8, 1, True)])
def test_a_search_is_slow_if_max_iter_ends_it_or_after_many_iterations(monkeypatch, max_iter, many, expected):
    """A search that ends at the minimum is not, however few iterations are left."""
    monkeypatch.setattr("nwb_lint.model.lbfgs.MANY_ITERATIONS", many)

    def bowl(m, n, w):
        return float(m[0, 0] ** 2 + 3 * n[0, 0] ** 2), 2 * m, 6 * n, 0 * w

    start = Network(*np.ones((3, 1, 1)))
    _, best_at, _, slow = minimize_lbfgs(start, bowl, lambda *net: bowl(*net)[0], max_iter=max_iter, report=no_report)
    assert 1 <= best_at <= max_iter
    assert slow is expected


def test_a_start_that_diverges_is_given_a_weaker_recurrence(truth):
    samples = samples_of(truth(neurons=6, conditions=12, times=150))._replace(nonlinearity="relu")
    rng = np.random.default_rng(0)
    wild = Network(np.full((6, 1), 90.0), np.full((6, 1), 90.0), rng.standard_normal((6, 2)))
    problem = problem_of(samples, "cpu")
    assert not np.isfinite(problem.loss(*wild))
    with pytest.warns(UserWarning, match=r"start .* diverges.* n / 1e\d"):
        found, *_ = minimize_lbfgs(wild, problem.loss_and_gradient, None, max_iter=30, report=no_report)
    assert problem.loss(*found) < 0.2


def test_a_search_between_divergences_continues_in_smaller_steps():
    """A steep loss that is NaN a hundred-millionth away from where it falls."""

    def steep(m, n, w):
        loss = 1e6 * float(m[0, 0])
        return (loss if 1 - 1e-8 < m[0, 0] <= 1 else np.nan), np.full((1, 1), 1e6), 0 * n, 0 * w

    start = Network(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    with pytest.warns(UserWarning, match="diverge.*smaller steps"):
        found, *_ = minimize_lbfgs(start, steep, None, max_iter=50, report=no_report)
    assert 1 - 1e-8 < found.m[0, 0] < 1


def test_a_step_to_a_very_large_loss_does_not_end_the_search():
    """The loss has its minimum at .1. Beyond .5 it is 3e17, in single precision, with a slope that points further."""

    def wild(m, n, w):
        x = float(m[0, 0])
        loss, slope = (3e17, -5e21) if abs(x) > 0.5 else (float(np.float32(10 * (x - 0.1) ** 2)), 20 * (x - 0.1))
        return loss, np.full((1, 1), slope), 0 * n, 0 * w

    start = Network(*np.zeros((3, 1, 1)))
    found, *_ = minimize_lbfgs(start, wild, None, max_iter=20, report=no_report)
    assert found.m[0, 0] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.filterwarnings("ignore:.*networks that diverge")
@pytest.mark.parametrize(("nonlinearity", "scale"), [("relu", 1e3), ("linear", 1e11)])
def test_no_scale_and_no_length_gives_nan(truth, nonlinearity, scale):
    activity = truth(neurons=3, conditions=12, times=150, seed=4).activity
    activity["activity"] = activity["activity"] * np.float32(scale)
    for method in ("gradient", "auto"):
        options = {"method": method, "nonlinearity": nonlinearity, "max_iter": 10, "test_size": 0.2}
        fit = nl.fit_lint(activity, rank=1, tau_s=0.1, **options)
        assert all(np.isfinite(fit[name]).all() for name in ("r2", "m", "n", "input_weights", "activity_pred"))


@pytest.mark.parametrize("name", ["activity", "u"])
def test_what_single_precision_cannot_hold_is_an_error(truth, name):
    activity = truth(neurons=6, conditions=12).activity
    values = activity[name].values * np.float32(1e20)
    activity = activity.assign({name: (activity[name].dims, values)})
    with pytest.raises(ContractError, match=rf"^{name} .*1e\+12.*scale"):
        nl.fit_lint(activity, rank=1, tau_s=0.1)


def test_a_network_that_diverges_on_held_out_conditions_scores_minus_infinity(truth):
    """Small inputs are fitted; a million times larger ones drive the cubic network beyond all numbers."""
    activity = truth(neurons=6, conditions=12, times=60).activity
    held = np.arange(12) == 3
    u = np.where(held[:, None, None], 1e9, 1).astype(np.float32) * activity["u"].values
    cubic = (lambda x: x + 0.01 * x**3, lambda x: 1 + 0.03 * x**2)
    options = {"method": "regression", "test_conditions": held, "nonlinearity": cubic}
    with pytest.warns(UserWarning, match=r"diverges in 1 of 12 conditions"), np.errstate(all="ignore"):
        fit = nl.fit_lint(activity.assign(u=(activity["u"].dims, u)), rank=1, tau_s=0.1, **options)
    assert fit["r2"].values[0] > 0.5
    assert fit["r2"].values[1] == -np.inf


def test_the_bar_names_loss_and_held_out_r2(truth, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    nl.fit_lint(
        truth(neurons=8, conditions=16).activity, rank=1, tau_s=0.1, method="gradient", max_iter=5, progress=True
    )
    shown = capsys.readouterr().err
    assert re.search(r"gradient: \d+step .*loss=\d\.\d+, held_out_R2=-?\d\.\d{3}", shown), shown
