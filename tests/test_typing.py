"""Editors and type checkers see the public names with their parameters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nwb_lint

RIGHT = """\
import nwb_lint as nl

recording = nl.read_conditions("a.nwb", by="x", align="t", window_s=(0, 1), bin_s=0.01)
activity = nl.prepare(recording, inputs=[nl.Input("x", window_s=(0.0, 1.0))])
fit = nl.fit_lint(activity, rank=1, tau_s=0.1)
reveal_type(nl.fit_lint)
nl.plot.summary(fit, activity)
try:
    nl.read_fit("b.nwb")
except nl.errors.NWBError:
    pass
"""
WRONG = """\
import nwb_lint as nl

nl.fit_lint(3, rnak=1)
"""
ROOT = Path(nwb_lint.__file__).parents[1]
CHECKERS = {  # with the options and the cache of the project, since most of the time is for the libraries
    "mypy": [
        sys.executable,
        "-m",
        "mypy",
        f"--config-file={ROOT / 'pyproject.toml'}",
        f"--cache-dir={ROOT / '.mypy_cache'}",
    ],
    "pyright": [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable],
}


@pytest.fixture(scope="module", params=CHECKERS)
def said(request, tmp_path_factory) -> str:
    """What a type checker says of two files of a user, in a folder of their own."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    (folder / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{ROOT}"], "typeCheckingMode": "basic"}}')
    command = [*CHECKERS[request.param], "right.py", "wrong.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment).stdout


def test_a_right_call_is_accepted_and_a_misspelled_argument_is_not(said):
    errors = [line for line in said.splitlines() if "error" in line and ".py:" in line]
    assert errors
    assert all("wrong.py" in line for line in errors)
    assert any("rnak" in line for line in errors)


def test_parameters_are_seen_with_their_types(said):
    assert "tau_s: float" in said
