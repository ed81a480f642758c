"""Behavior in the loss: the dimension that matters for behavior, its readout, its weight, and decoding from latents."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr
from sections import workers

import nwb_lint as nl
from nwb_lint.options.fits import TrialFitOptions
from nwb_lint.statespace.fit import fit_trials_with

BIN_S, TAU_S, N_TIMES, N_UNITS, N_TRIALS = 0.02, 0.1, 30, 40, 150
RANK, BASE_HZ, WEAK = 3, 8.0, 0.3
FIT = {"tau_s": TAU_S, "hidden": 0, "max_iter": 10}
HELD, SEEDS = 50, range(300, 310)
READOUTS = [nl.Readout("choice", column="choice", window_s=(0.4, 0.6)), nl.Readout("hand", series="hand")]


def simulated(seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """Spikes of a network of rank 3 with noise, its latents, and behavior that its third, weak latent makes.

    The third column of m is `WEAK` times as large as the others. The velocity of the hand is the third latent with
    noise of a third of its variance, the choice is drawn with three times its last value (in standard deviations) as
    logit.
    """
    rng, alpha = np.random.default_rng(seed), BIN_S / TAU_S
    size = np.array([1.0, 1.0, WEAK])
    m = rng.standard_normal((N_UNITS, RANK)) * size
    turn = np.array([[1.5, 0.5, 0.0], [-0.5, 1.5, 0.0], [0.0, 0.0, 1.1]]) / np.array([1.0, 1.0, WEAK**2])
    n = m @ turn + 0.3 * rng.standard_normal(m.shape)
    kappa, path = 0.5 * rng.standard_normal((N_TRIALS, RANK)), []
    for _ in range(N_TIMES):
        path.append(kappa)
        kappa = (1 - alpha) * kappa + alpha * np.tanh(kappa @ m.T) @ n / N_UNITS
        kappa = kappa + np.array([0.15, 0.15, 0.25]) * rng.standard_normal(kappa.shape)
    kappa = np.stack(path, axis=1)
    count = rng.poisson(np.minimum(BASE_HZ * BIN_S * np.exp(kappa @ m.T - 0.2), 20)).astype(np.uint16)
    weak = kappa[..., 2] / kappa[..., 2].std()
    hand = weak + np.sqrt(1 / 3) * rng.standard_normal(weak.shape)
    chosen = rng.random(N_TRIALS) < 1 / (1 + np.exp(-3 * weak[:, -1]))
    clock = BIN_S * (np.arange(N_TIMES) + 0.5)
    coords = {
        "trial": np.arange(N_TRIALS), "time": clock, "neuron": [f"n{k:03d}" for k in range(N_UNITS)],
        "course_time": clock, "course": [READOUTS[1].input.source],
        "choice": ("trial", np.where(chosen, "right", "left")),
    }  # fmt: skip
    data = {
        "count": (("trial", "time", "neuron"), count),
        "input_course": (("trial", "course_time", "course"), hand[..., None]),
    }
    trials = xr.Dataset(data, coords, {"bin_s": BIN_S})
    return nl.prepare(trials, inputs=[], readouts=READOUTS), kappa


def weak_found(fit: xr.Dataset, kappa: np.ndarray) -> float:
    """R² of the third latent of held-out trials, from a regression on the latents of the fit."""
    held = fit["held_out"].values
    design = np.concatenate([np.ones((*kappa.shape[:2], 1)), fit["latent"].values], axis=2)
    flat, true = (one[~held].reshape(-1, one.shape[2]) for one in (design, kappa))
    read = design[held] @ np.linalg.lstsq(flat, true[:, 2], rcond=None)[0]
    off = kappa[held][..., 2] - kappa[~held][..., 2].mean()
    return 1 - float(((kappa[held][..., 2] - read) ** 2).sum() / (off**2).sum())


def angle_deg(fit: xr.Dataset, kappa: np.ndarray, readout: str) -> float:
    """Angle between the weights of a readout and the third latent, in units of the true latents' standard deviation."""
    true = kappa.reshape(-1, RANK) / kappa.reshape(-1, RANK).std(axis=0)
    to = np.linalg.lstsq(true, fit["latent"].values.reshape(len(true), -1), rcond=None)[0]
    weights = to @ fit["readout_weights"].sel(readout=readout).values
    return float(np.degrees(np.arccos(abs(weights[2]) / np.linalg.norm(weights))))


def behavior() -> None:
    """Choice and movement that a weak latent makes: weights chosen, dimension, readout, decoding, shuffled."""
    found: list[dict[str, float]] = []
    with workers() as pool:
        for seed, one in zip(SEEDS, pool.map(one_network, SEEDS), strict=True):
            found.append(one)
            print(f"   seed {seed}: " + ", ".join(f"{name} {value:.2f}" for name, value in one.items()), flush=True)
    each = {name: np.array([one[name] for one in found]) for name in found[0]}
    n = len(found)
    print(f"   rank 3, weight chosen by held-out data: as good as the best {int(each['as good'].sum())} of {n}")
    print(f"   angle of the weights of the hand, degrees: median {np.median(each['angle hand']):.1f}")
    for name in ("choice", "hand"):
        better = each[f"{name} latents"] - each[f"{name} plain"]
        error = better.std(ddof=1) / np.sqrt(n)
        print(
            f"   {name} from causal latents {each[f'{name} latents'].mean():.3f}, plain decoder "
            f"{each[f'{name} plain'].mean():.3f}, difference {better.mean():.3f} ± {error:.3f}"
        )
    print(f"   intervals of the hand of 90 % hold {each['coverage'].mean():.3f}")
    small, joint = each["rank 2 spikes"], each["rank 2 joint"]
    print(f"   rank 2: R² of the weak latent {small.mean():.3f} by spikes alone, {joint.mean():.3f} with behavior")
    print(f"   shuffled behavior: weight 0 in {int((each['shuffled weight'] == 0).sum())} of {n}, "
          f"said to be decoded in {int(each['shuffled decoded'].sum())}", flush=True)  # fmt: skip


def one_network(seed: int) -> dict[str, float]:
    """All figures of one simulated network."""
    trials, kappa = simulated(seed)
    train = trials.isel(trial=slice(HELD, None))
    table = nl.compare_readouts(train, rank=RANK, folds=2, **FIT)
    chosen, heavy = float(table.attrs["readout_weight"]), float(table["weight_tried"].values[-1])
    fit = fitted(trials, RANK, chosen)
    decoding = nl.decode_behavior(fit, trials)
    mean = [
        float(fitted(trials, RANK, float(one))["readout_score"][:, 1].mean()) for one in table["weight_tried"].values
    ]
    error = np.sqrt(np.square(decoding["score_sem"].sel(decoder="latents")).sum()) / 2
    own = mean[table["weight_tried"].values.tolist().index(chosen)]
    order = np.random.default_rng(0).permutation(train.sizes["trial"])
    other = train.assign(behavior=(train["behavior"].dims, train["behavior"].values[order]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is decoded
        nothing = nl.compare_readouts(other, rank=RANK, readout_weights=[0, 1, heavy], folds=2, **FIT)
    figures = {"weight": chosen, "as good": float(own >= max(mean) - error), "score": own, "best": max(mean)}
    figures |= {"weight 0": mean[0], "angle hand": angle_deg(fit, kappa, "hand")}
    for name in ("choice", "hand"):
        latents, plain = decoding["score"].sel(readout=name).values
        figures |= {f"{name} latents": float(latents), f"{name} plain": float(plain)}
    figures["coverage"] = float(decoding["coverage"].sel(readout="hand"))
    figures["rank 2 spikes"] = weak_found(fitted(trials, 2, 0.0), kappa)
    figures["rank 2 joint"] = weak_found(fitted(trials, 2, heavy), kappa)
    figures["shuffled weight"] = float(nothing.attrs["readout_weight"])
    figures["shuffled decoded"] = float(nothing.attrs["decoded"])
    return figures


def fitted(trials: xr.Dataset, rank: int, weight: float) -> xr.Dataset:
    """The fit with the first trials held out."""
    held = np.arange(trials.sizes["trial"]) < HELD
    options = TrialFitOptions.check(FIT | {"rank": rank, "readout_weight": weight})
    return fit_trials_with(trials, options, held, scored=False)


def simulated_means(seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """Means of a network of rank 2 in 60 conditions, its latents, and a movement that its second, weak latent makes."""
    rng, alpha, n_conditions = np.random.default_rng(seed), BIN_S / TAU_S, 60
    m = rng.standard_normal((N_UNITS, 2)) * (1.0, WEAK)
    n = m @ np.diag([1.2, 1.2 / WEAK**2]) + 0.3 * rng.standard_normal(m.shape)
    drive = 0.5 * rng.standard_normal((N_UNITS, 2)) * (1.0, 0.1) + n * (0.3, 0.03)
    amplitude = rng.uniform(-1.5, 1.5, (n_conditions, 2))
    u = np.zeros((n_conditions, 50, 2), np.float32)
    u[:, 5:20] = amplitude[:, None]
    kappa, v, path, x = np.zeros((n_conditions, 2)), np.zeros((n_conditions, 2)), [], []
    for t in range(50):
        path.append(kappa)
        x.append(kappa @ m.T + v @ drive.T)
        kappa = (1 - alpha) * kappa + alpha * np.tanh(x[-1]) @ n / N_UNITS
        v = (1 - alpha) * v + alpha * u[:, t]
    kappa, clean = np.stack(path, axis=1), np.stack(x, axis=1)
    hand = kappa[..., 1] / kappa[..., 1].std()
    hand = hand + 0.3 * rng.standard_normal(hand.shape)
    noisy = clean + 1.5 * clean.std() * rng.standard_normal(clean.shape)
    data = {
        "activity": (("condition", "time", "neuron"), noisy.astype(np.float32)),
        "u": (("condition", "time", "input"), u),
        "behavior": (("condition", "time", "readout"), hand[..., None]),
    }  # fmt: skip
    coords = {
        "condition": [f"c{k}" for k in range(n_conditions)], "time": BIN_S * np.arange(50), "readout": ["hand"],
        "neuron": [f"n{k:03d}" for k in range(N_UNITS)], "input": ["a", "b"], "readout_kind": ("readout", ["number"]),
        "readout_once": ("readout", [False]), "readout_definition": ("readout", ['name = "hand"']),
    }  # fmt: skip
    return xr.Dataset(data, coords, {"bin_s": BIN_S}), kappa


def means_of(seed: int) -> list[float]:
    """The weight chosen, then R² of the hand and of the activity: rank 2 without it and with it, rank 1 the same."""
    activity, _ = simulated_means(seed)
    held = np.arange(60) < 20
    table = nl.compare_readouts(activity.isel(condition=~held), rank=2, tau_s=TAU_S, folds=2)
    weight, heavy = float(table.attrs["readout_weight"]), float(table["weight_tried"].values[-1])
    row = [weight]
    for rank, one in ((2, 0.0), (2, weight), (1, 0.0), (1, heavy)):
        fit = nl.fit_lint(activity, rank=rank, tau_s=TAU_S, test_conditions=held, readout_weight=one)
        row += [float(fit["readout_score"][0, 1]), float(fit["r2"][1])]
    return row


def means() -> None:
    """Condition means: a movement that a weak latent makes, at rank 1 and at the true rank 2."""
    rows = []
    with workers() as pool:
        for seed, row in zip(SEEDS, pool.map(means_of, SEEDS), strict=True):
            rows.append(row)
            scores = ", ".join(f"{one:.3f}" for one in row[1:])
            print(f"   seed {seed}: weight {row[0]:g}, R² of hand and activity: {scores}", flush=True)
    each = np.array(rows)
    for name, k in (
        ("rank 2, weight 0", 1),
        ("rank 2, weight chosen", 3),
        ("rank 1, weight 0", 5),
        ("rank 1, heavy", 7),
    ):
        print(
            f"   {name}: held-out R² of the hand {each[:, k].mean():.3f}, of the activity {each[:, k + 1].mean():.3f}"
        )


SECTIONS = {"behavior": behavior, "behavior_means": means}
