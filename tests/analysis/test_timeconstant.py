"""Time constants that are compared: scores of single fits, the true one found, and conclusions that depend on it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from tests.networks import TAU_S, build

OPTIONS = {"rank": 1, "folds": 2, "method": "regression"}


def test_each_time_constant_is_scored_and_described_as_its_own_fit():
    activity = build(neurons=12, conditions=12, times=20, observation=0.3).activity
    taus = [0.2, 0.1]
    table = nl.compare_tau(activity, taus_s=taus, **OPTIONS)
    for tau in taus:
        own = table.sel(tau_tried=tau)
        ranks = nl.select_rank(activity, ranks=[1], tau_s=tau, folds=2, method="regression")
        np.testing.assert_allclose(own["tau_r2"], ranks["rank_r2"].values[0])
        fit = nl.fit_lint(activity, rank=1, tau_s=tau, method="regression")
        overlaps = nl.connectivity(fit)
        np.testing.assert_allclose(own["overlap_m"], overlaps["overlap_m"])
        np.testing.assert_allclose(own["overlap_input"], overlaps["overlap_input"])
        np.testing.assert_allclose(own["eigenvalue_real"], (own["overlap_m"].values[0] - 1) / tau)
        assert own["n_found"].values.tolist() == nl.fixed_points(fit).attrs["n_found"]


def test_the_true_time_constant_predicts_best():
    table = nl.compare_tau(build(neurons=20, conditions=16, times=20).activity, taus_s=[0.05, TAU_S, 0.3], **OPTIONS)
    assert float(table["tau_tried"][table["tau_deficit"].values.argmin()]) == TAU_S
    assert not table["as_good"].values[-1]


def test_a_number_of_fixed_points_that_depends_on_the_time_constant_is_warned_of():
    noisy = build(neurons=20, conditions=16, times=20, observation=1.5).activity
    with pytest.warns(UserWarning, match="stable fixed points depends on tau_s: 2 with tau_s=0.05; 1 with tau_s=0.1"):
        table = nl.compare_tau(noisy, taus_s=[0.05, 0.1], **OPTIONS)
    assert table.attrs["depends"] == 1
    clear = build(neurons=20, conditions=16, times=20, observation=0.5, seed=3).activity
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nl.compare_tau(clear, taus_s=[0.05, 0.1], **OPTIONS).attrs["depends"] == 0


def test_a_time_constant_that_occurs_twice_is_an_error():
    with pytest.raises(ContractError, match="occurs twice"):
        nl.compare_tau(build(neurons=6, conditions=6, times=10).activity, taus_s=[0.1, 0.1], **OPTIONS)
