"""A trial without an observed sample has no score: where each trial has one, it is an error that names the trial."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_trials

HOW = {"tau_s": 0.1, "hidden": 0, "max_iter": 2, "folds": 2}
SETS = {"stimulus": [nl.Input("stimulus", column="stimulus")], "always": [nl.Input("always", window_s=(0, 1))]}


def with_areas(trials):
    return nl.prepare(trials.assign_coords(area=("neuron", np.resize(["a", "b"], trials.sizes["neuron"]))), inputs=[])


def with_behavior(trials):
    return nl.prepare(trials, inputs=[], readouts=[nl.Readout("choice", column="choice")])


CALLS = {
    "infer_inputs of a column": lambda trials: nl.infer_inputs(trials, rank=1, by="choice", **HOW),
    "infer_inputs of each trial": lambda trials: nl.infer_inputs(trials, rank=1, by="trial", **HOW),
    "compare_inputs": lambda trials: nl.compare_inputs(trials, SETS, rank=1, **HOW),
    "compare_drift": lambda trials: nl.compare_drift(trials, rank=1, drifts=[0, 1], **HOW),
    "select_areas": lambda trials: nl.select_areas(with_areas(trials), areas="area", ranks=[1], **HOW),
    "compare_readouts": lambda trials: nl.compare_readouts(with_behavior(trials), rank=1, **HOW),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_trial_without_a_sample_is_refused(call):
    trials = mock_trials(n_trials=24, n_neurons=8)
    seen = np.ones(trials["count"].shape, bool)
    seen[[5, 9]] = False
    seen[2, 3:] = False  # an early end does no harm
    label = trials["trial"].values[5]
    with pytest.raises(ContractError, match=rf"2 of 24 trials have no observed sample; the first is {label}\."):
        call(trials.assign(observed=(trials["count"].dims, seen)))


def test_of_values_nan_is_not_observed_and_counts_beside_them_do_not_matter():
    trials = mock_trials(n_trials=24, n_neurons=8)
    rate = np.log1p(trials["count"].values.astype(np.float32))
    rate[5] = np.nan
    trials = trials.assign(rate=(trials["count"].dims, rate))
    how = {"rank": 1, "drifts": [0, 1], **HOW}
    with pytest.raises(ContractError, match=r"1 of 24 trials have no observed sample"):
        nl.compare_drift(trials, observation="gaussian", **how)
    assert np.isfinite(nl.compare_drift(trials, **how)["evidence_condition"]).all()
    left = trials.drop_isel(trial=5)
    assert np.isfinite(nl.compare_drift(left, observation="gaussian", **how)["evidence_condition"]).all()
