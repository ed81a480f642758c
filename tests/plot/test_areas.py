"""Figures of areas: currents by sender and target, and which candidate was chosen."""

from __future__ import annotations

import numpy as np
import pytest

from nwb_lint import currents, plot, select_areas
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_areas, mock_trials
from tests.plot.pictures import assert_looks_like, texts


def test_currents():
    found = currents(mock_areas([[1, 0], [1, 1]])[1])
    ax = plot.currents(found)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["size"].sel(target="A", sender="A"))
    assert len(ax.lines) == 5  # no line for the block that is not there
    assert texts(ax) == ["from A", "from B", "from inputs", "to A", "to B"]
    assert_looks_like(ax, "currents")
    assert len(plot.currents(found, area="A").lines) == 2
    with pytest.raises(ContractError, match="area is 'C'"):
        plot.currents(found, area="C")


def test_intervals_of_currents_are_bands():
    found = currents(mock_areas()[1])
    found = found.assign(size_low=0.9 * found["size"], size_high=1.1 * found["size"])
    assert len(plot.currents(found, area="B").collections) == 3


def test_area_scores():
    activity, _ = mock_areas([[1, 0], [1, 1]], n_conditions=12, noise=0.02)
    found = select_areas(activity, areas="area", tau_s=0.1, ranks=[1], folds=3)
    ax = plot.area_scores(found)
    chosen = found.isel(candidate=found.attrs["chosen"])
    assert ax.lines[-1].get_xydata().tolist() == [[int(chosen["n_parameters"]), float(chosen["area_r2"])]]
    assert_looks_like(ax, "area_scores")


def test_area_scores_of_single_trials_are_evidences():
    trials = mock_trials(n_neurons=6, n_trials=8).assign_coords(area=("neuron", list("AABBAB")))
    found = select_areas(trials, areas="area", tau_s=0.1, ranks=[1], folds=2, hidden=0, max_iter=2)
    ax = plot.area_scores(found)
    assert ax.get_ylabel() == "log evidence of a held-out trial, nats"
    chosen = found.isel(candidate=found.attrs["chosen"])
    assert ax.lines[-1].get_xydata().tolist() == [[int(chosen["n_parameters"]), float(chosen["area_evidence"])]]
