"""Trials of the tasks: inputs, delays and answers as the paper has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.errors import ContractError
from nwb_lint.tasks.generate import TASKS, k_back

SHAPES = {"dm": (75, 1, 0.03), "wm": (120, 1, 0.01), "cdm": (68, 4, 0.1), "dms": (255, 2, 0.03)}
SHAPES |= {f"{k}-back": (30 * k, 1, 0.03) for k in (1, 2, 3, 4)}


@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_trials=st.integers(1, 40))
def test_every_trial_has_a_response_window_with_the_answer(name, seed, n_trials):
    trials = TASKS[name](n_trials, seed)
    n_steps, n_inputs, _ = SHAPES[name]
    assert trials["u"].shape == (n_trials, n_steps, n_inputs)
    assert trials["mask"].any("time").all()
    mean = trials["target"].isel(output=0).where(trials["mask"]).mean("time")
    np.testing.assert_array_equal(np.sign(mean), trials["answer"])
    assert not trials["target"].isel(output=0).where(~trials["mask"], 0).any()
    assert trials.identical(TASKS[name](n_trials, seed))


@pytest.mark.parametrize("name", TASKS)
def test_input_noise_has_the_sd_of_the_table(name):
    trials = TASKS[name](300, 3)
    fixation = trials["u"].values[:, :5]
    sensory = fixation[..., :2] if name == "cdm" else fixation
    assert sensory.std() == pytest.approx(SHAPES[name][2], rel=0.05)
    assert trials.attrs["dt_s"] == 0.02
    assert trials.attrs["tau_s"] == 0.1


def test_dm_shows_the_coherence_for_800_ms():
    trials = TASKS["dm"](2000, 0)
    shown = trials["u"].isel(input=0, time=slice(5, 45)).mean("time")
    np.testing.assert_allclose(shown, trials.coherence, atol=0.03)
    assert sorted(set(np.round(trials.coherence.values / 0.032))) == [-16, -8, -4, -2, -1, 1, 2, 4, 8, 16]
    assert np.abs(trials["u"].isel(input=0, time=slice(45, None)).mean("time")).max() < 0.03


def test_wm_frequencies_delays_and_target():
    trials = TASKS["wm"](2000, 0)
    assert set((trials.f2 - trials.f1).values) == {-24, -16, -8, 8, 16, 24}
    assert trials.f1.values.min() == trials.f2.values.min() == 10
    assert trials.f1.values.max() == trials.f2.values.max() == 34
    assert trials.delay_s.values.min() == pytest.approx(0.5)
    assert trials.delay_s.values.max() == pytest.approx(2.0)
    first = trials["u"].isel(input=0, time=slice(5, 10)).mean("time")
    np.testing.assert_allclose(first, (trials.f1 - 22) / 24, atol=0.03)
    before = np.argmax(trials["mask"].values, axis=1)  # the pulse of f2 ends where the response begins
    second = np.array([u[k - 5 : k, 0].mean() for u, k in zip(trials["u"].values, before, strict=True)])
    np.testing.assert_allclose(second, (trials.f2 - 22) / 24, atol=0.03)
    np.testing.assert_allclose(trials["target"].sum(["time", "output"]) / 5, (trials.f1 - trials.f2) / 24, atol=1e-6)


def test_cdm_cues_run_from_fixation_to_response_and_name_the_stimulus():
    trials = TASKS["cdm"](500, 0)
    cues = trials["u"].values[..., 2:]
    assert not cues[:, :5].any()
    assert not cues[:, 67].any()
    np.testing.assert_array_equal(cues[:, 5:67].sum(axis=2), 1)
    motion = trials.context.values == "motion"
    np.testing.assert_array_equal(cues[:, 30, 0] == 1, motion)
    wanted = np.sign(np.where(motion, trials.motion, trials.color))
    np.testing.assert_array_equal(trials.answer, wanted)
    shown = trials["u"].isel(input=[0, 1], time=slice(22, 62)).mean("time").values
    np.testing.assert_allclose(shown, np.c_[trials.motion, trials.color], atol=0.09)


def test_dms_stimuli_are_one_hot_and_the_match_is_the_answer():
    trials = TASKS["dms"](500, 0)
    u = trials["u"].values
    first = u[:, 5:30].mean(axis=1)
    np.testing.assert_array_equal(np.array(["A", "B"])[first.argmax(axis=1)], trials["first"])
    np.testing.assert_array_equal((trials["first"] == trials["second"]).values, trials.answer.values == 1)
    np.testing.assert_allclose(u.sum(axis=(1, 2)), 50, atol=4)  # two stimuli of 25 steps each, and noise
    assert trials["mask"].sum("time").values.tolist() == [50] * 500
    assert trials.delay_s.values.max() - trials.delay_s.values.min() > 2.3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_k_back_answers_with_the_kth_last_pulse(k):
    trials = k_back(300, 1, k=k)
    u = trials["u"].values[..., 0]
    for row in range(300):
        last = int(trials.n_pulses[row]) - k
        assert np.sign(u[row, 5 + 15 * last : 10 + 15 * last].mean()) == trials.answer[row]
        assert np.abs(u[row, 5 + 15 * (last + k) :].mean()) < 0.05  # nothing after the last pulse
    with pytest.raises(ContractError, match="k is 0"):
        k_back(3, k=0)


@pytest.mark.parametrize("name", ["wm", "dms"])
def test_delays_lie_between_the_given_lengths(name):
    delay = TASKS[name](200, 1, delay_ms=(100, 300)).delay_s.values
    assert delay.min() == pytest.approx(0.1)
    assert delay.max() == pytest.approx(0.3)
    with pytest.raises(ContractError, match="delay_ms"):
        TASKS[name](2, 1, delay_ms=(300, 100))


@pytest.mark.parametrize("name", TASKS)
def test_no_trials_is_refused(name):
    with pytest.raises(ContractError, match="at least 1 trial"):
        TASKS[name](0, 0)
