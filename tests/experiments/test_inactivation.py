"""The test bed: a network agrees with itself, a fit of it nearly, and the page says what the table does."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nwb_lint.analysis.inactivation import CAUTION, predict_inactivation
from nwb_lint.errors import ContractError
from nwb_lint.experiments.paper.inactivation import agreement, claims, figure_table, inactivation_test, report, summary
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.train import network_dataset

STORED = Path(__file__).parents[2] / "docs" / "reproduction" / "inactivation.csv"


@pytest.fixture(scope="module")
def network():
    """A random full-rank network on the inputs of the context-dependent decision."""
    rng = np.random.default_rng(0)
    weights = {"J": 0.8 * rng.standard_normal((40, 40)) / np.sqrt(40), "input_weights": rng.standard_normal((40, 4))}
    return network_dataset(weights | {"readout": rng.standard_normal(40)}, "cdm", g=1.0)


def test_a_network_agrees_with_itself(network):
    trials = record_activity(network, 20, private_noise=0.0)
    groups = {"random 0": np.arange(4), "else": np.arange(30)}
    found = predict_inactivation(network, groups, u=trials, context="context", controls=0)
    rows = agreement(found, found)
    assert [row["kind"] for row in rows] == ["random", "population"]
    assert [row["neurons"] for row in rows] == [4, 30]
    for row in rows:
        assert row["correlation"] == pytest.approx(1)
        assert row["accuracy_true_motion"] == row["accuracy_predicted_motion"]


def test_an_unconstrained_fit_predicts_what_rank_1_does_not(network, tmp_path):
    table = inactivation_test(network, n_trials=150, n_random=6, ranks=(1, None), fits=tmp_path)
    assert len(table) == 2 * 2 * (6 + 4 + 2 + 3)
    short = summary(table).set_index(["rank", "chosen_by", "kind"])["median"]
    assert short[0, "innovations", "random"] > 0.9
    assert short[0, "innovations", "random"] > short[1, "innovations", "random"] + 0.1
    text = report(table)
    assert all(f"| {value:.3f} (" in text for value in short)
    assert claims(table)[0] == (
        f"unconstrained at g = 1, random groups, ridge by held_out: median correlation of 0.9 or more "
        f"({short[0, 'held_out', 'random']:.3f})",
        bool(short[0, "held_out", "random"] >= 0.9),
    )
    assert set(figure_table(table)["line"]) == {"held_out", "innovations"}
    assert len(list(tmp_path.glob("*.nwb"))) == 4


def test_other_tasks_are_refused(network):
    with pytest.raises(ContractError, match="cdm"):
        inactivation_test(network.assign_attrs(task="dm"))


def test_the_caution_says_what_was_measured():
    """The numbers of the caution are those of the table in docs: correlations, then sizes."""
    table = pd.read_csv(STORED)
    keys = ["g", "noise", "rank", "chosen_by", "kind"]
    short = summary(table).set_index(keys)["median"]
    size = table.assign(size=table["effect_predicted"] / table["effect_true"]).groupby(keys)["size"].median()
    stated = [float(number) for number in re.findall(r"0\.\d\d\b", CAUTION)]
    expected = [one[1.0, 0.0, rank, "innovations", "random"] for one in (short, size) for rank in (1, 2, 5, 0)]
    np.testing.assert_allclose(stated, expected, atol=0.0051)
