"""What a figure selects is checked before it is drawn: a value of another type is an error that says so."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import xarray as xr

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.errors import ContractError
from nwb_lint.options.reports import FigureSelections
from nwb_lint.testing import mock_activity, mock_fit, mock_trials

# Arguments that select nothing: further data, and where and how a figure is drawn.
OTHERS = {"fit", "activity", "trials", "points", "cycles", "path", "ax", "style"}
OWN = {("decoded_behavior", "readout"), ("drifting_loadings", "neurons")}  # checked against the Dataset alone
SELECTIONS = [
    (name, key)
    for name in sorted(plot.__all__)
    for key in list(inspect.signature(getattr(plot, name)).parameters)[1:]
    if key not in OTHERS and (name, key) not in OWN
]


@pytest.mark.parametrize(("name", "key"), SELECTIONS)
@pytest.mark.parametrize("wrong", [1.5j, {"a": 1}, [["a"]], np.array([["a", "b"]])], ids=lambda one: type(one).__name__)
def test_a_selection_of_another_type_is_refused_by_its_name(name, key, wrong):
    draw = getattr(plot, name)
    needed = inspect.Parameter.empty
    own = [one.name for one in list(inspect.signature(draw).parameters.values())[1:] if one.default is needed]
    given = {one: xr.Dataset() for one in own if one in OTHERS} | {key: wrong}
    with pytest.raises(ContractError, match=rf"^{key} is .* It needs "):
        draw(xr.Dataset(), **given)


@pytest.mark.parametrize(("name", "key"), SELECTIONS)
def test_a_selection_has_the_default_of_its_function(name, key):
    default = inspect.signature(getattr(plot, name)).parameters[key].default
    assert default in (FigureSelections.model_fields[key].default, inspect.Parameter.empty)


@pytest.mark.parametrize("wrong", ["a", 1.5, None, True, [1], 0, -1])
def test_the_number_of_a_latent_is_a_whole_number(wrong):
    found = nl.infer_inputs(mock_activity(), rank=1, tau_s=0.1, hidden=0)
    with pytest.raises(ContractError, match=r"rank is .* whole number from 1 on"):
        plot.inferred_inputs(found, rank=wrong)


def test_names_may_be_an_array():
    assert plot.inputs(mock_activity(), names=np.array(["stimulus"])).get_title() == "stimulus"


def test_names_of_readouts_and_neurons_are_checked_too():
    trials = nl.prepare(mock_trials(), inputs=[], readouts=[nl.Readout("choice", column="choice")])
    how = {"rank": 1, "tau_s": 0.1, "hidden": 0, "max_iter": 2, "test_size": 8}
    fit = nl.fit_trials(trials, **how)
    with pytest.raises(ContractError, match="no readout array"):
        plot.decoded_behavior(nl.decode_behavior(fit, trials), readout=np.array(["choice", "other"]))
    with pytest.raises(ContractError, match=r"A table of shape \(1, 1\) chooses neurons"):
        plot.drifting_loadings(nl.fit_trials(mock_trials(), drift=1, **how), neurons=[["a"]])


def test_what_is_no_count_is_refused():
    for draw, wrong in ((plot.singular_values, {"most": 0}), (plot.singular_values, {"most": "a"})):
        with pytest.raises(ContractError, match=r"most is .* whole number from 1 on"):
            draw(mock_fit(), **wrong)
    with pytest.raises(ContractError, match="bins is 0"):
        plot.weight_histograms(nl.weight_statistics(mock_fit()), bins=0)
