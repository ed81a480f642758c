"""The published trained networks come back from their noisy activity (`pytest -m slow tests/model -s`: the table)."""

from time import perf_counter

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.scores import r_squared
from nwb_lint.model.simulate import run
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.teachers import load_teacher
from nwb_lint.tasks.train import PRIVATE_NOISE, effective_connectivity

TRAIN, TEST = 400, 100
TRAIN_NOISY_DMS = 800  # 400 trials determine J less well (correlation .85)


@pytest.fixture
def small(tmp_path):
    """A random teacher of 20 neurons in a file named after its task."""
    rng = np.random.default_rng(0)
    m, n, w = (rng.standard_normal((20, k)).astype(np.float32) for k in (2, 2, 1))
    path = tmp_path / "dm.npz"
    np.savez(path, m=m, n=n, input_weights=w, alpha=0.2)
    return path


def test_recorded_activity_without_noise_is_what_the_model_runs(small):
    network = load_teacher(small)
    activity = record_activity(network, 5, private_noise=0.0, seed=1)
    np.testing.assert_allclose(activity["activity"], run(network, activity)["activity"], atol=1e-5)
    assert set(activity["answer"].values) <= {-1, 1}


def test_noise_is_as_strong_as_asked(small):
    network = load_teacher(small)
    noisy, still = (record_activity(network, 200, private_noise=level, seed=1)["activity"][:, 1] for level in (0.05, 0))
    assert float((noisy - still).std()) == pytest.approx(0.05, rel=0.05)  # not scaled by alpha
    quiet, loud = (record_activity(network, 50, observation_noise=k, seed=1)["activity"].values for k in (0.0, 0.5))
    assert (loud - quiet).std() == pytest.approx(0.5 * quiet.std(), rel=0.02)


def test_teacher_files_are_checked(small):
    np.savez(small.with_name("wm.npz"), m=np.ones((3, 1)))
    for name, words in (("wm", "lacks n, input_weights, alpha"), ("other", "named after a task")):
        with pytest.raises(ContractError, match=words):
            load_teacher(small.with_name(f"{name}.npz"))


def test_effective_connectivity_is_that_of_the_package(small):
    network = load_teacher(small)
    m, n = network["m"].values, network["n"].values
    span = np.column_stack([m, network["input_weights"].values])
    inside = span @ np.linalg.lstsq(span, n, rcond=None)[0]
    np.testing.assert_allclose(effective_connectivity(network), m @ inside.T / 20, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("observation", [0.0, 1.0])
@pytest.mark.parametrize("task", ["dm", "wm", "cdm", "dms"])
def test_teacher_comes_back(task, observation, shared_data):
    network = load_teacher(shared_data / "teachers" / f"{task}.npz")
    n_train = TRAIN_NOISY_DMS if task == "dms" and observation else TRAIN
    activity = record_activity(network, n_train + TEST, observation_noise=observation, seed=1)
    held = np.arange(n_train, n_train + TEST)
    start = perf_counter()
    fit = nl.fit_lint(activity, rank=network.sizes["rank"], tau_s=network.attrs["tau_s"], test_conditions=held)
    seconds = perf_counter() - start
    truth = np.tanh(run(network, activity.isel(condition=held))["activity"].values)
    r2, _ = r_squared(truth, np.tanh(fit["activity_pred"].values[held]), truth.mean(axis=(0, 1)))
    found = nl.connectivity(fit)["connectivity"].values.ravel()
    raw = nl.connectivity(fit, effective=False)["connectivity"].values.ravel()
    ecc = np.corrcoef(effective_connectivity(network).ravel(), found)[0, 1]
    cc = np.corrcoef((network["m"].values @ network["n"].values.T).ravel(), raw)[0, 1]
    print(f"\n{task} noise {observation:g}: R2 {r2:.5f} ECC {ecc:.5f} CC {cc:.3f} {seconds:.1f} s")
    assert PRIVATE_NOISE[task] == activity.attrs["private_noise"]
    assert r2 >= 0.999
    assert ecc >= (0.99 if observation else 0.999)
