"""The public particle code of Pals et al. 2024 (github.com/mackelab/smc_rnns), for `trials.py particles`.

A clone of it, and its folder vi_rnn, have to be on PYTHONPATH. Spikes and options are those of its tutorial on spikes,
and the weights that it publishes are what 2000 epochs of this training gave its authors.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import vi_rnn
from vi_rnn.datasets import Basic_dataset, Oscillations_Poisson
from vi_rnn.inference import filtering_posterior
from vi_rnn.saving import load_model
from vi_rnn.train import train_VAE
from vi_rnn.utils import extract_orth_basis_rnn
from vi_rnn.vae import VAE

CLONE = Path(vi_rnn.__file__).parents[1]

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


SPIKES = {
    "n_trials": 1, "n_neurons": 40, "out": "currents", "R_z": 0.2, "Bias": -3, "B": 4, "non_lin": torch.nn.ReLU(),
    "obs_rectify": "softplus",
}  # fmt: skip
SCORED_PARTICLES = 256


class Spent(Exception):
    """The time is over."""


class Watched(Basic_dataset):
    """Its data; from time to time it reports, and after the budget it ends the training."""

    def watch(self, report: Callable[[float, float], None], budget_s: float, every_s: float) -> None:
        self.report, self.budget_s, self.every_s, self.next_s = report, budget_s, every_s, every_s
        self.begin, self.seen = time.process_time(), 0

    def __getitem__(self, index):
        spent = time.process_time() - self.begin
        if spent >= self.next_s:
            self.report(spent, self.seen / len(self))
            self.begin, self.next_s = time.process_time() - spent, self.next_s + self.every_s
            if spent >= self.budget_s:
                raise Spent
        self.seen += 1
        return super().__getitem__(index)


@contextmanager
def silent():
    """Nothing is printed."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def tutorial_spikes(n_steps: int, seed: int = 1) -> np.ndarray:
    """Spikes (time, neuron) of the noisy oscillator of the tutorial, from the network that the clone has of it."""
    torch.manual_seed(seed)
    stored = CLONE / "data" / "student_teacher" / "osc_rnn_poisson_state_dict.pkl"
    weights = torch.load(stored, map_location="cpu", weights_only=True)
    network = SimpleNamespace(m=weights["rnn.m"], n=weights["rnn.n"], b_rec=weights["rnn.b_rec"], dt=10, tau=100)
    factors = extract_orth_basis_rnn(SimpleNamespace(rnn=network))
    return Oscillations_Poisson({**SPIKES, "dur": n_steps}, *factors).data[0].T.numpy()


def log_evidence(model: VAE, spikes: np.ndarray) -> float:
    """Log evidence of spikes (time, neuron) by its particle filter."""
    x = torch.from_numpy(spikes.T.astype(np.float32))[None]
    with torch.no_grad():
        steps = filtering_posterior(model, x, torch.zeros(1, 0, x.shape[2]), k=SCORED_PARTICLES)[0]
    return float(steps.mean()) * x.shape[2]


def train(train: np.ndarray, test: np.ndarray, bits: Callable[[float], float], budget_s: float, every_s: float) -> None:
    """Train on spikes (time, neuron) for so many CPU seconds, and print the bits per spike of other spikes."""
    torch.manual_seed(1)
    n, out = train.shape[1], sys.stdout
    sizes = {"dim_x": n, "dim_z": 2, "dim_N": n, "dim_u": 0}

    def report(spent: float, epochs: float) -> None:
        at = f"{bits(log_evidence(model, test)):.3f} bits per spike after {spent:.0f} CPU s, {epochs:.0f} epochs"
        print(f"   particles: {at}", file=out, flush=True)

    spikes = (one.T.astype(np.float32) for one in (train, test))
    data = Watched({"name": "spikes", "dur": 100, "n_trials": 400}, *spikes)
    with tempfile.TemporaryDirectory() as folder, silent():
        model = VAE({**sizes, "enc_architecture": "CNN", "enc_params": ENCODER, "rnn_params": NETWORK})
        data.watch(report, budget_s, every_s)
        with suppress(Spent):
            train_VAE(model, dict(TRAINING), data, out_dir=folder, fname="model")
    per_epoch = budget_s * len(data) / data.seen
    with silent():
        published = load_model(str(CLONE / "tutorial" / "tutorial_data" / "tutorial_spikes"), backward_compat=True)[0]
    print(
        f"   particles: {bits(log_evidence(published, test)):.3f} bits per spike with the weights of its authors after "
        f"2000 epochs, which would take {2000 * per_epoch:.0f} CPU s here",
        flush=True,
    )
