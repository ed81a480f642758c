"""Loss and exact gradient of the free run in torch, epochs of Adam, and the published training loop.

The only module that imports torch for the fit. It takes and returns numpy arrays.

Gradient. With z = [kappa q], e[t] the derivative of the loss by x[t] alone, g[t] that by x[t] through everything after
it, and lambda[t] the derivative by kappa[t],

    g[t]      = e[t] + phi'(x[t]) (alpha / N) n lambda[t+1]
    lambda[t] = m' g[t] + (1 - alpha) lambda[t+1]
    d[m W]    = sum g[t] z[t]',   dn = (alpha / N) sum phi(x[t]) lambda[t+1]'

Loss and gradient cost O(conditions × time × N × (R + Q)). The way back does everything with a block of time steps while
it is in the cache, so that x and phi(x) are written once and read once; on a CPU nothing else of their size is stored.
Products have the long axis last (A @ B'.contiguous()' and B' @ A), because BLAS is up to 7 times slower on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from nwb_lint.model.tuning import (
    ADAM_BATCH,
    ADAM_MIN_STEPS,
    GPU_FACTOR,
    GRADIENT_BLOCK_VALUES,
    GRADIENT_CHUNK_VALUES,
    GRADIENT_MIN_CONDITIONS,
    GRADIENT_STEP_VALUES,
    MIN_PARAMETER_RMS,
    POWER_VALUES,
    PUBLISHED_BATCH,
    PUBLISHED_CLIP,
    PUBLISHED_RATE,
)

Array = np.ndarray
Pair = Any  # `nwb_lint.model.network.Nonlinearity`: numpy functions phi(x) and slope(x, phi(x))

# ---------------------------------------------------------------------------------------------------------------------
# Nonlinearities and devices


class _PairFunction(torch.autograd.Function):
    """phi of a pair of numpy functions, with its slope as gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pair: Pair) -> Tensor:
        r = _through_numpy(pair.phi, x)
        ctx.save_for_backward(x, r)
        ctx.pair = pair
        return r

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * _through_numpy(ctx.pair.slope, *ctx.saved_tensors), None


def _through_numpy(f: Callable[..., Array], *arrays: Tensor) -> Tensor:
    return torch.as_tensor(f(*(a.detach().cpu().numpy() for a in arrays))).to(arrays[0])


def through_torch(f: Callable[[Tensor], Tensor], x: Array) -> Array:
    """Apply a function of tensors to an array."""
    return f(torch.as_tensor(np.ascontiguousarray(x))).detach().cpu().numpy()


class _Functions(dict[str | Pair, Callable[[Tensor], Tensor]]):
    """phi by name; the key may also be a pair of numpy functions."""

    def __missing__(self, pair: Pair) -> Callable[[Tensor], Tensor]:
        return lambda x: _PairFunction.apply(x, pair)


PHI = _Functions(
    {
        "tanh": torch.tanh, "relu": torch.relu, "softplus": torch.nn.functional.softplus, "linear": torch.clone,
        "clipped_relu": lambda x: torch.clamp(x, 0, 1),
    }
)  # fmt: skip


def _phi(name: str | Pair, x: Tensor, *, out: Tensor) -> None:
    """Write phi(x) to ``out``."""
    if name == "tanh":
        torch.tanh(x, out=out)
    else:
        out.copy_(PHI[name](x))


def _slope(name: str | Pair, x: Tensor, r: Tensor, *, out: Tensor) -> None:
    """Write phi'(x) to ``out``, from x or from r = phi(x)."""
    if not isinstance(name, str):
        out.copy_(_through_numpy(name.slope, x, r))
    elif name == "tanh":
        torch.addcmul(r.new_ones(()), r, r, value=-1, out=out)
    elif name == "linear":
        out.fill_(1)
    elif name == "relu":
        out.copy_(x > 0)
    elif name == "clipped_relu":
        out.copy_((x > 0) & (x < 1))
    else:  # softplus
        torch.expm1(-r, out=out).neg_()


def nonlinearity(value: str | Pair) -> tuple[Any, Any]:
    """phi(x) and its slope (x, phi(x)) on tensors."""

    def slope(x: Tensor, r: Tensor) -> Tensor:
        out = torch.empty_like(x)
        _slope(value, x, r, out=out)
        return out

    return PHI[value], slope


@contextmanager
def _one_thread() -> Iterator[int]:
    """torch in one thread, since chunks run side by side; yields the number of threads that was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------------------------
# Loss and gradient

Sums = tuple[Tensor, ...]


class _Parameters(NamedTuple):
    """A network, transposed: m, (alpha / N) n (rank, neuron), [m W] (rank + drive, neuron)."""

    m: Tensor
    n: Tensor
    mw: Tensor


def _add(parts: Iterable[Sums]) -> Sums:
    return reduce(lambda one, other: tuple(a + b for a, b in zip(one, other, strict=True)), parts)


def _as_operand(values: Tensor) -> Any:
    """A tensor for `_multiply`: on a CPU as an array of the same memory."""
    return values.numpy() if values.is_cpu else values


def _by_steps(values: Tensor) -> list[Any]:
    """The parts of a tensor along its first axis, each for `_multiply`."""
    return list(_as_operand(values))


def _multiply(a: Any, b: Any, out: Any) -> None:
    """Write a @ b to ``out``. On a CPU, numpy multiplies thin matrices up to six times as fast as torch."""
    if isinstance(out, np.ndarray):
        np.dot(a, b, out=out)
    else:
        torch.mm(a, b, out=out)


def _filter(before: Any, keep: float, a: Any, b: Any, out: Any) -> None:
    """Write keep · before + a @ b to ``out``."""
    if isinstance(out, np.ndarray):
        np.multiply(before, keep, out=out)
        np.add(out, np.dot(a, b), out=out)
    else:
        torch.addmm(before, a, b, beta=keep, out=out)


class Memory:
    """Memory of a run: x and phi(x) (time, condition, neuron), and z = [kappa q] (time, condition, any).

    Of the way back: ``after`` (time + 1, condition, rank), half of lambda, 0 at its end; ``slope``, phi'(x), and ``g``,
    half of g, of a block of time steps (step, condition, neuron); ``inner`` (condition, neuron), of one step. A block
    is so small that it stays in the cache of a CPU. On a GPU it has all time steps, since each call costs time there.

    It is used again, since new memory pages cost as much time as the arithmetic. So are ``steps``, x, phi(x), z and
    kappa of each time step, since the time of a small run is that of its calls. On a CPU they are arrays.
    """

    def __init__(self, like: Tensor) -> None:
        self.values, self.sizes = like.new_empty(2, 0), (0, 0, 0, 0, 0)
        self.x = self.r = self.z = self.slope = self.g = self.inner = self.after = self.values
        self.steps: list[tuple[Any, ...]] = []

    def fit(self, q: Tensor, rank: int, n_neurons: int, values: int) -> None:
        """Take the shape of a run on these drives; z gets them, and latents of 0 at its start."""
        sizes = (*q.shape, rank, n_neurons)
        if sizes != self.sizes:
            if self.values.shape[1] < values:
                self.values = q.new_empty(2, values)
            times, conditions = q.shape[:2]
            shape = times, conditions, n_neurons
            block = max(1, GRADIENT_BLOCK_VALUES // (conditions * n_neurons)) if q.is_cpu else times
            self.x, self.r = (one[: prod(shape)].view(shape) for one in self.values)
            self.slope, self.g = q.new_empty(2, min(block, times), conditions, n_neurons)
            self.inner, self.after = q.new_empty(conditions, n_neurons), q.new_zeros(times + 1, conditions, rank)
            self.z, self.sizes = q.new_empty(times, conditions, rank + q.shape[2]), sizes
            parts = self.x, self.r, self.z, self.z[:, :, :rank]
            self.steps = list(zip(*map(_by_steps, parts), strict=True))
        self.z[:, :, rank:] = q
        self.z[0, :, :rank] = 0

    def blocks(self, first: int, last: int) -> list[slice]:
        """Blocks of the time steps from the first up to the last, which is not among them."""
        return [slice(t, min(t + len(self.slope), last)) for t in range(first, last, len(self.slope))]


class Problem:
    """The data of one fit on a device, and the loss of a network on them.

    loss = sum weight (f(x) - f(y))² / sum weight f(y)², with f the identity ("activity") or phi ("rate"), and x the
    free run of the network after the burn-in, of the recorded neurons, which come first. For centered data this is near
    1 - R². ``start`` (condition, rank), the first latents, is None for 0.

    Parameters
    ----------
    q : array of shape (condition, burn-in + time, drive)
    y : array of shape (condition, time, recorded)
        Activity, without NaN.
    weight : array of shape (condition, time, recorded) or None
        Weights of the squared errors, 0 = not observed. None = all equal.
    alpha : float
        Time step / time constant.
    nonlinearity : str or Nonlinearity, default="tanh"
    loss : {"activity", "rate"}, default="activity"
    device : str, default="cpu"
    dtype : {"float32", "float64"}, default="float32"
    chunk : int, optional
        Conditions that are processed together. None = as many as fit in the cache.
    """

    def __init__(
        self,
        q: Array,
        y: Array,
        weight: Array | None,
        *,
        alpha: float,
        nonlinearity: str | Pair = "tanh",
        loss: str = "activity",
        device: str = "cpu",
        dtype: str = "float32",
        chunk: int | None = None,
    ) -> None:
        self.dtype, self.device = getattr(torch, dtype), device
        self.alpha, self.nonlinearity, self.rate_loss = alpha, nonlinearity, loss == "rate"
        self.q, self.y = self._time_first(q), self._time_first(y)
        self.weight = None if weight is None else self._time_first(weight)
        if self.rate_loss:
            self.y = PHI[nonlinearity](self.y)
        self.start: Tensor | None = None
        self.skip = self.q.shape[0] - self.y.shape[0]
        step = max(1, POWER_VALUES * len(self.y) // max(self.y.numel(), 1))  # a square of everything is a copy of it
        parts = [slice(t, t + step) for t in range(0, len(self.y), step)]
        self.norm = sum(self._power(part) for part in parts) or 1.0
        self.chunk = chunk
        self.memories: list[Memory] = []

    def _power(self, part: slice) -> float:
        """Weighted sum of squares of some time steps."""
        power = self.y[part] ** 2
        if self.weight is not None:
            power = self.weight[part] * power
        return float(power.sum(dtype=torch.float64))

    def _time_first(self, a: Array) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(np.swapaxes(a, 0, 1)))
        return tensor.to(self.device, self.dtype)

    def tensor(self, a: Array) -> Tensor:
        """An array as a tensor of the problem's dtype, on its device."""
        return torch.as_tensor(np.asarray(a)).to(self.device, self.dtype)

    def take(self, conditions: Array) -> Problem:
        """The problem of some of its conditions. Its loss is a mean over them, as that of the whole problem."""
        part, chosen = copy(self), torch.as_tensor(conditions, device=self.device)
        part.q, part.y = self.q[:, chosen], self.y[:, chosen]
        part.weight = None if self.weight is None else self.weight[:, chosen]
        part.start = None if self.start is None else self.start[chosen]
        part.norm = self.norm * len(conditions) / self.q.shape[1]
        return part

    def pack(self, m: Array, n: Array, w: Array) -> _Parameters:
        """The parameters m, n and W as the functions for one chunk take them."""
        mt, nt = self.tensor(m).T.contiguous(), self.tensor(n).T.contiguous() * (self.alpha / len(n))
        mw = torch.cat([self.tensor(m), self.tensor(w)], dim=1).T.contiguous()
        return _Parameters(mt, nt, mw)

    def chunks(self, n_neurons: int) -> list[slice]:
        """Slices of conditions that are processed together."""
        times, conditions = self.q.shape[:2]
        factor = 1 if self.device == "cpu" else GPU_FACTOR
        step = min(GRADIENT_STEP_VALUES // n_neurons, GRADIENT_CHUNK_VALUES // (times * n_neurons))
        step = self.chunk or max(GRADIENT_MIN_CONDITIONS, step * factor)
        return [slice(i, i + step) for i in range(0, conditions, step)]

    def _sum_over_chunks(self, work: Callable[[_Parameters, slice, Memory], Sums], *network: Array) -> Sums:
        """The sum of ``work`` over chunks of conditions: side by side on a CPU, added in their order."""
        parameters, parts = self.pack(*network), self.chunks(len(network[0]))
        values = len(self.q) * min(parts[0].stop, self.q.shape[1]) * len(network[0])

        def with_memory(part: slice) -> Sums:
            try:
                memory = self.memories.pop()
            except IndexError:
                memory = Memory(self.q)
            memory.fit(self.q[:, part], len(parameters.m), len(network[0]), values)
            if self.start is not None:
                memory.z[0, :, : self.start.shape[1]] = self.start[part]
            with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges has a loss that is not finite
                sums = work(parameters, part, memory)
            self.memories.append(memory)
            return sums

        with _one_thread() as threads:
            if len(parts) == 1 or threads == 1 or self.device != "cpu":
                return _add(map(with_memory, parts))
            with ThreadPoolExecutor(threads) as pool:
                return _add(pool.map(with_memory, parts))

    def run(self, p: _Parameters, memory: Memory) -> None:
        """The free run: x, phi(x) and the latents of z. On a CPU, numpy's tanh is faster than torch's, and as exact."""
        mw, n = map(_as_operand, (p.mw, p.n.T))
        for t, (x, r, z, kappa) in enumerate(memory.steps):
            _multiply(z, mw, out=x)
            if self.nonlinearity == "tanh" and isinstance(x, np.ndarray):
                np.tanh(x, out=r)
            else:
                _phi(self.nonlinearity, memory.x[t], out=memory.r[t])
            if t + 1 < len(memory.steps):
                _filter(kappa, 1 - self.alpha, r, n, out=memory.steps[t + 1][3])

    def _error(self, memory: Memory, times: slice, part: slice, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """weight · (f(x) - f(y)) of the recorded neurons at times after the burn-in, and their loss.

        The first, written to ``out``, is half the derivative of the loss by f(x).
        """
        here = slice(times.start - self.skip, times.stop - self.skip), part
        found = (memory.r if self.rate_loss else memory.x)[times, :, : self.y.shape[2]]
        if self.weight is None:
            error = weighted = torch.sub(found, self.y[here], out=out)
        else:
            error = found - self.y[here]
            weighted = torch.mul(error, self.weight[here], out=out)
        return weighted, torch.linalg.vecdot(error, weighted).sum(dtype=torch.float64)

    @torch.no_grad()
    def _chunk_loss(self, p: _Parameters, part: slice, memory: Memory) -> Sums:
        self.run(p, memory)
        blocks = memory.blocks(self.skip, len(memory.x))
        return (torch.stack([self._error(memory, times, part)[1] for times in blocks]).sum(),)

    def loss(self, m: Array, n: Array, w: Array) -> float:
        """The loss at m, n (neuron, rank) and W (neuron, drive)."""
        (total,) = self._sum_over_chunks(self._chunk_loss, m, n, w)
        return float(total) / self.norm

    def loss_and_gradient(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """The loss and its exact gradients by m, n and W (float64, with the shapes of m, n and W)."""
        sums = self._sum_over_chunks(self._chunk_loss_and_gradient, m, n, w)
        total, mw, gn = (part.cpu().numpy() / self.norm for part in sums)
        rank = m.shape[1]
        return float(total), mw[:rank].T, gn.T, mw[rank:].T

    @torch.no_grad()
    def _chunk_loss_and_gradient(self, p: _Parameters, part: slice, memory: Memory) -> Sums:
        """The chunk's share of the loss and of its gradients by [m W]' and n', times norm."""
        self.run(p, memory)
        recorded = self.y.shape[2]
        mw, gn, total = torch.zeros_like(p.mw), torch.zeros_like(p.n), p.m.new_zeros((), dtype=torch.float64)
        blocks = memory.blocks(0, self.skip) + memory.blocks(self.skip, len(memory.x))
        for times in reversed(blocks):
            number = times.stop - times.start
            r, slope, g = memory.r[times], memory.slope[:number], memory.g[:number]
            _slope(self.nonlinearity, memory.x[times], r, out=slope)
            g[:, :, recorded:] = 0
            if times.start < self.skip:
                g[:, :, :recorded] = 0
            else:
                total += self._error(memory, times, part, out=g[:, :, :recorded])[1]
                if self.rate_loss:
                    g.mul_(slope)
            self._backward(p, memory, times, slope, g)
            later = memory.after[times.start + 1 : times.stop + 1]
            gn.addmm_(later.flatten(0, 1).T, r.flatten(0, 1))
            mw.addmm_(memory.z[times].flatten(0, 1).T, g.flatten(0, 1))
        return total, 2 * mw.double(), (2 * self.alpha / p.m.shape[1]) * gn.double()

    def _backward(self, p: _Parameters, memory: Memory, times: slice, slope: Tensor, g: Tensor) -> None:
        """Half of lambda and g of a block of time steps; ``g`` holds half of e before."""
        m, n, inner = map(_as_operand, (p.m.T, p.n, memory.inner))
        after, slopes, gs = map(_by_steps, (memory.after[times.start : times.stop + 1], slope, g))
        for t in range(len(gs) - 1, -1, -1):
            _multiply(after[t + 1], n, out=inner)
            inner *= slopes[t]
            gs[t] += inner
            _filter(after[t + 1], 1 - self.alpha, gs[t], m, out=after[t])

    def autograd(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """The same loss and gradients by automatic differentiation of the plain recurrence, as an independent check."""
        mt, nt, wt = (self.tensor(p).requires_grad_() for p in (m, n, w))
        loss = self.differentiable_loss(mt, nt, wt, self.q, self.y, self.weight)
        loss = loss / self.norm
        loss.backward()
        grads = [p.grad.cpu().numpy().astype(float) for p in (mt, nt, wt) if p.grad is not None]
        return float(loss.detach()), grads[0], grads[1], grads[2]

    def differentiable_loss(
        self, m: Tensor, n: Tensor, w: Tensor, q: Tensor, y: Tensor, weight: Tensor | None
    ) -> Tensor:
        """The loss of some conditions times norm, with the graph that torch differentiates."""
        kappa, phi, total = q.new_zeros(q.shape[1], m.shape[1]), PHI[self.nonlinearity], q.new_zeros(())
        for t in range(q.shape[0]):
            x = kappa @ m.T + q[t] @ w.T
            r = phi(x)
            kappa = (1 - self.alpha) * kappa + self.alpha * (r @ n) / n.shape[0]
            if t >= self.skip:
                error = (r if self.rate_loss else x)[:, : y.shape[2]] - y[t - self.skip]
                total = total + (error**2 if weight is None else error**2 * weight[t - self.skip]).sum()
        return total


# ---------------------------------------------------------------------------------------------------------------------
# Adam

# The defaults of `torch.optim.Adam`. The class itself is not used: it imports the compiler of torch, 1.3 s.
ADAM_DEFAULTS: dict[str, Any] = {
    "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False, "maximize": False,
}  # fmt: skip
AdamState = tuple[Array, ...]  # m, n, W; their first moments; their second moments; number of steps


def adam_start(m: Array, n: Array, w: Array) -> AdamState:
    """The state of Adam before its first step."""
    zeros = [np.zeros_like(p, dtype=float) for p in (m, n, w)]
    return m.astype(float), n.astype(float), w.astype(float), *zeros, *zeros, np.zeros(1)


def adam_epoch(
    problem: Problem, *state: Array, rate: float, order: Array, penalized: Callable[[Any], Any] = lambda loss: loss
) -> tuple[Any, ...]:
    """One epoch of Adam on batches of conditions.

    Parameters
    ----------
    problem : Problem
    *state : array
        From `adam_start`, or from the epoch before.
    rate : float
        Step size, in units of the root mean square of m, of n and of W.
    order : int array of shape (condition,)
        The conditions in the order in which they are used.
    penalized : callable, optional
        Adds a penalty to a function that returns a loss and its gradients.

    Returns
    -------
    loss : float
        Mean loss of the epoch. NaN if it diverged.
    *state : array
        The state after the epoch; the state before it if it diverged.
    """
    parameters, first, second = ([torch.as_tensor(p.copy()) for p in state[k : k + 3]] for k in (0, 3, 6))
    sizes = [max(float(np.sqrt(np.mean(p * p))), MIN_PARAMETER_RMS) for p in state[:3]]
    steps = [torch.tensor(float(state[9][0])) for _ in parameters]
    total = 0.0
    for batch in np.array_split(order, min(len(order), max(ADAM_MIN_STEPS, len(order) // ADAM_BATCH))):
        loss_and_gradient = penalized(problem.take(batch).loss_and_gradient)
        loss, *gradients = loss_and_gradient(*(p.numpy() for p in parameters))
        if not (np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)):
            return np.nan, *state
        slopes = [torch.as_tensor(np.ascontiguousarray(gradient)) for gradient in gradients]
        for p, slope, one, two, step, size in zip(parameters, slopes, first, second, steps, sizes, strict=True):
            adam([p], [slope], [one], [two], [], [step], lr=rate * size, **ADAM_DEFAULTS)
        total += loss * len(batch) / len(order)
    return total, *(p.numpy() for p in (*parameters, *first, *second)), np.array([float(steps[0])])


def published_loop(
    problem: Problem, m: Array, n: Array, w: Array, *, epochs: int, seed: int, report: Callable[[int, float], None]
) -> tuple[Array, Array, Array]:
    """The training loop of the paper: Adam on random batches, with the gradient clipped.

    Parameters
    ----------
    problem : Problem
    m, n, w : array
        Parameters at the start.
    epochs : int
    seed : int
        Seed of the batches.
    report : callable
        Called after each epoch with its number and its summed loss.

    Returns
    -------
    m, n, w : array
        Those of the epoch with the smallest training loss.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, and the code that they published.
    """
    generator = torch.Generator().manual_seed(seed)
    params = [problem.tensor(p).clone().requires_grad_() for p in (m, n, w)]
    optimizer = torch.optim.Adam(params, lr=PUBLISHED_RATE)
    conditions = problem.q.shape[1]
    best, kept = np.inf, [p.detach().clone() for p in params]
    for epoch in range(epochs):
        total = 0.0
        for _ in range(max(1, conditions // PUBLISHED_BATCH)):
            batch = torch.randperm(conditions, generator=generator)[:PUBLISHED_BATCH].to(problem.device)
            weight = None if problem.weight is None else problem.weight[:, batch]
            optimizer.zero_grad()
            loss = problem.differentiable_loss(
                params[0], params[1], params[2], problem.q[:, batch], problem.y[:, batch], weight
            )
            loss = loss * (conditions / len(batch) / problem.norm)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, PUBLISHED_CLIP)
            optimizer.step()
            total += float(loss.detach())
        if total < best:
            best, kept = total, [p.detach().clone() for p in params]
        report(epoch, total)
    km, kn, kw = (p.cpu().numpy().astype(float) for p in kept)
    return km, kn, kw
