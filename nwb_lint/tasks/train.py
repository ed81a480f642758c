"""Task networks trained to criterion, and how often a network answers right.

A network is the part of a fit that simulates, so `nwb_lint.model.simulate.run` runs it on trials as it is:

| name | dims | unit |
|---|---|---|
| J, or m and n | neuron, neuron_from; neuron, rank | 1 |
| input_weights | neuron, input | 1 |
| readout | neuron | 1: the output is z = readout' phi(x) / N |
| bias, initial_activation | neuron | 1, 0 |

with ``input`` and the attributes task, g (NaN for low rank), seed, accuracy, private_noise, dt_s, tau_s and
nonlinearity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from tqdm import tqdm

from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import effective_n
from nwb_lint.model.simulate import run
from nwb_lint.tasks.generate import DT_S, TASKS, TAU_S, as_conditions

Array = np.ndarray

# sd per step of the noise inside the dynamics, not scaled by alpha; the working-memory network bears less
PRIVATE_NOISE = {"dm": 0.05, "wm": 0.01, "cdm": 0.05, "dms": 0.05, **{f"{k}-back": 0.05 for k in (1, 2, 3, 4)}}


class Stage(NamedTuple):
    """One stretch of training: options of the task, learning rate, trials an update, most updates, its criterion, and
    what alone is trained (nothing named: all)."""

    options: dict[str, Any]
    rate: float
    batch: int
    updates: int
    accuracy: float = 0.99
    only: tuple[str, ...] = ()


_FULL_RATE, _LOW_RATE = 1e-4, 1e-2
# delays are lengthened in steps; a network that has them long from the start stays at chance
FULL = {
    "cdm": [Stage({}, _FULL_RATE, 32, 750)],
    "wm": [Stage({"delay_ms": (500, 1000)}, 1e-4, 64, 200, 0.98), Stage({}, 1e-4, 64, 400)],
    "dms": [
        Stage({"delay_ms": (100, 300)}, 1e-4, 32, 400),
        Stage({"delay_ms": (500, 1000)}, 1e-4, 32, 200),
        Stage({}, 1e-4, 32, 200),
    ],
    **{f"{k}-back": [Stage({}, 2e-4, 64, 1600)] for k in (3, 4)},
}
# before that, where g is small: there a network stays at chance for some 350 updates even with hardly any delay, and
# for more than 500 where input weights and readout change with J
SMALL_G, FIRST = 0.5, {"dms": [Stage({"delay_ms": (0, 100)}, 1e-4, 64, 1000, only=("J",))]}
# tasks with a memory: a low-rank network from a random start, or from the truncated J, stays at chance with DMS; what
# LINT finds in the activity of a trained full-rank one answers right from the start, and training goes on from there
LOW = {
    "wm": [Stage({}, 1e-3, 64, 400)],
    "dms": [Stage({}, 1e-3, 32, 200)],
}
_FITTED = 100  # trials that the fit of a full-rank network sees


def train_network(
    task: str,
    *,
    n_neurons: int = 512,
    g: float = 0.8,
    rank: int | None = None,
    seed: int = 0,
    accuracy: float = 0.99,
    error: float = np.inf,
    progress: bool = False,
) -> xr.Dataset:
    """A network that answers a task's fresh trials right with at least the share ``accuracy``.

    Full rank: J starts as N(0, g²/N), input weights and readout as N(0, 1); all are trained, at one rate of J, input
    weights and readout / N, as in the paper's code. Rank R: m, n and the input weights start as N(0, 1) and are
    trained; for working memory and delayed match they start from the rank-R network that `fit_lint` finds in the
    activity of a full-rank one, whose J alone was trained (again as there), its delay lengthened in steps. The readout
    stays what it was drawn as: N(0, 16), or N(0, 1) for those two. Trained and looked at with noise of `PRIVATE_NOISE`
    in the dynamics.

    Args:
        task: a name of `nwb_lint.tasks.generate.TASKS`.
        g: sd of sqrt(N) J at the start. rank: None = full.
        accuracy: share of right answers on 1000 fresh trials at which training ends.
        error: largest mean squared error of the output over the response windows, smoothed over updates, at which it
            may end: right answers come before distinct ones. It ends above it where the updates are used up.

    Returns: the network (see the head of this module), its accuracy among the attributes.

    Raises: ContractError for an unknown task or a number out of its range, and where the criterion is not reached.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 3 and appendix; their training scripts
    (github.com/adrian-valente/lowrank_inference).

    Example:
        >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
        >>> network.attrs["accuracy"] >= 0.9
        True
    """
    _check(task, n_neurons, g, rank, accuracy, error)
    rng = np.random.default_rng([seed, 7])
    inputs = TASKS[task](1, 0).sizes["input"]
    weights = {"input_weights": rng.standard_normal((n_neurons, inputs)), "readout": rng.standard_normal(n_neurons)}
    with tqdm(disable=not progress, desc=f"train {task}", unit="update") as bar:
        if rank is None or task in LOW:
            start = g * rng.standard_normal((n_neurons, n_neurons)) / np.sqrt(n_neurons)
            stages = FULL.get(task, [Stage({}, _FULL_RATE, 64, 400)])
            if g < SMALL_G:
                stages = FIRST.get(task, []) + stages
            trained, goal = {"J": 1.0}, (accuracy, np.inf)
            if rank is None:  # steps of the readout as it enters z, readout / N
                trained, goal = trained | {"input_weights": 1.0, "readout": float(n_neurons)}, (accuracy, error)
            weights, share = _train(task, weights | {"J": start}, trained, stages, seed, goal, bar)
        if rank is not None:
            if task in LOW:
                weights = _fitted(weights, task, rank, seed)
            else:
                m, n = rng.standard_normal((2, n_neurons, rank))
                weights |= {"m": m, "n": n, "readout": 4 * weights["readout"]}
            stages = LOW.get(task, [Stage({}, _LOW_RATE, 64, 600)])
            trained = {"m": 1.0, "n": 1.0, "input_weights": 1.0}
            weights, share = _train(task, weights, trained, stages, seed, (accuracy, error), bar)
    if share < accuracy:
        raise ContractError(
            f"a network of {n_neurons} neurons for {task} reached an accuracy of {share:.3f}; {accuracy:g} was asked "
            "for. Take another seed, more neurons or another g."
        )
    return network_dataset(weights, task, seed=seed, g=g if rank is None else np.nan, accuracy=share)


def _check(task: str, n_neurons: int, g: float, rank: int | None, accuracy: float, error: float) -> None:
    if task not in TASKS:
        raise ContractError(f"no task {task!r}; there are {', '.join(TASKS)}.")
    if n_neurons < 2 or (rank is not None and not 1 <= rank <= n_neurons):
        raise ContractError(f"rank {rank} of {n_neurons} neurons; it needs 2 neurons or more and a rank from 1 on.")
    if not 0 <= g < np.inf or not 0.5 < accuracy <= 1:
        raise ContractError(f"g is {g} and accuracy {accuracy}; they need 0 or more, and above 0.5 up to 1.")
    if not error > 0:
        raise ContractError(f"error is {error}; it needs a number above 0.")


def _train(
    task: str,
    weights: dict[str, Array],
    trained: dict[str, float],
    stages: list[Stage],
    seed: int,
    goal: tuple[float, float],
    bar: tqdm,
) -> tuple[dict[str, Array], float]:
    """The stages in a row, the last until ``goal``: an accuracy at least, and an error at most."""
    from nwb_lint.tasks._torch import train

    rng = np.random.default_rng([seed, 8])

    def report(update: int, loss: float, share: float) -> None:
        bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{share:.2f}", refresh=False)
        bar.update()

    share = 0.0
    for number, stage in enumerate(stages):

        def draw(n_trials: int, options: dict[str, Any] = stage.options) -> tuple[Array, Array, Array, Array]:
            trials = TASKS[task](n_trials, int(rng.integers(2**31)), **options)
            target = trials["target"].values[..., 0]
            mask, answer = (trials[name].values.astype(np.float32) for name in ("mask", "answer"))
            return trials["u"].values, target, mask, answer

        last, these = number == len(stages) - 1, {name: trained[name] for name in stage.only or trained}
        weights, share = train(
            weights, these, draw, alpha=DT_S / TAU_S, noise=PRIVATE_NOISE[task], rate=stage.rate, batch=stage.batch,
            updates=stage.updates, accuracy=goal[0] if last else min(goal[0], stage.accuracy),
            error=goal[1] if last else np.inf, seed=seed + number, report=report,
        )  # fmt: skip
    return weights, share


def _fitted(weights: dict[str, Array], task: str, rank: int, seed: int) -> dict[str, Array]:
    """The rank-R network that LINT finds in a full-rank network's activity, m and n of the same length by column."""
    from nwb_lint.tasks.record import record_activity  # which needs this room's networks

    activity = record_activity(network_dataset(weights, task), _FITTED, seed=seed)
    fit = fit_lint(activity, rank=rank, tau_s=TAU_S, method="regression", loss="rate", seed=seed)
    m, n = fit["m"].values, fit["n"].values
    scale = np.sqrt(np.linalg.norm(n, axis=0) / np.linalg.norm(m, axis=0))
    return {"m": m * scale, "n": n / scale, "input_weights": fit["input_weights"].values, "readout": weights["readout"]}


def network_dataset(
    weights: dict[str, Array], task: str, *, seed: int = 0, g: float = np.nan, accuracy: float = np.nan
) -> xr.Dataset:
    """The network Dataset (see the head of this module) of arrays J, or m and n; input_weights; readout."""
    size = len(weights["input_weights"])
    trials = TASKS[task](1, 0)
    dims = {
        "J": ("neuron", "neuron_from"), "m": ("neuron", "rank"), "n": ("neuron", "rank"),
        "input_weights": ("neuron", "input"), "readout": ("neuron",),
    }  # fmt: skip
    arrays = {name: np.asarray(value, float) for name, value in weights.items()}
    return xr.Dataset(
        {name: (dims[name], value) for name, value in arrays.items()}
        | {name: (("neuron",), np.zeros(size)) for name in ("bias", "initial_activation")},
        {"neuron": [str(k) for k in range(size)], "input": trials["input"]},
        {
            "task": task, "seed": seed, "g": float(g), "accuracy": float(accuracy), "nonlinearity": "tanh",
            "private_noise": PRIVATE_NOISE[task], "dt_s": DT_S, "tau_s": TAU_S,
        },
    )  # fmt: skip


def accuracy_of(network: xr.Dataset, trials: xr.Dataset, readout: Array | xr.DataArray | None = None) -> float:
    """Share of trials in whose response window the mean output of a free run has the sign of the answer.

    z = readout' phi(x) / N, without noise in the dynamics. ``network`` is a network or a fit; a fit has no readout of
    its own, and is given that of the network that it was fitted to.

    Raises: ContractError where there is no readout or it does not fit the neurons.

    Example:
        >>> from nwb_lint.tasks.generate import decision_making
        >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
        >>> accuracy_of(network, decision_making(200, 5)) > 0.8
        True
    """
    if readout is None:
        if "readout" not in network:
            raise ContractError("the network has no readout; give the one of the network that it was fitted to.")
        readout = network["readout"]
    w = np.asarray(readout, float)
    if w.shape != (network.sizes["neuron"],):
        raise ContractError(f"readout has shape {w.shape}; it needs one number per neuron, {network.sizes['neuron']}.")
    x = run(network, as_conditions(trials))["activity"].values
    return share_right(np.tanh(x) @ w / len(w), trials)


def share_right(output: Array, trials: xr.Dataset) -> float:
    """Share of trials whose mean output (trial, time) in the response window has the sign of the answer."""
    total = (output * trials["mask"].values).sum(axis=1)
    return float((np.sign(total) == trials["answer"].values).mean())


def effective(network: xr.Dataset) -> Array:
    """m (P n)' / N, P the projector on span(m, I): (neuron, neuron_from), of a low-rank network."""
    m, n = network["m"].values, network["n"].values
    return m @ effective_n(m, n, network["input_weights"].values).T / len(m)
