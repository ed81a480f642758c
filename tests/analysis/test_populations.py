"""Populations that were put in are found, one population stays one, and the reduced network still decides."""

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score

import nwb_lint as nl
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.simulate import run
from nwb_lint.tasks.demo import context_network
from nwb_lint.tasks.generate import contextual_decision
from nwb_lint.testing import mock_fit


def network(n_units=200, random=False):
    m, n, w = context_network(n_units, seed=0)
    rng = np.random.default_rng(0)
    m, n, w = (rng.standard_normal(a.shape) for a in (m, n, w)) if random else (m, n, w)
    return xr.Dataset(
        {
            "m": (("neuron", "rank"), m),
            "n": (("neuron", "rank"), n),
            "input_weights": (("neuron", "input"), w),
            "bias": ("neuron", np.zeros(n_units)),
            "initial_activation": ("neuron", np.zeros(n_units)),
            "readout": ("neuron", m[:, 0]),
        },
        coords={
            "neuron": [f"n{k}" for k in range(n_units)],
            "input": ("input", ["motion", "color", "context motion", "context color"]),
        },
        attrs={"dt_s": 0.02, "tau_s": 0.1, "nonlinearity": "tanh"},
    )


TRUTH = np.repeat([0, 1], 100)


def test_two_populations_are_found_and_their_number_too():
    found = nl.find_populations(network(), max_groups=3, resamples=4)
    assert check_result(found, "populations") == "populations"
    assert found.sizes["group"] == 2
    assert adjusted_rand_score(TRUTH, found["population"]) > 0.95
    two = found.sel(n_groups=2)
    assert two["stability"] > 0.9 > two["stability_chance"]
    names = found["vector"].values.tolist()
    assert names == ["m 1", "n 1", "I motion", "I color", "I context motion", "I context color"]


def test_one_population_stays_one():
    found = nl.find_populations(network(random=True), max_groups=3, resamples=4)
    assert found.sizes["group"] == 1
    assert found["population"].values.max() == 0


def gating(seed=0, n_units=120, populations=2):
    """One population, or two that use input a with opposite signs; b saturates the second. With runs over inputs."""
    rng = np.random.default_rng(seed)
    m, w = rng.standard_normal((n_units, 1)), rng.standard_normal((n_units, 2))
    label = np.arange(n_units) * populations // n_units
    sign = np.where(label, -2.0, 2.0)[:, None] if populations == 2 else 0.7
    w[:, 1] *= np.where(label, 2.5, 0.8)
    net = network(n_units)[["m", "bias", "initial_activation"]]
    net["m"], net["n"] = (("neuron", "rank"), m), (("neuron", "rank"), m + sign * w[:, :1])
    a, b = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5))
    u = np.zeros((25, 50, 2))
    u[:, 5:30] = np.stack([a.ravel(), b.ravel()], axis=1)[:, None]
    net = net.assign_coords(time=np.arange(50) * 0.02, input=["a", "b"])
    net["input_weights"], net["u"] = (("neuron", "input"), w), (("condition", "time", "input"), u)
    return net.assign_coords(condition=[f"c{k}" for k in range(25)]), label


def test_populations_that_differ_in_n_are_found_and_one_population_is_not_split():
    two, label = gating()
    found = nl.find_populations(two, max_groups=2, resamples=4)
    assert found.sizes["group"] == 2
    share = [found["probability"][label == one].mean("neuron").values for one in (0, 1)]
    assert abs(share[0] - share[1]).max() > 0.2  # only the mean of n given m and I acts, so the groups overlap
    projected = nl.find_populations(two.drop_vars("u"), max_groups=2, resamples=4)  # P n is linear in m and I
    assert projected.sizes["group"] == 1
    assert nl.find_populations(gating(populations=1)[0], max_groups=2, resamples=4).sizes["group"] == 1


def test_what_the_visited_states_do_not_determine_forms_no_populations():
    net, _ = gating(populations=1)
    rates = np.tanh(run(net)["activity"].values.reshape(-1, 120))
    _, size, directions = np.linalg.svd(rates, full_matrices=False)
    unseen = np.where(np.arange(120) % 2, 8.0, -8.0) * net["m"].values[:, 0]  # two populations, if it counted
    visited = directions[size > 1e-5 * size[0]]
    longer = net.assign(n=net["n"] + (unseen - visited.T @ (visited @ unseen))[:, None], r2=("split", [1.0, np.nan]))
    np.testing.assert_allclose(run(longer)["latent"], run(net)["latent"], atol=1e-3)
    options = {"max_groups": 2, "resamples": 3}
    found, before = (nl.find_populations(one, **options) for one in (longer, net))
    np.testing.assert_allclose(found["loading"], before["loading"], atol=1e-3 * np.abs(net["n"].values).max())
    assert found.sizes["group"] == 1
    raw = nl.find_populations(longer, effective=False, **options)  # a fit: its n is redrawn where it is not known
    assert raw.sizes["group"] == 1
    known = nl.find_populations(longer.drop_vars("r2"), effective=False, **options)
    assert known.sizes["group"] == 2


def test_bayesian_mixture_agrees():
    found = nl.find_populations(network(), n_groups=2, method="bayesian", resamples=1)
    assert adjusted_rand_score(TRUTH, found["population"]) > 0.9


def test_means_are_held_at_zero_by_em():
    from nwb_lint.analysis.populations import fit_mixture

    z = np.random.default_rng(0).standard_normal((80, 3)) + 1
    for method in ("em", "bayesian"):
        assert abs(fit_mixture(z, 2, method, True, 0).model.means_).max() < 1e-5


def test_permuted_neurons_give_permuted_populations():
    net, order = network(), np.random.default_rng(2).permutation(200)
    a = nl.find_populations(net, n_groups=2, resamples=1)["population"]
    b = nl.find_populations(net.isel(neuron=order), n_groups=2, resamples=1)["population"]
    assert adjusted_rand_score(a.values[order], b.values) > 0.95


def test_small_weights_and_strongest_input():
    net = network(random=True)
    for name in ("m", "n", "input_weights"):
        net[name].values[:120] *= 0.1
    found = nl.find_populations(net, method="small_weights", resamples=1)
    assert found["group"].values.tolist() == ["small", "large"]
    assert (found["population"].values[:120] == 0).mean() > 0.95
    assert (found["population"].values[120:] == 1).mean() > 0.95
    found = nl.find_populations(net, method="strongest_input")
    w = net["input_weights"].values
    expected = (abs(w) / np.sqrt((w**2).mean(axis=0))).argmax(axis=1)
    np.testing.assert_array_equal(found["population"], expected)


def test_gains_are_slopes_and_follow_the_context():
    net = network()
    trials = contextual_decision(40, seed=1).rename(trial="condition")
    trials = trials.assign_coords(condition=trials["condition"].values.astype(str))
    net["u"] = trials["u"].dims, trials["u"].values
    net = net.assign_coords({name: trials[name] for name in ("condition", "time", "context")})
    found = nl.find_populations(net, n_groups=2, resamples=1, window_s=(0.5, 1.2))
    x = run(net)["activity"].values[:, (trials["time"].values >= 0.5) & (trials["time"].values < 1.2)]
    for k in range(2):
        member = found["population"].values == k
        np.testing.assert_allclose(found["gain"][:, k], (1 - np.tanh(x[..., member]) ** 2).mean(axis=(1, 2)), rtol=1e-4)
    by_context = found["gain"].groupby("context").mean()
    motion = int(found["population"].values[0])  # the first half of the neurons reads motion
    assert float(by_context.sel(context="motion")[motion]) > 2 * float(by_context.sel(context="color")[motion])


def test_the_reduced_network_still_decides_and_one_population_does_not():
    net, trials = network(400), contextual_decision(40, seed=3).rename(trial="condition")
    trials["u"] = trials["u"].dims, 2 * trials["u"].values  # this network needs strong cues

    def accuracy(one):
        z = np.tanh(run(one, trials)["activity"].values[:, -1]) @ one["readout"].values
        return (np.sign(z) == trials["answer"].values).mean()

    # a Gaussian population gates with strong cues only, and a less bistable one is not moved by the luck of the draw
    cue = 4 * np.random.default_rng(1).standard_normal((400, 2))
    net["input_weights"][:, 2:] = np.where(net["input_weights"][:, 2:] != 0, cue, 0)
    net["n"] = net["n"] - 1.2 * net["m"]
    assert accuracy(net) > 0.9
    two = nl.find_populations(net, n_groups=2, effective=False, resamples=1)
    reduced = nl.resample_network(net, two, n_neurons=4000)
    assert accuracy(reduced) > 0.9
    one = nl.find_populations(net, n_groups=1, effective=False, resamples=1)
    assert accuracy(nl.resample_network(net, one, n_neurons=4000)) < 0.85
    share = np.bincount(reduced["population"].values) / 4000
    np.testing.assert_allclose(share, two["weight"], atol=0.05)


def test_a_resampled_fit_is_a_fit():
    fit = mock_fit(n_neurons=60)
    groups = nl.find_populations(fit, n_groups=1, resamples=1)
    drawn = nl.resample_network(fit, groups, n_neurons=2000, seed=1)
    np.testing.assert_array_equal(nl.simulate(drawn)["activity"], drawn["activity_pred"])
    assert drawn.attrs["latent_r2"] > 0.8
    assert nl.resample_network(fit, groups, seed=1).identical(nl.resample_network(fit, groups, seed=1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "method.*'bayesian'"),
        ({"n_groups": 2, "method": "small_weights"}, "n_groups.*small_weights"),
        ({"n_groups": 0}, "n_groups is 0"),
        ({"n_groups": 99}, "at most 6"),
        ({"window_s": (9.0, 10.0), "n_groups": 1}, "window"),
    ],
)
def test_errors_are_one_line(options, words):
    with pytest.raises(ContractError, match=words) as caught:
        nl.find_populations(mock_fit(), **options)
    assert "\n" not in str(caught.value)
