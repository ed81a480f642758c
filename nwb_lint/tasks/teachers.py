"""Trained networks stored as npz files → the network Dataset of `nwb_lint.tasks.train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from nwb_lint.errors import ContractError
from nwb_lint.tasks.generate import DT_S, TASKS
from nwb_lint.tasks.train import network_dataset


def load_teacher(path: str | Path) -> xr.Dataset:
    """The network in an npz file (m, n, input_weights, alpha; readout where there is one) named after its task.

    The readout is stored for z = readout' phi(x) / N, as `nwb_lint.tasks.train` has it.

    Raises: ContractError for another name or a file without these arrays.
    """
    path = Path(path)
    if path.stem not in TASKS:
        raise ContractError(f"{path.name} is not named after a task; it needs to be one of {', '.join(TASKS)}.")
    with np.load(path) as stored:
        missing = [name for name in ("m", "n", "input_weights", "alpha") if name not in stored]
        if missing:
            raise ContractError(f"{path} lacks {', '.join(missing)}; it has {', '.join(stored.files)}.")
        names = ("m", "n", "input_weights", "readout")
        weights = {name: stored[name] for name in names if name in stored}
        alpha = float(stored["alpha"])
    if "readout" in weights:
        weights["readout"] = weights["readout"].ravel()
    network = network_dataset(weights, path.stem)
    network.attrs["tau_s"] = DT_S / alpha
    return network
