"""Figures 3, 4 and 5: what is measured, what a context population is, and what the claims say of the numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner

from nwb_lint.analysis.inactivation import predict_inactivation
from nwb_lint.analysis.latents import project
from nwb_lint.cli import app
from nwb_lint.errors import ContractError
from nwb_lint.experiments.frame import reproduce
from nwb_lint.experiments.measures import append_conditions
from nwb_lint.experiments.paper import fig3, fig4, fig5
from nwb_lint.model.fit import fit_lint
from nwb_lint.nwb.extension.read import read_fit, read_result
from nwb_lint.tasks.generate import TASKS
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.train import network_dataset
from nwb_lint.workflow.recipe import load_recipe

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network():
    """A random network of rank 1 on the inputs of the context-dependent decision."""
    rng = np.random.default_rng(0)
    m, weights = rng.standard_normal((40, 1)), rng.standard_normal((40, 4))
    n = 1.2 * m + weights[:, :1] - weights[:, 1:2] + 0.3 * rng.standard_normal((40, 1))
    arrays = {"m": m, "n": n, "input_weights": weights, "readout": 4 * m[:, 0] + rng.standard_normal(40)}
    return network_dataset(arrays, "cdm")


def test_conditions_are_means_of_inputs_by_condition(network):
    clean = fig3.conditions_of(network, 3)
    assert clean.sizes["condition"] == 72
    trials = TASKS["cdm"](2000, 3)
    same = (trials["context"] == "color") & (trials["motion"] == 0.2) & (trials["color"] == -0.4)
    own = clean.sel(condition="color, motion 0.2, color -0.4")
    np.testing.assert_allclose(own["u"], trials["u"].values[same.values].mean(axis=0), atol=1e-6)
    assert int(own["answer"]) == -1


def test_a_network_agrees_with_itself_on_every_axis_and_a_still_one_on_none(network):
    noisy, clean = record_activity(network, 60, seed=1), fig3.conditions_of(network, 2)
    activity, test = append_conditions(noisy, clean)
    assert test.tolist() == list(range(60, 132))
    fit = fit_lint(activity, rank=1, tau_s=0.1, test_conditions=test, method="regression").isel(condition=test)
    own = project(fit, clean, orthogonal=False)
    still = own.assign(projection=own["projection"] * 0 + own["projection"].mean(("condition", "time")))
    compared = xr.Dataset(
        {"angle_deg": (("axis_name", "axis_other"), [[0.0]])},
        {"axis_name": ["tdr motion"], "axis_other": ["tdr motion"]},
        {"variables": ["motion"]},
    )
    same, none = (fig3.agreement(own, one, compared) for one in (own, still))
    assert {value for what, _, _, value in same if what == "trajectory R²"} == {1.0}
    np.testing.assert_allclose([v for what, _, _, v in none if what == "trajectory R²"], 0, atol=1e-6)


def test_figure_3_says_which_axis_is_nearest():
    rows = [("trajectory R²", "m 1", "", 0.95), ("trajectory R²", "I motion", "", 0.5)]
    rows += [("angle, degrees", f"tdr {a}", b, 20.0 if b == near else 80.0)
             for a, near in (("motion", "I motion"), ("color", "m 1"), ("answer", "m 1"))
             for b in ("m 1", "I motion", "I color")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["quantity", "axis", "other", "value"]).assign(g=0.1, seed=0, rank=1)
    claims = fig3.claims(table)
    assert [good for _, good in claims] == [False, True, False, True]
    assert "lowest: 0.500, I motion, g = 0.1" in claims[0][0]
    assert "m 1 20°" in claims[2][0]


def populations(gain, context):
    """Of three neurons each, with these gains (context, population)."""
    labels = [f"n{k}" for k in range(9)]
    return xr.Dataset(
        {
            "population": ("neuron", np.repeat([0, 1, 2], 3)),
            "gain": (("condition", "group"), np.array([gain[c] for c in context])),
        },
        {"neuron": labels, "group": ["1", "2", "3"], "context": ("condition", list(context))},
    )


def test_a_context_population_is_known_by_its_gain_not_by_its_harm():
    found = populations({"color": [0.5, 0.9, 0.2], "motion": [0.5, 0.4, 0.6]}, ["color", "motion", "color", "motion"])
    accuracy = np.array([[0.9, 0.9], [0.5, 0.8], [0.7, 0.6]])
    result = xr.Dataset(
        {
            "accuracy": (("group", "context"), accuracy),
            "accuracy_intact": ("context", [1.0, 0.95]),
            "accuracy_control": (("group", "quantile", "context"), np.full((3, 3, 2), 0.85)),
        },
        {
            "group": [f"population {k}" for k in (1, 2, 3)],
            "context": ["color", "motion"],
            "quantile": [0.05, 0.5, 0.95],
        },
    )
    rows = fig4.rows_by_population(found, result)
    assert [row["role"] for row in rows] == ["other", "context", "context"]
    assert [row["own"] for row in rows[1:]] == ["color", "motion"]
    assert (rows[1]["accuracy_own"], rows[1]["accuracy_other"]) == (0.5, 0.8)
    assert (rows[2]["accuracy_own"], rows[2]["accuracy_other"], rows[2]["intact_own"]) == (0.6, 0.7, 0.95)
    table = pd.DataFrame(rows).assign(g=0.1, seed=0, rank=1, method="em", model="network", r2_intact=1.0)
    claims = fig4.claims(table)
    assert claims[0][1]  # 0.5 against 0.15, 0.35 against 0.3
    assert "2 of 2; accuracy falls by 0.42 and 0.22 on average" in claims[0][0]
    assert claims[1][1]
    worse = table.assign(accuracy_other=0.1)
    assert not fig4.claims(worse)[0][1]
    assert [cell[:3] for cell in fig4.compare(table)] == [
        ("network, context population silenced, own context: accuracy", pytest.approx(0.565), pytest.approx(0.55)),
        ("network, context population silenced, other context: accuracy", pytest.approx(0.965), pytest.approx(0.75)),
    ]
    assert "| 2, own color (3) | 0.90 / 0.40 | network | 1.000 | 0.50 / 0.80 | 0.85 to 0.85 |" in fig4.report(table)


def test_rows_of_figure_4_are_those_of_the_prediction(network):
    """Silencing nobody: accuracy as intact, whatever the population."""
    trials = record_activity(network, 40, private_noise=0.0)
    found = populations({"color": [0.5, 0.9, 0.2], "motion": [0.5, 0.4, 0.6]}, trials["context"].values)
    groups = {f"population {k}": [] for k in (1, 2, 3)}
    result = predict_inactivation(network, groups, u=trials, context="context", answer="answer", controls=2)
    for row in fig4.rows_by_population(found, result):
        assert row["accuracy_own"] == row["intact_own"] == row["random_own_low"]


def test_figure_5_reads_as_the_example_does(tmp_path):
    (tmp_path / "one.nwb").touch()
    ours, example = fig5.recipe_of(tmp_path), load_recipe(ROOT / "examples" / "mante2013.toml")
    sections = [one.model_dump(exclude={"sources", "out"}) for one in (ours, example)]
    assert sections[0] == sections[1]


def test_figure_5_says_what_recordings_it_needs(tmp_path):
    with pytest.raises(ContractError, match=r"no NWB files.*Mante.*--data"):
        reproduce("fig5", tmp_path / "out", data=tmp_path)
    with pytest.raises(ContractError, match=r"no folder.*Mante.*--data"):
        reproduce("fig5", tmp_path / "out")
    done = CliRunner().invoke(app, ["reproduce", "fig5", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.output.startswith("error: There are no NWB files in")


def test_figure_5_says_what_the_numbers_say():
    rows = [
        ("R², held out", "ours", 1, "all neurons", 0.30, 0.02),
        ("R², held out", "ours", 2, "all neurons", 0.35, 0.02),
        ("R², held out", "loop", 1, "all neurons", 0.16, 0.02),
        ("R², held out", "regression", 0, "all neurons", 0.24, np.nan),
        ("R², held out", "regression with choice", 0, "all neurons", 0.36, np.nan),
        ("ceiling", "ours", 1, "all neurons", 0.46, np.nan),
        ("excess kurtosis (error: p of heavier tails)", "ours", 1, "m 1", 2.0, 0.01),
        ("excess kurtosis (error: p of heavier tails)", "ours", 1, "n 1", 0.1, np.nan),
        ("neurons", "ours", 1, "small weights", 15.0, np.nan),
        ("neurons", "ours", 1, "large weights", 4.0, np.nan),
        *(("accuracy", "ours", 1, f"{name}, context color", value, np.nan)
          for name, value in (("nobody", 1.0), ("small weights", 0.9), ("large weights", 0.5))),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=fig5.COLUMNS)
    claims = dict(fig5.claims(table))
    assert [good for good in claims.values()] == [True, True, False, False, False, True]
    assert any("(nobody 1.00, small 0.90, large 0.50)" in claim for claim in claims)
    numbers = {cell.what: cell.ours for cell in fig5.compare(table)}
    assert numbers["share of neurons with small weights (monkey A)"] == pytest.approx(15 / 19)
    assert numbers["rank 2: R² (published: monkey A, all conditions)"] == 0.35
    assert fig5.figure_table(table)["y"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fig3", "fig4", "inactivation"])
def test_quick_runs(name, tmp_path):
    table = reproduce(name, tmp_path, quick=True)
    assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
    assert len(table)
    first = sorted((tmp_path / "fits").glob("*.nwb"))[0]
    assert read_fit(first).sizes["neuron"] == 64
    if name == "fig4":
        assert read_result(first, "em_network").attrs["kind"] == "inactivation"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dropped 1 of 20 units")
def test_quick_run_of_figure_5(tmp_path, shared_data):
    table = reproduce("fig5", tmp_path, quick=True, data=shared_data / "mante2013")
    assert dict(fig5.claims(table))
    assert read_fit(tmp_path / "fits" / "fig5_rank1.nwb").sizes["rank"] == 1
