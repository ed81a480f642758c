"""The published trained networks come back from their noisy activity (`pytest -m slow tests/model -s`: the table)."""

from time import perf_counter

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.contract import ContractError
from nwb_lint.model.r2 import r_squared
from nwb_lint.model.rnn import Network, drives, forward
from nwb_lint.tasks.teachers import PRIVATE_NOISE, Teacher, load_teacher, simulate_teacher

TRAIN, TEST = 800, 200


@pytest.fixture
def small(tmp_path):
    """A random teacher of 20 neurons in a file named after its task."""
    rng = np.random.default_rng(0)
    m, n, w = (rng.standard_normal((20, k)).astype(np.float32) for k in (2, 2, 1))
    path = tmp_path / "dm.npz"
    np.savez(path, m=m, n=n, input_weights=w, alpha=0.2)
    return path


def test_teacher_runs_as_the_model_does(small):
    teacher, activity = simulate_teacher(small, 5, 0.0, 0.0, 1)
    u = activity["input"].values
    network = Network(teacher.m, teacher.n, teacher.input_weights)
    x, _ = forward(network, drives(u, teacher.alpha, bias=False, initial=False), teacher.alpha)
    np.testing.assert_allclose(activity["activity"], x, atol=1e-5)


def test_noise_of_a_teacher_is_as_strong_as_asked(small):
    u = np.zeros((200, 2, 1), np.float32)
    assert load_teacher(small).run(u, 0.05, 0)[:, 1].std() == pytest.approx(0.05, rel=0.05)  # not scaled by alpha
    quiet, noisy = (simulate_teacher(small, 50, 0.05, level, 1)[1]["activity"].values for level in (0.0, 0.5))
    assert (noisy - quiet).std() == pytest.approx(0.5 * quiet.std(), rel=0.02)


def test_teacher_files_are_checked(small):
    np.savez(small.with_name("wm.npz"), m=np.ones((3, 1)))
    for name, told in (("wm", "lacks n, input_weights, alpha"), ("other", "named after a task")):
        with pytest.raises(ContractError, match=told):
            load_teacher(small.with_name(f"{name}.npz"))


def test_effective_connectivity_is_that_of_the_package(small):
    teacher = load_teacher(small)
    assert isinstance(teacher, Teacher)
    span = np.column_stack([teacher.m, teacher.input_weights])
    inside = span @ np.linalg.lstsq(span, teacher.n, rcond=None)[0]
    np.testing.assert_allclose(teacher.effective_connectivity(), teacher.m @ inside.T / 20, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("observation", [0.0, 1.0])
@pytest.mark.parametrize("task", list(PRIVATE_NOISE))
def test_teacher_comes_back(task, observation, shared_data):
    path = shared_data / "teachers" / f"{task}.npz"
    teacher, activity = simulate_teacher(path, TRAIN + TEST, PRIVATE_NOISE[task], observation, 1)
    held = np.arange(TRAIN, TRAIN + TEST)
    start = perf_counter()
    fit = nl.fit_lint(activity, rank=teacher.m.shape[1], tau_s=0.02 / teacher.alpha, holdout=held)
    seconds = perf_counter() - start
    truth = np.tanh(teacher.run(activity["input"].values[held]))
    r2, _ = r_squared(truth, np.tanh(fit["activity_pred"].values[held]), truth.mean(axis=(0, 1)))
    found = nl.connectivity(fit)["connectivity"].values.ravel()
    raw = nl.connectivity(fit, effective=False)["connectivity"].values.ravel()
    ecc = np.corrcoef(teacher.effective_connectivity().ravel(), found)[0, 1]
    cc = np.corrcoef((teacher.m @ teacher.n.T).ravel(), raw)[0, 1]
    print(f"\n{task} noise {observation:g}: R2 {r2:.5f} ECC {ecc:.5f} CC {cc:.3f} {seconds:.1f} s")
    assert r2 >= 0.999
    assert ecc >= (0.99 if observation else 0.999)
