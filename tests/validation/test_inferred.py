"""Inputs that nobody recorded: recovered where there are some, not found where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.stats import matrix_normal

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.statespace.unknown_inputs.priors import smooth_covariance
from nwb_lint.statespace.unknown_inputs.tuning import KNOWN_VARIANCE
from nwb_lint.testing import mock_activity, mock_recording, mock_trials
from nwb_lint.validation.inferred.inputs import chosen_hypothesis
from nwb_lint.validation.inferred.means import (
    Latents,
    Prior,
    courses_of,
    evidence_of,
    latents_of,
    response,
    smoother_of,
    solve,
    total_covariance,
)

N_TIMES, TAU_S, BIN_S = 40, 0.1, 0.02
ALPHA = BIN_S / TAU_S


def smooth_courses(n_conditions, seed, size=1.0):
    """Draws of a Gaussian process with a length of 5 bins, (condition, time)."""
    root = np.linalg.cholesky(smooth_covariance(N_TIMES, 5.0) + 1e-6 * np.eye(N_TIMES))
    return size * np.random.default_rng(seed).standard_normal((n_conditions, N_TIMES)) @ root.T


def driven_activity(u, recurrence=0.0, noise=0.1, seed=0, n_neurons=30):
    """Activity of a rank-1 network that an unknown input u (condition, time) drives along m, with observation noise."""
    rng = np.random.default_rng(seed)
    m = rng.standard_normal(n_neurons)
    kappa, path = np.zeros(len(u)), []
    for t in range(N_TIMES):
        path.append(kappa)
        again = recurrence * np.tanh(kappa[:, None] * m) @ m / n_neurons
        kappa = (1 - ALPHA) * kappa + ALPHA * (again + u[:, t])
    x = np.stack(path, axis=1)[..., None] * m
    x = x + noise * rng.standard_normal(x.shape)
    coords = {
        "condition": [f"c{k}" for k in range(len(u))], "time": BIN_S * np.arange(N_TIMES),
        "neuron": [f"n{k}" for k in range(n_neurons)], "input": ["zero"],
    }  # fmt: skip
    data = {
        "activity": (("condition", "time", "neuron"), x.astype(np.float32)),
        "u": (("condition", "time", "input"), np.zeros((*u.shape, 1), np.float32)),
    }
    return xr.Dataset(data, coords, {"bin_s": BIN_S}), m


def in_its_own_axes(found, m):
    """The true weights as a multiple of the inferred ones: u of the truth times this is u of the result."""
    loading = found["loading"].values[:, 0]
    return float(loading @ m / (loading @ loading))


@pytest.fixture(scope="module")
def unknown():
    u = smooth_courses(16, 3)
    activity, m = driven_activity(u, noise=0.5)
    return activity, m, u, nl.infer_inputs(activity, rank=1, tau_s=TAU_S, hidden=30)


def test_an_unknown_input_is_recovered_with_its_interval(unknown):
    _, m, u, found = unknown
    assert found.attrs["hypothesis"] == "inputs"
    assert found.attrs["separated"] == 1
    true = u * in_its_own_axes(found, m)
    low, middle, high = (found[f"inferred_{name}"].values[:, :-1, 0] for name in ("low", "u", "high"))
    true = true[:, :-1]  # the input of the last bin acts after it
    assert 1 - ((middle - true) ** 2).sum() / (true**2).sum() > 0.9
    assert ((low < true) & (true < high)).mean() > 0.8
    assert (high - low).mean() < 2 * true.std()
    wide = nl.infer_inputs(unknown[0], rank=1, tau_s=TAU_S, hidden=30, level=0.99)
    assert (wide["inferred_high"].values[:, :-1, 0] > high).all()


def test_recurrence_that_explains_all_needs_no_unknown_input():
    found = nl.infer_inputs(mock_activity(n_conditions=12), rank=1, tau_s=0.1)
    assert found.attrs["hypothesis"] == "recurrence"
    assert not found["as_good"].sel(hypothesis="inputs")
    assert abs(found["inferred_u"]).max() < 0.1


def test_a_network_with_unknown_inputs_has_both():
    u = smooth_courses(16, 4)
    activity, m = driven_activity(u, recurrence=1.6)
    found = nl.infer_inputs(activity, rank=1, tau_s=TAU_S, hidden=30)
    assert found.attrs["hypothesis"] == "both"
    true = u * in_its_own_axes(found, m)
    error = found["inferred_u"].values[:, :-1, 0] - true[:, :-1]
    assert 1 - (error**2).sum() / (true[:, :-1] ** 2).sum() > 0.8


def test_what_cannot_be_separated_is_said():
    u = smooth_courses(3, 5, 0.1)
    activity, _ = driven_activity(u, noise=1.0)
    with pytest.warns(UserWarning, match="cannot separate"):
        found = nl.infer_inputs(activity, rank=1, tau_s=TAU_S, hidden=0, folds=3)
    assert (found.attrs["hypothesis"], found.attrs["separated"]) == ("undecided", 0)
    assert (found["inferred_low"] <= 0).all()
    assert (found["inferred_high"] >= 0).all()


@pytest.mark.parametrize(
    ("good", "choice"),
    [
        ((True, False, False), "recurrence"), ((True, False, True), "recurrence"), ((False, True, True), "inputs"),
        ((False, True, False), "inputs"), ((False, False, True), "both"), ((True, True, False), "undecided"),
    ],
)  # fmt: skip
def test_the_choice_has_the_fewest_parts(good, choice):
    assert chosen_hypothesis(*good)[0] == choice


def test_a_sparse_input_acts_at_few_times():
    u = np.zeros((16, N_TIMES))
    u[:, [8, 22]] = 4 * np.random.default_rng(6).standard_normal((16, 2))
    activity, m = driven_activity(u, noise=0.05)
    smooth, sparse = (
        nl.infer_inputs(activity, rank=1, tau_s=TAU_S, hidden=0, prior=prior) for prior in ("smooth", "sparse")
    )
    errors = [
        float(((one["inferred_u"].values[..., 0] - u * in_its_own_axes(one, m)) ** 2).mean())
        for one in (smooth, sparse)
    ]
    assert errors[1] < 0.2 * errors[0]
    power = (sparse["inferred_u"].values[..., 0] ** 2).mean(axis=0)
    assert set(np.argsort(power)[-2:]) == {8, 22}
    assert "length_s" not in sparse.attrs


def test_a_fit_with_the_inferred_input_reproduces_the_activity(unknown, tmp_path):
    activity, _, _, found = unknown
    without = nl.fit_lint(activity, rank=1, tau_s=TAU_S, method="regression", test_size=4)
    data = nl.with_inferred_inputs(activity, found)
    fit = nl.fit_lint(data, rank=1, tau_s=TAU_S, method="regression", test_size=4)
    assert fit["input"].values.tolist() == ["zero", "inferred 1"]
    assert float(fit["r2"][1]) > 0.6  # of activity with noise of the observation
    assert float(without["r2"][1]) < 0.3
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject={"subject_id": "m", "species": "Mus musculus", "sex": "F",
                        "age": "P90D"}, results={"inferred": found})  # fmt: skip
    xr.testing.assert_allclose(nl.read_result(path, "inferred")["inferred_u"], found["inferred_u"])


# -- the closed form --


def some_latents(missing=False):
    rng = np.random.default_rng(7)
    kappa, z = rng.standard_normal((4, 6, 2)), rng.standard_normal((4, 6, 3))
    seen = np.ones((4, 6), bool)
    if missing:
        seen[1, 4:] = False
    smoother = smoother_of(6, 1.0)
    return Latents(
        kappa * seen[..., None], z, rng.standard_normal((4, 6, 1)), seen, smoother, smoother @ response(6, ALPHA)
    )


@pytest.mark.parametrize("missing", [False, True])
def test_the_regression_is_that_of_a_dense_gaussian(missing, monkeypatch):
    monkeypatch.setattr("nwb_lint.validation.inferred.means.RIDGES", np.array([0.3]))
    latents, prior = some_latents(missing), Prior(0.5, 0.8 * smooth_covariance(6, 2.0))
    found, seen = solve(latents, prior, True), latents.seen
    each = total_covariance(latents, prior)
    dense = np.zeros((24, 24))
    for g in range(4):
        dense[6 * g : 6 * g + 6, 6 * g : 6 * g + 6] = each
    x = np.concatenate([latents.z, latents.v], axis=2)[seen]
    power = np.array([1 / 0.3] * 3 + [KNOWN_VARIANCE])
    total = dense[np.ix_(seen.ravel(), seen.ravel())] + (x * power) @ x.T
    y = latents.kappa[seen]
    noise = y.T @ np.linalg.solve(total, y) / len(y)
    np.testing.assert_allclose(found.noise, noise, rtol=1e-6)
    wanted = matrix_normal.logpdf(y, np.zeros(y.shape), total, noise)
    np.testing.assert_allclose(found.value, wanted, rtol=1e-8)
    # the course of the first condition given all: a Gaussian conditional
    whole = prior.course @ latents.filtered.T
    across = np.zeros((6, len(y)))
    across[:, :6] = whole
    np.testing.assert_allclose(courses_of(latents, found, True)[0][0], across @ np.linalg.solve(total, y), atol=1e-6)
    spread = prior.course - across @ np.linalg.solve(total, across.T)
    np.testing.assert_allclose(courses_of(latents, found, True)[1][0], np.diag(spread), atol=1e-6)


def test_the_evidence_of_a_new_condition_is_the_conditional_density(monkeypatch):
    monkeypatch.setattr("nwb_lint.validation.inferred.means.RIDGES", np.array([0.3]))
    latents, prior = some_latents(), Prior(0.1, 0.8 * smooth_covariance(6, 2.0))
    some = np.array([True, True, True, False])
    solution = solve(latents.part(some), prior, True)
    each, power = total_covariance(latents, prior), np.array([1 / 0.3] * 3 + [KNOWN_VARIANCE])
    x = np.concatenate([latents.z, latents.v], axis=2).reshape(24, 4)
    total = np.kron(np.eye(4), each) + (x * power) @ x.T
    y = latents.kappa.reshape(24, 2)
    joint = matrix_normal.logpdf(y, np.zeros(y.shape), total, solution.noise)
    known = matrix_normal.logpdf(y[:18], np.zeros((18, 2)), total[:18, :18], solution.noise)
    np.testing.assert_allclose(evidence_of(latents.part(~some), solution, True), joint - known, rtol=1e-5)


def test_an_unknown_input_of_variance_0_is_no_input():
    latents = some_latents()
    one, other = (solve(latents, Prior(0.5, course), True) for course in (None, np.zeros((6, 6))))
    np.testing.assert_allclose(one.coefficients, other.coefficients)
    assert one.value == other.value


def test_axes_come_from_the_conditions_that_are_used():
    activity, _ = driven_activity(smooth_courses(6, 8))
    x, v = activity["activity"].values, activity["u"].values.astype(float)
    used = np.arange(6) < 4
    found = latents_of(x, v, used, 1, ALPHA, 0, 0, "tanh", 0.0)[1]
    changed = np.where(used[:, None, None], x, 0)
    np.testing.assert_allclose(latents_of(changed, v, used, 1, ALPHA, 0, 0, "tanh", 0.0)[1], found)


# -- single trials --

OF_TRIALS = {"rank": 1, "tau_s": TAU_S, "hidden": 0, "folds": 2, "max_iter": 6}


def driven_trials(u, n_each=12, seed=0, n_neurons=30):
    """Spikes of a rank-1 network without recurrence, with noise, that an unknown input drives along m."""
    rng = np.random.default_rng(seed)
    m, condition = rng.standard_normal(n_neurons), np.repeat(np.arange(len(u)), n_each)
    kappa, path = np.zeros(len(condition)), []
    for t in range(N_TIMES):
        path.append(kappa)
        kappa = (1 - ALPHA) * kappa + ALPHA * u[condition, t] + 0.05 * rng.standard_normal(len(condition))
    count = rng.poisson(BIN_S * 20 * np.exp(np.stack(path, axis=1)[..., None] * m))
    coords = {
        "trial": np.arange(len(condition)), "time": BIN_S * np.arange(N_TIMES),
        "neuron": np.arange(n_neurons).astype(str),
        "side": ("trial", np.array([f"s{k}" for k in condition])),
    }  # fmt: skip
    return xr.Dataset({"count": (("trial", "time", "neuron"), count.astype(np.uint16))}, coords, {"bin_s": BIN_S}), m


def test_an_unknown_input_of_single_trials_is_recovered():
    u = smooth_courses(5, 9, 1.5)
    trials, m = driven_trials(u)
    found = nl.infer_inputs(trials, by="side", **OF_TRIALS)
    assert found.attrs["hypothesis"] in ("inputs", "both")
    assert not found["as_good"].sel(hypothesis="recurrence")
    assert found["input_condition"].values.tolist() == [f"s{k}" for k in range(5)]
    true = (u * in_its_own_axes(found, m))[:, :-1]
    low, middle, high = (found[f"inferred_{name}"].values[:, :-1, 0] for name in ("low", "u", "high"))
    assert 1 - ((middle - true) ** 2).sum() / ((true - true.mean()) ** 2).sum() > 0.9
    assert ((low < true) & (true < high)).mean() > 0.8
    fit = nl.fit_trials(nl.with_inferred_inputs(trials, found), rank=1, tau_s=TAU_S, hidden=0, max_iter=5)
    assert fit["input"].values.tolist() == ["inferred 1"]


def test_an_input_of_each_trial_is_recovered_with_its_interval():
    rng, decay = np.random.default_rng(11), 0.9
    u = [rng.standard_normal(40)]
    for _ in range(N_TIMES - 1):
        u.append(decay * u[-1] + np.sqrt(1 - decay**2) * rng.standard_normal(40))
    u = 0.7 * np.stack(u, axis=1)
    trials, m = driven_trials(u, n_each=1)
    found = nl.infer_inputs(trials, by="trial", **OF_TRIALS)
    assert found.attrs["hypothesis"] in ("inputs", "both")
    assert not found["as_good"].sel(hypothesis="recurrence")
    assert found["input_condition"].values.tolist() == [str(k) for k in range(40)]
    true = (u * in_its_own_axes(found, m))[:, :-1]
    low, middle, high = (found[f"inferred_{name}"].values[:, :-1, 0] for name in ("low", "u", "high"))
    assert 1 - ((middle - true) ** 2).sum() / ((true - true.mean()) ** 2).sum() > 0.6
    assert 0.8 < ((low < true) & (true < high)).mean() < 0.99
    assert 0.08 < found.attrs["length_s"] < 0.4  # of 190 ms
    some = nl.with_inferred_inputs(trials.isel(trial=[3, 1]), found)
    np.testing.assert_allclose(some["u"].values[..., 0], found["inferred_u"].values[[3, 1], :, 0], rtol=1e-6)
    with pytest.raises(ContractError, match="Trial 99 has no inferred input"):
        nl.with_inferred_inputs(trials.isel(trial=[0]).assign_coords(trial=[99]), found)


def test_trials_need_a_column_and_means_take_none():
    with pytest.raises(ContractError, match="prior is 'sparse' with by='trial'"):
        nl.infer_inputs(mock_trials(), rank=1, tau_s=0.1, by="trial", prior="sparse")
    with pytest.raises(ContractError, match="by is None"):
        nl.infer_inputs(mock_trials(), rank=1, tau_s=0.1)
    with pytest.raises(ContractError, match="by is 'nothing', and trials have no such column"):
        nl.infer_inputs(mock_trials(), rank=1, tau_s=0.1, by="nothing")
    with pytest.raises(ContractError, match="Leave out by"):
        nl.infer_inputs(mock_activity(), rank=1, tau_s=0.1, by="stimulus")
    with pytest.raises(ContractError, match="bias has no part"):
        nl.infer_inputs(mock_activity(), rank=1, tau_s=0.1, bias=True)
    with pytest.raises(ContractError, match="drift is given"):
        nl.infer_inputs(mock_trials(), rank=1, tau_s=0.1, by="choice", drift=2)
    with pytest.raises(ContractError, match="rank is 99"):
        nl.infer_inputs(mock_activity(), rank=99, tau_s=0.1)


def test_inputs_are_added_once_to_the_same_conditions_and_bins(unknown):
    activity, _, _, found = unknown
    with pytest.raises(ContractError, match="'inferred 1' already"):
        nl.with_inferred_inputs(nl.with_inferred_inputs(activity, found), found)
    with pytest.raises(ContractError, match="Condition other has no inferred input"):
        nl.with_inferred_inputs(activity.assign_coords(condition=["other", *activity["condition"].values[1:]]), found)
    with pytest.raises(ContractError, match="30 bins"):
        nl.with_inferred_inputs(activity.isel(time=slice(30)), found)
    some = nl.with_inferred_inputs(activity.isel(condition=[3, 1]), found)
    np.testing.assert_allclose(some["u"].values[..., 1], found["inferred_u"].values[[3, 1], :, 0], rtol=1e-6)


def test_inferred_inputs_are_added_to_no_other_times_nor_to_a_fit(unknown):
    activity, _, _, found = unknown
    with pytest.raises(ContractError, match="bins from 10 to"):
        nl.with_inferred_inputs(activity.assign_coords(time=activity["time"] + 10), found)
    for wrong in (found, nl.fit_lint(activity, rank=1, tau_s=TAU_S, method="regression")):
        with pytest.raises(ContractError, match="activity lacks activity"):
            nl.with_inferred_inputs(wrong, found)
    same = activity.assign_coords(condition=["c0", *activity["condition"].values[:-1]])
    with pytest.raises(ContractError, match="Two conditions have the same label"):
        nl.with_inferred_inputs(same, found.assign_coords(input_condition=same["condition"].values))
    with pytest.raises(ContractError, match="inferred of each trial, and the data are means"):
        nl.with_inferred_inputs(activity, found.assign_attrs(by="trial"))
    turned = activity.assign(u=activity["u"].transpose("input", "condition", "time"))
    with pytest.raises(ContractError, match="u of the activity has dims"):
        nl.with_inferred_inputs(turned, found)


def test_what_no_input_can_be_inferred_from_is_said():
    activity, wanted = mock_activity(), {"rank": 1, "tau_s": 0.1, "hidden": 0}
    with pytest.raises(ContractError, match="rank is None"):
        nl.infer_inputs(activity, rank=None, tau_s=0.1)
    with pytest.raises(ContractError, match="data is a NoneType"):
        nl.infer_inputs(None, **wanted)
    constant = activity.assign(activity=0 * activity["activity"] + 1)
    for wrong in (constant, constant.assign(activity=0 * activity["activity"]), activity.isel(time=[0])):
        with pytest.raises(ContractError, match="same value in all samples"):
            nl.infer_inputs(wrong, **wanted)
    unseen = activity.assign(activity=activity["activity"].where(activity["condition"] != "stimulus=1"))
    with pytest.raises(ContractError, match="Condition stimulus=1 has no observed sample"):
        nl.infer_inputs(unseen, **wanted)
    trials = mock_trials().assign_coords(side=("trial", np.resize(["a", "b", ""], 24)))
    with pytest.raises(ContractError, match="side has no value in 8 of 24 trials"):
        nl.infer_inputs(trials, by="side", **wanted)
    with pytest.raises(ContractError, match="There are 24 trials"):
        nl.infer_inputs(trials, by="choice", folds=25, **wanted)


def test_behavior_has_no_part_in_inferred_inputs():
    trials, options = mock_trials(), {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2, "by": "stimulus", "folds": 2}
    rare = trials.assign_coords(rare=("trial", np.arange(24) == 3))  # in one of the two parts it does not vary
    both = nl.prepare(rare, inputs=[], readouts=[nl.Readout("rare", column="rare")])
    xr.testing.assert_equal(
        nl.infer_inputs(trials, **options)["inferred_u"], nl.infer_inputs(both, **options)["inferred_u"]
    )


def test_smoothed_noise_is_not_taken_for_an_input():
    """Means of few trials that were smoothed: what is left of the noise is smooth, and no input."""
    recording = mock_recording(n_conditions=12)
    rate = recording["rate"].values + 4 * np.random.default_rng(10).standard_normal(recording["rate"].shape)
    smooth = gaussian_filter1d(rate, 2.0, axis=1).astype(np.float32)
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0, 1))]
    given = recording.assign(rate=(recording["rate"].dims, smooth)).drop_vars(["rate_half", "n_trials_half"])
    given.attrs["smooth_s"] = 0.04
    activity = nl.prepare(given, inputs=inputs, center=(-0.2, 0.0), time_course=False)
    said = nl.infer_inputs(activity, rank=1, tau_s=0.1, hidden=0)
    unsaid = nl.infer_inputs(activity.assign_attrs(smooth_s=0.0), rank=1, tau_s=0.1, hidden=0)
    assert said.attrs["hypothesis"] == "recurrence"
    assert not unsaid["as_good"].sel(hypothesis="recurrence")
