"""Workers that read files: one in which a library crashes or never returns is an error that names what was not read."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from nwb_lint.errors import WorkerError
from nwb_lint.nwb.storage.source import expand, run_on_files
from nwb_lint.parallel.stuck import ended_if_stuck

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def work_for(seconds, locked):
    from h5py._objects import phil

    with ended_if_stuck(1):
        if locked:
            phil.acquire()  # as HDF5 does in an endless loop
        while time.process_time() < seconds:
            pass


@pytest.mark.parametrize(("locked", "status"), [(True, -signal.SIGXCPU), (False, 0)])
def test_a_worker_that_works_and_lets_nobody_read_is_ended(locked, status):
    process = get_context("fork").Process(target=work_for, args=(2.6, locked))
    process.start()
    process.join(60)
    assert process.exitcode == status


def crash(asset):
    if "bad" in asset.address:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"name": asset.address}


def test_files_that_a_dead_worker_did_not_read_are_named(tmp_path):
    names = [str(tmp_path / f"{name}.nwb") for name in ("a", "bad")]
    tasks = [(asset, {}) for asset in expand(names)]
    with (
        ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool,
        pytest.raises(WorkerError, match=rf"file is damaged.* Not read: .*{names[1]}"),
    ):
        list(run_on_files(crash, tasks, executor=pool))
