"""How the descents of the stages are run: on how much of the data, with which loss, stopped by what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nwb_lint.contract import ContractError
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.gradient import LEISURE, PATIENCE, Descent, descend, small
from nwb_lint.model.rnn import Network
from nwb_lint.model.samples import Samples
from nwb_lint.model.shooting import lengths, segments, tied, tied_loss

DESCENT_VALUES = 1_000_000, 4_000_000  # condition × time × neuron values that one gradient looks at, at most,
VALUES_EACH = 20_000  # and this many for each neuron in between: few neurons have few parameters
CHEAP_VALUES = 2_000_000  # below this many, an iteration takes some hundredths of a second

Report = Callable[[str, int, float, float], None]


def few_enough(samples: Samples, n_neurons: int, seed: int) -> Samples:
    """A random part of the conditions, the same for the whole descent, where they hold more than `DESCENT_VALUES`."""
    values = np.clip(VALUES_EACH * n_neurons, *DESCENT_VALUES)
    most = max(1, int(values) // (samples.q.shape[1] * n_neurons))
    if most >= len(samples.x):
        return samples
    return samples.take(np.sort(np.random.default_rng(seed).permutation(len(samples.x))[:most]))


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
    patience: int = 0
    pull: float = 0.0
    towards: Network | None = None
    journal: Journal | None = None
    segment: int = 0
    rounds: tuple[int, ...] = ()

    def __call__(self, start: Network, fit: Samples, held: Samples | None) -> Descent:
        """One descent of the loss on ``fit``, stopped by ``held``; of no iterations, the start.

        With a ``segment``, on segments first, the best of the rounds going on, unless whole trials alone lead further;
        without ``held`` as many rounds and iterations as ``rounds`` says.
        """
        if not self.segment:
            return self._descend(start, fit, held, self.max_iter)
        network = best = start
        done: list[int] = []
        kept, least = 0, self._loss(start, held)
        for k, length in enumerate(lengths(self.segment, fit.x.shape[1])):
            if held is None and k == len(self.rounds):
                break
            cut = None if held is None else segments(held, network, length)
            most = self.max_iter if held is not None else self.rounds[k]
            found = self._descend(network, segments(fit, network, length), cut, most)
            network, done = found.network, [*done, found.iterations]
            reached = self._loss(network, held)
            if reached < least or held is None:
                best, least, kept = network, reached, k + 1
        last = self._descend(best, fit, held, self.max_iter)._replace(rounds=tuple(done[:kept]))
        if held is None or best is start:
            return last
        return min(last, self._descend(start, fit, held, self.max_iter), key=lambda one: one.held_out)

    def _loss(self, network: Network, held: Samples | None) -> float:
        """On whole trials; 0 without any."""
        if held is None:
            return 0.0
        loss = self._kept(problem_of(few_enough(held, network.n_neurons, 0), self.device).loss)(*network)
        return loss if np.isfinite(loss) else np.inf

    def _descend(
        self,
        start: Network,
        fit: Samples,
        held: Samples | None,
        max_iter: int,
    ) -> Descent:
        if max_iter == 0:
            return Descent(start, 0, np.inf)
        led = fit.q.shape[2] > start.w.shape[1]
        cheap = fit.q.shape[0] * fit.q.shape[1] * start.n_neurons < CHEAP_VALUES
        held_out_loss = None
        if held is not None:
            held_out_loss = tied_loss(
                self._kept(problem_of(few_enough(held, start.n_neurons, 0), self.device).loss), led
            )
        return descend(
            start,
            small(tied(self._kept(problem_of(fit, self.device).loss_and_gradient), led), self.l2_n),
            held_out_loss,
            max_iter=max_iter,
            patience=self.patience or (LEISURE if cheap else PATIENCE),
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
