"""Seconds to make a recording of spikes in memory, to write them, and to read the file: 500 units, 20 million spikes.

`python benchmarks/memory.py`
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pynwb  # noqa: F401 (its import is not timed)

import nwb_lint as nl

UNITS, SPIKES, TRIALS = 500, 40_000, 1000
HOW = {"by": "side", "align": "start_time", "window_s": (0, 1), "bin_s": 0.01, "smooth_s": 0.05}


def main() -> None:
    """Print the times, after a check that both ways give the same rates."""
    rng = np.random.default_rng(0)
    spikes = [np.sort(rng.uniform(0, 3.0 * TRIALS, SPIKES)) for _ in range(UNITS)]
    start = 3.0 * np.arange(TRIALS)
    trials = pd.DataFrame({"start_time": start, "stop_time": start + 2, "side": np.arange(TRIALS) % 8})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.nwb"
        calls = {
            "from_spikes": lambda: nl.from_spikes(spikes, trials, **HOW),
            "write_session": lambda: nl.write_session(path, spikes, trials),
            "read_conditions": lambda: nl.read_conditions(path, **HOW),
        }
        found = {}
        for name, call in calls.items():
            before = time.perf_counter()
            found[name] = call()
            print(f"{name:16} {time.perf_counter() - before:.1f} s")
    np.testing.assert_array_equal(found["from_spikes"]["rate"], found["read_conditions"]["rate"])


if __name__ == "__main__":
    main()
