"""The fit with several time constants of the units: what depends on this assumption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.analysis.dynamics import Input
from nwb_lint.analysis.fixedpoints import fixed_points
from nwb_lint.analysis.support import STABILITIES
from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import input_names
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import TauOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.parallel.warnings import warn
from nwb_lint.validation.folds import (
    SPLITS,
    Prepare,
    about_as_good,
    behind_the_best,
    conditions_to_use,
    fit_with,
    folds_of,
    mean_and_sem,
    shared_options,
)
from nwb_lint.validation.rank import score_rank


@validated(TauOptions)
def compare_tau(
    activity: xr.Dataset | Prepare,
    *,
    rank: int,
    taus_s: Sequence[float],
    folds: int = 4,
    condition: object = None,
    input: Input = None,
    at_s: float | None = None,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """The fit with several time constants ``tau_s``, which recordings seldom tell: R² and what is concluded from each.

    Each time constant is cross-validated on the same folds, as ranks are in `select_rank`, and fitted to all
    conditions. It warns where time constants that predict as well as the best one give other numbers of stable fixed
    points: then the data do not determine this number. As well means within one standard error of the paired difference
    between folds, or within 1 % of the variance that the best one leaves unexplained.

    Parameters
    ----------
    activity : xarray.Dataset or callable
        As in `select_rank`.
    rank : int
        Rank of the fits.
    taus_s : sequence of float
        Time constants to compare, s; each at least the bin.
    folds : int, default=4
        Disjoint parts of the conditions that are held out in turn.
    condition : object, default=None
        Label or position of the condition whose input is held while fixed points are found, as in `fixed_points`.
    input : mapping, sequence of float or None, default=None
        The held input, in place of a condition.
    at_s : float or None, default=None
        When the input of the condition is taken, s.
    seed : int, default=0
        Seed of folds, fits and starts.
    executor : concurrent.futures.Executor or dask.distributed.Client or None, default=None
        What runs the fits; None is this process. See `nwb_lint.parallel`.
    cache_dir : str or Path or None, default=None
        Folder for finished fits: a run that was stopped does only the rest.
    progress : bool, default=False
        Show a progress bar.
    **fit_options : Any
        Other options of `fit_lint`.

    Returns
    -------
    xarray.Dataset
        A result of kind "tau_comparison", by ``tau_tried``, s: ``tau_r2`` and ``tau_r2_sem (tau_tried, split)``, mean
        and standard error over folds; ``tau_r2_ceiling (split)``; ``tau_deficit`` and ``tau_deficit_sem (tau_tried)``,
        how far each is behind the best on what is held out, with its paired standard error; ``as_good (tau_tried)``;
        ``r2 (tau_tried, fold, split)`` and ``r2_ceiling (fold, split)``. Of the fits to all conditions: ``n_found
        (tau_tried, stability_kind)``, fixed points; ``overlap_m (tau_tried, rank, rank_from)``, n' m / N;
        ``overlap_input (tau_tried, rank, input)``, n' I / N; ``eigenvalue_real`` and ``eigenvalue_imag (tau_tried,
        eigenvalue)`` of (n' m / N - 1) / tau, the latents near x = 0, 1/s. The attribute ``depends`` is 1 where it
        warns, and ``input_value (input)`` the held input.

    Raises
    ------
    ContractError
        If a time constant is shorter than the bin or occurs twice, or for the reasons of `select_rank`.

    Examples
    --------
    >>> from nwb_lint.testing import mock_activity
    >>> table = compare_tau(mock_activity(), rank=1, taus_s=[0.1, 0.2], folds=2, method="regression")
    >>> table["tau_r2"].dims
    ('tau_tried', 'split')
    """
    whole, taus = conditions_to_use(activity), sorted(float(tau) for tau in taus_s)
    if len(set(taus)) < len(taus):
        raise ContractError(f"taus_s is {taus}. A time constant occurs twice. Give each one once.")
    options = shared_options(fit_options, rank=rank, tau_s=taus[0], seed=seed)
    each = [options.model_copy(update={"tau_s": tau}) for tau in taus]
    held_out = folds_of(whole.sizes["condition"], folds, first=seed)
    running = {"executor": executor, "cache_dir": cache_dir, "progress": progress}
    data = whole if isinstance(activity, xr.Dataset) else activity
    found = run_all(
        score_rank, _tasks(data, held_out, each), **running, label="time constants", total=len(taus) * folds
    )
    held_input = {"condition": condition, "input": input, "at_s": at_s}
    final = [(whole, {"options": one, "held_input": held_input}) for one in each]
    fits = run_all(describe_network, final, **running, label="networks", total=len(taus))
    r2 = np.array([one["r2"] for one in found]).reshape(folds, len(taus), 2).swapaxes(0, 1)
    ceiling = np.array([one["r2_ceiling"] for one in found[:: len(taus)]])
    table = _table(taus, r2, ceiling, fits, input_names(whole))
    table["input_value"] = ("input",), fits[0]["input_value"]
    table.attrs |= {"rank": int(rank), "depends": int(_warn_of_dependence(table))}
    check_result(table, "tau_comparison")
    return table


def _tasks(
    activity: xr.Dataset | Prepare, held_out: list[Array], each: list[FitOptions]
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every time constant in turn."""
    for held in held_out:
        data = activity if isinstance(activity, xr.Dataset) else activity(~held)
        for options in each:
            yield data, {"options": options, "held_out": held}


def describe_network(data: xr.Dataset, *, options: FitOptions, held_input: dict[str, Any]) -> dict[str, Array]:
    """Fixed points and overlaps of a fit to all conditions, a task of `compare_tau`."""
    fit = fit_with(data, options)
    points = fixed_points(fit, seed=options.seed, **held_input)
    m, n = fit["m"].values, fit["n"].values
    overlap = n.T @ m / len(m)
    values = np.linalg.eigvals((overlap - np.eye(len(overlap))) / options.tau_s)
    values = values[np.lexsort((values.imag, -values.real))]
    return {
        "n_found": np.array(points.attrs["n_found"]),
        "input_value": points["input_value"].values[: data.sizes["input"]],
        "overlap_m": overlap,
        "overlap_input": n.T @ fit["input_weights"].values[:, : data.sizes["input"]] / len(m),
        "eigenvalue_real": values.real,
        "eigenvalue_imag": values.imag,
    }


def _table(taus: list[float], r2: Array, ceiling: Array, fits: list[dict[str, Array]], inputs: list[str]) -> xr.Dataset:
    """The result, from R² (tau, fold, split), its ceiling (fold, split), and what `describe_network` gives."""
    coords = {"tau_tried": taus, "split": SPLITS, "input": inputs, "stability_kind": list(STABILITIES)}
    table = xr.Dataset(coords=coords, attrs={"kind": "tau_comparison"})
    mean, sem = mean_and_sem(r2, axis=1)
    table["tau_r2"], table["tau_r2_sem"] = (("tau_tried", "split"), mean), (("tau_tried", "split"), sem)
    table["tau_r2_ceiling"] = ("split",), ceiling.mean(axis=0)
    deficit, error = behind_the_best(r2[:, None, :, 1])
    table["tau_deficit"], table["tau_deficit_sem"] = ("tau_tried", deficit), ("tau_tried", error)
    table["as_good"] = ("tau_tried",), about_as_good(mean[:, 1], deficit, error)
    table["r2"], table["r2_ceiling"] = (("tau_tried", "fold", "split"), r2), (("fold", "split"), ceiling)
    dims = {
        "n_found": ("stability_kind",), "overlap_m": ("rank", "rank_from"), "overlap_input": ("rank", "input"),
        "eigenvalue_real": ("eigenvalue",), "eigenvalue_imag": ("eigenvalue",),
    }  # fmt: skip
    for name, own in dims.items():
        units = {"units": "1/s"} if name.startswith("eigenvalue") else {}
        table[name] = ("tau_tried", *own), np.array([one[name] for one in fits]), units
    return table


def _warn_of_dependence(table: xr.Dataset) -> bool:
    """Whether time constants that predict equally well give other numbers of stable fixed points, with a warning."""
    good = table["as_good"].values
    stable = table["n_found"].values[:, STABILITIES.index("stable")]
    if len(np.unique(stable[good])) < 2:
        return False
    taus = table["tau_tried"].values
    each = "; ".join(f"{number} with tau_s={tau:g}" for tau, number in zip(taus[good], stable[good], strict=True))
    warn(
        f"The number of stable fixed points depends on tau_s: {each}. These time constants predict held-out conditions "
        "about equally well. Do not report this number unless the time constant is known from elsewhere."
    )
    return True
