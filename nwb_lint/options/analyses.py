"""Options of the analyses of a fit: populations, dynamics, inactivations, axes, scores."""

from __future__ import annotations

from typing import Any, Literal

from nwb_lint.options.base import Options, Seconds, Window, option


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


class ProjectOptions(Options):
    """Options of `project`."""

    order: tuple[str, ...] | None = option(
        None, "Vectors of the fit, in this order; None: m, then the input weights.", min_length=1
    )
    orthogonal: bool = option(True, "Make the axes orthogonal, so that their shares of the variance add up.")


class ScoreOptions(Options):
    """Options of `score`."""

    conditions: Any = option(None, "Labels, positions or a mask of the conditions to score; None: all.")


class AxesOptions(Options):
    """Options of `compare_axes`."""

    variables: tuple[str, ...] | None = option(None, "Trial columns of the regression; None: all with numbers.")
    n_components: int = option(12, "Principal components to which regression weights are restricted.", ge=1)
    orthogonal: bool = option(True, "Make the regression axes orthogonal in the order of the variables.")
    mtdr_dims: int | Literal["aic"] = option(
        "aic", "Dimensions of each variable in the model of the weights; 'aic': chosen by Akaike's criterion.", ge=0
    )
