"""How the descents of the stages are run: on how much of the data, with which loss, stopped by what.

Multiple shooting: long trials cut into segments that start where the data are, twice as long from round to round.

A gradient through a long trial of a network that oscillates or is chaotic says little: errors of phase pile up, and the
loss has a minimum at every one of them. Within a segment from time s on,

    x[t] = m (kappa'[t] + (1 - alpha)^(t - s) kappa_data[s]) + W q[t],      kappa'[s] = 0,

with kappa_data = (x - W q) on m by least squares; so a segment is a condition with R more drives, kappa_data[s] times a
decay, whose weights are m itself. Cf. Bock & Plitt 1984 (shooting); Hess et al., ICML 2023 (forcing that fades).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples
from nwb_lint.model.lbfgs import FORESIGHT, Descent, Interrupted, LossAndGradient, descend, parts, small, steady
from nwb_lint.model.network import Array, Network, balanced, forward
from nwb_lint.parallel.warnings import warn


def lengths(first: int, n_times: int) -> list[int]:
    """Steps of the segments in each round: twice as many from one to the next, none as long as the trials."""
    return [first << k for k in range(64) if first << k < n_times]


def segments(samples: Samples, network: Network, length: int) -> Samples:
    """Every condition in segments of ``length`` samples, the last of them overlapping, with R more drives.

    Latents at their starts are the data's under this network; the network's own where some neuron was not observed.
    """
    skip, n_times = samples.q.shape[1] - samples.x.shape[1], samples.x.shape[1]
    starts = np.unique(np.linspace(0, n_times - length, -(-n_times // length)).round().astype(int))
    recorded = samples.x.shape[2]
    root = np.ones(recorded) if samples.weights is None else np.sqrt(samples.weights)
    back = (np.linalg.pinv(root[:, None] * network.m[:recorded]) * root).T
    kappa = (samples.x[:, starts] - samples.q[:, skip + starts] @ network.w[:recorded].T) @ back
    lost = ~np.isfinite(kappa)
    if lost.any():
        kappa = np.where(
            lost, forward(network, samples.q, samples.alpha, samples.nonlinearity)[1][:, skip + starts], kappa
        )
    if skip == 0:
        kappa[:, 0] = 0
    decay = (1 - samples.alpha) ** np.arange(length)
    parts = []
    for k, start in enumerate(starts):
        led = kappa[:, k, None, :] * decay[:, None]
        parts.append(np.concatenate([samples.q[:, skip + start : skip + start + length], led], axis=2))
    x = np.concatenate([samples.x[:, start : start + length] for start in starts])
    q = np.concatenate(parts).astype(samples.q.dtype)
    return samples._replace(x=x, q=q, halves=None, starts=(0, 0))


def tied(loss_and_gradient: LossAndGradient, led: bool = True) -> LossAndGradient:
    """The loss on segments and its gradient, of the network on whole trials; itself unless these are ``led``."""
    if not led:
        return loss_and_gradient

    def whole(m: Array, n: Array, w: Array) -> tuple[float, Array, Array, Array]:
        loss, gm, gn, gw = loss_and_gradient(m, n, np.hstack([w, m]))
        return loss, gm + gw[:, w.shape[1] :], gn, gw[:, : w.shape[1]]

    return whole


def tied_loss(loss: Callable[[Array, Array, Array], float], led: bool = True) -> Callable[[Array, Array, Array], float]:
    """The same for a loss alone."""
    return (lambda m, n, w: loss(m, n, np.hstack([w, m]))) if led else loss


DESCENT_VALUES = 1_000_000, 4_000_000  # condition × time × neuron values that one gradient looks at, at most,
VALUES_EACH = 20_000  # and this many for each neuron in between: few neurons have few parameters
UNLIKE = 0.01  # of the power: conditions whose error may differ by more from that of held-out ones do not stand for all
TURN = 10, 0.5, 15  # iterations on one part of the conditions, then on the next; half what a descent looks at, or 15
WIDER = 4  # times as many values in every round after that
WORTH = 0.001  # of the power: what the patience of turns and rounds is for
ENOUGH = 16  # conditions of a descent: with more, Adam on all after L-BFGS cost time and gained nothing
MOST_EPOCHS = 10  # of Adam after L-BFGS
EPOCHS = 8  # of Adam without a better held-out loss before it stops
RATE = 0.03  # steps of Adam in units of the parameters, a third as long in the end
BALANCED_BY = 50  # conditions whose latents give the scale of the parameters

Report = Callable[[str, int, float, float], None]


def few_enough(samples: Samples, n_neurons: int, seed: int, times: float = 1, fewest: int = 1) -> Samples:
    """A random part of the conditions where they hold more than so many times `DESCENT_VALUES`; with ``times`` more, a
    part that has all of it."""
    values = times * np.clip(VALUES_EACH * n_neurons, *DESCENT_VALUES)
    most = max(fewest, int(values) // (samples.q.shape[1] * n_neurons))
    if most >= len(samples.x):
        return samples
    return samples.take(np.sort(np.random.default_rng(seed).permutation(len(samples.x))[:most]))


def stand_for(few: Samples, others: Samples, network: Network) -> bool:
    """Whether a network's error on a few conditions is that on others, surely: their difference and its standard error
    come to less than `UNLIKE` of the power. Errors that differ from one condition to the next need many to be known."""
    seen = [np.isfinite(part.x).sum(axis=(1, 2)) for part in (few, others)]
    with np.errstate(invalid="ignore"):
        errors = [part.errors(network) / np.maximum(n, 1) for part, n in zip((few, others), seen, strict=True)]
        own, theirs = (one.mean() for one in errors)
        spread = sum(one.var(ddof=1) / len(one) if len(one) > 1 else np.inf for one in errors)
        return bool(abs(own - theirs) + np.sqrt(spread) <= UNLIKE * few.energies().sum() / seen[0].sum())


def problem_of(samples: Samples, device: str):
    from nwb_lint.model._torch import Problem, device_is_there

    if device != "cpu" and not device_is_there(device):
        raise ContractError(f"torch has no device {device!r} here; use 'cpu', or one that torch lists on this machine.")
    observed, kind = np.isfinite(samples.x), samples.x.dtype
    weight = None if observed.all() else observed.astype(kind)
    x = samples.x if weight is None else np.where(observed, samples.x, 0)
    if samples.weights is not None:
        weight = (observed * samples.weights).astype(kind)
    return Problem(
        samples.q,
        x,
        weight,
        alpha=samples.alpha,
        nonlinearity=samples.nonlinearity,
        loss=samples.loss,
        device=device,
    )


class Descending(NamedTuple):
    """How descents are run: how long at most, where, telling whom; l2_n as in `small`, the rest as in `descend`."""

    max_iter: int
    device: str
    report: Report
    l2_n: float = 0.0
    pull: float = 0.0
    towards: Network | None = None
    journal: Journal | None = None
    segment: int = 0
    rounds: tuple[int, ...] = ()
    turns: int = 0
    wider: tuple[int, ...] = ()
    optimizer: str = "auto"
    epochs: int = 0
    seed: int = 0

    def __call__(self, start: Network, fit: Samples, held: Samples | None) -> Descent:
        """One descent of the loss on ``fit``, stopped by ``held``; of no iterations, the start.

        L-BFGS on at most `DESCENT_VALUES`. Where these conditions do not stand for all ("auto"), as the held-out ones
        tell, another descent, on parts in turns and then on more conditions, is kept where it leads further. Else, if
        they are very few, Adam goes on with all, for about as many gradients. Without ``held`` as many iterations,
        turns and epochs as are given.
        """
        out = None if held is None else few_enough(held, start.n_neurons, 0)
        if self.optimizer == "adam":
            return self._adam(start, fit, out, self.max_iter if held is not None else self.epochs)
        few = few_enough(fit, start.n_neurons, self.seed)
        found = self._in_turns(start, fit, None) if self.turns else self._lbfgs(start, few, out)
        if self.optimizer == "lbfgs":
            return found
        if held is None:
            found = self._widened(found, few, fit, None)
        elif len(few.x) < len(fit.x) and not stand_for(few, held, found.network):
            found = self._led_further(found, start, few, fit, held)
        if found.turns or found.wider or len(few.x) >= min(ENOUGH, len(fit.x)):
            return found
        most = min(MOST_EPOCHS, max(1, round(found.iterations * len(few.x) / len(fit.x))))
        last = self._adam(found.network, fit, out, most if held is not None else self.epochs)
        return last._replace(iterations=found.iterations, rounds=found.rounds)

    def _led_further(self, found: Descent, start: Network, few: Samples, fit: Samples, held: Samples) -> Descent:
        """What was found on too few conditions, or what turns on parts and more conditions lead to (after segments,
        more conditions alone), by ``held``."""
        loss = self._loss_on(held)
        try:
            turned = found if self.segment else self._in_turns(start, fit, held)
            return min(found, self._widened(turned, few, fit, held), key=lambda one: loss(*one.network))
        except KeyboardInterrupt as stop:
            raise Interrupted.after(found.network, stop, lambda one: loss(*one)) from stop

    def _in_turns(self, start: Network, fit: Samples, held: Samples | None) -> Descent:
        """Short descents on one random part of the conditions after the other, for as long as they make the loss on
        ``held`` smaller, else so many ``turns``: a valley of one part's loss is not one of the next part's."""
        loss_on_held, (iterations, share, fewest) = self._loss_on(held), TURN
        network = best = start
        turn = kept = gain = 0
        least = mark = loss_on_held(*start)
        while True:
            turn += 1
            try:
                part = few_enough(fit, start.n_neurons, self.seed + turn, share, fewest)
                network = self._descend(network, part, None, iterations).network
            except KeyboardInterrupt as stop:
                raise Interrupted(best) from stop
            reached = loss_on_held(*network)
            if reached < least or held is None:
                best, least, kept = network, reached, turn
            if reached < mark - WORTH:
                mark, gain = reached, turn
            if turn == self.turns or (held is not None and turn - gain >= max(1, self.max_iter // iterations)):
                return Descent(best, 0, least, turns=kept)

    def _widened(self, found: Descent, few: Samples, fit: Samples, held: Samples | None) -> Descent:
        """A descent that goes on with more conditions for as long as those that it looks at do not stand for all, and
        more of them lead further; up to the last round that gained `WORTH`, since a smaller gain may be noise. Without
        ``held`` in as many rounds and iterations as ``wider`` says.
        """
        n_neurons, times, done, loss_on_held = found.network.n_neurons, WIDER, found, self._loss_on(held)
        kept, mark = found, loss_on_held(*found.network)
        while len(few.x) < len(fit.x) and (held is not None or len(done.wider) < len(self.wider)):
            few = few_enough(fit, n_neurons, self.seed, times)
            out = None if held is None else few_enough(held, n_neurons, 0, times)
            most = self.max_iter if held is not None else self.wider[len(done.wider)]
            last = self._descend(done.network, few, out, most, WORTH)
            done = found._replace(network=last.network, held_out=last.held_out, wider=(*done.wider, last.iterations))
            reached = loss_on_held(*done.network)
            if held is None or reached < mark - WORTH:
                kept, mark = done, reached
            if last.iterations == 0 or (held is not None and stand_for(few, held, last.network)):
                break
            times *= WIDER
        return kept

    def _adam(self, start: Network, fit: Samples, held: Samples | None, epochs: int) -> Descent:
        """Adam on batches of all conditions, in steps that shrink; the best by ``held``, else the last.

        An epoch that diverges is run again from the best in steps a tenth as long, with a warning.
        """
        from nwb_lint.model._torch import begin, epoch

        problem, factor, alone = problem_of(fit, self.device), 1.0, self.optimizer == "adam"
        first = fit.take(np.arange(min(BALANCED_BY, len(fit.x))))
        if not np.isfinite(self._loss_on(few_enough(first, start.n_neurons, 0))(*start)):
            start = steady(start, problem.loss_and_gradient)
        state = begin(*parts(balanced(start, first.q, fit.alpha, fit.nonlinearity)))
        loss_on_held = self._loss_on(held)
        best, best_at, least, gain = state, 0, loss_on_held(*start), 0
        for k in range(epochs):
            order = np.random.default_rng([self.seed, k]).permutation(len(fit.x))
            rate = factor * RATE / (1 + 2 * k / (self.max_iter if alone else MOST_EPOCHS))
            run = self._kept(partial(epoch, problem, rate=rate, order=order, penalized=partial(small, l2_n=self.l2_n)))
            try:
                loss, *after = run(*state)
                state = tuple(after)
                reached = loss_on_held(*state[:3])
            except KeyboardInterrupt as stop:
                raise Interrupted(Network(*best[:3])) from stop
            if not np.isfinite(loss) or not np.isfinite(reached):
                warn("an epoch of Adam diverged; it goes on from its best in smaller steps.")
                factor, state = factor / 10, begin(*best[:3])
                continue
            gain = k + 1 if reached < least * (1 - FORESIGHT) else gain
            if reached <= least:
                best, best_at, least = state, k + 1, reached
            self.report("gradient", k + 1, loss, reached if held is not None else np.nan)
            if held is not None and k + 1 - gain >= EPOCHS:
                break
        return Descent(Network(*best[:3]), self.max_iter, least, epochs=best_at)

    def _lbfgs(self, start: Network, fit: Samples, held: Samples | None) -> Descent:
        """L-BFGS.

        With a ``segment``, on segments first, the best of the rounds going on, unless whole trials alone lead further;
        without ``held`` as many rounds and iterations as ``rounds`` says.
        """
        if not self.segment:
            return self._descend(start, fit, held, self.max_iter)
        network = best = start
        done: list[int] = []
        loss_on_held = self._loss_on(held)
        kept, least = 0, loss_on_held(*start)
        for k, length in enumerate(lengths(self.segment, fit.x.shape[1])):
            if held is None and k == len(self.rounds):
                break
            cut = None if held is None else segments(held, network, length)
            most = self.max_iter if held is not None else self.rounds[k]
            found = self._descend(network, segments(fit, network, length), cut, most)
            network, done = found.network, [*done, found.iterations]
            reached = loss_on_held(*network)
            if reached < least or held is None:
                best, least, kept = network, reached, k + 1
        last = self._descend(best, fit, held, self.max_iter)._replace(rounds=tuple(done[:kept]))
        if held is None or best is start:
            return last
        return min(last, self._descend(start, fit, held, self.max_iter), key=lambda one: one.held_out)

    def _loss_on(self, held: Samples | None) -> Callable[..., float]:
        """The loss of a network on whole trials, infinite where it is not finite; 0 without any."""
        if held is None:
            return lambda *_: 0.0
        loss = self._kept(problem_of(held, self.device).loss)

        def finite(*parameters: Array) -> float:
            found = loss(*parameters)
            return found if np.isfinite(found) else np.inf

        return finite

    def _descend(
        self, start: Network, fit: Samples, held: Samples | None, max_iter: int, worth: float = 0.0
    ) -> Descent:
        if max_iter == 0:
            return Descent(start, 0, np.inf)
        led = fit.q.shape[2] > start.w.shape[1]
        held_out_loss = None if held is None else tied_loss(self._loss_on(held), led)
        return descend(
            start,
            small(tied(self._kept(problem_of(fit, self.device).loss_and_gradient), led), self.l2_n),
            held_out_loss,
            max_iter=max_iter,
            worth=worth,
            pull=self.pull,
            towards=self.towards,
            report=lambda i, loss, out: self.report("gradient", i, loss, out),
        )

    def _kept(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return f if self.journal is None else self.journal.keeping(f)


def random_network(n_neurons: int, rank: int, n_drives: int, seed: int) -> Network:
    """m, n, W ~ N(0, 1): the published loop's start."""
    generator = np.random.default_rng(seed)
    m, n, w = (generator.standard_normal((n_neurons, k)) for k in (rank, rank, n_drives))
    return Network(m, n, w)
