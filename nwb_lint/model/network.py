"""The low-rank network in numpy: forward map, input filter and canonical gauge. The readable reference.

With alpha = dt / tau, activation x (dimensionless) and rate r = phi(x), the network of Valente, Pillow & Ostojic
(NeurIPS 2022, section 2) is

    x[t+1] = (1 - alpha) x[t] + alpha (m n' phi(x[t]) / N + I u[t] + b).

Everything that does not come through the recurrence is linear in known time courses, the *drives* q: the filtered
inputs v, a constant switched on at the first step (for b) and a decay from it (for x[0]). So

    x[t] = m kappa[t] + W q[t],      kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N,   kappa[0] = 0,

exactly: one step costs O(N (R + Q)) per condition. An unconstrained J is the case m = J, n / N = identity.

A nonlinearity given as a pair of functions: made fit for arrays, and its slope compared with its differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.parallel.threads import map_in_order

Array = np.ndarray

TOGETHER = 64, 250_000  # conditions that run together, at least, and condition × neuron values, at most


class Nonlinearity(NamedTuple):
    """phi and its derivative, the latter as a function of (x, phi(x))."""

    phi: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]

    def __str__(self) -> str:
        return "a given pair of functions"


NONLINEARITIES = {
    "tanh": Nonlinearity(np.tanh, lambda x, r: 1 - r * r),
    "relu": Nonlinearity(lambda x: np.maximum(x, 0), lambda x, r: (x > 0).astype(x.dtype)),
    "softplus": Nonlinearity(lambda x: np.logaddexp(x, 0).astype(x.dtype), lambda x, r: 1 - np.exp(-r)),
    "linear": Nonlinearity(np.copy, lambda x, r: np.ones_like(x)),
}


def nonlinearity_of(given: object) -> Nonlinearity:
    """The pair that a name stands for, as it is in a fit's attributes; a pair is itself.

    Raises: ContractError for a name that is not known.
    """
    if isinstance(given, Nonlinearity):
        return given
    if str(given) not in NONLINEARITIES:
        raise ContractError(f"nonlinearity is {given!r}; it needs to be one of {', '.join(map(repr, NONLINEARITIES))}.")
    return NONLINEARITIES[str(given)]


class Network(NamedTuple):
    """The numbers that simulate: ``m`` (N, R), ``n`` (N, R) or None for an identity (then m is J), ``w`` (N, Q)."""

    m: Array
    n: Array | None
    w: Array

    @property
    def n_neurons(self) -> int:
        """Number of neurons N, hidden ones included."""
        return self.m.shape[0]

    def j(self) -> Array:
        """Connectivity J = m n' / N, (neuron, neuron_from)."""
        return self.m if self.n is None else self.m @ self.n.T / self.n_neurons


def filter_input(u: Array, alpha: float) -> Array:
    """Low-pass filter over time (axis 1): v[0] = 0, v[t+1] = (1 - alpha) v[t] + alpha u[t].

    ``u`` and the result are (condition, time, anything). The last sample of u drives nothing and is not used.
    """
    v = np.zeros_like(u)
    for t in range(u.shape[1] - 1):
        v[:, t + 1] = (1 - alpha) * v[:, t] + alpha * u[:, t]
    return v


def drives(u: Array, alpha: float, *, bias: bool, initial: bool) -> Array:
    """Time courses q (condition, time, K + bias + initial) on which the weights W act linearly.

    Columns: filtered inputs v; then 1 - (1 - alpha)^t for a bias; then (1 - alpha)^t for an initial activation.
    """
    decay = np.broadcast_to((1 - alpha) ** np.arange(u.shape[1])[None, :, None], (*u.shape[:2], 1))
    columns = [filter_input(u, alpha)] + [1 - decay] * bias + [decay] * initial
    return np.concatenate(columns, axis=2).astype(u.dtype)


def steps(
    network: Network,
    q: Array,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    keep: Array | None = None,
    drive: Array | None = None,
) -> Iterator[tuple[Array, Array]]:
    """A free run one time after the other: x (condition, neuron) and kappa (condition, rank); options as in `forward`.

    Few conditions at a time (`together`) stay in fast memory.
    """
    phi, rank = nonlinearity_of(nonlinearity).phi, network.m.shape[1]
    mw = np.hstack([network.m, network.w]).T.astype(q.dtype)  # x = [kappa q] [m W]', in one product
    out = None if network.n is None else network.n.astype(q.dtype) / network.n_neurons
    added = None if drive is None else filter_input(drive[None], alpha).astype(q.dtype)[0]
    gate = None if keep is None else np.broadcast_to(keep, (q.shape[1], network.n_neurons)).astype(q.dtype)
    kappa = np.zeros((len(q), rank), q.dtype)
    for t in range(q.shape[1]):
        x = np.concatenate([kappa, q[:, t]], axis=1) @ mw
        if added is not None:
            x += added[t]
        yield x, kappa
        if t + 1 == q.shape[1]:
            return
        r = phi(x)
        if gate is not None:
            r *= gate[t]
        kappa = (1 - alpha) * kappa + alpha * (r if out is None else r @ out)


def together(n_conditions: int, n_neurons: int) -> list[slice]:
    """Slices of conditions that run together: few enough for fast memory, enough to be worth the calls."""
    fewest, values = TOGETHER
    step = max(fewest, values // n_neurons)
    return [slice(first, first + step) for first in range(0, n_conditions, step)]


def forward(
    network: Network,
    q: Array,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    keep: Array | None = None,
    drive: Array | None = None,
) -> tuple[Array, Array]:
    """Run the network freely: activation x (condition, time, neuron) and latents kappa (condition, time, rank).

    ``keep`` (neuron) or (time, neuron) multiplies every neuron's output: 0 silences it, N stays what it was. ``drive``
    (time, neuron) is one more input, the same in all conditions: x gains its filtered time course.
    """
    n_neurons, rank = network.m.shape
    x, kappa = (np.empty((*q.shape[:2], k), q.dtype) for k in (n_neurons, rank))

    def run(part: slice) -> None:
        for t, now in enumerate(steps(network, q[part], alpha, nonlinearity, keep, drive)):
            x[part, t], kappa[part, t] = now

    for _ in map_in_order(run, together(len(q), n_neurons)):
        pass
    return x, kappa


def canonical(m: Array, n: Array) -> tuple[Array, Array]:
    """The same J = m n' / N with m = left singular vectors of m n' (orthonormal), n = right ones times singular values.

    Each column's sign makes the largest-magnitude entry of m positive; columns come in falling singular value.
    """
    qm, rm = np.linalg.qr(m)
    qn, rn = np.linalg.qr(n)
    u, s, vt = np.linalg.svd(rm @ rn.T)
    left, right = qm @ u, qn @ vt.T * s
    sign = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    return left * sign, right * sign


def effective_n(m: Array, n: Array, weights: Array) -> Array:
    """P n, (neuron, rank), with P the orthogonal projector on span(m, weights): J_eff = m (P n)' / N.

    Directions of singular value below 1e-10 of the largest are not in the span: collinear columns, as collinear inputs
    give, add none.
    """
    left, s, _ = np.linalg.svd(np.column_stack([m, weights]), full_matrices=False)
    basis = left[:, s > 1e-10 * s.max(initial=0)]
    return basis @ (basis.T @ n)


def balanced(network: Network, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Network:
    """The same network with latents of unit variance on these drives: the scale on which L-BFGS and random hidden units
    are at home. One whose latents are not finite stays as it is.
    """
    assert network.n is not None
    with np.errstate(all="ignore"):
        latents = forward(network, q, alpha, nonlinearity)[1]
    if not np.isfinite(latents).all():
        return network
    scale = latents.reshape(-1, latents.shape[-1]).std(axis=0)
    scale = np.where(scale > 1e-8, scale, 1.0)
    return network._replace(m=network.m * scale, n=network.n / scale)


def cut(network: Network, rank: int, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Network:
    """The network of a lower rank that keeps most of what the recurrence adds to the activity on these drives, m kappa:
    with U its leading principal directions, m = U and n = n m'U. Which directions of J are large says little of that.
    """
    assert network.n is not None
    with np.errstate(all="ignore"):
        latents = forward(network, q, alpha, nonlinearity)[1]
    latents = latents.reshape(-1, latents.shape[-1]).astype(float)
    if not np.isfinite(latents).all():
        latents = np.eye(latents.shape[-1])
    directions, _, _ = np.linalg.svd(network.m @ np.linalg.qr(latents)[1].T, full_matrices=False)
    kept = directions[:, :rank]
    return Network(kept, network.n @ (network.m.T @ kept), network.w)


PROBES = np.linspace(-6, 6, 241) + 0.00317  # where the slope is checked: beside the round numbers, at which kinks are
STEP = 1e-3
TOLERANCE = 1e-3  # of the slope, or of 1 where that is more


def as_nonlinearity(given: object) -> str | Nonlinearity:
    """A name as it is; a pair (phi, slope) of functions of one array or tensor as one on arrays, checked.

    Raises: ContractError for what is neither, values that are not finite or of another shape, and, with the place, a
        slope that is not the derivative of phi (beyond 1e-3, by central differences between -6 and 6).
    """
    if isinstance(given, Nonlinearity) or (isinstance(given, str) and given in NONLINEARITIES):
        return given
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(callable(f) for f in given):
        raise ContractError(
            f"nonlinearity is {given!r}; it needs to be one of {', '.join(map(repr, NONLINEARITIES))}, or a pair of "
            "functions (phi, slope)."
        )
    phi, slope = (_on_arrays(f, name) for f, name in zip(given, ("phi", "slope"), strict=True))
    found, wanted = slope(PROBES), (phi(PROBES + STEP) - phi(PROBES - STEP)) / (2 * STEP)
    off = np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)
    if off.max() > TOLERANCE:
        k = int(off.argmax())
        raise ContractError(
            f"slope is not the derivative of phi: at x = {PROBES[k]:.3g} it is {found[k]:.4g}, and phi rises by "
            f"{wanted[k]:.4g} per unit; give nonlinearity=(phi, derivative of phi)."
        )
    return Nonlinearity(phi, partial(_of_x, slope))


def _on_arrays(given: Callable[[Any], Any], name: str) -> Callable[[Array], Array]:
    """The function from arrays to new arrays of the same shape and dtype."""
    f = given
    try:
        given(PROBES)
    except (TypeError, AttributeError):  # one of tensors
        from nwb_lint.model._torch import through_torch

        f = partial(through_torch, given)
    try:
        values = _same_dtype(f, PROBES)
    except Exception as error:
        told = " ".join(str(error).split())
        raise ContractError(f"{name} fails on an array ({told}); it needs to take one array and give one.") from error
    if values.shape != PROBES.shape or not np.isfinite(values).all():
        raise ContractError(f"{name} gives another shape, or values that are not finite, between -6 and 6; mend it.")
    return partial(_same_dtype, f)


def _same_dtype(f: Callable[[Array], Array], x: Array) -> Array:
    values = np.asarray(f(x)).astype(x.dtype, copy=False)
    return values.copy() if np.may_share_memory(values, x) else values


def _of_x(slope: Callable[[Array], Array], x: Array, r: Array) -> Array:
    """A slope that looks at x alone."""
    return slope(x)
