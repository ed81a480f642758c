"""`refine_free_run`: all weights of a stochastic fit by gradient, so that runs without noise predict single trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_fit
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.options.checks import validated
from nwb_lint.options.single_trials import RefineOptions
from nwb_lint.parallel.arrays import Engine, engine_on
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.parallel.threads import one_blas_thread
from nwb_lint.prepare import drawn
from nwb_lint.statespace.data import system_of, trials_for
from nwb_lint.statespace.fit import with_posterior
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.iterations import noise_factor
from nwb_lint.statespace.learning.steps import Draws, expectation, start_step, whiten
from nwb_lint.statespace.system import Batches, System, Trials, context_of, features_of, next_latent
from nwb_lint.statespace.tuning import (
    E_STEPS,
    FIRST_BINS,
    LARGEST_GRADIENT,
    MIN_NOISE,
    NOISE_ROUNDS,
    NOISE_SHARES,
    NOISE_TRIALS,
    PIECE_EPOCHS,
    PIECE_TRIALS,
    PIECES,
    REFINE_HELD,
    REFINE_RATE,
)

LossAndGradient = Callable[..., tuple[Any, ...]]
Report = Callable[[float], object]


@validated(RefineOptions)
def refine_free_run(
    fit: xr.Dataset,
    trials: xr.Dataset,
    *,
    epochs: int = 30,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> xr.Dataset:
    """Train all weights of a fit of single trials by gradient, so that its runs without noise predict the trials.

    `fit_trials` finds n by regressions of one step, and hidden units keep their random weights. Here m, n, I and b of
    all units follow the gradient of the likelihood of the data in a run without noise (Adam): first in short pieces,
    which begin with latents of their posterior, then in whole trials. The noise Q is found again by
    expectation-maximization, and its size by the evidence. Long runs become better where inputs that are known drive
    most of the dynamics. Where noise decides them, no run without noise predicts a trial: then keep the fit.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_trials`, without drift, areas or a softplus link.
    trials : xarray.Dataset
        Trials with the neurons and inputs of the fit: those that were fitted, or more.
    epochs : int, default=30
        Passes over the trials.
    seed : int, default=0
        Seed of the order of trials, of samples, and of the trials that are held out.
    device : str, default="cpu"
        Where gradient and posterior are computed: "cpu", or a device of torch such as "cuda".
    progress : bool, default=False
        Whether a progress bar is shown.

    Returns
    -------
    xarray.Dataset
        A fit as that of `fit_trials`, whose conditions are these trials. b of the recorded units is fitted too. The
        attributes ``free_run_loss_before`` and ``free_run_loss`` are minus the log likelihood of runs without noise of
        the held-out trials, nats per sample, to a constant. The network is that of the epoch with the least.

    Raises
    ------
    ContractError
        If the fit is none of single trials, or has drift, areas or a softplus link; if neurons, inputs or bins of the
        trials differ; if there are fewer than two trials; or if nothing is observed in those that train, or in those
        that are held out.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2: training of all weights through time.

    Examples
    --------
    >>> from nwb_lint import fit_trials
    >>> from nwb_lint.testing import mock_trials
    >>> trials = mock_trials()
    >>> fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=10, max_iter=3)
    >>> refined = refine_free_run(fit, trials, epochs=2)
    >>> refined.attrs["free_run_loss"] <= refined.attrs["free_run_loss_before"]
    True
    """
    check_fit(fit)
    system, arrays = system_of(fit), trials_for(fit, trials)
    with one_blas_thread():
        system, losses = refined(system, arrays, epochs, seed, device=device, progress=progress)
    found = with_posterior(fit, system, trials, engine_on(device))
    scores = {"free_run_loss_before": float(losses[0]), "free_run_loss": float(np.nanmin(losses))}
    return found.assign_attrs(bias="fitted", **scores)


def refined(
    system: System, arrays: Trials, epochs: int, seed: int, *, device: str = "cpu", progress: bool = False
) -> tuple[System, Array]:
    """The network with all weights by gradient and with new noise, and the losses of held-out trials in whole runs.

    The first loss is that of the given network, the second that of the network from which whole trials are trained, the
    others are those of the epochs. The same trials are held out throughout. Errors of a long run explode while the
    dynamics are wrong. So short pieces of some trials come first, from latents of their posterior, then longer ones,
    and whole trials last (multiple shooting).
    """
    _check(system, arrays)
    engine, held = engine_on(device), drawn(len(arrays.y), REFINE_HELD, seed)
    _check_observed(arrays, held)
    some = np.sort(np.random.default_rng([seed, 6]).permutation(len(arrays.y))[:PIECE_TRIALS])
    part = arrays.part(some)
    mean = posterior_of(system, part, engine=engine)[0]
    with progress_bar(progress, "gradient", unit="epoch", total=epochs) as bar:

        def report(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.5g}", refresh=False)
            bar.update()

        pieced = _by_pieces(system, part, mean, held[some], seed, device)
        before, after = (_held_out_loss(one, arrays.part(held), engine, device) for one in (system, pieced))
        system = pieced if after < before else system
        first = first_latents_of(system, arrays, engine)
        system, losses = _descended(system, arrays, first, held, epochs, REFINE_RATE, seed, device, report)
    return with_noise(system, part.part(slice(0, NOISE_TRIALS)), seed, engine), np.append(before, losses)


def _by_pieces(system: System, arrays: Trials, mean: Array, held: Array, seed: int, device: str) -> System:
    """The network after the gradient of pieces, from latents (trial, time, rank); ``held`` (trial) do not train."""
    for length, rate in PIECES:
        if 2 * length <= mean.shape[1]:
            pieces, first = _pieces(arrays, mean, length)
            each = np.repeat(held, mean.shape[1] // length)
            system, _ = _descended(system, pieces, first, each, PIECE_EPOCHS, rate, seed, device)
    return system


def _held_out_loss(system: System, arrays: Trials, engine: Engine, device: str) -> float:
    """Minus the log likelihood of whole runs of these trials, nats per sample."""
    from nwb_lint.statespace._torch import RunsWithoutNoise

    first = first_latents_of(system, arrays, engine)
    return RunsWithoutNoise(system, arrays, first, device).loss(*_parameters(system))


def _parameters(system: System) -> tuple[Array, Array, Array]:
    """m, n and W = [I b]."""
    return system.m, system.n, np.column_stack([system.weights, system.bias])


def _check(system: System, arrays: Trials) -> None:
    parts = {
        "drift": system.drift is not None, "areas": system.blocks is not None, "a softplus link": system.link != "exp"
    }  # fmt: skip
    if any(parts.values()):
        raise ContractError(
            f"The fit has {' and '.join(name for name, there in parts.items() if there)}. The gradient of free runs "
            "needs a fit without drift, areas and a softplus link. Leave them out of fit_trials, or keep the fit as it "
            "is."
        )
    if len(arrays.y) < 2:
        raise ContractError("There is a single trial. One trains and one is held out. Give at least two.")


def _check_observed(arrays: Trials, held: Array) -> None:
    """Refuse trials of which those that train, or those that are held out, have no observed sample."""
    for which, name in ((~held, "train"), (held, "are held out")):
        if arrays.seen is not None and not arrays.seen[which].any():
            raise ContractError(
                f"No sample is observed in the trials that {name}, {int(which.sum())} of {len(held)}. Both kinds need "
                "data. Check observed, give more trials, or choose another seed."
            )


def first_latents_of(system: System, arrays: Trials, engine: Engine) -> Array:
    """Posterior mean of the first latents (trial, rank) given the first bins."""
    early = slice(0, FIRST_BINS)
    seen = None if arrays.seen is None else arrays.seen[:, early]
    part = arrays._replace(
        y=arrays.y[:, early], seen=seen, v=arrays.v[:, early], log_exposure=arrays.log_exposure[:, early],
        lag=arrays.lag[:, : FIRST_BINS - 1],
    )  # fmt: skip
    return posterior_of(system, part, engine=engine)[0][:, 0]


def _pieces(arrays: Trials, mean: Array, length: int) -> tuple[Trials, Array]:
    """Pieces of so many bins, trial by trial, and the latents (piece, rank) at their first bins; a rest is left out."""
    number = mean.shape[1] // length

    def cut(values: Array) -> Array:
        whole = values[:, : number * length]
        return whole.reshape(-1, length, *values.shape[2:])

    seen = None if arrays.seen is None else cut(arrays.seen)
    lag = np.ones((len(mean) * number, length - 1), bool)
    pieces = Trials(cut(arrays.y), seen, cut(arrays.v), cut(arrays.log_exposure), np.repeat(arrays.group, number), lag)
    return pieces, mean[:, : number * length : length].reshape(-1, mean.shape[2])


class _Clipped:
    """Cuts off gradients whose norm is far above that of the gradients before: those of runs that leave all bounds."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def __call__(self, loss_and_gradient: LossAndGradient) -> LossAndGradient:
        def found(*network: Array) -> tuple[Any, ...]:
            loss, *gradients = loss_and_gradient(*network)
            norm = float(np.sqrt(sum((one**2).sum() for one in gradients)))
            most = LARGEST_GRADIENT * float(np.median(self.norms)) if self.norms else norm
            if np.isfinite(norm):
                self.norms.append(norm)
            return loss, *(one * min(1.0, most / max(norm, 1e-300)) for one in gradients)

        return found


def _descended(
    system: System, arrays: Trials, first: Array, held: Array, epochs: int, size: float, seed: int, device: str,
    report: Report = lambda loss: None,
) -> tuple[System, Array]:  # fmt: skip
    """The network of the epoch with the least loss of held-out trials, and that loss before and after each epoch."""
    from nwb_lint.model._torch import adam_epoch, adam_start
    from nwb_lint.statespace._torch import RunsWithoutNoise

    problem = RunsWithoutNoise(system, arrays, first, device)
    test, train = RunsWithoutNoise(system, arrays.part(held), first[held], device), np.flatnonzero(~held)
    state: list[Array] = list(adam_start(*_parameters(system)))
    best, losses, clipped = state, [test.loss(*state[:3])], _Clipped()
    for k in range(epochs):
        rate = size * 0.5 * (1 + np.cos(np.pi * k / epochs))
        order = np.random.default_rng([seed, 5, k]).permutation(train)
        _, *state = adam_epoch(problem, *state, rate=rate, order=order, penalized=clipped)
        losses.append(test.loss(*state[:3]))
        if losses[-1] <= np.nanmin(losses):
            best = state
        report(losses[-1])
    m, n, w = best[:3]
    return system._replace(m=m, n=n, weights=w[:, :-1], bias=w[:, -1]), np.array(losses)


def with_noise(system: System, arrays: Trials, seed: int, engine: Engine) -> System:
    """The noise, and mean and covariance of the first latents, by EM with the other parameters fixed.

    The size of the noise is then the likeliest of a few (`with_likelier_noise`).
    """
    data, (mode, covariance, _) = Batches.on(engine, arrays), posterior_of(system, arrays, engine=engine)
    spread: Array | None = covariance
    for k in range(NOISE_ROUNDS):
        noise = np.random.default_rng([seed, 4, k]).standard_normal((1, *mode.shape))
        found = expectation(system, data, mode, spread, noise, E_STEPS)
        assert found.drawn is not None
        draws = Draws(found.drawn, found.mean, found.covariance)
        system, draws = whiten(system, draws, arrays.lag, with_hidden=True)
        system = start_step(system._replace(noise=noise_of_steps(system, data, draws.drawn)), arrays, draws.drawn)
        system = system._replace(noise=noise_factor(system, data, draws) * system.noise)
        mode, spread = draws.mean, draws.covariance
    return with_likelier_noise(system, arrays, engine)


def with_likelier_noise(system: System, arrays: Trials, engine: Engine) -> System:
    """The network with less noise, by one of `NOISE_SHARES` or not at all, where the evidence of the trials is largest.

    EM makes noise that is too large smaller in many rounds only, since the latents follow the noise that it expects.
    """
    most = float(posterior_of(system, arrays, engine=engine)[2].sum())
    best = system
    for share in NOISE_SHARES:
        less = system._replace(noise=share * system.noise)
        evidence = float(posterior_of(less, arrays, engine=engine)[2].sum())
        if not evidence > most:
            break
        best, most = less, evidence
    return best


def noise_of_steps(system: System, data: Batches, drawn: Array) -> Array:
    """Q: mean square of kappa[t+1] - f(kappa[t]) over samples (draw, trial, time, rank)."""
    put, get = data.engine.put, data.engine.get
    there = put(system)

    def work(block: slice) -> tuple[Array, int]:
        part, (kappa,) = put(data.trials.part(block)), put((drawn[:, block],))
        context = context_of(there, part)
        off = kappa[:, :, 1:] - next_latent(there, kappa[:, :, :-1], features_of(there, kappa[:, :, :-1], context)[0])
        off = off[:, part.lag]
        return get((off.swapaxes(1, 2) @ off).sum(axis=0)), len(drawn) * off.shape[1]

    total, number = np.zeros((system.rank, system.rank)), 0
    for _, (squares, count) in data.map(work, len(drawn) * len(system.m)):
        total, number = total + squares, number + count
    return total / max(number, 1) + MIN_NOISE * np.eye(system.rank)
