"""Options of the fits of means and of single trials, and the options that a stored fit was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator

from nwb_lint.errors import ContractError
from nwb_lint.options.base import Options, Seconds, is_kept, option, plain, same

if TYPE_CHECKING:
    import xarray as xr

ANY_WEIGHTS = "given"  # how a fit names weights that were an array


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
    max_iter: int = option(200, "Most iterations of the gradient, and of a second one if this is slow.", ge=1)
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
        # xarray takes a second to import, and the command line needs none
        from nwb_lint.contract.columns import held_out_of

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
    from nwb_lint.contract.columns import columns_of, input_names

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


def _attribute(value: Any) -> Any:
    """An option as an attribute of a Dataset."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple) and all(isinstance(one, float | int) for one in value):
        return [float(one) for one in value]
    return value


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
