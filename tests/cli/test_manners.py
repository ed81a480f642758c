"""What people expect of a command: quiet, a log, JSON, figures without a fit, and nothing done twice."""

from __future__ import annotations

import json
import os
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app, shell
from nwb_lint.parallel.warnings import warn
from nwb_lint.testing import mock_fit, mock_session
from tests.cli.conftest import SUBJECT

FLAGS = ["--by", "side", "--align", "cue_time", "--window", -0.2, 0.8, "--bin", 0.1, "--method", "regression"]


def run(*args):
    return CliRunner().invoke(app, [*map(str, args)], catch_exceptions=False)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    fit = mock_fit(n_neurons=30)
    made = nl.write_fit(fit, tmp_path_factory.mktemp("manners") / "fit.nwb", subject=SUBJECT)
    return nl.write_result(nl.connectivity(fit), made, name="J")


def test_quiet_leaves_the_result_alone(path):
    loud, silent = run("connectivity", path), run("-q", "connectivity", path)
    assert loud.stdout == silent.stdout
    assert "verified" in loud.stderr
    assert silent.stderr == ""


def test_a_log_keeps_every_message_with_its_time(path, tmp_path):
    log = tmp_path / "run.log"
    done = run("--log", log, "connectivity", path)
    failed = run("--log", log, "connectivity", tmp_path / "none.nwb")
    assert (done.exit_code, failed.exit_code) == (0, 1)
    text = log.read_text()
    assert text.count("nwb-lint --log") == 2
    assert "overlaps of the connectivity vectors" in text
    assert failed.stderr.strip() in text
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  error: ", text, re.MULTILINE)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system has no folder that takes no file")
def test_a_log_that_exists_may_stand_in_a_folder_that_takes_no_file(path, tmp_path):
    with (tmp_path / "run.log").open("w") as file:
        assert run("--log", f"/proc/self/fd/{file.fileno()}", "connectivity", path).exit_code == 0
    assert "nwb-lint --log" in (tmp_path / "run.log").read_text()


def test_a_log_replaces_no_other_file(path, tmp_path):
    before = path.read_bytes()
    for target in (path, tmp_path / "none" / "run.log"):
        assert run("--log", target, "connectivity", path).exit_code == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["connectivity"], lambda fit: nl.connectivity(fit)),
        (["fixed-points"], lambda fit: nl.fixed_points(fit)),
        (["populations", "--n-groups", 1], lambda fit: nl.find_populations(fit, n_groups=1)),
        (["compare"], lambda fit: nl.compare(fit, fit)),
    ],
    ids=["connectivity", "fixed-points", "populations", "compare"],
)
def test_json_holds_all_numbers(command, expected, path):
    files = [path, path] if command == ["compare"] else [path]
    done = run(command[0], *files, *command[1:], "--json")
    assert done.exit_code == 0, done.output
    found, wanted = json.loads(done.stdout), expected(nl.read_fit(path))
    for name, one in wanted.variables.items():
        assert found[name]["dims"] == list(one.dims)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(np.array(found[name]["data"], float), one.values)
        else:
            assert found[name]["data"] == one.values.tolist()


def test_several_fits_are_compared_by_their_dynamics(path):
    done = run("compare", path, path, path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["attrs"]["kind"] == "dynamics_comparison"
    assert found["attrs"]["measure"] == "prediction"
    np.testing.assert_allclose(found["distance"]["data"], 0, atol=1e-9)
    assert len(set(found["system"]["data"])) == 3
    assert "dynamics" in run("compare", path, path, path).stdout


@pytest.mark.parametrize("kind", ["summary", "scores", "neurons", "latents", "trajectories", "vectors", "connectivity"])
def test_figures_are_drawn_without_a_fit(kind, path, tmp_path):
    done = run("figure", path, "--kind", kind, "-o", tmp_path / "a.svg")
    assert done.exit_code == 0, done.output
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_figures_of_results_and_refusals(path, tmp_path):
    out = tmp_path / "a.png"
    assert run("figure", path, "--result", "J", "-o", out).exit_code == 0
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert run("figure", path, "--kind", "evidence", "-o", out).exit_code == 1
    assert run("figure", path, "--kind", "latents", "--rank", 9, "-o", out).exit_code == 1
    assert run("figure", path, "--kind", "scores", "--rank", 1, "-o", out).exit_code == 2
    assert run("figure", path, "-o", path).exit_code == 2


def test_nothing_to_do_renews_the_time_and_draws_what_is_missing(tmp_path):
    session, out = mock_session(tmp_path / "session.nwb"), tmp_path / "fit.nwb"
    first = run("fit", session, *FLAGS, "--rank", 1, "--out", out, "--no-plot", "--json")
    assert first.exit_code == 0, first.output
    scores = json.loads(first.stdout)["fit"]
    np.testing.assert_allclose(np.array(scores["r2"]["data"], float), nl.read_fit(out)["r2"])
    os.utime(out, (1, 1))
    content = out.read_bytes()
    again = run("fit", session, *FLAGS, "--rank", 1, "--out", out, "--json")
    assert "nothing to do" in again.stderr
    assert json.loads(again.stdout)["fit"]["r2"] == scores["r2"]
    assert out.stat().st_mtime > 1
    assert out.read_bytes() == content
    assert out.with_suffix(".png").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    session = mock_session(tmp_path / "session.nwb")
    monkeypatch.setattr("nwb_lint.workflow.run.run_recipe", stopped)
    flags = [session, *FLAGS, "--rank", 1, "--out", tmp_path / "fit.nwb"]
    done = CliRunner().invoke(app, ["fit", *map(str, flags), "--cache-dir", str(tmp_path / "cache")])
    assert done.exit_code == 1
    assert f"Finished fits are in {tmp_path / 'cache'}" in done.stderr


def test_a_warning_is_printed_once():
    """Several steps that notice the same warn at lines of their own."""

    @click.command()
    def command():
        with shell.plainly():
            warn("few trials")
            warn("few trials")
            warn("few conditions")

    assert CliRunner().invoke(command).stderr.splitlines() == ["warning: few trials", "warning: few conditions"]
