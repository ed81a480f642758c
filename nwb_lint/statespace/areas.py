"""Single trials of several areas: the latents that EM begins with, and the gauge of the fit."""

from __future__ import annotations

import numpy as np

from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.areas.regression import closed_form
from nwb_lint.model.network import Array, column_signs
from nwb_lint.model.regression import pseudo_inverse
from nwb_lint.statespace.learning import smoothed
from nwb_lint.statespace.system import System, Trials
from nwb_lint.statespace.tuning import START_RIDGE


def first_latents_of_areas(trials: Trials, system: System, sd: float, loadings: Array | None = None) -> Array:
    """Latents of unit variance (trial, time, rank), from the regression of smoothed log counts, or values.

    The regression is that of the means (`nwb_lint.model.areas.regression`): of each area on the filtered rates of all.
    Its m says which combinations of neurons the latents are. With loadings (neuron, rank), these are m.
    """
    y, scale = smoothed(trials, sd, system.observation == "poisson")
    x = (y - y.mean(axis=(0, 1))).astype(np.float32)
    q = np.concatenate([trials.v, np.ones((*trials.v.shape[:2], 1))], axis=2).astype(np.float32)
    weights = (scale / scale.mean()) ** 2
    if loadings is None:
        blocks = blocks_of_neurons(system)
        how = {"alpha": system.alpha, "nonlinearity": system.nonlinearity, "weights": weights}
        loadings = closed_form(x, q, blocks=blocks, ridges=[START_RIDGE], **how).networks[0].m
    flat, design = x.reshape(-1, x.shape[2]).astype(float), q.reshape(-1, q.shape[2]).astype(float)
    left = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    kappa = left @ pseudo_inverse(loadings, weights)
    return (kappa / np.maximum(kappa.std(axis=0), 1e-9)).reshape(*x.shape[:2], -1)


def blocks_of_neurons(system: System) -> Blocks:
    """The blocks without hidden units, with one drive more that reaches all: a constant."""
    blocks, n = system.blocks, system.n_neurons
    assert blocks is not None
    reached = np.concatenate([blocks.reached[:n], np.ones((n, 1), bool)], axis=1)
    return blocks._replace(area=blocks.area[:n], reached=reached)


def axes_of_blocks(system: System, blocks: Blocks) -> Array:
    """The rotation (rank, rank) of each block in which the columns of the recorded m are orthogonal, largest first."""
    found = np.zeros((system.rank, system.rank))
    for _, _, own in blocks.pairs():
        m = system.m[: system.n_neurons][:, own]
        _, _, axes = np.linalg.svd(m, full_matrices=False)
        found[np.ix_(own, own)] = axes.T * column_signs(m @ axes.T)
    return found
