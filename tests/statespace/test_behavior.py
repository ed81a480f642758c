"""Behavior as observations of the latents: the laws of the fit with it, and a truth that comes back."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.statespace.learning.iterations import learn
from nwb_lint.statespace.learning.steps import How
from nwb_lint.statespace.smoother import covariances, gradient, smooth
from nwb_lint.statespace.system import context_of, evaluate
from nwb_lint.testing import mock_trials
from tests.factories import assert_same
from tests.statespace.test_smoother import RANK, TIMES, TRIALS, N, a_system, some_trials

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
OPTIONS = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 4}


def with_numbers(system, trials, weight=1.0):
    """The same with two numbers that are read from the latents, some of them not observed."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((TRIALS, TIMES, 2))
    seen = rng.random(z.shape) > 0.4
    readout, variance = rng.standard_normal((2, 1 + RANK)), 0.3 + rng.random(2)
    system = system._replace(readout=readout, readout_variance=variance, readout_choice=np.zeros(2))
    return system, trials._replace(z=z, z_weight=weight * seen)


def as_neurons(system, trials):
    """The numbers as neurons with a Gaussian observation, which do not feed back."""
    two = np.zeros((2, RANK))
    old = len(system.m)
    network = system._replace(
        m=np.vstack([system.m, system.readout[:, 1:]]), n=np.vstack([system.n, two]) * (old + 2) / old,
        weights=np.vstack([system.weights, np.zeros((2, system.weights.shape[1]))]),
        bias=np.r_[system.bias, 0, 0], level=np.r_[system.level, system.readout[:, 0]],
        variance=np.r_[system.variance, system.readout_variance], readout=None, readout_variance=None,
        readout_choice=None,
    )  # fmt: skip
    y = np.concatenate([trials.y, trials.z], axis=2)
    seen = np.concatenate([trials.seen, trials.z_weight > 0], axis=2)
    return network, trials._replace(y=y, seen=seen, z=None, z_weight=None)


@pytest.mark.parametrize("again", [False, True])
def test_a_number_is_a_neuron_with_a_gaussian_observation(again):
    system, trials = with_numbers(a_system(), some_trials())
    found = smooth(system, trials, np.zeros((TRIALS, TIMES, RANK)))
    other = smooth(*as_neurons(system, trials), np.zeros((TRIALS, TIMES, RANK)))
    if again:
        found = smooth(system, trials, found.mode, covariance=covariances(found))
    np.testing.assert_allclose(found.mode, other.mode, atol=1e-8)
    np.testing.assert_allclose(covariances(found), covariances(other), atol=1e-8)
    np.testing.assert_allclose(found.evidence, other.evidence, atol=1e-6)


def test_a_weight_of_two_is_the_number_seen_twice():
    system, trials = with_numbers(a_system(), some_trials())
    double = system._replace(
        readout=np.tile(system.readout, (2, 1)), readout_variance=np.tile(system.readout_variance, 2),
        readout_choice=np.zeros(4),
    )  # fmt: skip
    twice = trials._replace(z=np.tile(trials.z, (1, 1, 2)), z_weight=np.tile(trials.z_weight, (1, 1, 2)))
    start = np.zeros((TRIALS, TIMES, RANK))
    found = smooth(system, trials._replace(z_weight=2 * trials.z_weight), start)
    other = smooth(double, twice, start)
    np.testing.assert_allclose(found.mode, other.mode, atol=1e-8)
    np.testing.assert_allclose(found.evidence, other.evidence, atol=1e-8)


def test_behavior_that_is_not_seen_changes_nothing():
    for observation in ("gaussian", "poisson"):
        system, trials = a_system(observation, "tanh", hidden=3), some_trials(observation)
        plain = smooth(system, trials, np.zeros((TRIALS, TIMES, RANK)))
        blind = smooth(*with_numbers(system, trials, 0.0), np.zeros((TRIALS, TIMES, RANK)))
        np.testing.assert_array_equal(plain.mode, blind.mode)
        np.testing.assert_array_equal(plain.evidence, blind.evidence)


@pytest.mark.parametrize("choice", [0.0, 1.0])
def test_the_gradient_is_that_of_differences(choice):
    system, trials = with_numbers(a_system("poisson", "tanh"), some_trials("poisson"), 1.7)
    system = system._replace(readout_choice=np.array([choice, 0.0]))
    trials = trials._replace(z=np.where(np.array([choice, 0.0]) > 0, trials.z > 0, trials.z))
    kappa, step = 0.3 * np.random.default_rng(4).standard_normal((TRIALS, TIMES, RANK)), 1e-6
    context = context_of(system, trials)
    exact = gradient(system, evaluate(system, trials, kappa, context), context.loadings)
    for k, t, r in ((0, 0, 0), (1, 3, 2), (3, TIMES - 1, 1)):
        at = np.zeros_like(kappa)
        at[k, t, r] = step
        up, down = (evaluate(system, trials, one, context).log_joint[k] for one in (kappa + at, kappa - at))
        assert (up - down) / (2 * step) == pytest.approx(exact[k, t, r], rel=1e-4, abs=1e-6)


def test_torch_gives_what_numpy_gives():
    pytest.importorskip("torch")
    from nwb_lint.parallel._torch import TorchEngine

    system, trials = with_numbers(a_system("poisson", "tanh"), some_trials("poisson"), 1.7)
    system = system._replace(readout_choice=np.array([1.0, 0.0]))
    trials = trials._replace(z=np.where(np.array([1.0, 0.0]) > 0, trials.z > 0, trials.z))
    start, options = np.zeros((TRIALS, TIMES, RANK)), {"seed": 0, "max_iter": 5, "tolerance": 0.0, "how": How()}
    (own, mine), (other, theirs) = (
        learn(system, trials, start + 0.1, **options, **more) for more in ({}, {"engine": TorchEngine("cpu")})
    )
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    np.testing.assert_allclose(own.system.readout, other.system.readout, rtol=1e-4, atol=1e-6)


# -- fits --


def trials_of_a_weak_dimension(seed=0, n_trials=160, strength=3.0):
    """Spikes of a network of rank 2 whose second latent, with small weights, makes the choice and a movement."""
    rng, n, n_times = np.random.default_rng(seed), 20, 30
    m = rng.standard_normal((n, 2)) * np.where(np.arange(n)[:, None] < n // 2, (1.0, 0.0), (0.0, 0.5))
    kappa, path = rng.standard_normal((n_trials, 2)), []
    for _ in range(n_times):
        path.append(kappa)
        kappa = 0.97 * kappa + 0.22 * rng.standard_normal(kappa.shape)
    kappa = np.stack(path, axis=1)
    count = rng.poisson(0.02 * 20 * np.exp(np.minimum(kappa @ m.T - 0.3, 3))).astype(np.uint16)
    chosen = rng.random(n_trials) < 1 / (1 + np.exp(-strength * kappa[:, -1, 1]))
    speed = 5 + 2 * kappa[..., 1] + 0.7 * rng.standard_normal(kappa.shape[:2])
    data = {
        "count": (("trial", "time", "neuron"), count),
        "input_course": (("trial", "course_time", "course"), speed[..., None]),
    }
    time = 0.02 * np.arange(n_times)
    coords = {
        "trial": np.arange(n_trials), "time": time, "neuron": [f"n{k}" for k in range(n)], "course_time": time,
        "course": [nl.Readout("speed", series="speed").input.source],
        "choice": ("trial", np.where(chosen, "right", "left")),
    }  # fmt: skip
    trials = xr.Dataset(data, coords, {"bin_s": 0.02})
    readouts = [nl.Readout("choice", column="choice", window_s=(0.5, 0.7)), nl.Readout("speed", series="speed")]
    return nl.prepare(trials, inputs=[], readouts=readouts), kappa


@pytest.fixture(scope="module")
def weak():
    return trials_of_a_weak_dimension()


def test_weight_0_is_the_fit_without_behavior(weak):
    trials = weak[0].isel(trial=slice(0, 40))
    bare = nl.fit_trials(trials.drop_dims("readout"), test_size=8, **OPTIONS)
    fit = nl.fit_trials(trials, test_size=8, readout_weight=0.0, **OPTIONS)
    for name in bare.data_vars:
        np.testing.assert_array_equal(bare[name], fit[name])
    assert not bare.attrs.keys() - fit.attrs.keys()


def test_a_fit_with_behavior_finds_the_dimension_that_the_fit_of_spikes_misses(weak):
    trials, kappa = weak
    options = OPTIONS | {"max_iter": 12}
    plain, joint = (nl.fit_trials(trials, test_size=40, readout_weight=w, **options) for w in (0.0, 100.0))
    score = {name: fit["readout_score"].sel(split="held_out") for name, fit in (("plain", plain), ("joint", joint))}
    assert float(score["joint"].sel(readout="speed")) > float(score["plain"].sel(readout="speed")) + 0.4
    assert float(score["joint"].sel(readout="choice")) > float(score["plain"].sel(readout="choice")) + 0.1
    along = [abs(np.corrcoef(fit["latent"].values.ravel(), kappa[..., 1].ravel())[0, 1]) for fit in (plain, joint)]
    assert along[0] < 0.4 < 0.7 < along[1]


def test_levels_weights_and_errors_are_in_the_unit_of_the_behavior(weak):
    trials, kappa = weak
    fit = nl.fit_trials(trials, test_size=40, **OPTIONS | {"rank": 2, "max_iter": 12})
    speed = fit.sel(readout="speed")
    assert float(speed["readout_level"]) == pytest.approx(5 + 2 * kappa[..., 1].mean(), abs=0.3)
    read = speed["readout_level"] + (speed["readout_weights"] * fit["latent"]).sum("rank")
    np.testing.assert_allclose(read, speed["behavior_pred"].transpose(*read.dims), atol=1e-4)
    assert float(speed["readout_noise"]) == pytest.approx(0.7**2, abs=0.35)
    assert np.isnan(fit["readout_noise"].sel(readout="choice"))
    left = (speed["behavior"] - speed["behavior_pred"]).values[~fit["held_out"].values]
    assert float(speed["readout_score"][0]) == pytest.approx(
        1 - np.square(left).sum() / np.square(speed["behavior"].values[~fit["held_out"].values] -
            speed["behavior"].values[~fit["held_out"].values].mean()).sum()
    )  # fmt: skip
    assert (np.linalg.eigvalsh(fit["readout_cov"].values) > -1e-9).all()


def test_permuted_trials_and_neurons_permute_the_fit(weak):
    trials = weak[0].isel(trial=slice(0, 40))
    fit = nl.fit_trials(trials, **OPTIONS)
    order = np.random.default_rng(0).permutation(trials.sizes["neuron"])
    other = nl.fit_trials(trials.isel(neuron=order), **OPTIONS)
    np.testing.assert_allclose(other["m"], fit["m"].values[order], atol=1e-4)
    np.testing.assert_allclose(other["readout_weights"], fit["readout_weights"], rtol=1e-3, atol=1e-4)


def test_behavior_of_a_held_out_trial_is_not_used(weak):
    trials = weak[0].isel(trial=slice(0, 40))
    fit = nl.fit_trials(trials, test_size=8, **OPTIONS)
    held = xr.DataArray(fit["held_out"].values, dims="trial")
    blind = trials.assign(behavior=trials["behavior"].where(~held))
    other = nl.fit_trials(blind, test_size=8, **OPTIONS)
    for name in ("m", "n", "readout_weights", "behavior_pred"):
        np.testing.assert_array_equal(fit[name], other[name])
    assert np.isnan(other["readout_score"].sel(split="held_out")).all()


def test_a_fit_that_was_stopped_goes_on_to_the_same(weak, tmp_path):
    trials = weak[0].isel(trial=slice(0, 40))
    whole = nl.fit_trials(trials, **OPTIONS, checkpoint=tmp_path / "a")
    again = nl.fit_trials(trials, **OPTIONS, checkpoint=tmp_path / "a")
    np.testing.assert_array_equal(whole["m"], again["m"])


def test_it_comes_back_from_a_file_identical(weak, tmp_path):
    fit = nl.fit_trials(weak[0].isel(trial=slice(0, 40)), test_size=8, **OPTIONS)
    assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)))


def test_the_gauge_changes_no_readout(weak):
    fit = nl.fit_trials(weak[0].isel(trial=slice(0, 40)), **OPTIONS | {"rank": 2})
    turned = nl.canonicalize(fit)
    a, b = ((one["readout_weights"] * one["latent"]).sum("rank") for one in (fit, turned))
    np.testing.assert_allclose(a, b.transpose(*a.dims), atol=1e-4)


# -- readouts --


def test_a_choice_is_one_observation_and_other_bins_are_not_seen():
    trials = mock_trials()
    found = nl.prepare(trials, inputs=[], readouts=[nl.Readout("choice", column="choice", window_s=(0.2, 0.4))])
    seen = np.isfinite(found["behavior"].values[..., 0])
    inside = (trials["time"].values >= 0.2 - 1e-9) & (trials["time"].values < 0.4 - 1e-9)
    np.testing.assert_array_equal(seen, np.broadcast_to(inside, seen.shape))
    levels = np.unique(trials["choice"].values)
    np.testing.assert_array_equal(found["behavior"].values[:, inside, 0].mean(axis=1), trials["choice"] == levels[1])
    other = nl.Readout("choice", column="choice", equals=levels[0])
    opposite = nl.prepare(trials, inputs=[], readouts=[other])["behavior"].values[:, 0, 0]
    np.testing.assert_array_equal(opposite, trials["choice"] == levels[0])


def test_reaction_times_are_read_as_logarithms_and_may_be_missing():
    time = np.where(np.arange(24) % 5, 0.2 + 0.01 * np.arange(24), np.nan)
    trials = mock_trials().assign_coords(rt=("trial", time))
    found = nl.prepare(trials, inputs=[], readouts=[nl.Readout("rt", column="rt", log=True)])
    np.testing.assert_allclose(found["behavior"].values[:, 0, 0], np.log(time))
    assert found["readout_kind"].item() == "number"
    fit = nl.fit_trials(found, **OPTIONS)
    assert np.isfinite(fit["behavior_pred"].values).all()


@pytest.mark.parametrize(
    ("wanted", "column"), [("1", [0.0, 1.0]), (0.1, np.float32([0.1, 0.3])), (True, [True, False])]
)
def test_equals_means_the_same_as_for_an_input(wanted, column):
    trials = mock_trials().assign_coords(side=("trial", np.resize(column, 24)))
    found = nl.prepare(trials, inputs=[], readouts=[nl.Readout("side", column="side", equals=wanted)])
    inputs = nl.prepare(trials, inputs=[nl.Input("side", column="side", equals=wanted, window_s=(0, 1))])
    np.testing.assert_array_equal(found["behavior"].values[:, -1, 0], inputs["u"].values[:, -1, 0])


def test_what_latents_know_without_neurons_is_warned_of():
    trials, readouts = mock_trials(), [nl.Readout("choice", column="choice")]
    with pytest.warns(UserWarning, match="both 'choice'"):
        nl.prepare(
            trials, inputs=[nl.Input("side", column="choice", equals="left", window_s=(0, 1))], readouts=readouts
        )
    prepared = nl.prepare(trials, inputs=[], readouts=readouts)
    with pytest.warns(UserWarning, match="initial is 'choice'"):
        nl.fit_trials(prepared, initial="choice", **OPTIONS)
    nl.fit_trials(prepared, initial="stimulus", **OPTIONS)


@pytest.mark.parametrize(
    ("readouts", "match"),
    [
        (lambda: [nl.Readout("x")], "needs one of column and series"),
        (lambda: [nl.Readout("x", column="choice", series="s")], "needs one of column and series"),
        (lambda: [nl.Readout("x", series="s", equals=1)], "equals is of a column"),
        (lambda: [nl.Readout("x", column="choice", window_s=(1.0, 0.0))], "start < stop"),
        (lambda: [nl.Readout("x", column="choice", series_column=1)], "series_column is of a series"),
        (lambda: [nl.Readout("x", column="nothing")], "needs the column 'nothing'"),
        (lambda: [nl.Readout("x", column="choice", window_s=(7.0, 8.0))], "Give a window within it"),
        (lambda: [nl.Readout("x", column="choice", equals="nobody")], "A choice needs both"),
        (lambda: [nl.Readout("x", column="choice", log=True)], "Leave out log"),
        (lambda: [nl.Readout("x", series="s")], "was not read with the recording"),
        (lambda: [nl.Readout("x", column="choice"), nl.Readout("x", column="choice")], "the same name"),
        (lambda: "choice", "needs a list of Readout"),
    ],
)
def test_what_cannot_be_read_is_said(readouts, match):
    with pytest.raises(ContractError, match=match):
        nl.prepare(mock_trials(), inputs=[], readouts=readouts())


def test_what_cannot_be_fitted_is_said(weak):
    trials = weak[0].isel(trial=slice(0, 20))
    with pytest.raises(ContractError, match="Leave out drift"):
        nl.fit_trials(trials, drift=1, **OPTIONS)
    constant = trials.assign(behavior=0 * trials["behavior"])
    with pytest.raises(ContractError, match=r"readout '\w+' does not vary in the training part"):
        nl.fit_trials(constant, **OPTIONS)
    nothing = trials.assign(behavior=np.nan * trials["behavior"])
    with pytest.raises(ContractError, match="no value in the training part"):
        nl.fit_trials(nothing, **OPTIONS)


def test_a_dense_solve_gives_the_same_latents():
    system, trials = with_numbers(a_system(), some_trials())
    network, neurons = as_neurons(system, trials)
    found = smooth(system, trials, np.zeros((TRIALS, TIMES, RANK))).mode
    a = (1 - system.alpha) * np.eye(RANK) + system.alpha * system.n.T @ system.m / N
    for k in range(TRIALS):
        drive = trials.v[k] @ system.weights.T + system.bias
        size = TIMES * RANK
        hessian, right = np.zeros((size, size)), np.zeros(size)

        def add(row, target, precision, hessian=hessian, right=right):
            hessian += row.T @ precision @ row
            right += row.T @ precision @ target

        at = [np.eye(size)[t * RANK : (t + 1) * RANK] for t in range(TIMES)]
        add(at[0], system.start[0], np.linalg.inv(system.spread))
        for t in range(TIMES - 1):
            add(at[t + 1] - a @ at[t], system.alpha * system.n.T @ drive[t] / N, np.linalg.inv(system.noise))
        whole = np.concatenate([drive, np.zeros((TIMES, 2))], axis=1) + network.level
        for t in range(TIMES):
            seen = neurons.seen[k, t]
            error = (neurons.y[k, t] - whole[t])[seen]
            add(network.m[seen] @ at[t], error, np.diag(1 / network.variance[seen]))
        np.testing.assert_allclose(found[k].ravel(), np.linalg.solve(hessian, right), atol=1e-7)
