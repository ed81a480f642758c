"""Several areas: currents of simulated networks of two and three areas, the choice of blocks, and CURBD beside it.

CURBD (Perich et al., bioRxiv 2020.12.18.423348) runs from a copy of github.com/rajanlab/CURBD whose folder the
environment variable CURBD_FOLDER names; without it the sections that need it say so.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sections import run_sections, workers

import nwb_lint as nl
from nwb_lint.model.areas.blocks import blocks_of, canonical_blocks
from nwb_lint.nwb.recording.binning import smooth
from nwb_lint.testing import mock_areas
from nwb_lint.validation.intervals import turn_to

# Ranks of the blocks (to, from).
TWO = {
    "all": [[1, 1], [1, 1]],
    "feed forward": [[1, 0], [1, 1]],
    "apart": [[1, 0], [0, 1]],
    "rank 2": [[2, 0], [1, 1]],
}
THREE = {
    "ring": [[1, 0, 1], [1, 1, 0], [0, 1, 1]],
    "chain": [[1, 0, 0], [1, 1, 0], [0, 1, 1]],
    "hub": [[1, 1, 1], [1, 1, 0], [1, 0, 1]],
}
PER_AREA, CONDITIONS = 40, 60
NOISES = {"noise in the network": {"noise": 0.03}, "noise of observation": {"observation": 0.3}}
SEEDS = range(300, 310)
FITTED = ("all", "feed forward", "ring")  # the networks whose currents are fitted
HELD_OUT = 0.2


def simulated(ranks: list[list[int]], seed: int, **noise: float) -> tuple[xr.Dataset, xr.Dataset]:
    """Activity and network of areas with these blocks."""
    return mock_areas(ranks, n_neurons=PER_AREA * len(ranks), n_conditions=CONDITIONS, seed=seed, **noise)


def block_ranks(ranks: list[list[int]]) -> dict[str, int]:
    """Ranks as `fit_lint` takes them."""
    names = "ABCDE"
    return {f"{names[a]}<-{names[b]}": rank for a, row in enumerate(ranks) for b, rank in enumerate(row)}


def _between(network: xr.Dataset, x: np.ndarray) -> np.ndarray:
    """Currents from each area to each neuron (condition, time, neuron, area) at given activations."""
    drive = np.tanh(x) @ network["n"].values / network.sizes["neuron"]
    senders = [network["from_area"].values == name for name in np.unique(network["area"].values)]
    return np.stack([drive[..., own] @ network["m"].values[:, own].T for own in senders], axis=-1)


def _r2(found: np.ndarray, true: np.ndarray) -> float:
    return float(1 - ((found - true) ** 2).sum() / (true**2).sum())


def currents_r2(fit: xr.Dataset, network: xr.Dataset) -> tuple[float, float, float]:
    """R² of the currents between areas in held-out conditions, in the free runs of both; at the true activations; and
    there of the block that is worst."""
    held, area = fit["held_out"].values, network["area"].values
    x, own = (one["activity_pred"].values[held].astype(float) for one in (network, fit))
    true, free, same = _between(network, x), _between(fit, own), _between(fit, x)
    blocks = [(area == to, k) for to in np.unique(area) for k in range(true.shape[3])]
    each = [_r2(same[:, :, to, k], true[:, :, to, k]) for to, k in blocks if true[:, :, to, k].any()]
    return _r2(free, true), _r2(same, true), min(each)


def _currents_of(kind: list[list[int]], noise: dict[str, float], seed: int) -> tuple[float, float, float]:
    """`currents_r2` of a fit with known blocks."""
    activity, network = simulated(kind, seed, **noise)
    fit = nl.fit_lint(activity, rank=1, tau_s=0.1, areas="area", block_ranks=block_ranks(kind), test_size=HELD_OUT)
    return currents_r2(fit, network)


def currents() -> None:
    """R² of the currents, with known blocks (goal: .95 or more)."""
    for count, kinds in (("two", TWO), ("three", THREE)):
        for name, noise in NOISES.items():
            for kind in [one for one in kinds if one in FITTED]:
                with workers() as pool:
                    found = list(pool.map(partial(_currents_of, kinds[kind], noise), SEEDS))
                words = ("free runs", "at the true activations", "there of the worst block")
                print(f"{count} areas, {kind}, {name}: R² of currents", flush=True)
                for what, values in zip(words, np.array(found).T, strict=True):
                    print(
                        f"    {what}: median {np.median(values):.3f}, least {values.min():.3f}, "
                        f"{int((values >= 0.95).sum())} of {len(values)} at .95 or more",
                        flush=True,
                    )


def _chosen(data: xr.Dataset, ranks: tuple[int, ...], **options: Any) -> tuple[bool, list[list[int]]]:
    """Whether one block is chosen, and the ranks of the choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nl.select_areas(data, areas="area", ranks=ranks, tau_s=0.1, **options)
    one = found.isel(candidate=found.attrs["chosen"])
    return bool(one["one_block"]), one["block_rank"].values.tolist()


def _blocks_of(ranks: list[list[int]], noise: dict[str, float], seed: int) -> tuple[bool, list[list[int]]]:
    """The choice for a network with these blocks."""
    return _chosen(simulated(ranks, seed, **noise)[0], (1, max(map(max, ranks))))


def called(count: int, seed: int) -> np.ndarray:
    """Names of areas for the neurons of one area, at random."""
    return np.array(list("ABC"))[np.random.default_rng(seed).permutation(PER_AREA * count) % count]


def _one_area_of(count: int, rank: int, noise: dict[str, float], seed: int) -> tuple[bool, list[list[int]]]:
    """The choice for one area that is called several."""
    activity, _ = mock_areas([[rank]], n_neurons=PER_AREA * count, n_conditions=CONDITIONS, seed=seed, **noise)
    return _chosen(activity.assign_coords(area=("neuron", called(count, seed))), (1, 2))


def _print_choices(what: str, choose: Callable[[int], tuple[bool, list[list[int]]]], ranks: list[list[int]]) -> None:
    """Print how often the choice has these ranks; of a single area, how often it is not one block."""
    start = time.perf_counter()
    with workers() as pool:
        found = list(pool.map(choose, SEEDS))
    single = len(ranks) == 1
    other = [
        "one block" if one_block else str(own)
        for one_block, own in found
        if one_block is not single or (own != ranks and not single)
    ]
    word = f"mistaken in {len(other)}" if single else f"right in {len(found) - len(other)}"
    took = time.perf_counter() - start
    print(f"{what}: {word} of {len(found)}, {took:.0f} s" + (f"; else {'; '.join(other)}" if other else ""), flush=True)


def blocks() -> None:
    """How often the right blocks are chosen (goal: 9 of 10), by the choice on held-out conditions."""
    for count, kinds in (("two", TWO), ("three", THREE)):
        for name, noise in NOISES.items():
            for kind, ranks in kinds.items():
                _print_choices(f"{count} areas, {kind} {ranks}, {name}", partial(_blocks_of, ranks, noise), ranks)


def one_area() -> None:
    """How often one area, whose neurons are named at random, is mistaken for two or three (goal: at most 1 of 10)."""
    for count in (2, 3):
        for name, noise in NOISES.items():
            for rank in (1, 2):
                choose = partial(_one_area_of, count, rank, noise)
                _print_choices(f"one area of rank {rank}, called {count}, {name}", choose, [[rank]])


# Single trials: neurons of an area, trials, noise of the latents in a step, and rate at x = 0, Hz. Inputs have half the
# size of those of means, so that few rates are above 100 Hz.
OF_TRIALS, TRIALS, LATENT_NOISE, BASE_HZ, INPUT_SIZE = 20, 100, 0.15, 8.0, 0.5
TRIAL_FIT: dict[str, Any] = {"hidden": 0, "folds": 2}


def spikes(ranks: list[list[int]], seed: int, n_neurons: int) -> xr.Dataset:
    """Spikes of single trials of a network with these blocks, whose latents have noise."""
    network = mock_areas(ranks, n_neurons=n_neurons, n_conditions=TRIALS, seed=seed)[1]
    m, n, w, u = (network[name].values.astype(float) for name in ("m", "n", "input_weights", "u"))
    rng, path, u = np.random.default_rng([seed, 5]), [], INPUT_SIZE * u
    kappa, v = 0.3 * rng.standard_normal((TRIALS, m.shape[1])), np.zeros((TRIALS, u.shape[2]))
    for t in range(u.shape[1]):
        x = kappa @ m.T + v @ w.T
        path.append(x)
        kappa = 0.8 * kappa + 0.2 * np.tanh(x) @ n / len(n) + LATENT_NOISE * rng.standard_normal(kappa.shape)
        v = 0.8 * v + 0.2 * u[:, t]
    count = rng.poisson(0.02 * BASE_HZ * np.exp(np.stack(path, axis=1))).astype(np.uint16)
    coords = {name: network[name] for name in ("area", "neuron", "time", "input")} | {"trial": np.arange(TRIALS)}
    data = {
        "count": (("trial", "time", "neuron"), count),
        "u": (("trial", "time", "input"), u.astype(np.float32)),
    }
    return xr.Dataset(data, coords, {"bin_s": 0.02})


def _blocks_of_trials(ranks: list[list[int]], seed: int) -> tuple[bool, list[list[int]]]:
    """The choice for single trials of a network with these blocks."""
    return _chosen(spikes(ranks, seed, OF_TRIALS * len(ranks)), (1, max(map(max, ranks))), **TRIAL_FIT)


def _one_area_of_trials(rank: int, seed: int) -> tuple[bool, list[list[int]]]:
    """The choice for single trials of one area that is called two."""
    trials = spikes([[rank]], seed, 2 * OF_TRIALS)
    names = np.random.default_rng(seed).permutation(2 * OF_TRIALS) % 2
    return _chosen(trials.assign_coords(area=("neuron", np.array(["A", "B"])[names])), (1, 2), **TRIAL_FIT)


def blocks_of_trials() -> None:
    """The same for single trials: the right blocks (goal: 9 of 10), and one area called two (goal: at most 1 of 10)."""
    for kind in ("feed forward", "apart"):
        what = f"single trials, two areas, {kind} {TWO[kind]}"
        _print_choices(what, partial(_blocks_of_trials, TWO[kind]), TWO[kind])
    _print_choices("single trials, one area of rank 1, called two", partial(_one_area_of_trials, 1), [[1]])


# Recordings for intervals of currents: conditions, trials of each, draws, smoothing, s, and rates of 15 Hz + 5 Hz x.
RECORDED, SMOOTH_S, BASE, GAIN = (40, 20, 20), 0.05, 15.0, 5.0
RANGE_SEEDS, SIMULATIONS = range(210, 220), 60


def recorded(network: xr.Dataset, seed: int) -> tuple[xr.Dataset, list[nl.Input]]:
    """Mean rates of Poisson spikes of a network of areas, with resamples of the trials, and its inputs."""
    n_conditions, n_trials, draws = RECORDED
    x, u = network["activity_pred"].values.astype(float), network["u"].values
    rng = np.random.default_rng([seed, 9])
    rate = np.maximum(BASE + GAIN * x, 0.5)[:, None] * 0.02
    counts = rng.poisson(np.broadcast_to(rate, (n_conditions, n_trials, *x.shape[1:]))) / 0.02

    def mean(weights: np.ndarray) -> np.ndarray:
        return smooth(np.einsum("ck,cktn->ctn", weights, counts) / n_trials, SMOOTH_S / 0.02, axis=1).astype("f4")

    drawn = rng.multinomial(n_trials, np.full(n_trials, 1 / n_trials), size=(draws, n_conditions))
    first, dims = (u != 0).any(axis=0).argmax(axis=0), ("condition", "time", "neuron")
    names = network["input"].values.tolist()
    coords = {name: network[name] for name in ("condition", "time", "neuron", "area")}
    coords |= {name: ("condition", u[:, first[k], k].astype(float)) for k, name in enumerate(names)}
    data = {
        "rate": (dims, mean(np.ones((n_conditions, n_trials)))),
        "rate_draw": (("draw", *dims), np.stack([mean(weights) for weights in drawn])),
        "n_trials": (("condition", "neuron"), np.full((n_conditions, x.shape[2]), n_trials)),
    }
    at = [(0.02 * start - 0.01, 0.02 * start + 0.39) for start in first]
    inputs = [nl.Input(name, column=name, window_s=window) for name, window in zip(names, at, strict=True)]
    return xr.Dataset(data, coords, {"bin_s": 0.02, "smooth_s": SMOOTH_S}), inputs


def _held_of(ranks: list[list[int]], seed: int) -> tuple[float, float, float, float]:
    """Shares of the true sizes and drives that have an interval, and of these that are in theirs; NaN without any.

    Those below a tenth of the largest of their block do not count.
    """
    network = mock_areas(ranks, n_neurons=PER_AREA * len(ranks), n_conditions=RECORDED[0], seed=seed)[1]
    recording, inputs = recorded(network, seed)
    prepare = partial(nl.prepare, inputs=inputs, center=(-0.01, 0.05), time_course=False, scale=GAIN)
    fit = nl.fit_lint(prepare(recording), rank=1, tau_s=0.1, areas="area", block_ranks=block_ranks(ranks))
    found = nl.currents(fit, bootstrap=nl.bootstrap(fit, recording, prepare=prepare, draws=2, simulations=SIMULATIONS))
    m, n = canonical_blocks(blocks_of(network), network["m"].values, network["n"].values)
    turn = turn_to(fit, m)
    true = nl.currents(network.assign(m=(network["m"].dims, m @ turn), n=(network["n"].dims, n @ turn)))
    shares = []
    for name, over in (("size", ["time"]), ("drive", ["condition", "time"])):
        value, low, high = true[name], found[f"{name}_low"], found[f"{name}_high"]
        there = np.abs(value) > 0.1 * np.abs(value).max(over)
        if name == "size":
            there &= value["sender"] != "inputs"
        there, given = there.values, there.values & np.isfinite(low.values)
        held = ((low.values <= value) & (value <= high.values)).values[given]
        shares += [given.sum() / there.sum(), held.mean() if held.size else np.nan]
    return tuple(map(float, shares))


def ranges() -> None:
    """How many of the true currents the intervals of 90 % hold (goal: .85 to .95)."""
    for kind in ("feed forward", "all"):
        with workers() as pool:
            found = np.array(list(pool.map(partial(_held_of, TWO[kind]), RANGE_SEEDS)))
        for name, (given, held) in zip(("sizes", "drives"), np.split(found.T, 2), strict=True):
            print(
                f"two areas, {kind}: {name} have an interval in {given.mean():.2f}; intervals hold "
                f"{np.nansum(given * held) / given.sum():.2f} (goal .85 to .95); by seed {held.round(2).tolist()}",
                flush=True,
            )


def _curbd() -> Any:
    """The module of CURBD from its folder; None where it is not given. Its names of numpy are those before numpy 2."""
    folder = os.environ.get("CURBD_FOLDER")
    if folder is None:
        return None
    for name, value in (("NaN", np.nan), ("object", object)):
        setattr(np, name, value)
    sys.path.insert(0, folder)
    return importlib.import_module("curbd")


def _true_of_curbd(sim: dict[str, Any]) -> dict[tuple[str, str], np.ndarray]:
    """The currents of its simulation, (neuron, time), by target and sender."""
    rates = {name: sim[f"R{name.lower()}"] for name in "ABC"}
    found = {(name, name): sim[f"J{name.lower()}"] @ rates[name] for name in "ABC"}
    amplitude = 0.02  # of its function, which does not return it
    return found | {(b, a): amplitude * sim[f"w_{a}2{b}"] * rates[a] for a in "ABC" for b in "ABC" if a != b}


def _ours_of_curbd(sim: dict[str, Any]) -> tuple[dict[tuple[str, str], np.ndarray], float]:
    """Currents of a regression with areas on the same rates, and the share of the activity that it explains.

    The trial is cut into ten conditions. Blocks have rank 10 inside an area and rank 1 between areas.
    """
    rates = np.concatenate([sim["Ra"], sim["Rb"], sim["Rc"]])
    x = np.arctanh(np.clip(rates, -0.999, 0.999)).T
    parts, length = 10, len(x) // 10
    names = np.repeat(list("ABC"), len(rates) // 3)
    coords = {
        "condition": [f"part {k}" for k in range(parts)],
        "time": 0.01 * np.arange(length),
        "area": ("neuron", names),
    }
    coords |= {"neuron": [f"n{k}" for k in range(len(names))], "input": ["none"]}
    u = np.zeros((parts, length, 1), np.float32)
    y = x[: parts * length].reshape(parts, length, -1).astype(np.float32)
    activity = xr.Dataset(
        {"activity": (("condition", "time", "neuron"), y), "u": (("condition", "time", "input"), u)}, coords=coords
    ).assign_attrs(bin_s=0.01)
    ranks = {f"{a}<-{a}": 10 for a in "ABC"}
    fit = nl.fit_lint(
        activity, rank=1, block_ranks=ranks, areas="area", tau_s=0.1, method="regression", initial="condition",
        ridge_by="innovations", test_size=1,
    )  # fmt: skip
    drive, found = rates.T @ fit["n"].values / len(names), {}
    for a in "ABC":
        for b in "ABC":
            own = (fit["to_area"].values == a) & (fit["from_area"].values == b)
            found[a, b] = fit["m"].values[names == a][:, own] @ drive[:, own].T
    return found, float(fit["r2"][0])


def curbd() -> None:
    """CURBD on its own example of three areas, and ours on the same rates: correlation with the true currents."""
    module = _curbd()
    if module is None:
        print("CURBD_FOLDER is not set: CURBD was not run", flush=True)
        return
    runs = int(os.environ.get("CURBD_RUNS", "10"))  # its example has 500; ten explain .994
    np.random.seed(0)  # noqa: NPY002 (its code draws from the global generator)
    sim = module.threeRegionSim(number_units=100, plotSim=False)
    true, start = _true_of_curbd(sim), time.perf_counter()
    rates = np.concatenate([sim["Ra"], sim["Rb"], sim["Rc"]])
    regions = np.array([[name, np.arange(100 * k, 100 * k + 100)] for k, name in enumerate("ABC")], dtype=object)
    model = module.trainMultiRegionRNN(
        rates, dtData=0.01, dtFactor=5, tauRNN=0.1, nRunTrain=runs, nRunFree=5, regions=regions, verbose=False,
        plotStatus=False,
    )  # fmt: skip
    took = time.perf_counter() - start
    sampled = np.abs(model["tRNN"][:, None] - model["tData"]).argmin(axis=0)
    theirs = {
        (a, b): (model["J"][100 * i : 100 * i + 100, 100 * k : 100 * k + 100]
                 @ model["RNN"][100 * k : 100 * k + 100])[:, sampled]
        for i, a in enumerate("ABC") for k, b in enumerate("ABC")
    }  # fmt: skip
    start = time.perf_counter()
    ours, explained = _ours_of_curbd(sim)
    lines = (
        (f"CURBD, {runs} runs, {took:.0f} s, explains {model['pVars'][-1]:.3f}", theirs),
        (f"ours, {time.perf_counter() - start:.0f} s, explains {explained:.3f} in free runs", ours),
    )
    for name, found in lines:
        for what, same in (("inside areas", True), ("between areas", False)):
            pairs = [pair for pair in true if (pair[0] == pair[1]) is same]
            far = [np.corrcoef(found[pair].ravel(), true[pair].ravel())[0, 1] for pair in pairs]
            size = [found[pair].std() / true[pair].std() for pair in pairs]
            print(
                f"{name}: {what}, correlation with the true currents {', '.join(f'{one:.2f}' for one in far)}; size "
                f"relative to the true one {', '.join(f'{one:.1f}' for one in size)}",
                flush=True,
            )


SECTIONS: dict[str, Callable[[], None]] = {
    "currents": currents,
    "blocks": blocks,
    "one_area": one_area,
    "blocks_of_trials": blocks_of_trials,
    "ranges": ranges,
    "curbd": curbd,
}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
