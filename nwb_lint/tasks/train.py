"""Networks trained on the tasks, and the share of their right answers.

A network is the part of a fit that simulates, so `nwb_lint.model.simulate.run` runs it on trials:

| name | dims | content |
|---|---|---|
| J, or m and n | neuron, neuron_from; neuron, rank | connectivity, dimensionless |
| input_weights | neuron, input | dimensionless |
| readout | neuron | dimensionless: the output is z = readout' phi(x) / N |
| bias, initial_activation | neuron | 0 |

The coordinate ``input`` names the inputs. Attributes: task, g (NaN for low rank), seed, accuracy, private_noise, dt_s,
tau_s and nonlinearity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from tqdm.std import tqdm

from nwb_lint.errors import ContractError
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import effective_n
from nwb_lint.model.simulate import run
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.tasks.generate import DT_S, TASKS, TAU_S, as_conditions

Array = np.ndarray

# sd per step of the noise in the dynamics, not scaled by alpha; working memory fails with more than this
PRIVATE_NOISE = {"dm": 0.05, "wm": 0.01, "cdm": 0.05, "dms": 0.05, **{f"{k}-back": 0.05 for k in (1, 2, 3, 4)}}


class Stage(NamedTuple):
    """One part of a training.

    ``options`` are those of the task, ``rate`` is the learning rate, ``batch`` the trials of an update, ``updates`` the
    largest number of updates, ``accuracy`` the share of right answers that ends it, and ``only`` the weights that are
    trained (empty: all).
    """

    options: dict[str, Any]
    rate: float
    batch: int
    updates: int
    accuracy: float = 0.99
    only: tuple[str, ...] = ()


_FULL_RATE, _LOW_RATE = 1e-4, 1e-2  # learning rates of full and of low rank
# The delay grows in steps. With long delays from the start, the network stays at chance.
FULL_RANK_STAGES = {
    "cdm": [Stage({}, _FULL_RATE, 32, 750)],
    "wm": [Stage({"delay_ms": (500, 1000)}, 1e-4, 64, 200, 0.98), Stage({}, 1e-4, 64, 400)],
    "dms": [
        Stage({"delay_ms": (100, 300)}, 1e-4, 32, 400),
        Stage({"delay_ms": (500, 1000)}, 1e-4, 32, 200),
        Stage({}, 1e-4, 32, 200),
    ],
    **{f"{k}-back": [Stage({}, 2e-4, 64, 1600)] for k in (3, 4)},
}
# The first stages for g below SMALL_G. Such a network stays at chance for about 350 updates, even with short delays,
# and for more than 500 if input weights and readout change with J.
SMALL_G = 0.5
SMALL_G_STAGES = {"dms": [Stage({"delay_ms": (0, 100)}, 1e-4, 64, 1000, only=("J",))]}
# Tasks with a memory. From a random start, or from a truncated J, a low-rank network stays at chance with DMS. So
# training starts from the fit of a trained full-rank network, which answers right from the start.
LOW_RANK_STAGES = {
    "wm": [Stage({}, 1e-3, 64, 400)],
    "dms": [Stage({}, 1e-3, 32, 200)],
}
_FITTED_TRIALS = 100  # of the full-rank network


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
    """Train a network until it answers at least the share ``accuracy`` of new trials right.

    Full rank: J starts as N(0, g²/N), input weights and readout as N(0, 1). J, the input weights and readout / N are
    trained at one learning rate, as in the code of the paper. Low rank: m, n and the input weights start as N(0, 1) and
    are trained. The readout stays N(0, 16).

    Working memory and delayed match of low rank start from a trained full-rank network: `nwb_lint.fit_lint` fits its
    activity, and training goes on from this fit. The readout stays N(0, 1). In their full-rank training the delay grows
    in steps.

    Parameters
    ----------
    task : str
        A name of `nwb_lint.tasks.generate.TASKS`.
    n_neurons : int, default=512
        Number of neurons.
    g : float, default=0.8
        Standard deviation of sqrt(N) J at the start.
    rank : int or None, default=None
        Rank of J. None trains the full matrix.
    seed : int, default=0
        Seed of the weights, the trials and the noise.
    accuracy : float, default=0.99
        Share of right answers, on 1000 new trials, at which training ends.
    error : float, default=inf
        Largest mean squared error of the output, over the response windows, at which training ends. The network can
        answer right long before its output is near the target. A network whose training ends before this error is kept.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        The network, as the module describes it. Its attribute ``accuracy`` is the share of right answers.

    Raises
    ------
    ContractError
        If the task is unknown, a number is out of its range, or the accuracy is not reached.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 3 and appendix, and their training scripts
    (github.com/adrian-valente/lowrank_inference).

    Examples
    --------
    >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
    >>> network.attrs["accuracy"] >= 0.9
    True
    """
    _check(task, n_neurons, g, rank, accuracy, error)
    rng = np.random.default_rng([seed, 7])
    inputs = TASKS[task](1, 0).sizes["input"]
    weights = {"input_weights": rng.standard_normal((n_neurons, inputs)), "readout": rng.standard_normal(n_neurons)}
    with progress_bar(progress, f"train {task}", unit="update") as bar:
        if rank is None or task in LOW_RANK_STAGES:
            start = g * rng.standard_normal((n_neurons, n_neurons)) / np.sqrt(n_neurons)
            stages = FULL_RANK_STAGES.get(task, [Stage({}, _FULL_RATE, 64, 400)])
            if g < SMALL_G:
                stages = SMALL_G_STAGES.get(task, []) + stages
            trained, goal = {"J": 1.0}, (accuracy, np.inf)
            if rank is None:  # z uses readout / N, so the steps of the readout are N times as large
                trained, goal = trained | {"input_weights": 1.0, "readout": float(n_neurons)}, (accuracy, error)
            weights, share = _train(task, weights | {"J": start}, trained, stages, seed, goal, bar)
        if rank is not None:
            if task in LOW_RANK_STAGES:
                weights = _fitted(weights, task, rank, seed)
            else:
                m, n = rng.standard_normal((2, n_neurons, rank))
                weights |= {"m": m, "n": n, "readout": 4 * weights["readout"]}
            stages = LOW_RANK_STAGES.get(task, [Stage({}, _LOW_RATE, 64, 600)])
            trained = {"m": 1.0, "n": 1.0, "input_weights": 1.0}
            weights, share = _train(task, weights, trained, stages, seed, (accuracy, error), bar)
    if share < accuracy:
        raise ContractError(
            f"A network of {n_neurons} neurons for {task} reached an accuracy of {share:.3f}. It needs {accuracy:g}. "
            "Try another seed, more neurons or another g."
        )
    return network_dataset(weights, task, seed=seed, g=g if rank is None else np.nan, accuracy=share)


def _check(task: str, n_neurons: int, g: float, rank: int | None, accuracy: float, error: float) -> None:
    if task not in TASKS:
        raise ContractError(f"There is no task {task!r}. Choose from {', '.join(TASKS)}.")
    if n_neurons < 2 or (rank is not None and not 1 <= rank <= n_neurons):
        raise ContractError(
            f"n_neurons is {n_neurons} and rank is {rank}. It needs 2 neurons and a rank up to n_neurons."
        )
    if not 0 <= g < np.inf or not 0.5 < accuracy <= 1:
        raise ContractError(f"g is {g} and accuracy is {accuracy}. g needs at least 0, accuracy 0.5 to 1.")
    if not error > 0:
        raise ContractError(f"error is {error}. It needs a number above 0.")


def _train(
    task: str,
    weights: dict[str, Array],
    trained: dict[str, float],
    stages: list[Stage],
    seed: int,
    goal: tuple[float, float],
    bar: tqdm,
) -> tuple[dict[str, Array], float]:
    """Train through all stages, the last until ``goal``: the lowest accuracy and the largest error."""
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
    """The network of low rank that `fit_lint` finds in the activity of a full-rank one. Columns of m and n have equal
    length.
    """
    from nwb_lint.tasks.record import record_activity

    activity = record_activity(network_dataset(weights, task), _FITTED_TRIALS, seed=seed)
    fit = fit_lint(activity, rank=rank, tau_s=TAU_S, method="regression", loss="rate", seed=seed)
    m, n = fit["m"].values, fit["n"].values
    scale = np.sqrt(np.linalg.norm(n, axis=0) / np.linalg.norm(m, axis=0))
    return {"m": m * scale, "n": n / scale, "input_weights": fit["input_weights"].values, "readout": weights["readout"]}


def network_dataset(
    weights: dict[str, Array], task: str, *, seed: int = 0, g: float = np.nan, accuracy: float = np.nan
) -> xr.Dataset:
    """The network Dataset of these arrays: J, or m and n; input_weights; readout."""
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
    """Share of trials that a network answers right in a free run without noise.

    An answer is right if the mean output z = readout' phi(x) / N in the response window has the sign of the answer.

    Parameters
    ----------
    network : xarray.Dataset
        A network or a fit.
    trials : xarray.Dataset
        From a generator of `nwb_lint.tasks.generate`.
    readout : numpy.ndarray or xarray.DataArray or None, default=None
        Weights (neuron), dimensionless. None takes those of the network. A fit has none: give those of its network.

    Returns
    -------
    float
        The share, from 0 to 1.

    Raises
    ------
    ContractError
        If there is no readout, or it has another number of neurons.

    Examples
    --------
    >>> from nwb_lint.tasks.generate import decision_making
    >>> network = train_network("dm", n_neurons=32, rank=1, seed=1, accuracy=0.9)
    >>> accuracy_of(network, decision_making(200, 5)) > 0.8
    True
    """
    if readout is None:
        if "readout" not in network:
            raise ContractError("The network has no readout. A fit has none. Give the readout of the fitted network.")
        readout = network["readout"]
    w = np.asarray(readout, float)
    if w.shape != (network.sizes["neuron"],):
        raise ContractError(
            f"readout has shape {w.shape}. It needs one number for each neuron, {network.sizes['neuron']}."
        )
    x = run(network, as_conditions(trials))["activity"].values
    return share_right(np.tanh(x) @ w / len(w), trials)


def share_right(output: Array, trials: xr.Dataset) -> float:
    """Share of trials whose mean output (trial, time) in the response window has the sign of the answer."""
    total = (output * trials["mask"].values).sum(axis=1)
    return float((np.sign(total) == trials["answer"].values).mean())


def effective_connectivity(network: xr.Dataset) -> Array:
    """Effective connectivity m (P n)' / N (neuron, neuron_from) of a low-rank network; P projects on span(m, I)."""
    m, n = network["m"].values, network["n"].values
    return m @ effective_n(m, n, network["input_weights"].values).T / len(m)
