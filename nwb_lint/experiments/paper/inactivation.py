"""Test of predicted inactivations: the same neurons are silenced in a trained network and in fits of its recording."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.inactivation import groups_of, predict_inactivation
from nwb_lint.analysis.populations import find_populations
from nwb_lint.errors import ContractError
from nwb_lint.experiments.frame import Claims, Experiment, Result, Setting, Tasks
from nwb_lint.experiments.measures import QUICK_ERROR, TRAINING_ERROR, noise_free_rates, rates_r2, save_fit, trained
from nwb_lint.experiments.paper.published import NOTES
from nwb_lint.model.fit import fit_lint
from nwb_lint.model.network import Array
from nwb_lint.model.simulate import simulate
from nwb_lint.tasks.record import record_activity

RANKS: tuple[int | None, ...] = (1, 2, 5, None)
# The free run of the intact network leaves some weights undetermined. They have no effect on its activity, but on that
# of the silenced network. Innovations, the fluctuations that neurons pass on to each other, determine them.
CHOICES = ("held_out", "innovations")
AIM = 0.9
_SILENCED = 0.1  # fraction of the neurons
_TEST_TRIALS = 100


def inactivation_test(
    network: xr.Dataset,
    *,
    n_trials: int = 800,
    observation_noise: float = 0.0,
    n_random: int = 50,
    ranks: Sequence[int | None] = RANKS,
    seed: int = 0,
    fits: Path | None = None,
) -> pd.DataFrame:
    """Compare predicted and true effects of silencing groups of neurons of a known network.

    The recording of the network has noisy trials. It is fitted at every rank, with the ridge chosen in every way of
    `CHOICES`. Random groups of 10 % of the neurons, and the populations of the rank-2 fit (or of the first rank), are
    silenced in the fits and in the network, without noise, on new trials.

    Parameters
    ----------
    network : xarray.Dataset
        From `nwb_lint.tasks.train.train_network`, of the task "cdm", with a readout.
    n_trials : int, default=800
        Number of noisy trials that are fitted.
    observation_noise : float, default=0.0
        Standard deviation of the noise on the activity, relative to that of the activity.
    n_random : int, default=50
        Number of random groups.
    ranks : sequence of int or None, default=(1, 2, 5, None)
        Ranks to fit. None is the unconstrained fit.
    seed : int, default=0
        Seed of the trials, the fits and the groups.
    fits : pathlib.Path or None, default=None
        Folder for the fits.

    Returns
    -------
    pandas.DataFrame
        A row for each rank, choice and group: g, trials, noise, rank (0 = unconstrained), chosen_by, stages (with their
        ridges), r2_intact (of the rates on new trials), kind ("random" or "population"), group, neurons, correlation
        (Pearson, of the predicted with the true mean change of activity, over trials and the other neurons),
        effect_true, effect_predicted, and accuracy_{true,predicted,intact}_{context}.

    Raises
    ------
    ContractError
        If the network has another task, or no readout.
    """
    if network.attrs.get("task") != "cdm" or "readout" not in network:
        raise ContractError(f"The task of the network is {network.attrs.get('task')!r}. It needs cdm and a readout.")
    activity = record_activity(network, n_trials, observation_noise=observation_noise, seed=seed + 1)
    tested = record_activity(network, _TEST_TRIALS, private_noise=0.0, seed=seed + 2)
    rates, tau_s = noise_free_rates(network, tested), float(network.attrs["tau_s"])
    made = {
        (rank, by): fit_lint(
            activity, rank=rank, tau_s=tau_s, ridge_by=by, test_conditions=_test_trials(n_trials), seed=seed
        )
        for by in CHOICES
        for rank in ranks
    }
    groups = _groups(network, made[2 if 2 in ranks else ranks[0], "innovations"], n_random, seed)
    silenced = partial(
        predict_inactivation, groups=groups, u=tested, readout=network["readout"], answer="answer",
        context="context", controls=0,
    )  # fmt: skip
    true = silenced(network)
    rows = []
    for (rank, by), fit in made.items():
        found, g = silenced(fit), network.attrs["g"]
        facts = {"g": g, "trials": n_trials, "noise": observation_noise, "rank": rank or 0, "chosen_by": by}
        facts["stages"] = _stages(fit)
        facts["r2_intact"] = rates_r2(rates, simulate(fit, tested)["activity"].values)
        rows += [facts | row for row in agreement(true, found)]
        if fits is not None:
            save_fit(fit, str(fits), f"inactivation_g{g:g}_noise{observation_noise:g}_rank{rank or 0}_{by}")
    return pd.DataFrame(rows)


def _test_trials(n_trials: int) -> Array:
    """Positions of the last few trials, which a saved fit predicts without having seen them."""
    return np.arange(n_trials - 8, n_trials)


def _stages(fit: xr.Dataset) -> str:
    """Stages of the fit and the ridges that they chose."""
    pairs = zip(fit["stage"].values.astype(str), fit["stage_ridge"].values, strict=True)
    return ", ".join(name if np.isnan(ridge) else f"{name} {ridge:g}" for name, ridge in pairs)


def _groups(network: xr.Dataset, fit: xr.Dataset, n_random: int, seed: int) -> dict[str, Array]:
    """Random groups, and the populations of a fit by three methods."""
    size, rng = network.sizes["neuron"], np.random.default_rng([seed, 9])
    groups = {}
    for k in range(n_random):
        mask = np.zeros(size, bool)
        mask[rng.permutation(size)[: round(_SILENCED * size)]] = True
        groups[f"random {k}"] = mask
    for method, n_groups in (("strongest_input", None), ("small_weights", None), ("em", 3)):
        if method == "strongest_input" or "m" in fit:
            found = find_populations(fit, method=method, n_groups=n_groups, resamples=1, seed=seed)
            groups |= {f"{method}, {name}": mask for name, mask in groups_of(fit, found).items()}
    return groups


def agreement(true: xr.Dataset, found: xr.Dataset) -> list[dict[str, object]]:
    """A row for each group: agreement of the predicted with the true change in the neurons outside the group."""
    rows = []
    for k, group in enumerate(true["group"].values):
        others = true["factor"].values[k] == 1
        a, b = (one["activity_change"].values[k][:, others].ravel() for one in (true, found))
        row: dict[str, object] = {
            "kind": "random" if str(group).startswith("random") else "population",
            "group": str(group),
            "neurons": int((~others).sum()),
            "correlation": float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else np.nan,
            "effect_true": float(true["effect"][k]),
            "effect_predicted": float(found["effect"][k]),
        }
        for context in true["context"].values:
            row[f"accuracy_intact_{context}"] = float(true["accuracy_intact"].sel(context=context))
            row[f"accuracy_true_{context}"] = float(true["accuracy"].sel(context=context)[k])
            row[f"accuracy_predicted_{context}"] = float(found["accuracy"].sel(context=context)[k])
        rows.append(row)
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each g, trials, noise, rank, choice and kind of group: quantiles, and mean error of accuracy."""
    contexts = _contexts(table)
    errors = [(table[f"accuracy_predicted_{c}"] - table[f"accuracy_true_{c}"]).abs() for c in contexts]
    table = table.assign(error=pd.concat(errors, axis=1).mean(axis=1))
    return (
        table.groupby(["g", "trials", "noise", "rank", "chosen_by", "kind"], sort=False)
        .agg(
            stages=("stages", "first"),
            r2_intact=("r2_intact", "first"),
            groups=("group", "size"),
            median=("correlation", "median"),
            low=("correlation", lambda values: values.quantile(0.05)),
            high=("correlation", lambda values: values.quantile(0.95)),
            accuracy_error=("error", "mean"),
        )
        .reset_index()
    )


def _contexts(table: pd.DataFrame) -> list[str]:
    return [name.removeprefix("accuracy_true_") for name in table if name.startswith("accuracy_true_")]


def _name(rank: int) -> str:
    return "unconstrained" if rank == 0 else f"rank {rank}"


def measure(
    data: None, *, g: float, trials: int, noise: float, size: int, n_random: int, ranks: tuple[int | None, ...],
    error: float, fits: str,
) -> Result:  # fmt: skip
    """One network, tested with one kind of recording."""
    network = trained("cdm", size=size, g=g, seed=0, error=error)
    table = inactivation_test(
        network, n_trials=trials, observation_noise=noise, n_random=n_random, ranks=ranks, fits=Path(fits)
    )
    return {str(name): np.array(table[name].tolist()) for name in table}  # texts as texts, since nothing may be pickled


def tasks(setting: Setting) -> Tasks:
    """Quick: one small network, rank 1 and unconstrained. Full: g of 0.1 and 1. No run has observation noise."""
    fits = str(setting.fits)
    if setting.quick:
        some = {"size": 64, "trials": 100, "n_random": 6, "ranks": (1, None), "error": QUICK_ERROR}
        return [(None, some | {"g": 0.8, "noise": 0.0, "fits": fits})]
    some = {"size": 512, "trials": 800, "n_random": 50, "ranks": RANKS, "error": TRAINING_ERROR, "fits": fits}
    return [(None, {"g": g, "noise": noise} | some) for g, noise in ((0.1, 0.0), (1.0, 0.0))]


def figure_table(table: pd.DataFrame) -> pd.DataFrame:
    """Median correlation by rank, a panel for each recording and kind of group, a line for each choice of the ridge."""
    short = summary(table)
    panel = "g = " + short["g"].map("{:g}".format) + ", noise " + short["noise"].map("{:g}".format)
    names = [_name(rank).replace("rank ", "").replace("unconstrained", "free") for rank in short["rank"]]
    kinds = short["kind"].replace("population", "populations")
    return pd.DataFrame({"panel": panel + "\n" + kinds, "line": short["chosen_by"], "x": names, "y": short["median"]})


def claims(table: pd.DataFrame) -> Claims:
    """The aims: the unconstrained fit at g = 1, and rank 2 at g = 0.1, by each choice of the ridge."""
    short = summary(table)
    aims = (
        ("unconstrained at g = 1, random groups", 1.0, 0, "random"),
        ("rank 2 at g = 0.1, populations", 0.1, 2, "population"),
    )
    found = []
    for what, g, rank, kind in aims:
        some = short[(short["g"] == g) & (short["rank"] == rank) & (short["kind"] == kind) & (short["noise"] == 0)]
        for row in some.itertuples():
            claim = f"{what}, ridge by {row.chosen_by}: median correlation of {AIM} or more ({row.median:.3f})"
            found.append((claim, bool(row.median >= AIM)))
    return found


def report(table: pd.DataFrame) -> str:
    """Correlations, findings about the choice of the ridge, and accuracy by context with populations silenced."""
    short = summary(table)
    lines = [
        "The same neurons are silenced in full-rank networks trained on the context-dependent decision and in fits of "
        "their recordings, without noise, on new trials. Correlation: of the predicted with the true change of "
        "activity, over trials and the other neurons. Accuracy error: mean difference between predicted and true "
        "accuracy, over groups and contexts. Noise: standard deviation of the observation noise, relative to that of "
        "the activity. The ridge is chosen by the free run on held-out trials (`held_out`), or by held-out innovations "
        "(`innovations`).",
        "",
        "| g | trials | noise | rank | ridge by | stages and ridges | R² intact | groups "
        "| correlation, median (5–95 %) | accuracy error |",
        "|---" * 10 + "|",
    ]
    for row in short.itertuples():
        lines.append(
            f"| {row.g:g} | {row.trials} | {row.noise:g} | {_name(row.rank)} | {row.chosen_by} | {row.stages} "
            f"| {row.r2_intact:.4f} | {row.groups} {row.kind} | {row.median:.3f} ({row.low:.3f} to {row.high:.3f}) "
            f"| {row.accuracy_error:.3f} |"
        )
    lines += ["", *[f"- {line}" for line in findings(short)], "", *_accuracies(table)]
    return "\n".join(lines)


def findings(short: pd.DataFrame) -> list[str]:
    """What the table shows about rank and ridge."""
    lines = []
    for (g, noise), some in short[short["kind"] == "random"].groupby(["g", "noise"]):
        pairs = some.pivot_table(index="rank", columns="chosen_by", values="median", sort=False)
        both = zip(pairs.index, pairs["held_out"], pairs["innovations"], strict=True)
        detail = ", ".join(f"{_name(rank)} {before:.2f} → {after:.2f}" for rank, before, after in both)
        lines.append(f"Random groups, g = {g:g}, noise {noise:g}, held_out → innovations: {detail}.")
    keys = ["g", "noise", "rank", "kind"]
    pairs = short.pivot_table(index=keys, columns="chosen_by", values=["median", "r2_intact"])
    gained = (pairs["median"]["innovations"] - pairs["median"]["held_out"]).to_numpy()
    moved = pairs["r2_intact"]["innovations"] - pairs["r2_intact"]["held_out"]
    lines.append(
        f"Chosen by innovations, the median correlation rises by more than 0.02 in {int((gained > 0.02).sum())} of "
        f"{len(gained)} comparisons (by {gained.max():.2f} at most) and falls by more in {int((gained < -0.02).sum())} "
        f"(by {max(0.0, -gained.min()):.2f} at most), while R² of the intact rates moves by {moved.min():+.4f} to "
        f"{moved.max():+.4f}: intact activity does not distinguish these fits, inactivations do."
    )
    poor = short[(short["chosen_by"] == "innovations") & (short["rank"] > 0) & (short["median"] < AIM)]
    what = [
        f"rank {row.rank}, g = {row.g:g}, noise {row.noise:g}, {row.kind} {row.median:.2f}" for row in poor.itertuples()
    ]
    lines.append(f"Low rank is still below {AIM} in: {'; '.join(what) or 'none'}.")
    return lines


def _accuracies(table: pd.DataFrame) -> list[str]:
    """Accuracy of the network and the fits with populations silenced (figure 4c of the paper)."""
    some = table[(table["kind"] == "population") & (table["chosen_by"] == "innovations") & (table["noise"] == 0)]
    contexts, ranks = _contexts(table), list(some["rank"].unique())
    names = ["network", *map(_name, ranks)]
    lines = [f"Share of right answers in the contexts {' / '.join(contexts)}, ridge by innovations, no noise.\n"]
    lines += ["| g | silenced | neurons | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for (g, group), rows in some.groupby(["g", "group"], sort=False):
        cells = [" / ".join(f"{rows[f'accuracy_true_{c}'].iloc[0]:.2f}" for c in contexts)]
        for rank in ranks:
            one = rows[rows["rank"] == rank]
            cells.append(" / ".join(f"{one[f'accuracy_predicted_{c}'].iloc[0]:.2f}" for c in contexts))
        lines.append(f"| {g:g} | {group} | {rows['neurons'].iloc[0]} | " + " | ".join(cells) + " |")
    return lines


EXPERIMENT = Experiment(
    title="Are predicted inactivations right?",
    labels=("rank", "correlation"),
    work=measure,
    tasks=tasks,
    figure_table=figure_table,
    claims=claims,
    notes=NOTES["inactivation"],
    report=report,
)
