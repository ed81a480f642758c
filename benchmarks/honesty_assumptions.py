"""What a fit assumes: the time constant of the units, and that means of trials say what trials do."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from nwb_lint import compare_tau
from nwb_lint.trial_noise import MIN_SHARE, shared_trial_variance

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


def means() -> None:
    """Trials that differ along one direction: found in networks with noise-driven choices, not in Poisson noise."""
    from tests.test_trial_noise import halves_of

    cases = {
        "bistable, noise-driven choices, 15 Hz": {"noise": 0.08},
        "bistable, more noise, 6 Hz": {"noise": 0.12, "rate": 6.0},
        "counting noise, 50 units": {"noise": 0.0},
        "counting noise, 20 units, 5 trials, 3 Hz": {"noise": 0.0, "neurons": 20, "trials": 6, "rate": 3.0},
        "counting noise, 12 conditions, overlap 1": {"noise": 0.0, "conditions": 12, "overlap": 1.0},
    }
    for name, options in cases.items():
        shares = [shared_trial_variance(halves_of(seed, **options)) for seed in range(100, 130)]
        warned = [share for share in shares if share >= MIN_SHARE]
        goal = "all" if options["noise"] else "at most 5 %"
        range_of = f", share {min(warned):.2f} to {max(warned):.2f}" if warned else ""
        print(f"{name}: warned of in {len(warned)} of {len(shares)} (goal: {goal}){range_of}")


SECTIONS = {"tau": tau, "means": means}
