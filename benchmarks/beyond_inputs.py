"""Lists of inputs as hypotheses: how often the true one is chosen, and whether ties are called ties."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr
from sections import run_sections, workers

import nwb_lint as nl
from nwb_lint import Input

BIN_S, TAU_S, N_TIMES = 0.02, 0.1, 60
SIGNAL = (0.2, 1.0)  # s, when motion and color are on


def inputs_at(motion: np.ndarray, color: np.ndarray, context: np.ndarray) -> np.ndarray:
    """u (trial, time, input) of three columns."""
    time = BIN_S * (np.arange(N_TIMES) + 0.5)
    on = (time >= SIGNAL[0]) & (time < SIGNAL[1])
    return np.stack([motion[:, None] * on, color[:, None] * on, context[:, None] * np.ones(N_TIMES)], axis=2)


def activations(u: np.ndarray, used: Sequence[int], sd: float, seed: int, n_units: int) -> np.ndarray:
    """x (trial, time, unit) of a random network of rank 1 that some of the inputs drive, with noise along m."""
    rng, alpha = np.random.default_rng(seed), BIN_S / TAU_S
    m, weights = rng.standard_normal(n_units), rng.standard_normal((n_units, u.shape[2]))
    weights[:, [k for k in range(u.shape[2]) if k not in used]] = 0
    n = 1.2 * m + weights @ rng.uniform(0.5, 1, u.shape[2]) + 0.5 * rng.standard_normal(n_units)
    x, path = np.zeros((len(u), n_units)), []
    for t in range(N_TIMES):
        path.append(x)
        drive = np.tanh(x) @ n[:, None] / n_units @ m[None] + u[:, t] @ weights.T
        x = (1 - alpha) * x + alpha * drive + sd * rng.standard_normal((len(u), 1)) * m
    return np.stack(path, axis=1)


def recording_of(used: Sequence[int], seed: int, n_units: int = 60, n_trials: int = 20) -> xr.Dataset:
    """Mean rates of Poisson spikes in 32 conditions of motion × color × context."""
    levels = np.array([-1, -0.4, 0.4, 1])
    motion, color, context = (a.ravel() for a in np.meshgrid(levels, levels, [-1.0, 1.0], indexing="ij"))
    rate = 15 * np.exp(0.5 * activations(inputs_at(motion, color, context), used, 0.0, seed, n_units))
    rng = np.random.default_rng([seed, 1])
    half = rng.poisson(rate * BIN_S * n_trials / 2, (2, *rate.shape)) / (BIN_S * n_trials / 2)
    trials = np.full(rate.shape[::2], n_trials)
    dims = ("condition", "time", "neuron")
    columns = {"motion": motion, "color": color, "context": context}
    return xr.Dataset(
        {
            "rate": (dims, half.mean(axis=0).astype(np.float32), {"units": "Hz"}),
            "rate_half": (("half", *dims), half.astype(np.float32)),
            "n_trials": (("condition", "neuron"), trials),
            "n_trials_half": (("half", "condition", "neuron"), np.stack([trials // 2] * 2)),
        },
        coords={
            "condition": [f"c{k:02d}" for k in range(len(motion))],
            "time": BIN_S * (np.arange(N_TIMES) + 0.5),
            "neuron": [f"n{k:02d}" for k in range(n_units)],
            **{name: ("condition", values) for name, values in columns.items()},
        },
        attrs={"bin_s": BIN_S},
    )


def trials_of(used: Sequence[int], seed: int, n_units: int = 40, n_trials: int = 100) -> xr.Dataset:
    """Spike counts of single trials whose latent has noise."""
    rng = np.random.default_rng([seed, 2])
    motion, color = rng.choice([-1, -0.4, 0.4, 1], (2, n_trials))
    context = rng.choice([-1.0, 1.0], n_trials)
    x = activations(inputs_at(motion, color, context), used, 0.05, seed, n_units)
    count = rng.poisson(8 * BIN_S * np.exp(np.clip(0.7 * x, None, 3)))
    columns = {"motion": motion, "color": color, "context": context}
    return xr.Dataset(
        {"count": (("trial", "time", "neuron"), count.astype(np.uint16), {"units": "1"})},
        coords={
            "trial": np.arange(n_trials),
            "time": BIN_S * (np.arange(N_TIMES) + 0.5),
            "neuron": [f"n{k:02d}" for k in range(n_units)],
            **{name: ("trial", values) for name, values in columns.items()},
        },
        attrs={"bin_s": BIN_S, "align": "start_time", "window_s": [0.0, N_TIMES * BIN_S]},
    )


def lists() -> dict[str, list[Input]]:
    """Hypotheses: one, two or three of the columns, and the two at another time."""
    motion, color = (Input(name, column=name, window_s=SIGNAL) for name in ("motion", "color"))
    context = Input("context", column="context")
    late = [Input(name, column=name, window_s=(0.4, 1.2)) for name in ("motion", "color")]
    return {
        "all three": [motion, color, context], "motion": [motion], "motion, color": [motion, color],
        "motion, color late": late, "context": [context],
    }  # fmt: skip


TRUTHS = {"motion": (0,), "motion, color": (0, 1), "all three": (0, 1, 2)}


def compared(data: xr.Dataset, sets: dict[str, list[Input]], **options: object) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nl.compare_inputs(data, sets, rank=1, tau_s=TAU_S, **options)


# How means and single trials are made and fitted.
MAKERS = {
    "means": (recording_of, {"prepare": partial(nl.prepare, rate_link="log"), "method": "regression"}),
    "single trials": (trials_of, {"hidden": 0, "max_iter": 12, "folds": 2}),
}


def _chosen(what: str, truth: str, seed: int) -> str:
    """The list that is chosen; "a tie" where others are as good."""
    make, options = MAKERS[what]
    found = compared(make(TRUTHS[truth], seed), lists(), **options).attrs
    return "a tie" if found["tied"] else str(found["input_set"])


def _tied(what: str, seed: int) -> bool:
    """Whether the same input in two units is called a tie."""
    make, options = MAKERS[what]
    same = {"motion": lists()["motion"], "doubled": [Input("doubled", column="motion", window_s=SIGNAL, scale=2.0)]}
    return bool(compared(make((0,), seed, n_units=40), same, **options).attrs["tied"])


def inputs(seeds: Sequence[int] = range(100, 110)) -> None:
    """The list of inputs that is chosen, of five, for means of 20 trials and for single trials."""
    for what in MAKERS:
        for truth in TRUTHS:
            with workers() as pool:
                found = list(pool.map(partial(_chosen, what, truth), seeds))
            other = [one for one in found if one != truth]
            print(
                f"   {what}, true inputs {truth}: chosen in {len(found) - len(other)} of {len(found)} (goal 9 of 10)"
                + (f"; else {', '.join(other)}" if other else ""),
                flush=True,
            )
        with workers() as pool:
            tied = list(pool.map(partial(_tied, what), seeds))
        print(f"   {what}, the same input in two units: called a tie in {sum(tied)} of {len(tied)} (all)", flush=True)


SECTIONS = {"inputs": inputs}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
