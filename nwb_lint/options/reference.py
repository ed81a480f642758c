"""Every option in words, for the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nwb_lint.options.analyses import (
    AxesOptions,
    FixedPointOptions,
    FlowOptions,
    InactivationOptions,
    LimitCycleOptions,
    PopulationOptions,
    ProjectOptions,
    ReadoutOptions,
    ResampleOptions,
    ScoreOptions,
)
from nwb_lint.options.base import Options
from nwb_lint.options.fits import FitOptions, TrialFitOptions
from nwb_lint.options.read_and_prepare import BehaviorOptions, InputOptions, PrepareOptions, ReadOptions, TrialOptions
from nwb_lint.options.reports import CompareOptions, FigureOptions, ReportOptions
from nwb_lint.options.single_trials import (
    AlignOptions,
    BitsOptions,
    DecodingOptions,
    DriftOptions,
    ForecastOptions,
    InferOptions,
    NetworkOfTrialOptions,
    RateOptions,
    RefineOptions,
)
from nwb_lint.options.trained_networks import DistillOptions, ModuleOptions, NetworkOptions
from nwb_lint.options.validation import (
    AreaOptions,
    BaselineOptions,
    BootstrapOptions,
    DynamicsOptions,
    EnsembleOptions,
    InferredOptions,
    LinkOptions,
    ReadoutWeightOptions,
    SelectOptions,
    SubsamplingOptions,
    TauOptions,
)
from nwb_lint.options.words import needed

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
