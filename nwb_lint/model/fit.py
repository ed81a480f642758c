"""Activity → fit: the Dataset side of the stages.

What `fit_lint` is asked, checked before anything is computed: options, and an activity that can be fitted.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from nwb_lint.contract import check_activity, check_fit, held_out_of
from nwb_lint.errors import ContractError
from nwb_lint.model.checkpoint import Journal
from nwb_lint.model.data import Samples, instruments_of, unmasked, weights_of
from nwb_lint.model.initial_conditions import with_starts
from nwb_lint.model.network import SLOPE_POINTS, Array, Network, as_nonlinearity, drives, nonlinearity_of
from nwb_lint.model.optimization import Report
from nwb_lint.model.regression import RIDGES
from nwb_lint.model.scores import by_split, halves_of, reference_of, squared_errors
from nwb_lint.model.simulate import GAUGE, canonicalize, whole_input, with_run
from nwb_lint.model.stages import Settings, Stage, fit_stages
from nwb_lint.options import FitOptions, validated
from nwb_lint.parallel.store import content_hash
from nwb_lint.parallel.tasks import is_task
from nwb_lint.parallel.threads import one_blas_thread
from nwb_lint.parallel.warnings import warn
from nwb_lint.prepare import drawn_conditions

METHODS = ("auto", "regression", "gradient", "published")
LARGEST = 1e12  # of activity and inputs: squares of more overflow in single precision
RIDGE_BY = ("held_out", "gcv", "innovations")


def check_options(activity: xr.Dataset, options: FitOptions) -> None:
    """Refuse options that do not suit the activity."""
    neurons, conditions, bin_s = activity.sizes["neuron"], activity.sizes["condition"], float(activity.attrs["bin_s"])
    if options.rank is not None and neurons < options.rank:
        raise ContractError(
            f"rank is {options.rank} and there are {neurons} neurons. A rank needs as many neurons. Use at most rank "
            f"{neurons}, or more units."
        )
    if conditions < 2:
        raise ContractError("There is a single condition. A fit needs at least 2. Group by more columns (by=…).")
    if options.tau_s < bin_s:
        raise ContractError(
            f"tau_s is {options.tau_s:g} s and a bin is {bin_s:g} s. tau_s needs to be at least the bin. "
            "Give a longer tau_s or shorter bins."
        )


def check_training(y: Array, held: Array) -> None:
    """Something to fit: finite where observed, not all 0, and every neuron seen in training."""
    seen, most = np.zeros(y.shape[2], bool), 0.0
    for k, one in enumerate(y):
        largest, observed = max(-one.min(initial=0), one.max(initial=0)), np.ones((1, y.shape[2]), bool)
        if np.isnan(largest):
            observed = ~np.isnan(one)
            largest = np.abs(np.where(observed, one, 0)).max(initial=0)
        if not held[k]:
            seen |= observed.any(axis=0)
            most = max(most, largest)
        if largest == np.inf:
            raise ContractError("activity has infinite values; it needs numbers, or NaN where nothing was observed.")
        if largest > LARGEST:
            raise ContractError(
                f"activity reaches beyond {LARGEST:g}, too far for single precision; give prepare a scale."
            )
    if not seen.all():
        raise ContractError(
            f"{int((~seen).sum())} of {len(seen)} neurons have no observed sample in the training conditions; "
            "drop them, or hold out other conditions."
        )
    if most == 0:
        raise ContractError("activity is 0 in every training condition, so there is nothing to fit; check the scale.")


def check_inputs(activity: xr.Dataset) -> None:
    if np.abs(whole_input(activity)).max(initial=0) > LARGEST:
        raise ContractError(f"u reaches beyond {LARGEST:g}, too far for single precision; give Input(..., scale=…).")


SPLITS = ("train", "held_out")


@validated(FitOptions)
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
    l2_n: float = 0.0,
    max_iter: int = 200,
    epochs: int = 50,
    optimizer: str = "auto",
    segment_s: float | None = None,
    checkpoint: str | Path | None = None,
) -> xr.Dataset:
    """Fit a rank-R network whose free run reproduces the activity (LINT).

    x[t+1] = (1 - alpha) x[t] + alpha (m n' phi(x[t]) / N + I u[t] + b), alpha = bin / tau. Three stages: closed form
    (ridge regression on filtered rates), latent pass (again on the projected data), gradient (L-BFGS with the exact
    adjoint, on a random part of the conditions where there are very many). Ridge, stages kept and stopping are chosen
    on splits inside the training conditions; the test conditions are only scored. The closed form is all where its
    held-out innovations are white: all noise came in inside the network, and no other stage can know more.

    Args:
        activity: from `prepare`: activity (condition, time, neuron), NaN = not observed (a shorter trial ends in NaN),
            and its input. A condition may be a single trial. Where there is ``mask``, what is False there does not
            count; where there is activity_half, its halves are also tried as instruments in the closed form.
        rank: R ≥ 1, or None for an unconstrained J (neuron, neuron_from), closed form only.
        tau_s: time constant in s, at least the bin.
        method: "auto" (all stages that pay), "regression" (the first two), "gradient" (the third, from a random start),
            "published" (the paper's Adam loop).
        nonlinearity: "tanh", "relu", "softplus", "linear" (linear dynamics: a baseline), or a pair of functions of one
            array or tensor, (phi, its derivative); such a fit cannot be written to a file, which holds names only.
        loss: squared error of the activation x ("activity") or of phi(x) ("rate").
        test_size: conditions drawn at random with ``seed`` that are only scored: a fraction below 1, or a number.
        test_conditions: these conditions instead: labels, positions or a boolean array. Without either, those that
            `prepare` did not fit on.
        seed: of splits, random starts and hidden units.
        device: torch device of the gradient stage.
        progress: show a progress bar with loss and held-out R².
        hidden: unobserved neurons added beside the recorded ones, which cannot span the dynamics where they are few:
            in closed form as random features of the latents (method="regression" ends there: a second or so, all that
            recordings with little noise need), then by gradient from a random start.
        bias: fit b. initial: x[0] is "zero", "learned" (common to all conditions), or learned for every "condition" or
            every value of a column of the conditions. Such starts are impulses in a step of burn-in, one input each
            ("start …"); conditions of no group in training start from the mean of those learned, with a warning.
        ridges: candidates, relative to the mean feature variance. ridge_by: "held_out" (free run on held-out
            conditions), "gcv" (generalized cross-validation of the regression itself, all training conditions), or
            "innovations" (of the ridges whose free run explains nearly as much as the best, the one that predicts held
            out x[t] - (1 - alpha) x[t-1] best from the recorded rates): for fits that are to predict inactivations,
            from single trials, whose fluctuations one neuron hands on to another.
        weights: of the neurons in the loss: an array ≥ 0 over ``neuron``, None = equal, "precision" = 1 / noise
            variance of the means, from activity_half, else as the number of trials (n_trials). r2 is not weighted.
        l2_n: adds l2_n |J|², J = m n' / N, to what gradients make small, the error's share of the activity's power:
            towards the n of least norm, m being orthonormal. Ridges that come to less count as this.
        max_iter: L-BFGS iterations; with hidden units at most 120 in coarse time steps, then 15.
        epochs: of "published".
        optimizer: "lbfgs" (on a random part of the conditions where they hold more than 1e6 to 4e6 values, by the
            number of neurons), "adam" (batches of all conditions, ``max_iter`` epochs at most), or "auto": L-BFGS;
            where its error on that part is not surely that on held-out conditions, another descent on parts in turns,
            then on more of them, for as long as that gains; else, where it saw fewer than 16 of more, a few epochs of
            Adam on all.
        segment_s: s; the gradient sees trials in segments of this length first, which start where the data are, twice
            as long from round to round, then whole (multiple shooting): for long trials of networks that oscillate or
            are chaotic, in which errors of phase pile up.
        checkpoint: a file for the gradient's evaluations, written every 10 s: the same fit given the same file goes on
            where it was stopped, to the same result. That of another fit is refused.

    Ctrl-C in the gradient gives a warning and the best fit so far, in the main thread of a process that no other began;
    in sweeps, their workers and other threads it stops everything.

    Returns: fit (see `nwb_lint.contract.FIT`): m, n (neuron, rank) in the canonical gauge, or J; input_weights (neuron,
        input); activity_pred, latent, filtered_input over condition and time; r2 and r2_ceiling by split; stage_r2.

    Raises: ContractError when there are fewer neurons than ranks, a single condition, nothing to train on, an unknown
        option, or a Dataset that is not an activity.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 2; stages 1 and 2 are ours (docs: CHANGELOG).

    Example:
        >>> from nwb_lint.testing import mock_activity
        >>> fit = fit_lint(mock_activity(), rank=1, tau_s=0.1)
        >>> fit["m"].dims
        ('neuron', 'rank')
    """
    given = {name: value for name, value in locals().items() if name in FitOptions.model_fields}
    options = FitOptions.check(given)
    check_activity(activity)
    check_options(activity, options)
    nonlinearity = as_nonlinearity(nonlinearity)
    activity, held = unmasked(activity), _held_out(activity, test_size, test_conditions, seed)
    check_training(activity["activity"].values, held)
    check_inputs(activity)
    alpha = float(activity.attrs["bin_s"]) / tau_s
    activity, groups = with_starts(activity, initial, held, alpha)
    u = whole_input(activity)
    x = activity["activity"].values.astype(np.float32, copy=False)
    samples = Samples(
        x,
        drives(u, alpha, bias=bias, initial=initial == "learned"),
        alpha,
        nonlinearity,
        loss,
        weights_of(activity, weights, ~held),
        instruments_of(activity),
        starts=(u.shape[2] - groups, u.shape[2]),
    )
    segment = _segment(activity, segment_s, hidden, optimizer, rank is not None and method in ("auto", "gradient"))
    search: dict[str, Any] = {
        "rank": rank, "method": method, "hidden": hidden, "ridges": ridges, "ridge_by": ridge_by,
        "optimizer": optimizer, "segment": segment, "l2_n": l2_n, "max_iter": max_iter, "epochs": epochs, "seed": seed,
    }  # fmt: skip
    train = samples.take(np.flatnonzero(~held))
    with _told(progress) as report, _journal(checkpoint, train, search) as journal, one_blas_thread():
        alone = not is_task()
        run: dict[str, Any] = {"device": device, "keep_interrupted": alone, "report": report, "journal": journal}
        stages, singular = fit_stages(train, Settings(**search), **run)
    fit = _dataset(activity, stages[-1].network, u, hidden, bias)
    fit = fit.assign_coords(held_out=("condition", held))
    fit.attrs |= (
        {"dt_s": float(activity.attrs["bin_s"])} | options.kept() | {"nonlinearity": nonlinearity} | _versions()
    )
    fit.attrs["gauge"] = "none" if rank is None else GAUGE
    if method == "gradient" or method == "published":
        fit.attrs["max_steps"] = max_iter if method == "gradient" else epochs
    if stages[-1].interrupted:
        fit.attrs["interrupted"] = 1
    if rank is not None:
        fit = canonicalize(fit)
    fit = with_run(fit)
    reference = reference_of(x, ~held)
    fit["r2"], fit["r2_ceiling"], fit["r2_neuron"] = _scores(activity, fit, held, reference)
    fit = fit.assign_coords(split=list(SPLITS))
    fit = _with_stages(fit, stages, samples, held, reference)
    if singular.size:
        fit["singular_value"] = ("singular",), singular
    check_fit(fit)
    return fit


@contextmanager
def _told(progress: bool) -> Iterator[Report]:
    """A progress bar with loss and held-out R²."""
    with tqdm(disable=not progress, desc="fit", unit="step") as bar:

        def report(stage: str, step: int, fitted: float, out: float) -> None:
            bar.set_description_str(stage)
            if np.isfinite(fitted):
                held = {"held_out_R2": f"{1 - out:.3f}"} if np.isfinite(out) else {}
                bar.set_postfix(loss=f"{fitted:.4g}", **held)
            bar.update()

        yield report


@contextmanager
def _journal(path: str | Path | None, samples: Samples, search: dict) -> Iterator[Journal | None]:
    """The checkpoint of this fit: one of the same data and options, whatever the device."""
    if path is None:
        yield None
        return
    phi = nonlinearity_of(samples.nonlinearity).phi(SLOPE_POINTS)
    told = samples._replace(nonlinearity=""), phi, search, version("nwb_lint")
    with Journal(path, content_hash(told)) as journal:
        yield journal


def _segment(activity: xr.Dataset, segment_s: float | None, hidden: int, optimizer: str, descends: bool) -> int:
    """Steps of the first segments; 0 = none."""
    if optimizer == "adam" and (hidden or segment_s is not None or not descends):
        raise ContractError(
            "optimizer='adam' is for gradients without hidden units or segments; use 'auto', or drop it."
        )
    if segment_s is None:
        return 0
    if hidden or not descends:
        raise ContractError(
            "segment_s is for gradients without hidden units; drop it, or hidden, or use method='auto'."
        )
    bin_s, times = float(activity.attrs["bin_s"]), activity.sizes["time"]
    steps = round(segment_s / bin_s) if isinstance(segment_s, Real) and np.isfinite(segment_s) else 0
    if not 2 <= steps < times:
        raise ContractError(
            f"segment_s is {segment_s!r}; it needs {2 * bin_s:g} s (two bins) or more, and less than a trial, "
            f"{times * bin_s:g} s."
        )
    return steps


def _held_out(activity: xr.Dataset, test_size: float | None, test_conditions: object, seed: int) -> Array:
    """Boolean (condition): the test conditions; those that `prepare` did not fit on where none are named."""
    held = drawn_conditions(activity, test_size, test_conditions, seed)
    held = held_out_of(activity).copy() if held is None else held
    if (~held).sum() < 2:
        raise ContractError(
            f"{int((~held).sum())} of {len(held)} conditions are left to train on. A fit needs 2. Hold out fewer."
        )
    return held


def _dataset(activity: xr.Dataset, network: Network, u: Array, hidden: int, bias: bool) -> xr.Dataset:
    """The network and all of the activity that simulating and undoing needs, hidden neurons appended."""
    keep = ["u", "u_burn_in", "offset", "scale", "component"]
    coords = {k: v for k, v in activity.coords.items() if v.dims != ("neuron",) and k not in (*keep, "held_out")}
    fit = xr.Dataset(coords=coords, attrs=dict(activity.attrs))
    for name, value in activity.coords.items():
        if value.dims == ("neuron",):
            fit = fit.assign_coords({name: ("neuron", _with_hidden(str(name), value.values, hidden), value.attrs)})
    recorded = np.arange(activity.sizes["neuron"] + hidden) < activity.sizes["neuron"]
    fit = fit.assign_coords(recorded=("neuron", recorded))
    for name in keep:
        if name in activity.variables:
            dims, values = activity[name].dims, activity[name].values
            if "neuron" in dims and hidden:
                pad = [(0, hidden if dim == "neuron" else 0) for dim in dims]
                values = np.pad(values, pad, constant_values=1.0 if name == "scale" else 0.0)
            fit[name] = dims, values, activity[name].attrs
    inputs = u.shape[2]
    fit["input_weights"] = ("neuron", "input"), network.w[:, :inputs].astype(float)
    fit["bias"] = ("neuron",), network.w[:, inputs] if bias else np.zeros(len(recorded))
    learned = network.w.shape[1] > inputs + bias
    fit["initial_activation"] = ("neuron",), network.w[:, -1] if learned else np.zeros(len(recorded))
    if network.n is None:
        fit["J"] = ("neuron", "neuron_from"), network.m
    else:
        fit["m"], fit["n"] = (("neuron", "rank"), network.m), (("neuron", "rank"), network.n)
    return fit


def _with_hidden(name: str, values: Array, hidden: int) -> Array:
    if not hidden:
        return values
    if name == "neuron":
        return np.concatenate([values.astype(str), [f"hidden{k:04d}" for k in range(hidden)]])
    kind = values.dtype.kind
    if name == "unit_id":
        blank: object = -1
    else:
        blank = {"f": np.nan, "i": -1, "u": 0, "b": False}.get(kind, "")
    values = values.astype(str) if kind in "OUT" else values
    return np.concatenate([values, np.full(hidden, blank, values.dtype if kind not in "OUT" else str)])


def _scores(activity: xr.Dataset, fit: xr.Dataset, held: Array, reference: Array):
    """R² against the training mean, its ceiling from trial halves, and R² per neuron, for each split."""
    y, prediction = activity["activity"].values, fit["activity_pred"].values
    with np.errstate(over="ignore", invalid="ignore"):
        wild = ~np.isfinite(prediction.sum(axis=(1, 2)))
    if wild.any():
        prediction = np.where(wild[:, None, None], np.inf, prediction)
        warn(
            f"the fitted network diverges in {int(wild.sum())} of {len(wild)} conditions, whose R² is minus infinity; "
            "use nonlinearity='tanh', larger ridges, l2_n, or a lower rank.",
        )
    r2, top, seen = by_split(y, prediction, held, *halves_of(activity), reference)
    each = np.full((2, fit.sizes["neuron"]), np.nan)  # of hidden neurons there is none
    each[:, : y.shape[2]] = seen
    return (("split",), r2), (("split",), top), (("split", "neuron"), each)


def _with_stages(fit: xr.Dataset, stages: list[Stage], samples: Samples, held: Array, reference: Array) -> xr.Dataset:
    """R² after every stage that was kept, and the ridge it chose."""
    table = np.full((len(stages), 2), np.nan)
    table[-1] = fit["r2"].values
    if len(stages) > 1:
        power = squared_errors(samples.x, np.broadcast_to(reference.astype(np.float32), samples.x.shape))
    for row, stage in zip(table[:-1], stages[:-1], strict=True):
        error = samples._replace(loss="activity", weights=None).errors(stage.network)
        row[:] = [
            1 - error[part].sum() / power[part].sum() if power[part].sum() > 0 else np.nan for part in (~held, held)
        ]
    fit["stage_r2"] = ("stage", "split"), table
    fit["stage_ridge"] = ("stage",), np.array([stage.ridge for stage in stages])
    return fit.assign_coords(stage=[stage.name for stage in stages])


def _versions() -> dict[str, str]:
    packages = ("nwb_lint", "numpy", "scipy", "torch", "xarray")
    return {"version_python": platform.python_version()} | {f"version_{p}": version(p) for p in packages}
