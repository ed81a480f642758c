"""Task networks reach their criterion, run as fits do, and answer right."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.simulate import run
from nwb_lint.tasks.generate import TASKS, as_conditions
from nwb_lint.tasks.record import record_activity, record_session
from nwb_lint.tasks.train import accuracy_of, train_network


@pytest.fixture(scope="module")
def network():
    return train_network("dm", n_neurons=64, rank=1, seed=0)


def test_a_trained_network_answers_fresh_trials_and_an_untrained_one_does_not(network):
    trials = TASKS["dm"](1000, 12345)
    assert network.attrs["accuracy"] >= 0.99
    assert accuracy_of(network, trials) >= 0.98
    assert accuracy_of(network, trials, -network["readout"]) <= 0.02
    untrained = network.assign(m=0 * network["m"])
    assert accuracy_of(untrained, trials) < accuracy_of(network, trials)


def test_the_output_is_the_mean_over_neurons_by_an_independent_loop(network):
    trials = TASKS["dm"](20, 3)
    x = np.zeros((20, 64))
    j = network["m"].values @ network["n"].values.T / 64
    total = np.zeros(20)
    for t in range(75):
        total += np.tanh(x) @ network["readout"].values / 64 * trials["mask"].values[:, t]
        x = 0.8 * x + 0.2 * (np.tanh(x) @ j.T + trials["u"].values[:, t] @ network["input_weights"].values.T)
    right = (np.sign(total) == trials["answer"].values).mean()
    assert accuracy_of(network, trials) == pytest.approx(right)


def test_training_is_the_same_for_the_same_seed(network):
    assert network.identical(train_network("dm", n_neurons=64, rank=1, seed=0))


def error_of(network, trials):
    """Mean squared error of the noise-free output over the response windows."""
    z = np.tanh(run(network, as_conditions(trials))["activity"].values) @ network["readout"].values / 32
    return float(((z - trials["target"].values[..., 0]) ** 2)[trials["mask"].values].mean())


def test_training_goes_on_until_answers_are_distinct():
    trials, options = TASKS["dm"](300, 9), {"n_neurons": 32, "rank": 1, "seed": 1, "accuracy": 0.9}
    first, further = train_network("dm", **options), train_network("dm", **options, error=0.08)
    assert error_of(further, trials) < 0.1 < error_of(first, trials)


def test_full_rank_training_changes_j_inputs_and_readout_at_one_rate():
    network = train_network("cdm", n_neurons=64, seed=2, accuracy=0.9)
    assert network["J"].dims == ("neuron", "neuron_from")
    rng = np.random.default_rng([2, 7])
    inputs, readout = rng.standard_normal((64, 4)), rng.standard_normal(64)
    moved = [np.abs(network["input_weights"] - inputs).max(), np.abs(network["readout"] - readout).max() / 64]
    assert 0.01 < min(moved) < max(moved) < 0.1  # some hundreds of steps of at most about 1e-4
    activity = record_activity(network, 8, private_noise=0.0, seed=4)
    np.testing.assert_allclose(activity["activity"], run(network, activity)["activity"], atol=1e-4)
    assert list(activity["context"].values) == list(as_conditions(TASKS["cdm"](8, 4))["context"].values)


def test_a_recorded_network_is_read_back_by_the_users_route(network, tmp_path):
    path = record_session(network, tmp_path / "dm.nwb", 400, seed=5)
    recording = nl.read_conditions(path, by="coherence", align="start_time", window_s=(0.0, 1.5), bin_s=0.02)
    activity = record_activity(network, 400, seed=5)
    rate = 20 + 8 * np.tanh(activity["activity"])
    truth = rate.groupby(activity["coherence"]).mean("condition")
    assert recording.sizes["condition"] == 10
    read = recording.sortby("coherence")["rate"].values
    assert recording["n_trials"].sum("condition").values.tolist() == [400] * 64
    assert read.mean() == pytest.approx(float(truth.mean()), rel=0.02)
    assert np.corrcoef(read.mean(axis=1).ravel(), truth.mean("time").values.ravel())[0, 1] > 0.9
    with pytest.raises(ContractError, match="base_hz"):
        record_session(network, tmp_path / "other.nwb", 4, base_hz=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "dmm"}, "no task"),
        ({"rank": 99}, "rank is 99"),
        ({"g": -1.0}, "g is"),
        ({"accuracy": 0.4}, "accuracy"),
        ({"error": 0.0}, "error"),
    ],
)
def test_wrong_arguments_are_refused(options, words):
    with pytest.raises(ContractError, match=words):
        train_network(**({"task": "dm", "n_neurons": 8} | options))


@pytest.mark.slow
@pytest.mark.parametrize(("task", "accuracy"), [("wm", 0.9), ("dms", 0.95)])
def test_memory_networks_of_rank_2_reach_the_criterion(task, accuracy):
    network = train_network(task, n_neurons=128, rank=2, seed=1, accuracy=accuracy)
    assert network["m"].sizes["rank"] == 2
    assert accuracy_of(network, TASKS[task](500, 99)) >= accuracy


SMALL_G_NETWORK = pytest.param("dms", 0.4, marks=pytest.mark.nightly)  # 1600 updates


@pytest.mark.slow
@pytest.mark.parametrize(("task", "g"), [("cdm", 0.1), ("cdm", 0.8), ("cdm", 1.2), SMALL_G_NETWORK, ("dms", 1.2)])
def test_full_rank_networks_reach_the_criterion(task, g):
    """0.4 is below SMALL_G, so training begins with the stages for small g. dms at 0.8 is in the test above."""
    network = train_network(task, n_neurons=128, g=g, accuracy=0.95)
    assert accuracy_of(network, TASKS[task](1000, 99)) >= 0.945
