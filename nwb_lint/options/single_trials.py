"""Options of what follows a fit of single trials: refined weights, latents, rates, drift, sessions, decoding."""

from __future__ import annotations

from typing import Literal

from nwb_lint.options.base import Options, Seconds, option


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


class DecodingOptions(Options):
    """Options of `decode_behavior`."""

    causal: bool = option(True, "Use only the samples until each time.")
    level: float = option(0.9, "Probability of the intervals.", gt=0, lt=1)
