"""Inactivation: nobody changes nothing, all leave the inputs, and the numbers are those of the network itself."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.analysis.inactivation import effect_table, groups_of
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.model.simulate import run
from nwb_lint.tasks.demo import context_network
from nwb_lint.tasks.generate import contextual_decision
from nwb_lint.testing import mock_activity, mock_fit


def network_and_trials(n_units=60, full=False):
    """A network that decides by context, as a network Dataset with its readout, and noisy trials of the task."""
    m, n, w = context_network(n_units, seed=0)
    network = xr.Dataset(
        {
            "input_weights": (("neuron", "input"), w),
            "bias": ("neuron", np.zeros(n_units)),
            "initial_activation": ("neuron", np.zeros(n_units)),
            "readout": ("neuron", m[:, 0]),
        },
        coords={"neuron": [f"n{k}" for k in range(n_units)], "area": ("neuron", np.repeat(["A", "B"], n_units // 2))},
        attrs={"dt_s": 0.02, "tau_s": 0.1, "nonlinearity": "tanh"},
    )
    if full:
        network["J"] = ("neuron", "neuron_from"), m @ n.T / n_units
    else:
        network["m"], network["n"] = (("neuron", "rank"), m), (("neuron", "rank"), n)
    trials = contextual_decision(60, seed=1).rename(trial="condition")
    trials = trials.assign_coords(condition=trials["condition"].values.astype(str))
    trials["u"] = trials["u"].dims, 2 * trials["u"].values  # this network needs strong cues
    return network, trials


@pytest.fixture(scope="module", params=[False, True], ids=["low rank", "full rank"])
def known(request):
    return network_and_trials(full=request.param)


@pytest.fixture(scope="module")
def fit():
    area = ("neuron", ["ALM"] * 4 + ["V1"] * 8)
    return mock_fit().assign_coords(area=area, depth=("neuron", np.arange(12.0)))


def test_nobody_changes_nothing_and_all_leave_the_inputs(known):
    network, trials = known
    groups = {"nobody": [], "all": np.ones(60, bool)}
    found = nl.predict_inactivation(network, groups, u=trials, context="context", controls=0)
    assert not found["activity_change"].sel(group="nobody").any()
    assert float(found["effect"].sel(group="nobody")) == 0
    np.testing.assert_array_equal(found["accuracy"].sel(group="nobody"), found["accuracy_intact"])
    v = np.zeros(trials["u"].shape)
    for t in range(v.shape[1] - 1):
        v[:, t + 1] = 0.8 * v[:, t] + 0.2 * trials["u"].values[:, t]
    intact = run(network, trials)["activity"].values
    driven = v @ network["input_weights"].values.T
    np.testing.assert_allclose(found["activity_change"].sel(group="all"), (driven - intact).mean(axis=1), atol=2e-5)
    assert not found["output"].sel(group="all").any()


def test_populations_decide_by_their_context(known):
    """Silencing the neurons that read motion leaves the color context and spoils the motion context."""
    network, trials = known
    found = nl.predict_inactivation(network, "area", u=trials, context="context", controls=5)
    assert found["accuracy_intact"].values.min() > 0.9
    a, b = found["accuracy"].sel(group="area=A"), found["accuracy"].sel(group="area=B")
    assert float(a.sel(context="color")) > 0.85
    assert float(a.sel(context="motion")) < 0.75
    assert float(b.sel(context="motion")) > 0.85
    assert float(b.sel(context="color")) < 0.75
    assert (np.diff(found["effect_control"].values, axis=1) >= 0).all()
    assert check_result(found, "inactivation") == "inactivation"
    assert "prediction" in found.attrs["caution"]


def test_numbers_are_those_of_the_recurrence(known):
    """Activity, output, accuracy and effect of a pulse of partial suppression, by the recurrence written down."""
    network, trials = known
    some = np.arange(60) % 7 == 0
    found = nl.predict_inactivation(
        network, {"some": some}, u=trials, context="context", factor=0.3, window_s=(0.5, 0.9), controls=0
    )
    j = network["J"].values if "J" in network else network["m"].values @ network["n"].values.T / 60
    u, w, time = trials["u"].values, network["input_weights"].values, trials["time"].values
    gain = np.where((time >= 0.5)[:, None] & (time < 0.9)[:, None] & some, 0.3, 1.0)
    runs = []
    for g in (np.ones_like(gain), gain):
        x = np.zeros((60, len(time), 60))
        for t in range(len(time) - 1):
            x[:, t + 1] = 0.8 * x[:, t] + 0.2 * ((np.tanh(x[:, t]) * g[t]) @ j.T + u[:, t] @ w.T)
        runs.append(x)
    inside = (time >= 0.5) & (time < 0.9)
    change = (runs[1] - runs[0])[:, inside].mean(axis=1)
    np.testing.assert_allclose(found["activity_change"][0], change, atol=2e-5)
    z = (np.tanh(runs[1]) * gain) @ network["readout"].values / 60
    np.testing.assert_allclose(found["output"][0], z, atol=2e-5)
    effect = np.sqrt(((runs[1] - runs[0])[..., ~some] ** 2).mean() / (runs[0] ** 2).mean())
    np.testing.assert_allclose(found["effect"][0], effect, rtol=1e-3)
    right = np.sign(z[:, -1]) == trials["answer"].values
    for context in ("motion", "color"):
        part = trials["context"].values == context
        assert float(found["accuracy"].sel(context=context)[0]) == right[part].mean()


def test_rates_are_in_hz_and_controls_have_the_groups_size(fit):
    found = nl.predict_inactivation(fit, "area", readout="stimulus", controls=8)
    change = nl.simulate(fit, silence=fit["area"].values == "V1")["rate"] - nl.simulate(fit)["rate"]
    np.testing.assert_allclose(found["rate_change"].sel(group="area=V1"), change.mean("time"), atol=1e-4)
    assert found.attrs["group_size"] == [4, 8]
    assert effect_table(found).columns.tolist()[:5] == [
        "group", "neurons", "effect", "effect control low", "effect control median",
    ]  # fmt: skip
    again = nl.predict_inactivation(fit, "area", readout="stimulus", controls=8)
    assert found.identical(again)
    excited = nl.predict_inactivation(fit, "area", drive=1.0, factor=1.0, controls=0)
    pushed = nl.simulate(fit, drive=np.where(fit["area"].values == "V1", 1.0, 0.0))["activity"]
    np.testing.assert_allclose(
        excited["activity_change"].sel(group="area=V1"), (pushed - nl.simulate(fit)["activity"]).mean("time"), atol=1e-5
    )


def test_groups_by_column_query_labels_and_populations(fit):
    assert {k: int(v.sum()) for k, v in groups_of(fit, "area").items()} == {"area=ALM": 4, "area=V1": 8}
    (mask,) = groups_of(fit, "area == 'V1' and depth < 6").values()
    assert np.flatnonzero(mask).tolist() == [4, 5]
    (mask,) = groups_of(fit, ["0", "3"]).values()
    assert np.flatnonzero(mask).tolist() == [0, 3]
    found = nl.find_populations(fit, n_groups=1, resamples=1)
    assert [int(v.sum()) for v in groups_of(fit, found).values()] == [12]


@pytest.mark.parametrize(
    ("groups", "options", "words"),
    [
        ("area == 'S1'", {}, "No neuron satisfies"),
        ("color == 'V1'", {}, "no column 'color'"),
        ("__import__('os')", {}, "__import__"),
        ({}, {}, "no group"),
        ("area", {"factor": np.nan}, "factor"),
        ("area", {"controls": -1}, "controls"),
        ("area", {"window_s": (5.0, 6.0)}, "window.*5"),
        ("area", {"context": "rule"}, "no column 'rule'"),
        ("area", {"readout": xr.DataArray(np.ones(3), dims="neuron")}, "3 weights"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(fit, groups, options, words):
    with pytest.raises(ContractError, match=words) as caught:
        nl.predict_inactivation(fit, groups, **options)
    assert "\n" not in str(caught.value)


def test_readout_finds_known_weights_and_is_cross_validated():
    rng = np.random.default_rng(0)
    activity = mock_activity(n_neurons=8, n_conditions=60)
    x = rng.standard_normal((60, 40, 8)).astype(np.float32) + rng.standard_normal((60, 1, 8)).astype(np.float32)
    activity["activity"] = activity["activity"].dims, x
    true = rng.standard_normal(8)
    z = np.tanh(x[:, :10]).mean(axis=1) @ true
    window = (float(activity["time"][0]), float(activity["time"][10]) - 1e-9)
    activity = activity.assign_coords(
        z=("condition", z),
        choice=("condition", np.where(z > 0, "right", "left")),
        coin=("condition", rng.permutation(z)),
    )
    read = nl.fit_readout(activity, "z", window_s=window)
    np.testing.assert_allclose(read["readout"] / 8, true, atol=0.02)
    assert read["score"] > 0.99
    choice = nl.fit_readout(activity, "choice", window_s=window)
    assert choice["score"] > 0.8
    assert (choice.attrs["negative"], choice.attrs["positive"]) == ("left", "right")
    assert nl.fit_readout(activity, "coin", window_s=window)["score"] < 0.2  # held out, nothing is there to be read
    with pytest.raises(ContractError, match="no column 'side'"):
        nl.fit_readout(activity, "side")


def test_a_readout_of_some_neurons_says_the_same_with_others_beside_them():
    """z = readout . phi(x) / N + intercept with the readout's own N, as `fit_readout` fits it."""
    network, trials = network_and_trials()
    x = run(network, trials)["activity"]
    seen = xr.Dataset({"activity": x.isel(neuron=slice(0, 20))}).assign_coords(answer=trials["answer"])
    readout = nl.fit_readout(seen, "answer", folds=3)
    readout["intercept"] = readout["intercept"] + 0.7  # an intercept that matters
    found = nl.predict_inactivation(network, {"nobody": []}, u=trials, readout=readout, controls=0)
    z = np.tanh(x.values[..., :20]) @ readout["readout"].values / 20 + float(readout["intercept"])
    np.testing.assert_allclose(found["output"].values[0], z, atol=1e-5)


def test_the_caution_says_that_n_is_far_longer_than_its_effective_part():
    """A part of n outside span(m, I) does not move the intact network, and is named where it is large."""
    fit = mock_fit(n_neurons=40)
    plain = nl.predict_inactivation(fit, [0, 1], controls=0)
    assert plain.attrs["n_norm_ratio"] < 4
    assert "times as long" not in plain.attrs["caution"]
    basis, _ = np.linalg.qr(np.column_stack([fit["m"].values, fit["input_weights"].values]))
    extra = np.random.default_rng(0).standard_normal(fit["n"].shape)
    extra -= basis @ (basis.T @ extra)
    long = fit.assign(n=fit["n"] + 100 * np.abs(fit["n"].values).max() * extra)
    found = nl.predict_inactivation(long, [0, 1], controls=0)
    assert found.attrs["n_norm_ratio"] > 4
    assert "times as long as its effective part" in found.attrs["caution"]


def test_a_reference_stands_beside_the_prediction():
    low, trials = network_and_trials()
    full, _ = network_and_trials(full=True)
    groups = {"some": range(6), "pair": [6, 7]}
    same = nl.predict_inactivation(low, groups, u=trials, reference=full, controls=0)
    np.testing.assert_allclose(same["effect_reference"], same["effect"], rtol=1e-3)
    np.testing.assert_allclose(same["correlation_reference"], 1, rtol=1e-3)
    assert "unconstrained fit beside it predicts effects 1.00 times as large" in same.attrs["caution"]
    assert {"effect reference", "correlation reference"} < set(effect_table(same).columns)
    order = np.random.default_rng(0).permutation(60)
    other = full.isel(neuron=order, neuron_from=order)
    mixed = nl.predict_inactivation(low, groups, u=trials, reference=other, controls=0)
    np.testing.assert_allclose(mixed["correlation_reference"], 1, rtol=1e-3)
    half = full.assign(J=0.5 * full["J"])
    smaller = nl.predict_inactivation(low, groups, u=trials, reference=half, controls=0)
    assert (smaller["effect_reference"] < 0.9 * same["effect"]).all()
    few = low.isel(neuron=slice(59))
    with pytest.raises(ContractError, match="lacks neuron 'n59'"):
        nl.predict_inactivation(low, groups, u=trials, reference=few, controls=0)
