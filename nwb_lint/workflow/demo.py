"""``nwb-lint demo``: from the NWB file of a session with a known network to a fit in NWB, as a user would do it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lint.analysis.connectivity import connectivity, effective_n
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.nwb.extension.write import write_fit
from nwb_lint.nwb.extension.write_session import write_session
from nwb_lint.plot import summary
from nwb_lint.tasks.demo import TAU_S, DemoSession, Truth, demo_session
from nwb_lint.workflow.recipe import Recipe, make_recipe
from nwb_lint.workflow.run import Laps, run_recipe


class Demo(NamedTuple):
    """The results of the demo: the fit that was read back, its agreement with the truth, seconds, files and tables."""

    fit: xr.Dataset
    pearson: float
    cosine: float
    seconds: dict[str, float]
    files: list[Path]
    tables: dict[str, xr.Dataset]


def demo_recipe(session: Path, seed: int) -> Recipe:
    """The recipe that a user would write for this session."""
    stimulus, cue = [0.0, 0.8], [-0.4, 0.8]
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
            "inputs": [
                {"name": "motion", "column": "motion", "window_s": stimulus},
                {"name": "color", "column": "color", "window_s": stimulus},
                {"name": "context motion", "column": "context", "equals": "motion", "window_s": cue},
                {"name": "context color", "column": "context", "equals": "color", "window_s": cue},
            ],
            "fit": {"tau_s": TAU_S, "test_size": 4, "seed": seed},
            "select": {"ranks": [1, 2], "folds": 4},
        }
    )


def run_demo(folder: str | Path, *, seed: int = 0, figure: bool = True, progress: bool = False) -> Demo:
    """Simulate a session, write it to NWB, and go from this file to a fit that is written, read back and compared.

    Raises ContractError if the folder already holds files of a demo.
    """
    folder = Path(folder)
    session, fitted, picture = folder / "demo_session.nwb", folder / "demo_fit.nwb", folder / "demo_summary.png"
    taken = [path.name for path in (session, fitted, picture) if path.exists()]
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
    files = [session, fitted]
    if figure:
        summary(fit, outcome.activity, picture)
        files.append(picture)
        after.end("figure")
    true, found = true_connectivity(simulated.truth, fit), connectivity(fit)["connectivity"].values
    pearson = float(np.corrcoef(true.ravel(), found.ravel())[0, 1])
    cosine = float((true * found).sum() / np.linalg.norm(true) / np.linalg.norm(found))
    seconds = before.seconds | outcome.seconds | after.seconds
    return Demo(fit, pearson, cosine, seconds, files, outcome.tables)


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
