"""A converted network is the original one: its simulation is the forward pass, written here for each package."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError, MissingFileError
from tests.factories import assert_same

torch = pytest.importorskip("torch")

N, R, K, T = 24, 2, 3, 40
PHI = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "linear": lambda x: x}
RNG = np.random.default_rng(0)
U = RNG.normal(size=(5, T, K)).astype(np.float32)  # condition, time, input


def draw(*shape, scale=1.0):
    return scale * RNG.normal(size=shape)


def run_of(fit):
    return nl.simulate(fit)["activity"].values


def paper(w, u, alpha, phi=np.tanh):
    """h at every step, from h0 on, of the low-rank networks of Valente et al."""
    h = np.tile(w.get("h0", np.zeros(N)), (len(u), 1))
    b, r, out = w.get("b", 0), phi(h), [h]
    for t in range(u.shape[1] - 1):
        recurrent = r @ w["wrec"].T if "wrec" in w else r @ w["n"] @ w["m"].T / N
        h = h + alpha * (-h + recurrent + u[:, t] @ (w["wi"] * w.get("si", np.ones(K))[:, None]))
        r = phi(h + b)
        out.append(h)
    return np.stack(out, axis=1)


def smc(w, u, decay, phi, part="transition"):
    """x (condition, time, neuron) of an inferred network of Pals et al., before the threshold is taken off."""
    m, n, h, Wu = (w[f"{part}.{name}"] for name in ("m", "n", "h", "Wu"))
    z, v, out = np.tile(w["initial_state"], (len(u), 1)), np.zeros((len(u), u.shape[2])), []
    for t in range(u.shape[1]):
        x = z @ m.T + v @ Wu.T
        out.append(x)
        z, v = decay * z + phi(x, h) @ n.T, decay * v + (1 - decay) * u[:, t]
    return np.stack(out, axis=1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("h0", [0.0, 0.3])
def test_networks_of_the_paper(full, h0):
    w = {"wi": draw(K, N), "si": draw(K), "wo": draw(N, 1), "so": draw(1), "h0": h0 * draw(N)}
    w |= {"wrec": draw(N, N, scale=N**-0.5)} if full else {"m": draw(N, R), "n": draw(N, R)}
    fit = nl.from_network(w, dt_s=0.02, alpha=0.2, u=U)
    np.testing.assert_allclose(run_of(fit), paper(w, U, 0.2), atol=1e-5)
    assert fit.attrs["tau_s"] == pytest.approx(0.1)


def test_the_bias_of_the_paper_stands_inside_of_phi_and_not_in_the_first_step():
    w = {"wi": draw(K, N), "m": draw(N, R), "n": draw(N, R), "b": 0.3 * draw(N)}
    fit, found = nl.from_network(w, dt_s=0.02, alpha=0.2, u=U), paper(w, U, 0.2)
    # a run of theirs that starts with phi(h0 + b) is ours; the other one differs by what the first step leaves out
    start = w | {"h0": np.zeros(N)}
    h, out = np.zeros((len(U), N)), []
    for t in range(T):
        out.append(h + start["b"])
        r = np.tanh(h + w["b"])
        h = 0.8 * h + 0.2 * (r @ w["n"] @ w["m"].T / N + U[:, t] @ w["wi"])
    np.testing.assert_allclose(run_of(fit), np.stack(out, axis=1), atol=1e-5)
    late = np.abs(run_of(fit) - w["b"] - found)
    assert late[:, -1].max() < 0.3 * late.max()


def test_several_populations_of_the_paper():
    D, P = 7, 2
    w = {"gaussian_basis": draw(D, N), "supports": np.kron(np.eye(P), np.ones(N // P)), "weights": np.full(P, 0.5)}
    w |= {"wi_weights": draw(K, P, D), "wi_biases": draw(K, P), "h0_weights": 0.1 * draw(P, D)}
    w |= {f"{name}_weights": draw(R, P, D, scale=N**-0.5) for name in "mn"}
    w |= {f"{name}_biases": draw(R, P, scale=N**-0.5) for name in "mn"}

    def vectors(name):
        found = np.zeros((N, len(w[f"{name}_weights"])))
        for i in range(N):
            p = int(w["supports"][1, i])
            found[i] = w[f"{name}_weights"][:, p] @ w["gaussian_basis"][:, i] + w[f"{name}_biases"][:, p]
        return found

    fit = nl.from_network(w, dt_s=0.02, alpha=0.2, u=U)
    plain = {"m": vectors("m"), "n": N * vectors("n"), "wi": vectors("wi").T, "h0": fit["initial_activation"].values}
    np.testing.assert_allclose(run_of(fit), paper(plain, U, 0.2), atol=1e-4)


@pytest.mark.parametrize("part", ["transition", "latent_step"])
@pytest.mark.parametrize("name", ["relu", "tanh", "linear", "clipped_relu"])
def test_inferred_networks_of_smc_rnns(name, part):
    decay, key = 0.87, "decay_param" if part == "transition" else "AW"
    w = {f"{part}.m": draw(N, R), f"{part}.n": draw(R, N, scale=0.1 / N), f"{part}.h": draw(N), "R_z": draw(R)}
    w |= {f"{part}.Wu": draw(N, K), f"{part}.{key}": np.log(-np.log([decay])), "initial_state": draw(R)}
    w[f"{part}.h"][0] = 0
    h = w[f"{part}.h"]
    relu = PHI["relu"]
    phi = (lambda x, h: relu(x + h) - relu(x)) if name == "clipped_relu" else lambda x, h: PHI[name](x - h)
    fit = nl.from_network(w, dt_s=0.01, nonlinearity=name, u=U)
    x, own = smc(w, U, decay, phi, part), run_of(fit)
    expected = x / np.where(h == 0, 1, np.abs(h)) + (h > 0) if name == "clipped_relu" else x - h
    scale = np.abs(expected).max(axis=(0, 1)).clip(1)
    np.testing.assert_allclose(own / scale, expected / scale, atol=1e-5)
    rates = nl.simulate(fit)["latent"].values  # z itself is the latent, whatever the units of x
    m = w[f"{part}.m"]
    z = x - nl.simulate(fit)["filtered_input"].values @ w[f"{part}.Wu"].T
    started = rates + (1 - (1 - decay)) ** np.arange(T)[:, None] * w["initial_state"]
    np.testing.assert_allclose(z, started @ m.T, atol=1e-3)


def test_networks_that_smc_rnns_fits():
    w = {"x0": draw(1, N), "rnn.w_inp": draw(K, N), "rnn.w_inp_scale": np.array([0.7]), "rnn.m": draw(N, R)}
    w |= {"rnn.n": draw(R, N), "rnn.b_rec": draw(N), "rnn.w_out": draw(N, 1), "rnn.w_out_scale": np.ones((1, 1))}
    x, out = np.tile(w["x0"], (len(U), 1)), []
    for t in range(T):
        out.append(x + w["rnn.b_rec"])
        recurrent = np.maximum(x + w["rnn.b_rec"], 0) @ w["rnn.n"].T @ w["rnn.m"].T / N
        x = 0.9 * x + 0.1 * (recurrent + 0.7 * U[:, t] @ w["rnn.w_inp"])
    fit = nl.from_network(w, dt_s=0.01, alpha=0.1, nonlinearity="relu", u=U)
    np.testing.assert_allclose(run_of(fit), np.stack(out, axis=1), rtol=1e-4, atol=1e-4)


class LowTensorRank(torch.nn.Module):
    """What from_network uses of a module of LtrRNN: connectivity (trial, from, to), inputs, bias, start."""

    def __init__(self, trials=4):
        super().__init__()
        self.rank, self.time_constant, self.activation, self.bias, self.trials = R, 0.1, torch.relu, True, trials
        self.W_column = torch.nn.Linear(R + K, N, bias=False)
        self.W_row, self.W_trial = torch.nn.Linear(R, N, bias=False), torch.nn.Linear(R, trials, bias=False)

    def construct_weight(self):
        row, column = (one / one.norm(dim=0) for one in (self.W_row.weight, self.W_column.weight[:, :R]))
        return torch.einsum("ir,jr,kr->ijk", 1 + self.W_trial.weight, row, column)

    def construct_input_weight(self):
        return [self.W_column.weight[:, R : R + 1], 2 * self.W_column.weight[:, R + 1 :]]

    def construct_bias(self):
        return 0.1 * self.W_column.weight[:, 0]

    def get_initial_state(self, batch_size):
        return torch.arange(1, self.trials + 1)[:, None] * self.W_column.weight[:, 1]

    def f(self, x, trial, u):
        W = self.construct_weight()[trial]
        drive = self.activation(x) @ W + u @ torch.cat(self.construct_input_weight(), dim=1).T
        return (drive + self.construct_bias() - x) / self.time_constant


def test_a_trial_of_ltr_rnn_in_steps_of_euler():
    torch.manual_seed(0)
    module = LowTensorRank()
    fit = nl.from_network(module, dt_s=0.005, trial=2, u=U)
    with torch.no_grad():
        x, out = module.get_initial_state(4)[2].expand(len(U), N), []
        for t in range(T):
            out.append(x.numpy())
            x = x + 0.005 * module.f(x, 2, torch.as_tensor(U[:, t]))
    np.testing.assert_allclose(run_of(fit), np.stack(out, axis=1), atol=1e-5)
    assert fit.attrs["nonlinearity"] == "relu"
    assert fit.sizes["rank"] == R
    with pytest.raises(ContractError, match=r"each of 4 trials.*Pass trial="):
        nl.from_network(module, dt_s=0.005)
    with pytest.raises(ContractError, match="Pass the module"):
        nl.from_network(module.state_dict(), dt_s=0.005, trial=0)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_a_torch_rnn(phi):
    torch.manual_seed(1)
    module = torch.nn.RNN(K, N, nonlinearity=phi, batch_first=True)
    fit = nl.from_network(module, dt_s=0.02, u=U)
    with torch.no_grad():
        rates = module(torch.as_tensor(U))[0].numpy()
    np.testing.assert_allclose(PHI[phi](run_of(fit)[:, 1:]), rates[:, :-1], atol=1e-5)
    with pytest.raises(ContractError, match="gates"):
        nl.from_network(torch.nn.GRU(K, N), dt_s=0.02)
    with pytest.raises(ContractError, match="layers"):
        nl.from_network(torch.nn.RNN(K, N, num_layers=2), dt_s=0.02)


class WithLowRankLayer(torch.nn.Module):
    """Somebody's network, with their own names; J = up down, without 1/N."""

    def __init__(self):
        super().__init__()
        self.down, self.up = torch.nn.Linear(N, R, bias=False), torch.nn.Linear(R, N, bias=False)
        self.inputs = torch.nn.Linear(K, N)
        self.alpha, self.activation = 0.25, torch.nn.Softplus()

    def forward(self, u):
        x, out = torch.zeros(len(u), N), []
        for t in range(u.shape[1]):
            out.append(x)
            x = x + self.alpha * (-x + self.up(self.down(self.activation(x))) + self.inputs(u[:, t]))
        return torch.stack(out, dim=1)


def test_a_module_with_a_low_rank_layer():
    torch.manual_seed(2)
    module = WithLowRankLayer()
    names = {"m": "up.weight", "n": "down.weight", "input_weights": "inputs.weight", "bias": "inputs.bias"}
    fit = nl.from_network(module, dt_s=0.02, names=names, over_n=False, u=U)
    with torch.no_grad():
        np.testing.assert_allclose(run_of(fit), module(torch.as_tensor(U)).numpy(), atol=1e-5)
    assert (fit.attrs["nonlinearity"], fit.attrs["tau_s"]) == ("softplus", 0.08)
    with pytest.raises(ContractError, match=r"no weights q\.weight"):
        nl.from_network(module, dt_s=0.02, names=names | {"m": "q.weight"})
    module.activation = torch.nn.GELU()
    with pytest.raises(ContractError, match="Pass nonlinearity="):
        nl.from_network(module, dt_s=0.02, names=names)


def test_a_dict_of_ours_is_taken_as_it_is(tmp_path):
    w = {"m": draw(N, R), "n": draw(N, R), "input_weights": draw(N, K), "bias": draw(N), "initial_activation": draw(N)}
    fit = nl.from_network(w, dt_s=0.02, tau_s=0.1, u=U)
    for name, values in w.items():
        np.testing.assert_array_equal(fit[name].values, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file has no subject
        assert_same(fit, nl.read_fit(nl.write_fit(fit, tmp_path / "fit.nwb")))
    J = w["m"] @ w["n"].T / N
    full = nl.from_network({"J": J, **{k: w[k] for k in list(w)[2:]}}, dt_s=0.02, tau_s=0.1, u=U)
    np.testing.assert_allclose(run_of(full), run_of(fit), atol=1e-5)
    scaled = nl.from_network({**w, "n": w["n"] / N}, dt_s=0.02, tau_s=0.1, u=U, over_n=False)
    np.testing.assert_allclose(run_of(scaled), run_of(fit), atol=1e-5)
    assert nl.fixed_points(fit).sizes["fixed_point"] >= 0


def test_files_give_what_the_weights_give(tmp_path):
    w = {"wi": draw(K, N), "m": draw(N, R), "n": draw(N, R)}
    of = {"dt_s": 0.02, "alpha": 0.2, "u": U}
    fit = nl.from_network(w, **of)
    np.savez(tmp_path / "w.npz", **w)
    torch.save({k: torch.as_tensor(v) for k, v in w.items()}, tmp_path / "w.pt")
    torch.save({"state_dict": {k: torch.as_tensor(v) for k, v in w.items()}, "epoch": 3}, tmp_path / "nested.pt")
    for name in ("w.npz", "w.pt", "nested.pt"):
        assert_same(nl.from_network(tmp_path / name, **of), fit)


class Evil:
    def __reduce__(self):
        return (open, ("evil.txt", "w"))


def test_a_file_that_may_run_programs_is_refused_and_runs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"m": Evil()}))
    np.savez(tmp_path / "w.npz", m=np.array([Evil()], dtype=object))
    for name in ("w.pkl", "w.npz"):
        with pytest.raises(ContractError, match=r"cannot be read|read safely"):
            nl.from_network(name, dt_s=0.02)
    assert not (tmp_path / "evil.txt").exists()
    with pytest.raises(MissingFileError):
        nl.from_network("nowhere.pt", dt_s=0.02)
    (tmp_path / "w.txt").touch()
    with pytest.raises(ContractError, match="no file of weights"):
        nl.from_network("w.txt", dt_s=0.02)


@pytest.mark.parametrize(
    ("w", "of", "named"),
    [
        ({"m": draw(N, R), "n": draw(N, R)}, {}, "dt_s"),
        ({"m": draw(N, R), "n": draw(N, R)}, {"dt_s": 0.02}, "alpha or tau_s"),
        ({"m": draw(N, R), "n": draw(N, R)}, {"dt_s": 0.02, "alpha": 0.2, "tau_s": 0.1}, "not both"),
        ({"m": draw(N, R), "n": draw(N - 1, R)}, {"dt_s": 0.02, "alpha": 0.2}, r"n has the shape \(23, 2\)"),
        ({"m": draw(N, R), "n": draw(N, R), "b": draw(N)}, {"dt_s": 0.02, "alpha": 0.2}, "has b.*reads bias"),
        ({"q": draw(3)}, {"dt_s": 0.02}, "no package that is known: q"),
        ({"m": draw(N, R), "n": draw(N, R)}, {"dt_s": 0.02, "alpha": 0.2, "nonlinearity": "sin"}, "'sin'"),
        ({"m": draw(N, R), "n": draw(N, R)}, {"dt_s": 0.02, "alpha": 0.2, "u": U}, r"shape \(5, 40, 3\)"),
        (
            {"transition.m": draw(N, R), "transition.n": draw(R, N), "transition.h": draw(N), "transition.AW": draw(1)},
            {"dt_s": 0.02},
            "Pass nonlinearity=",
        ),
        ([1, 2], {"dt_s": 0.02}, "is a list"),
    ],
)
def test_what_is_missing_is_named(w, of, named):
    with pytest.raises(ContractError, match=named):
        nl.from_network(w, **of)


def test_a_network_without_inputs_gets_one_that_is_always_0():
    fit = nl.from_network({"m": draw(N, R), "n": draw(N, R)}, dt_s=0.02, alpha=0.2, n_bins=7)
    assert fit["input"].values.tolist() == ["none"]
    assert not fit["u"].any()
    assert fit.sizes["time"] == 7
    assert nl.from_network(
        {"m": draw(N, R), "n": draw(N, R), "input_weights": draw(N, K)}, dt_s=0.02, alpha=0.2
    ).condition.values.tolist() == ["no input", "input 1", "input 2", "input 3"]


def test_a_converted_network_is_shown_as_one(tmp_path, capsys):
    from nwb_lint.cli import main

    fit = nl.from_network({"wi": draw(K, N), "m": draw(N, 1), "n": draw(N, 1)}, dt_s=0.02, alpha=0.2, n_bins=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = nl.write_fit(fit, tmp_path / "fit.nwb")
    main(["show", str(path)], standalone_mode=False)
    assert "A low-rank network of 24 units, converted from lowrank_inference" in capsys.readouterr().out


PLAIN = {"m": draw(N, R), "n": draw(N, R), "input_weights": draw(N, K)}


@pytest.mark.parametrize(
    ("change", "of", "named"),
    [
        ({"n": draw(N, R + 1)}, {}, r"n has the shape \(24, 3\). The network needs \(24, 2\)"),
        ({"m": draw(N, 0), "n": draw(N, 0)}, {}, "needs sizes above 0"),
        ({"m": np.float64(1)}, {}, "m is one number"),
        ({"bias": draw(3)}, {}, r"bias has the shape \(3,\)"),
        ({"bias": [[1, 2], [3]]}, {}, "bias is no array"),
        ({"m": np.full((N, R), np.nan)}, {}, "m has 48 values that are not finite"),
        ({"J": draw(N, N)}, {}, "either J, or m and n"),
        ({"alpha": np.array([5.0])}, {"alpha": None}, "at most 1"),
        ({"dt_s": 0.0}, {"dt_s": None}, "above 0"),
        ({}, {"alpha": None, "tau_s": 0.01}, "at most 1"),
        ({}, {"names": {"m": "m", "n": "n", "inputs": "input_weights"}}, "names has inputs"),
        ({}, {"u": np.full((1, 5, K), "a")}, "needs numbers"),
        ({}, {"u": np.zeros((0, 5, K))}, "sizes above 0"),
        ({}, {"u": xr.Dataset({"v": 1})}, "needs u"),
        ({name: 1e15 * one for name, one in PLAIN.items()}, {"nonlinearity": "linear"}, "grows to infinity"),
        (
            {},
            {"u": xr.DataArray(U, dims=("condition", "time", "input"), coords={"time": list(map(str, range(T)))})},
            "time of u is",
        ),
        (
            {},
            {"u": xr.DataArray(U, dims=("condition", "time", "input"), coords={"time": 0.5 * np.arange(T)})},
            "bins of 0.5 s. The network has steps of 0.02 s",
        ),
    ],
)
def test_weights_that_make_no_network_are_refused_by_name(change, of, named):
    with pytest.raises(ContractError, match=named):
        nl.from_network(PLAIN | change, **{"dt_s": 0.02, "alpha": 0.2} | of)


@pytest.mark.parametrize("J", [draw(N, N - 1), draw(N, N, 2)])
def test_a_connectivity_that_is_no_square_is_refused(J):
    with pytest.raises(ContractError, match="J has the shape"):
        nl.from_network({"J": J}, dt_s=0.02, alpha=0.2)


def test_weights_of_a_package_that_do_not_go_together_are_refused():
    with pytest.raises(ContractError, match="do not go together"):
        nl.from_network({"wi": draw(K, N), "m": draw(N, R), "n": draw(N, R), "si": draw(7)}, dt_s=0.02, alpha=0.2)


def test_a_step_that_the_weights_were_made_for_cannot_be_changed():
    module = torch.nn.RNN(K, N)
    with pytest.raises(ContractError, match=r"alpha is 0.5. The weights of torch.nn.RNN are those of alpha 1"):
        nl.from_network(module, dt_s=0.02, alpha=0.5)
    assert nl.from_network(module, dt_s=0.02, tau_s=0.02).attrs["tau_s"] == 0.02


@pytest.mark.parametrize("phi", [5, torch.nn.ReLU, lambda a, b: a])
def test_a_phi_that_is_no_function_of_one_tensor_is_refused(phi):
    module = WithLowRankLayer()
    del module.activation
    module.activation = phi
    with pytest.raises(ContractError, match="Pass nonlinearity="):
        nl.from_network(module, dt_s=0.02, names={"m": "up.weight", "n": "down.weight"})


def test_a_module_of_half_precision():
    module = WithLowRankLayer().to(torch.bfloat16)
    fit = nl.from_network(module, dt_s=0.02, names={"m": "up.weight", "n": "down.weight"})
    np.testing.assert_array_equal(fit["m"].values, module.up.weight.detach().float().numpy())
    assert fit.attrs["nonlinearity"] == "softplus"


@pytest.mark.parametrize("damage", ["cut", "changed", "one array"])
def test_a_damaged_file_of_arrays_is_named(tmp_path, damage):
    path = tmp_path / "w.npz"
    np.savez(path, **PLAIN)
    whole = bytearray(path.read_bytes())
    if damage == "one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    else:
        whole[300:310] = b"x" * 10
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else whole)
    with pytest.raises(ContractError, match=r"w\.npz cannot be read"):
        nl.from_network(path, dt_s=0.02, alpha=0.2)


def test_an_input_of_the_paper_may_be_one_vector():
    w = {"wi": draw(N), "m": draw(N, R), "n": draw(N, R)}
    fit, same = (nl.from_network(one, dt_s=0.02, alpha=0.2) for one in (w, w | {"wi": w["wi"][None]}))
    assert fit.sizes["input"] == 1
    assert_same(fit, same)


def test_what_a_package_needs_and_lacks_is_named():
    smc = {"transition.m": draw(N, R), "transition.n": draw(R, N), "transition.h": draw(N)}
    with pytest.raises(ContractError, match=r"^The weights of smc_rnns have no decay_param"):
        nl.from_network(smc, nonlinearity="relu", dt_s=0.02)
    module = torch.nn.Module()
    module.W_column = torch.nn.Linear(2, 2)
    module.construct_weight = lambda: torch.zeros(1, N, N)
    with pytest.raises(ContractError, match="Pass the module"):
        nl.from_network(module, dt_s=0.02, trial=0)
