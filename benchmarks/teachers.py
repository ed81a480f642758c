"""Table of how well the four published networks come back from their noisy activity.

`python benchmarks/teachers.py [FOLDER]`, FOLDER with dm.npz, wm.npz, cdm.npz, dms.npz
(default: ../shared/data/teachers beside the checkout).
R² of rates tanh(x) on held-out trials against the noise-free truth; ECC and CC: Pearson correlation of effective and
of raw connectivity; seconds of `fit_lint` alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

import nwb_lint as nl
from nwb_lint.model.r2 import r_squared
from nwb_lint.model.simulate import run
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.teachers import load_teacher
from nwb_lint.tasks.train import PRIVATE_NOISE, effective

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "teachers"


class Row(NamedTuple):
    """One fit of one teacher."""

    task: str
    observation_noise: float
    r2: float
    ecc: float
    cc: float
    seconds: float
    stages: str


def measure(path: Path, observation_noise: float, *, train: int, test: int, seed: int) -> Row:
    """Simulate a teacher, fit its rank to the first ``train`` trials, compare with the truth."""
    network = load_teacher(path)
    activity = record_activity(network, train + test, observation_noise=observation_noise, seed=seed)
    held = np.arange(train, train + test)
    start = perf_counter()
    fit = nl.fit_lint(activity, rank=network.sizes["rank"], tau_s=network.attrs["tau_s"], holdout=held)
    seconds = perf_counter() - start
    truth = np.tanh(run(network, activity.isel(condition=held))["activity"].values)
    rates = np.tanh(fit["activity_pred"].values[held])
    r2, _ = r_squared(truth, rates, truth.mean(axis=(0, 1)))
    found = nl.connectivity(fit)["connectivity"].values
    raw = nl.connectivity(fit, effective=False)["connectivity"].values
    ecc = np.corrcoef(effective(network).ravel(), found.ravel())[0, 1]
    cc = np.corrcoef((network["m"].values @ network["n"].values.T).ravel(), raw.ravel())[0, 1]
    return Row(path.stem, observation_noise, r2, float(ecc), float(cc), seconds, ", ".join(fit["stage"].values))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How well the four published networks come back.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--train", type=int, default=800, help="training trials")
    parser.add_argument("--test", type=int, default=200, help="test trials")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"no folder {options.folder}; name the one with dm.npz, wm.npz, cdm.npz and dms.npz")
    print("| task | observation noise (sd) | R² | ECC | CC | seconds | stages |\n|---|---|---|---|---|---|---|")
    for observation in (0.0, 1.0):
        for task in PRIVATE_NOISE:
            path = options.folder / f"{task}.npz"
            row = measure(path, observation, train=options.train, test=options.test, seed=options.seed)
            print(
                f"| {row.task} | {row.observation_noise:g} | {row.r2:.5f} | {row.ecc:.5f} | {row.cc:.3f} "
                f"| {row.seconds:.1f} | {row.stages} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
