"""Every option once: its type, its default, its bounds and one sentence.

From these classes come

- the check of the arguments of the public functions (`validated`),
- the sections of a recipe (`Section` classes below, used by `nwb_lint.workflow.recipe`),
- the flags of the command line (`nwb_lint.cli.flags`),
- the field reference of the documentation (`reference`),
- the attributes that a fit keeps, and the options of a refit (`FitOptions.kept`, `FitOptions.of_fit`).

The functions keep explicit keyword arguments; a test compares them with the fields.
"""

from __future__ import annotations

import collections.abc
import os
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from nwb_lint.errors import ContractError, one_line

if TYPE_CHECKING:
    import xarray as xr

Seconds = float
Window = tuple[float, float]
Names = tuple[str, str]
By = str | dict[str, Literal["rank"] | tuple[float, ...]]
FigureStyle = Literal["screen", "print", "talk"]
ANY_WEIGHTS = "given"  # how a fit names weights that were an array
MOST_LISTED = 100_000  # numbers that a range may stand for
P = ParamSpec("P")
R = TypeVar("R")

# Earlier names of arguments, by their name today. Using one is an error that names the new one.
RENAMED = {
    "audit": "refit_fractions", "cells": "cache_dir", "centre": "center", "fit": "fit_name", "hold": "cv_over",
    "holdout": "test_size (a fraction or a number) or test_conditions (labels or a mask)", "input": "u", "over": "vary",
}  # fmt: skip

MOST_COUNTED = 1_000_000  # repetitions, units, iterations: the largest number of any option but a seed
LARGEST_SEED = 2**31 - 1  # what every generator takes, and a file keeps, also where 1, 2, … are added


def option(default: Any, sentence: str, *, kept: bool = True, **bounds: Any) -> Any:
    """A field with its sentence; ``kept``: whether a fit keeps it as an attribute. ``...`` as default: required."""
    return Field(default, description=sentence, json_schema_extra={"kept": kept}, **bounds)


class Options(BaseModel):
    """The options of one function; values of other types are refused, numbers must be finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._check_combinations()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name) if field.annotation in (int, int | None) else None
            if value is None or value <= (LARGEST_SEED if name == "seed" else MOST_COUNTED):
                continue
            if name == "seed":
                raise ValueError(f"seed is {value}. It needs to be at most {LARGEST_SEED}. Use a smaller one.")
            raise ValueError(f"{name} is {value}. More than {MOST_COUNTED} takes years. Use fewer.")
        return self

    def _check_combinations(self) -> None:
        """Raise a ValueError where options do not go together."""

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """The options of these values.

        Raises
        ------
        ContractError
            If a name is not known, or a value has another type or is out of bounds.
        """
        try:
            return cls.model_validate({name: plain(value) for name, value in values.items()})
        except ValidationError as error:
            raise ContractError(explain(error, cls, values)) from None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the function."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class TrialOptions(Options):
    """Options of `read_trials`."""

    align: str | Callable[..., Any] = option(
        ..., "Trial column, expression of columns, event series or function that gives time 0."
    )
    align_where: str | None = option(None, "Query over the labels or columns of the events that align names.")
    align_which: Literal["first", "last"] | int | None = option(
        None, "Which of several times of a trial is time 0; numbers count from 0."
    )
    window_s: Window = option(..., "Start and end of the time axis around the alignment, s.")
    bin_s: Seconds = option(..., "Width of a time bin, s.", gt=0)
    where: str | None = option(None, "Query over the trial columns, such as \"correct and context == 'motion'\".")
    units: str | tuple[int | float | str, ...] | None = option(
        None, "Query over columns of units, electrodes and electrode groups, or ids or labels of units."
    )
    units_table: str | None = option(None, "Path of the units table; None: /units, or the only one of the file.")
    unit_columns: tuple[str, ...] = option((), "Unit and electrode columns that are kept on the neurons.")
    series: str | None = option(None, "Path or name of a time series that is read in place of spikes.")
    table: str | tuple[str, ...] = option("trials", "Interval table with the trials; several are read as one.")
    columns: tuple[str, ...] | dict[str, str] | None = option(
        None, "Trial columns that are kept; None: all; {name = 'expression'} adds columns to all."
    )
    within: Names | None = option(None, "Two time columns: a trial is observed between them only.")
    warp: Names | None = option(None, "Two events: time between them is stretched to the median interval.")
    infer_obs: bool = option(False, "Trials after the last spike of a unit count as not observed.")
    download: bool = option(False, "Keep remote files as whole files on this machine.")
    external: bool = option(False, "Read other files that a file names: external links, HDF5 external storage.")
    exclude: tuple[str, ...] = option((), "Files that are left out: names, or patterns in which * is any text.")
    inputs: tuple[Any, ...] = option((), "Inputs of the network; those whose courses are in the file are read.")


def derived(name: str, base: type[Options], *, without: tuple[str, ...] = (), **defaults: Any) -> Any:
    """A class with the fields and the checks of another one, some left out, some with another default."""
    checks = type(f"_{name}", (Options,), {"__module__": __name__, "_check_combinations": base._check_combinations})
    fields: dict[str, Any] = {}
    for key, field in base.model_fields.items():
        if key not in without:
            own = FieldInfo.merge_field_infos(field, default=defaults[key]) if key in defaults else field
            fields[key] = (field.annotation, own)
    return create_model(name, __base__=checks, __doc__=base.__doc__, **fields)


class ReadOptions(derived("_Reading", TrialOptions, without=("columns",))):  # type: ignore[misc]
    """Options of `read_conditions`."""

    by: By | tuple[By, ...] = option(
        ...,
        "Trial columns that conditions are made of; {column = 'rank'} groups by rank, {column = [edges]} by bins.",
    )
    columns: dict[str, str] | None = option(
        None, "Columns that expressions over others give: {contrast = 'contrast_right - contrast_left'}."
    )
    smooth_s: Seconds | None = option(None, "Standard deviation of the Gaussian that smooths rates, s.", ge=0)
    min_trials: int = option(1, "Trials that a unit needs in every condition.", ge=1)
    missing: Literal["drop", "keep"] = option("drop", "Drop units that miss a condition, or keep them as NaN.")
    halves: bool = option(False, "Read also the means of two random halves of the trials, which ceilings need.")
    draws: int = option(0, "Resamples of the trials within conditions, which bootstrap needs.", ge=0)
    seed: int = option(0, "Seed of the trial halves and resamples.", ge=0)
    burn_in_s: Seconds = option(0.0, "Time before the window for which inputs are read too, s.", ge=0)
    errors: Literal["raise", "skip"] = option("raise", "Stop at a file that cannot be read, or skip it with a warning.")


class PrepareOptions(Options):
    """Options of `prepare`."""

    n_components: int | None = option(12, "Principal components that denoise the rates; None keeps the rates.", ge=1)
    center: bool | Window = option(True, "Subtract the mean of each neuron, over all times or over a window, s.")
    time_course: bool = option(True, "Subtract the mean time course over conditions.")
    scale: float | Literal["auto", "neuron"] = option(
        "auto", "Hz for a unit of activity: one for all, one a neuron, or a number."
    )
    rate_link: Literal["identity", "softplus", "log", "saturating"] = option(
        "identity", "What is linear in the activation: the rate, or a function of it."
    )
    burn_in_s: Seconds = option(0.0, "Time that the network runs on its inputs before the first bin, s.", ge=0)


class InputOptions(Options):
    """Fields of an `Input`."""

    name: str = option(..., "Name of the input.")
    column: str | None = option(None, "Trial column that sets the amplitude; None: 1 in every condition.")
    equals: str | float | bool | None = option(None, "The input is 1 where the column has this value, else 0.")
    scale: float = option(1.0, "Factor of the amplitude.")
    window_s: Window | tuple[Window, ...] | None = option(
        None, "When the input is on, s; several windows: an input for each; None: always."
    )
    weights: tuple[float, ...] | None = option(None, "A factor for each window: all windows are then one input.")
    lag_s: Seconds = option(0.0, "How much later than its times the input acts, s; negative: earlier.")
    times: tuple[float, ...] | None = option(None, "Times of the values, s; straight lines between them, 0 outside.")
    values: Any = option(None, "The course in time: a value at each of times, or in Python a function of time.")
    start: str | None = option(None, "The input is on in each trial from this time on: a trial column, or events.")
    stop: str | None = option(None, "The input is on in each trial up to this time: a trial column, or events.")
    series: str | None = option(None, "Path or name of a time series of the file, averaged over the trials.")
    series_column: int | None = option(None, "Which column of the series, where it has several; from 0.", ge=0)
    events: str | None = option(None, "Trial column of times, or series or table of events: a pulse at each.")
    table: str | None = option(None, "Name of a table of intervals: the input is on in each of them.")
    where: str | None = option(None, "Query that selects events, by label or columns, or rows of the table.")
    amplitude: str | None = option(None, "Column of the events or intervals that multiplies them, such as power.")
    width_s: Seconds | None = option(None, "Length of a box after each event, s; None: a pulse in its bin.", gt=0)
    fill: float | None = option(None, "Value where the series was not observed; None: this is an error.")
    product: str | None = option(None, "Names of other inputs with * between: their product.")


class BehaviorOptions(Options):
    """Fields of a `Readout`."""

    name: str = option(..., "Name of the readout.")
    column: str | None = option(None, "Column of the trials or conditions: a choice, or a number.")
    equals: str | float | bool | None = option(None, "Value of the column that counts as 1; None: the larger of two.")
    series: str | None = option(None, "Path or name of a time series of the file: a number in each bin.")
    series_column: int | None = option(None, "Which column of the series, where it has several; from 0.", ge=0)
    log: bool = option(False, "Read the logarithm of the numbers, as of reaction times.")
    window_s: Window | None = option(None, "Bins in which it is read, s; None: always.")

    def _check_combinations(self) -> None:
        if (self.column is None) == (self.series is None):
            raise ValueError("A readout needs one of column and series. Give one of them.")
        if self.series is not None and self.equals is not None:
            raise ValueError("equals is of a column, and series is given. Leave out equals.")
        if self.series_column is not None and self.series is None:
            raise ValueError("series_column is of a series. Give series, or leave it out.")
        if self.window_s is not None and not self.window_s[0] < self.window_s[1]:
            raise ValueError(f"window_s is {self.window_s}. It needs start < stop, in s.")


def _texts_of_blocks(given: Any) -> Any:
    """Pairs (to, from) as texts, and digits as numbers."""
    if not isinstance(given, dict):
        return given
    texts = {"<-".join(map(str, key)) if isinstance(key, tuple) else str(key): one for key, one in given.items()}
    return {key: int(one) if isinstance(one, str) and one.isdecimal() else one for key, one in texts.items()}


def _lists_of_areas(given: Any) -> Any:
    """A single area as a list of one; texts of the command line at their commas."""
    if not isinstance(given, dict):
        return given
    return {key: tuple(map(str.strip, one.split(","))) if isinstance(one, str) else one for key, one in given.items()}


class FitOptions(Options):
    """Options of `fit_lint`."""

    rank: int | None = option(..., "Rank of the connectivity; None: not constrained.", ge=1, kept=False)
    tau_s: Seconds = option(..., "Time constant of the units, s; compare_tau compares several.", gt=0)
    method: Literal["auto", "regression", "gradient", "published"] = option("auto", "Which stages of the fit run.")
    nonlinearity: Any = option(
        "tanh", "'tanh', 'relu', 'softplus', 'linear', 'clipped_relu', or a pair (function, its derivative)."
    )
    loss: Literal["activity", "rate"] = option("activity", "Squared error of the activation x or of the rate phi(x).")
    test_size: float | None = option(
        None, "Conditions that are only scored: a fraction, or a number.", ge=0, kept=False
    )
    test_conditions: str | tuple[str | int | bool, ...] | None = option(
        None, "Conditions that are only scored: labels, positions or a mask.", kept=False
    )
    seed: int = option(0, "Seed of splits, random starts and hidden units.", ge=0)
    device: str = option("cpu", "'cpu', or a device of torch for regressions and gradient, such as 'cuda'.", kept=False)
    hidden: int = option(0, "Unobserved units that are added to the recorded ones.", ge=0)
    bias: bool = option(False, "Fit a constant input to each neuron.")
    initial: str = option(
        "zero", "Initial activation: 'zero', 'learned', one a 'condition', or one a value of a trial column."
    )
    ridges: tuple[float, ...] = option(
        (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0),
        "Ridge penalties to choose from, relative to the mean variance of the features.",
        min_length=1,
    )
    ridge_by: Literal["held_out", "gcv", "innovations"] = option("held_out", "How the ridge penalty is chosen.")
    weights: Any = option(None, "Weights of the neurons in the loss: an array, 'precision', or None for equal ones.")
    l2_n: float | Literal["auto"] = option(
        "auto", "Penalty on the squared norm of the connectivity; 'auto': where n is far too long without one."
    )
    max_iter: int = option(200, "Iterations of the gradient, at most.", ge=1)
    epochs: int = option(50, "Epochs of method='published'.", ge=1)
    optimizer: Literal["auto", "lbfgs", "adam"] = option("auto", "Optimizer of the gradient.")
    segment_s: Seconds | None = option(None, "Length of the segments that the gradient sees first, s.", gt=0)
    checkpoint: Any = option(
        None, "File that keeps the gradient's evaluations, so that a stopped fit continues.", kept=False
    )
    areas: str | None = option(None, "Column of the neurons with their areas: the connectivity consists of blocks.")
    block_ranks: Annotated[dict[Any, Any] | None, BeforeValidator(_texts_of_blocks)] = option(
        None, "Ranks of blocks that differ from the rank, 0 for none: {'M1<-V1' = 2} is to M1 from V1.", kept=False
    )
    input_areas: Annotated[dict[str, Any] | None, BeforeValidator(_lists_of_areas)] = option(
        None, "Areas that an input reaches: {stimulus = 'V1'}; inputs that are not named reach all.", kept=False
    )
    readout_weight: float = option(1.0, "Weight of each readout of behavior, relative to a neuron.", ge=0)

    def _check_combinations(self) -> None:
        rank = getattr(self, "rank", 1)  # the section of a recipe has none
        for wrong, sentence in (
            (
                self.l2_n != "auto" and not 0 <= self.l2_n < float("inf"),
                f"l2_n is {self.l2_n}. It needs a number from 0 on, or 'auto'.",
            ),
            (any(one < 0 for one in self.ridges), f"ridges is {self.ridges}. It needs numbers from 0 on."),
            (
                rank is None and self.method not in ("auto", "regression"),
                f"rank=None is fitted in closed form. method={self.method!r} needs a rank. Use method='regression'.",
            ),
            (
                bool(self.hidden) and self.ridge_by == "innovations",
                f"hidden={self.hidden} units have no recorded rates. ridge_by='innovations' needs them. "
                "Use ridge_by='held_out'.",
            ),
            (
                bool(self.hidden) and rank is None,
                f"hidden={self.hidden} and rank=None are both given. Hidden units need a rank. Give a rank.",
            ),
            (
                self.l2_n not in ("auto", 0) and self.method == "published",
                "The published loop has no l2_n. Use method='auto' or 'gradient'.",
            ),
            (
                self.checkpoint is not None and (rank is None or self.method not in ("auto", "gradient")),
                "checkpoint keeps evaluations of the gradient. This fit has none. Leave it out, or use method='auto'.",
            ),
            *_wrong_areas(self, rank),
        ):
            if wrong:
                raise ValueError(sentence)

    def kept(self) -> dict[str, Any]:
        """Attributes that a fit keeps: the ones that every fit has, and all others that differ from their default."""
        always = ("tau_s", "nonlinearity", "loss", "method", "seed", "hidden", "l2_n")
        found = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in always or (is_kept(field) and not same(value, field.default)):
                found[name] = _attribute(value)
        if "weights" in found and not isinstance(self.weights, str):
            found["weights"] = ANY_WEIGHTS
        return found

    @classmethod
    def of_fit(cls, fit: xr.Dataset, **changes: Any) -> Self:
        """The options that a stored fit was made with, some of them changed.

        Raises
        ------
        ContractError
            If the fit had weights of its own, which it does not keep.
        """
        from nwb_lint.contract import held_out_of  # xarray takes a second to import, and the command line needs none

        values = {name: fit.attrs[name] for name in cls.model_fields if name in fit.attrs}
        values.setdefault("l2_n", 0.0)  # a fit from before every fit kept it; the default was 0
        values["rank"] = fit.sizes["rank"] if "m" in fit else None
        if "to_area" in fit.coords:
            values |= _areas_of_fit(fit)
        values["bias"] = bool(fit["bias"].values.any())
        if fit["initial_activation"].values.any():
            values.setdefault("initial", "learned")
        if "max_steps" in fit.attrs:
            values["max_iter" if fit.attrs["method"] == "gradient" else "epochs"] = int(fit.attrs["max_steps"])
        values["test_conditions"] = held_out_of(fit)
        values |= changes
        if values.get("weights") == ANY_WEIGHTS:
            raise ContractError(
                "The fit was made with an array of weights, which it does not keep. A refit needs them. "
                "Fit with weights='precision' or without weights."
            )
        return cls.check(values)


def _wrong_areas(options: FitOptions | TrialFitOptions, rank: int | None) -> list[tuple[bool, str]]:
    """What is wrong with the areas of a fit, and the sentence that says it."""
    ranks, inputs = options.block_ranks or {}, options.input_areas or {}
    whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ranks.values())
    listed = all(
        isinstance(one, tuple) and one and all(isinstance(area, str) for area in one) for one in inputs.values()
    )
    return [
        (
            options.areas is None and bool(ranks or inputs),
            "block_ranks and input_areas are of areas. There are none. Give areas='COLUMN', or leave them out.",
        ),
        (
            options.areas is not None and (rank is None or getattr(options, "method", "") == "published"),
            f"areas={options.areas!r} needs a rank, and another method than 'published'. Give rank=1.",
        ),
        (
            options.areas is not None and getattr(options, "ridge_by", "") == "gcv",
            f"areas={options.areas!r} has no generalized cross-validation. Use ridge_by='held_out'.",
        ),
        (not whole, f"block_ranks is {ranks}. It needs whole numbers from 0 on, such as {{'M1<-V1': 2}}."),
        (not listed, f"input_areas is {inputs}. It needs names of areas for each input, such as {{'stimulus': 'V1'}}."),
    ]


def _areas_of_fit(fit: xr.Dataset) -> dict[str, Any]:
    """The options of the areas of a fit: the rank that most blocks have, and those that differ."""
    from nwb_lint.contract import columns_of, input_names

    column = columns_of(fit, "neuron")[fit.attrs["areas"]].values.astype(str)
    names = sorted(set(column.tolist()))
    there = [f"{to}<-{source}" for to, source in zip(fit["to_area"].values, fit["from_area"].values, strict=True)]
    ranks = {f"{to}<-{source}": there.count(f"{to}<-{source}") for to in names for source in names}
    usual = max(set(there.count(one) for one in there), key=list(ranks.values()).count)
    found: dict[str, Any] = {"rank": usual}
    if others := {key: one for key, one in ranks.items() if one != usual}:
        found["block_ranks"] = others
    if "input_reached" in fit:
        reached = fit["input_reached"].values
        found["input_areas"] = {
            name: tuple(sorted(set(column[own].tolist())))
            for name, own in zip(input_names(fit), reached.T, strict=True)
            if not own.all()
        }
    return found


class TrialFitOptions(Options):
    """Options of `fit_trials`."""

    rank: int = option(..., "Number of latents.", ge=1)
    tau_s: Seconds = option(..., "Time constant of the units, s.", gt=0)
    observation: Literal["poisson", "gaussian"] = option("poisson", "Distribution of the data.")
    link: Literal["exp", "softplus"] = option("exp", "Rate of a Poisson observation as a function of the activation.")
    hidden: int | Literal["auto"] = option("auto", "Unobserved units; 'auto': up to 256 units in all.")
    hidden_scale: float | None = option(
        None, "Scale of m, I and b of the hidden units; without it, all latents and inputs move them alike.", gt=0
    )
    nonlinearity: Literal["tanh", "relu", "softplus", "linear"] = option("tanh", "phi.")
    bias: Literal["fixed", "fitted"] = option("fixed", "b of the recorded units: 0, or fitted.")
    noise: Literal["full", "diagonal"] = option("full", "Covariance of the noise of the latents.")
    ridge: Literal["auto"] | float = option(
        "auto", "Penalty of n, relative to the mean power of phi(x); 'auto': that of largest marginal likelihood."
    )
    initial: str = option("common", "Mean of the first latents: 'common', or one for each value of a trial column.")
    drift: int = option(0, "Smooth functions of the trials along which m drifts; 0: m is constant.", ge=0)
    test_size: float | None = option(None, "Trials that are only scored: a fraction, or a number.", ge=0)
    max_iter: int = option(30, "Iterations at most.", ge=1)
    tol: float = option(3e-3, "Share of the gained log evidence below which an iteration gains nothing.", ge=0)
    seed: int = option(0, "Seed of hidden units, samples and test trials.", ge=0)
    device: str = option("cpu", "'cpu', or a device of torch that computes the fit, such as 'cuda'.", kept=False)
    checkpoint: Any = option(None, "File that keeps where EM is, so that a stopped fit continues.", kept=False)
    areas: str | None = option(None, "Column of the neurons with their areas: the connectivity consists of blocks.")
    block_ranks: Annotated[dict[Any, Any] | None, BeforeValidator(_texts_of_blocks)] = option(
        None, "Ranks of blocks that differ from the rank, 0 for none: {'M1<-V1' = 2} is to M1 from V1.", kept=False
    )
    input_areas: Annotated[dict[str, Any] | None, BeforeValidator(_lists_of_areas)] = option(
        None, "Areas that an input reaches: {stimulus = 'V1'}; inputs that are not named reach all.", kept=False
    )
    readout_weight: float = option(1.0, "What the log likelihood of behavior is multiplied by.", ge=0)

    def _check_combinations(self) -> None:
        if self.hidden != "auto" and self.hidden < 0:
            raise ValueError(f"hidden is {self.hidden}. It needs a number from 0 on, or 'auto'.")
        if self.observation == "gaussian" and self.link != "exp":
            raise ValueError("A Gaussian observation has no link. link='softplus' needs counts. Leave out link.")
        if self.areas is not None and self.hidden_scale is not None:
            raise ValueError("hidden_scale mixes the latents, which areas forbid. Leave out hidden_scale or areas.")
        for wrong, sentence in _wrong_areas(self, 1):
            if wrong:
                raise ValueError(sentence)
        if self.ridge != "auto" and not 0 < self.ridge < float("inf"):
            raise ValueError(f"ridge is {self.ridge}. It needs a number above 0, or 'auto'.")
        if (self.drift or self.areas is not None) and self.bias == "fitted":
            raise ValueError("bias='fitted' needs one m for all trials and areas. Leave out drift and areas.")
        if self.link == "softplus" and self.bias == "fitted":
            raise ValueError("Units with a softplus link have biases already. bias='fitted' needs link='exp'.")

    @classmethod
    def of_fit(cls, fit: xr.Dataset, **changes: Any) -> Self:
        """The options that a fit of single trials keeps, some of them changed; the others are the defaults."""
        values = {name: plain(fit.attrs[name]) for name in _KEPT_OF_TRIALS if name in fit.attrs}
        values["rank"] = fit.sizes["rank"]
        if "to_area" in fit.coords:
            values |= _areas_of_fit(fit)
        if "m_drift" in fit:
            values["drift"] = fit.sizes["basis"]
        return cls.check(values | changes)


# What fits of single trials keep as attributes. The ridge that they keep is the one that was chosen.
_KEPT_OF_TRIALS = (
    "tau_s", "observation", "link", "hidden", "hidden_scale", "nonlinearity", "bias", "noise", "initial", "seed",
    "areas", "readout_weight",
)  # fmt: skip


class DriftOptions(Options):
    """Options of `compare_drift`: single trials with m that drifts, or not."""

    drifts: tuple[int, ...] = option((0, 1, 2, 3), "Numbers of smooth functions to compare.", min_length=1)
    folds: int = option(4, "Parts that are held out in turn.", ge=2)


class AlignOptions(Options):
    """Options of `align_fits`: several sessions in common coordinates."""

    by: Literal["units", "dynamics"] = option("units", "What sessions are aligned by: shared units, or conditions.")
    column: str | None = option(None, "Trial column whose values are the conditions; None: their labels.")
    reference: str | None = option(None, "Session whose coordinates all get; None: the first.")
    splits: int = option(8, "Random splits of the trials of each session into halves that are fitted.", ge=2)
    seed: int = option(0, "Seed of the splits.", ge=0)


class NetworkOfTrialOptions(Options):
    """Options of `network_of_trial`: the network of one trial."""

    trial: int | str = option(..., "Label of the trial.")


class RefineOptions(Options):
    """Options of `refine_free_run`: all weights of a fit of single trials by gradient."""

    epochs: int = option(30, "Passes over the trials.", ge=1)
    seed: int = option(0, "Seed of the order of trials, of samples and of held-out trials.", ge=0)
    device: str = option("cpu", "'cpu', or a device of torch that computes it, such as 'cuda'.", kept=False)


class InferOptions(Options):
    """Options of `infer_latents`."""

    causal: bool = option(False, "Use only the samples until each time.")


class RateOptions(Options):
    """Options of `predict_rates`."""

    causal: bool = option(False, "Use only the samples until each time.")
    level: float = option(0.9, "Probability of the intervals.", gt=0, lt=1)


class ForecastOptions(Options):
    """Options of `forecast`."""

    horizon_s: Seconds = option(..., "How far ahead, s.", gt=0)
    level: float = option(0.9, "Probability of the intervals.", gt=0, lt=1)


class BitsOptions(Options):
    """Options of `bits_per_spike`."""

    forward_s: Seconds | None = option(None, "Length of the end of the trials that is predicted forward, s.", gt=0)
    shots: int | None = option(None, "Number of trials that few-shot weights are fitted on.", ge=1)
    seed: int = option(0, "Seed of the groups of neurons and of the trials of few-shot weights.", ge=0)


class SelectOptions(Options):
    """Options of `select_rank`."""

    ranks: tuple[int, ...] = option(..., "Ranks to choose from.", min_length=1)
    folds: int = option(9, "Parts that are held out in turn.", ge=2)
    cv_over: Literal["condition", "neuron"] = option("condition", "What a fold holds out: conditions, or neurons too.")
    seeds: int = option(1, "Shuffles of the folds.", ge=1)


class AreaOptions(Options):
    """Options of `select_areas`: which blocks there are between areas."""

    ranks: tuple[int, ...] = option((1, 2), "Ranks of one block; the largest is that of a block too.", min_length=1)
    folds: int = option(6, "Parts that are held out in turn.", ge=2)


class EnsembleOptions(Options):
    """Options of `ensemble`."""

    vary: Literal["fold", "subsample", "half", "seed", "ridge"] = option("fold", "What differs between the members.")
    members: int = option(10, "Number of fits.", ge=1)


class BaselineOptions(Options):
    """Options of `baselines`."""

    folds: int = option(9, "Parts that are held out in turn.", ge=2)
    columns: tuple[str, ...] = option((), "Trial columns that the regression sees beside the inputs.")


class SubsamplingOptions(Options):
    """Options of `audit`: the choice of rank on fewer neurons."""

    fractions: tuple[float, ...] = option((1.0, 0.5, 0.2, 0.1), "Fractions of the neurons.", min_length=1)
    draws: int = option(3, "Random groups of neurons for each fraction.", ge=1)
    folds: int = option(4, "Parts that are held out in turn.", ge=2)


class TauOptions(Options):
    """Options of `compare_tau`: the fit with several time constants."""

    taus_s: tuple[float, ...] = option(..., "Time constants to compare, s.", min_length=1)
    folds: int = option(4, "Parts that are held out in turn.", ge=2)
    condition: Any = option(None, "Label of the condition whose input is held; None: all inputs are 0.")
    input: Any = option(None, "Values of the inputs, by name, in place of a condition.")
    at_s: Seconds | None = option(None, "When the input of the condition is taken, s; None: at its last sample.")


class LinkOptions(Options):
    """Options of `compare_links`: the fit with several links from rates to activations."""

    links: tuple[Literal["identity", "softplus", "log", "saturating"], ...] = option(
        ("identity", "softplus", "log", "saturating"), "Links to compare, the preferred one first.", min_length=1
    )
    folds: int = option(4, "Parts that are held out in turn.", ge=2)


class InputSetOptions(Options):
    """Options of `compare_inputs`: the fit with several lists of inputs."""

    folds: int = option(4, "Parts that are held out in turn.", ge=2)


class ReadoutWeightOptions(Options):
    """Options of `compare_readouts`: weights of behavior in the loss."""

    readout_weights: tuple[float, ...] | None = option(
        None, "Weights to compare; None: from 0 to as heavy as all neurons."
    )
    folds: int = option(4, "Parts that are held out in turn.", ge=2)


class DecodingOptions(Options):
    """Options of `decode_behavior`."""

    causal: bool = option(True, "Use only the samples until each time.")
    level: float = option(0.9, "Probability of the intervals.", gt=0, lt=1)


class InferredOptions(Options):
    """Options of `infer_inputs`: inputs that nobody recorded, against recurrence."""

    by: str | None = option(
        None, "Trial column of the conditions, whose trials share an input, or 'trial': each its own."
    )
    prior: Literal["smooth", "sparse"] = option("smooth", "Prior of the courses: smooth, or at few times.")
    folds: int = option(4, "Parts that are held out in turn.", ge=2)
    level: float = option(0.9, "Probability of the intervals.", gt=0, lt=1)


class BootstrapOptions(Options):
    """Options of `bootstrap`."""

    draws: int = option(200, "Resamples of the trials that are fitted, at most as many as the recording has.", ge=2)
    simulations: int = option(100, "Simulated recordings, for intervals; 0: no intervals.", ge=0)
    seed: int = option(0, "Seed of the trial halves of resamples, and of the simulations.", ge=0)


class PopulationOptions(Options):
    """Options of `find_populations`."""

    n_groups: int | None = option(None, "Number of groups; None: chosen by stability.", ge=1)
    method: Literal["em", "bayesian", "small_weights", "strongest_input"] = option("em", "How groups are found.")
    effective: bool = option(True, "Use the part of n that the visited states determine, not n itself.")
    zero_mean: bool = option(True, "Keep the means of the groups at 0.")
    max_groups: int = option(5, "Largest number of groups that is tried.", ge=1)
    resamples: int = option(10, "Pairs of subsamples, and of chance draws, for each number of groups.", ge=1)
    window_s: Window | None = option(None, "When gains are averaged, s; None: always.")
    hidden: bool = option(False, "Group the hidden units too.")
    seed: int = option(0, "Seed of mixtures and subsamples.", ge=0)


class LimitCycleOptions(Options):
    """Options of `limit_cycles`."""

    condition: Any = option(None, "Label of the condition whose input is held; None: all inputs are 0.")
    input: Any = option(None, "Values of the inputs, by name, in place of a condition.")
    at_s: Seconds | None = option(None, "When the input of the condition is taken, s; None: at its last sample.")
    n_starts: int = option(20, "Number of simulated orbits.", ge=1)
    seed: int = option(0, "Seed of the starts.", ge=0)


class FixedPointOptions(Options):
    """Options of `fixed_points`."""

    condition: Any = option(None, "Label of the condition whose input is held; None: all inputs are 0.")
    input: Any = option(None, "Values of the inputs, by name, in place of a condition.")
    at_s: Seconds | None = option(None, "When the input of the condition is taken, s; None: at its last sample.")
    n_starts: int = option(200, "Random starts of the search.", ge=1)
    seed: int = option(0, "Seed of the starts.", ge=0)
    refit_fractions: tuple[float, ...] | None = option(None, "Fractions of the neurons on which the fit is repeated.")
    draws: int = option(3, "Random groups of neurons for each fraction.", ge=1)
    other_ranks: tuple[int, ...] | None = option(None, "Other ranks whose fits show whether each point exists.")
    other_ridges: bool = option(False, "Whether fits with each single ridge show this.")


class FlowOptions(Options):
    """Options of `flow_field`."""

    condition: Any = option(None, "Label of the condition whose input is held; None: all inputs are 0.")
    input: Any = option(None, "Values of the inputs, by name, in place of a condition.")
    at_s: Seconds | None = option(None, "When the input of the condition is taken, s; None: at its last sample.")
    extent: Any = option(None, "Range of the latents: one number, or a range for each; None: what trajectories visit.")
    n_points: int = option(25, "Points along each latent.", ge=2)
    refit_fractions: tuple[float, ...] | None = option(None, "Fractions of the neurons on which the fit is repeated.")
    draws: int = option(3, "Random groups of neurons for each fraction.", ge=1)
    seed: int = option(0, "Seed of the groups.", ge=0)


class InactivationOptions(Options):
    """Options of `predict_inactivation`."""

    readout: Any = option(None, "Column of the conditions that is read from the activity, or a readout.")
    context: str | None = option(None, "Column of the conditions by which accuracy is split.")
    answer: str | None = option(None, "Column of the conditions with the right answer.")
    response_s: Window | None = option(None, "When the answer is read, s; None: as the readout, else the last time.")
    factor: float = option(0.0, "Factor of the output of the group: 0 silences, 0.5 suppresses, 2 excites.")
    drive: float = option(0.0, "What is added to the input of the group.")
    window_s: Window | None = option(None, "When the group is changed, s; None: always.")
    controls: int = option(20, "Random groups of the same size.", ge=0)
    to: str | None = option(None, "Area: only what the group sends there is changed; None: all that it sends.")
    seed: int = option(0, "Seed of the random groups.", ge=0)


class ReadoutOptions(Options):
    """Options of `fit_readout`."""

    window_s: Window | None = option(None, "When activity is read, s; None: always.")
    nonlinearity: str | None = option(None, "phi of the rates that are read; None: that of the fit, else tanh.")
    folds: int = option(5, "Parts of the cross-validation.", ge=2)
    seed: int = option(0, "Seed of the folds.", ge=0)


class ResampleOptions(Options):
    """Options of `resample_network`."""

    seed: int = option(0, "Seed of the draws.", ge=0)
    n_neurons: int | None = option(None, "Neurons of the new network; None: as many as the fit has.", ge=1)


class NetworkOptions(Options):
    """Options of `from_network`."""

    dt_s: Seconds | None = option(None, "Step of the network, s; None: what the network says.", gt=0)
    alpha: float | None = option(None, "dt / tau; None: what the network says.", gt=0, le=1)
    tau_s: Seconds | None = option(None, "Time constant, s, in place of alpha.", gt=0)
    nonlinearity: str | None = option(None, "phi; None: that of the module, else tanh.")
    over_n: bool = option(True, "Whether J = m n' / N; False: J = m n'.")
    names: dict[str, str] | None = option(None, "Names of m, n, input_weights, … among the weights.")
    trial: int | None = option(None, "The trial whose network is taken, for LtrRNN.", ge=0)
    n_bins: int = option(100, "Bins of the conditions that are made where no inputs are given.", ge=2)


class ModuleOptions(Options):
    """Options of `run_module`."""

    dt_s: Seconds | None = option(None, "Step of the module, s; None: that of the times of the inputs.", gt=0)
    states: Literal["activation", "rate"] = option(
        "activation", "What the states of the module are in a network: its activation x, or its rates tanh(x)."
    )


class DistillOptions(Options):
    """Options of `distill`."""

    rank: int | tuple[int, ...] = option(..., "Rank of the network, or ranks to choose from.", kept=False)
    dt_s: Seconds | None = option(None, "Step of the module, s; None: that of the times of the inputs.", gt=0)
    states: Literal["auto", "activation", "rate"] = option(
        "auto", "What the states of the module are: the activation x of the network, its rates tanh(x), or the better."
    )
    tau_s: Seconds | None = option(None, "Time constant of the network, s; None: chosen by held-out trials.", gt=0)
    hidden: int | Literal["auto"] = option("auto", "Hidden units; 'auto': up to 64 units in all.")

    def _check_combinations(self) -> None:
        ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        if not ranks or min(ranks) < 1 or len(set(ranks)) < len(ranks):
            raise ValueError(f"rank is {self.rank}. It needs whole numbers from 1 on, each once.")
        if self.hidden != "auto" and self.hidden < 0:
            raise ValueError(f"hidden is {self.hidden}. It needs a number from 0 on, or 'auto'.")


class ProjectOptions(Options):
    """Options of `project`."""

    order: tuple[str, ...] | None = option(
        None, "Vectors of the fit, in this order; None: m, then the input weights.", min_length=1
    )
    orthogonal: bool = option(True, "Make the axes orthogonal, so that their shares of the variance add up.")


class ScoreOptions(Options):
    """Options of `score`."""

    conditions: Any = option(None, "Labels, positions or a mask of the conditions to score; None: all.")


class ReportOptions(Options):
    """Options of `report`."""

    analyze: bool = option(True, "Compute dynamics and populations that no result holds.", kept=False)
    interactive: bool = option(
        False,
        "Some figures can be zoomed and turned; the page has at least 4.8 MB more. Needs the extra 'interactive'.",
        kept=False,
    )


class CompareOptions(Options):
    """Options of `compare`."""

    dsa: bool = option(
        False, "Compare how the latents run, by dynamical similarity analysis (package DSA).", kept=False
    )


class DynamicsOptions(Options):
    """Options of `compare_dynamics`."""

    measure: Literal["dsa", "prediction"] = option(
        "dsa", "Dynamical similarity analysis, or the share of the latents that the other system does not explain."
    )
    splits: int = option(20, "Random splits of the conditions into halves that are fitted.", ge=1)
    change: float = option(0.5, "Relative change of the connectivity that matters.", gt=0, lt=1)
    level: float = option(0.05, "Largest share of pairs of one system that may be called different.", gt=0, lt=1)
    seed: int = option(0, "Seed of the splits.", ge=0)


class AxesOptions(Options):
    """Options of `compare_axes`."""

    variables: tuple[str, ...] | None = option(None, "Trial columns of the regression; None: all with numbers.")
    n_components: int = option(12, "Principal components to which regression weights are restricted.", ge=1)
    orthogonal: bool = option(True, "Make the regression axes orthogonal in the order of the variables.")
    mtdr_dims: int | Literal["aic"] = option(
        "aic", "Dimensions of each variable in the model of the weights; 'aic': chosen by Akaike's criterion.", ge=0
    )


class FigureOptions(Options):
    """Options of every function of `plot`."""

    style: FigureStyle = option("screen", "Sizes of text and lines: for a screen, a journal, or a talk.", kept=False)


# Sections of a recipe. The rank of a fit comes from `select.ranks`, the seed of the trial halves from `fit.seed`, and
# what is read for inputs from `inputs` and `prepare.burn_in_s`.
_FROM_OTHERS = ("seed", "draws", "inputs", "burn_in_s")
ReadSection = derived("ReadSection", ReadOptions, without=_FROM_OTHERS, bin_s=0.01, smooth_s=0.05, halves=True)
PrepareSection = derived("PrepareSection", PrepareOptions)
FitSection = derived("FitSection", FitOptions, without=("rank",), tau_s=0.1, test_size=0.1)
SelectSection = derived("SelectSection", SelectOptions, ranks=(1, 2))
EnsembleSection = derived("EnsembleSection", EnsembleOptions)
BaselineSection = derived("BaselineSection", BaselineOptions)
SubsamplingSection = derived("SubsamplingSection", SubsamplingOptions)
BlocksSection = derived("BlocksSection", AreaOptions)
BootstrapSection = derived("BootstrapSection", BootstrapOptions)


InferredSection = derived("InferredSection", InferredOptions)


class InputSetSection(derived("_InputSets", InputSetOptions)):  # type: ignore[misc]
    """Options of `compare_inputs`, for lists that are made of the inputs of the recipe."""

    sets: dict[str, str] = option(..., "Lists of inputs to compare, by name: names of inputs with commas between them.")


ReadoutWeightSection = derived("ReadoutWeightSection", ReadoutWeightOptions)
DecodingSection = derived("DecodingSection", DecodingOptions)


class TrialReadSection(derived("_TrialReading", TrialOptions, without=("inputs",), bin_s=0.02)):  # type: ignore[misc]
    """Options of `read_trials`."""

    by: tuple[str, ...] = option((), "Trial columns of the conditions: inputs where none are named, and colors.")


# Sections of a recipe for single trials, in place of those of the same name.
TrialFitSection = derived("TrialFitSection", TrialFitOptions, without=("rank",), tau_s=0.1, test_size=0.2)
TrialSelectSection = derived("TrialSelectSection", SelectOptions, without=("cv_over",), ranks=(1, 2), folds=4)


def validated(*classes: type[Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that checks the arguments of a function by these options before it runs.

    Arguments that the options do not name are left alone. An earlier name of an argument is an error that names the new
    one.

    Examples
    --------
    >>> @validated(EnsembleOptions)
    ... def members_of(*, vary="fold", members=10):
    ...     return members
    >>> members_of(members=3)
    3
    >>> members_of(over="seed")
    Traceback (most recent call last):
    nwb_lint.errors.ContractError: members_of has no argument over. It is called vary now. Use vary.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = signature(function)
        parameters = called.parameters
        others = any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs.keys() & RENAMED.keys() - parameters.keys():
                new = RENAMED[name]
                raise ContractError(f"{function.__name__} has no argument {name}. It is called {new} now. Use {new}.")
            bound = called.bind_partial(*args, **kwargs).arguments
            given = bound | (bound.get("fit_options", {}) if others else {})
            single = "trial" in getattr(next(iter(bound.values()), None), "dims", ())
            of_fits: type[Options] = TrialFitOptions if single else FitOptions
            if others and (strange := kwargs.keys() - parameters.keys() - of_fits.model_fields.keys()):
                raise ContractError(
                    f"{function.__name__} has no argument {min(strange)}. It needs its own arguments or those of "
                    f"{'fit_trials' if single else 'fit_lint'}. Leave {min(strange)} out."
                )
            every: list[type[Options]] = [*classes, *([of_fits] if others and of_fits not in classes else [])]
            own = {name for one in classes for name in one.model_fields}
            for options in every:
                checked_before = own if others and options is of_fits else set()
                values = {name: given[name] for name in options.model_fields.keys() - checked_before if name in given}
                values |= {"rank": 1} if others and options is of_fits and "rank" not in values else {}
                if all(name in values for name, field in options.model_fields.items() if field.is_required()):
                    options.check(values)
            try:
                return _with_caution(function(*args, **kwargs), bound.get("fit"))
            except MemoryError as error:
                raise ContractError(
                    f"{function.__name__} needs more memory than it can get{_memory()}. {one_line(error)}. Use fewer "
                    "bins, conditions, neurons or hidden units."
                ) from error

        return checked

    return decorate


def _memory() -> str:
    """The memory of the machine in brackets, where the system says it."""
    try:
        return f" (the machine has {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB)"
    except (AttributeError, ValueError, OSError):
        return ""


def _with_caution(result: R, fit: Any) -> R:
    """A result of a fit that explains little repeats what the fit says, as the attribute ``fit_caution``."""
    caution = getattr(fit, "attrs", {}).get("caution")
    if caution and "kind" in getattr(result, "attrs", {}):
        result.attrs["fit_caution"] = caution  # type: ignore[attr-defined]
        warnings.warn(f"Computed from a fit that explains little: {caution}", stacklevel=3)
    return result


def plain(value: Any) -> Any:
    """Numbers of numpy as numbers of Python, sequences as tuples; a pair of functions stays what it is."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, range) and len(value) > MOST_LISTED:
        raise ContractError(f"{value} has {len(value)} numbers. At most {MOST_LISTED} are needed. Use fewer.")
    if isinstance(value, list | tuple | range | set | frozenset) and not hasattr(value, "_fields"):
        return tuple(plain(one) for one in value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def as_toml(value: Any) -> str:
    """A value as TOML on one line.

    Examples
    --------
    >>> as_toml({"window_s": [(0.0, 0.5)], "where": "correct"})
    '{ window_s = [[0.0, 0.5]], where = "correct" }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {as_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _toml_key(name: str) -> str:
    return tomli_w.dumps({name: 0}).rpartition(" = ")[0]


def explain(error: ValidationError, options: type[BaseModel], values: Mapping[str, Any]) -> str:
    """The first thing that is wrong, in three short sentences: what was found, what is needed, what to do."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    if first["type"] == "extra_forbidden":
        new = RENAMED.get(name)
        do = f"It is called {new} now. Use {new}." if new else f"Known are {', '.join(options.model_fields)}."
        return f"There is no option {name}. {do}"
    field = options.model_fields[name]
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return f"{name} is missing. It is needed: {field.description} Give {name}."
    return f"{name} is {values.get(name)!r}. It needs {needed(field)}. {field.description}"


def needed(field: FieldInfo) -> str:
    """The type and the bounds of an option in words.

    Examples
    --------
    >>> needed(FitOptions.model_fields["max_iter"])
    'a whole number from 1 on'
    >>> needed(SelectOptions.model_fields["cv_over"])
    "'condition' or 'neuron'"
    """
    bounds = ""
    for one in field.metadata:
        bounds += f" above {one.gt:g}" if hasattr(one, "gt") else f" from {one.ge:g} on" if hasattr(one, "ge") else ""
        bounds += (
            f" and below {one.lt:g}" if hasattr(one, "lt") else f" and at most {one.le:g}" if hasattr(one, "le") else ""
        )
        bounds += f", at least {one.min_length} of them" if hasattr(one, "min_length") else ""
    return _words(field.annotation, bounds)


_NOUNS = {int: "whole number", float: "number", str: "text", dict: "table", tuple: "pair"}


def _words(kind: Any, bounds: str = "") -> str:
    """A type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(one) for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(one, "" if one is type(None) else bounds) for one in inner))
    if origin is tuple:
        first = get_args(inner[0]) if get_origin(inner[0]) is types.UnionType else inner[:1]
        many = " or ".join(f"{_noun(one)}s" for one in first)
        return f"a list of {many}{bounds}" if inner[-1] is Ellipsis else f"{len(inner)} {many}"
    if kind is bool:
        return "True or False"
    return "None" if kind is type(None) else f"a {_noun(kind)}{bounds}"


def _noun(kind: Any) -> str:
    origin = get_origin(kind)
    return "function" if origin is collections.abc.Callable else _NOUNS.get(origin or kind, "value")


def is_kept(field: FieldInfo) -> bool:
    """Whether a fit keeps an option as an attribute."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("kept"))


def same(value: Any, default: Any) -> bool:
    """Whether an option has its default, sequences compared by their values."""
    return isinstance(value, type(default)) and plain(value) == plain(default)


def _attribute(value: Any) -> Any:
    """An option as an attribute of a Dataset."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple) and all(isinstance(one, float | int) for one in value):
        return [float(one) for one in value]
    return value


PUBLIC: tuple[type[Options], ...] = (
    ReadOptions, TrialOptions, PrepareOptions, InputOptions, FitOptions, SelectOptions, EnsembleOptions,
    BaselineOptions, SubsamplingOptions, AreaOptions, TauOptions, LinkOptions, BootstrapOptions, PopulationOptions,
    FixedPointOptions, LimitCycleOptions, FlowOptions, InactivationOptions, FigureOptions,
    ReadoutOptions, ResampleOptions, ProjectOptions, ScoreOptions, AxesOptions, ReportOptions,
    CompareOptions, TrialFitOptions, RefineOptions, InferOptions, RateOptions, ForecastOptions, BitsOptions,
    NetworkOptions, DriftOptions, NetworkOfTrialOptions, AlignOptions,
    ModuleOptions, DistillOptions, DynamicsOptions,
    BehaviorOptions, ReadoutWeightOptions, DecodingOptions, InferredOptions,
)  # fmt: skip


class Described(NamedTuple):
    """One option of the reference: where it stands, its type in words, its default, its sentence."""

    group: str
    name: str
    kind: str
    default: str
    sentence: str


def reference(classes: Iterable[type[Options]] = ()) -> list[Described]:
    """Every option in words, for the documentation."""
    chosen = tuple(classes) or PUBLIC
    return [
        Described(
            (one.__doc__ or "").strip().splitlines()[0],
            name,
            needed(field),
            "required" if field.is_required() else repr(field.default),
            field.description or "",
        )
        for one in chosen
        for name, field in one.model_fields.items()
    ]
