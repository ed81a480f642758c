"""Files that were changed at random are read, or reported in one line: never anything else.

``python -m tests.hostile.fuzz --examples 5000 --seed 1`` changes bytes, texts and objects of recordings, fits, recipes,
checkpoints and caches, and works on each in a child process with a limit of time and memory. It prints how many were
read and refused, and counts the faults: raw exceptions, hangs, aborts, numbers that differ from the oracle without a
warning, inputs that changed, and control characters that were printed. ``--only KIND:NUMBER`` repeats an example.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import h5py
import numpy as np
from click.testing import CliRunner

import nwb_lint as nl
from nwb_lint.cli import app
from nwb_lint.errors import NWBLintError, printable
from nwb_lint.nwb.extension.netcdf import export_netcdf, import_netcdf
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.inspection.describe import describe
from nwb_lint.nwb.inspection.format import format_description
from nwb_lint.nwb.storage.cache import RangeCache
from nwb_lint.parallel.store import Store
from nwb_lint.parallel.tasks import Outcome
from nwb_lint.testing import mock_activity, mock_fit, mock_trials
from nwb_lint.workflow.recipe import load_recipe
from tests.cli.conftest import RECIPE
from tests.hostile.mutations import damage, damage_file, edit_files, edit_objects, edit_store, edit_text
from tests.hostile.pool import Child
from tests.nwb.corruption import KINDS as CORRUPTIONS
from tests.nwb.corruption import REQUESTS, TRUTH, Skip, write_recording
from tests.nwb.recording.test_corruption import Example, alike, failures

LIMIT_S = 60.0
FAULTS = ("raw", "hang", "abort", "wrong", "changed", "printed")


class Fault(Exception):
    """What may not happen: one of FAULTS, and what it is about."""

    def __init__(self, what: str, about: str) -> None:
        super().__init__(what, about)
        self.what, self.about = what, about


class Found(NamedTuple):
    """What came of an example: read, refused, skipped, or one of FAULTS; and the reason."""

    what: str
    about: str


# --------------------------------------------------------------------------------------------------------- originals


class Originals:
    """Sound files, made once before the children are forked, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recording, self.fit_file = folder / "recording.nwb", folder / "fit.nwb"
        self.netcdf, self.fit = folder / "fit.nc", mock_fit()
        write_recording(self.recording)
        subject = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
        write_fit(self.fit, self.fit_file, subject=subject)
        export_netcdf(self.fit, self.netcdf)
        self.recipe = RECIPE.format(where="correct", components=4).replace("session.nwb", str(self.recording))
        for old, new in (
            ("context", "side"), ("motion", "contrast"), ("stimulus_time", "cue_time"), ("-0.4", "-0.1"),
            ("0.02", "0.1"),
            ("-0.5, 0.8", "-0.25, 0.75"), ("0.04", "0.1"), ("-0.5, -0.42", "-0.25, -0.1"), ("0.0, 0.8", "0.0, 0.75"),
            ("-0.1, 0.8", "-0.1, 0.75"), ("{ contrast = \"rank\" }", '"contrast"'), ("folds = 3", "folds = 2"),
        ):  # fmt: skip
            self.recipe = self.recipe.replace(old, new)
        self.recording_zarr = self.fit_zarr = self.lindi = None

    def add_optional(self, stack: ExitStack) -> None:
        """Zarr and LINDI, where these extras are there."""
        from tests.nwb.server import RangeServer
        from tests.nwb.storage.test_zarr import to_lindi, to_zarr

        self.recording_zarr = to_zarr(self.recording)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.fit_zarr = write_fit(self.fit, self.folder / "fit.nwb.zarr")
        server = stack.enter_context(RangeServer({"/recording.nwb": self.recording}))
        self.lindi = to_lindi(self.recording, f"{server.url}/recording.nwb")


_originals: list[Originals] = []


def originals() -> Originals:
    """The sound files of this process."""
    return _originals[0]


# ------------------------------------------------------------------------------------------------------------ checks


def command(*words: Any) -> str:
    """Run a command in this process; a raw exception or a control character of its output is a Fault."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    error = done.exception
    if error is not None and not isinstance(error, SystemExit):
        raise Fault("raw", f"nwb-lint {words[0]}: {_where(error)}")
    if "does not expect" in done.stderr:
        raise Fault("raw", f"nwb-lint {words[0]}: {done.stderr[:600]}")
    if printable(done.output) != done.output:
        raise Fault("printed", f"nwb-lint {words[0]}: {done.output[:200]!r}")
    return "read" if done.exit_code == 0 else "refused"


def same_fit(found: Any, wanted: Any) -> None:
    """A Fault where a fit that was read is not the one that was written."""
    if not found.drop_attrs(deep=False).identical(wanted.drop_attrs(deep=False)) or found.attrs != wanted.attrs:
        raise Fault("wrong", "a fit was read that was not written")


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    at = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "nwb_lint" in f.filename]
    return f"{type(error).__name__} at {' '.join(at[-2:])}: {str(error)[:300]}"


def _hash(path: Path) -> bytes:
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(str(one).encode() + one.read_bytes() for one in files)).digest()


# ------------------------------------------------------------------------------------------------------------- kinds

Kind = Callable[[Path, np.random.Generator], str]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Add a kind of example: it makes a changed file in a folder, works on it, and says read or refused."""
    KINDS[function.__name__.replace("_", "-")] = function
    return function


def _read_recording(path: Path, rng: np.random.Generator) -> str:
    """One way to read a recording, drawn by chance."""
    how = rng.integers(8)
    if how == 0:
        return command("inspect", path, *([] if rng.random() < 0.5 else ["--json"]))
    if how == 1:
        return command("init", path)
    if how == 2:
        format_description(describe(path))
        return "read"
    if how == 3:
        out = path.with_name("new.nwb")
        how_to_fit = "--by side --align cue_time --window -0.25 0.75 --bin 0.25 --rank 1 --method regression --no-plot"
        return command("fit", path, *how_to_fit.split(), "--out", out)
    if how == 4:
        write_fit(originals().fit, path.with_name("copy.nwb" + path.suffix * (path.suffix == ".zarr")), into=path)
        return "read"
    names = sorted(REQUESTS)
    request = REQUESTS[names[rng.integers(len(names))]]
    found = getattr(nl, request.reader)(path, **request.how)
    if path.suffix in (".nwb", ".zarr"):
        _compare(found, request, path)
    return "read"


def _compare(found: Any, request: Any, path: Path) -> None:
    """A Fault where other numbers were read than plain loops make of what h5py or zarr read in the same file."""
    import zarr

    arrays = {}
    try:
        with h5py.File(path, "r") if path.is_file() else nullcontext(zarr.open(str(path), "r")) as file:
            for at, values in TRUTH.items():
                kept = np.asarray(file[at][()])
                kept = np.array([_text(one) for one in kept]) if kept.dtype.kind == "O" else kept
                if kept.dtype.kind != values.dtype.kind or kept.ndim != values.ndim:
                    return
                arrays[at] = kept
            if dict(file["processing/ophys/dff/data"].attrs)["conversion"] != 0.5:
                return
        expected = request.expect(arrays)
    except Exception:  # what is damaged so that nobody can say what it holds
        return
    if not alike(found, expected):
        raise Fault("wrong", f"{request.reader}: other numbers than the file holds")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@kind
def recording_dataset(folder: Path, rng: np.random.Generator) -> str:
    names, kinds = sorted(TRUTH), sorted(CORRUPTIONS)
    example = Example(str(rng.choice(names)), str(rng.choice(kinds)), int(rng.integers(1000)))
    found = failures(example, folder)
    for name, (what, text) in found.items():
        if text:
            raise Fault("raw" if what == "failed" else "wrong", f"{example} {name}: {text}")
    return "read"


def _read_fit(path: Path, rng: np.random.Generator) -> str:
    how = rng.integers(8)
    if how == 0:
        return command("connectivity", path, "--save", "kept")
    if how == 1:
        return command("export", path, "-o", path.with_name("out.nc"))
    if how == 2:
        return command("fixed-points", path)
    if how == 3:
        return command("inspect", path)
    same_fit(nl.read_fit(path), originals().fit)
    return "read"


def _read_netcdf(path: Path, rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return command("import", path, "-o", path.with_name("new.nwb"))
    same_fit(import_netcdf(path), originals().fit)
    return "read"


def _add(name: str, original: str, change: Callable[[Path, np.random.Generator], None], read: Any) -> None:
    """A kind of example: a copy of one of the sound files is changed, then read."""

    def example(folder: Path, rng: np.random.Generator) -> str:
        source = getattr(originals(), original)
        if source is None:
            raise Skip
        path = folder / source.name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)
        change(path, rng)
        return unchanged(path, lambda: read(path, rng))

    KINDS[name] = example


for _stem, _original, _read in (
    ("recording", "recording", _read_recording), ("fit", "fit_file", _read_fit), ("netcdf", "netcdf", _read_netcdf),
):  # fmt: skip
    _add(f"{_stem}-bytes", _original, damage_file, _read)
    _add(f"{_stem}-objects", _original, edit_objects, _read)
for _original, _read in (("recording_zarr", _read_recording), ("fit_zarr", _read_fit)):
    _add(_original.replace("_", "-"), _original, edit_files, _read)
    _add(_original.replace("_", "-") + "-objects", _original, edit_store, _read)


@kind
def recording_lindi(folder: Path, rng: np.random.Generator) -> str:
    if originals().lindi is None:
        raise Skip
    path = folder / "recording.nwb.lindi.json"
    path.write_text(edit_text(originals().lindi, rng), encoding="utf-8", errors="replace")
    return unchanged(path, lambda: _read_recording(path, rng))


@kind
def recipe_text(folder: Path, rng: np.random.Generator) -> str:
    path = folder / "recipe.toml"
    text = edit_text(originals().recipe, rng).encode("utf-8", "replace")
    path.write_bytes(damage(text, rng) if rng.random() < 0.2 else text)
    if rng.random() < 0.5:
        load_recipe(path).text()
        return "read"
    return unchanged(path, lambda: command("fit", path, "--no-plot", "--out", folder / "fit.nwb"))


ODD_ARGUMENTS = ["nan", "inf", str(2**63), "-1", "0", "1e999", "1:9", "1:1000000000", "", "x" * 9000, "none", "\x1b[2J"]


@kind
def command_line(folder: Path, rng: np.random.Generator) -> str:
    """One or two odd values of options, for a command that reads a sound file."""
    recording, fit = originals().recording, originals().fit_file
    how_to_fit = "--by side --align cue_time --window -0.25 0.75 --bin 0.25 --rank 1 --method regression --no-plot"
    commands = {
        "fit": [recording, *how_to_fit.split(), "--out", folder / "new.nwb"],
        "inspect": [recording], "connectivity": [fit], "fixed-points": [fit], "populations": [fit],
        "readout": [fit, "stimulus"], "inactivate": [fit, "--groups", "neuron"], "export": [fit, "-o", folder / "a.nc"],
    }  # fmt: skip
    name = sorted(commands)[rng.integers(len(commands))]
    options = [one for one in app.commands[name].params if isinstance(one, click.Option) and not one.is_flag]
    options = [one for one in options if one.name not in ("dask", "workers", "out", "save", "picture", "cache_dir")]
    words = [name, *commands[name]]
    for _ in range(rng.integers(1, 3)):
        one = options[rng.integers(len(options))]
        words += [max(one.opts, key=len), *(str(rng.choice(ODD_ARGUMENTS)) for _ in range(one.nargs))]
    return command(*words)


_FIT = {"rank": 1, "tau_s": 0.1, "method": "gradient", "max_iter": 8, "test_size": 0.2}


@lru_cache(1)
def _checkpoint() -> tuple[Any, bytes, Any]:
    """An activity, the checkpoint of a fit to it, and the fit."""
    activity = mock_activity(n_neurons=6, n_conditions=6)
    with tempfile.TemporaryDirectory() as folder:
        fit = nl.fit_lint(activity, checkpoint=Path(folder, "c"), **_FIT)
        return activity, Path(folder, "c").read_bytes(), fit


@kind
def checkpoint(folder: Path, rng: np.random.Generator) -> str:
    activity, content, fit = _checkpoint()
    path = folder / "checkpoint"
    path.write_bytes(damage(content, rng))
    same_fit(nl.fit_lint(activity, checkpoint=path, **_FIT), fit)
    return "read"


_TRIAL_FIT = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 4, "tol": 0.0}


@lru_cache(1)
def _checkpoint_of_trials() -> tuple[Any, bytes, Any]:
    """Trials, the checkpoint of a fit to them, and the fit."""
    trials = mock_trials(n_neurons=6, n_trials=6)
    with tempfile.TemporaryDirectory() as folder:
        fit = nl.fit_trials(trials, checkpoint=Path(folder, "c"), **_TRIAL_FIT)
        return trials, Path(folder, "c").read_bytes(), fit


@kind
def checkpoint_of_trials(folder: Path, rng: np.random.Generator) -> str:
    trials, content, fit = _checkpoint_of_trials()
    path = folder / "checkpoint"
    path.write_bytes(damage(content, rng))
    same_fit(nl.fit_trials(trials, checkpoint=path, **_TRIAL_FIT), fit)
    return "read"


def work(_: Any) -> None:
    """The work that a cache of results is of."""


@kind
def cache_of_results(folder: Path, rng: np.random.Generator) -> str:
    store = Store(folder, work)
    wanted = {"a": np.arange(40.0), "name": np.array("x")}
    path = store.path(1, {})
    store.save(path, Outcome(wanted, None, ["a warning"]))
    path.write_bytes(damage(path.read_bytes(), rng))
    found = store.load(path)
    if found is None:
        return "refused"
    same = found.warnings == ["a warning"] and set(found.result) == set(wanted)
    if not same or any(not np.array_equal(found.result[name], wanted[name]) for name in wanted):
        raise Fault("wrong", "a result was read that was not kept")
    return "read"


@kind
def cache_of_ranges(folder: Path, rng: np.random.Generator) -> str:
    os.environ["NWB_LINT_CACHE"] = str(folder)
    cache, content = RangeCache("x"), rng.bytes(300)
    cache.set("a", content)
    path = next(one for one in folder.rglob("*") if one.is_file())
    path.write_bytes(damage(path.read_bytes(), rng))
    found = cache.get("a")
    if found not in (None, content):
        raise Fault("wrong", "a range was read that was not kept")
    return "refused" if found is None else "read"


def unchanged(path: Path, read: Callable[[], str]) -> str:
    """What reading says; a Fault where it changes the file. ``connectivity --save`` may."""
    before = _hash(path)
    try:
        return read()
    finally:
        if _hash(path) != before and "kept" not in _results(path):
            raise Fault("changed", "reading changed the file")


def _results(path: Path) -> list[str]:
    if path.is_dir():
        return ["kept"] if list(path.rglob("kept")) else []
    try:
        with h5py.File(path, "r") as file:
            return list(file["processing/ecephys"])
    except (OSError, KeyError, RuntimeError):
        return []


# ----------------------------------------------------------------------------------------------------------- program


def attempt(task: tuple[str, int]) -> Found:
    """Work on one example, in the child."""
    name, number = task
    folder = Path(tempfile.mkdtemp(dir=originals().folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what = KINDS[name](folder, np.random.default_rng([number, *name.encode()]))
        return Found(what, "")
    except NWBLintError as error:
        text = str(error)
        wrong = "\n" in text or len(text) > 3000 or printable(text) != text
        return Found("printed", repr(text)[:300]) if wrong else Found("refused", text)
    except Skip:
        return Found("skipped", "")
    except Fault as fault:
        return Found(fault.what, fault.about)
    except BaseException as error:
        return Found("raw", _where(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def examples(kinds: list[str], seed: int) -> Any:
    """Kinds in turn, with the numbers of a seed."""
    number = seed * 1_000_000
    while True:
        for name in kinds:
            yield name, number
        number += 1


def run(
    tasks: Any, n: int, seconds: float, limit_s: float = LIMIT_S, show: Callable[[str], None] = print
) -> Counter[str]:
    """Work through examples until ``n`` are done or the seconds are over; counts of what came of them."""
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with Child(attempt, limit_s) as child:
        for task in tasks:
            if sum(counts.values()) >= n or time.monotonic() > end:
                break
            ended = child.call(task)
            found = Found(ended.fault, ended.result) if ended.fault else ended.result
            counts[found.what] += 1
            if found.what in FAULTS:
                show(f"{found.what.upper()} --only {task[0]}:{task[1]} ({ended.seconds:.1f} s): {found.about}")
            elif ended.seconds > 10:
                show(f"slow --only {task[0]}:{task[1]} ({ended.seconds:.1f} s): {found.what}")
    return counts


def summary(counts: Counter[str]) -> str:
    """Counts on one line."""
    told = ", ".join(f"{counts[what]} {what}" for what in ("read", "refused", "skipped", *FAULTS))
    return f"{counts.total()} examples: {told}"


def prepare_originals(folder: Path, stack: ExitStack, warm: bool = True) -> None:
    """Make the sound files and load what examples need, before children are forked."""
    _originals[:] = [Originals(folder)]
    with suppress(ImportError):
        originals().add_optional(stack)
    if warm:
        _checkpoint()
        _checkpoint_of_trials()
        for name in KINDS:
            attempt((name, 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1e9, help="end after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=sorted(KINDS), choices=sorted(KINDS))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each example")
    parser.add_argument("--only", nargs="*", default=[], metavar="KIND:NUMBER")
    chosen = parser.parse_args()
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=in_memory) as folder, ExitStack() as stack:
        prepare_originals(Path(folder), stack, warm=not chosen.only)
        tasks = [(one.split(":")[0], int(one.split(":")[1])) for one in chosen.only] or examples(
            chosen.kinds, chosen.seed
        )
        counts = run(tasks, chosen.examples, chosen.seconds, chosen.limit, lambda text: print(text, flush=True))
    print(summary(counts))
    return int(any(counts[what] for what in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
