"""The only room that imports torch: forward map, exact adjoint, and the published training loop. Arrays in, arrays out.

Adjoint in the latent form. With z = [kappa q], e[t] the derivative of the loss by x[t] alone, d[t] = phi'(x[t]) and
lambda[t] the derivative by kappa[t],

    S[t]      = (1 - alpha) 1 + (alpha / N) m' diag(d[t]) n
    lambda[t] = m' e[t] + S[t] lambda[t+1]
    d[m W]    = sum e z' + (alpha / N) sum_b n_b * sum d lambda[t+1]_b z',   dn = (alpha / N) sum phi(x[t]) lambda[t+1]'

so the neurons are summed out before the recursion, which runs in R dimensions; every pass over the neurons is a product
with a matrix of few columns. Loss and gradient cost O(conditions x time x N x R (R + Q)) and nothing is taped. Products
are written with the long axis last (A @ B'.contiguous()' and B' @ A): the BLAS is up to 7 times slower on the others.

Epochs of Adam on batches of conditions; beside `_torch` the only room that imports torch. Arrays in, arrays out.
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

Array = np.ndarray

Pair = Any  # a pair of numpy functions, phi(x) and slope(x, phi(x)): `nwb_lint.model.network.Nonlinearity`


class _Given(torch.autograd.Function):
    """phi of a pair, with its slope as gradient."""

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
    """A function of tensors applied to an array."""
    return f(torch.as_tensor(np.ascontiguousarray(x))).detach().cpu().numpy()


class _Functions(dict[str | Pair, Callable[[Tensor], Tensor]]):
    """phi by name; a pair of functions gives its own."""

    def __missing__(self, pair: Pair) -> Callable[[Tensor], Tensor]:
        return lambda x: _Given.apply(x, pair)


PHI = _Functions(
    {"tanh": torch.tanh, "relu": torch.relu, "softplus": torch.nn.functional.softplus, "linear": torch.clone}
)


def _phi(name: str | Pair, x: Tensor, *, out: Tensor) -> None:
    """phi(x) into ``out``; numpy's tanh is several times as fast as torch's on a CPU, and as exact."""
    if name != "tanh":
        out.copy_(PHI[name](x))
    elif x.is_cpu:
        np.tanh(x.numpy(), out=out.numpy())
    else:
        torch.tanh(x, out=out)


def _slope(name: str | Pair, x: Tensor, r: Tensor, *, out: Tensor) -> None:
    """phi'(x) into ``out``, from x or from r = phi(x)."""
    if not isinstance(name, str):
        out.copy_(_through_numpy(name.slope, x, r))
    elif name == "tanh":
        torch.addcmul(r.new_ones(()), r, r, value=-1, out=out)
    elif name == "linear":
        out.fill_(1)
    elif name == "relu":
        out.copy_(x > 0)
    else:
        torch.expm1(-r, out=out).neg_()


STEP_VALUES = 32_000  # condition × neuron values of one time step: enough to be worth a call, few enough for the cache
CHUNK_VALUES = 4_000_000  # condition × time × neuron values looked at together, at most: larger arrays cost page faults
FEWEST = 8  # conditions looked at together, at least: products with fewer rows are slow
ON_GPU = 8  # times as many values there


@contextmanager
def _one_thread() -> Iterator[int]:
    """torch uses a single thread and what was set before is given: chunks are shared out among threads, not steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def device_is_there(device: str) -> bool:
    """Whether torch can put an array on this device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


Sums = tuple[Tensor, ...]


class _Parameters(NamedTuple):
    """A network, transposed: m, (alpha / N) n (rank, neuron), [m W] (rank + drive, neuron), n_b m_a (rank², neuron)."""

    m: Tensor
    n: Tensor
    mw: Tensor
    nm: Tensor


def _added(parts: Iterable[Sums]) -> Sums:
    return reduce(lambda one, other: tuple(a + b for a, b in zip(one, other, strict=True)), parts)


def _backward(e: Tensor, s: Tensor) -> Tensor:
    """lambda[t+1] (time · condition, rank) from m' e (time after burn-in, condition, 1, rank) and S (…, rank, rank)."""
    lam = s.new_zeros(len(s) + 1, *e.shape[1:])
    lam[len(s) - len(e) : -1] = e
    steps, ss = lam.unbind(), s.unbind()
    for t in range(len(ss) - 1, -1, -1):
        if e.shape[-1] == 1:
            steps[t].addcmul_(steps[t + 1], ss[t])
        else:
            steps[t].baddbmm_(steps[t + 1], ss[t])
    return lam[1:].flatten(0, 2)


class Problem:
    """Data of one fit on the device: drives q, targets y with weights, and the loss on them.

    loss = sum weight (f(x) - f(y))^2 / norm, with f the identity ("activity") or phi ("rate"),
    x the free-running activation after ``skip`` burn-in steps, on the first ``y.shape[2]`` neurons (the recorded
    ones); norm = sum weight f(y)^2, so the data term is near 1 - R^2 for centered data.

    q: (condition, skip + time, Q) · y, weight: (condition, time, recorded neuron)
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
        self.skip = self.q.shape[0] - self.y.shape[0]
        power = self.y**2 if self.weight is None else self.weight * self.y**2
        self.norm = float(power.sum(dtype=torch.float64)) or 1.0
        self.chunk = chunk
        self.rooms: list[Tensor] = []  # arrays of a chunk, used again: fresh pages cost as much as the arithmetic

    def _time_first(self, a: Array) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(np.swapaxes(a, 0, 1)))
        return tensor.to(self.device, self.dtype)

    def tensor(self, a: Array) -> Tensor:
        """A parameter array as a tensor of the problem's dtype, on its device."""
        return torch.as_tensor(np.asarray(a)).to(self.device, self.dtype)

    def packed(self, *network: Array) -> _Parameters:
        """The parameters m, n, W as the passes over the chunks take them."""
        m, n, w = map(self.tensor, network)
        mt, nt = m.T.contiguous(), n.T.contiguous() * (self.alpha / len(n))
        return _Parameters(mt, nt, torch.cat([m, w], dim=1).T.contiguous(), (nt[:, None] * mt[None]).flatten(0, 1))

    def _chunks(self, n_neurons: int) -> list[slice]:
        times, conditions = self.q.shape[:2]
        more = 1 if self.device == "cpu" else ON_GPU
        step = min(STEP_VALUES // n_neurons, CHUNK_VALUES // (times * n_neurons))
        step = self.chunk or max(FEWEST, step * more)
        return [slice(i, i + step) for i in range(0, conditions, step)]

    def _by_chunk(self, work: Callable[[_Parameters, slice, Tensor], Sums], *network: Array) -> Sums:
        """The sum of what ``work`` gives for chunks of conditions: side by side on a CPU, added in their order."""
        parameters, parts = self.packed(*network), self._chunks(len(network[0]))
        values = len(self.q) * min(parts[0].stop, self.q.shape[1]) * len(network[0])

        def in_room(part: slice) -> Sums:
            try:
                room = self.rooms.pop()
            except IndexError:
                room = self.q.new_empty(3, 0)
            if room.shape[1] < values:  # none was left, or it is of a smaller part of the conditions
                room = self.q.new_empty(3, values)
            sums = work(parameters, part, room)
            self.rooms.append(room)
            return sums

        with _one_thread() as threads:
            if len(parts) == 1 or threads == 1 or self.device != "cpu":
                return _added(map(in_room, parts))
            with ThreadPoolExecutor(threads) as pool:
                return _added(pool.map(in_room, parts))

    def _run(self, p: _Parameters, part: slice, room: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x and phi(x), and a place for its slope (time, condition, neuron); z = [kappa q] (time, condition, …)."""
        q, rank = self.q[:, part], len(p.m)
        shape = *q.shape[:2], p.m.shape[1]
        x, r, slope = (one[: prod(shape)].view(shape) for one in room)
        z = torch.cat([q.new_zeros(*shape[:2], rank), q], dim=2)
        out = p.n.T
        steps = list(zip(x.unbind(), r.unbind(), z.unbind(), z[:, :, :rank].unbind(), strict=True))
        for t, (xt, rt, zt, kappa) in enumerate(steps):
            torch.mm(zt, p.mw, out=xt)
            _phi(self.nonlinearity, xt, out=rt)
            if t + 1 < len(steps):
                torch.addmm(kappa, rt, out, beta=1 - self.alpha, out=steps[t + 1][3])
        return x, r, slope, z

    def _error(self, x: Tensor, r: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """weight * (f(x) - f(y)) of the recorded neurons after burn-in, and the chunk's loss; x is written over."""
        recorded = self.y.shape[2]
        kept = x[self.skip :, :, :recorded]
        error = torch.sub((r if self.rate_loss else x)[self.skip :, :, :recorded], self.y[:, part], out=kept)
        if self.weight is None:
            return error, torch.linalg.vecdot(error, error).sum(dtype=torch.float64)
        weighted = error * self.weight[:, part]
        return weighted, torch.linalg.vecdot(error, weighted).sum(dtype=torch.float64)

    @torch.no_grad()
    def _loss(self, p: _Parameters, part: slice, room: Tensor) -> Sums:
        x, r, _, _ = self._run(p, part, room)
        return (self._error(x, r, part)[1],)

    def loss(self, m: Array, n: Array, w: Array) -> float:
        """The loss at (m, n, w), without its gradient."""
        (total,) = self._by_chunk(self._loss, m, n, w)
        return float(total) / self.norm

    def loss_and_gradient(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """Loss and its exact gradient by m, n and w (numpy float64, the shapes of the parameters)."""
        sums = self._by_chunk(self._loss_and_gradient, m, n, w)
        total, mw, gn = (part.cpu().numpy() / self.norm for part in sums)
        rank = m.shape[1]
        return float(total), mw[:rank].T, gn.T, mw[rank:].T

    @torch.no_grad()
    def _loss_and_gradient(self, p: _Parameters, part: slice, room: Tensor) -> Sums:
        """The chunk's part of the loss's data term and of its gradient by [m W]' and n', all times norm."""
        x, r, slope, z = self._run(p, part, room)
        _slope(self.nonlinearity, x, r, out=slope)
        error, total = self._error(x, r, part)
        recorded, before = error.shape[2], self.skip * error.shape[1]
        if self.rate_loss:
            error = error * slope[self.skip :, :, :recorded]
        rank, (times, conditions, width) = len(p.m), z.shape
        d, rates, flat = slope.flatten(0, 1), r.flatten(0, 1), z.flatten(0, 1)
        explicit = 2 * (error.flatten(0, 1) @ p.m[:, :recorded].T)
        s = (d @ p.nm.T).view(times, conditions, rank, rank)
        s.diagonal(dim1=2, dim2=3).add_(1 - self.alpha)
        after = _backward(explicit.view(-1, conditions, 1, rank), s)
        products = (after[:, :, None] * flat[:, None, :]).flatten(1)
        mw = (p.n[:, None, :] * (products.T @ d).view(rank, width, -1)).sum(0)
        mw[:, :recorded] += 2 * (flat[before:].T @ error.flatten(0, 1))
        gn = after.T @ rates * (self.alpha / p.m.shape[1])
        return total, mw.double(), gn.double()

    def autograd(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """The same loss and gradient by torch's autograd through the plain recurrence: the adjoint's second opinion."""
        mt, nt, wt = (self.tensor(p).requires_grad_() for p in (m, n, w))
        loss = self._taped_loss(mt, nt, wt, self.q, self.y, self.weight)
        loss = loss / self.norm
        loss.backward()
        grads = [p.grad.cpu().numpy().astype(float) for p in (mt, nt, wt) if p.grad is not None]
        return float(loss.detach()), grads[0], grads[1], grads[2]

    def _taped_loss(self, m: Tensor, n: Tensor, w: Tensor, q: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        kappa, phi, total = q.new_zeros(q.shape[1], m.shape[1]), PHI[self.nonlinearity], q.new_zeros(())
        for t in range(q.shape[0]):
            x = kappa @ m.T + q[t] @ w.T
            r = phi(x)
            kappa = (1 - self.alpha) * kappa + self.alpha * (r @ n) / n.shape[0]
            if t >= self.skip:
                error = (r if self.rate_loss else x)[:, : y.shape[2]] - y[t - self.skip]
                total = total + (error**2 if weight is None else error**2 * weight[t - self.skip]).sum()
        return total

    def published(
        self, m: Array, n: Array, w: Array, *, epochs: int, seed: int, report: Callable[[int, float], None]
    ) -> tuple[Array, Array, Array]:
        """The paper's loop: Adam (1e-2) on batches of 32 conditions drawn at random, gradient norm clipped at 1, the
        parameters of the best epoch's training loss kept; gradients by autograd."""
        generator = torch.Generator().manual_seed(seed)
        params = [self.tensor(p).clone().requires_grad_() for p in (m, n, w)]
        optimiser = torch.optim.Adam(params, lr=1e-2)
        conditions = self.q.shape[1]
        best, kept = np.inf, [p.detach().clone() for p in params]
        for epoch in range(epochs):
            total = 0.0
            for _ in range(max(1, conditions // 32)):
                pick = torch.randperm(conditions, generator=generator)[:32].to(self.device)
                weight = None if self.weight is None else self.weight[:, pick]
                optimiser.zero_grad()
                loss = self._taped_loss(params[0], params[1], params[2], self.q[:, pick], self.y[:, pick], weight)
                loss = loss * (conditions / len(pick) / self.norm)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(params, 1.0)
                optimiser.step()
                total += float(loss.detach())
            if total < best:
                best, kept = total, [p.detach().clone() for p in params]
            report(epoch, total)
        km, kn, kw = (p.cpu().numpy().astype(float) for p in kept)
        return km, kn, kw


BATCH = 32  # conditions of a step
FEWEST_STEPS = 4  # steps of an epoch


def part_of(problem: Problem, conditions: Array) -> Problem:
    """The problem of some of its conditions, its loss a mean like the whole one's."""
    part, pick = copy(problem), torch.as_tensor(conditions, device=problem.device)
    part.q, part.y = problem.q[:, pick], problem.y[:, pick]
    part.weight = None if problem.weight is None else problem.weight[:, pick]
    part.norm = problem.norm * len(conditions) / problem.q.shape[1]
    return part


def begin(m: Array, n: Array, w: Array) -> tuple[Array, ...]:
    """The state of Adam before its first step: parameters, their first and second moments, steps."""
    nothing = [np.zeros_like(p, dtype=float) for p in (m, n, w)]
    return m.astype(float), n.astype(float), w.astype(float), *nothing, *nothing, np.zeros(1)


def epoch(
    problem: Problem, *state: Array, rate: float, order: Array, penalized: Callable[[Any], Any] = lambda loss: loss
) -> tuple[Any, ...]:
    """The mean loss of an epoch, and the state after it (see `begin`); NaN, and the state before, where it diverges.

    ``rate`` is in units of each parameter array's root mean square, so that Adam's equal steps suit them all.
    ``penalized`` adds a penalty to a function that gives a loss and its gradient.
    """
    parameters = [torch.as_tensor(p.copy()).requires_grad_() for p in state[:3]]
    sizes = [max(float(np.sqrt(np.mean(p * p))), 1e-12) for p in state[:3]]
    groups = [{"params": [p], "lr": rate * size} for p, size in zip(parameters, sizes, strict=True)]
    adam, steps = torch.optim.Adam(groups), float(state[9][0])
    for p, first, second in zip(parameters, state[3:6], state[6:9], strict=True):
        told = {"exp_avg": torch.as_tensor(first.copy()), "exp_avg_sq": torch.as_tensor(second.copy())}
        if steps:
            adam.state[p] = {"step": torch.tensor(steps), **told}
    total = 0.0
    for pick in np.array_split(order, min(len(order), max(FEWEST_STEPS, len(order) // BATCH))):
        loss, *gradients = penalized(part_of(problem, pick).loss_and_gradient)(
            *(p.detach().numpy() for p in parameters)
        )
        if not (np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)):
            return np.nan, *state
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = torch.as_tensor(np.ascontiguousarray(gradient))
        adam.step()
        total += loss * len(pick) / len(order)
    moments = [[adam.state[p][name].numpy() for p in parameters] for name in ("exp_avg", "exp_avg_sq")]
    steps = float(adam.state[parameters[0]]["step"])
    return total, *(p.detach().numpy() for p in parameters), *moments[0], *moments[1], np.array([steps])
