"""What a fit assumes: the time constant of the units."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from nwb_lint import compare_tau

sys.path.append(str(Path(__file__).parents[1]))  # networks of the tests


def tau() -> None:
    """Monostable and bistable rank-1 networks with noise: which time constants predict as well, and what they say."""
    from tests.networks import build

    for noise in (0.5, 1.5):
        best, dependent = [], 0
        for seed in range(100, 106):
            activity = build(conditions=16, times=30, neurons=20, observation=noise, seed=seed).activity
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = compare_tau(activity, rank=1, taus_s=[0.05, 0.1, 0.2, 0.4], method="regression")
            best.append(float(table["tau_tried"].values[table["tau_deficit"].values.argmin()]))
            dependent += table.attrs["depends"]
        print(
            f"noise {noise:g} sd, true tau .1 s: best {best}; number of fixed points depends on it in {dependent} of 6"
        )


SECTIONS = {"tau": tau}
