"""How far the dynamics of several systems are apart, whatever their neurons and coordinates, and whether it is chance.

A system is a network: a fit, or the fit to an activity. All networks run without noise, where they can on the same
inputs. Measures:

- "dsa": dynamical similarity analysis of the latents. Linear modes are fitted to delayed latents; the distance is that
  of their eigenvalues for one step, by optimal transport (Ostrow, Eisen, Kozachkov & Fiete, NeurIPS 2023).
- "prediction": the share of the latents of one run that a linear function of the latents and the filtered inputs of the
  other run does not explain, in the direction in which it is larger.

Neither depends on the neurons, or on the gauge of the latents. Chance is what fits to two halves of the conditions of
one system are apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_activity, check_fit, check_result, refuse_trials
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.simulate import simulate
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import DynamicsOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.validation.folds import fit_with, shared_options
from nwb_lint.validation.subsampling import refit_options

# Steps that DSA sees at once; it keeps as many modes as there are latents.
# Tuned on: five simulated systems of rank 2, with and without noise (`docs/decisions.md`).
DSA_DELAYS = 5
CALLS = ("alike", "different", "cannot tell")
_FEWEST = 8  # conditions of an activity: four for each half
_QUANTILE = 0.95  # of the distances between halves
_HALVES = 4  # squared distances between fits to halves, over those between a fit to all and the truth


class System(NamedTuple):
    """One network, and what it was fitted to, if halves of that shall be fitted; the options of these fits."""

    name: str
    fit: xr.Dataset
    activity: xr.Dataset | None = None
    options: FitOptions | None = None


class Run(NamedTuple):
    """A run without noise: latents on orthonormal axes (condition, time, rank), filtered inputs (…, input)."""

    latent: Array
    filtered: Array


@validated(DynamicsOptions)
def compare_dynamics(
    systems: Mapping[str, xr.Dataset | tuple[xr.Dataset, xr.Dataset]],
    *,
    measure: str = "dsa",
    splits: int = 20,
    change: float = 0.5,
    level: float = 0.05,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options: Any,
) -> xr.Dataset:
    """Compare the dynamics of fits, animals, models and data: alike, different, or cannot tell.

    Every system is a network, which runs without noise on the inputs of all systems. The distance of two does not
    depend on their neurons and the coordinates of their latents. Chance is measured within a system: its conditions are
    split at random, both halves are fitted, and the distance between these fits is taken. ``p_value`` is the share of
    such distances that are at least as large as the distance of the two systems, of the system where it is larger. Half
    of the conditions leave more error than all of them, so that p is rather too large than too small.

    A pair is called "different" if p is below ``level``. It is called "alike" if p is not, and the distance, as well as
    what chance can make of it, is smaller than that between a network and the same one with a connectivity that is
    weaker or stronger by ``change``. Otherwise the data "cannot tell". What chance can make of the distance is the sum
    over both systems of the 95 % quantile of distances between halves, divided by 4: distances are squared, and the
    errors of two halves together have four times the variance of those of a fit to all.

    Both measures see the runs with these inputs. Networks that differ elsewhere, or by mechanisms that lead to the same
    latents, are called alike. Systems with other inputs or times can be compared by "dsa" alone. Each then runs on its
    own, and the inputs, or the length of trials, can make one network different from itself. A warning says so.

    Parameters
    ----------
    systems : mapping of str to xarray.Dataset, or to a pair of them
        At least two, by name. A fit from `fit_lint`, `fit_trials`, `distill` or `from_network` is taken as exact. A fit
        with the activity that it was fitted to, ``(fit, activity)``: halves are fitted with its options. An activity
        from `prepare`: it is fitted with ``fit_options``. The bins need to be equal.
    measure : {"dsa", "prediction"}, default="dsa"
        "dsa": dynamical similarity analysis of the latents, the mean squared distance between eigenvalues for one step.
        It compares how latents run in time, and needs ``pip install "nwb_lint[dsa]"``. "prediction": the share of the
        latents of one system that a linear function of latents and filtered inputs of the other leaves unexplained,
        from 0 to 1, in the worse direction. It needs the same inputs in all systems.
    splits : int, default=20
        Random splits into halves. p is at least 1 / (splits + 1). So no pair is called different if this is not below
        ``level``: 19 splits are too few for .05.
    change : float, default=0.5
        Relative change of the connectivity that matters.
    level : float, default=0.05
        Largest share of pairs of one system that may be called different.
    seed : int, default=0
        Seed of the splits.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Options of `fit_lint` for every activity: ``rank`` and ``tau_s``, and others.

    Returns
    -------
    xarray.Dataset
        Kind "dynamics_comparison", by ``system`` and ``system_from``, dimensionless: ``distance``; ``p_value``, NaN for
        a system and itself, for two fits without activity, and where the distance is NaN; ``distance_chance``, what
        chance can make of it; ``distance_change``, that of the changed connectivity, of the system where it is smaller;
        ``call``, "" where p is NaN. ``half (system, repeat)`` are the distances between halves, NaN for a fit without
        activity. A distance between halves that is NaN counts as larger than every other. Attributes: ``measure``,
        ``splits``, ``change``, ``level``.

    Raises
    ------
    ContractError
        If there are fewer than two systems, one has no latents, inputs or bins differ, an activity has fewer than 8
        conditions, or DSA is not installed.

    References
    ----------
    Ostrow, Eisen, Kozachkov & Fiete, NeurIPS 2023 (dynamical similarity analysis).

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity, mock_fit
    >>> systems = {"fit": mock_fit(), "data": mock_activity()}
    >>> found = compare_dynamics(
    ...     systems, measure="prediction", splits=2, rank=1, tau_s=0.1, method="regression"
    ... )
    >>> found["distance"].dims
    ('system', 'system_from')
    """
    package = dsa_package() if measure == "dsa" else None
    found = _systems(systems, fit_options)
    inputs = _common_inputs(found, measure)
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    fitted = [one for one in found if one.activity is not None]
    halves = run_all(run_of_half, _tasks(fitted, inputs, splits, seed), **running, label="halves",
                     total=2 * splits * len(fitted))  # fmt: skip

    def distance(a: Run, b: Run) -> float:
        return dsa_distance(package, [a.latent, b.latent]) if measure == "dsa" else unexplained(a, b)

    runs = [_run(one.fit, inputs) for one in found]
    between = np.full((len(found), splits), np.nan)
    pairs = iter([distance(*(Run(**half) for half in halves[k : k + 2])) for k in range(0, len(halves), 2)])
    for k, one in enumerate(found):
        if one.activity is not None:
            between[k] = [next(pairs) for _ in range(splits)]
    changed = np.array([_changed(one.fit, run, inputs, change, distance) for one, run in zip(found, runs, strict=True)])
    apart = np.zeros((len(found), len(found)))
    for i, j in combinations(range(len(found)), 2):
        apart[i, j] = apart[j, i] = distance(runs[i], runs[j])
    half = xr.DataArray(between, {"system": [one.name for one in found]}, ("system", "repeat"))
    out = _table(half, [one.activity is not None for one in found], apart, changed, level)
    out.attrs = {"kind": "dynamics_comparison", "measure": measure, "splits": splits, "change": change, "level": level}
    check_result(out, "dynamics_comparison")
    return out


def _table(half: xr.DataArray, fitted: list[bool], apart: Array, changed: Array, level: float) -> xr.Dataset:
    """The result, from distances between halves, of which systems, (system, system), and of changes (system)."""
    square, names, between, n = ("system", "system_from"), half["system"].values, half.values, half.sizes["system"]
    p, top, least = np.full((n, n), np.nan), np.full((n, n), np.nan), np.full((n, n), np.nan)
    calls = np.full((n, n), "", dtype="U11")
    for i, j in ((i, j) for i in range(n) for j in range(n) if i != j):
        own = [between[k] for k in (i, j) if fitted[k]]
        least[i, j] = changed[[i, j]].min()
        if own and np.isfinite(apart[i, j]):
            # a distance between halves that is not known counts as large
            p[i, j] = max((1 + (~(one < apart[i, j])).sum()) / (1 + len(one)) for one in own)
            top[i, j] = sum(np.quantile(one, _QUANTILE) for one in own) / _HALVES
        calls[i, j] = _call(apart[i, j], p[i, j], top[i, j], least[i, j], level)
    out = xr.Dataset(coords={"system": names, "system_from": names})
    for name, values in (("distance", apart), ("p_value", p), ("distance_chance", top), ("distance_change", least)):
        out[name] = square, values
    out["call"] = square, calls
    out["half"] = half
    return out


def _call(apart: float, p: float, top: float, least: float, level: float) -> str:
    """What a pair is called."""
    if np.isnan(p) or np.isnan(apart):
        return ""
    if p < level:
        return CALLS[1]
    return CALLS[0] if apart < least and top < least else CALLS[2]  # never "alike" where one of them is NaN


def _systems(systems: Mapping[str, Any], fit_options: Mapping[str, Any]) -> list[System]:
    """Every system with its fit; an activity is fitted."""
    if not isinstance(systems, Mapping) or len(systems) < 2:
        raise ContractError(
            "systems holds fewer than two. A comparison needs two or more. Give {name: fit or activity}."
        )
    found = []
    for name, value in systems.items():
        pair = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(pair) <= 2 or not all(isinstance(one, xr.Dataset) for one in pair):
            raise ContractError(
                f"System {name} is a {type(value).__name__}. Give a fit, an activity, or (fit, activity)."
            )
        found.append(_system(str(name), pair, fit_options))
        if "m" not in found[-1].fit:
            raise ContractError(
                f"The fit of {name} has J and no latents. The comparison is of latents. Fit with a rank."
            )
    if fit_options and all("input_weights" in one for one in systems.values() if isinstance(one, xr.Dataset)):
        raise ContractError(f"{', '.join(fit_options)} are given, and no system is fitted. Leave them out.")
    steps = {round(float(one.fit.attrs["dt_s"]), 9) for one in found}
    if len(steps) > 1:
        raise ContractError(f"The steps of the systems are {sorted(steps)} s. They need to be equal. Use equal bins.")
    return found


def _system(name: str, pair: tuple[xr.Dataset, ...], fit_options: Mapping[str, Any]) -> System:
    first, activity = pair[0], pair[1] if len(pair) > 1 else None
    if "input_weights" in first:
        check_fit(first)
        if activity is None:
            return System(name, first)
        _check_data(name, activity)
        return System(name, first, activity, refit_options(first, activity))
    if activity is not None:
        raise ContractError(f"System {name} is a pair, and its first part is no fit. Give (fit, activity).")
    _check_data(name, first)
    if not {"rank", "tau_s"} <= set(fit_options):
        raise ContractError(
            f"System {name} is an activity. Its fit needs rank and tau_s. Give these, or (fit, activity)."
        )
    options = shared_options(fit_options)
    return System(name, fit_with(first, options), first, options)


def _check_data(name: str, activity: xr.Dataset) -> None:
    refuse_trials(activity, "read_conditions(...) and prepare(...)")
    check_activity(activity)
    if activity.sizes["condition"] < _FEWEST:
        raise ContractError(
            f"The activity of {name} has {activity.sizes['condition']} conditions. Halves of them are fitted, and "
            f"{_FEWEST} are needed. Group by more columns (by), or give the fit alone."
        )


def _common_inputs(systems: list[System], measure: str) -> xr.Dataset | None:
    """Inputs of all systems, one condition after the other; None where each can only run on its own."""
    fits = [one.fit for one in systems]
    names = {tuple(input_names(one)) for one in fits}
    times = {one.sizes["time"] for one in fits}
    plain = all("u_burn_in" not in one and not any(n.startswith("start ") for n in input_names(one)) for one in fits)
    if len(names) > 1 or len(times) > 1 or not plain:
        if measure == "prediction":
            raise ContractError(
                f"The systems have the inputs {' and '.join(', '.join(one) for one in sorted(names))} and "
                f"{sorted(times)} times. measure='prediction' needs the same in all, without burn-in or starts by "
                "group. Prepare them alike, or use measure='dsa'."
            )
        warn(
            "The systems differ in inputs or times, or have a burn-in or starts by group. So each runs on its own, and "
            "the inputs alone can make them different. Prepare them alike to compare their dynamics."
        )
        return None
    u = np.unique(np.concatenate([one["u"].values for one in fits]), axis=0)
    dims = ("condition", "time", "input")
    return xr.Dataset({"u": (dims, u)}, {"input": list(names.pop())}, {"bin_s": float(fits[0].attrs["dt_s"])})


def _run(fit: xr.Dataset, inputs: xr.Dataset | None) -> Run:
    """The run of a network on the common inputs, or on its own."""
    found = simulate(fit, inputs)
    axes = np.linalg.qr(fit["m"].values)[1].T  # so that other gauges differ by a rotation
    return Run(found["latent"].values.astype(float) @ axes, found["filtered_input"].values.astype(float))


def _tasks(
    systems: list[System], inputs: xr.Dataset | None, splits: int, seed: int
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Both halves of every split of each system."""
    for one in systems:
        assert one.activity is not None
        rng = np.random.default_rng([seed, 5])
        for _ in range(splits):
            for half in np.array_split(rng.permutation(one.activity.sizes["condition"]), 2):
                yield one.activity, {"conditions": np.sort(half), "options": one.options, "inputs": inputs}


def run_of_half(
    data: xr.Dataset, *, conditions: Array, options: FitOptions, inputs: xr.Dataset | None
) -> dict[str, Array]:
    """The run of a fit to some conditions, a task of `compare_dynamics`."""
    fit = fit_with(data.isel(condition=conditions), options, test_conditions=None)
    if inputs is None:
        inputs = data[[name for name in ("u", "u_burn_in") if name in data]].assign_attrs(data.attrs)
    return _run(fit, inputs)._asdict()


def _changed(fit: xr.Dataset, run: Run, inputs: xr.Dataset | None, change: float, distance: Any) -> float:
    """Distance to the same network with a weaker, or a stronger, connectivity: the smaller one."""
    others = [_run(fit.assign(n=fit["n"] * (1 + sign * change)), inputs) for sign in (-1, 1)]
    return min(distance(run, other) for other in others)


def unexplained(a: Run, b: Run) -> float:
    """The share of the latents of one run that the other does not explain, in the direction in which it is larger."""

    def share(of: Run, by: Run) -> float:
        y = of.latent.reshape(-1, of.latent.shape[2])
        x = np.concatenate([by.latent, by.filtered, np.ones_like(by.latent[..., :1])], axis=2)
        x = x.reshape(-1, x.shape[2])
        error = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        power = np.square(y - y.mean(axis=0)).sum()
        return float(np.square(error).sum() / power) if power > 0 else float("nan")

    return max(share(a, b), share(b, a))


def dsa_package() -> Any:
    """The class DSA of its package; ContractError where that is not installed."""
    try:
        with warnings.catch_warnings():  # of packages that it imports
            warnings.simplefilter("ignore")
            from DSA import DSA
    except ImportError as error:
        raise ContractError(
            f"Dynamical similarity analysis needs the package DSA, and it cannot be imported ({error}). Install it: "
            "pip install 'nwb_lint[dsa]'."
        ) from error
    return DSA


def dsa_distance(package: Any, latents: list[Array]) -> float:
    """Dynamical similarity analysis of two sets of latents (condition, time, axis), without their axes of zeros."""
    if not latents or latents[0].shape[1] < 2 * DSA_DELAYS:
        return float("nan")
    own = [one[..., np.ptp(one, axis=(0, 1)) > 0] for one in latents]
    if not all(one.size for one in own):
        return float("nan")
    rank = min(max(one.shape[2] for one in own), DSA_DELAYS * min(one.shape[2] for one in own))
    return float(
        np.asarray(package(*own, n_delays=DSA_DELAYS, rank=rank, score_method="wasserstein").fit_score()).item()
    )
