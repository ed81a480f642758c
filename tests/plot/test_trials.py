"""Figures of single trials show the numbers of the fit."""

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_fit, mock_trials
from tests.plot.pictures import assert_looks_like, texts


@pytest.fixture(scope="module")
def trials():
    return mock_trials(n_neurons=12, n_trials=24)


@pytest.fixture(scope="module")
def fit(trials):
    return nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3, test_size=4)


def ranked(fit):
    """The fit with co-smoothing of three ranks."""
    bits = np.array([[0.2, 0.1], [0.3, 0.2], [0.32, 0.21]])
    deficit = {"rank_deficit": ("rank_tried", [0.11, 0.01, 0.0]), "rank_deficit_sem": ("rank_tried", [0.02, 0.02, 0.0])}
    scores = {"rank_bits": (("rank_tried", "split"), bits), "rank_bits_sem": (("rank_tried", "split"), 0 * bits + 0.01)}
    return fit.assign(**scores, **deficit).assign_coords(rank_tried=[1, 2, 3])


def test_bands_hold_the_middle_of_the_trials(trials, fit):
    ax = plot.trial_latents(fit, by="choice")
    left = fit["latent"].values[trials["choice"].values == "left", :, 0]
    low, high = np.quantile(left, (0.05, 0.95), axis=0)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(low.min(), abs=1e-6)
    assert band.max() == pytest.approx(high.max(), abs=1e-6)
    assert texts(ax) == ["choice left", "choice right", "90 % of the trials"]
    assert not texts(plot.trial_latents(fit))
    assert_looks_like(ax, "trial_latents")


def test_ticks_are_spikes_and_shades_are_rates(trials, fit):
    ax = plot.trial_rates(fit, trials, trial=2)
    ticks = ax.lines[0].get_ydata()
    order = np.argsort(fit["m"].values[:, 0], kind="stable")
    counted = np.bincount(ticks, minlength=12)
    np.testing.assert_array_equal(counted, (trials["count"].values[2][:, order] > 0).sum(axis=0))
    mean = trials["count"].values.mean(axis=(0, 1)) / 0.02
    rate = nl.predict_rates(fit, trials)["rate"].values[2]
    np.testing.assert_allclose(ax.images[0].get_array(), (rate / mean).T[order], rtol=1e-4)
    assert_looks_like(ax, "trial_rates")


def test_evidence_and_co_smoothing_by_rank(fit):
    ax = plot.evidence(fit)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), fit["evidence"].values - fit["evidence"].values[0])
    assert_looks_like(ax, "evidence")
    ax = plot.scores(ranked(fit))
    assert ax.get_ylabel() == "bits per spike"
    np.testing.assert_array_equal(ax.containers[1].lines[0].get_ydata(), [0.1, 0.2, 0.21])
    assert_looks_like(ax, "scores_bits")
    assert plot.scores(fit).get_ylabel() == "bits per spike"


def test_the_page_of_a_fit_of_trials(trials, fit, tmp_path):
    page = plot.summary(ranked(fit), trials, tmp_path / "page.png")
    titles = [ax.get_title() for ax in page.axes if ax.get_title()]
    assert titles == [
        "Co-smoothing", "Evidence of the training trials", "Latent 1 of single trials", "Spikes over rates, trial 0",
        "Connectivity vectors",
    ]  # fmt: skip
    assert_looks_like(page, "summary_trials")
    gaussian = fit.drop_vars("bits_per_spike").assign_attrs(observation="gaussian")
    assert len(plot.summary(gaussian, trials).axes) == 3


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda fit, trials: plot.evidence(mock_fit()), "fit_trials"),
        (lambda fit, trials: plot.trial_latents(fit, rank=2), "1 latents"),
        (lambda fit, trials: plot.trial_latents(fit, by="side"), "stimulus, choice"),
        (lambda fit, trials: plot.trial_rates(fit, trials, trial=24), "24 trials"),
        (lambda fit, trials: plot.trial_rates(fit.assign_attrs(observation="gaussian"), trials), "Gaussian"),
    ],
)
def test_what_cannot_be_drawn_is_refused(trials, fit, call, found):
    with pytest.raises(ContractError, match=found):
        call(fit, trials)


def test_m_that_drifts_has_the_intervals_of_the_regression(trials):
    fit = nl.fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=3, drift=1)
    ax = plot.drifting_loadings(fit, neurons=["n002", "n005"])
    m = fit["m"].values[2, 0] + fit["m_drift"].values[2, 0, 0] * fit["drift_basis"].values[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), m)
    weight = np.array([0, 0, 1, fit["drift_basis"].values[0, 0]])
    error = np.sqrt(weight @ fit["observation_cov"].values[2] @ weight)
    band = ax.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 0, 1].max() == pytest.approx(m[0] + 1.6449 * error, rel=1e-4)
    assert texts(ax) == ["n002", "n005"]
    assert_looks_like(ax, "drifting_loadings")
    assert len(plot.drifting_loadings(fit).lines) == 4
    for wrong, words in (({"rank": 2}, "1 latents"), ({"level": 1.0}, "and below 1"), ({"neurons": ["x"]}, "x")):
        with pytest.raises(ContractError, match=words):
            plot.drifting_loadings(fit, **wrong)
    with pytest.raises(ContractError, match="constant"):
        plot.drifting_loadings(nl.network_of_trial(fit, 0))


def decoding():
    """Ten trials with a choice and a number, half of them held out."""
    rng = np.random.default_rng(0)
    right = np.arange(10) % 2
    ramp = np.linspace(0, 1, 20)
    choice = 0.5 + 0.4 * (2 * right - 1)[:, None] * ramp + 0.05 * rng.standard_normal((10, 20))
    hand = rng.standard_normal((10, 20))
    behavior = np.stack([np.where(ramp > 0.8, right[:, None], np.nan), hand], axis=2)
    decoded = np.stack([np.clip(choice, 0, 1), 0.8 * hand + 0.2 * rng.standard_normal(hand.shape)], axis=2)
    plain = decoded + 0.05
    dims, both, each = ("condition", "time", "readout"), ("decoder", "readout"), np.array([[0.5, 0.8], [0.4, 0.7]])
    choices = np.array([[0.9, np.nan], [0.8, np.nan]])
    data = {
        "behavior": (dims, behavior), "decoded": (dims, decoded), "decoded_low": (dims, decoded - 0.2),
        "decoded_high": (dims, decoded + 0.2), "decoded_plain": (dims, plain), "score": (both, each),
        "score_sem": (both, 0.1 * each), "score_difference": ("readout", [0.1, 0.1]),
        "score_difference_sem": ("readout", [0.02, 0.02]), "bits": (both, choices), "accuracy": (both, choices),
        "auc": (both, choices), "coverage": ("readout", [np.nan, 0.9]), "plain_width_s": ("readout", [0.1, 0.1]),
        "plain_ridge": ("readout", [1.0, 1.0]),
    }  # fmt: skip
    coords = {
        "time": 0.02 * np.arange(20), "readout": ["choice", "hand"], "decoder": ["latents", "plain"],
        "condition": [f"{k}" for k in range(10)], "held_out": ("condition", np.arange(10) > 3),
    }  # fmt: skip
    return xr.Dataset(data, coords, {"kind": "decoding", "causal": 1, "level": 0.9})


def test_decoded_choices_are_bands_and_numbers_are_points_of_held_out_trials():
    found = decoding()
    ax = plot.decoded_behavior(found)
    held = found.isel(condition=[5, 7, 9]).sel(readout="choice")  # held out, and of choice 1
    np.testing.assert_allclose(ax.lines[1].get_ydata(), held["decoded"].median("condition"))
    assert "latents 0.50, plain 0.40" in ax.get_title()
    assert_looks_like(ax, "decoded_behavior")
    points = plot.decoded_behavior(found, readout="hand").lines[1]
    held = found.isel(condition=slice(4, None)).sel(readout="hand")
    np.testing.assert_allclose(points.get_xdata(), held["behavior"].values.ravel())
    np.testing.assert_allclose(points.get_ydata(), held["decoded"].values.ravel())
    with pytest.raises(ContractError, match="no readout 'x'"):
        plot.decoded_behavior(found, readout="x")


def test_decoded_behavior_of_one_choice_or_of_none_in_held_out_trials():
    found = decoding()
    ones = found["behavior"].sel(readout="choice") == 1
    ax = plot.decoded_behavior(found.isel(condition=~ones.any("time").values))
    assert len(ax.lines) == 2  # the median, and one half
    np.testing.assert_array_equal(ax.lines[0].get_color(), plot.decoded_behavior(found).lines[0].get_color())
    nothing = found.assign(behavior=np.nan * found["behavior"])
    for readout in ("choice", "hand"):
        with pytest.raises(ContractError, match="No held-out trial has the behavior"):
            plot.decoded_behavior(nothing, readout=readout)
