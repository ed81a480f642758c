"""Examples of the fuzzer for some seconds: python -m tests.hostile.fuzz tries more of them."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from tests.hostile import fuzz
from tests.hostile.pool import Child

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
SECONDS = float(os.environ.get("NWB_LINT_FUZZ_S", "8"))  # more of them by hand


def test_changed_files_are_read_or_reported(tmp_path):
    shown: list[str] = []
    with ExitStack() as stack:
        fuzz.prepare_originals(tmp_path, stack, warm=False)
        counts = fuzz.run(fuzz.examples(sorted(fuzz.KINDS), 0), 5000, SECONDS, show=shown.append)
    assert not any(counts[what] for what in fuzz.FAULTS), shown
    assert counts["read"]
    assert counts["refused"]


def test_a_child_that_dies_or_hangs_is_that_of_its_example():
    def work(argument):
        if argument == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        while argument == "hang":
            pass
        return argument * 2

    with Child(work, 0.5) as child:
        found = [child.call(argument) for argument in ("a", "die", "b", "hang", "c")]
    assert [one.fault for one in found] == ["", "abort", "", "hang", ""]
    assert [one.result for one in found if not one.fault] == ["aa", "bb", "cc"]
    assert "SIGSEGV" in found[1].result
