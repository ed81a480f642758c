"""Experiments: quick runs write what they say, and the page says what the tables hold."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from nwb_lint.cli import app
from nwb_lint.errors import ContractError, WorkerError
from nwb_lint.experiments.frame import (
    FIELD,
    NAMES,
    Cell,
    Experiment,
    check_claims,
    load_experiment,
    reproduce,
    write_page,
)
from nwb_lint.experiments.measures import rates_r2, record, similarity
from nwb_lint.experiments.paper import fig2
from nwb_lint.experiments.paper.kback import claims, sufficient
from nwb_lint.experiments.paper.published import NOTES, TABLE1
from nwb_lint.experiments.paper.table1 import compare
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.tasks.train import train_network

STORED = Path(__file__).parents[2] / "docs" / "reproduction"


def test_table1_finds_networks_again_and_writes_everything(tmp_path):
    """A folder of data with a file that lacks an array: its part fails, and all others are there."""
    out, data = tmp_path / "out", tmp_path / "data"
    data.mkdir()
    np.savez(data / "wm.npz", m=np.ones((4, 2)))
    command = ["reproduce", "table1", "--quick", "--out", str(out), "--page", str(tmp_path / "page.md")]
    done = CliRunner().invoke(app, [*command, "--data", str(data), "--cache-dir", str(tmp_path / "parts")])
    assert done.exit_code == 1, done.output
    assert "warning: A part of table1 failed" in done.output
    assert "DOES NOT HOLD: every part was computed" in done.output
    assert "error: 1 of the parts of table1 failed" in done.output
    every = pd.read_csv(out / "table1.csv")
    assert every["task"].tolist() == ["dm", "cdm", "wm"]
    assert np.isnan(every["ecc"][2])
    table = every[:2]
    assert (table["ecc"] >= 0.99).all()
    assert (table["r2_truth"] >= 0.999).all()
    assert (table["r2_trials"] <= table["r2_ceiling"] + 0.01).all()
    assert read_fit(out / "fits" / "table1_cdm_ours.nwb").sizes["rank"] == 1
    assert (out / "table1.pdf").stat().st_size > 1000
    page = (tmp_path / "page.md").read_text()
    assert f"{table.loc[1, 'ecc_cosine']:.3f}" in page
    assert all(note in page for note in NOTES["table1"])
    assert "quick run" in page
    assert "**Does not hold**: every part was computed" in page
    assert "| wm | " in page
    assert "nan |" in page


@pytest.mark.parametrize(
    ("ours", "higher", "better"),
    [(0.8, True, "ours"), (0.8, False, "published"), (0.5001, True, "equal"), (np.nan, True, ""), (0.8, None, "")],
)
def test_which_number_is_better(ours, higher, better):
    assert Cell("R²", 0.5, ours, higher).better == better


def test_the_page_follows_the_tables(tmp_path):
    row = {
        name: [0.5] for name in ("r2_truth", "r2_trials", "r2_ceiling", "accuracy", "ecc", "ecc_cosine", "cc_cosine")
    }
    table = pd.DataFrame({"task": ["dms"], "source": ["paper"], "ecc_published_fit": [0.25], **row})
    table.to_csv(tmp_path / "table1.csv", index=False)
    (tmp_path / "table1.json").write_text(json.dumps({"quick": False, "seconds": 90}))
    page = write_page(tmp_path, tmp_path / "page.md").read_text()
    assert "| dms, paper: ECC (cosine) | 0.630 | 0.500 | -0.130 | published |  |" in page
    assert "**Does not hold**: ECC at least .99" in page
    assert "Without stored results: fig2, kback, fig3, fig4, fig5, inactivation" in page
    assert "full runs together took 1.5 minutes" in page
    assert "| table1 | full | 90 |  |  |" in page
    with pytest.raises(ContractError, match="no results"):
        write_page(tmp_path / "nothing", tmp_path / "page.md")
    assert len(compare(table)) == 4


@pytest.mark.parametrize(("ranks", "linear"), [((1, 2, 3, 4), True), ((2, 2, 2, 2), False), ((1, 2, 5, 7), False)])
def test_linear_growth_of_rank_is_recognized(ranks, linear):
    rows = [
        {
            "task": f"{k}-back",
            "seed": seed,
            "model": "low rank",
            "rank": r,
            "accuracy": 0.99 if r >= need - 1 else 0.6,
            "r2": 0.97 if r >= need + seed else 0.9,
            "accuracy_network": 1,
        }
        for seed in (0, 1)
        for k, need in enumerate(ranks, start=1)
        for r in range(1, 9)
    ]
    table = pd.DataFrame(rows)
    one = dict(enumerate(ranks, start=1))
    assert sufficient(table).to_dict() == {0: one, 1: {k: need + 1 for k, need in one.items()}}
    assert [good for _, good in claims(table)] == [linear, linear, False, False]  # answers alone: 1, 1, …
    answers = sufficient(table, rates=False)
    assert answers.equals(sufficient(table.assign(r2=1.0)))
    assert answers.to_dict() == {seed: {k: max(need - 1, 1) for k, need in one.items()} for seed in (0, 1)}
    assert np.isnan(sufficient(table[table["rank"] < 2])[1][1])
    assert not claims(table[table["rank"] < 2])[1][1]
    assert claims(table[table["task"] == "1-back"]) == []


def fig2_rows(g, low, free):
    """A table of one network whose low-rank fits have R² ``low``, and unconstrained ones to few neurons ``free``."""
    shared = {"task": "cdm", "g": g, "seed": 0, "neurons": 9, "accuracy_network": 1.0}
    rows = [
        shared | {"model": model, "rank": rank, "fraction": 1.0, "r2": r2, "accuracy": r2}
        for model, r2 in (("low rank", low), ("truncated", 0.1))
        for rank in (1, 5)
    ]
    for fraction in (1.0, 0.1, 0.01):
        for model, rank, r2 in zip(fig2.FEW_NEURON_MODELS, (1, 0), (low, free), strict=True):
            rows.append(shared | {"model": model, "rank": rank, "fraction": fraction, "r2": r2, "accuracy": np.nan})
    return pd.DataFrame(rows)


def test_fig2_separates_fits_to_few_neurons_from_those_to_all():
    table = fig2_rows(0.1, 0.995, 0.3)
    ours_by_name = {cell.what: cell.ours for cell in fig2.compare(table)}
    assert ours_by_name["cdm, g = 0.1, low rank, rank 1: R²"] == 0.995
    assert ours_by_name["cdm, g = 0.1, 1% of the neurons, few neurons, unconstrained: R²"] == 0.3
    assert sum("neurons" in what for what in ours_by_name) == 6
    assert [good for _, good in fig2.claims(table)] == [True]
    assert [good for _, good in fig2.claims(fig2_rows(0.8, 0.98, 0.99))] == [True, False, False]
    assert not any("neurons" in cell.what for cell in fig2.compare(fig2_rows(0.8, 0.9, 0.3)))
    drawn = fig2.figure_table(table)
    assert drawn.notna().all(axis=None)
    assert sorted(drawn.loc[drawn["panel"].str.contains("fraction"), "x"].unique()) == [-2, -1, 0]


def test_the_page_counts_the_seeds(tmp_path):
    rows = pd.concat([fig2_rows(0.8, 0.9, 0.3).assign(seed=seed) for seed in (0, 4, 5)])
    rows.to_csv(tmp_path / "fig2.csv", index=False)
    (tmp_path / "fig2.json").write_text(json.dumps({"quick": False, "seconds": 1, "seeds": 2}))
    assert "full run, seeds: 3, 1 s" in write_page(tmp_path, tmp_path / "page.md").read_text()


def test_few_neurons_are_fitted_with_hidden_units():
    network = train_network("dm", n_neurons=40, rank=1, seed=0, accuracy=0.9)
    recorded = record(network, 40, 10, 0)
    found = fig2.fit_few_neurons(recorded, 0.25, 1, 0.1, 0, max_iter=5)
    assert list(found) == list(fig2.FEW_NEURON_MODELS)
    (low, _), (free, r2) = found.values()
    assert r2 > 0.9
    assert [(fit.sizes["neuron"], int(fit["recorded"].sum())) for fit in (low, free)] == [(100, 10), (10, 10)]
    assert ("m" in low, "J" in free) == (True, True)
    for fit in (low, free):
        assert np.flatnonzero(fit["held_out"]).tolist() == recorded.test.tolist()


def test_measures():
    a = np.arange(12.0).reshape(3, 4)
    assert similarity(a, 2 * a + 3)[0] == pytest.approx(1)
    assert similarity(a, 2 * a + 3)[1] < 1
    truth = np.tanh(np.random.default_rng(0).standard_normal((3, 5, 4)))
    assert rates_r2(truth, np.arctanh(truth)) == pytest.approx(1)


def test_wrong_names_and_folders_are_refused(tmp_path):
    assert all(load_experiment(name).notes for name in NAMES)
    assert set(TABLE1) == {"dm", "wm", "cdm", "dms"}
    with pytest.raises(ContractError, match=r"no experiment.*fig9"):
        load_experiment("fig9")
    with pytest.raises(ContractError, match="no folder"):
        reproduce("table1", tmp_path, data=tmp_path / "nothing")
    done = CliRunner().invoke(app, ["reproduce", "fig9"])
    assert done.exit_code == 1
    assert "error: There is no experiment" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fig2", "kback"])
def test_quick_runs_of_the_others(name, tmp_path):
    table = reproduce(name, tmp_path, quick=True)
    low = table[table["model"] == "low rank"]
    assert low["accuracy"].max() >= 0.9
    assert all(
        good for claim, good in load_experiment(name).claims(table) if ".99" not in claim
    )  # of large networks alone


def test_two_workers_find_what_one_does(tmp_path):
    parts = squares([1, 2, 4])
    alone = reproduce("table1", tmp_path / "alone", experiment=parts)
    with ThreadPoolExecutor(2) as executor:
        together = reproduce("table1", tmp_path / "together", experiment=parts, executor=executor)
    pd.testing.assert_frame_equal(alone, together)
    assert alone["y"].tolist() == [1, 4, 16]


def squares(values):
    """An experiment whose parts are squares of numbers. There is none of 3."""
    return Experiment(
        title="Squares",
        labels=("", ""),
        work=square,
        tasks=lambda setting: [(None, {"x": x}) for x in values],
        figure_table=lambda table: pd.DataFrame({"panel": "a", "line": "b", "x": table["y"], "y": table["y"]}),
        claims=lambda table: [("squares are small", bool((table["y"] < 5).all()))],
        notes=[],
    )


def square(data, *, x):
    if x == 3:
        raise ValueError("no square\nof 3")
    return {"x": np.array([x]), "y": np.array([x**2])}


def test_a_part_that_fails_leaves_the_others(tmp_path):
    with pytest.warns(UserWarning, match=r"table1 failed \(x 3\): ValueError: no square of 3 \(test_experiments.py"):
        table = reproduce("table1", tmp_path, experiment=squares([1, 3, 2]), cache_dir=tmp_path / "parts")
    assert pd.read_csv(tmp_path / "table1.csv")["x"].tolist() == [1, 2, 3]
    assert table["y"].tolist()[:2] == [1, 4]
    assert np.isnan(table["y"][2])
    claims = check_claims(squares([]), table, table.attrs["failed"])
    assert [good for _, good in claims] == [True, False]
    assert "every part was computed (failed: x 3: ValueError" in claims[1][0]
    assert len(list((tmp_path / "parts" / "table1").glob("*.npz"))) == 2  # so the third is computed again
    with (
        pytest.raises(WorkerError, match=r"Every part of table1.*the only one: ValueError"),
        pytest.warns(UserWarning, match="failed"),
    ):
        reproduce("table1", tmp_path, experiment=squares([3]))


@pytest.mark.parametrize("name", NAMES)
def test_experiments_need_only_the_parts_that_were_computed(name):
    """The stored table without the rows of one seed, g, task, rank or monkey."""
    table, made = pd.read_csv(STORED / f"{name}.csv"), load_experiment(name)
    names = ("seed", "g", "task", "rank", "model", "monkey")
    column = next(c for c in names if c in table and table[c].nunique() > 1)
    for value in table[column].unique():
        left = table[table[column] != value]
        assert all(isinstance(claim, str) for claim, _ in made.claims(left))
        assert all(isinstance(cell.ours, float) for cell in made.compare(left))
        assert len(made.figure_table(left))
        assert made.report is None or made.report(left)


@pytest.mark.parametrize("name", FIELD)
def test_benchmarks_of_others_name_the_source_of_their_numbers(name):
    """The page says that each section does, by an address or a paper; the session of DANDI:000060 says it has none."""
    page = STORED.with_suffix(".md").read_text(encoding="utf-8")
    section = page.partition(f"### {load_experiment(name).title}\n")[2].partition("\n### ")[0]
    assert section
    assert "github.com/" in section or "et al., " in section or "No published scores" in section


def test_the_page_is_what_the_stored_tables_say(tmp_path):
    (tmp_path / "reproduction").mkdir()
    for file in [*STORED.glob("*.csv"), *STORED.glob("*.json")]:
        (tmp_path / "reproduction" / file.name).write_bytes(file.read_bytes())
    made = write_page(tmp_path / "reproduction", tmp_path / "reproduction.md")
    assert made.read_text(encoding="utf-8") == STORED.with_suffix(".md").read_text(encoding="utf-8")


def test_a_run_notes_the_results_of_an_earlier_one(tmp_path):
    for earlier in (False, True):
        table = reproduce("table1", tmp_path, experiment=squares([1, 2]), cache_dir=tmp_path / "parts")
        assert table["y"].tolist() == [1, 4]
        assert json.loads((tmp_path / "table1.json").read_text())["resumed"] is earlier
    assert len(list((tmp_path / "parts" / "table1").glob("*.npz"))) == 2
    reproduce("fig2", tmp_path, experiment=squares([1, 2]), cache_dir=tmp_path / "parts")
    assert json.loads((tmp_path / "fig2.json").read_text())["resumed"] is False
