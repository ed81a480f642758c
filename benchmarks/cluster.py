"""Many sessions on a local Dask cluster: read, cross-validated and fitted by one recipe, with the time of each part.

`python benchmarks/cluster.py` makes 100 mock sessions of 300 units (about five minutes and 2 GB in a temporary folder)
and runs the recipe below on a cluster of two workers (about ten minutes). `--sessions 3 --units 20` is a small run.
`--folder` keeps the sessions, and uses those that are there. It prints the seconds of each part, the peak memory of
this process and of the workers, and the table of ranks.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nwb_lint as nl
from nwb_lint.parallel.executors import open_executor
from nwb_lint.testing import mock_session
from nwb_lint.workflow.recipe import make_recipe
from nwb_lint.workflow.run import Outcome, run_recipe


def sessions(folder: Path, number: int, n_units: int) -> float:
    """Write the sessions that are not there yet; seconds."""
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(number):
        path = folder / f"session{k:03d}.nwb"
        if not path.exists():
            mock_session(path, n_units=n_units, n_trials=64, seed=k, rate_hz=10.0, session_id=f"session{k:03d}")
    return time.perf_counter() - start


def recipe_of(folder: Path) -> Any:
    """Eight conditions of 100 bins; three ranks in four folds, then the fit of the best."""
    return make_recipe(
        {
            "sources": [str(folder / "*.nwb")],
            "read": {
                "by": ["side", "coherence"], "align": "cue_time", "window_s": [-0.5, 1.0], "bin_s": 0.015,
                "smooth_s": 0.05,
            },
            "prepare": {"n_components": 6},
            "inputs": [
                {"name": "side", "column": "side", "equals": "right", "window_s": [0.0, 1.0]},
                {"name": "coherence", "column": "coherence", "window_s": [0.0, 1.0]},
            ],
            "fit": {"tau_s": 0.1},
            "select": {"ranks": [1, 2, 3], "folds": 4},
        }
    )  # fmt: skip


def run(folder: Path, workers: int) -> tuple[Outcome, float, float]:
    """The outcome of the recipe, seconds to start the cluster, and seconds of all of it."""
    start = time.perf_counter()
    with open_executor(workers) as client:
        started = time.perf_counter() - start
        executor = client.get_executor()  # which also reads the files
        outcome = run_recipe(recipe_of(folder), executor=executor, progress=True)
    return outcome, started, time.perf_counter() - start


def report(outcome: Outcome, number: int, written: float, started: float, total: float) -> None:
    """Print what the run took and found."""
    fit = outcome.fit
    print(f"{number} sessions, {fit.sizes['neuron']} units, {fit.sizes['condition']} conditions")
    print("| part | seconds |\n|---|---|")
    for name, seconds in {"start of the cluster": started, **outcome.seconds}.items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| all | {total:.1f} |")
    here, workers = (peak_gb(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"writing the sessions: {written:.0f} s; peak memory {here:.2f} GB here, {workers:.2f} GB in a worker")
    table = outcome.tables["rank_selection"]
    held_out = table["rank_r2"].transpose("rank_tried", "split").values[:, -1]
    scores = ", ".join(f"{r}: {s:.4f}" for r, s in zip(table["rank_tried"].values, held_out, strict=True))
    print(f"held-out R² by rank: {scores}; chosen {int(table.attrs['rank'])}; R² {fit['r2'].values[0]:.4f}", flush=True)


def peak_gb(who: int) -> float:
    """Largest memory of this process, or of the largest of its children that have ended, GB."""
    return resource.getrusage(who).ru_maxrss / 1e6 * (1.024 if sys.platform == "linux" else 0.001)


def main() -> None:
    """Write the sessions, run the recipe, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the sessions are kept; default: a temporary folder")
    given = parser.parse_args()
    print(f"nwb_lint {nl.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        written = sessions(folder, given.sessions, given.units)
        outcome, started, total = run(folder, given.workers)
        report(outcome, given.sessions, written, started, total)


if __name__ == "__main__":
    main()
