"""The fit with several links from rates to activations: which one predicts held-out rates best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_lint.contract.checks import check_recording, check_result, refuse_trials
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array
from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.options.checks import validated
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.validation import LinkOptions
from nwb_lint.parallel.engine import run_all
from nwb_lint.rate_link import LINKS, Link
from nwb_lint.validation.folds import (
    Prepare,
    about_as_good,
    behind_the_best,
    fit_with,
    folds_of,
    mean_and_sem,
    shared_options,
)


@validated(LinkOptions)
def compare_links(
    recording: xr.Dataset,
    *,
    prepare: Prepare,
    rank: int,
    tau_s: float,
    links: Sequence[str] = LINKS,
    folds: int = 4,
    seed: int = 0,
    executor: Any = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    **fit_options,
) -> xr.Dataset:
    """The fit with several links from rates to activations (``rate_link`` of `prepare`), scored on held-out rates.

    Real rates end at 0 Hz, many multiply, and some saturate. A network whose activations are linear in the rates then
    needs further latents, or predicts badly. Each link is cross-validated on the same folds of the conditions, each
    prepared by itself. All are scored by R² of the recorded rates in Hz. The choice is the first of ``links`` that
    predicts about as well as the best one: within one standard error of the paired differences between folds, or within
    1 % of the variance that the best one leaves unexplained.

    Parameters
    ----------
    recording : xarray.Dataset
        From `read_conditions`: ``rate (condition, time, neuron)``, Hz.
    prepare : callable
        Function of a recording with the keywords ``rate_link`` and ``fit_on``, such as ``functools.partial(prepare,
        inputs=inputs)``.
    rank : int
        Rank of the fits.
    tau_s : float
        Time constant of the units, s.
    links : sequence of str, default=("identity", "softplus", "log", "saturating")
        Links to compare, the preferred one first.
    folds : int, default=4
        Disjoint parts of the conditions that are held out in turn.
    seed : int, default=0
        Seed of folds and fits.
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
        A result of kind "link_comparison", by ``link_tried``: ``link_r2`` and ``link_r2_sem (link_tried)``, mean and
        standard error over folds of R² of held-out rates; ``link_deficit`` and ``link_deficit_sem (link_tried)``, how
        far each is behind the best, with its paired standard error; ``as_good (link_tried)``; ``r2 (link_tried,
        fold)``. All are dimensionless. The attribute ``rate_link`` is the choice.

    Raises
    ------
    ContractError
        If a link occurs twice or does not suit the rates, or there are fewer conditions than folds.

    References
    ----------
    Links of generalized linear models: McCullagh & Nelder 1989.

    Examples
    --------
    >>> from functools import partial
    >>> from nwb_lint import Input, prepare
    >>> from nwb_lint.testing import mock_recording
    >>> prepared = partial(prepare, inputs=[Input("stimulus", column="stimulus", window_s=(0, 1))])
    >>> table = compare_links(mock_recording(), prepare=prepared, rank=1, tau_s=0.1, links=["identity", "log"])
    >>> table["link_r2"].dims
    ('link_tried',)
    """
    refuse_trials(recording, "read_conditions(...)")
    check_recording(recording)
    if len(set(links)) < len(links):
        raise ContractError(f"links is {list(links)}. A link occurs twice. Give each one once.")
    options = shared_options(fit_options, rank=rank, tau_s=tau_s, seed=seed)
    held_out = folds_of(recording.sizes["condition"], folds, first=seed)
    found = run_all(
        score_link,
        _tasks(recording, prepare, links, held_out, options),
        executor=executor,
        cache_dir=cache_dir,
        progress=progress,
        label="links",
        total=len(links) * folds,
    )
    r2 = np.array([one["r2"] for one in found]).reshape(folds, len(links)).T
    mean, sem = mean_and_sem(r2, axis=1)
    deficit, error = behind_the_best(r2[:, None])
    good = about_as_good(mean, deficit, error)
    table = xr.Dataset(coords={"link_tried": list(links)})
    columns = {"link_r2": mean, "link_r2_sem": sem, "link_deficit": deficit, "link_deficit_sem": error, "as_good": good}
    for name, values in columns.items():
        table[name] = ("link_tried",), values
    table["r2"] = ("link_tried", "fold"), r2
    chosen = links[int(np.flatnonzero(good)[0])]
    table.attrs = {"kind": "link_comparison", "rate_link": str(chosen), "rank": int(rank), "tau_s": float(tau_s)}
    check_result(table, "link_comparison")
    return table


def _tasks(
    recording: xr.Dataset, prepare: Prepare, links: Sequence[str], held_out: list[Array], options: FitOptions
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """Fold by fold, every link in turn."""
    rate = recording["rate"].transpose("condition", "time", "neuron").values
    for held in held_out:
        for link in links:
            yield prepare(recording, rate_link=link, fit_on=~held), {"options": options, "rate": rate, "held_out": held}


def score_link(data: xr.Dataset, *, options: FitOptions, rate: Array, held_out: Array) -> dict[str, Array]:
    """R² of the held-out rates of a fit, a task of `compare_links`."""
    fit = fit_with(data, options, test_conditions=held_out)
    value = fit["activity_pred"].values * fit["scale"].values + fit["offset"].values
    predicted = Link.of(fit).rate(value)[..., : rate.shape[2]]
    return {"r2": np.array(r_squared(rate, predicted, reference_of(rate, ~held_out), np.flatnonzero(held_out))[0])}
