"""The paper's authors' own training loop, as they run it, on an activity of ours: a peer of `benchmarks/fit.py`.

Their code is not kept here: `git clone https://github.com/adrian-valente/lowrank_inference` (it needs seaborn). Our
`fit_lint(method="published")` takes the same steps of Adam in the latent form, which is several times as fast: theirs
carries N leaky activations, draws noise whether or not it is used, and reads the rates out by a product with an N x N
identity matrix.
"""

from __future__ import annotations

import random
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import xarray as xr


def authors_fit(
    folder: Path, activity: xr.Dataset, *, rank: int, alpha: float, test_conditions: np.ndarray, epochs: int, seed: int
) -> dict[str, np.ndarray]:
    """m, n (neuron, rank) and input_weights (neuron, input) from the authors' ``train`` on all but some conditions.

    As in their scripts: targets are the rates tanh(x), the readout is fixed at the identity, no noise, Adam 1e-2,
    batches of 32, clip 1, the best epoch kept. Their network answers input[t] with x[t + 1].
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    from low_rank_rnns.modules import LowRankRNN, train

    random.seed(seed)
    torch.manual_seed(seed)
    fitted = ~np.isin(np.arange(activity.sizes["condition"]), test_conditions)
    x, u = (torch.as_tensor(activity[name].values[fitted]) for name in ("activity", "u"))
    size = x.shape[2]
    network = LowRankRNN(
        u.shape[2], size, size, 0.0, alpha, rank=rank, wo_init=size * torch.eye(size), train_wi=True, train_so=False
    )
    mask = torch.ones(*u[:, :-1].shape[:2], 1)
    with redirect_stdout(StringIO()):
        train(network, u[:, :-1], torch.tanh(x[:, 1:]), mask, epochs, lr=1e-2, clip_gradient=1.0, keep_best=True)
    found = {"m": network.m, "n": network.n, "input_weights": network.wi_full.T}
    return {name: value.detach().numpy().astype(float) for name, value in found.items()}
