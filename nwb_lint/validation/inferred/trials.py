"""Unknown inputs of single trials, which the trials of a condition share or each has of its own, and their errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.model.network import Array
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.parallel.arrays import engine_on
from nwb_lint.parallel.threads import one_blas_thread
from nwb_lint.statespace.fit import begin, how_of, rotated
from nwb_lint.statespace.inference import posterior_of
from nwb_lint.statespace.learning.iterations import learn
from nwb_lint.statespace.learning.steps import State, expectation, moments_of
from nwb_lint.statespace.system import Batches, Trials
from nwb_lint.statespace.tuning import E_STEPS
from nwb_lint.statespace.unknown_inputs.own import learn_own, turned_own, without_own
from nwb_lint.statespace.unknown_inputs.uncertainty import information_of, prior_root


class Found(NamedTuple):
    """Unknown inputs d (group, time - 1, rank), their standard errors, m (neuron, rank), and their length in bins."""

    d: Array
    error: Array
    m: Array
    length: float


def learned(
    trials: xr.Dataset,
    options: TrialFitOptions,
    held: Array,
    cells: Array | None,
    recurrent: bool,
    unknown: bool,
    sparse: bool,
) -> tuple[State, Trials]:
    """EM under a hypothesis, and all trials. ``cells`` (trial) says which unknown input a trial has; None: its own."""
    how = how_of(options)._replace(sparse=sparse, recurrent=recurrent)
    if unknown and cells is None:
        state, arrays = learned(trials, options, held, None, True, False, False)
        with one_blas_thread():
            state = learn_own(
                state, arrays.part(~held), seed=options.seed, max_iter=options.max_iter, how=how,
                engine=engine_on(options.device),
            )  # fmt: skip
        return state, arrays
    with one_blas_thread():
        begun = begin(trials, options, held)
        first, arrays, train = begun.first, begun.arrays, begun.train
        if unknown and cells is not None:
            shape = int(cells.max()) + 1, arrays.y.shape[1] - 1, first.rank
            first, arrays = first._replace(unknown=np.zeros(shape)), arrays._replace(cell=cells)
            train = train._replace(cell=cells[~held])
        state, _ = learn(
            first, train, begun.kappa, seed=options.seed, max_iter=options.max_iter, tolerance=options.tol,
            how=how, engine=engine_on(options.device),
        )  # fmt: skip
    return state, arrays


def unknown_inputs(
    trials: xr.Dataset, options: TrialFitOptions, cells: Array | None, recurrent: bool, sparse: bool
) -> Found:
    """The unknown inputs of all trials under a hypothesis that has some."""
    nobody = np.zeros(trials.sizes["trial"], bool)
    state, arrays = learned(trials, options, nobody, cells, recurrent, True, sparse)
    with one_blas_thread():
        return _own(state, arrays, options) if cells is None else _shared(state, arrays, options, recurrent, sparse)


def _own(state: State, arrays: Trials, options: TrialFitOptions) -> Found:
    """Inputs of each trial: a part of the posterior of the latents."""
    system = turned_own(state.system)
    mean, covariance, _ = posterior_of(system, arrays, engine=engine_on(options.device))
    plain, own = without_own(system)
    errors = np.sqrt(np.diagonal(covariance, axis1=2, axis2=3)[:, :-1, plain.rank :])
    length = -1 / np.log(own.decay) if own.decay > 0 else 0.0
    return Found(mean[:, :-1, plain.rank :], errors, plain.m[: plain.n_neurons], length)


def _shared(state: State, arrays: Trials, options: TrialFitOptions, recurrent: bool, sparse: bool) -> Found:
    """Inputs that the trials of a condition share, from the observed information."""
    system, mean, covariance, _ = rotated(state.system, arrays, engine_on(options.device))
    data, root = Batches(arrays), np.zeros((len(system.m), 0))
    if recurrent:
        noise = np.random.default_rng([options.seed, 4]).standard_normal((1, *mean.shape))
        drawn = expectation(system, data, mean, covariance, noise, E_STEPS).drawn
        assert drawn is not None
        moments = moments_of(system, data, drawn)
        root = prior_root(moments.features, moments.linear, state.ridge)
    information = information_of(system, data, mean, covariance, root)
    course = information.course(system.noise, sparse)
    d = information.posterior(course.covariance, system.noise)[0]
    errors = information.errors(course.covariance, system.noise)
    if recurrent:  # the information takes the levels as known, but they may take a constant input of all groups
        errors = np.sqrt(errors**2 + course.covariance.mean() / len(d) * np.diag(system.noise))
    return Found(d, errors, system.m[: system.n_neurons], course.length)
