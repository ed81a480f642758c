"""The only room that imports torch: forward map, exact adjoint, and the published training loop. Arrays in, arrays out.

Adjoint in the latent form. With e[t] the derivative of the loss by x[t] alone and lambda[t] that by kappa[t],

    g[t]      = e[t] + phi'(x[t]) * (alpha / N) n lambda[t+1]
    lambda[t] = (1 - alpha) lambda[t+1] + m' g[t]
    dm = sum g kappa',   dW = sum g q',   dn = (alpha / N) sum phi(x[t]) lambda[t+1]'

so loss and gradient cost O(conditions x time x N x (R + Q)) and nothing is taped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray

Pair = Any  # a pair of numpy functions, phi(x) and slope(x, phi(x)): `nwb_lint.model.rnn.Nonlinearity`


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


def _slope(name: str | Pair, x: Tensor, r: Tensor) -> Tensor:
    if not isinstance(name, str):
        return _through_numpy(name.slope, x, r)
    if name == "tanh":
        return 1 - r * r
    if name == "linear":
        return torch.ones_like(x)
    return (x > 0).to(x.dtype) if name == "relu" else -torch.expm1(-r)


SMALL_STEP = 100_000  # values per time step below which a second thread only costs


@contextmanager
def _threads(values: int) -> Iterator[None]:
    """One thread for steps too small to share out; what was set before is set again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if values < SMALL_STEP else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_is_there(device: str) -> bool:
    """Whether torch can put an array on this device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True


class Problem:
    """Data of one fit on the device: drives q, targets y with weights, and the loss on them.

    loss = sum weight (f(x) - f(y))^2 / norm + l2 ||n||^2 / N, with f the identity ("activity") or phi ("rate"),
    x the free-running activation after ``skip`` burn-in steps, on the first ``y.shape[2]`` neurons (the recorded
    ones); norm = sum weight f(y)^2, so the data term is near 1 - R^2 for centred data.

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
        l2: float = 0.0,
        device: str = "cpu",
        dtype: str = "float32",
        chunk_values: int = 4_000_000,
    ) -> None:
        self.dtype, self.device = getattr(torch, dtype), device
        self.alpha, self.nonlinearity, self.rate_loss, self.l2 = alpha, nonlinearity, loss == "rate", l2
        self.q, self.y = self._time_first(q), self._time_first(y)
        self.weight = None if weight is None else self._time_first(weight)
        if self.rate_loss:
            self.y = PHI[nonlinearity](self.y)
        self.skip = self.q.shape[0] - self.y.shape[0]
        power = self.y**2 if self.weight is None else self.weight * self.y**2
        self.norm = float(power.sum(dtype=torch.float64)) or 1.0
        self.chunk_values = chunk_values

    def _time_first(self, a: Array) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(np.swapaxes(a, 0, 1)))
        return tensor.to(self.device, self.dtype)

    def tensor(self, a: Array) -> Tensor:
        """A parameter array as a tensor of the problem's dtype, on its device."""
        return torch.as_tensor(np.asarray(a)).to(self.device, self.dtype)

    def _chunks(self, n_neurons: int) -> Iterator[slice]:
        times, conditions = self.q.shape[:2]
        step = max(1, self.chunk_values // (times * n_neurons))
        return (slice(i, i + step) for i in range(0, conditions, step))

    def _run(self, m: Tensor, n: Tensor, w: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        q = self.q[:, part]
        x = torch.matmul(q, w.T)
        r = torch.empty_like(x)
        kappa = x.new_zeros(x.shape[0], x.shape[1], m.shape[1])
        phi, out, mt = PHI[self.nonlinearity], n * (self.alpha / n.shape[0]), m.T.contiguous()
        for t in range(x.shape[0]):
            x[t].addmm_(kappa[t], mt)
            if self.nonlinearity == "tanh":
                torch.tanh(x[t], out=r[t])
            else:
                r[t] = phi(x[t])
            if t + 1 < x.shape[0]:
                torch.addmm(kappa[t], r[t], out, beta=1 - self.alpha, out=kappa[t + 1])
        return x, r, kappa

    def _residual(self, x: Tensor, r: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        recorded = self.y.shape[2]
        error = (r if self.rate_loss else x)[self.skip :, :, :recorded] - self.y[:, part]
        return error, error if self.weight is None else error * self.weight[:, part]

    @torch.no_grad()
    def loss(self, m: Array, n: Array, w: Array) -> float:
        """The loss at (m, n, w), without its gradient."""
        with _threads(self.q.shape[1] * m.shape[0]):
            return self._loss(m, n, w)

    def _loss(self, m: Array, n: Array, w: Array) -> float:
        mt, nt, wt = self.tensor(m), self.tensor(n), self.tensor(w)
        total = 0.0
        for part in self._chunks(m.shape[0]):
            x, r, _ = self._run(mt, nt, wt, part)
            error, weighted = self._residual(x, r, part)
            total += float((error * weighted).sum(dtype=torch.float64))
        return total / self.norm + self.l2 * float((np.asarray(n, float) ** 2).sum()) / n.shape[0]

    @torch.no_grad()
    def loss_and_gradient(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """Loss and its exact gradient by m, n and w (numpy float64, the shapes of the parameters)."""
        with _threads(self.q.shape[1] * m.shape[0]):
            return self._loss_and_gradient(m, n, w)

    def _loss_and_gradient(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        mt, nt, wt = self.tensor(m), self.tensor(n), self.tensor(w)
        total, grads = 0.0, [torch.zeros_like(p, dtype=torch.float64) for p in (mt, nt, wt)]
        for part in self._chunks(m.shape[0]):
            x, r, kappa = self._run(mt, nt, wt, part)
            error, weighted = self._residual(x, r, part)
            total += float((error * weighted).sum(dtype=torch.float64))
            slope = _slope(self.nonlinearity, x, r)
            weighted = weighted * (2 / self.norm)
            g, lam = self._backward(mt, nt, slope, weighted)
            flat, back = g.flatten(0, 1), self.alpha / n.shape[0]
            grads[0] += flat.T @ kappa.flatten(0, 1)
            grads[1] += back * (r[:-1].flatten(0, 1).T @ lam[1:].flatten(0, 1))
            grads[2] += flat.T @ self.q[:, part].flatten(0, 1)
        gm, gn, gw = (g.cpu().numpy() for g in grads)
        penalty = self.l2 / n.shape[0]
        return total / self.norm + penalty * float((n**2).sum()), gm, gn + 2 * penalty * n, gw

    def _backward(self, m: Tensor, n: Tensor, slope: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """g (time, condition, neuron), written over ``slope``, and lambda (time, condition, rank)."""
        times, recorded = slope.shape[0], e.shape[2]
        lam = slope.new_zeros(times + 1, slope.shape[1], m.shape[1])
        back = (n * (self.alpha / n.shape[0])).T.contiguous()
        for t in range(times - 1, -1, -1):
            explicit = e[t - self.skip] if t >= self.skip else None
            g = slope[t]
            if explicit is not None and self.rate_loss:
                through = lam[t + 1] @ back
                through[:, :recorded] += explicit
                g *= through
            else:
                g *= lam[t + 1] @ back
                if explicit is not None:
                    g[:, :recorded] += explicit
            torch.addmm(lam[t + 1], g, m, beta=1 - self.alpha, out=lam[t])
        return slope, lam[:-1]

    def autograd(self, m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        """The same loss and gradient by torch's autograd through the plain recurrence: the adjoint's second opinion."""
        mt, nt, wt = (self.tensor(p).requires_grad_() for p in (m, n, w))
        loss = self._taped_loss(mt, nt, wt, self.q, self.y, self.weight)
        loss = loss / self.norm + self.l2 * (nt**2).sum() / n.shape[0]
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
