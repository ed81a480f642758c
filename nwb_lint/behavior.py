"""Behavior that is read from latents: choices, reaction times and movements, and the regression that reads them.

A readout is z = level + w' kappa: the logit of a choice, or the mean of a number. Behavior does not feed back to the
network. Shapes: z and counts (trial, time, readout), design (trial, time, term); conditions take the place of trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import expit, ndtri

from nwb_lint.contract.columns import columns_of, find_column
from nwb_lint.contract.values import as_text_column, missing_in
from nwb_lint.errors import ContractError
from nwb_lint.inputs import Input, same_value
from nwb_lint.options.base import plain
from nwb_lint.options.read_and_prepare import BehaviorOptions
from nwb_lint.options.words import as_toml

Array = np.ndarray
KINDS = ("number", "choice")

# Precision of the Gaussian priors on weights, where latents and numbers have unit variance, and on levels.
# Convention: those of the loadings and levels of neurons (`statespace.tuning`).
WEIGHT_PRECISION, LEVEL_PRECISION = 1.0, 0.1

# Least variance of a number around its readout, where the number has unit variance. Without a bound, a latent may
# become the number itself.
# Convention.
LEAST_VARIANCE = 1e-2

# Newton steps of the regression of a choice, and the share of a step's gain below which they end.
# Convention.
STEPS, TOLERANCE = 30, 1e-8

# Shares of the rarer choice that the reference may have at least, so that its loss is finite.
# Convention.
LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Readout:
    """A behavior that is read from the latents: a choice, a number of each trial, or a course in time.

    Parameters
    ----------
    name : str
        Name of the readout.
    column : str or None, default=None
        A column of the trials, or of the conditions. Two values, or ``equals``, are a choice, and other numbers are a
        number. It is one observation a trial: each bin of the window counts its share.
    equals : str, float, bool or None, default=None
        The value of the column that counts as 1. None: the larger of two values.
    series : str or None, default=None
        Path or name of a time series of the file, such as the velocity of the hand: a number in each bin.
    series_column : int or None, default=None
        Which column of the series, from 0; needed where it has several.
    log : bool, default=False
        Whether the logarithm of the numbers is read, as for reaction times.
    window_s : (float, float) or None, default=None
        Start and stop of the bins in which it is read, s. None: always.

    Raises
    ------
    ContractError
        If neither a column nor a series is given, or both are.

    Examples
    --------
    >>> Readout("choice", column="choice", window_s=(0.5, 0.8)).once
    True
    >>> Readout("speed", series="speed").input.series
    'speed'
    """

    name: str
    column: str | None = None
    equals: str | float | bool | None = None
    series: str | None = None
    series_column: int | None = None
    log: bool = False
    window_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        try:
            BehaviorOptions.check({one.name: getattr(self, one.name) for one in fields(self)})
        except ContractError as error:
            raise ContractError(f"readout {self.name!r}: {error}") from None

    @property
    def once(self) -> bool:
        """Whether it is one observation a trial, and not one a bin."""
        return self.column is not None

    @property
    def input(self) -> Input:
        """The series as an input, which the readers take in ``inputs`` so that they read it with the trials."""
        if self.series is None:
            raise ContractError(f"readout {self.name!r} is a column. The readers have its values. Leave out its input.")
        return Input(self.name, series=self.series, series_column=self.series_column)

    @property
    def definition(self) -> str:
        """All that makes it, as the fields of a recipe on one line."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return ", ".join(f"{name} = {as_toml(plain(value))}" for name, value in given.items())

    def values(self, data: xr.Dataset, dim: str) -> tuple[Array, tuple[str, ...]]:
        """Its values (trial or condition, time), NaN where it is not observed, and what 0 and 1 of a choice stand for.

        A number has no such names.
        """
        time = data["time"].values
        names: tuple[str, ...] = ()
        if self.series is not None:
            values = self.input.samples(data if dim == "condition" else as_conditions(data), time)
            values = np.broadcast_to(values, (data.sizes[dim], len(time))).copy()
        else:
            column, names = self._column(data, dim)
            values = np.repeat(column[:, None], len(time), axis=1)
        if self.log:
            values = self._logarithm(values, bool(names))
        start, stop = (-np.inf, np.inf) if self.window_s is None else self.window_s
        inside = (time >= start - 1e-9) & (time < stop - 1e-9)
        if not inside.any():
            raise ContractError(
                f"readout {self.name!r} has the window {start:g} to {stop:g} s. Time runs from {time[0]:g} to "
                f"{time[-1]:g} s. Give a window within it."
            )
        values[:, ~inside] = np.nan
        if not np.isfinite(values).any():
            raise ContractError(
                f"readout {self.name!r} has no value in any {dim} in its window. A readout needs some. Check its "
                "column or series, and the window."
            )
        return values, names

    def _column(self, data: xr.Dataset, dim: str) -> tuple[Array, tuple[str, ...]]:
        """The column as numbers, NaN where it has no value, and what 0 and 1 of a choice stand for."""
        found = find_column(data, str(self.column), dim)
        if found is None:
            there = ", ".join(columns_of(data, dim)) or "none"
            raise ContractError(
                f"readout {self.name!r} needs the column {self.column!r}; there are {there}. Name it in `columns` of "
                "read_trials, or in `by` of read_conditions."
            )
        values = as_text_column(found.values)
        missing = missing_in(values)
        levels = np.unique(values[~missing])
        if self.equals is not None:
            on = np.array([same_value(one, self.equals) for one in values])
            if not on.any() or on[~missing].all():
                raise ContractError(
                    f"readout {self.name!r} is 1 where {self.column} equals {self.equals!r}, which is so in "
                    f"{int(on.sum())} of {int((~missing).sum())}. A choice needs both. The values are "
                    f"{', '.join(map(str, levels[:6]))}."
                )
            off = levels[[not same_value(one, self.equals) for one in levels]]
            negative = _name_of(off[0]) if len(off) == 1 else f"not {_name_of(self.equals)}"
            return np.where(missing, np.nan, on.astype(float)), (negative, _name_of(self.equals))
        if len(levels) == 2:
            names = _name_of(levels[0]), _name_of(levels[1])
            return np.where(missing, np.nan, (values == levels[1]).astype(float)), names
        if len(levels) < 2 or values.dtype.kind not in "iuf":
            raise ContractError(
                f"readout {self.name!r} has the column {self.column} of {len(levels)} values. It needs two values, or "
                "numbers that vary. Give equals, the value that counts as 1."
            )
        return np.where(missing, np.nan, values.astype(float)), ()

    def _logarithm(self, values: Array, is_choice: bool) -> Array:
        if is_choice or (values <= 0).any():
            raise ContractError(
                f"readout {self.name!r} has log=True, and it is a choice or has values that are not above 0. The "
                "logarithm needs numbers above 0. Leave out log."
            )
        return np.log(values)


def _name_of(value: object) -> str:
    """A value of a column as a text; whole numbers have no decimals."""
    return f"{value:.12g}" if isinstance(value, float | np.floating) else str(value)


def as_conditions(trials: xr.Dataset) -> xr.Dataset:
    """Trials under the name of conditions, as inputs are built on them."""
    own = {"trial": "condition"} | {name: f"{name}_of_trial" for name in ("condition",) if name in trials.variables}
    return trials.rename(own)


def build_behavior(data: xr.Dataset, readouts: Sequence[Readout]) -> xr.Dataset:
    """The behavior of all trials or conditions.

    Parameters
    ----------
    data : xarray.Dataset
        Trials or a recording, with columns and ``time``, s; ``input_course`` for series.
    readouts : sequence of Readout
        At least one.

    Returns
    -------
    xarray.Dataset
        ``behavior (trial or condition, time, readout)``, NaN where it is not observed; the coordinates ``readout``
        (names), ``readout_kind`` ("number" or "choice"), ``readout_once`` and ``readout_definition``; and
        ``readout_negative`` and ``readout_positive``, the values of the column that 0 and 1 of a choice stand for,
        empty texts of a number.

    Raises
    ------
    ContractError
        If these are no readouts, two have the same name, or a column or series is not there.

    Examples
    --------
    >>> from nwb_lint.testing import mock_trials
    >>> build_behavior(mock_trials(), [Readout("choice", column="choice")])["readout_kind"].item()
    'choice'
    """
    listed = isinstance(readouts, Sequence) and not isinstance(readouts, str)
    if not listed or not all(isinstance(one, Readout) for one in readouts):
        raise ContractError(
            f"readouts is {readouts!r}. It needs a list of Readout. Pass [Readout('choice', column=…)]."
        )
    names = [one.name for one in readouts]
    if len(set(names)) < len(names):
        raise ContractError(f"two readouts have the same name: {', '.join(names)}. Give each its own name.")
    dim = "trial" if "trial" in data.dims else "condition"
    values, levels = zip(*(one.values(data, dim) for one in readouts), strict=True)
    return xr.Dataset(
        {"behavior": ((dim, "time", "readout"), np.stack(values, axis=2))},
        {
            "readout": ("readout", np.array(names)),
            "readout_kind": ("readout", np.array(["choice" if one else "number" for one in levels])),
            "readout_once": ("readout", np.array([one.once for one in readouts])),
            "readout_definition": ("readout", np.array([one.definition for one in readouts])),
            "readout_negative": ("readout", np.array([one[0] if one else "" for one in levels])),
            "readout_positive": ("readout", np.array([one[1] if one else "" for one in levels])),
        },
    )


def readout_coords(dataset: xr.Dataset) -> dict[str, xr.Variable]:
    """The coordinates of the readouts, by name."""
    return {str(k): v.variable for k, v in dataset.coords.items() if v.dims == ("readout",)}


class Behavior(NamedTuple):
    """Behavior as arrays.

    | field | dims | |
    |---|---|---|
    | z | trial, time, readout | numbers of mean 0 and unit variance, or choices 0 and 1; 0 where not observed |
    | share | trial, time, readout | how much a sample counts: its share of the observation of the trial, or 1, or 0 |
    | choice | readout | whether it is a choice |
    | mean, scale | readout | of numbers in their own unit; 0 and 1 of a choice |
    """

    z: Array
    share: Array
    choice: Array
    mean: Array
    scale: Array


def behavior_of(data: xr.Dataset, train: Array, numbers: bool = False) -> Behavior:
    """The behavior of trials or conditions as arrays, in units of its training part (mask of trials).

    ``numbers``: choices count as numbers, as their means over trials do.
    """
    own = data["behavior"].transpose(..., "time", "readout")
    values = own.values.astype(float)
    seen = np.isfinite(values)
    count = seen.astype(float)
    once = data["readout_once"].values.astype(bool)
    count[..., once] /= np.maximum(count[..., once].sum(axis=1, keepdims=True), 1)
    choice = np.zeros(len(once), bool) if numbers else data["readout_kind"].values.astype(str) == "choice"
    z, weight = np.where(seen, values, 0), count[train]
    total = weight.sum(axis=(0, 1))
    for name, some in zip(data["readout"].values.tolist(), total, strict=True):
        if some == 0:
            raise ContractError(f"readout {name!r} has no value in the training part. A fit needs some. Hold out less.")
    mean = (weight * z[train]).sum(axis=(0, 1)) / total
    variance = (weight * (z[train] - mean) ** 2).sum(axis=(0, 1)) / total
    for name, some in zip(data["readout"].values.tolist(), variance, strict=True):
        if some <= 0:
            raise ContractError(
                f"readout {name!r} does not vary in the training part. A fit needs both values, or more."
            )
    mean, scale = np.where(choice, 0, mean), np.where(choice, 1, np.sqrt(variance))
    return Behavior(np.where(seen, (z - mean) / scale, 0), count, choice, mean, scale)


class Reading(NamedTuple):
    """Coefficients (readout, term) of a design, the variance of numbers around them (readout), and their covariance.

    The covariance (readout, term, term) allows for errors that are correlated within a trial. It is NaN unless it was
    wanted.
    """

    coefficients: Array
    variance: Array
    covariance: Array


def read_out(
    design: Array,
    z: Array,
    count: Array,
    choice: Array,
    first: Array | None = None,
    steps: int = STEPS,
    groups: Array | None = None,
) -> Reading:
    """Regression of every readout on a design: logistic for choices, linear for numbers, with a Gaussian prior.

    Parameters
    ----------
    design : array of shape (sample, term)
        The first term is 1.
    z, count : array of shape (sample, readout)
        Behavior, and how much each sample counts.
    choice : bool array of shape (readout,)
    first : array of shape (readout, term) or None, default=None
        Coefficients of choices to begin with.
    steps : int, default=30
        Newton steps of choices at most.
    groups : int array of shape (sample,) or None, default=None
        Trial of each sample; with it there are covariances.

    Returns
    -------
    Reading
    """
    n_terms, found = design.shape[1], np.zeros((z.shape[1], design.shape[1]))
    prior = np.diag([LEVEL_PRECISION] + [WEIGHT_PRECISION] * (n_terms - 1))
    variance, covariance = np.ones(len(found)), np.full((len(found), n_terms, n_terms), np.nan)
    for k, is_choice in enumerate(choice):
        use = count[:, k] > 0
        x, y, w = design[use], z[use, k], count[use, k]
        if is_choice:
            found[k] = _logistic(x, y, w, prior, found[k] if first is None else first[k], steps)
            p = expit(x @ found[k])
            error, information = w * (y - p), w * p * (1 - p)
        else:
            found[k] = np.linalg.solve((x.T * w) @ x + prior, (x.T * w) @ y)
            left = y - x @ found[k]
            variance[k] = max(float((w * left**2).sum() / w.sum()), LEAST_VARIANCE)
            error, information = w * left, w
        if groups is not None:
            covariance[k] = _sandwich(x, error, information, prior, groups[use])
    return Reading(found, variance, covariance)


def _logistic(x: Array, y: Array, w: Array, prior: Array, beta: Array, steps: int) -> Array:
    """Coefficients of largest posterior density, by Newton's method with halved steps."""

    def objective(beta: Array) -> float:
        eta = x @ beta
        return float((w * (y * eta - np.logaddexp(eta, 0))).sum() - 0.5 * beta @ prior @ beta)

    value = objective(beta)
    for _ in range(steps):
        p = expit(x @ beta)
        slope = x.T @ (w * (y - p)) - prior @ beta
        step, scale = np.linalg.solve((x.T * (w * p * (1 - p))) @ x + prior, slope), 1.0
        while (new := objective(beta + scale * step)) < value and scale > 1e-6:
            scale /= 2
        if new < value:
            break
        beta, gain, value = beta + scale * step, new - value, new
        if gain < TOLERANCE * max(1.0, abs(value)):
            break
    return beta


def _sandwich(x: Array, error: Array, information: Array, prior: Array, groups: Array) -> Array:
    """Covariance of coefficients whose errors are correlated within groups.

    References: Liang & Zeger, Biometrika 73 (1986).
    """
    bread = np.linalg.inv((x.T * information) @ x + prior)
    each = np.zeros((groups.max() + 1, x.shape[1]))
    np.add.at(each, groups, x * error[:, None])
    n = len(np.unique(groups))
    return bread @ (each.T @ each * (n / max(n - 1, 1))) @ bread


def predicted(design: Array, reading: Reading, choice: Array) -> Array:
    """Mean of numbers, or probability of choices, (…, readout), from a design (…, term)."""
    eta = design @ reading.coefficients.T
    return np.where(choice, expit(eta), eta)


def interval(design: Array, reading: Reading, choice: Array, spread: Array, level: float) -> tuple[Array, Array]:
    """Bounds of the prediction (…, readout), from the variance ``spread`` of w' kappa (…, readout).

    Those of numbers contain the observation with this probability, those of choices its probability.
    """
    eta = design @ reading.coefficients.T
    own = np.einsum("...i,kij,...j->...k", design, reading.covariance, design)
    width = float(ndtri(0.5 + level / 2)) * np.sqrt(np.maximum(spread + own + np.where(choice, 0, reading.variance), 0))
    low, high = eta - width, eta + width
    return np.where(choice, expit(low), low), np.where(choice, expit(high), high)


def losses(prediction: Array, behavior: Behavior) -> Array:
    """Loss of each trial and readout, (trial, readout): squared errors of numbers, log loss of choices in nats."""
    z = behavior.z
    p = np.clip(prediction, 1e-9, 1 - 1e-9)
    each = np.where(behavior.choice, -(z * np.log(p) + (1 - z) * np.log1p(-p)), (z - prediction) ** 2)
    total: Array = (behavior.share * each).sum(axis=1)
    return total


def reference_losses(behavior: Behavior, train: Array) -> Array:
    """Loss of the mean, or share of choices, of the training part, (trial, readout)."""
    weight = behavior.share[train]
    mean = (weight * behavior.z[train]).sum(axis=(0, 1)) / np.maximum(weight.sum(axis=(0, 1)), 1e-12)
    mean = np.where(behavior.choice, np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE), mean)
    return losses(np.broadcast_to(mean, behavior.z.shape), behavior)


class TrialScores(NamedTuple):
    """Shares of the mean loss of the reference: of each trial (…, trial, readout), their mean and standard error.

    They are NaN of a trial in which the behavior was not observed; mean and standard error are those of the others.
    """

    each: Array
    mean: Array
    sem: Array


def scores_of_trials(gain: Array, reference: Array, share: Array) -> TrialScores:
    """The scores of trials, from how much lower than the reference a loss is.

    Parameters
    ----------
    gain : array of shape (…, trial, readout)
        Loss of the reference minus that of a prediction, or the difference of the losses of two predictions.
    reference : array of shape (trial, readout)
        Loss of the reference.
    share : array of shape (trial, time, readout)
        How much each sample counts.

    Returns
    -------
    TrialScores
    """
    seen = share.sum(axis=1) > 0
    number = seen.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = gain / (reference.sum(axis=0) / number)
        mean = np.where(seen, each, 0).sum(axis=-2) / number
        squares = np.where(seen, (each - mean[..., None, :]) ** 2, 0).sum(axis=-2)
        sem = np.sqrt(squares / (number - 1) / number)
    return TrialScores(np.where(seen, each, np.nan), mean, sem)


def explained(loss: Array, reference: Array) -> Array:
    """Share of the loss of the reference that a prediction explains, (readout): R² of numbers; NaN without trials.

    Of choices it is 1 minus the log loss over that of the share (McFadden's R²).
    """
    total = reference.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, 1 - loss.sum(axis=0) / total, np.nan)
