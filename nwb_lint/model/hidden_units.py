"""Hidden units beside few recorded neurons, which cannot span the functions of the latent state a circuit computes."""

from __future__ import annotations

import numpy as np

from nwb_lint.model.network import Array, Network

PULLS = (0.003, 0.01, 0.03)  # strengths of the pull towards the prior that `scattered` descents try


def with_hidden_units(network: Network, hidden: int, seed: int) -> Network:
    """Append units that no data constrain: m, W ~ N(0, 1), n = 0, so that the dynamics are what they were.

    A few recorded neurons cannot span the functions of the latent state that the circuit computes; hidden units do.
    The rows of n are rescaled by the new N, since J = m n' / N.
    """
    assert network.n is not None
    generator = np.random.default_rng(seed)
    rank, drives = network.m.shape[1], network.w.shape[1]
    n = network.n * (network.n_neurons + hidden) / network.n_neurons
    return Network(
        np.concatenate([network.m, generator.standard_normal((hidden, rank))]),
        np.concatenate([n, np.zeros((hidden, rank))]),
        np.concatenate([network.w, generator.standard_normal((hidden, drives))]),
    )


def scattered(x: Array, q: Array, rank: int, hidden: int, seed: int) -> tuple[Network, Network]:
    """A start for few recorded neurons and many hidden ones, and the prior that `descend` pulls towards.

    Start: n, and the m and W of hidden units ~ N(0, 1); of recorded ones W is the regression of x on q, m ~ N(0, .01).
    Prior: the hidden units' m and W as drawn (they are features that no data constrain), everything else 0.
    x (condition, time, recorded) without NaN; q (condition, burn-in + time, Q).
    """
    generator = np.random.default_rng(seed)
    recorded, drives = x.shape[2], q.shape[2]
    m, n, w = (generator.standard_normal((recorded + hidden, k)) for k in (rank, rank, drives))
    m[:recorded] *= 0.1
    w[:recorded] = _on_drives(x, q)[0]
    free = np.arange(recorded + hidden)[:, None] >= recorded
    return Network(m, n, w), Network(m * free, 0 * n, w * free)


def spanned(x: Array, q: Array, rank: int, hidden: int, seed: int, weights: Array | None = None) -> Network:
    """A network without dynamics yet, whose latents a latent pass reads from few recorded neurons.

    W = regression of x on q, m = leading principal axes of what is left, scaled for latents of unit variance, n = 0.
    Hidden units are random features of latents and drives, m ~ N(0, 1), W ~ N(0, 1 / mean square of the drive, where
    it is not 0): they span any function of both (Rahimi & Recht, NIPS 2008), which the recorded neurons need not.
    x (condition, time, recorded) without NaN; q (condition, burn-in + time, Q); weights (recorded) of the loss.
    """
    w, flat, left = _on_drives(x, q)
    root = np.ones(len(w)) if weights is None else np.sqrt(weights)
    left = left * root
    power, axes = np.linalg.eigh((left.T @ left).astype(float) / len(left))
    power, axes = np.maximum(power[::-1][:rank], 0), axes[:, ::-1][:, :rank]
    m = np.divide(axes * np.sqrt(power), root[:, None], out=np.zeros_like(axes), where=root[:, None] > 0)
    level = np.sqrt((flat.astype(float) ** 2).sum(axis=0) / np.maximum((flat != 0).sum(axis=0), 1))
    draw = np.random.default_rng(seed).standard_normal
    drive = np.divide(draw((hidden, len(level))), level, out=np.zeros((hidden, len(level))), where=level > 0)
    m, w = np.concatenate([m, draw((hidden, rank))]), np.concatenate([w, drive])
    return Network(m, np.zeros_like(m), w)


def _on_drives(x: Array, q: Array) -> tuple[Array, Array, Array]:
    """W (recorded, Q) of the regression of x on q, q after burn-in (sample, Q), and what is left (sample, recorded)."""
    flat, y = q[:, q.shape[1] - x.shape[1] :].reshape(-1, q.shape[2]), x.reshape(-1, x.shape[2])
    w = np.linalg.lstsq(flat, y, rcond=None)[0].T
    return w, flat, y - flat @ w.T
