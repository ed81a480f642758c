"""How well a fit predicts, and the tables beside it: each score with its split and its ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from nwb_lint.model.scores import good_ranks
from nwb_lint.reports.items import Item, Table, number

R2 = "R²: the share of the variance that is explained; 1 is all, 0 no more than a constant explains."
_CEILING = "Ceiling: the R² that the true means would reach, since means of few trials are noisy."
_BITS = "Bits per spike: how much better the spikes are predicted than by each neuron's mean rate; 0 is no better."
_ERROR = "± s.e.: standard error over the folds."


def of_fit(fit: xr.Dataset) -> list[Item]:
    """Scores of a fit by split, what each input adds, and its caution."""
    if "noise_cov" in fit:
        return [_trial_scores(fit), _evidence(fit)]
    rank = fit.sizes.get("rank")
    title = "R² of the unconstrained fit" if rank is None else f"R² of the rank {rank} fit"
    columns = (fit[name].values for name in ("split", "r2", "r2_ceiling", "r2_median"))
    rows = [[str(split), *map(number, values)] for split, *values in zip(*columns, strict=True)]
    items: list[Item] = [Table(title, ["", "R²", "ceiling", "median over neurons"], rows, [R2, _CEILING])]
    items += _inputs(fit)
    if "n_norm_ratio" in fit.attrs:
        items.append(
            f"Norm of n / norm of its effective part: {fit.attrs['n_norm_ratio']:.2f}. Far above 1, most of n does not "
            "move the network, and the data hardly determine it: do not interpret n or inactivations then."
        )
    if "caution" in fit.attrs:
        items.append(f"caution: {fit.attrs['caution']}")
    return items


def of_ranks(fit: xr.Dataset) -> list[Item]:
    """The choice of the rank, from its table or from the scores that the fit keeps of it."""
    return _ranks(fit) if "rank_deficit" in fit else []


def of_table(table: xr.Dataset) -> list[Item]:
    """The table of a validation: choice of rank, baselines, ensemble, bootstrap or subsampling; else nothing."""
    make = _TABLES.get(table.attrs["kind"])
    return make(table) if make else []


def verdict(fit: xr.Dataset) -> str:
    """What the score of the held-out conditions means, in words.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> verdict(mock_fit()).split(".")[0]
    'No condition was held out'
    """
    values = {str(split): k for k, split in enumerate(fit["split"].values)}
    if "noise_cov" in fit:
        bits = fit["bits_per_spike"].values if "bits_per_spike" in fit else np.full(len(values), np.nan)
        held = next((float(bits[k]) for split, k in values.items() if split.startswith("held_out")), np.nan)
        if np.isnan(held):
            return "There is no score of held-out trials. How well the fit predicts new trials is not known."
        better = "better" if held > 0 else "no better"
        return (
            f"Held-out trials: {held:.3f} bits per spike. The fit predicts their spikes {better} than the mean rate of "
            "each neuron does."
        )
    held, top = (float(fit[name].values[values["held_out"]]) for name in ("r2", "r2_ceiling"))
    if np.isnan(held):
        return "No condition was held out. How well the fit predicts new conditions is not known."
    if held <= 0:
        return f"Held-out conditions: R² {held:.3f}. The fit predicts them no better than a constant. Do not use it."
    if np.isnan(top):
        return f"Held-out conditions: R² {held:.3f}. The ceiling is not known, so noise in the data may limit this."
    share = held / top
    how = next(words for least, words in _VERDICTS if share >= least)
    return (
        f"Held-out conditions: R² {held:.3f} under a ceiling of {top:.3f}. The fit explains {share:.0%} of what the "
        f"true means would. {how}"
    )


_VERDICTS = (
    (0.95, "It is as good as the data can tell."),
    (0.8, "It is close to what the data allow."),
    (1 / 3, "A part of the activity is not explained: look at the rank, tau, the inputs and single neurons."),
    (-np.inf, "Most of the activity is not explained. Do not interpret this fit."),
)


def _trial_scores(fit: xr.Dataset) -> Table:
    bits = fit["bits_per_spike"].values if "bits_per_spike" in fit else [float("nan")] * fit.sizes["split"]
    columns = zip(fit["split"].values, bits, fit["r2"].values, strict=True)
    rows = [[str(split), number(value), number(r2)] for split, value, r2 in columns]
    title = f"scores of the rank {fit.sizes['rank']} fit of single trials"
    return Table(title, ["", "bits per spike", "R² of the run without noise"], rows, [_BITS, R2])


def _evidence(fit: xr.Dataset) -> str:
    evidence = fit["evidence"].values
    best = int(evidence.argmax())
    return (
        f"Log evidence {evidence[best]:.1f} nats in iteration {best + 1} of {len(evidence)} "
        f"({evidence[0]:.1f} in the first). It compares fits to the same data: higher is better."
    )


def _inputs(fit: xr.Dataset) -> list[Item]:
    if "input_r2_gain" not in fit or not fit["input_r2_gain"].notnull().any():
        return []
    columns = (fit[name].values for name in ("input", "input_r2_gain", "input_r2_gain_sem"))
    rows = [[str(name), f"{number(gain)} ± {number(error)}"] for name, gain, error in zip(*columns, strict=True)]
    title = "R² lost without an input (refitted; conditions held out inside the training set)"
    return [Table(title, ["input", "R² lost ± s.e."], rows, [_ERROR])]


def _cross_validated(title: str, names: Sequence[str], table: xr.Dataset, of: str) -> Table:
    """One row per model: its score in training and held out ± standard error over folds; the ceiling of R² below."""
    score, whose = ("bits", "trials") if f"{of}_bits" in table else ("r2", "conditions")
    errors = table[f"{of}_{score}_sem"].values[:, 1]
    scores = zip(names, table[f"{of}_{score}"].values, errors, strict=True)
    rows = [[name, number(trained), f"{number(held)} ± {number(error)}"] for name, (trained, held), error in scores]
    if f"{of}_r2_ceiling" in table:
        rows.append(["ceiling", *map(number, table[f"{of}_r2_ceiling"].values)])
    title = f"{title} (cross-validated, among the training {whose})"
    measure = [_BITS] if score == "bits" else [R2, *([_CEILING] if f"{of}_r2_ceiling" in table else [])]
    return Table(title, ["", "in training", "held out ± s.e."], rows, [*measure, _ERROR])


def _ranks(table: xr.Dataset) -> list[Item]:
    """Scores of the ranks, and how each was judged: its difference to the best one, paired over folds."""
    whose = " of held-out neurons" if table.attrs.get("cv_over") == "neuron" else ""
    tried, chosen = table["rank_tried"].values, table.attrs.get("rank", table.sizes.get("rank"))
    names = [f"{rank}{' <- chosen' if rank == chosen else ''}" for rank in tried]
    title = "co-smoothing by rank, bits per spike" if "rank_bits" in table else f"R²{whose} by rank"
    deficits, errors = table["rank_deficit"].values, table["rank_deficit_sem"].values
    judged = zip(tried, deficits, errors, good_ranks(table), strict=True)
    rows = [
        [str(rank), f"{number(behind, 4)} ± {number(error, 4)}", _judgment(behind, good)]
        for rank, behind, error, good in judged
    ]
    title_behind = "how far each rank is behind the best one (differences paired between folds)"
    end = f"chosen: rank {chosen}, the smallest that is at most one standard error behind"
    if "rank_bits" in table:
        end += ", or 0.5 % of the bits per spike"
    if len(tried) > 1 and chosen == tried.max():
        end += ". It is the largest that was tried: try larger ones too"
    return [
        _cross_validated(title, names, table, "rank"),
        Table(title_behind, ["rank", "behind ± s.e.", "verdict"], rows, [end]),
    ]


def _judgment(behind: float, good: bool) -> str:
    return "best" if behind == 0 else "as good" if good else "worse"


def _baselines(table: xr.Dataset) -> list[Item]:
    names = [str(name) for name in table["baseline"].values]
    return [_cross_validated(f"R² of rank {table.attrs['rank']} and of baselines", names, table, "baseline")]


def _ensemble(table: xr.Dataset) -> list[Item]:
    """How far the members' effective connectivities agree, and how well each predicts."""
    good = table["as_good"].values
    r2, top = table["r2"].values[good, 1], table["r2_ceiling"].values[good, 1]
    spread = np.sort(table["spread_post"].values)
    rows = [
        ["R² held out", f"{r2.mean():.3f}, from {r2.min():.3f} to {r2.max():.3f}; ceiling {top.mean():.3f}"],
        [
            "effective connectivity",
            f"Pearson {table.attrs['pearson']:.3f}, cosine {table.attrs['cosine']:.3f} between members (mean of pairs)",
        ],
        ["spread per neuron", f"{spread[len(spread) // 2]:.2f} of its mean (median), {spread[-1]:.2f} at most"],
    ]
    title = f"ensemble over {table.attrs['vary']}: {int(good.sum())} of {len(good)} members equally good"
    notes = [
        R2,
        _CEILING,
        "Pearson and cosine are over all entries of the connectivity: 1 is the same, 0 nothing in common. Spread: the "
        "standard deviation of a neuron's connections over the members, relative to their mean; 0 is the same.",
    ]
    return [Table(title, ["", ""], rows, notes)]


def _bootstrap(table: xr.Dataset) -> list[Item]:
    """The quantities with their intervals, or why a quantity has none."""
    if "low" not in table:
        return []
    columns = (table[name].values for name in ("quantity", "unit", "estimate", "corrected", "low", "high", "reason"))
    rows = []
    for name, unit, own, corrected, low, high, reason in zip(*columns, strict=True):
        measured = "" if unit == "1" else f" {unit}"
        between = f"none: {reason}" if reason else f"{low:.3f} to {high:.3f}{measured}"
        rows.append([str(name), number(own), "" if reason else number(corrected), between])
    title = f"bootstrap: {table.attrs['draws']} resamples of trials, {table.attrs['simulations']} simulations"
    level = f"{100 * table.attrs['level']:.0f} %"
    notes = [
        "Corrected: the value of the fit without the bias that simulations of known networks show. Interval: it holds "
        f"the true value in {level} of such simulations."
    ]
    return [Table(title, ["", "fit", "corrected", f"{level} interval"], rows, notes)]


def _subsampling(table: xr.Dataset) -> list[Item]:
    names = ("n_neurons", "rank", "fraction")
    columns = (table[name].values for name in names)
    rows = [[str(int(n)), f"{fraction:.0%}", str(int(rank))] for n, rank, fraction in zip(*columns, strict=True)]
    return [Table("rank chosen with fewer neurons", ["neurons", "of all", "rank"], rows)]


def _input_sets(table: xr.Dataset) -> list[Item]:
    """How well each list of inputs predicts, and which are as good as the best one."""
    names = ("input_set", "n_inputs", "set_score", "set_deficit", "set_deficit_sem", "as_good")
    columns = zip(*(table[name].values for name in names), strict=True)
    rows = [
        [str(name), str(int(many)), number(score), f"{number(behind)} ± {number(sem)}", "yes" if good else "no"]
        for name, many, score, behind, sem, good in columns
    ]
    unit = table["set_score"].attrs.get("units", "1")
    score = "R²" if unit == "1" else unit
    note = (
        "Behind: how far a list is below the best one on held-out data, with the standard error of the paired "
        f"differences. Chosen: {table.attrs['input_set']}, which has the fewest inputs of those that are as good."
    )
    if table.attrs["tied"]:
        note += " Others are as good with as many inputs: the data do not tell these apart."
    return [Table("lists of inputs compared", ["", "inputs", score, "behind", "as good"], rows, [note])]


def _inferred(table: xr.Dataset) -> list[Item]:
    """How well recurrence, unknown inputs and both predict, and what this says of inputs."""
    names = ("hypothesis", "hypothesis_score", "hypothesis_deficit", "hypothesis_deficit_sem", "as_good")
    columns = zip(*(table[name].values for name in names), strict=True)
    rows = [
        [str(name), number(score), f"{number(behind)} ± {number(sem)}", "yes" if good else "no"]
        for name, score, behind, sem, good in columns
    ]
    unit = table["hypothesis_score"].attrs.get("units", "")
    note = (
        "Behind: how far a hypothesis is below the best one on held-out data, with the standard error of the paired "
        f"differences. {table.attrs['verdict']}"
    )
    return [Table("recurrence and inputs that nobody recorded", ["", unit, "behind", "as good"], rows, [note])]


def _readout_weights(table: xr.Dataset) -> list[Item]:
    """How well each weight of behavior predicts activity and behavior, and the choice."""
    names = [str(name) for name in table["readout"].values]
    rows = []
    for k, weight in enumerate(table["weight_tried"].values):
        one = table.isel(weight_tried=k)
        pairs = zip(one["behavior_score"].values, one["behavior_score_sem"].values, strict=True)
        behind = " ± ".join(number(float(one[name])) for name in ("activity_deficit", "activity_deficit_sem"))
        scores = [f"{number(score)} ± {number(sem)}" for score, sem in pairs]
        rows.append([f"{weight:g}", behind, *scores, "yes" if bool(one["as_good"]) else "no"])
    note = (
        "Behind: how far the activity is predicted worse than with the best weight, and the standard error of the "
        "paired differences. Behavior: share of the loss of its mean that is explained in held-out data (R² of "
        f"numbers). Chosen: {table.attrs['readout_weight']:g}, the smallest weight of those that are as good."
    )
    if not table.attrs["decoded"]:
        note += " No behavior is predicted better than by its mean."
    return [Table("weights of behavior compared", ["weight", "behind", *names, "as good"], rows, [note])]


def _decoding(table: xr.Dataset) -> list[Item]:
    """How well behavior of held-out trials is decoded from latents and by the plain decoder."""
    rows = []
    for name in table["readout"].values:
        one = table.sel(readout=name)
        pairs = zip(one["score"].values, one["score_sem"].values, strict=True)
        off = " ± ".join(number(float(one[key])) for key in ("score_difference", "score_difference_sem"))
        right = ", ".join(f"{value:.2f}" for value in one["auc"].values if np.isfinite(value))
        rows.append([str(name), *(f"{number(score)} ± {number(sem)}" for score, sem in pairs), off, right])
    when = "until each time" if table.attrs["causal"] else "of whole trials"
    note = (
        f"From samples {when}, in held-out trials. Score: share of the loss of the training mean that is explained: R² "
        "of numbers, 1 - log loss / log loss of their share of choices. Plain: regression on smoothed counts. AUC: of "
        "choices, by latents and plain."
    )
    return [Table("behavior decoded", ["", "latents", "plain", "difference", "AUC"], rows, [note])]


def _area_selection(found: xr.Dataset) -> list[Item]:
    rows, single = [], "area_evidence" in found
    score, text = ("area_evidence", "log evidence") if single else ("area_r2", "R²")
    for k in range(found.sizes["candidate"]):
        one = found.isel(candidate=k)
        blocks = f"one block, rank {int(one['block_rank'].max())}" if bool(one["one_block"]) else ", ".join(
            f"{to} from {source}: {int(one['block_rank'].sel(target=to, sender=source))}"
            for to in one["target"].values for source in one["sender"].values
            if int(one["block_rank"].sel(target=to, sender=source))
        )  # fmt: skip
        marks = "chosen" if k == found.attrs["chosen"] else "as good" if bool(one["as_good"]) else ""
        numbers = (float(one[score]), float(one["deficit"]), float(one["deficit_sem"]))
        rows.append([blocks, str(int(one["n_parameters"])), *(number(value) for value in numbers), marks])
    what = "Log evidence: of a held-out trial, nats." if single else "R²: of held-out conditions."
    note = (
        f"{what} Behind: how far it is behind the best, and the standard error of this difference, paired over "
        f"{'trials' if single else 'conditions'}. Chosen: the fewest parameters among those that are as good."
    )
    return [Table("blocks of areas", ["ranks", "parameters", text, "behind", "± s.e.", ""], rows, [note])]


_TABLES: dict[str, Callable[[xr.Dataset], list[Item]]] = {
    "rank_selection": _ranks,
    "baselines": _baselines,
    "ensemble": _ensemble,
    "bootstrap": _bootstrap,
    "audit": _subsampling,
    "input_comparison": _input_sets,
    "readout_comparison": _readout_weights,
    "decoding": _decoding,
    "inferred_inputs": _inferred,
    "area_selection": _area_selection,
}
