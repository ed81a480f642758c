"""Processes that write are killed at random moments: each file is then the old or the new one, whole.

``python -m tests.hostile.kills --kills 300 --seed 1`` kills writers of new files, copies, results, netCDF files,
pictures, checkpoints, caches of results and of streamed bytes, and uploads, in turn. It prints how many left the old
file, the new one, or a damaged one. After an upload was killed, the archive of the tests has the old or the new file,
whole; the local file is as before; and the same upload succeeds when it is repeated.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from matplotlib.figure import Figure

import nwb_lint as nl
from nwb_lint.model.checkpoint import Journal
from nwb_lint.nwb.extension import publish as publishing
from nwb_lint.nwb.extension.netcdf import export_netcdf, import_netcdf
from nwb_lint.nwb.storage.cache import RangeCache
from nwb_lint.parallel.store import Store
from nwb_lint.parallel.tasks import Outcome
from nwb_lint.plot.style import save_figure
from nwb_lint.statespace.checkpoint import Snapshot
from nwb_lint.testing import mock_activity, mock_fit, mock_trials
from tests.nwb.archive import ID, Archive
from tests.nwb.extension.test_safe_writing import Beside, Copy, Work
from tests.nwb.extension.test_write import SUBJECT


class Writer(NamedTuple):
    """What writes over a file, and what says which file is there: old, new, or none of them (an exception)."""

    write: Callable[[], None]
    which: Callable[[], str]
    reset: Callable[[], None]
    close: Callable[[], None] = lambda: None


def _work(kind: type[Work], folder: Path) -> Writer:
    made = kind(folder)
    return Writer(made.write, made.check, made.reset)


def _netcdf(folder: Path) -> Writer:
    old, path = mock_fit(), folder / "fit.nc"
    new = old.assign_attrs(seed=77)

    def which() -> str:
        found = import_netcdf(path)
        assert found.identical(old) or found.identical(new)
        return "new" if found.identical(new) else "old"

    return Writer(
        lambda: (export_netcdf(new, path, overwrite=True), None)[1],
        which,
        lambda: (export_netcdf(old, path, overwrite=True), None)[1],
    )


def _picture(folder: Path) -> Writer:
    path = folder / "a.png"
    save_figure(Figure(figsize=(1, 1)), path, 50)
    old = path.read_bytes()
    save_figure(Figure(figsize=(2, 1)), path, 50)
    new = path.read_bytes()

    def which() -> str:
        assert path.read_bytes() in (old, new)
        return "new" if path.read_bytes() == new else "old"

    return Writer(
        lambda: save_figure(Figure(figsize=(2, 1)), path, 50), which, lambda: (path.write_bytes(old), None)[1]
    )


def _checkpoint(folder: Path) -> Writer:
    activity = mock_activity(n_neurons=6, n_conditions=6)
    how = {"rank": 1, "tau_s": 0.1, "method": "gradient", "max_iter": 8, "checkpoint": folder / "c"}
    return _resumed(lambda: nl.fit_lint(activity, **how), folder / "c", Journal)


def _trials(folder: Path) -> Writer:
    trials = mock_trials(n_neurons=6, n_trials=8)
    how = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 8, "tol": 0.0, "checkpoint": folder / "c"}
    return _resumed(lambda: nl.fit_trials(trials, **how), folder / "c", Snapshot)


def _resumed(fit: Callable[[], Any], path: Path, kind: Any) -> Writer:
    """A fit with a checkpoint, of either kind."""
    whole = fit()

    def write() -> None:
        kind.__init__.__defaults__ = (0.0,)  # all is written at once
        fit()

    def which() -> str:
        begun = path.exists() and path.stat().st_size > 0
        assert fit().identical(whole)
        path.unlink()
        return "new" if begun else "old"

    return Writer(write, which, lambda: path.unlink(missing_ok=True))


def _results(folder: Path) -> Writer:
    store = Store(folder, _results)
    path, wanted = store.path(1, {}), {"a": np.arange(200_000.0)}

    def which() -> str:
        found = store.load(path)
        assert found is None or np.array_equal(found.result["a"], wanted["a"])
        return "old" if found is None else "new"

    return Writer(lambda: store.save(path, Outcome(wanted, None, [])), which, lambda: path.unlink(missing_ok=True))


def _ranges(folder: Path) -> Writer:
    os.environ["NWB_LINT_CACHE"] = str(folder)
    cache, content = RangeCache("x"), bytes(range(256)) * 4000

    def which() -> str:
        found = [cache.get(str(k)) for k in range(20)]
        assert all(one in (None, content) for one in found)
        return "new" if found[-1] else "old"

    def write() -> None:
        for k in range(20):
            cache.set(str(k), content)

    return Writer(write, which, lambda: shutil.rmtree(folder / "streamed", ignore_errors=True))


def _upload(folder: Path) -> Writer:
    """An upload by the client of DANDI; its validators, which take most of the time and send nothing, are left out."""
    token, place = "of-40-letters", "sub-m1/sub-m1_desc-lowrank_ecephys.nwb"
    stack, (one, two) = ExitStack(), (folder / "one.nwb", folder / "two.nwb")
    archive = stack.enter_context(Archive([], {}, token=token, published=False, status="OPEN"))
    cache = {"NWB_LINT_CACHE": str(folder / "cache"), "DANDI_NO_ET": "1"}
    os.environ |= cache | {"DANDI_INSTANCE": f"{archive.api.url}/api", f"{archive.api.host.upper()}_API_KEY": token}
    stack.enter_context(patch.object(publishing, "_validate", lambda asset, source: []))
    stack.enter_context(patch.object(tempfile, "tempdir", str(folder)))
    for path, seed in ((one, 1), (two, 2)):
        nl.write_fit(mock_fit().assign_attrs(seed=seed), path, subject=SUBJECT)
    contents = {"old": one.read_bytes(), "new": two.read_bytes()}
    publishing.publish(one, ID)
    before = copy.deepcopy((archive.assets, archive.places, archive.blobs.files, archive.etags))

    def which() -> str:
        assert (one.read_bytes(), two.read_bytes()) == tuple(contents.values())
        assert [asset["path"] for asset in archive.assets] == [place]
        kept = archive.blobs.files[archive.places[place]]
        found = next(name for name, content in contents.items() if content == kept)
        assert publishing.publish(two, ID, replace=True).sent == (found == "old")
        assert nl.read_fit(f"dandi://{ID}/draft/{place}").attrs["seed"] == 2
        return found

    def reset() -> None:
        archive.assets, archive.places, archive.blobs.files, archive.etags = copy.deepcopy(before)

    return Writer(lambda: (publishing.publish(two, ID, replace=True), None)[1], which, reset, stack.close)


KINDS: dict[str, Callable[[Path], Writer]] = {
    "new file": lambda folder: _work(Work, folder),
    "copy": lambda folder: _work(Copy, folder),
    "result": lambda folder: _work(Beside, folder),
    "netCDF": _netcdf,
    "picture": _picture,
    "checkpoint": _checkpoint,
    "checkpoint of trials": _trials,
    "results": _results,
    "ranges": _ranges,
    "upload": _upload,
}


def start(write: Callable[[], None]) -> int:
    """A child that writes."""
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            write()
        finally:
            os._exit(0)
    return child


def kill(writer: Writer, n: int, rng: np.random.Generator) -> Counter[str]:
    """Kill n writers, each at a moment of its work that is drawn by chance."""
    writer.reset()
    begin = time.perf_counter()
    os.waitpid(start(writer.write), 0)
    seconds, found = time.perf_counter() - begin, Counter[str]()
    for _ in range(n):
        writer.reset()
        child = start(writer.write)
        time.sleep(1.1 * seconds * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            found[writer.which()] += 1
        except Exception as error:
            found["damaged"] += 1
            print(f"DAMAGED: {type(error).__name__}: {error}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    chosen = parser.parse_args()
    rng, total = np.random.default_rng(chosen.seed), Counter[str]()
    warnings.simplefilter("ignore")
    for k, name in enumerate(chosen.kinds):
        n = chosen.kills // len(chosen.kinds) + (k < chosen.kills % len(chosen.kinds))
        with tempfile.TemporaryDirectory() as folder:
            writer = KINDS[name](Path(folder))
            found = kill(writer, n, rng)
            writer.close()
        print(f"{name}: {n} kills, {dict(found)}", flush=True)
        total += found
    print(f"{total.total()} kills: {total['old']} old, {total['new']} new, {total['damaged']} damaged")
    return int(total["damaged"] > 0)


if __name__ == "__main__":
    sys.exit(main())
