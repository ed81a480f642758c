"""The options of every public function, by the function: what the tests of options go through."""

from __future__ import annotations

import nwb_lint as nl
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
    InputSetOptions,
    LinkOptions,
    ReadoutWeightOptions,
    SelectOptions,
    SubsamplingOptions,
    TauOptions,
)

FUNCTIONS = {
    ReadOptions: nl.read_conditions, TrialOptions: nl.read_trials, PrepareOptions: nl.prepare,
    InputOptions: nl.Input, FitOptions: nl.fit_lint, SelectOptions: nl.select_rank,
    EnsembleOptions: nl.ensemble, BaselineOptions: nl.baselines, SubsamplingOptions: nl.audit,
    AreaOptions: nl.select_areas,
    BootstrapOptions: nl.bootstrap, TauOptions: nl.compare_tau, LinkOptions: nl.compare_links,
    InputSetOptions: nl.compare_inputs, InferredOptions: nl.infer_inputs,
    PopulationOptions: nl.find_populations, FixedPointOptions: nl.fixed_points,
    LimitCycleOptions: nl.limit_cycles, FigureOptions: nl.plot.rates,
    FlowOptions: nl.flow_field, InactivationOptions: nl.predict_inactivation,
    ReadoutOptions: nl.fit_readout, ResampleOptions: nl.resample_network,
    ProjectOptions: nl.project, ScoreOptions: nl.score, AxesOptions: nl.compare_axes,
    ReportOptions: nl.report, CompareOptions: nl.compare,
    TrialFitOptions: nl.fit_trials, RefineOptions: nl.refine_free_run,
    InferOptions: nl.infer_latents,
    NetworkOptions: nl.from_network, ModuleOptions: nl.run_module, DistillOptions: nl.distill,
    DynamicsOptions: nl.compare_dynamics,
    BehaviorOptions: nl.Readout, ReadoutWeightOptions: nl.compare_readouts,
    DecodingOptions: nl.decode_behavior,
    DriftOptions: nl.compare_drift, NetworkOfTrialOptions: nl.network_of_trial,
    AlignOptions: nl.align_fits,
    RateOptions: nl.predict_rates, ForecastOptions: nl.forecast, BitsOptions: nl.bits_per_spike,
}  # fmt: skip
CLASSES = {function: group for group, function in FUNCTIONS.items()}


def options_of(function) -> list[str]:
    """The names of the options of a function."""
    return list(CLASSES[function].model_fields)
