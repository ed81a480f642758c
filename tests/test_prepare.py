"""Laws of the preparation and the inputs: undone, blind to held-out conditions, errors in one line."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.model.scores import ceiling, noise_of, r_squared, reference_of
from nwb_lint.prepare import conditions_mask
from nwb_lint.testing import mock_recording, mock_trials

STIMULUS = nl.Input("stimulus", column="stimulus", window_s=(0.0, 1.0))


@pytest.mark.parametrize("center", [True, False, (-0.2, 0.0)])
@pytest.mark.parametrize("time_course", [True, False])
@pytest.mark.parametrize("scale", ["auto", "neuron", 3.0])
def test_rates_come_back(center, time_course, scale):
    recording = mock_recording()
    activity = nl.prepare(
        recording, inputs=[STIMULUS], n_components=None, center=center, time_course=time_course, scale=scale
    )
    rate = activity["activity"] * activity["scale"] + activity["offset"]
    np.testing.assert_allclose(rate.transpose(*recording["rate"].dims), recording["rate"], rtol=1e-4, atol=1e-4)


def test_scales_do_what_they_say():
    auto = nl.prepare(mock_recording(), inputs=[STIMULUS], n_components=None)["activity"].values
    each = nl.prepare(mock_recording(), inputs=[STIMULUS], n_components=None, scale="neuron")["activity"].values
    assert (auto**2).mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose((each**2).mean(axis=(0, 1)), 1, rtol=1e-4)


def test_held_out_conditions_change_nothing():
    recording = mock_recording()
    other = recording.copy(deep=True)
    other["rate"][6:] = 1000 * np.random.default_rng(0).random(other["rate"][6:].shape)
    options = {"inputs": [STIMULUS], "n_components": 5, "fit_on": range(6)}
    a, b = nl.prepare(recording, **options), nl.prepare(other, **options)
    for name in ("offset", "scale", "component"):
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(a["activity"][:6], b["activity"][:6])
    assert list(a["held_out"].values) == [False] * 6 + [True] * 2


def test_unobserved_samples_stay_unobserved():
    recording = mock_recording()
    recording["rate"][2, 5:9, 3] = np.nan
    activity = nl.prepare(recording, inputs=[STIMULUS], n_components=4)["activity"]
    np.testing.assert_array_equal(np.isnan(activity), np.isnan(recording["rate"]))


def test_denoising_leaves_as_many_components_as_asked():
    activity = nl.prepare(mock_recording(), inputs=[STIMULUS], n_components=3, time_course=False)["activity"]
    assert np.linalg.matrix_rank(activity.values.reshape(-1, 12), tol=1e-2) == 3


def test_components_of_many_neurons_are_those_of_a_singular_value_decomposition():
    recording = mock_recording(n_neurons=2100, n_conditions=4)
    activity = nl.prepare(recording, inputs=[STIMULUS], n_components=3)
    rate = recording["rate"].values.astype(float)
    flat = (rate - rate.mean(axis=(0, 1))).reshape(-1, 2100)
    expected = np.linalg.svd(flat, full_matrices=False)[2][:3]
    found = activity["component"].values
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.abs((found * expected).sum(axis=1)), 1, rtol=1e-6)


def test_kinds_of_input():
    recording = mock_recording().assign_coords(side=("condition", ["left", "right"] * 4))
    inputs = [
        STIMULUS,
        nl.Input("left", column="side", equals="left", scale=2.0, window_s=(-9, 9)),
        nl.Input("side", column="side", window_s=(0.1, 0.2)),
        nl.Input("go", window_s=(0.3, 0.4)),
    ]
    activity = nl.prepare(recording, inputs=inputs, burn_in_s=0.1)
    assert list(activity["input"].values) == ["stimulus", "left", "side=left", "side=right", "go"]
    assert activity.sizes["burn_in"] == 5
    u, time = activity["u"].values, activity["time"].values
    np.testing.assert_allclose(u[:, time > 0, 0], np.repeat(recording["stimulus"].values[:, None], 30, 1), rtol=1e-6)
    assert not u[:, time < 0, 0].any()
    np.testing.assert_array_equal(u[:, 0, 1], [2, 0] * 4)
    np.testing.assert_array_equal(activity["u_burn_in"].values[:, 0, 1], [2, 0] * 4)
    np.testing.assert_array_equal(u[0, :, 4], (time >= 0.3) & (time < 0.4))


GO = nl.Input("on", window_s=(-0.2, 0.7))


def test_collinear_inputs_are_named():
    inputs = [STIMULUS, nl.Input("again", column="stimulus", scale=-3.0, window_s=(0.0, 1.0)), GO]
    with pytest.warns(UserWarning, match="stimulus, again are collinear"):
        nl.prepare(mock_recording(), inputs=inputs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": []}, "no inputs"),
        ({"inputs": [nl.Input("a", column="motion", window_s=(0, 1))]}, "motion"),
        ({"inputs": [nl.Input("a", column="stimulus", equals=7, window_s=(0, 1))]}, "7"),
        ({"inputs": [nl.Input("a", window_s=(5.0, 6.0))]}, "5 to 6"),
        ({"inputs": [STIMULUS, STIMULUS]}, "same name"),
        ({"n_components": 0}, "n_components"),
        ({"scale": 0.0}, "scale"),
        ({"scale": "big"}, "big"),
        ({"burn_in_s": 0.03}, "burn_in_s"),
        ({"center": (3.0, 4.0)}, "center"),
        ({"fit_on": [99]}, "99"),
        ({"fit_on": ["stimulus=7"]}, "stimulus=7"),
    ],
)
def test_errors_are_one_line(options, words):
    with pytest.raises(ContractError) as caught:
        nl.prepare(mock_recording(), **({"inputs": [STIMULUS]} | options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("center", [True, False, (-0.2, 0.0)])
@pytest.mark.parametrize("time_course", [True, False])
def test_activity_is_its_formula(center, time_course):
    """Against the docstring's equation written out, with the projector from an SVD of the centered rates."""
    recording = mock_recording()
    rate = recording["rate"].values.astype(float)
    before = recording["time"].values < 0
    mean = rate[:6][:, before if isinstance(center, tuple) else slice(None)].mean(axis=(0, 1)) if center else 0
    axes = np.linalg.svd((rate[:6] - mean).reshape(-1, 12), full_matrices=False)[2][:4]
    denoised = (rate - mean) @ axes.T @ axes
    course = denoised[:6].mean(axis=0) if time_course else np.zeros(12)
    expected = (denoised - course) / 2.5
    options = {"n_components": 4, "center": center, "time_course": time_course, "scale": 2.5, "fit_on": range(6)}
    activity = nl.prepare(recording, inputs=[STIMULUS], **options)
    np.testing.assert_allclose(activity["activity"], expected, atol=1e-4)
    np.testing.assert_allclose(activity["offset"], mean + (course if time_course else np.zeros(12)), atol=1e-6)
    np.testing.assert_allclose(abs((activity["component"].values * axes).sum(axis=1)), 1, atol=1e-8)
    halves = (recording["rate_half"].values - mean) @ axes.T @ axes
    np.testing.assert_allclose(activity["activity_half"], (halves - course) / 2.5, atol=1e-4)


def test_nothing_given_is_changed_and_two_runs_are_one():
    recording = mock_recording()
    before = recording.copy(deep=True)
    one, two = (nl.prepare(recording, inputs=[STIMULUS], n_components=5) for _ in range(2))
    assert recording.identical(before)
    assert one.identical(two)


def test_order_of_neurons_and_conditions_does_not_matter():
    recording, rng = mock_recording(), np.random.default_rng(0)
    neurons, conditions = rng.permutation(12), rng.permutation(8)
    options = {"inputs": [STIMULUS], "n_components": 5, "scale": "neuron", "burn_in_s": 0.06}
    straight = nl.prepare(recording, **options).isel(neuron=neurons, condition=conditions)
    permuted = nl.prepare(recording.isel(neuron=neurons, condition=conditions), **options)
    for name in ("activity", "activity_half", "u", "u_burn_in", "offset", "scale"):
        np.testing.assert_allclose(permuted[name], straight[name], atol=1e-5)
    assert list(permuted["neuron"].values) == list(straight["neuron"].values)


@pytest.mark.parametrize("which", [[0, 3], ["stimulus=-1", "stimulus=-0.142857"], np.isin(range(8), [0, 3])])
def test_conditions_by_position_label_or_mask(which):
    recording = mock_recording()
    np.testing.assert_array_equal(conditions_mask(recording, which), np.isin(range(8), [0, 3]))
    assert conditions_mask(recording, None).all()


def test_estimates_with_unobserved_samples_use_what_was_seen():
    recording = mock_recording()
    recording["rate"][2, :, 3] = np.nan
    recording["rate"][4, 5:9, 7] = np.nan
    seen = recording["rate"].values.astype(float)
    options = {"inputs": [STIMULUS], "n_components": None, "scale": 1.0}
    plain = nl.prepare(recording, time_course=False, **options)
    np.testing.assert_allclose(plain["offset"], np.nanmean(seen, axis=(0, 1)), atol=1e-5)
    whole = nl.prepare(recording, **options)
    np.testing.assert_allclose(whole["offset"], np.nanmean(seen, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fit_on": []}, "Choose one"),
        ({"fit_on": np.ones(3, bool)}, "3 entries"),
        ({"fit_on": [-1]}, "-1"),
        ({"fit_on": [0]}, "do not vary"),
        ({"center": (0.4, 0.1)}, "center"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": -1.0}, "scale"),
        ({"n_components": 2.5}, "n_components"),
        ({"fit_on": ["stimulus=7"]}, "called 'stimulus=7'"),
    ],
)
def test_more_errors_are_one_line(options, words):
    test_errors_are_one_line(options, words)


def test_neuron_never_observed_is_reported():
    recording = mock_recording()
    recording["rate"][:6, :, 3] = np.nan
    with pytest.raises(ContractError, match=r"^1 of 12 neurons have no observed sample [^\n]*$"):
        nl.prepare(recording, inputs=[STIMULUS], fit_on=range(6))


def test_infinite_rates_are_reported_without_a_warning():
    recording = mock_recording()
    recording["rate"][3, :, 2] = np.inf
    with pytest.raises(ContractError, match=r"^rate [^\n]*$"):
        nl.prepare(recording, inputs=[STIMULUS])


@pytest.mark.parametrize(("trials", "raw"), [(4, 0.06), (40, 0.003)])
def test_ceiling_of_denoised_conditions_is_the_score_of_the_true_rates(trials, raw):
    """Components that were estimated from noise follow it; 30 units, two true components, ten estimated."""
    rng = np.random.default_rng(0)
    recording = mock_recording()
    latents = np.cumsum(rng.standard_normal((24, 30, 2)), axis=1)
    true = 20 + latents @ rng.standard_normal((2, 40))
    halves = true + rng.standard_normal((2, *true.shape)) * 12 / np.sqrt(trials / 2)
    shape = ("condition", "time", "neuron")
    made = xr.Dataset(
        {"rate": (shape, halves.mean(0).astype("f4")), "rate_half": (("half", *shape), halves.astype("f4"))},
        {"condition": [str(k) for k in range(24)], "time": np.arange(30) * 0.1, "neuron": [str(k) for k in range(40)]},
        recording.attrs | {"bin_s": 0.1},
    )
    made["n_trials"] = ("condition", "neuron"), np.full((24, 40), trials)
    made["n_trials_half"] = ("half", "condition", "neuron"), np.full((2, 24, 40), trials // 2)
    made["time"].attrs["units"] = "s"
    activity = nl.prepare(made, inputs=[nl.Input("on", window_s=(0, 1))], n_components=10, fit_on=range(18))
    axes, y = activity["component"].values, activity["activity"].values
    truth = (true - activity["offset"].values) @ axes.T @ axes / activity["scale"].values
    reference = reference_of(y, np.arange(24) < 18)
    for part in (slice(0, 18), slice(18, 24)):
        scored = r_squared(y[part], truth[part], reference)[0]
        assert ceiling(y[part], noise_of(activity)[part], reference) == pytest.approx(scored, abs=0.02)
    plain = ceiling(y[:18], noise_of(activity.drop_vars("noise_factor"))[:18], reference)
    assert plain > r_squared(y[:18], truth[:18], reference)[0] + raw


def test_without_two_halves_of_trials_the_ceiling_is_unknown():
    recording = mock_recording()
    recording["n_trials_half"][0, :4] = 0
    recording["rate_half"][0, :4] = np.nan
    with pytest.warns(UserWarning, match="no two halves of trials"):
        activity = nl.prepare(recording, inputs=[STIMULUS], n_components=3)
    assert np.isnan(ceiling(activity["activity"].values, noise_of(activity), np.zeros(12)))


def test_a_neuron_with_most_of_the_variance_does_not_set_the_scale():
    recording = mock_recording()
    recording["rate"][..., 2] *= 1000
    with pytest.warns(UserWarning, match=r"Neuron 2 has 100% of the variance of all 12 neurons"):
        activity = nl.prepare(recording, inputs=[STIMULUS], n_components=None)
    xr.testing.assert_equal(activity, nl.prepare(recording, inputs=[STIMULUS], n_components=None, scale="neuron"))
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_size=2)
    assert float(fit["r2_median"][1]) > 0.5


def test_many_silent_neurons_leave_the_components_of_the_others():
    """More neurons than samples, which takes another decomposition."""
    few = mock_recording()
    constant = few.isel(neuron=np.zeros(2100, int))
    constant = constant.assign(rate=xr.full_like(constant["rate"], 5.0))
    constant = constant.assign_coords(neuron=[f"constant{k}" for k in range(2100)])
    many = xr.concat([few, constant], "neuron", data_vars="minimal", join="override", combine_attrs="override")
    options = {"inputs": [STIMULUS], "n_components": 3, "scale": 1.0}
    one, other = (nl.prepare(recording, **options) for recording in (few, many))
    found = other["activity"].values[..., : few.sizes["neuron"]]
    np.testing.assert_allclose(found, one["activity"].values, atol=1e-5 * np.abs(found).max())
    size = np.abs(other["component"].values[:, : few.sizes["neuron"]])
    np.testing.assert_allclose(size, np.abs(one["component"].values), atol=1e-6)


def test_trials_that_have_inputs_get_the_new_ones():
    on, trials = nl.Input("on", window_s=(0, 0.5)), mock_trials()
    again = nl.prepare(nl.prepare(trials, inputs=[STIMULUS, on]), inputs=[on])
    xr.testing.assert_identical(again, nl.prepare(trials, inputs=[on]))
