"""Populations: one stays one, and two that differ in n alone are found, in default fits to means of Poisson trials."""

from __future__ import annotations

from functools import partial

import numpy as np
from honesty_scores import INPUTS, TAU_S, recording_of
from sections import workers
from sklearn.metrics import adjusted_rand_score

import nwb_lint as nl

SIZES = (60, 150)


def loadings(number: int, seed: int, neurons: int) -> tuple[np.ndarray, ...]:
    """m, n, I (neuron, two inputs) and the population of each neuron, for one or two populations.

    The two use input a with opposite signs. Their weights of input b differ in spread (.8 and 2.5), so that b saturates
    the second one, and the response to a changes its sign with b.
    """
    rng = np.random.default_rng([number, seed, neurons])
    m, w = rng.standard_normal((neurons, 1)), rng.standard_normal((neurons, 2))
    label = np.arange(neurons) * number // neurons
    private = rng.standard_normal((neurons, 1))
    if number == 1:
        return m, 1.2 * m + 0.9 * w[:, :1] - 0.4 * w[:, 1:] + 0.5 * private, w, label
    w[:, 1] *= np.where(label, 2.5, 0.8)
    return m, m + np.where(label, -2.0, 2.0)[:, None] * w[:, :1] + 0.3 * private, w, label


def _found(number: int, neurons: int, seed: int) -> tuple[int, float]:
    """How many populations a default fit has, and how well two groups agree with the true ones."""
    m, n, w, label = loadings(number, seed, neurons)
    recording, _ = recording_of(m, n, w, np.random.default_rng([seed, 12]), trials=20, base=15.0, gain=5.0)
    fit = nl.fit_lint(nl.prepare(recording, inputs=INPUTS), rank=1, tau_s=TAU_S)
    found = nl.find_populations(fit)
    return found.sizes["group"], adjusted_rand_score(label, found["population"].values)


def populations(single: range = range(100, 120), double: range = range(100, 105)) -> None:
    """How often default fits of one population show several, and how often two populations are found."""
    for number, seeds in ((2, double), (1, single)):
        for neurons in SIZES:
            with workers() as pool:
                groups, agreement = zip(*pool.map(partial(_found, number, neurons), seeds), strict=True)
            several = sum(one > 1 for one in groups)
            goal = f"goal: all), agreement {np.mean(agreement):.2f}" if number == 2 else "goal: at most 5 %)"
            words = f"{number} population(s), {neurons} units: several in {several} of {len(groups)} ({goal}"
            print(f"{words}; numbers {sorted(groups)}", flush=True)


SECTIONS = {"populations": populations}
