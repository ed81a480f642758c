"""`fit_lint`: from a prepared activity to a fit, both as Datasets."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.behavior import (
    Behavior,
    behavior_of,
    explained,
    losses,
    predicted,
    read_out,
    readout_coords,
    reference_losses,
)
from nwb_lint.contract.checks import check_activity, check_fit
from nwb_lint.contract.columns import held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_for, in_blocks
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import (
    Samples,
    instruments_of,
    unmasked,
    weights_of,
    with_behavior,
    without_behavior,
)
from nwb_lint.model.initial_conditions import with_shares, with_starts
from nwb_lint.model.network import SLOPE_POINTS, Array, Network, as_nonlinearity, drives, nonlinearity_of, norm_ratio
from nwb_lint.model.optimization import Report
from nwb_lint.model.regression import sketch_size
from nwb_lint.model.scores import (
    by_split,
    caution_about,
    input_lags,
    median_over,
    noise_of,
    reference_of,
    rounding_of,
    squared_errors,
)
from nwb_lint.model.simulate import GAUGE, canonicalize, network_of, whole_input, with_run
from nwb_lint.model.stages.regressions import input_gains
from nwb_lint.model.stages.run import fit_stages
from nwb_lint.model.stages.search import Settings, Stage
from nwb_lint.model.tuning import LAG_ERRORS, LAG_GAIN, LAG_R2, MAX_MAGNITUDE, RIDGES, SKETCH_COPIES
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.parallel.arrays import check_device
from nwb_lint.parallel.memory import check_memory
from nwb_lint.parallel.progress import progress_bar
from nwb_lint.parallel.store import content_hash
from nwb_lint.parallel.tasks import is_task
from nwb_lint.parallel.threads import one_blas_thread
from nwb_lint.parallel.warnings import warn
from nwb_lint.prepare import MIN_FOR_SHARE, drawn_conditions

SPLITS = ("train", "held_out")


@validated()  # the values are checked below, once, by FitOptions.check
def fit_lint(
    activity: xr.Dataset,
    *,
    rank: int | None,
    tau_s: float,
    method: str = "auto",
    nonlinearity: str | tuple = "tanh",
    loss: str = "activity",
    test_size: float | None = None,
    test_conditions: object = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
    hidden: int = 0,
    bias: bool = False,
    initial: str = "zero",
    ridges: tuple[float, ...] = RIDGES,
    ridge_by: str = "held_out",
    weights: Array | str | None = None,
    l2_n: float | str = "auto",
    max_iter: int = 200,
    epochs: int = 50,
    optimizer: str = "auto",
    segment_s: float | None = None,
    checkpoint: str | Path | None = None,
    areas: str | None = None,
    block_ranks: Mapping[Any, int] | None = None,
    input_areas: Mapping[str, Any] | None = None,
    readout_weight: float = 1.0,
) -> xr.Dataset:
    """Fit a low-rank network whose free run reproduces the activity (LINT).

    The network is x[t+1] = (1 - alpha) x[t] + alpha (m n' phi(x[t]) / N + I u[t] + b) with alpha = bin / tau_s. The fit
    has three stages: closed form (ridge regression of the activity on its own filtered rates), latent pass (the same
    regression on the activity projected on the latents), and gradient (L-BFGS on the error of the free run). Splits
    inside the training conditions choose the ridge, the stages that are kept, and when the gradient stops. Test
    conditions are only scored. If the held-out innovations of the closed form, x[t] minus its prediction from the rates
    before, have no autocorrelation, all noise entered inside the network; the closed form is then the fit.

    Parameters
    ----------
    activity : xarray.Dataset
        From `prepare`: ``activity (condition, time, neuron)``, dimensionless, and ``u (condition, time, input)``. NaN =
        not observed; a shorter trial ends in NaN. A condition may be a single trial. Samples where ``mask`` is False do
        not count. ``activity_half``, if there is one, is used for instruments in the closed form.
    rank : int or None
        Rank R ≥ 1. None = an unconstrained J (neuron, neuron_from), in closed form.
    tau_s : float
        Time constant of the neurons, s; at least the bin. `nwb_lint.compare_tau` compares several.
    method : {"auto", "regression", "gradient", "published"}, default="auto"
        "auto": all stages that improve the fit. "regression": the first two. "gradient": the third, from a random
        start. "published": the training loop of the paper (Adam).
    nonlinearity : str or tuple of two callables, default="tanh"
        "tanh", "relu", "softplus", "linear", "clipped_relu" (0 below 0, 1 above 1), or (phi, derivative of phi), each a
        function of one array or one tensor. A fit with functions cannot be written to a file.
    loss : {"activity", "rate"}, default="activity"
        Squared error of the activation x, or of the rate phi(x).
    test_size : float, optional
        Test conditions that are drawn at random: a fraction below 1, or their number.
    test_conditions : array_like, optional
        Test conditions: labels, positions or a boolean mask. Without this and ``test_size``, the conditions that
        `prepare` did not use for its estimates.
    seed : int, default=0
        Seed of splits, random starts and hidden units.
    device : str, default="cpu"
        Where regressions and gradient are computed: "cpu", or a device of torch, such as "cuda" or "cuda:1"; one
        without double precision computes the gradient alone. The result is the same but for rounding in single
        precision.
    progress : bool, default=False
        Show a progress bar with the loss and the held-out R².
    hidden : int, default=0
        Number of hidden units, added to the recorded neurons because few neurons cannot span the dynamics. The closed
        form uses them as random features of the latents. The gradient then starts from random hidden units.
        ``method="regression"`` takes seconds and is enough for recordings with little noise.
    bias : bool, default=False
        Fit the constant input b.
    initial : str, default="zero"
        x[0]: "zero", "learned" (one for all conditions), "condition" (one for each), or a column of the conditions (one
        for each value). The last two are inputs "start …" with an impulse in one more step of burn-in. Conditions whose
        group is not in training start from the combination that is nearest to their first sample, with a warning.
    ridges : tuple of float, default=RIDGES
        Ridge penalties to choose from, relative to the mean variance of the features.
    ridge_by : {"held_out", "gcv", "innovations"}, default="held_out"
        "held_out": error of the free run on held-out conditions. "gcv": generalized cross-validation of the regression.
        "innovations": among ridges with nearly the best free run, the one that predicts the held-out innovations best
        from the recorded rates; for fits to single trials that shall predict inactivations.
    weights : array of shape (neuron,), "precision" or None, default=None
        Weights of the neurons in the loss, ≥ 0. None = equal. "precision" = 1 / noise variance of the means, from
        ``activity_half``, or from ``n_trials`` without it. R² has no weights.
    l2_n : float or "auto", default="auto"
        Penalty l2_n ||J||² with J = m n' / N, in units of the power of the activity, as the error. Smaller ridges count
        as this one. Many n give nearly the same activity, and without a penalty the gradient often ends at one that is
        far too long, which inactivations show. "auto": if n of the regressions is more than twice as long as its
        effective part, the gradient has a penalty of 1e-5. Where its held-out error is then below .01 of the power, a
        gradient without the penalty follows, and is taken if the penalty more than doubles the error. If n is long only
        after a gradient without a penalty, this continues with one, which is kept if it explains at most .01 less of
        the power of held-out conditions, and at most doubles their error. The attribute ``penalty`` is that of a
        gradient.
    max_iter : int, default=200
        Most iterations of L-BFGS, or epochs of Adam. If L-BFGS still improves at their end, or did more than 200, it is
        done again in other coordinates, and the network that predicts held-out conditions better is kept. The time is
        then that of both. With hidden units at most 60 in coarse time steps, then 15.
    epochs : int, default=50
        Epochs of ``method="published"``.
    optimizer : {"auto", "lbfgs", "adam"}, default="auto"
        "lbfgs": on a random subset of the conditions if there are many (1 to 4 million values, by the number of
        neurons). "adam": on batches of all conditions. "auto": L-BFGS, and more conditions after it if the subset does
        not represent the held-out conditions.
    segment_s : float, optional
        Length of the segments that the gradient sees first, s. Each starts from the data; their length doubles from
        round to round until the whole trial (multiple shooting). For long trials of networks that oscillate or are
        chaotic.
    checkpoint : str or Path, optional
        File for the evaluations of the gradient, written every 10 s. The same fit with the same file continues where it
        was stopped, with the same result.
    areas : str, optional
        Column of the neurons that names the area of each. The connectivity then consists of blocks J_ab = m_ab n_ab' /
        N, to area a from area b, each of rank ``rank``. `currents` gives what each area sends to each other, and
        `select_areas` chooses the blocks.
    block_ranks : dict of str or tuple to int, optional
        Ranks of the blocks that differ from ``rank``, 0 for none: ``{"M1<-V1": 2}`` or ``{("M1", "V1"): 2}`` is to M1
        from V1.
    input_areas : dict of str to str or tuple of str, optional
        The areas that an input reaches, such as ``{"stimulus": "V1"}``. Inputs that are not named reach all.
    readout_weight : float, default=1.0
        Weight of the squared error of each readout, where ``activity`` has ``behavior``, relative to that of a neuron
        of mean power. 0: the network is that of the activity alone, and behavior is read from its latents afterward;
        `compare_readouts` chooses one by held-out conditions.

    Returns
    -------
    xarray.Dataset
        The fit: ``m``, ``n (neuron, rank)`` in the canonical gauge, or ``J (neuron, neuron_from)``;
        ``input_weights (neuron, input)``, ``bias``, ``initial_activation (neuron)``; ``activity_pred``, ``latent``,
        ``filtered_input`` over condition and time; ``r2``, ``r2_median`` over neurons, ``r2_ceiling (split)``,
        ``r2_neuron (split, neuron)``; ``stage_r2 (stage, split)``; ``input_lag_s``, ``input_lag_gain`` and its standard
        error over inputs; ``to_area`` and ``from_area (rank)`` of a fit with areas; ``input_r2_gain`` and its standard
        error, how much R² of conditions held out inside the training conditions falls when an input is left out and the
        latent pass is done again. The options are attributes. Where R² is below 0 or below a third of its ceiling, the
        attribute ``caution`` says so and is repeated by results. With ``behavior``, ``readout_level (readout)``,
        ``readout_weights (readout, rank)`` and ``readout_input_weights (readout, input)`` read it from the latents and
        the filtered inputs of the free run; ``readout_cov (readout, readout_term, readout_term_from)`` is their
        covariance, ``readout_noise (readout)`` the variance that is left, ``behavior_pred (condition, time, readout)``
        what they read, and ``readout_score (readout, split)`` its R². The attribute ``n_norm_ratio`` is ||n|| /
        ||P n||, with P on span(m, I): far above 1, most of n does not move the noise-free dynamics, and the data hardly
        determine it. It warns of an input that acts at other times than it says.

    Raises
    ------
    ContractError
        If an option is not valid, there are fewer neurons than ranks or fewer than two training conditions, the
        activity of the training conditions is constant, the Dataset is not an activity, or torch has no such device.

    Notes
    -----
    Ctrl-C during the gradient ends the fit with a warning and the best network so far, in the main thread of the main
    process. In sweeps, in worker processes and in other threads, it stops everything.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 2. The first two stages are of this package.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> fit = fit_lint(mock_activity(), rank=1, tau_s=0.1)
    >>> fit["m"].dims
    ('neuron', 'rank')
    """
    given = {name: value for name, value in locals().items() if name in FitOptions.model_fields}
    return fit_with_options(activity, FitOptions.check(given), progress=progress, inputs_left_out=True)


def fit_with_options(
    activity: xr.Dataset, options: FitOptions, *, progress: bool = False, inputs_left_out: bool = False
) -> xr.Dataset:
    """`fit_lint` with checked options; ``input_r2_gain``, which takes several regressions, only if it is wanted."""
    check_activity(activity)
    _check_options(activity, options)
    _check_hidden(activity, options.hidden)
    phi = as_nonlinearity(options.nonlinearity)
    activity, held = unmasked(activity), _test_conditions(activity, options)
    _check_training(activity["activity"].values, held)
    _check_magnitude("u", whole_input(activity), "Give Input(..., scale=...).")
    alpha = float(activity.attrs["bin_s"]) / options.tau_s
    activity, n_groups, unknown = with_starts(activity, options.initial, held, alpha)
    u = whole_input(activity)
    samples = Samples(
        activity["activity"].values.astype(np.float32, copy=False),
        drives(u, alpha, bias=options.bias, initial=options.initial == "learned"),
        alpha,
        phi,
        options.loss,
        weights_of(activity, options.weights, ~held),
        instruments_of(activity),
        starts=(u.shape[2] - n_groups, u.shape[2]),
        inferred=unknown if unknown.any() else None,
    )
    settings, training = _settings(activity, options, samples.q.shape[2]), samples.take(np.flatnonzero(~held))
    behavior = behavior_of(activity, ~held, numbers=True) if "behavior" in activity else None
    stages, singular = _run_joint(training, behavior, ~held, settings, options, progress)
    if unknown.any():
        q = samples.drives_for(stages[-1].network)[unknown]
        activity = with_shares(activity, unknown, q, samples.starts, alpha)
    fit = _dataset(activity, stages[-1].network, options.hidden, options.bias)
    if settings.blocks is not None and options.areas is not None:
        fit = in_blocks(fit, settings.blocks, options.areas)
    fit = fit.assign_coords(held_out=("condition", held))
    fit.attrs |= _attributes(activity, options, stages[-1]) | {"nonlinearity": phi}
    fit = fit if options.rank is None else canonicalize(fit)
    fit = _with_scores(with_run(fit), activity, samples, stages, held)
    if behavior is not None:
        fit = _with_readouts(fit, activity, behavior, held)
        fit.attrs["readout_weight"] = options.readout_weight
    constant = fit.sizes["input"] + options.bias
    fit.attrs["n_norm_ratio"] = norm_ratio(network_of(fit), constant, fit["activity_pred"].values)
    if singular.size:
        fit["singular_value"] = ("singular",), singular
    fit = _with_input_lags(fit, samples, stages[-1].network, ~held)
    if inputs_left_out:
        with one_blas_thread():
            gains = input_gains(training, stages[-1].network, settings, fit.sizes["input"] - n_groups)
        gain, sem = (("input", np.pad(values, (0, n_groups), constant_values=np.nan)) for values in gains)
        fit = fit.assign(input_r2_gain=gain, input_r2_gain_sem=sem)
    check_fit(fit)
    return fit


# ---------------------------------------------------------------------------------------------------------------------
# Checks


def _check_options(activity: xr.Dataset, options: FitOptions) -> None:
    """Refuse options that do not suit the activity."""
    check_device(options.device, "float32")
    _check_behavior(activity, options)
    neurons, conditions, bin_s = activity.sizes["neuron"], activity.sizes["condition"], float(activity.attrs["bin_s"])
    if options.rank is not None and neurons < options.rank:
        raise ContractError(
            f"rank is {options.rank}, and the number of neurons is {neurons}. A rank needs as many neurons. Use at "
            f"most rank {neurons}, or more units, such as those of several files."
        )
    if conditions < 2:
        raise ContractError("There is a single condition. A fit needs at least 2. Group by more columns (by=…).")
    if options.tau_s < bin_s:
        raise ContractError(
            f"tau_s is {options.tau_s:g} s and a bin is {bin_s:g} s. tau_s needs to be at least the bin. "
            "Give a longer tau_s or shorter bins."
        )


def _check_training(y: Array, held: Array) -> None:
    """Refuse activity with infinite values, activity that is 0 or constant, and neurons without a training sample."""
    observed, nonzero, varies = np.zeros(y.shape[2], bool), False, False
    low, high = np.full((2, y.shape[2]), np.nan, y.dtype)
    for k, one in enumerate(y):
        complete = not np.isnan(one.sum())
        values = one if complete else one[~np.isnan(one)]
        _check_magnitude("activity", values, "Give prepare(..., scale=...).")
        if not held[k]:
            observed |= True if complete else ~np.isnan(one).all(axis=0)
            nonzero = nonzero or bool(values.any())
            if not varies:
                low, high = np.fmin(low, np.fmin.reduce(one)), np.fmax(high, np.fmax.reduce(one))
                varies = bool((high - low > rounding_of(np.maximum(-low, high))).any())
    if not observed.all():
        raise ContractError(
            f"{int((~observed).sum())} of {len(observed)} neurons have no observed sample in the training conditions. "
            "A fit needs one. Drop these neurons, or choose other test conditions."
        )
    if not nonzero:
        raise ContractError("activity is 0 in every training condition. A fit needs activity. Check the scale.")
    if not varies:
        raise ContractError(
            "activity is constant: each neuron has one value, at all times of all training conditions. R² is the share "
            "of its variance that a fit explains, and there is none. Check how the activity was made."
        )


def _check_behavior(activity: xr.Dataset, options: FitOptions) -> None:
    """Refuse options that do not suit behavior."""
    if "behavior" not in activity:
        return
    joint = options.readout_weight > 0
    for wrong, sentence in (
        (options.rank is None, "rank is None. Behavior is read from latents, which a rank gives. Give a rank."),
        (joint and options.areas is not None, "areas are given, and latents of one block cannot be read alone."),
        (joint and options.loss == "rate", "loss is 'rate', and behavior is no rate."),
    ):
        if wrong:
            advice = "" if options.rank is None else " Give readout_weight=0, or leave it out."
            raise ContractError(f"The activity has behavior. {sentence[0].upper()}{sentence[1:]}{advice}")


def _check_magnitude(name: str, values: Array, what_to_do: str) -> None:
    """Refuse values whose squares overflow in single precision."""
    largest = max(-values.min(initial=0), values.max(initial=0))
    if largest == np.inf:
        raise ContractError(f"{name} has infinite values. It needs numbers, or NaN for samples that were not observed.")
    if largest > MAX_MAGNITUDE:
        raise ContractError(
            f"{name} has values above {MAX_MAGNITUDE:g}, whose squares overflow in single precision. {what_to_do}"
        )


def _test_conditions(activity: xr.Dataset, options: FitOptions) -> Array:
    """Boolean (condition): the test conditions; without a choice, those that `prepare` did not use."""
    held = drawn_conditions(activity, options.test_size, options.test_conditions, options.seed)
    held = held_out_of(activity).copy() if held is None else held
    if (~held).sum() < 2:
        raise ContractError(
            f"{int((~held).sum())} of {len(held)} conditions are left to train on. A fit needs 2. Hold out fewer."
        )
    return held


def _segment_steps(activity: xr.Dataset, options: FitOptions) -> int:
    """Time steps of the first segments; 0 = whole trials."""
    has_gradient = options.rank is not None and options.method in ("auto", "gradient") and not options.hidden
    if options.optimizer == "adam" and (options.segment_s is not None or not has_gradient):
        raise ContractError(
            "optimizer='adam' is for gradients without hidden units or segments. Use optimizer='auto', or leave out "
            "hidden and segment_s."
        )
    if options.segment_s is None:
        return 0
    if not has_gradient:
        raise ContractError(
            "segment_s is for gradients without hidden units. Leave out segment_s or hidden, or use method='auto'."
        )
    bin_s, times = float(activity.attrs["bin_s"]), activity.sizes["time"]
    steps = round(options.segment_s / bin_s)
    if not 2 <= steps < times:
        raise ContractError(
            f"segment_s is {options.segment_s:g} s. It must be at least two bins, {2 * bin_s:g} s, and shorter than a "
            f"trial, {times * bin_s:g} s."
        )
    return steps


# ---------------------------------------------------------------------------------------------------------------------
# Run


def _settings(activity: xr.Dataset, options: FitOptions, n_drives: int) -> Settings:
    """The options that the stages need."""
    rank, blocks = options.rank, None
    if options.areas is not None and rank is not None:
        how: dict[str, Any] = {"hidden": options.hidden, "n_drives": n_drives}
        blocks = blocks_for(activity, options.areas, rank, options.block_ranks, options.input_areas, **how)
        rank = len(blocks.to)
    return Settings(
        rank=rank,
        blocks=blocks,
        method=options.method,
        hidden=options.hidden,
        ridges=options.ridges,
        ridge_by=options.ridge_by,
        l2_n=None if options.l2_n == "auto" else float(options.l2_n),
        max_iter=options.max_iter,
        epochs=options.epochs,
        seed=options.seed,
        segment=_segment_steps(activity, options),
        optimizer=options.optimizer,
        device=options.device,
    )


def _run_stages(samples: Samples, settings: Settings, options: FitOptions, progress: bool) -> tuple[list[Stage], Array]:
    """`fit_stages` with a progress bar, a checkpoint if one is wanted, and BLAS in one thread."""
    with _progress_bar(progress) as report, _journal(samples, settings, options) as journal, one_blas_thread():
        return fit_stages(samples, settings, keep_interrupted=not is_task(), journal=journal, report=report)


def _run_joint(
    samples: Samples, behavior: Behavior | None, train: Array, settings: Settings, options: FitOptions, progress: bool
) -> tuple[list[Stage], Array]:
    """`_run_stages` of activity and behavior together; the networks that it gives have the neurons alone."""
    if behavior is None or options.readout_weight == 0:
        return _run_stages(samples, settings, options, progress)
    seen = behavior.share[train] > 0
    joint = with_behavior(samples, behavior.z[train], seen, options.readout_weight)
    stages, singular = _run_stages(joint, settings, options, progress)
    sizes = samples.x.shape[2], seen.shape[2]
    return [stage._replace(network=without_behavior(stage.network, *sizes)) for stage in stages], singular


@contextmanager
def _progress_bar(progress: bool) -> Iterator[Report]:
    """A progress bar with loss and held-out R²."""
    with progress_bar(progress, "fit", unit="step") as bar:
        known: dict[str, str] = {}

        def report(stage: str, step: int, loss: float, held_out: float) -> None:
            bar.set_description_str(stage, refresh=False)
            if np.isfinite(loss):
                known["loss"] = f"{loss:.4g}"
            if np.isfinite(held_out):
                known["held_out_R2"] = f"{1 - held_out:.3f}"
            bar.set_postfix(known, refresh=False)
            bar.update()

        yield report


@contextmanager
def _journal(samples: Samples, settings: Settings, options: FitOptions) -> Iterator[Journal | None]:
    """The checkpoint of this fit, identified by data, options and version."""
    if options.checkpoint is None:
        yield None
        return
    phi = nonlinearity_of(samples.nonlinearity).phi(SLOPE_POINTS)
    same = settings._replace(device="cpu")  # which does not change the fit
    identity = samples._replace(nonlinearity=""), phi, same._asdict(), version("nwb_lint")
    with Journal(options.checkpoint, content_hash(identity)) as journal:
        yield journal


# ---------------------------------------------------------------------------------------------------------------------
# The fit as a Dataset


def _check_hidden(activity: xr.Dataset, hidden: int) -> None:
    """Raise ContractError where the hidden units need more memory than is free: their activity, or their regression."""
    n, units = activity.sizes["condition"] * activity.sizes["time"], activity.sizes["neuron"] + hidden
    directions = sketch_size(units, n) or units
    needed = 8.0 * hidden * max(n, SKETCH_COPIES * directions)
    check_memory(needed, f"hidden={hidden} units in {n} bins", "Use fewer hidden units")


def _dataset(activity: xr.Dataset, network: Network, hidden: int, bias: bool) -> xr.Dataset:
    """The network, and the variables of the activity that `simulate` needs, with hidden units after the neurons."""
    carried = ["u", "u_burn_in", "offset", "scale", "component", "rate_low", "rate_high"]
    coords: dict[Any, Any] = {}
    for name, column in activity.coords.items():
        if column.dims == ("neuron",):
            coords[name] = "neuron", extend_column(str(name), column.values, hidden), column.attrs
        elif name not in (*carried, "held_out"):
            coords[name] = column
    fit = xr.Dataset(coords=coords, attrs=dict(activity.attrs))
    n_recorded, n_inputs = activity.sizes["neuron"], activity.sizes["input"]
    n_neurons = n_recorded + hidden
    variables: dict[str, tuple] = {}
    for name in carried:
        if name in activity.variables:
            dims, values = activity[name].dims, activity[name].values
            if "neuron" in dims and hidden:
                pad = [(0, hidden if dim == "neuron" else 0) for dim in dims]
                values = np.pad(values, pad, constant_values=1.0 if name in ("scale", "rate_high") else 0.0)
            variables[name] = dims, values, activity[name].attrs
    variables["input_weights"] = ("neuron", "input"), network.w[:, :n_inputs].astype(float)
    variables["bias"] = ("neuron",), network.w[:, n_inputs] if bias else np.zeros(n_neurons)
    learned = network.w.shape[1] > n_inputs + bias
    variables["initial_activation"] = ("neuron",), network.w[:, -1] if learned else np.zeros(n_neurons)
    if network.n is None:
        variables["J"] = ("neuron", "neuron_from"), network.m
    else:
        variables |= {"m": (("neuron", "rank"), network.m), "n": (("neuron", "rank"), network.n)}
    recorded = np.arange(n_neurons) < n_recorded
    return fit.assign(variables).assign_coords(recorded=("neuron", recorded))


def extend_column(name: str, values: Array, hidden: int) -> Array:
    """A column of the neurons with labels or blanks for hidden units."""
    if not hidden:
        return values
    if name == "neuron":
        return np.concatenate([values.astype(str), [f"hidden{k:04d}" for k in range(hidden)]])
    is_text = values.dtype.kind in "OUT"
    blanks = {"f": np.nan, "i": -1, "u": -1 if name == "unit_id" else 0, "b": False}
    blank: object = blanks.get(values.dtype.kind, "")
    values = values.astype(str) if is_text else values
    return np.concatenate([values, np.full(hidden, blank, str if is_text else values.dtype)])


def _attributes(activity: xr.Dataset, options: FitOptions, last: Stage) -> dict[str, object]:
    """Attributes of a fit: time step, options, gauge and versions."""
    found: dict[str, object] = {"dt_s": float(activity.attrs["bin_s"]), **options.kept(), **versions()}
    found["gauge"] = "none" if options.rank is None else GAUGE
    if options.method in ("gradient", "published"):
        found["max_steps"] = options.max_iter if options.method == "gradient" else options.epochs
    if np.isfinite(last.penalty):
        found["penalty"] = last.penalty
    if last.interrupted:
        found["interrupted"] = 1
    return found


@cache
def versions() -> dict[str, str]:
    """Versions of this package and of those that compute, as attributes of a fit."""
    packages = ("nwb_lint", "numpy", "scipy", "torch", "xarray")
    return {"version_python": platform.python_version()} | {f"version_{p}": version(p) for p in packages}


def _with_scores(
    fit: xr.Dataset, activity: xr.Dataset, samples: Samples, stages: list[Stage], held: Array
) -> xr.Dataset:
    """R² against the training mean, its ceiling, and R² per neuron by split; R² and ridge of every stage."""
    y, prediction = activity["activity"].values, fit["activity_pred"].values
    with np.errstate(over="ignore", invalid="ignore"):
        diverged = ~np.isfinite(prediction.sum(axis=(1, 2)))
    if diverged.any():
        prediction = np.where(diverged[:, None, None], np.inf, prediction)
        warn(
            f"The fitted network diverges in {int(diverged.sum())} of {len(diverged)} conditions, whose R² is minus "
            "infinity. Use nonlinearity='tanh', larger ridges, l2_n, or a lower rank."
        )
    reference = reference_of(samples.x, ~held)
    r2, ceiling, of_neurons = by_split(y, prediction, held, noise_of(activity), reference)
    each = np.full((2, fit.sizes["neuron"]), np.nan)  # hidden units have none
    each[:, : y.shape[2]] = of_neurons
    if caution := caution_about(r2, ceiling, stages[-1].name == "zero"):
        fit.attrs["caution"] = caution
        if not is_task():
            warn(caution)
    if not is_task():
        _name_dominant(activity, reference, held)
    found = {
        "r2": (("split",), r2),
        "r2_ceiling": (("split",), ceiling),
        "r2_median": (("split",), median_over(of_neurons)),
        "r2_neuron": (("split", "neuron"), each),
        "stage_r2": (("stage", "split"), np.vstack([_r2_of_stages(stages[:-1], samples, held, reference), r2])),
        "stage_ridge": (("stage",), np.array([stage.ridge for stage in stages])),
    }
    return fit.assign(found).assign_coords(split=list(SPLITS), stage=[stage.name for stage in stages])


def _with_readouts(fit: xr.Dataset, activity: xr.Dataset, behavior: Behavior, held: Array) -> xr.Dataset:
    """The fit with what reads behavior from its latents and filtered inputs, and how well it does in each split."""
    latent, drive = (fit[name].values.astype(float) for name in ("latent", "filtered_input"))
    design = np.concatenate([np.ones((*latent.shape[:2], 1)), latent, drive], axis=2)
    rank, train = latent.shape[2], np.flatnonzero(~held)
    used = (behavior.share[train] > 0).any(axis=2)
    of_condition = np.broadcast_to(np.arange(len(train))[:, None], used.shape)[used]
    scale = np.sqrt(np.maximum(design[train][used].var(axis=0), 1e-300))
    scale[0] = 1  # terms of unit variance, so that the prior means the same for all
    some, z, share = (one[train][used] for one in (design / scale, behavior.z, behavior.share))
    reading = read_out(some, z, share, behavior.choice, groups=of_condition)
    own = predicted(design / scale, reading, behavior.choice)
    loss, reference = losses(own, behavior), reference_losses(behavior, ~held)
    score = np.column_stack([explained(loss[part], reference[part]) for part in (~held, held)])
    coefficients = behavior.scale[:, None] * reading.coefficients / scale
    covariance = (behavior.scale**2)[:, None, None] * reading.covariance / np.outer(scale, scale)
    fit = fit.assign_coords(readout_coords(activity))
    dims = "condition", "time", "readout"
    return fit.assign(
        behavior=(dims, activity["behavior"].transpose(*dims).values),
        behavior_pred=(dims, behavior.mean + behavior.scale * own),
        readout_level=(("readout",), behavior.mean + coefficients[:, 0]),
        readout_weights=(("readout", "rank"), coefficients[:, 1 : 1 + rank]),
        readout_input_weights=(("readout", "input"), coefficients[:, 1 + rank :]),
        readout_noise=(("readout",), behavior.scale**2 * reading.variance),
        readout_cov=(("readout", "readout_term", "readout_term_from"), covariance),
        readout_score=(("readout", "split"), score),
    )


def _name_dominant(activity: xr.Dataset, reference: Array, held: Array) -> None:
    """Warn of one neuron or one condition with more than half of the power, whose R² is nearly that of all."""
    y = activity["activity"].values
    middle = reference.astype(y.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # one condition at a time: the activity may fill the memory
        power = np.array([np.nansum(np.square(y[k] - middle), axis=0, dtype=float) for k in np.flatnonzero(~held)])
    for what, axis in (("neuron", 0), ("condition", 1)):
        each = power.sum(axis=axis)
        largest = int(each.argmax())
        if len(each) >= MIN_FOR_SHARE and each[largest] > 0.5 * each.sum():
            names = activity[what].values if what in activity.coords else np.arange(activity.sizes[what])
            name = (names if what == "neuron" else names[~held])[largest]
            advice = 'prepare(..., scale="neuron")' if what == "neuron" else "another condition, or score each one"
            warn(
                f"R² is nearly that of {what} {name}, which has {each[largest] / each.sum():.0%} of the power of "
                f"{len(each)} {what}s. Look at the median over neurons (r2_median), or use {advice}."
            )


def _with_input_lags(fit: xr.Dataset, samples: Samples, network: Network, trained: Array) -> xr.Dataset:
    """The lag of each input, from the training conditions, with a warning where an input acts at other times."""
    x, phi = samples.x, nonlinearity_of(samples.nonlinearity)
    hidden = len(network.w) - x.shape[2]
    if hidden:
        x = np.concatenate([x, fit["activity_pred"].values[..., -hidden:]], axis=2)
    of = np.flatnonzero(trained)
    lags = input_lags(x, fit["u"].values, of, network, samples.alpha, phi, float(fit.attrs["dt_s"]))
    names = ("input_lag_s", "input_lag_gain", "input_lag_gain_sem")
    fit = fit.assign({name: (("input",), values) for name, values in zip(names, lags, strict=True)})
    if is_task() or float(fit["r2"][0]) < LAG_R2:  # the residual is not that of small errors in the inputs
        return fit
    for name, lag, gain, sem in zip(fit["input"].values, *lags, strict=True):
        if LAG_GAIN <= gain <= 2 - LAG_GAIN and gain >= LAG_ERRORS * sem:
            warn(
                f"Input {name} acts {abs(lag) * 1000:.0f} ms {'later' if lag > 0 else 'earlier'} than its times say: "
                f"{gain:.2f} ± {sem:.2f} of what the fit leaves unexplained along its weights follows it with this lag "
                "(0: its times are right). Check its window_s, the alignment, and tau_s."
            )
    return fit


def _r2_of_stages(stages: list[Stage], samples: Samples, held: Array, reference: Array) -> Array:
    """R² (stage, split) of networks before the final one."""
    table = np.full((len(stages), 2), np.nan)
    if not stages:
        return table
    power = squared_errors(samples.x, np.broadcast_to(reference.astype(np.float32), samples.x.shape))
    for row, stage in zip(table, stages, strict=True):
        error = samples._replace(loss="activity", weights=None).errors(stage.network)
        for k, part in enumerate((~held, held)):
            row[k] = 1 - error[part].sum() / power[part].sum() if power[part].sum() > 0 else np.nan
    return table
