"""What a fit predicts when some of its neurons are silenced, suppressed or excited, for all time or for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.readout import fit_readout
from nwb_lint.contract import as_text_column, check_result, column_of, coords_along, missing_in, recorded_of
from nwb_lint.errors import ContractError
from nwb_lint.model.network import Array, nonlinearity_of
from nwb_lint.model.simulate import run
from nwb_lint.prepare import mask_of, times_in
from nwb_lint.query import select

QUANTILES = (0.05, 0.5, 0.95)
# its numbers are those of docs/reproduction/inactivation.csv; a test compares them
CAUTION = (
    "a prediction, not a measurement: a low-rank fit that predicts intact activity well may predict inactivations "
    "poorly. In a trained network of g = 1, predicted and true changes correlated by 0.43 (rank 1), 0.50 (rank 2), "
    "0.57 (rank 5) and 0.93 (rank=None), median of random groups, 800 trials, fitted with ridge_by='innovations'; "
    "without it, low-rank fits do worse: docs/reproduction.md. Show the unconstrained fit beside a low-rank one."
)


class Reader(NamedTuple):
    """z = weights . phi(x) / N + intercept, averaged over ``times``; the answer's sign in every condition, or None."""

    weights: Array
    intercept: float
    times: Array
    answer: Array | None
    told: dict[str, object]


def predict_inactivation(
    fit: xr.Dataset,
    groups: object,
    *,
    readout: xr.Dataset | xr.DataArray | str | None = None,
    u: xr.Dataset | None = None,
    context: str | None = None,
    answer: str | None = None,
    response_s: tuple[float, float] | None = None,
    factor: float = 0.0,
    drive: float = 0.0,
    window_s: tuple[float, float] | None = None,
    controls: int = 20,
    seed: int = 0,
) -> xr.Dataset:
    """What the free-running network does when the output of each group in turn is multiplied by ``factor``.

    r_i = factor phi(x_i) for i in the group, within the window; N stays what it was. Nothing is fitted anew. Controls
    are random groups of as many recorded (and as many hidden) neurons. What is told of the group's own neurons is their
    input.

    Args:
        fit: from `fit_lint`, or a task network (then give ``u``, with trial columns on condition).
        groups: a column of the neurons (area, cell_type, population: a group per value, of the recorded neurons that
            have one), a query over such columns ("area == 'ALM' and rate > 5"), neurons (labels, positions, booleans),
            a populations Dataset, or a dict of name → query or neurons.
        readout: weights (neuron), a Dataset from `fit_readout`, or a column of the conditions that one is fitted to,
            from the intact run. None = the network's own ``readout``, if any. z = readout . phi(x) / N + intercept,
            N = the neurons that the readout has weights of.
        context: column of the conditions by which accuracy is split.
        answer: column of right answers, whose sign (or the readout's positive value) z must have; None = the readout's
            column, or "answer" where there is one.
        response_s: when z is averaged; None = the readout's window, or the last time.
        factor: 0 silences, 0.5 suppresses, 2 excites. drive: is added to the group's inputs. window_s: of the pulse.

    | name | dims | unit |
    |---|---|---|
    | factor | group, neuron | 1 |
    | activity_change, rate_change | group, condition, neuron | 1, Hz: mean over the pulse or all times, less intact |
    | effect, effect_control | group (, quantile) | 1: rms change of the other neurons / rms of intact activity, both \
        of recorded neurons |
    | latent, output | group, condition, time (, rank) | 1 |
    | accuracy, accuracy_intact, accuracy_control | (group, quantile,) context | 1 |

    Raises: ContractError for groups of nobody, unknown columns, a window outside the times, or a network that diverges.

    Source: Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2; science.md: "Inactivation".

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> found = predict_inactivation(mock_fit(), {"first": [0, 1, 2]}, readout="stimulus", controls=3)
        >>> found["accuracy"].dims, found["effect_control"].dims
        (('group', 'context'), ('group', 'quantile'))
    """
    _check_numbers(factor, drive, controls)
    given = fit if u is None else u
    masks = groups_of(fit, groups)
    if not masks:
        raise ContractError("there is no group; name at least one group, or a column in which some neuron has a value.")
    inside = times_in(given["time"].values, window_s)
    intact = run(fit, u)
    reader = _reader(fit, given, intact, readout, answer, response_s)
    shape = _contexts(given, context)
    experiment = _Experiment(fit, u, intact, reader, shape, factor, drive, inside, pulse=window_s is not None)
    measured = [experiment.measure(mask) for mask in masks.values()]
    out = _result(experiment, masks, measured)
    if controls:
        out = out.merge(_controls(experiment, masks, controls, seed))
    out = out.assign_coords(coords_along(fit, "neuron"))
    for name, value in coords_along(given, "condition", "time").items():
        # a column called like a dim of the result, "context" above all, would take that dim's place
        taken = name in out.dims and name not in value.dims
        out = out.assign_coords({f"condition_{name}" if taken else name: (value.dims, value.values)})
    out.attrs = {
        "kind": "inactivation",
        "factor": float(factor),
        "drive": float(drive),
        "controls": controls,
        "seed": seed,
    }
    out.attrs |= {"rank": int(fit.sizes.get("rank", 0)), "caution": CAUTION, "context": context or ""}
    out.attrs["group_size"] = [int(mask.sum()) for mask in masks.values()]
    if window_s is not None:
        out.attrs["window_s"] = [float(window_s[0]), float(window_s[1])]
    if reader is not None:
        out.attrs |= reader.told
    check_result(out, "inactivation")
    return out


def _check_numbers(factor: float, drive: float, controls: int) -> None:
    for name, value in (("factor", factor), ("drive", drive)):
        if isinstance(value, bool) or not np.isscalar(value) or not np.isfinite(float(value)):  # type: ignore[arg-type]
            raise ContractError(f"{name} is {value!r}; it needs a finite number.")
    if isinstance(controls, bool) or not isinstance(controls, int | np.integer) or controls < 0:
        raise ContractError(f"controls is {controls!r}; it needs a whole number from 0 on.")


def groups_of(fit: xr.Dataset, groups: object) -> dict[str, Array]:
    """Name → boolean (neuron) of every group asked for (see `predict_inactivation`).

    Raises: ContractError for one that is unknown or has nobody.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> fit = mock_fit(n_neurons=4).assign_coords(area=("neuron", ["ALM", "ALM", "V1", "V1"]))
        >>> {name: int(mask.sum()) for name, mask in groups_of(fit, "area").items()}
        {'area=ALM': 2, 'area=V1': 2}
        >>> list(groups_of(fit, "area == 'V1' and recorded"))
        ["area == 'V1' and recorded"]
    """
    labels = fit["neuron"].values.astype(str)
    if isinstance(groups, xr.Dataset):
        check_result(groups, "populations")
        own = groups["population"].reindex(neuron=fit["neuron"].values, fill_value=-1).values
        named = [str(name) for name in groups["group"].values]
        return {f"population {name}": own == k for k, name in enumerate(named) if (own == k).any()}
    if isinstance(groups, Mapping):
        out = {}
        for name, which in groups.items():
            if isinstance(which, str):
                out[str(name)] = _chosen(fit, which)
            else:
                out[str(name)] = mask_of(labels, which, "neuron", nobody=True)
        return out
    if isinstance(groups, str):
        columns = _columns(fit)
        if groups not in columns:
            return {groups: _chosen(fit, groups)}
        there = recorded_of(fit) & ~missing_in(columns[groups])
        values = columns[groups].astype(str)
        return {f"{groups}={level}": there & (values == level) for level in np.unique(values[there])}
    return {"chosen": mask_of(labels, groups, "neuron")}


def _columns(fit: xr.Dataset) -> dict[str, Array]:
    """Columns of the neurons by name, texts as texts."""
    return {name: as_text_column(column.values) for name, column in coords_along(fit, "neuron").items()}


def _chosen(fit: xr.Dataset, query: str) -> Array:
    columns = _columns(fit)

    def get(name: str) -> Array:
        if name not in columns:
            raise ContractError(f"neurons have no column {name!r}; they have {', '.join(columns)}.")
        return columns[name]

    mask = select(query, get, fit.sizes["neuron"], "groups")
    if not mask.any():
        raise ContractError(f"no neuron satisfies {query!r}; choose at least one.")
    return mask


def _contexts(given: xr.Dataset, context: str | None) -> dict[str, Array]:
    """Name → boolean (condition) of every context, a missing value being none; "all" where none is asked for."""
    if context is None:
        return {"all": np.ones(given.sizes["condition"], bool)}
    column = column_of(given, context)
    values, there = column.astype(str), ~missing_in(column)
    return {str(level): there & (values == level) for level in np.unique(values[there])}


def _reader(fit, given, intact, readout, answer: str | None, response_s) -> Reader | None:
    """Weights in the fit's order of neurons, the times that z is averaged over, and the right signs."""
    if readout is None and "readout" not in fit:
        return None
    if isinstance(readout, str):
        readout = fit_readout(
            intact.assign_attrs(fit.attrs), readout, window_s=response_s, folds=_folds(intact, readout)
        )
    table = fit if readout is None else readout
    weights = table if isinstance(table, xr.DataArray) else table["readout"]
    if weights.dims != ("neuron",):
        raise ContractError(f"readout has dims {weights.dims}; it needs (neuron).")
    if "neuron" in weights.coords:
        unknown = sorted(set(weights["neuron"].values.astype(str)) - set(fit["neuron"].values.astype(str)))
        if unknown:
            raise ContractError(f"readout has neuron {unknown[0]!r}, which the fit does not; fit the readout to it.")
        # hidden units are not read; the N that a readout divides by is that of its own neurons
        share = fit.sizes["neuron"] / weights.sizes["neuron"]
        weights = weights.reindex(neuron=fit["neuron"].values, fill_value=0.0) * share
    elif weights.sizes["neuron"] != fit.sizes["neuron"]:
        raise ContractError(
            f"readout has {weights.sizes['neuron']} weights; the fit has {fit.sizes['neuron']} neurons."
        )
    attrs = table.attrs if readout is not None else {}
    window = response_s or attrs.get("window_s")
    time = given["time"].values
    # a fitted readout without a window was fitted to all times
    times = times_in(time, window) if window is not None or "column" in attrs else time == time[-1]
    there = answer or attrs.get("column") or ("answer" if "answer" in given.coords else None)
    signs = None if there is None else _signs(column_of(given, there), there, attrs)
    told: dict[str, object] = {f"readout_{name}": attrs[name] for name in ("column", "metric") if name in attrs}
    if isinstance(table, xr.Dataset) and "score" in table:
        told["readout_score"] = float(table["score"])
    intercept = float(table["intercept"]) if isinstance(table, xr.Dataset) and "intercept" in table else 0.0
    return Reader(weights.values.astype(float), intercept, times, signs, told)


def _folds(intact: xr.Dataset, column: str) -> int:
    """As many folds as the rarer value allows, five at most."""
    _, counts = np.unique(column_of(intact, column), return_counts=True)
    return min(5, int(counts.min())) if len(counts) == 2 else min(5, intact.sizes["condition"])


def _signs(values: Array, column: str, attrs: Mapping) -> Array:
    """-1 or 1 where the answer is, 0 where it has no sign."""
    if "positive" in attrs and attrs.get("column") == column:
        return np.where(missing_in(values), 0, np.where(values.astype(str) == attrs["positive"], 1, -1))
    if values.dtype.kind not in "fiu":
        raise ContractError(f"{column} holds no numbers; answers need a sign (-1, 1), or a readout fitted to them.")
    return np.sign(np.nan_to_num(values)).astype(int)


class _Experiment(NamedTuple):
    """All that is the same for every group."""

    fit: xr.Dataset
    u: xr.Dataset | None
    intact: xr.Dataset
    reader: Reader | None
    contexts: dict[str, Array]
    factor: float
    drive: float
    inside: Array
    pulse: bool

    @property
    def recorded(self) -> Array:
        return recorded_of(self.fit)

    def run(self, mask: Array) -> xr.Dataset:
        """The network with the group's output multiplied, and its input added to."""
        factor, drive = np.where(mask, self.factor, 1.0), np.where(mask, self.drive, 0.0)
        if self.pulse:
            on = self.inside[:, None]
            factor, drive = np.where(on, factor, 1.0), np.where(on, drive, 0.0)
        found = run(self.fit, self.u, factor=factor, drive=drive if self.drive else None)
        if not np.isfinite(found["activity"].values).all():
            raise ContractError(
                f"the network diverges with {int(mask.sum())} neurons at factor {self.factor:g} and drive "
                f"{self.drive:g}; use a smaller factor, a shorter window_s, or a fit with nonlinearity='tanh'."
            )
        return found

    def measure(self, mask: Array) -> dict[str, Array]:
        """The change of activity, the effect on the others, latents, output and accuracy."""
        found = self.run(mask)
        before, after = self.intact["activity"].values, found["activity"].values
        kept = self.recorded & ~mask
        others = after[..., kept] - before[..., kept]
        power = np.sqrt(np.mean(np.square(before[..., self.recorded], dtype=float)))
        effect = np.sqrt(np.mean(np.square(others, dtype=float))) / power if others.size and power > 0 else 0.0
        out = {"effect": effect, "activity_change": (after - before)[:, self.inside].mean(axis=1, dtype=float)}
        if "latent" in found:
            out["latent"] = found["latent"].values.astype(float)
        if self.reader is not None:
            out["output"] = self.output(after, self.gain_of(mask))
            if self.reader.answer is not None:
                out["accuracy"] = self.accuracy(out["output"])
        return out

    def gain_of(self, mask: Array) -> Array:
        """What multiplies the neurons' output, (time, neuron): the readout does not hear the silenced either."""
        return np.where(self.inside[:, None], np.where(mask, self.factor, 1.0), 1.0)

    def output(self, x: Array, gain: Array) -> Array:
        """z (condition, time)."""
        assert self.reader is not None
        r = nonlinearity_of(self.fit.attrs.get("nonlinearity")).phi(x)
        return np.einsum("ctn,tn->ct", r, gain * self.reader.weights) / x.shape[2] + self.reader.intercept

    def accuracy(self, z: Array) -> Array:
        """Share of the conditions of each context whose mean output has the answer's sign, (context)."""
        assert self.reader is not None
        assert self.reader.answer is not None
        answer, said = self.reader.answer, np.sign(z[:, self.reader.times].mean(axis=1))
        chosen = [part & (answer != 0) for part in self.contexts.values()]
        return np.array([(said == answer)[part].mean() if part.any() else np.nan for part in chosen])


def _result(experiment: _Experiment, masks: dict[str, Array], measured: list[dict[str, Array]]) -> xr.Dataset:
    """The table of `nwb_lint.contract`, controls still missing."""
    dims = {
        "effect": ("group",),
        "activity_change": ("group", "condition", "neuron"),
        "latent": ("group", "condition", "time", "rank"),
        "output": ("group", "condition", "time"),
        "accuracy": ("group", "context"),
    }
    out = xr.Dataset(coords={"group": list(masks), "context": list(experiment.contexts)})
    out["factor"] = ("group", "neuron"), np.array([np.where(m, experiment.factor, 1.0) for m in masks.values()])
    for name in measured[0]:
        out[name] = dims[name], np.array([one[name] for one in measured])
    if "scale" in experiment.fit:
        out["rate_change"] = out["activity_change"] * experiment.fit["scale"].values
        out["rate_change"].attrs["units"] = "Hz"
    if "accuracy" in out:
        intact = experiment.intact["activity"].values
        out["accuracy_intact"] = ("context",), experiment.accuracy(experiment.output(intact, np.ones(intact.shape[1:])))
    return out


def _controls(experiment: _Experiment, masks: dict[str, Array], controls: int, seed: int) -> xr.Dataset:
    """Quantiles of effect and accuracy over random groups; groups of one size share theirs."""
    rng, by_size = np.random.default_rng(seed), {}
    parts = [np.flatnonzero(experiment.recorded), np.flatnonzero(~experiment.recorded)]
    sizes = [tuple(int(mask[part].sum()) for part in parts) for mask in masks.values()]
    for size in sorted(set(sizes)):
        found = []
        for _ in range(controls):
            mask = np.zeros(experiment.fit.sizes["neuron"], bool)
            for part, number in zip(parts, size, strict=True):
                mask[part[rng.permutation(len(part))[:number]]] = True
            found.append(experiment.measure(mask))
        by_size[size] = found
    chosen = [by_size[size] for size in sizes]
    out = xr.Dataset(coords={"quantile": list(QUANTILES)})
    for name, dims in (("effect", ("group", "quantile")), ("accuracy", ("group", "quantile", "context"))):
        if name in chosen[0][0]:
            values = [np.quantile([one[name] for one in found], QUANTILES, axis=0) for found in chosen]
            out[f"{name}_control"] = dims, np.array(values)
    return out


def effect_table(result: xr.Dataset) -> pd.DataFrame:
    """One row per group: neurons, effect and its controls, accuracy per context and its controls.

    Raises: ContractError for a Dataset that is not an inactivation.

    Example:
        >>> from nwb_lint.testing import mock_fit
        >>> effect_table(predict_inactivation(mock_fit(), [0, 1], controls=0)).columns.tolist()
        ['group', 'neurons', 'effect']
    """
    check_result(result, "inactivation")
    columns = {
        "group": result["group"].values,
        "neurons": result.attrs["group_size"],
        "effect": result["effect"].values,
    }

    def add(name: str, value: xr.DataArray) -> None:
        for q, tag in zip(QUANTILES, ("low", "median", "high"), strict=True):
            columns[f"{name} control {tag}"] = value.sel(quantile=q).values

    if "effect_control" in result:
        add("effect", result["effect_control"])
    if "accuracy" in result:
        for context in result["context"].values:
            columns[f"accuracy {context} intact"] = np.full(
                result.sizes["group"], result["accuracy_intact"].sel(context=context)
            )
            columns[f"accuracy {context}"] = result["accuracy"].sel(context=context).values
            if "accuracy_control" in result:
                add(f"accuracy {context}", result["accuracy_control"].sel(context=context))
    return pd.DataFrame(columns)
