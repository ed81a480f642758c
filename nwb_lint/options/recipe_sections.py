"""Sections of a recipe: options of functions, some left out, some with another default."""

from __future__ import annotations

from typing import Any

from nwb_lint.options.base import Options, derived, option
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.read_and_prepare import PrepareOptions, ReadOptions, TrialOptions
from nwb_lint.options.single_trials import DecodingOptions
from nwb_lint.options.validation import (
    AreaOptions,
    BaselineOptions,
    BootstrapOptions,
    EnsembleOptions,
    InferredOptions,
    InputSetOptions,
    ReadoutWeightOptions,
    SelectOptions,
    SubsamplingOptions,
)


def _section(name: str, base: type[Options], **changes: Any) -> Any:
    """The options of a function as a section: a class of this module, where other processes look for its name."""
    made = derived(name, base, **changes)
    made.__module__ = __name__
    return made


# Sections of a recipe. The rank of a fit comes from `select.ranks`, the seed of the trial halves from `fit.seed`, and
# what is read for inputs from `inputs` and `prepare.burn_in_s`.
_FROM_OTHERS = ("seed", "draws", "inputs", "burn_in_s")
ReadSection = _section("ReadSection", ReadOptions, without=_FROM_OTHERS, bin_s=0.01, smooth_s=0.05, halves=True)
PrepareSection = _section("PrepareSection", PrepareOptions)
FitSection = _section("FitSection", FitOptions, without=("rank",), tau_s=0.1, test_size=0.1)
SelectSection = _section("SelectSection", SelectOptions, ranks=(1, 2))
EnsembleSection = _section("EnsembleSection", EnsembleOptions)
BaselineSection = _section("BaselineSection", BaselineOptions)
SubsamplingSection = _section("SubsamplingSection", SubsamplingOptions)
BlocksSection = _section("BlocksSection", AreaOptions)
BootstrapSection = _section("BootstrapSection", BootstrapOptions)
InferredSection = _section("InferredSection", InferredOptions)
ReadoutWeightSection = _section("ReadoutWeightSection", ReadoutWeightOptions)
DecodingSection = _section("DecodingSection", DecodingOptions)


class InputSetSection(derived("_InputSets", InputSetOptions)):  # type: ignore[misc]
    """Options of `compare_inputs`, for lists that are made of the inputs of the recipe."""

    sets: dict[str, str] = option(..., "Lists of inputs to compare, by name: names of inputs with commas between them.")


class TrialReadSection(derived("_TrialReading", TrialOptions, without=("inputs",), bin_s=0.02)):  # type: ignore[misc]
    """Options of `read_trials`."""

    by: tuple[str, ...] = option((), "Trial columns of the conditions: inputs where none are named, and colors.")


# Sections of a recipe for single trials, in place of those of the same name.
TrialFitSection = _section("TrialFitSection", TrialFitOptions, without=("rank",), tau_s=0.1, test_size=0.2)
TrialSelectSection = _section("TrialSelectSection", SelectOptions, without=("cv_over",), ranks=(1, 2), folds=4)
