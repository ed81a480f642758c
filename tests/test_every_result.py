"""What every public function gives: into NWB and back identical, and drawn on Axes that are given."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.behavior import build_behavior
from nwb_lint.contract.checks import check_result
from nwb_lint.contract.columns import columns_of
from nwb_lint.contract.results import RESULTS
from nwb_lint.errors import ContractError
from nwb_lint.nwb.extension.codec import encode
from nwb_lint.nwb.extension.read import find_entries
from nwb_lint.nwb.recording.dataset import RESERVED
from nwb_lint.testing import mock_recording, mock_trials
from tests.factories import assert_same

# the activity here is not that of a network
pytestmark = [
    pytest.mark.filterwarnings("ignore:Input .* acts .* than its times say"),
    pytest.mark.filterwarnings("ignore:The drives .* are nearly combinations"),
    pytest.mark.filterwarnings("ignore:Behavior of held-out data is not predicted"),
]

SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}
SWEEP = {"tau_s": 0.1, "method": "regression"}


def recording():
    """16 neurons with unit columns in 12 conditions with a text column and a number."""
    found = mock_recording(n_neurons=16, n_conditions=12, draws=3)
    return found.assign_coords(
        side=("condition", np.array(["left", "right"])[np.arange(12) % 2]),
        unit_id=("neuron", 3 * np.arange(16)),
        area=("neuron", np.array(["ALM", "V1"])[np.arange(16) % 2]),
        depth=("neuron", np.linspace(0, 1, 16)),
    )


STIMULUS = nl.Input("stimulus", column="stimulus", window_s=(0.0, 1.0))
INPUT_SETS = {"stimulus": [STIMULUS], "go": [nl.Input("go", window_s=(0.3, 0.6))]}


def linked(recording, **options):
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0.0, 1.0))]
    return nl.prepare(recording, inputs=inputs, **options)


def prepared(recording):
    inputs = [nl.Input("stimulus", column="stimulus", window_s=(0.0, 1.0)), nl.Input("go", window_s=(0.3, 0.6))]
    options = {"center": (-0.2, 0.0), "time_course": False, "n_components": None, "fit_on": range(10)}
    return nl.prepare(recording, inputs=inputs, **options)


@pytest.fixture(scope="module")
def activity():
    return prepared(recording())


@pytest.fixture(scope="module")
def fit(activity):
    """Rank 2, four hidden units, two conditions held out."""
    return nl.fit_lint(activity, rank=2, hidden=4, **SWEEP)


def turning(fit):
    """The fit with another n, so that its latents oscillate."""
    n = fit.sizes["neuron"] * fit["m"].values @ np.array([[1.9, 0.9], [-0.9, 1.9]])
    return fit.assign(n=(fit["n"].dims, n))


def field_around(cycles):
    """A flow field for the plane of limit cycles."""
    kappa = np.stack(np.meshgrid(*[np.linspace(-5, 5, 4)] * 2, indexing="ij"), -1).reshape(-1, 2)
    field = xr.Dataset({name: (("point", "rank"), kappa) for name in ("kappa", "velocity")})
    field = field.assign(speed=("point", np.ones(16)), input_value=cycles["input_value"])
    return field.assign_attrs(kind="flow_field", n_points=4, extent=[-5.0, 5.0, -5.0, 5.0], tau_s=0.1)


def with_side(activity):
    """The activity with the column side as behavior."""
    behavior = build_behavior(activity, [nl.Readout("side", column="side", window_s=(0.1, 0.4))])
    return activity.assign(behavior=behavior["behavior"].variable).assign_coords(behavior.drop_vars("behavior").coords)


# Public function → what it gives of a fit and its activity, and the figure of it.
CASES = {
    "latents": (nl.latents, lambda one, ax: plot.latents_over_time(one, ax=ax)),
    "project": (nl.project, lambda one, ax: plot.projections(one, ("m 1", "I go"), ax=ax)),
    "flow_field": (
        lambda fit, activity: nl.flow_field(
            fit, condition=2, n_points=5, activity=activity, refit_fractions=(1, 0.5), draws=2
        ),
        lambda one, ax: plot.flow(one, ax=ax),
    ),
    "fixed_points": (
        lambda fit, activity: nl.fixed_points(
            fit, input={"go": 0.3}, activity=activity, refit_fractions=(0.5,), draws=2
        ),
        lambda one, ax: plot.fixed_point_counts(one, ax=ax),
    ),
    "limit_cycles": (
        lambda fit, activity: nl.limit_cycles(turning(fit)),
        lambda one, ax: plot.flow(field_around(one), cycles=one, ax=ax),
    ),
    "compare_axes": (nl.compare_axes, lambda one, ax: plot.angles(one, ax=ax)),
    "connectivity": (lambda fit, activity: nl.connectivity(fit), lambda one, ax: plot.overlaps(one, ax=ax)),
    "weight_statistics": (
        lambda fit, activity: nl.weight_statistics(fit),
        lambda one, ax: plot.weight_histograms(one, ax=ax),
    ),
    "find_populations": (
        lambda fit, activity: nl.find_populations(fit, n_groups=2, resamples=1),
        lambda one, ax: plot.loadings(one, ax=ax),
    ),
    "predict_inactivation": (
        lambda fit, activity: nl.predict_inactivation(fit, "area", readout="side", context="side", controls=2),
        lambda one, ax: plot.inactivation_bars(one, ax=ax),
    ),
    "fit_readout": (
        lambda fit, activity: nl.fit_readout(activity, "side", folds=3, window_s=(0.1, 0.4)),
        lambda one, ax: plot.readout_weights(one, ax=ax),
    ),
    "score": (
        lambda fit, activity: nl.score(fit, activity, conditions=[1, 10]),
        lambda one, ax: plot.condition_scores(one, ax=ax),
    ),
    "select_rank": (
        lambda fit, activity: nl.select_rank(activity, ranks=[1, 2], folds=2, **SWEEP),
        lambda one, ax: plot.scores(one, ax=ax),
    ),
    "baselines": (
        lambda fit, activity: nl.baselines(activity, rank=2, folds=2, **SWEEP),
        lambda one, ax: plot.scores(one, ax=ax),
    ),
    "ensemble": (
        lambda fit, activity: nl.ensemble(activity, rank=2, members=3, **SWEEP),
        lambda one, ax: plot.ensemble_agreement(one, ax=ax),
    ),
    "compare_tau": (
        lambda fit, activity: nl.compare_tau(activity, rank=2, taus_s=[0.1, 0.2], folds=2, method="regression"),
        lambda one, ax: plot.tau_comparison(one, ax=ax),
    ),
    "compare_dynamics": (
        lambda fit, activity: nl.compare_dynamics(
            {"fit": fit, "data": (fit, activity)}, measure="prediction", splits=2
        ),
        lambda one, ax: plot.dynamics_distances(one, ax=ax),
    ),
    "compare_links": (
        lambda fit, activity: nl.compare_links(recording(), prepare=linked, rank=1, folds=2, **SWEEP),
        lambda one, ax: plot.link_comparison(one, ax=ax),
    ),
    "compare_inputs": (
        lambda fit, activity: nl.compare_inputs(recording(), INPUT_SETS, rank=1, folds=2, **SWEEP),
        lambda one, ax: plot.input_comparison(one, ax=ax),
    ),
    "infer_inputs": (
        lambda fit, activity: nl.infer_inputs(activity, rank=2, tau_s=0.1, folds=2, hidden=4),
        lambda one, ax: plot.inferred_inputs(one, ax=ax),
    ),
    "compare_drift": (
        lambda fit, activity: nl.compare_drift(
            mock_trials(n_trials=8), rank=1, tau_s=0.1, drifts=[0, 1], folds=2, hidden=0, max_iter=2
        ),
        lambda one, ax: plot.drift_comparison(one, ax=ax),
    ),
    "compare_readouts": (
        lambda fit, activity: nl.compare_readouts(
            with_side(activity), readout_weights=[0, 1], rank=1, folds=2, **SWEEP
        ),
        lambda one, ax: plot.readout_comparison(one, ax=ax),
    ),
    "decode_behavior": (
        lambda fit, activity: nl.decode_behavior(
            nl.fit_lint(with_side(activity), rank=2, **SWEEP), with_side(activity)
        ),
        lambda one, ax: plot.decoded_behavior(one, ax=ax),
    ),
    "align_fits": (
        lambda fit, activity: nl.align_fits({"day 1": fit, "day 2": fit}),
        lambda one, ax: plot.session_changes(one, ax=ax),
    ),
    "bootstrap": (
        lambda fit, activity: nl.bootstrap(fit, recording(), prepare=prepared, simulations=3),
        lambda one, ax: plot.intervals(one, ax=ax),
    ),
    "currents": (
        lambda fit, activity: nl.currents(
            nl.fit_lint(activity, rank=1, areas="area", block_ranks={"V1<-V1": 0, "V1<-ALM": 0}, hidden=4, **SWEEP)
        ),
        lambda one, ax: plot.currents(one, ax=ax),
    ),
    "select_areas": (
        lambda fit, activity: nl.select_areas(activity, areas="area", ranks=[1], folds=2, tau_s=0.1),
        lambda one, ax: plot.area_scores(one, ax=ax),
    ),
    "audit": (
        lambda fit, activity: nl.audit(activity, ranks=[1, 2], fractions=[1, 0.1], folds=2, draws=2, **SWEEP),
        lambda one, ax: plot.rank_audit(one, ax=ax),
    ),
}
# What gives no result: data, fits (`write_fit` keeps them) and networks' runs, readers, writers.
OTHERS = {
    "errors", "plot", "show_versions", "report", "compare",  # two modules, and what is read rather than kept
    "Input", "Readout", "LowRankDecoder", "LowRankEncoder",
    "add_to_nwbfile", "canonicalize", "fit_lint", "network_of_trial", "networks_of_draws", "open_nwb", "prepare",
    "chosen_areas", "read_conditions", "read_fit", "read_result", "read_results", "read_trials", "resample_network",
    "simulate", "truncate", "write_fit", "write_result", "bits_per_spike", "fit_trials", "forecast", "infer_latents",
    "predict_rates", "refine_free_run", "write_session", "from_arrays", "from_nwbfile", "from_pynapple",
    "from_spikeinterface", "from_spikes", "from_network", "distill", "run_module", "read", "to_datatree", "to_pandas",
    "to_pynapple", "with_inferred_inputs",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(fit, activity):
    return {name: compute(fit, activity) for name, (compute, _) in CASES.items()}


@pytest.fixture(scope="module")
def path(fit, results, tmp_path_factory):
    """All of them in one file, beside their fit."""
    return nl.write_fit(fit, tmp_path_factory.mktemp("every") / "fit.nwb", subject=SUBJECT, results=results)


def test_every_public_function_and_every_kind_is_here(results):
    assert set(CASES) | OTHERS == set(nl.__all__)
    assert {check_result(one) for one in results.values()} == set(RESULTS)


@pytest.mark.parametrize("name", CASES)
def test_a_result_comes_back_from_its_file_identical(name, results, path):
    assert_same(results[name], nl.read_result(path, name))


@pytest.mark.parametrize("name", CASES)
def test_a_result_knows_the_units_of_its_neurons(name, results, fit):
    result = results[name]
    if "neuron" in result.dims:
        own = fit.sel(neuron=result["neuron"].values)
        for column in ("unit_id", "area", "depth"):
            there = own["recorded"].values  # hidden units of a fit with areas have one
            np.testing.assert_array_equal(result[column].values[there], own[column].values[there])


@pytest.mark.parametrize("name", CASES)
def test_a_result_is_drawn_on_the_axes_that_are_given(name, results):
    ax = Figure().subplots()
    assert CASES[name][1](results[name], ax) is ax
    assert ax.has_data()
    assert isinstance(CASES[name][1](results[name], None), Axes)


def test_fits_that_come_from_fits_are_fits_in_files_too(fit, activity, tmp_path):
    full = nl.fit_lint(activity, rank=None, tau_s=0.1)
    populations = nl.find_populations(fit, n_groups=1, resamples=1, hidden=True)
    made = {
        "canonicalize": nl.canonicalize(fit),
        "truncate": nl.truncate(full, rank=1, activity=activity),
        "resample_network": nl.resample_network(fit, populations, n_neurons=50),
        "rank None": full,
    }
    for name, one in made.items():
        assert_same(one, nl.read_fit(nl.write_fit(one, tmp_path / f"{name}.nwb", subject=SUBJECT)))
    path = tmp_path / "rank None.nwb"
    for name in ("connectivity", "weight_statistics"):
        result = getattr(nl, name)(full)
        nl.write_result(result, path, name=name)
        assert_same(result, nl.read_result(path, name))


def test_results_of_other_conditions_than_the_fits_are_kept(fit, activity, tmp_path):
    """A network runs, and activity is projected, on conditions that it was not fitted to."""
    other = activity.isel(condition=[0, 1, 2]).assign_coords(condition=["new 0", "new 1", "new 2"])
    results = {
        "projected": nl.project(fit, other),
        "latents": nl.latents(fit, other),
        "scores": nl.score(fit, other),
        "silenced": nl.predict_inactivation(fit, "area", u=other, controls=0),
    }
    added = results.pop("projected")
    path = nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, results=results)
    nl.write_result(added, path, name="projected")
    for name, result in {"projected": added, **results}.items():
        assert_same(result, nl.read_result(path, name))


def test_a_result_of_another_network_is_refused_and_nothing_is_written(fit, activity, tmp_path):
    other = nl.fit_lint(activity, rank=1, **SWEEP)
    with pytest.raises(ContractError, match=r"1 along rank.*lowrank_fit has 2"):
        nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, results={"flow": nl.flow_field(other, n_points=3)})
    with pytest.raises(ContractError, match="of kind 'none'"):
        nl.write_fit(fit, tmp_path / "fit.nwb", subject=SUBJECT, results={"fit": other})
    assert list(tmp_path.iterdir()) == []


def test_results_go_into_a_copy_together_with_their_fit(path, fit, results, tmp_path):
    again = nl.write_fit(fit, tmp_path / "copy.nwb", into=path, name="again", results={"mine": results["flow_field"]})
    assert_same(results["flow_field"], nl.read_result(again, "mine"))
    with nl.open_nwb(again) as file:
        assert len(find_entries(file)) == len(CASES) + 3
        assert file["processing/ecephys/mine"].get("network", getlink=True).path.endswith("/again")


def test_columns_called_like_variables_of_a_result_are_in_it_under_another_name(activity):
    names = {name for table in RESULTS.values() for name, var in table.items() for name in (name, *var.dims)} - RESERVED
    columns = {name: ("condition", np.array([f"{name} {k}" for k in range(12)])) for name in names}
    of_units = {f"{name}": ("neuron", np.arange(16.0)) for name in names}
    for added in (columns, of_units):
        fit = nl.fit_lint(activity.assign_coords(added), rank=2, hidden=4, **SWEEP)
        for name in ("latents", "project", "compare_axes", "connectivity", "weight_statistics", "find_populations",
                     "predict_inactivation", "fit_readout", "score", "ensemble"):  # fmt: skip
            result = CASES[name][0](fit, activity.assign_coords(added))
            for dim in {"condition", "neuron"} & set(result.dims):
                kept = columns_of(result, dim)
                wanted = columns_of(fit, dim)
                assert kept.keys() >= names & wanted.keys()
            encode(result)


# -- figures --

FIGURES = {"summary", "session_summary"}  # pages of several figures


@pytest.mark.parametrize("name", sorted(plot.__all__))
def test_every_figure_takes_and_returns_axes(name):
    signature = inspect.signature(getattr(plot, name))
    if name in FIGURES:
        assert signature.return_annotation == "Figure"
        return
    ax = signature.parameters["ax"]
    assert (signature.return_annotation, ax.annotation, ax.default) == ("Axes", "Axes | None", None)
    assert ax.kind is inspect.Parameter.KEYWORD_ONLY


def test_no_result_is_drawn_by_what_is_for_another(results):
    drawn = {"latents": plot.scores, "score": plot.rank_audit, "audit": plot.condition_scores}
    drawn |= {"ensemble": plot.overlaps, "connectivity": plot.ensemble_agreement, "select_rank": plot.readout_weights}
    for name, draw in drawn.items():
        with pytest.raises(ContractError, match=r"^(fit lacks|the result is of kind) [^\n]+$"):
            draw(results[name])
    with pytest.raises(ContractError, match="no refits"):
        plot.fixed_point_counts(results["fixed_points"].drop_dims("draw"))
    with pytest.raises(ContractError, match="no overlaps"):
        plot.overlaps(results["connectivity"].drop_dims("rank"))


def test_tables_of_ranks_look_like_those_in_a_fit(results, fit):
    table = results["select_rank"]
    kept = fit.assign(rank_r2=table["rank_r2"], rank_r2_sem=table["rank_r2_sem"])
    one, other = (plot.scores(what) for what in (table, kept))
    lines = [
        np.concatenate(
            [part.get_ydata() for part in ax.lines if len(part.get_ydata()) == 2 and part.get_marker() == "o"]
        )
        for ax in (one, other)
    ]
    np.testing.assert_array_equal(*lines)
