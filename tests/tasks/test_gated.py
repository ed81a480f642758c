"""Tasks with a target at every step, and the gated networks that are trained on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lint.errors import ContractError
from nwb_lint.tasks._torch import gated_outputs
from nwb_lint.tasks.continuous import TASKS, flip_flop, multitask
from nwb_lint.tasks.gated import gated_step, run_gated, train_gated

RNG = np.random.default_rng(0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_steps=st.integers(4, 300))
def test_a_flip_flop_changes_with_pulses_alone(seed, n_steps):
    trials = flip_flop(5, seed, n_steps=n_steps)
    u, target = trials["u"].values, trials["target"].values
    change = np.diff(target, axis=1, prepend=0)
    assert not change[:, :3].any()
    assert (u[change > 0] > 0.1).all()  # a pulse of 1, less six standard deviations of the noise
    assert (u[change < 0] < -0.1).all()
    assert (target[u > 0.9] == 1).all()  # no noise is as large
    assert (target[u < -0.9] == 0).all()
    assert not trials["weight"].values[:, :5].any()
    assert trials.identical(flip_flop(5, seed, n_steps=n_steps))


def test_a_flip_flop_has_pulses_and_noise_as_often_as_it_says():
    trials = flip_flop(100, 1)
    u, target, weight = (trials[name].values for name in ("u", "target", "weight"))
    assert (np.abs(u) > 0.6).mean() == pytest.approx(0.02, rel=0.1)
    assert u[:, :3].std() == pytest.approx(0.15, rel=0.05)
    turned = np.argwhere(np.diff(target, axis=1) != 0)
    some = turned[(turned[:, 1] > 10) & (turned[:, 1] < 480)]
    after = np.stack([weight[some[:, 0], some[:, 1] + 1 + step, some[:, 2]] for step in range(5)])
    assert not after[1:5].any()  # four steps after the first with the new target
    assert after[0].mean() > 0.8


@pytest.mark.parametrize("task", TASKS)
def test_a_task_answers_with_a_direction_that_was_shown(task):
    trials = multitask(60, 3, tasks=(task,))
    u, target = trials["u"].values, trials["target"].values
    ends, starts = trials["n_steps"].values, trials["response"].values
    assert (starts < ends).all()
    assert ends.max() <= 320
    for k in range(60):
        start, end = starts[k], ends[k]
        assert not u[k, end:].any()
        assert not target[k, end:].any()
        assert (target[k, :start, 0] == 1).all()
        assert not target[k, start:end, 0].any()
        answer = target[k, end - 1, 1:]
        size = np.hypot(*answer)
        assert size == pytest.approx(1, abs=1e-6) or size == 0
        assert size == 1 or "Match" in task
        # the direction, or its opposite, is seen in the inputs at some time
        shown = np.concatenate([u[k, :end, 1:3], u[k, :end, 3:5]]) @ answer
        assert size == 0 or np.abs(shown).max() > 0.5
    mean = u[:, :10, 5:].mean(axis=(0, 1))
    np.testing.assert_allclose(mean, np.arange(15) == TASKS.index(task), atol=0.06)
    assert (u[:, :10, 5:] - mean).std() == pytest.approx(0.3, rel=0.05)


def test_pro_and_anti_tasks_answer_oppositely():
    for kind in ("Delay", "React"):
        for name, sign in (("Pro", 1), ("Anti", -1)):
            trials = multitask(40, 5, tasks=(f"{kind}{name}",))
            last = trials["n_steps"].values - 1
            at = np.arange(40), last
            shown = trials["u"].values[:, :, 1:3]
            mean = np.stack([shown[k, trials["response"].values[k] : last[k]].mean(axis=0) for k in range(40)])
            along = (mean * trials["target"].values[at][:, 1:]).sum(axis=1)
            assert (np.sign(along) == sign).all()


def test_contexts_count_one_modality_each():
    trials = multitask(300, 7, tasks=("ContextIntMod1", "ContextIntMod2", "ContextIntMultimodal"))
    answer = trials["target"].values[np.arange(900), trials["n_steps"].values - 1, 1:]
    along = [(trials["u"].values[:, :, k : k + 2] * answer[:, None]).sum(axis=2).max(axis=1) for k in (1, 3)]
    more = (along[0] - along[1]).reshape(3, 300).mean(axis=1)
    assert more[0] > 0.05 > -0.05 > more[1]  # the winner is larger in the modality that counts
    assert abs(more[2]) < 0.05


def test_trials_are_cut_at_the_longest():
    short, long = (multitask(3, 1, n_steps=n) for n in (None, 320))
    assert short.sizes["time"] == short["n_steps"].max()
    np.testing.assert_array_equal(short["u"], long["u"][:, : short.sizes["time"]])


@pytest.mark.parametrize("wrong", [lambda: flip_flop(0), lambda: multitask(0), lambda: multitask(1, tasks=("GoPro",)),
                                   lambda: train_gated("dm"), lambda: train_gated("flip-flop", n_units=0)])  # fmt: skip
def test_wrong_numbers_and_names_are_refused(wrong):
    with pytest.raises(ContractError, match=r"needs|Choose"):
        wrong()


def some_weights(n=7, inputs=3, outputs=2):
    shapes = {"input_weights": (3 * n, inputs), "input_bias": (3 * n,), "recurrent_weights": (3 * n, n)}
    shapes |= {"recurrent_bias": (3 * n,), "readout": (outputs, n), "readout_bias": (outputs,), "initial_state": (n,)}
    return {name: torch.tensor(RNG.standard_normal(shape), requires_grad=True) for name, shape in shapes.items()}


def test_outputs_and_gradients_are_those_of_torch():
    """Two implementations agree: ours over the whole trial, and torch's cell step by step."""
    ours, theirs = (some := some_weights()), {k: v.detach().clone().requires_grad_() for k, v in some.items()}
    u, noise, first = (torch.tensor(RNG.standard_normal(shape)) for shape in ((4, 9, 3), (9, 4, 7), (4, 7)))
    z = gated_outputs(ours, u, noise, first)
    cell = torch.nn.GRUCell(3, 7, dtype=torch.float64)
    names = {"weight_ih": "input_weights", "weight_hh": "recurrent_weights"}
    names |= {"bias_ih": "input_bias", "bias_hh": "recurrent_bias"}
    h, outputs = theirs["initial_state"] + first, []
    for t in range(9):
        new = torch.func.functional_call(cell, {k: theirs[v] for k, v in names.items()}, (u[:, t], h))
        outputs.append(new @ theirs["readout"].T + theirs["readout_bias"])
        h = new + noise[t]
    expected = torch.stack(outputs, dim=1)
    torch.testing.assert_close(z, expected)
    (z**3).sum().backward()
    (expected**3).sum().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad)


@pytest.fixture(scope="module")
def network():
    return train_gated("flip-flop", n_units=24, seed=3, updates=200)


def test_a_network_runs_as_it_was_trained(network):
    u = flip_flop(3, 2, n_steps=12)["u"].values
    states, outputs = run_gated(network, u, seed=None)
    tensors = {name: torch.tensor(v.values.reshape(-1, *v.shape[2:]) if "gate" in v.dims else v.values)
               for name, v in network.data_vars.items()}  # fmt: skip
    none = torch.zeros(12, 3, 24, dtype=torch.float64)
    np.testing.assert_allclose(outputs, gated_outputs(tensors, torch.tensor(u, dtype=torch.float64), none, none[0]))
    np.testing.assert_allclose(gated_step(network, u[:, 5], states[:, 4]), states[:, 5])


def test_training_lowers_the_error_and_noise_is_added(network):
    trials = flip_flop(40, 77, n_steps=100)
    assert network.attrs["error"] < 0.25
    error = [(((run_gated(net, trials["u"].values)[1] - trials["target"]) ** 2) * trials["weight"]).mean()
             for net in (network, train_gated("flip-flop", n_units=24, seed=3, updates=1))]  # fmt: skip
    assert error[0] < 0.8 * error[1]
    calm, one, same = (run_gated(network, trials["u"].values, seed=seed)[0] for seed in (None, 1, 1))
    np.testing.assert_array_equal(one, same)
    assert (one - calm)[:, 0].std() == pytest.approx(0.05, rel=0.5)
    with pytest.raises(ContractError, match="inputs of the"):
        run_gated(network, np.zeros((2, 5, 4)))
