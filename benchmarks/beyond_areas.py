"""Several areas: currents of simulated networks of two and three areas, the choice of blocks, and CURBD beside it.

CURBD (Perich et al., bioRxiv 2020.12.18.423348) runs from a copy of github.com/rajanlab/CURBD whose folder the
environment variable CURBD_FOLDER names; without it the sections that need it say so.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

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
SEEDS = range(100, 110)
HELD_OUT = 0.2


def simulated(ranks: list[list[int]], seed: int, **noise: float) -> tuple[xr.Dataset, xr.Dataset]:
    """Activity and network of areas with these blocks."""
    return mock_areas(ranks, n_neurons=PER_AREA * len(ranks), n_conditions=CONDITIONS, seed=seed, **noise)


def block_ranks(ranks: list[list[int]]) -> dict[str, int]:
    """Ranks as `fit_lint` takes them."""
    names = "ABCDE"
    return {f"{names[a]}<-{names[b]}": rank for a, row in enumerate(ranks) for b, rank in enumerate(row)}


def currents_r2(fit: xr.Dataset, network: xr.Dataset) -> tuple[float, float]:
    """R² of the currents between areas in held-out conditions: of all, and of the worst block that there is."""
    held = fit["held_out"].values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, true = (nl.currents(one)["current"].values[held][..., :-1].astype(float) for one in (fit, network))
    area, names = network["area"].values, np.unique(network["area"].values)
    each = []
    for to in names:
        for k in range(len(names)):
            own = true[:, :, area == to, k]
            if own.any():
                each.append(1 - ((found[:, :, area == to, k] - own) ** 2).sum() / (own**2).sum())
    return 1 - ((found - true) ** 2).sum() / (true**2).sum(), min(each)


def currents() -> None:
    """R² of the currents, with known blocks (goal: .95 or more)."""
    for count, kinds in (("two", TWO), ("three", THREE)):
        for name, noise in NOISES.items():
            for kind, ranks in kinds.items():
                found = []
                for seed in SEEDS:
                    activity, network = simulated(ranks, seed, **noise)
                    fit = nl.fit_lint(
                        activity, rank=1, tau_s=0.1, areas="area", block_ranks=block_ranks(ranks), test_size=HELD_OUT
                    )
                    found.append(currents_r2(fit, network))
                whole, worst = np.array(found).T
                print(
                    f"{count} areas, {kind}, {name}: R² of currents median {np.median(whole):.3f}, least "
                    f"{whole.min():.3f}, {int((whole >= 0.95).sum())} of {len(whole)} at .95 or more; of the worst "
                    f"block median {np.median(worst):.3f}, least {worst.min():.3f}",
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


SECTIONS: dict[str, Callable[[], None]] = {"currents": currents, "blocks": blocks, "one_area": one_area}

if __name__ == "__main__":
    run_sections(SECTIONS, __doc__)
