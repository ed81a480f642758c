"""Activity that is seen after a burn-in alone: what came before the first sample must not bias the regressions."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_lint.experiments.measures import similarity
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Network, drives, effective_n, forward
from nwb_lint.model.regression import closed_form, latent_pass, regression_errors, without_start

ALPHA, UNSEEN, SEEN = 0.2, 15, 60


@pytest.fixture(scope="module")
def network() -> Network:
    """A network of rank 2 with two contexts and a stimulus."""
    rng = np.random.default_rng(4)
    m, w = rng.standard_normal((80, 2)), rng.standard_normal((80, 3))
    return Network(m, 2 * m + 0.6 * w[:, :2] + 0.8 * rng.standard_normal((80, 2)), w)


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """Two contexts that are on from the start, and a stimulus that comes with the first sample that is seen."""
    u = np.zeros((24, UNSEEN + SEEN, 3), np.float32)
    for k, one in enumerate(u):
        one[:, k % 2] = 0.6
        one[UNSEEN:, 2] = np.linspace(-1, 1, 12)[k // 2]
    return u


def effective(network: Network) -> np.ndarray:
    return network.m @ effective_n(network.m, network.n, network.w).T


def test_what_came_before_the_first_sample_has_no_part():
    rng = np.random.default_rng(0)
    a, seen = rng.standard_normal((3, 20, 4)), rng.random((3, 20)) < 0.7
    course = (1 - ALPHA) ** np.arange(20)[None, :, None]
    moved = a + course * rng.standard_normal((3, 1, 4))
    for observed in (None, seen):
        left = without_start(a, ALPHA, observed)
        np.testing.assert_allclose(without_start(moved, ALPHA, observed), left, atol=1e-12)
        used = left if observed is None else left * observed[..., None]
        np.testing.assert_allclose((used * course).sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("ended", [False, True])
def test_regressions_find_the_network_behind_an_unseen_start(network, inputs, ended):
    """``ended``: trials of different lengths."""
    q = drives(inputs, ALPHA, bias=False, initial=False)
    x = forward(network, q, ALPHA)[0][:, UNSEEN:].astype(np.float32)
    if ended:
        x[::3, 40:] = np.nan
    first = {
        unseen: closed_form(x, q, rank=2, alpha=ALPHA, ridges=(1e-4,), unseen_start=unseen).networks[0]
        for unseen in (False, True)
    }
    found = {unseen: similarity(effective(network), effective(one))[0] for unseen, one in first.items()}
    assert found[True] > 0.9
    assert found[False] < 0.7
    again = latent_pass(first[True], x, q, alpha=ALPHA, ridges=(1e-4,), unseen_start=True).networks[0]
    assert similarity(effective(network), effective(again))[0] > 0.85
    with_start, without = (
        regression_errors([network], x, q, alpha=ALPHA, unseen_start=unseen)[0] for unseen in (False, True)
    )
    assert without < 1e-4 * with_start


def test_a_fit_leaves_out_an_unseen_start_where_that_predicts_better(network, inputs):
    q = drives(inputs, ALPHA, bias=False, initial=False)
    x = forward(network, q, ALPHA)[0].astype(np.float32)
    dims = ("condition", "time", "input")
    whole = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), x), "u": (dims, inputs)},
        {"time": 0.02 * np.arange(UNSEEN + SEEN), "neuron": np.arange(80).astype(str), "input": ["a", "b", "stimulus"]},
        {"bin_s": 0.02},
    )
    late = whole.isel(time=slice(UNSEEN, None))
    late["u_burn_in"] = ("condition", "burn_in", "input"), inputs[:, :UNSEEN]
    held = np.arange(24) % 6 == 1
    how = {"rank": 2, "tau_s": 0.1, "test_conditions": held, "method": "regression"}
    fit = fit_lint(late, **how)
    stages = fit["stage"].values.tolist()
    assert stages[:2] == ["closed form", "unseen start"]
    left = 1 - fit["stage_r2"].sel(split="held_out").values
    assert left[-1] < min(0.005, 0.7 * left[0])
    network_n = Network(fit["m"].values, fit["n"].values, fit["input_weights"].values)
    assert similarity(effective(network), effective(network_n))[0] > 0.95
    assert "unseen start" not in fit_lint(whole, **how)["stage"].values
