"""Every public function takes a fit of single trials, or says in one line what it needs."""

from __future__ import annotations

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.contract.checks import check_result
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension.codec import encode
from nwb_lint.testing import mock_fit, mock_trials


@pytest.fixture(scope="module")
def trials():
    return nl.prepare(mock_trials(n_neurons=10, n_trials=16), inputs=[nl.Input("stimulus", column="stimulus")])


@pytest.fixture(scope="module")
def fit(trials):
    return nl.fit_trials(trials, rank=2, tau_s=0.1, hidden=4, max_iter=2, test_size=4)


RESULTS = {
    "flow_field": lambda fit, trials: nl.flow_field(fit, condition=0, n_points=4),
    "fixed_points": lambda fit, trials: nl.fixed_points(fit, input={"stimulus": 1.0}, n_starts=10),
    "limit_cycles": lambda fit, trials: nl.limit_cycles(fit, n_starts=2),
    "latents": nl.latents,
    "project": nl.project,
    "score": nl.score,
    "compare_axes": lambda fit, trials: nl.compare_axes(fit, trials, variables=["choice"], mtdr_dims=0),
    "connectivity": lambda fit, trials: nl.connectivity(fit),
    "weight_statistics": lambda fit, trials: nl.weight_statistics(fit),
    "find_populations": lambda fit, trials: nl.find_populations(fit, n_groups=2, resamples=1),
    "predict_inactivation": lambda fit, trials: nl.predict_inactivation(fit, {"two": [0, 1]}, controls=2),
    "fit_readout": lambda fit, trials: nl.fit_readout(fit, "choice", folds=2),
}


@pytest.mark.parametrize("name", RESULTS)
def test_analyses_give_results_that_files_can_hold(name, fit, trials):
    result = RESULTS[name](fit, trials)
    check_result(result)
    encode(result)


def test_trials_stand_for_their_posterior_activation(fit, trials):
    """The latents of the data are the posterior ones, and the score is that of the fit."""
    scored = nl.score(fit, trials, conditions=np.flatnonzero(~fit["held_out"].values))
    assert float(scored["r2"]) == pytest.approx(float(fit["r2"][0]), abs=1e-3)
    found = nl.latents(fit, trials)["latent_data"].values
    assert np.corrcoef(found.ravel(), fit["latent"].values.ravel())[0, 1] > 0.9
    assert "kappa_{1}" in plot.latents_over_time(fit, trials).get_ylabel()


@pytest.mark.parametrize(
    "call",
    [
        lambda fit, trials: nl.fit_lint(trials, rank=1, tau_s=0.1),
        lambda fit, trials: nl.ensemble(trials, rank=1, tau_s=0.1),
        lambda fit, trials: nl.baselines(trials, rank=1, tau_s=0.1),
        lambda fit, trials: nl.audit(trials, ranks=[1], tau_s=0.1),
        lambda fit, trials: nl.compare_tau(trials, rank=1, taus_s=[0.1]),
        lambda fit, trials: nl.compare_links(trials, prepare=nl.prepare, rank=1, tau_s=0.1),
        lambda fit, trials: nl.bootstrap(fit, trials, prepare=lambda one: one),
        lambda fit, trials: nl.flow_field(fit, activity=trials, refit_fractions=(0.5,)),
        lambda fit, trials: nl.fixed_points(fit, activity=trials, refit_fractions=(0.5,)),
        lambda fit, trials: nl.latents(mock_fit(), trials),
        lambda fit, trials: nl.score(mock_fit(), trials),
    ],
)
def test_what_needs_means_says_so(call, fit, trials):
    with pytest.raises(ContractError, match=r"16 single trials.*means over trials are needed.*fit_trials"):
        call(fit, trials)


@pytest.mark.parametrize("name", ["infer_latents", "predict_rates", "bits_per_spike"])
def test_what_needs_a_stochastic_network_says_so(name, trials):
    with pytest.raises(ContractError, match=r"mean activity.*fit_trials"):
        getattr(nl, name)(mock_fit(), trials)


def test_plain_pynwb_lists_the_latents_on_the_clock_of_the_session(fit, trials, tmp_path):
    from pynwb import NWBHDF5IO

    start = 3.0 * np.arange(16)
    fit = fit.assign_coords(cue_time=("condition", start)).assign_attrs(align="cue_time")
    subject = {"subject_id": "mock", "species": "Mus musculus", "sex": "U", "age": "P90D"}
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=subject)
    with NWBHDF5IO(path, "r", load_namespaces=True) as io:
        series = io.read().processing["ecephys"]["lowrank_fit"].latents
        np.testing.assert_allclose(series.timestamps[:], (start[:, None] + fit["time"].values).ravel())
        np.testing.assert_array_equal(series.data[:], fit["latent"].values.reshape(-1, 2))
    assert nl.read_fit(path).identical(fit)
