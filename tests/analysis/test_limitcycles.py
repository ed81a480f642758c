"""Limit cycles: they close, small deviations grow by their multipliers, and simulated orbits end on the stable ones."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import nwb_lint as nl
from nwb_lint import plot
from nwb_lint.analysis.dynamics import drive_of, flow
from nwb_lint.analysis.fixedpoints import jacobian
from nwb_lint.testing import mock_activity

TURN = np.array([[1.6, 0.9], [-0.9, 1.6]])


@pytest.fixture(scope="module")
def fit():
    """A network of rank 2 whose origin is an unstable focus, at the time constant .1 s."""
    one = nl.fit_lint(mock_activity(n_neurons=30), rank=2, tau_s=0.1, method="regression", ridges=(0.1,))
    return one.assign(n=(one["n"].dims, 30 * one["m"].values @ TURN))


@pytest.fixture(scope="module")
def cycles(fit):
    return nl.limit_cycles(fit, n_starts=6)


def run(fit, kappa, seconds):
    drive = drive_of(fit, np.zeros(fit.sizes["input"]))
    how = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-12}
    return solve_ivp(lambda _, one: flow(fit, one[None], drive)[0], (0, seconds), kappa, **how).y[:, -1]


def test_the_cycle_closes_and_every_orbit_ends_on_it(fit, cycles):
    assert cycles.sizes["cycle"] == 1
    assert cycles["n_starts"].item() == 6
    start = cycles["kappa"].values[0, 0]
    np.testing.assert_allclose(run(fit, start, cycles["period_s"].item()), start, atol=1e-5 * np.abs(start).max())


def test_the_period_of_a_weak_cycle_is_that_of_the_linear_focus(fit):
    """Near the Hopf bifurcation the frequency is the imaginary part of the eigenvalue."""
    turn = np.array([[1.02, 0.9], [-0.9, 1.02]])
    weak = fit.assign(n=(fit["n"].dims, 30 * fit["m"].values @ turn))
    found = nl.limit_cycles(weak, n_starts=2)
    assert found["period_s"].item() == pytest.approx(2 * np.pi * 0.1 / 0.9, rel=0.03)
    assert found["stability"].item() == "stable"


def test_multipliers_are_those_of_differences_and_of_the_divergence(fit, cycles):
    orbit, period = cycles["kappa"].values[0], cycles["period_s"].item()
    start, step = orbit[0], 1e-4 * np.abs(orbit).max()
    moved = [(run(fit, start + one, period) - run(fit, start - one, period)) / (2 * step) for one in step * np.eye(2)]
    values = np.linalg.eigvals(np.array(moved).T)
    found = cycles["multiplier_real"].values[0]
    np.testing.assert_allclose(found[0], 1, atol=1e-4)
    np.testing.assert_allclose(np.sort(found), np.sort(values.real), atol=1e-4)
    drive = drive_of(fit, np.zeros(fit.sizes["input"]))
    divergence = np.trace(jacobian(fit, orbit, drive), axis1=1, axis2=2).mean()
    np.testing.assert_allclose(np.prod(found), np.exp(period * divergence), rtol=1e-3)  # Liouville


def test_no_cycle_where_everything_comes_to_rest(fit):
    rest = fit.assign(n=(fit["n"].dims, 30 * fit["m"].values @ np.diag([0.8, 0.3])))
    found = nl.limit_cycles(rest, n_starts=4)
    assert found.attrs["n_cycles"] == 0
    assert "kappa" not in found


def test_cycles_are_drawn_in_the_flow(fit, cycles):
    ax = plot.flow(nl.flow_field(fit, n_points=6, extent=20.0), cycles=cycles)
    labels = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert labels[1].startswith("stable cycle")
