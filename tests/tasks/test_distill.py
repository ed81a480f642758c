"""A module of torch runs as it does alone, and its low-rank network does what it does."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from tests.factories import assert_same

torch = pytest.importorskip("torch")

UNITS, INPUTS, DT_S = 12, 2, 0.01
U = np.random.default_rng(0).normal(size=(20, 30, INPUTS)).astype(np.float32)
LAYERS = [torch.nn.GRU, torch.nn.LSTM, torch.nn.RNN]
CELLS = [torch.nn.GRUCell, torch.nn.LSTMCell, torch.nn.RNNCell]


def seeded(make, *args, seed=0, **options):
    torch.manual_seed(seed)
    return make(*args, **options)


def states(layer, u=U):
    """h before every input, by torch alone."""
    inputs = torch.from_numpy(u) if layer.batch_first else torch.from_numpy(u).transpose(0, 1)
    with torch.no_grad():
        found = layer(inputs)[0]
    found = found if layer.batch_first else found.transpose(0, 1)
    return np.concatenate([np.zeros((len(u), 1, found.shape[2])), found.numpy()[:, :-1]], axis=1)


class Task(torch.nn.Module):
    """A layer or cell inside a module that returns its outputs alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.readout = inner, torch.nn.Linear(UNITS, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, u):
        if isinstance(self.inner, torch.nn.RNNCellBase):
            h, out = None, []
            for now in u.unbind(1):
                h = self.inner(now, h)
                out.append(h[0] if isinstance(h, tuple) else h)
            return self.readout(torch.stack(out, 1))
        return self.readout(self.dropout(self.inner(u)[0]))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_runs_as_it_does_alone(kind, batch_first):
    layer = seeded(kind, INPUTS, UNITS, batch_first=batch_first)
    activity = nl.run_module(layer, U, dt_s=DT_S)
    np.testing.assert_allclose(activity["activity"], states(layer), atol=1e-6)
    np.testing.assert_array_equal(activity["u"], U)
    assert activity.attrs["bin_s"] == DT_S
    rates = nl.run_module(layer, U, dt_s=DT_S, states="rate")["activity"]
    np.testing.assert_allclose(np.tanh(rates), states(layer), atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_layer_inside_a_module_is_found_and_the_mode_of_training_stays(kind):
    module = Task(seeded(kind, INPUTS, UNITS, batch_first=True)).train()
    np.testing.assert_allclose(nl.run_module(module, U, dt_s=DT_S)["activity"], states(module.inner), atol=1e-6)
    assert module.training


def test_every_part_keeps_its_mode_and_none_is_random():
    """A frozen part stays in evaluation; one that trains inside a module that does not is run without its dropout."""
    module = Task(seeded(torch.nn.GRU, INPUTS, UNITS, batch_first=True)).train()
    module.readout.eval()
    nl.run_module(module, U, dt_s=DT_S)
    assert [part.training for part in (module, module.inner, module.dropout, module.readout)] == [True] * 3 + [False]

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.rest = torch.nn.Dropout(0.5), torch.nn.Linear(INPUTS, UNITS).double()

        def run(self, u):
            return self.rest(self.dropout(u))

    noisy = Noisy().eval()
    noisy.dropout.train()
    found = nl.run_module(noisy.run, U, dt_s=DT_S)["activity"].values  # a method of a module in double precision
    with torch.no_grad():
        np.testing.assert_allclose(found[:, 1:], noisy.rest(torch.from_numpy(U[:, :-1]).double()), atol=1e-6)


def test_trials_are_not_taken_for_times_where_there_are_as_many():
    """A layer inside a module that does not turn its inputs round takes times first."""
    square = np.random.default_rng(1).normal(size=(30, 30, INPUTS)).astype(np.float32)
    inside = torch.nn.Sequential(seeded(torch.nn.GRU, INPUTS, UNITS))
    with pytest.raises(ContractError, match="Check batch_first"):
        nl.run_module(inside, square, dt_s=DT_S)
    layer = seeded(torch.nn.GRU, INPUTS, UNITS, batch_first=True)
    np.testing.assert_allclose(nl.run_module(layer, square, dt_s=DT_S)["activity"], states(layer, square), atol=1e-6)


@pytest.mark.parametrize(("cell", "layer"), list(zip(CELLS, LAYERS, strict=True)))
def test_a_cell_is_a_layer(cell, layer):
    one = seeded(cell, INPUTS, UNITS)
    same = layer(INPUTS, UNITS, batch_first=True)
    same.load_state_dict({f"{name}_l0": value for name, value in one.state_dict().items()})
    for module in (one, Task(one)):
        np.testing.assert_allclose(nl.run_module(module, U, dt_s=DT_S)["activity"], states(same), atol=1e-6)


def test_a_module_of_other_software_starts_after_a_step_without_input():
    """A leaky integrator with a constant input: the zero step shows its constant."""

    def integrator(u):
        h, out = torch.zeros(len(u), INPUTS), []
        for now in u.unbind(1):
            h = 0.5 * h + now + 1
            out.append(h)
        return torch.stack(out, 1), h

    with pytest.raises(ContractError, match="readout="):
        nl.run_module(integrator, U, dt_s=DT_S)
    found = nl.run_module(integrator, U, dt_s=DT_S, readout=lambda out: out[0])["activity"].values
    np.testing.assert_allclose(found[:, 0], 1)
    np.testing.assert_allclose(found[:, 1:], 0.5 * found[:, :-1] + U[:, :-1] + 1, atol=1e-5)


def test_inputs_keep_their_names_times_and_columns():
    columns = {"trial": [f"t{k}" for k in range(len(U))], "side": ("trial", ["left", "right"] * (len(U) // 2))}
    coords = {"time": 0.02 * np.arange(30) - 0.1, "input": ["motion", "color"], **columns}
    u = xr.DataArray(U, coords, ("trial", "time", "input"))
    layer = seeded(torch.nn.GRU, INPUTS, UNITS)
    found = nl.run_module(layer, xr.Dataset({"u": u}))
    assert found["condition"].values.tolist() == coords["trial"]
    assert found["side"].dims == ("condition",)
    assert found["input"].values.tolist() == ["motion", "color"]
    assert found.attrs["bin_s"] == pytest.approx(0.02)
    np.testing.assert_allclose(found["time"], coords["time"])
    assert_same(found, nl.run_module(layer, u.transpose("input", "trial", "time")))


@pytest.fixture(scope="module")
def teacher():
    """A torch.nn.RNN whose weights have rank 1: a network of ours with alpha = 1."""
    layer, rng = seeded(torch.nn.RNN, 1, UNITS, batch_first=True), np.random.default_rng(1)
    m, n = rng.normal(size=(2, UNITS, 1))
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.from_numpy(m @ (0.7 * m + 0.3 * n).T / UNITS))
    return layer


def test_a_low_rank_module_is_found_again_with_its_states_and_its_step(teacher):
    u = np.random.default_rng(2).normal(size=(40, 30, 1)).astype(np.float32)
    fit = nl.distill(teacher, u, rank=1, dt_s=DT_S, method="regression", hidden=0)
    assert fit.attrs["states"] == "rate"
    assert fit.attrs["tau_s"] == DT_S
    assert fit.attrs["states_r2_held_out"] > 0.9999
    own = nl.from_network(teacher, dt_s=DT_S, u=fit["u"])
    left = np.linalg.svd(own["J"].values)[0][:, 0]
    assert abs(left @ fit["m"].values[:, 0]) > 0.999
    fresh = np.random.default_rng(3).normal(size=(10, 30, 1)).astype(np.float32)
    ran = nl.run_module(teacher, fresh, dt_s=DT_S)
    np.testing.assert_allclose(np.tanh(nl.simulate(fit, ran)["activity"]), ran["activity"], atol=0.02)


def test_the_fit_is_one_like_any_other_and_says_where_it_comes_from(teacher, tmp_path):
    fit = nl.distill(
        teacher, U[..., :1], rank=(1, 2), dt_s=DT_S, tau_s=DT_S, states="rate", method="regression", hidden=4
    )
    assert fit.attrs["module"] == "torch.nn.modules.rnn.RNN"
    assert fit.attrs["module_sizes"] == f"RNN(1, {UNITS}, batch_first=True)"
    assert fit.attrs["module_parameters"] == sum(one.numel() for one in teacher.parameters())
    assert fit["rank_tried"].values.tolist() == [1, 2]
    assert fit["rank_r2"].values.min() > 0.99
    assert int(fit["held_out"].sum()) == 4
    subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
    assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject)))
    assert nl.fixed_points(fit).sizes["fixed_point"] >= 1


def test_a_module_that_starts_elsewhere_in_each_trial_is_warned_of(teacher):
    """An initial state that is made of the inputs; one that is the same in all trials is learned without a warning."""

    class Started(torch.nn.Module):
        def __init__(self, per_trial):
            super().__init__()
            self.layer, self.per_trial = teacher, per_trial

        def forward(self, u):
            start = torch.full((1, len(u), UNITS), 0.3)
            return self.layer(u, start * torch.sign(u[:, :1, :1]).transpose(0, 1) if self.per_trial else start)

    options = {"rank": 1, "dt_s": DT_S, "tau_s": DT_S, "states": "rate", "method": "regression", "hidden": 0}
    with pytest.warns(UserWarning, match="same state in all trials"):
        nl.distill(Started(per_trial=True), U[..., :1], **options)
    same = nl.distill(Started(per_trial=False), U[..., :1], **options)
    assert same.attrs["initial"] == "learned"
    assert same.attrs["states_r2_held_out"] > 0.99


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: nl.run_module(torch.nn.GRU(3, UNITS), U, dt_s=DT_S), "does not take inputs"),
        (lambda: nl.run_module(torch.nn.GRU(INPUTS, UNITS, bidirectional=True), U, dt_s=DT_S), "both directions"),
        (lambda: nl.run_module(torch.nn.Sequential(*[torch.nn.GRU(2, 2)] * 1, torch.nn.GRU(2, 2)), U, dt_s=DT_S),
         "2 recurrent layers"),
        (lambda: nl.run_module(torch.nn.GRU(INPUTS, UNITS), U), "Pass dt_s"),
        (lambda: nl.run_module(torch.nn.GRU(INPUTS, UNITS), U[0], dt_s=DT_S), "trial, time, input"),
        (lambda: nl.run_module("gru.pt", U, dt_s=DT_S), "torch module"),
        (lambda: nl.run_module(lambda u: 3 * u, U, dt_s=DT_S, states="rate"), "between -1 and 1"),
        (lambda: nl.distill(lambda u: 3 * u, U, rank=1, dt_s=DT_S, states="rate"), "between -1 and 1"),
        (lambda: nl.distill(torch.nn.GRU(INPUTS, UNITS), U, rank=1, dt_s=DT_S, states="rate", nonlinearity="relu"),
         "means tanh"),
        (lambda: nl.distill(torch.nn.GRU(INPUTS, UNITS), U[:3], rank=1, dt_s=DT_S), "2 trials are not held out"),
        (lambda: nl.distill(torch.nn.GRU(INPUTS, UNITS), U, rank=(1, 1), dt_s=DT_S), "each once"),
        (lambda: nl.distill(torch.nn.GRU(INPUTS, UNITS), U, rank=1, dt_s=DT_S, taus_s=1), "no argument taus_s"),
        (lambda: nl.distill(torch.nn.GRU(INPUTS, UNITS), U, rank=1, dt_s=DT_S, tau_s=DT_S / 2), "at least the bin"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(make, match):
    with pytest.raises(ContractError, match=match):
        make()
