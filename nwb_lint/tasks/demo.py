"""A session of context-dependent decisions by a known network: the ground truth of ``nwb-lint demo``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from nwb_lint.errors import ContractError
from nwb_lint.tasks.record import poisson_spikes

Array = np.ndarray

DT_S = 0.02
TAU_S = 0.1
CUE_LEAD_S = 0.4  # the context cue is on from this long before the stimulus to the end of the trial
INPUT_NAMES = ("motion", "color", "context motion", "context color")
COHERENCES = (-0.45, -0.15, 0.15, 0.45)

_FIXATION = 5  # steps of DT_S before the cue
_CUE = round(CUE_LEAD_S / DT_S)
_STIMULUS = (40, 60)  # 0.8 to 1.2 s
_DELAY = (5, 25)  # 0.1 to 0.5 s
_BETWEEN = (15, 35)  # 0.3 to 0.7 s of rest between trials
_INPUT_NOISE = 0.9  # sd per step of both sensory inputs while the stimulus is on: it causes the errors
_PRIVATE_NOISE = 0.03  # sd per step of every unit
_LOWEST_HZ = 0.5


class Truth(NamedTuple):
    """The rank-1 network of a demo session. Its rates are offset + gain × activation, Hz."""

    m: Array
    n: Array
    input_weights: Array
    offset: Array
    gain: Array


class DemoSession(NamedTuple):
    """A simulated session: the network, its trials, spike times of each unit (s), and the latent.

    ``trials`` has start_time, stop_time, cue_time, stimulus_time (s), context ("motion" or "color"), motion and color
    (signed coherence), choice (-1 or 1) and correct (bool). ``kappa`` (trial, time) is the latent before spikes were
    drawn, in steps of `DT_S` from start_time. It is NaN after the end of a trial.
    """

    truth: Truth
    trials: pd.DataFrame
    spike_times: list[Array]
    kappa: Array


def context_network(n_units: int = 200, seed: int = 0) -> tuple[Array, Array, Array]:
    """A rank-1 network that decides by motion or by color, as the context cue says.

    The network has two populations of N / 2 units. In the first, n overlaps with m and with the motion weights. In the
    second, n overlaps with m and with the color weights. The color cue drives the first population by about ±2, deep
    into the flat part of tanh, and the motion cue drives the second. Its gain is then near 0. So only the population of
    the cued stimulus moves the latent κ:

        κ[t+1] = (1 - alpha) κ[t] + alpha n' tanh(x[t]) / N,    x = m κ + I v

    Within a population, m and the two sensory columns have mean 0 and variance 1, and they correlate neither with each
    other nor with tanh of the weights of the cue. So a cue alone favors neither choice.

    Parameters
    ----------
    n_units : int, default=200
        Number of units, even, at least 20.
    seed : int, default=0
        Seed of the random weights.

    Returns
    -------
    m : numpy.ndarray
        (neuron, 1), dimensionless.
    n : numpy.ndarray
        (neuron, 1), dimensionless.
    input_weights : numpy.ndarray
        (neuron, input), dimensionless, with the inputs of `INPUT_NAMES`.

    Raises
    ------
    ContractError
        If ``n_units`` is odd or below 20.

    References
    ----------
    Mastrogiuseppe & Ostojic, Neuron 2018.
    Dubreuil, Valente, Beiran, Mastrogiuseppe & Ostojic, Nature Neuroscience 2022.

    Examples
    --------
    >>> m, n, weights = context_network(40, seed=1)
    >>> m.shape, weights.shape
    ((40, 1), (40, 4))
    """
    if n_units < 20 or n_units % 2:
        raise ContractError(f"n_units is {n_units}. The demo network needs an even number of at least 20.")
    rng = np.random.default_rng(seed)
    half = n_units // 2
    m, n, weights = np.zeros((n_units, 1)), np.zeros((n_units, 1)), np.zeros((n_units, 4))
    for population in (0, 1):
        rows = slice(population * half, (population + 1) * half)
        cue = rng.choice([-1, 1], half) * rng.normal(2.0, 0.3, half)
        basis, _ = np.linalg.qr(np.column_stack([np.ones(half), np.tanh(cue), rng.standard_normal((half, 3))]))
        m_part, motion, color = np.sqrt(half) * basis[:, 2:].T
        m[rows, 0] = m_part
        n[rows, 0] = 2.6 * m_part + (motion, color)[population]
        weights[rows, :2] = np.column_stack([motion, color])
        weights[rows, 3 - population] = cue
    return m, n, weights


def simulate_noisy(
    m: Array, n: Array, weights: Array, u: Array, *, private_noise: float, seed: int
) -> tuple[Array, Array]:
    """Activation (trial, time, neuron) and latent (trial, time) of a noisy run from rest, with inputs u (trial, time,
    input).

    x[t+1] = (1 - alpha) x[t] + alpha (m n' tanh(x[t]) / N + I u[t]) + private_noise × xi[t].
    """
    alpha = DT_S / TAU_S
    rng = np.random.default_rng(seed)
    n_trials, n_steps, _ = u.shape
    x = np.zeros((n_trials, n_steps, len(m)))
    kappa = np.zeros((n_trials, n_steps))
    for t in range(n_steps - 1):
        recurrent = np.tanh(x[:, t]) @ n / len(m)
        kappa[:, t + 1] = (1 - alpha) * kappa[:, t] + alpha * recurrent[:, 0]
        x[:, t + 1] = (1 - alpha) * x[:, t] + alpha * (recurrent @ m.T + u[:, t] @ weights.T)
        x[:, t + 1] += private_noise * rng.standard_normal(x[:, t].shape)
    return x, kappa


def demo_session(seed: int = 0, n_units: int = 200, n_trials: int = 600) -> DemoSession:
    """A session of context-dependent decisions by a rank-1 network of known connectivity, with spikes.

    A trial has fixation (0.1 s), the context cue (0.4 s), the stimulus with the cue (0.8 to 1.2 s) and a delay (0.1 to
    0.5 s). Rest of 0.3 to 0.7 s follows. The 32 conditions (2 contexts × 4 motion × 4 color coherences) come in random
    order, in numbers as equal as possible. The sensory inputs have noise, so the network makes errors. Its choice is
    the sign of κ at the end of the trial.

    Rates are offset + gain × x (Hz), with offsets of 2 to 42 Hz and gain = offset / 3. They are never below 0.5 Hz.
    Spikes are Poisson. During rest, units fire at their offset.

    Parameters
    ----------
    seed : int, default=0
        Seed of the network, the trials and the spikes.
    n_units : int, default=200
        Number of units, even, at least 20.
    n_trials : int, default=600
        Number of trials, at least 1.

    Returns
    -------
    DemoSession
        The network, the table of trials, the spike times (s) and the latent.

    Raises
    ------
    ContractError
        If ``n_units`` is odd or below 20, or ``n_trials`` is below 1.

    Examples
    --------
    >>> session = demo_session(seed=1, n_units=20, n_trials=64)
    >>> len(session.spike_times), len(session.trials)
    (20, 64)
    """
    if n_trials < 1:
        raise ContractError(f"n_trials is {n_trials}. A session needs at least 1 trial.")
    rng = np.random.default_rng([seed, 1])
    m, n, weights = context_network(n_units, seed)
    trials, epochs = _draw_trials(rng, n_trials)
    u = trial_inputs(trials, epochs, rng, noise=_INPUT_NOISE)
    x, kappa = simulate_noisy(m, n, weights, u, private_noise=_PRIVATE_NOISE, seed=seed)
    ends = _FIXATION + _CUE + epochs["stimulus"] + epochs["delay"]
    step = np.arange(u.shape[1])
    running = step <= ends[:, None]
    trials["choice"] = np.where(kappa[np.arange(n_trials), ends] > 0, 1, -1)
    relevant = np.where(trials["context"] == "motion", trials["motion"], trials["color"])
    trials["correct"] = trials["choice"] == np.sign(relevant)
    offset = np.clip(rng.lognormal(np.log(17), 0.6, n_units), 2, 42)
    gain = offset / 3
    rate = np.maximum(offset + gain * np.where(running[..., None], x, 0), _LOWEST_HZ)
    rate *= (step < (ends + epochs["between"])[:, None])[..., None]
    spikes = poisson_spikes(rate, DT_S, trials["start_time"].to_numpy(), seed)
    truth = Truth(m, n, weights, offset, gain)
    return DemoSession(truth, trials, spikes, np.where(running, kappa, np.nan))


def _draw_trials(rng: np.random.Generator, n_trials: int) -> tuple[pd.DataFrame, dict[str, Array]]:
    """The table of trials without choice and correct, and the lengths of the varied epochs in steps."""
    grid = [(context, a, b) for context in ("motion", "color") for a in COHERENCES for b in COHERENCES]
    order = rng.permutation(np.arange(n_trials) % len(grid))
    table = pd.DataFrame([grid[k] for k in order], columns=["context", "motion", "color"])
    lengths = {"stimulus": _STIMULUS, "delay": _DELAY, "between": _BETWEEN}
    epochs = {name: rng.integers(low, high + 1, n_trials) for name, (low, high) in lengths.items()}
    running = (_FIXATION + _CUE + epochs["stimulus"] + epochs["delay"]) * DT_S
    slot = running + epochs["between"] * DT_S + rng.uniform(0, DT_S, n_trials)
    start = 1.0 + np.concatenate([[0.0], np.cumsum(slot)[:-1]])
    times = {
        "start_time": start,
        "stop_time": start + running,
        "cue_time": start + _FIXATION * DT_S,
        "stimulus_time": start + (_FIXATION + _CUE) * DT_S,
    }
    return pd.concat([pd.DataFrame(times), table], axis=1), epochs


def trial_inputs(trials: pd.DataFrame, epochs: dict[str, Array], rng: np.random.Generator, *, noise: float) -> Array:
    """Inputs (trial, step from start_time, input). The sensory inputs have noise while the stimulus is on."""
    ends = _FIXATION + _CUE + epochs["stimulus"] + epochs["delay"]
    step = np.arange(int((ends + epochs["between"]).max()) + 1)
    onset = _FIXATION + _CUE
    seen = (step >= onset) & (step < onset + epochs["stimulus"][:, None])
    cued = (step >= _FIXATION) & (step < ends[:, None])
    u = np.zeros((*seen.shape, len(INPUT_NAMES)))
    for k, name in enumerate(("motion", "color")):
        evidence = trials[name].to_numpy()[:, None] + noise * rng.standard_normal(seen.shape)
        u[..., k] = seen * evidence
        u[..., 2 + k] = cued & (trials["context"] == name).to_numpy()[:, None]
    return u
