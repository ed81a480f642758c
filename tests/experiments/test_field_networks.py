"""Benchmarks on networks and on a session of others: quick runs, and the pieces that they are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nwb_lint.errors import ContractError
from nwb_lint.experiments.field import alm000060, latent_circuit, monkeys
from nwb_lint.experiments.frame import reproduce
from nwb_lint.model.simulate import run

SESSION = Path(__file__).resolve().parents[3] / "shared" / "data" / "alm000060"


def test_alm000060_on_a_simulated_session(tmp_path):
    table = reproduce("alm000060", tmp_path, quick=True)
    assert not table.attrs["failed"]
    bits = table[table["quantity"] == "bits per spike"].set_index("model")["value"]
    assert bits[alm000060.CHOSEN] > bits[alm000060.REGRESSION] > bits[alm000060.MEANS]
    by_rank = table[table["quantity"].str.endswith("by rank")].set_index("rank")["value"]
    assert by_rank[2] > by_rank[1]
    assert alm000060.compare(table) == []  # no split of the session
    assert (tmp_path / "alm000060.png").stat().st_size > 1000
    with pytest.raises(ContractError, match="no folder of the session"):
        reproduce("alm000060", tmp_path)
    with pytest.raises(ContractError, match="no counts_50ms"):
        reproduce("alm000060", tmp_path, data=tmp_path)


def test_the_splits_are_those_of_the_reference():
    counts = np.zeros((257, 4, 51), int)
    rng = np.random.default_rng(1)
    order, units = rng.permutation(257), rng.permutation(51)
    split = alm000060.split_of(counts, 1)
    assert split.test["trial"].values.astype(int).tolist() == sorted(order[:51])
    assert split.held.tolist() == sorted(units[:13])
    assert split.train.sizes["trial"] == 206


@pytest.mark.skipif(not (SESSION / alm000060.FILE).exists(), reason="needs ../shared/data/alm000060")
def test_the_mean_over_trials_of_the_session_has_the_known_bits():
    counts = alm000060.session_in(SESSION)
    for seed, known in alm000060.ALM000060.items():
        found = alm000060.mean_course(alm000060.split_of(counts, seed))
        assert found == pytest.approx(known[alm000060.MEANS], abs=0.006)


def test_the_design_of_the_recordings():
    given = monkeys.design("A")
    assert dict(given.sizes) == {"condition": 72, "time": 150, "input": 4, "burn_in": 71}
    whole = np.concatenate([given["u_burn_in"].values, given["u"].values], axis=1)
    assert (whole[:, :69, :2] == 0).all()
    assert (whole[:, :70, 2:].sum(axis=2) == 1).all()
    assert (whole[:, 70:200, 0] == given["motion"].values[:, None].astype(np.float32)).all()
    seen = monkeys.design("F", 0.0)
    assert seen.sizes["time"] == 220
    assert (np.sign(np.where(given["context"] == "motion", given["motion"], given["color"])) == given["choice"]).all()


def test_a_network_runs_in_the_design_as_a_whole():
    given = monkeys.design("A")
    network = monkeys.network_in("", "simulated", 2, given)
    clean = monkeys.activity_of(network)
    np.testing.assert_allclose(run(network, clean)["activity"].values, clean["activity"].values, atol=1e-5)
    trials = monkeys.noisy(network, "single trials", 0)
    assert trials.sizes["condition"] == 72 * monkeys.TRIALS
    mean = trials["activity"].values.reshape(72, monkeys.TRIALS, 150, -1).mean(axis=1)
    assert np.corrcoef(mean.ravel(), clean["activity"].values.ravel())[0, 1] > 0.9
    x = clean["activity"].values
    opposite = 2 * x.mean(axis=0) - x
    found = [monkeys.right_choices(network, one) for one in (x, opposite)]
    assert sum(found) == pytest.approx(1)


def test_monkeys_on_a_simulated_network(tmp_path):
    table = reproduce("monkeys", tmp_path, quick=True)
    assert not table.attrs["failed"]
    for quantity, least in (("R², held out", 0.998), ("ECC", 0.95)):
        some = table[(table["quantity"] == quantity) & (table["design"] == monkeys.AS_PUBLISHED)]
        assert (some["value"] >= least).all()
    assert all(good for claim, good in monkeys.claims(table) if "silencing" not in claim)
    with pytest.raises(ContractError, match="no networks of the monkeys"):
        reproduce("monkeys", tmp_path, data=tmp_path)


def test_latent_circuit_quickly(tmp_path):
    table = reproduce("latent_circuit", tmp_path, quick=True)
    assert not table.attrs["failed"]
    low = table[table["model"] == "low rank"].set_index(["rank", "trials"])
    bound = table[table["model"] == "the network without noise"].set_index("trials")["error"]
    assert low.loc[latent_circuit.SAME_RANK, "dimensions"].eq(8).all()
    assert (low["error"] > bound.reindex(low.index, level="trials") - 0.001).all()
    assert (low["error"] < latent_circuit.LATENT_CIRCUIT["error"]).all()
    assert low.loc[8, "error"].max() < low.loc[latent_circuit.SAME_RANK, "error"].min()


def test_the_normalized_error():
    y = np.random.default_rng(0).standard_normal((3, 4, 5)) + np.arange(5)
    mean = np.broadcast_to(y.mean(axis=(0, 1)), y.shape)
    assert latent_circuit.normalized_error(y, mean) == pytest.approx(1)
    assert latent_circuit.normalized_error(y, y) == 0
    table = pd.DataFrame({"model": ["low rank"], "rank": [2], "trials": ["new"], "error": [0.05], "seed": [0]})
    (cell,) = latent_circuit.compare(table)
    assert cell.better == "ours"
