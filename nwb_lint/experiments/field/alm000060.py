"""One real session of premotor cortex, spikes of single trials: co-smoothing by rank, beside four other models.

257 trials of 150 bins of 50 ms, 51 units. On each of three splits, 51 trials are held out, and 13 units of these trials
are predicted from the other 38, in bits per spike.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nwb_lint.errors import ContractError
from nwb_lint.experiments.field.published import ALM000060, NOTES
from nwb_lint.experiments.frame import Cell, Claims, Comparison, Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import save_with_results
from nwb_lint.nwb.convert.arrays import from_arrays
from nwb_lint.nwb.extension.read import read_fit
from nwb_lint.statespace.fit import fit_trials
from nwb_lint.statespace.scores import bits_per_spike, gained_bits
from nwb_lint.validation.rank import select_rank

Array = np.ndarray

NEEDED = (
    "It needs counts_50ms.npz with the spike counts of a session of DANDI:000060: count (257 trials, bins of 50 ms, 51 "
    "units). Name its folder with --data."
)
FILE, BIN_S, BINS, TRIALS = "counts_50ms.npz", 0.05, 150, 257
SEEDS = (0, 1, 2)
TAU_S = 0.2
RANKS = (6, 8, 10)
# of the choice of a rank: too few iterations for the last .01 bits, but they keep the order of ranks
CHOICE = {"folds": 2, "max_iter": 12}
SMOOTHING = (0.4, 0.7, 1.0, 2.0)  # sd in bins, of the regression; the best on training trials is taken
MEAN_SD = 1.0  # sd in bins, of the mean over trials
PENALTIES = (1e-3, 1e-2, 1e-1)
LEAST_RATE = 1e-3  # expected count of a bin
DRAWN_TRIALS = 3


class Split(NamedTuple):
    """Training and test trials, the units held out in the test trials, and how models are fitted to them."""

    train: xr.Dataset
    test: xr.Dataset
    held: Array
    how: dict[str, Any]


def session_in(folder: Path) -> Array:
    """Counts (trial, time, unit) of the session; ContractError without its file."""
    if not (folder / FILE).is_file():
        raise ContractError(f"There is no {FILE} in {folder}. {NEEDED}")
    with np.load(folder / FILE) as stored:
        return stored["count"][:, :BINS]


def simulated_session(seed: int = 0) -> Array:
    """Counts (trial, time, unit) of a small session with two latents that turn, for quick runs."""
    rng = np.random.default_rng(seed)
    m, kappa, path = 0.8 * rng.standard_normal((20, 2)), rng.standard_normal((40, 2)), []
    turn = 0.98 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    for _ in range(40):
        path.append(kappa)
        kappa = kappa @ turn + 0.2 * rng.standard_normal(kappa.shape)
    return rng.poisson(np.minimum(0.4 * np.exp(np.stack(path, axis=1) @ m.T), 8.0))


def split_of(counts: Array, seed: int) -> Split:
    """The reference split of a seed: a fifth of the trials, and a fourth of the units in them."""
    rng = np.random.default_rng(seed)
    order, units = rng.permutation(len(counts)), rng.permutation(counts.shape[2])
    n_test, n_held = len(counts) // 5, -(-counts.shape[2] // 4)
    time = BIN_S * (np.arange(counts.shape[1]) + 0.5)
    trials = from_arrays(count=counts.astype(np.uint16), time=time, trials=np.arange(len(counts)), bin_s=BIN_S)
    train, test = (trials.isel(trial=np.sort(some)) for some in (order[n_test:], order[:n_test]))
    return Split(train, test, np.sort(units[:n_held]), {})


# -- models -----------------------------------------------------------------------------------------------------------


def bits_of_rates(expected: Array, split: Split) -> float:
    """Bits per spike of the held-out units in the test trials from their expected counts (trial, time, held)."""
    y = split.test["count"].values[..., split.held].astype(float)
    log_exposure = np.full(y.shape[:2], np.log(BIN_S))
    bits, spikes = gained_bits(np.maximum(expected, LEAST_RATE) / BIN_S, y, None, log_exposure)
    return float(bits.sum() / spikes.sum())


def mean_course(split: Split) -> float:
    """Bits per spike of the smoothed mean over training trials, by time: the session has no labels of conditions."""
    mean = gaussian_filter1d(split.train["count"].values[..., split.held].mean(axis=0), MEAN_SD, axis=0)
    return bits_of_rates(np.broadcast_to(mean, (split.test.sizes["trial"], *mean.shape)), split)


def smoothed_regression(split: Split) -> float:
    """Bits per spike of a Poisson regression of each held-out unit on the smoothed counts of the other units.

    Width and penalty are those of the largest bits on a fifth of the training trials.
    """
    size = split.train.sizes["trial"]
    inner = split._replace(
        train=split.train.isel(trial=slice(None, size - size // 5)),
        test=split.train.isel(trial=slice(size - size // 5, None)),
    )
    tried = {(sd, p): bits_of_rates(_regression(inner, sd, p), inner) for sd in SMOOTHING for p in PENALTIES}
    return bits_of_rates(_regression(split, *max(tried, key=lambda one: tried[one])), split)


def _regression(split: Split, sd: float, penalty: float) -> Array:
    seen = np.setdiff1d(np.arange(split.train.sizes["neuron"]), split.held)

    def features(trials: xr.Dataset) -> Array:
        smooth = gaussian_filter1d(trials["count"].values[..., seen].astype(float), sd, axis=1)
        return np.log(smooth + 0.1).reshape(-1, len(seen))

    x, new = features(split.train), features(split.test)
    columns = []
    for unit in split.held:
        model = make_pipeline(StandardScaler(), PoissonRegressor(alpha=penalty, max_iter=200))
        columns.append(model.fit(x, split.train["count"].values[..., unit].ravel().astype(float)).predict(new))
    return np.stack(columns, axis=-1).reshape(split.test.sizes["trial"], -1, len(split.held))


def network_bits(split: Split, **options: Any) -> tuple[float, xr.Dataset, float]:
    """Bits per spike of a fit to the training trials, the fit, and its seconds."""
    start = perf_counter()
    fit = fit_trials(split.train, **{"tau_s": TAU_S, **split.how, **options})
    seconds = perf_counter() - start
    return float(bits_per_spike(fit, split.test, neurons=split.held)["co_smoothing"]), fit, seconds


def choose_rank(split: Split, ranks: tuple[int, ...], **options: Any) -> xr.Dataset:
    """The table of `select_rank` on the training trials alone, by co-smoothing."""
    return select_rank(split.train, ranks=list(ranks), **{"tau_s": TAU_S, **CHOICE, **split.how, **options})


# -- parts ------------------------------------------------------------------------------------------------------------

COLUMNS = ("quantity", "model", "seed", "trials", "rank", "value")
CHOSEN, OURS, LINEAR = "network, chosen rank", "network, given rank", "linear dynamics"
REGRESSION, MEANS = "smoothing, regression", "mean over trials"
QUICK_RANK = 2


def measure(
    data: Array, *, model: str, seed: int, rank: int, ranks: tuple[int, ...], how: dict[str, Any], fits: str
) -> Result:
    """Bits per spike of one model on one split; of the chosen rank also those by rank."""
    split = split_of(data, seed)._replace(how=how)
    rows: list[tuple[str, int, float]] = []
    if model in (REGRESSION, MEANS):
        bits = smoothed_regression(split) if model == REGRESSION else mean_course(split)
        rows.append(("bits per spike", 0, bits))
    else:
        options: dict[str, Any] = {"nonlinearity": "linear", "hidden": 0} if model == LINEAR else {}
        if model == CHOSEN:
            table = choose_rank(split, ranks)
            rank = int(table.attrs["rank"])
            tried = zip(ranks, table["rank_bits"].sel(split="held_out").values, strict=True)
            rows += [("bits per spike on training trials, by rank", r, float(bits)) for r, bits in tried]
        bits, fit, seconds = network_bits(split, rank=rank, **options)
        rows += [("bits per spike", rank, bits), ("seconds of the fit", rank, seconds)]
        if model == CHOSEN:
            save_drawn(split, fit, Path(fits), seed)
    made = [(quantity, model, seed, len(data), r, value) for quantity, r, value in rows]
    return {name: np.array(column) for name, column in zip(COLUMNS, zip(*made, strict=True), strict=True)}


def save_drawn(split: Split, fit: xr.Dataset, folder: Path, seed: int) -> None:
    """The fit with the latents of a few trials, and the test trials of the figure."""
    few = fit.isel(condition=slice(None, 40))
    save_with_results(few, folder / f"alm000060_split{seed}.nwb", {})
    np.save(folder / f"alm000060_split{seed}.npy", split.test["count"].values[:DRAWN_TRIALS])


def tasks(setting: Setting) -> Tasks:
    """Quick: one split of a simulated session, or a part of the session in the folder. Full: three splits of it."""
    if setting.data is None and not setting.quick:
        raise ContractError(f"alm000060 has no folder of the session. {NEEDED}")
    counts = simulated_session() if setting.data is None else session_in(setting.data)
    shared: dict[str, Any] = {"rank": 6, "ranks": RANKS, "how": {}, "fits": str(setting.fits)}
    seeds: tuple[int, ...] = SEEDS
    if setting.quick:
        counts, seeds = counts[:60, :60], (0,)
        shared |= {"rank": QUICK_RANK, "ranks": (1, 2), "how": {"max_iter": 4, "hidden": 0}}
    models = (CHOSEN, OURS, LINEAR, REGRESSION, MEANS)
    return [(counts, {"model": model, "seed": seed} | shared) for seed in seeds for model in models]


def _bits(table: pd.DataFrame) -> pd.DataFrame:
    """Bits per spike (split, model)."""
    some = table[table["quantity"] == "bits per spike"]
    return some.pivot_table(index="seed", columns="model", values="value")


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Bits per spike by model, and by rank on training trials; a line for each split."""
    some = table[table["quantity"].str.startswith("bits")]
    by_rank = some["quantity"].str.endswith("by rank")
    panel = np.where(by_rank, "bits per spike by rank, training trials", "bits per spike, test trials")
    x = some["rank"].where(by_rank, some["model"])
    return pd.DataFrame({"panel": panel, "line": "split " + some["seed"].astype(str), "x": x, "y": some["value"]})


def compare(table: pd.DataFrame) -> Comparison:
    """Our fits beside the numbers that were found on the same splits of the whole session."""
    rows: list[Cell] = []
    if (table["trials"] < TRIALS).any():
        return rows
    for seed, ours in _bits(table).iterrows():
        known = ALM000060.get(int(str(seed)))
        if known is None:
            continue
        for model in (CHOSEN, OURS):
            if model in ours and np.isfinite(ours[model]):
                name = f"split {seed}, {model}, beside {REGRESSION}: bits per spike"
                rows.append(Cell(name, known[REGRESSION], float(ours[model])))
        for model in (REGRESSION, MEANS, LINEAR):
            if model in known and model in ours and np.isfinite(ours[model]):
                rows.append(
                    Cell(
                        f"split {seed}, {model}, computed here: bits per spike", known[model], float(ours[model]), None
                    )
                )
    return rows


def claims(table: pd.DataFrame) -> Claims:
    """The network is above every other model on every split."""
    bits, found = _bits(table), []
    for model in (REGRESSION, MEANS, LINEAR):
        for ours in (CHOSEN, OURS):
            if {model, ours} <= set(bits.columns):
                detail = ", ".join(f"{a:.3f} and {b:.3f}" for a, b in zip(bits[ours], bits[model], strict=True))
                found.append(
                    (f"{ours} is above {model} on every split ({detail})", bool((bits[ours] > bits[model]).all()))
                )
    return found


def draw(table: pd.DataFrame, fits: Path) -> Any:
    """Spikes of test trials over the predicted rates, latents of single trials, and bits per spike by rank."""
    from nwb_lint.plot.experiments import trials_and_ranks

    seed = int(table["seed"].min())
    fit = read_fit(fits / f"alm000060_split{seed}.nwb")
    counts = np.load(fits / f"alm000060_split{seed}.npy")
    time = BIN_S * (np.arange(counts.shape[1]) + 0.5)
    trials = from_arrays(count=counts, time=time, trials=np.arange(len(counts)), bin_s=BIN_S)
    trials = trials.assign_coords(neuron=fit["neuron"].values[fit["recorded"].values])
    return trials_and_ranks(fit, trials, figure_table(table))


EXPERIMENT = Experiment(
    title="A real session: spikes of single trials (DANDI:000060)",
    labels=("", "bits per spike"),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["alm000060"],
    compare=compare,
    draw=draw,
)
