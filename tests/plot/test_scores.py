"""Figures of scores and of repeated fits show the numbers of their tables, and look as the kept pictures do."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_lint import Input, align_fits, compare_drift, compare_inputs, compare_links, compare_tau, plot, prepare
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_trials
from tests.plot.pictures import assert_looks_like, texts

SPLITS = ["train", "held_out"]


def table(kind, names, mean, sem, ceiling, **attrs):
    """A table of `select_rank` or `baselines` of one seed and three folds."""
    over, prefix = ("rank_tried", "rank") if kind == "rank_selection" else ("baseline", "baseline")
    dims = (over, "seed", "fold", "split") if kind == "rank_selection" else (over, "fold", "split")
    shape = [len(names), 1, 3, 2] if kind == "rank_selection" else [len(names), 3, 2]
    return xr.Dataset(
        {
            f"{prefix}_r2": ((over, "split"), mean),
            f"{prefix}_r2_sem": ((over, "split"), sem),
            f"{prefix}_r2_ceiling": ("split", ceiling),
            "r2": (dims, np.zeros(shape)),
            "r2_ceiling": (dims[1:], np.ones(shape[1:])),
        },
        {over: names, "split": SPLITS},
        {"kind": kind, **attrs},
    )


def bars(ax, label):
    (found,) = [part for part in ax.containers if part.get_label() == label]
    segments = np.array(found.lines[2][0].get_segments())
    return found.lines[0].get_ydata(), np.ptp(segments[:, :, 1], axis=1) / 2


def test_scores_of_a_choice_of_rank():
    mean = np.array([[0.5, 0.42], [0.8, 0.7], [0.9, 0.71]])
    ranks = table("rank_selection", [1, 2, 4], mean, np.full((3, 2), 0.03), [0.95, 0.8], rank=2)
    ranks = ranks.assign(rank_deficit=("rank_tried", [0.29, 0.01, 0]), rank_deficit_sem=("rank_tried", [0.05, 0.02, 0]))
    ax = plot.scores(ranks)
    for split, label in enumerate(("train", "held out")):
        y, half = bars(ax, label)
        np.testing.assert_array_equal(y, mean[:, split])
        np.testing.assert_allclose(half, 0.03)
    flat = {float(part.get_ydata()[0]) for part in ax.lines if len(set(part.get_ydata())) == 1}
    assert {0.95, 0.8} <= flat
    (rings,) = [part for part in ax.lines if part.get_markersize() == 10]
    np.testing.assert_array_equal(rings.get_xydata(), [[2, 0.7], [4, 0.71]])
    (band,) = ax.patches
    assert band.get_x() < 2 < band.get_x() + band.get_width()


def test_cross_validated_scores_of_a_fit_are_under_the_ceiling_of_the_cross_validation():
    fit = mock_fit().assign(
        rank_r2=(("rank_tried", "split"), [[0.5, 0.3], [0.6, 0.35]]), rank_r2_ceiling=("split", [0.91, 0.47])
    )
    ax = plot.scores(fit.assign_coords(rank_tried=[1, 2]))
    flat = {float(part.get_ydata()[0]) for part in ax.lines if len(set(part.get_ydata())) == 1}
    assert {0.91, 0.47} <= flat
    assert not {float(top) for top in fit["r2_ceiling"].values} & flat
    ax = plot.scores(fit.drop_vars("rank_r2_ceiling").assign_coords(rank_tried=[1, 2]))  # from an earlier version
    assert not {float(top) for top in fit["r2_ceiling"].values} & {float(part.get_ydata()[0]) for part in ax.lines}


def test_distances_of_dynamics():
    names, square = ["monkey A", "monkey F", "model"], ("system", "system_from")
    found = xr.Dataset(coords={"system": names, "system_from": names})
    found["distance"] = square, np.array([[0, 2e-4, 9e-3], [2e-4, 0, 8e-3], [9e-3, 8e-3, 0]])
    found["distance_change"] = square, np.where(np.eye(3, dtype=bool), np.nan, 2e-3)
    for name in ("p_value", "distance_chance"):
        found[name] = square, np.full((3, 3), np.nan)
    found["call"] = square, np.array([["", "alike", "different"], ["alike", "", "different"], ["different"] * 2 + [""]])
    found["half"] = ("system", "repeat"), np.zeros((3, 2))
    ax = plot.dynamics_distances(found.assign_attrs(kind="dynamics_comparison", measure="dsa", change=0.2))
    assert {"alike", "different", "0.1", "4.5"} <= {text.get_text() for text in ax.texts}
    assert_looks_like(ax, "dynamics_distances")


def test_scores_of_baselines():
    names = ["low rank", "linear", "unconstrained", "time course"]
    mean = np.array([[0.9, 0.8], [0.7, 0.65], [0.95, 0.85], [0.2, -0.1]])
    ax = plot.scores(table("baselines", names, mean, np.full((4, 2), 0.05), [0.97, np.nan], rank=2))
    np.testing.assert_array_equal(bars(ax, "held out")[0], mean[:, 1])
    assert [text.get_text() for text in ax.get_xticklabels()] == names
    assert not ax.patches
    assert_looks_like(ax, "scores_baselines")


def test_scores_of_conditions():
    values = np.array([0.9, -3.0, 0.4, 0.7])
    data = {"r2": 0.6, "r2_ceiling": 0.85, "r2_neuron": ("neuron", np.zeros(2)), "r2_condition": ("condition", values)}
    ax = plot.condition_scores(xr.Dataset(data, {"neuron": ["a", "b"]}, {"kind": "scores"}))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [-1, 0.4, 0.7, 0.9])
    assert {part.get_ydata()[0] for part in ax.lines[1:]} == {0.6, 0.85}
    assert_looks_like(ax, "condition_scores")


def test_an_audit_of_ranks():
    held = np.array([[0.5, 0.8, 0.82], [0.5, 0.7, 0.72], [0.4, 0.6, 0.7], [0.3, np.nan, np.nan]])
    audit = xr.Dataset(
        {
            "rank": ("draw", [2, 2, 2, 1]),
            "r2": (("draw", "rank_tried", "split"), np.stack([held + 0.1, held], axis=2)),
            "r2_sem": (("draw", "rank_tried", "split"), np.zeros((4, 3, 2))),
            "r2_ceiling": (("draw", "split"), np.ones((4, 2))),
        },
        {
            "rank_tried": [1, 2, 3],
            "split": SPLITS,
            "fraction": ("draw", [1.0, 0.5, 0.5, 0.1]),
            "n_neurons": ("draw", [10, 5, 5, 1]),
        },
        {"kind": "audit"},
    )
    ax = plot.rank_audit(audit)
    lines = {part.get_label(): part.get_ydata() for part in ax.lines if len(part.get_xdata()) == 3}
    np.testing.assert_allclose(lines["50 % (5)"], [0.45, 0.65, 0.71])
    np.testing.assert_array_equal(lines["10 % (1)"], [0.3, np.nan, np.nan])
    rings = [(float(part.get_xdata()[0]), part.get_markersize()) for part in ax.lines if len(part.get_xdata()) == 1]
    assert [at for at, _ in rings] == [2, 2, 1]
    assert rings[1][1] > rings[0][1]  # two draws of a half agree
    assert_looks_like(ax, "rank_audit")


@pytest.mark.filterwarnings("ignore:The number of stable fixed points depends")
def test_time_constants():
    found = compare_tau(mock_activity(), rank=1, taus_s=[0.05, 0.1, 0.2], folds=2, method="regression")
    ax = plot.tau_comparison(found)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["tau_r2"].sel(split="held_out"))
    stable = found["n_found"].sel(stability_kind="stable").values
    (above,) = ax.child_axes
    assert [text.get_text() for text in above.get_xticklabels()] == [str(number) for number in stable]
    assert_looks_like(ax, "tau_comparison")


def test_links():
    def prepared(recording, **options):
        return prepare(recording, inputs=[Input("stimulus", column="stimulus", window_s=(0, 1))], **options)

    found = compare_links(mock_recording(), prepare=prepared, rank=1, tau_s=0.1, method="regression")
    ax = plot.link_comparison(found)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["link_r2"])
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels[int(ax.lines[-1].get_xdata()[0])] == found.attrs["rate_link"]
    assert_looks_like(ax, "link_comparison")


def test_lists_of_inputs():
    stimulus, onset = Input("stimulus", column="stimulus", window_s=(0, 1)), Input("onset", window_s=(0, 1))
    sets = {"stimulus": [stimulus], "onset": [onset], "both": [stimulus, onset]}
    found = compare_inputs(mock_recording(), sets, rank=1, tau_s=0.1, folds=2, method="regression")
    ax = plot.input_comparison(found)
    drawn = sorted(x for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert drawn == sorted(found["set_deficit"].values)
    bold = [text.get_text() for text in ax.get_yticklabels() if text.get_fontweight() == "bold"]
    assert bold == [found.attrs["input_set"]]
    assert_looks_like(ax, "input_comparison")


def test_sessions():
    found = align_fits({"day 1": mock_fit(), "day 2": mock_fit(seed=1)})
    ax = plot.session_changes(found)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["distance"])
    assert_looks_like(ax, "session_changes")


def test_sessions_with_intervals_say_what_the_marks_are():
    found = align_fits({"day 1": mock_fit(), "day 2": mock_fit(seed=1)})
    for end, value in {"low": 0.1, "corrected": 0.2, "high": 0.3, "p_value": 0.01}.items():
        found[f"distance_{end}"] = ("session_name",), np.array([np.nan, value])
    ax = plot.session_changes(found)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), found["distance_corrected"])
    (legend,) = ax.figure.legends
    assert [one.get_text() for one in legend.get_texts()] == ["with errors of the fits", "without, and 90 %"]


def test_an_ensemble():
    pearson = np.array([[1.0, 0.93, -0.2], [0.93, 1.0, 0.1], [-0.2, 0.1, 1.0]])
    each = {name: (("member", "neuron", "rank"), np.zeros((3, 2, 1))) for name in ("m", "n_effective")}
    each |= {name: (("member", "split"), np.zeros((3, 2))) for name in ("r2", "r2_ceiling")}
    each |= {name: ("neuron", np.zeros(2)) for name in ("spread_post", "spread_pre")}
    each |= {name: (("member", "member_from"), pearson) for name in ("pearson", "cosine")}
    each |= {"as_good": ("member", np.array([True, True, False])), "ridge": ("member", np.full(3, np.nan))}
    each |= {name: ("member", np.arange(3)) for name in ("half", "seed")}
    attrs = {"kind": "ensemble", "vary": "ridge", "pearson": 0.93}
    ax = plot.ensemble_agreement(xr.Dataset(each, {"neuron": ["a", "b"]}, attrs))
    np.testing.assert_array_equal(ax.images[0].get_array(), pearson)
    assert sorted(text.get_text() for text in ax.texts) == sorted(["0.93", "0.93", "0.10", "0.10", "−0.20", "−0.20"])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "(3)"]
    assert "mean 0.93" in ax.get_title()
    assert_looks_like(ax, "ensemble_agreement")


@pytest.mark.parametrize("missing", ["rank_r2_sem", "r2"])
def test_a_table_that_lacks_something_is_refused(missing):
    ranks = table("rank_selection", [1, 2], np.zeros((2, 2)), np.zeros((2, 2)), [1.0, 1.0], rank=1)
    with pytest.raises(ValueError, match=f"rank selection lacks {missing} "):
        plot.scores(ranks.drop_vars(missing))


def test_intervals_are_drawn_in_the_spread_of_the_draws():
    rng = np.random.default_rng(0)
    draws, names = rng.standard_normal((40, 3)) * [0.1, 2, 0.5] + [0.8, 3, -1], ["overlap n m", "angle m I", "size"]
    sizes = {"draw": 40, "condition": 2, "time": 3, "rank": 1, "neuron": 4, "parameter": 5}
    dims = {
        "latent_low": ("condition", "time", "rank"), "latent_high": ("condition", "time", "rank"),
        "network_draw": ("draw", "neuron", "parameter"),
    }  # fmt: skip
    estimate, spread = draws.mean(axis=0), draws.std(axis=0)
    below, above = np.array([[0.1, np.nan, 1], [0.2, np.nan, 1]])
    low, high = estimate - below, estimate + above
    found = xr.Dataset(
        {name: (own, np.zeros([sizes[dim] for dim in own])) for name, own in dims.items()}
        | {
            "unit": ("quantity", ["1", "degree", "1"]), "estimate": ("quantity", estimate),
            "value_draw": (("draw", "quantity"), draws), "corrected": ("quantity", estimate + 0.1),
            "low": ("quantity", low), "high": ("quantity", high),
        },
        {"quantity": names, "time": np.arange(3.0), "neuron": list("abcd")},
        {"kind": "bootstrap", "level": 0.9},
    )  # fmt: skip
    found["latent_low"], found["latent_high"] = (found[f"latent_{end}"].astype(np.float32) for end in ("low", "high"))
    ax = plot.intervals(found)
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    (bars,) = ax.collections
    ends = np.array(bars.get_segments())[:, :, 0]  # the second quantity has no interval
    np.testing.assert_allclose(ends, ((np.array([low, high]) - estimate) / spread).T[[0, 2]])
    assert_looks_like(ax, "intervals")


def test_numbers_of_drift_functions_are_below_the_best():
    found = compare_drift(mock_trials(), rank=1, tau_s=0.1, drifts=[0, 1, 2], folds=2, hidden=0, max_iter=3)
    ax = plot.drift_comparison(found)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), -found["drift_deficit"].values)
    assert ax.lines[-1].get_xdata() == found.attrs["drift"]
    assert_looks_like(ax, "drift_comparison")


def test_behavior_by_its_weight_and_weights_that_cost_the_activity():
    rng, dims = np.random.default_rng(0), ("weight_tried", "readout")
    score = np.array([[0.1, 0.3], [0.25, 0.4], [0.3, 0.42]])
    one, each = np.array([0.3, 0.31, 0.1]), rng.standard_normal((3, 5))
    found = xr.Dataset(
        {
            "activity_score": ("weight_tried", one), "activity_score_sem": ("weight_tried", 0 * one + 0.02),
            "activity_deficit": ("weight_tried", 0.31 - one), "activity_deficit_sem": ("weight_tried", 0 * one + 0.02),
            "behavior_score": (dims, score), "behavior_score_sem": (dims, 0 * score + 0.03),
            "behavior_deficit": ("weight_tried", [0.15, 0.0, np.nan]),
            "behavior_deficit_sem": ("weight_tried", [0.03, 0.0, np.nan]),
            "as_good": ("weight_tried", [False, True, False]), "condition_score": (("weight_tried", "condition"), each),
            "condition_behavior": (("weight_tried", "condition", "readout"), np.stack([each, each], axis=2)),
        },
        {"weight_tried": [0.0, 1.0, 30.0], "readout": ["choice", "hand"]},
        {"kind": "readout_comparison", "readout_weight": 1.0, "decoded": 1},
    )  # fmt: skip
    ax = plot.readout_comparison(found)
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(np.ravel(drawn), score[1])
    assert [one.get_text() for one in ax.get_xticklabels()] == ["0", "1", "30"]
    assert {"choice", "hand", "activity worse"} <= set(texts(ax))
    assert_looks_like(ax, "readout_comparison")
