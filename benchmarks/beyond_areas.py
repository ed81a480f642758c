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
from typing import Any

import numpy as np
import xarray as xr
from sections import run_sections

import nwb_lint as nl
from nwb_lint.testing import mock_areas

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


def currents() -> None:
    """R² of the currents, with known blocks (goal: .95 or more)."""
    for count, kinds in (("two", TWO), ("three", THREE)):
        for name, noise in NOISES.items():
            for kind in [one for one in kinds if one in FITTED]:
                ranks, found = kinds[kind], []
                for seed in SEEDS:
                    activity, network = simulated(ranks, seed, **noise)
                    fit = nl.fit_lint(
                        activity, rank=1, tau_s=0.1, areas="area", block_ranks=block_ranks(ranks), test_size=HELD_OUT
                    )
                    found.append(currents_r2(fit, network))
                words = ("free runs", "at the true activations", "there of the worst block")
                print(f"{count} areas, {kind}, {name}: R² of currents", flush=True)
                for what, values in zip(words, np.array(found).T, strict=True):
                    print(
                        f"    {what}: median {np.median(values):.3f}, least {values.min():.3f}, "
                        f"{int((values >= 0.95).sum())} of {len(values)} at .95 or more",
                        flush=True,
                    )


def _chosen(activity: xr.Dataset, ranks: tuple[int, ...]) -> tuple[bool, np.ndarray]:
    """Whether one block is chosen, and the ranks of the choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = nl.select_areas(activity, areas="area", ranks=ranks, tau_s=0.1)
    one = found.isel(candidate=found.attrs["chosen"])
    return bool(one["one_block"]), one["block_rank"].values


def blocks() -> None:
    """How often the right blocks are chosen (goal: 9 of 10), by the choice on held-out conditions."""
    for count, kinds in (("two", TWO), ("three", THREE)):
        for name, noise in NOISES.items():
            for kind, ranks in kinds.items():
                start, right, wrong = time.perf_counter(), 0, []
                for seed in SEEDS:
                    one_block, found = _chosen(simulated(ranks, seed, **noise)[0], (1, max(map(max, ranks))))
                    if not one_block and np.array_equal(found, ranks):
                        right += 1
                    else:
                        wrong.append("one block" if one_block else str(found.tolist()))
                took = (time.perf_counter() - start) / len(SEEDS)
                print(
                    f"{count} areas, {kind} {ranks}, {name}: right in {right} of {len(SEEDS)}, {took:.0f} s each"
                    + (f"; else {'; '.join(wrong)}" if wrong else ""),
                    flush=True,
                )


def one_area() -> None:
    """How often one area, whose neurons are named at random, is mistaken for two or three (goal: at most 1 of 10)."""
    for count in (2, 3):
        for name, noise in NOISES.items():
            for rank in (1, 2):
                wrong = []
                for seed in SEEDS:
                    activity, _ = mock_areas(
                        [[rank]], n_neurons=PER_AREA * count, n_conditions=CONDITIONS, seed=seed, **noise
                    )
                    names = np.array(list("ABC"))[np.random.default_rng(seed).permutation(PER_AREA * count) % count]
                    one_block, found = _chosen(activity.assign_coords(area=("neuron", names)), (1, 2))
                    if not one_block:
                        wrong.append(str(found.tolist()))
                print(
                    f"one area of rank {rank}, called {count}, {name}: mistaken in {len(wrong)} of {len(SEEDS)}"
                    + (f": {'; '.join(wrong)}" if wrong else ""),
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
    runs = int(os.environ.get("CURBD_RUNS", "500"))
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
    "curbd": curbd,
}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
