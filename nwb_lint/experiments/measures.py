"""What the experiments measure on a fit of a known network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.model.simulate import run
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.parallel.warnings import collect_warnings, warn
from nwb_lint.tasks.generate import TASKS
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.train import effective_connectivity, share_right, train_network

Array = np.ndarray

# Mean squared error of the output at which training ends. The networks of the paper, in the results beside its code,
# have .0003 to .006 (CDM) and .0001 or less (DMS).
TRAINING_ERROR = 0.003
QUICK_ERROR = 0.1  # the same for the small networks of quick runs; a smaller error takes most of the time
_SAVED_TRIALS = 8  # held-out trials of a saved fit; all of them would take 100 MB


@lru_cache(maxsize=8)
def trained(task: str, *, size: int, g: float, seed: int, error: float) -> xr.Dataset:
    """A network of full rank. Several figures use the same one, so it is trained once in a process."""
    return train_network(task, n_neurons=size, g=g, seed=seed, error=error)


class Recorded(NamedTuple):
    """Noisy activity of a network, and what its last trials are for tests.

    ``test`` has the positions of these trials, ``test_activity`` their activity, ``test_trials`` the trials of the
    task, and ``rates`` their noise-free rates.
    """

    activity: xr.Dataset
    test: Array
    test_activity: xr.Dataset
    test_trials: xr.Dataset
    rates: Array


def record(network: xr.Dataset, n_trials: int, n_test: int, seed: int) -> Recorded:
    """Record ``n_trials`` to fit and ``n_test`` more for the scores, of the task of the network."""
    activity, test = record_activity(network, n_trials + n_test, seed=seed), np.arange(n_trials, n_trials + n_test)
    test_activity = activity.isel(condition=test)
    test_trials = TASKS[network.attrs["task"]](n_trials + n_test, seed).isel(trial=test)
    return Recorded(activity, test, test_activity, test_trials, noise_free_rates(network, test_activity))


def append_conditions(noisy: xr.Dataset, clean: xr.Dataset) -> tuple[xr.Dataset, Array]:
    """Noisy trials followed by noise-free conditions, and the positions of these."""
    both = xr.concat([noisy, clean], dim="condition", combine_attrs="override", join="override")
    return both, np.arange(noisy.sizes["condition"], both.sizes["condition"])


def noise_free_rates(network: xr.Dataset, activity: xr.Dataset) -> Array:
    """Noise-free rates (condition, time, neuron) of a network with the inputs of an activity."""
    return np.tanh(run(network, activity)["activity"].values)


def rates_r2(rates: Array, x: Array) -> float:
    """R² of the rates phi(x), for noise-free rates, measured from the mean of each neuron."""
    return r_squared(rates, np.tanh(x), reference_of(rates, np.ones(len(rates), bool)))[0]


def fitted_accuracy(x: Array, network: xr.Dataset, trials: xr.Dataset) -> float:
    """Accuracy of fitted activation (trial, time, neuron) with the readout of the network."""
    w = network["readout"].values
    return share_right(np.tanh(x) @ w / len(w), trials)


def similarity(true: Array, found: Array) -> tuple[float, float]:
    """Pearson correlation and cosine of two connectivities."""
    a, b = true.ravel(), found.ravel()
    return float(np.corrcoef(a, b)[0, 1]), float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def connectivity_scores(network: xr.Dataset, found: xr.Dataset) -> dict[str, float]:
    """Similarity of a low-rank network (a fit, or any m, n and I) to the known one.

    Correlation and cosine of the connectivities (cc) and of the effective connectivities (ecc).
    """
    cc = similarity(*(one["m"].values @ one["n"].values.T / one.sizes["neuron"] for one in (network, found)))
    ecc = similarity(effective_connectivity(network), effective_connectivity(found))
    return {"cc": cc[0], "cc_cosine": cc[1], "ecc": ecc[0], "ecc_cosine": ecc[1]}


def save_fit(fit: xr.Dataset, folder: str, name: str) -> None:
    """Write a fit as NWB with a few of its held-out trials. It replaces the file of an earlier run."""
    few = fit.isel(condition=np.flatnonzero(fit["held_out"].values)[:_SAVED_TRIALS])
    save_with_results(few, Path(folder) / f"{name}.nwb", {})


def save_with_results(fit: xr.Dataset, path: Path, results: dict[str, xr.Dataset]) -> None:
    """Write a fit and its named results as NWB. It replaces the file of an earlier run.

    A warning that the file has no subject is dropped, since a simulated network has none.
    """
    with collect_warnings() as messages:
        write_fit(fit, path, results=results, overwrite=True)
    for message in messages:
        if "no subject" not in message:
            warn(message)


def angles_of(compared: xr.Dataset) -> list[tuple[str, str, float]]:
    """Regression axis, fitted axis (m or I), and the angle between them in degrees, from `compare_axes`."""
    fitted = [name for name in compared["axis_name"].values.astype(str) if name.startswith(("m ", "I "))]
    angle = compared["angle_deg"]
    return [
        (f"tdr {name}", one, float(angle.sel(axis_name=f"tdr {name}", axis_other=one)))
        for name in compared.attrs["variables"]
        for one in fitted
    ]
