"""Whether fixed points that are called supported are there, and whether intervals of 90 % hold the truth.

Simulated recordings: networks of rank 1 or 2, driven by one stimulus of 8 strengths for .5 s of a trial of 1 s; Poisson
units of 15 Hz + 5 Hz x, 20 trials a condition, bins of 20 ms, smoothing of 50 ms, tau 100 ms.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import xarray as xr
from sections import workers

import nwb_lint as nl
from nwb_lint.model.network import Array, Network, canonical, drives, forward
from nwb_lint.nwb.recording.binning import smooth
from nwb_lint.validation.intervals import quantities

BIN_S, TAU_S, SMOOTH_S, BASE_HZ, GAIN_HZ = 0.02, 0.1, 0.05, 15.0, 5.0
N_CONDITIONS, N_BINS = 8, 50
OVERLAPS = {
    "monostable": np.diag([0.8, 0.3]),
    "bistable": np.diag([1.6, 0.3]),
    "rotation": np.array([[0.8, 0.6], [-0.6, 0.8]]),
}
STIMULUS = nl.Input("stimulus", column="stimulus", window_s=(0, 0.5))


def network(seed: int, kind: str, rank: int, n_units: int, outside: float = 0.0) -> Network:
    """Random m and input weights, and the n of least norm with the overlaps of this kind, and .5 with the input.

    ``outside`` is the size of a random part of n that is orthogonal to them.
    """
    rng = np.random.default_rng(seed)
    m, weights = rng.standard_normal((n_units, rank)), rng.standard_normal((n_units, 1))
    basis = np.column_stack([m, weights])
    wanted = np.vstack([OVERLAPS[kind][:rank, :rank], np.full((1, rank), 0.5)])
    n = basis @ np.linalg.solve(basis.T @ basis / n_units, wanted)
    apart = outside * rng.standard_normal(n.shape)
    return Network(m, n + apart - basis @ np.linalg.lstsq(basis, apart)[0], weights)


def recorded(truth: Network, seed: int, *, n_trials: int = 20, draws: int = 20, base: float = BASE_HZ) -> xr.Dataset:
    """A recording of Poisson units with resamples of its trials, as `read_conditions` gives it."""
    strength = np.linspace(-1, 1, N_CONDITIONS)
    u = np.zeros((N_CONDITIONS, N_BINS, 1), np.float32)
    u[:, 5:30, 0] = strength[:, None]
    x, _ = forward(truth, drives(u, BIN_S / TAU_S, bias=False, initial=False), BIN_S / TAU_S)
    rng = np.random.default_rng([seed, 9])
    rate = np.maximum(base + GAIN_HZ * x, 0.5)
    counts = rng.poisson(rate[:, None] * BIN_S, (N_CONDITIONS, n_trials, *x.shape[1:])) / BIN_S

    def mean(weights: Array) -> Array:
        return smooth(np.einsum("ck,cktn->ctn", weights, counts) / n_trials, SMOOTH_S / BIN_S, axis=1).astype("f4")

    drawn = rng.multinomial(n_trials, np.full(n_trials, 1 / n_trials), size=(draws, N_CONDITIONS))
    dims = ("condition", "time", "neuron")
    return xr.Dataset(
        {
            "rate": (dims, mean(np.ones((N_CONDITIONS, n_trials)))),
            "rate_draw": (("draw", *dims), np.stack([mean(weights) for weights in drawn])),
            "n_trials": (("condition", "neuron"), np.full((N_CONDITIONS, x.shape[2]), n_trials)),
        },
        {
            "condition": [f"stimulus={one:.2f}" for one in strength],
            "stimulus": ("condition", strength),
            "time": BIN_S * (np.arange(N_BINS) - 4.5),
            "neuron": [str(k) for k in range(x.shape[2])],
        },
        {"bin_s": BIN_S, "smooth_s": SMOOTH_S},
    )


def prepared(recording: xr.Dataset) -> xr.Dataset:
    return nl.prepare(recording, inputs=[STIMULUS], center=(-0.1, 0.0), time_course=False)


def in_true_units(recording: xr.Dataset) -> xr.Dataset:
    """With the scale of the simulation, so that the truth is one of the networks that can be fitted."""
    return nl.prepare(recording, inputs=[STIMULUS], center=(-0.1, 0.0), time_course=False, scale=GAIN_HZ)


def attractors() -> None:
    """Stable fixed points of rank-2 fits to 60 units: how many the fit has, and how many are supported."""
    for kind, seeds, n_trials, goal in (
        ("monostable", range(300, 320), 20, "goal: two supported in at most 1 of 20"),
        ("bistable", range(300, 306), 100, "two are true"),
    ):
        with workers() as pool:
            counts = list(pool.map(partial(_stable_points, kind, n_trials), seeds))
        of_fit, supported = np.array(counts).T
        print(
            f"   {kind}, 60 units, {n_trials} trials: two stable points in {(of_fit > 1).sum()} of {len(counts)} fits, "
            f"supported in {(supported > 1).sum()} ({goal}); one supported in {(supported == 1).sum()}",
            flush=True,
        )


def _stable_points(kind: str, n_trials: int, seed: int) -> tuple[int, int]:
    """Stable fixed points of a fit, and how many of them are supported."""
    recording = recorded(network(seed, kind, 2, 60), seed, n_trials=n_trials, draws=20)
    fit = nl.fit_lint(prepared(recording), rank=2, tau_s=TAU_S)
    found = nl.bootstrap(fit, recording, prepare=prepared, draws=10, simulations=0)
    points = nl.fixed_points(fit, bootstrap=found)
    stable = points["stability"].values == "stable"
    return int(stable.sum()), int((stable & points["supported"].values).sum())


def alternatives(seeds: range = range(320, 326)) -> None:
    """Ranks and ridges that predict as well as the best: how often they differ in the number of stable points."""
    for kind, n_trials, true in (("monostable", 20, 1), ("bistable", 100, 2)):
        with workers() as pool:
            found = list(pool.map(partial(_among_alternatives, kind, n_trials), seeds))
        of_ranks, of_ridges, shares = map(list, zip(*found, strict=True))
        print(
            f"   {kind}, 60 units, {n_trials} trials, {true} stable in truth: numbers of stable points of ranks that "
            f"predict as well {of_ranks}, of ridges {of_ridges}; least share of ridges that have a stable point of the "
            f"fit {shares}",
            flush=True,
        )


def _among_alternatives(kind: str, n_trials: int, seed: int) -> tuple[list[int], list[int], float]:
    """Numbers of stable points among ranks and ridges that predict as well; least share of the fit's stable points."""
    activity = prepared(recorded(network(seed, kind, 2, 60), seed, n_trials=n_trials, draws=1))
    fit = nl.fit_lint(activity, rank=2, tau_s=TAU_S, method="regression")
    found = nl.fixed_points(fit, activity=activity, other_ranks=(1, 2, 3), other_ridges=True)
    numbers, good = found["n_found_alternative"].values[:, 0], found["alternative_as_good"].values
    ranks = np.char.startswith(found["alternative"].values.astype(str), "rank")
    shares = found["share_ridges"].values[found["stability"].values == "stable"]
    each = [sorted(set(numbers[good & some].tolist())) for some in (ranks, ~ranks)]
    return each[0], each[1], round(float(shares.min(initial=1.0)), 2)


HELD: dict = {"condition": 5, "at_s": 0.3}  # the input of a fixed point: that of a condition during the stimulus

# name: kind, rank, units, trials, size of the part of n outside of m and I
SETTINGS = {
    "rank 1, 60 units, 20 trials": ("monostable", 1, 60, 20, 0.0),
    "rank 1, 20 units, 20 trials": ("monostable", 1, 20, 20, 0.0),
    "rank 1, 60 units, 80 trials": ("monostable", 1, 60, 80, 0.0),
    "bistable, rank 1, 60 units, 20 trials": ("bistable", 1, 60, 20, 0.0),
    "bistable, rank 1, 60 units, 80 trials": ("bistable", 1, 60, 80, 0.0),
    "rotation, rank 2, 60 units, 40 trials": ("rotation", 2, 60, 40, 0.0),
    "rank 2 with a latent that is hardly driven, 60 units, 20 trials": ("monostable", 2, 60, 20, 0.0),
    "random part in n, rank 1, 60 units, 20 trials": ("monostable", 1, 60, 20, 0.5),
}


def coverage(seeds: range = range(400, 410)) -> None:
    """Share of the intervals of 90 % that hold the truth, by setting; how many quantities have no interval."""
    for name in SETTINGS:
        with workers() as pool:
            inside, has = map(np.concatenate, zip(*pool.map(partial(_inside, name), seeds), strict=True))
        share = f"{inside[has].mean():.2f} of {has.sum()}" if has.any() else "none"
        print(f"   {name}: {share} intervals hold the truth (goal .85 to .95); {(~has).sum()} have none", flush=True)


def _fitted(name: str, seed: int) -> tuple[Network, xr.Dataset, xr.Dataset]:
    """The network of a setting, a recording of it, and a fit."""
    kind, rank, n_units, n_trials, outside = SETTINGS[name]
    truth = network(seed, kind, rank, n_units, outside)
    recording = recorded(truth, seed, n_trials=n_trials, draws=20, base=30.0)  # rates stay above 0
    return truth, recording, nl.fit_lint(in_true_units(recording), rank=rank, tau_s=TAU_S, method="regression")


def _inside(name: str, seed: int) -> tuple[Array, Array]:
    """For each quantity that varies, whether its interval holds the truth, and whether it has one."""
    kind = SETTINGS[name][0]
    truth, recording, fit = _fitted(name, seed)
    found = nl.bootstrap(fit, recording, prepare=in_true_units, draws=2, simulations=60)
    true, low, high = true_values(fit, truth), found["low"].values, found["high"].values
    varies = np.array(["imaginary" not in str(one) or kind == "rotation" for one in found["quantity"].values])
    return ((low <= true) & (true <= high))[varies], np.isfinite(low)[varies]


def points(seeds: range = range(400, 410)) -> None:
    """Share of the intervals of fixed points, place and eigenvalues, that hold the truth; how many have none."""
    for name in ("rank 1, 60 units, 20 trials", "bistable, rank 1, 60 units, 20 trials",
                 "bistable, rank 1, 60 units, 80 trials", "rotation, rank 2, 60 units, 40 trials"):  # fmt: skip
        with workers() as pool:
            found = list(pool.map(partial(_points_inside, name), seeds))
        inside, has, lacks = map(np.concatenate, zip(*found, strict=True))
        share = f"{inside[has].mean():.2f} of {has.sum()}" if has.any() else "none"
        print(
            f"   fixed points, {name}: {share} intervals hold the truth (goal .85 to .95), {(~has).sum()} have none; "
            f"{lacks.sum()} of {len(lacks)} true points are not in the fit",
            flush=True,
        )


def _points_inside(name: str, seed: int) -> tuple[Array, Array, Array]:
    """For places and eigenvalues of fixed points: is the truth in the interval, is there one; which points are missed.

    A point of the fit stands for the nearest true one of the same stability.
    """
    truth, recording, fit = _fitted(name, seed)
    found = nl.bootstrap(fit, recording, prepare=in_true_units, draws=2, simulations=60)
    m, n = _placed(fit, truth)
    known = nl.fixed_points(fit.assign(m=(fit["m"].dims, m), n=(fit["n"].dims, n),
                                       input_weights=(fit["input_weights"].dims, truth.w[:, :1])), **HELD)  # fmt: skip
    simulated = nl.fixed_points(fit, bootstrap=found, **HELD)
    inside, has = [np.zeros(0, bool)], [np.zeros(0, bool)]
    lacks = np.ones(known.sizes["fixed_point"], bool)
    for k in range(simulated.sizes["fixed_point"]):
        apart = np.linalg.norm(known["kappa"].values - simulated["kappa"].values[k], axis=1)
        apart[known["stability"].values != simulated["stability"].values[k]] = np.inf
        if not np.isfinite(apart).any():
            continue
        at = apart.argmin()
        lacks[at] = False
        for variable in ("kappa", "eigenvalue_real"):
            true, low, high = (
                known[variable].values[at],
                simulated[f"{variable}_low"].values[k],
                simulated[f"{variable}_high"].values[k],
            )
            inside.append((low <= true) & (true <= high))
            has.append(np.isfinite(low))
    return np.concatenate(inside), np.concatenate(has), lacks


def true_values(fit: xr.Dataset, truth: Network) -> Array:
    """The quantities of the network, with its m turned to m of the fit."""
    return np.array(list(quantities(fit, *_placed(fit, truth), truth.w[:, :1]).values()))


def _placed(fit: xr.Dataset, truth: Network) -> tuple[Array, Array]:
    """m and n of the network, with m turned to m of the fit."""
    m, n = canonical(truth.m, truth.n)
    left, _, right = np.linalg.svd(m.T @ fit["m"].values)
    return m @ left @ right, n @ left @ right


SECTIONS = {"attractors": attractors, "alternatives": alternatives, "coverage": coverage, "points": points}
