"""The same result on a CUDA device, to 1e-4; skipped where there is none."""

import numpy as np
import pytest
import torch

import nwb_lint as nl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
OPTIONS = {"rank": 1, "tau_s": 0.1, "test_size": 0.2, "max_iter": 15}


@pytest.mark.parametrize(
    "more",
    [{}, {"method": "gradient"}, {"optimizer": "adam"}, {"loss": "rate", "hidden": 5}, {"segment_s": 0.2},
     {"nonlinearity": (torch.tanh, lambda x: 1 - torch.tanh(x) ** 2)}],
    ids=["auto", "gradient", "adam", "hidden", "segments", "pair"],
)  # fmt: skip
def test_cuda_gives_the_same(truth, more):
    activity = truth(neurons=20, conditions=24, observation=0.5).activity
    here, there = (nl.fit_lint(activity, device=device, **OPTIONS, **more) for device in ("cpu", "cuda"))
    scale = float(np.abs(here["activity_pred"]).max())
    assert here["stage"].values.tolist() == there["stage"].values.tolist()
    np.testing.assert_allclose(there["activity_pred"], here["activity_pred"], atol=1e-4 * scale)
    np.testing.assert_allclose(there["r2"], here["r2"], atol=1e-4)
