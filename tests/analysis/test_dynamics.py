"""The flow of the latents and its fixed points against the network's own runs, scans and known networks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import brentq

import nwb_lint as nl
from nwb_lint.analysis.dynamics import flow, flow_of_refits
from nwb_lint.analysis.fixedpoints import counts_of_refits
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit
from nwb_lint.validation.subsampling import refits
from tests.factories import random_fit

N = 40


def network(m, n, weights, *, bias=0.0, nonlinearity="tanh", n_conditions=4, n_bins=30):
    """A whole fit with these weights: inputs, latents and all else are those of its own run."""
    rng = np.random.default_rng(5)
    rank, inputs = m.shape[1], weights.shape[1]
    fit = random_fit(
        n_neurons=len(m), rank=rank, n_inputs=inputs, n_conditions=n_conditions, n_bins=n_bins, burn_in=False,
        optional=False,
    )  # fmt: skip
    fit["m"], fit["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    fit["input_weights"] = ("neuron", "input"), weights
    fit["bias"] = ("neuron",), bias * rng.standard_normal(len(m))
    fit["initial_activation"] = ("neuron",), bias * rng.standard_normal(len(m))
    fit = fit.assign_coords(held_out=("condition", np.zeros(n_conditions, bool)))
    fit.attrs["nonlinearity"] = nonlinearity
    run = nl.simulate(fit)
    for name in ("latent", "filtered_input"):
        fit[name] = run[name].dims, run[name].values
    return fit


def random_network(rank, *, gain=2.0, seed=0, bias=0.0):
    rng = np.random.default_rng(seed)
    m, weights = rng.standard_normal((N, rank)), rng.standard_normal((N, 2))
    return network(m, gain * m + rng.standard_normal((N, rank)), weights, bias=bias)


def held(fit, u, start, n_bins=1600):
    """Latents of a run under a constant input that starts at activation x = start, in the last sample."""
    given = xr.DataArray(np.tile(u, (1, n_bins, 1)).astype("float32"), dims=("condition", "time", "input"))
    return nl.simulate(fit, given, initial=start)["activity"].values[0, -1].astype(float)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_flow_along_a_run_is_its_differences(rank):
    fit = random_network(rank, bias=0.3)
    alpha = fit.attrs["dt_s"] / fit.attrs["tau_s"]
    decay = ((1 - alpha) ** np.arange(fit.sizes["time"]))[:, None]
    constant = (1 - decay) * fit["bias"].values + decay * fit["initial_activation"].values
    drive = fit["filtered_input"].values @ fit["input_weights"].values.T + constant
    kappa = fit["latent"].values.astype(float)
    wanted = np.diff(kappa, axis=1) / fit.attrs["dt_s"]
    found = flow(fit, kappa[:, :-1].reshape(-1, rank), drive[:, :-1].reshape(-1, N))
    np.testing.assert_allclose(found, wanted.reshape(-1, rank), atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_fixed_points_are_where_the_network_stays(rank):
    fit = random_network(rank, bias=0.2)
    u = np.array([0.3, -0.2])
    found = nl.fixed_points(fit, input=u)
    assert check_result(found) == "fixed_points"
    assert float(found["residual"].max()) < 1e-6
    rest = found["kappa"].values @ fit["m"].values.T + fit["input_weights"].values @ u + fit["bias"].values
    for x, stability in zip(rest, found["stability"].values, strict=True):
        if stability == "stable":
            np.testing.assert_allclose(held(fit, u, x), x, atol=1e-4)
    # and every run ends in one of the stable ones
    stable = rest[found["stability"].values == "stable"]
    rng = np.random.default_rng(1)
    for _ in range(5):
        end = held(fit, u, rng.standard_normal(N))
        assert np.abs(stable - end).max(axis=1).min() < 1e-3


@pytest.mark.parametrize(("overlap", "kinds"), [(0.8, ["stable"]), (1.5, ["stable", "stable", "unstable"])])
def test_overlap_decides_how_many_there_are(overlap, kinds):
    m = np.random.default_rng(0).standard_normal((N, 1))
    fit = network(m, overlap * m * N / (m.T @ m), np.ones((N, 1)))
    found = nl.fixed_points(fit)
    assert sorted(found["stability"].values) == kinds
    kappa = np.sort(found["kappa"].values[:, 0])
    np.testing.assert_allclose(kappa, -kappa[::-1], atol=1e-9)
    origin = int(np.abs(found["kappa"].values).argmin())
    np.testing.assert_allclose(found["eigenvalue_real"][origin], (overlap - 1) / fit.attrs["tau_s"], rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_rank_one_agrees_with_a_scan(seed):
    fit = random_network(1, seed=seed, gain=3.0, bias=0.5)
    drive = fit["bias"].values + fit["input_weights"].values @ [0.4, 0.1]
    line = np.linspace(-30, 30, 5001)
    value = [float(flow(fit, np.array([[k]]), drive)[0, 0]) for k in line]
    pairs = [(a, b) for a, b, f, g in zip(line, line[1:], value, value[1:], strict=False) if f * g < 0]
    roots = [brentq(lambda k: float(flow(fit, np.array([[k]]), drive)[0, 0]), a, b, xtol=1e-12) for a, b in pairs]
    found = np.sort(nl.fixed_points(fit, input=[0.4, 0.1], n_starts=20)["kappa"].values[:, 0])
    np.testing.assert_allclose(found, roots, atol=1e-8)


@pytest.mark.parametrize("rank", [2, 3])
def test_without_input_they_come_in_pairs(rank):
    found = nl.fixed_points(random_network(rank))["kappa"].values
    assert len(found) > 1
    for one in found:
        assert np.linalg.norm(found + one, axis=1).min() < 1e-6


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_relu_has_no_other_points_than_those_found(rank):
    """Small networks: every pattern of active neurons is tried."""
    rng = np.random.default_rng(rank)
    size, several = 7, 0
    for _ in range(10):
        m, n = 2 * rng.standard_normal((2, size, rank))
        fit = network(m, n, np.ones((size, 1)), bias=1.0, nonlinearity="relu")
        drive, wanted = fit["bias"].values, []
        for k in range(2**size):
            active = np.array([bool(k >> i & 1) for i in range(size)])
            kappa = np.linalg.solve(np.eye(rank) - n[active].T @ m[active] / size, n[active].T @ drive[active] / size)
            if ((m @ kappa + drive > 0) == active).all():
                wanted.append(kappa)
        several += len(wanted) > 1
        if wanted:
            found = nl.fixed_points(fit, n_starts=1)["kappa"].values
            assert len(found) == len(wanted)
            assert max(np.linalg.norm(found - one, axis=1).min() for one in wanted) < 1e-6
    assert several


def test_gauge_and_order_of_neurons_change_nothing():
    fit = random_network(2)
    mixing = np.array([[1.0, 2.0], [-0.5, 1.5]])
    order = np.random.default_rng(3).permutation(N)
    turned = fit.assign(
        m=(("neuron", "rank"), fit["m"].values @ mixing),
        n=(("neuron", "rank"), fit["n"].values @ np.linalg.inv(mixing).T),
    ).drop_vars("latent")
    turned["latent"] = fit["latent"].dims, fit["latent"].values @ np.linalg.inv(mixing).T
    here, there = (nl.fixed_points(one, input=[0.2, 0.0]) for one in (fit, turned.isel(neuron=order)))
    a, b = here["kappa"].values @ fit["m"].values.T, there["kappa"].values @ turned["m"].values.T
    assert len(a) == len(b)
    assert max(np.abs(b - one).max(axis=1).min() for one in a) < 1e-6
    for name in ("eigenvalue_real", "eigenvalue_imag"):
        np.testing.assert_allclose(np.sort(here[name].values.ravel()), np.sort(there[name].values.ravel()), atol=1e-5)


def test_eigenvalues_are_those_of_the_whole_network():
    fit = random_network(2, bias=0.1)
    found = nl.fixed_points(fit)
    j = nl.connectivity(fit, effective=False)["connectivity"].values
    for k, kappa in enumerate(found["kappa"].values):
        x = fit["m"].values @ kappa + fit["bias"].values
        whole = np.linalg.eigvals((j * (1 - np.tanh(x) ** 2) - np.eye(N)) / fit.attrs["tau_s"])
        for value in found["eigenvalue_real"].values[k] + 1j * found["eigenvalue_imag"].values[k]:
            assert np.abs(whole - value).min() < 1e-6 / fit.attrs["tau_s"]


def test_a_line_attractor_scores_one():
    m = np.random.default_rng(0).standard_normal((N, 2))
    m, _ = np.linalg.qr(m)
    scores = []
    for slow in (1.0, 0.5, 0.2):  # overlap of the first latent; of the second none
        n = np.column_stack([slow * N * m[:, 0], 0 * m[:, 1]])
        found = nl.fixed_points(network(m, n, np.ones((N, 1)), nonlinearity="linear"), n_starts=8)
        scores.append(float(found["line_attractor"].max()))
    assert scores[0] == pytest.approx(1)
    np.testing.assert_allclose(scores[1:], [0.5, 0.2])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_field_is_the_flow_on_a_grid(rank):
    fit = random_network(rank)
    bounds = [(-1.0, 2.0), (0.0, 1.0), (-3.0, -1.0)][:rank]
    found = nl.flow_field(fit, condition=1, at_s=float(fit["time"][7]), extent=bounds, n_points=4)
    assert check_result(found) == "flow_field"
    np.testing.assert_allclose(found["input_value"], fit["u"][1, 7])
    drive = fit["input_weights"].values @ fit["u"].values[1, 7]
    sides = [np.linspace(*side, 4) for side in bounds]
    for k, place in enumerate(np.ndindex(*(4,) * rank)):
        kappa = np.array([side[i] for side, i in zip(sides, place, strict=True)])
        wanted = (-kappa + fit["n"].values.T @ np.tanh(fit["m"].values @ kappa + drive) / N) / fit.attrs["tau_s"]
        np.testing.assert_allclose(found["kappa"][k], kappa)
        np.testing.assert_allclose(found["velocity"][k], wanted, atol=1e-5)
        assert float(found["speed"][k]) == pytest.approx(float(np.linalg.norm(wanted)), abs=1e-5)


def test_inputs_by_name_are_those_by_number():
    fit = random_network(1)
    named, given = nl.flow_field(fit, input={"in1": 0.7}), nl.flow_field(fit, input=[0.0, 0.7])
    xr.testing.assert_identical(named, given)
    np.testing.assert_array_equal(named["input_value"], [0.0, 0.7])


def test_refits_count_the_fixed_points_of_fits_to_fewer_neurons():
    activity = mock_activity()
    fit = mock_fit()
    activity = activity.drop_vars("component", errors="ignore")
    found = nl.fixed_points(fit, activity=activity, refit_fractions=(1.0, 0.5), draws=2)
    assert sum(found.attrs["n_found"]) == found.sizes["fixed_point"]
    np.testing.assert_array_equal(found["n_found"][0], found.attrs["n_found"])
    assert list(found["n_neurons"].values) == [12, 6, 6]
    assert (found["n_found"].sum("stability_kind") >= 1).all()


def test_other_ranks_and_ridges_say_which_points_exist_in_fits_that_predict_as_well():
    fit, activity = mock_fit(), mock_activity()
    alone = nl.fixed_points(fit)
    found = nl.fixed_points(fit, activity=activity, other_ranks=[2], other_ridges=True)
    xr.testing.assert_identical(found[list(alone.data_vars)], alone)
    assert found["alternative"].values[:2].tolist() == ["rank 1", "rank 2"]
    assert found.sizes["alternative"] == 2 + 8  # ridges by default
    good = found["alternative_as_good"].values
    assert good[:2].any()
    assert good[2:].any()
    own = found["n_found_alternative"].values[0]
    np.testing.assert_array_equal(own, alone.attrs["n_found"])  # the rank of the fit, on its training conditions
    assert ((found["share_ranks"] >= 0) & (found["share_ranks"] <= 1)).all()


def test_a_point_that_no_other_ridge_has_has_a_share_of_zero():
    fit, activity = mock_fit(), mock_activity()
    strong = fit.assign(n=6 * fit["n"])  # two attractors, which no fit to the activity has
    found = nl.fixed_points(strong, activity=activity, other_ridges=True)
    stable = found["stability"].values == "stable"
    assert stable.sum() == 2
    assert (found["share_ridges"].values[stable] == 0).all()
    assert "share_ranks" not in found


@pytest.mark.parametrize("hidden", [0, 6])
def test_refits_of_a_field_are_the_flow_of_fits_to_fewer_neurons(hidden):
    activity = mock_activity()
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", hidden=hidden)
    found = nl.flow_field(fit, input=[0.5], n_points=7, activity=activity, refit_fractions=(0.5, 1.0), draws=2, seed=3)
    assert check_result(found) == "flow_field"
    assert list(found["n_neurons"].values) == [12, 6, 6]
    np.testing.assert_allclose(found["velocity_draw"][0], found["velocity"], atol=2e-3 * float(found["speed"].max()))
    assert found["agreement"].values[0] == pytest.approx(1)
    assert (found["agreement"].values[1:] < 1 - 1e-6).all()
    apart = found["velocity_draw"].values - found["velocity"].values
    wanted = np.sqrt((apart**2).sum(axis=2).mean(axis=0) / (found["speed"].values ** 2).mean())
    np.testing.assert_allclose(found["disagreement"], wanted)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_refit_in_another_gauge_and_order_has_the_same_flow(rank):
    fit = random_network(rank, bias=0.3)
    fit = fit.assign_coords(recorded=("neuron", np.arange(N) < 2 * rank + 3))  # the others are hidden units
    mixing = np.random.default_rng(1).standard_normal((rank, rank)) + 2 * np.eye(rank)
    turned = fit.assign(
        m=(("neuron", "rank"), fit["m"].values @ mixing),
        n=(("neuron", "rank"), fit["n"].values @ np.linalg.inv(mixing).T),
    ).isel(neuron=np.random.default_rng(2).permutation(N))
    field = nl.flow_field(fit, input=[0.4, -0.1], n_points=4)
    found = flow_of_refits(field, fit, [(1.0, turned)])
    np.testing.assert_allclose(found["velocity_draw"][0], field["velocity"], atol=1e-6 * float(field["speed"].max()))
    np.testing.assert_allclose(found["disagreement"], 0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"ridges": (1.0,)},
        {"ridge_by": "gcv", "l2_n": 0.01},
        {"weights": "precision", "bias": True, "initial": "learned"},
        {"method": "auto", "max_iter": 3, "optimizer": "lbfgs", "segment_s": 0.2, "seed": 5},
        {"hidden": 4, "test_conditions": [1, 6]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_refit_has_the_options_of_the_fit(options):
    activity = mock_activity()
    fit = nl.fit_lint(activity, **({"rank": 1, "tau_s": 0.1, "method": "regression"} | options))
    ((fraction, again),) = refits(fit, activity, [1.0])
    assert fraction == 1
    ratios = [one.attrs.pop("n_norm_ratio") for one in (fit, again)]
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-3)
    assert again.attrs == fit.attrs
    for name in ("m", "n", "activity_pred", "stage_r2", "stage_ridge"):  # arrays lie otherwise, and sums differ by that
        np.testing.assert_allclose(again[name], fit[name], rtol=0, atol=5e-3 * float(np.nanmax(np.abs(fit[name]))))


def test_what_cannot_be_fitted_again_is_refused():
    activity = mock_activity()
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", weights=np.linspace(1, 2, 12))
    cases = [
        (fit, activity, "weights"),
        (mock_fit(), activity.assign_coords(neuron=[f"x{k}" for k in range(12)]), "12 neurons"),
        (mock_fit(), activity.assign_coords(input=("input", ["tone"])), r"tone.*stimulus"),
    ]
    for analyze in (nl.flow_field, nl.fixed_points):
        for one, other, words in cases:
            with pytest.raises(ContractError, match=words):
                analyze(one, activity=other, refit_fractions=(0.5,))


def test_a_fit_to_fewer_neurons_without_a_fixed_point_counts_as_none():
    m = np.ones((N, 1))
    fit, endless = random_network(1), network(m, m, np.ones((N, 2)), nonlinearity="linear")
    one, other = (part.assign_coords(recorded=("neuron", np.ones(N, bool))) for part in (fit, endless))
    found = counts_of_refits(nl.fixed_points(fit, input=[1.0, 0.0]), [(1.0, one), (0.5, other)], 20, 0)
    np.testing.assert_array_equal(found["n_found"].sum("stability_kind") > 0, [True, False])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"condition": 0, "input": [0, 0]}, "one or the other"),
        ({"input": [0.0]}, "2 inputs"),
        ({"input": {"sound": 1.0}}, "in0, in1"),
        ({"condition": "nobody"}, "condition"),
        ({"condition": [0, 1]}, "2 conditions"),
        ({"condition": 0, "at_s": 99.0}, "at_s.*Time runs"),
        ({"at_s": 0.1}, "without a condition"),
        ({"n_points": 1}, "n_points"),
        ({"extent": -1.0}, "above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, words):
    with pytest.raises(ContractError, match=words) as raised:
        nl.flow_field(random_network(1), **options)
    assert "\n" not in str(raised.value)


def test_what_has_no_latents_no_fixed_point_or_no_activity_is_refused():
    with pytest.raises(ContractError, match="no latents"):
        nl.fixed_points(random_fit(full_rank=True))
    with pytest.raises(ContractError, match="rank 4"):
        nl.flow_field(random_network(4))
    with pytest.raises(ContractError, match="activity is missing"):
        nl.fixed_points(random_network(1), refit_fractions=(0.5,))
    with pytest.raises(ContractError, match="activity is missing"):
        nl.fixed_points(random_network(1), other_ridges=True)
    with pytest.raises(ContractError, match="activity is missing"):
        nl.flow_field(random_network(1), refit_fractions=(0.5,))
    m = np.ones((N, 1))
    with pytest.raises(ContractError, match="came to rest"):
        nl.fixed_points(network(m, m, m, nonlinearity="linear"), input=[1.0])
