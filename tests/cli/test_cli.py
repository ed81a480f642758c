"""The commands as a user types them: what they print, what they write, and how they fail."""

import json
import re
import shutil
import sys
import tomllib

import h5py
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.model.fit import fit_with_options
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.nwb.storage.metadata import read_metadata
from nwb_lint.tasks.demo import demo_session
from tests.cli.conftest import SUBJECT
from tests.factories import assert_same
from tests.nwb.server import RangeServer
from tests.nwb.storage.test_zarr import to_zarr


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], catch_exceptions=False)


def fails(*args):
    """Run a command that must fail with one line on stderr; return the line."""
    result = run(*args)
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_recipe_to_fit_to_netcdf(recipe, tmp_path):
    path = recipe()
    result = run("fit", path, "--subject", "age=P91D")
    assert result.exit_code == 0, result.output
    assert read_metadata(tmp_path / "fit.nwb").subject == SUBJECT | {"age": "P91D"}
    assert "<- chosen" in result.stdout
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    fit = nl.read_fit(tmp_path / "fit.nwb")
    assert fit.sizes["condition"] == 8
    assert int(fit["held_out"].sum()) == 2
    assert list(fit["rank_tried"].values) == [1, 2]
    again = nl.simulate(fit)["activity"].values
    np.testing.assert_array_equal(again, fit["activity_pred"].values)
    stored = tomllib.loads(fit.attrs["recipe"])
    assert stored["read"]["where"] == "correct"
    assert run("export", tmp_path / "fit.nwb", "-o", tmp_path / "fit.nc").exit_code == 0
    with xr.open_dataset(tmp_path / "fit.nc", engine="h5netcdf") as plain:
        np.testing.assert_array_equal(plain["m"].values, fit["m"].values)
    back = run("import", tmp_path / "fit.nc", "-o", tmp_path / "back.nwb")
    assert back.exit_code == 0, back.output
    assert_same(nl.read_fit(tmp_path / "back.nwb"), fit)
    assert "cannot be read as netCDF" in fails("import", path, "-o", tmp_path / "other.nwb")
    assert "exists already. Pass --force" in fails("import", tmp_path / "fit.nc", "-o", tmp_path / "back.nwb")


def test_flags_override_the_recipe_and_an_earlier_fit_is_not_replaced(recipe, tmp_path):
    path = recipe()
    assert run("fit", path, "--rank", 1, "--test-size", 3, "--no-plot").exit_code == 0
    fit = nl.read_fit(tmp_path / "fit.nwb")
    assert fit.sizes["rank"] == 1
    assert int(fit["held_out"].sum()) == 3
    assert not (tmp_path / "fit.png").exists()
    before = (tmp_path / "fit.nwb").read_bytes()
    assert "fit.nwb" in fails("fit", path, "--rank", 1)
    assert (tmp_path / "fit.nwb").read_bytes() == before
    assert run("fit", path, "--rank", 1, "--force", "--no-plot").exit_code == 0


def test_flags_alone_and_two_runs_give_the_same_fit(session_file, tmp_path):
    fits = []
    for name in ("a.nwb", "b.nwb"):
        flags = ["--by", "context", "--by", "motion:rank", "--align", "stimulus_time", "--window", "-0.5", "0.8"]
        flags += ["--bin", "0.02", "--rank", "1", "--where", "correct", "--out", tmp_path / name, "--no-plot"]
        result = run("fit", session_file, *flags)
        assert result.exit_code == 0, result.output
        fits.append(nl.read_fit(tmp_path / name))
    xr.testing.assert_identical(*fits)


def test_sources_are_never_touched(recipe, session_file, tmp_path):
    before = session_file.read_bytes()
    assert run("fit", recipe(), "--rank", 1, "--no-plot").exit_code == 0
    assert "source" in fails("fit", recipe(), "--rank", 1, "--no-plot", "--force", "--out", tmp_path / "session.nwb")
    assert session_file.read_bytes() == before


def test_workers_give_the_same_table(recipe, tmp_path):
    tables, path = [], recipe(**{"folds__=__3": "folds = 2"})
    for workers in (1, 2):
        out = tmp_path / f"fit{workers}.nwb"
        assert run("fit", path, "--workers", workers, "--out", out, "--no-plot").exit_code == 0
        tables.append(nl.read_fit(out)["rank_r2"])
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)


def test_a_stopped_command_goes_on_and_prints_the_same(recipe, tmp_path, monkeypatch):
    """Interrupted at the fifth fit, then run again: four fits are read, and what is printed is that of one run."""
    from nwb_lint.validation import folds

    begun = []

    def fit(*args, **options):
        begun.append(1)
        if len(begun) == stop:
            raise KeyboardInterrupt
        return fit_with_options(*args, **options)

    monkeypatch.setattr(folds, "fit_with_options", fit)
    how = recipe(**{"folds__=__3": "folds = 2"})
    flags = [how, "--ensemble", "--ensemble-members", 3, "--baselines", "--no-plot", "--force"]
    stop = 0
    whole = run("fit", *flags)
    assert whole.exit_code == 0, whole.output
    total = len(begun)
    begun.clear()
    stop = 5
    assert run("fit", *flags, "--cache-dir", tmp_path / "cache").exit_code != 0
    assert len(list((tmp_path / "cache").iterdir())) == 4
    begun.clear()
    stop = 0
    again = run("fit", *flags, "--cache-dir", tmp_path / "cache")
    assert len(begun) == total - 4
    printed = [one.stdout.split("\nseconds")[0] for one in (whole, again)]
    assert printed[0] == printed[1]
    assert nl.read_fit(tmp_path / "fit.nwb").attrs["ensemble_members"] == 3
    kept = {kind: nl.read_result(tmp_path / "fit.nwb", kind) for kind in ("rank_selection", "baselines", "ensemble")}
    np.testing.assert_array_equal(kept["rank_selection"]["rank_r2"], nl.read_fit(tmp_path / "fit.nwb")["rank_r2"])
    assert f"Pearson {kept['ensemble'].attrs['pearson']:.3f}" in printed[0]
    for value in kept["baselines"]["baseline_r2"].values[:, 1]:
        assert f"{value:.3f} ±" in printed[0]
    for phrase in ("ceiling", "unconstrained", "regression", "3 of 3 members", "Pearson", "<- chosen"):
        assert phrase in printed[0]


def test_a_bootstrap_is_printed_kept_and_used(recipe, tmp_path):
    flags = ["--bootstrap", "--bootstrap-draws", 2, "--bootstrap-simulations", 2, "--rank", 1, "--ridges", 0.1]
    result = run("fit", recipe(), *flags, "--no-plot", "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0, result.output
    assert "bootstrap: 2 resamples of trials, 2 simulations" in result.stdout
    kept = nl.read_result(tmp_path / "fit.nwb", "bootstrap")
    assert kept.sizes["draw"] == 2
    assert f"{kept['estimate'][0].item():9.3f}" in result.stdout
    assert len(list((tmp_path / "cache").iterdir())) == 4
    points = run("fixed-points", tmp_path / "fit.nwb", "--bootstrap", "bootstrap")
    assert "of draws" in points.stdout, points.output


def test_ranks_by_held_out_neurons(recipe):
    result = run("fit", recipe(components=20), "--cv-over", "neuron", "--no-plot")
    assert result.exit_code == 0, result.output
    assert "R² of held-out neurons by rank" in result.stdout
    assert "ceiling" in result.stdout


def test_a_cluster_at_an_address_computes(recipe, tmp_path):
    distributed = pytest.importorskip("distributed")
    path = recipe(**{"folds__=__3": "folds = 2"})
    assert run("fit", path, "--out", tmp_path / "here.nwb", "--no-plot").exit_code == 0
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options, protocol="tcp") as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        result = run("fit", path, "--dask", address, "--out", tmp_path / "there.nwb", "--no-plot")
        assert result.exit_code == 0, result.output
    tables = [nl.read_fit(tmp_path / f"{name}.nwb")["rank_r2"] for name in ("here", "there")]
    np.testing.assert_allclose(*tables, atol=1e-6)
    assert "Dask cluster" in fails("fit", path, "--dask", address, "--workers", 2, "--force")


def test_no_cluster_is_refused_in_one_line(recipe, monkeypatch):
    assert "scheduler answers at nowhere" in fails("fit", recipe(), "--dask", "nowhere")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'nwb_lint[dask]'" in fails("fit", recipe(), "--dask", "127.0.0.1:1")


def test_inspect_and_init(session_file, tmp_path):
    shown = run("inspect", session_file)
    assert shown.exit_code == 0
    assert "units: 20" in shown.stdout
    assert "stimulus_time" in shown.stdout
    made = run("init", session_file)
    assert made.exit_code == 0, made.output
    data = tomllib.loads(made.stdout)
    assert data["sources"] == [str(session_file.resolve())]
    assert data["read"]["align"].endswith("_time")


def test_secrets_of_addresses_are_neither_printed_nor_kept(recipe, session_file, tmp_path):
    with RangeServer({"/session.nwb": session_file}) as server:
        address = f"http://user:Xyzzy5@{server.host}/session.nwb?versionId=7&X-Amz-Signature=Xyzzy5&token=Xyzzy5"
        printed = [run("inspect", address), run("inspect", address, "--json"), run("init", address)]
        (tmp_path / "made.toml").write_text(printed[-1].stdout)
        how = recipe(**{'"session.nwb"': f'"{address}"'})
        printed.append(run("fit", how, "--rank", 1, "--no-plot"))
        printed.append(run("fit", how, "--no-plot", "--out", tmp_path / "no" / "such" / "folder.nwb"))
        printed.append(run("inspect", address.replace("session", "gone")))
    assert [one.exit_code for one in printed] == [0, 0, 0, 0, 1, 1]
    assert "versionId=7" in printed[-1].stderr
    kept = [tmp_path / "fit.nwb", tmp_path / "made.toml"]
    assert all(b"versionId=7" in file.read_bytes() for file in kept)
    for text in [one.output.encode() for one in printed] + [file.read_bytes() for file in kept]:
        assert b"Xyzzy5" not in text
    assert "versionId=7" in nl.read_fit(kept[0]).attrs["recipe"]


def test_inspect_of_several_files_for_people_and_machines(session_file, tmp_path):
    for name in ("a.nwb", "b.nwb"):
        (tmp_path / name).symlink_to(session_file)
    (tmp_path / "b.nwb").unlink()
    shutil.copy(session_file, tmp_path / "b.nwb")
    table = run("inspect", tmp_path / "a.nwb", tmp_path / "b.nwb")
    assert table.exit_code == 0
    assert "2 files, 40 units" in table.stdout
    assert "align to" not in table.stdout
    found = json.loads(run("inspect", str(tmp_path / "*.nwb"), "--json").stdout)
    assert [len(one["units"]["ids"]) for one in found["files"]] == [20, 20]
    few = json.loads(run("inspect", session_file, "--json", "--no-spikes").stdout)["files"][0]
    assert not few["units"]["spikes_read"]
    assert few["units"]["n_spikes"] == found["files"][0]["units"]["n_spikes"]
    (tmp_path / "text.nwb").write_text("no recording")
    assert "1 of 3 files cannot be read" in fails("inspect", str(tmp_path / "*.nwb"))
    result = run("inspect", tmp_path / "text.nwb", "--json")
    assert result.exit_code == 1
    assert "not HDF5" in json.loads(result.stdout)["files"][0]["error"]
    picture = tmp_path / "session.png"
    assert run("inspect", session_file, "--plot", picture).exit_code == 0
    assert picture.stat().st_size > 10_000
    assert run("inspect", tmp_path / "a.nwb", tmp_path / "b.nwb", "--plot", picture).exit_code == 2


def test_files_left_out_of_a_fit_are_reported(recipe, session_file, tmp_path):
    other = demo_session(seed=4, n_units=20, n_trials=160)  # a copy would be the same recording twice
    write_session(tmp_path / "other.nwb", other.spike_times, other.trials, session_id="other", subject=SUBJECT)
    several = {'"session.nwb"': '"session.nwb", "gone.nwb", "other.nwb"'}
    assert "gone.nwb: no such file" in fails("fit", recipe(**several), "--rank", 1, "--no-plot")
    result = run("fit", recipe(**several), "--rank", 1, "--no-plot", "--errors", "skip")
    assert result.exit_code == 0, result.output
    assert "3 files: 2 gave 40 units" in result.stdout
    assert [line for line in result.stdout.splitlines() if "left out" in line and "gone.nwb" in line]
    assert "warning: left out" in result.stderr
    fit = nl.read_fit(tmp_path / "fit.nwb")
    assert fit.attrs["assets_units"] == [20, 0, 20]
    assert tomllib.loads(fit.attrs["recipe"])["read"]["errors"] == "skip"


def test_no_such_file(tmp_path):
    assert "nowhere.nwb" in fails("inspect", tmp_path / "nowhere.nwb")
    assert "nowhere.toml" in fails("fit", tmp_path / "nowhere.toml", "--out", tmp_path / "fit.nwb")


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"where": "corect"}, "corect"),
        ({"where": "correct ==="}, "where"),
        ({"where": "__import__('os')"}, "where"),
        ({"where": "context == 'motion' and motion > 0.4"}, "single condition"),
        ({"stimulus_time": "stimulus"}, "stimulus"),
        ({"stimulus_time": "never_time"}, "never_time"),
        ({"[-0.5,__0.8]": "[9000.0, 9001.0]"}, "no window meets"),
        ({'"context",': '"contexts",'}, "contexts"),
        ({"ranks__=__[1,__2]": "ranks = [21]"}, "rank is 21"),
        ({"ranks__=__[1,__2]": "ranks = [0]"}, "rank"),
        ({"test_size": "hold_out"}, "hold_out"),
        ({"test_size__=__2": "test_size = 7"}, "test_size"),
        ({"folds__=__3": "folds = three"}, "TOML"),
    ],
)
def test_bad_recipes_fail_in_one_line_and_write_nothing(recipe, tmp_path, change, phrase):
    line = fails("fit", recipe(**change))
    assert phrase in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recipe.toml", "session.nwb"]


def damaged(kind, source, path):
    """A copy of the session with one thing wrong."""
    if kind == "text":
        path.write_text("not a recording", encoding="utf-8")
        return
    data = source.read_bytes()
    path.write_bytes(data[: len(data) // 2] if kind == "truncated" else data)
    if kind != "truncated":
        with h5py.File(path, "a") as file:
            del file[{"no units": "units", "no spikes": "units/spike_times", "no trials": "intervals/trials"}[kind]]


@pytest.mark.parametrize("kind", ["text", "truncated", "no units", "no spikes", "no trials"])
def test_bad_files_fail_in_one_line_and_write_nothing(kind, session_file, tmp_path):
    path = tmp_path / "bad.nwb"
    damaged(kind, session_file, path)
    flags = ["--by", "context", "--align", "stimulus_time", "--window", "0", "0.5", "--rank", "1"]
    assert "bad.nwb" in fails("fit", path, *flags, "--out", tmp_path / "fit.nwb")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.nwb"]


def test_collinear_inputs_are_named_in_a_warning(recipe):
    context = 'name = "context"\ncolumn = "context"\nwindow_s = [-0.4, 0.8]'
    twice = 'name = "twice"\ncolumn = "motion"\nscale = 2.0\nwindow_s = [0.0, 0.8]'
    result = run("fit", recipe(**{context: twice}), "--rank", 1, "--no-plot")
    assert result.exit_code == 0, result.output
    warned = [line for line in result.stderr.splitlines() if "collinear" in line]
    assert warned
    assert "motion, twice" in warned[0]


def test_wrong_usage_is_status_2(session_file):
    assert run("fit", session_file).exit_code == 2
    assert run("fit", session_file, "--rank", "one").exit_code == 2


def test_demo_recovers_its_network(tmp_path):
    result = run("demo", tmp_path / "demo", "--no-plot")
    assert result.exit_code == 0, result.output
    pearson = next(float(line.split()[1]) for line in result.stdout.splitlines() if "Pearson" in line)
    assert pearson > 0.95
    fit = nl.read_fit(tmp_path / "demo" / "demo_fit.nwb")
    assert fit.sizes["rank"] == 1
    assert fit["r2"].values[1] > 0.9
    assert "demo_session.nwb" in fails("demo", tmp_path / "demo")


def test_the_same_recipe_and_files_have_nothing_to_do_and_force_gives_the_same_again(recipe, session_file, tmp_path):
    path, fit_file = recipe(), tmp_path / "fit.nwb"
    flags = ("--rank", 1, "--no-plot")
    assert run("fit", path, *flags).exit_code == 0
    content, found = fit_file.read_bytes(), nl.read_fit(fit_file)
    again = run("fit", path, *flags)
    assert (again.exit_code, fit_file.read_bytes()) == (0, content)
    assert "nothing to do" in again.stdout
    assert "exists already" in fails("fit", path, *flags, "--seed", 5)
    assert run("fit", path, *flags, "--force").exit_code == 0
    assert fit_file.read_bytes() != content
    assert_same(found, nl.read_fit(fit_file))
    (tmp_path / "session.nwb").unlink()
    (tmp_path / "session.nwb").write_bytes(session_file.read_bytes() + b"\0")  # other bytes at the same path
    assert "exists already" in fails("fit", path, *flags)


def test_a_fit_that_was_interrupted_is_not_taken_for_done(recipe, tmp_path, monkeypatch):
    def impatient(*args, **options):
        raise KeyboardInterrupt

    flags = ("--method", "auto", "--rank", 1, "--no-plot")
    monkeypatch.setattr("nwb_lint.model.optimization.Optimizer.descend", impatient)
    stopped = run("fit", path := recipe(), *flags)
    assert stopped.exit_code == 0
    assert "interrupted" in stopped.output
    assert nl.read_fit(tmp_path / "fit.nwb").attrs["interrupted"] == 1
    monkeypatch.undo()
    assert "exists already" in fails("fit", path, *flags)
    assert run("fit", path, *flags, "--force").exit_code == 0
    assert "nothing to do" in run("fit", path, *flags).stdout


def test_fits_of_addresses_and_zarr_folders_have_nothing_to_do_either(session_file, tmp_path, monkeypatch):
    monkeypatch.setenv("NWB_LINT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "session.nwb.zarr"
    how = ("--by", "context", "--by", "motion:rank", "--align", "stimulus_time", "--window", 0, 0.4, "--test-size", 2)
    how += ("--rank", 1, "--bin", 0.05, "--no-plot")
    content = {"/session.nwb": session_file}
    with RangeServer(content) as server:
        address = f"{server.url}/session.nwb"
        for k, source in enumerate((address, to_zarr(session_file, folder))):
            flags = (source, *how, "--out", tmp_path / f"fit{k}.nwb")
            assert run("fit", *flags).exit_code == 0
            assert "nothing to do" in run("fit", *flags).stdout
        part = next((folder / "units" / "spike_times").glob("0*"))
        part.write_bytes(part.read_bytes() + b"\0")
        assert "exists already" in fails("fit", *flags)
        content["/session.nwb"] = session_file.read_bytes() + b"\0"  # another ETag
        assert "exists already" in fails("fit", address, *how, "--out", tmp_path / "fit0.nwb")
        server.tags = False
        out = (address, *how, "--out", tmp_path / "fit2.nwb")
        assert run("fit", *out).exit_code == 0
        assert "exists already" in fails("fit", *out)  # nobody knows whether the bytes are the same


def test_options_of_the_gradient_reach_the_fit(recipe, tmp_path):
    more = 'max_iter = 6\ninitial = "context"\nl2_n = 0.01\nsegment_s = 0.3\ncheckpoint = "kept"\noptimizer = "lbfgs"'
    path = recipe(**{'method = "regression"': more})
    assert run("fit", path, "--rank", 1, "--no-plot").exit_code == 0
    fit = nl.read_fit(tmp_path / "fit.nwb")
    assert (fit.attrs["initial"], fit.attrs["l2_n"]) == ("context", 0.01)
    assert sum(name.startswith("start ") for name in fit["input"].values.tolist()) == 2
    assert (tmp_path / "kept").stat().st_size > 1000
    path.write_text(path.read_text().replace("l2_n = 0.01", "l2_n = 0.02"))
    assert "is the checkpoint of another fit" in fails("fit", path, "--rank", 1, "--no-plot", "--force")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--units", "nothing == 'x'"], "no column 'nothing'"),
        (["--units", "990,991"], "not in .*990, 991"),
        (["--units", "990:992"], "not in .*990, 991, 992"),
        (["--units", "990"], "not in .*990"),
        (["--units", "990", "--units", "991"], "not in .*990, 991"),
        (["--units-table", "nothing"], "no units table 'nothing'.*units \\(20 units\\)"),
    ],
)
def test_units_are_ids_or_a_query(given, words, session_file, tmp_path):
    flags = ["--by", "context", "--align", "stimulus_time", "--window", "0", "0.5", "--rank", "1"]
    assert re.search(words, fails("fit", session_file, *flags, *given, "--out", tmp_path / "fit.nwb"))


def test_a_pattern_may_match_the_fit_that_it_gave(recipe, tmp_path):
    how = recipe(**{'sources = ["session.nwb"]': 'sources = ["*.nwb"]', "ranks = [1, 2]": "ranks = [1]"})
    first = run("fit", how, "--no-plot")
    assert first.exit_code == 0, first.output
    again = run("fit", how, "--no-plot")
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.stdout
