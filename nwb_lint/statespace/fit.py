"""`fit_trials`: from single trials to a stochastic low-rank network, both as Datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.behavior import (
    LEAST_VARIANCE,
    Behavior,
    behavior_of,
    explained,
    losses,
    predicted,
    read_out,
    readout_coords,
    reference_losses,
)
from nwb_lint.contract.checks import check_fit
from nwb_lint.contract.columns import recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import Blocks, blocks_for, blocks_of, in_blocks
from nwb_lint.model.areas.regression import closed_form
from nwb_lint.model.fit import extend_column, versions
from nwb_lint.model.network import Array, column_signs
from nwb_lint.model.regression import pseudo_inverse
from nwb_lint.model.simulate import with_run
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.options.words import as_toml
from nwb_lint.parallel.arrays import NUMPY, Engine, engine_on
from nwb_lint.parallel.memory import check_memory
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.parallel.store import content_hash
from nwb_lint.parallel.threads import one_blas_thread
from nwb_lint.parallel.warnings import warn
from nwb_lint.prepare import drawn
from nwb_lint.statespace.checkpoint import Snapshot
from nwb_lint.statespace.data import (
    NO_INPUT,
    arrays_of,
    check_trials,
    groups_of,
    session_functions,
    system_of,
    trials_for,
)
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.iterations import Progress, learn
from nwb_lint.statespace.learning.starts import (
    best_start,
    first_latents,
    first_system,
    latents_of_behavior,
    smoothed,
    with_hidden_scale,
)
from nwb_lint.statespace.learning.steps import How, State, regression_covariance
from nwb_lint.statespace.scores import co_smoothing, neuron_groups
from nwb_lint.statespace.system import Batches, System, Trials, loadings_of
from nwb_lint.statespace.tuning import (
    ALL_UNITS,
    DRIFT_START_ITERATIONS,
    DRIFT_START_TRIALS,
    DRIFT_WINDOWS,
    HIDDEN_SIZES,
    LESS_SMOOTHING,
    RIDGES,
    SCORED_TRIALS,
    START_RIDGE,
)

GAUGE = "latents of unit variance; columns of m of the recorded neurons orthogonal, sum of m³ positive"
SPLITS = ("train", "held_out")


@validated(TrialFitOptions)
def fit_trials(
    trials: xr.Dataset,
    *,
    rank: int,
    tau_s: float,
    observation: str = "poisson",
    link: str = "exp",
    hidden: int | str = "auto",
    hidden_scale: float | None = None,
    nonlinearity: str = "tanh",
    bias: str = "fixed",
    noise: str = "full",
    ridge: float | str = "auto",
    initial: str = "common",
    drift: int = 0,
    test_size: float | None = None,
    start: xr.Dataset | None = None,
    max_iter: int = 30,
    tol: float = 3e-3,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    areas: str | None = None,
    block_ranks: Mapping[Any, int] | None = None,
    input_areas: Mapping[str, Any] | None = None,
    readout_weight: float = 1.0,
    progress: bool = False,
) -> xr.Dataset:
    """Fit a stochastic low-rank network to the spikes of single trials, by expectation-maximization.

        kappa[t+1] = (1 - alpha) kappa[t] + alpha n' phi(x[t]) / N + eps[t],   eps ~ N(0, Q),   x = m kappa + I v + b
        count[t, i] ~ Poisson(bin · exp(c_i + x_i[t]))   or   value[t, i] ~ N(c_i + x_i[t], psi_i)

    with alpha = bin / tau_s and filtered inputs v. x is the deviation of the log rate, in e-folds. The E step is the
    Gaussian posterior of the latents (Newton's method, exact for a linear Gaussian network); every M step is a
    regression on samples of it. The iteration of largest evidence is the fit; its n is found again from more samples.

    Parameters
    ----------
    trials : xarray.Dataset
        From `read_trials` or `prepare`: ``count (trial, time, neuron)``, or ``rate`` with a Gaussian observation, and
        perhaps ``u (trial, time, input)``. Samples where ``observed`` is False, or that are NaN, do not count; trials
        may end early, and neurons may be missing in some trials.
    rank : int
        Number of latents, from 1 on.
    tau_s : float
        Time constant of the neurons, s; at least the bin.
    observation : {"poisson", "gaussian"}, default="poisson"
        Distribution of the data.
    link : {"exp", "softplus"}, default="exp"
        Rate of a Poisson observation: exp(c + x), or exp(c) softplus(x) / log 2.
    hidden : int or "auto", default="auto"
        Unobserved units with random m, I and b; with them, few neurons can have any dynamics. "auto": up to 256 units
        in all.
    hidden_scale : float or None, default=None
        Scale of hidden units: at the start of EM, latents, inputs and bias each give x of a hidden unit a standard
        deviation of so much, and a latent moves it as much as it moves the recorded neurons. With many latents or
        inputs, small scales (about 0.7) keep phi from saturation. None: m and b ~ N(0, 1), I ~ N(0, 1 / mean square of
        v), times a size of each unit from 0.3 to 3, for latents of unit variance.
    nonlinearity : {"tanh", "relu", "softplus", "linear"}, default="tanh"
        phi.
    bias : {"fixed", "fitted"}, default="fixed"
        b of the recorded units: 0, or fitted, so that they can have thresholds of their own. Hidden units have random
        ones. Units with a softplus link have them always.
    noise : {"full", "diagonal"}, default="full"
        Covariance Q of the noise of the latents.
    ridge : float or "auto", default="auto"
        Penalty of n, relative to the mean power of phi(x). "auto": that of largest marginal likelihood of a step. A
        larger one can give better long runs, where that of a step says little of states that the data do not visit.
    initial : str, default="common"
        Mean of the latents at the first bin: "common", or one for each value of a trial column.
    drift : int, default=0
        Number of smooth functions s_b of the trials (cosines of b half periods over the session, of mean 0 and mean
        square 1) along which m drifts: m(k) = m + sum_b s_b(k) m_b in trial k. 0: m is constant. `compare_drift` says
        how many the data support. The trials are those of one session, by their labels ``trial``.
    test_size : float or None, default=None
        Trials that are only scored: a fraction, or a number.
    start : xarray.Dataset or None, default=None
        A fit of the same rank and neurons, whose latents EM begins with: from `fit_trials`, or from `fit_lint`, whose m
        says which combinations of neurons they are. None: principal components.
    max_iter : int, default=30
        Iterations at most.
    tol : float, default=3e-3
        EM ends when three iterations have not raised the log evidence by this share of what it has gained.
    seed : int, default=0
        Seed of hidden units, samples and test trials.
    device : str, default="cpu"
        Where the posterior, its samples and the regressions are computed: "cpu" (numpy), or a device of torch with
        double precision, such as "cuda" or "cuda:1". The result is the same but for rounding.
    checkpoint : str or Path, optional
        File that keeps where EM is. If the fit is stopped, the same call continues to the same result.
    areas : str, optional
        Column of the neurons that names the area of each. The connectivity then consists of blocks, to each area from
        each, of rank ``rank``, as in `fit_lint`. Hidden units belong to the areas in turn. ``start`` needs the same
        blocks.
    block_ranks : dict of str or tuple to int, optional
        Ranks of the blocks that differ from ``rank``: ``{"M1<-V1": 2}`` is to M1 from V1; 0 for none.
    input_areas : dict of str to str or tuple of str, optional
        The areas that an input reaches. Inputs that are not named reach all.
    readout_weight : float, default=1.0
        What the log likelihood of behavior is multiplied by, where ``trials`` has ``behavior``. 1: as the model says;
        0: the network is that of the neurons alone, and behavior is read from its latents afterward; `compare_readouts`
        chooses one by held-out trials.
    progress : bool, default=False
        Whether a progress bar is shown.

    Returns
    -------
    xarray.Dataset
        A fit, whose conditions are the trials: ``m, n (neuron, rank)``, ``input_weights (neuron, input)``, ``bias``,
        ``initial_activation``, and what analyses of fits take. Further ``log_rate (neuron)``, Hz, or
        ``observation_mean`` and ``observation_noise (neuron)``; ``observation_cov (neuron, coefficient,
        coefficient_from)``, the covariance of the neuron's level, I, m and m_b; ``noise_cov (rank, rank_from)``;
        ``initial_mean (group, rank)`` and ``initial_cov``; the posterior ``latent (condition, time, rank)`` and
        ``latent_cov``; ``evidence (iteration)``, nats; ``bits_per_spike (split)``: co-smoothing over four groups of
        neurons. ``activity_pred`` is the run without noise; ``r2`` says how much of the posterior x it explains. With
        ``drift``, ``m`` is the mean over trials, ``m_drift (neuron, rank, basis)`` has the m_b, and ``drift_basis
        (basis, condition)`` the s_b: m of all trials is ``fit.m + (fit.m_drift * fit.drift_basis).sum("basis")``.
        With ``behavior``, ``readout_level (readout)``, ``readout_weights (readout, rank)``, their covariance
        ``readout_cov (readout, readout_term, readout_term_from)``, and ``readout_noise (readout)``, the variance of
        numbers, read it from the latents; ``behavior_pred (condition, time, readout)`` is what they read, from the
        neurons alone, and ``readout_score (readout, split)`` how much of the loss of the mean it explains: R² of
        numbers, of choices 1 - log loss / log loss of their share.

    Raises
    ------
    ContractError
        If the Dataset holds no trials, or an option or the start does not suit it, or torch has no such device, or the
        checkpoint is damaged or of another fit.

    References
    ----------
    m that drifts: Pellegrino, Cayco Gajic & Chadwick, NeurIPS 2023.

    Examples
    --------
    >>> from nwb_lint.testing import mock_trials
    >>> fit = fit_trials(mock_trials(), rank=1, tau_s=0.1, hidden=0, max_iter=3)
    >>> fit["noise_cov"].dims
    ('rank', 'rank_from')
    """
    options = TrialFitOptions.check({k: v for k, v in locals().items() if k in TrialFitOptions.model_fields})
    check_trials(trials, observation)
    held = drawn(trials.sizes["trial"], test_size, seed)
    return fit_trials_with(trials, options, held, start=start, progress=progress)


def fit_trials_with(
    trials: xr.Dataset,
    options: TrialFitOptions,
    held: Array,
    *,
    start: xr.Dataset | None = None,
    progress: bool = False,
    scored: bool = True,
) -> xr.Dataset:
    """`fit_trials` with these options, the held-out trials as a mask (trial), and with or without co-smoothing."""
    with one_blas_thread():
        first, arrays, train, kappa, levels, blocks, behavior = begin(trials, options, held, start)
        engine, n_hidden = engine_on(options.device), len(first.m) - first.n_neurons
        state, history = _learn(first, train, kappa, options, progress, engine)
        system, mean, covariance, _ = rotated(state.system, arrays, engine)
        train = arrays.part(~held)  # without behavior, which is read from the neurons from here on
        covariances = regression_covariance(system, Batches.on(engine, train), mean[~held])
        system = system._replace(uncertainty=covariances)
        scored = scored and options.observation == "poisson"
        bits = _bits(system, arrays, held, options.seed, engine) if scored else None
    fit = _dataset(trials, system, n_hidden, mean, covariance, levels, held)
    if blocks is not None and options.areas is not None:
        fit = in_blocks(fit, blocks, options.areas)
    if system.drift is not None and arrays.basis is not None:
        hidden_ones = np.zeros((n_hidden, *system.drift.shape[1:]))
        fit["m_drift"] = ("neuron", "rank", "basis"), np.concatenate([system.drift, hidden_ones])
        fit["drift_basis"] = ("basis", "condition"), arrays.basis.T
    if behavior is not None:
        fit = _with_behavior(fit, trials, behavior, mean, covariance, held)
    fit["evidence"] = ("iteration",), history
    if bits is not None:
        fit["bits_per_spike"] = ("split",), bits
    fit.attrs |= _attributes(trials, options, n_hidden, state)
    fit = _with_free_run(fit, system, arrays, mean, held)
    check_fit(fit)
    return fit


class Begun(NamedTuple):
    """What EM begins with.

    The first system, all trials, those that train with behavior, the first latents of these, the levels of ``initial``,
    the blocks of areas, and the behavior; None where there are none.
    """

    first: System
    arrays: Trials
    train: Trials
    kappa: Array
    levels: Array | None
    blocks: Blocks | None
    behavior: Behavior | None


def begin(trials: xr.Dataset, options: TrialFitOptions, held: Array, start: xr.Dataset | None = None) -> Begun:
    """Check the trials, and make the first system and the first latents."""
    name = check_trials(trials, options.observation)
    n = trials.sizes["neuron"]
    _check_options(trials, options, n)
    n_hidden = max(0, ALL_UNITS - n) if options.hidden == "auto" else int(options.hidden)
    n_bins = trials.sizes["trial"] * trials.sizes["time"]
    check_memory(8.0 * n_hidden * n_bins, f"hidden={n_hidden} units in {n_bins} bins", "Use fewer hidden units")
    alpha, seed = float(trials.attrs["bin_s"]) / options.tau_s, options.seed
    groups, levels = None, None
    if options.initial != "common":
        levels = groups_of(trials.isel(trial=~held), options.initial)[1]
        groups = groups_of(trials, options.initial, levels)[0]
    arrays = arrays_of(trials, name, alpha, groups, basis=session_functions(trials, options.drift))
    _check_data(arrays, held, options.observation)
    behavior = behavior_of(trials, ~held) if "behavior" in trials else None
    kinds = {kind: getattr(options, kind) for kind in ("observation", "link", "nonlinearity")}
    train = arrays.part(~held)
    blocks = _blocks(trials, options, n_hidden, train.v.shape[2])
    rank, n_groups = options.rank if blocks is None else len(blocks.to), 1 if levels is None else len(levels)
    sizes = HIDDEN_SIZES if options.hidden_scale is None else (1.0, 1.0)
    first = first_system(train, rank, n_hidden, alpha, seed, n_groups, kinds, sizes, blocks)
    if behavior is not None and options.readout_weight > 0:
        first, train = with_behavior(first, train, behavior, ~held, options.readout_weight)
    kappa = _first(trials.isel(trial=~held), train, first, options, start)
    if options.hidden_scale is not None:
        first = with_hidden_scale(first, train, kappa, options.hidden_scale)
    return Begun(first, arrays, train, kappa, levels, blocks, behavior)


def with_behavior(
    first: System, trials: Trials, behavior: Behavior, which: Array, weight: float
) -> tuple[System, Trials]:
    """The first system and its trials (mask ``which``) with behavior as further observations of the latents."""
    number = len(behavior.choice)
    first = first._replace(
        readout=np.zeros((number, 1 + first.rank)),
        readout_variance=np.ones(number),
        readout_choice=behavior.choice.astype(float),
    )
    return first, trials._replace(z=behavior.z[which], z_weight=weight * behavior.share[which])


def with_posterior(
    fit: xr.Dataset, system: System, trials: xr.Dataset, engine: Engine = NUMPY, *, scored: bool = True
) -> xr.Dataset:
    """The fit of another network with the same units to other trials, none of them held out, with or without scores.

    ``evidence`` has one value, that of the network.
    """
    arrays, seed = trials_for(fit, trials), int(fit.attrs["seed"])
    held, n_hidden = np.zeros(len(arrays.y), bool), int((~fit["recorded"].values).sum())
    with one_blas_thread():
        system, mean, covariance, evidence = rotated(system, arrays, engine)
        system = system._replace(uncertainty=regression_covariance(system, Batches.on(engine, arrays), mean))
        bits = _bits(system, arrays, held, seed, engine) if scored and system.observation == "poisson" else None
    levels = fit["initial_level"].values if "initial_level" in fit.coords else None
    found = _dataset(trials, system, n_hidden, mean, covariance, levels, held)
    if "behavior" in trials:
        found = _with_behavior(found, trials, behavior_of(trials, ~held), mean, covariance, held)
    found["evidence"] = ("iteration",), evidence.sum(keepdims=True)
    if bits is not None:
        found["bits_per_spike"] = ("split",), bits
    found.attrs |= fit.attrs
    found = _with_free_run(found, system, arrays, mean, held)
    check_fit(found)
    return found


def _check_options(trials: xr.Dataset, options: TrialFitOptions, n: int) -> None:
    bin_s = float(trials.attrs["bin_s"])
    if options.tau_s < bin_s:
        raise ContractError(
            f"tau_s is {options.tau_s:g} s and a bin is {bin_s:g} s. tau_s needs to be at least the bin. "
            "Give a longer tau_s or shorter bins."
        )
    if options.rank > n:
        raise ContractError(f"rank is {options.rank} and there are {n} neurons. Use at most rank {n}, or more units.")
    if "behavior" in trials and any(
        f"column = {as_toml(options.initial)}" in text.split(", ")
        for text in trials["readout_definition"].values.tolist()
    ):
        warn(
            f"initial is {options.initial!r}, which a readout is too. The first latents have it from the trial, "
            "so that scores of the readout say too much. Use initial='common'."
        )
    if options.drift and "behavior" in trials:
        raise ContractError(
            "The trials have behavior, and drift is given. Behavior is read from the latents of all trials in the same "
            "way. Leave out drift, or the behavior: trials.drop_dims('readout')."
        )


def _blocks(trials: xr.Dataset, options: TrialFitOptions, hidden: int, n_drives: int) -> Blocks | None:
    """The blocks of several areas; None without areas."""
    if options.areas is None:
        return None
    ranks = options.rank, options.block_ranks, options.input_areas
    return blocks_for(trials, options.areas, *ranks, hidden=hidden, n_drives=n_drives)


def _check_data(arrays: Trials, held: Array, observation: str) -> None:
    """Refuse data without any spike or sample; warn of neurons without any."""
    if held.all():
        raise ContractError("All trials are held out. A fit needs one. Hold out fewer.")
    y = arrays.y[~held]
    seen = np.broadcast_to(True, y.shape) if arrays.seen is None else arrays.seen[~held]
    if not seen.any():
        raise ContractError("No sample of the training trials is observed. A fit needs data. Check observed.")
    if not arrays.lag[~held].any():
        raise ContractError(
            "No training trial has two observed bins. A fit of dynamics needs steps. Check observed, or use shorter "
            "bins."
        )
    if observation == "poisson":
        if (y < 0).any() or (y != np.rint(y)).any():
            raise ContractError("The counts have negative or broken numbers. Poisson needs counts. Use 'gaussian'.")
        silent = int((np.where(seen, y, 0).sum(axis=(0, 1)) == 0).sum())
        if silent == y.shape[2]:
            raise ContractError("No neuron has a spike in the training trials. A fit needs spikes. Check the window.")
        if silent:
            warn(f"{silent} of {y.shape[2]} neurons have no spike in the training trials. Their weights are near 0.")


def _first(
    trials: xr.Dataset, arrays: Trials, first: System, options: TrialFitOptions, start: xr.Dataset | None
) -> Array:
    """The latents that EM begins with."""
    sd, poisson, loadings = max(1.0, 0.5 / first.alpha), options.observation == "poisson", None
    if start is not None:
        check_fit(start)
        if start.sizes.get("rank") != first.rank:
            raise ContractError(f"start has rank {start.sizes.get('rank')}, and rank is {first.rank}. Give the same.")
        _check_blocks(start, first)
        if "noise_cov" in start:
            return posterior_of(system_of(start), trials_for(start, trials))[0]
        recorded = recorded_of(start)
        if not np.array_equal(start["neuron"].values[recorded].astype(str), trials["neuron"].values.astype(str)):
            raise ContractError("start has other neurons than the trials. It needs the same in the same order.")
        loadings = start["m"].values[recorded]
        if poisson and "scale" in start:  # the rate is activity × scale, and x acts on its logarithm
            loadings = loadings * (start["scale"].values[recorded] / np.exp(first.level))[:, None]
    how, widths = how_of(options), [sd] if poisson or loadings is not None else sorted({sd, *LESS_SMOOTHING})

    def starts_of(part: Trials) -> list[Array]:
        if first.blocks is not None:
            return [first_latents_of_areas(part, first, sd, loadings)]
        found = [first_latents(part, options.rank, width, poisson, loadings) for width in widths]
        if first.readout_choice is not None and loadings is None:
            found.append(latents_of_behavior(part, found[-1], first.readout_choice, sd, poisson))
        return found

    starts = starts_of(arrays)
    if arrays.basis is None or loadings is not None:
        return best_start(first, arrays, starts, options.seed, how)
    starts += [_start_of_window(first, arrays, part, starts_of, options.seed, how) for part in _windows(arrays)]
    return best_start(first, arrays, starts, options.seed, how, DRIFT_START_TRIALS)


def _windows(arrays: Trials) -> list[Array]:
    """Parts of the session with data, positions of their trials.

    The first function of the session falls from the first trial to the last.
    """
    assert arrays.basis is not None
    parts = np.array_split(np.argsort(-arrays.basis[:, 0], kind="stable"), DRIFT_WINDOWS)
    return [np.sort(part) for part in parts if arrays.lag[part].any()]


def _start_of_window(
    first: System, arrays: Trials, part: Array, starts_of: Callable[[Trials], list[Array]], seed: int, how: How
) -> Array:
    """Latents of all trials under a network with constant m that is fitted to a part of the session.

    Components of the whole session may have another sign at its end than at its start, where m drifts by about its own
    size, and EM does not turn them back.
    """
    constant, some = first._replace(drift=None), arrays.part(part)._replace(basis=None)
    kappa = best_start(constant, some, starts_of(some), seed, how)
    tried = learn(constant, some, kappa, seed=seed, max_iter=DRIFT_START_ITERATIONS, tolerance=0.0, how=how)[0]
    return posterior_of(tried.system, arrays._replace(basis=None))[0]


def how_of(options: TrialFitOptions) -> How:
    """The options of EM."""
    ridges = RIDGES if options.ridge == "auto" else np.array([float(options.ridge)])
    return How(options.noise == "diagonal", options.bias == "fitted", ridges)


def _check_blocks(start: xr.Dataset, first: System) -> None:
    """Refuse a start whose latents belong to other blocks than those of the fit."""
    if first.blocks is None:
        return
    own = blocks_of(start)
    if own is None or any(not np.array_equal(getattr(own, name), getattr(first, name)) for name in ("to", "source")):
        raise ContractError(
            "start has other blocks than the fit. Each of its latents begins the latent of the same block. Fit start "
            "with the same areas and block_ranks."
        )


def _learn(
    first: System, arrays: Trials, kappa: Array, options: TrialFitOptions, progress: bool, engine: Engine
) -> tuple[State, Array]:
    bars = progress_bar(progress, "EM", unit="iteration", total=options.max_iter)
    with bars as bar, _snapshot(first, arrays, kappa, options) as snapshot:

        def report(at: Progress) -> None:
            bar.set_postfix(evidence=f"{at.history[-1]:.6g}", refresh=False)
            bar.update(at.iteration + 1 - bar.n)

        return learn(
            first, arrays, kappa, seed=options.seed, max_iter=options.max_iter, tolerance=options.tol,
            how=how_of(options), report=report, checkpoint=snapshot, engine=engine,
        )  # fmt: skip


@contextmanager
def _snapshot(first: System, arrays: Trials, kappa: Array, options: TrialFitOptions) -> Iterator[Snapshot | None]:
    """The checkpoint of this fit, identified by data, start, options and version."""
    if options.checkpoint is None:
        yield None
        return
    same = options.arguments() | {"checkpoint": None, "device": "cpu"}  # they do not change the result
    identity = first, arrays, kappa, same, version("nwb_lint")
    with Snapshot(options.checkpoint, content_hash(identity)) as snapshot:
        yield snapshot


def rotated(system: System, arrays: Trials, engine: Engine) -> tuple[System, Array, Array, Array]:
    """The system with orthogonal columns of the recorded m, largest first, and the posterior of all trials.

    It is without behavior: the posterior is that of the neurons alone.
    """
    system = turned(system._replace(readout=None, readout_variance=None, readout_choice=None))[0]
    return system, *posterior_of(system, arrays, engine=engine)


def turned(system: System) -> tuple[System, Array]:
    """The system with orthogonal columns of the recorded m, largest first, and the axes (rank, rank) of its latents."""
    if system.blocks is None:
        _, _, axes = np.linalg.svd(system.m[: system.n_neurons], full_matrices=False)
        axes = axes.T * column_signs(system.m[: system.n_neurons] @ axes.T)
    else:
        axes = axes_of_blocks(system, system.blocks)
    drift = None if system.drift is None else np.einsum("irb,rs->isb", system.drift, axes)
    unknown = None if system.unknown is None else system.unknown @ axes
    return system._replace(
        drift=drift, unknown=unknown, m=system.m @ axes, n=system.n @ axes, noise=axes.T @ system.noise @ axes,
        start=system.start @ axes, spread=axes.T @ system.spread @ axes,
    ), axes  # fmt: skip


def _bits(system: System, arrays: Trials, held: Array, seed: int, engine: Engine) -> Array:
    """Co-smoothing of every neuron in some trials of each split, bits per spike."""
    found = np.full(2, np.nan)
    for k, part in enumerate((~held, held)):
        which = np.flatnonzero(part)
        if not len(which):
            continue
        if len(which) > SCORED_TRIALS:
            which = np.sort(np.random.default_rng([seed, 2]).choice(which, SCORED_TRIALS, replace=False))
        bits, spikes = co_smoothing(system, arrays.part(which), neuron_groups(system.n_neurons, seed), engine)
        found[k] = bits.sum() / spikes.sum() if spikes.sum() > 0 else np.nan
    return found


def _dataset(
    trials: xr.Dataset, system: System, hidden: int, mean: Array, covariance: Array, levels: Array | None, held: Array
) -> xr.Dataset:
    """The network and the posterior, with trials as conditions."""
    n = trials.sizes["neuron"]
    coords: dict[Any, Any] = {}
    for key, column in trials.coords.items():
        if column.dims == ("neuron",):
            coords[key] = "neuron", extend_column(str(key), column.values, hidden), column.attrs
        elif key != "trial" and column.dims in (("trial",), ("time",), ("input",), ("file",)):
            coords[key] = ("condition" if column.dims == ("trial",) else column.dims[0]), column.values, column.attrs
    if "neuron" not in coords:
        coords["neuron"] = extend_column("neuron", np.arange(n).astype(str), hidden)
    ids = trials["trial"].values if "trial" in trials.coords else np.arange(trials.sizes["trial"])
    coords["condition"] = ids.astype(str)
    coords["recorded"] = "neuron", np.arange(n + hidden) < n
    coords["held_out"] = "condition", held
    u = trials["u"].values if "u" in trials else np.zeros((*mean.shape[:2], 1))
    if "u" not in trials:
        coords["input"] = [NO_INPUT]
    own = np.full(n + hidden, np.nan)
    own[:n] = system.level
    fit = xr.Dataset(coords=coords)
    fit["m"], fit["n"] = (("neuron", "rank"), system.m), (("neuron", "rank"), system.n)
    fit["input_weights"], fit["bias"] = (("neuron", "input"), system.weights), (("neuron",), system.bias)
    fit["initial_activation"] = ("neuron",), system.bias + system.m @ system.start.mean(axis=0)
    fit["u"] = ("condition", "time", "input"), u.astype(np.float32)
    fit["log_rate" if system.observation == "poisson" else "observation_mean"] = ("neuron",), own.copy()
    if system.observation == "gaussian":
        own[:n] = system.variance
        fit["observation_noise"] = ("neuron",), own
    if system.uncertainty is not None:
        padded = np.full((n + hidden, *system.uncertainty.shape[1:]), np.nan)
        padded[:n] = system.uncertainty
        fit["observation_cov"] = ("neuron", "coefficient", "coefficient_from"), padded
    fit["noise_cov"] = ("rank", "rank_from"), system.noise
    fit["initial_mean"] = ("group", "rank"), system.start
    fit["initial_cov"] = ("rank", "rank_from"), system.spread
    fit["latent_cov"] = ("condition", "time", "rank", "rank_from"), covariance.astype(np.float32)
    if levels is not None:
        fit = fit.assign_coords(initial_level=("group", levels))
    return fit


def _with_behavior(
    fit: xr.Dataset, trials: xr.Dataset, behavior: Behavior, mean: Array, covariance: Array, held: Array
) -> xr.Dataset:
    """The fit with what reads behavior from the latents that the neurons give, and how well it does in each split."""
    design = np.concatenate([np.ones((*mean.shape[:2], 1)), mean], axis=2)
    train = np.flatnonzero(~held)
    used = (behavior.share[train] > 0).any(axis=2)
    of_trial = np.broadcast_to(np.arange(len(train))[:, None], used.shape)[used]
    some, z, share = (one[train][used] for one in (design, behavior.z, behavior.share))
    reading = read_out(some, z, share, behavior.choice, groups=of_trial)
    loss = losses(predicted(design, reading, behavior.choice), behavior)
    reference = reference_losses(behavior, ~held)
    score = np.column_stack([explained(loss[part], reference[part]) for part in (~held, held)])
    unsure = np.einsum(
        "kr,nrs,ks->nk", reading.coefficients[:, 1:], covariance[train][used], reading.coefficients[:, 1:]
    )
    spread = (share * unsure).sum(axis=0) / share.sum(axis=0)
    noise = np.maximum(reading.variance - spread, LEAST_VARIANCE)
    to = np.where(behavior.choice, 1, behavior.scale)
    fit = fit.assign_coords(readout_coords(trials))
    fit["behavior"] = ("condition", "time", "readout"), trials["behavior"].transpose("trial", "time", "readout").values
    own = behavior.mean + to * predicted(design, reading, behavior.choice)
    fit["behavior_pred"] = ("condition", "time", "readout"), own
    fit["readout_level"] = ("readout",), behavior.mean + to * reading.coefficients[:, 0]
    fit["readout_weights"] = ("readout", "rank"), to[:, None] * reading.coefficients[:, 1:]
    fit["readout_noise"] = ("readout",), np.where(behavior.choice, np.nan, to**2 * noise)
    terms = "readout", "readout_term", "readout_term_from"
    fit["readout_cov"] = terms, (to**2)[:, None, None] * reading.covariance
    fit["readout_score"] = ("readout", "split"), score
    return fit


def _attributes(trials: xr.Dataset, options: TrialFitOptions, hidden: int, state: State) -> dict[str, Any]:
    names = ("tau_s", "nonlinearity", "observation", "link", "bias", "noise", "initial", "seed")
    found = dict(trials.attrs) | {name: getattr(options, name) for name in names} | versions()
    if options.hidden_scale is not None:
        found["hidden_scale"] = options.hidden_scale
    if options.areas is not None:
        found["areas"] = options.areas
    if "behavior" in trials:
        found["readout_weight"] = options.readout_weight
    found |= {"dt_s": float(trials.attrs["bin_s"]), "method": "em", "loss": "evidence", "hidden": hidden}
    gauge = GAUGE if options.areas is None else f"in each block of areas: {GAUGE}"
    return found | {"gauge": gauge, "ridge": state.ridge}


def _with_free_run(fit: xr.Dataset, system: System, arrays: Trials, mean: Array, held: Array) -> xr.Dataset:
    """The run without noise, and how much of the posterior x of the recorded neurons it explains, by split."""
    fit = with_run(fit)
    recorded = fit["recorded"].values
    x = (
        mean @ loadings_of(system, arrays.basis)[..., : system.n_neurons]
        + fit["filtered_input"].values @ fit["input_weights"].values[recorded].T
    )
    x += fit["bias"].values[recorded]
    middle = x[~held].mean(axis=(0, 1))
    error, power = (fit["activity_pred"].values[..., recorded] - x) ** 2, (x - middle) ** 2
    r2, each = np.full(2, np.nan), np.full((2, len(recorded)), np.nan)
    for k, part in enumerate((~held, held)):
        if part.any():
            e, p = error[part].sum(axis=(0, 1)), power[part].sum(axis=(0, 1))
            r2[k], each[k, recorded] = 1 - e.sum() / p.sum(), 1 - e / np.maximum(p, 1e-300)
    fit["r2"], fit["r2_ceiling"] = (("split",), r2), (("split",), np.full(2, np.nan))
    fit["r2_neuron"] = ("split", "neuron"), each
    fit["latent"] = ("condition", "time", "rank"), mean.astype(np.float32)
    return fit.assign_coords(split=list(SPLITS))


# ---------------------------------------------------------------------------------------------------------------------
# Several areas


def first_latents_of_areas(trials: Trials, system: System, sd: float, loadings: Array | None = None) -> Array:
    """Latents of unit variance (trial, time, rank), from the regression of smoothed log counts, or values.

    The regression is that of the means (`nwb_lint.model.areas.regression`): of each area on the filtered rates of all.
    Its m says which combinations of neurons the latents are. With loadings (neuron, rank), these are m.
    """
    y, scale = smoothed(trials, sd, system.observation == "poisson")
    x = (y - y.mean(axis=(0, 1))).astype(np.float32)
    q = np.concatenate([trials.v, np.ones((*trials.v.shape[:2], 1))], axis=2).astype(np.float32)
    weights = (scale / scale.mean()) ** 2
    if loadings is None:
        blocks = blocks_of_neurons(system)
        how = {"alpha": system.alpha, "nonlinearity": system.nonlinearity, "weights": weights}
        loadings = closed_form(x, q, blocks=blocks, ridges=[START_RIDGE], **how).networks[0].m
    flat, design = x.reshape(-1, x.shape[2]).astype(float), q.reshape(-1, q.shape[2]).astype(float)
    left = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    kappa = left @ pseudo_inverse(loadings, weights)
    return (kappa / np.maximum(kappa.std(axis=0), 1e-9)).reshape(*x.shape[:2], -1)


def blocks_of_neurons(system: System) -> Blocks:
    """The blocks without hidden units, with one drive more that reaches all: a constant."""
    blocks, n = system.blocks, system.n_neurons
    assert blocks is not None
    reached = np.concatenate([blocks.reached[:n], np.ones((n, 1), bool)], axis=1)
    return blocks._replace(area=blocks.area[:n], reached=reached)


def axes_of_blocks(system: System, blocks: Blocks) -> Array:
    """The rotation (rank, rank) of each block in which the columns of the recorded m are orthogonal, largest first."""
    found = np.zeros((system.rank, system.rank))
    for _, _, own in blocks.pairs():
        m = system.m[: system.n_neurons][:, own]
        _, _, axes = np.linalg.svd(m, full_matrices=False)
        found[np.ix_(own, own)] = axes.T * column_signs(m @ axes.T)
    return found
