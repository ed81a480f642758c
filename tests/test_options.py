"""Every option once: signature, recipe, flag, reference and fit all have it, and it has an effect."""

from __future__ import annotations

import inspect
import json
import pickle

import click
import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import cli
from nwb_lint.cli.flags import flag_of
from nwb_lint.errors import ContractError
from nwb_lint.options.analyses import PopulationOptions
from nwb_lint.options.fits import FitOptions
from nwb_lint.options.read_and_prepare import InputOptions
from nwb_lint.options.reference import PUBLIC, reference
from nwb_lint.testing import mock_activity, mock_recording, mock_session
from nwb_lint.workflow.recipe import SECTIONS, TRIAL_SECTIONS, make_recipe, recipe_data
from tests.option_classes import FUNCTIONS
from tests.test_options_act import with_behavior

# Arguments that are no options: the data, and where and how the work runs.
NO_OPTIONS = {
    "activity", "fit", "recording", "sources", "source", "groups", "column", "u", "inputs", "fit_on", "fit_options",
    "session", "ax",
    "executor", "cache_dir", "progress", "trials", "neurons", "start",
    "verbose", "rank", "ranks", "tau_s", "seed", "populations", "bootstrap", "prepare", "reference", "results",
    "other", "network", "areas", "module", "readout", "systems", "data", "input_sets", "fits",
    "readouts",
}  # fmt: skip
RECIPE = {
    "ReadOptions": "read", "PrepareOptions": "prepare", "InputOptions": "inputs", "FitOptions": "fit",
    "SelectOptions": "select", "EnsembleOptions": "ensemble", "BaselineOptions": "baselines",
    "SubsamplingOptions": "subsampling", "BootstrapOptions": "bootstrap", "AreaOptions": "blocks",
}  # fmt: skip
SWITCHES = ("ensemble", "baselines", "subsampling", "blocks", "bootstrap")  # sections whose flags begin with their name
# Fields that a recipe or the command line has at another place, and where.
ELSEWHERE = {
    ("FitOptions", "rank"): "select.ranks", ("ReadOptions", "seed"): "fit.seed",
    ("ReadOptions", "draws"): "bootstrap.draws", ("ReadOptions", "burn_in_s"): "prepare.burn_in_s",
    ("ReadOptions", "inputs"): "inputs", ("TrialOptions", "inputs"): "inputs",
    ("TrialFitOptions", "rank"): "select.ranks",
    ("FixedPointOptions", "refit_fractions"): "needs the activity",
    ("FixedPointOptions", "draws"): "needs the activity",
    ("FixedPointOptions", "other_ranks"): "needs the activity",
    ("FixedPointOptions", "other_ridges"): "needs the activity",
}  # fmt: skip
COMMANDS = {"PopulationOptions": "populations", "FixedPointOptions": "fixed-points", "ReadoutOptions": "readout",
            "InactivationOptions": "inactivate", "ReportOptions": "report",
            "CompareOptions": "compare", "FigureOptions": "figure"}  # fmt: skip
CLASSES = {one.__name__: one for one in PUBLIC}
FIELDS = [(one, name) for one in PUBLIC for name in one.model_fields]


def identity(pair) -> str:
    return f"{pair[0].__name__}.{pair[1]}" if isinstance(pair, tuple) else str(pair)


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_every_option_is_an_argument_with_the_same_default(group, name):
    parameter = inspect.signature(FUNCTIONS[group]).parameters[name]
    field = group.model_fields[name]
    if field.is_required():
        assert parameter.default is inspect.Parameter.empty
    else:
        assert parameter.default == field.default


@pytest.mark.parametrize("group", FUNCTIONS)
def test_every_argument_is_an_option(group):
    assert set(inspect.signature(FUNCTIONS[group]).parameters) - NO_OPTIONS <= set(group.model_fields)


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_every_option_has_a_sentence_and_a_type_in_words(group, name):
    found = next(one for one in reference([group]) if one.name == name)
    assert found.sentence.endswith(".")
    assert found.kind


@pytest.mark.parametrize("group", [one for one in PUBLIC if one.__name__ in RECIPE])
def test_every_option_of_an_analysis_is_in_the_recipe_and_has_a_flag(group):
    section = SECTIONS[RECIPE[group.__name__]]
    names = {name for name in group.model_fields if (group.__name__, name) not in ELSEWHERE}
    assert names == set(section.model_fields)
    flags = {flag for one in cli.app.commands["fit"].params for flag in one.opts}
    prefix = RECIPE[group.__name__] if RECIPE[group.__name__] in SWITCHES else ""
    if group is not InputOptions:  # one flag, --input KEY=VALUE,…
        assert {flag_of(name, prefix) for name in names} <= flags


@pytest.mark.parametrize(("group", "name"), [("TrialOptions", "read"), ("TrialFitOptions", "fit")])
def test_every_option_of_single_trials_is_in_their_recipe_and_has_a_flag(group, name):
    names = {one for one in CLASSES[group].model_fields if (group, one) not in ELSEWHERE}
    assert names == set(TRIAL_SECTIONS[name].model_fields) - {"by"}
    flags = {flag for one in cli.app.commands["fit"].params for flag in one.opts}
    assert {flag_of(one) for one in names} <= flags


@pytest.mark.parametrize(("group", "command"), COMMANDS.items())
def test_every_option_of_a_command_has_a_flag(group, command):
    names = {name for name in CLASSES[group].model_fields if (group, name) not in ELSEWHERE}
    flags = {flag for one in cli.app.commands[command].params if isinstance(one, click.Option) for flag in one.opts}
    assert {flag_of(name) for name in names} <= flags


# A value other than the default for every option of a fit, and what else the fit then needs.
OTHER = {
    "rank": (2, {}), "tau_s": (0.2, {}), "method": ("regression", {}), "nonlinearity": ("relu", {}),
    "loss": ("rate", {}), "test_size": (0.4, {}), "test_conditions": ((0, 3), {}), "seed": (1, {}), "hidden": (6, {}),
    "bias": (True, {}), "initial": ("learned", {}), "ridges": ((1.0,), {}), "ridge_by": ("gcv", {}),
    "weights": ("precision", {}), "l2_n": (0.1, {"method": "gradient"}), "max_iter": (3, {"method": "gradient"}),
    "epochs": (2, {"method": "published"}), "optimizer": ("adam", {"method": "gradient"}),
    "segment_s": (0.2, {"method": "gradient"}), "areas": ("area", {}), "block_ranks": ({"A<-B": 0}, {"areas": "area"}),
    "input_areas": ({"stimulus": ("A",)}, {"areas": "area"}), "readout_weight": (5.0, {}),
}  # fmt: skip
HOW = {"device", "checkpoint"}  # they do not change the fit


@pytest.fixture(scope="module")
def noisy() -> xr.Dataset:
    """An activity with noise, trial halves and different numbers of trials."""
    activity = mock_activity()
    rng = np.random.default_rng(0)
    clean = activity["activity"].values
    activity["activity"] = activity["activity"].dims, (clean + 0.1 * rng.standard_normal(clean.shape)).astype("f4")
    half = (clean + 0.2 * rng.standard_normal((2, *clean.shape))).astype("f4")
    activity["activity_half"] = ("half", "condition", "time", "neuron"), half
    counts = rng.integers(2, 30, (2, activity.sizes["condition"], activity.sizes["neuron"]))
    activity["n_trials_half"] = ("half", "condition", "neuron"), counts
    return activity.assign_coords(area=("neuron", np.array(["A", "B"])[np.arange(12) % 2]))


def test_other_values_are_known_for_every_option_of_a_fit():
    assert OTHER.keys() | HOW == set(FitOptions.model_fields)


@pytest.mark.parametrize("name", OTHER)
def test_every_option_changes_the_fit_and_is_kept_by_it(name, noisy):
    value, more = OTHER[name]
    base = {"rank": 1, "tau_s": 0.1, "max_iter": 8, "epochs": 1} | more
    if name == "max_iter":
        base["max_iter"] = 8
    data = with_behavior(noisy) if name == "readout_weight" else noisy
    one, other = nl.fit_lint(data, **base), nl.fit_lint(data, **(base | {name: value}))
    same = one.sizes == other.sizes and all(
        np.array_equal(one[part].values, other[part].values, equal_nan=True)
        for part in ("input_weights", "activity_pred", "bias", "initial_activation", "held_out")
    )
    assert not same
    again = FitOptions.of_fit(other)
    if name == "test_size":
        assert again.test_conditions == tuple(other["held_out"].values.tolist())
    elif name == "test_conditions":
        assert np.flatnonzero(again.test_conditions).tolist() == list(value)
    else:
        assert getattr(again, name) == value


def test_a_fit_that_keeps_no_penalty_had_none(noisy):
    fit = nl.fit_lint(noisy, rank=1, tau_s=0.1, method="regression")
    assert FitOptions.of_fit(fit).l2_n == fit.attrs.pop("l2_n") == "auto"
    assert FitOptions.of_fit(fit).l2_n == 0  # the default before every fit kept it


@pytest.mark.parametrize("section", [*SECTIONS.values(), *TRIAL_SECTIONS.values()])
def test_other_processes_find_the_class_of_a_section(section):
    assert pickle.loads(pickle.dumps(section)) is section


@pytest.mark.parametrize("section", SECTIONS)
def test_a_recipe_says_every_field_and_comes_back_the_same(section):
    data = {"sources": ["a.nwb"], "read": {"by": ["x"], "align": "start_time", "window_s": [0.0, 1.0]}}
    given = {
        "inputs": [{"name": "x"}],
        "readouts": [{"name": "x", "column": "x"}, {"name": "y", "series": "y"}],
        "subject": {"subject_id": "m1"},
        "compare_inputs": {"sets": {"a": "x", "b": "x"}},
    }
    given = given.get(section, {})
    recipe = make_recipe(data | ({} if section == "read" else {section: given}))
    assert make_recipe(recipe_data(recipe)) == recipe


def test_recipes_of_earlier_versions_are_read():
    read = {"by": ["x"], "align": "start_time", "window_s": [0.0, 1.0]}
    old = {
        "sources": ["a.nwb"], "read": read, "prepare": {"centre": False},
        "fit": {"ranks": [1, 3], "folds": 4, "hold": "neuron", "holdout": 3, "ensemble": 5, "over": "seed",
                "baselines": True},
    }  # fmt: skip
    found = make_recipe(old)
    assert found.select.ranks == (1, 3)
    assert found.select.cv_over == "neuron"
    assert found.fit.test_size == 3
    assert (found.ensemble.members, found.ensemble.vary) == (5, "seed")
    assert found.baselines.folds == 4
    assert found.prepare.center is False
    named = make_recipe({"sources": ["a.nwb"], "read": read, "fit": {"rank": 2, "holdout": ["x=1"]}})
    assert named.select.ranks == (2,)
    assert named.fit.test_conditions == ("x=1",)


def test_none_is_written_as_a_text_where_it_is_not_the_default():
    read = {"by": ["x"], "align": "start_time", "window_s": [0.0, 1.0], "smooth_s": "none"}
    recipe = make_recipe({"sources": ["a.nwb"], "read": read, "prepare": {"n_components": "none"}})
    assert recipe.read.smooth_s is None
    assert recipe.prepare.n_components is None
    assert 'n_components = "none"' in recipe.text()
    assert make_recipe(json.loads(json.dumps(recipe_data(recipe)))) == recipe


@pytest.mark.parametrize(
    ("call", "new"),
    [
        (lambda: nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, holdout=0.2), "test_size.*test_conditions"),
        (lambda: nl.prepare(mock_recording(), inputs=[nl.Input("cue")], centre=False), "center"),
        (lambda: nl.select_rank(mock_activity(), ranks=[1], tau_s=0.1, hold="neuron"), "cv_over"),
        (lambda: nl.ensemble(mock_activity(), rank=1, tau_s=0.1, over="seed"), "vary"),
        (lambda: nl.select_rank(mock_activity(), ranks=[1], tau_s=0.1, cells="x"), "cache_dir"),
        (lambda: nl.fixed_points(mock_activity(), audit=(1,)), "refit_fractions"),
        (lambda: nl.write_result(mock_activity(), "x.nwb", fit="y"), "fit_name"),
        (lambda: nl.simulate(mock_activity(), input=None), "called u now"),
    ],
)
def test_an_earlier_name_is_an_error_that_names_the_new_one(call, new):
    with pytest.raises(ContractError, match=new):
        call()


@pytest.mark.parametrize("value", [True, "one", 1.5, 0, None, float("nan"), [1]])
def test_values_of_another_type_or_out_of_bounds_are_refused_by_name(value):
    with pytest.raises(ContractError, match=r"max_iter is .* whole number"):
        nl.fit_lint(mock_activity(), rank=1, tau_s=0.1, max_iter=value)


def test_unknown_arguments_of_refits_are_refused_by_name():
    with pytest.raises(ContractError, match="rnak"):
        nl.ensemble(mock_activity(), rank=1, tau_s=0.1, rnak=2)


def test_what_needs_more_memory_than_there_is_is_an_error_that_says_so(tmp_path):
    path = mock_session(tmp_path / "s.nwb")
    with pytest.raises(ContractError, match=r"needs .* of memory, and .* are free\. Use wider bins"):
        nl.read_conditions(path, by="side", align="cue_time", window_s=(0, 1e10), bin_s=0.1)
    with pytest.raises(ContractError, match=r"999999999 numbers\. At most"):
        nl.select_rank(mock_activity(), ranks=range(1, 10**9), tau_s=0.1)


def test_no_count_is_endless():
    for count in (10**7, 2**63):
        with pytest.raises(ContractError, match=rf"^n_groups is {count}\. More than 1000000"):
            PopulationOptions.check({"n_groups": count})
    assert PopulationOptions.check({"seed": 10**7}).seed == 10**7
    assert InputOptions.check({"name": "a", "equals": 10**7}).equals == 10**7


def test_a_long_message_keeps_its_start_and_its_end():
    text = str(ContractError(f"There is {'a' * 70_000}. Do this."))
    assert len(text) < 2100
    assert text.startswith("There is aaa")
    assert text.endswith("aaa. Do this.")
