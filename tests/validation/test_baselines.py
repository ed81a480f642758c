"""Each baseline is exact where its assumption holds, and none depends on the order of conditions or neurons."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.contract.checks import check_fit
from nwb_lint.errors import ContractError
from nwb_lint.model.scores import by_split
from nwb_lint.testing import mock_activity
from nwb_lint.validation.baselines import components, regression, time_course, variables_of

OPTIONS = {"tau_s": 0.1, "folds": 3, "method": "regression"}


def linear_network(rank=2, neurons=20, conditions=30, times=30, seed=0):
    """Activity of a linear network, by the recurrence as it is written down."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((neurons, rank)), rng.standard_normal((neurons, 2))
    n = m @ rng.standard_normal((rank, rank)) * 0.5 + w @ rng.standard_normal((2, rank))
    u = np.zeros((conditions, times, 2), np.float32)
    u[:, 2:] = rng.uniform(-1, 1, (conditions, 1, 2))
    u[:, 12:, 1] = 0
    x = np.zeros((conditions, times, neurons))
    for t in range(times - 1):
        x[:, t + 1] = 0.8 * x[:, t] + 0.2 * (x[:, t] @ n @ m.T / neurons + u[:, t] @ w.T)
    coords = {"time": 0.02 * np.arange(times), "neuron": [f"n{k}" for k in range(neurons)]}
    activity = xr.Dataset(coords=coords, attrs={"bin_s": 0.02})
    activity["activity"] = ("condition", "time", "neuron"), x.astype(np.float32)
    activity["u"] = ("condition", "time", "input"), u
    return activity, m @ n.T / neurons


@pytest.mark.parametrize("method", ["regression", "auto"])
def test_linear_dynamics_are_exact_on_linear_data(method):
    activity, _ = linear_network()
    fit = nl.fit_lint(activity, rank=2, tau_s=0.1, nonlinearity="linear", test_size=0.2, method=method, max_iter=20)
    assert fit["r2"].values.min() > 0.9999
    np.testing.assert_array_equal(nl.simulate(fit)["activity"], fit["activity_pred"])
    np.testing.assert_array_equal(linear_network()[0]["activity"], activity["activity"])  # the data are left alone


def test_a_linear_fit_goes_through_nwb(tmp_path):
    fit = nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, nonlinearity="linear", method="regression")
    nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT)
    assert nl.read_fit(tmp_path / "fit.nwb").identical(fit)


SUBJECT = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}


def test_truncation_at_full_rank_is_the_network_itself(tmp_path):
    activity = mock_activity()
    full = nl.fit_lint(activity, rank=None, tau_s=0.1, test_conditions=[1, 5])
    cut = nl.truncate(full, rank=12, activity=activity)
    check_fit(cut)
    np.testing.assert_allclose(cut["m"].values @ cut["n"].values.T / 12, full["J"].values, atol=1e-12)
    np.testing.assert_allclose(cut["activity_pred"], full["activity_pred"], atol=1e-5)
    for name in ("r2", "r2_ceiling", "r2_neuron"):
        np.testing.assert_allclose(cut[name], full[name], atol=1e-5)
    nl.write_fit(cut, tmp_path / "cut.nwb", subject=SUBJECT)
    assert nl.read_fit(tmp_path / "cut.nwb").identical(cut)
    scored = nl.score(nl.truncate(full, rank=1, activity=activity), activity, conditions=[1, 5])
    assert float(scored["r2"]) == pytest.approx(float(nl.truncate(full, rank=1, activity=activity)["r2"][1]), abs=1e-6)


def test_truncation_is_the_closest_connectivity_and_keeps_the_inputs(truth):
    known = truth(rank=2, neurons=12, conditions=12)
    fit = nl.fit_lint(known.activity, rank=2, tau_s=0.1, method="regression")
    j = np.random.default_rng(0).standard_normal((12, 12))
    cut = nl.truncate(fit, rank=3, connectivity=j)
    _, s, _ = np.linalg.svd(j)
    missed = np.linalg.norm(j - cut["m"].values @ cut["n"].values.T / 12)
    assert missed == pytest.approx(np.sqrt((s[3:] ** 2).sum()))
    assert np.isnan(cut["r2"]).all()
    for name in ("input_weights", "bias", "initial_activation", "u"):
        np.testing.assert_array_equal(cut[name], fit[name])
    lower, higher = nl.truncate(fit, rank=1), nl.truncate(fit, rank=2)
    np.testing.assert_allclose(higher["activity_pred"], fit["activity_pred"], atol=1e-5)
    np.testing.assert_allclose(np.abs(lower["m"].values[:, 0]), np.abs(fit["m"].values[:, 0]), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 2}, r"rank is 2.*rank 1"),
        ({"rank": 0}, r"rank.*1 to 12"),
        ({"rank": 1, "connectivity": np.ones((3, 3))}, "12 × 12"),
        ({"rank": 1, "activity": mock_activity(n_neurons=7)}, "other neurons"),
    ],
)
def test_errors_of_truncation(options, words):
    fit = nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, method="regression")
    with pytest.raises(ContractError, match=words):
        nl.truncate(fit, **options)


def test_the_table_of_a_known_network(truth):
    activity = truth(rank=1, neurons=24, conditions=36, private=0.01).activity
    table = nl.baselines(activity, rank=1, **OPTIONS)
    held_out = table["baseline_r2"].sel(split="held_out").to_series()
    assert held_out["low rank"] > 0.99
    assert held_out["unconstrained"] > 0.98
    assert held_out["low rank"] > held_out["linear"] > held_out["time course"]
    assert held_out["components and inputs"] > 0.99  # x lives in R + K dimensions
    assert held_out["components"] < held_out["components and inputs"]
    np.testing.assert_allclose(table["baseline_r2"], table["r2"].mean("fold"))
    folds = nl.select_rank(activity, ranks=[1], **OPTIONS)
    np.testing.assert_array_equal(table["r2"].sel(baseline="low rank"), folds["r2"].values[0, 0])


def test_the_table_has_ceilings_and_is_prepared_fold_by_fold():
    activity, masks = mock_activity(), []

    def prepared(train):
        masks.append(train)
        return activity

    table = nl.baselines(prepared, rank=1, **OPTIONS)
    xr.testing.assert_identical(nl.baselines(activity, rank=1, **OPTIONS), table)
    assert [mask is None for mask in masks] == [True, False, False, False]
    assert ((table["r2_ceiling"] > 0.7) & (table["r2_ceiling"] <= 1)).all()


def test_regression_is_exact_where_activity_is_linear_in_the_conditions():
    rng = np.random.default_rng(0)
    levels = rng.standard_normal((20, 3))
    y = np.einsum("cv,vtn->ctn", levels, rng.standard_normal((3, 6, 4))) + rng.standard_normal((6, 4))
    held = np.arange(20) < 5
    np.testing.assert_allclose(regression(y, held, levels), y, atol=1e-10)
    y[7:9, 2, 1] = np.nan
    np.testing.assert_allclose(regression(y, held, levels)[np.isfinite(y)], y[np.isfinite(y)], atol=1e-10)
    blind = y.copy()
    blind[held] = 100.0
    np.testing.assert_array_equal(regression(blind, held, levels), regression(y, held, levels))
    twice = np.column_stack([levels, levels[:, 0]])
    np.testing.assert_allclose(regression(y, held, twice), regression(y, held, levels), atol=1e-10)


def test_columns_are_regressors_and_categories_are_levels():
    activity = mock_activity()
    activity = activity.assign_coords(side=("condition", list("lrlrlrlr")), n_seen=("condition", np.arange(8)))
    seen = variables_of(activity, ["n_seen", "side"])
    assert seen.shape == (8, 4)
    np.testing.assert_array_equal(seen[:, 1], np.arange(8))
    np.testing.assert_array_equal(seen[:, 2:], np.array([[1, 0], [0, 1]] * 4))
    np.testing.assert_allclose(seen[:, 0], activity["u"].values.mean(axis=1)[:, 0], atol=1e-6)
    table = nl.baselines(activity, rank=1, columns=["side"], **OPTIONS)
    assert not table.equals(nl.baselines(activity, rank=1, **OPTIONS))
    with pytest.raises(ContractError, match="columns has 'choice'"):
        nl.baselines(activity, rank=1, columns=["choice"], **OPTIONS)


def test_components_are_the_best_linear_subspace_of_the_training_data():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((12, 10, 2)) @ rng.standard_normal((2, 6)) + rng.standard_normal(6)
    held = np.arange(12) < 3
    np.testing.assert_allclose(components(y, held, 2), y, atol=1e-10)
    scores = [by_split(y, components(y, held, k), held)[0] for k in (1, 2)]
    assert scores[0][0] < scores[1][0] == pytest.approx(1)


def test_references_do_not_depend_on_the_order_of_conditions_or_neurons():
    rng = np.random.default_rng(1)
    y, levels, held = rng.standard_normal((12, 10, 5)), rng.standard_normal((12, 2)), np.arange(12) < 4
    y[3, 2, 1] = y[6, 4, 2] = np.nan
    c, n = rng.permutation(12), rng.permutation(5)
    moved = y[c][..., n]
    for a, b in (
        (time_course(y, held), time_course(moved, held[c])),
        (regression(y, held, levels), regression(moved, held[c], levels[c])),
        (components(y, held, 2), components(moved, held[c], 2)),
    ):
        np.testing.assert_allclose(a[c][..., n], b, atol=1e-10)
    one, other = by_split(y, time_course(y, held), held), by_split(moved, time_course(moved, held[c]), held[c])
    np.testing.assert_allclose(one[0], other[0])
    np.testing.assert_allclose(one[2][:, n], other[2])
    assert abs(one[0][0] - 0.1) < 0.3
