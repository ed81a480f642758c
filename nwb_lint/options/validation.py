"""Options of the choices and comparisons of fits: rank, areas, inputs, time constants, ensembles, intervals."""

from __future__ import annotations

from typing import Any, Literal

from nwb_lint.options.base import Options, Seconds, option


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


class DynamicsOptions(Options):
    """Options of `compare_dynamics`."""

    measure: Literal["dsa", "prediction"] = option(
        "dsa", "Dynamical similarity analysis, or the share of the latents that the other system does not explain."
    )
    splits: int = option(20, "Random splits of the conditions into halves that are fitted.", ge=1)
    change: float = option(0.5, "Relative change of the connectivity that matters.", gt=0, lt=1)
    level: float = option(0.05, "Largest share of pairs of one system that may be called different.", gt=0, lt=1)
    seed: int = option(0, "Seed of the splits.", ge=0)
