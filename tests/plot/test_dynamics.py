"""Figures of dynamics, axes and weights show the numbers of their Datasets, and look as the kept pictures do."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_fit
from tests.factories import random_fit
from tests.plot.pictures import assert_looks_like, texts


def made(rank, gain=2.0):
    """A network of 60 neurons with several fixed points, its own run inside."""
    rng = np.random.default_rng(rank)
    fit = random_fit(1, n_neurons=60, rank=rank, n_bins=40, burn_in=False, offset_over_time=False)
    m = rng.standard_normal((60, rank))
    fit["m"], fit["n"] = (("neuron", "rank"), m), (("neuron", "rank"), gain * m + 0.5 * rng.standard_normal(m.shape))
    fit["bias"][:], fit["initial_activation"][:] = 0, 0
    fit["u"][:] = 0.6 * np.sign(np.arange(4) - 1.5)[:, None, None].astype("float32")
    for name, value in nl.simulate(fit).variables.items():
        if name in ("latent", "filtered_input"):
            fit[name] = value
    fit["activity_pred"] = nl.simulate(fit)["activity"]
    fit["scale"][:], fit["offset"][:] = 5.0, np.linspace(2, 40, 60)
    fit["r2_neuron"] = ("split", "neuron"), np.random.default_rng(0).uniform(-0.2, 1, (2, 60))
    fit["rank_r2"] = ("rank_tried", "split"), np.array([[0.5, 0.4], [0.8, 0.7], [0.9, 0.72]])
    fit["rank_r2_sem"] = ("rank_tried", "split"), np.full((3, 2), 0.03)
    fit["rank_r2_ceiling"] = ("split",), np.array([0.95, 0.8])
    fit["rank_deficit"], fit["rank_deficit_sem"] = ("rank_tried", [0.32, 0.02, 0.0]), ("rank_tried", [0.1, 0.03, 0.0])
    return fit.assign_coords(population=("neuron", np.arange(60) % 3))


@pytest.fixture(scope="module")
def one():
    return made(1)


@pytest.fixture(scope="module")
def two():
    return made(2)


def supported(fit):
    """The fixed points of a fit, as if draws and trajectories supported all of them."""
    points = nl.fixed_points(fit)
    points["supported"][:] = True
    return points


def test_points_without_support_are_hollow_and_named_so(one):
    points = nl.fixed_points(one)
    points["supported"][:] = points["stability"] != "stable"
    ax = plot.flow(nl.flow_field(one, extent=1.5), points)
    (hollow,) = [part for part in ax.lines if part.get_label() == "stable, not supported"]
    assert hollow.get_markerfacecolor() == "none"
    assert len(hollow.get_xdata()) == (points["stability"] == "stable").sum()


def test_flow_of_one_latent(one):
    field, points = nl.flow_field(one, extent=1.5), supported(one)
    ax = plot.flow(field, points, one)
    drawn = next(part for part in ax.lines if len(part.get_xdata()) == field.sizes["point"])
    np.testing.assert_array_equal(drawn.get_xydata(), np.c_[field["kappa"], field["velocity"]])
    marked = {part.get_label(): part.get_xdata() for part in ax.lines}
    np.testing.assert_array_equal(marked["stable"], points["kappa"].values[points["stability"] == "stable", 0])
    assert ax.get_ylabel() == "d$\\kappa_1$/d$t$ (1/s)"
    assert_looks_like(ax, "flow1")


def test_flow_of_two_latents(two):
    field, points = nl.flow_field(two, extent=1.5), supported(two)
    ax = plot.flow(field, points, two)
    for kind in np.unique(points["stability"]):
        (marks,) = [part for part in ax.lines if part.get_label() == kind]
        np.testing.assert_array_equal(marks.get_xydata(), points["kappa"].values[points["stability"] == kind])
    assert_looks_like(ax, "flow2")


def test_flow_of_three_latents():
    three = made(3)
    field, points = nl.flow_field(three, extent=1.5, n_points=5), supported(three)
    ax = plot.flow(field, points, three)
    (arrows,) = ax.collections
    ends = np.array(arrows._segments3d)[: field.sizes["point"]]  # the shafts
    np.testing.assert_allclose(ends[:, 1], field["kappa"], atol=1e-9)
    along = ends[:, 0] - ends[:, 1]  # drawn from tip to tail
    agreed = (along * field["velocity"].values).sum(axis=1)
    np.testing.assert_allclose(agreed, np.linalg.norm(along, axis=1) * field["speed"], atol=1e-9)
    for kind in np.unique(points["stability"]):
        (marks,) = [part for part in ax.lines if part.get_label() == kind]
        inside = (np.abs(points["kappa"]) <= 1.5).all("rank") & (points["stability"] == kind)
        np.testing.assert_array_equal(np.transpose(marks.get_data_3d()), points["kappa"].values[inside])
    run = next(part for part in ax.lines if len(part.get_data_3d()[0]) == three.sizes["time"])
    np.testing.assert_array_equal(np.transpose(run.get_data_3d()), three["latent"].values[0])
    assert_looks_like(ax, "flow3")


def with_refits(field, size=0.6):
    """What two fits to fewer neurons might say: slower and faster, and off where κ_1 is large."""
    own, off = field["velocity"].values, size * np.abs(field["kappa"].values[:, :1])
    draws = np.stack([0.9 * own + off, 1.1 * own - off])
    apart = np.sqrt(((draws - own) ** 2).sum(axis=2).mean(axis=0) / (own**2).sum(axis=1).mean())
    return field.assign(velocity_draw=(("draw", "point", "rank"), draws), disagreement=("point", apart))


def test_a_flow_with_refits_shows_where_fits_to_fewer_neurons_disagree(one, two):
    field = with_refits(nl.flow_field(one, extent=1.5))
    ax = plot.flow(field)
    (band,) = ax.collections
    edge = band.get_paths()[0].vertices
    draws = field["velocity_draw"].values[..., 0]
    assert (edge[:, 1].min(), edge[:, 1].max()) == (draws.min(), draws.max())
    assert_looks_like(ax, "flow1_audit")
    field = with_refits(nl.flow_field(two, extent=1.5))
    ax = plot.flow(field)
    (shade,) = [part for part in ax.collections if part.get_array() is not None and part.get_array().size == 625]
    np.testing.assert_array_equal(np.ravel(shade.get_array().T), field["disagreement"])
    assert_looks_like(ax, "flow2_audit")
    field = with_refits(nl.flow_field(made(3), extent=1.5, n_points=5), size=10)
    (arrows,) = plot.flow(field).collections
    colored = (np.ptp(arrows.get_colors()[:, :3], axis=1) > 0.1)[: field.sizes["point"]]
    np.testing.assert_array_equal(colored, field["disagreement"] >= 0.5)
    assert 0 < colored.sum() < colored.size


def test_counts_of_fixed_points_are_means_over_draws(two):
    points = nl.fixed_points(two)
    found = np.array([[2, 1, 0, 0], [2, 1, 0, 0], [4, 3, 1, 0], [1, 0, 0, 0]])
    points = points.assign(n_found=(("draw", "stability_kind"), found)).assign_coords(
        stability_kind=["stable", "saddle", "unstable", "marginal"],
        fraction=("draw", [0.5, 0.5, 0.5, 0.1]),
        n_neurons=("draw", [30, 30, 30, 6]),
    )
    ax = plot.fixed_point_counts(points)
    shown = {part.get_label(): part.lines[0].get_ydata() for part in ax.containers}
    np.testing.assert_allclose(shown["stable"], [1, 8 / 3])
    np.testing.assert_allclose(shown["saddle"], [0, 5 / 3])
    own = [float(part.get_ydata()[0]) for part in ax.lines if len(part.get_xdata()) == 1]
    assert own == [count for count, some in zip(points.attrs["n_found"], found.T, strict=True) if count or some.any()]
    assert_looks_like(ax, "fixed_point_counts")


def test_overlaps_are_written_out(two):
    connected = nl.connectivity(two)
    ax = plot.overlaps(connected)
    wanted = np.concatenate([connected["overlap_m"], connected["overlap_input"]], axis=1)
    np.testing.assert_array_equal(ax.images[0].get_array(), wanted)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}".replace("-", "−") for value in wanted.ravel()]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["m 1", "m 2", "I in0", "I in1"]
    assert_looks_like(ax, "overlaps")


def test_points_outside_of_the_field_are_counted(one):
    ax = plot.flow(nl.flow_field(one, extent=0.1), supported(one))
    assert texts(ax) == ["flow", "unstable", "2 outside"]
    given = Figure().subplots()  # of a page, which explains the conditions itself
    plot.flow(nl.flow_field(one, extent=0.1), supported(one), one, ax=given)
    assert [text.get_text() for text in given.get_legend().get_texts()] == ["flow", "unstable", "2 outside"]


def test_flow_streams_where_the_latents_go():
    """A field that points right everywhere is drawn from left to right: the grid is not transposed."""
    kappa = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    field = xr.Dataset(
        {
            "kappa": (("point", "rank"), kappa),
            "velocity": (("point", "rank"), np.c_[np.ones(81), 0 * kappa[:, 0]]),
            "speed": ("point", np.where(kappa[:, 1] > 0, 1.0, 0.5)),
            "input_value": ("input", [0.0]),
        },
        attrs={"kind": "flow_field", "n_points": 9, "extent": [-1.0, 1.0, -1.0, 1.0]},
    )
    (lines,) = [part for part in plot.flow(field).collections if hasattr(part, "get_segments")]
    segments = np.array(lines.get_segments())
    assert np.ptp(segments[:, :, 1], axis=1).max() < 1e-6
    fast = lines.get_array()[segments[:, 0, 1] > 0.3]
    slow = lines.get_array()[segments[:, 0, 1] < -0.3]
    assert fast.min() > slow.max()


def test_projections_and_angles(two):
    activity = xr.Dataset({"activity": two["activity_pred"]}, two.coords)
    projected = nl.project(two, activity)
    ax = plot.projections(projected, ("m 1", "I in0"))
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), projected["projection"].values[0][:, [0, 2]])
    assert ax.get_xlabel() == f"m 1 ({100 * float(projected['variance_explained'][0]):.0f} % of variance)"
    assert_looks_like(ax, "projections")
    compared = nl.compare_axes(two, activity, variables=["motion"])
    ax = plot.angles(compared)
    np.testing.assert_array_equal(ax.images[0].get_array(), compared["angle_deg"])
    assert_looks_like(ax, "angles")


def test_weight_histograms_count_everybody(two):
    statistics = nl.weight_statistics(two)
    ax = plot.weight_histograms(statistics)
    assert len(ax.patches) == statistics.sizes["vector"]
    most = int(ax.get_title().split()[-2])
    for row, patch in enumerate(ax.patches):
        heights = most * (patch.get_data().values + row)
        np.testing.assert_allclose(heights, np.rint(heights), atol=1e-9)
        assert heights.sum() == pytest.approx(two.sizes["neuron"])
    shown = ax.get_yticklabels()[0].get_text()
    assert shown.startswith(f"m 1 ({float(statistics['kurtosis'][0]):.1f}".replace("-", "−"))
    assert_looks_like(ax, "weight_histograms")


def test_connectivity_is_sorted_by_a_column(two):
    two = two.assign_coords(recorded=("neuron", np.ones(60, bool)))
    ax = plot.effective_connectivity(two, by="population")
    order = np.lexsort((two["m"].values[:, 0], two["population"].values))
    j = two["m"].values @ nl.connectivity(two)["n_effective"].values.T / 60
    np.testing.assert_allclose(ax.images[0].get_array(), j[order][:, order])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "2"]
    assert sorted({float(part.get_ydata()[0]) for part in ax.lines if part.get_ydata()[0] > 1}) == [19.5, 39.5]
    assert_looks_like(ax, "effective_connectivity")


def test_connectivity_without_m_is_j_in_its_order():
    full = random_fit(full_rank=True).assign_coords(layer=("neuron", list("bababb")))
    np.testing.assert_array_equal(plot.effective_connectivity(full).images[0].get_array(), full["J"])
    order = [1, 3, 0, 2, 4, 5]
    shown = plot.effective_connectivity(full, by="layer").images[0].get_array()
    np.testing.assert_array_equal(shown, full["J"].values[np.ix_(order, order)])


def test_scores_by_rate_and_by_rank(two):
    ax = plot.rate_scores(two)
    wanted = two["offset"].values + 5 * two["activity_pred"].values.mean(axis=(0, 1))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), wanted, rtol=1e-5)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), two["r2_neuron"][1])
    assert_looks_like(ax, "rate_scores")
    ax = plot.scores(two)
    (rings,) = [part for part in ax.lines if part.get_markersize() == 10]
    np.testing.assert_array_equal(rings.get_ydata(), [0.7, 0.72])  # at most one standard error behind the best
    assert_looks_like(ax, "scores")


def test_what_cannot_be_drawn_is_refused(one, two):
    field = nl.flow_field(two)
    calls = [
        (lambda: plot.flow(nl.fixed_points(two)), "flow_field"),
        (lambda: plot.flow(field, nl.fixed_points(one)), "rank 1"),
        (lambda: plot.flow(field, nl.fixed_points(two, input=[1.0, 0.0])), "different inputs"),
        (lambda: plot.flow(field, fit=one), "rank 2"),
        (lambda: plot.flow(nl.flow_field(made(3), n_points=3), ax=Figure().subplots()), "rank 3.*ax.*2 dimensions"),
        (lambda: plot.effective_connectivity(two, by="layer"), "layer"),
        (lambda: plot.rate_scores(two.drop_vars("scale")), "not in Hz"),
        (lambda: plot.weight_histograms(two), "weight_statistics"),
    ]
    projected = nl.project(two, xr.Dataset({"activity": two["activity_pred"]}, two.coords))
    calls += [
        (lambda: plot.projections(projected, ("m 1", "m 9")), "m 9"),
        (lambda: plot.projections(projected, ("m 1",)), "needs two"),
        (lambda: plot.projections(projected.drop_vars("projection"), ("m 1", "m 2")), "no projection"),
    ]
    for call, words in calls:
        with pytest.raises(ContractError, match=words) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_flow_shows_the_runs_with_its_own_input():
    fit = mock_fit()
    label = fit["condition"].values[1]
    own = plot.flow(nl.flow_field(fit, condition=label), None, fit)
    ends = [line.get_xdata()[-1] for line in own.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(ends, fit["latent"].sel(condition=label).values[-2:-1, 0])
    other = plot.flow(nl.flow_field(fit, input={"stimulus": 12.3}), None, fit)
    assert sum(line.get_marker() == "o" for line in other.lines) == fit.sizes["condition"]
    assert texts(other) == ["runs with other inputs", "flow"]
    assert texts(own) == ["run (dot: its end)", "flow"]
    assert plot.latents_over_time(fit).figure.legends
    given = Figure().subplots()
    plot.latents_over_time(fit, ax=given)
    assert not given.figure.legends


def test_figures_show_themselves_in_notebooks():
    fit = mock_fit()
    for shown in (plot.summary(fit), plot.latents_over_time(fit)):
        assert shown._repr_png_()[:4] == b"\x89PNG"
