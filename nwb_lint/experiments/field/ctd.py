"""The Computation-through-Dynamics Benchmark: trained gated networks, their simulated spikes, and what a fit recovers.

Tasks, networks, spikes and scores are defined as in the public code of the benchmark. A network is trained here, since
its networks are in a large-file store that could not be reached. The scores:

- rate R²: of the true rates of all neurons in test trials, from the spikes of the held-in neurons, variance-weighted.
- state R²: how much of the inferred latents a linear map of the true states explains; the map is made on training
  trials.
- co-smoothing: bits per spike of the held-out neurons in test trials, over the mean of each neuron.
- cycle consistency: share of the inferred latents that can be read from the inferred log rates, by the truncated
  pseudoinverse of the linear map between them.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from nwb_lint.analysis.fixedpoints import fixed_points
from nwb_lint.experiments.field.published import CTD, NOTES
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import save_with_results
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.fit import fit_trials_with, with_posterior
from nwb_lint.statespace.inference import posterior_of, rates_of
from nwb_lint.statespace.refine import refined
from nwb_lint.statespace.scores import gained_bits
from nwb_lint.statespace.system import Context, System, features_of, next_latent
from nwb_lint.statespace.tuning import MAX_LOG_RATE
from nwb_lint.tasks.continuous import DT_S, TASKS, flip_flop, multitask
from nwb_lint.tasks.gated import gated_step, run_gated, train_gated

Array = np.ndarray

HELD_IN, HELD_OUT = 50, 10  # neurons
LOG_RATE_SD = 0.5  # of all units together; log rates are standardized states × this
TEST_SHARE = 0.2  # of the trials
TRUNCATION = 0.01  # share of the squared singular values that cycle consistency leaves out


class Simulated(NamedTuple):
    """Spikes of a network on trials of its task.

    | field | dims | |
    |---|---|---|
    | trials | | Dataset for `nwb_lint.fit_trials` |
    | inputs | trial, time, input | of the network |
    | states | trial, time, unit | of the network |
    | rates | trial, time, neuron | spikes per bin |
    | test | trial | which trials are for the scores |
    | unit | neuron | unit that the neuron follows |
    | middle, spread | | mean and standard deviation of these units, over everything |
    """

    trials: xr.Dataset
    inputs: Array
    states: Array
    rates: Array
    test: Array
    unit: Array
    middle: float
    spread: float

    def log_rates_of(self, states: Array) -> Array:
        """Log rates (..., neuron), of spikes per bin, of states (..., unit)."""
        return (states[..., self.unit] - self.middle) * (LOG_RATE_SD / self.spread)


def simulate_spikes(network: xr.Dataset, task_trials: xr.Dataset, seed: int) -> Simulated:
    """Spikes of neurons that each follow one unit of the network, units in random order, none twice before all once."""
    rng = np.random.default_rng([seed, 20])
    size, number = network.sizes["unit"], HELD_IN + HELD_OUT
    u = task_trials["u"].values.astype(float)
    states = run_gated(network, u, seed=seed)[0]
    unit = np.concatenate([rng.permutation(size) for _ in range(-(-number // size))])[:number]
    chosen = states[..., unit]
    found = Simulated(
        xr.Dataset(), u, states, chosen, np.zeros(0, bool), unit, float(chosen.mean()), float(chosen.std())
    )
    rates = np.exp(found.log_rates_of(states))
    test = np.zeros(len(rates), bool)
    test[rng.permutation(len(rates))[: round(TEST_SHARE * len(rates))]] = True
    return found._replace(trials=as_trials(task_trials, rng.poisson(rates)), rates=rates, test=test)


def as_trials(task_trials: xr.Dataset, count: Array) -> xr.Dataset:
    """Trials for `fit_trials`, with the inputs two steps earlier.

    A gated network makes its state at t from its state at t - 1 and the input at t. In the low-rank network, v[t + 1]
    takes u[t], and kappa[t + 2] is the first that v[t + 1] moves in a way that depends on the state. So u[t] is the
    input of the task at t + 2.
    """
    u = task_trials["u"].values
    ahead = np.zeros_like(u)
    ahead[:, :-2] = u[:, 2:]
    n_trials, n_steps, n_neurons = count.shape
    seen = np.arange(n_steps) < task_trials["n_steps"].values[:, None]
    dims = ("trial", "time", "neuron")
    return xr.Dataset(
        {
            "count": (dims, count.astype(np.uint16), {"units": "1"}),
            "observed": (dims, np.repeat(seen[..., None], n_neurons, axis=2)),
            "u": (("trial", "time", "input"), ahead.astype(np.float32), {"units": "1"}),
        },
        {
            "trial": np.arange(n_trials),
            "time": ("time", DT_S * (np.arange(n_steps) + 0.5), {"units": "s"}),
            "neuron": np.array([f"n{k:02d}" for k in range(n_neurons)]),
            "input": task_trials["input"].values,
        },
        {"bin_s": DT_S, "align": "start_time", "window_s": [0.0, DT_S * n_steps]},
    )


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def rate_r2(true: Array, found: Array) -> float:
    """R² of rates (sample, neuron); neurons count with their variance."""
    return float(r2_score(true, found, multioutput="variance_weighted"))


def state_r2(train: tuple[Array, Array], test: tuple[Array, Array]) -> float:
    """R² of inferred latents from a linear map of true states. Each pair is states and latents, (sample, dimension).

    The map is made on ``train``, and scored on ``test``. Latents that the network does not have lower it.
    """
    mapped = LinearRegression().fit(*train).predict(test[0])
    return float(r2_score(test[1], mapped, multioutput="variance_weighted"))


def co_smoothing_bits(rate: Array, count: Array) -> float:
    """Bits per spike of rates (sample, neuron), spikes per bin, over the mean count of each neuron in the samples."""
    bits, spikes = gained_bits(rate[None], count[None], None, np.zeros((1, len(rate))))
    return float(bits.sum() / spikes.sum())


def cycle_consistency(latents: Array, log_rates: Array, test_latents: Array, truncation: float = TRUNCATION) -> float:
    """R² of latents that are read back from the log rates that they predict.

    Log rates (sample, neuron) are regressed on latents (sample, latent). Singular values of this map beyond the share 1
    - ``truncation`` of their sum of squares are left out of its pseudoinverse. What is left of ``test_latents`` is the
    part along the directions that are kept.
    """
    weights = LinearRegression().fit(latents, log_rates).coef_
    _, size, axes = np.linalg.svd(weights, full_matrices=False)
    share = np.cumsum(size**2) / (size**2).sum()
    kept = axes[: min(int(np.searchsorted(share, 1 - truncation)) + 1, len(size))]
    off = test_latents - latents.mean(axis=0)
    return float(r2_score(off, off @ kept.T @ kept, multioutput="variance_weighted"))


# ---------------------------------------------------------------------------------------------------------------------
# What a fit says of trials


class Inferred(NamedTuple):
    """Latents (sample, rank) and rates (sample, neuron), spikes per bin, of the samples before the ends of trials."""

    latents: Array
    rates: Array


def infer(fit: xr.Dataset, trials: xr.Dataset) -> dict[str, Inferred]:
    """Latents and rates of all neurons from the spikes of the held-in ones.

    "posterior": given all spikes of the trial. "free run": a run without noise, with the inputs, from the posterior
    mean of the first latents; so do the published networks run.
    """
    system, blind = system_of(fit), np.arange(trials.sizes["neuron"]) >= HELD_IN
    size = np.linalg.norm(system.m[: system.n_neurons], axis=0)
    found: dict[str, list[Inferred]] = {"posterior": [], "free run": []}
    for first in range(0, trials.sizes["trial"], _BLOCK):
        some = trials.isel(trial=slice(first, first + _BLOCK))
        arrays, seen = trials_for(fit, some, blind), some["observed"].values[..., 0]
        mean, covariance, _ = posterior_of(system, arrays)
        rates = rates_of(system, arrays, mean, covariance)[0]
        found["posterior"].append(Inferred((mean * size)[seen], (DT_S * rates)[seen]))
        latents, rates = free_run(system, arrays.v, mean[:, 0])
        found["free run"].append(Inferred((latents * size)[seen], (DT_S * rates)[seen]))
    return {name: Inferred(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in found.items()}


def free_run(system: System, v: Array, first: Array) -> tuple[Array, Array]:
    """Latents (trial, time, rank) and rates (trial, time, neuron), Hz, of a run without noise from first latents."""
    latents = [first]
    for t in range(v.shape[1] - 1):
        drive = (v[:, t] @ system.weights.T + system.bias)[:, None]
        r = features_of(system, latents[-1][:, None], Context(drive, drive, None, None, system.m.T))[0]
        latents.append(next_latent(system, latents[-1][:, None], r)[:, 0])
    found, n = np.stack(latents, axis=1), system.n_neurons
    x = found @ system.m[:n].T + v @ system.weights[:n].T + system.bias[:n]
    return found, np.exp(np.minimum(system.level + x, MAX_LOG_RATE))


def attractors(network: xr.Dataset, states: Array) -> Array:
    """States (point, unit) at which runs of the network without input and noise end."""
    h, u = states, np.zeros(network.sizes["input"])
    for _ in range(_SETTLING):
        h = gated_step(network, u, h)
    apart, found = _SAME_POINT * np.sqrt(states.var(axis=0).sum()), h[:1]
    for one in h[1:]:
        if np.linalg.norm(found - one, axis=1).min() > apart:
            found = np.concatenate([found, one[None]])
    return found


def compare_points(fit: xr.Dataset, simulated: Simulated, network: xr.Dataset) -> dict[str, float]:
    """Stable fixed points of the fit without input, and the ends of runs of the network without input and noise.

    ``stable`` counts the points, ``stable_network`` the ends that are apart; a network may have several ends, or slow
    ones, for the same bits. ``matched`` counts the ends to which exactly one point is the nearest, by log rates, and
    ``points_r2`` is R² of the log rates of these.
    """
    states = simulated.states[~simulated.test]
    true = simulated.log_rates_of(attractors(network, states[:_STARTS, -1]))
    points = fixed_points(fit, input=None)
    kappa = points["kappa"].values[points["stability"].values == "stable"]
    recorded = fit["recorded"].values
    x = kappa @ fit["m"].values[recorded].T + fit["bias"].values[recorded] + fit["log_rate"].values[recorded]
    found = x + np.log(DT_S)
    nearest = np.array([np.linalg.norm(true - one, axis=1).argmin() for one in found], int)
    only = [k for k in range(len(true)) if (nearest == k).sum() == 1]
    mine = np.array([found[nearest == k][0] for k in only]).reshape(-1, true.shape[1])
    r2 = r2_score(true[only], mine, multioutput="variance_weighted") if len(only) > 1 else np.nan
    return {"stable": len(found), "stable_network": len(true), "matched": len(only), "points_r2": float(r2)}


# ---------------------------------------------------------------------------------------------------------------------
# The experiment


class Size(NamedTuple):
    """How large the part of a task is.

    ``trials`` are simulated. EM, with ``max_iter`` iterations, sees ``fitted`` of the training trials, and the gradient
    of free runs all of them, ``epochs`` times. ``updates`` are those of the training of the network (None: as many as
    its plan has), and ``steps`` those of a trial of the flip-flop.
    """

    trials: int
    fitted: int
    rank: int
    hidden: int
    max_iter: int
    epochs: int
    updates: int | None = None
    steps: int = 500


_MAPPED = 60  # training trials that maps between latents, states and rates are made on
_SCORED = 300  # test trials that are scored, for time; they are in random order
_SAVED_TRIALS = 8  # of a saved fit
_BLOCK = 100  # trials that are scored together, for memory
_STARTS = 200  # training trials whose last states are followed to attractors
_SETTLING = 3000  # steps
_SAME_POINT = 0.05  # distance of states that count as one, in standard deviations of all states
_MODELS = ("posterior", "free run")
_SCORES = ("rate_r2", "state_r2", "bits", "cycle_consistency")
_LABELS = dict(zip(_SCORES, (
    "rate R²", "state R²", "bits per spike (published: of held-in neurons too)",
    "cycle consistency (ours: near 1 by construction)",
), strict=True))  # fmt: skip
_PANELS = dict(zip(_SCORES, ("rate R²", "state R²", "bits per spike", "cycle consistency"), strict=True))
_CLAIMED = _SCORES[:3]  # what a fit can fail at
_POINTS = ("stable", "stable_network", "matched", "points_r2")
_CEILINGS = ("bits_true_rates", "rate_r2_true_run", "bits_true_run")
_COLUMNS = (
    "task", "seed", "rank", "units", "model", *_SCORES, *_CEILINGS, *_POINTS, "network_error", "train_s", "fit_s",
)  # fmt: skip

# The rank of the fifteen tasks makes the best R² of rates .967 on a network of seed 101; their hidden units and
# epochs were chosen on the network of seed 0, which is reported (see the notes of the page). The rest was tuned on
# the flip-flop network of seed 101. With the hidden units of other fits (hidden_scale=None) the run without noise
# left the right state: R² of rates -.56 in place of .70 at rank 8.
_HIDDEN_SCALE = 0.7
SIZES = {
    "flip-flop": Size(1000, 60, 20, 240, 5, 25),
    "multitask": Size(500 * len(TASKS), 80, 32, 300, 5, 30, updates=1000),
}
QUICK = Size(60, 40, 4, 60, 4, 6, updates=120, steps=60)


def measure(data: None, *, task: str, seed: int, size: Size, fits: str) -> Result:
    """Train a network, simulate its spikes, fit, and score."""
    start = perf_counter()
    network = train_gated(task, seed=seed, updates=size.updates)
    trained = perf_counter()
    simulated = simulate_spikes(network, _task_trials(task, size, seed), seed)
    fit = fitted(simulated, size, seed)
    ended = perf_counter()
    train, test = np.flatnonzero(~simulated.test), np.flatnonzero(simulated.test)[:_SCORED]
    rows = scores_of(fit, simulated, train[:_MAPPED], test)
    ceilings = ceilings_of(network, simulated, test)
    few = fit.isel(condition=slice(0, _SAVED_TRIALS))
    save_with_results(few, Path(fits) / f"ctd_{task}_seed{seed}.nwb", {})
    shared = {"task": task, "seed": seed, "rank": size.rank, "units": size.hidden + HELD_IN + HELD_OUT}
    shared |= ceilings | {"network_error": network.attrs["error"]}
    shared |= compare_points(fit, simulated, network) if task == "flip-flop" else dict.fromkeys(_POINTS, np.nan)
    shared |= {"train_s": trained - start, "fit_s": ended - trained}
    return {name: np.array([(shared | row)[name] for row in rows]) for name in _COLUMNS}


def fitted(simulated: Simulated, size: Size, seed: int) -> xr.Dataset:
    """The fit of the training trials: EM on some of them, then the gradient of free runs on all."""
    train = np.flatnonzero(~simulated.test)
    some = simulated.trials.isel(trial=train[: size.fitted])
    options = TrialFitOptions.check({
        "rank": size.rank, "tau_s": DT_S, "hidden": size.hidden, "hidden_scale": _HIDDEN_SCALE, "seed": seed,
        "max_iter": size.max_iter,
    })  # fmt: skip
    fit = fit_trials_with(some, options, np.zeros(len(some["trial"]), bool), scored=False)
    all_of = trials_for(fit, simulated.trials.isel(trial=train))
    system = refined(system_of(fit), all_of, size.epochs, seed)[0]
    return with_posterior(fit, system, some, scored=False)


def _task_trials(task: str, size: Size, seed: int) -> xr.Dataset:
    """Trials of the task in random order."""
    if task == "flip-flop":
        return flip_flop(size.trials, 1000 + seed, n_steps=size.steps or 500)
    trials = multitask(size.trials // len(TASKS), 1000 + seed)
    order = np.random.default_rng([seed, 30]).permutation(trials.sizes["trial"])
    return trials.isel(trial=order, time=slice(0, int(trials["n_steps"].max())))


def scores_of(fit: xr.Dataset, simulated: Simulated, train: Array, test: Array) -> list[dict[str, Any]]:
    """A row of scores for each way to infer latents, with maps made on the trials ``train``, on the trials ``test``."""
    seen = simulated.trials["observed"].values[..., 0]
    before, after = (infer(fit, simulated.trials.isel(trial=some)) for some in (train, test))
    states, test_states = (simulated.states[some][seen[some]] for some in (train, test))
    rates, count = simulated.rates[test][seen[test]], simulated.trials["count"].values[test][seen[test]]
    out = []
    for model in _MODELS:
        one, two = before[model], after[model]
        out.append({
            "model": model,
            "rate_r2": rate_r2(rates, two.rates),
            "state_r2": state_r2((states, one.latents), (test_states, two.latents)),
            "bits": co_smoothing_bits(two.rates[:, HELD_IN:], count[:, HELD_IN:]),
            "cycle_consistency": cycle_consistency(one.latents, np.log(one.rates), two.latents),
        })  # fmt: skip
    return out


def ceilings_of(network: xr.Dataset, simulated: Simulated, test: Array) -> dict[str, float]:
    """Scores of the true rates, which no fit exceeds but by chance, and of a run of the true network without noise.

    The run begins with the true states at the first bin of the trials ``test``.
    """
    seen = simulated.trials["observed"].values[test][..., 0]
    u = simulated.inputs[test]
    states = [simulated.states[test][:, 0]]
    for t in range(1, u.shape[1]):
        states.append(gated_step(network, u[:, t], states[-1]))
    found = np.exp(simulated.log_rates_of(np.stack(states, axis=1)))[seen]
    rates, count = simulated.rates[test][seen], simulated.trials["count"].values[test][seen][:, HELD_IN:]
    return {
        "bits_true_rates": co_smoothing_bits(rates[:, HELD_IN:], count),
        "rate_r2_true_run": rate_r2(rates, found),
        "bits_true_run": co_smoothing_bits(found[:, HELD_IN:], count),
    }


def tasks(setting: Setting) -> Tasks:
    """Quick: a small flip-flop network. Full: a network of each task, as in the benchmark."""
    sizes = {"flip-flop": QUICK} if setting.quick else SIZES
    return [(None, {"task": task, "seed": 0, "size": size, "fits": str(setting.fits)}) for task, size in sizes.items()]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """A panel for each score, a line for each way to infer latents and for each published model, tasks along x."""
    rows = [
        (title, f"ours, {one.model}", one.task, getattr(one, name))
        for one in table.itertuples()
        for name, title in _PANELS.items()
    ]
    rows += [
        (title, f"published, {model}", task, number)
        for (task, model), numbers in CTD.items()
        if task in set(table["task"])
        for title, number in zip(_PANELS.values(), numbers, strict=True)
    ]
    return pd.DataFrame(rows, columns=["panel", "line", "x", "y"])


def compare(table: pd.DataFrame) -> Comparison:
    """Every published number beside the median of ours."""
    rows = []
    for (task, model), published in CTD.items():
        for kind in _MODELS:
            mine = table[(table["task"] == task) & (table["model"] == kind)]
            if len(mine):
                reasons = _reasons(mine, kind)
                rows += [
                    Cell(f"{task}, {model} (ours: {kind}): {_LABELS[name]}", number, float(mine[name].median()),
                         True if name in _CLAIMED else None, reasons[name])
                    for name, number in zip(_SCORES, published, strict=True)
                ]  # fmt: skip
    return rows


_LIMITS = {  # of each task: ranks, the best R² of their rates, and what was seen in runs without noise
    "flip-flop": (
        "12, 16, 20 and 24", ".963, .975, .982 and .987",
        "On that network, runs have the wrong bits in 4 % of the bins, and many small directions are not found (R² .93 "
        "where the bits are right).",
    ),
    "multitask": (
        "20, 24, 32 and 40", ".923, .944, .967 and .982",
        "360 units share fifteen tasks. With 200 units, runs without noise had R² .863, so that more units would give "
        "more.",
    ),
}  # fmt: skip


def _reasons(mine: pd.DataFrame, kind: str) -> dict[str, str]:
    """Why a score may be below the published one."""
    rank, bits, run_r2, run_bits = (
        mine[name].median() for name in ("rank", "bits_true_rates", "rate_r2_true_run", "bits_true_run")
    )
    ranks, best, in_runs = _LIMITS[mine["task"].iloc[0]]
    model = (
        f"Rank {rank:.0f} leaves out directions of a network of 64 dimensions (best log rates of rank {ranks} of "
        f"another network, seed 101: R² {best}). "
    )
    model += (
        in_runs
        if kind == "free run"
        else "The noise that the posterior expects is that of the steps that the run without noise does not predict."
    )
    if kind == "free run":
        model += f" A run of the true network without noise has R² {run_r2:.3f} and {run_bits:.3f} bits."
    ceiling = f"The true rates of these held-out neurons give {bits:.3f}; those of the published network are not known."
    return {"rate_r2": model, "state_r2": model, "bits": f"{model} {ceiling}", "cycle_consistency": ""}


def claims(table: pd.DataFrame) -> Claims:
    """What must hold of a full run, for every network."""
    found = []
    for task in dict.fromkeys(table["task"]):
        some = table[(table["task"] == task) & (table["model"] == "posterior")]
        if some.empty:
            continue
        best = np.max([numbers for (one, _), numbers in CTD.items() if one == task], axis=0)
        for name, number in zip(_CLAIMED, best[: len(_CLAIMED)], strict=True):
            lowest = some[name].min()
            found.append(
                (f"{task}: {_LABELS[name]} above the best published ({number:.3f}) in every network (lowest: "
                 f"{lowest:.3f})", bool(lowest > number))
            )  # fmt: skip
    points = table[(table["task"] == "flip-flop") & (table["model"] == "posterior")]
    if len(points):
        all_found = (points["stable"] == 8) & (points["matched"] == 8)
        numbers = ", ".join(f"{one:.0f}" for one in points["matched"])
        found.append((f"flip-flop: eight stable points, each nearest to another end of runs of the network ({numbers})",
                      bool(all_found.all())))  # fmt: skip
    lacking = [task for task in SIZES if task not in set(table["task"])]
    found.append((f"both tasks were run{' (not: ' + ', '.join(lacking) + ')' if lacking else ''}", not lacking))
    return found


EXPERIMENT = Experiment(
    title="Computation-through-Dynamics Benchmark",
    labels=("", ""),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["ctd"],
    compare=compare,
)
