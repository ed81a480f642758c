"""Trained networks stored in npz files → network Datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.tasks.generate import DT_S, TASKS
from nwb_lint.tasks.train import network_dataset


def load_teacher(path: str | Path) -> xr.Dataset:
    """Load a network from an npz file that is named after its task.

    The file holds m, n, input_weights and alpha, and may hold readout. The output is z = readout' phi(x) / N.

    Parameters
    ----------
    path : str or pathlib.Path
        The file, such as "cdm.npz".

    Returns
    -------
    xarray.Dataset
        The network, as `nwb_lint.tasks.train` describes it.

    Raises
    ------
    ContractError
        If the name is not that of a task, or an array is missing.
    """
    path = Path(path)
    if path.stem not in TASKS:
        raise ContractError(f"{path.name} is not named after a task. Name it after one of {', '.join(TASKS)}.")
    with np.load(path) as stored:
        missing = [name for name in ("m", "n", "input_weights", "alpha") if name not in stored]
        if missing:
            raise ContractError(f"{path} lacks {', '.join(missing)}. It has {', '.join(stored.files)}. Add the arrays.")
        names = ("m", "n", "input_weights", "readout")
        weights = {name: stored[name] for name in names if name in stored}
        alpha = float(stored["alpha"])
    if "readout" in weights:
        weights["readout"] = weights["readout"].ravel()
    network = network_dataset(weights, path.stem)
    network.attrs["tau_s"] = DT_S / alpha
    return network
