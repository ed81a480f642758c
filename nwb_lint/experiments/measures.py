"""What the experiments measure on a fit of a known network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.model.scores import r_squared, reference_of
from nwb_lint.model.simulate import run
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.tasks.generate import TASKS
from nwb_lint.tasks.record import record_activity
from nwb_lint.tasks.train import effective_connectivity, share_right

Array = np.ndarray

# mean squared error of the output at which training ends. That of the paper's networks, in the results beside its code:
# .0003 to .006 (CDM), .0001 or less (DMS)
ERROR = 0.003
EASY = 0.1  # the same of the small networks of quick runs: the last hundredths take most of the time
_KEPT = 8  # held-out trials that a written fit keeps: all of them would be 100 MB


class Recorded(NamedTuple):
    """A network's noisy activity, its last trials to be held out: their positions, activity, task trials and truth."""

    activity: xr.Dataset
    held: Array
    out: xr.Dataset
    fresh: xr.Dataset
    truth: Array


def record(network: xr.Dataset, trials: int, test: int, seed: int) -> Recorded:
    """``trials`` to fit and ``test`` more to score on, of the network's own task."""
    activity, held = record_activity(network, trials + test, seed=seed), np.arange(trials, trials + test)
    out = activity.isel(condition=held)
    fresh = TASKS[network.attrs["task"]](trials + test, seed).isel(trial=held)
    return Recorded(activity, held, out, fresh, truth_of(network, out))


def beside(noisy: xr.Dataset, clean: xr.Dataset) -> tuple[xr.Dataset, Array]:
    """Noisy trials to fit with noise-free conditions after them, and the positions of those, to be held out."""
    both = xr.concat([noisy, clean], dim="condition", combine_attrs="override", join="override")
    return both, np.arange(noisy.sizes["condition"], both.sizes["condition"])


def truth_of(network: xr.Dataset, activity: xr.Dataset) -> Array:
    """Noise-free rates (condition, time, neuron) of a network on the inputs of an activity."""
    return np.tanh(run(network, activity)["activity"].values)


def rates_r2(truth: Array, x: Array) -> float:
    """R² of the rates phi(x) against noise-free ones, measured from each neuron's mean."""
    return r_squared(truth, np.tanh(x), reference_of(truth, np.ones(len(truth), bool)))[0]


def fitted_accuracy(x: Array, network: xr.Dataset, task_trials: xr.Dataset) -> float:
    """Accuracy of fitted activation (trial, time, neuron) through the network's own readout."""
    w = network["readout"].values
    return share_right(np.tanh(x) @ w / len(w), task_trials)


def likeness(true: Array, found: Array) -> tuple[float, float]:
    """Pearson correlation and cosine of two connectivities."""
    a, b = true.ravel(), found.ravel()
    return float(np.corrcoef(a, b)[0, 1]), float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def connectivity_scores(network: xr.Dataset, found: xr.Dataset) -> dict[str, float]:
    """CC and ECC, Pearson and cosine, of a low-rank network found (a fit, or any m, n and I) to the known one."""
    cc = likeness(*(one["m"].values @ one["n"].values.T / one.sizes["neuron"] for one in (network, found)))
    ecc = likeness(effective_connectivity(network), effective_connectivity(found))
    return {"cc": cc[0], "cc_cosine": cc[1], "ecc": ecc[0], "ecc_cosine": ecc[1]}


@contextmanager
def no_subject() -> Iterator[None]:
    """Where a simulated network is written: no warning that its subject is not known, since there is none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no subject is known")
        yield


def keep_fit(fit: xr.Dataset, folder: str, name: str) -> Path:
    """Write a fit as NWB with a few of its held-out trials; one of an earlier run is replaced."""
    few = fit.isel(condition=np.flatnonzero(fit["held_out"].values)[:_KEPT])
    with no_subject():
        return write_fit(few, Path(folder) / f"{name}.nwb", overwrite=True)


def keep_with_results(fit: xr.Dataset, path: Path, results: dict[str, xr.Dataset]) -> None:
    """Write a fit as it is, and results beside it by their names; a file of an earlier run is replaced."""
    with no_subject():
        write_fit(fit, path, results=results, overwrite=True)


def angles_of(compared: xr.Dataset) -> list[tuple[str, str, float]]:
    """Regression axis, fitted axis (m or I), and the angle between them in degrees, of `compare_axes`."""
    fitted = [name for name in compared["axis_name"].values.astype(str) if name.startswith(("m ", "I "))]
    angle = compared["angle_deg"]
    return [
        (f"tdr {name}", one, float(angle.sel(axis_name=f"tdr {name}", axis_other=one)))
        for name in compared.attrs["variables"]
        for one in fitted
    ]
