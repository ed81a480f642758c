"""The stages that are regressions: closed form and latent pass, and whether the fit is complete without a gradient.

Order. Closed form; again without an unseen start if there is a burn-in, and with trial halves as instruments if there
are any; innovations for an unconstrained J; hidden units; latent pass. A closed form with white innovations is final
(`innovations_are_white`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nwb_lint.errors import ContractError
from nwb_lint.model.areas import regression as of_areas
from nwb_lint.model.areas.blocks import Blocks
from nwb_lint.model.data import Samples
from nwb_lint.model.hidden_units import random_features, with_hidden_units
from nwb_lint.model.network import Array, Network, reduce_rank, with_unit_latents
from nwb_lint.model.optimization import Report, some_of, subset_of
from nwb_lint.model.regression import (
    Solutions,
    chunks_of,
    closed_form,
    closed_forms,
    features,
    latent_pass,
    observed_samples,
    predict_from_features,
)
from nwb_lint.model.stages.search import Parts, Proposal, Search, Settings, splits_of
from nwb_lint.model.tuning import (
    GAIN_CONDITIONS,
    MAX_AUTOCORRELATION,
    MAX_LATENT_AUTOCORRELATION,
    SCALING_CONDITIONS,
)
from nwb_lint.parallel.threads import map_in_order

ProposalOn = Callable[[Samples, Network | None, Sequence[float]], Solutions]  # of the samples of one split


def run_regressions(search: Search, report: Report) -> bool:
    """Run the closed form and what follows it, up to the latent pass. Returns whether the fit is complete."""
    settings, samples = search.settings, search.samples

    def begin(stage: str) -> str:
        report(stage, 0, np.nan, np.nan)
        return stage

    begin("closed form")
    search.singular = search.try_ridges("closed form", propose_closed_form(search), teacher_forced=True).singular
    if samples.q.shape[1] > samples.x.shape[1] and samples.starts[0] == samples.starts[1]:
        begin("unseen start")
        try_unseen_start(search)
    may_be_complete = settings.rank is not None and not settings.hidden
    held = search.parts.held_out(0)
    if may_be_complete and innovations_are_white(search.networks[0], held, settings.max_autocorrelation):
        return True
    if samples.halves is not None and settings.blocks is None:
        search.try_ridges(begin("instruments"), propose_closed_form(search, instruments=True), gcv=False)
    if settings.rank is None:
        prewhitened = propose_closed_form(search, prewhiten=True)
        search.try_ridges(begin("innovations"), prewhitened, teacher_forced=True, prewhiten=True, gcv=False)
        return True
    if settings.hidden:
        add_hidden_units(search)
        tried = _hidden_units if settings.blocks is None else _latent_pass
        search.try_ridges(begin("hidden units"), _on_samples(search, partial(tried, settings=settings)))
    search.try_ridges(begin("latent pass"), propose_latent_pass(search))
    return False


def try_unseen_start(search: Search) -> None:
    """Repeat the closed form without what activity before the first sample contributes.

    If it is better, all regressions after it leave that out too.
    """
    samples, parts, stages = search.samples, search.parts, len(search.stages)
    search.samples = samples._replace(unseen_start=True)
    search.parts = Parts(search.samples, search.splits)
    solutions = search.try_ridges("unseen start", propose_closed_form(search), teacher_forced=True)
    if len(search.stages) > stages:
        search.singular = solutions.singular
    else:
        search.samples, search.parts = samples, parts


def add_hidden_units(search: Search) -> None:
    """Add hidden units to every network. Its predictions do not change."""

    def added(samples: Samples, network: Network) -> Network:
        wider = with_hidden_units(rescaled(network, samples), search.settings.hidden, search.settings.seed)
        return wider if search.settings.blocks is None else search.settings.blocks.masked(wider)

    search.networks = search.parts.map(lambda k: added(search.parts.fitted(k), search.networks[k]))
    search.final = added(search.samples, search.final)
    search.stages[-1] = search.stages[-1]._replace(network=search.final)


def rescaled(network: Network, samples: Samples, rank: int | None = None) -> Network:
    """The network, perhaps at a lower rank, with latents of unit variance on some of the conditions."""
    on = samples.q[:: -(-len(samples.q) // SCALING_CONDITIONS)], samples.alpha, samples.nonlinearity
    return with_unit_latents(network if rank is None else reduce_rank(network, rank, *on), *on)


def propose_closed_form(search: Search, *, instruments: bool = False, prewhiten: bool = False) -> Proposal:
    """Proposal of stage 1, which needs no network before it.

    All splits, and everything, share their sums. Not where values are missing or there is a burn-in: what replaces
    these depends on the conditions that are fitted.
    """
    samples, settings = search.samples, search.settings
    options = samples.regression_options(settings.penalty) | {"engine": settings.engine}
    if settings.blocks is not None:
        return _on_samples(search, partial(_closed_form_of_areas, blocks=settings.blocks, options=options))
    how: dict[str, Any] = {"rank": settings.rank, "prewhiten": prewhiten, **options}
    views = [samples.x, *(samples.halves if instruments and samples.halves is not None else [])]
    if samples.q.shape[1] > samples.x.shape[1] or observed_samples(*views) is not None:
        return _on_samples(search, partial(_closed_form, instruments=instruments, how=how))
    subsets = [fit for fit, _ in search.splits]
    if search.refit or settings.ridge_by == "gcv":
        subsets.append(np.arange(len(samples.x)))
    found = closed_forms(samples.x, samples.q, subsets, halves=samples.halves if instruments else None, **how)
    return lambda k, network, ridges: found.solve(-1 if k is None else k, ridges)


def propose_latent_pass(search: Search) -> Proposal:
    """Proposal of stage 2, which starts from the network before it."""
    return _on_samples(search, partial(_latent_pass, settings=search.settings))


def _on_samples(search: Search, propose: ProposalOn) -> Proposal:
    """A proposal that sees the samples of one split at a time."""
    return lambda k, network, ridges: propose(search.parts.fitted(k), network, ridges)


def _closed_form(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, instruments: bool, how: dict[str, Any]
) -> Solutions:
    """Stage 1 on some samples alone; ``network`` is not used."""
    halves = samples.halves if instruments else None
    return closed_form(samples.x, samples.q, halves=halves, ridges=ridges, **how)


def _closed_form_of_areas(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, blocks: Blocks, options: dict[str, Any]
) -> Solutions:
    """Stage 1 with several areas; ``network`` is not used."""
    return of_areas.closed_form(samples.x, samples.q, blocks=blocks, ridges=ridges, **options)


def _latent_pass(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, settings: Settings
) -> Solutions:
    """Stage 2 on the samples of one split."""
    if network is None:
        raise ContractError("The latent pass needs a network to start from. Run the closed form before it.")
    how = samples.regression_options(settings.penalty) | {"engine": settings.engine}
    if settings.blocks is not None:
        return of_areas.latent_pass(network, samples.x, samples.q, blocks=settings.blocks, ridges=ridges, **how)
    return latent_pass(network, samples.x, samples.q, ridges=ridges, **how)


def _hidden_units(
    samples: Samples, network: Network | None, ridges: Sequence[float], *, settings: Settings
) -> Solutions:
    """Stage 2 with hidden units as random features; ``network`` is not used."""
    rank, hidden, seed = settings.rank or 1, settings.hidden, settings.seed
    start = random_features(samples.filled(), samples.q, rank, hidden, seed, samples.weights)
    return _latent_pass(samples, start, ridges, settings=settings)


def innovations_are_white(
    network: Network,
    samples: Samples,
    bounds: tuple[float, float] = (MAX_AUTOCORRELATION, MAX_LATENT_AUTOCORRELATION),
) -> bool:
    """Whether the innovations of held-out conditions have no autocorrelation at lag 1, so that the fit is complete.

    With the residuals r = x - m n' F[phi(x)] / N - W q of a network that the recorded rates drive, the innovations are
    e[t] = r[t] - (1 - alpha) r[t-1]. If all noise enters inside the network and the model is right, they are
    independent, and the regression of x on its own filtered rates is the maximum-likelihood estimate: no free run can
    improve it. Observation noise makes neighbors in time different; latents that the network lacks make them similar.

    Parameters
    ----------
    network : Network
    samples : Samples
        Held-out conditions.
    bounds : tuple of float
        Largest mean autocorrelation over neurons, and largest autocorrelation of each latent, with the standard error
        over conditions.

    Returns
    -------
    bool
        False if samples are missing, or if there is a burn-in: the innovations are unknown then.

    References
    ----------
    Ljung, System Identification, 1999, chapters 9 and 16 (prediction-error identification).
    """
    samples = subset_of(samples, network.n_neurons, 0)
    x, q, rho = samples.x, samples.q, 1 - samples.alpha
    if len(x) < 2 or x.shape[1] < 3 or q.shape[1] > x.shape[1] or observed_samples(x) is not None:
        return False
    to_latents = np.linalg.pinv(network.m).T.astype(x.dtype)

    def sums(part: slice) -> list[tuple[Array, Array]]:
        z = features(x[part], samples.alpha, samples.nonlinearity)
        r = x[part] - predict_from_features(network, z, q[part])
        e = r[:, 1:] - rho * r[:, :-1]
        views = (e, e @ to_latents)
        return [(np.einsum("ctn,ctn->n", v, v), np.einsum("ctn,ctn->cn", v[:, 1:], v[:, :-1])) for v in views]

    neurons, latents = zip(*map_in_order(sums, chunks_of(*x.shape)), strict=True)
    of_neurons, of_latents = bounds
    mean = _autocorrelation(neurons, x).mean(axis=1)
    return _is_below(mean, of_neurons) and _is_below(_autocorrelation(latents, x), of_latents)


def _autocorrelation(parts: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """At lag 1, (condition, neuron), in units of the neuron's variance over all conditions."""
    squares, products = zip(*parts, strict=True)
    power = np.sum(squares, axis=0) / (len(x) * (x.shape[1] - 1))
    lagged = np.concatenate(products) / (x.shape[1] - 2)
    return np.divide(lagged, power, out=np.zeros_like(lagged), where=power != 0)


def _is_below(values: Array, bound: float) -> bool:
    """Whether the absolute mean over conditions plus its standard error is at most a bound."""
    mean, se = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return bool((np.abs(mean) + se <= bound).all())


def input_gains(samples: Samples, network: Network, settings: Settings, n_inputs: int) -> tuple[Array, Array]:
    """How much R² falls on inner held-out conditions when an input is left out and the regression is done again.

    The latent pass is repeated from the network, on some conditions of the first inner split, with all inputs and
    without each one in turn. The ridge is that of the smallest held-out error; without an input it is not smaller than
    with all.

    Parameters
    ----------
    samples : Samples
        Training conditions; the first drives are the inputs.
    network : Network
        The fit.
    settings : Settings
    n_inputs : int

    Returns
    -------
    gain, sem : array of shape (input,)
        The fall of R², and its standard error over held-out conditions, which a single one does not have. NaN for an
        unconstrained connectivity, for a network without connections, and where a run diverges.
    """
    nothing = np.full(n_inputs, np.nan)
    if network.n is None or not network.m.any() or not network.w.any():
        return nothing, nothing.copy()
    fitted, held = splits_of(len(samples.x), settings.seed)[0]
    fit, test = (
        some_of(samples, part, network.n_neurons, settings.seed, times=GAIN_CONDITIONS, fewest=2)
        for part in (fitted, held)
    )
    test = test.as_new_conditions(fit)

    def errors(columns: Array, ridges: Sequence[float]) -> list[Array]:
        """Held-out errors by condition of the regression on some of the drives, for each ridge."""
        if not len(columns):  # nothing moves the network
            return [test.energies()]
        first, last = (int(np.searchsorted(columns, edge)) for edge in samples.starts)
        own, others = (one._replace(q=one.q[..., columns], starts=(first, last)) for one in (fit, test))
        blocks = None if settings.blocks is None else settings.blocks.of_drives(columns)
        part = network._replace(w=network.w[:, columns])
        tried = _latent_pass(own, part, ridges, settings=settings._replace(blocks=blocks)).networks
        return list(others.errors_of(tried))

    drives, power, ridges = np.arange(samples.q.shape[2]), test.energies().sum(), sorted(settings.ridges)
    tried = errors(drives, ridges)
    best = int(np.argmin([one.sum() for one in tried]))
    without = [errors(np.delete(drives, k), ridges[best::2]) for k in range(n_inputs)]
    lost = [(min(one, key=np.sum) - tried[best]) / power for one in without]
    lost = [one if np.isfinite(one).all() else np.full(len(one), np.nan) for one in lost]
    several = len(test.x) > 1
    sem = [one.std(ddof=1) * np.sqrt(len(one)) if several else np.nan for one in lost]
    return np.array([one.sum() for one in lost]), np.array(sem)
