"""Stage 3: L-BFGS on the free-running loss with the exact adjoint, stopped where held-out conditions stop improving."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from nwb_lint.model.network import Array, Network
from nwb_lint.parallel.warnings import warn

# iterations without a better held-out loss before a descent stops: at least, and half as long as the last rise took,
# when that is more. A few trials near a boundary of decision make that loss jagged: rises of 10 iterations go over
PATIENCE = 12
STEPS = (1.0, 0.1, 0.01, 0.001)  # lengths of first steps, each tried where the one before met nothing but divergence
SHRUNK = 8  # tenths of n that a start which diverges is tried with
FORESIGHT = 1e-4  # an improvement smaller than this share of the held-out loss is none

LossAndGradient = Callable[[Array, Array, Array], tuple[float, Array, Array, Array]]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of a descent, with the best network until then."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)  # pickled by its arguments, as pools of processes do
        self.network = network

    @classmethod
    def after(cls, found: Network, stop: KeyboardInterrupt, error: Callable[[Network], float]) -> Interrupted:
        """Ctrl-C in a later descent, when an earlier one, which found this network, may have got further."""
        return cls(min([found, *([stop.network] if isinstance(stop, cls) else [])], key=error))


class Descent(NamedTuple):
    """Where a descent ended: the best network by held-out loss, at which iteration it stood there, and that loss; and
    the iterations of the rounds on segments before it, how many turns on parts of the conditions took its place, the
    iterations on more conditions after it, and the epochs of Adam after all.
    """

    network: Network
    iterations: int
    held_out: float
    rounds: tuple[int, ...] = ()
    turns: int = 0
    wider: tuple[int, ...] = ()
    epochs: int = 0


def small(loss_and_gradient: LossAndGradient, l2_n: float) -> LossAndGradient:
    """The loss plus l2_n ||J||^2, J = m n' / N, which no rescaling of m and n evades: l2_n ||n||^2 / N^2 with m
    orthonormal, as the canonical gauge has it.
    """
    if not l2_n:
        return loss_and_gradient

    def penalized(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, w)
        mm, nn, strength = m.T @ m, n.T @ n, l2_n / len(m) ** 2
        return loss + strength * float((mm * nn).sum()), gm + 2 * strength * m @ nn, gn + 2 * strength * n @ mm, gw

    return penalized


def descend(
    start: Network,
    loss_and_gradient: LossAndGradient,
    held_out_loss: Callable[..., float] | None,
    *,
    max_iter: int,
    worth: float = 0.0,
    pull: float = 0.0,
    towards: Network | None = None,
    report: Callable[[int, float, float], None],
) -> Descent:
    """Minimize over (m, n, W) by L-BFGS. Without held-out data the last iterate counts, else the best held-out one;
    iterations that do not make the held-out loss smaller by ``worth`` together try its patience.

    ``pull`` adds pull / N · sum (parameter - its value in ``towards``)^2 to the loss. A loss that is not finite counts
    as large, so that the line search backs off; where it finds no way back, another search goes on from the best until
    then in steps a tenth as long, with a warning. A start that diverges gets a weaker recurrence. Raises
    `Interrupted` on Ctrl-C.
    """
    watch = _Watch(start, held_out_loss, worth, report)
    target = start if towards is None or towards.n is None else towards
    home, strength = _flat(*parts(target)), pull / start.n_neurons

    def objective(v: Array) -> tuple[float, Array]:
        loss, *gradients = loss_and_gradient(*watch.unpack(v))
        flat = _flat(*gradients)
        if not (np.isfinite(loss) and np.isfinite(flat).all()):
            watch.wild += 1
            return watch.high or 1e10, np.zeros_like(v)
        away = v - home
        loss += strength * float(away @ away)
        watch.high = watch.high or 10 * (1 + loss)
        return loss, flat + 2 * strength * away

    started = True
    for scale in STEPS:
        if watch.minimize(objective, scale, max_iter - watch.done):
            break
        if watch.done == 0 and scale == 1:
            weaker = steady(start, loss_and_gradient)
            started, watch.last = weaker is start, _flat(*parts(weaker))
    if started and watch.done and scale < 1:
        warn("the gradient met networks that diverge; it went on from its best in smaller steps.")
    return Descent(watch.network(), watch.best_at, watch.best_held)


def steady(network: Network, loss_and_gradient: LossAndGradient) -> Network:
    """The network, or the same with n so many tenths as large that its loss and gradient are finite, with a warning."""
    m, n, w = parts(network)
    for power in range(SHRUNK):
        tried = Network(m, n * 0.1**power, w)
        loss, *gradients = loss_and_gradient(m, n * 0.1**power, w)
        if np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients):
            if power == 0:
                break
            warn(f"the start of the gradient diverges; it starts from n / 1e{power}.")
            return tried
    return network


class _Watch:
    """One descent, perhaps in several searches: the best so far, and when to stop."""

    def __init__(
        self,
        start: Network,
        held_out_loss: Callable[..., float] | None,
        worth: float,
        report: Callable[[int, float, float], None],
    ) -> None:
        self.shapes = [part.shape for part in parts(start)]
        self.held_out_loss, self.worth, self.report = held_out_loss, worth, report
        self.best = self.last = _flat(*parts(start))
        self.best_at = self.done = self.gain = self.wild = 0
        self.best_held = self.mark = self._held(self.best) if held_out_loss else np.inf
        self.high = 0.0

    def unpack(self, v: Array) -> list[Array]:
        """m, n, W."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(v, ends), self.shapes, strict=True)]

    def network(self) -> Network:
        """The best so far."""
        return Network(*self.unpack(self.best))

    def minimize(self, objective: Callable[[Array], tuple[float, Array]], scale: float, max_iter: int) -> bool:
        """One search in units of ``scale`` from where the last one stands; whether it ended as it should."""
        self.wild = 0
        options = {"maxiter": max_iter, "maxfun": 2 * max_iter + 10, "maxcor": 20, "gtol": 1e-7, "ftol": 1e-9}

        def scaled(v: Array) -> tuple[float, Array]:
            value, gradient = objective(scale * v)
            return value, scale * gradient

        def step(intermediate_result) -> None:
            self._step(scale * intermediate_result.x, float(intermediate_result.fun))

        try:
            minimize(scaled, self.last / scale, jac=True, method="L-BFGS-B", callback=step, options=options)
        except KeyboardInterrupt as stop:
            raise Interrupted(self.network()) from stop
        return self.wild == 0 or self._patient_no_more() or self.done >= max_iter

    def _held(self, v: Array) -> float:
        assert self.held_out_loss is not None
        loss = self.held_out_loss(*self.unpack(v))
        return loss if np.isfinite(loss) else np.inf

    def _patient_no_more(self) -> bool:
        return self.held_out_loss is not None and self.done - self.gain >= max(PATIENCE, self.gain // 2)

    def _step(self, v: Array, loss: float) -> None:
        self.done, self.last, self.wild = self.done + 1, v.copy(), 0
        held = self._held(v) if self.held_out_loss else -np.inf
        if held < self.mark - max(FORESIGHT * self.mark, self.worth):
            self.gain, self.mark = self.done, held
        if held <= self.best_held:
            self.best, self.best_at, self.best_held = self.last, self.done, held
        self.report(self.done, loss, held)
        if self._patient_no_more():
            raise StopIteration


def parts(network: Network) -> tuple[Array, Array, Array]:
    """m, n, W, of a network that has all three."""
    assert network.n is not None
    return network.m, network.n, network.w


def _flat(*arrays: Array) -> Array:
    return np.concatenate([a.ravel() for a in arrays])
