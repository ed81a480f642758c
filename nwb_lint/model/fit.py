"""Activity → fit: the Dataset side of the stages."""

from __future__ import annotations

import platform
from importlib.metadata import version
from numbers import Integral, Real

import numpy as np
import xarray as xr
from tqdm import tqdm

from nwb_lint.contract import ContractError, check_activity, check_fit
from nwb_lint.model.r2 import by_split, halves_of, reference_of, squared_errors
from nwb_lint.model.regression import RIDGES
from nwb_lint.model.rnn import NONLINEARITIES, Array, Network, drives
from nwb_lint.model.simulate import GAUGE, canonicalise, whole_input, with_run
from nwb_lint.model.stages import Samples, Stage, fit_stages
from nwb_lint.model.weights import instruments_of, unmasked, weights_of
from nwb_lint.prepare import conditions_mask

METHODS = ("auto", "regression", "gradient", "published")
SPLITS = ("train", "held_out")
RIDGE_BY = ("held_out", "gcv", "innovations")


def fit_lint(
    activity: xr.Dataset,
    *,
    rank: int | None,
    tau_s: float,
    method: str = "auto",
    nonlinearity: str = "tanh",
    loss: str = "activity",
    holdout: object = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
    hidden: int = 0,
    bias: bool = False,
    initial: str = "zero",
    ridges: tuple[float, ...] = RIDGES,
    ridge_by: str = "held_out",
    weights: Array | str | None = None,
    max_iter: int = 200,
    epochs: int = 50,
) -> xr.Dataset:
    """Fit a rank-R network whose free run reproduces the activity (LINT).

    x[t+1] = (1 - alpha) x[t] + alpha (m n' phi(x[t]) / N + I u[t] + b), alpha = bin / tau. Three stages: closed form
    (ridge regression on filtered rates), latent pass (again on the projected data), gradient (L-BFGS with the exact
    adjoint, on a random part of the conditions where there are very many). Ridge, stages kept and stopping are chosen
    on splits inside the training conditions; ``holdout`` conditions are only scored.

    Args:
        activity: from `prepare`: activity (condition, time, neuron), NaN = not observed (a shorter trial ends in NaN),
            and its input. A condition may be a single trial. Where there is ``mask``, what is False there does not
            count; where there is activity_half, its halves are also tried as instruments in the closed form.
        rank: R ≥ 1, or None for an unconstrained J (neuron, neuron_from), closed form only.
        tau_s: time constant in s, at least the bin.
        method: "auto" (all stages that pay), "regression" (the first two), "gradient" (the third, from a random start),
            "published" (the paper's Adam loop).
        nonlinearity: "tanh", "relu", "softplus", or "linear" (linear dynamics: a baseline).
        loss: squared error of the activation x ("activity") or of phi(x) ("rate").
        holdout: labels, positions or a boolean array of conditions, or a fraction drawn at random with ``seed``. None =
            those that `prepare` did not fit on.
        seed: of splits, random starts and hidden units.
        device: torch device of the gradient stage.
        progress: show a progress bar. Somebody watches: Ctrl-C in the gradient then gives a warning and the best fit so
            far; without a bar, as in sweeps, it stops everything.
        hidden: unobserved neurons added beside the recorded ones (few recorded neurons cannot span the dynamics).
        bias: fit b. initial: "zero", or "learned" for an x[0] common to all conditions.
        ridges: candidates, relative to the mean feature variance. ridge_by: "held_out" (free run on held-out
            conditions), "gcv" (generalised cross-validation of the regression itself, all training conditions), or
            "innovations" (of the ridges whose free run explains nearly as much as the best, the one that predicts held
            out x[t] - (1 - alpha) x[t-1] best from the recorded rates): for fits that are to predict inactivations,
            from single trials, whose fluctuations one neuron hands on to another.
        weights: of the neurons in the loss: an array ≥ 0 over ``neuron``, None = equal, "precision" = 1 / noise
            variance of the means, from activity_half, else as the number of trials (n_trials). r2 is not weighted.
        max_iter: L-BFGS iterations; with hidden units at most 120 in coarse time steps, then 15.
        epochs: of "published".

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
    check_activity(activity)
    _check_options(activity, rank, tau_s, method, nonlinearity, loss, initial, hidden, ridge_by)
    _check_numbers(ridges, max_iter, epochs)
    activity, held = unmasked(activity), _held_out(activity, holdout, seed)
    _check_training(activity["activity"].values, held)
    alpha = float(activity.attrs["bin_s"]) / tau_s
    u = whole_input(activity)
    q = drives(u, alpha, bias=bias, initial=initial == "learned")
    x = activity["activity"].values.astype(np.float32, copy=False)
    samples = Samples(x, q, alpha, nonlinearity, loss, weights_of(activity, weights, ~held), instruments_of(activity))
    with tqdm(disable=not progress, desc="fit", unit="step") as bar:

        def report(stage: str, step: int, fitted: float, out: float) -> None:
            bar.set_description(stage)
            if np.isfinite(fitted):
                bar.set_postfix(R2=f"{1 - fitted:.3f}", held_out=f"{1 - out:.3f}")
            bar.update()

        stages, singular = fit_stages(
            samples.take(np.flatnonzero(~held)),
            rank=rank,
            method=method,
            hidden=hidden,
            ridges=ridges,
            ridge_by=ridge_by,
            max_iter=max_iter,
            epochs=epochs,
            seed=seed,
            device=device,
            keep_interrupted=progress,
            report=report,
        )
    fit = _dataset(activity, stages[-1].network, u, hidden, bias)
    fit = fit.assign_coords(held_out=("condition", held))
    options = {"nonlinearity": nonlinearity, "loss": loss, "method": method, "seed": seed, "hidden": hidden}
    fit.attrs |= {"dt_s": float(activity.attrs["bin_s"]), "tau_s": float(tau_s), **options, **_versions()}
    fit.attrs["gauge"] = "none" if rank is None else GAUGE
    if method == "gradient" or method == "published":
        fit.attrs["max_steps"] = max_iter if method == "gradient" else epochs
    if rank is not None:
        fit = canonicalise(fit)
    fit = with_run(fit)
    reference = reference_of(x, ~held)
    fit["r2"], fit["r2_ceiling"], fit["r2_neuron"] = _scores(activity, fit, held, reference)
    fit = fit.assign_coords(split=list(SPLITS))
    fit = _with_stages(fit, stages, samples, held, reference)
    if singular.size:
        fit["singular_value"] = ("singular",), singular
    check_fit(fit)
    return fit


def _check_options(activity, rank, tau_s, method, nonlinearity, loss, initial, hidden, ridge_by) -> None:
    def choice(name: str, value: object, known) -> None:
        if value not in known:
            raise ContractError(f"{name} is {value!r}; it needs to be one of {', '.join(map(repr, known))}.")

    choice("method", method, METHODS)
    choice("nonlinearity", nonlinearity, tuple(NONLINEARITIES))
    choice("loss", loss, ("activity", "rate"))
    choice("initial", initial, ("zero", "learned"))
    choice("ridge_by", ridge_by, RIDGE_BY)
    neurons, conditions = activity.sizes["neuron"], activity.sizes["condition"]
    if rank is not None and (isinstance(rank, bool) or not isinstance(rank, Integral) or rank < 1):
        raise ContractError(f"rank is {rank!r}; it needs to be a whole number from 1 on, or None.")
    if rank is not None and neurons < rank:
        raise ContractError(f"rank {rank} was asked of {neurons} neurons; use at most rank {neurons}, or more units.")
    if conditions < 2:
        raise ContractError("there is a single condition; a fit needs at least 2. Group by more columns (by=…).")
    if not isinstance(tau_s, Real) or not float(activity.attrs["bin_s"]) <= float(tau_s) < np.inf:
        raise ContractError(f"tau_s is {tau_s}; it needs a number, at least the bin, {activity.attrs['bin_s']:g} s.")
    if rank is None and method not in ("auto", "regression"):
        raise ContractError(f"rank=None is fitted in closed form; method={method!r} needs a rank. Use 'regression'.")
    if hidden and ridge_by == "innovations":
        raise ContractError(
            f"hidden={hidden} units have no recorded rates to predict innovations from; use ridge_by='held_out'."
        )
    if hidden < 0 or (hidden and (rank is None or method == "regression")):
        raise ContractError(f"hidden={hidden} needs a rank and a gradient stage; use method='auto' and rank ≥ 1.")


def _check_numbers(ridges, max_iter: int, epochs: int) -> None:
    if len(ridges) == 0 or not all(isinstance(r, Real) and 0 <= float(r) < np.inf for r in ridges):
        raise ContractError(f"ridges is {ridges!r}; it needs at least one number from 0 on.")
    for name, value in (("max_iter", max_iter), ("epochs", epochs)):
        if not isinstance(value, Integral) or value < 1:
            raise ContractError(f"{name} is {value!r}; it needs a whole number from 1 on.")


def _check_training(y: Array, held: Array) -> None:
    """Something to fit: finite where observed, not all 0, and every neuron seen in training."""
    seen, power = np.zeros(y.shape[2], bool), 0.0
    for k, one in enumerate(y):
        observed = np.isfinite(one)
        if not observed.all() and np.isinf(one).any():
            raise ContractError("activity has infinite values; it needs numbers, or NaN where nothing was observed.")
        if not held[k]:
            seen |= observed.any(axis=0)
            power += float(np.nansum(one * one))
    if not seen.all():
        raise ContractError(
            f"{int((~seen).sum())} of {len(seen)} neurons have no observed sample in the training conditions; "
            "drop them, or hold out other conditions."
        )
    if not power > 0:
        raise ContractError("activity is 0 in every training condition, so there is nothing to fit; check the scale.")


def _held_out(activity: xr.Dataset, holdout: object, seed: int) -> Array:
    size = activity.sizes["condition"]
    prepared = activity["held_out"].values if "held_out" in activity.coords else np.zeros(size, bool)
    if holdout is None:
        held = prepared.copy()
    elif isinstance(holdout, Real) and not isinstance(holdout, Integral):
        if not 0 < float(holdout) < 1:
            raise ContractError(f"holdout is {holdout}; as a fraction it needs to lie between 0 and 1.")
        held = np.zeros(size, bool)
        held[np.random.default_rng(seed).permutation(size)[: max(1, round(float(holdout) * size))]] = True
    else:
        held = conditions_mask(activity, holdout, nobody=True)
    if (~held).sum() < 2:
        raise ContractError(
            f"{int((~held).sum())} of {size} conditions are left to train on; hold out fewer, 2 must stay."
        )
    return held


def _dataset(activity: xr.Dataset, network: Network, u: Array, hidden: int, bias: bool) -> xr.Dataset:
    """The network and all of the activity that simulating and undoing needs, hidden neurons appended."""
    keep = ["input", "input_burn_in", "offset", "scale", "component"]
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
