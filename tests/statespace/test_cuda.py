"""The same fit of single trials on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

import nwb_lint as nl
from nwb_lint.testing import mock_trials

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")


@pytest.mark.parametrize("hidden", [0, 20])
def test_cuda_gives_the_same(hidden):
    trials = mock_trials(n_neurons=20, n_trials=40)
    how = {"rank": 1, "tau_s": 0.1, "hidden": hidden, "max_iter": 6, "test_size": 0.2}
    here, there = (nl.fit_trials(trials, device=device, **how) for device in ("cpu", "cuda"))
    for name in ("latent", "latent_cov", "log_rate", "noise_cov", "bits_per_spike"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-4, err_msg=name)
