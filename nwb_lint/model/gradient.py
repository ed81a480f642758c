"""Stage 3: L-BFGS on the free-running loss with the exact adjoint, stopped where held-out conditions stop improving."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from nwb_lint.model.rnn import Array, Network

PATIENCE = 5  # iterations without a better held-out loss before a descent stops: at least, where each is dear,
LEISURE = 8  # and where each is cheap; half as long as the last rise took, when that is more
FORESIGHT = 1e-4  # an improvement smaller than this share of the held-out loss is none

LossAndGradient = Callable[[Array, Array, Array], tuple[float, Array, Array, Array]]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a descent, with the best network until then."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)  # pickled by its arguments, as pools of processes do
        self.network = network


class Descent(NamedTuple):
    """Where a descent ended: the best network by held-out loss, at which iteration it stood there, and that loss."""

    network: Network
    iterations: int
    held_out: float


def small(loss_and_gradient: LossAndGradient, l2_n: float) -> LossAndGradient:
    """The loss plus l2_n ||J||^2, J = m n' / N, which no rescaling of m and n evades: l2_n ||n||^2 / N^2 with m
    orthonormal, as the canonical gauge has it.
    """
    if not l2_n:
        return loss_and_gradient

    def penalised(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, w)
        mm, nn, strength = m.T @ m, n.T @ n, l2_n / len(m) ** 2
        return loss + strength * float((mm * nn).sum()), gm + 2 * strength * m @ nn, gn + 2 * strength * n @ mm, gw

    return penalised


def descend(
    start: Network,
    loss_and_gradient: LossAndGradient,
    held_out_loss: Callable[..., float] | None,
    *,
    max_iter: int,
    patience: int = PATIENCE,
    pull: float = 0.0,
    towards: Network | None = None,
    report: Callable[[int, float, float], None],
) -> Descent:
    """Minimise over (m, n, W) by L-BFGS. Without held-out data the last iterate counts, else the best held-out one.

    ``pull`` adds pull / N · sum (parameter - its value in ``towards``)^2 to the loss. A loss that is not finite (a
    diverging step of the line search) counts as very large, so the search backs off. Raises `Interrupted` on Ctrl-C.
    """
    assert start.n is not None
    shapes = [start.m.shape, start.n.shape, start.w.shape]
    ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def unpack(v: Array) -> list[Array]:
        return [part.reshape(shape) for part, shape in zip(np.split(v, ends), shapes, strict=True)]

    def objective(v: Array) -> tuple[float, Array]:
        loss, *gradients = loss_and_gradient(*unpack(v))
        if not np.isfinite(loss):
            return 1e10, np.zeros_like(v)
        away = v - home
        return loss + strength * float(away @ away), _flat(*gradients) + 2 * strength * away

    first = _flat(start.m, start.n, start.w)
    home = first if towards is None or towards.n is None else _flat(towards.m, towards.n, towards.w)
    strength = pull / start.n_neurons
    best, best_at, best_held = first, 0, held_out_loss(*unpack(first)) if held_out_loss else np.inf
    done = last_gain = 0

    def watch(intermediate_result) -> None:
        nonlocal best, best_at, best_held, done, last_gain
        done += 1
        held = held_out_loss(*unpack(intermediate_result.x)) if held_out_loss else -np.inf
        if held < best_held * (1 - FORESIGHT):
            last_gain = done
        if held <= best_held:
            best, best_at, best_held = intermediate_result.x.copy(), done, held
        report(done, float(intermediate_result.fun), held)
        if held_out_loss and done - last_gain >= max(patience, last_gain // 2):
            raise StopIteration

    options = {"maxiter": max_iter, "maxfun": 2 * max_iter + 10, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-9}
    try:
        minimize(objective, first, jac=True, method="L-BFGS-B", callback=watch, options=options)
    except KeyboardInterrupt as stop:
        raise Interrupted(Network(*unpack(best))) from stop
    return Descent(Network(*unpack(best)), best_at, best_held)


def _flat(*arrays: Array) -> Array:
    return np.concatenate([a.ravel() for a in arrays])
