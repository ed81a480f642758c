"""Links from rates to activations can be undone, fits predict rates through them, and data choose among them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.rate_link import LINKS, Link
from nwb_lint.testing import mock_recording
from tests.networks import plain

INPUT = nl.Input("stimulus", column="stimulus", window_s=(0, 1))
prepared = partial(nl.prepare, inputs=[INPUT], center=(-0.2, 0.0), time_course=False, n_components=None, scale="neuron")


def recording_of(rate_of, seed=0):
    """Rates of a rank-1 network as a function of its activation, with noise."""
    rng, recording = np.random.default_rng(seed), mock_recording(n_neurons=20, n_conditions=12)
    m, w = rng.standard_normal((2, 20, 1))
    stimulus, alpha = np.linspace(-2, 2, 12), recording.attrs["bin_s"] / 0.1
    u = (stimulus[:, None] * (recording["time"].values >= 0))[..., None]
    rate = rate_of(plain(m, 1.2 * m + 0.6 * w, w, u, alpha=alpha)) + 0.3 * rng.standard_normal(recording["rate"].shape)
    recording["rate"] = recording["rate"].dims, np.maximum(rate, 0).astype("f4")
    return recording.drop_vars(["rate_half", "n_trials_half"], errors="ignore").assign_coords(
        stimulus=("condition", stimulus)
    )


@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_undone_and_rises(name):
    rate = np.linspace(0.5, 60, 200)[:, None]
    link = Link(name, np.array([-5.0]), np.array([70.0]))
    value = link.of_rate(rate)
    np.testing.assert_allclose(link.rate(value), rate, rtol=1e-10)
    assert (np.diff(value[:, 0]) > 0).all()


@pytest.mark.parametrize("name", LINKS)
def test_what_prepare_does_is_undone(name):
    recording = mock_recording()
    activity = prepared(recording, rate_link=name)
    value = activity["activity"].values * activity["scale"].values + activity["offset"].values
    found, link = Link.of(activity).rate(value), Link.of(activity)
    inside = np.ones(found.shape, bool)
    if name == "saturating":  # what is near the bounds is cut
        middle, half = (link.low + link.high) / 2, (link.high - link.low) / 2
        inside = np.abs(recording["rate"].values - middle) < 0.96 * half
        assert inside.mean() > 0.9
    np.testing.assert_allclose(found[inside], recording["rate"].values[inside], rtol=1e-4)


@pytest.mark.parametrize("name", ["log", "saturating"])
def test_a_fit_predicts_rates_through_the_link_also_from_a_file(name, tmp_path):
    activity = prepared(recording_of(lambda x: np.exp(2 + 0.7 * x)), rate_link=name)
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, method="regression", hidden=3)
    rate = nl.simulate(fit)["rate"].values
    assert (rate >= -1e-6).all() or name == "saturating"
    value = (fit["activity_pred"] * fit["scale"] + fit["offset"]).values
    np.testing.assert_allclose(rate, Link.of(fit).rate(value), rtol=1e-5)
    subject = {"subject_id": "a", "species": "Mus musculus", "sex": "F", "age": "P9D"}
    nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject)
    again = nl.read_fit(tmp_path / "fit.nwb")
    np.testing.assert_array_equal(nl.simulate(again)["rate"], rate)
    change = nl.predict_inactivation(fit, groups={"one": fit["neuron"].values[:1]}, controls=0)["rate_change"].values[0]
    silenced = nl.simulate(fit, silence=fit["neuron"].values[:1])["rate"].values
    np.testing.assert_allclose(change, (silenced - rate).mean(axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rate_of"),
    [
        ("identity", lambda x: 40 + 4 * x),
        ("log", lambda x: np.exp(2 + 0.8 * x)),
        ("saturating", lambda x: 15 + 12 * np.tanh(x)),
    ],
)
def test_held_out_rates_choose_the_link_that_made_them(name, rate_of):
    table = nl.compare_links(recording_of(rate_of), prepare=prepared, rank=1, tau_s=0.1, method="regression")
    assert table.attrs["rate_link"] == name
    assert table["as_good"].sel(link_tried=name)
    np.testing.assert_allclose(table["link_r2"], table["r2"].mean("fold"))


def test_a_fit_with_a_link_has_no_intervals_and_says_why():
    recording = mock_recording(draws=2)
    prepare = partial(prepared, rate_link="log")
    fit = nl.fit_lint(prepare(recording), rank=1, tau_s=0.1, method="regression")
    found = nl.bootstrap(fit, recording, prepare=prepare, simulations=2)
    assert all("rate_link" in reason for reason in found["reason"].values)
    assert found["value_draw"].notnull().all()
    with pytest.warns(UserWarning, match="rate_link='identity'"):
        nl.latents(fit, prepared(recording))


def test_refusals():
    recording = mock_recording()
    below = recording.assign(rate=recording["rate"] - 100)
    with pytest.raises(ContractError, match=r"at least 0.*saturating"):
        prepared(below, rate_link="log")
    assert np.isfinite(prepared(below, rate_link="saturating")["activity"].values).all()
    with pytest.raises(ContractError, match="twice"):
        nl.compare_links(recording, prepare=prepared, rank=1, tau_s=0.1, links=["log", "log"])
    with pytest.raises(ContractError, match="rate_link"):
        prepared(recording, rate_link="probit")


def test_missing_samples_stay_missing():
    recording = mock_recording()
    rate = recording["rate"].values.copy()
    rate[0, :3, 1] = np.nan
    with_gap = recording.assign(rate=(recording["rate"].dims, rate))
    for name in LINKS:
        activity = prepared(with_gap, rate_link=name)["activity"].values
        np.testing.assert_array_equal(np.isnan(activity), np.isnan(rate))
