"""Figures show the numbers of the Datasets they are given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from nwb_lint import connectivity, plot
from nwb_lint.analysis.latents import data_latents
from nwb_lint.errors import ContractError
from nwb_lint.plot.experiments import panels
from tests.plot.pictures import assert_looks_like

N, T, INPUTS = 12, 15, ["motion", "color", "cue"]


def make_fit(rank: int | None = 2, *, ranks: bool = True, seed: int = 0) -> xr.Dataset:
    """A small fit by the contract; latents and activity_pred agree with each other, the rest is random."""
    rng = np.random.default_rng(seed)
    motion = np.tile([-0.5, -0.1, 0.1, 0.5], 2)
    context = np.repeat(["motion", "color"], 4)
    weights, v = rng.normal(size=(N, 3)), rng.normal(size=(8, T, 3)).astype("float32")
    data: dict = {
        "input_weights": (("neuron", "input"), weights),
        "bias": ("neuron", rng.normal(size=N)),
        "initial_activation": ("neuron", rng.normal(size=N)),
        "u": (("condition", "time", "input"), v),
        "filtered_input": (("condition", "time", "input"), v),
        "activity_pred": (("condition", "time", "neuron"), rng.normal(size=(8, T, N)).astype("float32")),
        "r2": ("split", [0.8, 0.7]),
        "r2_ceiling": ("split", [0.95, 0.85]),
        "r2_neuron": (("split", "neuron"), rng.uniform(-0.3, 1, (2, N))),
        "stage_r2": (("stage", "split"), [[0.6, 0.5], [0.8, 0.7]]),
    }
    if rank is None:
        data["J"] = (("neuron", "neuron_from"), rng.normal(size=(N, N)))
    else:
        m, kappa = rng.normal(size=(N, rank)), rng.normal(size=(8, T, rank))
        decay = (0.8 ** np.arange(T))[:, None]
        x = kappa @ m.T + v @ weights.T
        x = x + decay * data["initial_activation"][1] + (1 - decay) * data["bias"][1]
        data |= {
            "m": (("neuron", "rank"), m),
            "n": (("neuron", "rank"), rng.normal(size=(N, rank))),
            "latent": (("condition", "time", "rank"), kappa.astype("float32")),
            "activity_pred": (("condition", "time", "neuron"), x.astype("float32")),
        }
    if ranks:
        data["rank_r2"] = (("rank_tried", "split"), [[0.5, 0.4], [0.8, 0.7], [0.9, 0.65]])
        data["rank_r2_sem"] = (("rank_tried", "split"), np.full((3, 2), 0.02))
        data["rank_r2_ceiling"] = ("split", [0.94, 0.84])
    coords = {
        "neuron": [f"u{i}" for i in range(N)],
        "time": np.arange(T) * 0.02 - 0.1,
        "condition": [f"context={c}, motion={a}" for c, a in zip(context, motion, strict=True)],
        "context": ("condition", context),
        "motion": ("condition", motion),
        "held_out": ("condition", np.arange(8) == 3),
        "input": ("input", INPUTS),
        "split": ["train", "held_out"],
        "stage": ["closed form", "latent pass"],
        "rank_tried": [1, 2, 3],
    }
    attrs = {"dt_s": 0.02, "tau_s": 0.1, "align": "dots_on", "by": ["context", "motion"]}
    return xr.Dataset(data, coords, attrs)


def activity_of(fit: xr.Dataset) -> xr.Dataset:
    return fit[["activity_pred"]].rename(activity_pred="activity").assign_attrs(bin_s=0.02)


def line(ax: Axes, label: str) -> np.ndarray:
    """Ordinates of the errorbar container with a label."""
    (found,) = [c for c in ax.containers if c.get_label() == label]
    return found.lines[0].get_ydata()


def test_scores_show_every_rank_its_sem_and_the_ceilings():
    fit = make_fit()
    ax = plot.scores(fit)
    np.testing.assert_array_equal(line(ax, "train"), fit.rank_r2.sel(split="train"))
    np.testing.assert_array_equal(line(ax, "held out"), fit.rank_r2.sel(split="held_out"))
    flat = {float(part.get_ydata()[0]) for part in ax.lines if len(set(part.get_ydata())) == 1}
    assert {0.94, 0.84} <= flat  # of the cross-validation, not of the fit
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([part[1, 1] - part[0, 1] for part in bars], 0.04)
    (band,) = ax.patches
    assert band.get_x() < fit.sizes["rank"] < band.get_x() + band.get_width()


def test_scores_fall_back_on_stages_and_then_on_the_final_score():
    fit = make_fit(ranks=False)
    ax = plot.scores(fit)
    np.testing.assert_array_equal(line(ax, "held out"), fit.stage_r2.sel(split="held_out"))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["closed form", "latent pass"]
    np.testing.assert_array_equal(line(plot.scores(fit.drop_vars("stage_r2")), "train"), [0.8])


def test_scores_leave_out_a_split_without_scores():
    fit = make_fit()
    fit["rank_r2"].loc[{"split": "held_out"}] = np.nan
    assert [c.get_label() for c in plot.scores(fit).containers] == ["train"]


@pytest.mark.parametrize("rank", [1, 2])
def test_latents_are_drawn_as_they_are_colored_and_styled_by_condition(rank):
    fit = make_fit()
    ax = plot.latents_over_time(fit, rank=rank)
    drawn = [part for part in ax.lines if len(part.get_xdata()) == T]
    for k, part in enumerate(drawn):
        np.testing.assert_array_equal(part.get_ydata(), fit.latent.isel(condition=k, rank=rank - 1))
        np.testing.assert_array_equal(part.get_xdata(), fit.time)
    assert len({to_hex(part.get_color()) for part in drawn}) == 4
    assert to_hex(drawn[0].get_color()) == to_hex(drawn[4].get_color())
    assert [part.get_linestyle() for part in drawn] == ["--"] * 4 + ["-"] * 4
    assert ax.get_xlabel() == "time from dots_on (s)"


def test_latents_of_the_data_are_the_fits_own_where_the_data_are_its_prediction():
    fit = make_fit()
    shuffled = activity_of(fit).isel(condition=slice(None, None, -1), neuron=slice(None, None, -1))
    np.testing.assert_allclose(data_latents(fit, shuffled), fit.latent, atol=1e-5)
    ax = plot.latents_over_time(fit, activity_of(fit))
    assert sum(len(part.get_xdata()) == T for part in ax.lines) == 16


def test_latents_of_the_data_pass_over_unseen_and_unrecorded_neurons():
    fit = make_fit()
    activity = activity_of(fit).isel(neuron=slice(0, 9))
    activity["activity"][0, 3, 2] = np.nan
    np.testing.assert_allclose(data_latents(fit, activity), fit.latent, atol=1e-4)


def test_trajectories_on_two_latents_or_a_named_input():
    fit = make_fit()
    first = plot.trajectories(fit).lines[0]
    np.testing.assert_array_equal(first.get_xydata(), fit.latent.isel(condition=0))
    named = plot.trajectories(fit, input_name="color")
    np.testing.assert_array_equal(named.lines[0].get_xdata(), fit.filtered_input.isel(condition=0, input=1))
    assert named.get_xlabel() == "filtered input v (color)"
    single = plot.trajectories(make_fit(1))
    assert single.get_xlabel() == "filtered input v (motion)"


def test_connectivity_vectors_are_m_and_the_part_of_n_that_acts():
    fit = make_fit()
    ax = plot.connectivity_vectors(fit)
    m, weights = fit.m.values, fit.input_weights.values
    q, _ = np.linalg.qr(np.c_[m, weights])
    for k, dots in enumerate(ax.collections):
        np.testing.assert_allclose(dots.get_offsets(), np.c_[m[:, k], (q @ (q.T @ fit.n.values))[:, k]])
    assert len(ax.collections) == 2


def test_effective_connectivity_is_sorted_by_m():
    fit = make_fit(1)
    shown = plot.effective_connectivity(fit).images[0].get_array()
    j = fit.m.values @ connectivity(fit)["n_effective"].values.T / N
    order = np.argsort(fit.m.values[:, 0])
    np.testing.assert_allclose(shown, j[order][:, order])


def test_singular_values_of_an_unconstrained_and_of_a_low_rank_fit():
    full = make_fit(None)
    drawn = plot.singular_values(full).lines[0].get_ydata()
    np.testing.assert_allclose(drawn, np.linalg.svd(full.J.values, compute_uv=False))
    low = plot.singular_values(make_fit(2)).lines[0].get_ydata()
    assert (low[:2] > 1e-3).all()
    np.testing.assert_allclose(low[2:], 0, atol=1e-12)


def test_neuron_scores_count_every_scored_neuron():
    fit = make_fit()
    fit["r2_neuron"][1, 4] = np.nan
    fit["r2_neuron"][0, 0] = -7.0
    ax = plot.neuron_scores(fit)
    names = [patch.get_label() for patch in ax.patches]
    heights = [patch.get_xy()[:, 1].max() for patch in ax.patches]
    assert names[0] == f"train (median {np.median(fit.r2_neuron[0]):.2f})"
    assert max(heights) > 0
    assert "lower ones at −1" in ax.get_xlabel()


@pytest.mark.parametrize(("rank", "panels"), [(1, 6), (2, 6), (3, 7), (5, 7), (None, 3)])
def test_summary_draws_every_panel_and_saves_it(tmp_path, rank, panels):
    fit = make_fit(rank)
    path = tmp_path / "fit.png"
    figure = plot.summary(fit, None if rank is None else activity_of(fit), path)
    assert len(figure.axes) == panels
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 20_000
    np.testing.assert_array_equal(line(figure.axes[0], "train"), fit.rank_r2.sel(split="train"))
    for ax in figure.axes:
        assert ax.get_ylabel()
        assert ax.xaxis.label.get_size() >= 7
        assert all(t.get_size() >= 7 for t in ax.get_xticklabels())


def test_summary_legend_names_levels_and_the_chosen_columns():
    text = [t.get_text() for t in plot.summary(make_fit()).legends[0].get_texts()]
    assert text == [
        "motion −0.5",
        "motion −0.1",
        "motion 0.1",
        "motion 0.5",
        "context color",
        "context motion",
        "last sample",
    ]
    by_context = plot.summary(make_fit(), color_by="context").legends[0].get_texts()
    assert [t.get_text() for t in by_context] == ["context color", "context motion", "last sample"]


def test_axes_given_are_drawn_on_and_returned():
    mine = plot.scores(make_fit())
    assert plot.neuron_scores(make_fit(), ax=mine) is mine


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: plot.summary(xr.Dataset()), "lacks"),
        (lambda: plot.latents_over_time(make_fit(), rank=3), "2 latents"),
        (lambda: plot.latents_over_time(make_fit(None)), "0 latents"),
        (lambda: plot.trajectories(make_fit(), input_name="sound"), "motion, color, cue"),
        (lambda: plot.latents_over_time(make_fit(), color_by="coherence"), "context, motion"),
        (lambda: plot.connectivity_vectors(make_fit(None)), "J in place"),
        (
            lambda: data_latents(make_fit(), activity_of(make_fit()).isel(time=slice(3))),
            "same conditions",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, found):
    with pytest.raises(ContractError, match=found) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_no_global_state_is_touched():
    code = "import sys, nwb_lint.plot.fit; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["latents_over_time", "trajectories", "connectivity_vectors", "singular_values", "neuron_scores"]
)
def test_looks_as_it_did(name):
    assert_looks_like(getattr(plot, name)(make_fit()), name)


def test_the_summary_and_an_experiment_look_as_they_did():
    assert_looks_like(plot.summary(make_fit(), activity_of(make_fit())), "summary")
    rows = [(panel, line, x, x / 4 + k / 10) for panel in ("DM", "CDM") for k, line in enumerate("ab") for x in (1, 2)]
    assert_looks_like(panels(pd.DataFrame(rows, columns=["panel", "line", "x", "y"]), "rank", "R²"), "experiment")


def test_points_of_several_lines_at_a_name_are_side_by_side():
    rows = [("R²", "ours", "a", 0.5), ("R²", "theirs", "a", 0.5), ("R²", "ours", "b", 0.5), ("R²", "ours", "b", 0.4)]
    (ax,) = panels(pd.DataFrame(rows, columns=["panel", "line", "x", "y"]), "", "").axes
    ours, theirs = (line.get_xdata() for line in ax.lines)
    np.testing.assert_allclose(ours, [-0.15, 1, 1])
    np.testing.assert_allclose(theirs, [0.15])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
