"""Adam: its steps against a plain loop, batches that add up to the whole, when it helps, and when it diverges."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model._torch import Problem, adam_epoch, adam_start
from nwb_lint.model.data import Samples
from nwb_lint.model.network import Network, drives, random_network
from nwb_lint.model.optimization import Limits, Optimizer, problem_of

ALPHA = 0.2
OPTIONS = {"rank": 1, "tau_s": 0.1, "test_size": 0.2}


def samples_of(activity):
    q = drives(activity["u"].values, ALPHA, bias=False, initial=False)
    return Samples(activity["activity"].values, q, ALPHA)


@pytest.fixture
def problem(truth):
    samples = samples_of(truth(neurons=8, conditions=70, times=20).activity)
    samples.x[3, 5:, 2] = np.nan
    observed = np.isfinite(samples.x)
    return Problem(samples.q, np.where(observed, samples.x, 0), observed.astype(float), alpha=ALPHA, dtype="float64")


def test_batches_add_up_to_the_whole(problem):
    network = random_network(8, 1, 2, 0)
    whole = problem.loss_and_gradient(*network)
    parts = np.array_split(np.random.default_rng(0).permutation(70), 3)
    each = [problem.take(pick).loss_and_gradient(*network) for pick in parts]
    for k, value in enumerate(whole):
        mean = sum(len(pick) / 70 * one[k] for pick, one in zip(parts, each, strict=True))
        np.testing.assert_allclose(mean, value, rtol=1e-10, atol=1e-14)


def test_an_epoch_is_adam_as_it_is_written_down(problem):
    network, order = random_network(8, 1, 2, 0), np.random.default_rng(1).permutation(70)
    state = adam_start(*network)
    for rate in (0.03, 0.02):
        _, *state = adam_epoch(problem, *state, rate=rate, order=order)
    p = [a.copy() for a in network]
    first, second, steps = [0 * a for a in p], [0 * a for a in p], 0
    for rate in (0.03, 0.02):
        size = [np.sqrt(np.mean(a**2)) for a in p]
        for pick in np.array_split(order, 4):
            _, *gradients = problem.take(pick).loss_and_gradient(*p)
            steps += 1
            for k, g in enumerate(gradients):
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g**2
                root = np.sqrt(second[k] / (1 - 0.999**steps)) + 1e-8
                p[k] = p[k] - rate * size[k] * first[k] / (1 - 0.9**steps) / root
    for ours, theirs in zip(state[:3], p, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert state[9][0] == 8


def test_parts_of_any_size_share_the_arrays_of_the_whole(truth):
    """A small part first, then a larger one and all: what the small one left is not used for those."""
    problem = problem_of(samples_of(truth(neurons=6, conditions=30).activity), "cpu")
    network = random_network(6, 1, problem.q.shape[2], 0)
    losses = [problem.take(np.arange(size)).loss(*network) for size in (3, 20, 30)]
    assert losses[-1] == pytest.approx(problem.loss(*network))


def no_report(*_):
    """Progress that nobody looks at."""


def test_it_helps_if_lbfgs_sees_a_subset(truth):
    """Noise of one standard deviation, an eighth of the conditions for L-BFGS: the noise-free error falls."""
    known = truth(neurons=40, conditions=240, rank=2, observation=1.0)
    noisy, clean = samples_of(known.activity), samples_of(known.activity)._replace(x=known.x.astype(np.float32))
    fit, held, fresh = (
        s.take(np.arange(*ends)) for s, ends in ((noisy, (0, 160)), (noisy, (160, 200)), (clean, (200, 240)))
    )
    start = random_network(40, 2, 2, 0)
    loss = problem_of(fresh, "cpu").loss
    limits = Limits(subset_values=(0, 40 * 40 * 20), adam_below=160)
    run = Optimizer(60, "cpu", no_report, limits=limits)
    part, both = (loss(*run._replace(algorithm=o).descend(start, fit, held).network) for o in ("lbfgs", "auto"))
    assert both < 0.8 * part
    quick = run._replace(max_iter=2, limits=limits._replace(tolerance=np.inf)).descend(start, fit, held)
    assert quick.schedule.epochs
    assert quick.slow


def test_auto_is_lbfgs_if_that_sees_all(truth):
    activity = truth(neurons=10, conditions=20).activity
    fits = [nl.fit_lint(activity, method="gradient", optimizer=o, max_iter=10, **OPTIONS) for o in ("auto", "lbfgs")]
    assert fits[1].attrs.pop("optimizer") == "lbfgs"
    assert fits[0].identical(fits[1])


def test_adam_fits_and_continues_from_a_checkpoint(truth, tmp_path, monkeypatch):
    activity = truth(neurons=10, conditions=40).activity
    options = {"optimizer": "adam", "method": "gradient", "max_iter": 25, **OPTIONS}
    whole = nl.fit_lint(activity, **options)
    assert whole["r2"].values[1] > 0.3
    plain, done = Problem.loss_and_gradient, []

    def counted(self, *network):
        done.append(1)
        if len(done) == 41:
            raise KeyboardInterrupt
        return plain(self, *network)

    monkeypatch.setattr(Problem, "loss_and_gradient", counted)
    with pytest.warns(UserWarning, match="interrupted"):
        nl.fit_lint(activity, checkpoint=tmp_path / "c", **options)
    assert nl.fit_lint(activity, checkpoint=tmp_path / "c", **options).identical(whole)


def test_an_epoch_that_diverges_is_repeated_in_smaller_steps(truth):
    samples = samples_of(truth(neurons=6, conditions=40).activity)._replace(nonlinearity="relu")
    start, loss = random_network(6, 1, 2, 0), problem_of(samples, "cpu").loss
    run = Optimizer(12, "cpu", no_report, algorithm="adam")
    with pytest.warns(UserWarning, match="Adam diverged"):
        found = run._replace(limits=Limits(adam_rate=1e4)).descend(start, samples, samples)
    assert loss(*found.network) < loss(*start)
    with pytest.warns(UserWarning, match="start .* diverges"):
        found = run.descend(Network(start.m, 1e6 * start.n, start.w), samples, samples)
    assert np.isfinite(loss(*found.network))


@pytest.mark.parametrize("more", [{"optimizer": "sgd"}, {"hidden": 3}, {"segment_s": 0.2}, {"method": "regression"}])
def test_other_options_exclude_adam(truth, more):
    with pytest.raises(ContractError, match=r"^optimizer[^\n]*$"):
        nl.fit_lint(truth().activity, **OPTIONS | {"optimizer": "adam"} | more)
