"""The rank of a clean teacher is chosen, whoever computes; preparation inside folds sees training conditions only."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.contract import ContractError

OPTIONS = {"tau_s": 0.1, "folds": 3, "method": "regression"}


@pytest.mark.parametrize("rank", [1, 2])
def test_rank_of_a_teacher(truth, rank):
    activity = truth(rank=rank, neurons=24, conditions=36).activity
    table = nl.select_rank(activity, ranks=[1, 2, 3], **OPTIONS)
    assert table.attrs["rank"] == rank
    r2 = table["r2"].values
    assert r2.shape == (3, 1, 3, 2)
    np.testing.assert_allclose(table["rank_r2"], r2.mean(axis=(1, 2)))
    np.testing.assert_allclose(table["rank_r2_sem"], r2.std(axis=(1, 2), ddof=1) / np.sqrt(3))
    with ThreadPoolExecutor(2) as executor:
        xr.testing.assert_identical(nl.select_rank(activity, ranks=[1, 2, 3], executor=executor, **OPTIONS), table)


def test_folds_hold_every_condition_out_once_a_seed(truth):
    activity, masks = truth(neurons=12, conditions=12).activity, []

    def prepared(train):
        masks.append(train)
        return activity

    table = nl.select_rank(prepared, ranks=[1], seeds=2, **OPTIONS)
    assert masks[0] is None
    held = ~np.array(masks[1:]).reshape(2, 3, 12)
    np.testing.assert_array_equal(held.sum(axis=1), 1)
    assert (held[0] != held[1]).any()
    assert table["r2"].shape == (1, 2, 3, 2)
    one = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", holdout=held[1, 2], seed=1)
    np.testing.assert_array_equal(table["r2"].values[0, 1, 2], one["r2"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ranks": []}, "0 ranks"),
        ({"folds": 1}, "1 folds"),
        ({"folds": 13}, "13 folds"),
        ({"hold": "trial"}, "trial"),
    ],
)
def test_errors_are_one_line(truth, options, told):
    activity = truth(neurons=12, conditions=12).activity
    with pytest.raises(ContractError) as caught:
        nl.select_rank(activity, **({"ranks": [1]} | OPTIONS | options))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
