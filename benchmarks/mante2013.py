"""Held-out R² of real prefrontal recordings: ours, the published training loop, and regressions, on the same folds.

`python benchmarks/mante2013.py [RECIPE] [--ranks 1:5] [--folds 9] [--epochs 50]`; RECIPE is examples/mante2013.toml by
default, whose files are ../shared/data/mante2013 beside the checkout. All conditions are cross-validated; centring,
components and scale are estimated on the training conditions of each fold. The ceiling is what the true means would
score against these means, by halves of the trials. Seconds are those of one fit, without reading and preparing.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

import numpy as np
import xarray as xr

import nwb_lint as nl
from nwb_lint.pipeline import NOT_OF_ONE_FIT, Preparation
from nwb_lint.recipe import load_recipe

RECIPE = Path(__file__).resolve().parents[1] / "examples" / "mante2013.toml"


def with_choice(recording: xr.Dataset) -> xr.Dataset:
    """The choice on correct trials: the sign of the coherence that the context names."""
    relevant = np.where(recording["context"] == "motion", recording["motion"], recording["color"])
    return recording.assign_coords(choice=("condition", np.sign(relevant.astype(float))))


def folds_of(
    prepare: Preparation, rank: int, tau_s: float, folds: int, **options
) -> tuple[np.ndarray, np.ndarray, float]:
    """Held-out R² and ceiling per fold, and the mean seconds of a fit."""
    spent = 0.0

    def timed(*chosen):
        nonlocal spent
        start = perf_counter()
        prepared = prepare(*chosen)
        spent += perf_counter() - start
        return prepared

    start = perf_counter()
    table = nl.select_rank(timed, ranks=[rank], tau_s=tau_s, folds=folds, **options)
    seconds = (perf_counter() - start - spent) / folds
    held = table.sel(split="held_out")
    return held["r2"].values.ravel(), held["r2_ceiling"].values.ravel(), seconds


def main() -> None:
    """Print a row per model, then the references."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=RECIPE)
    parser.add_argument("--ranks", default="1:5")
    parser.add_argument("--folds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=50)
    asked = parser.parse_args()
    os.chdir(asked.recipe.parent)
    recipe = load_recipe(asked.recipe.name)
    low, _, high = asked.ranks.partition(":")
    read = recipe.read.model_dump()
    recording = with_choice(nl.read_conditions(recipe.sources, halves=True, seed=recipe.fit.seed, **read))
    prepare = Preparation(recording, recipe.given_inputs(), recipe.prepare.model_dump())
    options = recipe.fit.model_dump(exclude=NOT_OF_ONE_FIT)
    plain = {"seed": options.pop("seed"), "tau_s": recipe.fit.tau_s, "folds": asked.folds}
    shared = {"tau_s": recipe.fit.tau_s, "folds": asked.folds}
    print(f"{recording.sizes['neuron']} units, {recording.sizes['condition']} conditions, {asked.folds} folds")
    print(f"{'rank':>4}  {'ours':>15}  {'s a fit':>7}  {'published loop':>15}  {'s a fit':>7}  {'R² ours − loop':>14}")
    for rank in range(int(low), int(high or low) + 1):
        ours, top, seconds = folds_of(prepare, rank, **shared, **options)
        loop, _, slow = folds_of(prepare, rank, **shared, method="published", epochs=asked.epochs)
        error = [f"{r2.mean():6.3f} ± {r2.std(ddof=1) / np.sqrt(len(r2)):.3f}" for r2 in (ours, loop)]
        print(f"{rank:4d}  {error[0]:>15}  {seconds:7.2f}  {error[1]:>15}  {slow:7.2f}  {(ours - loop).mean():14.3f}")
    print(f"ceiling {top.mean():.3f}")
    for columns in ((), ("choice",)):
        table = nl.baselines(prepare, rank=1, columns=columns, method="regression", **plain)
        row = table["baseline_r2"].sel(baseline="regression", split="held_out")
        print(f"regression at every time on the inputs{' and choice' * bool(columns)}: {float(row):.3f}")


if __name__ == "__main__":
    main()
