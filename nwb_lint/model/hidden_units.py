"""Hidden units: unrecorded neurons that are added to the recorded ones.

The functions of the latents that a circuit computes are sums over all its neurons. A few recorded neurons cannot span
these functions; hidden units can. Shapes: x (condition, time, recorded) without NaN, q (condition, burn-in + time,
drive), weights (recorded) of the loss.
"""

from __future__ import annotations

import numpy as np

from nwb_lint.model.network import Array, Network, factors
from nwb_lint.model.tuning import RECORDED_M_SD


def with_hidden_units(network: Network, hidden: int, seed: int) -> Network:
    """Append hidden units with m, W ~ N(0, 1) and n = 0, so that the dynamics do not change.

    The rows of n are rescaled to the new N, because J = m n' / N.
    """
    m, n, w = factors(network)
    generator = np.random.default_rng(seed)
    return Network(
        np.concatenate([m, generator.standard_normal((hidden, m.shape[1]))]),
        np.concatenate([n * (len(m) + hidden) / len(m), np.zeros((hidden, m.shape[1]))]),
        np.concatenate([w, generator.standard_normal((hidden, w.shape[1]))]),
    )


def random_start_and_prior(
    x: Array, q: Array, rank: int, hidden: int, seed: int, strength: float
) -> tuple[Network, Network]:
    """A random network to start L-BFGS from, and the mean of the Gaussian prior on its parameters.

    Start: n ~ N(0, 1). Hidden units have m, W ~ N(0, 1). Recorded neurons have m ~ N(0, 0.1²), and W is the ridge
    regression of x on q that a prior of this ``strength`` gives without recurrence. Prior: m and W of the hidden units
    as drawn, because no data constrain these; 0 for everything else.
    """
    generator = np.random.default_rng(seed)
    recorded, n_drives = x.shape[2], q.shape[2]
    m, n, w = (generator.standard_normal((recorded + hidden, k)) for k in (rank, rank, n_drives))
    m[:recorded] *= RECORDED_M_SD
    power = float(np.square(x, dtype=float).mean())
    w[:recorded] = _regress_on_drives(x, q, strength * power * recorded / (recorded + hidden))[0]
    is_hidden = np.arange(recorded + hidden)[:, None] >= recorded
    return Network(m, n, w), Network(m * is_hidden, 0 * n, w * is_hidden)


def random_features(x: Array, q: Array, rank: int, hidden: int, seed: int, weights: Array | None = None) -> Network:
    """A network without recurrence from which `regression.latent_pass` can start, with hidden units as random features.

    W is the regression of x on q. m holds the leading principal axes of the residuals, scaled for latents of unit
    variance. n = 0. Hidden units have m ~ N(0, 1) and W ~ N(0, 1 / mean square of the nonzero drive): random features
    of latents and drives can approximate any function of both.

    References
    ----------
    Rahimi & Recht, NIPS 2007 and 2008 (random features).
    """
    w, flat, residual = _regress_on_drives(x, q)
    root = np.ones(len(w)) if weights is None else np.sqrt(weights)
    residual = residual * root
    power, axes = np.linalg.eigh((residual.T @ residual).astype(float) / len(residual))
    power, axes = np.maximum(power[::-1][:rank], 0), axes[:, ::-1][:, :rank]
    m = np.divide(axes * np.sqrt(power), root[:, None], out=np.zeros_like(axes), where=root[:, None] > 0)
    level = np.sqrt((flat.astype(float) ** 2).sum(axis=0) / np.maximum((flat != 0).sum(axis=0), 1))
    draw = np.random.default_rng(seed).standard_normal
    drive = np.divide(draw((hidden, len(level))), level, out=np.zeros((hidden, len(level))), where=level > 0)
    m, w = np.concatenate([m, draw((hidden, rank))]), np.concatenate([w, drive])
    return Network(m, np.zeros_like(m), w)


def _regress_on_drives(x: Array, q: Array, ridge: float = 0.0) -> tuple[Array, Array, Array]:
    """W (recorded, drive), q after the burn-in (sample, drive), and residuals (sample, recorded).

    W minimizes the squared error per sample plus ``ridge`` times its squares.
    """
    flat, y = q[:, q.shape[1] - x.shape[1] :].reshape(-1, q.shape[2]), x.reshape(-1, x.shape[2])
    rows = np.sqrt(ridge * len(flat)) * np.eye(flat.shape[1]) if ridge else np.zeros((0, flat.shape[1]))
    penalized = np.concatenate([flat, rows.astype(flat.dtype)]), np.pad(y, ((0, len(rows)), (0, 0)))
    w = np.linalg.lstsq(*penalized, rcond=None)[0].T
    return w, flat, y - flat @ w.T
