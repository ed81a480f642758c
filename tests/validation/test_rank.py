"""The rank of a known network is chosen; preparation inside folds sees training conditions alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.options.fits import FitOptions
from nwb_lint.testing import mock_recording
from nwb_lint.validation.folds import behind_the_best, smallest_good_rank
from nwb_lint.validation.rank import score_rank

OPTIONS = {"tau_s": 0.1, "folds": 3, "method": "regression"}
FIT = FitOptions.check({"rank": 1, "tau_s": 0.1, "method": "regression"})


@pytest.mark.parametrize("rank", [1, 2])
def test_rank_of_a_teacher(truth, rank):
    activity = truth(rank=rank, neurons=24, conditions=36).activity
    table = nl.select_rank(activity, ranks=[1, 2, 3], **OPTIONS)
    assert table.attrs["rank"] == rank
    r2 = table["r2"].values
    assert r2.shape == (3, 1, 3, 2)
    np.testing.assert_allclose(table["rank_r2"], r2.mean(axis=(1, 2)))
    np.testing.assert_allclose(table["rank_r2_sem"], r2.std(axis=(1, 2), ddof=1) / np.sqrt(3))
    assert table["rank_deficit"].values[rank - 1] <= table["rank_deficit_sem"].values[rank - 1]
    with ThreadPoolExecutor(2) as executor:
        xr.testing.assert_identical(nl.select_rank(activity, ranks=[1, 2, 3], executor=executor, **OPTIONS), table)


def test_ranks_are_compared_within_folds():
    """Folds differ by far more than ranks; the difference of two ranks is as certain as it is within a fold."""
    difficulty = np.array([0.2, 0.5, 0.9, 0.6, 0.4])
    wobble = np.array([0.002, -0.002, 0.001, -0.001, 0.0])
    better = np.stack([difficulty, difficulty + 0.034 + wobble, difficulty + 0.0335 + 2 * wobble])[:, None]
    deficit, sem = behind_the_best(better)
    assert smallest_good_rank([1, 2, 3], deficit, sem) == 2
    np.testing.assert_allclose(deficit, [0.034, 0, 0.0005], atol=1e-12)
    assert sem[0] == pytest.approx(wobble.std(ddof=1) / np.sqrt(5))
    doubled = behind_the_best(np.repeat(better, 2, axis=1))  # the same folds again are no new evidence
    np.testing.assert_allclose(doubled, (deficit, sem), atol=1e-12)
    diverged = np.concatenate([better, np.full((1, 1, 5), -np.inf)])
    assert smallest_good_rank([2, 3, 4, 1], *behind_the_best(diverged)) == 3


def test_folds_hold_every_condition_out_once_a_seed(truth):
    activity, masks = truth(neurons=12, conditions=12).activity, []

    def prepared(train):
        masks.append(train)
        return activity

    table = nl.select_rank(prepared, ranks=[1], seeds=2, **OPTIONS)
    assert masks[0] is None
    held = ~np.array(masks[1:]).reshape(2, 3, 12)
    np.testing.assert_array_equal(held.sum(axis=1), 1)
    assert (held[0] != held[1]).any()
    assert table["r2"].shape == (1, 2, 3, 2)
    one = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", test_conditions=held[1, 2], seed=1)
    np.testing.assert_array_equal(table["r2"].values[0, 1, 2], one["r2"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranks": []}, r"ranks.*at least 1"),
        ({"folds": 1}, r"folds.*2"),
        ({"folds": 13}, r"folds.*12 conditions"),
        ({"cv_over": "neuron", "folds": 12}, r"folds.*11 neurons"),
        ({"cv_over": "trial"}, r"cv_over.*condition.*neuron"),
        ({"seeds": 0}, "seeds"),
        ({"seed": 3}, "seed is 3"),
        ({"test_size": 0.5}, "test_size"),
        ({"checkpoint": "a.npy", "method": "auto"}, "checkpoint"),
        ({"cv_over": "neuron", "folds": 11, "ranks": [12]}, r"rank.*12.*neurons"),
    ],
)
def test_wrong_options_are_errors(truth, options, words):
    activity = truth(neurons=11, conditions=12).activity
    with pytest.raises(ContractError, match=words):
        nl.select_rank(activity, **({"ranks": [1]} | OPTIONS | options))


def test_neurons_of_a_known_network_are_predicted_from_the_others(truth):
    activity = truth(rank=2, neurons=24, conditions=36, private=0.01).activity
    table = nl.select_rank(activity, ranks=[1, 2], cv_over="neuron", **OPTIONS)
    assert table.attrs == {"kind": "rank_selection", "rank": 2, "cv_over": "neuron"}
    assert table["rank_r2"].sel(rank_tried=2).min() > 0.998
    assert table["rank_r2"].sel(rank_tried=1, split="held_out") < 0.995


def test_held_out_neurons_take_no_part_in_the_latents(truth):
    """Other held-out neurons' noise, other held-out conditions: what is fitted to the rest does not move."""
    activity = truth(neurons=12, conditions=12, private=0.01).activity
    held, out = np.arange(12) < 3, np.arange(12) % 4 == 0
    task = {"held_out": held, "left_out": out, "options": FIT}
    one = score_rank(activity, **task)
    other = activity.copy(deep=True)
    other["activity"][:, :, out] *= 3.0  # their rows of m and W grow with them, and nothing else does
    np.testing.assert_allclose(score_rank(other, **task)["r2"], one["r2"], atol=1e-5)
    other = activity.copy(deep=True)
    other["activity"][held] *= 3.0
    assert score_rank(other, **task)["r2"][0] == one["r2"][0]
    inside, outside = activity.isel(neuron=~out), activity.isel(neuron=out)
    np.testing.assert_array_equal(score_rank((inside, outside), **task)["r2"], one["r2"])


@pytest.mark.parametrize("cv_over", ["condition", "neuron"])
def test_the_order_of_neurons_does_not_matter(truth, cv_over):
    activity = truth(rank=2, neurons=16, conditions=20).activity
    order = np.random.default_rng(0).permutation(16)
    out = np.arange(16) < 4 if cv_over == "neuron" else None
    task = {"held_out": np.arange(20) < 5, "options": FIT.model_copy(update={"rank": 2})}
    one = score_rank(activity, **task, left_out=out)
    other = score_rank(activity.isel(neuron=order), **task, left_out=None if out is None else out[order])
    np.testing.assert_allclose(other["r2"], one["r2"], atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"bias": True, "initial": "learned"}])
def test_neurons_are_predicted_through_holes_burn_in_and_bias(truth, options):
    activity = truth(neurons=24, conditions=36, private=0.01, burn_in=4, bias=0.3 if options else 0).activity
    hole = activity.copy(deep=True)
    hole["activity"].values[np.random.default_rng(0).random(hole["activity"].shape) < 0.1] = np.nan
    whole, holed = (nl.select_rank(a, ranks=[1], cv_over="neuron", **OPTIONS, **options) for a in (activity, hole))
    assert whole["rank_r2"].min() > 0.98
    np.testing.assert_allclose(holed["rank_r2"], whole["rank_r2"], atol=0.02)


def test_either_part_of_the_neurons_is_prepared_by_itself(truth):
    activity, calls = truth(neurons=12, conditions=12).activity, []

    def prepared(train, neurons=None):
        calls.append((train, neurons))
        return activity if neurons is None else activity.isel(neuron=neurons)

    table = nl.select_rank(prepared, ranks=[1], cv_over="neuron", **OPTIONS)
    xr.testing.assert_identical(table, nl.select_rank(activity, ranks=[1], cv_over="neuron", **OPTIONS))
    assert len(calls) == 7
    for (train, inside), (again, outside) in zip(calls[1::2], calls[2::2], strict=True):
        np.testing.assert_array_equal(train, again)
        np.testing.assert_array_equal(inside, ~outside)
    np.testing.assert_array_equal(sum((~inside).astype(int) for _, inside in calls[1::2]), 1)


def test_denoised_activity_cannot_be_taken_apart_by_neurons():
    with pytest.raises(ContractError, match="n_components=None"):
        nl.select_rank(denoised(), ranks=[1], cv_over="neuron", **OPTIONS)
    with pytest.raises(ContractError, match="n_components=None"):
        nl.audit(denoised(), ranks=[1], tau_s=0.1)


def denoised():
    return nl.prepare(
        mock_recording(), inputs=[nl.Input("stimulus", column="stimulus", window_s=(-0.2, 0.6))], n_components=3
    )


def test_conditions_that_the_preparation_held_out_have_no_say(truth):
    activity = truth(neurons=12, conditions=12).activity
    held = np.arange(12) >= 9
    marked = activity.assign_coords(held_out=("condition", held))
    marked["activity"][9:] = 100.0
    for sweep in (nl.select_rank, nl.audit):
        xr.testing.assert_identical(
            sweep(marked, ranks=[1], **OPTIONS), sweep(activity.isel(condition=~held), ranks=[1], **OPTIONS)
        )


def test_audit_of_a_known_network(truth):
    activity = truth(rank=2, neurons=30, conditions=24).activity
    table = nl.audit(activity, ranks=[3, 1, 2], fractions=[0.5, 1, 0.05], draws=2, **OPTIONS)
    np.testing.assert_array_equal(table["fraction"], [1, 0.5, 0.5, 0.05, 0.05])
    np.testing.assert_array_equal(table["n_neurons"], [30, 15, 15, 2, 2])
    np.testing.assert_array_equal(table["rank"][:3], 2)
    assert np.isnan(table["r2"].sel(rank_tried=3)[3:]).all()
    assert np.isfinite(table["r2"].sel(rank_tried=[1, 2])).all()
    whole = nl.select_rank(activity, ranks=[3, 1, 2], **OPTIONS)
    np.testing.assert_allclose(table["r2"][0], whole["rank_r2"], atol=1e-5)
    np.testing.assert_allclose(table["r2_sem"][0], whole["rank_r2_sem"], atol=1e-5)

    def prepared(train, neurons=None):
        return activity if neurons is None else activity.isel(neuron=neurons)

    fewer = {"ranks": [3, 1], "fractions": [0.5, 0.05], "draws": 1} | OPTIONS | {"folds": 2}
    xr.testing.assert_identical(nl.audit(prepared, **fewer), nl.audit(activity, **fewer))


@pytest.mark.parametrize(
    ("options", "words"), [({"fractions": [0.5, 2]}, "fractions"), ({"draws": 0}, "draws"), ({"ranks": []}, "ranks")]
)
def test_errors_of_the_audit(truth, options, words):
    with pytest.raises(ContractError, match=words):
        nl.audit(truth(neurons=12, conditions=12).activity, **({"ranks": [1]} | OPTIONS | options))
