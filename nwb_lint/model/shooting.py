"""Multiple shooting: long trials cut into segments that start where the data are, twice as long from round to round.

A gradient through a long trial of a network that oscillates or is chaotic says little: errors of phase pile up, and the
loss has a minimum at every one of them. Within a segment from time s on,

    x[t] = m (kappa'[t] + (1 - alpha)^(t - s) kappa_data[s]) + W q[t],      kappa'[s] = 0,

with kappa_data = (x - W q) on m by least squares; so a segment is a condition with R more drives, kappa_data[s] times a
decay, whose weights are m itself. Cf. Bock & Plitt 1984 (shooting); Hess et al., ICML 2023 (forcing that fades).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nwb_lint.model.gradient import LossAndGradient
from nwb_lint.model.rnn import Array, Network, forward
from nwb_lint.model.samples import Samples


def lengths(first: int, n_times: int) -> list[int]:
    """Steps of the segments in each round: twice as many from one to the next, none as long as the trials."""
    return [first << k for k in range(64) if first << k < n_times]


def segments(samples: Samples, network: Network, length: int) -> Samples:
    """Every condition in segments of ``length`` samples, the last of them overlapping, with R more drives.

    Latents at their starts are the data's under this network; the network's own where some neuron was not observed.
    """
    skip, n_times = samples.q.shape[1] - samples.x.shape[1], samples.x.shape[1]
    starts = np.unique(np.linspace(0, n_times - length, -(-n_times // length)).round().astype(int))
    recorded = samples.x.shape[2]
    root = np.ones(recorded) if samples.weights is None else np.sqrt(samples.weights)
    back = (np.linalg.pinv(root[:, None] * network.m[:recorded]) * root).T
    kappa = (samples.x[:, starts] - samples.q[:, skip + starts] @ network.w[:recorded].T) @ back
    lost = ~np.isfinite(kappa)
    if lost.any():
        kappa = np.where(
            lost, forward(network, samples.q, samples.alpha, samples.nonlinearity)[1][:, skip + starts], kappa
        )
    if skip == 0:
        kappa[:, 0] = 0
    decay = (1 - samples.alpha) ** np.arange(length)
    parts = []
    for k, start in enumerate(starts):
        led = kappa[:, k, None, :] * decay[:, None]
        parts.append(np.concatenate([samples.q[:, skip + start : skip + start + length], led], axis=2))
    x = np.concatenate([samples.x[:, start : start + length] for start in starts])
    q = np.concatenate(parts).astype(samples.q.dtype)
    return samples._replace(x=x, q=q, halves=None, starts=(0, 0))


def tied(loss_and_gradient: LossAndGradient, led: bool = True) -> LossAndGradient:
    """The loss on segments and its gradient, of the network on whole trials; itself unless these are ``led``."""
    if not led:
        return loss_and_gradient

    def whole(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, np.hstack([w, m]))
        return loss, gm + gw[:, w.shape[1] :], gn, gw[:, : w.shape[1]]

    return whole


def tied_loss(loss: Callable[[Array, Array, Array], float], led: bool = True) -> Callable[[Array, Array, Array], float]:
    """The same for a loss alone."""
    return (lambda m, n, w: loss(m, n, np.hstack([w, m]))) if led else loss
