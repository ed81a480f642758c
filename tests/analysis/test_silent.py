"""What is not there, not observed or not recorded does not pass for a number in any analysis."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.analysis.inactivation import groups_of
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit
from tests.factories import random_fit

SWEEP = {"tau_s": 0.1, "method": "regression"}


@pytest.fixture(scope="module")
def activity():
    found = mock_activity()
    return found.assign_coords(
        area=("neuron", np.repeat(["ALM", "V1", ""], 4)),
        side=("condition", np.repeat(["left", "right"], 4)),
    )


@pytest.fixture(scope="module")
def fit(activity):
    """Ten hidden units beside twelve recorded neurons."""
    return nl.fit_lint(activity, rank=1, hidden=10, **SWEEP)


def spoilt(activity, seed=0):
    """Samples masked, and what lies under the mask made absurd; and the same with NaN in their place."""
    mask = np.random.default_rng(seed).random(activity["activity"].shape) > 0.2
    mask[:, :, :3] = True  # three neurons stay whole
    dims = activity["activity"].dims
    absurd = activity.assign(activity=activity["activity"].where(mask, 1e3), mask=(dims, mask))
    absurd["activity_half"] = activity["activity_half"].where(absurd["mask"], -1e3)
    missing = activity.assign({name: activity[name].where(absurd["mask"]) for name in ("activity", "activity_half")})
    return absurd, missing


@pytest.mark.parametrize(
    "analyze",
    [
        nl.score,
        nl.latents,
        nl.project,
        nl.compare_axes,
        lambda fit, activity: nl.fit_readout(activity, "side", folds=2),
        lambda fit, activity: nl.baselines(activity, rank=1, folds=2, **SWEEP),
        lambda fit, activity: nl.ensemble(activity, rank=1, members=2, **SWEEP),
        lambda fit, activity: nl.select_rank(activity, ranks=[1], folds=2, cv_over="neuron", **SWEEP),
        lambda fit, activity: nl.audit(activity, ranks=[1], folds=2, fractions=[1], **SWEEP),
        lambda fit, activity: nl.truncate(nl.fit_lint(activity, rank=None, tau_s=0.1), rank=1, activity=activity),
    ],
    ids=["score", "latents", "project", "axes", "readout", "baselines", "ensemble", "ranks", "audit", "truncate"],
)
def test_what_is_masked_counts_as_not_observed(analyze, fit, activity):
    absurd, missing = spoilt(activity)
    xr.testing.assert_allclose(analyze(fit, absurd), analyze(fit, missing), rtol=1e-4, atol=1e-5)


def test_populations_are_of_recorded_neurons(fit):
    found = nl.find_populations(fit, n_groups=2, resamples=1)
    assert found["neuron"].values.tolist() == fit["neuron"].values[:12].tolist()
    whole = nl.find_populations(fit, n_groups=2, resamples=1, hidden=True)
    assert whole.sizes["neuron"] == 22
    np.testing.assert_array_equal(found["loading"], whole["loading"][:12])  # n is projected with all of them
    x = nl.simulate(fit)["activity"].values[..., :12]
    for k in range(2):
        own = found["population"].values == k
        np.testing.assert_allclose(found["gain"][:, k], (1 - np.tanh(x[..., own]) ** 2).mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(ContractError, match="hidden=True"):
        nl.resample_network(fit, found)
    drawn = nl.resample_network(fit.assign_attrs(fingerprint="abc"), whole)
    assert drawn.attrs["hidden"] == 0
    assert "fingerprint" not in drawn.attrs  # else `nwb-lint fit` would take it for the fit of the recipe
    masks = groups_of(fit, found)
    assert not any(mask[12:].any() for mask in masks.values())


def test_an_initial_activation_is_not_the_strongest_input(activity):
    fit = nl.fit_lint(activity, rank=1, initial="side", **SWEEP)
    assert fit.sizes["input"] == 3
    found = nl.find_populations(fit, method="strongest_input")
    assert found["group"].values.tolist() == ["stimulus"]


def test_a_readout_reads_recorded_neurons(fit, activity):
    read = nl.fit_readout(fit, "side", folds=2)
    assert read["neuron"].values.tolist() == activity["neuron"].values.tolist()
    recorded = fit.isel(neuron=range(12))
    np.testing.assert_allclose(read["readout"], nl.fit_readout(recorded, "side", folds=2)["readout"])
    found = nl.predict_inactivation(fit, {"hidden": list(range(12, 22))}, readout="side", controls=0)
    np.testing.assert_allclose(found.attrs["readout_score"], float(read["score"]))


def test_controls_have_as_many_recorded_neurons_and_as_many_hidden_units(fit):
    """One control has the effect of one of the groups of its size, of which there are few here."""
    hidden = list(range(12, 22))
    for others in ([], hidden):
        possible = {str(k): [k, *others] for k in range(12)}
        effects = nl.predict_inactivation(fit, possible, controls=0)["effect"].values
        found = [nl.predict_inactivation(fit, [5, *others], controls=1, seed=s)["effect_control"][0] for s in range(5)]
        drawn = [int(np.abs(effects - float(one[0])).argmin()) for one in found]
        np.testing.assert_allclose([one[0] for one in found], effects[drawn], rtol=1e-5)
        assert len(set(drawn)) > 1
    all_hidden = nl.predict_inactivation(fit, {"hidden": hidden}, controls=3)
    np.testing.assert_allclose(all_hidden["effect_control"][0], float(all_hidden["effect"][0]), rtol=1e-6)


def test_effects_are_on_recorded_neurons(fit):
    found = nl.predict_inactivation(fit, {"recorded": [0, 1, 2]}, controls=0)
    before, after = (nl.simulate(fit, silence=which)["activity"].values[..., :12] for which in ([], [0, 1, 2]))
    effect = np.sqrt(((after - before)[..., 3:] ** 2).mean() / (before**2).mean())
    assert float(found["effect"][0]) == pytest.approx(effect, rel=1e-4)


@pytest.mark.parametrize("missing", ["", "N/A", "nan"])
def test_neurons_without_a_value_are_no_group(fit, missing):
    area = np.where(fit["area"].values == "", missing, fit["area"].values)
    assert list(groups_of(fit.assign_coords(area=("neuron", area)), "area")) == ["area=ALM", "area=V1"]
    depth = np.r_[np.ones(6), np.full(16, np.nan)]
    (mask,) = groups_of(fit.assign_coords(depth=("neuron", depth)), "depth").values()
    assert mask.sum() == 6
    nobody = fit.assign_coords(depth=("neuron", np.full(22, np.nan)))
    with pytest.raises(ContractError, match="no group"):
        nl.predict_inactivation(nobody, "depth")


def test_conditions_without_an_answer_do_not_count(activity):
    fit = nl.fit_lint(activity, rank=1, **SWEEP)
    answer = np.sign(fit["stimulus"].values)
    holes = fit.assign_coords(answer=("condition", np.where(np.arange(8) < 3, np.nan, answer)))
    weights = xr.DataArray(fit["m"].values[:, 0], dims="neuron")
    one = nl.predict_inactivation(holes, "area", readout=weights, controls=0)
    few = fit.assign_coords(answer=("condition", answer)).isel(condition=slice(3, None))
    other = nl.predict_inactivation(few, "area", readout=weights, controls=0)
    np.testing.assert_array_equal(one["accuracy"], other["accuracy"])
    np.testing.assert_array_equal(one["accuracy_intact"], other["accuracy_intact"])


def test_conditions_without_a_context_are_of_none(activity):
    side = np.array(["left", "", *["right"] * 6])
    fit = nl.fit_lint(activity.assign_coords(side=("condition", side)), rank=1, **SWEEP)
    found = nl.predict_inactivation(fit, "area", readout="stimulus", context="side", controls=0)
    assert found["context"].values.tolist() == ["left", "right"]
    alone = nl.predict_inactivation(fit, "area", readout="stimulus", controls=0)
    without = 8 * alone["accuracy_intact"].item() - found["accuracy_intact"].values @ [1, 6]
    assert -1e-9 < without < 1 + 1e-9  # right or wrong in the one that has no context
    shown = [text.get_text() for text in plot.psychometric(found, "stimulus").figure.legends[0].get_texts()]
    assert shown == ["side left", "side right", "area=ALM", "area=V1"]
    with pytest.raises(ContractError, match=r"side.*missing"):
        nl.compare_axes(fit, activity.assign_coords(side=("condition", side)), variables=["side"])


@pytest.mark.parametrize("column", [np.r_[np.nan, np.ones(4), np.zeros(3)], np.array(["", *"llll", *"rrr"])])
def test_a_readout_of_a_column_with_holes_is_refused(activity, column):
    with pytest.raises(ContractError, match="no value in 1 of 8 conditions"):
        nl.fit_readout(activity.assign_coords(choice=("condition", column)), "choice", folds=2)


def test_a_readout_averages_what_was_observed(activity):
    x = activity["activity"].values.copy()
    x[2, 5:, 4] = np.nan
    holes = nl.fit_readout(activity.assign(activity=(activity["activity"].dims, x)), "stimulus", folds=4)
    x[2, 5:, 4] = np.arctanh(np.tanh(x[2, :5, 4]).mean())  # the mean rate of what is left
    filled = nl.fit_readout(activity.assign(activity=(activity["activity"].dims, x)), "stimulus", folds=4)
    np.testing.assert_allclose(holes["readout"], filled["readout"], rtol=1e-3)
    x[2, :, 4] = np.nan
    with pytest.raises(ContractError, match="not observed in the window"):
        nl.fit_readout(activity.assign(activity=(activity["activity"].dims, x)), "stimulus", folds=4)


def test_a_network_that_diverges_when_excited_is_reported():
    m = np.ones((6, 1))
    fit = random_fit(n_neurons=6, rank=1, n_bins=400, burn_in=False, optional=False)
    fit = fit.assign(m=(("neuron", "rank"), m), n=(("neuron", "rank"), 2 * m)).assign_attrs(nonlinearity="linear")
    fit = fit.assign_attrs(dt_s=0.05)
    with pytest.raises(ContractError, match="diverges with 6 neurons at factor 20"), np.errstate(all="ignore"):
        nl.predict_inactivation(fit, {"all": np.ones(6, bool)}, factor=20.0, controls=0)


def test_axes_and_weights_speak_of_the_same_n(activity):
    """Only the part of n within span(m, I) is given, whatever the rest is."""
    fit = nl.fit_lint(activity, rank=1, **SWEEP)
    span = np.column_stack([fit["m"].values, fit["input_weights"].values])
    rest = np.random.default_rng(0).standard_normal((12, 1))
    rest = rest - span @ np.linalg.lstsq(span, rest, rcond=None)[0]
    other = fit.assign(n=(("neuron", "rank"), fit["n"].values + 5 * rest))
    for one in (lambda f: nl.compare_axes(f, activity), nl.weight_statistics):
        a, b = one(fit), one(other)
        for name in a.data_vars:
            np.testing.assert_allclose(a[name], b[name], atol=1e-5)
    own = nl.compare_axes(fit, activity)["axis"].sel(axis_name="n 1")
    weights = nl.weight_statistics(fit)["weight"].sel(vector="n 1")
    np.testing.assert_allclose(own, weights / np.linalg.norm(weights))


@pytest.mark.parametrize("analyze", [nl.score, nl.latents])
def test_activity_in_other_bins_inputs_or_units_is_noticed(analyze, activity):
    fit = mock_fit()
    with pytest.raises(ContractError, match=r"bins.*0\.01 s.*0\.02 s"):
        analyze(fit, activity.assign_attrs(bin_s=0.01))
    with pytest.raises(ContractError, match=r"inputs.*tone.*stimulus"):
        analyze(fit, activity.assign_coords(input=("input", ["tone"])))
    with pytest.warns(UserWarning, match=r"Hz per unit.*scale"):
        analyze(fit, activity.assign(scale=1.1 * activity["scale"]))


def test_fits_of_others_that_say_little_are_analyzed(activity):
    """The contract asks for neither held_out nor recorded; without a nonlinearity nothing can run, in one line."""
    fit = mock_fit()
    bare = fit.drop_vars(["held_out", "recorded"])
    assert float(nl.score(bare, activity)["r2"]) == pytest.approx(float(nl.score(fit, activity)["r2"]))
    assert nl.weight_statistics(bare).sizes["neuron"] == 12
    assert nl.fixed_points(bare, activity=activity, refit_fractions=[1.0], n_starts=20).sizes["draw"] == 1
    unknown = fit.assign_attrs({name: value for name, value in fit.attrs.items() if name != "nonlinearity"})
    del unknown.attrs["nonlinearity"]
    for analyze in (nl.simulate, nl.flow_field, nl.fixed_points, nl.find_populations):
        with pytest.raises(ContractError, match=r"nonlinearity"):
            analyze(unknown)


def test_an_unconstrained_fit_is_projected_on_its_inputs(activity):
    full = nl.fit_lint(activity, rank=None, tau_s=0.1)
    assert nl.project(full, activity)["axis_name"].values.tolist() == ["I stimulus"]


def test_conditions_of_one_label_are_taken_in_their_order(activity):
    """Labels that occur twice cannot be sorted by; the figures of a fit took them to be."""
    twice = activity.assign_coords(condition=["a", "a", *"bcdefg"])
    fit = nl.fit_lint(twice, rank=1, **SWEEP)
    drawn = plot.latents_over_time(fit, twice)
    found = nl.latents(fit, twice)["latent_data"].values[..., 0]
    np.testing.assert_allclose([line.get_ydata() for line in drawn.lines[:16:2]], found, atol=1e-4)


def test_halves_without_anything_in_common_leave_a_fit_of_its_own():
    """A neuron whose halves do not agree has no instruments: no division by what is next to 0."""
    rng = np.random.default_rng(0)
    activity = mock_activity(n_neurons=4).isel(neuron=[0])
    halves = rng.standard_normal((1, *activity["activity"].shape)).astype(np.float32)
    activity["activity_half"] = activity["activity_half"].dims, np.concatenate([halves, -halves])
    fit = nl.fit_lint(activity, rank=1, **SWEEP)
    assert np.isfinite(fit["activity_pred"]).all()


def test_a_level_without_a_value_is_not_drawn():
    result = xr.Dataset(
        {
            "factor": (("group", "neuron"), np.ones((1, 1))),
            "activity_change": (("group", "condition", "neuron"), np.zeros((1, 4, 1))),
            "effect": ("group", np.zeros(1)),
            "output": (("group", "condition", "time"), np.array([[[1.0], [-1.0], [1.0], [1.0]]])),
        },
        {"group": ["a"], "neuron": ["n"], "time": [0.0], "motion": ("condition", [0.1, 0.1, 0.2, np.nan])},
        {"kind": "inactivation", "context": ""},
    )
    (curve,) = plot.psychometric(result, "motion").containers
    np.testing.assert_array_equal(curve.lines[0].get_xdata(), [0.1, 0.2])
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), [0.5, 1.0])
