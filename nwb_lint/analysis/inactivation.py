"""Prediction of a fit for silenced, suppressed or excited neurons, at all times or during a pulse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lint.analysis.readout import fit_readout
from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import column_of, columns_of, coords_along, recorded_of
from nwb_lint.contract.values import as_text_column, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.model.areas.blocks import blocks_of
from nwb_lint.model.network import Array, nonlinearity_of, norm_ratio
from nwb_lint.model.simulate import network_of, run
from nwb_lint.options.analyses import InactivationOptions
from nwb_lint.options.checks import validated
from nwb_lint.prepare import mask_of, times_in
from nwb_lint.query import select
from nwb_lint.rate_link import Link

QUANTILES = (0.05, 0.5, 0.95)
# the numbers are those of docs/reproduction/inactivation.csv, as a test checks
CAUTION = (
    "This is a prediction, not a measurement. A low-rank fit that predicts intact activity well can predict "
    "inactivations poorly. In a trained network of g = 1, predicted and true changes correlated by 0.43 (rank 1), 0.50 "
    "(rank 2), 0.57 (rank 5) and 0.93 (rank=None), and the predicted effect was 0.52, 0.49, 0.57 and 0.85 of the true "
    "one: medians over random groups, 800 trials, ridge_by='innovations'. Other choices of the ridge did worse. "
    "Compare a low-rank fit with the unconstrained one."
)
# Tuned on: fits to two trained networks (CDM, g = 0.1 and 0.8), where the ratio was 14 and more and the predicted
# effects several times too large. In fits with a ratio of 2.3 and less, predicted effects were .9 to 1.6 of true ones.
_LARGE_NORM_RATIO = 4.0


class Readout(NamedTuple):
    """z = weights · phi(x) / N + intercept, averaged over ``times``.

    ``answer`` is the sign of the right answer in every condition, 0 where it is missing. ``facts`` are attributes of
    the result: column, metric and score of the readout.
    """

    weights: Array
    intercept: float
    times: Array
    answer: Array | None
    facts: dict[str, object]


@validated(InactivationOptions)
def predict_inactivation(
    fit: xr.Dataset,
    groups: object,
    *,
    readout: xr.Dataset | xr.DataArray | str | None = None,
    u: xr.Dataset | None = None,
    reference: xr.Dataset | None = None,
    context: str | None = None,
    answer: str | None = None,
    response_s: tuple[float, float] | None = None,
    factor: float = 0.0,
    drive: float = 0.0,
    window_s: tuple[float, float] | None = None,
    controls: int = 20,
    seed: int = 0,
    to: str | None = None,
) -> xr.Dataset:
    """Predict what the network does when the output of a group of neurons is multiplied by ``factor``.

    r_i = factor · phi(x_i) for the neurons i of the group, within the window. N does not change, and nothing is fitted
    again. Each group is inactivated in turn. Controls are random groups with as many recorded and as many hidden
    neurons. The result gives, for the neurons of the group itself, the change of their activation x.

    This is a prediction, not a measurement: a fit of low rank that predicts intact activity well can predict
    inactivations poorly. The attribute ``caution`` gives numbers, and ``n_norm_ratio`` is ||n|| / ||P n|| of the fit:
    the part of n outside span(m, I) does not show in intact activity, but it counts when neurons are silenced. The
    caution says so where it is large.

    Parameters
    ----------
    fit : xarray.Dataset
        From `fit_lint`, or a network that was trained on a task, with ``u``.
    groups : object
        A column of the neurons, such as "area" (a group for each value, of the recorded neurons that have one); a query
        of such columns ("area == 'ALM' and rate > 5"); labels, positions or a boolean mask of neurons; a Dataset from
        `find_populations`; or a dict of name → query or neurons.
    readout : xarray.Dataset or xarray.DataArray or str or None, default=None
        Weights (neuron), a Dataset from `fit_readout`, or a column of the conditions to which a readout of the intact
        run is fitted. None takes the ``readout`` of the network, if it has one. z = readout · phi(x) / N + intercept,
        with N the number of neurons of the readout.
    u : xarray.Dataset or None, default=None
        Conditions with their inputs, ``u (condition, time, input)``. None takes those of the fit.
    reference : xarray.Dataset or None, default=None
        Another fit to the same neurons, best with ``rank=None`` and to single trials: the fluctuations of single trials
        say how neurons drive each other. What it predicts stands beside the prediction, and the caution compares both.
    context : str or None, default=None
        Column of the conditions. Accuracy is computed for each of its values.
    answer : str or None, default=None
        Column of the right answers: z must have its sign, or be positive at the positive value of the readout. None
        takes the column of the readout, or "answer" if there is one.
    response_s : tuple of float or None, default=None
        Start and end of the window that z is averaged over, s. None takes the window of the readout, or the last time.
    factor : float, default=0.0
        Factor on the output of the group: 0 silences, 0.5 suppresses, 2 excites.
    drive : float, default=0.0
        Input that is added to each neuron of the group, dimensionless.
    window_s : tuple of float or None, default=None
        Start and end of the pulse, s. None takes all times.
    controls : int, default=20
        Number of random groups for each size.
    seed : int, default=0
        Seed of the random groups.
    to : str or None, default=None
        Area of a fit with areas. What the group sends there is multiplied by ``factor``, and what it sends elsewhere
        stays: groups="area" and to="M1" inactivate the projection of each area to M1. None: all that the group sends.

    Returns
    -------
    xarray.Dataset
        Kind "inactivation":

        - ``factor (group, neuron)``.
        - ``activity_change (group, condition, neuron)``, dimensionless, and ``rate_change``, Hz: the mean change during
          the pulse, or over all times.
        - ``effect (group)``: root mean square change of the other recorded neurons, relative to the root mean square of
          the intact activity of the recorded neurons; ``effect_control (group, quantile)``.
        - with a reference, ``effect_reference (group)``, and ``correlation_reference (group)`` of the changes that both
          predict for the other recorded neurons, over conditions and neurons.
        - ``latent (group, condition, time, rank)`` and ``output (group, condition, time)``, dimensionless.
        - ``accuracy (group, context)``, ``accuracy_intact (context)`` and ``accuracy_control (group, quantile,
          context)``: share of conditions with the right answer.

    Raises
    ------
    ContractError
        If there is no group or a group is empty, a column is unknown, a window lies outside the times, the network
        diverges, the reference lacks a recorded neuron, or the fit has no area ``to``.

    References
    ----------
    Valente, Pillow & Ostojic, NeurIPS 2022, section 3.2.

    Examples
    --------
    >>> from nwb_lint.testing import mock_fit
    >>> found = predict_inactivation(mock_fit(), {"first": [0, 1, 2]}, readout="stimulus", controls=3)
    >>> found["accuracy"].dims, found["effect_control"].dims
    (('group', 'context'), ('group', 'quantile'))
    """

    given = fit if u is None else u
    masks = groups_of(fit, groups)
    if not masks:
        raise ContractError("There is no group. Name at least one, or a column that has a value for some neuron.")
    inside = times_in(given["time"].values, window_s)
    intact = run(fit, u)
    reading = _readout(fit, given, intact, readout, answer, response_s)
    contexts = _contexts(given, context)
    pulse = None if window_s is None else inside
    onto = _latents_to(fit, to, drive, reference)
    inactivation = _Inactivation(fit, u, intact, reading, contexts, factor, drive, inside, pulse, onto)
    measured = [inactivation.measure(mask) for mask in masks.values()]
    out = _result(inactivation, masks, measured)
    if controls:
        out = out.merge(_controls(inactivation, masks, controls, seed))
    if reference is not None:
        out = out.merge(_beside(inactivation, masks, out, reference, given))
    out = _with_columns(out, fit, given)
    out.attrs = {"kind": "inactivation", "factor": float(factor), "drive": float(drive), "controls": controls}
    out.attrs |= {"seed": seed, "rank": int(fit.sizes.get("rank", 0)), "context": context or ""}
    out.attrs |= _cautions(fit)
    if reference is not None:
        out.attrs["caution"] += _comparison(out, reference)
    out.attrs["group_size"] = [int(mask.sum()) for mask in masks.values()]
    if to is not None:
        out.attrs["to"] = to
    if window_s is not None:
        out.attrs["window_s"] = [float(window_s[0]), float(window_s[1])]
    if reading is not None:
        out.attrs |= reading.facts
    check_result(out, "inactivation")
    return out


def _latents_to(fit: xr.Dataset, to: str | None, drive: float, reference: xr.Dataset | None) -> Array | None:
    """The latents of the blocks to an area, boolean (rank); None for all of them."""
    if to is None:
        return None
    blocks = blocks_of(fit)
    if blocks is None:
        raise ContractError(
            f"to is {to!r}, and the fit has no areas. A projection needs them. Fit with areas='COLUMN'."
        )
    if to not in blocks.names:
        raise ContractError(f"to is {to!r}. The areas are {', '.join(blocks.names)}. Choose one of them.")
    if drive or reference is not None:
        raise ContractError("to is of a projection. It goes with neither drive nor reference. Leave them out.")
    return np.asarray(blocks.to == blocks.names.index(to))


def _cautions(fit: xr.Dataset) -> dict[str, object]:
    """The caution, and how far n exceeds the part of it that intact activity determines."""
    if "m" not in fit:
        return {"caution": CAUTION}
    ratio = norm_ratio(network_of(fit), fit.sizes["input"] + 1, np.zeros((0, 0, fit.sizes["neuron"])))
    if not ratio > _LARGE_NORM_RATIO:
        return {"caution": CAUTION, "n_norm_ratio": ratio}
    large = (
        f" The n of this fit is {ratio:.1f} times as long as its effective part. Intact activity hardly determines the "
        "rest, and the predicted effects are probably too large. Fit with method='auto' and l2_n='auto', the "
        "defaults, or with a larger l2_n."
    )
    return {"caution": CAUTION + large, "n_norm_ratio": ratio}


def _beside(
    inactivation: _Inactivation, masks: dict[str, Array], out: xr.Dataset, reference: xr.Dataset, given: xr.Dataset
) -> xr.Dataset:
    """Effects that the reference predicts for the same groups, and how the changes of the others correlate."""
    fit = inactivation.fit
    labels, others = (one["neuron"].values.astype(str) for one in (fit, reference))
    recorded = inactivation.recorded
    if missing := sorted(set(labels[recorded]) - set(others)):
        raise ContractError(
            f"The reference lacks neuron '{missing[0]}' of the fit. It needs all {recorded.sum()} recorded neurons. "
            "Fit it to the same activity."
        )
    other = inactivation._replace(fit=reference, u=given, intact=run(reference, given), readout=None)
    position = {label: k for k, label in enumerate(others)}
    effects, correlations = [], []
    for k, mask in enumerate(masks.values()):
        found = other.measure(np.isin(others, labels[mask]))
        kept = np.flatnonzero(recorded & ~mask)
        pair = (
            out["activity_change"].values[k][:, kept].ravel(),
            found["activity_change"][:, [position[label] for label in labels[kept]]].ravel(),
        )
        varies = all(len(one) > 1 and np.ptp(one) > 0 for one in pair)
        effects.append(found["effect"])
        correlations.append(np.corrcoef(*pair)[0, 1] if varies else np.nan)
    return xr.Dataset(
        {"effect_reference": ("group", np.array(effects)), "correlation_reference": ("group", np.array(correlations))},
        coords={"group": list(masks)},
    )


def _comparison(out: xr.Dataset, reference: xr.Dataset) -> str:
    """The two numbers that the reference adds to the caution: medians over groups."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = out["effect_reference"].values / out["effect"].values
    numbers = [np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else np.nan
               for one in (ratio, out["correlation_reference"].values)]  # fmt: skip
    name = "unconstrained fit" if "J" in reference else f"fit of rank {reference.sizes['rank']}"
    return (
        f" The {name} beside it predicts effects {numbers[0]:.2f} times as large, and changes that correlate by "
        f"{numbers[1]:.2f} with these (medians over groups)."
    )


def _with_columns(out: xr.Dataset, fit: xr.Dataset, given: xr.Dataset) -> xr.Dataset:
    """The result with the columns of the neurons and the conditions.

    A column with the name of a dim of the result, such as "context", becomes "condition_context".
    """
    columns = coords_along(fit, "neuron", kind="inactivation")
    return out.assign_coords(columns | coords_along(given, "condition", "time", kind="inactivation"))


def groups_of(fit: xr.Dataset, groups: object) -> dict[str, Array]:
    """Members of every group of neurons, as `predict_inactivation` takes groups.

    Parameters
    ----------
    fit : xarray.Dataset
        A fit or a network.
    groups : object
        A column, a query, neurons, populations, or a dict of name → query or neurons.

    Returns
    -------
    dict
        Name → boolean array (neuron).

    Raises
    ------
    ContractError
        If a column or a neuron is unknown, or a group is empty.

    Examples
    --------
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
    """Labels and columns of the neurons by name."""
    columns = coords_along(fit, "neuron") | columns_of(fit, "neuron")
    return {name: as_text_column(column.values) for name, column in columns.items()}


def _chosen(fit: xr.Dataset, query: str) -> Array:
    columns = _columns(fit)

    def get(name: str) -> Array:
        if name not in columns:
            raise ContractError(f"Neurons have no column {name!r}. Choose from {', '.join(columns)}.")
        return columns[name]

    mask = select(query, get, fit.sizes["neuron"], "groups")
    if not mask.any():
        raise ContractError(f"No neuron satisfies {query!r}. A group needs at least one. Change the query.")
    return mask


def _contexts(given: xr.Dataset, context: str | None) -> dict[str, Array]:
    """Name → boolean (condition) of every context, without missing values; one context, "all", without a column."""
    if context is None:
        return {"all": np.ones(given.sizes["condition"], bool)}
    column = column_of(given, context)
    values, there = column.astype(str), ~missing_in(column)
    return {str(level): there & (values == level) for level in np.unique(values[there])}


def _readout(fit, given, intact, readout, answer: str | None, response_s) -> Readout | None:
    """Weights in the order of the neurons of the fit, the times to average over, and the signs of the right answers."""
    if readout is None and "readout" not in fit:
        return None
    if isinstance(readout, str):
        readout = fit_readout(
            intact.assign_attrs(fit.attrs), readout, window_s=response_s, folds=_folds(intact, readout)
        )
    table = fit if readout is None else readout
    weights = _weights_in_order(fit, table if isinstance(table, xr.DataArray) else table["readout"])
    attrs = table.attrs if readout is not None else {}
    window = response_s or attrs.get("window_s")
    time = given["time"].values
    # a fitted readout without a window was fitted to all times
    times = times_in(time, window) if window is not None or "column" in attrs else time == time[-1]
    column = answer or attrs.get("column") or ("answer" if "answer" in given.coords else None)
    signs = None if column is None else _signs(column_of(given, column), column, attrs)
    facts: dict[str, object] = {f"readout_{name}": attrs[name] for name in ("column", "metric") if name in attrs}
    if isinstance(table, xr.Dataset) and "score" in table:
        facts["readout_score"] = float(table["score"])
    intercept = float(table["intercept"]) if isinstance(table, xr.Dataset) and "intercept" in table else 0.0
    return Readout(weights, intercept, times, signs, facts)


def _weights_in_order(fit: xr.Dataset, weights: xr.DataArray) -> Array:
    """Weights of a readout in the order of the neurons of the fit, 0 for neurons that it does not read.

    A readout divides by the number of its own neurons. The weights are scaled for division by the number of the fit.
    """
    if weights.dims != ("neuron",):
        raise ContractError(f"readout has dims {weights.dims}. It needs (neuron). Give a Dataset from fit_readout.")
    size = fit.sizes["neuron"]
    if "neuron" in weights.coords:
        unknown = sorted(set(weights["neuron"].values.astype(str)) - set(fit["neuron"].values.astype(str)))
        if unknown:
            raise ContractError(f"readout has neuron {unknown[0]!r}, which the fit does not have. Fit it to this fit.")
        share = size / weights.sizes["neuron"]
        weights = weights.reindex(neuron=fit["neuron"].values, fill_value=0.0) * share
    elif weights.sizes["neuron"] != size:
        raise ContractError(
            f"readout has {weights.sizes['neuron']} weights. It needs {size}, one for each neuron of the fit."
        )
    return weights.values.astype(float)


def _folds(intact: xr.Dataset, column: str) -> int:
    """As many folds as the rarer value allows, at most five."""
    _, counts = np.unique(column_of(intact, column), return_counts=True)
    return min(5, int(counts.min())) if len(counts) == 2 else min(5, intact.sizes["condition"])


def _signs(values: Array, column: str, attrs: Mapping) -> Array:
    """Sign of the right answer, -1 or 1, and 0 where it is missing."""
    if "positive" in attrs and attrs.get("column") == column:
        return np.where(missing_in(values), 0, np.where(values.astype(str) == attrs["positive"], 1, -1))
    if values.dtype.kind not in "fiu":
        raise ContractError(
            f"{column} holds no numbers. Right answers need a sign, -1 or 1, or a readout that was fitted to them."
        )
    return np.sign(np.nan_to_num(values)).astype(int)


class _Inactivation(NamedTuple):
    """All that is the same for every group."""

    fit: xr.Dataset
    u: xr.Dataset | None
    intact: xr.Dataset
    readout: Readout | None
    contexts: dict[str, Array]
    factor: float
    drive: float
    inside: Array  # times that changes are averaged over
    pulse: Array | None  # times of the inactivation; None = all
    onto: Array | None = None  # latents that the group drives no longer; None = all

    @property
    def recorded(self) -> Array:
        return recorded_of(self.fit)

    def run(self, mask: Array) -> xr.Dataset:
        """Run the network with the output of the group multiplied, and its drive added."""
        factor, drive = np.where(mask, self.factor, 1.0), np.where(mask, self.drive, 0.0)
        if self.pulse is not None:
            on = self.pulse[:, None]
            factor, drive = np.where(on, factor, 1.0), np.where(on, drive, 0.0)
        found = run(self.fit, self.u, factor=factor, drive=drive if self.drive else None, onto=self.onto)
        if not np.isfinite(found["activity"].values).all():
            raise ContractError(
                f"The network diverges with {int(mask.sum())} neurons at factor {self.factor:g} and drive "
                f"{self.drive:g}. Use a smaller factor, a shorter window_s, or a fit with nonlinearity='tanh'."
            )
        return found

    def measure(self, mask: Array) -> dict[str, Array]:
        """The change of activity, the effect on the other neurons, latents, output and accuracy."""
        found = self.run(mask)
        before, after = self.intact["activity"].values, found["activity"].values
        kept = self.recorded & ~mask
        others = after[..., kept] - before[..., kept]
        power = np.sqrt(np.mean(np.square(before[..., self.recorded], dtype=float)))
        effect = np.sqrt(np.mean(np.square(others, dtype=float))) / power if others.size and power > 0 else 0.0
        out = {"effect": effect, "activity_change": (after - before)[:, self.inside].mean(axis=1, dtype=float)}
        if "rate" in found and "scale" in self.fit and Link.of(self.fit).name != "identity":
            change = found["rate"].values - self.intact["rate"].values
            out["rate_change"] = change[:, self.inside].mean(axis=1, dtype=float)
        if "latent" in found:
            out["latent"] = found["latent"].values.astype(float)
        if self.readout is not None:
            out["output"] = self.output(self.readout, after, self.gain_of(mask))
            if self.readout.answer is not None:
                out["accuracy"] = self.accuracy(self.readout, out["output"])
        return out

    def gain_of(self, mask: Array) -> Array:
        """Factor on the output of each neuron (time, neuron). It also applies to the readout, but for a projection."""
        mask = mask if self.onto is None else np.zeros_like(mask)
        return np.where(self.inside[:, None], np.where(mask, self.factor, 1.0), 1.0)

    def output(self, readout: Readout, x: Array, gain: Array) -> Array:
        """z (condition, time)."""
        r = nonlinearity_of(self.fit.attrs.get("nonlinearity")).phi(x)
        return np.einsum("ctn,tn->ct", r, gain * readout.weights) / x.shape[2] + readout.intercept

    def accuracy(self, readout: Readout, z: Array) -> Array:
        """Share of the conditions of each context whose mean output has the sign of the right answer, (context)."""
        answer = np.zeros(len(z)) if readout.answer is None else readout.answer
        choice = np.sign(z[:, readout.times].mean(axis=1))
        chosen = [part & (answer != 0) for part in self.contexts.values()]
        return np.array([(choice == answer)[part].mean() if part.any() else np.nan for part in chosen])


def _result(inactivation: _Inactivation, masks: dict[str, Array], measured: list[dict[str, Array]]) -> xr.Dataset:
    """The result without its controls."""
    dims = {
        "effect": ("group",),
        "activity_change": ("group", "condition", "neuron"),
        "rate_change": ("group", "condition", "neuron"),
        "latent": ("group", "condition", "time", "rank"),
        "output": ("group", "condition", "time"),
        "accuracy": ("group", "context"),
    }
    out = xr.Dataset(coords={"group": list(masks), "context": list(inactivation.contexts)})
    out["factor"] = ("group", "neuron"), np.array([np.where(m, inactivation.factor, 1.0) for m in masks.values()])
    for name in measured[0]:
        out[name] = dims[name], np.array([one[name] for one in measured])
    if "scale" in inactivation.fit and Link.of(inactivation.fit).name == "identity":
        out["rate_change"] = out["activity_change"] * inactivation.fit["scale"].values
    if "rate_change" in out:
        out["rate_change"].attrs["units"] = "Hz"
    if "accuracy" in out and inactivation.readout is not None:
        intact = inactivation.intact["activity"].values
        z = inactivation.output(inactivation.readout, intact, np.ones(intact.shape[1:]))
        out["accuracy_intact"] = ("context",), inactivation.accuracy(inactivation.readout, z)
    return out


def _controls(inactivation: _Inactivation, masks: dict[str, Array], controls: int, seed: int) -> xr.Dataset:
    """Quantiles of effect and accuracy over random groups. Groups of equal size share them."""
    rng, by_size = np.random.default_rng(seed), {}
    parts = [np.flatnonzero(inactivation.recorded), np.flatnonzero(~inactivation.recorded)]
    sizes = [tuple(int(mask[part].sum()) for part in parts) for mask in masks.values()]
    for size in sorted(set(sizes)):
        found = []
        for _ in range(controls):
            mask = np.zeros(inactivation.fit.sizes["neuron"], bool)
            for part, number in zip(parts, size, strict=True):
                mask[part[rng.permutation(len(part))[:number]]] = True
            found.append(inactivation.measure(mask))
        by_size[size] = found
    chosen = [by_size[size] for size in sizes]
    out = xr.Dataset(coords={"quantile": list(QUANTILES)})
    for name, dims in (("effect", ("group", "quantile")), ("accuracy", ("group", "quantile", "context"))):
        if name in chosen[0][0]:
            values = [np.quantile([one[name] for one in found], QUANTILES, axis=0) for found in chosen]
            out[f"{name}_control"] = dims, np.array(values)
    return out


def effect_table(result: xr.Dataset) -> pd.DataFrame:
    """Table of an inactivation: a row for each group, with its size, effect and accuracy, and those of the controls.

    Parameters
    ----------
    result : xarray.Dataset
        From `predict_inactivation`.

    Returns
    -------
    pandas.DataFrame
        Columns group, neurons, effect, and accuracy in each context, each with the quantiles of its controls; with a
        reference also "effect reference" and "correlation reference".

    Raises
    ------
    ContractError
        If the Dataset is of another kind.

    Examples
    --------
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
    for name in ("effect_reference", "correlation_reference"):
        if name in result:
            columns[name.replace("_", " ")] = result[name].values
    if "accuracy" in result:
        for context in result["context"].values:
            columns[f"accuracy {context} intact"] = np.full(
                result.sizes["group"], result["accuracy_intact"].sel(context=context)
            )
            columns[f"accuracy {context}"] = result["accuracy"].sel(context=context).values
            if "accuracy_control" in result:
                add(f"accuracy {context}", result["accuracy_control"].sel(context=context))
    return pd.DataFrame(columns)
