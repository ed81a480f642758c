"""The public particle code of Pals et al. 2024 (github.com/mackelab/smc_rnns), for `trials.py particles`.

A clone of it, and its folder vi_rnn, have to be on PYTHONPATH. Options are those of its tutorial on spikes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress

import numpy as np
import torch
from vi_rnn.datasets import Basic_dataset
from vi_rnn.inference import filtering_posterior
from vi_rnn.train import train_VAE
from vi_rnn.vae import VAE

ENCODER = {
    "kernel_sizes": [21, 11, 1], "padding_mode": "constant", "nonlinearity": "gelu", "n_channels": [64, 64],
    "init_scale": 0.1, "constant_var": False, "padding_location": "acausal",
}  # fmt: skip
NETWORK = {
    "transition": "low_rank", "observation": "one_to_one", "readout_from": "currents", "train_obs_bias": True,
    "train_obs_weights": True, "obs_nonlinearity": "softplus", "obs_likelihood": "Poisson", "activation": "relu",
    "decay": 0.9, "train_neuron_bias": True, "weight_dist": "uniform", "initial_state": "trainable",
    "simulate_input": False, "train_noise_z": True, "train_noise_z_t0": True, "init_noise_z": 0.1,
    "init_noise_z_t0": 0.1, "noise_z": "diag", "noise_z_t0": "diag",
}  # fmt: skip
TRAINING = {
    "lr": 1e-3, "lr_end": 1e-5, "n_epochs": 2000, "grad_norm": 0, "batch_size": 10, "cuda": False, "k": 64,
    "loss_f": "smc", "resample": "systematic", "run_eval": False, "t_forward": 0,
}  # fmt: skip


class Spent(Exception):
    """The time is over."""


class Watched(Basic_dataset):
    """Its data; from time to time it reports, and after the budget it ends the training."""

    def watch(self, report: Callable[[float], None], budget_s: float, every_s: float) -> None:
        self.report, self.budget_s, self.every_s, self.next_s = report, budget_s, every_s, every_s
        self.begin = time.process_time()

    def __getitem__(self, index):
        spent = time.process_time() - self.begin
        if spent >= self.next_s:
            self.report(spent)
            self.begin, self.next_s = time.process_time() - spent, self.next_s + self.every_s
            if spent >= self.budget_s:
                raise Spent
        return super().__getitem__(index)


def train(train: np.ndarray, test: np.ndarray, bits: Callable[[float], float], budget_s: float, every_s: float) -> None:
    """Train on spikes (time, neuron) for so many CPU seconds, and print the bits per spike of other spikes."""
    torch.manual_seed(1)
    n, out = train.shape[1], sys.stdout
    spikes = [one.T.astype(np.float32) for one in (train, test)]
    x = torch.from_numpy(spikes[1])[None]
    sizes = {"dim_x": n, "dim_z": 2, "dim_N": n, "dim_u": 0}

    def report(spent: float) -> None:
        with torch.no_grad():
            steps = filtering_posterior(model, x, torch.zeros(1, 0, x.shape[2]), k=TRAINING["k"])[0]
        found = bits(float(steps.mean()) * x.shape[2])
        print(f"   particles: {found:.3f} bits per spike after {spent:.0f} CPU s", file=out, flush=True)

    data = Watched({"name": "spikes", "dur": 100, "n_trials": 400}, *spikes)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        model = VAE({**sizes, "enc_architecture": "CNN", "enc_params": ENCODER, "rnn_params": NETWORK})
        data.watch(report, budget_s, every_s)
        with suppress(Spent):
            train_VAE(model, dict(TRAINING), data, out_dir=folder, fname="model")
