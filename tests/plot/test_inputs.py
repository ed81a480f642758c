"""The figure of inputs shows what drives the network, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from nwb_lint import Input, fit_trials, infer_inputs, plot, prepare
from nwb_lint.errors import ContractError
from nwb_lint.testing import mock_activity, mock_fit, mock_recording, mock_trials
from tests.plot.pictures import assert_looks_like, texts


def several():
    """Four inputs: graded, a course in time, two windows."""
    inputs = [
        Input("stimulus", column="stimulus", window_s=(0, 0.4)),
        Input("ramp", times=[0.0, 0.5], values=[0.0, 1.0]),
        Input("cue", column="stimulus", window_s=[(-0.1, 0.0), (0.4, 0.6)]),
    ]
    recording = mock_recording()
    return prepare(recording.assign_coords(side=("condition", np.resize(["left", "right"], 8))), inputs=inputs)


def test_lines_are_the_inputs_of_the_conditions():
    activity = several()
    panels = plot.inputs(activity).figure.axes
    names = [name.replace("-", "\N{MINUS SIGN}") for name in activity["input"].values.tolist()]
    assert [panel.get_title() for panel in panels] == names
    for k, panel in enumerate(panels):
        drawn = [part for part in panel.lines if len(part.get_xdata()) == activity.sizes["time"]]
        np.testing.assert_array_equal([part.get_ydata() for part in drawn], activity["u"].values[..., k])
    assert "side left" in texts(panels[0])
    one = plot.inputs(activity, names=["ramp"], style_by="stimulus")
    assert one.get_title() == "ramp"
    given = Figure().subplots()
    assert plot.inputs(mock_fit(), ax=given) is given


def test_inferred_inputs_are_lines_with_their_intervals():
    found = infer_inputs(mock_activity(), rank=1, tau_s=0.1, hidden=0)
    ax = plot.inferred_inputs(found)
    drawn = [line for line in ax.lines if len(line.get_xdata()) == found.sizes["time"]]
    np.testing.assert_allclose([line.get_ydata() for line in drawn], found["inferred_u"].values[..., 0])
    assert len(ax.collections) == len(drawn) == 8
    assert ax.get_title() == "Recurrence is enough"
    assert_looks_like(ax, "inferred_inputs")
    with pytest.raises(ContractError, match=r"rank is 2\. There are 1 inferred inputs"):
        plot.inferred_inputs(found, rank=2)


def test_picture():
    assert_looks_like(plot.inputs(several()).figure, "inputs")


@pytest.mark.filterwarnings("ignore:.*collinear")
def test_single_trials_are_pale_lines_and_their_mean():
    inputs = [Input("stimulus", column="stimulus", window_s=(0.1, 0.4)), Input("on", window_s=(0, 0.8))]
    trials = prepare(mock_trials(n_trials=50), inputs=inputs)
    ax = plot.inputs(trials, names=["stimulus"])
    drawn = [part.get_ydata() for part in ax.lines if len(part.get_xdata()) == trials.sizes["time"]]
    assert len(drawn) == 31
    np.testing.assert_allclose(drawn[-1], trials["u"].values[..., 0].mean(axis=0))
    fit = fit_trials(trials, rank=1, tau_s=0.1, hidden=0, max_iter=2)
    assert len(plot.inputs(fit).figure.axes) == 2
    assert texts(plot.inputs(fit)) == ["mean of all trials"]


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot.inputs(mock_recording()), "has no inputs"),
        (lambda: plot.inputs(mock_activity().sel(input="stimulus")), r"fit.sel\(input=\['name'\]\)"),
        (lambda: plot.inputs(mock_activity(), names=["cue"]), "The inputs are stimulus"),
        (lambda: plot.inputs(mock_activity(), names="stimulus"), "Give a list"),
        (lambda: plot.inputs(several(), ax=Figure().subplots()), "4 inputs to draw. One has room"),
        (lambda: plot.inputs(mock_activity() * 0), "are 0 at all times"),
        (lambda: plot.inputs(several(), color_by="depth"), "no column 'depth'"),
    ],
)
def test_messages(draw, words):
    with pytest.raises(ContractError, match=words) as caught:
        draw()
    assert "\n" not in str(caught.value)
