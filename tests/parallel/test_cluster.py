"""The benchmark of many sessions on a local Dask cluster, with three small ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "cluster.py"


@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARK.exists(), reason="the benchmarks are not part of the wheel")
def test_three_sessions_are_read_and_fitted_by_one_recipe(tmp_path):
    command = [sys.executable, "-W", "ignore", str(BENCHMARK), "--sessions", "3", "--units", "12"]
    found = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "3 sessions, 36 units, 8 conditions" in found.stdout
    for part in ("start of the cluster", "read", "choose rank", "fit", "all"):
        assert f"| {part} |" in found.stdout
    assert "held-out R² by rank: 1: " in found.stdout
    assert len(list(tmp_path.glob("*.nwb"))) == 3
