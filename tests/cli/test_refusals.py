"""What cannot be done is refused before the work, nothing foreign is replaced, and a finished fit is never lost."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from pynwb import NWBHDF5IO

import nwb_lint as nl
from nwb_lint.cli import app, shell
from nwb_lint.cli.fit import write_or_keep
from nwb_lint.errors import NWBError, printable
from nwb_lint.model.checkpoint import Journal
from nwb_lint.nwb.extension.netcdf import export_netcdf
from nwb_lint.nwb.extension.read import NOT_VERIFIED, VERIFIED
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.storage import atomic, dandi
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.parallel.store import Store
from nwb_lint.parallel.tasks import Outcome
from nwb_lint.plot.style import save_figure
from nwb_lint.testing import mock_fit, mock_session
from nwb_lint.workflow import run as workflow

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
HOW = [
    *("--by", "side", "--align", "cue_time", "--window", "-0.2", "0.8", "--bin", "0.1", "--rank", "1", "--no-plot"),
    *("--method", "regression"),
]


def run(*args):
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return done


@pytest.fixture(scope="module")
def fit():
    return mock_fit()


@pytest.fixture(scope="module")
def made(tmp_path_factory, fit):
    folder = tmp_path_factory.mktemp("made")
    write_fit(fit, folder / "fit.nwb", subject=SUBJECT)
    export_netcdf(fit, folder / "fit.nc")
    mock_session(folder / "session.nwb")
    return folder


def test_no_command_replaces_the_file_that_it_reads(made, tmp_path):
    for command, name in (("export", "fit.nwb"), ("import", "fit.nc")):
        source = made / name
        before = source.read_bytes()
        link = tmp_path / f"link-{name}"
        link.symlink_to(source)
        for out in (source, link):
            done = run(command, source, "-o", out, "--force")
            assert done.exit_code == 1
            assert "is the file that is read" in done.stderr
        assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--out", "no/such/fit.nwb"], "no such folder"),
        (["--out", "/proc/fit.nwb"], "/proc takes no new file"),
        (["--out", "session.nwb", "--force"], "is a recording that the fit came from"),
        (["--out", "there.nwb"], "exists already"),
        (["--out", "fit.nwb", "--seed", "-1"], "seed"),
        (["--out", "fit.nwb", "--seed", str(2**63)], "seed is 9223372036854775808"),
        (["--out", "fit.nwb", "--cache-dir", "there.nwb"], "cache_dir is there.nwb"),
        (["--out", "fit.nwb", "--checkpoint", "no/such", "--method", "auto"], "no such folder"),
        (["--out", "fit.nwb", "--subject", "sex=x" * 9, "--subject", "colour=red"], "colour"),
        (["--out", "fit.nwb", "--test-size", "nan"], "test_size"),
        (["--out", "fit.nwb", "--plot"], "nwb_lint did not draw it"),
    ],
)
def test_a_fit_that_could_not_be_kept_is_not_begun(made, tmp_path, monkeypatch, change, words):
    def never(*args, **options):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(workflow, "run_recipe", never)
    monkeypatch.chdir(tmp_path)
    Path("session.nwb").write_bytes((made / "session.nwb").read_bytes())
    Path("there.nwb").write_bytes(b"of somebody else")
    Path("fit.png").write_bytes(b"of somebody else")
    done = run("fit", "session.nwb", *HOW, *change)
    assert done.exit_code in (1, 2)
    assert words in " ".join(done.stderr.split())


def test_a_page_of_results_replaces_no_other_file(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("of somebody else", encoding="utf-8")
    done = run("reproduce", "kback", "--quick", "--out", tmp_path / "out", "--page", page)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nwb_lint did not write it" in done.stderr
    assert page.read_text(encoding="utf-8") == "of somebody else"
    assert not (tmp_path / "out").exists()
    assert run("demo", tmp_path / "demo", "--seed", "-1").exit_code == 2


@pytest.mark.parametrize("save", ["a/b", "", "\x00", "x" * 300 + "/"])
def test_a_bad_name_of_a_result_is_refused_before_the_work(made, save):
    done = run("connectivity", made / "fit.nwb", "--save", save)
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_name_that_is_taken_is_refused_before_the_work(made):
    done = run("connectivity", made / "fit.nwb", "--save", "lowrank_fit")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "has lowrank_fit already" in done.stderr


def test_commands_say_whether_a_fit_is_what_was_written(made, tmp_path):
    assert f"lowrank_fit of {made / 'fit.nwb'}: {VERIFIED}" in run("connectivity", made / "fit.nwb").stderr
    path = tmp_path / "old.nwb"
    golden = Path(__file__).parents[1] / "golden" / "ndx-lowrank-0.5.0.nwb.gz"
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    described = json.loads(run("inspect", made / "fit.nwb", path, "--json").stdout)["files"]
    assert [list(one["fits"].values()) for one in described] == [[VERIFIED], [NOT_VERIFIED]]
    lines = run("inspect", made / "fit.nwb").stdout.splitlines()
    assert lines[3] == "This file holds a fit of nwb_lint and no recording:"
    assert lines[4].startswith(f"  fit processing/ecephys/lowrank_fit ({VERIFIED}): Recurrent neural network of rank 1")
    assert re.fullmatch(r"  Written on \d{4}-\d\d-\d\d \d\d:\d\d UTC.*\.", lines[5])
    assert f"nwb-lint show {made / 'fit.nwb'}" in lines[6]
    assert "no warnings" in lines


def test_inspect_says_first_that_a_recording_has_fits_too(made, fit, tmp_path):
    path = shutil.copy(made / "session.nwb", tmp_path / "it's.nwb")
    with NWBHDF5IO(path, "a", load_namespaces=True) as io:
        nwbfile = io.read()
        for name in ("first", "second"):
            nl.add_to_nwbfile(fit, nwbfile, name=name)
        io.write(nwbfile)
    lines = run("inspect", path).stdout.splitlines()
    assert lines[3] == "This file holds a recording and 2 fits of nwb_lint:"
    assert [line.split()[1] for line in lines[4:6]] == ["processing/ecephys/first", "processing/ecephys/second"]
    commands = [line.partition(": ")[2] for line in lines[6:8]]
    for command in commands:
        assert shlex.split(command)[2:] == [str(path), "--name", "NAME"]
    assert run(*shlex.split(commands[0].replace("NAME", "second"))[1:]).exit_code == 0
    assert "units: 5" in "\n".join(lines[9:])
    assert "trials (40), 2 fits" in run("inspect", path, made / "session.nwb").stdout


def test_a_finished_fit_is_kept_elsewhere_where_its_folder_is_full(fit, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    flush = atomic._flush

    def full(path):
        if "full" in Path(path).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(atomic, "_flush", full)
    outcome, recipe = SimpleNamespace(fit=fit, tables={}), SimpleNamespace(subject=None)
    with pytest.warns(UserWarning, match="has no subject"):
        error = write_or_keep(outcome, recipe, tmp_path / "full" / "fit.nwb", False)
    assert "No space left on device" in str(error)
    (kept,) = (tmp_path / "here").glob("*.nwb")
    assert f"The fit is not lost: it is in {kept}." in str(error)
    assert nl.read_fit(kept).identical(fit)
    assert not list((tmp_path / "full").iterdir())


SHARES = [0.0, 0.1, 0.5, 0.9, 0.99]
_BIG = np.random.default_rng(0).random(4000)


def _export(fit, folder):
    export_netcdf(fit, folder / "fit.nc")


def _cache(fit, folder):
    store = Store(folder, _export)
    store.save(folder / "a.npz", Outcome({"a": _BIG}, None, []))


def _picture(fit, folder):
    shell.save_picture(Figure().subplots(), folder / "a.png")


def _checkpoint(fit, folder):
    with Journal(folder / "c", "x", 0.0) as journal:
        f = journal.recorded(lambda a: (float(a @ a), a))
        assert [f(_BIG[:1000] * k)[0] > 0 for k in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize("work", [_export, _cache, _picture, _checkpoint])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_full_disk_is_an_error_or_a_warning_and_no_crash(work, fit, tmp_path, monkeypatch):
    """Five sizes each: a file of at most so many bytes. Nothing half-written is left, but of a journal."""
    (tmp_path / "whole").mkdir()
    work(fit, tmp_path / "whole")
    (whole,) = (tmp_path / "whole").iterdir()
    size = whole.stat().st_size
    for k, share in enumerate(SHARES):
        folder = tmp_path / str(k)
        folder.mkdir()
        child = os.fork()
        if not child:
            status = 9
            try:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), int(share * size)))
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    try:
                        work(fit, folder)
                        status = 4 if any(str(folder) in str(one.message) for one in caught) else 5
                    except NWBError as error:
                        status = 3 if str(folder) in str(error) else 6
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == (3 if work is _export else 4), (share, status)
        left = list(folder.iterdir())
        assert not left if work is not _checkpoint else [one.name for one in left] == ["c"]


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    save_figure(Figure(), tmp_path / "a.png", 50)
    before = (tmp_path / "a.png").read_bytes()

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match=r"There is no picture: .*a\.png cannot be written"):
        shell.save_picture(Figure().subplots(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no folder that takes no file")
def test_a_folder_that_takes_no_file_is_no_lock_that_is_held(made):
    with pytest.raises(NWBError, match=r"/proc/fit\.nwb cannot be written"):
        atomic.write_atomically(Path("/proc/fit.nwb"), lambda path: path.write_bytes(b"new"))
    fit = made / "fit.nwb"
    for command in (["export", fit, "-o", "/proc/a.nc"], ["report", fit, "-o", "/proc/a.html"],
                    ["figure", fit, "-o", "/proc/a.png"], ["--log", "/proc/a.log", "show", fit],
                    ["inactivate", fit, "--populations", "em", "--csv", "/proc/a.csv"]):  # fmt: skip
        done = run(*command)
        assert done.exit_code in (1, 2)
        assert done.stdout == ""
        assert "/proc takes no new file" in " ".join(done.stderr.split())


def test_links_in_a_shared_folder_are_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("of somebody else")
    (tmp_path / ".nwb_lint-fit.nwb.lock").symlink_to(victim)
    with pytest.raises(NWBError, match="is a link, and no lock of nwb_lint"):
        atomic.write_atomically(tmp_path / "fit.nwb", lambda path: path.write_bytes(b"new"))
    (tmp_path / "out.nwb").symlink_to(victim)
    atomic.write_atomically(tmp_path / "out.nwb", lambda path: path.write_bytes(b"new"))
    assert victim.read_text() == "of somebody else"
    assert (tmp_path / "out.nwb").read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_outputs_have_the_permissions_of_umask(fit, tmp_path, mask):
    before = os.umask(mask)
    try:
        atomic.write_atomically(tmp_path / "fit.nwb", lambda path: path.write_bytes(b"new"))
        save_figure(Figure(), tmp_path / "a.png", 50)
        _cache(fit, tmp_path)
    finally:
        os.umask(before)
    modes = {oct(one.stat().st_mode & 0o777) for one in tmp_path.iterdir()}
    assert modes == {oct(0o666 & ~mask)}


def test_texts_reach_terminals_that_do_not_know_them(made, monkeypatch):
    """Of an encoding without R², and where the stream of errors is closed or its terminal is gone."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    shell.echo("R² \x1b")
    stream.flush()
    assert stream.buffer.getvalue() == b"R\\xb2 \\u001b\n"
    for gone in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", gone)
        if gone is not None:
            gone.close()
        with progress_bar(True, "fits", total=2) as bar:
            bar.update()


def test_a_closed_pipe_ends_a_command_without_a_traceback(made, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as ended:
        app.main(["connectivity", str(made / "fit.nwb")], prog_name="nwb-lint")
    assert ended.value.code == 1


def test_a_keyring_that_fails_is_one_line(monkeypatch):
    class Client:
        api_key_env_var, api_url = "SOME_API_KEY", "https://api.example.org/api"
        dandi_instance = type("Instance", (), {"name": "somewhere"})

    def fail(*names):
        raise RuntimeError("the keyring\nis locked")

    monkeypatch.delenv("SOME_API_KEY", raising=False)
    monkeypatch.setattr("dandi.keyring_utils.keyring_lookup", fail)
    with pytest.raises(NWBError, match=r"keyring cannot be read .*is locked.* Set SOME_API_KEY"):
        dandi.authenticate(Client())


NUMBERS = ["nan", str(2**63), "inf", "-1", "0", "1e999", "-inf", "1:1000000000"]
TEXTS = ["", "x" * 10_000, "\x00", "\x1b[2J", "none"]


def _options():
    for name, command in sorted(app.commands.items()):
        for one in command.params:
            if isinstance(one, click.Option) and not one.is_flag and one.name not in ("dask", "instance"):
                yield name, one


@pytest.mark.parametrize("name", sorted(app.commands))
def test_odd_values_of_every_option_are_taken_or_refused_in_a_line(name, tmp_path, monkeypatch):
    """The file that a command reads is missing. The fuzzer gives such values beside sound files."""
    monkeypatch.chdir(tmp_path)
    needed = {"fit": ["missing.nwb"], "readout": ["missing.nwb", "side"], "demo": ["missing"], "reproduce": ["none"]}
    begin = [name, *needed.get(name, ["missing.nwb"])]
    extra = {"export": ["-o", "a.nc"], "import": ["-o", "a.nwb"], "publish": ["--dandiset", "000001"]}.get(name, [])
    extra += ["--groups", "region"] if name == "inactivate" else []
    monkeypatch.setattr("nwb_lint.workflow.demo.run_demo", lambda *args, **how: exec("raise OSError('no demo')"))
    if name == "fit":
        extra = ["--by", "side", "--align", "cue_time", "--window", "0", "1", "--bin", "0.1", "--out", "f.nwb"]
    options = [one for command, one in _options() if command == name]
    for k, one in enumerate(options):
        for odd in (NUMBERS[k % len(NUMBERS)], TEXTS[k % len(TEXTS)]):
            done = run(*begin, *extra, max(one.opts, key=len), *[odd] * one.nargs)
            assert done.exit_code in (1, 2), (one.opts, odd, done.output[-300:])
            assert "does not expect" not in done.stderr, (one.opts, odd, done.stderr[-300:])
            assert printable(done.output) == done.output
