"""The rank of single trials is chosen by co-smoothing of held-out trials."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.scores import good_ranks
from nwb_lint.testing import mock_activity, mock_trials

FAST = {"tau_s": 0.1, "folds": 2, "hidden": 0, "max_iter": 3}


@pytest.fixture(scope="module")
def trials():
    return mock_trials(n_neurons=20, n_trials=24)


def test_every_fold_is_scored_on_its_own_trials(trials, tmp_path):
    """A fold gives what a fit to its training trials gives, also from the cache; the rule is that of means."""
    table = nl.select_rank(trials, ranks=[1, 2], cache_dir=tmp_path, **FAST)
    held = np.isin(np.arange(24), np.array_split(np.random.default_rng(0).permutation(24), 2)[1])
    fit = nl.fit_trials(trials.isel(trial=~held), rank=2, tau_s=0.1, hidden=0, max_iter=3)
    bits = nl.bits_per_spike(fit, trials.isel(trial=held))["co_smoothing"]
    assert float(table["bits"].sel(rank_tried=2)[0, 1, 1]) == pytest.approx(float(bits), abs=1e-12)
    np.testing.assert_allclose(table["rank_bits"], table["bits"].mean(("seed", "fold")))
    held_out = table["bits"].values[..., 0, :, 1]
    best = held_out.mean(axis=1).argmax()
    np.testing.assert_allclose(table["rank_deficit"], (held_out[best] - held_out).mean(axis=1), atol=1e-12)
    assert table.attrs["rank"] == 1
    assert len(list(tmp_path.iterdir())) == 4
    xr.testing.assert_identical(nl.select_rank(trials, ranks=[1, 2], cache_dir=tmp_path, **FAST), table)


def test_a_rank_that_adds_less_than_half_a_percent_of_the_bits_is_not_chosen():
    """The differences between ranks are certain (standard error 0), so that the share alone decides."""
    table = xr.Dataset(coords={"rank_tried": [1, 2, 3], "split": ["train", "held_out"]})
    table["rank_deficit_sem"] = "rank_tried", np.zeros(3)
    for held_out, good in (([0.2, 0.3985, 0.4], [False, True, True]), ([0.2, 0.397, 0.4], [False, False, True])):
        table["rank_bits"] = ("rank_tried", "split"), np.column_stack([np.ones(3), held_out])
        table["rank_deficit"] = "rank_tried", 0.4 - np.array(held_out)
        np.testing.assert_array_equal(good_ranks(table), good)
        np.testing.assert_array_equal(good_ranks(table.drop_vars("rank_bits")), [False, False, True])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cv_over": "neuron"}, "single trials"), ({"test_size": 3}, "own"), ({"observation": "gaussian"}, "counts"),
        ({"folds": 30}, "24 trials"), ({"l2_n": 1.0}, "fit_trials"), ({"max_iter": 0}, "max_iter"),
    ],
)  # fmt: skip
def test_what_does_not_suit_trials_is_refused(trials, change, message):
    with pytest.raises(ContractError, match=message):
        nl.select_rank(trials, ranks=[1], **FAST | change)


def test_options_of_trials_are_refused_for_means():
    with pytest.raises(ContractError, match=r"no argument link.*fit_lint"):
        nl.select_rank(mock_activity(), ranks=[1], tau_s=0.1, link="exp")
