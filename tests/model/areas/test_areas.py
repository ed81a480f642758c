"""Fits of several areas: blocks of low rank, and nothing outside of them."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.options.fits import FitOptions
from nwb_lint.reports.analyses import of_analysis
from nwb_lint.reports.items import as_text
from nwb_lint.testing import mock_areas
from nwb_lint.validation.bootstrap import networks_of_simulations
from tests.factories import assert_same
from tests.networks import plain

# fits that stop early leave something that follows an input
pytestmark = pytest.mark.filterwarnings("ignore:Input .* acts .* than its times say")

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
SPARSE = [[1, 0], [1, 1]]
RANKS = {"A<-B": 0}


def blocks_of_j(fit) -> dict[tuple[str, str], np.ndarray]:
    j = fit["m"].values @ fit["n"].values.T / fit.sizes["neuron"]
    area = fit["area"].values
    return {(a, b): j[np.ix_(area == a, area == b)] for a in "AB" for b in "AB"}


@pytest.fixture(scope="module")
def data():
    return mock_areas(SPARSE, n_neurons=60, n_conditions=32, noise=0.02, seed=5)


@pytest.fixture(scope="module")
def fit(data):
    return nl.fit_lint(data[0], rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, test_size=0.25)


def test_the_currents_of_a_known_network_come_back(data, fit):
    true, found = (nl.currents(one)["current"].values[fit["held_out"].values] for one in (data[1], fit))
    assert 1 - ((found - true) ** 2).sum() / (true**2).sum() > 0.95
    assert fit["r2"].values[1] > 0.9


@pytest.mark.parametrize("method", ["regression", "auto", "gradient"])
@pytest.mark.parametrize("hidden", [0, 6])
def test_nothing_is_outside_of_the_blocks(method, hidden, data):
    activity = data[0].isel(neuron=slice(None, None, 3), condition=slice(16))
    found = nl.fit_lint(
        activity, rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, input_areas={"to A": "A"}, method=method,
        hidden=hidden, max_iter=3, bias=True,
    )  # fmt: skip
    area = found["area"].values
    assert found["to_area"].values.tolist() == ["A", "B", "B"]
    assert found["from_area"].values.tolist() == ["A", "A", "B"]
    assert not found["m"].values[area[:, None] != found["to_area"].values].any()
    assert not found["n"].values[area[:, None] != found["from_area"].values].any()
    assert not found["input_weights"].sel(input="to A").values[area == "B"].any()
    assert found["input_weights"].sel(input="to B").values[area == "A"].any()
    assert set(area[~found["recorded"].values]) <= {"A", "B"}


def test_adam_and_segments_stay_in_the_blocks(data):
    activity = data[0].isel(neuron=slice(None, None, 3), condition=slice(12))
    for more in ({"optimizer": "adam"}, {"segment_s": 0.4}):
        found = nl.fit_lint(
            activity, rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, method="gradient", max_iter=3, **more
        )
        assert not blocks_of_j(found)["A", "B"].any()
        assert blocks_of_j(found)["B", "A"].any()


def test_a_single_area_is_the_fit_without_areas(data):
    activity = data[0].isel(neuron=slice(None, None, 2)).drop_vars("area")
    one = nl.fit_lint(activity, rank=2, tau_s=0.1, test_size=0.25)
    named = activity.assign_coords(area=("neuron", np.full(30, "A")))
    other = nl.fit_lint(named, rank=2, tau_s=0.1, areas="area", test_size=0.25)
    # two implementations of the regressions, and the gradient from each
    np.testing.assert_allclose(one["r2"], other["r2"], atol=2e-3)
    j, k = (x["m"].values @ x["n"].values.T for x in (one, other))
    assert np.corrcoef(j.ravel(), k.ravel())[0, 1] > 0.99


def test_permuting_neurons_and_names_of_areas_permutes_the_fit(data, fit):
    order = np.random.default_rng(0).permutation(60)
    names = np.array(["Z" if name == "A" else "Y" for name in data[0]["area"].values])
    moved = data[0].assign_coords(area=("neuron", names)).isel(neuron=order)
    other = nl.fit_lint(
        moved, rank=1, tau_s=0.1, areas="area", block_ranks={("Z", "Y"): 0},
        test_conditions=fit["held_out"].values,
    )  # fmt: skip
    np.testing.assert_allclose(other["r2"], fit["r2"], atol=1e-3)
    j, k = (x["m"].values @ x["n"].values.T for x in (fit, other))
    back = np.argsort(order)
    assert np.corrcoef(j.ravel(), k[np.ix_(back, back)].ravel())[0, 1] > 0.999


def test_the_gauge_mixes_no_blocks_and_changes_neither_j_nor_the_run(fit):
    rng = np.random.default_rng(1)
    factor = rng.uniform(0.5, 2, fit.sizes["rank"]) * rng.choice([-1, 1], fit.sizes["rank"])
    other = fit.assign(m=fit["m"] * factor, n=fit["n"] / factor, latent=fit["latent"] / factor)
    again = nl.canonicalize(other)
    for name in ("m", "n", "latent"):
        np.testing.assert_allclose(again[name], fit[name], rtol=1e-5, atol=1e-6)


def test_latents_are_those_of_the_gauge(fit):
    rng = np.random.default_rng(2)
    two = nl.fit_lint(
        mock_areas([[2, 1], [1, 2]], n_neurons=24, n_conditions=12, noise=0.05)[0], rank=2, tau_s=0.1, areas="area",
        method="regression",
    )  # fmt: skip
    turn = np.zeros((8, 8))
    for k in range(4):
        turn[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = rng.standard_normal((2, 2))
    other = two.assign(
        m=(two["m"].dims, two["m"].values @ turn), n=(two["n"].dims, two["n"].values @ np.linalg.inv(turn).T),
        latent=(two["latent"].dims, two["latent"].values @ np.linalg.inv(turn).T),
    )  # fmt: skip
    again = nl.canonicalize(other)
    for name in ("m", "n", "latent"):
        np.testing.assert_allclose(again[name], two[name], atol=1e-3)


def test_currents_and_leak_are_the_step_of_the_network(data):
    network = data[1]
    found = nl.currents(network)
    x = network["activity_pred"].values
    step = 0.8 * x[:, :-1] + 0.2 * found["current"].values.sum(axis=3)[:, :-1]
    np.testing.assert_allclose(step, x[:, 1:], atol=1e-5)
    again = plain(*(network[name].values for name in ("m", "n", "input_weights")), network["u"].values)
    np.testing.assert_allclose(again, x, atol=1e-4)


def test_currents_of_conditions_that_start_from_their_group(data):
    activity = data[0].isel(neuron=slice(None, None, 3), condition=slice(12))
    activity = activity.assign_coords(side=("condition", np.resize(["left", "right"], 12)))
    found = nl.fit_lint(activity, rank=1, tau_s=0.1, areas="area", initial="side", method="regression")
    own, given = nl.currents(found), nl.currents(found, activity)
    np.testing.assert_allclose(own["current"], given["current"], atol=1e-5)
    np.testing.assert_allclose(own["tolerance"], given["tolerance"], atol=1e-5)


def test_a_silenced_projection_is_a_block_of_0(data):
    network = data[1]
    found = nl.predict_inactivation(network, {"A": network["area"].values == "A"}, to="B", controls=0)
    cut = network.copy(deep=True)
    cut["n"] = cut["n"].where(~((cut["to_area"] == "B") & (cut["from_area"] == "A")), 0)
    change = nl.simulate(cut)["activity"] - nl.simulate(network)["activity"]
    np.testing.assert_allclose(found["activity_change"][0], change.mean("time"), atol=1e-5)
    assert not found["activity_change"].values[0][:, network["area"].values == "A"].any()
    whole = nl.predict_inactivation(network, {"A": network["area"].values == "A"}, controls=0)
    assert whole["activity_change"].values[0][:, network["area"].values == "A"].any()


def test_a_pulse_on_a_projection_changes_nothing_before_it(data):
    network = data[1]
    group = {"A": network["area"].values == "A"}
    found = nl.predict_inactivation(network, group, to="B", window_s=(0.6, 0.8), controls=0)
    intact, pulsed = nl.simulate(network)["latent"].values, found["latent"].values[0]
    before = network["time"].values < 0.6
    np.testing.assert_allclose(pulsed[:, before], intact[:, before], atol=1e-6)
    assert np.abs(pulsed - intact)[:, ~before].max() > 1e-3


def test_a_fit_with_areas_comes_back_from_its_file_and_refits(data, tmp_path):
    found = nl.fit_lint(
        data[0], rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, input_areas={"to A": "A"}, method="regression"
    )
    assert_same(found, nl.read_fit(nl.write_fit(found, tmp_path / "fit.nwb", subject=SUBJECT)))
    options = FitOptions.of_fit(found)
    assert (options.rank, options.areas, options.block_ranks) == (1, "area", RANKS)
    assert options.input_areas == {"to A": ("A",)}


def test_a_network_that_is_drawn_from_populations_has_no_areas(data):
    network = data[1]
    drawn = nl.resample_network(network, nl.find_populations(network, n_groups=1))
    again = nl.canonicalize(drawn)
    j, k = (one["m"].values @ one["n"].values.T for one in (drawn, again))
    np.testing.assert_allclose(j, k, atol=1e-9)
    with pytest.raises(ContractError, match="no areas"):
        nl.currents(drawn)


def test_what_does_not_suit_areas_is_refused(data):
    activity = data[0]
    for more, text in (
        ({"areas": "region"}, "no column 'region'"),
        ({"areas": "area", "block_ranks": {"A<-C": 1}}, "names the area 'C'"),
        ({"areas": "area", "block_ranks": {("A", "B"): -1}}, "whole numbers"),
        ({"areas": "area", "input_areas": {"to A": "Q"}}, "reach 'Q'"),
        ({"areas": "area", "input_areas": {"sound": "A"}}, "names the input 'sound'"),
        ({"areas": "area", "block_ranks": {"A<-A": 40}}, "30 neurons"),
        ({"block_ranks": {"A<-B": 0}}, "no areas|There are none"),
        ({"areas": "area", "ridge_by": "gcv"}, "gcv|cross-validation"),
    ):
        with pytest.raises(ContractError, match=text):
            nl.fit_lint(activity, **({"rank": 1, "tau_s": 0.1} | more))
    missing = activity.assign_coords(area=("neuron", np.where(np.arange(60) < 5, "", activity["area"].values)))
    with pytest.raises(ContractError, match="5 neurons have no value"):
        nl.fit_lint(missing, rank=1, tau_s=0.1, areas="area")
    without = nl.fit_lint(activity.isel(neuron=slice(20)), rank=1, tau_s=0.1, method="regression")
    with pytest.raises(ContractError, match="no areas"):
        nl.currents(without)
    with pytest.raises(ContractError, match="no areas"):
        nl.predict_inactivation(without, [0, 1], to="B")
    for call in (nl.currents, nl.canonicalize):
        with pytest.raises(ContractError, match="area 'A', and no neurons there"):
            call(data[1].isel(neuron=data[1]["area"].values == "B"))


def test_of_noise_no_block_is_chosen(data):
    activity = data[0].isel(neuron=slice(None, None, 5))
    noise = np.random.default_rng(0).standard_normal(activity["activity"].shape).astype(np.float32)
    found = nl.select_areas(activity.assign(activity=(activity["activity"].dims, noise)), areas="area", tau_s=0.1)
    assert not found["block_rank"].values[found.attrs["chosen"]].any()
    with pytest.raises(ContractError, match="The choice of blocks is none"):
        nl.chosen_areas(found)


def test_areas_of_an_input_are_listed_with_commas():
    options = FitOptions.check({"rank": 1, "tau_s": 0.1, "areas": "area", "input_areas": {"to A": "A, B"}})
    assert options.input_areas == {"to A": ("A", "B")}


def test_effective_connectivity_has_the_blocks_and_acts_as_n_does():
    network = mock_areas(SPARSE, n_neurons=24, seed=1)[1]
    more = np.random.default_rng(0).standard_normal(network["input_weights"].shape)
    network["input_weights"].values[:] = more  # each input reaches both areas
    network["n"].values[:] += 0.8 * more[:, :1] * (network["n"].values != 0)
    found, area = nl.connectivity(network), network["area"].values
    assert not found["n_effective"].values[area[:, None] != network["from_area"].values].any()
    assert not found["connectivity"].values[np.ix_(area == "A", area == "B")].any()
    columns = np.column_stack([network["m"].values, more])
    for name in "AB":
        own, ranks = (area == name)[:, None] * columns, network["from_area"].values == name
        wanted = own.T @ network["n"].values[:, ranks]
        np.testing.assert_allclose(own.T @ found["n_effective"].values[:, ranks], wanted, atol=1e-9)


def test_collinear_drives_are_named():
    _, network = mock_areas(n_neurons=24, seed=1)
    copied = network.copy(deep=True)
    a, b = (np.flatnonzero(network["area"].values == one) for one in "AB")
    for name in ("m", "n", "input_weights"):  # area B does what area A does
        copied[name].values[b] = 0
    copied["m"].values[b[:, None], [2, 3]] = copied["m"].values[a[:, None], [0, 1]]
    copied["n"].values[b[:, None], [1, 3]] = copied["n"].values[a[:, None], [0, 2]]
    copied["n"].values[a[:, None], 2] = copied["n"].values[a[:, None], 0]
    copied["n"].values[b[:, None], [1, 3]] = copied["n"].values[a[:, None], [0, 0]]
    copied["input_weights"].values[b] = copied["input_weights"].values[a]
    with pytest.warns(UserWarning, match="hardly tell their currents apart"):
        found = nl.currents(copied)
    assert found["tolerance"].values.max() < 1e-6


def means_of(network, seed):
    """Means of ten trials of the network, with noise, and resamples of them."""
    rng, x = np.random.default_rng(seed), network["activity_pred"]
    trials = x.values + 0.3 * rng.standard_normal((10, *x.shape))
    drawn = trials[rng.integers(0, 10, (6, 10))].mean(axis=1)
    recording = x.to_dataset(name="rate").assign(
        rate=(x.dims, trials.mean(axis=0).astype("f4")),
        rate_draw=(("draw", *x.dims), drawn.astype("f4")),
        n_trials=(("condition", "neuron"), np.full((x.sizes["condition"], x.sizes["neuron"]), 10)),
    )
    recording.attrs = {"bin_s": 0.02}
    return recording


@pytest.fixture(scope="module")
def intervals():
    """The true network, a fit to noisy means of it, and its bootstrap."""
    network = mock_areas(SPARSE, n_neurons=24, n_conditions=8, seed=5)[1].isel(time=slice(40))
    recording = means_of(network, 0)

    def prepared(recording):
        given = network[["u"]].assign(activity=recording["rate"].astype("f4"))
        zero, one = np.zeros(24), np.ones(24)
        return given.assign(offset=("neuron", zero), scale=("neuron", one)).assign_attrs(bin_s=0.02)

    fit = nl.fit_lint(prepared(recording), rank=1, tau_s=0.1, areas="area", block_ranks=RANKS, method="regression")
    return network, fit, nl.bootstrap(fit, recording, prepare=prepared, draws=2, simulations=16)


def test_networks_of_draws_and_simulations_have_the_blocks_of_the_fit(intervals):
    _, fit, found = intervals
    own, known, fitted = networks_of_simulations(fit, found)
    for one in [*nl.networks_of_draws(fit, found), *own, *known, *fitted]:
        assert not one["m"].values[fit["area"].values[:, None] != fit["to_area"].values].any()
        assert not one["n"].values[fit["area"].values[:, None] != fit["from_area"].values].any()


def test_intervals_of_currents_hold_the_true_sizes_and_their_centers_are_nearer_than_the_fit(intervals):
    network, fit, found = intervals
    currents, true = nl.currents(fit, bootstrap=found), nl.currents(network)["size"].values[:, :2]
    size, low, high = (currents[name].values[:, :2] for name in ("size", "size_low", "size_high"))
    there = true > 0.1 * true.max(axis=2, keepdims=True)
    given = np.isfinite(low) & there
    assert given.sum() > 0.5 * there.sum()  # 16 simulations often cannot say that an interval would hold
    assert ((low <= true) & (true <= high))[given].mean() >= 0.8
    assert np.square((low + high) / 2 - true)[given].sum() < np.square(size - true)[given].sum()
    assert "some drives have no interval: " in currents.attrs["interval_reason"]
    shown = as_text(of_analysis(currents))
    assert currents.attrs["interval_reason"] in " ".join(shown.split())


def test_without_an_interval_of_the_network_there_is_none_of_its_currents(intervals):
    _, fit, found = intervals
    why = "the fit leaves more unexplained than the noise of the trials"
    currents = nl.currents(fit, bootstrap=found.assign(reason=("quantity", [why] * found.sizes["quantity"])))
    assert currents.attrs["interval_reason"] == why
    assert np.isnan(currents["size_low"]).all()
    with pytest.raises(ContractError, match="Repeat it with simulations=100"):
        nl.currents(fit, bootstrap=found.drop_vars("reason"))
    with pytest.raises(ContractError, match="Give the bootstrap of this fit"):
        nl.currents(fit, bootstrap=found.isel(neuron=slice(1, None)))
    with pytest.raises(ContractError, match="needs to be bootstrap"):
        nl.currents(fit, bootstrap=nl.currents(fit))
    with pytest.raises(ContractError, match="u and bootstrap are both given"):
        nl.currents(fit, fit, bootstrap=found)
