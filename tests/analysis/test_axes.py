"""Axes of fits and data against planted ones, and what permutations, gauges and rotations leave."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import nwb_lint as nl
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit
from tests.factories import random_fit

N, T = 30, 20


def planted(noise=0.0, seed=0):
    """Activity along three random directions: two variables with a course of their own, and a third that is neither."""
    rng = np.random.default_rng(seed)
    fit = random_fit(seed, n_neurons=N, n_conditions=12, n_bins=T, burn_in=False, optional=False)
    motion, color = np.repeat([-1.0, 0.0, 1.0], 4), np.tile([-1.0, 1.0, 0.5, -0.5], 3)
    directions = rng.standard_normal((3, N))
    time = np.linspace(0, 1, T)
    courses = np.stack([np.sin(np.pi * time), time**2, np.cos(3 * time)])
    weights = np.stack([motion, color, np.ones(12)])
    x = np.einsum("kc,kt,kn->ctn", weights, courses, directions) + noise * rng.standard_normal((12, T, N))
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x)},
        {
            "motion": ("condition", motion),
            "color": ("condition", color),
            "time": fit["time"],
            "neuron": fit["neuron"],
        },
    ).assign_coords(side=("condition", np.array(["left", "right"])[np.arange(12) % 2]))
    return fit, activity, directions / np.linalg.norm(directions, axis=1)[:, None]


def test_regression_finds_planted_directions_at_the_time_they_are_largest():
    fit, activity, directions = planted(noise=0.02)
    found = nl.compare_axes(fit, activity, variables=["motion", "color"], orthogonal=False)
    assert check_result(found) == "axes"
    for name, wanted in zip(("motion", "color"), directions, strict=False):
        assert abs(float(found["axis"].sel(axis_name=f"tdr {name}").values @ wanted)) > 0.999
    time = activity["time"].values
    assert abs(float(found["axis_time_s"].sel(axis_name="tdr motion")) - time[T // 2]) <= 3 * (time[1] - time[0])
    assert float(found["axis_time_s"].sel(axis_name="tdr color")) >= time[-3]
    turned = nl.compare_axes(fit, activity, variables=["motion", "color"])
    overlap = turned["overlap"].sel(axis_name="tdr motion", axis_other="tdr color")
    assert abs(float(overlap)) < 1e-12


def test_regression_is_the_slow_loop():
    fit, activity, _ = planted(noise=0.5)
    found = nl.compare_axes(fit, activity, variables=["motion"], n_components=4)
    x = activity["activity"].values
    flat = (x - x.mean(axis=(0, 1))).reshape(-1, N)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    top = vectors[:, np.argsort(values)[-4:]]
    z = stats.zscore(activity["motion"].values)
    beta = np.array([[stats.linregress(z, x[:, t, i]).slope for i in range(N)] for t in range(T)]) @ top @ top.T
    best = beta[np.linalg.norm(beta, axis=1).argmax()]
    np.testing.assert_allclose(found["axis"].sel(axis_name="tdr motion"), best / np.linalg.norm(best), atol=1e-9)


def test_overlaps_are_cosines_and_components_are_orthogonal():
    fit, activity, _ = planted(noise=0.3)
    found = nl.compare_axes(fit, activity)
    assert found.attrs["variables"] == ["motion", "color", "side"]
    axis = found["axis"].values
    np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 1)
    np.testing.assert_allclose(found["overlap"], axis @ axis.T)
    np.testing.assert_allclose(np.cos(np.radians(found["angle_deg"])), np.abs(axis @ axis.T), atol=1e-6)
    m = fit["m"].values[:, 1]
    np.testing.assert_allclose(found["axis"].sel(axis_name="m 2"), m / np.linalg.norm(m))
    pcs = [name for name in found["axis_name"].values if name.startswith("pc")]
    np.testing.assert_allclose(found["overlap"].sel(axis_name=pcs, axis_other=pcs), np.eye(len(pcs)), atol=1e-9)
    share = found["variance_explained"].sel(axis_name=pcs).values
    assert (np.diff(share) <= 0).all()
    assert share.sum() <= 1


def test_order_of_neurons_does_not_change_angles():
    fit, activity, _ = planted(noise=0.3)
    order = np.random.default_rng(1).permutation(N)
    a, b = nl.compare_axes(fit, activity), nl.compare_axes(fit, activity.isel(neuron=order))
    np.testing.assert_allclose(a["angle_deg"], b["angle_deg"], atol=1e-5)
    np.testing.assert_allclose(a["axis"].values[:, order], b["axis"], atol=1e-8)
    c, d = nl.project(fit, activity), nl.project(fit, activity.isel(neuron=order))
    np.testing.assert_allclose(c["projection"], d["projection"], atol=1e-8)


def test_projection_on_orthogonal_axes_of_what_they_span_is_everything():
    fit = random_fit(3, n_neurons=N, burn_in=False, optional=False)
    rng = np.random.default_rng(0)
    span = np.column_stack([fit["m"].values, fit["input_weights"].values])
    x = rng.standard_normal((4, 5, 4)) @ span.T
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x)}, {"neuron": fit["neuron"], "time": fit["time"]}
    )
    found = nl.project(fit, activity)
    assert list(found["axis_name"].values) == ["m 1", "m 2", "I in0", "I in1"]
    np.testing.assert_allclose(found["projection"].values @ found["axis"].values, x, atol=1e-9)
    assert float(found["variance_explained"].sum()) == pytest.approx(1)
    np.testing.assert_allclose(found["axis"][0], fit["m"][:, 0] / np.linalg.norm(fit["m"][:, 0]))
    other = nl.project(fit, activity, order=("input_weights", "m"))
    first = fit["input_weights"].values[:, 0]
    np.testing.assert_allclose(other["axis"][0], first / np.linalg.norm(first))
    plain = nl.project(fit, activity, orthogonal=False)
    np.testing.assert_allclose(plain["axis"].values.T, span / np.linalg.norm(span, axis=0))
    np.testing.assert_allclose(plain["projection"], x @ plain["axis"].values.T)


def test_a_gauge_changes_no_subspace():
    fit, activity = mock_fit(), mock_activity()
    scaled = fit.assign(m=3 * fit["m"], n=fit["n"] / 3)
    a, b = nl.project(fit, activity), nl.project(scaled, activity)
    np.testing.assert_allclose(a["projection"], b["projection"], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, a: nl.compare_axes(f, a, variables=["speed"]), "motion, color, side"),
        (lambda f, a: nl.compare_axes(f, a, variables="motion"), "list"),
        (lambda f, a: nl.compare_axes(f, a.assign_coords(flat=("condition", np.ones(12))), variables=["flat"]), "flat"),
        (lambda f, a: nl.compare_axes(f, a.assign_coords(twice=2 * a["motion"])), "collinear"),
        (lambda f, a: nl.compare_axes(f, a.drop_vars(["motion", "color", "side"])), "No column"),
        (lambda f, a: nl.compare_axes(f, a, n_components=0), "n_components is 0"),
        (lambda f, a: nl.project(f, a, order=("m", "q")), "m, input_weights, n"),
        (lambda f, a: nl.project(f, a.assign_coords(neuron=[f"x{k}" for k in range(N)])), "not in the fit"),
        (lambda f, a: nl.project(f, a * np.nan), "No neuron"),
        (lambda f, a: nl.project(f, a * 0), "does not vary"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    fit, activity, _ = planted()
    with pytest.raises(ContractError, match=words) as raised:
        call(fit, activity)
    assert "\n" not in str(raised.value)


def test_heavy_tails_are_found_and_normal_weights_are_not():
    rng = np.random.default_rng(0)
    fit = random_fit(n_neurons=400, burn_in=False, optional=False)
    fit["m"] = fit["m"].dims, np.column_stack([rng.standard_t(3, 400), rng.standard_normal(400)])
    fit["input_weights"] = ("neuron", "input"), np.column_stack([rng.uniform(-1, 1, 400), rng.standard_normal(400)])
    found = nl.weight_statistics(fit)
    assert list(found["vector"].values) == ["m 1", "m 2", "n 1", "n 2", "I in0", "I in1"]
    p, kurtosis = found["heavy_tail_p"], found["kurtosis"]
    assert float(p.sel(vector="m 1")) < 1e-3 < float(p.sel(vector="m 2"))
    assert float(p.sel(vector="I in0")) > 0.5  # bounded: lighter tails than normal, and no normal distribution
    assert float(kurtosis.sel(vector="I in0")) == pytest.approx(-1.2, abs=0.2)
    weight = found["weight"].values
    np.testing.assert_allclose(weight[2:4].T, nl.connectivity(fit)["n_effective"], atol=1e-12)
    centered = weight - weight.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(kurtosis, (centered**4).mean(axis=1) / (centered**2).mean(axis=1) ** 2 - 3)
    np.testing.assert_allclose(found["sd"], weight.std(axis=1))


def test_weights_of_few_neurons_and_of_an_unconstrained_fit():
    assert np.isnan(nl.weight_statistics(random_fit()).heavy_tail_p).all()
    full = nl.weight_statistics(random_fit(full_rank=True))
    assert list(full["vector"].values) == ["J", "I in0", "I in1"]
    assert np.isfinite(full["heavy_tail_p"][0])
