"""The low-rank network in numpy: its equation, its nonlinearities, the free run, and changes of its parameters.

With alpha = dt / tau, activation x (dimensionless) and rate r = phi(x), the network of Valente, Pillow & Ostojic
(NeurIPS 2022, section 2) is

    x[t+1] = (1 - alpha) x[t] + alpha (m n' phi(x[t]) / N + I u[t] + b).

Everything except the recurrence is linear in known time courses, the drives q: the filtered inputs v, a constant that
is switched on at the first step (for b), and a decay from the first step (for x[0]). Therefore

    x[t] = m kappa[t] + W q[t],      kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N,   kappa[0] = 0

holds exactly, and one step costs O(N (R + Q)) per condition. An unconstrained connectivity J is the case m = J with
n / N the identity.

Shapes: x (condition, time, neuron), u (condition, time, input), q (condition, burn-in + time, drive), m and n
(neuron, rank), W (neuron, drive), kappa (condition, burn-in + time, rank).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError, one_line
from nwb_lint.model.tuning import (
    DETERMINED_RIDGES,
    FREE_RUN_MIN_CONDITIONS,
    FREE_RUN_VALUES,
    MIN_LATENT_SD,
    SINGULAR_CUTOFF,
    SLOPE_CHECK_POINTS,
    SLOPE_STEP,
    SLOPE_TOLERANCE,
    UNDETERMINED_DRIVE,
    VISITED_SAMPLES,
    VISITED_SHARE,
)
from nwb_lint.parallel.threads import map_in_order

Array = np.ndarray

# ---------------------------------------------------------------------------------------------------------------------
# Nonlinearities


class Nonlinearity(NamedTuple):
    """phi(x) and its derivative, the latter as a function of x and phi(x)."""

    phi: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]

    def __str__(self) -> str:
        return "a pair of functions"


NONLINEARITIES = {
    "tanh": Nonlinearity(np.tanh, lambda x, r: 1 - r * r),
    "relu": Nonlinearity(lambda x: np.maximum(x, 0), lambda x, r: (x > 0).astype(x.dtype)),
    "softplus": Nonlinearity(lambda x: np.logaddexp(x, 0).astype(x.dtype), lambda x, r: 1 - np.exp(-r)),
    "linear": Nonlinearity(np.copy, lambda x, r: np.ones_like(x)),
    "clipped_relu": Nonlinearity(lambda x: np.clip(x, 0, 1), lambda x, r: ((x > 0) & (x < 1)).astype(x.dtype)),
}
_NAMES = ", ".join(map(repr, NONLINEARITIES))
_first, _last, _number, _shift = SLOPE_CHECK_POINTS
SLOPE_POINTS = np.linspace(_first, _last, _number) + _shift


def nonlinearity_of(value: object) -> Nonlinearity:
    """The functions phi and slope that a fit's attribute ``nonlinearity`` means.

    Parameters
    ----------
    value : str or Nonlinearity
        A name in `NONLINEARITIES`, or a pair that `as_nonlinearity` checked.

    Returns
    -------
    Nonlinearity
        ``phi(x)`` and ``slope(x, phi(x))`` on arrays of any shape.

    Raises
    ------
    ContractError
        If the name is not known.
    """
    if isinstance(value, Nonlinearity):
        return value
    if str(value) not in NONLINEARITIES:
        raise ContractError(f"nonlinearity is {value!r}. It must be one of {_NAMES}.")
    return NONLINEARITIES[str(value)]


def without_output(value: str | Nonlinearity, silent: slice) -> Nonlinearity:
    """phi that is 0 for some of the units, along the last dim: they receive and do not send."""
    pair = nonlinearity_of(value)
    return Nonlinearity(partial(_zero, pair.phi, silent), partial(_zero, pair.slope, silent))


def _zero(function: Callable[..., Array], silent: slice, *x: Array) -> Array:
    """What a function gives, with 0 for some of the units."""
    found = function(*x)
    found[..., silent] = 0
    return found


def phi_of(value: str | Nonlinearity, x: Any) -> Nonlinearity:
    """The functions phi and slope that a fit's attribute ``nonlinearity`` means, for arrays or tensors as ``x`` is."""
    if isinstance(x, np.ndarray):
        return nonlinearity_of(value)
    from nwb_lint.model._torch import nonlinearity

    return Nonlinearity(*nonlinearity(value))


def as_nonlinearity(value: object) -> str | Nonlinearity:
    """Check a nonlinearity that a user gave.

    The slope of a pair is compared with central differences of phi between -6 and 6.

    Parameters
    ----------
    value : str or tuple of two callables
        A name in `NONLINEARITIES`, or (phi, derivative of phi). Each function takes one array or one tensor.

    Returns
    -------
    str or Nonlinearity
        The name, or the pair as functions of arrays.

    Raises
    ------
    ContractError
        If it is neither, if a function fails or returns another shape or values that are not finite, or if the slope
        is not the derivative of phi.
    """
    if isinstance(value, Nonlinearity) or (isinstance(value, str) and value in NONLINEARITIES):
        return value
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(callable(f) for f in value):
        raise ContractError(
            f"nonlinearity is {value!r}. It must be one of {_NAMES}, or a pair of functions (phi, derivative of phi)."
        )
    phi, slope = (_on_arrays(f, name) for f, name in zip(value, ("phi", "slope"), strict=True))
    rise = (phi(SLOPE_POINTS + SLOPE_STEP) - phi(SLOPE_POINTS - SLOPE_STEP)) / (2 * SLOPE_STEP)
    found = slope(SLOPE_POINTS)
    off = np.abs(found - rise) / np.maximum(np.abs(rise), 1)
    if off.max() > SLOPE_TOLERANCE:
        k = int(off.argmax())
        raise ContractError(
            f"slope is not the derivative of phi: at x = {SLOPE_POINTS[k]:.3g} the slope is {found[k]:.4g}, but phi "
            f"rises by {rise[k]:.4g} per unit. Give nonlinearity=(phi, derivative of phi)."
        )
    return Nonlinearity(phi, partial(_slope_of_x, slope))


def _on_arrays(given: Callable[[Any], Any], name: str) -> Callable[[Array], Array]:
    """The function of one array or tensor as a function from an array to a new array of the same shape and dtype."""
    f = given
    try:
        given(SLOPE_POINTS)
    except (TypeError, AttributeError):  # a function of tensors
        from nwb_lint.model._torch import through_torch

        f = partial(through_torch, given)
    try:
        values = _new_array(f, SLOPE_POINTS)
    except Exception as error:  # whatever the user's function raises
        raise ContractError(
            f"{name} fails on an array ({one_line(error)}). It must take one array and return one array."
        ) from error
    if values.shape != SLOPE_POINTS.shape or not np.isfinite(values).all():
        raise ContractError(
            f"{name} returns another shape, or values that are not finite, for an array between -6 and 6. Correct it."
        )
    return partial(_new_array, f)


def _new_array(f: Callable[[Array], Array], x: Array) -> Array:
    values = np.asarray(f(x)).astype(x.dtype, copy=False)
    return values.copy() if np.may_share_memory(values, x) else values


def _slope_of_x(slope: Callable[[Array], Array], x: Array, r: Array) -> Array:
    """A slope that does not use r = phi(x)."""
    return slope(x)


# ---------------------------------------------------------------------------------------------------------------------
# The network and its free run


class Network(NamedTuple):
    """Parameters: ``m`` (neuron, rank), ``n`` (neuron, rank) or None (then m is J), ``w`` (neuron, drive).

    Hidden units are rows after those of the recorded neurons.
    """

    m: Array
    n: Array | None
    w: Array

    @property
    def n_neurons(self) -> int:
        """Number of neurons N, including hidden units."""
        return self.m.shape[-2]

    def j(self) -> Array:
        """Connectivity J = m n' / N, (neuron, neuron_from)."""
        return self.m if self.n is None else self.m @ self.n.T / self.n_neurons

    def norm_of_j(self) -> float:
        """||J||, without J where there are m and n."""
        if self.n is None:
            return float(np.linalg.norm(self.m))
        square = ((self.m.T @ self.m) * (self.n.T @ self.n)).sum() / self.n_neurons**2
        return float(np.sqrt(max(square, 0.0)))


def stacked(networks: Sequence[Network]) -> Network:
    """Networks of equal shape as one, with a first dim for the networks, which `free_run` takes."""
    n = None if networks[0].n is None else np.stack([one.n for one in networks if one.n is not None])
    return Network(np.stack([one.m for one in networks]), n, np.stack([one.w for one in networks]))


def random_network(n_neurons: int, rank: int, n_drives: int, seed: int) -> Network:
    """m, n, W ~ N(0, 1): the start of the published training loop."""
    generator = np.random.default_rng(seed)
    m, n, w = (generator.standard_normal((n_neurons, k)) for k in (rank, rank, n_drives))
    return Network(m, n, w)


def filter_input(u: Array, alpha: float) -> Array:
    """Low-pass filter over time: v[0] = 0, v[t+1] = (1 - alpha) v[t] + alpha u[t].

    The last sample of u has no effect.

    Parameters
    ----------
    u : array of shape (condition, time, any)
    alpha : float
        Time step / time constant.

    Returns
    -------
    array of the shape and dtype of ``u``
    """
    v = np.zeros_like(u)
    for t in range(u.shape[1] - 1):
        v[:, t + 1] = (1 - alpha) * v[:, t] + alpha * u[:, t]
    return v


def drives(u: Array, alpha: float, *, bias: bool, initial: bool) -> Array:
    """Time courses q on which the weights W act linearly.

    The columns are the filtered inputs v, then 1 - (1 - alpha)^t for a bias, then (1 - alpha)^t for an initial
    activation.

    Parameters
    ----------
    u : array of shape (condition, burn-in + time, input)
    alpha : float
        Time step / time constant.
    bias, initial : bool
        Whether there is a column for a bias, and one for an initial activation.

    Returns
    -------
    array of shape (condition, burn-in + time, input + bias + initial), dtype of ``u``
    """
    decay = np.broadcast_to((1 - alpha) ** np.arange(u.shape[1])[None, :, None], (*u.shape[:2], 1))
    columns = [filter_input(u, alpha)] + [1 - decay] * bias + [decay] * initial
    return np.concatenate(columns, axis=2).astype(u.dtype)


def free_run(
    network: Network,
    q: Array,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    gain: Array | None = None,
    drive: Array | None = None,
    onto: Array | None = None,
) -> Iterator[tuple[Array, Array]]:
    """Yield x (condition, neuron) and kappa (condition, rank) of every time step; arguments as in `forward`.

    A stack of networks runs at once (`stacked`); x and kappa then have one more dim, the first.
    """
    phi, rank = nonlinearity_of(nonlinearity).phi, network.m.shape[-1]
    mw = np.concatenate([network.m, network.w], axis=-1).swapaxes(-1, -2).astype(q.dtype)  # x = [kappa q] [m W]'
    n = None if network.n is None else network.n.astype(q.dtype) / network.n_neurons
    added = None if drive is None else filter_input(drive[None], alpha).astype(q.dtype)[0]
    gains = None if gain is None else np.broadcast_to(gain, (q.shape[1], network.n_neurons)).astype(q.dtype)
    kappa = np.zeros((*mw.shape[:-2], len(q), rank), q.dtype)
    for t in range(q.shape[1]):
        now = np.broadcast_to(q[:, t], (*kappa.shape[:-1], q.shape[2]))
        x = np.concatenate([kappa, now], axis=-1) @ mw
        if added is not None:
            x += added[t]
        yield x, kappa
        if t + 1 == q.shape[1]:
            return
        r = phi(x)
        if gains is not None and onto is not None and n is not None:
            total = r @ n
            total[..., onto] = (r * gains[t]) @ n[:, onto]
        else:
            if gains is not None:
                r *= gains[t]
            total = r if n is None else r @ n
        kappa = (1 - alpha) * kappa + alpha * total


def condition_blocks(n_conditions: int, n_neurons: int) -> list[slice]:
    """Blocks of conditions that run together: small enough for the cache, large enough to be worth the calls."""
    size = max(FREE_RUN_MIN_CONDITIONS, FREE_RUN_VALUES // n_neurons)
    return [slice(first, first + size) for first in range(0, n_conditions, size)]


def forward(
    network: Network,
    q: Array,
    alpha: float,
    nonlinearity: str | Nonlinearity = "tanh",
    gain: Array | None = None,
    drive: Array | None = None,
    onto: Array | None = None,
) -> tuple[Array, Array]:
    """Run the network freely.

    Parameters
    ----------
    network : Network
    q : array of shape (condition, burn-in + time, drive)
        From `drives`.
    alpha : float
        Time step / time constant.
    nonlinearity : str or Nonlinearity, default="tanh"
    gain : array of shape (neuron,) or (burn-in + time, neuron), optional
        Factor on the output of every neuron. 0 silences it; N does not change.
    drive : array of shape (burn-in + time, neuron), optional
        Additional input, the same in all conditions: x gains its filtered time course.
    onto : array of shape (rank,), bool, optional
        The latents that the gain acts on. None = all.

    Returns
    -------
    x : array of shape (condition, burn-in + time, neuron)
        Activation, dtype of ``q``.
    kappa : array of shape (condition, burn-in + time, rank)
        Latents.
    """
    n_neurons, rank = network.m.shape
    x, kappa = (np.empty((*q.shape[:2], k), q.dtype) for k in (n_neurons, rank))

    def run(block: slice) -> None:
        for t, state in enumerate(free_run(network, q[block], alpha, nonlinearity, gain, drive, onto)):
            x[block, t], kappa[block, t] = state

    for _ in map_in_order(run, condition_blocks(len(q), n_neurons)):
        pass
    return x, kappa


# ---------------------------------------------------------------------------------------------------------------------
# Changes of the parameters


def canonical(m: Array, n: Array) -> tuple[Array, Array]:
    """Rewrite m and n in the canonical gauge, with the same J = m n' / N.

    With m n' = U S V': m = U and n = V S. Columns come in order of falling singular value, and the columns of m have
    the sign of `column_signs`.

    Parameters
    ----------
    m, n : array of shape (neuron, rank)

    Returns
    -------
    m, n : array of shape (neuron, rank)
    """
    qm, rm = np.linalg.qr(m)
    qn, rn = np.linalg.qr(n)
    u, s, vt = np.linalg.svd(rm @ rn.T)
    left, right = qm @ u, qn @ vt.T * s
    sign = column_signs(left)
    return left * sign, right * sign


def column_signs(vectors: Array) -> Array:
    """The sign of each column (neuron, column) for which the sum of its cubes is positive.

    Vectors that differ by noise keep this sign more often than that of their largest entry, and the skewness has it
    for a skewed population with mean 0.
    """
    return np.where((vectors**3).sum(axis=0) < 0, -1.0, 1.0)


def effective_n(m: Array, n: Array, weights: Array) -> Array:
    """Project n on the space that activity can reach: P n, with P the orthogonal projector on span(m, weights).

    The effective connectivity is J_eff = m (P n)' / N. Directions whose singular value is below 1e-10 of the largest
    do not count, so that collinear inputs do not add any.

    Parameters
    ----------
    m, n : array of shape (neuron, rank)
    weights : array of shape (neuron, input)
        Input weights, and the bias if there is one.

    Returns
    -------
    array of shape (neuron, rank)

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2.
    """
    left, s, _ = np.linalg.svd(np.column_stack([m, weights]), full_matrices=False)
    basis = left[:, s > SINGULAR_CUTOFF * s.max(initial=0)]
    return basis @ (basis.T @ n)


class DeterminedN(NamedTuple):
    """The n of least norm that acts as n does on the visited states: ``n`` (neuron, rank).

    ``directions`` (neuron, direction) are the principal directions of the visited rates, and ``shares`` (direction)
    says how much of n along each is determined, from 0 to 1. ``ridge`` is relative to the mean power of the rates.
    """

    n: Array
    directions: Array
    shares: Array
    ridge: float

    def completed(self, size: float | Array, rng: np.random.Generator) -> Array:
        """n with a random part of this size (rank) where it is not determined: the draw of greatest entropy."""
        part = size * rng.standard_normal(self.n.shape)
        along = self.directions.T @ part
        return self.n + part - self.directions @ ((1 - np.sqrt(1 - self.shares))[:, None] * along)


def determined_n(n: Array, x: Array, nonlinearity: str | Nonlinearity, ridge: float | None = None) -> DeterminedN:
    """The part of n that the visited states determine: ridge regression of n' phi(x) on phi(x).

    Parameters
    ----------
    n : array of shape (neuron, rank)
    x : array of shape (sample, neuron)
        Activations that the network visits.
    nonlinearity : str or Nonlinearity
    ridge : float, optional
        Relative to the mean power of phi(x). None = the largest with which every n' phi(x) keeps all but
        `UNDETERMINED_DRIVE` of its power.

    Returns
    -------
    DeterminedN
    """
    rates = nonlinearity_of(nonlinearity).phi(x[:: -(-len(x) // VISITED_SAMPLES)].astype(float))
    _, singular, directions = np.linalg.svd(rates, full_matrices=False)
    power, along = singular**2, directions @ n
    unit = max(power.sum() / len(n), np.finfo(float).tiny)

    def shares(relative: float) -> Array:
        return power / (power + relative * unit)

    def lost(relative: float) -> float:
        drive = power[:, None] * along**2
        left = ((1 - shares(relative))[:, None] ** 2 * drive).sum(axis=0)
        return float((left / np.maximum(drive.sum(axis=0), np.finfo(float).tiny)).max(initial=0.0))

    if ridge is None:
        ridge = next((one for one in DETERMINED_RIDGES if lost(one) <= UNDETERMINED_DRIVE), DETERMINED_RIDGES[-1])
    return DeterminedN(directions.T @ (shares(ridge)[:, None] * along), directions.T, shares(ridge), ridge)


def norm_ratio(network: Network, n_constant: int, x: Array) -> float:
    """||n|| / ||P n||: how much longer n is than its effective part, which alone moves the noise-free dynamics.

    Without a rank it is ||J|| / ||J P||, with P on the principal directions that hold `VISITED_SHARE` of the power.

    Parameters
    ----------
    network : Network
    n_constant : int
        Number of the first columns of W that span the space with m: inputs and bias.
    x : array of shape (condition, time, neuron)
        Activity of a free run, for a network without m and n.

    Returns
    -------
    float
        At least 1; NaN if the effective part is 0.
    """
    if network.n is not None:
        m, n = canonical(network.m, network.n)
        whole, part = n, effective_n(m, n, network.w[:, :n_constant])
    else:
        flat = x.reshape(-1, x.shape[2]).astype(float)
        power, directions = np.linalg.eigh(np.nan_to_num(flat.T @ flat))
        share = np.cumsum(power[::-1]) / max(power.sum(), np.finfo(float).tiny)
        visited = directions[:, ::-1][:, : int(np.searchsorted(share, VISITED_SHARE)) + 1]
        whole, part = network.m, network.m @ visited
    size = float(np.linalg.norm(part))
    return float(np.linalg.norm(whole)) / size if size > 0 else np.nan


def with_unit_latents(network: Network, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Network:
    """The same J with m and n rescaled so that the latents have variance 1 on the drives q.

    L-BFGS and random hidden units need this scale. A network whose latents are not finite does not change.
    """
    m, n, w = factors(network)
    latents = _latents(network, q, alpha, nonlinearity)
    if latents is None:
        return network
    scale = latents.std(axis=0)
    scale = np.where(scale > MIN_LATENT_SD, scale, 1.0)
    return Network(m * scale, n / scale, w)


def reduce_rank(network: Network, rank: int, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Network:
    """The network of lower rank that keeps most of the recurrent part of the activity, m kappa, on the drives q.

    With U the leading principal directions of m kappa: the new m is U, and the new n is n m' U. Large directions of J
    need not be large in the activity.
    """
    m, n, w = factors(network)
    latents = _latents(network, q, alpha, nonlinearity)
    latents = np.eye(m.shape[1]) if latents is None else latents.astype(float)
    directions, _, _ = np.linalg.svd(m @ np.linalg.qr(latents)[1].T, full_matrices=False)
    kept = directions[:, :rank]
    return Network(kept, n @ (m.T @ kept), w)


def _latents(network: Network, q: Array, alpha: float, nonlinearity: str | Nonlinearity) -> Array | None:
    """Latents (condition · time, rank) of the free run; None if one is not finite."""
    kappa = np.empty((*q.shape[:2], factors(network)[0].shape[1]), q.dtype)

    def run(block: slice) -> None:
        for t, (_, latents) in enumerate(free_run(network, q[block], alpha, nonlinearity)):
            kappa[block, t] = latents

    with np.errstate(all="ignore"):
        for _ in map_in_order(run, condition_blocks(len(q), network.n_neurons)):
            pass
    return kappa.reshape(-1, kappa.shape[-1]) if np.isfinite(kappa).all() else None


def factors(network: Network) -> tuple[Array, Array, Array]:
    """m, n and W of a low-rank network."""
    if network.n is None:
        raise ContractError("The network has an unconstrained J. This step needs m and n: fit with a rank.")
    return network.m, network.n, network.w
