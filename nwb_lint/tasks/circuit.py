"""A network of excitatory and inhibitory units that decides by context, as Langdon & Engel train it.

    x[t+1] = (1 - alpha) x[t] + alpha relu(W x[t] + B u[t] + noise xi[t]),    z[t] = C x[t],    x[0] = 0

with noise = (2 alpha)^(1/2) sigma, xi ~ N(0, 1). W obeys Dale's law; B and C are not negative. The six inputs are two
context cues, motion to the right and left, and color red and green; the two outputs are the choices.

References
----------
Langdon & Engel, Nature Neuroscience 2025, and github.com/engellab/latentcircuit, from which all constants are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError

Array = np.ndarray
Weights = dict[str, Array]

ALPHA, SIGMA, INPUT_SIGMA, BASELINE = 0.2, 0.15, 0.01, 0.2
DT_S = 0.01  # the authors give no unit of time; only alpha counts
STEPS, CUE, STIMULUS, DECISION = 75, (8, 25), 29, 55  # steps; cue and stimulus as in their task
MASKED = 56  # first step whose output counts in training
INPUTS = ("context motion", "context color", "motion right", "motion left", "color red", "color green")
_COHERENCES = tuple(np.linspace(-0.2, 0.2, 6))
_EXCITATORY = 0.8  # share of the units
_RADIUS = 1.5  # spectral radius at the start
_RATE, _DECAY, _BATCH, _EPOCHS = 0.01, 0.001, 128, 150
_ACTIVITY_WEIGHT = 0.05
_BETA = (0.9, 0.999)


class Start(NamedTuple):
    """Weights at the start, and the signs that they keep: of the columns of W, and where B and C may be above 0."""

    weights: Weights
    sign: Array
    readout_mask: Array


def context_choice(repeats: int, seed: int = 0) -> xr.Dataset:
    """Trials of every context, motion and color coherence, ``repeats`` of each, in random order.

    Parameters
    ----------
    repeats : int
        Trials of each of the 72 conditions, at least 1.
    seed : int, default=0
        Seed of the order and of the noise of the inputs.

    Returns
    -------
    xarray.Dataset
        ``u (condition, time, input)``, ``target (condition, time, output)``, float32, dimensionless; columns context,
        motion, color and choice on ``condition``.

    Raises
    ------
    ContractError
        If ``repeats`` is below 1.

    Examples
    --------
    >>> context_choice(1)["u"].shape
    (72, 75, 6)
    """
    if repeats < 1:
        raise ContractError(f"repeats is {repeats}. A condition needs at least 1 trial. Give a number from 1 on.")
    rng = np.random.default_rng(seed)
    rows = list(product(("motion", "color"), _COHERENCES, _COHERENCES)) * repeats
    rows = [rows[k] for k in rng.permutation(len(rows))]
    context, motion, color = (np.array(column) for column in zip(*rows, strict=True))
    u = np.zeros((len(rows), STEPS, len(INPUTS)))
    of_motion = context == "motion"
    u[of_motion, slice(*CUE), 0] = u[~of_motion, slice(*CUE), 1] = 1.2
    for first, coherence in ((2, motion), (4, color)):
        u[:, STIMULUS:, first], u[:, STIMULUS:, first + 1] = ((1 + s * coherence)[:, None] / 2 for s in (1, -1))
    noise = np.sqrt(2 / ALPHA) * INPUT_SIGMA
    u = np.maximum(u + BASELINE + noise * rng.standard_normal(u.shape), 0)
    choice = np.where(of_motion, motion, color) > 0
    target = np.full((len(rows), STEPS, 2), 0.2)
    target[choice, DECISION:, 0] = target[~choice, DECISION:, 1] = 1.2
    columns = {"context": context, "motion": motion, "color": color, "choice": np.where(choice, 1, -1)}
    return xr.Dataset(
        {
            "u": (("condition", "time", "input"), u.astype(np.float32)),
            "target": (("condition", "time", "output"), target.astype(np.float32)),
        },
        {"time": DT_S * np.arange(STEPS), "input": list(INPUTS)}
        | {name: ("condition", values) for name, values in columns.items()},
        {"bin_s": DT_S},
    )


def run_circuit(weights: Weights, u: Array, *, sigma: float = 0.0, seed: int = 0) -> Array:
    """Activity x (condition, time, unit), float32, of the network on inputs u (condition, time, input).

    Parameters
    ----------
    weights : dict of str to array
        ``W`` (unit, unit) and ``B`` (unit, input), from `train_circuit`.
    u : array of shape (condition, time, input)
    sigma : float, default=0
        Size of the noise; 0.15 in training.
    seed : int, default=0
        Seed of the noise.

    Returns
    -------
    array of shape (condition, time, unit)
    """
    return _forward(weights, u.astype(np.float32), sigma, np.random.default_rng(seed))[0]


def share_of_right_choices(weights: Weights, trials: xr.Dataset, x: Array) -> float:
    """Share of trials whose larger output, averaged over the decision, is the right one.

    Parameters
    ----------
    weights : dict of str to array
        With ``C`` (output, unit).
    trials : xarray.Dataset
        From `context_choice`.
    x : array of shape (condition, time, unit)
        Activity.

    Returns
    -------
    float
        From 0 to 1.
    """
    z = x[:, MASKED:].mean(axis=1) @ weights["C"].T
    return float((np.where(z[:, 0] > z[:, 1], 1, -1) == trials["choice"].values).mean())


def train_circuit(
    *,
    n_units: int = 50,
    repeats: int = 25,
    epochs: int = _EPOCHS,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Weights:
    """Train the network by Adam on the squared error of its output, with penalties on activity and on overlaps.

    Parameters
    ----------
    n_units : int, default=50
        Number of units, four fifths of them excitatory.
    repeats : int, default=25
        Trials of each condition.
    epochs : int, default=150
        Passes over the trials.
    seed : int, default=0
        Seed of weights, trials and noise.
    report : callable, optional
        Called with the epoch and its mean loss.

    Returns
    -------
    dict of str to array
        ``W`` (unit, unit), ``B`` (unit, input), ``C`` (output, unit), float64.

    Raises
    ------
    ContractError
        If there are fewer than 10 units.

    Examples
    --------
    >>> sorted(train_circuit(n_units=10, repeats=1, epochs=1))
    ['B', 'C', 'W']
    """
    if n_units < 10:
        raise ContractError(f"n_units is {n_units}. Both kinds of units and all inputs need some. Give at least 10.")
    rng, trials = np.random.default_rng([seed, 1]), context_choice(repeats, seed)
    start = _start(n_units, rng)
    weights = {name: value.astype(np.float32) for name, value in start.weights.items()}
    u, target = trials["u"].values, trials["target"].values
    moments = {name: np.zeros((2, *value.shape), np.float32) for name, value in weights.items()}
    step = 0
    for epoch in range(epochs):
        losses = []
        for some in _batches(len(u)):
            step += 1
            loss, slopes = loss_and_gradient(weights, u[some], target[some], SIGMA, rng)
            for name, slope in slopes.items():
                weights[name] = weights[name] - _adam_step(moments[name], slope + _DECAY * weights[name], step)
            weights = _constrained(weights, start)
            losses.append(loss)
        if report is not None:
            report(epoch, float(np.mean(losses)))
    return {name: value.astype(float) for name, value in weights.items()}


def _batches(size: int) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, size, _BATCH))


def _start(size: int, rng: np.random.Generator) -> Start:
    """Random weights: excitation and four times as strong inhibition, scaled to the spectral radius."""
    excitatory = np.arange(size) < round(_EXCITATORY * size)
    spread, mean = 1 / size, 1 / np.sqrt(size)
    sign = np.where(excitatory, 1.0, -1.0)
    w = rng.normal(np.where(excitatory, mean, 4 * mean), spread, (size, size)) * sign
    np.fill_diagonal(w, 0.0)
    w *= _RADIUS / np.abs(np.linalg.eigvals(w)).max()
    b = _RADIUS * rng.normal(mean, spread, (size, len(INPUTS)))
    c = rng.normal(mean, spread, (2, size)) * excitatory
    return Start({"W": w, "B": b, "C": c}, sign, excitatory.astype(np.float32))


def _constrained(weights: Weights, start: Start) -> Weights:
    sign = start.sign.astype(np.float32)
    w = np.maximum(weights["W"] * sign, 0) * sign
    np.fill_diagonal(w, 0.0)
    return {"W": w, "B": np.maximum(weights["B"], 0), "C": np.maximum(weights["C"], 0) * start.readout_mask}


def _adam_step(moments: Array, slope: Array, step: int) -> Array:
    """The step of Adam, with its moments brought up to date."""
    for moment, beta, value in zip(moments, _BETA, (slope, slope**2), strict=True):
        moment *= beta
        moment += (1 - beta) * value
    first, second = (moment / (1 - beta**step) for moment, beta in zip(moments, _BETA, strict=True))
    return _RATE * first / (np.sqrt(second) + 1e-8)


def _forward(weights: Weights, u: Array, sigma: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """x (trial, time, unit), and where the units are active, (trial, time - 1, unit)."""
    w, b = weights["W"].astype(u.dtype), weights["B"].astype(u.dtype)
    drive = u @ b.T
    if sigma:
        drive = drive + (np.sqrt(2 * ALPHA) * sigma * rng.standard_normal(drive.shape)).astype(u.dtype)
    x = np.zeros_like(drive)
    active = np.zeros((len(u), u.shape[1] - 1, len(w)), bool)
    for t in range(u.shape[1] - 1):
        h = x[:, t] @ w.T + drive[:, t]
        active[:, t] = h > 0
        x[:, t + 1] = (1 - ALPHA) * x[:, t] + ALPHA * np.maximum(h, 0)
    return x, active


def loss_and_gradient(
    weights: Weights, u: Array, target: Array, sigma: float, rng: np.random.Generator
) -> tuple[float, Weights]:
    """The loss of training and its slopes: error of the output after `MASKED`, size of x, overlaps of columns.

    Parameters
    ----------
    weights : dict of str to array
        W, B, C.
    u, target : array of shape (trial, time, input), (trial, time, output)
    sigma : float
        Size of the noise.
    rng : numpy.random.Generator
        Of the noise.

    Returns
    -------
    loss : float
    slopes : dict of str to array
        Of W, B and C.
    """
    x, active = _forward(weights, u, sigma, rng)
    w, c = (weights[name].astype(x.dtype) for name in ("W", "C"))
    error = x @ c.T - target
    error[:, :MASKED] = 0
    loss = float(np.square(error).mean() + _ACTIVITY_WEIGHT * np.square(x).mean())
    slope = 2 * error / error.size
    direct = slope @ c + 2 * _ACTIVITY_WEIGHT * x / x.size
    slopes = {"C": np.einsum("cto,ctn->on", slope, x)}
    back = direct[:, -1]
    into = np.zeros_like(direct[:, :-1])
    for t in range(x.shape[1] - 2, -1, -1):
        into[:, t] = ALPHA * back * active[:, t]
        back = direct[:, t] + (1 - ALPHA) * back + into[:, t] @ w
    flat = into.reshape(-1, len(w))
    slopes["W"] = flat.T @ x[:, :-1].reshape(-1, len(w))
    slopes["B"] = flat.T @ u[:, :-1].reshape(-1, u.shape[2])
    overlap, of_b, of_c = _overlaps(weights["B"], weights["C"])
    return loss + overlap, {"W": slopes["W"], "B": slopes["B"] + of_b, "C": slopes["C"] + of_c}


def _overlaps(b: Array, c: Array) -> tuple[float, Array, Array]:
    """Norm of the cosines between the columns of B and rows of C, and its slopes."""
    columns = np.hstack([b, c.T])
    length = np.maximum(np.linalg.norm(columns, axis=0), np.finfo(np.float32).tiny)
    unit = columns / length
    cosines = unit.T @ unit
    np.fill_diagonal(cosines, 0.0)
    size = np.linalg.norm(cosines)
    along = 2 * unit @ cosines / max(size, np.finfo(np.float32).tiny)  # 0 where no columns overlap
    slope = (along - unit * (unit * along).sum(axis=0)) / length
    return float(size), slope[:, : b.shape[1]], slope[:, b.shape[1] :].T
