"""``nwb-lint demo``: from the NWB file of a session with a known network to a fit in NWB, as a user would do it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.analysis.connectivity import connectivity
from nwb_lint.errors import ContractError
from nwb_lint.model.network import effective_n
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.plot import summary
from nwb_lint.tasks.demo import DT_S, TAU_S, DemoSession, Truth, demo_session
from nwb_lint.workflow.recipe import Recipe, make_recipe
from nwb_lint.workflow.run import Laps, run_recipe


class Demo(NamedTuple):
    """The results of the demo.

    ``fit`` is the fit of means that was read back, with the agreement of its connectivity with the truth; ``trial_fit``
    the fit of single trials, with the correlation of its latent with the true one; then seconds, files and tables.
    """

    fit: xr.Dataset
    pearson: float
    cosine: float
    seconds: dict[str, float]
    files: list[Path]
    tables: dict[str, xr.Dataset]
    trial_fit: xr.Dataset
    latent: float


_STIMULUS, _CUE = [0.0, 0.8], [-0.4, 0.8]
_INPUTS = [
    {"name": "motion", "column": "motion", "window_s": _STIMULUS},
    {"name": "color", "column": "color", "window_s": _STIMULUS},
    {"name": "context motion", "column": "context", "equals": "motion", "window_s": _CUE},
    {"name": "context color", "column": "context", "equals": "color", "window_s": _CUE},
]


def trial_recipe(session: Path, seed: int) -> Recipe:
    """The recipe for single trials of this session: some trials and units, so that it is quick."""
    return make_recipe(
        {
            "mode": "trials",
            "sources": [str(session)],
            "out": "demo_trials.nwb",
            "read": {
                "by": ["context"],
                "align": "stimulus_time",
                "window_s": [-0.5, 0.8],
                "bin_s": 0.05,
                "where": "start_time < 240",
                "units": list(range(0, 200, 4)),
            },
            "inputs": _INPUTS,
            "fit": {"tau_s": TAU_S, "hidden": 0, "max_iter": 8, "seed": seed},
            "select": {"ranks": [1]},
        }
    )


def demo_recipe(session: Path, seed: int) -> Recipe:
    """The recipe that a user would write for this session."""
    return make_recipe(
        {
            "sources": [str(session)],
            "out": "demo_fit.nwb",
            "read": {
                "by": ["context", "motion", "color"],
                "align": "stimulus_time",
                "window_s": [-0.5, 0.8],
                "bin_s": 0.02,
                "smooth_s": 0.04,
                "where": "correct",
            },
            "prepare": {"center": [-0.5, -0.42], "time_course": False},
            "inputs": _INPUTS,
            "fit": {"tau_s": TAU_S, "test_size": 4, "seed": seed},
            "select": {"ranks": [1, 2], "folds": 4},
        }
    )


def run_demo(folder: str | Path, *, seed: int = 0, figure: bool = True, progress: bool = False) -> Demo:
    """Simulate a session, write it to NWB, and go from this file to a fit that is written, read back and compared.

    Then single trials of the same file are fitted, and their latents are compared with the true ones.

    Raises ContractError if the folder already holds files of a demo.
    """
    folder = Path(folder)
    session, fitted, picture = folder / "demo_session.nwb", folder / "demo_fit.nwb", folder / "demo_summary.png"
    single, page = folder / "demo_trials.nwb", folder / "demo_trials.png"
    taken = [path.name for path in (session, fitted, picture, single, page) if path.exists()]
    if taken:
        raise ContractError(
            f"{folder} holds {', '.join(taken)} already. The demo replaces no file. Use another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    before = Laps()
    simulated = demo_session(seed=seed)
    before.end("simulate")
    write_demo_session(simulated, session)
    before.end("write session")
    outcome = run_recipe(demo_recipe(session, seed), progress=progress)
    after = Laps()
    write_fit(outcome.fit, fitted, results=outcome.tables)
    after.end("write fit")
    fit = read_fit(fitted)
    if not fit.identical(outcome.fit):
        raise ContractError(
            f"{fitted} was not read back as it was written. This is an error of nwb_lint. Please report it."
        )
    after.end("read fit back")
    trials = run_recipe(trial_recipe(session, seed), progress=progress)
    write_fit(trials.fit, single)
    after.end("single trials")
    files = [session, fitted, single]
    if figure:
        summary(fit, outcome.activity, picture)
        summary(trials.fit, trials.activity, page)
        files += [picture, page]
        after.end("figures")
    true, found = true_connectivity(simulated.truth, fit), connectivity(fit)["connectivity"].values
    pearson = float(np.corrcoef(true.ravel(), found.ravel())[0, 1])
    cosine = float((true * found).sum() / np.linalg.norm(true) / np.linalg.norm(found))
    seconds = before.seconds | outcome.seconds | after.seconds
    latent = latent_correlation(simulated, trials.fit)
    return Demo(fit, pearson, cosine, seconds, files, outcome.tables, trials.fit, latent)


def latent_correlation(simulated: DemoSession, fit: xr.Dataset) -> float:
    """Correlation of the latent of single trials with the true one, over all bins in which trials run."""
    rows = fit["condition"].values.astype(int)
    onset = (simulated.trials["stimulus_time"] - simulated.trials["start_time"]).to_numpy()[rows]
    steps = np.floor((onset[:, None] + fit["time"].values) / DT_S + 1e-6).astype(int)
    inside = (steps >= 0) & (steps < simulated.kappa.shape[1])
    true = np.where(inside, simulated.kappa[rows[:, None], np.where(inside, steps, 0)], np.nan)
    known = np.isfinite(true)
    return float(abs(np.corrcoef(true[known], fit["latent"].values[..., 0][known])[0, 1]))


def write_demo_session(simulated: DemoSession, path: str | Path) -> Path:
    """Write the simulated session as a lab would have it: spikes and trials, nothing of the network."""
    return write_session(
        path,
        simulated.spike_times,
        simulated.trials,
        description="Simulated context-dependent decisions by a rank-1 network of known connectivity.",
        session_id="demo",
    )


def true_connectivity(truth: Truth, fit: xr.Dataset) -> np.ndarray:
    """Effective connectivity of the true network, in the units of the activity of a fit: (neuron, neuron_from).

    The rates are offset + gain x and the activity is (rate - ...) / scale. So the true vectors of neuron i, times
    gain_i / scale_i, are what the fit should find.
    """
    factor = (truth.gain / fit["scale"].values)[:, None]
    m, weights = truth.m * factor, truth.input_weights * factor
    return m @ effective_n(m, truth.n, weights).T / len(m)
