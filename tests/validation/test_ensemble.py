"""Agreement between members is what the N × N matrices say, whatever the gauge; a known network agrees with itself."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity
from nwb_lint.validation.ensemble import agreement, as_good

OPTIONS = {"tau_s": 0.1, "rank": 1, "method": "regression"}


def matrices(table):
    m, p = table["m"].values, table["n_effective"].values
    return np.einsum("kir,kjr->kij", m, p) / table.attrs["n_neurons"]


def test_agreement_from_factors_is_that_of_the_matrices():
    rng = np.random.default_rng(0)
    m, p = rng.standard_normal((4, 9, 2)) + 0.3, rng.standard_normal((4, 9, 2)) + 0.2
    j = np.einsum("kir,kjr->kij", m, p).reshape(4, -1) / 11
    pearson, cosine = agreement(m, p, 11)
    np.testing.assert_allclose(pearson, np.corrcoef(j), atol=1e-12)
    norm = np.linalg.norm(j, axis=1)
    np.testing.assert_allclose(cosine, j @ j.T / np.outer(norm, norm), atol=1e-12)
    turn = rng.standard_normal((4, 2, 2))
    again = agreement(m @ turn, p @ np.linalg.inv(turn).transpose(0, 2, 1), 11)
    np.testing.assert_allclose(again, (pearson, cosine), atol=1e-10)


@pytest.mark.parametrize("vary", ["fold", "subsample", "half", "seed", "ridge"])
def test_members_of_a_known_network_agree_with_each_other_and_with_it(vary, truth):
    known = truth(neurons=24, conditions=36)
    activity = known.activity
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(activity["activity"].shape)
    dims = activity["activity"].dims
    activity["activity_half"] = ("half", *dims), (activity["activity"].values + np.stack([noise, -noise])).astype("f4")
    activity["n_trials_half"] = ("half", "condition", "neuron"), np.full((2, 36, 24), 5)
    table = nl.ensemble(activity, vary=vary, members=4, **OPTIONS)
    number = 8 if vary == "ridge" else 4
    assert table["pearson"].shape == (number, number)
    assert table["m"].dims == ("member", "neuron", "rank")
    good = table["as_good"].values
    assert table["r2"].values[good, 0].min() > 0.98
    assert (table["r2_ceiling"].values[:, 0] > 0.95).all()
    j, true = matrices(table)[good], known.effective()
    assert min(np.corrcoef(one.ravel(), true.ravel())[0, 1] for one in j) > 0.97
    if good.sum() > 1:
        pairs = np.triu_indices(len(j), 1)
        assert table.attrs["pearson"] == pytest.approx(np.corrcoef(j.reshape(len(j), -1))[pairs].mean())
        for name, axis in (("spread_post", 1), ("spread_pre", 0)):
            spread = np.sqrt(j.var(axis=0, ddof=1).sum(axis=axis) / (j.mean(axis=0) ** 2).sum(axis=axis))
            np.testing.assert_allclose(table[name], spread, rtol=1e-6, atol=1e-7)


def test_a_member_is_the_fit_of_its_conditions(truth):
    activity = truth(neurons=12, conditions=20).activity
    table, masks = nl.ensemble(activity, members=4, seed=3, **OPTIONS), []

    def prepared(train):
        masks.append(train)
        return activity

    xr.testing.assert_identical(nl.ensemble(prepared, members=4, seed=3, **OPTIONS), table)
    np.testing.assert_array_equal((~np.array(masks[1:])).sum(axis=0), 1)
    for k, train in enumerate(masks[1:]):
        fit = nl.fit_lint(activity, test_conditions=~train, seed=3 + k, **OPTIONS)
        np.testing.assert_array_equal(table["r2"][k], fit["r2"])
        np.testing.assert_allclose(
            matrices(table)[k], nl.connectivity(fit)["connectivity"], atol=1e-12 * abs(fit["m"].values).max()
        )


def test_held_out_conditions_stay_out_and_halves_are_apart(truth):
    activity = truth(neurons=12, conditions=20).activity
    held = np.arange(20) >= 15
    marked = activity.assign_coords(held_out=("condition", held))
    other = marked.copy(deep=True)
    other["activity"][15:] = 50.0
    for vary in ("fold", "subsample", "seed", "ridge"):
        a, b = (nl.ensemble(one, vary=vary, members=3, **OPTIONS) for one in (marked, other))
        np.testing.assert_array_equal(a["m"], b["m"])
    halves = mock_activity()
    second = halves.copy(deep=True)
    second["activity_half"][1] *= 2
    a, b = (nl.ensemble(one, vary="half", members=4, **OPTIONS) for one in (halves, second))
    np.testing.assert_array_equal(a["half"], [0, 1, 0, 1])
    np.testing.assert_array_equal(a["m"][::2], b["m"][::2])
    assert (a["n_effective"][1::2] != b["n_effective"][1::2]).any()


def test_hidden_units_count_in_n_and_are_not_compared(truth):
    activity = truth(neurons=12, conditions=12).activity
    options = OPTIONS | {"method": "auto", "hidden": 5, "max_iter": 5}
    table = nl.ensemble(activity, vary="seed", members=2, **options)
    assert table.attrs["n_neurons"] == 17
    assert table.sizes["neuron"] == 12


def test_as_good_is_within_a_paired_standard_error():
    errors = np.ones((3, 8)) + np.linspace(0, 1, 8)  # what conditions differ in does not count
    errors[1] += np.where(np.arange(8) % 2, 0.3, -0.28)
    errors[2] += 0.05
    np.testing.assert_array_equal(as_good(errors), [True, True, False])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vary": "day"}, r"vary.*fold"),
        ({"members": 1}, "at least 2"),
        ({"rank": None}, "rank is None"),
        ({"vary": "half"}, "no trial halves"),
        ({"members": 13}, "members is 13"),
        ({"vary": "ridge", "ridges": (0.1,)}, "at least 2"),
    ],
)
def test_wrong_options_are_errors(truth, options, words):
    with pytest.raises(ContractError, match=words):
        nl.ensemble(truth(neurons=12, conditions=12).activity, **(OPTIONS | options))
