"""The picture of a session shows what is in it, also where something is missing."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from nwb_lint import plot
from nwb_lint.nwb.inspection.session_map import session_map
from nwb_lint.testing import mock_session
from tests.plot.pictures import assert_looks_like, texts


@pytest.fixture
def session(tmp_path):
    path = mock_session(tmp_path / "m.nwb", n_units=6)
    with h5py.File(path, "r+") as file:  # unit 0 stops early
        bounds = file["units/spike_times_index"][()]
        file["units/spike_times"][: bounds[0]] = np.linspace(1, 20, bounds[0])
    return session_map(path, n_bins=50)


def test_a_unit_that_stops_is_marked_at_its_last_spike(session):
    ax = plot.presence(session)
    (marks,) = [lines for lines in ax.collections if hasattr(lines, "get_segments")]
    (segment,) = marks.get_segments()
    np.testing.assert_allclose(segment[:, 0], 20)
    np.testing.assert_allclose(segment[:, 1], [-0.45, 0.45])
    assert texts(ax) == ["the unit's highest rate", "no spike", "last spike"]
    shown = ax.collections[0].get_array().reshape(6, 50)
    assert (shown[0, 20:] == 0).all()
    assert shown[1:].min() > 0


def test_trials_show_their_events_and_how_many_have_them(session):
    times = session["event_time"].values.copy()
    times[0, :10] = np.nan
    ax = plot.trials_over_time(session.assign(event_time=(("event", "trial"), times)))
    assert texts(ax) == ["start to stop", "cue_time (30 of 40)"]
    (dots,) = ax.lines
    np.testing.assert_allclose(dots.get_ydata()[10:], 0.5)
    np.testing.assert_allclose(dots.get_xdata(), session["start_time"])


def test_every_unit_is_in_the_histogram_or_counted_as_silent(session):
    ax = plot.rates(session)
    assert sum(bar.get_height() for bar in ax.patches) == 6
    silent = plot.rates(session.assign(mean_rate=session["mean_rate"] * [0, 1, 1, 1, 1, 1]))
    assert sum(bar.get_height() for bar in silent.patches) == 5
    assert silent.get_title().endswith(", 1 silent")


@pytest.mark.parametrize("lacks", [[], ["event"], ["event", "stop_time"], ["event", "start_time", "stop_time"]])
def test_a_page_is_saved_whatever_is_missing(session, tmp_path, lacks):
    less = session.drop_dims("event") if "event" in lacks else session
    less = less.drop_vars([name for name in lacks if name != "event"])
    less["mean_rate"][:] = 0 if len(lacks) == 3 else less["mean_rate"]
    figure = plot.session_summary(less, tmp_path / "s.png")
    assert len(figure.axes) == 3
    assert (tmp_path / "s.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["presence", "trials_over_time", "rates", "session_summary"])
def test_looks_as_it_did(session, name):
    assert_looks_like(getattr(plot, name)(session.assign_attrs(path="m.nwb")), name)


def test_no_global_state_is_touched():
    code = "import sys, nwb_lint.plot.session; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
