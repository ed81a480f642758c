"""A process that is killed, a disk that is full, a folder that may not be written, two writers: the source's bytes
never change, the target is the old or the new whole file, and the next run leaves no litter."""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import h5py
import pytest
import xarray as xr

from nwb_lint.errors import NWBError
from nwb_lint.nwb.extension.read import find_entries, read_fit, read_result
from nwb_lint.nwb.extension.write import write_fit, write_result
from nwb_lint.nwb.storage import atomic
from nwb_lint.nwb.storage.atomic import write_atomically
from tests.factories import assert_same
from tests.nwb.extension.test_write import fit_of, make_recording

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
NOBODY = 65534


class Work:
    """A recording, an old fit at the target, and a new fit that a child process writes over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recording = make_recording(folder / "recording.nwb")
        self.target = folder / "fit.nwb"
        self.old = fit_of([self.recording])
        self.new = self.old.assign_attrs(seed=77)
        self.begin()
        self.source, self.bytes = self._hash(self.recording), self.target.read_bytes()
        assert self.which() == "old"

    def begin(self) -> None:
        write_fit(self.old, self.target)

    def reset(self) -> None:
        self.folder.chmod(0o777)
        self.target.write_bytes(self.bytes)

    def write(self) -> None:
        write_fit(self.new, self.target, overwrite=True)

    def start(self, before=lambda: None) -> int:
        """A child that writes; its exit status is 0, or 3 after an NWBError of one line."""
        child = os.fork()
        if child:
            return child
        status = 9
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                before()
                self.write()
                status = 0
        except NWBError as error:
            status = 3 if "\n" not in str(error) and "fit.nwb" in str(error) else 4
        finally:
            os._exit(status)

    def which(self) -> str:
        """Which of the two fits the target is; raises where it is none."""
        found = read_fit(self.target)
        which = "new" if found.attrs["seed"] == 77 else "old"
        assert_same(found, self.new if which == "new" else self.old)
        return which

    def check(self) -> str:
        """Which of the two files the target is; raises where it is none, or the source changed."""
        assert self._hash(self.recording) == self.source
        return "old" if self.target.read_bytes() == self.bytes else self.which()

    def finish(self) -> None:
        """The next run: the target is whole and new, and nothing else lies there."""
        self.write()
        assert self.check() == "new"
        assert sorted(os.listdir(self.folder)) == ["fit.nwb", "recording.nwb"]

    @staticmethod
    def _hash(path: Path) -> bytes:
        return hashlib.sha256(path.read_bytes()).digest()


class Copy(Work):
    """The target is a copy of the recording, and another with the new fit is written over it."""

    def begin(self) -> None:
        write_fit(self.old, self.target, into=self.recording)

    def write(self) -> None:
        write_fit(self.new, self.target, into=self.recording, overwrite=True)

    def which(self) -> str:
        with h5py.File(self.target) as copy, h5py.File(self.recording) as recording:
            assert list(copy["units/spike_times"]) == list(recording["units/spike_times"])
        return super().which()


class Beside(Work):
    """The target is a fit, and a result is written beside it."""

    def begin(self) -> None:
        write_fit(self.old, self.target)
        square, m = ("axis_name", "axis_other"), self.old["m"].values.T[:1]
        data = {
            "axis": (("axis_name", "neuron"), m), "overlap": (square, [[1.0]]), "angle_deg": (square, [[0.0]]),
            "variance_explained": ("axis_name", [0.4]),
        }  # fmt: skip
        self.result = xr.Dataset(data, {"axis_name": ["m 1"], "neuron": self.old["neuron"]}, {"kind": "axes"})

    def write(self) -> None:
        if self.target.read_bytes() != self.bytes:  # a result of that name would be refused
            self.reset()
        write_result(self.result, self.target)

    def which(self) -> str:
        assert_same(read_fit(self.target), self.old)
        with h5py.File(self.target) as file:
            names = sorted(entry.name for entry in find_entries(file))
        if names == ["lowrank_fit"]:
            return "old"
        assert names == ["axes", "lowrank_fit"]
        assert_same(read_result(self.target), self.result)
        return "new"


@contextmanager
def folder_for_all():
    """A temporary folder that every user may enter; those of pytest are closed to other users."""
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        folder.chmod(0o777)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def warm():
    """What a first write loads and parses, so that every child of this process has it."""
    with folder_for_all() as folder:
        Work(folder)


@pytest.fixture(scope="module")
def made(request):
    with folder_for_all() as folder:
        yield getattr(request, "param", Work)(folder)


@pytest.fixture
def work(made):
    made.reset()
    return made


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_along(kind: type[Work], parts: list[float]) -> Counter[str]:
    """Kill a child after each of these parts of its work, and count what the target is after every one."""
    with folder_for_all() as folder:
        work = kind(folder)
        work.reset()
        start = time.perf_counter()
        assert status(work.start()) == 0
        seconds = time.perf_counter() - start
        found: Counter[str] = Counter()
        for k, part in enumerate(parts):
            if k % 10 == 0:
                work.reset()
            child = work.start()
            time.sleep(1.05 * seconds * part)
            os.kill(child, signal.SIGKILL)
            assert status(child) in (-signal.SIGKILL, 0)
            found[work.check()] += 1
        work.finish()
    return found


def kill_many(kind: type[Work], n: int) -> Counter[str]:
    """How often n kills left the old or the new file.

    Each worker process has a folder of its own and kills its share of the children.
    """
    parts = [k / n for k in range(n)]
    n_workers = min(os.cpu_count() or 1, n)
    with ProcessPoolExecutor(n_workers, mp_context=get_context("fork")) as pool:
        shares = [parts[k::n_workers] for k in range(n_workers)]
        return sum(pool.map(kill_along, [kind] * n_workers, shares), Counter())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n"), [(Work, 20), (Copy, 5), (Beside, 5)])
def test_a_process_killed_anywhere_leaves_the_old_or_the_new_file(warm, kind, n):
    """More of them: python -m tests.nwb.extension.test_safe_writing --kills 200."""
    found = kill_many(kind, n)
    assert found.total() == n
    assert found["old"]


@pytest.mark.parametrize("step", ["_flush_all", "_replace", "_remove"])
def test_a_process_killed_at_every_step_of_the_renaming(work, step):
    def before():
        if step == "_replace":  # just after the rename
            atomic.os.replace = lambda a, b, replace=os.replace: (replace(a, b), die())
        else:
            setattr(atomic, step, die)

    assert status(work.start(before)) == -signal.SIGKILL
    assert work.check() == ("new" if step in ("_replace", "_remove") else "old")
    work.finish()


def limited(size: int):
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return before


FULL = [(Work, 0.0), (Work, 0.5), (Copy, 0.99), (Beside, 0.99)]


@pytest.mark.parametrize(("made", "part"), FULL, indirect=["made"])
def test_a_full_disk_is_an_error_and_leaves_the_old_file(work, part):
    work.write()
    size = int(part * work.target.stat().st_size)
    work.reset()
    assert status(work.start(limited(size))) == 3
    assert work.check() == "old"
    assert sorted(os.listdir(work.folder)) == ["fit.nwb", "recording.nwb"]
    work.finish()


def as_nobody() -> None:
    """Root may write everywhere; nobody may not."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def test_a_read_only_folder_is_an_error_and_leaves_the_old_file(work):
    work.folder.chmod(0o555)
    assert status(work.start(as_nobody)) == 3
    assert work.check() == "old"
    work.folder.chmod(0o777)
    work.finish()


def test_permission_that_is_lost_on_the_way_leaves_the_old_file(work):
    def before():
        if os.getuid() == 0:
            os.chown(work.folder, NOBODY, NOBODY)
        as_nobody()
        flush_all = atomic._flush_all
        atomic._flush_all = lambda path: (flush_all(path), work.folder.chmod(0o555))

    assert status(work.start(before)) == 3
    assert work.check() == "old"
    work.folder.chmod(0o777)
    work.finish()


def test_of_two_writers_at_once_one_is_refused(work):
    def slow(temporary):
        temporary.write_bytes(work.target.read_bytes())
        with pytest.raises(NWBError, match=r"fit\.nwb is being written by another process"):
            work.write()
        assert temporary.exists()  # what a living writer holds is no litter

    write_atomically(work.target, slow)
    assert work.check() == "old"


def test_many_writers_at_once_leave_one_whole_file(work):
    children = [work.start() for _ in range(4)]
    ends = [status(child) for child in children]
    assert 0 in ends
    assert set(ends) <= {0, 3}
    assert work.check() == "new"
    work.finish()


def test_only_our_litter_of_this_very_target_is_removed(work):
    names = [".nwb_lint-0123abcd-fit.nwb", ".nwb_lint-0123abcd-other.nwb", ".fit.nwb", "fit.nwb.0123abcd"]
    for name in names:
        (work.folder / name).write_text("x")
    write_atomically(work.target, lambda path: path.write_bytes(work.bytes))
    assert sorted(os.listdir(work.folder)) == sorted([*names[1:], "fit.nwb", "recording.nwb"])
    for name in names[1:]:
        (work.folder / name).unlink()


def folder_of(path: Path, text: str) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "text").write_text(text)


def test_folders_are_replaced_whole_and_put_back_where_a_writer_died(tmp_path):
    target = tmp_path / "fit.nwb.zarr"

    def read():
        return (target / "deep" / "text").read_text(), os.listdir(tmp_path)

    write_atomically(target, lambda path: folder_of(path, "old"))
    write_atomically(target, lambda path: folder_of(path, "new"))
    assert read() == ("new", ["fit.nwb.zarr"])
    os.rename(target, atomic._backup(target))  # killed between the two renames
    with pytest.raises(NWBError, match="cannot be written: full"):
        write_atomically(target, lambda path: exec('raise OSError("full")'))
    assert read() == ("new", ["fit.nwb.zarr"])
    folder_of(atomic._backup(target), "older")  # killed after them
    write_atomically(target, lambda path: folder_of(path, "newest"))
    assert read() == ("newest", ["fit.nwb.zarr"])


def main() -> None:
    """Kill processes of each kind that write. Print which file each left, the old or the new; a damaged one raises."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes of each kind (default: %(default)s)")
    kills = parser.parse_args().kills
    for kind in (Work, Copy, Beside):
        print(f"{kind.__name__}: of {kills} killed, the whole file left by each: {dict(kill_many(kind, kills))}")


if __name__ == "__main__":
    main()
