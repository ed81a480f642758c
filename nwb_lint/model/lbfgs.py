"""L-BFGS on the free-running loss, with early stopping on held-out conditions and restarts after divergence.

Parameters are m, n and W of a low-rank network. A `LossAndGradient` is a function of (m, n, W) that returns the loss
and its gradients, which have the shapes of m, n and W.

L-BFGS is slow where the loss curves differently along different directions. In `Coordinates` it curves about equally:
if the network is driven by its own rates, its Hessian is that of a linear regression, whose moments are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from nwb_lint.model.network import Array, Network, factors
from nwb_lint.model.tuning import (
    CURVATURE_CUTOFF,
    GRADIENT_TOLERANCE,
    LBFGS_MEMORY,
    LOSS_TOLERANCE,
    MANY_ITERATIONS,
    MAX_SHRINKS,
    MIN_IMPROVEMENT,
    PATIENCE,
    STEP_SCALES,
)
from nwb_lint.parallel.warnings import warn

Loss = Callable[[Array, Array, Array], float]
LossAndGradient = Callable[[Array, Array, Array], tuple[float, Array, Array, Array]]

_REACHED_LIMIT = 1  # status of SciPy's L-BFGS after all iterations or evaluations


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a descent. ``network`` is the best network until then."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)  # pools of processes pickle an exception by its arguments
        self.network = network

    @classmethod
    def best_of(cls, found: Network, stop: KeyboardInterrupt, error: Callable[[Network], float]) -> Interrupted:
        """Ctrl-C during a later descent: the better of its network and the network ``found`` by an earlier descent."""
        candidates = [found, stop.network] if isinstance(stop, cls) else [found]
        return cls(min(candidates, key=error))


def with_l2_penalty(loss_and_gradient: LossAndGradient, l2_n: float) -> LossAndGradient:
    """The loss plus l2_n ||J||² with J = m n' / N.

    Rescaling m against n does not change it. If m is orthonormal, as in the canonical gauge, it is l2_n ||n||² / N².
    """
    if not l2_n:
        return loss_and_gradient

    def penalized(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, w)
        mm, nn, strength = m.T @ m, n.T @ n, l2_n / len(m) ** 2
        return loss + strength * float((mm * nn).sum()), gm + 2 * strength * m @ nn, gn + 2 * strength * n @ mm, gw

    return penalized


class Coordinates(NamedTuple):
    """Linear coordinates (m', n', W') of a network: m = m' A, n = T n' B, W = W' D.

    T = N (V diag(scale - rest) V' + rest 1), with V (neuron, any) orthonormal.
    """

    a: Array
    b: Array
    d: Array
    basis: Array
    scale: Array
    rest: float

    @classmethod
    def of(cls, network: Network, kappa: Array, q: Array, basis: Array, variances: Array, l2_n: float) -> Coordinates:
        """Coordinates in which the loss plus l2_n ||J||² curves about equally near a network.

        ``kappa`` (sample, rank) and ``q`` (sample, drive) of a free run, and the eigenvectors and eigenvalues of the
        moments of its features, all in units of the power; ``l2_n`` > 0.
        """
        m, _, _ = factors(network)
        to_white = _root(kappa.T @ kappa, -0.5)
        root = _root(to_white.T @ m.T @ m @ to_white, -0.5)
        inverse = np.linalg.inv(to_white)
        scale = 1 / np.sqrt(np.maximum(variances, 0) + l2_n)
        return cls(inverse, root @ to_white.T, _root(q.T @ q, -0.5), basis, scale, 1 / np.sqrt(l2_n))

    def _along(self, n: Array, power: int) -> Array:
        scale, rest = self.scale**power, self.rest**power
        return float(len(n)) ** power * (self.basis @ ((scale - rest)[:, None] * (self.basis.T @ n)) + rest * n)

    def network(self, m: Array, n: Array, w: Array) -> tuple[Array, Array, Array]:
        """m, n and W from their coordinates."""
        return m @ self.a, self._along(n, 1) @ self.b, w @ self.d

    def coordinates(self, m: Array, n: Array, w: Array) -> tuple[Array, Array, Array]:
        """The coordinates of m, n and W."""
        return m @ np.linalg.inv(self.a), self._along(n, -1) @ np.linalg.inv(self.b), w @ np.linalg.inv(self.d)

    def gradients(self, gm: Array, gn: Array, gw: Array) -> tuple[Array, Array, Array]:
        """Gradients by the coordinates from those by m, n and W."""
        return gm @ self.a.T, self._along(gn, 1) @ self.b.T, gw @ self.d.T


def _root(matrix: Array, power: float) -> Array:
    """A power of a symmetric matrix; small eigenvalues count as `CURVATURE_CUTOFF` of the largest."""
    s, v = np.linalg.eigh(matrix)
    largest = s.max(initial=0)
    return (v * np.maximum(s, CURVATURE_CUTOFF * largest) ** power) @ v.T if largest > 0 else np.eye(len(s))


def minimize_lbfgs(
    start: Network,
    loss_and_gradient: LossAndGradient,
    held_out_loss: Loss | None,
    *,
    max_iter: int,
    min_gain: float = 0.0,
    prior_strength: float = 0.0,
    prior: Network | None = None,
    coordinates: Coordinates | None = None,
    report: Callable[[int, float, float], None],
) -> tuple[Network, int, float, bool]:
    """Minimize a loss over m, n and W.

    A loss that is not finite, or very large, counts as ten times that of the start, so that the line search takes a
    shorter step. If losses that are not finite leave none, another
    search starts from the best network until then, with steps a tenth as long and a warning. If the start itself
    diverges, its n is divided by a power of ten, with a warning.

    Parameters
    ----------
    start : Network
    loss_and_gradient : callable
        Loss on the fitted conditions and its gradients by m, n and W.
    held_out_loss : callable or None
        Loss on held-out conditions, which stops the search. None = ``max_iter`` iterations, and the last one counts.
    max_iter : int
    min_gain : float, default=0
        The search stops after iterations that together did not decrease the held-out loss by more than this.
    prior_strength : float, default=0
        The loss gains prior_strength / N · sum (parameter - its value in ``prior``)².
    prior : Network, optional
        Mean of the prior.
    coordinates : Coordinates, optional
        Coordinates of the search. None = m, n and W themselves, as a prior needs.
    report : callable
        Called after each iteration with its number, the loss and the held-out loss (-inf without held-out conditions).

    Returns
    -------
    network : Network
        The network with the smallest held-out loss.
    iterations : int
        The iteration at which it was found.
    held_out : float
        Its held-out loss; inf without held-out conditions if no iteration was done, else -inf.
    slow : bool
        Whether ``max_iter`` ended the search, before a minimum or the held-out loss did, or it did more than
        `MANY_ITERATIONS`.

    Raises
    ------
    Interrupted
        On Ctrl-C, with the best network until then.
    """
    search = _Search(start, held_out_loss, min_gain, report, coordinates)
    mean = _flat(*factors(start if prior is None or prior.n is None else prior))
    strength = prior_strength / start.n_neurons

    def objective(v: Array) -> tuple[float, Array]:
        loss, *gradients = loss_and_gradient(*search.unpack(v))
        if not (np.isfinite(loss) and all(np.isfinite(one).all() for one in gradients)):
            search.divergences += 1
            return search.large_loss or 1e10, np.zeros_like(v)
        flat = _flat(*(gradients if coordinates is None else coordinates.gradients(*gradients)))
        away = v - mean
        loss += strength * float(away @ away)
        search.large_loss = search.large_loss or 10 * (1 + loss)
        if loss > search.large_loss:  # else the line search, which extrapolates, ends in a step of no length
            return search.large_loss, np.zeros_like(v)
        return loss, flat + 2 * strength * away

    start_is_finite = True
    for scale in STEP_SCALES:
        if search.run(objective, scale, max_iter - search.done):
            break
        if search.done == 0 and scale == 1:
            weaker = shrink_until_finite(start, loss_and_gradient)
            start_is_finite, search.last = weaker is start, search.pack(weaker)
    if start_is_finite and search.done and scale < 1:
        warn("The gradient descent met networks that diverge. It continued from its best network in smaller steps.")
    return search.network(), search.best_at, search.best_held_out, search.cut_short or search.done > MANY_ITERATIONS


def shrink_until_finite(network: Network, loss_and_gradient: LossAndGradient) -> Network:
    """The network with n divided by a power of ten if loss or gradient are not finite without that, and a warning."""
    m, n, w = factors(network)
    for power in range(MAX_SHRINKS):
        loss, *gradients = loss_and_gradient(m, n * 0.1**power, w)
        if np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients):
            if power == 0:
                break
            warn(f"The start of the gradient descent diverges. The descent starts from n / 1e{power} instead.")
            return Network(m, n * 0.1**power, w)
    return network


class _Search:
    """One minimization, perhaps in several runs of L-BFGS: the best parameters so far, and when to stop."""

    def __init__(
        self,
        start: Network,
        held_out_loss: Loss | None,
        min_gain: float,
        report: Callable[[int, float, float], None],
        coordinates: Coordinates | None,
    ) -> None:
        self.shapes, self.coordinates = [part.shape for part in factors(start)], coordinates
        self.held_out_loss, self.min_gain, self.report = held_out_loss, min_gain, report
        self.best = self.last = self.pack(start)
        self.best_at = self.done = self.divergences = 0
        self.improved_at = 0  # last iteration that decreased the held-out loss by enough, and the loss there
        self.best_held_out = self.improved_loss = self._held_out(self.best)
        self.large_loss = 0.0  # what a loss that is not finite counts as
        self.cut_short = False  # whether only its limit of iterations or evaluations ended the last run

    def pack(self, network: Network) -> Array:
        """The coordinates of a network as one vector."""
        parts = factors(network)
        return _flat(*(parts if self.coordinates is None else self.coordinates.coordinates(*parts)))

    def unpack(self, v: Array) -> tuple[Array, Array, Array]:
        """m, n and W from one vector."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]
        m, n, w = (part.reshape(shape) for part, shape in zip(np.split(v, ends), self.shapes, strict=True))
        return (m, n, w) if self.coordinates is None else self.coordinates.network(m, n, w)

    def network(self) -> Network:
        """The best network so far."""
        return Network(*self.unpack(self.best))

    def run(self, objective: Callable[[Array], tuple[float, Array]], scale: float, max_iter: int) -> bool:
        """Run L-BFGS in units of ``scale`` from the last parameters; return whether it ended without divergence."""
        self.divergences = 0
        options = {
            "maxiter": max_iter,
            "maxfun": 2 * max_iter + 10,
            "maxcor": LBFGS_MEMORY,
            "gtol": GRADIENT_TOLERANCE,
            "ftol": LOSS_TOLERANCE,
        }

        def scaled(v: Array) -> tuple[float, Array]:
            value, gradient = objective(scale * v)
            return value, scale * gradient

        def step(intermediate_result) -> None:  # SciPy passes its result under this name only
            self._step(scale * intermediate_result.x, float(intermediate_result.fun))

        try:
            found = minimize(scaled, self.last / scale, jac=True, method="L-BFGS-B", callback=step, options=options)
        except KeyboardInterrupt as stop:
            raise Interrupted(self.network()) from stop
        self.cut_short = found.status == _REACHED_LIMIT and not self._out_of_patience()
        return self.divergences == 0 or self._out_of_patience() or self.done >= max_iter

    def _held_out(self, v: Array) -> float:
        loss = np.inf if self.held_out_loss is None else self.held_out_loss(*self.unpack(v))
        return loss if np.isfinite(loss) else np.inf

    def _out_of_patience(self) -> bool:
        """Whether too many iterations did not decrease the held-out loss: `PATIENCE`, or half of those before.

        The held-out loss is not smooth: with a few trials near a decision boundary it may rise for ten iterations and
        then fall again.
        """
        waited = self.done - self.improved_at
        return self.held_out_loss is not None and waited >= max(PATIENCE, self.improved_at // 2)

    def _step(self, v: Array, loss: float) -> None:
        self.done, self.last, self.divergences = self.done + 1, v.copy(), 0
        held_out = self._held_out(v) if self.held_out_loss else -np.inf
        if held_out < self.improved_loss - max(MIN_IMPROVEMENT * self.improved_loss, self.min_gain):
            self.improved_at, self.improved_loss = self.done, held_out
        if held_out <= self.best_held_out:
            self.best, self.best_at, self.best_held_out = self.last, self.done, held_out
        self.report(self.done, loss, held_out)
        if self._out_of_patience():
            raise StopIteration


def _flat(*arrays: Array) -> Array:
    return np.concatenate([a.ravel() for a in arrays])
