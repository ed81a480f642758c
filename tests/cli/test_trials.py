"""Single trials from an NWB file to a written fit, by flags and by a recipe."""

import numpy as np
import pytest

import nwb_lint as nl
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.testing import mock_session
from nwb_lint.workflow.recipe import commented, make_recipe, recipe_data
from tests.cli.test_cli import fails, run

READ = {"align": "cue_time", "window_s": [-0.2, 0.6]}
SUBJECT = ["--subject", "subject_id=m", "--subject", "species=Mus musculus", "--subject", "sex=F",
           "--subject", "age=P90D"]  # fmt: skip
FLAGS = [
    "--align",
    "cue_time",
    "--window",
    "-0.2",
    "0.6",
    "--bin",
    "0.05",
    "--hidden",
    "0",
    "--max-iter",
    "2",
    *SUBJECT,
]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return mock_session(tmp_path_factory.mktemp("trials") / "session.nwb", n_units=6, n_trials=16)


def test_flags_fit_single_trials_and_a_second_run_has_nothing_to_do(session, tmp_path):
    out = tmp_path / "fit.nwb"
    flags = [
        "fit",
        session,
        "--trials",
        "--by",
        "side",
        *FLAGS,
        "--ranks",
        "1,2",
        "--folds",
        2,
        "--out",
        out,
        "--no-plot",
    ]
    result = run(*flags, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    fit, table = read_fit(out), nl.read_result(out, "rank_selection")
    for phrase in ("16 of 16 used", "16 single trials, 3 of them held out", "<- chosen", "Log evidence"):
        assert phrase in result.stdout
    assert f"{fit['bits_per_spike'].values[1]:.3f}" in result.stdout
    np.testing.assert_array_equal(fit["rank_bits"], table["rank_bits"])
    assert fit.sizes["rank"] == table.attrs["rank"]
    assert fit["input"].values.tolist() == ["side=left", "side=right"]
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert "nothing to do" in run(*flags).stdout
    trials = nl.read_trials(session, **READ, bin_s=0.05)
    window = {"column": "side", "window_s": (0.0, 0.6)}
    prepared = nl.prepare(trials, inputs=[nl.Input("side", **window)])
    alone = nl.fit_trials(prepared, rank=fit.sizes["rank"], tau_s=0.1, hidden=0, max_iter=2, test_size=0.2)
    np.testing.assert_array_equal(alone["latent"], fit["latent"])
    np.testing.assert_array_equal(alone["held_out"], fit["held_out"])


@pytest.mark.parametrize("mode", ["both", 3])
def test_an_unknown_mode_is_refused(mode):
    with pytest.raises(ContractError, match="'means' or 'trials'"):
        make_recipe({"mode": mode, "sources": ["a.nwb"], "read": READ})


def test_a_recipe_of_trials_comes_back_and_refuses_sections_of_means(session):
    data = {"mode": "trials", "sources": [str(session)], "read": READ, "select": {"ranks": [2]}}
    recipe = make_recipe(data)
    assert make_recipe(recipe_data(recipe)) == recipe
    assert recipe.fit.hidden == "auto"
    assert recipe.input_list() == []
    assert 'mode = "trials"' in commented(recipe)
    for section in ("prepare", "ensemble", "baselines", "bootstrap", "subsampling"):
        with pytest.raises(ContractError, match=f"{section} is of means"):
            make_recipe(data | {section: {}})
    with pytest.raises(ContractError, match="no option method"):
        make_recipe(data | {"fit": {"method": "gradient"}})


def test_what_trials_do_not_have_is_refused_in_one_line(session, tmp_path):
    flags = ["fit", session, "--trials", *FLAGS, "--out", tmp_path / "fit.nwb"]
    assert "no option l2_n" in fails(*flags, "--l2-n", "0.1")
    assert "baselines is of means" in fails(*flags, "--baselines")
    assert "no option link" in fails(
        "fit", session, "--by", "side", *FLAGS, "--link", "exp", "--out", tmp_path / "f.nwb"
    )
