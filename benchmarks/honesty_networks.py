"""Networks of full rank, trained here on tasks that no choice of the fit was tuned on: R² of fits, and their time.

R² of fits with ``l2_n=0`` stands beside that of default fits: commit 60084dc fitted so, and gave the same R² in four
digits. Networks trained on another machine are others, so that R² of two machines cannot be compared. `BEFORE_TIME` is
the time of commit 60084dc. To measure it again, in this folder, with an older checkout at OLD:
``PYTHONPATH=OLD python -c "import honesty_networks as h; h.speed()"``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import xarray as xr

import nwb_lint as nl
from nwb_lint.experiments.measures import rates_r2
from nwb_lint.model.simulate import run
from nwb_lint.tasks.generate import TASKS

Array = np.ndarray
Trials = tuple[Array, Array, Array]  # u (trial, time, input), target (trial, time, output), mask (trial, time)

NOISE, ALPHA, BATCH, STEP_S = 0.05, 0.2, 32, 0.02
TEST_EVERY, TEST_TRIALS = 25, 1000

BEFORE_TIME = {"rank 1": 59.5, "rank 2": 50.6, "rank=None": 18.1, "60 units, rank 2": 21.9}


def train(
    draw: Callable[[int, np.random.Generator], Trials],
    g: float,
    *,
    size: int,
    seed: int,
    updates: int = 200,
    rate: float = 1e-3,
    accuracy: float = np.inf,
) -> tuple[Array, Array, Array]:
    """J, input weights and readout of a network of full rank: Adam through time on J alone.

    Training ends after so many ``updates``, or earlier, as soon as the mean output has the right sign in this share of
    1000 fresh trials (``accuracy``, tested every `TEST_EVERY` updates). Networks of `nwb_lint.tasks.train`, in which
    input weights and readout are trained as well, are easier: their fits have a short n without any penalty.
    """
    rng, generator = np.random.default_rng([seed, 77]), torch.Generator().manual_seed(seed)
    u, target, _ = draw(1, np.random.default_rng(0))
    j = torch.tensor(g * rng.standard_normal((size, size)) / np.sqrt(size), dtype=torch.float32, requires_grad=True)
    weights = torch.tensor(rng.standard_normal((size, u.shape[2])), dtype=torch.float32)
    readout = torch.tensor(rng.standard_normal((size, target.shape[2])), dtype=torch.float32)
    optimizer = torch.optim.Adam([j], lr=rate)

    def answers(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output and target (time, trial, output) of new trials, and the mask (time, trial, 1)."""
        u, target, mask = (torch.from_numpy(one.astype(np.float32)) for one in draw(number, rng))
        drive = ALPHA * u.transpose(0, 1) @ weights.T
        drive = drive + NOISE * torch.randn(drive.shape, generator=generator)
        x = torch.zeros(number, size)
        rates = [torch.tanh(x)]
        for step in drive.unbind()[:-1]:
            x = (1 - ALPHA) * x + step + ALPHA * rates[-1] @ j.T
            rates.append(torch.tanh(x))
        return torch.stack(rates) @ readout / size, target.transpose(0, 1), mask.T[..., None]

    for update in range(1, updates + 1):
        output, target, mask = answers(BATCH)
        error = ((output - target) ** 2).mean(dim=2, keepdim=True) * mask
        optimizer.zero_grad()
        (error.sum() / mask.sum()).backward()
        torch.nn.utils.clip_grad_norm_([j], 1.0)
        optimizer.step()
        if accuracy <= 1 and update % TEST_EVERY == 0:
            with torch.no_grad():
                output, target, mask = answers(TEST_TRIALS)
            signs = [torch.sign((one * mask).sum(dim=0)) for one in (output, target)]
            if float((signs[0] == signs[1]).float().mean()) >= accuracy:
                break
    return j.detach().numpy(), weights.numpy(), readout.numpy()


def cdm(number: int, rng: np.random.Generator) -> Trials:
    """The decision with two contexts of `nwb_lint.tasks`."""
    trials = TASKS["cdm"](number, int(rng.integers(2**31)))
    return trials["u"].values, trials["target"].values, trials["mask"].values


def _directions(number: int, rng: np.random.Generator, n_inputs: int, delay: bool) -> tuple[Array, Array, Array, Array]:
    """Inputs of trials that show a direction for 300 ms and, after a delay, a go signal; cosine and sine; the mask."""
    steps, angle = 65, rng.uniform(0, 2 * np.pi, number)
    place = np.stack([np.cos(angle), np.sin(angle)], 1)
    go = rng.integers(25, 45, number) if delay else np.full(number, 30)
    after = np.arange(steps) >= go[:, None]
    u = 0.05 * rng.standard_normal((number, steps, n_inputs))
    u[:, 5:20, :2] += place[:, None]
    u[..., 2] += after
    return u, place, after, np.arange(steps) >= go[:, None] + 5


def ring(number: int, rng: np.random.Generator) -> Trials:
    """Memory of a direction: it is shown, a delay follows, and the output is the direction after a go signal."""
    u, place, after, mask = _directions(number, rng, 3, delay=True)
    return u, place[:, None] * after[..., None], mask


def go_anti(number: int, rng: np.random.Generator) -> Trials:
    """Two tasks with a cue for each: the output is the direction that was shown, or the opposite one."""
    u, place, after, mask = _directions(number, rng, 5, delay=False)
    anti = rng.integers(0, 2, number)
    u[np.arange(number), :, 3 + anti] += 1
    return u, (1 - 2 * anti)[:, None, None] * place[:, None] * after[..., None], mask


def ready_set_go(number: int, rng: np.random.Generator) -> Trials:
    """Two pulses; after the second, the output rises to 1 in as much time as was between them, 400 to 800 ms."""
    steps, interval = 100, rng.integers(20, 41, number)
    t, ready = np.arange(steps), rng.integers(5, 10, number)
    u = 0.02 * rng.standard_normal((number, steps, 2))
    for k, start in enumerate((ready, ready + interval)):
        u[..., k] += (t >= start[:, None]) & (t < start[:, None] + 5)
    since = t - (ready + interval)[:, None]
    ramp = np.clip(since / interval[:, None], 0, 1)
    return u, ramp[..., None], since < 1.2 * interval[:, None]


# name: trials, g, ranks, updates of the training
NETWORKS: dict[str, tuple[Callable[[int, np.random.Generator], Trials], float, tuple[int, ...], int]] = {
    "ring memory": (ring, 0.8, (1, 2, 3), 200),
    "go and anti": (go_anti, 0.8, (1, 2, 3), 200),
    "ready-set-go": (ready_set_go, 0.8, (1, 2, 3), 300),
    "cdm, g = 1.3": (cdm, 1.3, (1, 2, 3), 200),
}


def simulated(j: Array, weights: Array, u: Array, noise: float, seed: int = 0) -> xr.Dataset:
    """Activity of a network with noise in every step; every trial is a condition."""
    rng, x = np.random.default_rng([seed, 5]), np.zeros((len(u), len(j)), np.float32)
    states = []
    for step in u.swapaxes(0, 1).astype(np.float32):
        states.append(x)
        x = (1 - ALPHA) * x + ALPHA * (np.tanh(x) @ j.T + step @ weights.T)
        x = x + np.float32(noise) * rng.standard_normal(x.shape, dtype=np.float32)
    return xr.Dataset(
        {
            "activity": (("condition", "time", "neuron"), np.stack(states, 1), {"units": "1"}),
            "u": (("condition", "time", "input"), u.astype(np.float32)),
        },
        {
            "condition": [f"trial {k}" for k in range(len(u))],
            "time": ("time", STEP_S * np.arange(u.shape[1]), {"units": "s"}),
            "neuron": [f"n{k}" for k in range(len(j))],
            "input": [f"u{k}" for k in range(u.shape[2])],
        },
        {"bin_s": STEP_S},
    )


def unseen(size: int = 200, trials: int = 200, seed: int = 50) -> None:
    """Default fits to noisy trials of networks of other tasks: R² of the noise-free rates of fresh trials."""
    for name, (draw, g, ranks, updates) in NETWORKS.items():
        j, weights, _ = train(draw, g, size=size, seed=seed, updates=updates)
        activity = simulated(j, weights, draw(trials, np.random.default_rng([seed, 1]))[0], NOISE)
        fresh = simulated(j, weights, draw(100, np.random.default_rng([seed, 2]))[0], 0.0)
        rates, found = np.tanh(fresh["activity"].values), []
        for rank in ranks:
            fits = [nl.fit_lint(activity, rank=rank, tau_s=STEP_S / ALPHA, l2_n=one) for one in ("auto", 0)]
            r2 = [rates_r2(rates, run(fit, fresh)["activity"].values) for fit in fits]
            found.append((rank, *r2, *(fit.attrs["n_norm_ratio"] for fit in fits)))
        rows = ", ".join("rank {} {:.4f} ({:.4f}), |n| / |P n| {:.1f} ({:.1f})".format(*row) for row in found)
        fallen = max(before - now for _, now, before, *_ in found)
        print(f"   {name}: R² (with l2_n=0) {rows}; falls by at most {fallen:+.4f} (goal .003)", flush=True)


def speed(size: int = 200, seed: int = 50) -> None:
    """Processor time of default fits, in units of a bare tanh over 20 million values, beside that of before."""
    values = np.random.default_rng(0).standard_normal(2 * 10**7).astype(np.float32)
    j, weights, _ = train(cdm, 0.8, size=size, seed=seed, updates=50)
    u = cdm(200, np.random.default_rng([seed, 1]))[0]
    noisy = simulated(j, weights, u, NOISE)
    few = noisy.isel(condition=slice(32), neuron=slice(60))
    few["activity"] = few["activity"] + 0.3 * np.random.default_rng(1).standard_normal(few["activity"].shape)
    cases = {"rank 1": (noisy, 1), "rank 2": (noisy, 2), "rank=None": (noisy, None), "60 units, rank 2": (few, 2)}
    nl.fit_lint(few, rank=1, tau_s=STEP_S / ALPHA)  # imports
    for name, (activity, rank) in cases.items():
        unit = min(_seconds(np.tanh, values) for _ in range(5))
        took = min(_seconds(nl.fit_lint, activity, rank=rank, tau_s=STEP_S / ALPHA) for _ in range(3))
        before = BEFORE_TIME.get(name, np.nan)
        ratio = took / unit / before
        print(f"   {name}: {took:.2f} s, {took / unit:.1f} units, {ratio:.2f} times before (goal 1.5)", flush=True)


def _seconds(do: Callable[..., object], *args: object, **options: object) -> float:
    """Processor time of a call, s."""
    start = time.process_time()
    do(*args, **options)
    return time.process_time() - start


SECTIONS = {"unseen": unseen, "speed": speed}
